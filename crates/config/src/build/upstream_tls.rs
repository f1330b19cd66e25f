//! TLS to upstreams: nobody is believed without a CA and something that the CA has to say about him.

use std::net::IpAddr;
use std::path::Path;

use ringward_identity::SpiffePattern;
use serde_spanned::Spanned;

use super::certificate::passphrase;
use super::context::Context;
use super::trust::pins;
use super::upstream_revocation;
use crate::bounds;
use crate::host::HostName;
use crate::model::{ClientCertificate, Discovery, DnsQuery, NamedPath, TlsVersion, UpstreamTls};
use crate::raw::{self, Field, OneOrMany};
use crate::system_roots::{is_system_bundle, system_bundle};

/// The TLS side of a cluster; `None` if it has none, or not a good one.
pub(super) fn upstream_tls(
    cx: &mut Context<'_>,
    field: &Field<raw::UpstreamTls>,
    discovery: Option<&Discovery>,
) -> Option<UpstreamTls> {
    let given = cx.given(field)?;
    let (raw, span) = (given.get_ref(), given.span());
    let spiffe_ids = spiffe_ids(cx, &raw.spiffe_ids);
    let server_name = match (cx.given(&raw.server_name), discovery) {
        (Some(name), _) => server_name(cx, name),
        // Names that DNS has said prove nothing: whoever can answer for it could name himself.
        (None, Some(Discovery::Dns(dns))) => {
            match &dns.query {
                DnsQuery::Addresses { name, .. } => Some(name.clone()),
                DnsQuery::Service(_) => {
                    if raw.server_name.is_absent() && spiffe_ids.is_empty() {
                        cx.error(&span, "`tls` needs a `server_name` or `spiffe_ids` for endpoints of `srv`")
                        .help("write the name that their certificates have: server_name = \"orders.internal\"");
                    }
                    None
                }
            }
        }
        (None, Some(Discovery::File(_)) | None) => None,
    };
    let pins = pins(cx, &raw.pins);
    let (crl, crl_issuers, revocation) = upstream_revocation::upstream_revocation(cx, raw);
    let certificate = cx.given(&raw.certificate).and_then(|raw| certificate(cx, raw));
    let min_version = cx.value_or(&raw.min_version, TlsVersion::Tls13);
    let resumption = cx.value_or(&raw.resumption, true);
    let example =
        "ca = [\"trust/backends.pem\"], or ca = \"system\" for upstreams with certificates of the public web";
    let list = cx.required("ca", example, &raw.ca, &span)?;
    let ca = authorities(cx, list);
    let web = ca.iter().find(|named| is_system_bundle(&named.path));
    if let (Some(web), false) = (web, spiffe_ids.is_empty()) {
        cx.error_at(web.at.clone(), "the CAs of the public web vouch for no SPIFFE IDs")
            .help("name the CA of the trust domain in `ca`");
    }
    Some(UpstreamTls {
        ca,
        server_name,
        spiffe_ids,
        pins,
        crl,
        crl_issuers,
        revocation,
        certificate,
        min_version,
        resumption,
        at: cx.at(&span),
    })
}

/// Whether certificates of endpoints are compared with the addresses of these, unless DNS names them all.
pub(super) fn needs_ip(raw: &raw::Cluster) -> bool {
    // What cannot be read was reported, and says too little to complain of what follows from it.
    matches!(&raw.tls, Field::Given(tls) if tls.get_ref().server_name.is_absent() && tls.get_ref().spiffe_ids.is_absent())
}

fn authorities(cx: &mut Context<'_>, list: &Spanned<OneOrMany>) -> Vec<NamedPath> {
    let mut ca = Vec::new();
    for item in cx.list("ca", list, bounds::PATHS) {
        if *item.get_ref() != SYSTEM {
            ca.extend(cx.path("ca", item.get_ref(), &item.span()));
            continue;
        }
        match system_bundle() {
            Some(path) => ca.push(NamedPath { path: Path::new(path).to_owned(), at: cx.at(&item.span()) }),
            None => cx
                .error(&item.span(), "the operating system has no bundle of CAs where one is expected")
                .help("install the package ca-certificates, or name the file"),
        }
    }
    ca
}

fn server_name(cx: &mut Context<'_>, text: &Spanned<String>) -> Option<String> {
    let name = text.get_ref();
    let bare = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(name);
    if let Ok(address) = bare.parse::<IpAddr>() {
        return Some(address.to_string());
    }
    match HostName::parse(name) {
        Ok(name) => Some(name.to_string()),
        Err(error) => {
            cx.error(&text.span(), format!("`server_name`: {error}"))
                .help("write one name or address, as the certificates have it: \"orders.internal\"");
            None
        }
    }
}

fn spiffe_ids(cx: &mut Context<'_>, field: &Field<OneOrMany>) -> Vec<SpiffePattern> {
    let Some(list) = cx.given(field) else { return Vec::new() };
    let mut ids: Vec<SpiffePattern> = Vec::new();
    for item in cx.list("spiffe_ids", list, bounds::SPIFFE_IDS) {
        match SpiffePattern::parse(item.get_ref()) {
            Ok(id) if ids.contains(&id) => {
                cx.error(&item.span(), format!("`spiffe_ids`: {:?} appears twice", item.get_ref()));
            }
            Ok(id) => ids.push(id),
            Err(error) => cx
                .error(
                    &item.span(),
                    format!("`spiffe_ids`: {:?} is not a SPIFFE ID: {error}", item.get_ref()),
                )
                .help("write \"spiffe://DOMAIN/PATH\", or \"spiffe://DOMAIN/*\" for a whole trust domain"),
        }
    }
    ids
}

/// A certificate of ours.
pub(super) fn certificate(
    cx: &mut Context<'_>,
    raw: &Spanned<raw::ClientCertificate>,
) -> Option<ClientCertificate> {
    let (span, raw) = (raw.span(), raw.get_ref());
    let passphrase = cx.given(&raw.passphrase).and_then(|text| passphrase(cx, text));
    let chain = cx.required("chain", "chain = \"tls/client.pem\"", &raw.chain, &span);
    let key = cx.required("key", "key = \"tls/client.key\"", &raw.key, &span);
    let (chain, key) = (chain?, key?);
    let chain = cx.path("chain", chain.get_ref(), &chain.span());
    let key = cx.path("key", key.get_ref(), &key.span());
    Some(ClientCertificate { chain: chain?, key: key?, passphrase, at: cx.at(&span) })
}

/// Stands for the CAs of the operating system.
const SYSTEM: &str = "system";
