use super::*;
use crate::testing::Ca;

#[test]
fn kinds_of_key_have_names_that_parse_back() {
    for kind in KeyKind::ALL {
        assert_eq!(kind.as_str().parse(), Ok(kind));
        assert_eq!(kind.to_string(), kind.as_str());
    }
    let error = "dsa".parse::<KeyKind>().unwrap_err();
    assert!(error.to_string().starts_with("`dsa` is not"));
}

#[test]
fn keys_are_told_apart() {
    let root = Ca::root("Root");
    for (algorithm, kind, bits) in [
        (&rcgen::PKCS_ECDSA_P256_SHA256, KeyKind::EcdsaP256, 0),
        (&rcgen::PKCS_ECDSA_P384_SHA384, KeyKind::EcdsaP384, 0),
        (&rcgen::PKCS_ECDSA_P521_SHA512, KeyKind::EcdsaP521, 0),
        (&rcgen::PKCS_ED25519, KeyKind::Ed25519, 0),
        (&rcgen::PKCS_RSA_SHA256, KeyKind::Rsa, 2048),
    ] {
        let leaf = root.issue_for(algorithm, "alice", |_| {});
        let certificate = Certificate::parse(&leaf.chain[0]).unwrap();
        assert_eq!(certificate.public_key(), Some(PublicKey { kind, bits }));
    }
}

#[test]
fn a_key_of_an_unknown_kind_is_refused_whatever_is_allowed() {
    let root = Ca::root("Root");
    let mut der = root.issue("alice", |_| {}).chain[0].to_vec();
    // prime256v1 becomes a curve that nobody knows; the signature is not looked at here.
    let curve = [0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7];
    let at = der.windows(curve.len()).position(|window| window == curve).unwrap();
    der[at + 7] = 0x7f;
    let certificate = Certificate::parse(&der).unwrap();
    assert_eq!(certificate.public_key(), None);
    for keys in [vec![], KeyKind::ALL.to_vec()] {
        let profile = Profile { keys, ..Profile::default() };
        let violation = profile.check(std::slice::from_ref(&certificate)).unwrap_err();
        assert_eq!(violation.reason, HandshakeReason::KeyNotAllowed);
    }
}

#[test]
fn a_lifetime_that_ends_before_it_begins_is_no_short_one() {
    let leaf = Ca::root("Root").issue("alice", |params| {
        std::mem::swap(&mut params.not_before, &mut params.not_after);
    });
    let certificate = Certificate::parse(&leaf.chain[0]).unwrap();
    let profile = Profile { leaf_lifetime_max: Some(Duration::MAX), ..Profile::default() };
    let violation = profile.check(std::slice::from_ref(&certificate)).unwrap_err();
    assert_eq!(violation.reason, HandshakeReason::LifetimeTooLong);
}

#[test]
fn strictness_is_compared_rule_by_rule() {
    let base = Profile {
        keys: vec![KeyKind::EcdsaP256, KeyKind::Rsa],
        rsa_bits_min: 3072,
        policies: vec!["1.2.3".parse().unwrap(), "1.2.4".parse().unwrap()],
        path_length_max: Some(2),
        leaf_lifetime_max: Some(Duration::from_secs(100)),
    };
    let with = |edit: fn(&mut Profile)| {
        let mut profile = base.clone();
        edit(&mut profile);
        profile
    };
    let stricter = [
        with(|p| p.keys.truncate(1)),
        with(|p| p.rsa_bits_min += 1),
        with(|p| p.policies.truncate(1)),
        with(|p| p.path_length_max = Some(1)),
        with(|p| p.leaf_lifetime_max = Some(Duration::from_secs(99))),
    ];
    let looser = [
        with(|p| p.keys.push(KeyKind::Ed25519)),
        with(|p| p.keys.clear()),
        with(|p| p.rsa_bits_min -= 1),
        with(|p| p.policies.clear()),
        with(|p| p.path_length_max = None),
        with(|p| p.leaf_lifetime_max = None),
        Profile::default(),
    ];
    for (index, other) in stricter.iter().enumerate() {
        assert!(other.is_at_least_as_strict_as(&base) && !base.is_at_least_as_strict_as(other), "{index}");
    }
    for (index, other) in looser.iter().enumerate() {
        assert!(base.is_at_least_as_strict_as(other) && !other.is_at_least_as_strict_as(&base), "{index}");
    }
    assert!(base.is_at_least_as_strict_as(&base));
}
