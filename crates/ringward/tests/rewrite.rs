//! Other paths and hosts for upstreams: `rewrite` of routes.
#![allow(clippy::unwrap_used, reason = "a failed expectation here is a failed test")]

mod support;

use ringward_testkit::{Connection, Echo, Http2Upstream};

use self::support::{Builder, Gateway, HOST, Host};

const POLICY: &str = r#"package ringward.authz

default decision := {"allowed": false}

decision := {"allowed": true, "query_parameters_to_set": {"seen": input.request.path}} if {
	not startswith(input.request.path, "/v2")
}
"#;

fn host() -> Host {
    Host::new(&[HOST])
        .client_auth("mode = \"optional\", trust = \"partners\"")
        .policy("main")
        .route("path = \"/api/{rest...}\"", "rewrite = { prefix = \"/\" }")
        .route("path = \"/whole\"", "rewrite = { prefix = \"/v2/whole\" }")
        .route("path = \"/orders/{id}/{rest...}\"", "rewrite = { path = \"/v2/{rest}/of-{id}\" }")
        .route(
            "path = \"/named/{rest...}\"",
            "rewrite = { path = \"/{host}{path}\", host = \"Orders.Internal:8080\" }\nallow_encoded_slash = true\nrequest_headers = { set = { x-path = \"{path}\" } }",
        )
        .route("path = \"/dots/{a}\"", "rewrite = { path = \"/.{a}/x\" }")
        .route("regex = \"/v[0-9]/.*\"", "rewrite = { path = \"/any{path}\" }")
}

fn builder() -> Builder {
    Gateway::builder().policy("main", POLICY).host(host())
}

#[track_caller]
fn target(connection: &mut Connection, target: &str) -> Echo {
    let response = connection.request("GET", target, &[], b"").unwrap();
    assert_eq!(response.status, 200, "{target}");
    Echo::of(&response)
}

#[test]
fn the_upstream_gets_another_path_and_all_others_the_one_that_was_asked_for() {
    let gateway = builder().start();
    let mut connection = gateway.connect();
    for (asked, expected) in [
        ("/api/", "/?seen=%2Fapi%2F"),
        ("/api/a/b%20c/?x=%2F&y", "/a/b%20c/?x=%2F&y&seen=%2Fapi%2Fa%2Fb%2520c%2F"),
        ("/whole?x", "/v2/whole?x&seen=%2Fwhole"),
        ("/orders/7/a/b", "/v2/a/b/of-7?seen=%2Forders%2F7%2Fa%2Fb"),
        ("/v1/a/..//x", ""),
        ("/v1/a", "/any/v1/a?seen=%2Fv1%2Fa"),
    ] {
        if expected.is_empty() {
            assert_eq!(connection.get(asked).unwrap().status, 400, "{asked}");
            connection = gateway.connect();
        } else {
            assert_eq!(target(&mut connection, asked).target, expected, "{asked}");
        }
    }
    let echo = target(&mut connection, "/named/a%2Fb");
    assert_eq!(echo.target, format!("/{HOST}/named/a%2Fb?seen=%2Fnamed%2Fa%252Fb"));
    assert_eq!(echo.headers.get("host"), Some("orders.internal:8080"));
    assert_eq!(echo.headers.get("x-forwarded-host"), Some(HOST));
    assert_eq!(echo.headers.get("x-path"), Some("/named/a%2Fb"));
    let record = gateway.wait_for_record("route", "named-rest");
    assert_eq!(record["path"], "/named/a%2Fb", "{record}");
}

#[test]
fn a_path_that_no_client_could_ask_for_goes_nowhere() {
    let gateway = builder().start();
    let mut connection = gateway.connect();
    for asked in ["/orders/7/", "/dots/;x"] {
        let response = connection.request("GET", asked, &[], b"").unwrap();
        assert_eq!(response.status, 400, "{asked}");
    }
    gateway.wait_for_metric("ringward_responses_generated_total", &[("flag", "bad_rewrite")], 2.0);
    assert!(gateway.upstream.requests().is_empty(), "nothing went upstream");
    assert_eq!(target(&mut connection, "/dots/a").target, "/.a/x?seen=%2Fdots%2Fa");
}

#[test]
fn http_2_has_path_and_authority() {
    let upstream = Http2Upstream::start();
    let cluster = format!("protocol = \"http2\"\nendpoints = [\"{}\"]", upstream.address());
    let host = Host::new(&[HOST]).route(
        "path = \"/api/{rest...}\"",
        "cluster = \"others\"\nrewrite = { prefix = \"/v2/\", host = \"orders.internal\" }",
    );
    let gateway = Gateway::builder().section(&format!("[cluster.others]\n{cluster}")).host(host).start();
    let echo = target(&mut gateway.connect(), "/api/a?b");
    assert_eq!((&*echo.target, echo.headers.get("host")), ("/v2/a?b", Some("orders.internal")));
}

#[test]
fn ringward_route_shows_where_a_request_goes() {
    let gateway = builder().start();
    for (asked, expected) in [
        ("/api/a/../b", "edit      request path: /b\n"),
        ("/named/x", "edit      request host: orders.internal:8080\n"),
        ("/orders/7/", "answer    400: the path for the upstream is in no normal form"),
    ] {
        let (said, _) = gateway.command("route", &[HOST, asked]);
        assert!(said.contains(expected), "{asked}: {expected} in\n{said}");
    }
}
