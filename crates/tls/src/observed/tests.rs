use std::sync::Arc;

use rcgen::{CustomExtension, DnType, SanType};
use rustls::SignatureScheme;
use rustls::client::ResolvesClientCert;
use rustls::crypto::aws_lc_rs;
use rustls::sign::CertifiedKey;

use super::*;
use crate::HandshakeReason as Reason;
use crate::testing::{Ca, Leaf, NOW, Pair, Pki, bundle, date};
use crate::{ClientAuthMode, PathMemo};

/// Presents a chain without looking at it, and signs with the key of `signer`.
#[derive(Debug)]
struct Presents(Arc<CertifiedKey>);

impl Presents {
    fn new(chain: &Leaf, signer: &Leaf) -> Arc<Self> {
        let key = aws_lc_rs::sign::any_supported_type(&signer.key_der()).unwrap();
        Arc::new(Self(Arc::new(CertifiedKey::new(chain.chain.clone(), key))))
    }
}

impl ResolvesClientCert for Presents {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// Runs a handshake on a host that observes, which must succeed and leave the client anonymous.
fn observe(pki: &Pki, chain: &Leaf, signer: &Leaf) -> ObservedIdentity {
    let mut config = pki.client_config(None);
    config.client_auth_cert_resolver = Presents::new(chain, signer);
    let mut pair = Pair::new(&pki.worker(ClientAuthMode::Observe), config);
    pair.run().unwrap();
    assert!(!pair.session.is_handshaking());
    assert!(pair.session.peer_identity().is_none(), "nobody gets an identity");
    assert!(pair.session.peer_chain().is_none());
    pair.client_says(b"hello");
    pair.run().unwrap();
    assert_eq!(pair.plain, b"hello");
    pair.session.observed().expect("a certificate was presented").clone()
}

#[test]
fn a_good_client_is_named_and_stays_anonymous() {
    let pki = Pki::new();
    let alice = pki.client("alice");
    let observed = observe(&pki, &alice, &alice);
    let identity = alice.identity();
    assert_eq!((observed.name.as_str(), observed.verdict), ("CN=alice", Ok(())));
    assert_eq!(observed.issuer, identity.issuer());
    assert_eq!(observed.serial, identity.serial());
    assert_eq!(observed.fingerprint_hex, identity.fingerprint_hex());
    assert!(observed.message.is_empty());
}

#[test]
fn nobody_is_refused_and_everybody_is_judged() {
    let pki = Pki::new();
    let root = &pki.client_ca;
    let alice = pki.client("alice");
    let check = |leaf: &Leaf, reason: Reason, words: &str| {
        let observed = observe(&pki, leaf, leaf);
        assert_eq!(observed.verdict, Err(reason), "{}", observed.message);
        assert!(observed.message.contains(words), "{}", observed.message);
        assert_eq!(observed.fingerprint_hex, hex(&sha256(&leaf.chain[0])));
    };
    check(&Ca::root("Other").issue("bob", |_| {}), Reason::UnknownIssuer, "`partners`");
    check(&root.issue("bob", |p| p.not_after = date(NOW - 1)), Reason::Expired, "the leaf");
    check(&root.issue("bob", |p| p.extended_key_usages.clear()), Reason::BadEku, "require_eku");
    let control = root.issue("x", |p| p.distinguished_name.push(DnType::CommonName, "a\nb"));
    check(&control, Reason::BadName, "");
    let extra: Vec<_> = (0..6).map(|number| root.intermediate(&format!("Extra {number}"))).collect();
    check(&pki.client("bob").via(&extra), Reason::ChainTooLong, "6 intermediates");
    // Not even readable: webpki refuses to take a key out of it.
    let unreadable = root.issue("bob", |p| p.custom_extensions.push(critical()));
    check(&unreadable, Reason::BadCertificate, "");
    // Somebody else's certificate: noted, and still nobody.
    let stolen = observe(&pki, &alice, &pki.client("mallory"));
    assert_eq!(stolen.verdict, Err(Reason::BadSignature), "{}", stolen.message);
    assert_eq!(stolen.name, "CN=alice");
}

#[test]
fn without_a_certificate_there_is_nothing_to_observe() {
    let pki = Pki::new();
    let worker = pki.worker(ClientAuthMode::Observe);
    let pair = pki.establish(&worker, None);
    assert!(pair.session.observed().is_none() && pair.session.peer_identity().is_none());
    // Nor does the next connection of the worker find what this one showed.
    pki.establish(&worker, Some(&pki.client("alice")));
    assert!(pki.establish(&worker, None).session.observed().is_none());
}

#[test]
fn only_an_observing_host_observes() {
    let pki = Pki::new();
    let alice = pki.client("alice");
    for mode in [ClientAuthMode::Optional, ClientAuthMode::Required] {
        let pair = pki.establish(&pki.worker(mode), Some(&alice));
        assert!(pair.session.observed().is_none() && pair.session.peer_identity().is_some());
    }
}

#[test]
fn who_was_observed_is_nobody_when_certificates_are_required() {
    let pki = Pki::new();
    let memo = PathMemo::new(16);
    let alice = pki.client("alice");
    let view = |mode| pki.host(mode).worker_view(&memo).unwrap();
    let (observing, required) = (view(ClientAuthMode::Observe), view(ClientAuthMode::Required));
    let observed = pki.establish(&observing, Some(&alice)).session;
    assert!(observing.readmit(&observed).is_ok());
    assert_eq!(required.readmit(&observed).unwrap_err().reason, Reason::NoCertificate);
    // And the other way round: who was somebody is nobody here, and is not carried along.
    let admitted = pki.establish(&required, Some(&alice)).session;
    assert_eq!(observing.readmit(&admitted).unwrap_err().reason, Reason::UnknownIssuer);
    assert!(observing.admit(&alice.chain).unwrap().is_none());
    // Asked about a chain, it tells what it would have observed.
    let refused = observing.admit(&Ca::root("Other").issue("bob", |_| {}).chain).unwrap_err();
    assert_eq!(refused.reason, Reason::UnknownIssuer);
}

#[test]
fn a_lenient_host_knows_the_good_and_observes_the_others() {
    let pki = Pki::new();
    let worker = pki.worker(ClientAuthMode::Lenient);
    let (alice, mallory) = (pki.client("alice"), Ca::root("Other").issue("mallory", |_| {}));
    let good = pki.establish(&worker, Some(&alice)).session;
    assert_eq!(good.peer_identity().unwrap().common_names(), ["alice"]);
    assert!(good.observed().is_none());
    let bad = pki.establish(&worker, Some(&mallory)).session;
    assert!(bad.peer_identity().is_none() && bad.peer_chain().is_none() && bad.peer_path().is_none());
    assert_eq!(bad.observed().unwrap().verdict, Err(Reason::UnknownIssuer));
    let none = pki.establish(&worker, None).session;
    assert!(none.peer_identity().is_none() && none.observed().is_none());
    let unreadable = pki.client_ca.issue("bob", |p| p.custom_extensions.push(critical()));
    let present = |chain: &Leaf, signer: &Leaf| {
        let mut config = pki.client_config(None);
        config.client_auth_cert_resolver = Presents::new(chain, signer);
        Pair::new(&worker, config)
    };
    let mut pair = present(&unreadable, &unreadable);
    pair.run().unwrap();
    assert!(pair.session.peer_identity().is_none());
    assert!(pair.session.observed().unwrap().verdict.is_err());
    // Whoever does not hold the key of a certificate that can be read is refused, whatever it says: it could be one
    // that is admitted.
    for chain in [&alice, &mallory] {
        let refused = present(chain, &pki.client("thief")).refused();
        assert_eq!(refused.failure.reason, Reason::BadSignature);
    }
}

/// An extension that nobody understands and that must be understood.
fn critical() -> CustomExtension {
    let mut extension = CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99999, 1], vec![5, 0]);
    extension.set_criticality(true);
    extension
}

#[test]
fn claims_are_printable_and_cut() {
    let pki = Pki::new();
    let other = Ca::root("Other\nCA");
    let named = |names: Vec<SanType>| other.issue("subject", |p| p.subject_alt_names = names);
    let dns = || SanType::DnsName("a.example.com".try_into().unwrap());
    let uri = |text: &str| SanType::URI(text.to_owned().try_into().unwrap());
    let mail = || SanType::Rfc822Name("a@example.com".try_into().unwrap());
    let name = |leaf: &Leaf| observe(&pki, leaf, leaf).name;
    assert_eq!(name(&named(vec![mail(), dns(), uri("spiffe://example.org/a")])), "spiffe://example.org/a");
    assert_eq!(name(&named(vec![mail(), dns()])), "a.example.com");
    assert_eq!(name(&named(vec![mail()])), "a@example.com");
    assert_eq!(name(&named(vec![])), "CN=subject");
    let nameless = other.issue("x", |p| p.distinguished_name = rcgen::DistinguishedName::new());
    assert!(name(&nameless).starts_with("sha256:"));
    // Those that verified are cut too.
    let long =
        pki.client_ca.issue("x", |p| p.subject_alt_names = vec![uri(&format!("urn:{}", "x".repeat(4000)))]);
    let observed = observe(&pki, &long, &long);
    assert!(observed.verdict.is_ok() && observed.name.len() < 600);
    let hostile = named(vec![uri(&format!("urn:\n\0{}", "x".repeat(4000)))]);
    let observed = observe(&pki, &hostile, &hostile);
    assert!(observed.name.starts_with(r"urn:\n\u{0}x"), "{}", observed.name);
    assert!(observed.name.len() < 600 && !observed.issuer.contains('\n'));
}

#[test]
fn an_observing_host_is_as_strict_as_one_that_asks_nobody() {
    let pki = Pki::new();
    let trust = bundle("partners", &[&pki.client_ca]);
    let auth = |mode| pki.host_with(&pki.options(mode), trust.clone()).client_auth().clone();
    let [off, observe, optional] =
        [ClientAuthMode::Off, ClientAuthMode::Observe, ClientAuthMode::Optional].map(auth);
    for (one, other, expected) in [
        (&off, &observe, true),
        (&observe, &off, true),
        (&observe, &optional, false),
        (&optional, &observe, true),
    ] {
        assert_eq!(one.is_at_least_as_strict_as(other), expected, "{:?} {:?}", one.mode(), other.mode());
    }
}
