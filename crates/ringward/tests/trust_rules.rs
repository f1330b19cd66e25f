//! What a trust bundle demands beyond a signature: pins, kinds of keys, policies, lengths and lifetimes; and what it tells
//! clients about itself.
#![allow(clippy::unwrap_used, reason = "a failed expectation here is a failed test")]

mod support;

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ringward_testkit::{Authority, Issued, KeyType, Leaf};

use self::support::{Builder, Gateway, HOST, Host};

fn admits(gateway: &Gateway, identity: &Issued) -> bool {
    let client = gateway.client().identity(identity);
    client.connect(gateway.edge).and_then(|mut connection| connection.get("/")).is_ok()
}

/// With this rule, the good are admitted and the bad refused for `reason`, also by sessions of before the rule.
#[track_caller]
fn check(builder: Builder, rule: &str, reason: &str, good: &[Issued], bad: &[Issued]) {
    let gateway = builder.trust_key("hints = false").start();
    let sessions: Vec<_> = bad
        .iter()
        .map(|identity| {
            let client = gateway.client().identity(identity).resuming();
            assert_eq!(client.connect(gateway.edge).unwrap().get("/").unwrap().status, 200, "{rule}");
            client
        })
        .collect();
    gateway.reconfigure("hints = false", rule);
    for (index, identity) in good.iter().enumerate() {
        assert!(admits(&gateway, identity), "{rule}: good {index}");
    }
    let reached = gateway.reached().len();
    for (index, identity) in bad.iter().enumerate() {
        assert!(!admits(&gateway, identity), "{rule}: bad {index}");
        let answer = sessions[index].connect(gateway.edge).and_then(|mut connection| connection.get("/"));
        assert!(answer.is_err(), "{rule}: bad {index} by its session");
    }
    gateway.wait_for_failed_handshakes(reason, 2 * bad.len());
    assert_eq!(gateway.reached().len(), reached, "{rule}");
}

#[test]
fn profiles() {
    let root = Authority::root("Test Root");
    let builder = || Gateway::builder().signed_by(&root);
    let client = || Leaf::client("client");
    let issue = |leaf: &Leaf| root.issue(leaf);
    let of_key = |key| root.issue(&Leaf::client("client").key(key));
    let below = |depth: usize| {
        let issuer =
            (0..depth).fold(root.clone(), |above, level| above.intermediate(&format!("Level {level}")));
        issuer.issue(&Leaf::client("client"))
    };
    check(
        builder(),
        "profile = { keys = [\"ecdsa-p384\", \"ed25519\"] }",
        "key_not_allowed",
        &[of_key(KeyType::P384), of_key(KeyType::Ed25519)],
        // Those of intermediates count, too.
        &[
            of_key(KeyType::P256),
            of_key(KeyType::Rsa2048),
            root.intermediate("P-256").issue(&client().key(KeyType::P384)),
        ],
    );
    check(
        builder(),
        "profile = { rsa_bits_min = 3072 }",
        "key_not_allowed",
        &[of_key(KeyType::Rsa3072), of_key(KeyType::P256)],
        &[of_key(KeyType::Rsa2048)],
    );
    check(
        builder(),
        "profile = { policies = [\"1.3.6.1.4.1.99999.1\", \"1.3.6.1.4.1.99999.2\"] }",
        "policy_oid_missing",
        &[
            issue(&client().policy("1.3.6.1.4.1.99999.2")),
            issue(&client().policy("1.2.3").policy("1.3.6.1.4.1.99999.1")),
        ],
        &[issue(&client()), issue(&client().policy("1.3.6.1.4.1.99999.11"))],
    );
    check(
        builder(),
        "profile = { path_length_max = 1 }",
        "constraint_violation",
        &[below(0), below(1)],
        &[below(2), below(3)],
    );
    check(
        builder(),
        "profile = { leaf_lifetime_max = \"24h\" }",
        "lifetime_too_long",
        &[issue(&client().valid_for(Duration::from_secs(22 * 3600)))],
        &[issue(&client()), issue(&client().valid_for(Duration::from_secs(24 * 3600)))],
    );
}

/// Of the path some key must be pinned, the CA's included; a certificate that is merely presented is not of the path.
#[test]
fn pins() {
    let root = Authority::root("Test Root");
    let pin = |spki: [u8; 32]| format!("sha256/{}", STANDARD.encode(spki));
    let (issuing, other) = (root.intermediate("Issuing"), root.intermediate("Other"));
    let spare = Authority::root("Spare");
    let (good, bad) = (issuing.issue(&Leaf::client("good")), other.issue(&Leaf::client("bad")));
    let beside = bad.presenting(&[other.certificate().clone(), issuing.certificate().clone()]);
    let pinned = root.issue(&Leaf::client("pinned itself"));
    let rule = format!(
        "pins = [{:?}, {:?}, {:?}]",
        pin(issuing.spki_sha256()),
        pin(pinned.spki_sha256()),
        pin(spare.spki_sha256())
    );
    let builder = Gateway::builder().signed_by(&root);
    check(builder, &rule, "pin_mismatch", &[good, pinned], &[bad, beside, root.issue(&Leaf::client("bad"))]);
    // The CA itself may be the pinned one.
    let rule = format!("pins = [{:?}, {:?}]", pin(root.spki_sha256()), pin(spare.spki_sha256()));
    let gateway = Gateway::builder().signed_by(&root).trust_key(&rule).start();
    assert!(admits(&gateway, &root.issue(&Leaf::client("any"))));
    // One pin without a spare would lock everybody out one day.
    let said = Gateway::builder().trust_key(&format!("pins = [{:?}]", pin(root.spki_sha256()))).refusal();
    assert!(said.contains("pins"), "{said}");
}

/// Everybody who connects learns the names in the hints, so there are none by default.
#[test]
fn hints_are_sent_where_they_are_wanted() {
    for (hints, named) in [(false, false), (true, true)] {
        let gateway = Gateway::builder().trust_key(&format!("hints = {hints}")).start();
        let client = gateway.s_client(gateway.edge, HOST);
        let run = client.identity(&gateway.client_files("partner", &gateway.partner)).get(HOST, "/");
        assert_eq!(run.status(), Some(200), "{}", run.text);
        assert_eq!(run.text.contains("Acceptable client certificate CA names"), named, "{}", run.text);
    }
    let many: Vec<Authority> = (0..80).map(|number| Authority::root(&format!("{number:060}"))).collect();
    let names: Vec<&Authority> = many.iter().collect();
    let host = Host::new(&[HOST]).client_auth("mode = \"required\", trust = \"many\"");
    let builder = || Gateway::builder().trust("many", &names).host(host.clone());
    let said = builder().bundle_key("many", "hints = true").refusal();
    assert!(said.contains("hints"), "{said}");
    let gateway = builder().start();
    assert!(admits(&gateway, &many[79].issue(&Leaf::client("of the last"))));
}
