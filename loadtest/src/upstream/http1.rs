//! HTTP/1.1 by hand: one read and one write for a small exchange, and no allocation after the connection's first.
//!
//! Not for strangers: it believes what the gateway before it has checked, and where it does not understand it answers 400 and closes.

use std::io::{self, Write};
use std::mem::MaybeUninit;

use aws_lc_rs::digest;
use bytes::Buf;
use http::StatusCode;
use httparse::{Request, Status};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{sleep, timeout};

use super::preface::Rewound;
use super::resource::{Resource, Wanted};
use super::{BODY, LINGER, body_report, websocket};
use crate::chunked::ChunkedBody;
use crate::websocket::{AcceptKey, accept_key};

/// Serves exchanges until the connection ends. Of `input` so many bytes were read already.
///
/// # Errors
/// Those of the stream, and of a client that ended it within a request.
pub(super) async fn serve<S: AsyncRead + AsyncWrite + Unpin + 'static>(
    stream: S,
    input: Vec<u8>,
    filled: usize,
) -> io::Result<()> {
    let mut connection = Connection { stream, input, start: 0, end: filled, output: Vec::new() };
    match connection.exchanges().await {
        Ok(None) => connection.stream.shutdown().await,
        Ok(Some(key)) => {
            connection.begin();
            connection.output.extend_from_slice(SWITCHING);
            connection.output.extend_from_slice(&key);
            connection.output.extend_from_slice(b"\r\n\r\n");
            connection.send().await?;
            let Connection { stream, input, start, end, .. } = connection;
            websocket::echo(Rewound::new(stream, input[start..end].to_vec())).await;
            Ok(())
        }
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            connection.begin();
            connection.head(StatusCode::BAD_REQUEST, Framing::Length(0), false);
            connection.send().await?;
            connection.stream.shutdown().await?;
            // What is still coming would make the system take the answer back (RFC 9112 §9.6).
            let rest =
                async { while matches!(connection.stream.read(&mut connection.input).await, Ok(1..)) {} };
            let _ = timeout(LINGER, rest).await;
            Ok(())
        }
        Err(error) => Err(error),
    }
}

struct Connection<S> {
    stream: S,
    /// What is between `start` and `end` was read, and not yet understood.
    input: Vec<u8>,
    start: usize,
    end: usize,
    /// What is to be written next.
    output: Vec<u8>,
}

/// What is to be known of a request.
#[derive(Debug)]
struct Head {
    /// Bytes that it took.
    bytes: usize,
    wanted: Wanted,
    body: Body,
    /// The answer has no body (HEAD).
    is_bodiless: bool,
    keep_alive: bool,
    /// The client waits before it sends the body (RFC 9110 §10.1.1).
    awaits_continue: bool,
    /// What proves that a WebSocket is understood, if the client asks for one.
    websocket: Option<AcceptKey>,
}

/// What is left of a request's body.
#[derive(Debug)]
enum Body {
    Length(u64),
    Chunked(ChunkedBody),
}

/// What an answer says about its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    Length(u64),
    Chunked,
    None,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    /// Makes exchanges, until the end or the beginning of a WebSocket.
    async fn exchanges(&mut self) -> io::Result<Option<AcceptKey>> {
        loop {
            let Some(mut head) = self.read_head().await? else { return Ok(None) };
            if head.websocket.is_some() {
                return Ok(head.websocket);
            }
            if head.awaits_continue && !head.body.is_done() {
                self.begin();
                self.output.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
                self.send().await?;
            }
            if !head.wanted.delay.is_zero() {
                sleep(head.wanted.delay).await;
            }
            self.begin();
            self.answer(&mut head).await?;
            if !head.keep_alive {
                return Ok(None);
            }
        }
    }

    /// The next head; `None` if the client has closed between two requests.
    async fn read_head(&mut self) -> io::Result<Option<Head>> {
        loop {
            if self.start < self.end
                && let Some(head) = parse(&self.input[self.start..self.end])?
            {
                self.start += head.bytes;
                return Ok(Some(head));
            }
            if self.end - self.start >= INPUT_BYTES_MAX {
                return Err(malformed());
            }
            match self.fill().await {
                Err(_) if self.start == self.end => return Ok(None),
                outcome => outcome?,
            }
        }
    }

    /// Reads more, behind what is there.
    async fn fill(&mut self) -> io::Result<()> {
        if self.start > 0 {
            self.input.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        if self.end == self.input.len() {
            self.input.resize(self.input.len() * 2, 0);
        }
        match self.stream.read(&mut self.input[self.end..]).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            count => {
                self.end += count;
                Ok(())
            }
        }
    }

    /// Reads the body to its end and gives `each` piece of it away.
    async fn read_body(&mut self, body: &mut Body, mut each: impl FnMut(&[u8])) -> io::Result<()> {
        loop {
            self.start += body.take(&self.input[self.start..self.end], &mut each)?;
            if body.is_done() {
                return Ok(());
            }
            self.fill_body().await?;
        }
    }

    /// Reads more of a body, in large pieces.
    async fn fill_body(&mut self) -> io::Result<()> {
        if self.input.len() < INPUT_BYTES_MAX {
            self.input.resize(INPUT_BYTES_MAX, 0);
        }
        self.fill().await
    }

    async fn answer(&mut self, head: &mut Head) -> io::Result<()> {
        let keep_alive = head.keep_alive;
        match head.wanted.resource {
            Resource::Echo => return self.echo(head).await,
            Resource::Report => {
                let (mut length, mut context) = (0, digest::Context::new(&digest::SHA256));
                let count = |data: &[u8]| {
                    length += data.len() as u64;
                    context.update(data);
                };
                self.read_body(&mut head.body, count).await?;
                let report = body_report(length, &context.finish());
                self.head(StatusCode::OK, Framing::Length(report.len() as u64), keep_alive);
                self.output.extend_from_slice(report.as_bytes());
                return self.send().await;
            }
            _ => self.read_body(&mut head.body, |_| {}).await?,
        }
        match head.wanted.resource {
            Resource::Bytes(length) => {
                self.head(StatusCode::OK, Framing::Length(length), keep_alive);
                self.send_body(if head.is_bodiless { 0 } else { length }).await
            }
            Resource::Status(status) => {
                // RFC 9110 §8.6: where there can be no body, no length is said.
                let framing = if matches!(status, 204 | 304) { Framing::None } else { Framing::Length(0) };
                self.head(StatusCode::from_u16(status).map_err(|_| malformed())?, framing, keep_alive);
                self.send().await
            }
            Resource::Chunked(length) => {
                self.head(StatusCode::OK, Framing::Chunked, keep_alive);
                if head.is_bodiless { self.send().await } else { self.send_chunks(length).await }
            }
            Resource::Events { count, between } => {
                self.output.extend_from_slice(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n");
                self.rest_of_head(Framing::Chunked, keep_alive);
                if head.is_bodiless {
                    return self.send().await;
                }
                self.send().await?;
                for number in 0..count {
                    if number > 0 && !between.is_zero() {
                        sleep(between).await;
                    }
                    self.begin();
                    let event = Event(number);
                    write!(self.output, "{:x}\r\n{event}\r\n", event.length())?;
                    self.send().await?;
                }
                self.begin();
                self.output.extend_from_slice(LAST_CHUNK);
                self.send().await
            }
            Resource::Echo | Resource::Report => Ok(()),
        }
    }

    async fn echo(&mut self, head: &mut Head) -> io::Result<()> {
        let framing = match head.body {
            Body::Length(length) => Framing::Length(length),
            Body::Chunked(_) => Framing::Chunked,
        };
        self.head(StatusCode::OK, framing, head.keep_alive);
        loop {
            let output = &mut self.output;
            self.start += head.body.take(&self.input[self.start..self.end], |data| {
                if framing == Framing::Chunked {
                    push_chunk_size(output, data.len());
                }
                output.extend_from_slice(data);
                if framing == Framing::Chunked {
                    output.extend_from_slice(b"\r\n");
                }
            })?;
            if head.body.is_done() {
                break;
            }
            if !self.output.is_empty() {
                self.send().await?;
                self.begin();
            }
            self.fill_body().await?;
        }
        if framing == Framing::Chunked {
            self.output.extend_from_slice(LAST_CHUNK);
        }
        self.send().await
    }

    /// From here on something else is written.
    fn begin(&mut self) {
        self.output.clear();
    }

    fn head(&mut self, status: StatusCode, framing: Framing, keep_alive: bool) {
        if status == StatusCode::OK {
            self.output.extend_from_slice(b"HTTP/1.1 200 OK\r\ncontent-type: application/octet-stream\r\n");
        } else {
            let reason = status.canonical_reason().unwrap_or("");
            // Writing to memory cannot fail.
            let _ = write!(self.output, "HTTP/1.1 {} {reason}\r\n", status.as_u16());
        }
        self.rest_of_head(framing, keep_alive);
    }

    fn rest_of_head(&mut self, framing: Framing, keep_alive: bool) {
        // Writing to memory cannot fail.
        let _ = match framing {
            Framing::Length(length) => write!(self.output, "content-length: {length}\r\n"),
            Framing::Chunked => write!(self.output, "transfer-encoding: chunked\r\n"),
            Framing::None => Ok(()),
        };
        self.output.extend_from_slice(if keep_alive { b"\r\n" } else { b"connection: close\r\n\r\n" });
    }

    async fn send(&mut self) -> io::Result<()> {
        self.stream.write_all(&self.output).await?;
        self.stream.flush().await
    }

    /// Sends what is to be written, and so many bytes of a body.
    async fn send_body(&mut self, length: u64) -> io::Result<()> {
        if length <= COPY_BYTES_MAX {
            self.output.extend_from_slice(&BODY[..length as usize]);
            return self.send().await;
        }
        let mut left = length;
        let mut before = &self.output[..];
        while left > 0 {
            let piece = &BODY[..left.min(BODY.len() as u64) as usize];
            self.stream.write_all_buf(&mut Buf::chain(before, piece)).await?;
            before = &[];
            left -= piece.len() as u64;
        }
        self.stream.flush().await
    }

    /// The same in chunks.
    async fn send_chunks(&mut self, length: u64) -> io::Result<()> {
        let mut left = length;
        while left > 0 {
            let piece = &BODY[..left.min(BODY.len() as u64) as usize];
            left -= piece.len() as u64;
            push_chunk_size(&mut self.output, piece.len());
            let after: &[u8] = if left == 0 { b"\r\n0\r\n\r\n" } else { b"\r\n" };
            if piece.len() as u64 <= COPY_BYTES_MAX {
                self.output.extend_from_slice(piece);
                self.output.extend_from_slice(after);
                self.stream.write_all(&self.output).await?;
            } else {
                self.stream.write_all_buf(&mut Buf::chain(&self.output[..], piece).chain(after)).await?;
            }
            self.begin();
        }
        if length == 0 {
            self.output.extend_from_slice(LAST_CHUNK);
        }
        self.send().await
    }
}

impl Body {
    fn is_done(&self) -> bool {
        match self {
            Body::Length(left) => *left == 0,
            Body::Chunked(body) => body.is_done(),
        }
    }

    /// Takes what there is of it in `input`, gives away each piece of data, and says how many bytes it took.
    fn take(&mut self, input: &[u8], mut each: impl FnMut(&[u8])) -> io::Result<usize> {
        match self {
            Body::Length(left) => {
                let taken = (input.len() as u64).min(*left) as usize;
                *left -= taken as u64;
                if taken > 0 {
                    each(&input[..taken]);
                }
                Ok(taken)
            }
            Body::Chunked(body) => body.feed(input, each).map_err(|_| malformed()),
        }
    }
}

/// A server-sent event of which the data is a number.
pub(super) struct Event(pub(super) u32);

impl Event {
    fn length(&self) -> usize {
        "data: \n\n".len() + self.0.checked_ilog10().unwrap_or(0) as usize + 1
    }
}

impl std::fmt::Display for Event {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "data: {}\n\n", self.0)
    }
}

/// The head at the front of `input`, if it is complete.
fn parse(input: &[u8]) -> io::Result<Option<Head>> {
    let mut fields = [const { MaybeUninit::uninit() }; FIELDS_MAX];
    let mut request = Request::new(&mut []);
    let bytes = match request.parse_with_uninit_headers(input, &mut fields) {
        Ok(Status::Partial) => return Ok(None),
        Ok(Status::Complete(bytes)) => bytes,
        Err(_) => return Err(malformed()),
    };
    let (Some(method), Some(path), Some(minor)) = (request.method, request.path, request.version) else {
        return Err(malformed());
    };
    let mut head = Head {
        bytes,
        wanted: Wanted::new(method, path),
        body: Body::Length(0),
        is_bodiless: method == "HEAD",
        // RFC 9112 §9.3: who speaks HTTP/1.0 has to ask for it, and is not understood here.
        keep_alive: minor == 1,
        awaits_continue: false,
        websocket: None,
    };
    let (mut key, mut upgrade) = (None, false);
    for field in &*request.headers {
        // By length first: most fields say nothing to us.
        match field.name.len() {
            7 if field.name.eq_ignore_ascii_case("upgrade") => {
                upgrade = field.value.eq_ignore_ascii_case(b"websocket");
            }
            6 if field.name.eq_ignore_ascii_case("expect") => head.awaits_continue = true,
            10 if field.name.eq_ignore_ascii_case("connection") => {
                let closes = |word: &[u8]| word.trim_ascii().eq_ignore_ascii_case(b"close");
                head.keep_alive &= !field.value.split(|byte| *byte == b',').any(closes);
            }
            14 if field.name.eq_ignore_ascii_case("content-length") => {
                let length = std::str::from_utf8(field.value).ok().and_then(|text| text.parse().ok());
                head.body = Body::Length(length.ok_or_else(malformed)?);
            }
            17 if field.name.eq_ignore_ascii_case("transfer-encoding") => {
                if !field.value.eq_ignore_ascii_case(b"chunked") {
                    return Err(malformed());
                }
                head.body = Body::Chunked(ChunkedBody::default());
            }
            17 if field.name.eq_ignore_ascii_case("sec-websocket-key") => key = Some(field.value),
            _ => {}
        }
    }
    if upgrade && method == "GET" {
        head.websocket = key.map(accept_key);
    }
    Ok(Some(head))
}

fn push_chunk_size(output: &mut Vec<u8>, size: usize) {
    // Writing to memory cannot fail.
    let _ = write!(output, "{size:x}\r\n");
}

fn malformed() -> io::Error {
    io::ErrorKind::InvalidData.into()
}

const SWITCHING: &[u8] =
    b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-accept: ";
const LAST_CHUNK: &[u8] = b"0\r\n\r\n";
/// A small body is cheaper to copy behind its head than to name in a list of pieces.
const COPY_BYTES_MAX: u64 = 8 << 10;
/// For heads, which are no longer than gateways make them, and for pieces of bodies.
const INPUT_BYTES_MAX: usize = 64 << 10;
/// As many as gateways let pass by default, and some that they add.
const FIELDS_MAX: usize = 128;
