//! The admin listener.
#![allow(clippy::unwrap_used, reason = "a failed expectation is a failed test")]

mod common;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use ringward_testkit::{DEADLINE, Signal, eventually, scrape};

use self::common::World;

fn ask(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    String::from_utf8(answer).unwrap()
}

fn get(address: SocketAddr, path: &str) -> String {
    ask(address, &format!("GET {path} HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n\r\n"))
}

#[test]
fn metrics_count_what_happened() {
    let world = World::new();
    let running = world.start();
    let mut connection = world.client().connect(running.edge).unwrap();
    assert_eq!(connection.get("/open").unwrap().status, 200);
    assert_eq!(connection.get("/closed").unwrap().status, 403);
    world.client().anonymous().refusal(running.edge);
    let refused =
        || scrape(running.admin).sum("ringward_handshakes_finished_total", &[("reason", "no_certificate")]);
    eventually(DEADLINE, "the refused handshake is counted", || refused() == 1.0);

    let samples = scrape(running.admin);
    let requests = |class| {
        samples.sum(
            "ringward_requests_finished_total",
            &[("listener", "edge"), ("route", "all"), ("status_class", class)],
        )
    };
    assert_eq!((requests("2xx"), requests("4xx"), requests("5xx")), (1.0, 1.0, 0.0));
    assert_eq!(samples.get("ringward_config_generation"), Some(1.0));
    assert!(
        samples.get("ringward_certificate_not_after_timestamp_seconds{host=\"api.example.com\"}").is_some()
    );
    assert!(samples.get("ringward_trust_not_after_timestamp_seconds{bundle=\"partners\"}").is_some());
    assert_eq!(samples.sum("ringward_build_info", &[]), 1.0);
    let page = get(running.admin, "/metrics");
    assert!(page.contains("content-type: text/plain; version=0.0.4"), "{page}");
}

#[test]
fn health_is_told_and_readiness_ends_with_draining() {
    let world = World::new();
    let gate = ringward_testkit::Gate::new();
    world.upstream.on("/open", ringward_testkit::Script::new().wait(&gate).respond(200, &[], ""));
    let running = world.start();
    eventually(DEADLINE, "both workers beat", || get(running.admin, "/readyz").starts_with("HTTP/1.1 200 "));
    assert!(get(running.admin, "/healthz").starts_with("HTTP/1.1 200 "));

    let mut connection = world.client().connect(running.edge).unwrap();
    let request = connection.head("GET", "/open", &[]);
    connection.send(&request).unwrap();
    gate.wait_for_arrivals(1, DEADLINE);
    running.process.signal(Signal::TERM);
    running.wait_for_message("draining");
    let answer = get(running.admin, "/readyz");
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.ends_with("draining\n"), "{answer}");
    assert!(get(running.admin, "/healthz").starts_with("HTTP/1.1 200 "), "it still does its work");
    gate.open();
}

#[test]
fn anything_else_is_refused() {
    let world = World::new();
    let running = world.start();
    assert!(get(running.admin, "/").starts_with("HTTP/1.1 404 "));
    assert!(get(running.admin, "/metrics/").starts_with("HTTP/1.1 404 "));
    let post = ask(
        running.admin,
        "POST /metrics HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
    );
    assert!(post.starts_with("HTTP/1.1 405 ") && post.contains("allow: GET, HEAD"), "{post}");
    let head = ask(running.admin, "HEAD /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    assert!(head.starts_with("HTTP/1.1 200 ") && head.ends_with("\r\n\r\n"), "{head}");
    let flood = format!("GET /metrics HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(100_000));
    let mut stream = TcpStream::connect(running.admin).unwrap();
    // The answer may come before all of it is sent.
    let _ = stream.write_all(flood.as_bytes());
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
}

#[test]
fn clients_that_say_nothing_do_not_keep_others_out() {
    let world = World::new();
    let running = world.start();
    // Below the limit on connections; each of them would wait for its head for a minute.
    let silent: Vec<TcpStream> = (0..60).map(|_| TcpStream::connect(running.admin).unwrap()).collect();
    let mut half = TcpStream::connect(running.admin).unwrap();
    half.write_all(b"GET /metr").unwrap();
    assert!(scrape(running.admin).get("ringward_config_generation").is_some());
    drop(silent);
}
