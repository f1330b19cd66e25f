//! The PROXY protocol, as HAProxy speaks it to us: whose address is believed, and whose is not.
#![allow(clippy::unwrap_used, reason = "a failed expectation here is a failed test")]

mod support;

use std::fs;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};

use ringward_testkit::{DEADLINE, Echo, Process, eventually, eventually_some, free_port};
use serde_json::Value;
use socket2::{Domain, Socket, Type};
use tempfile::TempDir;

use self::support::{
    Builder, Gateway, client_hello, connect_tcp, on_both_drivers, program, read_until_closed,
};

on_both_drivers!(the_client_is_who_the_load_balancer_says);

/// Where the load balancer connects from. Clients come from 127.0.0.1.
const LOAD_BALANCER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));

fn builder(proxy_protocol: &str) -> Builder {
    Gateway::builder().listener(&format!("proxy_protocol = {{ {proxy_protocol} }}"))
}

/// HAProxy in front of a gateway. Ends when dropped.
struct LoadBalancer {
    address: SocketAddr,
    _process: Process,
    _files: TempDir,
}

impl LoadBalancer {
    fn start(gateway: &Gateway, send: &str) -> LoadBalancer {
        let files = TempDir::new().unwrap();
        let file = files.path().join("haproxy.cfg");
        // Another may take its port before it does.
        for _ in 0..5 {
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
            let text = format!(
                "defaults\n mode tcp\n timeout connect 20s\n timeout client 60s\n timeout server 60s\n\
                 listen edge\n bind {address}\n server ringward {} source {LOAD_BALANCER} {send}\n",
                gateway.edge
            );
            fs::write(&file, text).unwrap();
            let mut process = Process::start(program("haproxy", "haproxy").arg("-db").arg("-f").arg(&file));
            eventually(DEADLINE, "haproxy listens or ends", || {
                !process.is_running() || TcpStream::connect(address).is_ok()
            });
            if process.is_running() {
                return LoadBalancer { address, _process: process, _files: files };
            }
        }
        panic!("haproxy finds no port");
    }
}

/// A connection from the load balancer's address that begins with these bytes, and what comes back until it is closed.
fn from_the_load_balancer(gateway: &Gateway, bytes: &[u8]) -> Vec<u8> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((LOAD_BALANCER, 0)).into()).unwrap();
    socket.connect(&gateway.edge.into()).unwrap();
    let mut stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.write_all(bytes).unwrap();
    read_until_closed(&mut stream)
}

/// The record of a handshake that was refused for this reason.
fn refused(gateway: &Gateway, reason: &str) -> Value {
    let find = || gateway.lines("handshake failed").into_iter().find(|record| record["reason"] == reason);
    eventually_some(DEADLINE, reason, find)
}

/// Rule: the address of a listed load balancer's header is the client's, for upstreams, policies and logs.
fn the_client_is_who_the_load_balancer_says(driver: &str) {
    let policy = "package ringward.authz\nimport rego.v1\n\
                  default allow := false\nallow if input.connection.remote_addr == \"127.0.0.1\"\ndecision := allow";
    let gateway = builder("from = \"127.0.0.2\"")
        .io(driver)
        .policy("main", policy)
        .host(support::Host::new(&[support::HOST]).policy("main"))
        .start();
    for send in ["send-proxy", "send-proxy-v2", "send-proxy-v2 proxy-v2-options unique-id,crc32c"] {
        let balancer = LoadBalancer::start(&gateway, send);
        let path = format!("/by-{}", send.len());
        let mut connection = gateway.client().connect(balancer.address).unwrap();
        let response = connection.get(&path).unwrap();
        assert_eq!(response.status, 200, "{send}: {}", response.text());
        assert_eq!(Echo::of(&response).headers.get("x-forwarded-for"), Some("127.0.0.1"), "{send}");
        let record = gateway.wait_for_record("path", path);
        assert!(record["downstream.addr"].as_str().unwrap().starts_with("127.0.0.1:"), "{record}");
        assert!(record["proxy.addr"].as_str().unwrap().starts_with("127.0.0.2:"), "{record}");
        // The same for a client that is refused.
        let handshake = gateway.anonymous().connect(balancer.address).and_then(|mut c| c.get("/"));
        assert!(handshake.is_err(), "{send}: a certificate is required");
    }
    gateway.wait_for_failed_handshakes("no_certificate", 3);
    // They are written a moment after they are counted. The load balancer was also asked whether it is there.
    let refused = || {
        let records = gateway.lines("handshake failed").into_iter();
        records.filter(|record| record["reason"] == "no_certificate").collect::<Vec<Value>>()
    };
    eventually(DEADLINE, "all are recorded", || refused().len() == 3);
    for record in refused() {
        assert!(record["downstream.addr"].as_str().unwrap().starts_with("127.0.0.1:"), "{record}");
        assert!(record["proxy.addr"].as_str().unwrap().starts_with("127.0.0.2:"), "{record}");
    }
}

/// Rule: a header counts from listed sources only; what others say of themselves is no header but a bad handshake.
#[test]
fn nobody_else_is_believed() {
    let forged = b"PROXY TCP4 192.0.2.7 198.51.100.1 40001 443\r\n";
    let hello = client_hello(support::HOST);
    for (rules, reason) in [
        ("from = \"127.0.0.2\", others = \"direct\"", "malformed"),
        ("from = \"127.0.0.2\"", "proxy_source"),
        ("from = \"127.0.0.2\", others = \"refuse\"", "proxy_source"),
    ] {
        let gateway = builder(rules).start();
        let mut stream = connect_tcp(gateway.edge);
        // It may be closed before all of it is written.
        let _ = stream.write_all(forged).and_then(|()| stream.write_all(&hello));
        read_until_closed(&mut stream);
        gateway.wait_for_failed_handshakes(reason, 1);
        let record = refused(&gateway, reason);
        assert!(record["downstream.addr"].as_str().unwrap().starts_with("127.0.0.1:"), "{record}");
        assert_eq!(record.get("proxy.addr"), None, "{record}");
    }
    // Without the key nobody is.
    let gateway = Gateway::start();
    let mut stream = connect_tcp(gateway.edge);
    let _ = stream.write_all(forged).and_then(|()| stream.write_all(&hello));
    read_until_closed(&mut stream);
    gateway.wait_for_failed_handshakes("malformed", 1);
}

/// Rule: others are served directly only where the configuration says so.
#[test]
fn connections_from_elsewhere_are_refused_unless_they_are_wanted() {
    let gateway = builder("from = \"127.0.0.2\", others = \"direct\"").start();
    gateway.assert_serves();
    let gateway = builder("from = \"127.0.0.2\"").start();
    assert!(gateway.client().connect(gateway.edge).and_then(|mut connection| connection.get("/")).is_err());
    gateway.wait_for_failed_handshakes("proxy_source", 1);
    assert_eq!(gateway.upstream.connections_accepted(), 0);
}

/// Rule: a listed source has to send a header. Without one it would pass for the client itself.
#[test]
fn a_load_balancer_without_a_header_is_refused() {
    let gateway = builder("from = [\"127.0.0.2\", \"2001:db8::/32\"], others = \"direct\"").start();
    for bytes in [client_hello(support::HOST), b"GET / HTTP/1.1\r\nhost: a\r\n\r\n".to_vec()] {
        assert_eq!(from_the_load_balancer(&gateway, &bytes), b"");
    }
    gateway.wait_for_failed_handshakes("proxy_header", 2);
    // A header that names nobody leaves the connection the load balancer's, and its handshake is answered.
    let local =
        [b"\r\n\r\n\0\r\nQUIT\n\x20\x00\x00\x00".to_vec(), b"nonsense that is no TLS".to_vec()].concat();
    assert_eq!(from_the_load_balancer(&gateway, &local).first(), Some(&21), "an alert");
    gateway.wait_for_failed_handshakes("malformed", 1);
    let record = refused(&gateway, "malformed");
    assert!(record["downstream.addr"].as_str().unwrap().starts_with("127.0.0.2:"), "{record}");
}

/// Rule: waiting for the header is part of the handshake, and ends with it.
#[test]
fn a_header_that_does_not_come_ends_with_the_handshake() {
    let gateway = builder("from = \"127.0.0.2\"").limits("handshake_timeout = \"200ms\"").start();
    assert_eq!(from_the_load_balancer(&gateway, b"PROXY TCP4 192.0.2.7"), b"");
    gateway.wait_for_failed_handshakes("timeout", 1);
}
