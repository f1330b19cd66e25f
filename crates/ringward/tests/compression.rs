//! `compression` of routes: who gets what, unchanged, at once, and never whole when it is not. curl decodes.
#![allow(clippy::unwrap_used, reason = "a failed expectation here is a failed test")]

mod support;

use std::io::Read;
use std::process::{Command, Output, Stdio};

use ringward_testkit::{Closing, Gate, Http2Script, Http2Upstream, Response, Script};

use self::support::{Builder, Gateway, HOST, Host, on_both_drivers, program};

on_both_drivers!(
    bodies_are_the_same_behind_every_coding,
    what_has_arrived_is_not_held_back,
    a_body_that_breaks_off_has_no_end,
);

const ROUTE: &str = "compression = { bytes_min = \"64B\" }";

fn host(keys: &str) -> Host {
    Host::new(&[HOST]).route("path = \"/c/{rest...}\"", keys).route("path = \"/plain\"", "")
}

fn builder() -> Builder {
    Gateway::builder().listener("http2 = true").host(host(ROUTE))
}

/// The same in front of an upstream of HTTP/2.
fn over_http2(upstream: &Http2Upstream, driver: &str) -> Gateway {
    let cluster = format!("[cluster.others]\nendpoints = \"{}\"\nprotocol = \"http2\"", upstream.address());
    let host = host(&format!("cluster = \"others\"\n{ROUTE}"));
    Gateway::builder().io(driver).listener("http2 = true").section(&cluster).host(host).start()
}

/// curl with these options, for a path of the gateway.
fn curl(gateway: &Gateway, path: &str, options: &[&str]) -> Command {
    let files = gateway.client_files("curl", &gateway.partner);
    let ca = gateway.pki.write_authorities("curl-ca.pem", &[&gateway.root]);
    let port = gateway.edge.port();
    let mut curl = program("curl", "curl");
    curl.args(["--silent", "--show-error", "--noproxy", "*", "--max-time", "60", "--cacert"]).arg(ca);
    curl.args(["--resolve", &format!("{HOST}:{port}:127.0.0.1"), "--cert"]).arg(&files.chain);
    curl.arg("--key").arg(&files.key).args(options).arg(format!("https://{HOST}:{port}{path}"));
    curl
}

fn accepting(coding: &str) -> [String; 2] {
    ["--header".to_owned(), format!("accept-encoding: {coding}")]
}

/// What curl makes of a body in this coding.
fn decoded(gateway: &Gateway, path: &str, coding: &str, options: &[&str]) -> Output {
    let accept = accepting(coding);
    let mut all = vec!["--compressed", &accept[0], &accept[1]];
    all.extend(options);
    curl(gateway, path, &all).output().unwrap()
}

/// Text in which much comes again.
fn text(bytes: usize) -> String {
    let mut text = String::with_capacity(bytes + 80);
    for number in 0_u64.. {
        if text.len() >= bytes {
            break;
        }
        let odd = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        text += &format!("{{\"order\": {number}, \"token\": \"{odd:08x}\", \"state\": \"on its way\"}}\n");
    }
    text.truncate(bytes);
    text
}

/// RFC 9113 §7.
const INTERNAL_ERROR: u32 = 2;
const JSON: (&str, &str) = ("content-type", "application/json");

fn bodies_are_the_same_behind_every_coding(driver: &str) {
    let body = text(3_000_000);
    let http2 = Http2Upstream::start();
    http2.on("/c/length", Http2Script::new().respond(200, &[JSON], &body));
    let over_http2 = over_http2(&http2, driver);
    let over_http1 = builder().io(driver).start();
    let upstream = &over_http1.upstream;
    upstream.on("/c/length", Script::new().respond(200, &[JSON], &body));
    let chunks = body.as_bytes().chunks(7_777).map(|chunk| std::str::from_utf8(chunk).unwrap());
    let chunks: Vec<&str> = chunks.collect();
    upstream.on("/c/chunked", Script::new().respond_chunked(200, &[JSON], &chunks, &[]));
    let head = "HTTP/1.0 200 OK\r\ncontent-type: application/json\r\n\r\n";
    upstream.on("/c/close", Script::new().send(head).send(&body).close());
    let codings = ["gzip", "br", "zstd"];
    for coding in codings {
        for version in ["--http1.0", "--http1.1", "--http2"] {
            let paths = [
                (&over_http1, "/c/length"),
                (&over_http1, "/c/chunked"),
                (&over_http1, "/c/close"),
                (&over_http2, "/c/length"),
            ];
            for (gateway, path) in paths {
                let output = decoded(gateway, path, coding, &[version]);
                assert!(output.status.success(), "{coding} {version} {path}: {output:?}");
                assert!(output.stdout == body.as_bytes(), "{coding} {version} {path}: another body");
            }
        }
        let label = [("coding", coding)];
        over_http1.wait_for_metric("ringward_compressed_responses_total", &label, 9.0);
        let received = over_http1.metric("ringward_compression_received_bytes_total", &label);
        let sent = over_http1.metric("ringward_compression_sent_bytes_total", &label);
        assert_eq!(received, 9.0 * body.len() as f64);
        assert!(sent > 0.0 && sent < received / 3.0, "{received} became {sent}");
    }
    // What the client has got is what counts.
    let record = over_http1.wait_for_record("path", "/c/length");
    assert!(record["sent_bytes"].as_u64().unwrap() < body.len() as u64 / 3, "{record}");
}

fn what_has_arrived_is_not_held_back(driver: &str) {
    let gateway = Gateway::builder()
        .io(driver)
        .listener("http2 = true")
        .host(host("compression = { content_types = [\"text/event-stream\"] }"))
        .start();
    for coding in ["gzip", "br", "zstd"] {
        for version in ["--http1.1", "--http2"] {
            let gate = Gate::new();
            let head =
                "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
            let script = Script::new().read_body().send(head).send("9\r\ndata: 1\n\n\r\n").wait(&gate);
            gateway.upstream.on("/c/events", script.send("9\r\ndata: 2\n\n\r\n0\r\n\r\n"));
            let accept = accepting(coding);
            let options = ["--compressed", "--no-buffer", version, &accept[0], &accept[1]];
            let mut client = curl(&gateway, "/c/events", &options).stdout(Stdio::piped()).spawn().unwrap();
            let mut stdout = client.stdout.take().unwrap();
            let mut event = [0; 9];
            // The upstream says no more before it was read.
            stdout.read_exact(&mut event).unwrap();
            assert_eq!(&event, b"data: 1\n\n", "{coding} {version}");
            gate.open();
            let mut rest = Vec::new();
            stdout.read_to_end(&mut rest).unwrap();
            assert_eq!(rest, b"data: 2\n\n", "{coding} {version}");
            assert!(client.wait().unwrap().success());
        }
        let label = [("coding", coding)];
        gateway.wait_for_metric("ringward_compressed_responses_total", &label, 2.0);
    }
}

fn a_body_that_breaks_off_has_no_end(driver: &str) {
    let gateway = builder().io(driver).start();
    let body = text(100_000);
    let known =
        format!("HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: {}\r\n\r\n", 2 * body.len());
    let chunked = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n",
        body.len()
    );
    let malformed = chunked.clone() + "what?\r\n";
    for (path, script) in [
        ("/c/short", Script::new().send(&known).send(&body).close()),
        ("/c/reset", Script::new().send(&known).send(&body).reset()),
        ("/c/no-last-chunk", Script::new().send(&chunked).close()),
        ("/c/malformed", Script::new().send(&malformed).close()),
    ] {
        gateway.upstream.on(path, script);
        for coding in ["gzip", "br", "zstd"] {
            for version in ["--http1.1", "--http2"] {
                // As it is on the wire: only what delimits the body counts.
                let accept = accepting(coding);
                let output = curl(&gateway, path, &[version, &accept[0], &accept[1]]).output().unwrap();
                let code = output.status.code();
                // Partial file, receive failure, HTTP/2 framing or stream.
                assert!(matches!(code, Some(18 | 56 | 16 | 92)), "{path} {coding} {version}: {output:?}");
                let output = decoded(&gateway, path, coding, &[version]);
                assert!(!output.status.success(), "{path} {coding} {version}");
                let got = &output.stdout;
                assert!(body.as_bytes().starts_with(&got[..got.len().min(body.len())]), "{path} {coding}");
            }
        }
        // To HTTP/1.0 the end of the connection is the end of the body, so it has to be an end that TLS knows to be none.
        let mut connection = gateway.client().connect(gateway.edge).unwrap();
        let head = format!("GET {path} HTTP/1.0\r\nhost: {HOST}\r\naccept-encoding: gzip\r\n\r\n");
        connection.send(head.as_bytes()).unwrap();
        let (_, closing) = connection.wait_closed();
        assert!(matches!(closing, Closing::Cut | Closing::Reset), "{path}: {closing:?}");
    }
    gateway.wait_for_metric("ringward_compressed_responses_total", &[("coding", "gzip")], 4.0 * 5.0);
    let http2 = Http2Upstream::start();
    http2.on(
        "/c/reset",
        Http2Script::new().head(200, &[JSON], false).data(&body, false).reset(INTERNAL_ERROR),
    );
    let gateway = over_http2(&http2, driver);
    for version in ["--http1.1", "--http2"] {
        // A reset that comes with the head is answered with 502.
        let output = decoded(&gateway, "/c/reset", "gzip", &[version, "--fail"]);
        assert!(!output.status.success(), "{version}: {output:?}");
    }
}

/// A response of the upstream with these fields and a body of 200 bytes.
fn upstream_says(gateway: &Gateway, status: &str, fields: &[&str]) {
    let mut head = format!("HTTP/1.1 {status}\r\n");
    fields.iter().for_each(|field| head += &format!("{field}\r\n"));
    let body = if status.starts_with("304") { String::new() } else { text(200) };
    let length = if body.is_empty() { "" } else { "content-length: 200\r\n" };
    gateway.upstream.on("/c/x", Script::new().read_body().send(format!("{head}{length}\r\n{body}")));
}

fn get(gateway: &Gateway, method: &str, fields: &[(&str, &str)]) -> Response {
    let mut connection = gateway.connect();
    if method == "HEAD" {
        let head = connection.head("HEAD", "/c/x", fields);
        connection.send(&head).unwrap();
        return connection.response_to_head().unwrap();
    }
    connection.request(method, "/c/x", fields, b"").unwrap()
}

const GZIP: (&str, &str) = ("accept-encoding", "gzip");
const TEXT: &str = "content-type: text/plain; charset=utf-8";

#[test]
fn heads_say_what_has_become_of_the_body() {
    let gateway = builder().start();
    upstream_says(
        &gateway,
        "200 OK",
        &[
            TEXT,
            "etag: \"v1\"",
            "vary: origin",
            "accept-ranges: bytes",
            "content-md5: abc",
            "repr-digest: sha-256=:x:",
            "content-digest: sha-256=:x:",
            "last-modified: Mon, 23 Nov 2026 08:00:00 GMT",
        ],
    );
    for method in ["GET", "HEAD"] {
        let response = get(&gateway, method, &[GZIP]);
        let of = |name| response.headers.get(name);
        assert_eq!(of("content-encoding"), Some("gzip"), "{method}");
        assert_eq!(of("etag"), Some("W/\"v1\""), "{method}");
        assert_eq!(response.headers.all("vary"), ["origin", "accept-encoding"], "{method}");
        for gone in ["content-length", "accept-ranges", "content-md5", "repr-digest", "content-digest"] {
            assert_eq!(of(gone), None, "{method} {gone}");
        }
        assert_eq!(of("last-modified"), Some("Mon, 23 Nov 2026 08:00:00 GMT"));
        assert_eq!(of("transfer-encoding"), (method == "GET").then_some("chunked"));
        // The next request finds its response, so the connection is where it should be.
    }
    // Who cannot read it gets it as it is, and caches learn that others may not.
    for fields in [&[][..], &[("accept-encoding", "gzip;q=0, identity")], &[("accept-encoding", "deflate")]] {
        let response = get(&gateway, "GET", fields);
        let of = |name| response.headers.get(name);
        assert_eq!((of("content-encoding"), of("content-length")), (None, Some("200")), "{fields:?}");
        assert_eq!((of("etag"), of("accept-ranges")), (Some("\"v1\""), Some("bytes")));
        assert_eq!(response.headers.all("vary"), ["origin", "accept-encoding"]);
        assert_eq!(response.body, text(200).as_bytes());
    }
    // What the upstream is told is what the client says.
    let asked = gateway.upstream.requests();
    assert_eq!(asked[0].headers.get("accept-encoding"), Some("gzip"));
}

#[test]
fn what_is_not_to_be_touched_passes() {
    let gateway = builder().start();
    for (status, fields) in [
        ("200 OK", &[TEXT, "content-encoding: x-own"][..]),
        ("200 OK", &[TEXT, "cache-control: max-age=60, no-transform"]),
        ("206 Partial Content", &[TEXT, "content-range: bytes 0-199/1000"]),
        ("200 OK", &[TEXT, "signature-input: sig=(\"content-digest\")", "signature: sig=:x:"]),
        ("200 OK", &["content-type: image/png"]),
        ("200 OK", &["content-type: text/event-stream"]),
        ("200 OK", &["content-type: application/grpc"]),
        ("200 OK", &[TEXT, "content-type: text/html"]),
        ("200 OK", &[]),
    ] {
        upstream_says(&gateway, status, fields);
        let response =
            get(&gateway, "GET", &[("accept-encoding", "zstd, br, gzip"), ("range", "bytes=0-199")]);
        assert_eq!(response.body, text(200).as_bytes(), "{fields:?}");
        assert!(!response.headers.contains("vary"), "{fields:?}");
        assert_eq!(response.headers.get("content-length"), Some("200"), "{fields:?}");
    }
    // Nor what is short, or what the client does not want to be touched.
    gateway.upstream.on("/c/x", Script::new().read_body().respond(200, &[JSON], "{\"short\": true}"));
    assert_eq!(get(&gateway, "GET", &[GZIP]).text(), "{\"short\": true}");
    upstream_says(&gateway, "200 OK", &[TEXT]);
    let response = get(&gateway, "GET", &[GZIP, ("cache-control", "no-transform")]);
    assert_eq!(response.body, text(200).as_bytes());
    assert_eq!(response.headers.get("vary"), Some("accept-encoding"));
    // A route that does not say so compresses nothing, and says nothing of it.
    gateway.upstream.on("/plain", Script::new().read_body().respond(200, &[JSON], &text(200)));
    let mut connection = gateway.connect();
    let response = connection.request("GET", "/plain", &[GZIP], b"").unwrap();
    assert!(response.body == text(200).as_bytes() && !response.headers.contains("vary"));
    assert_eq!(gateway.metric("ringward_compression_skipped_total", &[]), 0.0);
}

#[test]
fn a_304_has_the_fields_of_what_it_stands_for() {
    let gateway = builder().start();
    upstream_says(&gateway, "304 Not Modified", &["etag: \"v1\""]);
    let validator = ("if-none-match", "W/\"v1\"");
    let response = get(&gateway, "GET", &[GZIP, validator]);
    assert_eq!((response.status, response.headers.get("etag")), (304, Some("W/\"v1\"")));
    assert_eq!(response.headers.get("vary"), Some("accept-encoding"));
    assert!(!response.headers.contains("content-encoding"));
    let response = get(&gateway, "GET", &[validator]);
    assert_eq!((response.status, response.headers.get("etag")), (304, Some("\"v1\"")));
}

#[test]
fn trailers_stay_and_digests_of_other_bytes_go() {
    let gateway = builder().start();
    let chunks = [text(300), text(400)];
    let chunks: Vec<&str> = chunks.iter().map(String::as_str).collect();
    let trailers = [("x-checked", "yes"), ("repr-digest", "sha-256=:x:")];
    gateway.upstream.on("/c/x", Script::new().read_body().respond_chunked(200, &[JSON], &chunks, &trailers));
    let response = get(&gateway, "GET", &[GZIP]);
    assert_eq!(response.headers.get("content-encoding"), Some("gzip"));
    assert_eq!(response.trailers.get("x-checked"), Some("yes"));
    assert!(!response.trailers.contains("repr-digest"));
}

#[test]
fn memory_for_encoders_is_bounded_and_others_get_theirs_as_it_is() {
    // Of one worker: room for two of zstd.
    let gateway = builder().server("compression_memory_max = \"4MiB\"").start();
    let gate = Gate::new();
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ntransfer-encoding: chunked\r\n\r\n";
    let script = Script::new().read_body().send(head).send("5\r\nfirst\r\n").wait(&gate);
    gateway.upstream.on("/c/x", script.send("4\r\nlast\r\n0\r\n\r\n"));
    let mut connections: Vec<_> = (0..4).map(|_| gateway.connect()).collect();
    for connection in &mut connections {
        let head = connection.head("GET", "/c/x", &[("accept-encoding", "zstd")]);
        connection.send(&head).unwrap();
    }
    gate.wait_for_arrivals(4, ringward_testkit::DEADLINE);
    gateway.wait_for_metric("ringward_compression_skipped_total", &[], 2.0);
    gate.open();
    let responses: Vec<_> = connections.iter_mut().map(|connection| connection.response().unwrap()).collect();
    let encoded = responses.iter().filter(|response| response.headers.contains("content-encoding")).count();
    assert_eq!(encoded, 2);
    for response in responses.iter().filter(|response| !response.headers.contains("content-encoding")) {
        assert_eq!((response.text(), response.headers.get("vary")), ("firstlast", Some("accept-encoding")));
    }
    // What was taken is given back.
    let response = get(&gateway, "GET", &[("accept-encoding", "zstd")]);
    assert_eq!(response.headers.get("content-encoding"), Some("zstd"));
}

#[test]
fn big_bodies_take_little_memory() {
    let gateway = builder().start();
    let body = text(48 << 20);
    gateway.upstream.on("/c/big", Script::new().respond(200, &[JSON], &body));
    let options = ["--http2", "--output", "/dev/null"];
    assert!(decoded(&gateway, "/plain", "zstd", &options).status.success());
    let before = gateway.peak_resident_bytes();
    for coding in ["gzip", "br", "zstd"] {
        let output = decoded(&gateway, "/c/big", coding, &["--limit-rate", "40M"]);
        assert!(output.status.success() && output.stdout == body.as_bytes(), "{coding}");
    }
    let growth = gateway.peak_resident_bytes().saturating_sub(before);
    assert!(growth <= 16 << 20, "resident memory grew by {growth} bytes");
}
