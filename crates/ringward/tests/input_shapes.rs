//! Policies that were written for OPA-Envoy and for Kong's OPA plugin, through the binary.
#![allow(clippy::unwrap_used, reason = "a failed expectation here is a failed test")]

mod support;

use std::fs;

use ringward_testkit::{Connection, Echo, Leaf};
use serde_json::json;

use self::support::{Gateway, HOST, Host, on_both_drivers};

on_both_drivers!(a_policy_for_opa_envoy_decides_with_every_field_of_its_result);

const LOOKUPS: &str = "ringward_policy_cache_lookups_total";

/// As its users write them: by path, token and principal, with every field that a result can have.
const ENVOY: &str = r#"package envoy.authz

import input.attributes.request.http

default allow := {"allowed": false, "rule": "default"}

allow := {
	"allowed": true,
	"headers": {"x-user": input.attributes.source.principal, "x-role": ["reader", "writer"]},
	"request_headers_to_remove": ["cookie"],
	"response_headers_to_add": {"x-decided-by": "policy"},
	"query_parameters_to_set": {"tenant": "a"},
	"query_parameters_to_remove": ["debug"],
	"dynamic_metadata": {"page": input.parsed_query.page},
	"rule": "orders",
	"reason": "it is theirs",
	"cache_ttl": 3600,
} if {
	http.method == "GET"
	input.parsed_path = ["orders", _]
	startswith(input.attributes.source.principal, "spiffe://example.org/partner/")
	input.attributes.contextExtensions.team == "billing"
	http.headers["x-tenant"] == "t1"
}

allow := {
	"allowed": false,
	"http_status": 429,
	"headers": {"retry-after": "3"},
	"body": "slow down",
	"rule": "limits",
} if http.path == "/busy?x=1"
"#;

fn envoy(driver: &str, policy: &str) -> Gateway {
    Gateway::builder()
        .io(driver)
        .policy("main", policy)
        .policy_key("main", "input = \"envoy-v3\"\nrule = \"data.envoy.authz.allow\"")
        .host(Host::new(&[HOST]).policy("main").route(
            "path = \"/{rest...}\"",
            "labels = { team = \"billing\" }\nallow_encoded_slash = true\npolicy_body_max = \"1KiB\"",
        ))
        .start()
}

fn connect(gateway: &Gateway) -> Connection {
    let leaf = Leaf::client("partner-a").spiffe("spiffe://example.org/partner/a");
    gateway.client().identity(&gateway.root.issue(&leaf)).connect(gateway.edge).unwrap()
}

fn a_policy_for_opa_envoy_decides_with_every_field_of_its_result(driver: &str) {
    let gateway = envoy(driver, ENVOY);
    let mut connection = connect(&gateway);
    let sent = [("x-tenant", "t1"), ("cookie", "a=b"), ("x-user", "root")];
    // The first two are evaluated, the others are given again.
    for _ in 0..4 {
        let target = "/orders/17?debug&page=2&tenant=other";
        let response = connection.request("GET", target, &sent, b"").unwrap();
        assert_eq!((response.status, response.headers.get("x-decided-by")), (200, Some("policy")));
        let echo = Echo::of(&response);
        assert_eq!(echo.target, "/orders/17?page=2&tenant=a");
        assert_eq!(echo.headers.get("x-user"), Some("spiffe://example.org/partner/a"));
        assert_eq!(echo.headers.all("x-role"), ["reader", "writer"]);
        assert!(!echo.headers.contains("cookie"));
    }
    let record = gateway.wait_for_record("path", "/orders/17");
    assert_eq!((&record["rule"], &record["reason"]), (&json!("orders"), &json!("it is theirs")));
    assert_eq!(record["metadata"], json!({ "page": ["2"] }));
    for _ in 0..4 {
        let busy = connection.get("/busy?x=1").unwrap();
        assert_eq!(
            (busy.status, busy.text(), busy.headers.get("retry-after")),
            (429, "slow down", Some("3"))
        );
    }
    gateway.wait_for_metric(LOOKUPS, &[("policy", "main"), ("result", "hit")], 4.0);
    assert_eq!(gateway.metric("ringward_policy_cache_mismatches_total", &[]), 0.0);
    // Each of these differs in one field that the policy reads from what was allowed.
    for (method, target, tenant) in [
        ("POST", "/orders/17?page=2", "t1"),
        ("GET", "/orders/17/items?page=2", "t1"),
        ("GET", "/orders?page=2", "t1"),
        ("GET", "/orders/17?page=2", "t2"),
    ] {
        let response = connection.request(method, target, &[("x-tenant", tenant)], b"").unwrap();
        assert_eq!(response.status, 403, "{method} {target} {tenant}");
    }
    let other = gateway.root.issue(&Leaf::client("partner-b").spiffe("spiffe://example.org/stranger/b"));
    let mut other = gateway.client().identity(&other).connect(gateway.edge).unwrap();
    assert_eq!(other.request("GET", "/orders/17?page=2", &sent, b"").unwrap().status, 403);
}

#[test]
fn the_fields_of_opa_envoy_are_those_of_the_request() {
    let policy = r#"package envoy.authz

http := input.attributes.request.http

ringward := input.attributes.metadataContext.filterMetadata.ringward

facts := {
	"method": http.method == "GET",
	"path": http.path == "/tenants/t%2F1/all%20orders?page=2",
	"host": http.host == "api.example.com",
	"scheme": http.scheme == "https",
	"protocol": http.protocol == "HTTP/1.1",
	"authority": http.headers[":authority"] == "api.example.com",
	"pseudo": http.headers[":path"] == http.path,
	"joined": http.headers["x-tenant"] == "t1,t2",
	"host field": object.get(http.headers, "host", "none") == "none",
	"hidden": count([name | some name, _ in http.headers; startswith(name, "x-forwarded")]) == 0,
	"parsed path": input.parsed_path == ["tenants", "t/1", "all orders"],
	"parsed query": input.parsed_query == {"page": ["2"]},
	"body": [input.parsed_body, input.truncated_body] == [null, false],
	"source": input.attributes.source.address.socketAddress.address == "127.0.0.1",
	"port": input.attributes.source.address.socketAddress.portValue > 0,
	"destination": input.attributes.destination.address.socketAddress.portValue > 0,
	"principal": input.attributes.source.principal == "spiffe://example.org/partner/a",
	"sni": input.attributes.tlsSession.sni == "api.example.com",
	"context": input.attributes.contextExtensions == {"team": "billing"},
	"time": time.parse_rfc3339_ns(input.attributes.request.time) == ringward.time.unix_s * 1000000000,
	"version": input.version == {"ext_authz": "v3", "encoding": "protojson"},
	"tenant": ringward.client.tenant == "",
	"route": ringward.route.labels.team == "billing",
}

default allow := false

allow := {"allowed": count(wrong) == 0, "reason": concat(", ", wrong)}

wrong := {name | some name, holds in facts; not holds}
"#;
    let gateway = envoy("epoll", policy);
    let sent = [("x-tenant", "t1"), ("x-forwarded-client-cert", "forged"), ("x-tenant", "t2")];
    let target = "/tenants/t%2F1/all%20orders?page=2";
    let response = connect(&gateway).request("GET", target, &sent, b"").unwrap();
    let record = gateway.wait_for_record("path", "/tenants/t%2F1/all%20orders");
    assert_eq!(response.status, 200, "{record}");
}

#[test]
fn the_body_is_parsed_as_opa_envoy_parses_it() {
    let policy = r#"package envoy.authz

default allow := false

allow if input.parsed_body.item == "tea"
"#;
    let gateway = envoy("epoll", policy);
    let mut connection = connect(&gateway);
    for (content_type, body, status) in [
        ("application/json", r#"{"item": "tea"}"#, 200),
        ("application/json", r#"{"item": "milk"}"#, 403),
        ("text/plain", r#"{"item": "tea"}"#, 403),
        ("application/json", r#"{"item": "milk", "item": "tea"}"#, 400),
        ("multipart/form-data; boundary=x", "--x--", 400),
    ] {
        let fields = [("content-type", content_type)];
        let response = gateway_answer(&mut connection, &gateway, &fields, body);
        assert_eq!(response, status, "{content_type} {body}");
    }
}

fn gateway_answer(
    connection: &mut Connection,
    gateway: &Gateway,
    fields: &[(&str, &str)],
    body: &str,
) -> u16 {
    let response = connection.request("POST", "/items", fields, body.as_bytes()).unwrap();
    if !response.keeps_alive() {
        *connection = connect(gateway);
    }
    response.status
}

/// An answer in the plugin's form, and in the native one, which is none here.
const KONG: &str = r#"package example

default allowed := {"allow": false, "message": "no consumer"}

allowed := {"allow": true, "headers": {"x-user": input.consumer.username}} if {
	input.request.http.method == "GET"
	input.request.http.path == "/orders/17"
	input.request.http.querystring.page == "2"
	input.request.http.headers["x-tenant"] == "t1"
	input.request.http.tls.client_verify == "SUCCESS"
	input.request.http.uri_captures.named.rest == "orders/17"
	input.service.name == "echo"
	startswith(input.client_ip, "127.")
	input.ringward.client.verified
}

allowed := {
	"allow": false,
	"status": 418,
	"headers": {"x-why": "tea"},
	"message": {"code": 7},
} if input.request.http.path == "/tea"

allowed := {"allowed": true} if input.request.http.path == "/native"
"#;

#[test]
fn a_policy_for_kong_decides_with_kongs_result() {
    let gateway = Gateway::builder()
        .policy("main", KONG)
        .policy_key("main", "input = \"kong\"\nrule = \"data.example.allowed\"")
        .host(Host::new(&[HOST]).policy("main").route("path = \"/{rest...}\"", ""))
        .start();
    let mut connection = connect(&gateway);
    for _ in 0..4 {
        let sent = [("x-tenant", "t1"), ("x-user", "root")];
        let response = connection.request("GET", "/orders/17?page=2", &sent, b"").unwrap();
        assert_eq!(response.status, 200);
        assert_eq!(Echo::of(&response).headers.get("x-user"), Some("spiffe://example.org/partner/a"));
        let tea = connection.get("/tea").unwrap();
        assert_eq!((tea.status, tea.headers.get("x-why")), (418, Some("tea")));
        assert_eq!(tea.headers.get("content-type"), Some("application/json; charset=utf-8"));
        assert_eq!(
            serde_json::from_str::<serde_json::Value>(tea.text()).unwrap(),
            json!({ "message": { "code": 7 } })
        );
        let denied = connection.get("/orders/17?page=2").unwrap();
        assert_eq!((denied.status, denied.text()), (403, "{\"message\":\"no consumer\"}"));
    }
    gateway.wait_for_metric(LOOKUPS, &[("policy", "main"), ("result", "hit")], 6.0);
    let native = connection.get("/native").unwrap();
    assert_eq!(native.status, 500, "`allowed` is no field of Kong's result");
}

#[test]
fn a_change_of_the_shape_is_a_change_of_the_policy() {
    let policy = r#"package envoy.authz

default allow := false

allow if header("x-team") == "a"
"#;
    let gateway = Gateway::builder()
        .policy("main", policy)
        .policy_key("main", "rule = \"data.envoy.authz.allow\"")
        .host(Host::new(&[HOST]).policy("main"))
        .start();
    let mut connection = gateway.connect();
    let ask =
        |connection: &mut Connection| connection.request("GET", "/", &[("x-team", "a")], b"").unwrap().status;
    assert_eq!((ask(&mut connection), ask(&mut connection)), (200, 200));
    let configuration = fs::read_to_string(gateway.pki.path().join("ringward.toml")).unwrap();
    let reload = |rule: &str, outcome: &str, count: f64| {
        let changed = configuration.replace("rule = \"data.envoy.authz.allow\"", rule);
        gateway.pki.write("ringward.toml", &changed);
        gateway.wait_for_metric("ringward_reloads_finished_total", &[("outcome", outcome)], count);
    };
    // `header` finds the fields in every shape.
    reload("rule = \"data.envoy.authz.allow\"\ninput = \"kong\"", "applied", 1.0);
    assert_eq!((ask(&mut connection), connection.get("/").unwrap().status), (200, 403));
    // One that the policy does not fit leaves all as it was.
    let other = policy.replace("header(\"x-team\")", "input.request.http.method");
    gateway.pki.write("policies/main/policy.rego", other.replace("\"a\"", "\"GET\""));
    gateway.wait_for_metric("ringward_reloads_finished_total", &[("outcome", "applied")], 2.0);
    reload("rule = \"data.envoy.authz.allow\"\ninput = \"envoy-v3\"", "failed", 1.0);
    assert_eq!(connection.get("/").unwrap().status, 200);
}
