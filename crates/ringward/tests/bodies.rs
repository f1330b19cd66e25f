//! Large and slow bodies: unchanged, in little memory, at the pace of the slower side.
#![allow(clippy::unwrap_used, reason = "a failed expectation here is a failed test")]

mod support;

use std::io::{ErrorKind, Write};
use std::net::TcpStream;
use std::time::Duration;

use ringward_testkit::{ClientError, Closing, DEADLINE, Echo, Pattern, Script, sha256_hex};
use socket2::SockRef;

use self::support::{Builder, Gateway, HOST, PlayedUpstream, on_both_drivers};

on_both_drivers!(
    large_bodies_pass_unchanged_and_are_not_held,
    an_upstream_is_not_drained_faster_than_the_client_reads,
    a_client_is_not_drained_faster_than_the_upstream_reads,
    both_directions_stream_at_once,
);

const MIB: u64 = 1 << 20;
/// How much more memory any number of body bytes may take: a few buffers, and what an allocator keeps back.
const GROWTH_MAX: u64 = 16 * MIB;

fn unlimited() -> Builder {
    Gateway::builder().limits("body_bytes_max = \"unlimited\"")
}

fn large_bodies_pass_unchanged_and_are_not_held(driver: &str) {
    bodies_pass_unchanged_and_are_not_held(driver, 64 * MIB);
}

#[test]
#[ignore = "moves 4 GiB, which takes some ten seconds"]
fn a_gibibyte_passes_unchanged_and_is_not_held() {
    bodies_pass_unchanged_and_are_not_held("auto", 1024 * MIB);
}

fn bodies_pass_unchanged_and_are_not_held(driver: &str, bytes: u64) {
    let gateway = unlimited().io(driver).start();
    let mut connection = gateway.connect();
    assert_eq!(connection.get("/").unwrap().status, 200);
    let before = gateway.peak_resident_bytes();
    let body = Pattern::new(bytes);
    let hash = body.sha256_hex();
    for chunked in [false, true] {
        let echo = Echo::of(&connection.upload("/upload", body, chunked).unwrap());
        assert_eq!((echo.body_bytes, &echo.body_sha256), (bytes, &hash), "up, chunked {chunked}");
    }
    for path in ["big", "big-chunked"] {
        let (response, received) = connection.download(&format!("/{path}/{bytes}")).unwrap();
        assert_eq!((response.status, response.body_bytes, &received), (200, bytes, &hash), "down, {path}");
    }
    let growth = gateway.peak_resident_bytes().saturating_sub(before);
    assert!(growth <= GROWTH_MAX, "resident memory grew by {growth} bytes");
    assert_eq!(gateway.upstream.connections_accepted(), 1);
}

fn an_upstream_is_not_drained_faster_than_the_client_reads(driver: &str) {
    let played = PlayedUpstream::start();
    let gateway = unlimited().endpoints(&[played.address()], "").io(driver).start();
    let mut connection = gateway.connect();
    SockRef::from(connection.tcp()).set_recv_buffer_size(64 * 1024).unwrap();
    let before = gateway.peak_resident_bytes();
    let head = connection.head("GET", "/", &[]);
    connection.send(&head).unwrap();
    let mut upstream = played.accept();
    upstream.head();
    let body = Pattern::new(128 * MIB);
    upstream.send(&format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len()));

    // The client reads nothing, so this stops when all buffers on the way are full.
    let bytes = body.to_vec();
    let sent = write_until_stalled(&upstream.stream, &bytes);
    assert!(sent < 64 * MIB as usize, "{sent} bytes were taken although nobody reads them");
    let growth = gateway.peak_resident_bytes().saturating_sub(before);
    assert!(growth <= GROWTH_MAX, "resident memory grew by {growth} bytes");

    std::thread::scope(|scope| {
        scope.spawn(|| {
            upstream.stream.set_write_timeout(Some(DEADLINE)).unwrap();
            upstream.stream.write_all(&bytes[sent..]).unwrap();
        });
        let response = connection.response().unwrap();
        assert!(response.body == bytes, "the body has changed");
    });
    let growth = gateway.peak_resident_bytes().saturating_sub(before);
    assert!(growth <= GROWTH_MAX, "resident memory grew by {growth} bytes");
}

fn a_client_is_not_drained_faster_than_the_upstream_reads(driver: &str) {
    let played = PlayedUpstream::start();
    let gateway = unlimited().endpoints(&[played.address()], "").io(driver).start();
    let before = gateway.peak_resident_bytes();
    let body = Pattern::new(128 * MIB);
    for framing in [("content-length", body.len().to_string()), ("transfer-encoding", "chunked".to_owned())] {
        let mut connection = gateway.client().timeout(STALL).connect(gateway.edge).unwrap();
        let head = connection.head("POST", "/", &[(framing.0, &framing.1)]);
        connection.send(&head).unwrap();
        let mut upstream = played.accept();
        upstream.head();
        let mut sent = 0;
        let stalled = body.for_each_block(|block| {
            if framing.0 == "transfer-encoding" {
                connection.send(format!("{:x}\r\n", block.len()).as_bytes())?;
            }
            connection.send(block)?;
            sent += block.len() as u64;
            if framing.0 == "transfer-encoding" { connection.send(b"\r\n") } else { Ok(()) }
        });
        assert!(matches!(stalled, Err(ClientError::Timeout)), "{stalled:?} after {sent} bytes");
        assert!(sent < 64 * MIB, "{sent} bytes were taken although nobody reads them");
    }
    let growth = gateway.peak_resident_bytes().saturating_sub(before);
    assert!(growth <= GROWTH_MAX, "resident memory grew by {growth} bytes");
}

/// Writes until nothing is taken for a while; how much was.
fn write_until_stalled(mut stream: &TcpStream, bytes: &[u8]) -> usize {
    stream.set_write_timeout(Some(STALL)).unwrap();
    let mut sent = 0;
    while sent < bytes.len() {
        match stream.write(&bytes[sent..bytes.len().min(sent + 64 * 1024)]) {
            Ok(n) => sent += n,
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => panic!("after {sent} bytes: {error}"),
        }
    }
    sent
}

fn both_directions_stream_at_once(driver: &str) {
    let played = PlayedUpstream::start();
    let gateway = unlimited().endpoints(&[played.address()], "").io(driver).start();
    let mut connection = gateway.connect();
    let head = connection.head("POST", "/", &[("transfer-encoding", "chunked")]);
    connection.send(&head).unwrap();
    let mut upstream = played.accept();
    upstream.head();
    upstream.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
    for turn in ["one", "two", "six"] {
        // The upstream says something only after the client's word has arrived, and the other way round.
        connection.send(format!("3\r\n{turn}\r\n").as_bytes()).unwrap();
        assert_eq!(upstream.exactly(8), format!("3\r\n{turn}\r\n"));
        upstream.send(&format!("3\r\n{turn}\r\n"));
        connection.tcp().peek(&mut [0]).unwrap();
    }
    connection.send(b"0\r\n\r\n").unwrap();
    assert_eq!(upstream.exactly(5), "0\r\n\r\n");
    upstream.send("0\r\n\r\n");
    assert_eq!(connection.response().unwrap().text(), "onetwosix");
}

#[test]
fn an_early_answer_reaches_a_client_that_is_still_sending() {
    let gateway = unlimited().start();
    gateway.upstream.on("/early", Script::new().respond(422, &[("connection", "close")], "no need to go on"));
    for framing in [("content-length", "10000000"), ("transfer-encoding", "chunked")] {
        let mut connection = gateway.connect();
        let mut request = connection.head("POST", "/early", &[framing]);
        request.extend(b"5\r\nhello\r\n");
        connection.send(&request).unwrap();
        let response = connection.response().unwrap();
        assert_eq!((response.status, response.text()), (422, "no need to go on"), "{framing:?}");
        // What is left of the body would be taken for the next request.
        assert_eq!(response.headers.get("connection"), Some("close"));
        assert_eq!(connection.wait_closed().1, Closing::Notified);
    }
    gateway.wait_for_closed("exchange", 2);
    // Clients that do not look before they have sent all get it as well.
    let response = gateway.connect().upload("/early", Pattern::new(20 * MIB), false).unwrap();
    assert_eq!(response.status, 422);
    gateway.assert_serves();
}

#[test]
fn an_upstream_that_closes_after_the_head_is_502_and_nothing_is_sent_again() {
    let gateway = unlimited().start();
    gateway.upstream.on("/close", Script::new().close());
    gateway.upstream.on("/reset", Script::new().reset());
    for path in ["/close", "/reset"] {
        for chunked in [false, true] {
            let response = gateway.connect().upload(path, Pattern::new(10 * MIB), chunked).unwrap();
            assert_eq!(response.status, 502, "{path}, chunked {chunked}");
        }
    }
    assert_eq!(gateway.upstream.requests().len(), 4);
    gateway.assert_serves();
}

#[test]
fn a_response_that_ends_before_the_upload_does_not_put_the_upstreams_connection_back() {
    let played = PlayedUpstream::start();
    let gateway = unlimited().endpoints(&[played.address()], "").start();
    let mut connection = gateway.connect();
    let mut request = connection.head("POST", "/", &[("content-length", "100")]);
    request.extend(b"first half");
    connection.send(&request).unwrap();
    let mut upstream = played.accept();
    upstream.head();
    upstream.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
    assert_eq!(connection.response().unwrap().text(), "ok");
    let mut next = gateway.connect();
    let head = next.head("GET", "/next", &[]);
    next.send(&head).unwrap();
    let mut fresh = played.accept();
    assert!(fresh.head().starts_with("GET /next "));
    fresh.send("HTTP/1.1 204 No Content\r\n\r\n");
    assert_eq!(next.response().unwrap().status, 204);
    assert_eq!(upstream.wait_closed(), b"first half", "and no byte of another request");
}

#[test]
fn a_body_that_arrives_byte_by_byte_is_the_same_body() {
    let gateway = Gateway::start();
    let mut connection = gateway.connect();
    let message = b"7;x=y\r\nchunked\r\n5\r\n body\r\n0\r\nt: 1\r\n\r\n";
    let head = connection.head("POST", "/", &[("transfer-encoding", "chunked")]);
    for byte in head.iter().chain(message) {
        connection.send(&[*byte]).unwrap();
    }
    let echo = Echo::of(&connection.response().unwrap());
    assert_eq!((echo.body_sha256, echo.trailers.get("t")), (sha256_hex(b"chunked body"), Some("1")));
}

#[test]
fn a_response_that_trickles_is_the_same_response() {
    let gateway = Gateway::start();
    let message = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n7;x=y\r\nchunked\r\n5\r\n body\r\n0\r\nt: 1\r\n\r\n";
    gateway.upstream.on("/trickle", Script::new().trickle(message, Duration::from_micros(100)));
    let response = gateway.connect().get("/trickle").unwrap();
    assert_eq!((response.text(), response.trailers.get("t")), ("chunked body", Some("1")));
}

#[test]
fn many_streams_at_once_do_not_mix() {
    let gateway = unlimited().start();
    std::thread::scope(|scope| {
        for number in 1..=8 {
            let gateway = &gateway;
            scope.spawn(move || {
                let mut connection = gateway.connect();
                for bytes in [number * 1000, number * 300_000, 1] {
                    let body = Pattern::new(bytes);
                    let echo = Echo::of(&connection.upload("/", body, number % 2 == 0).unwrap());
                    assert_eq!(echo.body_sha256, body.sha256_hex());
                    let (_, hash) = connection.download(&format!("/big-chunked/{bytes}")).unwrap();
                    assert_eq!(hash, body.sha256_hex());
                }
            });
        }
    });
}

/// A write that makes no progress for this long is stopped by backpressure: the buffers are on this machine.
const STALL: Duration = Duration::from_millis(700);

#[test]
fn requests_that_never_end_where_a_segment_does_are_not_kept() {
    let gateway = Gateway::start();
    let mut connection = gateway.connect();
    let request =
        format!("GET /status/200 HTTP/1.1\r\nhost: {HOST}\r\nx-padding: {}\r\n\r\n", "p".repeat(8_000))
            .into_bytes();
    let (front, back) = request.split_at(request.len() / 2);
    connection.send(&[&request[..], front].concat()).unwrap();
    assert_eq!(connection.response().unwrap().status, 200);
    let turned = [back, front].concat();
    let before = gateway.peak_resident_bytes();
    for _ in 0..4_000 {
        connection.send(&turned).unwrap();
        assert_eq!(connection.response().unwrap().status, 200);
    }
    // What was sent is 32 MB.
    let grown = gateway.peak_resident_bytes().saturating_sub(before);
    assert!(grown < 12 << 20, "{grown} bytes");
}
