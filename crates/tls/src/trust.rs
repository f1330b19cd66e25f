//! Trust bundles: the certificate authorities that may vouch for clients.
//!
//! Hides which of the given certificates are fit to be a trust anchor, and how the few that a chain could lead to
//! are found among many. One unfit certificate is quarantined and reported, and the rest still serves; a bundle that
//! would be empty or ambiguous is an error, so the caller keeps what it has. Never falls back to other roots, and
//! never to none.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use ringward_identity::SpiffeId;
use rustls_pki_types::{Der, TrustAnchor, UnixTime};

use crate::certificate::{format_unix, unix_seconds};
use crate::digest::FieldHasher;

mod anchors;
mod profile;
mod rules;

pub use anchors::{Anchor, QuarantineReason, Quarantined};
use anchors::{Candidate, read_source};
pub use profile::{KeyKind, Profile, RSA_BITS_MIN_DEFAULT, UnknownKeyKind};
pub use rules::TrustOptions;
pub(crate) use rules::Violation;

/// The CAs of one `[trust.NAME]` section with the rules for what they issue, checked. Immutable: a change makes a
/// new bundle.
#[derive(Debug)]
pub struct TrustBundle {
    name: Arc<str>,
    options: TrustOptions,
    roots: Vec<TrustAnchor<'static>>,
    /// Parallel to `roots`.
    anchors: Vec<Anchor>,
    /// Parallel to `roots`, ascending: SHA-256 of (subject, SPKI, name constraints).
    keys: Vec<[u8; 32]>,
    /// Positions in `roots`, ascending by subject: a chain names a handful of issuers, and webpki would compare each
    /// with every anchor.
    by_subject: Vec<u32>,
    digest: [u8; 32],
    warnings: Vec<TrustWarning>,
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
        "`{subject}` constrains URI, e-mail or directory names, which cannot be checked: every client certificate \
         with such a name (a SPIFFE ID, say, or a subject) is refused under it"
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
    /// No SPIFFE ID can have this trust domain.
    #[error(
        "trust bundle `{name}` is bound to `{trust_domain}`, which is not a SPIFFE trust domain; write it as in \
         `example.org`: a-z, 0-9, '.', '-' and '_', without scheme and path"
    )]
    TrustDomain {
        /// The bundle.
        name: String,
        /// What was to be the trust domain.
        trust_domain: String,
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
    /// [`TrustError`] if nothing usable is left, if more than [`ANCHORS_PER_SUBJECT_MAX`] anchors share a subject, or
    /// if the trust domain is none.
    pub fn from_pem(
        name: &str,
        sources: &[(PathBuf, Vec<u8>)],
        options: TrustOptions,
        now: UnixTime,
    ) -> Result<(Self, Vec<Quarantined>), TrustError> {
        if let Some(trust_domain) =
            options.spiffe_trust_domain.as_deref().filter(|name| !is_trust_domain(name))
        {
            let (name, trust_domain) = (name.to_owned(), trust_domain.to_owned());
            return Err(TrustError::TrustDomain { name, trust_domain });
        }
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
        Ok((Self::assemble(name, options, candidates, warnings), quarantined))
    }

    /// The name of the bundle in the configuration.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// The rules for what the CAs of the bundle issue.
    pub fn options(&self) -> &TrustOptions {
        &self.options
    }

    /// SHA-256 over the sorted (subject, SPKI, name constraints) of all anchors and all rules: two bundles with this
    /// digest admit the same chains. Validity is not part of it, so renewing a CA with its old key changes nothing.
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

    /// True if `other` admits whomever this bundle admits: it has the same anchors and perhaps more, and no rule that
    /// is stricter.
    pub(crate) fn is_at_least_as_strict_as(&self, other: &Self) -> bool {
        self.keys.iter().all(|key| other.keys.binary_search(key).is_ok())
            && self.options.is_at_least_as_strict_as(&other.options)
    }

    /// Positions of the anchors with this subject, those of one key side by side. `subject` as in
    /// [`TrustAnchor::subject`].
    pub(crate) fn anchors_named(&self, subject: &[u8]) -> impl Iterator<Item = usize> {
        let subject_of = |position: &u32| self.roots[*position as usize].subject.as_ref();
        let start = self.by_subject.partition_point(|position| subject_of(position) < subject);
        let end = self.by_subject.partition_point(|position| subject_of(position) <= subject);
        self.by_subject[start..end].iter().map(|position| *position as usize)
    }

    /// What webpki has to know of the anchor at `position`.
    pub(crate) fn root(&self, position: usize) -> TrustAnchor<'_> {
        let root = &self.roots[position];
        TrustAnchor {
            subject: Der::from_slice(&root.subject),
            subject_public_key_info: Der::from_slice(&root.subject_public_key_info),
            name_constraints: root.name_constraints.as_deref().map(Der::from_slice),
        }
    }

    /// Names the anchor at `position`, but for its validity: SHA-256 of (subject, SPKI, name constraints).
    pub(crate) fn key(&self, position: usize) -> &[u8; 32] {
        &self.keys[position]
    }

    /// The subjects of all anchors, as in [`TrustAnchor::subject`], with their keys.
    pub(crate) fn subjects(&self) -> impl Iterator<Item = (&[u8], &[u8; 32])> {
        self.roots.iter().map(|root| root.subject.as_ref()).zip(&self.keys)
    }

    fn assemble(
        name: &str,
        options: TrustOptions,
        candidates: Vec<Candidate>,
        warnings: Vec<TrustWarning>,
    ) -> Self {
        let mut hasher = FieldHasher::new("ringward trust bundle 2");
        let (mut roots, mut anchors, mut keys) = (Vec::new(), Vec::new(), Vec::<[u8; 32]>::new());
        for candidate in candidates {
            if keys.last() != Some(&candidate.key) {
                hasher.field(&candidate.key);
            }
            roots.push(candidate.root);
            anchors.push(candidate.anchor);
            keys.push(candidate.key);
        }
        options.digest(hasher.field(b"rules"));
        let mut by_subject: Vec<u32> = (0..).take(roots.len()).collect();
        // Stable, so that anchors of one subject stay in the order of their keys.
        by_subject.sort_by(|one, other| {
            roots[*one as usize].subject.as_ref().cmp(roots[*other as usize].subject.as_ref())
        });
        let digest = hasher.finish();
        Self { name: name.into(), options, roots, anchors, keys, by_subject, digest, warnings }
    }
}

/// True for what can stand between the scheme and the path of a SPIFFE ID.
fn is_trust_domain(name: &str) -> bool {
    SpiffeId::parse(&format!("spiffe://{name}")).is_ok_and(|id| id.trust_domain() == name)
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
