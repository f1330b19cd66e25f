//! The connections of one worker, so that a change reaches those that have no request in flight.
//!
//! Who is in the middle of an exchange asks for itself before and after it. An idle connection cannot: the sweep examines all
//! connections when a new snapshot is in force, ends the idle ones that it would not admit, and cuts exchanges that go on for
//! too long after that. It works in slices, so that no change of trust stalls the worker, however many connections it has.

use std::{
    cell::{Cell, RefCell},
    net::SocketAddr,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use ringward_identity::PeerIdentity;
use ringward_tls::PeerPath;
use slab::Slab;

use crate::{
    admission::Admission,
    io::{Deadline, Shut},
    worker::{View, Worker},
};

/// The table of one worker.
#[derive(Default)]
pub(crate) struct Live {
    entries: RefCell<Slab<Rc<Entry>>>,
    /// Generation for which entries are examined, and where in the table that has come to.
    examining: Cell<(u64, usize)>,
    /// Idle connections that may be ended now, by `trust_drain_rate`; in thousandths.
    allowance: Cell<u64>,
    swept_at: Cell<u64>,
}

struct Entry {
    connection_id: u64,
    peer_addr: SocketAddr,
    opened: SystemTime,
    deadline: Rc<Deadline>,
    admission: Admission,
    idle_since: Cell<Option<u64>>,
    /// When it was first seen to have outlived its admission with an exchange in flight.
    overdue_since: Cell<Option<u64>>,
    cut: Cell<Option<Shut>>,
}

/// A connection, as the control plane is told of it.
#[derive(Clone, Debug)]
pub struct LivePeer {
    /// Its number in this process.
    pub connection_id: u64,
    /// The listener.
    pub listener: Arc<str>,
    /// The server name of the handshake.
    pub server_name: Option<Box<str>>,
    /// The client's address.
    pub peer_addr: SocketAddr,
    /// Who the client is; `None` without a certificate.
    pub peer: Option<Arc<PeerIdentity>>,
    /// What vouches for it.
    pub path: Option<Arc<PeerPath>>,
    /// When it was accepted; seconds since the epoch.
    pub since_unix: u64,
    /// It has no exchange in flight.
    pub idle: bool,
}

impl Live {
    /// Enters a connection; it leaves when the guard is dropped, which must be before its socket is closed.
    pub(crate) fn enter(
        worker: &Rc<Worker>,
        connection_id: u64,
        peer_addr: SocketAddr,
        deadline: Rc<Deadline>,
        admission: Admission,
    ) -> Guard {
        let entry = Rc::new(Entry {
            connection_id,
            peer_addr,
            opened: SystemTime::now(),
            deadline,
            admission,
            idle_since: Cell::new(None),
            overdue_since: Cell::new(None),
            cut: Cell::new(None),
        });
        let mut entries = worker.live.entries.borrow_mut();
        let key = entries.insert(entry.clone());
        // The snapshot may have changed during the handshake, and the sweep may have passed this place.
        let (generation, next) = worker.live.examining.get();
        worker.live.examining.set((generation, next.min(key)));
        drop(entries);
        Guard { entry, key, worker: worker.clone() }
    }

    /// Examines connections, ends idle ones that outlived their admission, and all idle ones when draining; cuts exchanges
    /// that outlived theirs for longer than `trust_grace`.
    pub(crate) fn sweep(&self, view: &View, now: u64, draining: bool, workers: usize) {
        self.examine(view, now);
        let mut allowance = self.allow(view, now, workers);
        for (_, entry) in self.entries.borrow().iter() {
            let admission = &entry.admission;
            let withdrawn = admission.is_examined_in(view) && admission.examine(view, now).is_err();
            match entry.idle_since.get() {
                Some(_) if withdrawn && entry.cut.get().is_none() => {
                    if allowance >= ONE {
                        allowance -= ONE;
                        entry.cut(Shut::Read);
                    }
                }
                // A client may be sending already. Its next request is served, and gets an orderly `Connection: close`.
                Some(since) if draining && now.saturating_sub(since) >= REST_MILLIS => entry.cut(Shut::Read),
                None if withdrawn => {
                    let since = entry.overdue_since.get().unwrap_or(now);
                    entry.overdue_since.set(Some(since));
                    if now.saturating_sub(since) >= view.snapshot.trust_grace_millis {
                        entry.cut(Shut::Both);
                    }
                }
                _ => entry.overdue_since.set(None),
            }
        }
        self.allowance.set(allowance);
    }

    /// Goes on to examine connections in the snapshot in force, for a slice of time. Those in flight are examined too: what
    /// they wait for may take longer than the grace.
    fn examine(&self, view: &View, now: u64) {
        let entries = self.entries.borrow();
        let (generation, mut next) = self.examining.get();
        if generation != view.generation() {
            next = 0;
        }
        let begun = Instant::now();
        let last = entries.iter().next_back().map_or(0, |(key, _)| key + 1);
        while next < last {
            if let Some(entry) = entries.get(next)
                && !entry.admission.is_examined_in(view)
            {
                let _ = entry.admission.examine(view, now);
                if begun.elapsed() >= SLICE {
                    next += 1;
                    break;
                }
            }
            next += 1;
        }
        self.examining.set((view.generation(), next));
    }

    /// How many connections may be ended by now, in thousandths.
    fn allow(&self, view: &View, now: u64, workers: usize) -> u64 {
        let elapsed = now.saturating_sub(self.swept_at.replace(now));
        let Some(rate) = view.snapshot.trust_drain_rate else { return u64::MAX };
        let rate = u64::from(rate.get());
        let gained = rate.saturating_mul(elapsed) / workers.max(1) as u64;
        // What was not used does not pile up: the share of a tenth of a second, and at least one, or none would ever be ended.
        let most = (rate.saturating_mul(ONE) / workers.max(1) as u64 / 10).max(ONE);
        self.allowance.get().saturating_add(gained).min(most)
    }

    /// Everyone who is connected.
    pub(crate) fn census(&self) -> Vec<LivePeer> {
        let entries = self.entries.borrow();
        entries.iter().map(|(_, entry)| entry.describe()).collect()
    }
}

impl Entry {
    fn cut(&self, how: Shut) {
        // An exchange may have begun after the connection was cut as an idle one, and has to be cut once more.
        if self.cut.get().is_none_or(|cut| cut == Shut::Read && how == Shut::Both) {
            self.cut.set(Some(how));
            self.deadline.cut(how);
        }
    }

    fn describe(&self) -> LivePeer {
        let terms = &self.admission.terms;
        LivePeer {
            connection_id: self.connection_id,
            listener: terms.listener.clone(),
            server_name: terms.server_name.clone(),
            peer_addr: self.peer_addr,
            peer: terms.peer.clone(),
            path: self.admission.path(),
            since_unix: self.opened.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
            idle: self.idle_since.get().is_some(),
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

    /// How the sweep has ended this connection, if it has.
    pub(crate) fn was_cut(&self) -> Option<Shut> {
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

/// How long a connection must have been idle before a drain ends it without a word.
const REST_MILLIS: u64 = 500;
/// How long connections are examined at a time: short enough for nobody to notice.
const SLICE: Duration = Duration::from_millis(3);
/// One connection, in the unit of [`Live::allowance`].
const ONE: u64 = 1000;
