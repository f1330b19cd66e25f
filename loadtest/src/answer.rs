//! Reads one answer: status, framing, and a body that is counted, hashed where that is wanted, and dropped.

use aws_lc_rs::digest::{Context, SHA256};
use httparse::{EMPTY_HEADER, Header, Response, Status};
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::chunked::ChunkedBody;
use crate::failure::{Failure, FailureKind};

/// What came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Without chunk framing.
    pub(crate) body_bytes: u64,
    /// SHA-256 of the body, if it was to be hashed.
    pub(crate) sha256: Option<[u8; 32]>,
    /// Of a gRPC call: its status, and how many messages came.
    pub(crate) call: Option<CallOutcome>,
    /// Whether the connection may be used again.
    pub(crate) keep_alive: bool,
}

/// How a gRPC call has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CallOutcome {
    /// None where no server of gRPC has answered.
    pub(crate) status: Option<u32>,
    pub(crate) messages: u64,
}

/// What is to be read.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Wanted {
    /// To HEAD: the answer's head may speak of a body, which never comes (RFC 9110 §9.3.2).
    pub(crate) head_only: bool,
    /// The body is to be hashed.
    pub(crate) hashed: bool,
}

/// A body that is read, piece by piece.
#[derive(Default)]
pub(crate) struct Hash(Option<Context>);

/// Where a body ends (RFC 9112 §6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    Length(u64),
    Chunked,
    UntilClose,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Head {
    /// Bytes that it took.
    bytes: usize,
    status: u16,
    framing: Framing,
    keep_alive: bool,
}

impl Hash {
    /// Hashes, if it is wanted.
    pub(crate) fn new(wanted: bool) -> Hash {
        Hash(wanted.then(|| Context::new(&SHA256)))
    }

    pub(crate) fn add(&mut self, piece: &[u8]) {
        if let Some(context) = &mut self.0 {
            context.update(piece);
        }
    }

    /// SHA-256 of all pieces.
    pub(crate) fn finish(self) -> Option<[u8; 32]> {
        let digest = self.0?.finish();
        digest.as_ref().try_into().ok()
    }
}

/// Reads the answer to a request to which no other follows before it. `buffer` is only room; `begins` is called when the first bytes are
/// there.
///
/// # Errors
/// What keeps it from being a whole answer. Bytes that follow it make it malformed.
pub(crate) async fn read(
    stream: &mut (impl AsyncRead + Unpin),
    buffer: &mut [u8],
    wanted: Wanted,
    begins: impl FnOnce(),
) -> Result<Answer, Failure> {
    let mut begins = Some(begins);
    let mut filled = 0;
    let mut begun = false;
    let head = loop {
        if let Some(head) = parse_head(&buffer[..filled])? {
            if (100..200).contains(&head.status) {
                // RFC 9110 §15.2: an interim response says nothing about the final one.
                buffer.copy_within(head.bytes..filled, 0);
                filled -= head.bytes;
                continue;
            }
            break head;
        }
        if filled == buffer.len() {
            return Err(Failure::malformed(format!("a head of more than {filled} bytes")));
        }
        let count = receive(stream, &mut buffer[filled..], begun).await?;
        begun = true;
        if let Some(begins) = begins.take() {
            begins();
        }
        filled += count;
    };
    buffer.copy_within(head.bytes..filled, 0);
    let mut hash = Hash::new(wanted.hashed);
    let framing = if wanted.head_only { Framing::Length(0) } else { head.framing };
    let body_bytes = read_body(stream, buffer, filled - head.bytes, framing, &mut hash).await?;
    Ok(Answer {
        status: head.status,
        body_bytes,
        sha256: hash.finish(),
        call: None,
        keep_alive: head.keep_alive,
    })
}

/// Reads a body of which `filled` bytes are in `buffer`, and says how long it is.
async fn read_body(
    stream: &mut (impl AsyncRead + Unpin),
    buffer: &mut [u8],
    mut filled: usize,
    framing: Framing,
    hash: &mut Hash,
) -> Result<u64, Failure> {
    let mut chunked = ChunkedBody::default();
    let mut received = 0;
    loop {
        let taken = match framing {
            Framing::Chunked => chunked.feed(&buffer[..filled], |data| hash.add(data))?,
            Framing::Length(length) => (filled as u64).min(length - received) as usize,
            Framing::UntilClose => filled,
        };
        if framing != Framing::Chunked {
            hash.add(&buffer[..taken]);
        }
        received += taken as u64;
        if taken < filled {
            return Err(Failure::malformed(format!("{} bytes after the end of the body", filled - taken)));
        }
        match framing {
            Framing::Chunked if chunked.is_done() => return Ok(chunked.data_bytes()),
            Framing::Length(length) if received == length => return Ok(length),
            _ => {}
        }
        filled = match stream.read(buffer).await {
            // With TLS this is a close_notify: the sender says that it was all.
            Ok(0) if framing == Framing::UntilClose => return Ok(received),
            Ok(0) => {
                return Err(Failure::new(
                    FailureKind::Truncated,
                    format!("closed after {received} bytes of a body"),
                ));
            }
            Ok(count) => count,
            Err(error) => return Err(Failure::of_stream(&error, true)),
        };
    }
}

async fn receive(
    stream: &mut (impl AsyncRead + Unpin),
    room: &mut [u8],
    begun: bool,
) -> Result<usize, Failure> {
    match stream.read(room).await {
        Ok(0) if begun => Err(Failure::new(FailureKind::Truncated, "closed within a head")),
        Ok(0) => Err(Failure::new(FailureKind::Closed, "closed before an answer")),
        Ok(count) => Ok(count),
        Err(error) => Err(Failure::of_stream(&error, begun)),
    }
}

/// The head at the front of `input`, if it is complete.
fn parse_head(input: &[u8]) -> Result<Option<Head>, Failure> {
    let mut fields = [EMPTY_HEADER; FIELDS_MAX];
    let mut response = Response::new(&mut fields);
    let bytes = match response.parse(input) {
        Ok(Status::Partial) => return Ok(None),
        Ok(Status::Complete(bytes)) => bytes,
        Err(error) => return Err(Failure::malformed(format!("head: {error}"))),
    };
    let (Some(status), Some(minor)) = (response.code, response.version) else {
        return Err(Failure::malformed("head without status"));
    };
    let connection = |option: &str| {
        values(response.headers, "connection").any(|value| {
            value
                .split(|byte| *byte == b',')
                .any(|word| word.trim_ascii().eq_ignore_ascii_case(option.as_bytes()))
        })
    };
    let framing = framing(status, response.headers)?;
    let keep_alive =
        framing != Framing::UntilClose && !connection("close") && (minor == 1 || connection("keep-alive"));
    Ok(Some(Head { bytes, status, framing, keep_alive }))
}

fn framing(status: u16, fields: &[Header<'_>]) -> Result<Framing, Failure> {
    let mut lengths = values(fields, "content-length");
    let mut codings = values(fields, "transfer-encoding");
    let (length, coding) = (lengths.next(), codings.next());
    if lengths.next().is_some() || codings.next().is_some() || (length.is_some() && coding.is_some()) {
        return Err(Failure::malformed("more than one field says where the body ends"));
    }
    if status < 200 || matches!(status, 204 | 304) {
        return Ok(Framing::Length(0));
    }
    match (length, coding) {
        (Some(length), _) => {
            let digits = !length.is_empty() && length.iter().all(u8::is_ascii_digit);
            let number =
                std::str::from_utf8(length).ok().filter(|_| digits).and_then(|text| text.parse().ok());
            number.map(Framing::Length).ok_or_else(|| Failure::malformed("content-length is no number"))
        }
        (None, Some(coding)) if coding.eq_ignore_ascii_case(b"chunked") => Ok(Framing::Chunked),
        (None, Some(_)) => Err(Failure::malformed("a transfer coding that was not asked for")),
        (None, None) => Ok(Framing::UntilClose),
    }
}

fn values<'a>(fields: &'a [Header<'a>], name: &'a str) -> impl Iterator<Item = &'a [u8]> {
    fields.iter().filter(move |field| field.name.eq_ignore_ascii_case(name)).map(|field| field.value)
}

/// As many as gateways let pass by default.
const FIELDS_MAX: usize = 100;

#[cfg(test)]
mod tests {
    use std::io;
    use std::pin::Pin;
    use std::task::Poll;

    use tokio::io::ReadBuf;

    use super::*;

    const HASHED: Wanted = Wanted { head_only: false, hashed: true };

    /// Reads an answer that arrives byte by byte, and at once.
    async fn answer(bytes: &str) -> Result<Answer, Failure> {
        let at_once = read(&mut bytes.as_bytes(), &mut [0; 256], HASHED, || {}).await;
        assert_eq!(
            read(&mut ByteByByte(bytes.as_bytes()), &mut [0; 256], HASHED, || {}).await,
            at_once,
            "{bytes:?}"
        );
        at_once
    }

    /// Gives out one byte with each read.
    struct ByteByByte<'a>(&'a [u8]);

    impl AsyncRead for ByteByByte<'_> {
        fn poll_read(
            mut self: Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
            room: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            if let Some(byte) = self.0.split_off_first() {
                room.put_slice(&[*byte]);
            }
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn every_framing_is_read_to_its_end() {
        for (bytes, status, body_bytes, keep_alive) in [
            ("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc", 200, 3, true),
            ("HTTP/1.1 403 No\r\nContent-Length: 0\r\nConnection: x, Close\r\n\r\n", 403, 0, false),
            (
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nx: y\r\n\r\n",
                200,
                3,
                true,
            ),
            ("HTTP/1.1 200 OK\r\n\r\nuntil the end", 200, 13, false),
            ("HTTP/1.1 204 No Content\r\n\r\n", 204, 0, true),
            ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nx", 200, 1, true),
            ("HTTP/1.0 200 OK\r\ncontent-length: 1\r\n\r\nx", 200, 1, false),
            ("HTTP/1.0 200 OK\r\ncontent-length: 1\r\nconnection: keep-alive\r\n\r\nx", 200, 1, true),
        ] {
            let answer = answer(bytes).await.unwrap();
            assert_eq!(
                (answer.status, answer.body_bytes, answer.keep_alive),
                (status, body_bytes, keep_alive),
                "{bytes:?}"
            );
        }
    }

    #[tokio::test]
    async fn bodies_are_hashed_without_their_framing() {
        let length = answer("HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nabcdef").await.unwrap();
        let chunked =
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n4\r\ncdef\r\n0\r\n\r\n";
        let wanted = aws_lc_rs::digest::digest(&SHA256, b"abcdef");
        for seen in [length, answer(chunked).await.unwrap()] {
            assert_eq!(seen.sha256.as_ref().map(<[u8; 32]>::as_slice), Some(wanted.as_ref()));
        }
    }

    #[tokio::test]
    async fn an_answer_to_head_ends_with_its_head() {
        let mut bytes = &b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n"[..];
        let wanted = Wanted { head_only: true, hashed: false };
        let seen = read(&mut bytes, &mut [0; 256], wanted, || {}).await.unwrap();
        assert_eq!(seen, Answer { status: 200, body_bytes: 0, sha256: None, call: None, keep_alive: true });
    }

    #[tokio::test]
    async fn failures_have_their_kind() {
        let long_head = format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "y".repeat(256));
        for (bytes, kind) in [
            ("", FailureKind::Closed),
            ("HTTP/1.1 200", FailureKind::Truncated),
            ("HTTP/1.1 100 Continue\r\n\r\n", FailureKind::Truncated),
            ("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nab", FailureKind::Truncated),
            ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n", FailureKind::Truncated),
            ("SSH-2.0-x\r\n\r\n", FailureKind::Malformed),
            ("HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 1\r\n\r\nx", FailureKind::Malformed),
            (
                "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\nx",
                FailureKind::Malformed,
            ),
            ("HTTP/1.1 200 OK\r\ncontent-length: +1\r\n\r\nx", FailureKind::Malformed),
            ("HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\nx", FailureKind::Malformed),
            (&*long_head, FailureKind::Malformed),
        ] {
            assert_eq!(answer(bytes).await.map_err(|failure| failure.kind), Err(kind), "{bytes:?}");
        }
    }

    #[tokio::test]
    async fn bytes_after_an_answer_are_noticed() {
        let mut bytes = &b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabcd"[..];
        let failure = read(&mut bytes, &mut [0; 256], HASHED, || {}).await.unwrap_err();
        assert_eq!(failure.kind, FailureKind::Malformed);
    }
}
