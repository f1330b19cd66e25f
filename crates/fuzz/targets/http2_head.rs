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
    check_parsed(&request, &fields, &head);
    check_written(&head);
});

/// What was taken is what the parser of HTTP/1.1 reads of the same parts.
fn check_parsed(request: &Http2Request<'_>, fields: &[(&[u8], &[u8])], head: &RequestHead) {
    let image = image(request, fields);
    let mut parsed = RequestHead::new();
    let shown = String::from_utf8_lossy(&image);
    assert_eq!(parsed.parse(&image, &LIMITS), Ok(Some(image.len())), "{shown}");
    assert_eq!(parsed.method(), head.method(), "{shown}");
    assert_eq!((parsed.raw_target(), parsed.path()), (head.raw_target(), head.path()), "{shown}");
    assert_eq!((parsed.host(), parsed.authority()), (head.host(), head.authority()), "{shown}");
    assert_eq!((parsed.query(), parsed.upgrade()), (head.query(), head.upgrade()), "{shown}");
    assert_eq!(parsed.has_encoded_slash(), head.has_encoded_slash(), "{shown}");
    assert!(parsed.fields().eq(head.fields()), "{shown}");
    if let BodyFraming::Length(_) = head.body() {
        assert_eq!(parsed.body(), head.body(), "{shown}");
    }
}

/// The head that the request would have on HTTP/1.1, without any check of its parts.
fn image(request: &Http2Request<'_>, fields: &[(&[u8], &[u8])]) -> Vec<u8> {
    let method = if request.protocol.is_some() { b"GET" } else { request.method };
    let mut image = [method, b" ", request.path, b" HTTP/1.1\r\n"].concat();
    let mut line = |name: &[u8], value: &[u8]| image.extend([name, b": ", value, b"\r\n"].concat());
    let authority = request.authority.map(|authority| (&b"host"[..], authority));
    let is_said = |name: &[u8]| {
        name == b"cookie"
            || name == b"host" && authority.is_some()
            || name == b"sec-websocket-key" && request.protocol.is_some()
    };
    let others = fields.iter().filter(|(name, _)| !is_said(name));
    authority.iter().chain(others).for_each(|(name, value)| line(name, value));
    if let Some(protocol) = request.protocol {
        line(b"connection", b"upgrade");
        line(b"upgrade", protocol);
    }
    let crumbs: Vec<&[u8]> =
        fields.iter().filter(|(name, _)| *name == b"cookie").map(|(_, value)| *value).collect();
    if !crumbs.is_empty() {
        line(b"cookie", &crumbs.join(&b"; "[..]));
    }
    image.extend(b"\r\n");
    image
}

/// What goes upstream is read there as it was read here.
fn check_written(head: &RequestHead) {
    let edits = RequestEdits {
        drop_field: &|_| false,
        path: None,
        authority: None,
        query: QueryEdits::default(),
        set: &[],
        add: &[],
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
