//! What names a certificate that nobody has verified: for commands of operators, who bring one as a file.
//!
//! Never says that a certificate is good.

use rustls_pki_types::CertificateDer;

use crate::certificate::Certificate;
use crate::digest::sha256;
use crate::revocation::{Serial, SerialError};

/// By what a certificate can be told from others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFacts {
    /// Subject by RFC 4514, cut at 512 bytes.
    pub subject: String,
    /// Serial number.
    pub serial: Serial,
    /// SHA-256 of the DER of its SubjectPublicKeyInfo.
    pub spki_sha256: [u8; 32],
    /// SHA-256 of its DER.
    pub fingerprint_sha256: [u8; 32],
}

impl CertificateFacts {
    /// Reads a certificate.
    ///
    /// # Errors
    ///
    /// What keeps it from being read.
    pub fn read(der: &CertificateDer<'_>) -> Result<Self, String> {
        let certificate = Certificate::parse(der)?;
        let serial =
            Serial::new(certificate.serial_octets()).map_err(|error: SerialError| error.to_string())?;
        Ok(Self {
            subject: certificate.subject(),
            serial,
            spki_sha256: sha256(certificate.spki_der()),
            fingerprint_sha256: sha256(certificate.der()),
        })
    }
}
