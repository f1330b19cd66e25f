//! A tunnel: bytes in both directions between two that have left HTTP, until both have ended or one is gone.
//!
//! Each direction has one piece in memory and reads again when that was sent, so the slower side sets the pace. A direction
//! that ends in order is ended on the other side, and the other direction goes on. What breaks off ends both at once, and
//! nobody is told a goodbye that could be taken for the end of what was to come.
//!
//! Nothing here looks at a byte, and nothing here knows which protocol either side spoke before ([`Inlet`], [`Outlet`]).

use std::{
    cell::Cell,
    future::poll_fn,
    io,
    pin::pin,
    task::{Context, Poll},
    time::Duration,
};

use ringward_telemetry::ListenerId;

use super::Progress;
use crate::{
    client_side::ClientSide,
    error::ProxyError,
    io::{BULK, BufferPool, Deadline, ReadHalf, SMALL, Shut, WriteHalf},
    upstream::{self, millis},
    worker::Worker,
};

/// Where bytes of a tunnel come from.
pub(crate) trait Inlet {
    /// Waits for bytes, as many as come at once, in a buffer of the worker's. `None`: no more follow, and the peer has said so.
    ///
    /// # Errors
    /// When no more can come, although the peer has not said so.
    async fn piece(&mut self) -> io::Result<Option<Vec<u8>>>;

    /// So many bytes were passed on: the peer may send as many more.
    fn passed(&mut self, bytes: usize);
}

/// Where bytes of a tunnel go.
pub(crate) trait Outlet {
    /// Sends all of `piece`; `progressed` is called whenever the peer has taken a part of it, but not all.
    async fn send(&mut self, piece: Vec<u8>, progressed: impl Fn()) -> io::Result<()>;

    /// Tells the peer that no more follow.
    async fn end(&mut self) -> io::Result<()>;
}

/// A tunnel that both sides have agreed on.
pub(crate) struct Opened {
    pub(crate) up: upstream::Connection,
    /// What came behind the upstream's agreement.
    pub(crate) early: Vec<u8>,
    pub(crate) limits: Limits,
}

/// How long a tunnel may last.
#[derive(Clone, Copy)]
pub(crate) struct Limits {
    /// Without a byte in either direction.
    pub(crate) idle: Duration,
    /// The same once a side has ended: what is left is the other's last words.
    pub(crate) idle_half: Duration,
    pub(crate) age_max: Option<Duration>,
}

/// Why a direction did not come to its end.
enum Failed {
    /// Where the bytes come from.
    Inlet(io::Error),
    /// Where they go.
    Outlet,
}

#[derive(Clone, Copy)]
enum Direction {
    Up,
    Down,
}

/// Carries bytes until the tunnel is over.
///
/// # Errors
/// Why it is, unless both sides have ended it in order.
pub(crate) async fn run<C: ClientSide>(
    worker: &Worker,
    listener: ListenerId,
    client: &mut C,
    opened: Opened,
    progress: &Progress,
) -> Result<(), ProxyError> {
    let Opened { mut up, early, limits } = opened;
    let buffers = &*worker.buffers;
    let deadline = client.deadline().clone();
    deadline.clear();
    // What bounded the answer does not bound what follows it.
    up.deadline.limit(None);
    let flow = Flow::new(worker, listener, limits, progress);
    let (mut from_client, mut to_client) = client.tunnel(buffers);
    let mut from_upstream =
        UpstreamInlet { half: &mut up.stream.read, deadline: &up.deadline, buffers, early, brisk: false };
    let mut to_upstream = UpstreamOutlet { half: &mut up.stream.write, buffers };
    let mut upload = pin!(pump(&mut from_client, &mut to_upstream, &flow, Direction::Up));
    let mut download = pin!(pump(&mut from_upstream, &mut to_client, &flow, Direction::Down));
    let (mut uploading, mut downloading) = (true, true);
    poll_fn(|cx| {
        // Asked first: what a client that is cut has sent goes no further. While the upstream takes nothing, there may be no
        // operation on the client's socket that would notice.
        if deadline.poll_cut(cx).is_ready() {
            return Poll::Ready(Err(ProxyError::ClientGone));
        }
        if uploading && let Poll::Ready(ended) = upload.as_mut().poll(cx) {
            uploading = false;
            flow.ended_half();
            // An upstream that takes nothing any more may have said something before. A client that has heard all and
            // goes without a word has ended.
            if matches!(ended, Err(Failed::Inlet(_))) && downloading {
                return Poll::Ready(Err(ProxyError::ClientGone));
            }
        }
        if downloading && let Poll::Ready(ended) = download.as_mut().poll(cx) {
            downloading = false;
            flow.ended_half();
            match ended {
                Ok(()) => {}
                Err(Failed::Inlet(error)) => return Poll::Ready(Err(ProxyError::UpstreamReset(error))),
                Err(Failed::Outlet) => return Poll::Ready(Err(ProxyError::ClientGone)),
            }
        }
        if !uploading && !downloading {
            return Poll::Ready(Ok(()));
        }
        flow.poll_over(cx).map(Err)
    })
    .await
    // Reads may be in flight, and are dropped. What they may have taken off their sockets is of no interest any more: nothing
    // is read after this.
}

/// Carries one direction to its end.
async fn pump(
    from: &mut impl Inlet,
    to: &mut impl Outlet,
    flow: &Flow<'_>,
    direction: Direction,
) -> Result<(), Failed> {
    while let Some(piece) = from.piece().await.map_err(Failed::Inlet)? {
        let bytes = piece.len();
        flow.moved(direction, bytes);
        to.send(piece, || flow.renew()).await.map_err(|_| Failed::Outlet)?;
        flow.renew();
        from.passed(bytes);
    }
    to.end().await.map_err(|_| Failed::Outlet)
}

/// What moves in a tunnel, and when it has moved too little or for too long.
struct Flow<'a> {
    worker: &'a Worker,
    listener: ListenerId,
    progress: &'a Progress,
    limits: Limits,
    idle: Cell<Duration>,
    ends_at: Option<u64>,
    timer: Deadline,
}

impl<'a> Flow<'a> {
    fn new(worker: &'a Worker, listener: ListenerId, limits: Limits, progress: &'a Progress) -> Flow<'a> {
        let now = worker.deadlines.now();
        let flow = Flow {
            worker,
            listener,
            progress,
            limits,
            idle: Cell::new(limits.idle),
            ends_at: limits.age_max.map(|age| now.saturating_add(millis(age))),
            timer: worker.deadlines.timer(),
        };
        worker.shard.tunnel_opened(listener);
        flow.renew();
        flow
    }

    fn moved(&self, direction: Direction, bytes: usize) {
        let bytes = bytes as u64;
        let (counter, received, sent) = match direction {
            Direction::Up => (&self.progress.received, bytes, 0),
            Direction::Down => (&self.progress.sent, 0, bytes),
        };
        counter.set(counter.get() + bytes);
        self.worker.shard.tunnel_bytes(self.listener, received, sent);
        self.renew();
    }

    /// Something has moved.
    fn renew(&self) {
        let left = self.ends_at.map_or(u64::MAX, |at| at.saturating_sub(self.worker.deadlines.now()));
        self.timer.set(millis(self.idle.get()).min(left), Shut::Both);
    }

    /// One direction is over.
    fn ended_half(&self) {
        self.idle.set(self.limits.idle.min(self.limits.idle_half));
        self.renew();
    }

    /// Ready with the reason when it has lasted too long.
    fn poll_over(&self, cx: &Context<'_>) -> Poll<ProxyError> {
        self.timer.poll_fired(cx).map(|()| match self.limits.age_max {
            Some(age) if self.ends_at.is_some_and(|at| at <= self.worker.deadlines.now()) => {
                ProxyError::TunnelAge(age)
            }
            _ => ProxyError::TunnelIdle(self.idle.get()),
        })
    }
}

impl Drop for Flow<'_> {
    fn drop(&mut self) {
        self.worker.shard.tunnel_closed(self.listener);
    }
}

struct UpstreamInlet<'a> {
    half: &'a mut ReadHalf,
    deadline: &'a Deadline,
    buffers: &'a BufferPool,
    early: Vec<u8>,
    /// The last piece filled its buffer.
    brisk: bool,
}

impl Inlet for UpstreamInlet<'_> {
    async fn piece(&mut self) -> io::Result<Option<Vec<u8>>> {
        if !self.early.is_empty() {
            return Ok(Some(std::mem::take(&mut self.early)));
        }
        let buffer = if self.brisk { self.buffers.large() } else { self.buffers.small() };
        let (read, buffer) =
            self.half.read_or_rest((buffer, BULK), REST_BYTES, self.deadline, self.buffers).await;
        self.brisk = buffer.len() >= SMALL;
        Ok((read? > 0).then_some(buffer))
    }

    fn passed(&mut self, _bytes: usize) {}
}

struct UpstreamOutlet<'a> {
    half: &'a mut WriteHalf,
    buffers: &'a BufferPool,
}

impl Outlet for UpstreamOutlet<'_> {
    async fn send(&mut self, piece: Vec<u8>, progressed: impl Fn()) -> io::Result<()> {
        let (sent, piece) = self.half.write_all(piece, progressed).await;
        self.buffers.put(piece);
        sent
    }

    async fn end(&mut self) -> io::Result<()> {
        self.half.shutdown().await;
        Ok(())
    }
}

/// What a tunnel reads into that has come to rest: a small message.
const REST_BYTES: usize = 1024;
