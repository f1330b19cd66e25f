//! What depends on where clients come from, with clients that come from elsewhere: networks of their own, behind links.
//!
//! Needs root. Others are told that nothing was tested.
#![allow(clippy::unwrap_used, reason = "a failed expectation here is a failed test")]

#[path = "../support/mod.rs"]
mod support;

mod network;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::thread;

use ringward_testkit::{Client, Connection, DEADLINE, Echo, Headers, Upstream, eventually};

use self::network::{CLIENTS, Networks, client_v4, gateway_v4, ways};
use self::support::{Builder, Gateway, HOST, Host, on_both_drivers};

on_both_drivers!(
    the_proxy_protocol_counts_from_listed_networks,
    a_network_whose_handshakes_fail_is_refused_and_others_are_not,
    a_network_that_floods_leaves_others_their_handshakes,
);

const CLAIMS: &str = "ringward_client_address_claims_total";
const FAILED: &str = "ringward_handshakes_finished_total";

/// A gateway that can be reached from everywhere.
fn builder(listener: &str) -> Builder {
    Gateway::builder().bind(&["0.0.0.0:0", "[::]:0"]).listener(listener)
}

fn edges(gateway: &Gateway) -> [SocketAddr; 2] {
    [gateway.listeners[0].1, gateway.listeners[1].1]
}

/// Where clients of a network find the gateway.
fn edge(gateway: &Gateway, network: u8) -> SocketAddr {
    (gateway_v4(network), gateway.edge.port()).into()
}

#[track_caller]
fn headers(connection: &mut Connection, path: &str, fields: &[(&str, &str)]) -> Headers {
    let response = connection.request("GET", path, fields, b"").unwrap();
    assert_eq!(response.status, 200, "{}", response.text());
    Echo::of(&response).headers
}

fn is_served(client: &Client, from: IpAddr, at: SocketAddr) -> bool {
    client.clone().from(from).connect(at).and_then(|mut connection| connection.get("/")).is_ok()
}

/// A load balancer for one connection, where this thread is: begins with `header` and passes everything on. Where it listens.
fn announcing(header: Vec<u8>, gateway: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        let (mut client, _) = listener.accept().unwrap();
        let mut server = TcpStream::connect(gateway).unwrap();
        server.write_all(&header).unwrap();
        let (mut from, mut to) = (server.try_clone().unwrap(), client.try_clone().unwrap());
        thread::spawn(move || {
            let _ = std::io::copy(&mut from, &mut to);
            let _ = to.shutdown(std::net::Shutdown::Both);
        });
        let _ = std::io::copy(&mut client, &mut server);
    });
    address
}

/// Rule: whose connection it is says a load balancer of a listed network, and nobody else.
fn the_proxy_protocol_counts_from_listed_networks(driver: &str) {
    let Some(networks) = Networks::new(2) else { return };
    let gateway =
        builder("proxy_protocol = { from = \"10.99.1.0/24\", others = \"direct\" }").io(driver).start();
    let client = gateway.client();
    let v1 = b"PROXY TCP4 192.0.2.7 198.51.100.1 40001 443\r\n".to_vec();
    let v2 =
        [&b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c"[..], &[192, 0, 2, 7, 198, 51, 100, 1, 0x9c, 0x41, 1, 0xbb]]
            .concat();
    let through = |network, header: &[u8]| {
        let at = edge(&gateway, network);
        networks.within(network, || {
            let mut connection = client.connect(announcing(header.to_vec(), at))?;
            connection.get("/through").map(|response| Echo::of(&response).headers)
        })
    };
    for (count, header) in [&v1, &v2].into_iter().enumerate() {
        let headers = through(1, header).unwrap();
        assert_eq!(headers.get("x-forwarded-for"), Some("192.0.2.7"));
        assert!(through(2, header).is_err(), "not from there");
        gateway.wait_for_failed_handshakes("malformed", count + 1);
    }
    let record = gateway.wait_for_record("path", "/through");
    assert!(record["downstream.addr"].as_str().unwrap().starts_with("192.0.2.7:"), "{record}");
    assert!(record["proxy.addr"].as_str().unwrap().starts_with("10.99.1."), "{record}");
    // Without a header a load balancer would pass for the client; anybody else is itself.
    assert!(through(1, b"").is_err());
    gateway.wait_for_failed_handshakes("proxy_header", 1);
    let headers = through(2, b"").unwrap();
    assert!(headers.get("x-forwarded-for").unwrap().starts_with("10.99.2."), "{headers:?}");
}

/// Rule: whose request it is says a proxy of a trusted network, and nobody else.
#[test]
fn the_clients_address_is_taken_from_trusted_networks() {
    let Some(networks) = Networks::new(2) else { return };
    let gateway = builder("client_address = { from = [\"10.99.1.0/24\", \"fd00:99:0:1::/64\"] }").start();
    for (network, taken) in [(1, true), (2, false)] {
        for (own, at) in ways(network, 5, edges(&gateway)) {
            let client = gateway.client().from(own);
            let headers = networks.within(network, || {
                headers(&mut client.connect(at).unwrap(), "/echo", &[("x-forwarded-for", "192.0.2.7")])
            });
            let own = own.to_string();
            let expected = if taken { "192.0.2.7" } else { &own };
            assert_eq!(headers.get("x-forwarded-for"), Some(expected), "{own}");
        }
    }
    gateway.wait_for_metric(CLAIMS, &[("outcome", "taken")], 2.0);
    gateway.wait_for_metric(CLAIMS, &[("outcome", "untrusted")], 2.0);
}

/// Rule: an address has its endpoint and its side of a split, whatever its connection; different addresses have different ones.
#[test]
fn a_source_keeps_its_endpoint_and_its_side_of_a_split() {
    let Some(networks) = Networks::new(2) else { return };
    let upstreams = [Upstream::start(), Upstream::start(), Upstream::start()];
    let endpoints = upstreams.each_ref().map(|upstream| upstream.address().to_string());
    let sections = format!(
        "[cluster.many]\nendpoints = {endpoints:?}\nbalance = {{ maglev = \"source_address\" }}\n\
         [cluster.left]\nendpoints = [{:?}]\n[cluster.right]\nendpoints = [{:?}]\n",
        endpoints[0], endpoints[1]
    );
    let host = Host::new(&[HOST])
        .route("path = \"/balanced\"", "cluster = \"many\"")
        .route("path = \"/split\"", "split = { weights = { left = 1, right = 1 }, by = \"source_address\" }");
    // Workers agree.
    let gateway = builder("").workers(2).section(&sections).host(host).start();
    for path in ["/balanced", "/split"] {
        let mut homes = BTreeMap::<IpAddr, BTreeSet<usize>>::new();
        for _ in 0..3 {
            for (network, host) in
                [1, 2].into_iter().flat_map(|network| CLIENTS.map(move |host| (network, host)))
            {
                for (own, at) in ways(network, host, edges(&gateway)) {
                    let client = gateway.client().from(own);
                    let counts = || upstreams.each_ref().map(|upstream| upstream.requests().len());
                    let before = counts();
                    networks.within(network, || headers(&mut client.connect(at).unwrap(), path, &[]));
                    let home = counts().iter().zip(before).position(|(now, then)| *now > then).unwrap();
                    homes.entry(own).or_default().insert(home);
                }
            }
        }
        assert!(homes.values().all(|home| home.len() == 1), "{path}: {homes:?}");
        // That 32 addresses have the same is less likely than 1 in 2^31.
        assert!(homes.values().flatten().collect::<BTreeSet<_>>().len() > 1, "{path}: {homes:?}");
    }
}

/// Rule: a network whose handshakes fail too often is refused, from all its addresses. Others are served.
fn a_network_whose_handshakes_fail_is_refused_and_others_are_not(driver: &str) {
    let Some(networks) = Networks::new(2) else { return };
    let rules = "handshakes = { per_source = { failures_per_minute = 3, refuse_for = \"1h\", \
                 prefix_v4 = 24, prefix_v6 = 64 } }";
    let gateway = builder(rules).io(driver).start();
    let (client, stranger) = (gateway.client(), gateway.anonymous());
    for family in [0, 1] {
        let way = |network, host| ways(network, host, edges(&gateway))[family];
        // From several addresses, none of which fails too often by itself.
        for host in [2, 3, 4, 5] {
            let (own, at) = way(1, host);
            assert!(!networks.within(1, || is_served(&stranger, own, at)));
        }
        gateway.wait_for_metric("ringward_sources_refused_total", &[], (family + 1) as f64);
        let (own, at) = way(1, 8);
        assert!(!networks.within(1, || is_served(&client, own, at)), "{own} is of that network");
        for host in [2, 8] {
            let (own, at) = way(2, host);
            assert!(networks.within(2, || is_served(&client, own, at)), "{own} is not");
        }
        gateway.wait_for_metric(
            "ringward_connections_closed_total",
            &[("reason", "source_refused")],
            (family + 1) as f64,
        );
    }
}

/// Rule: a network has its rate of full handshakes, all its addresses together. Others have theirs, whatever it does.
fn a_network_that_floods_leaves_others_their_handshakes(driver: &str) {
    let Some(networks) = Networks::new(2) else { return };
    let rules = "handshakes = { per_source = { full_per_second = 10, prefix_v4 = 24, prefix_v6 = 64 } }";
    let gateway = builder(rules).io(driver).start();
    let client = gateway.client();
    let at = edge(&gateway, 1);
    let refused = |reason| gateway.metric(FAILED, &[("reason", reason)]);
    networks.within(1, || {
        thread::scope(|scope| {
            let floods = CLIENTS.map(|host| {
                let client = &client;
                scope.spawn(move || {
                    // Until it is refused; as fast as it can.
                    while is_served(client, client_v4(1, host).into(), at) {}
                })
            });
            floods.collect::<Vec<_>>().into_iter().for_each(|flood| flood.join().unwrap());
        });
    });
    eventually(DEADLINE, "some were too many", || refused("source_rate") > 0.0);
    let before = refused("source_rate");
    for host in [2, 3, 4, 5] {
        let at = edge(&gateway, 2);
        assert!(networks.within(2, || is_served(&client, client_v4(2, host).into(), at)), "{host}");
    }
    assert_eq!(refused("source_rate"), before, "nobody of the other network");
}
