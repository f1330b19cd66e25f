use super::*;
use crate::input::sample;
use crate::input::subject::Claims;
use crate::input::view::{ConnectionView, RouteView};

fn build(view: &RequestView<'_>) -> Value {
    build_for(&sample::subject(), view).unwrap()
}

fn build_for(subject: &Subject, view: &RequestView<'_>) -> Result<Value, DecisionError> {
    Builder::new(&Reads::everything()).build(subject, view)
}

fn json(value: &Value) -> String {
    value.to_json_str().unwrap()
}

#[test]
fn the_document_is_as_documented() {
    let golden = include_str!("golden.json");
    assert_eq!(json(&build(&sample::request())).trim(), golden.trim());
}

#[test]
fn what_envoy_leaves_out_is_missing() {
    let connection = ConnectionView { sni: "", ..sample::connection() };
    let subject = Subject::from_claims(&Claims::default(), &connection);
    let request = RequestView { query: None, path: "/", headers: &[], body: None, ..sample::request() };
    let document = build_for(&subject, &request).unwrap();
    let attributes = &document["attributes"];
    assert_eq!(attributes["source"]["principal"], Value::Undefined);
    assert_eq!(attributes["tlsSession"], Value::Undefined);
    assert_eq!(attributes["contextExtensions"], Value::Undefined);
    let http = &attributes["request"]["http"];
    assert_eq!((&http["body"], &http["size"]), (&Value::Undefined, &Value::Undefined));
    assert_eq!(http["path"], text("/"));
    // But these are there: the plugin adds them to every input.
    assert_eq!(document["parsed_body"], Value::Null);
    assert_eq!(document["truncated_body"], Value::Bool(false));
    assert_eq!(json(&document["parsed_path"]).replace(char::is_whitespace, ""), "[\"\"]");
    assert_eq!(document["parsed_query"], Value::new_object());
}

#[test]
fn a_client_is_named_as_envoy_names_it() {
    let of = |claims: Claims<'_>| {
        let subject = Subject::from_claims(&claims, &sample::connection());
        build_for(&subject, &sample::request()).unwrap()["attributes"]["source"]["principal"].clone()
    };
    let texts = |texts: &[&str]| texts.iter().map(ToString::to_string).collect::<Vec<_>>().into();
    assert_eq!(of(sample::claims()), text("spiffe://example.com/ns/sample/sa/client"));
    assert_eq!(of(Claims { uris: texts(&[]), ..sample::claims() }), text("client.example.com"));
    let unnamed = || Claims { uris: texts(&[]), dns: texts(&[]), ..sample::claims() };
    assert_eq!(of(unnamed()), text("CN=client,OU=Engineering,O=Example"));
    assert_eq!(of(Claims { subject: "", ..unnamed() }), Value::Undefined);
    assert_eq!(of(Claims { verified: false, ..sample::claims() }), Value::Undefined);
}

#[test]
fn one_builder_tells_connections_apart() {
    let mut builder = Builder::new(&Reads::everything());
    let other = ConnectionView { remote: "192.0.2.8:5".parse().unwrap(), ..sample::connection() };
    let (one, other) = (sample::subject(), Subject::from_claims(&Claims::default(), &other));
    for _ in 0..2 {
        for (subject, address) in [(&one, "192.0.2.7"), (&one, "192.0.2.7"), (&other, "192.0.2.8")] {
            let document = builder.build(subject, &sample::request()).unwrap();
            let source = &document["attributes"]["source"];
            assert_eq!(source["address"]["socketAddress"]["address"], text(address));
            assert_eq!(source["principal"] == Value::Undefined, address == "192.0.2.8");
        }
    }
}

#[test]
fn an_encoded_slash_never_separates() {
    let request = RequestView { path: "/a%2Fb/c%20d", query: Some("x=%2F"), ..sample::request() };
    let document = build(&request);
    assert_eq!(document["parsed_path"], Value::from(vec![text("a/b"), text("c d")]));
    assert_eq!(document["attributes"]["request"]["http"]["path"], text("/a%2Fb/c%20d?x=%2F"));
}

#[test]
fn headers_are_those_of_the_client_and_of_the_request_line() {
    let headers = [
        ("host", "other.example:8443"),
        ("x-a", "1"),
        ("x-forwarded-client-cert", "forged"),
        ("x-envoy-auth-partial-body", "false"),
        ("x-a", "2"),
        ("cookie", "a=1"),
    ];
    let request = RequestView { headers: &headers, body: None, ..sample::request() };
    let expected = r#"{":authority": "api.example.com", ":method": "GET", ":path": "/orders/17?page=2&tag=a&tag=b",
        ":scheme": "https", "cookie": "a=1", "x-a": "1,2"}"#;
    let headers = build(&request)["attributes"]["request"]["http"]["headers"].clone();
    assert_eq!(headers, Value::from_json_str(expected).unwrap());
}

/// As `net/url` in Go: pairs that it cannot decode are left out.
#[test]
fn the_query_is_read_as_the_plugin_reads_it() {
    for (query, expected) in [
        ("a=1&b=x+y&a=%32", r#"{"a": ["1", "2"], "b": ["x y"]}"#),
        ("a&b=", r#"{"a": [""], "b": [""]}"#),
        ("a=%zz&b=1&c=%4", r#"{"b": ["1"]}"#),
        ("a;b=1&c=2;d", "{}"),
        ("&&=1", r#"{"": ["1"]}"#),
        ("", "{}"),
    ] {
        let request = RequestView { query: Some(query), ..sample::request() };
        assert_eq!(build(&request)["parsed_query"], Value::from_json_str(expected).unwrap(), "{query}");
    }
}

#[test]
fn labels_are_the_context_extensions() {
    let labels = [("team".to_owned(), "a".to_owned())];
    let route = RouteView { labels: &labels, ..sample::request().route };
    let document = build(&RequestView { route, ..sample::request() });
    assert_eq!(
        document["attributes"]["contextExtensions"],
        Value::from_json_str(r#"{"team": "a"}"#).unwrap()
    );
}

fn with_body(content_type: &str, bytes: &[u8], truncated: bool) -> Result<Value, DecisionError> {
    let headers = [("content-type", content_type)];
    let body = Some(BodyView { bytes, truncated });
    build_for(&sample::subject(), &RequestView { headers: &headers, body, ..sample::request() })
}

#[test]
fn a_body_is_parsed_by_its_type() {
    for (content_type, body, parsed) in [
        ("application/json; charset=utf-8", r#"{"a": 1}"#, r#"{"a": 1}"#),
        ("application/json", "", "null"),
        ("application/x-www-form-urlencoded", "a=1&a=2", r#"{"a": ["1", "2"]}"#),
        ("application/problem+json", "{}", "null"),
        ("Application/JSON", "{}", "null"),
        ("text/plain", "a=1", "null"),
        ("application/grpc", "x", "null"),
    ] {
        let document = with_body(content_type, body.as_bytes(), false).unwrap();
        assert_eq!(document["parsed_body"], Value::from_json_str(parsed).unwrap(), "{content_type}");
        let http = &document["attributes"]["request"]["http"];
        let expected = if body.is_empty() { Value::Undefined } else { text(body) };
        assert_eq!(http["body"], expected, "{content_type}");
        assert_eq!(http["headers"][PARTIAL_BODY], text("false"));
    }
    let document = with_body("application/json", b"{\"a\": 1", true).unwrap();
    assert_eq!((&document["parsed_body"], &document["truncated_body"]), (&Value::Null, &Value::Bool(true)));
    let http = &document["attributes"]["request"]["http"];
    assert_eq!((&http["size"], &http["headers"][PARTIAL_BODY]), (&text("7"), &text("true")));
    let document = with_body("text/plain", b"a\xff\xfeb", false).unwrap();
    assert_eq!(document["attributes"]["request"]["http"]["body"], text("a!!b"));
}

/// The plugin decides about none of these either.
#[test]
fn a_body_that_cannot_be_parsed_is_decided_by_no_policy_that_reads_it() {
    let cases = [
        ("application/json", "{"),
        ("application/json", r#"{"a": 1, "a": 2}"#),
        ("application/x-www-form-urlencoded", "a=%zz"),
        ("multipart/form-data; boundary=x", "--x--"),
    ];
    for (content_type, body) in cases {
        assert!(with_body(content_type, body.as_bytes(), false).is_err(), "{content_type}");
        let headers = [("content-type", content_type)];
        let body = Some(BodyView { bytes: body.as_bytes(), truncated: false });
        let request = RequestView { headers: &headers, body, ..sample::request() };
        for path in BODY {
            let mut builder = Builder::new(&Reads::from_dotted(&[&path.join(".")]));
            assert!(builder.build(&sample::subject(), &request).is_err(), "{path:?}");
        }
        // Another policy of the route may have asked for it.
        let mut builder = Builder::new(&Reads::from_dotted(&["parsed_path"]));
        assert!(builder.build(&sample::subject(), &request).is_ok());
    }
}

#[test]
fn only_what_is_read_is_built() {
    for (path, expected) in [
        ("parsed_path", r#"{"parsed_path": ["orders", "17"]}"#),
        ("attributes.request.http.method", r#"{"attributes": {"request": {"http": {"method": "GET"}}}}"#),
        ("attributes.request.time", r#"{"attributes": {"request": {"time": "2027-01-15T08:00:00Z"}}}"#),
        (
            "attributes.metadataContext.filterMetadata.ringward.time",
            r#"{"attributes": {"metadataContext": {"filterMetadata": {"ringward": {"time": {"unix_s": 1800000000}}}}}}"#,
        ),
    ] {
        let mut builder = Builder::new(&Reads::from_dotted(&[path]));
        let document = builder.build(&sample::subject(), &sample::request()).unwrap();
        assert_eq!(document, Value::from_json_str(expected).unwrap(), "{path}");
    }
}

#[test]
fn a_result_is_the_plugins() {
    let decide = |json: &str| decision(&Value::from_json_str(json).unwrap());
    assert!(decide("true").unwrap().allowed);
    assert!(decide(r#"{"allowed": true, "headers": {"x-a": ["1", "2"]}}"#).unwrap().allowed);
    for none in [r#"{"allow": true}"#, r#"{"allowed": true, "allow": true}"#, "{}", "1"] {
        assert!(decide(none).is_err(), "{none}");
    }
    assert!(!decision(&Value::Undefined).unwrap().allowed);
}
