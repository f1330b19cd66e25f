//! Writing heads and chunks.
//!
//! A forwarded head is made from the parts of a parsed one: framing fields from [`BodyFraming`] alone, hop-by-hop fields
//! left out, the caller's fields last. No byte of a start line or framing field is copied through, and nothing written
//! here holds CR, LF or NUL inside of a name or value: what would is refused, in release builds too.

mod forwarded;
mod http2;
mod query;
mod request;
mod response;
mod upgrade;

use thiserror::Error;

use crate::Version;
use crate::field::{FieldSpan, Known};
use crate::framing::BodyFraming;
use crate::token::{is_field_value, is_token};

pub use forwarded::{ForwardMode, Forwarded};
pub use http2::{Http2Fields, is_trailer, request_fields, response_fields};
pub use query::QueryEdits;
pub use request::{RequestEdits, request_head};
pub use response::{ResponseEdits, ResponseFraming, response_head, simple_response};
pub use upgrade::{is_protocol, upgrade};

/// The interim response that asks for the body (RFC 9110 §15.2.1).
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// Why nothing was written. Each but [`WriteError::BadTarget`] is a fault of configuration, policy or this program, never of a
/// peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum WriteError {
    /// A name to be set is not a token.
    #[error("a field to be set has a name that is not a token (field {index} of the list)")]
    BadName {
        /// Its place in the list.
        index: usize,
    },
    /// A value to be set holds CR, LF, NUL or another control character.
    #[error("a field to be set has a value with a control character (field {index} of the list)")]
    BadValue {
        /// Its place in the list.
        index: usize,
    },
    /// A name to be set is a framing, routing or hop-by-hop field, which only this crate writes.
    #[error("a field to be set frames or routes the message and cannot be set (field {index} of the list)")]
    Reserved {
        /// Its place in the list.
        index: usize,
    },
    /// A `Via` name, or a part of `Forwarded`, holds a character that may not stand there.
    #[error("the via name or a forwarded address holds a forbidden character")]
    BadProvenance,
    /// The method, target or authority of a request cannot be said in HTTP/2, or its target can have no query and is to get one.
    #[error("the request's method, target or authority has a form in which it cannot be sent on")]
    BadTarget,
    /// A protocol to be asked for is not `name` or `name/version`.
    #[error("a protocol to be asked for is not a name with or without a version")]
    BadProtocol,
    /// A request body cannot be delimited by closing the connection.
    #[error("a request body cannot last until the connection closes")]
    UnframedRequest,
}

/// Whether a field with this name and value can be set: the check that [`request_head`] and [`response_head`] make, for
/// whoever loads such fields and wants to know in time.
pub fn is_settable(name: &str, value: &[u8]) -> bool {
    check_settable(0, name, value).is_ok()
}

/// Appends one chunk with `data`. Nothing for no data, because a chunk of size 0 would end the body.
pub fn chunk(out: &mut Vec<u8>, data: &[u8]) {
    if data.is_empty() {
        return;
    }
    let digits = (data.len().ilog2() / 4 + 1) as usize;
    out.extend((0..digits).rev().map(|digit| HEX[data.len() >> (4 * digit) & 0xf]));
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(data);
    out.extend_from_slice(b"\r\n");
}

/// Appends the end of a chunked body. Trailers that are malformed or that RFC 9110 §6.5.1 forbids are left out.
pub fn last_chunk<'a>(out: &mut Vec<u8>, trailers: impl Iterator<Item = (&'a str, &'a [u8])>) {
    out.extend_from_slice(b"0\r\n");
    for (name, value) in trailers {
        if is_trailer(name.as_bytes(), value) {
            line(out, name.as_bytes(), value);
        }
    }
    out.extend_from_slice(b"\r\n");
}

/// Appends a field line whose parts are known to be valid.
fn line(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

fn number_line(out: &mut Vec<u8>, name: &[u8], number: u64) {
    line(out, name, itoa::Buffer::new().format(number).as_bytes());
}

/// The only place where framing fields are written.
fn framing_line(out: &mut Vec<u8>, framing: BodyFraming) {
    match framing {
        BodyFraming::None | BodyFraming::UntilClose => {}
        BodyFraming::Length(length) => number_line(out, b"content-length", length),
        BodyFraming::Chunked => line(out, b"transfer-encoding", b"chunked"),
    }
}

/// Appends the caller's fields.
fn set_lines(out: &mut Vec<u8>, set: &[(&str, &[u8])]) -> Result<(), WriteError> {
    for (index, (name, value)) in set.iter().enumerate() {
        check_settable(index, name, value)?;
        line(out, name.as_bytes(), value);
    }
    Ok(())
}

fn check_settable(index: usize, name: &str, value: &[u8]) -> Result<(), WriteError> {
    if !is_token(name.as_bytes()) {
        return Err(WriteError::BadName { index });
    }
    if !is_field_value(value) {
        return Err(WriteError::BadValue { index });
    }
    let known = Known::of(name.as_bytes());
    if known.is_hop_by_hop() || matches!(known, Known::ContentLength | Known::Host | Known::Expect) {
        return Err(WriteError::Reserved { index });
    }
    Ok(())
}

/// Whether one of the caller's fields replaces a received field of this name.
fn is_replaced(name: &[u8], set: &[(&str, &[u8])]) -> bool {
    set.iter().any(|(set_name, _)| name.eq_ignore_ascii_case(set_name.as_bytes()))
}

/// Appends one line that continues the list of the received fields `existing` by what `append` writes.
fn joined_line<'a>(
    out: &mut Vec<u8>,
    name: &[u8],
    existing: impl Iterator<Item = &'a [u8]>,
    append: impl FnOnce(&mut Vec<u8>),
) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    for value in existing.filter(|value| !value.is_empty()) {
        out.extend_from_slice(value);
        out.extend_from_slice(b", ");
    }
    append(out);
    out.extend_from_slice(b"\r\n");
}

/// Appends `Via`, continuing a received one (RFC 9110 §7.6.3).
fn via_line(
    out: &mut Vec<u8>,
    received: Received<'_>,
    version: Version,
    pseudonym: &str,
) -> Result<(), WriteError> {
    if !is_token(pseudonym.as_bytes()) {
        return Err(WriteError::BadProvenance);
    }
    joined_line(out, b"via", received.values(|known, _| known == Known::Via), |out| {
        out.extend_from_slice(version.as_str().as_bytes());
        out.push(b' ');
        out.extend_from_slice(pseudonym.as_bytes());
    });
    Ok(())
}

/// The fields of a parsed head, and what the caller says about which of them may go on to the other side.
#[derive(Clone, Copy)]
struct Received<'a> {
    bytes: &'a [u8],
    fields: &'a [FieldSpan],
    set: &'a [(&'a str, &'a [u8])],
    drop_field: &'a dyn Fn(&[u8]) -> bool,
}

impl<'a> Received<'a> {
    /// Names and values of the fields that are wanted here and may go on: not hop-by-hop, not replaced, not dropped.
    fn fields(self, wanted: impl Fn(Known, &[u8]) -> bool) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        self.fields.iter().filter(|field| !field.hop_by_hop).filter_map(move |field| {
            let name = field.name.of(self.bytes);
            // What the caller says is asked last: it is the dearest.
            let goes_on =
                wanted(field.known, name) && !is_replaced(name, self.set) && !(self.drop_field)(name);
            goes_on.then(|| (name, field.value.of(self.bytes)))
        })
    }

    /// The values of the wanted fields that may go on.
    fn values(self, wanted: impl Fn(Known, &[u8]) -> bool) -> impl Iterator<Item = &'a [u8]> {
        self.fields(wanted).map(|(_, value)| value)
    }
}

const HEX: &[u8; 16] = b"0123456789abcdef";

#[cfg(test)]
mod tests;
