//! Places that only so many may have at a time, at a rate, and queues for the others.
//!
//! Hides who goes first. What must stay true: a place is given back when it is dropped, also by who waited for it and has gone; no
//! rank takes what would let one above it in; every queue has an end, and every wait.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use super::rate::{Claim, Rate, nanos};

/// Places of one worker.
pub(crate) struct Places {
    began: Instant,
    rules: Cell<Rules>,
    taken: Cell<usize>,
    /// Of the rate.
    spent: Cell<u64>,
    waiting: RefCell<[VecDeque<Rc<Waiter>>; Rank::ALL.len()]>,
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
}

/// One who waits.
struct Waiter {
    until: u64,
    outcome: Cell<Option<Result<Place, NoPlace>>>,
    waker: Cell<Option<Waker>>,
}

/// The wait for a place.
pub(crate) struct Wait(Rc<Waiter>);

impl Places {
    pub(crate) fn new() -> Rc<Places> {
        Rc::new(Places {
            began: Instant::now(),
            rules: Cell::new(Rules::NONE),
            taken: Cell::new(0),
            spent: Cell::new(0),
            waiting: RefCell::default(),
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
        let first = self.waiting.borrow()[..=rank as usize].iter().all(VecDeque::is_empty);
        (first && self.take(rank, now)).then(|| Place(self.clone()))
    }

    /// Queues for a place.
    ///
    /// # Errors
    /// When as many wait as may.
    pub(crate) fn wait(&self, rank: Rank, now: u64) -> Result<Wait, NoPlace> {
        let rules = self.rules.get();
        let queue = &mut self.waiting.borrow_mut()[rank as usize];
        if queue.len() >= rules.queue_max {
            return Err(NoPlace::QueueFull);
        }
        let until = now.saturating_add(nanos(rules.patience));
        let waiter = Rc::new(Waiter { until, outcome: Cell::new(None), waker: Cell::new(None) });
        queue.push_back(waiter.clone());
        Ok(Wait(waiter))
    }

    /// Lets those in for whom there is a place now, and sends those away who have waited for too long.
    pub(crate) fn turn(self: &Rc<Self>, now: u64) {
        let mut waiting = self.waiting.borrow_mut();
        for rank in Rank::ALL {
            let queue = &mut waiting[rank as usize];
            while let Some(first) = queue.front() {
                // Who has gone has left its entry to the queue alone.
                if Rc::strong_count(first) > 1 {
                    let outcome = match now >= first.until {
                        true => Err(NoPlace::Overdue),
                        false if self.take(rank, now) => Ok(Place(self.clone())),
                        false => break,
                    };
                    first.end(outcome);
                }
                queue.pop_front();
            }
        }
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
        self.waiting.borrow().iter().all(VecDeque::is_empty)
    }

    fn take(&self, rank: Rank, now: u64) -> bool {
        let rules = self.rules.get();
        let kept = if rank == Rank::Stranger { rules.places / 4 } else { 0 };
        if self.taken.get() >= rules.places - kept {
            return false;
        }
        if let (Some(rate), Some(claim)) = (rules.rate, rank.claim()) {
            let mut spent = self.spent.get();
            if !rate.take(&mut spent, now, claim) {
                return false;
            }
            self.spent.set(spent);
        }
        self.taken.set(self.taken.get() + 1);
        true
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
    fn end(&self, outcome: Result<Place, NoPlace>) {
        self.outcome.set(Some(outcome));
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

impl Future for Wait {
    type Output = Result<Place, NoPlace>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.0.outcome.take() {
            Some(outcome) => Poll::Ready(outcome),
            None => {
                self.0.waker.set(Some(cx.waker().clone()));
                Poll::Pending
            }
        }
    }
}

#[cfg(test)]
mod tests;
