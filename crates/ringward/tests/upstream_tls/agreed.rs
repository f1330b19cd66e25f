//! Endpoints that choose between HTTP/2 and HTTP/1.1 by ALPN (`protocol = "auto"`): each connection speaks what was agreed on.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::thread;

use ringward_testkit::{Connection, DEADLINE, Http2, eventually};

use super::servers::Server;
use super::support::{Builder, Gateway, HOST, Host, PlayedUpstream, on_both_drivers};
use super::{ERRORS, HANDSHAKES, MUTUAL, OPENED, Scene};

on_both_drivers!(
    each_endpoint_is_spoken_to_as_it_agrees,
    a_burst_shares_what_can_be_shared,
    endpoints_change_their_mind
);

const AUTO: &str = "protocol = \"auto\"";

fn keys(cluster: &str) -> String {
    format!("{AUTO}\n{cluster}\n[cluster.others.tls]\nca = \"up-ca.pem\"\n{MUTUAL}")
}

fn builder(scene: Scene, endpoints: &[SocketAddr], cluster: &str) -> Builder {
    scene.builder.endpoints(endpoints, &keys(cluster))
}

/// What is spoken, and on which of the server's connections.
fn spoken(connection: &mut Connection) -> (String, String) {
    let response = connection.get("/protocol").unwrap();
    assert_eq!(response.status, 200, "{}", response.text());
    let (protocol, number) = response.text().split_once(' ').unwrap();
    (protocol.to_owned(), number.to_owned())
}

fn each_endpoint_is_spoken_to_as_it_agrees(driver: &str) {
    let mut scene = Scene::new();
    scene.builder = scene.builder.io(driver);
    let servers = [true, false].map(|http2| Server::nginx_speaking(&scene, http2));
    let endpoints = servers.each_ref().map(|server| server.address);
    let gateway = builder(scene, &endpoints, "").start();
    let mut connection = gateway.connect();
    let mut said: Vec<_> = (0..8).map(|_| spoken(&mut connection).0).collect();
    said.sort();
    assert_eq!(said, [["HTTP/1.1"; 4], ["HTTP/2.0"; 4]].concat());
    // Each connection is used again, the one on which it was found out what is spoken as well.
    gateway.wait_for_metric(OPENED, &[("cluster", "others")], 2.0);
    gateway.wait_for_metric(HANDSHAKES, &[("cluster", "others")], 2.0);
    // What a client speaks makes no difference.
    let mut http2 = Http2::new(gateway.client().alpn(&["h2"]).connect(gateway.edge).unwrap(), &[]);
    let mut said = Vec::new();
    for stream in [1, 3] {
        http2.request(stream, "GET", "/protocol", &[], true).unwrap();
        said.push(String::from_utf8(http2.response(stream).1).unwrap());
    }
    said.sort();
    assert!(said[0].starts_with("HTTP/1.1 ") && said[1].starts_with("HTTP/2.0 "), "{said:?}");
    assert_eq!(gateway.metric(ERRORS, &[]), 0.0);
}

/// Rule: before it is known what an endpoint speaks, no request waits for more than one handshake in vain, and none is lost.
fn a_burst_shares_what_can_be_shared(driver: &str) {
    for http2 in [true, false] {
        let mut scene = Scene::new();
        scene.builder = scene.builder.io(driver);
        let server = Server::nginx_speaking(&scene, http2);
        let gateway = builder(scene, &[server.address], "").workers(1).start();
        let clients: Vec<_> = (0..16).map(|_| gateway.connect()).collect();
        let answers: BTreeSet<_> = thread::scope(|scope| {
            let asking = clients.into_iter().map(|mut client| scope.spawn(move || spoken(&mut client)));
            let asking: Vec<_> = asking.collect();
            asking.into_iter().map(|answer| answer.join().unwrap()).collect()
        });
        let expected = if http2 { "HTTP/2.0" } else { "HTTP/1.1" };
        assert!(answers.iter().all(|(protocol, _)| protocol == expected), "{answers:?}");
        let opened = gateway.metric(OPENED, &[("cluster", "others")]);
        if http2 {
            assert_eq!((answers.len(), opened), (1, 1.0), "they share one");
        } else {
            assert!(opened <= 16.0, "one each at most: {opened}");
        }
        assert_eq!(gateway.metric(ERRORS, &[]), 0.0);
    }
}

fn endpoints_change_their_mind(driver: &str) {
    let mut scene = Scene::new();
    scene.builder = scene.builder.io(driver);
    let directory = scene.builder.pki().path().to_owned();
    let mut server = Server::nginx_speaking(&scene, false);
    let gateway = builder(scene, &[server.address], "").start();
    let mut connection = gateway.connect();
    for (http2, expected) in [(false, "HTTP/1.1"), (true, "HTTP/2.0"), (false, "HTTP/1.1")] {
        server = server.replace(&directory, http2);
        // Those that were open before have ended, which is as with any upstream that starts anew.
        eventually(DEADLINE, expected, || connection.get("/protocol").unwrap().text().starts_with(expected));
        let (first, second) = (spoken(&mut connection), spoken(&mut connection));
        assert_eq!((first.0.as_str(), &first), (expected, &second), "the same connection");
    }
}

#[test]
fn haproxy_agrees_to_what_it_offers_and_upgrades_pass() {
    for (bind, expected) in [("alpn h2,http/1.1", "h2"), ("alpn http/1.1", "http/1.1"), ("", "")] {
        let scene = Scene::new();
        let haproxy = Server::haproxy(&scene, bind, None);
        let gateway = scene.start(haproxy.address, AUTO, MUTUAL);
        let response = gateway.connect().get("/").unwrap();
        let expected = format!("ringward-client|orders.internal|0|TLSv1.3|{expected}");
        assert_eq!((response.status, response.text()), (200, &*expected), "{bind}");
    }
    let scene = Scene::new();
    let played = PlayedUpstream::start();
    let haproxy = Server::haproxy(&scene, "alpn http/1.1", Some(played.address()));
    let host =
        Host::new(&[HOST]).route("path = \"/{rest...}\"", "cluster = \"others\"\nupgrade = [\"raw/1\"]");
    let clusters = format!("[cluster.others]\nendpoints = {:?}\n{}", haproxy.address.to_string(), keys(""));
    let gateway = scene.builder.section(&clusters).host(host).start();
    let mut client = gateway.connect();
    client.send(&client.head("GET", "/chat", &[("connection", "upgrade"), ("upgrade", "raw/1")])).unwrap();
    let mut server = played.accept();
    assert!(server.head().to_ascii_lowercase().contains("upgrade: raw/1"));
    server.send("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: raw/1\r\n\r\nhello");
    assert_eq!(client.response().unwrap().status, 101);
    assert_eq!(client.exactly(5).unwrap(), b"hello");
}

#[test]
fn grpc_is_not_sent_by_http1() {
    let scene = Scene::new();
    let [speaks, does_not] = [true, false].map(|http2| Server::nginx_speaking(&scene, http2));
    let clusters: String = [("yes", &speaks), ("no", &does_not)]
        .map(|(name, server)| {
            format!(
                "[cluster.{name}]\nendpoints = {:?}\n{AUTO}\n\
                 tls = {{ ca = \"up-ca.pem\", server_name = \"orders.internal\", \
                 certificate = {{ chain = \"client.pem\", key = \"client.key\" }} }}\n",
                server.address.to_string()
            )
        })
        .concat();
    let host = Host::new(&[HOST])
        .route("grpc = \"a.Yes/*\"", "cluster = \"yes\"")
        .route("grpc = \"a.No/*\"", "cluster = \"no\"")
        .route("path = \"/protocol\"", "cluster = \"no\"");
    let gateway = scene.builder.listener("http2 = true").section(&clusters).host(host).start();
    let call = |path: &str| {
        let mut http2 = Http2::new(gateway.client().alpn(&["h2"]).connect(gateway.edge).unwrap(), &[]);
        http2.request(1, "POST", path, &[("content-type", "application/grpc")], true).unwrap();
        http2.response(1);
    };
    call("/a.Yes/Call");
    assert_eq!(gateway.wait_for_record("path", "/a.Yes/Call").get("flag"), None);
    // Also where a connection is kept that could be used.
    assert_eq!(spoken(&mut gateway.connect()).0, "HTTP/1.1");
    for path in ["/a.No/First", "/a.No/Second"] {
        call(path);
        let record = gateway.wait_for_record("path", path);
        assert_eq!(record["flag"], "upstream_tls_alpn_refused", "{record}");
        assert_eq!(record["grpc_status"], "unavailable", "{record}");
        assert!(record["reason"].as_str().unwrap().contains("agreed to HTTP/1.1"), "{record}");
    }
    gateway.wait_for_metric(ERRORS, &[("cluster", "no"), ("reason", "upstream_tls_alpn_refused")], 2.0);
}

#[test]
fn checks_speak_what_is_agreed_on() {
    let scene = Scene::new();
    let servers = [true, false].map(|http2| Server::nginx_speaking(&scene, http2));
    let endpoints = servers.each_ref().map(|server| server.address);
    let check = "health_check = { http = \"/protocol\", interval = \"100ms\", timeout = \"20s\" }";
    let gateway = builder(scene, &endpoints, check).start();
    gateway.wait_for_metric("ringward_upstream_endpoints", &[("health", "healthy")], 2.0);

    let scene = Scene::new();
    let server = Server::nginx_speaking(&scene, false);
    let check = "health_check = { grpc = \"\", interval = \"100ms\", timeout = \"20s\" }";
    let gateway: Gateway = builder(scene, &[server.address], check).start();
    eventually(DEADLINE, "the check says why it fails", || {
        let lines = gateway.messages("upstream endpoint is unhealthy");
        lines.iter().any(|line| line["reason"].as_str().unwrap().contains("agreed to HTTP/1.1"))
    });
}
