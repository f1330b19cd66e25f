//! Why a list is not used.

use x509_parser::prelude::FromDer as _;
use x509_parser::x509::X509Name;

use super::super::signed::SignatureError;
use super::{CLOCK_SKEW_SECONDS, CRL_BYTES_MAX, CRLS_PER_FILE_MAX, CrlNumber, format_unix};
use crate::certificate::printable_name;

/// Why a certificate revocation list is not used. What was in force before stays in force.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CrlError {
    /// Above the limit of this crate.
    #[error("{bytes} bytes long, and at most {CRL_BYTES_MAX} are read")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// Neither DER nor PEM with a list.
    #[error("holds no certificate revocation list: neither DER nor a PEM section `X509 CRL`")]
    Empty,
    /// One list was asked for, or too many are in a file.
    #[error("holds {count} lists; put each into a file of its own, or at most {CRLS_PER_FILE_MAX} into one")]
    NotOne {
        /// How many there are, at least.
        count: usize,
    },
    /// The text around the list.
    #[error("not PEM: {0}")]
    Pem(String),
    /// The encoding.
    #[error("not a certificate revocation list: {what} cannot be read")]
    Malformed {
        /// The part of it.
        what: &'static str,
    },
    /// An entry's encoding.
    #[error("entry {position} {what}")]
    Entry {
        /// Counted from 1.
        position: usize,
        /// What is wrong.
        what: &'static str,
    },
    /// Version 1 has no extensions, hence no number and no key identifier.
    #[error("not of version 2; have the CA write CRL extensions (openssl: `crl_extensions`, `crlnumber`)")]
    Version,
    /// Would never be replaced.
    #[error(
        "the list of `{issuer}` has no nextUpdate, so it would hold for ever; set it at the CA (openssl: `-crldays`)"
    )]
    NoNextUpdate {
        /// Its issuer.
        issuer: String,
    },
    /// nextUpdate is not after thisUpdate.
    #[error("nextUpdate ({}) is not after thisUpdate ({})", format_unix(*.next_update), format_unix(*.this_update))]
    Dates {
        /// Seconds since 1970.
        this_update: i64,
        /// Seconds since 1970.
        next_update: i64,
    },
    /// From the future.
    #[error(
        "made at {}, more than {CLOCK_SKEW_SECONDS} s after now ({}); compare the clocks",
        format_unix(*.this_update), format_unix(*.now_unix)
    )]
    NotYetValid {
        /// Seconds since 1970.
        this_update: i64,
        /// Our clock, seconds since 1970.
        now_unix: i64,
    },
    /// None of the known CAs has its name and key identifier.
    #[error("issued by `{issuer}`, which is none of the CAs given; add its certificate (`crl_issuers`)")]
    NoIssuer {
        /// Its issuer.
        issuer: String,
    },
    /// Keys of one name are tried in turn.
    #[error("too many CAs have the name `{issuer}`; keep those in use and remove the others")]
    TooManyIssuers {
        /// Its issuer.
        issuer: String,
    },
    /// The CA's keyUsage lacks cRLSign.
    #[error("`{issuer}` may not sign revocation lists (keyUsage lacks cRLSign)")]
    MayNotSign {
        /// Its issuer.
        issuer: String,
    },
    /// The signature does not count.
    #[error("not signed by `{issuer}`: {error}")]
    Signature {
        /// The CA that it names.
        issuer: String,
        /// Why.
        error: SignatureError,
    },
    /// RFC 5280 §5.2: not to be used by those who do not know the extension.
    #[error("has the critical extension {oid}, which is not known here")]
    UnknownCritical {
        /// Dotted decimals.
        oid: String,
    },
    /// About certificates of other CAs.
    #[error(
        "an indirect list (about certificates of other CAs), which is not supported; have each CA sign its own"
    )]
    Indirect,
    /// Silent about other reasons.
    #[error(
        "lists some reasons only (onlySomeReasons), so it clears nobody; use the CA's list for all reasons"
    )]
    SomeReasons,
    /// About attribute certificates.
    #[error("is about attribute certificates only")]
    AttributeCertificates,
    /// Nothing that a certificate's distribution points could be compared with.
    #[error(
        "its distribution point has no URI, so no certificate can be matched with it; use the CA's full list"
    )]
    DistributionPoint,
    /// cRLNumber or BaseCRLNumber is negative or longer than 20 octets.
    #[error("its number is not a natural number of at most 20 octets")]
    Number,
    /// A delta without a number, or not above its base.
    #[error("a delta list whose number is absent or not above that of its base")]
    DeltaNumber,
    /// A delta of another list.
    #[error("a delta of another list: {what}")]
    DeltaMismatch {
        /// What differs.
        what: &'static str,
    },
    /// The delta begins after the complete list: what happened in between is not known.
    #[error(
        "a delta from number {base} on, and the complete list at hand has number {number}; fetch the complete list anew"
    )]
    DeltaGap {
        /// BaseCRLNumber.
        base: CrlNumber,
        /// Of the complete list.
        number: CrlNumber,
    },
    /// An earlier one than was seen before.
    #[error("older than what was seen before ({offered} after {seen}): refused, as an old list revokes less")]
    Rollback {
        /// What was offered.
        offered: String,
        /// What was seen.
        seen: String,
    },
}

impl CrlError {
    /// A DER Name for messages.
    pub(super) fn printable(name: &[u8]) -> String {
        X509Name::from_der(name)
            .map_or_else(|_| "(unreadable name)".to_owned(), |(_, name)| printable_name(&name))
    }
}
