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
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use webpki::{EndEntityCert, KeyUsage};

use crate::certificate::{
    Certificate, Purpose, contains, holds_private_key, read_certificates, unix_seconds,
};
use crate::digest::sha256;

mod error;

pub use error::{CredentialError, CredentialWarning};

/// The contents of a certificate file and a key file, and what to call them.
#[derive(Clone, Copy)]
pub struct CredentialSource<'a> {
    /// Label of the certificate file.
    pub chain_file: &'a Path,
    /// PEM: the leaf first, then the CA that issued it, and so on. The root may be left out.
    pub chain_pem: &'a [u8],
    /// Label of the key file.
    pub key_file: &'a Path,
    /// PEM: one unencrypted private key as PKCS#8, SEC1 or PKCS#1.
    pub key_pem: &'a [u8],
}

/// Exceptions that a configuration may make.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CredentialOptions {
    /// Serve with an expired certificate (`danger_allow_expired_certificate`). It becomes a warning.
    pub allow_expired: bool,
}

/// A certificate chain with its key, fit to be served.
pub struct Credential {
    certified_key: Arc<CertifiedKey>,
    subject: String,
    names: Vec<String>,
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
        options: CredentialOptions,
        now: UnixTime,
    ) -> Result<Self, CredentialError> {
        let file = source.chain_file.to_owned();
        let chain = read_chain(source)?;
        let parsed = parse_chain(&chain, source)?;
        let key = read_key(source)?;
        let certified_key = match_key(&chain, key, source)?;

        let mut warnings = Vec::new();
        check_validity(&parsed, source, options, now, &mut warnings)?;
        check_order(&parsed, source)?;
        check_signatures(&chain, &parsed, source, now)?;
        let leaf = &parsed[0];
        let unparsable = |detail| CredentialError::Unparsable { file: file.clone(), position: 1, detail };
        // RFC 5280 §4.2.1.12: without the extension any purpose goes.
        if leaf.server_auth().map_err(unparsable)? == Purpose::NotListed {
            return Err(CredentialError::NotForServers { file });
        }
        let names = leaf.host_names().map_err(unparsable)?;
        if names.is_empty() {
            warnings.push(CredentialWarning::NoNames);
        }
        note_completeness(&parsed, &mut warnings);
        Ok(Self {
            certified_key: Arc::new(certified_key),
            subject: leaf.subject(),
            names,
            fingerprint_sha256: sha256(&chain[0]),
            not_before_unix: parsed.iter().map(Certificate::not_before_unix).max().unwrap_or(i64::MAX),
            not_after_unix: parsed.iter().map(Certificate::not_after_unix).min().unwrap_or(0),
            warnings,
        })
    }

    /// Subject of the leaf by RFC 4514, cut at 512 bytes.
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// The DNS names (lower case) and IP addresses that the leaf is valid for.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// SHA-256 of the leaf's DER.
    pub fn fingerprint_sha256(&self) -> &[u8; 32] {
        &self.fingerprint_sha256
    }

    /// When the last certificate of the chain became valid, seconds since 1970.
    pub fn not_before_unix(&self) -> i64 {
        self.not_before_unix
    }

    /// When the first certificate of the chain expires, seconds since 1970.
    pub fn not_after_unix(&self) -> i64 {
        self.not_after_unix
    }

    /// What deserves a look.
    pub fn warnings(&self) -> &[CredentialWarning] {
        &self.warnings
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
            return self.names.contains(&address);
        }
        let wildcard = host.split_once('.').map(|(_, parent)| format!("*.{parent}"));
        self.names.iter().any(|name| *name == host || Some(name) == wildcard.as_ref())
    }

    /// Those of a host's `names` that [`covers`](Self::covers) denies.
    pub fn uncovered<'n>(&self, names: impl IntoIterator<Item = &'n str>) -> Vec<&'n str> {
        names.into_iter().filter(|name| !self.covers(name)).collect()
    }

    pub(crate) fn certified_key(&self) -> &Arc<CertifiedKey> {
        &self.certified_key
    }
}

impl fmt::Debug for Credential {
    // Never the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credential")
            .field("subject", &self.subject)
            .field("names", &self.names)
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

fn read_key(source: &CredentialSource<'_>) -> Result<PrivateKeyDer<'static>, CredentialError> {
    let file = || source.key_file.to_owned();
    // PKCS#8 has a PEM label of its own for it (RFC 7468 §11); the older forms of OpenSSL have a header (RFC
    // 1421 §4.6.1.1).
    let encrypted = [&b"BEGIN ENCRYPTED PRIVATE KEY"[..], b"Proc-Type: 4,ENCRYPTED"];
    if encrypted.iter().any(|marker| contains(source.key_pem, marker)) {
        return Err(CredentialError::EncryptedKey { file: file() });
    }
    let mut keys = Vec::new();
    for key in PrivateKeyDer::pem_slice_iter(source.key_pem) {
        // The message of the PEM reader names no content of the key.
        keys.push(
            key.map_err(|error| CredentialError::UnusableKey { file: file(), detail: error.to_string() })?,
        );
    }
    match keys.len() {
        0 => {
            let hint = if source.key_pem.is_empty() {
                ": it is empty"
            } else if contains(source.key_pem, b"BEGIN CERTIFICATE") {
                ", but a certificate; were `chain` and `key` swapped?"
            } else if source.key_pem.first() == Some(&0x30) {
                ", but probably one in DER; convert it with `openssl pkey -inform DER`"
            } else {
                ""
            };
            Err(CredentialError::NoKey { file: file(), hint })
        }
        1 => Ok(keys.remove(0)),
        count => Err(CredentialError::SeveralKeys { file: file(), count }),
    }
}

fn match_key(
    chain: &[CertificateDer<'static>],
    key: PrivateKeyDer<'static>,
    source: &CredentialSource<'_>,
) -> Result<CertifiedKey, CredentialError> {
    let unusable = |detail: String| CredentialError::UnusableKey { file: source.key_file.to_owned(), detail };
    let provider = aws_lc_rs::default_provider();
    let key = provider.key_provider.load_private_key(key).map_err(|error| unusable(error.to_string()))?;
    let public = key.public_key().ok_or_else(|| unusable("its public part cannot be derived".to_owned()))?;
    let belongs = |der: &CertificateDer<'_>| {
        EndEntityCert::try_from(der).is_ok_and(|certificate| certificate.subject_public_key_info() == public)
    };
    match chain.iter().position(belongs) {
        Some(0) => Ok(CertifiedKey::new(chain.to_vec(), key)),
        Some(index) => {
            Err(CredentialError::LeafNotFirst { file: source.chain_file.to_owned(), position: index + 1 })
        }
        None => Err(CredentialError::KeyMismatch {
            chain_file: source.chain_file.to_owned(),
            key_file: source.key_file.to_owned(),
        }),
    }
}

fn check_validity(
    chain: &[Certificate<'_>],
    source: &CredentialSource<'_>,
    options: CredentialOptions,
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

fn check_order(chain: &[Certificate<'_>], source: &CredentialSource<'_>) -> Result<(), CredentialError> {
    for (index, pair) in chain.windows(2).enumerate() {
        if pair[0].issuer_der() != pair[1].subject_der() {
            return Err(CredentialError::BrokenChain {
                file: source.chain_file.to_owned(),
                position: index + 1,
                issuer: pair[0].issuer(),
                next: pair[1].subject(),
            });
        }
    }
    Ok(())
}

/// Verifies the chain up to its last certificate, which nothing in the file can vouch for.
fn check_signatures(
    chain: &[CertificateDer<'static>],
    parsed: &[Certificate<'_>],
    source: &CredentialSource<'_>,
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
    match leaf.verify_for_usage(
        algorithms.all,
        &anchors,
        intermediates,
        at,
        KeyUsage::server_auth(),
        None,
        None,
    ) {
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
mod tests;
