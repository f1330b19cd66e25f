//! Routes that ask for more than a path: header fields, query, the client's certificate, regular expressions.
#![allow(clippy::unwrap_used, reason = "a failed expectation here is a failed test")]

mod support;

use ringward_testkit::{Connection, DEADLINE, Echo, Leaf, eventually_some};

use self::support::{Builder, Gateway, HOST, Host};

const TENANTS: &str = "[tenant.acme]\ntrust = [\"partners\"]\nmatch = [{ organization = \"Acme\" }]\n";

/// A route by its name, what it matches, and its other keys.
type Route<'r> = (&'r str, &'r str, &'r str);

fn builder(mode: &str, routes: &[Route<'_>]) -> Builder {
    let host = Host::new(&[HOST]).client_auth(&format!("mode = \"{mode}\", trust = \"partners\""));
    Gateway::builder().section(TENANTS).host(routes.iter().fold(host, add))
}

fn add(host: Host, (id, matched, keys): &Route<'_>) -> Host {
    host.route(matched, &format!("id = \"{id}\"\n{keys}"))
}

/// Which route the record of a request has, or its status and flag if that is not 200.
fn taken(gateway: &Gateway, connection: &mut Connection, target: &str, fields: &[(&str, &str)]) -> String {
    let before = gateway.lines("request").len();
    let response = connection.request("GET", target, fields, b"").unwrap();
    let record =
        eventually_some(DEADLINE, "an access record", || gateway.lines("request").get(before).cloned());
    match response.status {
        200 => record["route"].as_str().unwrap_or("none").to_owned(),
        status => format!("{status} {}", record["flag"].as_str().unwrap_or("-")),
    }
}

#[test]
fn headers_and_query_choose_among_routes_of_one_path() {
    let gateway = builder(
        "required",
        &[
            ("any", "path = \"/a\"", ""),
            ("gold", "path = \"/a\", headers = { X-Tier = \"gold\" }", ""),
            (
                "both",
                "path = \"/a\", headers = { x-tier = \"gold\" }, query = { v = { regex = \"[0-9]+\" } }",
                "",
            ),
            ("only", "path = \"/only\", headers = { x-tier = { prefix = \"go\" } }", ""),
            ("regex", "regex = \"/v[0-9]+/[a-z]+\"", ""),
        ],
    )
    .start();
    let mut connection = gateway.connect();
    for (target, fields, expected) in [
        ("/a", &[][..], "any"),
        ("/a", &[("x-tier", "gold")], "gold"),
        ("/a?v=7", &[("x-tier", "gold")], "both"),
        ("/a?v=%37", &[("x-tier", "gold")], "both"),
        ("/a?v=x", &[("x-tier", "gold")], "gold"),
        ("/a?v=7", &[], "any"),
        // What a second value says counts as well, and what is for the connection alone does not.
        ("/a", &[("x-tier", "gold"), ("x-tier", "iron")], "any"),
        ("/a", &[("x-tier", "gold"), ("connection", "x-tier")], "any"),
        // An upstream may take it for the same field.
        ("/a", &[("x-tier", "gold"), ("X_Tier", "iron")], "any"),
        ("/only", &[("x-tier", "golden"), ("x_tier", "iron")], "404 conditions_unmet"),
        ("/only", &[("x-tier", "golden")], "only"),
        ("/only", &[], "404 conditions_unmet"),
        ("/v12/x", &[], "regex"),
        ("/v12/x%2e", &[], "404 no_route"),
        ("/%76%31/x", &[], "regex"),
        ("/v1/x/..", &[], "404 no_route"),
    ] {
        assert_eq!(taken(&gateway, &mut connection, target, fields), expected, "{target} {fields:?}");
    }
    gateway.wait_for_metric("ringward_responses_generated_total", &[("flag", "conditions_unmet")], 2.0);
}

#[test]
fn the_verified_client_chooses_among_routes_and_nobody_else_does() {
    let gateway = builder(
        "optional",
        &[
            ("any", "path = \"/a\"", ""),
            ("acme", "path = \"/a\", identity = { tenant = \"acme\" }", ""),
            ("prod", "path = \"/a\", identity = { san_uri = \"spiffe://a.example/ns/prod/*\" }", ""),
            ("unit", "path = \"/a\", identity = { ou = \"ops\", organization = \"Globex\" }", ""),
            ("own", "path = \"/own\", identity = { ou = \"ops\" }", ""),
        ],
    )
    .start();
    let root = &gateway.root;
    for (leaf, on_a, on_own) in [
        (None, "any", "404 conditions_unmet"),
        (Some(Leaf::client("a").organization("Acme")), "acme", "404 conditions_unmet"),
        (Some(Leaf::client("b").spiffe("spiffe://a.example/ns/prod/sa/x")), "prod", "404 conditions_unmet"),
        (Some(Leaf::client("b").spiffe("spiffe://a.example/ns/dev/sa/x")), "any", "404 conditions_unmet"),
        (Some(Leaf::client("c").organizational_unit("ops")), "any", "own"),
        (Some(Leaf::client("c").organizational_unit("ops").organization("Globex")), "unit", "own"),
    ] {
        let client = match &leaf {
            Some(leaf) => gateway.client().identity(&root.issue(leaf)),
            None => gateway.anonymous(),
        };
        let mut connection = client.connect(gateway.edge).unwrap();
        // What a client says about itself is nothing that a route is chosen by.
        let claims = [("x-tenant", "acme"), ("x-client-cert", "acme")];
        assert_eq!(taken(&gateway, &mut connection, "/a", &claims), on_a, "{leaf:?}");
        assert_eq!(taken(&gateway, &mut connection, "/own", &claims), on_own, "{leaf:?}");
    }
}

/// The route with the condition requires a certificate, and the one behind it none: leaving the header away must be seen coming.
#[test]
fn check_warns_where_a_laxer_route_takes_what_misses_a_condition() {
    let asking = "path = \"/a\", headers = { x-tier = \"gold\" }";
    for (routes, warning) in [
        (
            [("strict", asking, ""), ("lax", "path = \"/a\"", "client_auth = \"optional\"")],
            Some("which is laxer: its client_auth is \"optional\", not \"required\""),
        ),
        (
            [("lax", asking, "client_auth = \"optional\""), ("strict", "path = \"/a\"", "")],
            Some("whoever sends what is asked for here gets around the route \"strict\""),
        ),
        (
            [("one", asking, ""), ("two", "path = \"/a\", headers = { y = \"1\" }", "")],
            Some("this one is taken, as it stands first"),
        ),
        ([("one", asking, ""), ("two", "path = \"/a\", headers = { x-tier = \"iron\" }", "")], None),
        ([("one", asking, ""), ("two", "path = \"/a\"", "")], None),
        (
            [("one", "path = \"/a/{x}\"", ""), ("two", "regex = \"/a/[0-9]+\"", "")],
            Some("such as \"/a/0\" are taken by the route \"one\""),
        ),
    ] {
        let said = builder("required", &routes).check();
        match warning {
            Some(warning) => assert!(said.contains(warning), "{said}"),
            None => assert!(!said.contains("laxer") && !said.contains("stands first"), "{said}"),
        }
    }
}

#[test]
fn what_a_policy_sees_is_the_route_that_was_chosen() {
    let policy = "package ringward.authz\n\ndecision := {\"allowed\": input.route.id == \"gold\"}\n";
    let host = Host::new(&[HOST])
        .policy("main")
        .route("path = \"/a\", headers = { x-tier = \"gold\" }", "id = \"gold\"")
        .route("path = \"/a\"", "id = \"any\"");
    let gateway = Gateway::builder().policy("main", policy).host(host).start();
    let mut connection = gateway.connect();
    let gold = connection.request("GET", "/a", &[("x-tier", "gold")], b"").unwrap();
    assert_eq!(Echo::of(&gold).headers.get("x-tier"), Some("gold"));
    assert_eq!(connection.get("/a").unwrap().status, 403);
}
