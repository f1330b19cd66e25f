//! Other engines than Rego's, through the program: the matcher.
#![allow(clippy::unwrap_used, reason = "a failed expectation here is a failed test")]

mod support;

use std::process::Command;

use ringward_testkit::{Connection, Issued, Leaf};
use serde_json::json;

use self::support::{Builder, Gateway, HOST, Host, on_both_drivers, ringward};

on_both_drivers!(a_table_decides);

/// Partners may read orders, one partner may write them, and nobody may export.
const TABLE: &str = r#"
[[rule]]
name    = "partners read"
effect  = "allow"
ou      = ["Partner A", "Partner B"]
methods = ["GET", "HEAD"]
path    = ["/orders", "/orders/{rest...}"]

[[rule]]
name      = "a workload writes"
effect    = "allow"
spiffe_id = "spiffe://example.com/ns/shop/*"
methods   = "POST"
path      = "/orders"
reason    = "the shop itself"

[[rule]]
name   = "no exports"
effect = "deny"
path   = "/orders/export"
reason = "exports are suspended"
status = 451

[[test]]
name   = "a partner reads"
client = { ou = "Partner A" }
path   = "/orders/7"
expect = "allow"
rule   = "partners read"
"#;

const FILE: &str = "tables/orders.toml";

fn builder(table: &str) -> Builder {
    let builder = Gateway::builder()
        .section(&format!("[policy.table]\nengine = \"matcher\"\npath = \"{FILE}\"\n"))
        .host(Host::new(&[HOST]).policy("table"));
    builder.pki().write(FILE, table);
    builder
}

fn connect(gateway: &Gateway, leaf: Leaf) -> Connection {
    gateway.client().identity(&gateway.root.issue(&leaf)).connect(gateway.edge).unwrap()
}

fn partner() -> Leaf {
    Leaf::client("a").organizational_unit("Partner A")
}

fn a_table_decides(driver: &str) {
    let gateway = builder(TABLE).io(driver).start();
    let workload = |id: &str| Leaf::client("w").spiffe(&format!("spiffe://example.com/ns/{id}"));
    let partner =
        [("GET", "/orders/7", 200), ("GET", "/orders/../orders/./8", 200), ("GET", "/orders/export", 451)];
    let others =
        [("GET", "/orders/./export", 451), ("POST", "/orders", 403), ("GET", "/orders-archive", 403)];
    for (leaf, requests) in [
        (self::partner(), [partner, others].concat()),
        (workload("shop/sa/web"), vec![("POST", "/orders", 200), ("GET", "/orders/9", 403)]),
        (workload("shopping/sa/web"), vec![("POST", "/orders", 403)]),
    ] {
        let mut connection = connect(&gateway, leaf);
        for (method, path, status) in requests {
            assert_eq!(connection.request(method, path, &[], b"").unwrap().status, status, "{method} {path}");
        }
    }
    for (path, expected) in [
        ("/orders/7", json!(["allowed", "partners read", null, "table"])),
        ("/orders/export", json!(["denied", "no exports", "exports are suspended", "table"])),
        ("/orders-archive", json!(["denied", null, "no rule allows the request", "table"])),
    ] {
        let record = gateway.wait_for_record("path", path);
        let fields = ["decision", "rule", "reason", "policy"].map(|name| record[name].clone());
        assert_eq!(json!(fields), expected);
    }
    for (outcome, count) in [("allowed", 3.0), ("denied", 6.0)] {
        let labels = [("policy", "table"), ("outcome", outcome)];
        gateway.wait_for_metric("ringward_policy_decisions_total", &labels, count);
    }
}

#[test]
fn a_changed_table_decides_the_next_request_and_a_broken_one_nothing() {
    let but = |path: &str| TABLE.replace("= \"/orders/export\"", &format!("= \"{path}\""));
    let gateway = builder(TABLE).start();
    let mut connection = connect(&gateway, partner());
    let mut status = |path: &str| connection.get(path).unwrap().status;
    let write = |table: &str| gateway.pki.write(FILE, table);
    assert_eq!((status("/orders/late"), status("/orders/export")), (200, 451));
    gateway.change(|_| drop(write(&but("/orders/late"))));
    assert_eq!((status("/orders/late"), status("/orders/export")), (451, 200));
    for (broken, expected) in [
        (
            TABLE.replace("effect  = \"allow\"", "efect = \"allow\""),
            "orders.toml:4:1: error: unknown key `efect` in [[rule]]",
        ),
        (
            TABLE.replace("rule   = \"partners read\"", "rule   = \"others\""),
            "test `a partner reads` failed: rule `partners read` allows it",
        ),
        (TABLE.replace("name   = \"no exports\"\neffect = \"deny\"", "[[rule"), "not valid TOML"),
    ] {
        let refusal = gateway.refused_change(|_| drop(write(&broken))).to_string();
        assert!(refusal.contains(expected), "{refusal}");
        assert_eq!(
            (status("/orders/late"), status("/orders/export")),
            (451, 200),
            "the last good table decides"
        );
    }
    gateway.change(|_| drop(write(TABLE)));
    assert_eq!((status("/orders/late"), status("/orders/export")), (200, 451));
}

#[test]
fn a_table_that_is_broken_from_the_start_serves_nobody() {
    let said = builder("[[rule]]\nname = \"a\"\n").refusal();
    assert!(said.contains("orders.toml:1:1") && said.contains("`effect` is missing in [[rule]]"), "{said}");
}

/// What means nothing to the matcher is refused or warned of, and what it decides is shown.
#[test]
fn check_knows_tables() {
    let gateway = builder(TABLE).start();
    let shown = gateway.ask(&["check"]);
    assert!(shown.contains("policy table: matcher, 1 test passed"), "{shown}");
    assert!(shown.contains("decisions are not cached: the matcher decides about as quickly"), "{shown}");
    let issued: Issued = gateway.root.issue(&partner());
    let chain = gateway.client_files("partner", &issued).chain;
    gateway.reconfigure("path = \"/{rest...}\"", "path = \"/orders/{id}\"");
    let shown = gateway.ask(&["check", "--cert", chain.to_str().unwrap()]);
    assert!(shown.contains("GET /orders/id: allowed, rule partners read"), "{shown}");

    gateway.pki.write(FILE, TABLE.replace("status = 451", "route = \"exports\"\ntenant = \"acne\""));
    let output = gateway.run(&["check"]);
    let warned = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && warned.contains("orders.toml:17:1"), "{warned}");
    assert!(warned.contains("names route `exports`, which no host has"), "{warned}");
    assert!(warned.contains("names tenant `acne`, which there is not"), "{warned}");

    let with = |line: &str| {
        let before = format!("path = \"{FILE}\"");
        gateway.edit_config(&before, &format!("{before}\n{line}"));
        let output = gateway.run(&["check"]);
        gateway.edit_config(&format!("{before}\n{line}"), &before);
        (output.status.success(), String::from_utf8(output.stderr).unwrap())
    };
    for key in ["rule = \"data.a.b\"", "time_budget = \"1ms\""] {
        let (good, said) = with(key);
        assert!(!good && said.contains("means nothing to the engine \"matcher\""), "{key}: {said}");
    }
    let (good, said) = with("cache = { entries = 64 }");
    assert!(good && said.contains("`cache` has no effect"), "{said}");
}

#[test]
fn authors_check_a_table_on_its_own() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("t.toml"), TABLE).unwrap();
    let run = |command: &str| {
        let mut program: Command = ringward();
        let output = program.args(["policy", command, "t.toml", "--engine", "matcher"]);
        let output = output.current_dir(dir.path()).output().unwrap();
        let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
        (output.status.code(), text)
    };
    let (code, said) = run("check");
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("input.client.spiffe_id") && said.contains("tests     1 passed"), "{said}");
    let (code, said) = run("test");
    assert!(code == Some(2) && said.contains("only policies in Rego can be evaluated here"), "{said}");
    std::fs::write(dir.path().join("t.toml"), TABLE.replace("\"/orders\"", "\"orders\"")).unwrap();
    let (code, said) = run("check");
    assert!(
        code == Some(2) && said.contains("t.toml:7:12: error: `path`: \"orders\" is not a path template"),
        "{said}"
    );
}
