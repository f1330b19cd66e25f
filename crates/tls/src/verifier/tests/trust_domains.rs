//! SPIFFE trust domains that are bound to bundles.

use super::*;

fn bound(name: &str, ca: &Ca, trust_domain: Option<&str>) -> Arc<TrustBundle> {
    let spiffe_trust_domain = trust_domain.map(str::to_owned);
    bundle_with(name, &[ca], TrustOptions { spiffe_trust_domain, ..TrustOptions::default() })
}

fn svid(ca: &Ca, id: &str) -> Leaf {
    ca.issue("workload", |p| p.subject_alt_names = vec![SanType::URI(id.to_owned().try_into().unwrap())])
}

#[test]
fn a_bound_bundle_speaks_for_its_trust_domain_only() {
    let a = Ca::root("A");
    let bench = Bench::trusting(&[&bound("partners", &a, Some("a.test"))]);
    let admitted = bench.admits(&svid(&a, "spiffe://a.test/web"));
    assert_eq!(admitted.identity.spiffe_id().unwrap().trust_domain(), "a.test");
    for other in ["spiffe://b.test/web", "spiffe://sub.a.test/web", "spiffe://a.tes/web"] {
        bench.judge(&svid(&a, other)).map(drop).map_err(|f| f.reason).expect_err("another trust domain");
    }
    let failure = bench.judge(&svid(&a, "spiffe://b.test/web")).unwrap_err();
    assert_eq!(failure.reason, Reason::TrustDomainMismatch);
    assert!(failure.message.contains("`b.test`") && failure.message.contains("a.test"), "{failure}");
    let failure = bench.judge(&a.issue("no id", |_| {})).unwrap_err();
    assert_eq!(failure.reason, Reason::TrustDomainMismatch);
    assert!(failure.message.contains("no SPIFFE ID"), "{failure}");
}

#[test]
fn a_leaf_of_a_bound_trust_domain_is_judged_by_its_bundle_only() {
    let (a, b, open) = (Ca::root("A"), Ca::root("B"), Ca::root("Open"));
    let bundles =
        [bound("a", &a, Some("a.test")), bound("b", &b, Some("b.test")), bound("open", &open, None)];
    for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0]] {
        let bench = Bench::trusting(&order.map(|index| &bundles[index]));
        let by = |leaf: &Leaf| bench.admits(leaf).path.bundle.to_string();
        assert_eq!(by(&svid(&a, "spiffe://a.test/web")), "a");
        assert_eq!(by(&svid(&b, "spiffe://b.test/web")), "b");
        assert_eq!(by(&svid(&open, "spiffe://c.test/web")), "open");
        assert_eq!(by(&open.issue("no id", |_| {})), "open");
        // What another CA of the host mints is foreign to the domain, whoever it is.
        for (ca, id) in [
            (&b, "spiffe://a.test/web"),
            (&open, "spiffe://a.test/web"),
            (&a, "spiffe://b.test/web"),
            (&a, "spiffe://c.test/web"),
        ] {
            bench.refuses(&svid(ca, id), Reason::TrustDomainMismatch, "may not speak for it");
        }
        bench.refuses(&a.issue("no id", |_| {}), Reason::TrustDomainMismatch, "no SPIFFE ID");
        bench.refuses(&svid(&Ca::root("Stranger"), "spiffe://a.test/web"), Reason::UnknownIssuer, "");
    }
}

#[test]
fn cas_of_one_name_in_two_trust_domains_are_kept_apart() {
    // As SPIRE names them all.
    let (a, b) = (Ca::root("SPIFFE"), Ca::root("SPIFFE"));
    let bench = Bench::trusting(&[&bound("a", &a, Some("a.test")), &bound("b", &b, Some("b.test"))]);
    assert_eq!(&*bench.admits(&svid(&b, "spiffe://b.test/web")).path.bundle, "b");
    bench.refuses(&svid(&b, "spiffe://a.test/web"), Reason::BadSignature, "`a`");
}

#[test]
fn several_bundles_may_speak_for_one_trust_domain() {
    let (old, new) = (Ca::root("Old"), Ca::root("New"));
    let bench = Bench::trusting(&[&bound("old", &old, Some("a.test")), &bound("new", &new, Some("a.test"))]);
    for (ca, name) in [(&old, "old"), (&new, "new")] {
        assert_eq!(&*bench.admits(&svid(ca, "spiffe://a.test/web")).path.bundle, name);
    }
}

#[test]
fn an_invalid_spiffe_id_is_nobodys() {
    let (a, open) = (Ca::root("A"), Ca::root("Open"));
    let bench = Bench::trusting(&[&bound("a", &a, Some("a.test")), &bound("open", &open, None)]);
    for id in
        ["spiffe://A.TEST/web", "SPIFFE://a.test/web", "spiffe://a.test:1/web", "spiffe://user@a.test/web"]
    {
        bench.refuses(&svid(&open, id), Reason::BadName, "");
        assert!(bench.judge(&svid(&a, id)).is_err());
    }
    // Nor does a second name help, in either order.
    let two = |first: &str, second: &str| {
        open.issue("x", |p| {
            p.subject_alt_names =
                [first, second].map(|id| SanType::URI(id.to_owned().try_into().unwrap())).to_vec();
        })
    };
    for leaf in [two("urn:x", "spiffe://a.test/web"), two("spiffe://a.test/web", "urn:x")] {
        assert!(bench.judge(&leaf).is_err());
    }
    bench.refuses(&two("spiffe://c.test/a", "urn:x"), Reason::BadName, "");
}

#[test]
fn the_verified_identity_decides_and_not_the_claim_that_chose_the_bundles() {
    let (a, open) = (Ca::root("A"), Ca::root("Open"));
    let bench = Bench::trusting(&[&bound("a", &a, Some("a.test")), &bound("open", &open, None)]);
    let judge = |leaf: &Leaf, claimed: Option<&str>| {
        let verdict = bench.verifier.verify_claim(&leaf.chain[0], &[], at(NOW), claimed);
        verdict.map(drop).map_err(|refusal| refusal.reason)
    };
    let (of_a, of_open) = (svid(&a, "spiffe://a.test/web"), svid(&open, "spiffe://a.test/web"));
    assert_eq!(judge(&of_a, Some("a.test")), Ok(()));
    // Should the two readings of a certificate ever differ, nobody is admitted by it.
    assert_eq!(judge(&of_open, None), Err(Reason::TrustDomainMismatch));
    assert_eq!(judge(&of_open, Some("c.test")), Err(Reason::TrustDomainMismatch));
    assert_eq!(judge(&a.issue("no id", |_| {}), Some("a.test")), Err(Reason::TrustDomainMismatch));
    assert_eq!(judge(&svid(&a, "spiffe://c.test/x"), Some("a.test")), Err(Reason::TrustDomainMismatch));
}
