//! OCSP (RFC 6960): asking about one certificate, and believing the answer only if it is about that certificate,
//! current, and signed by someone who may say so.
//!
//! Hides the encoding. Does no I/O and keeps nothing. An answer has to pass every one of these, in
//! [`verify_response`]:
//!
//! 1. The responder ID names the signer: the issuer itself, or a certificate within the answer which the issuer
//!    has signed *directly*, which is valid now, lists id-kp-OCSPSigning (nothing implies it), and is not itself
//!    revoked as far as we know.
//! 2. The signature is good.
//! 3. Exactly one answer within it is about the certificate: hash of the issuer's name, hash of its key, and
//!    serial number all agree.
//! 4. It was made neither after now (but for [`CLOCK_SKEW_SECONDS`], as the responder's clock may be ahead) nor
//!    so long ago that it is stale: from nextUpdate on, without tolerance; without nextUpdate, after
//!    [`ANSWER_AGE_SECONDS_MAX`].
//! 5. The nonce is the one that was sent, if the answer has one. Most responders sign in advance and have none.
//! 6. No critical extension is unknown.

use std::time::Duration;

use aws_lc_rs::digest::{Algorithm, SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};
use rustls_pki_types::{CertificateDer, UnixTime};
use webpki::{EndEntityCert, KeyUsage};

use super::Revocation;
use super::crl::{CLOCK_SKEW_SECONDS, RevocationReason};
use super::der::{
    ENUMERATED, Extension, GENERALIZED_TIME, INTEGER, Malformed, NULL, OCTET_STRING, OID, Reader, SEQUENCE,
    context, context_constructed, dotted, generalized_time, wrap,
};
use super::issuer::{IssuerCertificate, IssuerId};
use super::serial::Serial;
use super::signed::{Signed, key_of};
use crate::certificate::Certificate;

mod error;

pub use error::OcspError;

/// How a request names the issuer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CertIdHash {
    /// What every responder knows. Names the issuer and protects nothing, so its weakness does not matter.
    #[default]
    Sha1,
    /// For responders that refuse SHA-1.
    Sha256,
}

/// What an answer is checked against.
#[derive(Clone, Copy, Debug)]
pub struct OcspCheck<'a> {
    /// The CA whose key has signed the certificate that was asked about.
    pub issuer: &'a IssuerCertificate,
    /// The certificate's serial number.
    pub serial: Serial,
    /// The nonce that was sent, if one was.
    pub nonce: Option<&'a [u8]>,
    /// Seconds since 1970.
    pub now_unix: i64,
    /// Where a delegated responder's own certificate is looked up, in its issuer's CRLs and in the deny list.
    pub revocation: Option<&'a Revocation>,
}

/// An answer that may be believed until it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OcspResponse {
    /// What it says.
    pub status: OcspStatus,
    /// When it was known to be so, seconds since 1970.
    pub this_update_unix: i64,
    /// When newer information is due, seconds since 1970, if the responder says so.
    pub next_update_unix: Option<i64>,
    /// From when on it is stale, seconds since 1970: nextUpdate, or [`ANSWER_AGE_SECONDS_MAX`] after thisUpdate.
    pub until_unix: i64,
}

/// What a responder says about a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OcspStatus {
    /// Not revoked.
    Good,
    /// Revoked, or suspended.
    Revoked {
        /// Since when, seconds since 1970.
        at_unix: i64,
        /// Why.
        reason: RevocationReason,
    },
    /// The responder does not know the certificate.
    Unknown,
}

/// Longest answer that is read. One with a delegated responder's RSA-4096 certificate has some 4 KB.
pub const OCSP_RESPONSE_BYTES_MAX: usize = 32 * 1024;
/// How long an answer without nextUpdate is believed.
pub const ANSWER_AGE_SECONDS_MAX: i64 = 3600;
/// Octets of a nonce (RFC 9654 §2.1 allows 1 to 128 and wants 32).
pub const NONCE_OCTETS: usize = 32;

/// A request about one certificate, in DER, unsigned.
///
/// Below 255 octets unless the nonce is long, so it fits a GET (RFC 6960 appendix A.1), which caches like.
pub fn request(
    issuer: &IssuerCertificate,
    serial: &Serial,
    hash: CertIdHash,
    nonce: Option<&[u8]>,
) -> Vec<u8> {
    let (oid, algorithm) = match hash {
        CertIdHash::Sha1 => (ID_SHA1, &SHA1_FOR_LEGACY_USE_ONLY),
        CertIdHash::Sha256 => (ID_SHA256, &SHA256),
    };
    // A certificate whose key cannot be read is no IssuerCertificate that ever verified a signature.
    let key = key_of(&issuer.spki_der).map_or(&[][..], |(_, key)| key);
    let id = [
        wrap(SEQUENCE, &[&wrap(OID, &[oid]), &wrap(NULL, &[])]),
        wrap(OCTET_STRING, &[digest(algorithm, &issuer.subject_der).as_ref()]),
        wrap(OCTET_STRING, &[digest(algorithm, key).as_ref()]),
        integer(serial),
    ];
    let id = wrap(SEQUENCE, &[&id.concat()]);
    let list = wrap(SEQUENCE, &[&wrap(SEQUENCE, &[&id])]);
    let extensions = nonce.map_or_else(Vec::new, |nonce| {
        let value = wrap(OCTET_STRING, &[&wrap(OCTET_STRING, &[nonce])]);
        let extension = wrap(SEQUENCE, &[&wrap(OID, &[ID_OCSP_NONCE]), &value]);
        wrap(context_constructed(2), &[&wrap(SEQUENCE, &[&extension])])
    });
    wrap(SEQUENCE, &[&wrap(SEQUENCE, &[&list, &extensions])])
}

/// Checks an answer, as the module says, and returns what it says about the certificate.
///
/// Costs one or two signature checks: never on a worker.
///
/// # Errors
///
/// [`OcspError`]. Such an answer says nothing, neither good nor bad.
pub fn verify_response(der: &[u8], check: &OcspCheck<'_>) -> Result<OcspResponse, OcspError> {
    if der.len() > OCSP_RESPONSE_BYTES_MAX {
        return Err(OcspError::TooLong { bytes: der.len() });
    }
    let malformed = |what| move |Malformed| OcspError::Malformed { what };
    let basic = basic_response(der)?;
    let mut fields = Reader::inside(basic, SEQUENCE).map_err(malformed("the basic response"))?;
    let signed = Signed::read(&mut fields).map_err(malformed("the basic response"))?;
    let certificates = fields
        .optional_explicit(context_constructed(0), SEQUENCE)
        .map_err(malformed("the responder's certificates"))?
        .unwrap_or_default();
    fields.finish().map_err(malformed("the basic response"))?;
    let answer = Answer::read(signed.content).map_err(malformed("the response data"))?;
    verify_signer(&signed, &answer, certificates, check)?;
    // Nothing below is reached with an answer that nobody in charge has signed.
    if answer.produced_at > check.now_unix.saturating_add(CLOCK_SKEW_SECONDS) {
        return Err(OcspError::NotYetValid { at_unix: answer.produced_at, now_unix: check.now_unix });
    }
    check_extensions(answer.extensions, check.nonce)?;
    find_answer(&answer, check)?.check(check.now_unix)
}

/// The BasicOCSPResponse within an OCSPResponse (RFC 6960 §4.2.1).
fn basic_response(der: &[u8]) -> Result<&[u8], OcspError> {
    let malformed = |Malformed| OcspError::Malformed { what: "the response" };
    let mut fields = Reader::inside(der, SEQUENCE).map_err(malformed)?;
    match fields.expect(ENUMERATED).map_err(malformed)? {
        [0] => {}
        // Unsigned: a hint for the operator and nothing more.
        [status] => return Err(OcspError::Responder { status: *status }),
        _ => return Err(malformed(Malformed)),
    }
    let bytes = fields.optional_explicit(context_constructed(0), SEQUENCE).map_err(malformed)?;
    fields.finish().map_err(malformed)?;
    let mut bytes = Reader::new(bytes.ok_or(malformed(Malformed))?);
    let kind = bytes.expect(OID).map_err(malformed)?;
    if kind != ID_OCSP_BASIC {
        return Err(OcspError::Kind { oid: dotted(kind) });
    }
    let basic = bytes.expect(OCTET_STRING).map_err(malformed)?;
    bytes.finish().map_err(malformed)?;
    Ok(basic)
}

/// Finds out whose signature it has to be, and checks that it is.
fn verify_signer(
    signed: &Signed<'_>,
    answer: &Answer<'_>,
    certificates: &[u8],
    check: &OcspCheck<'_>,
) -> Result<(), OcspError> {
    let issuer = check.issuer;
    if answer.responder.names(&issuer.subject_der, &issuer.spki_der) {
        let own = signed.verify(&issuer.spki_der);
        // A delegate may have the issuer's name.
        if own.is_ok() || certificates.is_empty() {
            return own.map_err(OcspError::Signature);
        }
    }
    let malformed = |Malformed| OcspError::Malformed { what: "the responder's certificates" };
    let mut certificates = Reader::new(certificates);
    let mut tried = 0;
    while !certificates.is_empty() {
        let der = certificates.element(SEQUENCE).map_err(malformed)?.raw;
        tried += 1;
        if tried > CERTIFICATES_MAX {
            break;
        }
        let delegate = Certificate::parse(der).map_err(|problem| OcspError::Delegate { problem })?;
        if answer.responder.names(delegate.subject_der(), delegate.spki_der()) {
            check_delegate(&delegate, check)?;
            return signed.verify(delegate.spki_der()).map_err(OcspError::Signature);
        }
    }
    Err(OcspError::UnknownSigner)
}

/// Whether the issuer has put this certificate in charge of answering for it (RFC 6960 §4.2.2.2).
fn check_delegate(delegate: &Certificate<'_>, check: &OcspCheck<'_>) -> Result<(), OcspError> {
    let refused = |problem: String| OcspError::Delegate { problem };
    let der = CertificateDer::from(delegate.der());
    let certificate = EndEntityCert::try_from(&der).map_err(|error| refused(error.to_string()))?;
    let anchor = webpki::anchor_from_trusted_cert(&check.issuer.der)
        .map_err(|error| refused(format!("its issuer: {error}")))?;
    let now = UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(check.now_unix).unwrap_or(0)));
    // The issuer as the only anchor and no intermediates: signed by it, directly. This checks the signature, the
    // validity, critical extensions, the purpose, and that it is no CA.
    let algorithms = webpki::ALL_VERIFICATION_ALGS;
    let purpose = KeyUsage::required(ID_KP_OCSP_SIGNING);
    certificate
        .verify_for_usage(algorithms, &[anchor], &[], now, purpose, None, None)
        .map_err(|error| refused(error.to_string()))?;
    if delegate.allows_digital_signature().map_err(refused)? == Some(false) {
        return Err(refused("keyUsage lacks digitalSignature".to_owned()));
    }
    let serial = Serial::new(delegate.serial_octets()).map_err(|error| refused(error.to_string()))?;
    // RFC 6960 §4.2.2.2.1 leaves it to us how a responder's certificate is checked. A CA that says nocheck means
    // that it cannot be revoked; we ask what we have at hand all the same.
    if let Some(revocation) = check.revocation
        && revocation.is_revoked(&check.issuer.id, &serial, delegate, check.now_unix)
    {
        return Err(OcspError::DelegateRevoked { serial });
    }
    Ok(())
}

/// A ResponseData (RFC 6960 §4.2.1).
struct Answer<'a> {
    responder: Responder<'a>,
    produced_at: i64,
    /// The value of the SEQUENCE OF SingleResponse.
    singles: &'a [u8],
    /// The value of the SEQUENCE of responseExtensions.
    extensions: &'a [u8],
}

/// Who signed, in its own words.
enum Responder<'a> {
    /// DER Name.
    Name(&'a [u8]),
    /// SHA-1 over the key's octets.
    Key(&'a [u8]),
}

impl<'a> Answer<'a> {
    fn read(content: &'a [u8]) -> Result<Self, Malformed> {
        let mut fields = Reader::new(content);
        // Version 1 is the default and the only one.
        if !matches!(fields.optional_explicit(context_constructed(0), INTEGER)?, None | Some([0])) {
            return Err(Malformed);
        }
        let id = fields.any()?;
        let responder = match id.tag {
            tag if tag == context_constructed(1) => {
                let mut name = Reader::new(id.content);
                let responder = Responder::Name(name.element(SEQUENCE)?.raw);
                name.finish()?;
                responder
            }
            tag if tag == context_constructed(2) => {
                let mut key = Reader::new(id.content);
                let responder = Responder::Key(key.expect(OCTET_STRING)?);
                key.finish()?;
                responder
            }
            _ => return Err(Malformed),
        };
        let produced_at = generalized_time(fields.expect(GENERALIZED_TIME)?)?;
        let singles = fields.expect(SEQUENCE)?;
        let extensions = fields.optional_explicit(context_constructed(1), SEQUENCE)?.unwrap_or_default();
        fields.finish()?;
        Ok(Self { responder, produced_at, singles, extensions })
    }
}

impl Responder<'_> {
    fn names(&self, subject_der: &[u8], spki_der: &[u8]) -> bool {
        match self {
            Self::Name(name) => *name == subject_der,
            Self::Key(hash) => key_of(spki_der)
                .is_ok_and(|(_, key)| digest(&SHA1_FOR_LEGACY_USE_ONLY, key).as_ref() == *hash),
        }
    }
}

/// A SingleResponse (RFC 6960 §4.2.1).
struct Single<'a> {
    id: CertId<'a>,
    status: OcspStatus,
    this_update: i64,
    next_update: Option<i64>,
    extensions: &'a [u8],
}

struct CertId<'a> {
    algorithm: &'a [u8],
    name_hash: &'a [u8],
    key_hash: &'a [u8],
    serial: &'a [u8],
}

/// The one answer about the certificate.
fn find_answer<'a>(answer: &Answer<'a>, check: &OcspCheck<'_>) -> Result<Single<'a>, OcspError> {
    let malformed = |Malformed| OcspError::Malformed { what: "an answer" };
    let mut singles = Reader::new(answer.singles);
    let mut found = None;
    while !singles.is_empty() {
        let single = Single::read(singles.expect(SEQUENCE).map_err(malformed)?).map_err(malformed)?;
        if !single.id.is_of(check) {
            continue;
        }
        // Which of two were to be believed?
        if found.replace(single).is_some() {
            return Err(OcspError::Ambiguous);
        }
    }
    found.ok_or(OcspError::OtherCertificate)
}

impl<'a> Single<'a> {
    fn read(content: &'a [u8]) -> Result<Self, Malformed> {
        let mut fields = Reader::new(content);
        let id = CertId::read(fields.expect(SEQUENCE)?)?;
        let status = fields.any()?;
        let status = match (status.tag, status.content) {
            (tag, []) if tag == context(0) => OcspStatus::Good,
            (tag, content) if tag == context_constructed(1) => read_revoked(content)?,
            (tag, []) if tag == context(2) => OcspStatus::Unknown,
            _ => return Err(Malformed),
        };
        let this_update = generalized_time(fields.expect(GENERALIZED_TIME)?)?;
        let next_update = fields
            .optional_explicit(context_constructed(0), GENERALIZED_TIME)?
            .map(generalized_time)
            .transpose()?;
        let extensions = fields.optional_explicit(context_constructed(1), SEQUENCE)?.unwrap_or_default();
        fields.finish()?;
        Ok(Self { id, status, this_update, next_update, extensions })
    }

    fn check(&self, now_unix: i64) -> Result<OcspResponse, OcspError> {
        check_extensions(self.extensions, None)?;
        if self.this_update > now_unix.saturating_add(CLOCK_SKEW_SECONDS) {
            return Err(OcspError::NotYetValid { at_unix: self.this_update, now_unix });
        }
        let until_unix = self.next_update.unwrap_or(self.this_update.saturating_add(ANSWER_AGE_SECONDS_MAX));
        if now_unix >= until_unix || until_unix <= self.this_update {
            return Err(OcspError::Stale { until_unix, now_unix });
        }
        Ok(OcspResponse {
            status: self.status,
            this_update_unix: self.this_update,
            next_update_unix: self.next_update,
            until_unix,
        })
    }
}

/// RevokedInfo.
fn read_revoked(content: &[u8]) -> Result<OcspStatus, Malformed> {
    let mut fields = Reader::new(content);
    let at_unix = generalized_time(fields.expect(GENERALIZED_TIME)?)?;
    // A code that does not exist revokes as well as any other.
    let reason = match fields.optional_explicit(context_constructed(0), ENUMERATED)? {
        Some([code]) => RevocationReason::from_code(*code).unwrap_or_default(),
        _ => RevocationReason::Unspecified,
    };
    fields.finish()?;
    Ok(OcspStatus::Revoked { at_unix, reason })
}

impl<'a> CertId<'a> {
    fn read(content: &'a [u8]) -> Result<Self, Malformed> {
        let mut fields = Reader::new(content);
        let mut algorithm = Reader::new(fields.expect(SEQUENCE)?);
        // Parameters are NULL or absent, by taste.
        let oid = algorithm.expect(OID)?;
        algorithm.optional(NULL)?;
        algorithm.finish()?;
        let name_hash = fields.expect(OCTET_STRING)?;
        let key_hash = fields.expect(OCTET_STRING)?;
        let serial = fields.expect(INTEGER)?;
        fields.finish()?;
        Ok(Self { algorithm: oid, name_hash, key_hash, serial })
    }

    /// All four have to agree: a serial number alone is also some other CA's.
    fn is_of(&self, check: &OcspCheck<'_>) -> bool {
        let algorithm: &Algorithm = match self.algorithm {
            ID_SHA1 => &SHA1_FOR_LEGACY_USE_ONLY,
            ID_SHA256 => &SHA256,
            _ => return false,
        };
        let Ok((_, key)) = key_of(&check.issuer.spki_der) else { return false };
        Serial::new(self.serial) == Ok(check.serial)
            && digest(algorithm, &check.issuer.subject_der).as_ref() == self.name_hash
            && digest(algorithm, key).as_ref() == self.key_hash
    }
}

/// No critical extension that is not understood, and the nonce that was sent.
fn check_extensions(list: &[u8], nonce: Option<&[u8]>) -> Result<(), OcspError> {
    let malformed = |Malformed| OcspError::Malformed { what: "an extension" };
    let mut list = Reader::new(list);
    while !list.is_empty() {
        let extension = Extension::read(&mut list).map_err(malformed)?;
        match (extension.oid, nonce) {
            (ID_OCSP_NONCE, Some(sent)) => {
                let mut value = Reader::new(extension.value);
                let received = value.expect(OCTET_STRING).map_err(malformed)?;
                value.finish().map_err(malformed)?;
                if received != sent {
                    return Err(OcspError::Nonce);
                }
            }
            (ID_OCSP_NONCE, None) => {}
            (oid, _) if extension.critical => return Err(OcspError::UnknownCritical { oid: dotted(oid) }),
            _ => {}
        }
    }
    Ok(())
}

fn integer(serial: &Serial) -> Vec<u8> {
    match serial.as_bytes() {
        [] => wrap(INTEGER, &[&[0]]),
        // The highest bit would be the sign.
        octets @ [0x80..=0xff, ..] => wrap(INTEGER, &[&[0], octets]),
        octets => wrap(INTEGER, &[octets]),
    }
}

impl Revocation {
    /// Whether a responder's certificate is revoked by hand or by a list of its issuer, fresh or stale.
    fn is_revoked(
        &self,
        issuer: &IssuerId,
        serial: &Serial,
        delegate: &Certificate<'_>,
        now_unix: i64,
    ) -> bool {
        self.deny.names_certificate(issuer, serial, delegate.der(), delegate.spki_der(), now_unix)
            || self
                .lists
                .get(issuer)
                .is_some_and(|lists| lists.all().any(|index| index.find(serial).is_some()))
    }
}

/// Certificates of an answer that are looked at; there is one, perhaps with its issuer.
const CERTIFICATES_MAX: usize = 4;

/// 1.3.14.3.2.26
const ID_SHA1: &[u8] = &[0x2b, 14, 3, 2, 26];
/// 2.16.840.1.101.3.4.2.1
const ID_SHA256: &[u8] = &[0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 1];
/// 1.3.6.1.5.5.7.48.1.1
const ID_OCSP_BASIC: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 48, 1, 1];
/// 1.3.6.1.5.5.7.48.1.2
const ID_OCSP_NONCE: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 48, 1, 2];
/// 1.3.6.1.5.5.7.3.9
const ID_KP_OCSP_SIGNING: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 9];

#[cfg(test)]
mod tests;
