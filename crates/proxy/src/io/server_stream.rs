//! A connection to a server on this machine that is asked one thing after the other, over TCP or a Unix socket.
//!
//! One operation at a time: the question is sent before the answer is read.

use std::{
    io,
    net::SocketAddr,
    os::fd::{AsRawFd, RawFd},
    path::Path,
};

use monoio::{
    buf::SliceMut,
    io::{AsyncReadRent, AsyncWriteRentExt},
    net::{TcpStream, UnixStream},
};

/// A connected socket.
#[derive(Debug)]
pub(crate) enum ServerStream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl ServerStream {
    /// Connects to a port.
    pub(crate) async fn connect_tcp(addr: SocketAddr) -> io::Result<ServerStream> {
        let stream = TcpStream::connect_addr(addr).await?;
        // A question leaves in one write; waiting for more would only add latency.
        let _ = stream.set_nodelay(true);
        Ok(ServerStream::Tcp(stream))
    }

    /// Connects to a Unix socket.
    pub(crate) async fn connect_unix(path: &Path) -> io::Result<ServerStream> {
        UnixStream::connect(path).await.map(ServerStream::Unix)
    }

    /// Appends what arrives to `buffer`, as far as its capacity. `Ok(0)` is the end of the stream.
    pub(crate) async fn read(&mut self, buffer: Vec<u8>) -> (io::Result<usize>, Vec<u8>) {
        let (begin, end) = (buffer.len(), buffer.capacity());
        debug_assert!(begin < end, "a read needs room, else it looks like the end of the stream");
        let free = SliceMut::new(buffer, begin, end);
        let (result, slice) = match self {
            ServerStream::Tcp(stream) => stream.read(free).await,
            ServerStream::Unix(stream) => stream.read(free).await,
        };
        (result, slice.into_inner())
    }

    /// Sends all of `buffer`.
    pub(crate) async fn write_all(&mut self, buffer: Vec<u8>) -> (io::Result<()>, Vec<u8>) {
        let (result, buffer) = match self {
            ServerStream::Tcp(stream) => stream.write_all(buffer).await,
            ServerStream::Unix(stream) => stream.write_all(buffer).await,
        };
        (result.map(drop), buffer)
    }

    /// For [`super::Deadlines::register`].
    pub(crate) fn fd(&self) -> RawFd {
        match self {
            ServerStream::Tcp(stream) => stream.as_raw_fd(),
            ServerStream::Unix(stream) => stream.as_raw_fd(),
        }
    }
}
