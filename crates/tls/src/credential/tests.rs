use rcgen::{BasicConstraints, ExtendedKeyUsagePurpose, IsCa, KeyPair};

use super::*;
use crate::testing::{Ca, DAY, HOST, Leaf, NOW, at, date, pem};

struct Files {
    chain: Vec<u8>,
    key: Vec<u8>,
}

impl Files {
    fn of(leaf: &Leaf) -> Self {
        Self { chain: leaf.pem(), key: leaf.key.serialize_pem().into_bytes() }
    }

    fn load_with(&self, options: CredentialOptions, now: u64) -> Result<Credential, CredentialError> {
        let source = CredentialSource {
            chain_file: Path::new("tls/api.pem"),
            chain_pem: &self.chain,
            key_file: Path::new("tls/api.key"),
            key_pem: &self.key,
        };
        Credential::from_pem(&source, options, at(now))
    }

    fn load(&self) -> Result<Credential, CredentialError> {
        self.load_with(CredentialOptions::default(), NOW)
    }

    #[track_caller]
    fn refused(&self, words: &[&str]) -> CredentialError {
        let error = self.load().expect_err("must be refused");
        let text = error.to_string();
        for word in words {
            assert!(text.contains(word), "`{text}` does not say `{word}`");
        }
        error
    }
}

fn server() -> Leaf {
    Ca::root("Root").issue_server(&[HOST], |_| {})
}

#[test]
fn good_credential_is_described() {
    let root = Ca::root("Root");
    let issuing = root.intermediate_with("Issuing", |p| p.not_after = date(NOW + 30 * DAY));
    let leaf =
        issuing.issue_server(&["API.example.com", "*.example.org", "192.0.2.1"], |_| {}).via([&issuing]);
    let credential = Files::of(&leaf).load().unwrap();
    assert_eq!(credential.subject(), "CN=server");
    assert_eq!(credential.names(), ["api.example.com", "*.example.org", "192.0.2.1"]);
    assert_eq!(credential.fingerprint_sha256(), &sha256(&leaf.chain[0]));
    assert_eq!(credential.not_after_unix(), (NOW + 30 * DAY) as i64, "the intermediate expires first");
    assert_eq!(credential.not_before_unix(), (NOW - 365 * DAY) as i64);
    assert!(credential.warnings().is_empty());
    assert!(!format!("{credential:?}").contains("key"));
}

#[test]
fn keys_of_every_kind_and_plain_form_are_read() {
    let root = Ca::root("Root");
    for algorithm in [
        &rcgen::PKCS_ECDSA_P256_SHA256,
        &rcgen::PKCS_ECDSA_P384_SHA384,
        &rcgen::PKCS_ED25519,
        &rcgen::PKCS_RSA_SHA256,
    ] {
        let leaf = root
            .issue_for(algorithm, "x", |p| p.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth]);
        Files::of(&leaf).load().unwrap_or_else(|error| panic!("{algorithm:?}: {error}"));
    }
    // PKCS#8 wraps the older forms: PKCS#1 after 26 bytes for RSA, SEC1 at its version number for P-256.
    let rsa = root.issue_for(&rcgen::PKCS_RSA_SHA256, "x", |p| p.extended_key_usages.clear());
    let pkcs1 = Files { chain: rsa.pem(), key: pem("RSA PRIVATE KEY", &rsa.key.serialize_der()[26..]) };
    pkcs1.load().unwrap();
    let ec = root.issue("x", |p| p.extended_key_usages.clear());
    let der = ec.key.serialize_der();
    let start = der.windows(3).rposition(|bytes| bytes == [0x02, 0x01, 0x01]).unwrap() - 2;
    let parameters =
        b"-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n".to_vec();
    let mut sec1 = der[start..].to_vec();
    // In PKCS#8 the curve stands outside; SEC1 on its own names it (RFC 5915 §3).
    let curve = [0xa0, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
    sec1.splice(2 + 3 + 34..2 + 3 + 34, curve);
    sec1[1] += u8::try_from(curve.len()).unwrap();
    let key = [parameters, pem("EC PRIVATE KEY", &sec1)].concat();
    Files { chain: ec.pem(), key }.load().unwrap();
}

#[test]
fn encrypted_keys_are_refused_with_the_remedy() {
    let chain = server().pem();
    let pkcs8 = pem("ENCRYPTED PRIVATE KEY", b"whatever");
    let legacy = b"-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\nAAAA\n-----END RSA PRIVATE KEY-----\n";
    for key in [pkcs8, legacy.to_vec()] {
        let files = Files { chain: chain.clone(), key };
        files.refused(&["tls/api.key", "encrypted", "openssl pkcs8 -topk8 -nocrypt -in tls/api.key"]);
    }
}

#[test]
fn what_is_not_a_credential_is_explained() {
    let Files { chain, key } = Files::of(&server());
    let files = |chain: &[u8], key: &[u8]| Files { chain: chain.to_vec(), key: key.to_vec() };
    files(b"", &key).refused(&["tls/api.pem", "it is empty"]);
    files(&chain, b"").refused(&["tls/api.key", "it is empty"]);
    files(&key, &chain).refused(&["tls/api.pem", "swapped"]);
    files(&chain, &chain).refused(&["tls/api.key", "swapped"]);
    files(&chain, &server().key.serialize_der()).refused(&["tls/api.key", "-inform DER"]);
    files(&pem("TRUSTED CERTIFICATE", b"x"), &key).refused(&["trusted form"]);
    files(b"hello", &key).refused(&["holds no certificate", "BEGIN CERTIFICATE"]);
    files(&[&chain[..], &pem("CERTIFICATE", b"junk")].concat(), &key)
        .refused(&["certificate 2 cannot be parsed"]);
    files(&chain, &[&key[..], &key].concat()).refused(&["2 private keys"]);
    files(&chain, &pem("PRIVATE KEY", b"junk")).refused(&["tls/api.key", "cannot be used", "P-256"]);
    files(&chain, b"-----BEGIN PRIVATE KEY-----\n****\n-----END PRIVATE KEY-----\n")
        .refused(&["tls/api.key"]);
}

#[test]
fn key_must_belong_to_the_certificate() {
    let mut files = Files::of(&server());
    files.key = KeyPair::generate().unwrap().serialize_pem().into_bytes();
    files.refused(&["tls/api.key", "does not belong", "tls/api.pem"]);
}

#[test]
fn chain_must_be_in_order_and_connected() {
    let root = Ca::root("Root");
    let upper = root.intermediate("Upper");
    let lower = upper.intermediate("Lower");
    let leaf = || lower.issue_server(&[HOST], |_| {});
    let good = leaf().via([&lower, &upper]);
    assert!(Files::of(&good).load().unwrap().warnings().is_empty());

    let mut reversed = leaf().via([&lower, &upper]);
    reversed.chain.reverse();
    let error = Files::of(&reversed).refused(&["belongs to certificate 3", "leaf first"]);
    assert!(matches!(error, CredentialError::LeafNotFirst { position: 3, .. }));

    let error =
        Files::of(&leaf().via([&upper, &lower])).refused(&["certificate 1", "`CN=Lower`", "`CN=Upper`"]);
    assert!(matches!(error, CredentialError::BrokenChain { position: 1, .. }));
    Files::of(&leaf().via([&upper])).refused(&["missing intermediates"]);
    Files::of(&leaf().via([&lower, &lower])).refused(&["certificate 2"]);

    // The right name, another CA.
    let impostor = Ca::root("Root").intermediate("Lower");
    let error = Files::of(&leaf().via([&impostor])).refused(&["does not verify"]);
    assert!(matches!(error, CredentialError::InvalidChain { .. }));
}

#[test]
fn completeness_is_pointed_out() {
    let root = Ca::root("Root");
    let alone = root.issue_server(&[HOST], |_| {});
    assert_eq!(
        Files::of(&alone).load().unwrap().warnings(),
        [CredentialWarning::LeafOnly { issuer: "CN=Root".to_owned() }]
    );
    let with_root = root.issue_server(&[HOST], |_| {}).via([&root]);
    assert_eq!(
        Files::of(&with_root).load().unwrap().warnings(),
        [CredentialWarning::RootIncluded { subject: "CN=Root".to_owned() }]
    );
    let own = Ca::root_with(HOST, |p| p.is_ca = IsCa::Ca(BasicConstraints::Unconstrained));
    let files = Files { chain: own.pem(), key: own.0.key().serialize_pem().into_bytes() };
    assert_eq!(files.load().unwrap().warnings(), [CredentialWarning::NoNames, CredentialWarning::SelfSigned]);
}

#[test]
fn validity_is_enforced() {
    let root = Ca::root("Root");
    let leaf = root.issue_server(&[HOST], |p| {
        p.not_before = date(NOW - 10);
        p.not_after = date(NOW + 10);
    });
    let files = Files::of(&leaf);
    let strict = CredentialOptions::default();
    let lax = CredentialOptions { allow_expired: true };
    for (now, options, valid) in [
        (NOW - 11, strict, false),
        (NOW - 10, strict, true),
        (NOW + 10, strict, true),
        (NOW + 11, strict, false),
        (NOW + 11, lax, true),
        (NOW - 11, lax, false),
    ] {
        assert_eq!(files.load_with(options, now).is_ok(), valid, "{options:?} at {now}");
    }
    let error = files.load_with(strict, NOW + 11).unwrap_err().to_string();
    assert!(error.contains("tls/api.pem: certificate 1 (`CN=server`) expired on 2027-01-15"), "{error}");
    assert!(error.contains("danger_allow_expired_certificate"), "{error}");
    let warned = files.load_with(lax, NOW + 11).unwrap();
    assert!(matches!(warned.warnings()[0], CredentialWarning::Expired { .. }));
}

#[test]
fn an_expired_intermediate_counts_like_an_expired_leaf() {
    let root = Ca::root("Root");
    let issuing = root.intermediate_with("Issuing", |p| p.not_after = date(NOW - 1));
    let files = Files::of(&issuing.issue_server(&[HOST], |_| {}).via([&issuing]));
    files.refused(&["certificate 2 (`CN=Issuing`) expired"]);
    assert!(files.load_with(CredentialOptions { allow_expired: true }, NOW).is_ok());
}

#[test]
fn purpose_must_be_server_authentication_if_any_is_named() {
    let root = Ca::root("Root");
    let issuing = root.intermediate("Issuing");
    let with = |usages: Vec<ExtendedKeyUsagePurpose>| {
        Files::of(&issuing.issue_server(&[HOST], |p| p.extended_key_usages = usages).via([&issuing, &root]))
    };
    with(vec![]).load().unwrap();
    with(vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth]).load().unwrap();
    for usage in [ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::Any] {
        assert!(matches!(with(vec![usage]).refused(&["serverAuth"]), CredentialError::NotForServers { .. }));
    }
}

#[test]
fn names_are_matched_like_clients_do() {
    let leaf = Ca::root("Root")
        .issue_server(&["api.example.com", "*.example.org", "192.0.2.1", "2001:db8::1"], |_| {});
    let credential = Files::of(&leaf).load().unwrap();
    for (host, covered) in [
        ("api.example.com", true),
        ("API.Example.COM.", true),
        ("www.example.com", false),
        ("example.com", false),
        ("a.example.org", true),
        ("a.b.example.org", false),
        ("example.org", false),
        ("*.example.org", true),
        ("*.example.com", false),
        ("*.a.example.org", false),
        ("192.0.2.1", true),
        ("192.0.2.2", false),
        ("[2001:DB8::1]", true),
        ("2001:db8:0:0::1", true),
        ("server", false),
        ("", false),
    ] {
        assert_eq!(credential.covers(host), covered, "{host}");
    }
    assert_eq!(credential.uncovered(["a.example.org", "x.test"]), ["x.test"]);
}
