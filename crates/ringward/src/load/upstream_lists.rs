//! Revocation lists for the certificates of upstreams, which lie in files.
//!
//! Stricter than for clients in one thing: a list that nobody whom the cluster knows has signed is refused, and not left out. Each
//! cluster has its own lists: what is revoked for one is so by the CAs of that one.

use std::collections::{BTreeMap, HashMap};

use ringward_config::{CrlMode, FileKind, NamedPath, UpstreamTls};
use ringward_tls::{self as tls, CrlError, CrlFloors, IssuerCertificate, Revocation, RevocationParts};
use rustls::pki_types::UnixTime;

use super::files::Files;
use super::trust::{check_deltas, contents, status};
use super::{Loaded, Report};
use crate::trust::crl::list::{List, in_force};
use crate::trust::status::CrlStatus;

/// The lists of one cluster.
#[derive(Clone, Debug, Default)]
pub(crate) struct UpstreamLists {
    /// Who may have signed them.
    issuers: Vec<IssuerCertificate>,
    /// By SHA-256 of the file, so that those that did not change need not be read again.
    by_file: HashMap<[u8; 32], Vec<List>>,
}

/// Reads the lists of one cluster after the other.
pub(super) struct Loader<'a> {
    floors: &'a CrlFloors,
    previous: Option<&'a Loaded>,
    /// What was read, by the name of the cluster.
    pub(super) lists: BTreeMap<String, UpstreamLists>,
    /// What can be said of it.
    pub(super) status: Vec<CrlStatus>,
}

impl UpstreamLists {
    /// All of them, in no order.
    pub(crate) fn all(&self) -> impl Iterator<Item = &List> {
        self.by_file.values().flatten()
    }
}

impl<'a> Loader<'a> {
    /// Lists must not be older than `floors`. Those that `previous` has read are not read again.
    pub(super) fn new(floors: &'a CrlFloors, previous: Option<&'a Loaded>) -> Loader<'a> {
        Loader { floors, previous, lists: BTreeMap::new(), status: Vec::new() }
    }

    /// The lists of a cluster; none if it has none. What is wrong with one is an error: with a part of them somebody would pass.
    pub(super) fn load(
        &mut self,
        cluster: &str,
        tls: &UpstreamTls,
        files: &Files,
        report: &mut Report<'_>,
    ) -> tls::UpstreamLists {
        if tls.crl.is_empty() {
            return tls::UpstreamLists::default();
        }
        let issuers = issuers(tls, files, report);
        let previous = self.previous.and_then(|previous| previous.upstream_lists.get(cluster));
        // Who may have signed a list is a part of what was made of it.
        let known = previous.filter(|previous| previous.issuers == issuers);
        let mut read = UpstreamLists { issuers, by_file: HashMap::new() };
        for named in &tls.crl {
            self.read((cluster, tls), named, known, &mut read, files, report);
        }
        if let Some(previous) = previous {
            miss_lists(tls, previous, &read, report);
        }
        let all: Vec<List> = read.all().cloned().collect();
        check_deltas(&all, false, &tls.crl[0].at, report);
        let crls = in_force(&all);
        let mut sources: Vec<[u8; 32]> = read.by_file.keys().copied().collect();
        sources.sort_unstable();
        self.lists.insert(cluster.to_owned(), read);
        let revocation = Revocation::new(RevocationParts { crls, ..RevocationParts::default() });
        tls::UpstreamLists { revocation, sources }
    }

    fn read(
        &mut self,
        (cluster, tls): (&str, &UpstreamTls),
        named: &NamedPath,
        known: Option<&UpstreamLists>,
        read: &mut UpstreamLists,
        files: &Files,
        report: &mut Report<'_>,
    ) {
        let now_unix = i64::try_from(UnixTime::now().as_secs()).unwrap_or(i64::MAX);
        let sources = contents(std::slice::from_ref(named), FileKind::Crl, files, report);
        for (path, content) in sources.into_iter().flatten() {
            let bytes_max = tls.revocation.crl_bytes_max;
            if content.bytes.len() > bytes_max {
                let message = format!("`{}` has more than {bytes_max} bytes", path.display());
                report.error(&named.at, message, Some("raise `crl_bytes_max` if that is right".to_owned()));
                continue;
            }
            let lists = match known.and_then(|known| known.by_file.get(&content.sha256)) {
                Some(known) => known.iter().cloned().map(|list| list.check_age(self.floors)).collect(),
                None => {
                    let lists = List::read_file(&content.bytes, &read.issuers, self.floors, now_unix);
                    lists.unwrap_or_else(|error| vec![Err(error)])
                }
            };
            let mut good = Vec::new();
            for list in lists {
                match list {
                    Ok(list) => {
                        warn_if_stale(tls, named, &path.display().to_string(), &list, now_unix, report);
                        self.status.push(status(bundle_name(cluster), &path, &list, now_unix));
                        good.push(list);
                    }
                    Err(error) => {
                        let help = matches!(error, CrlError::NoIssuer { .. }).then(|| {
                            "name the certificate of its issuer in `crl_issuers`, or take the list away"
                                .to_owned()
                        });
                        report.error(&named.at, format!("`{}`: {error}", path.display()), help);
                    }
                }
            }
            read.by_file.insert(content.sha256, good);
        }
    }
}

/// The name of a cluster's trust in metrics and messages, as that of a trust bundle.
pub(super) fn bundle_name(cluster: &str) -> String {
    format!("cluster.{cluster}.tls")
}

/// Who may have signed lists: the CAs, of which those that are broken were reported, and `crl_issuers`.
fn issuers(tls: &UpstreamTls, files: &Files, report: &mut Report<'_>) -> Vec<IssuerCertificate> {
    let authorities = contents(&tls.ca, FileKind::TrustAnchors, files, report).unwrap_or_default();
    let mut issuers: Vec<_> = authorities
        .iter()
        .flat_map(|(_, content)| IssuerCertificate::read_all(&content.bytes))
        .flatten()
        .collect();
    for named in &tls.crl_issuers {
        let sources = contents(std::slice::from_ref(named), FileKind::CrlIssuers, files, report);
        for (path, content) in sources.into_iter().flatten() {
            let read = IssuerCertificate::read_all(&content.bytes);
            if read.is_empty() {
                report.error(&named.at, format!("`{}` holds no certificate", path.display()), None);
            }
            for issuer in read {
                match issuer {
                    Ok(issuer) => issuers.push(issuer),
                    Err(error) => report.error(&named.at, format!("`{}`: {error}", path.display()), None),
                }
            }
        }
    }
    issuers
}

fn warn_if_stale(
    tls: &UpstreamTls,
    named: &NamedPath,
    path: &str,
    list: &List,
    now_unix: i64,
    report: &mut Report<'_>,
) {
    let head = list.head();
    if head.next_update_unix > now_unix {
        return;
    }
    let then = match tls.revocation.stale {
        None => "endpoints with certificates of its issuer are refused",
        Some(_) => "it counts until the grace of `stale` is over",
    };
    report.warning(&named.at, format!("`{path}`: {head} should have been replaced by now: {then}"));
}

/// Where certificates without a list pass, a file that has gone lets in whom its list revoked. Perhaps somebody meant that.
fn miss_lists(tls: &UpstreamTls, previous: &UpstreamLists, read: &UpstreamLists, report: &mut Report<'_>) {
    if tls.revocation.crl != CrlMode::IfPresent {
        return;
    }
    for issuer in &read.issuers {
        let is_of = |list: &List| !list.is_delta() && list.head().issuer == issuer.id();
        if previous.all().any(is_of) && !read.all().any(is_of) {
            let message = format!(
                "no file holds a list of `{}` any more: endpoints that it revoked pass",
                issuer.subject()
            );
            report.warning(&tls.crl[0].at, message);
        }
    }
}
