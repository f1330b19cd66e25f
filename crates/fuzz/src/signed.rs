//! Signatures on anything, so that what only its signer can bring is searched too, and not only what anybody can.

use std::sync::Arc;

use ringward_testkit::{Authority, der};
use rustls::SignatureScheme;
use rustls::crypto::aws_lc_rs::sign::any_ecdsa_type;
use rustls::sign::SigningKey;
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject;

/// The key of an authority or a responder, on P-256.
pub struct Signer(Arc<dyn SigningKey>);

impl Signer {
    /// That of an authority.
    ///
    /// # Panics
    /// If it is not on P-256.
    pub fn of(authority: &Authority) -> Self {
        Self::with_key(&PrivateKeyDer::from_pem_slice(authority.key_pem().as_bytes()).expect("a key"))
    }

    /// This one.
    ///
    /// # Panics
    /// If it is not on P-256.
    pub fn with_key(key: &PrivateKeyDer<'_>) -> Self {
        Self(any_ecdsa_type(key).expect("a key on P-256"))
    }

    /// What follows `content` where it is signed: the algorithm, ecdsa-with-SHA256, and a signature by it.
    ///
    /// # Panics
    /// If there are no random numbers.
    pub fn sign(&self, content: &[u8]) -> [Vec<u8>; 2] {
        let signer =
            self.0.choose_scheme(&[SignatureScheme::ECDSA_NISTP256_SHA256]).expect("the key's scheme");
        let algorithm = der::sequence(&[der::oid("1.2.840.10045.4.3.2")]);
        [algorithm, der::bits(&signer.sign(content).expect("a signature"))]
    }
}

/// The first element within a SEQUENCE, header included: of a signed structure, what is signed.
///
/// # Panics
/// If there is none.
pub fn signed_part(sequence: &[u8]) -> &[u8] {
    let within = content(sequence);
    let (header, length) = element(within);
    &within[..header + length]
}

/// What an element holds.
///
/// # Panics
/// If it is cut short.
pub fn content(der: &[u8]) -> &[u8] {
    let (header, length) = element(der);
    &der[header..header + length]
}

/// How long an element's header is, and what it says about the length of the rest.
fn element(der: &[u8]) -> (usize, usize) {
    match der[1] {
        short @ ..0x80 => (2, usize::from(short)),
        long => {
            let header = 2 + usize::from(long & 0x7f);
            (header, der[2..header].iter().fold(0, |length, octet| length << 8 | usize::from(*octet)))
        }
    }
}
