//! Heads: what every request and response pays for being parsed and written again.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ringward_benches::{BROWSER_REQUEST, Certificates, CpuTime, LIMITS, SERVICE_REQUEST, criterion, parsed};
use ringward_http::write::{self, ForwardMode, Forwarded, QueryEdits, RequestEdits, ResponseEdits};
use ringward_http::{ChunkedDecoder, Decoded, RequestHead, RequestKind, ResponseHead, path};
use ringward_identity::headers;

const RESPONSE: &str = "HTTP/1.1 200 OK\r\n\
    Date: Tue, 15 Nov 2044 08:12:31 GMT\r\n\
    Content-Type: application/json\r\n\
    Content-Length: 128\r\n\
    Cache-Control: no-store\r\n\
    X-Request-Id: 01J9Z3M4N5P6Q7R8S9T0V1W2X3\r\n\r\n";

/// A request head that arrives whole, on a connection that has parsed others before (its buffers are there).
fn parse_request(c: &mut Criterion<CpuTime>) {
    let mut group = c.benchmark_group("parse_request");
    for (name, request) in [("service", SERVICE_REQUEST), ("browser", BROWSER_REQUEST)] {
        let mut head = RequestHead::new();
        group.throughput(Throughput::Bytes(request.len() as u64));
        group.bench_function(name, |b| b.iter(|| head.parse(black_box(request.as_bytes()), &LIMITS)));
    }
    group.finish();
}

/// A response head of an upstream, likewise.
fn parse_response(c: &mut Criterion<CpuTime>) {
    let mut head = ResponseHead::new();
    c.bench_function("parse_response/service", |b| {
        b.iter(|| head.parse(black_box(RESPONSE.as_bytes()), RequestKind::Other, &LIMITS));
    });
}

/// The path alone: one that is in normal form already, as nearly all are, and one that is not. Part of `parse_request`.
fn normalise_path(c: &mut Criterion<CpuTime>) {
    let mut group = c.benchmark_group("normalise_path");
    for (name, text) in
        [("normal", "/orders/17/files/report.pdf"), ("encoded", "/orders/./17/%66iles/a%2dreport.pdf")]
    {
        let mut out = Vec::with_capacity(256);
        group.bench_function(name, |b| {
            b.iter(|| {
                out.clear();
                path::normalise(black_box(text.as_bytes()), &mut out)
                    .map(|normalised| normalised.has_encoded_slash)
            });
        });
    }
    group.finish();
}

/// The request head as it goes upstream, with what a host does by default: look-alikes dropped, `Client-Cert`,
/// `X-Forwarded-*` and `Via` set.
fn relay_request(c: &mut Criterion<CpuTime>) {
    let peer = Certificates::new().peer();
    let mut group = c.benchmark_group("relay_request");
    for (name, request) in [("service", SERVICE_REQUEST), ("browser", BROWSER_REQUEST)] {
        let head = parsed(request);
        let mut out = Vec::with_capacity(8 << 10);
        group.bench_function(name, |b| {
            b.iter(|| {
                out.clear();
                let edits = RequestEdits {
                    drop_field: &headers::is_stripped_inbound,
                    query: QueryEdits::default(),
                    set: &[(headers::CLIENT_CERT, peer.client_cert().as_bytes())],
                    add: &[],
                    path: None,
                    authority: None,
                    via: Some("ringward"),
                    forwarded: Forwarded {
                        x_forwarded: ForwardMode::Set,
                        forwarded: ForwardMode::Off,
                        client_ip: "192.0.2.7",
                        peer_ip: "192.0.2.7",
                        proto: "https",
                        host: head.authority(),
                    },
                    framing: head.body(),
                    expect_continue: false,
                };
                write::request_head(&mut out, black_box(&head), &edits)
            });
        });
    }
    group.finish();
}

/// The response head as it goes to the client.
fn relay_response(c: &mut Criterion<CpuTime>) {
    let request = parsed(SERVICE_REQUEST);
    let mut head = ResponseHead::new();
    let taken = head.parse(RESPONSE.as_bytes(), RequestKind::Other, &LIMITS);
    assert_eq!(taken.expect("a response that is right"), Some(RESPONSE.len()));
    let mut out = Vec::with_capacity(1 << 10);
    c.bench_function("relay_response/service", |b| {
        b.iter(|| {
            out.clear();
            let edits = ResponseEdits {
                version: request.version(),
                keep_alive: true,
                via: None,
                date: Some(b"Tue, 15 Nov 2044 08:12:31 GMT"),
                drop_field: &|_| false,
                set: &[],
                add: &[],
                is_recoded: false,
            };
            write::response_head(&mut out, black_box(&head), &edits)
        });
    });
}

/// 64 KiB of a chunked body in chunks of 4 KiB: what streaming costs beside copying.
fn decode_chunked(c: &mut Criterion<CpuTime>) {
    let mut body = Vec::new();
    for _ in 0..16 {
        write::chunk(&mut body, &[b'x'; 4096]);
    }
    write::last_chunk(&mut body, std::iter::empty());
    let mut group = c.benchmark_group("decode_chunked");
    group.throughput(Throughput::Bytes(body.len() as u64));
    group.bench_function("64KiB", |b| {
        b.iter(|| {
            let (mut decoder, mut input, mut bytes) =
                (ChunkedDecoder::new(headers::is_stripped_inbound), &body[..], 0);
            loop {
                match decoder.decode(black_box(input)).expect("a body that is right") {
                    Decoded::Data { skip, data } => {
                        bytes += data;
                        input = &input[skip + data..];
                    }
                    Decoded::NeedMore { consumed } => input = &input[consumed..],
                    Decoded::Done { .. } => break bytes,
                }
            }
        });
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = criterion();
    targets = parse_request, parse_response, normalise_path, relay_request, relay_response, decode_chunked
}
criterion_main!(benches);
