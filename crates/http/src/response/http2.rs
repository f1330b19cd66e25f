//! Response heads that arrived as HTTP/2 fields (RFC 9113 §8.3.2), held to the rules of HTTP/1.1.
//!
//! As with requests ([`crate::RequestHead::take_http2`]), the parts are written down as an HTTP/1.1 head, after a check that
//! each is one part and no more, and that head is parsed.

use super::{RequestKind, ResponseHead};
use crate::error::{HeadError, ResponseError};
use crate::field::Known;
use crate::framing::BodyFraming;
use crate::request::http2::{check_field, is_of_connection, line};
use crate::{HeadLimits, Version};

/// What of a response of HTTP/2 is no field.
#[derive(Debug, Clone, Copy)]
pub struct Http2Response {
    /// `:status`.
    pub status: u16,
    /// The stream ends with the head: there is no body.
    pub ends: bool,
}

impl ResponseHead {
    /// Takes over a response of HTTP/2, interim or final, the answer to a request of the given kind. `scratch` is a buffer to
    /// work in, emptied first.
    ///
    /// A body of unknown length counts as [`BodyFraming::Chunked`], which is what it has to be for a client that speaks
    /// HTTP/1.1; one that is not there has a length of 0.
    ///
    /// # Errors
    /// As [`ResponseHead::parse`], and what RFC 9113 §8.2 calls malformed: fields of HTTP/1.1 connections, names in upper
    /// case, values with blanks around them; and a length of a body that is not there (§8.1.1).
    pub fn take_http2<'a>(
        &mut self,
        response: Http2Response,
        fields: impl Iterator<Item = (&'a [u8], &'a [u8])>,
        request: RequestKind,
        scratch: &mut Vec<u8>,
        limits: &HeadLimits,
    ) -> Result<(), ResponseError> {
        self.clear();
        write_image(response.status, fields, scratch)?;
        match self.parse(scratch, request, limits) {
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

/// Writes the head that the response would have on HTTP/1.1.
fn write_image<'a>(
    status: u16,
    fields: impl Iterator<Item = (&'a [u8], &'a [u8])>,
    image: &mut Vec<u8>,
) -> Result<(), ResponseError> {
    image.clear();
    if !(100..=599).contains(&status) {
        return Err(ResponseError::BadStatus(status));
    }
    image.extend_from_slice(b"HTTP/1.1 ");
    image.extend_from_slice(itoa::Buffer::new().format(status).as_bytes());
    image.extend_from_slice(b" \r\n");
    for (name, value) in fields {
        check_field(name, value)?;
        if is_of_connection(Known::of(name), name, value) {
            return Err(ResponseError::ConnectionField);
        }
        line(image, name, value);
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
        head.take_http2(Http2Response { status, ends }, fields, kind, &mut Vec::new(), &LIMITS)?;
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
