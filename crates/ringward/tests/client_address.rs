//! The client's address in the header of a request: who is believed, and what others make of it.
#![allow(clippy::unwrap_used, reason = "a failed expectation here is a failed test")]

mod support;

use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};

use ringward_testkit::{Connection, DEADLINE, Echo, Headers, Http2, Leaf, Process, eventually, free_port};
use serde_json::json;
use tempfile::TempDir;

use self::support::{Builder, Gateway, HOST, Host, on_both_drivers, program};

on_both_drivers!(the_client_is_who_the_trusted_proxy_says);

const CLAIMS: &str = "ringward_client_address_claims_total";
/// Clients of the tests come from 127.0.0.1.
const TRUSTED: &str = "from = [\"127.0.0.1\", \"10.0.0.0/8\"]";
const NOBODY: &str = "from = \"192.0.2.0/24\"";

/// Allows 198.51.100.7 alone.
const ONE_CLIENT: &str = "package ringward.authz\nimport rego.v1\n\
    default allow := false\nallow if input.connection.remote_addr == \"198.51.100.7\"\ndecision := allow";

fn builder(client_address: &str) -> Builder {
    Gateway::builder().listener(&format!("client_address = {{ {client_address} }}"))
}

fn echo(connection: &mut Connection, fields: &[(&str, &str)]) -> Headers {
    let response = connection.request("GET", "/echo", fields, b"").unwrap();
    assert_eq!(response.status, 200, "{}", response.text());
    Echo::of(&response).headers
}

/// Rule: the address that a trusted proxy names is the client's, for policies, logs and upstreams; of each request by itself.
fn the_client_is_who_the_trusted_proxy_says(driver: &str) {
    let gateway = builder(TRUSTED)
        .io(driver)
        .policy("main", ONE_CLIENT)
        .policy_key("main", "cache = {}")
        .host(Host::new(&[HOST]).policy("main"))
        .start();
    let mut connection = gateway.connect();
    // Twice, as decisions are kept: what was decided about one client is not given to another.
    for _ in 0..2 {
        for (list, status) in [
            ("198.51.100.7", 200),
            ("198.51.100.8", 403),
            ("203.0.113.9, 198.51.100.7", 200),
            ("198.51.100.7, 203.0.113.9", 403),
            ("198.51.100.7, 10.1.2.3", 200),
            ("[::ffff:198.51.100.7]:4321", 200),
        ] {
            let response = connection.request("GET", "/echo", &[("x-forwarded-for", list)], b"").unwrap();
            assert_eq!(response.status, status, "{list}");
            if status == 200 {
                let headers = Echo::of(&response).headers;
                assert_eq!(headers.get("x-forwarded-for"), Some("198.51.100.7"), "{list}");
            }
        }
    }
    // The proxy's own.
    assert_eq!(connection.get("/own").unwrap().status, 403);
    gateway.wait_for_metric(CLAIMS, &[("outcome", "taken")], 12.0);
    gateway.wait_for_metric(CLAIMS, &[("outcome", "absent")], 1.0);
    let record = gateway.wait_for_record("client.addr", "198.51.100.8");
    assert!(record["downstream.addr"].as_str().unwrap().starts_with("127.0.0.1:"), "{record}");
    assert_eq!(gateway.wait_for_record("path", "/own").get("client.addr"), None);
}

#[test]
fn streams_of_one_connection_are_of_different_clients() {
    let gateway = builder(TRUSTED).policy("main", ONE_CLIENT).host(Host::new(&[HOST]).policy("main")).start();
    let connection = gateway.client().alpn(&["h2"]).connect(gateway.edge).unwrap();
    let mut http2 = Http2::new(connection, &[]);
    for (stream, client, status) in
        [(1, "198.51.100.7", 200), (3, "198.51.100.8", 403), (5, "198.51.100.7", 200)]
    {
        http2.request(stream, "GET", "/echo", &[("x-forwarded-for", client)], true).unwrap();
        assert_eq!(http2.response(stream).0, status, "{client}");
    }
}

/// Rule: what anybody else says is removed and counted, and is nobody's address, also where lists are continued.
#[test]
fn nobody_else_is_believed() {
    let forward = "x_forwarded = \"append\", forwarded = \"append\"";
    let gateway = builder(NOBODY)
        .policy("main", &ONE_CLIENT.replace("198.51.100.7", "127.0.0.1"))
        .host(Host::new(&[HOST]).policy("main").forward(forward))
        .start();
    let mut connection = gateway.connect();
    for (count, spoofed) in [
        &[("x-forwarded-for", "198.51.100.7")][..],
        &[("X-Forwarded-For", "198.51.100.7"), ("forwarded", "for=198.51.100.7")],
        &[("x_forwarded_for", "198.51.100.7")],
        &[("forwarded", "for=\"unreadable")],
    ]
    .into_iter()
    .enumerate()
    {
        let headers = echo(&mut connection, spoofed);
        assert_eq!(headers.get("x-forwarded-for"), Some("127.0.0.1"), "{spoofed:?}");
        let forwarded = format!("for=127.0.0.1;host={HOST};proto=https");
        assert_eq!(headers.get("forwarded"), Some(&*forwarded), "{spoofed:?}");
        assert!(!headers.contains("x_forwarded_for"), "{spoofed:?}");
        gateway.wait_for_metric(CLAIMS, &[("outcome", "untrusted")], (count + 1) as f64);
    }
    echo(&mut connection, &[]);
    gateway.wait_for_metric(CLAIMS, &[("outcome", "untrusted")], 4.0);
    assert!(gateway.lines("request").iter().all(|record| record.get("client.addr").is_none()));
}

/// Rule: of a trusted proxy, the list that it writes is continued by its address; the other list is nobody's word.
#[test]
fn a_trusted_list_is_continued_and_the_other_is_not() {
    let forward = "x_forwarded = \"append\", forwarded = \"append\"";
    let fields = [
        ("x-forwarded-for", "203.0.113.9, 198.51.100.7"),
        ("x-forwarded-proto", "http"),
        ("forwarded", "for=203.0.113.9, for=198.51.100.8"),
    ];
    let start = |header: &str| {
        let rules = format!("{TRUSTED}, header = \"{header}\"");
        builder(&rules).host(Host::new(&[HOST]).forward(forward)).start()
    };
    let gateway = start("x-forwarded-for");
    let headers = echo(&mut gateway.connect(), &fields);
    assert_eq!(headers.get("x-forwarded-for"), Some("203.0.113.9, 198.51.100.7, 127.0.0.1"));
    assert_eq!(headers.get("x-forwarded-proto"), Some("http"), "the proxy's word");
    assert_eq!(headers.get("forwarded"), Some(&*format!("for=198.51.100.7;host={HOST};proto=https")));

    let gateway = start("forwarded");
    let headers = echo(&mut gateway.connect(), &fields);
    assert_eq!(headers.get("x-forwarded-for"), Some("198.51.100.8"));
    assert_eq!(headers.get("x-forwarded-proto"), Some("https"), "nobody's word");
    let expected = format!("for=203.0.113.9, for=198.51.100.8, for=127.0.0.1;host={HOST};proto=https");
    assert_eq!(headers.get("forwarded"), Some(&*expected));
}

/// Rule: what a trusted proxy says and nobody can read is refused, and the connection goes on: it is of other clients as well.
#[test]
fn what_cannot_be_read_is_refused() {
    for (rules, lists) in [
        (TRUSTED.to_owned(), &["unknown", "198.51.100.7, nonsense", "198.51.100.7:x"][..]),
        (format!("{TRUSTED}, hops = 2"), &["198.51.100.7", "unknown, 203.0.113.9"]),
    ] {
        let gateway = builder(&rules).start();
        let mut connection = gateway.connect();
        for (count, list) in lists.iter().enumerate() {
            let response = connection.request("GET", "/echo", &[("x-forwarded-for", list)], b"").unwrap();
            assert_eq!(response.status, 400, "{list}");
            gateway.wait_for_metric(CLAIMS, &[("outcome", "malformed")], (count + 1) as f64);
        }
        let record = gateway.wait_for_record("flag", "bad_client_address");
        assert_eq!(record.get("client.addr"), None, "{record}");
        assert_eq!(gateway.upstream.requests().len(), 0);
        let headers = echo(&mut connection, &[("x-forwarded-for", "198.51.100.7, 203.0.113.9")]);
        let client = if rules.contains("hops") { "198.51.100.7" } else { "203.0.113.9" };
        assert_eq!(headers.get("x-forwarded-for"), Some(client));
    }
}

/// Rule: without the key nothing changes.
#[test]
fn without_the_key_nobody_is_believed() {
    let gateway = Gateway::start();
    let headers = echo(&mut gateway.connect(), &[("x-forwarded-for", "198.51.100.7")]);
    assert_eq!(headers.get("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(gateway.wait_for_record("path", "/echo").get("client.addr"), None);
}

/// HAProxy as a load balancer that ends TLS, and proves itself to us by a certificate of its own.
#[test]
fn haproxy_says_whose_requests_it_passes_on() {
    let gateway = builder("from = \"127.0.0.2\"").start();
    let files = TempDir::new().unwrap();
    let balancer = gateway.root.issue(&Leaf::client("balancer"));
    let pem = format!("{}{}", balancer.chain_pem(), balancer.key_pem());
    fs::write(files.path().join("client.pem"), pem).unwrap();
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
    let text = format!(
        "defaults\n mode http\n timeout connect 20s\n timeout client 60s\n timeout server 60s\n option forwardfor\n\
         listen edge\n bind {address}\n server ringward {} source {} ssl verify none crt {} sni str({HOST})\n",
        gateway.edge,
        IpAddr::from([127, 0, 0, 2]),
        files.path().join("client.pem").display(),
    );
    let file = files.path().join("haproxy.cfg");
    fs::write(&file, text).unwrap();
    let mut process = Process::start(program("haproxy", "haproxy").arg("-db").arg("-f").arg(&file));
    eventually(DEADLINE, "haproxy listens", || {
        assert!(process.is_running(), "{}", process.stderr());
        TcpStream::connect(address).is_ok()
    });
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let request = format!(
        "GET /through HTTP/1.1\r\nhost: {HOST}\r\nx-forwarded-for: 198.51.100.7\r\nconnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    // The client's own word stands before what HAProxy adds, in a line of its own.
    let record = gateway.wait_for_record("path", "/through");
    assert_eq!(record["client.addr"], json!("127.0.0.1"), "{record}");
    assert!(record["downstream.addr"].as_str().unwrap().starts_with("127.0.0.2:"), "{record}");
    let received = &gateway.upstream.requests()[0];
    assert_eq!(received.headers.get("x-forwarded-for"), Some("127.0.0.1"));
    // Around the load balancer, the same word counts for nothing.
    echo(&mut gateway.connect(), &[("x-forwarded-for", "198.51.100.7")]);
    gateway.wait_for_metric(CLAIMS, &[("outcome", "untrusted")], 1.0);
}
