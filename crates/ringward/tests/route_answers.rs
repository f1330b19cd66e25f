//! Routes that answer by themselves: redirects and fixed responses; and what `ringward route` says of all routes.
#![allow(clippy::unwrap_used, reason = "a failed expectation here is a failed test")]

mod support;

use ringward_testkit::Leaf;
use serde_json::Value;

use self::support::{Builder, Gateway, HOST, Host};

const POLICY: &str = r#"package ringward.authz

default decision := {"allowed": false, "rule": "default"}

decision := {"allowed": true, "rule": "open", "headers": {"x-from": "policy"}, "response_headers_to_add": {"x-policy": "seen"}} if {
	not startswith(input.request.path, "/closed")
}
"#;

fn builder() -> Builder {
    let host = Host::new(&[HOST])
        .client_auth("mode = \"optional\", trust = \"partners\"")
        .policy("main")
        .route("path = \"/old/{id}/{rest...}\"", "redirect = { to = \"https://{host}/new/{id}?r={rest}\" }")
        .route("path = \"/moved\"", "redirect = { to = \"/here{path}{query}\", status = 302 }")
        .route(
            "path = \"/fixed\"",
            "respond = { status = 418, body = \"{}\", content_type = \"application/json\" }",
        )
        .route("path = \"/empty\"", "respond = { status = 204 }")
        .route("path = \"/closed\"", "respond = { status = 200, body = \"secret\" }")
        .route(
            "path = \"/strict\"",
            "respond = { status = 200, body = \"secret\" }\nclient_auth = \"required\"",
        )
        .route("path = \"/up/{id}\", headers = { x-tier = \"gold\" }", "id = \"up\"");
    Gateway::builder().policy("main", POLICY).host(host)
}

#[test]
fn redirects_and_fixed_responses_come_after_authentication_and_policy() {
    let gateway = builder().start();
    let mut connection = gateway.anonymous().connect(gateway.edge).unwrap();
    let here = format!("https://{HOST}/new/7?r=a/b");
    for (method, target, status, location, content_type, body) in [
        ("GET", "/old/7/a/b?x=1", 308, Some(&*here), None, ""),
        ("POST", "/old/7/a/b", 308, Some(&*here), None, ""),
        ("GET", "/moved?x=%0d%0a", 302, Some("/here/moved?x=%0d%0a"), None, ""),
        ("GET", "/fixed", 418, None, Some("application/json"), "{}"),
        ("HEAD", "/fixed", 418, None, Some("application/json"), ""),
        ("GET", "/empty", 204, None, None, ""),
        ("GET", "/closed", 403, None, Some("text/plain; charset=utf-8"), "forbidden\n"),
        ("GET", "/strict", 403, None, Some("text/plain; charset=utf-8"), "forbidden\n"),
    ] {
        let response = connection.request(method, target, &[], b"").unwrap();
        assert_eq!(response.status, status, "{method} {target}");
        assert_eq!(response.headers.get("location"), location, "{method} {target}");
        assert_eq!(response.headers.get("content-type"), content_type, "{method} {target}");
        assert_eq!(String::from_utf8_lossy(&response.body), body, "{method} {target}");
        let added = response.headers.get("x-policy");
        assert_eq!(added, (status != 403).then_some("seen"), "{method} {target}");
    }
    assert!(gateway.upstream.requests().is_empty(), "nothing went upstream");
    let record = gateway.wait_for_record("flag", "redirected");
    assert_eq!((&record["status"], &record["policy"]), (&308.into(), &"main".into()), "{record}");
    gateway.wait_for_metric("ringward_responses_generated_total", &[("flag", "responded")], 3.0);
}

#[test]
fn a_body_that_is_sent_along_does_not_become_the_next_request() {
    let gateway = builder().start();
    let mut connection = gateway.connect();
    let smuggled = b"GET /closed HTTP/1.1\r\nhost: x\r\n\r\n";
    let response = connection.request("POST", "/fixed", &[], smuggled).unwrap();
    assert_eq!(response.status, 418);
    // Either the body was thrown away, or the connection ends.
    if let Ok(next) = connection.get("/empty") {
        assert_eq!(next.status, 204);
    }
}

#[test]
fn ringward_route_says_what_would_happen() {
    let builder = builder();
    let client = builder.root().issue(&Leaf::client("caller").organization("Acme"));
    let file = builder.pki().write("caller.pem", client.chain_pem());
    let gateway = builder.start();
    let cert = file.to_str().unwrap();
    for (arguments, expected) in [
        (&["/fixed"][..], &["action    respond 418", "client    nobody (client_auth is \"optional\")"][..]),
        (&["/old/7/a%2e"], &["id = 7", "rest = a.", "action    redirect 308"]),
        (
            &["/closed"],
            &["policy    main: denied, rule default", "answer    403: the policy does not allow it"],
        ),
        (&["/strict"], &["answer    403: the route requires a client certificate"]),
        (&["/strict", "--cert", cert], &["client    O=Acme,CN=caller", "action    respond 200"]),
        (&["/up/1"], &["answer    404: routes take this path and method, but"]),
        (
            &["/up/1", "--header", "X-Tier: gold", "--cert", cert],
            &[
                "route     up at line",
                "any method /up/{id} if header x-tier is \"gold\"",
                "edit      request header x-from: policy",
                "edit      request header client-cert: the client's certificate",
                "action    cluster echo",
            ],
        ),
        (&["/nowhere"], &["answer    404: no route matches"]),
        (&["/a/../.."], &["answer    400: "]),
    ] {
        let arguments: Vec<&str> = [&[HOST][..], arguments].concat();
        let (said, _) = gateway.command("route", &arguments);
        for expected in expected {
            assert!(said.contains(expected), "{arguments:?}: {expected} in\n{said}");
        }
    }
    let (said, good) = gateway.command("route", &[HOST, "/up/1", "--header", "x-tier: gold", "--json"]);
    let json: Value = serde_json::from_str(&said).unwrap();
    let answer = &json["listeners"][0];
    assert!(good && answer["cluster"] == "echo" && answer["decision"]["decision"] == "allowed", "{said}");
    assert!(gateway.upstream.requests().is_empty(), "nothing was sent");
    let (said, good) = gateway.command("route", &[HOST, "/x", "--header", "no colon"]);
    assert!(!good && said.contains("is no header field"), "{said}");
}
