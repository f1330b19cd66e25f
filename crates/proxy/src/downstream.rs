//! The client's side of a connection: TLS records to plaintext and back, on buffers that are held only while bytes move.
//!
//! Knows nothing of HTTP. Reading and writing are separate borrows ([`Downstream::split`]), so that a response can be sent
//! while the request's body still arrives; they share the TLS session, and records leave in the order in which they were made.

use std::{cell::RefCell, io, mem, net::SocketAddr, rc::Rc};

use ringward_tls::{ServerSession, SessionError};

use crate::io::{
    BUSY_MILLIS, BufferPool, Deadline, LARGE, ReadHalf, SMALL, Shut, Stream, WriteHalf, is_called_off,
};

/// A TLS connection to a client.
pub(crate) struct Downstream {
    // Declared before the stream: the entry in the table of deadlines must end before the descriptor is closed.
    pub(crate) deadline: Rc<Deadline>,
    stream: Stream,
    tls: RefCell<Tls>,
    input: Input,
    buffers: Rc<BufferPool>,
    pace: Pace,
}

/// How the client has been sending.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pace {
    /// Nothing yet. The first request follows the handshake at once and says nothing about a second one.
    New,
    /// With pauses.
    Slow,
    /// Without.
    Busy,
}

struct Tls {
    session: ServerSession,
    /// Records that were made and not yet sent.
    outgoing: Vec<u8>,
}

/// What arrived.
#[derive(Default)]
struct Input {
    /// Records that are not processed yet; the last may be incomplete.
    raw: Vec<u8>,
    /// Plaintext; the first `taken` bytes are used up.
    plain: Vec<u8>,
    taken: usize,
    /// The client has said that it sends no more. It can still be answered.
    ended: bool,
}

/// Nothing more can be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    /// The client closed, or its deadline fired, which [`Deadline::fired`] tells.
    #[error("closed")]
    Closed,
    /// The socket failed.
    #[error("{0}")]
    Io(io::Error),
    /// A record was not acceptable; the alert waits to be flushed.
    #[error("{0}")]
    Tls(#[from] SessionError),
}

impl Downstream {
    /// A connection whose ClientHello (and whatever came with it) is in `raw`.
    pub(crate) fn new(
        stream: Stream,
        deadline: Rc<Deadline>,
        session: ServerSession,
        raw: Vec<u8>,
        buffers: Rc<BufferPool>,
    ) -> Downstream {
        let input = Input { raw, ..Input::default() };
        let tls = RefCell::new(Tls { session, outgoing: Vec::new() });
        Downstream { deadline, stream, tls, input, buffers, pace: Pace::New }
    }

    /// Runs the handshake to its end.
    ///
    /// # Errors
    /// As [`Downstream::fill`]; the alert, if any, has been sent.
    pub(crate) async fn handshake(&mut self) -> Result<(), ReadError> {
        loop {
            let processed = self.reader().process();
            let complete = !self.tls.borrow().session.is_handshaking();
            if complete && matches!(processed, Ok(true)) {
                // A request came with the client's last flight. What is there to send, a session ticket, leaves with the answer.
                return Ok(());
            }
            // The alert of a failed handshake, or our flight.
            let flushed = self.flush().await;
            processed?;
            flushed.map_err(ReadError::Io)?;
            if complete {
                return Ok(());
            }
            self.reader().read(SMALL).await?;
        }
    }

    /// The address that the client connected to; `None` if it cannot be told any more.
    pub(crate) fn local_addr(&mut self) -> Option<SocketAddr> {
        self.stream.local_addr()
    }

    /// The session, for what was negotiated and who the peer is.
    pub(crate) fn with_session<T>(&self, look: impl FnOnce(&ServerSession) -> T) -> T {
        look(&self.tls.borrow().session)
    }

    /// Plaintext that is there.
    pub(crate) fn buffered(&self) -> &[u8] {
        self.input.buffered()
    }

    /// Uses up the first `n` bytes of [`Downstream::buffered`].
    pub(crate) fn consume(&mut self, n: usize) {
        self.input.consume(n);
    }

    /// Waits until there is more plaintext than before, read in steps of at least `step` bytes.
    ///
    /// # Errors
    /// At the end of the stream, and when nothing more can come.
    pub(crate) async fn fill(&mut self, step: usize) -> Result<(), ReadError> {
        loop {
            let progressed = self.reader().process();
            // A key update to answer, or an alert.
            let flushed = self.flush().await;
            if progressed? {
                return Ok(());
            }
            flushed.map_err(ReadError::Io)?;
            self.reader().read(step).await?;
        }
    }

    /// Waits for the first byte of something.
    ///
    /// A client that did not pause long between its last two requests probably will not now, so its connection waits with a
    /// read in flight, which saves an operation. Any other one waits for readiness and holds no buffer, and so does a busy one
    /// that has come to rest.
    ///
    /// # Errors
    /// As [`Downstream::fill`].
    pub(crate) async fn wait(&mut self) -> Result<(), ReadError> {
        self.release();
        let began = self.deadline.now();
        if self.input.raw.is_empty() && !self.input.ended && !(self.is_busy() && self.read_briefly().await?) {
            self.stream.readable().await;
        }
        let filled = self.fill(SMALL).await;
        let waited = self.deadline.now() - began;
        self.pace = if self.pace != Pace::New && waited < BUSY_MILLIS { Pace::Busy } else { Pace::Slow };
        filled
    }

    /// Whether the client has been sending without pauses.
    pub(crate) fn is_busy(&self) -> bool {
        self.pace == Pace::Busy
    }

    /// Whether something arrived soon.
    async fn read_briefly(&mut self) -> Result<bool, ReadError> {
        let (result, raw) = self
            .stream
            .read
            .read_briefly(self.buffers.small(), usize::MAX, &self.deadline, BUSY_MILLIS)
            .await;
        self.input.raw = raw;
        match result {
            Ok(0) => Err(ReadError::Closed),
            Ok(_) => Ok(true),
            Err(error) if is_called_off(&error) => {
                self.release();
                Ok(false)
            }
            Err(error) => Err(ReadError::Io(error)),
        }
    }

    /// Gives unused buffers back.
    pub(crate) fn release(&mut self) {
        let Input { raw, plain, .. } = &mut self.input;
        for buffer in [raw, plain] {
            if buffer.is_empty() && buffer.capacity() > 0 {
                self.buffers.put(mem::take(buffer));
            }
        }
    }

    /// Encrypts and sends.
    pub(crate) async fn send(&mut self, plain: &[u8]) -> io::Result<()> {
        self.split().1.send(plain, || {}).await
    }

    /// The two directions.
    pub(crate) fn split(&mut self) -> (Reader<'_>, Writer<'_>) {
        let Downstream { stream, tls, input, buffers, .. } = self;
        (
            Reader { half: &mut stream.read, tls, input, buffers },
            Writer { half: &mut stream.write, tls, buffers },
        )
    }

    /// Says goodbye and ends the stream towards the client.
    pub(crate) async fn close(&mut self) {
        self.deadline.set(CLOSE_MILLIS, Shut::Both);
        let last = {
            let mut tls = self.tls.borrow_mut();
            let Tls { session, outgoing } = &mut *tls;
            session.close_notify(outgoing);
            mem::take(outgoing)
        };
        self.buffers.put(self.stream.end_with(last).await);
    }

    /// After [`Downstream::close`]: takes what the client still sends, unread, for a short while. Closing a socket with unread
    /// bytes in its queue resets the connection, and the reset can overtake the response that says why.
    pub(crate) async fn linger(&mut self) {
        self.deadline.set(LINGER_MILLIS, Shut::Both);
        self.input.raw.clear();
        self.input.plain.clear();
        self.release();
        loop {
            let (result, buffer) = self.stream.read.read(self.buffers.small(), usize::MAX).await;
            self.buffers.put(buffer);
            if !matches!(result, Ok(1..)) {
                return;
            }
        }
    }

    fn reader(&mut self) -> Reader<'_> {
        self.split().0
    }

    async fn flush(&mut self) -> io::Result<()> {
        self.split().1.flush(|| {}).await
    }
}

impl Drop for Downstream {
    fn drop(&mut self) {
        // Streams of HTTP/2 may hold the entry for a moment longer than the socket is open.
        self.deadline.retire();
    }
}

impl Input {
    fn buffered(&self) -> &[u8] {
        &self.plain[self.taken..]
    }

    fn consume(&mut self, n: usize) {
        self.taken += n;
        debug_assert!(self.taken <= self.plain.len());
        if self.taken == self.plain.len() {
            self.taken = 0;
            self.plain.clear();
            if self.plain.capacity() > PLAIN_KEPT_MAX {
                self.plain = Vec::new();
            }
        }
    }

    /// Forgets what is used up.
    fn compact(&mut self) {
        if self.taken > 0 {
            // Else a client whose bytes never end with a request would be kept whole, for as long as it sends.
            self.plain.drain(..mem::take(&mut self.taken));
            if self.plain.capacity() > PLAIN_KEPT_MAX {
                self.plain.shrink_to(LARGE);
            }
        }
    }
}

/// The receiving direction.
pub(crate) struct Reader<'a> {
    half: &'a mut ReadHalf,
    tls: &'a RefCell<Tls>,
    input: &'a mut Input,
    buffers: &'a BufferPool,
}

impl Reader<'_> {
    /// As [`Downstream::buffered`].
    pub(crate) fn buffered(&self) -> &[u8] {
        self.input.buffered()
    }

    /// As [`Downstream::consume`].
    pub(crate) fn consume(&mut self, n: usize) {
        self.input.consume(n);
    }

    /// The client has said that it sends no more, as opposed to a connection that broke off.
    pub(crate) fn has_ended(&self) -> bool {
        self.input.ended
    }

    /// Bytes of plaintext in memory: those that are used up stay there as long as others follow them.
    pub(crate) fn held(&self) -> usize {
        self.input.plain.len()
    }

    /// Buffered plaintext as a buffer of its own, up to `max` bytes; of what is behind them and of them the less is copied.
    pub(crate) fn take_buffer(&mut self, max: usize) -> Vec<u8> {
        let available = self.buffered().len();
        if self.input.taken == 0 && available <= max {
            return mem::take(&mut self.input.plain);
        }
        if self.input.taken == 0 && available - max < max {
            let mut rest = if available - max > SMALL { self.buffers.large() } else { self.buffers.small() };
            rest.extend_from_slice(&self.buffered()[max..]);
            let mut taken = mem::replace(&mut self.input.plain, rest);
            taken.truncate(max);
            return taken;
        }
        let mut taken = self.buffers.large();
        let n = available.min(max);
        taken.extend_from_slice(&self.buffered()[..n]);
        self.consume(n);
        taken
    }

    /// As [`Downstream::fill`], in large steps. What has to be sent meanwhile (the answer to a key update, an alert) leaves
    /// with the next [`Writer::send`].
    pub(crate) async fn fill(&mut self) -> Result<(), ReadError> {
        while !self.process()? {
            self.read(LARGE).await?;
        }
        Ok(())
    }

    /// As [`Reader::fill`], but for a client that may have nothing to say for long: after a short while without a byte the wait
    /// goes on with a buffer that has room for a small request and no more. The read in flight can be ended, after which nothing
    /// is lost, with [`Deadline::call_off`].
    pub(crate) async fn fill_or_rest(&mut self, deadline: &Deadline) -> Result<(), ReadError> {
        self.fill_by_or_rest(SMALL, deadline).await
    }

    /// The same for a client that has just been sending, read in steps of `step` bytes until it pauses.
    pub(crate) async fn fill_by_or_rest(
        &mut self,
        step: usize,
        deadline: &Deadline,
    ) -> Result<(), ReadError> {
        while !self.process()? {
            let (capacity, millis) =
                if self.input.raw.is_empty() { (step, BUSY_MILLIS) } else { (LARGE, UNBOUNDED_MILLIS) };
            let raw = self.with_room(capacity)?;
            let (result, raw) = self.half.read_briefly(raw, usize::MAX, deadline, millis).await;
            // Not by [`ReadHalf::read_or_rest`], whose state every connection would have room for.
            let (result, raw) = match result {
                Err(error) if is_called_off(&error) && millis == BUSY_MILLIS => {
                    self.buffers.put(raw);
                    let raw = Vec::with_capacity(REST_BYTES);
                    self.half.read_briefly(raw, usize::MAX, deadline, UNBOUNDED_MILLIS).await
                }
                result => (result, raw),
            };
            self.input.raw = raw;
            match result {
                Ok(0) => return Err(ReadError::Closed),
                Ok(_) => {}
                Err(e) => return Err(ReadError::Io(e)),
            }
        }
        if self.input.raw.is_empty() {
            self.buffers.put(mem::take(&mut self.input.raw));
        }
        Ok(())
    }

    /// Processes the records that are there; whether that gave plaintext.
    fn process(&mut self) -> Result<bool, ReadError> {
        self.input.compact();
        let Input { raw, plain, ended, .. } = &mut *self.input;
        if *ended {
            return Err(ReadError::Closed);
        }
        if raw.is_empty() {
            return Ok(false);
        }
        if plain.capacity() == 0 {
            *plain = if raw.len() > SMALL { self.buffers.large() } else { self.buffers.small() };
        }
        let before = plain.len();
        let mut tls = self.tls.borrow_mut();
        let Tls { session, outgoing } = &mut *tls;
        let progress = session.process(raw, plain, outgoing)?;
        if progress.consumed == raw.len() {
            raw.clear();
        } else {
            raw.drain(..progress.consumed);
        }
        *ended = progress.peer_closed;
        match plain.len() > before {
            true => Ok(true),
            false if *ended => Err(ReadError::Closed),
            false => Ok(false),
        }
    }

    /// Reads more records into a buffer of at least `capacity` bytes.
    async fn read(&mut self, capacity: usize) -> Result<(), ReadError> {
        let raw = self.with_room(capacity)?;
        let (result, raw) = self.half.read(raw, usize::MAX).await;
        self.input.raw = raw;
        match result {
            Ok(0) => Err(ReadError::Closed),
            Ok(_) => Ok(()),
            Err(e) => Err(ReadError::Io(e)),
        }
    }

    /// The raw buffer, with what it holds and room for more.
    fn with_room(&mut self, capacity: usize) -> Result<Vec<u8>, ReadError> {
        self.buffers.with_room(mem::take(&mut self.input.raw), capacity).ok_or_else(|| {
            // The session refuses what does not fit, so this is a fault of ours, which ends this connection only.
            ReadError::Io(io::Error::new(io::ErrorKind::InvalidData, "a TLS message is too large"))
        })
    }
}

/// The sending direction.
pub(crate) struct Writer<'a> {
    half: &'a mut WriteHalf,
    tls: &'a RefCell<Tls>,
    buffers: &'a BufferPool,
}

impl Writer<'_> {
    /// Encrypts and sends; `progressed` as in [`WriteHalf::write_all`].
    pub(crate) async fn send(&mut self, plain: &[u8], progressed: impl Fn()) -> io::Result<()> {
        {
            let mut tls = self.tls.borrow_mut();
            let Tls { session, outgoing } = &mut *tls;
            if outgoing.capacity() == 0 {
                *outgoing = if plain.len() > SMALL - RECORD_OVERHEAD {
                    self.buffers.large()
                } else {
                    self.buffers.small()
                };
            }
            session.encrypt(plain, outgoing).map_err(io::Error::other)?;
        }
        self.flush(progressed).await
    }

    /// Tells the client that nothing more is sent, on both layers; reading goes on.
    pub(crate) async fn end(&mut self) -> io::Result<()> {
        {
            let mut tls = self.tls.borrow_mut();
            let Tls { session, outgoing } = &mut *tls;
            session.end_writing(outgoing);
        }
        self.flush(|| {}).await?;
        self.half.shutdown().await;
        Ok(())
    }

    async fn flush(&mut self, progressed: impl Fn()) -> io::Result<()> {
        let outgoing = mem::take(&mut self.tls.borrow_mut().outgoing);
        if outgoing.is_empty() {
            return Ok(());
        }
        let (result, outgoing) = self.half.write_all(outgoing, progressed).await;
        self.buffers.put(outgoing);
        result
    }
}

/// Plaintext that needed more room than this goes back to the allocator once it is used up. No buffer of the pool is larger, so
/// that this happens only after bytes were collected, and never to a body that streams.
const PLAIN_KEPT_MAX: usize = 4 * LARGE;
/// What a connection reads into that has come to rest: the head of a usual request of HTTP/2, in its record.
const REST_BYTES: usize = 1024;
/// Header, content type and tag of a TLS 1.3 record (RFC 8446 §5.2).
const RECORD_OVERHEAD: usize = 5 + 1 + 16;
/// A wait that others bound.
const UNBOUNDED_MILLIS: u64 = u64::MAX;
/// How long the goodbye may take.
const CLOSE_MILLIS: u64 = 1000;
/// How long a client may go on sending after its connection was ended.
const LINGER_MILLIS: u64 = 2000;
