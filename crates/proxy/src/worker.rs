//! One worker: everything that a core owns, and the beat that keeps it current.
//!
//! Nothing in here is shared with other workers but [`Control`], of which the request path reads one word (the generation).

use std::{
    cell::{Cell, OnceCell, RefCell},
    collections::{HashMap, HashSet},
    num::NonZeroU32,
    ops::DerefMut,
    panic::AssertUnwindSafe,
    pin::Pin,
    rc::Rc,
    sync::{Arc, atomic::AtomicUsize, mpsc},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use ringward_http::{RequestHead, ResponseHead};
use ringward_policy::{CacheOptions, CachingWorker};
use ringward_telemetry::{RecordSender, Shard};
use ringward_tls::{ForwardedVerifier, MEMO_ENTRIES_DEFAULT, PathMemo, WorkerTls};

use crate::{
    candidate,
    clock::Clock,
    compression::Encoders,
    control::{Control, Phase},
    h2::Seats,
    io::{self, BufferPool, Deadlines, Driver, DriverMode, RuntimeError, Turnstile},
    listener::{self, ListenSocket},
    live::Live,
    policy_body::HeldBodies,
    policy_server::Asker,
    retired::Retired,
    shelf::Shelf,
    snapshot::{Forwarding, Policy, Snapshot},
    upstream::{Cluster, Pools},
};

/// What a worker thread is started with.
#[derive(Debug)]
pub struct WorkerOptions {
    /// Number of this worker, from 0.
    pub index: usize,
    /// How many there are; limits per node are divided by it.
    pub workers: usize,
    /// CPU to pin the thread to.
    pub cpu: Option<usize>,
    /// Which driver to use.
    pub driver: DriverMode,
    /// This worker's counters.
    pub shard: Shard,
    /// This worker's queue of log records.
    pub records: RecordSender,
    /// Listening sockets of this worker by listener name.
    pub listeners: Vec<(String, Vec<ListenSocket>)>,
    /// Told once which driver runs, when connections are accepted on all sockets.
    pub started: mpsc::Sender<Driver>,
}

/// Runs a worker on this thread until it was stopped or has drained.
///
/// # Errors
/// When no runtime of the asked kind can be built.
pub fn run_worker(control: Arc<Control>, options: WorkerOptions) -> Result<(), RuntimeError> {
    if let Some(cpu) = options.cpu
        && let Err(error) = io::pin_to_cpu(cpu)
    {
        tracing::warn!(worker = options.index, cpu, %error, "cannot pin the worker to its cpu, it will wander");
    }
    ringward_tls::seed_random();
    io::run_on_this_thread(options.driver, |driver| run(driver, control, options))
}

/// The state of one worker.
pub(crate) struct Worker {
    pub(crate) index: usize,
    pub(crate) workers: usize,
    pub(crate) control: Arc<Control>,
    pub(crate) shard: Shard,
    pub(crate) records: RecordSender,
    pub(crate) buffers: Rc<BufferPool>,
    pub(crate) deadlines: Rc<Deadlines>,
    pub(crate) live: Live,
    pub(crate) heads: Heads,
    /// Tasks for streams of HTTP/2.
    pub(crate) seats: Seats,
    /// For tasks that have much to do at once.
    pub(crate) turnstile: Rc<Turnstile>,
    pub(crate) clock: Clock,
    /// What policies look at of the bodies of requests.
    pub(crate) bodies: HeldBodies,
    /// What compresses the bodies of responses.
    pub(crate) encoders: Encoders,
    /// What was told of candidates of policies.
    pub(crate) candidates: candidate::Sampling,
    view: RefCell<Rc<View>>,
    pools: RefCell<Pools>,
    retired: Retired,
    /// Client chains that were verified lately.
    memo: PathMemo,
    connections: Cell<u64>,
    /// The census that was answered last.
    census: Cell<u64>,
}

/// A policy as this worker evaluates it, with the decisions that it has given. Shared by the views of all snapshots that have
/// the policy.
pub(crate) type Evaluator = Rc<RefCell<CachingWorker>>;

/// A snapshot as this worker uses it.
pub(crate) struct View {
    /// The TLS side of each virtual host, by the snapshot's listener and host index, made when it is needed: making those of
    /// thousands of hosts at once would hold all connections up.
    hosts: Vec<Vec<OnceCell<WorkerTls>>>,
    /// What judges forwarded certificates, by the same indices.
    forwarded: Vec<Vec<OnceCell<ForwardedVerifier>>>,
    /// The worker's.
    memo: PathMemo,
    /// Evaluators, by the snapshot's policy index.
    pub(crate) policies: Vec<Evaluator>,
    /// Those that ask the servers of policies, by the snapshot's policy index.
    pub(crate) askers: Vec<Option<Rc<Asker>>>,
    /// By the snapshot's cluster index.
    pub(crate) clusters: Vec<Rc<Cluster>>,
    /// Open connections, by the snapshot's tenant index.
    pub(crate) tenants: Vec<Arc<AtomicUsize>>,
    /// Last, so that what shares something with it is dropped before: the control plane drops the snapshot as soon as no view
    /// has it, and whoever then has the rest of it would have to free that.
    pub(crate) snapshot: Arc<Snapshot>,
}

impl View {
    fn new(
        control: &Control,
        previous: Option<&View>,
        (worker, workers): (usize, usize),
        pools: &mut Pools,
        memo: &PathMemo,
    ) -> View {
        let snapshot = control.snapshot();
        let hosts =
            snapshot.listeners.iter().map(|listener| vec![OnceCell::new(); listener.hosts.len()]).collect();
        let forwarded = snapshot
            .listeners
            .iter()
            .map(|listener| listener.hosts.iter().map(|_| OnceCell::new()).collect());
        let forwarded = forwarded.collect();
        let policies = snapshot.policies.iter().map(|policy| evaluator(policy, previous, workers)).collect();
        let previous_askers = previous.map(|view| &*view.askers);
        let askers = snapshot.policies.iter().map(|policy| Asker::of(policy, previous_askers)).collect();
        let loads = previous.map_or(&[][..], |view| &view.clusters);
        let mut loads: HashMap<_, _> =
            loads.iter().map(|cluster| (cluster.name.clone(), cluster.load.clone())).collect();
        let clusters = snapshot.clusters.iter().map(|cluster| {
            // One for all that routes make of a cluster with certificates of their own.
            let load = loads.entry(cluster.name.clone()).or_default().clone();
            Rc::new(Cluster::new(cluster, (worker, workers), pools, load))
        });
        let clusters = clusters.collect();
        let tenants =
            snapshot.tenants.iter().map(|tenant| control.tenant_connections(&tenant.name)).collect();
        View { hosts, forwarded, memo: memo.clone(), policies, askers, clusters, tenants, snapshot }
    }

    /// The TLS side of a virtual host, by the snapshot's indices.
    pub(crate) fn host_tls(&self, listener: usize, host: usize) -> &WorkerTls {
        self.hosts[listener][host].get_or_init(|| {
            let tls = &self.snapshot.listeners[listener].hosts[host].tls;
            tls.worker_view(&self.memo).expect("the same was built for the snapshot")
        })
    }

    /// What judges the certificates that load balancers forward to a virtual host with these rules, by the snapshot's indices.
    pub(crate) fn forwarded(
        &self,
        (listener, host): (usize, usize),
        forwarding: &Forwarding,
    ) -> &ForwardedVerifier {
        self.forwarded[listener][host]
            .get_or_init(|| ForwardedVerifier::new(forwarding.auth.clone(), &self.memo))
    }

    fn has(&self, evaluator: &Evaluator) -> bool {
        self.policies.iter().any(|own| Rc::ptr_eq(own, evaluator))
    }

    /// Tells the metrics how the decision caches stand.
    fn report_caches(&self, shard: &Shard) {
        for (policy, evaluator) in self.snapshot.policies.iter().zip(&self.policies) {
            let evaluator = evaluator.borrow();
            shard.policy_cache_state(policy.id, evaluator.is_active(), evaluator.entries() as u64);
        }
    }

    /// The configuration generation that this is.
    pub(crate) fn generation(&self) -> u64 {
        self.snapshot.generation()
    }
}

/// The evaluator of `policy`, taken over if the policy is the same: making one takes milliseconds for large policies, during
/// which all connections of the worker would wait.
///
/// Its decisions come along: they follow from the policy with its data and from what the policy reads of a request, and from
/// nothing else of a configuration. What a route is, its labels included, is read of the request like all else.
fn evaluator(policy: &Policy, previous: Option<&View>, workers: usize) -> Evaluator {
    let same = |old: &Policy| {
        std::ptr::addr_eq(Arc::as_ptr(&old.compiled), Arc::as_ptr(&policy.compiled))
            && old.cache == policy.cache
    };
    let kept = previous.and_then(|view| {
        let index = view.snapshot.policies.iter().position(same)?;
        Some(view.policies[index].clone())
    });
    kept.unwrap_or_else(|| {
        let options = policy.cache.map(|options| CacheOptions {
            misses_per_second: options.misses_per_second.map(|rate| share(rate, workers)),
            ..options
        });
        Rc::new(RefCell::new(CachingWorker::new(&*policy.compiled, options.as_ref())))
    })
}

/// A worker's share of a rate that is per node.
fn share(rate: NonZeroU32, workers: usize) -> NonZeroU32 {
    let workers = u32::try_from(workers).unwrap_or(u32::MAX).max(1);
    NonZeroU32::new(rate.get().div_ceil(workers)).unwrap_or(rate)
}

impl Worker {
    /// The snapshot in force. One atomic load when nothing changed.
    pub(crate) fn view(&self) -> Rc<View> {
        let view = self.view.borrow();
        if self.is_current(&view) {
            return view.clone();
        }
        drop(view);
        self.refresh()
    }

    /// Whether `view` is still the snapshot in force. It may be ahead for a moment: the generation is published after the snapshot.
    pub(crate) fn is_current(&self, view: &View) -> bool {
        view.generation() >= self.control.generation()
    }

    #[cold]
    fn refresh(&self) -> Rc<View> {
        let began = Instant::now();
        let previous = self.view.borrow().clone();
        let mut pools = self.pools.borrow_mut();
        let view = Rc::new(View::new(
            &self.control,
            Some(&previous),
            (self.index, self.workers),
            &mut pools,
            &self.memo,
        ));
        // Those of policies that are gone have nothing any more.
        for policy in &previous.snapshot.policies {
            self.shard.policy_cache_state(policy.id, false, 0);
            self.shard.policy_server_circuit(policy.id, false);
        }
        for cluster in &previous.snapshot.clusters {
            self.shard.upstream_load(cluster.id, 0, 0, false);
        }
        view.report_caches(&self.shard);
        view.clusters.iter().for_each(|cluster| cluster.report(&self.shard));
        for evaluator in previous.policies.iter().filter(|evaluator| !view.has(evaluator)) {
            self.retired.take(evaluator.clone(), previous.snapshot.clone());
        }
        *self.view.borrow_mut() = view.clone();
        drop(pools);
        self.forget_pools();
        self.control.acknowledge(self.index, view.generation());
        // If no exchange has it, all of it is freed here, which counts.
        drop(previous);
        self.shard.snapshot_adopted(u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX));
        view
    }

    /// Connections to endpoints of upstreams.
    pub(crate) fn pools(&self) -> &RefCell<Pools> {
        &self.pools
    }

    /// Forgets those to endpoints that are in no cluster any more, or with other TLS settings: idle ones are closed, those in use
    /// end with their exchange.
    pub(crate) fn forget_pools(&self) {
        let view = self.view.borrow();
        let known: HashSet<_> = view.clusters.iter().flat_map(|cluster| cluster.pool_keys()).collect();
        let mut pools = self.pools.borrow_mut();
        for (_, pool) in pools.extract_if(|key, _| !known.contains(key)) {
            pool.close();
        }
    }

    /// A number for the next connection, unique in this process.
    pub(crate) fn connection_id(&self) -> u64 {
        self.connections.set(self.connections.get() + 1);
        (self.index as u64) << CONNECTION_BITS | self.connections.get()
    }

    /// This worker's share of a limit that is per node.
    pub(crate) fn share(&self, limit: usize) -> usize {
        limit.div_ceil(self.workers)
    }

    fn answer_census(&self) {
        let asked = self.control.census();
        if self.census.replace(asked) != asked {
            self.control.answer_census(self.index, asked, self.live.census());
        }
    }

    /// Whether connections are cut, since they did not end within the drain.
    pub(crate) fn is_stopped(&self) -> bool {
        self.control.phase() == Phase::Stopped
    }

    /// Whether new requests should be the last on their connections.
    pub(crate) fn is_draining(&self) -> bool {
        self.control.phase() != Phase::Running
    }
}

/// Parsed heads, lent to exchanges. Boxed: an exchange's state, which every connection has room for, holds but a pointer.
#[derive(Default)]
pub(crate) struct Heads {
    requests: Shelf<Box<RequestHead>>,
    responses: Shelf<Box<ResponseHead>>,
}

impl Heads {
    pub(crate) fn request(&self) -> Box<RequestHead> {
        self.requests.take().unwrap_or_default()
    }

    pub(crate) fn response(&self) -> Box<ResponseHead> {
        self.responses.take().unwrap_or_default()
    }

    pub(crate) fn put_request(&self, head: Box<RequestHead>) {
        self.requests.put(head, HEADS_KEPT);
    }

    pub(crate) fn put_response(&self, head: Box<ResponseHead>) {
        self.responses.put(head, HEADS_KEPT);
    }

    /// As [`Shelf::age`].
    fn age(&self) {
        self.requests.age();
        self.responses.age();
    }
}

async fn run(driver: Driver, control: Arc<Control>, options: WorkerOptions) {
    let mut pools = Pools::new();
    let memo = PathMemo::new(MEMO_ENTRIES_DEFAULT).reporting_to(control.sightings().clone());
    let workers = options.workers.max(1);
    let view = View::new(&control, None, (options.index, workers), &mut pools, &memo);
    view.report_caches(&options.shard);
    control.acknowledge(options.index, view.generation());
    let worker = Rc::new(Worker {
        index: options.index,
        workers,
        control,
        shard: options.shard,
        records: options.records,
        buffers: Rc::default(),
        deadlines: Rc::default(),
        live: Live::default(),
        heads: Heads::default(),
        seats: Seats::default(),
        turnstile: Turnstile::new(driver),
        clock: Clock::new(),
        bodies: HeldBodies::default(),
        candidates: candidate::Sampling::default(),
        encoders: Encoders::default(),
        view: RefCell::new(Rc::new(view)),
        pools: RefCell::new(pools),
        retired: Retired::default(),
        memo,
        connections: Cell::new(0),
        census: Cell::new(0),
    });
    match listener::open(&worker, options.listeners) {
        Ok(listeners) => {
            // The main thread may have given up waiting, which is its business.
            let _ = options.started.send(driver);
            beat(&worker, listeners).await;
        }
        Err(error) => {
            tracing::error!(worker = worker.index, %error, "the worker cannot take over its listening sockets");
        }
    }
}

/// Sweeps deadlines, adopts snapshots, and ends the worker when it is told to.
async fn beat(worker: &Rc<Worker>, listeners: Vec<listener::Handle>) {
    let start = Instant::now();
    for turn in 0_u64.. {
        io::sleep(INTERVAL).await;
        let now = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
        worker.deadlines.sweep(now);
        if turn % ABANDONED_EVERY == 0 {
            worker.deadlines.sweep_abandoned();
            worker.pools.borrow().values().for_each(|pool| pool.prune());
            // Of a cluster that nobody asks for, too, so that no connection to an endpoint that is gone stays open.
            for cluster in &worker.view().clusters {
                cluster.refresh(worker);
                cluster.report(&worker.shard);
            }
            worker.view().askers.iter().flatten().for_each(|asker| asker.tend(&worker.shard));
            worker.buffers.age();
            worker.heads.age();
        }
        let view = worker.view();
        worker.clock.tick();
        worker.shard.heartbeat(worker.clock.now_unix().unsigned_abs() * 1000, view.generation());
        worker.control.beat(worker.index, listeners.iter().map(listener::Handle::connections).sum());
        worker.live.sweep(&view, now, worker.is_draining(), worker.workers);
        listeners.iter().for_each(|listener| listener.beat(&view.snapshot, &worker.shard));
        worker.answer_census();
        worker.retired.shrink();
        match worker.control.phase() {
            Phase::Running => {}
            Phase::Draining => {
                listeners.iter().for_each(|listener| listener.close(worker));
                if listeners.iter().all(listener::Handle::is_empty) {
                    return;
                }
            }
            Phase::Stopped => {
                worker.live.cut_all();
                // What was in flight is still to be recorded.
                io::sleep(INTERVAL).await;
                return;
            }
        }
    }
}

/// A task whose panic ends it alone, as `Err`.
pub(crate) struct Contained<P>(Pin<P>);

impl<F> Contained<Box<F>> {
    /// Boxed, because a future that is passed on by value takes its room twice.
    pub(crate) fn new(task: F) -> Contained<Box<F>> {
        Contained(Box::pin(task))
    }
}

impl<'f, F> Contained<&'f mut F> {
    /// As [`Contained::new`], where there is a place for the task.
    pub(crate) fn pinned(task: Pin<&'f mut F>) -> Contained<&'f mut F> {
        Contained(task)
    }
}

impl<P: DerefMut<Target: Future> + Unpin> Future for Contained<P> {
    type Output = Result<<P::Target as Future>::Output, Panicked>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        // What the task owned is dropped with it; what it shares is made of cells that are consistent between statements.
        match std::panic::catch_unwind(AssertUnwindSafe(|| self.0.as_mut().poll(cx))) {
            Ok(poll) => poll.map(Ok),
            Err(_) => Poll::Ready(Err(Panicked)),
        }
    }
}

/// A contained task panicked. The panic hook has reported it.
pub(crate) struct Panicked;

/// How often deadlines are checked, and changes noticed that no traffic brings up.
const INTERVAL: Duration = Duration::from_millis(io::SWEEP_MILLIS);
/// Every how many beats the clients of waiting exchanges are checked (a system call each), and what is kept but not needed is
/// dropped.
const ABANDONED_EVERY: u64 = 10;
/// Bits of a connection's number below the worker's.
const CONNECTION_BITS: u32 = 48;
/// Parsed heads kept by one worker; each has a buffer for the largest head that it held.
const HEADS_KEPT: usize = 512;
