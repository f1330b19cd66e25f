//! Start and end of a process.
#![allow(clippy::unwrap_used, reason = "a failed expectation is a failed test")]

mod common;

use std::net::TcpStream;

use ringward_testkit::{DEADLINE, Gate, Process, Script, Signal, eventually};

use self::common::{World, ringward};

#[test]
fn draining_finishes_what_is_under_way_and_takes_nothing_new() {
    let world = World::new();
    let gate = Gate::new();
    world.upstream.on("/open", Script::new().wait(&gate).respond(200, &[], "done"));
    let mut running = world.start();
    let mut connection = world.client().connect(running.edge).unwrap();
    let request = connection.head("GET", "/open", &[]);
    connection.send(&request).unwrap();
    gate.wait_for_arrivals(1, DEADLINE);

    running.process.signal(Signal::TERM);
    running.wait_for_message("draining");
    eventually(DEADLINE, "the listener is closed", || TcpStream::connect(running.edge).is_err());
    assert!(running.process.is_running());
    gate.open();
    let response = connection.response().unwrap();
    assert_eq!((response.status, response.text()), (200, "done"));
    assert_eq!(response.headers.get("connection"), Some("close"));
    assert_eq!(running.process.wait(DEADLINE).code(), Some(0), "{}", running.process.stderr());
}

#[test]
fn idle_connections_do_not_hold_up_the_end() {
    let world = World::new();
    let mut running = world.start();
    let mut connection = world.client().connect(running.edge).unwrap();
    assert_eq!(connection.get("/open").unwrap().status, 200);
    running.process.signal(Signal::INT);
    assert_eq!(running.process.wait(DEADLINE).code(), Some(0));
    assert!(!running.process.stderr().contains("connections are cut"), "{}", running.process.stderr());
}

#[test]
fn the_drain_timeout_cuts_what_does_not_end() {
    let world = World::new();
    world.edit_config("drain_timeout = \"10s\"", "drain_timeout = \"100ms\"");
    let gate = Gate::new();
    world.upstream.on("/open", Script::new().wait(&gate));
    let mut running = world.start();
    let mut connection = world.client().connect(running.edge).unwrap();
    let request = connection.head("GET", "/open", &[]);
    connection.send(&request).unwrap();
    gate.wait_for_arrivals(1, DEADLINE);
    running.process.signal(Signal::TERM);
    running.wait_for_message("connections are cut: they did not end within the drain timeout");
    assert_eq!(running.process.wait(DEADLINE).code(), Some(0));
}

#[test]
fn a_second_signal_stops_at_once() {
    let world = World::new();
    let gate = Gate::new();
    world.upstream.on("/open", Script::new().wait(&gate));
    world.edit_config("drain_timeout = \"10s\"", "drain_timeout = \"1h\"");
    let mut running = world.start();
    let mut connection = world.client().connect(running.edge).unwrap();
    let request = connection.head("GET", "/open", &[]);
    connection.send(&request).unwrap();
    gate.wait_for_arrivals(1, DEADLINE);
    running.process.signal(Signal::TERM);
    running.wait_for_message("draining");
    running.process.signal(Signal::TERM);
    assert_eq!(running.process.wait(DEADLINE).code(), Some(0));
}

#[test]
fn a_port_in_use_is_named_with_the_line_that_wants_it() {
    let world = World::new();
    let running = world.start();
    world.edit_config("bind = [\"127.0.0.1:0\"]", &format!("bind = [\"{}\"]", running.edge));
    let mut second = Process::start(ringward().arg("run").arg("-c").arg(world.path("ringward.toml")));
    assert_eq!(second.wait(DEADLINE).code(), Some(2));
    let complaint = second.stderr();
    assert!(complaint.contains("ringward.toml:22:9: error: cannot listen on"), "{complaint}");
    assert!(complaint.contains("another process has this port"), "{complaint}");
}

#[test]
fn the_access_log_is_complete_when_the_process_has_ended() {
    let world = World::new();
    let mut running = world.start();
    let mut connection = world.client().connect(running.edge).unwrap();
    for _ in 0..100 {
        assert_eq!(connection.get("/open").unwrap().status, 200);
    }
    running.process.signal(Signal::TERM);
    running.process.wait(DEADLINE);
    let log = std::fs::read_to_string(world.path("access.json")).unwrap();
    assert_eq!(log.lines().count(), 100);
}
