//! Why a client chain was refused: a reason for the metric, words for the operator, an error for rustls'
//! alert.

use rustls::CertificateError;
use rustls_pki_types::CertificateDer;
use webpki::Error as PathError;

use crate::certificate::{Certificate, format_unix};
use crate::failure::HandshakeReason as Reason;
use crate::trust::TrustBundle;

/// A refused chain.
pub(super) struct Refusal {
    pub(super) reason: Reason,
    /// What is wrong and what may be done, for the operator only.
    pub(super) message: String,
    /// What rustls derives the alert from: all that the client learns.
    pub(super) error: CertificateError,
}

impl Refusal {
    /// A certificate that is in order, but that this host does not accept.
    pub(super) fn of_application(reason: Reason, message: String) -> Self {
        Self { reason, message, error: CertificateError::ApplicationVerificationFailure }
    }

    /// No path from the leaf to an anchor of `trust` holds at `now` (seconds since 1970).
    pub(super) fn of_path(
        error: &PathError,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: i64,
        trust: &TrustBundle,
    ) -> Self {
        let (reason, alert) = classify(error);
        let name = trust.name();
        let detail = match reason {
            Reason::UnknownIssuer => format!(
                "no CA of trust bundle `{name}` issued it; is its CA missing there, or an intermediate \
                 missing from what the client sends?"
            ),
            Reason::BadSignature => format!(
                "not signed by the key of the CA that it names; \
                 is another CA of that name in trust bundle `{name}`?"
            ),
            Reason::Expired | Reason::NotYetValid => describe_validity(leaf, intermediates, now, trust),
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
        Self { reason, message: format!("client certificate refused: {detail} ({error})"), error: alert }
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
fn describe_validity(
    leaf: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    now: i64,
    trust: &TrustBundle,
) -> String {
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
    if found.is_empty() {
        let name = trust.name();
        return format!("the CA that issued it is outside its validity; renew it in trust bundle `{name}`");
    }
    format!("{}, it is {}", found.join(", "), format_unix(now))
}
