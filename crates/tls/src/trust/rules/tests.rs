use std::time::Duration;

use super::*;

#[test]
fn strictness_is_compared_rule_by_rule() {
    let base = TrustOptions {
        spiffe_trust_domain: Some("a.test".to_owned()),
        pins: vec![[1; 32], [2; 32]],
        revocation: RevocationPolicy { crl: CrlMode::Required, ..RevocationPolicy::default() },
        ..TrustOptions::default()
    };
    let with = |edit: fn(&mut TrustOptions)| {
        let mut options = base.clone();
        edit(&mut options);
        options
    };
    let looser = [
        with(|o| o.pins.push([3; 32])),
        with(|o| o.pins.clear()),
        with(|o| o.profile.rsa_bits_min = 0),
        with(|o| o.revocation.crl = CrlMode::Off),
    ];
    for (index, looser) in looser.iter().enumerate() {
        assert!(base.is_at_least_as_strict_as(looser), "{index}");
        assert!(!looser.is_at_least_as_strict_as(&base), "{index}");
    }
    // Which bundle is asked depends on the leaf, so neither of these is stricter.
    for other in
        [with(|o| o.spiffe_trust_domain = None), with(|o| o.spiffe_trust_domain = Some("b.test".to_owned()))]
    {
        assert!(!base.is_at_least_as_strict_as(&other) && !other.is_at_least_as_strict_as(&base));
    }
    let hinting = with(|o| o.hints = true);
    assert!(base.is_at_least_as_strict_as(&hinting) && hinting.is_at_least_as_strict_as(&base));
}

#[test]
fn revocation_policies_are_compared() {
    let policy = |crl, stale, depth| RevocationPolicy { crl, stale, depth };
    let (deny, hour, day) = (
        StalePolicy::Deny,
        StalePolicy::Allow(Duration::from_secs(3600)),
        StalePolicy::Allow(Duration::from_secs(86_400)),
    );
    let (leaf, chain) = (RevocationDepth::Leaf, RevocationDepth::Chain);
    // Each as strict as those that follow.
    let order = [
        policy(CrlMode::Required, deny, chain),
        policy(CrlMode::Required, hour, chain),
        policy(CrlMode::IfPresent, hour, chain),
        policy(CrlMode::IfPresent, day, chain),
        policy(CrlMode::IfPresent, day, leaf),
        policy(CrlMode::Off, deny, chain),
    ];
    for (index, one) in order.iter().enumerate() {
        for (other_index, other) in order.iter().enumerate() {
            let expected = index <= other_index;
            assert_eq!(revocation_is_at_least_as_strict(one, other), expected, "{index} and {other_index}");
        }
    }
    // With lists off, the rest says nothing.
    let off = policy(CrlMode::Off, day, leaf);
    assert!(revocation_is_at_least_as_strict(&off, &policy(CrlMode::Off, deny, chain)));
}
