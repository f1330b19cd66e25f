//! Upstreams that are not who they should be, or do not do as they should: what is told, and that nothing reaches them.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::thread;

use ringward_testkit::{Authority, DEADLINE, Leaf, eventually};

use super::servers::Server;
use super::support::Gateway;
use super::{ERRORS, MUTUAL, NAMED, Scene};

/// A request fails like this; `said` is in the record.
#[track_caller]
fn expect(gateway: &Gateway, status: u16, flag: &str, said: &str) {
    let response = gateway.connect().get("/secret").unwrap();
    eventually(DEADLINE, "a record", || !gateway.lines("request").is_empty());
    let record = gateway.lines("request").remove(0);
    assert_eq!(record["flag"], flag, "{record}");
    assert_eq!((response.status, &record["status"]), (status, &status.into()), "{record}");
    // The client learns nothing of it.
    assert!(["bad gateway\n", "gateway timeout\n"].contains(&response.text()), "{}", response.text());
    assert!(record["reason"].as_str().unwrap().contains(said), "{record}");
    gateway.wait_for_metric(ERRORS, &[("cluster", "others"), ("reason", flag)], 1.0);
}

#[test]
fn a_certificate_that_is_not_the_upstreams_is_refused() {
    let issue = |leaf: Leaf| move |ca: &Authority| ca.issue(&leaf);
    let stranger = Authority::root("Upstream Root");
    type Issue<'a> = Box<dyn Fn(&Authority) -> ringward_testkit::Issued + 'a>;
    let cases: [(Issue<'_>, &str, &str, &str); 8] = [
        (Box::new(|_| stranger.issue(&Leaf::server(super::NAME))), NAMED, "unknown_ca", "same name"),
        (Box::new(issue(Leaf::server("other.internal"))), NAMED, "name_mismatch", "other.internal"),
        (Box::new(issue(Leaf::server(super::NAME))), "", "name_mismatch", "127.0.0.1"),
        (Box::new(issue(Leaf::server(super::NAME).expired())), NAMED, "expired", "expired"),
        (Box::new(issue(Leaf::server(super::NAME).not_yet_valid())), NAMED, "not_yet_valid", "not valid"),
        (
            Box::new(issue(Leaf::client(super::NAME).dns(super::NAME))),
            NAMED,
            "bad_certificate",
            "certificate",
        ),
        (
            Box::new(issue(Leaf::server(super::NAME).spiffe("spiffe://td/ns/payroll"))),
            "spiffe_ids = [\"spiffe://td/ns/pay/*\", \"spiffe://td/ns/pay\"]",
            "name_mismatch",
            "payroll",
        ),
        (
            Box::new(issue(Leaf::server(super::NAME))),
            "server_name = \"orders.internal\"\npins = [\"sha256/AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\", \
             \"sha256/AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\"]",
            "pin_mismatch",
            "pins",
        ),
    ];
    for (issue, tls, reason, said) in cases {
        let scene = Scene::new();
        scene.serve_with(&issue(&scene.authority));
        let server = Server::openssl(scene.builder.pki().path(), &[]);
        let gateway = scene.start(server.address, "", tls);
        expect(&gateway, 502, &format!("upstream_tls_{reason}"), said);
    }
}

/// Handshakes that fail make an outlier, so that not each new connection tries it first.
#[test]
fn who_fails_handshakes_is_left_out() {
    let scene = Scene::new();
    scene.serve_with(&scene.authority.issue(&Leaf::server(super::NAME).expired()));
    let bad = Server::openssl(scene.builder.pki().path(), &[]);
    scene.serve_with(&scene.authority.issue(&Leaf::server(super::NAME)));
    let good = Server::openssl(scene.builder.pki().path(), &[]);
    let keys = format!(
        "outlier_detection = {{ consecutive_failures = 2 }}\n[cluster.others.tls]\nca = \"up-ca.pem\"\n{NAMED}"
    );
    let gateway = scene.builder.endpoints(&[bad.address, good.address], &keys).start();
    let ejections = || gateway.metric("ringward_upstream_ejections_total", &[("reason", "tls")]);
    eventually(DEADLINE, "it is left out", || {
        assert_eq!(gateway.connect().get("/").unwrap().status, 200, "the next endpoint is asked at once");
        ejections() == 1.0
    });
    assert_eq!(gateway.metric("ringward_upstream_endpoints_ejected", &[("cluster", "others")]), 1.0);
}

#[test]
fn what_is_configured_is_what_is_accepted() {
    let address = "127.0.0.1".parse().unwrap();
    for (leaf, tls) in [
        (Leaf::server(super::NAME), NAMED),
        (Leaf::server("other.internal").ip(address), ""),
        (Leaf::server("other.internal").ip(address), "server_name = \"127.0.0.1\""),
        (Leaf::server("x").spiffe("spiffe://td/ns/pay/sa/x"), "spiffe_ids = \"spiffe://td/ns/pay/*\""),
        (
            Leaf::server("x").spiffe("spiffe://td/ns/pay"),
            "spiffe_ids = [\"spiffe://td/a\", \"spiffe://td/ns/pay\"]",
        ),
        (Leaf::server("x").spiffe("spiffe://td/ns/pay"), "spiffe_ids = [\"spiffe://td/*\"]"),
    ] {
        let scene = Scene::new();
        scene.serve_with(&scene.authority.issue(&leaf));
        let server = Server::openssl(scene.builder.pki().path(), &[]);
        let gateway = scene.start(server.address, "", tls);
        assert_eq!(gateway.connect().get("/").unwrap().status, 200, "{tls}");
    }
}

#[test]
fn who_agrees_on_nothing_with_us_is_told_apart() {
    let weak = ["-tls1", "-cipher", "DEFAULT@SECLEVEL=0"];
    for (options, cluster, reason) in [
        (&weak[..], "", "no_common_version"),
        (&["-tls1_2"], "", "no_common_version"),
        (&["-alpn", "h2"], "", "alpn_refused"),
        (&["-alpn", "http/1.1"], "protocol = \"http2\"", "alpn_refused"),
        (&[], "protocol = \"http2\"", "alpn_refused"),
        (&["-groups", "secp521r1"], "", "no_common_suite"),
    ] {
        let scene = Scene::new();
        let server = Server::openssl(scene.builder.pki().path(), options);
        let gateway = scene.start(server.address, cluster, NAMED);
        expect(&gateway, 502, &format!("upstream_tls_{reason}"), "");
    }
}

#[test]
fn an_upstream_that_refuses_us_is_told_apart() {
    let stranger = Authority::root("Another Root");
    for (bind, cluster, tls, said) in [
        ("", "", NAMED, "we have none"),
        ("", "", MUTUAL, "does it know our CA"),
        ("alpn h2", "protocol = \"http2\"", MUTUAL, "does it know our CA"),
        (
            "ssl-max-ver TLSv1.2",
            "",
            "server_name = \"orders.internal\"\nmin_version = \"1.2\"",
            "we have none",
        ),
    ] {
        let scene = Scene::new();
        scene.builder.pki().write_pem("client", &stranger.issue(&Leaf::client("ringward-client")));
        let haproxy = Server::haproxy(&scene, bind, None);
        let gateway = scene.start(haproxy.address, cluster, tls);
        expect(&gateway, 502, "upstream_tls_certificate_refused", said);
    }
}

/// What is sent to whoever connects, before and after the first bytes have come, and whether the connection stays open.
struct Played {
    greeting: &'static [u8],
    answer: &'static [u8],
    stays: bool,
}

/// A server that plays this to each client, and notes whether it has learned a secret.
fn play(played: Played) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        let mut open = Vec::new();
        while let Ok((mut stream, _)) = listener.accept() {
            let _ = stream.write_all(played.greeting);
            let mut bytes = [0; 16_384];
            let length = stream.read(&mut bytes).unwrap_or(0);
            assert!(!bytes[..length].windows(6).any(|bytes| bytes == b"secret"), "a request in the clear");
            let _ = stream.write_all(played.answer);
            if played.stays {
                open.push(stream);
            }
        }
    });
    address
}

#[test]
fn what_is_no_tls_is_told_apart() {
    for (played, status, reason) in [
        (
            Played { greeting: b"", answer: b"HTTP/1.1 400 Bad Request\r\n\r\n", stays: false },
            502,
            "malformed",
        ),
        (Played { greeting: b"220 mail.example.com ESMTP\r\n", answer: b"", stays: true }, 502, "malformed"),
        (Played { greeting: b"", answer: b"", stays: false }, 502, "closed"),
        // The beginning of a record that never ends.
        (Played { greeting: b"", answer: b"\x16\x03\x03\x40\x00\x02", stays: false }, 502, "closed"),
        (Played { greeting: b"", answer: b"\x16\x03\x03\x40\x00\x02", stays: true }, 504, "timeout"),
        (Played { greeting: b"", answer: b"", stays: true }, 504, "timeout"),
        (Played { greeting: b"", answer: b"\x15\x03\x03\x00\x02\x02\x70", stays: false }, 502, "peer_alert"),
    ] {
        let address = play(played);
        let gateway = Scene::new().start(address, "connect_timeout = \"2s\"", NAMED);
        // The setting, and not what the connection has left of it.
        let words = if reason == "timeout" { "not over within 2s (`connect_timeout`)" } else { "" };
        expect(&gateway, status, &format!("upstream_tls_{reason}"), words);
    }
}

/// A server that trickles its flight in time is served; the whole handshake has one limit.
#[test]
fn a_handshake_that_trickles_is_waited_for() {
    let scene = Scene::new();
    let server = Server::openssl(scene.builder.pki().path(), &[]);
    let behind = server.address;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        while let Ok((mut client, _)) = listener.accept() {
            let mut server = std::net::TcpStream::connect(behind).unwrap();
            let (mut from, mut to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            thread::spawn(move || std::io::copy(&mut from, &mut to));
            let mut byte = [0; 7];
            while let Ok(length @ 1..) = server.read(&mut byte) {
                client.set_nodelay(true).unwrap();
                if client.write_all(&byte[..length]).is_err() {
                    break;
                }
                thread::yield_now();
            }
        }
    });
    let gateway = scene.start(address, "connect_timeout = \"20s\"", NAMED);
    assert_eq!(gateway.connect().get("/").unwrap().status, 200);
}

/// A server that answers with a body without a length, and ends the connection, of TLS as well or not.
fn server_of_endless(scene: &Scene, says_goodbye: bool) -> SocketAddr {
    let issued = scene.authority.issue(&Leaf::server(super::NAME));
    let config =
        rustls::ServerConfig::builder_with_provider(rustls::crypto::aws_lc_rs::default_provider().into())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(issued.chain().to_vec(), issued.key())
            .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        while let Ok((mut tcp, _)) = listener.accept() {
            let mut tls = rustls::ServerConnection::new(config.clone().into()).unwrap();
            let mut stream = rustls::Stream::new(&mut tls, &mut tcp);
            if stream.read(&mut [0; 4096]).is_ok() {
                stream.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nthe first half").unwrap();
            }
            if says_goodbye {
                tls.send_close_notify();
            }
            while tls.wants_write() && tls.write_tls(&mut tcp).is_ok() {}
        }
    });
    address
}

/// A body without a length ends with the connection, and that the upstream has ended it has to be said by TLS: else somebody on
/// the way could cut it short.
#[test]
fn a_body_that_is_cut_off_does_not_look_complete() {
    for says_goodbye in [true, false] {
        let scene = Scene::new();
        let address = server_of_endless(&scene, says_goodbye);
        let gateway = scene.start(address, "", NAMED);
        let response = gateway.connect().get("/endless");
        if says_goodbye {
            assert_eq!(response.unwrap().text(), "the first half");
        } else {
            assert!(response.is_err(), "{response:?}");
            gateway.wait_for_record("flag", "upstream_reset");
        }
    }
}
