use super::*;
use crate::path::PathError;

const LIMITS: HeadLimits = HeadLimits { head_bytes_max: 32 * 1024, fields_max: 100 };

fn parsed(input: &str) -> RequestHead {
    let mut head = RequestHead::new();
    assert_eq!(head.parse(input.as_bytes(), &LIMITS), Ok(Some(input.len())), "{input}");
    head
}

fn refused(input: &str, limits: &HeadLimits) -> RequestError {
    RequestHead::new().parse(input.as_bytes(), limits).expect_err("refused")
}

#[test]
fn the_parts_of_a_request() {
    let head = parsed(
        "PUT /a/./b%2fc/%7e?x=%zz&y HTTP/1.1\r\nHost: API.example.:8443\r\nX-One: 1\r\nx-one: 2\r\n\
         Connection: x-two, Upgrade\r\nX-Two: \u{e9}\r\nUpgrade: h2c\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n",
    );
    assert_eq!(head.method(), "PUT");
    assert_eq!(head.raw_target(), "/a/./b%2fc/%7e?x=%zz&y");
    assert_eq!(head.path(), "/a/b%2Fc/~");
    assert!(head.has_encoded_slash());
    assert_eq!(head.query(), Some("x=%zz&y"));
    assert_eq!(head.host(), "api.example");
    assert_eq!(head.authority(), "api.example:8443");
    assert_eq!(head.version(), Version::Http11);
    assert_eq!(head.body(), BodyFraming::Length(3));
    assert_eq!(head.upgrade(), Some("h2c"));
    assert!(head.keep_alive() && head.expects_continue());
    assert_eq!(head.field("x-one"), Some(&b"1"[..]));
    assert_eq!(head.field("x-three"), None);
    let fields: Vec<_> = head.fields().map(|field| (field.name, field.value, field.hop_by_hop)).collect();
    assert!(head.names().eq(fields.iter().map(|(name, ..)| name.as_bytes())));
    assert_eq!(
        fields,
        [
            ("Host", &b"API.example.:8443"[..], false),
            ("X-One", b"1", false),
            ("x-one", b"2", false),
            ("Connection", b"x-two, Upgrade", true),
            ("X-Two", "\u{e9}".as_bytes(), true),
            ("Upgrade", b"h2c", true),
            ("Content-Length", b"3", false),
            ("Expect", b"100-continue", false),
        ]
    );
}

#[test]
fn targets() {
    for (line, raw, path, query, authority) in [
        ("GET / HTTP/1.1", "/", "/", None, "a"),
        ("GET /? HTTP/1.1", "/?", "/", Some(""), "a"),
        ("GET /x?a?b/../c HTTP/1.1", "/x?a?b/../c", "/x", Some("a?b/../c"), "a"),
        ("GET http://a HTTP/1.1", "/", "/", None, "a"),
        ("GET http://A?q HTTP/1.1", "/?q", "/", Some("q"), "a"),
        ("GET https://a. HTTP/1.1", "/", "/", None, "a"),
        ("GET HTTP://a/./x?q HTTP/1.1", "/./x?q", "/x", Some("q"), "a"),
        ("OPTIONS * HTTP/1.1", "*", "*", None, "a"),
        ("OPTIONS http://a HTTP/1.1", "*", "*", None, "a"),
        ("OPTIONS http://a/ HTTP/1.1", "/", "/", None, "a"),
        ("OPTIONS http://a?q HTTP/1.1", "/?q", "/", Some("q"), "a"),
    ] {
        let head = parsed(&format!("{line}\r\nHost: a\r\n\r\n"));
        assert_eq!((head.raw_target(), head.path(), head.query()), (raw, path, query), "{line}");
        assert_eq!(head.authority(), authority, "{line}");
        assert!(!head.has_encoded_slash());
    }
}

#[test]
fn http10_needs_no_host() {
    let head = parsed("GET / HTTP/1.0\r\n\r\n");
    assert_eq!((head.host(), head.authority(), head.version()), ("", "", Version::Http10));
    assert!(!head.keep_alive());
    let head = parsed("GET http://B:80/ HTTP/1.0\r\n\r\n");
    assert_eq!((head.host(), head.authority()), ("b", "b:80"));
}

#[test]
fn a_head_is_reused_without_rests_of_the_last() {
    let mut head = RequestHead::new();
    let first = b"POST /%41?q HTTP/1.1\r\nHost: A\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\
                  Connection: upgrade, close\r\nUpgrade: x\r\nX: y\r\n\r\n";
    assert_eq!(head.parse(first, &LIMITS), Ok(Some(first.len())));
    assert!(head.expects_continue() && head.upgrade().is_some() && !head.keep_alive());
    let second = b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n";
    assert_eq!(head.parse(second, &LIMITS), Ok(Some(second.len())));
    assert_eq!((head.method(), head.raw_target(), head.path(), head.query()), ("GET", "/", "/", None));
    assert_eq!((head.host(), head.authority(), head.body()), ("", "", BodyFraming::None));
    assert!(head.keep_alive() && !head.expects_continue() && head.upgrade().is_none());
    assert_eq!(head.fields().count(), 1);
}

#[test]
fn accessors_are_harmless_after_an_error() {
    let mut head = RequestHead::new();
    let first = b"DELETE /a/long/path?and=query HTTP/1.1\r\nHost: Example.com\r\nX: y\r\n\r\n";
    for bad in [
        &b"\0\r\n\r\n"[..],
        b"A / HTTP/1.1\r\n\r\n",
        b"A /.. HTTP/1.1\r\nHost: a\r\n\r\n",
        b"A /% HTTP/1.1\r\nHost: a\r\n\r\n",
        b"A / HTTP/1.1\r\nHost: \xff\r\n\r\n",
        b"A /\xff HTTP/1.1\r\nHost: a\r\n\r\n",
        b"A / HTTP/1.1\r\nConnection: host\r\n\r\n",
    ] {
        head.parse(first, &LIMITS).unwrap();
        head.parse(bad, &LIMITS).unwrap_err();
        assert_ne!(head.method(), "DELETE");
        assert!(head.raw_target().len() <= 1 && head.path().len() <= 1 && head.query().is_none());
        assert_eq!(head.host(), "");
        assert!(head.fields().all(|field| field.name != "X"));
        assert!(head.authority().is_empty() && head.upgrade().is_none());
    }
}

#[test]
fn parsing_again_allocates_nothing() {
    let mut head = RequestHead::new();
    let input = b"GET /%7ea/../b?c HTTP/1.1\r\nHost: Example.com\r\nAccept: */*\r\nUser-Agent: x\r\n\r\n";
    head.parse(input, &LIMITS).unwrap();
    let before = (head.bytes.as_ptr(), head.bytes.capacity(), head.fields.as_ptr(), head.fields.capacity());
    head.parse(input, &LIMITS).unwrap();
    assert_eq!(
        before,
        (head.bytes.as_ptr(), head.bytes.capacity(), head.fields.as_ptr(), head.fields.capacity())
    );
}

#[test]
fn pipelined_heads_follow_each_other() {
    let input = b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n\r\nGET /b HTTP/1.1\r\nHost: b\r\n\r\nGET";
    let mut head = RequestHead::new();
    let first = head.parse(input, &LIMITS).unwrap().unwrap();
    assert_eq!(head.path(), "/a");
    let second = head.parse(&input[first..], &LIMITS).unwrap().unwrap();
    assert_eq!((head.path(), head.host()), ("/b", "b"));
    assert_eq!(head.parse(&input[first + second..], &LIMITS), Ok(None));
    head.clear();
    assert_eq!(head.parse(input, &LIMITS), Ok(Some(first)), "forgot the rest that had begun");
}

#[test]
fn a_trickled_head_is_scanned_once() {
    let mut input = b"GET / HTTP/1.1\r\nHost: a\r\nX: ".to_vec();
    let mut head = RequestHead::new();
    assert_eq!(head.parse(&input, &LIMITS), Ok(None));
    // A bare LF in what was already looked at goes unseen until the end; only a second look would find it now.
    input[20] = b'\n';
    input.push(b'y');
    assert_eq!(head.parse(&input, &LIMITS), Ok(None));
    // Nothing like that becomes a request: the tokeniser reads the whole head once more.
    input.extend_from_slice(b"\r\n\r\n");
    assert!(head.parse(&input, &LIMITS).is_err());
}

#[test]
fn head_bytes_are_limited() {
    let head = |len: usize| {
        let front = "GET / HTTP/1.1\r\nHost: a\r\nX: ";
        format!("{front}{}\r\n\r\n", "x".repeat(len - front.len() - 4))
    };
    let limits = HeadLimits { head_bytes_max: 1000, fields_max: 100 };
    assert_eq!(RequestHead::new().parse(head(1000).as_bytes(), &limits), Ok(Some(1000)));
    let error = refused(&head(1001), &limits);
    assert_eq!(error, HeadError::TooLarge { bytes_max: 1000 }.into());
    assert_eq!((error.status(), error.flag()), (431, "head_too_large"));
    assert_eq!(RequestHead::new().parse(&head(1001).as_bytes()[..999], &limits), Ok(None));
    assert_eq!(refused(&head(1001)[..1000], &limits), error, "one more byte is needed and not allowed");
}

#[test]
fn fields_are_limited() {
    let head = |fields: usize| format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(fields - 1));
    for fields_max in [1, 64, 65, 100, 300] {
        let limits = HeadLimits { head_bytes_max: 1 << 16, fields_max };
        let mut parsed = RequestHead::new();
        let input = head(fields_max);
        assert_eq!(parsed.parse(input.as_bytes(), &limits), Ok(Some(input.len())));
        assert_eq!(parsed.fields().count(), fields_max);
        let error = refused(&head(fields_max + 1), &limits);
        assert_eq!(error, HeadError::TooManyFields { fields_max }.into());
        assert_eq!((error.status(), error.flag()), (431, "too_many_fields"));
    }
}

#[test]
fn names_of_fields_are_as_long_as_http_2_can_carry() {
    let limits = HeadLimits { head_bytes_max: 1 << 20, fields_max: 9 };
    let request = |length| format!("GET / HTTP/1.1\r\nHost: a\r\n{}: x\r\n\r\n", "n".repeat(length));
    assert!(RequestHead::new().parse(request(65_535).as_bytes(), &limits).unwrap().is_some());
    assert_eq!(refused(&request(65_536), &limits), HeadError::FieldName.into());
}

#[test]
fn the_request_line_is_limited() {
    let head = |line_len: usize| {
        let path_len = line_len - "GET  HTTP/1.1".len();
        format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(path_len - 1))
    };
    let input = head(REQUEST_LINE_BYTES_MAX);
    assert_eq!(RequestHead::new().parse(input.as_bytes(), &LIMITS), Ok(Some(input.len())));
    let input = head(REQUEST_LINE_BYTES_MAX + 1);
    let error = refused(&input, &LIMITS);
    assert_eq!(error, RequestError::RequestLineTooLong { bytes_max: REQUEST_LINE_BYTES_MAX });
    assert_eq!((error.status(), error.flag()), (414, "request_line_too_long"));
    // Without its end, and when the limit of the head is the smaller one.
    assert_eq!(refused(&input[..REQUEST_LINE_BYTES_MAX + 2], &LIMITS), error);
    let limits = HeadLimits { head_bytes_max: 100, fields_max: 100 };
    assert_eq!(refused(&input, &limits), RequestError::RequestLineTooLong { bytes_max: 100 });
}

#[test]
fn methods() {
    for (method, safe, idempotent) in [
        ("GET", true, true),
        ("HEAD", true, true),
        ("OPTIONS", true, true),
        ("TRACE", true, true),
        ("PUT", false, true),
        ("DELETE", false, true),
        ("POST", false, false),
        ("PATCH", false, false),
        ("get", false, false),
    ] {
        let head = parsed(&format!("{method} / HTTP/1.1\r\nHost: a\r\n\r\n"));
        assert_eq!((head.is_safe(), head.is_idempotent()), (safe, idempotent), "{method}");
        assert_eq!(head.is_head(), method == "HEAD");
    }
}

#[test]
fn an_expectation_needs_a_body_and_http11() {
    for (input, expects) in [
        ("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-CONTINUE\r\nTransfer-Encoding: chunked\r\n\r\n", true),
        ("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n", true),
        ("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 0\r\n\r\n", false),
        ("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n\r\n", false),
        ("POST / HTTP/1.0\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n", false),
    ] {
        assert_eq!(parsed(input).expects_continue(), expects, "{input}");
    }
}

#[test]
fn an_upgrade_has_to_be_nominated_once_and_readable() {
    for (fields, upgrade) in [
        ("Connection: upgrade\r\nUpgrade: websocket\r\n", Some("websocket")),
        ("Upgrade: websocket\r\n", None),
        ("Connection: upgrade\r\n", None),
        ("Connection: upgrade\r\nUpgrade: a\r\nUpgrade: b\r\n", None),
        ("Connection: upgrade\r\nUpgrade: \u{e9}\r\n", None),
    ] {
        let head = parsed(&format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n"));
        assert_eq!(head.upgrade(), upgrade, "{fields}");
    }
    let head = parsed("GET / HTTP/1.0\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n");
    assert_eq!(head.upgrade(), None, "RFC 9110 §7.8: ignored on HTTP/1.0");
}

#[test]
fn statuses_of_errors() {
    for (error, status, flag) in [
        (HeadError::LengthAndEncoding.into(), 400, "length_and_encoding"),
        (HeadError::UnsupportedTransferEncoding.into(), 501, "unsupported_transfer_encoding"),
        (HeadError::BadTransferEncoding.into(), 400, "bad_transfer_encoding"),
        (RequestError::ConnectUnsupported, 501, "connect_unsupported"),
        (RequestError::MethodTooLong { bytes_max: 1 }, 501, "method_too_long"),
        (RequestError::UnsupportedVersion, 505, "unsupported_version"),
        (RequestError::ExpectationFailed, 417, "expectation_failed"),
        (HostError::Mismatch.into(), 400, "host_mismatch"),
        (PathError::AboveRoot.into(), 400, "path_above_root"),
    ] {
        let error: RequestError = error;
        assert_eq!((error.status(), error.flag()), (status, flag), "{error}");
    }
}

#[test]
fn debug_output_shows_no_credentials() {
    let head = parsed("GET /a?token=secret1 HTTP/1.1\r\nHost: a\r\nAuthorization: secret2\r\n\r\n");
    let shown = format!("{head:?}");
    assert!(shown.contains("/a") && !shown.contains("secret"), "{shown}");
}
