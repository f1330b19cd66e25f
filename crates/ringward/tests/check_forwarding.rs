//! `ringward check --forwarding`: passes where nobody can say who they are unless they may, and fails where they can.
#![allow(clippy::unwrap_used, reason = "a failed expectation here is a failed test")]

mod support;

use std::collections::BTreeSet;
use std::net::TcpListener;

use ringward_testkit::{Authority, DEADLINE, Process};
use serde_json::Value;

use self::support::{Builder, Gateway, HOST, Host};

/// What `ringward check --forwarding --json` says of a configuration, with its exit.
fn checked(builder: Builder, more: &[&str]) -> (Value, bool) {
    let (said, ok) = builder.command("check", &[&["--forwarding", "--json"], more].concat());
    let report: Value = serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}"));
    assert_eq!(report["ok"], ok, "{said}");
    (report, ok)
}

/// Contracts with this outcome, each once.
fn contracts(report: &Value, outcome: &str) -> BTreeSet<String> {
    let trials = report["trials"].as_array().unwrap().iter();
    let trials = trials.filter(|trial| trial["outcome"] == outcome);
    trials.map(|trial| trial["contract"].as_str().unwrap().to_owned()).collect()
}

fn broken(report: &Value) -> Vec<String> {
    contracts(report, "broken").into_iter().collect()
}

#[test]
fn it_passes_on_the_demo() {
    let demo = Process::start(support::ringward().arg("demo"));
    let line = demo.wait_for_line(DEADLINE, |line| line.contains("configuration  "));
    let config = line.split_whitespace().last().unwrap();
    let output = support::ringward().args(["check", "--forwarding", "-c", config]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("who the client is, no client says"), "{said}");
    assert!(said.trim_end().ends_with("0 broken, 0 untried"), "{said}");
}

/// Everything that may be said, by those who may.
fn everything() -> Builder {
    let clients = Authority::root("Clients");
    let forwarded = |others: &str| {
        format!("forwarded_identity = {{ from = {{ tenant = \"edge\" }}, trust = \"clients\"{others} }}")
    };
    let edits = "request_headers = { set = { x-real-ip = \"{client.ip}\", x-user = \"{client.identity}\" }, remove = [\"x-debug\"] }";
    Gateway::builder()
        .trust("clients", &[&clients])
        .section("[tenant.edge]\ntrust = \"partners\"\nmatch = [{ san_dns = \"edge.example\" }]\n")
        .section("[cluster.two]\nendpoints = \"127.0.0.1:1\"\nprotocol = \"http2\"\n")
        .listener("proxy_protocol = { from = [\"10.0.0.0/28\"] }")
        .listener("client_address = { from = [\"10.0.1.0/28\"], hops = 2 }")
        .host(
            Host::new(&[HOST])
                .key(&forwarded(""))
                .forward("xfcc = \"set\", client_cert_chain = true, forwarded = \"set\"")
                .key(edits)
                .route("path = \"/{rest...}\"", "")
                .route("path = \"/two/{id}\", methods = [\"PUT\"], headers = { x-kind = \"gold\" }, query = { v = \"1 2\" }", "cluster = \"two\"")
                .route("grpc = \"shop.Orders/*\"", "cluster = \"two\"")
                .route("path = \"/open\"", "client_auth = \"optional\"")
                .route("path = \"/here\"", "respond = { status = 200, body = \"x\" }"),
        )
        .host(
            Host::new(&["*.refusing.example.com"])
                .key(&forwarded(", header = \"x-forwarded-client-cert\", others = \"refuse\""))
                .key(edits)
                .route("regex = \"/v[0-9]+/.*\"", ""),
        )
        .another_listener("open")
        .host(
            Host::new(&["open.example.com"])
                .key(edits)
                .client_auth("mode = \"off\"")
                .forward("x_forwarded = \"append\", forwarded = \"append\"")
                .route("path = \"/{rest...}\"", ""),
        )
        .another_listener("inside")
        .listener("proxy_protocol = { from = [\"10.0.0.0/28\"], others = \"direct\" }\nclient_address = { from = [\"10.0.1.0/28\"], header = \"forwarded\" }")
        .host(
            Host::new(&["inside.example.com"])
                .key(edits)
                .client_auth("mode = \"optional\", trust = \"partners\"")
                .forward("x_forwarded = \"off\", forwarded = \"append\"")
                .route("path = \"/{rest...}\"", ""),
        )
}

#[test]
fn it_passes_where_what_may_be_said_is_said_by_those_who_may() {
    let (report, ok) =
        checked(everything(), &["--upstream-trusts", "x-real-ip", "--upstream-trusts", "X-User"]);
    assert!(ok, "{report:#}");
    assert!(contracts(&report, "untried").is_empty(), "{report:#}");
    let kept = contracts(&report, "kept");
    assert_eq!(kept.len(), 14, "{kept:#?}");
    let routes = report["trials"].as_array().unwrap().iter().filter_map(|trial| trial["route"].as_str());
    // One that answers itself lets nothing through.
    assert_eq!(routes.collect::<BTreeSet<_>>().len(), 5, "{report:#}");
    let protocols =
        report["trials"].as_array().unwrap().iter().filter_map(|trial| trial["protocol"].as_str());
    assert_eq!(protocols.collect::<BTreeSet<_>>(), BTreeSet::from(["h2", "http/1.1"]));
}

#[test]
fn it_fails_where_an_upstream_trusts_what_a_client_can_say() {
    let builder = || Gateway::builder().host(Host::new(&[HOST]));
    assert!(checked(builder(), &[]).1);
    let (report, ok) = checked(builder(), &["--upstream-trusts", "x-real-ip"]);
    assert!(!ok && broken(&report) == ["fields that upstreams trust are no client's"], "{report:#}");
    let trials = report["trials"].as_array().unwrap();
    let trial = trials.iter().find(|trial| trial["outcome"] == "broken").unwrap();
    let detail = trial["detail"].as_str().unwrap();
    assert!(detail.contains("x-real-ip") && detail.contains("x_real_ip"), "{detail}");
    // The same for people, with the exit code for what is refused.
    let (said, ok) = builder().command("check", &["--forwarding", "--upstream-trusts", "x-real-ip"]);
    assert!(!ok && said.contains("BROKEN") && said.contains("`request_headers`"), "{said}");
    // What is added beside the client's own is no better, and what replaces it is.
    for (edit, is_good) in [
        ("append = { x-real-ip = \"{client.ip}\" }", false),
        ("set = { x-real-ip = \"{client.ip}\" }", true),
        ("remove = [\"x-real-ip\"]", true),
    ] {
        let host = Host::new(&[HOST]).key(&format!("request_headers = {{ {edit} }}"));
        let (report, ok) = checked(Gateway::builder().host(host), &["--upstream-trusts", "x-real-ip"]);
        assert_eq!(ok, is_good, "{edit}: {report:#}");
    }
}

/// It takes no port, needs no upstream, and touches no state.
#[test]
fn it_reaches_nobody_and_leaves_nothing() {
    let upstream = TcpListener::bind("127.0.0.1:0").unwrap();
    upstream.set_nonblocking(true).unwrap();
    let section = format!(
        "[cluster.far]\nendpoints = \"{}\"\nhealth_check = {{ http = \"/\" }}",
        upstream.local_addr().unwrap()
    );
    let host = Host::new(&[HOST]).route("path = \"/{rest...}\"", "cluster = \"far\"");
    let gateway = Gateway::builder().stateful().section(&section).host(host).start();
    // Beside the process that runs it, whose state it is.
    let (said, ok) = gateway.command("check", &["--forwarding", "--json"]);
    let report: Value = serde_json::from_str(&said).unwrap();
    assert!(ok && contracts(&report, "untried").is_empty(), "{said}");
    drop(gateway);
}

#[test]
fn what_is_refused_is_not_run() {
    let host = Host::new(&[HOST]).key("forwarded_identity = { from = [{}] }");
    let (report, ok) = checked(Gateway::builder().host(host), &[]);
    assert!(!ok && report["trials"] == serde_json::json!([]), "{report:#}");
    assert!(report["problems"].to_string().contains("everybody would meet it"), "{report:#}");
}
