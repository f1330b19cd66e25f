//! How many requests a listener has in work and who waits for that, and how many connections a network may have.
#![allow(clippy::unwrap_used, reason = "a failed expectation here is a failed test")]

mod support;

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, TcpStream};
use std::thread::{self, JoinHandle};

use ringward_testkit::{
    Client, Closing, Connection, DEADLINE, Gate, Greeting, Http2, Http2Script, Http2Upstream, Script, Signal,
    eventually, kind,
};

use self::support::{
    Builder, Gateway, HOST, Host, PlayedUpstream, client_hello, connect_tcp, on_both_drivers,
    read_until_closed,
};

on_both_drivers!(
    what_is_above_the_limit_waits_in_order_and_what_is_above_that_is_shed,
    streams_wait_and_are_shed_one_by_one,
    who_goes_away_leaves_the_queue,
    who_waits_is_served_in_a_drain_and_recorded_when_it_is_cut,
    a_network_has_so_many_connections,
);

const ACTIVE: &str = "ringward_requests_active";
const WAITING: &str = "ringward_requests_waiting";
const QUEUED: &str = "ringward_requests_queued_total";
const SHED: &str = "ringward_requests_shed_total";
const CLOSED: &str = "ringward_connections_closed_total";

const ONE_AND_TWO: &str = "requests = { concurrent_max = 1, queue_max = 2, queue_timeout = \"1m\" }";

/// With routes that take their time, one of Ringward's own, and all the others.
fn builder(requests: &str) -> Builder {
    let host = Host::new(&[HOST])
        .route("path = \"/health\"", "respond = { status = 204 }")
        .route("path = \"/short\"", "request_timeout = \"100ms\"")
        .route("path = \"/{rest...}\"", "");
    Gateway::builder().listener("http2 = true").listener(requests).host(host)
}

/// A request that is in work until the gate opens.
fn occupy(gateway: &Gateway) -> (Gate, Connection) {
    let gate = Gate::new();
    gateway.upstream.on("/slow", Script::new().read_body().wait(&gate).respond(200, &[], "late"));
    let mut connection = gateway.connect();
    connection.send(&connection.head("GET", "/slow", &[])).unwrap();
    gate.wait_for_arrivals(1, DEADLINE);
    (gate, connection)
}

/// A request that is the `waiting`th to wait, and its status in the end.
fn waits(gateway: &Gateway, path: &'static str, waiting: f64) -> JoinHandle<u16> {
    let mut connection = gateway.connect();
    let asking = thread::spawn(move || connection.get(path).unwrap().status);
    gateway.wait_for_metric(WAITING, &[("listener", "edge")], waiting);
    asking
}

fn paths(gateway: &Gateway) -> Vec<String> {
    gateway.upstream.requests().iter().map(|request| request.target.clone()).collect()
}

fn what_is_above_the_limit_waits_in_order_and_what_is_above_that_is_shed(driver: &str) {
    let gateway = builder(ONE_AND_TWO).io(driver).start();
    let (gate, mut first) = occupy(&gateway);
    gateway.wait_for_metric(ACTIVE, &[("listener", "edge")], 1.0);
    let second = waits(&gateway, "/second", 1.0);
    // What a waiting request has to say is not asked for.
    let mut third = gateway.connect();
    let fields = [("content-length", "5"), ("expect", "100-continue")];
    third.send(&third.head("POST", "/third", &fields)).unwrap();
    gateway.wait_for_metric(WAITING, &[("listener", "edge")], 2.0);

    let mut other = gateway.connect();
    let refused = other.get("/fourth").unwrap();
    assert_eq!((refused.status, refused.headers.get("retry-after")), (503, Some("1")));
    assert_eq!(gateway.wait_for_record("path", "/fourth")["flag"], "request_queue_full");
    gateway.wait_for_metric(SHED, &[("reason", "queue_full")], 1.0);
    assert_eq!(other.get("/health").unwrap().status, 204, "what we answer ourselves waits for nobody");
    assert_eq!(paths(&gateway), ["/slow"], "nothing else has gone on");

    gate.open();
    assert_eq!((first.response().unwrap().status, second.join().unwrap()), (200, 200));
    assert_eq!(third.exactly(25).unwrap(), b"HTTP/1.1 100 Continue\r\n\r\n");
    third.send(b"hello").unwrap();
    assert_eq!(third.response().unwrap().status, 200);
    assert_eq!(paths(&gateway), ["/slow", "/second", "/third"]);
    assert_eq!(other.get("/fourth").unwrap().status, 200, "the connection is as good as before");
    for gauge in [ACTIVE, WAITING] {
        gateway.wait_for_metric(gauge, &[("listener", "edge")], 0.0);
    }
    assert_eq!(gateway.metric(QUEUED, &[]), 2.0);
    assert_eq!(gateway.metric(SHED, &[]), 1.0);
}

fn streams_wait_and_are_shed_one_by_one(driver: &str) {
    let gateway = builder(ONE_AND_TWO).io(driver).start();
    let (gate, mut first) = occupy(&gateway);
    let mut http2 = Http2::new(gateway.client().alpn(&["h2"]).connect(gateway.edge).unwrap(), &[]);
    http2.request(1, "GET", "/one", &[], true).unwrap();
    http2.request(3, "GET", "/two", &[], true).unwrap();
    gateway.wait_for_metric(WAITING, &[], 2.0);
    http2.request(5, "GET", "/three", &[], true).unwrap();
    assert_eq!(http2.response(5).0, 503);
    http2.request(7, "POST", "/a.S/Call", &[("content-type", "application/grpc")], true).unwrap();
    let call = http2.wait_for(kind::HEADERS);
    let field =
        |name: &str| call.fields().iter().find(|(own, _)| own == name).map(|(_, value)| value.clone());
    assert_eq!(
        (call.stream, field(":status"), field("grpc-status")),
        (7, Some("200".into()), Some("14".into()))
    );
    assert_eq!(field("retry-after").as_deref(), Some("1"));
    // A stream that is reset leaves the queue at once, and its place is another's.
    const CANCEL: [u8; 4] = 8_u32.to_be_bytes();
    http2.send(kind::RST_STREAM, 0, 1, &CANCEL).unwrap();
    gateway.wait_for_metric(SHED, &[("reason", "client_gone")], 1.0);
    http2.request(9, "GET", "/four", &[], true).unwrap();
    gateway.wait_for_metric(WAITING, &[], 2.0);
    gate.open();
    assert_eq!(first.response().unwrap().status, 200);
    assert_eq!((http2.response(3).0, http2.response(9).0), (200, 200));
    assert_eq!(paths(&gateway), ["/slow", "/two", "/four"]);
}

fn who_goes_away_leaves_the_queue(driver: &str) {
    let gateway = builder(ONE_AND_TWO).io(driver).start();
    let (gate, mut first) = occupy(&gateway);
    let behind = |path: &str, waiting: f64| {
        let mut connection = gateway.connect();
        connection.send(&connection.head("GET", path, &[])).unwrap();
        gateway.wait_for_metric(WAITING, &[], waiting);
        connection
    };
    let (mut front, middle) = (behind("/front", 1.0), behind("/middle", 2.0));
    drop(middle);
    gateway.wait_for_metric(SHED, &[("reason", "client_gone")], 1.0);
    assert_eq!(gateway.wait_for_record("path", "/middle")["flag"], "client_gone");
    let last = waits(&gateway, "/last", 2.0);
    gate.open();
    assert_eq!((first.response().unwrap().status, front.response().unwrap().status), (200, 200));
    assert_eq!(last.join().unwrap(), 200);
    assert_eq!(paths(&gateway), ["/slow", "/front", "/last"]);
}

#[test]
fn who_has_waited_for_too_long_is_told_and_so_is_a_request_whose_time_is_over() {
    let gateway =
        builder("requests = { concurrent_max = 1, queue_max = 9, queue_timeout = \"300ms\" }").start();
    let (gate, mut first) = occupy(&gateway);
    let mut connection = gateway.connect();
    assert_eq!(connection.get("/x").unwrap().status, 503);
    assert_eq!(gateway.wait_for_record("path", "/x")["flag"], "request_queue_timeout");
    assert_eq!(connection.get("/short").unwrap().status, 504);
    assert_eq!(gateway.wait_for_record("path", "/short")["flag"], "request_timeout");
    let mut http2 = Http2::new(gateway.client().alpn(&["h2"]).connect(gateway.edge).unwrap(), &[]);
    let fields = [("content-type", "application/grpc"), ("grpc-timeout", "50m")];
    http2.request(1, "POST", "/a.S/Call", &fields, true).unwrap();
    http2.wait_for(kind::HEADERS);
    assert_eq!(gateway.wait_for_record("path", "/a.S/Call")["flag"], "grpc_timeout");
    gateway.wait_for_metric(SHED, &[("reason", "queue_timeout")], 1.0);
    gateway.wait_for_metric(SHED, &[("reason", "request_timeout")], 2.0);
    gate.open();
    assert_eq!(first.response().unwrap().status, 200);
    assert_eq!(paths(&gateway), ["/slow"], "none of them has gone on");
    assert_eq!(connection.get("/x").unwrap().status, 200, "those who gave up are in nobody's way");
}

/// Rule: a reload loses nobody who waits, what it changes counts for them, and a limit that goes lets them in.
#[test]
fn who_waits_is_served_by_the_configuration_of_its_turn() {
    let gateway = builder(ONE_AND_TWO).start();
    let (gate, mut first) = occupy(&gateway);
    let moved = waits(&gateway, "/moved", 1.0);
    let other = waits(&gateway, "/other", 2.0);
    gateway.reconfigure("path = \"/health\"", "path = \"/moved\"");
    assert_eq!(gateway.metric(SHED, &[]), 0.0, "they go on waiting");
    gateway.reconfigure(ONE_AND_TWO, "");
    assert_eq!(moved.join().unwrap(), 204, "by the route that it has now");
    assert_eq!(other.join().unwrap(), 200, "it waits for nobody any more");
    gateway.wait_for_metric(WAITING, &[], 0.0);
    gate.open();
    assert_eq!(first.response().unwrap().status, 200);
    assert_eq!(paths(&gateway), ["/slow", "/other"]);
}

fn who_waits_is_served_in_a_drain_and_recorded_when_it_is_cut(driver: &str) {
    for is_cut in [false, true] {
        let mut gateway = builder(ONE_AND_TWO).io(driver).start();
        let (gate, mut first) = occupy(&gateway);
        let mut waiting = gateway.connect();
        waiting.send(&waiting.head("GET", "/waiting", &[])).unwrap();
        gateway.wait_for_metric(WAITING, &[], 1.0);
        gateway.process.signal(Signal::TERM);
        eventually(DEADLINE, "no connection is accepted any more", || {
            TcpStream::connect(gateway.edge).is_err()
        });
        if is_cut {
            gateway.process.signal(Signal::TERM);
            assert_ne!(waiting.wait_closed().1, Closing::Notified);
        } else {
            gate.open();
            assert_eq!((first.response().unwrap().status, waiting.response().unwrap().status), (200, 200));
        }
        gateway.process.wait(DEADLINE);
        let record = gateway.wait_for_record("path", "/waiting");
        assert_eq!(
            record["flag"],
            if is_cut { "stopped".into() } else { serde_json::Value::Null },
            "{record}"
        );
        gate.open();
    }
}

/// Rule: a tunnel counts until it is open.
#[test]
fn an_open_tunnel_leaves_its_place_to_others() {
    let upstream = PlayedUpstream::start();
    let section = format!("[cluster.tunnels]\nendpoints = [\"{}\"]", upstream.address());
    let host = Host::new(&[HOST])
        .route("path = \"/chat\"", "cluster = \"tunnels\"\nupgrade = [\"raw/1\"]")
        .route("path = \"/{rest...}\"", "cluster = \"echo\"");
    let gateway = Gateway::builder().section(&section).listener(ONE_AND_TWO).host(host).start();
    let mut client = gateway.connect();
    client.send(&client.head("GET", "/chat", &[("connection", "upgrade"), ("upgrade", "raw/1")])).unwrap();
    let mut server = upstream.accept();
    server.head();
    let waiting = waits(&gateway, "/x", 1.0);
    server.send("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: raw/1\r\n\r\n");
    assert_eq!(waiting.join().unwrap(), 200);
    gateway.wait_for_metric("ringward_tunnels_active", &[], 1.0);
    gateway.wait_for_metric(ACTIVE, &[], 0.0);
}

/// A client's address. All of 127.0.0.0/8 is this machine.
const fn address(last: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(127, 0, 0, last))
}

const PER_SOURCE: &str = "handshakes = { per_source = { connections_max = 3, prefix_v4 = 29 } }";

fn is_served(gateway: &Gateway, client: &Client) -> bool {
    client.connect(gateway.edge).and_then(|mut connection| connection.get("/")).is_ok()
}

fn a_network_has_so_many_connections(driver: &str) {
    let gateway = Gateway::builder().listener("http2 = true").listener(PER_SOURCE).io(driver).start();
    let client = |last| gateway.client().from(address(last));
    // 127.0.0.8 to 15 are a network: one in its handshake, one of each version.
    let begun: Greeting = client(8).greet(gateway.edge).unwrap();
    let mut http1 = client(9).connect(gateway.edge).unwrap();
    let mut http2 = Http2::new(client(10).alpn(&["h2"]).connect(gateway.edge).unwrap(), &[]);
    http2.request(1, "GET", "/", &[], true).unwrap();
    assert_eq!((http1.get("/").unwrap().status, http2.response(1).0), (200, 200));
    assert!(!is_served(&gateway, &client(11)) && !is_served(&gateway, &client(9)));
    gateway.wait_for_metric(CLOSED, &[("reason", "source_connections")], 2.0);
    assert!(is_served(&gateway, &client(16)), "another network has its own");
    // Whoever of them ends makes room, in its handshake, too.
    drop((begun, http2));
    gateway.wait_for_metric("ringward_connections_active", &[], 1.0);
    let held: Vec<Connection> = (0..2).map(|_| client(12).connect(gateway.edge).unwrap()).collect();
    assert!(!is_served(&gateway, &client(13)));
    gateway.wait_for_metric(CLOSED, &[("reason", "source_connections")], 3.0);
    assert_eq!(http1.get("/").unwrap().status, 200, "those that are there stay");
    drop(held);
}

/// Rule: where a load balancer says whose connection it is, it is that client's network that counts, and not the load balancer's.
#[test]
fn behind_a_load_balancer_the_clients_connections_are_counted() {
    let gateway =
        Gateway::builder().listener(PER_SOURCE).listener("proxy_protocol = { from = \"127.0.0.1\" }").start();
    let begin = |client: &str| -> TcpStream {
        let mut stream = connect_tcp(gateway.edge);
        stream.write_all(format!("PROXY TCP4 {client} 198.51.100.1 40001 443\r\n").as_bytes()).unwrap();
        stream.write_all(&client_hello(HOST)).unwrap();
        stream
    };
    // A byte of its answer says that a connection has been counted.
    let answered = |stream: &TcpStream| stream.peek(&mut [0]).unwrap() == 1;
    let mut held: Vec<TcpStream> = (1..=3).map(|last| begin(&format!("192.0.2.{last}"))).collect();
    assert!(held.iter().all(answered));
    assert_eq!(read_until_closed(&mut begin("192.0.2.4")), b"");
    gateway.wait_for_failed_handshakes("source_connections", 1);
    let others: Vec<TcpStream> = (1..=3).map(|last| begin(&format!("198.51.100.{last}"))).collect();
    assert!(others.iter().all(answered), "from the same load balancer");
    held.pop();
    gateway.wait_for_failed_handshakes("peer_closed", 1);
    assert!(answered(&begin("192.0.2.5")));
}

/// Rule: who has gone makes room among those who wait for their handshake, and takes nothing of what they wait for.
#[test]
fn who_goes_away_leaves_the_queue_of_handshakes() {
    let limits = "handshakes = { concurrent_max = 4, queue_max = 1, queue_timeout = \"9s\" }";
    let gateway = Gateway::builder().listener(limits).start();
    let mut held: Vec<Greeting> =
        (1..4).map(|from| gateway.client().from(address(from)).greet(gateway.edge).unwrap()).collect();
    let mut waiting = connect_tcp(gateway.edge);
    waiting.write_all(&client_hello(HOST)).unwrap();
    gateway.wait_for_metric("ringward_handshakes_queued_total", &[], 1.0);
    drop(waiting);
    gateway.wait_for_failed_handshakes("peer_closed", 1);
    let edge = gateway.edge;
    let patient = gateway.client().from(address(9));
    let patient = thread::spawn(move || patient.connect(edge).unwrap().get("/").unwrap().status);
    gateway.wait_for_metric("ringward_handshakes_queued_total", &[], 2.0);
    held.pop().unwrap().finish().unwrap();
    assert_eq!(patient.join().unwrap(), 200);
}

#[test]
fn check_shows_the_limits() {
    let gateway = builder(ONE_AND_TWO).listener(PER_SOURCE).start();
    let shown = gateway.ask(&["check"]);
    assert!(shown.contains("  1 request at once, 2 wait up to 60000 ms\n"), "{shown}");
    assert!(shown.contains("  3 connections from each /29 of IPv4 and /56 of IPv6\n"), "{shown}");
}

/// Upstreams of HTTP/2 have no other rule.
#[test]
fn requests_to_an_upstream_of_http2_wait_as_well() {
    let upstream = Http2Upstream::start();
    let section = format!("[cluster.others]\nendpoints = [\"{}\"]\nprotocol = \"http2\"", upstream.address());
    let host = Host::new(&[HOST]).route("path = \"/{rest...}\"", "cluster = \"others\"");
    let gateway = Gateway::builder().section(&section).listener(ONE_AND_TWO).host(host).start();
    let gate = Gate::new();
    upstream.on("/slow", Http2Script::new().wait(&gate).respond(200, &[], "late"));
    let mut first = gateway.connect();
    first.send(&first.head("GET", "/slow", &[])).unwrap();
    gate.wait_for_arrivals(1, DEADLINE);
    let second = waits(&gateway, "/second", 1.0);
    assert_eq!(upstream.requests().len(), 1);
    gate.open();
    assert_eq!((first.response().unwrap().status, second.join().unwrap()), (200, 200));
}
