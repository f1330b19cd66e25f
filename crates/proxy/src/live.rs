//! The connections of one worker, so that a change reaches those that have no request in flight.
//!
//! Who is in the middle of an exchange asks for itself before and after it. An idle connection cannot: the sweep examines all
//! connections when a new snapshot is in force, ends the idle ones that it would not admit, and cuts exchanges that go on for
//! too long after that. It works in slices, so that no change of trust stalls the worker, however many connections it has.

use std::{
    cell::{Cell, RefCell},
    net::SocketAddr,
    num::NonZeroU32,
    rc::Rc,
    sync::Arc,
    task::Waker,
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
    examining: Cell<Round>,
    /// Idle connections that may be ended now, by `trust_drain_rate`; in thousandths.
    allowance: Cell<u64>,
    swept_at: Cell<u64>,
}

/// The examination of a table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Round {
    /// For which generation.
    generation: u64,
    /// The place whose turn it is.
    next: usize,
    /// Places that have not had their turn.
    left: usize,
    /// Places of the table.
    places: usize,
}

struct Entry {
    connection_id: u64,
    peer_addr: SocketAddr,
    opened: SystemTime,
    deadline: Rc<Deadline>,
    admission: Admission,
    idle_since: Cell<Option<u64>>,
    overdue: Overdue,
    cut: Cell<Option<Shut>>,
    /// Whom to tell, in the middle of exchanges, that the connection should come to its end.
    nudged: RefCell<Option<Waker>>,
}

/// When a connection was first seen to have outlived its admission with an exchange in flight.
#[derive(Default)]
struct Overdue(Cell<Option<u64>>);

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
            overdue: Overdue::default(),
            cut: Cell::new(None),
            nudged: RefCell::new(None),
        });
        let mut entries = worker.live.entries.borrow_mut();
        let key = entries.insert(entry.clone());
        drop(entries);
        if !entry.admission.is_examined_in(&worker.view()) {
            // The snapshot has changed during the handshake, and the sweep may have passed this place.
            let round = worker.live.examining.get();
            worker.live.examining.set(Round { left: usize::MAX, ..round });
        }
        Guard { entry, key, worker: worker.clone() }
    }

    /// Examines connections, ends idle ones that outlived their admission, and all idle ones when draining; cuts exchanges
    /// that outlived theirs for longer than `trust_grace`.
    pub(crate) fn sweep(&self, view: &View, now: u64, draining: bool, workers: usize) {
        self.examine(view, now);
        let mut allowance = self.allow(view.snapshot.trust_drain_rate, now, workers);
        for (_, entry) in self.entries.borrow().iter() {
            let admission = &entry.admission;
            // Not known before its turn to be examined has come.
            let withdrawn = admission.is_examined_in(view).then(|| admission.examine(view, now).is_err());
            match entry.idle_since.get() {
                Some(_) if withdrawn == Some(true) && entry.cut.get().is_none() => {
                    if allowance >= ONE {
                        allowance -= ONE;
                        entry.cut(Shut::Read);
                    }
                }
                // A client may be sending already. Its next request is served, and gets an orderly `Connection: close`.
                Some(since) if draining && now.saturating_sub(since) >= REST_MILLIS => entry.cut(Shut::Read),
                Some(_) => entry.overdue.end(),
                None => {
                    if draining || withdrawn == Some(true) {
                        entry.nudge();
                    }
                    let overdue = entry.overdue.millis(withdrawn, now);
                    if overdue.is_some_and(|millis| millis >= view.snapshot.trust_grace_millis) {
                        entry.cut(Shut::Both);
                    }
                }
            }
        }
        self.allowance.set(allowance);
    }

    /// Cuts all connections.
    pub(crate) fn cut_all(&self) {
        self.entries.borrow().iter().for_each(|(_, entry)| entry.deadline.cut(Shut::Both));
    }

    /// Goes on to examine connections in the snapshot in force, for a slice of time. Those in flight are examined too: what
    /// they wait for may take longer than the grace.
    fn examine(&self, view: &View, now: u64) {
        let entries = self.entries.borrow();
        let places = entries.iter().next_back().map_or(0, |(key, _)| key + 1);
        let mut round = self.examining.get().in_table(view.generation(), places);
        let begun = Instant::now();
        while let Some(place) = round.turn() {
            if let Some(entry) = entries.get(place)
                && !entry.admission.is_examined_in(view)
            {
                let _ = entry.admission.examine(view, now);
                if begun.elapsed() >= SLICE {
                    break;
                }
            }
        }
        self.examining.set(round);
    }

    /// How many connections may be ended by now, in thousandths, if the node may end so many per second.
    fn allow(&self, rate: Option<NonZeroU32>, now: u64, workers: usize) -> u64 {
        let elapsed = now.saturating_sub(self.swept_at.replace(now));
        let Some(rate) = rate else { return u64::MAX };
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

impl Round {
    /// The same in a table that has so many places now, or the first for a `generation`. It goes on where the last one was: would
    /// it begin anew, those behind would not have their turn while snapshots come fast.
    fn in_table(self, generation: u64, places: usize) -> Round {
        let left = if self.generation == generation {
            self.left.saturating_add(places.saturating_sub(self.places)).min(places)
        } else {
            places
        };
        Round { generation, next: self.next, left, places }
    }

    /// The next place.
    fn turn(&mut self) -> Option<usize> {
        self.left = self.left.checked_sub(1)?;
        let place = if self.next < self.places { self.next } else { 0 };
        self.next = place + 1;
        Some(place)
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

    fn nudge(&self) {
        if let Some(waker) = self.nudged.take() {
            waker.wake();
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

impl Overdue {
    /// For how long by now, if the snapshot in force has `withdrawn` the admission. While that is not known the grace goes on: else
    /// an exchange would have the whole of it again with each new snapshot.
    fn millis(&self, withdrawn: Option<bool>, now: u64) -> Option<u64> {
        match withdrawn {
            Some(true) => {
                let since = self.0.get().unwrap_or(now);
                self.0.set(Some(since));
                Some(now.saturating_sub(since))
            }
            Some(false) => {
                self.end();
                None
            }
            None => None,
        }
    }

    fn end(&self) {
        self.0.set(None);
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

    /// Has the task that polls with this waker polled once when the connection should come to its end although exchanges are
    /// in flight: HTTP/2 can say so at any time.
    ///
    /// Whether that has happened since this was last called, or it is the first call.
    pub(crate) fn nudge_me(&self, waker: &Waker) -> bool {
        let mut nudged = self.entry.nudged.borrow_mut();
        let was_nudged = nudged.is_none();
        if was_nudged {
            *nudged = Some(waker.clone());
        }
        was_nudged
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_place_has_its_turn_however_fast_snapshots_come() {
        let mut round = Round::default();
        let mut turns = |generation, places, count| {
            round = round.in_table(generation, places);
            std::iter::from_fn(|| round.turn()).take(count).collect::<Vec<_>>()
        };
        assert_eq!(turns(1, 5, 2), [0, 1]);
        assert_eq!(turns(2, 5, 2), [2, 3]);
        assert_eq!(turns(3, 5, 9), [4, 0, 1, 2, 3], "and then it is over");
        assert!(turns(3, 5, 9).is_empty());
        assert_eq!(turns(4, 5, 2), [4, 0]);
        assert_eq!(turns(4, 7, 9), [1, 2, 3, 4, 5], "as many as were left, and as have come");
        assert_eq!(turns(5, 7, 3), [6, 0, 1]);
        assert_eq!(turns(5, 3, 9), [2, 0, 1], "those that have gone have no turn");
        assert!(turns(6, 0, 9).is_empty());
    }

    #[test]
    fn a_new_snapshot_does_not_prolong_the_grace_of_an_exchange() {
        let overdue = Overdue::default();
        assert_eq!(overdue.millis(Some(true), 100), Some(0));
        assert_eq!(overdue.millis(Some(true), 150), Some(50));
        assert_eq!(overdue.millis(None, 200), None, "it may be admitted again");
        assert_eq!(overdue.millis(Some(true), 250), Some(150));
        assert_eq!(overdue.millis(Some(false), 300), None);
        assert_eq!(overdue.millis(Some(true), 350), Some(0), "that is another withdrawal");
    }

    /// How many of very many idle connections one worker ends in beats from one time to another, in milliseconds.
    fn ended(live: &Live, rate: u32, workers: usize, from: u64, until: u64) -> u64 {
        let beats = (from..until).step_by(50);
        let end = |now| {
            let allowance = live.allow(NonZeroU32::new(rate), now, workers);
            live.allowance.set(allowance % ONE);
            allowance / ONE
        };
        beats.map(end).sum()
    }

    #[test]
    fn the_pace_is_that_of_all_workers_together() {
        for (rate, workers, expected) in
            [(40, 1, 400), (40, 2, 200), (1, 1, 10), (1, 5, 2), (10_000, 4, 25_000)]
        {
            // The share of the first beat is known only from the second on.
            let ended = ended(&Live::default(), rate, workers, 0, 10_050);
            assert_eq!(ended, expected, "{rate} per second, {workers} workers");
        }
    }

    #[test]
    fn a_pause_saves_nothing_up() {
        for (rate, workers, expected) in [(40, 1, 4), (40, 2, 2), (1, 8, 1)] {
            let live = Live::default();
            live.allow(NonZeroU32::new(rate), 0, workers);
            assert_eq!(ended(&live, rate, workers, 3_600_000, 3_600_050), expected, "{rate} {workers}");
        }
    }

    #[test]
    fn without_a_pace_all_end_at_once() {
        assert_eq!(Live::default().allow(None, 0, 2), u64::MAX);
    }
}
