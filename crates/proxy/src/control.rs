//! What the control plane and the workers share: the snapshot in force, and whether to go on.
//!
//! The only memory that both worlds write to. Workers read one word per request; snapshots are dropped on the control thread,
//! because freeing a large one would stall a worker.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU8, AtomicU64, Ordering},
};

use arc_swap::ArcSwap;

use crate::snapshot::Snapshot;

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

/// The bridge between the control plane and the workers.
#[derive(Debug)]
pub struct Control {
    snapshot: ArcSwap<Snapshot>,
    /// Generation of `snapshot`, beside it so that the request path need not touch the reference count.
    generation: AtomicU64,
    phase: AtomicU8,
    /// Snapshots that were replaced and may still be in use.
    retired: Mutex<Vec<Arc<Snapshot>>>,
}

impl Control {
    /// With the first snapshot.
    pub fn new(first: Snapshot) -> Arc<Control> {
        Arc::new(Control {
            generation: AtomicU64::new(first.generation()),
            snapshot: ArcSwap::from_pointee(first),
            phase: AtomicU8::new(Phase::Running as u8),
            retired: Mutex::default(),
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

    fn retired(&self) -> MutexGuard<'_, Vec<Arc<Snapshot>>> {
        self.retired.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
