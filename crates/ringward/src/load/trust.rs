//! Trust bundles with their rules, and the revocation lists that lie in files.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ringward_config::{self as config, Config, FileKind, Location, NamedPath, Trust};
use ringward_tls::{
    CrlError, CrlFloors, CrlMode, IssuerCertificate, KeyKind, Profile, RevocationDepth, RevocationPolicy,
    StalePolicy, TrustBundle, TrustOptions,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::{ClientConfig, RootCertStore};

use super::files::{Content, Files};
use super::{ListFile, Loaded, Report, list};
use crate::trust::crl::list::List;
use crate::trust::fetch;
use crate::trust::status::CrlStatus;

/// What was made of all `[trust.NAME]` sections.
#[derive(Default)]
pub(super) struct Trusted {
    pub(super) bundles: HashMap<String, Arc<TrustBundle>>,
    pub(super) quarantined: BTreeMap<String, Vec<String>>,
    pub(super) issuers: BTreeMap<String, Vec<IssuerCertificate>>,
    pub(super) lists: Vec<List>,
    pub(super) lists_by_file: HashMap<ListFile, Vec<List>>,
    pub(super) list_status: Vec<CrlStatus>,
    /// Bundles with lists that were left out, because no CA of the bundle has signed them.
    with_strangers: BTreeSet<String>,
}

impl Trusted {
    /// Adds a section. Lists must not be older than `floors`. Those that `previous` has read are not read again.
    pub(super) fn load(
        &mut self,
        trust: &Trust,
        files: &Files,
        floors: &CrlFloors,
        previous: Option<&Loaded>,
        report: &mut Report<'_>,
    ) {
        // With a part of the bundle some clients would be locked out, for a reason that may be gone in a moment.
        let Some(sources) = contents(&trust.ca, FileKind::TrustAnchors, files, report) else { return };
        let Some((bundle, quarantined)) = trust_bundle(trust, &sources, report) else { return };
        self.bundles.insert(trust.name.clone(), Arc::new(bundle));
        self.quarantined.insert(trust.name.clone(), quarantined);
        let more = contents(&trust.crl_issuers, FileKind::CrlIssuers, files, report).unwrap_or_default();
        let mut issuers = Vec::new();
        // What is wrong with a CA of the bundle was said already, and it signs nothing that counts.
        issuers.extend(
            sources.iter().flat_map(|(_, content)| IssuerCertificate::read_all(&content.bytes)).flatten(),
        );
        let at = trust.crl_issuers.first().map_or(&trust.at, |named| &named.at);
        for (path, content) in &more {
            let read = IssuerCertificate::read_all(&content.bytes);
            // The lists that it is there for would not count.
            if read.is_empty() {
                report.error(at, format!("`{}` holds no certificate", path.display()), None);
            }
            for issuer in read {
                match issuer {
                    Ok(issuer) => issuers.push(issuer),
                    Err(error) => report.error(at, format!("`{}`: {error}", path.display()), None),
                }
            }
        }
        // Who may have signed a list is a part of what was made of it.
        let previous = previous.filter(|previous| previous.issuers.get(&trust.name) == Some(&issuers));
        self.load_lists(trust, &issuers, files, floors, previous, report);
        self.issuers.insert(trust.name.clone(), issuers);
    }

    /// Where certificates without a list pass, a file that has gone lets in whom its list revoked. Perhaps somebody meant that.
    pub(super) fn miss_lists(&self, trust: &Trust, previous: &[List], report: &mut Report<'_>) {
        if trust.revocation.crl != config::CrlMode::IfPresent {
            return;
        }
        let at = trust.crl.first().map_or(&trust.at, |named| &named.at);
        for issuer in self.issuers.get(&trust.name).into_iter().flatten() {
            let is_of = |list: &List| !list.is_delta() && list.head().issuer == issuer.id();
            if previous.iter().any(is_of) && !self.lists.iter().any(is_of) {
                let message = format!(
                    "no file holds a list of `{}` any more: whom it revoked is let in, unless a fetched list says the same",
                    issuer.subject()
                );
                report.warning(at, message);
            }
        }
    }

    fn load_lists(
        &mut self,
        trust: &Trust,
        issuers: &[IssuerCertificate],
        files: &Files,
        floors: &CrlFloors,
        previous: Option<&Loaded>,
        report: &mut Report<'_>,
    ) {
        let now_unix = i64::try_from(UnixTime::now().as_secs()).unwrap_or(i64::MAX);
        let first = self.lists.len();
        for named in &trust.crl {
            let sources = contents(std::slice::from_ref(named), FileKind::Crl, files, report);
            for (path, content) in sources.into_iter().flatten() {
                let bytes_max = trust.revocation.crl_bytes_max;
                if content.bytes.len() > bytes_max {
                    let message = format!("`{}` has more than {bytes_max} bytes", path.display());
                    report.error(
                        &named.at,
                        message,
                        Some("raise `crl_bytes_max` if that is right".to_owned()),
                    );
                    continue;
                }
                // One broken list is a reason to keep all that is in force: with a part of them somebody would get in.
                let file: ListFile = (trust.name.clone(), content.sha256);
                let lists = match previous.and_then(|previous| previous.lists_by_file.get(&file)) {
                    Some(known) => known.iter().cloned().map(|list| list.check_age(floors)).collect(),
                    None => {
                        let lists = List::read_file(&content.bytes, issuers, floors, now_unix);
                        lists.unwrap_or_else(|error| vec![Err(error)])
                    }
                };
                // Of a file that is not understood as a whole, each reload says so anew.
                if lists.iter().all(Result::is_ok) {
                    self.lists_by_file.insert(file, lists.iter().flatten().cloned().collect());
                }
                for list in lists {
                    match list {
                        Ok(list) => self.add_list(trust, named, &path, list, now_unix, report),
                        // As when a CA was removed and its list was not: that must not keep the CA in force.
                        Err(error @ CrlError::NoIssuer { .. }) => {
                            self.with_strangers.insert(trust.name.clone());
                            report.warning(&named.at, format!("left out: `{}`: {error}", path.display()));
                        }
                        Err(error) => {
                            report.error(&named.at, format!("`{}`: {error}", path.display()), None);
                        }
                    }
                }
            }
        }
        let at = trust.crl.first().map_or(&trust.at, |named| &named.at);
        let fetched = !trust.crl_urls.is_empty() || !trust.crl_distribution_points.is_empty();
        check_deltas(&self.lists[first..], fetched, at, report);
    }

    /// A list of a CA that is gone is of no use. But where one that counted is gone, or nobody knows its signer any more, that
    /// is a mistake or worse: where certificates without a list pass, those whom it revokes would be admitted, and elsewhere
    /// nobody would. To be asked when all sections are loaded, as another one may name the list.
    pub(super) fn check_lost_lists(&self, trust: &Trust, previous: &Loaded, report: &mut Report<'_>) {
        let name = &trust.name;
        if !self.with_strangers.contains(name) {
            return;
        }
        let at = trust.crl.first().map_or(&trust.at, |named| &named.at);
        let knows = |issuers: &BTreeMap<String, Vec<IssuerCertificate>>, wanted| {
            issuers.get(name).is_some_and(|issuers| issuers.iter().any(|issuer| issuer.id() == wanted))
        };
        for list in previous.lists.iter().filter(|list| !list.is_delta()) {
            let issuer = list.head().issuer;
            let was_anchor = previous
                .materials
                .trust
                .get(name)
                .is_some_and(|bundle| bundle.anchors().iter().any(|anchor| anchor.issuer == issuer));
            let was_removed = was_anchor && !knows(&self.issuers, issuer);
            let is_there = self.lists.iter().any(|other| other.replaces(list));
            if knows(&previous.issuers, issuer) && !was_removed && !is_there {
                let head = list.head();
                let message = format!(
                    "trust bundle `{name}` would lose {head}, while there is a list that none of its CAs has signed"
                );
                let help = "put back the list, or the certificate of its issuer (`crl_issuers`)".to_owned();
                report.error(at, message, Some(help));
            }
        }
    }

    fn add_list(
        &mut self,
        trust: &Trust,
        named: &NamedPath,
        path: &Path,
        list: List,
        now_unix: i64,
        report: &mut Report<'_>,
    ) {
        let head = list.head();
        if head.next_update_unix <= now_unix {
            let grace = match trust.revocation.stale {
                None => "its clients are refused".to_owned(),
                Some(_) => "it counts until the grace of `stale` is over".to_owned(),
            };
            report.warning(
                &named.at,
                format!("`{}`: {head} should have been replaced by now: {grace}", path.display()),
            );
        }
        self.list_status.push(status(trust.name.clone(), path, &list, now_unix));
        self.lists.push(list);
    }
}

/// What can be said of a list of a file.
pub(super) fn status(bundle: String, path: &Path, list: &List, now_unix: i64) -> CrlStatus {
    let head = list.head();
    CrlStatus {
        bundles: vec![bundle],
        issuer: head.issuer_name.to_string(),
        source: path.display().to_string(),
        number: head.number.map(|number| number.to_string()),
        this_update_unix: Some(head.this_update_unix),
        next_update_unix: Some(head.next_update_unix),
        entries: list.entries(),
        checked_unix: Some(now_unix),
        next_fetch_unix: None,
        problem: None,
    }
}

/// A delta that fits no list would be passed over, and those whom it revokes would be admitted. If lists are `fetched`, too, its
/// complete list may be one of those.
pub(super) fn check_deltas(lists: &[List], fetched: bool, at: &Location, report: &mut Report<'_>) {
    let complete = |list: &List| match list {
        List::Complete(index) => Some(index.clone()),
        List::Delta(_) => None,
    };
    for list in lists {
        let List::Delta(delta) = list else { continue };
        let counts = lists.iter().filter_map(complete).any(|index| {
            let is_superseded = index.head().issuer == delta.head().issuer
                && index.head().scope == delta.head().scope
                && index.head().number >= delta.head().number;
            is_superseded || index.with_delta(delta.clone()).is_ok()
        });
        if counts {
            continue;
        }
        let message = format!("the delta to {} begins with a list that is not there", delta.head());
        if !fetched {
            report.error(at, message, Some("put the complete list there, or take the delta away".to_owned()));
        } else {
            report.warning(at, message);
        }
    }
}

/// How servers are verified that revocation data is fetched from by TLS.
pub(super) fn fetch_tls(
    config: &Config,
    files: &Files,
    report: &mut Report<'_>,
) -> Option<Arc<ClientConfig>> {
    let named = config.server.fetch_ca.as_ref()?;
    let sources = contents(std::slice::from_ref(named), FileKind::TrustAnchors, files, report)?;
    let mut roots = RootCertStore::empty();
    for (path, content) in &sources {
        for certificate in CertificateDer::pem_slice_iter(&content.bytes) {
            let added = certificate
                .map_err(|error| error.to_string())
                .and_then(|certificate| roots.add(certificate).map_err(|error| error.to_string()));
            if let Err(error) = added {
                report.error(&named.at, format!("`{}`: {error}", path.display()), None);
            }
        }
    }
    if roots.is_empty() {
        let help = "name a file with the CA that has signed the server's certificate".to_owned();
        report.error(&named.at, format!("`{}` holds no CA certificate", named.path.display()), Some(help));
        return None;
    }
    fetch::tls(roots).inspect_err(|error| report.error(&named.at, error.to_string(), None)).ok()
}

/// Path and content of all files that some paths of the configuration lead to; `None` if one cannot be read.
pub(super) fn contents(
    paths: &[NamedPath],
    kind: FileKind,
    files: &Files,
    report: &mut Report<'_>,
) -> Option<Vec<(PathBuf, Content)>> {
    let mut sources = Vec::new();
    let mut complete = true;
    for named in paths {
        for entry in files.entries(&named.path, kind) {
            match &entry.content {
                Ok(content) => sources.push((entry.path.clone(), content.clone())),
                Err(error) => {
                    report.file(&named.at, error);
                    complete = false;
                }
            }
        }
    }
    complete.then_some(sources)
}

/// The bundle, and what was left out of it.
fn trust_bundle(
    trust: &Trust,
    sources: &[(PathBuf, Content)],
    report: &mut Report<'_>,
) -> Option<(TrustBundle, Vec<String>)> {
    let sources: Vec<(PathBuf, Vec<u8>)> =
        sources.iter().map(|(path, content)| (path.clone(), content.bytes.to_vec())).collect();
    let at = trust.ca.first().map_or(&trust.at, |named| &named.at);
    match TrustBundle::from_pem(&trust.name, &sources, options(trust), UnixTime::now()) {
        Err(error) => {
            report.error(at, error.to_string(), None);
            None
        }
        Ok((bundle, _)) if is_of_the_public_web(&bundle) => {
            let shown: Vec<&str> = bundle.anchors().iter().map(|anchor| anchor.subject.as_str()).collect();
            let message =
                format!("trust bundle `{}` holds CAs of the public web: {}", trust.name, list(&shown));
            let help =
                "they sign for everybody, so everybody would be trusted: keep the CAs of your clients only";
            report.error(at, message, Some(help.to_owned()));
            None
        }
        Ok((bundle, quarantined)) => {
            for certificate in &quarantined {
                report.warning(at, format!("left out of trust bundle `{}`: {certificate}", trust.name));
            }
            for warning in bundle.warnings() {
                report.warning(at, format!("trust bundle `{}`: {warning}", trust.name));
            }
            Some((bundle, quarantined.iter().map(ToString::to_string).collect()))
        }
    }
}

/// The rules of a section.
fn options(trust: &Trust) -> TrustOptions {
    let config::Profile { keys, rsa_bits_min, policies, path_length_max, leaf_lifetime_max } = &trust.profile;
    TrustOptions {
        spiffe_trust_domain: trust.spiffe_trust_domain.clone(),
        pins: trust.pins.clone(),
        profile: Profile {
            keys: keys.iter().map(|kind| key_kind(*kind)).collect(),
            rsa_bits_min: *rsa_bits_min as usize,
            policies: policies.clone(),
            path_length_max: *path_length_max,
            leaf_lifetime_max: *leaf_lifetime_max,
        },
        hints: trust.hints,
        revocation: revocation_policy(trust.revocation.crl, trust.revocation.stale, trust.revocation.depth),
    }
}

/// What lists mean, as a section has it.
pub(super) fn revocation_policy(
    crl: config::CrlMode,
    stale: Option<Duration>,
    depth: config::RevocationDepth,
) -> RevocationPolicy {
    RevocationPolicy {
        crl: match crl {
            config::CrlMode::Off => CrlMode::Off,
            config::CrlMode::IfPresent => CrlMode::IfPresent,
            config::CrlMode::Required => CrlMode::Required,
        },
        stale: stale.map_or(StalePolicy::Deny, StalePolicy::Allow),
        depth: match depth {
            config::RevocationDepth::Chain => RevocationDepth::Chain,
            config::RevocationDepth::Leaf => RevocationDepth::Leaf,
        },
    }
}

fn key_kind(kind: config::KeyKind) -> KeyKind {
    match kind {
        config::KeyKind::EcdsaP256 => KeyKind::EcdsaP256,
        config::KeyKind::EcdsaP384 => KeyKind::EcdsaP384,
        config::KeyKind::EcdsaP521 => KeyKind::EcdsaP521,
        config::KeyKind::Ed25519 => KeyKind::Ed25519,
        config::KeyKind::Rsa => KeyKind::Rsa,
    }
}

/// Whether a bundle looks like the one that systems and browsers ship, under whatever name it is kept here. Told by a few
/// roots that every such bundle has; one of them alone may be there for a reason.
fn is_of_the_public_web(bundle: &TrustBundle) -> bool {
    let known =
        |root: &&&str| bundle.anchors().iter().any(|anchor| anchor.subject.contains(&format!("CN={root}")));
    WEB_ROOTS.iter().filter(known).count() > 1
}

/// Long-lived roots of different organisations.
const WEB_ROOTS: &[&str] = &[
    "Amazon Root CA 1",
    "DigiCert Global Root G2",
    "GlobalSign Root CA",
    "GTS Root R1",
    "ISRG Root X1",
    "Microsoft RSA Root Certificate Authority 2017",
    "USERTrust RSA Certification Authority",
];

#[cfg(test)]
mod tests;
