//! Why an answer is not believed.

use super::super::crl::CLOCK_SKEW_SECONDS;
use super::super::serial::Serial;
use super::super::signed::SignatureError;
use super::OCSP_RESPONSE_BYTES_MAX;
use crate::certificate::format_unix;

/// Why an OCSP answer is not believed. It says nothing then, neither good nor bad.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OcspError {
    /// Above the limit.
    #[error("{bytes} bytes long, and at most {OCSP_RESPONSE_BYTES_MAX} are read")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// The encoding.
    #[error("not an OCSP response: {what} cannot be read; is the address that of an OCSP responder?")]
    Malformed {
        /// The part of it.
        what: &'static str,
    },
    /// The responder does not answer the question.
    #[error("the responder answers `{}`", responder_status(*.status))]
    Responder {
        /// responseStatus (RFC 6960 §4.2.1).
        status: u8,
    },
    /// Not a basic response.
    #[error("a response of the kind {oid}, and only basic ones are known here")]
    Kind {
        /// Dotted decimals.
        oid: String,
    },
    /// The signer is neither the issuer nor any certificate in the answer.
    #[error(
        "signed by neither the issuer of the certificate nor a responder whose certificate is in the answer"
    )]
    UnknownSigner,
    /// The signature does not count.
    #[error("{0}")]
    Signature(SignatureError),
    /// The responder's certificate does not entitle it.
    #[error(
        "the responder's certificate does not entitle it to answer: {problem}; it has to be issued by the \
         certificate's own issuer, for OCSP signing, and valid"
    )]
    Delegate {
        /// What is wrong with it.
        problem: String,
    },
    /// The responder's certificate is revoked.
    #[error("the responder's certificate (serial {serial}) is revoked")]
    DelegateRevoked {
        /// Its serial number.
        serial: Serial,
    },
    /// A good answer to another question.
    #[error("about other certificates than the one that was asked about")]
    OtherCertificate,
    /// Two answers to one question.
    #[error("two answers about the same certificate")]
    Ambiguous,
    /// From the future.
    #[error(
        "made at {}, more than {CLOCK_SKEW_SECONDS} s after now ({}); compare the clocks",
        format_unix(*.at_unix), format_unix(*.now_unix)
    )]
    NotYetValid {
        /// Seconds since 1970.
        at_unix: i64,
        /// Our clock, seconds since 1970.
        now_unix: i64,
    },
    /// No longer current.
    #[error("stale since {}, it is {}", format_unix(*.until_unix), format_unix(*.now_unix))]
    Stale {
        /// Seconds since 1970.
        until_unix: i64,
        /// Our clock, seconds since 1970.
        now_unix: i64,
    },
    /// An answer to an earlier question, perhaps.
    #[error("the nonce is not the one that was sent: a recorded answer?")]
    Nonce,
    /// Not to be used by those who do not know the extension.
    #[error("has the critical extension {oid}, which is not known here")]
    UnknownCritical {
        /// Dotted decimals.
        oid: String,
    },
}

fn responder_status(status: u8) -> &'static str {
    match status {
        1 => "malformedRequest",
        2 => "internalError",
        3 => "tryLater",
        5 => "sigRequired",
        6 => "unauthorized",
        _ => "an unknown status",
    }
}
