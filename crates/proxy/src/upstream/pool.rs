//! Connections to the endpoints of a cluster, kept alive per worker.
//!
//! A pool belongs to an *endpoint*, not to a snapshot: a reload that keeps the endpoint keeps its connections. Idle
//! connections have no operation in flight and no buffer; the deadline table closes those that idle too long, and
//! [`Cluster::connect`] leaves out those that died meanwhile.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    net::SocketAddr,
    rc::Rc,
    time::Duration,
};

use ringward_telemetry::ClusterId;

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
}

/// One worker's view of a cluster.
#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) id: ClusterId,
    endpoints: Vec<(SocketAddr, Rc<Pool>)>,
    next: Cell<usize>,
    connect_timeout: Duration,
    idle_timeout: Duration,
    pool_idle_max: usize,
}

impl Cluster {
    /// The view of `cluster`, with the pools that `pools` has for its endpoints, or new ones.
    ///
    /// `worker` makes each worker begin at another endpoint, so that few requests spread as well.
    pub(crate) fn new(cluster: &snapshot::Cluster, worker: usize, pools: &mut Pools) -> Cluster {
        let pool = |addr: &SocketAddr| (*addr, pools.entry(*addr).or_default().clone());
        Cluster {
            id: cluster.id,
            endpoints: cluster.endpoints.iter().map(pool).collect(),
            next: Cell::new(worker % cluster.endpoints.len()),
            connect_timeout: cluster.connect_timeout,
            idle_timeout: cluster.idle_timeout,
            pool_idle_max: cluster.pool_idle_max,
        }
    }

    /// A connection to the next endpoint in turn: a kept one if there is one, else a new one.
    ///
    /// `fresh` asks for a new one in any case.
    ///
    /// # Errors
    /// [`ProxyError::Connect`] when no endpoint takes the connection; each is tried once.
    pub(crate) async fn connect(&self, worker: &Worker, fresh: bool) -> Result<Connection, ProxyError> {
        let mut last = None;
        for _ in 0..self.endpoints.len() {
            let (addr, pool) = self.turn();
            if !fresh && let Some(connection) = pool.take() {
                return Ok(connection);
            }
            match Stream::connect(*addr, self.connect_timeout).await {
                Ok(stream) => {
                    worker.shard.upstream_connection_opened(self.id);
                    return Ok(Connection::new(stream, *addr, &worker.deadlines));
                }
                Err(source) => {
                    let error = ProxyError::Connect { addr: *addr, source };
                    worker.shard.upstream_error(self.id, error.flag());
                    last = Some(error);
                }
            }
        }
        Err(last.expect("a cluster has at least one endpoint (config)"))
    }

    /// Keeps a connection for the next exchange with its endpoint.
    pub(crate) fn keep(&self, mut connection: Connection) {
        let Some((_, pool)) = self.endpoints.iter().find(|(addr, _)| *addr == connection.addr) else {
            return;
        };
        let mut idle = pool.idle.borrow_mut();
        if idle.len() < self.pool_idle_max {
            connection.reused = true;
            connection.deadline.serve(None);
            connection.deadline.limit(None);
            connection.deadline.set(millis(self.idle_timeout), Shut::Both);
            idle.push(connection);
        }
    }

    fn turn(&self) -> &(SocketAddr, Rc<Pool>) {
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
