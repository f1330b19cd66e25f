use super::*;
use crate::input::sample;
use crate::input::subject::Claims;
use crate::input::view::RouteView;

fn build_for(subject: &Subject, view: &RequestView<'_>) -> Result<Value, DecisionError> {
    Builder::new(&Reads::everything()).build(subject, view)
}

fn http(view: &RequestView<'_>) -> Value {
    build_for(&sample::subject(), view).unwrap()["request"]["http"].clone()
}

fn parsed(json: &str) -> Value {
    Value::from_json_str(json).unwrap()
}

#[test]
fn the_document_is_as_documented() {
    let golden = include_str!("golden.json");
    let document = build_for(&sample::subject(), &sample::request()).unwrap();
    assert_eq!(document.to_json_str().unwrap().trim(), golden.trim());
}

#[test]
fn a_client_without_certificate_is_no_consumer() {
    let subject = Subject::from_claims(&Claims::default(), &sample::connection());
    let document = build_for(&subject, &sample::request()).unwrap();
    assert_eq!(document["consumer"], Value::Undefined);
    assert_eq!(document["request"]["http"]["tls"]["client_verify"], text("NONE"));
}

#[test]
fn values_of_one_name_are_a_list() {
    let headers = [("x-a", "1"), ("x-forwarded-client-cert", "forged"), ("x-b", ""), ("x-a", "2")];
    let request = RequestView { headers: &headers, ..sample::request() };
    assert_eq!(http(&request)["headers"], parsed(r#"{"x-a": ["1", "2"], "x-b": ""}"#));
    for (query, expected) in [
        ("a=1&b=x+y%21&a=2", r#"{"a": ["1", "2"], "b": "x y!"}"#),
        ("a&b=", r#"{"a": true, "b": ""}"#),
        ("a&a=1", r#"{"a": [true, "1"]}"#),
        ("=1&", "{}"),
    ] {
        let request = RequestView { query: Some(query), ..sample::request() };
        assert_eq!(http(&request)["querystring"], parsed(expected), "{query}");
    }
}

#[test]
fn parameters_are_captures() {
    let route = RouteView { params: &[("b", "x%20y"), ("a", "1")], ..sample::request().route };
    let captures = http(&RequestView { route, ..sample::request() })["uri_captures"].clone();
    assert_eq!(captures, parsed(r#"{"named": {"a": "1", "b": "x y"}, "unnamed": ["x y", "1"]}"#));
}

#[test]
fn a_body_is_read_whole_or_not_at_all() {
    let with = |content_type: &'static str, bytes: &'static [u8], truncated| {
        let headers = [("content-type", content_type)];
        let body = Some(BodyView { bytes, truncated });
        let document =
            build_for(&sample::subject(), &RequestView { headers: &headers, body, ..sample::request() })?;
        Ok::<_, DecisionError>(document["request"]["http"].clone())
    };
    let json = with("application/json", b"{\"a\": 1}", false).unwrap();
    assert_eq!((&json["body"], &json["body_size"]), (&text("{\"a\": 1}"), &Value::from(8_u64)));
    assert_eq!(json["parsed_body"], parsed(r#"{"a": 1}"#));
    assert_eq!(
        with("application/json; charset=utf-8", b"{}", false).unwrap()["parsed_body"],
        Value::Undefined
    );
    assert!(with("application/json", b"{", false).is_err());
    // On a route where policies may not look there is one, and nothing of it.
    let unseen = with("application/json", b"", true).unwrap();
    assert!(
        ["body", "body_size", "parsed_body"].iter().all(|name| unseen[*name] == Value::Undefined),
        "{unseen}"
    );
    assert!(with("text/plain", b"abc", true).is_err());
    assert_eq!(http(&RequestView { body: None, ..sample::request() })["body"], Value::Undefined);
}

#[test]
fn a_result_is_kongs() {
    let decide = |json: &str| decision(&parsed(json));
    assert!(decide("true").unwrap().allowed);
    assert!(!decide("false").unwrap().allowed);
    let allowed = decide(r#"{"allow": true, "headers": {"x-a": "1"}}"#).unwrap();
    assert_eq!(allowed.request_headers_to_set, [("x-a".into(), "1".into())]);
    let denied =
        decide(r#"{"allow": false, "status": 418, "headers": {"x-a": "1"}, "message": "no \"tea\""}"#)
            .unwrap();
    assert_eq!((denied.allowed, denied.status), (false, Some(418)));
    assert_eq!(parsed(denied.body.as_deref().unwrap()), parsed(r#"{"message": "no \"tea\""}"#));
    let names: Vec<&str> = denied.headers.iter().map(|(name, _)| &**name).collect();
    assert_eq!(names, ["x-a", "content-type"]);
    let typed =
        decide(r#"{"allow": false, "message": {"code": 7}, "headers": {"Content-Type": "a/b"}}"#).unwrap();
    assert_eq!(parsed(typed.body.as_deref().unwrap()), parsed(r#"{"message": {"code": 7}}"#));
    assert_eq!(typed.headers.len(), 1);
    for none in [
        r#"{"allowed": true}"#,
        r#"{"allow": true, "allowed": true}"#,
        r#"{"allow": "true"}"#,
        r#"{"allow": true, "reason": "x"}"#,
        r#"{"allow": false, "message": 1}"#,
        r#"{"allow": false, "status": 200}"#,
        r#"{"status": 403}"#,
        "\"true\"",
        "[]",
    ] {
        assert!(decide(none).is_err(), "{none}");
    }
    assert!(!decision(&Value::Undefined).unwrap().allowed);
}
