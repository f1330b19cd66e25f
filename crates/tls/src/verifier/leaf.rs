//! What is checked of a leaf before a path is looked for: it costs no signature, and its reasons are clearer than
//! webpki's.

use rustls::CertificateError;
use rustls_pki_types::CertificateDer;

use super::refusal::Refusal;
use crate::certificate::{Certificate, Purpose};
use crate::failure::HandshakeReason;

/// Refuses what is no client certificate. Returns the SPIFFE trust domain that it claims, if any.
pub(super) fn check_leaf(leaf: &CertificateDer<'_>, require_eku: bool) -> Result<Option<String>, Refusal> {
    let malformed = |message: String| {
        let message = format!("the leaf cannot be parsed: {message}");
        Refusal::new(HandshakeReason::BadCertificate, message, CertificateError::BadEncoding)
    };
    let leaf = Certificate::parse(leaf).map_err(malformed)?;
    let refuse = |reason, message: &str| {
        Err(Refusal::new(reason, message.to_owned(), CertificateError::InvalidPurpose))
    };
    if leaf.is_ca().map_err(malformed)? {
        return refuse(
            HandshakeReason::CaAsLeaf,
            "the leaf is a CA certificate; issue a client certificate with it",
        );
    }
    match leaf.client_auth().map_err(malformed)? {
        Purpose::Listed => {}
        Purpose::Unrestricted if !require_eku => {}
        Purpose::Unrestricted => {
            return refuse(
                HandshakeReason::BadEku,
                "the leaf has no extendedKeyUsage; reissue it with clientAuth or set `require_eku = false`",
            );
        }
        Purpose::NotListed => {
            return refuse(
                HandshakeReason::BadEku,
                "extendedKeyUsage of the leaf does not list clientAuth; reissue it with clientAuth",
            );
        }
    }
    // RFC 8446 §4.4.2.2: the key must be allowed to sign, which is all that it does in TLS 1.3.
    if leaf.allows_digital_signature().map_err(malformed)? == Some(false) {
        return refuse(
            HandshakeReason::BadKeyUsage,
            "keyUsage of the leaf lacks digitalSignature; reissue it with digitalSignature",
        );
    }
    Ok(leaf.claimed_trust_domain())
}
