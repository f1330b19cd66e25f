//! The bytes of a connection, with TLS or without.

use std::{io, mem};

use crate::{
    downstream::ReadError,
    h2::{ByteSink, ByteSource},
    io::{BufferPool, Deadline, LARGE},
    upstream::transport::{Inflow, Outflow},
};

/// Where they come from.
pub(super) struct Incoming<'a, R> {
    half: &'a mut R,
    buffers: &'a BufferPool,
    /// The last read has filled its buffer.
    is_busy: bool,
}

impl<'a, R: Inflow> Incoming<'a, R> {
    pub(super) fn new(half: &'a mut R, buffers: &'a BufferPool) -> Incoming<'a, R> {
        Incoming { half, buffers, is_busy: false }
    }
}

impl<R: Inflow> ByteSource for Incoming<'_, R> {
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

/// Where they go.
pub(super) struct Outgoing<'a, W>(pub(super) &'a mut W);

impl<W: Outflow> ByteSink for Outgoing<'_, W> {
    async fn send(&mut self, bytes: &mut Vec<u8>, progressed: impl Fn()) -> io::Result<()> {
        let (sent, buffer) = self.0.write_all(mem::take(bytes), progressed).await;
        *bytes = buffer;
        sent
    }
}

/// What a connection reads into that has come to rest.
const REST_BYTES: usize = 2048;
