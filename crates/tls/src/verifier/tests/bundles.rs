//! Several bundles of one host, and several paths of one chain.

use super::*;

/// The keys that anchors and leaves are pinned by.
fn spki(ca: &Ca) -> [u8; 32] {
    bundle("any", &[ca]).anchors()[0].spki_sha256
}

fn pinned(name: &str, cas: &[&Ca], pins: &[[u8; 32]]) -> Arc<TrustBundle> {
    bundle_with(name, cas, TrustOptions { pins: pins.to_vec(), ..TrustOptions::default() })
}

#[track_caller]
fn admitted_by(bench: &Bench, leaf: &Leaf) -> String {
    bench.admits(leaf).path.bundle.to_string()
}

#[test]
fn each_bundle_vouches_for_its_own() {
    let (a, b) = (Ca::root("A"), Ca::root("B"));
    let bench = Bench::trusting(&[&bundle("one", &[&a]), &bundle("two", &[&b])]);
    assert_eq!(admitted_by(&bench, &a.issue("alice", |_| {})), "one");
    assert_eq!(admitted_by(&bench, &b.issue("bob", |_| {})), "two");
    let failure = bench.judge(&Ca::root("C").issue("carol", |_| {})).unwrap_err();
    assert_eq!(failure.reason, Reason::UnknownIssuer);
    assert_eq!(failure.trust_bundle.as_deref(), Some("one, two"));
}

#[test]
fn the_first_bundle_that_admits_does() {
    let root = Ca::root("Root");
    let issuing = root.intermediate("Issuing");
    let alice = || issuing.issue("alice", |_| {}).via([&issuing]);
    let (one, two) = (bundle("one", &[&root]), bundle("two", &[&root]));
    assert_eq!(admitted_by(&Bench::trusting(&[&one, &two]), &alice()), "one");
    assert_eq!(admitted_by(&Bench::trusting(&[&two, &one]), &alice()), "two");
    // Also where the path to the anchor of the second is shorter and so is found first.
    let near = bundle("near", &[&issuing]);
    for (order, expected, length) in [([&one, &near], "one", 2), ([&near, &one], "near", 1)] {
        let admitted = Bench::trusting(&order).admits(&alice());
        assert_eq!(&*admitted.path.bundle, expected);
        assert_eq!(admitted.path.certificates.len(), length);
    }
}

#[test]
fn of_the_bundles_after_one_that_refuses_the_first_admits() {
    let root = Ca::root("Root");
    let issuing = root.intermediate("Issuing");
    let alice = issuing.issue("alice", |_| {}).via([&issuing]);
    let strict = pinned("strict", &[&root], &[[1; 32], [2; 32]]);
    // The path to the nearer anchor is found before the other.
    let (far, near) = (bundle("far", &[&root]), bundle("near", &[&issuing]));
    assert_eq!(admitted_by(&Bench::trusting(&[&strict, &far, &near]), &alice), "far");
    assert_eq!(admitted_by(&Bench::trusting(&[&strict, &near, &far]), &alice), "near");
}

#[test]
fn a_bundle_whose_rules_refuse_leaves_it_to_the_next() {
    let root = Ca::root("Root");
    let issuing = root.intermediate("Issuing");
    let alice = || issuing.issue("alice", |_| {}).via([&issuing]);
    let strict = pinned("strict", &[&root], &[[1; 32], [2; 32]]);
    for lax in [bundle("lax", &[&root]), bundle("lax", &[&issuing])] {
        assert_eq!(admitted_by(&Bench::trusting(&[&strict, &lax]), &alice()), "lax");
    }
    // Where all refuse, the first tells why.
    let stricter = bundle_with(
        "stricter",
        &[&root],
        TrustOptions {
            profile: crate::Profile { path_length_max: Some(0), ..Default::default() },
            ..TrustOptions::default()
        },
    );
    let failure = Bench::trusting(&[&strict, &stricter]).judge(&alice()).unwrap_err();
    assert_eq!((failure.reason, failure.trust_bundle.as_deref()), (Reason::PinMismatch, Some("strict")));
    let failure = Bench::trusting(&[&stricter, &strict]).judge(&alice()).unwrap_err();
    assert_eq!(
        (failure.reason, failure.trust_bundle.as_deref()),
        (Reason::ConstraintViolation, Some("stricter"))
    );
}

#[test]
fn of_cross_signed_paths_the_one_that_is_admitted_is_taken() {
    let (a, b) = (Ca::root("A"), Ca::root("B"));
    let by_a = a.intermediate("Issuing");
    let key = || rcgen::KeyPair::from_pem(&by_a.0.key().serialize_pem()).unwrap();
    let by_b = b.intermediate_with_key("Issuing", key());
    let alice = |via: [&Ca; 2]| by_a.issue("alice", |_| {}).via(via);
    for via in [[&by_a, &by_b], [&by_b, &by_a]] {
        // One bundle with both roots, of which one is pinned.
        for (pin, intermediate) in [(&a, &by_a), (&b, &by_b)] {
            let bench = Bench::trusting(&[&pinned("partners", &[&a, &b], &[spki(pin), [9; 32]])]);
            let path = bench.admits(&alice(via)).path;
            assert_eq!(path.certificates[1].der, intermediate.der());
            assert_eq!(path.anchor.spki_sha256, spki(pin));
            assert_eq!(path.certificates.len(), 2, "what is not on the path is not in it");
        }
        // Two bundles with one root each, of which the first knows only the other root.
        let bench = Bench::trusting(&[&pinned("one", &[&a], &[spki(&b), [9; 32]]), &bundle("two", &[&b])]);
        let path = bench.admits(&alice(via)).path;
        assert_eq!((&*path.bundle, &path.certificates[1].der), ("two", &by_b.der()));
        // Neither.
        let bench = Bench::trusting(&[&pinned("partners", &[&a, &b], &[[8; 32], [9; 32]])]);
        bench.refuses(&alice(via), Reason::PinMismatch, "pins");
    }
}

#[test]
fn a_bridge_from_one_anchor_to_another_is_not_needed() {
    // B is an anchor itself, and also cross-signed by A, which is pinned.
    let (a, b) = (Ca::root("A"), Ca::root("B"));
    let key = rcgen::KeyPair::from_pem(&b.0.key().serialize_pem()).unwrap();
    let bridge = a.intermediate_with_key("B", key);
    let alice = b.issue("alice", |_| {}).via([&bridge]);
    assert_eq!(Bench::new(&[&a, &b]).admits(&alice).path.certificates.len(), 1);
    let bench = Bench::trusting(&[&pinned("partners", &[&a, &b], &[spki(&a), [9; 32]])]);
    assert_eq!(bench.admits(&alice).path.certificates.len(), 2);
}

#[test]
fn as_many_anchors_of_one_subject_as_a_bundle_may_have_are_all_tried() {
    let cas: Vec<_> = (0..crate::ANCHORS_PER_SUBJECT_MAX).map(|_| Ca::root("Same")).collect();
    let bench = Bench::new(&cas.iter().collect::<Vec<_>>());
    for ca in &cas {
        let path = bench.admits(&ca.issue("alice", |_| {})).path;
        assert_eq!(path.anchor.spki_sha256, spki(ca));
    }
    bench.refuses(&Ca::root("Same").issue("alice", |_| {}), Reason::BadSignature, "`partners`");
}

#[test]
fn an_anchor_holds_in_each_bundle_for_as_long_as_it_says_there() {
    let old = Ca::root_with("Root", |p| p.not_after = date(NOW + 10));
    let key = rcgen::KeyPair::from_pem(&old.0.key().serialize_pem()).unwrap();
    let renewed = Ca::root_with_key("Root", key, |_| {});
    let alice = old.issue("alice", |_| {});
    let bench = Bench::trusting(&[&bundle("old", &[&old]), &bundle("renewed", &[&renewed])]);
    assert_eq!(admitted_by(&bench, &alice), "old");
    let later = bench.judge_at(&alice, NOW + 11).unwrap();
    assert_eq!(&*later.path.bundle, "renewed");
    assert!(later.path.valid_until > (NOW + 11) as i64);
}

#[test]
fn a_path_tells_what_later_checks_need() {
    let root = Ca::root("Root");
    let issuing = root.intermediate_with("Issuing", |p| p.not_before = date(NOW - 5));
    let extra = root.intermediate("Extra");
    let leaf = issuing.issue("alice", |p| p.not_after = date(NOW + 7)).via([&extra, &issuing]);
    let path = Bench::new(&[&root]).admits(&leaf).path;
    let expected =
        Leaf { chain: vec![leaf.chain[0].clone(), issuing.der()], key: leaf.key }.path_under(&root);
    assert_eq!(path.certificates, expected.certificates);
    assert_eq!(path.anchor, expected.anchor);
    assert_eq!(path.certificates[1].issuer, path.anchor.issuer);
    assert_eq!((path.valid_from, path.valid_until), ((NOW - 5) as i64, (NOW + 7) as i64));
}

#[test]
fn new_paths_are_sighted_once_and_whatever_becomes_of_them() {
    let root = Ca::root("Root");
    let sightings = crate::Sightings::new();
    let memo = PathMemo::new(16).reporting_to(sightings.clone());
    let options = ClientAuthOptions {
        trust: vec![bundle("partners", &[&root])],
        ..ClientAuthOptions::new(ClientAuthMode::Required)
    };
    let bench = Bench::under(&options, &memo);
    let alice = root.issue("alice", |_| {});
    let admitted = bench.admits(&alice);
    assert!(Arc::ptr_eq(&sightings.pop().unwrap(), &admitted.path));
    bench.admits(&alice);
    assert!(sightings.pop().is_none(), "a remembered path is not new");
    // It verified, so its revocation data may be fetched, though nobody can be made of it.
    let nameless = root.issue("x", |p| p.distinguished_name.push(DnType::CommonName, "a\nb"));
    bench.refuses(&nameless, Reason::BadName, "");
    assert_eq!(sightings.pop().unwrap().leaf().der, nameless.chain[0]);
    // A stranger's chain says nothing that anybody would look at.
    bench.refuses(&Ca::root("Other").issue("mallory", |_| {}), Reason::UnknownIssuer, "");
    bench.refuses(&Ca::root("Root").issue("mallory", |_| {}), Reason::BadSignature, "");
    assert!(sightings.pop().is_none());
}

/// A storm of new clients. Whose list is never fetched is refused for want of it, or admitted although it is revoked.
#[test]
fn a_path_that_could_not_be_reported_is_reported_when_its_client_comes_again() {
    let root = Ca::root("Root");
    let leaf = root.issue("client", |_| {});
    let sightings = crate::Sightings::new();
    let memo = PathMemo::new(16).reporting_to(sightings.clone());
    let options = ClientAuthOptions {
        trust: vec![bundle("partners", &[&root])],
        ..ClientAuthOptions::new(ClientAuthMode::Required)
    };
    let bench = Bench::under(&options, &memo);
    let others = Arc::new(root.issue("other", |_| {}).path_under(&root));
    while sightings.push(others.clone()) {}
    bench.admits(&leaf);
    while sightings.pop().is_some() {}
    let admitted = bench.admits(&leaf);
    assert!(Arc::ptr_eq(&sightings.pop().expect("a report"), &admitted.path));
    bench.admits(&leaf);
    assert!(sightings.pop().is_none());
}
