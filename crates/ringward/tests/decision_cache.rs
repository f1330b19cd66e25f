//! Decisions that are given again: to requests that are equal for the policy, and to no others, and no longer than they hold.
#![allow(clippy::unwrap_used, reason = "a failed expectation here is a failed test")]

mod support;

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use ringward_testkit::{Connection, DEADLINE, Echo, Issued, Leaf, eventually};

use self::support::{Gateway, HOST, Host, on_both_drivers};

on_both_drivers!(equal_requests_are_decided_once);

const LOOKUPS: &str = "ringward_policy_cache_lookups_total";

/// Allows `/open`, and clients at paths of their name; says who decided.
const POLICY: &str = r#"package ringward.authz

default decision := {"allowed": false, "rule": "default", "http_status": 451, "body": "denied"}

decision := {"allowed": true, "rule": "open"} if input.request.path == "/open"

decision := {"allowed": true, "rule": "own", "headers": {"x-who": input.client.name}} if {
	input.request.path == concat("", ["/of/", input.client.subject.common_name])
}
"#;

fn gateway(policy: &str) -> Gateway {
    Gateway::builder().policy("main", policy).host(Host::new(&[HOST]).policy("main")).start()
}

fn connect(gateway: &Gateway, identity: &Issued) -> Connection {
    gateway.client().identity(identity).connect(gateway.edge).unwrap()
}

/// Asks until the decision is given again, and twice more.
#[track_caller]
fn warm(connection: &mut Connection, path: &str, status: u16) {
    for _ in 0..5 {
        assert_eq!(connection.get(path).unwrap().status, status, "{path}");
    }
}

fn hits(gateway: &Gateway) -> f64 {
    gateway.metric(LOOKUPS, &[("policy", "main"), ("result", "hit")])
}

fn equal_requests_are_decided_once(driver: &str) {
    let gateway =
        Gateway::builder().io(driver).policy("main", POLICY).host(Host::new(&[HOST]).policy("main")).start();
    let mut connection = gateway.connect();
    warm(&mut connection, "/open", 200);
    warm(&mut connection, "/closed", 451);
    // A denial is given again with all that belongs to it.
    let denied = connection.get("/closed").unwrap();
    assert_eq!((denied.status, denied.text()), (451, "denied"));
    // And another connection of the same client profits.
    assert_eq!(gateway.connect().get("/open").unwrap().status, 200);

    let of_main = |result| [("policy", "main"), ("result", result)];
    gateway.wait_for_metric(LOOKUPS, &of_main("miss"), 4.0);
    gateway.wait_for_metric(LOOKUPS, &of_main("hit"), 8.0);
    gateway.wait_for_metric("ringward_policy_cache_entries", &[("policy", "main")], 2.0);
    gateway.wait_for_metric("ringward_policy_cache_active", &[("policy", "main")], 1.0);
    gateway.wait_for_metric("ringward_policy_decisions_total", &[("outcome", "allowed")], 6.0);
    gateway.wait_for_metric("ringward_policy_evaluation_duration_seconds_count", &[("policy", "main")], 4.0);
    assert_eq!(gateway.metric("ringward_policy_cache_mismatches_total", &[]), 0.0);

    eventually(DEADLINE, "all are recorded", || gateway.lines("request").len() == 12);
    let records = gateway.lines("request");
    let of_path = |path: &str| records.iter().filter(|line| line["path"] == path).collect::<Vec<_>>();
    for (path, rule, decision) in [("/open", "open", "allowed"), ("/closed", "default", "denied")] {
        let records = of_path(path);
        let cached: Vec<_> = records.iter().map(|line| line["cached"].as_bool().unwrap()).collect();
        assert_eq!(cached, [false, false, true, true, true, true], "{path}");
        for record in records {
            assert_eq!((&record["rule"], &record["decision"]), (&rule.into(), &decision.into()));
            assert_eq!(record["policy_us"].is_null(), record["cached"] == true, "{record}");
        }
    }
}

#[test]
fn clients_have_decisions_of_their_own() {
    let gateway = gateway(POLICY);
    let (a, b) = (gateway.root.issue(&Leaf::client("a")), gateway.root.issue(&Leaf::client("b")));
    let (mut a, mut b) = (connect(&gateway, &a), connect(&gateway, &b));
    warm(&mut a, "/of/a", 200);
    warm(&mut b, "/of/a", 451);
    warm(&mut b, "/of/b", 200);
    warm(&mut a, "/of/b", 451);
    // What a decision writes into the request is the client's, too.
    let who = |connection: &mut Connection, path| {
        Echo::of(&connection.get(path).unwrap()).headers.get("x-who").unwrap().to_owned()
    };
    assert_ne!(who(&mut a, "/of/a"), who(&mut b, "/of/b"));
    assert!(hits(&gateway) >= 12.0);
}

/// On one connection: what was decided of a client that is known says nothing about one that is nobody.
#[test]
fn a_route_that_knows_nobody_gets_no_decision_about_somebody() {
    let policy = "package ringward.authz\n\ndefault decision := false\n\ndecision if input.client.verified\n";
    let gateway = Gateway::builder()
        .policy("main", policy)
        .host(
            Host::new(&[HOST])
                .client_auth("mode = \"optional\", trust = \"partners\"")
                .policy("main")
                .route("path = \"/known\"", "client_auth = \"required\"")
                .route("path = \"/nobody\"", "client_auth = \"off\""),
        )
        .start();
    let mut connection = gateway.connect();
    for _ in 0..2 {
        warm(&mut connection, "/known", 200);
        warm(&mut connection, "/nobody", 403);
    }
    assert!(hits(&gateway) > 0.0);
}

#[test]
fn an_edit_of_the_policy_decides_the_next_request() {
    let gateway = gateway(POLICY);
    let mut connection = gateway.connect();
    warm(&mut connection, "/open", 200);
    warm(&mut connection, "/late", 451);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        // Others keep the caches filled meanwhile.
        for _ in 0..2 {
            scope.spawn(|| {
                let mut connection = gateway.connect();
                while !done.load(Ordering::Relaxed) {
                    connection.get("/open").unwrap();
                    connection.get("/late").unwrap();
                }
            });
        }
        let _stop = Stop(&done);
        let mut paths = ["/open", "/late"];
        for _ in 0..3 {
            let [allowed, denied] = paths;
            gateway.change(|gateway| {
                gateway.pki.write("policies/main/policy.rego", POLICY.replace("/open", denied));
            });
            assert_eq!(connection.get(allowed).unwrap().status, 451);
            assert_eq!(connection.get(denied).unwrap().status, 200);
            paths = [denied, allowed];
        }
    });
}

/// Ends the load, however the test ends.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Decisions follow from the policy and what it reads, so a change of anything else takes none of them away.
#[test]
fn other_changes_leave_decisions_where_they_are() {
    let policy = format!(
        "{POLICY}\ndecision := {{\"allowed\": true, \"rule\": \"team\"}} if {{\n\tinput.request.path == \"/labelled\"\n\tinput.route.labels.team == \"red\"\n}}\n"
    );
    let gateway = Gateway::builder()
        .policy("main", &policy)
        .host(Host::new(&[HOST]).policy("main").route("path = \"/{rest...}\"", "labels = { team = \"red\" }"))
        .start();
    let mut connection = gateway.connect();
    warm(&mut connection, "/open", 200);
    warm(&mut connection, "/labelled", 200);
    let entries = [("policy", "main")];
    gateway.wait_for_metric("ringward_policy_cache_entries", &entries, 2.0);
    gateway.reconfigure("team = \"red\"", "team = \"blue\"");
    // The label is a part of what was decided about.
    assert_eq!(connection.get("/labelled").unwrap().status, 451);
    gateway.reconfigure("team = \"blue\"", "team = \"red\"");
    let before = hits(&gateway);
    assert_eq!(connection.get("/labelled").unwrap().status, 200);
    gateway.wait_for_metric(LOOKUPS, &[("result", "hit")], before + 1.0);
    // Other bounds are another cache, and no bounds none.
    gateway.reconfigure("time_budget = \"1s\"", "time_budget = \"1s\"\ncache = { entries = 64 }");
    gateway.wait_for_metric("ringward_policy_cache_entries", &entries, 0.0);
    gateway.reconfigure("{ entries = 64 }", "\"off\"");
    gateway.wait_for_metric("ringward_policy_cache_active", &entries, 0.0);
    let before = hits(&gateway);
    warm(&mut connection, "/open", 200);
    assert_eq!(hits(&gateway), before);
}

#[test]
fn a_revoked_client_is_refused_whatever_was_decided_about_it() {
    let gateway =
        Gateway::builder().stateful().policy("main", POLICY).host(Host::new(&[HOST]).policy("main")).start();
    let leaf = gateway.root.issue(&Leaf::client("client"));
    let mut connection = connect(&gateway, &leaf);
    warm(&mut connection, "/open", 200);
    warm(&mut connection, "/of/client", 200);
    let reached = gateway.reached().len();
    let file = gateway.client_files("client", &leaf).chain;
    gateway.ask(&["revoke", "--cert", file.to_str().unwrap(), "--reason", "test"]);
    assert!(connection.get("/open").is_err(), "it is served");
    assert!(gateway.client().identity(&leaf).connect(gateway.edge).and_then(|mut c| c.get("/open")).is_err());
    assert_eq!(gateway.reached().len(), reached);
    assert_eq!(gateway.connect().get("/open").unwrap().status, 200, "others are served");
}

#[test]
fn a_client_of_another_tenant_gets_no_decision_of_its_old_one() {
    let policy = "package ringward.authz\n\ndefault decision := false\n\ndecision if input.client.tenant == \"acme\"\n";
    let gateway = Gateway::builder()
        .policy("main", policy)
        .section("[tenant.acme]\ntrust = [\"partners\"]\nmatch = [{ organization = \"Acme\" }]\n[tenant.globex]\ntrust = [\"partners\"]\nmatch = [{ organization = \"Globex\" }]\n")
        .host(Host::new(&[HOST]).policy("main"))
        .start();
    let leaf = gateway.root.issue(&Leaf::client("client").organization("Acme"));
    let mut connection = connect(&gateway, &leaf);
    warm(&mut connection, "/", 200);
    gateway.change(|gateway| {
        let text = std::fs::read_to_string(gateway.pki.path().join("ringward.toml")).unwrap();
        let text = text.replace("\"Acme\"", "\"?\"").replace("\"Globex\"", "\"Acme\"");
        gateway.pki.write("ringward.toml", text.replace("\"?\"", "\"Globex\""));
    });
    // The connection ends, or knows better.
    assert!(connection.get("/").map_or(true, |response| response.status == 403));
    warm(&mut connect(&gateway, &leaf), "/", 403);
}

#[test]
fn a_client_that_causes_too_many_evaluations_is_slowed_down_alone() {
    let gateway = gateway(POLICY);
    gateway.reconfigure("time_budget = \"1s\"", "time_budget = \"1s\"\ncache = { misses_per_second = 2 }");
    let (greedy, modest) = (gateway.root.issue(&Leaf::client("g")), gateway.root.issue(&Leaf::client("m")));
    let (mut greedy, mut modest) = (connect(&gateway, &greedy), connect(&gateway, &modest));
    let mut number = 0;
    let refused = loop {
        number += 1;
        let response = greedy.get(&format!("/unique/{number}")).unwrap();
        if response.status == 429 {
            break response;
        }
        assert_eq!(response.status, 451);
        assert!(number < 10_000, "it is never refused");
    };
    assert_eq!((refused.text(), refused.headers.get("retry-after")), ("too many requests\n", Some("1")));
    assert!(refused.keeps_alive());
    let record = gateway.wait_for_record("flag", "policy_budget");
    assert!(record["decision"].is_null() && record["status"] == 429, "{record}");
    eventually(DEADLINE, "it is counted", || {
        gateway.metric("ringward_policy_budget_refusals_total", &[("policy", "main")]) >= 1.0
    });
    assert_eq!(modest.get("/open").unwrap().status, 200, "another client is not concerned");
    assert_eq!(gateway.upstream.requests().len(), 1);
    // It recovers.
    eventually(DEADLINE, "the client may ask again", || greedy.get("/open").unwrap().status == 200);
}

#[test]
fn a_decision_with_a_time_to_live_of_zero_is_made_for_every_request() {
    let gateway = gateway("package ringward.authz\n\ndecision := {\"allowed\": true, \"cache_ttl\": 0}\n");
    let mut connection = gateway.connect();
    warm(&mut connection, "/", 200);
    gateway.wait_for_metric(LOOKUPS, &[("result", "miss")], 5.0);
    assert_eq!(hits(&gateway), 0.0);
}

#[test]
fn check_says_which_policies_are_cached_and_why_others_are_not() {
    let impure = "package ringward.authz\n\ndecision if time.now_ns() > 0\n";
    let gateway = gateway(impure);
    let mut connection = gateway.connect();
    warm(&mut connection, "/", 200);
    assert_eq!(gateway.metric(LOOKUPS, &[]), 0.0, "there is no cache");
    let check = |gateway: &Gateway| {
        let output = gateway.run(&["check"]);
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap()
    };
    let text = check(&gateway);
    let reason = "`time.now_ns` does not follow from the input (";
    assert!(text.contains(&format!("  decisions are not cached: {reason}")), "{text}");
    assert!(text.contains("policy.rego:3:13)") && !text.contains("has no effect"), "{text}");
    gateway.edit_config("time_budget = \"1s\"", "time_budget = \"1s\"\ncache = { entries = 100 }");
    let text = check(&gateway);
    let warning =
        format!("warning: `cache` has no effect, decisions of this policy cannot be cached: {reason}");
    assert!(text.contains(&warning), "{text}");
    gateway.pki.write("policies/main/policy.rego", POLICY);
    assert!(check(&gateway).contains("  decisions are cached\n"));
    gateway.edit_config("{ entries = 100 }", "\"off\"");
    assert!(check(&gateway).contains("  decisions are not cached: cache = \"off\"\n"));
}
