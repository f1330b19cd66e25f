use super::*;
use crate::{HeadLimits, RequestHead, RequestKind, ResponseHead, Version, date};

const LIMITS: HeadLimits = HeadLimits { head_bytes_max: 32 * 1024, fields_max: 100 };
const DATE: &[u8; 29] = b"Sun, 06 Nov 1994 08:49:37 GMT";

fn request(input: &str) -> RequestHead {
    let mut head = RequestHead::new();
    assert_eq!(head.parse(input.as_bytes(), &LIMITS), Ok(Some(input.len())), "{input}");
    head
}

fn response(input: &str, kind: RequestKind) -> ResponseHead {
    let mut head = ResponseHead::new();
    assert_eq!(head.parse(input.as_bytes(), kind, &LIMITS), Ok(Some(input.len())), "{input}");
    head
}

fn drop_nothing(_: &[u8]) -> bool {
    false
}

fn plain_request_edits() -> RequestEdits<'static> {
    RequestEdits {
        drop_field: &drop_nothing,
        path: None,
        authority: None,
        query: QueryEdits::default(),
        set: &[],
        add: &[],
        via: None,
        forwarded: Forwarded::default(),
        framing: BodyFraming::None,
        expect_continue: false,
    }
}

fn plain_response_edits() -> ResponseEdits<'static> {
    ResponseEdits {
        version: Version::Http11,
        keep_alive: true,
        is_recoded: false,
        via: None,
        date: None,
        drop_field: &drop_nothing,
        set: &[],
        add: &[],
    }
}

fn written_request(input: &str, edits: &RequestEdits<'_>) -> Result<String, WriteError> {
    let mut out = b"kept".to_vec();
    let written = request_head(&mut out, &request(input), edits);
    let text = String::from_utf8(out).unwrap();
    let text = text.strip_prefix("kept").unwrap().to_owned();
    assert!(written.is_ok() || text.is_empty(), "nothing is written on error");
    written.map(|()| text)
}

fn written_response(
    input: &str,
    kind: RequestKind,
    edits: &ResponseEdits<'_>,
) -> Result<(String, ResponseFraming), WriteError> {
    let mut out = b"kept".to_vec();
    let written = response_head(&mut out, &response(input, kind), edits);
    let text = String::from_utf8(out).unwrap();
    let text = text.strip_prefix("kept").unwrap().to_owned();
    assert!(written.is_ok() || text.is_empty(), "nothing is written on error");
    written.map(|framing| (text, framing))
}

/// The lines of a request about `/`, without start line and `host`.
fn request_lines(fields: &str, edits: &RequestEdits<'_>) -> Vec<String> {
    let text = written_request(&format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n"), edits).unwrap();
    let lines = text.strip_prefix("GET / HTTP/1.1\r\nhost: a\r\n").unwrap().strip_suffix("\r\n").unwrap();
    lines.split_terminator("\r\n").map(str::to_owned).collect()
}

#[test]
fn a_request_is_written_anew() {
    let input = "POST /a/%7e/../b?x=%2F HTTP/1.1\r\nAccept: */*\r\nHOST: Api.example.:8443\r\n\
                 Connection: close, X-Gone, TE\r\nx-gone: 1\r\nTE: trailers\r\nTrailer: x\r\nKeep-Alive: 1\r\n\
                 Proxy-Connection: x\r\nProxy-Authorization: x\r\nUpgrade: x\r\nTransfer-Encoding: chunked\r\n\
                 Expect: 100-continue\r\nClient_Cert: forged\r\nVia: 1.0 edge\r\nX-Kept:  two  words \r\n\
                 x-tenant: theirs\r\nForwarded: for=_x\r\n\r\n";
    let edits = RequestEdits {
        drop_field: &|name| name.eq_ignore_ascii_case(b"client_cert"),
        path: None,
        authority: None,
        query: QueryEdits { set: &[("b", "3")], remove: &[] },
        set: &[("client-cert", b":AQ==:"), ("X-Tenant", b"ours")],
        add: &[],
        via: Some("ringward"),
        forwarded: Forwarded {
            x_forwarded: ForwardMode::Append,
            forwarded: ForwardMode::Off,
            client_ip: "192.0.2.9",
            peer_ip: "192.0.2.1",
            proto: "https",
            host: "api.example:8443",
        },
        framing: BodyFraming::Chunked,
        expect_continue: true,
    };
    let expected = "POST /a/b?x=%2F&b=3 HTTP/1.1\r\nhost: api.example:8443\r\nAccept: */*\r\nX-Kept: two  words\r\n\
                    Forwarded: for=_x\r\nvia: 1.0 edge, 1.1 ringward\r\nx-forwarded-for: 192.0.2.1\r\n\
                    x-forwarded-proto: https\r\nx-forwarded-host: api.example:8443\r\n\
                    transfer-encoding: chunked\r\nexpect: 100-continue\r\nclient-cert: :AQ==:\r\nX-Tenant: ours\r\n\r\n";
    assert_eq!(written_request(input, &edits), Ok(expected.to_owned()));
}

#[test]
fn what_is_written_parses_to_the_same() {
    let input = "PUT /a;b/%C3%A9?q HTTP/1.1\r\nHost: a:1\r\nX: y\r\nContent-Length: 5\r\n\r\n";
    let edits = RequestEdits { framing: BodyFraming::Length(5), ..plain_request_edits() };
    let again = request(&written_request(input, &edits).unwrap());
    let head = request(input);
    assert_eq!((again.method(), again.path(), again.query()), (head.method(), head.path(), head.query()));
    assert_eq!((again.authority(), again.body()), (head.authority(), head.body()));
    assert_eq!(again.field("x"), head.field("x"));
}

#[test]
fn the_target_goes_on_in_origin_form() {
    for (line, expected) in [
        ("GET http://a/x/../y?z HTTP/1.1", "GET /y?z HTTP/1.1\r\nhost: a\r\n\r\n"),
        ("GET http://a? HTTP/1.1", "GET /? HTTP/1.1\r\nhost: a\r\n\r\n"),
        ("OPTIONS * HTTP/1.1", "OPTIONS * HTTP/1.1\r\nhost: a\r\n\r\n"),
        ("GET / HTTP/1.0", "GET / HTTP/1.1\r\nhost: a\r\n\r\n"),
    ] {
        let input = format!("{line}\r\nHost: a\r\n\r\n");
        assert_eq!(written_request(&input, &plain_request_edits()), Ok(expected.to_owned()), "{line}");
    }
    let without_host = written_request("GET / HTTP/1.0\r\n\r\n", &plain_request_edits());
    assert_eq!(
        without_host,
        Ok("GET / HTTP/1.1\r\nhost: \r\n\r\n".to_owned()),
        "RFC 9112 §3.2: present but empty"
    );
}

#[test]
fn framing_comes_from_the_edits_alone() {
    let fields = "Content-Length: 5\r\n";
    let lines = |framing| request_lines(fields, &RequestEdits { framing, ..plain_request_edits() });
    assert_eq!(lines(BodyFraming::Length(7)), ["content-length: 7"]);
    assert_eq!(lines(BodyFraming::Length(u64::MAX)), ["content-length: 18446744073709551615"]);
    assert_eq!(lines(BodyFraming::Chunked), ["transfer-encoding: chunked"]);
    assert_eq!(lines(BodyFraming::None), [""; 0]);
    let edits = RequestEdits { framing: BodyFraming::UntilClose, ..plain_request_edits() };
    let refused = written_request("GET / HTTP/1.1\r\nHost: a\r\n\r\n", &edits);
    assert_eq!(refused, Err(WriteError::UnframedRequest));
}

#[test]
fn another_path_goes_with_the_query_and_is_held_to_the_same_rules() {
    let edits = |path, authority| RequestEdits { path, authority, ..plain_request_edits() };
    let input = "GET /a?b=%2f HTTP/1.1\r\nHost: a\r\n\r\n";
    let written = written_request(input, &edits(Some("/c%20/"), Some("b:8080"))).unwrap();
    assert!(written.starts_with("GET /c%20/?b=%2f HTTP/1.1\r\nhost: b:8080\r\n"), "{written}");
    for path in
        ["", "c", "*", "/a b", "/a\r\nx: y", "/a?b", "/a#b", "/..", "/a/../b", "//", "/%2e", "/%0a", "/..;x"]
    {
        let refused = written_request(input, &edits(Some(path), None));
        assert_eq!(refused, Err(WriteError::BadTarget), "{path:?}");
    }
    for authority in ["a b", "a\r\nx: y"] {
        assert_eq!(written_request(input, &edits(None, Some(authority))), Err(WriteError::BadTarget));
    }
}

#[test]
fn via_passes_untouched_without_a_name() {
    let fields = "Via: 1.0 a\r\nvia: 1.1 b\r\n";
    assert_eq!(request_lines(fields, &plain_request_edits()), ["Via: 1.0 a", "via: 1.1 b"]);
    let edits = RequestEdits { via: Some("r"), ..plain_request_edits() };
    assert_eq!(request_lines(fields, &edits), ["via: 1.0 a, 1.1 b, 1.1 r"]);
    assert_eq!(request_lines("", &edits), ["via: 1.1 r"]);
    let edits = RequestEdits { via: Some("r, 1.1 forged"), ..plain_request_edits() };
    let refused = written_request("GET / HTTP/1.1\r\nHost: a\r\n\r\n", &edits);
    assert_eq!(refused, Err(WriteError::BadProvenance));
}

#[test]
fn x_forwarded_modes() {
    let fields = "X-Forwarded-For: 1.1.1.1\r\nx_forwarded_for: 2.2.2.2\r\nX-FORWARDED-FOR: 3.3.3.3\r\n\
                  X-Forwarded-Proto: http\r\nX-Forwarded-Port: 1\r\nX_Forwarded-Host: evil\r\nX: y\r\n";
    let lines = |x_forwarded| {
        let forwarded = Forwarded {
            x_forwarded,
            client_ip: "::1",
            peer_ip: "::2",
            proto: "https",
            host: "a",
            ..Forwarded::default()
        };
        request_lines(fields, &RequestEdits { forwarded, ..plain_request_edits() })
    };
    assert_eq!(lines(ForwardMode::Off), fields.split_terminator("\r\n").collect::<Vec<_>>());
    assert_eq!(
        lines(ForwardMode::Set),
        ["X: y", "x-forwarded-for: ::1", "x-forwarded-proto: https", "x-forwarded-host: a"]
    );
    assert_eq!(
        lines(ForwardMode::Append),
        [
            "X-Forwarded-Port: 1",
            "X: y",
            "x-forwarded-for: 1.1.1.1, 3.3.3.3, ::2",
            "x-forwarded-proto: http",
            "x-forwarded-host: a"
        ]
    );
}

#[test]
fn forwarded_modes() {
    let lines = |forwarded, fields: &str, client_ip, host| {
        let peer_ip = client_ip;
        let forwarded =
            Forwarded { forwarded, client_ip, peer_ip, proto: "https", host, ..Forwarded::default() };
        request_lines(fields, &RequestEdits { forwarded, ..plain_request_edits() })
    };
    let fields = "Forwarded: for=_a;by=\"x, \\\" y\"\r\nforwarded: for=_b\r\n";
    assert_eq!(
        lines(ForwardMode::Off, fields, "192.0.2.1", "a"),
        fields.split_terminator("\r\n").collect::<Vec<_>>()
    );
    assert_eq!(
        lines(ForwardMode::Set, fields, "192.0.2.1", "a:8443"),
        ["forwarded: for=192.0.2.1;host=\"a:8443\";proto=https"]
    );
    assert_eq!(
        lines(ForwardMode::Append, fields, "2001:db8::1", "a"),
        ["forwarded: for=_a;by=\"x, \\\" y\", for=_b, for=\"[2001:db8::1]\";host=a;proto=https"]
    );
    for open in ["for=\"_a", "for=\"_a\\", "for=\"_a\\\""] {
        let fields = format!("Forwarded: {open}\r\n");
        let expected = ["forwarded: for=192.0.2.1;proto=https"];
        assert_eq!(
            lines(ForwardMode::Append, &fields, "192.0.2.1", ""),
            expected,
            "would swallow ours: {open}"
        );
    }
}

#[test]
fn provenance_that_cannot_be_written_is_refused() {
    for (client_ip, peer_ip, proto, host) in [
        ("", "1.1.1.1", "https", "a"),
        ("1.1.1.1", "", "https", "a"),
        ("1.1.1.1\r\nx: y", "1.1.1.1", "https", "a"),
        ("1.1.1.1", "1.1.1.1, 2.2.2.2", "https", "a"),
        ("1.1.1.1", "1.1.1.1", "a b", "a"),
        ("1.1.1.1", "1.1.1.1", "https", "a\""),
    ] {
        for (x_forwarded, forwarded) in
            [(ForwardMode::Set, ForwardMode::Off), (ForwardMode::Off, ForwardMode::Append)]
        {
            let forwarded = Forwarded { x_forwarded, forwarded, client_ip, peer_ip, proto, host };
            let edits = RequestEdits { forwarded, ..plain_request_edits() };
            let refused = written_request("GET / HTTP/1.1\r\nHost: a\r\n\r\n", &edits);
            assert_eq!(refused, Err(WriteError::BadProvenance), "{client_ip:?} {proto:?} {host:?}");
        }
    }
}

#[test]
fn fields_that_would_break_the_message_cannot_be_set() {
    for (name, value, error) in [
        ("x", &b"a\r\nb: c"[..], WriteError::BadValue { index: 1 }),
        ("x", b"a\nb", WriteError::BadValue { index: 1 }),
        ("x", b"a\rb", WriteError::BadValue { index: 1 }),
        ("x", b"a\0", WriteError::BadValue { index: 1 }),
        ("x", b"\x7f", WriteError::BadValue { index: 1 }),
        ("", b"a", WriteError::BadName { index: 1 }),
        ("x:", b"a", WriteError::BadName { index: 1 }),
        ("x ", b"a", WriteError::BadName { index: 1 }),
        ("x\r\ny", b"a", WriteError::BadName { index: 1 }),
        ("\u{e9}", b"a", WriteError::BadName { index: 1 }),
        ("Content-Length", b"1", WriteError::Reserved { index: 1 }),
        ("transfer-encoding", b"chunked", WriteError::Reserved { index: 1 }),
        ("Connection", b"close", WriteError::Reserved { index: 1 }),
        ("Host", b"b", WriteError::Reserved { index: 1 }),
        ("expect", b"100-continue", WriteError::Reserved { index: 1 }),
        ("te", b"trailers", WriteError::Reserved { index: 1 }),
        ("upgrade", b"x", WriteError::Reserved { index: 1 }),
    ] {
        let set = [("ok", &b"ok"[..]), (name, value)];
        let request_edits = RequestEdits { set: &set, ..plain_request_edits() };
        let written = written_request("GET / HTTP/1.1\r\nHost: a\r\n\r\n", &request_edits);
        assert_eq!(written, Err(error), "request: {name:?}");
        for edits in [
            ResponseEdits { set: &set, ..plain_response_edits() },
            ResponseEdits { add: &set, ..plain_response_edits() },
        ] {
            let written = written_response("HTTP/1.1 200 OK\r\n\r\n", RequestKind::Other, &edits);
            assert_eq!(written, Err(error), "response: {name:?}");
        }
        let mut out = Vec::new();
        simple_response(&mut out, 403, &set, b"", false, false);
        let expected = "HTTP/1.1 403 Forbidden\r\nok: ok\r\ncontent-length: 0\r\n\r\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected, "own response: {name:?}");
        assert!(!is_settable(name, value));
    }
    assert!(is_settable("x-a", b"caf\xe9\t!"));
}

#[test]
fn a_response_is_written_anew() {
    let input = "HTTP/1.1 200 Fine\r\nServer: x\r\nConnection: X-Gone\r\nX-Gone: 1\r\nKeep-Alive: 1\r\nVia: 1.0 up\r\n\
                 Content-Length: 5\r\nProxy-Authenticate: x\r\nSet-Cookie: a\r\nset-cookie: b\r\nX-Frame: theirs\r\n\r\n";
    let edits = ResponseEdits {
        via: Some("ringward"),
        date: Some(DATE),
        drop_field: &|name| name.eq_ignore_ascii_case(b"server"),
        set: &[("x-frame", b"deny")],
        add: &[("set-cookie", b"c")],
        ..plain_response_edits()
    };
    let expected = "HTTP/1.1 200 Fine\r\nSet-Cookie: a\r\nset-cookie: b\r\nvia: 1.0 up, 1.1 ringward\r\n\
                    date: Sun, 06 Nov 1994 08:49:37 GMT\r\ncontent-length: 5\r\nx-frame: deny\r\nset-cookie: c\r\n\r\n";
    let framing = ResponseFraming { body: BodyFraming::Length(5), keep_alive: true };
    assert_eq!(written_response(input, RequestKind::Other, &edits), Ok((expected.to_owned(), framing)));
}

#[test]
fn responses_are_framed_for_the_client() {
    use BodyFraming::{Chunked, Length, None, UntilClose};
    use RequestKind::{Head, Other};
    use Version::{Http10, Http11};
    let length = "Content-Length: 5\r\n";
    let chunked = "Transfer-Encoding: chunked\r\n";
    for (kind, status, fields, version, keep_alive, lines, body, keeps) in [
        (Other, 200, length, Http11, true, "content-length: 5\r\n", Length(5), true),
        (Other, 200, length, Http11, false, "content-length: 5\r\nconnection: close\r\n", Length(5), false),
        (
            Other,
            200,
            length,
            Http10,
            true,
            "content-length: 5\r\nconnection: keep-alive\r\n",
            Length(5),
            true,
        ),
        (Other, 200, length, Http10, false, "content-length: 5\r\nconnection: close\r\n", Length(5), false),
        (Other, 200, chunked, Http11, true, "transfer-encoding: chunked\r\n", Chunked, true),
        (Other, 200, chunked, Http10, true, "connection: close\r\n", UntilClose, false),
        (Other, 200, "", Http11, true, "transfer-encoding: chunked\r\n", Chunked, true),
        (Other, 200, "", Http10, true, "connection: close\r\n", UntilClose, false),
        (Head, 200, length, Http11, true, "content-length: 5\r\n", None, true),
        (Head, 200, chunked, Http11, true, "", None, true),
        (Head, 200, "", Http10, true, "connection: keep-alive\r\n", None, true),
        (Other, 204, "", Http11, true, "", None, true),
        (Other, 204, length, Http11, true, "", None, true),
        (Head, 204, "Content-Length: 0\r\n", Http11, true, "", None, true),
        (Other, 204, chunked, Http11, true, "", None, true),
        (Other, 304, length, Http11, true, "content-length: 5\r\n", None, true),
        (Other, 304, chunked, Http11, false, "connection: close\r\n", None, false),
    ] {
        let edits = ResponseEdits { version, keep_alive, ..plain_response_edits() };
        let (text, framing) =
            written_response(&format!("HTTP/1.1 {status} X\r\n{fields}\r\n"), kind, &edits).unwrap();
        let case = format!("{kind:?} {status} {fields:?} {version:?} {keep_alive}");
        assert_eq!(text, format!("HTTP/1.1 {status} X\r\n{lines}\r\n"), "{case}");
        assert_eq!(framing, ResponseFraming { body, keep_alive: keeps }, "{case}");
    }
}

/// RFC 9110 §15.5.22. In all other responses it offers what nobody here would switch to.
#[test]
fn a_426_says_what_is_required() {
    let written = |fields: &str, version| {
        let input = format!("HTTP/1.1 426 Upgrade Required\r\n{fields}Content-Length: 0\r\n\r\n");
        let edits = ResponseEdits { version, ..plain_response_edits() };
        written_response(&input, RequestKind::Upgrade, &edits).unwrap().0
    };
    for listed in ["websocket", "websocket, SPDY/3.1"] {
        let fields = format!("Connection: Upgrade\r\nUpgrade: {listed}\r\n");
        let lines = format!("\r\nconnection: upgrade\r\nupgrade: {listed}\r\n");
        assert!(written(&fields, Version::Http11).contains(&lines), "{listed}");
        assert!(!written(&fields, Version::Http10).contains("pgrade:"), "it knows none");
    }
    for fields in ["", "Upgrade: a b\r\n", "Upgrade: a\r\nUpgrade: b\r\n", "Upgrade: a,\r\n"] {
        assert!(!written(fields, Version::Http11).contains("pgrade:"), "{fields}");
    }
}

#[test]
fn interim_responses_carry_neither_framing_nor_our_fields() {
    let edits = ResponseEdits {
        keep_alive: false,
        date: Some(DATE),
        set: &[("x", b"y")],
        add: &[("x", b"z")],
        via: Some("r"),
        ..plain_response_edits()
    };
    let input = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nX: theirs\r\nContent-Length: 5\r\nConnection: close\r\n\r\n";
    let (text, _) = written_response(input, RequestKind::Other, &edits).unwrap();
    assert_eq!(text, "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nvia: 1.1 r\r\n\r\n");
}

#[test]
fn a_date_is_added_only_if_there_is_none() {
    let lines = |fields: &str, edits: &ResponseEdits<'_>| {
        let input = format!("HTTP/1.1 204 X\r\n{fields}\r\n");
        let (text, _) = written_response(&input, RequestKind::Other, edits).unwrap();
        text.strip_prefix("HTTP/1.1 204 X\r\n").unwrap().strip_suffix("\r\n").unwrap().to_owned()
    };
    let now = date::imf_fixdate(0);
    let edits = ResponseEdits { date: Some(&now), ..plain_response_edits() };
    assert_eq!(lines("", &edits), "date: Thu, 01 Jan 1970 00:00:00 GMT\r\n");
    assert_eq!(lines("DATE: x\r\n", &edits), "DATE: x\r\n");
    assert_eq!(lines("Date: x\r\n", &ResponseEdits { set: &[("Date", b"y")], ..edits }), "Date: y\r\n");
    assert_eq!(lines("", &plain_response_edits()), "");
}

#[test]
fn own_responses() {
    for (status, fields, body, close, head_only, expected) in [
        (
            403,
            &[("x-request-id", &b"1"[..])][..],
            &b"denied\n"[..],
            false,
            false,
            "HTTP/1.1 403 Forbidden\r\nx-request-id: 1\r\ncontent-type: text/plain; charset=utf-8\r\n\
             content-length: 7\r\n\r\ndenied\n",
        ),
        (
            403,
            &[("Content-Type", b"application/json")],
            b"{}",
            true,
            false,
            "HTTP/1.1 403 Forbidden\r\nContent-Type: application/json\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}",
        ),
        (
            502,
            &[],
            b"x",
            true,
            true,
            "HTTP/1.1 502 Bad Gateway\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: 1\r\n\
             connection: close\r\n\r\n",
        ),
        (404, &[], b"", false, false, "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n"),
        (204, &[], b"x", false, false, "HTTP/1.1 204 No Content\r\n\r\n"),
        (499, &[], b"", false, false, "HTTP/1.1 499 \r\ncontent-length: 0\r\n\r\n"),
    ] {
        let mut out = Vec::new();
        simple_response(&mut out, status, fields, body, close, head_only);
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}

#[test]
fn chunks() {
    for (len, size) in
        [(1, "1"), (9, "9"), (10, "a"), (15, "f"), (16, "10"), (255, "ff"), (256, "100"), (65_536, "10000")]
    {
        let mut out = Vec::new();
        chunk(&mut out, &vec![b'x'; len]);
        assert_eq!(out, format!("{size}\r\n{}\r\n", "x".repeat(len)).into_bytes());
    }
    let mut out = Vec::new();
    chunk(&mut out, b"");
    assert_eq!(out, b"", "a chunk of size 0 would end the body");
}

#[test]
fn the_last_chunk_carries_only_harmless_trailers() {
    let mut out = Vec::new();
    last_chunk(&mut out, std::iter::empty());
    assert_eq!(out, b"0\r\n\r\n");
    out.clear();
    let trailers: [(&str, &[u8]); 5] = [
        ("Grpc-Status", b"0"),
        ("content_length", b"5"),
        ("x\r\ny", b"z"),
        ("x", b"a\r\nb: c"),
        ("Authorization", b"x"),
    ];
    last_chunk(&mut out, trailers.into_iter());
    assert_eq!(out, b"0\r\nGrpc-Status: 0\r\n\r\n");
}
