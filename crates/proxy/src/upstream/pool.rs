//! Connections to the endpoints of a cluster, kept alive per worker.
//!
//! A pool belongs to an *endpoint* and the TLS settings that it is used with, not to a snapshot: a reload that keeps both keeps
//! the connections. Once one of them changes, no request goes on a connection from before. Idle
//! connections have no operation in flight and no buffer; the deadline table closes those that idle too long, and
//! [`Cluster::connect`] leaves out those that died meanwhile. Those that requests share are in [`super::http2`].

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    io,
    net::IpAddr,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use ringward_config::{Balance, EndpointAddr, HashKey, Protocol};
use ringward_http::RequestHead;
use ringward_identity::PeerIdentity;
use ringward_telemetry::{ClusterId, GrpcStatus, Shard};
use ringward_tls::{EndpointTls, UpstreamTls, UpstreamTlsFailure};
use smallvec::SmallVec;

use super::{
    by_alpn,
    choice::Choice,
    failure_in, hash_key,
    http2::{self, SharedPool, Terms},
    load::{Active, Budget, Limits, Load, Retrying},
    tls::TlsStream,
    transport::Transport,
};
use crate::{
    error::ProxyError,
    io::{Deadline, Shut, Stream, within},
    snapshot,
    upstream::millis,
    worker::Worker,
};

/// The pools of one worker.
pub(crate) type Pools = HashMap<PoolKey, Rc<Pool>>;

/// What two clusters that share connections have in common. A connection is good for nothing else: who the upstream is was found
/// out by its TLS side, and so was who we are.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct PoolKey {
    addr: EndpointAddr,
    /// [`UpstreamTls::digest`].
    tls: Option<[u8; 32]>,
}

impl PoolKey {
    pub(crate) fn new(addr: EndpointAddr, tls: Option<&UpstreamTls>) -> PoolKey {
        PoolKey { addr, tls: tls.map(|tls| *tls.digest()) }
    }
}

/// Idle connections to one endpoint; the most recently used one is taken first, so that a burst's extra connections age out.
#[derive(Debug)]
pub(crate) struct Pool {
    plain: Idle<Stream>,
    /// Those with TLS, if `tls` is there.
    encrypted: Idle<TlsStream>,
    pub(super) tls: Option<Rc<EndpointTls>>,
    /// How many connections for one exchange at a time there are, in use, idle or about to be opened.
    open: Rc<Cell<usize>>,
    /// Those that speak HTTP/2.
    pub(super) shared: Rc<SharedPool>,
    /// Its endpoint is in no cluster any more.
    closed: Cell<bool>,
}

/// Connections of one kind that wait for an exchange.
#[derive(Debug)]
struct Idle<S>(RefCell<Vec<Connection<S>>>);

/// One worker's view of a cluster.
#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) id: ClusterId,
    pub(crate) name: Arc<str>,
    /// What is under way, whatever the snapshot.
    pub(crate) load: Rc<Load>,
    budget: Budget,
    limits: Option<Limits>,
    choice: Choice,
    /// The property of a request that decides, if one does.
    hash_key: Option<HashKey>,
    connect_timeout: Duration,
    idle_timeout: Duration,
    pool_idle_max: usize,
    /// Connections begin with whose they are: they are taken from no pool and kept in none.
    announces: bool,
    /// With HTTP/2.
    terms: Option<Terms>,
}

/// What a request wants of a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted<'a> {
    /// A new one, if there may be one more.
    pub(crate) fresh: bool,
    /// That speaks HTTP/2, where endpoints choose.
    pub(crate) http2: bool,
    /// To another endpoint than these, if one takes it.
    pub(crate) others_than: &'a [EndpointAddr],
}

/// What an exchange has of its endpoint.
pub(crate) enum Upstream {
    Http1(Connection),
    Http1Tls(Connection<TlsStream>),
    /// Boxed, so that those of the many need not have room for it.
    Http2(Box<http2::Stream>),
}

impl Upstream {
    pub(crate) fn addr(&self) -> &EndpointAddr {
        match self {
            Upstream::Http1(connection) => &connection.addr,
            Upstream::Http1Tls(connection) => &connection.addr,
            Upstream::Http2(stream) => stream.addr(),
        }
    }

    /// Says whether an exchange has begun on it and not ended.
    pub(crate) fn set_busy(&mut self, is_busy: bool) {
        match self {
            Upstream::Http1(connection) => connection.is_busy = is_busy,
            Upstream::Http1Tls(connection) => connection.is_busy = is_busy,
            // The connection is others', too.
            Upstream::Http2(_) => {}
        }
    }

    /// Its connection has carried an exchange before.
    pub(crate) fn is_reused(&self) -> bool {
        match self {
            Upstream::Http1(connection) => connection.reused,
            Upstream::Http1Tls(connection) => connection.reused,
            Upstream::Http2(stream) => stream.is_reused(),
        }
    }
}

impl Cluster {
    /// The view of `cluster`, with the pools that `pools` has for its endpoints, or new ones. `load` is the one that an earlier
    /// view has.
    pub(crate) fn new(
        cluster: &snapshot::Cluster,
        (worker, workers): (usize, usize),
        pools: &mut Pools,
        load: Rc<Load>,
    ) -> Cluster {
        let hash_key = match cluster.endpoints.balance() {
            Balance::Maglev(key) => Some(key.clone()),
            Balance::RoundRobin | Balance::LeastRequest | Balance::Random => None,
        };
        Cluster {
            id: cluster.id,
            name: cluster.name.clone(),
            load,
            budget: Budget::new(cluster.retry_budget, workers),
            limits: cluster.limits.map(|limits| Limits::new(&limits, workers)),
            choice: Choice::new(cluster.endpoints.clone(), cluster.tls.clone(), worker, pools),
            hash_key,
            connect_timeout: cluster.connect_timeout,
            idle_timeout: cluster.idle_timeout,
            pool_idle_max: cluster.pool_idle_max,
            announces: cluster.announces,
            terms: (cluster.protocol != Protocol::Http1).then(|| Terms::of(cluster)),
        }
    }

    /// Connections begin with whose they are.
    pub(crate) fn announces(&self) -> bool {
        self.announces
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
        if self.announces || self.terms.as_ref().is_some_and(|terms| !terms.by_alpn()) {
            return None;
        }
        self.choice.try_next(hash, Pool::take)
    }

    /// A connection to the endpoint whose turn it is, or a place on one: a kept one if there is one, else a new one.
    ///
    /// `announced` is what a new one begins with, where [`Self::announces`] asks for it.
    ///
    /// # Errors
    /// [`ProxyError::Connect`] when no endpoint takes the connection; each that takes requests is tried once.
    /// [`ProxyError::NoHealthyUpstream`] when none does, and [`ProxyError::NoEndpoints`] when there is none.
    pub(crate) async fn connect(
        &self,
        worker: &Rc<Worker>,
        hash: Option<u64>,
        Wanted { fresh, http2: needs_http2, others_than }: Wanted<'_>,
        announced: Option<&[u8]>,
    ) -> Result<Upstream, ProxyError> {
        self.refresh(worker);
        let members = self.choice.known();
        let mut last = None;
        let mut order = self.choice.order(&members, hash).fuse();
        let mut put_off = SmallVec::<[_; 2]>::new();
        while let Some((addr, pool)) = next_but(&mut order, others_than, &mut put_off) {
            if self.terms.is_none()
                && !fresh
                && !self.announces
                && let Some(kept) = pool.take()
            {
                return Ok(kept);
            }
            let connected = match &self.terms {
                None => self.open(worker, addr, pool, announced).await,
                // Boxed, so that those who know what they speak need not have room for it.
                Some(terms) if terms.by_alpn() => {
                    Box::pin(by_alpn::connect(worker, addr, pool, terms, (fresh, needs_http2))).await
                }
                Some(terms) => {
                    let open =
                        http2::Stream::open(&pool.shared, addr, pool.tls.as_ref(), terms, worker, fresh);
                    open.await.map(|stream| Upstream::Http2(Box::new(stream)))
                }
            };
            match connected {
                Ok(upstream) => return Ok(upstream),
                Err(source) => {
                    let is_told = source.get_ref().is_some_and(|cause| cause.is::<http2::Shared>());
                    let error = not_connected(addr, source);
                    worker.shard.upstream_error(self.id, error.flag());
                    if !is_told {
                        self.has_failed(addr, &error);
                    }
                    last = Some(error);
                }
            }
        }
        Err(last.unwrap_or_else(|| {
            let error =
                if members.is_empty() { ProxyError::NoEndpoints } else { ProxyError::NoHealthyUpstream };
            worker.shard.upstream_error(self.id, error.flag());
            error
        }))
    }

    /// Whether each endpoint says itself which protocol it speaks.
    pub(crate) fn chooses_protocol(&self) -> bool {
        self.terms.as_ref().is_some_and(Terms::by_alpn)
    }

    /// Refuses a call of gRPC on a connection that it cannot go on, where endpoints choose the protocol.
    ///
    /// # Errors
    /// [`ProxyError::UpstreamTls`].
    pub(crate) fn check_grpc(&self, up: &Upstream, shard: &Shard) -> Result<(), ProxyError> {
        if !self.chooses_protocol() {
            return Ok(());
        }
        by_alpn::check_grpc(up).inspect_err(|error| shard.upstream_error(self.id, error.flag()))
    }

    /// An endpoint has answered with this status, `grpc` if it was a call of gRPC.
    pub(crate) fn has_answered(&self, addr: &EndpointAddr, status: u16, grpc: Option<GrpcStatus>) {
        if let Some(outliers) = self.choice.outliers() {
            outliers.answered(addr, status, grpc);
        }
    }

    /// A request to an endpoint has failed.
    pub(crate) fn has_failed(&self, addr: &EndpointAddr, error: &ProxyError) {
        if let Some(outliers) = self.choice.outliers() {
            outliers.failed(addr, error);
        }
    }

    /// A request is under way; `None` if it has to wait for that ([`Cluster::wait`]).
    pub(crate) fn enter(&self) -> Option<Active<'_>> {
        self.load.enter(self.limits.as_ref())
    }

    /// Waits until a request is under way, as long as that may take. May be dropped wherever it is.
    ///
    /// # Errors
    /// [`ProxyError::ClusterFull`], [`ProxyError::ClusterWait`].
    pub(crate) async fn wait(&self, shard: &Shard) -> Result<Active<'_>, ProxyError> {
        let Some(limits) = &self.limits else { return Err(ProxyError::ClusterFull) };
        let entered = match within(limits.pending_timeout, self.load.wait(limits)).await {
            Some(entered) => entered.ok_or(ProxyError::ClusterFull),
            None => Err(ProxyError::ClusterWait(limits.pending_timeout)),
        };
        entered.inspect_err(|error| shard.upstream_error(self.id, error.flag()))
    }

    /// Tells the metrics what is under way.
    pub(crate) fn report(&self, shard: &Shard) {
        let (active, pending) = self.load.counts();
        let is_open = self.limits.as_ref().is_some_and(|limits| limits.is_reached(active));
        shard.upstream_load(self.id, active as u64, pending as u64, is_open);
    }

    /// Leave to try a request again; `None` if the budget is used up.
    pub(crate) fn may_retry(&self, now: Instant) -> Option<Retrying> {
        self.load.retry(&self.budget, now)
    }

    /// A number by chance, from 0 to 2^16.
    pub(crate) fn roll(&self) -> u64 {
        self.choice.roll()
    }

    /// Keeps a connection for the next exchange with its endpoint.
    pub(crate) fn keep(&self, upstream: Upstream) {
        if self.announces {
            return;
        }
        let members = self.choice.known();
        let (idle_max, idle_timeout) = (self.pool_idle_max, self.idle_timeout);
        match upstream {
            Upstream::Http1(connection) => {
                if let Some(pool) = members.pool(&connection.addr).filter(|pool| pool.wants(&connection)) {
                    pool.plain.keep(connection, idle_max, idle_timeout);
                }
            }
            Upstream::Http1Tls(connection) => {
                if let Some(pool) = members.pool(&connection.addr).filter(|pool| pool.wants(&connection)) {
                    pool.encrypted.keep(connection, idle_max, idle_timeout);
                }
            }
            // A place on a connection becomes free by itself.
            Upstream::Http2(_) => {}
        }
    }

    /// A new connection for one exchange at a time.
    async fn open(
        &self,
        worker: &Worker,
        addr: &EndpointAddr,
        pool: &Pool,
        announced: Option<&[u8]>,
    ) -> io::Result<Upstream> {
        let held = pool.hold();
        let peer = (addr, pool.tls.as_deref());
        let (opened, deadline) = open(peer, announced, self.id, self.connect_timeout, worker).await?;
        Ok(match opened {
            Opened::Plain(stream) => Upstream::Http1(Connection::new(stream, deadline, addr.clone(), held)),
            Opened::Tls(stream) => Upstream::Http1Tls(Connection::new(stream, deadline, addr.clone(), held)),
        })
    }

    /// Learns of the endpoints in force. Those that are in no cluster any more lose their pools: their idle connections are
    /// closed, those in use end with their exchange.
    pub(crate) fn refresh(&self, worker: &Worker) {
        if self.choice.refresh(worker.pools()) {
            worker.forget_pools();
        }
    }

    /// What its connections are kept by, as far as this worker knows its endpoints.
    pub(crate) fn pool_keys(&self) -> Vec<PoolKey> {
        self.choice.pool_keys()
    }
}

/// The next endpoint in order, those of `last` at the end.
fn next_but<'m, T>(
    order: &mut impl Iterator<Item = (&'m EndpointAddr, T)>,
    last: &[EndpointAddr],
    put_off: &mut SmallVec<[(&'m EndpointAddr, T); 2]>,
) -> Option<(&'m EndpointAddr, T)> {
    for next in order {
        if !last.contains(next.0) {
            return Some(next);
        }
        put_off.push(next);
    }
    put_off.pop()
}

impl Pool {
    pub(super) fn new(addr: &EndpointAddr, tls: Option<&Arc<UpstreamTls>>) -> Pool {
        Pool {
            plain: Idle(RefCell::default()),
            encrypted: Idle(RefCell::default()),
            tls: tls.map(|tls| Rc::new(tls.endpoint(addr.ip()))),
            open: Rc::default(),
            shared: Rc::default(),
            closed: Cell::new(false),
        }
    }

    /// How many requests have a connection of this worker to the endpoint, or wait for one.
    pub(super) fn load(&self) -> usize {
        self.open.get() - self.plain.len() - self.encrypted.len() + self.shared.load()
    }

    /// Counts a connection of its own for each request.
    pub(super) fn hold(&self) -> Open {
        self.open.set(self.open.get() + 1);
        Open(self.open.clone())
    }

    /// Whether a connection may be kept. One that was opened before its endpoint went and came back is in the count of another
    /// pool.
    fn wants<S>(&self, connection: &Connection<S>) -> bool {
        !self.closed.get() && Rc::ptr_eq(&self.open, &connection.open.0)
    }

    /// A kept connection.
    pub(super) fn take(&self) -> Option<Upstream> {
        match self.tls {
            None => self.plain.take().map(Upstream::Http1),
            Some(_) => self.encrypted.take().map(Upstream::Http1Tls),
        }
    }

    /// Its endpoint is in no cluster any more, or with other TLS settings: closes the connections that nobody uses, and those in
    /// use once they are not.
    pub(crate) fn close(&self) {
        self.closed.set(true);
        self.plain.0.borrow_mut().clear();
        self.encrypted.0.borrow_mut().clear();
        self.shared.close();
    }

    /// Forgets the connections that died of age.
    pub(crate) fn prune(&self) {
        self.plain.prune();
        self.encrypted.prune();
        self.shared.prune();
    }
}

impl<S: Transport> Idle<S> {
    fn len(&self) -> usize {
        self.0.borrow().len()
    }

    /// A kept connection that is alive, as far as can be seen, and on which nothing waits: bytes that nobody asked for would be
    /// taken for the answer to the next request, which may be another client's. The look costs a system call, and only narrows
    /// the race with an upstream that closes the connection.
    fn take(&self) -> Option<Connection<S>> {
        let mut idle = self.0.borrow_mut();
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

    fn keep(&self, mut connection: Connection<S>, idle_max: usize, idle_timeout: Duration) {
        let mut idle = self.0.borrow_mut();
        if idle.len() < idle_max && connection.stream.rest() {
            connection.reused = true;
            connection.deadline.serve(None);
            connection.deadline.limit(None);
            connection.deadline.set(millis(idle_timeout), Shut::Both);
            idle.push(connection);
        }
    }

    fn prune(&self) {
        self.0.borrow_mut().retain(|connection| !connection.deadline.fired());
    }
}

/// A connection to an endpoint.
#[derive(Debug)]
pub(crate) struct Connection<S = Stream> {
    // Declared before the stream: the entry in the table of deadlines must end before the descriptor is closed.
    pub(crate) deadline: Deadline,
    pub(crate) stream: S,
    pub(crate) addr: EndpointAddr,
    /// It has carried an exchange before.
    pub(crate) reused: bool,
    open: Open,
    /// It is in the midst of an exchange.
    is_busy: bool,
}

impl<S> Connection<S> {
    pub(super) fn new(stream: S, deadline: Deadline, addr: EndpointAddr, open: Open) -> Connection<S> {
        Connection { deadline, stream, addr, reused: false, open, is_busy: false }
    }
}

impl<S> Drop for Connection<S> {
    fn drop(&mut self) {
        // A client can have us give up thousands of exchanges in a second. Were their ports kept from use, none would be left.
        if self.is_busy {
            self.deadline.reset_when_closed();
        }
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

/// What a new connection runs over.
pub(super) enum Opened {
    Plain(Stream),
    Tls(TlsStream),
}

/// A new connection to `addr`, within `limit`, with its entry in the table of deadlines. It begins with `announced`, ahead of
/// everything else.
pub(super) async fn open(
    (addr, tls): (&EndpointAddr, Option<&EndpointTls>),
    announced: Option<&[u8]>,
    cluster: ClusterId,
    limit: Duration,
    worker: &Worker,
) -> io::Result<(Opened, Deadline)> {
    let began = Cell::new(Instant::now());
    let left = || limit.saturating_sub(began.get().elapsed());
    let connecting = async {
        // What it has waited for its turn is no fault of the endpoint.
        began.set(Instant::now());
        match addr {
            EndpointAddr::Ip(addr) => Stream::connect(*addr, left()).await,
            EndpointAddr::Unix(path) => Stream::connect_unix(path, left()).await,
        }
    };
    let mut stream = worker.turnstile.connect(connecting).await?;
    worker.shard.upstream_connection_opened(cluster);
    if let Some(announced) = announced {
        // The socket is given up when time runs out, so dropping the operation loses nothing.
        let sent = Box::pin(within(left(), stream.write.write_all(announced.to_vec(), || {})));
        sent.await.ok_or(io::ErrorKind::TimedOut)?.0?;
    }
    let fd = stream.fd();
    let opened = match tls {
        None => Opened::Plain(stream),
        Some(tls) => {
            // Boxed, so that connections without TLS need not have room for it.
            let shaken = Box::pin(TlsStream::connect(stream, tls, (left(), limit), &worker.buffers)).await?;
            worker.shard.upstream_handshake(cluster, shaken.is_resumed());
            Opened::Tls(shaken)
        }
    };
    Ok((opened, worker.deadlines.register(fd)))
}

/// Why there is no connection to `addr`.
fn not_connected(addr: &EndpointAddr, source: io::Error) -> ProxyError {
    match failure_in(&source) {
        Some(UpstreamTlsFailure { reason, message }) => {
            ProxyError::UpstreamTls(UpstreamTlsFailure::new(*reason, format!("{addr}: {message}")))
        }
        None => ProxyError::Connect { addr: addr.clone(), source },
    }
}
