//! Which endpoint gets a request: by weight, by load, by a property of the request.
#![allow(clippy::unwrap_used, reason = "a failed expectation here is a failed test")]

mod support;

use std::collections::HashSet;
use std::net::SocketAddr;

use ringward_testkit::{
    Connection, DEADLINE, Gate, Http2Script, Http2Upstream, Script, Upstream, eventually,
};

use self::support::{Builder, Gateway, HOST, Host, on_both_drivers};

on_both_drivers!(requests_keep_to_weights,);

fn requests_keep_to_weights(driver: &str) {
    let upstreams = start::<3>();
    let gateway = builder(&weighted(&upstreams, [3, 1, 2]), "").io(driver).start();
    let mut connection = gateway.connect();
    assert_eq!(spread(&mut connection, &upstreams, 24), [12, 4, 8]);
    // Each on one connection.
    assert_eq!(upstreams.each_ref().map(Upstream::connections_accepted), [1, 1, 1]);
}

#[test]
fn a_draw_reaches_all() {
    let upstreams = start::<3>();
    let gateway = builder(&weighted(&upstreams, [1, 1, 1]), "balance = \"random\"").start();
    let served = spread(&mut gateway.connect(), &upstreams, 60);
    // One in 10^10 that one is left out.
    assert!(served.iter().all(|count| *count > 0), "{served:?}");
}

#[test]
fn an_endpoint_that_has_work_gets_no_more() {
    let upstreams = start::<2>();
    let gate = Gate::new();
    upstreams[0].on("/slow", Script::new().wait(&gate).respond(200, &[], "slow"));
    upstreams[1].on("/slow", Script::new().wait(&gate).respond(200, &[], "slow"));
    let gateway = builder(&weighted(&upstreams, [1, 1]), "balance = \"least_request\"").start();
    let mut waiting = gateway.connect();
    waiting.send(&waiting.head("GET", "/slow", &[])).unwrap();
    eventually(DEADLINE, "the slow request arrived", || total(&upstreams) == 1);
    let busy = upstreams.iter().position(|upstream| !upstream.requests().is_empty()).unwrap();
    let served = spread(&mut gateway.connect(), &upstreams, 20);
    assert_eq!((served[busy], served[1 - busy]), (0, 20));
    gate.open();
    assert_eq!(waiting.response().unwrap().status, 200);
    // Afterwards both are as good as each other.
    let served = spread(&mut gateway.connect(), &upstreams, 60);
    assert!(served.iter().all(|count| *count > 0), "{served:?}");
}

#[test]
fn requests_that_share_connections_count_as_well() {
    let upstreams = [Http2Upstream::start(), Http2Upstream::start()];
    let gate = Gate::new();
    for upstream in &upstreams {
        upstream.on("/slow", Http2Script::new().wait(&gate).respond(200, &[], "slow"));
    }
    let keys = "balance = \"least_request\"\nprotocol = \"http2\"";
    let addresses = upstreams.each_ref().map(Http2Upstream::address);
    let gateway = Gateway::builder().endpoints(&addresses, keys).start();
    let mut waiting = gateway.connect();
    waiting.send(&waiting.head("GET", "/slow", &[])).unwrap();
    let requests = || upstreams.each_ref().map(|upstream| upstream.requests().len());
    eventually(DEADLINE, "the slow request arrived", || requests().iter().sum::<usize>() == 1);
    let busy = requests().iter().position(|count| *count == 1).unwrap();
    let mut connection = gateway.connect();
    for _ in 0..20 {
        assert_eq!(connection.get("/x").unwrap().status, 200);
    }
    assert_eq!((requests()[busy], requests()[1 - busy]), (1, 20));
    gate.open();
    assert_eq!(waiting.response().unwrap().status, 200);
}

#[test]
fn a_property_of_the_request_leads_to_its_endpoint() {
    let upstreams = start::<3>();
    let table = [
        ("{ header = \"X-User\" }", "x-user", "user-N"),
        ("{ cookie = \"session\" }", "cookie", "a=b; session=N; sessions=x"),
    ];
    for (key, field, value) in table {
        // Workers agree: which of them takes a connection makes no difference.
        let keys = format!("balance = {{ maglev = {key} }}");
        let gateway = builder(&weighted(&upstreams, [1, 1, 1]), &keys).workers(2).start();
        let mut homes = HashSet::new();
        for user in 0..20 {
            let before = counts(&upstreams);
            for _ in 0..3 {
                let mut connection = gateway.connect();
                let head = connection.head("GET", "/x", &[(field, &value.replace('N', &user.to_string()))]);
                connection.send(&head).unwrap();
                assert_eq!(connection.response().unwrap().status, 200);
            }
            let served: Vec<usize> =
                counts(&upstreams).iter().zip(before).map(|(now, then)| now - then).collect();
            let home = served.iter().position(|count| *count == 3);
            homes.insert(
                home.unwrap_or_else(|| panic!("{key}: the requests of {user} were dealt out: {served:?}")),
            );
        }
        assert_eq!(homes.len(), 3, "{key}");
        // Those without it go anywhere.
        let served = spread(&mut gateway.connect(), &upstreams, 60);
        assert!(served.iter().all(|count| *count > 0), "{served:?}");
    }
}

#[test]
fn who_the_client_is_leads_to_an_endpoint() {
    let upstreams = start::<3>();
    for key in ["\"source_address\"", "{ identity = \"fingerprint\" }"] {
        let keys = format!("balance = {{ maglev = {key} }}");
        let gateway = builder(&weighted(&upstreams, [1, 1, 1]), &keys).start();
        let mut served: Vec<usize> = (0..12)
            .map(|_| spread(&mut gateway.connect(), &upstreams, 1))
            .fold(vec![0; 3], |sum, one| sum.iter().zip(one).map(|(sum, one)| sum + one).collect());
        served.sort_unstable();
        assert_eq!(served, [0, 0, 12], "{key}");
    }
}

#[test]
fn a_hash_goes_elsewhere_only_while_its_endpoint_is_away() {
    let upstreams = start::<3>();
    let keys = "balance = { maglev = { header = \"x-user\" } }\npanic_threshold = 0\n\
                health_check = { http = \"/healthz\", interval = \"100ms\", unhealthy_threshold = 1, healthy_threshold = 1 }";
    let gateway = builder(&weighted(&upstreams, [1, 1, 1]), keys).start();
    let mut connection = gateway.connect();
    let mut home = |user: usize| {
        let before = counts(&upstreams);
        let head = connection.head("GET", "/x", &[("x-user", &format!("user-{user}"))]);
        connection.send(&head).unwrap();
        assert_eq!(connection.response().unwrap().status, 200);
        counts(&upstreams).iter().zip(before).position(|(now, then)| now - then == 1).unwrap()
    };
    let before: Vec<usize> = (0..30).map(&mut home).collect();
    let healthy = |count: f64| {
        eventually(DEADLINE, "the health is known", || {
            let labels = [("cluster", "others"), ("health", "healthy")];
            gateway.metric("ringward_upstream_endpoints", &labels) == count
        });
    };
    upstreams[1].on("/healthz", Script::new().respond(503, &[], ""));
    healthy(2.0);
    let during: Vec<usize> = (0..30).map(&mut home).collect();
    assert!(!during.contains(&1));
    // Maglev moves less than one in a hundred of the others.
    let moved = before.iter().zip(&during).filter(|(before, during)| **before != 1 && before != during);
    assert!(moved.count() <= 3, "{before:?} {during:?}");
    upstreams[1].on("/healthz", Script::new().respond(200, &[], ""));
    healthy(3.0);
    assert_eq!((0..30).map(&mut home).collect::<Vec<_>>(), before);
}

fn start<const N: usize>() -> [Upstream; N] {
    std::array::from_fn(|_| Upstream::start())
}

/// The endpoints in TOML.
fn weighted<const N: usize>(upstreams: &[Upstream; N], weights: [u32; N]) -> String {
    let endpoint = |(upstream, weight): (&Upstream, u32)| {
        let address: SocketAddr = upstream.address();
        // As a string where that says all.
        if weight == 1 {
            format!("\"{address}\"")
        } else {
            format!("{{ address = \"{address}\", weight = {weight} }}")
        }
    };
    upstreams.iter().zip(weights).map(endpoint).collect::<Vec<_>>().join(", ")
}

fn builder(endpoints: &str, keys: &str) -> Builder {
    let host = Host::new(&[HOST]).route("path = \"/{rest...}\"", "cluster = \"others\"");
    Gateway::builder().section(&format!("[cluster.others]\nendpoints = [{endpoints}]\n{keys}")).host(host)
}

/// How many requests each has had, without those that checked its health.
fn counts(upstreams: &[Upstream]) -> Vec<usize> {
    let count = |upstream: &Upstream| {
        upstream.requests().iter().filter(|request| request.target != "/healthz").count()
    };
    upstreams.iter().map(count).collect()
}

fn total(upstreams: &[Upstream]) -> usize {
    counts(upstreams).iter().sum()
}

/// How many of `requests` each gets.
#[track_caller]
fn spread(connection: &mut Connection, upstreams: &[Upstream], requests: usize) -> Vec<usize> {
    let before = counts(upstreams);
    for _ in 0..requests {
        assert_eq!(connection.get("/x").unwrap().status, 200);
    }
    counts(upstreams).iter().zip(before).map(|(now, then)| now - then).collect()
}
