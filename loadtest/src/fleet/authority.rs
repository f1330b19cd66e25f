//! Who issues certificates: a root, and below it the one intermediate that signs everything else.

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertificateRevocationListParams, CertifiedIssuer,
    DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose,
    RevocationReason, RevokedCertParams, RsaKeySize, SanType, SerialNumber,
};
use rustls::crypto::{SecureRandom, aws_lc_rs};
use time::{Duration, OffsetDateTime};

use super::{Class, FleetError, KeyType};

/// A root with its intermediate.
pub(crate) struct Authority {
    name: String,
    root: CertifiedIssuer<'static, KeyPair>,
    issuing: CertifiedIssuer<'static, KeyPair>,
    /// What is sent after each leaf.
    pub(crate) issuing_pem: String,
}

/// Who a leaf is for.
pub(crate) struct Subject {
    pub(crate) common_name: String,
    pub(crate) organization: Option<String>,
    pub(crate) alternative_names: Vec<SanType>,
    pub(crate) usage: ExtendedKeyUsagePurpose,
}

/// A leaf, in PEM.
pub(crate) struct Issued {
    pub(crate) key: String,
    pub(crate) certificate: String,
    pub(crate) serial: SerialNumber,
}

/// The times that a fleet knows, in whole seconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    pub(crate) now: OffsetDateTime,
    days: Duration,
}

/// From when until when.
pub(crate) type Validity = (OffsetDateTime, OffsetDateTime);

impl Authority {
    /// A new one.
    pub(crate) fn new(name: &str, times: &Times) -> Result<Authority, FleetError> {
        let refused = |reason| FleetError::Certificate { subject: name.to_owned(), reason };
        let root = authority_params(&format!("{name} Root"), 1, times)?;
        let root = CertifiedIssuer::self_signed(root, new_key(KeyType::P256)?).map_err(refused)?;
        let issuing = authority_params(&format!("{name} Issuing"), 0, times)?;
        let issuing = CertifiedIssuer::signed_by(issuing, new_key(KeyType::P256)?, &root).map_err(refused)?;
        Ok(Authority { name: name.to_owned(), root, issuing_pem: issuing.pem(), issuing })
    }

    pub(crate) fn root_pem(&self) -> String {
        self.root.pem()
    }

    /// Issues a leaf with a new key.
    pub(crate) fn issue(
        &self,
        subject: Subject,
        key: KeyType,
        validity: Validity,
    ) -> Result<Issued, FleetError> {
        let key = new_key(key)?;
        let serial = new_serial()?;
        let mut params = params(&subject.common_name, subject.organization.as_deref(), validity);
        params.serial_number = Some(serial.clone());
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![subject.usage];
        params.subject_alt_names = subject.alternative_names;
        let refused = |reason| FleetError::Certificate { subject: subject.common_name, reason };
        let certificate: Certificate = params.signed_by(&key, &self.issuing).map_err(refused)?;
        Ok(Issued { key: key.serialize_pem(), certificate: certificate.pem(), serial })
    }

    /// The revocation lists, in PEM: the intermediate's with these leaves, and the root's, which has nobody in it.
    pub(crate) fn revocation_lists(
        &self,
        leaves: Vec<SerialNumber>,
        times: &Times,
    ) -> Result<String, FleetError> {
        let list = |issuer: &CertifiedIssuer<'static, KeyPair>, revoked: Vec<SerialNumber>| {
            let entry = |serial_number| RevokedCertParams {
                serial_number,
                revocation_time: times.begin(),
                reason_code: Some(RevocationReason::KeyCompromise),
                invalidity_date: None,
            };
            let list = CertificateRevocationListParams {
                this_update: times.begin(),
                next_update: times.authorities().1,
                crl_number: SerialNumber::from(1),
                issuing_distribution_point: None,
                revoked_certs: revoked.into_iter().map(entry).collect(),
                key_identifier_method: KeyIdMethod::Sha256,
            };
            list.signed_by(issuer)?.pem()
        };
        let refused = |reason| FleetError::Certificate {
            subject: format!("the revocation list of {}", self.name),
            reason,
        };
        Ok(list(&self.issuing, leaves).map_err(refused)? + &list(&self.root, Vec::new()).map_err(refused)?)
    }
}

impl Times {
    /// For certificates that are valid for so many days.
    pub(crate) fn now(days: u32) -> Times {
        let now = OffsetDateTime::now_utc();
        Times { now: now.replace_nanosecond(0).unwrap_or(now), days: Duration::days(days.into()) }
    }

    /// When what is valid has begun.
    fn begin(&self) -> OffsetDateTime {
        self.now - BACKDATED
    }

    /// Of leaves of a class.
    pub(crate) fn of(&self, class: Class) -> Validity {
        let end = self.now + self.days;
        match class {
            Class::Expired => (self.now - self.days - Duration::DAY, self.now - Duration::DAY),
            // Not before the fleet itself has ended, or they would become valid while it is in use.
            Class::NotYetValid => (end, end + self.days),
            _ => (self.begin(), end),
        }
    }

    /// Of authorities and their lists, which no leaf outlives or precedes: nothing else is wrong with a leaf than its class says.
    fn authorities(&self) -> Validity {
        (self.of(Class::Expired).0 - Duration::DAY, self.of(Class::NotYetValid).1 + Duration::DAY)
    }
}

fn authority_params(name: &str, below: u8, times: &Times) -> Result<CertificateParams, FleetError> {
    let mut params = params(name, None, times.authorities());
    params.serial_number = Some(new_serial()?);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(below));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params)
}

fn params(
    common_name: &str,
    organization: Option<&str>,
    (not_before, not_after): Validity,
) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    if let Some(organization) = organization {
        params.distinguished_name.push(DnType::OrganizationName, organization);
    }
    params.distinguished_name.push(DnType::CommonName, common_name);
    (params.not_before, params.not_after) = (not_before, not_after);
    params.use_authority_key_identifier_extension = true;
    params
}

fn new_key(key: KeyType) -> Result<KeyPair, FleetError> {
    let made = match key {
        KeyType::P256 => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256),
        KeyType::Rsa2048 => KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, RsaKeySize::_2048),
        KeyType::Ed25519 => {
            let mut key = ED25519_PREFIX.to_vec();
            key.resize(ED25519_PREFIX.len() + ED25519_BYTES, 0);
            random().fill(&mut key[ED25519_PREFIX.len()..]).map_err(|_| FleetError::Random)?;
            KeyPair::from_pkcs8_der_and_sign_algo(&key.into(), &rcgen::PKCS_ED25519)
        }
    };
    made.map_err(|reason| FleetError::Certificate { subject: format!("a {key:?} key"), reason })
}

/// RFC 5280 §4.1.2.2: positive, up to 20 octets. These are random and always 16.
fn new_serial() -> Result<SerialNumber, FleetError> {
    let mut serial = [0; SERIAL_BYTES];
    random().fill(&mut serial).map_err(|_| FleetError::Random)?;
    serial[0] = serial[0] & 0x7f | 0x40;
    Ok(SerialNumber::from_slice(&serial))
}

fn random() -> &'static dyn SecureRandom {
    aws_lc_rs::default_provider().secure_random
}

const SERIAL_BYTES: usize = 16;
/// What stands before the 32 octets of a key in PKCS #8 (RFC 8410 §7). What rcgen would generate has the public key in it as well, which
/// OpenSSL 3.0 cannot read.
const ED25519_PREFIX: &[u8] =
    &[0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];
const ED25519_BYTES: usize = 32;
/// For gateways whose clock is behind ours.
const BACKDATED: Duration = Duration::HOUR;
