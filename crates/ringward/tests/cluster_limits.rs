//! How many requests a cluster has at once, who waits for it, and who is told to come back.
#![allow(clippy::unwrap_used, reason = "a failed expectation here is a failed test")]

mod support;

use std::thread;

use ringward_testkit::{DEADLINE, Gate, Http2Script, Http2Upstream, Script};

use self::support::{Gateway, HOST, Host, on_both_drivers};

on_both_drivers!(
    what_is_above_the_limit_waits_and_what_is_above_that_is_refused,
    who_goes_away_leaves_the_queue,
);

const ACTIVE: &str = "ringward_upstream_requests_active";
const PENDING: &str = "ringward_upstream_requests_pending";
const OPEN: &str = "ringward_upstream_circuits_open";
const ERRORS: &str = "ringward_upstream_errors_total";

fn what_is_above_the_limit_waits_and_what_is_above_that_is_refused(driver: &str) {
    let keys = "requests_max = 1\npending_max = 1\npending_timeout = \"1m\"";
    let gateway = Gateway::builder().cluster(keys).io(driver).start();
    let gate = Gate::new();
    gateway.upstream.on("/slow", Script::new().read_body().wait(&gate).respond(200, &[], "late"));
    let get = |path: &'static str| {
        let mut connection = gateway.connect();
        thread::spawn(move || connection.get(path).unwrap().status)
    };
    let first = get("/slow");
    gate.wait_for_arrivals(1, DEADLINE);
    gateway.wait_for_metric(OPEN, &[("cluster", "echo")], 1.0);
    let second = get("/second");
    gateway.wait_for_metric(PENDING, &[("cluster", "echo")], 1.0);
    assert_eq!(gateway.metric(ACTIVE, &[("cluster", "echo")]), 1.0);
    let mut connection = gateway.connect();
    let refused = connection.get("/third").unwrap();
    assert_eq!((refused.status, refused.headers.get("retry-after")), (503, Some("1")));
    assert_eq!(gateway.wait_for_record("path", "/third")["flag"], "cluster_full");
    gateway.wait_for_metric(ERRORS, &[("reason", "cluster_full")], 1.0);
    assert_eq!(gateway.upstream.requests().len(), 1, "nothing else has gone on");
    gate.open();
    assert_eq!((first.join().unwrap(), second.join().unwrap()), (200, 200));
    assert_eq!(connection.get("/third").unwrap().status, 200, "the connection is as good as before");
    for gauge in [ACTIVE, PENDING, OPEN] {
        gateway.wait_for_metric(gauge, &[("cluster", "echo")], 0.0);
    }
}

fn who_goes_away_leaves_the_queue(driver: &str) {
    let keys = "requests_max = 1\npending_max = 2\npending_timeout = \"1m\"";
    let gateway = Gateway::builder().cluster(keys).io(driver).start();
    let gate = Gate::new();
    gateway.upstream.on("/slow", Script::new().read_body().wait(&gate).respond(200, &[], "late"));
    let ask = |path: &str| {
        let mut connection = gateway.connect();
        connection.send(&connection.head("GET", path, &[])).unwrap();
        connection
    };
    let waits = |count| gateway.wait_for_metric(PENDING, &[("cluster", "echo")], count);
    let mut first = ask("/slow");
    gate.wait_for_arrivals(1, DEADLINE);
    let front = ask("/front");
    waits(1.0);
    let mut last = ask("/last");
    waits(2.0);
    drop(front);
    waits(1.0);
    assert_eq!(gateway.wait_for_record("path", "/front")["flag"], "client_gone");
    let mut other = ask("/other");
    waits(2.0);
    gate.open();
    for connection in [&mut first, &mut last, &mut other] {
        assert_eq!(connection.response().unwrap().status, 200);
    }
    let paths: Vec<_> = gateway.upstream.requests().iter().map(|request| request.target.clone()).collect();
    assert_eq!(paths, ["/slow", "/last", "/other"]);
    assert_eq!(gateway.metric(ERRORS, &[]), 0.0, "it is no failure of the cluster");
}

#[test]
fn who_has_waited_for_too_long_is_told_and_so_is_a_request_whose_time_is_over() {
    let upstream = Http2Upstream::start();
    let section = format!(
        "[cluster.others]\nendpoints = [\"{}\"]\nprotocol = \"http2\"\n\
         requests_max = 1\npending_max = 9\npending_timeout = \"300ms\"",
        upstream.address()
    );
    let host = Host::new(&[HOST])
        .route("path = \"/short\"", "cluster = \"others\"\nrequest_timeout = \"100ms\"")
        .route("path = \"/{rest...}\"", "cluster = \"others\"");
    let gateway = Gateway::builder().section(&section).host(host).start();
    let gate = Gate::new();
    upstream.on("/slow", Http2Script::new().wait(&gate).respond(200, &[], "late"));
    let mut connection = gateway.connect();
    let first = thread::spawn(move || connection.get("/slow").unwrap().status);
    gate.wait_for_arrivals(1, DEADLINE);
    let mut connection = gateway.connect();
    assert_eq!(connection.get("/x").unwrap().status, 503);
    assert_eq!(gateway.wait_for_record("path", "/x")["flag"], "cluster_wait_timeout");
    assert_eq!(connection.get("/short").unwrap().status, 504);
    assert_eq!(gateway.wait_for_record("path", "/short")["flag"], "request_timeout");
    assert_eq!(upstream.requests().len(), 1, "none of them has gone on");
    gate.open();
    assert_eq!(first.join().unwrap(), 200);
    assert_eq!(connection.get("/x").unwrap().status, 200, "those who gave up are in nobody's way");
}
