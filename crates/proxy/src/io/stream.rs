//! Sockets on owned buffers: TCP, and Unix sockets in the same clothes.
//!
//! Both halves can have an operation in flight at once, which is what a full-duplex relay needs.

use std::{
    cell::Cell,
    fmt, io,
    net::SocketAddr,
    os::fd::{AsRawFd, RawFd},
    rc::Rc,
    time::{Duration, Instant},
};

use monoio::{
    buf::{IoBuf, SliceMut},
    io::{
        AsyncReadRent, AsyncWriteRent, CancelHandle, CancelableAsyncReadRent, Canceller, OwnedReadHalf,
        OwnedWriteHalf, Splitable,
    },
    net::{TcpListener, TcpStream},
};

use socket2::{Domain, SockAddr, Socket, Type};

use super::{BufferPool, Deadline, Turnstile, is_called_off, sleep, sys, within};

/// A connected stream socket. What the runtime does with one of TCP (recv, send, shutdown, poll) the kernel does with one of Unix as
/// well, so both are one type, and who uses TCP pays nothing for the other.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) read: ReadHalf,
    pub(crate) write: WriteHalf,
    fd: RawFd,
}

impl Stream {
    /// Connects, at most `limit` long.
    pub(crate) async fn connect(addr: SocketAddr, limit: Duration) -> io::Result<Stream> {
        // The socket is given up when time runs out, so dropping the operation loses nothing. Boxed, since a timer takes more room
        // than all the rest of an exchange, and almost all find a connection that is there.
        let connecting = Box::pin(within(limit, TcpStream::connect_addr(addr)));
        connecting.await.ok_or(io::ErrorKind::TimedOut)?.map(Stream::new)
    }

    /// Connects to a Unix socket, at most `limit` long.
    ///
    /// The kernel says at once whether that works (unix(7)). Only where the server's queue is full there is something to wait for,
    /// and nothing tells when that is over, so it is tried again by and by, as TCP does.
    pub(crate) async fn connect_unix(path: &str, limit: Duration) -> io::Result<Stream> {
        let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None)?;
        let address = SockAddr::unix(path)?;
        let (began, mut pause) = (Instant::now(), UNIX_RETRY_MIN);
        loop {
            match socket.connect(&address) {
                Ok(()) => return Ok(Stream::of(TcpStream::from_std(socket.into())?)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let left = limit.checked_sub(began.elapsed()).ok_or(io::ErrorKind::TimedOut)?;
                    // Boxed as above.
                    Box::pin(sleep(pause.min(left))).await;
                    pause = (pause * 2).min(UNIX_RETRY_MAX);
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn new(tcp: TcpStream) -> Stream {
        // Heads and small bodies leave in one write each; waiting for more would only add latency.
        let _ = tcp.set_nodelay(true);
        Stream::of(tcp)
    }

    fn of(tcp: TcpStream) -> Stream {
        let fd = tcp.as_raw_fd();
        let (read, write) = tcp.into_split();
        Stream { read: ReadHalf(read), write: WriteHalf { half: Some(write), turnstile: None }, fd }
    }

    /// Waits until there is something to read, holding no buffer. The end of the stream and errors count as something.
    pub(crate) async fn readable(&mut self) {
        // An error shows itself in the read that follows.
        let _ = sys::whole(&mut self.read.0, self.write.half()).readable(false).await;
    }

    /// The address of our side; `None` if it cannot be told any more.
    pub(crate) fn local_addr(&mut self) -> Option<SocketAddr> {
        sys::whole(&mut self.read.0, self.write.half()).local_addr().ok()
    }

    /// Sends the last bytes, and ends the stream towards the peer (FIN), in one segment if they are few; reading goes on. Gives
    /// the buffer back.
    pub(crate) async fn end_with(&mut self, mut last: Vec<u8>) -> Vec<u8> {
        if !last.is_empty() {
            let sent = sys::send_before_end(self.fd, &last);
            last.drain(..sent);
        }
        if !last.is_empty() {
            // The peer may be gone already, which is as good.
            last = self.write.write_all(last, || {}).await.1;
        }
        self.write.shutdown().await;
        last
    }

    /// From now on the socket is closed in its turn when it is given up: for those of which one peer can make us give up many at
    /// once.
    pub(super) fn close_in_turn(&mut self, turnstile: &Rc<Turnstile>) {
        self.write.turnstile = Some(turnstile.clone());
    }

    /// Both directions, for who keeps them apart. The socket is closed when both are dropped.
    pub(crate) fn into_halves(self) -> (ReadHalf, WriteHalf) {
        (self.read, self.write)
    }

    /// For [`super::Deadlines::register`].
    pub(crate) fn fd(&self) -> RawFd {
        self.fd
    }
}

/// The receiving side.
#[derive(Debug)]
pub(crate) struct ReadHalf(OwnedReadHalf<TcpStream>);

impl ReadHalf {
    /// Appends what arrives to `buffer`, as far as its capacity and until it has `max` bytes. `Ok(0)` is the end of the stream.
    pub(crate) async fn read(&mut self, buffer: Vec<u8>, max: usize) -> (io::Result<usize>, Vec<u8>) {
        let (begin, end) = (buffer.len(), buffer.capacity().min(max));
        debug_assert!(begin < end, "a read needs room, else it looks like the end of the stream");
        let (result, slice) = self.0.read(SliceMut::new(buffer, begin, end)).await;
        (result, slice.into_inner())
    }
}

impl ReadHalf {
    /// As [`ReadHalf::read`], but given up after `millis` without a byte, with an error for which
    /// [`is_called_off`](super::is_called_off) is true.
    pub(crate) async fn read_briefly(
        &mut self,
        buffer: Vec<u8>,
        max: usize,
        deadline: &Deadline,
        millis: u64,
    ) -> (io::Result<usize>, Vec<u8>) {
        let (begin, end) = (buffer.len(), buffer.capacity().min(max));
        let handle = deadline.call_off_after(millis);
        let (result, slice) = self.0.cancelable_read(SliceMut::new(buffer, begin, end), handle).await;
        deadline.call_nothing_off();
        (result, slice.into_inner())
    }

    /// As [`ReadHalf::read`] into an empty buffer, from a peer that may have nothing to say for long: after a short while without a
    /// byte `buffer` is given back, and the wait goes on with one of `rest_bytes`.
    pub(crate) async fn read_or_rest(
        &mut self,
        (buffer, max): (Vec<u8>, usize),
        rest_bytes: usize,
        deadline: &Deadline,
        buffers: &BufferPool,
    ) -> (io::Result<usize>, Vec<u8>) {
        match self.read_briefly(buffer, max, deadline, BUSY_MILLIS).await {
            (Err(error), buffer) if is_called_off(&error) => {
                buffers.put(buffer);
                self.read(Vec::with_capacity(rest_bytes), max).await
            }
            read => read,
        }
    }
}

/// The sending side. Dropping it ends the stream towards the peer, perhaps in its turn.
pub(crate) struct WriteHalf {
    /// There until it is dropped.
    half: Option<OwnedWriteHalf<TcpStream>>,
    turnstile: Option<Rc<Turnstile>>,
}

impl WriteHalf {
    fn half(&mut self) -> &mut OwnedWriteHalf<TcpStream> {
        self.half.as_mut().expect("there until it is dropped")
    }

    /// Sends all of `buffer`; calls `progressed` whenever the peer has taken a part of it, but not all.
    pub(crate) async fn write_all(
        &mut self,
        buffer: Vec<u8>,
        progressed: impl Fn(),
    ) -> (io::Result<()>, Vec<u8>) {
        let mut rest = buffer.slice(..);
        loop {
            let (result, written) = self.half().write(rest).await;
            let (begin, end) = (written.begin(), written.end());
            let buffer = written.into_inner();
            match result {
                Ok(0) => return (Err(io::ErrorKind::WriteZero.into()), buffer),
                Ok(n) if begin + n == end => return (Ok(()), buffer),
                Ok(n) => rest = buffer.slice(begin + n..end),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => rest = buffer.slice(begin..end),
                Err(e) => return (Err(e), buffer),
            }
            progressed();
        }
    }

    /// Ends the stream towards the peer (FIN).
    pub(crate) async fn shutdown(&mut self) {
        // The peer may be gone already, which is as good.
        let _ = self.half().shutdown().await;
    }
}

impl fmt::Debug for WriteHalf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WriteHalf").finish_non_exhaustive()
    }
}

impl Drop for WriteHalf {
    fn drop(&mut self) {
        if let (Some(half), Some(turnstile)) = (self.half.take(), &self.turnstile) {
            turnstile.close(half);
        }
    }
}

/// A listening socket that this worker accepts from.
pub(crate) struct Acceptor {
    listener: TcpListener,
    /// What it is bound to.
    pub(crate) address: SocketAddr,
    /// Others listen on it, too, and go on after its end here.
    pub(crate) shared: bool,
    /// Calls the accept in flight off.
    canceller: Cell<Option<Canceller>>,
    called_off: CancelHandle,
}

impl Acceptor {
    /// Takes over a listening socket. It must be non-blocking, else the epoll driver would block the worker. `shared`: others
    /// listen on it, too, so it is to be left and not closed.
    pub(crate) fn new(listener: std::net::TcpListener, shared: bool) -> io::Result<Acceptor> {
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let listener = TcpListener::from_std(listener)?;
        let canceller = Canceller::new();
        let called_off = canceller.handle();
        Ok(Acceptor { listener, address, shared, canceller: Cell::new(Some(canceller)), called_off })
    }

    /// The next connection. Must not be dropped while it waits, except to end the listener: monoio 0.2.4 leaks the descriptor
    /// of a connection that was accepted meanwhile.
    pub(crate) async fn accept(&self) -> io::Result<(Stream, SocketAddr)> {
        let (tcp, peer) = self.listener.cancelable_accept(self.called_off.clone()).await?;
        Ok((Stream::new(tcp), peer))
    }

    /// A connection that waits in the queue already.
    pub(crate) fn accept_waiting(&self) -> Option<(Stream, SocketAddr)> {
        let (tcp, peer) = sys::accept_waiting(self.listener.as_raw_fd())?;
        // Only an exhausted process cannot take over a socket that it has accepted.
        Some((Stream::new(TcpStream::from_std(tcp).ok()?), peer))
    }

    /// Makes the accept in flight, and all later ones, fail: the way to end an accept loop without dropping its operation. Also
    /// wherever else this socket is listened on; connections still in the queue are reset.
    pub(crate) fn close(&self) {
        sys::shutdown(self.listener.as_raw_fd(), sys::Shut::Both);
    }

    /// As [`Acceptor::close`], but only here: connections in the queue wait for the others that listen on this socket.
    pub(crate) fn leave(&self) {
        drop(self.canceller.take().map(Canceller::cancel));
    }
}

/// Between two tries to connect to a Unix socket whose queue is full: twice as long each time, from the one to the other.
const UNIX_RETRY_MIN: Duration = Duration::from_millis(1);
const UNIX_RETRY_MAX: Duration = Duration::from_millis(32);
/// A shorter pause than this between two reads is none.
pub(crate) const BUSY_MILLIS: u64 = 250;
