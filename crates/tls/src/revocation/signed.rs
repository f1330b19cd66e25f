//! What CRLs and OCSP answers have in common: bytes, an algorithm, a signature over the bytes.

use rustls_pki_types::SignatureVerificationAlgorithm;

use super::der::{BIT_STRING, Malformed, Reader, SEQUENCE, bits};

/// The first three fields of a CertificateList (RFC 5280 §5.1) or BasicOCSPResponse (RFC 6960 §4.2.1).
#[derive(Clone, Copy, Debug)]
pub(super) struct Signed<'a> {
    /// The value of the signed SEQUENCE. Not to be believed before [`verify`](Self::verify).
    pub(super) content: &'a [u8],
    /// The value of the AlgorithmIdentifier, which has to occur once more within `content` of a CRL.
    pub(super) algorithm: &'a [u8],
    /// What the signature is over: the SEQUENCE with its tag and length.
    message: &'a [u8],
    signature: &'a [u8],
}

/// Why a signature does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// The algorithm is none of those that certificates may be signed with either.
    #[error("signed with an algorithm that is not accepted, such as SHA-1 or RSA below 2048 bits")]
    Algorithm,
    /// The signature was not made with this key.
    #[error("the signature is wrong")]
    Wrong,
}

impl<'a> Signed<'a> {
    pub(super) fn read(reader: &mut Reader<'a>) -> Result<Self, Malformed> {
        let signed = reader.element(SEQUENCE)?;
        let algorithm = reader.expect(SEQUENCE)?;
        let signature = bits(reader.expect(BIT_STRING)?)?;
        Ok(Self { content: signed.content, algorithm, message: signed.raw, signature })
    }

    /// Checks the signature with the key of `spki`, a DER SubjectPublicKeyInfo. Hashes all of the message, so it
    /// is to be called once, when the message arrives.
    pub(super) fn verify(&self, spki: &[u8]) -> Result<(), SignatureError> {
        let (key_algorithm, key) = key_of(spki).map_err(|Malformed| SignatureError::Wrong)?;
        let candidates = ALGORITHMS.iter().filter(|algorithm| {
            algorithm.signature_alg_id().as_ref() == self.algorithm
                && algorithm.public_key_alg_id().as_ref() == key_algorithm
        });
        let mut failure = SignatureError::Algorithm;
        // One algorithm may occur several times with different ranges of key sizes.
        for algorithm in candidates {
            match algorithm.verify_signature(key, self.message, self.signature) {
                Ok(()) => return Ok(()),
                Err(_) => failure = SignatureError::Wrong,
            }
        }
        Err(failure)
    }
}

/// The AlgorithmIdentifier's value and the key's octets of a DER SubjectPublicKeyInfo.
pub(super) fn key_of(spki: &[u8]) -> Result<(&[u8], &[u8]), Malformed> {
    let mut reader = Reader::inside(spki, SEQUENCE)?;
    let algorithm = reader.expect(SEQUENCE)?;
    let key = bits(reader.expect(BIT_STRING)?)?;
    reader.finish()?;
    Ok((algorithm, key))
}

/// Those that client certificates are verified with, too: no SHA-1, no RSA below 2048 bits.
static ALGORITHMS: &[&dyn SignatureVerificationAlgorithm] = webpki::ALL_VERIFICATION_ALGS;
