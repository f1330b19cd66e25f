//! The connections of one worker to one endpoint that requests share, and who waits for a place on them.
//!
//! The first connections are filled first, so that those of a burst age out.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    future::poll_fn,
    io,
    rc::{Rc, Weak},
    task::{Poll, Waker},
};

use ringward_config::EndpointAddr;
use ringward_tls::EndpointTls;

use super::{Terms, connection, link::Link};
use crate::{
    io::{Deadline, Shut, spawn, within},
    upstream::{by_alpn::Http1Agreed, failure_in, tls::TlsStream},
    worker::{Contained, Worker},
};

/// Connections to one endpoint.
#[derive(Debug, Default)]
pub(crate) struct SharedPool {
    /// Those that take requests.
    links: RefCell<Vec<Rc<Link>>>,
    /// How many are being opened.
    opening: Cell<usize>,
    /// The number of the next connection.
    next: Cell<u64>,
    waiting: RefCell<VecDeque<Rc<Waiter>>>,
    /// The endpoint has agreed to HTTP/1.1 last.
    speaks_http1: Cell<bool>,
    /// The connection on which it did, for the first who wants it.
    http1: RefCell<Option<Unused>>,
}

/// A connection of HTTP/1.1 that has carried nothing yet.
#[derive(Debug)]
struct Unused {
    // Declared before the stream: the entry in the table of deadlines must end before the descriptor is closed.
    deadline: Deadline,
    stream: TlsStream,
}

/// A place on a connection, for one request.
#[derive(Debug)]
pub(super) struct Lease {
    pub(super) link: Rc<Link>,
    /// The connection has carried a request before.
    pub(super) reused: bool,
}

impl SharedPool {
    /// A place on a connection; `fresh` asks for one that is opened from now on, if there may be one more.
    ///
    /// # Errors
    /// When no connection can be opened, or none has a place in time.
    pub(super) async fn lease(
        self: &Rc<Self>,
        addr: &EndpointAddr,
        tls: Option<&Rc<EndpointTls>>,
        terms: &Terms,
        worker: &Rc<Worker>,
        fresh: bool,
    ) -> io::Result<Lease> {
        let since = if fresh && self.size() < terms.connections_max { self.next.get() } else { 0 };
        if let Some(lease) = self.pick(terms, since) {
            return Ok(lease);
        }
        let waiting = async {
            loop {
                let waiting = Waiting::enter(self, since);
                self.open_more(addr, tls, terms, worker);
                waiting.called().await?;
                if let Some(lease) = self.pick(terms, since) {
                    return Ok(lease);
                }
            }
        };
        match within(terms.connect_timeout, waiting).await {
            Some(leased) => leased,
            None if self.opening.get() > 0 => Err(io::ErrorKind::TimedOut.into()),
            None => Err(io::Error::new(io::ErrorKind::TimedOut, AllFull)),
        }
    }

    /// Whether some connection takes requests.
    pub(crate) fn has_connections(&self) -> bool {
        !self.links.borrow().is_empty()
    }

    /// The endpoint has agreed to HTTP/1.1 last.
    pub(crate) fn speaks_http1(&self) -> bool {
        self.speaks_http1.get()
    }

    /// A connection that speaks HTTP/1.1 and has carried nothing yet.
    pub(crate) fn take_http1(&self) -> Option<(TlsStream, Deadline)> {
        let unused = self.http1.take()?;
        // Sessions that can be resumed have come by now, so that something waits to be read.
        if unused.deadline.fired() {
            return None;
        }
        unused.deadline.clear();
        Some((unused.stream, unused.deadline))
    }

    /// Forgets the connection that died of age.
    pub(crate) fn prune(&self) {
        let mut http1 = self.http1.borrow_mut();
        if http1.as_ref().is_some_and(|unused| unused.deadline.fired()) {
            *http1 = None;
        }
    }

    /// Shares a connection that was opened elsewhere and speaks HTTP/2, unless there are as many as may be.
    pub(crate) fn adopt(
        self: &Rc<Self>,
        addr: &EndpointAddr,
        (stream, deadline): (TlsStream, Deadline),
        terms: &Terms,
        worker: &Rc<Worker>,
    ) {
        self.speaks_http1.set(false);
        if self.size() >= terms.connections_max {
            return;
        }
        self.opening.set(self.opening.get() + 1);
        let opening = Opening(Some(Rc::downgrade(self)));
        let (addr, terms, worker) = (addr.clone(), *terms, worker.clone());
        spawn(async move {
            let task = connection::serve(opening, addr, stream, deadline, terms, &worker);
            if Contained::new(task).await.is_err() {
                worker.shard.panic_caught();
            }
        });
    }

    /// A place that is free, on a connection of this number or a later one.
    fn pick(&self, terms: &Terms, since: u64) -> Option<Lease> {
        let links = self.links.borrow();
        let suits = |link: &&Rc<Link>| link.number() >= since && link.suits(terms);
        let link = links.iter().filter(suits).find(|link| link.has_room(terms.streams_max))?;
        Some(link.lease(terms.idle_timeout))
    }

    fn size(&self) -> usize {
        self.links.borrow().len() + self.opening.get()
    }

    /// Opens as many connections as those who wait will fill.
    fn open_more(
        self: &Rc<Self>,
        addr: &EndpointAddr,
        tls: Option<&Rc<EndpointTls>>,
        terms: &Terms,
        worker: &Rc<Worker>,
    ) {
        self.links.borrow_mut().retain(|link| {
            let suits = link.suits(terms);
            if !suits {
                link.retire();
            }
            suits
        });
        let wanted = self.waiting.borrow().len();
        // What the upstream allows is known once it has allowed it.
        let allowed = self.links.borrow().last().map_or(usize::MAX, |link| link.limit());
        let places = terms.streams_max.min(allowed).max(1);
        while self.opening.get() * places < wanted && self.size() < terms.connections_max {
            self.opening.set(self.opening.get() + 1);
            let opening = Opening(Some(Rc::downgrade(self)));
            let (addr, tls, terms, worker) = (addr.clone(), tls.cloned(), *terms, worker.clone());
            spawn(async move {
                let task = connection::run(opening, addr, tls, terms, worker.clone());
                if Contained::new(task).await.is_err() {
                    worker.shard.panic_caught();
                }
            });
        }
    }

    /// Lets so many of those who wait look again, because the connection of this number has places. Those who want a later one are
    /// passed over: they would use up the call and wait on.
    pub(super) fn call(&self, places: usize, number: u64) {
        for _ in 0..places {
            let mut waiting = self.waiting.borrow_mut();
            let next = waiting.iter().position(|waiter| waiter.since <= number);
            // A called one may find its place taken, and waits again.
            let Some(waiter) = next.and_then(|next| waiting.remove(next)) else { return };
            drop(waiting);
            waiter.call(Ok(number));
        }
    }

    /// The connection takes no more requests.
    pub(super) fn remove(&self, link: &Rc<Link>) {
        self.links.borrow_mut().retain(|known| !Rc::ptr_eq(known, link));
        // There may be another in its place, which is later than all.
        self.call(1, u64::MAX);
    }

    /// How many requests have a place, or wait for one.
    pub(crate) fn load(&self) -> usize {
        let running = self.links.borrow().iter().map(|link| link.running.get()).sum::<usize>();
        running + self.waiting.borrow().len()
    }

    /// No connection that there is takes further requests. What runs ends as it wants.
    pub(crate) fn close(&self) {
        drop(self.http1.take());
        self.links.take().iter().for_each(|link| link.retire());
    }

    /// How many connections have nothing to do.
    pub(super) fn idle(&self) -> usize {
        self.links.borrow().iter().filter(|link| link.is_idle()).count()
    }
}

impl Drop for SharedPool {
    fn drop(&mut self) {
        // The endpoint is in no cluster any more.
        self.close();
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.link.release();
    }
}

/// A connection that is being opened. Dropped, it has failed.
pub(super) struct Opening(Option<Weak<SharedPool>>);

impl Opening {
    pub(super) fn pool(&self) -> Weak<SharedPool> {
        self.0.clone().unwrap_or_default()
    }

    /// The connection can take requests.
    pub(super) fn opened(mut self, link: &Rc<Link>) {
        let Some(pool) = self.end() else { return link.retire() };
        let number = pool.next.get();
        link.enter(number);
        pool.next.set(number + 1);
        pool.links.borrow_mut().push(link.clone());
        // All of them, because the upstream may allow fewer than there are, who have to see to another connection then.
        pool.call(usize::MAX, number);
    }

    /// It cannot.
    pub(super) fn failed(mut self, error: &io::Error) {
        self.fail(error);
    }

    /// The upstream has agreed to HTTP/1.1: whoever waits has to look for a connection elsewhere.
    pub(super) fn declined(mut self, stream: TlsStream, deadline: Deadline) {
        let Some(pool) = self.end() else { return };
        pool.speaks_http1.set(true);
        deadline.set(UNUSED_MILLIS, Shut::Both);
        pool.http1.replace(Some(Unused { deadline, stream }));
        for waiter in pool.waiting.borrow_mut().drain(..) {
            waiter.call(Err(io::Error::other(Http1Agreed)));
        }
    }

    fn fail(&mut self, error: &io::Error) {
        let Some(pool) = self.end() else { return };
        let mut waiting = pool.waiting.borrow_mut();
        if pool.size() == 0 {
            waiting.drain(..).enumerate().for_each(|(index, waiter)| waiter.call(Err(told(error, index))));
        } else {
            // The others may get a place on the connections that there are.
            let mut called = 0;
            waiting.retain(|waiter| {
                let wants_new = waiter.since > 0;
                if wants_new {
                    waiter.call(Err(told(error, called)));
                    called += 1;
                }
                !wants_new
            });
        }
    }

    fn end(&mut self) -> Option<Rc<SharedPool>> {
        let pool = self.0.take()?.upgrade()?;
        pool.opening.set(pool.opening.get() - 1);
        Some(pool)
    }
}

impl Drop for Opening {
    fn drop(&mut self) {
        self.fail(&io::ErrorKind::ConnectionAborted.into());
    }
}

/// Who waits for a connection takes it at once; what nobody takes for so long may be closed by the other side at any moment.
const UNUSED_MILLIS: u64 = 1_000;

/// As many connections as there may be have as many streams as they may.
#[derive(Debug, thiserror::Error)]
#[error("all connections that there may be are full: raise connections_max or streams_per_connection_max")]
pub(crate) struct AllFull;

/// A connection failed for which others waited as well: it is one failure, and the first of them has been told.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub(crate) struct Shared(io::Error);

impl Shared {
    pub(crate) fn cause(&self) -> &io::Error {
        &self.0
    }
}

/// What the waiter of this index hears of a failure.
fn told(error: &io::Error, index: usize) -> io::Error {
    match index {
        0 => again(error),
        _ => io::Error::new(error.kind(), Shared(again(error))),
    }
}

/// Errors of the system cannot be cloned.
fn again(error: &io::Error) -> io::Error {
    if let Some(failure) = failure_in(error) {
        return io::Error::other(failure.clone());
    }
    match error.raw_os_error() {
        Some(code) => io::Error::from_raw_os_error(code),
        None => io::Error::new(error.kind(), error.to_string()),
    }
}

/// A request that waits for a place.
#[derive(Debug)]
struct Waiter {
    /// On a connection of this number or a later one; 0 for any.
    since: u64,
    /// With the number of the connection that may have a place.
    called: RefCell<Option<io::Result<u64>>>,
    waker: RefCell<Option<Waker>>,
}

impl Waiter {
    fn call(&self, outcome: io::Result<u64>) {
        *self.called.borrow_mut() = Some(outcome);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

/// A waiter in its queue.
struct Waiting<'p> {
    pool: &'p SharedPool,
    waiter: Rc<Waiter>,
}

impl Waiting<'_> {
    fn enter(pool: &SharedPool, since: u64) -> Waiting<'_> {
        let waiter = Rc::new(Waiter { since, called: RefCell::default(), waker: RefCell::default() });
        pool.waiting.borrow_mut().push_back(waiter.clone());
        Waiting { pool, waiter }
    }

    /// Waits until there may be a place.
    async fn called(&self) -> io::Result<()> {
        poll_fn(|cx| {
            if let Some(outcome) = self.waiter.called.take() {
                return Poll::Ready(outcome.map(drop));
            }
            self.waiter.waker.replace(Some(cx.waker().clone()));
            Poll::Pending
        })
        .await
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.pool.waiting.borrow_mut().retain(|waiter| !Rc::ptr_eq(waiter, &self.waiter));
        if let Some(Ok(number)) = self.waiter.called.take() {
            // Given up just when a place became free: it is the next one's turn.
            self.pool.call(1, number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_called(waiting: &Waiting<'_>) -> bool {
        waiting.waiter.called.borrow().is_some()
    }

    #[test]
    fn a_place_is_offered_to_those_who_can_use_it() {
        let pool = SharedPool::default();
        let (new, any) = (Waiting::enter(&pool, 2), Waiting::enter(&pool, 0));
        pool.call(1, 1);
        assert!(!is_called(&new) && is_called(&any), "a place on an old connection is not for the first");
        let other = Waiting::enter(&pool, 0);
        pool.call(1, 2);
        assert!(is_called(&new) && !is_called(&other), "on a new one it is, and in turn");
    }

    #[test]
    fn who_gives_up_hands_the_place_on_to_one_who_can_use_it() {
        let pool = SharedPool::default();
        let first = Waiting::enter(&pool, 0);
        let (new, any) = (Waiting::enter(&pool, 2), Waiting::enter(&pool, 0));
        pool.call(1, 1);
        drop(first);
        assert!(!is_called(&new) && is_called(&any));
    }
}
