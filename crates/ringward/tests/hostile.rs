//! Clients that are malformed, slow or greedy. Each gets the right status or alert and is counted under the right reason, and
//! the gateway serves others as before.
#![allow(clippy::unwrap_used, reason = "a failed expectation here is a failed test")]

mod support;

use std::io::{ErrorKind, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use ringward_testkit::{ClientError, Closing, DEADLINE, Echo, Pattern, eventually};

use self::support::{Gateway, HOST, client_hello, connect_tcp, on_both_drivers, read_until_closed};

on_both_drivers!(
    malformed_tls_ends_in_an_alert_and_nothing_else,
    a_slow_head_is_408,
    a_slow_body_is_408,
    an_idle_connection_is_closed_in_order,
    running_out_of_file_descriptors_is_survived,
);

const GENERATED: &str = "ringward_responses_generated_total";

/// Sends `bytes` one by one with a short pause after each, until the peer says something or closes. The pause is a read that
/// times out. Whether all were sent.
fn trickle(mut send: impl FnMut(&[u8]) -> bool, stream: &TcpStream, bytes: &[u8]) -> bool {
    stream.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    let is_quiet =
        |stream: &TcpStream| stream.peek(&mut [0]).is_err_and(|error| error.kind() == ErrorKind::WouldBlock);
    let all = bytes.iter().all(|byte| send(&[*byte]) && is_quiet(stream));
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    all
}

fn malformed_tls_ends_in_an_alert_and_nothing_else(driver: &str) {
    let gateway = Gateway::builder().io(driver).start();
    let hello = client_hello(HOST);
    let with = |at: usize, bytes: &[u8]| {
        let mut changed = hello.clone();
        changed[at..at + bytes.len()].copy_from_slice(bytes);
        changed
    };
    // RFC 8446 §4.1.2: behind record and message header come version, random, session id, suites, compression, extensions.
    let suites_at = 5 + 4 + 2 + 32 + 1 + 32;
    let suites = usize::from(hello[suites_at]) << 8 | usize::from(hello[suites_at + 1]);
    let extensions_at = suites_at + 2 + suites + 2;
    let mut giant = vec![0x16, 3, 1, 0x40, 0, 1, 0xff, 0xff, 0xff];
    giant.resize(80_000, 0);
    let attempts: [(&str, Vec<u8>); 12] = [
        ("zeros", vec![0; 64]),
        ("noise", Pattern::new(4096).to_vec()),
        ("an alert", vec![21, 3, 3, 0, 2, 2, 40]),
        ("application data", [&[23, 3, 3, 0, 32][..], &[7; 32]].concat()),
        ("an SSL 2 hello", vec![0x80, 46, 1, 0, 2, 0, 21, 0, 0, 0, 16, 1, 0, 128, 2, 0, 128]),
        ("a record of another version", with(1, &[9, 9])),
        ("a record that is too long", with(3, &[0xff, 0xff])),
        ("an empty record", vec![22, 3, 1, 0, 0, 22, 3, 1, 0, 0]),
        ("a ServerHello", with(5, &[2])),
        ("a giant ClientHello", giant),
        ("a session id that does not fit", with(43, &[255])),
        ("extensions that do not fit", with(extensions_at, &[0xff, 0xff])),
    ];
    for (name, bytes) in &attempts {
        let mut stream = connect_tcp(gateway.edge);
        // The gateway may have closed before it has taken all.
        let _ = stream.write_all(bytes);
        let _ = stream.shutdown(Shutdown::Write);
        let answer = read_until_closed(&mut stream);
        let is_alert = answer.len() == 7 && answer[0] == 21;
        assert!(answer.is_empty() || is_alert, "{name}: answered with {} bytes", answer.len());
    }
    gateway.wait_for_closed("handshake_failed", attempts.len());
    let failed = |reason: &str| {
        let labels = [("outcome", "failed"), ("reason", reason)];
        gateway.metric("ringward_handshakes_finished_total", &labels)
    };
    // Whatever is cut within a record or message looks like a client that went away in the middle.
    assert_eq!(failed("malformed") + failed("peer_closed"), attempts.len() as f64);
    assert!(failed("malformed") >= attempts.len() as f64 - 4.0, "{}", failed("malformed"));
    gateway.assert_serves();
}

#[test]
fn garbage_in_the_middle_of_a_handshake_is_refused() {
    let gateway = Gateway::start();
    for garbage in [
        &[0_u8; 32][..],
        &[22, 3, 3, 0, 4, 1, 2, 3, 4],
        &[23, 3, 3, 0, 20, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20],
    ] {
        let mut stream = connect_tcp(gateway.edge);
        stream.write_all(&[&client_hello(HOST), garbage].concat()).unwrap();
        let answer = read_until_closed(&mut stream);
        assert!(answer.is_empty() || answer[0] == 22 || answer[0] == 21, "{answer:?}");
    }
    gateway.wait_for_failed_handshakes("malformed", 3);
    gateway.assert_serves();
}

#[test]
fn a_broken_record_after_the_handshake_ends_the_connection() {
    let gateway = Gateway::start();
    let mut connection = gateway.connect();
    assert_eq!(connection.get("/").unwrap().status, 200);
    // Below TLS: what decrypts to nothing.
    let mut tcp = connection.tcp();
    tcp.write_all(&[23, 3, 3, 0, 32]).unwrap();
    tcp.write_all(&[7; 32]).unwrap();
    let (rest, closing) = connection.wait_closed();
    assert!(
        rest.is_empty() && closing == Closing::Alert(rustls::AlertDescription::BadRecordMac),
        "{closing:?}"
    );
    gateway.wait_for_closed("tls", 1);
    gateway.assert_serves();
}

#[test]
fn plain_http_to_the_tls_port_is_counted_and_not_served() {
    let gateway = Gateway::start();
    for request in [
        "GET / HTTP/1.1\r\nhost: api.example.com\r\n\r\n",
        "POST /x HTTP/1.0\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ] {
        let mut stream = connect_tcp(gateway.edge);
        stream.write_all(request.as_bytes()).unwrap();
        let answer = String::from_utf8_lossy(&read_until_closed(&mut stream)).into_owned();
        // Saying so in plain HTTP is a courtesy; anything else would be a service.
        assert!(
            answer.is_empty() || answer.starts_with("HTTP/1.1 400 ") || answer.starts_with('\u{15}'),
            "{answer:?}"
        );
    }
    gateway.wait_for_failed_handshakes("plain_http", 3);
    assert_eq!(gateway.upstream.connections_accepted(), 0);
}

#[test]
fn a_connection_that_says_nothing_or_half_a_hello_is_closed_after_the_handshake_timeout() {
    let gateway = Gateway::builder().limits("handshake_timeout = \"1s\"").start();
    let hello = client_hello(HOST);
    let started = Instant::now();
    let parts = [&b""[..], b"G", &hello[..3], &hello[..hello.len() / 2], &hello];
    let streams = parts.map(|part| {
        let mut stream = connect_tcp(gateway.edge);
        stream.write_all(part).unwrap();
        stream
    });
    for (mut stream, part) in streams.into_iter().zip(parts) {
        read_until_closed(&mut stream);
        assert!(started.elapsed() >= Duration::from_secs(1), "closed too early after {} bytes", part.len());
    }
    gateway.wait_for_failed_handshakes("timeout", parts.len());
    gateway.assert_serves();
}

#[test]
fn a_slow_hello_does_not_extend_the_handshake_timeout() {
    let gateway = Gateway::builder().limits("handshake_timeout = \"300ms\"").start();
    let mut stream = connect_tcp(gateway.edge);
    let mut writer = stream.try_clone().unwrap();
    let sent_all = trickle(|byte| writer.write_all(byte).is_ok(), &stream, &client_hello(HOST));
    assert!(!sent_all, "it may take as long as it wants");
    read_until_closed(&mut stream);
    gateway.wait_for_failed_handshakes("timeout", 1);
}

fn a_slow_head_is_408(driver: &str) {
    let gateway = Gateway::builder().io(driver).limits("header_timeout = \"300ms\"").start();
    // One that stops, and one that never stops to trickle: each byte must not extend the time.
    for trickles in [false, true] {
        let mut connection = gateway.connect();
        let head = connection.head("GET", "/", &[("x", &"y".repeat(10_000))]);
        if trickles {
            let tcp = connection.tcp().try_clone().unwrap();
            trickle(|byte| connection.send(byte).is_ok(), &tcp, &head);
        } else {
            connection.send(&head[..20]).unwrap();
        }
        let response = connection.response().unwrap();
        assert_eq!((response.status, response.headers.get("connection")), (408, Some("close")));
        assert_eq!(connection.wait_closed().1, Closing::Notified);
    }
    assert_eq!(gateway.upstream.connections_accepted(), 0);
    // Also of one that follows a request that was complete.
    let mut connection = gateway.connect();
    let head = connection.head("GET", "/", &[]);
    connection.send(&[&head[..], &head[..20]].concat()).unwrap();
    assert_eq!(connection.response().unwrap().status, 200);
    assert_eq!(connection.response().unwrap().status, 408);
    gateway.wait_for_metric(GENERATED, &[("flag", "request_head_timeout")], 3.0);
    gateway.wait_for_closed("header_timeout", 3);
}

fn a_slow_body_is_408(driver: &str) {
    let gateway = Gateway::builder().io(driver).limits("body_timeout = \"300ms\"").start();
    for (framing, part) in [
        (("content-length", "100000"), "some"),
        (("content-length", "5"), ""),
        (("transfer-encoding", "chunked"), "4\r\nso"),
    ] {
        let mut connection = gateway.connect();
        let mut request = connection.head("POST", "/", &[framing]);
        request.extend(part.bytes());
        connection.send(&request).unwrap();
        let response = connection.response().unwrap();
        assert_eq!(
            (response.status, response.headers.get("connection")),
            (408, Some("close")),
            "{framing:?}"
        );
        assert_eq!(connection.wait_closed().1, Closing::Notified);
    }
    gateway.wait_for_metric(GENERATED, &[("flag", "request_body_timeout")], 3.0);
    gateway.wait_for_closed("body_timeout", 3);
    // RFC 9112 §8: to the upstream none of them looks complete.
    eventually(DEADLINE, "three broken requests upstream", || gateway.upstream.errors().len() == 3);
    gateway.assert_serves();
}

#[test]
fn a_body_that_keeps_coming_is_not_slow() {
    let gateway = Gateway::builder().limits("body_timeout = \"3s\"").start();
    let mut connection = gateway.connect();
    // Its session tickets have come with the answer, so what comes next is another.
    assert_eq!(connection.get("/").unwrap().status, 200);
    let head = connection.head("POST", "/", &[("content-length", "180")]);
    connection.send(&head).unwrap();
    let tcp = connection.tcp().try_clone().unwrap();
    let started = Instant::now();
    trickle(|byte| connection.send(byte).is_ok(), &tcp, &[b'x'; 180]);
    assert!(started.elapsed() > Duration::from_millis(3500), "this took longer than a pause may");
    assert_eq!(Echo::of(&connection.response().unwrap()).body_bytes, 180);
}

#[test]
fn a_client_that_takes_nothing_of_its_response_is_cut_off() {
    let gateway = Gateway::builder().limits("body_timeout = \"300ms\"").start();
    let mut connection = gateway.connect();
    let head = connection.head("GET", "/big/100000000", &[]);
    connection.send(&head).unwrap();
    let record = gateway.wait_for_record("flag", "client_stalled");
    assert_eq!(record["status"], 200, "{record}");
    gateway.wait_for_closed("body_timeout", 1);
    assert!(connection.response().is_err(), "what it gets does not look complete");
    eventually(DEADLINE, "the upstream is let go", || gateway.upstream.connections_open() == 0);
}

fn an_idle_connection_is_closed_in_order(driver: &str) {
    let gateway = Gateway::builder().io(driver).limits("idle_timeout = \"3s\"").start();
    let mut unused = gateway.connect();
    let mut used = gateway.connect();
    let started = Instant::now();
    assert_eq!(used.get("/").unwrap().status, 200);
    for connection in [&mut used, &mut unused] {
        let (rest, closing) = connection.wait_closed();
        assert!(rest.is_empty() && closing == Closing::Notified, "{closing:?}");
    }
    assert!(started.elapsed() >= Duration::from_secs(3), "{:?}", started.elapsed());
    gateway.wait_for_closed("idle_timeout", 2);
}

#[test]
fn part_of_a_record_does_not_keep_an_idle_connection() {
    let gateway = Gateway::builder().limits("idle_timeout = \"300ms\", header_timeout = \"300ms\"").start();
    let mut connection = gateway.connect();
    // A record of 16 KiB is announced, and then trickles without end: nothing of it can be decrypted.
    let mut tcp = connection.tcp().try_clone().unwrap();
    tcp.write_all(&[23, 3, 3, 0x40, 0]).unwrap();
    let mut writer = tcp.try_clone().unwrap();
    let sent_all = trickle(|byte| writer.write_all(byte).is_ok(), &tcp, &[0; 1000]);
    assert!(!sent_all, "it may take as long as it wants");
    connection.wait_closed();
    gateway.wait_for_no_connections();
}

#[test]
fn a_client_that_asks_and_never_reads_is_not_served_without_bound() {
    let gateway = Gateway::start();
    gateway.assert_serves();
    let before = gateway.peak_resident_bytes();
    let mut connection = gateway.client().timeout(Duration::from_millis(700)).connect(gateway.edge).unwrap();
    let requests = connection.head("GET", "/big/10000", &[]).repeat(100);
    let stalled = (0..10_000).find_map(|_| connection.send(&requests).err());
    assert!(matches!(stalled, Some(ClientError::Timeout)), "{stalled:?}");
    let growth = gateway.peak_resident_bytes().saturating_sub(before);
    assert!(growth < 16 << 20, "{growth} bytes");
    assert!(gateway.upstream.requests().len() < 50_000);
}

#[test]
fn a_connection_serves_as_many_requests_as_it_may() {
    let gateway = Gateway::builder().limits("requests_per_connection_max = 3").start();
    let mut connection = gateway.connect();
    let requests: Vec<u8> = (0..5).flat_map(|_| connection.head("GET", "/", &[])).collect();
    connection.send(&requests).unwrap();
    for number in 1..=3 {
        let response = connection.response().unwrap();
        assert_eq!(response.status, 200);
        assert_eq!(response.headers.get("connection"), (number == 3).then_some("close"), "{number}");
    }
    assert_eq!(connection.wait_closed(), (Vec::new(), Closing::Notified));
    assert_eq!(gateway.upstream.requests().len(), 3);
    gateway.wait_for_closed("request_limit", 1);
}

#[test]
fn a_connection_ends_at_its_greatest_age() {
    let gateway = Gateway::builder().limits("connection_age_max = \"1s\"").start();
    let started = Instant::now();
    let mut idle = gateway.connect();
    // One that is never idle ends after an exchange, and says so in the response; unless its time comes between two of them,
    // since then it is idle.
    let mut closed = 1;
    loop {
        let mut busy = gateway.connect();
        closed += 1;
        let last = std::iter::repeat_with(|| busy.get("/")).find(|answer| {
            assert!(started.elapsed() < DEADLINE, "it is served for ever");
            !answer.as_ref().is_ok_and(|response| response.keeps_alive())
        });
        if last.is_some_and(|answer| answer.is_ok()) {
            assert_eq!(busy.wait_closed(), (Vec::new(), Closing::Notified));
            break;
        }
    }
    assert_eq!(idle.wait_closed(), (Vec::new(), Closing::Notified));
    assert!(started.elapsed() >= Duration::from_millis(950), "{:?}", started.elapsed());
    gateway.wait_for_closed("age_limit", closed);
}

#[test]
fn connections_beyond_the_limit_are_closed_at_once() {
    let gateway = Gateway::builder().limits("connections_max = 3").start();
    let mut admitted: Vec<_> = (0..3).map(|_| gateway.connect()).collect();
    for _ in 0..2 {
        let error = gateway.client().connect(gateway.edge).unwrap_err();
        assert!(matches!(error, ClientError::Cut | ClientError::Reset), "{error}");
    }
    gateway.wait_for_closed("connection_limit", 2);
    for connection in &mut admitted {
        assert_eq!(connection.get("/").unwrap().status, 200, "those that were there are not disturbed");
    }
    drop(admitted.pop());
    gateway.wait_for_closed("peer", 1);
    assert_eq!(gateway.connect().get("/").unwrap().status, 200);
}

/// A failing accept must neither end the listener nor spin.
fn running_out_of_file_descriptors_is_survived(driver: &str) {
    let gateway = Gateway::builder().io(driver).open_files_max(64).start();
    gateway.assert_serves();
    let mut admitted = gateway.connect();
    assert_eq!(admitted.get("/").unwrap().status, 200);
    let silent: Vec<_> = (0..100).map(|_| connect_tcp(gateway.edge)).collect();
    eventually(DEADLINE, "there are no descriptors left", || gateway.process.open_files() >= 64);
    assert_eq!(admitted.get("/").unwrap().status, 200, "who is in is served");
    assert!(gateway.client().timeout(Duration::from_millis(500)).connect(gateway.edge).is_err());
    let before = cpu_time(&gateway);
    assert!(gateway.client().timeout(Duration::from_millis(500)).connect(gateway.edge).is_err());
    let used = cpu_time(&gateway) - before;
    assert!(used < Duration::from_millis(250), "{used:?} of processor time while it can do nothing");
    drop(silent);
    eventually(DEADLINE, "it serves again", || {
        let connected = gateway.client().timeout(Duration::from_secs(2)).connect(gateway.edge);
        connected.and_then(|mut connection| connection.get("/")).is_ok_and(|response| response.status == 200)
    });
}

/// What the program has used of all processors.
fn cpu_time(gateway: &Gateway) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", gateway.process.id())).unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_ascii_whitespace().collect();
    // proc(5): utime and stime, the 14th and 15th field, in hundredths of a second.
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(10 * ticks)
}

#[test]
fn connections_that_never_shake_hands_count_as_connections() {
    let gateway = Gateway::builder().limits("connections_max = 2, handshake_timeout = \"4s\"").start();
    let silent = [connect_tcp(gateway.edge), connect_tcp(gateway.edge)];
    gateway.wait_for_metric("ringward_connections_active", &[], 2.0);
    assert!(gateway.client().connect(gateway.edge).is_err());
    // They do not keep others out for longer than a handshake may take.
    gateway.wait_for_failed_handshakes("timeout", 2);
    gateway.assert_serves();
    drop(silent);
}
