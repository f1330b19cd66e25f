//! Requests of HTTP/2, and what they would be on HTTP/1.1.

use super::*;

type Fields<'a> = &'a [(&'a str, &'a str)];

const LIMITS: HeadLimits = HeadLimits { head_bytes_max: 4096, fields_max: 20 };

const GET: Http2Request<'static> = Http2Request {
    method: b"GET",
    scheme: b"https",
    authority: Some(b"a.example"),
    path: b"/",
    protocol: None,
    ends: true,
};

fn taken(request: &Http2Request<'_>, fields: Fields<'_>) -> Result<RequestHead, RequestError> {
    let mut head = RequestHead::new();
    let fields = fields.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
    head.take_http2(request, fields, &mut Vec::new(), &LIMITS)?;
    Ok(head)
}

#[test]
fn a_request_is_what_it_would_be_on_http_1() {
    let head =
        taken(&Http2Request { path: b"/a/../b%7e?q=1", ..GET }, &[("x-a", "1"), ("x-a", "2")]).unwrap();
    assert_eq!((head.method(), head.path(), head.query()), ("GET", "/b~", Some("q=1")));
    assert_eq!((head.host(), head.authority()), ("a.example", "a.example"));
    assert_eq!((head.version(), head.body()), (Version::Http2, BodyFraming::None));
    assert!(head.keep_alive());
    let fields: Vec<_> = head.fields().map(|field| (field.name, field.value)).collect();
    assert_eq!(fields, [("host", &b"a.example"[..]), ("x-a", b"1"), ("x-a", b"2")]);
}

#[test]
fn bodies_are_framed_by_length_or_by_the_end_of_the_stream() {
    let body = Http2Request { method: b"POST", ends: false, ..GET };
    assert_eq!(taken(&body, &[]).unwrap().body(), BodyFraming::Chunked);
    assert_eq!(taken(&body, &[("content-length", "5")]).unwrap().body(), BodyFraming::Length(5));
    assert_eq!(taken(&GET, &[("content-length", "0")]).unwrap().body(), BodyFraming::Length(0));
    for (fields, error) in [
        (&[("content-length", "5")][..], HeadError::BadContentLength),
        (&[("content-length", "5, 5")], HeadError::BadContentLength),
        (&[("content-length", "5"), ("content-length", "5")], HeadError::RepeatedContentLength),
    ] {
        assert_eq!(taken(&GET, fields).unwrap_err(), error.into(), "{fields:?}");
    }
    assert!(taken(&body, &[("expect", "100-continue")]).unwrap().expects_continue());
    assert!(!taken(&GET, &[("expect", "100-continue")]).unwrap().expects_continue());
    assert_eq!(taken(&body, &[("expect", "more")]).unwrap_err(), RequestError::ExpectationFailed);
}

#[test]
fn no_part_becomes_two() {
    let path = |path| taken(&Http2Request { path, ..GET }, &[]).unwrap_err();
    for bad in [
        &b"/ HTTP/1.1\r\nx: y"[..],
        b"/a b",
        b"/\r\n",
        b"/\0",
        b"/\xff",
        b"",
        b"a",
        b"http://b.example/",
        b"?a",
        b"/a#b",
        b"/?a#b",
        b"#b",
    ] {
        assert_eq!(path(bad), RequestError::BadTarget, "{bad:?}");
    }
    for bad in [&b"GET /"[..], b"", b"G\r\nT", b"G\0"] {
        assert_eq!(taken(&Http2Request { method: bad, ..GET }, &[]).unwrap_err(), RequestError::BadMethod);
    }
    for (name, value, error) in [
        ("x-a", "1\r\nx-b: 2", HeadError::FieldValue),
        ("x-a", "1\n", HeadError::FieldValue),
        ("x-a", "\0", HeadError::FieldValue),
        ("x-a", " 1", HeadError::FieldValue),
        ("x-a", "1\t", HeadError::FieldValue),
        ("cookie", "a=b\r\nx: y", HeadError::FieldValue),
        ("x-a: 1\r\nx-b", "2", HeadError::FieldName),
        ("X-A", "1", HeadError::FieldName),
        (":path", "/", HeadError::FieldName),
        ("", "1", HeadError::FieldName),
        ("x a", "1", HeadError::FieldName),
    ] {
        assert_eq!(taken(&GET, &[(name, value)]).unwrap_err(), error.into(), "{name:?}: {value:?}");
    }
}

#[test]
fn fields_of_http_1_connections_are_refused() {
    for (name, value) in [
        ("connection", "close"),
        ("connection", "x-a"),
        ("proxy-connection", "keep-alive"),
        ("keep-alive", "timeout=5"),
        ("transfer-encoding", "chunked"),
        ("upgrade", "websocket"),
        ("te", "gzip"),
        ("te", "trailers, deflate"),
    ] {
        assert_eq!(
            taken(&GET, &[(name, value)]).unwrap_err(),
            RequestError::ConnectionField,
            "{name}: {value}"
        );
    }
    assert!(taken(&GET, &[("te", "trailers")]).unwrap().fields().any(|field| field.hop_by_hop));
}

#[test]
fn an_extended_connect_is_what_asks_for_its_protocol_on_http_1() {
    let connect = Http2Request { method: b"CONNECT", protocol: Some(b"websocket"), ends: false, ..GET };
    let key = ("sec-websocket-key", "forged");
    let head = taken(&connect, &[("sec-websocket-version", "13"), key]).unwrap();
    assert_eq!((head.method(), head.upgrade(), head.body()), ("GET", Some("websocket"), BodyFraming::None));
    assert_eq!((head.field("sec-websocket-key"), head.version()), (None, Version::Http2));
    assert!(head.fields().filter(|field| field.hop_by_hop).count() == 2, "what asks for it ends here");
    for length in ["0", "5"] {
        let refused = taken(&connect, &[("content-length", length)]).unwrap_err();
        assert_eq!(refused, HeadError::BadContentLength.into());
    }
    for (method, protocol) in [
        (&b"GET"[..], &b"websocket"[..]),
        (b"CONNECT", b""),
        (b"CONNECT", b"a, b"),
        (b"CONNECT", b"a\r\nx: y"),
    ] {
        let request = Http2Request { method, protocol: Some(protocol), ..connect };
        assert_eq!(taken(&request, &[]).unwrap_err(), RequestError::BadMethod, "{protocol:?}");
    }
}

#[test]
fn authority_and_host_agree() {
    let host = |authority, fields: Fields<'_>| taken(&Http2Request { authority, ..GET }, fields);
    assert_eq!(host(None, &[("host", "B.example")]).unwrap().host(), "b.example");
    assert_eq!(host(Some(b"A.example:8443"), &[]).unwrap().authority(), "a.example:8443");
    assert_eq!(host(Some(b"a.example"), &[("host", "A.example.")]).unwrap().host(), "a.example");
    for (authority, fields, error) in [
        (None, &[][..], HostError::Missing),
        (None, &[("host", "a"), ("host", "a")], HostError::Repeated),
        (Some(&b"a.example"[..]), &[("host", "b.example")], HostError::Mismatch),
        (Some(b"a.example"), &[("host", "a.example"), ("host", "b.example")], HostError::Mismatch),
        (Some(b"a.example"), &[("host", "")], HostError::Syntax),
        (Some(b"user@a.example"), &[], HostError::Syntax),
        (Some(b"a\r\nx: y"), &[], HostError::Syntax),
        (Some(b""), &[], HostError::Syntax),
    ] {
        assert_eq!(host(authority, fields).unwrap_err(), error.into(), "{authority:?} {fields:?}");
    }
}

#[test]
fn crumbs_of_cookies_become_one_field() {
    let head = taken(&GET, &[("cookie", "a=1"), ("x", "y"), ("cookie", "b=2")]).unwrap();
    assert_eq!(head.field("cookie"), Some(&b"a=1; b=2"[..]));
    assert_eq!(head.fields().filter(|field| field.name == "cookie").count(), 1);
    let empty = taken(&GET, &[("cookie", ""), ("cookie", "a=1"), ("cookie", "")]).unwrap();
    assert_eq!(empty.field("cookie"), Some(&b"; a=1;"[..]), "no value ends with a blank");
}

#[test]
fn limits_and_methods_are_those_of_http_1() {
    let long = "a".repeat(5000);
    assert_eq!(taken(&GET, &[("x", &long)]).unwrap_err().status(), 431);
    let many: Vec<_> = (0..21).map(|_| ("x", "y")).collect();
    assert_eq!(taken(&GET, &many).unwrap_err().status(), 431);
    let method = |method| taken(&Http2Request { method, ..GET }, &[]).unwrap_err();
    assert_eq!(method(b"CONNECT"), RequestError::ConnectUnsupported);
    assert_eq!(method(&[b'A'; 40]).status(), 501);
    assert_eq!(taken(&Http2Request { path: b"*", ..GET }, &[]).unwrap_err(), RequestError::BadTarget);
    let options = Http2Request { method: b"OPTIONS", path: b"*", ..GET };
    assert_eq!(taken(&options, &[]).unwrap().path(), "*");
    let scheme = Http2Request { scheme: b"ftp", ..GET };
    assert_eq!(taken(&scheme, &[]).unwrap_err(), RequestError::BadTarget);
}

/// The head as HTTP/1.1 would bring it, written without any check.
fn image(request: &Http2Request<'_>, fields: &[(&[u8], &[u8])]) -> Vec<u8> {
    let mut image = [request.method, b" ", request.path, b" HTTP/1.1\r\n"].concat();
    let host = request.authority.map(|authority| (&b"host"[..], authority));
    for (name, value) in host.iter().chain(fields) {
        line(&mut image, name, value);
    }
    image.extend_from_slice(b"\r\n");
    image
}

fn parts(head: &RequestHead) -> impl PartialEq + std::fmt::Debug + '_ {
    let target = (head.raw_target(), head.path(), head.query(), head.has_encoded_slash());
    let fields: Vec<_> = head.fields().collect();
    (head.method(), target, head.host(), head.authority(), head.upgrade(), fields)
}

/// Whatever is taken from HTTP/2 is one head on HTTP/1.1, and means the same there.
fn check_as_parsed(request: &Http2Request<'_>, fields: &[(&[u8], &[u8])]) {
    let mut taken = RequestHead::new();
    let outcome = taken.take_http2(request, fields.iter().copied(), &mut Vec::new(), &LIMITS);
    let image = image(request, fields);
    let mut parsed = RequestHead::new();
    let length = parsed.parse(&image, &LIMITS);
    let shown = String::from_utf8_lossy(&image);
    if outcome.is_ok() {
        assert_eq!(length, Ok(Some(image.len())), "{shown:?}");
        assert_eq!(format!("{:?}", parts(&taken)), format!("{:?}", parts(&parsed)), "{shown:?}");
    } else {
        assert_eq!(format!("{:?}", parts(&taken)), format!("{:?}", parts(&RequestHead::new())), "{shown:?}");
    }
}

#[test]
fn what_is_taken_is_what_the_parser_of_http_1_would_have_read() {
    let paths: [&[u8]; 6] = [b"/", b"/a/../b%7e?q=1", b"/a%2fb", b"*", b"//x", b"/x?"];
    let fields: [&[(&[u8], &[u8])]; 5] = [
        &[],
        &[(b"x-a", b"1"), (b"x-a", b""), (b"cookie", b"a=b")],
        &[(b"te", b"trailers"), (b"via", b"1.1 x"), (b"accept", b"a, b")],
        &[(b"x", b"a\tb \xff"), (b"proxy-authorization", b"x")],
        &[(b"content-length", b"0"), (b"expect", b"100-continue")],
    ];
    for path in paths {
        for fields in fields {
            for authority in [&b"a.example"[..], b"A.Example.:8443", b"[::1]:80", b" a.example", b""] {
                check_as_parsed(&Http2Request { path, authority: Some(authority), ..GET }, fields);
            }
        }
    }
}

#[test]
fn each_byte_is_fit_or_not_where_it_is_on_http_1() {
    for byte in 0..=255 {
        for at in [0, 1, 2, 40] {
            let with = |text: &[u8]| {
                let mut text = text.to_vec();
                text.resize(text.len().max(at), b'x');
                text.insert(at, byte);
                text
            };
            check_as_parsed(&Http2Request { method: &with(b"GET"), ..GET }, &[]);
            check_as_parsed(&Http2Request { path: &with(b"/a"), ..GET }, &[]);
            check_as_parsed(&Http2Request { authority: Some(&with(b"a.example")), ..GET }, &[]);
            check_as_parsed(&GET, &[(&with(b"x-a"), b"1")]);
            check_as_parsed(&GET, &[(b"x-a", &with(b"1 2"))]);
        }
    }
}

#[test]
fn limits_are_met_where_they_are_on_http_1() {
    let with_value = |length: usize| {
        let value = vec![b'x'; length];
        check_as_parsed(&GET, &[(b"x", &value)]);
        taken(&GET, &[("x", std::str::from_utf8(&value).unwrap())]).is_ok()
    };
    let rest = image(&GET, &[(b"x", b"")]).len();
    assert!(with_value(4096 - rest) && !with_value(4096 - rest + 1));
    let with_fields = |count: usize| taken(&GET, &vec![("x", "y"); count]).is_ok();
    // `:authority` is a field there.
    assert!(with_fields(19) && !with_fields(20));
    let line_of = |length: usize, limits: &HeadLimits| {
        let path = format!("/{}", "x".repeat(length - "GET / HTTP/1.1".len()));
        let request = Http2Request { path: path.as_bytes(), ..GET };
        let parsed = RequestHead::new().parse(&image(&request, &[]), limits).map(drop);
        let taken = RequestHead::new().take_http2(&request, std::iter::empty(), &mut Vec::new(), limits);
        assert_eq!(taken, parsed, "{length}");
        taken.is_ok()
    };
    let wide = HeadLimits { head_bytes_max: 1 << 16, fields_max: 20 };
    assert!(line_of(REQUEST_LINE_BYTES_MAX, &wide) && !line_of(REQUEST_LINE_BYTES_MAX + 1, &wide));
    let roomy = HeadLimits { head_bytes_max: 1 << 20, ..wide };
    let with_name = |length: usize| {
        let name = vec![b'n'; length];
        let parsed = RequestHead::new().parse(&image(&GET, &[(&name, b"x")]), &roomy).map(drop);
        let fields = [(&*name, &b"x"[..])].into_iter();
        let taken = RequestHead::new().take_http2(&GET, fields, &mut Vec::new(), &roomy);
        assert_eq!(taken, parsed, "{length}");
        taken.is_ok()
    };
    assert!(with_name(NAME_BYTES_MAX) && !with_name(NAME_BYTES_MAX + 1));
    for length in 4050..4100 {
        line_of(length, &LIMITS);
    }
}
