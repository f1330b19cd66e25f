//! Limits of TLS handshakes: who waits, who goes first, and whose network is refused.
#![allow(clippy::unwrap_used, reason = "a failed expectation here is a failed test")]

mod support;

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, TcpStream};

use ringward_testkit::{Client, ClientError, DEADLINE, Greeting, eventually};

use self::support::{Builder, Gateway, client_hello, connect_tcp, on_both_drivers, read_until_closed};

on_both_drivers!(who_is_known_and_who_resumes_has_a_turn_when_strangers_have_none);

const FAILED: &str = "ringward_handshakes_finished_total";
const CLOSED: &str = "ringward_connections_closed_total";

/// A client's address. All of 127.0.0.0/8 is this machine.
const fn address(last: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(127, 0, 0, last))
}

fn builder(handshakes: &str) -> Builder {
    Gateway::builder().listener(&format!("handshakes = {{ {handshakes} }}"))
}

/// A handshake from this address that has begun, and goes on when it is finished.
fn begun(gateway: &Gateway, from: u8) -> Greeting {
    gateway.client().from(address(from)).greet(gateway.edge).unwrap()
}

#[track_caller]
fn assert_served(gateway: &Gateway, client: &Client) {
    assert_eq!(client.connect(gateway.edge).unwrap().get("/").unwrap().status, 200);
}

/// Rule: of the places for handshakes a quarter is for those who are known or resume.
fn who_is_known_and_who_resumes_has_a_turn_when_strangers_have_none(driver: &str) {
    let gateway = builder("concurrent_max = 4, queue_timeout = \"100ms\"").io(driver).start();
    let known = gateway.client().from(address(3));
    assert_served(&gateway, &known);
    let returning = gateway.client().from(address(4)).resuming();
    assert_served(&gateway, &returning);

    let held: Vec<Greeting> = (10..13).map(|from| begun(&gateway, from)).collect();
    let refused = gateway.client().from(address(20)).connect(gateway.edge);
    assert!(matches!(refused, Err(ClientError::Cut | ClientError::Reset)), "{:?}", refused.err());
    gateway.wait_for_failed_handshakes("handshake_overload", 1);
    gateway.wait_for_metric("ringward_handshakes_queued_total", &[], 1.0);
    assert_served(&gateway, &known);
    assert_served(&gateway, &returning);

    // Who waits has a turn when another has had it.
    let edge = gateway.edge;
    let patient = gateway.client().from(address(21));
    let patient = std::thread::spawn(move || {
        loop {
            match patient.connect(edge) {
                Ok(connection) => return connection,
                Err(ClientError::Cut | ClientError::Reset) => {}
                Err(error) => panic!("{error}"),
            }
        }
    });
    for greeting in held {
        assert_eq!(greeting.finish().unwrap().get("/").unwrap().status, 200);
    }
    assert_eq!(patient.join().unwrap().get("/").unwrap().status, 200);
}

/// Rule: a network has so many full handshakes per second; other networks and who resumes do not suffer from it.
#[test]
fn a_network_has_its_rate_of_full_handshakes() {
    let gateway = builder("per_source = { full_per_second = 1, prefix_v4 = 32 }").start();
    let returning = gateway.client().from(address(2)).resuming();
    assert_served(&gateway, &returning);
    eventually(DEADLINE, "one is too many", || {
        let _ = gateway.client().from(address(2)).connect(gateway.edge);
        gateway.metric(FAILED, &[("reason", "source_rate")]) > 0.0
    });
    for _ in 0..5 {
        assert_served(&gateway, &returning);
    }
    assert_served(&gateway, &gateway.client().from(address(3)));
}

/// Rule: a listener has so many full handshakes per second, and who has to wait for one goes on when its turn comes.
#[test]
fn full_handshakes_beyond_the_rate_wait() {
    let gateway = builder("full_per_second = 2, queue_timeout = \"9s\"").start();
    let mut served = 0;
    eventually(DEADLINE, "some have waited", || {
        assert_served(&gateway, &gateway.client());
        served += 1;
        served > 2 && gateway.metric("ringward_handshakes_queued_total", &[]) > 0.0
    });
    assert_eq!(gateway.metric(FAILED, &[("outcome", "failed")]), 0.0);
}

/// Rule: a network whose handshakes fail too often is refused at accept; others are not, nor is who has proved itself.
#[test]
fn a_network_that_fails_too_often_is_refused() {
    let gateway =
        builder("per_source = { failures_per_minute = 3, refuse_for = \"1h\", prefix_v4 = 29 }").start();
    // 127.0.0.8 to 15 are a network.
    let neighbour = gateway.client().from(address(9));
    assert_served(&gateway, &neighbour);
    let failing = gateway.anonymous().from(address(10));
    for _ in 0..4 {
        assert!(failing.connect(gateway.edge).and_then(|mut connection| connection.get("/")).is_err());
    }
    gateway.wait_for_failed_handshakes("no_certificate", 4);
    gateway.wait_for_metric("ringward_sources_refused_total", &[("listener", "edge")], 1.0);
    for from in [10, 11] {
        assert!(gateway.client().from(address(from)).connect(gateway.edge).is_err(), "{from}");
    }
    gateway.wait_for_metric(CLOSED, &[("reason", "source_refused")], 2.0);
    assert_served(&gateway, &neighbour);
    assert_served(&gateway, &gateway.client().from(address(16)));
    let said = |record: &serde_json::Value| {
        record["detail"].as_str().unwrap_or_default().contains("is refused for 3600s")
    };
    eventually(DEADLINE, "the log says so", || gateway.lines("handshake failed").iter().any(said));
}

/// Rule: where a load balancer says whose connection it is, it is that client's network that counts.
#[test]
fn behind_a_load_balancer_it_is_the_client_who_is_refused() {
    let gateway = builder("per_source = { failures_per_minute = 1, refuse_for = \"1h\" }")
        .listener("proxy_protocol = { from = \"127.0.0.1\" }")
        .start();
    let begin = |client: &str| -> TcpStream {
        let mut stream = connect_tcp(gateway.edge);
        stream.write_all(format!("PROXY TCP4 {client} 198.51.100.1 40001 443\r\n").as_bytes()).unwrap();
        stream
    };
    let fail = |client: &str| {
        let mut stream = begin(client);
        stream.write_all(&client_hello(support::HOST)).unwrap();
        // A message that is none.
        stream.write_all(&[22, 3, 3, 0, 4, 99, 0, 0, 0]).unwrap();
        read_until_closed(&mut stream);
    };
    (0..2).for_each(|_| fail("192.0.2.7"));
    gateway.wait_for_metric("ringward_sources_refused_total", &[], 1.0);
    assert_eq!(read_until_closed(&mut begin("192.0.2.99")), b"");
    gateway.wait_for_failed_handshakes("source_refused", 1);
    // Another client by the same load balancer is answered.
    fail("192.0.3.7");
    gateway.wait_for_failed_handshakes("source_refused", 1);
}
