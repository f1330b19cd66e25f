//! One connection to an upstream, from its preface to its end, in a task of its own.

use std::{
    future::{Future, poll_fn},
    io,
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use h2::{
    Ping, PingPong,
    client::{Builder, Connection as Protocol},
};
use http::uri::Scheme;
use ringward_config::EndpointAddr;
use ringward_http::FrameMeter;
use ringward_tls::EndpointTls;

use super::{
    Terms,
    bytes::{Incoming, Outgoing},
    link::{Ended, Link},
    pool::Opening,
};
use crate::{
    downstream::ReadError,
    h2::{Piece, Socket, Wire, receive, transmit},
    io::{BULK, BufferPool, Deadline, Shut},
    upstream::{
        millis,
        pool::{Opened, open},
        transport::{Inflow, Outflow, Transport},
    },
    worker::Worker,
};

/// Opens a connection and serves it to its end.
pub(super) async fn run(
    opening: Opening,
    addr: EndpointAddr,
    tls: Option<Rc<EndpointTls>>,
    terms: Terms,
    worker: Rc<Worker>,
) {
    match open((&addr, tls.as_deref()), None, terms.cluster, terms.connect_timeout, &worker).await {
        Ok((Opened::Plain(stream), deadline)) => serve(opening, addr, stream, deadline, terms, &worker).await,
        Ok((Opened::Tls(stream), deadline)) if terms.by_alpn && !stream.speaks_http2() => {
            opening.declined(stream, deadline);
        }
        Ok((Opened::Tls(stream), deadline)) => serve(opening, addr, stream, deadline, terms, &worker).await,
        Err(error) => opening.failed(&error),
    }
}

/// Serves a connection to its end.
pub(super) async fn serve<S: Transport>(
    opening: Opening,
    addr: EndpointAddr,
    stream: S,
    deadline: Deadline,
    terms: Terms,
    worker: &Worker,
) {
    let mut socket = OwnSocket { deadline: Rc::new(deadline), stream };
    let meter = FrameMeter::of_server(terms.head_list_bytes_max, terms.streams_max, worker.deadlines.now());
    let wire = Rc::new(Wire::new(meter, socket.deadline.clone(), worker.buffers.clone()));
    let (sender, protocol) = match builder(&terms).handshake(Socket(wire.clone())).await {
        Ok(handed) => handed,
        Err(error) => return opening.failed(&io::Error::other(error)),
    };
    let scheme = if S::IS_TLS { Scheme::HTTPS } else { Scheme::HTTP };
    let link = Rc::new(Link::new(sender, (addr, scheme), &terms, opening.pool(), wire.clone()));
    let course = Course::new(link.clone(), opening, Box::new(protocol), terms, worker.deadlines.timer());
    let is_whole = drive(course, &link, socket.stream.halves(), &worker.buffers).await;
    if is_whole {
        socket.deadline.set(CLOSE_MILLIS, Shut::Both);
        socket.stream.halves().1.shutdown().await;
    }
}

fn builder(terms: &Terms) -> Builder {
    let streams = u32::try_from(terms.streams_max).unwrap_or(u32::MAX);
    let mut builder = Builder::new();
    builder
        .enable_push(false)
        // No request before the upstream's settings: until then it allows none.
        .initial_max_send_streams(0)
        .max_header_list_size(u32::try_from(terms.head_list_bytes_max).unwrap_or(u32::MAX))
        .initial_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(STREAM_WINDOW_BYTES.saturating_mul(streams).min(WINDOW_BYTES_MAX))
        .max_send_buffer_size(SEND_BYTES_MAX)
        .data_frame_budget(MESSAGES_BUDGET * terms.streams_max.min(STALLED_MAX))
        .max_concurrent_reset_streams(RESETS_REMEMBERED)
        .max_local_error_reset_streams(Some(FAULTS_MAX))
        .reset_stream_duration(RESET_REMEMBERED_FOR);
    builder
}

/// Runs the connection; whether all that was to be said has left.
async fn drive(
    mut course: Course,
    link: &Rc<Link>,
    (read, write): (&mut impl Inflow, &mut impl Outflow),
    buffers: &BufferPool,
) -> bool {
    let wire = &*link.wire;
    let mut source = Incoming::new(read, buffers);
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
                course.end(if wire.deadline.fired() { Ended::Silent } else { Ended::of(&error) });
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
        // To the protocol, what TLS has refused looks like the end of the input.
        let refused = match &*self.link.ended.borrow() {
            Some(Ended::Tls(failure)) => Some(Ended::Tls(failure.clone())),
            _ => None,
        };
        let ended = refused.unwrap_or(ended);
        if let Some(opening) = self.opening.take() {
            opening.failed(&ended.before_settings());
        }
        {
            // Behind the end of the input the protocol may have more to say about it.
            let mut known = self.link.ended.borrow_mut();
            if matches!(*known, None | Some(Ended::Closed)) {
                *known = Some(ended);
            }
        }
        self.leave();
        self.protocol = None;
    }

    /// No more requests are to be sent here.
    fn leave(&mut self) {
        self.link.sender.take();
        if let Some(pool) = self.link.pool.upgrade() {
            pool.remove(&self.link);
        }
    }

    /// Nothing more can be read.
    fn input_ended(&mut self, error: &ReadError) {
        let ended = match error {
            ReadError::Closed if self.link.wire.deadline.fired() => Ended::Silent,
            ReadError::Io(error) => Ended::of(error),
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
        // The windows are for no more; a reload, or another cluster with this endpoint, may want more.
        let limit = protocol.max_concurrent_send_streams().min(self.terms.streams_max);
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
        drop(sender);
        if is_told {
            self.leave();
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

impl Drop for Course {
    fn drop(&mut self) {
        // Also when it has panicked: nobody may be sent to a connection that nobody drives.
        self.end(Ended::Closed);
    }
}

/// The socket with its entry in the table of deadlines.
struct OwnSocket<S> {
    deadline: Rc<Deadline>,
    stream: S,
}

impl<S> Drop for OwnSocket<S> {
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
/// What frames below 256 bytes may lack to them, while they wait: messages of 10 bytes in a tunnel may fill a stream's window,
/// which takes some 2 MiB.
const MESSAGES_BUDGET: usize = 2 << 20;
/// So many clients may stand still like that before it ends the connection of all.
const STALLED_MAX: usize = 16;
/// For so long frames are expected that the upstream sent before it knew that we had called a stream off.
const RESET_REMEMBERED_FOR: Duration = Duration::from_secs(10);
/// Of so many streams. Frames of others count as faults of the upstream's, so these are more than clients call off in that time.
/// If they do, it is some megabytes.
const RESETS_REMEMBERED: usize = 16 * 1024;
/// So many faults of the upstream's on single streams, in the whole life of a connection, end it. The crate's default is meant
/// for the connection of one client; here it would be used up by some and end the streams of all.
const FAULTS_MAX: usize = 16 * 1024;
/// An upstream that is silent for longer, with streams in work, is asked whether it is there. Servers of gRPC take more than a
/// ping in five minutes for an attack.
const SILENCE_MAX: Duration = Duration::from_secs(301);
/// An upstream that takes no bytes at all for longer is gone.
const STALL_MAX: Duration = Duration::from_secs(60);
/// How long the goodbye may take.
const CLOSE_MILLIS: u64 = 1000;
