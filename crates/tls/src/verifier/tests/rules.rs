//! Rules of a bundle, each at its limit, and together.

use std::time::Duration;

use rcgen::{KeyPair, RsaKeySize};

use super::*;
use crate::digest::sha256;
use crate::trust::{KeyKind, Profile};

fn profile(edit: impl FnOnce(&mut Profile)) -> TrustOptions {
    let mut profile = Profile::default();
    edit(&mut profile);
    TrustOptions { profile, ..TrustOptions::default() }
}

fn spki(der: &[u8]) -> [u8; 32] {
    sha256(Certificate::parse(der).unwrap().spki_der())
}

#[test]
fn a_pin_may_match_any_certificate_of_the_path_and_no_other() {
    let root = Ca::root("Root");
    let issuing = root.intermediate("Issuing");
    let extra = root.intermediate("Extra");
    let leaf = issuing.issue("alice", |_| {}).via([&issuing, &extra]);
    let bench =
        |pins: Vec<[u8; 32]>| Bench::ruled(&[&root], TrustOptions { pins, ..TrustOptions::default() });
    let spare = [7; 32];
    for pinned in [&leaf.chain[0], &leaf.chain[1], &root.der()] {
        bench(vec![spki(pinned), spare]).admits(&leaf);
        bench(vec![spare, spki(pinned)]).admits(&leaf);
        bench(vec![spki(pinned)]).admits(&leaf);
    }
    bench(vec![spare, [8; 32]]).refuses(&leaf, Reason::PinMismatch, "`pins`");
    // Presented, of the bundle, and not on the path.
    bench(vec![spki(&extra.der()), spare]).refuses(&leaf, Reason::PinMismatch, "`CN=Root`");
    // The fingerprint of a certificate is no pin.
    bench(vec![sha256(&leaf.chain[0]), spare]).refuses(&leaf, Reason::PinMismatch, "2 pinned");
}

#[test]
fn a_pin_survives_the_renewal_of_its_certificate() {
    let root = Ca::root("Root");
    let pins = vec![spki(&root.der()), [7; 32]];
    let key = KeyPair::from_pem(&root.0.key().serialize_pem()).unwrap();
    let renewed = Ca::root_with_key("Root", key, |p| p.not_before = date(NOW - 1));
    let rules = TrustOptions { pins, ..TrustOptions::default() };
    Bench::ruled(&[&renewed], rules).admits(&renewed.issue("alice", |_| {}));
}

#[test]
fn kinds_of_key_are_allowed_one_by_one() {
    let root = Ca::root("Root");
    let leaves = [
        (KeyKind::EcdsaP256, &rcgen::PKCS_ECDSA_P256_SHA256),
        (KeyKind::EcdsaP384, &rcgen::PKCS_ECDSA_P384_SHA384),
        (KeyKind::EcdsaP521, &rcgen::PKCS_ECDSA_P521_SHA512),
        (KeyKind::Ed25519, &rcgen::PKCS_ED25519),
        (KeyKind::Rsa, &rcgen::PKCS_RSA_SHA256),
    ]
    .map(|(kind, algorithm)| (kind, root.issue_for(algorithm, "alice", |_| {})));
    for allowed in KeyKind::ALL {
        let others = KeyKind::ALL.into_iter().filter(|kind| *kind != allowed).collect();
        let only = Bench::ruled(&[&root], profile(|p| p.keys = vec![allowed]));
        let all_but = Bench::ruled(&[&root], profile(|p| p.keys = others));
        for (kind, leaf) in &leaves {
            if *kind == allowed {
                only.admits(leaf);
                all_but.refuses(leaf, Reason::KeyNotAllowed, kind.as_str());
            } else {
                only.refuses(leaf, Reason::KeyNotAllowed, kind.as_str());
                all_but.admits(leaf);
            }
        }
    }
}

#[test]
fn keys_of_intermediates_count_and_those_of_anchors_do_not() {
    // Anchor and intermediates of the tests have Ed25519 keys, leaves P-256.
    let root = Ca::root("Root");
    let issuing = root.intermediate("Issuing");
    let p256 = || profile(|p| p.keys = vec![KeyKind::EcdsaP256]);
    Bench::ruled(&[&root], p256()).admits(&root.issue("alice", |_| {}));
    let below = issuing.issue("alice", |_| {}).via([&issuing]);
    Bench::ruled(&[&root], p256()).refuses(&below, Reason::KeyNotAllowed, "`CN=Issuing` is ed25519");
}

#[test]
fn rsa_keys_are_measured_in_bits() {
    let root = Ca::root("Root");
    let issue = |size| {
        let key = KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, size).unwrap();
        root.issue_with_key(key, "alice", |_| {})
    };
    let (short, long) = (issue(RsaKeySize::_2048), issue(RsaKeySize::_3072));
    let at_least = |bits| Bench::ruled(&[&root], profile(|p| p.rsa_bits_min = bits));
    at_least(2048).admits(&short);
    at_least(2049).refuses(&short, Reason::KeyNotAllowed, "2048 bits");
    at_least(3072).admits(&long);
    at_least(3073).refuses(&long, Reason::KeyNotAllowed, "at least 3073");
    // Keys of other kinds have no such length.
    at_least(4096).admits(&root.issue("alice", |_| {}));
}

#[test]
fn path_length_counts_the_intermediates_on_the_path() {
    let root = Ca::root("Root");
    let (one, extra) = (root.intermediate("One"), root.intermediate("Extra"));
    let two = one.intermediate("Two");
    let leaf = two.issue("alice", |_| {}).via([&two, &one, &extra]);
    let at_most = |max| Bench::ruled(&[&root], profile(|p| p.path_length_max = Some(max)));
    at_most(2).admits(&leaf);
    at_most(1).refuses(&leaf, Reason::ConstraintViolation, "2 intermediates lead");
    at_most(0).refuses(&leaf, Reason::ConstraintViolation, "`path_length_max`");
    at_most(0).admits(&root.issue("alice", |_| {}).via([&extra]));
}

#[test]
fn lifetime_of_the_leaf_is_limited_to_the_second() {
    let root = Ca::root("Root");
    let valid_for = |seconds: u64| {
        root.issue("alice", |p| {
            p.not_before = date(NOW - 60);
            p.not_after = date(NOW - 60 + seconds);
        })
    };
    let at_most = |seconds| {
        Bench::ruled(&[&root], profile(|p| p.leaf_lifetime_max = Some(Duration::from_secs(seconds))))
    };
    at_most(DAY).admits(&valid_for(DAY));
    at_most(DAY).refuses(&valid_for(DAY + 1), Reason::LifetimeTooLong, "86401 s");
    // What was issued for too long stays refused until it ends.
    at_most(DAY).refuses_at(&valid_for(DAY + 1), NOW + DAY - 60, Reason::LifetimeTooLong, "");
    // Issuers live longer.
    let issuing = root.intermediate("Issuing");
    at_most(2 * 365 * DAY).admits(&issuing.issue("alice", |_| {}).via([&issuing]));
}

const SILVER: &str = "1.3.6.1.4.1.99999.2";
const GOLD: &str = "1.3.6.1.4.1.99999.3";
const ANY: &str = "2.5.29.32.0";

/// The certificatePolicies extension with these OIDs.
fn policies(oids: &[&str]) -> CustomExtension {
    let mut list = Vec::new();
    for oid in oids {
        let mut content = Vec::new();
        let arcs: Vec<u64> = oid.split('.').map(|arc| arc.parse().unwrap()).collect();
        content.push((arcs[0] * 40 + arcs[1]) as u8);
        for arc in &arcs[2..] {
            let groups = (64 - arc.leading_zeros()).div_ceil(7).max(1);
            for group in (0..groups).rev() {
                content.push((arc >> (7 * group) & 0x7f) as u8 | if group > 0 { 0x80 } else { 0 });
            }
        }
        let oid = [&[6, content.len() as u8], content.as_slice()].concat();
        list.extend([&[0x30, oid.len() as u8], oid.as_slice()].concat());
    }
    CustomExtension::from_oid_content(&[2, 5, 29, 32], [&[0x30, list.len() as u8], list.as_slice()].concat())
}

#[test]
fn the_leaf_carries_a_policy_that_no_issuer_excludes() {
    let root = Ca::root("Root");
    let issuing = |oids: &[&str]| {
        root.intermediate_with("Issuing", |p| {
            if !oids.is_empty() {
                p.custom_extensions.push(policies(oids));
            }
        })
    };
    let leaf = |issuer: &[&str], own: &[&str]| {
        let issuer = issuing(issuer);
        let leaf = issuer.issue("alice", |p| {
            if !own.is_empty() {
                p.custom_extensions.push(policies(own));
            }
        });
        leaf.via([&issuer])
    };
    let wanting = |oids: &[&str]| {
        Bench::ruled(
            &[&root],
            profile(|p| p.policies = oids.iter().map(|oid| oid.parse().unwrap()).collect()),
        )
    };
    for (issuer, own, admitted) in [
        (vec![], vec![GOLD], true),
        (vec![], vec![SILVER, GOLD], true),
        (vec![GOLD], vec![GOLD], true),
        (vec![SILVER, GOLD], vec![GOLD], true),
        (vec![ANY], vec![GOLD], true),
        (vec![], vec![], false),
        (vec![], vec![SILVER], false),
        (vec![], vec![ANY], false),
        (vec![GOLD], vec![], false),
        (vec![SILVER], vec![GOLD], false),
        (vec![SILVER], vec![SILVER, GOLD], false),
    ] {
        let leaf = leaf(&issuer, &own);
        if admitted {
            wanting(&[GOLD]).admits(&leaf);
        } else {
            wanting(&[GOLD]).refuses(&leaf, Reason::PolicyOidMissing, GOLD);
        }
        wanting(&[]).admits(&leaf);
    }
    // One of several is enough, but it has to be one and the same for all.
    wanting(&[GOLD, SILVER]).admits(&leaf(&[SILVER], &[SILVER, GOLD]));
    wanting(&[GOLD, SILVER]).refuses(&leaf(&[SILVER], &[GOLD]), Reason::PolicyOidMissing, SILVER);
    // Unreadable is not absent.
    let mut odd = policies(&[GOLD]);
    odd = CustomExtension::from_oid_content(&[2, 5, 29, 32], odd.content()[..4].to_vec());
    let issuer = root.intermediate_with("Odd", |p| p.custom_extensions.push(odd));
    let below = issuer.issue("alice", |p| p.custom_extensions.push(policies(&[GOLD]))).via([&issuer]);
    wanting(&[GOLD]).refuses(&below, Reason::BadCertificate, "");
}

#[test]
fn an_issuer_that_may_not_sign_certificates_issues_none() {
    let root = Ca::root("Root");
    let with = |usages: Vec<KeyUsagePurpose>| root.intermediate_with("Issuing", |p| p.key_usages = usages);
    for usages in [vec![KeyUsagePurpose::KeyCertSign], vec![]] {
        let issuing = with(usages);
        Bench::new(&[&root]).admits(&issuing.issue("alice", |_| {}).via([&issuing]));
    }
    let issuing = with(vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::CrlSign]);
    let leaf = issuing.issue("alice", |_| {}).via([&issuing]);
    Bench::new(&[&root]).refuses(&leaf, Reason::ConstraintViolation, "keyCertSign");
    // Also two levels up.
    let below = issuing.intermediate("Below");
    let leaf = below.issue("alice", |_| {}).via([&below, &issuing]);
    Bench::new(&[&root]).refuses(&leaf, Reason::ConstraintViolation, "`CN=Issuing`");
}

#[test]
fn rules_hold_together() {
    let root = Ca::root("Root");
    let issuing = root.intermediate("Issuing");
    let issue = |lifetime: u64, policy: &str| {
        let leaf = issuing.issue("alice", |p| {
            p.not_before = date(NOW);
            p.not_after = date(NOW + lifetime);
            p.custom_extensions.push(policies(&[policy]));
        });
        leaf.via([&issuing])
    };
    let rules = |edit: &dyn Fn(&mut TrustOptions)| {
        let mut rules = TrustOptions {
            pins: vec![spki(&issuing.der()), [7; 32]],
            profile: Profile {
                keys: vec![KeyKind::EcdsaP256, KeyKind::Ed25519],
                policies: vec![GOLD.parse().unwrap()],
                path_length_max: Some(1),
                leaf_lifetime_max: Some(Duration::from_secs(DAY)),
                ..Profile::default()
            },
            ..TrustOptions::default()
        };
        edit(&mut rules);
        Bench::ruled(&[&root], rules)
    };
    let good = issue(DAY, GOLD);
    rules(&|_| {}).admits(&good);
    rules(&|_| {}).refuses(&issue(DAY + 1, GOLD), Reason::LifetimeTooLong, "");
    rules(&|_| {}).refuses(&issue(DAY, SILVER), Reason::PolicyOidMissing, "");
    rules(&|r| r.pins = vec![[7; 32]]).refuses(&good, Reason::PinMismatch, "");
    rules(&|r| r.profile.keys = vec![KeyKind::Ed25519]).refuses(&good, Reason::KeyNotAllowed, "");
    rules(&|r| r.profile.path_length_max = Some(0)).refuses(&good, Reason::ConstraintViolation, "");
}

#[test]
fn name_constraints_of_anchors_and_issuers_hold() {
    let permitted = |subtree: GeneralSubtree| {
        Some(NameConstraints { permitted_subtrees: vec![subtree], excluded_subtrees: vec![] })
    };
    let excluded = |subtree: GeneralSubtree| {
        Some(NameConstraints { permitted_subtrees: vec![], excluded_subtrees: vec![subtree] })
    };
    let dns = |name: &str| SanType::DnsName(name.to_owned().try_into().unwrap());
    let subtree = |name: &str| GeneralSubtree::DnsName(name.to_owned());
    let anchor = Ca::root_with("Constrained", |p| p.name_constraints = permitted(subtree("example.com")));
    let bench = Bench::new(&[&anchor]);
    let named = |ca: &Ca, names: Vec<SanType>| ca.issue("alice", |p| p.subject_alt_names = names);
    bench.admits(&named(&anchor, vec![dns("a.example.com")]));
    bench.refuses(&named(&anchor, vec![dns("a.example.org")]), Reason::ConstraintViolation, "name");
    bench.refuses(
        &named(&anchor, vec![dns("a.example.com"), dns("a.example.org")]),
        Reason::ConstraintViolation,
        "name",
    );
    // A constraint holds for all that is below, whatever an issuer in between says.
    let below = anchor.intermediate_with("Below", |p| p.name_constraints = permitted(subtree("example.org")));
    bench.refuses(
        &named(&below, vec![dns("a.example.org")]).via([&below]),
        Reason::ConstraintViolation,
        "name",
    );
    bench.refuses(
        &named(&below, vec![dns("a.example.com")]).via([&below]),
        Reason::ConstraintViolation,
        "name",
    );
    let excluding =
        Ca::root_with("Excluding", |p| p.name_constraints = excluded(subtree("secret.example.com")));
    let bench = Bench::new(&[&excluding]);
    bench.admits(&named(&excluding, vec![dns("a.example.com")]));
    bench.refuses(&named(&excluding, vec![dns("a.secret.example.com")]), Reason::ConstraintViolation, "name");
    // What cannot be checked is refused: a CA with such constraints admits no such names.
    let mail = Ca::root_with("Mail", |p| {
        p.name_constraints = permitted(GeneralSubtree::Rfc822Name("example.com".to_owned()));
    });
    let bench = Bench::new(&[&mail]);
    bench.admits(&named(&mail, vec![dns("a.example.com")]));
    let address = SanType::Rfc822Name("alice@example.com".to_owned().try_into().unwrap());
    bench.refuses(&named(&mail, vec![address]), Reason::ConstraintViolation, "name");
    let mut directory_name = rcgen::DistinguishedName::new();
    directory_name.push(DnType::OrganizationName, "Example");
    let directory = Ca::root_with("Directory", |p| {
        p.name_constraints = permitted(GeneralSubtree::DirectoryName(directory_name));
    });
    Bench::new(&[&directory]).refuses(
        &directory.issue("x", |p| p.distinguished_name.push(DnType::OrganizationName, "Example")),
        Reason::ConstraintViolation,
        "name",
    );
}
