//! A tunnel over a connection of its own (RFC 9110 §7.8): its bytes are those of the connection, and end with it.

use std::io;

use crate::{
    io::{BULK, BufferPool, Deadline, ReadHalf, SMALL, WriteHalf},
    relay::{Inlet, Outlet},
};

/// The upstream's bytes.
pub(crate) struct StreamInlet<'a> {
    half: &'a mut ReadHalf,
    deadline: &'a Deadline,
    buffers: &'a BufferPool,
    early: Vec<u8>,
    /// The last piece filled its buffer.
    brisk: bool,
}

impl<'a> StreamInlet<'a> {
    /// `early` comes before all else.
    pub(super) fn new(
        half: &'a mut ReadHalf,
        deadline: &'a Deadline,
        buffers: &'a BufferPool,
        early: Vec<u8>,
    ) -> StreamInlet<'a> {
        StreamInlet { half, deadline, buffers, early, brisk: false }
    }
}

impl Inlet for StreamInlet<'_> {
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
pub(crate) struct StreamOutlet<'a> {
    half: &'a mut WriteHalf,
    buffers: &'a BufferPool,
}

impl<'a> StreamOutlet<'a> {
    pub(super) fn new(half: &'a mut WriteHalf, buffers: &'a BufferPool) -> StreamOutlet<'a> {
        StreamOutlet { half, buffers }
    }
}

impl Outlet for StreamOutlet<'_> {
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
