//! How many requests run at the same time: in all, and to one server, so that a dead server does not take the slots of the
//! others. Who waits, waits in order. Hides the bookkeeping; the number of servers is bounded by who asks, and a server that
//! nobody asks is forgotten.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The slots of a fetcher.
#[derive(Debug)]
pub(super) struct Slots {
    all: Arc<Semaphore>,
    per_server_max: usize,
    servers: Mutex<HashMap<String, Arc<Semaphore>>>,
}

/// One of them, given back when dropped.
#[derive(Debug)]
pub(super) struct Slot {
    _server: Option<OwnedSemaphorePermit>,
    _one_of_all: Option<OwnedSemaphorePermit>,
}

impl Slots {
    pub(super) fn new(max: usize, per_server_max: usize) -> Slots {
        Slots { all: Arc::new(Semaphore::new(max)), per_server_max, servers: Mutex::default() }
    }

    /// Waits for a slot. The semaphores are never closed, so there is one in the end.
    pub(super) async fn take(&self, server: &str) -> Slot {
        let own = {
            let mut servers = self.servers.lock().unwrap_or_else(PoisonError::into_inner);
            // Each permit, and each wait for one, holds a reference.
            servers.retain(|_, semaphore| Arc::strong_count(semaphore) > 1);
            let fresh = || Arc::new(Semaphore::new(self.per_server_max));
            servers.entry(server.to_owned()).or_insert_with(fresh).clone()
        };
        // First the server's: who waits for a dead server keeps nobody else waiting.
        let _server = own.acquire_owned().await.ok();
        let _one_of_all = self.all.clone().acquire_owned().await.ok();
        Slot { _server, _one_of_all }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    fn try_take(slots: &Slots, server: &str) -> Option<Slot> {
        match pin!(slots.take(server)).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(slot) => Some(slot),
            Poll::Pending => None,
        }
    }

    #[test]
    fn a_server_gets_its_share_and_no_more() {
        let slots = Slots::new(3, 2);
        let first = try_take(&slots, "a").unwrap();
        let _second = try_take(&slots, "a").unwrap();
        assert!(try_take(&slots, "a").is_none());
        let _other = try_take(&slots, "b").unwrap();
        // All are taken.
        assert!(try_take(&slots, "c").is_none());
        drop(first);
        assert!(try_take(&slots, "c").is_some());
        assert!(try_take(&slots, "a").is_some());
    }

    #[test]
    fn servers_that_nobody_asks_are_forgotten() {
        let slots = Slots::new(2, 1);
        for server in 0..100 {
            assert!(try_take(&slots, &server.to_string()).is_some());
        }
        assert_eq!(slots.servers.lock().unwrap().len(), 1);
    }
}
