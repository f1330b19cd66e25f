//! What can be wrong with a chain and key, and what is merely doubtful.

use std::path::PathBuf;

use crate::certificate::format_unix;

/// Something that works and deserves a look.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CredentialWarning {
    /// Served only because the configuration says so.
    #[error("`{subject}` expired on {}: clients will refuse it; renew it", format_unix(*.not_after_unix))]
    Expired {
        /// Whose.
        subject: String,
        /// notAfter, seconds since 1970.
        not_after_unix: i64,
    },
    /// The certificate is its own issuer.
    #[error("the certificate is self-signed: only clients that were given it will accept it")]
    SelfSigned,
    /// Legal where the issuer is a root that clients have.
    #[error(
        "the chain holds the leaf only; if `{issuer}` is not a root that clients have, append its certificate"
    )]
    LeafOnly {
        /// Issuer of the leaf.
        issuer: String,
    },
    /// Bytes in every handshake that no client needs.
    #[error("the chain ends with its root `{subject}`, which clients have; leave it out")]
    RootIncluded {
        /// Subject of the root.
        subject: String,
    },
    /// Clients look nowhere else for a name.
    #[error("the certificate has no DNS or IP subject alternative name: clients will refuse it")]
    NoNames,
}

/// Why a chain and key cannot be served.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CredentialError {
    /// The certificate file holds no certificate.
    #[error("{}: holds no certificate{hint}; a PEM block `BEGIN CERTIFICATE` is expected", file.display())]
    NoCertificate {
        /// The certificate file.
        file: PathBuf,
        /// What it seems to hold instead.
        hint: &'static str,
    },
    /// A certificate cannot be read.
    #[error("{}: certificate {position} cannot be parsed: {detail}; export it again", file.display())]
    Unparsable {
        /// The certificate file.
        file: PathBuf,
        /// Counted from 1.
        position: usize,
        /// What the parser says.
        detail: String,
    },
    /// The key file holds no private key.
    #[error("{}: holds no private key{hint}; a PEM block `BEGIN PRIVATE KEY` is expected", file.display())]
    NoKey {
        /// The key file.
        file: PathBuf,
        /// What it seems to hold instead.
        hint: &'static str,
    },
    /// The key needs a passphrase.
    #[error(
        "{}: the private key is encrypted, which is not supported; decrypt it with \
         `openssl pkcs8 -topk8 -nocrypt -in {} -out plain.key` and protect the file by its mode",
        file.display(), file.display()
    )]
    EncryptedKey {
        /// The key file.
        file: PathBuf,
    },
    /// Which one was meant?
    #[error("{}: holds {count} private keys; leave the one that belongs to the certificate", file.display())]
    SeveralKeys {
        /// The key file.
        file: PathBuf,
        /// How many.
        count: usize,
    },
    /// Damaged, or of a kind that TLS 1.3 has no use for.
    #[error(
        "{}: the private key cannot be used: {detail}; ECDSA (P-256, P-384, P-521), Ed25519 and RSA from 2048 bits \
         are supported",
        file.display()
    )]
    UnusableKey {
        /// The key file.
        file: PathBuf,
        /// What the cryptographic library says.
        detail: String,
    },
    /// Key and certificate do not belong together.
    #[error(
        "{}: the private key does not belong to the certificate in {}; was only one of the two renewed?",
        key_file.display(), chain_file.display()
    )]
    KeyMismatch {
        /// The certificate file.
        chain_file: PathBuf,
        /// The key file.
        key_file: PathBuf,
    },
    /// The key belongs to a later certificate of the file.
    #[error(
        "{}: the private key belongs to certificate {position}; put the leaf first, then its issuer, and so on",
        file.display()
    )]
    LeafNotFirst {
        /// The certificate file.
        file: PathBuf,
        /// Counted from 1.
        position: usize,
    },
    /// Neighbours in the file are not issued and issuer.
    #[error(
        "{}: certificate {position} was issued by `{issuer}`, but certificate {} is `{next}`; order the file from \
         the leaf upwards \
         and add missing intermediates",
        file.display(), position + 1
    )]
    BrokenChain {
        /// The certificate file.
        file: PathBuf,
        /// Counted from 1.
        position: usize,
        /// The issuer that certificate `position` names.
        issuer: String,
        /// The subject of the certificate that follows it.
        next: String,
    },
    /// The names fit, the signatures or constraints do not.
    #[error(
        "{}: the chain does not verify: {detail}; is an intermediate of the same name from another CA in it?",
        file.display()
    )]
    InvalidChain {
        /// The certificate file.
        file: PathBuf,
        /// What the verifier says.
        detail: String,
    },
    /// A certificate has expired.
    #[error(
        "{}: certificate {position} (`{subject}`) expired on {}; \
         renew it, or set `danger_allow_expired_certificate = true`",
        file.display(), format_unix(*.not_after_unix)
    )]
    Expired {
        /// The certificate file.
        file: PathBuf,
        /// Counted from 1.
        position: usize,
        /// Whose.
        subject: String,
        /// notAfter, seconds since 1970.
        not_after_unix: i64,
    },
    /// A certificate is from the future.
    #[error(
        "{}: certificate {position} (`{subject}`) is not valid before {}; check the clock of this machine",
        file.display(), format_unix(*.not_before_unix)
    )]
    NotYetValid {
        /// The certificate file.
        file: PathBuf,
        /// Counted from 1.
        position: usize,
        /// Whose.
        subject: String,
        /// notBefore, seconds since 1970.
        not_before_unix: i64,
    },
    /// It may be used for something else only.
    #[error(
        "{}: extendedKeyUsage of the certificate does not list serverAuth, so clients will refuse it; reissue it as a \
         server certificate",
        file.display()
    )]
    NotForServers {
        /// The certificate file.
        file: PathBuf,
    },
}
