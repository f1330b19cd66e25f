//! Upstreams that break the rules, or do not speak HTTP/2 at all: 502, with a reason that tells the operator which.

use std::io::Write;
use std::thread;

use ringward_testkit::{Frame, PlayedHttp2, flags, kind};

use super::caller::{Caller, Speaks, Streams};
use super::support::{Gateway, PlayedUpstream, on_both_drivers};

on_both_drivers!(broken_responses_are_refused_and_told_apart);

/// What an upstream answers a request on this stream with.
type Answer = dyn Fn(&mut PlayedHttp2, u32) + Sync;

/// Serves one request by `answer`; its record.
fn record(gateway: &Gateway, played: &PlayedUpstream, path: &str, answer: &Answer) -> serde_json::Value {
    thread::scope(|scope| {
        let served = scope.spawn(|| Caller::new(gateway, Speaks::Http1).request("POST", path, &[], b""));
        let mut upstream = PlayedHttp2::new(played.accept().stream, &[]);
        let stream = upstream.wait_for(kind::HEADERS).stream;
        answer(&mut upstream, stream);
        let served = served.join().unwrap();
        assert!(served.status == 502 || served.reset.is_some(), "{path}: {served:?}");
        // Whatever is left of the connection ends here.
        let _ = upstream.stream().shutdown(std::net::Shutdown::Both);
    });
    gateway.wait_for_record("path", path)
}

fn broken_responses_are_refused_and_told_apart(driver: &str) {
    let played = PlayedUpstream::start();
    let gateway = super::builder(played.address(), "").io(driver).limits("head_bytes_max = \"4KiB\"").start();
    let head = |fields: &'static [(&str, &str)], ends| {
        Box::new(move |upstream: &mut PlayedHttp2, stream| upstream.head(stream, fields, ends)) as Box<Answer>
    };
    const OK: (&str, &str) = (":status", "200");
    let large: &'static str = "v".repeat(5000).leak();
    let larger: &'static str = "v".repeat(8000).leak();
    let huge: Box<Answer> = Box::new(|upstream, stream| {
        // A field of a megabyte and more, in frames of 16 KiB.
        let block = [&[0x88, 0, 1, b'x', 0x7f, 0x81, 0xff, 0x7f][..], &vec![b'v'; 2_100_000]].concat();
        let mut pieces = block.chunks(16_384).peekable();
        upstream.send(kind::HEADERS, 0, stream, pieces.next().unwrap());
        while let Some(piece) = pieces.next() {
            let last = if pieces.peek().is_none() { flags::END_HEADERS } else { 0 };
            let frame = [
                &(piece.len() as u32).to_be_bytes()[1..],
                &[kind::CONTINUATION, last],
                &stream.to_be_bytes(),
            ];
            // The client may have had enough by now.
            if upstream.stream().write_all(&[&frame.concat(), piece].concat()).is_err() {
                return;
            }
        }
    });
    let protocol = "upstream_protocol";
    let malformed = "upstream_head_malformed";
    let rows: Vec<(&str, Box<Answer>, &str)> = vec![
        ("no status", head(&[("x", "y")], true), protocol),
        ("a status of two digits", head(&[(":status", "99")], true), protocol),
        ("a status above 599", head(&[(":status", "600")], true), malformed),
        ("two statuses", head(&[OK, OK], true), protocol),
        ("an unknown pseudo-header field", head(&[OK, (":x", "/")], true), protocol),
        ("a pseudo-header field behind others", head(&[("x", "y"), OK], true), protocol),
        ("a name in upper case", head(&[OK, ("X-A", "1")], true), protocol),
        ("a name with a blank", head(&[OK, ("x a", "1")], true), protocol),
        ("an empty name", head(&[OK, ("", "1")], true), protocol),
        ("a line break in a value", head(&[OK, ("x", "1\r\ny: 2")], true), protocol),
        ("a NUL in a value", head(&[OK, ("x", "\0")], true), protocol),
        ("a value that begins with a blank", head(&[OK, ("x", " 1")], true), malformed),
        ("connection", head(&[OK, ("connection", "close")], true), protocol),
        ("transfer-encoding", head(&[OK, ("transfer-encoding", "chunked")], true), protocol),
        ("upgrade", head(&[OK, ("upgrade", "h2c")], true), protocol),
        ("101", head(&[(":status", "101")], false), malformed),
        ("a length that is none", head(&[OK, ("content-length", "five")], false), protocol),
        ("two lengths", head(&[OK, ("content-length", "5"), ("content-length", "5")], false), malformed),
        ("a length without a body", head(&[OK, ("content-length", "5")], true), protocol),
        (
            "a head that is larger than ours may be",
            head(Box::leak(Box::new([OK, ("x", large)])), true),
            malformed,
        ),
        (
            "a head that is larger than announced",
            head(Box::leak(Box::new([OK, ("x", larger)])), true),
            protocol,
        ),
        ("a head without end", huge, ""),
        (
            "trailers that are larger than a head may be",
            Box::new(|upstream, stream| {
                upstream.head(stream, &[OK], false);
                upstream.head(stream, &[("x", large)], true);
            }),
            "upstream_body_malformed",
        ),
        (
            "trailers of more fields than a head may have",
            Box::new(|upstream, stream| {
                upstream.head(stream, &[OK], false);
                upstream.head(stream, &[("x", "y"); 101], true);
            }),
            "upstream_body_malformed",
        ),
        (
            "a body that is too short",
            Box::new(|upstream, stream| {
                upstream.head(stream, &[OK, ("content-length", "5")], false);
                upstream.send(kind::DATA, flags::END_STREAM, stream, b"four");
            }),
            protocol,
        ),
        (
            "a body that is too long",
            Box::new(|upstream, stream| {
                upstream.head(stream, &[OK, ("content-length", "5")], false);
                upstream.send(kind::DATA, flags::END_STREAM, stream, b"sixsix");
            }),
            protocol,
        ),
        (
            "data before a head",
            Box::new(|upstream, stream| upstream.send(kind::DATA, 0, stream, b"x")),
            protocol,
        ),
        (
            "trailers that do not end",
            Box::new(|upstream, stream| {
                upstream.head(stream, &[OK], false);
                upstream.head(stream, &[("x", "y")], false);
            }),
            protocol,
        ),
        (
            "a push",
            Box::new(|upstream, stream| {
                let promise = [&2_u32.to_be_bytes()[..], &[0x82, 0x86, 0x84]].concat();
                upstream.send(5, flags::END_HEADERS, stream, &promise);
            }),
            protocol,
        ),
        (
            "a stream that nobody has opened",
            Box::new(|upstream, stream| upstream.head(stream + 2, &[OK], true)),
            protocol,
        ),
        (
            "a frame that is too large",
            Box::new(|upstream, stream| upstream.send(kind::DATA, 0, stream, &[0; 16_385])),
            protocol,
        ),
        (
            "a window beyond all bounds",
            Box::new(|upstream, _| upstream.send(kind::WINDOW_UPDATE, 0, 0, &[0x7f, 0xff, 0xff, 0xff])),
            protocol,
        ),
        (
            "interim responses without end",
            Box::new(|upstream, stream| {
                (0..20).for_each(|_| upstream.head(stream, &[(":status", "103")], false))
            }),
            malformed,
        ),
        ("an interim response that ends", head(&[(":status", "103")], true), protocol),
        (
            "GOAWAY with a reproach",
            Box::new(|upstream, stream| {
                upstream.send(kind::GOAWAY, 0, 0, &[stream.to_be_bytes(), 11_u32.to_be_bytes()].concat());
                let _ = upstream.stream().shutdown(std::net::Shutdown::Write);
            }),
            "",
        ),
    ];
    for (index, (name, answer, flag)) in rows.iter().enumerate() {
        let record = record(&gateway, &played, &format!("/{index}"), answer);
        let said = record["flag"].as_str().unwrap_or_default();
        let expected = if flag.is_empty() { said.starts_with("upstream_") } else { said == *flag };
        assert!(expected, "{name}: {record}");
        assert!(!record["reason"].as_str().unwrap_or_default().is_empty(), "{name}: {record}");
    }
    assert_eq!(gateway.metric("ringward_worker_panics_total", &[]), 0.0);
}

/// What only costs us: it ends the connection.
#[test]
fn floods_end_the_connection() {
    let played = PlayedUpstream::start();
    let gateway = super::builder(played.address(), "").start();
    let frame = |kind: u8, payload: &[u8]| {
        [&(payload.len() as u32).to_be_bytes()[1..], &[kind, 0, 0, 0, 0, 0], payload].concat()
    };
    for (name, flood, stream) in [
        ("settings", frame(kind::SETTINGS, &[]), 0),
        ("pings", frame(kind::PING, &[0; 8]), 0),
        ("priorities", frame(kind::PRIORITY, &[0, 0, 0, 0, 1]), 1),
        ("empty data", frame(kind::DATA, &[]), 1),
    ] {
        let mut flood = flood;
        flood[8] = stream;
        let record = record(&gateway, &played, &format!("/{name}").replace(' ', "-"), &move |upstream, _| {
            upstream.head(1, &[(":status", "103")], false);
            // It closes while we write.
            let _ = upstream.stream().write_all(&flood.repeat(5000));
        });
        assert_eq!(record["flag"], "upstream_protocol", "{name}: {record}");
    }
}

/// A peer of HTTP/1.1, one that says nothing, one that closes: no request is sent to any of them.
#[test]
fn who_does_not_speak_http_2_gets_no_request() {
    let played = PlayedUpstream::start();
    let gateway = super::builder(played.address(), "connect_timeout = \"500ms\"").start();
    for (name, bytes, closes, status, flag) in [
        ("http1", "HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n", true, 502, "upstream_connect"),
        ("silent", "", false, 504, "upstream_connect_timeout"),
        ("closes", "", true, 502, "upstream_connect"),
    ] {
        let mut clients = Streams::new(&gateway, &[]);
        let stream = clients.begin("GET", &format!("/{name}"), &[], true);
        let mut upstream = played.accept();
        upstream.send(bytes);
        if closes {
            upstream.stream.shutdown(std::net::Shutdown::Write).unwrap();
        }
        assert_eq!(clients.finish(stream).status, status, "{name}");
        let record = gateway.wait_for_record("path", format!("/{name}"));
        assert_eq!(record["flag"], flag, "{record}");
        let received = upstream.wait_closed();
        assert!(received.starts_with(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), "{name}");
        assert!(!frames(&received[24..]).iter().any(|frame| frame.kind == kind::HEADERS), "{name}");
    }
}

fn frames(mut bytes: &[u8]) -> Vec<Frame> {
    let mut frames = Vec::new();
    while let Some((header, rest)) = bytes.split_at_checked(9) {
        let length = u32::from_be_bytes([0, header[0], header[1], header[2]]) as usize;
        let (payload, rest) = rest.split_at(length);
        frames.push(Frame { kind: header[3], flags: header[4], stream: 0, payload: payload.to_vec() });
        bytes = rest;
    }
    frames
}
