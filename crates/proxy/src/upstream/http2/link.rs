//! What the parts of a connection share: who may use it, and why it has ended.

use std::{
    cell::{Cell, RefCell},
    io,
    rc::{Rc, Weak},
    task::Waker,
    time::Duration,
};

use h2::{Reason, client::SendRequest};
use http::uri::Scheme;
use ringward_config::EndpointAddr;
use ringward_tls::UpstreamTlsFailure;

use super::{
    Terms,
    pool::{Lease, SharedPool},
};
use crate::{
    error::ProxyError,
    h2::{Piece, Wire},
    upstream::failure_in,
};

/// What a connection shares with its pool and its streams.
pub(super) struct Link {
    pub(super) addr: EndpointAddr,
    /// What its requests have.
    pub(super) scheme: Scheme,
    number: Cell<u64>,
    /// `None` once no more requests are to be sent here.
    pub(super) sender: RefCell<Option<SendRequest<Piece>>>,
    /// How many streams the upstream allows at once.
    pub(super) limit: Cell<usize>,
    pub(super) running: Cell<usize>,
    /// It has carried a request.
    pub(super) used: Cell<bool>,
    /// A request has timed out, and nothing has arrived since.
    pub(super) suspected: Cell<bool>,
    pub(super) idle_timeout: Cell<Duration>,
    /// What the upstream was told that a head may be.
    head_list_bytes_max: usize,
    pub(super) ended: RefCell<Option<Ended>>,
    /// The connection's task.
    pub(super) waker: RefCell<Option<Waker>>,
    pub(super) pool: Weak<SharedPool>,
    pub(super) wire: Rc<Wire>,
}

/// Why a connection has ended with streams on it.
#[derive(Debug)]
pub(super) enum Ended {
    /// The upstream closed.
    Closed,
    Io(io::ErrorKind),
    Tls(UpstreamTlsFailure),
    /// It does not answer, or takes no bytes.
    Silent,
    /// The upstream said why.
    GoAway(Reason),
    /// The upstream broke the rules.
    Broken(String),
}

impl Link {
    pub(super) fn new(
        sender: SendRequest<Piece>,
        (addr, scheme): (EndpointAddr, Scheme),
        terms: &Terms,
        pool: Weak<SharedPool>,
        wire: Rc<Wire>,
    ) -> Link {
        Link {
            addr,
            scheme,
            number: Cell::new(0),
            sender: RefCell::new(Some(sender)),
            limit: Cell::new(0),
            running: Cell::new(0),
            used: Cell::new(false),
            suspected: Cell::new(false),
            idle_timeout: Cell::new(terms.idle_timeout),
            head_list_bytes_max: terms.head_list_bytes_max,
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

    /// Whether heads may be as large here as they may be now: a reload changes that, and a connection keeps what it began with.
    pub(super) fn suits(&self, terms: &Terms) -> bool {
        self.head_list_bytes_max >= terms.head_list_bytes_max
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
            pool.call(1, self.number());
        }
        if self.is_idle() {
            self.wake();
        }
    }

    /// How many places the upstream allows at once has changed, or that it is there at all.
    pub(super) fn call(&self) {
        if let Some(pool) = self.pool.upgrade() {
            pool.call(self.limit.get().saturating_sub(self.running.get()), self.number());
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
            // The crate does not tell a head that is larger than announced from one that is malformed.
            return ProxyError::UpstreamProtocol(
                match error.is_reset() && reason == Reason::PROTOCOL_ERROR {
                    true => format!("{reason}, or a head of more than {} bytes", self.head_list_bytes_max),
                    false => reason.to_string(),
                },
            );
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
    /// By an error of the socket, or of TLS.
    pub(super) fn of(error: &io::Error) -> Ended {
        failure_in(error).map_or(Ended::Io(error.kind()), |failure| Ended::Tls(failure.clone()))
    }

    /// For a stream that had no part in it.
    fn error(&self) -> ProxyError {
        match self {
            Ended::Closed => ProxyError::UpstreamClosed,
            Ended::Io(kind) => ProxyError::UpstreamReset((*kind).into()),
            Ended::Tls(failure) => ProxyError::UpstreamTls(failure.clone()),
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
    pub(super) fn before_settings(&self) -> io::Error {
        match self {
            Ended::Io(kind) => (*kind).into(),
            Ended::Tls(failure) => io::Error::other(failure.clone()),
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
