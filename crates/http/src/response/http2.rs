//! Response heads that arrived as HTTP/2 fields (RFC 9113 §8.3.2), held to the rules of HTTP/1.1.
//!
//! As with requests ([`crate::RequestHead::take_http2`]), the parts are written down as an HTTP/1.1 head, after a check that
//! each is one part and no more, and that head is parsed.

use super::{RequestKind, ResponseHead};
use crate::error::{HeadError, ResponseError};
use crate::field::Known;
use crate::framing::BodyFraming;
use crate::request::http2::{check_field, is_of_connection, line};
use crate::token::is_field_value;
use crate::write::is_protocol;
use crate::{HeadLimits, Version};

/// What of a response of HTTP/2 is no field.
#[derive(Debug, Clone, Copy)]
pub struct Http2Response<'a> {
    /// `:status`.
    pub status: u16,
    /// The stream ends with the head: there is no body.
    pub ends: bool,
    /// The extended CONNECT that it answers, if its request was one.
    pub connect: Option<Http2Connect<'a>>,
}

/// What an extended CONNECT has asked for (RFC 8441 §4).
#[derive(Debug, Clone, Copy)]
pub struct Http2Connect<'a> {
    /// Its `:protocol`.
    pub protocol: &'a str,
    /// For a WebSocket, the `sec-websocket-accept` that HTTP/1.1 has and HTTP/2 has not (RFC 8441 §5).
    pub accept: Option<&'a [u8]>,
}

impl ResponseHead {
    /// Takes over a response of HTTP/2, interim or final, the answer to a request of the given kind. `scratch` is a buffer to
    /// work in, emptied first.
    ///
    /// A body of unknown length counts as [`BodyFraming::Chunked`], which is what it has to be for a client that speaks
    /// HTTP/1.1; one that is not there has a length of 0.
    ///
    /// A 2xx to an extended CONNECT becomes the 101 that says the same on HTTP/1.1, with the `sec-websocket-accept` of
    /// [`Http2Connect`] in place of a received one. It has no body: what follows belongs to the tunnel.
    ///
    /// # Errors
    /// As [`ResponseHead::parse`], and what RFC 9113 §8.2 calls malformed: fields of HTTP/1.1 connections, names in upper
    /// case, values with blanks around them; and a length of a body that is not there (§8.1.1), a tunnel's included (RFC 9110
    /// §9.3.6).
    pub fn take_http2<'a>(
        &mut self,
        response: Http2Response<'_>,
        fields: impl Iterator<Item = (&'a [u8], &'a [u8])>,
        request: RequestKind,
        scratch: &mut Vec<u8>,
        limits: &HeadLimits,
    ) -> Result<(), ResponseError> {
        self.clear();
        let opens = response.connect.filter(|_| (200..300).contains(&response.status));
        write_image(response.status, opens, fields, scratch)?;
        let kind = if opens.is_some() { RequestKind::Upgrade } else { request };
        match self.parse(scratch, kind, limits) {
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
        self.body = match (self.body, response.ends) {
            (BodyFraming::Length(1..), true) => return Err(HeadError::BadContentLength.into()),
            (BodyFraming::UntilClose, true) => BodyFraming::Length(0),
            (BodyFraming::UntilClose, false) => BodyFraming::Chunked,
            (framing, _) => framing,
        };
        Ok(())
    }
}

/// Writes the head that the response would have on HTTP/1.1; `opens` is what it opens a tunnel for.
fn write_image<'a>(
    status: u16,
    opens: Option<Http2Connect<'_>>,
    fields: impl Iterator<Item = (&'a [u8], &'a [u8])>,
    image: &mut Vec<u8>,
) -> Result<(), ResponseError> {
    image.clear();
    if !(100..=599).contains(&status) {
        return Err(ResponseError::BadStatus(status));
    }
    if status == 101 {
        // RFC 9113 §8.6: HTTP/2 has none.
        return Err(ResponseError::UnexpectedUpgrade);
    }
    image.extend_from_slice(b"HTTP/1.1 ");
    let status = if opens.is_some() { 101 } else { status };
    image.extend_from_slice(itoa::Buffer::new().format(status).as_bytes());
    image.extend_from_slice(b" \r\n");
    for (name, value) in fields {
        check_field(name, value)?;
        if is_of_connection(Known::of(name), name, value) {
            return Err(ResponseError::ConnectionField);
        }
        match Known::of(name) {
            Known::ContentLength if opens.is_some() => return Err(HeadError::BadContentLength.into()),
            Known::Other if opens.is_some() && name == b"sec-websocket-accept" => {}
            _ => line(image, name, value),
        }
    }
    if let Some(Http2Connect { protocol, accept }) = opens {
        if !is_protocol(protocol.as_bytes()) || !accept.is_none_or(is_field_value) {
            return Err(ResponseError::UnexpectedUpgrade);
        }
        line(image, b"connection", b"upgrade");
        line(image, b"upgrade", protocol.as_bytes());
        if let Some(accept) = accept {
            line(image, b"sec-websocket-accept", accept);
        }
    }
    image.extend_from_slice(b"\r\n");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    type Fields<'a> = &'a [(&'a str, &'a str)];

    const LIMITS: HeadLimits = HeadLimits { head_bytes_max: 4096, fields_max: 20 };

    fn taken_as(
        (status, ends): (u16, bool),
        kind: RequestKind,
        fields: Fields<'_>,
    ) -> Result<ResponseHead, ResponseError> {
        let mut head = ResponseHead::new();
        let fields = fields.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
        let response = Http2Response { status, ends, connect: None };
        head.take_http2(response, fields, kind, &mut Vec::new(), &LIMITS)?;
        Ok(head)
    }

    fn taken(status: u16, ends: bool, fields: Fields<'_>) -> Result<ResponseHead, ResponseError> {
        taken_as((status, ends), RequestKind::Other, fields)
    }

    #[test]
    fn a_response_is_what_it_would_be_on_http_1() {
        let head = taken(404, false, &[("x-a", "1"), ("x-a", "2"), ("te", "trailers")]).unwrap();
        assert_eq!((head.status(), head.version(), head.reason()), (404, Version::Http2, &b""[..]));
        assert!(head.keep_alive() && !head.is_interim());
        let fields: Vec<_> =
            head.fields().filter(|field| !field.hop_by_hop).map(|field| field.value).collect();
        assert_eq!(fields, [b"1", b"2"]);
        let hints = taken(103, false, &[("link", "</a>")]).unwrap();
        assert!(hints.is_interim() && hints.body() == BodyFraming::None);
    }

    #[test]
    fn bodies_are_framed_by_length_or_by_the_end_of_the_stream() {
        let length = &[("content-length", "5")][..];
        for (status, ends, kind, fields, body, declared) in [
            (200, false, RequestKind::Other, &[][..], BodyFraming::Chunked, None),
            (200, false, RequestKind::Other, length, BodyFraming::Length(5), Some(5)),
            (200, true, RequestKind::Other, &[], BodyFraming::Length(0), None),
            (200, true, RequestKind::Head, length, BodyFraming::None, Some(5)),
            (200, false, RequestKind::Head, &[], BodyFraming::None, None),
            (304, true, RequestKind::Other, length, BodyFraming::None, Some(5)),
            (204, true, RequestKind::Other, &[], BodyFraming::None, None),
        ] {
            let head = taken_as((status, ends), kind, fields).unwrap();
            assert_eq!((head.body(), head.declared_length()), (body, declared), "{status} {ends} {kind:?}");
        }
        for (fields, error) in [
            (&[("content-length", "5")][..], HeadError::BadContentLength),
            (&[("content-length", "5, 5")], HeadError::BadContentLength),
            (&[("content-length", "0"), ("content-length", "0")], HeadError::RepeatedContentLength),
        ] {
            assert_eq!(taken(200, true, fields).unwrap_err(), error.into(), "{fields:?}");
        }
    }

    #[test]
    fn no_part_becomes_two() {
        for (name, value, error) in [
            ("x-a", "1\r\nx-b: 2", HeadError::FieldValue),
            ("x-a", "1\n", HeadError::FieldValue),
            ("x-a", "\0", HeadError::FieldValue),
            ("x-a", " 1", HeadError::FieldValue),
            ("x-a", "1\t", HeadError::FieldValue),
            ("x-a: 1\r\nx-b", "2", HeadError::FieldName),
            ("X-A", "1", HeadError::FieldName),
            (":status", "200", HeadError::FieldName),
            ("", "1", HeadError::FieldName),
        ] {
            assert_eq!(taken(200, true, &[(name, value)]).unwrap_err(), error.into(), "{name:?}: {value:?}");
        }
    }

    #[test]
    fn what_belongs_to_http_1_connections_is_refused() {
        for (name, value) in [
            ("connection", "close"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "keep-alive"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "websocket"),
        ] {
            let refused = taken(200, false, &[(name, value)]).unwrap_err();
            assert_eq!(refused, ResponseError::ConnectionField, "{name}");
        }
        assert_eq!(taken(101, false, &[]).unwrap_err(), ResponseError::UnexpectedUpgrade);
    }

    #[test]
    fn a_2xx_to_an_extended_connect_is_the_101_of_http_1() {
        let connect = Some(Http2Connect { protocol: "websocket", accept: Some(b"ours") });
        let taken = |status, connect, fields: Fields<'_>| {
            let mut head = ResponseHead::new();
            let fields = fields.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
            let response = Http2Response { status, ends: false, connect };
            head.take_http2(response, fields, RequestKind::Other, &mut Vec::new(), &LIMITS)?;
            Ok::<_, ResponseError>(head)
        };
        for status in [200, 204, 299] {
            let fields = [("sec-websocket-accept", "theirs"), ("sec-websocket-protocol", "chat")];
            let head = taken(status, connect, &fields).unwrap();
            assert_eq!((head.status(), head.upgrade()), (101, Some("websocket")));
            assert_eq!((head.body(), head.declared_length()), (BodyFraming::None, None));
            let accepts = head.fields().filter(|field| field.name == "sec-websocket-accept");
            assert_eq!(accepts.map(|field| field.value).collect::<Vec<_>>(), [b"ours"]);
            assert_eq!(head.field("sec-websocket-protocol"), Some(&b"chat"[..]));
        }
        let generic = Some(Http2Connect { protocol: "raw/1", accept: None });
        let head = taken(200, generic, &[("sec-websocket-accept", "theirs")]).unwrap();
        assert_eq!((head.upgrade(), head.field("sec-websocket-accept")), (Some("raw/1"), None));
        for status in [199, 300, 404] {
            let head = taken(status, connect, &[("sec-websocket-accept", "theirs")]).unwrap();
            assert_eq!((head.status(), head.upgrade()), (status, None));
            assert_eq!(head.field("sec-websocket-accept"), Some(&b"theirs"[..]));
        }
        for length in ["0", "5"] {
            let refused = taken(200, connect, &[("content-length", length)]).unwrap_err();
            assert_eq!(refused, HeadError::BadContentLength.into());
        }
        assert_eq!(taken(101, connect, &[]).unwrap_err(), ResponseError::UnexpectedUpgrade);
        let split = Some(Http2Connect { protocol: "a\r\nx: y", accept: None });
        assert_eq!(taken(200, split, &[]).unwrap_err(), ResponseError::UnexpectedUpgrade);
        assert_eq!(taken(200, connect, &[("upgrade", "x")]).unwrap_err(), ResponseError::ConnectionField);
    }

    #[test]
    fn limits_and_statuses_are_those_of_http_1() {
        for status in [0, 99, 600, 999] {
            assert_eq!(taken(status, true, &[]).unwrap_err(), ResponseError::BadStatus(status));
        }
        let long = "a".repeat(5000);
        assert_eq!(taken(200, true, &[("x", &long)]).unwrap_err().flag(), "head_too_large");
        let many: Vec<_> = (0..21).map(|_| ("x", "y")).collect();
        assert_eq!(taken(200, true, &many).unwrap_err().flag(), "too_many_fields");
    }
}
