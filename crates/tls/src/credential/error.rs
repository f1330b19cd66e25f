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
    /// There is a passphrase for a key that has none.
    #[error(
        "the private key is not encrypted, so `passphrase` has no effect; encrypt the key, or remove the line"
    )]
    PassphraseNotNeeded,
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
    /// The key needs a passphrase, and there is none.
    #[error(
        "{}: the private key is encrypted; add `passphrase = ...` beside `key`, or decrypt it with \
         `openssl pkcs8 -topk8 -nocrypt -in {} -out plain.key` and protect the file by its mode",
        file.display(), file.display()
    )]
    PassphraseMissing {
        /// The key file.
        file: PathBuf,
    },
    /// It cannot be a passphrase.
    #[error(
        "{}: the passphrase of the private key has {length} bytes, 1 to {} are possible; does its file hold it, and it \
         alone?",
        file.display(), super::key::PASSPHRASE_BYTES_MAX
    )]
    UnusablePassphrase {
        /// The key file.
        file: PathBuf,
        /// Without the line ending.
        length: usize,
    },
    /// The passphrase does not open the key.
    #[error(
        "{}: the passphrase does not open the private key; try it with `openssl pkey -noout -in {}`",
        file.display(), file.display()
    )]
    WrongPassphrase {
        /// The key file.
        file: PathBuf,
    },
    /// Encrypted as OpenSSL did before PKCS#8.
    #[error(
        "{}: the private key is encrypted in the old form of OpenSSL (`Proc-Type: 4,ENCRYPTED`), which protects little \
         and is not supported; convert it with `openssl pkcs8 -topk8 -v2 aes-256-cbc -in {} -out new.key`",
        file.display(), file.display()
    )]
    LegacyEncryptedKey {
        /// The key file.
        file: PathBuf,
    },
    /// Encrypted with something else than PBES2, PBKDF2 or scrypt, and AES-CBC.
    #[error(
        "{}: the private key is encrypted by the scheme {scheme}, which is not supported; convert it with \
         `openssl pkcs8 -topk8 -v2 aes-256-cbc -in {} -out new.key`",
        file.display(), file.display()
    )]
    UnsupportedEncryption {
        /// The key file.
        file: PathBuf,
        /// Its object identifier in dotted decimal.
        scheme: String,
    },
    /// To open the key would take too much time or memory.
    #[error(
        "{}: to open the private key would take {value} {what}, at most {max} are accepted; encrypt it anew with \
         `openssl pkcs8 -topk8 -v2 aes-256-cbc -iter 600000 -in {} -out new.key`",
        file.display(), file.display()
    )]
    CostlyKey {
        /// The key file.
        file: PathBuf,
        /// What is counted.
        what: &'static str,
        /// How many the file asks for.
        value: u64,
        /// The limit.
        max: u64,
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
    /// All certificates of a chain are there, in another order.
    #[error(
        "{}: the certificates are not in order; put them from the leaf upwards: {}",
        file.display(), in_order(.order)
    )]
    OutOfOrder {
        /// The certificate file.
        file: PathBuf,
        /// The right order: where each is now, counted from 1, and its subject.
        order: Vec<(usize, String)>,
    },
    /// The chain ends, and there are certificates left.
    #[error(
        "{}: certificate {position} was issued by `{issuer}`, which is not in the file, and certificate {stray} \
         (`{stray_subject}`) has issued none of those before; append the certificate of `{issuer}`, or remove \
         certificate {stray}",
        file.display()
    )]
    BrokenChain {
        /// The certificate file.
        file: PathBuf,
        /// Counted from 1.
        position: usize,
        /// The issuer that certificate `position` names.
        issuer: String,
        /// The first certificate that belongs to no other, counted from 1.
        stray: usize,
        /// Its subject.
        stray_subject: String,
    },
    /// The chain is complete without it.
    #[error(
        "{}: certificate {position} (`{subject}`) is there twice or has issued none of the others; remove it",
        file.display()
    )]
    StrayCertificate {
        /// The certificate file.
        file: PathBuf,
        /// Counted from 1.
        position: usize,
        /// Its subject.
        subject: String,
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
    /// Upstreams refuse it.
    #[error(
        "`{}`: the certificate is not for clients (extendedKeyUsage lacks clientAuth); use a client certificate",
        file.display()
    )]
    NotForClients {
        /// The certificate file.
        file: PathBuf,
    },
}

fn in_order(order: &[(usize, String)]) -> String {
    let parts: Vec<_> =
        order.iter().map(|(position, subject)| format!("certificate {position} (`{subject}`)")).collect();
    parts.join(", ")
}
