//! Revocation: which certificates of a verified path do not count any more.
//!
//! Hides CRLs, OCSP and the deny list behind one question that workers ask live, for every handshake and again
//! whenever the generation moved: [`Revocation::check`]. Never does I/O, never caches a verdict, and never
//! takes an absent or stale list for a clearance unless the policy says so in words.
//!
//! What must stay true:
//!
//! - A list or answer counts for the certificates of the key that signed it ([`IssuerId`]) and for no others.
//! - What is revoked stays revoked when its list is stale.
//! - The deny list is asked first, and no policy and no suspension turns it off.
//! - Everything here is immutable and shared; a change makes a new [`Revocation`] around the parts that stay.

use std::collections::HashMap;
use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use ringward_identity::PeerIdentity;

use crate::certificate::format_unix;
use crate::failure::HandshakeReason;
use crate::path::{PathCertificate, PeerPath};

mod crl;
mod delta;
mod deny_list;
mod der;
mod floor;
mod index;
mod issuer;
pub mod ocsp;
mod ocsp_table;
mod serial;
mod serial_set;
mod signed;

pub use crl::{
    CLOCK_SKEW_SECONDS, CRL_BYTES_MAX, CRLS_PER_FILE_MAX, CertificateKinds, CrlError, CrlHead, CrlNumber,
    CrlScope, ParsedCrl, RevocationReason, parse_crl, read_crls,
};
pub use delta::DeltaCrl;
pub use deny_list::{
    BY_BYTES_MAX, DENY_ENTRIES_MAX, DenyEntry, DenyList, DenyListError, DenyTarget, IDENTITY_BYTES_MAX,
    REASON_BYTES_MAX,
};
pub use floor::{CrlFloors, FLOORS_MAX, FloorError};
pub use index::CrlIndex;
pub use issuer::{IssuerCertificate, IssuerError, IssuerId};
pub use ocsp::{OcspCheck, OcspError, OcspResponse, OcspStatus};
pub use ocsp_table::{
    ANSWER_USED_SECONDS_MAX, FAILURE_SECONDS, OCSP_QUEUE_MAX, OcspAnswer, OcspEntry, OcspKey, OcspLedger,
    OcspMode, OcspQuery, OcspTable, OcspTally, OcspVerdict, REVOKED_KEPT_SECONDS,
};
pub use serial::{SERIAL_OCTETS_MAX, Serial, SerialError};
pub use signed::SignatureError;

/// All that is known about revocation at one moment, shared by all hosts and workers.
#[derive(Debug, Default)]
pub struct Revocation {
    lists: HashMap<IssuerId, IssuerLists>,
    deny: Arc<DenyList>,
    suspended: Vec<Suspension>,
}

/// The parts of a [`Revocation`].
#[derive(Clone, Debug, Default)]
pub struct RevocationParts {
    /// The lists in force. Of several with one issuer and scope the newest counts.
    pub crls: Vec<Arc<CrlIndex>>,
    /// What is refused by hand.
    pub deny: Arc<DenyList>,
    /// Tenants whose clients are not checked against CRLs and OCSP for now.
    pub suspended: Vec<Suspension>,
}

/// CRLs and OCSP have no effect on a tenant's clients until a time. The deny list has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suspension {
    /// The tenant.
    pub tenant: Arc<str>,
    /// From this second on everything is checked again, seconds since 1970.
    pub until_unix: i64,
}

/// How strictly a trust bundle's certificates are checked against CRLs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RevocationPolicy {
    /// Whether CRLs are needed.
    pub crl: CrlMode,
    /// What a list is worth after its nextUpdate.
    pub stale: StalePolicy,
    /// Which certificates are checked.
    pub depth: RevocationDepth,
}

/// Whether CRLs are needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CrlMode {
    /// CRLs are not consulted.
    Off,
    /// A certificate whose issuer has a list about it is checked, others pass.
    IfPresent,
    /// A certificate without a list about it is refused.
    Required,
}

/// What a list is worth after its nextUpdate. What it revokes stays revoked in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StalePolicy {
    /// Nothing: from the second of nextUpdate on, those whom it does not list are refused.
    Deny,
    /// As much as before, for this long; whole seconds.
    Allow(Duration),
}

/// Which certificates of a path are checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RevocationDepth {
    /// The leaf alone.
    Leaf,
    /// The leaf and every intermediate. A trust anchor is revoked by removing it, or by the deny list.
    Chain,
}

/// A client is refused: where that is written, what is wrong, and words for the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RevocationRefusal {
    /// Who says so.
    pub source: RevocationSource,
    /// What is wrong.
    pub what: RevocationFinding,
    /// Which certificate, and the likely fix. Never sent to the peer.
    pub detail: String,
}

/// Who refuses. A closed set: safe as a metric label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RevocationSource {
    /// The deny list.
    DenyList,
    /// A certificate revocation list, or that there is none.
    Crl,
    /// An OCSP answer, or that there is none.
    Ocsp,
}

/// What is wrong. A closed set: safe as a metric label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RevocationFinding {
    /// A certificate is revoked.
    Revoked,
    /// Nothing says whether it is, and the policy wants to know.
    Unknown,
    /// What says so is too old.
    Stale,
}

impl Revocation {
    /// Nothing is known: whoever requires a list refuses, and nobody is denied.
    pub fn empty() -> Arc<Self> {
        Arc::default()
    }

    /// Puts the parts together. Costs next to nothing: the lists are shared with whoever made them.
    pub fn new(parts: RevocationParts) -> Arc<Self> {
        let mut lists: HashMap<IssuerId, IssuerLists> = HashMap::new();
        for index in parts.crls {
            lists.entry(index.head().issuer).or_default().add(index);
        }
        Arc::new(Self { lists, deny: parts.deny, suspended: parts.suspended })
    }

    /// Whether this client may come in, or stay. Asked live, as an answer holds for this very second only.
    ///
    /// Costs some 0.1 µs for each certificate, does not allocate unless it refuses, and takes no lock.
    ///
    /// # Errors
    ///
    /// [`RevocationRefusal`].
    pub fn check(
        &self,
        path: &PeerPath,
        peer: &PeerIdentity,
        policy: &RevocationPolicy,
        now_unix: i64,
    ) -> Result<(), RevocationRefusal> {
        if let Some(entry) = self.deny.find(path, peer, now_unix) {
            return Err(RevocationRefusal::denied(entry));
        }
        if self.is_suspended(peer.tenant(), now_unix) {
            return Ok(());
        }
        self.check_lists(path, policy, now_unix)
    }

    /// Whether no list speaks against this path, whoever its holder is: the deny list is about clients.
    ///
    /// # Errors
    ///
    /// [`RevocationRefusal`].
    pub(crate) fn check_lists(
        &self,
        path: &PeerPath,
        policy: &RevocationPolicy,
        now_unix: i64,
    ) -> Result<(), RevocationRefusal> {
        if policy.crl == CrlMode::Off {
            return Ok(());
        }
        let depth = match policy.depth {
            RevocationDepth::Leaf => 1,
            RevocationDepth::Chain => path.certificates.len(),
        };
        for (position, certificate) in path.certificates.iter().take(depth).enumerate() {
            self.check_certificate(certificate, position, policy, now_unix)?;
        }
        Ok(())
    }

    /// Until when the lists that clear certificates at `now_unix` go on to do so, at the least: from this second on, seconds since
    /// 1970, what passed a check has to be checked again.
    pub(crate) fn clears_until(&self, policy: &RevocationPolicy, now_unix: i64) -> i64 {
        let ends = self.crls().map(|index| policy.stale.ends(index));
        ends.filter(|end| now_unix < *end).min().unwrap_or(i64::MAX)
    }

    /// Whether CRLs and OCSP have no effect on this tenant's clients at `now_unix`.
    pub fn is_suspended(&self, tenant: Option<&str>, now_unix: i64) -> bool {
        let Some(tenant) = tenant else { return false };
        self.suspended
            .iter()
            .any(|suspension| *suspension.tenant == *tenant && now_unix < suspension.until_unix)
    }

    /// The lists in force, in no order.
    pub fn crls(&self) -> impl Iterator<Item = &Arc<CrlIndex>> {
        self.lists.values().flat_map(IssuerLists::all)
    }

    /// What is refused by hand.
    pub fn deny_list(&self) -> &Arc<DenyList> {
        &self.deny
    }

    /// The suspensions, expired ones included.
    pub fn suspensions(&self) -> &[Suspension] {
        &self.suspended
    }

    /// The same with other refusals by hand.
    pub fn with_deny_list(&self, deny: Arc<DenyList>) -> Arc<Self> {
        Self::new(RevocationParts {
            crls: self.crls().cloned().collect(),
            deny,
            suspended: self.suspended.clone(),
        })
    }

    fn check_certificate(
        &self,
        certificate: &PathCertificate,
        position: usize,
        policy: &RevocationPolicy,
        now_unix: i64,
    ) -> Result<(), RevocationRefusal> {
        let (mut fresh, mut stale) = (false, None::<&CrlIndex>);
        if let Some(lists) = self.lists.get(&certificate.issuer) {
            for (index, clears) in lists.about(certificate, position > 0) {
                if let Some(reason) = index.find(&certificate.serial) {
                    return Err(RevocationRefusal::revoked(certificate, position, index, reason));
                }
                if policy.stale.admits(index, now_unix) {
                    fresh |= clears;
                } else if stale.is_none_or(|other| other.next_update_unix() < index.next_update_unix()) {
                    stale = Some(index);
                }
            }
        }
        match (fresh, stale, policy.crl) {
            (true, _, _) => Ok(()),
            (false, Some(index), _) => Err(RevocationRefusal::stale(certificate, position, index)),
            (false, None, CrlMode::Required) => Err(RevocationRefusal::unknown(certificate, position)),
            (false, None, CrlMode::IfPresent | CrlMode::Off) => Ok(()),
        }
    }
}

impl StalePolicy {
    /// Whether a list clears those whom it does not name, at `now_unix`.
    fn admits(self, index: &CrlIndex, now_unix: i64) -> bool {
        now_unix < self.ends(index)
    }

    /// From which second on a list clears nobody, seconds since 1970.
    fn ends(self, index: &CrlIndex) -> i64 {
        let grace = match self {
            Self::Deny => 0,
            Self::Allow(grace) => i64::try_from(grace.as_secs()).unwrap_or(i64::MAX),
        };
        index.next_update_unix().saturating_add(grace)
    }
}

/// The lists of one issuer, at most one for each scope.
#[derive(Debug, Default)]
struct IssuerLists {
    /// Those without a distribution point: about all certificates, or all of a kind.
    whole: Vec<Arc<CrlIndex>>,
    /// Those of a distribution point.
    partitions: Vec<Arc<CrlIndex>>,
    /// Where in `partitions` the lists of a distribution point's URI are.
    by_url: HashMap<Box<str>, Vec<usize>>,
}

impl IssuerLists {
    fn add(&mut self, index: Arc<CrlIndex>) {
        let scope = &index.head().scope;
        let into = if scope.distribution_points.is_empty() { &mut self.whole } else { &mut self.partitions };
        if let Some(same) = into.iter_mut().find(|other| other.head().scope == *scope) {
            let newer = index
                .head()
                .age_order(same.head())
                .then(index.next_update_unix().cmp(&same.next_update_unix()));
            if newer.is_gt() {
                *same = index;
            }
            return;
        }
        let position = into.len();
        for url in &scope.distribution_points {
            self.by_url.entry(url.clone()).or_default().push(position);
        }
        into.push(index);
    }

    fn all(&self) -> impl Iterator<Item = &Arc<CrlIndex>> {
        self.whole.iter().chain(&self.partitions)
    }

    /// The lists that may name the certificate, each with whether it also clears it by not naming it.
    ///
    /// RFC 5280 §6.3.3 (b)(2): a list of a distribution point is about the certificates that name the point. A
    /// certificate that names none is looked up in all lists, since one that lists it has revoked it, and is
    /// cleared by none of them, since it may belong into another that we do not have.
    fn about<'a>(
        &'a self,
        certificate: &'a PathCertificate,
        authority: bool,
    ) -> impl Iterator<Item = (&'a CrlIndex, bool)> {
        let of_kind = move |index: &&Arc<CrlIndex>| index.is_about(authority);
        let whole = self.whole.iter().filter(of_kind).map(|index| (&**index, true));
        let named = certificate
            .crl_urls
            .iter()
            .filter_map(|url| self.by_url.get(url))
            .flatten()
            .map(|&position| &self.partitions[position])
            .filter(of_kind)
            .map(|index| (&**index, true));
        let unnamed = if certificate.crl_urls.is_empty() { &self.partitions[..] } else { &[] };
        let unnamed = unnamed.iter().filter(of_kind).map(|index| (&**index, false));
        whole.chain(named).chain(unnamed)
    }
}

impl RevocationRefusal {
    /// The reason in the metric of failed handshakes.
    pub fn reason(&self) -> HandshakeReason {
        match (self.source, self.what) {
            (RevocationSource::DenyList, _) => HandshakeReason::DenyListed,
            (_, RevocationFinding::Revoked) => HandshakeReason::Revoked,
            (_, RevocationFinding::Unknown) => HandshakeReason::RevocationUnknown,
            (_, RevocationFinding::Stale) => HandshakeReason::RevocationStale,
        }
    }

    fn denied(entry: &DenyEntry) -> Self {
        let expires =
            entry.expires_unix.map_or_else(String::new, |at| format!(", until {}", format_unix(at)));
        let DenyEntry { target, reason, by, added_unix, .. } = entry;
        Self {
            source: RevocationSource::DenyList,
            what: RevocationFinding::Revoked,
            detail: format!(
                "on the deny list: {target} (`{reason}`, by {by} at {}{expires})",
                format_unix(*added_unix)
            ),
        }
    }

    fn revoked(
        certificate: &PathCertificate,
        position: usize,
        index: &CrlIndex,
        reason: RevocationReason,
    ) -> Self {
        Self {
            source: RevocationSource::Crl,
            what: RevocationFinding::Revoked,
            detail: format!(
                "{} is revoked ({}) by {}",
                which(certificate, position),
                reason.as_str(),
                index.head()
            ),
        }
    }

    fn stale(certificate: &PathCertificate, position: usize, index: &CrlIndex) -> Self {
        Self {
            source: RevocationSource::Crl,
            what: RevocationFinding::Stale,
            detail: format!(
                "whether {} is revoked is not known: {} was to be replaced by {}; fetch the new one, or allow stale ones for a while",
                which(certificate, position),
                index.head(),
                format_unix(index.next_update_unix())
            ),
        }
    }

    fn unknown(certificate: &PathCertificate, position: usize) -> Self {
        Self {
            source: RevocationSource::Crl,
            what: RevocationFinding::Unknown,
            detail: format!(
                "whether {} is revoked is not known: no list of its issuer ({}) is about it; add its CRL, or set \
                 `crl = \"if_present\"`",
                which(certificate, position),
                certificate.issuer
            ),
        }
    }
}

impl fmt::Display for RevocationRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

impl Error for RevocationRefusal {}

impl Default for RevocationPolicy {
    /// No CRLs.
    fn default() -> Self {
        Self { crl: CrlMode::Off, stale: StalePolicy::Deny, depth: RevocationDepth::Chain }
    }
}

impl RevocationSource {
    /// The name in metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::DenyList => "deny_list",
            Self::Crl => "crl",
            Self::Ocsp => "ocsp",
        }
    }
}

impl RevocationFinding {
    /// The name in metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Revoked => "revoked",
            Self::Unknown => "unknown",
            Self::Stale => "stale",
        }
    }
}

fn which(certificate: &PathCertificate, position: usize) -> String {
    let serial = certificate.serial;
    if position == 0 {
        format!("the leaf (serial {serial})")
    } else {
        format!("intermediate {position} (serial {serial})")
    }
}

/// Lower-case hexadecimal of exactly `N` octets.
fn unhex<const N: usize>(digits: &str) -> Option<[u8; N]> {
    let digits = digits.as_bytes();
    if digits.len() != 2 * N {
        return None;
    }
    let value = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    let mut octets = [0; N];
    for (octet, pair) in octets.iter_mut().zip(digits.chunks_exact(2)) {
        *octet = (value(pair[0])? << 4) | value(pair[1])?;
    }
    Some(octets)
}

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
