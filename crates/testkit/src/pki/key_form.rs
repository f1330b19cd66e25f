//! The forms in which private keys lie in files.

use tempfile::NamedTempFile;

use super::{Authority, Issued, der};
use crate::openssl;

/// How a private key is written by OpenSSL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyForm {
    /// PKCS #8, plain.
    Pkcs8,
    /// SEC 1 for ECDSA, PKCS #1 for RSA; Ed25519 has none.
    Traditional,
    /// PKCS #8, encrypted with AES-256-CBC and a key of PBKDF2-HMAC-SHA256.
    Pbkdf2 {
        /// OpenSSL takes 2048 by itself.
        iterations: u32,
    },
    /// The same with PBKDF2-HMAC-SHA1 and this cipher, such as `aes-128-cbc` or `des3`.
    Pbkdf2Sha1 {
        /// The name that OpenSSL has for it.
        cipher: &'static str,
    },
    /// PKCS #8, encrypted with AES-256-CBC and a key of scrypt.
    Scrypt {
        /// Cost, a power of two; OpenSSL takes 16384 by itself.
        n: u64,
        /// Block size; OpenSSL takes 8.
        r: u32,
        /// Parallelism; OpenSSL takes 1.
        p: u32,
    },
    /// PKCS #8, encrypted by PBES1 with 3DES and SHA-1, as old tools do.
    Pbes1,
    /// SEC 1 or PKCS #1, encrypted by the header `Proc-Type: 4,ENCRYPTED`, as OpenSSL did before version 1.0.
    ProcType,
}

impl Issued {
    /// The key in a PEM file of this form. Plain forms ignore the passphrase, which must be one line and not empty.
    pub fn key_pem_as(&self, form: KeyForm, passphrase: &[u8]) -> String {
        let file = NamedTempFile::new().expect("a temporary file");
        std::fs::write(file.path(), passphrase).expect("write a passphrase");
        let from_file = format!("file:{}", file.path().display());
        let number = |value: u64| value.to_string();
        let pkcs8 = ["pkcs8", "-topk8", "-passout", &from_file].map(str::to_owned).to_vec();
        let and = |options: &[&str]| {
            pkcs8.iter().cloned().chain(options.iter().map(|&option| option.to_owned())).collect::<Vec<_>>()
        };
        let arguments: Vec<String> = match form {
            KeyForm::Pkcs8 => return self.key_pem(),
            KeyForm::Traditional => ["pkey", "-traditional"].map(str::to_owned).to_vec(),
            KeyForm::Pbkdf2 { iterations } => {
                let iterations = number(iterations.into());
                and(&["-v2", "aes-256-cbc", "-v2prf", "hmacWithSHA256", "-iter", &iterations])
            }
            KeyForm::Pbkdf2Sha1 { cipher } => and(&["-v2", cipher, "-v2prf", "hmacWithSHA1"]),
            KeyForm::Scrypt { n, r, p } => {
                let (n, r, p) = (number(n), number(r.into()), number(p.into()));
                and(&["-scrypt", "-scrypt_N", &n, "-scrypt_r", &r, "-scrypt_p", &p])
            }
            KeyForm::Pbes1 => and(&["-v1", "PBE-SHA1-3DES"]),
            KeyForm::ProcType => {
                ["pkey", "-traditional", "-aes256", "-passout", &from_file].map(str::to_owned).to_vec()
            }
        };
        String::from_utf8(openssl(arguments, self.key_pem_for_openssl().as_bytes())).expect("PEM is ASCII")
    }

    /// rcgen adds the public key to Ed25519 (version 2, RFC 8410 §10.3), which OpenSSL before version 3.2 does not read.
    fn key_pem_for_openssl(&self) -> String {
        let key = self.key_pair();
        if key.algorithm() != &rcgen::PKCS_ED25519 {
            return self.key_pem();
        }
        let der = key.serialize_der();
        let version = der::integer(&[0]);
        let [_, algorithm, private, ..] = der::elements(der::split(&der).0)[..] else {
            panic!("PKCS #8 has 3 parts and more")
        };
        super::pem("PRIVATE KEY", &der::sequence(&[version, algorithm.to_vec(), private.to_vec()]))
    }
}

impl Authority {
    /// A certificate of a subject as [`Authority::issue`] makes it, but for a key that only OpenSSL can make: RSA of any
    /// size. Returned with the key, which is not good enough for the rest of this library.
    pub fn issue_weak(&self, leaf: &super::Leaf, rsa_bits: u32) -> (String, String) {
        let size = format!("rsa_keygen_bits:{rsa_bits}");
        let key = openssl(["genpkey", "-algorithm", "RSA", "-pkeyopt", &size], b"");
        let public = openssl(["pkey", "-pubout"], &key);
        let public = String::from_utf8(public).expect("PEM is ASCII");
        let certificate = leaf.sign_public_key(&public, &self.issuer);
        (super::pem("CERTIFICATE", &certificate), String::from_utf8(key).expect("PEM is ASCII"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{KeyType, Leaf};

    #[test]
    fn openssl_writes_every_form() {
        let root = Authority::root("Root");
        let ecdsa = root.issue(&Leaf::server("a"));
        let ed25519 = root.issue(&Leaf::server("a").key(KeyType::Ed25519));
        let rsa = root.issue(&Leaf::server("a").key(KeyType::Rsa2048));
        for (issued, form, first_line) in [
            (&ecdsa, KeyForm::Pkcs8, "-----BEGIN PRIVATE KEY-----"),
            (&ecdsa, KeyForm::Traditional, "-----BEGIN EC PRIVATE KEY-----"),
            (&rsa, KeyForm::Traditional, "-----BEGIN RSA PRIVATE KEY-----"),
            (&ed25519, KeyForm::Pbkdf2 { iterations: 1000 }, "-----BEGIN ENCRYPTED PRIVATE KEY-----"),
            (&ecdsa, KeyForm::Pbkdf2Sha1 { cipher: "des3" }, "-----BEGIN ENCRYPTED PRIVATE KEY-----"),
            (&ecdsa, KeyForm::Scrypt { n: 1024, r: 8, p: 1 }, "-----BEGIN ENCRYPTED PRIVATE KEY-----"),
            (&ecdsa, KeyForm::Pbes1, "-----BEGIN ENCRYPTED PRIVATE KEY-----"),
            (&ecdsa, KeyForm::ProcType, "-----BEGIN EC PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED"),
            (&rsa, KeyForm::ProcType, "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED"),
        ] {
            let pem = issued.key_pem_as(form, b"correct horse");
            assert!(pem.starts_with(first_line), "{form:?}: {pem}");
            let plain = openssl(["pkey", "-passin", "pass:correct horse"], pem.as_bytes());
            let expected = openssl(["pkey"], issued.key_pem_for_openssl().as_bytes());
            assert_eq!(String::from_utf8(plain).unwrap(), String::from_utf8(expected).unwrap(), "{form:?}");
        }
    }

    #[test]
    fn weak_keys_are_certified() {
        let (certificate, key) = Authority::root("Root").issue_weak(&Leaf::client("a"), 1024);
        let text = openssl(["x509", "-noout", "-text"], certificate.as_bytes());
        assert!(String::from_utf8(text).unwrap().contains("(1024 bit)"));
        assert!(key.contains("PRIVATE KEY"));
    }
}
