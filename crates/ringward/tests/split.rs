//! Requests that a route divides among clusters: `split`.
#![allow(clippy::unwrap_used, reason = "a failed expectation here is a failed test")]

mod support;

use std::collections::{BTreeMap, BTreeSet};

use ringward_testkit::{Leaf, Script, Upstream};

use self::support::{Builder, Gateway, HOST, Host};

const POLICY: &str = r#"package ringward.authz

decision := {"allowed": true, "headers": {"x-upstream": input.route.upstream}}
"#;

/// A gateway with the clusters `echo` and `next`, and the upstream of the latter, which answers with 299.
fn builder() -> (Builder, Upstream) {
    let next = Upstream::start();
    let script = Script::new().send("HTTP/1.1 299 Next\r\ncontent-length: 0\r\n\r\n");
    for path in ["/any", "/user", "/who"] {
        next.on(path, script.clone());
    }
    let host = Host::new(&[HOST])
        .policy("main")
        .route("path = \"/any\"", "split = { weights = { echo = 1, next = 1 } }")
        .route(
            "path = \"/user\"",
            "split = { weights = { echo = 1, next = 1 }, by = { header = \"x-user\" } }",
        )
        .route(
            "path = \"/who\"",
            "split = { weights = { echo = 1, next = 1 }, by = { identity = \"fingerprint\" } }",
        )
        .route("path = \"/none\"", "split = { weights = { echo = 1, next = 0 } }");
    let section = format!("[cluster.next]\nendpoints = \"{}\"", next.address());
    (Gateway::builder().policy("main", POLICY).section(&section).host(host), next)
}

#[test]
fn chance_divides_requests_and_policies_see_where_they_go() {
    let (builder, _next) = builder();
    let gateway = builder.start();
    let mut connection = gateway.connect();
    let mut counts = BTreeMap::new();
    for _ in 0..100 {
        let response = connection.get("/any").unwrap();
        *counts.entry(response.status).or_insert(0) += 1;
        if response.status == 200 {
            let echo = ringward_testkit::Echo::of(&response);
            assert_eq!(echo.headers.get("x-upstream"), Some("echo"));
        }
        assert_eq!(connection.get("/none").unwrap().status, 200, "weight 0 gets nothing");
    }
    // That all go to the same is less likely than 1 in 2^98.
    assert!(counts.len() == 2 && counts[&200] + counts[&299] == 100, "{counts:?}");
    let metric = |cluster| gateway.metric("ringward_upstream_requests_total", &[("cluster", cluster)]);
    assert!(metric("next") > 0.0 && metric("echo") > 100.0);
}

#[test]
fn what_requests_have_in_common_keeps_them_together() {
    let (builder, _next) = builder();
    let gateway = builder.workers(2).start();
    let status = |user: &str| {
        let fields = [("x-user", user)];
        gateway.connect().request("GET", "/user", &fields, b"").unwrap().status
    };
    let users: Vec<String> = (0..40).map(|user| format!("user-{user}")).collect();
    let first: Vec<u16> = users.iter().map(|user| status(user)).collect();
    assert_eq!(first.iter().collect::<BTreeSet<_>>().len(), 2, "{first:?}");
    for _ in 0..3 {
        assert_eq!(users.iter().map(|user| status(user)).collect::<Vec<_>>(), first);
    }
    for client in 0..8 {
        let identity = gateway.root.issue(&Leaf::client(&format!("client-{client}")));
        let client = gateway.anonymous().identity(&identity);
        let status = || client.connect(gateway.edge).unwrap().get("/who").unwrap().status;
        let first = status();
        assert!((0..5).all(|_| status() == first));
    }
    // A cluster whose weight grows loses none, and a reload changes nothing else.
    gateway.reconfigure("next = 1 }, by = { header", "next = 9999 }, by = { header");
    for (user, before) in users.iter().zip(&first).filter(|(_, before)| **before == 299) {
        assert_eq!(status(user), *before, "{user}");
    }
}

#[test]
fn ringward_route_says_where_a_request_goes() {
    let (builder, _next) = builder();
    let client = builder.root().issue(&Leaf::client("caller"));
    let file = builder.pki().write("caller.pem", client.chain_pem());
    let gateway = builder.start();
    let cert = file.to_str().unwrap();
    let route =
        |arguments: &[&str]| gateway.command("route", &[&[HOST, "--cert", cert], arguments].concat()).0;
    let said = route(&["/any"]);
    assert!(said.contains("action    split echo 1, next 1\n"), "{said}");
    let said = route(&["/user", "--header", "x-user: a"]);
    let sure = |cluster| {
        said.contains(&format!("action    split echo 1, next 1 by header x-user: to cluster {cluster}\n"))
    };
    assert!(sure("echo") || sure("next"), "{said}");
    let user = [("x-user", "a")];
    let status = gateway.connect().request("GET", "/user", &user, b"").unwrap().status;
    assert!(sure(if status == 299 { "next" } else { "echo" }), "{said}");
}
