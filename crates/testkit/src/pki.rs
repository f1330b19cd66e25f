//! A certificate authority for tests, and the files that a proxy and its clients read.
//!
//! ```
//! use ringward_testkit::{Authority, Leaf, Pki};
//!
//! let pki = Pki::new();
//! let root = Authority::root("Test Root");
//! let server = root.issue(&Leaf::server("api.example.com"));
//! let client = root.intermediate("Issuing CA").issue(&Leaf::client("partner-a").organization("Partner A"));
//! let files = pki.write_pem("api", &server);
//! let trust = pki.write_authorities("trust.pem", &[&root]);
//! assert!(files.key.exists() && trust.exists() && client.chain().len() == 2);
//! ```

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::{Issuer, KeyPair, SigningKey};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tempfile::TempDir;

mod authority;
mod crl;
pub mod der;
mod key_form;
mod leaf;
mod ocsp;
mod responder;

pub use authority::AuthorityOptions;
pub use crl::{Crl, RevocationReason};
pub use key_form::KeyForm;
pub use leaf::{KeyType, Leaf, Usage};
pub use ocsp::{OcspAnswer, OcspRefusal};
pub use responder::{OcspDatabase, Responder};

/// A temporary directory for certificates, keys, policies and configuration; removed when dropped.
#[derive(Debug)]
pub struct Pki {
    directory: TempDir,
}

/// The files of one certificate with its key.
#[derive(Debug, Clone)]
pub struct PemFiles {
    /// Leaf first, then the intermediates.
    pub chain: PathBuf,
    /// PKCS #8, readable by its owner only.
    pub key: PathBuf,
}

/// A root or intermediate authority that issues certificates. Clones share the key.
#[derive(Debug, Clone)]
pub struct Authority {
    issuer: Arc<Issuer<'static, KeyPair>>,
    certificate: CertificateDer<'static>,
    /// What a leaf has to present: this authority and those above it, without the root.
    intermediates: Vec<CertificateDer<'static>>,
}

/// A certificate that was issued, with its key and the intermediates to present.
#[derive(Debug, Clone)]
pub struct Issued {
    chain: Vec<CertificateDer<'static>>,
    key: Arc<KeyPair>,
}

impl Pki {
    /// An empty directory.
    #[allow(clippy::new_without_default)]
    pub fn new() -> Self {
        Self { directory: TempDir::new().expect("a temporary directory") }
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Writes a file with mode 0600, making directories as needed, and returns its path.
    ///
    /// An existing file is replaced as a whole (written beside it, then renamed over it), as a deployment does.
    pub fn write(&self, name: &str, contents: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path().join(name);
        let directory = path.parent().expect("a file below the directory");
        fs::create_dir_all(directory).expect("make a directory");
        // Outside of the directory, so that whoever watches that one sees a single change, however slow we are.
        let draft = self.path().join(format!(".{}.draft", name.replace('/', "_")));
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&draft)
            .expect("create a file");
        file.write_all(contents.as_ref()).expect("write a file");
        fs::rename(&draft, &path).expect("move the file to its place");
        path
    }

    /// Writes `NAME.pem` and `NAME.key`.
    pub fn write_pem(&self, name: &str, issued: &Issued) -> PemFiles {
        PemFiles {
            chain: self.write(&format!("{name}.pem"), issued.chain_pem()),
            key: self.write(&format!("{name}.key"), issued.key_pem()),
        }
    }

    /// Writes the certificates of authorities into one file.
    pub fn write_authorities(&self, name: &str, authorities: &[&Authority]) -> PathBuf {
        self.write(name, authorities.iter().map(|authority| authority.pem()).collect::<String>())
    }
}

impl Authority {
    /// A self-signed authority with a P-256 key.
    pub fn root(common_name: &str) -> Self {
        Self::root_with_key(common_name, KeyType::P256)
    }

    /// A self-signed authority with a key of the given type.
    pub fn root_with_key(common_name: &str, key: KeyType) -> Self {
        Self::root_with(&AuthorityOptions::named(common_name).key(key))
    }

    /// A self-signed authority whose certificate expired a day ago.
    pub fn expired_root(common_name: &str) -> Self {
        Self::root_with(&AuthorityOptions::named(common_name).expired())
    }

    /// A self-signed authority.
    pub fn root_with(options: &AuthorityOptions) -> Self {
        let (params, key) = options.params();
        let certificate = params.self_signed(&key).expect("sign a root").der().clone();
        Self { issuer: Arc::new(Issuer::new(params, key)), certificate, intermediates: Vec::new() }
    }

    /// An authority below this one, with a P-256 key.
    pub fn intermediate(&self, common_name: &str) -> Self {
        self.intermediate_with(&AuthorityOptions::named(common_name))
    }

    /// An authority below this one.
    pub fn intermediate_with(&self, options: &AuthorityOptions) -> Self {
        let (mut params, key) = options.params();
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(&key, &self.issuer).expect("sign an intermediate").der().clone();
        let mut intermediates = vec![certificate.clone()];
        intermediates.extend(self.intermediates.iter().cloned());
        Self { issuer: Arc::new(Issuer::new(params, key)), certificate, intermediates }
    }

    /// Issues a certificate.
    pub fn issue(&self, leaf: &Leaf) -> Issued {
        let (certificate, key) = leaf.sign(&self.issuer);
        let mut chain = vec![certificate];
        chain.extend(self.intermediates.iter().cloned());
        Issued { chain, key }
    }

    /// The authority's own certificate.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// The authority's own certificate as PEM.
    pub fn pem(&self) -> String {
        pem("CERTIFICATE", &self.certificate)
    }

    /// The authority's own key as PEM of PKCS #8.
    pub fn key_pem(&self) -> String {
        self.key_pair().serialize_pem()
    }

    /// The serial number of the authority's own certificate, big-endian without leading zeros.
    pub fn serial(&self) -> &[u8] {
        der::serial(&self.certificate)
    }

    /// SHA-256 of the authority's own certificate.
    pub fn fingerprint_sha256(&self) -> [u8; 32] {
        sha256(&self.certificate)
    }

    /// SHA-256 of the SubjectPublicKeyInfo of the authority's own certificate.
    pub fn spki_sha256(&self) -> [u8; 32] {
        sha256(der::public_key_info(&self.certificate))
    }

    fn key_pair(&self) -> &KeyPair {
        self.issuer.key()
    }
}

impl Issued {
    /// Leaf first, then the intermediates, without the root.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    /// The leaf.
    pub fn leaf(&self) -> &CertificateDer<'static> {
        &self.chain[0]
    }

    /// The serial number of the leaf, big-endian without leading zeros.
    pub fn serial(&self) -> &[u8] {
        der::serial(self.leaf())
    }

    /// SHA-256 of the leaf.
    pub fn fingerprint_sha256(&self) -> [u8; 32] {
        sha256(self.leaf())
    }

    /// SHA-256 of the leaf's SubjectPublicKeyInfo.
    pub fn spki_sha256(&self) -> [u8; 32] {
        sha256(der::public_key_info(self.leaf()))
    }

    /// The key as PKCS #8.
    pub fn key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::try_from(self.key.serialize_der()).expect("rcgen writes PKCS #8")
    }

    /// The same certificate and key with other certificates presented after the leaf.
    pub fn presenting(&self, intermediates: &[CertificateDer<'static>]) -> Self {
        let mut chain = vec![self.leaf().clone()];
        chain.extend_from_slice(intermediates);
        Self { chain, key: self.key.clone() }
    }

    /// The chain as PEM.
    pub fn chain_pem(&self) -> String {
        self.chain.iter().map(|certificate| pem("CERTIFICATE", certificate)).collect()
    }

    /// The key as PEM of PKCS #8.
    pub fn key_pem(&self) -> String {
        self.key.serialize_pem()
    }

    pub(crate) fn key_pair(&self) -> &Arc<KeyPair> {
        &self.key
    }
}

/// Signs with the algorithm that certificates of this key have, and says which it is (RFC 5280 §4.1.1.2).
fn sign(key: &KeyPair, message: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let algorithm = key.algorithm();
    let known = [
        (&rcgen::PKCS_ECDSA_P256_SHA256, "1.2.840.10045.4.3.2", Vec::new()),
        (&rcgen::PKCS_ECDSA_P384_SHA384, "1.2.840.10045.4.3.3", Vec::new()),
        (&rcgen::PKCS_ECDSA_P521_SHA512, "1.2.840.10045.4.3.4", Vec::new()),
        (&rcgen::PKCS_ED25519, "1.3.101.112", Vec::new()),
        (&rcgen::PKCS_RSA_SHA256, "1.2.840.113549.1.1.11", der::null()),
    ];
    let (_, kind, parameters) =
        known.into_iter().find(|(known, ..)| *known == algorithm).expect("an algorithm of KeyType");
    let signature = key.sign(message).expect("sign a message");
    (der::sequence(&[der::oid(kind), parameters]), signature)
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    digest(&SHA256, bytes).as_ref().try_into().expect("SHA-256 yields 32 octets")
}

/// RFC 7468 with lines of 64 characters.
pub(crate) fn pem(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let mut pem = format!("-----BEGIN {label}-----\n");
    for line in text.as_bytes().chunks(64) {
        pem.push_str(std::str::from_utf8(line).expect("base64 is ASCII"));
        pem.push('\n');
    }
    pem.push_str(&format!("-----END {label}-----\n"));
    pem
}

#[cfg(test)]
mod tests;
