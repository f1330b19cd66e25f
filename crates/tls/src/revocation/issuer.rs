//! Who signs: the name of an issuer for look-ups, and the certificate that its statements are checked with.

use std::fmt;
use std::hash::{Hash, Hasher};

use rustls_pki_types::{CertificateDer, TrustAnchor};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::ParsedExtension;
use x509_parser::oid_registry::{
    OID_X509_EXT_BASIC_CONSTRAINTS, OID_X509_EXT_KEY_USAGE, OID_X509_EXT_SUBJECT_KEY_IDENTIFIER,
};
use x509_parser::prelude::FromDer as _;

use super::der::SEQUENCE;
use crate::certificate::{hex, printable_name, read_certificates};
use crate::digest::{DigestKey, FieldHasher};

/// Names an issuer by what signs: SHA-256 over its distinguished name and its public key.
///
/// A list or answer is kept under the issuer whose key signed it, and a certificate of a verified path is
/// looked up under the issuer whose key signed *it*. The two meet only if name and key are the same, so a CA
/// of the same name never speaks for another's certificates, and a renewed CA with its old key does.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct IssuerId(pub [u8; 32]);

impl IssuerId {
    /// From a DER Name and a DER SubjectPublicKeyInfo, both with tag and length.
    pub fn new(subject_der: &[u8], spki_der: &[u8]) -> Self {
        let mut hasher = FieldHasher::new("ringward issuer 1");
        hasher.field(subject_der).field(spki_der);
        Self(hasher.finish())
    }

    /// The issuer that a trust anchor is.
    pub fn of_anchor(anchor: &TrustAnchor<'_>) -> Self {
        // webpki keeps the values of the two SEQUENCEs without tag and length.
        Self::new(&sequence(&anchor.subject), &sequence(&anchor.subject_public_key_info))
    }

    /// The issuer that the holder of this certificate is, were it a CA.
    ///
    /// # Errors
    ///
    /// What keeps the certificate from being read.
    pub fn of_certificate(der: &[u8]) -> Result<Self, String> {
        let (rest, certificate) = X509Certificate::from_der(der).map_err(|error| error.to_string())?;
        if !rest.is_empty() {
            return Err(format!("{} bytes follow the certificate", rest.len()));
        }
        Ok(Self::new(certificate.subject().as_raw(), certificate.public_key().raw))
    }
}

impl Hash for IssuerId {
    fn hash<H: Hasher>(&self, state: &mut H) {
        DigestKey(self.0).hash(state);
    }
}

impl fmt::Display for IssuerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl fmt::Debug for IssuerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IssuerId({self})")
    }
}

/// A CA certificate that CRLs and OCSP answers are checked with.
///
/// It need not be trusted itself: what it vouches for is kept under its [`IssuerId`], and only certificates of
/// verified paths that this very key has signed are looked up there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuerCertificate {
    pub(super) id: IssuerId,
    pub(super) der: CertificateDer<'static>,
    /// DER Name.
    pub(super) subject_der: Box<[u8]>,
    /// DER SubjectPublicKeyInfo.
    pub(super) spki_der: Box<[u8]>,
    pub(super) key_id: Option<Box<[u8]>>,
    /// keyUsage is absent or has cRLSign (RFC 5280 §4.2.1.3).
    pub(super) may_sign_crls: bool,
    subject: String,
}

/// Why a certificate cannot be the issuer of others.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IssuerError {
    /// Not a certificate.
    #[error("not a certificate: {0}")]
    Malformed(String),
    /// basicConstraints does not say cA=TRUE.
    #[error(
        "`{subject}` is not a CA (basicConstraints lacks CA:TRUE); name the certificate of the issuing CA"
    )]
    NotCa {
        /// The subject.
        subject: String,
    },
}

impl IssuerCertificate {
    /// Reads a CA certificate in DER. Its validity and its own issuer are not looked at.
    ///
    /// # Errors
    ///
    /// [`IssuerError`].
    pub fn from_der(der: &CertificateDer<'_>) -> Result<Self, IssuerError> {
        let malformed = |message: String| IssuerError::Malformed(message);
        let (rest, certificate) =
            X509Certificate::from_der(der).map_err(|error| malformed(error.to_string()))?;
        if !rest.is_empty() {
            return Err(malformed(format!("{} bytes follow the certificate", rest.len())));
        }
        let (mut is_ca, mut may_sign_crls, mut key_id) = (false, true, None);
        for extension in certificate.extensions() {
            match extension.parsed_extension() {
                ParsedExtension::BasicConstraints(constraints) => is_ca = constraints.ca,
                ParsedExtension::KeyUsage(usage) => may_sign_crls = usage.crl_sign(),
                ParsedExtension::SubjectKeyIdentifier(id) => key_id = Some(id.0.into()),
                _ if DECISIVE.contains(&extension.oid) => {
                    return Err(malformed(format!("extension {} cannot be read", extension.oid)));
                }
                _ => {}
            }
        }
        let subject = printable_name(certificate.subject());
        if !is_ca {
            return Err(IssuerError::NotCa { subject });
        }
        let (subject_der, spki_der) = (certificate.subject().as_raw(), certificate.public_key().raw);
        Ok(Self {
            id: IssuerId::new(subject_der, spki_der),
            der: der.clone().into_owned(),
            subject_der: subject_der.into(),
            spki_der: spki_der.into(),
            key_id,
            may_sign_crls,
            subject,
        })
    }

    /// All CA certificates of a PEM file, or the one of a DER file, each with its own error.
    pub fn read_all(bytes: &[u8]) -> Vec<Result<Self, IssuerError>> {
        let certificates = read_certificates(bytes).into_iter();
        certificates
            .map(|der| Self::from_der(&der.map_err(|error| IssuerError::Malformed(error.to_string()))?))
            .collect()
    }

    /// Under what its lists and answers are kept.
    pub fn id(&self) -> IssuerId {
        self.id
    }

    /// Its subject by RFC 4514, cut at 512 bytes; for messages.
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// The certificate.
    pub fn der(&self) -> &CertificateDer<'static> {
        &self.der
    }
}

fn sequence(content: &[u8]) -> Vec<u8> {
    let mut der = Vec::with_capacity(content.len() + 6);
    super::der::write(&mut der, SEQUENCE, content);
    der
}

/// An extension of these that cannot be read must not look like an absent one.
const DECISIVE: &[x509_parser::oid_registry::Oid<'static>] =
    &[OID_X509_EXT_BASIC_CONSTRAINTS, OID_X509_EXT_KEY_USAGE, OID_X509_EXT_SUBJECT_KEY_IDENTIFIER];
