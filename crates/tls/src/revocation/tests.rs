use ringward_testkit::{Authority, AuthorityOptions, Crl, Issued, Leaf, RevocationReason as Reason, der};

use super::testing::{Client, DAY, HOUR, REQUIRED, complete, issuer, now, serial, time, with_lists};
use super::*;

mod cost;
mod differential;

const IF_PRESENT: RevocationPolicy =
    RevocationPolicy { crl: CrlMode::IfPresent, stale: StalePolicy::Deny, depth: RevocationDepth::Chain };
const OFF: RevocationPolicy =
    RevocationPolicy { crl: CrlMode::Off, stale: StalePolicy::Deny, depth: RevocationDepth::Chain };

/// A root, an intermediate under it, and a client of the intermediate.
struct Hierarchy {
    root: Authority,
    issuing: Authority,
    issued: Issued,
}

impl Hierarchy {
    fn new() -> Self {
        Self::with_leaf(&Leaf::client("partner-a"))
    }

    fn with_leaf(leaf: &Leaf) -> Self {
        let root = Authority::root("Root");
        let issuing = root.intermediate("Issuing");
        let issued = issuing.issue(leaf);
        Self { root, issuing, issued }
    }

    fn client(&self) -> Client {
        Client::new(&self.issued, &self.root)
    }

    /// The empty list of the root, and this one of the intermediate.
    fn lists(&self, of_issuing: &Crl) -> Arc<Revocation> {
        with_lists([complete(&self.root, &Crl::new()), complete(&self.issuing, of_issuing)])
    }
}

/// Source and finding of a refusal, `None` if there is none.
fn outcome(result: Result<(), RevocationRefusal>) -> Option<(RevocationSource, RevocationFinding)> {
    result.err().map(|refusal| (refusal.source, refusal.what))
}

const REVOKED: Option<(RevocationSource, RevocationFinding)> =
    Some((RevocationSource::Crl, RevocationFinding::Revoked));
const UNKNOWN: Option<(RevocationSource, RevocationFinding)> =
    Some((RevocationSource::Crl, RevocationFinding::Unknown));
const STALE: Option<(RevocationSource, RevocationFinding)> =
    Some((RevocationSource::Crl, RevocationFinding::Stale));

fn deny(target: DenyTarget) -> Arc<DenyList> {
    let mut list = DenyList::new();
    let entry = DenyEntry {
        target,
        reason: "stolen".into(),
        added_unix: 1000,
        by: "uid 0".into(),
        expires_unix: None,
    };
    list.add(entry).unwrap();
    Arc::new(list)
}

/// With a critical issuingDistributionPoint: for certificates that name this URI, for those of end entities (1) or of
/// CAs (2).
fn scoped(crl: Crl, uri: Option<&str>, kind: Option<u8>) -> Crl {
    let point = uri.map(|uri| der::context(0, &der::context(0, &der::tlv(0x86, uri.as_bytes()))));
    let kind = kind.map(|kind| der::tlv(0x80 | kind, &[0xff]));
    let fields: Vec<_> = point.into_iter().chain(kind).collect();
    crl.extension("2.5.29.28", true, &der::sequence(&fields))
}

fn partition(crl: Crl, uri: &str) -> Crl {
    scoped(crl, Some(uri), None)
}

fn for_kind(crl: Crl, kind: u8) -> Crl {
    scoped(crl, None, Some(kind))
}

#[test]
fn required_list_that_is_missing_refuses() {
    let hierarchy = Hierarchy::new();
    let client = hierarchy.client();
    let of_root = || complete(&hierarchy.root, &Crl::new());
    let of_issuing = || complete(&hierarchy.issuing, &Crl::new());
    let leaf_only = RevocationPolicy { depth: RevocationDepth::Leaf, ..REQUIRED };
    for (lists, chain, leaf, if_present) in [
        (vec![], UNKNOWN, UNKNOWN, None),
        (vec![of_root()], UNKNOWN, UNKNOWN, None),
        (vec![of_issuing()], UNKNOWN, None, None),
        (vec![of_root(), of_issuing()], None, None, None),
    ] {
        let revocation = with_lists(lists);
        assert_eq!(outcome(client.check(&revocation, &REQUIRED, now())), chain);
        assert_eq!(outcome(client.check(&revocation, &leaf_only, now())), leaf);
        assert_eq!(outcome(client.check(&revocation, &IF_PRESENT, now())), if_present);
        assert_eq!(outcome(client.check(&revocation, &OFF, now())), None);
    }
    let refusal = client.check(&Revocation::empty(), &REQUIRED, now()).unwrap_err();
    assert_eq!(refusal.reason(), HandshakeReason::RevocationUnknown);
    let serial = client.path.certificates[0].serial.to_string();
    assert!(
        refusal.to_string().contains(&serial) && refusal.to_string().contains("add its CRL"),
        "{refusal}"
    );
}

#[test]
fn revoked_leaf_and_intermediate_are_refused() {
    let hierarchy = Hierarchy::new();
    let client = hierarchy.client();
    let leaf_only = RevocationPolicy { depth: RevocationDepth::Leaf, ..REQUIRED };
    let leaf = hierarchy.lists(&Crl::new().revoke_for(hierarchy.issued.serial(), Reason::KeyCompromise));
    for policy in [REQUIRED, IF_PRESENT, leaf_only] {
        assert_eq!(outcome(client.check(&leaf, &policy, now())), REVOKED);
    }
    assert_eq!(outcome(client.check(&leaf, &OFF, now())), None);
    let refusal = client.check(&leaf, &REQUIRED, now()).unwrap_err();
    assert_eq!(refusal.reason(), HandshakeReason::Revoked);
    assert!(
        refusal.to_string().contains("the leaf") && refusal.to_string().contains("keyCompromise"),
        "{refusal}"
    );
    let intermediate = with_lists([
        complete(&hierarchy.root, &Crl::new().revoke(hierarchy.issuing.serial())),
        complete(&hierarchy.issuing, &Crl::new()),
    ]);
    assert_eq!(outcome(client.check(&intermediate, &REQUIRED, now())), REVOKED);
    assert_eq!(outcome(client.check(&intermediate, &IF_PRESENT, now())), REVOKED);
    assert_eq!(outcome(client.check(&intermediate, &leaf_only, now())), None);
    // The same number of the other issuer is another certificate.
    let swapped = with_lists([
        complete(&hierarchy.root, &Crl::new().revoke(hierarchy.issued.serial())),
        complete(&hierarchy.issuing, &Crl::new().revoke(hierarchy.issuing.serial())),
    ]);
    assert_eq!(outcome(client.check(&swapped, &REQUIRED, now())), None);
}

#[test]
fn stale_list_clears_nobody_from_the_very_second_on() {
    let hierarchy = Hierarchy::new();
    let client = hierarchy.client();
    let next = now() + HOUR;
    let revocation = hierarchy.lists(&Crl::new().next_update(time(next)));
    let with_grace = |policy, seconds| RevocationPolicy {
        stale: StalePolicy::Allow(Duration::from_secs(seconds)),
        ..policy
    };
    for policy in [REQUIRED, IF_PRESENT] {
        assert_eq!(outcome(client.check(&revocation, &policy, next - 1)), None);
        assert_eq!(outcome(client.check(&revocation, &policy, next)), STALE);
        assert_eq!(outcome(client.check(&revocation, &with_grace(policy, 0), next)), STALE);
        assert_eq!(outcome(client.check(&revocation, &with_grace(policy, 90), next + 89)), None);
        assert_eq!(outcome(client.check(&revocation, &with_grace(policy, 90), next + 90)), STALE);
        assert_eq!(outcome(client.check(&revocation, &with_grace(policy, u64::MAX), next + DAY)), None);
    }
    let refusal = client.check(&revocation, &REQUIRED, next).unwrap_err();
    assert_eq!(refusal.reason(), HandshakeReason::RevocationStale);
    assert!(refusal.to_string().contains("fetch the new one"), "{refusal}");
    assert_eq!(outcome(client.check(&revocation, &OFF, next + DAY)), None);
}

#[test]
fn revoked_stays_revoked_when_its_list_is_stale() {
    let hierarchy = Hierarchy::new();
    let client = hierarchy.client();
    let revocation = hierarchy.lists(&Crl::new().revoke(hierarchy.issued.serial()));
    let lax = RevocationPolicy { stale: StalePolicy::Allow(Duration::from_secs(1)), ..IF_PRESENT };
    for policy in [REQUIRED, IF_PRESENT, lax] {
        assert_eq!(outcome(client.check(&revocation, &policy, now() + 100 * DAY)), REVOKED);
    }
}

#[test]
fn list_speaks_for_the_key_that_signed_it_only() {
    let (root, namesake) = (Authority::root("Root"), Authority::root("Root"));
    let issued = root.issue(&Leaf::client("a"));
    let client = Client::new(&issued, &root);
    let theirs = with_lists([complete(&namesake, &Crl::new().revoke(issued.serial()))]);
    assert_eq!(outcome(client.check(&theirs, &IF_PRESENT, now())), None, "it revokes nobody of ours");
    assert_eq!(outcome(client.check(&theirs, &REQUIRED, now())), UNKNOWN, "nor does it clear anybody");
    // A CA that was renewed with its old key goes on to speak for what it has issued.
    let renewed = Authority::root_with(&AuthorityOptions::named("Root").same_key_as(&root));
    let after = with_lists([complete(&renewed, &Crl::new().revoke(issued.serial()))]);
    assert_eq!(outcome(client.check(&after, &REQUIRED, now())), REVOKED);
}

#[test]
fn issuer_is_the_same_as_certificate_and_as_anchor() {
    let root = Authority::root("Root");
    let der = root.certificate();
    let id = IssuerId::of_certificate(der).unwrap();
    assert_eq!(issuer(&root).id(), id);
    assert_eq!(IssuerId::of_anchor(&webpki::anchor_from_trusted_cert(der).unwrap()), id);
    assert_ne!(issuer(&Authority::root("Root")).id(), id);
    assert!(IssuerId::of_certificate(&[&der[..], b"\0"].concat()).is_err());
    assert!(IssuerId::of_certificate(b"no certificate").is_err());
    let client = Client::new(&root.issue(&Leaf::client("a")), &root);
    assert_eq!(client.path.certificates[0].issuer, id);
    assert_eq!(client.path.anchor.issuer, id);
}

#[test]
fn partition_is_about_those_that_name_it() {
    let root = Authority::root("Root");
    let (one, two) = ("http://crl.example/1", "http://crl.example/2");
    let client = |leaf: Leaf| {
        let issued = root.issue(&leaf);
        (Client::new(&issued, &root), issued)
    };
    let (in_one, issued) = client(Leaf::client("a").crl_url(one));
    let (in_two, _) = client(Leaf::client("b").crl_url(two));
    let (in_both, _) = client(Leaf::client("c").crl_url(two).crl_url(one));
    let (in_none, stray) = client(Leaf::client("d"));
    let check = |client: &Client, lists: &[&Crl], policy| {
        let revocation = with_lists(lists.iter().map(|crl| complete(&root, crl)));
        outcome(client.check(&revocation, &policy, now()))
    };
    let list_one = partition(Crl::new(), one);
    assert_eq!(check(&in_one, &[&list_one], REQUIRED), None);
    assert_eq!(check(&in_both, &[&list_one], REQUIRED), None);
    assert_eq!(check(&in_two, &[&list_one], REQUIRED), UNKNOWN);
    assert_eq!(check(&in_two, &[&list_one], IF_PRESENT), None);
    assert_eq!(check(&in_two, &[&list_one, &partition(Crl::new(), two)], REQUIRED), None);
    // It may belong into a partition that we do not have.
    assert_eq!(check(&in_none, &[&list_one], REQUIRED), UNKNOWN);
    assert_eq!(check(&in_none, &[&Crl::new()], REQUIRED), None);
    // Its successor might list it.
    assert_eq!(check(&in_none, &[&list_one.clone().stale()], IF_PRESENT), STALE);
    assert_eq!(check(&in_none, &[&list_one.clone().stale(), &Crl::new()], REQUIRED), None);
    // Who is revoked is revoked, and a list that is about others says nothing.
    let revoked = partition(Crl::new().revoke(issued.serial()).revoke(stray.serial()), one);
    assert_eq!(check(&in_one, &[&revoked], IF_PRESENT), REVOKED);
    assert_eq!(check(&in_none, &[&revoked], IF_PRESENT), REVOKED);
    let elsewhere = partition(Crl::new().revoke(issued.serial()), two);
    assert_eq!(check(&in_one, &[&elsewhere], IF_PRESENT), None);
    // The whole list is about everyone, also beside partitions.
    assert_eq!(check(&in_two, &[&list_one, &Crl::new()], REQUIRED), None);
    assert_eq!(check(&in_one, &[&list_one, &Crl::new().revoke(issued.serial())], REQUIRED), REVOKED);
}

#[test]
fn list_for_one_kind_is_not_about_the_other() {
    let root = Authority::root("Root");
    let issuing = root.intermediate("Issuing");
    let below = Client::new(&issuing.issue(&Leaf::client("a")), &root);
    let direct = root.issue(&Leaf::client("b"));
    let direct = Client::new(&direct, &root);
    let of_issuing = complete(&issuing, &Crl::new());
    let check = |client: &Client, of_root: Crl| {
        let revocation = with_lists([complete(&root, &of_root), of_issuing.clone()]);
        outcome(client.check(&revocation, &REQUIRED, now()))
    };
    assert_eq!(check(&below, for_kind(Crl::new(), 2)), None);
    assert_eq!(check(&below, for_kind(Crl::new(), 1)), UNKNOWN);
    assert_eq!(check(&direct, for_kind(Crl::new(), 1)), None);
    assert_eq!(check(&direct, for_kind(Crl::new(), 2)), UNKNOWN);
    assert_eq!(check(&below, for_kind(Crl::new().revoke(issuing.serial()), 2)), REVOKED);
}

#[test]
fn newest_list_of_a_scope_is_in_force() {
    let root = Authority::root("Root");
    let issued = root.issue(&Leaf::client("a"));
    let client = Client::new(&issued, &root);
    let held = || complete(&root, &Crl::new().number(7).revoke_for(issued.serial(), Reason::CertificateHold));
    let released = || complete(&root, &Crl::new().number(8));
    let check = |lists| outcome(client.check(&with_lists(lists), &REQUIRED, now()));
    assert_eq!(check(vec![held(), released()]), None);
    assert_eq!(check(vec![released(), held()]), None);
    assert_eq!(with_lists([held(), released()]).crls().count(), 1);
    let revoked = || complete(&root, &Crl::new().number(9).revoke(issued.serial()));
    assert_eq!(check(vec![revoked(), released()]), REVOKED);
    assert_eq!(check(vec![released(), revoked()]), REVOKED);
    // Without numbers, by date.
    let old = complete(&root, &Crl::new().without_number().this_update(time(now() - 2 * HOUR)));
    let new = || complete(&root, &Crl::new().without_number().revoke(issued.serial()));
    assert_eq!(check(vec![old.clone(), new()]), REVOKED);
    assert_eq!(check(vec![new(), old]), REVOKED);
}

#[test]
fn deny_list_is_asked_whatever_the_policy_and_the_suspension() {
    let hierarchy = Hierarchy::new();
    let client = hierarchy.client().of_tenant("acme");
    let suspended = vec![Suspension { tenant: "acme".into(), until_unix: i64::MAX }];
    let revocation = Revocation::new(RevocationParts {
        crls: vec![],
        deny: deny(DenyTarget::Fingerprint(hierarchy.issued.fingerprint_sha256())),
        suspended,
    });
    for policy in [OFF, IF_PRESENT, REQUIRED] {
        let refusal = client.check(&revocation, &policy, now()).unwrap_err();
        assert_eq!(refusal.source, RevocationSource::DenyList);
        assert_eq!(refusal.reason(), HandshakeReason::DenyListed);
        assert!(refusal.to_string().contains("stolen") && refusal.to_string().contains("uid 0"), "{refusal}");
    }
    assert_eq!(outcome(client.check(&revocation.with_deny_list(Arc::default()), &REQUIRED, now())), None);
    assert!(revocation.with_deny_list(Arc::default()).is_suspended(Some("acme"), now()));
}

#[test]
fn suspension_is_one_tenants_and_ends() {
    let hierarchy = Hierarchy::new();
    let until = now() + HOUR;
    let revocation = Revocation::new(RevocationParts {
        crls: vec![complete(&hierarchy.issuing, &Crl::new().revoke(hierarchy.issued.serial()))],
        suspended: vec![
            Suspension { tenant: "other".into(), until_unix: i64::MAX },
            Suspension { tenant: "acme".into(), until_unix: until },
        ],
        ..RevocationParts::default()
    });
    let of = |tenant| hierarchy.client().of_tenant(tenant);
    assert_eq!(outcome(of("acme").check(&revocation, &REQUIRED, until - 1)), None);
    assert_eq!(outcome(of("acme").check(&revocation, &REQUIRED, until)), REVOKED);
    assert_eq!(outcome(of("Acme").check(&revocation, &REQUIRED, now())), REVOKED);
    assert_eq!(outcome(hierarchy.client().check(&revocation, &REQUIRED, now())), REVOKED, "nobody's client");
    assert!(!revocation.is_suspended(None, now()));
    assert_eq!(revocation.suspensions().len(), 2);
}

#[test]
fn serial_numbers_are_read_as_tools_write_them() {
    for (text, octets) in [
        ("0a1b", &[0x0a, 0x1b][..]),
        ("A1B", &[0x0a, 0x1b]),
        ("0a:1B", &[0x0a, 0x1b]),
        ("0000000a1b", &[0x0a, 0x1b]),
        ("00", &[]),
        ("0", &[]),
        (&"ff".repeat(20), &[0xff; 20]),
    ] {
        assert_eq!(text.parse::<Serial>().unwrap().as_bytes(), octets, "{text}");
    }
    for text in ["", ":", "0a:", "0a:b", "0x0a", "g", "-1", " 1", &"ff".repeat(21)] {
        assert!(text.parse::<Serial>().is_err(), "{text}");
    }
    assert_eq!(serial(&[0x0a, 0x1b]).to_string(), "0a1b");
    assert_eq!(serial(&[0]).to_string(), "00");
    // As policies and logs show them.
    let root = Authority::root("Root");
    let client = Client::new(&root.issue(&Leaf::client("a").serial(&[0x00, 0x0a, 0x01])), &root);
    assert_eq!(client.path.certificates[0].serial.to_string(), client.peer.serial());
}
