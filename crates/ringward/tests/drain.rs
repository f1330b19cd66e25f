//! Many idle connections that lose their trust at once: they end at the pace that is set, and none of them is served meanwhile.
#![allow(clippy::unwrap_used, reason = "a failed expectation here is a failed test")]

mod support;

use std::time::{Duration, Instant};

use ringward_testkit::{Authority, Closing, Connection, Leaf};

use self::support::{Gateway, HOST, Host, on_both_drivers};

on_both_drivers!(idle_connections_end_at_the_pace_that_is_set);

fn idle_connections_end_at_the_pace_that_is_set(driver: &str) {
    const CONNECTIONS: usize = 120;
    let leaving = Authority::root("Leaving Root");
    let builder = Gateway::builder().io(driver).workers(2).server("trust_drain_rate = 40");
    let root = builder.root().clone();
    let host = Host::new(&[HOST]).client_auth("mode = \"required\", trust = \"both\"");
    let gateway = builder.trust("both", &[&root, &leaving]).host(host).start();
    let departing = gateway.client().identity(&leaving.issue(&Leaf::client("departing")));
    let open = |client: &ringward_testkit::Client| -> Vec<Connection> {
        let connect = |_| {
            let mut connection = client.connect(gateway.edge).unwrap();
            assert_eq!(connection.get("/before").unwrap().status, 200);
            connection
        };
        (0..CONNECTIONS).map(connect).collect()
    };
    let (mut waiting, mut kept) = (open(&departing), open(&gateway.client()));
    let began = Instant::now();
    gateway.change(|gateway| drop(gateway.pki.write_authorities("trust/both.pem", &[&gateway.root])));
    // Those that have not had their turn are refused when they ask.
    for mut connection in waiting.drain(..10) {
        assert!(connection.get("/after").is_err());
    }
    let mut endings = waiting.iter_mut().map(|connection| connection.wait_closed());
    assert!(endings.all(|(rest, closing)| rest.is_empty() && closing == Closing::Notified));
    let took = began.elapsed();
    // 110 at 40 per second, of which a tenth of a second's worth at once.
    assert!(took >= Duration::from_secs(2), "the pace was not kept: {took:?}");
    assert!(!gateway.has_reached("/after"));
    for connection in &mut kept {
        assert_eq!(connection.get("/kept").unwrap().status, 200);
    }
    gateway.wait_for_metric("ringward_trust_enforcement_seconds_count", &[], CONNECTIONS as f64);
}
