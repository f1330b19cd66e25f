//! Request heads that arrived as HTTP/2 fields (RFC 9113 §8.3.1), held to the rules of HTTP/1.1.
//!
//! The parts are written down as an HTTP/1.1 head, after a check that each is one part and no more, and what they say is
//! read by the code that reads it on HTTP/1.1, so that everything behind sees one kind of head. The form of the lines is
//! not checked a second time: where each part lies is known from the writing. So the checks here have to refuse all that
//! the first half of [`RequestHead::parse`] would; a test and a fuzz target hand such heads to it and compare.

use smallvec::SmallVec;

use super::{REQUEST_LINE_BYTES_MAX, RequestHead};
use crate::authority::Authority;
use crate::error::{HeadError, HostError, RequestError};
use crate::field::{FieldSpan, Known, NAME_BYTES_MAX, Survey};
use crate::framing::BodyFraming;
use crate::scan::HEAD_BYTES_CEILING;
use crate::token::{Span, is_field_value, is_token, is_token_byte, trim_ows};
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
        let taken = self.take_image(request, fields, scratch, limits);
        if taken.is_err() {
            self.forget();
        }
        taken
    }

    fn take_image<'a>(
        &mut self,
        request: &Http2Request<'_>,
        fields: impl Iterator<Item = (&'a [u8], &'a [u8])>,
        scratch: &mut Vec<u8>,
        limits: &HeadLimits,
    ) -> Result<(), RequestError> {
        scratch.clear();
        let mut image = Image { bytes: scratch, fields: &mut self.fields, survey: Survey::default() };
        let (method, target) = image.start_line(request)?;
        let start_line_bytes = image.bytes.len() - CRLF.len();
        image.field_lines(request, fields)?;
        let survey = image.survey;
        check_limits(scratch.len(), start_line_bytes, self.fields.len(), limits)?;
        // Of the image, by whose rules it is read.
        self.version = Version::Http11;
        self.read_parts(scratch, method.of(scratch), target.of(scratch), &survey)?;
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

/// The head that a request would have on HTTP/1.1, as it is written down.
struct Image<'b> {
    bytes: &'b mut Vec<u8>,
    /// Where its fields lie.
    fields: &'b mut Vec<FieldSpan>,
    survey: Survey,
}

impl Image<'_> {
    /// Writes the request line; where method and target lie in it.
    fn start_line(&mut self, request: &Http2Request<'_>) -> Result<(Span, Span), RequestError> {
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
        let is_web =
            [&b"https"[..], b"http"].iter().any(|scheme| request.scheme.eq_ignore_ascii_case(scheme));
        // RFC 9113 §8.3.1: a path, or `*`; never what HTTP/1.1 would take for the whole URI.
        let is_origin = request.path.starts_with(b"/") || request.path == b"*";
        if !is_web || !is_origin || request.path.iter().any(|byte| !matches!(byte, b'!'..=b'~')) {
            return Err(RequestError::BadTarget);
        }
        let method = self.append(method);
        self.bytes.push(b' ');
        let target = self.append(request.path);
        self.bytes.extend_from_slice(b" HTTP/1.1\r\n");
        Ok((method, target))
    }

    /// Writes the field lines, and the empty one that ends the head.
    fn field_lines<'a>(
        &mut self,
        request: &Http2Request<'_>,
        fields: impl Iterator<Item = (&'a [u8], &'a [u8])>,
    ) -> Result<(), RequestError> {
        if let Some(authority) = request.authority {
            if !is_field_value(authority) {
                return Err(HostError::Syntax.into());
            }
            self.line(Known::Host, b"host", authority);
        }
        let mut crumbs: SmallVec<[&[u8]; 4]> = SmallVec::new();
        for (name, value) in fields {
            check_field(name, value)?;
            let known = Known::of(name);
            if is_of_connection(known, name, value) {
                return Err(RequestError::ConnectionField);
            }
            match (known, request.authority) {
                (Known::Other, _) if request.protocol.is_some() && name == b"sec-websocket-key" => {}
                (Known::Other, _) if name == b"cookie" => crumbs.push(value),
                (Known::Host, Some(authority)) => agree(authority, value)?,
                _ => self.line(known, name, value),
            }
        }
        if let Some(protocol) = request.protocol {
            self.line(Known::Connection, b"connection", b"upgrade");
            self.line(Known::Upgrade, b"upgrade", protocol);
        }
        self.cookie(&crumbs);
        self.bytes.extend_from_slice(CRLF);
        Ok(())
    }

    /// Writes `crumbs` as one field.
    fn cookie(&mut self, crumbs: &[&[u8]]) {
        let [first, others @ ..] = crumbs else { return };
        let name = self.name(b"cookie");
        let start = self.bytes.len();
        self.bytes.extend_from_slice(first);
        for crumb in others {
            self.bytes.extend_from_slice(b"; ");
            self.bytes.extend_from_slice(crumb);
        }
        // A last crumb without bytes leaves a blank, which is no part of a value.
        let length = trim_ows(&self.bytes[start..]).len();
        self.bytes.truncate(start + length);
        self.end_line(Known::Other, name, Span::new(start, start + length));
    }

    /// Writes a field line. Neither end of `value` is blank.
    fn line(&mut self, known: Known, name: &[u8], value: &[u8]) {
        let name = self.name(name);
        let value = self.append(value);
        self.end_line(known, name, value);
    }

    fn name(&mut self, name: &[u8]) -> Span {
        let name = self.append(name);
        self.bytes.extend_from_slice(b": ");
        name
    }

    fn end_line(&mut self, known: Known, name: Span, value: Span) {
        self.bytes.extend_from_slice(CRLF);
        let field = FieldSpan::new(known, name, value);
        self.survey.count(&field);
        self.fields.push(field);
    }

    fn append(&mut self, part: &[u8]) -> Span {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(part);
        Span::new(start, self.bytes.len())
    }
}

/// The limits of [`RequestHead::parse`], for a head of so many bytes and fields.
fn check_limits(
    head_bytes: usize,
    start_line_bytes: usize,
    fields: usize,
    limits: &HeadLimits,
) -> Result<(), RequestError> {
    let bytes_max = limits.head_bytes_max.min(HEAD_BYTES_CEILING);
    if start_line_bytes > REQUEST_LINE_BYTES_MAX || start_line_bytes + CRLF.len() > bytes_max {
        let bytes_max = REQUEST_LINE_BYTES_MAX.min(limits.head_bytes_max);
        return Err(RequestError::RequestLineTooLong { bytes_max });
    }
    if fields > limits.fields_max {
        return Err(HeadError::TooManyFields { fields_max: limits.fields_max }.into());
    }
    if head_bytes > bytes_max {
        return Err(HeadError::TooLarge { bytes_max }.into());
    }
    Ok(())
}

/// RFC 9113 §8.2.1, and what HTTP/1.1 asks of a field's bytes.
pub(crate) fn check_field(name: &[u8], value: &[u8]) -> Result<(), HeadError> {
    let is_lower_token_byte = |&byte: &u8| is_token_byte(byte) && !byte.is_ascii_uppercase();
    if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.iter().all(is_lower_token_byte) {
        return Err(HeadError::FieldName);
    }
    let is_blank = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    if !is_field_value(value) || is_blank(value.first()) || is_blank(value.last()) {
        return Err(HeadError::FieldValue);
    }
    Ok(())
}

/// RFC 9113 §8.2.2: whether the field, `name` being `known` and in lower case, has no place in HTTP/2.
pub(crate) fn is_of_connection(known: Known, name: &[u8], value: &[u8]) -> bool {
    match known {
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
    for part in [name, b": ", value, CRLF] {
        image.extend_from_slice(part);
    }
}

const CRLF: &[u8] = b"\r\n";

#[cfg(test)]
mod tests;
