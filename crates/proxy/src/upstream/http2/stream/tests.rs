//! What clients may ask on HTTP/1.1 can be asked in HTTP/2.

use ringward_http::{
    HeadLimits,
    write::{Forwarded, QueryEdits, RequestEdits, request_fields},
};

use super::*;

/// `None` if the head is refused when it arrives.
fn taken(head: &[u8]) -> Option<Result<Request<()>, WriteError>> {
    taken_with(head, &[])
}

fn taken_with(head: &[u8], query: &[(&str, &str)]) -> Option<Result<Request<()>, WriteError>> {
    let limits = HeadLimits { head_bytes_max: 1 << 20, fields_max: 1000 };
    let mut parsed = RequestHead::new();
    parsed.parse(head, &limits).ok()?.expect("a whole head");
    let edits = RequestEdits {
        drop_field: &|_| false,
        path: None,
        authority: None,
        query: QueryEdits { set: query, remove: &["removed"] },
        set: &[],
        add: &[],
        via: None,
        forwarded: Forwarded::default(),
        framing: parsed.body(),
        expect_continue: false,
    };
    let mut image = Vec::new();
    Some(
        request_fields(&mut image, &parsed, &edits)
            .and_then(|written| request(&parsed, written, &uri::Scheme::HTTP)),
    )
}

/// Puts each byte into the gap, and counts those that may arrive there.
#[track_caller]
fn check(front: &str, back: &str) -> usize {
    let allowed = (0..=u8::MAX).filter(|&byte| {
        let head = [front.as_bytes(), &[byte], back.as_bytes()].concat();
        let taken = taken(&head);
        assert!(!matches!(taken, Some(Err(_))), "{front:?} {byte:#04x} {back:?}: {taken:?}");
        taken.is_some()
    });
    allowed.count()
}

/// A request that is refused only when it is written anew would be answered as if we were to blame.
#[test]
fn what_was_not_refused_when_it_arrived_can_be_sent() {
    // RFC 3986 §3.3: a path has 80 characters besides escapes, and `?` ends it; a query has all that are visible but `"#<>`.
    assert_eq!(check("GET /a", "b HTTP/1.1\r\nHost: a\r\n\r\n"), 81);
    assert_eq!(check("GET /?a", "b HTTP/1.1\r\nHost: a\r\n\r\n"), 90);
    // RFC 9110 §5.6.2: a token has 77 characters.
    assert_eq!(check("G", " / HTTP/1.1\r\nHost: a\r\n\r\n"), 77);
    assert!(check("GET / HTTP/1.1\r\nHost: a", "b\r\n\r\n") > 64);
    assert!(check("GET / HTTP/1.1\r\nHost: a\r\nx", ": y\r\n\r\n") >= 77);
    assert!(check("GET / HTTP/1.1\r\nHost: a\r\nx: y", "z\r\n\r\n") > 222);
    let digits = "0123456789abcdef".repeat(4);
    let name = [&digits[1..]; 3].join(".");
    for host in ["a:65535", "[::1]:1", "[1:2:3:4:5:6:7:8]:80", "[1::3:4:5:6:7:8]", "1.2.3.4", "_a-b.", &name]
    {
        assert!(
            matches!(taken(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes()), Some(Ok(_))),
            "{host}"
        );
    }
    let path = "/%2F".repeat(4000);
    let long = format!("GET {path} HTTP/1.1\r\nHost: a\r\n{}: x\r\n\r\n", "n".repeat(65_535));
    for head in [
        "GET / HTTP/1.0\r\n\r\n",
        "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
        "OPTIONS http://a HTTP/1.1\r\nHost: a\r\n\r\n",
        &long,
    ] {
        assert!(matches!(taken(head.as_bytes()), Some(Ok(_))), "{}", &head[..20]);
    }
}

#[test]
fn what_policies_set_in_a_query_can_be_sent_but_to_the_server_as_a_whole() {
    let set = [("set", "\u{e9} #<>\"`")];
    assert!(matches!(taken_with(b"GET /a?b HTTP/1.1\r\nHost: a\r\n\r\n", &set), Some(Ok(_))));
    let whole = taken_with(b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", &set);
    assert!(matches!(whole, Some(Err(WriteError::BadTarget))), "{whole:?}");
}

#[test]
fn a_target_that_cannot_be_sent_is_the_clients_fault() {
    let error = ProxyError::from(WriteError::BadTarget);
    assert_eq!((error.flag(), crate::respond::answer(&error).status), ("bad_target", 400));
}
