use rcgen::{CustomExtension, GeneralSubtree, IsCa, KeyPair, KeyUsagePurpose, NameConstraints};

use std::path::Path;

use super::*;
use crate::digest::sha256;
use crate::testing::{Ca, DAY, NOW, at, date, pem};

fn source(name: &str, parts: &[Vec<u8>]) -> (PathBuf, Vec<u8>) {
    (PathBuf::from(name), parts.concat())
}

fn build(sources: &[(PathBuf, Vec<u8>)]) -> (TrustBundle, Vec<Quarantined>) {
    TrustBundle::from_pem("partners", sources, TrustOptions::default(), at(NOW)).unwrap()
}

#[test]
fn anchors_are_listed_with_what_an_operator_needs() {
    let root = Ca::root("Root");
    let (bundle, quarantined) = build(&[source("a.pem", &[root.pem()])]);
    assert!(quarantined.is_empty() && bundle.warnings().is_empty());
    assert_eq!(&**bundle.name(), "partners");
    let [anchor] = bundle.anchors() else { panic!("one anchor expected") };
    assert_eq!(anchor.subject, "CN=Root");
    assert_eq!(anchor.fingerprint_sha256, sha256(&root.der()));
    assert_eq!(anchor.not_after_unix, (NOW + 3650 * DAY) as i64);
    assert_eq!(anchor.file, Path::new("a.pem"));
}

#[test]
fn one_unfit_certificate_is_quarantined_and_the_rest_serves() {
    let good = Ca::root("Good");
    let expired = Ca::root_with("Expired", |p| p.not_after = date(NOW - 1));
    let not_ca = Ca::root_with("Client", |p| p.is_ca = IsCa::ExplicitNoCa);
    let no_signing = Ca::root_with("No signing", |p| p.key_usages = vec![KeyUsagePurpose::DigitalSignature]);
    let garbage = pem("CERTIFICATE", b"not a certificate");
    let broken_base64 = b"-----BEGIN CERTIFICATE-----\n!!!!\n-----END CERTIFICATE-----\n".to_vec();
    let (bundle, quarantined) = build(&[
        source("mixed.pem", &[expired.pem(), garbage, good.pem(), not_ca.pem()]),
        source("other.pem", &[broken_base64, no_signing.pem()]),
        source("readme.txt", &[b"nothing here".to_vec()]),
    ]);
    assert_eq!(bundle.anchors().len(), 1);
    let found: Vec<_> = quarantined
        .iter()
        .map(|q| (q.file.to_str().unwrap(), q.position, std::mem::discriminant(&q.reason)))
        .collect();
    let kind = |reason| std::mem::discriminant(&reason);
    let unparsable = kind(QuarantineReason::Unparsable(String::new()));
    assert_eq!(
        found,
        [
            ("mixed.pem", 1, kind(QuarantineReason::Expired { not_after_unix: 0 })),
            ("mixed.pem", 2, unparsable),
            ("mixed.pem", 4, kind(QuarantineReason::NotCa)),
            ("other.pem", 1, unparsable),
            ("other.pem", 2, kind(QuarantineReason::MayNotSign)),
            ("readme.txt", 0, kind(QuarantineReason::NoCertificate)),
        ]
    );
    assert!(
        quarantined[0].to_string().starts_with("mixed.pem: certificate 1 (`CN=Expired`) expired on 2027-")
    );
}

#[test]
fn a_ca_without_key_usage_is_not_restricted() {
    let (bundle, _) = build(&[source("a.pem", &[Ca::root_with("Old", |p| p.key_usages.clear()).pem()])]);
    assert_eq!(bundle.anchors().len(), 1);
}

#[test]
fn an_unreadable_decisive_extension_is_not_taken_for_an_absent_one() {
    let good = Ca::root("Good");
    for (number, name) in [(15, "2.5.29.15"), (19, "2.5.29.19")] {
        let odd = Ca::root_with("Odd", |p| {
            p.key_usages.clear();
            p.is_ca = IsCa::NoCa;
            p.custom_extensions
                .push(CustomExtension::from_oid_content(&[2, 5, 29, number], vec![0x02, 0x00]));
        });
        let (_, quarantined) = build(&[source("a.pem", &[good.pem(), odd.pem()])]);
        let QuarantineReason::Unparsable(detail) = &quarantined[0].reason else { panic!("{quarantined:?}") };
        assert!(detail.contains(name), "{detail}");
    }
}

#[test]
fn an_empty_bundle_is_an_error() {
    let expired = Ca::root_with("Expired", |p| p.not_after = date(NOW - 1));
    for sources in [vec![], vec![source("a.pem", &[])], vec![source("a.pem", &[expired.pem()])]] {
        let error =
            TrustBundle::from_pem("partners", &sources, TrustOptions::default(), at(NOW)).unwrap_err();
        assert!(matches!(error, TrustError::Empty { .. }), "{error}");
    }
}

#[test]
fn expiry_counts_from_the_second_after() {
    let root = Ca::root_with("Root", |p| p.not_after = date(NOW));
    let sources = [source("a.pem", &[root.pem()])];
    assert!(TrustBundle::from_pem("partners", &sources, TrustOptions::default(), at(NOW)).is_ok());
    assert!(TrustBundle::from_pem("partners", &sources, TrustOptions::default(), at(NOW + 1)).is_err());
}

#[test]
fn der_files_are_read_too() {
    let root = Ca::root("Root");
    let (bundle, quarantined) = build(&[(PathBuf::from("root.cer"), root.der().to_vec())]);
    assert_eq!((bundle.anchors().len(), quarantined.len()), (1, 0));
}

#[test]
fn digest_depends_on_the_anchors_and_on_nothing_else() {
    let (a, b) = (Ca::root("A"), Ca::root("B"));
    let (both, _) = build(&[source("1.pem", &[a.pem(), b.pem()])]);
    let (reordered, _) = build(&[source("x.pem", &[b.pem()]), source("y.pem", &[a.pem(), b.pem()])]);
    assert_eq!(both.digest(), reordered.digest());
    assert_eq!(reordered.anchors().len(), 2, "the same certificate twice is one anchor");
    let digest = |parts: &[Vec<u8>]| *build(&[source("a.pem", parts)]).0.digest();
    let key = || KeyPair::from_pem(&a.0.key().serialize_pem()).unwrap();
    let renewed = Ca::root_with_key("A", key(), |p| p.not_after = date(NOW + 9999 * DAY));
    assert_eq!(digest(&[a.pem()]), digest(&[renewed.pem()]), "validity is not part of it");
    assert_eq!(digest(&[a.pem()]), digest(&[a.pem(), renewed.pem()]));
    let constrained = Ca::root_with_key("A", key(), |p| {
        let permitted_subtrees = vec![GeneralSubtree::DnsName("example.com".to_owned())];
        p.name_constraints = Some(NameConstraints { permitted_subtrees, excluded_subtrees: vec![] });
    });
    let renamed = Ca::root_with_key("A2", key(), |_| {});
    let rekeyed = Ca::root("A");
    for other in [&b, &constrained, &renamed, &rekeyed] {
        assert_ne!(digest(&[a.pem()]), digest(&[other.pem()]));
    }
    assert_ne!(digest(&[a.pem()]), digest(&[a.pem(), b.pem()]));
}

#[test]
fn subset_is_by_anchor() {
    let (a, b) = (Ca::root("A"), Ca::root("B"));
    let (one, _) = build(&[source("a.pem", &[a.pem()])]);
    let (two, _) = build(&[source("a.pem", &[a.pem(), b.pem()])]);
    assert!(one.is_at_least_as_strict_as(&two) && one.is_at_least_as_strict_as(&one));
    assert!(!two.is_at_least_as_strict_as(&one));
}

#[test]
fn anchors_of_one_subject_are_limited() {
    let cas: Vec<_> = (0..=ANCHORS_PER_SUBJECT_MAX).map(|_| Ca::root("Same").pem()).collect();
    let with = |count: usize| {
        TrustBundle::from_pem("partners", &[source("a.pem", &cas[..count])], TrustOptions::default(), at(NOW))
    };
    assert!(with(ANCHORS_PER_SUBJECT_WARN - 1).unwrap().0.warnings().is_empty());
    let subject = "CN=Same".to_owned();
    for count in [ANCHORS_PER_SUBJECT_WARN, ANCHORS_PER_SUBJECT_MAX] {
        let (bundle, _) = with(count).unwrap();
        assert_eq!(bundle.warnings(), [TrustWarning::SharedSubject { subject: subject.clone(), count }]);
    }
    let count = ANCHORS_PER_SUBJECT_MAX + 1;
    assert_eq!(
        with(count).unwrap_err(),
        TrustError::SharedSubject { name: "partners".to_owned(), subject, count }
    );
}

#[test]
fn anchors_that_will_surprise_are_pointed_out() {
    let later = Ca::root_with("Later", |p| p.not_before = date(NOW + DAY));
    let constrained = Ca::root_with("Constrained", |p| {
        let permitted_subtrees = vec![GeneralSubtree::Rfc822Name("example.com".to_owned())];
        p.name_constraints = Some(NameConstraints { permitted_subtrees, excluded_subtrees: vec![] });
    });
    let (bundle, _) = build(&[source("a.pem", &[later.pem(), constrained.pem()])]);
    let mut warnings: Vec<_> = bundle.warnings().iter().map(ToString::to_string).collect();
    warnings.sort();
    assert_eq!(warnings.len(), 2);
    assert!(warnings[0].starts_with("`CN=Constrained` constrains URI,"), "{warnings:?}");
    assert!(warnings[1].starts_with("`CN=Later` is not valid before"), "{warnings:?}");
}

#[test]
fn noise_is_quarantined_and_never_panics() {
    let mut noise = crate::testing::Noise(7);
    let root = Ca::root("Root");
    for _ in 0..2000 {
        let mut der = root.der().to_vec();
        let position = noise.below(der.len());
        der[position] ^= 1 << noise.below(8);
        let _ = TrustBundle::from_pem(
            "partners",
            &[(PathBuf::from("a.pem"), pem("CERTIFICATE", &der))],
            TrustOptions::default(),
            at(NOW),
        );
        let length = noise.below(300);
        let bytes = noise.bytes(length);
        let _ = TrustBundle::from_pem(
            "partners",
            &[(PathBuf::from("a.der"), bytes)],
            TrustOptions::default(),
            at(NOW),
        );
    }
}

#[test]
fn a_bundle_is_bound_to_a_trust_domain_or_not_built() {
    let root = Ca::root("Root");
    let bound = |name: &str| {
        let options = TrustOptions { spiffe_trust_domain: Some(name.to_owned()), ..TrustOptions::default() };
        TrustBundle::from_pem("partners", &[source("a.pem", &[root.pem()])], options, at(NOW))
    };
    let (bundle, _) = bound("a.test").unwrap();
    assert_eq!(bundle.options().spiffe_trust_domain.as_deref(), Some("a.test"));
    for wrong in
        ["", "A.test", "spiffe://a.test", "a.test/", "a.test/path", "a.test:1", "user@a.test", "a test"]
    {
        let (name, trust_domain) = ("partners".to_owned(), wrong.to_owned());
        assert_eq!(bound(wrong).unwrap_err(), TrustError::TrustDomain { name, trust_domain });
    }
}

#[test]
fn anchors_are_found_by_subject() {
    let cas = ["B", "A", "C", "B", "AA", ""].map(Ca::root);
    let (bundle, _) = build(&[source("a.pem", &cas.each_ref().map(Ca::pem))]);
    for ca in &cas {
        let subject = webpki::anchor_from_trusted_cert(&ca.der()).unwrap().subject.to_vec();
        let found: Vec<_> = bundle.anchors_named(&subject).collect();
        let expected: Vec<_> =
            (0..cas.len()).filter(|position| *bundle.root(*position).subject == *subject).collect();
        assert_eq!(found, expected, "in the order of their keys");
        let fingerprint = sha256(&ca.der());
        assert!(found.iter().any(|at| bundle.anchors()[*at].fingerprint_sha256 == fingerprint));
    }
    assert_eq!(bundle.anchors_named(b"nobody").count(), 0);
}

#[test]
fn what_an_anchor_is_called_by_is_that_of_its_certificate() {
    let root = Ca::root("Root");
    let (bundle, _) = build(&[source("a.pem", &[root.pem()])]);
    let anchor = bundle.root(0);
    let spki = x509_parser::der_parser::asn1_rs::ToDer::to_der_vec(
        &x509_parser::der_parser::asn1_rs::Sequence::new(anchor.subject_public_key_info.to_vec().into()),
    )
    .unwrap();
    assert_eq!(bundle.anchors()[0].spki_sha256, sha256(&spki), "with the header that webpki drops");
}
