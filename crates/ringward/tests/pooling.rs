//! Connections that are kept to upstreams: reused, replaced when they have died, and never trusted with somebody else's answer.
#![allow(clippy::unwrap_used, reason = "a failed expectation here is a failed test")]

mod support;

use std::net::TcpStream;

use ringward_testkit::{DEADLINE, Gate, Script, Upstream, eventually};

use self::support::{Gateway, PlayedUpstream, deserted, on_both_drivers};

on_both_drivers!(
    bytes_that_arrive_on_a_kept_connection_are_nobodys_answer,
    a_stale_connection_is_replaced_for_get,
);

const ERRORS: &str = "ringward_upstream_errors_total";
const RETRIES: &str = "ringward_upstream_retries_total";

/// Whether something has arrived.
fn has_bytes(stream: &TcpStream) -> bool {
    stream.set_nonblocking(true).unwrap();
    let peeked = stream.peek(&mut [0]);
    stream.set_nonblocking(false).unwrap();
    peeked.is_ok()
}

/// What an upstream says on a connection that waits for no answer would be taken for the answer to the next request, maybe of
/// another client.
fn bytes_that_arrive_on_a_kept_connection_are_nobodys_answer(driver: &str) {
    let played = PlayedUpstream::start();
    // A session ticket would look like an answer here.
    let builder = Gateway::builder().io(driver).listener("resumption = \"off\"");
    let gateway = builder.endpoints(&[played.address()], "").start();
    let mut victim = gateway.connect();
    for method in ["GET", "HEAD", "DELETE", "POST"] {
        let mut connection = gateway.connect();
        let head = connection.head("GET", "/first", &[]);
        connection.send(&head).unwrap();
        let mut upstream = played.accept();
        upstream.head();
        upstream.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
        assert_eq!(connection.response().unwrap().text(), "ok");
        // The client has its answer, so the connection is kept. Now comes more.
        upstream.send("HTTP/1.1 200 OK\r\ncontent-length: 4\r\nx-evil: 1\r\n\r\nevil");

        let head = victim.head(method, "/second", &[]);
        victim.send(&head).unwrap();
        // Whatever the gateway does with the old connection, the request has to arrive on a new one.
        let mut fresh = None;
        eventually(DEADLINE, "the request goes on, or is answered", || {
            fresh = played.accept_waiting();
            fresh.is_some() || has_bytes(victim.tcp())
        });
        let mut fresh =
            fresh.unwrap_or_else(|| panic!("{method}: the client was given what nobody asked for"));
        assert!(fresh.head().starts_with(&format!("{method} /second ")));
        fresh.send("HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        let response = if method == "HEAD" { victim.response_to_head() } else { victim.response() }.unwrap();
        assert!(response.status == 200 && !response.headers.contains("x-evil"), "{method}");
    }
}

fn a_stale_connection_is_replaced_for_get(driver: &str) {
    let gateway = Gateway::builder().io(driver).start();
    let mut connection = gateway.connect();
    for round in 0..3 {
        assert_eq!(connection.get("/").unwrap().status, 200);
        gateway.upstream.close_connections();
        eventually(DEADLINE, "the upstream has closed", || gateway.upstream.connections_open() == 0);
        let response = connection.get("/again").unwrap();
        assert_eq!(response.status, 200, "{round}");
        gateway.upstream.close_connections();
        eventually(DEADLINE, "the upstream has closed", || gateway.upstream.connections_open() == 0);
        assert_eq!(
            connection.post("/post", b"body").unwrap().status,
            200,
            "seen to be closed before anything is sent"
        );
    }
    assert!(gateway.upstream.requests().iter().filter(|request| request.target == "/again").count() == 3);
}

/// A kept connection that dies after the request was sent: the upstream may have acted on it.
#[test]
fn what_died_under_a_request_is_sent_again_only_if_it_is_safe() {
    let played = PlayedUpstream::start();
    let gateway = Gateway::builder().endpoints(&[played.address()], "").start();
    // Method, body, and whether RFC 9110 §9.2.2 allows to send it again.
    for (method, body, again) in [
        ("GET", "", true),
        ("PUT", "", true),
        ("POST", "", false),
        ("PATCH", "", false),
        ("PUT", "body", false),
        ("POST", "body", false),
    ] {
        let mut connection = gateway.connect();
        let warm = connection.head("GET", "/warm", &[]);
        connection.send(&warm).unwrap();
        let mut upstream = played.accept();
        upstream.head();
        upstream.send("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
        assert_eq!(connection.response().unwrap().status, 200);

        let length = body.len().to_string();
        let fields: &[(&str, &str)] = if body.is_empty() { &[] } else { &[("content-length", &length)] };
        let head = connection.head(method, "/request", fields);
        connection.send(&[&head, body.as_bytes()].concat()).unwrap();
        assert!(upstream.head().starts_with(method));
        drop(upstream);
        if again {
            let mut fresh = played.accept();
            assert!(fresh.head().starts_with(&format!("{method} /request ")), "{method}");
            fresh.send("HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        }
        let response = connection.response().unwrap();
        assert_eq!(response.status, if again { 200 } else { 502 }, "{method} {body}");
        assert!(played.accept_waiting().is_none(), "{method} {body}: no further attempt");
    }
    gateway.wait_for_metric(RETRIES, &[("cluster", "others")], 2.0);
}

#[test]
fn a_second_failure_is_not_tried_again() {
    let played = PlayedUpstream::start();
    let gateway = Gateway::builder().endpoints(&[played.address()], "").start();
    let mut connection = gateway.connect();
    let warm = connection.head("GET", "/warm", &[]);
    connection.send(&warm).unwrap();
    let mut upstream = played.accept();
    upstream.head();
    upstream.send("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
    connection.response().unwrap();
    let head = connection.head("GET", "/request", &[]);
    connection.send(&head).unwrap();
    upstream.head();
    drop(upstream);
    let mut fresh = played.accept();
    fresh.head();
    drop(fresh);
    assert_eq!(connection.response().unwrap().status, 502);
    assert!(played.accept_waiting().is_none());
    let record = gateway.wait_for_record("path", "/request");
    assert_eq!(record["attempts"], 2, "{record}");
}

#[test]
fn an_answer_that_has_begun_is_not_asked_for_again() {
    let played = PlayedUpstream::start();
    let gateway = Gateway::builder().endpoints(&[played.address()], "").start();
    let mut connection = gateway.connect();
    let warm = connection.head("GET", "/warm", &[]);
    connection.send(&warm).unwrap();
    let mut upstream = played.accept();
    upstream.head();
    upstream.send("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
    connection.response().unwrap();
    let head = connection.head("GET", "/request", &[]);
    connection.send(&head).unwrap();
    upstream.head();
    upstream.send("HTTP/1.1 2");
    drop(upstream);
    assert_eq!(connection.response().unwrap().status, 502);
    assert!(played.accept_waiting().is_none());
}

#[test]
fn requests_take_turns_among_the_endpoints() {
    let upstreams = [Upstream::start(), Upstream::start()];
    let gateway = Gateway::builder().endpoints(&[upstreams[0].address(), upstreams[1].address()], "").start();
    let mut connection = gateway.connect();
    for _ in 0..10 {
        assert_eq!(connection.get("/").unwrap().status, 200);
    }
    let served =
        upstreams.each_ref().map(|upstream| (upstream.requests().len(), upstream.connections_accepted()));
    assert_eq!(served, [(5, 1), (5, 1)]);
}

#[test]
fn an_endpoint_that_is_away_is_passed_over() {
    let (_socket, nobody) = deserted();
    let upstream = Upstream::start();
    let gateway = Gateway::builder().endpoints(&[nobody, upstream.address()], "").start();
    let mut connection = gateway.connect();
    for _ in 0..6 {
        assert_eq!(connection.get("/").unwrap().status, 200);
        // No byte has reached anybody before a connection stands, so any request can go elsewhere.
        assert_eq!(connection.post("/", b"body").unwrap().status, 200);
    }
    assert_eq!(upstream.requests().len(), 12);
    assert!(gateway.metric(ERRORS, &[("reason", "upstream_connect")]) > 0.0);
}

#[test]
fn idle_connections_are_given_up_after_their_time() {
    let gateway = Gateway::builder().cluster("idle_timeout = \"100ms\"").start();
    let mut connection = gateway.connect();
    assert_eq!(connection.get("/").unwrap().status, 200);
    eventually(DEADLINE, "the kept connection is closed", || gateway.upstream.connections_open() == 0);
    assert_eq!(connection.post("/", b"body").unwrap().status, 200);
    assert_eq!(gateway.upstream.connections_accepted(), 2);
}

#[test]
fn the_pool_keeps_no_more_than_it_may() {
    let gateway = Gateway::builder().cluster("pool_idle_max = 1").start();
    let gate = Gate::new();
    gateway.upstream.on("/together", Script::new().wait(&gate).respond(200, &[], ""));
    let mut connections: Vec<_> = (0..3).map(|_| gateway.connect()).collect();
    for connection in &mut connections {
        let head = connection.head("GET", "/together", &[]);
        connection.send(&head).unwrap();
    }
    gate.wait_for_arrivals(3, DEADLINE);
    gate.open();
    for connection in &mut connections {
        assert_eq!(connection.response().unwrap().status, 200);
    }
    eventually(DEADLINE, "two of three are closed", || gateway.upstream.connections_open() == 1);
}
