//! Clients that go away, politely or not, at any point: nothing is left of them, and no upstream goes on working for them.
#![allow(clippy::unwrap_used, reason = "a failed expectation here is a failed test")]

mod support;

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use ringward_testkit::{Closing, Connection, DEADLINE, Gate, Pattern, Script, eventually};
use socket2::SockRef;

use self::support::{Gateway, HOST, client_hello, connect_tcp, on_both_drivers};

on_both_drivers!(
    clients_that_vanish_leave_nothing_behind,
    a_client_that_goes_away_ends_the_wait_for_the_upstream,
);

const GENERATED: &str = "ringward_responses_generated_total";

fn clients_that_vanish_leave_nothing_behind(driver: &str) {
    let gateway = Gateway::builder().io(driver).limits("body_bytes_max = \"unlimited\"").start();
    let gate = Gate::new();
    gateway.upstream.on("/stuck", Script::new().read_body().wait(&gate).close());
    gateway.assert_serves();
    gateway.wait_for_no_connections();
    let files = gateway.process.open_files();
    for round in 0..3 {
        vanish_in_handshakes(&gateway, round % 2 == 0);
        vanish_in_exchanges(&gateway, &gate, round, round % 2 == 0);
        vanish_in_handshakes(&gateway, round % 2 != 0);
        gateway.wait_for_no_connections();
        assert_eq!(gateway.metric("ringward_worker_panics_total", &[]), 0.0);
    }
    gate.open();
    // What is left upstream is what is kept for others.
    eventually(DEADLINE, "the upstream is let go", || gateway.upstream.connections_open() <= 1);
    eventually(DEADLINE, "all files are closed", || gateway.process.open_files() <= files);
    gateway.assert_serves();
}

/// Clients that close, or reset, before, within and right after the ClientHello.
fn vanish_in_handshakes(gateway: &Gateway, reset: bool) {
    let hello = client_hello(HOST);
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
}

/// Clients that close, or reset, after the handshake, between requests, and within each part of an exchange.
fn vanish_in_exchanges(gateway: &Gateway, gate: &Gate, round: usize, reset: bool) {
    let go = |connection: Connection| if reset { connection.reset() } else { drop(connection) };
    go(gateway.connect());
    let mut connection = gateway.connect();
    assert_eq!(connection.get("/").unwrap().status, 200);
    go(connection);
    for (start, rest) in [
        ("GET / HTTP/1.1", ""),
        ("POST / HTTP/1.1", "content-length: 100000\r\n\r\nsome"),
        ("POST / HTTP/1.1", "transfer-encoding: chunked\r\n\r\nff\r\nsome"),
        ("GET /big/100000000 HTTP/1.1", "\r\n"),
        ("GET /stuck HTTP/1.1", "\r\n"),
    ] {
        let mut connection = gateway.connect();
        connection.send(format!("{start}\r\nhost: {HOST}\r\n{rest}").as_bytes()).unwrap();
        if start.contains("/stuck") {
            gate.wait_for_arrivals(round + 1, DEADLINE);
        } else if start.contains("/big") {
            // The response has begun to arrive.
            connection.tcp().peek(&mut [0]).unwrap();
        }
        go(connection);
    }
}

#[test]
fn a_client_that_ends_tls_within_a_body_is_gone_at_once() {
    let gateway = Gateway::start();
    for together in [false, true] {
        let mut connection = gateway.connect();
        let mut request = connection.head("POST", "/", &[("content-length", "100000")]);
        request.extend(b"some");
        let started = Instant::now();
        if together {
            // In one segment with what comes before, so that both are seen at once.
            SockRef::from(connection.tcp()).set_tcp_cork(true).unwrap();
        }
        connection.send(&request).unwrap();
        connection.close_notify().unwrap();
        SockRef::from(connection.tcp()).set_tcp_cork(false).unwrap();
        connection.wait_closed();
        assert!(
            started.elapsed() < Duration::from_secs(10),
            "{:?}, long before `body_timeout`",
            started.elapsed()
        );
    }
    gateway.wait_for_metric(GENERATED, &[("flag", "client_gone")], 2.0);
    eventually(DEADLINE, "two broken requests upstream", || gateway.upstream.errors().len() == 2);
}

fn a_client_that_goes_away_ends_the_wait_for_the_upstream(driver: &str) {
    let gateway = Gateway::builder().io(driver).start();
    let gate = Gate::new();
    gateway.upstream.on("/stuck", Script::new().read_body().wait(&gate).close());
    for (number, reset) in [false, true].into_iter().enumerate() {
        let mut connection = gateway.connect();
        let head = connection.head("GET", "/stuck", &[]);
        connection.send(&head).unwrap();
        gate.wait_for_arrivals(number + 1, DEADLINE);
        if reset {
            connection.reset()
        } else {
            drop(connection)
        }
        gateway.wait_for_metric(
            "ringward_responses_generated_total",
            &[("flag", "client_gone")],
            (number + 1) as f64,
        );
    }
    let record = gateway.wait_for_record("flag", "client_gone");
    assert_eq!((&record["status"], &record["path"]), (&0.into(), &"/stuck".into()), "{record}");
    gateway.wait_for_no_connections();
    gate.open();
    eventually(DEADLINE, "the upstream is let go", || gateway.upstream.connections_open() == 0);
}

#[test]
fn a_client_that_goes_away_after_its_upload_ends_the_wait_for_the_upstream() {
    let gateway = Gateway::start();
    let gate = Gate::new();
    gateway.upstream.on("/stuck", Script::new().read_body().wait(&gate).close());
    // Large enough to be streamed, and small enough to be sent behind its head.
    for (number, bytes) in [100_000, 10].into_iter().enumerate() {
        let mut connection = gateway.connect();
        let mut request = connection.head("POST", "/stuck", &[("content-length", &bytes.to_string())]);
        request.extend(Pattern::new(bytes).to_vec());
        connection.send(&request).unwrap();
        gate.wait_for_arrivals(number + 1, DEADLINE);
        drop(connection);
        gateway.wait_for_metric(
            "ringward_responses_generated_total",
            &[("flag", "client_gone")],
            (number + 1) as f64,
        );
    }
    gateway.wait_for_no_connections();
    gate.open();
    eventually(DEADLINE, "the upstream is let go", || gateway.upstream.connections_open() == 0);
}

#[test]
fn a_client_that_goes_away_while_the_response_pauses_ends_the_wait_for_the_upstream() {
    let gateway = Gateway::start();
    let gate = Gate::new();
    let events = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nfirst\r\n";
    gateway.upstream.on("/events", Script::new().send(events).wait(&gate).close());
    let mut connection = gateway.connect();
    let head = connection.head("GET", "/events", &[]);
    connection.send(&head).unwrap();
    connection.tcp().peek(&mut [0]).unwrap();
    gate.wait_for_arrivals(1, DEADLINE);
    drop(connection);
    let record = gateway.wait_for_record("path", "/events");
    assert_eq!((&record["flag"], &record["status"]), (&"client_gone".into(), &200.into()), "{record}");
    gateway.wait_for_closed("peer", 1);
    gate.open();
    eventually(DEADLINE, "the upstream is let go", || gateway.upstream.connections_open() == 0);
}

#[test]
fn a_client_that_ends_its_side_of_tls_still_gets_its_response() {
    let gateway = Gateway::start();
    let gate = Gate::new();
    gateway.upstream.on("/slow", Script::new().wait(&gate).respond(200, &[], "late"));
    let mut connection = gateway.connect();
    let head = connection.head("GET", "/slow", &[]);
    connection.send(&head).unwrap();
    connection.close_notify().unwrap();
    gate.wait_for_arrivals(1, DEADLINE);
    gate.open();
    assert_eq!(connection.response().unwrap().text(), "late");
    assert_eq!(connection.wait_closed().1, Closing::Notified);
}
