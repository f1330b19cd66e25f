use super::*;

const LIMITS: HeadLimits = HeadLimits { head_bytes_max: 32 * 1024, fields_max: 100 };

fn parsed(input: &str, request: RequestKind) -> ResponseHead {
    let mut head = ResponseHead::new();
    assert_eq!(head.parse(input.as_bytes(), request, &LIMITS), Ok(Some(input.len())), "{input}");
    head
}

#[test]
fn the_parts_of_a_response() {
    let head = parsed(
        "HTTP/1.1 404 Not there\r\nContent-Length: 3\r\nX: y\r\nConnection: x\r\n\r\n",
        RequestKind::Other,
    );
    assert_eq!((head.status(), head.reason(), head.version()), (404, &b"Not there"[..], Version::Http11));
    assert_eq!((head.body(), head.declared_length()), (BodyFraming::Length(3), Some(3)));
    assert!(head.keep_alive() && !head.is_interim());
    assert_eq!(head.field("x"), Some(&b"y"[..]));
    let ending: Vec<_> = head.fields().filter(|field| field.hop_by_hop).map(|field| field.name).collect();
    assert_eq!(ending, ["X", "Connection"]);
}

#[test]
fn an_unreadable_reason_is_empty() {
    assert_eq!(parsed("HTTP/1.1 200 caf\u{e9}\r\n\r\n", RequestKind::Other).reason(), b"");
    assert_eq!(parsed("HTTP/1.1 200\r\n\r\n", RequestKind::Other).reason(), b"");
}

#[test]
fn framing_depends_on_the_request() {
    for (request, status, fields, body, keep_alive) in [
        (RequestKind::Head, 200, "Content-Length: 5\r\n", BodyFraming::None, true),
        (RequestKind::Head, 200, "Transfer-Encoding: chunked\r\n", BodyFraming::None, true),
        (RequestKind::Head, 200, "", BodyFraming::None, true),
        (RequestKind::Head, 404, "Content-Length: 5\r\n", BodyFraming::None, true),
        (RequestKind::Connect, 200, "Content-Length: 5\r\n", BodyFraming::None, true),
        (RequestKind::Connect, 403, "Content-Length: 5\r\n", BodyFraming::Length(5), true),
        (RequestKind::Other, 200, "Content-Length: 5\r\n", BodyFraming::Length(5), true),
        (RequestKind::Other, 200, "", BodyFraming::UntilClose, false),
    ] {
        let head = parsed(&format!("HTTP/1.1 {status} X\r\n{fields}\r\n"), request);
        assert_eq!((head.body(), head.keep_alive()), (body, keep_alive), "{request:?} {status} {fields}");
    }
}

#[test]
fn an_interim_response_is_followed_by_the_final_one() {
    let input = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx";
    let mut head = ResponseHead::new();
    let interim = head.parse(input, RequestKind::Other, &LIMITS).unwrap().unwrap();
    assert!(head.is_interim());
    let last = head.parse(&input[interim..], RequestKind::Other, &LIMITS).unwrap().unwrap();
    assert_eq!((head.status(), head.body()), (200, BodyFraming::Length(1)));
    assert_eq!(interim + last + 1, input.len());
}

#[test]
fn a_101_is_for_those_who_asked_for_it() {
    let switched = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n";
    let head = parsed(&format!("{switched}X: y\r\n\r\n"), RequestKind::Upgrade);
    assert_eq!((head.status(), head.body(), head.upgrade()), (101, BodyFraming::None, Some("websocket")));
    assert!(!head.is_interim(), "no other response follows");
    let parse = |input: &str, kind| ResponseHead::new().parse(input.as_bytes(), kind, &LIMITS);
    for kind in [RequestKind::Other, RequestKind::Head, RequestKind::Connect] {
        let unasked = parse(&format!("{switched}\r\n"), kind);
        assert_eq!(unasked, Err(ResponseError::UnexpectedUpgrade), "{kind:?}");
    }
    let http10 = switched.replace("HTTP/1.1", "HTTP/1.0") + "\r\n";
    assert_eq!(parse(&http10, RequestKind::Upgrade), Err(ResponseError::UnexpectedUpgrade));
    for (fields, error) in [
        ("Content-Length: 5\r\n", HeadError::BadContentLength),
        ("Transfer-Encoding: chunked\r\n", HeadError::BadTransferEncoding),
    ] {
        let refused = parse(&format!("{switched}{fields}\r\n"), RequestKind::Upgrade);
        assert_eq!(refused, Err(error.into()), "{fields}");
    }
    for fields in [
        "",
        "Upgrade: a\r\n",
        "Connection: upgrade\r\nUpgrade: a\r\nUpgrade: a\r\n",
        "Connection: upgrade\r\nUpgrade: \u{e9}\r\n",
    ] {
        let input = format!("HTTP/1.1 101 X\r\n{fields}\r\n");
        assert_eq!(parsed(&input, RequestKind::Upgrade).upgrade(), None, "{fields}");
    }
    let declined = parsed("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n", RequestKind::Upgrade);
    assert_eq!((declined.body(), declined.upgrade()), (BodyFraming::Length(1), None));
}

#[test]
fn accessors_are_harmless_after_an_error() {
    let mut head = ResponseHead::new();
    let first = b"HTTP/1.1 200 A long reason\r\nX-Long-Name: and a long value\r\nContent-Length: 5\r\n\r\n";
    for bad in
        [&b"X\r\n\r\n"[..], b"HTTP/1.1 200\r\nA:\r\nContent-Length: x\r\n\r\n", b"HTTP/1.1 999\r\n\r\n"]
    {
        head.parse(first, RequestKind::Other, &LIMITS).unwrap();
        head.parse(bad, RequestKind::Other, &LIMITS).unwrap_err();
        assert_eq!((head.reason(), head.body(), head.keep_alive()), (&b""[..], BodyFraming::None, false));
        assert!(head.fields().all(|field| field.name != "X-Long-Name"));
    }
}

#[test]
fn size_limits() {
    let limits = HeadLimits { head_bytes_max: 100, fields_max: 2 };
    let refused =
        |input: &str| ResponseHead::new().parse(input.as_bytes(), RequestKind::Other, &limits).unwrap_err();
    let long = format!("HTTP/1.1 200 OK\r\nX: {}", "x".repeat(100));
    assert_eq!(refused(&long), HeadError::TooLarge { bytes_max: 100 }.into());
    let many = "HTTP/1.1 200 OK\r\na: b\r\na: b\r\na: b\r\n\r\n";
    assert_eq!(refused(many), HeadError::TooManyFields { fields_max: 2 }.into());
    assert_eq!(refused(&"x".repeat(100)), ResponseError::BadStatusLine);
    assert_eq!(refused(&long).status(), 502);
    let exact = format!("HTTP/1.1 200 OK\r\na: b\r\nX: {}\r\n\r\n", "x".repeat(70));
    assert_eq!(exact.len(), 100);
    assert_eq!(ResponseHead::new().parse(exact.as_bytes(), RequestKind::Other, &limits), Ok(Some(100)));
}

#[test]
fn debug_output_shows_no_credentials() {
    let shown = format!("{:?}", parsed("HTTP/1.1 200 OK\r\nSet-Cookie: secret\r\n\r\n", RequestKind::Other));
    assert!(shown.contains("200") && !shown.contains("secret"), "{shown}");
}
