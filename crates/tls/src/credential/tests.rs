use rcgen::{BasicConstraints, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use ringward_testkit::{Authority, Issued, KeyForm, KeyType, Leaf as TestLeaf, Pki as TestPki, openssl};

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

/// The files of what the authority of the test kit issues, which are valid in our days.
fn issued_files(issued: &Issued, key: &str) -> Files {
    Files { chain: issued.chain_pem().into_bytes(), key: key.as_bytes().to_vec() }
}

fn load_now(files: &Files, passphrase: Option<&[u8]>) -> Result<Credential, CredentialError> {
    files.load_with(
        CredentialOptions { passphrase, ..CredentialOptions::default() },
        UnixTime::now().as_secs(),
    )
}

#[test]
fn keys_of_every_kind_are_read_in_every_form() {
    let root = Authority::root("Root");
    let phrase = b"correct horse";
    let forms = [
        KeyForm::Pkcs8,
        KeyForm::Traditional,
        KeyForm::Pbkdf2 { iterations: 1000 },
        KeyForm::Scrypt { n: 16, r: 8, p: 1 },
    ];
    for (key, kind) in [
        (KeyType::P256, KeyKind::EcdsaP256),
        (KeyType::P384, KeyKind::EcdsaP384),
        (KeyType::P521, KeyKind::EcdsaP521),
        (KeyType::Ed25519, KeyKind::Ed25519),
        (KeyType::Rsa2048, KeyKind::Rsa),
    ] {
        let issued = root.issue(&TestLeaf::server(HOST).key(key));
        for form in forms {
            if key == KeyType::Ed25519 && form == KeyForm::Traditional {
                continue;
            }
            let files = issued_files(&issued, &issued.key_pem_as(form, phrase));
            let credential =
                load_now(&files, Some(phrase)).unwrap_or_else(|error| panic!("{form:?}: {error}"));
            assert_eq!(credential.key_kind(), kind);
            let unneeded = credential.warnings().contains(&CredentialWarning::PassphraseNotNeeded);
            assert_eq!(unneeded, matches!(form, KeyForm::Pkcs8 | KeyForm::Traditional), "{form:?}");
        }
    }
}

#[test]
fn short_rsa_keys_are_refused() {
    let root = Authority::root("Root");
    for (bits, good) in [(2048, true), (2040, false), (1024, false)] {
        let (chain, key) = root.issue_weak(&TestLeaf::server(HOST), bits);
        let loaded = load_now(&Files { chain: chain.into_bytes(), key: key.into_bytes() }, None);
        match loaded {
            Ok(_) => assert!(good, "{bits}"),
            Err(error) => {
                assert!(!good && error.to_string().contains("RSA from 2048 bits"), "{bits}: {error}")
            }
        }
    }
}

#[test]
fn passphrases_are_bytes_but_for_one_line_ending() {
    let issued = Authority::root("Root").issue(&TestLeaf::server(HOST));
    let form = KeyForm::Pbkdf2 { iterations: 1 };
    let spaced = b" caf\xe9 \xff\t ";
    let files = issued_files(&issued, &issued.key_pem_as(form, spaced));
    let wrong = |passphrase: &[u8]| {
        matches!(load_now(&files, Some(passphrase)), Err(CredentialError::WrongPassphrase { .. }))
    };
    for ending in [&b""[..], b"\n", b"\r\n"] {
        assert!(!wrong(&[spaced, ending].concat()), "{ending:?}");
    }
    for ending in [&b"\n\n"[..], b"\r", b"\n\r\n", b" \n"] {
        assert!(wrong(&[spaced, ending].concat()), "{ending:?}");
    }
    assert!(wrong(spaced.trim_ascii()));
    for (length, usable) in [(0, false), (1, true), (1024, true), (1025, false)] {
        let outcome = load_now(&files, Some(&[vec![b'x'; length], b"\n".to_vec()].concat())).map(drop);
        match outcome {
            Err(CredentialError::WrongPassphrase { .. }) => assert!(usable, "{length}"),
            Err(CredentialError::UnusablePassphrase { length: told, .. }) => {
                assert!(!usable && told == length, "{length}");
            }
            other => panic!("{length}: {other:?}"),
        }
    }
}

#[test]
fn keys_that_stay_closed_are_explained() {
    let issued = Authority::root("Root").issue(&TestLeaf::server(HOST).key(KeyType::Rsa2048));
    let refused = |form, passphrase: Option<&[u8]>, words: &[&str]| {
        let files = issued_files(&issued, &issued.key_pem_as(form, b"correct horse"));
        let error = load_now(&files, passphrase).expect_err("must be refused").to_string();
        for word in ["tls/api.key"].iter().chain(words) {
            assert!(error.contains(word), "`{error}` does not say `{word}`");
        }
        assert!(!error.contains("horse"), "{error}");
    };
    let pbkdf2 = |iterations| KeyForm::Pbkdf2 { iterations };
    let horse = Some(&b"correct horse"[..]);
    refused(pbkdf2(1), None, &["`passphrase = ...`", "openssl pkcs8 -topk8 -nocrypt -in tls/api.key"]);
    refused(pbkdf2(1), Some(b"battery staple"), &["does not open", "openssl pkey -noout -in tls/api.key"]);
    refused(pbkdf2(1), Some(b"\n"), &["has 0 bytes"]);
    refused(pbkdf2(2_000_001), horse, &["2000001 PBKDF2 iterations, at most 2000000", "-iter 600000"]);
    for form in [KeyForm::Pbes1, KeyForm::Pbkdf2Sha1 { cipher: "des3" }] {
        refused(
            form,
            horse,
            &["the scheme 1.2.840.113549", "openssl pkcs8 -topk8 -v2 aes-256-cbc -in tls/api.key"],
        );
    }
    refused(KeyForm::ProcType, horse, &["Proc-Type: 4,ENCRYPTED", "openssl pkcs8 -topk8 -v2 aes-256-cbc"]);
    let options = CredentialOptions { passphrase: horse, ..CredentialOptions::default() };
    let shown = format!("{options:?}");
    assert!(!shown.contains("99, 111") && !shown.contains("horse"), "{shown}");

    let plain = issued.key_pem();
    let closed = issued.key_pem_as(pbkdf2(1), b"correct horse");
    let foreign = format!("Bag Attributes\r\n  name: \u{fc}\r\n{}", closed.replace('\n', "\r\n"));
    load_now(&issued_files(&issued, &foreign), horse).expect("other line endings and text before it");
    for (key, words) in [
        (format!("{plain}{closed}"), "2 private keys"),
        (format!("{closed}{closed}"), "2 private keys"),
        (format!("{closed}{closed}{plain}"), "3 private keys"),
        (String::from_utf8(pem("ENCRYPTED PRIVATE KEY", b"junk")).unwrap(), "is damaged"),
        (closed.replace("MII", "M*I"), "cannot be used"),
    ] {
        let error = load_now(&issued_files(&issued, &key), horse).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn the_conversion_that_is_proposed_works() {
    let pki = TestPki::new();
    let issued = Authority::root("Root").issue(&TestLeaf::server(HOST));
    for form in [KeyForm::ProcType, KeyForm::Pbes1] {
        let old = pki.write("old.key", issued.key_pem_as(form, b"correct horse"));
        let command = ["pkcs8", "-topk8", "-v2", "aes-256-cbc", "-passin", "pass:correct horse"];
        let more = ["-passout", "pass:correct horse", "-in", old.to_str().unwrap()];
        let new = String::from_utf8(openssl(command.iter().chain(&more), b"")).unwrap();
        load_now(&issued_files(&issued, &new), Some(b"correct horse\n")).unwrap();
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
fn responders_that_nobody_could_ask_are_left_out() {
    let root = Authority::root("Root");
    let urls = |url: &str| {
        let issued = root.issue(&TestLeaf::server(HOST).ocsp_url(url));
        load_now(&issued_files(&issued, &issued.key_pem()), None).unwrap().ocsp_urls().to_vec()
    };
    assert_eq!(urls("http://ocsp.example.com/"), ["http://ocsp.example.com/".into()]);
    assert!(urls("ldap://ocsp.example.com/").is_empty());
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

    let in_order = "certificate 3 (`CN=server`), certificate 2 (`CN=Lower`), certificate 1 (`CN=Upper`)";
    let mut reversed = leaf().via([&lower, &upper]);
    reversed.chain.reverse();
    let error = Files::of(&reversed).refused(&["not in order", in_order]);
    assert!(matches!(error, CredentialError::OutOfOrder { .. }));
    let in_order = "certificate 1 (`CN=server`), certificate 3 (`CN=Lower`), certificate 2 (`CN=Upper`)";
    Files::of(&leaf().via([&upper, &lower])).refused(&["not in order", in_order]);
    Files::of(&leaf().via([&root, &lower, &upper])).refused(&["not in order", "certificate 2 (`CN=Root`)"]);

    // A gap, and one that has nothing to do with the others.
    let error = Files::of(&leaf().via([&upper])).refused(&[
        "certificate 1 was issued by `CN=Lower`, which is not in the file",
        "certificate 2 (`CN=Upper`)",
        "append the certificate of `CN=Lower`",
    ]);
    assert!(matches!(error, CredentialError::BrokenChain { position: 1, stray: 2, .. }));
    let other = Ca::root("Other");
    Files::of(&leaf().via([&lower, &upper, &other]))
        .refused(&["certificate 3 was issued by `CN=Root`", "remove certificate 4"]);
    for (files, position) in [
        (leaf().via([&lower, &lower, &upper]), 3),
        (leaf().via([&lower, &upper, &root, &other]), 5),
        (leaf().via([&other, &lower, &upper, &root]), 2),
    ] {
        let error = Files::of(&files).refused(&["remove it"]);
        assert!(
            matches!(error, CredentialError::StrayCertificate { position: found, .. } if found == position),
            "{error}"
        );
    }

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
    let lax = CredentialOptions { allow_expired: true, ..CredentialOptions::default() };
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
    assert!(
        files
            .load_with(CredentialOptions { allow_expired: true, ..CredentialOptions::default() }, NOW)
            .is_ok()
    );
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
