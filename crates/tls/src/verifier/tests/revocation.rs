//! Revocation is looked up for every chain, remembered or not, by the policy of the bundle that admitted it.

use super::*;
use crate::path::Sightings;
use crate::revocation::{
    CrlMode, DenyEntry, DenyList, DenyTarget, IssuerId, Revocation, RevocationParts, RevocationPolicy,
};

fn denying(targets: &[DenyTarget], expires_unix: Option<i64>) -> Arc<Revocation> {
    let mut deny = DenyList::new();
    for target in targets {
        let entry = DenyEntry {
            target: target.clone(),
            reason: "test".to_owned(),
            added_unix: NOW as i64,
            by: "operator".to_owned(),
            expires_unix,
        };
        deny.add(entry).unwrap();
    }
    Revocation::new(RevocationParts { deny: Arc::new(deny), ..RevocationParts::default() })
}

fn options(root: &Ca, revocation: Arc<Revocation>) -> ClientAuthOptions {
    ClientAuthOptions {
        trust: vec![bundle("partners", &[root])],
        revocation,
        ..ClientAuthOptions::new(ClientAuthMode::Required)
    }
}

fn requiring_lists() -> TrustOptions {
    let revocation = RevocationPolicy { crl: CrlMode::Required, ..RevocationPolicy::default() };
    TrustOptions { revocation, ..TrustOptions::default() }
}

#[test]
fn what_is_denied_is_refused_at_once_and_what_is_allowed_again_is_admitted() {
    let root = Ca::root("Root");
    let issuing = root.intermediate("Issuing");
    let alice = issuing.issue("alice", |_| {}).via([&issuing]);
    let bob = issuing.issue("bob", |_| {}).via([&issuing]);
    let memo = PathMemo::new(16);
    let path = Bench::under(&options(&root, Revocation::empty()), &memo).admits(&alice).path;
    let fingerprint = |index: usize| DenyTarget::Fingerprint(path.certificates[index].fingerprint_sha256);
    let of_alice = [
        fingerprint(0),
        DenyTarget::Spki(path.certificates[0].spki_sha256),
        DenyTarget::Serial { issuer: path.certificates[0].issuer, serial: path.certificates[0].serial },
        DenyTarget::Identity("CN=alice".into()),
    ];
    let of_all = [
        fingerprint(1),
        DenyTarget::Spki(path.certificates[1].spki_sha256),
        DenyTarget::Ca(path.certificates[0].issuer),
        DenyTarget::Ca(path.anchor.issuer),
        DenyTarget::Fingerprint(path.anchor.fingerprint_sha256),
        DenyTarget::Spki(path.anchor.spki_sha256),
    ];
    for (target, all) in of_alice.iter().map(|target| (target, false)).chain(of_all.iter().map(|t| (t, true)))
    {
        // The same validation section, so the same memo entries; only what is known of revocation differs.
        let host = Bench::under(&options(&root, denying(std::slice::from_ref(target), None)), &memo);
        host.refuses(&alice, Reason::DenyListed, "deny list");
        assert_eq!(host.judge(&bob).is_err(), all, "{target:?}");
        Bench::under(&options(&root, Revocation::empty()), &memo).admits(&alice);
    }
    assert_eq!(memo.len(), 2);
}

#[test]
fn a_denial_ends_when_it_says() {
    let root = Ca::root("Root");
    let alice = root.issue("alice", |_| {});
    let target = DenyTarget::Identity("CN=alice".into());
    let host = Bench::under(&options(&root, denying(&[target], Some((NOW + 10) as i64))), &PathMemo::new(16));
    host.refuses_at(&alice, NOW + 9, Reason::DenyListed, "");
    assert!(host.judge_at(&alice, NOW + 10).is_ok());
}

#[test]
fn a_path_that_is_refused_for_want_of_a_list_is_sighted_and_remembered() {
    let root = Ca::root("Root");
    let sightings = Sightings::new();
    let memo = PathMemo::new(16).reporting_to(sightings.clone());
    let mut options = options(&root, Revocation::empty());
    options.trust = vec![bundle_with("partners", &[&root], requiring_lists())];
    let host = Bench::under(&options, &memo);
    let alice = root.issue("alice", |_| {});
    for first in [true, false] {
        let failure = host.judge(&alice).unwrap_err();
        assert_eq!(failure.reason, Reason::RevocationUnknown, "{failure}");
        assert_eq!(failure.trust_bundle.as_deref(), Some("partners"));
        // So that the control plane fetches the list, once.
        assert_eq!(sightings.pop().is_some(), first);
        // What verified is remembered; it admits nobody by itself.
        assert_eq!(memo.len(), 1);
    }
}

#[test]
fn the_policy_is_that_of_the_bundle_that_admits() {
    let (a, b) = (Ca::root("A"), Ca::root("B"));
    let strict = bundle_with("strict", &[&a], requiring_lists());
    let (lax, both) = (bundle("lax", &[&b]), bundle("both", &[&a, &b]));
    let alice = a.issue("alice", |_| {});
    let bench = Bench::trusting(&[&strict, &lax]);
    assert_eq!(bench.judge(&alice).unwrap_err().reason, Reason::RevocationUnknown);
    bench.admits(&b.issue("bob", |_| {}));
    // The first that admits decides: another bundle is no way around the list that it wants.
    assert_eq!(
        Bench::trusting(&[&strict, &both]).judge(&alice).unwrap_err().reason,
        Reason::RevocationUnknown
    );
    Bench::trusting(&[&both, &strict]).admits(&alice);
}

#[test]
fn an_observing_host_tells_who_is_denied() {
    let pki = Pki::new();
    let alice = pki.client("alice");
    let revocation = denying(&[DenyTarget::Identity("CN=alice".into())], None);
    let options = ClientAuthOptions { revocation, ..pki.options(ClientAuthMode::Observe) };
    let worker = pki.host_with(&options, pki.bundle()).worker_view(&PathMemo::new(16)).unwrap();
    let observed = pki.establish(&worker, Some(&alice)).session.observed().unwrap().clone();
    assert_eq!(observed.verdict, Err(Reason::DenyListed));
    let bob = pki.establish(&worker, Some(&pki.client("bob"))).session.observed().unwrap().clone();
    assert_eq!(bob.verdict, Ok(()));
}

#[test]
fn issuers_in_paths_are_those_that_lists_are_kept_under() {
    let root = Ca::root("Root");
    let issuing = root.intermediate("Issuing");
    let leaf = issuing.issue("alice", |_| {}).via([&issuing]);
    let path = Bench::new(&[&root]).admits(&leaf).path;
    assert_eq!(path.certificates[0].issuer, IssuerId::of_certificate(&issuing.der()).unwrap());
    assert_eq!(path.certificates[1].issuer, IssuerId::of_certificate(&root.der()).unwrap());
    let root = root.der();
    let anchor = webpki::anchor_from_trusted_cert(&root).unwrap();
    assert_eq!(path.anchor.issuer, IssuerId::of_anchor(&anchor));
}
