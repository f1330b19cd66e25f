//! Endpoints that fail requests get none for a while.
#![allow(clippy::unwrap_used, reason = "a failed expectation here is a failed test")]

mod support;

use ringward_testkit::{Connection, DEADLINE, Gate, Script, Upstream, eventually};

use self::support::{Builder, Gateway, HOST, Host, PlayedUpstream, on_both_drivers};

on_both_drivers!(who_fails_is_left_out_and_comes_back,);

const EJECTED: &str = "ringward_upstream_endpoints_ejected";
const EJECTIONS: &str = "ringward_upstream_ejections_total";
const WITHHELD: &str = "ringward_upstream_ejections_withheld_total";
const SHARE: &str = "ringward_upstream_endpoint_share";
const CLUSTER: (&str, &str) = ("cluster", "others");

fn who_fails_is_left_out_and_comes_back(driver: &str) {
    let (bad, good) = (Upstream::start(), Upstream::start());
    let rule = "consecutive_failures = 3, ejection_time = \"100ms\"";
    let gateway = builder(&[&bad, &good], rule, "").io(driver).start();
    bad.on("*", Script::new().read_body().respond(503, &[], "no"));
    let mut connection = gateway.connect();
    // Every other one is bad, for as long as it is not left out.
    eventually(DEADLINE, "it is left out", || {
        connection.get("/x").unwrap();
        gateway.metric(EJECTIONS, &[CLUSTER, ("reason", "status")]) >= 1.0
    });
    assert_eq!(gateway.metric(EJECTIONS, &[CLUSTER, ("reason", "reset")]), 0.0);
    // It is asked again, fails again and is left out for longer, again and again: requests are lost to it less and less.
    eventually(DEADLINE, "it is left out again", || {
        connection.get("/x").unwrap();
        gateway.metric(EJECTIONS, &[CLUSTER, ("reason", "status")]) >= 3.0
    });
    assert_eq!(gateway.metric(WITHHELD, &[CLUSTER]), 0.0);
    bad.on("*", Script::new().read_body().respond(200, &[], "yes"));
    eventually(DEADLINE, "it is back", || {
        gateway.metric(EJECTED, &[CLUSTER]) == 0.0 && (share(&gateway, &bad) - 0.5).abs() < 0.01
    });
    let before = bad.requests().len();
    assert!((0..10).all(|_| connection.get("/x").unwrap().status == 200));
    assert_eq!(bad.requests().len() - before, 5);
}

#[test]
fn each_kind_of_failure_counts_once_the_row_is_long_enough() {
    let gate = Gate::new();
    let scripts = [
        ("status", Script::new().read_body().respond(504, &[], "late")),
        ("reset", Script::new().read_body().reset()),
        ("protocol", Script::new().read_body().send(b"what?\r\n\r\n").close()),
        ("timeout", Script::new().read_body().wait(&gate)),
        // The head is there, and not all that it promises.
        (
            "reset",
            Script::new().read_body().send(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nsome").close(),
        ),
    ];
    for (reason, script) in scripts {
        let (bad, good) = (Upstream::start(), Upstream::start());
        bad.on("*", script);
        let gateway =
            builder(&[&bad, &good], "consecutive_failures = 3", "response_timeout = \"300ms\"").start();
        for asked in 1..=3 {
            assert_eq!(gateway.metric(EJECTED, &[CLUSTER]), 0.0, "{reason}: {} in a row", asked - 1);
            while bad.requests().len() < asked {
                // Whatever comes of it.
                let _ = gateway.connect().get("/x");
            }
        }
        gateway.wait_for_metric(EJECTIONS, &[CLUSTER, ("reason", reason)], 1.0);
        assert_eq!(gateway.metric(EJECTED, &[CLUSTER]), 1.0, "{reason}");
        eventually(DEADLINE, "it gets none", || share(&gateway, &bad) == 0.0);
        let before = bad.requests().len();
        assert!((0..6).all(|_| gateway.connect().get("/x").unwrap().status == 200), "{reason}");
        assert_eq!(bad.requests().len(), before, "{reason}");
    }
    gate.open();
}

#[test]
fn an_endpoint_that_takes_no_connection_is_not_asked_any_more() {
    let good = Upstream::start();
    let gone = Upstream::start().address();
    let section = format!(
        "[cluster.others]\nendpoints = [\"{gone}\", \"{}\"]\noutlier_detection = {{ consecutive_failures = 3 }}",
        good.address()
    );
    let gateway = Gateway::builder().section(&section).host(host("")).start();
    // Clients notice nothing: the next endpoint is asked at once.
    assert!((0..10).all(|_| gateway.connect().get("/x").unwrap().status == 200));
    gateway.wait_for_metric(EJECTIONS, &[CLUSTER, ("reason", "connect")], 1.0);
    let errors = || gateway.metric("ringward_upstream_errors_total", &[CLUSTER]);
    assert_eq!(errors(), 3.0, "it was tried as often as makes an outlier");
}

#[test]
fn one_good_answer_ends_the_row() {
    let flaky = Upstream::start();
    flaky.on("/bad", Script::new().read_body().respond(503, &[], "no"));
    let gateway = builder(&[&flaky], "consecutive_failures = 2", "").start();
    let mut connection = gateway.connect();
    for _ in 0..5 {
        assert_eq!(connection.get("/bad").unwrap().status, 503);
        assert_eq!(connection.get("/good").unwrap().status, 200);
    }
    assert_eq!(gateway.metric(WITHHELD, &[CLUSTER]), 0.0);
    // Two in a row are too many, and still there is nobody else.
    assert!((0..2).all(|_| connection.get("/bad").unwrap().status == 503));
    gateway.wait_for_metric(WITHHELD, &[CLUSTER], 1.0);
    assert_eq!(gateway.metric(EJECTED, &[CLUSTER]), 0.0);
    assert_eq!(connection.get("/good").unwrap().status, 200);
}

#[test]
fn no_more_are_left_out_than_may_be() {
    let upstreams = [Upstream::start(), Upstream::start(), Upstream::start(), Upstream::start()];
    let all: Vec<&Upstream> = upstreams.iter().collect();
    let rule = "consecutive_failures = 2, ejected_percent_max = 50, status = \"500\"";
    let gateway = builder(&all, rule, "").start();
    for upstream in &upstreams {
        upstream.on("*", Script::new().read_body().respond(500, &[], "no"));
    }
    let mut connection = gateway.connect();
    eventually(DEADLINE, "half of them are left out", || {
        connection.get("/x").unwrap();
        gateway.metric(EJECTED, &[CLUSTER]) == 2.0 && gateway.metric(WITHHELD, &[CLUSTER]) >= 2.0
    });
    assert_eq!(gateway.metric("ringward_upstream_panic", &[CLUSTER]), 0.0);
    assert_eq!(gateway.metric(EJECTIONS, &[CLUSTER]), 2.0);
}

#[test]
fn retries_go_elsewhere_so_that_clients_notice_nothing() {
    let (bad, good) = (Upstream::start(), Upstream::start());
    bad.on("*", Script::new().read_body().respond(503, &[], "no"));
    let section = section(&[&bad, &good], "consecutive_failures = 3", "");
    let host = host("retry = { status = \"503\", backoff = \"1ms\" }");
    let gateway = Gateway::builder().section(&section).host(host).start();
    let mut connection = gateway.connect();
    assert!((0..20).all(|_| connection.get("/x").unwrap().status == 200));
    gateway.wait_for_metric(EJECTIONS, &[CLUSTER, ("reason", "status")], 1.0);
}

#[test]
fn a_reload_keeps_who_is_left_out() {
    let (bad, good) = (Upstream::start(), Upstream::start());
    bad.on("*", Script::new().read_body().respond(503, &[], "no"));
    let gateway = builder(&[&bad, &good], "consecutive_failures = 1", "").start();
    let mut connection = gateway.connect();
    while gateway.metric(EJECTED, &[CLUSTER]) == 0.0 {
        connection.get("/x").unwrap();
    }
    gateway.reconfigure("consecutive_failures = 1", "consecutive_failures = 2");
    eventually(DEADLINE, "it is left out still", || {
        gateway.metric(EJECTED, &[CLUSTER]) == 1.0 && share(&gateway, &bad) == 0.0
    });
    let before = bad.requests().len();
    assert!((0..4).all(|_| connection.get("/x").unwrap().status == 200));
    assert_eq!(bad.requests().len(), before);
}

/// An endpoint that is ejected counts like one that fails its checks, also where those pass.
#[test]
fn who_is_left_out_is_stood_in_for() {
    let upstreams = [Upstream::start(), Upstream::start(), Upstream::start()];
    let [first, second, other] = upstreams.each_ref().map(|upstream| upstream.address().to_string());
    let section = format!(
        "[cluster.others]\nendpoints = [\"{first}\", \"{second}\", {{ address = \"{other}\", priority = 1 }}]\n\
         health_check = {{ http = \"/healthz\", interval = \"100ms\", timeout = \"20s\" }}\n\
         outlier_detection = {{ consecutive_failures = 1, ejected_percent_max = 100 }}"
    );
    let gateway = Gateway::builder().section(&section).host(host("")).start();
    gateway.wait_for_metric("ringward_upstream_endpoints", &[CLUSTER, ("health", "healthy")], 3.0);
    let mut connection = gateway.connect();
    for (failing, shares) in [(0, [0.0, 0.7, 0.3]), (1, [0.0, 0.0, 1.0])] {
        upstreams[failing].on("/x", Script::new().read_body().respond(503, &[], "no"));
        while gateway.metric(EJECTED, &[CLUSTER]) < failing as f64 + 1.0 {
            connection.get("/x").unwrap();
        }
        eventually(DEADLINE, "the others take its part", || {
            upstreams
                .iter()
                .zip(shares)
                .all(|(upstream, part)| (share(&gateway, upstream) - part).abs() < 0.001)
        });
    }
    assert_eq!(gateway.metric("ringward_upstream_panic", &[CLUSTER]), 0.0, "there is the next priority");
    let healthy = gateway.metric("ringward_upstream_endpoints", &[CLUSTER, ("health", "healthy")]);
    assert_eq!(healthy, 3.0, "their checks pass");
    // The last one that takes requests stays.
    upstreams[2].on("/x", Script::new().read_body().respond(503, &[], "no"));
    assert_eq!(connection.get("/x").unwrap().status, 503);
    gateway.wait_for_metric(WITHHELD, &[CLUSTER], 1.0);
    assert_eq!(gateway.metric(EJECTED, &[CLUSTER]), 2.0);
}

/// The checks of all pass, so it is the ejections alone that leave too few.
#[test]
fn where_too_few_are_left_by_ejections_all_are_used() {
    let upstreams = [Upstream::start(), Upstream::start(), Upstream::start()];
    let endpoints = upstreams.each_ref().map(|upstream| upstream.address().to_string());
    let section = format!(
        "[cluster.others]\nendpoints = {endpoints:?}\npanic_threshold = 50\n\
         health_check = {{ http = \"/healthz\", interval = \"100ms\", timeout = \"20s\" }}\n\
         outlier_detection = {{ consecutive_failures = 1, ejected_percent_max = 100 }}"
    );
    let gateway = Gateway::builder().section(&section).host(host("")).start();
    gateway.wait_for_metric("ringward_upstream_endpoints", &[CLUSTER, ("health", "healthy")], 3.0);
    let shares = |expected: [f64; 3]| {
        eventually(DEADLINE, "the shares are these", || {
            let mut pairs = upstreams.iter().zip(expected);
            pairs.all(|(upstream, part)| (share(&gateway, upstream) - part).abs() < 0.001)
        });
    };
    let mut connection = gateway.connect();
    for (failing, panic, parts) in [(0, 0.0, [0.0, 0.5, 0.5]), (1, 1.0, [1.0 / 3.0; 3])] {
        upstreams[failing].on("/x", Script::new().read_body().respond(503, &[], "no"));
        while gateway.metric(EJECTED, &[CLUSTER]) < failing as f64 + 1.0 {
            connection.get("/x").unwrap();
        }
        gateway.wait_for_metric("ringward_upstream_panic", &[CLUSTER], panic);
        shares(parts);
    }
    let healthy = gateway.metric("ringward_upstream_endpoints", &[CLUSTER, ("health", "healthy")]);
    assert_eq!((healthy, gateway.metric(EJECTED, &[CLUSTER])), (3.0, 2.0));
    let before = upstreams.each_ref().map(asked);
    let refused = (0..6).filter(|_| connection.get("/x").unwrap().status == 503).count();
    assert_eq!(refused, 4, "those who are ejected are asked again");
    assert_eq!(upstreams.each_ref().map(asked), before.map(|count| count + 2));
    // A third is enough for this one.
    gateway.reconfigure("panic_threshold = 50", "panic_threshold = 30");
    gateway.wait_for_metric("ringward_upstream_panic", &[CLUSTER], 0.0);
    shares([0.0, 0.0, 1.0]);
}

#[test]
fn who_comes_back_starts_slowly_where_that_is_wanted() {
    let (bad, good) = (Upstream::start(), Upstream::start());
    bad.on("/x", Script::new().read_body().respond(503, &[], "no"));
    // So long that nobody misses a step of three seconds.
    let rule = "consecutive_failures = 1, ejection_time = \"100ms\"";
    let gateway = builder(&[&bad, &good], rule, "slow_start = \"30s\"").start();
    let mut connection = gateway.connect();
    while gateway.metric(EJECTIONS, &[CLUSTER]) == 0.0 {
        connection.get("/x").unwrap();
    }
    for step in [1.0, 2.0] {
        eventually(DEADLINE, "it has so many tenths of what the other one has", || {
            (share(&gateway, &bad) - step / (step + 10.0)).abs() < 0.001
        });
    }
}

/// Each worker has its own connections; what is found out is for all of them.
#[test]
fn all_workers_leave_it_out() {
    let (bad, good) = (Upstream::start(), Upstream::start());
    bad.on("*", Script::new().read_body().respond(503, &[], "no"));
    let gateway = builder(&[&bad, &good], "consecutive_failures = 10", "").workers(2).start();
    // Connections are dealt out to workers by chance.
    let mut clients: Vec<_> = (0..16).map(|_| gateway.connect()).collect();
    while gateway.metric(EJECTED, &[CLUSTER]) == 0.0 {
        clients.iter_mut().for_each(|client| assert!([200, 503].contains(&client.get("/x").unwrap().status)));
    }
    eventually(DEADLINE, "it gets none", || share(&gateway, &bad) == 0.0);
    let before = bad.requests().len();
    assert!(before >= 10, "{before}");
    for client in &mut clients {
        assert!((0..2).all(|_| client.get("/x").unwrap().status == 200));
    }
    assert_eq!(bad.requests().len(), before);
    assert_eq!(gateway.metric(EJECTIONS, &[CLUSTER, ("reason", "status")]), 1.0);
}

/// That a client has no more time says nothing of the endpoint.
#[test]
fn the_time_of_clients_is_not_held_against_endpoints() {
    let gate = Gate::new();
    let (slow, good) = (Upstream::start(), Upstream::start());
    slow.on("/slow", Script::new().read_body().wait(&gate));
    let section = section(&[&slow, &good], "consecutive_failures = 1", "");
    let host = host("request_timeout = \"300ms\"\nresponse_timeout = \"30s\"");
    let gateway = Gateway::builder().section(&section).host(host).start();
    while slow.requests().len() < 3 {
        let _ = gateway.connect().get("/slow");
    }
    eventually(DEADLINE, "they are answered", || {
        gateway.metric("ringward_responses_generated_total", &[("flag", "request_timeout")]) >= 3.0
    });
    assert_eq!(gateway.metric(EJECTIONS, &[CLUSTER]), 0.0);
    assert_eq!(gateway.metric(EJECTED, &[CLUSTER]), 0.0);
    gate.open();
}

/// Whoever keeps connections open may end them when it likes: under a request that is just on its way, too.
#[test]
fn a_kept_connection_that_has_died_is_no_failure_of_its_endpoint() {
    let played = PlayedUpstream::start();
    let section = format!(
        "[cluster.others]\nendpoints = [\"{}\"]\noutlier_detection = {{ consecutive_failures = 1 }}",
        played.address()
    );
    let gateway = Gateway::builder().section(&section).host(host("")).start();
    const EMPTY: &str = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
    let ask = |connection: &mut Connection, method| {
        let fields: &[_] = if method == "PUT" { &[("content-length", "4")] } else { &[] };
        let body: &[u8] = if method == "PUT" { b"body" } else { b"" };
        connection.send(&[&connection.head(method, "/x", fields), body].concat()).unwrap();
    };
    // Whether it was kept, what comes before the end, and whether it is held against the endpoint, which is the only one and so
    // never left out.
    for (method, kept, begun, withheld) in [
        ("GET", true, "", 0.0),
        ("POST", true, "", 0.0),
        ("PUT", true, "", 0.0),
        ("POST", false, "", 1.0),
        ("POST", true, "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nsome", 2.0),
        ("GET", false, "", 3.0),
    ] {
        let mut connection = gateway.connect();
        let mut upstream = if kept {
            ask(&mut connection, "GET");
            let mut upstream = played.accept();
            upstream.head();
            upstream.send(EMPTY);
            assert_eq!(connection.response().unwrap().status, 200);
            ask(&mut connection, method);
            upstream
        } else {
            ask(&mut connection, method);
            played.accept()
        };
        upstream.head();
        upstream.send(begun);
        drop(upstream);
        if kept && method == "GET" {
            let mut fresh = played.accept();
            fresh.head();
            fresh.send("HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            assert_eq!(connection.response().unwrap().status, 200);
        } else if begun.is_empty() {
            assert_eq!(connection.response().unwrap().status, 502, "{method} {kept}");
        } else {
            assert!(connection.response().is_err(), "half of an answer");
        }
        gateway.wait_for_metric(WITHHELD, &[CLUSTER], withheld);
    }
    assert_eq!(gateway.metric(EJECTIONS, &[CLUSTER]), 0.0);
}

/// Before `upstreams`, by this rule, with more keys of the cluster.
fn builder(upstreams: &[&Upstream], rule: &str, keys: &str) -> Builder {
    Gateway::builder().section(&section(upstreams, rule, keys)).host(host(""))
}

fn section(upstreams: &[&Upstream], rule: &str, keys: &str) -> String {
    let endpoints: Vec<String> = upstreams.iter().map(|upstream| upstream.address().to_string()).collect();
    format!("[cluster.others]\nendpoints = {endpoints:?}\noutlier_detection = {{ {rule} }}\n{keys}")
}

fn host(keys: &str) -> Host {
    Host::new(&[HOST]).route("path = \"/{rest...}\"", &format!("cluster = \"others\"\n{keys}"))
}

/// How many requests of clients it got.
fn asked(upstream: &Upstream) -> usize {
    upstream.requests().iter().filter(|request| request.target == "/x").count()
}

/// Its part of the requests.
fn share(gateway: &Gateway, upstream: &Upstream) -> f64 {
    gateway.metric(SHARE, &[CLUSTER, ("endpoint", &*upstream.address().to_string())])
}
