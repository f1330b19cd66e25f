//! A connection of HTTP/2 from its preface to its end.

use std::{
    cell::{Cell, RefCell},
    future::{Future, poll_fn},
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll, Waker},
};

use h2::{
    Ping, PingPong, Reason,
    server::{Builder, Connection as Protocol, Handshake},
};
use ringward_http::FrameMeter;
use ringward_telemetry::CloseReason;

use super::{
    piece::Piece,
    seat::{self, Job},
    wire::{self, Socket, Wire},
};
use crate::{
    client_side::{ClientSide, SessionFacts},
    connection::{Connection, End},
    downstream::{Downstream, ReadError},
    io::{BULK, Deadline, Shut},
    snapshot::Limits,
    upstream::millis,
};

/// What a connection and its streams share.
pub(super) struct Shared {
    pub(super) connection: Rc<Connection>,
    pub(super) session: SessionFacts,
    pub(super) wire: Rc<Wire>,
    pub(super) limits: Limits,
    /// Streams in work.
    running: Cell<usize>,
    /// A stream has ended, or the gate has refused one.
    changed: Cell<bool>,
    ends: Cell<Option<CloseReason>>,
    waker: RefCell<Option<Waker>>,
}

/// Serves a connection whose client wants to speak HTTP/2, to its end, and says how it is to be closed.
pub(crate) async fn run(connection: &Rc<Connection>, downstream: &mut Downstream) -> End {
    let Some(limits) = connection.limits() else { return End::Close(CloseReason::Removed) };
    let worker = &connection.worker;
    let meter = FrameMeter::new(limits.head.head_bytes_max, limits.streams_max, worker.deadlines.now());
    let wire = Rc::new(Wire::new(meter, downstream.deadline.clone(), worker.buffers.clone()));
    let shared = Rc::new(Shared {
        connection: connection.clone(),
        session: downstream.session(),
        wire: wire.clone(),
        running: Cell::new(0),
        changed: Cell::new(true),
        ends: Cell::new(None),
        waker: RefCell::new(None),
        limits,
    });
    let mut course = Course::new(shared.clone(), connection.has_tunnels());
    let (mut reader, mut writer) = downstream.split();
    let mut received = pin!(wire::receive(&wire, &mut reader));
    let mut transmitted = pin!(wire::transmit(&wire, &mut writer, millis(shared.limits.body_timeout)));
    let mut may_receive = true;
    let cut = loop {
        let turn = poll_fn(|cx| {
            shared.waker.replace(Some(cx.waker().clone()));
            course.begin_turn();
            loop {
                if may_receive && let Poll::Ready(error) = received.as_mut().poll(cx) {
                    may_receive = false;
                    course.input_ended(&error);
                }
                course.poll(cx);
                if transmitted.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(Turn::Last { cut: true });
                }
                if course.is_over() && wire.is_sent() {
                    return Poll::Ready(Turn::Last { cut: false });
                }
                if !wire.has_moved() {
                    return if course.is_turn_over() { Poll::Ready(Turn::Over) } else { Poll::Pending };
                }
            }
        });
        match turn.await {
            Turn::Over => worker.turnstile.pass().await,
            Turn::Last { cut } => break cut,
        }
    };
    let reason = course.reason(cut);
    let unserved = wire.meter.borrow().opened().saturating_sub(course.taken);
    worker.shard.streams_unserved(connection.facts.listener, unserved);
    // Streams that still run learn that there is nobody any more.
    drop(course);
    if !cut {
        // The socket may be read once more, to linger. A connection that is cut is not, so its read is just dropped.
        wire::end_reading(&wire, received.as_mut()).await;
    }
    poll_fn(|cx| {
        shared.waker.replace(Some(cx.waker().clone()));
        if shared.running.get() == 0 { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    match reason {
        CloseReason::Io => End::Cut(reason),
        reason if cut => End::Cut(reason),
        // A client that is told off is still sending, and should see why.
        CloseReason::ProtocolError | CloseReason::FrameFlood => End::Linger(reason),
        reason => End::Close(reason),
    }
}

/// How a turn of a connection has ended.
enum Turn {
    /// There may be more to do at once.
    Over,
    /// The connection is at its end; `cut` if not all could be sent.
    Last { cut: bool },
}

/// The protocol's side of the connection.
struct Course {
    state: State,
    shared: Rc<Shared>,
    waits: Waits,
    /// Bounds the client's silence while streams are in work.
    silence: Deadline,
    ping: Option<PingPong>,
    /// How many streams were taken on.
    taken: u64,
    /// How many more are, before others have their turn.
    turn: usize,
    /// The client was asked whether it is there.
    asked: bool,
    /// The client was told that there will be an end.
    told: bool,
    /// Why it ends, once that is known.
    reason: Option<CloseReason>,
}

enum State {
    Opening(Box<Handshake<Socket, Piece>>),
    Open(Box<Protocol<Socket, Piece>>),
    Over,
}

/// What bounds the time until the client's next bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waits {
    /// Not known yet.
    Unset,
    /// Nothing is in work.
    Idle,
    /// A head has begun and not ended.
    Head,
    /// Streams are in work, and have deadlines of their own. A client that is silent is asked whether it is there.
    Streams,
    /// None is in work, but not all that they have to say has left.
    Rest,
}

impl Course {
    fn new(shared: Rc<Shared>, has_tunnels: bool) -> Course {
        let limits = &shared.limits;
        // What is larger than this is larger than our limit, too, which has the say.
        let head_list = limits.head.list_bytes_max();
        let mut builder = Builder::new();
        builder
            .max_concurrent_streams(u32::try_from(limits.streams_max).unwrap_or(u32::MAX))
            .max_header_list_size(u32::try_from(head_list).unwrap_or(u32::MAX))
            .initial_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_send_buffer_size(SEND_BYTES_MAX)
            .max_local_error_reset_streams(Some(PROVOKED_RESETS_MAX));
        if has_tunnels {
            // RFC 8441 §3.
            builder.enable_connect_protocol().data_frame_budget(MESSAGES_BUDGET);
        }
        let opening = builder.handshake(Socket(shared.wire.clone()));
        let silence = shared.connection.worker.deadlines.timer();
        Course {
            state: State::Opening(Box::new(opening)),
            shared,
            waits: Waits::Unset,
            silence,
            ping: None,
            taken: 0,
            turn: 0,
            asked: false,
            told: false,
            reason: None,
        }
    }

    /// Whether the protocol has nothing more to say. Streams may still be in work for nobody.
    fn is_over(&self) -> bool {
        matches!(self.state, State::Over)
    }

    /// Why the connection has ended; `cut` if not all could be sent.
    fn reason(&self, cut: bool) -> CloseReason {
        let ended = || self.shared.connection.standing.outlived();
        match self.reason {
            Some(reason) => reason,
            None if cut && self.shared.wire.deadline.fired() => CloseReason::BodyTimeout,
            None if cut => CloseReason::Io,
            None => self.shared.ends.get().or_else(ended).unwrap_or(CloseReason::Peer),
        }
    }

    /// Nothing more can be read.
    fn input_ended(&mut self, error: &ReadError) {
        let standing = &self.shared.connection.standing;
        let wire = &self.shared.wire;
        match error {
            ReadError::Tls(_) => self.reason = Some(CloseReason::Tls),
            ReadError::Io(_) => self.reason = Some(CloseReason::Io),
            ReadError::Closed if wire.deadline.fired() || standing.live().was_cut().is_some() => {
                // It was us. The client can still be told.
                self.reason = Some(match self.waits {
                    Waits::Head => CloseReason::HeaderTimeout,
                    Waits::Rest => CloseReason::BodyTimeout,
                    // Only what is to be sent is bound by the connection's deadline then.
                    Waits::Streams if wire.deadline.fired() => CloseReason::BodyTimeout,
                    _ => standing.outlived().unwrap_or(CloseReason::IdleTimeout),
                });
                self.stop(Reason::NO_ERROR);
                return;
            }
            ReadError::Closed => self.reason = Some(self.shared.ends.get().unwrap_or(CloseReason::Peer)),
        }
        wire.end_input();
    }

    /// Tells the client that nothing more is served, not even what has begun.
    fn stop(&mut self, reason: Reason) {
        self.told = true;
        match &mut self.state {
            State::Open(protocol) => protocol.abrupt_shutdown(reason),
            _ => self.state = State::Over,
        }
    }

    /// A client that sends much at once does not keep the worker from the others: it has one turn after the other.
    fn begin_turn(&mut self) {
        self.turn = TURN_STREAMS;
        self.shared.wire.begin_turn();
    }

    /// Whether there may be more to do at once, for which it is not this connection's turn.
    fn is_turn_over(&self) -> bool {
        self.turn == 0 || self.shared.wire.is_turn_over()
    }

    /// Goes on as far as it can.
    fn poll(&mut self, cx: &mut Context<'_>) {
        if self.shared.wire.flood().is_some() && self.reason != Some(CloseReason::FrameFlood) {
            self.reason = Some(CloseReason::FrameFlood);
            self.stop(Reason::ENHANCE_YOUR_CALM);
        }
        if let State::Opening(opening) = &mut self.state {
            match Pin::new(&mut **opening).poll(cx) {
                Poll::Ready(Ok(mut protocol)) => {
                    self.ping = protocol.ping_pong();
                    self.state = State::Open(Box::new(protocol));
                }
                Poll::Ready(Err(error)) => self.failed(&error),
                Poll::Pending => {}
            }
        }
        self.poll_streams(cx);
        self.end_in_time(cx);
        self.bound_wait();
        self.bound_silence(cx);
    }

    /// Takes streams on, as long as there may be more.
    fn poll_streams(&mut self, cx: &mut Context<'_>) {
        while let State::Open(protocol) = &mut self.state {
            // Streams that were reset do not count for the protocol, but for us, until their exchange has ended.
            let may_take = self.turn > 0 && self.shared.running.get() < self.shared.limits.streams_max;
            let polled = if may_take {
                protocol.poll_accept(cx)
            } else {
                protocol.poll_closed(cx).map(|closed| closed.err().map(Err))
            };
            match polled {
                Poll::Pending => return,
                Poll::Ready(None) => self.state = State::Over,
                Poll::Ready(Some(Err(error))) => self.failed(&error),
                Poll::Ready(Some(Ok((request, respond)))) => {
                    self.taken += 1;
                    self.turn -= 1;
                    self.shared.changed.set(true);
                    seat::serve(Job { running: Running::new(&self.shared), request, respond });
                }
            }
        }
    }

    /// Tells the client when it should make no more requests here.
    fn end_in_time(&mut self, cx: &mut Context<'_>) {
        let State::Open(protocol) = &mut self.state else { return };
        let standing = &self.shared.connection.standing;
        let asked = standing.live().nudge_me(cx.waker()) | self.shared.changed.take();
        if self.told || !asked {
            return;
        }
        if self.shared.ends.get().or_else(|| standing.outlived()).is_some() {
            self.told = true;
            protocol.graceful_shutdown();
            // It has something to send now.
            self.poll_streams(cx);
        }
    }

    /// Sets the deadline that suits what the client is expected to do.
    fn bound_wait(&mut self) {
        let Shared { connection, wire, limits, running, .. } = &*self.shared;
        let has_unsent = match &self.state {
            State::Open(protocol) => protocol.has_streams() || !wire.is_sent(),
            State::Opening(_) => false,
            State::Over => return,
        };
        let waits = match running.get() {
            _ if wire.meter.borrow().is_head_open() => Waits::Head,
            0 if has_unsent => Waits::Rest,
            0 => Waits::Idle,
            _ => Waits::Streams,
        };
        if waits == self.waits || self.reason.is_some() {
            return;
        }
        self.waits = waits;
        match waits {
            Waits::Head => wire.deadline.set(millis(limits.header_timeout), Shut::Read),
            Waits::Idle => wire.deadline.set(connection.standing.patience(limits.idle_timeout), Shut::Read),
            Waits::Rest => wire.deadline.set(millis(limits.body_timeout), Shut::Read),
            Waits::Streams | Waits::Unset => wire.deadline.clear(),
        }
        if waits == Waits::Idle {
            connection.standing.live().idle();
            connection.subjects.borrow_mut().shrink();
        } else {
            connection.standing.live().busy();
        }
    }

    /// Asks a client that has been silent while streams are in work whether it is there, and gives it up if it stays silent.
    fn bound_silence(&mut self, cx: &mut Context<'_>) {
        let patience = millis(self.shared.limits.idle_timeout);
        if self.shared.wire.has_heard() || self.waits != Waits::Streams {
            self.asked = false;
            self.silence.rearm();
            self.silence.set(patience, Shut::Read);
        }
        let Some(ping) = &mut self.ping else { return };
        // Any byte is an answer; this one has to be taken so that another ping can be sent.
        let _ = ping.poll_pong(cx);
        let is_over = matches!(self.state, State::Over);
        if self.waits != Waits::Streams || is_over || self.silence.poll_fired(cx).is_pending() {
            return;
        }
        if self.asked {
            self.reason = Some(CloseReason::IdleTimeout);
            self.state = State::Over;
            return;
        }
        self.asked = true;
        // Nothing can be asked while an earlier answer is missing, and then that is what is waited for.
        let _ = ping.send_ping(Ping::opaque());
        self.silence.rearm();
        self.silence.set(patience, Shut::Read);
        let _ = self.silence.poll_fired(cx);
        self.poll_streams(cx);
    }

    fn failed(&mut self, error: &h2::Error) {
        self.state = State::Over;
        let reason = match error.reason() {
            _ if self.reason.is_some() => return,
            _ if error.is_io() => CloseReason::Io,
            // What the client itself says in its GOAWAY.
            _ if error.is_remote() => CloseReason::Peer,
            Some(Reason::NO_ERROR) => return,
            Some(Reason::ENHANCE_YOUR_CALM) => CloseReason::FrameFlood,
            _ => CloseReason::ProtocolError,
        };
        self.reason = Some(reason);
    }
}

impl Shared {
    /// No stream after this one is served, for this reason.
    pub(super) fn end(&self, reason: CloseReason) {
        self.ends.set(Some(reason));
        self.change();
    }

    fn change(&self) {
        self.changed.set(true);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

/// A stream in work.
pub(super) struct Running(Rc<Shared>);

impl Running {
    fn new(shared: &Rc<Shared>) -> Running {
        shared.running.set(shared.running.get() + 1);
        Running(shared.clone())
    }

    pub(super) fn shared(&self) -> &Rc<Shared> {
        &self.0
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.set(self.0.running.get() - 1);
        self.0.change();
    }
}

/// What a client may send of a body before we have passed any of it on: RFC 9113 §6.9.2's default, and what a policy's read of
/// a body does not depend on, since that gives windows back as it goes.
const STREAM_WINDOW_BYTES: u32 = 65_535;
/// And of all bodies together. More than a few streams that stand still are needed to hold the others up.
const CONNECTION_WINDOW_BYTES: u32 = 1 << 20;
/// What of a response waits in memory, per stream, for the connection to take it.
const SEND_BYTES_MAX: usize = BULK;
/// What frames below 256 bytes may lack to them, while they wait, where there are tunnels: messages of 10 bytes may fill a
/// stream's window, which takes some 2 MiB. Elsewhere the crate's bound does, half of the connection's window.
const MESSAGES_BUDGET: usize = 2 << 20;
/// Streams that are taken on at a time: each may begin with a connection to an upstream.
const TURN_STREAMS: usize = 8;
/// Resets that the client makes us send before the connection ends: by breaking rules (CVE-2025-8671), of which an honest
/// client needs none, and by more streams than it may have, which one that does not know our limit yet takes for 100 (RFC 9113
/// §6.5.2).
const PROVOKED_RESETS_MAX: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    fn size_of_future<'a, F>(_: impl Fn(&'a Rc<Connection>, &'a mut Downstream) -> F) -> usize {
        size_of::<F>()
    }

    /// What an idle connection has of ours, beside its session and what the crate has.
    #[test]
    fn a_course_takes_little_memory_of_its_own() {
        let size = size_of_future(run);
        assert!(size <= 1344, "{size} bytes");
    }
}
