//! Certificate revocation lists, right and wrong (RFC 5280 §5).

use std::time::SystemTime;

use time::OffsetDateTime;

use super::leaf::{DAY_SECONDS, from_now};
use super::{Authority, Issued, der, pem, sign};

/// A list to be [signed](Authority::sign_crl). Has the number 1, no entries, was issued an hour ago and is valid for a
/// week unless told otherwise.
///
/// ```
/// use ringward_testkit::{Authority, Crl, Leaf, RevocationReason};
///
/// let root = Authority::root("Root");
/// let client = root.issue(&Leaf::client("partner-a"));
/// let der = root.sign_crl(&Crl::new().number(7).revoke_for(client.serial(), RevocationReason::KeyCompromise));
/// let delta = root.sign_crl(&Crl::new().number(8).delta_of(7).revoke(&[0x42]));
/// // The right name on it, and the wrong signature.
/// let forged = Authority::root("Root").sign_crl(&Crl::new());
/// ```
#[derive(Debug, Clone)]
pub struct Crl {
    version_1: bool,
    this_update: OffsetDateTime,
    next_update: Option<OffsetDateTime>,
    number: Option<u64>,
    /// DER, one after the other: a million of them take 35 MB.
    entries: Vec<u8>,
    extensions: Vec<Vec<u8>>,
}

/// Why a certificate was revoked (RFC 5280 §5.3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are those of the RFC")]
pub enum RevocationReason {
    Unspecified = 0,
    KeyCompromise = 1,
    CaCompromise = 2,
    AffiliationChanged = 3,
    Superseded = 4,
    CessationOfOperation = 5,
    CertificateHold = 6,
    RemoveFromCrl = 8,
    PrivilegeWithdrawn = 9,
}

impl Crl {
    /// An empty list.
    #[allow(clippy::new_without_default)]
    pub fn new() -> Self {
        Self {
            version_1: false,
            this_update: from_now(-HOUR_SECONDS),
            next_update: Some(from_now(7 * DAY_SECONDS)),
            number: Some(1),
            entries: Vec::new(),
            extensions: Vec::new(),
        }
    }

    /// With this cRLNumber.
    pub fn number(mut self, number: u64) -> Self {
        self.number = Some(number);
        self
    }

    /// Without a cRLNumber.
    pub fn without_number(mut self) -> Self {
        self.number = None;
        self
    }

    /// Makes it a delta of the list with this number (deltaCRLIndicator, critical).
    pub fn delta_of(self, base: u64) -> Self {
        self.extension("2.5.29.27", true, &der::integer(&base.to_be_bytes()))
    }

    /// Adds a serial number, big-endian, without a reason.
    pub fn revoke(self, serial: &[u8]) -> Self {
        self.entry(serial, &[])
    }

    /// Adds a serial number with a reason.
    pub fn revoke_for(self, serial: &[u8], reason: RevocationReason) -> Self {
        let reason = der::extension("2.5.29.21", false, &der::enumerated(reason as u8));
        self.entry(serial, &[reason])
    }

    /// Adds a serial number with these `Extension`s, for what the others cannot express.
    pub fn entry(mut self, serial: &[u8], extensions: &[Vec<u8>]) -> Self {
        let mut fields = vec![der::integer(serial), der::time(self.this_update)];
        if !extensions.is_empty() {
            fields.push(der::sequence(extensions));
        }
        self.entries.extend(der::sequence(&fields));
        self
    }

    /// Issued at this time, whole seconds. Entries added from now on have it as their date.
    pub fn this_update(mut self, time: SystemTime) -> Self {
        self.this_update = time.into();
        self
    }

    /// Superseded by this time, whole seconds.
    pub fn next_update(mut self, time: SystemTime) -> Self {
        self.next_update = Some(time.into());
        self
    }

    /// Without nextUpdate, which RFC 5280 demands.
    pub fn without_next_update(mut self) -> Self {
        self.next_update = None;
        self
    }

    /// Issued two days ago, and superseded a day later.
    pub fn stale(mut self) -> Self {
        self.this_update = from_now(-2 * DAY_SECONDS);
        self.next_update = Some(from_now(-DAY_SECONDS));
        self
    }

    /// Adds an extension by its dotted type; `value` is what `extnValue` holds.
    pub fn extension(mut self, kind: &str, critical: bool, value: &[u8]) -> Self {
        self.extensions.push(der::extension(kind, critical, value));
        self
    }

    /// Of version 1, which has no extensions: neither number nor reasons may be written.
    pub fn version_1(mut self) -> Self {
        self.version_1 = true;
        self.without_number()
    }

    fn to_be_signed(&self, issuer: &[u8], algorithm: &[u8]) -> Vec<u8> {
        let mut fields = Vec::new();
        if !self.version_1 {
            fields.push(der::integer(&[1]));
        }
        fields.extend([algorithm.to_vec(), issuer.to_vec(), der::time(self.this_update)]);
        fields.extend(self.next_update.map(der::time));
        // RFC 5280 §5.1.2.6: absent when nothing is revoked.
        if !self.entries.is_empty() {
            fields.push(der::tlv(0x30, &self.entries));
        }
        let number = self
            .number
            .map(|number| der::extension("2.5.29.20", false, &der::integer(&number.to_be_bytes())));
        let extensions: Vec<_> = number.into_iter().chain(self.extensions.iter().cloned()).collect();
        if !extensions.is_empty() {
            fields.push(der::context(0, &der::sequence(&extensions)));
        }
        der::sequence(&fields)
    }
}

impl Authority {
    /// Signs a list, whether it makes sense or not. DER.
    pub fn sign_crl(&self, crl: &Crl) -> Vec<u8> {
        // The algorithm is named within what it signs.
        let (algorithm, _) = sign(self.key_pair(), b"");
        let to_be_signed = crl.to_be_signed(der::subject(self.certificate()), &algorithm);
        let (_, signature) = sign(self.key_pair(), &to_be_signed);
        der::sequence(&[to_be_signed, algorithm, der::bits(&signature)])
    }

    /// The same as PEM.
    pub fn sign_crl_pem(&self, crl: &Crl) -> String {
        pem("X509 CRL", &self.sign_crl(crl))
    }
}

impl Issued {
    /// A list under the name of `authority`, signed by this certificate's key: what an indirect or a forged CRL is.
    pub fn sign_crl_for(&self, authority: &Authority, crl: &Crl) -> Vec<u8> {
        let (algorithm, _) = sign(self.key_pair(), b"");
        let to_be_signed = crl.to_be_signed(der::subject(authority.certificate()), &algorithm);
        let (_, signature) = sign(self.key_pair(), &to_be_signed);
        der::sequence(&[to_be_signed, algorithm, der::bits(&signature)])
    }
}

const HOUR_SECONDS: i64 = 3600;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{KeyType, Pki, openssl};

    /// What OpenSSL reads in a list.
    fn text(der: &[u8]) -> String {
        String::from_utf8(openssl(["crl", "-inform", "DER", "-noout", "-text"], der)).unwrap()
    }

    /// Whether OpenSSL says that the authority has signed it.
    fn is_signed_by(authority: &Authority, crl: &[u8]) -> bool {
        let pki = Pki::new();
        let ca = pki.write_authorities("ca.pem", &[authority]);
        let crl = pki.write("list.crl", crl);
        let mut command = std::process::Command::new("openssl");
        command.args(["crl", "-inform", "DER", "-noout", "-in"]).arg(crl).arg("-CAfile").arg(ca);
        let output = command.output().unwrap();
        String::from_utf8_lossy(&output.stderr).contains("verify OK")
    }

    #[test]
    fn lists_are_what_openssl_reads() {
        for key in [KeyType::P256, KeyType::P384, KeyType::P521, KeyType::Ed25519, KeyType::Rsa2048] {
            let root = Authority::root_with_key("Root", key);
            let crl = Crl::new()
                .number(0x1234)
                .revoke(&[0x0a])
                .revoke_for(&[0xff; 20], RevocationReason::KeyCompromise);
            let der = root.sign_crl(&crl);
            let text = text(&der);
            for part in [
                "Version 2",
                "CN = Root",
                "Serial Number: 0A",
                "Key Compromise",
                "CRL Number: \n                4660",
            ] {
                assert!(text.contains(part), "{key:?}: {part}: {text}");
            }
            assert!(is_signed_by(&root, &der), "{key:?}");
            assert!(!is_signed_by(&Authority::root_with_key("Root", key), &der), "{key:?}");
        }
    }

    #[test]
    fn lists_can_be_wrong() {
        let root = Authority::root("Root");
        let delta = text(&root.sign_crl(&Crl::new().number(8).delta_of(7)));
        assert!(delta.contains("Delta CRL Indicator: critical") && delta.contains("No Revoked Certificates"));
        assert!(text(&root.sign_crl(&Crl::new().without_next_update())).contains("Next Update: NONE"));
        let old = text(&root.sign_crl(&Crl::new().version_1().revoke(&[1])));
        assert!(old.contains("Version 1") && !old.contains("CRL Number"), "{old}");
        let client = root.issue(&crate::Leaf::client("a"));
        assert!(!is_signed_by(&root, &client.sign_crl_for(&root, &Crl::new())));
        let pem = root.sign_crl_pem(&Crl::new());
        assert!(pem.starts_with("-----BEGIN X509 CRL-----\n"));
    }

    #[test]
    fn a_long_list_is_made_in_a_moment() {
        let crl = (0..100_000_u32).fold(Crl::new(), |crl, serial| crl.revoke(&serial.to_be_bytes()));
        let der = Authority::root("Root").sign_crl(&crl);
        assert!(text(&der).contains("Serial Number: 01869F"));
    }
}
