//! `memory_max`: what is refused when memory runs short, before the kernel ends the process.
#![allow(clippy::unwrap_used, reason = "a failed expectation here is a failed test")]

mod support;

use ringward_testkit::{Connection, DEADLINE, eventually};

use self::support::{Gateway, on_both_drivers};

on_both_drivers!(the_ceiling_refuses_connections_and_then_requests);

const PRESSURE: &str = "ringward_memory_pressure";

/// Sets the ceiling so that what the process takes is this part of it, and waits for the level that follows.
fn press(gateway: &Gateway, keys: &mut String, percent: u64, level: f64) {
    // A reload takes some memory itself, so it may need another try.
    eventually(3 * DEADLINE, &format!("{percent} % is level {level}"), || {
        let max = gateway.process.resident_bytes() * 100 / percent;
        let wanted = format!("memory_max = \"{max}B\"\n");
        gateway.reconfigure(keys, &wanted);
        *keys = wanted;
        // Longer than from one sample to the next.
        (0..200).any(|_| gateway.metric(PRESSURE, &[]) == level)
    });
}

/// Whether a new connection is served.
fn is_served(gateway: &Gateway) -> bool {
    gateway.client().connect(gateway.edge).and_then(|mut connection| connection.get("/")).is_ok()
}

fn get(connection: &mut Connection) -> (u16, Option<String>) {
    let response = connection.get("/").unwrap();
    (response.status, response.headers.get("connection").map(str::to_owned))
}

/// Rule: near the ceiling no connection is accepted and those that are open end after their request; at it requests get 503.
fn the_ceiling_refuses_connections_and_then_requests(driver: &str) {
    let mut keys = "memory_max = \"64GiB\"\n".to_owned();
    let gateway = Gateway::builder().io(driver).server(keys.trim_end()).start();
    let mut connections: Vec<Connection> = (0..3).map(|_| gateway.connect()).collect();
    connections.iter_mut().for_each(|connection| assert_eq!(get(connection), (200, None)));

    press(&gateway, &mut keys, 90, 1.0);
    assert!(!is_served(&gateway));
    gateway.wait_for_metric("ringward_connections_closed_total", &[("reason", "memory")], 1.0);
    assert_eq!(get(&mut connections[0]), (200, Some("close".to_owned())));

    press(&gateway, &mut keys, 50, 0.0);
    assert!(is_served(&gateway));
    assert_eq!(get(&mut connections[1]), (200, None));

    press(&gateway, &mut keys, 110, 2.0);
    assert!(!is_served(&gateway));
    let response = connections[1].get("/").unwrap();
    assert_eq!((response.status, response.headers.get("retry-after")), (503, Some("1")));
    gateway.wait_for_record("flag", "memory_ceiling");

    press(&gateway, &mut keys, 50, 0.0);
    assert_eq!(get(&mut connections[2]), (200, None));
    eventually(DEADLINE, "the log says so", || gateway.messages("there is enough memory again").len() >= 2);
}
