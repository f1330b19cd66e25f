//! Responses of HTTP/2: what is accepted must be one response for clients of either version, with just the parts that were
//! given. The input is a byte of flags, two of the status, and lines: fields as `name=value`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ringward_http::write::{self, ResponseEdits};
use ringward_http::{
    BodyFraming, HeadLimits, Http2Connect, Http2Response, RequestKind, ResponseHead, Version,
};

fuzz_target!(|input: &[u8]| {
    let [flags, high, low, input @ ..] = input else { return };
    let (ends, is_head) = (flags & 1 == 0, flags & 2 != 0);
    let response = Http2Response { status: u16::from_be_bytes([*high, *low]), ends, connect: None };
    let kind = if is_head { RequestKind::Head } else { RequestKind::Other };
    // LF as well: 0x80 stands for it.
    let unescaped = |byte: &u8| if *byte == 0x80 { b'\n' } else { *byte };
    let lines: Vec<Vec<u8>> =
        input.split(|byte| *byte == b'\n').map(|line| line.iter().map(unescaped).collect()).collect();
    let fields: Vec<(&[u8], &[u8])> = lines
        .iter()
        .filter(|line| !line.is_empty())
        .map(|field| match field.iter().position(|byte| *byte == b'=') {
            Some(at) => (&field[..at], &field[at + 1..]),
            None => (&field[..], &b""[..]),
        })
        .collect();
    if flags & 4 != 0 {
        return check_tunnel(response, &fields);
    }
    let mut head = ResponseHead::new();
    if head.take_http2(response, fields.iter().copied(), kind, &mut Vec::new(), &LIMITS).is_err() {
        return;
    }
    assert_eq!((head.status(), head.version()), (response.status, Version::Http2));
    assert!((100..=599).contains(&head.status()) && head.status() != 101, "nobody switches");
    let read = head.fields().map(|field| (field.name.as_bytes(), field.value));
    assert!(read.eq(fields.iter().copied()), "no field becomes two, none is lost or changed: {head:?}");
    for (name, value) in fields {
        assert!(!value.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)), "a value: {value:?}");
        assert!(!OF_CONNECTIONS.contains(&name), "a field of HTTP/1.1 connections: {name:?}");
    }
    let is_bodiless = matches!(head.body(), BodyFraming::None | BodyFraming::Length(0));
    assert!(!ends || is_bodiless, "a stream that has ended has no body: {:?}", head.body());
    assert_ne!(head.body(), BodyFraming::UntilClose, "the end of the connection says nothing");
    for version in [Version::Http10, Version::Http11] {
        check_written(&head, kind, version);
    }
    check_fields(&head);
});

/// The answer to an extended CONNECT opens a tunnel exactly if it is a 2xx, with the proof that we give ourselves.
fn check_tunnel(response: Http2Response<'_>, fields: &[(&[u8], &[u8])]) {
    let connect = Http2Connect { protocol: "websocket", accept: Some(ACCEPT) };
    let response = Http2Response { connect: Some(connect), ..response };
    let mut head = ResponseHead::new();
    let fields = fields.iter().copied();
    if head.take_http2(response, fields, RequestKind::Other, &mut Vec::new(), &LIMITS).is_err() {
        return;
    }
    assert_eq!(head.status() == 101, (200..300).contains(&response.status), "{head:?}");
    if head.status() == 101 {
        let all = |name: &str| {
            let fields = head.fields().filter(|field| field.name.eq_ignore_ascii_case(name));
            fields.map(|field| field.value.to_vec()).collect::<Vec<_>>()
        };
        assert_eq!(all("sec-websocket-accept"), [ACCEPT], "{head:?}");
        assert_eq!(all("upgrade"), [b"websocket"], "{head:?}");
    }
}

/// What goes to a client of HTTP/1.1 is read there as it was read here.
fn check_written(head: &ResponseHead, kind: RequestKind, version: Version) {
    let mut written = Vec::new();
    let promised = write::response_head(&mut written, head, &edits(version))
        .expect("nothing was set that could be refused");
    let shown = String::from_utf8_lossy(&written);
    let mut again = ResponseHead::new();
    assert_eq!(again.parse(&written, kind, &WRITTEN_LIMITS), Ok(Some(written.len())), "{shown}");
    assert_eq!(again.status(), head.status(), "{shown}");
    if head.is_interim() {
        return;
    }
    assert_eq!((again.body(), again.keep_alive()), (promised.body, promised.keep_alive), "{shown}");
    let body_goes_on = head.body() != BodyFraming::None;
    assert_eq!(promised.body != BodyFraming::None, body_goes_on, "no body appears or disappears: {shown}");
}

/// What goes to a client of HTTP/2 is a response once more.
fn check_fields(head: &ResponseHead) {
    let mut fields: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    let written = write::response_fields(head, &edits(Version::Http2), |name, value| {
        fields.push((name.to_vec(), value.to_vec()));
    });
    written.expect("nothing was set that could be refused");
    let response = Http2Response { status: head.status(), ends: false, connect: None };
    let fields = fields.iter().map(|(name, value)| (&name[..], &value[..]));
    let mut again = ResponseHead::new();
    let taken = again.take_http2(response, fields, RequestKind::Other, &mut Vec::new(), &WRITTEN_LIMITS);
    assert_eq!(taken, Ok(()), "{head:?}");
}

fn edits(version: Version) -> ResponseEdits<'static> {
    ResponseEdits {
        version,
        keep_alive: true,
        is_recoded: false,
        via: None,
        date: None,
        drop_field: &|_| false,
        set: &[],
        add: &[],
    }
}

const ACCEPT: &[u8] = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
const OF_CONNECTIONS: [&[u8]; 5] =
    [b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"];
const LIMITS: HeadLimits = HeadLimits { head_bytes_max: 8 * 1024, fields_max: 50 };
/// Framing may add two fields.
const WRITTEN_LIMITS: HeadLimits = HeadLimits { head_bytes_max: 64 * 1024, fields_max: 52 };
