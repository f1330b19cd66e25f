//! The bytes of a connection without TLS.

use std::{io, mem};

use crate::{
    downstream::ReadError,
    h2::{ByteSink, ByteSource},
    io::{BufferPool, Deadline, LARGE, ReadHalf, WriteHalf},
};

/// Reads without TLS.
pub(super) struct Incoming<'a> {
    half: &'a mut ReadHalf,
    buffers: &'a BufferPool,
    /// The last read has filled its buffer.
    is_busy: bool,
}

impl<'a> Incoming<'a> {
    pub(super) fn new(half: &'a mut ReadHalf, buffers: &'a BufferPool) -> Incoming<'a> {
        Incoming { half, buffers, is_busy: false }
    }
}

impl ByteSource for Incoming<'_> {
    async fn next(&mut self, deadline: &Deadline) -> Result<Vec<u8>, ReadError> {
        let buffer = if self.is_busy { self.buffers.large() } else { self.buffers.small() };
        let into = (buffer, usize::MAX);
        let (result, buffer) = self.half.read_or_rest(into, REST_BYTES, deadline, self.buffers).await;
        self.is_busy = buffer.len() == buffer.capacity() || buffer.len() > LARGE / 2;
        match result {
            Ok(0) => Err(ReadError::Closed),
            Ok(_) => Ok(buffer),
            Err(error) => Err(ReadError::Io(error)),
        }
    }
}

/// Writes without TLS.
pub(super) struct Outgoing<'a>(pub(super) &'a mut WriteHalf);

impl ByteSink for Outgoing<'_> {
    async fn send(&mut self, bytes: &mut Vec<u8>, progressed: impl Fn()) -> io::Result<()> {
        let (sent, buffer) = self.0.write_all(mem::take(bytes), progressed).await;
        *bytes = buffer;
        sent
    }
}

/// What a connection reads into that has come to rest.
const REST_BYTES: usize = 2048;
