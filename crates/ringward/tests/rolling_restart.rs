//! Three upstreams that are restarted one by one under load: no idempotent request is lost.
#![allow(clippy::unwrap_used, reason = "a failed expectation here is a failed test")]

mod support;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use ringward_testkit::{DEADLINE, Upstream, eventually};

use self::support::{Gateway, HOST, Host};

const HEALTHY: &str = "ringward_upstream_endpoint_healthy";
const CLIENTS: usize = 8;

#[test]
fn a_rolling_restart_loses_no_idempotent_request() {
    let mut upstreams = [Upstream::start(), Upstream::start(), Upstream::start()];
    let addresses = upstreams.each_ref().map(|upstream| upstream.address().to_string());
    let section = format!(
        "[cluster.others]\nendpoints = {addresses:?}\n\
         health_check = {{ http = \"/\", interval = \"100ms\", healthy_threshold = 1, unhealthy_threshold = 1 }}"
    );
    let retry = "cluster = \"others\"\nretry = { attempts = 4, status = [\"502-504\"], backoff = \"10ms\" }";
    let host = Host::new(&[HOST]).route("path = \"/{rest...}\"", retry);
    let gateway = Gateway::builder().workers(2).section(&section).host(host).start();
    let (stopping, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| {
                scope.spawn(|| {
                    let mut connection = gateway.connect();
                    let mut lost = Vec::new();
                    while !stopping.load(Ordering::Relaxed) {
                        match connection.get("/x").map(|response| response.status) {
                            Ok(200) => {}
                            other => lost.push(format!("{other:?}")),
                        }
                        answered.fetch_add(1, Ordering::Relaxed);
                    }
                    lost
                })
            })
            .collect();
        for round in 0..2 {
            for index in 0..upstreams.len() {
                let address = upstreams[index].address();
                let is_healthy = |value: f64| {
                    let labels = [("endpoint", &*addresses[index])];
                    eventually(DEADLINE, &format!("{address} is {value} in round {round}"), || {
                        gateway.metric(HEALTHY, &labels) == value
                    });
                };
                let some = answered.load(Ordering::Relaxed) + 10 * CLIENTS;
                eventually(DEADLINE, "requests are answered", || answered.load(Ordering::Relaxed) > some);
                let (port, placeholder) = (address.port(), Upstream::start());
                assert_ne!(placeholder.address().port(), port);
                drop(std::mem::replace(&mut upstreams[index], placeholder));
                is_healthy(0.0);
                upstreams[index] = Upstream::start_at(address);
                is_healthy(1.0);
            }
        }
        stopping.store(true, Ordering::Relaxed);
        let lost: Vec<String> = clients.into_iter().flat_map(|client| client.join().unwrap()).collect();
        assert!(
            lost.is_empty(),
            "{} of {} were lost: {lost:?}",
            lost.len(),
            answered.load(Ordering::Relaxed)
        );
    });
    // What it was about has happened.
    assert!(gateway.metric("ringward_upstream_retries_total", &[]) > 0.0);
    assert!(upstreams.iter().all(|upstream| upstream.errors().is_empty()));
}
