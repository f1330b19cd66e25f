//! Which endpoints of a cluster take requests: all, or those that whoever checks them leaves in.
//!
//! Checks run on the control plane, once for all workers. What they find out is one word per endpoint, which outlives
//! snapshots and is read once per choice; why an endpoint is out, and when too few are in for that to make sense, the workers
//! do not know.

use std::sync::atomic::{AtomicBool, Ordering};

/// Whether an endpoint takes requests. Shared between the control plane, which sets it, and the workers.
#[derive(Debug)]
pub struct Rotation(AtomicBool);

impl Rotation {
    /// In, until something else is found out.
    pub fn new() -> Rotation {
        Rotation(AtomicBool::new(true))
    }

    /// Puts the endpoint in, or takes it out. Requests that are under way go on.
    pub fn set(&self, is_in: bool) {
        // Nothing else is published by it, and a request more or less at the moment of the change is no matter.
        self.0.store(is_in, Ordering::Relaxed);
    }

    /// Whether it is in.
    pub fn is_in(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl Default for Rotation {
    fn default() -> Rotation {
        Rotation::new()
    }
}
