//! Trust bundles: the certificate authorities that may vouch for clients.
//!
//! Hides which of the given certificates are fit to be a trust anchor. One unfit certificate is quarantined
//! and reported, and the rest still serves; a bundle that would be empty or ambiguous is an error, so the
//! caller keeps what it has. Never falls back to other roots, and never to none.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime};

use crate::certificate::{Certificate, format_unix, read_certificates, unix_seconds};
use crate::digest::{FieldHasher, sha256};

/// The CAs of one `[trust.NAME]` section, checked. Immutable: a change makes a new bundle.
#[derive(Debug)]
pub struct TrustBundle {
    name: Arc<str>,
    /// In the order of `keys`, which is the order that webpki searches.
    roots: Vec<TrustAnchor<'static>>,
    /// Parallel to `roots`.
    anchors: Vec<Anchor>,
    /// Parallel to `roots`, ascending: SHA-256 of (subject, SPKI, name constraints).
    keys: Vec<[u8; 32]>,
    digest: [u8; 32],
    warnings: Vec<TrustWarning>,
}

/// What an operator sees of one trust anchor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Anchor {
    /// Subject by RFC 4514, cut at 512 bytes.
    pub subject: String,
    /// SHA-256 of the certificate's DER.
    pub fingerprint_sha256: [u8; 32],
    /// Start of validity, seconds since 1970. Before it the anchor admits nobody.
    pub not_before_unix: i64,
    /// End of validity, seconds since 1970. After it the anchor admits nobody, even without a reload.
    pub not_after_unix: i64,
    /// The file that it was read from.
    pub file: PathBuf,
}

/// A certificate that was left out of the bundle. It admits nobody; the others do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quarantined {
    /// The file.
    pub file: PathBuf,
    /// Position in the file, counted from 1. 0 if the file as a whole is meant.
    pub position: usize,
    /// Subject, if it could be read.
    pub subject: Option<String>,
    /// Why.
    pub reason: QuarantineReason,
}

/// Why a certificate is not fit to be a trust anchor.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuarantineReason {
    /// The file holds no certificate.
    #[error("holds no certificate in PEM or DER form")]
    NoCertificate,
    /// Not PEM, not DER, or not X.509.
    #[error("cannot be parsed: {0}")]
    Unparsable(String),
    /// The validity has ended.
    #[error("expired on {}; remove it or put the renewed CA here", format_unix(*.not_after_unix))]
    Expired {
        /// notAfter, seconds since 1970.
        not_after_unix: i64,
    },
    /// basicConstraints does not say cA=TRUE.
    #[error(
        "is not a CA certificate (basicConstraints lacks CA:TRUE); \
         put the issuing CA here, not a client certificate"
    )]
    NotCa,
    /// keyUsage is present and forbids signing certificates.
    #[error(
        "may not sign certificates (keyUsage lacks keyCertSign); use the CA that issues the client certificates"
    )]
    MayNotSign,
}

/// Something that works and deserves a look.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TrustWarning {
    /// Each one costs a signature check for every chain that names the subject.
    #[error(
        "{count} CAs share the subject `{subject}`: each is tried in turn; remove those that are no longer used"
    )]
    SharedSubject {
        /// The subject.
        subject: String,
        /// How many anchors have it.
        count: usize,
    },
    /// Usable from a later date on.
    #[error("`{subject}` is not valid before {}", format_unix(*.not_before_unix))]
    NotYetValid {
        /// The subject.
        subject: String,
        /// notBefore, seconds since 1970.
        not_before_unix: i64,
    },
    /// Verification refuses what it cannot check.
    #[error(
        "`{subject}` constrains URI or e-mail names: every client certificate with such a name \
         (a SPIFFE ID, say) is refused under it"
    )]
    UnsupportedNameConstraints {
        /// The subject.
        subject: String,
    },
}

/// Why there is no bundle at all.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TrustError {
    /// Nothing usable was found. An empty bundle would refuse everyone.
    #[error(
        "trust bundle `{name}` holds no usable CA; name at least one file with a valid CA certificate \
         ({quarantined} left out)"
    )]
    Empty {
        /// The bundle.
        name: String,
        /// How many certificates or files were left out.
        quarantined: usize,
    },
    /// A valid client could run into the limit on signature checks.
    #[error(
        "trust bundle `{name}` holds {count} CAs with the subject `{subject}`, more than {ANCHORS_PER_SUBJECT_MAX}: \
         keep those in use and remove the others"
    )]
    SharedSubject {
        /// The bundle.
        name: String,
        /// The subject.
        subject: String,
        /// How many anchors have it.
        count: usize,
    },
}

/// Most anchors with one subject. Each is tried by a signature check (some 50 µs), and webpki gives up after
/// 100 in all, which would refuse valid clients.
pub const ANCHORS_PER_SUBJECT_MAX: usize = 16;
/// From this many anchors with one subject on, a warning is given.
pub const ANCHORS_PER_SUBJECT_WARN: usize = 4;

impl TrustBundle {
    /// Builds the bundle `name` from the contents of files, each PEM with any number of certificates or one
    /// DER certificate.
    ///
    /// Paths are labels for messages and are not opened. Certificates that occur twice count once.
    ///
    /// # Errors
    ///
    /// [`TrustError`] if nothing usable is left, or if more than [`ANCHORS_PER_SUBJECT_MAX`] anchors share a
    /// subject.
    pub fn from_pem(
        name: &str,
        sources: &[(PathBuf, Vec<u8>)],
        now: UnixTime,
    ) -> Result<(Self, Vec<Quarantined>), TrustError> {
        let mut candidates = Vec::new();
        let mut quarantined = Vec::new();
        for (file, bytes) in sources {
            read_source(file, bytes, now, &mut candidates, &mut quarantined);
        }
        // A CA that was renewed with its old key is two anchors, each within its own validity; one given
        // twice is one.
        candidates.sort_by_key(Candidate::order);
        candidates.dedup_by_key(|candidate| candidate.order());
        if candidates.is_empty() {
            return Err(TrustError::Empty { name: name.to_owned(), quarantined: quarantined.len() });
        }
        let warnings = check_bundle(name, &candidates, now)?;
        Ok((Self::assemble(name, candidates, warnings), quarantined))
    }

    /// The name of the bundle in the configuration.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// SHA-256 over the sorted (subject, SPKI, name constraints) of all anchors: two bundles with this digest
    /// admit the same chains. Validity is not part of it, so renewing a CA with its old key changes nothing.
    pub fn digest(&self) -> &[u8; 32] {
        &self.digest
    }

    /// The anchors, in a stable order.
    pub fn anchors(&self) -> &[Anchor] {
        &self.anchors
    }

    /// What deserves a look.
    pub fn warnings(&self) -> &[TrustWarning] {
        &self.warnings
    }

    /// True if every anchor of this bundle is in `other` too, so that `other` admits whomever this one
    /// admits.
    pub(crate) fn is_subset_of(&self, other: &Self) -> bool {
        self.keys.iter().all(|key| other.keys.binary_search(key).is_ok())
    }

    pub(crate) fn roots(&self) -> &[TrustAnchor<'static>] {
        &self.roots
    }

    /// The anchor that webpki picked from [`roots`](Self::roots), which is recognised by its address: two
    /// anchors may differ in their validity alone, which webpki does not know.
    pub(crate) fn anchor_of(&self, root: &TrustAnchor<'_>) -> Option<&Anchor> {
        self.roots
            .iter()
            .position(|candidate| std::ptr::eq(candidate, root))
            .map(|index| &self.anchors[index])
    }

    fn assemble(name: &str, candidates: Vec<Candidate>, warnings: Vec<TrustWarning>) -> Self {
        let mut hasher = FieldHasher::new("ringward trust bundle 1");
        let (mut roots, mut anchors, mut keys) = (Vec::new(), Vec::new(), Vec::new());
        for candidate in candidates {
            if keys.last() != Some(&candidate.key) {
                hasher.field(&candidate.key);
            }
            roots.push(candidate.root);
            anchors.push(candidate.anchor);
            keys.push(candidate.key);
        }
        Self { name: name.into(), roots, anchors, keys, digest: hasher.finish(), warnings }
    }
}

impl fmt::Display for Quarantined {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.file.display())?;
        if self.position > 0 {
            write!(f, "certificate {} ", self.position)?;
        }
        if let Some(subject) = &self.subject {
            write!(f, "(`{subject}`) ")?;
        }
        write!(f, "{}", self.reason)
    }
}

/// A certificate that passed all checks of its own.
struct Candidate {
    key: [u8; 32],
    root: TrustAnchor<'static>,
    anchor: Anchor,
    constrains_unsupported_names: bool,
}

impl Candidate {
    fn order(&self) -> ([u8; 32], i64, i64) {
        (self.key, self.anchor.not_before_unix, self.anchor.not_after_unix)
    }
}

fn read_source(
    file: &Path,
    bytes: &[u8],
    now: UnixTime,
    candidates: &mut Vec<Candidate>,
    quarantined: &mut Vec<Quarantined>,
) {
    let certificates = read_certificates(bytes);
    let quarantine =
        |position, subject, reason| Quarantined { file: file.to_owned(), position, subject, reason };
    if certificates.is_empty() {
        quarantined.push(quarantine(0, None, QuarantineReason::NoCertificate));
    }
    for (index, certificate) in certificates.into_iter().enumerate() {
        let outcome = match certificate {
            Ok(der) => check_anchor(&der, file, now),
            Err(error) => Err((None, QuarantineReason::Unparsable(error.to_string()))),
        };
        match outcome {
            Ok(candidate) => candidates.push(candidate),
            Err((subject, reason)) => quarantined.push(quarantine(index + 1, subject, reason)),
        }
    }
}

fn check_anchor(
    der: &CertificateDer<'_>,
    file: &Path,
    now: UnixTime,
) -> Result<Candidate, (Option<String>, QuarantineReason)> {
    let unparsable = |message: String| (None, QuarantineReason::Unparsable(message));
    let certificate = Certificate::parse(der).map_err(unparsable)?;
    let refused = |reason| (Some(certificate.subject()), reason);
    if !certificate.is_ca().map_err(unparsable)? {
        return Err(refused(QuarantineReason::NotCa));
    }
    // RFC 5280 §4.2.1.3: without the extension the key is not restricted.
    if certificate.allows_certificate_signing().map_err(unparsable)? == Some(false) {
        return Err(refused(QuarantineReason::MayNotSign));
    }
    let not_after_unix = certificate.not_after_unix();
    if unix_seconds(now) > not_after_unix {
        return Err(refused(QuarantineReason::Expired { not_after_unix }));
    }
    let root =
        webpki::anchor_from_trusted_cert(der).map_err(|error| unparsable(error.to_string()))?.to_owned();
    let mut hasher = FieldHasher::new("ringward trust anchor 1");
    hasher
        .field(&root.subject)
        .field(&root.subject_public_key_info)
        .optional(root.name_constraints.as_deref());
    Ok(Candidate {
        key: hasher.finish(),
        root,
        anchor: Anchor {
            subject: certificate.subject(),
            fingerprint_sha256: sha256(der),
            not_before_unix: certificate.not_before_unix(),
            not_after_unix,
            file: file.to_owned(),
        },
        constrains_unsupported_names: certificate.constrains_unsupported_names(),
    })
}

fn check_bundle(
    name: &str,
    candidates: &[Candidate],
    now: UnixTime,
) -> Result<Vec<TrustWarning>, TrustError> {
    let mut warnings = Vec::new();
    let mut subjects: HashMap<&[u8], usize> = HashMap::new();
    for Candidate { root, anchor, constrains_unsupported_names, .. } in candidates {
        *subjects.entry(&root.subject).or_default() += 1;
        if anchor.not_before_unix > unix_seconds(now) {
            let (subject, not_before_unix) = (anchor.subject.clone(), anchor.not_before_unix);
            warnings.push(TrustWarning::NotYetValid { subject, not_before_unix });
        }
        if *constrains_unsupported_names {
            warnings.push(TrustWarning::UnsupportedNameConstraints { subject: anchor.subject.clone() });
        }
    }
    for Candidate { root, anchor, .. } in candidates {
        // Taken out when reported, so that each subject is reported once.
        let Some(count) = subjects.remove(root.subject.as_ref()) else { continue };
        let subject = anchor.subject.clone();
        if count > ANCHORS_PER_SUBJECT_MAX {
            return Err(TrustError::SharedSubject { name: name.to_owned(), subject, count });
        }
        if count >= ANCHORS_PER_SUBJECT_WARN {
            warnings.push(TrustWarning::SharedSubject { subject, count });
        }
    }
    Ok(warnings)
}

#[cfg(test)]
mod tests;
