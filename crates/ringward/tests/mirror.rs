//! Copies of requests for another cluster: `mirror`.
#![allow(clippy::unwrap_used, reason = "a failed expectation here is a failed test")]

#[path = "http2_upstream/caller.rs"]
#[allow(dead_code, reason = "other tests use more of it")]
mod caller;
mod support;

use std::io::Read;
use std::net::SocketAddr;
use std::thread::JoinHandle;
use std::time::Duration;

use ringward_testkit::{Echo, Http2Upstream, Leaf, Pattern, Script, Upstream, eventually, sha256_hex};

use self::caller::{BOTH, Caller};
use self::support::{
    Builder, Gateway, HOST, Host, PlayedConnection, PlayedUpstream, congested, deserted, on_both_drivers,
};

on_both_drivers!(
    a_copy_is_what_the_upstream_gets_and_nobody_waits_for_it,
    large_bodies_are_copied_whole,
    a_slow_mirror_is_cut_off_and_slows_nobody_down,
    a_mirror_that_is_gone_or_silent_harms_nobody,
    a_copy_of_a_request_that_breaks_off_breaks_off,
    no_more_copies_than_allowed_are_under_way,
    a_mirror_may_speak_http2,
);

const MIB: u64 = 1 << 20;
const FINISHED: &str = "ringward_upstream_mirrored_requests_finished_total";

/// A gateway that mirrors what goes to `echo`, to the cluster `copies` at this address, by a mirror and a cluster with these keys.
fn builder(copies: SocketAddr, mirror: &str, cluster: &str) -> Builder {
    let lines = format!("cluster = \"echo\"\nmirror = {{ cluster = \"copies\"{mirror} }}");
    let host = Host::new(&[HOST]).route("path = \"/{rest...}\"", &lines);
    Gateway::builder()
        .listener("http2 = true")
        .limits("body_bytes_max = \"unlimited\"")
        .section(&format!("[cluster.copies]\nendpoints = \"{copies}\"\n{cluster}"))
        .host(host)
}

/// Waits until so many copies have come to this.
#[track_caller]
fn wait_for(gateway: &Gateway, outcome: &str, count: usize) {
    gateway.wait_for_metric(FINISHED, &[("cluster", "copies"), ("outcome", outcome)], count as f64);
}

/// The lines of a head, in an order of their own.
fn lines(head: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = head.lines().collect();
    lines[1..].sort_unstable();
    lines
}

/// Reads the request of an upload without a length and hashes its body, and answers.
fn take_chunked(mut connection: PlayedConnection) -> String {
    let mut body = Vec::new();
    loop {
        let mut line = String::new();
        while !line.ends_with("\r\n") {
            line += &connection.exactly(1);
        }
        let size = usize::from_str_radix(line.trim_end(), 16).unwrap();
        body.extend(connection.bytes(size));
        connection.exactly(2);
        if size == 0 {
            connection.send("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
            return sha256_hex(&body);
        }
    }
}

fn a_copy_is_what_the_upstream_gets_and_nobody_waits_for_it(driver: &str) {
    let mirror = PlayedUpstream::start();
    let lines_of_route = "cluster = \"echo\"\nmirror = { cluster = \"copies\" }\nrewrite = { prefix = \"/v2/\" }\n\
        request_headers = { set = { \"x-who\" = \"{client.identity}\" }, remove = [\"x-secret\"] }";
    let host = Host::new(&[HOST])
        .forward("client_cert = true, xfcc = \"set\", x_forwarded = \"set\"")
        .route("path = \"/api/{rest...}\"", lines_of_route);
    let gateway = Gateway::builder()
        .io(driver)
        .section(&format!("[cluster.copies]\nendpoints = \"{}\"", mirror.address()))
        .host(host)
        .start();
    let mut connection = gateway.connect();
    let fields = [("x-secret", "s"), ("x-own", "o"), ("client-cert", ":forged:")];
    // The mirror has not even accepted the connection when the client is answered.
    let response = connection.request("POST", "/api/a?b=c", &fields, b"the body").unwrap();
    assert_eq!(response.status, 200);
    assert_eq!(Echo::of(&response).body_sha256, sha256_hex(b"the body"));
    let original = String::from_utf8(gateway.upstream.requests()[0].raw_head.clone()).unwrap();
    let mut copy = mirror.accept();
    let head = copy.head();
    assert!(head.starts_with("POST /v2/a?b=c HTTP/1.1\r\nhost: "), "{head}");
    assert!(head.contains("x-who: ") && head.contains("client-cert: :MII") && !head.contains("x-secret"));
    assert_eq!(lines(&head), lines(&original));
    assert_eq!(copy.exactly(8), "the body");
    // With trailers, of which look-alikes go nowhere.
    let head = connection.head("POST", "/api/t", &[("transfer-encoding", "chunked")]);
    connection.send(&head).unwrap();
    connection.send(b"3\r\nabc\r\n0\r\nx-sum: 6\r\nclient-cert: :forged:\r\n\r\n").unwrap();
    assert_eq!(connection.response().unwrap().status, 200);
    let mut second = mirror.accept();
    assert!(second.head().contains("transfer-encoding: chunked\r\n"));
    assert_eq!(second.exactly(23), "3\r\nabc\r\n0\r\nx-sum: 6\r\n\r\n");
    // What comes back is nobody's, whatever it is.
    copy.send("HTTP/1.1 500 No\r\ncontent-length: 3\r\nset-cookie: a=b\r\n\r\nbad");
    second.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n");
    wait_for(&gateway, "answered", 2);
    let record = gateway.wait_for_record("path", "/api/t");
    assert_eq!((&record["cluster"], &record["mirror"]), (&"echo".into(), &"copies".into()));
    // A connection that a copy has used is of use for the next.
    assert_eq!(connection.get("/api/again").unwrap().status, 200);
    let third = [&mut copy, &mut second].into_iter().find_map(|connection| {
        connection.stream.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        let mut first = [0];
        connection.stream.read(&mut first).ok().filter(|n| *n == 1)
    });
    assert!(third.is_some() && mirror.accept_waiting().is_none());
}

fn large_bodies_are_copied_whole(driver: &str) {
    let mirror = PlayedUpstream::start();
    let keys = ", body_held_max = \"16MiB\"";
    let gateway = builder(mirror.address(), keys, "pool_idle_max = 0").io(driver).start();
    let body = Pattern::new(12 * MIB);
    for (index, speaks) in BOTH.into_iter().enumerate() {
        let uploading: JoinHandle<()> = std::thread::spawn({
            let mut caller = Caller::new(&gateway, speaks);
            move || assert_eq!(caller.upload("/upload", body, false).echo().body_sha256, body.sha256_hex())
        });
        let mut copy = mirror.accept();
        assert!(copy.head().contains("transfer-encoding: chunked\r\n"));
        assert_eq!(take_chunked(copy), body.sha256_hex(), "{speaks:?}");
        uploading.join().unwrap();
        wait_for(&gateway, "answered", index + 1);
    }
}

fn a_slow_mirror_is_cut_off_and_slows_nobody_down(driver: &str) {
    let mirror = PlayedUpstream::start();
    let keys = ", body_held_max = \"128KiB\", timeout = \"1s\"";
    let gateway = builder(mirror.address(), keys, "").io(driver).start();
    let body = Pattern::new(32 * MIB);
    let mut connections = Vec::new();
    for (index, speaks) in BOTH.into_iter().enumerate() {
        let echo = Caller::new(&gateway, speaks).upload("/upload", body, true).echo();
        assert_eq!((echo.body_bytes, echo.body_sha256), (32 * MIB, body.sha256_hex()));
        // It has not read a byte, and still does not.
        connections.push(mirror.accept());
        wait_for(&gateway, "cut", index + 1);
    }
    for connection in connections {
        assert!(connection.wait_closed().len() < 32 << 20, "there was an end before the end");
    }
}

fn a_mirror_that_is_gone_or_silent_harms_nobody(driver: &str) {
    let (_socket, nobody) = deserted();
    let gateway = builder(nobody, "", "").io(driver).start();
    let mut connection = gateway.connect();
    for path in ["/a", "/b"] {
        assert_eq!(connection.post(path, b"body").unwrap().status, 200);
    }
    wait_for(&gateway, "failed", 2);
    let errors =
        |gateway: &Gateway| gateway.metric("ringward_upstream_errors_total", &[("cluster", "copies")]);
    assert_eq!(errors(&gateway), 2.0);
    drop(gateway);
    let mirror = PlayedUpstream::start();
    let gateway = builder(mirror.address(), ", timeout = \"100ms\"", "").io(driver).start();
    assert_eq!(gateway.connect().get("/").unwrap().status, 200);
    let copy = mirror.accept();
    wait_for(&gateway, "failed", 1);
    assert_eq!(errors(&gateway), 1.0);
    copy.wait_closed();
    assert_eq!(gateway.metric("ringward_upstream_errors_total", &[("cluster", "echo")]), 0.0);
    // An answer without an end, and one that is too long, are not read to theirs.
    assert_eq!(gateway.connect().get("/").unwrap().status, 200);
    let mut copy = mirror.accept();
    copy.head();
    copy.send("HTTP/1.1 200 OK\r\ncontent-length: 1000000000\r\n\r\nx");
    wait_for(&gateway, "answered", 1);
    copy.wait_closed();
}

fn a_copy_of_a_request_that_breaks_off_breaks_off(driver: &str) {
    let mirror = PlayedUpstream::start();
    let gateway = builder(mirror.address(), "", "").io(driver).start();
    let mut connection = gateway.connect();
    let head = connection.head("POST", "/upload", &[("content-length", "1000")]);
    connection.send(&[&head[..], b"a part"].concat()).unwrap();
    let mut copy = mirror.accept();
    copy.head();
    assert_eq!(copy.exactly(6), "a part");
    connection.reset();
    assert_eq!(copy.wait_closed(), b"");
    wait_for(&gateway, "incomplete", 1);
}

fn no_more_copies_than_allowed_are_under_way(driver: &str) {
    for (mirror_keys, cluster_keys) in [(", requests_max = 1", ""), ("", "requests_max = 1")] {
        let mirror = PlayedUpstream::start();
        let gateway = builder(mirror.address(), mirror_keys, cluster_keys).io(driver).start();
        let mut connection = gateway.connect();
        assert_eq!(connection.get("/first").unwrap().status, 200);
        let mut copy = mirror.accept();
        assert!(copy.head().starts_with("GET /first "));
        for _ in 0..3 {
            assert_eq!(connection.get("/more").unwrap().status, 200);
        }
        wait_for(&gateway, "limit", 3);
        copy.send("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
        wait_for(&gateway, "answered", 1);
        assert_eq!(connection.get("/later").unwrap().status, 200);
        assert!(copy.head().starts_with("GET /later "), "there is room again");
    }
}

fn a_mirror_may_speak_http2(driver: &str) {
    let mirror = Http2Upstream::start();
    let gateway = builder(mirror.address(), "", "protocol = \"http2\"").io(driver).start();
    let body = Pattern::new(MIB / 8);
    for (index, speaks) in BOTH.into_iter().enumerate() {
        let mut caller = Caller::new(&gateway, speaks);
        let fields = [("te", "trailers"), ("content-type", "application/json")];
        assert_eq!(caller.request("POST", "/one", &fields, b"small").status, 200);
        assert_eq!(caller.upload("/two", body, true).echo().body_sha256, body.sha256_hex());
        assert_eq!(caller.upload_with_trailers("/three", "body", &[("x-sum", "1")]).status, 200);
        assert_eq!(caller.get("/four").status, 200);
        wait_for(&gateway, "answered", 4 * (index + 1));
    }
    let requests = mirror.requests();
    assert_eq!(requests.len(), 8);
    let ones: Vec<_> = requests.iter().filter(|request| request.target == "/one").collect();
    assert!(ones.len() == 2 && ones.iter().all(|one| one.headers.get("te") == Some("trailers")));
    assert!(requests.iter().all(|request| request.target == "/one" || !request.headers.contains("te")));
    assert!(ones.iter().all(|one| one.headers.get("content-length") == Some("5")));
    assert_eq!(mirror.connections_accepted(), 1, "they share a connection");
}

#[test]
fn chance_decides_which_requests_are_copied() {
    let mirror = Upstream::start();
    let gateway = builder(mirror.address(), ", percent = 25", "").start();
    let mut connection = gateway.connect();
    for _ in 0..400 {
        assert_eq!(connection.get("/").unwrap().status, 200);
    }
    // Further away than this it is less than once in 10^8.
    let copies = || gateway.metric(FINISHED, &[("cluster", "copies")]);
    eventually(ringward_testkit::DEADLINE, "copies end", || mirror.requests().len() as f64 == copies());
    assert!((50.0..150.0).contains(&copies()), "{}", copies());
    let before = copies();
    gateway.reconfigure("percent = 25", "percent = 0");
    let mut connection = gateway.connect();
    (0..50).for_each(|_| assert_eq!(connection.get("/").unwrap().status, 200));
    assert_eq!(copies(), before);
}

#[test]
fn what_is_refused_or_asks_for_another_protocol_is_not_copied() {
    let mirror = PlayedUpstream::start();
    let lines = "cluster = \"echo\"\nmirror = { cluster = \"copies\" }\nupgrade = [\"websocket\"]";
    let policy = "package ringward.authz\n\ndecision := {\"allowed\": input.request.path != \"/secret\"}\n";
    let host = Host::new(&[HOST])
        .policy("main")
        .route("path = \"/{rest...}\"", lines)
        .route("path = \"/dead\"", "cluster = \"dead\"\nmirror = { cluster = \"copies\" }");
    let (_socket, nobody) = deserted();
    let gateway = Gateway::builder()
        .policy("main", policy)
        .section(&format!("[cluster.copies]\nendpoints = \"{}\"", mirror.address()))
        .section(&format!("[cluster.dead]\nendpoints = \"{nobody}\""))
        .host(host)
        .start();
    gateway.upstream.on("/ws", Script::new().respond(403, &[], ""));
    assert_eq!(gateway.connect().get("/secret").unwrap().status, 403);
    assert_eq!(gateway.connect().get("/dead").unwrap().status, 502);
    let upgrade = [
        ("connection", "upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    assert_eq!(gateway.connect().request("GET", "/ws", &upgrade, b"").unwrap().status, 403);
    assert_eq!(gateway.connect().get("/plain").unwrap().status, 200);
    let mut copy = mirror.accept();
    assert!(copy.head().starts_with("GET /plain "));
    assert!(mirror.accept_waiting().is_none());
    assert_eq!(gateway.metric(FINISHED, &[("cluster", "copies")]), 0.0);
}

/// Else it would be sent by a decision that is not in force any more.
#[test]
fn a_copy_that_waits_for_its_connection_while_the_configuration_changes_is_not_sent() {
    let (socket, waiting, address) = congested();
    let gateway = builder(address, "", "connect_timeout = \"30s\"").start();
    assert_eq!(gateway.connect().get("/").unwrap().status, 200);
    gateway.reconfigure("[cluster.copies]", "# changed\n[cluster.copies]");
    for _ in &waiting {
        socket.accept().unwrap();
    }
    let (mut stream, _) = socket.accept().unwrap();
    wait_for(&gateway, "stale", 1);
    drop(gateway);
    let mut received = Vec::new();
    let _ = stream.read_to_end(&mut received);
    assert_eq!(received, b"");
}

#[test]
fn commands_say_where_copies_go() {
    let (_socket, nobody) = deserted();
    let builder = builder(nobody, ", percent = 5", "");
    let client = builder.root().issue(&Leaf::client("caller"));
    let file = builder.pki().write("caller.pem", client.chain_pem());
    let gateway = builder.start();
    let (said, _) = gateway.command("route", &[HOST, "/a", "--cert", file.to_str().unwrap()]);
    assert!(said.contains("action    cluster echo\nmirror    5 % mirrored to copies\n"), "{said}");
    let (said, _) = gateway.command("check", &[]);
    assert!(said.contains(" → cluster echo, 5 % mirrored to copies, "), "{said}");
}

/// Whoever gets a copy made gets something done at the mirror, also without seeing the answer.
#[test]
fn prove_warns_of_copies_that_lead_around_what_is_required() {
    let config = |mirror: &str| {
        Gateway::builder()
            .section("[cluster.open]\nendpoints = \"127.0.0.1:1\"")
            .host(
                Host::new(&[HOST]).route("path = \"/orders/{id}\"", "cluster = \"echo\"\nrequire = \"mtls\""),
            )
            .another_listener("inside")
            .host(
                Host::new(&["inside.example.com"])
                    .client_auth("mode = \"off\"")
                    .route("path = \"/{rest...}\"", &format!("cluster = \"open\"\n{mirror}")),
            )
            .command("prove", &[])
            .0
    };
    let warned = |said: &str| said.contains("clients that have proved nothing reach");
    let said = config("mirror = { cluster = \"echo\" }");
    assert!(warned(&said) && said.contains("of cluster echo"), "{said}");
    let said = config("");
    assert!(!warned(&said), "{said}");
}
