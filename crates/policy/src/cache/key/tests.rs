use super::*;
use crate::input::sample;
use crate::input::subject::Claims;
use crate::input::view::{ConnectionView, HeaderSource, RouteView};

fn reading(fields: impl Into<Vec<Accessor>>) -> Projection {
    Projection { fields: fields.into(), ..Projection::default() }
}

fn key(projection: &Projection, request: &RequestView<'_>) -> Option<Vec<u8>> {
    KeyBuffer::new().write(projection, 0, request).map(<[u8]>::to_vec)
}

/// Whether two requests have one key.
fn same(projection: &Projection, a: &RequestView<'_>, b: &RequestView<'_>) -> bool {
    let (a, b) = (key(projection, a), key(projection, b));
    assert!(a.is_some() && b.is_some());
    a == b
}

fn with_headers(headers: &dyn HeaderSource) -> RequestView<'_> {
    RequestView { headers, ..sample::request() }
}

struct Fields<'a>(&'a [(&'a str, &'a str)]);

impl HeaderSource for Fields<'_> {
    fn for_each(&self, each: &mut dyn FnMut(&str, &str)) {
        self.0.for_each(each);
    }
}

fn with_query(query: &str) -> RequestView<'_> {
    RequestView { query: Some(query), ..sample::request() }
}

fn with_params<'a>(params: &'a [(&'a str, &'a str)]) -> RequestView<'a> {
    RequestView { route: RouteView { params, ..sample::request().route }, ..sample::request() }
}

/// Bytes that move from one text to the next make another key.
#[test]
fn texts_end_where_they_end() {
    let projection = reading([Accessor::Method, Accessor::Path, Accessor::Host]);
    let request = |method, path, host| RequestView { method, path, host, ..sample::request() };
    let cases = [
        ("GET", "/a", "b"),
        ("GET", "/", "ab"),
        ("GET", "/ab", ""),
        ("GE", "T/a", "b"),
        ("", "GET/a", "b"),
        ("GET", "/a\0", "b"),
        ("GET", "/a", "\0b"),
        ("GET", "/a\u{1}\0b", ""),
        ("get", "/a", "b"),
        ("GET", "/A", "b"),
    ];
    for (i, a) in cases.iter().enumerate() {
        for (j, b) in cases.iter().enumerate() {
            let (a, b) = (request(a.0, a.1, a.2), request(b.0, b.1, b.2));
            assert_eq!(same(&projection, &a, &b), i == j, "{i} {j}");
        }
    }
}

#[test]
fn missing_and_empty_and_repeated_headers_are_told_apart() {
    let projection = reading([Accessor::Header("x-a".into()), Accessor::Header("x-b".into())]);
    let cases: [&[(&str, &str)]; 9] = [
        &[],
        &[("x-a", "")],
        &[("x-b", "")],
        &[("x-a", "1")],
        &[("x-a", "1"), ("x-a", "")],
        &[("x-a", ""), ("x-a", "1")],
        &[("x-a", "1"), ("x-b", "")],
        &[("x-a", "1, 2")],
        &[("x-a", "1"), ("x-a", "2")],
    ];
    for (i, a) in cases.iter().enumerate() {
        for (j, b) in cases.iter().enumerate() {
            let (a, b) = (Fields(a), Fields(b));
            assert_eq!(same(&projection, &with_headers(&a), &with_headers(&b)), i == j, "{i} {j}");
        }
    }
    // The order among fields of other names, and fields that are not read, make no difference to the policy.
    assert!(same(
        &projection,
        &with_headers(&[("x-a", "1"), ("x-b", "2"), ("x-c", "3")]),
        &with_headers(&[("x-b", "2"), ("x-a", "1")])
    ));
}

/// As in the input, from which such fields are left out.
#[test]
fn what_policies_do_not_see_is_in_no_key() {
    let name = "x-forwarded-client-cert";
    let projection = reading([Accessor::Header(name.into())]);
    assert!(is_hidden(name));
    assert!(same(&projection, &with_headers(&[(name, "forged")]), &with_headers(&[])));
}

#[test]
fn a_name_of_the_query_is_found_however_it_is_written() {
    let projection = reading([Accessor::QueryValues("a b".into())]);
    for (one, other, equal) in [
        ("a+b=1", "a%20b=1", true),
        ("a+b=1", "x=2&a+b=1&y", true),
        ("a+b=1", "a+b=2", false),
        ("a+b=1", "A+b=1", false),
        ("a+b", "", false),
        ("a+b=", "", false),
        ("a+b=1&a+b=2", "a+b=2&a+b=1", false),
        ("a+b=1&a+b=2", "a+b=12", false),
        ("a+b=1%26a", "a+b=1&a", false),
    ] {
        assert_eq!(same(&projection, &with_query(one), &with_query(other)), equal, "{one} {other}");
    }
    let whole = reading([Accessor::Query]);
    let none = RequestView { query: None, ..sample::request() };
    assert!(!same(&whole, &none, &with_query("a")));
    assert!(!same(&whole, &with_query("a&b"), &with_query("b&a")));
}

#[test]
fn parameters_and_labels_count_by_name_and_value() {
    let all = reading([Accessor::RouteParams]);
    assert!(!same(&all, &with_params(&[("a", "bc")]), &with_params(&[("ab", "c")])));
    assert!(!same(&all, &with_params(&[("a", "b")]), &with_params(&[("a", "b"), ("c", "")])));
    let one = reading([Accessor::RouteParam("id".into())]);
    assert!(!same(&one, &with_params(&[("id", "")]), &with_params(&[])));
    assert!(same(&one, &with_params(&[("id", "1"), ("x", "2")]), &with_params(&[("id", "1")])));

    let labels = [("team".to_owned(), "a".to_owned()), ("tier".to_owned(), "b".to_owned())];
    let labelled =
        |labels| RequestView { route: RouteView { labels, ..RouteView::default() }, ..sample::request() };
    for projection in [reading([Accessor::RouteLabels]), reading([Accessor::RouteLabel("team".into())])] {
        assert!(!same(&projection, &labelled(&labels), &labelled(&labels[1..])));
    }
    assert!(same(
        &reading([Accessor::RouteLabel("team".into())]),
        &labelled(&labels),
        &labelled(&labels[..1])
    ));
}

#[test]
fn seconds_and_subjects_are_told_apart() {
    let projection = reading([Accessor::Second]);
    let at = |now_unix| RequestView { now_unix, ..sample::request() };
    assert!(!same(&projection, &at(1), &at(2)) && !same(&projection, &at(1), &at(-1)));
    let mut buffer = KeyBuffer::new();
    let one = buffer.write(&projection, 1, &at(1)).map(<[u8]>::to_vec);
    assert_ne!(one, buffer.write(&projection, 2, &at(1)).map(<[u8]>::to_vec));
}

#[test]
fn a_key_has_a_limit() {
    let projection = reading([Accessor::Path]);
    // Number of the subject and length of the text.
    let room = KEY_BYTES_MAX - 8 - 2;
    for (length, fits) in [(room, true), (room + 1, false), (1 << 16, false), ((1 << 16) + 3, false)] {
        let path = "p".repeat(length);
        let request = RequestView { path: &path, ..sample::request() };
        assert_eq!(key(&projection, &request).is_some(), fits, "{length}");
    }
    // What overflows in the middle does not fit because its end would.
    let (long, mut buffer) = ("p".repeat(room + 1), KeyBuffer::new());
    let request = RequestView { path: &long, method: "G", ..sample::request() };
    let both = reading([Accessor::Path, Accessor::Method]);
    assert_eq!(buffer.write(&both, 0, &request), None);
    assert!(buffer.write(&both, 0, &sample::request()).is_some(), "the next request is not affected");
}

fn subject_key(paths: &[&str], subject: &Subject) -> Vec<u8> {
    let names = |path: &&str| path.split('.').map(str::to_owned).collect();
    let projection = Projection { subject: paths.iter().map(names).collect(), ..Projection::default() };
    subject_bytes(&projection, subject).unwrap()
}

fn client(claims: Claims<'_>) -> Subject {
    Subject::from_claims(&claims, &sample::connection())
}

#[test]
fn only_what_is_read_takes_subjects_apart() {
    let other = client(Claims { serial: "ff", ..sample::claims() });
    assert_ne!(subject_key(&["client.serial"], &sample::subject()), subject_key(&["client.serial"], &other));
    assert_ne!(subject_key(&["client"], &sample::subject()), subject_key(&["client"], &other));
    let name = ["client.name"];
    assert_eq!(subject_key(&name, &sample::subject()), subject_key(&name, &other));
    let moved = Subject::from_claims(
        &sample::claims(),
        &ConnectionView { remote: "192.0.2.7:1".parse().unwrap(), ..sample::connection() },
    );
    for (path, differs) in [("connection.remote_port", true), ("connection", true), ("connection.sni", false)]
    {
        let differ = subject_key(&[path], &sample::subject()) != subject_key(&[path], &moved);
        assert_eq!(differ, differs, "{path}");
    }
}

#[test]
fn lists_of_claims_cannot_be_shifted() {
    let with = |dns: &[&str], emails: &[&str]| {
        let own = |texts: &[&str]| texts.iter().map(ToString::to_string).collect::<Vec<_>>();
        let claims = Claims { dns: own(dns).into(), emails: own(emails).into(), ..sample::claims() };
        subject_key(&["client.san.dns", "client.san.email"], &client(claims))
    };
    let cases = [
        with(&["a", "b"], &[]),
        with(&["a"], &["b"]),
        with(&[], &["a", "b"]),
        with(&["ab"], &[]),
        with(&["a", ""], &["b"]),
        with(&["", "a"], &["b"]),
        with(&["b", "a"], &[]),
        // With the bytes that a kind of value is written by.
        with(&["a\u{5}b"], &[]),
        with(&["a\u{6}\u{5}b"], &[]),
    ];
    for (i, a) in cases.iter().enumerate() {
        for (j, b) in cases.iter().enumerate() {
            assert_eq!(a == b, i == j, "{i} {j}");
        }
    }
}

#[test]
fn a_claim_that_is_missing_is_no_empty_one() {
    let projection = Projection {
        subject: vec![vec!["client".to_owned(), "extensions".to_owned(), "1.2.3".to_owned()]],
        ..Projection::default()
    };
    let with =
        |extensions| subject_bytes(&projection, &client(Claims { extensions, ..sample::claims() })).unwrap();
    assert_ne!(with(vec![]), with(vec![("1.2.3", "")]));
    assert_ne!(with(vec![("1.2.3", "a")]), with(vec![("1.2.3", "")]));
    assert_eq!(with(vec![("1.2.4", "a")]), with(vec![]));
}

#[test]
fn a_subject_has_a_limit() {
    let projection =
        Projection { subject: vec![vec!["client".to_owned(), "name".to_owned()]], ..Projection::default() };
    // The kind of the value and its length.
    let room = SUBJECT_BYTES_MAX - 9;
    for (length, fits) in [(room, true), (room + 1, false)] {
        let name = "n".repeat(length);
        let subject = client(Claims { name: &name, ..sample::claims() });
        assert_eq!(subject_bytes(&projection, &subject).is_some(), fits);
    }
}
