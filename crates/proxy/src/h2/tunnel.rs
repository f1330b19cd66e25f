//! A tunnel over a stream (RFC 8441 §4, RFC 9113 §8.5): its DATA are the bytes, its end is that of a direction.

use std::io;

use super::{body::Body, response::ResponseSink};
use crate::{
    client_side::Sink,
    io::{BufferPool, Deadline, LARGE},
    relay::{Inlet, Outlet},
};

/// The client's bytes.
pub(super) struct StreamInlet<'a> {
    body: &'a mut Body,
    deadline: &'a Deadline,
    buffers: &'a BufferPool,
}

impl<'a> StreamInlet<'a> {
    pub(super) fn new(
        body: &'a mut Body,
        deadline: &'a Deadline,
        buffers: &'a BufferPool,
    ) -> StreamInlet<'a> {
        StreamInlet { body, deadline, buffers }
    }
}

impl Inlet for StreamInlet<'_> {
    async fn piece(&mut self) -> io::Result<Option<Vec<u8>>> {
        let first = loop {
            match self.body.next(self.deadline).await.map_err(|_| broken())? {
                None => return Ok(None),
                Some(data) if data.is_empty() => {}
                Some(data) => break data,
            }
        };
        let mut piece = self.buffers.large();
        piece.extend_from_slice(&first);
        while piece.len() < LARGE / 2 {
            // What is there leaves before anything is waited for, the end included.
            match self.body.ready().await {
                Some(Ok(Some(data))) => piece.extend_from_slice(&data),
                Some(Ok(None)) | None => break,
                Some(Err(_)) => {
                    self.buffers.put(piece);
                    return Err(broken());
                }
            }
        }
        Ok(Some(piece))
    }

    fn passed(&mut self, bytes: usize) {
        // Only now may the client send as much again.
        self.body.release(bytes);
    }
}

/// The client has called the stream off, or is gone.
fn broken() -> io::Error {
    io::ErrorKind::ConnectionReset.into()
}

/// Bytes for the client.
pub(super) struct StreamOutlet<'a> {
    sink: ResponseSink<'a>,
    buffers: &'a BufferPool,
}

impl<'a> StreamOutlet<'a> {
    pub(super) fn new(sink: ResponseSink<'a>, buffers: &'a BufferPool) -> StreamOutlet<'a> {
        StreamOutlet { sink, buffers }
    }
}

impl Outlet for StreamOutlet<'_> {
    async fn send(&mut self, piece: Vec<u8>, progressed: impl Fn()) -> io::Result<()> {
        let sent = self.sink.send(&piece, false, progressed).await;
        self.buffers.put(piece);
        sent
    }

    async fn end(&mut self) -> io::Result<()> {
        self.sink.send(&[], true, || {}).await
    }
}
