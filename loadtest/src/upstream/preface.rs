//! Tells HTTP/2 by prior knowledge (RFC 9113 §3.3) from HTTP/1.1, by what the client sends first.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

/// What a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    Http1,
    Http2,
}

/// A stream whose first bytes were read already, and are read again.
pub(super) struct Rewound<S> {
    stream: S,
    first: Vec<u8>,
    given: usize,
}

/// Reads until it is clear what the client speaks, and says how many bytes that took; `None` if it has gone before.
pub(super) async fn read(
    stream: &mut (impl AsyncRead + Unpin),
    input: &mut [u8],
) -> io::Result<Option<(Protocol, usize)>> {
    let mut filled = 0;
    loop {
        match stream.read(&mut input[filled..]).await? {
            0 => return Ok(None),
            count => filled += count,
        }
        let compared = filled.min(PREFACE.len());
        if input[..compared] != PREFACE[..compared] {
            return Ok(Some((Protocol::Http1, filled)));
        }
        if compared == PREFACE.len() {
            return Ok(Some((Protocol::Http2, filled)));
        }
    }
}

impl<S> Rewound<S> {
    pub(super) fn new(stream: S, first: Vec<u8>) -> Rewound<S> {
        Rewound { stream, first, given: 0 }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Rewound<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        room: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.given == self.first.len() {
            return Pin::new(&mut self.stream).poll_read(cx, room);
        }
        let count = room.remaining().min(self.first.len() - self.given);
        room.put_slice(&self.first[self.given..self.given + count]);
        self.given += count;
        if self.given == self.first.len() {
            (self.first, self.given) = (Vec::new(), 0);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Rewound<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_a_client_speaks_is_told_at_any_split() {
        for (first, wanted) in [
            ("GET / HTTP/1.1\r\n\r\n", Some(Protocol::Http1)),
            ("PROPFIND / HTTP/1.1\r\n\r\n", Some(Protocol::Http1)),
            ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n and more", Some(Protocol::Http2)),
            ("PRI * HTTP/2.0\r\n\r\nSM\r\n", None),
            ("", None),
        ] {
            for split in 0..=first.len() {
                let (one, two) = first.as_bytes().split_at(split);
                let mut stream = tokio_test_stream(one, two);
                let mut input = [0; 64];
                let read_so_far = read(&mut stream, &mut input).await.unwrap();
                assert_eq!(read_so_far.map(|(protocol, _)| protocol), wanted, "{first:?} at {split}");
                let Some((_, filled)) = read_so_far else { continue };
                let mut again = String::new();
                let mut rewound = Rewound::new(stream, input[..filled].to_vec());
                rewound.read_to_string(&mut again).await.unwrap();
                assert_eq!(again, first, "nothing is lost at {split}");
            }
        }
    }

    fn tokio_test_stream<'a>(one: &'a [u8], two: &'a [u8]) -> impl AsyncRead + Unpin + 'a {
        AsyncReadExt::chain(one, two)
    }
}
