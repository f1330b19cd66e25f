//! Why a verified chain yields no identity.

use std::fmt;

use crate::spiffe::SpiffeError;

/// Why a verified chain yields no identity. The connection is then to be refused.
///
/// Messages never repeat text from the certificate, only where the problem is: the text is what an attacker
/// would choose.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// The caller passed no certificate.
    #[error("the chain holds no certificate")]
    EmptyChain,
    /// A certificate does not parse as X.509.
    #[error("certificate {index} of the chain is not well-formed X.509")]
    Certificate {
        /// Position in the chain; 0 is the leaf.
        index: usize,
    },
    /// Bytes follow the certificate.
    #[error("certificate {index} of the chain is followed by {bytes} stray bytes")]
    StrayBytes {
        /// Position in the chain; 0 is the leaf.
        index: usize,
        /// How many bytes.
        bytes: usize,
    },
    /// RFC 5280 §4.1.2.2 allows 20 octets; a longer serial number could not be looked up in a revocation list.
    #[error("the serial number has {bytes} octets, at most 20 are allowed; reissue the certificate")]
    SerialTooLong {
        /// Octets without leading zeros.
        bytes: usize,
    },
    /// RFC 5280 §4.2: no extension twice.
    #[error("the extension {oid} occurs more than once; reissue the certificate")]
    DuplicateExtension {
        /// Dotted decimal.
        oid: String,
    },
    /// An extension that identities are read from is not valid DER of its type.
    #[error("the extension {oid} is malformed; reissue the certificate")]
    Extension {
        /// Dotted decimal.
        oid: String,
    },
    /// RFC 8446 §4.4.2.2: a key that may not sign cannot prove possession in a handshake.
    #[error("keyUsage lacks digitalSignature; reissue the certificate with it")]
    KeyUsage,
    /// Subject or issuer is not a well-formed distinguished name.
    #[error("the {place} is not a well-formed distinguished name; reissue the certificate")]
    Name {
        /// Which name.
        place: NamePlace,
    },
    /// An identity string is not valid in its own ASN.1 string type.
    #[error("an attribute of the {place} is not valid text of its string type; reissue the certificate")]
    Encoding {
        /// Which name.
        place: NamePlace,
    },
    /// A NUL, control or invisible character stands in an identity string.
    #[error("the {place} holds the character U+{:04X}, which no identity may hold; reissue the certificate", u32::from(*character))]
    ForbiddenCharacter {
        /// Which name.
        place: NamePlace,
        /// The first such character.
        character: char,
    },
    /// A subject alternative name is malformed.
    #[error("a subject alternative name of kind {kind} {problem}; reissue the certificate")]
    SubjectAltName {
        /// Which kind.
        kind: SanKind,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A `spiffe:` URI is not a valid SPIFFE ID, or the certificate is not a valid X.509-SVID.
    #[error("not a valid SPIFFE identity: {0}")]
    Spiffe(#[from] SpiffeError),
}

impl IdentityError {
    /// A short stable word for logs and metrics, from a closed set: `bad_certificate`, `bad_extension`,
    /// `bad_key_usage`, `bad_name`, `bad_san`, `bad_spiffe_id`.
    pub fn flag(&self) -> &'static str {
        match self {
            Self::EmptyChain
            | Self::Certificate { .. }
            | Self::StrayBytes { .. }
            | Self::SerialTooLong { .. } => "bad_certificate",
            Self::DuplicateExtension { .. } | Self::Extension { .. } => "bad_extension",
            Self::KeyUsage => "bad_key_usage",
            Self::Name { .. } | Self::Encoding { .. } | Self::ForbiddenCharacter { .. } => "bad_name",
            Self::SubjectAltName { .. } => "bad_san",
            Self::Spiffe(_) => "bad_spiffe_id",
        }
    }
}

/// The part of a certificate that a name problem is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NamePlace {
    /// The subject's distinguished name.
    Subject,
    /// The issuer's distinguished name.
    Issuer,
    /// The subject alternative names.
    SubjectAltName,
    /// The text of a selected extension.
    Extension,
}

impl fmt::Display for NamePlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Subject => "subject",
            Self::Issuer => "issuer",
            Self::SubjectAltName => "subject alternative name",
            Self::Extension => "selected extension",
        })
    }
}

/// The kinds of subject alternative names that identities are read from (RFC 5280 §4.2.1.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SanKind {
    /// rfc822Name.
    Email,
    /// dNSName.
    Dns,
    /// uniformResourceIdentifier.
    Uri,
    /// iPAddress.
    Ip,
    /// Any other choice of GeneralName.
    Other,
}

impl fmt::Display for SanKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Email => "email",
            Self::Dns => "DNS",
            Self::Uri => "URI",
            Self::Ip => "IP",
            Self::Other => "other",
        })
    }
}
