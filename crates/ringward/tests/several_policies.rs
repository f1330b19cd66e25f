//! Several policies for a request: every one has to allow, and nobody is asked after one that does not.
#![allow(clippy::unwrap_used, reason = "a failed expectation here is a failed test")]

mod support;

use ringward_testkit::{Client, DEADLINE, Echo, Leaf, eventually};
use serde_json::Value;

use self::support::{Builder, Gateway, HOST, Host, on_both_drivers};

on_both_drivers!(every_combination_is_decided_by_the_first_that_does_not_allow);

const DECISIONS: &str = "ringward_policy_decisions_total";

/// The policies of the tables below, in the order in which they are asked.
const NAMES: [&str; 3] = ["first", "second", "third"];

/// How an evaluation can end: what stands in the path, the status, and what record and metric call it.
const OUTCOMES: [(&str, u16, &str); 4] = [
    ("allow", 200, "allowed"),
    ("deny", 451, "denied"),
    ("nothing", 403, "undefined"),
    ("fail", 500, "error"),
];

/// Decides by the segment of the path that is its own.
fn by_segment(place: usize) -> String {
    format!(
        r#"package ringward.authz

word := input.request.segments[{place}]

decision := {{"allowed": true, "rule": "allow-{place}"}} if word == "allow"

decision := {{"allowed": false, "rule": "deny-{place}", "http_status": 451}} if word == "deny"

decision := {{"allowed": time.parse_rfc3339_ns(word) > 0}} if word == "fail"
"#
    )
}

/// A policy with this result for every request.
fn always(result: &str) -> String {
    format!("package ringward.authz\n\ndecision := {result}\n")
}

fn three_policies() -> Builder {
    NAMES
        .iter()
        .enumerate()
        .fold(Gateway::builder(), |builder, (place, name)| builder.policy(name, &by_segment(place)))
}

fn every_combination_is_decided_by_the_first_that_does_not_allow(driver: &str) {
    for gateway in [
        three_policies().host(Host::new(&[HOST]).policies(&NAMES)),
        three_policies().host(
            Host::new(&[HOST])
                .policy("third")
                .route("path = \"/{rest...}\"", "policy = [\"first\", \"second\", \"third\"]"),
        ),
        // Named again where it is asked anyway.
        three_policies()
            .server("global_policy = \"first\"")
            .host(Host::new(&[HOST]).policies(&["second", "first", "third"])),
        three_policies()
            .server("global_policy = \"first\"")
            .host(Host::new(&[HOST]).route("path = \"/{rest...}\"", "policy = [\"second\", \"third\"]")),
    ] {
        check_every_combination(&gateway.io(driver).start());
    }
}

fn check_every_combination(gateway: &Gateway) {
    // So that decisions are made first and then given again; errors never are.
    const REPEATS: usize = 4;
    let mut connection = gateway.connect();
    let mut asked = [[0.0; OUTCOMES.len()]; NAMES.len()];
    for number in 0..OUTCOMES.len().pow(3) {
        let places = [number / 16, number / 4 % 4, number % 4];
        let words = places.map(|outcome| OUTCOMES[outcome].0);
        let decider = places.iter().position(|outcome| *outcome != 0).unwrap_or(2);
        for (place, outcome) in places.iter().enumerate().take(decider + 1) {
            asked[place][*outcome] += REPEATS as f64;
        }
        for _ in 0..REPEATS {
            let response = connection.get(&format!("/{}", words.join("/"))).unwrap();
            assert_eq!(response.status, OUTCOMES[places[decider]].1, "{words:?}");
        }
    }
    let total = OUTCOMES.len().pow(3) * REPEATS;
    eventually(DEADLINE, "all are recorded", || gateway.lines("request").len() == total);
    for record in gateway.lines("request") {
        check_record(&record);
    }
    // Each was asked as often as it had to be, and no more.
    for (name, asked) in NAMES.iter().zip(asked) {
        for ((_, _, outcome), count) in OUTCOMES.iter().zip(asked) {
            gateway.wait_for_metric(DECISIONS, &[("policy", name), ("outcome", outcome)], count);
        }
    }
    assert_eq!(gateway.reached(), ["/allow/allow/allow"; REPEATS]);
    assert!(gateway.lines("request").iter().any(|record| record["cached"] == true));
}

/// The record is of the policy that decided, with nothing of those that were asked before.
fn check_record(record: &Value) {
    let path = record["path"].as_str().unwrap();
    let words: Vec<&str> = path[1..].split('/').collect();
    let decider = words.iter().position(|word| *word != "allow").unwrap_or(2);
    let (_, _, outcome) = OUTCOMES.iter().find(|(word, _, _)| *word == words[decider]).unwrap();
    assert_eq!(
        (&record["policy"], &record["decision"]),
        (&NAMES[decider].into(), &(*outcome).into()),
        "{record}"
    );
    let rule = match words[decider] {
        word @ ("allow" | "deny") => Value::from(format!("{word}-{decider}")),
        _ => Value::Null,
    };
    assert_eq!(record["rule"], rule, "{record}");
    assert_eq!(record["reason"].is_null(), words[decider] != "fail", "{record}");
    assert_eq!(record["policy_us"].is_null(), record["cached"] == true, "{record}");
}

#[test]
fn a_denial_has_nothing_of_what_others_allowed() {
    let gateway = Gateway::builder()
        .policy("generous", &always(r#"{"allowed": true, "rule": "generous", "reason": "because", "headers": {"x-generous": "1"}, "response_headers_to_add": {"x-generous": "1"}, "dynamic_metadata": {"generous": true}}"#))
        .policy("strict", &always(r#"{"allowed": false, "http_status": 418, "body": "no tea", "headers": {"x-strict": "1"}}"#))
        .host(Host::new(&[HOST]).policies(&["generous", "strict"]))
        .start();
    let response = gateway.connect().get("/").unwrap();
    assert_eq!((response.status, response.text()), (418, "no tea"));
    assert_eq!((response.headers.get("x-strict"), response.headers.get("x-generous")), (Some("1"), None));
    let record = gateway.wait_for_record("path", "/");
    assert_eq!((&record["policy"], &record["decision"]), (&"strict".into(), &"denied".into()));
    assert!(["rule", "reason", "metadata"].iter().all(|member| record[*member].is_null()), "{record}");
    assert_eq!(gateway.upstream.connections_accepted(), 0);
}

#[test]
fn what_several_allow_is_done_together_in_their_order() {
    let early = always(
        r#"{"allowed": true, "rule": "early", "headers": {"x-who": "early", "x-early": "1", "x-gone": "1"}, "request_headers_to_remove": ["x-back", "x-both"], "response_headers_to_add": {"x-by": "early"}, "query_parameters_to_set": {"who": "early", "gone": "1"}, "dynamic_metadata": {"early": 1, "who": "early"}}"#,
    );
    let late = always(
        r#"{"allowed": true, "headers": {"X-Who": "late", "x-back": "late"}, "request_headers_to_remove": ["X-Gone"], "response_headers_to_add": {"x-by": "late"}, "query_parameters_to_set": {"who": "late"}, "query_parameters_to_remove": ["gone"], "dynamic_metadata": {"late": [2], "who": "late"}}"#,
    );
    let gateway = Gateway::builder()
        .policy("early", &early)
        .policy("plain", &always("true"))
        .policy("late", &late)
        .host(Host::new(&[HOST]).policies(&["early", "plain", "late"]))
        .start();
    let mut connection = gateway.connect();
    // The last is put together from decisions that are given again.
    for _ in 0..4 {
        let sent = [("x-who", "client"), ("x-back", "client"), ("x-both", "client"), ("x-gone", "client")];
        let response = connection.request("GET", "/?who=client&gone=client&kept=1", &sent, b"").unwrap();
        assert_eq!(response.headers.all("x-by"), ["early", "late"]);
        let Echo { target, headers, .. } = Echo::of(&response);
        assert_eq!(target, "/?kept=1&who=late");
        assert_eq!((headers.all("x-who"), headers.all("x-back")), (vec!["late"], vec!["late"]));
        assert_eq!(headers.get("x-early"), Some("1"));
        assert!(!headers.contains("x-gone") && !headers.contains("x-both"));
    }
    eventually(DEADLINE, "all are recorded", || gateway.lines("request").len() == 4);
    let records = gateway.lines("request");
    for record in &records {
        assert_eq!((&record["policy"], &record["rule"]), (&"late".into(), &"early".into()), "{record}");
        assert_eq!(record["metadata"], serde_json::json!({"early": 1, "late": [2], "who": "late"}));
    }
    assert_eq!((&records[0]["cached"], &records[3]["cached"]), (&false.into(), &true.into()));
}

#[test]
fn too_much_together_is_no_decision() {
    let headers = |prefix: &str| {
        let pairs: Vec<String> = (0..40).map(|number| format!("\"x-{prefix}-{number}\": \"1\"")).collect();
        always(&format!(
            "{{\"allowed\": true, \"rule\": \"{prefix}\", \"headers\": {{{}}}}}",
            pairs.join(", ")
        ))
    };
    let gateway = Gateway::builder()
        .policy("a", &headers("a"))
        .policy("b", &headers("b"))
        .host(
            Host::new(&[HOST])
                .policies(&["a", "b"])
                .route("path = \"/both\"", "")
                .route("path = \"/one\"", "policy = \"a\""),
        )
        .start();
    let mut connection = gateway.connect();
    assert_eq!(connection.get("/one").unwrap().status, 200);
    assert_eq!(connection.get("/both").unwrap().status, 500);
    let record = gateway.wait_for_record("path", "/both");
    assert_eq!(
        (&record["policy"], &record["decision"], &record["flag"]),
        (&"b".into(), &"invalid_result".into(), &"policy_error".into())
    );
    assert!(record["rule"].is_null(), "{record}");
    assert!(record["reason"].as_str().unwrap().contains("`headers` of all policies together has 80 entries"));
    assert_eq!(gateway.reached(), ["/one"]);
}

#[test]
fn the_global_policy_is_asked_everywhere_and_can_only_deny() {
    let guard = r#"package ringward.authz

default decision := {"allowed": true, "rule": "guard"}

decision := {"allowed": false, "rule": "closed"} if startswith(input.request.path, "/closed")
"#;
    let gateway = Gateway::builder()
        .server("global_policy = \"guard\"")
        .policy("guard", guard)
        .policy("no", &always("false"))
        .host(
            Host::new(&[HOST])
                .policy("no")
                .route("path = \"/inherits\"", "")
                .route("path = \"/closed\"", "")
                .route("path = \"/own\"", "policy = [\"guard\"]"),
        )
        .host(Host::new(&["open.example.com"]))
        .start();
    let open = Client::new("open.example.com", &gateway.root).identity(&gateway.partner);
    let mut connections = [gateway.connect(), open.connect(gateway.edge).unwrap()];
    for (host, path, status, policy, rule) in [
        // Its allow does not stand for that of the host's.
        (0, "/inherits", 403, "no", Value::Null),
        (0, "/closed", 403, "guard", "closed".into()),
        (0, "/own", 200, "guard", "guard".into()),
        (1, "/open", 200, "guard", "guard".into()),
        (1, "/closed/too", 403, "guard", "closed".into()),
    ] {
        assert_eq!(connections[host].get(path).unwrap().status, status, "{path}");
        let record = gateway.wait_for_record("path", path);
        assert_eq!((&record["policy"], &record["rule"]), (&policy.into(), &rule), "{record}");
    }
    gateway.wait_for_metric(DECISIONS, &[("policy", "guard")], 5.0);
    gateway.wait_for_metric(DECISIONS, &[("policy", "no")], 1.0);
    // What no route takes is nobody's to decide.
    assert_eq!(connections[0].get("/nowhere").unwrap().status, 404);
    gateway.wait_for_metric("ringward_responses_generated_total", &[("flag", "no_route")], 1.0);
    assert_eq!(gateway.metric(DECISIONS, &[("policy", "guard")]), 5.0);
}

#[test]
fn a_policy_that_is_added_decides_the_next_request_of_an_open_connection() {
    let gateway = Gateway::builder()
        .policy("yes", &always("true"))
        .policy("no", &always("false"))
        .host(Host::new(&[HOST]).policies(&["yes"]))
        .start();
    let mut connection = gateway.connect();
    let mut expect = |status: u16| {
        // Also of what was decided before.
        for _ in 0..3 {
            assert_eq!(connection.get("/").unwrap().status, status);
        }
    };
    expect(200);
    gateway.reconfigure("policy = [\"yes\"]", "policy = [\"yes\", \"no\"]");
    expect(403);
    gateway.reconfigure("policy = [\"yes\", \"no\"]", "policy = [\"yes\"]");
    expect(200);
    gateway.reconfigure("[server]\n", "[server]\nglobal_policy = \"no\"\n");
    expect(403);
    let refused = gateway
        .refused_change(|gateway| gateway.edit_config("global_policy = \"no\"", "global_policy = \"on\""));
    assert!(refused["problems"].to_string().contains("there is no policy"), "{refused}");
    expect(403);
    gateway.reconfigure("global_policy = \"on\"\n", "");
    expect(200);
}

/// The budget is a policy's own, and a request that is above it is not decided by those that were asked before.
#[test]
fn a_budget_that_is_used_up_ends_it_whoever_allowed_before() {
    let reads_path = "package ringward.authz\n\ndecision if input.request.path != \"\"\n";
    let gateway = Gateway::builder()
        .policy("free", &always(r#"{"allowed": true, "rule": "free"}"#))
        .policy("dear", reads_path)
        .host(Host::new(&[HOST]).policies(&["free", "dear"]))
        .start();
    gateway.reconfigure(
        "path = [\"policies/dear/\"]\n",
        "path = [\"policies/dear/\"]\ncache = { misses_per_second = 1 }\n",
    );
    let mut connection = gateway.connect();
    let refused = (0..10_000).find(|number| connection.get(&format!("/{number}")).unwrap().status == 429);
    let refused = refused.expect("it is refused at some time");
    let record = gateway.wait_for_record("path", format!("/{refused}"));
    assert_eq!((&record["policy"], &record["flag"]), (&"dear".into(), &"policy_budget".into()), "{record}");
    assert!(record["decision"].is_null() && record["rule"].is_null(), "{record}");
    assert!(!gateway.reached().contains(&format!("/{refused}")));
}

/// One that is evaluated for each request makes the whole no decision that was given again.
#[test]
fn the_record_says_cached_only_if_every_policy_was() {
    let gateway = Gateway::builder()
        .policy("kept", &always("true"))
        .policy("fresh", "package ringward.authz\n\ndecision if time.now_ns() > 0\n")
        .host(
            Host::new(&[HOST])
                .policies(&["fresh", "kept"])
                .route("path = \"/mixed\"", "")
                .route("path = \"/other-way\"", "policy = [\"kept\", \"fresh\"]")
                .route("path = \"/kept\"", "policy = \"kept\""),
        )
        .start();
    let mut connection = gateway.connect();
    for path in ["/mixed", "/other-way", "/kept"] {
        for _ in 0..4 {
            assert_eq!(connection.get(path).unwrap().status, 200);
        }
    }
    eventually(DEADLINE, "all are recorded", || gateway.lines("request").len() == 12);
    for record in gateway.lines("request") {
        if record["path"] == "/kept" {
            continue;
        }
        assert!(record["cached"] == false && record["policy_us"].is_number(), "{record}");
    }
    assert_eq!(gateway.lines("request").last().unwrap()["cached"], true);
}

#[test]
fn check_lists_the_policies_and_asks_all_of_them() {
    let gateway = Gateway::builder()
        .server("global_policy = \"guard\"")
        .policy("guard", &always("true"))
        .policy("limits", &always(r#"{"allowed": true, "rule": "within"}"#))
        .policy("main", &always(r#"{"allowed": false, "reason": "not today"}"#))
        .policy("unused", &always("true"))
        .host(
            Host::new(&[HOST])
                .policies(&["limits", "main"])
                .route("path = \"/denied\"", "")
                .route("path = \"/allowed\"", "policy = \"limits\""),
        )
        .host(Host::new(&["open.example.com"]))
        .start();
    let leaf = gateway.root.issue(&Leaf::client("client"));
    let file = gateway.client_files("client", &leaf).chain;
    let file = file.to_str().unwrap();
    let output = gateway.run(&["check", "--cert", file]);
    let (stdout, stderr) =
        (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    for part in [
        "route denied: any method /denied → cluster echo, policies guard and limits and main\n",
        "route allowed: any method /allowed → cluster echo, policies guard and limits\n",
        "→ cluster echo, policy guard\n",
        "global policy guard: asked first about every request\n",
        "GET /denied: denied, reason not today, policy main",
        "GET /allowed: allowed, rule within, policy limits",
        "GET /rest: allowed, policy guard",
    ] {
        assert!(stdout.contains(part), "{part}: {stdout}");
    }
    assert!(stderr.contains("the policy \"unused\" is not used"), "{stderr}");
    assert!(!stderr.contains("the policy \"guard\" is not used"), "{stderr}");
    assert!(stderr.contains("no policy but the global one, \"guard\", decides"), "{stderr}");
    let json = gateway.ask_json(&["check", "--json", "--cert", file]);
    assert_eq!(json["summary"]["global_policy"], "guard");
    let routes = &json["summary"]["listeners"][0]["hosts"][0]["routes"];
    assert_eq!(routes[0]["policies"], serde_json::json!(["guard", "limits", "main"]));
    let sample = &json["clients"][0]["hosts"][0]["requests"][0];
    assert_eq!((&sample["decision"], &sample["policy"]), (&"denied".into(), &"main".into()));
}
