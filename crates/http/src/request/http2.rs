//! Request heads that arrived as HTTP/2 fields (RFC 9113 §8.3.1), held to the rules of HTTP/1.1.
//!
//! The parts are written down as an HTTP/1.1 head, after a check that each is one part and no more, and that head is
//! parsed: whatever is refused on HTTP/1.1 is refused here, by the same code, and everything behind sees one kind of head.

use smallvec::SmallVec;

use super::RequestHead;
use crate::authority::Authority;
use crate::error::{HeadError, HostError, RequestError};
use crate::field::Known;
use crate::framing::BodyFraming;
use crate::token::{is_field_value, is_token};
use crate::write::is_protocol;
use crate::{HeadLimits, Version};

/// The pseudo-header fields of a request, and whether a body follows.
#[derive(Debug, Clone, Copy)]
pub struct Http2Request<'a> {
    /// `:method`.
    pub method: &'a [u8],
    /// `:scheme`.
    pub scheme: &'a [u8],
    /// `:authority`, if there is one.
    pub authority: Option<&'a [u8]>,
    /// `:path`.
    pub path: &'a [u8],
    /// `:protocol`, if the request is an extended CONNECT (RFC 8441 §4). The method is `CONNECT` then.
    pub protocol: Option<&'a [u8]>,
    /// The stream ends with the head: there is no body.
    pub ends: bool,
}

impl RequestHead {
    /// Takes over a request of HTTP/2. `scratch` is a buffer to work in, emptied first.
    ///
    /// Several `cookie` fields become one (RFC 9113 §8.2.3). A body of unknown length counts as
    /// [`BodyFraming::Chunked`], which is what it has to be for an upstream that speaks HTTP/1.1.
    ///
    /// An extended CONNECT (RFC 8441 §4) becomes the GET that asks for the same on HTTP/1.1, and [`RequestHead::upgrade`] is
    /// its `:protocol`. It has no body: what follows belongs to the tunnel. A key of WebSockets is left out (RFC 8441 §5).
    ///
    /// # Errors
    /// As [`RequestHead::parse`], and what RFC 9113 §8.2 calls malformed: fields of HTTP/1.1 connections, names in upper
    /// case, values with blanks around them, a `host` that differs from `:authority`.
    pub fn take_http2<'a>(
        &mut self,
        request: &Http2Request<'_>,
        fields: impl Iterator<Item = (&'a [u8], &'a [u8])>,
        scratch: &mut Vec<u8>,
        limits: &HeadLimits,
    ) -> Result<(), RequestError> {
        self.clear();
        write_image(request, fields, scratch)?;
        match self.parse(scratch, limits) {
            Ok(Some(length)) if length == scratch.len() => {}
            // The image is one whole head by its making.
            Ok(_) => return Err(HeadError::FieldName.into()),
            Err(error) => {
                self.forget();
                return Err(error);
            }
        }
        self.version = Version::Http2;
        self.persists = true;
        self.body = match (self.body, request.ends) {
            // RFC 8441 §4: what follows is no content, and has no length.
            (BodyFraming::None, _) if request.protocol.is_some() => BodyFraming::None,
            (_, _) if request.protocol.is_some() => return Err(HeadError::BadContentLength.into()),
            // RFC 9113 §8.1.1: the length of a body that is not there.
            (BodyFraming::Length(1..), true) => return Err(HeadError::BadContentLength.into()),
            (framing, true) => framing,
            (BodyFraming::None, false) => BodyFraming::Chunked,
            (framing, false) => framing,
        };
        let has_body = !matches!(self.body, BodyFraming::None | BodyFraming::Length(0));
        // What else it might expect was refused above.
        self.expects_continue = has_body && self.field("expect").is_some();
        Ok(())
    }
}

/// Writes the head that the request would have on HTTP/1.1.
fn write_image<'a>(
    request: &Http2Request<'_>,
    fields: impl Iterator<Item = (&'a [u8], &'a [u8])>,
    image: &mut Vec<u8>,
) -> Result<(), RequestError> {
    image.clear();
    if !is_token(request.method) {
        return Err(RequestError::BadMethod);
    }
    let method = match (request.method, request.protocol) {
        (b"CONNECT", Some(protocol)) if is_protocol(protocol) => b"GET",
        // RFC 8441 §4: of a CONNECT only.
        (_, Some(_)) => return Err(RequestError::BadMethod),
        // It has no path, and is refused for what it is.
        (b"CONNECT", None) => return Err(RequestError::ConnectUnsupported),
        (method, None) => method,
    };
    let is_web = [&b"https"[..], b"http"].iter().any(|scheme| request.scheme.eq_ignore_ascii_case(scheme));
    // RFC 9113 §8.3.1: a path, or `*`; never what HTTP/1.1 would take for the whole URI.
    let is_origin = request.path.starts_with(b"/") || request.path == b"*";
    if !is_web || !is_origin || request.path.iter().any(|byte| !matches!(byte, b'!'..=b'~')) {
        return Err(RequestError::BadTarget);
    }
    image.extend_from_slice(method);
    image.push(b' ');
    image.extend_from_slice(request.path);
    image.extend_from_slice(b" HTTP/1.1\r\n");
    if let Some(authority) = request.authority {
        if !is_field_value(authority) {
            return Err(HostError::Syntax.into());
        }
        line(image, b"host", authority);
    }
    let mut crumbs: SmallVec<[&[u8]; 4]> = SmallVec::new();
    for (name, value) in fields {
        check_field(name, value)?;
        if is_of_connection(name, value) {
            return Err(RequestError::ConnectionField);
        }
        match (Known::of(name), request.authority) {
            (Known::Other, _) if request.protocol.is_some() && name == b"sec-websocket-key" => {}
            (Known::Other, _) if name == b"cookie" => crumbs.push(value),
            (Known::Host, Some(authority)) => agree(authority, value)?,
            _ => line(image, name, value),
        }
    }
    if let Some(protocol) = request.protocol {
        line(image, b"connection", b"upgrade");
        line(image, b"upgrade", protocol);
    }
    if let [first, others @ ..] = &*crumbs {
        image.extend_from_slice(b"cookie: ");
        image.extend_from_slice(first);
        for crumb in others {
            image.extend_from_slice(b"; ");
            image.extend_from_slice(crumb);
        }
        image.extend_from_slice(b"\r\n");
    }
    image.extend_from_slice(b"\r\n");
    Ok(())
}

/// RFC 9113 §8.2.1, as far as [`RequestHead::parse`] would not notice or would read it otherwise.
pub(crate) fn check_field(name: &[u8], value: &[u8]) -> Result<(), HeadError> {
    if !is_token(name) || name.iter().any(u8::is_ascii_uppercase) {
        return Err(HeadError::FieldName);
    }
    let is_blank = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    if !is_field_value(value) || is_blank(value.first()) || is_blank(value.last()) {
        return Err(HeadError::FieldValue);
    }
    Ok(())
}

/// RFC 9113 §8.2.2: whether the field has no place in HTTP/2. `name` is in lower case.
pub(crate) fn is_of_connection(name: &[u8], value: &[u8]) -> bool {
    match Known::of(name) {
        Known::Connection | Known::TransferEncoding | Known::Upgrade => true,
        Known::HopByHop if name == b"te" => !value.eq_ignore_ascii_case(b"trailers"),
        Known::HopByHop => matches!(name, b"keep-alive" | b"proxy-connection"),
        _ => false,
    }
}

/// RFC 9113 §8.3.1: a `host` beside `:authority` says the same. It is not written a second time.
fn agree(authority: &[u8], host: &[u8]) -> Result<(), RequestError> {
    if Authority::parse(authority)?.same_as(&Authority::parse(host)?) {
        Ok(())
    } else {
        Err(HostError::Mismatch.into())
    }
}

/// Appends a field line.
pub(crate) fn line(image: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    for part in [name, b": ", value, b"\r\n"] {
        image.extend_from_slice(part);
    }
}

#[cfg(test)]
mod tests {
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
            assert_eq!(
                taken(&Http2Request { method: bad, ..GET }, &[]).unwrap_err(),
                RequestError::BadMethod
            );
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
        assert_eq!(
            (head.method(), head.upgrade(), head.body()),
            ("GET", Some("websocket"), BodyFraming::None)
        );
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
}
