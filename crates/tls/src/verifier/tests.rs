use rcgen::{
    BasicConstraints, CustomExtension, DnType, ExtendedKeyUsagePurpose as Eku, GeneralSubtree, IsCa,
    KeyUsagePurpose, NameConstraints, SanType,
};
use rustls::crypto::aws_lc_rs;

use super::*;
use crate::HandshakeReason as Reason;
use crate::certificate::Certificate;
use crate::client_auth::ClientAuthOptions;
use crate::testing::{Ca, DAY, Leaf, NOW, Pki, at, bundle, bundle_with, date};
use crate::trust::{TrustBundle, TrustOptions};

mod bundles;
mod effort;
mod revocation;
mod rules;
mod tenants;
mod trust_domains;

/// A verifier as a host would build it, with the slot that it reports to.
struct Bench {
    verifier: ClientVerifier,
    slot: Arc<VerdictSlot>,
    memo: PathMemo,
}

impl Bench {
    fn new(trust: &[&Ca]) -> Self {
        Self::with(trust, 4, true, &PathMemo::new(16), 0)
    }

    fn with(
        trust: &[&Ca],
        intermediates_max: usize,
        require_eku: bool,
        memo: &PathMemo,
        context: u8,
    ) -> Self {
        let options = ClientAuthOptions {
            trust: vec![bundle("partners", trust)],
            intermediates_max,
            require_eku,
            ..ClientAuthOptions::new(ClientAuthMode::Required)
        };
        let mut auth = ClientAuth::build(&options).unwrap();
        auth.memo_context = [context; 32];
        Self::build(auth, memo)
    }

    /// A host that requires certificates of these bundles.
    fn trusting(trust: &[&Arc<TrustBundle>]) -> Self {
        let options = ClientAuthOptions::new(ClientAuthMode::Required);
        let trust = trust.iter().copied().cloned().collect();
        Self::under(&ClientAuthOptions { trust, ..options }, &PathMemo::new(16))
    }

    /// The same with one bundle `partners` of these rules.
    fn ruled(trust: &[&Ca], rules: TrustOptions) -> Self {
        Self::trusting(&[&bundle_with("partners", trust, rules)])
    }

    fn under(options: &ClientAuthOptions, memo: &PathMemo) -> Self {
        Self::build(ClientAuth::build(options).unwrap(), memo)
    }

    fn build(auth: ClientAuth, memo: &PathMemo) -> Self {
        let slot = Arc::<VerdictSlot>::default();
        let algorithms = aws_lc_rs::default_provider().signature_verification_algorithms;
        let verifier = ClientVerifier::new(Arc::new(auth), memo.clone(), slot.clone(), algorithms).unwrap();
        Self { verifier, slot, memo: memo.clone() }
    }

    fn judge_at(&self, leaf: &Leaf, now: u64) -> Result<Admitted, Box<HandshakeFailure>> {
        let outcome = self.verifier.verify_client_cert(&leaf.chain[0], &leaf.chain[1..], at(now));
        let verdict = match self.slot.take().expect("every verdict is reported") {
            Verdict::Admitted(admitted) => Ok(admitted),
            Verdict::Refused(failure) => Err(failure),
            Verdict::Observed(observed) => panic!("not an observing host: {observed:?}"),
        };
        assert_eq!(outcome.is_ok(), verdict.is_ok(), "rustls and the slot are told the same");
        assert!(self.slot.take().is_none());
        verdict
    }

    fn judge(&self, leaf: &Leaf) -> Result<Admitted, Box<HandshakeFailure>> {
        self.judge_at(leaf, NOW)
    }

    /// How many anchors webpki would be given for a chain.
    fn candidates(&self, leaf: &Leaf) -> usize {
        let ClientVerifier { auth, algorithms, .. } = &self.verifier;
        let search = PathSearch { auth, binding: None, algorithms: *algorithms, now: at(NOW) };
        search.candidates_of(&leaf.chain[0], &leaf.chain[1..])
    }

    #[track_caller]
    fn admits(&self, leaf: &Leaf) -> Admitted {
        self.judge(leaf).unwrap_or_else(|failure| panic!("refused: {failure}"))
    }

    #[track_caller]
    fn refuses_at(&self, leaf: &Leaf, now: u64, reason: Reason, words: &str) {
        let remembered = self.memo.len();
        let failure = self.judge_at(leaf, now).expect_err("must be refused");
        assert_eq!(failure.reason, reason, "{failure}");
        assert!(failure.message.contains(words), "`{}` does not say `{words}`", failure.message);
        let bundles = self.verifier.auth.trust();
        if let [bundle] = bundles {
            assert_eq!(failure.trust_bundle.as_ref(), Some(bundle.name()));
        }
        assert_eq!(failure.presented.as_ref().unwrap().certificates, leaf.chain.len());
        // Only what verified is remembered, and revocation is looked up all the same.
        let looked_up = matches!(reason, Reason::DenyListed | Reason::Revoked);
        assert!(looked_up || self.memo.len() == remembered, "a refusal is never remembered");
    }

    #[track_caller]
    fn refuses(&self, leaf: &Leaf, reason: Reason, words: &str) {
        self.refuses_at(leaf, NOW, reason, words);
    }
}

#[test]
fn good_chain_is_admitted_with_its_identity() {
    let root = Ca::root("Root");
    let issuing = root.intermediate("Issuing");
    let leaf = issuing.issue("alice", |_| {}).via([&issuing]);
    let admitted = Bench::new(&[&root]).admits(&leaf);
    assert_eq!(admitted.identity.common_names(), ["alice"]);
    assert_eq!(admitted.identity.chain_depth(), 2);
    assert_eq!(admitted.path.valid_from, (NOW - 365 * DAY) as i64);
    assert_eq!(admitted.path.valid_until, (NOW + 365 * DAY) as i64);
}

#[test]
fn every_defect_has_its_reason() {
    let root = Ca::root("Root");
    let bench = Bench::new(&[&root]);
    let issue = |edit: &dyn Fn(&mut rcgen::CertificateParams)| root.issue("alice", edit);

    bench.refuses(&Ca::root("Other").issue("alice", |_| {}), Reason::UnknownIssuer, "`partners`");
    // Same name, other key: the signature decides.
    bench.refuses(&Ca::root("Root").issue("alice", |_| {}), Reason::BadSignature, "CA");
    bench.refuses(&issue(&|p| p.not_after = date(NOW - 1)), Reason::Expired, "the leaf (`CN=alice`)");
    bench.refuses(&issue(&|p| p.not_before = date(NOW + 1)), Reason::NotYetValid, "the leaf (`CN=alice`)");
    bench.refuses(&issue(&|p| p.extended_key_usages.clear()), Reason::BadEku, "require_eku");
    bench.refuses(&issue(&|p| p.extended_key_usages = vec![Eku::ServerAuth]), Reason::BadEku, "clientAuth");
    bench.refuses(&issue(&|p| p.extended_key_usages = vec![Eku::Any]), Reason::BadEku, "clientAuth");
    bench.refuses(
        &issue(&|p| p.key_usages = vec![KeyUsagePurpose::KeyEncipherment]),
        Reason::BadKeyUsage,
        "reissue it with digitalSignature",
    );
    bench.refuses(
        &issue(&|p| p.is_ca = IsCa::Ca(BasicConstraints::Unconstrained)),
        Reason::CaAsLeaf,
        "issue a client certificate with it",
    );
    bench.refuses(
        &issue(&|p| {
            let mut extension = CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99999, 1], vec![5, 0]);
            extension.set_criticality(true);
            p.custom_extensions.push(extension);
        }),
        Reason::BadCertificate,
        "critical",
    );
}

#[test]
fn names_with_nul_or_control_characters_are_refused() {
    let root = Ca::root("Root");
    let bench = Bench::new(&[&root]);
    let common_name = |name: &str| root.issue("x", |p| p.distinguished_name.push(DnType::CommonName, name));
    for name in ["admin\0.evil", "line\nbreak", "tab\there", "escape\u{1b}[31m", "\u{7f}"] {
        bench.refuses(&common_name(name), Reason::BadName, "");
    }
    let uri = SanType::URI("spiffe://example.org/a\0b".try_into().unwrap());
    bench.refuses(&root.issue("x", |p| p.subject_alt_names = vec![uri.clone()]), Reason::BadName, "");
    bench.admits(&common_name("Ünïcode, \"quoted\""));
}

#[test]
fn a_hostile_name_is_shown_escaped_and_cut() {
    let root = Ca::root("Root");
    let name = format!("evil\n\0,O=Bank{}", "x".repeat(4000));
    let leaf = root.issue("x", |p| p.distinguished_name.push(DnType::CommonName, name.as_str()));
    let failure = Bench::new(&[&root]).judge(&leaf).unwrap_err();
    let shown = failure.presented.unwrap().to_string();
    assert!(shown.contains(r"CN=evil\n\u{0}\,O\=Bank"), "{shown}");
    assert!(!shown.chars().any(char::is_control));
    assert!(shown.len() < 1000);
}

#[test]
fn an_expired_intermediate_is_named() {
    let root = Ca::root("Root");
    let issuing = root.intermediate_with("Issuing", |p| p.not_after = date(NOW - 1));
    let leaf = issuing.issue("alice", |_| {}).via([&issuing]);
    Bench::new(&[&root]).refuses(&leaf, Reason::Expired, "intermediate 1 (`CN=Issuing`)");
}

#[test]
fn a_missing_intermediate_is_an_unknown_issuer() {
    let root = Ca::root("Root");
    let issuing = root.intermediate("Issuing");
    Bench::new(&[&root]).refuses(
        &issuing.issue("alice", |_| {}),
        Reason::UnknownIssuer,
        "intermediate missing",
    );
}

#[test]
fn constraints_of_issuers_hold() {
    let root = Ca::root("Root");
    let bench = Bench::new(&[&root]);
    let no_ca = root.intermediate_with("Not a CA", |p| p.is_ca = IsCa::ExplicitNoCa);
    bench.refuses(&no_ca.issue("alice", |_| {}).via([&no_ca]), Reason::ConstraintViolation, "not a CA");
    let short = root.intermediate_with("Short", |p| p.is_ca = IsCa::Ca(BasicConstraints::Constrained(0)));
    let below = short.intermediate("Below");
    bench.refuses(
        &below.issue("alice", |_| {}).via([&below, &short]),
        Reason::ConstraintViolation,
        "path length",
    );
    let named = root.intermediate_with("Named", |p| {
        let permitted_subtrees = vec![GeneralSubtree::DnsName("example.com".to_owned())];
        p.name_constraints = Some(NameConstraints { permitted_subtrees, excluded_subtrees: vec![] });
    });
    let dns = |name: &str| SanType::DnsName(name.try_into().unwrap());
    let outside = named.issue("alice", |p| p.subject_alt_names = vec![dns("example.org")]).via([&named]);
    bench.refuses(&outside, Reason::ConstraintViolation, "name");
    bench.admits(&named.issue("alice", |p| p.subject_alt_names = vec![dns("a.example.com")]).via([&named]));
}

#[test]
fn eku_may_be_absent_only_if_allowed() {
    let root = Ca::root("Root");
    let lax = Bench::with(&[&root], 4, false, &PathMemo::new(16), 0);
    lax.admits(&root.issue("alice", |p| p.extended_key_usages.clear()));
    let lax = Bench::with(&[&root], 4, false, &PathMemo::new(16), 0);
    lax.refuses(
        &root.issue("alice", |p| p.extended_key_usages = vec![Eku::ServerAuth]),
        Reason::BadEku,
        "clientAuth",
    );
    lax.refuses(
        &root.issue("alice", |p| p.extended_key_usages = vec![Eku::Any]),
        Reason::BadEku,
        "clientAuth",
    );
}

#[test]
fn intermediates_are_counted_before_anything_is_verified() {
    let root = Ca::root("Root");
    let leaf = |superfluous: usize| {
        let extra: Vec<_> =
            (0..superfluous).map(|number| root.intermediate(&format!("Extra {number}"))).collect();
        root.issue("alice", |_| {}).via(&extra)
    };
    // All of these verify: nothing but the count refuses the fifth.
    Bench::new(&[&root]).admits(&leaf(4));
    Bench::new(&[&root]).refuses(&leaf(5), Reason::ChainTooLong, "at most 4");
    Bench::with(&[&root], 0, true, &PathMemo::new(16), 0).admits(&leaf(0));
    Bench::with(&[&root], 0, true, &PathMemo::new(16), 0).refuses(
        &leaf(1),
        Reason::ChainTooLong,
        "at most 0",
    );
}

#[test]
fn sixty_four_look_alike_intermediates_cost_no_signature() {
    let root = Ca::root("Root");
    let attacker = Ca::root("Issuing");
    let lookalikes: Vec<_> = (0..64).map(|_| attacker.intermediate("Issuing")).collect();
    let leaf = attacker.issue("mallory", |_| {}).via(&lookalikes);
    // Were it not for the count, the reason would tell of a search that gave up or found nothing.
    Bench::new(&[&root]).refuses(&leaf, Reason::ChainTooLong, "64 intermediates");
}

#[test]
fn bytes_of_the_chain_are_bounded() {
    let root = Ca::root("Root");
    let leaf = |padding: usize| {
        root.issue_for(&rcgen::PKCS_ED25519, "alice", |p| {
            p.serial_number = Some(7.into());
            p.custom_extensions
                .push(CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99999, 1], vec![0; padding]));
        })
    };
    let base = leaf(12_000).chain[0].len() - 12_000;
    let (fits, exceeds) = (leaf(CHAIN_BYTES_MAX - base), leaf(CHAIN_BYTES_MAX - base + 1));
    assert_eq!((fits.chain[0].len(), exceeds.chain[0].len()), (CHAIN_BYTES_MAX, CHAIN_BYTES_MAX + 1));
    Bench::new(&[&root]).admits(&fits);
    Bench::new(&[&root]).refuses(&exceeds, Reason::ChainTooLong, "16385 bytes");
}

#[test]
fn a_remembered_chain_yields_the_same_identity() {
    let root = Ca::root("Root");
    let bench = Bench::new(&[&root]);
    let (alice, bob) = (root.issue("alice", |_| {}), root.issue("bob", |_| {}));
    let first = bench.admits(&alice);
    let second = bench.admits(&alice);
    assert!(Arc::ptr_eq(&first.identity, &second.identity));
    assert_eq!(bench.memo.len(), 1);
    assert_eq!(bench.admits(&bob).identity.common_names(), ["bob"]);
    assert_eq!(bench.memo.len(), 2);
}

#[test]
fn a_remembered_chain_counts_for_its_own_context_only() {
    let (root, other) = (Ca::root("Root"), Ca::root("Other"));
    let memo = PathMemo::new(16);
    let alice = root.issue("alice", |_| {});
    Bench::with(&[&root], 4, true, &memo, 1).admits(&alice);
    assert_eq!(memo.len(), 1);
    let elsewhere = Bench::with(&[&other], 4, true, &memo, 2);
    assert_eq!(elsewhere.judge(&alice).unwrap_err().reason, Reason::UnknownIssuer);
    // What the context protects from: with the same context the memo would answer for a host that trusts
    // someone else.
    assert!(Bench::with(&[&other], 4, true, &memo, 1).judge(&alice).is_ok());
}

#[test]
fn size_limits_hold_for_remembered_chains_too() {
    let root = Ca::root("Root");
    let issuing = root.intermediate("Issuing");
    let alice = issuing.issue("alice", |_| {}).via([&issuing]);
    let memo = PathMemo::new(16);
    Bench::with(&[&root], 1, true, &memo, 0).admits(&alice);
    let stricter = Bench::with(&[&root], 0, true, &memo, 0);
    assert_eq!(stricter.judge(&alice).unwrap_err().reason, Reason::ChainTooLong);
}

#[test]
fn a_remembered_chain_does_not_outlive_its_certificates() {
    let root = Ca::root("Root");
    let issuing = root.intermediate_with("Issuing", |p| p.not_after = date(NOW + 10));
    let bench = Bench::new(&[&root]);
    let alice = issuing.issue("alice", |_| {}).via([&issuing]);
    let bob = root.issue("bob", |p| {
        p.not_before = date(NOW - 10);
        p.not_after = date(NOW + 20);
    });
    for leaf in [&alice, &bob] {
        bench.admits(leaf);
    }
    assert!(bench.judge_at(&alice, NOW + 10).is_ok());
    assert_eq!(bench.judge_at(&alice, NOW + 11).unwrap_err().reason, Reason::Expired);
    assert!(bench.judge_at(&bob, NOW + 20).is_ok());
    assert_eq!(bench.judge_at(&bob, NOW + 21).unwrap_err().reason, Reason::Expired);
    assert!(bench.judge_at(&bob, NOW - 10).is_ok());
    assert_eq!(bench.judge_at(&bob, NOW - 11).unwrap_err().reason, Reason::NotYetValid);
}

#[test]
fn an_anchor_admits_only_while_it_is_valid() {
    let root = Ca::root_with("Root", |p| p.not_after = date(NOW + 10));
    let later = Ca::root_with("Later", |p| p.not_before = date(NOW + 10));
    let (alice, bob) = (root.issue("alice", |_| {}), later.issue("bob", |_| {}));
    // Remembered or not: webpki itself does not look at the validity of anchors.
    for fresh in [true, false] {
        let bench = Bench::new(&[&root, &later]);
        if !fresh {
            bench.admits(&alice);
        }
        let failure = bench.judge_at(&alice, NOW + 11).unwrap_err();
        assert_eq!(failure.reason, Reason::Expired);
        assert!(failure.message.contains("CA that issued it"), "{failure}");
    }
    let bench = Bench::new(&[&root, &later]);
    assert_eq!(bench.judge(&bob).unwrap_err().reason, Reason::NotYetValid);
    assert!(bench.judge_at(&bob, NOW + 10).is_ok());
}

#[test]
fn a_renewed_anchor_takes_over_from_the_expired_one() {
    let old = Ca::root_with("Root", |p| p.not_after = date(NOW + 10));
    let key = rcgen::KeyPair::from_pem(&old.0.key().serialize_pem()).unwrap();
    let renewed = Ca::root_with_key("Root", key, |p| p.not_before = date(NOW + 5));
    let alice = old.issue("alice", |_| {});
    let bench = Bench::new(&[&old, &renewed]);
    for now in [NOW, NOW + 7, NOW + 11] {
        assert!(bench.judge_at(&alice, now).is_ok(), "at {now}");
    }
}

#[test]
fn no_hints_are_given_and_the_mode_decides_whether_a_certificate_is_demanded() {
    let pki = Pki::new();
    let bench = Bench::new(&[&pki.client_ca]);
    assert!(bench.verifier.offer_client_auth());
    assert!(bench.verifier.client_auth_mandatory());
    assert!(bench.verifier.root_hint_subjects().is_empty());
}
