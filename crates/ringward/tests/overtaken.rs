//! Requests that wait for something when trust is withdrawn: they are judged again before a byte goes upstream.
#![allow(clippy::unwrap_used, reason = "a failed expectation here is a failed test")]

mod support;

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, SystemTime};

use ringward_testkit::{Authority, Closing, DEADLINE, Gate, Leaf, OcspAnswer, Script, Upstream, eventually};
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
