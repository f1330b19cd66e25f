//! The connections of one worker, so that a change reaches those that have no request in flight.
//!
//! Who is in the middle of an exchange asks for itself before and after it. An idle connection cannot: the sweep ends it when
//! the snapshot in force would not admit it the way it was admitted.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::Arc,
};

use slab::Slab;

use crate::{
    io::{Deadline, Shut},
    snapshot::Snapshot,
    worker::{View, Worker},
};

/// Under which terms a client was let in.
#[derive(Clone, Debug)]
pub(crate) struct Admission {
    pub(crate) listener: Arc<str>,
    /// Server name of the ClientHello.
    pub(crate) server_name: Option<Box<str>>,
    /// Digest of everything by which the client's certificate was checked.
    pub(crate) policy_digest: [u8; 32],
}

impl Admission {
    /// The virtual host that would do this client's handshake today: the indexes of its listener and of itself.
    pub(crate) fn place_in(&self, snapshot: &Snapshot) -> Option<(usize, usize)> {
        let listener = snapshot.listener(&self.listener)?;
        Some((listener.index, listener.host_index(self.server_name.as_deref())?))
    }

    /// Whether that host would check the client's certificate in the very same way.
    pub(crate) fn holds_in(&self, snapshot: &Snapshot) -> bool {
        self.place_in(snapshot).is_some_and(|(listener, host)| {
            *snapshot.listeners[listener].hosts[host].tls.policy_digest() == self.policy_digest
        })
    }
}

/// The table of one worker.
#[derive(Debug, Default)]
pub(crate) struct Live {
    entries: RefCell<Slab<Rc<Entry>>>,
    /// Generation under which the entries were last examined.
    examined: Cell<u64>,
}

#[derive(Debug)]
struct Entry {
    deadline: Rc<Deadline>,
    admission: Admission,
    idle_since: Cell<Option<u64>>,
    /// Its admission does not hold any more.
    outlived: Cell<bool>,
    cut: Cell<bool>,
}

impl Live {
    /// Enters a connection; it leaves when the guard is dropped, which must be before its socket is closed.
    pub(crate) fn enter(worker: &Rc<Worker>, deadline: Rc<Deadline>, admission: Admission) -> Guard {
        // The snapshot may have changed during the handshake, and the sweep examines the connections of its time only.
        let outlived = !admission.holds_in(&worker.view().snapshot);
        let entry = Rc::new(Entry {
            deadline,
            admission,
            idle_since: Cell::new(None),
            outlived: Cell::new(outlived),
            cut: Cell::new(false),
        });
        let key = worker.live.entries.borrow_mut().insert(entry.clone());
        Guard { entry, key, worker: worker.clone() }
    }

    /// Ends idle connections that outlived their admission, and all idle ones when draining.
    ///
    /// A connection that was in use a moment ago is spared for now: its client may be sending already. Its next request is
    /// decided on the snapshot in force as any other, and gets an orderly `Connection: close`; if none comes, the next sweeps
    /// end it.
    pub(crate) fn sweep(&self, view: &View, now: u64, draining: bool) {
        let entries = self.entries.borrow();
        if self.examined.replace(view.generation()) != view.generation() {
            for (_, entry) in entries.iter() {
                entry.outlived.set(!entry.admission.holds_in(&view.snapshot));
            }
        }
        for (_, entry) in entries.iter() {
            let ended = draining || entry.outlived.get();
            let rested = entry.idle_since.get().is_some_and(|since| now.saturating_sub(since) >= REST_MILLIS);
            if ended && rested && !entry.cut.replace(true) {
                entry.deadline.cut(Shut::Read);
            }
        }
    }
}

/// A connection's place in the table.
pub(crate) struct Guard {
    entry: Rc<Entry>,
    key: usize,
    worker: Rc<Worker>,
}

impl Guard {
    /// Between two exchanges from now on.
    pub(crate) fn idle(&self) {
        self.entry.idle_since.set(Some(self.worker.deadlines.now()));
    }

    /// In an exchange from now on.
    pub(crate) fn busy(&self) {
        self.entry.idle_since.set(None);
    }

    /// The sweep has ended this connection.
    pub(crate) fn was_cut(&self) -> bool {
        self.entry.cut.get()
    }

    /// The terms of admission.
    pub(crate) fn admission(&self) -> &Admission {
        &self.entry.admission
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.worker.live.entries.borrow_mut().remove(self.key);
    }
}

/// How long a connection must have been idle before it is ended without a word.
const REST_MILLIS: u64 = 500;
