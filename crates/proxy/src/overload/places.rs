//! Places that only so many may have at a time, at a rate, and queues for the others.
//!
//! Hides who goes first. What must stay true: a place is given back when it is dropped, also by who waited for it and has gone; no
//! rank takes what would let one above it in; every queue has an end, and every wait. Who has gone counts for nothing any more, wherever
//! it stood in its queue.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use super::rate::{Claim, Rate, nanos};
use crate::io::Deadline;

/// Places of one worker.
pub(crate) struct Places {
    began: Instant,
    rules: Cell<Rules>,
    taken: Cell<usize>,
    /// Of the rate.
    spent: Cell<u64>,
    waiting: RefCell<[VecDeque<Rc<Waiter>>; Rank::ALL.len()]>,
    /// How many of these have not gone.
    queued: [Cell<usize>; Rank::ALL.len()],
    /// When it was looked last who has hung up.
    looked: Cell<u64>,
}

/// How many places there are, and for whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rules {
    pub(crate) places: usize,
    /// How often one may be taken by who pays for it.
    pub(crate) rate: Option<Rate>,
    /// How many may wait, of each rank.
    pub(crate) queue_max: usize,
    pub(crate) patience: Duration,
}

impl Rules {
    /// Everybody is let in.
    pub(crate) const NONE: Rules =
        Rules { places: usize::MAX, rate: None, queue_max: 0, patience: Duration::ZERO };
}

/// Who goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rank {
    /// Costs little, and takes nothing of the rate.
    Cheap,
    /// Has been here.
    Known,
    /// Leaves a quarter of everything to the others.
    Stranger,
}

impl Rank {
    const ALL: [Rank; 3] = [Rank::Cheap, Rank::Known, Rank::Stranger];

    /// What it may take of a rate; none if it does not take of it.
    pub(super) fn claim(self) -> Option<Claim> {
        match self {
            Rank::Cheap => None,
            Rank::Known => Some(Claim::Whole),
            Rank::Stranger => Some(Claim::Rest),
        }
    }
}

/// A place, until it is dropped.
pub(crate) struct Place(Rc<Places>);

/// There is no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoPlace {
    /// As many wait as may.
    QueueFull,
    /// None came free in time.
    Overdue,
    /// Who waited has hung up.
    Gone,
}

/// One who waits.
struct Waiter {
    until: u64,
    /// The socket of who waits; none if that cannot hang up, or has gone.
    client: RefCell<Option<Rc<Deadline>>>,
    gone: Cell<bool>,
    outcome: Cell<Option<Result<Place, NoPlace>>>,
    waker: Cell<Option<Waker>>,
}

/// The wait for a place. May be dropped wherever it is.
pub(crate) struct Wait {
    places: Rc<Places>,
    rank: Rank,
    waiter: Rc<Waiter>,
}

impl Places {
    pub(crate) fn new() -> Rc<Places> {
        Rc::new(Places {
            began: Instant::now(),
            rules: Cell::new(Rules::NONE),
            taken: Cell::new(0),
            spent: Cell::new(0),
            waiting: RefCell::default(),
            queued: Default::default(),
            looked: Cell::new(0),
        })
    }

    /// Nanoseconds since these places exist.
    pub(crate) fn now(&self) -> u64 {
        nanos(self.began.elapsed())
    }

    /// Goes by `rules` from now on.
    pub(crate) fn set(&self, rules: Rules) {
        self.rules.set(rules);
    }

    /// A place, if there is one and nobody has waited longer for it.
    pub(crate) fn enter(self: &Rc<Self>, rank: Rank, now: u64) -> Option<Place> {
        self.turn(now);
        let first = self.queued[..=rank as usize].iter().all(|queued| queued.get() == 0);
        if first { self.offer(rank, now).map(|spent| self.give(spent)) } else { None }
    }

    /// Queues for a place. `client` is the socket of who waits: when that hangs up, the wait is over.
    ///
    /// # Errors
    /// When as many wait as may.
    pub(crate) fn wait(
        self: &Rc<Self>,
        rank: Rank,
        now: u64,
        client: Option<&Rc<Deadline>>,
    ) -> Result<Wait, NoPlace> {
        let rules = self.rules.get();
        let queued = &self.queued[rank as usize];
        if queued.get() >= rules.queue_max {
            return Err(NoPlace::QueueFull);
        }
        let waiter = Rc::new(Waiter {
            until: now.saturating_add(nanos(rules.patience)),
            client: RefCell::new(client.cloned()),
            gone: Cell::new(false),
            outcome: Cell::new(None),
            waker: Cell::new(None),
        });
        self.waiting.borrow_mut()[rank as usize].push_back(waiter.clone());
        queued.set(queued.get() + 1);
        Ok(Wait { places: self.clone(), rank, waiter })
    }

    /// Lets those in for whom there is a place now, and sends those away who have waited for too long.
    pub(crate) fn turn(self: &Rc<Self>, now: u64) {
        let mut waiting = self.waiting.borrow_mut();
        for rank in Rank::ALL {
            let queue = &mut waiting[rank as usize];
            while let Some(first) = queue.front() {
                if !first.gone.get() {
                    let outcome = match self.offer(rank, now) {
                        _ if now >= first.until => Err(NoPlace::Overdue),
                        None => break,
                        // What is left to the others must not go to who does not want it.
                        Some(_) if first.has_hung_up() => Err(NoPlace::Gone),
                        Some(spent) => Ok(self.give(spent)),
                    };
                    self.leave(rank);
                    first.end(outcome);
                }
                queue.pop_front();
            }
        }
    }

    /// [`Places::turn`], to be called at each beat while somebody waits: who has hung up in the middle of a queue has to go now and then,
    /// too, or would keep others out. That is a system call for each.
    pub(crate) fn beat(self: &Rc<Self>, now: u64) {
        self.turn(now);
        if now.saturating_sub(self.looked.get()) < LOOK_EVERY {
            return;
        }
        self.looked.set(now);
        let waiting = self.waiting.borrow();
        for rank in Rank::ALL {
            for waiter in waiting[rank as usize].iter().filter(|waiter| !waiter.gone.get()) {
                if waiter.has_hung_up() {
                    self.leave(rank);
                    waiter.end(Err(NoPlace::Gone));
                }
            }
        }
        drop(waiting);
        Rank::ALL.iter().for_each(|rank| self.forget(*rank));
    }

    /// How many places are taken, and how many wait for one.
    pub(crate) fn counts(&self) -> (usize, usize) {
        (self.taken.get(), self.queued.iter().map(Cell::get).sum())
    }

    /// What was let in as cheap was not.
    pub(crate) fn charge(&self, now: u64) {
        if let Some(rate) = self.rules.get().rate {
            let mut spent = self.spent.get();
            rate.charge(&mut spent, now);
            self.spent.set(spent);
        }
    }

    /// Whether nobody waits.
    pub(crate) fn is_idle(&self) -> bool {
        self.queued.iter().all(|queued| queued.get() == 0)
    }

    /// What of the rate is spent when a place is given away now; none if there is no place.
    fn offer(&self, rank: Rank, now: u64) -> Option<u64> {
        let rules = self.rules.get();
        let kept = if rank == Rank::Stranger { rules.places / 4 } else { 0 };
        let mut spent = self.spent.get();
        if self.taken.get() >= rules.places - kept {
            return None;
        }
        match (rules.rate, rank.claim()) {
            (Some(rate), Some(claim)) if !rate.take(&mut spent, now, claim) => None,
            _ => Some(spent),
        }
    }

    /// Gives away what was offered.
    fn give(self: &Rc<Self>, spent: u64) -> Place {
        self.spent.set(spent);
        self.taken.set(self.taken.get() + 1);
        Place(self.clone())
    }

    /// Forgets who has gone. Not each time, so that many who leave a long queue at once do not cost its length each.
    fn forget(&self, rank: Rank) {
        let queue = &mut self.waiting.borrow_mut()[rank as usize];
        if queue.len() > 2 * self.queued[rank as usize].get() + GONE_KEPT {
            queue.retain(|waiter| !waiter.gone.get());
        }
    }

    fn leave(&self, rank: Rank) {
        let queued = &self.queued[rank as usize];
        queued.set(queued.get() - 1);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let places = &self.0;
        places.taken.set(places.taken.get() - 1);
        if !places.is_idle() {
            places.turn(places.now());
        }
    }
}

impl Waiter {
    fn has_hung_up(&self) -> bool {
        self.client.borrow().as_ref().is_some_and(|client| client.hung_up())
    }

    fn end(&self, outcome: Result<Place, NoPlace>) {
        self.go();
        self.outcome.set(Some(outcome));
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// It waits no longer. The socket may be closed from now on.
    fn go(&self) {
        self.gone.set(true);
        self.client.take();
    }
}

impl Future for Wait {
    type Output = Result<Place, NoPlace>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.waiter.outcome.take() {
            Some(outcome) => Poll::Ready(outcome),
            None => {
                self.waiter.waker.set(Some(cx.waker().clone()));
                Poll::Pending
            }
        }
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        if self.waiter.gone.get() {
            return;
        }
        self.waiter.go();
        self.places.leave(self.rank);
        self.places.forget(self.rank);
    }
}

/// Entries of those who have gone that a queue may keep until they reach its front, beside one for each who waits.
const GONE_KEPT: usize = 32;
/// Nanoseconds between two looks at who has hung up.
const LOOK_EVERY: u64 = 500_000_000;

#[cfg(test)]
mod tests;
