//! Connections to the endpoints of a cluster, kept alive per worker.
//!
//! A pool belongs to an *endpoint*, not to a snapshot: a reload that keeps the endpoint keeps its connections. Idle
//! connections have no operation in flight and no buffer; the deadline table closes those that idle too long, and
//! [`Cluster::connect`] leaves out those that died meanwhile. Those that requests share are in [`super::http2`].

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    net::SocketAddr,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use ringward_config::Protocol;
use ringward_telemetry::ClusterId;

use super::http2::{self, SharedPool, Terms};
use crate::{
    error::ProxyError,
    io::{Deadline, Deadlines, Shut, Stream},
    snapshot,
    upstream::{Rotation, millis},
    worker::Worker,
};

/// The pools of one worker, by endpoint.
pub(crate) type Pools = HashMap<SocketAddr, Rc<Pool>>;

/// Idle connections to one endpoint; the most recently used one is taken first, so that a burst's extra connections age out.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    idle: RefCell<Vec<Connection>>,
    /// Those that speak HTTP/2.
    shared: Rc<SharedPool>,
}

/// One worker's view of a cluster.
#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) id: ClusterId,
    endpoints: Vec<Endpoint>,
    next: Cell<usize>,
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

/// One server of a cluster, with its connections.
#[derive(Debug)]
struct Endpoint {
    addr: SocketAddr,
    rotation: Arc<Rotation>,
    pool: Rc<Pool>,
}

impl Cluster {
    /// The view of `cluster`, with the pools that `pools` has for its endpoints, or new ones.
    ///
    /// `worker` makes each worker begin at another endpoint, so that few requests spread as well.
    pub(crate) fn new(cluster: &snapshot::Cluster, worker: usize, pools: &mut Pools) -> Cluster {
        let endpoint = |(addr, rotation): &(SocketAddr, Arc<Rotation>)| Endpoint {
            addr: *addr,
            rotation: rotation.clone(),
            pool: pools.entry(*addr).or_default().clone(),
        };
        Cluster {
            id: cluster.id,
            endpoints: cluster.endpoints.iter().map(endpoint).collect(),
            next: Cell::new(worker % cluster.endpoints.len()),
            connect_timeout: cluster.connect_timeout,
            idle_timeout: cluster.idle_timeout,
            pool_idle_max: cluster.pool_idle_max,
            terms: (cluster.protocol == Protocol::Http2).then(|| Terms::of(cluster)),
        }
    }

    /// A kept connection to the next endpoint in turn: what most requests find, without a wait.
    pub(crate) fn kept(&self) -> Option<Upstream> {
        let Endpoint { rotation, pool, .. } = &self.endpoints[self.next.get()];
        if self.terms.is_some() || !rotation.is_in() {
            return None;
        }
        let connection = pool.take()?;
        self.turn();
        Some(Upstream::Http1(connection))
    }

    /// A connection to the next endpoint in turn, or a place on one: a kept one if there is one, else a new one.
    ///
    /// `fresh` asks for a new one, if there may be one more.
    ///
    /// # Errors
    /// [`ProxyError::Connect`] when no endpoint takes the connection; each that is in rotation is tried once.
    /// [`ProxyError::NoHealthyUpstream`] when none is.
    pub(crate) async fn connect(&self, worker: &Rc<Worker>, fresh: bool) -> Result<Upstream, ProxyError> {
        let mut last = None;
        for _ in 0..self.endpoints.len() {
            let Endpoint { addr, rotation, pool } = self.turn();
            if !rotation.is_in() {
                continue;
            }
            if self.terms.is_none()
                && !fresh
                && let Some(connection) = pool.take()
            {
                return Ok(Upstream::Http1(connection));
            }
            let connected = match &self.terms {
                None => Stream::connect(*addr, self.connect_timeout).await.map(|stream| {
                    worker.shard.upstream_connection_opened(self.id);
                    Upstream::Http1(Connection::new(stream, *addr, &worker.deadlines))
                }),
                Some(terms) => {
                    let open = http2::Stream::open(&pool.shared, *addr, terms, worker, fresh);
                    open.await.map(|stream| Upstream::Http2(Box::new(stream)))
                }
            };
            match connected {
                Ok(upstream) => return Ok(upstream),
                Err(source) => {
                    let error = ProxyError::Connect { addr: *addr, source };
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
        let Some(endpoint) = self.endpoints.iter().find(|endpoint| endpoint.addr == connection.addr) else {
            return;
        };
        let mut idle = endpoint.pool.idle.borrow_mut();
        if idle.len() < self.pool_idle_max {
            connection.reused = true;
            connection.deadline.serve(None);
            connection.deadline.limit(None);
            connection.deadline.set(millis(self.idle_timeout), Shut::Both);
            idle.push(connection);
        }
    }

    fn turn(&self) -> &Endpoint {
        let turn = self.next.get();
        self.next.set(if turn + 1 < self.endpoints.len() { turn + 1 } else { 0 });
        &self.endpoints[turn]
    }
}

impl Pool {
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
}

impl Connection {
    fn new(stream: Stream, addr: SocketAddr, deadlines: &Rc<Deadlines>) -> Connection {
        Connection { deadline: deadlines.register(stream.fd()), stream, addr, reused: false }
    }
}
