//! Calls to a service that speaks HTTP/2, as services of gRPC do.

use std::net::SocketAddr;

use ringward_testkit::{DEADLINE, Gate, Http2, Http2Script, Http2Upstream, eventually, flags, kind};

use super::support::{Builder, Gateway, HOST, Host, on_both_drivers};
use super::{CANCEL, GRPC, builder, call, connect, end};

on_both_drivers!(
    a_call_goes_through_with_its_messages_metadata_and_status,
    a_call_is_cancelled_upstream_at_its_deadline,
);

/// With the upstream behind a route for a service, in front of everything else.
fn through(upstream: SocketAddr, keys: &str) -> Builder {
    let section = format!("[cluster.service]\nendpoints = [\"{upstream}\"]\nprotocol = \"http2\"");
    let host = Host::new(&[HOST]).route("grpc = \"a.S/*\"", &format!("cluster = \"service\"\n{keys}"));
    builder().section(&section).host(host)
}

/// Begins a call that has no messages.
fn begin(http2: &mut Http2, stream: u32, path: &str, fields: &[(&str, &str)]) {
    http2.request(stream, "POST", path, &[&[GRPC], fields].concat(), true).unwrap();
}

#[track_caller]
fn assert_recorded(gateway: &Gateway, path: &str, status: &str, flag: Option<&str>) {
    let record = gateway.wait_for_record("path", path);
    assert_eq!((&record["grpc_status"], record["flag"].as_str()), (&status.into(), flag), "{record}");
}

fn a_call_goes_through_with_its_messages_metadata_and_status(driver: &str) {
    let upstream = Http2Upstream::start();
    let gate = Gate::new();
    upstream.on(
        "/a.S/Both",
        Http2Script::new()
            .head(200, &[GRPC, ("x-first", "1")], false)
            .data("hello", false)
            .read_body()
            .data("bye", false)
            .wait(&gate)
            .trailers(&[("grpc-status", "9"), ("grpc-message", "not now"), ("x-last-bin", "AAEC")]),
    );
    upstream.on("/a.S/Head", Http2Script::new().head(200, &[GRPC, ("grpc-status", "16")], true));
    let gateway = through(upstream.address(), "").io(driver).start();
    let mut http2 = connect(&gateway);
    let metadata = [GRPC, ("te", "trailers"), ("x-key", "v"), ("x-key-bin", "AAEC")];
    http2.request(1, "POST", "/a.S/Both", &metadata, false).unwrap();
    // The service speaks before the client has said all, and the client after that.
    let head = http2.wait_for(kind::HEADERS);
    assert!(head.fields().contains(&("x-first".to_owned(), "1".to_owned())), "{:?}", head.fields());
    assert_eq!(http2.wait_for(kind::DATA).payload, b"hello");
    http2.send(kind::DATA, 0, 1, b"some").unwrap();
    http2.send(kind::DATA, flags::END_STREAM, 1, b"more").unwrap();
    assert_eq!(http2.wait_for(kind::DATA).payload, b"bye");
    gate.open();
    let trailers = http2.wait_for(kind::HEADERS).fields();
    let field = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(
        trailers,
        [field("grpc-status", "9"), field("grpc-message", "not now"), field("x-last-bin", "AAEC")]
    );
    let request = &upstream.requests()[0];
    for (name, value) in metadata {
        assert_eq!(request.headers.get(name), Some(value), "{name}");
    }
    assert_eq!(request.headers.get("grpc-timeout"), None);
    assert_recorded(&gateway, "/a.S/Both", "failed_precondition", None);
    let ended = call(&mut http2, 3, "/a.S/Head", &[]);
    assert_eq!((ended.outcome(), ended.is_trailers_only), (("200", Some("16"), None), true));
    assert_recorded(&gateway, "/a.S/Head", "unauthenticated", None);
}

fn a_call_is_cancelled_upstream_at_its_deadline(driver: &str) {
    let upstream = Http2Upstream::start();
    let gate = Gate::new();
    upstream.on("/a.S/Slow", Http2Script::new().wait(&gate));
    upstream.on("/a.S/Stream", Http2Script::new().head(200, &[GRPC], false).data("first", false).wait(&gate));
    upstream.on("/a.S/Short", Http2Script::new().wait(&gate));
    let gateway = through(upstream.address(), "request_timeout = \"500ms\"").io(driver).start();
    let mut http2 = connect(&gateway);
    let exceeded = ("200", Some("4"), Some("gateway timeout"));
    assert_eq!(call(&mut http2, 1, "/a.S/Slow", &[("grpc-timeout", "150m")]).outcome(), exceeded);
    assert_recorded(&gateway, "/a.S/Slow", "deadline_exceeded", Some("grpc_timeout"));
    begin(&mut http2, 3, "/a.S/Stream", &[("grpc-timeout", "150m")]);
    assert_eq!(http2.wait_for(kind::DATA).payload, b"first");
    assert_eq!(http2.wait_for(kind::RST_STREAM).code(), CANCEL);
    // The route's limit, of a call that has none.
    assert_eq!(call(&mut http2, 5, "/a.S/Short", &[]).outcome(), exceeded);
    assert_recorded(&gateway, "/a.S/Short", "deadline_exceeded", Some("request_timeout"));
    eventually(DEADLINE, "all calls are cancelled", || upstream.resets() == [CANCEL; 3]);
    for (request, most) in upstream.requests().iter().zip([150_000, 150_000, 500_000]) {
        let told = request.headers.get("grpc-timeout").expect("what is left");
        let micros: u64 = told.strip_suffix('u').expect("microseconds").parse().unwrap();
        assert!((1..most).contains(&micros), "{told}");
    }
    // The connection to the service has outlived them.
    assert_eq!(call(&mut http2, 7, "/a.S/Echo", &[]).field(":status"), Some("200"));
    assert_eq!(upstream.connections_accepted(), 1);
}

#[test]
fn a_client_that_calls_off_is_passed_on() {
    let upstream = Http2Upstream::start();
    let gate = Gate::new();
    upstream.on("/a.S/Slow", Http2Script::new().wait(&gate));
    let gateway = through(upstream.address(), "").start();
    let mut http2 = connect(&gateway);
    begin(&mut http2, 1, "/a.S/Slow", &[]);
    gate.wait_for_arrivals(1, DEADLINE);
    http2.send(kind::RST_STREAM, 0, 1, &CANCEL.to_be_bytes()).unwrap();
    eventually(DEADLINE, "the call is cancelled", || upstream.resets() == [CANCEL]);
    assert_recorded(&gateway, "/a.S/Slow", "none", Some("client_gone"));
}

/// `PROTOCOL-HTTP2.md` says what codes of resets mean to a client of gRPC.
#[test]
fn resets_of_the_service_have_the_status_that_they_mean() {
    let upstream = Http2Upstream::start();
    let gateway = through(upstream.address(), "").start();
    let mut http2 = connect(&gateway);
    for (index, (code, status)) in [(2, "13"), (8, "1"), (11, "8"), (1, "13")].into_iter().enumerate() {
        let path = format!("/a.S/Reset{code}");
        upstream.on(&path, Http2Script::new().reset(code));
        let ended = call(&mut http2, 4 * index as u32 + 1, &path, &[]);
        assert_eq!(ended.outcome(), ("200", Some(status), Some("bad gateway")), "{code}");
    }
    // After the head of the response it is a reset for the client too.
    let gate = Gate::new();
    let midway = Http2Script::new().head(200, &[GRPC], false).data("first", false).wait(&gate).reset(2);
    upstream.on("/a.S/Midway", midway);
    begin(&mut http2, 101, "/a.S/Midway", &[]);
    assert_eq!(http2.wait_for(kind::DATA).payload, b"first");
    gate.open();
    assert_eq!(http2.wait_for(kind::RST_STREAM).stream, 101);
    assert_recorded(&gateway, "/a.S/Midway", "none", Some("upstream_reset"));
    http2.request(103, "POST", "/a.S/Fine", &[GRPC], true).unwrap();
    assert_eq!(end(&mut http2, 103).field(":status"), Some("200"));
}

/// What a call takes while nothing moves, on either side of it: run with `--ignored --nocapture`, and without other load.
#[test]
#[ignore = "holds a thousand calls"]
fn memory_of_held_calls() {
    const CONNECTIONS: usize = 10;
    const CALLS: u32 = 100;
    let upstream = Http2Upstream::start();
    let gate = Gate::new();
    let held = Http2Script::new().head(200, &[GRPC], false).data("hello", false).wait(&gate);
    upstream.on("/a.S/Held", held.trailers(&[("grpc-status", "0")]));
    let gateway = through(upstream.address(), "").start();
    let mut clients: Vec<Http2> = (0..CONNECTIONS).map(|_| connect(&gateway)).collect();
    let before = gateway.process.resident_bytes();
    for client in &mut clients {
        for call in 0..CALLS {
            client.request(2 * call + 1, "POST", "/a.S/Held", &[GRPC, ("te", "trailers")], false).unwrap();
            assert_eq!(client.wait_for(kind::DATA).payload, b"hello");
        }
    }
    let calls = CONNECTIONS as u64 * u64::from(CALLS);
    let each = gateway.process.resident_bytes().saturating_sub(before) / calls;
    println!("{each} bytes for each of {calls} calls");
    gate.open();
    for client in &mut clients {
        for _ in 0..CALLS {
            // Heads have been passed over, trailers end their streams.
            while client.wait_for(kind::HEADERS).flags & flags::END_STREAM == 0 {}
        }
    }
    assert!(each < 32 << 10, "{each} bytes");
}

/// What calls end with counts, and not that the client had no more time.
#[test]
fn a_service_that_is_unavailable_is_left_out() {
    let (bad, good) = (Http2Upstream::start(), Http2Upstream::start());
    let gate = Gate::new();
    for (upstream, status) in [(&bad, "14"), (&good, "0")] {
        upstream.on("/a.S/Get", Http2Script::new().head(200, &[GRPC, ("grpc-status", status)], true));
        upstream.on("/a.S/Late", Http2Script::new().head(200, &[GRPC, ("grpc-status", "4")], true));
        upstream.on("/a.S/Slow", Http2Script::new().wait(&gate));
    }
    let section = format!(
        "[cluster.service]\nendpoints = [\"{}\", \"{}\"]\nprotocol = \"http2\"\n\
         outlier_detection = {{ consecutive_failures = 2 }}",
        bad.address(),
        good.address()
    );
    let host = Host::new(&[HOST]).route("grpc = \"a.S/*\"", "cluster = \"service\"");
    let gateway = builder().section(&section).host(host).start();
    let ejections = || gateway.metric("ringward_upstream_ejections_total", &[("cluster", "service")]);
    let mut http2 = connect(&gateway);
    let mut streams = (1..).step_by(2);
    for _ in 0..6 {
        assert_eq!(call(&mut http2, streams.next().unwrap(), "/a.S/Late", &[]).outcome().1, Some("4"));
        let ended = call(&mut http2, streams.next().unwrap(), "/a.S/Slow", &[("grpc-timeout", "50m")]);
        assert_eq!(ended.outcome().1, Some("4"));
    }
    assert_eq!(ejections(), 0.0);
    eventually(DEADLINE, "it is left out", || {
        call(&mut http2, streams.next().unwrap(), "/a.S/Get", &[]);
        ejections() == 1.0
    });
    let share = || {
        let endpoint = bad.address().to_string();
        gateway.metric("ringward_upstream_endpoint_share", &[("cluster", "service"), ("endpoint", &endpoint)])
    };
    eventually(DEADLINE, "it gets none", || share() == 0.0);
    for _ in 0..4 {
        assert_eq!(call(&mut http2, streams.next().unwrap(), "/a.S/Get", &[]).outcome().1, Some("0"));
    }
    gate.open();
}
