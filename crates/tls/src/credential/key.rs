//! Reads the one private key of a file, plain or encrypted.
//!
//! Hides PEM and who says what about encryption. Never names a byte of a key or of a passphrase in a message.

use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::sign::SigningKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use x509_parser::pem::Pem;

use super::encrypted::{self, OpenError};
use super::{CredentialError, CredentialOptions, CredentialSource, CredentialWarning};
use crate::certificate::contains;

/// The key, fit to sign.
pub(super) fn read_key(
    source: &CredentialSource<'_>,
    options: CredentialOptions<'_>,
    warnings: &mut Vec<CredentialWarning>,
) -> Result<Arc<dyn SigningKey>, CredentialError> {
    let file = || source.key_file.to_owned();
    // RFC 1421 §4.6.1.1. One MD5 stands between a passphrase and such a key, so it is not opened, only explained.
    if contains(source.key_pem, b"Proc-Type: 4,ENCRYPTED") {
        return Err(CredentialError::LegacyEncryptedKey { file: file() });
    }
    let unusable = |detail: String| CredentialError::UnusableKey { file: file(), detail };
    let mut keys = Vec::new();
    for key in PrivateKeyDer::pem_slice_iter(source.key_pem) {
        // The message of the PEM reader names no content of the key.
        keys.push(key.map_err(|error| unusable(error.to_string()))?);
    }
    let mut encrypted = Vec::new();
    if contains(source.key_pem, ENCRYPTED.as_bytes()) {
        for section in Pem::iter_from_buffer(source.key_pem) {
            let section = section.map_err(|error| unusable(error.to_string()))?;
            encrypted.extend((section.label == ENCRYPTED).then_some(section.contents));
        }
    }
    let key = match (keys.pop(), encrypted.pop()) {
        (Some(key), None) if keys.is_empty() => {
            if options.passphrase.is_some() {
                warnings.push(CredentialWarning::PassphraseNotNeeded);
            }
            key
        }
        (None, Some(der)) if encrypted.is_empty() => open(&der, source, options)?,
        (None, None) => return Err(CredentialError::NoKey { file: file(), hint: hint(source.key_pem) }),
        (key, der) => {
            let count =
                keys.len() + encrypted.len() + usize::from(key.is_some()) + usize::from(der.is_some());
            return Err(CredentialError::SeveralKeys { file: file(), count });
        }
    };
    let provider = aws_lc_rs::default_provider();
    provider.key_provider.load_private_key(key).map_err(|error| unusable(error.to_string()))
}

fn open(
    der: &[u8],
    source: &CredentialSource<'_>,
    options: CredentialOptions<'_>,
) -> Result<PrivateKeyDer<'static>, CredentialError> {
    let file = source.key_file.to_owned();
    let Some(passphrase) = options.passphrase else {
        return Err(CredentialError::PassphraseMissing { file });
    };
    let passphrase = without_line_ending(passphrase);
    if passphrase.is_empty() || passphrase.len() > PASSPHRASE_BYTES_MAX {
        return Err(CredentialError::UnusablePassphrase { file, length: passphrase.len() });
    }
    match encrypted::open(der, passphrase) {
        // Not to be wiped any more: it is given away to where keys live.
        Ok(mut key) => Ok(PrivatePkcs8KeyDer::from(std::mem::take(&mut *key)).into()),
        Err(OpenError::Malformed) => {
            let detail = "the block `ENCRYPTED PRIVATE KEY` is damaged".to_owned();
            Err(CredentialError::UnusableKey { file, detail })
        }
        Err(OpenError::Scheme(scheme)) => Err(CredentialError::UnsupportedEncryption { file, scheme }),
        Err(OpenError::Cost { what, value, max }) => {
            Err(CredentialError::CostlyKey { file, what, value, max })
        }
        Err(OpenError::Passphrase) => Err(CredentialError::WrongPassphrase { file }),
    }
}

/// Editors and `echo` end a file with a line ending that belongs to no passphrase. One is dropped; all other bytes
/// count, whatever they are, as `openssl` takes them too.
fn without_line_ending(passphrase: &[u8]) -> &[u8] {
    let Some(line) = passphrase.strip_suffix(b"\n") else { return passphrase };
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// What a file without a key seems to hold instead.
fn hint(key_pem: &[u8]) -> &'static str {
    if key_pem.is_empty() {
        ": it is empty"
    } else if contains(key_pem, b"BEGIN CERTIFICATE") {
        ", but a certificate; were `chain` and `key` swapped?"
    } else if key_pem.first() == Some(&0x30) {
        ", but probably one in DER; convert it with `openssl pkey -inform DER`"
    } else {
        ""
    }
}

/// RFC 7468 §11.
const ENCRYPTED: &str = "ENCRYPTED PRIVATE KEY";

/// Longest passphrase. OpenSSL takes as much from a file (`PEM_BUFSIZE`).
pub(super) const PASSPHRASE_BYTES_MAX: usize = 1024;
