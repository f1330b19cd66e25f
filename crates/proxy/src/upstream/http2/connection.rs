//! One connection to an upstream, from its preface to its end, in a task of its own.

use std::{
    cell::{Cell, RefCell},
    future::{Future, poll_fn},
    io,
    net::SocketAddr,
    pin::{Pin, pin},
    rc::{Rc, Weak},
    task::{Context, Poll, Waker},
    time::Duration,
};

use h2::{
    Ping, PingPong, Reason,
    client::{Builder, Connection as Protocol, SendRequest},
};
use ringward_http::{FrameMeter, HeadError};

use super::{
    Terms,
    pool::{Lease, Opening, SharedPool},
};
use crate::{
    downstream::ReadError,
    error::ProxyError,
    h2::{ByteSink, ByteSource, Piece, Socket, Wire, receive, transmit},
    io::{BULK, BufferPool, Deadline, LARGE, ReadHalf, Shut, Stream, WriteHalf, is_called_off},
    upstream::millis,
    worker::Worker,
};

/// What a connection shares with its pool and its streams.
pub(super) struct Link {
    pub(super) addr: SocketAddr,
    number: Cell<u64>,
    /// `None` once no more requests are to be sent here.
    sender: RefCell<Option<SendRequest<Piece>>>,
    /// How many streams the upstream allows at once.
    limit: Cell<usize>,
    running: Cell<usize>,
    /// It has carried a request.
    used: Cell<bool>,
    /// A request has timed out, and nothing has arrived since.
    suspected: Cell<bool>,
    idle_timeout: Cell<Duration>,
    ended: RefCell<Option<Ended>>,
    /// The connection's task.
    waker: RefCell<Option<Waker>>,
    pool: Weak<SharedPool>,
    pub(super) wire: Rc<Wire>,
}

/// Why a connection has ended with streams on it.
#[derive(Debug)]
enum Ended {
    /// The upstream closed.
    Closed,
    Io(io::ErrorKind),
    /// It does not answer, or takes no bytes.
    Silent,
    /// The upstream said why.
    GoAway(Reason),
    /// The upstream broke the rules.
    Broken(String),
}

impl Link {
    fn new(
        sender: SendRequest<Piece>,
        addr: SocketAddr,
        idle_timeout: Duration,
        pool: Weak<SharedPool>,
        wire: Rc<Wire>,
    ) -> Link {
        Link {
            addr,
            number: Cell::new(0),
            sender: RefCell::new(Some(sender)),
            limit: Cell::new(0),
            running: Cell::new(0),
            used: Cell::new(false),
            suspected: Cell::new(false),
            idle_timeout: Cell::new(idle_timeout),
            ended: RefCell::default(),
            waker: RefCell::default(),
            pool,
            wire,
        }
    }

    pub(super) fn number(&self) -> u64 {
        self.number.get()
    }

    pub(super) fn enter(&self, number: u64) {
        self.number.set(number);
    }

    pub(super) fn limit(&self) -> usize {
        self.limit.get()
    }

    pub(super) fn is_idle(&self) -> bool {
        self.running.get() == 0
    }

    pub(super) fn has_room(&self, streams_max: usize) -> bool {
        let has_place = !self.suspected.get() && self.running.get() < streams_max.min(self.limit.get());
        // That the upstream has gone may not have been read yet. The look costs a system call, and only narrows the race.
        has_place && !(self.is_idle() && self.wire.deadline.hung_up())
    }

    pub(super) fn lease(self: &Rc<Self>, idle_timeout: Duration) -> Lease {
        self.idle_timeout.set(idle_timeout);
        self.running.set(self.running.get() + 1);
        Lease { link: self.clone(), reused: self.used.replace(true) }
    }

    pub(super) fn release(&self) {
        self.running.set(self.running.get() - 1);
        self.wire.meter.borrow_mut().served();
        if self.sender.borrow().is_some()
            && let Some(pool) = self.pool.upgrade()
        {
            pool.call(1);
        }
        if self.is_idle() {
            self.wake();
        }
    }

    /// How many places the upstream allows at once has changed, or that it is there at all.
    fn call(&self) {
        if let Some(pool) = self.pool.upgrade() {
            pool.call(self.limit.get().saturating_sub(self.running.get()));
        }
    }

    /// For one request.
    pub(super) fn sender(&self) -> Option<SendRequest<Piece>> {
        self.sender.borrow().clone()
    }

    /// A request has timed out: whether the upstream is there at all is found out before another is sent here.
    pub(super) fn suspect(&self) {
        self.suspected.set(true);
        self.wake();
    }

    /// No more requests are to be sent here.
    pub(super) fn retire(&self) {
        self.sender.take();
        self.wake();
    }

    fn wake(&self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// What an error of the crate means.
    pub(super) fn failure(&self, error: h2::Error) -> ProxyError {
        let reason = error.reason().unwrap_or(Reason::INTERNAL_ERROR);
        if error.is_remote() {
            // RFC 9113 §8.7: the upstream promises that it has done nothing about it.
            return match error.is_go_away() || reason == Reason::REFUSED_STREAM {
                true => ProxyError::UpstreamUnprocessed(reason),
                false => ProxyError::UpstreamStreamReset(reason),
            };
        }
        if error.is_library() {
            return match error.is_reset() && reason == Reason::REFUSED_STREAM {
                // What the crate says of a head that is larger than announced.
                true => {
                    ProxyError::UpstreamHead(HeadError::TooLarge { bytes_max: HEAD_LIST_BYTES_MAX }.into())
                }
                false => ProxyError::UpstreamProtocol(reason.to_string()),
            };
        }
        match &*self.ended.borrow() {
            Some(ended) => ended.error(),
            None => ProxyError::UpstreamClosed,
        }
    }
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link")
            .field("addr", &self.addr)
            .field("running", &self.running)
            .finish_non_exhaustive()
    }
}

impl Ended {
    /// For a stream that had no part in it.
    fn error(&self) -> ProxyError {
        match self {
            Ended::Closed => ProxyError::UpstreamClosed,
            Ended::Io(kind) => ProxyError::UpstreamReset((*kind).into()),
            Ended::Silent => ProxyError::UpstreamReset(io::Error::new(
                io::ErrorKind::TimedOut,
                "it does not answer on this connection any more",
            )),
            Ended::GoAway(reason) => {
                ProxyError::UpstreamReset(io::Error::other(format!("it ended the connection: {reason}")))
            }
            Ended::Broken(how) => ProxyError::UpstreamProtocol(how.clone()),
        }
    }

    /// For a connection that has not come to be.
    fn before_settings(&self) -> io::Error {
        match self {
            Ended::Io(kind) => (*kind).into(),
            Ended::Silent => {
                io::Error::new(io::ErrorKind::TimedOut, "it sends no settings of HTTP/2: does it speak that?")
            }
            Ended::Closed => io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "it closed instead of speaking HTTP/2: is `protocol` right?",
            ),
            Ended::GoAway(reason) => io::Error::other(format!("it ended the connection at once: {reason}")),
            Ended::Broken(how) => io::Error::new(
                io::ErrorKind::InvalidData,
                format!("it does not speak HTTP/2 ({how}): is `protocol` right?"),
            ),
        }
    }
}

/// Opens a connection and serves it to its end.
pub(super) async fn run(opening: Opening, addr: SocketAddr, terms: Terms, worker: Rc<Worker>) {
    let stream = match Stream::connect(addr, terms.connect_timeout).await {
        Ok(stream) => stream,
        Err(error) => return opening.failed(&error),
    };
    worker.shard.upstream_connection_opened(terms.cluster);
    let mut socket = OwnSocket { deadline: Rc::new(worker.deadlines.register(stream.fd())), stream };
    let meter = FrameMeter::of_server(HEAD_LIST_BYTES_MAX, terms.streams_max, worker.deadlines.now());
    let wire = Rc::new(Wire::new(meter, socket.deadline.clone(), worker.buffers.clone()));
    let (sender, protocol) = match builder(&terms).handshake(Socket(wire.clone())).await {
        Ok(handed) => handed,
        Err(error) => return opening.failed(&io::Error::other(error)),
    };
    let link = Rc::new(Link::new(sender, addr, terms.idle_timeout, opening.pool(), wire.clone()));
    let course = Course::new(link.clone(), opening, Box::new(protocol), terms, worker.deadlines.timer());
    let halves = (&mut socket.stream.read, &mut socket.stream.write);
    let is_whole = drive(course, &link, halves, &worker.buffers).await;
    if is_whole {
        socket.deadline.set(CLOSE_MILLIS, Shut::Both);
        socket.stream.end_with(Vec::new()).await;
    }
}

fn builder(terms: &Terms) -> Builder {
    let streams = u32::try_from(terms.streams_max).unwrap_or(u32::MAX);
    let mut builder = Builder::new();
    builder
        .enable_push(false)
        // No request before the upstream's settings: until then it allows none.
        .initial_max_send_streams(0)
        .max_header_list_size(u32::try_from(HEAD_LIST_BYTES_MAX).unwrap_or(u32::MAX))
        .initial_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(STREAM_WINDOW_BYTES.saturating_mul(streams).min(WINDOW_BYTES_MAX))
        .max_send_buffer_size(SEND_BYTES_MAX)
        .max_concurrent_reset_streams(terms.streams_max)
        .reset_stream_duration(RESET_REMEMBERED);
    builder
}

/// Runs the connection; whether all that was to be said has left.
async fn drive(
    mut course: Course,
    link: &Rc<Link>,
    (read, write): (&mut ReadHalf, &mut WriteHalf),
    buffers: &BufferPool,
) -> bool {
    let wire = &*link.wire;
    let mut source = Incoming { half: read, buffers, is_busy: false };
    let mut sink = Outgoing(write);
    let mut received = pin!(receive(wire, &mut source));
    let mut transmitted = pin!(transmit(wire, &mut sink, millis(STALL_MAX)));
    let mut may_receive = true;
    poll_fn(|cx| {
        link.waker.replace(Some(cx.waker().clone()));
        loop {
            if may_receive && let Poll::Ready(error) = received.as_mut().poll(cx) {
                may_receive = false;
                course.input_ended(&error);
            }
            course.poll(cx);
            if let Poll::Ready(error) = transmitted.as_mut().poll(cx) {
                course.end(if wire.deadline.fired() { Ended::Silent } else { Ended::Io(error.kind()) });
                return Poll::Ready(false);
            }
            if course.is_over() && wire.is_sent() {
                return Poll::Ready(true);
            }
            if !wire.has_moved() {
                return Poll::Pending;
            }
        }
    })
    .await
    // A read may be in flight, and is dropped with `received`: nothing is read after this.
}

/// The protocol's side of the connection.
struct Course {
    /// `None` once it is over.
    protocol: Option<Box<Protocol<Socket, Piece>>>,
    link: Rc<Link>,
    terms: Terms,
    /// Until the upstream's settings are there.
    opening: Option<Opening>,
    waits: Waits,
    timer: Deadline,
    ping: Option<PingPong>,
}

/// What bounds the time until the upstream's next bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waits {
    /// Not known yet.
    Unset,
    /// Its settings are missing.
    Settings,
    /// Nothing is in work.
    Idle,
    /// Streams are in work, and have deadlines of their own.
    Streams,
    /// It was asked whether it is there.
    Answer,
}

impl Course {
    fn new(
        link: Rc<Link>,
        opening: Opening,
        mut protocol: Box<Protocol<Socket, Piece>>,
        terms: Terms,
        timer: Deadline,
    ) -> Course {
        let ping = protocol.ping_pong();
        let (protocol, opening) = (Some(protocol), Some(opening));
        Course { protocol, link, terms, opening, waits: Waits::Unset, timer, ping }
    }

    fn is_over(&self) -> bool {
        self.protocol.is_none()
    }

    /// Ends the connection; streams on it learn why.
    fn end(&mut self, ended: Ended) {
        if self.is_over() {
            return;
        }
        if let Some(opening) = self.opening.take() {
            opening.failed(&ended.before_settings());
        }
        self.link.ended.borrow_mut().get_or_insert(ended);
        self.link.sender.take();
        if let Some(pool) = self.link.pool.upgrade() {
            pool.remove(&self.link);
        }
        self.protocol = None;
    }

    /// Nothing more can be read.
    fn input_ended(&mut self, error: &ReadError) {
        let ended = match error {
            ReadError::Closed if self.link.wire.deadline.fired() => Ended::Silent,
            ReadError::Io(error) => Ended::Io(error.kind()),
            ReadError::Closed | ReadError::Tls(_) => Ended::Closed,
        };
        self.link.ended.borrow_mut().get_or_insert(ended);
        // What has arrived before counts.
        self.link.wire.end_input();
    }

    /// Goes on as far as it can.
    fn poll(&mut self, cx: &mut Context<'_>) {
        if let Some(flood) = self.link.wire.flood() {
            return self.end(Ended::Broken(format!("a flood of frames ({flood:?})")));
        }
        self.poll_protocol(cx);
        if self.bound_wait(cx) {
            // It has something to say now.
            self.poll_protocol(cx);
        }
    }

    fn poll_protocol(&mut self, cx: &mut Context<'_>) {
        let Some(protocol) = &mut self.protocol else { return };
        let polled = Pin::new(&mut **protocol).poll(cx);
        let limit = protocol.max_concurrent_send_streams();
        if self.link.limit.replace(limit) < limit && self.opening.is_none() {
            self.link.call();
        }
        match polled {
            Poll::Ready(Ok(())) => return self.end(Ended::Closed),
            Poll::Ready(Err(error)) => return self.failed(&error),
            Poll::Pending => {}
        }
        if self.link.limit() > 0
            && let Some(opening) = self.opening.take()
        {
            opening.opened(&self.link);
        }
        self.leave_if_told(cx);
    }

    /// Takes no more requests once the upstream has said GOAWAY.
    fn leave_if_told(&mut self, cx: &mut Context<'_>) {
        let mut sender = self.link.sender.borrow_mut();
        let is_told =
            sender.as_mut().is_some_and(|sender| matches!(sender.poll_ready(cx), Poll::Ready(Err(_))));
        if is_told {
            *sender = None;
            drop(sender);
            self.leave();
        }
    }

    fn leave(&mut self) {
        self.link.sender.take();
        if let Some(pool) = self.link.pool.upgrade() {
            pool.remove(&self.link);
        }
    }

    /// Sets the time that suits what the upstream is expected to do, and sees to it when it is over. Whether there is something
    /// to say.
    fn bound_wait(&mut self, cx: &mut Context<'_>) -> bool {
        if self.is_over() {
            return false;
        }
        let Link { running, suspected, wire, idle_timeout, .. } = &*self.link;
        let heard = wire.has_heard();
        if heard && suspected.replace(false) {
            self.link.call();
        }
        if let Some(ping) = &mut self.ping {
            // Any byte is an answer; this one has to be taken so that another ping can be sent.
            let _ = ping.poll_pong(cx);
        }
        let waits = match running.get() {
            _ if self.opening.is_some() => Waits::Settings,
            _ if suspected.get() => Waits::Answer,
            0 => Waits::Idle,
            _ if self.waits == Waits::Answer && !heard => Waits::Answer,
            _ => Waits::Streams,
        };
        if waits != self.waits || heard && waits == Waits::Streams {
            let limit = match waits {
                Waits::Unset | Waits::Settings | Waits::Answer => self.terms.connect_timeout,
                Waits::Idle => idle_timeout.get(),
                Waits::Streams => SILENCE_MAX,
            };
            self.timer.rearm();
            self.timer.set(millis(limit), Shut::Read);
            if self.enter(waits) {
                let _ = self.timer.poll_fired(cx);
                return true;
            }
        }
        self.timer.poll_fired(cx).is_ready() && self.expire(cx)
    }

    /// What is to be done when another wait begins; whether there is something to say.
    fn enter(&mut self, waits: Waits) -> bool {
        self.waits = waits;
        match waits {
            Waits::Answer => {
                if let Some(ping) = &mut self.ping {
                    // Nothing can be asked while an earlier answer is missing, and then that is what is waited for.
                    let _ = ping.send_ping(Ping::opaque());
                }
                true
            }
            Waits::Idle => {
                let pool = self.link.pool.upgrade();
                // One that was just opened is about to be used.
                let is_surplus =
                    pool.is_none_or(|pool| self.link.used.get() && pool.idle() > self.terms.idle_max);
                if is_surplus {
                    self.leave();
                }
                is_surplus
            }
            _ => false,
        }
    }

    /// A wait has lasted too long; whether there is something to say.
    fn expire(&mut self, cx: &mut Context<'_>) -> bool {
        match self.waits {
            Waits::Settings | Waits::Answer | Waits::Unset => {
                self.end(Ended::Silent);
                false
            }
            Waits::Idle => {
                self.leave();
                self.timer.rearm();
                self.timer.clear();
                true
            }
            Waits::Streams => {
                self.timer.rearm();
                self.timer.set(millis(self.terms.connect_timeout), Shut::Read);
                let _ = self.timer.poll_fired(cx);
                self.enter(Waits::Answer)
            }
        }
    }

    fn failed(&mut self, error: &h2::Error) {
        let ended = match error.reason() {
            Some(reason) if error.is_remote() => Ended::GoAway(reason),
            Some(reason) => Ended::Broken(reason.to_string()),
            None => Ended::Closed,
        };
        self.end(ended);
    }
}

/// Reads without TLS.
struct Incoming<'a> {
    half: &'a mut ReadHalf,
    buffers: &'a BufferPool,
    /// The last read has filled its buffer.
    is_busy: bool,
}

impl ByteSource for Incoming<'_> {
    async fn next(&mut self, deadline: &Deadline) -> Result<Vec<u8>, ReadError> {
        let buffer = if self.is_busy { self.buffers.large() } else { self.buffers.small() };
        let (result, buffer) = match self.half.read_briefly(buffer, usize::MAX, deadline, BUSY_MILLIS).await {
            (Err(error), buffer) if is_called_off(&error) => {
                self.buffers.put(buffer);
                self.half.read(Vec::with_capacity(REST_BYTES), usize::MAX).await
            }
            read => read,
        };
        self.is_busy = buffer.len() == buffer.capacity() || buffer.len() > LARGE / 2;
        match result {
            Ok(0) => Err(ReadError::Closed),
            Ok(_) => Ok(buffer),
            Err(error) => Err(ReadError::Io(error)),
        }
    }
}

/// Writes without TLS.
struct Outgoing<'a>(&'a mut WriteHalf);

impl ByteSink for Outgoing<'_> {
    async fn send(&mut self, bytes: Vec<u8>, progressed: impl Fn()) -> (io::Result<()>, Vec<u8>) {
        self.0.write_all(bytes, progressed).await
    }
}

/// The socket with its entry in the table of deadlines.
struct OwnSocket {
    deadline: Rc<Deadline>,
    stream: Stream,
}

impl Drop for OwnSocket {
    fn drop(&mut self) {
        // Streams may hold the entry for a moment longer than the socket is open.
        self.deadline.retire();
    }
}

/// What of a response waits in memory for its client: RFC 9113 §6.9.2's default. The connection's window is as large as those of
/// all streams together.
const STREAM_WINDOW_BYTES: u32 = 65_535;
/// RFC 9113 §6.9.1.
const WINDOW_BYTES_MAX: u32 = (1 << 31) - 1;
/// What of a request waits in memory, per stream, for the connection to take it.
const SEND_BYTES_MAX: usize = BULK;
/// The largest head that any listener's limits could allow, by its announced size: an entry counts 32 bytes and what it has. What
/// a listener allows is looked at afterwards.
const HEAD_LIST_BYTES_MAX: usize = (1 << 20) + 32 * 1000;
/// For so long frames are expected that the upstream sent before it knew that we had called a stream off.
const RESET_REMEMBERED: Duration = Duration::from_secs(10);
/// An upstream that is silent for longer, with streams in work, is asked whether it is there. Servers of gRPC take more than a
/// ping in five minutes for an attack.
const SILENCE_MAX: Duration = Duration::from_secs(301);
/// An upstream that takes no bytes at all for longer is gone.
const STALL_MAX: Duration = Duration::from_secs(60);
/// A shorter pause than this between two reads is none.
const BUSY_MILLIS: u64 = 250;
/// What a connection reads into that has come to rest.
const REST_BYTES: usize = 2048;
/// How long the goodbye may take.
const CLOSE_MILLIS: u64 = 1000;
