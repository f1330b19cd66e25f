//! The response head as it goes to the client: relayed from an upstream, or our own.

use super::{
    Received, WriteError, check_settable, framing_line, is_replaced, line, number_line, set_lines, upgrade,
    via_line,
};
use crate::field::Known;
use crate::framing::BodyFraming;
use crate::response::has_no_body;
use crate::token::is_field_value;
use crate::{ResponseHead, Version};

/// What changes between the upstream's head and the one that the client gets.
pub struct ResponseEdits<'a> {
    /// The client's version; decides which framing it understands.
    pub version: Version,
    /// Whether we are ready to keep the client's connection.
    pub keep_alive: bool,
    /// Our name in `Via` (a token), which continues a received one. `None`: a received `Via` passes untouched.
    pub via: Option<&'a str>,
    /// An IMF-fixdate ([`crate::date::imf_fixdate`]), written if the upstream sent no `Date` (RFC 9110 §6.6.1).
    pub date: Option<&'a [u8; 29]>,
    /// The body is sent in another coding than the upstream's, so that nobody knows how long it will be. A response that has none has
    /// the fields of one that would.
    pub is_recoded: bool,
    /// Upstream fields of these names are left out. Given the name as received.
    pub drop_field: &'a dyn Fn(&[u8]) -> bool,
    /// Written last; each replaces all upstream fields of its name. Framing and hop-by-hop fields cannot be set.
    pub set: &'a [(&'a str, &'a [u8])],
    /// Written last, beside upstream fields of the same name.
    pub add: &'a [(&'a str, &'a [u8])],
}

/// What was promised to the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResponseFraming {
    /// How the body has to be sent.
    pub body: BodyFraming,
    /// Whether the connection stays open; false whenever only closing it ends the body.
    pub keep_alive: bool,
}

/// Appends the head of an upstream's response, interim or final, for the client, and says how the body has to follow.
/// A body of unknown length is chunked for HTTP/1.1 and lasts until close for HTTP/1.0.
///
/// Interim responses get no framing, no `Date`, and no fields of ours in place of those that are left out; do not relay
/// them to HTTP/1.0 clients (RFC 9110 §15.2).
///
/// # Errors
/// If `edits` cannot be written safely; `out` is then as it was.
pub fn response_head(
    out: &mut Vec<u8>,
    head: &ResponseHead,
    edits: &ResponseEdits<'_>,
) -> Result<ResponseFraming, WriteError> {
    let start = out.len();
    let written = append(out, head, edits);
    if written.is_err() {
        out.truncate(start);
    }
    written
}

/// Appends a whole response of our own. Framing, `Connection` and, for a body without one, a plain-text `Content-Type`
/// are written here. Fields that cannot be set (see [`super::is_settable`]) are left out: this is the last resort, and
/// an answer without them is better than none. Pass `close` for HTTP/1.0 clients; pass `Date` among the fields.
pub fn simple_response(
    out: &mut Vec<u8>,
    status: u16,
    fields: &[(&str, &[u8])],
    body: &[u8],
    close: bool,
    head_only: bool,
) {
    status_line(out, status, canonical_reason(status).as_bytes());
    for (index, (name, value)) in fields.iter().enumerate() {
        if check_settable(index, name, value).is_ok() {
            line(out, name.as_bytes(), value);
        }
    }
    let bodiless = has_no_body(status);
    if !bodiless {
        if !body.is_empty() && !fields.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-type")) {
            line(out, b"content-type", b"text/plain; charset=utf-8");
        }
        number_line(out, b"content-length", body.len() as u64);
    }
    if close {
        line(out, b"connection", b"close");
    }
    out.extend_from_slice(b"\r\n");
    if !bodiless && !head_only {
        out.extend_from_slice(body);
    }
}

fn append(
    out: &mut Vec<u8>,
    head: &ResponseHead,
    edits: &ResponseEdits<'_>,
) -> Result<ResponseFraming, WriteError> {
    let (bytes, fields) = head.raw();
    // RFC 9110 §15.2: 1xx have no framing and no bearing on the connection.
    let is_final = !head.is_interim();
    status_line(out, head.status(), head.reason());
    let received = Received { bytes, fields, set: edits.set, drop_field: edits.drop_field };
    let is_ours = |known| known == Known::ContentLength || (known == Known::Via && edits.via.is_some());
    for (name, value) in received.fields(|known, _| !is_ours(known)) {
        line(out, name, value);
    }
    if let Some(pseudonym) = edits.via {
        via_line(out, received, head.version(), pseudonym)?;
    }
    let framing = downstream_framing(head, edits);
    if is_final {
        let has_date = is_replaced(b"date", edits.set)
            || received.fields(|known, _| known == Known::Date).next().is_some();
        if let Some(date) = edits.date.filter(|&date| !has_date && is_field_value(date)) {
            line(out, b"date", date);
        }
        match (framing.body, head.declared_length()) {
            // RFC 9110 §8.6: what a GET would have had; not in a 204.
            (BodyFraming::None, Some(length)) if head.status() != 204 && !edits.is_recoded => {
                number_line(out, b"content-length", length)
            }
            (body, _) => framing_line(out, body),
        }
        match (framing.keep_alive, edits.version) {
            (false, _) => line(out, b"connection", b"close"),
            (true, Version::Http10) => line(out, b"connection", b"keep-alive"),
            (true, Version::Http11 | Version::Http2) => {}
        }
        if head.status() == 426
            && edits.version == Version::Http11
            && let Some(listed) = head.upgrade()
        {
            upgrade::required_lines(out, listed);
        }
        set_lines(out, edits.set)?;
        set_lines(out, edits.add)?;
    }
    out.extend_from_slice(b"\r\n");
    Ok(framing)
}

fn downstream_framing(head: &ResponseHead, edits: &ResponseEdits<'_>) -> ResponseFraming {
    let body = match head.body() {
        BodyFraming::Length(_) if edits.is_recoded => BodyFraming::UntilClose,
        body => body,
    };
    let body = match (body, edits.version) {
        (BodyFraming::Chunked | BodyFraming::UntilClose, Version::Http11) => BodyFraming::Chunked,
        // RFC 9112 §6.1: never chunked to HTTP/1.0. HTTP/2 has frames of its own.
        (BodyFraming::Chunked | BodyFraming::UntilClose, Version::Http10 | Version::Http2) => {
            BodyFraming::UntilClose
        }
        (framing @ (BodyFraming::None | BodyFraming::Length(_)), _) => framing,
    };
    ResponseFraming { body, keep_alive: edits.keep_alive && body != BodyFraming::UntilClose }
}

/// RFC 9110 §2.5: the version that we speak, whatever the client's. RFC 9112 §4: the blank stays without a reason.
fn status_line(out: &mut Vec<u8>, status: u16, reason: &[u8]) {
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(itoa::Buffer::new().format(status).as_bytes());
    out.push(b' ');
    out.extend_from_slice(reason);
    out.extend_from_slice(b"\r\n");
}

/// RFC 9110 §15, RFC 6585; empty for statuses that have no registered phrase or that a proxy has no use for.
fn canonical_reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        402 => "Payment Required",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        408 => "Request Timeout",
        409 => "Conflict",
        410 => "Gone",
        411 => "Length Required",
        413 => "Content Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        417 => "Expectation Failed",
        421 => "Misdirected Request",
        422 => "Unprocessable Content",
        425 => "Too Early",
        426 => "Upgrade Required",
        428 => "Precondition Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        451 => "Unavailable For Legal Reasons",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        _ => "",
    }
}
