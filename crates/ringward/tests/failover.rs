//! Endpoints that stand in for others, endpoints that are near, and endpoints that start slowly.
#![allow(clippy::unwrap_used, reason = "a failed expectation here is a failed test")]

mod support;

use ringward_testkit::{Connection, DEADLINE, Script, Upstream, eventually};

use self::support::{Gateway, HOST, Host, on_both_drivers};

on_both_drivers!(the_next_priority_stands_in_and_steps_back,);

const CHECK: &str = "health_check = { http = \"/healthz\", interval = \"100ms\", timeout = \"20s\", healthy_threshold = 1, \
                     unhealthy_threshold = 1 }";
const SHARE: &str = "ringward_upstream_endpoint_share";

fn the_next_priority_stands_in_and_steps_back(driver: &str) {
    let upstreams = [Upstream::start(), Upstream::start(), Upstream::start()];
    let gateway = gateway(&upstreams, ["", "", "priority = 1"], "", &format!("io = \"{driver}\""));
    let mut connection = gateway.connect();
    wait_for_shares(&gateway, &upstreams, [0.5, 0.5, 0.0]);
    assert_eq!(spread(&mut connection, &upstreams, 10), [5, 5, 0]);
    // One of two takes 70 % of all.
    answer(&upstreams[0], 503);
    wait_for_shares(&gateway, &upstreams, [0.0, 0.7, 0.3]);
    let served = spread(&mut connection, &upstreams, 100);
    assert!(served[0] == 0 && (69..=71).contains(&served[1]), "{served:?}");
    answer(&upstreams[1], 503);
    wait_for_shares(&gateway, &upstreams, [0.0, 0.0, 1.0]);
    assert_eq!(spread(&mut connection, &upstreams, 10), [0, 0, 10]);
    // Nobody is well: those who should be.
    answer(&upstreams[2], 503);
    wait_for_shares(&gateway, &upstreams, [0.5, 0.5, 0.0]);
    assert_eq!(gateway.metric("ringward_upstream_panic", &[("cluster", "others")]), 1.0);
    for upstream in &upstreams {
        answer(upstream, 200);
    }
    eventually(DEADLINE, "there is no panic", || {
        gateway.metric("ringward_upstream_panic", &[("cluster", "others")]) == 0.0
    });
    wait_for_shares(&gateway, &upstreams, [0.5, 0.5, 0.0]);
    assert_eq!(spread(&mut connection, &upstreams, 10), [5, 5, 0]);
}

#[test]
fn endpoints_of_our_zone_come_first() {
    let upstreams = [Upstream::start(), Upstream::start(), Upstream::start()];
    let gateway = gateway(&upstreams, ["zone = \"b\"", "zone = \"a\"", ""], "", "zone = \"a\"");
    let mut connection = gateway.connect();
    wait_for_shares(&gateway, &upstreams, [0.0, 1.0, 0.0]);
    assert_eq!(spread(&mut connection, &upstreams, 10), [0, 10, 0]);
    answer(&upstreams[1], 503);
    wait_for_shares(&gateway, &upstreams, [0.5, 0.0, 0.5]);
    assert_eq!(spread(&mut connection, &upstreams, 10), [5, 0, 5]);
    answer(&upstreams[1], 200);
    wait_for_shares(&gateway, &upstreams, [0.0, 1.0, 0.0]);
}

#[test]
fn zones_make_no_difference_to_a_node_without_one() {
    let upstreams = [Upstream::start(), Upstream::start(), Upstream::start()];
    let gateway = gateway(&upstreams, ["zone = \"b\"", "zone = \"a\"", ""], "", "");
    assert_eq!(spread(&mut gateway.connect(), &upstreams, 9), [3, 3, 3]);
}

#[test]
fn an_endpoint_that_comes_back_gets_its_share_step_by_step() {
    let upstreams = [Upstream::start(), Upstream::start()];
    // So long that nobody misses a step of three seconds.
    let gateway = gateway(&upstreams, ["", ""], "slow_start = \"30s\"", "");
    wait_for_shares(&gateway, &upstreams, [0.5, 0.5]);
    answer(&upstreams[1], 503);
    wait_for_shares(&gateway, &upstreams, [1.0, 0.0]);
    answer(&upstreams[1], 200);
    wait_for_shares(&gateway, &upstreams, [10.0 / 11.0, 1.0 / 11.0]);
    wait_for_shares(&gateway, &upstreams, [10.0 / 12.0, 2.0 / 12.0]);
}

#[test]
fn an_endpoint_that_comes_back_has_its_full_share_in_the_end() {
    let upstreams = [Upstream::start(), Upstream::start()];
    let gateway = gateway(&upstreams, ["", ""], "slow_start = \"1s\"", "");
    wait_for_shares(&gateway, &upstreams, [0.5, 0.5]);
    answer(&upstreams[1], 503);
    wait_for_shares(&gateway, &upstreams, [1.0, 0.0]);
    answer(&upstreams[1], 200);
    let mut seen = Vec::new();
    let labels = [("cluster", "others"), ("endpoint", &*upstreams[1].address().to_string())];
    eventually(DEADLINE, "its full share", || {
        seen.push(gateway.metric(SHARE, &labels));
        seen.last() == Some(&0.5)
    });
    assert!(seen.is_sorted(), "{seen:?}");
    let is_step = |share: &f64| (0..=10).map(f64::from).any(|step| *share == step / (step + 10.0));
    assert!(seen.iter().all(is_step), "tenths of what the other one has: {seen:?}");
    assert_eq!(spread(&mut gateway.connect(), &upstreams, 8), [4, 4]);
}

/// Before `upstreams`, each with these keys.
fn gateway<const N: usize>(
    upstreams: &[Upstream; N],
    keys: [&str; N],
    cluster: &str,
    server: &str,
) -> Gateway {
    let endpoint = |(upstream, keys): (&Upstream, &str)| {
        let rest = if keys.is_empty() { String::new() } else { format!(", {keys}") };
        format!("{{ address = \"{}\"{rest} }}", upstream.address())
    };
    let endpoints: Vec<String> = upstreams.iter().zip(keys).map(endpoint).collect();
    for upstream in upstreams {
        answer(upstream, 200);
    }
    let host = Host::new(&[HOST]).route("path = \"/{rest...}\"", "cluster = \"others\"");
    let section = format!("[cluster.others]\nendpoints = [{}]\n{CHECK}\n{cluster}", endpoints.join(", "));
    let builder = Gateway::builder().section(&section).host(host);
    // The driver is a key of its own in the builder.
    match server.strip_prefix("io = ") {
        Some(driver) => builder.io(driver.trim_matches('"')).start(),
        None => builder.server(server).start(),
    }
}

/// Lets it pass its checks, or fail them.
fn answer(upstream: &Upstream, status: u16) {
    upstream.on("/healthz", Script::new().respond(status, &[], ""));
}

#[track_caller]
fn wait_for_shares<const N: usize>(gateway: &Gateway, upstreams: &[Upstream; N], shares: [f64; N]) {
    eventually(DEADLINE, "the shares are these", || {
        upstreams.iter().zip(shares).all(|(upstream, share)| {
            let labels = [("cluster", "others"), ("endpoint", &*upstream.address().to_string())];
            (gateway.metric(SHARE, &labels) - share).abs() < 0.001
        })
    });
}

/// How many of `requests` each gets.
#[track_caller]
fn spread<const N: usize>(
    connection: &mut Connection,
    upstreams: &[Upstream; N],
    requests: usize,
) -> [usize; N] {
    let counts = || {
        upstreams
            .each_ref()
            .map(|upstream| upstream.requests().iter().filter(|request| request.target != "/healthz").count())
    };
    let before = counts();
    for _ in 0..requests {
        assert_eq!(connection.get("/x").unwrap().status, 200);
    }
    let mut after = counts();
    after.iter_mut().zip(before).for_each(|(now, then)| *now -= then);
    after
}
