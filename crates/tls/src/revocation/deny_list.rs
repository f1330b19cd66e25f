//! The deny list: what an operator has refused by hand, effective at once and before any CRL is asked.
//!
//! Hides how an entry is found: every kind of entry has a table of its own, so a look-up costs the same
//! whatever the length of the list. Matching is exact: no patterns, no prefixes, no parts of names. Suspending
//! revocation for a tenant never suspends this list.

use std::collections::HashMap;
use std::fmt;
use std::io::Write as _;
use std::net::IpAddr;

use ringward_identity::PeerIdentity;

use super::issuer::IssuerId;
use super::serial::Serial;
use crate::certificate::{format_unix, hex};
use crate::digest::{DigestKey, sha256};
use crate::path::PeerPath;

mod file;

/// What an entry refuses.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DenyTarget {
    /// The certificate of this issuer with this serial number, leaf or intermediate.
    Serial {
        /// Whose key signed it.
        issuer: IssuerId,
        /// Its number.
        serial: Serial,
    },
    /// Every path with a certificate of this key, anchor included: SHA-256 of the DER SubjectPublicKeyInfo.
    Spki([u8; 32]),
    /// Every path with this certificate, anchor included: SHA-256 of its DER.
    Fingerprint([u8; 32]),
    /// Every client that is called so: its name in logs, its name in its tenant, its SPIFFE ID, or one of its
    /// subject alternative names. DNS names in any case, IP addresses in any notation, everything else exactly.
    Identity(Box<str>),
    /// Every path through this CA, as intermediate or anchor, under whichever certificate.
    Ca(IssuerId),
}

/// One refusal, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DenyEntry {
    /// What is refused.
    pub target: DenyTarget,
    /// Why, for the log: 1 to [`REASON_BYTES_MAX`] bytes without control characters.
    pub reason: String,
    /// When it was added, seconds since 1970.
    pub added_unix: i64,
    /// Who added it: 1 to [`BY_BYTES_MAX`] bytes without control characters.
    pub by: String,
    /// From when on it has no effect, seconds since 1970.
    pub expires_unix: Option<i64>,
}

/// Everything that is refused by hand. Cheap to ask; a change copies it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DenyList {
    serials: HashMap<(IssuerId, Serial), DenyEntry>,
    keys: HashMap<DigestKey, DenyEntry>,
    fingerprints: HashMap<DigestKey, DenyEntry>,
    identities: HashMap<Box<str>, DenyEntry>,
    /// Entries of `identities` that have capitals, in all their spellings: by the same in lower case, as DNS names are.
    folded: HashMap<Box<str>, Vec<Box<str>>>,
    authorities: HashMap<IssuerId, DenyEntry>,
}

/// Why an entry or a file is not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DenyListError {
    /// The list is as long as it may be.
    #[error(
        "the deny list has {DENY_ENTRIES_MAX} entries, which is the most; remove expired ones, or refuse by CA"
    )]
    Full,
    /// A text is empty, too long, or holds control characters.
    #[error("the {field} must be 1 to {max} bytes long and without control characters")]
    Text {
        /// Which.
        field: &'static str,
        /// Its limit.
        max: usize,
    },
    /// The entry would never have an effect.
    #[error("it would expire at {}, which is not after it is added ({})", format_unix(*.expires_unix), format_unix(*.added_unix))]
    Expiry {
        /// Seconds since 1970.
        added_unix: i64,
        /// Seconds since 1970.
        expires_unix: i64,
    },
    /// The file does not begin as it should.
    #[error("line 1 is not `{}`: not a deny list, or one of another version", file::HEAD)]
    Head,
    /// A line of the file is not one entry.
    #[error(
        "line {line}: {problem}; restore the file from a copy, as without this line somebody may be let in"
    )]
    Line {
        /// Counted from 1.
        line: usize,
        /// What is wrong.
        problem: String,
    },
}

impl DenyList {
    /// A list that refuses nobody.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an entry, or replaces the one with the same target, which is returned.
    ///
    /// # Errors
    ///
    /// [`DenyListError::Full`], [`DenyListError::Text`], [`DenyListError::Expiry`]; the list is unchanged then.
    pub fn add(&mut self, mut entry: DenyEntry) -> Result<Option<DenyEntry>, DenyListError> {
        entry.target = entry.target.normalized();
        entry.check()?;
        if self.len() >= DENY_ENTRIES_MAX && self.get(&entry.target).is_none() {
            return Err(DenyListError::Full);
        }
        Ok(match entry.target.clone() {
            DenyTarget::Serial { issuer, serial } => self.serials.insert((issuer, serial), entry),
            DenyTarget::Spki(hash) => self.keys.insert(DigestKey(hash), entry),
            DenyTarget::Fingerprint(hash) => self.fingerprints.insert(DigestKey(hash), entry),
            DenyTarget::Ca(issuer) => self.authorities.insert(issuer, entry),
            DenyTarget::Identity(name) => {
                if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
                    let spellings = self.folded.entry(name.to_ascii_lowercase().into()).or_default();
                    if !spellings.contains(&name) {
                        spellings.push(name.clone());
                    }
                }
                self.identities.insert(name, entry)
            }
        })
    }

    /// Takes the entry with this target out.
    pub fn remove(&mut self, target: &DenyTarget) -> Option<DenyEntry> {
        match target.clone().normalized() {
            DenyTarget::Serial { issuer, serial } => self.serials.remove(&(issuer, serial)),
            DenyTarget::Spki(hash) => self.keys.remove(&DigestKey(hash)),
            DenyTarget::Fingerprint(hash) => self.fingerprints.remove(&DigestKey(hash)),
            DenyTarget::Ca(issuer) => self.authorities.remove(&issuer),
            DenyTarget::Identity(name) => {
                let removed = self.identities.remove(&name)?;
                let folded: Box<str> = name.to_ascii_lowercase().into();
                if let Some(spellings) = self.folded.get_mut(&folded) {
                    spellings.retain(|spelling| *spelling != name);
                    if spellings.is_empty() {
                        self.folded.remove(&folded);
                    }
                }
                Some(removed)
            }
        }
    }

    /// Takes out every entry that has no effect any more at `now_unix`, and says how many.
    pub fn remove_expired(&mut self, now_unix: i64) -> usize {
        let expired: Vec<DenyTarget> =
            self.iter().filter(|entry| !entry.holds_at(now_unix)).map(|entry| entry.target.clone()).collect();
        expired.iter().filter_map(|target| self.remove(target)).count()
    }

    /// The entry with this target, expired or not.
    pub fn get(&self, target: &DenyTarget) -> Option<&DenyEntry> {
        match target.clone().normalized() {
            DenyTarget::Serial { issuer, serial } => self.serials.get(&(issuer, serial)),
            DenyTarget::Spki(hash) => self.keys.get(&DigestKey(hash)),
            DenyTarget::Fingerprint(hash) => self.fingerprints.get(&DigestKey(hash)),
            DenyTarget::Identity(name) => self.identities.get(&name),
            DenyTarget::Ca(issuer) => self.authorities.get(&issuer),
        }
    }

    /// All entries, oldest first.
    pub fn entries(&self) -> Vec<&DenyEntry> {
        let mut entries: Vec<_> = self.iter().collect();
        entries.sort_by(|a, b| (a.added_unix, &a.target).cmp(&(b.added_unix, &b.target)));
        entries
    }

    /// How many entries there are, expired ones included.
    pub fn len(&self) -> usize {
        self.serials.len()
            + self.keys.len()
            + self.fingerprints.len()
            + self.identities.len()
            + self.authorities.len()
    }

    /// True if there is no entry.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// An entry that refuses this client at `now_unix`, if there is one. Does not allocate.
    pub fn find(&self, path: &PeerPath, peer: &PeerIdentity, now_unix: i64) -> Option<&DenyEntry> {
        let holds = |entry: &&DenyEntry| entry.holds_at(now_unix);
        if !self.serials.is_empty() {
            let mut names =
                path.certificates.iter().map(|certificate| (certificate.issuer, certificate.serial));
            if let Some(entry) = names.find_map(|name| self.serials.get(&name).filter(holds)) {
                return Some(entry);
            }
        }
        if !self.fingerprints.is_empty() {
            let hashes = path.certificates.iter().map(|certificate| certificate.fingerprint_sha256);
            let mut hashes = hashes.chain([path.anchor.fingerprint_sha256]);
            let found = hashes.find_map(|hash| self.fingerprints.get(&DigestKey(hash)).filter(holds));
            if found.is_some() {
                return found;
            }
        }
        if !self.keys.is_empty() {
            let hashes = path.certificates.iter().map(|certificate| certificate.spki_sha256);
            let mut hashes = hashes.chain([path.anchor.spki_sha256]);
            let found = hashes.find_map(|hash| self.keys.get(&DigestKey(hash)).filter(holds));
            if found.is_some() {
                return found;
            }
        }
        if !self.authorities.is_empty() {
            // Those that have signed the certificates of the path: all its CAs, the anchor among them.
            let mut issuers = path.certificates.iter().map(|certificate| &certificate.issuer);
            if let Some(entry) = issuers.find_map(|issuer| self.authorities.get(issuer).filter(holds)) {
                return Some(entry);
            }
        }
        if self.identities.is_empty() { None } else { self.find_identity(peer, now_unix) }
    }

    /// Whether a single certificate is refused by serial number, fingerprint or key.
    pub(super) fn names_certificate(
        &self,
        issuer: &IssuerId,
        serial: &Serial,
        der: &[u8],
        spki_der: &[u8],
        now_unix: i64,
    ) -> bool {
        let by_serial = self.serials.get(&(*issuer, *serial));
        let by_hash =
            [self.fingerprints.get(&DigestKey(sha256(der))), self.keys.get(&DigestKey(sha256(spki_der)))];
        by_serial.into_iter().chain(by_hash.into_iter().flatten()).any(|entry| entry.holds_at(now_unix))
    }

    fn find_identity(&self, peer: &PeerIdentity, now_unix: i64) -> Option<&DenyEntry> {
        let get = |name: &str| self.identities.get(name).filter(|entry| entry.holds_at(now_unix));
        let get_dns = |name: &str| {
            let folded = || self.folded.get(name)?.iter().find_map(|spelling| get(spelling));
            get(name).or_else(folded)
        };
        let names = [peer.identity()].into_iter().chain(peer.san_uris().iter().map(String::as_str));
        // What a client is called is one of these, as a rule.
        let mut others =
            names.chain(peer.san_emails().iter().map(String::as_str)).filter(|name| *name != peer.name());
        get(peer.name())
            .or_else(|| others.find_map(get))
            .or_else(|| peer.san_dns().iter().find_map(|name| get_dns(name)))
            .or_else(|| peer.san_ips().iter().find_map(|address| with_text(*address, get)))
    }

    fn iter(&self) -> impl Iterator<Item = &DenyEntry> {
        let hashes = self.keys.values().chain(self.fingerprints.values());
        self.serials.values().chain(hashes).chain(self.identities.values()).chain(self.authorities.values())
    }
}

impl DenyEntry {
    /// Whether it has an effect at `now_unix`; from the second of its expiry on it has none.
    pub fn holds_at(&self, now_unix: i64) -> bool {
        self.expires_unix.is_none_or(|expires| now_unix < expires)
    }

    fn check(&self) -> Result<(), DenyListError> {
        check_text("reason", &self.reason, REASON_BYTES_MAX)?;
        check_text("author", &self.by, BY_BYTES_MAX)?;
        if let DenyTarget::Identity(name) = &self.target {
            check_text("identity", name, IDENTITY_BYTES_MAX)?;
        }
        match self.expires_unix {
            Some(expires_unix) if expires_unix <= self.added_unix => {
                Err(DenyListError::Expiry { added_unix: self.added_unix, expires_unix })
            }
            _ => Ok(()),
        }
    }
}

impl DenyTarget {
    /// IP addresses have several notations; [`PeerIdentity`] knows the value.
    fn normalized(self) -> Self {
        match self {
            Self::Identity(name) => match name.parse::<IpAddr>() {
                Ok(address) => Self::Identity(address.to_string().into()),
                Err(_) => Self::Identity(name),
            },
            other => other,
        }
    }

    /// Which kind it is, as the file and the command line call it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Serial { .. } => "serial",
            Self::Spki(_) => "spki",
            Self::Fingerprint(_) => "fingerprint",
            Self::Identity(_) => "identity",
            Self::Ca(_) => "ca",
        }
    }
}

impl fmt::Display for DenyTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Serial { issuer, serial } => write!(f, "serial {serial} of issuer {issuer}"),
            Self::Spki(hash) => write!(f, "key sha256 {}", hex(hash)),
            Self::Fingerprint(hash) => write!(f, "certificate sha256 {}", hex(hash)),
            Self::Identity(name) => write!(f, "identity `{name}`"),
            Self::Ca(issuer) => write!(f, "everything under issuer {issuer}"),
        }
    }
}

fn check_text(field: &'static str, text: &str, max: usize) -> Result<(), DenyListError> {
    let good = (1..=max).contains(&text.len()) && !text.chars().any(char::is_control);
    if good { Ok(()) } else { Err(DenyListError::Text { field, max }) }
}

/// Calls `look_up` with the address's text, which is written on the stack.
fn with_text<T>(address: IpAddr, look_up: impl FnOnce(&str) -> Option<T>) -> Option<T> {
    let mut buffer = [0_u8; IP_TEXT_BYTES_MAX];
    let mut rest = &mut buffer[..];
    write!(rest, "{address}").ok()?;
    let unused = rest.len();
    look_up(std::str::from_utf8(&buffer[..IP_TEXT_BYTES_MAX - unused]).ok()?)
}

/// Most entries. Beyond that many single certificates the right means is a CRL, or refusing the CA.
pub const DENY_ENTRIES_MAX: usize = 100_000;
/// Most bytes of an entry's reason.
pub const REASON_BYTES_MAX: usize = 256;
/// Most bytes of an entry's author.
pub const BY_BYTES_MAX: usize = 128;
/// Most bytes of an identity: a SPIFFE ID may be that long.
pub const IDENTITY_BYTES_MAX: usize = 2048;
/// Longest text of an IPv6 address, with an embedded IPv4 one.
const IP_TEXT_BYTES_MAX: usize = 45;

#[cfg(test)]
mod tests;
