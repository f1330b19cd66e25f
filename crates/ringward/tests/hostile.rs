//! Clients that are malformed, slow, greedy or gone. Each gets the right status or alert and is counted under the right reason;
//! nothing of what is refused reaches the upstream, and the gateway serves others as before.

mod support;

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use ringward_testkit::{ClientError, Closing, Connection, DEADLINE, Echo, Gate, Pattern, Response, Script, eventually};
use socket2::SockRef;

use self::support::{Gateway, HOST, Host, client_hello, connect_tcp, on_both_drivers, read_until_closed};

on_both_drivers!(
    malformed_tls_ends_in_an_alert_and_nothing_else,
    a_slow_head_is_408,
    a_slow_body_is_408,
    clients_that_vanish_leave_nothing_behind,
    an_idle_connection_is_closed_in_order,
);

const GENERATED: &str = "ringward_responses_generated_total";

/// Sends `bytes` one by one with a short pause after each, until the peer says something or closes. The pause is a read that
/// times out.
fn trickle(mut send: impl FnMut(&[u8]) -> bool, stream: &TcpStream, bytes: &[u8]) {
    stream.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    for byte in bytes {
        if !send(&[*byte]) {
            break;
        }
        match stream.peek(&mut [0]) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            _ => break,
        }
    }
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
}

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

fn malformed_tls_ends_in_an_alert_and_nothing_else(driver: &str) {
    let gateway = Gateway::builder().io(driver).limits("handshake_timeout = \"1s\"").start();
    let hello = client_hello(HOST);
    let with = |at: usize, bytes: &[u8]| {
        let mut changed = hello.clone();
        changed[at..at + bytes.len()].copy_from_slice(bytes);
        changed
    };
    // RFC 8446 §4.1.2: behind record and message header come version, random, session id, suites, compression, extensions.
    let suites_at = 5 + 4 + 2 + 32 + 1 + 32;
    let suites = usize::from(hello[suites_at]) << 8 | usize::from(hello[suites_at + 1]);
    let extensions_at = suites_at + 2 + suites + 2;
    let mut giant = vec![0x16, 3, 1, 0x40, 0, 1, 0xff, 0xff, 0xff];
    giant.resize(80_000, 0);
    let attempts: [(&str, Vec<u8>); 12] = [
        ("zeros", vec![0; 64]),
        ("noise", Pattern::new(4096).to_vec()),
        ("an alert", vec![21, 3, 3, 0, 2, 2, 40]),
        ("application data", [&[23, 3, 3, 0, 32][..], &[7; 32]].concat()),
        ("an SSL 2 hello", vec![0x80, 46, 1, 0, 2, 0, 21, 0, 0, 0, 16, 1, 0, 128, 2, 0, 128]),
        ("a record of another version", with(1, &[9, 9])),
        ("a record that is too long", with(3, &[0xff, 0xff])),
        ("an empty record", vec![22, 3, 1, 0, 0, 22, 3, 1, 0, 0]),
        ("a ServerHello", with(5, &[2])),
        ("a giant ClientHello", giant),
        ("a session id that does not fit", with(43, &[255])),
        ("extensions that do not fit", with(extensions_at, &[0xff, 0xff])),
    ];
    for (name, bytes) in &attempts {
        let mut stream = connect_tcp(gateway.edge);
        // The gateway may have closed before it has taken all.
        let _ = stream.write_all(bytes);
        let _ = stream.shutdown(Shutdown::Write);
        let answer = read_until_closed(&mut stream);
        let is_alert = answer.len() == 7 && answer[0] == 21;
        assert!(answer.is_empty() || is_alert, "{name}: answered with {} bytes", answer.len());
    }
    gateway.wait_for_closed("handshake_failed", attempts.len());
    let failed = |reason: &str| {
        let labels = [("outcome", "failed"), ("reason", reason)];
        gateway.metric("ringward_handshakes_finished_total", &labels)
    };
    // Whatever is cut within a record or message looks like a client that went away in the middle.
    assert_eq!(failed("malformed") + failed("peer_closed"), attempts.len() as f64);
    assert!(failed("malformed") >= attempts.len() as f64 - 4.0, "{}", failed("malformed"));
    gateway.assert_serves();
}

#[test]
fn garbage_in_the_middle_of_a_handshake_is_refused() {
    let gateway = Gateway::start();
    for garbage in [&[0_u8; 32][..], &[22, 3, 3, 0, 4, 1, 2, 3, 4], &[23, 3, 3, 0, 20, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20]] {
        let mut stream = connect_tcp(gateway.edge);
        stream.write_all(&[&client_hello(HOST), garbage].concat()).unwrap();
        let answer = read_until_closed(&mut stream);
        assert!(answer.is_empty() || answer[0] == 22 || answer[0] == 21, "{answer:?}");
    }
    gateway.wait_for_failed_handshakes("malformed", 3);
    gateway.assert_serves();
}

#[test]
fn a_broken_record_after_the_handshake_ends_the_connection() {
    let gateway = Gateway::start();
    let mut connection = gateway.connect();
    assert_eq!(connection.get("/").unwrap().status, 200);
    // Below TLS: what decrypts to nothing.
    let mut tcp = connection.tcp();
    tcp.write_all(&[23, 3, 3, 0, 32]).unwrap();
    tcp.write_all(&[7; 32]).unwrap();
    let (rest, closing) = connection.wait_closed();
    assert!(rest.is_empty() && closing == Closing::Alert(rustls::AlertDescription::BadRecordMac), "{closing:?}");
    gateway.wait_for_closed("tls", 1);
    gateway.assert_serves();
}

#[test]
fn plain_http_to_the_tls_port_is_counted_and_not_served() {
    let gateway = Gateway::start();
    for request in ["GET / HTTP/1.1\r\nhost: api.example.com\r\n\r\n", "POST /x HTTP/1.0\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
        let mut stream = connect_tcp(gateway.edge);
        stream.write_all(request.as_bytes()).unwrap();
        let answer = String::from_utf8_lossy(&read_until_closed(&mut stream)).into_owned();
        // Saying so in plain HTTP is a courtesy; anything else would be a service.
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400 ") || answer.starts_with('\u{15}'), "{answer:?}");
    }
    gateway.wait_for_failed_handshakes("plain_http", 3);
    assert_eq!(gateway.upstream.connections_accepted(), 0);
}

#[test]
fn a_connection_that_says_nothing_or_half_a_hello_is_closed_after_the_handshake_timeout() {
    let gateway = Gateway::builder().limits("handshake_timeout = \"300ms\"").start();
    let hello = client_hello(HOST);
    for part in [&b""[..], b"G", &hello[..3], &hello[..hello.len() / 2], &hello] {
        let started = Instant::now();
        let mut stream = connect_tcp(gateway.edge);
        stream.write_all(part).unwrap();
        read_until_closed(&mut stream);
        assert!(started.elapsed() >= Duration::from_millis(300), "closed too early after {} bytes", part.len());
    }
    gateway.wait_for_failed_handshakes("timeout", 5);
    gateway.assert_serves();
}

#[test]
fn a_slow_hello_does_not_extend_the_handshake_timeout() {
    let gateway = Gateway::builder().limits("handshake_timeout = \"300ms\"").start();
    let mut stream = connect_tcp(gateway.edge);
    let mut writer = stream.try_clone().unwrap();
    let started = Instant::now();
    trickle(|byte| writer.write_all(byte).is_ok(), &stream, &client_hello(HOST));
    read_until_closed(&mut stream);
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    gateway.wait_for_failed_handshakes("timeout", 1);
}

fn a_slow_head_is_408(driver: &str) {
    let gateway = Gateway::builder().io(driver).limits("header_timeout = \"300ms\"").start();
    // One that stops, and one that never stops to trickle: each byte must not extend the time.
    for trickles in [false, true] {
        let mut connection = gateway.connect();
        let head = connection.head("GET", "/", &[("x", &"y".repeat(10_000))]);
        if trickles {
            let tcp = connection.tcp().try_clone().unwrap();
            trickle(|byte| connection.send(byte).is_ok(), &tcp, &head);
        } else {
            connection.send(&head[..20]).unwrap();
        }
        let response = connection.response().unwrap();
        assert_eq!((response.status, response.headers.get("connection")), (408, Some("close")));
        assert_eq!(connection.wait_closed().1, Closing::Notified);
    }
    gateway.wait_for_metric(GENERATED, &[("flag", "request_head_timeout")], 2.0);
    gateway.wait_for_closed("header_timeout", 2);
    assert_eq!(gateway.upstream.connections_accepted(), 0);
}

fn a_slow_body_is_408(driver: &str) {
    let gateway = Gateway::builder().io(driver).limits("body_timeout = \"300ms\"").start();
    for (framing, part) in [(("content-length", "100000"), "some"), (("content-length", "5"), ""), (("transfer-encoding", "chunked"), "4\r\nso")] {
        let mut connection = gateway.connect();
        let mut request = connection.head("POST", "/", &[framing]);
        request.extend(part.bytes());
        connection.send(&request).unwrap();
        let response = connection.response().unwrap();
        assert_eq!((response.status, response.headers.get("connection")), (408, Some("close")), "{framing:?}");
        assert_eq!(connection.wait_closed().1, Closing::Notified);
    }
    gateway.wait_for_metric(GENERATED, &[("flag", "request_body_timeout")], 3.0);
    gateway.wait_for_closed("body_timeout", 3);
    // RFC 9112 §8: to the upstream none of them looks complete.
    eventually(DEADLINE, "three broken requests upstream", || gateway.upstream.errors().len() == 3);
    gateway.assert_serves();
}

#[test]
fn a_body_that_keeps_coming_is_not_slow() {
    let gateway = Gateway::builder().limits("body_timeout = \"300ms\"").start();
    let mut connection = gateway.connect();
    let head = connection.head("POST", "/", &[("content-length", "40")]);
    connection.send(&head).unwrap();
    let tcp = connection.tcp().try_clone().unwrap();
    let started = Instant::now();
    trickle(|byte| connection.send(byte).is_ok(), &tcp, &[b'x'; 40]);
    assert!(started.elapsed() > Duration::from_millis(600), "this took longer than a pause may");
    assert_eq!(Echo::of(&connection.response().unwrap()).body_bytes, 40);
}

#[test]
fn a_client_that_takes_nothing_of_its_response_is_cut_off() {
    let gateway = Gateway::builder().limits("body_timeout = \"300ms\"").start();
    let mut connection = gateway.connect();
    SockRef::from(connection.tcp()).set_recv_buffer_size(16 * 1024).unwrap();
    let head = connection.head("GET", "/big/100000000", &[]);
    connection.send(&head).unwrap();
    let record = gateway.wait_for_record("flag", "client_stalled");
    assert_eq!(record["status"], 200, "{record}");
    gateway.wait_for_closed("body_timeout", 1);
    assert!(connection.response().is_err(), "what it gets does not look complete");
    eventually(DEADLINE, "the upstream is let go", || gateway.upstream.connections_open() == 0);
}

fn an_idle_connection_is_closed_in_order(driver: &str) {
    let gateway = Gateway::builder().io(driver).limits("idle_timeout = \"300ms\"").start();
    let mut unused = gateway.connect();
    let mut used = gateway.connect();
    let started = Instant::now();
    assert_eq!(used.get("/").unwrap().status, 200);
    for connection in [&mut used, &mut unused] {
        let (rest, closing) = connection.wait_closed();
        assert!(rest.is_empty() && closing == Closing::Notified, "{closing:?}");
    }
    assert!(started.elapsed() >= Duration::from_millis(300), "{:?}", started.elapsed());
    gateway.wait_for_closed("idle_timeout", 2);
}

#[test]
fn part_of_a_record_does_not_keep_an_idle_connection() {
    let gateway = Gateway::builder().limits("idle_timeout = \"300ms\", header_timeout = \"300ms\"").start();
    let mut connection = gateway.connect();
    // A record of 16 KiB is announced, and then trickles without end: nothing of it can be decrypted.
    let mut tcp = connection.tcp().try_clone().unwrap();
    tcp.write_all(&[23, 3, 3, 0x40, 0]).unwrap();
    let mut writer = tcp.try_clone().unwrap();
    let started = Instant::now();
    trickle(|byte| writer.write_all(byte).is_ok(), &tcp, &[0; 1000]);
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    connection.wait_closed();
    gateway.wait_for_no_connections();
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
    let growth = gateway.peak_resident_bytes() - before;
    assert!(growth < 20 << 20, "{growth} bytes for 50 heads of 32 KiB");
}

#[test]
fn a_body_beyond_the_limit_is_413() {
    let gateway = Gateway::builder()
        .limits("body_bytes_max = \"1MiB\"")
        .host(Host::new(&[HOST]).route("path = \"/{rest...}\"", "").route("path = \"/more\"", "body_bytes_max = \"2MiB\""))
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
    for bytes in [limit + 1, 50 * limit] {
        let mut connection = gateway.connect();
        let response = connection.upload("/", Pattern::new(bytes), true).unwrap();
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
        (format!("{post}content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"), "length_and_encoding"),
        (format!("{post}transfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n0\r\n\r\n"), "length_and_encoding"),
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
        (format!("{post}transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"), "bad_transfer_encoding"),
        (format!("{post}transfer-encoding: \u{b}chunked\r\n\r\n0\r\n\r\n"), "bad_field_value"),
        (format!("POST / HTTP/1.0\r\nhost: {HOST}\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"), "encoding_on_http10"),
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

fn clients_that_vanish_leave_nothing_behind(driver: &str) {
    let gateway = Gateway::builder().io(driver).limits("body_bytes_max = \"unlimited\"").start();
    let gate = Gate::new();
    gateway.upstream.on("/stuck", Script::new().read_body().wait(&gate).close());
    gateway.assert_serves();
    gateway.wait_for_no_connections();
    let files = gateway.process.open_files();
    let hello = client_hello(HOST);
    let mut stuck = 0;
    for round in 0..3 {
        for reset in [false, true] {
            // Before, within and right after the ClientHello.
            for part in [&b""[..], &hello[..hello.len() / 2], &hello] {
                let mut stream = connect_tcp(gateway.edge);
                stream.write_all(part).unwrap();
                if part.len() == hello.len() {
                    stream.read_exact(&mut [0]).unwrap();
                }
                if reset {
                    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
                }
            }
            let go = |connection: Connection| if reset { connection.reset() } else { drop(connection) };
            // After the handshake, and between two requests.
            go(gateway.connect());
            let mut connection = gateway.connect();
            assert_eq!(connection.get("/").unwrap().status, 200);
            go(connection);
            // Within a head, a body of either kind, and a response.
            let requests: [(&str, &str, &[(&str, &str)], &str); 5] = [
                ("GET", "/half-a-head", &[], ""),
                ("POST", "/", &[("content-length", "100000")], "some"),
                ("POST", "/", &[("transfer-encoding", "chunked")], "ff\r\nsome"),
                ("GET", "/big/100000000", &[], ""),
                ("GET", "/stuck", &[], ""),
            ];
            for (method, target, fields, body) in requests {
                let mut connection = gateway.connect();
                let mut request = connection.head(method, target, fields);
                request.extend(body.bytes());
                match target {
                    "/half-a-head" => request.truncate(20),
                    "/stuck" => stuck += 1,
                    _ => {}
                }
                connection.send(&request).unwrap();
                match target {
                    "/stuck" => gate.wait_for_arrivals(stuck, DEADLINE),
                    "/big/100000000" => assert!(connection.tcp().peek(&mut [0]).is_ok()),
                    _ => {}
                }
                go(connection);
            }
        }
        gateway.wait_for_no_connections();
        assert_eq!(gateway.metric("ringward_worker_panics_total", &[]), 0.0, "{round}");
    }
    gate.open();
    // What is left upstream is what is kept for others.
    eventually(DEADLINE, "the upstream is let go", || gateway.upstream.connections_open() <= 1);
    eventually(DEADLINE, "all files are closed", || gateway.process.open_files() <= files);
    gateway.assert_serves();
}

#[test]
fn a_connection_serves_as_many_requests_as_it_may() {
    let gateway = Gateway::builder().limits("requests_per_connection_max = 3").start();
    let mut connection = gateway.connect();
    let requests: Vec<u8> = (0..5).flat_map(|_| connection.head("GET", "/", &[])).collect();
    connection.send(&requests).unwrap();
    for number in 1..=3 {
        let response = connection.response().unwrap();
        assert_eq!(response.status, 200);
        assert_eq!(response.headers.get("connection"), (number == 3).then_some("close"), "{number}");
    }
    assert_eq!(connection.wait_closed(), (Vec::new(), Closing::Notified));
    assert_eq!(gateway.upstream.requests().len(), 3);
    gateway.wait_for_closed("request_limit", 1);
}

#[test]
fn a_connection_ends_at_its_greatest_age() {
    let gateway = Gateway::builder().limits("connection_age_max = \"1s\"").start();
    let started = Instant::now();
    let mut idle = gateway.connect();
    // One that is never idle: it ends after an exchange, and says so in the response.
    let mut busy = gateway.connect();
    while busy.get("/").unwrap().keeps_alive() {
        assert!(started.elapsed() < DEADLINE, "it is served for ever");
    }
    assert_eq!(busy.wait_closed(), (Vec::new(), Closing::Notified));
    assert_eq!(idle.wait_closed(), (Vec::new(), Closing::Notified));
    assert!(started.elapsed() >= Duration::from_millis(950), "{:?}", started.elapsed());
    gateway.wait_for_closed("age_limit", 2);
}

#[test]
fn connections_beyond_the_limit_are_closed_at_once() {
    let gateway = Gateway::builder().limits("connections_max = 3").start();
    let mut admitted: Vec<_> = (0..3).map(|_| gateway.connect()).collect();
    for _ in 0..2 {
        let error = gateway.client().connect(gateway.edge).unwrap_err();
        assert!(matches!(error, ClientError::Cut | ClientError::Reset), "{error}");
    }
    gateway.wait_for_closed("connection_limit", 2);
    for connection in &mut admitted {
        assert_eq!(connection.get("/").unwrap().status, 200, "those that were there are not disturbed");
    }
    drop(admitted.pop());
    gateway.wait_for_closed("peer", 1);
    assert_eq!(gateway.connect().get("/").unwrap().status, 200);
}

#[test]
fn connections_that_never_shake_hands_count_as_connections() {
    let gateway = Gateway::builder().limits("connections_max = 2, handshake_timeout = \"300ms\"").start();
    let silent = [connect_tcp(gateway.edge), connect_tcp(gateway.edge)];
    gateway.wait_for_metric("ringward_connections_active", &[], 2.0);
    assert!(gateway.client().connect(gateway.edge).is_err());
    // They do not keep others out for longer than a handshake may take.
    gateway.wait_for_failed_handshakes("timeout", 2);
    gateway.assert_serves();
    drop(silent);
}
