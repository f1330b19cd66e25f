//! HTTP/1.1 heads, framing, normalisation and hop-by-hop rules, without any I/O; and what of HTTP/2 becomes that.
//!
//! Hides how bytes become a request or response that can be acted on, and how one is written again. Strict by
//! RFC 9112: whatever two implementations could read differently is refused, never repaired, because request
//! smuggling lives in the difference. Tokens come from `httparse`; what it lets pass is refused before or after it.
//!
//! Never does: reading or writing sockets, looking at a clock, buffering bodies, copying a received head to the
//! other side. A forwarded head is written anew from its parsed parts ([`mod@write`]).
//!
//! - [`RequestHead::take_http2`] and [`ResponseHead::take_http2`] hold what arrived as HTTP/2 to the same rules.
//! - [`RequestHead`] and [`ResponseHead`] parse and own one head each, and are reused for the next.
//! - [`RequestHead::preferred_coding`] reads `Accept-Encoding`.
//! - [`FrameMeter`] counts the frames of an HTTP/2 connection that cost more than they serve.
//! - [`mod@grpc`] reads what gRPC has in heads.
//! - [`Hops`] are the addresses in `X-Forwarded-For` and `Forwarded`.
//! - [`ChunkedDecoder`] finds the data in a chunked body.
//! - [`path::normalise`] makes the one path that router, policy, log and upstream see.
//! - [`mod@write`] serialises heads and chunks.
#![forbid(unsafe_code)]

mod accept_encoding;
mod authority;
mod chunked;
mod connection;
pub mod date;
mod error;
mod field;
mod frame_meter;
mod framing;
pub mod grpc;
mod hops;
pub mod path;
mod request;
mod response;
mod scan;
mod token;
pub mod write;

pub use chunked::{ChunkError, ChunkedDecoder, Decoded};
pub use error::{HeadError, HostError, RequestError, ResponseError};
pub use field::Field;
pub use frame_meter::{Flood, FrameMeter};
pub use framing::BodyFraming;
pub use hops::{BadHops, HopField, Hops};
pub use path::PathError;
pub use request::{Http2Request, METHOD_BYTES_MAX, REQUEST_LINE_BYTES_MAX, RequestHead};
pub use response::{Http2Connect, Http2Response, RequestKind, ResponseHead};

/// How large a head may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeadLimits {
    /// Bytes of a whole head, from the first byte of the start line to the empty line that ends it. Above 1 MiB it
    /// counts as 1 MiB.
    pub head_bytes_max: usize,
    /// Field lines in a head.
    pub fields_max: usize,
}

impl HeadLimits {
    /// What SETTINGS_MAX_HEADER_LIST_SIZE has to be so that nothing within the limits is refused: RFC 9113 §6.5.2 counts 32 bytes for
    /// each field besides what it has.
    pub fn list_bytes_max(&self) -> usize {
        self.head_bytes_max + 32 * self.fields_max
    }

    /// Whether a trailer section of HTTP/2 is no larger than a head may be. Over HTTP/1.1, [`ChunkedDecoder`] sees to that.
    ///
    /// # Errors
    /// [`ChunkError::TrailersTooLong`] and [`ChunkError::TooManyTrailers`].
    pub fn check_trailers<'t>(
        &self,
        trailers: impl Iterator<Item = (&'t str, &'t [u8])>,
    ) -> Result<(), ChunkError> {
        let (mut bytes, mut fields) = (0, 0);
        for (name, value) in trailers {
            bytes += name.len() + value.len() + b": \r\n".len();
            fields += 1;
        }
        if bytes > self.head_bytes_max {
            return Err(ChunkError::TrailersTooLong { bytes_max: self.head_bytes_max });
        }
        if fields > self.fields_max {
            return Err(ChunkError::TooManyTrailers { fields_max: self.fields_max });
        }
        Ok(())
    }
}

/// The versions of messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Version {
    /// HTTP/1.0: no chunked coding, closes unless told otherwise.
    Http10,
    /// HTTP/1.1.
    #[default]
    Http11,
    /// HTTP/2, whose fields were taken over as a head ([`RequestHead::take_http2`]).
    Http2,
}

impl Version {
    /// `"1.0"`, `"1.1"` or `"2.0"`, as in `Via`.
    pub fn as_str(self) -> &'static str {
        match self {
            Version::Http10 => "1.0",
            Version::Http11 => "1.1",
            Version::Http2 => "2.0",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trailers_are_no_larger_than_a_head() {
        let limits = HeadLimits { head_bytes_max: 20, fields_max: 2 };
        let check = |trailers: &[(&str, &[u8])]| limits.check_trailers(trailers.iter().copied());
        assert_eq!(check(&[]), Ok(()));
        // Two names, two values, and four bytes for each line.
        assert_eq!(check(&[("x-a", b"123"), ("x-b", b"123")]), Ok(()));
        let too_long = Err(ChunkError::TrailersTooLong { bytes_max: 20 });
        assert_eq!(check(&[("x-a", b"123"), ("x-b", b"1234")]), too_long);
        let too_many = Err(ChunkError::TooManyTrailers { fields_max: 2 });
        assert_eq!(check(&[("a", b""), ("b", b""), ("c", b"")]), too_many);
    }
}
