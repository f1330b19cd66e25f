//! What the control plane and the workers share: the snapshot in force, and whether to go on.
//!
//! The only memory that both worlds write to. Workers read one word per request; snapshots are dropped on the control thread,
//! because freeing a large one would stall a worker. What the control plane wants to know of the workers (which generation
//! they use, who is connected) they tell at their next beat.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering},
    },
};

use arc_swap::ArcSwap;
use ringward_tls::Sightings;

use crate::{live::LivePeer, snapshot::Snapshot};

/// What the workers are to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    /// Serve.
    Running = 0,
    /// Accept no more, end connections after their exchange, then return.
    Draining = 1,
    /// Return now; connections are cut.
    Stopped = 2,
}

/// How short memory is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Pressure {
    /// There is enough.
    #[default]
    None = 0,
    /// Accept no connections, and end those that there are after their exchange.
    Soft = 1,
    /// Serve no requests either.
    Hard = 2,
}

/// The bridge between the control plane and the workers.
#[derive(Debug)]
pub struct Control {
    snapshot: ArcSwap<Snapshot>,
    /// Generation of `snapshot`, beside it so that the request path need not touch the reference count.
    generation: AtomicU64,
    phase: AtomicU8,
    pressure: AtomicU8,
    /// Snapshots that were replaced and may still be in use.
    retired: Mutex<Vec<Arc<Snapshot>>>,
    /// Generation that each worker uses, by its index.
    acknowledged: Box<[AtomicU64]>,
    /// Signs of life of each worker, by its index.
    pulses: Box<[Pulse]>,
    /// Number of the census that was asked for last.
    census: AtomicU64,
    /// Answers to the last census, by worker.
    counted: Mutex<Census>,
    /// Paths of clients that were verified for the first time, for whoever fetches what is known of them.
    sightings: Sightings,
    /// Addresses whose listening sockets another process has, too, which goes on listening.
    handed_over: OnceLock<Box<[SocketAddr]>>,
    /// Open connections of each tenant that was ever configured.
    tenants: Mutex<HashMap<Arc<str>, Arc<AtomicUsize>>>,
}

/// What a worker tells at each beat.
#[derive(Debug, Default)]
struct Pulse {
    beats: AtomicU64,
    connections: AtomicUsize,
}

/// What the workers have answered to one census.
#[derive(Debug, Default)]
struct Census {
    number: u64,
    answers: Vec<Option<Vec<LivePeer>>>,
}

impl Control {
    /// With the first snapshot, for a number of workers.
    pub fn new(first: Snapshot, workers: usize) -> Arc<Control> {
        Arc::new(Control {
            generation: AtomicU64::new(first.generation()),
            snapshot: ArcSwap::from_pointee(first),
            phase: AtomicU8::new(Phase::Running as u8),
            pressure: AtomicU8::new(Pressure::None as u8),
            retired: Mutex::default(),
            acknowledged: (0..workers).map(|_| AtomicU64::new(0)).collect(),
            pulses: (0..workers).map(|_| Pulse::default()).collect(),
            census: AtomicU64::new(0),
            counted: Mutex::default(),
            sightings: Sightings::new(),
            handed_over: OnceLock::new(),
            tenants: Mutex::default(),
        })
    }

    /// Puts `next` in force. Workers use it from their next request on.
    pub fn publish(&self, next: Snapshot) {
        let generation = next.generation();
        let old = self.snapshot.swap(Arc::new(next));
        // After the swap: who sees the new generation finds the new snapshot.
        self.generation.store(generation, Ordering::Release);
        self.retired().push(old);
    }

    /// Leaves the listening sockets of these addresses to a process that has copies of them. To be called once, before
    /// [`Phase::Draining`].
    pub fn hand_over(&self, addresses: Vec<SocketAddr>) {
        // A second time would be a fault of the caller; what was said first holds.
        let _ = self.handed_over.set(addresses.into());
    }

    /// Whether another process goes on listening on the socket of this address.
    pub(crate) fn is_handed_over(&self, address: SocketAddr) -> bool {
        self.handed_over.get().is_some_and(|addresses| addresses.contains(&address))
    }

    /// Drops the replaced snapshots that no worker uses any more; how many are left.
    pub fn retire(&self) -> usize {
        let mut retired = self.retired();
        // Nobody can take a further reference to a retired snapshot, so a count of one is final.
        retired.retain(|snapshot| Arc::strong_count(snapshot) > 1);
        retired.len()
    }

    /// The snapshot in force.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// The generation in force.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Whether every worker uses `generation` or a later one, so that no request is decided on an earlier one any more.
    /// Becomes true within a worker's beat of [`Control::publish`]; not before the last worker has started.
    pub fn is_acknowledged(&self, generation: u64) -> bool {
        self.acknowledged.iter().all(|worker| worker.load(Ordering::Acquire) >= generation)
    }

    /// Paths of clients that were verified for the first time.
    pub fn sightings(&self) -> &Sightings {
        &self.sightings
    }

    /// The open connections of a tenant, counted by all workers together. To be looked up once for each snapshot.
    pub(crate) fn tenant_connections(&self, tenant: &Arc<str>) -> Arc<AtomicUsize> {
        let mut tenants = self.tenants.lock().unwrap_or_else(PoisonError::into_inner);
        tenants.entry(tenant.clone()).or_default().clone()
    }

    /// A worker uses `generation` from now on.
    pub(crate) fn acknowledge(&self, worker: usize, generation: u64) {
        if let Some(acknowledged) = self.acknowledged.get(worker) {
            acknowledged.store(generation, Ordering::Release);
        }
    }

    /// How often a worker has come around so far, some 20 times per second: one whose number stays the same hangs. Its successor
    /// goes on counting.
    pub fn beats(&self, worker: usize) -> u64 {
        self.pulses.get(worker).map_or(0, |pulse| pulse.beats.load(Ordering::Relaxed))
    }

    /// How many downstream connections all workers had at their last beats.
    pub fn connections(&self) -> usize {
        self.pulses.iter().map(|pulse| pulse.connections.load(Ordering::Relaxed)).sum()
    }

    /// A worker has come around, with so many connections.
    pub(crate) fn beat(&self, worker: usize, connections: usize) {
        if let Some(pulse) = self.pulses.get(worker) {
            pulse.connections.store(connections, Ordering::Relaxed);
            pulse.beats.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Asks all workers who is connected. The answer is there within some beats, by its number here.
    pub fn start_census(&self) -> u64 {
        let mut counted = self.counted();
        let number = self.census.load(Ordering::Relaxed) + 1;
        let answers = self.acknowledged.iter().map(|_| None).collect();
        *counted = Census { number, answers };
        self.census.store(number, Ordering::Release);
        number
    }

    /// The answer to census `number`, once all workers have given it. A later census takes the place of an earlier one.
    pub fn take_census(&self, number: u64) -> Option<Vec<LivePeer>> {
        let mut counted = self.counted();
        if counted.number != number || counted.answers.iter().any(Option::is_none) {
            return None;
        }
        let answers = std::mem::take(&mut counted.answers);
        Some(answers.into_iter().flatten().flatten().collect())
    }

    /// Number of the census asked for last; 0 if none.
    pub(crate) fn census(&self) -> u64 {
        self.census.load(Ordering::Acquire)
    }

    /// A worker's answer to census `number`.
    pub(crate) fn answer_census(&self, worker: usize, number: u64, peers: Vec<LivePeer>) {
        let mut counted = self.counted();
        if counted.number == number
            && let Some(answer) = counted.answers.get_mut(worker)
        {
            *answer = Some(peers);
        }
    }

    /// What the workers are to do.
    pub fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Acquire) {
            0 => Phase::Running,
            1 => Phase::Draining,
            _ => Phase::Stopped,
        }
    }

    /// Tells the workers to go on to `phase`; there is no way back.
    pub fn advance(&self, phase: Phase) {
        self.phase.fetch_max(phase as u8, Ordering::AcqRel);
    }

    /// How short memory is. Nothing else hangs on it, so its order among other changes does not matter.
    pub fn pressure(&self) -> Pressure {
        match self.pressure.load(Ordering::Relaxed) {
            0 => Pressure::None,
            1 => Pressure::Soft,
            _ => Pressure::Hard,
        }
    }

    /// Tells the workers how short memory is.
    pub fn press(&self, pressure: Pressure) {
        self.pressure.store(pressure as u8, Ordering::Relaxed);
    }

    fn counted(&self) -> MutexGuard<'_, Census> {
        self.counted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn retired(&self) -> MutexGuard<'_, Vec<Arc<Snapshot>>> {
        self.retired.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
