//! Endpoints that a file names: they come and go while the configuration stays.
#![allow(clippy::unwrap_used, reason = "a failed expectation here is a failed test")]

mod support;

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStdout, Stdio};

use ringward_testkit::{
    Connection, DEADLINE, Gate, Http2Script, Http2Upstream, Script, Upstream, eventually,
};

use self::support::{Builder, Gateway, HOST, Host, on_both_drivers, program};

on_both_drivers!(endpoints_come_and_go_without_a_reload,);

const ATTEMPTS: &str = "ringward_upstream_discoveries_finished_total";
const HTTP: &str = "health_check = { http = \"/healthz\", interval = \"100ms\", timeout = \"20s\" }";

fn endpoints_come_and_go_without_a_reload(driver: &str) {
    let upstreams = start::<3>();
    let [old, kept, new] = upstreams.each_ref().map(Upstream::address);
    let gate = Gate::new();
    upstreams[0].on("/slow", Script::new().wait(&gate).respond(200, &[], "slow"));
    let gateway = builder(&[old], "").io(driver).start();
    let mut waiting = gateway.connect();
    waiting.send(&waiting.head("GET", "/slow", &[])).unwrap();
    let mut connection = gateway.connect();
    assert_eq!(spread(&mut connection, &upstreams, 4), [4, 0, 0]);
    let generation = gateway.generation();
    rewrite(&gateway, &[old, kept]);
    wait_for_endpoints(&gateway, 2);
    assert_eq!(spread(&mut connection, &upstreams, 4), [2, 2, 0]);
    rewrite(&gateway, &[kept, new]);
    wait_for_message(&gateway, "the endpoints of a cluster have changed", 2);
    assert_eq!(spread(&mut connection, &upstreams, 4), [0, 2, 2]);
    // What nobody uses is closed; what runs ends as it wants, and is not kept.
    eventually(DEADLINE, "the kept connection is closed", || upstreams[0].connections_open() == 1);
    gate.open();
    assert_eq!(waiting.response().unwrap().text(), "slow");
    eventually(DEADLINE, "the last connection is closed", || upstreams[0].connections_open() == 0);
    assert_eq!(spread(&mut waiting, &upstreams, 4), [0, 2, 2], "its client goes on");
    assert_eq!(gateway.generation(), generation);
    assert_eq!(gateway.metric(ATTEMPTS, &[("cluster", "others"), ("outcome", "updated")]), 2.0);
    let lines = gateway.messages("the endpoints of a cluster have changed");
    let change = |index: usize| (&lines[index]["added"], &lines[index]["removed"]);
    assert_eq!((change(0), change(1)), ((&1.into(), &0.into()), (&1.into(), &1.into())), "{lines:?}");
}

#[test]
fn streams_on_an_endpoint_that_goes_end_as_they_want() {
    let upstreams = [Http2Upstream::start(), Http2Upstream::start()];
    let gate = Gate::new();
    upstreams[0].on("/slow", Http2Script::new().wait(&gate).respond(200, &[], "slow"));
    let gateway = builder(&[upstreams[0].address()], "protocol = \"http2\"").start();
    let mut waiting = gateway.connect();
    waiting.send(&waiting.head("GET", "/slow", &[])).unwrap();
    eventually(DEADLINE, "the request arrived", || upstreams[0].requests().len() == 1);
    rewrite(&gateway, &[upstreams[1].address()]);
    wait_for_message(&gateway, "the endpoints of a cluster have changed", 1);
    let mut connection = gateway.connect();
    for _ in 0..4 {
        assert_eq!(connection.get("/x").unwrap().status, 200);
    }
    assert_eq!((upstreams[0].requests().len(), upstreams[1].requests().len()), (1, 4));
    gate.open();
    assert_eq!(waiting.response().unwrap().text(), "slow");
    eventually(DEADLINE, "the connection is closed", || upstreams[0].connections_open() == 0);
}

/// An exchange that began before a reload has what was there then, and so the pool of the endpoint.
#[test]
fn kept_connections_are_closed_while_somebody_remembers_them() {
    let upstreams = start::<2>();
    let [gone, stays] = upstreams.each_ref().map(Upstream::address);
    let gate = Gate::new();
    upstreams[1].on("/slow", Script::new().wait(&gate).respond(200, &[], "slow"));
    let gateway = builder(&[stays], "").start();
    let mut waiting = gateway.connect();
    waiting.send(&waiting.head("GET", "/slow", &[])).unwrap();
    eventually(DEADLINE, "the slow request arrived", || upstreams[1].requests().len() == 1);
    rewrite(&gateway, &[stays, gone]);
    wait_for_endpoints(&gateway, 2);
    let mut connection = gateway.connect();
    spread(&mut connection, &upstreams, 2);
    gateway.reconfigure("pool_idle_max = 7", "pool_idle_max = 8");
    spread(&mut connection, &upstreams, 2);
    rewrite(&gateway, &[stays]);
    wait_for_message(&gateway, "the endpoints of a cluster have changed", 2);
    eventually(DEADLINE, "what nobody uses is closed", || upstreams[0].connections_open() == 0);
    gate.open();
    assert_eq!(waiting.response().unwrap().text(), "slow");
}

/// The connection of the request belongs to the endpoint of before, which is counted on its own.
#[test]
fn an_endpoint_that_comes_back_begins_anew() {
    let upstreams = start::<2>();
    let [one, other] = upstreams.each_ref().map(Upstream::address);
    let gate = Gate::new();
    upstreams[0].on("/slow", Script::new().wait(&gate).respond(200, &[], "slow"));
    let gateway = builder(&[one], "balance = \"least_request\"").start();
    let mut waiting = gateway.connect();
    waiting.send(&waiting.head("GET", "/slow", &[])).unwrap();
    eventually(DEADLINE, "the slow request arrived", || upstreams[0].requests().len() == 1);
    let mut connection = gateway.connect();
    for (count, addresses) in [(1, &[other][..]), (2, &[one, other])] {
        rewrite(&gateway, addresses);
        wait_for_message(&gateway, "the endpoints of a cluster have changed", count);
        // So that the worker knows.
        spread(&mut connection, &upstreams, 1);
    }
    gate.open();
    assert_eq!(waiting.response().unwrap().text(), "slow");
    let served = spread(&mut connection, &upstreams, 60);
    assert!(served.iter().all(|count| *count > 0), "{served:?}");
    assert_eq!(gateway.metric("ringward_worker_panics_total", &[]), 0.0);
}

#[test]
fn a_file_that_is_bad_or_gone_changes_nothing() {
    let upstreams = start::<2>();
    let [one, other] = upstreams.each_ref().map(Upstream::address);
    let gateway = builder(&[one], "").start();
    let mut connection = gateway.connect();
    let path = gateway.pki.path().join("others.toml");
    let bad = format!("endpoints = [\n  \"{other}\",\n  {{ address = \"{one}\", weight = 0 }},\n]\n");
    gateway.pki.write("others.toml", bad);
    gateway.wait_for_metric(ATTEMPTS, &[("outcome", "refused")], 1.0);
    let lines = wait_for_message(&gateway, "new endpoints refused, the last good ones stay", 1);
    let said = lines[0]["problems"].as_str().unwrap();
    assert!(said.contains("others.toml:3:"), "{said}");
    assert!(said.contains("`weight` is 0: from 1 to 256 is allowed"), "{said}");
    assert_eq!((&lines[0]["cluster"], &lines[0]["level"]), (&"others".into(), &"ERROR".into()));
    assert_eq!(spread(&mut connection, &upstreams, 4), [4, 0], "not even the good one of them is used");
    std::fs::remove_file(&path).unwrap();
    gateway.wait_for_metric(ATTEMPTS, &[("outcome", "unreachable")], 1.0);
    wait_for_message(&gateway, "no endpoints can be read, the last good ones stay", 1);
    gateway.pki.write("others.toml", "endpoints = []");
    gateway.wait_for_metric(ATTEMPTS, &[("outcome", "refused")], 2.0);
    assert_eq!(spread(&mut connection, &upstreams, 4), [4, 0]);
    assert!(gateway.metric("ringward_upstream_discovery_age_seconds", &[("cluster", "others")]) > 0.0);
    rewrite(&gateway, &[other]);
    wait_for_message(&gateway, "endpoints can be read again", 1);
    wait_for_message(&gateway, "the endpoints of a cluster have changed", 1);
    assert_eq!(spread(&mut connection, &upstreams, 4), [0, 4]);
    // A configuration that is new in force does not read the file again, and what was bad in it is no obstacle.
    gateway.pki.write("others.toml", "endpoints = [");
    gateway.wait_for_metric(ATTEMPTS, &[("outcome", "refused")], 3.0);
    gateway.reconfigure("pool_idle_max = 7", "pool_idle_max = 8");
    assert_eq!(spread(&mut connection, &upstreams, 4), [0, 4]);
    // A file that nobody has read has nothing to stay with.
    let line = gateway.refused_change(|gateway| gateway.edit_config("others.toml", "nowhere.toml"));
    assert!(line["problems"].as_str().unwrap().contains("nowhere.toml` cannot be read"), "{line}");
    assert_eq!(spread(&mut connection, &upstreams, 4), [0, 4]);
}

/// A lease of another process on a file has who opens it wait, as a mount does that has stopped answering.
#[test]
fn a_file_that_hangs_delays_nobody_else() {
    let upstreams = start::<3>();
    let [one, two, three] = upstreams.each_ref().map(Upstream::address);
    let host = |name, cluster| Host::new(&[name]).route("path = \"/{rest...}\"", cluster);
    let gateway = builder(&[one], "")
        .section("[cluster.stuck]\nendpoints_file = \"stuck.toml\"")
        .host(host("stuck.example.com", "cluster = \"stuck\""));
    gateway.pki().write("stuck.toml", listed(&[one]));
    let gateway = gateway.start();
    let mut lease = Lease::take(&gateway.pki.path().join("stuck.toml"));
    let mut connection = gateway.connect();
    for (count, endpoints) in [(1, &[one, two][..]), (2, &[two]), (3, &[two, three])] {
        rewrite(&gateway, endpoints);
        wait_for_message(&gateway, "the endpoints of a cluster have changed", count);
        // The admin listener answers for this one.
        wait_for_endpoints(&gateway, endpoints.len());
    }
    let generation = gateway.generation();
    gateway.reconfigure("pool_idle_max = 7", "pool_idle_max = 8");
    assert!(gateway.generation() > generation);
    rewrite(&gateway, &[three]);
    wait_for_message(&gateway, "the endpoints of a cluster have changed", 4);
    assert_eq!(spread(&mut connection, &upstreams, 4), [0, 0, 4]);
    assert!(lease.is_wanted(), "the file is waited for");
    drop(lease);
    gateway.pki.write("stuck.toml", listed(&[two, three]));
    wait_for_message(&gateway, "the endpoints of a cluster have changed", 5);
}

#[test]
fn nothing_starts_with_a_bad_file() {
    let missing = unwritten("endpoints_file = \"nowhere.toml\"");
    let said = missing.refusal();
    assert!(said.contains("nowhere.toml` cannot be read"), "{said}");
    assert!(said.contains("ringward.toml:"), "it is said who names it: {said}");
    let bad = builder(&[], "");
    bad.pki().write("others.toml", "endpoints = [\"10.0.0.1:0\"]");
    let (said, good) = bad.command("check", &[]);
    assert!(!good && said.contains("others.toml:1:14: error: the endpoint 10.0.0.1:0 has port 0"), "{said}");
    let said = builder(&["10.0.0.7:80".parse().unwrap()], "").check();
    assert!(said.contains("cluster others: http1 to 10.0.0.7:80 (in "), "{said}");
}

#[test]
fn no_endpoints_have_to_be_allowed_for() {
    let upstreams = start::<1>();
    let keys = "endpoints_file = { path = \"others.toml\", allow_empty = true }";
    let none = unwritten(keys);
    none.pki().write("others.toml", "endpoints = []");
    let gateway = none.start();
    let mut connection = gateway.connect();
    let response = connection.get("/x").unwrap();
    assert_eq!((response.status, response.keeps_alive()), (503, true));
    let record = gateway.wait_for_record("flag", "no_endpoints");
    assert_eq!(record["cluster"], "others", "{record}");
    rewrite(&gateway, &[upstreams[0].address()]);
    wait_for_endpoints(&gateway, 1);
    assert_eq!(spread(&mut connection, &upstreams, 2), [2]);
    gateway.pki.write("others.toml", "endpoints = []");
    wait_for_message(&gateway, "no endpoints are left: requests are answered with 503", 1);
    assert_eq!(connection.get("/x").unwrap().status, 503);
    let labels = [("cluster", "others"), ("reason", "no_endpoints")];
    assert_eq!(gateway.metric("ringward_upstream_errors_total", &labels), 2.0);
    eventually(DEADLINE, "nothing is kept", || upstreams[0].connections_open() == 0);
}

#[test]
fn checks_begin_and_end_with_endpoints() {
    let upstreams = start::<3>();
    let [gone, kept, new] = upstreams.each_ref().map(Upstream::address);
    let gate = Gate::new();
    upstreams[2].on("/healthz", Script::new().read_body().wait(&gate).respond(200, &[], ""));
    let gateway = builder(&[gone, kept], HTTP).start();
    let healthy = |count: f64| {
        gateway.wait_for_metric("ringward_upstream_endpoints", &[("health", "healthy")], count);
    };
    healthy(2.0);
    rewrite(&gateway, &[kept, new]);
    let checks = |index: usize| {
        upstreams[index].requests().iter().filter(|request| request.target == "/healthz").count()
    };
    eventually(DEADLINE, "the new endpoint is checked", || checks(2) == 1);
    let mut connection = gateway.connect();
    assert_eq!(spread(&mut connection, &upstreams, 4), [0, 4, 0], "it waits for its first check");
    let (ended, others) = (checks(0), checks(1));
    eventually(DEADLINE, "the others are checked further", || checks(1) > others + 3);
    assert_eq!(checks(0), ended, "who is gone is not checked");
    gate.open();
    healthy(2.0);
    assert_eq!(spread(&mut connection, &upstreams, 4), [0, 2, 2]);
}

#[test]
fn endpoints_that_come_start_slowly_where_nobody_checks_them() {
    let upstreams = start::<2>();
    let [old, new] = upstreams.each_ref().map(Upstream::address);
    let gateway = builder(&[old], "slow_start = \"30s\"").start();
    let share = |expected: f64| {
        let labels = [("endpoint", &*new.to_string())];
        eventually(DEADLINE, "its share", || {
            (gateway.metric("ringward_upstream_endpoint_share", &labels) - expected).abs() < 1e-9
        });
    };
    rewrite(&gateway, &[old, new]);
    share(1.0 / 11.0);
    share(2.0 / 12.0);
    // All are new.
    rewrite(&gateway, &[new]);
    share(1.0);
}

/// A lease on a file. Whoever opens it waits until this is dropped (fcntl(2)), for 45 seconds at most.
struct Lease {
    process: Child,
    lines: BufReader<ChildStdout>,
}

impl Lease {
    fn take(path: &Path) -> Lease {
        let mut python = program("python3", "python3");
        python.args(["-c", LEASE]).arg(path).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = python.spawn().unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap());
        let mut lease = Lease { process, lines };
        assert_eq!(lease.line(), "taken");
        lease
    }

    /// Whether somebody waits.
    fn is_wanted(&mut self) -> bool {
        self.process.stdin.as_mut().unwrap().write_all(b"?\n").unwrap();
        self.line() == "wanted"
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        line.trim().to_owned()
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The kernel says by SIGIO that somebody wants the file, and that would end the process. It takes a lease only while nobody has the
/// file open.
const LEASE: &str = r#"
import fcntl, os, signal, sys, time
signal.signal(signal.SIGIO, signal.SIG_IGN)
file = os.open(sys.argv[1], os.O_RDWR)
for _ in range(1000):
    try:
        fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        break
    except BlockingIOError:
        time.sleep(0.01)
print("taken" if fcntl.fcntl(file, fcntl.F_GETLEASE) == fcntl.F_WRLCK else "not taken", flush=True)
for _ in sys.stdin:
    print("wanted" if fcntl.fcntl(file, fcntl.F_GETLEASE) != fcntl.F_WRLCK else "unwanted", flush=True)
"#;

/// Before the endpoints of `others.toml`, which names these, as the cluster `others` with these keys.
fn builder(endpoints: &[SocketAddr], keys: &str) -> Builder {
    let builder = unwritten(&format!("endpoints_file = \"others.toml\"\npool_idle_max = 7\n{keys}"));
    builder.pki().write("others.toml", listed(endpoints));
    builder
}

/// Before the cluster `others` with these keys.
fn unwritten(keys: &str) -> Builder {
    let host = Host::new(&[HOST]).route("path = \"/{rest...}\"", "cluster = \"others\"");
    Gateway::builder().section(&format!("[cluster.others]\n{keys}")).host(host)
}

fn listed(endpoints: &[SocketAddr]) -> String {
    let endpoints: Vec<String> = endpoints.iter().map(ToString::to_string).collect();
    format!("endpoints = {endpoints:?}\n")
}

fn rewrite(gateway: &Gateway, endpoints: &[SocketAddr]) {
    gateway.pki.write("others.toml", listed(endpoints));
}

fn wait_for_endpoints(gateway: &Gateway, count: usize) {
    eventually(DEADLINE, "there are so many endpoints", || {
        gateway.metric("ringward_upstream_endpoints", &[("cluster", "others")]) == count as f64
    });
}

/// Waits until the message was said so often: the lines.
#[track_caller]
fn wait_for_message(gateway: &Gateway, message: &str, count: usize) -> Vec<serde_json::Value> {
    eventually(DEADLINE, message, || gateway.messages(message).len() >= count);
    gateway.messages(message)
}

fn start<const N: usize>() -> [Upstream; N] {
    std::array::from_fn(|_| Upstream::start())
}

/// Sends requests: how many of them each upstream got.
#[track_caller]
fn spread(connection: &mut Connection, upstreams: &[Upstream], count: usize) -> Vec<usize> {
    let served = || -> Vec<usize> {
        let of =
            |upstream: &Upstream| upstream.requests().iter().filter(|request| request.target == "/x").count();
        upstreams.iter().map(of).collect()
    };
    let before = served();
    for _ in 0..count {
        assert_eq!(connection.get("/x").unwrap().status, 200);
    }
    served().iter().zip(before).map(|(now, then)| now - then).collect()
}
