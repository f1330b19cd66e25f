//! Clients of HTTP/1.1 and HTTP/2 in front of upstreams of HTTP/1.1 and HTTP/2.

use ringward_testkit::{DEADLINE, Gate, Http2Script, Http2Upstream, Pattern, eventually, sha256_hex};

use super::caller::{BOTH, Caller, Speaks};
use super::support::{Gateway, HOST, on_both_drivers};

on_both_drivers!(
    messages_are_the_same_in_every_pair,
    large_bodies_pass_in_every_pair,
    what_comes_before_the_response_passes,
);

/// For every pair of client and upstream.
fn for_every_pair(driver: &str, test: impl Fn(&Gateway, Speaks, Speaks)) {
    let http2 = Http2Upstream::start();
    for (speaks, gateway) in [
        (Speaks::Http1, Gateway::builder().listener("http2 = true").limits("body_bytes_max = \"unlimited\"")),
        (Speaks::Http2, super::builder(http2.address(), "")),
    ] {
        let gateway = gateway.io(driver).start();
        BOTH.iter().for_each(|client| test(&gateway, *client, speaks));
        assert!(gateway.upstream.errors().is_empty(), "{:?}", gateway.upstream.errors());
        assert_eq!(gateway.metric("ringward_worker_panics_total", &[]), 0.0);
    }
    assert_eq!(http2.connections_accepted(), 1, "all share one connection");
    assert!(http2.resets().is_empty(), "{:?}", http2.resets());
}

fn messages_are_the_same_in_every_pair(driver: &str) {
    for_every_pair(driver, |gateway, client, upstream| {
        let mut caller = Caller::new(gateway, client);
        let fields =
            [("x-a", "1"), ("x-a", "2"), ("Client-Cert".to_lowercase().leak(), "forged"), ("te", "trailers")];
        let echo = caller.request("GET", "/a/../b?c=d", &fields, b"").echo();
        assert_eq!((&*echo.method, &*echo.target, echo.headers.get("host")), ("GET", "/b?c=d", Some(HOST)));
        assert_eq!(echo.headers.all("x-a"), ["1", "2"], "{client:?} {upstream:?}");
        assert!(echo.headers.get("client-cert").unwrap().starts_with(":MII"), "{:?}", echo.headers);
        assert!(echo.headers.get("via").unwrap().ends_with(" ringward"));
        assert_eq!(echo.headers.get("te"), (upstream == Speaks::Http2).then_some("trailers"), "{client:?}");
        assert_eq!(echo.body_bytes, 0);

        for (path, status, bytes) in [
            ("/status/404", 404, 0),
            ("/status/204", 204, 0),
            ("/status/304", 304, 0),
            ("/big/0", 200, 0),
            ("/big/9", 200, 9),
        ] {
            let answer = caller.get(path);
            assert_eq!((answer.status, answer.body.len()), (status, bytes), "{client:?} {upstream:?} {path}");
        }
        let answer = caller.request("HEAD", "/big/1000", &[], b"");
        assert_eq!((answer.status, answer.body.len()), (200, 0));
        for path in ["/big/300000", "/big-chunked/300000"] {
            let answer = caller.get(path);
            assert!(answer.status == 200 && answer.body == Pattern::new(300_000).to_vec(), "{path}");
        }

        let echo = caller.request("POST", "/small", &[], b"hello").echo();
        assert_eq!((echo.body_bytes, &*echo.body_sha256), (5, &*sha256_hex(b"hello")));
        assert_eq!(echo.headers.get("content-length"), Some("5"));
        let echo = caller.request("PUT", "/empty", &[("content-length", "0")], b"").echo();
        assert_eq!((echo.body_bytes, echo.headers.get("content-length")), (0, Some("0")));
        let body = Pattern::new(200_000);
        for with_length in [true, false] {
            let echo = caller.upload("/upload", body, with_length).echo();
            assert_eq!((echo.body_bytes, &*echo.body_sha256), (200_000, &*body.sha256_hex()));
            assert_eq!(echo.headers.contains("content-length"), with_length);
        }
        let echo = caller.upload("/none", Pattern::new(0), false).echo();
        assert_eq!(echo.body_bytes, 0);

        let answer = caller.get("/trailers");
        assert_eq!(
            (&*answer.body, answer.has_trailers),
            (&b"first second"[..], true),
            "{client:?} {upstream:?}"
        );
        let stripped = "ringward_identity_headers_stripped_total";
        let before = gateway.metric(stripped, &[]);
        let trailers = [("x-t", "1"), ("client.cert", "forged"), ("content-length", "7")];
        // An HTTP/2 upstream would take the last one for a broken message.
        let echo = caller.upload_with_trailers("/upload", "hello", &trailers[..2]).echo();
        assert_eq!((echo.body_bytes, echo.trailers.get("x-t")), (5, Some("1")), "{client:?} {upstream:?}");
        assert_eq!(echo.trailers.get("client.cert"), None, "only we say who the client is");
        eventually(DEADLINE, "the forged trailer is counted", || gateway.metric(stripped, &[]) > before);
        if client == Speaks::Http1 {
            let echo = caller.upload_with_trailers("/upload", "hello", &trailers).echo();
            assert_eq!((echo.trailers.get("x-t"), echo.trailers.get("content-length")), (Some("1"), None));
        }
    });
}

fn large_bodies_pass_in_every_pair(driver: &str) {
    const BYTES: u64 = 20_000_000;
    for_every_pair(driver, |gateway, client, upstream| {
        let body = Pattern::new(BYTES);
        for with_length in [true, false] {
            let echo = Caller::new(gateway, client).upload("/upload", body, with_length).echo();
            assert_eq!(
                (echo.body_bytes, &*echo.body_sha256),
                (BYTES, &*body.sha256_hex()),
                "{client:?} {upstream:?}"
            );
        }
        for path in [format!("/big/{BYTES}"), format!("/big-chunked/{BYTES}")] {
            let answer = Caller::new(gateway, client).get(&path);
            assert_eq!(
                (answer.status, sha256_hex(&answer.body)),
                (200, body.sha256_hex()),
                "{client:?} {upstream:?}"
            );
        }
        let peak = gateway.peak_resident_bytes();
        assert!(peak < 100 << 20, "{peak} bytes: bodies are held");
    });
}

fn what_comes_before_the_response_passes(driver: &str) {
    let upstream = Http2Upstream::start();
    let gateway = super::builder(upstream.address(), "").io(driver).start();
    let hints = Http2Script::new().interim(100, &[]).interim(103, &[("link", "</a>")]).interim(103, &[]);
    upstream.on("/hints", hints.read_body().respond(200, &[], "ok"));
    // It resets what it has answered without having read it all (NO_ERROR, RFC 9113 §8.1).
    upstream.on("/early", Http2Script::new().respond(413, &[], "too much"));
    upstream.on("/early-and-patient", Http2Script::new().respond(413, &[], "too much").read_body());
    for client in BOTH {
        let mut caller = Caller::new(&gateway, client);
        for body in [&b""[..], b"hello"] {
            let answer = caller.request("POST", "/hints", &[], body);
            assert_eq!((answer.status, &*answer.interim, &*answer.body), (200, &[103, 103][..], &b"ok"[..]));
        }
        for path in ["/early", "/early-and-patient"] {
            let answer = Caller::new(&gateway, client).upload(path, Pattern::new(20_000_000), true);
            assert_eq!((answer.status, &*answer.body), (413, &b"too much"[..]), "{client:?} {path}");
        }
        assert_eq!(Caller::new(&gateway, client).get("/").status, 200);
    }
    assert_eq!(upstream.connections_accepted(), 1);
}

/// The first byte of a response leaves when it arrives, and so does every other: nothing waits for a buffer to fill.
#[test]
fn pieces_pass_as_they_come() {
    let upstream = Http2Upstream::start();
    let gateway = super::builder(upstream.address(), "").start();
    let gates = [Gate::new(), Gate::new()];
    let script = Http2Script::new().head(200, &[("content-type", "text/event-stream")], false);
    let script = script.wait(&gates[0]).data("data: 1\n\n", false).wait(&gates[1]).data("data: 2\n\n", true);
    upstream.on("/events", script);
    let Caller::Http2(mut streams) = Caller::new(&gateway, Speaks::Http2) else { unreachable!() };
    let stream = streams.begin("GET", "/events", &[], true);
    assert_eq!(streams.wait(stream, |answer| answer.status != 0).body, b"");
    gates[0].open();
    assert!(!streams.wait(stream, |answer| answer.body == b"data: 1\n\n").ended);
    gates[1].open();
    assert_eq!(streams.finish(stream).body, b"data: 1\n\ndata: 2\n\n");
}
