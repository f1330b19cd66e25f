use ringward_testkit::{Authority, Issued, KeyType, Leaf, OcspAnswer};
use rustls_pki_types::UnixTime;

use super::*;
use crate::credential::testing::{ALL, Shop, credential};
use crate::testing::HOST;
use crate::{SessionError, Staple, TlsBuildError};
use SignatureScheme as Scheme;

const KINDS: [KeyType; 5] = [KeyType::P256, KeyType::Ed25519, KeyType::P384, KeyType::P521, KeyType::Rsa2048];

/// The schemes by which clients verify the kinds, in the same order.
const SCHEMES: [Scheme; 5] = [
    Scheme::ECDSA_NISTP256_SHA256,
    Scheme::ED25519,
    Scheme::ECDSA_NISTP384_SHA384,
    Scheme::ECDSA_NISTP521_SHA512,
    Scheme::RSA_PSS_SHA256,
];

fn one_of_each(root: &Authority) -> Vec<(Issued, Credential)> {
    let one = |key| {
        let issued = root.issue(&Leaf::server(HOST).key(key));
        let credential = credential(&issued);
        (issued, credential)
    };
    KINDS.map(one).into()
}

#[test]
fn each_client_is_shown_the_cheapest_that_it_can_verify() {
    let all = one_of_each(&Authority::root("Root"));
    let position = |leaf: &[u8]| all.iter().position(|(issued, _)| **issued.leaf() == *leaf).unwrap();
    let given: Vec<_> = all.iter().rev().map(|(_, credential)| credential).collect();
    let shop = Shop::new(&given).unwrap();
    for versions in [&ALL[..1], &ALL[1..]] {
        for first in 0..SCHEMES.len() {
            // The client's order does not matter.
            let offered: Vec<_> = SCHEMES[first..].iter().rev().copied().collect();
            assert_eq!(position(&shop.show(&offered, versions).unwrap().leaf), first, "{offered:?}");
            assert_eq!(position(&shop.show(&[SCHEMES[first]], versions).unwrap().leaf), first);
        }
    }
    let pkcs1 = shop.show(&[Scheme::RSA_PKCS1_SHA256], &ALL[1..]).unwrap();
    assert_eq!(position(&pkcs1.leaf), 4, "TLS 1.2 clients may know no other");
}

#[test]
fn every_scheme_of_a_key_is_known() {
    for (key, (_, credential)) in KINDS.into_iter().zip(one_of_each(&Authority::root("Root"))) {
        let signs = |scheme: &Scheme| credential.certified_key().key.choose_scheme(&[*scheme]).is_some();
        let known = schemes(credential.key_kind());
        assert!(known.iter().all(signs), "{key:?}");
        let all = [&SCHEMES[..], schemes(KeyKind::Rsa)].concat();
        assert!(all.iter().filter(|scheme| signs(scheme)).all(|scheme| known.contains(scheme)), "{key:?}");
    }
}

#[test]
fn a_client_that_none_suits_is_refused_in_order() {
    let root = Authority::root("Root");
    let all = one_of_each(&root);
    for credentials in [vec![&all[0].1, &all[1].1], vec![&all[0].1]] {
        let shop = Shop::new(&credentials).unwrap();
        let refused = shop.show(&[Scheme::RSA_PSS_SHA256], ALL);
        let Err(SessionError::Handshake(failure)) = refused else { panic!("{refused:?}") };
        assert!(failure.to_string().to_lowercase().contains("signature"), "{failure}");
    }
}

#[test]
fn a_set_has_one_of_each_kind() {
    let root = Authority::root("Root");
    let server = |name: &str, key| Arc::new(credential(&root.issue(&Leaf::server(name).key(key))));
    let first = server("first", KeyType::P256);
    let set = |credentials: &[&Arc<Credential>]| {
        CredentialSet::new(credentials.iter().map(|&credential| credential.clone()).collect())
    };
    assert_eq!(set(&[]).unwrap_err(), CredentialSetError::Empty);
    let error =
        set(&[&first, &server("other", KeyType::P384), &server("second", KeyType::P256)]).unwrap_err();
    let text = error.to_string();
    for part in ["ecdsa-p256", "`CN=first`", "`CN=second`"] {
        assert!(text.contains(part), "{text}");
    }
    let rsa = server("rsa", KeyType::Rsa2048);
    let sorted = set(&[&rsa, &server("other", KeyType::P384), &first]).unwrap();
    let subjects: Vec<_> = sorted.credentials().iter().map(|credential| credential.subject()).collect();
    assert_eq!(subjects, ["CN=first", "CN=other", "CN=rsa"]);
    assert!(matches!(Shop::new(&[]), Err(TlsBuildError::Credentials(CredentialSetError::Empty))));
}

#[test]
fn one_that_lacks_the_staple_it_demands_is_shown_last() {
    let root = Authority::root("Root");
    let issuing = root.intermediate("Issuing");
    let demanding = issuing.issue(&Leaf::server(HOST).must_staple());
    let rsa = issuing.issue(&Leaf::server(HOST).key(KeyType::Rsa2048));
    let bare = credential(&demanding);
    let now = unix_seconds(UnixTime::now());
    let response = OcspAnswer::good(&demanding, &issuing).signed_by_authority(&issuing);
    let staple = Arc::new(Staple::verify(&response, &bare, now).unwrap());
    let stapled = bare.with_staple(staple.clone()).unwrap();
    let other = credential(&rsa);
    let leaf = |shop: &Shop, schemes: &[Scheme]| shop.show(schemes, ALL).unwrap().leaf;

    let shop = Shop::new(&[&bare, &other]).unwrap();
    assert_eq!(leaf(&shop, &SCHEMES), **rsa.leaf());
    assert_eq!(leaf(&shop, &SCHEMES[..1]), **demanding.leaf(), "better than none");
    let shop = Shop::new(&[&stapled, &other]).unwrap();
    assert_eq!(leaf(&shop, &SCHEMES), **demanding.leaf());
    shop.set_clock(staple.usable_until_unix());
    assert_eq!(leaf(&shop, &SCHEMES), **rsa.leaf(), "too old");
}
