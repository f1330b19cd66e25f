use std::time::{Duration, SystemTime};

use ringward_testkit::{
    Authority, AuthorityOptions, Issued, KeyType, Leaf, OcspAnswer, OcspDatabase, OcspRefusal, Pki,
};
use ringward_testkit::{RevocationReason as Reason, der};
use rustls::SignatureScheme;
use rustls_pki_types::UnixTime;

use super::*;
use crate::certificate::unix_seconds;
use crate::credential::testing::{ALL, Shop, Shown, credential};
use crate::testing::{HOST, Noise};

/// An issuing CA below a root, a certificate of it, and its credential.
struct Fixture {
    root: Authority,
    issuing: Authority,
    issued: Issued,
    credential: Credential,
}

impl Fixture {
    fn new() -> Self {
        Self::of(&Leaf::server(HOST))
    }

    fn of(leaf: &Leaf) -> Self {
        let root = Authority::root("Root");
        let issuing = root.intermediate("Issuing");
        let issued = issuing.issue(leaf);
        let credential = credential(&issued);
        Self { root, issuing, issued, credential }
    }

    fn good(&self) -> OcspAnswer {
        OcspAnswer::good(&self.issued, &self.issuing)
    }

    fn verify(&self, response: &[u8]) -> Result<Staple, StapleError> {
        Staple::verify(response, &self.credential, now())
    }

    fn staple(&self) -> Arc<Staple> {
        Arc::new(self.verify(&self.good().signed_by_authority(&self.issuing)).unwrap())
    }
}

fn now() -> i64 {
    unix_seconds(UnixTime::now())
}

fn at(unix: i64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(unix.unsigned_abs())
}

/// What a client sees that verifies P-256.
fn shown(shop: &Shop) -> Shown {
    shop.show(&[SignatureScheme::ECDSA_NISTP256_SHA256], ALL).unwrap()
}

#[test]
fn good_answers_become_staples() {
    let fixture = Fixture::new();
    let responder = fixture.issuing.issue(&Leaf::ocsp_signer("OCSP"));
    let good = fixture.good();
    for response in [
        good.signed_by_authority(&fixture.issuing),
        good.clone().by_key().sha256().signed_by_authority(&fixture.issuing),
        good.signed_by(&responder),
        good.clone().by_key().signed_by(&responder),
    ] {
        let staple = fixture.verify(&response).unwrap();
        assert_eq!(staple.der(), response);
        assert_eq!(staple.leaf_sha256(), &fixture.issued.fingerprint_sha256());
        assert_eq!(staple.next_update_unix() - staple.this_update_unix(), 25 * 3600);
        assert!(staple.this_update_unix() <= now() - 3600);
        // What was kept is checked in the same way.
        assert_eq!(fixture.verify(staple.der()).unwrap().der(), staple.der());
    }
    let name = fixture.credential.staple_file_name();
    assert_eq!(name, format!("{}.ocsp", hex(&fixture.issued.fingerprint_sha256())));
}

/// Nothing of this may ever be shown to a client.
#[test]
fn nothing_else_becomes_a_staple() {
    let fixture = Fixture::new();
    let Fixture { root, issuing, issued, .. } = &fixture;
    let good = fixture.good();
    let impostor = root.intermediate("Issuing");
    let neighbour = issuing.issue(&Leaf::server("other"));
    let client = issuing.issue(&Leaf::client("OCSP"));
    let twice_delegated = issuing.intermediate("Below").issue(&Leaf::ocsp_signer("OCSP"));
    let expired = issuing.issue(&Leaf::ocsp_signer("OCSP").expired());
    let critical = der::sequence(&[]);
    let right = good.signed_by_authority(issuing);
    let mut flipped = right.clone();
    *flipped.last_mut().unwrap() ^= 1;
    for (what, response) in [
        ("empty", Vec::new()),
        ("trailing bytes", [&right[..], &[0]].concat()),
        ("a flipped bit", flipped),
        ("same name, other key", good.signed_by_authority(&impostor)),
        ("the issuer of the issuer", good.signed_by_authority(root)),
        ("delegate of another CA", good.signed_by(&impostor.issue(&Leaf::ocsp_signer("OCSP")))),
        ("delegate without the usage", good.signed_by(&client)),
        ("delegate of a delegate", good.signed_by(&twice_delegated)),
        ("delegate expired", good.signed_by(&expired)),
        (
            "delegate not enclosed",
            good.clone().enclosing(&[]).signed_by(&issuing.issue(&Leaf::ocsp_signer("O"))),
        ),
        ("another serial number", OcspAnswer::good(&neighbour, issuing).signed_by_authority(issuing)),
        ("another issuer", OcspAnswer::good(issued, &impostor).signed_by_authority(issuing)),
        ("stale", good.clone().stale().signed_by_authority(issuing)),
        ("from the future", good.clone().from_the_future().signed_by_authority(issuing)),
        ("unknown critical", good.clone().extension("1.2.3", true, &critical).signed_by_authority(issuing)),
        ("two answers", good.clone().after(&good).signed_by_authority(issuing)),
        ("a refusal", OcspAnswer::refusal(OcspRefusal::TryLater)),
    ] {
        let error = fixture.verify(&response).expect_err(what);
        assert!(matches!(error, StapleError::Response { .. }), "{what}: {error}");
        assert!(error.to_string().contains("`CN=api.example.com`"), "{error}");
    }
}

#[test]
fn revoked_and_unknown_are_reported_and_never_attached() {
    let fixture = Fixture::new();
    let Fixture { issuing, issued, .. } = &fixture;
    let revoked = OcspAnswer::revoked(issued, issuing, Reason::KeyCompromise);
    let error = fixture.verify(&revoked.signed_by_authority(issuing)).unwrap_err();
    let StapleError::Revoked { at_unix, reason, .. } = &error else { panic!("{error}") };
    assert_eq!((*reason, *at_unix <= now()), (RevocationReason::KeyCompromise, true));
    assert!(error.to_string().contains("was revoked"), "{error}");
    let unknown = OcspAnswer::unknown(issued, issuing).signed_by_authority(issuing);
    assert!(matches!(fixture.verify(&unknown), Err(StapleError::Unknown { .. })));
    // A forged alarm is none.
    let forged = revoked.signed_by_authority(&Authority::root("Issuing"));
    assert!(matches!(fixture.verify(&forged), Err(StapleError::Response { .. })));
}

#[test]
fn a_staple_needs_an_end() {
    let fixture = Fixture::new();
    let endless = fixture.good().this_update(at(now())).without_next_update();
    let error = fixture.verify(&endless.signed_by_authority(&fixture.issuing)).unwrap_err();
    assert!(matches!(error, StapleError::NoNextUpdate { .. }), "{error}");
}

#[test]
fn a_staple_is_dropped_before_clients_refuse_it() {
    let fixture = Fixture::new();
    let usable = |begin: i64, end: i64| {
        let answer = fixture.good().this_update(at(begin)).next_update(at(end));
        let response = answer.signed_by_authority(&fixture.issuing);
        Staple::verify(&response, &fixture.credential, begin).unwrap().usable_until_unix()
    };
    let begin = now();
    assert_eq!(usable(begin, begin + 86_400), begin + 86_400 - 300);
    assert_eq!(usable(begin, begin + 3000), begin + 3000 - 300);
    assert_eq!(usable(begin, begin + 600), begin + 600 - 60, "a tenth of a short life");
}

#[test]
fn clients_see_the_staple_until_it_is_too_old() {
    let fixture = Fixture::new();
    let staple = fixture.staple();
    let bare = Shop::new(&[&fixture.credential]).unwrap();
    assert_eq!(shown(&bare), Shown { leaf: fixture.issued.leaf().to_vec(), staple: vec![] });
    let shop = Shop::new(&[&fixture.credential.with_staple(staple.clone()).unwrap()]).unwrap();
    assert_eq!(shown(&shop).staple, staple.der());
    for (clock, visible) in [
        (staple.usable_until_unix() - 1, true),
        (staple.usable_until_unix(), false),
        (staple.next_update_unix() + 1, false),
    ] {
        shop.set_clock(clock);
        let seen = shown(&shop);
        assert_eq!(seen.leaf, **fixture.issued.leaf());
        assert_eq!(seen.staple, if visible { staple.der() } else { &[] }, "{clock}");
    }
}

#[test]
fn a_staple_is_for_its_certificate_only() {
    let (one, other) = (Fixture::new(), Fixture::new());
    let error = other.credential.with_staple(one.staple()).unwrap_err();
    assert!(matches!(error, StapleError::OtherCertificate { .. }), "{error}");
    let renewed = one.issuing.issue(&Leaf::server(HOST).same_key_as(&one.issued).serial(one.issued.serial()));
    let error = credential(&renewed).with_staple(one.staple()).unwrap_err();
    assert!(matches!(error, StapleError::OtherCertificate { .. }), "same issuer, number and key: {error}");
}

#[test]
fn a_certificate_that_demands_a_staple_waits_for_a_good_one() {
    let plain = Fixture::new();
    assert!(!plain.credential.requires_staple());
    assert_eq!(plain.credential.check_staple(now()), Ok(()));

    let fixture = Fixture::of(&Leaf::server(HOST).must_staple());
    assert!(fixture.credential.requires_staple());
    let error = fixture.credential.check_staple(now()).unwrap_err();
    assert!(error.to_string().contains("`CN=api.example.com` demands an OCSP staple"), "{error}");
    let staple = fixture.staple();
    let stapled = fixture.credential.with_staple(staple.clone()).unwrap();
    assert_eq!(stapled.check_staple(now()), Ok(()));
    assert_eq!(stapled.check_staple(staple.usable_until_unix() - 1), Ok(()));
    assert!(stapled.check_staple(staple.usable_until_unix()).is_err());
}

#[test]
fn the_tls_feature_is_read_strictly() {
    let feature = |value: Vec<u8>| {
        let leaf = Leaf::server(HOST).extension("1.3.6.1.5.5.7.1.24", false, value);
        let issued = Authority::root("Root").issue(&leaf);
        let parsed = crate::certificate::Certificate::parse(issued.leaf()).unwrap();
        parsed.requires_staple()
    };
    let number = |value| der::integer(&[value]);
    assert_eq!(feature(der::sequence(&[number(5)])), Ok(true));
    assert_eq!(feature(der::sequence(&[number(17), number(5)])), Ok(true));
    assert_eq!(feature(der::sequence(&[number(17)])), Ok(false));
    assert_eq!(feature(der::sequence(&[])), Ok(false));
    for broken in
        [number(5), vec![], [der::sequence(&[number(5)]), vec![0]].concat(), der::sequence(&[der::null()])]
    {
        assert!(feature(broken.clone()).is_err(), "{broken:?}");
    }
}

#[test]
fn what_responses_are_checked_with_comes_from_the_chain() {
    let root = Authority::root("Root");
    let urls =
        ["ldap://ocsp.example/", "http://ocsp.example/a", "https://ocsp.example/b", "file:///etc/passwd"];
    let leaf = urls.iter().fold(Leaf::server(HOST), |leaf, url| leaf.ocsp_url(url));
    let issued = root.intermediate("Issuing").issue(&leaf);
    let whole = credential(&issued);
    assert_eq!(whole.issuer(), issued.chain().get(1));
    assert_eq!(whole.leaf(), issued.leaf());
    let kept: Vec<_> = whole.ocsp_urls().iter().map(|url| &**url).collect();
    assert_eq!(kept, urls[1..3]);
    let alone = credential(&root.issue(&leaf));
    assert_eq!(alone.issuer(), None);
    let error = alone.staple_request(CertIdHash::Sha1).unwrap_err();
    assert!(matches!(error, StapleError::NoIssuer { .. }), "{error}");
    assert_eq!(Staple::verify(b"", &alone, now()).unwrap_err(), error);
}

#[test]
fn openssl_answers_the_request() {
    let pki = Pki::new();
    let root = Authority::root("Root");
    for key in [KeyType::P256, KeyType::Rsa2048] {
        let issuing = root.intermediate_with(&AuthorityOptions::named("Issuing").key(key));
        let issued = issuing.issue(&Leaf::server(HOST));
        let credential = credential(&issued);
        let database = OcspDatabase::new(&pki, "issuing", &issuing);
        database.good(&issued);
        for hash in [CertIdHash::Sha1, CertIdHash::Sha256] {
            let request = pki.write("request.der", credential.staple_request(hash).unwrap());
            let response = database.answer_to(&request, 60, &[]);
            let staple = Staple::verify(&response, &credential, now()).unwrap();
            assert!(staple.next_update_unix() > now() + 3000);
            let broken = database.answer_to(&request, 60, &["-badsig"]);
            assert!(Staple::verify(&broken, &credential, now()).is_err());
        }
        database.revoked(&issued, "superseded");
        let request = pki.write("request.der", credential.staple_request(CertIdHash::Sha1).unwrap());
        let error = Staple::verify(&database.answer_to(&request, 60, &[]), &credential, now()).unwrap_err();
        assert!(
            matches!(error, StapleError::Revoked { reason: RevocationReason::Superseded, .. }),
            "{error}"
        );
    }
}

#[test]
fn damaged_responses_are_refused_without_harm() {
    let fixture = Fixture::new();
    let responder = fixture.issuing.issue(&Leaf::ocsp_signer("OCSP"));
    let right = fixture.good().signed_by(&responder);
    for length in 0..right.len() {
        assert!(fixture.verify(&right[..length]).is_err(), "cut at {length}");
    }
    let mut noise = Noise(11);
    for _ in 0..1000 {
        let mut damaged = right.clone();
        damaged[noise.below(right.len())] ^= 1 << noise.below(8);
        // A few bits are covered by no signature. What passes must be the same statement.
        if let Ok(staple) = fixture.verify(&damaged) {
            assert_eq!(staple.next_update_unix(), fixture.verify(&right).unwrap().next_update_unix());
        }
    }
}
