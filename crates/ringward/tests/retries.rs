//! Requests that are sent again: after which failures, how often, and when never.
#![allow(clippy::unwrap_used, reason = "a failed expectation here is a failed test")]

mod support;

use std::thread;

use ringward_testkit::{
    Connection, DEADLINE, Echo, Gate, Http2Script, Http2Upstream, Script, Upstream, eventually,
};

use self::support::{Builder, Gateway, HOST, Host, PlayedUpstream, deserted, on_both_drivers};

on_both_drivers!(
    each_failure_is_tried_again_elsewhere_if_the_route_says_so,
    what_an_endpoint_may_have_acted_on_is_sent_again_only_if_that_is_safe,
    a_small_body_goes_again_and_one_that_streams_does_not,
);

const RETRIES: &str = "ringward_upstream_retries_total";
const FINISHED: &str = "ringward_upstream_retried_requests_finished_total";
const REASONS: [&str; 3] = ["reset_before_response", "timeout", "status"];

/// Before these upstreams, on whose route there are these keys.
fn builder(upstreams: &[&Upstream], route: &str, cluster: &str) -> Builder {
    let endpoints: Vec<String> = upstreams.iter().map(|upstream| upstream.address().to_string()).collect();
    let section = format!("[cluster.others]\nendpoints = {endpoints:?}\n{cluster}");
    let lines = format!("cluster = \"others\"\n{route}");
    Gateway::builder().section(&section).host(Host::new(&[HOST]).route("path = \"/{rest...}\"", &lines))
}

/// How an upstream fails so, and the reason that is counted for it.
fn failures(gate: &Gate) -> [(&'static str, Script); 3] {
    [
        (REASONS[0], Script::new().read_body().reset()),
        (REASONS[1], Script::new().read_body().wait(gate)),
        (REASONS[2], Script::new().read_body().respond(503, &[], "busy")),
    ]
}

const ALL: &str =
    "on = [\"reset_before_response\", \"timeout\"], status = [\"502-504\"], per_try_timeout = \"300ms\"";

fn each_failure_is_tried_again_elsewhere_if_the_route_says_so(driver: &str) {
    let gate = Gate::new();
    for (reason, script) in failures(&gate) {
        let (bad, good) = (Upstream::start(), Upstream::start());
        bad.on("*", script);
        let gateway = builder(&[&bad, &good], &format!("retry = {{ {ALL} }}"), "").io(driver).start();
        let mut connection = gateway.connect();
        for _ in 0..6 {
            assert_eq!(connection.get("/x").unwrap().status, 200, "{reason}");
        }
        let failed = bad.requests().len();
        assert!(failed > 0 && good.requests().len() == 6, "{reason}");
        gateway.wait_for_metric(RETRIES, &[("cluster", "others"), ("reason", reason)], failed as f64);
        gateway.wait_for_metric(RETRIES, &[("cluster", "others")], failed as f64);
        gateway.wait_for_metric(FINISHED, &[("outcome", "answered")], failed as f64);
        let record = gateway.wait_for_record("attempts", 2);
        assert_eq!((&record["status"], &record["flag"]), (&200.into(), &serde_json::Value::Null), "{record}");
        assert_eq!(record["upstream.addr"], good.address().to_string(), "{record}");
    }
    gate.open();
}

fn what_an_endpoint_may_have_acted_on_is_sent_again_only_if_that_is_safe(driver: &str) {
    let gate = Gate::new();
    for (reason, script) in failures(&gate) {
        let bad = Upstream::start();
        bad.on("*", script);
        let danger = format!("retry = {{ {ALL}, danger_methods = [\"POST\"], backoff = \"1ms\" }}");
        let only_head = format!("retry = {{ {ALL}, methods = [\"HEAD\"] }}");
        let host = Host::new(&[HOST])
            .key(&format!("retry = {{ {ALL}, backoff = \"1ms\" }}"))
            .route("path = \"/default\"", "cluster = \"others\"")
            .route("path = \"/off\"", "cluster = \"others\"\nretry = \"off\"")
            .route("path = \"/head\"", &format!("cluster = \"others\"\n{only_head}"))
            .route("path = \"/danger\"", &format!("cluster = \"others\"\n{danger}"));
        let section =
            format!("[cluster.others]\nendpoints = [\"{}\"]\nresponse_timeout = \"300ms\"", bad.address());
        let gateway = Gateway::builder().section(&section).host(host).io(driver).start();
        for (method, path, tries) in [
            ("GET", "/default", 2),
            ("PUT", "/default", 2),
            ("DELETE", "/default", 2),
            ("POST", "/default", 1),
            ("PATCH", "/default", 1),
            ("GET", "/off", 1),
            ("GET", "/head", 1),
            ("POST", "/danger", 2),
            ("PATCH", "/danger", 1),
        ] {
            let before = bad.requests().len();
            let mut connection = gateway.connect();
            let head = connection.head(method, path, &[]);
            connection.send(&head).unwrap();
            let status = connection.response().unwrap().status;
            let expected = [502, 504, 503][REASONS.iter().position(|known| *known == reason).unwrap()];
            assert_eq!(status, expected, "{reason} {method} {path}: the last failure is the answer");
            assert_eq!(bad.requests().len() - before, tries, "{reason} {method} {path}");
        }
        gateway.wait_for_metric(RETRIES, &[("reason", reason)], 4.0);
    }
    gate.open();
}

fn a_small_body_goes_again_and_one_that_streams_does_not(driver: &str) {
    let (bad, good) = (Upstream::start(), Upstream::start());
    let gateway = builder(&[&bad, &good], &format!("retry = {{ {ALL} }}"), "").io(driver).start();
    for script in [Script::new().read_body().reset(), Script::new().read_body().respond(503, &[], "busy")] {
        bad.on("*", script);
        for _ in 0..4 {
            let mut connection = gateway.connect();
            let head = connection.head("PUT", "/x", &[("content-length", "5")]);
            connection.send(&[&head[..], b"hello"].concat()).unwrap();
            let response = connection.response().unwrap();
            assert_eq!(response.status, 200);
            assert_eq!(Echo::of(&response).body_bytes, 5);
            // The connection is where it should be: behind the body.
            assert_eq!(connection.get("/y").unwrap().status, 200);
        }
    }
    assert!(bad.errors().is_empty() && good.errors().is_empty());
    let (tried, retried) = (bad.requests().len(), gateway.metric(RETRIES, &[]));
    assert_eq!(retried, tried as f64);
    // More than is copied behind the head: it is gone once it was sent.
    let body = vec![b'x'; 100_000];
    let mut failed = 0;
    for _ in 0..2 {
        let mut connection = gateway.connect();
        let head = connection.head("PUT", "/x", &[("content-length", "100000")]);
        connection.send(&[&head, &body[..]].concat()).unwrap();
        failed += usize::from(connection.response().unwrap().status == 503);
    }
    assert_eq!(
        (failed, bad.requests().len() - tried),
        (1, 1),
        "one of two is answered by the one that is bad"
    );
    assert_eq!(gateway.metric(RETRIES, &[]), retried);
}

#[test]
fn as_many_tries_are_made_as_the_route_allows() {
    let bad = Upstream::start();
    bad.on("*", Script::new().read_body().respond(503, &[], "busy"));
    let gateway =
        builder(&[&bad], "retry = { status = \"503\", attempts = 5, backoff = \"1ms\" }", "").start();
    let response = gateway.connect().get("/x").unwrap();
    assert_eq!((response.status, response.text()), (503, "busy"), "the last response is passed on");
    assert_eq!(bad.requests().len(), 5);
    assert_eq!(gateway.wait_for_record("path", "/x")["attempts"], 5);
    gateway.wait_for_metric(FINISHED, &[("outcome", "answered")], 1.0);
}

#[test]
fn the_budget_of_the_cluster_bounds_what_is_tried_again() {
    let bad = Upstream::start();
    bad.on("*", Script::new().read_body().respond(503, &[], "busy"));
    let route = "retry = { status = \"503\", attempts = 3, backoff = \"1ms\" }";
    let gateway = builder(&[&bad], route, "retry_budget = { percent = 0, per_second = 0 }").start();
    let mut connection = gateway.connect();
    for _ in 0..4 {
        assert_eq!(connection.get("/x").unwrap().status, 503);
    }
    assert_eq!(bad.requests().len(), 4, "nothing is tried again");
    gateway.wait_for_metric(FINISHED, &[("outcome", "budget")], 4.0);
    assert_eq!(gateway.metric(RETRIES, &[]), 0.0);
}

/// By a part of the requests under way: half of four are tried again, and the others get what came of their first try.
#[test]
fn a_budget_that_is_used_up_by_some_leaves_nothing_to_the_others() {
    let (bad, good) = (Upstream::start(), Upstream::start());
    let (first, second) = (Gate::new(), Gate::new());
    let fails = || Script::new().read_body().wait(&first).respond(503, &[], "busy");
    bad.on("*", fails());
    good.on("*", fails());
    let keys =
        "balance = { maglev = { header = \"x-user\" } }\nretry_budget = { percent = 50, per_second = 0 }";
    let route = "retry = { status = \"503\", attempts = 2, backoff = \"1ms\" }";
    let gateway = builder(&[&bad, &good], route, keys).start();
    let ask = || {
        let mut connection = gateway.connect();
        connection.send(&connection.head("GET", "/x", &[("x-user", "one")])).unwrap();
        connection
    };
    let asking: Vec<_> = (0..4).map(|_| ask()).collect();
    first.wait_for_arrivals(4, DEADLINE);
    let other = if bad.requests().is_empty() { &bad } else { &good };
    other.on("*", Script::new().read_body().wait(&second).respond(200, &[], "well"));
    first.open();
    second.wait_for_arrivals(2, DEADLINE);
    gateway.wait_for_metric(FINISHED, &[("outcome", "budget")], 2.0);
    assert_eq!(gateway.metric(RETRIES, &[("reason", "status")]), 2.0);
    second.open();
    let mut statuses: Vec<u16> =
        asking.into_iter().map(|mut connection| connection.response().unwrap().status).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 200, 503, 503]);
    gateway.wait_for_metric(FINISHED, &[("outcome", "answered")], 2.0);
    // What was given is given back.
    assert_eq!(ask().response().unwrap().status, 200);
    gateway.wait_for_metric(FINISHED, &[("outcome", "answered")], 3.0);
    assert_eq!(gateway.metric(FINISHED, &[("outcome", "budget")]), 2.0);
}

/// By a number per second, of which those of ten seconds are there at the start.
#[test]
fn retries_that_are_saved_up_run_out() {
    let bad = Upstream::start();
    bad.on("*", Script::new().read_body().respond(503, &[], "busy"));
    let route = "retry = { status = \"503\", attempts = 2, backoff = \"1ms\" }";
    let gateway = builder(&[&bad], route, "retry_budget = { percent = 0, per_second = 1 }").start();
    let mut connection = gateway.connect();
    let finished = |outcome| gateway.metric(FINISHED, &[("outcome", outcome)]);
    let mut asked = 0;
    eventually(DEADLINE, "there are none left", || {
        asked += 1;
        assert_eq!(connection.get("/x").unwrap().status, 503);
        finished("budget") > 0.0
    });
    let retried = gateway.metric(RETRIES, &[("reason", "status")]);
    assert!(retried >= 10.0, "{retried}");
    assert_eq!((finished("answered"), finished("budget")), (retried, 1.0));
    assert_eq!((bad.requests().len(), asked), (asked + retried as usize, retried as usize + 1));
}

#[test]
fn as_many_tries_as_there_may_be_run_out_of_time() {
    let (bad, gate) = (Upstream::start(), Gate::new());
    bad.on("*", Script::new().read_body().wait(&gate));
    for tries in [1, 2, 4] {
        let route = format!(
            "retry = {{ on = [\"timeout\"], attempts = {}, per_try_timeout = \"100ms\", backoff = \"1ms\"{} }}",
            tries.max(2),
            if tries == 1 { ", methods = [\"HEAD\"]" } else { "" }
        );
        let gateway = builder(&[&bad], &route, "").start();
        let before = bad.requests().len();
        assert_eq!(gateway.connect().get("/x").unwrap().status, 504);
        let record = gateway.wait_for_record("path", "/x");
        assert_eq!(
            (&record["attempts"], &record["flag"]),
            (&tries.into(), &"upstream_timeout".into()),
            "{record}"
        );
        assert_eq!(bad.requests().len() - before, tries);
        gateway.wait_for_metric(RETRIES, &[("reason", "timeout")], tries as f64 - 1.0);
        let finished = if tries == 1 { 0.0 } else { 1.0 };
        gateway.wait_for_metric(FINISHED, &[("outcome", "failed")], finished);
    }
    gate.open();
}

#[test]
fn who_cannot_connect_tries_again_later() {
    let (socket, address) = deserted();
    let host = Host::new(&[HOST]).route(
        "path = \"/{rest...}\"",
        "cluster = \"others\"\nretry = { on = [\"connect_failure\"], attempts = 10, backoff = \"200ms\" }",
    );
    let section = format!("[cluster.others]\nendpoints = [\"{address}\"]");
    let gateway = Gateway::builder().section(&section).host(host).start();
    let mut connection = gateway.connect();
    let answered = thread::spawn(move || connection.post("/x", b"body").unwrap().status);
    eventually(DEADLINE, "it is tried again", || {
        gateway.metric(RETRIES, &[("reason", "connect_failure")]) > 0.0
    });
    drop(socket);
    let upstream = Upstream::start_at(address);
    assert_eq!(answered.join().unwrap(), 200, "whatever the method: nothing was sent");
    assert_eq!(upstream.requests().len(), 1);
}

#[test]
fn the_limit_of_a_request_bounds_all_its_tries() {
    let (bad, gate) = (Upstream::start(), Gate::new());
    bad.on("*", Script::new().wait(&gate));
    let route = "request_timeout = \"700ms\"\nretry = { on = [\"timeout\"], attempts = 10, per_try_timeout = \"100ms\" }";
    let gateway = builder(&[&bad], route, "").start();
    assert_eq!(gateway.connect().get("/x").unwrap().status, 504);
    let record = gateway.wait_for_record("path", "/x");
    assert_eq!(record["flag"], "request_timeout", "{record}");
    assert!(record["attempts"].as_u64().unwrap() < 10, "{record}");
    gate.open();
}

#[test]
fn nothing_is_asked_for_again_once_the_client_has_a_part_of_the_answer() {
    let bad = Upstream::start();
    let begun = "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf";
    bad.on("/body", Script::new().send(begun).reset());
    bad.on("/interim", Script::new().send("HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n").reset());
    bad.on("/head", Script::new().send("HTTP/1.1 200 O").reset());
    let gateway = builder(&[&bad], &format!("retry = {{ {ALL}, attempts = 5 }}"), "").start();
    for path in ["/body", "/interim", "/head"] {
        let before = bad.requests().len();
        // However it ends.
        let _ = gateway.connect().get(path);
        gateway.wait_for_record("path", path);
        assert_eq!(bad.requests().len() - before, 1, "{path}");
    }
    assert_eq!(gateway.metric(RETRIES, &[]), 0.0);
}

#[test]
fn what_is_decided_anew_meanwhile_is_not_sent_again_on_the_old_decision() {
    let played = PlayedUpstream::start();
    let route = "cluster = \"others\"\nretry = { status = \"503\", attempts = 3, backoff = \"1ms\" }";
    let section = format!("[cluster.others]\nendpoints = [\"{}\"]", played.address());
    let allow = "package ringward.authz\ndecision := true\n";
    let host = Host::new(&[HOST]).policy("main").route("path = \"/{rest...}\"", route);
    let gateway = Gateway::builder().policy("main", allow).section(&section).host(host).start();
    let mut connection = gateway.connect();
    let head = connection.head("GET", "/x", &[]);
    connection.send(&head).unwrap();
    let mut upstream = played.accept();
    upstream.head();
    let before = gateway.metric("ringward_reloads_finished_total", &[("outcome", "applied")]);
    gateway.pki.write("policies/main/policy.rego", "package ringward.authz\ndecision := false\n");
    eventually(DEADLINE, "the change is in force", || {
        gateway.metric("ringward_reloads_finished_total", &[("outcome", "applied")]) > before
    });
    upstream.send("HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n");
    assert_eq!(connection.response().unwrap().status, 403);
    assert!(played.accept_waiting().is_none_or(|mut again| {
        // A connection may have been made before the decision.
        again.stream.set_nonblocking(true).unwrap();
        std::io::Read::read(&mut again.stream, &mut [0; 16]).map_or(true, |read| read == 0)
    }));
}

/// Whom the hash of the request names has failed; who is asked next is known by that alone.
#[test]
fn a_reload_between_two_tries_forgets_neither_who_has_failed_nor_how_often() {
    let (bad, good, gate) = (Upstream::start(), Upstream::start(), Gate::new());
    let waits = || Script::new().read_body().wait(&gate).respond(503, &[], "busy");
    bad.on("*", waits());
    good.on("*", waits());
    let gateway = builder(
        &[&bad, &good],
        "retry = { status = \"503\", attempts = 2, backoff = \"1ms\" }",
        "balance = { maglev = { header = \"x-user\" } }\npool_idle_max = 7",
    )
    .start();
    let mut connection = gateway.connect();
    connection.send(&connection.head("GET", "/x", &[("x-user", "one")])).unwrap();
    gate.wait_for_arrivals(1, DEADLINE);
    let (asked, other) = if bad.requests().is_empty() { (&good, &bad) } else { (&bad, &good) };
    other.on("*", Script::new().read_body().respond(200, &[], "well"));
    gateway.reconfigure("pool_idle_max = 7", "pool_idle_max = 8");
    gate.open();
    let response = connection.response().unwrap();
    assert_eq!((response.status, response.text()), (200, "well"));
    assert_eq!((asked.requests().len(), other.requests().len()), (1, 1));
    assert_eq!(gateway.wait_for_record("path", "/x")["attempts"], 2);
    gateway.wait_for_metric(RETRIES, &[("reason", "status")], 1.0);
    gateway.wait_for_metric(FINISHED, &[("outcome", "answered")], 1.0);
}

/// HTTP/2 says what it has not processed, so that the method does not matter.
#[test]
fn http2_tries_again_what_was_refused() {
    let upstream = Http2Upstream::start();
    upstream.on("/refused", Http2Script::new().reset(7));
    upstream.on("/cancelled", Http2Script::new().reset(8));
    upstream.on("/busy", Http2Script::new().read_body().respond(503, &[], "busy"));
    let section = format!(
        "[cluster.others]\nendpoints = [\"{}\"]\nprotocol = \"http2\"\nretry_budget = {{ percent = 100 }}",
        upstream.address()
    );
    let route = "cluster = \"others\"\nretry = { attempts = 4, status = [\"503\"], backoff = \"1ms\" }";
    let host = Host::new(&[HOST]).route("path = \"/{rest...}\"", route);
    let gateway = Gateway::builder().section(&section).host(host).start();
    // One try of the first is owed to HTTP/2 itself.
    for (method, path, status, tries) in [
        ("POST", "/refused", 502, 5),
        ("GET", "/cancelled", 502, 4),
        ("POST", "/cancelled", 502, 1),
        ("PUT", "/busy", 503, 4),
        ("POST", "/busy", 503, 1),
    ] {
        let before = upstream.requests().len();
        let mut connection = gateway.connect();
        assert_eq!(with_body(&mut connection, method, path), status, "{method} {path}");
        assert_eq!(upstream.requests().len() - before, tries, "{method} {path}");
    }
}

/// The status of the response to a request with a small body.
fn with_body(connection: &mut Connection, method: &str, path: &str) -> u16 {
    let head = connection.head(method, path, &[("content-length", "5")]);
    connection.send(&[&head[..], b"hello"].concat()).unwrap();
    connection.response().unwrap().status
}
