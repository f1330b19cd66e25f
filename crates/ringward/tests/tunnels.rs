//! Tunnels through the gateway: upgraded connections of HTTP/1.1, and streams of extended CONNECT.
#![allow(clippy::unwrap_used, reason = "a failed expectation here is a failed test")]
#![allow(clippy::print_stdout, reason = "what is measured is for whoever asks for it")]

mod support;
mod tunnels_support;

use std::{
    io::{Read, Write},
    net::Shutdown,
    thread,
    time::{Duration, Instant},
};

use ringward_testkit::{
    Closing, Connection, Crl, DEADLINE, Leaf, Pattern, Signal, eventually, flags, kind, sha256_hex,
};
use serde_json::Value;

use self::support::{Gateway, HOST, Host, PlayedConnection, PlayedUpstream, on_both_drivers, publish};
use self::tunnels_support::{ACCEPT, Ending, KEY, Over, Peer, accept, builder, open, switched};

on_both_drivers!(
    bytes_pass_both_ways_and_are_recorded,
    much_passes_both_ways_at_once,
    each_direction_ends_by_itself,
    small_messages_are_no_flood,
    a_peer_that_vanishes_ends_the_other_side,
    a_silent_tunnel_ends,
    a_peer_that_takes_nothing_holds_little,
    withdrawn_trust_cuts_a_tunnel,
    withdrawn_trust_cuts_a_tunnel_that_stands_still,
    a_client_that_resets_is_noticed_while_the_upstream_stands_still,
    the_drain_timeout_cuts_tunnels,
);

const BOTH: [Over; 2] = [Over::Http1, Over::Http2];

fn bytes_pass_both_ways_and_are_recorded(driver: &str) {
    let upstream = PlayedUpstream::start();
    let gateway = builder(&upstream, "upgrade = [\"raw/1\"]").io(driver).start();
    for over in BOTH {
        let mut client = Peer::connect(&gateway, over);
        client.ask("/chat?room=1", "RAW/1", &[("x-a", "1"), ("cookie", "c=2")]);
        let mut server = upstream.accept();
        let head = server.head().to_ascii_lowercase();
        assert!(head.starts_with("get /chat?room=1 http/1.1\r\nhost: api.example.com\r\n"), "{head}");
        assert!(head.ends_with("connection: upgrade\r\nupgrade: raw/1\r\n\r\n"), "{head}");
        assert_eq!(head.matches("upgrade").count(), 2, "{head}");
        assert!(head.contains("\r\nx-a: 1\r\n") && head.contains("\r\ncookie: c=2\r\n"), "{head}");
        assert!(head.contains("\r\nclient-cert: :mii") && !head.contains("content-length"), "{head}");
        // The first bytes may come with the head.
        server.send(&(switched("raw/1") + "hello"));
        client.is_open();
        assert_eq!(client.exactly(5), b"hello");
        gateway.wait_for_metric("ringward_tunnels_active", &[], 1.0);
        client.send(b"GET /admin HTTP/1.1\r\n\r\n");
        assert_eq!(server.exactly(23), "GET /admin HTTP/1.1\r\n\r\n", "nobody looks at bytes");
        server.send("HTTP/1.1 200 OK\r\n\r\n");
        assert_eq!(client.exactly(19), b"HTTP/1.1 200 OK\r\n\r\n");
        client.end();
        assert_eq!(server.stream.read(&mut [0]).unwrap(), 0, "the end arrives as such");
        server.send("bye");
        drop(server);
        assert_eq!(client.rest(), (b"bye".to_vec(), Ending::Orderly));

        let status = if over == Over::Http1 { 101 } else { 200 };
        let record = gateway.wait_for_record("status", status);
        assert_eq!((&record["tunnel"], &record["path"]), (&"closed".into(), &"/chat".into()), "{record}");
        assert_eq!((&record["received_bytes"], &record["sent_bytes"]), (&23.into(), &27.into()), "{record}");
        assert!(record.get("flag").is_none() && record["method"] == "GET", "{record}");
        gateway.wait_for_metric("ringward_tunnels_active", &[], 0.0);
    }
    gateway.wait_for_closed("tunnel", 1);
    assert_eq!(gateway.metric("ringward_tunnels_opened_total", &[]), 2.0);
    gateway.wait_for_metric("ringward_tunnel_received_bytes_total", &[], 46.0);
    gateway.wait_for_metric("ringward_tunnel_sent_bytes_total", &[], 54.0);
    assert_eq!(gateway.lines("request").len(), 2, "one record each, and none of what was inside");
}

fn much_passes_both_ways_at_once(driver: &str) {
    const BYTES: u64 = 20 << 20;
    let upstream = PlayedUpstream::start();
    let gateway = builder(&upstream, "upgrade = [\"raw/1\"]").io(driver).start();
    for over in BOTH {
        let mut client = Peer::connect(&gateway, over);
        client.ask("/", "raw/1", &[]);
        let mut server = upstream.accept();
        server.head();
        server.send(&switched("raw/1"));
        client.is_open();
        let mut sending = server.stream.try_clone().unwrap();
        let sent = thread::spawn(move || {
            Pattern::new(BYTES).write_to(&mut sending).unwrap();
            sending.shutdown(Shutdown::Write).unwrap();
        });
        let received = thread::spawn(move || {
            let mut all = Vec::new();
            server.stream.read_to_end(&mut all).unwrap();
            all
        });
        let (back, ending) = client.exchange(&Pattern::new(BYTES).to_vec());
        assert_eq!(ending, Ending::Orderly);
        sent.join().unwrap();
        let expected = Pattern::new(BYTES).sha256_hex();
        assert_eq!(sha256_hex(&received.join().unwrap()), expected, "{over:?}, up");
        assert_eq!(sha256_hex(&back), expected, "{over:?}, down");
    }
    gateway.wait_for_metric("ringward_tunnel_received_bytes_total", &[], 2.0 * BYTES as f64);
    gateway.wait_for_metric("ringward_tunnel_sent_bytes_total", &[], 2.0 * BYTES as f64);
}

fn each_direction_ends_by_itself(driver: &str) {
    let upstream = PlayedUpstream::start();
    let gateway = builder(&upstream, "upgrade = [\"raw/1\"]").io(driver).start();
    for over in BOTH {
        // The client has nothing more to say, and listens.
        let (mut client, mut server) = accept(&gateway, &upstream, over);
        client.send(b"ask");
        client.end();
        assert_eq!(server.exactly(3), "ask");
        assert_eq!(server.stream.read(&mut [0]).unwrap(), 0);
        server.send("answer");
        assert_eq!(client.exactly(6), b"answer");
        server.send(" at length");
        server.stream.shutdown(Shutdown::Write).unwrap();
        assert_eq!(client.rest(), (b" at length".to_vec(), Ending::Orderly));

        // The other way round.
        let (mut client, mut server) = accept(&gateway, &upstream, over);
        server.send("ask");
        server.stream.shutdown(Shutdown::Write).unwrap();
        assert_eq!(client.exactly(3), b"ask");
        client.wait_end();
        client.send(b"answer");
        assert_eq!(server.exactly(6), "answer");
        client.send(b" at length");
        client.end();
        assert_eq!(server.wait_closed(), b" at length");
        gateway.wait_for_metric("ringward_tunnels_active", &[], 0.0);
    }
    for flag in ["client_gone", "upstream_reset"] {
        assert_eq!(gateway.metric("ringward_responses_generated_total", &[("flag", flag)]), 0.0, "{flag}");
    }
}

/// A message is a frame: what looks like a flood of small ones is what WebSockets are for.
fn small_messages_are_no_flood(driver: &str) {
    const MESSAGES: usize = 6_000;
    let upstream = PlayedUpstream::start();
    let gateway = builder(&upstream, "upgrade = [\"raw/1\"]").io(driver).start();
    let (client, mut server) = accept(&gateway, &upstream, Over::Http2);
    let mut http2 = client.into_http2();
    let message = [&[0, 0, 10, kind::DATA, 0, 0, 0, 0, 1][..], b"0123456789"].concat();
    for _ in 0..3 {
        http2.send_many(MESSAGES, &message).unwrap();
        assert_eq!(server.bytes(10 * MESSAGES), b"0123456789".repeat(MESSAGES));
        // One after the other, back and forth.
        for _ in 0..500 {
            http2.send(kind::DATA, 0, 1, b"ping").unwrap();
            assert_eq!(server.exactly(4), "ping");
            server.send("pong");
            assert_eq!(http2.wait_for(kind::DATA).payload, b"pong");
            for stream in [0, 1] {
                http2.send(kind::WINDOW_UPDATE, 0, stream, &4_u32.to_be_bytes()).unwrap();
            }
        }
    }
}

fn a_peer_that_vanishes_ends_the_other_side(driver: &str) {
    let upstream = PlayedUpstream::start();
    let gateway = builder(&upstream, "upgrade = [\"raw/1\"]").io(driver).start();
    let (mut gone, mut reset) = (0.0, 0.0);
    for over in BOTH {
        for busy in [false, true] {
            let (mut client, server) = accept(&gateway, &upstream, over);
            if busy {
                client.send(b"something");
            }
            client.vanish();
            let received = server.wait_closed();
            assert!(received.is_empty() || busy, "{over:?}");
            gone += 1.0;
            gateway.wait_for_metric("ringward_responses_generated_total", &[("flag", "client_gone")], gone);

            let (mut client, mut server) = accept(&gateway, &upstream, over);
            if busy {
                server.send("something");
                assert_eq!(client.exactly(9), b"something");
            }
            socket2::SockRef::from(&server.stream).set_linger(Some(Duration::ZERO)).unwrap();
            drop(server);
            assert_eq!(client.rest(), (Vec::new(), Ending::Broken), "{over:?}: it is no orderly end");
            reset += 1.0;
            gateway.wait_for_metric(
                "ringward_responses_generated_total",
                &[("flag", "upstream_reset")],
                reset,
            );
        }
    }
    // The end of TCP without that of TLS is nobody's word (RFC 8446 §6.1).
    let (client, server) = accept(&gateway, &upstream, Over::Http1);
    client.into_connection().tcp().shutdown(Shutdown::Write).unwrap();
    server.wait_closed();
    gateway.wait_for_metric("ringward_responses_generated_total", &[("flag", "client_gone")], gone + 1.0);
    // A stream of HTTP/2 that is called off leaves its connection to the others.
    let (mut client, server) = accept(&gateway, &upstream, Over::Http2);
    client.call_off();
    server.wait_closed();
    gateway.wait_for_metric("ringward_tunnels_active", &[], 0.0);
    client.ask("/again", "raw/1", &[]);
    upstream.accept().head();
}

fn a_silent_tunnel_ends(driver: &str) {
    let upstream = PlayedUpstream::start();
    let keys = "upgrade = [\"raw/1\"]\ntunnel_idle_timeout = \"1s\"";
    let gateway = builder(&upstream, keys).io(driver).start();
    for (over, count) in BOTH.into_iter().zip([1.0, 2.0]) {
        let (mut client, mut server) = accept(&gateway, &upstream, over);
        // It is longer than the limit that something moves.
        talk(&mut client, &mut server, Duration::from_millis(1_500));
        assert_eq!(client.rest(), (Vec::new(), Ending::Broken));
        assert!(server.wait_closed().is_empty());
        gateway.wait_for_metric("ringward_responses_generated_total", &[("flag", "tunnel_idle")], count);
    }
    gateway.wait_for_closed("idle_timeout", 1);
}

/// Goes on for so long.
fn talk(client: &mut Peer, server: &mut PlayedConnection, time: Duration) {
    let until = Instant::now() + time;
    while Instant::now() < until {
        server.send("a");
        assert_eq!(client.exactly(1), b"a");
        client.send(b"b");
        assert_eq!(server.exactly(1), "b");
    }
}

#[test]
fn the_time_of_a_request_ends_with_the_opening() {
    let upstream = PlayedUpstream::start();
    let gateway = builder(&upstream, "upgrade = [\"raw/1\"]\nrequest_timeout = \"1s\"").start();
    for over in BOTH {
        let (mut client, mut server) = accept(&gateway, &upstream, over);
        talk(&mut client, &mut server, Duration::from_millis(1_500));
        client.end();
        drop(server);
        client.wait_end();
        let mut client = Peer::connect(&gateway, over);
        client.ask("/", "raw/1", &[]);
        let silent = upstream.accept();
        assert_eq!(client.refusal().0, 504, "{over:?}: nobody agrees");
        drop(silent);
    }
}

fn a_peer_that_takes_nothing_holds_little(driver: &str) {
    let upstream = PlayedUpstream::start();
    let gateway = builder(&upstream, "upgrade = [\"raw/1\"]").io(driver).start();
    for over in BOTH {
        let (mut client, mut server) = accept(&gateway, &upstream, over);
        client.send(b"warm");
        assert_eq!(server.exactly(4), "warm");
        let before = gateway.process.resident_bytes();
        // Kernels hold some megabytes, the gateway next to nothing.
        server.stream.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
        let mut sent = 0;
        while let Ok(n) = server.stream.write(&[b'x'; 64 << 10]) {
            sent += n;
            assert!(sent < 64 << 20, "{over:?}: somebody takes it all");
        }
        let grown = gateway.process.resident_bytes().saturating_sub(before);
        assert!(grown < 4 << 20, "{over:?}: {grown} bytes for {sent}");
        // The other direction is none of its business.
        client.send(b"still");
        assert_eq!(server.exactly(5), "still");
        client.vanish();
        server.wait_closed();
    }
}

fn withdrawn_trust_cuts_a_tunnel(driver: &str) {
    for by_list in [true, false] {
        let upstream = PlayedUpstream::start();
        let mut builder = builder(&upstream, "upgrade = [\"raw/1\"]").io(driver).stateful();
        builder = builder.server("trust_grace = \"1s\"");
        if by_list {
            publish(builder.pki(), "root", builder.root(), &Crl::new().number(1));
            builder = builder.trust_key("crl = [\"crl/\"]");
        }
        let gateway = builder.start();
        let victim = gateway.root.issue(&Leaf::client("victim"));
        let files = gateway.client_files("victim", &victim);
        let mut tunnels = Vec::new();
        for over in BOTH {
            let mut theirs = Peer::with(&gateway.client().identity(&victim), &gateway, over);
            let server = open(&mut theirs, &upstream);
            tunnels.push((theirs, server, accept(&gateway, &upstream, over)));
        }
        if by_list {
            let list = Crl::new().number(2).revoke(victim.serial());
            gateway.change(|gateway| drop(publish(&gateway.pki, "root", &gateway.root, &list)));
        } else {
            gateway.ask(&["revoke", "--cert", files.chain.to_str().unwrap(), "--reason", "lost"]);
        }
        for (mut theirs, server, (mut other, mut other_server)) in tunnels {
            assert_eq!(theirs.rest().1, Ending::Broken);
            assert!(server.wait_closed().is_empty());
            other.send(b"still");
            assert_eq!(other_server.exactly(5), "still", "it concerns one client alone");
            other_server.send("here");
            assert_eq!(other.exactly(4), b"here");
        }
        gateway.wait_for_closed("trust_grace", 2);
        let record = gateway.wait_for_record("flag", "trust_withdrawn");
        assert_eq!(record["tunnel"], "closed", "{record}");
        assert!(record["reason"].as_str().unwrap().contains("not trusted any more"), "{record}");
        let enforced = gateway.metric("ringward_trust_enforcement_seconds_count", &[("how", "exchange")]);
        assert_eq!(enforced, 2.0);
    }
}

fn withdrawn_trust_cuts_a_tunnel_that_stands_still(driver: &str) {
    let upstream = PlayedUpstream::start();
    let builder = builder(&upstream, "upgrade = [\"raw/1\"]").io(driver).stateful();
    let gateway = builder.server("trust_grace = \"1s\"").start();
    let victim = gateway.root.issue(&Leaf::client("victim"));
    let files = gateway.client_files("victim", &victim);
    let mut client = Peer::with(&gateway.client().identity(&victim), &gateway, Over::Http1);
    let server = open(&mut client, &upstream);
    let (_connection, sent) = fill(client);
    gateway.ask(&["revoke", "--cert", files.chain.to_str().unwrap(), "--reason", "lost"]);
    gateway.wait_for_closed("trust_grace", 1);
    assert_eq!(gateway.wait_for_record("flag", "trust_withdrawn")["tunnel"], "closed");
    assert!(server.wait_closed().len() < sent, "what the gateway had not taken yet goes no further");
}

/// Sends until nobody takes more: what the gateway holds waits for the upstream, and nothing for the client.
fn fill(client: Peer) -> (Connection, usize) {
    let mut connection = client.into_connection();
    connection.tcp().set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    let mut sent = 0;
    while connection.send(&[b'x'; 64 << 10]).is_ok() {
        sent += 64 << 10;
        assert!(sent < 64 << 20, "somebody takes it all");
    }
    (connection, sent)
}

/// Nothing is read of the client then, and nothing written to it.
fn a_client_that_resets_is_noticed_while_the_upstream_stands_still(driver: &str) {
    let upstream = PlayedUpstream::start();
    let gateway =
        builder(&upstream, "upgrade = [\"raw/1\"]").io(driver).limits("body_timeout = \"10m\"").start();
    let (client, server) = accept(&gateway, &upstream, Over::Http1);
    let (connection, sent) = fill(client);
    connection.reset();
    gateway.wait_for_metric("ringward_responses_generated_total", &[("flag", "client_gone")], 1.0);
    assert!(server.wait_closed().len() < sent, "what the gateway had not taken yet goes no further");

    // Nor of one that has nothing more to say.
    let (mut client, mut server) = accept(&gateway, &upstream, Over::Http1);
    client.send(b"ask");
    client.end();
    assert_eq!(server.exactly(3), "ask");
    assert_eq!(server.stream.read(&mut [0]).unwrap(), 0);
    client.vanish();
    gateway.wait_for_metric("ringward_responses_generated_total", &[("flag", "client_gone")], 2.0);
    assert!(server.wait_closed().is_empty());
}

fn the_drain_timeout_cuts_tunnels(driver: &str) {
    let upstream = PlayedUpstream::start();
    let builder = builder(&upstream, "upgrade = [\"raw/1\"]").io(driver);
    let mut gateway = builder.server("drain_timeout = \"2s\"").start();
    let mut tunnels: Vec<_> = BOTH.into_iter().map(|over| accept(&gateway, &upstream, over)).collect();
    gateway.process.signal(Signal::TERM);
    gateway.process.wait_for_line(DEADLINE, |line| line.contains("draining"));
    for (client, server) in &mut tunnels {
        client.send(b"go on");
        assert_eq!(server.exactly(5), "go on");
    }
    for (mut client, server) in tunnels {
        assert_eq!(client.rest().1, Ending::Broken);
        server.wait_closed();
    }
    assert_eq!(gateway.process.wait(DEADLINE).code(), Some(0));
    let records = gateway.lines("request");
    assert_eq!(records.len(), 2);
    let cut = |record: &Value| record["flag"] == "stopped" && record["tunnel"] == "closed";
    assert!(records.iter().all(cut), "{records:?}");
}

#[test]
fn a_tunnel_has_an_age_and_outlives_its_configuration() {
    let upstream = PlayedUpstream::start();
    let gateway = builder(&upstream, "upgrade = [\"raw/1\"]\ntunnel_age_max = \"3s\"").start();
    let mut tunnels: Vec<_> = BOTH.into_iter().map(|over| accept(&gateway, &upstream, over)).collect();
    // What is decided is the opening: neither another policy nor another route ends what is open.
    gateway.reconfigure("upgrade = [\"raw/1\"]\ntunnel_age_max = \"3s\"", "");
    for (client, server) in &mut tunnels {
        client.send(b"go on");
        assert_eq!(server.exactly(5), "go on");
    }
    let mut refused = Peer::connect(&gateway, Over::Http1);
    refused.ask("/", "raw/1", &[]);
    assert!(!upstream.accept().head().contains("pgrade"));
    for (mut client, server) in tunnels {
        assert_eq!(client.rest().1, Ending::Broken);
        server.wait_closed();
    }
    gateway.wait_for_metric("ringward_responses_generated_total", &[("flag", "tunnel_age")], 2.0);
    gateway.wait_for_closed("age_limit", 1);
}

/// No record may be lost, and a tunnel that lasts must not keep a place in the queue from others.
#[test]
fn the_opening_of_an_audited_tunnel_is_recorded_at_once() {
    let upstream = PlayedUpstream::start();
    let builder = builder(&upstream, "upgrade = [\"raw/1\"]");
    let gateway = builder.log("audit = \"required\"\nqueue_records = 64").start();
    let mut tunnels: Vec<_> = (0..70).map(|_| accept(&gateway, &upstream, Over::Http1)).collect();
    let opened = || gateway.lines("request").iter().filter(|line| line["tunnel"] == "opened").count();
    eventually(DEADLINE, "all openings are recorded", || opened() == 70);
    let (mut client, server) = tunnels.pop().unwrap();
    client.end();
    drop(server);
    client.rest();
    let record = gateway.wait_for_record("tunnel", "closed");
    assert_eq!(record["status"], 101, "{record}");
}

#[test]
fn only_a_101_with_that_protocol_opens_a_tunnel() {
    let upstream = PlayedUpstream::start();
    let gateway = builder(&upstream, "upgrade = [\"raw/1\", \"other\"]").start();
    let wrong = [
        "HTTP/1.1 101 Switching Protocols\r\n\r\n".to_owned(),
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: raw/1\r\n\r\n".to_owned(),
        "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\n\r\n".to_owned(),
        switched("other"),
        switched("raw/1, other"),
        switched("raw/1").replace("\r\n\r\n", "\r\nupgrade: raw/1\r\n\r\n"),
    ];
    let mut errors = 0.0;
    for over in BOTH {
        for answer in &wrong {
            let mut client = Peer::connect(&gateway, over);
            client.ask("/", "raw/1", &[]);
            let mut server = upstream.accept();
            server.head();
            server.send(&(answer.clone() + "and more"));
            assert_eq!(client.refusal(), (502, b"bad gateway\n".to_vec()), "{over:?}: {answer}");
            assert!(server.wait_closed().is_empty(), "nothing of the client's is sent");
            errors += 1.0;
            let flag = [("flag", "upstream_upgrade")];
            gateway.wait_for_metric("ringward_responses_generated_total", &flag, errors);
        }
        // An answer in HTTP is one, and the connections go on.
        let mut client = Peer::connect(&gateway, over);
        client.ask("/", "raw/1", &[]);
        let mut server = upstream.accept();
        server.head();
        server.send(
            "HTTP/1.1 426 Upgrade Required\r\nconnection: upgrade\r\nupgrade: raw/2\r\ncontent-length: 2\r\n\r\nno",
        );
        match &mut client {
            // RFC 9110 §15.5.22.
            Peer::Http1(connection) => {
                let refused = connection.response().unwrap();
                assert_eq!((refused.status, &*refused.body), (426, &b"no"[..]));
                assert_eq!(refused.headers.get("upgrade"), Some("raw/2"));
            }
            Peer::Http2 { .. } => assert_eq!(client.refusal(), (426, b"no".to_vec())),
        }
        client.get("/next");
        assert!(server.head().starts_with("GET /next "));
        server.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
        assert_eq!(client.refusal(), (200, b"ok".to_vec()));
        // Nobody asks here.
        client.get("/unasked");
        assert!(!server.head().contains("upgrade"));
        server.send(&switched("raw/1"));
        assert_eq!(client.refusal().0, 502);
        assert!(server.wait_closed().is_empty());
    }
    assert_eq!(gateway.metric("ringward_tunnels_opened_total", &[]), 0.0);
}

/// What is an answer on HTTP/1.1 would open a tunnel on HTTP/2.
#[test]
fn a_2xx_does_not_open_a_stream() {
    let upstream = PlayedUpstream::start();
    let gateway = builder(&upstream, "upgrade = [\"raw/1\"]").start();
    for (over, status) in [(Over::Http1, 200), (Over::Http2, 502)] {
        let mut client = Peer::connect(&gateway, over);
        client.ask("/", "raw/1", &[]);
        let mut server = upstream.accept();
        server.head();
        server.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
        assert_eq!(client.refusal().0, status, "{over:?}");
    }
}

#[test]
fn what_is_not_allowed_is_not_passed_on() {
    let upstream = PlayedUpstream::start();
    let gateway = builder(&upstream, "upgrade = [\"websocket\"]").start();
    // On HTTP/1.1 it is as if it were not there (RFC 9110 §7.8).
    let mut client = Peer::connect(&gateway, Over::Http1);
    client.ask_raw(
        "GET / HTTP/1.1\r\nconnection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAA\r\n",
    );
    let mut server = upstream.accept();
    let head = server.head().to_ascii_lowercase();
    assert!(!head.contains("upgrade") && !head.contains("h2c") && !head.contains("http2-settings"), "{head}");
    server.send("HTTP/1.1 204 No Content\r\n\r\n");
    assert_eq!(client.refusal().0, 204);
    for fields in
        ["upgrade: websocket\r\n", "connection: upgrade\r\nupgrade: websocket\r\nupgrade: websocket\r\n"]
    {
        client.ask_raw(&format!("GET / HTTP/1.1\r\n{fields}"));
        assert!(!server.head().contains("pgrade:"), "{fields}");
        server.send("HTTP/1.1 204 No Content\r\n\r\n");
        assert_eq!(client.refusal().0, 204);
    }
    // On HTTP/2 there is nothing that it could be instead.
    let mut client = Peer::connect(&gateway, Over::Http2);
    client.ask("/", "h2c", &[]);
    assert_eq!(client.refusal().0, 501);
    client.ask("/", "connect-udp", &[]);
    assert_eq!(client.refusal().0, 501);
    let flag = [("flag", "upgrade_not_allowed")];
    gateway.wait_for_metric("ringward_responses_generated_total", &flag, 2.0);
    assert!(upstream.accept_waiting().is_none(), "nothing of it reaches an upstream");
}

#[test]
fn a_malformed_handshake_is_refused() {
    let upstream = PlayedUpstream::start();
    let gateway = builder(&upstream, "upgrade = [\"websocket\", \"raw/1\"]").start();
    let websocket = "connection: upgrade\r\nupgrade: websocket\r\n";
    let (version, key) = ("sec-websocket-version: 13\r\n", format!("sec-websocket-key: {KEY}\r\n"));
    for request in [
        format!("GET / HTTP/1.1\r\n{websocket}{version}"),
        format!("GET / HTTP/1.1\r\n{websocket}{key}"),
        format!("GET / HTTP/1.1\r\n{websocket}{key}sec-websocket-version: x\r\n"),
        format!("GET / HTTP/1.1\r\n{websocket}{version}{key}{key}"),
        format!("GET / HTTP/1.1\r\n{websocket}{version}{version}{key}"),
        format!("GET / HTTP/1.1\r\n{websocket}{version}sec-websocket-key: short\r\n"),
        format!("POST / HTTP/1.1\r\n{websocket}{version}{key}"),
        format!("GET / HTTP/1.1\r\n{websocket}{version}{key}content-length: 3\r\n"),
        format!("GET / HTTP/1.1\r\n{websocket}{version}{key}transfer-encoding: chunked\r\n"),
        "POST / HTTP/1.1\r\nconnection: upgrade\r\nupgrade: raw/1\r\ncontent-length: 3\r\n".to_owned(),
        "HEAD / HTTP/1.1\r\nconnection: upgrade\r\nupgrade: raw/1\r\n".to_owned(),
        "GET / HTTP/1.1\r\nconnection: upgrade\r\nupgrade: h2c, raw/1\r\n".to_owned(),
    ] {
        let mut client = Peer::connect(&gateway, Over::Http1);
        client.ask_raw(&request);
        let (answer, closing) = client.into_connection().wait_closed();
        assert!(answer.starts_with(b"HTTP/1.1 400 "), "{request}: {}", String::from_utf8_lossy(&answer));
        assert_eq!(closing, Closing::Notified, "{request}");
    }
    let mut client = Peer::connect(&gateway, Over::Http2);
    client.ask("/", "websocket", &[]);
    assert_eq!(client.refusal().0, 400, "no version");
    assert!(upstream.accept_waiting().is_none(), "nothing of it reaches an upstream");
    gateway.wait_for_metric("ringward_responses_generated_total", &[("flag", "bad_upgrade")], 13.0);
}

#[test]
fn the_proof_of_a_websocket_is_checked() {
    let upstream = PlayedUpstream::start();
    let gateway = builder(&upstream, "upgrade = \"websocket\"").start();
    for over in BOTH {
        for (right, fields) in [(true, ""), (false, ""), (false, "sec-websocket-accept: x\r\n")] {
            let mut client = Peer::connect(&gateway, over);
            let version = ("sec-websocket-version", "13");
            let protocol = ("sec-websocket-protocol", "chat");
            match over {
                Over::Http1 => client.ask("/", "WebSocket", &[version, protocol, ("Sec-WebSocket-Key", KEY)]),
                // What a client of HTTP/2 says of keys does not count (RFC 8441 §5).
                Over::Http2 => client.ask("/", "websocket", &[version, protocol, ("sec-websocket-key", KEY)]),
            }
            let mut server = upstream.accept();
            let head = server.head();
            let keys: Vec<_> = head.lines().filter_map(|line| line.split_once(": ")).collect();
            let keys: Vec<_> =
                keys.iter().filter(|(name, _)| name.eq_ignore_ascii_case("sec-websocket-key")).collect();
            assert_eq!(keys.len(), 1, "{head}");
            assert_eq!(keys[0].1 == KEY, over == Over::Http1, "{head}");
            let proof = tunnels_support::proof(keys[0].1);
            assert!(over == Over::Http2 || proof == ACCEPT);
            let accept = if right { format!("Sec-WebSocket-Accept: {proof}\r\n") } else { fields.to_owned() };
            let end = format!("\r\nsec-websocket-protocol: chat\r\n{accept}\r\n");
            server.send(&switched("websocket").replace("\r\n\r\n", &end));
            if right {
                let head = client.is_open();
                assert_eq!(head.contains("accept"), over == Over::Http1, "{over:?}: {head}");
                client.send(b"\x81\x00");
                assert_eq!(server.bytes(2), b"\x81\x00");
            } else {
                assert_eq!(client.refusal().0, 502, "{over:?}");
            }
        }
    }
    assert_eq!(gateway.metric("ringward_tunnels_opened_total", &[]), 2.0);
}

#[test]
fn early_bytes_belong_to_whatever_the_answer_makes_of_them() {
    let upstream = PlayedUpstream::start();
    let gateway = builder(&upstream, "upgrade = [\"raw/1\"]").start();
    let ask = format!("GET /ask HTTP/1.1\r\nhost: {HOST}\r\nconnection: upgrade\r\nupgrade: raw/1\r\n\r\n");
    let early = format!("GET /early HTTP/1.1\r\nhost: {HOST}\r\n\r\n");
    for agrees in [true, false] {
        let mut client = gateway.connect();
        client.send((ask.clone() + &early).as_bytes()).unwrap();
        let mut server = upstream.accept();
        assert!(server.head().starts_with("GET /ask "));
        server.stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        assert!(server.stream.read(&mut [0]).is_err(), "nothing of it is sent before the answer");
        server.stream.set_read_timeout(Some(DEADLINE)).unwrap();
        if agrees {
            server.send(&switched("raw/1"));
            assert_eq!(server.exactly(early.len()), early, "as it is");
        } else {
            server.send("HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n");
            assert_eq!(client.response().unwrap().status, 403);
            let head = server.head();
            assert!(
                head.starts_with("GET /early ") && head.contains("client-cert"),
                "a request like any: {head}"
            );
            // Unanswered, it would be sent again, and that connection taken for the next one here.
            server.send("HTTP/1.1 204 No Content\r\n\r\n");
            assert_eq!(client.response().unwrap().status, 204);
        }
    }
    // A client of HTTP/2 may send before it knows, as far as the window goes.
    let mut client = Peer::connect(&gateway, Over::Http2);
    client.ask("/", "raw/1", &[]);
    client.send(b"early");
    let mut server = upstream.accept();
    server.head();
    server.send(&switched("raw/1"));
    assert_eq!(server.exactly(5), "early");
}

#[test]
fn policies_decide_about_the_opening() {
    let upstream = PlayedUpstream::start();
    let rego = "package ringward.authz\n\
                default decision := false\n\
                decision if { input.request.headers.upgrade == \"raw/1\"; input.request.method == \"GET\"; \
                input.request.path == \"/allowed\" }\n";
    let host = Host::new(&[HOST])
        .policy("main")
        .route("path = \"/{rest...}\"", "cluster = \"raw\"\nupgrade = [\"raw/1\"]");
    let gateway = Gateway::builder()
        .listener("http2 = true")
        .section(&format!("[cluster.raw]\nendpoints = [\"{}\"]", upstream.address()))
        .policy("main", rego)
        .host(host)
        .start();
    for over in BOTH {
        let mut client = Peer::connect(&gateway, over);
        client.ask("/denied", "raw/1", &[]);
        assert_eq!(client.refusal().0, 403, "{over:?}");
        client.get("/allowed");
        assert_eq!(client.refusal().0, 403, "{over:?}: without asking for a tunnel");
        if over == Over::Http1 {
            for fields in [
                "upgrade: raw/1\r\n",
                "connection: upgrade\r\nupgrade: raw/1\r\nupgrade: raw/1\r\n",
                "connection: upgrade\r\nupgrade: raw/1, other\r\n",
            ] {
                client.ask_raw(&format!("GET /allowed HTTP/1.1\r\n{fields}"));
                assert_eq!(client.refusal().0, 403, "it would go on as an ordinary request: {fields}");
            }
        }
        assert!(upstream.accept_waiting().is_none(), "nothing of it reaches the upstream");
        // Names of protocols have no case, and policies need not know that.
        client.ask("/allowed", "Raw/1", &[]);
        let mut server = upstream.accept();
        server.head();
        server.send(&switched("RAW/1"));
        client.is_open();
    }
}

#[test]
fn only_listeners_with_tunnels_offer_extended_connect() {
    const ENABLE_CONNECT_PROTOCOL: [u8; 6] = [0, 8, 0, 0, 0, 1];
    let upstream = PlayedUpstream::start();
    for (keys, offered) in [("upgrade = [\"websocket\"]", true), ("", false)] {
        let gateway = builder(&upstream, keys).start();
        let mut http2 = Peer::connect(&gateway, Over::Http2).into_http2();
        let settings = loop {
            let frame = http2.wait_for(kind::SETTINGS);
            if frame.flags & flags::ACK == 0 {
                break frame.payload;
            }
        };
        assert_eq!(settings.chunks(6).any(|entry| entry == ENABLE_CONNECT_PROTOCOL), offered, "{keys}");
    }
}

/// RFC 9110 §9.3.6: where it leads would be the client's choice.
#[test]
fn a_plain_connect_is_refused() {
    let upstream = PlayedUpstream::start();
    let gateway = builder(&upstream, "upgrade = [\"websocket\"]").start();
    let mut client = gateway.connect();
    client.send(format!("CONNECT {HOST}:443 HTTP/1.1\r\nhost: {HOST}:443\r\n\r\n").as_bytes()).unwrap();
    assert!(client.wait_closed().0.starts_with(b"HTTP/1.1 501 "));
    let mut http2 = Peer::connect(&gateway, Over::Http2).into_http2();
    let authority = format!("{HOST}:443");
    http2.head(1, &[(":method", "CONNECT"), (":authority", &authority)], false).unwrap();
    let frame = http2.wait_for(kind::HEADERS);
    assert_eq!(frame.status(), 501);
    assert!(upstream.accept_waiting().is_none());
    eventually(DEADLINE, "both are counted", || {
        gateway.metric("ringward_responses_generated_total", &[("flag", "connect_unsupported")]) == 2.0
    });
}

/// What an idle tunnel takes: run with `--ignored --nocapture`, and without other load.
#[test]
#[ignore = "opens thousands of sockets"]
fn memory_of_idle_tunnels() {
    const TUNNELS: usize = 1_000;
    for over in BOTH {
        let upstream = PlayedUpstream::start();
        let builder = builder(&upstream, "upgrade = [\"raw/1\"]");
        let gateway = builder.limits("streams_max = 1000").start();
        // What comes with the first of all is not theirs.
        let (mut client, server) = accept(&gateway, &upstream, over);
        let before = gateway.process.resident_bytes();
        let (mut clients, mut servers) = (Vec::new(), vec![server]);
        for _ in 1..TUNNELS {
            if over == Over::Http1 {
                clients.push(std::mem::replace(&mut client, Peer::connect(&gateway, over)));
            }
            servers.push(open(&mut client, &upstream));
        }
        // Until they have come to rest.
        thread::sleep(Duration::from_secs(2));
        let each = gateway.process.resident_bytes().saturating_sub(before) / TUNNELS as u64;
        println!("{over:?}: {each} bytes for each of {TUNNELS} idle tunnels");
        assert_eq!(gateway.metric("ringward_tunnels_active", &[]), TUNNELS as f64);
        assert!(each < 32 << 10, "{over:?}: {each} bytes");
    }
}
