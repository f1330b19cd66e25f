//! Which of the given certificates are fit to be a trust anchor.
//!
//! Each is judged by itself: one that is broken or has expired is quarantined with its reason, and never keeps
//! another from serving.

use std::fmt;
use std::path::{Path, PathBuf};

use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime};

use crate::certificate::{Certificate, format_unix, read_certificates, unix_seconds};
use crate::digest::{FieldHasher, sha256};
use crate::path::AnchorRef;
use crate::revocation::IssuerId;

/// What an operator sees of one trust anchor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Anchor {
    /// Subject by RFC 4514, cut at 512 bytes.
    pub subject: String,
    /// SHA-256 of the certificate's DER.
    pub fingerprint_sha256: [u8; 32],
    /// SHA-256 of the DER of its SubjectPublicKeyInfo.
    pub spki_sha256: [u8; 32],
    /// The CA as an issuer.
    pub issuer: IssuerId,
    /// Start of validity, seconds since 1970. Before it the anchor admits nobody.
    pub not_before_unix: i64,
    /// End of validity, seconds since 1970. After it the anchor admits nobody, even without a reload.
    pub not_after_unix: i64,
    /// The file that it was read from.
    pub file: PathBuf,
}

impl Anchor {
    /// What names the anchor in a path.
    pub(crate) fn reference(&self) -> AnchorRef {
        let Self { fingerprint_sha256, spki_sha256, issuer, .. } = *self;
        AnchorRef { fingerprint_sha256, spki_sha256, issuer }
    }
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
pub(super) struct Candidate {
    /// SHA-256 of (subject, SPKI, name constraints).
    pub(super) key: [u8; 32],
    pub(super) root: TrustAnchor<'static>,
    pub(super) anchor: Anchor,
    pub(super) constrains_unsupported_names: bool,
}

impl Candidate {
    /// Two candidates that do not differ here are one anchor.
    pub(super) fn order(&self) -> ([u8; 32], i64, i64) {
        (self.key, self.anchor.not_before_unix, self.anchor.not_after_unix)
    }
}

/// Sorts the certificates of a file into those that are fit and those that are not.
pub(super) fn read_source(
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
            spki_sha256: sha256(certificate.spki_der()),
            issuer: IssuerId::new(certificate.subject_der(), certificate.spki_der()),
            not_before_unix: certificate.not_before_unix(),
            not_after_unix,
            file: file.to_owned(),
        },
        constrains_unsupported_names: certificate.constrains_unsupported_names(),
    })
}
