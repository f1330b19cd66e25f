//! What would be trusted if a file were in force: CA certificates, a revocation list, or deny entries.

use std::path::PathBuf;
use std::sync::Arc;

use ringward_tls::{CrlFloors, DenyList, IssuerCertificate, TrustBundle};
use rustls::pki_types::UnixTime;

use super::TrustState;
use super::crl::list::List;
use crate::load::Loaded;

/// What would be in force.
pub(super) struct Candidate {
    pub(super) loaded: Arc<Loaded>,
    pub(super) state: TrustState,
    /// What the file is, in words.
    pub(super) what: String,
}

/// With the content of `file`. What kind of file it is shows by its content; `bundle` is whose CAs it would replace. Blocks.
///
/// # Errors
/// If it is none of them, or would be refused.
pub(super) fn with_file(
    loaded: &Arc<Loaded>,
    state: &TrustState,
    file: &str,
    bundle: Option<&str>,
    content: &[u8],
) -> Result<Candidate, String> {
    if content.starts_with(DENY_LIST_MARK) {
        return with_deny_list(loaded, state, content);
    }
    if contains(content, b"-----BEGIN CERTIFICATE-----") {
        return with_cas(loaded, state, file, bundle, content);
    }
    with_list(loaded, state, content).or_else(|not_a_list| {
        // DER of a certificate, perhaps.
        with_cas(loaded, state, file, bundle, content).map_err(|not_cas| {
            format!("`{file}` is no deny list, no revocation list that can be used ({not_a_list}), and no CAs ({not_cas})")
        })
    })
}

fn with_deny_list(loaded: &Arc<Loaded>, state: &TrustState, content: &[u8]) -> Result<Candidate, String> {
    let added = DenyList::parse(content).map_err(|error| error.to_string())?;
    let mut list = (*state.deny).clone();
    for entry in added.entries() {
        list.add(entry.clone()).map_err(|error| error.to_string())?;
    }
    let what = format!("a deny list of {} entries, beside those in force", added.len());
    Ok(Candidate {
        loaded: loaded.clone(),
        state: TrustState { deny: Arc::new(list), ..state.clone() },
        what,
    })
}

fn with_list(loaded: &Arc<Loaded>, state: &TrustState, content: &[u8]) -> Result<Candidate, String> {
    let issuers: Vec<IssuerCertificate> = loaded.issuers.values().flatten().cloned().collect();
    let now = i64::try_from(UnixTime::now().as_secs()).unwrap_or(i64::MAX);
    // A list that is older than what is in force may be looked at: it would be refused, and hit nobody.
    let list = List::read(content, &issuers, &CrlFloors::new(), now).map_err(|error| error.to_string())?;
    let kind = if list.is_delta() { "delta list: " } else { "" };
    let what = format!("{kind}{} with {} entries", list.head(), list.entries());
    let mut lists = (*state.fetched_crls).clone();
    lists.push(list);
    let state = TrustState { fetched_crls: Arc::new(lists), ..state.clone() };
    Ok(Candidate { loaded: loaded.clone(), state, what })
}

fn with_cas(
    loaded: &Arc<Loaded>,
    state: &TrustState,
    file: &str,
    bundle: Option<&str>,
    content: &[u8],
) -> Result<Candidate, String> {
    let bundles = &loaded.materials.trust;
    let running = match (bundle, bundles.len()) {
        (Some(name), _) => bundles.get(name),
        (None, 1) => bundles.values().next(),
        (None, _) => None,
    };
    let running = running.ok_or_else(|| {
        let mut names: Vec<&str> = bundles.keys().map(String::as_str).collect();
        names.sort_unstable();
        format!("name the bundle whose CAs it would replace with `--bundle`; there are: {}", names.join(", "))
    })?;
    let name = running.name().to_string();
    let sources = [(PathBuf::from(file), content.to_vec())];
    let (next, left_out) = TrustBundle::from_pem(&name, &sources, running.options().clone(), UnixTime::now())
        .map_err(|error| error.to_string())?;
    let kept = |one: &TrustBundle, other: &TrustBundle| {
        let known =
            |fingerprint| other.anchors().iter().any(|anchor| anchor.fingerprint_sha256 == fingerprint);
        one.anchors().iter().filter(|anchor| !known(anchor.fingerprint_sha256)).count()
    };
    let what = format!(
        "{} CAs instead of the {} of bundle {name}: {} new, {} gone, {} left out",
        next.anchors().len(),
        running.anchors().len(),
        kept(&next, running),
        kept(running, &next),
        left_out.len()
    );
    let mut changed = (**loaded).clone();
    changed.materials.trust.insert(name, Arc::new(next));
    Ok(Candidate { loaded: Arc::new(changed), state: state.clone(), what })
}

fn contains(content: &[u8], part: &[u8]) -> bool {
    content.windows(part.len()).any(|window| window == part)
}

/// The first line of a deny list begins so.
const DENY_LIST_MARK: &[u8] = b"{\"ringward_deny_list\"";
