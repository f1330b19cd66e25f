//! Policies in Cedar, through the program.
#![allow(clippy::unwrap_used, reason = "a failed expectation here is a failed test")]

mod support;

use std::process::Command;

use ringward_testkit::{Connection, Leaf};
use serde_json::json;

use self::support::{Builder, Gateway, HOST, Host, on_both_drivers, ringward};

on_both_drivers!(policies_decide);

/// Partners may read, one of them may write, whoever is near the limit fails, and nobody exports.
const POLICIES: &str = r#"@id("partners-read")
permit (
    principal in Ringward::Group::"partners",
    action in [Ringward::Action::"GET", Ringward::Action::"HEAD"],
    resource == Ringward::Route::"all"
) when { context.request.path like "/orders/*" || context.request.path like "/sum/*" };

@id("team-writes")
@reason("the red team")
permit (principal in Ringward::Group::"partners", action == Ringward::Action::"POST", resource)
when { context.request.headers has "x-team" && context.request.headers["x-team"] == "red" };

@id("no-exports")
@reason("exports are suspended")
forbid (principal, action, resource)
when { context.request.path == "/orders/export" };

@id("sums")
forbid (principal, action, resource)
when { context.request.path == "/sum/large" && context.time.unix_s * 9223372036854775807 > 0 };
"#;

const ENTITIES: &str = r#"[
  { "uid": { "type": "Ringward::Group", "id": "partners" }, "attrs": {}, "parents": [] },
  { "uid": { "type": "Ringward::Client", "id": "spiffe://example.com/partner/a" }, "attrs": {},
    "parents": [{ "type": "Ringward::Group", "id": "partners" }] }
]"#;

const TESTS: &str = r#"[[test]]
name = "partners read"
input.client.spiffe_id = "spiffe://example.com/partner/a"
input.request.path = "/orders/7"
input.route.id = "all"
expect = "allow"
rule = "partners-read"
"#;

const POLICY_FILE: &str = "cedar/policies.cedar";
const ENTITY_FILE: &str = "cedar/entities.json";

fn builder(policies: &str) -> Builder {
    let builder = Gateway::builder()
        .section("[policy.mesh]\nengine = \"cedar\"\npath = \"cedar/\"\n")
        .host(Host::new(&[HOST]).policy("mesh"));
    let pki = builder.pki();
    for (file, text) in [(POLICY_FILE, policies), (ENTITY_FILE, ENTITIES), ("cedar/mesh.test.toml", TESTS)] {
        pki.write(file, text);
    }
    builder
}

fn connect(gateway: &Gateway, partner: &str) -> Connection {
    let leaf = Leaf::client("w").spiffe(&format!("spiffe://example.com/partner/{partner}"));
    gateway.client().identity(&gateway.root.issue(&leaf)).connect(gateway.edge).unwrap()
}

fn policies_decide(driver: &str) {
    let gateway = builder(POLICIES).io(driver).start();
    let (mut partner, mut other) = (connect(&gateway, "a"), connect(&gateway, "b"));
    let red = [("x-team", "red")];
    for (method, path, headers, status) in [
        ("GET", "/orders/7", &[][..], 200),
        ("GET", "/orders/../orders/./7", &[], 200),
        ("POST", "/orders/7", &[], 403),
        ("POST", "/orders/8", &red, 200),
        ("DELETE", "/orders/7", &red, 403),
        ("GET", "/orders/export", &[], 403),
        ("GET", "/sum/small", &[], 200),
        ("GET", "/sum/large", &[], 500),
    ] {
        assert_eq!(partner.request(method, path, headers, b"").unwrap().status, status, "{method} {path}");
    }
    assert_eq!(other.get("/orders/9").unwrap().status, 403);
    for (path, expected) in [
        ("/orders/8", json!(["allowed", "team-writes", "the red team", "mesh"])),
        ("/orders/export", json!(["denied", "no-exports", "exports are suspended", "mesh"])),
        ("/orders/9", json!(["denied", null, "no policy permits the request", "mesh"])),
    ] {
        let record = gateway.wait_for_record("path", path);
        let fields = ["decision", "rule", "reason", "policy"].map(|name| record[name].clone());
        assert_eq!(json!(fields), expected, "{record}");
    }
    let record = gateway.wait_for_record("path", "/sum/large");
    let reason = record["reason"].as_str().unwrap();
    assert_eq!(record["decision"], "error");
    assert!(reason.contains("policies.cedar:18:1: policy `sums`: integer overflow"), "{reason}");
    for (outcome, count) in [("allowed", 4.0), ("denied", 4.0), ("error", 1.0)] {
        let labels = [("policy", "mesh"), ("outcome", outcome)];
        gateway.wait_for_metric("ringward_policy_decisions_total", &labels, count);
    }
}

#[test]
fn decisions_are_cached() {
    let gateway = builder(POLICIES).start();
    let mut partner = connect(&gateway, "a");
    // Kept when it is seen again, and given again after that.
    for _ in 0..4 {
        assert_eq!(partner.get("/orders/7").unwrap().status, 200);
    }
    gateway.wait_for_metric(
        "ringward_policy_cache_lookups_total",
        &[("policy", "mesh"), ("result", "hit")],
        2.0,
    );
}

#[test]
fn a_changed_policy_decides_the_next_request_and_a_broken_one_nothing() {
    let gateway = builder(POLICIES).start();
    let (mut partner, mut other) = (connect(&gateway, "a"), connect(&gateway, "b"));
    let mut statuses = || {
        let of_partner = ["/orders/7", "/orders/export"].map(|path| partner.get(path).unwrap().status);
        [of_partner[0], of_partner[1], other.get("/orders/7").unwrap().status]
    };
    assert_eq!(statuses(), [200, 403, 403]);
    // Both belong to the group from now on.
    let both = ENTITIES.replace("[\n", "[\n{ \"uid\": { \"type\": \"Ringward::Client\", \"id\": \"spiffe://example.com/partner/b\" }, \"attrs\": {}, \"parents\": [{ \"type\": \"Ringward::Group\", \"id\": \"partners\" }] },\n");
    gateway.change(|_| drop(gateway.pki.write(ENTITY_FILE, &both)));
    assert_eq!(statuses(), [200, 403, 200]);
    let late = POLICIES.replace("\"/orders/export\"", "\"/orders/late\"");
    gateway.change(|_| drop(gateway.pki.write(POLICY_FILE, &late)));
    assert_eq!(statuses(), [200, 200, 200]);
    for (file, broken, expected) in [
        (
            POLICY_FILE,
            late.replace("context.request.path ==", "context.request.paht =="),
            "policies.cedar:16:8: error: attribute `request.paht` in context not found",
        ),
        (POLICY_FILE, late.replace("headers has \"x-team\" && context.request.", ""), "policies.cedar:11:"),
        (
            POLICY_FILE,
            late.replace("@id(\"partners-read\")", "@id(\"all-read\")"),
            "test `partners read` failed: policy `all-read` allows it",
        ),
        (
            POLICY_FILE,
            format!("{late}permit (principal"),
            "policies.cedar:21:18: error: unexpected end of input",
        ),
    ] {
        let refusal = gateway.refused_change(|_| drop(gateway.pki.write(file, &broken))).to_string();
        assert!(refusal.contains(expected), "{refusal}");
        assert_eq!(statuses(), [200, 200, 200], "the last good policy decides");
    }
    gateway.change(|_| drop(gateway.pki.write(POLICY_FILE, POLICIES)));
    assert_eq!(statuses(), [200, 403, 200]);
    let refusal = gateway
        .refused_change(|_| {
            drop(gateway.pki.write(ENTITY_FILE, both.replace("\"attrs\": {}", "\"attrs\": { \"level\": 1 }")))
        })
        .to_string();
    assert!(refusal.contains("entities.json:2:46: error: ") && refusal.contains("level"), "{refusal}");
    assert_eq!(statuses(), [200, 403, 200]);
}

#[test]
fn a_policy_that_is_broken_from_the_start_serves_nobody() {
    let said = builder("permit (principal, action, resource) when { context.request.path };").refusal();
    assert!(said.contains("policies.cedar:1:45") && said.contains("expected Bool but saw String"), "{said}");
    // What would take the parser too deep is refused before, and what nobody thought of ends the process that checks.
    let said =
        builder(&format!("permit (principal, action, resource) when {{ {}true }};", "(".repeat(100_000)))
            .refusal();
    assert!(said.contains("policies.cedar:1:76: error: brackets are nested deeper than 32"), "{said}");
}

/// What means nothing to Cedar is refused, and what it decides is shown.
#[test]
fn check_knows_cedar() {
    let gateway = builder(POLICIES).start();
    let shown = gateway.ask(&["check"]);
    assert!(shown.contains("policy mesh: cedar, 1 test passed"), "{shown}");
    let issued = gateway.root.issue(&Leaf::client("w").spiffe("spiffe://example.com/partner/a"));
    let chain = gateway.client_files("partner", &issued).chain;
    gateway.reconfigure("path = \"/{rest...}\"", "path = \"/orders/{id}\"");
    let shown = gateway.ask(&["check", "--cert", chain.to_str().unwrap()]);
    assert!(shown.contains("GET /orders/id: allowed, rule partners-read"), "{shown}");

    gateway.pki.write(
        POLICY_FILE,
        POLICIES.replace("\"all\"", "\"exports\"").replace("(principal, action", "( principal, action"),
    );
    gateway.pki.write("cedar/mesh.test.toml", "");
    let output = gateway.run(&["check"]);
    let warned = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && warned.contains("policies.cedar:1:1"), "{warned}");
    assert!(warned.contains("names route `exports`, which no host has"), "{warned}");
    let gone = ENTITIES.replace(
        "[\n",
        "[\n{ \"uid\": { \"type\": \"Ringward::Route\", \"id\": \"gone\" }, \"attrs\": {}, \"parents\": [] },\n\
         { \"uid\": { \"type\": \"Ringward::Client\", \"id\": \"acme/a\" }, \"attrs\": {}, \"parents\": [] },\n",
    );
    gateway.pki.write(ENTITY_FILE, gone);
    let output = gateway.run(&["check"]);
    let warned = String::from_utf8(output.stderr).unwrap();
    for (line, what) in [(2, "route `gone`, which no host has"), (3, "tenant `acme`, which there is not")] {
        let place = format!("entities.json:{line}:");
        assert!(
            warned.contains(&place) && warned.contains(&format!("an entity stands for {what}")),
            "{warned}"
        );
    }

    let before = "path = \"cedar/\"";
    for key in ["rule = \"data.a.b\"", "time_budget = \"1ms\"", "input = \"kong\""] {
        let with = format!("{before}\n{key}");
        gateway.edit_config(before, &with);
        let output = gateway.run(&["check"]);
        gateway.edit_config(&with, before);
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(
            !output.status.success() && said.contains("means nothing to the engine \"cedar\""),
            "{key}: {said}"
        );
    }
}

#[test]
fn authors_check_a_policy_on_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let write = |file: &str, text: &str| std::fs::write(dir.path().join(file), text).unwrap();
    write("p.cedar", POLICIES);
    write("e.json", ENTITIES);
    write("p.test.toml", TESTS);
    let run = |arguments: &[&str]| {
        let mut program: Command = ringward();
        let output = program.arg("policy").args(arguments).args([".", "--engine", "cedar"]);
        let output = output.current_dir(dir.path()).output().unwrap();
        let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
        (output.status.code(), text)
    };
    let (code, said) = run(&["check"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("input.request.headers.x-team") && said.contains("tests     1 passed"), "{said}");
    for command in [&["test"][..], &["coverage"], &["eval", "--path", "/"], &["bench"]] {
        let (code, said) = run(command);
        assert!(
            code == Some(2) && said.contains("only policies in Rego can be evaluated here"),
            "{command:?}: {said}"
        );
    }
    write("p.test.toml", &TESTS.replace("\"allow\"", "\"deny\""));
    let (code, said) = run(&["check"]);
    let expected = "p.test.toml:1:1: error: test `partners read` failed: policy `partners-read` allows it";
    assert!(code == Some(2) && said.contains(expected), "{said}");
}
