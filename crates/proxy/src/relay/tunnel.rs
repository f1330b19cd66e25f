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
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use ringward_telemetry::ListenerId;

use super::Progress;
use crate::{
    client_side::ClientSide,
    error::ProxyError,
    io::{Deadline, Shut},
    upstream::{Upstream, millis},
    upstream_side::UpstreamSide,
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
    pub(crate) up: Upstream,
    /// What was read behind the upstream's agreement.
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

#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    Up,
    Down,
}

/// Carries bytes until the tunnel is over.
///
/// # Errors
/// Why it is, unless both sides have ended it in order.
pub(crate) async fn carry<C: ClientSide>(
    worker: &Worker,
    listener: ListenerId,
    client: &mut C,
    opened: Opened,
    progress: &Progress,
) -> Result<(), ProxyError> {
    let Opened { up, early, limits } = opened;
    let flow = Flow::new(worker, listener, limits, progress, client.socket().clone());
    match up {
        Upstream::Http1(mut up) => run(client, &mut up, early, &flow).await,
        Upstream::Http1Tls(mut up) => run(client, &mut up, early, &flow).await,
        // Boxed, so that tunnels to upstreams of HTTP/1.1 need not have room for it.
        Upstream::Http2(mut up) => Box::pin(run(client, &mut *up, early, &flow)).await,
    }
}

async fn run<C: ClientSide, U: UpstreamSide>(
    client: &mut C,
    up: &mut U,
    early: Vec<u8>,
    flow: &Flow<'_>,
) -> Result<(), ProxyError> {
    let buffers = &*flow.worker.buffers;
    let deadline = client.deadline().clone();
    deadline.clear();
    // What bounded the answer does not bound what follows it.
    up.deadline().limit(None);
    let (mut from_client, mut to_client) = client.tunnel(buffers);
    let (mut from_upstream, mut to_upstream) = up.tunnel(early, buffers);
    let mut upload = pin!(pump(&mut from_client, &mut to_upstream, flow, Direction::Up));
    let mut download = pin!(pump(&mut from_upstream, &mut to_client, flow, Direction::Down));
    let (mut uploading, mut downloading) = (true, true);
    poll_fn(|cx| {
        // Asked first: what a client that is cut has sent goes no further. While the upstream takes nothing, there may be no
        // operation on the client's socket that would notice.
        if deadline.poll_cut(cx).is_ready() {
            return Poll::Ready(Err(ProxyError::ClientGone));
        }
        if uploading && let Poll::Ready(ended) = upload.as_mut().poll(cx) {
            uploading = false;
            flow.ended_half(Direction::Up);
            // An upstream that takes nothing any more may have said something before. A client that has heard all and
            // goes without a word has ended.
            if matches!(ended, Err(Failed::Inlet(_))) && downloading {
                return Poll::Ready(Err(ProxyError::ClientGone));
            }
        }
        if downloading && let Poll::Ready(ended) = download.as_mut().poll(cx) {
            downloading = false;
            flow.ended_half(Direction::Down);
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
        flow.arrived(direction, bytes);
        to.send(piece, || flow.renew()).await.map_err(|_| Failed::Outlet)?;
        flow.sent(direction);
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
    /// Of the client's connection.
    client: Rc<Deadline>,
}

impl<'a> Flow<'a> {
    fn new(
        worker: &'a Worker,
        listener: ListenerId,
        limits: Limits,
        progress: &'a Progress,
        client: Rc<Deadline>,
    ) -> Flow<'a> {
        let now = worker.deadlines.now();
        let flow = Flow {
            worker,
            listener,
            progress,
            limits,
            idle: Cell::new(limits.idle),
            ends_at: limits.age_max.map(|age| now.saturating_add(millis(age))),
            timer: worker.deadlines.timer(),
            client,
        };
        worker.shard.tunnel_opened(listener);
        flow.renew();
        flow
    }

    /// So many bytes are to be sent, before any more are read.
    fn arrived(&self, direction: Direction, bytes: usize) {
        let bytes = bytes as u64;
        let (counter, received, sent) = match direction {
            Direction::Up => (&self.progress.received, bytes, 0),
            Direction::Down => (&self.progress.sent, 0, bytes),
        };
        counter.set(counter.get() + bytes);
        self.worker.shard.tunnel_bytes(self.listener, received, sent);
        if direction == Direction::Up {
            self.watch_client(true);
        }
        self.renew();
    }

    /// What has arrived was sent.
    fn sent(&self, direction: Direction) {
        if direction == Direction::Up {
            self.watch_client(false);
        }
        self.renew();
    }

    /// While nothing is read of a client, nobody but the sweep would notice that its connection breaks.
    fn watch_client(&self, watch: bool) {
        self.timer.serve_until_broken(watch.then_some(&*self.client));
    }

    /// Something has moved.
    fn renew(&self) {
        let left = self.ends_at.map_or(u64::MAX, |at| at.saturating_sub(self.worker.deadlines.now()));
        self.timer.set(millis(self.idle.get()).min(left), Shut::Both);
    }

    /// One direction is over.
    fn ended_half(&self, direction: Direction) {
        if direction == Direction::Up {
            self.watch_client(true);
        }
        self.idle.set(self.limits.idle.min(self.limits.idle_half));
        self.renew();
    }

    /// Ready with the reason when it has lasted too long, or the client's connection is broken.
    fn poll_over(&self, cx: &Context<'_>) -> Poll<ProxyError> {
        self.timer.poll_fired(cx).map(|()| match self.limits.age_max {
            _ if !self.timer.fired() => ProxyError::ClientGone,
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
