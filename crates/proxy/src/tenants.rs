//! Open connections by tenant, for limits and metrics.
//!
//! The counts are shared by all workers, since a limit is the node's: they are touched twice per connection, and not at all by
//! requests.

use std::{
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use ringward_telemetry::TenantId;

use crate::{
    snapshot::Tenant,
    worker::{View, Worker},
};

/// A connection's place among those of its tenant, until it is dropped.
pub(crate) struct TenantPlace {
    worker: Rc<Worker>,
    id: TenantId,
    open: Arc<AtomicUsize>,
}

impl TenantPlace {
    /// A place for a connection of the tenant at `index`. `None` when the tenant has as many as it may.
    pub(crate) fn take(worker: &Rc<Worker>, view: &View, index: usize) -> Option<TenantPlace> {
        let Tenant { id, connections_max, .. } = view.snapshot.tenants[index];
        let open = view.tenants[index].clone();
        let max = connections_max.unwrap_or(usize::MAX);
        let taken =
            open.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |open| (open < max).then_some(open + 1));
        if taken.is_err() {
            worker.shard.tenant_connection_refused(id);
            return None;
        }
        worker.shard.tenant_connection_opened(id);
        Some(TenantPlace { worker: worker.clone(), id, open })
    }

    /// The tenant, for its counters.
    pub(crate) fn id(&self) -> TenantId {
        self.id
    }
}

impl Drop for TenantPlace {
    fn drop(&mut self) {
        self.worker.shard.tenant_connection_closed(self.id);
        self.open.fetch_sub(1, Ordering::Relaxed);
    }
}
