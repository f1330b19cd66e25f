//! Request heads: parsed strictly, held in reusable buffers, read through accessors.
//!
//! [`RequestHead::parse`] is the only way in, so a head that exists obeys every rule of this crate. Values are never
//! interpreted beyond what framing, routing and persistence need.

pub(crate) mod http2;

use std::{fmt, mem};

use smallvec::SmallVec;

use crate::authority::Authority;
use crate::connection;
use crate::error::{HeadError, HostError, RequestError};
use crate::field::{self, Field, FieldSpan, Occurrence, Survey};
use crate::framing::{self, BodyFraming, Declared};
use crate::path;
use crate::scan::{HeadScanner, Scan, ScanRules};
use crate::token::{Span, is_token};
use crate::{HeadLimits, Version};

pub use http2::Http2Request;

/// The head of one request.
///
/// Made to be reused: parsing overwrites it and keeps its buffers, so that a connection in steady state allocates
/// nothing. Unless the last parse succeeded, the accessors return what was read until then, or nothing.
#[derive(Default)]
pub struct RequestHead {
    scanner: HeadScanner,
    /// The head as received, followed by what had to be rewritten.
    bytes: Vec<u8>,
    fields: Vec<FieldSpan>,
    method: Span,
    target: Target,
    host: Span,
    authority: Span,
    version: Version,
    body: BodyFraming,
    persists: bool,
    expects_continue: bool,
    upgrade: Option<Span>,
}

/// The parts of a target in origin-form, or `*`.
#[derive(Debug, Clone, Copy, Default)]
struct Target {
    received: Span,
    path: Span,
    query: Option<Span>,
    has_encoded_slash: bool,
}

impl RequestHead {
    /// An empty head, without buffers yet.
    pub fn new() -> RequestHead {
        RequestHead::default()
    }

    /// Parses the head at the front of `input`. `Some(n)`: it took `n` bytes. `None`: it is not complete; call again
    /// with the same bytes and more behind them (or call [`RequestHead::clear`] before other bytes). Bytes once looked
    /// at are not looked at again, so a head that trickles in costs no more than one that comes at once.
    ///
    /// One empty line before the request line is skipped, as RFC 9112 §2.2 asks; a second is refused.
    ///
    /// # Errors
    /// Anything that RFC 9112 forbids or that recipients could read differently. The same bytes give the same error
    /// however they were split.
    pub fn parse(&mut self, input: &[u8], limits: &HeadLimits) -> Result<Option<usize>, RequestError> {
        self.forget();
        let (start, end, field_count) = match self.scanner.scan(input, limits, SCAN_RULES)? {
            Scan::Incomplete => return Ok(None),
            Scan::StartLineTooLong => {
                let bytes_max = REQUEST_LINE_BYTES_MAX.min(limits.head_bytes_max);
                return Err(RequestError::RequestLineTooLong { bytes_max });
            }
            Scan::Complete { start, end, fields } => (start, end, fields),
        };
        let head = &input[start..end];
        // Filled in place: `smallvec!` would fill another one, and then move all of its room.
        let mut headers = SmallVec::<[_; field::INLINE_MAX]>::new();
        headers.resize(field_count, httparse::EMPTY_HEADER);
        let mut parsed = httparse::Request::new(&mut headers);
        match parsed.parse(head) {
            Ok(httparse::Status::Complete(len)) if len == head.len() => {}
            // The scanner saw the end of the head; if httparse sees it elsewhere, the two disagree about its lines.
            Ok(_) => return Err(HeadError::FieldName.into()),
            Err(error) => return Err(request_error(error, head)),
        }
        let (Some(method), Some(target), Some(minor)) = (parsed.method, parsed.path, parsed.version) else {
            return Err(RequestError::BadRequestLine);
        };
        self.version = if minor == 0 { Version::Http10 } else { Version::Http11 };
        let survey = field::collect(head, parsed.headers, &mut self.fields)?;

        self.read_parts(head, method.as_bytes(), target.as_bytes(), &survey)?;
        Ok(Some(end))
    }

    /// Settles what the parts of `head` say, once version and fields are known. All that HTTP/1.1 asks beyond the form of the
    /// lines is asked here.
    fn read_parts(
        &mut self,
        head: &[u8],
        method: &[u8],
        target: &[u8],
        survey: &Survey,
    ) -> Result<(), RequestError> {
        self.bytes.extend_from_slice(head);
        self.read_method(head, method)?;
        self.read_fields(head, survey)?;
        let from_target = self.read_target(head, target)?;
        self.read_host(head, survey, from_target)
    }

    /// Forgets everything, a head that was begun but not completed included. Keeps the buffers.
    pub fn clear(&mut self) {
        self.forget();
        self.scanner = HeadScanner::default();
    }

    /// The method, case as received (RFC 9110 §9.1: methods are case-sensitive).
    pub fn method(&self) -> &str {
        self.method.text_of(&self.bytes)
    }

    /// HEAD, whose response has no body.
    pub fn is_head(&self) -> bool {
        self.method_bytes() == b"HEAD"
    }

    /// RFC 9110 §9.2.1: essentially read-only.
    pub fn is_safe(&self) -> bool {
        matches!(self.method_bytes(), b"GET" | b"HEAD" | b"OPTIONS" | b"TRACE")
    }

    /// RFC 9110 §9.2.2: may be sent again if it is not known whether it arrived.
    pub fn is_idempotent(&self) -> bool {
        self.is_safe() || matches!(self.method_bytes(), b"PUT" | b"DELETE")
    }

    /// Path and query as received, in origin-form even if the target was absolute; or `*`.
    pub fn raw_target(&self) -> &str {
        self.target.received.text_of(&self.bytes)
    }

    /// The normalised path (see [`path`]), or `*` for `OPTIONS *`.
    pub fn path(&self) -> &str {
        self.target.path.text_of(&self.bytes)
    }

    /// What follows the first `?`, as received: visible ASCII without `"`, `#`, `<` and `>`.
    pub fn query(&self) -> Option<&str> {
        self.target.query.map(|query| query.text_of(&self.bytes))
    }

    /// The path holds `%2F`. Refuse it with 400 unless the route explicitly allows it.
    pub fn has_encoded_slash(&self) -> bool {
        self.target.has_encoded_slash
    }

    /// The host, lower-case, without port and trailing dot, with brackets around an IPv6 address. Empty only if an
    /// HTTP/1.0 request names none.
    pub fn host(&self) -> &str {
        self.host.text_of(&self.bytes)
    }

    /// Host and, if one was given, port, as to be sent upstream. Empty if [`RequestHead::host`] is.
    pub fn authority(&self) -> &str {
        self.authority.text_of(&self.bytes)
    }

    /// The version of the request line.
    pub fn version(&self) -> Version {
        self.version
    }

    /// All fields in order, framing and hop-by-hop fields included.
    pub fn fields(&self) -> impl Iterator<Item = Field<'_>> {
        field::iterate(&self.bytes, &self.fields)
    }

    /// The names of [`RequestHead::fields`].
    pub fn names(&self) -> impl Iterator<Item = &[u8]> {
        self.fields.iter().map(|field| field.name.of(&self.bytes))
    }

    /// The value of the first field of this name, in any case.
    pub fn field(&self, lower_name: &str) -> Option<&[u8]> {
        field::find(&self.bytes, &self.fields, lower_name)
    }

    /// How the body is delimited; never [`BodyFraming::UntilClose`].
    pub fn body(&self) -> BodyFraming {
        self.body
    }

    /// Whether the client wants to reuse the connection (RFC 9112 §9.3).
    pub fn keep_alive(&self) -> bool {
        self.persists
    }

    /// Whether the client waits for 100 before it sends its body. False without a body and on HTTP/1.0, where RFC 9110
    /// §10.1.1 says to ignore the expectation.
    pub fn expects_continue(&self) -> bool {
        self.expects_continue
    }

    /// The `Upgrade` field, if it is valid: once, visible ASCII, nominated by `Connection`, on HTTP/1.1. On HTTP/2 the
    /// `:protocol` of an extended CONNECT.
    pub fn upgrade(&self) -> Option<&str> {
        self.upgrade.map(|value| value.text_of(&self.bytes))
    }

    /// As [`RequestHead::method`], for who needs no text.
    pub(crate) fn method_bytes(&self) -> &[u8] {
        self.method.of(&self.bytes)
    }

    /// As [`RequestHead::path`], for who needs no text.
    pub(crate) fn path_bytes(&self) -> &[u8] {
        self.target.path.of(&self.bytes)
    }

    /// As [`RequestHead::authority`], for who needs no text.
    pub(crate) fn authority_bytes(&self) -> &[u8] {
        self.authority.of(&self.bytes)
    }

    pub(crate) fn raw(&self) -> (&[u8], &[FieldSpan]) {
        (&self.bytes, &self.fields)
    }

    /// Drops the parts of the last head: after an error, no span may point into bytes that it was not made for.
    fn forget(&mut self) {
        let (mut bytes, mut fields) = (mem::take(&mut self.bytes), mem::take(&mut self.fields));
        bytes.clear();
        fields.clear();
        *self =
            RequestHead { scanner: mem::take(&mut self.scanner), bytes, fields, ..RequestHead::default() };
    }

    fn read_method(&mut self, head: &[u8], method: &[u8]) -> Result<(), RequestError> {
        if method.len() > METHOD_BYTES_MAX {
            return Err(RequestError::MethodTooLong { bytes_max: METHOD_BYTES_MAX });
        }
        if method == b"CONNECT" {
            return Err(RequestError::ConnectUnsupported);
        }
        self.method = Span::locate(head, method);
        Ok(())
    }

    /// What the fields say about framing and the connection.
    fn read_fields(&mut self, head: &[u8], survey: &Survey) -> Result<(), RequestError> {
        self.body = match framing::declared(head, survey, self.version)? {
            // RFC 9112 §6.3: without a declared length, a request has no body.
            Declared::Nothing => BodyFraming::None,
            Declared::Length(length) => BodyFraming::Length(length),
            Declared::Chunked => BodyFraming::Chunked,
        };
        let options = connection::process(head, &mut self.fields)?;
        self.persists = options.persists(self.version);
        let is_nominated = options.upgrade && self.version == Version::Http11;
        self.upgrade = survey.upgrade.if_readable(head).filter(|_| is_nominated);
        let expects = match survey.expect {
            Occurrence::Absent => false,
            Occurrence::Once(value) if value.of(head).eq_ignore_ascii_case(b"100-continue") => true,
            _ => return Err(RequestError::ExpectationFailed),
        };
        let has_body = !matches!(self.body, BodyFraming::None | BodyFraming::Length(0));
        self.expects_continue = expects && has_body && self.version == Version::Http11;
        Ok(())
    }

    /// Takes the target apart (RFC 9112 §3.2); the result is the authority of an absolute-form target.
    fn read_target<'a>(
        &mut self,
        head: &[u8],
        target: &'a [u8],
    ) -> Result<Option<Authority<'a>>, RequestError> {
        // RFC 3986 §2: visible ASCII; no `#`, because a fragment is never sent. The path is checked further by `path`. A
        // query is passed on as it is, with the characters (`[`, `|`, ...) that browsers leave unescaped there.
        if target.iter().any(|byte| !matches!(byte, b'!'..=b'~') || matches!(byte, b'"' | b'#' | b'<' | b'>'))
        {
            return Err(RequestError::BadTarget);
        }
        if target[0] == b'/' {
            self.take_origin(head, target)?;
            return Ok(None);
        }
        if target == b"*" {
            // RFC 9112 §3.2.4: asterisk-form is for OPTIONS only.
            if self.method() != "OPTIONS" {
                return Err(RequestError::BadTarget);
            }
            self.take_appended(b"*", b"");
            return Ok(None);
        }
        let (authority, origin) = split_absolute(target).ok_or(RequestError::BadTarget)?;
        let authority = Authority::parse(authority)?;
        match origin {
            // RFC 9112 §3.2.4: how `OPTIONS *` is asked of a server behind a proxy.
            b"" if self.method() == "OPTIONS" => self.take_appended(b"*", b""),
            // RFC 9112 §3.2.1: an empty path is sent as `/`.
            b"" | [b'?', ..] => self.take_appended(b"/", origin),
            _ => self.take_origin(head, origin)?,
        }
        Ok(Some(authority))
    }

    /// Takes a target in origin-form, a part of `head`, and normalises its path.
    fn take_origin(&mut self, head: &[u8], origin: &[u8]) -> Result<(), RequestError> {
        let (path, query) = match memchr::memchr(b'?', origin) {
            Some(at) => (&origin[..at], Some(&origin[at + 1..])),
            None => (origin, None),
        };
        let start = self.bytes.len();
        let found = path::normalise(path, &mut self.bytes)?;
        self.target = Target {
            received: Span::locate(head, origin),
            path: if found.rewritten { Span::new(start, self.bytes.len()) } else { Span::locate(head, path) },
            query: query.map(|query| Span::locate(head, query)),
            has_encoded_slash: found.has_encoded_slash,
        };
        Ok(())
    }

    /// Takes a target that does not stand in the head as it is: a normal path, and nothing or `?` and a query.
    fn take_appended(&mut self, path: &[u8], query: &[u8]) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(path);
        let path_end = self.bytes.len();
        self.bytes.extend_from_slice(query);
        let end = self.bytes.len();
        self.target = Target {
            received: Span::new(start, end),
            path: Span::new(start, path_end),
            query: (end > path_end).then(|| Span::new(path_end + 1, end)),
            has_encoded_slash: false,
        };
    }

    /// Settles the one host of the request (RFC 9112 §3.2, §3.2.2).
    fn read_host(
        &mut self,
        head: &[u8],
        survey: &Survey,
        from_target: Option<Authority<'_>>,
    ) -> Result<(), RequestError> {
        let from_field = match survey.host {
            Occurrence::Once(value) => Some(value),
            Occurrence::Absent if self.version == Version::Http10 => None,
            Occurrence::Absent => return Err(HostError::Missing.into()),
            Occurrence::Repeated => return Err(HostError::Repeated.into()),
        };
        let authority = match (from_field, from_target) {
            (None, None) => return Ok(()),
            (None, Some(from_target)) => from_target,
            (Some(value), from_target) => {
                let authority = Authority::parse(value.of(head))?;
                // RFC 9112 §3.2.2 lets the target win; a difference is no mistake of an honest client.
                if from_target.is_some_and(|from_target| !from_target.same_as(&authority)) {
                    return Err(HostError::Mismatch.into());
                }
                if authority.normal {
                    self.host = Span::locate(head, authority.host);
                    self.authority = value;
                    return Ok(());
                }
                authority
            }
        };
        let start = self.bytes.len();
        let host_len = authority.write_normal(&mut self.bytes);
        self.host = Span::new(start, start + host_len);
        self.authority = Span::new(start, self.bytes.len());
        Ok(())
    }
}

impl fmt::Debug for RequestHead {
    /// Without fields and query, which may hold credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestHead")
            .field("method", &self.method())
            .field("host", &self.host())
            .field("path", &self.path())
            .field("fields", &self.fields.len())
            .field("body", &self.body)
            .finish_non_exhaustive()
    }
}

/// Authority, and path with query, of an absolute-form target with an http(s) scheme (RFC 9112 §3.2.2).
fn split_absolute(target: &[u8]) -> Option<(&[u8], &[u8])> {
    let after = |scheme: &[u8]| {
        let (front, rest) = target.split_at_checked(scheme.len())?;
        front.eq_ignore_ascii_case(scheme).then_some(rest)
    };
    let rest = after(b"http://").or_else(|| after(b"https://"))?;
    let end = rest.iter().position(|byte| matches!(byte, b'/' | b'?')).unwrap_or(rest.len());
    Some(rest.split_at(end))
}

/// Says what `httparse` disliked: its variants do not tell method from target, nor a bad version from a bad line.
fn request_error(error: httparse::Error, head: &[u8]) -> RequestError {
    let line = &head[..memchr::memchr(b'\n', head).unwrap_or(head.len())];
    let mut parts = line.strip_suffix(b"\r").unwrap_or(line).split(|&byte| byte == b' ');
    let (method, target, version) = (parts.next(), parts.next(), parts.next());
    if !method.is_some_and(is_token) {
        return RequestError::BadMethod;
    }
    match (target, version, parts.next()) {
        (Some([_, ..]), Some(b"HTTP/1.0" | b"HTTP/1.1"), None) if error == httparse::Error::Token => {
            RequestError::BadTarget
        }
        (Some([_, ..]), Some(b"HTTP/1.0" | b"HTTP/1.1"), None) => field::head_error(error).into(),
        (Some([_, ..]), Some([b'H', b'T', b'T', b'P', b'/', major, b'.', minor]), None)
            if major.is_ascii_digit() && minor.is_ascii_digit() =>
        {
            RequestError::UnsupportedVersion
        }
        _ => RequestError::BadRequestLine,
    }
}

/// Longest method accepted. The longest registered one, `UPDATEREDIRECTREF`, has 17 bytes; RFC 9112 §3 answers longer
/// ones than known with 501.
pub const METHOD_BYTES_MAX: usize = 32;

/// Longest request line accepted. RFC 9112 §3 recommends to support 8000 octets at least; twice that.
pub const REQUEST_LINE_BYTES_MAX: usize = 16 * 1024;

const SCAN_RULES: ScanRules =
    ScanRules { leading_empty_lines_max: 1, start_line_bytes_max: REQUEST_LINE_BYTES_MAX };

#[cfg(test)]
mod tests;
