use ringward_testkit::{
    Authority, AuthorityOptions, Crl, Issued, KeyType, Leaf, OcspAnswer, OcspDatabase, OcspRefusal, Pki,
    RevocationReason as Reason, Usage, der, openssl,
};

use super::*;
use crate::revocation::testing::{DAY, HOUR, complete, issuer, mutate, now, serial, time, with_lists};
use crate::revocation::{DenyEntry, DenyList, DenyTarget, RevocationParts};
use crate::testing::Noise;

/// An authority and a certificate of it that is asked about.
struct Question {
    root: Authority,
    issued: Issued,
    issuer: IssuerCertificate,
}

impl Question {
    fn new() -> Self {
        Self::of(Authority::root("Root"))
    }

    fn of(root: Authority) -> Self {
        let issued = root.issue(&Leaf::client("a"));
        let issuer = issuer(&root);
        Self { root, issued, issuer }
    }

    fn check(&self) -> OcspCheck<'_> {
        OcspCheck {
            issuer: &self.issuer,
            serial: serial(self.issued.serial()),
            nonce: None,
            now_unix: now(),
            revocation: None,
        }
    }

    fn good(&self) -> OcspAnswer {
        OcspAnswer::good(&self.issued, &self.root)
    }

    fn verify(&self, der: &[u8]) -> Result<OcspStatus, OcspError> {
        verify_response(der, &self.check()).map(|response| response.status)
    }

    /// Signed by a certificate of the issuer.
    fn by(&self, responder: &Leaf) -> Result<OcspStatus, OcspError> {
        self.verify(&self.good().signed_by(&self.root.issue(responder)))
    }
}

#[test]
fn answers_of_the_issuer_are_believed() {
    for key in [KeyType::P256, KeyType::P384, KeyType::P521, KeyType::Ed25519, KeyType::Rsa2048] {
        let it = Question::of(Authority::root_with_key("Root", key));
        let good = it.good();
        let response = verify_response(&good.signed_by_authority(&it.root), &it.check()).unwrap();
        assert_eq!(response.status, OcspStatus::Good, "{key:?}");
        assert!((now() - HOUR - 5..=now() - HOUR).contains(&response.this_update_unix));
        assert_eq!(response.next_update_unix, Some(response.until_unix));
        assert_eq!(it.verify(&good.by_key().signed_by_authority(&it.root)), Ok(OcspStatus::Good));
    }
    let it = Question::new();
    let by = |answer: OcspAnswer| it.verify(&answer.signed_by_authority(&it.root));
    assert_eq!(by(it.good().sha256()), Ok(OcspStatus::Good));
    assert_eq!(by(OcspAnswer::unknown(&it.issued, &it.root)), Ok(OcspStatus::Unknown));
    let revoked = by(OcspAnswer::revoked(&it.issued, &it.root, Reason::KeyCompromise));
    assert!(
        matches!(revoked, Ok(OcspStatus::Revoked { reason: RevocationReason::KeyCompromise, at_unix }) if at_unix < now())
    );
    // Beside an answer about another.
    let other = OcspAnswer::revoked(&it.root.issue(&Leaf::client("b")), &it.root, Reason::Superseded);
    assert_eq!(by(it.good().after(&other)), Ok(OcspStatus::Good));
}

#[test]
fn answers_of_openssl_are_believed() {
    let pki = Pki::new();
    let it = Question::new();
    let database = OcspDatabase::new(&pki, "root", &it.root);
    assert_eq!(it.verify(&database.answer(&it.issued, 60, &[])), Ok(OcspStatus::Unknown));
    database.good(&it.issued);
    assert_eq!(it.verify(&database.answer(&it.issued, 60, &[])), Ok(OcspStatus::Good));
    let signer = it.root.issue(&Leaf::ocsp_signer("OCSP"));
    let delegated = OcspDatabase::delegated(&pki, "delegated", &it.root, &signer);
    delegated.good(&it.issued);
    assert_eq!(it.verify(&delegated.answer(&it.issued, 60, &[])), Ok(OcspStatus::Good));
    delegated.revoked(&it.issued, "keyCompromise");
    let revoked = it.verify(&delegated.answer(&it.issued, 60, &[]));
    assert!(
        matches!(revoked, Ok(OcspStatus::Revoked { reason: RevocationReason::KeyCompromise, .. })),
        "{revoked:?}"
    );
}

#[test]
fn requests_are_what_openssl_reads() {
    let it = Question::new();
    let read = |hash, nonce: Option<&[u8]>| {
        let request = request(&it.issuer, &serial(it.issued.serial()), hash, nonce);
        assert!(request.len() < 255);
        let pki = Pki::new();
        let file = pki.write("request.der", request);
        String::from_utf8(openssl(["ocsp", "-req_text", "-reqin", file.to_str().unwrap()], b"")).unwrap()
    };
    let text = read(CertIdHash::Sha1, None);
    let number = serial(it.issued.serial()).to_string().to_uppercase();
    assert!(
        text.contains("Hash Algorithm: sha1") && text.contains(&number) && !text.contains("Nonce"),
        "{text}"
    );
    let text = read(CertIdHash::Sha256, Some(&[7; NONCE_OCTETS]));
    assert!(text.contains("Hash Algorithm: sha256") && text.contains("OCSP Nonce"), "{text}");
    // And it answers them.
    let pki = Pki::new();
    let database = OcspDatabase::new(&pki, "root", &it.root);
    database.good(&it.issued);
    let nonce = [0x5a; NONCE_OCTETS];
    let file =
        pki.write("r.der", request(&it.issuer, &serial(it.issued.serial()), CertIdHash::Sha1, Some(&nonce)));
    let der = database.answer(&it.issued, 60, &["-reqin", file.to_str().unwrap()]);
    let check =
        |nonce| verify_response(&der, &OcspCheck { nonce, ..it.check() }).map(|response| response.status);
    assert_eq!(check(Some(&nonce[..])), Ok(OcspStatus::Good));
    assert_eq!(check(Some(&[0x5b; NONCE_OCTETS][..])), Err(OcspError::Nonce));
    assert_eq!(check(None), Ok(OcspStatus::Good));
}

#[test]
fn serial_numbers_keep_their_sign_in_requests() {
    let it = Question::new();
    for (octets, integer) in [
        (&[][..], &[0x02, 1, 0][..]),
        (&[0x7f], &[0x02, 1, 0x7f]),
        (&[0x80], &[0x02, 2, 0, 0x80]),
        (&[0xff; 20], &[0x02, 21, 0, 0xff, 0xff]),
    ] {
        let request = request(&it.issuer, &serial(octets), CertIdHash::Sha1, None);
        assert!(request.windows(integer.len()).any(|window| window == integer), "{octets:?}");
    }
}

#[test]
fn delegated_responder_has_to_be_in_charge() {
    let it = Question::new();
    assert_eq!(it.by(&Leaf::ocsp_signer("OCSP")), Ok(OcspStatus::Good));
    let by_key = it.good().by_key().signed_by(&it.root.issue(&Leaf::ocsp_signer("OCSP")));
    assert_eq!(it.verify(&by_key), Ok(OcspStatus::Good));
    // A responder with the issuer's own name, and a key of its own.
    assert_eq!(it.by(&Leaf::ocsp_signer("Root")), Ok(OcspStatus::Good));
    for (what, responder) in [
        ("a client's certificate", Leaf::client("OCSP")),
        ("a server's certificate", Leaf::server("ocsp.example.com")),
        ("no purpose", Leaf::client("OCSP").usages(&[])),
        ("any purpose, which is not this one", Leaf::client("OCSP").usages(&[Usage::Any])),
        ("expired", Leaf::ocsp_signer("OCSP").expired()),
        ("not yet valid", Leaf::ocsp_signer("OCSP").not_yet_valid()),
        ("a key that may not sign", Leaf::ocsp_signer("OCSP").without_digital_signature()),
        ("a CA", Leaf::ocsp_signer("OCSP").authority()),
        ("an unknown critical extension", Leaf::ocsp_signer("OCSP").extension("1.2.3.4", true, der::null())),
    ] {
        assert!(
            matches!(it.by(&responder), Err(OcspError::Delegate { .. })),
            "{what}: {:?}",
            it.by(&responder)
        );
    }
    assert_eq!(
        it.by(&Leaf::ocsp_signer("OCSP").usages(&[Usage::OcspSigning, Usage::ClientAuth])),
        Ok(OcspStatus::Good)
    );
}

#[test]
fn delegated_responder_has_to_be_of_the_very_issuer() {
    let it = Question::new();
    let signed_by =
        |authority: &Authority| it.verify(&it.good().signed_by(&authority.issue(&Leaf::ocsp_signer("OCSP"))));
    let refused = |result| matches!(result, Err(OcspError::Delegate { .. }));
    assert!(refused(signed_by(&Authority::root("Root"))), "a namesake");
    assert!(refused(signed_by(&Authority::root("Other"))));
    // One below, or one above, is another.
    let purposes = der::sequence(&[der::oid("1.3.6.1.5.5.7.3.9")]);
    let below = AuthorityOptions::named("Below").extension("2.5.29.37", false, purposes);
    let below = it.root.intermediate_with(&below);
    assert!(refused(signed_by(&below)));
    let chain = below.issue(&Leaf::ocsp_signer("OCSP"));
    let with_chain = it.good().enclosing(chain.chain()).signed_by(&chain);
    assert!(refused(it.verify(&with_chain)), "also if the way to the issuer is in the answer");
    let under = Question::of(it.root.intermediate("Issuing"));
    let above = under.good().signed_by(&it.root.issue(&Leaf::ocsp_signer("OCSP")));
    assert!(refused(under.verify(&above)), "not for what another CA has issued");
    let by_above = under.good().signed_by_authority(&it.root);
    assert_eq!(under.verify(&by_above), Err(OcspError::UnknownSigner));
}

#[test]
fn revoked_responder_is_not_believed() {
    let it = Question::new();
    let responder = it.root.issue(&Leaf::ocsp_signer("OCSP"));
    let der = it.good().signed_by(&responder);
    let verify = |revocation: &Revocation| {
        verify_response(&der, &OcspCheck { revocation: Some(revocation), ..it.check() })
            .map(|response| response.status)
    };
    let refused = Err(OcspError::DelegateRevoked { serial: serial(responder.serial()) });
    assert_eq!(verify(&Revocation::empty()), Ok(OcspStatus::Good));
    assert_eq!(verify(&with_lists([complete(&it.root, &Crl::new().revoke(&[1]))])), Ok(OcspStatus::Good));
    assert_eq!(verify(&with_lists([complete(&it.root, &Crl::new().revoke(responder.serial()))])), refused);
    for target in [
        DenyTarget::Serial { issuer: it.issuer.id(), serial: serial(responder.serial()) },
        DenyTarget::Fingerprint(responder.fingerprint_sha256()),
        DenyTarget::Spki(responder.spki_sha256()),
    ] {
        let mut deny = DenyList::new();
        let (reason, by) = ("stolen".to_owned(), "uid 0".to_owned());
        deny.add(DenyEntry { target, reason, by, added_unix: 1, expires_unix: None }).unwrap();
        let revocation = Revocation::new(RevocationParts { deny: deny.into(), ..RevocationParts::default() });
        assert_eq!(verify(&revocation), refused);
    }
}

#[test]
fn foreign_signatures_are_refused() {
    let it = Question::new();
    let namesake = Authority::root("Root");
    let verify = |der: Vec<u8>| it.verify(&der);
    let wrong = Err(OcspError::Signature(super::super::SignatureError::Wrong));
    assert_eq!(verify(it.good().signed_by_authority(&namesake)), wrong, "same name, other key");
    assert_eq!(verify(it.good().by_key().signed_by_authority(&namesake)), Err(OcspError::UnknownSigner));
    assert_eq!(
        verify(it.good().signed_by_authority(&Authority::root("Other"))),
        Err(OcspError::UnknownSigner)
    );
    // A responder whose certificate is not in the answer, or behind many others.
    let responder = it.root.issue(&Leaf::ocsp_signer("OCSP"));
    let enclosing = |count: usize| {
        let mut certificates = vec![it.issued.leaf().clone(); count];
        certificates.push(responder.leaf().clone());
        it.good().enclosing(&certificates).signed_by(&responder)
    };
    assert_eq!(verify(it.good().enclosing(&[]).signed_by(&responder)), Err(OcspError::UnknownSigner));
    assert_eq!(verify(enclosing(CERTIFICATES_MAX - 1)), Ok(OcspStatus::Good));
    assert_eq!(verify(enclosing(CERTIFICATES_MAX)), Err(OcspError::UnknownSigner));
    // The right certificate, and somebody else's signature.
    let other = it.root.issue(&Leaf::ocsp_signer("OCSP"));
    assert_eq!(verify(it.good().enclosing(&[responder.leaf().clone()]).signed_by(&other)), wrong);
}

#[test]
fn answer_has_to_be_about_the_certificate() {
    let it = Question::new();
    let verify = |answer: OcspAnswer| it.verify(&answer.signed_by_authority(&it.root));
    let other = Err(OcspError::OtherCertificate);
    assert_eq!(verify(it.good().serial(&[1])), other);
    assert_eq!(verify(OcspAnswer::good(&it.issued, &Authority::root("Root"))), other, "key hash");
    let renamed = Authority::root_with(&AuthorityOptions::named("Other").same_key_as(&it.root));
    assert_eq!(verify(OcspAnswer::good(&it.issued, &renamed)), other, "name hash");
    assert_eq!(verify(it.good().after(&it.good())), Err(OcspError::Ambiguous));
    let revoked = OcspAnswer::revoked(&it.issued, &it.root, Reason::KeyCompromise);
    assert_eq!(verify(it.good().after(&revoked)), Err(OcspError::Ambiguous));
    assert_eq!(verify(it.good().sha256().after(&revoked)), Err(OcspError::Ambiguous), "by either hash");
}

#[test]
fn answers_are_current_to_the_second() {
    let it = Question::new();
    let (made, next) = (now() - HOUR, now() + HOUR);
    let der = |answer: OcspAnswer| answer.this_update(time(made)).signed_by_authority(&it.root);
    let at = |der: &[u8], now_unix| verify_response(der, &OcspCheck { now_unix, ..it.check() });
    let bounded = der(it.good().next_update(time(next)));
    assert_eq!(at(&bounded, next - 1).unwrap().until_unix, next);
    assert_eq!(at(&bounded, next), Err(OcspError::Stale { until_unix: next, now_unix: next }));
    assert!(at(&bounded, made - CLOCK_SKEW_SECONDS).is_ok());
    let early = made - CLOCK_SKEW_SECONDS - 1;
    assert_eq!(at(&bounded, early), Err(OcspError::NotYetValid { at_unix: made, now_unix: early }));
    // Each of the two times by itself: when it was signed, which is that of the last answer, and thisUpdate.
    let other = OcspAnswer::good(&it.root.issue(&Leaf::client("b")), &it.root);
    let both = |ours, others| {
        let der = other.clone().this_update(time(others)).after(&it.good().this_update(time(ours)));
        at(&der.signed_by_authority(&it.root), made)
    };
    assert!(both(made, made).is_ok());
    assert!(matches!(both(made + HOUR, made), Err(OcspError::NotYetValid { .. })));
    assert!(matches!(both(made, made + HOUR), Err(OcspError::NotYetValid { .. })));
    let unbounded = der(it.good().without_next_update());
    let until = made + ANSWER_AGE_SECONDS_MAX;
    assert_eq!(at(&unbounded, until - 1).unwrap().until_unix, until);
    assert_eq!(at(&unbounded, until - 1).unwrap().next_update_unix, None);
    assert!(matches!(at(&unbounded, until), Err(OcspError::Stale { .. })));
    let backwards = der(it.good().next_update(time(made)));
    assert!(matches!(at(&backwards, made + CLOCK_SKEW_SECONDS + 2 * HOUR), Err(OcspError::Stale { .. })));
    assert!(matches!(
        it.verify(&it.good().stale().signed_by_authority(&it.root)),
        Err(OcspError::Stale { .. })
    ));
    let tomorrow = it.good().from_the_future().signed_by_authority(&it.root);
    assert!(matches!(it.verify(&tomorrow), Err(OcspError::NotYetValid { .. })));
    assert!(matches!(at(&bounded, now() + 10 * DAY), Err(OcspError::Stale { .. })));
}

#[test]
fn nonce_that_comes_back_is_the_one_that_was_sent() {
    let it = Question::new();
    let verify = |answer: OcspAnswer, nonce: Option<&[u8]>| {
        verify_response(&answer.signed_by_authority(&it.root), &OcspCheck { nonce, ..it.check() })
            .map(|r| r.status)
    };
    let sent = [7; NONCE_OCTETS];
    assert_eq!(verify(it.good().nonce(&sent), Some(&sent)), Ok(OcspStatus::Good));
    assert_eq!(verify(it.good().nonce(&[8; NONCE_OCTETS]), Some(&sent)), Err(OcspError::Nonce));
    assert_eq!(verify(it.good().nonce(&sent[1..]), Some(&sent)), Err(OcspError::Nonce));
    assert_eq!(verify(it.good(), Some(&sent)), Ok(OcspStatus::Good), "signed in advance");
    assert_eq!(verify(it.good().nonce(&sent), None), Ok(OcspStatus::Good));
}

#[test]
fn critical_extensions_have_to_be_known() {
    let it = Question::new();
    let verify =
        |critical| it.verify(&it.good().extension("1.2.3.4", critical, b"?").signed_by_authority(&it.root));
    assert_eq!(verify(false), Ok(OcspStatus::Good));
    assert_eq!(verify(true), Err(OcspError::UnknownCritical { oid: "1.2.3.4".to_owned() }));
}

#[test]
fn what_is_no_answer_is_refused() {
    let it = Question::new();
    for (reason, status) in
        [(OcspRefusal::TryLater, 3), (OcspRefusal::Unauthorized, 6), (OcspRefusal::InternalError, 2)]
    {
        assert_eq!(it.verify(&OcspAnswer::refusal(reason)), Err(OcspError::Responder { status }));
    }
    assert!(OcspError::Responder { status: 3 }.to_string().contains("tryLater"));
    let malformed = |der: &[u8]| matches!(it.verify(der), Err(OcspError::Malformed { .. }));
    assert!(malformed(b""));
    assert!(malformed(b"<html>"));
    assert!(malformed(&der::sequence(&[der::enumerated(0)])), "successful, and nothing");
    let kind = der::sequence(&[der::oid("1.2.3.4"), der::octets(b"?")]);
    let kind = der::sequence(&[der::enumerated(0), der::context(0, &kind)]);
    assert_eq!(it.verify(&kind), Err(OcspError::Kind { oid: "1.2.3.4".to_owned() }));
    let good = it.good().signed_by_authority(&it.root);
    assert!(malformed(&[&good[..], b"\0"].concat()));
    assert!(malformed(&vec![0; OCSP_RESPONSE_BYTES_MAX]));
    let long = it.verify(&vec![0; OCSP_RESPONSE_BYTES_MAX + 1]);
    assert_eq!(long, Err(OcspError::TooLong { bytes: OCSP_RESPONSE_BYTES_MAX + 1 }));
}

#[test]
fn what_nobody_expects_is_refused_wherever_it_is() {
    let it = Question::new();
    let good = it.good().signed_by_authority(&it.root);
    let basic = basic_response(&good).unwrap();
    let mut fields = Reader::inside(basic, SEQUENCE).unwrap();
    let signed = Signed::read(&mut fields).unwrap();
    let with = |bytes: &[u8]| [bytes, &der::null()].concat();

    // Behind the signature, where none covers it.
    let [_, algorithm, signature] = [0, 1, 2].map({
        let mut fields = Reader::inside(basic, SEQUENCE).unwrap();
        move |_| fields.any().unwrap().raw.to_vec()
    });
    let content = der::sequence(&[signed.content.to_vec()]);
    let enclose = |fields: &[Vec<u8>]| {
        let bytes = der::sequence(&[der::oid("1.3.6.1.5.5.7.48.1.1"), der::octets(&der::sequence(fields))]);
        it.verify(&der::sequence(&[der::enumerated(0), der::context(0, &bytes)]))
    };
    let whole = [content, algorithm, signature];
    assert_eq!(enclose(&whole), Ok(OcspStatus::Good));
    let longer = [&whole[..], &[der::null()]].concat();
    assert_eq!(enclose(&longer), Err(OcspError::Malformed { what: "the basic response" }));

    let answer = Answer::read(signed.content).unwrap();
    assert!(Answer::read(&with(signed.content)).is_err());
    let version =
        |number| Answer::read(&[&der::context(0, &der::integer(&[number])), signed.content].concat()).is_ok();
    assert_eq!((version(0), version(1)), (true, false));
    let single = Reader::new(answer.singles).expect(SEQUENCE).unwrap();
    assert!(Single::read(single).is_ok() && Single::read(&with(single)).is_err());
    // The status follows the certificate's ID: good, revoked, unknown, and no fourth.
    let status = Reader::new(single).element(SEQUENCE).unwrap().raw.len();
    let mut fourth = single.to_vec();
    assert_eq!(std::mem::replace(&mut fourth[status], context(3)), context(0));
    assert!(Single::read(&fourth).is_err());
}

#[test]
fn answer_that_ends_before_it_begins_is_none() {
    let it = Question::new();
    let backwards = it.good().this_update(time(now() + 200)).next_update(time(now() + 100));
    let refused = it.verify(&backwards.signed_by_authority(&it.root));
    assert!(matches!(refused, Err(OcspError::Stale { .. })), "{refused:?}");
}

#[test]
fn every_octet_counts() {
    let it = Question::new();
    let responder = it.root.issue(&Leaf::ocsp_signer("OCSP"));
    let der = it.good().signed_by(&responder);
    for position in 0..der.len() {
        for flip in [0x01, 0x80] {
            let mut altered = der.clone();
            altered[position] ^= flip;
            assert!(it.verify(&altered).is_err(), "octet {position}");
        }
    }
}

#[test]
fn mutated_answers_are_read_without_harm() {
    let mut noise = Noise(0x5eed_0006);
    let it = Question::new();
    let responder = it.root.issue(&Leaf::ocsp_signer("OCSP"));
    let revoked = OcspAnswer::revoked(&it.issued, &it.root, Reason::KeyCompromise).nonce(&[7; 16]).by_key();
    let seeds = [
        it.good().signed_by_authority(&it.root),
        it.good().extension("1.2.3.4", false, b"?").signed_by(&responder),
        revoked.after(&it.good().serial(&[1])).signed_by(&responder),
    ];
    for round in 0..3000 {
        let seed = &seeds[round % seeds.len()];
        let mut bytes = seed.clone();
        for _ in 0..=noise.below(4) {
            mutate(&mut bytes, &mut noise);
        }
        if let Ok(response) = verify_response(&bytes, &it.check()) {
            let original = verify_response(seed, &it.check()).unwrap();
            assert_eq!(response, original, "what is signed is as it was");
        }
        // The parts behind the signature, as if somebody in charge had signed them.
        for from in 0..bytes.len().min(60) {
            if let Ok(answer) = Answer::read(&bytes[from..]) {
                let _ = check_extensions(answer.extensions, Some(&[7; 16]));
                let _ = find_answer(&answer, &it.check()).map(|single| single.check(now()));
            }
        }
    }
}
