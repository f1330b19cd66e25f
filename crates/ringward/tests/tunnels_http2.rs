//! Tunnels to upstreams that speak HTTP/2 (RFC 8441), from clients of either protocol.
#![allow(clippy::unwrap_used, reason = "a failed expectation here is a failed test")]

mod support;
#[allow(dead_code, reason = "each test program uses a part")]
mod tunnels_support;

use std::{collections::VecDeque, io::ErrorKind, net::Shutdown, thread, time::Duration};

use ringward_testkit::{DEADLINE, Frame, Leaf, Pattern, PlayedHttp2, Signal, eventually, flags, kind};

use serde_json::Value;

use self::support::{Builder, Gateway, HOST, Host, PlayedUpstream, on_both_drivers};
use self::tunnels_support::{ACCEPT, Ending, KEY, Over, Peer};

on_both_drivers!(
    every_pair_carries_bytes_both_ways_and_is_recorded,
    much_passes_both_ways_at_once,
    withdrawn_trust_cuts_a_tunnel,
    withdrawn_trust_cuts_a_stream_that_has_ended_for_its_client,
    an_upstream_that_breaks_off_is_told_from_one_that_ends,
    a_client_that_goes_calls_the_stream_off,
    a_client_that_resets_is_noticed_while_the_upstream_takes_nothing,
    a_client_that_has_ended_in_order_is_served_to_its_last_words,
    an_upstream_that_goes_away_keeps_the_tunnels_that_it_has,
    a_drain_lets_tunnels_end,
    the_drain_timeout_cuts_tunnels,
);

const BOTH: [Over; 2] = [Over::Http1, Over::Http2];

// RFC 9113 §6.5.2 and RFC 8441 §3. The test reads heads without a table of its own.
const HEADER_TABLE_SIZE: (u16, u32) = (1, 0);
const INITIAL_WINDOW_SIZE: u16 = 4;
const ENABLE_CONNECT_PROTOCOL: (u16, u32) = (8, 1);
// RFC 9113 §7.
const NO_ERROR: u32 = 0;
const REFUSED_STREAM: u32 = 7;
const CANCEL: u32 = 8;

fn builder(upstream: &PlayedUpstream, keys: &str) -> Builder {
    let host = Host::new(&[HOST]).route("path = \"/{rest...}\"", &format!("cluster = \"streams\"\n{keys}"));
    Gateway::builder()
        .listener("http2 = true")
        .section(&format!(
            "[cluster.streams]\nendpoints = [\"{}\"]\nprotocol = \"http2\"",
            upstream.address()
        ))
        .host(host)
}

/// The upstream's side of a connection, and of its last stream.
struct Server {
    http2: PlayedHttp2,
    stream: u32,
}

impl Server {
    /// Takes the next connection.
    #[track_caller]
    fn accept(upstream: &PlayedUpstream, settings: &[(u16, u32)]) -> Server {
        let settings = [&[HEADER_TABLE_SIZE], settings].concat();
        Server { http2: PlayedHttp2::new(upstream.accept().stream, &settings), stream: 0 }
    }

    /// Takes the next request; its fields.
    #[track_caller]
    fn request(&mut self) -> Vec<(String, String)> {
        let head = self.http2.wait_for(kind::HEADERS);
        self.stream = head.stream;
        head.fields()
    }

    #[track_caller]
    fn answer(&mut self, status: &str, fields: &[(&str, &str)], ends: bool) {
        self.http2.head(self.stream, &[&[(":status", status)], fields].concat(), ends);
    }

    /// Agrees to a tunnel.
    #[track_caller]
    fn open(&mut self) {
        self.request();
        self.answer("200", &[], false);
    }

    #[track_caller]
    fn send(&mut self, bytes: &[u8], ends: bool) {
        let flags = if ends { flags::END_STREAM } else { 0 };
        self.http2.send(kind::DATA, flags, self.stream, bytes);
    }

    #[track_caller]
    fn reset(&mut self, code: u32) {
        self.http2.send(kind::RST_STREAM, 0, self.stream, &code.to_be_bytes());
    }

    /// Reads the stream until it ends: what came, and the code if it was reset.
    #[track_caller]
    fn rest(&mut self) -> (Vec<u8>, Option<u32>) {
        let mut received = Vec::new();
        loop {
            let Frame { kind, flags, stream, payload } = self.http2.frame().expect("the stream ends");
            match kind {
                _ if stream != self.stream => {}
                kind::DATA => {
                    received.extend(payload);
                    if flags & flags::END_STREAM != 0 {
                        return (received, None);
                    }
                }
                kind::RST_STREAM => return (received, Some(u32::from_be_bytes(payload.try_into().unwrap()))),
                _ => {}
            }
        }
    }

    /// Resets the stream, or is gone; what is left then.
    #[track_caller]
    fn break_off(mut self, resets: bool) -> Option<Server> {
        if resets {
            self.reset(CANCEL);
            return Some(self);
        }
        self.vanish();
        None
    }

    /// Reads the connection to its end, which has to come.
    fn is_closed(&mut self) -> bool {
        loop {
            if let Err(error) = self.http2.frame() {
                return !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut);
            }
        }
    }

    /// Is gone, without a word.
    fn vanish(mut self) {
        socket2::SockRef::from(&*self.http2.stream()).set_linger(Some(Duration::ZERO)).unwrap();
    }
}

/// An open tunnel of `raw/1`, on a connection of its own.
#[track_caller]
fn accept(gateway: &Gateway, upstream: &PlayedUpstream, over: Over) -> (Peer, Server) {
    let mut client = Peer::connect(gateway, over);
    let server = open(&mut client, upstream, &[ENABLE_CONNECT_PROTOCOL]);
    (client, server)
}

#[track_caller]
fn open(client: &mut Peer, upstream: &PlayedUpstream, settings: &[(u16, u32)]) -> Server {
    client.ask("/", "raw/1", &[]);
    let mut server = Server::accept(upstream, settings);
    server.open();
    client.is_open();
    server
}

fn value<'a>(fields: &'a [(String, String)], name: &str) -> Option<&'a str> {
    let mut values = fields.iter().filter(|field| field.0 == name).map(|field| &*field.1);
    let value = values.next();
    assert_eq!(values.next(), None, "{name} occurs once: {fields:?}");
    value
}

#[track_caller]
fn wait_for_flag(gateway: &Gateway, flag: &str, count: usize) {
    gateway.wait_for_metric("ringward_responses_generated_total", &[("flag", flag)], count as f64);
}

fn every_pair_carries_bytes_both_ways_and_is_recorded(driver: &str) {
    let upstream = PlayedUpstream::start();
    let gateway = builder(&upstream, "upgrade = [\"raw/1\"]").io(driver).start();
    let mut servers: Option<Server> = None;
    for over in BOTH {
        let mut client = Peer::connect(&gateway, over);
        client.ask("/chat?room=1", "RAW/1", &[("x-a", "1"), ("client-cert", "forged")]);
        let server = servers.get_or_insert_with(|| Server::accept(&upstream, &[ENABLE_CONNECT_PROTOCOL]));
        let fields = server.request();
        for (name, expected) in [
            (":method", "CONNECT"),
            (":protocol", "raw/1"),
            (":scheme", "http"),
            (":path", "/chat?room=1"),
            (":authority", HOST),
            ("x-a", "1"),
        ] {
            assert_eq!(value(&fields, name), Some(expected), "{over:?}: {fields:?}");
        }
        assert!(value(&fields, "client-cert").unwrap().starts_with(":MII"), "{fields:?}");
        for name in ["connection", "upgrade", "host", "content-length"] {
            assert_eq!(value(&fields, name), None, "{over:?}");
        }
        if over == Over::Http2 {
            client.send(b"GET /admin HTTP/1.1\r\n\r\n");
        }
        // The first bytes may come with the head.
        server.answer("200", &[("x-b", "2")], false);
        server.send(b"hello", false);
        assert!(client.is_open().contains("x-b"));
        assert_eq!(client.exactly(5), b"hello");
        gateway.wait_for_metric("ringward_tunnels_active", &[], 1.0);
        if over == Over::Http1 {
            client.send(b"GET /admin HTTP/1.1\r\n\r\n");
        }
        assert_eq!(server.http2.wait_for(kind::DATA).payload, b"GET /admin HTTP/1.1\r\n\r\n");
        server.send(b"answer", false);
        assert_eq!(client.exactly(6), b"answer");
        client.end();
        assert_eq!(server.rest(), (Vec::new(), None), "the end arrives as such");
        server.send(b"bye", true);
        assert_eq!(client.rest(), (b"bye".to_vec(), Ending::Orderly));

        let status = if over == Over::Http1 { 101 } else { 200 };
        let record = gateway.wait_for_record("status", status);
        assert_eq!((&record["tunnel"], &record["path"]), (&"closed".into(), &"/chat".into()), "{record}");
        assert_eq!((&record["received_bytes"], &record["sent_bytes"]), (&23.into(), &14.into()), "{record}");
        assert!(record.get("flag").is_none() && record["method"] == "GET", "{record}");

        // The other way round.
        let server = servers.as_mut().unwrap();
        let mut client = Peer::connect(&gateway, over);
        client.ask("/", "raw/1", &[]);
        server.open();
        client.is_open();
        server.send(b"", true);
        client.wait_end();
        client.send(b"more");
        client.end();
        assert_eq!(server.rest(), (b"more".to_vec(), None));
        gateway.wait_for_metric("ringward_tunnels_active", &[], 0.0);
    }
    assert_eq!(gateway.metric("ringward_tunnels_opened_total", &[]), 4.0);
    gateway.wait_for_metric("ringward_tunnel_received_bytes_total", &[], 2.0 * 27.0);
    gateway.wait_for_metric("ringward_tunnel_sent_bytes_total", &[], 2.0 * 14.0);
    assert!(upstream.accept_waiting().is_none(), "they share a connection");
}

/// RFC 8441 §5: neither key nor proof over HTTP/2; RFC 6455 §4.2.2: a proof over HTTP/1.1, whatever the upstream says.
#[test]
fn a_client_of_http_1_gets_a_proof_of_ours() {
    let upstream = PlayedUpstream::start();
    let gateway = builder(&upstream, "upgrade = [\"WebSocket\"]").start();
    let mut servers: Option<Server> = None;
    for over in BOTH {
        let mut client = Peer::connect(&gateway, over);
        let mut fields = vec![("sec-websocket-version", "13"), ("sec-websocket-protocol", "chat, talk")];
        fields.push(("sec-websocket-extensions", "permessage-deflate"));
        fields.push(("sec-websocket-key", KEY));
        client.ask("/", "websocket", &fields);
        let server = servers.get_or_insert_with(|| Server::accept(&upstream, &[ENABLE_CONNECT_PROTOCOL]));
        let asked = server.request();
        assert_eq!(value(&asked, ":protocol"), Some("websocket"));
        assert_eq!(value(&asked, "sec-websocket-key"), None, "{over:?}");
        for (name, sent) in &fields[..3] {
            assert_eq!(value(&asked, name), Some(*sent), "{over:?}");
        }
        server.answer(
            "200",
            &[("sec-websocket-protocol", "chat"), ("sec-websocket-accept", "forged")],
            false,
        );
        let head = client.is_open();
        assert!(head.contains("chat") && !head.contains("forged"), "{head}");
        let proof = format!("\r\nsec-websocket-accept: {}\r\n", ACCEPT.to_ascii_lowercase());
        assert_eq!(head.contains(&proof), over == Over::Http1, "{head}");
        assert_eq!(head.contains("accept"), over == Over::Http1, "{head}");
        client.send(b"\x81\x00");
        assert_eq!(server.http2.wait_for(kind::DATA).payload, b"\x81\x00");
    }
}

/// RFC 8441 §3: it may not even be asked.
#[test]
fn an_upstream_without_extended_connect_is_not_asked() {
    let upstream = PlayedUpstream::start();
    let gateway = builder(&upstream, "upgrade = [\"raw/1\"]").start();
    let mut servers: Option<Server> = None;
    for (over, count) in BOTH.into_iter().zip(1..) {
        let mut client = Peer::connect(&gateway, over);
        client.ask("/", "raw/1", &[]);
        let server = servers.get_or_insert_with(|| Server::accept(&upstream, &[(8, 0)]));
        assert_eq!(client.refusal(), (502, b"bad gateway\n".to_vec()), "{over:?}");
        wait_for_flag(&gateway, "upstream_upgrade", count);
        let mut client = Peer::connect(&gateway, over);
        client.get("/next");
        assert_eq!(value(&server.request(), ":path"), Some("/next"), "the first that it sees");
        server.answer("204", &[], true);
        assert_eq!(client.refusal().0, 204);
    }
    let reason = gateway.wait_for_record("flag", "upstream_upgrade")["reason"].to_string();
    assert!(reason.contains("ENABLE_CONNECT_PROTOCOL"), "{reason}");
}

#[test]
fn all_but_a_2xx_is_an_answer() {
    let upstream = PlayedUpstream::start();
    let gateway = builder(&upstream, "upgrade = [\"raw/1\"]").start();
    let mut servers: Option<Server> = None;
    for over in BOTH {
        let mut client = Peer::connect(&gateway, over);
        for status in ["307", "403", "501"] {
            client.ask("/", "raw/1", &[]);
            let server = servers.get_or_insert_with(|| Server::accept(&upstream, &[ENABLE_CONNECT_PROTOCOL]));
            server.request();
            server.answer(status, &[("content-length", "2")], false);
            server.send(b"no", true);
            assert_eq!(client.refusal(), (status.parse().unwrap(), b"no".to_vec()), "{over:?}");
            assert_eq!(server.rest(), (Vec::new(), Some(CANCEL)), "{over:?}: our side has not ended");
        }
        client.get("/next");
        let server = servers.as_mut().unwrap();
        assert_eq!(value(&server.request(), ":method"), Some("GET"));
        server.answer("204", &[], true);
        assert_eq!(client.refusal().0, 204, "{over:?}: the connections go on");
        // What cannot be said over HTTP/2.
        for (status, fields) in [("101", None), ("200", Some(("content-length", "5")))] {
            let mut client = Peer::connect(&gateway, over);
            client.ask("/", "raw/1", &[]);
            server.request();
            server.answer(status, fields.as_slice(), false);
            assert_eq!(client.refusal().0, 502, "{over:?}: {status}");
        }
    }
    wait_for_flag(&gateway, "upstream_head_malformed", 4);
    assert_eq!(gateway.metric("ringward_tunnels_opened_total", &[]), 0.0);
}

#[test]
fn what_the_route_does_not_allow_is_not_asked_for() {
    let upstream = PlayedUpstream::start();
    let gateway = builder(&upstream, "upgrade = [\"websocket\"]").start();
    let mut client = Peer::connect(&gateway, Over::Http2);
    client.ask("/", "raw/1", &[]);
    assert_eq!(client.refusal().0, 501);
    assert!(upstream.accept_waiting().is_none());
    let mut client = Peer::connect(&gateway, Over::Http1);
    client.ask("/", "raw/1", &[]);
    let mut server = Server::accept(&upstream, &[ENABLE_CONNECT_PROTOCOL]);
    let fields = server.request();
    assert_eq!((value(&fields, ":method"), value(&fields, ":protocol")), (Some("GET"), None));
    server.answer("204", &[], true);
    assert_eq!(client.refusal().0, 204);
}

/// RFC 9113 §8.7.
#[test]
fn what_was_not_processed_is_asked_again() {
    let upstream = PlayedUpstream::start();
    let gateway = builder(&upstream, "upgrade = [\"raw/1\"]").start();
    for over in BOTH {
        let mut client = Peer::connect(&gateway, over);
        client.ask("/", "raw/1", &[]);
        let mut first = Server::accept(&upstream, &[ENABLE_CONNECT_PROTOCOL]);
        first.request();
        first.reset(REFUSED_STREAM);
        let mut second = Server::accept(&upstream, &[ENABLE_CONNECT_PROTOCOL]);
        second.open();
        client.is_open();
        client.send(b"!");
        assert_eq!(second.http2.wait_for(kind::DATA).payload, b"!");
        first.vanish();
        second.vanish();
        assert_eq!(client.rest().1, Ending::Broken);
    }
}

fn an_upstream_that_breaks_off_is_told_from_one_that_ends(driver: &str) {
    let upstream = PlayedUpstream::start();
    let gateway = builder(&upstream, "upgrade = [\"raw/1\"]").io(driver).start();
    let mut count = 0;
    for over in BOTH {
        for resets in [true, false] {
            let mut client = Peer::connect(&gateway, over);
            client.ask("/", "raw/1", &[]);
            let mut server = Server::accept(&upstream, &[ENABLE_CONNECT_PROTOCOL]);
            server.request();
            let left = server.break_off(resets);
            assert_eq!(client.refusal().0, 502, "{over:?} {resets}: before an answer");
            drop(left);
            count += 1;
            for silent in [true, false] {
                let (mut client, mut server) = accept(&gateway, &upstream, over);
                if !silent {
                    client.send(b"something");
                    assert_eq!(server.http2.wait_for(kind::DATA).payload, b"something");
                }
                let left = server.break_off(resets);
                assert_eq!(client.rest(), (Vec::new(), Ending::Broken), "{over:?} {resets} {silent}");
                drop(left);
                count += 1;
                wait_for_flag(&gateway, "upstream_reset", count);
            }
        }
    }
}

fn a_client_that_goes_calls_the_stream_off(driver: &str) {
    let upstream = PlayedUpstream::start();
    let gateway = builder(&upstream, "upgrade = [\"raw/1\"]").io(driver).start();
    let mut server: Option<Server> = None;
    for over in BOTH {
        for answered in [false, true] {
            let mut client = Peer::connect(&gateway, over);
            client.ask("/", "raw/1", &[]);
            let server = server.get_or_insert_with(|| Server::accept(&upstream, &[ENABLE_CONNECT_PROTOCOL]));
            server.request();
            if answered {
                server.answer("200", &[], false);
                client.is_open();
            }
            client.vanish();
            assert_eq!(server.rest(), (Vec::new(), Some(CANCEL)), "{over:?} {answered}");
        }
    }
    let mut server = server.unwrap();
    let mut client = Peer::connect(&gateway, Over::Http2);
    client.ask("/", "raw/1", &[]);
    server.open();
    client.is_open();
    client.call_off();
    assert_eq!(server.rest(), (Vec::new(), Some(CANCEL)));
    wait_for_flag(&gateway, "client_gone", 5);
    gateway.wait_for_metric("ringward_tunnels_active", &[], 0.0);
}

/// That a tunnel carries bytes both ways.
#[track_caller]
fn assert_carries(client: &mut Peer, server: &mut Server) {
    client.send(b"there");
    assert_eq!(server.http2.wait_for(kind::DATA).payload, b"there");
    server.send(b"and back", false);
    assert_eq!(client.exactly(8), b"and back");
}

/// Ends a tunnel from both sides.
#[track_caller]
fn end(client: &mut Peer, server: &mut Server) {
    client.end();
    assert_eq!(server.rest(), (Vec::new(), None));
    server.send(b"", true);
    client.wait_end();
}

/// RFC 9113 §6.8: what has begun goes on, and new streams go elsewhere.
fn an_upstream_that_goes_away_keeps_the_tunnels_that_it_has(driver: &str) {
    let upstream = PlayedUpstream::start();
    for over in BOTH {
        let gateway = builder(&upstream, "upgrade = [\"raw/1\"]").io(driver).start();
        let (mut client, mut first) = accept(&gateway, &upstream, over);
        first.http2.send(kind::GOAWAY, 0, 0, &[first.stream.to_be_bytes(), NO_ERROR.to_be_bytes()].concat());
        // What comes behind it has arrived with it.
        assert_carries(&mut client, &mut first);
        let (mut other, mut second) = accept(&gateway, &upstream, over);
        assert_carries(&mut client, &mut first);
        end(&mut client, &mut first);
        assert!(first.is_closed(), "{over:?}: nobody needs the connection any more");
        assert_carries(&mut other, &mut second);
        end(&mut other, &mut second);
        eventually(DEADLINE, "both are recorded", || gateway.lines("request").len() == 2);
        assert!(gateway.lines("request").iter().all(|record| record["flag"].is_null()));
    }
}

/// An HTTP/2 client is told that there will be an end, and none is cut.
fn a_drain_lets_tunnels_end(driver: &str) {
    let upstream = PlayedUpstream::start();
    let builder = builder(&upstream, "upgrade = [\"raw/1\"]").io(driver);
    let mut gateway = builder.server("drain_timeout = \"1h\"").start();
    let (mut http2, mut server) = accept(&gateway, &upstream, Over::Http2);
    let mut http1 = Peer::connect(&gateway, Over::Http1);
    http1.ask("/", "raw/1", &[]);
    let first = server.stream;
    server.open();
    http1.is_open();
    gateway.process.signal(Signal::TERM);
    assert_eq!(http2.http2().wait_for(kind::GOAWAY).code(), NO_ERROR);
    assert_carries(&mut http1, &mut server);
    end(&mut http1, &mut server);
    server.stream = first;
    assert_carries(&mut http2, &mut server);
    end(&mut http2, &mut server);
    assert!(server.is_closed());
    assert_eq!(gateway.process.wait(DEADLINE).code(), Some(0));
    let records = gateway.lines("request");
    assert!(records.len() == 2 && records.iter().all(|record| record["flag"].is_null()), "{records:?}");
}

fn the_drain_timeout_cuts_tunnels(driver: &str) {
    let upstream = PlayedUpstream::start();
    let builder = builder(&upstream, "upgrade = [\"raw/1\"]").io(driver);
    let mut gateway = builder.server("drain_timeout = \"2s\"").start();
    let (mut http2, mut server) = accept(&gateway, &upstream, Over::Http2);
    let mut http1 = Peer::connect(&gateway, Over::Http1);
    http1.ask("/", "raw/1", &[]);
    server.open();
    http1.is_open();
    gateway.process.signal(Signal::TERM);
    gateway.process.wait_for_line(DEADLINE, |line| line.contains("draining"));
    assert_carries(&mut http1, &mut server);
    for client in [&mut http1, &mut http2] {
        assert_eq!(client.rest().1, Ending::Broken);
    }
    assert!(server.is_closed(), "with the connection, both streams are called off");
    assert_eq!(gateway.process.wait(DEADLINE).code(), Some(0));
    let records = gateway.lines("request");
    let is_cut = |record: &Value| record["flag"] == "stopped" && record["tunnel"] == "closed";
    assert!(records.len() == 2 && records.iter().all(is_cut), "{records:?}");
}

/// Echoes the server's stream to its end, as far as windows allow.
fn echo(mut server: Server) {
    let (mut credit, mut waiting, mut ended) = (65_535_usize, VecDeque::new(), false);
    // The connection's window is larger than that of its one stream.
    while !ended || !waiting.is_empty() {
        let frame = server.http2.frame().unwrap();
        match frame.kind {
            kind::WINDOW_UPDATE if frame.stream == server.stream => credit += frame.code() as usize,
            kind::DATA => {
                ended = frame.flags & flags::END_STREAM != 0;
                if !frame.payload.is_empty() {
                    let moved = u32::try_from(frame.payload.len()).unwrap().to_be_bytes();
                    for stream in [0, server.stream] {
                        server.http2.send(kind::WINDOW_UPDATE, 0, stream, &moved);
                    }
                }
                waiting.extend(frame.payload);
            }
            _ => {}
        }
        while credit > 0 && !waiting.is_empty() {
            let n = credit.min(waiting.len()).min(16 << 10);
            let piece: Vec<u8> = waiting.drain(..n).collect();
            server.send(&piece, false);
            credit -= n;
        }
    }
    server.send(b"", true);
}

fn much_passes_both_ways_at_once(driver: &str) {
    const BYTES: u64 = 10 << 20;
    let upstream = PlayedUpstream::start();
    let gateway = builder(&upstream, "upgrade = [\"raw/1\"]").io(driver).start();
    for over in BOTH {
        let (mut client, server) = accept(&gateway, &upstream, over);
        let echoing = thread::spawn(move || echo(server));
        let sent = Pattern::new(BYTES).to_vec();
        assert!(client.exchange(&sent) == (sent, Ending::Orderly), "{over:?}");
        echoing.join().unwrap();
    }
}

fn a_client_that_resets_is_noticed_while_the_upstream_takes_nothing(driver: &str) {
    let upstream = PlayedUpstream::start();
    let gateway = builder(&upstream, "upgrade = [\"raw/1\"]").io(driver).start();
    let (client, mut server) = accept(&gateway, &upstream, Over::Http1);
    let before = gateway.process.resident_bytes();
    let mut connection = client.into_connection();
    connection.tcp().set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    let mut sent = 0;
    while connection.send(&[b'x'; 64 << 10]).is_ok() {
        sent += 64 << 10;
        assert!(sent < 64 << 20, "somebody takes it all");
    }
    let grown = gateway.process.resident_bytes().saturating_sub(before);
    assert!(grown < 4 << 20, "{grown} bytes for {sent}");
    connection.reset();
    let (received, code) = server.rest();
    assert_eq!((received.len(), code), (65_535, Some(CANCEL)), "what the window allows");
    wait_for_flag(&gateway, "client_gone", 1);
}

/// Its end looks like a reset to who does not look closely.
fn a_client_that_has_ended_in_order_is_served_to_its_last_words(driver: &str) {
    let upstream = PlayedUpstream::start();
    let keys = "upgrade = [\"raw/1\"]";
    let gateway = builder(&upstream, keys).io(driver).limits("body_timeout = \"10m\"").start();
    let settings = [ENABLE_CONNECT_PROTOCOL, (INITIAL_WINDOW_SIZE, 0)];
    let mut client = Peer::connect(&gateway, Over::Http1);
    let mut server = open(&mut client, &upstream, &settings);
    let first = server.stream;
    server.send(b"", true);
    client.wait_end();
    client.send(b"last words");
    client.end();
    client.into_connection().tcp().shutdown(Shutdown::Write).unwrap();
    // By the time that a reset is noticed, theirs was looked at, too.
    let mut other = Peer::connect(&gateway, Over::Http1);
    other.ask("/", "raw/1", &[]);
    server.open();
    other.is_open();
    other.send(b"!");
    gateway.wait_for_metric("ringward_tunnel_received_bytes_total", &[], 11.0);
    other.vanish();
    assert_eq!(server.rest(), (Vec::new(), Some(CANCEL)));
    server.stream = first;
    for stream in [0, first] {
        server.http2.send(kind::WINDOW_UPDATE, 0, stream, &10_u32.to_be_bytes());
    }
    assert_eq!(server.rest(), (b"last words".to_vec(), None));
    wait_for_flag(&gateway, "client_gone", 1);
}

fn withdrawn_trust_cuts_a_tunnel(driver: &str) {
    let upstream = PlayedUpstream::start();
    let builder = builder(&upstream, "upgrade = [\"raw/1\"]").io(driver).stateful();
    let gateway = builder.server("trust_grace = \"1s\"").start();
    let victim = gateway.root.issue(&Leaf::client("victim"));
    let files = gateway.client_files("victim", &victim);
    let (mut other, mut server) = accept(&gateway, &upstream, Over::Http2);
    let others = server.stream;
    let mut theirs: Vec<_> = BOTH
        .into_iter()
        .map(|over| {
            let mut client = Peer::with(&gateway.client().identity(&victim), &gateway, over);
            client.ask("/", "raw/1", &[]);
            server.open();
            client.is_open();
            (client, server.stream)
        })
        .collect();
    gateway.ask(&["revoke", "--cert", files.chain.to_str().unwrap(), "--reason", "lost"]);
    let mut cut: Vec<u32> = (0..2).map(|_| server.http2.wait_for(kind::RST_STREAM).stream).collect();
    cut.sort_unstable();
    assert_eq!(cut, [theirs[0].1, theirs[1].1]);
    theirs.iter_mut().for_each(|(client, _)| assert_eq!(client.rest().1, Ending::Broken));
    gateway.wait_for_closed("trust_grace", 2);
    assert_eq!(gateway.wait_for_record("flag", "trust_withdrawn")["tunnel"], "closed");
    server.stream = others;
    other.send(b"still");
    assert_eq!(server.http2.wait_for(kind::DATA).payload, b"still", "it concerns one client alone");
    server.send(b"here", false);
    assert_eq!(other.exactly(4), b"here");
}

/// Its stream is closed for both of them, and only its last words are on their way.
fn withdrawn_trust_cuts_a_stream_that_has_ended_for_its_client(driver: &str) {
    let upstream = PlayedUpstream::start();
    let builder = builder(&upstream, "upgrade = [\"raw/1\"]").io(driver).stateful();
    let gateway = builder.server("trust_grace = \"1s\"").limits("body_timeout = \"10m\"").start();
    let victim = gateway.root.issue(&Leaf::client("victim"));
    let files = gateway.client_files("victim", &victim);
    let mut client = Peer::with(&gateway.client().identity(&victim), &gateway, Over::Http2);
    let mut server = open(&mut client, &upstream, &[ENABLE_CONNECT_PROTOCOL, (INITIAL_WINDOW_SIZE, 0)]);
    client.send(b"last words");
    client.end();
    server.send(b"", true);
    client.wait_end();
    gateway.ask(&["revoke", "--cert", files.chain.to_str().unwrap(), "--reason", "lost"]);
    assert_eq!(server.rest(), (Vec::new(), Some(CANCEL)), "they go no further");
    assert_eq!(gateway.wait_for_record("flag", "trust_withdrawn")["tunnel"], "closed");
    gateway.wait_for_closed("trust_grace", 1);
}

#[test]
fn a_silent_tunnel_ends_and_an_old_one() {
    let upstream = PlayedUpstream::start();
    for (key, flag) in
        [("tunnel_idle_timeout = \"1s\"", "tunnel_idle"), ("tunnel_age_max = \"1s\"", "tunnel_age")]
    {
        let gateway = builder(&upstream, &format!("upgrade = [\"raw/1\"]\n{key}")).start();
        for (over, count) in BOTH.into_iter().zip(1..) {
            let (mut client, mut server) = accept(&gateway, &upstream, over);
            assert_eq!(server.rest(), (Vec::new(), Some(CANCEL)), "{over:?} {flag}");
            assert_eq!(client.rest(), (Vec::new(), Ending::Broken), "{over:?} {flag}");
            wait_for_flag(&gateway, flag, count);
            server.vanish();
        }
    }
}
