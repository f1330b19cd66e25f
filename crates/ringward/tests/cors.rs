//! Pages of other origins: `cors` of hosts and routes.
#![allow(clippy::unwrap_used, reason = "a failed expectation here is a failed test")]

mod support;

use ringward_testkit::{Connection, Http2, Response, Script, kind};

use self::support::{Builder, Gateway, HOST, Host};

const POLICY: &str = r#"package ringward.authz

default decision := {"allowed": false}

decision := {"allowed": true} if input.request.method != "OPTIONS"
"#;

fn builder() -> Builder {
    let host = Host::new(&[HOST])
        .client_auth("mode = \"optional\", trust = \"partners\"")
        .policy("main")
        .key("cors = { origins = [\"https://app.example.com\"], origin_regex = \"https://[a-z]+[.]dev[.]example[.]com\", headers = [\"X-Token\", \"content-type\"], expose_headers = [\"etag\"], credentials = true, max_age = \"1h\" }")
        .route("path = \"/orders\", methods = [\"GET\", \"PUT\"]", "")
        .route("path = \"/strict\"", "client_auth = \"required\"")
        .route("path = \"/open\"", "cors = { origins = [\"*\"] }")
        .route("grpc = \"shop.Orders/*\"", "")
        .route("path = \"/fixed\"", "respond = { status = 200, body = \"x\" }");
    let other = Host::new(&["other.example.com"])
        .client_auth("mode = \"optional\", trust = \"partners\"")
        .policy("main")
        .route("path = \"/orders\"", "");
    Gateway::builder().listener("http2 = true").policy("main", POLICY).host(host).host(other)
}

fn preflight(connection: &mut Connection, path: &str, fields: &[(&str, &str)]) -> Response {
    connection.request("OPTIONS", path, fields, b"").unwrap()
}

const APP: (&str, &str) = ("origin", "https://app.example.com");
const PUT: (&str, &str) = ("access-control-request-method", "PUT");

#[test]
fn preflights_are_answered_for_the_route_that_takes_the_method() {
    let gateway = builder().start();
    let mut connection = gateway.anonymous().connect(gateway.edge).unwrap();
    let headers = ("access-control-request-headers", "x-token,Content-Type");
    let response = preflight(&mut connection, "/orders", &[APP, PUT, headers]);
    assert_eq!(response.status, 204);
    for (name, value) in [
        ("access-control-allow-origin", "https://app.example.com"),
        ("access-control-allow-credentials", "true"),
        ("access-control-allow-methods", "PUT"),
        ("access-control-allow-headers", "x-token, content-type"),
        ("access-control-max-age", "3600"),
    ] {
        assert_eq!(response.headers.get(name), Some(value), "{name}");
    }
    assert!(response.headers.get("vary").unwrap().contains("origin"));
    // It is no call of gRPC itself.
    let response =
        preflight(&mut connection, "/shop.Orders/Get", &[APP, ("access-control-request-method", "POST")]);
    assert_eq!((response.status, response.headers.get("access-control-allow-methods")), (204, Some("POST")));
    let response = preflight(&mut connection, "/open", &[("origin", "null"), PUT]);
    assert_eq!(response.headers.get("access-control-allow-origin"), Some("*"));
    assert!(!response.headers.contains("access-control-allow-credentials"));
    gateway.wait_for_metric("ringward_responses_generated_total", &[("flag", "preflight")], 3.0);
    assert!(gateway.upstream.requests().is_empty(), "nothing went upstream");
}

#[test]
fn what_is_not_allowed_is_not_said_to_be() {
    let gateway = builder().start();
    let mut connection = gateway.anonymous().connect(gateway.edge).unwrap();
    let long = ("access-control-request-headers", "x-token, x-other");
    for (path, fields, status) in [
        ("/orders", &[("origin", "https://evil.example.com"), PUT][..], 204),
        ("/orders", &[("origin", "https://app.example.com.evil"), PUT], 204),
        ("/orders", &[("origin", "https://a.devXexample.com"), PUT], 204),
        ("/orders", &[APP, PUT, long], 204),
        // The route does not take it, and OPTIONS neither.
        ("/orders", &[APP, ("access-control-request-method", "DELETE")], 405),
        ("/orders", &[APP, APP, PUT], 405),
        // No preflight, so the policy decides about it.
        ("/open", &[APP], 403),
        // The mode of the route counts for preflights too.
        ("/strict", &[APP, PUT], 403),
    ] {
        let response = preflight(&mut connection, path, fields);
        assert_eq!(response.status, status, "{path} {fields:?}");
        assert!(!response.headers.iter().any(|(name, _)| name.starts_with("access-control-")), "{fields:?}");
    }
    let mut known = gateway.connect();
    assert_eq!(preflight(&mut known, "/strict", &[APP, PUT]).status, 204);
    // Of a host without `cors` it is a request like others.
    let mut other = gateway.anonymous().server_name("other.example.com").connect(gateway.edge).unwrap();
    assert_eq!(preflight(&mut other, "/orders", &[APP, PUT, ("host", "other.example.com")]).status, 403);
    assert!(gateway.upstream.requests().is_empty(), "nothing went upstream");
}

#[test]
fn responses_say_what_the_configuration_says() {
    let gateway = builder().start();
    let head = "HTTP/1.1 200 OK\r\nAccess-Control-Allow-Origin: *\r\naccess-control-allow-methods: X\r\nvary: accept\r\ncontent-length: 0\r\n\r\n";
    gateway.upstream.on("/orders", Script::new().send(head));
    let mut connection = gateway.connect();
    for (origin, allowed) in [
        (Some("https://app.example.com"), true),
        (Some("https://a.dev.example.com"), true),
        (Some("https://evil.example.com"), false),
        (None, false),
    ] {
        let fields: Vec<(&str, &str)> = origin.map(|origin| ("origin", origin)).into_iter().collect();
        for path in ["/orders", "/fixed"] {
            let response = connection.request("GET", path, &fields, b"").unwrap();
            assert_eq!(response.status, 200, "it is no access control");
            let of = |name| response.headers.get(name);
            assert_eq!(of("access-control-allow-origin"), origin.filter(|_| allowed), "{path} {origin:?}");
            assert_eq!(of("access-control-allow-credentials"), allowed.then_some("true"));
            assert_eq!(of("access-control-expose-headers"), allowed.then_some("etag"));
            assert!(!response.headers.contains("access-control-allow-methods"));
            assert!(response.headers.all("vary").contains(&"origin"), "{:?}", response.headers);
        }
    }
}

#[test]
fn http_2_has_the_same_answers() {
    let gateway = builder().start();
    let connection = gateway.client().alpn(&["h2"]).connect(gateway.edge).unwrap();
    let mut client = Http2::new(connection, &[]);
    client.request(1, "OPTIONS", "/orders", &[APP, PUT], true).unwrap();
    let fields = client.wait_for(kind::HEADERS).fields();
    let has = |name: &str, value: &str| fields.iter().any(|(n, v)| n == name && v == value);
    assert!(has(":status", "204") && has("access-control-allow-methods", "PUT"), "{fields:?}");
    client.request(3, "GET", "/orders", &[APP], true).unwrap();
    let fields = client.wait_for(kind::HEADERS).fields();
    assert!(fields.iter().any(|(n, v)| n == "access-control-allow-origin" && v == APP.1), "{fields:?}");
}
