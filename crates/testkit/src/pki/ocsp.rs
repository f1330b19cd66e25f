//! OCSP responses made by hand, right and wrong (RFC 6960 §4.2).

use std::time::SystemTime;

use aws_lc_rs::digest::{Algorithm, SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};
use rcgen::KeyPair;
use rustls_pki_types::CertificateDer;
use time::OffsetDateTime;

use super::leaf::{DAY_SECONDS, from_now};
use super::{Authority, Issued, RevocationReason, der, sign};

/// What a responder says about one certificate, to be signed. It was true an hour ago, is good for a day, names the
/// certificate by SHA-1 hashes and the responder by its subject, unless told otherwise. For what a real responder says
/// there is [`OcspDatabase`](super::OcspDatabase).
///
/// ```
/// use ringward_testkit::{Authority, Leaf, OcspAnswer};
///
/// let root = Authority::root("Root");
/// let server = root.issue(&Leaf::server("api.example.com"));
/// let der = OcspAnswer::good(&server, &root).signed_by_authority(&root);
/// let responder = root.issue(&Leaf::ocsp_signer("OCSP"));
/// let delegated = OcspAnswer::good(&server, &root).signed_by(&responder);
/// let forged = OcspAnswer::good(&server, &root).signed_by_authority(&Authority::root("Root"));
/// let stale = OcspAnswer::good(&server, &root).stale().signed_by_authority(&root);
/// ```
#[derive(Debug, Clone)]
pub struct OcspAnswer {
    serial: Vec<u8>,
    issuer: CertificateDer<'static>,
    status: Status,
    sha256: bool,
    this_update: OffsetDateTime,
    next_update: Option<OffsetDateTime>,
    by_key: bool,
    nonce: Option<Vec<u8>>,
    extensions: Vec<Vec<u8>>,
    certificates: Option<Vec<CertificateDer<'static>>>,
    /// Further `SingleResponse`s, before this one.
    before: Vec<Vec<u8>>,
}

/// Answers without a content (RFC 6960 §4.2.1, OCSPResponseStatus).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are those of the RFC")]
pub enum OcspRefusal {
    MalformedRequest = 1,
    InternalError = 2,
    TryLater = 3,
    SigRequired = 5,
    Unauthorized = 6,
}

#[derive(Debug, Clone, Copy)]
enum Status {
    Good,
    Revoked(RevocationReason),
    Unknown,
}

impl OcspAnswer {
    /// The certificate is not revoked.
    pub fn good(issued: &Issued, issuer: &Authority) -> Self {
        Self::about(issued.serial(), issuer, Status::Good)
    }

    /// The certificate was revoked when this was true.
    pub fn revoked(issued: &Issued, issuer: &Authority, reason: RevocationReason) -> Self {
        Self::about(issued.serial(), issuer, Status::Revoked(reason))
    }

    /// The responder does not know the certificate.
    pub fn unknown(issued: &Issued, issuer: &Authority) -> Self {
        Self::about(issued.serial(), issuer, Status::Unknown)
    }

    /// A response that says nothing but why, unsigned.
    pub fn refusal(reason: OcspRefusal) -> Vec<u8> {
        der::sequence(&[der::enumerated(reason as u8)])
    }

    /// Speaks of this serial number instead, big-endian.
    pub fn serial(mut self, serial: &[u8]) -> Self {
        serial.clone_into(&mut self.serial);
        self
    }

    /// Names the certificate by SHA-256 hashes.
    pub fn sha256(mut self) -> Self {
        self.sha256 = true;
        self
    }

    /// True from this time on, whole seconds.
    pub fn this_update(mut self, time: SystemTime) -> Self {
        self.this_update = time.into();
        self
    }

    /// To be asked again by this time, whole seconds.
    pub fn next_update(mut self, time: SystemTime) -> Self {
        self.next_update = Some(time.into());
        self
    }

    /// There may be something newer at any time.
    pub fn without_next_update(mut self) -> Self {
        self.next_update = None;
        self
    }

    /// True two days ago, and until yesterday.
    pub fn stale(mut self) -> Self {
        self.this_update = from_now(-2 * DAY_SECONDS);
        self.next_update = Some(from_now(-DAY_SECONDS));
        self
    }

    /// True from tomorrow on.
    pub fn from_the_future(mut self) -> Self {
        self.this_update = from_now(DAY_SECONDS);
        self.next_update = Some(from_now(2 * DAY_SECONDS));
        self
    }

    /// Names the responder by the hash of its key.
    pub fn by_key(mut self) -> Self {
        self.by_key = true;
        self
    }

    /// Repeats the nonce of a request.
    pub fn nonce(mut self, nonce: &[u8]) -> Self {
        self.nonce = Some(nonce.to_vec());
        self
    }

    /// Adds an extension to what is said about the certificate; `value` is what `extnValue` holds.
    pub fn extension(mut self, kind: &str, critical: bool, value: &[u8]) -> Self {
        self.extensions.push(der::extension(kind, critical, value));
        self
    }

    /// Encloses these certificates, instead of the responder's if it is not the authority.
    pub fn enclosing(mut self, certificates: &[CertificateDer<'static>]) -> Self {
        self.certificates = Some(certificates.to_vec());
        self
    }

    /// Says what `other` says first, in the same response.
    pub fn after(mut self, other: &Self) -> Self {
        self.before.extend(other.before.iter().cloned().chain([other.single_response()]));
        self
    }

    /// Signed by an authority, the right one or another. DER.
    pub fn signed_by_authority(&self, authority: &Authority) -> Vec<u8> {
        self.sign(authority.certificate(), authority.key_pair(), &[])
    }

    /// Signed by a responder that the authority has delegated to, or that pretends it. Its certificate is enclosed. DER.
    pub fn signed_by(&self, responder: &Issued) -> Vec<u8> {
        self.sign(responder.leaf(), responder.key_pair(), &[responder.leaf().clone()])
    }

    fn about(serial: &[u8], issuer: &Authority, status: Status) -> Self {
        Self {
            serial: serial.to_vec(),
            issuer: issuer.certificate().clone(),
            status,
            sha256: false,
            this_update: from_now(-3600),
            next_update: Some(from_now(DAY_SECONDS)),
            by_key: false,
            nonce: None,
            extensions: Vec::new(),
            certificates: None,
            before: Vec::new(),
        }
    }

    fn sign(
        &self,
        responder: &CertificateDer<'_>,
        key: &KeyPair,
        enclosed: &[CertificateDer<'static>],
    ) -> Vec<u8> {
        let to_be_signed = self.response_data(responder);
        let (algorithm, signature) = sign(key, &to_be_signed);
        let mut basic = vec![to_be_signed, algorithm, der::bits(&signature)];
        let enclosed = self.certificates.as_deref().unwrap_or(enclosed);
        if !enclosed.is_empty() {
            let certificates: Vec<_> = enclosed.iter().map(|certificate| certificate.to_vec()).collect();
            basic.push(der::context(0, &der::sequence(&certificates)));
        }
        let bytes = der::sequence(&[der::oid("1.3.6.1.5.5.7.48.1.1"), der::octets(&der::sequence(&basic))]);
        der::sequence(&[der::enumerated(0), der::context(0, &bytes)])
    }

    fn response_data(&self, responder: &CertificateDer<'_>) -> Vec<u8> {
        let responder = match self.by_key {
            // RFC 6960 §4.2.1: always SHA-1, of the key without its tag, length and unused bits.
            true => der::context(2, &der::octets(&sha1(der::public_key(responder)))),
            false => der::context(1, der::subject(responder)),
        };
        let responses = der::sequence(&[&self.before[..], &[self.single_response()]].concat());
        let mut fields = vec![responder, der::generalized_time(self.this_update), responses];
        if let Some(nonce) = &self.nonce {
            let nonce = der::extension("1.3.6.1.5.5.7.48.1.2", false, &der::octets(nonce));
            fields.push(der::context(1, &der::sequence(&[nonce])));
        }
        der::sequence(&fields)
    }

    fn single_response(&self) -> Vec<u8> {
        let (algorithm, kind): (&'static Algorithm, _) = match self.sha256 {
            true => (&SHA256, "2.16.840.1.101.3.4.2.1"),
            false => (&SHA1_FOR_LEGACY_USE_ONLY, "1.3.14.3.2.26"),
        };
        let hash = |bytes: &[u8]| der::octets(digest(algorithm, bytes).as_ref());
        let id = der::sequence(&[
            der::sequence(&[der::oid(kind), der::null()]),
            hash(der::subject(&self.issuer)),
            hash(der::public_key(&self.issuer)),
            der::integer(&self.serial),
        ]);
        let status = match self.status {
            Status::Good => der::context_primitive(0, &[]),
            Status::Revoked(reason) => {
                let reason = der::context(0, &der::enumerated(reason as u8));
                der::context(1, &[der::generalized_time(self.this_update), reason].concat())
            }
            Status::Unknown => der::context_primitive(2, &[]),
        };
        let mut fields = vec![id, status, der::generalized_time(self.this_update)];
        fields.extend(self.next_update.map(|time| der::context(0, &der::generalized_time(time))));
        if !self.extensions.is_empty() {
            fields.push(der::context(1, &der::sequence(&self.extensions)));
        }
        der::sequence(&fields)
    }
}

fn sha1(bytes: &[u8]) -> Vec<u8> {
    digest(&SHA1_FOR_LEGACY_USE_ONLY, bytes).as_ref().to_vec()
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::{KeyType, Leaf, Pki};

    /// What OpenSSL says of a response about `issued`: whether it verifies, and the status in it.
    fn check(response: &[u8], issued: &Issued, root: &Authority) -> String {
        let pki = Pki::new();
        let mut command = Command::new("openssl");
        command
            .args(["ocsp", "-no_nonce", "-CAfile"])
            .arg(pki.write_authorities("ca.pem", &[root]))
            .arg("-issuer")
            .arg(pki.path().join("ca.pem"))
            .arg("-cert")
            .arg(pki.write_pem("leaf", issued).chain)
            .arg("-respin")
            .arg(pki.write("response.der", response));
        let output = command.output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        String::from_utf8_lossy(&text).replace(&*pki.path().to_string_lossy(), "")
    }

    #[test]
    fn openssl_believes_what_is_right() {
        for key in [KeyType::P256, KeyType::P384, KeyType::Ed25519, KeyType::Rsa2048] {
            let root = Authority::root_with_key("Root", key);
            let leaf = root.issue(&Leaf::server("a").serial(&[0xc3, 0, 1]));
            let good = OcspAnswer::good(&leaf, &root);
            let said = check(&good.signed_by_authority(&root), &leaf, &root);
            assert!(said.contains("verify OK") && said.contains(".pem: good"), "{key:?}: {said}");
        }
        let root = Authority::root("Root");
        let leaf = root.issue(&Leaf::server("a"));
        let good = OcspAnswer::good(&leaf, &root);
        let responder = root.issue(&Leaf::ocsp_signer("OCSP"));
        let revoked = OcspAnswer::revoked(&leaf, &root, RevocationReason::KeyCompromise);
        let other = OcspAnswer::good(&root.issue(&Leaf::server("b")), &root);
        for (response, status) in [
            (good.signed_by(&responder), "good"),
            (good.clone().by_key().nonce(&[7; 16]).signed_by(&responder), "good"),
            (good.clone().after(&other).signed_by_authority(&root), "good"),
            (good.without_next_update().signed_by_authority(&root), "good"),
            (revoked.signed_by_authority(&root), "revoked"),
            (OcspAnswer::unknown(&leaf, &root).signed_by_authority(&root), "unknown"),
        ] {
            let said = check(&response, &leaf, &root);
            assert!(said.contains("verify OK") && said.contains(&format!("pem: {status}")), "{said}");
        }
    }

    #[test]
    fn openssl_sees_what_is_wrong() {
        let root = Authority::root("Root");
        let leaf = root.issue(&Leaf::server("a"));
        let good = OcspAnswer::good(&leaf, &root);
        let other = Authority::root("Root");
        let unauthorized = root.issue(&Leaf::client("OCSP"));
        for (response, wrong) in [
            (good.signed_by_authority(&other), "Response Verify Failure"),
            (good.signed_by(&other.issue(&Leaf::ocsp_signer("OCSP"))), "Response Verify Failure"),
            (good.signed_by(&unauthorized), "Response Verify Failure"),
            (good.clone().stale().signed_by_authority(&root), "expired"),
            (good.clone().from_the_future().signed_by_authority(&root), "not yet valid"),
            (good.clone().serial(&[1]).signed_by_authority(&root), "No Status found"),
            (OcspAnswer::good(&leaf, &other).signed_by_authority(&root), "No Status found"),
            // What it asked with was SHA-1.
            (good.sha256().signed_by_authority(&root), "No Status found"),
            (OcspAnswer::refusal(OcspRefusal::TryLater), "trylater (3)"),
        ] {
            let said = check(&response, &leaf, &root);
            assert!(said.contains(wrong), "{wrong}: {said}");
        }
    }
}
