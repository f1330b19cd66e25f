use ringward_identity::{IdentitySource, TenantDefinition, TenantMatch};

use super::*;
use crate::PathMemo;
use crate::revocation::{CrlMode, RevocationDepth, RevocationPolicy, StalePolicy};
use crate::testing::{Ca, ManualClock, NOW, Pair, Pki, bundle, bundle_with, date};
use crate::trust::{KeyKind, Profile, TrustOptions};

type Edit<'a> = Box<dyn Fn(&mut ClientAuthOptions) + 'a>;

fn options(mode: ClientAuthMode) -> ClientAuthOptions {
    ClientAuthOptions::new(mode)
}

fn build(options: &ClientAuthOptions, trust: &[&Arc<TrustBundle>]) -> ClientAuth {
    let trust = trust.iter().copied().cloned().collect();
    ClientAuth::build(&ClientAuthOptions { trust, ..options.clone() }).unwrap()
}

fn digest_of(options: &ClientAuthOptions) -> [u8; 32] {
    *ClientAuth::build(options).unwrap().digest()
}

fn tenants(matches: &str, admitted: &[&str]) -> Option<TenantRules> {
    let definition = TenantDefinition {
        name: "acme".into(),
        trust: vec!["partners".to_owned()],
        matches: vec![TenantMatch::OrganizationalUnit(matches.to_owned())],
        identity: IdentitySource::Name,
    };
    let map = Arc::new(TenantMap::build(vec![definition]).unwrap());
    Some(TenantRules { map, admitted: admitted.iter().map(|name| Arc::from(*name)).collect() })
}

#[test]
fn client_authentication_needs_someone_to_trust() {
    for mode in
        [ClientAuthMode::Observe, ClientAuthMode::Lenient, ClientAuthMode::Optional, ClientAuthMode::Required]
    {
        assert_eq!(ClientAuth::build(&options(mode)).unwrap_err(), ClientAuthError::NoTrust);
    }
    let trust = bundle("partners", &[&Ca::root("A")]);
    let auth = build(&options(ClientAuthMode::Off), &[&trust]);
    assert_eq!(auth.mode(), ClientAuthMode::Off);
    assert!(auth.trust().is_empty() && auth.trust_names().is_none());
    assert_eq!(auth.digest(), &digest_of(&options(ClientAuthMode::Off)));
}

#[test]
fn every_setting_changes_the_digest() {
    let (a, b) = (Ca::root("A"), Ca::root("B"));
    let base =
        ClientAuthOptions { trust: vec![bundle("partners", &[&a])], ..options(ClientAuthMode::Required) };
    let rules = |edit: &dyn Fn(&mut TrustOptions)| {
        let mut options = TrustOptions::default();
        edit(&mut options);
        vec![bundle_with("partners", &[&a], options)]
    };
    let profile = |edit: fn(&mut Profile)| rules(&|options| edit(&mut options.profile));
    let revocation = |edit: fn(&mut RevocationPolicy)| rules(&|options| edit(&mut options.revocation));
    let cases: Vec<(&str, Edit)> = vec![
        ("base", Box::new(|_| {})),
        ("observe", Box::new(|o| o.mode = ClientAuthMode::Observe)),
        ("lenient", Box::new(|o| o.mode = ClientAuthMode::Lenient)),
        ("optional", Box::new(|o| o.mode = ClientAuthMode::Optional)),
        ("off", Box::new(|o| o.mode = ClientAuthMode::Off)),
        ("other anchor", Box::new(|o| o.trust = vec![bundle("partners", &[&b])])),
        ("more anchors", Box::new(|o| o.trust = vec![bundle("partners", &[&a, &b])])),
        ("other name", Box::new(|o| o.trust = vec![bundle("others", &[&a])])),
        ("two bundles", Box::new(|o| o.trust = vec![bundle("partners", &[&a]), bundle("b", &[&b])])),
        ("their order", Box::new(|o| o.trust = vec![bundle("b", &[&b]), bundle("partners", &[&a])])),
        (
            "trust domain",
            Box::new(|o| o.trust = rules(&|r| r.spiffe_trust_domain = Some("a.test".to_owned()))),
        ),
        (
            "other trust domain",
            Box::new(|o| o.trust = rules(&|r| r.spiffe_trust_domain = Some("b.test".to_owned()))),
        ),
        ("a pin", Box::new(|o| o.trust = rules(&|r| r.pins = vec![[1; 32]]))),
        ("pins", Box::new(|o| o.trust = rules(&|r| r.pins = vec![[1; 32], [2; 32]]))),
        ("keys", Box::new(|o| o.trust = profile(|p| p.keys = vec![KeyKind::EcdsaP256]))),
        ("all keys", Box::new(|o| o.trust = profile(|p| p.keys = KeyKind::ALL.to_vec()))),
        ("rsa bits", Box::new(|o| o.trust = profile(|p| p.rsa_bits_min = 3072))),
        ("policies", Box::new(|o| o.trust = profile(|p| p.policies = vec!["1.2.3".parse().unwrap()]))),
        ("path length", Box::new(|o| o.trust = profile(|p| p.path_length_max = Some(0)))),
        ("lifetime", Box::new(|o| o.trust = profile(|p| p.leaf_lifetime_max = Some(Duration::from_secs(1))))),
        ("crl if present", Box::new(|o| o.trust = revocation(|p| p.crl = CrlMode::IfPresent))),
        ("crl required", Box::new(|o| o.trust = revocation(|p| p.crl = CrlMode::Required))),
        ("stale", Box::new(|o| o.trust = revocation(|p| p.stale = StalePolicy::Allow(Duration::ZERO)))),
        (
            "grace",
            Box::new(|o| o.trust = revocation(|p| p.stale = StalePolicy::Allow(Duration::from_secs(1)))),
        ),
        ("depth", Box::new(|o| o.trust = revocation(|p| p.depth = RevocationDepth::Leaf))),
        ("intermediates", Box::new(|o| o.intermediates_max = 3)),
        ("eku", Box::new(|o| o.require_eku = false)),
        ("extensions", Box::new(|o| o.identity.extensions = vec!["1.2.3".parse().unwrap()])),
        ("other extensions", Box::new(|o| o.identity.extensions = vec!["1.2.4".parse().unwrap()])),
        ("chain header", Box::new(|o| o.identity.chain_header_bytes_max = 1)),
        ("tenants", Box::new(|o| o.tenants = tenants("one", &[]))),
        ("tenant rules", Box::new(|o| o.tenants = tenants("two", &[]))),
        ("admitted tenants", Box::new(|o| o.tenants = tenants("one", &["acme"]))),
        ("age", Box::new(|o| o.max_auth_age = Duration::from_secs(1))),
        ("ocsp", Box::new(|o| o.ocsp.mode = OcspMode::SoftFail)),
        ("ocsp hard", Box::new(|o| o.ocsp.mode = OcspMode::HardFail)),
        ("ocsp timeout", Box::new(|o| o.ocsp.timeout = Duration::from_secs(1))),
    ];
    let mut seen: Vec<(&str, [u8; 32])> = Vec::new();
    for (name, edit) in &cases {
        let mut changed = base.clone();
        edit(&mut changed);
        let auth = ClientAuth::build(&changed).unwrap();
        for (other, digest) in &seen {
            assert_ne!(auth.digest(), digest, "{name} and {other}");
        }
        seen.push((name, *auth.digest()));
    }
}

/// A new field stops this from compiling, and then belongs into the table above, or into the test below if it decides
/// about nobody.
#[allow(dead_code, reason = "compiling is the test")]
fn no_field_is_without_a_case(options: ClientAuthOptions, rules: TrustOptions) {
    let ClientAuthOptions {
        mode: _,
        trust: _,
        intermediates_max: _,
        require_eku: _,
        identity: IdentityOptions { extensions: _, chain_header_bytes_max: _ },
        tenants: _,
        max_auth_age: _,
        ocsp: OcspPolicy { mode: _, timeout: _ },
        revocation: _,
        clock: _,
    } = options;
    let TrustOptions {
        spiffe_trust_domain: _,
        pins: _,
        profile: Profile { keys: _, rsa_bits_min: _, policies: _, path_length_max: _, leaf_lifetime_max: _ },
        hints: _,
        revocation: RevocationPolicy { crl: _, stale: _, depth: _ },
    } = rules;
}

#[test]
fn what_decides_about_nobody_is_not_in_the_digest() {
    let root = Ca::root("A");
    let base = ClientAuthOptions {
        trust: vec![bundle("partners", &[&root])],
        tenants: tenants("one", &["a", "b"]),
        ..options(ClientAuthMode::Required)
    };
    let digest = digest_of(&base);
    assert_eq!(digest, digest_of(&ClientAuthOptions { clock: ManualClock::new(), ..base.clone() }));
    assert_eq!(digest, digest_of(&ClientAuthOptions { revocation: Revocation::empty(), ..base.clone() }));
    assert_eq!(
        digest,
        digest_of(&ClientAuthOptions { tenants: tenants("one", &["b", "a", "b"]), ..base.clone() })
    );
    let hints = TrustOptions { hints: true, ..TrustOptions::default() };
    let hinting = vec![bundle_with("partners", &[&root], hints)];
    assert_eq!(digest, digest_of(&ClientAuthOptions { trust: hinting, ..base }));
    let rules = |pins: &[[u8; 32]], keys: &[KeyKind]| {
        let profile = Profile { keys: keys.to_vec(), ..Profile::default() };
        *bundle_with(
            "partners",
            &[&root],
            TrustOptions { pins: pins.to_vec(), profile, ..TrustOptions::default() },
        )
        .digest()
    };
    let (p256, rsa) = (KeyKind::EcdsaP256, KeyKind::Rsa);
    assert_eq!(rules(&[[1; 32], [2; 32]], &[p256, rsa]), rules(&[[2; 32], [1; 32]], &[rsa, p256, rsa]));
}

#[test]
fn memo_context_depends_on_everything_that_a_remembered_verdict_holds() {
    let root = Ca::root("A");
    let key = || rcgen::KeyPair::from_pem(&root.0.key().serialize_pem()).unwrap();
    let renewed = Ca::root_with_key("A", key(), |p| p.not_after = date(NOW + 10));
    let base = options(ClientAuthMode::Required);
    let context = |options: &ClientAuthOptions, cas: &[&[&Ca]]| {
        let bundles: Vec<_> =
            cas.iter().enumerate().map(|(index, cas)| bundle(&format!("{index}"), cas)).collect();
        let auth = build(options, &bundles.iter().collect::<Vec<_>>());
        (*auth.digest(), auth.memo_context)
    };
    let (digest, memo) = context(&base, &[&[&root]]);
    assert_eq!((digest, memo), context(&base, &[&[&root]]));
    // A CA renewed with its key admits the same clients, but until another day.
    let (same_digest, other_memo) = context(&base, &[&[&renewed]]);
    assert_eq!(digest, same_digest);
    assert_ne!(memo, other_memo);
    let (other_digest, other_memo) =
        context(&ClientAuthOptions { require_eku: false, ..base.clone() }, &[&[&root]]);
    assert_ne!(digest, other_digest);
    assert_ne!(memo, other_memo);
    // Which bundle an anchor is in counts, not only which anchors there are.
    let [x, y, z] =
        [10, 20, 30].map(|more| Ca::root_with_key("A", key(), |p| p.not_after = date(NOW + more)));
    let (one, two) = (context(&base, &[&[&x, &y], &[&z]]), context(&base, &[&[&x], &[&y, &z]]));
    assert_eq!(one.0, two.0);
    assert_ne!(one.1, two.1);
}

#[test]
fn client_of_a_bundle_that_is_gone_may_not_stay() {
    let pki = Pki::new();
    let client = pki.client("alice");
    let path = client.path_under(&pki.client_ca);
    let now = i64::try_from(NOW).unwrap();
    let admits = |trust: &Arc<TrustBundle>| {
        build(&options(ClientAuthMode::Required), &[trust])
            .check_revocation(&path, &client.identity(), now)
            .map_err(|refusal| (refusal.what, refusal.source))
    };
    assert_eq!(admits(&bundle(&path.bundle, &[&pki.client_ca])), Ok(()));
    let gone = Err((RevocationFinding::Unknown, RevocationSource::Crl));
    assert_eq!(admits(&bundle("others", &[&pki.client_ca])), gone);
}

#[test]
fn client_may_stay_while_its_path_is_valid_and_nothing_is_revoked() {
    let pki = Pki::new();
    let client = pki.client("alice");
    let path = PeerPath { valid_from: 100, valid_until: 200, ..client.path_under(&pki.client_ca) };
    let stays_at = |trust: &Arc<TrustBundle>, now| {
        let auth = build(&options(ClientAuthMode::Required), &[trust]);
        auth.check_standing(&path, &client.identity(), now).map_err(|failure| failure.reason)
    };
    let trust = bundle(&path.bundle, &[&pki.client_ca]);
    assert_eq!([100, 200].map(|now| stays_at(&trust, now)), [Ok(()); 2]);
    assert_eq!(stays_at(&trust, 99), Err(HandshakeReason::NotYetValid));
    assert_eq!(stays_at(&trust, 201), Err(HandshakeReason::Expired));
    let revocation = RevocationPolicy { crl: CrlMode::Required, ..RevocationPolicy::default() };
    let trust =
        bundle_with(&path.bundle, &[&pki.client_ca], TrustOptions { revocation, ..TrustOptions::default() });
    assert_eq!(stays_at(&trust, 150), Err(HandshakeReason::RevocationUnknown));
}

#[test]
fn bundles_are_named_once() {
    let (a, b) = (bundle("partners", &[&Ca::root("A")]), bundle("partners", &[&Ca::root("B")]));
    let options = ClientAuthOptions { trust: vec![a, b], ..options(ClientAuthMode::Required) };
    let error = ClientAuth::build(&options).unwrap_err();
    assert_eq!(error, ClientAuthError::DuplicateTrust { name: "partners".into() });
}

#[test]
fn anchors_of_one_subject_are_limited_over_all_bundles_that_are_asked_together() {
    let cas: Vec<_> = (0..=ANCHORS_PER_SUBJECT_MAX).map(|_| Ca::root("Same")).collect();
    let halves = |count: usize, domains: [Option<&str>; 2]| {
        let cas: Vec<_> = cas[..count].iter().collect();
        let (one, two) = cas.split_at(8);
        let bound = |name: &str, cas: &[&Ca], domain: Option<&str>| {
            let spiffe_trust_domain = domain.map(str::to_owned);
            bundle_with(name, cas, TrustOptions { spiffe_trust_domain, ..TrustOptions::default() })
        };
        let trust = vec![bound("one", one, domains[0]), bound("two", two, domains[1])];
        ClientAuth::build(&ClientAuthOptions { trust, ..options(ClientAuthMode::Required) })
    };
    let (max, above) = (ANCHORS_PER_SUBJECT_MAX, ANCHORS_PER_SUBJECT_MAX + 1);
    assert!(halves(max, [None, None]).is_ok());
    let error = ClientAuthError::SharedSubject { name: "two".into(), count: above };
    assert_eq!(halves(above, [None, None]).unwrap_err(), error);
    assert_eq!(halves(above, [Some("a.test"), Some("a.test")]).unwrap_err(), error);
    // Bundles of different trust domains are never asked about one leaf: many have CAs of the same name.
    assert!(halves(above, [Some("a.test"), Some("b.test")]).is_ok());
    assert!(halves(above, [Some("a.test"), None]).is_ok());
    // An anchor that two bundles share costs one check.
    let (one, two): (Vec<_>, Vec<_>) = (cas[..12].iter().collect(), cas[4..16].iter().collect());
    build(&options(ClientAuthMode::Required), &[&bundle("one", &one), &bundle("two", &two)]);
}

#[test]
fn hints_are_for_all_bundles_or_for_none_and_of_a_limited_size() {
    let hinting = |name: &str, cas: &[&Ca], hints| {
        bundle_with(name, cas, TrustOptions { hints, ..TrustOptions::default() })
    };
    let try_build = |trust: Vec<Arc<TrustBundle>>| {
        ClientAuth::build(&ClientAuthOptions { trust, ..options(ClientAuthMode::Required) })
    };
    let (a, b) = (Ca::root("A"), Ca::root("B"));
    assert!(try_build(vec![hinting("a", &[&a], false)]).unwrap().hints.is_empty());
    let both = try_build(vec![hinting("a", &[&a, &b], true), hinting("b", &[&b], true)]).unwrap();
    let names: Vec<_> = both.hints.iter().map(AsRef::as_ref).collect();
    let subject = |ca: &Ca| {
        let der = ca.der();
        crate::certificate::Certificate::parse(&der).unwrap().subject_der().to_vec()
    };
    assert_eq!(names, [subject(&a), subject(&b)], "whole names, each once");
    let error = try_build(vec![hinting("a", &[&a], false), hinting("b", &[&b], true)]).unwrap_err();
    assert_eq!(error, ClientAuthError::PartialHints { with: "b".into(), without: "a".into() });

    // A name of one CN takes 13 bytes beside its text, and 2 for its length in the list.
    let cas: Vec<_> = (0..32).map(|number| Ca::root(&format!("{number:0>113}"))).collect();
    let all: Vec<_> = cas.iter().collect();
    assert_eq!(try_build(vec![hinting("a", &all, true)]).unwrap().hints.len(), 32);
    let longer = Ca::root(&format!("{:0>114}", 32));
    let all: Vec<_> = cas[1..].iter().chain([&longer]).collect();
    let error = try_build(vec![hinting("a", &all, true)]).unwrap_err();
    assert_eq!(error, ClientAuthError::HintsTooLong { bytes: HINT_BYTES_MAX + 1 });
    assert!(try_build(vec![hinting("a", &all, false)]).is_ok());
}

/// Remembers what it was asked with.
#[derive(Debug, Default)]
struct Asked(std::sync::Mutex<Vec<Vec<u8>>>);

impl rustls::client::ResolvesClientCert for Asked {
    fn resolve(
        &self,
        hints: &[&[u8]],
        _: &[rustls::SignatureScheme],
    ) -> Option<Arc<rustls::sign::CertifiedKey>> {
        *self.0.lock().unwrap() = hints.iter().map(|name| name.to_vec()).collect();
        None
    }

    fn has_certs(&self) -> bool {
        true
    }
}

#[test]
fn hints_reach_the_client_if_they_are_given() {
    let pki = Pki::new();
    for hints in [true, false] {
        let rules = TrustOptions { hints, ..TrustOptions::default() };
        let trust = bundle_with("partners", &[&pki.client_ca], rules);
        let worker =
            pki.host_with(&pki.options(ClientAuthMode::Optional), trust).worker_view(&PathMemo::new(1));
        let asked = Arc::<Asked>::default();
        let mut config = pki.client_config(None);
        config.client_auth_cert_resolver = asked.clone();
        Pair::new(&worker.unwrap(), config).run().unwrap();
        let der = pki.client_ca.der();
        let subject = crate::certificate::Certificate::parse(&der).unwrap().subject_der().to_vec();
        let expected = if hints { vec![subject] } else { vec![] };
        assert_eq!(*asked.0.lock().unwrap(), expected);
    }
}

#[test]
fn strictness_is_about_whom_a_host_admits() {
    use ClientAuthMode::{Lenient, Observe, Off, Optional, Required};
    let (a, b) = (Ca::root("A"), Ca::root("B"));
    let (only_a, only_b, both) = (bundle("a", &[&a]), bundle("b", &[&b]), bundle("ab", &[&a, &b]));
    let host = |mode, trust: &[&Arc<TrustBundle>], edit: &dyn Fn(&mut ClientAuthOptions)| {
        let mut options = options(mode);
        edit(&mut options);
        build(&options, trust)
    };
    let plain = |mode, trust: &Arc<TrustBundle>| host(mode, &[trust], &|_| {});
    let cases = [
        (plain(Required, &only_a), plain(Required, &only_a), true),
        (plain(Required, &only_a), plain(Optional, &only_a), true),
        (plain(Required, &only_a), plain(Off, &only_a), true),
        (plain(Required, &only_a), plain(Required, &both), true),
        (plain(Required, &both), plain(Required, &only_a), false),
        (plain(Required, &only_a), plain(Required, &only_b), false),
        (plain(Required, &only_b), plain(Optional, &only_a), false),
        (plain(Optional, &only_a), plain(Required, &only_a), false),
        (plain(Optional, &only_a), plain(Optional, &only_a), true),
        (plain(Optional, &only_a), plain(Off, &only_a), true),
        (plain(Off, &only_a), plain(Optional, &only_a), false),
        (plain(Off, &only_a), plain(Required, &only_a), false),
        (plain(Off, &only_a), plain(Off, &only_b), true),
        (plain(Off, &only_a), plain(Observe, &only_b), true),
        (plain(Observe, &only_a), plain(Off, &only_b), true),
        (plain(Observe, &only_a), plain(Optional, &only_a), false),
        (plain(Optional, &only_a), plain(Observe, &only_b), true),
        (plain(Optional, &only_a), plain(Lenient, &only_b), true),
        (plain(Lenient, &only_a), plain(Observe, &only_b), true),
        (plain(Lenient, &only_a), plain(Optional, &only_a), false),
        // Each of ours has its like among theirs.
        (host(Required, &[&only_a, &only_b], &|_| {}), plain(Required, &both), true),
        (plain(Required, &only_b), host(Required, &[&only_a, &only_b], &|_| {}), true),
        (host(Required, &[&only_a, &only_b], &|_| {}), plain(Required, &only_a), false),
    ];
    for (index, (one, other, expected)) in cases.iter().enumerate() {
        assert_eq!(one.is_at_least_as_strict_as(other), *expected, "case {index}");
        if one.digest() == other.digest() {
            assert!(one.is_at_least_as_strict_as(other) && other.is_at_least_as_strict_as(one));
        }
    }
    // Each of these is looser than the default in one way.
    let looser: [(&str, Edit); 7] = [
        ("intermediates", Box::new(|o| o.intermediates_max += 1)),
        ("eku", Box::new(|o| o.require_eku = false)),
        ("age", Box::new(|o| o.max_auth_age += Duration::from_secs(1))),
        ("ocsp", Box::new(|o| o.ocsp.mode = OcspMode::Off)),
        ("no tenants", Box::new(|o| o.tenants = None)),
        ("all tenants", Box::new(|o| o.tenants = tenants("one", &[]))),
        ("more tenants", Box::new(|o| o.tenants = tenants("one", &["acme", "other"]))),
    ];
    let strict = |o: &mut ClientAuthOptions| {
        o.ocsp.mode = OcspMode::SoftFail;
        o.tenants = tenants("one", &["acme"]);
    };
    for (name, edit) in looser {
        let one = host(Required, &[&only_a], &strict);
        let other = host(Required, &[&only_a], &|o| {
            strict(o);
            edit(o);
        });
        assert!(one.is_at_least_as_strict_as(&other), "{name}");
        assert!(!other.is_at_least_as_strict_as(&one), "{name}");
    }
    // Tenants of other rules are others.
    let one = host(Required, &[&only_a], &|o| o.tenants = tenants("one", &[]));
    let other = host(Required, &[&only_a], &|o| o.tenants = tenants("two", &[]));
    assert!(!one.is_at_least_as_strict_as(&other) && !other.is_at_least_as_strict_as(&one));
}

#[test]
fn strictness_heeds_who_judges_which_trust_domain() {
    let (a, b) = (Ca::root("A"), Ca::root("B"));
    let bound = |name: &str, ca: &Ca, domain: Option<&str>| {
        let spiffe_trust_domain = domain.map(str::to_owned);
        bundle_with(name, &[ca], TrustOptions { spiffe_trust_domain, ..TrustOptions::default() })
    };
    let (a_open, a_test, b_test) =
        (bound("1", &a, None), bound("2", &a, Some("a.test")), bound("3", &b, Some("a.test")));
    let host = |trust: &[&Arc<TrustBundle>]| build(&options(ClientAuthMode::Required), trust);
    let cases = [
        (host(&[&a_test]), host(&[&a_test]), true),
        // A bound bundle admits fewer, but others: the same leaves are judged elsewhere there.
        (host(&[&a_test]), host(&[&a_open]), false),
        (host(&[&a_open]), host(&[&a_test]), false),
        // A leaf of a.test under A is admitted by the first and refused by the second, which asks B only.
        (host(&[&a_open]), host(&[&a_open, &b_test]), false),
        (host(&[&a_open, &b_test]), host(&[&a_open]), false),
        (host(&[&b_test]), host(&[&a_open, &b_test]), true),
        (host(&[&a_open, &b_test]), host(&[&a_open, &b_test]), true),
        (host(&[&a_open, &b_test]), host(&[&a_open, &b_test, &a_test]), true),
    ];
    for (index, (one, other, expected)) in cases.iter().enumerate() {
        assert_eq!(one.is_at_least_as_strict_as(other), *expected, "case {index}");
    }
}

#[test]
fn digest_holds_the_version_of_rustls() {
    let mut expected = crate::digest::FieldHasher::new("ringward client authentication 2");
    expected.field(b"off").field(RUSTLS_VERSION.as_bytes());
    assert_eq!(digest_of(&options(ClientAuthMode::Off)), expected.finish());
}

#[test]
fn version_in_the_digest_is_the_pinned_one() {
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/../../Cargo.toml");
    let manifest = std::fs::read_to_string(manifest).unwrap();
    let pin = format!("rustls = {{ version = \"={RUSTLS_VERSION}\"");
    assert!(manifest.lines().any(|line| line.starts_with(&pin)), "the pinned rustls is not {RUSTLS_VERSION}");
}
