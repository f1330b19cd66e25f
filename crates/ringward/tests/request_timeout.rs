//! `request_timeout` bounds a request altogether, `response_timeout` the upstream's silence.
#![allow(clippy::unwrap_used, reason = "a failed expectation here is a failed test")]

mod support;

use std::time::Duration;

use ringward_testkit::{Closing, Gate, Http2, Pattern, Script, kind};

use self::support::{Builder, Gateway, HOST, Host, congested, on_both_drivers};

on_both_drivers!(
    a_request_that_takes_too_long_is_504,
    a_response_that_goes_on_for_too_long_is_cut,
    what_is_unlimited_lives_as_long_as_it_moves,
);

// RFC 9113 §7.
const CANCEL: u32 = 8;

/// Routes by their limit: `/short`, and `/long` without one.
fn builder() -> Builder {
    let host = Host::new(&[HOST])
        .route("path = \"/short/{rest...}\"", "request_timeout = \"300ms\"")
        .route("path = \"/long/{rest...}\"", "");
    Gateway::builder().listener("http2 = true").host(host)
}

fn http2(gateway: &Gateway) -> Http2 {
    Http2::new(gateway.client().alpn(&["h2"]).connect(gateway.edge).unwrap(), &[])
}

fn a_request_that_takes_too_long_is_504(driver: &str) {
    let gateway = builder().io(driver).start();
    let gate = Gate::new();
    gateway.upstream.on("/short/stuck", Script::new().read_body().wait(&gate));
    let mut connection = gateway.connect();
    let response = connection.get("/short/stuck").unwrap();
    assert_eq!((response.status, response.text()), (504, "gateway timeout\n"));
    let record = gateway.wait_for_record("path", "/short/stuck");
    assert_eq!(record["flag"], "request_timeout", "{record}");
    assert_eq!(connection.get("/short/next").unwrap().status, 200, "the connection is none the worse");
    // A body that has arrived, and two that never do.
    assert_eq!(connection.upload("/short/stuck", Pattern::new(100_000), true).unwrap().status, 504);
    for framing in [("content-length", "100"), ("transfer-encoding", "chunked")] {
        let mut connection = gateway.connect();
        let head = connection.head("POST", "/short/upload", &[framing]);
        connection.send(&head).unwrap();
        assert_eq!(connection.response().unwrap().status, 504, "{framing:?}");
        assert_eq!(connection.wait_closed().1, Closing::Notified);
    }
    let mut http2 = http2(&gateway);
    http2.request(1, "GET", "/short/stuck", &[], true).unwrap();
    assert_eq!(http2.response(1).0, 504);
    http2.request(3, "POST", "/short/upload", &[], false).unwrap();
    assert_eq!(http2.response(3).0, 504);
    http2.request(5, "GET", "/short/next", &[], true).unwrap();
    assert_eq!(http2.response(5).0, 200);
    gateway.wait_for_metric("ringward_responses_generated_total", &[("flag", "request_timeout")], 6.0);
    gate.open();
}

fn a_response_that_goes_on_for_too_long_is_cut(driver: &str) {
    let gateway = builder().io(driver).start();
    // Never silent for long, but for five seconds altogether.
    let steps = "5\r\nevent\r\n".repeat(50);
    let script = || {
        Script::new()
            .send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nfirst\r\n")
            .trickle(&steps, Duration::from_millis(10))
            .send("0\r\n\r\n")
    };
    gateway.upstream.on("/short/events", script());
    let mut connection = gateway.connect();
    let head = connection.head("GET", "/short/events", &[]);
    connection.send(&head).unwrap();
    let (received, closing) = connection.wait_closed();
    assert!(received.starts_with(b"HTTP/1.1 200 "), "{:?}", String::from_utf8_lossy(&received));
    assert_ne!(closing, Closing::Notified, "it must not look complete");
    let record = gateway.wait_for_record("path", "/short/events");
    assert_eq!((&record["flag"], &record["status"]), (&"request_timeout".into(), &200.into()), "{record}");
    let mut http2 = http2(&gateway);
    http2.request(1, "GET", "/short/events", &[], true).unwrap();
    let reset = http2.wait_for(kind::RST_STREAM);
    assert_eq!((reset.stream, reset.code()), (1, CANCEL));
    // A client that takes nothing.
    http2.send(kind::WINDOW_UPDATE, 0, 0, &(1_u32 << 20).to_be_bytes()).unwrap();
    gateway
        .upstream
        .on("/short/big", Script::new().send("HTTP/1.1 200 OK\r\n\r\n").send_pattern(Pattern::new(1 << 20)));
    http2.request(3, "GET", "/short/big", &[], true).unwrap();
    let reset = http2.wait_for(kind::RST_STREAM);
    assert_eq!((reset.stream, reset.code()), (3, CANCEL));
}

fn what_is_unlimited_lives_as_long_as_it_moves(driver: &str) {
    let gateway = builder().io(driver).cluster("response_timeout = \"300ms\"").start();
    let upstream = "HTTP/1.1 200 OK\r\ncontent-length: 80\r\n\r\n";
    let body = "0123456789".repeat(8);
    gateway
        .upstream
        .on("/long/events", Script::new().send(upstream).trickle(&body, Duration::from_millis(10)));
    assert_eq!(gateway.connect().get("/long/events").unwrap().text(), body);
    // And not when it does not.
    let gate = Gate::new();
    gateway.upstream.on("/long/stuck", Script::new().wait(&gate));
    assert_eq!(gateway.connect().get("/long/stuck").unwrap().status, 504);
    assert_eq!(gateway.wait_for_record("path", "/long/stuck")["flag"], "upstream_timeout");
    gate.open();
}

/// What is limited is the request, not the connections that it leaves behind.
#[test]
fn connections_outlive_the_limits_of_their_requests() {
    let gateway = builder().limits("header_timeout = \"400ms\"").start();
    let mut connection = gateway.connect();
    assert_eq!(connection.get("/short/a").unwrap().status, 200);
    // Who stalls in a head is thrown out after `header_timeout`, which is the clock of this test.
    for _ in 0..2 {
        let mut stalling = gateway.connect();
        stalling.send(b"GET /long/b HTTP/1.1\r\n").unwrap();
        assert_eq!(stalling.response().unwrap().status, 408);
    }
    assert_eq!(connection.get("/short/c").unwrap().status, 200);
    assert_eq!(gateway.metric("ringward_upstream_connections_opened_total", &[]), 1.0);
}

/// A policy that looks at the body waits for the client, and who connects for the upstream.
#[test]
fn waits_before_the_upstream_count_too() {
    let policy = "package ringward.authz\n\ndecision if input.request.body.json.kind == \"good\"\n";
    let (_socket, _waiting, address) = congested();
    let limit = "request_timeout = \"300ms\"";
    let host = Host::new(&[HOST])
        .policy("main")
        .route("path = \"/short\"", &format!("{limit}\npolicy_body_max = \"1KiB\"\ncluster = \"busy\""));
    let section = format!("[cluster.busy]\nendpoints = [\"{address}\"]\nconnect_timeout = \"20s\"");
    let gateway = Gateway::builder().policy("main", policy).section(&section).host(host).start();
    for body in ["{\"kind\":", "{\"kind\": \"good\"}"] {
        let mut connection = gateway.connect();
        let fields = [("content-length", "16"), ("content-type", "application/json")];
        let head = connection.head("POST", "/short", &fields);
        connection.send(&head).unwrap();
        connection.send(body.as_bytes()).unwrap();
        assert_eq!(connection.response().unwrap().status, 504, "{body}");
    }
    gateway.wait_for_metric("ringward_responses_generated_total", &[("flag", "request_timeout")], 2.0);
}
