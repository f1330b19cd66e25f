//! A tunnel over a stream to the upstream (RFC 8441): how it is asked for, and its bytes, which are those of DATA.

use std::{
    future::poll_fn,
    io, mem,
    rc::Rc,
    task::{Context, Poll},
};

use bytes::Bytes;
use h2::{Reason, RecvStream, SendStream, ext::Protocol};
use http::{Method, Request, header::CONTENT_LENGTH};

use super::{
    link::Link,
    stream::{poll_capacity, push},
};
use crate::{
    error::ProxyError,
    h2::Piece,
    io::{BufferPool, LARGE},
    relay::{Inlet, Outlet},
    upgrade::Asked,
};

/// Makes `request` the extended CONNECT that asks for it.
///
/// # Errors
/// If the upstream's settings have not allowed that (RFC 8441 §3): it would be malformed there, or a request for something else.
pub(super) fn ask(link: &Link, request: &mut Request<()>, asked: &Asked<'_>) -> Result<(), ProxyError> {
    // The connection has been told to end since the place was given.
    let sender = link.sender().ok_or(ProxyError::UpstreamUnprocessed(Reason::NO_ERROR))?;
    if !sender.is_extended_connect_protocol_enabled() {
        return Err(ProxyError::UpstreamUpgrade("its settings have no ENABLE_CONNECT_PROTOCOL (RFC 8441)"));
    }
    *request.method_mut() = Method::CONNECT;
    request.extensions_mut().insert(Protocol::from(asked.connect().protocol));
    // RFC 8441 §5: the key is for HTTP/1.1 alone. A length, which is 0, would be that of the tunnel here.
    for name in [SEC_WEBSOCKET_KEY, CONTENT_LENGTH] {
        request.headers_mut().remove(name);
    }
    Ok(())
}

/// The upstream's bytes.
pub(crate) struct StreamInlet<'a> {
    body: &'a mut Option<RecvStream>,
    link: &'a Link,
    buffers: &'a BufferPool,
}

impl<'a> StreamInlet<'a> {
    pub(super) fn new(
        body: &'a mut Option<RecvStream>,
        link: &'a Link,
        buffers: &'a BufferPool,
    ) -> StreamInlet<'a> {
        StreamInlet { body, link, buffers }
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Bytes>>> {
        let Some(body) = self.body else { return Poll::Ready(Ok(None)) };
        let next = body.poll_data(cx);
        next.map(|next| next.transpose().map_err(|error| broken(&self.link.failure(error))))
    }
}

impl Inlet for StreamInlet<'_> {
    async fn piece(&mut self) -> io::Result<Option<Vec<u8>>> {
        let first = loop {
            match poll_fn(|cx| self.poll_next(cx)).await? {
                None => return Ok(None),
                Some(data) if data.is_empty() => {}
                Some(data) => break data,
            }
        };
        let mut piece = self.buffers.large();
        piece.extend_from_slice(&first);
        while piece.len() < LARGE / 2 {
            // What is there leaves before anything is waited for, the end included.
            match poll_fn(|cx| Poll::Ready(self.poll_next(cx))).await {
                Poll::Ready(Ok(Some(data))) => piece.extend_from_slice(&data),
                Poll::Ready(Ok(None)) | Poll::Pending => break,
                Poll::Ready(Err(error)) => {
                    self.buffers.put(piece);
                    return Err(error);
                }
            }
        }
        Ok(Some(piece))
    }

    fn passed(&mut self, bytes: usize) {
        if let Some(body) = self.body {
            // Only a stream that is gone has no window.
            let _ = body.flow_control().release_capacity(bytes);
        }
    }
}

/// Bytes for the upstream.
pub(crate) struct StreamOutlet<'a> {
    sending: &'a mut Option<SendStream<Piece>>,
    link: &'a Link,
    buffers: &'a Rc<BufferPool>,
}

impl<'a> StreamOutlet<'a> {
    pub(super) fn new(
        sending: &'a mut Option<SendStream<Piece>>,
        link: &'a Link,
        buffers: &'a Rc<BufferPool>,
    ) -> StreamOutlet<'a> {
        StreamOutlet { sending, link, buffers }
    }

    fn push(&mut self, piece: Piece, last: bool, cut: bool) -> io::Result<()> {
        let stream = self.sending.as_mut().ok_or(io::ErrorKind::NotConnected)?;
        push(stream, self.link, piece, last, cut).map_err(|error| broken(&error))
    }

    async fn capacity(&mut self, wanted: usize) -> io::Result<usize> {
        let stream = self.sending.as_mut().ok_or(io::ErrorKind::NotConnected)?;
        stream.reserve_capacity(wanted);
        let capacity = poll_fn(|cx| poll_capacity(stream, self.link, cx)).await;
        capacity.map_err(|error| broken(&error))
    }
}

impl Outlet for StreamOutlet<'_> {
    async fn send(&mut self, mut piece: Vec<u8>, progressed: impl Fn()) -> io::Result<()> {
        let mut sent = 0;
        while sent < piece.len() {
            let left = piece.len() - sent;
            let n = self.capacity(left).await?.min(left);
            if n == piece.len() {
                return self.push(Piece::whole(mem::take(&mut piece), self.buffers), false, false);
            }
            self.push(Piece::copy(&piece[sent..sent + n], self.buffers), false, n < left)?;
            sent += n;
            progressed();
        }
        self.buffers.put(piece);
        Ok(())
    }

    async fn end(&mut self) -> io::Result<()> {
        self.push(Piece::whole(Vec::new(), self.buffers), true, false)
    }
}

/// The reason in words: what a tunnel breaks off with is an error of its bytes.
fn broken(error: &ProxyError) -> io::Error {
    io::Error::other(error.to_string())
}

const SEC_WEBSOCKET_KEY: http::HeaderName = http::HeaderName::from_static("sec-websocket-key");
