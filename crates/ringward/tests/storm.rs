//! Trust that comes and goes hundreds of times while its client keeps coming, with sessions and without.
//!
//! The client notes for each request in which phase it began and ended. What lay within one phase has one right answer:
//! served while it is trusted, and not a byte upstream while it is not. A client that is not concerned is served throughout.
#![allow(clippy::unwrap_used, reason = "a failed expectation here is a failed test")]
#![allow(clippy::print_stdout, reason = "the figures are for whoever asks for them")]

mod support;

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};

use ringward_testkit::{Authority, Client, Connection, Crl, DEADLINE, Leaf, eventually};
use serde_json::json;

use self::support::{Gateway, HOST, Host, publish};

/// Odd phases are changes under way; of the even ones every other is without trust.
#[derive(Clone, Default)]
struct Phase(Arc<AtomicU64>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trust {
    Given,
    Withdrawn,
    Changing,
}

/// A request of the client whose trust comes and goes.
#[derive(Debug)]
struct Observation {
    target: String,
    trust: Trust,
    served: bool,
    resumed: bool,
    /// On a connection that was there already.
    reused: bool,
    /// Half of it was sent before, while the client was trusted.
    halved: bool,
}

/// Clients at work.
struct Storm {
    phase: Phase,
    stop: Arc<AtomicBool>,
    observed: Arc<AtomicU64>,
    victims: Vec<JoinHandle<Vec<Observation>>>,
    bystanders: Vec<JoinHandle<(u64, Vec<String>)>>,
}

impl Phase {
    fn now(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }

    fn next(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Trust {
    /// What held from one moment to another.
    fn between(from: u64, to: u64) -> Trust {
        match (from == to, from % 4) {
            (true, 0) => Trust::Given,
            (true, 2) => Trust::Withdrawn,
            _ => Trust::Changing,
        }
    }
}

impl Storm {
    fn start(addresses: [SocketAddr; 2], victim: &Client, bystander: &Client) -> Storm {
        let (phase, stop, observed) =
            (Phase::default(), Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let address = |number: usize| addresses[number % addresses.len()];
        let victims = (0..4).map(|number| {
            let (phase, stop, observed) = (phase.clone(), stop.clone(), observed.clone());
            let (client, address) = (victim.clone().resuming(), address(number));
            thread::spawn(move || suffer(&client, address, number, &phase, &stop, &observed))
        });
        // A connection in the middle of a request is not idle, so nothing but the gate keeps it from being served.
        let hesitant = (4..6).map(|number| {
            let (phase, stop) = (phase.clone(), stop.clone());
            let (client, address) = (victim.clone().resuming(), address(number));
            thread::spawn(move || hesitate(&client, address, number, &phase, &stop))
        });
        let victims = victims.chain(hesitant).collect();
        let bystanders = (0..3).map(|number| {
            let (stop, client, address) = (stop.clone(), bystander.clone().resuming(), address(number));
            thread::spawn(move || go_on(&client, address, &stop))
        });
        Storm { victims, bystanders: bystanders.collect(), phase, stop, observed }
    }

    /// Takes trust away and gives it back, so many times, each time for a few requests of every client.
    fn rage(&self, times: usize, mut change: impl FnMut(bool)) {
        for _ in 0..times {
            for trusted in [false, true] {
                self.phase.next();
                change(trusted);
                self.phase.next();
                let goal = self.observed.load(Ordering::SeqCst) + 6;
                eventually(DEADLINE, "the clients try", || self.observed.load(Ordering::SeqCst) >= goal);
            }
        }
    }

    /// What is to be said about it, after every request has got its right answer.
    fn check(self, gateway: &Gateway, times: usize) {
        self.stop.store(true, Ordering::SeqCst);
        let observations: Vec<Observation> =
            self.victims.into_iter().flat_map(|victim| victim.join().unwrap()).collect();
        let mut undisturbed = 0;
        for bystander in self.bystanders {
            let (served, failures) = bystander.join().unwrap();
            assert_eq!(failures, Vec::<String>::new(), "somebody who is not concerned");
            undisturbed += served;
        }
        let reached: HashSet<String> = gateway.reached().into_iter().collect();
        for observation in &observations {
            let arrived = reached.contains(&observation.target);
            match observation.trust {
                Trust::Withdrawn => assert!(!arrived && !observation.served, "not trusted: {observation:?}"),
                // A connection that was there may have been closed for what was before.
                Trust::Given => assert!(observation.served || observation.reused, "trusted: {observation:?}"),
                Trust::Changing => assert!(arrived || !observation.served, "from nowhere: {observation:?}"),
            }
        }
        let count = |wanted: &dyn Fn(&&Observation) -> bool| observations.iter().filter(wanted).count();
        let halved = count(&|observation| observation.trust == Trust::Withdrawn && observation.halved);
        let refused = count(&|observation| observation.trust == Trust::Withdrawn);
        let resumed = count(&|observation| observation.served && observation.resumed);
        let between = count(&|observation| observation.trust == Trust::Changing);
        println!(
            "{times} times withdrawn: {} requests, {refused} of them without trust ({halved} begun with it), \
             {between} during a change, \
             {resumed} served on resumed connections, {undisturbed} of others",
            observations.len()
        );
        assert!(refused >= times && resumed >= times && undisturbed > 0, "{refused} {resumed} {undisturbed}");
        assert!(halved >= times / 4, "{halved} of {times}");
        assert_eq!(gateway.metric("ringward_worker_panics_total", &[]), 0.0);
        assert_eq!(gateway.upstream.errors(), Vec::<String>::new());
    }
}

/// A client that keeps coming: two requests on each connection, if it lives.
fn suffer(
    client: &Client,
    address: SocketAddr,
    number: usize,
    phase: &Phase,
    stop: &AtomicBool,
    observed: &AtomicU64,
) -> Vec<Observation> {
    let mut observations = Vec::new();
    let mut kept: Option<Connection> = None;
    while !stop.load(Ordering::SeqCst) {
        let target = format!("/{number}/{}", observations.len());
        let from = phase.now();
        let reused = kept.is_some();
        let connection = kept.take().map_or_else(|| client.connect(address), Ok);
        let asked = connection.and_then(|mut connection| Ok((connection.get(&target)?, connection)));
        let trust = Trust::between(from, phase.now());
        let resumed = asked.as_ref().is_ok_and(|(_, connection)| connection.is_resumed());
        let served = asked.as_ref().is_ok_and(|(response, _)| response.status == 200);
        observations.push(Observation { target, trust, served, resumed, reused, halved: false });
        if let Ok((response, connection)) = asked {
            kept = (!reused && response.keeps_alive()).then_some(connection);
        }
        observed.fetch_add(1, Ordering::SeqCst);
    }
    observations
}

/// A client that begins requests while it is trusted and ends them when it is not.
fn hesitate(
    client: &Client,
    address: SocketAddr,
    number: usize,
    phase: &Phase,
    stop: &AtomicBool,
) -> Vec<Observation> {
    let mut observations = Vec::new();
    let stopped = || stop.load(Ordering::SeqCst);
    while !stopped() {
        let target = format!("/{number}/{}", observations.len());
        let begun = client.connect(address).and_then(|mut connection| {
            connection.get("/before")?;
            let head = connection.head("GET", &target, &[]);
            connection.send(&head[..head.len() / 2])?;
            Ok((head, connection))
        });
        // Not trusted at the moment.
        let Ok((head, mut connection)) = begun else { continue };
        eventually(3 * DEADLINE, "trust is withdrawn", || phase.now() % 4 == 2 || stopped());
        let from = phase.now();
        let answer = connection.send(&head[head.len() / 2..]).and_then(|()| connection.response());
        let trust = Trust::between(from, phase.now());
        let served = answer.is_ok_and(|response| response.status == 200);
        let resumed = connection.is_resumed();
        observations.push(Observation { target, trust, served, resumed, reused: true, halved: true });
    }
    observations
}

/// A client that is not concerned: how many requests were served, and what went wrong.
fn go_on(client: &Client, address: SocketAddr, stop: &AtomicBool) -> (u64, Vec<String>) {
    let (mut served, mut failures) = (0, Vec::new());
    while !stop.load(Ordering::SeqCst) {
        let mut connection = match client.connect(address) {
            Ok(connection) => connection,
            Err(error) => {
                failures.push(format!("no connection: {error}"));
                continue;
            }
        };
        for _ in 0..3 {
            match connection.get("/bystander") {
                Ok(response) if response.status == 200 && response.keeps_alive() => served += 1,
                Ok(response) => failures.push(format!("{}", response.status)),
                Err(error) => failures.push(format!("no answer: {error}")),
            }
        }
    }
    (served, failures)
}

/// One listener for each kind of session.
fn addresses(gateway: &Gateway) -> [SocketAddr; 2] {
    [gateway.listener("edge"), gateway.listener("cached")]
}

const CACHED: &str = "resumption = \"cache\"\n";

#[test]
fn deny_list() {
    const TIMES: usize = 200;
    let gateway = Gateway::builder()
        .workers(2)
        .stateful()
        .host(Host::new(&[HOST]))
        .same_listener("cached", CACHED)
        .start();
    let victim = gateway.root.issue(&Leaf::client("victim"));
    let target = json!({ "fingerprint": ringward_testkit::sha256_hex(victim.leaf()) });
    let storm = Storm::start(addresses(&gateway), &gateway.client().identity(&victim), &gateway.client());
    storm.rage(TIMES, |trusted| {
        let request = match trusted {
            false => json!({ "revoke": { "target": target, "reason": "storm" } }),
            true => json!({ "revoke_remove": { "target": target } }),
        };
        gateway.tell(&request);
    });
    storm.check(&gateway, TIMES);
}

#[test]
fn revocation_list() {
    const TIMES: usize = 25;
    let builder = Gateway::builder().workers(2).stateful().trust_key("crl = [\"crl/\"]");
    publish(builder.pki(), "root", builder.root(), &Crl::new().number(1));
    let gateway = builder.host(Host::new(&[HOST])).same_listener("cached", CACHED).start();
    let victim = gateway.root.issue(&Leaf::client("victim"));
    let storm = Storm::start(addresses(&gateway), &gateway.client().identity(&victim), &gateway.client());
    let mut number = 1;
    storm.rage(TIMES, |trusted| {
        number += 1;
        let crl = Crl::new().number(number);
        let crl = if trusted { crl } else { crl.revoke(victim.serial()) };
        gateway.change(|gateway| drop(publish(&gateway.pki, "root", &gateway.root, &crl)));
    });
    storm.check(&gateway, TIMES);
}

#[test]
fn authorities() {
    const TIMES: usize = 25;
    let builder = Gateway::builder().workers(2);
    let (root, leaving) = (builder.root().clone(), Authority::root("Leaving Root"));
    let host = Host::new(&[HOST]).client_auth("mode = \"required\", trust = \"both\"");
    let gateway =
        builder.trust("both", &[&root, &leaving]).host(host).same_listener("cached", CACHED).start();
    let victim = gateway.client().identity(&leaving.issue(&Leaf::client("victim")));
    let storm = Storm::start(addresses(&gateway), &victim, &gateway.client());
    storm.rage(TIMES, |trusted| {
        let authorities: &[&Authority] = if trusted { &[&root, &leaving] } else { &[&root] };
        gateway.change(|gateway| drop(gateway.pki.write_authorities("trust/both.pem", authorities)));
    });
    storm.check(&gateway, TIMES);
}
