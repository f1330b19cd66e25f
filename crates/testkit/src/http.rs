//! HTTP/1.1 messages as a strict peer reads them: what is not exactly right is an error, never repaired.
//!
//! Written without looking at the product's own parser, so that a shared mistake is unlikely.

use std::io::{self, Read};

use serde::{Deserialize, Serialize};

/// Reads messages one after the other from a stream.
#[derive(Debug)]
pub(crate) struct Incoming<S> {
    stream: S,
    buffer: Vec<u8>,
}

/// Where the body of a message ends (RFC 9112 §6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    Length(u64),
    Chunked,
    UntilClose,
}

/// The head of a request or response.
#[derive(Debug, Clone)]
pub(crate) struct Head {
    /// As received, with the empty line.
    pub(crate) raw: Vec<u8>,
    pub(crate) start_line: String,
    pub(crate) headers: Headers,
}

/// What came after the head.
#[derive(Debug, Default)]
pub(crate) struct BodyEnd {
    pub(crate) bytes: u64,
    pub(crate) trailers: Headers,
}

/// Header fields in order, names as received. Values are read as Latin-1, so that no byte is lost.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Headers(Vec<(String, String)>);

/// A response that was read to its end.
#[derive(Debug, Clone)]
pub struct Response {
    /// The minor version of HTTP/1.
    pub minor_version: u8,
    /// Status code.
    pub status: u16,
    /// Reason phrase.
    pub reason: String,
    /// The head as received, with the empty line.
    pub raw_head: Vec<u8>,
    /// Fields of the head.
    pub headers: Headers,
    /// The body without transfer coding; empty if it was hashed instead.
    pub body: Vec<u8>,
    /// Length of the body without transfer coding.
    pub body_bytes: u64,
    /// Trailer fields.
    pub trailers: Headers,
    /// Status codes of the interim responses that came before.
    pub interim: Vec<u16>,
    /// True if the body ended with the connection.
    pub until_close: bool,
}

/// Why a message could not be read.
#[derive(Debug, thiserror::Error)]
pub enum MessageError {
    /// The stream failed.
    #[error("cannot read: {0}")]
    Io(#[from] io::Error),
    /// The stream ended although a message had begun or was expected.
    #[error("the stream ended {0}")]
    Ended(&'static str),
    /// The message violates RFC 9112.
    #[error("malformed message: {0}")]
    Malformed(String),
}

impl Headers {
    /// The only value of a field, by its name in any case.
    ///
    /// # Panics
    /// If it occurs more than once: a test that expects one value must not overlook a second.
    #[track_caller]
    pub fn get(&self, name: &str) -> Option<&str> {
        let all = self.all(name);
        assert!(all.len() <= 1, "the field {name} occurs {} times: {all:?}", all.len());
        all.first().copied()
    }

    /// All values of a field, by its name in any case.
    pub fn all(&self, name: &str) -> Vec<&str> {
        self.iter().filter(|(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| value).collect()
    }

    /// True if the field occurs.
    pub fn contains(&self, name: &str) -> bool {
        !self.all(name).is_empty()
    }

    /// Names and values in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// True if one of the comma-separated elements of the field is `element`, in any case.
    pub(crate) fn lists(&self, name: &str, element: &str) -> bool {
        let mut elements = self.all(name).into_iter().flat_map(|value| value.split(','));
        elements.any(|listed| listed.trim().eq_ignore_ascii_case(element))
    }

    /// These names and values.
    pub(crate) fn from_pairs(pairs: Vec<(String, String)>) -> Self {
        Self(pairs)
    }

    fn parse<'a>(lines: impl Iterator<Item = &'a [u8]>) -> Result<Self, MessageError> {
        lines.map(parse_field).collect::<Result<_, _>>().map(Self)
    }
}

impl Response {
    /// The body as text.
    #[track_caller]
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("the body is UTF-8")
    }

    /// True unless this response ends the connection.
    pub fn keeps_alive(&self) -> bool {
        !self.until_close && self.minor_version == 1 && !self.headers.lists("connection", "close")
    }
}

impl<S> Incoming<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self { stream, buffer: Vec::new() }
    }

    pub(crate) fn stream(&self) -> &S {
        &self.stream
    }

    pub(crate) fn stream_mut(&mut self) -> &mut S {
        &mut self.stream
    }
}

impl<S: Read> Incoming<S> {
    /// Reads one response, interim ones before it included. `has_body` is false after HEAD. The body goes to
    /// `sink`, not into the response.
    pub(crate) fn response(
        &mut self,
        has_body: bool,
        sink: &mut dyn FnMut(&[u8]),
    ) -> Result<Response, MessageError> {
        let mut interim = Vec::new();
        loop {
            let head = self.head()?.ok_or(MessageError::Ended("before a response"))?;
            let (minor_version, status, reason) = parse_status_line(&head.start_line)?;
            if (100..200).contains(&status) && status != 101 {
                interim.push(status);
                continue;
            }
            let framing = response_framing(&head.headers, status, has_body)?;
            let end = self.body(framing, sink)?;
            return Ok(Response {
                minor_version,
                status,
                reason,
                raw_head: head.raw,
                headers: head.headers,
                body: Vec::new(),
                body_bytes: end.bytes,
                trailers: end.trailers,
                interim,
                until_close: framing == Framing::UntilClose,
            });
        }
    }

    /// Reads one head; `None` if the stream ends before its first byte.
    pub(crate) fn head(&mut self) -> Result<Option<Head>, MessageError> {
        if self.buffer.is_empty() && self.fill()? == 0 {
            return Ok(None);
        }
        let raw = self.take_through(b"\r\n\r\n", "within a head")?;
        let mut lines = split_lines(&raw[..raw.len() - 4])?.into_iter();
        let start_line = latin1(lines.next().unwrap_or_default());
        let headers = Headers::parse(lines)?;
        Ok(Some(Head { raw, start_line, headers }))
    }

    /// Reads one body and gives its bytes to `sink` as they come.
    pub(crate) fn body(
        &mut self,
        framing: Framing,
        sink: &mut dyn FnMut(&[u8]),
    ) -> Result<BodyEnd, MessageError> {
        match framing {
            Framing::Length(bytes) => {
                self.exactly(bytes, sink)?;
                Ok(BodyEnd { bytes, trailers: Headers::default() })
            }
            Framing::Chunked => self.chunks(sink),
            Framing::UntilClose => {
                let mut bytes = 0;
                while !self.buffer.is_empty() || self.fill()? > 0 {
                    bytes += self.buffer.len() as u64;
                    sink(&self.buffer);
                    self.buffer.clear();
                }
                Ok(BodyEnd { bytes, trailers: Headers::default() })
            }
        }
    }

    /// What is left until the stream ends or fails, and how it ended.
    pub(crate) fn rest(&mut self) -> (Vec<u8>, io::Result<()>) {
        let ending = loop {
            match self.fill() {
                Ok(0) => break Ok(()),
                Ok(_) => {}
                Err(error) => break Err(error),
            }
        };
        (std::mem::take(&mut self.buffer), ending)
    }

    fn chunks(&mut self, sink: &mut dyn FnMut(&[u8])) -> Result<BodyEnd, MessageError> {
        let mut bytes = 0;
        loop {
            let line = self.take_through(b"\r\n", "within a chunk size")?;
            let size = parse_chunk_size(&line[..line.len() - 2])?;
            if size == 0 {
                return Ok(BodyEnd { bytes, trailers: self.trailers()? });
            }
            self.exactly(size, sink)?;
            bytes += size;
            if self.take_through(b"\r\n", "after a chunk")? != b"\r\n" {
                return Err(malformed("more data in a chunk than its size says"));
            }
        }
    }

    fn trailers(&mut self) -> Result<Headers, MessageError> {
        let mut fields = Vec::new();
        loop {
            let line = self.take_through(b"\r\n", "within the trailers")?;
            match &line[..line.len() - 2] {
                [] => return Ok(Headers(fields)),
                field => fields.push(parse_field(field)?),
            }
        }
    }

    fn exactly(&mut self, mut bytes: u64, sink: &mut dyn FnMut(&[u8])) -> Result<(), MessageError> {
        while bytes > 0 {
            if self.buffer.is_empty() && self.fill()? == 0 {
                return Err(MessageError::Ended("within a body"));
            }
            let length = usize::try_from(bytes).unwrap_or(usize::MAX).min(self.buffer.len());
            sink(&self.buffer[..length]);
            self.buffer.drain(..length);
            bytes -= length as u64;
        }
        Ok(())
    }

    /// Takes everything up to and with `end` from the front of the stream.
    fn take_through(&mut self, end: &[u8], ended: &'static str) -> Result<Vec<u8>, MessageError> {
        let mut searched = 0;
        loop {
            if let Some(at) = find(&self.buffer[searched..], end) {
                return Ok(self.buffer.drain(..searched + at + end.len()).collect());
            }
            if self.buffer.len() > HEAD_BYTES_MAX {
                return Err(malformed("a head above 1 MiB"));
            }
            searched = self.buffer.len().saturating_sub(end.len() - 1);
            if self.fill()? == 0 {
                return Err(MessageError::Ended(ended));
            }
        }
    }

    /// The next `count` bytes, whatever they are.
    pub(crate) fn take(&mut self, count: usize) -> io::Result<Vec<u8>> {
        while self.buffer.len() < count {
            if self.fill()? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        let rest = self.buffer.split_off(count);
        Ok(std::mem::replace(&mut self.buffer, rest))
    }

    fn fill(&mut self) -> io::Result<usize> {
        let start = self.buffer.len();
        self.buffer.resize(start + READ_BYTES, 0);
        let outcome = loop {
            match self.stream.read(&mut self.buffer[start..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                outcome => break outcome,
            }
        };
        self.buffer.truncate(start + *outcome.as_ref().unwrap_or(&0));
        outcome
    }
}

/// The body framing of a request (RFC 9112 §6.3), refusing every doubtful combination.
pub(crate) fn request_framing(headers: &Headers) -> Result<Framing, MessageError> {
    Ok(explicit_framing(headers)?.unwrap_or(Framing::Length(0)))
}

pub(crate) fn malformed(what: impl Into<String>) -> MessageError {
    MessageError::Malformed(what.into())
}

fn response_framing(headers: &Headers, status: u16, has_body: bool) -> Result<Framing, MessageError> {
    let explicit = explicit_framing(headers)?;
    if !has_body || matches!(status, 101 | 204 | 304) {
        return Ok(Framing::Length(0));
    }
    Ok(explicit.unwrap_or(Framing::UntilClose))
}

fn explicit_framing(headers: &Headers) -> Result<Option<Framing>, MessageError> {
    let (codings, lengths) = (headers.all("transfer-encoding"), headers.all("content-length"));
    match (codings.as_slice(), lengths.as_slice()) {
        ([], []) => Ok(None),
        ([coding], []) if coding.eq_ignore_ascii_case("chunked") => Ok(Some(Framing::Chunked)),
        ([], [length]) if length.bytes().all(|b| b.is_ascii_digit()) => match length.parse() {
            Ok(length) => Ok(Some(Framing::Length(length))),
            Err(_) => Err(malformed(format!("content-length {length:?}"))),
        },
        _ => Err(malformed(format!("transfer-encoding {codings:?} with content-length {lengths:?}"))),
    }
}

fn parse_status_line(line: &str) -> Result<(u8, u16, String), MessageError> {
    let parse = || {
        let (version, rest) = line.split_once(' ')?;
        let minor = match version {
            "HTTP/1.1" => 1,
            "HTTP/1.0" => 0,
            _ => return None,
        };
        let (status, reason) = rest.split_once(' ')?;
        let digits = status.len() == 3 && status.bytes().all(|b| b.is_ascii_digit());
        let status = status.parse().ok().filter(|status| digits && (100..600).contains(status))?;
        Some((minor, status, reason.to_owned()))
    };
    parse().ok_or_else(|| malformed(format!("status line {line:?}")))
}

fn parse_chunk_size(line: &[u8]) -> Result<u64, MessageError> {
    let digits = line.split(|&byte| byte == b';').next().unwrap_or_default();
    let text = std::str::from_utf8(digits).unwrap_or_default();
    if digits.is_empty() || digits.len() > 16 || !digits.iter().all(u8::is_ascii_hexdigit) {
        return Err(malformed(format!("chunk size {:?}", latin1(line))));
    }
    u64::from_str_radix(text, 16).map_err(|_| malformed(format!("chunk size {text:?}")))
}

/// RFC 9112 §5: a token, a colon at once, a value between optional blanks.
fn parse_field(line: &[u8]) -> Result<(String, String), MessageError> {
    let error = || malformed(format!("field line {:?}", latin1(line)));
    let colon = line.iter().position(|&byte| byte == b':').ok_or_else(error)?;
    let (name, value) = (&line[..colon], &line[colon + 1..]);
    let token = |b: &u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(b);
    let forbidden = |b: &u8| (*b < b' ' && *b != b'\t') || *b == 0x7f;
    if name.is_empty() || !name.iter().all(token) || value.iter().any(forbidden) {
        return Err(error());
    }
    Ok((latin1(name), latin1(value).trim_matches([' ', '\t']).to_owned()))
}

/// Lines that end in CRLF; a lone CR or LF is an error.
fn split_lines(mut head: &[u8]) -> Result<Vec<&[u8]>, MessageError> {
    let mut lines = Vec::new();
    loop {
        let end = find(head, b"\r\n").unwrap_or(head.len());
        let line = &head[..end];
        if line.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)) {
            return Err(malformed(format!("a bare CR, LF or NUL in {:?}", latin1(line))));
        }
        lines.push(line);
        match head.get(end + 2..) {
            Some(rest) => head = rest,
            None => return Ok(lines),
        }
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

fn latin1(bytes: &[u8]) -> String {
    bytes.iter().copied().map(char::from).collect()
}

/// Far above any limit a test would set on the product.
const HEAD_BYTES_MAX: usize = 1 << 20;
const READ_BYTES: usize = 64 * 1024;

#[cfg(test)]
mod tests;
