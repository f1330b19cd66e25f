//! Requests that are too large, ambiguous or malformed: each is refused with its status and flag, ends the connection, and
//! leaves nothing that could be taken for a request.
#![allow(clippy::unwrap_used, reason = "a failed expectation here is a failed test")]

mod support;

use ringward_testkit::{Connection, DEADLINE, Echo, Pattern, Response, eventually};

use self::support::{Gateway, HOST, Host};

const GENERATED: &str = "ringward_responses_generated_total";

/// Sends a whole request of raw bytes; the response, which must end the connection.
#[track_caller]
fn last_response(mut connection: Connection, request: &[u8]) -> Response {
    // The gateway may have answered before it has read all.
    let _ = connection.send(request);
    let response = connection.response().unwrap();
    assert_eq!(response.headers.get("connection"), Some("close"), "{response:?}");
    let (rest, _) = connection.wait_closed();
    assert!(rest.is_empty(), "after the response came {:?}", String::from_utf8_lossy(&rest));
    response
}

#[test]
fn heads_up_to_the_limits_pass_and_larger_ones_are_431() {
    let gateway = Gateway::builder().limits("head_bytes_max = \"8KiB\", fields_max = 20").start();
    // `host` and the padding count; the head is exactly as large as it may be, or one byte larger.
    let sized = |bytes: usize| {
        let head = format!("GET / HTTP/1.1\r\nhost: {HOST}\r\nx: \r\n\r\n");
        head.replace("x: ", &format!("x: {}", "a".repeat(bytes - head.len())))
    };
    let counted = |fields: usize| {
        let fields: String = (1..fields).map(|number| format!("x-{number}: a\r\n")).collect();
        format!("GET / HTTP/1.1\r\nhost: {HOST}\r\n{fields}\r\n")
    };
    let mut connection = gateway.connect();
    for request in [sized(8192), counted(20)] {
        connection.send(request.as_bytes()).unwrap();
        assert_eq!(connection.response().unwrap().status, 200);
    }
    for (request, flag) in [
        (sized(8193), "head_too_large"),
        (sized(100_000), "head_too_large"),
        // Without an end: refused as soon as it is too much.
        (sized(100_000)[..9000].to_owned(), "head_too_large"),
        (counted(21), "too_many_fields"),
        (counted(500), "too_many_fields"),
    ] {
        let before = gateway.metric(GENERATED, &[("flag", flag)]);
        let response = last_response(gateway.connect(), request.as_bytes());
        assert_eq!((response.status, response.text()), (431, "request header fields too large\n"), "{flag}");
        gateway.wait_for_metric(GENERATED, &[("flag", flag)], before + 1.0);
    }
    let long = format!("GET /{} HTTP/1.1\r\nhost: {HOST}\r\n\r\n", "a".repeat(20_000));
    assert_eq!(last_response(gateway.connect(), long.as_bytes()).status, 414);
    assert_eq!(gateway.upstream.requests().len(), 2);
    gateway.wait_for_closed("bad_request", 6);
    gateway.assert_serves();
}

#[test]
fn a_flood_of_header_bytes_is_not_held() {
    let gateway = Gateway::start();
    gateway.assert_serves();
    let before = gateway.peak_resident_bytes();
    let mut connections: Vec<_> = (0..50).map(|_| gateway.connect()).collect();
    for connection in &mut connections {
        let flood = format!("GET / HTTP/1.1\r\nhost: {HOST}\r\nx: {}", "a".repeat(200_000));
        let _ = connection.send(flood.as_bytes());
    }
    for mut connection in connections {
        assert_eq!(connection.response().unwrap().status, 431);
    }
    let growth = gateway.peak_resident_bytes().saturating_sub(before);
    assert!(growth < 20 << 20, "{growth} bytes for 50 heads of 32 KiB");
}

#[test]
fn a_body_beyond_the_limit_is_413() {
    let gateway = Gateway::builder()
        .limits("body_bytes_max = \"1MiB\"")
        .host(
            Host::new(&[HOST])
                .route("path = \"/{rest...}\"", "")
                .route("path = \"/more\"", "body_bytes_max = \"2MiB\""),
        )
        .start();
    let limit = 1 << 20;
    for chunked in [false, true] {
        let response = gateway.connect().upload("/", Pattern::new(limit), chunked).unwrap();
        assert_eq!(Echo::of(&response).body_bytes, limit, "as much as is allowed, chunked {chunked}");
        let response = gateway.connect().upload("/more", Pattern::new(2 * limit), chunked).unwrap();
        assert_eq!(Echo::of(&response).body_bytes, 2 * limit, "a route has its own limit");
    }
    let served = gateway.upstream.requests().len();
    // Known from the head: no byte of the body is waited for, and nothing goes upstream.
    for length in ["1048577", "10000000000", "9223372036854775807"] {
        let connection = gateway.connect();
        let head = connection.head("POST", "/", &[("content-length", length)]);
        let response = last_response(connection, &head);
        assert_eq!((response.status, response.text()), (413, "content too large\n"), "{length}");
    }
    assert_eq!(gateway.upstream.requests().len(), served);
    // Known only when it has become too much. The upstream must not take what it got for the whole.
    for (broken, bytes) in [(1, limit + 1), (2, 50 * limit)] {
        let mut connection = gateway.connect();
        let head = connection.head("POST", "/", &[("transfer-encoding", "chunked")]);
        connection.send(&head).unwrap();
        // What ends before the upstream has read it may be nothing to the upstream.
        eventually(DEADLINE, "the head upstream", || gateway.upstream.requests().len() == served + broken);
        let response = connection.upload_body(Pattern::new(bytes), true).unwrap();
        assert_eq!((response.status, response.headers.get("connection")), (413, Some("close")), "{bytes}");
    }
    gateway.wait_for_metric(GENERATED, &[("flag", "request_body_too_large")], 5.0);
    eventually(DEADLINE, "two broken requests upstream", || gateway.upstream.errors().len() == 2);
    gateway.assert_serves();
}

/// Each of these heads means different things to different servers. Behind each comes a request that a server would see that
/// reads it otherwise.
#[test]
fn ambiguous_heads_are_refused_and_end_the_connection() {
    let gateway = Gateway::start();
    let get = format!("GET / HTTP/1.1\r\nhost: {HOST}\r\n");
    let post = format!("POST / HTTP/1.1\r\nhost: {HOST}\r\n");
    let heads = [
        (
            format!("{post}content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"),
            "length_and_encoding",
        ),
        (
            format!("{post}transfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n0\r\n\r\n"),
            "length_and_encoding",
        ),
        (format!("{post}content-length: 5\r\ncontent-length: 6\r\n\r\nhello"), "repeated_content_length"),
        (format!("{post}content-length: 5\r\ncontent-length: 5\r\n\r\nhello"), "repeated_content_length"),
        (format!("{post}content-length: 5, 5\r\n\r\nhello"), "bad_content_length"),
        (format!("{post}content-length: +5\r\n\r\nhello"), "bad_content_length"),
        (format!("{post}content-length: 0x5\r\n\r\nhello"), "bad_content_length"),
        (format!("{post}content-length: 5 5\r\n\r\nhello"), "bad_content_length"),
        (format!("{post}content-length: 18446744073709551621\r\n\r\nhello"), "bad_content_length"),
        (format!("{post}content-length : 5\r\n\r\nhello"), "bad_field_name"),
        (format!("{post}transfer-encoding : chunked\r\n\r\n0\r\n\r\n"), "bad_field_name"),
        (format!("{post}transfer-encoding: xchunked\r\n\r\n0\r\n\r\n"), "bad_transfer_encoding"),
        (format!("{post}transfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n"), "bad_transfer_encoding"),
        (
            format!("{post}transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"),
            "bad_transfer_encoding",
        ),
        (format!("{post}transfer-encoding: \u{b}chunked\r\n\r\n0\r\n\r\n"), "bad_field_value"),
        (
            format!("POST / HTTP/1.0\r\nhost: {HOST}\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"),
            "encoding_on_http10",
        ),
        (format!("{post}x: y\r\n content-length: 5\r\n\r\nhello"), "line_folding"),
        (format!("{post}x: y\rcontent-length: 5\r\n\r\nhello"), "bad_field_value"),
        (format!("{post}x: y\ncontent-length: 5\r\n\r\nhello"), "bare_lf"),
        (format!("GET / HTTP/1.1\nhost: {HOST}\n\n"), "bare_lf"),
        (format!("{get}x: y\0z\r\n\r\n"), "bad_field_value"),
        (format!("{get}x\0: y\r\n\r\n"), "bad_field_name"),
        (format!("{get}: y\r\n\r\n"), "bad_field_name"),
        (format!("{get}no colon\r\n\r\n"), "bad_field_name"),
        (format!("{get}host: other\r\n\r\n"), "repeated_host"),
        ("GET / HTTP/1.1\r\n\r\n".to_owned(), "missing_host"),
        ("GET / HTTP/1.1\r\nhost: a b\r\n\r\n".to_owned(), "bad_host"),
        ("GET / HTTP/1.1\r\nhost: user@api.example.com\r\n\r\n".to_owned(), "bad_host"),
        ("GET / HTTP/1.1\r\nhost: api.example.com/x\r\n\r\n".to_owned(), "bad_host"),
        (format!("GET http://other/ HTTP/1.1\r\nhost: {HOST}\r\n\r\n"), "host_mismatch"),
        (format!("GET  / HTTP/1.1\r\nhost: {HOST}\r\n\r\n"), "bad_request_line"),
        (format!("GET / HTTP/1.1 \r\nhost: {HOST}\r\n\r\n"), "bad_request_line"),
        (format!("GET / http/1.1\r\nhost: {HOST}\r\n\r\n"), "bad_request_line"),
        (format!("GET /a b HTTP/1.1\r\nhost: {HOST}\r\n\r\n"), "bad_request_line"),
        (format!("G@T / HTTP/1.1\r\nhost: {HOST}\r\n\r\n"), "bad_method"),
        (format!("GET /a#b HTTP/1.1\r\nhost: {HOST}\r\n\r\n"), "bad_target"),
        (format!("GET /a\\b HTTP/1.1\r\nhost: {HOST}\r\n\r\n"), "path_forbidden_byte"),
        (format!("GET /%00 HTTP/1.1\r\nhost: {HOST}\r\n\r\n"), "path_forbidden_escape"),
        (format!("GET /%zz HTTP/1.1\r\nhost: {HOST}\r\n\r\n"), "path_bad_escape"),
        (format!("GET /%c0%ae/ HTTP/1.1\r\nhost: {HOST}\r\n\r\n"), "path_not_utf8"),
        (format!("GET /../a HTTP/1.1\r\nhost: {HOST}\r\n\r\n"), "path_above_root"),
        (format!("GET //a HTTP/1.1\r\nhost: {HOST}\r\n\r\n"), "path_empty_segment"),
        (format!("GET /a/..;/b HTTP/1.1\r\nhost: {HOST}\r\n\r\n"), "path_disguised_dot_segment"),
        (format!("{get}connection: content-length\r\n\r\n"), "protected_connection_option"),
        (format!("\r\n\r\n{get}\r\n"), "empty_line"),
    ];
    for (head, flag) in &heads {
        let before = gateway.metric(GENERATED, &[("flag", flag)]);
        let smuggled = format!("GET /smuggled HTTP/1.1\r\nhost: {HOST}\r\n\r\n");
        let response = last_response(gateway.connect(), format!("{head}{smuggled}").as_bytes());
        assert_eq!((response.status, response.text()), (400, "bad request\n"), "{head:?}");
        gateway.wait_for_metric(GENERATED, &[("flag", flag)], before + 1.0);
    }
    gateway.wait_for_closed("bad_request", heads.len());
    assert_eq!(gateway.upstream.connections_accepted(), 0, "no byte of these has reached the upstream");
    gateway.assert_serves();
}

#[test]
fn what_is_well_formed_but_not_offered_has_its_own_status() {
    let gateway = Gateway::start();
    for (head, status) in [
        (format!("POST / HTTP/1.1\r\nhost: {HOST}\r\ntransfer-encoding: gzip, chunked\r\n\r\n"), 501),
        (format!("CONNECT {HOST}:443 HTTP/1.1\r\nhost: {HOST}:443\r\n\r\n"), 501),
        (format!("GET / HTTP/2.0\r\nhost: {HOST}\r\n\r\n"), 505),
        (format!("GET / HTTP/1.2\r\nhost: {HOST}\r\n\r\n"), 505),
    ] {
        assert_eq!(last_response(gateway.connect(), head.as_bytes()).status, status, "{head:?}");
    }
    assert_eq!(gateway.upstream.connections_accepted(), 0);
}

#[test]
fn a_malformed_chunk_is_400_and_what_follows_is_no_request() {
    let gateway = Gateway::start();
    let smuggled = format!("GET /smuggled HTTP/1.1\r\nhost: {HOST}\r\n\r\n");
    for body in [
        "5\r\nhelloXX0\r\n\r\n",
        "x\r\nhello\r\n0\r\n\r\n",
        "+5\r\nhello\r\n0\r\n\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
        "5 \r\nhello\r\n0\r\n\r\n",
        "5\nhello\r\n0\r\n\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "5;a\nhello\r\n0\r\n\r\n",
        "fffffffffffffffff\r\nhello\r\n0\r\n\r\n",
        "0\r\nx : y\r\n\r\n",
        "0\r\nno colon\r\n\r\n",
        "0\r\n\n",
        "\r\n",
    ] {
        let mut connection = gateway.connect();
        let mut request = connection.head("POST", "/", &[("transfer-encoding", "chunked")]);
        request.extend(body.bytes().chain(smuggled.bytes()));
        connection.send(&request).unwrap();
        let response = connection.response().unwrap();
        assert_eq!((response.status, response.headers.get("connection")), (400, Some("close")), "{body:?}");
        assert!(connection.wait_closed().0.is_empty(), "{body:?}");
    }
    let received = gateway.upstream.requests();
    assert!(received.iter().all(|request| request.target == "/"), "{received:?}");
    gateway.wait_for_metric(GENERATED, &[("flag", "request_body_malformed")], 13.0);
    gateway.assert_serves();
}

#[test]
fn endless_chunk_extensions_and_trailers_are_refused() {
    let gateway = Gateway::builder().limits("body_bytes_max = \"unlimited\"").start();
    let extensions = "1;".to_owned() + &"a".repeat(200_000);
    let trailers = "0\r\n".to_owned() + &"x: y\r\n".repeat(50_000);
    let one_trailer = "0\r\nx: ".to_owned() + &"y".repeat(200_000);
    let many_extensions = format!("1;{}\r\nx\r\n", "a".repeat(100)).repeat(2_000);
    for body in [extensions, trailers, one_trailer, many_extensions] {
        let mut connection = gateway.connect();
        let head = connection.head("POST", "/", &[("transfer-encoding", "chunked")]);
        let _ = connection.send(&[&head, body.as_bytes()].concat());
        assert_eq!(connection.response().unwrap().status, 400, "{}", &body[..20]);
    }
}
