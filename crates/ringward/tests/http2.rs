//! HTTP/2 through the gateway: what of it is like HTTP/1.1, and what only HTTP/2 has.
#![allow(clippy::unwrap_used, reason = "a failed expectation here is a failed test")]

mod support;

use ringward_testkit::{DEADLINE, Echo, Gate, Http2, Pattern, Script, Signal, eventually, flags, kind};

use self::support::{Builder, Gateway, HOST, Host, on_both_drivers};

on_both_drivers!(
    requests_are_served_like_those_of_http_1,
    bodies_pass_in_both_directions,
    streams_do_not_wait_for_each_other,
);

// RFC 9113 §7.
const NO_ERROR: u32 = 0;
const REFUSED_STREAM: u32 = 7;
const CANCEL: u32 = 8;
const ENHANCE_YOUR_CALM: u32 = 11;

fn builder() -> Builder {
    Gateway::builder().listener("http2 = true")
}

fn connect(gateway: &Gateway) -> Http2 {
    connect_with(gateway, &[])
}

fn connect_with(gateway: &Gateway, settings: &[(u16, u32)]) -> Http2 {
    Http2::new(gateway.client().alpn(&["h2", "http/1.1"]).connect(gateway.edge).unwrap(), settings)
}

/// Nothing may stand between the frames of a head, not even the confirmation of settings.
fn confirm_settings(http2: &mut Http2) {
    let is_ours = http2.wait_for(kind::SETTINGS).flags & flags::ACK != 0;
    assert_eq!(http2.wait_for(kind::SETTINGS).flags & flags::ACK != 0, !is_ours);
}

/// What the upstream says that it got.
fn echo(body: &[u8]) -> Echo {
    serde_json::from_slice(body).unwrap()
}

fn get(http2: &mut Http2, stream: u32, path: &str) -> (u16, Vec<u8>, bool) {
    http2.request(stream, "GET", path, &[], true).unwrap();
    http2.response(stream)
}

fn requests_are_served_like_those_of_http_1(driver: &str) {
    let gateway = builder().io(driver).start();
    let mut http2 = connect(&gateway);
    let fields =
        [("x-a", "1"), ("cookie", "a=1"), ("cookie", "b=2"), ("client-cert", "forged"), ("te", "trailers")];
    http2.request(1, "GET", "/a/../b?c=d", &fields, true).unwrap();
    let (status, body, _) = http2.response(1);
    let echo = echo(&body);
    assert_eq!((status, &*echo.target, echo.headers.get("host")), (200, "/b?c=d", Some(HOST)));
    assert_eq!((echo.headers.get("x-a"), echo.headers.get("cookie")), (Some("1"), Some("a=1; b=2")));
    assert!(echo.headers.get("client-cert").unwrap().starts_with(":MII"), "{:?}", echo.headers);
    assert_eq!(echo.headers.get("te"), None);
    let record = gateway.wait_for_record("path", "/b");
    assert_eq!((&record["protocol"], &record["status"]), (&"HTTP/2".into(), &200.into()), "{record}");

    for (stream, path, status) in
        [(3, "/status/404", 404), (5, "/status/204", 204), (7, "/status/304", 304), (9, "/big/0", 200)]
    {
        assert_eq!(get(&mut http2, stream, path), (status, Vec::new(), false), "{path}");
    }
    http2.request(11, "HEAD", "/big/1000", &[], true).unwrap();
    assert_eq!(http2.response(11), (200, Vec::new(), false));
    assert_eq!(gateway.metric("ringward_connections_accepted_total", &[]), 1.0);
    assert!(gateway.upstream.errors().is_empty(), "{:?}", gateway.upstream.errors());
}

fn bodies_pass_in_both_directions(driver: &str) {
    let gateway = builder().io(driver).start();
    let mut http2 = connect(&gateway);
    for (stream, path) in [(1, "/big/300000"), (3, "/big-chunked/300000")] {
        let (status, body, _) = get(&mut http2, stream, path);
        assert!(status == 200 && body == Pattern::new(300_000).to_vec(), "{path}: {status}, {}", body.len());
    }
    // Within the window of a stream, in frames of several sizes; with a length and without.
    let body = Pattern::new(60_000).to_vec();
    for (stream, fields) in [(5, &[][..]), (7, &[("content-length", "60000")])] {
        http2.request(stream, "POST", "/upload", fields, false).unwrap();
        for (index, piece) in body.chunks(7_000).enumerate() {
            let last = if index == 8 { flags::END_STREAM } else { 0 };
            http2.send(kind::DATA, last, stream, piece).unwrap();
        }
        let (status, answer, _) = http2.response(stream);
        let echo = echo(&answer);
        assert_eq!((status, echo.body_bytes), (200, 60_000));
        assert_eq!(echo.body_sha256, ringward_testkit::sha256_hex(&body));
        let framing = (echo.headers.get("content-length"), echo.headers.get("transfer-encoding"));
        assert_eq!(framing, if stream == 7 { (Some("60000"), None) } else { (None, Some("chunked")) });
    }
    // Trailers of the response, and of the request.
    http2.request(9, "POST", "/trailers", &[], false).unwrap();
    http2.send(kind::DATA, 0, 9, b"hello").unwrap();
    let trailers = b"\x00\x03x-t\x011\x00\x0bclient.cert\x011";
    http2.send(kind::HEADERS, flags::END_HEADERS | flags::END_STREAM, 9, trailers).unwrap();
    let (status, _, has_trailers) = http2.response(9);
    assert!(status == 200 && has_trailers, "{status}");
    http2.request(11, "POST", "/upload", &[], false).unwrap();
    http2.send(kind::DATA, 0, 11, b"hello").unwrap();
    http2.send(kind::HEADERS, flags::END_HEADERS | flags::END_STREAM, 11, trailers).unwrap();
    let echo = echo(&http2.response(11).1);
    assert_eq!((echo.body_bytes, echo.trailers.get("x-t")), (5, Some("1")));
    assert_eq!(echo.trailers.get("client.cert"), None, "only we say who the client is");
    eventually(DEADLINE, "the forged trailer is counted", || {
        gateway.metric("ringward_identity_headers_stripped_total", &[]) >= 1.0
    });
    assert!(gateway.upstream.errors().is_empty(), "{:?}", gateway.upstream.errors());
}

fn streams_do_not_wait_for_each_other(driver: &str) {
    let gateway = builder().io(driver).start();
    let gate = Gate::new();
    gateway.upstream.on("/slow", Script::new().wait(&gate).respond(200, &[], "late"));
    let mut http2 = connect(&gateway);
    // The connection's window has room for all of them.
    http2.send(kind::WINDOW_UPDATE, 0, 0, &(1_u32 << 20).to_be_bytes()).unwrap();
    http2.request(1, "GET", "/slow", &[], true).unwrap();
    // Whose window is never moved.
    http2.request(3, "GET", "/big/1000000", &[], true).unwrap();
    // Whose body never ends.
    http2.request(5, "POST", "/never", &[], false).unwrap();
    assert_eq!(get(&mut http2, 7, "/a").0, 200);
    assert_eq!(get(&mut http2, 9, "/big/100").1.len(), 100);
    gate.open();
    assert_eq!(http2.response(1).1, b"late");
}

#[test]
fn only_who_asks_for_it_where_it_is_offered_speaks_http_2() {
    // By default.
    let gateway = Gateway::start();
    for (offered, chosen) in [
        (&["h2", "http/1.1"][..], Some(&b"h2"[..])),
        (&["http/1.1", "h2"], Some(b"h2")),
        (&["http/1.1"], Some(b"http/1.1")),
        (&[], None),
    ] {
        let connection = gateway.client().alpn(offered).connect(gateway.edge).unwrap();
        assert_eq!(connection.alpn(), chosen, "{offered:?}");
    }
    gateway.client().alpn(&["h3", "spdy/3"]).refusal(gateway.edge);
    gateway.wait_for_failed_handshakes("no_alpn", 1);
    gateway.assert_serves();
    let gateway = Gateway::builder().listener("http2 = false").start();
    let connection = gateway.client().alpn(&["h2", "http/1.1"]).connect(gateway.edge).unwrap();
    assert_eq!(connection.alpn(), Some(&b"http/1.1"[..]));
}

#[test]
fn policies_decide_about_each_stream_and_know_its_protocol() {
    let policy = "package ringward.authz\n\ndecision if {\n\tinput.request.path == \"/open\"\n\tinput.request.protocol == \"HTTP/2\"\n\tinput.connection.alpn == \"h2\"\n}\n\ndecision := {\"allowed\": false, \"body\": \"not you\"} if input.request.path == \"/closed\"\n";
    let gateway = builder().policy("main", policy).host(Host::new(&[HOST]).policy("main")).start();
    let mut http2 = connect(&gateway);
    assert_eq!(get(&mut http2, 1, "/open").0, 200);
    assert_eq!(get(&mut http2, 3, "/closed"), (403, b"not you".to_vec(), false));
    assert_eq!(get(&mut http2, 5, "/open").0, 200);
    let record = gateway.wait_for_record("path", "/closed");
    assert_eq!(record["flag"], "policy_denied", "{record}");
}

#[test]
fn policies_see_bodies() {
    let policy = "package ringward.authz\n\ndecision if input.request.body.json.kind == \"good\"\n";
    let host = Host::new(&[HOST]).policy("main").route("path = \"/{rest...}\"", "policy_body_max = \"1KiB\"");
    let gateway = builder().policy("main", policy).host(host).start();
    let mut http2 = connect(&gateway);
    for (stream, body, expected) in [(1, "{\"kind\": \"good\"}", 200), (3, "{\"kind\": \"bad\"}", 403)] {
        http2.request(stream, "POST", "/x", &[("content-type", "application/json")], false).unwrap();
        let (first, second) = body.as_bytes().split_at(5);
        http2.send(kind::DATA, 0, stream, first).unwrap();
        http2.send(kind::DATA, flags::END_STREAM, stream, second).unwrap();
        let (status, answer, _) = http2.response(stream);
        assert_eq!(status, expected, "{body}");
        if status == 200 {
            assert_eq!(echo(&answer).body_sha256, ringward_testkit::sha256_hex(body.as_bytes()));
        }
    }
}

#[test]
fn what_is_no_request_on_http_1_is_none_here() {
    let gateway = builder().start();
    let mut http2 = connect(&gateway);
    for (index, (path, fields, status)) in [
        ("/a%00b", &[][..], 400),
        ("/a/%2e%2e/%2e%2e/b", &[], 400),
        ("/", &[("host", "other.example.com")], 400),
        ("/", &[("expect", "more")], 417),
        ("/", &[("content-length", "x")], 400),
    ]
    .into_iter()
    .enumerate()
    {
        let stream = 2 * index as u32 + 1;
        http2.request(stream, "POST", path, fields, false).unwrap();
        let answered = loop {
            let frame = http2.frame().unwrap();
            match frame.kind {
                kind::HEADERS if frame.stream == stream => break frame.status(),
                // The crate has refused it before us.
                kind::RST_STREAM if frame.stream == stream => break 400,
                _ => {}
            }
        };
        assert_eq!(answered, status, "{path} {fields:?}");
    }
    assert!(gateway.upstream.requests().is_empty());
    assert_eq!(get(&mut http2, 21, "/fine").0, 200);
}

#[test]
fn requests_for_hosts_with_other_rules_are_misdirected_and_for_the_same_rules_served() {
    let strict = "other.example.com";
    let gateway = builder()
        .host(Host::new(&[HOST]))
        .host(Host::new(&["same.example.com"]))
        .host(Host::new(&[strict]).client_auth("mode = \"optional\", trust = \"partners\""))
        .start();
    let mut http2 = connect(&gateway);
    for (stream, host, status) in
        [(1, HOST, 200), (3, "same.example.com", 200), (5, strict, 421), (7, "none.example", 421)]
    {
        let head = [(":method", "GET"), (":scheme", "https"), (":path", "/x"), (":authority", host)];
        let block: Vec<u8> = head
            .iter()
            .flat_map(|(name, value)| {
                [&[0, name.len() as u8], name.as_bytes(), &[value.len() as u8], value.as_bytes()].concat()
            })
            .collect();
        http2.send(kind::HEADERS, flags::END_HEADERS | flags::END_STREAM, stream, &block).unwrap();
        assert_eq!(http2.response(stream).0, status, "{host}");
    }
    assert_eq!(gateway.upstream.requests().len(), 2);
}

#[test]
fn a_stream_that_is_called_off_ends_its_exchange_and_no_other() {
    let gateway = builder().start();
    let gate = Gate::new();
    gateway.upstream.on("/slow", Script::new().wait(&gate).respond(200, &[], "late"));
    let mut http2 = connect(&gateway);
    http2.request(1, "GET", "/slow", &[], true).unwrap();
    gate.wait_for_arrivals(1, DEADLINE);
    http2.send(kind::RST_STREAM, 0, 1, &CANCEL.to_be_bytes()).unwrap();
    let record = gateway.wait_for_record("path", "/slow");
    assert_eq!((&record["flag"], &record["status"]), (&"client_gone".into(), &0.into()), "{record}");
    gate.open();
    assert_eq!(get(&mut http2, 3, "/a").0, 200);
}

#[test]
fn a_response_that_breaks_off_is_reset_and_not_ended() {
    let gateway = builder().start();
    gateway
        .upstream
        .on("/lie", Script::new().send("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nshort").close());
    gateway.upstream.on("/nothing", Script::new().close());
    let mut http2 = connect(&gateway);
    assert_eq!(get(&mut http2, 1, "/nothing").0, 502);
    http2.request(3, "GET", "/lie", &[], true).unwrap();
    let reset = http2.wait_for(kind::RST_STREAM);
    assert_eq!(reset.stream, 3);
    assert_ne!(reset.code(), NO_ERROR);
    assert_eq!(get(&mut http2, 5, "/a").0, 200);
}

#[test]
fn a_body_that_is_too_large_is_refused_and_the_connection_goes_on() {
    let gateway = builder().limits("body_bytes_max = \"1KiB\"").start();
    let mut http2 = connect(&gateway);
    http2.request(1, "POST", "/x", &[("content-length", "2000")], false).unwrap();
    assert_eq!(http2.wait_for(kind::HEADERS).status(), 413);
    http2.request(3, "POST", "/y", &[], false).unwrap();
    http2.send(kind::DATA, 0, 3, &[b'x'; 2000]).unwrap();
    assert_eq!(http2.wait_for(kind::HEADERS).status(), 413);
    assert_eq!(get(&mut http2, 5, "/a").0, 200);
}

#[test]
fn a_body_that_stalls_times_out_alone() {
    let gateway = builder().limits("body_timeout = \"200ms\"").start();
    let mut http2 = connect(&gateway);
    http2.request(1, "POST", "/x", &[("content-length", "2000")], false).unwrap();
    http2.send(kind::DATA, 0, 1, b"some").unwrap();
    assert_eq!(http2.response(1).0, 408);
    // RFC 9113 §8.1: what else there is of the body is not wanted.
    let reset = http2.wait_for(kind::RST_STREAM);
    assert_eq!((reset.stream, reset.code()), (1, NO_ERROR));
    // Nor does one wait for ever that takes nothing. The connection's window has room for others.
    http2.send(kind::WINDOW_UPDATE, 0, 0, &(1_u32 << 20).to_be_bytes()).unwrap();
    http2.request(3, "GET", "/big/1000000", &[], true).unwrap();
    assert_eq!(http2.wait_for(kind::RST_STREAM).stream, 3);
    let record = gateway.wait_for_record("flag", "client_stalled");
    assert_eq!(record["path"], "/big/1000000");
    assert_eq!(get(&mut http2, 5, "/a").0, 200);
}

#[test]
fn an_answer_that_nobody_takes_is_given_up() {
    let gateway = builder().limits("body_bytes_max = \"1KiB\", body_timeout = \"200ms\"").start();
    const INITIAL_WINDOW_SIZE: u16 = 4;
    let mut http2 = connect_with(&gateway, &[(INITIAL_WINDOW_SIZE, 2)]);
    http2.request(1, "POST", "/x", &[("content-length", "2000")], false).unwrap();
    assert_eq!(http2.wait_for(kind::HEADERS).status(), 413);
    assert_eq!(http2.wait_for(kind::DATA).payload, b"co");
    let reset = http2.wait_for(kind::RST_STREAM);
    assert_eq!((reset.stream, reset.code()), (1, CANCEL));
    drop(http2);
    gateway.wait_for_closed("peer", 1);
}

#[test]
fn idle_connections_and_slow_heads_end_in_order() {
    let gateway = builder().limits("idle_timeout = \"2s\", header_timeout = \"2s\"").start();
    let mut http2 = connect(&gateway);
    assert_eq!(get(&mut http2, 1, "/a").0, 200);
    assert_eq!(http2.wait_for_end(), Some(NO_ERROR));
    gateway.wait_for_closed("idle_timeout", 1);
    // A head that has begun, while another stream is in work.
    let gateway = builder().limits("header_timeout = \"2s\"").start();
    let gate = Gate::new();
    gateway.upstream.on("/slow", Script::new().wait(&gate).respond(200, &[], "late"));
    let mut http2 = connect(&gateway);
    confirm_settings(&mut http2);
    http2.request(1, "GET", "/slow", &[], true).unwrap();
    http2.send(kind::HEADERS, flags::END_STREAM, 3, b"\x00\x07:method\x03GET").unwrap();
    assert_eq!(http2.wait_for_end(), Some(NO_ERROR));
    gateway.wait_for_closed("header_timeout", 1);
    gate.open();
}

#[test]
fn no_more_streams_run_than_the_limit_allows() {
    let gateway = builder().limits("streams_max = 2").start();
    let gate = Gate::new();
    gateway.upstream.on("/slow", Script::new().wait(&gate).respond(200, &[], "late"));
    let mut http2 = connect(&gateway);
    // The limit holds from the moment at which the client has confirmed it.
    let settings = http2.wait_for(kind::SETTINGS);
    assert!(settings.payload.chunks(6).any(|setting| setting == [0, 3, 0, 0, 0, 2]), "{settings:?}");
    http2.wait_for(kind::SETTINGS);
    for stream in [1, 3, 5] {
        http2.request(stream, "GET", "/slow", &[], true).unwrap();
    }
    let refused = http2.wait_for(kind::RST_STREAM);
    assert_eq!((refused.stream, refused.code()), (5, REFUSED_STREAM));
    gate.wait_for_arrivals(2, DEADLINE);
    gate.open();
    assert_eq!(http2.response(1).1, b"late");
}

#[test]
fn floods_end_the_connection() {
    let gateway = builder().start();
    let frame = |kind: u8, flags: u8, stream: u32, payload: &[u8]| {
        [&[0, 0, payload.len() as u8, kind, flags], &stream.to_be_bytes()[..], payload].concat()
    };
    let floods = [
        ("settings", frame(kind::SETTINGS, 0, 0, &[0, 4, 0, 0, 0xff, 0xff])),
        ("pings", frame(kind::PING, 0, 0, &[0; 8])),
        ("priorities", frame(kind::PRIORITY, 0, 1, &[0, 0, 0, 0, 1])),
        ("unknown frames", frame(0xf0, 0, 0, b"")),
        ("window updates", frame(kind::WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1])),
        ("empty data", frame(kind::DATA, 0, 1, b"")),
    ];
    for (count, (name, frames)) in floods.iter().enumerate() {
        let mut http2 = connect(&gateway);
        http2.request(1, "POST", "/never", &[], false).unwrap();
        let _ = http2.send_many(3000, frames);
        assert_eq!(http2.wait_for_end(), Some(ENHANCE_YOUR_CALM), "{name}");
        gateway.wait_for_closed("frame_flood", count + 1);
    }
    gateway.assert_serves();
}

#[test]
fn pings_that_measure_responses_are_no_flood() {
    let gateway = builder().start();
    gateway.upstream.on("/data", Script::new().respond(200, &[], "some"));
    let mut http2 = connect(&gateway);
    // More than are given at once and with time, one for each response, as clients of gRPC do.
    for count in 0..400 {
        let stream = 2 * count + 1;
        http2.request(stream, "GET", "/data", &[], true).unwrap();
        assert_eq!(http2.response(stream).1, b"some", "stream {stream}");
        http2.send(kind::PING, 0, 0, &[0; 8]).unwrap();
    }
    gateway.assert_serves();
}

#[test]
fn heads_without_end_end_the_connection() {
    let gateway = builder().start();
    let mut http2 = connect(&gateway);
    confirm_settings(&mut http2);
    http2.send(kind::HEADERS, flags::END_STREAM, 1, b"\x00\x07:method\x03GET").unwrap();
    for _ in 0..100 {
        if http2.send(kind::CONTINUATION, 0, 1, b"\x00\x01x\x01y").is_err() {
            break;
        }
    }
    assert_eq!(http2.wait_for_end(), Some(ENHANCE_YOUR_CALM));
    gateway.wait_for_closed("frame_flood", 1);
}

#[test]
fn requests_that_are_begun_and_called_off_do_not_pile_up() {
    let gateway = builder().start();
    let gate = Gate::new();
    gateway.upstream.on("*", Script::new().wait(&gate).respond(200, &[], "late"));
    let mut http2 = connect(&gateway);
    for index in 0..1000 {
        let stream = 2 * index + 1;
        let sent = http2
            .request(stream, "GET", "/reset", &[], true)
            .and_then(|()| http2.send(kind::RST_STREAM, 0, stream, &CANCEL.to_be_bytes()));
        if sent.is_err() {
            break;
        }
    }
    assert_eq!(http2.wait_for_end(), Some(ENHANCE_YOUR_CALM));
    gateway.wait_for_closed("frame_flood", 1);
    gateway.wait_for_no_connections();
    gate.open();
    assert!(gateway.upstream.requests().len() <= 300, "{}", gateway.upstream.requests().len());
}

#[test]
fn resets_that_a_client_provokes_end_the_connection() {
    let gateway = builder().start();
    let gate = Gate::new();
    gateway.upstream.on("*", Script::new().wait(&gate).respond(200, &[], "late"));
    let mut http2 = connect(&gateway);
    for index in 0..200 {
        let stream = 2 * index + 1;
        // CVE-2025-8671: a window that becomes too large is an error of the stream.
        let sent = http2
            .request(stream, "GET", "/reset", &[], true)
            .and_then(|()| http2.send(kind::WINDOW_UPDATE, 0, stream, &0x7fff_ffff_u32.to_be_bytes()));
        if sent.is_err() {
            break;
        }
    }
    assert_eq!(http2.wait_for_end(), Some(ENHANCE_YOUR_CALM));
    gate.open();
}

#[test]
fn what_is_no_http_2_ends_the_connection() {
    let gateway = builder().start();
    let mut connection = gateway.client().alpn(&["h2"]).connect(gateway.edge).unwrap();
    connection.send(b"GET / HTTP/1.1\r\nhost: api.example.com\r\n\r\n").unwrap();
    connection.wait_closed();
    gateway.wait_for_closed("protocol_error", 1);
    let mut http2 = connect(&gateway);
    http2.send(kind::DATA, 0, 0, b"of no stream").unwrap();
    assert_eq!(http2.wait_for_end(), Some(1), "PROTOCOL_ERROR");
    gateway.wait_for_closed("protocol_error", 2);
}

#[test]
fn a_drain_lets_streams_end_and_takes_no_more() {
    let mut gateway = builder().start();
    let gate = Gate::new();
    gateway.upstream.on("/slow", Script::new().wait(&gate).respond(200, &[], "late"));
    let mut http2 = connect(&gateway);
    http2.request(1, "GET", "/slow", &[], true).unwrap();
    gate.wait_for_arrivals(1, DEADLINE);
    gateway.process.signal(Signal::TERM);
    // Without a request that would bring it up.
    assert_eq!(http2.wait_for(kind::GOAWAY).code(), NO_ERROR);
    gate.open();
    assert_eq!(http2.response(1).1, b"late");
    assert_eq!(http2.wait_for_end().unwrap_or(NO_ERROR), NO_ERROR);
    assert!(gateway.process.wait(DEADLINE).success());
}

#[test]
fn a_connection_ends_after_as_many_requests_as_it_may_make() {
    let gateway = builder().limits("requests_per_connection_max = 2").start();
    let mut http2 = connect(&gateway);
    assert_eq!(get(&mut http2, 1, "/a").0, 200);
    assert_eq!(get(&mut http2, 3, "/b").0, 200);
    assert_eq!(http2.wait_for_end(), Some(NO_ERROR));
    gateway.wait_for_closed("request_limit", 1);
}

#[test]
fn a_client_that_is_silent_while_it_waits_is_asked_whether_it_is_there() {
    let gateway = builder().limits("idle_timeout = \"2s\"").start();
    let gate = Gate::new();
    gateway.upstream.on("/slow", Script::new().wait(&gate).respond(200, &[], "late"));
    let mut http2 = connect(&gateway);
    http2.request(1, "GET", "/slow", &[], true).unwrap();
    for _ in 0..2 {
        // Reading answers.
        assert_eq!(http2.wait_for(kind::PING).flags & flags::ACK, 0);
    }
    // From now on nothing answers.
    gateway.wait_for_closed("idle_timeout", 1);
    let record = gateway.wait_for_record("path", "/slow");
    assert_eq!(record["flag"], "client_gone", "{record}");
    gate.open();
}

#[test]
fn interim_responses_pass_and_bodies_are_asked_for() {
    let gateway = builder().start();
    gateway.upstream.on(
        "/hints",
        Script::new().send("HTTP/1.1 103 Early Hints\r\nlink: a\r\n\r\n").respond(200, &[], "ok"),
    );
    let mut http2 = connect(&gateway);
    http2.request(1, "GET", "/hints", &[], true).unwrap();
    assert_eq!(http2.wait_for(kind::HEADERS).status(), 103);
    assert_eq!(http2.response(1), (200, b"ok".to_vec(), false));
    http2.request(3, "POST", "/upload", &[("expect", "100-continue")], false).unwrap();
    assert_eq!(http2.wait_for(kind::HEADERS).status(), 100);
    http2.send(kind::DATA, flags::END_STREAM, 3, b"hello").unwrap();
    assert_eq!(echo(&http2.response(3).1).body_bytes, 5);
}

#[test]
fn uploads_wait_for_an_upstream_that_does_not_read() {
    let gateway = builder().start();
    let gate = Gate::new();
    gateway.upstream.on("/stuck", Script::new().wait(&gate).read_body().respond(200, &[], "done"));
    let mut http2 = connect(&gateway);
    confirm_settings(&mut http2);
    http2.request(1, "POST", "/stuck", &[], false).unwrap();
    // As fast as the windows allow, until none is given back any more: what the sockets and buffers in between hold.
    let (mut stream, mut connection, mut sent) = (65_535_i64, 1_i64 << 20, 0);
    http2.connection().tcp().set_read_timeout(Some(std::time::Duration::from_millis(500))).unwrap();
    loop {
        if stream >= 16_000 && connection >= 16_000 {
            http2.send(kind::DATA, 0, 1, &[b'x'; 16_000]).unwrap();
            (stream, connection, sent) = (stream - 16_000, connection - 16_000, sent + 16_000);
            assert!(sent < 64 << 20, "nothing holds the client back");
            continue;
        }
        match http2.frame() {
            Ok(frame) if frame.kind == kind::WINDOW_UPDATE => {
                let moved = i64::from(u32::from_be_bytes(frame.payload[..].try_into().unwrap()));
                *(if frame.stream == 0 { &mut connection } else { &mut stream }) += moved;
            }
            Ok(_) => {}
            Err(_) => break,
        }
    }
    http2.connection().tcp().set_read_timeout(Some(DEADLINE)).unwrap();
    gate.open();
    http2.send(kind::DATA, flags::END_STREAM, 1, b"").unwrap();
    assert_eq!(http2.response(1).0, 200);
    assert!(gateway.peak_resident_bytes() < 256 << 20);
}

#[test]
fn a_client_that_is_not_trusted_any_more_is_served_no_further_stream() {
    let gateway = builder().stateful().start();
    let gate = Gate::new();
    gateway.upstream.on("/slow", Script::new().wait(&gate).respond(200, &[], "late"));
    let mut http2 = connect(&gateway);
    http2.request(1, "GET", "/slow", &[], true).unwrap();
    gate.wait_for_arrivals(1, DEADLINE);
    let files = gateway.client_files("partner", &gateway.partner);
    gateway.ask(&["revoke", "--cert", files.chain.to_str().unwrap(), "--reason", "lost laptop"]);
    http2.request(3, "GET", "/after", &[], true).unwrap();
    let refused = http2.wait_for(kind::RST_STREAM);
    assert_eq!((refused.stream, refused.code()), (3, REFUSED_STREAM));
    assert!(!gateway.has_reached("/after"));
    gate.open();
    assert_eq!(http2.response(1).1, b"late");
    http2.wait_for_end();
    gateway.wait_for_closed("revoked", 1);
}

#[test]
fn clients_that_vanish_take_nothing_with_them() {
    let gateway = builder().limits("body_timeout = \"300ms\"").start();
    let gate = Gate::new();
    gateway.upstream.on("/slow", Script::new().wait(&gate).respond(200, &[], "late"));
    for round in 0..20 {
        let mut http2 = connect_with(&gateway, &[(4, if round % 2 == 0 { 10 } else { 1 << 20 })]);
        http2.send(kind::WINDOW_UPDATE, 0, 0, &(1_u32 << 20).to_be_bytes()).unwrap();
        for stream in 0..40 {
            let path = ["/big/60000", "/slow", "/status/404", "/big-chunked/100"][stream as usize % 4];
            http2.request(2 * stream + 1, "POST", path, &[], stream % 3 == 0).unwrap();
        }
        match round % 4 {
            0 => http2.into_connection().reset(),
            1 => drop(http2),
            // In the middle of a frame, with an error of the protocol, or in order.
            2 => http2.connection().send(&[0, 0, 9]).unwrap(),
            _ => drop(http2.send(kind::HEADERS, 0, 2, b"nonsense")),
        }
    }
    gate.open();
    gateway.wait_for_no_connections();
    assert_eq!(gateway.metric("ringward_worker_panics_total", &[]), 0.0);
    gateway.assert_serves();
}

/// HTTP/1.1 refuses it. Here it is gone before anybody could look at it; what counts is that all see the same.
#[test]
fn a_fragment_is_seen_by_nobody() {
    let gateway = builder().start();
    let mut http2 = connect(&gateway);
    for (stream, path, seen) in [(1, "/a#/../b", "/a"), (3, "/c?d=e#f", "/c?d=e"), (5, "#/g", "/")] {
        let (status, body, _) = get(&mut http2, stream, path);
        assert_eq!((status, &*echo(&body).target), (200, seen), "{path}");
        let record = gateway.wait_for_record("path", seen.split('?').next().unwrap());
        assert_eq!(record["status"], 200, "{record}");
    }
    assert_eq!(gateway.connect().get("/a#b").unwrap().status, 400);
}
