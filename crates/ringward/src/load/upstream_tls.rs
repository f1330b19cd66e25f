//! The TLS sides of clusters: whom we believe to be an upstream, and our own certificate.

use std::collections::HashMap;
use std::sync::Arc;

use ringward_config::{
    self as config, ClientCertificate, Cluster, Config, FileKind, NamedPath, Protocol, TlsVersion,
};
use ringward_proxy::RouteIdentity;
use ringward_tls::{
    Credential, CredentialError, CredentialOptions, CredentialSource, TrustBundle, TrustOptions,
    UpstreamProtocol, UpstreamTls, UpstreamTlsOptions,
};
use rustls::pki_types::UnixTime;

use super::credentials::read_passphrase;
use super::files::Files;
use super::trust::{contents, revocation_policy};
use super::upstream_lists::{Loader, bundle_name};
use super::{Loaded, Report};

/// The TLS side of each cluster that has one, by name. One that is as `previous` had it is the same.
pub(super) fn load(
    config: &Config,
    files: &Files,
    lists: &mut Loader<'_>,
    previous: Option<&Loaded>,
    report: &mut Report<'_>,
) -> HashMap<String, Arc<UpstreamTls>> {
    let mut loaded = HashMap::new();
    for cluster in config.clusters.values() {
        let Some(tls) = upstream_tls(cluster, files, lists, report) else { continue };
        let known = previous.and_then(|previous| previous.materials.upstream_tls.get(&cluster.name));
        let tls = match known {
            Some(known) if known.digest() == tls.digest() => known.clone(),
            _ => Arc::new(tls),
        };
        loaded.insert(cluster.name.clone(), tls);
    }
    loaded
}

/// The TLS side of each cluster as those routes use it that have a certificate of their own. One that is as `previous` had it is
/// the same.
pub(super) fn load_routes(
    config: &Config,
    files: &Files,
    of_clusters: &HashMap<String, Arc<UpstreamTls>>,
    previous: Option<&Loaded>,
    report: &mut Report<'_>,
) -> HashMap<RouteIdentity, Arc<UpstreamTls>> {
    let mut loaded = HashMap::new();
    let routes = config.listeners.iter().flat_map(|listener| &listener.hosts).flat_map(|host| &host.routes);
    for route in routes {
        let Some(certificate) = &route.upstream_certificate else { continue };
        // Also if the files are known: there may be another passphrase.
        let Some(credential) = credential(certificate, files, report) else { continue };
        for identity in RouteIdentity::all_of(route) {
            // What is wrong with the cluster was reported.
            let Some(cluster) = of_clusters.get(&identity.cluster) else { continue };
            if loaded.contains_key(&identity) {
                continue;
            }
            let tls = match cluster.with_credential(credential.clone()) {
                Ok(tls) => tls,
                Err(error) => {
                    report.error(&certificate.at, error.to_string(), None);
                    continue;
                }
            };
            let known = previous.and_then(|previous| previous.materials.route_tls.get(&identity));
            let tls = match known {
                Some(known) if known.digest() == tls.digest() => known.clone(),
                _ => Arc::new(tls),
            };
            loaded.insert(identity, tls);
        }
    }
    loaded
}

fn upstream_tls(
    cluster: &Cluster,
    files: &Files,
    lists: &mut Loader<'_>,
    report: &mut Report<'_>,
) -> Option<UpstreamTls> {
    let tls = cluster.tls.as_ref()?;
    let trust = trust(cluster, tls, files, report);
    let lists = lists.load(&cluster.name, tls, files, report);
    let credential = match &tls.certificate {
        None => None,
        Some(certificate) => Some(credential(certificate, files, report)?),
    };
    let options = UpstreamTlsOptions {
        lists,
        server_name: tls.server_name.clone(),
        spiffe_ids: tls.spiffe_ids.clone(),
        credential,
        min_version_12: tls.min_version == TlsVersion::Tls12,
        resumption: tls.resumption,
        protocol: match cluster.protocol {
            Protocol::Http1 => UpstreamProtocol::Http1,
            Protocol::Http2 => UpstreamProtocol::Http2,
            Protocol::Auto => UpstreamProtocol::Either,
        },
        ..UpstreamTlsOptions::new(trust?)
    };
    UpstreamTls::build(options).inspect_err(|error| report.error(&tls.at, error.to_string(), None)).ok()
}

/// The CAs. One that is broken or has expired is left out; with none that is good there is no cluster.
fn trust(
    cluster: &Cluster,
    tls: &config::UpstreamTls,
    files: &Files,
    report: &mut Report<'_>,
) -> Option<Arc<TrustBundle>> {
    let ca = &tls.ca;
    let at = ca.first().map_or(&cluster.at, |named| &named.at);
    let sources = contents(ca, FileKind::TrustAnchors, files, report)?;
    let sources: Vec<_> = sources.into_iter().map(|(path, content)| (path, content.bytes.to_vec())).collect();
    let name = bundle_name(&cluster.name);
    let config::UpstreamRevocation { crl, stale, depth, .. } = tls.revocation;
    let revocation = revocation_policy(crl, stale, depth);
    let options = TrustOptions { pins: tls.pins.clone(), revocation, ..TrustOptions::default() };
    let (bundle, quarantined) = TrustBundle::from_pem(&name, &sources, options, UnixTime::now())
        .inspect_err(|error| report.error(at, error.to_string(), None))
        .ok()?;
    for certificate in quarantined {
        report.warning(at, format!("left out of the CAs of cluster `{}`: {certificate}", cluster.name));
    }
    for warning in bundle.warnings() {
        report.warning(at, format!("the CAs of cluster `{}`: {warning}", cluster.name));
    }
    Some(Arc::new(bundle))
}

fn credential(
    certificate: &ClientCertificate,
    files: &Files,
    report: &mut Report<'_>,
) -> Option<Arc<Credential>> {
    let ClientCertificate { chain, key, at, .. } = certificate;
    let mut content = |named: &NamedPath, kind| {
        files.content(&named.path, kind).inspect_err(|error| report.file(&named.at, error)).ok()
    };
    let (chain_pem, key_pem) =
        (content(chain, FileKind::CertificateChain), content(key, FileKind::PrivateKey));
    let (chain_pem, key_pem) = (chain_pem?, key_pem?);
    let passphrase = match &certificate.passphrase {
        None => None,
        Some(passphrase) => Some(read_passphrase(passphrase, files, report)?),
    };
    let source = CredentialSource { chain_file: &chain.path, chain_pem, key_file: &key.path, key_pem };
    let options = CredentialOptions { passphrase, for_upstreams: true, ..CredentialOptions::default() };
    let credential = Credential::from_pem(&source, options, UnixTime::now())
        .inspect_err(|error| match error {
            CredentialError::KeyMismatch { .. } => report.torn(at, error.to_string()),
            _ => report.error(at, error.to_string(), None),
        })
        .ok()?;
    for warning in credential.warnings() {
        report.warning(&chain.at, warning.to_string());
    }
    Some(Arc::new(credential))
}
