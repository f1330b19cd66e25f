//! Requests that wait for something when trust is withdrawn: they are judged again before a byte goes upstream.
#![allow(clippy::unwrap_used, reason = "a failed expectation here is a failed test")]

mod support;

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ringward_testkit::{
    Authority, Closing, Connection, DEADLINE, Gate, Issued, Leaf, OcspAnswer, Script, Upstream, eventually,
};
use socket2::{Domain, Socket, Type};

use self::support::{Gateway, HOST, Host, on_both_drivers, read_until_closed, with_sessions};

on_both_drivers!(a_request_that_waits_for_its_upstream, a_request_that_waits_until_its_client_has_expired);

#[test]
fn a_request_that_waits_for_an_ocsp_answer() {
    let (root, slow, gate) = (Authority::root("Test Root"), Upstream::start(), Gate::new());
    let leaf = root.issue(&Leaf::client("client"));
    let good = OcspAnswer::good(&leaf, &root).signed_by_authority(&root);
    slow.on("*", Script::new().read_body().wait(&gate).respond_bytes(200, &[], &good));
    let auth = "mode = \"required\", trust = \"partners\", ocsp = \"hard_fail\", ocsp_timeout = \"10s\"";
    let gateway = Gateway::builder()
        .signed_by(&root)
        .stateful()
        .trust_key(&format!("ocsp_url = \"http://{}/\"", slow.address()))
        .host(Host::new(&[HOST]).client_auth(auth))
        .start();
    let mut waiting = gateway.client().identity(&leaf).connect(gateway.edge).unwrap();
    let head = waiting.head("GET", "/after", &[]);
    waiting.send(&head).unwrap();
    gate.wait_for_arrivals(1, DEADLINE);
    let file = gateway.client_files("client", &leaf).chain;
    gateway.ask(&["revoke", "--cert", file.to_str().unwrap(), "--reason", "test"]);
    gate.open();
    let answer = waiting.response();
    assert!(answer.as_ref().map_or(true, |response| response.status == 403), "{answer:?}");
    assert!(!gateway.has_reached("/after"));
}

/// A handshake that the client ends only when its certificate is revoked. It sends no request, so that no gate is asked; and
/// the look at all connections has passed already.
#[test]
fn a_handshake_that_nobody_asks_anything_after() {
    let gateway = Gateway::builder().stateful().start();
    let leaf = gateway.root.issue(&Leaf::client("client"));
    let client = gateway.client().identity(&leaf);
    let (resuming, _) = with_sessions(&client, gateway.edge, 1);
    // Whom the look finds, so that it is known to be over.
    let mut found = client.connect(gateway.edge).unwrap();
    let greeting = resuming.greet(gateway.edge).unwrap();
    assert!(greeting.is_resumed());
    let file = gateway.client_files("client", &leaf).chain;
    gateway.ask(&["revoke", "--cert", file.to_str().unwrap(), "--reason", "test"]);
    assert_eq!(found.wait_closed(), (Vec::new(), Closing::Notified));
    let (rest, closing) = greeting.finish().unwrap().wait_closed();
    assert!(rest.is_empty() && closing == Closing::Notified, "{closing:?}");
    gateway.wait_for_closed("revoked", 2);
}

/// An upstream that accepts nobody until it is told to.
struct Stalled {
    listener: TcpListener,
    waiting: Vec<TcpStream>,
}

impl Stalled {
    fn start() -> Stalled {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
        socket.listen(0).unwrap();
        let listener = TcpListener::from(socket);
        let address = listener.local_addr().unwrap();
        // Whoever comes when the queue is full is not answered.
        let connect = || TcpStream::connect_timeout(&address, Duration::from_millis(300)).ok();
        let waiting = std::iter::from_fn(connect).take(16).collect();
        Stalled { listener, waiting }
    }

    fn address(&self) -> SocketAddr {
        self.listener.local_addr().unwrap()
    }

    /// Whether somebody waits for an answer: a socket in the state SYN-SENT.
    fn is_awaited(&self) -> bool {
        const SYN_SENT: &str = "02";
        let port = format!(":{:04X}", self.address().port());
        let sockets = fs::read_to_string("/proc/net/tcp").unwrap();
        sockets.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).any(|columns| {
            columns.get(2).is_some_and(|remote| remote.ends_with(&port)) && columns.get(3) == Some(&SYN_SENT)
        })
    }

    /// Accepts, and returns the first connection that the test has not made itself.
    fn accept(self) -> TcpStream {
        for _ in &self.waiting {
            self.listener.accept().unwrap();
        }
        self.listener.accept().unwrap().0
    }
}

fn a_request_that_waits_for_its_upstream(driver: &str) {
    let stalled = Stalled::start();
    let gateway = Gateway::builder()
        .io(driver)
        .stateful()
        .endpoints(&[stalled.address()], "connect_timeout = \"20s\"")
        .start();
    let leaf = gateway.root.issue(&Leaf::client("client"));
    let mut waiting = gateway.client().identity(&leaf).connect(gateway.edge).unwrap();
    let head = waiting.head("GET", "/after", &[]);
    waiting.send(&head).unwrap();
    eventually(DEADLINE, "the gateway connects", || stalled.is_awaited());
    let file = gateway.client_files("client", &leaf).chain;
    gateway.ask(&["revoke", "--cert", file.to_str().unwrap(), "--reason", "test"]);
    let mut upstream = stalled.accept();
    upstream.set_read_timeout(Some(DEADLINE)).unwrap();
    assert!(waiting.response().is_err(), "the client is not trusted any more");
    drop(gateway);
    let received = read_until_closed(&mut upstream);
    assert!(received.is_empty(), "{:?}", String::from_utf8_lossy(&received));
}

/// Time alone publishes nothing.
fn a_request_that_waits_until_its_client_has_expired(driver: &str) {
    let stalled = Stalled::start();
    let gateway = Gateway::builder()
        .io(driver)
        .server("trust_grace = \"1m\"")
        .endpoints(&[stalled.address()], "connect_timeout = \"20s\"")
        .start();
    let ends = SystemTime::now() + Duration::from_secs(8);
    let leaf =
        gateway.root.issue(&Leaf::client("client").valid_between(ends - Duration::from_secs(3600), ends));
    let mut waiting = gateway.client().identity(&leaf).connect(gateway.edge).unwrap();
    let head = waiting.head("GET", "/after", &[]);
    waiting.send(&head).unwrap();
    eventually(DEADLINE, "the gateway connects", || stalled.is_awaited());
    // RFC 5280 §4.1.2.5: it is valid through the whole of its last second. A worker's clock beats 20 times per second.
    let over = ends + Duration::from_millis(1200);
    eventually(DEADLINE, "the certificate expires", || SystemTime::now() > over);
    let mut upstream = stalled.accept();
    upstream.set_read_timeout(Some(DEADLINE)).unwrap();
    let answer = waiting.response();
    assert!(answer.is_err(), "the client is not trusted any more: {answer:?}");
    drop(gateway);
    let received = read_until_closed(&mut upstream);
    assert!(received.is_empty(), "{:?}", String::from_utf8_lossy(&received));
}

/// A gateway whose upstream accepts nobody yet, with a load balancer that forwards who its clients are.
struct Forwarding {
    gateway: Gateway,
    stalled: Stalled,
    balancer: Connection,
}

impl Forwarding {
    fn start(clients: &Authority) -> Forwarding {
        let stalled = Stalled::start();
        let rules = "forwarded_identity = { from = { san_dns = \"edge.example\" }, trust = \"clients\" }";
        let builder = Gateway::builder()
            .stateful()
            .listener("client_address = { from = [\"127.0.0.1\"] }")
            .trust("clients", &[clients])
            .section(&format!(
                "[cluster.far]\nendpoints = \"{}\"\nconnect_timeout = \"20s\"",
                stalled.address()
            ))
            .host(Host::new(&[HOST]).key(rules).route("path = \"/{rest...}\"", "cluster = \"far\""));
        let balancer = builder.root().issue(&Leaf::client("edge").dns("edge.example"));
        let gateway = builder.start();
        let balancer = gateway.client().identity(&balancer).connect(gateway.edge).unwrap();
        Forwarding { gateway, stalled, balancer }
    }

    /// Sends a request of this client, and waits until it waits for the upstream.
    fn send(&mut self, client: &Issued) {
        let leaf = format!(":{}:", STANDARD.encode(client.leaf()));
        let fields = [("client-cert", &*leaf), ("x-forwarded-for", "198.51.100.7")];
        let head = self.balancer.head("GET", "/after", &fields);
        self.balancer.send(&head).unwrap();
        eventually(DEADLINE, "the gateway connects", || self.stalled.is_awaited());
    }

    /// Puts a new generation in force, in which this client is revoked.
    fn revoke(&self, client: &Issued) {
        let file = self.gateway.client_files("revoked", client).chain;
        self.gateway.ask(&["revoke", "--cert", file.to_str().unwrap(), "--reason", "test"]);
    }

    /// The load balancer's connection goes on and gets 403, and nothing goes upstream.
    fn expect_refusal(mut self) {
        let mut upstream = self.stalled.accept();
        upstream.set_read_timeout(Some(DEADLINE)).unwrap();
        assert_eq!(self.balancer.response().unwrap().status, 403);
        self.gateway.wait_for_record("flag", "certificate_refused");
        drop(self.gateway);
        let received = read_until_closed(&mut upstream);
        assert!(received.is_empty(), "{:?}", String::from_utf8_lossy(&received));
    }
}

const VERDICTS: &str = "ringward_forwarded_identities_total";

/// Time alone publishes nothing: the last look before the request leaves has to find it out.
#[test]
fn a_forwarded_client_that_expires_while_its_request_waits() {
    let clients = Authority::root("Clients");
    let mut forwarding = Forwarding::start(&clients);
    let ends = SystemTime::now() + Duration::from_secs(8);
    let leaf = Leaf::client("client").valid_between(ends - Duration::from_secs(3600), ends);
    forwarding.send(&clients.issue(&leaf));
    let over = ends + Duration::from_millis(1200);
    eventually(DEADLINE, "the certificate expires", || SystemTime::now() > over);
    forwarding.expect_refusal();
}

/// What has become of it since is counted as well.
#[test]
fn a_forwarded_client_that_is_revoked_while_its_request_waits() {
    let clients = Authority::root("Clients");
    let mut forwarding = Forwarding::start(&clients);
    let client = clients.issue(&Leaf::client("client"));
    forwarding.send(&client);
    forwarding.revoke(&client);
    let Forwarding { mut balancer, stalled, gateway } = forwarding;
    let mut upstream = stalled.accept();
    upstream.set_read_timeout(Some(DEADLINE)).unwrap();
    assert_eq!(balancer.response().unwrap().status, 403);
    for verdict in ["admitted", "deny_listed"] {
        gateway.wait_for_metric(VERDICTS, &[("verdict", verdict)], 1.0);
    }
    drop(gateway);
    assert!(read_until_closed(&mut upstream).is_empty());
}

/// A request that is judged again, since the generation has moved, is one request all the same.
#[test]
fn what_is_said_of_a_client_counts_once() {
    let clients = Authority::root("Clients");
    let mut forwarding = Forwarding::start(&clients);
    forwarding.send(&clients.issue(&Leaf::client("client")));
    forwarding.revoke(&clients.issue(&Leaf::client("another")));
    let Forwarding { mut balancer, stalled, gateway } = forwarding;
    let mut upstream = stalled.accept();
    upstream.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        upstream.read_exact(&mut byte).unwrap();
        head.extend(byte);
    }
    upstream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").unwrap();
    assert_eq!(balancer.response().unwrap().status, 204);
    let record = gateway.wait_for_record("path", "/after");
    assert!(record["generation"].as_u64() > Some(1), "it was judged again: {record}");
    gateway.wait_for_metric("ringward_client_address_claims_total", &[("outcome", "taken")], 1.0);
    gateway.wait_for_metric(VERDICTS, &[("verdict", "admitted")], 1.0);
}
