use super::TenantMatch::*;
use super::*;
use crate::fixture::{Certificate, rdn, sequence, tlv, utf8};
use crate::peer::IdentityOptions;

/// The names of an invented peer.
#[derive(Debug, Clone, Default)]
struct Names {
    uris: Vec<&'static str>,
    dns: Vec<&'static str>,
    emails: Vec<&'static str>,
    common_names: Vec<&'static str>,
    units: Vec<&'static str>,
    organizations: Vec<&'static str>,
    identifiers: Vec<&'static str>,
    issuer: Vec<(&'static str, &'static str)>,
}

impl Names {
    fn peer(&self) -> PeerIdentity {
        let mut subject = Vec::new();
        for (kind, values) in [
            ("2.5.4.3", &self.common_names),
            ("2.5.4.11", &self.units),
            ("2.5.4.10", &self.organizations),
            ("2.5.4.97", &self.identifiers),
        ] {
            subject.extend(values.iter().map(|value| rdn(kind, utf8(value))));
        }
        let mut alternatives = Vec::new();
        for (tag, values) in [(0x86, &self.uris), (0x82, &self.dns), (0x81, &self.emails)] {
            alternatives.extend(values.iter().map(|value| tlv(tag, value.as_bytes())));
        }
        let mut certificate = Certificate::new("");
        certificate.subject = sequence(&subject);
        if !self.issuer.is_empty() {
            let rdns: Vec<_> = self.issuer.iter().map(|(kind, value)| rdn(kind, utf8(value))).collect();
            certificate.issuer = sequence(&rdns);
        }
        if !alternatives.is_empty() {
            certificate = certificate.subject_alt_names(&alternatives);
        }
        PeerIdentity::from_verified_chain(&[certificate.der()], &IdentityOptions::default()).unwrap()
    }
}

fn tenant(name: &str, matches: Vec<TenantMatch>) -> TenantDefinition {
    TenantDefinition {
        name: name.into(),
        trust: vec!["partners".to_owned()],
        matches,
        identity: IdentitySource::Name,
    }
}

fn refusals(tenants: Vec<TenantDefinition>) -> Vec<TenantError> {
    TenantMap::build(tenants).map(|_| ()).unwrap_err()
}

fn assigned(rule: &TenantMatch, names: &Names) -> bool {
    let map = TenantMap::build(vec![tenant("acme", vec![rule.clone()])])
        .unwrap_or_else(|errors| panic!("{rule}: {}", errors[0]));
    match map.assign("partners", &names.peer()) {
        Assignment::Tenant { name, rule: Some(0), .. } => &*name == "acme",
        Assignment::None => false,
        other => panic!("{rule} with {names:?}: {other:?}"),
    }
}

fn text(text: &str) -> String {
    text.to_owned()
}

#[test]
fn a_rule_matches_what_it_says_and_nothing_near_it() {
    let uri = |uri| Names { uris: vec![uri], ..Names::default() };
    let dns = |dns| Names { dns: vec![dns], ..Names::default() };
    let email = |email| Names { emails: vec![email], ..Names::default() };
    let unit = |unit| Names { units: vec![unit], ..Names::default() };
    let issuer = |names: &[_]| Names { issuer: names.to_vec(), ..Names::default() };
    let table: &[(TenantMatch, Names, bool)] = &[
        (SpiffeTrustDomain(text("acme.example")), uri("spiffe://acme.example/a/b"), true),
        (SpiffeTrustDomain(text("acme.example")), uri("spiffe://acme.example.evil/a"), false),
        (SpiffeTrustDomain(text("acme.example")), uri("spiffe://x.acme.example/a"), false),
        (SpiffeTrustDomain(text("acme.example")), uri("https://acme.example/a"), false),
        (SpiffeTrustDomain(text("acme.example")), dns("acme.example"), false),
        (SanUri(text("spiffe://acme.example/a")), uri("spiffe://acme.example/a"), true),
        (SanUri(text("spiffe://acme.example/a")), uri("spiffe://acme.example/a/b"), false),
        (SanUri(text("spiffe://acme.example/a/*")), uri("spiffe://acme.example/a/b"), true),
        (SanUri(text("spiffe://acme.example/a/*")), uri("spiffe://acme.example/a/b/c"), true),
        (SanUri(text("spiffe://acme.example/a/*")), uri("spiffe://acme.example/a"), false),
        (SanUri(text("spiffe://acme.example/a/*")), uri("spiffe://acme.example/ab/c"), false),
        (SanUri(text("https://acme.example/a/*")), uri("https://acme.example/a/"), false),
        (SanUri(text("https://acme.example/a/*")), uri("https://acme.example/a/b?c/../d"), true),
        (SanUri(text("https://acme.example/a/*")), uri("https://acme.example/a/../b"), false),
        (SanUri(text("https://acme.example/a/*")), uri("https://acme.example/a/%2E%2e/b"), false),
        (SanUri(text("https://acme.example/a/*")), uri("https://acme.example/a/.%2e"), false),
        (SanUri(text("https://acme.example/*")), uri("https://acme.example/a"), true),
        (SanUri(text("https://acme.example/*")), uri("https://acme.example.evil/a"), false),
        (SanDns(text("API.acme.example")), dns("api.Acme.example"), true),
        (SanDns(text("api.acme.example")), dns("x.api.acme.example"), false),
        (SanDns(text("*.Acme.example")), dns("api.acme.example"), true),
        (SanDns(text("*.acme.example")), dns("*.acme.example"), true),
        (SanDns(text("*.acme.example")), dns("acme.example"), false),
        (SanDns(text("*.acme.example")), dns("a.b.acme.example"), false),
        (SanDns(text("*.acme.example")), dns("api.evilacme.example"), false),
        (SanEmail(text("Ops@acme.example")), email("Ops@ACME.example"), true),
        (SanEmail(text("Ops@acme.example")), email("ops@acme.example"), false),
        (SanEmail(text("@Acme.example")), email("anyone@acme.Example"), true),
        (SanEmail(text("@acme.example")), email("anyone@x.acme.example"), false),
        (SanEmail(text("@acme.example")), email("acme.example@evil.example"), false),
        (OrganizationalUnit(text("Acme")), unit("Acme"), true),
        (OrganizationalUnit(text("Acme")), unit("acme"), false),
        (OrganizationalUnit(text("Acme")), unit("Acme "), false),
        (OrganizationalUnit(text("Acme")), unit("Acme,O=x"), false),
        (Organization(text("Acme")), unit("Acme"), false),
        (Organization(text("Acme")), Names { organizations: vec!["Acme"], ..Names::default() }, true),
        (
            OrganizationIdentifier(text("PSD-1")),
            Names { identifiers: vec!["PSD-1"], ..Names::default() },
            true,
        ),
        (
            OrganizationIdentifier(text("PSD-1")),
            Names { organizations: vec!["PSD-1"], ..Names::default() },
            false,
        ),
        (Issuer(text("CN=CA\\, 1, O=Acme")), issuer(&[("2.5.4.10", "Acme"), ("2.5.4.3", "CA, 1")]), true),
        (Issuer(text("O=Acme,CN=CA 1")), issuer(&[("2.5.4.10", "Acme"), ("2.5.4.3", "CA 1")]), false),
        (Issuer(text("CN=CA 1")), issuer(&[("2.5.4.10", "Acme"), ("2.5.4.3", "CA 1")]), false),
        (Issuer(text("CN=CA 1,O=Acme")), issuer(&[("2.5.4.3", "CA 1,O=Acme")]), false),
    ];
    for (rule, names, expected) in table {
        assert_eq!(assigned(rule, names), *expected, "{rule} with {names:?}");
    }
}

#[test]
fn any_of_several_values_and_rules_matches() {
    let map = TenantMap::build(vec![tenant(
        "acme",
        vec![OrganizationalUnit(text("a")), OrganizationalUnit(text("b")), SanDns(text("*.acme.example"))],
    )])
    .unwrap();
    let rule = |names: Names| match map.assign("partners", &names.peer()) {
        Assignment::Tenant { rule, .. } => rule,
        _ => None,
    };
    assert_eq!(rule(Names { units: vec!["x", "b"], ..Names::default() }), Some(1));
    assert_eq!(rule(Names { units: vec!["b", "a"], ..Names::default() }), Some(0));
    assert_eq!(rule(Names { dns: vec!["x.example", "x.acme.example"], ..Names::default() }), Some(2));
    assert_eq!(rule(Names { units: vec!["x"], ..Names::default() }), None);
}

#[test]
fn two_values_of_two_tenants_are_ambiguous_in_any_order() {
    let tenants = || {
        vec![
            tenant("zeta", vec![OrganizationalUnit(text("z"))]),
            tenant("acme", vec![OrganizationalUnit(text("a"))]),
        ]
    };
    let mut reversed = tenants();
    reversed.reverse();
    for definitions in [tenants(), reversed] {
        let map = TenantMap::build(definitions).unwrap();
        for units in [vec!["a", "z"], vec!["z", "a"], vec!["z", "x", "a"]] {
            let names = Names { units, ..Names::default() };
            assert_eq!(
                map.assign("partners", &names.peer()),
                Assignment::Ambiguous(vec!["acme".into(), "zeta".into()]),
                "{names:?}"
            );
        }
    }
}

#[test]
fn a_tenant_is_reached_by_its_own_bundles_alone() {
    let mut acme = tenant("acme", vec![]);
    acme.trust = vec![text("acme-1"), text("acme-2"), text("acme-1")];
    let map = TenantMap::build(vec![acme, tenant("zeta", vec![OrganizationalUnit(text("z"))])]).unwrap();
    let peer = Names { units: vec!["z"], common_names: vec!["c"], ..Names::default() }.peer();
    let name = |bundle| match map.assign(bundle, &peer) {
        Assignment::Tenant { name, rule, .. } => Some((name.to_string(), rule)),
        Assignment::None => None,
        other => panic!("{other:?}"),
    };
    assert_eq!(name("acme-1"), Some((text("acme"), None)), "owned without a rule");
    assert_eq!(name("acme-2"), Some((text("acme"), None)));
    assert_eq!(name("partners"), Some((text("zeta"), Some(0))));
    assert_eq!(name("other"), None);
    assert_eq!(TenantMap::default().assign("partners", &peer), Assignment::None);
    assert_eq!(map.definition("acme").unwrap().trust.len(), 3);
    assert!(map.definition("nobody").is_none());
    assert_eq!(map.definitions().len(), 2);
}

#[test]
fn an_identity_is_the_only_value_or_none() {
    use IdentitySource as S;
    let svid = Names { uris: vec!["spiffe://acme.example/a"], ..Names::default() };
    let one = Names {
        uris: vec!["https://acme.example/a"],
        dns: vec!["a.acme.example"],
        emails: vec!["a@acme.example"],
        common_names: vec!["a"],
        ..Names::default()
    };
    let two = Names {
        uris: vec!["https://acme.example/a", "urn:a"],
        dns: vec!["a.acme.example", "b.acme.example"],
        emails: vec!["a@acme.example", "b@acme.example"],
        common_names: vec!["a", "a"],
        ..Names::default()
    };
    let empty = Names { common_names: vec![""], ..Names::default() };
    let table: &[(S, &Names, Option<&str>)] = &[
        (S::Name, &one, Some("https://acme.example/a")),
        (S::SpiffeId, &svid, Some("spiffe://acme.example/a")),
        (S::SpiffeId, &one, None),
        (S::SanUri, &svid, Some("spiffe://acme.example/a")),
        (S::SanUri, &one, Some("https://acme.example/a")),
        (S::SanUri, &two, None),
        (S::SanUri, &empty, None),
        (S::SanDns, &one, Some("a.acme.example")),
        (S::SanDns, &two, None),
        (S::SanDns, &svid, None),
        (S::SanEmail, &one, Some("a@acme.example")),
        (S::SanEmail, &two, None),
        (S::CommonName, &one, Some("a")),
        (S::CommonName, &two, None),
        (S::CommonName, &empty, None),
        (S::CommonName, &svid, None),
    ];
    for (source, names, expected) in table {
        let map =
            TenantMap::build(vec![TenantDefinition { identity: *source, ..tenant("acme", vec![]) }]).unwrap();
        let expected = match expected {
            Some(identity) => {
                Assignment::Tenant { name: "acme".into(), identity: (*identity).into(), rule: None }
            }
            None => Assignment::NoIdentity { name: "acme".into(), source: *source },
        };
        assert_eq!(map.assign("partners", &names.peer()), expected, "{source} of {names:?}");
    }
    let by_fingerprint = TenantDefinition { identity: S::Fingerprint, ..tenant("acme", vec![]) };
    let peer = two.peer();
    let assignment = TenantMap::build(vec![by_fingerprint]).unwrap().assign("partners", &peer);
    assert!(
        matches!(assignment, Assignment::Tenant { identity, .. } if *identity == *peer.fingerprint_hex())
    );
}

#[test]
fn a_peer_keeps_its_tenant() {
    let peer = Names { common_names: vec!["c"], ..Names::default() }.peer();
    assert_eq!((peer.tenant(), peer.identity()), (None, "CN=c"), "its name without a tenant");
    let peer = peer.with_tenant("acme".into(), "c".into());
    assert_eq!((peer.tenant(), peer.identity(), peer.name()), (Some("acme"), "c", "CN=c"));
}

#[test]
fn refuses_rules_that_match_too_much_or_nothing() {
    let every: [fn(String) -> TenantMatch; 8] = [
        SpiffeTrustDomain,
        SanUri,
        SanDns,
        SanEmail,
        OrganizationalUnit,
        Organization,
        OrganizationIdentifier,
        Issuer,
    ];
    let mut rules: Vec<TenantMatch> =
        every.iter().flat_map(|kind| ["", "*", " ", "**"].map(|value| kind(text(value)))).collect();
    rules.extend(
        ["*.acme.example", "spiffe://acme.example", "Acme.example", "a/b", "a:1"]
            .map(|v| SpiffeTrustDomain(text(v))),
    );
    rules.extend(
        [
            "spiffe://*",
            "spiffe://acme.example/*",
            "spiffe://acme.example*",
            "spiffe:///*",
            "spiffe://acme.example/a*",
            "spiffe://acme.example/*/a",
            "spiffe://acme.example/a//*",
            "spiffe://acme.example",
            "spiffe://Acme.example/a",
            "SPIFFE://acme.example/a",
            "https://*",
            "https:///*",
            "https:/*",
            "https:*",
            "https://acme.example/a/../*",
            "https://acme.example/./a",
            "https://acme.example/%2E/a",
            "urn:*",
            "urn:a/*",
            "acme.example/*",
            "https://acme.example/a b",
            "https://acme.example/*/a",
            "https://acme.example/a*b",
            "/*",
            "://acme.example/*",
        ]
        .map(|value| SanUri(text(value))),
    );
    rules.extend(
        [
            "*.com",
            "*.",
            "*com",
            "*.*.example",
            "a.*.example",
            "a*.acme.example",
            ".acme.example",
            "acme.example.",
            "*.acme..example",
            "a b",
        ]
        .map(|value| SanDns(text(value))),
    );
    rules.extend(
        [
            "@",
            "*@acme.example",
            "@*",
            "@*.acme.example",
            "acme.example",
            "a@",
            "a@b@c",
            "@a@b",
            "@.example",
            "@a b",
            "a b@acme.example",
            "<a>@acme.example",
        ]
        .map(|value| SanEmail(text(value))),
    );
    rules.extend(["Acme*", "*Acme", "a\0b", "a\u{202e}b"].map(|value| OrganizationalUnit(text(value))));
    rules.extend(
        ["CN=*", "CN=CA *,O=Acme", "CN=", "CN= ,O=", "Acme", "CN=a,", "nick=a"]
            .map(|value| Issuer(text(value))),
    );
    for rule in rules {
        let errors = TenantMap::build(vec![tenant("acme", vec![Organization(text("Acme")), rule.clone()])])
            .map(|_| ())
            .expect_err(&rule.to_string());
        assert_eq!(errors.len(), 1, "{rule}");
        assert_eq!(errors[0].place(), ("acme", Some(1)), "{rule}");
        let message = errors[0].to_string();
        assert!(message.contains(&rule.to_string()) && message.contains("acme"), "{message}");
    }
}

#[test]
fn says_what_is_too_broad_and_what_to_write() {
    for (rule, part) in [
        (Organization(text("*")), "would match every certificate"),
        (Organization(text("")), "is empty"),
        (SanEmail(text("@")), "would match every mailbox; add the domain"),
        (SanDns(text("*.com")), "covers a whole top-level domain"),
        (SpiffeTrustDomain(text("*.acme.example")), "trust domains have none below them"),
        (SanUri(text("spiffe://acme.example/*")), "if that is meant, write `spiffe_trust_domain`"),
        (SanUri(text("https://*")), "covers every authority of a scheme"),
    ] {
        let errors = refusals(vec![tenant("acme", vec![rule])]);
        assert!(errors[0].to_string().contains(part), "{}", errors[0]);
    }
}

#[test]
fn takes_rules_at_the_narrow_side_of_the_limits() {
    for rule in [
        SpiffeTrustDomain(text("acme")),
        SanUri(text("https://acme.example/*")),
        SanUri(text("spiffe://acme.example/a/*")),
        SanDns(text("*.acme.example")),
        SanDns(text("localhost")),
        SanEmail(text("@acme")),
        Issuer(text("CN=a")),
    ] {
        assert!(TenantMap::build(vec![tenant("acme", vec![rule.clone()])]).is_ok(), "{rule}");
    }
}

#[test]
fn tenants_that_share_a_bundle_exclude_each_other() {
    let table: &[(TenantMatch, TenantMatch, bool)] = &[
        (SpiffeTrustDomain(text("a.example")), SpiffeTrustDomain(text("b.example")), true),
        (SpiffeTrustDomain(text("a.example")), SpiffeTrustDomain(text("a.example")), false),
        (SpiffeTrustDomain(text("a.example")), SanUri(text("spiffe://b.example/a")), true),
        (SpiffeTrustDomain(text("a.example")), SanUri(text("spiffe://a.example/a")), false),
        (SpiffeTrustDomain(text("a.example")), SanUri(text("spiffe://a.example/a/*")), false),
        (SpiffeTrustDomain(text("a.example")), SanUri(text("https://a.example/*")), true),
        (SanUri(text("spiffe://a.example/a/*")), SanUri(text("spiffe://a.example/b/*")), true),
        (SanUri(text("spiffe://a.example/a/*")), SanUri(text("spiffe://a.example/a/b/*")), false),
        (SanUri(text("spiffe://a.example/a/*")), SanUri(text("spiffe://a.example/a")), true),
        (SanUri(text("spiffe://a.example/a/*")), SanUri(text("spiffe://a.example/a/b")), false),
        (SanUri(text("spiffe://a.example/a/*")), SanUri(text("spiffe://a.example/ab/*")), true),
        (SanDns(text("*.a.example")), SanDns(text("*.b.example")), true),
        (SanDns(text("*.a.example")), SanDns(text("*.x.a.example")), true),
        (SanDns(text("*.a.example")), SanDns(text("x.a.example")), false),
        (SanDns(text("*.a.example")), SanDns(text("X.A.EXAMPLE")), false),
        (SanDns(text("x.a.example")), SanDns(text("X.a.example")), false),
        (SanEmail(text("@a.example")), SanEmail(text("@b.example")), true),
        (SanEmail(text("@a.example")), SanEmail(text("x@A.example")), false),
        (SanEmail(text("x@a.example")), SanEmail(text("X@a.example")), false),
        (OrganizationalUnit(text("a")), OrganizationalUnit(text("b")), true),
        (OrganizationalUnit(text("Acme  Inc")), OrganizationalUnit(text("ACME Inc ")), false),
        (Organization(text("a")), OrganizationalUnit(text("b")), false),
        (OrganizationIdentifier(text("a")), OrganizationIdentifier(text("b")), true),
        (Issuer(text("CN=a")), Issuer(text("CN=b")), true),
        (Issuer(text("CN=a,O=b")), Issuer(text("cn=A , o=B")), false),
        (Issuer(text("CN=a")), SanDns(text("a.example")), false),
        (SanUri(text("https://a.example/*")), SanDns(text("b.example")), false),
    ];
    for (one, other, disjoint) in table {
        for (one, other) in [(one, other), (other, one)] {
            let pair = |first: &TenantMatch| {
                vec![tenant("a", vec![first.clone()]), tenant("b", vec![other.clone()])]
            };
            assert_eq!(TenantMap::build(pair(one)).is_ok(), *disjoint, "{one} and {other}");
            let mut apart = pair(one);
            apart[1].trust = vec![text("own")];
            assert!(TenantMap::build(apart).is_ok(), "{one} and {other} with bundles of their own");
        }
    }
}

#[test]
fn rules_of_different_kinds_are_never_taken_for_disjoint() {
    let rules = [
        SpiffeTrustDomain(text("a.example")),
        SanDns(text("*.a.example")),
        SanEmail(text("@a.example")),
        OrganizationalUnit(text("a")),
        Organization(text("b")),
        OrganizationIdentifier(text("c")),
        Issuer(text("CN=d")),
    ]
    .map(|rule| Rule::new(&rule).unwrap());
    for (index, rule) in rules.iter().enumerate() {
        for (position, other) in rules.iter().enumerate() {
            assert!(rule.overlaps(other), "{rule:?} and {other:?}");
            assert_eq!(rule.kind() == other.kind(), index == position);
        }
    }
}

#[test]
fn refusals_name_both_sides_and_the_way_out() {
    let unit = |value: &str| OrganizationalUnit(text(value));
    let errors =
        refusals(vec![tenant("a", vec![unit("x"), unit("y")]), tenant("b", vec![unit("z"), unit("Y")])]);
    assert_eq!(
        errors[0].to_string(),
        "the tenants share the trust bundle `partners`, but a certificate could match both the rule `ou = \"y\"` of \
         tenant `a` and the rule `ou = \"Y\"` of tenant `b`; make the rules exclude each other, or give each tenant \
         a bundle of its own"
    );
    assert_eq!(errors[0].place(), ("b", Some(1)));
    let errors = refusals(vec![tenant("a", vec![unit("x")]), tenant("b", vec![SanDns(text("*.b.example"))])]);
    assert_eq!(
        errors[0].to_string(),
        "the tenants share the trust bundle `partners`, but the rules `ou = \"x\"` of tenant `a` and `san_dns = \
         \"*.b.example\"` of tenant `b` look at different parts of a certificate, so that one could match both; \
         give each tenant a bundle of its own, or both tenants rules of the same kind"
    );
    let errors = refusals(vec![tenant("a", vec![unit("x")]), tenant("b", vec![])]);
    assert_eq!(
        errors[0].to_string(),
        "tenant `b` has no rule and so owns every certificate of the trust bundle `partners`, which tenant `a` uses \
         too; give `b` a rule, or each a bundle of its own"
    );
    let errors = refusals(vec![tenant("a", vec![unit("x")]), tenant("a", vec![unit("y")])]);
    assert_eq!(errors, [TenantError::Duplicate { tenant: "a".into() }]);
    let nowhere = TenantDefinition { trust: vec![], ..tenant("a", vec![unit("x")]) };
    assert_eq!(refusals(vec![nowhere]), [TenantError::NoTrust { tenant: "a".into() }]);
}

#[test]
fn reports_one_error_for_each_pair_and_a_hundred_at_most() {
    let same = |count: usize| -> Vec<_> {
        (0..count)
            .map(|index| TenantDefinition {
                trust: vec![text("one"), text("two")],
                ..tenant(
                    &format!("t{index}"),
                    vec![OrganizationalUnit(text("x")), OrganizationalUnit(text("y"))],
                )
            })
            .collect()
    };
    assert_eq!(refusals(same(3)).len(), 3);
    assert_eq!(refusals(same(14)).len(), 91);
    assert_eq!(refusals(same(15)).len(), TENANT_ERRORS_MAX, "of 105");
    let tenants: Vec<_> = same(15).into_iter().map(|definition| Tenant::new(definition).unwrap()).collect();
    let found = conflicts(&tenants, &bundles(&tenants));
    assert_eq!(found.len(), TENANT_ERRORS_MAX, "no more are looked for than are reported");
    let broken: Vec<_> =
        (0..=TENANT_ERRORS_MAX).map(|index| tenant(&format!("t{index}"), vec![SanDns(text("*"))])).collect();
    assert_eq!(refusals(broken).len(), TENANT_ERRORS_MAX);
}

#[test]
fn the_digest_tells_maps_apart_and_nothing_else() {
    let digest = |tenants: Vec<TenantDefinition>| TenantMap::build(tenants).unwrap().digest();
    let unit = |value: &str| OrganizationalUnit(text(value));
    let base = || tenant("a", vec![unit("x"), unit("y")]);
    let other = || TenantDefinition { trust: vec![text("own"), text("else")], ..tenant("b", vec![]) };
    let reordered = TenantDefinition { matches: vec![unit("y"), unit("x")], ..base() };
    let swapped = TenantDefinition { trust: vec![text("else"), text("own")], ..other() };
    assert_eq!(digest(vec![base(), other()]), digest(vec![swapped, reordered]));
    let different = [
        vec![],
        vec![base()],
        vec![TenantDefinition { name: "c".into(), ..base() }],
        vec![TenantDefinition { trust: vec![text("own")], ..base() }],
        vec![TenantDefinition { matches: vec![unit("x")], ..base() }],
        vec![TenantDefinition { matches: vec![unit("x"), Organization(text("y"))], ..base() }],
        vec![TenantDefinition { identity: IdentitySource::Fingerprint, ..base() }],
        vec![base(), other()],
        vec![base(), TenantDefinition { trust: vec![text("elseo"), text("wn")], ..other() }],
        // A bundle that is called like a rule.
        vec![TenantDefinition { trust: vec![text("a")], ..tenant("a", vec![unit("x")]) }],
        vec![TenantDefinition { trust: vec![text("a"), unit("x").to_string()], ..tenant("a", vec![]) }],
    ];
    let digests: BTreeSet<_> = different.iter().map(|tenants| digest(tenants.clone())).collect();
    assert_eq!(digests.len(), different.len());
}

/// A random map of few names, so that rules often meet.
fn random_map(random: &mut impl FnMut(usize) -> usize) -> Vec<TenantDefinition> {
    let common = random(6);
    // One map in three mixes kinds, and is then mostly refused.
    let (count, mixed) = (2 + random(2), random(3) == 0);
    let rules: Vec<_> = (0..count).map(|_| 1 + random(2)).collect();
    let kinds: Vec<_> = (0..8).map(|_| if mixed { random(6) } else { common }).collect();
    let mut rule = |kind| match kind {
        0 => SpiffeTrustDomain(text(["a.example", "b.example"][random(2)])),
        1 => SanUri(text(
            [
                "spiffe://a.example/x/*",
                "spiffe://a.example/x/y/*",
                "spiffe://b.example/x",
                "https://a.example/x/y",
            ][random(4)],
        )),
        2 => SanDns(text(["*.a.example", "x.a.example", "*.x.a.example", "b.example"][random(4)])),
        3 => SanEmail(text(["@a.example", "x@a.example", "y@b.example"][random(3)])),
        4 => OrganizationalUnit(text(["a", "b", "c"][random(3)])),
        _ => Issuer(text(["CN=a", "CN=a,O=b", "CN=b"][random(3)])),
    };
    let mut kinds = kinds.into_iter();
    let names = ["one", "two", "three"].into_iter().zip(rules);
    names.map(|(name, rules)| tenant(name, kinds.by_ref().take(rules).map(&mut rule).collect())).collect()
}

/// Every peer with at most one name of each kind.
fn all_peers() -> Vec<(Names, PeerIdentity)> {
    let uris: [&[&str]; 6] = [
        &[],
        &["spiffe://a.example/x/y/z"],
        &["spiffe://a.example/x/z"],
        &["spiffe://a.example/z"],
        &["spiffe://b.example/x"],
        &["https://a.example/x/y"],
    ];
    let dns: [&[&str]; 5] = [&[], &["x.a.example"], &["y.a.example"], &["y.x.a.example"], &["b.example"]];
    let emails: [&[&str]; 4] = [&[], &["x@a.example"], &["y@a.example"], &["y@b.example"]];
    let units: [&[&str]; 4] = [&[], &["a"], &["b"], &["c"]];
    let issuers: [&[(&str, &str)]; 3] =
        [&[("2.5.4.3", "a")], &[("2.5.4.10", "b"), ("2.5.4.3", "a")], &[("2.5.4.3", "b")]];
    let mut peers = Vec::new();
    for uri in uris {
        for name in dns {
            for email in emails {
                for unit in units {
                    for issuer in issuers {
                        let names = Names {
                            uris: uri.to_vec(),
                            dns: name.to_vec(),
                            emails: email.to_vec(),
                            units: unit.to_vec(),
                            issuer: issuer.to_vec(),
                            ..Names::default()
                        };
                        let peer = names.peer();
                        peers.push((names, peer));
                    }
                }
            }
        }
    }
    peers
}

/// What a rule means, written down a second time and as plainly as can be.
fn means(rule: &TenantMatch, names: &Names) -> bool {
    match rule {
        SpiffeTrustDomain(domain) => {
            names.uris.iter().any(|uri| uri.split('/').nth(2) == Some(domain) && uri.starts_with("spiffe:"))
        }
        SanUri(rule) => names.uris.iter().any(|uri| match rule.strip_suffix('*') {
            Some(prefix) => uri.starts_with(prefix),
            None => uri == rule,
        }),
        SanDns(rule) => names.dns.iter().any(|name| {
            name == rule || name.split_once('.').is_some_and(|(_, rest)| format!("*.{rest}") == *rule)
        }),
        SanEmail(rule) => names.emails.iter().any(|mailbox| mailbox == rule || rule == &mailbox[1..]),
        OrganizationalUnit(unit) => names.units.iter().any(|value| value == unit),
        Organization(_) | OrganizationIdentifier(_) => unreachable!("not generated"),
        Issuer(rule) => {
            let mut rdns: Vec<_> = names
                .issuer
                .iter()
                .map(|(kind, value)| format!("{}={value}", if *kind == "2.5.4.3" { "CN" } else { "O" }))
                .collect();
            rdns.reverse();
            rdns.join(",") == *rule
        }
    }
}

#[test]
fn no_peer_has_two_tenants_and_no_map_is_refused_without_reason() {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    let peers = all_peers();
    let (mut built, mut refused) = (0, 0);
    for _ in 0..400 {
        let definitions = random_map(&mut random);
        let owners = |names: &Names| -> Vec<&str> {
            let owns = |d: &&TenantDefinition| d.matches.iter().any(|rule| means(rule, names));
            let mut owners: Vec<&str> = definitions.iter().filter(owns).map(|d| &*d.name).collect();
            owners.sort_unstable();
            owners
        };
        let contested = peers.iter().find(|(names, _)| owners(names).len() > 1);
        let map = match TenantMap::build(definitions.clone()) {
            Err(errors) => {
                refused += 1;
                assert!(contested.is_some(), "refused without reason: {definitions:?}: {}", errors[0]);
                continue;
            }
            Ok(map) => map,
        };
        built += 1;
        assert!(contested.is_none(), "{definitions:?} share {:?}", contested.unwrap().0);
        for (names, peer) in &peers {
            let expected = owners(names);
            match map.assign("partners", peer) {
                Assignment::None => assert!(expected.is_empty(), "{names:?} in {definitions:?}"),
                Assignment::Tenant { name, .. } => assert_eq!(expected, [&*name], "{names:?}"),
                other => panic!("{names:?} in {definitions:?}: {other:?}"),
            }
        }
        // Two names of one kind: exactly the tenants of both, none preferred.
        for _ in 0..200 {
            let (one, other) = (&peers[random(peers.len())].0, &peers[random(peers.len())].0);
            let names = Names {
                dns: [one.dns.clone(), other.dns.clone()].concat(),
                emails: [one.emails.clone(), other.emails.clone()].concat(),
                units: [one.units.clone(), other.units.clone()].concat(),
                ..one.clone()
            };
            let expected = owners(&names);
            match map.assign("partners", &names.peer()) {
                Assignment::None => assert!(expected.is_empty()),
                Assignment::Tenant { name, .. } => assert_eq!(expected, [&*name], "{names:?}"),
                Assignment::Ambiguous(several) => {
                    assert!(several.len() > 1);
                    assert_eq!(expected, several.iter().map(|name| &**name).collect::<Vec<_>>());
                }
                other => panic!("{other:?}"),
            }
        }
    }
    assert!(built > 50 && refused > 50, "{built} built, {refused} refused: both sides are to be tried");
}
