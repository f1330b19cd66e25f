//! Our own certificates: keys that are encrypted, pairs that are torn, chains out of order, several for one host.
#![allow(clippy::unwrap_used, reason = "a failed expectation here is a failed test")]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;

use ringward_testkit::{Authority, DEADLINE, Issued, KeyForm, KeyType, Leaf, eventually};
use rustls::pki_types::CertificateDer;

use self::support::{Builder, Gateway, HOST, Host};

const ENCRYPTED: &str = "{ chain = \"own.pem\", key = \"own.key\", passphrase = \"own.pass\" }";

fn with(builder: Builder, certificate: &str) -> Builder {
    builder.host(Host::new(&[HOST]).certificate(certificate))
}

/// Writes a certificate with an encrypted key.
fn write(builder: &Builder, issued: &Issued, form: KeyForm, passphrase: &str, said: &str) {
    builder.pki().write("own.pem", issued.chain_pem());
    builder.pki().write("own.key", issued.key_pem_as(form, passphrase.as_bytes()));
    builder.pki().write("own.pass", said);
}

#[test]
fn encrypted_keys_are_opened() {
    for (key, form, said) in [
        (KeyType::P256, KeyForm::Pbkdf2 { iterations: 2048 }, "correct horse\n"),
        (KeyType::Rsa2048, KeyForm::Pbkdf2 { iterations: 2048 }, "correct horse"),
        (KeyType::Ed25519, KeyForm::Scrypt { n: 16_384, r: 8, p: 1 }, "correct horse\r\n"),
        (KeyType::P384, KeyForm::Pbkdf2Sha1 { cipher: "aes-128-cbc" }, "correct horse"),
    ] {
        let builder = Gateway::builder();
        let issued = builder.root().issue(&Leaf::server(HOST).key(key));
        write(&builder, &issued, form, "correct horse", said);
        let gateway = with(builder, ENCRYPTED).start();
        assert_eq!(gateway.connect().server_chain()[0], *issued.leaf(), "{key:?} {form:?}");
        gateway.assert_serves();
    }
}

#[test]
fn keys_that_cannot_be_opened_are_refused_with_the_way_out() {
    let pbkdf2 = KeyForm::Pbkdf2 { iterations: 2048 };
    for (what, form, certificate, said, expected) in [
        ("another passphrase", pbkdf2, ENCRYPTED, "wrong horse", "passphrase"),
        ("an empty one", pbkdf2, ENCRYPTED, "", "passphrase"),
        ("none", pbkdf2, "{ chain = \"own.pem\", key = \"own.key\" }", "", "passphrase"),
        ("the legacy form", KeyForm::ProcType, ENCRYPTED, "correct horse", "openssl pkcs8 -topk8"),
        ("an old cipher", KeyForm::Pbes1, ENCRYPTED, "correct horse", "openssl"),
    ] {
        let builder = Gateway::builder();
        let issued = builder.root().issue(&Leaf::server(HOST));
        write(&builder, &issued, form, "correct horse", said);
        let refusal = with(builder, certificate).refusal();
        assert!(refusal.contains("own.") && refusal.contains(expected), "{what}: {refusal}");
        assert!(!refusal.contains("horse"), "{what}: {refusal}");
    }
    // A secret that others can read is none.
    for file in ["own.pass", "own.key"] {
        let builder = Gateway::builder();
        let issued = builder.root().issue(&Leaf::server(HOST));
        write(&builder, &issued, pbkdf2, "correct horse", "correct horse");
        fs::set_permissions(builder.pki().path().join(file), fs::Permissions::from_mode(0o644)).unwrap();
        let refusal = with(builder, ENCRYPTED).refusal();
        assert!(refusal.contains(file) && refusal.contains("0644"), "{refusal}");
    }
}

/// Three files that belong together and are written one after the other, in the worst order.
#[test]
fn a_torn_pair_waits_for_its_other_half() {
    let builder = Gateway::builder();
    let first = builder.root().issue(&Leaf::server(HOST));
    let pbkdf2 = KeyForm::Pbkdf2 { iterations: 2048 };
    write(&builder, &first, pbkdf2, "first", "first");
    let gateway = with(builder, ENCRYPTED).start();
    let shown = || gateway.connect().server_chain()[0].clone();
    assert_eq!(shown(), *first.leaf());
    let second = gateway.root.issue(&Leaf::server(HOST));
    gateway.refused_change(|gateway| drop(gateway.pki.write("own.pass", "second")));
    assert_eq!(shown(), *first.leaf());
    gateway.pki.write("own.key", second.key_pem_as(pbkdf2, b"second"));
    eventually(DEADLINE, "it is refused still", || gateway.reloads("failed") >= 2.0);
    assert_eq!(shown(), *first.leaf());
    gateway.pki.write("own.pem", second.chain_pem());
    eventually(DEADLINE, "they belong together", || shown() == *second.leaf());
    gateway.assert_serves();
}

/// A client gets the certificate whose signatures it understands, ECDSA if it has the choice.
#[test]
fn several_certificates_are_chosen_by_signature_scheme() {
    let builder = Gateway::builder();
    let issue = |key| builder.root().issue(&Leaf::server(HOST).key(key));
    let (ecdsa, rsa, edwards) = (issue(KeyType::P256), issue(KeyType::Rsa2048), issue(KeyType::Ed25519));
    for (name, issued) in [("rsa", &rsa), ("ecdsa", &ecdsa), ("ed25519", &edwards)] {
        builder.pki().write_pem(name, issued);
    }
    let one = |name: &str| format!("{{ chain = \"{name}.pem\", key = \"{name}.key\" }}");
    let all = format!("[{}, {}, {}]", one("rsa"), one("ecdsa"), one("ed25519"));
    let gateway = with(builder, &all).listener("tls = { min_version = \"1.2\" }").start();
    assert_eq!(gateway.connect().server_chain()[0], *ecdsa.leaf());
    for (schemes, expected) in [
        ("ECDSA+SHA256", "id-ecPublicKey"),
        ("RSA-PSS+SHA256", "rsaEncryption"),
        ("ed25519", "ED25519"),
        ("RSA-PSS+SHA256:ECDSA+SHA256", "id-ecPublicKey"),
    ] {
        for tls12 in [false, true] {
            let mut client =
                gateway.s_client(gateway.edge, HOST).arguments(["-sigalgs", schemes, "-showcerts"]);
            // The chain itself is signed with ECDSA.
            client = client.identity(&gateway.client_files("partner", &gateway.partner));
            if tls12 {
                client = client.tls12();
            }
            let run = client.get(HOST, "/");
            assert!(run.text.contains(&format!("PKEY: {expected}")), "{schemes} {tls12}: {}", run.text);
        }
    }
    // Two of one kind leave nothing to choose by.
    let builder = Gateway::builder();
    let (first, second) =
        (builder.root().issue(&Leaf::server(HOST)), builder.root().issue(&Leaf::server(HOST)));
    builder.pki().write_pem("rsa", &first);
    builder.pki().write_pem("ecdsa", &second);
    let refusal = with(builder, &format!("[{}, {}]", one("rsa"), one("ecdsa"))).refusal();
    assert!(refusal.contains("same kind") || refusal.contains("two"), "{refusal}");
}

#[test]
fn chains_are_checked_when_they_are_read() {
    let root = Authority::root("Test Root");
    let (upper, stranger) = (root.intermediate("Upper CA"), Authority::root("Stranger"));
    let lower = upper.intermediate("Lower CA");
    let issued = lower.issue(&Leaf::server(HOST));
    let certificate = |authority: &Authority| -> CertificateDer<'static> { authority.certificate().clone() };
    for (what, chain, expected) in [
        ("out of order", vec![certificate(&upper), certificate(&lower)], Some("order")),
        (
            "one that does not belong there",
            vec![certificate(&stranger), certificate(&lower)],
            Some("Stranger"),
        ),
        ("in order", vec![certificate(&lower), certificate(&upper)], None),
        ("with the root", vec![certificate(&lower), certificate(&upper), certificate(&root)], None),
    ] {
        let builder = Gateway::builder().signed_by(&root);
        builder.pki().write_pem("own", &issued.presenting(&chain));
        let builder = with(builder, "{ chain = \"own.pem\", key = \"own.key\" }");
        match expected {
            Some(expected) => {
                let refusal = builder.refusal();
                assert!(refusal.contains("own.pem") && refusal.contains(expected), "{what}: {refusal}");
            }
            None => builder.start().assert_serves(),
        }
    }
    let builder = Gateway::builder().signed_by(&root);
    builder.pki().write_pem("own", &root.issue(&Leaf::server(HOST).expired()));
    let refusal = with(builder, "{ chain = \"own.pem\", key = \"own.key\" }").refusal();
    assert!(refusal.contains("expired"), "{refusal}");
}
