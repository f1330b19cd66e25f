//! What the certificate of an authority says.

use rcgen::{BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, KeyPair, KeyUsagePurpose};
use rcgen::{CustomExtension, SerialNumber};
use time::OffsetDateTime;

use super::leaf::{DAY_SECONDS, Pointers, arcs, from_now};
use super::{Authority, KeyType};

/// An authority to be made by [`Authority::root_with`] or [`Authority::intermediate_with`]. Valid from a day ago for a
/// year, with a P-256 key that may sign certificates and CRLs, unless told otherwise.
#[derive(Debug, Clone)]
pub struct AuthorityOptions {
    common_name: String,
    key_type: KeyType,
    /// PKCS #8 of a key that is there already.
    key: Option<Vec<u8>>,
    key_usages: Vec<KeyUsagePurpose>,
    path_length: Option<u8>,
    serial: Option<Vec<u8>>,
    pointers: Pointers,
    extensions: Vec<CustomExtension>,
    not_before: OffsetDateTime,
    not_after: OffsetDateTime,
}

impl AuthorityOptions {
    /// With this common name.
    pub fn named(common_name: &str) -> Self {
        Self {
            common_name: common_name.to_owned(),
            key_type: KeyType::P256,
            key: None,
            key_usages: vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign],
            path_length: None,
            serial: None,
            pointers: Pointers::default(),
            extensions: Vec::new(),
            not_before: from_now(-DAY_SECONDS),
            not_after: from_now(365 * DAY_SECONDS),
        }
    }

    /// With a new key of this type.
    pub fn key(mut self, key_type: KeyType) -> Self {
        self.key_type = key_type;
        self
    }

    /// With the key of another authority, as when one is renewed, or signed by two others.
    pub fn same_key_as(mut self, other: &Authority) -> Self {
        self.key = Some(other.key_pair().serialize_der());
        self
    }

    /// Leaves `cRLSign` out of keyUsage: its CRLs are signed, and nobody may believe them.
    pub fn without_crl_signing(mut self) -> Self {
        self.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        self
    }

    /// Lets so many authorities stand below it at most (basicConstraints).
    pub fn path_length(mut self, authorities: u8) -> Self {
        self.path_length = Some(authorities);
        self
    }

    /// With this serial number, big-endian; random otherwise.
    pub fn serial(mut self, octets: &[u8]) -> Self {
        self.serial = Some(octets.to_vec());
        self
    }

    /// Adds a URL at which its issuer publishes a CRL.
    pub fn crl_url(mut self, url: &str) -> Self {
        self.pointers.crl_urls.push(url.to_owned());
        self
    }

    /// Adds the URL of an OCSP responder of its issuer.
    pub fn ocsp_url(mut self, url: &str) -> Self {
        self.pointers.ocsp_urls.push(url.to_owned());
        self
    }

    /// Adds an extension by its dotted type; `der` is what `extnValue` holds.
    pub fn extension(mut self, kind: &str, critical: bool, der: Vec<u8>) -> Self {
        let mut extension = CustomExtension::from_oid_content(&arcs(kind), der);
        extension.set_criticality(critical);
        self.extensions.push(extension);
        self
    }

    /// Ended a day ago.
    pub fn expired(mut self) -> Self {
        self.not_before = from_now(-30 * DAY_SECONDS);
        self.not_after = from_now(-DAY_SECONDS);
        self
    }

    /// Ends after this time, whole seconds.
    pub fn valid_for(mut self, time: std::time::Duration) -> Self {
        self.not_after = from_now(i64::try_from(time.as_secs()).expect("a time before the year 9999"));
        self
    }

    pub(super) fn params(&self) -> (CertificateParams, KeyPair) {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, &*self.common_name);
        params.is_ca =
            IsCa::Ca(self.path_length.map_or(BasicConstraints::Unconstrained, BasicConstraints::Constrained));
        params.key_usages.clone_from(&self.key_usages);
        params.serial_number = self.serial.as_deref().map(SerialNumber::from_slice);
        params.custom_extensions = self.pointers.extensions();
        params.custom_extensions.extend_from_slice(&self.extensions);
        (params.not_before, params.not_after) = (self.not_before, self.not_after);
        let key = match &self.key {
            Some(der) => KeyPair::try_from(&**der).expect("a key that rcgen wrote"),
            None => self.key_type.generate(),
        };
        (params, key)
    }
}
