//! What a connection to an upstream runs over: a socket, with TLS or without. Which it is, is resolved when this is compiled.

use std::io;

use crate::io::{BufferPool, Deadline, ReadHalf, Stream, WriteHalf};

/// A connection's bytes.
pub(crate) trait Transport {
    /// Where they come from.
    type Read: Inflow;
    /// Where they go.
    type Write: Outflow;

    /// Nobody on the way can read or change them.
    const IS_TLS: bool;

    /// Both directions.
    fn halves(&mut self) -> (&mut Self::Read, &mut Self::Write);

    /// Gives buffers back; whether all that has arrived was used up, without which nothing more may be asked here.
    fn rest(&mut self) -> bool;
}

/// The receiving direction. As with [`ReadHalf`], a read is never dropped to go on with the same connection.
pub(crate) trait Inflow {
    /// As [`ReadHalf::read`]. Of what has to be decrypted first, a record more may arrive than there was room for.
    async fn read(&mut self, buffer: Vec<u8>, max: usize) -> (io::Result<usize>, Vec<u8>);

    /// As [`ReadHalf::read_or_rest`].
    async fn read_or_rest(
        &mut self,
        into: (Vec<u8>, usize),
        rest_bytes: usize,
        deadline: &Deadline,
        buffers: &BufferPool,
    ) -> (io::Result<usize>, Vec<u8>);
}

/// The sending direction.
pub(crate) trait Outflow {
    /// As [`WriteHalf::write_all`].
    async fn write_all(&mut self, buffer: Vec<u8>, progressed: impl Fn()) -> (io::Result<()>, Vec<u8>);

    /// As [`WriteHalf::shutdown`].
    async fn shutdown(&mut self);
}

impl Transport for Stream {
    type Read = ReadHalf;
    type Write = WriteHalf;

    const IS_TLS: bool = false;

    fn halves(&mut self) -> (&mut ReadHalf, &mut WriteHalf) {
        (&mut self.read, &mut self.write)
    }

    fn rest(&mut self) -> bool {
        true
    }
}

impl Inflow for ReadHalf {
    async fn read(&mut self, buffer: Vec<u8>, max: usize) -> (io::Result<usize>, Vec<u8>) {
        ReadHalf::read(self, buffer, max).await
    }

    async fn read_or_rest(
        &mut self,
        into: (Vec<u8>, usize),
        rest_bytes: usize,
        deadline: &Deadline,
        buffers: &BufferPool,
    ) -> (io::Result<usize>, Vec<u8>) {
        ReadHalf::read_or_rest(self, into, rest_bytes, deadline, buffers).await
    }
}

impl Outflow for WriteHalf {
    async fn write_all(&mut self, buffer: Vec<u8>, progressed: impl Fn()) -> (io::Result<()>, Vec<u8>) {
        WriteHalf::write_all(self, buffer, progressed).await
    }

    async fn shutdown(&mut self) {
        WriteHalf::shutdown(self).await;
    }
}
