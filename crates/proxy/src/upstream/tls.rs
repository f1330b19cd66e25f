//! TLS to an upstream: records to plaintext and back, on buffers that are held only while bytes move.
//!
//! Knows nothing of HTTP. Both directions can have an operation in flight at once; they share the TLS session, and records leave
//! in the order in which they were made. What goes wrong comes as an [`io::Error`] that has an [`UpstreamTlsFailure`] in it.
//!
//! An upstream that closes its socket without having said so (close_notify) may have been cut off by somebody else: that is an
//! error and no end, so that a body without a length cannot be cut short unnoticed (RFC 8446 §6.1).

use std::{cell::RefCell, io, mem, rc::Rc, time::Duration};

use ringward_tls::{ClientSession, EndpointTls, UpstreamTlsFailure, UpstreamTlsReason};

use super::http2::Shared;
use super::transport::{Inflow, Outflow, Transport};
use crate::io::{
    BUSY_MILLIS, BufferPool, Deadline, LARGE, ReadHalf, SMALL, Stream, WriteHalf, is_called_off, within,
};

/// A connection with TLS. Boxed: whoever has room for any kind of connection should not need room for this.
#[derive(Debug)]
pub(crate) struct TlsStream(Box<Halves>);

#[derive(Debug)]
struct Halves {
    read: TlsRead,
    write: TlsWrite,
    is_resumed: bool,
    speaks_http2: bool,
}

/// What both directions share.
#[derive(Debug)]
struct Tls {
    session: ClientSession,
    /// Records that were made and not yet sent.
    outgoing: Vec<u8>,
}

/// The receiving direction.
#[derive(Debug)]
pub(crate) struct TlsRead {
    half: ReadHalf,
    tls: Rc<RefCell<Tls>>,
    buffers: Rc<BufferPool>,
    /// Records that are not processed yet; the last may be incomplete.
    raw: Vec<u8>,
    /// Plaintext that came with the end of the handshake.
    early: Vec<u8>,
    /// The upstream has said that it sends no more.
    ended: bool,
}

/// The sending direction.
#[derive(Debug)]
pub(crate) struct TlsWrite {
    half: WriteHalf,
    tls: Rc<RefCell<Tls>>,
    buffers: Rc<BufferPool>,
}

impl TlsStream {
    /// Shakes hands on a new connection, at most `left` long: what is left of `connect_timeout`.
    ///
    /// # Errors
    /// [`failure_in`] says why; the upstream has been told.
    pub(super) async fn connect(
        stream: Stream,
        tls: &EndpointTls,
        (left, connect_timeout): (Duration, Duration),
        buffers: &Rc<BufferPool>,
    ) -> io::Result<TlsStream> {
        // The socket is given up when time runs out, so dropping the operation loses nothing.
        let shaken = within(left, shake(stream, tls, buffers)).await;
        shaken.unwrap_or_else(|| {
            let message = format!(
                "the connection was open and the TLS handshake not over within {connect_timeout:?} (`connect_timeout`)"
            );
            Err(error(UpstreamTlsFailure::new(UpstreamTlsReason::Timeout, message)))
        })
    }

    /// An earlier session was resumed.
    pub(super) fn is_resumed(&self) -> bool {
        self.0.is_resumed
    }

    /// The upstream has agreed to HTTP/2.
    pub(super) fn speaks_http2(&self) -> bool {
        self.0.speaks_http2
    }
}

async fn shake(stream: Stream, tls: &EndpointTls, buffers: &Rc<BufferPool>) -> io::Result<TlsStream> {
    let session = ClientSession::new(tls).map_err(error)?;
    let (read, write) = stream.into_halves();
    let tls = Rc::new(RefCell::new(Tls { session, outgoing: Vec::new() }));
    let mut read = TlsRead {
        half: read,
        tls: tls.clone(),
        buffers: buffers.clone(),
        raw: Vec::new(),
        early: Vec::new(),
        ended: false,
    };
    let mut write = TlsWrite { half: write, tls, buffers: buffers.clone() };
    loop {
        let mut early = mem::take(&mut read.early);
        let processed = read.process(&mut early);
        read.early = early;
        // Our flight, or the alert of a failed handshake.
        let flushed = write.flush(|| {}).await;
        processed?;
        flushed.map_err(broken_off)?;
        if !read.tls.borrow().session.is_handshaking() {
            break;
        }
        match read.fill(SMALL, None).await {
            Ok(()) => {}
            Err(error) if failure_in(&error).is_some() => return Err(error),
            Err(error) => return Err(broken_off(error)),
        }
    }
    let (is_resumed, speaks_http2) = {
        let session = &read.tls.borrow().session;
        (session.is_resumed(), session.negotiated().alpn == "h2")
    };
    Ok(TlsStream(Box::new(Halves { read, write, is_resumed, speaks_http2 })))
}

/// The upstream went away in the middle of the handshake.
fn broken_off(cause: io::Error) -> io::Error {
    let why = match cause.kind() {
        io::ErrorKind::UnexpectedEof => "the upstream closed during the TLS handshake".to_owned(),
        _ => format!("the upstream broke off the TLS handshake: {cause}"),
    };
    error(UpstreamTlsFailure::new(UpstreamTlsReason::Closed, why + ": does it speak TLS on this port?"))
}

impl Transport for TlsStream {
    type Read = TlsRead;
    type Write = TlsWrite;

    const IS_TLS: bool = true;

    fn halves(&mut self) -> (&mut TlsRead, &mut TlsWrite) {
        let Halves { read, write, .. } = &mut *self.0;
        (read, write)
    }

    fn rest(&mut self) -> bool {
        let TlsRead { raw, early, ended, buffers, .. } = &mut self.0.read;
        let is_at_rest = raw.is_empty() && early.is_empty() && !*ended;
        buffers.put(mem::take(raw));
        buffers.put(mem::take(early));
        is_at_rest
    }
}

impl TlsRead {
    /// Appends to `plain` what is there, processing the records that are.
    fn process(&mut self, plain: &mut Vec<u8>) -> io::Result<()> {
        if self.ended {
            return Ok(());
        }
        let mut tls = self.tls.borrow_mut();
        let Tls { session, outgoing } = &mut *tls;
        let progress = session.process(&mut self.raw, plain, outgoing).map_err(error)?;
        if progress.consumed == self.raw.len() {
            self.raw.clear();
        } else {
            self.raw.drain(..progress.consumed);
        }
        self.ended = progress.peer_closed;
        Ok(())
    }

    /// Reads more records into a buffer of at least `capacity` bytes; `briefly` as in [`ReadHalf::read_briefly`].
    async fn fill(&mut self, capacity: usize, briefly: Option<(&Deadline, u64)>) -> io::Result<()> {
        let Some(raw) = self.buffers.with_room(mem::take(&mut self.raw), capacity) else {
            // The session refuses what does not fit, so this is a fault of ours, which ends this connection only.
            let message = "a TLS message of the upstream's is too large";
            return Err(error(UpstreamTlsFailure::new(UpstreamTlsReason::Internal, message)));
        };
        let (result, raw) = match briefly {
            None => self.half.read(raw, usize::MAX).await,
            Some((deadline, millis)) => self.half.read_briefly(raw, usize::MAX, deadline, millis).await,
        };
        self.raw = raw;
        match result {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            result => result.map(drop),
        }
    }

    /// Appends plaintext to `buffer`, of which there may be as much as there is room for, and a record more.
    async fn read_into(
        &mut self,
        buffer: &mut Vec<u8>,
        briefly: Option<(&Deadline, u64)>,
    ) -> io::Result<usize> {
        let before = buffer.len();
        buffer.append(&mut self.early);
        loop {
            if !self.raw.is_empty() {
                self.process(buffer)?;
            }
            if buffer.len() > before || self.ended {
                return Ok(buffer.len() - before);
            }
            self.fill(buffer.capacity().min(LARGE), briefly).await?;
        }
    }
}

impl Inflow for TlsRead {
    async fn read(&mut self, mut buffer: Vec<u8>, _max: usize) -> (io::Result<usize>, Vec<u8>) {
        (self.read_into(&mut buffer, None).await, buffer)
    }

    async fn read_or_rest(
        &mut self,
        (mut buffer, _max): (Vec<u8>, usize),
        rest_bytes: usize,
        deadline: &Deadline,
        buffers: &BufferPool,
    ) -> (io::Result<usize>, Vec<u8>) {
        let read = self.read_into(&mut buffer, Some((deadline, BUSY_MILLIS))).await;
        if !read.as_ref().is_err_and(is_called_off) {
            return (read, buffer);
        }
        buffers.put(buffer);
        if self.raw.is_empty() {
            buffers.put(mem::take(&mut self.raw));
        }
        let mut buffer = Vec::with_capacity(rest_bytes);
        (self.read_into(&mut buffer, None).await, buffer)
    }
}

impl TlsWrite {
    /// Sends what there is to send.
    async fn flush(&mut self, progressed: impl Fn()) -> io::Result<()> {
        let outgoing = mem::take(&mut self.tls.borrow_mut().outgoing);
        if outgoing.is_empty() {
            return Ok(());
        }
        let (sent, outgoing) = self.half.write_all(outgoing, progressed).await;
        self.buffers.put(outgoing);
        sent
    }

    fn seal(&self, plain: &[u8]) -> io::Result<()> {
        let mut tls = self.tls.borrow_mut();
        let Tls { session, outgoing } = &mut *tls;
        if outgoing.capacity() == 0 {
            let is_small = plain.len() + ringward_tls::RECORD_OVERHEAD_BYTES <= SMALL;
            *outgoing = if is_small { self.buffers.small() } else { self.buffers.large() };
        }
        session.encrypt(plain, outgoing).map_err(error)
    }
}

impl Outflow for TlsWrite {
    async fn write_all(&mut self, buffer: Vec<u8>, progressed: impl Fn()) -> (io::Result<()>, Vec<u8>) {
        if let Err(error) = self.seal(&buffer) {
            return (Err(error), buffer);
        }
        (self.flush(progressed).await, buffer)
    }

    async fn shutdown(&mut self) {
        {
            let mut tls = self.tls.borrow_mut();
            let Tls { session, outgoing } = &mut *tls;
            session.end_writing(outgoing);
        }
        // The upstream may be gone already, which is as good.
        let _ = self.flush(|| {}).await;
        self.half.shutdown().await;
    }
}

fn error(failure: UpstreamTlsFailure) -> io::Error {
    io::Error::other(failure)
}

/// What of TLS has failed, if that is what happened.
pub(super) fn failure_in(error: &io::Error) -> Option<&UpstreamTlsFailure> {
    let cause = error.get_ref()?;
    match cause.downcast_ref::<Shared>() {
        Some(shared) => shared.cause().get_ref()?.downcast_ref(),
        None => cause.downcast_ref(),
    }
}
