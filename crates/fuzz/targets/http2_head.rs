//! Requests of HTTP/2: what is accepted must be one request for whoever reads HTTP/1.1 behind us, with just the parts that were
//! given. The input is lines: method, path, authority, then fields as `name=value`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ringward_http::write::{self, Forwarded, QueryEdits, RequestEdits};
use ringward_http::{BodyFraming, HeadLimits, Http2Request, RequestHead, Version};

fuzz_target!(|input: &[u8]| {
    let (ends, connects, input) = match input {
        [first, rest @ ..] => (first & 1 == 0, first & 2 != 0, rest),
        [] => return,
    };
    // LF as well: 0x80 stands for it.
    let unescaped = |byte: &u8| if *byte == 0x80 { b'\n' } else { *byte };
    let lines: Vec<Vec<u8>> =
        input.split(|byte| *byte == b'\n').map(|line| line.iter().map(unescaped).collect()).collect();
    let [method, path, authority, fields @ ..] = &*lines else { return };
    let request = Http2Request {
        method,
        scheme: b"https",
        authority: (!authority.is_empty()).then_some(authority),
        path,
        // An extended CONNECT has its protocol in place of the method.
        protocol: connects.then_some(method),
        ends,
    };
    let request = if connects { Http2Request { method: b"CONNECT", ..request } } else { request };
    let fields: Vec<(&[u8], &[u8])> = fields
        .iter()
        .map(|field| match field.iter().position(|byte| *byte == b'=') {
            Some(at) => (&field[..at], &field[at + 1..]),
            None => (&field[..], &b""[..]),
        })
        .collect();
    let mut head = RequestHead::new();
    if head.take_http2(&request, fields.iter().copied(), &mut Vec::new(), &LIMITS).is_err() {
        return;
    }
    assert_eq!(head.version(), Version::Http2);
    if connects {
        assert_eq!((head.method(), head.upgrade().map(str::as_bytes)), ("GET", Some(&**method)));
        assert_eq!(head.body(), BodyFraming::None);
    } else {
        assert_eq!((head.method().as_bytes(), head.upgrade()), (&**method, None));
    }
    assert_eq!(head.raw_target().as_bytes(), &**path);
    let is_cookie = |name: &[u8]| name == b"cookie";
    let is_key = |name: &[u8]| connects && name == b"sec-websocket-key";
    let is_counted = |name: &[u8]| !is_cookie(name) && !is_key(name) && name != b"host";
    let given = fields.iter().filter(|(name, _)| is_counted(name)).count() + if connects { 2 } else { 0 };
    let read = head.fields().filter(|field| is_counted(field.name.as_bytes())).count();
    assert_eq!(read, given, "no field becomes two, and none is lost");
    for field in head.fields() {
        assert!(!field.value.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)), "a value: {field:?}");
    }
    let is_bodiless = matches!(head.body(), BodyFraming::None | BodyFraming::Length(0));
    assert!(!ends || is_bodiless, "a stream that has ended has no body: {:?}", head.body());
    check_written(&head);
});

/// What goes upstream is read there as it was read here.
fn check_written(head: &RequestHead) {
    let edits = RequestEdits {
        drop_field: &|_| false,
        query: QueryEdits::default(),
        set: &[],
        via: None,
        forwarded: Forwarded::default(),
        framing: head.body(),
        expect_continue: head.expects_continue(),
    };
    let mut written = Vec::new();
    write::request_head(&mut written, head, &edits).expect("nothing was set that could be refused");
    let mut again = RequestHead::new();
    let shown = String::from_utf8_lossy(&written);
    assert_eq!(again.parse(&written, &WRITTEN_LIMITS), Ok(Some(written.len())), "{shown}");
    assert_eq!(again.method(), head.method(), "{shown}");
    assert_eq!((again.path(), again.query()), (head.path(), head.query()), "{shown}");
    assert_eq!((again.host(), again.authority()), (head.host(), head.authority()), "{shown}");
    assert_eq!(again.body(), head.body(), "{shown}");
}

const LIMITS: HeadLimits = HeadLimits { head_bytes_max: 8 * 1024, fields_max: 50 };
/// Framing may add a field.
const WRITTEN_LIMITS: HeadLimits = HeadLimits { head_bytes_max: 64 * 1024, fields_max: 52 };
