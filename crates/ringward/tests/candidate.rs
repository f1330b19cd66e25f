//! Candidates of policies: asked about real requests, counted, and without any influence.
#![allow(clippy::unwrap_used, reason = "a failed expectation is a failed test")]

mod support;

use ringward_testkit::{DEADLINE, Echo, eventually};
use serde_json::Value;

use self::support::{Builder, Gateway, HOST, Host, on_both_drivers};

on_both_drivers!(what_a_candidate_says_is_counted_and_changes_nothing);

const COMPARED: &str = "ringward_policy_candidate_decisions_total";

/// What decides: by the first segment of the path.
const ACTIVE: &str = r#"package ringward.authz

default decision := {"allowed": false, "rule": "default"}

decision := {"allowed": true, "rule": "open", "headers": {"x-active": "1"}} if input.request.segments[0] == "open"

decision := {"allowed": false, "rule": "shut", "http_status": 451} if input.request.segments[0] == "shut"
"#;

/// Another answer to everything, by the second segment. Every field that a decision can have would be noticed.
const NEXT: &str = r#"package ringward.authz

word := input.request.segments[1]

decision := {
	"allowed": true, "rule": "next-allow", "headers": {"x-next": "1"}, "response_headers_to_add": {"x-next": "1"},
} if word == "allow"

decision := {"allowed": false, "rule": "next-deny", "http_status": 418, "body": "next"} if word == "deny"

decision := {"allowed": time.parse_rfc3339_ns(word) > 0} if word == "fail"
"#;

fn with_candidate() -> Builder {
    let builder = Gateway::builder().policy("main", ACTIVE).policy("next", NEXT);
    builder.policy_key("main", "candidate = \"next\"").host(Host::new(&[HOST]).policy("main"))
}

fn what_a_candidate_says_is_counted_and_changes_nothing(driver: &str) {
    let with = with_candidate().io(driver).start();
    let without =
        Gateway::builder().io(driver).policy("main", ACTIVE).host(Host::new(&[HOST]).policy("main")).start();
    let asked = [
        ("/open/allow", "agrees"),
        ("/open/deny", "newly_denied"),
        ("/open/nothing", "newly_denied"),
        ("/open/fail", "failed"),
        ("/shut/allow", "newly_allowed"),
        ("/shut/deny", "agrees"),
        ("/other/allow", "newly_allowed"),
        ("/shut/fail", "failed"),
    ];
    let mut counts = std::collections::BTreeMap::new();
    // The second time from the caches of both.
    for (path, verdict) in asked.iter().chain(&asked) {
        let answers = [&with, &without].map(|gateway| gateway.connect().get(path).unwrap());
        assert_eq!(answers[0].status, answers[1].status, "{path}");
        for name in ["x-next", "x-active"] {
            assert_eq!(answers[0].headers.get(name), answers[1].headers.get(name), "{path} {name}");
        }
        let [sent, alone] = if answers[0].status == 200 {
            // What went upstream, but for the certificates of two worlds.
            answers.map(|answer| {
                let headers = Echo::of(&answer).headers;
                let without = headers.iter().filter(|(name, _)| *name != "client-cert");
                format!("{:?}", without.collect::<Vec<_>>()).into_bytes()
            })
        } else {
            answers.map(|answer| answer.body)
        };
        assert_eq!(String::from_utf8(sent), String::from_utf8(alone), "{path}");
        *counts.entry(*verdict).or_insert(0.0) += 1.0;
    }
    for (verdict, count) in &counts {
        with.wait_for_metric(COMPARED, &[("policy", "main"), ("verdict", verdict)], *count);
    }
    // It has decided nothing, so nothing is counted as if it had.
    assert_eq!(with.metric("ringward_policy_decisions_total", &[("policy", "next")]), 0.0);
    assert_eq!(without.metric(COMPARED, &[]), 0.0);
    let record = with.wait_for_record("path", "/open/deny");
    assert_eq!((&record["policy"], &record["rule"]), (&"main".into(), &"open".into()), "{record}");
}

#[test]
fn a_disagreement_is_told_with_both_rules() {
    let gateway = with_candidate().start();
    assert_eq!(gateway.connect().get("/open/deny").unwrap().status, 200);
    let line = gateway.process.wait_for_line(DEADLINE, |line| line.contains("a candidate does not say"));
    let told: Value = serde_json::from_str(&line).unwrap();
    for (member, value) in [
        ("policy", "main"),
        ("candidate", "next"),
        ("verdict", "newly_denied"),
        ("rule", "open"),
        ("candidate_rule", "next-deny"),
    ] {
        assert_eq!(told[member], value, "{told}");
    }
    let record = gateway.wait_for_record("path", "/open/deny");
    assert_eq!(told["request.id"], record["request.id"], "{told} {record}");
    assert!(!line.contains("/open/deny"), "nothing that a client has written");
}

/// A body that is read for its candidate alone could be refused, for its length among other things.
#[test]
fn a_candidate_has_no_body_read() {
    let reads = r#"package ringward.authz

default decision := false

decision if input.request.body.json.amount < 10
"#;
    let gateway = Gateway::builder()
        .policy("main", ACTIVE)
        .policy("next", reads)
        .policy_key("main", "candidate = \"next\"")
        .host(Host::new(&[HOST]).policy("main"))
        .start();
    let long = vec![b'x'; 1 << 20];
    assert_eq!(gateway.connect().post("/open/body", &long).unwrap().status, 200);
    gateway.wait_for_metric(COMPARED, &[("policy", "main"), ("verdict", "failed")], 1.0);
}

/// A policy may decide here and be a candidate there.
#[test]
fn what_is_compared_is_not_taken_from_what_a_policy_decides() {
    let gateway = Gateway::builder()
        .workers(1)
        .policy("main", ACTIVE)
        .policy("next", NEXT)
        .policy_key("main", "candidate = \"next\"")
        .policy_key("next", "cache = { misses_per_second = 1 }")
        .host(
            Host::new(&[HOST])
                .policy("main")
                .route("path = \"/next/{rest...}\"", "policy = \"next\"")
                .route("path = \"/{rest...}\"", ""),
        )
        .start();
    let mut connection = gateway.connect();
    for number in 0..20 {
        assert_eq!(connection.get(&format!("/open/{number}")).unwrap().status, 200);
    }
    let over = || gateway.metric(COMPARED, &[("policy", "main"), ("verdict", "failed")]);
    eventually(DEADLINE, "more than is allowed was compared", || over() > 0.0);
    assert_eq!(connection.get("/next/allow").unwrap().status, 200);
}

#[test]
fn the_time_of_a_candidate_is_not_the_policys() {
    let slow = r#"package ringward.authz

default decision := false

decision if {
	some a in numbers.range(1, 5000)
	some b in numbers.range(1, 5000)
	a * b < 0
}
"#;
    let gateway = Gateway::builder()
        .policy("main", ACTIVE)
        .policy("next", slow)
        .policy_key("main", "candidate = \"next\"")
        .host(Host::new(&[HOST]).policy("main"))
        .start();
    assert_eq!(gateway.connect().get("/open/a").unwrap().status, 200);
    gateway.wait_for_metric(COMPARED, &[("policy", "main"), ("verdict", "failed")], 1.0);
    let record = gateway.wait_for_record("path", "/open/a");
    // It has used up its second, which the policy itself is not given.
    assert!(record["policy_us"].as_u64().unwrap() < 1_000_000, "{record}");
}
