//! Header fields that hosts and routes change on the way: `request_headers` and `response_headers`.
#![allow(clippy::unwrap_used, reason = "a failed expectation here is a failed test")]

mod support;

use ringward_testkit::{Connection, Echo, Headers, Http2, Http2Upstream, Leaf, Script, kind};

use self::support::{Builder, Gateway, HOST, Host};

const POLICY: &str = r#"package ringward.authz

default decision := {"allowed": true}

decision := {"allowed": true, "headers": {"x-decided": "policy"}, "request_headers_to_remove": ["x-gone"], "response_headers_to_add": {"x-policy": "seen"}} if {
	input.request.path == "/decided"
	input.request.headers["x-client"] == "mine"
}
"#;

fn builder() -> Builder {
    let host = Host::new(&[HOST])
        .client_auth("mode = \"optional\", trust = \"partners\"")
        .policy("main")
        .key("request_headers = { set = { x-host = \"{host}\", x-both = \"host\" }, remove = [\"x-debug\"] }")
        .key("response_headers = { set = { strict-transport-security = \"max-age=1\" }, remove = [\"Server\"] }")
        .route(
            "path = \"/orders/{id}\"",
            "request_headers = { set = { x-order = \"{id}\", x-tenant = \"{client.tenant}\", x-client = \"{client.identity}\", x-both = \"route\" }, append = { x-list = \"{request.method} {path}{query} {client.ip}\" } }\nresponse_headers = { set = { date = \"today\", x-id = \"{request.id}\" }, append = { set-cookie = \"b=2\" } }",
        )
        .route(
            "path = \"/decided\"",
            "request_headers = { set = { x-decided = \"route\" }, append = { x-gone = \"route\" } }",
        )
        .route(
            "path = \"/fixed\"",
            "respond = { status = 200, body = \"x\" }\nresponse_headers = { set = { Content-Type = \"text/x\", x-who = \"{client.subject}\" } }",
        )
        .route("path = \"/{rest...}\"", "request_headers = { set = { x-subject = \"{client.subject}\", x-rest = \"{rest}{rest}\" } }");
    Gateway::builder().policy("main", POLICY).host(host)
}

/// What the upstream received for a GET with these fields.
fn echo(connection: &mut Connection, target: &str, fields: &[(&str, &str)]) -> Headers {
    let response = connection.request("GET", target, fields, b"").unwrap();
    assert_eq!(response.status, 200, "{target}");
    Echo::of(&response).headers
}

#[test]
fn what_is_set_replaces_every_spelling_and_what_has_nothing_to_say_is_absent() {
    let gateway = builder().start();
    let forged = [
        ("x-tenant", "forged"),
        ("X_Tenant", "forged"),
        ("X-Client", "forged"),
        ("x_order", "forged"),
        ("x-host", "forged"),
        ("x-debug", "1"),
        ("X_DEBUG", "1"),
        ("x-list", "mine"),
    ];
    for known in [true, false] {
        let mut connection =
            if known { gateway.connect() } else { gateway.anonymous().connect(gateway.edge).unwrap() };
        let headers = echo(&mut connection, "/orders/7%20a?x=1", &forged);
        assert_eq!(headers.all("x-order"), ["7%20a"]);
        assert_eq!(headers.all("x-host"), [HOST]);
        assert_eq!(headers.all("x-both"), ["route"], "the route's word replaces the host's");
        assert_eq!(headers.all("x-list"), ["mine", "GET /orders/7%20a?x=1 127.0.0.1"]);
        assert_eq!(headers.all("x-client"), if known { &["CN=partner-a"][..] } else { &[] });
        for gone in ["x-tenant", "x_tenant", "x_order", "x-debug", "x_debug"] {
            assert!(!headers.contains(gone), "{gone}: {headers:?}");
        }
    }
}

/// Upstreams that put trailers to the other fields would read them beside what is written, or instead.
#[test]
fn trailers_are_no_way_around() {
    let gateway = builder().start();
    let trailers = "X-Client: forged\r\nx_order: forged\r\nx-debug: 1\r\nx-forwarded-for: 192.0.2.1\r\nForwarded: for=a\r\nx-kept: 1\r\n";
    let mut connection = gateway.connect();
    let head = format!("POST /orders/7 HTTP/1.1\r\nhost: {HOST}\r\ntransfer-encoding: chunked\r\n\r\n");
    connection.send(format!("{head}2\r\nok\r\n0\r\n{trailers}\r\n").as_bytes()).unwrap();
    let echo = Echo::of(&connection.response().unwrap());
    assert_eq!(echo.headers.all("x-client"), ["CN=partner-a"]);
    assert_eq!(echo.trailers.iter().collect::<Vec<_>>(), [("x-kept", "1")]);
}

#[test]
fn responses_have_their_fields_whoever_answers() {
    let gateway = builder().start();
    let head = "HTTP/1.1 200 OK\r\nserver: secret\r\ndate: x\r\nset-cookie: a=1\r\ncontent-length: 0\r\n\r\n";
    gateway.upstream.on("/orders/1", Script::new().send(head));
    let mut connection = gateway.connect();
    let response = connection.get("/orders/1").unwrap();
    assert_eq!(response.headers.all("date"), ["today"]);
    assert_eq!(response.headers.all("set-cookie"), ["a=1", "b=2"]);
    assert!(!response.headers.contains("server"), "{:?}", response.headers);
    assert_eq!(response.headers.all("strict-transport-security"), ["max-age=1"]);
    let record = gateway.wait_for_record("route", "orders-id");
    assert_eq!(response.headers.get("x-id"), record["request.id"].as_str(), "{record}");
    let response = connection.get("/fixed").unwrap();
    assert_eq!(response.headers.all("content-type"), ["text/x"]);
    assert_eq!(response.headers.all("x-who"), ["CN=partner-a"]);
    assert_eq!(response.headers.all("strict-transport-security"), ["max-age=1"]);
}

#[test]
fn the_policy_sees_what_the_client_sent_and_has_the_last_word() {
    let gateway = builder().start();
    let mut connection = gateway.connect();
    let fields = [("x-client", "mine"), ("x-gone", "mine"), ("x_gone", "mine"), ("X_Decided", "mine")];
    let response = connection.request("GET", "/decided", &fields, b"").unwrap();
    assert_eq!(response.headers.all("x-policy"), ["seen"]);
    let headers = Echo::of(&response).headers;
    assert_eq!(headers.all("x-decided"), ["policy"]);
    for gone in ["x-gone", "x_gone", "x_decided"] {
        assert!(!headers.contains(gone), "{gone}: {headers:?}");
    }
    let headers = echo(&mut connection, "/decided", &[("x-gone", "mine")]);
    assert_eq!(headers.all("x-decided"), ["route"]);
    assert_eq!(headers.all("x-gone"), ["mine", "route"]);
}

/// A name with bytes beyond ASCII is read differently by different servers, so none of them gets it.
#[test]
fn a_value_that_no_field_can_have_goes_nowhere() {
    let gateway = builder().start();
    let foreign = gateway.root.issue(&Leaf::client("caller").organization("Jürgen"));
    let mut connection = gateway.anonymous().identity(&foreign).connect(gateway.edge).unwrap();
    let response = connection.get("/any").unwrap();
    assert_eq!(response.status, 500);
    gateway.wait_for_record("flag", "bad_header_value");
    assert_eq!(connection.get("/fixed").unwrap().status, 500);
    assert!(gateway.upstream.requests().is_empty(), "nothing went upstream");
    assert_eq!(connection.get("/orders/1").unwrap().status, 500, "its name has it too");
}

/// What makes a value too long is what the client has sent: that is no fault of ours.
#[test]
fn a_value_that_the_client_makes_too_long_is_its_own_fault() {
    let gateway = builder().start();
    let mut connection = gateway.connect();
    // Path and query stand in one value each, together with a few bytes more, or twice.
    for (target, status) in [
        (format!("/{}", "a".repeat(4096)), 200),
        (format!("/{}", "a".repeat(4097)), 431),
        (format!("/orders/1?{}", "q".repeat(8150)), 200),
        (format!("/orders/1?{}", "q".repeat(8192)), 431),
    ] {
        let response = connection.get(&target).unwrap();
        assert_eq!(response.status, status, "{} bytes", target.len());
    }
    let record = gateway.wait_for_record("flag", "header_value_too_long");
    assert_eq!(record["status"], 431, "{record}");
    assert_eq!(gateway.upstream.requests().len(), 2);
    gateway.wait_for_metric("ringward_responses_generated_total", &[("flag", "header_value_too_long")], 2.0);
}

/// What is removed of responses is not there for clients, wherever the upstream has put it.
#[test]
fn trailers_of_responses_are_no_way_around() {
    let gateway = builder().start();
    let trailers = "Server: secret\r\ndate: x\r\nx_id: y\r\nx-sum: 1\r\n";
    let answer =
        format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n{trailers}\r\n");
    gateway.upstream.on("/orders/1", Script::new().send(&answer));
    let mut connection = gateway.connect();
    let response = connection.get("/orders/1").unwrap();
    assert_eq!(response.text(), "ok");
    assert_eq!(response.trailers.iter().collect::<Vec<_>>(), [("x-sum", "1")]);
}

#[test]
fn http_2_has_the_same_fields_on_both_sides() {
    let upstream = Http2Upstream::start();
    let host = Host::new(&[HOST]).route(
        "path = \"/{rest...}\"",
        "cluster = \"others\"\nrequest_headers = { set = { x-rest = \"{rest}\" }, append = { x-list = \"ours\" }, remove = [\"x-debug\"] }\nresponse_headers = { set = { date = \"today\" }, append = { x-id = \"{request.id}\" } }",
    );
    let cluster =
        format!("[cluster.others]\nendpoints = {:?}\nprotocol = \"http2\"", upstream.address().to_string());
    let gateway = Gateway::builder().listener("http2 = true").section(&cluster).host(host).start();
    let connection = gateway.client().alpn(&["h2"]).connect(gateway.edge).unwrap();
    let mut client = Http2::new(connection, &[]);
    let fields = [("x-rest", "forged"), ("x_rest", "forged"), ("x-debug", "1"), ("x-list", "mine")];
    client.request(1, "GET", "/a/b", &fields, true).unwrap();
    let response = client.wait_for(kind::HEADERS).fields();
    let of = |name: &str| -> Vec<&str> {
        response.iter().filter(|(other, _)| other == name).map(|(_, value)| &**value).collect()
    };
    assert_eq!(
        (of(":status"), of("date"), of("x-id").len()),
        (vec!["200"], vec!["today"], 1),
        "{response:?}"
    );
    let body = client.wait_for(kind::DATA).payload;
    let echo: Echo = serde_json::from_slice(&body).unwrap();
    assert_eq!(echo.headers.all("x-rest"), ["a/b"]);
    assert_eq!(echo.headers.all("x-list"), ["mine", "ours"]);
    assert!(!echo.headers.contains("x-debug") && !echo.headers.contains("x_rest"), "{:?}", echo.headers);
}

#[test]
fn ringward_route_shows_the_fields() {
    let gateway = builder().start();
    for (arguments, expected) in [
        (
            &["/orders/7?a=b"][..],
            &[
                "edit      request header x-order: 7\n",
                "edit      request header x-both: route\n",
                "edit      request header x-list: GET /orders/7?a=b 127.0.0.1\n",
                "edit      no request header x-debug\n",
                "edit      response header set-cookie: b=2\n",
                "edit      no response header server\n",
            ][..],
        ),
        (
            &["/decided", "--header", "x-client: mine"],
            &["edit      request header x-decided: policy\n", "edit      no request header x-gone\n"],
        ),
    ] {
        let arguments: Vec<&str> = [&[HOST][..], arguments].concat();
        let (said, _) = gateway.command("route", &arguments);
        for expected in expected {
            assert!(said.contains(expected), "{arguments:?}: {expected} in\n{said}");
        }
        assert!(!said.contains("x-tenant") && !said.contains("x-decided: route"), "{said}");
    }
}
