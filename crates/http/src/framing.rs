//! How the length of a body is declared: `Content-Length` and `Transfer-Encoding` (RFC 9112 §6).
//!
//! The strictest reading of both: what any two recipients could read differently is refused.

use crate::Version;
use crate::error::HeadError;
use crate::field::{Occurrence, Survey};
use crate::token::{Span, is_token, trim_ows};

/// How the body of a message is delimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BodyFraming {
    /// There is none, and no length is declared.
    #[default]
    None,
    /// Exactly this many bytes.
    Length(u64),
    /// The chunked transfer coding (RFC 9112 §7.1).
    Chunked,
    /// Everything until the connection closes. Responses only.
    UntilClose,
}

/// What the fields declare, before status and method are considered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Declared {
    Nothing,
    Length(u64),
    Chunked,
}

/// Reads the framing fields of `head`.
pub(crate) fn declared(head: &[u8], survey: &Survey, version: Version) -> Result<Declared, HeadError> {
    match (survey.transfer_encoding, survey.content_length) {
        (Occurrence::Absent, Occurrence::Absent) => Ok(Declared::Nothing),
        (Occurrence::Absent, Occurrence::Once(value)) => content_length(value.of(head)).map(Declared::Length),
        (Occurrence::Absent, Occurrence::Repeated) => Err(HeadError::RepeatedContentLength),
        // RFC 9112 §6.1: might be an attempt at smuggling. It allows to let Transfer-Encoding win; we do not.
        (_, Occurrence::Once(_) | Occurrence::Repeated) => Err(HeadError::LengthAndEncoding),
        // RFC 9112 §6.1: faulty framing, because HTTP/1.0 recipients on the way did not see a chunked body.
        _ if version == Version::Http10 => Err(HeadError::EncodingOnHttp10),
        (Occurrence::Repeated, Occurrence::Absent) => Err(HeadError::BadTransferEncoding),
        (Occurrence::Once(value), Occurrence::Absent) => transfer_encoding(head, value),
    }
}

/// RFC 9110 §8.6: `1*DIGIT`. Below 2^63, because some implementations count in signed 64 bits.
fn content_length(value: &[u8]) -> Result<u64, HeadError> {
    if value.is_empty() || value.len() > CONTENT_LENGTH_DIGITS_MAX {
        return Err(HeadError::BadContentLength);
    }
    let mut length = 0_u64;
    for &byte in value {
        if !byte.is_ascii_digit() {
            return Err(HeadError::BadContentLength);
        }
        length = length * 10 + u64::from(byte - b'0');
    }
    if length > CONTENT_LENGTH_MAX { Err(HeadError::BadContentLength) } else { Ok(length) }
}

fn transfer_encoding(head: &[u8], value: Span) -> Result<Declared, HeadError> {
    let value = value.of(head);
    if value.eq_ignore_ascii_case(b"chunked") {
        return Ok(Declared::Chunked);
    }
    // RFC 9112 §6.3: a request whose final coding is not `chunked` has no certain length; that is 400. A known end
    // after codings that we do not speak is 501 (§6.1).
    let mut codings = value.split(|&byte| byte == b',').map(trim_ows).rev();
    let last_is_chunked = codings.next().is_some_and(|coding| coding.eq_ignore_ascii_case(b"chunked"));
    if last_is_chunked && codings.all(|coding| is_token(coding) && !coding.eq_ignore_ascii_case(b"chunked")) {
        return Err(HeadError::UnsupportedTransferEncoding);
    }
    Err(HeadError::BadTransferEncoding)
}

/// The largest length accepted: 2^63 - 1.
const CONTENT_LENGTH_MAX: u64 = i64::MAX as u64;

/// The digits of [`CONTENT_LENGTH_MAX`]; 19 digits cannot overflow 64 bits.
const CONTENT_LENGTH_DIGITS_MAX: usize = 19;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_length_is_digits_only_and_bounded() {
        for (value, expected) in [
            ("0", Some(0)),
            ("5", Some(5)),
            ("0005", Some(5)),
            ("9223372036854775807", Some(i64::MAX as u64)),
            ("9223372036854775808", None),
            ("9999999999999999999", None),
            ("18446744073709551616", None),
            ("00000000000000000005", None),
            ("", None),
            ("+5", None),
            ("-5", None),
            ("5,5", None),
            ("5, 5", None),
            ("5 5", None),
            ("0x5", None),
            ("5.0", None),
            ("5\t", None),
            ("\u{0665}", None),
        ] {
            let expected = expected.ok_or(HeadError::BadContentLength);
            assert_eq!(content_length(value.as_bytes()), expected, "{value:?}");
        }
    }

    #[test]
    fn transfer_encoding_is_exactly_chunked() {
        for (value, expected) in [
            ("chunked", Ok(Declared::Chunked)),
            ("CHUNKED", Ok(Declared::Chunked)),
            ("gzip, chunked", Err(HeadError::UnsupportedTransferEncoding)),
            ("gzip,deflate ,Chunked", Err(HeadError::UnsupportedTransferEncoding)),
            ("chunked, chunked", Err(HeadError::BadTransferEncoding)),
            ("chunked, gzip", Err(HeadError::BadTransferEncoding)),
            ("gzip", Err(HeadError::BadTransferEncoding)),
            ("identity", Err(HeadError::BadTransferEncoding)),
            ("", Err(HeadError::BadTransferEncoding)),
            (",chunked", Err(HeadError::BadTransferEncoding)),
            ("chunked,", Err(HeadError::BadTransferEncoding)),
            ("xchunked", Err(HeadError::BadTransferEncoding)),
            ("chunked;q=1", Err(HeadError::BadTransferEncoding)),
            ("\"chunked\"", Err(HeadError::BadTransferEncoding)),
            ("chunked\u{b}", Err(HeadError::BadTransferEncoding)),
        ] {
            let span = Span::new(0, value.len());
            assert_eq!(transfer_encoding(value.as_bytes(), span), expected, "{value:?}");
        }
    }
}
