//! Connections to the endpoints of a cluster, kept alive per worker.
//!
//! A pool belongs to an *endpoint*, not to a snapshot: a reload that keeps the endpoint keeps its connections. Idle
//! connections have no operation in flight and no buffer; the deadline table closes those that idle too long, and
//! [`Cluster::connect`] leaves out those that died meanwhile. Those that requests share are in [`super::http2`].

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    rc::Rc,
    time::Duration,
};

use ringward_config::{Balance, HashKey, Protocol};
use ringward_http::RequestHead;
use ringward_identity::PeerIdentity;
use ringward_telemetry::ClusterId;

use super::{
    choice::Choice,
    hash_key,
    http2::{self, SharedPool, Terms},
};
use crate::{
    error::ProxyError,
    io::{Deadline, Deadlines, Shut, Stream},
    snapshot,
    upstream::millis,
    worker::Worker,
};

/// The pools of one worker, by endpoint.
pub(crate) type Pools = HashMap<SocketAddr, Rc<Pool>>;

/// Idle connections to one endpoint; the most recently used one is taken first, so that a burst's extra connections age out.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    idle: RefCell<Vec<Connection>>,
    /// How many connections there are, in use, idle or about to be opened.
    open: Rc<Cell<usize>>,
    /// Those that speak HTTP/2.
    shared: Rc<SharedPool>,
}

/// One worker's view of a cluster.
#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) id: ClusterId,
    choice: Choice,
    /// The property of a request that decides, if one does.
    hash_key: Option<HashKey>,
    connect_timeout: Duration,
    idle_timeout: Duration,
    pool_idle_max: usize,
    /// With HTTP/2.
    terms: Option<Terms>,
}

/// What an exchange has of its endpoint.
pub(crate) enum Upstream {
    Http1(Connection),
    /// Boxed, so that those of the many need not have room for it.
    Http2(Box<http2::Stream>),
}

impl Upstream {
    pub(crate) fn addr(&self) -> SocketAddr {
        match self {
            Upstream::Http1(connection) => connection.addr,
            Upstream::Http2(stream) => stream.addr(),
        }
    }

    /// Its connection has carried an exchange before.
    pub(crate) fn is_reused(&self) -> bool {
        match self {
            Upstream::Http1(connection) => connection.reused,
            Upstream::Http2(stream) => stream.is_reused(),
        }
    }
}

impl Cluster {
    /// The view of `cluster`, with the pools that `pools` has for its endpoints, or new ones.
    pub(crate) fn new(cluster: &snapshot::Cluster, worker: usize, pools: &mut Pools) -> Cluster {
        let hash_key = match cluster.endpoints.balance() {
            Balance::Maglev(key) => Some(key.clone()),
            Balance::RoundRobin | Balance::LeastRequest | Balance::Random => None,
        };
        Cluster {
            id: cluster.id,
            choice: Choice::new(cluster.endpoints.clone(), worker, pools),
            hash_key,
            connect_timeout: cluster.connect_timeout,
            idle_timeout: cluster.idle_timeout,
            pool_idle_max: cluster.pool_idle_max,
            terms: (cluster.protocol == Protocol::Http2).then(|| Terms::of(cluster)),
        }
    }

    /// The property of a request by which its endpoint is chosen, if that is so.
    pub(crate) fn hash(
        &self,
        head: &RequestHead,
        client: Option<&PeerIdentity>,
        source: IpAddr,
    ) -> Option<u64> {
        hash_key::hash(self.hash_key.as_ref()?, head, client, source)
    }

    /// A kept connection to the endpoint whose turn it is: what most requests find, without a wait. `hash` is from [`Self::hash`].
    pub(crate) fn kept(&self, hash: Option<u64>) -> Option<Upstream> {
        if self.terms.is_some() {
            return None;
        }
        self.choice.try_next(hash, Pool::take).map(Upstream::Http1)
    }

    /// A connection to the endpoint whose turn it is, or a place on one: a kept one if there is one, else a new one.
    ///
    /// `fresh` asks for a new one, if there may be one more.
    ///
    /// # Errors
    /// [`ProxyError::Connect`] when no endpoint takes the connection; each that takes requests is tried once.
    /// [`ProxyError::NoHealthyUpstream`] when none does.
    pub(crate) async fn connect(
        &self,
        worker: &Rc<Worker>,
        hash: Option<u64>,
        fresh: bool,
    ) -> Result<Upstream, ProxyError> {
        self.refresh(worker);
        let members = self.choice.known();
        let mut last = None;
        for (addr, pool) in self.choice.order(&members, hash) {
            if self.terms.is_none()
                && !fresh
                && let Some(connection) = pool.take()
            {
                return Ok(Upstream::Http1(connection));
            }
            let connected = match &self.terms {
                None => {
                    let open = pool.hold();
                    Stream::connect(addr, self.connect_timeout).await.map(|stream| {
                        worker.shard.upstream_connection_opened(self.id);
                        Upstream::Http1(Connection::new(stream, addr, open, &worker.deadlines))
                    })
                }
                Some(terms) => {
                    let open = http2::Stream::open(&pool.shared, addr, terms, worker, fresh);
                    open.await.map(|stream| Upstream::Http2(Box::new(stream)))
                }
            };
            match connected {
                Ok(upstream) => return Ok(upstream),
                Err(source) => {
                    let error = ProxyError::Connect { addr, source };
                    worker.shard.upstream_error(self.id, error.flag());
                    last = Some(error);
                }
            }
        }
        Err(last.unwrap_or_else(|| {
            let error = ProxyError::NoHealthyUpstream;
            worker.shard.upstream_error(self.id, error.flag());
            error
        }))
    }

    /// Keeps a connection for the next exchange with its endpoint.
    pub(crate) fn keep(&self, upstream: Upstream) {
        // A place on a connection becomes free by itself.
        let Upstream::Http1(mut connection) = upstream else { return };
        let members = self.choice.known();
        let Some(pool) = members.pool(connection.addr) else { return };
        let mut idle = pool.idle.borrow_mut();
        if idle.len() < self.pool_idle_max {
            connection.reused = true;
            connection.deadline.serve(None);
            connection.deadline.limit(None);
            connection.deadline.set(millis(self.idle_timeout), Shut::Both);
            idle.push(connection);
        }
    }

    /// Learns of the endpoints in force. Those that are in no cluster any more lose their pools: their idle connections are
    /// closed, those in use end with their exchange.
    pub(crate) fn refresh(&self, worker: &Worker) {
        if self.choice.refresh(worker.pools()) {
            worker.forget_pools();
        }
    }

    /// The addresses of its endpoints, as far as this worker knows.
    pub(crate) fn addrs(&self) -> Vec<SocketAddr> {
        self.choice.known().addrs().collect()
    }
}

impl Pool {
    /// How many requests have a connection of this worker to the endpoint, or wait for one.
    pub(super) fn load(&self) -> usize {
        self.open.get() - self.idle.borrow().len() + self.shared.load()
    }

    /// Counts a connection of its own for each request.
    pub(super) fn hold(&self) -> Open {
        self.open.set(self.open.get() + 1);
        Open(self.open.clone())
    }

    /// A kept connection that is alive, as far as can be seen, and on which nothing waits: bytes that nobody asked for would be
    /// taken for the answer to the next request, which may be another client's. The look costs a system call, and only narrows
    /// the race with an upstream that closes the connection.
    fn take(&self) -> Option<Connection> {
        let mut idle = self.idle.borrow_mut();
        while let Some(connection) = idle.pop() {
            if connection.deadline.fired() {
                continue;
            }
            if connection.deadline.is_quiet() {
                connection.deadline.clear();
                return Some(connection);
            }
        }
        None
    }

    /// Forgets the connections that died of age.
    pub(crate) fn prune(&self) {
        self.idle.borrow_mut().retain(|connection| !connection.deadline.fired());
    }
}

/// A connection to an endpoint.
#[derive(Debug)]
pub(crate) struct Connection {
    // Declared before the stream: the entry in the table of deadlines must end before the descriptor is closed.
    pub(crate) deadline: Deadline,
    pub(crate) stream: Stream,
    pub(crate) addr: SocketAddr,
    /// It has carried an exchange before.
    pub(crate) reused: bool,
    _open: Open,
}

impl Connection {
    fn new(stream: Stream, addr: SocketAddr, open: Open, deadlines: &Rc<Deadlines>) -> Connection {
        Connection { deadline: deadlines.register(stream.fd()), stream, addr, reused: false, _open: open }
    }
}

/// A connection in the count of its pool.
#[derive(Debug)]
pub(super) struct Open(Rc<Cell<usize>>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}
