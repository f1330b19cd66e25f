//! Servers that ask for our certificate get it, and everything goes through.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::thread;

use ringward_testkit::{Echo, Pattern, Upstream, sha256_hex};

use super::servers::Server;
use super::support::{HOST, Host, on_both_drivers};
use super::{HANDSHAKES, MUTUAL, OPENED, Scene};

on_both_drivers!(nginx_sees_our_certificate, bodies_of_any_size_and_framing_go_both_ways);

fn nginx_sees_our_certificate(driver: &str) {
    let mut scene = Scene::new();
    scene.builder = scene.builder.io(driver);
    let nginx = Server::nginx(&scene, "");
    let gateway = scene.start(nginx.address, "", MUTUAL);
    let mut client = gateway.connect();
    for resumed in [".", ".", "r", "r"] {
        // A response to two requests ends each connection.
        let response = client.get("/who").unwrap();
        let expected = format!("CN=ringward-client|orders.internal|{resumed}|TLSv1.3");
        assert_eq!((response.status, response.text()), (200, &*expected));
    }
    gateway.wait_for_metric(OPENED, &[("cluster", "others")], 2.0);
    gateway.wait_for_metric(HANDSHAKES, &[("cluster", "others"), ("how", "full")], 1.0);
    gateway.wait_for_metric(HANDSHAKES, &[("cluster", "others"), ("how", "resumed")], 1.0);
}

#[test]
fn haproxy_sees_our_certificate_in_both_versions_and_protocols() {
    for (bind, cluster, tls, expected) in [
        ("", "", "", "TLSv1.3|"),
        ("alpn h2,http/1.1", "", "", "TLSv1.3|http/1.1"),
        ("alpn h2,http/1.1", "protocol = \"http2\"", "", "TLSv1.3|h2"),
        ("ssl-max-ver TLSv1.2", "", "min_version = \"1.2\"", "TLSv1.2|"),
    ] {
        let scene = Scene::new();
        let haproxy = Server::haproxy(&scene, bind, None);
        let gateway = scene.start(haproxy.address, cluster, &format!("{MUTUAL}{tls}"));
        let response = gateway.connect().get("/").unwrap();
        let expected = format!("ringward-client|orders.internal|0|{expected}");
        assert_eq!((response.status, response.text()), (200, &*expected), "{bind} {cluster}");
    }
}

fn bodies_of_any_size_and_framing_go_both_ways(driver: &str) {
    let echo = Upstream::start();
    for cluster in ["", "protocol = \"http2\""] {
        let mut scene = Scene::new();
        scene.builder = scene.builder.io(driver);
        let haproxy = Server::haproxy(&scene, "alpn h2,http/1.1", Some(echo.address()));
        let gateway = scene.start(haproxy.address, cluster, MUTUAL);
        let mut client = gateway.connect();
        for bytes in [0, 1, 16_383, 16_385, 70_000, 3_000_000] {
            let body = Pattern::new(bytes);
            for chunked in [false, true] {
                let response = client.upload("/echo", body, chunked).unwrap();
                let echo = Echo::of(&response);
                assert_eq!((echo.body_bytes, echo.body_sha256), (bytes, body.sha256_hex()), "{cluster}");
            }
            for path in [format!("/big/{bytes}"), format!("/big-chunked/{bytes}")] {
                let response = client.get(&path).unwrap();
                assert_eq!(sha256_hex(&response.body), body.sha256_hex(), "{cluster} {path}");
            }
        }
        assert_eq!(
            gateway.metric(HANDSHAKES, &[("cluster", "others")]),
            1.0,
            "{cluster}: one connection for all"
        );
    }
    assert!(echo.errors().is_empty(), "{:?}", echo.errors());
}

/// A server that switches to whatever it is asked for, and gives everything back.
fn switching() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        while let Ok((stream, _)) = listener.accept() {
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let mut line = String::new();
            while reader.read_line(&mut line).is_ok_and(|length| length > 2) {
                line.clear();
            }
            let mut stream = stream;
            let head = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: chat\r\n\r\n";
            stream.write_all(head.as_bytes()).unwrap();
            let _ = std::io::copy(&mut reader, &mut stream);
        }
    });
    address
}

#[test]
fn a_tunnel_goes_by_tls() {
    let scene = Scene::new();
    let haproxy = Server::haproxy(&scene, "", Some(switching()));
    let section = format!(
        "[cluster.chat]\nendpoints = [\"{}\"]\n[cluster.chat.tls]\nca = \"up-ca.pem\"\n{MUTUAL}",
        haproxy.address
    );
    let host = Host::new(&[HOST]).route("path = \"/{rest...}\"", "cluster = \"chat\"\nupgrade = [\"chat\"]");
    let gateway = scene.builder.section(&section).host(host).start();
    let mut client = gateway.connect();
    let head = client.head("GET", "/", &[("connection", "upgrade"), ("upgrade", "chat")]);
    client.send(&head).unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.extend(client.exactly(1).unwrap());
    }
    assert!(answer.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&answer));
    for length in [1, 20_000, 300_000] {
        let bytes = Pattern::new(length).to_vec();
        client.send(&bytes).unwrap();
        assert_eq!(client.exactly(bytes.len()).unwrap(), bytes);
    }
}
