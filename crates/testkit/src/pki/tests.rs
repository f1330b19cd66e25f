use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::pki_types::{ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;

use super::*;

/// What rustls says about a client chain.
fn verify_client(root: &Authority, client: &Issued) -> Result<(), String> {
    let mut roots = RootCertStore::empty();
    roots.add(root.certificate().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider).build().unwrap();
    let outcome = verifier.verify_client_cert(client.leaf(), &client.chain()[1..], UnixTime::now());
    outcome.map(drop).map_err(|error| error.to_string())
}

#[test]
fn issues_chains_that_verify() {
    let root = Authority::root("Root");
    let issuing = root.intermediate("Middle").intermediate("Issuing");
    let client = issuing.issue(&Leaf::client("a").organization("A").spiffe("spiffe://example.org/a"));
    assert_eq!(client.chain().len(), 3);
    assert_eq!(verify_client(&root, &client), Ok(()));
    assert!(verify_client(&root, &client.presenting(&[])).is_err(), "intermediates are missing");
    assert!(verify_client(&Authority::root("Root"), &client).is_err(), "same name, other key");
}

#[test]
fn issues_every_key_type() {
    let all =
        [KeyType::P256, KeyType::P384, KeyType::P521, KeyType::Ed25519, KeyType::Rsa2048, KeyType::Rsa3072];
    for key in all {
        let root = Authority::root_with_key("Root", key);
        let client = root.issue(&Leaf::client("a").key(key));
        assert_eq!(verify_client(&root, &client), Ok(()), "{key:?}");
        rustls::crypto::aws_lc_rs::sign::any_supported_type(&client.key()).expect("a key that rustls takes");
    }
}

#[test]
fn issues_server_certificates() {
    let root = Authority::root("Root");
    let server = root.issue(&Leaf::server("api.example.com"));
    let mut roots = RootCertStore::empty();
    roots.add(root.certificate().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(roots.into(), provider).build().unwrap();
    let verify = |name: &str| {
        use rustls::client::danger::ServerCertVerifier;
        let name = ServerName::try_from(name.to_owned()).unwrap();
        verifier.verify_server_cert(server.leaf(), &[], &name, &[], UnixTime::now()).is_ok()
    };
    assert!(verify("api.example.com"));
    assert!(!verify("other.example.com"));
}

#[test]
fn issues_certificates_that_must_be_refused() {
    let root = Authority::root("Root");
    for (leaf, reason) in [
        (Leaf::client("a").expired(), "expired"),
        (Leaf::client("a").not_yet_valid(), "not valid yet"),
        (Leaf::client("a").usages(&[Usage::ServerAuth]), "extended key usage"),
        (Leaf::client("a").usages(&[Usage::Any]), "extended key usage"),
        (Leaf::client("a").authority(), "CaUsedAsEndEntity"),
    ] {
        let error = verify_client(&root, &root.issue(&leaf)).unwrap_err();
        assert!(error.contains(reason), "{reason}: {error}");
    }
    let expired = Authority::expired_root("Root");
    assert!(expired.certificate().len() > 100);
}

#[test]
fn writes_subjects_that_rcgen_cannot() {
    let root = Authority::root("Root");
    let client =
        root.issue(&Leaf::client("alice").common_name("admin\0.evil,CN=x").attribute("2.5.4.97", "Z"));
    let subject = der::sequence(&[
        der::rdn("2.5.4.3", &der::utf8("alice")),
        der::rdn("2.5.4.3", &der::utf8("admin\0.evil,CN=x")),
        der::rdn("2.5.4.97", &der::utf8("Z")),
    ]);
    let holds = |issued: &Issued, part: &[u8]| issued.leaf().windows(part.len()).any(|window| window == part);
    assert!(holds(&client, &subject));
    assert_eq!(verify_client(&root, &client), Ok(()), "webpki does not look at it");
    let raw =
        root.issue(&Leaf::client("a").raw_subject(der::sequence(&[der::rdn("2.5.4.3", &der::bmp("ü"))])));
    assert!(holds(&raw, &der::bmp("ü")));
    let nameless = root.issue(&Leaf::client("a").no_subject().dns("host"));
    assert!(!holds(&nameless, &der::utf8("a")));
}

#[test]
fn writes_files_for_the_owner_only() {
    let pki = Pki::new();
    let root = Authority::root("Root");
    let server = root.issue(&Leaf::server("localhost"));
    let files = pki.write_pem("tls/api", &server);
    for path in [&files.chain, &files.key, &pki.write_authorities("trust/ca.pem", &[&root, &root])] {
        assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
    }
    use rustls::pki_types::pem::PemObject;
    let chain: Vec<_> = CertificateDer::pem_file_iter(&files.chain).unwrap().map(Result::unwrap).collect();
    assert_eq!(chain, server.chain());
    assert_eq!(PrivateKeyDer::from_pem_file(&files.key).unwrap(), server.key());
    let renewed = root.issue(&Leaf::server("localhost").same_key_as(&server).serial(&[7, 8]));
    assert_eq!((renewed.key(), renewed.leaf() == server.leaf()), (server.key(), false));
    let path = pki.path().to_owned();
    pki.write("tls/api.pem", renewed.chain_pem());
    assert_eq!(fs::read_dir(path.join("tls")).unwrap().count(), 2, "no draft is left");
    drop(pki);
    assert!(!path.exists());
}

/// What OpenSSL reads in a certificate.
fn text(certificate: &[u8]) -> String {
    let text = crate::openssl(["x509", "-inform", "DER", "-noout", "-text"], certificate);
    String::from_utf8(text).unwrap()
}

#[test]
fn writes_what_revocation_and_profiles_look_at() {
    let root = Authority::root("Root");
    let leaf = root.issue(
        &Leaf::server("a")
            .serial(&[0xab, 0xcd])
            .crl_url("http://crl.example/1")
            .crl_url("http://crl.example/2")
            .ocsp_url("http://ocsp.example/")
            .policy("1.3.6.1.4.1.99999.1")
            .policy("2.5.29.32.0")
            .must_staple(),
    );
    let said = text(leaf.leaf());
    for part in [
        "(0xabcd)",
        "URI:http://crl.example/1",
        "URI:http://crl.example/2",
        "OCSP - URI:http://ocsp.example/",
        "Policy: 1.3.6.1.4.1.99999.1",
        "Policy: X509v3 Any Policy",
        "status_request",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert_eq!(leaf.serial(), [0xab, 0xcd]);
    let fingerprint = crate::openssl(["x509", "-outform", "DER"], leaf.chain_pem().as_bytes());
    assert_eq!(leaf.fingerprint_sha256(), sha256(&fingerprint));
    let public = crate::openssl(["x509", "-noout", "-pubkey"], leaf.chain_pem().as_bytes());
    assert_eq!(leaf.spki_sha256(), sha256(&crate::openssl(["pkey", "-pubin", "-outform", "DER"], &public)));
}

#[test]
fn makes_authorities_to_order() {
    let root = Authority::root("Root");
    let options = AuthorityOptions::named("Issuing").serial(&[7]).path_length(0).without_crl_signing();
    let issuing =
        root.intermediate_with(&options.crl_url("http://crl.example/").ocsp_url("http://ocsp.example/"));
    let said = text(issuing.certificate());
    for part in ["pathlen:0", "crl.example", "ocsp.example", "Serial Number: 7", "Certificate Sign\n"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(!said.contains("CRL Sign") && issuing.serial() == [7]);
    assert_eq!(verify_client(&root, &issuing.issue(&Leaf::client("a"))), Ok(()));
    let below = issuing.intermediate("Too deep").issue(&Leaf::client("a"));
    assert!(verify_client(&root, &below).unwrap_err().contains("PathLen"));

    let renewed = Authority::root_with(&AuthorityOptions::named("Root").same_key_as(&root));
    assert_eq!(renewed.spki_sha256(), root.spki_sha256());
    assert_ne!(renewed.fingerprint_sha256(), root.fingerprint_sha256());
    assert_eq!(verify_client(&renewed, &root.issue(&Leaf::client("a"))), Ok(()));
    let late =
        root.intermediate_with(&AuthorityOptions::named("Issuing").expired()).issue(&Leaf::client("a"));
    assert!(verify_client(&root, &late).unwrap_err().contains("expired"));
    let marked = AuthorityOptions::named("Root").extension("1.2.3.4", false, der::null());
    assert!(text(Authority::root_with(&marked).certificate()).contains("1.2.3.4"));
}
