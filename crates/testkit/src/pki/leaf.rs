//! What a certificate for a client or server says.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rcgen::{
    CertificateParams, CustomExtension, DistinguishedName, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PublicKeyData, RsaKeySize, SanType, SerialNumber, SigningKey,
};
use rustls_pki_types::CertificateDer;
use time::OffsetDateTime;

use super::{Issued, der};

/// The type of a key pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyType {
    /// ECDSA on NIST P-256; the default, fast in every respect.
    P256,
    /// ECDSA on NIST P-384.
    P384,
    /// ECDSA on NIST P-521.
    P521,
    /// EdDSA on Curve25519.
    Ed25519,
    /// RSA with 2048 bits; slow to make.
    Rsa2048,
    /// RSA with 3072 bits; slower still.
    Rsa3072,
}

/// What the key of a certificate is for (extended key usage).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Usage {
    /// TLS clients.
    ClientAuth,
    /// TLS servers.
    ServerAuth,
    /// Signing of programs: a usage that fits neither end of TLS.
    CodeSigning,
    /// Signing of OCSP responses on behalf of the issuer.
    OcspSigning,
    /// anyExtendedKeyUsage.
    Any,
}

/// A certificate to be [issued](super::Authority::issue). Valid from an hour ago for 30 days unless told otherwise.
#[derive(Debug, Clone)]
pub struct Leaf {
    subject: Vec<(String, String)>,
    raw_subject: Option<Vec<u8>>,
    names: Vec<SanType>,
    usages: Vec<Usage>,
    key_usages: Vec<KeyUsagePurpose>,
    extensions: Vec<CustomExtension>,
    pointers: Pointers,
    policies: Vec<String>,
    not_before: OffsetDateTime,
    not_after: OffsetDateTime,
    serial: Option<Vec<u8>>,
    key_type: KeyType,
    key: Option<Arc<KeyPair>>,
    authority: bool,
}

/// Where the issuer of a certificate says that its revocation is published.
#[derive(Debug, Clone, Default)]
pub(super) struct Pointers {
    pub(super) crl_urls: Vec<String>,
    pub(super) ocsp_urls: Vec<String>,
}

impl Leaf {
    /// For a client, with the usage `ClientAuth` and this common name.
    pub fn client(common_name: &str) -> Self {
        Self::with_usage(Usage::ClientAuth).attribute(COMMON_NAME, common_name)
    }

    /// For a server, with the usage `ServerAuth` and this host name as DNS name.
    pub fn server(host: &str) -> Self {
        Self::with_usage(Usage::ServerAuth).attribute(COMMON_NAME, host).dns(host)
    }

    /// For an OCSP responder that answers on behalf of its issuer (RFC 6960 §4.2.2.2), itself not to be checked.
    pub fn ocsp_signer(common_name: &str) -> Self {
        Self::with_usage(Usage::OcspSigning).attribute(COMMON_NAME, common_name).extension(
            "1.3.6.1.5.5.7.48.1.5",
            false,
            der::null(),
        )
    }

    /// Adds a further CN to the subject; two are legal.
    pub fn common_name(self, text: &str) -> Self {
        self.attribute(COMMON_NAME, text)
    }

    /// Adds an O to the subject.
    pub fn organization(self, text: &str) -> Self {
        self.attribute("2.5.4.10", text)
    }

    /// Adds an OU to the subject.
    pub fn organizational_unit(self, text: &str) -> Self {
        self.attribute("2.5.4.11", text)
    }

    /// Adds an attribute to the subject as UTF8String, by its dotted type. Any text is written as it is.
    pub fn attribute(mut self, kind: &str, text: &str) -> Self {
        self.subject.push((kind.to_owned(), text.to_owned()));
        self
    }

    /// Removes everything from the subject so far.
    pub fn no_subject(mut self) -> Self {
        self.subject.clear();
        self
    }

    /// Replaces the subject by this DER of a `Name`, for what [`attribute`](Self::attribute) cannot express.
    pub fn raw_subject(mut self, der: Vec<u8>) -> Self {
        self.raw_subject = Some(der);
        self
    }

    /// Adds a DNS name.
    pub fn dns(self, name: &str) -> Self {
        self.name(SanType::DnsName(name.try_into().expect("an ASCII name")))
    }

    /// Adds a URI name.
    pub fn uri(self, uri: &str) -> Self {
        self.name(SanType::URI(uri.try_into().expect("an ASCII URI")))
    }

    /// Adds a SPIFFE ID such as `spiffe://example.org/partner/a`; valid or not, it is written as it is.
    pub fn spiffe(self, id: &str) -> Self {
        self.uri(id)
    }

    /// Adds an email name.
    pub fn email(self, address: &str) -> Self {
        self.name(SanType::Rfc822Name(address.try_into().expect("an ASCII address")))
    }

    /// Adds an IP address.
    pub fn ip(self, address: IpAddr) -> Self {
        self.name(SanType::IpAddress(address))
    }

    /// Replaces the extended key usages; none at all leaves the extension out.
    pub fn usages(mut self, usages: &[Usage]) -> Self {
        self.usages = usages.to_vec();
        self
    }

    /// Leaves `digitalSignature` out of keyUsage, which then has `keyEncipherment` alone.
    pub fn without_digital_signature(mut self) -> Self {
        self.key_usages = vec![KeyUsagePurpose::KeyEncipherment];
        self
    }

    /// Adds an extension by its dotted type; `der` is what `extnValue` holds.
    pub fn extension(mut self, kind: &str, critical: bool, der: Vec<u8>) -> Self {
        let mut extension = CustomExtension::from_oid_content(&arcs(kind), der);
        extension.set_criticality(critical);
        self.extensions.push(extension);
        self
    }

    /// Adds a URL at which its issuer publishes a CRL (cRLDistributionPoints, one point each).
    pub fn crl_url(mut self, url: &str) -> Self {
        self.pointers.crl_urls.push(url.to_owned());
        self
    }

    /// Adds the URL of an OCSP responder (authorityInfoAccess).
    pub fn ocsp_url(mut self, url: &str) -> Self {
        self.pointers.ocsp_urls.push(url.to_owned());
        self
    }

    /// Adds a policy by its dotted name (certificatePolicies).
    pub fn policy(mut self, name: &str) -> Self {
        self.policies.push(name.to_owned());
        self
    }

    /// Demands a staple from who serves it: the TLS feature `status_request` (RFC 7633).
    pub fn must_staple(self) -> Self {
        self.extension("1.3.6.1.5.5.7.1.24", false, der::sequence(&[der::integer(&[5])]))
    }

    /// Makes it a CA certificate, which no leaf may be.
    pub fn authority(mut self) -> Self {
        self.authority = true;
        self
    }

    /// Ended an hour ago.
    pub fn expired(mut self) -> Self {
        self.not_before = from_now(-30 * DAY_SECONDS);
        self.not_after = from_now(-HOUR_SECONDS);
        self
    }

    /// Begins in an hour.
    pub fn not_yet_valid(mut self) -> Self {
        self.not_before = from_now(HOUR_SECONDS);
        self
    }

    /// Ends after this time, whole seconds.
    pub fn valid_for(mut self, time: Duration) -> Self {
        self.not_after = from_now(i64::try_from(time.as_secs()).expect("a time before the year 9999"));
        self
    }

    /// Valid exactly between two times, whole seconds.
    pub fn valid_between(mut self, from: SystemTime, until: SystemTime) -> Self {
        self.not_before = from.into();
        self.not_after = until.into();
        self
    }

    /// With this serial number, big-endian; random otherwise.
    pub fn serial(mut self, octets: &[u8]) -> Self {
        self.serial = Some(octets.to_vec());
        self
    }

    /// With a new key of this type; P-256 otherwise.
    pub fn key(mut self, key_type: KeyType) -> Self {
        self.key_type = key_type;
        self
    }

    /// With the key of another certificate, as some renewals do.
    pub fn same_key_as(mut self, other: &Issued) -> Self {
        self.key = Some(other.key_pair().clone());
        self
    }

    pub(super) fn sign(&self, issuer: &Issuer<'_, KeyPair>) -> (CertificateDer<'static>, Arc<KeyPair>) {
        let key = self.key.clone().unwrap_or_else(|| Arc::new(self.key_type.generate()));
        (self.sign_for(&*key, issuer), key)
    }

    /// For somebody else's public key, PEM.
    pub(super) fn sign_public_key(
        &self,
        public_key: &str,
        issuer: &Issuer<'_, KeyPair>,
    ) -> CertificateDer<'static> {
        let key = rcgen::SubjectPublicKeyInfo::from_pem(public_key).expect("a public key");
        self.sign_for(&key, issuer)
    }

    fn sign_for(&self, key: &impl PublicKeyData, issuer: &Issuer<'_, KeyPair>) -> CertificateDer<'static> {
        let certificate = self.params().signed_by(key, issuer).expect("sign a certificate");
        // rcgen keeps a subject in a map and cannot write two values of one type, so it is put in afterwards.
        let replaced = der::replace_subject(certificate.der(), &self.subject_der(), |to_be_signed| {
            issuer.key().sign(to_be_signed).expect("sign a certificate")
        });
        replaced.into()
    }

    fn params(&self) -> CertificateParams {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.subject_alt_names.clone_from(&self.names);
        params.is_ca = if self.authority {
            IsCa::Ca(rcgen::BasicConstraints::Unconstrained)
        } else {
            IsCa::ExplicitNoCa
        };
        params.key_usages.clone_from(&self.key_usages);
        params.extended_key_usages = self.usages.iter().map(|usage| usage.purpose()).collect();
        params.custom_extensions.clone_from(&self.extensions);
        params.custom_extensions.extend(self.pointers.extensions());
        if !self.policies.is_empty() {
            let policies: Vec<_> =
                self.policies.iter().map(|policy| der::sequence(&[der::oid(policy)])).collect();
            params
                .custom_extensions
                .push(CustomExtension::from_oid_content(&arcs("2.5.29.32"), der::sequence(&policies)));
        }
        params.use_authority_key_identifier_extension = true;
        (params.not_before, params.not_after) = (self.not_before, self.not_after);
        params.serial_number = self.serial.as_deref().map(SerialNumber::from_slice);
        params
    }

    fn subject_der(&self) -> Vec<u8> {
        if let Some(raw) = &self.raw_subject {
            return raw.clone();
        }
        let rdn = |(kind, text): &(String, String)| der::rdn(kind, &der::utf8(text));
        der::sequence(&self.subject.iter().map(rdn).collect::<Vec<_>>())
    }

    fn with_usage(usage: Usage) -> Self {
        Self {
            subject: Vec::new(),
            raw_subject: None,
            names: Vec::new(),
            usages: vec![usage],
            key_usages: vec![KeyUsagePurpose::DigitalSignature],
            extensions: Vec::new(),
            pointers: Pointers::default(),
            policies: Vec::new(),
            not_before: from_now(-HOUR_SECONDS),
            not_after: from_now(30 * DAY_SECONDS),
            serial: None,
            key_type: KeyType::P256,
            key: None,
            authority: false,
        }
    }

    fn name(mut self, name: SanType) -> Self {
        self.names.push(name);
        self
    }
}

impl Pointers {
    /// RFC 5280 §4.2.1.13 and §4.2.2.1.
    pub(super) fn extensions(&self) -> Vec<CustomExtension> {
        let uri = |url: &String| der::context_primitive(6, url.as_bytes());
        let point = |url| der::sequence(&[der::context(0, &der::context(0, &uri(url)))]);
        let access = |url| der::sequence(&[der::oid("1.3.6.1.5.5.7.48.1"), uri(url)]);
        let points: Vec<_> = self.crl_urls.iter().map(point).collect();
        let accesses: Vec<_> = self.ocsp_urls.iter().map(access).collect();
        [("2.5.29.31", points), ("1.3.6.1.5.5.7.1.1", accesses)]
            .into_iter()
            .filter(|(_, elements)| !elements.is_empty())
            .map(|(kind, elements)| CustomExtension::from_oid_content(&arcs(kind), der::sequence(&elements)))
            .collect()
    }
}

impl KeyType {
    pub(super) fn generate(self) -> KeyPair {
        match self {
            Self::P256 => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256),
            Self::P384 => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384),
            Self::Ed25519 => KeyPair::generate_for(&rcgen::PKCS_ED25519),
            Self::P521 => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P521_SHA512),
            Self::Rsa2048 => KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, RsaKeySize::_2048),
            Self::Rsa3072 => KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, RsaKeySize::_3072),
        }
        .expect("generate a key")
    }
}

impl Usage {
    fn purpose(self) -> ExtendedKeyUsagePurpose {
        match self {
            Self::ClientAuth => ExtendedKeyUsagePurpose::ClientAuth,
            Self::ServerAuth => ExtendedKeyUsagePurpose::ServerAuth,
            Self::CodeSigning => ExtendedKeyUsagePurpose::CodeSigning,
            Self::OcspSigning => ExtendedKeyUsagePurpose::OcspSigning,
            Self::Any => ExtendedKeyUsagePurpose::Any,
        }
    }
}

pub(super) fn from_now(seconds: i64) -> OffsetDateTime {
    OffsetDateTime::now_utc() + time::Duration::seconds(seconds)
}

pub(super) fn arcs(dotted: &str) -> Vec<u64> {
    dotted.split('.').map(|arc| arc.parse().expect("an object identifier in dotted decimal")).collect()
}

const COMMON_NAME: &str = "2.5.4.3";
const HOUR_SECONDS: i64 = 3600;
pub(super) const DAY_SECONDS: i64 = 24 * HOUR_SECONDS;
