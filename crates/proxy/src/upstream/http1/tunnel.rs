//! A tunnel over a connection of its own (RFC 9110 §7.8): its bytes are those of the connection, and end with it.

use std::io;

use crate::{
    io::{BULK, BufferPool, Deadline, SMALL},
    relay::{Inlet, Outlet},
    upstream::transport::{Inflow, Outflow},
};

/// The upstream's bytes.
pub(crate) struct StreamInlet<'a, R> {
    half: &'a mut R,
    deadline: &'a Deadline,
    buffers: &'a BufferPool,
    early: Vec<u8>,
    /// The last piece filled its buffer.
    brisk: bool,
}

impl<'a, R> StreamInlet<'a, R> {
    /// `early` comes before all else.
    pub(super) fn new(
        half: &'a mut R,
        deadline: &'a Deadline,
        buffers: &'a BufferPool,
        early: Vec<u8>,
    ) -> StreamInlet<'a, R> {
        StreamInlet { half, deadline, buffers, early, brisk: false }
    }
}

impl<R: Inflow> Inlet for StreamInlet<'_, R> {
    async fn piece(&mut self) -> io::Result<Option<Vec<u8>>> {
        if !self.early.is_empty() {
            return Ok(Some(std::mem::take(&mut self.early)));
        }
        let buffer = if self.brisk { self.buffers.large() } else { self.buffers.small() };
        let (read, buffer) =
            self.half.read_or_rest((buffer, BULK), REST_BYTES, self.deadline, self.buffers).await;
        self.brisk = buffer.len() >= SMALL;
        Ok((read? > 0).then_some(buffer))
    }

    fn passed(&mut self, _bytes: usize) {}
}

/// Bytes for the upstream.
pub(crate) struct StreamOutlet<'a, W> {
    half: &'a mut W,
    buffers: &'a BufferPool,
}

impl<'a, W> StreamOutlet<'a, W> {
    pub(super) fn new(half: &'a mut W, buffers: &'a BufferPool) -> StreamOutlet<'a, W> {
        StreamOutlet { half, buffers }
    }
}

impl<W: Outflow> Outlet for StreamOutlet<'_, W> {
    async fn send(&mut self, piece: Vec<u8>, progressed: impl Fn()) -> io::Result<()> {
        let (sent, piece) = self.half.write_all(piece, progressed).await;
        self.buffers.put(piece);
        sent
    }

    async fn end(&mut self) -> io::Result<()> {
        self.half.shutdown().await;
        Ok(())
    }
}

/// What a tunnel reads into that has come to rest: a small message.
const REST_BYTES: usize = 1024;
