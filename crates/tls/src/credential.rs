//! A host's own certificate chain and private key, checked before anyone is served with them.
//!
//! Hides PEM, key formats and the rules of a server certificate. It reads bytes, never files; paths are
//! labels for messages. Never keeps a key that does not belong to its certificate, never repairs a chain.

use std::fmt;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::aws_lc_rs;
use rustls::sign::{CertifiedKey, SigningKey};
use rustls_pki_types::{CertificateDer, UnixTime};
use webpki::{EndEntityCert, KeyUsage};

use self::key::read_key;
use self::order::check_order;
use crate::certificate::{
    Certificate, PublicKey, Purpose, contains, holds_private_key, read_certificates, unix_seconds,
};
use crate::digest::sha256;
use crate::path::is_fetchable;
use crate::staple::Staple;
use crate::trust::KeyKind;

mod encrypted;
mod error;
mod key;
mod order;
mod set;

pub use error::{CredentialError, CredentialWarning};
pub use set::{CredentialSet, CredentialSetError};

/// The contents of a certificate file and a key file, and what to call them.
#[derive(Clone, Copy)]
pub struct CredentialSource<'a> {
    /// Label of the certificate file.
    pub chain_file: &'a Path,
    /// PEM: the leaf first, then the CA that issued it, and so on. The root may be left out.
    pub chain_pem: &'a [u8],
    /// Label of the key file.
    pub key_file: &'a Path,
    /// PEM: one private key as PKCS#8, SEC1 or PKCS#1, or encrypted as PKCS#8 by PBES2 (PBKDF2 or scrypt with AES).
    pub key_pem: &'a [u8],
}

/// What a configuration adds to the files.
#[derive(Clone, Copy, Default)]
pub struct CredentialOptions<'a> {
    /// Serve with an expired certificate (`danger_allow_expired_certificate`). It becomes a warning.
    pub allow_expired: bool,
    /// Opens the key if it is encrypted: bytes as a file has them. One line ending at their end, LF or CR LF, is
    /// dropped, as editors put it there; everything else counts. At most 1024 bytes.
    pub passphrase: Option<&'a [u8]>,
    /// It is presented to upstreams, which ask clients for it, and not to clients.
    pub for_upstreams: bool,
}

/// A certificate chain with its key, fit to be served. Cheap to clone.
#[derive(Clone)]
pub struct Credential {
    certified_key: Arc<CertifiedKey>,
    pub(crate) staple: Option<Arc<Staple>>,
    facts: Arc<Facts>,
}

/// What the certificates say.
struct Facts {
    subject: String,
    names: Vec<String>,
    key_kind: KeyKind,
    serial_octets: Vec<u8>,
    ocsp_urls: Vec<Box<str>>,
    requires_staple: bool,
    fingerprint_sha256: [u8; 32],
    not_before_unix: i64,
    not_after_unix: i64,
    warnings: Vec<CredentialWarning>,
}

impl Credential {
    /// Reads and checks a chain with its key.
    ///
    /// # Errors
    ///
    /// The first [`CredentialError`] found. What is merely doubtful is in [`warnings`](Self::warnings).
    pub fn from_pem(
        source: &CredentialSource<'_>,
        options: CredentialOptions<'_>,
        now: UnixTime,
    ) -> Result<Self, CredentialError> {
        let file = source.chain_file.to_owned();
        let chain = read_chain(source)?;
        let parsed = parse_chain(&chain, source)?;
        let mut warnings = Vec::new();
        let key = read_key(source, options, &mut warnings)?;
        check_order(&parsed, match_key(&chain, &*key, source)?, source)?;
        check_validity(&parsed, source, options, now, &mut warnings)?;
        check_signatures(&chain, &parsed, source, options, now)?;
        let leaf = &parsed[0];
        let unparsable = |detail| CredentialError::Unparsable { file: file.clone(), position: 1, detail };
        check_purpose(leaf, options, &file)?;
        let Some(PublicKey { kind: key_kind, .. }) = leaf.public_key() else {
            return Err(unparsable("its key is of a kind that TLS cannot use".to_owned()));
        };
        let names = leaf.host_names().map_err(unparsable)?;
        if names.is_empty() && !options.for_upstreams {
            warnings.push(CredentialWarning::NoNames);
        }
        let requires_staple = leaf.requires_staple().map_err(unparsable)?;
        note_completeness(&parsed, &mut warnings);
        let facts = Facts {
            subject: leaf.subject(),
            names,
            key_kind,
            serial_octets: leaf.serial_octets().to_vec(),
            ocsp_urls: leaf.ocsp_urls().filter(|url| is_fetchable(url)).map(Into::into).collect(),
            requires_staple,
            fingerprint_sha256: sha256(&chain[0]),
            not_before_unix: parsed.iter().map(Certificate::not_before_unix).max().unwrap_or(i64::MAX),
            not_after_unix: parsed.iter().map(Certificate::not_after_unix).min().unwrap_or(0),
            warnings,
        };
        let certified_key = Arc::new(CertifiedKey::new(chain, key));
        Ok(Self { certified_key, staple: None, facts: Arc::new(facts) })
    }

    /// Subject of the leaf by RFC 4514, cut at 512 bytes.
    pub fn subject(&self) -> &str {
        &self.facts.subject
    }

    /// The DNS names (lower case) and IP addresses that the leaf is valid for.
    pub fn names(&self) -> &[String] {
        &self.facts.names
    }

    /// SHA-256 of the leaf's DER.
    pub fn fingerprint_sha256(&self) -> &[u8; 32] {
        &self.facts.fingerprint_sha256
    }

    /// When the last certificate of the chain became valid, seconds since 1970.
    pub fn not_before_unix(&self) -> i64 {
        self.facts.not_before_unix
    }

    /// When the first certificate of the chain expires, seconds since 1970.
    pub fn not_after_unix(&self) -> i64 {
        self.facts.not_after_unix
    }

    /// What kind of key it has. A host presents at most one credential of each kind.
    pub fn key_kind(&self) -> KeyKind {
        self.facts.key_kind
    }

    /// What deserves a look.
    pub fn warnings(&self) -> &[CredentialWarning] {
        &self.facts.warnings
    }

    /// True if clients that connect to `host` accept this certificate's names. `host` is a host name, a
    /// wildcard pattern such as `*.example.com`, or an IP address; letter case and a trailing dot do not
    /// matter.
    ///
    /// RFC 9525 §6.3: a wildcard stands for exactly one label. Common names do not count.
    pub fn covers(&self, host: &str) -> bool {
        let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
        let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(&host);
        if let Ok(address) = bare.parse::<IpAddr>() {
            let address = address.to_string();
            return self.facts.names.contains(&address);
        }
        let wildcard = host.split_once('.').map(|(_, parent)| format!("*.{parent}"));
        self.facts.names.iter().any(|name| *name == host || Some(name) == wildcard.as_ref())
    }

    /// Those of a host's `names` that [`covers`](Self::covers) denies.
    pub fn uncovered<'n>(&self, names: impl IntoIterator<Item = &'n str>) -> Vec<&'n str> {
        names.into_iter().filter(|name| !self.covers(name)).collect()
    }

    /// The certificate that names the host.
    pub fn leaf(&self) -> &CertificateDer<'static> {
        &self.certified_key.cert[0]
    }

    /// The CA certificate that has signed the leaf, if it is in the chain.
    pub fn issuer(&self) -> Option<&CertificateDer<'static>> {
        self.certified_key.cert.get(1)
    }

    /// Where the leaf says that its OCSP responders are (authorityInfoAccess), as far as they can be asked: `http` or
    /// `https`, at most 1024 bytes.
    pub fn ocsp_urls(&self) -> &[Box<str>] {
        &self.facts.ocsp_urls
    }

    /// True if the leaf demands that an OCSP response is shown with it (TLS feature `status_request`, RFC 7633): clients
    /// may refuse it otherwise.
    pub fn requires_staple(&self) -> bool {
        self.facts.requires_staple
    }

    /// The staple that is shown with it as long as it is usable.
    pub fn staple(&self) -> Option<&Arc<Staple>> {
        self.staple.as_ref()
    }

    /// The serial number of the leaf as the certificate has it.
    pub(crate) fn serial_octets(&self) -> &[u8] {
        &self.facts.serial_octets
    }

    pub(crate) fn certified_key(&self) -> &Arc<CertifiedKey> {
        &self.certified_key
    }
}

impl fmt::Debug for CredentialOptions<'_> {
    // Never the passphrase.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CredentialOptions")
            .field("allow_expired", &self.allow_expired)
            .field("passphrase", &self.passphrase.map(|_| "..."))
            .field("for_upstreams", &self.for_upstreams)
            .finish()
    }
}

impl fmt::Debug for Credential {
    // Never the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credential")
            .field("subject", &self.facts.subject)
            .field("names", &self.facts.names)
            .finish_non_exhaustive()
    }
}

fn read_chain(source: &CredentialSource<'_>) -> Result<Vec<CertificateDer<'static>>, CredentialError> {
    let file = || source.chain_file.to_owned();
    let mut chain = Vec::new();
    for (index, certificate) in read_certificates(source.chain_pem).into_iter().enumerate() {
        chain.push(certificate.map_err(|error| CredentialError::Unparsable {
            file: file(),
            position: index + 1,
            detail: error.to_string(),
        })?);
    }
    if chain.is_empty() {
        let hint = if source.chain_pem.is_empty() {
            ": it is empty"
        } else if contains(source.chain_pem, b"BEGIN TRUSTED CERTIFICATE") {
            ", but OpenSSL's own trusted form; convert it with `openssl x509`"
        } else if holds_private_key(source.chain_pem) {
            ", but a private key; were `chain` and `key` swapped?"
        } else {
            ""
        };
        return Err(CredentialError::NoCertificate { file: file(), hint });
    }
    Ok(chain)
}

fn parse_chain<'a>(
    chain: &'a [CertificateDer<'static>],
    source: &CredentialSource<'_>,
) -> Result<Vec<Certificate<'a>>, CredentialError> {
    let parse = |(index, der): (usize, &'a CertificateDer<'static>)| {
        Certificate::parse(der).map_err(|detail| CredentialError::Unparsable {
            file: source.chain_file.to_owned(),
            position: index + 1,
            detail,
        })
    };
    chain.iter().enumerate().map(parse).collect()
}

/// Which of the certificates the key belongs to.
fn match_key(
    chain: &[CertificateDer<'static>],
    key: &dyn SigningKey,
    source: &CredentialSource<'_>,
) -> Result<usize, CredentialError> {
    let Some(public) = key.public_key() else {
        let detail = "its public part cannot be derived".to_owned();
        return Err(CredentialError::UnusableKey { file: source.key_file.to_owned(), detail });
    };
    let belongs = |der: &CertificateDer<'_>| {
        EndEntityCert::try_from(der).is_ok_and(|certificate| certificate.subject_public_key_info() == public)
    };
    chain.iter().position(belongs).ok_or_else(|| CredentialError::KeyMismatch {
        chain_file: source.chain_file.to_owned(),
        key_file: source.key_file.to_owned(),
    })
}

fn check_validity(
    chain: &[Certificate<'_>],
    source: &CredentialSource<'_>,
    options: CredentialOptions<'_>,
    now: UnixTime,
    warnings: &mut Vec<CredentialWarning>,
) -> Result<(), CredentialError> {
    let now = unix_seconds(now);
    for (index, certificate) in chain.iter().enumerate() {
        let (file, position, subject) = (source.chain_file.to_owned(), index + 1, certificate.subject());
        let (not_before_unix, not_after_unix) = (certificate.not_before_unix(), certificate.not_after_unix());
        if now < not_before_unix {
            return Err(CredentialError::NotYetValid { file, position, subject, not_before_unix });
        }
        if now > not_after_unix {
            if !options.allow_expired {
                return Err(CredentialError::Expired { file, position, subject, not_after_unix });
            }
            warnings.push(CredentialWarning::Expired { subject, not_after_unix });
        }
    }
    Ok(())
}

/// RFC 5280 §4.2.1.12: without the extension any purpose goes.
fn check_purpose(
    leaf: &Certificate<'_>,
    options: CredentialOptions<'_>,
    file: &Path,
) -> Result<(), CredentialError> {
    let file = || file.to_owned();
    let unparsable = |detail| CredentialError::Unparsable { file: file(), position: 1, detail };
    let purpose = if options.for_upstreams { leaf.client_auth() } else { leaf.server_auth() };
    match (purpose.map_err(unparsable)?, options.for_upstreams) {
        (Purpose::NotListed, true) => Err(CredentialError::NotForClients { file: file() }),
        (Purpose::NotListed, false) => Err(CredentialError::NotForServers { file: file() }),
        _ => Ok(()),
    }
}

/// Verifies the chain up to its last certificate, which nothing in the file can vouch for.
fn check_signatures(
    chain: &[CertificateDer<'static>],
    parsed: &[Certificate<'_>],
    source: &CredentialSource<'_>,
    options: CredentialOptions<'_>,
    now: UnixTime,
) -> Result<(), CredentialError> {
    let ([leaf, intermediates @ .., last], [_, ..]) = (chain, parsed) else { return Ok(()) };
    let invalid = |error: webpki::Error| CredentialError::InvalidChain {
        file: source.chain_file.to_owned(),
        detail: error.to_string(),
    };
    // Validity has been judged. An expired chain that is allowed is checked as of when all of it was valid,
    // if ever it was.
    let latest_start = parsed.iter().map(Certificate::not_before_unix).max().unwrap_or(i64::MAX);
    let earliest_end = parsed.iter().map(Certificate::not_after_unix).min().unwrap_or(0);
    if latest_start > earliest_end {
        return Ok(());
    }
    let time = unix_seconds(now).clamp(latest_start, earliest_end).max(0).unsigned_abs();
    let leaf = EndEntityCert::try_from(leaf).map_err(invalid)?;
    let anchor = webpki::anchor_from_trusted_cert(last).map_err(invalid)?;
    let algorithms = aws_lc_rs::default_provider().signature_verification_algorithms;
    let anchors = [anchor];
    let at = UnixTime::since_unix_epoch(Duration::from_secs(time));
    let usage = if options.for_upstreams { KeyUsage::client_auth() } else { KeyUsage::server_auth() };
    match leaf.verify_for_usage(algorithms.all, &anchors, intermediates, at, usage, None, None) {
        // Told apart later, in words of its own.
        Ok(_) | Err(webpki::Error::RequiredEkuNotFoundContext(_)) => Ok(()),
        Err(error) => Err(invalid(error)),
    }
}

fn note_completeness(chain: &[Certificate<'_>], warnings: &mut Vec<CredentialWarning>) {
    let (leaf, last) = (&chain[0], &chain[chain.len() - 1]);
    let last_is_self_issued = last.issuer_der() == last.subject_der();
    match (chain.len(), last_is_self_issued) {
        (1, true) => warnings.push(CredentialWarning::SelfSigned),
        (1, false) => warnings.push(CredentialWarning::LeafOnly { issuer: leaf.issuer() }),
        (_, true) => warnings.push(CredentialWarning::RootIncluded { subject: last.subject() }),
        (_, false) => {}
    }
}

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
