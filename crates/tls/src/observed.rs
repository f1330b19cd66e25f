//! What a client of a host in observe mode claims to be.
//!
//! Hides how a claim is read from a certificate that may not have verified. Never becomes a
//! [`PeerIdentity`](ringward_identity::PeerIdentity): there is no conversion, and none of its texts may reach a
//! policy or a header. It is for the operator who wants to know whom `required` would refuse.

use rustls_pki_types::CertificateDer;

use crate::certificate::{Certificate, hex};
use crate::digest::sha256;
use crate::failure::{HandshakeFailure, HandshakeReason};

/// A certificate that was presented in observe mode, and what would have become of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObservedIdentity {
    /// The name that the certificate claims: its first URI, DNS or e-mail name, else its subject, else `sha256:` and
    /// its fingerprint. Printable, at most some 512 bytes.
    pub name: String,
    /// SHA-256 of the leaf's DER in lower-case hexadecimal.
    pub fingerprint_hex: String,
    /// Issuer of the leaf by RFC 4514, cut at 512 bytes; empty if the leaf cannot be parsed.
    pub issuer: String,
    /// Serial number of the leaf in lower-case hexadecimal; empty if the leaf cannot be parsed.
    pub serial: String,
    /// Whether `required` would have admitted the client, or why not.
    pub verdict: Result<(), HandshakeReason>,
    /// What is wrong and what may be done, for the operator; empty if nothing is.
    pub message: String,
}

impl ObservedIdentity {
    /// What `leaf` claims, and what became of its chain.
    pub(crate) fn new(leaf: &CertificateDer<'_>, verdict: Result<(), HandshakeFailure>) -> Self {
        let fingerprint_hex = hex(&sha256(leaf));
        let certificate = Certificate::parse(leaf).ok();
        let claimed = certificate.as_ref().and_then(Certificate::claimed_name);
        let (verdict, message) = match verdict {
            Ok(()) => (Ok(()), String::new()),
            Err(failure) => (Err(failure.reason), failure.message),
        };
        Self {
            name: claimed.unwrap_or_else(|| format!("sha256:{fingerprint_hex}")),
            fingerprint_hex,
            issuer: certificate.as_ref().map(Certificate::issuer).unwrap_or_default(),
            serial: certificate.as_ref().map(Certificate::serial).unwrap_or_default(),
            verdict,
            message,
        }
    }
}

#[cfg(test)]
mod tests;
