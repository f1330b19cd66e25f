//! Why a client chain was refused: a reason for the metric, words for the operator, an error for rustls'
//! alert.

use std::sync::Arc;

use ringward_identity::IdentityError;
use rustls::CertificateError;
use rustls_pki_types::CertificateDer;
use webpki::Error as PathError;

use crate::certificate::{Certificate, format_unix};
use crate::failure::HandshakeReason as Reason;
use crate::revocation::RevocationRefusal;
use crate::trust::Violation;

/// A refused chain.
pub(crate) struct Refusal {
    pub(crate) reason: Reason,
    /// What is wrong and what may be done, for the operator only.
    pub(crate) message: String,
    /// What rustls derives the alert from: all that the client learns.
    pub(super) error: CertificateError,
    /// The trust bundle that it is about, if it is about one; else all of the host's were consulted.
    pub(super) bundle: Option<Arc<str>>,
}

impl Refusal {
    pub(super) fn new(reason: Reason, message: String, error: CertificateError) -> Self {
        Self { reason, message, error, bundle: None }
    }

    /// The same, as the verdict of one bundle.
    pub(super) fn by(self, bundle: &Arc<str>) -> Self {
        Self { bundle: Some(bundle.clone()), ..self }
    }

    /// A certificate that is in order, but that this host does not accept.
    pub(super) fn of_application(reason: Reason, message: String) -> Self {
        Self::new(reason, message, CertificateError::ApplicationVerificationFailure)
    }

    /// The chain verified, and no identity can be read from it.
    pub(super) fn of_identity(error: &IdentityError, bundle: &Arc<str>) -> Self {
        let reason = match error.flag() {
            "bad_name" | "bad_san" | "bad_spiffe_id" => Reason::BadName,
            "bad_key_usage" => Reason::BadKeyUsage,
            _ => Reason::BadCertificate,
        };
        Self::of_application(reason, error.to_string()).by(bundle)
    }

    /// The chain verified, and is revoked or not known to be good.
    pub(super) fn of_revocation(refusal: &RevocationRefusal, bundle: &Arc<str>) -> Self {
        let error = match refusal.reason() {
            // RFC 8446 §6.2: what the holder of a revoked certificate may as well know.
            Reason::Revoked => CertificateError::Revoked,
            _ => CertificateError::ApplicationVerificationFailure,
        };
        Self::new(refusal.reason(), format!("client certificate refused: {refusal}"), error).by(bundle)
    }

    /// A path to an anchor of `bundle` verified, and breaks a rule of the bundle.
    pub(super) fn of_violation(violation: Violation, bundle: &Arc<str>) -> Self {
        let Violation { reason, message } = violation;
        let error = match reason {
            Reason::Expired => CertificateError::Expired,
            Reason::NotYetValid => CertificateError::NotValidYet,
            Reason::BadCertificate => CertificateError::BadEncoding,
            _ => CertificateError::ApplicationVerificationFailure,
        };
        Self::new(reason, format!("client certificate refused by trust bundle `{bundle}`: {message}"), error)
            .by(bundle)
    }

    /// No path from the leaf to an anchor of the bundles `name` holds at `now` (seconds since 1970).
    pub(super) fn of_path(
        error: &PathError,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: i64,
        name: &Arc<str>,
    ) -> Self {
        let (reason, alert) = classify(error);
        let detail = match reason {
            Reason::UnknownIssuer => format!(
                "no CA of trust bundle `{name}` issued it; is its CA missing there, or an intermediate \
                 missing from what the client sends?"
            ),
            Reason::BadSignature => format!(
                "not signed by the key of the CA that it names; \
                 is another CA of that name in trust bundle `{name}`?"
            ),
            Reason::Expired | Reason::NotYetValid => describe_validity(leaf, intermediates, now),
            Reason::UnsupportedSignature => {
                "signed with an algorithm that is not accepted, such as SHA-1 or RSA below 2048 bits"
                    .to_owned()
            }
            Reason::BadEku => {
                "extendedKeyUsage of the leaf or of an intermediate does not list clientAuth".to_owned()
            }
            Reason::CaAsLeaf => "the leaf is a CA certificate".to_owned(),
            Reason::ConstraintViolation => {
                "an issuer may not issue it: not a CA, or outside its name or path length constraints"
                    .to_owned()
            }
            Reason::ChainTooLong => "verifying it takes too many steps".to_owned(),
            _ => "a certificate is malformed or has a critical extension that is not understood".to_owned(),
        };
        Self::new(reason, format!("client certificate refused: {detail} ({error})"), alert).by(name)
    }
}

fn classify(error: &PathError) -> (Reason, CertificateError) {
    use CertificateError as Alert;
    match error {
        PathError::UnknownIssuer => (Reason::UnknownIssuer, Alert::UnknownIssuer),
        PathError::CertExpired { .. } | PathError::InvalidCertValidity => (Reason::Expired, Alert::Expired),
        PathError::CertNotValidYet { .. } => (Reason::NotYetValid, Alert::NotValidYet),
        PathError::InvalidSignatureForPublicKey => (Reason::BadSignature, Alert::BadSignature),
        PathError::UnsupportedSignatureAlgorithmContext(_)
        | PathError::UnsupportedSignatureAlgorithmForPublicKeyContext(_)
        | PathError::SignatureAlgorithmMismatch => (Reason::UnsupportedSignature, Alert::InvalidPurpose),
        PathError::RequiredEkuNotFoundContext(_) | PathError::EmptyEkuExtension => {
            (Reason::BadEku, Alert::InvalidPurpose)
        }
        PathError::CaUsedAsEndEntity => (Reason::CaAsLeaf, Alert::InvalidPurpose),
        PathError::EndEntityUsedAsCa
        | PathError::NameConstraintViolation
        | PathError::PathLenConstraintViolated => {
            (Reason::ConstraintViolation, Alert::ApplicationVerificationFailure)
        }
        PathError::MaximumSignatureChecksExceeded
        | PathError::MaximumPathBuildCallsExceeded
        | PathError::MaximumPathDepthExceeded
        | PathError::MaximumNameConstraintComparisonsExceeded => {
            (Reason::ChainTooLong, Alert::ApplicationVerificationFailure)
        }
        PathError::UnsupportedCriticalExtension => {
            (Reason::BadCertificate, Alert::UnhandledCriticalExtension)
        }
        _ => (Reason::BadCertificate, Alert::BadEncoding),
    }
}

/// Which certificates are outside their validity, as webpki says only that one is.
fn describe_validity(leaf: &CertificateDer<'_>, intermediates: &[CertificateDer<'_>], now: i64) -> String {
    let mut found = Vec::new();
    for (position, der) in std::iter::once(leaf).chain(intermediates).enumerate() {
        let Ok(certificate) = Certificate::parse(der) else { continue };
        let (from, until) = (certificate.not_before_unix(), certificate.not_after_unix());
        if (from..=until).contains(&now) {
            continue;
        }
        let which = if position == 0 { "the leaf".to_owned() } else { format!("intermediate {position}") };
        let subject = certificate.subject();
        found.push(format!(
            "{which} (`{subject}`) is valid from {} to {}",
            format_unix(from),
            format_unix(until)
        ));
    }
    format!("{}, it is {}", found.join(", "), format_unix(now))
}
