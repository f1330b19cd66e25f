//! Response heads from an upstream: parsed as strictly as requests, because an upstream may be compromised or lie.
//!
//! The same shape as [`crate::RequestHead`]. The request matters here: what delimits a body depends on its method.

mod http2;

use std::{fmt, mem};

use smallvec::SmallVec;

use crate::connection::{self, ConnectionOptions};
use crate::error::{HeadError, ResponseError};
use crate::field::{self, Field, FieldSpan, Survey};
use crate::framing::{self, BodyFraming, Declared};
use crate::scan::{HeadScanner, Scan, ScanRules};
use crate::token::Span;
use crate::{HeadLimits, Version};

pub use http2::{Http2Connect, Http2Response};

/// What the framing of a response needs to know of its request (RFC 9112 §6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestKind {
    /// HEAD: the response has no body, whatever it declares.
    Head,
    /// CONNECT: a 2xx turns the connection into a tunnel.
    Connect,
    /// A request that asks for another protocol (RFC 9110 §7.8): 101 is a final response.
    Upgrade,
    /// Any other method.
    Other,
}

/// The head of one response, final or interim.
///
/// Made to be reused, as [`crate::RequestHead`] is.
#[derive(Default)]
pub struct ResponseHead {
    scanner: HeadScanner,
    bytes: Vec<u8>,
    fields: Vec<FieldSpan>,
    version: Version,
    status: u16,
    reason: Span,
    body: BodyFraming,
    declared_length: Option<u64>,
    persists: bool,
    upgrade: Option<Span>,
}

impl ResponseHead {
    /// An empty head, without buffers yet.
    pub fn new() -> ResponseHead {
        ResponseHead::default()
    }

    /// Parses the head at the front of `input`, the answer to a request of the given kind. `Some(n)`: it took `n`
    /// bytes. `None`: it is not complete; call again with the same bytes and more behind them, or call
    /// [`ResponseHead::clear`] first. An interim response ([`ResponseHead::is_interim`]) is followed by another head.
    ///
    /// # Errors
    /// Anything that RFC 9112 forbids or that recipients could read differently; even what a proxy might repair, such
    /// as equal repeated lengths. The upstream connection must not be used again.
    pub fn parse(
        &mut self,
        input: &[u8],
        request: RequestKind,
        limits: &HeadLimits,
    ) -> Result<Option<usize>, ResponseError> {
        self.forget();
        let (end, field_count) = match self.scanner.scan(input, limits, SCAN_RULES)? {
            Scan::Incomplete => return Ok(None),
            Scan::StartLineTooLong => return Err(ResponseError::BadStatusLine),
            Scan::Complete { end, fields, .. } => (end, fields),
        };
        let head = &input[..end];
        // Filled in place: `smallvec!` would fill another one, and then move all of its room.
        let mut headers = SmallVec::<[_; field::INLINE_MAX]>::new();
        headers.resize(field_count, httparse::EMPTY_HEADER);
        let mut parsed = httparse::Response::new(&mut headers);
        match parsed.parse(head) {
            Ok(httparse::Status::Complete(len)) if len == head.len() => {}
            // The scanner saw the end of the head; if httparse sees it elsewhere, the two disagree about its lines.
            Ok(_) => return Err(HeadError::FieldName.into()),
            Err(error) => return Err(response_error(error, head)),
        }
        let (Some(status), Some(minor)) = (parsed.code, parsed.version) else {
            return Err(ResponseError::BadStatusLine);
        };
        if !(100..=599).contains(&status) {
            return Err(ResponseError::BadStatus(status));
        }
        if status == 101 && (request != RequestKind::Upgrade || minor == 0) {
            // RFC 9110 §15.2.2: `Upgrade` is hop-by-hop and not sent upstream of itself, so nobody asked.
            return Err(ResponseError::UnexpectedUpgrade);
        }
        self.bytes.extend_from_slice(head);
        self.status = status;
        self.version = if minor == 0 { Version::Http10 } else { Version::Http11 };
        // `httparse` gives a constant for a reason that is absent or holds bytes from 0x80 on.
        let reason = parsed.reason.filter(|reason| !reason.is_empty());
        self.reason = reason.map_or(Span::default(), |reason| Span::locate(head, reason.as_bytes()));
        let survey = field::collect(head, parsed.headers, &mut self.fields)?;
        let declared = framing::declared(head, &survey, self.version)?;
        let options = connection::process(head, &mut self.fields)?;
        if status == 101 {
            self.read_upgrade(head, &survey, options, declared)?;
        }
        if status == 426 {
            // RFC 9110 §15.5.22.
            self.upgrade = survey.upgrade.if_readable(head);
        }
        self.read_framing(declared, request);
        if status == 101 {
            self.declared_length = None;
        }
        self.persists = self.body != BodyFraming::UntilClose
            && options.persists(self.version)
            && !self.declares_impossible_body(declared);
        Ok(Some(end))
    }

    /// Forgets everything, a head that was begun but not completed included. Keeps the buffers.
    pub fn clear(&mut self) {
        self.forget();
        self.scanner = HeadScanner::default();
    }

    /// The status, 100 to 599; 101 only in answer to [`RequestKind::Upgrade`].
    pub fn status(&self) -> u16 {
        self.status
    }

    /// 1xx other than 101: the final response follows.
    pub fn is_interim(&self) -> bool {
        self.status < 200 && self.status != 101
    }

    /// The `Upgrade` field of a 101: the protocol that follows, if it is named once and nominated by `Connection`. Of a 426, if
    /// there is one line of it: the protocols that would be taken.
    pub fn upgrade(&self) -> Option<&str> {
        self.upgrade.map(|value| value.text_of(&self.bytes))
    }

    /// The reason phrase, visible ASCII and blanks; empty if there is none or it holds anything else.
    pub fn reason(&self) -> &[u8] {
        self.reason.of(&self.bytes)
    }

    /// The version of the status line.
    pub fn version(&self) -> Version {
        self.version
    }

    /// All fields in order, framing and hop-by-hop fields included.
    pub fn fields(&self) -> impl Iterator<Item = Field<'_>> {
        field::iterate(&self.bytes, &self.fields)
    }

    /// The value of the first field of this name, in any case.
    pub fn field(&self, lower_name: &str) -> Option<&[u8]> {
        field::find(&self.bytes, &self.fields, lower_name)
    }

    /// How the body that follows is delimited.
    pub fn body(&self) -> BodyFraming {
        self.body
    }

    /// The `Content-Length`, which a response to HEAD and a 304 may have without a body.
    pub fn declared_length(&self) -> Option<u64> {
        self.declared_length
    }

    /// Whether the upstream connection may be used again once the body was read to its end (RFC 9112 §9.3).
    pub fn keep_alive(&self) -> bool {
        self.persists
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
            ResponseHead { scanner: mem::take(&mut self.scanner), bytes, fields, ..ResponseHead::default() };
    }

    /// What a 101 switches to. Behind it is no body of HTTP, whatever it declares (RFC 9110 §8.6, RFC 9112 §6.1: it must not).
    fn read_upgrade(
        &mut self,
        head: &[u8],
        survey: &Survey,
        options: ConnectionOptions,
        declared: Declared,
    ) -> Result<(), HeadError> {
        match declared {
            Declared::Nothing | Declared::Length(0) => {}
            Declared::Length(_) => return Err(HeadError::BadContentLength),
            Declared::Chunked => return Err(HeadError::BadTransferEncoding),
        }
        self.upgrade = survey.upgrade.if_readable(head).filter(|_| options.upgrade);
        Ok(())
    }

    /// RFC 9112 §6.3, in its order.
    fn read_framing(&mut self, declared: Declared, request: RequestKind) {
        self.declared_length = match declared {
            Declared::Length(length) => Some(length),
            Declared::Nothing | Declared::Chunked => None,
        };
        let bodiless = request == RequestKind::Head || has_no_body(self.status);
        let tunnel = request == RequestKind::Connect && (200..300).contains(&self.status);
        self.body = match declared {
            _ if bodiless || tunnel => BodyFraming::None,
            Declared::Chunked => BodyFraming::Chunked,
            Declared::Length(length) => BodyFraming::Length(length),
            Declared::Nothing => BodyFraming::UntilClose,
        };
    }

    /// A body announced where none can be (RFC 9110 §8.6, RFC 9112 §6.1: not in 1xx and 204). An upstream that says so
    /// might send it, and it would be read as the next response: do not reuse the connection.
    fn declares_impossible_body(&self, declared: Declared) -> bool {
        let impossible = self.is_interim() || self.status == 204;
        impossible && !matches!(declared, Declared::Nothing | Declared::Length(0))
    }
}

impl fmt::Debug for ResponseHead {
    /// Without fields, which may hold credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseHead")
            .field("status", &self.status)
            .field("fields", &self.fields.len())
            .field("body", &self.body)
            .finish_non_exhaustive()
    }
}

/// RFC 9112 §6.3: statuses whose responses end with the head, whatever the request was.
pub(crate) fn has_no_body(status: u16) -> bool {
    status < 200 || status == 204 || status == 304
}

/// Says what `httparse` disliked.
fn response_error(error: httparse::Error, head: &[u8]) -> ResponseError {
    match error {
        httparse::Error::Version if is_other_version(head) => ResponseError::UnsupportedVersion,
        httparse::Error::Version | httparse::Error::Status | httparse::Error::Token => {
            ResponseError::BadStatusLine
        }
        error => field::head_error(error).into(),
    }
}

fn is_other_version(head: &[u8]) -> bool {
    matches!(head, [b'H', b'T', b'T', b'P', b'/', major, b'.', minor, b' ', ..]
        if major.is_ascii_digit() && minor.is_ascii_digit() && !matches!((major, minor), (b'1', b'0' | b'1')))
}

/// No empty line may precede a response (RFC 9112 §2.2 speaks of requests only): it would be the rest of a body that was
/// longer than declared. A reason phrase longer than this is not a phrase.
const SCAN_RULES: ScanRules = ScanRules { leading_empty_lines_max: 0, start_line_bytes_max: 1024 };

#[cfg(test)]
mod tests;
