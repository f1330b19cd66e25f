use std::net::SocketAddr;

use super::*;
use crate::input::sample;
use crate::input::schema::{self, Lookup};
use crate::input::shape::InputShape;
use crate::input::subject::Claims;
use crate::input::view::{ConnectionView, HeaderSource};

fn build(view: &RequestView<'_>) -> Value {
    Builder::new(Parts::ALL).build(&sample::subject(), view).unwrap()
}

fn pretty(value: &Value) -> String {
    value.to_json_str().unwrap()
}

fn at<'v>(value: &'v Value, path: &str) -> &'v Value {
    let names: Vec<&str> = path.split('.').collect();
    crate::documents::at(value, &names).unwrap_or_else(|| panic!("no {path} in {}", pretty(value)))
}

#[test]
fn the_document_is_as_documented() {
    let golden = include_str!("golden.json");
    assert_eq!(pretty(&build(&sample::request())).trim(), golden.trim());
}

#[test]
fn everything_is_there_for_a_client_without_certificate() {
    let connection = ConnectionView {
        remote: "[::ffff:192.0.2.1]:5".parse::<SocketAddr>().unwrap(),
        sni: "",
        alpn: "",
        ..sample::connection()
    };
    let subject = Subject::from_claims(&Claims::default(), &connection);
    let view = RequestView {
        query: None,
        path: "/",
        headers: &[],
        route: RouteView::default(),
        ..sample::request()
    };
    let document = Builder::new(Parts::ALL).build(&subject, &view).unwrap();
    let full = build(&sample::request());
    same_fields(&full, &document, &mut Vec::new());
    assert_eq!(at(&document, "client.verified"), &Value::Bool(false));
    assert_eq!(at(&document, "client.spiffe_id"), &Value::from(""));
    assert_eq!(at(&document, "client.san.uri"), &Value::new_array());
    assert_eq!(at(&document, "connection.remote_addr"), &Value::from("192.0.2.1"));
    assert_eq!(at(&document, "request.segments"), &Value::new_array());
    assert_eq!(at(&document, "request.query"), &Value::new_object());
    assert_eq!(at(&document, "route.params"), &Value::new_object());
}

/// Fields that the schema does not call open are in both.
fn same_fields(full: &Value, other: &Value, path: &mut Vec<String>) {
    let Value::Object(fields) = full else { return };
    for (name, value) in fields.iter() {
        path.push(name.as_string().unwrap().to_string());
        match schema::look_up(InputShape::Native, path) {
            Lookup::Field => {
                let names: Vec<&str> = path.iter().map(String::as_str).collect();
                assert!(crate::documents::at(other, &names[names.len() - 1..]).is_some(), "no {path:?}");
                same_fields(value, at(other, path.last().unwrap()), path);
            }
            Lookup::Entry => {}
            unknown => panic!("{path:?} is not in the schema: {unknown:?}"),
        }
        path.pop();
    }
}

#[test]
fn the_schema_has_nothing_that_the_document_lacks() {
    fn walk(document: &Value, path: &str) {
        for name in schema::names_below(InputShape::Native, path) {
            let below = if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
            at(document, &below);
            walk(document, &below);
        }
    }
    walk(&build(&sample::request()), "");
}

#[test]
fn headers_join_and_keep_order() {
    let headers = [
        ("accept", "a"),
        ("x-new", "1"),
        ("cookie", "a=1"),
        ("accept", "b"),
        ("cookie", "b=2"),
        ("x-new", ""),
    ];
    let document = build(&RequestView { headers: &headers, ..sample::request() });
    assert_eq!(
        pretty(at(&document, "request.headers")),
        r#"{"accept":"a, b","cookie":"a=1; b=2","x-new":"1, "}"#.pretty()
    );
    assert_eq!(
        pretty(at(&document, "request.headers_all")),
        r#"{"accept":["a","b"],"cookie":["a=1","b=2"],"x-new":["1",""]}"#.pretty()
    );
}

trait Pretty {
    fn pretty(&self) -> String;
}

impl Pretty for str {
    fn pretty(&self) -> String {
        pretty(&Value::from_json_str(self).unwrap())
    }
}

#[test]
fn identity_headers_of_a_client_are_not_shown() {
    let headers =
        [("client-cert", ":x:"), ("client_cert", ":x:"), ("x-forwarded-client-cert", "x"), ("x-ok", "1")];
    let document = build(&RequestView { headers: &headers, ..sample::request() });
    assert_eq!(pretty(at(&document, "request.headers")), r#"{"x-ok":"1"}"#.pretty());
    assert_eq!(pretty(at(&document, "request.headers_all")), r#"{"x-ok":["1"]}"#.pretty());
}

#[test]
fn query_is_decoded_once() {
    for (query, expected) in [
        ("a=1&b=2&a=3", r#"{"a":["1","3"],"b":["2"]}"#),
        ("a", r#"{"a":[""]}"#),
        ("a=&=b&&", r#"{"":["b"],"a":[""]}"#),
        ("a+b=c%20d%2Be", r#"{"a b":["c d+e"]}"#),
        ("a=%zz%4&b=%2525", r#"{"a":["%zz%4"],"b":["%25"]}"#),
        ("a=%ff%c3%a9", "{\"a\":[\"\u{fffd}é\"]}"),
        ("a=b=c", r#"{"a":["b=c"]}"#),
        ("%61=1&a=2", r#"{"a":["1","2"]}"#),
        ("", "{}"),
    ] {
        let document = build(&RequestView { query: Some(query), ..sample::request() });
        assert_eq!(pretty(at(&document, "request.query")), expected.pretty(), "{query}");
    }
}

#[test]
fn an_encoded_slash_does_not_separate_segments() {
    for (path, expected) in [
        ("/", "[]"),
        ("/a", r#"["a"]"#),
        ("/a/", r#"["a",""]"#),
        ("/a//b", r#"["a","","b"]"#),
        ("/a%2Fb/c", r#"["a/b","c"]"#),
        ("/a+b/%20", r#"["a+b"," "]"#),
        ("/%252e", r#"["%2e"]"#),
        ("*", r#"["*"]"#),
    ] {
        let document = build(&RequestView { path, ..sample::request() });
        assert_eq!(pretty(at(&document, "request.segments")), expected.pretty(), "{path}");
        assert_eq!(at(&document, "request.path"), &Value::from(path));
    }
}

#[test]
fn unread_parts_are_left_out_and_read_parts_are_the_same() {
    let parts = Parts::of(&Reads::default());
    let document = Builder::new(parts).build(&sample::subject(), &sample::request()).unwrap();
    let Value::Object(request) = at(&document, "request") else { panic!() };
    let names: Vec<String> = request.keys().map(|key| key.as_string().unwrap().to_string()).collect();
    assert!(names.is_empty(), "{names:?}");
    let headers =
        Builder::new(Parts { headers: true, ..parts }).build(&sample::subject(), &sample::request()).unwrap();
    let full = build(&sample::request());
    assert_eq!(at(&headers, "request.headers"), at(&full, "request.headers"));
    for part in ["client", "connection"] {
        assert_eq!(crate::documents::at(&document, &[part]), None);
    }
    let document = Builder::new(Parts { client: true, connection: true, method: true, ..parts })
        .build(&sample::subject(), &sample::request())
        .unwrap();
    assert_eq!(at(&document, "client"), at(&full, "client"));
    assert_eq!(at(&document, "request.method"), at(&full, "request.method"));
    let Value::Object(connection) = at(&full, "connection") else { panic!() };
    let unread = Value::from("auth_age_seconds");
    let rest = connection.iter().filter(|(name, _)| **name != unread);
    let rest: BTreeMap<_, _> = rest.map(|(name, value)| (name.clone(), value.clone())).collect();
    assert_eq!(at(&document, "connection"), &Value::from(rest));
}

#[test]
fn the_age_of_a_proof_grows_with_every_request_of_a_connection() {
    let mut builder = Builder::new(Parts::ALL);
    let subject = sample::subject();
    for (now_unix, age) in
        [(1_799_999_000, 0), (1_799_999_001, 1), (1_800_002_600, 3_600), (1_799_998_000, 0)]
    {
        let document = builder.build(&subject, &RequestView { now_unix, ..sample::request() }).unwrap();
        assert_eq!(at(&document, "connection.auth_age_seconds"), &Value::from(age), "{now_unix}");
        assert_eq!(at(&document, "connection.auth_time_unix"), &Value::from(1_799_999_000_u64));
    }
    assert_eq!(subject.connection["auth_age_seconds"], Value::Undefined, "the connection's own values stay");
    let unknown = ConnectionView { auth_time_unix: 0, ..sample::connection() };
    let subject = Subject::from_claims(&sample::claims(), &unknown);
    let document = builder.build(&subject, &sample::request()).unwrap();
    assert_eq!(at(&document, "connection.auth_age_seconds"), &Value::from(sample::request().now_unix));
}

#[test]
fn one_builder_serves_requests_in_a_row() {
    let mut builder = Builder::new(Parts::ALL);
    let first = builder.build(&sample::subject(), &sample::request()).unwrap();
    let headers = [("x-second", "2")];
    let second = RequestView { method: "PURGE", headers: &headers, ..sample::request() };
    assert_eq!(builder.build(&sample::subject(), &second), Ok(build(&second)));
    assert_eq!(builder.build(&sample::subject(), &sample::request()), Ok(first));
}

/// Parts of a document are kept for the next request; it may never see what its own request does not have.
#[test]
fn nothing_of_a_request_shows_in_the_next() {
    let mut builder = Builder::new(Parts::ALL);
    let lists: [&[(&str, &str)]; 9] = [
        &[("a", "1"), ("b", "2")],
        &[("a", "1")],
        &[("a", "1"), ("b", "2"), ("c", "3")],
        &[("a", "2"), ("b", "2"), ("c", "3")],
        &[("a", "2"), ("b", "2"), ("d", "3")],
        &[("b", "2"), ("a", "2"), ("d", "3")],
        &[("a", "2"), ("a", "2"), ("a", "3")],
        &[("client-cert", "x")],
        &[],
    ];
    let routes =
        [sample::request().route, RouteView::default(), RouteView { id: "x", ..sample::request().route }];
    for (step, (headers, headers_after)) in
        lists.iter().flat_map(|a| lists.iter().map(move |b| (a, b))).enumerate()
    {
        for (turn, headers) in [headers, headers_after].into_iter().enumerate() {
            let host = ["one.example", "two.example"][(step + turn) % 2];
            let now_unix = sample::request().now_unix + (step / 3) as i64;
            let route = routes[(step + turn) % 3];
            let view = RequestView { headers: &Listed(headers), host, now_unix, route, ..sample::request() };
            assert_eq!(builder.build(&sample::subject(), &view), Ok(build(&view)), "{headers:?}");
        }
    }
}

struct Listed<'a>(&'a [(&'a str, &'a str)]);

impl HeaderSource for Listed<'_> {
    fn for_each(&self, each: &mut dyn FnMut(&str, &str)) {
        self.0.for_each(each);
    }
}

#[test]
fn labels_and_parameters_are_in_the_route() {
    let labels = [("team".to_owned(), "x".to_owned()), ("env".to_owned(), "prod".to_owned())];
    let route = RouteView { params: &[("z", "1"), ("a", "2")], labels: &labels, ..sample::request().route };
    let document = build(&RequestView { route, ..sample::request() });
    assert_eq!(pretty(at(&document, "route.labels")), r#"{"env":"prod","team":"x"}"#.pretty());
    assert_eq!(pretty(at(&document, "route.params")), r#"{"a":"2","z":"1"}"#.pretty());
}

#[test]
fn parameters_are_decoded_as_segments_are() {
    let empty = Value::new_object();
    let params = [("tenant", "t%201"), ("file", "a%2Fb"), ("rest", "x%20y/a%2Fb/c"), ("plain", "p")];
    let value = super::params(&params, &empty);
    assert_eq!(value["tenant"], Value::from("t 1"));
    assert_eq!(value["file"], Value::from("a/b"));
    assert_eq!(value["rest"], Value::from("x y/a%2Fb/c"));
    assert_eq!(value["plain"], Value::from("p"));
}
