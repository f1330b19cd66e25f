//! Changes while clients keep sending: nothing that should pass fails, and what should not pass stops at once.
//!
//! The clients stay within the rules of HTTP/1.1: they send on a kept connection, and take a new one after `Connection: close`
//! or when a kept one was closed between two exchanges.
#![allow(clippy::unwrap_used, reason = "a failed expectation is a failed test")]

mod support;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};

use ringward_testkit::{Authority, Client, Closing, DEADLINE, Leaf, eventually};

use support::{Gateway, HOST, Host};

const POLICY: &str = r#"package ringward.authz
default decision := {"allowed": false, "rule": "default"}
decision := {"allowed": true, "rule": "everywhere"} if startswith(input.request.path, "/shared/")
decision := {"allowed": true, "rule": "first"} if input.request.path == "/first"
"#;

/// A gateway that trusts one more CA, until `trust/both.pem` is written again.
fn trusting_also(leaving: &Authority) -> Gateway {
    let builder = Gateway::builder();
    let root = builder.root().clone();
    builder
        .trust("both", &[&root, leaving])
        .host(Host::new(&[HOST]).client_auth("mode = \"required\", trust = \"both\""))
        .start()
}

/// Clients that send as fast as they are answered.
struct Load {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    clients: Vec<JoinHandle<Vec<String>>>,
}

impl Load {
    fn start(edge: SocketAddr, clients: impl IntoIterator<Item = Client>, target: &'static str) -> Load {
        let (stop, answered) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let run = |client: Client| {
            let (stop, answered) = (stop.clone(), answered.clone());
            thread::spawn(move || {
                let mut failures = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    match client.connect(edge) {
                        Ok(mut connection) => loop {
                            let response = match connection.get(target) {
                                Ok(response) => response,
                                Err(error) => break failures.push(format!("no answer: {error}")),
                            };
                            if response.status != 200 {
                                failures.push(format!("status {}", response.status));
                            }
                            answered.fetch_add(1, Ordering::Relaxed);
                            if !response.keeps_alive() || stop.load(Ordering::Relaxed) {
                                break;
                            }
                        },
                        Err(error) => failures.push(format!("no connection: {error}")),
                    }
                }
                failures
            })
        };
        let clients = clients.into_iter().map(run).collect();
        Load { stop, answered, clients }
    }

    /// Waits until many more requests have been answered.
    fn go_on(&self) {
        let goal = self.answered.load(Ordering::Relaxed) + 500;
        eventually(DEADLINE, "the clients are served", || self.answered.load(Ordering::Relaxed) >= goal);
    }

    /// What went wrong.
    fn finish(self) -> Vec<String> {
        self.stop.store(true, Ordering::Relaxed);
        self.clients.into_iter().flat_map(|client| client.join().unwrap()).collect()
    }
}

#[test]
fn a_policy_edit_under_load_fails_no_request_and_decides_the_next_one() {
    let gateway = Gateway::builder().policy("main", POLICY).host(Host::new(&[HOST]).policy("main")).start();
    let load = Load::start(gateway.edge, (0..8).map(|_| gateway.client()), "/shared/thing");
    let mut watcher = gateway.connect();
    load.go_on();
    assert_eq!(watcher.get("/first").unwrap().status, 200);
    assert_eq!(watcher.get("/second").unwrap().status, 403);
    for (allowed, denied) in [("/second", "/first"), ("/first", "/second"), ("/second", "/first")] {
        let generation = gateway.metric("ringward_config_generation", &[]);
        gateway.pki.write("policies/main/policy.rego", POLICY.replace("/first", allowed));
        eventually(DEADLINE, "the edit is in force", || {
            gateway.metric("ringward_config_generation", &[]) > generation
        });
        assert_eq!(watcher.get(denied).unwrap().status, 403);
        assert_eq!(watcher.get(allowed).unwrap().status, 200);
        load.go_on();
    }
    assert_eq!(load.finish(), Vec::<String>::new());
}

#[test]
fn a_ca_swap_under_load_fails_no_request_of_the_kept_ca_and_ends_the_others() {
    let leaving = Authority::root("Leaving Root");
    let gateway = trusting_also(&leaving);
    let departing = leaving.issue(&Leaf::client("departing"));
    let departing = gateway.anonymous().identity(&departing);
    let load = Load::start(gateway.edge, (0..8).map(|_| gateway.client()), "/thing");
    let mut idle = departing.connect(gateway.edge).unwrap();
    assert_eq!(idle.get("/thing").unwrap().status, 200);
    let mut kept_idle = gateway.connect();
    assert_eq!(kept_idle.get("/thing").unwrap().status, 200);
    load.go_on();

    let generation = gateway.metric("ringward_config_generation", &[]);
    gateway.pki.write_authorities("trust/both.pem", &[&gateway.root]);
    eventually(DEADLINE, "the swap is in force", || {
        gateway.metric("ringward_config_generation", &[]) > generation
    });
    let (rest, closing) = idle.wait_closed();
    assert_eq!((rest.as_slice(), closing), (&b""[..], Closing::Notified));
    assert!(departing.connect(gateway.edge).and_then(|mut connection| connection.get("/thing")).is_err());
    gateway.wait_for_failed_handshakes("unknown_issuer", 1);
    load.go_on();
    assert_eq!(load.finish(), Vec::<String>::new());
}

#[test]
fn a_request_of_a_removed_ca_is_not_served_on_a_connection_that_is_kept() {
    let leaving = Authority::root("Leaving Root");
    let gateway = trusting_also(&leaving);
    let departing = gateway.anonymous().identity(&leaving.issue(&Leaf::client("departing")));
    let mut connection = departing.connect(gateway.edge).unwrap();
    assert_eq!(connection.get("/before").unwrap().status, 200);
    let generation = gateway.metric("ringward_config_generation", &[]);
    gateway.pki.write_authorities("trust/both.pem", &[&gateway.root]);
    eventually(DEADLINE, "the swap is in force", || {
        gateway.metric("ringward_config_generation", &[]) > generation
    });
    // At once: connections are ended by a sweep only when they have been idle for a moment. Here it is the gate that refuses.
    connection.get("/after").expect_err("a client that is not trusted any more is not answered");
    gateway.wait_for_closed("trust_changed", 1);
    assert!(gateway.upstream.requests().iter().all(|request| request.target != "/after"));
}

#[test]
fn a_certificate_renewal_under_load_fails_no_request() {
    let gateway = Gateway::start();
    let load = Load::start(gateway.edge, (0..8).map(|_| gateway.client()), "/thing");
    let mut old = gateway.connect();
    load.go_on();
    for _ in 0..3 {
        let renewed = gateway.root.issue(&Leaf::server(HOST));
        gateway.pki.write_pem("host-0", &renewed);
        eventually(DEADLINE, "the renewed certificate is shown", || {
            gateway.connect().server_chain()[0] == *renewed.leaf()
        });
        load.go_on();
    }
    assert_eq!(old.get("/thing").unwrap().status, 200);
    assert_eq!(load.finish(), Vec::<String>::new());
}
