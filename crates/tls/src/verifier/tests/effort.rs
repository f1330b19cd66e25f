//! What a stranger can make us do.

use std::cell::Cell;

use rustls_pki_types::{AlgorithmIdentifier, InvalidSignature, SignatureVerificationAlgorithm};

use super::*;

thread_local! {
    static SIGNATURES: Cell<usize> = const { Cell::new(0) };
}

/// Counts the signatures that are checked.
#[derive(Debug)]
struct Counting(&'static dyn SignatureVerificationAlgorithm);

impl SignatureVerificationAlgorithm for Counting {
    fn verify_signature(&self, key: &[u8], message: &[u8], signature: &[u8]) -> Result<(), InvalidSignature> {
        SIGNATURES.set(SIGNATURES.get() + 1);
        self.0.verify_signature(key, message, signature)
    }

    fn public_key_alg_id(&self) -> AlgorithmIdentifier {
        self.0.public_key_alg_id()
    }

    fn signature_alg_id(&self) -> AlgorithmIdentifier {
        self.0.signature_alg_id()
    }
}

/// How many signatures a verdict takes, and the verdict.
fn effort(bench: &mut Bench, leaf: &Leaf) -> (usize, Result<(), Reason>) {
    let provider = aws_lc_rs::default_provider().signature_verification_algorithms;
    let counting = |algorithm: &&'static dyn SignatureVerificationAlgorithm| {
        let counting: &'static dyn SignatureVerificationAlgorithm = Box::leak(Box::new(Counting(*algorithm)));
        counting
    };
    let all: Vec<_> = provider.all.iter().map(counting).collect();
    bench.verifier.algorithms.all = Box::leak(all.into());
    SIGNATURES.set(0);
    let verdict = bench.judge(leaf).map(drop).map_err(|failure| failure.reason);
    (SIGNATURES.get(), verdict)
}

/// A leaf of an attacker with `count` intermediates that are named like the CA.
fn lookalikes(name: &str, count: usize) -> Leaf {
    let attacker = Ca::root(name);
    let lookalikes: Vec<_> = (0..count).map(|_| attacker.intermediate(name)).collect();
    attacker.issue("mallory", |_| {}).via(&lookalikes)
}

#[test]
fn a_good_chain_costs_one_signature_for_each_certificate_and_then_none() {
    let root = Ca::root("Root");
    let issuing = root.intermediate("Issuing");
    let leaf = issuing.issue("alice", |_| {}).via([&issuing]);
    let mut bench = Bench::new(&[&root]);
    assert_eq!(effort(&mut bench, &leaf), (2, Ok(())));
    assert_eq!(effort(&mut bench, &leaf), (0, Ok(())));
}

#[test]
fn strangers_cost_nothing_until_they_name_a_ca_that_we_trust() {
    let root = Ca::root("Root");
    assert_eq!(effort(&mut Bench::new(&[&root]), &lookalikes("Other", 4)), (0, Err(Reason::UnknownIssuer)));
    // Too many are refused whatever their names.
    for count in [5, 64] {
        let verdict = effort(&mut Bench::new(&[&root]), &lookalikes("Root", count));
        assert_eq!(verdict, (0, Err(Reason::ChainTooLong)));
    }
}

#[test]
fn the_number_of_bundles_multiplies_nothing() {
    let root = Ca::root("Root");
    let alone = effort(&mut Bench::new(&[&root]), &lookalikes("Root", 4));
    assert_eq!(alone.1, Err(Reason::BadSignature));
    assert!(alone.0 <= 100, "webpki's budget");
    let bundles: Vec<_> = (0..8).map(|number| bundle(&format!("bundle {number}"), &[&root])).collect();
    let mut bench = Bench::trusting(&bundles.iter().collect::<Vec<_>>());
    assert_eq!(effort(&mut bench, &lookalikes("Root", 4)), alone);
    // Nor do those of a good chain, where only the last admits it.
    let strict = (0..7).map(|number| {
        let rules = TrustOptions { pins: vec![[1; 32], [2; 32]], ..TrustOptions::default() };
        bundle_with(&format!("strict {number}"), &[&root], rules)
    });
    let bundles: Vec<_> = strict.chain([bundle("lax", &[&root])]).collect();
    let mut bench = Bench::trusting(&bundles.iter().collect::<Vec<_>>());
    assert_eq!(effort(&mut bench, &root.issue("alice", |_| {})), (1, Ok(())));
}

#[test]
fn the_budget_is_one_for_all_bundles() {
    // As many CAs of one name as may be, over two bundles, and as many look-alikes as may be.
    let cas: Vec<_> = (0..crate::ANCHORS_PER_SUBJECT_MAX).map(|_| Ca::root("Same")).collect();
    let (one, two): (Vec<_>, Vec<_>) = (cas[..8].iter().collect(), cas[8..].iter().collect());
    let mut bench = Bench::trusting(&[&bundle("one", &one), &bundle("two", &two)]);
    let (signatures, verdict) = effort(&mut bench, &lookalikes("Same", 4));
    assert!(signatures <= 100, "{signatures}");
    assert!(matches!(verdict, Err(Reason::ChainTooLong | Reason::BadSignature)), "{verdict:?}");
    // And a good client gets in all the same.
    assert_eq!(effort(&mut bench, &cas[15].issue("alice", |_| {})).1, Ok(()));
}

#[test]
fn webpki_sees_the_anchors_that_a_chain_names_and_no_others() {
    let cas: Vec<_> = (0..1200).map(|number| Ca::root(&format!("CA {number}"))).collect();
    let (one, two): (Vec<_>, Vec<_>) = (cas[..600].iter().collect(), cas[600..].iter().collect());
    let bench = Bench::trusting(&[&bundle("one", &one), &bundle("two", &two)]);
    for ca in [&cas[0], &cas[599], &cas[600], &cas[1199]] {
        let issuing = ca.intermediate("Issuing");
        let leaf = issuing.issue("alice", |_| {}).via([&issuing]);
        assert_eq!(bench.candidates(&leaf), 1);
        bench.admits(&leaf);
    }
    assert_eq!(bench.candidates(&lookalikes("Nobody", 4)), 0);
}

#[test]
fn a_forged_chain_takes_no_place_of_a_remembered_one() {
    let root = Ca::root("Root");
    let bench = Bench::new(&[&root]);
    let mut alice = root.issue("alice", |_| {});
    let remembered = bench.admits(&alice);
    // The name is another, the length and the signature are the same.
    let mut forged = alice.chain[0].to_vec();
    let name = forged.windows(5).position(|window| window == b"alice").unwrap();
    forged[name..name + 5].copy_from_slice(b"mario");
    let good = std::mem::replace(&mut alice.chain, vec![forged.into()]);
    bench.refuses(&alice, Reason::BadSignature, "");
    alice.chain = good;
    assert!(Arc::ptr_eq(&bench.admits(&alice).path, &remembered.path));
}

#[test]
fn what_a_client_presents_beside_its_path_takes_one_place_of_the_memo() {
    let root = Ca::root("Root");
    let bench = Bench::new(&[&root]);
    let mut alice = root.issue("alice", |_| {});
    let mut beside = root.der().to_vec();
    let issuer = beside.windows(4).position(|window| window == b"Root").unwrap();
    for letter in b'A'..b'I' {
        // They differ in this letter only.
        beside[issuer] = letter;
        let beside = CertificateDer::from(beside.clone());
        alice.chain.truncate(1);
        alice.chain.push(beside.clone());
        let (presented, again) = (bench.admits(&alice), bench.admits(&alice));
        assert!(Arc::ptr_eq(&presented.path, &again.path));
        assert_eq!(again.path.beside, [beside]);
        assert_eq!(bench.memo.len(), 1);
    }
}

#[test]
#[ignore = "measures and prints; meaningful in release mode only"]
fn cost_with_many_anchors() {
    use std::time::Instant;
    let cas: Vec<_> = (0..20_000).map(|number| Ca::root(&format!("CA {number}"))).collect();
    for count in [10, 1000, 20_000] {
        let trust: Vec<_> = cas[..count].iter().collect();
        let bench = Bench::with(&trust, 4, true, &PathMemo::new(0), 0);
        let issuing = cas[count / 2].intermediate("Issuing");
        let good = issuing.issue("alice", |_| {}).via([&issuing]);
        let foreign = Ca::root("Foreign").issue("mallory", |_| {});
        for (name, leaf) in [("leaf + intermediate", &good), ("unknown issuer", &foreign)] {
            let mut best = u128::MAX;
            for _ in 0..200 {
                let started = Instant::now();
                let _ = std::hint::black_box(bench.judge(leaf));
                best = best.min(started.elapsed().as_nanos());
            }
            #[allow(clippy::print_stderr, reason = "a measurement")]
            {
                eprintln!("{count} anchors, {name}: {best} ns");
            }
        }
    }
}
