//! Opens a PKCS#8 private key that is encrypted with a passphrase (RFC 5958 §3, PBES2 of RFC 8018).
//!
//! Hides the schemes. The parameters of a file decide how much time and memory its opening takes, so they are
//! held against limits before anything is computed: a file can be refused, and cannot hang its reader.

use std::num::NonZeroU32;

use aws_lc_rs::cipher::{
    AES_128, AES_192, AES_256, Algorithm as Cipher, DecryptionContext, PaddedBlockDecryptingKey,
    UnboundCipherKey,
};
use aws_lc_rs::iv::FixedLength;
use aws_lc_rs::pbkdf2;
use x509_parser::asn1_rs::{Any, Class, FromDer, Oid, Tag, oid};
use zeroize::Zeroizing;

/// Why a key stays closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum OpenError {
    /// Not an EncryptedPrivateKeyInfo.
    Malformed,
    /// Encrypted in a way that is not known here. Dotted decimal.
    Scheme(String),
    /// More work than anybody should ask for.
    Cost { what: &'static str, value: u64, max: u64 },
    /// What comes out is no key.
    Passphrase,
}

/// The private key in `der`, an EncryptedPrivateKeyInfo, as DER of a PrivateKeyInfo (PKCS#8).
///
/// What comes out with a wrong passphrase is noise. It is returned once in 2^24 times or less, and is no key then.
pub(super) fn open(der: &[u8], passphrase: &[u8]) -> Result<Zeroizing<Vec<u8>>, OpenError> {
    let mut outer = Fields::within(der)?;
    let (scheme, parameters) = outer.algorithm()?;
    let mut text = Zeroizing::new(outer.take(Tag::OctetString)?.to_vec());
    outer.end()?;
    if scheme != PBES2 {
        return Err(OpenError::Scheme(scheme.to_id_string()));
    }
    let mut parameters = Fields::inside(parameters, Tag::Sequence)?;
    let (derivation, derivation_parameters) = parameters.algorithm()?;
    let (encryption, iv) = parameters.algorithm()?;
    parameters.end()?;

    let cipher = cipher(&encryption).ok_or_else(|| OpenError::Scheme(encryption.to_id_string()))?;
    let mut iv = Fields(iv);
    let block: [u8; BLOCK] = iv.take(Tag::OctetString)?.try_into().map_err(|_| OpenError::Malformed)?;
    iv.end()?;
    let derivation = Derivation::read(&derivation, derivation_parameters, key_length(cipher))?;
    let key = derivation.derive(passphrase, key_length(cipher))?;

    let key = UnboundCipherKey::new(cipher, &key).and_then(PaddedBlockDecryptingKey::cbc_pkcs7);
    let key = key.map_err(|_| OpenError::Malformed)?;
    let context = DecryptionContext::Iv128(FixedLength::from(block));
    let length = key.decrypt(&mut text, context).map_err(|_| OpenError::Passphrase)?.len();
    text.truncate(length);
    // Noise ends like a padding once in 256 times, and is a SEQUENCE besides hardly ever.
    Fields::within(&text).map_err(|_| OpenError::Passphrase)?;
    Ok(text)
}

/// How the key of the cipher comes from the passphrase, within the limits.
enum Derivation<'a> {
    Pbkdf2 { salt: &'a [u8], iterations: NonZeroU32, prf: pbkdf2::Algorithm },
    Scrypt { salt: &'a [u8], parameters: scrypt::Params },
}

impl<'a> Derivation<'a> {
    fn read(kind: &Oid<'_>, parameters: &'a [u8], key_length: usize) -> Result<Self, OpenError> {
        let mut fields = Fields::inside(parameters, Tag::Sequence)?;
        // A salt from another source, the alternative in PBKDF2, is not in use anywhere.
        let salt = fields.take(Tag::OctetString)?;
        let derivation = if *kind == PBKDF2 {
            let iterations = fields.natural()?;
            limit("PBKDF2 iterations", iterations, PBKDF2_ITERATIONS_MAX)?;
            let iterations = u32::try_from(iterations).ok().and_then(NonZeroU32::new);
            fields.key_length(key_length)?;
            let prf =
                if fields.0.is_empty() { pbkdf2::PBKDF2_HMAC_SHA1 } else { prf(fields.algorithm()?.0)? };
            Self::Pbkdf2 { salt, iterations: iterations.ok_or(OpenError::Malformed)?, prf }
        } else if *kind == SCRYPT {
            let (n, r, p) = (fields.natural()?, fields.natural()?, fields.natural()?);
            limit("bytes of memory for scrypt", n.saturating_mul(r).saturating_mul(128), SCRYPT_MEMORY_MAX)?;
            limit("blocks of scrypt", n.saturating_mul(r).saturating_mul(p), SCRYPT_BLOCKS_MAX)?;
            fields.key_length(key_length)?;
            if !n.is_power_of_two() {
                return Err(OpenError::Malformed);
            }
            let small = |value: u64| u32::try_from(value).map_err(|_| OpenError::Malformed);
            let parameters = scrypt::Params::new(n.trailing_zeros() as u8, small(r)?, small(p)?, key_length);
            Self::Scrypt { salt, parameters: parameters.map_err(|_| OpenError::Malformed)? }
        } else {
            return Err(OpenError::Scheme(kind.to_id_string()));
        };
        fields.end()?;
        Ok(derivation)
    }

    fn derive(&self, passphrase: &[u8], length: usize) -> Result<Zeroizing<Vec<u8>>, OpenError> {
        let mut key = Zeroizing::new(vec![0; length]);
        match self {
            Self::Pbkdf2 { salt, iterations, prf } => {
                pbkdf2::derive(*prf, *iterations, salt, passphrase, &mut key);
            }
            Self::Scrypt { salt, parameters } => {
                scrypt::scrypt(passphrase, salt, parameters, &mut key).map_err(|_| OpenError::Malformed)?;
            }
        }
        Ok(key)
    }
}

fn limit(what: &'static str, value: u64, max: u64) -> Result<(), OpenError> {
    if value > max { Err(OpenError::Cost { what, value, max }) } else { Ok(()) }
}

/// RFC 8018 §B.1.2. The one with SHA-224 is not in use anywhere.
fn prf(kind: Oid<'_>) -> Result<pbkdf2::Algorithm, OpenError> {
    let known = [
        (oid!(1.2.840.113549.2.7), pbkdf2::PBKDF2_HMAC_SHA1),
        (oid!(1.2.840.113549.2.9), pbkdf2::PBKDF2_HMAC_SHA256),
        (oid!(1.2.840.113549.2.10), pbkdf2::PBKDF2_HMAC_SHA384),
        (oid!(1.2.840.113549.2.11), pbkdf2::PBKDF2_HMAC_SHA512),
    ];
    let found = known.into_iter().find(|(known, _)| *known == kind);
    found.map(|(_, prf)| prf).ok_or_else(|| OpenError::Scheme(kind.to_id_string()))
}

/// AES in CBC mode (RFC 3565 §4.1). DES and RC2 are not opened: who still has them is told how to convert.
fn cipher(kind: &Oid<'_>) -> Option<&'static Cipher> {
    let known = [
        (oid!(2.16.840.1.101.3.4.1.2), &AES_128),
        (oid!(2.16.840.1.101.3.4.1.22), &AES_192),
        (oid!(2.16.840.1.101.3.4.1.42), &AES_256),
    ];
    known.into_iter().find(|(known, _)| known == kind).map(|(_, cipher)| cipher)
}

/// The length of the cipher's keys in bytes.
fn key_length(cipher: &Cipher) -> usize {
    if *cipher == AES_128 {
        16
    } else if *cipher == AES_192 {
        24
    } else {
        32
    }
}

/// The elements of a constructed DER value that are left.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    /// Those of a SEQUENCE, which must be all of `der`.
    fn within(der: &'a [u8]) -> Result<Self, OpenError> {
        Self::inside(der, Tag::Sequence)
    }

    fn inside(der: &'a [u8], tag: Tag) -> Result<Self, OpenError> {
        let mut outer = Self(der);
        let content = outer.take(tag)?;
        outer.end()?;
        Ok(Self(content))
    }

    /// The content of the next one, which must have this tag.
    fn take(&mut self, tag: Tag) -> Result<&'a [u8], OpenError> {
        let (rest, element) = Any::from_der(self.0).map_err(|_| OpenError::Malformed)?;
        if element.header.tag() != tag || element.header.class() != Class::Universal {
            return Err(OpenError::Malformed);
        }
        self.0 = rest;
        Ok(element.data)
    }

    /// An AlgorithmIdentifier: its kind, and its parameters with tag and length.
    fn algorithm(&mut self) -> Result<(Oid<'a>, &'a [u8]), OpenError> {
        let content = self.take(Tag::Sequence)?;
        let (parameters, kind) = Oid::from_der(content).map_err(|_| OpenError::Malformed)?;
        Ok((kind, parameters))
    }

    /// A number that is not negative and below 2^64.
    fn natural(&mut self) -> Result<u64, OpenError> {
        let octets = match self.take(Tag::Integer)? {
            [0, rest @ ..] => rest,
            [0x80..=0xff, ..] | [] => return Err(OpenError::Malformed),
            octets => octets,
        };
        if octets.len() > size_of::<u64>() {
            return Ok(u64::MAX);
        }
        Ok(octets.iter().fold(0, |value, octet| value << 8 | u64::from(*octet)))
    }

    /// The optional length of the key, which the cipher knows better.
    fn key_length(&mut self, expected: usize) -> Result<(), OpenError> {
        let is_there = Any::from_der(self.0).is_ok_and(|(_, element)| element.header.tag() == Tag::Integer);
        if is_there && self.natural()? != expected as u64 {
            return Err(OpenError::Malformed);
        }
        Ok(())
    }

    fn end(&self) -> Result<(), OpenError> {
        if self.0.is_empty() { Ok(()) } else { Err(OpenError::Malformed) }
    }
}

/// RFC 8018 §A.2, §A.4.
const PBKDF2: Oid<'static> = oid!(1.2.840.113549.1.5.12);
const PBES2: Oid<'static> = oid!(1.2.840.113549.1.5.13);
/// RFC 7914 §7.
const SCRYPT: Oid<'static> = oid!(1.3.6.1.4.1.11591.4.11);

/// Of AES, in bytes.
const BLOCK: usize = 16;

/// One and a half times the most that OWASP's Password Storage Cheat Sheet recommends (1.3 million with SHA-1): below two
/// seconds.
pub(super) const PBKDF2_ITERATIONS_MAX: u64 = 2_000_000;

/// Twice what OpenSSL itself can open (`SCRYPT_MAX_MEM`, 32 MiB), four times what it writes by default.
pub(super) const SCRYPT_MEMORY_MAX: u64 = 64 << 20;

/// The product of N, r and p, to which the time is proportional: eight times OpenSSL's default of 16384 * 8 * 1, about a
/// second.
pub(super) const SCRYPT_BLOCKS_MAX: u64 = 1 << 20;

#[cfg(test)]
mod tests;
