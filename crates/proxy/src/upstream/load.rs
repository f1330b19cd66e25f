//! What one worker has under way with a cluster. It outlives snapshots, since requests do.
//!
//! How many requests there are at a time is bounded here ([`Limits`]), and what is above waits in order. A worker's share is
//! rounded up, so all together have at most one request less than one per worker above the limit of the node, and less than
//! that limit if requests come to few workers.
//!
//! How many requests are tried again is bounded here, by a part of those that are under way and so many per second beside them.
//! Each worker counts its own. So on the whole node there are at most one retry per worker more than `percent` of all requests
//! allows, because each rounds up; and the other bound holds to the full only if failures come to all workers alike, since what one
//! has not used is not another's.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    future::poll_fn,
    rc::Rc,
    task::{Poll, Waker},
    time::{Duration, Instant},
};

use ringward_config::{ClusterLimits, RetryBudget};

/// What is under way.
#[derive(Debug, Default)]
pub(crate) struct Load {
    /// Requests, from the choice of an endpoint to the end of the response.
    active: Cell<usize>,
    /// Of those the ones that are tried again by [`Budget::percent`].
    retrying: Cell<usize>,
    /// Retries that are saved up, in billionths, and when they were last counted.
    saved: Cell<u64>,
    saved_at: Cell<Option<Instant>>,
    /// Copies of requests to other clusters, from their beginning to their end.
    copies: Cell<usize>,
    /// Requests that wait to be under way, the first one in front.
    waiting: RefCell<VecDeque<Rc<Waiter>>>,
}

/// A request that waits.
type Waiter = RefCell<Option<Waker>>;

/// One worker's share of what a cluster may have at a time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    requests_max: usize,
    pending_max: usize,
    pub(crate) pending_timeout: Duration,
}

/// One worker's share of a cluster's retries.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Budget {
    percent: usize,
    /// Of all workers.
    per_second: u64,
    workers: u64,
}

/// A request in the count of those under way.
#[derive(Debug)]
pub(crate) struct Active<'l>(&'l Load);

/// A copy in the count of those under way.
#[derive(Debug)]
pub(crate) struct Copying(Rc<Load>);

/// Leave to try a request again, until it is given back.
#[derive(Debug)]
pub(crate) struct Retrying(Option<Rc<Load>>);

impl Load {
    /// A request is under way; `None` if it would be above the limits, or others wait.
    pub(crate) fn enter(&self, limits: Option<&Limits>) -> Option<Active<'_>> {
        let active = self.active.get();
        if limits.is_some_and(|limits| active >= limits.requests_max || !self.waiting.borrow().is_empty()) {
            return None;
        }
        self.active.set(active + 1);
        Some(Active(self))
    }

    /// Waits until the request is under way; `None` at once if too many wait already. May be dropped wherever it is.
    pub(crate) async fn wait(&self, limits: &Limits) -> Option<Active<'_>> {
        if self.waiting.borrow().len() >= limits.pending_max {
            return None;
        }
        let waiting = Waiting::enter(self);
        let entered = poll_fn(|cx| {
            if waiting.is_first() && self.active.get() < limits.requests_max {
                self.active.set(self.active.get() + 1);
                return Poll::Ready(Active(self));
            }
            waiting.waiter.replace(Some(cx.waker().clone()));
            Poll::Pending
        });
        Some(entered.await)
    }

    /// One more copy is under way, unless there are `max` already.
    pub(crate) fn copy(self: &Rc<Self>, max: usize) -> Option<Copying> {
        let copies = self.copies.get();
        (copies < max).then(|| {
            self.copies.set(copies + 1);
            Copying(self.clone())
        })
    }

    /// How many requests are under way, and how many wait.
    pub(crate) fn counts(&self) -> (usize, usize) {
        (self.active.get(), self.waiting.borrow().len())
    }

    /// There may be a place for the first one that waits.
    fn call(&self) {
        if let Some(waker) = self.waiting.borrow().front().and_then(|waiter| waiter.take()) {
            waker.wake();
        }
    }

    /// Leave to try one of the requests under way again, at the time `now`; `None` if the budget is used up.
    pub(crate) fn retry(self: &Rc<Self>, budget: &Budget, now: Instant) -> Option<Retrying> {
        let retrying = self.retrying.get();
        if retrying * 100 < budget.percent * self.active.get() {
            self.retrying.set(retrying + 1);
            return Some(Retrying(Some(self.clone())));
        }
        let saved = match self.saved_at.replace(Some(now)) {
            None => budget.saved_max(),
            Some(before) => {
                let gained = budget.gain(now.saturating_duration_since(before));
                self.saved.get().saturating_add(gained).min(budget.saved_max())
            }
        };
        let left = saved.checked_sub(ONE);
        self.saved.set(left.unwrap_or(saved));
        left.map(|_| Retrying(None))
    }
}

impl Limits {
    /// The share of one of so many workers.
    pub(crate) fn new(limits: &ClusterLimits, workers: usize) -> Limits {
        Limits {
            requests_max: limits.requests_max.div_ceil(workers.max(1)),
            pending_max: limits.pending_max.div_ceil(workers.max(1)),
            pending_timeout: limits.pending_timeout,
        }
    }

    /// Whether so many requests under way are as many as there may be.
    pub(crate) fn is_reached(&self, active: usize) -> bool {
        active >= self.requests_max
    }
}

/// A request in the queue of those that wait.
struct Waiting<'l> {
    load: &'l Load,
    waiter: Rc<Waiter>,
}

impl<'l> Waiting<'l> {
    fn enter(load: &'l Load) -> Waiting<'l> {
        let waiter = Rc::new(Waiter::default());
        load.waiting.borrow_mut().push_back(waiter.clone());
        Waiting { load, waiter }
    }

    fn is_first(&self) -> bool {
        self.load.waiting.borrow().front().is_some_and(|first| Rc::ptr_eq(first, &self.waiter))
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.load.waiting.borrow_mut().retain(|waiter| !Rc::ptr_eq(waiter, &self.waiter));
        // It may have been called in vain, or there may be another place.
        self.load.call();
    }
}

impl Budget {
    /// The share of one of so many workers.
    pub(crate) fn new(budget: RetryBudget, workers: usize) -> Budget {
        Budget {
            percent: budget.percent as usize,
            per_second: budget.per_second.into(),
            workers: workers.max(1) as u64,
        }
    }

    /// What is saved up in a while.
    fn gain(&self, elapsed: Duration) -> u64 {
        let gained = elapsed.as_nanos() * u128::from(self.per_second) / u128::from(self.workers);
        u64::try_from(gained).unwrap_or(u64::MAX)
    }

    /// At least one retry, or a small share would never be any.
    fn saved_max(&self) -> u64 {
        if self.per_second == 0 { 0 } else { self.gain(SAVED_FOR).max(ONE) }
    }
}

impl Drop for Active<'_> {
    fn drop(&mut self) {
        self.0.active.set(self.0.active.get() - 1);
        self.0.call();
    }
}

impl Drop for Copying {
    fn drop(&mut self) {
        self.0.copies.set(self.0.copies.get() - 1);
    }
}

impl Drop for Retrying {
    fn drop(&mut self) {
        if let Some(load) = &self.0 {
            load.retrying.set(load.retrying.get() - 1);
        }
    }
}

/// A retry, in the units of [`Load::saved`]: so many that a nanosecond gains as many as there are retries per second.
const ONE: u64 = 1_000_000_000;
/// Enough for the requests that a server takes along when it starts anew.
const SAVED_FOR: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    fn budget(percent: u32, per_second: u32, workers: usize) -> Budget {
        Budget::new(RetryBudget { percent, per_second }, workers)
    }

    /// How many retries are given at once.
    fn given(load: &Rc<Load>, budget: &Budget, now: Instant) -> Vec<Retrying> {
        std::iter::from_fn(|| load.retry(budget, now)).take(100_000).collect()
    }

    #[test]
    fn retries_are_a_part_of_what_is_under_way() {
        let (load, now) = (Rc::new(Load::default()), Instant::now());
        let mut active: Vec<_> = (0..50).map(|_| load.enter(None)).collect();
        let mut retries = given(&load, &budget(20, 0, 1), now);
        assert_eq!(retries.len(), 10);
        retries.truncate(9);
        assert_eq!(given(&load, &budget(20, 0, 1), now).len(), 1, "one that has ended makes room");
        active.truncate(5);
        assert!(load.retry(&budget(20, 0, 1), now).is_none(), "nine are more than a fifth of five");
        drop((active, retries));
        assert_eq!((load.active.get(), load.retrying.get()), (0, 0));
    }

    #[test]
    fn a_budget_of_nothing_gives_nothing() {
        let load = Rc::new(Load::default());
        let _active = load.enter(None);
        assert!(load.retry(&budget(0, 0, 1), Instant::now()).is_none());
    }

    #[test]
    fn retries_per_second_are_saved_for_ten_seconds() {
        let (load, now, budget) = (Rc::<Load>::default(), Instant::now(), budget(0, 10, 2));
        assert_eq!(given(&load, &budget, now).len(), 50, "what is there at the start");
        for (seconds, expected) in [(0, 0), (1, 5), (2, 5), (4, 10), (1000, 50)] {
            let now = now + Duration::from_secs(seconds);
            assert_eq!(given(&load, &budget, now).len(), expected, "{seconds} s");
        }
    }

    /// The bound that is promised for the whole node.
    #[test]
    fn all_workers_together_exceed_the_share_by_less_than_one_each() {
        let now = Instant::now();
        for workers in 1..=9 {
            for active in [0, 1, 7, 64, 1000] {
                for percent in [1, 20, 33, 100] {
                    // As unevenly as can be, and evenly.
                    for skew in [true, false] {
                        let loads: Vec<Rc<Load>> = (0..workers).map(|_| Rc::default()).collect();
                        let on = |request| &loads[if skew { 0 } else { request % workers }];
                        let _active: Vec<_> = (0..active).map(|request| on(request).enter(None)).collect();
                        let of = |load| given(load, &budget(percent, 0, workers), now);
                        let retries: Vec<_> = loads.iter().flat_map(of).collect();
                        let exact = active * percent as usize;
                        assert!(retries.len() * 100 >= exact, "{workers} {active} {percent}");
                        assert!(retries.len() * 100 < exact + workers * 100, "{workers} {active} {percent}");
                    }
                }
            }
        }
    }

    #[test]
    fn all_workers_together_get_what_there_is_per_second() {
        let now = Instant::now();
        for workers in 1..=9 {
            let loads: Vec<Rc<Load>> = (0..workers).map(|_| Rc::default()).collect();
            let budget = budget(0, 100, workers);
            loads.iter().for_each(|load| drop(given(load, &budget, now)));
            // Parts of a retry stay with each worker.
            let later = now + Duration::from_secs(7);
            let all: usize = loads.iter().map(|load| given(load, &budget, later).len()).sum();
            assert!(all.abs_diff(700) < workers, "{workers}: {all}");
        }
    }

    fn limits(requests_max: usize, pending_max: usize, workers: usize) -> Limits {
        let pending_timeout = Duration::from_secs(1);
        Limits::new(&ClusterLimits { requests_max, pending_max, pending_timeout }, workers)
    }

    /// Whether it is under way after a look.
    fn poll<'l>(waiting: &mut std::pin::Pin<Box<impl Future<Output = Option<Active<'l>>>>>) -> Poll<bool> {
        let mut cx = std::task::Context::from_waker(Waker::noop());
        waiting.as_mut().poll(&mut cx).map(|entered| entered.map(std::mem::forget).is_some())
    }

    #[test]
    fn what_is_above_the_limit_waits_in_order_and_what_is_above_that_is_refused() {
        let (load, limits) = (Load::default(), limits(2, 2, 1));
        let (first, second) = (load.enter(Some(&limits)), load.enter(Some(&limits)));
        assert!(first.is_some() && second.is_some() && load.enter(Some(&limits)).is_none());
        let (mut third, mut fourth) = (Box::pin(load.wait(&limits)), Box::pin(load.wait(&limits)));
        assert_eq!((poll(&mut third), poll(&mut fourth)), (Poll::Pending, Poll::Pending));
        assert_eq!(poll(&mut Box::pin(load.wait(&limits))), Poll::Ready(false), "there is no more room");
        drop(first);
        assert!(load.enter(Some(&limits)).is_none(), "nobody passes those who wait");
        assert_eq!((poll(&mut fourth), poll(&mut third)), (Poll::Pending, Poll::Ready(true)));
        assert_eq!(load.counts(), (2, 1));
        drop((third, second));
        assert_eq!(poll(&mut fourth), Poll::Ready(true));
        drop(fourth);
        assert_eq!(load.counts(), (2, 0), "the two that were forgotten");
    }

    #[derive(Default)]
    struct Woken(std::sync::atomic::AtomicBool);

    impl std::task::Wake for Woken {
        fn wake(self: std::sync::Arc<Self>) {
            self.0.store(true, std::sync::atomic::Ordering::Relaxed);
        }
    }

    #[test]
    fn who_gives_up_waiting_makes_room_for_the_next() {
        let (load, limits) = (Load::default(), limits(1, 5, 1));
        let first = load.enter(Some(&limits));
        let (mut second, mut third) = (Box::pin(load.wait(&limits)), Box::pin(load.wait(&limits)));
        let woken = std::sync::Arc::new(Woken::default());
        assert_eq!(poll(&mut second), Poll::Pending);
        let waker = woken.clone().into();
        assert!(third.as_mut().poll(&mut std::task::Context::from_waker(&waker)).is_pending());
        drop(first);
        drop(second);
        assert!(woken.0.load(std::sync::atomic::Ordering::Relaxed), "it is its turn");
        assert_eq!(poll(&mut third), Poll::Ready(true));
    }

    #[test]
    fn all_workers_together_exceed_a_limit_by_less_than_one_each() {
        for (requests_max, workers) in [(1, 1), (1, 8), (7, 2), (1000, 16), (1000, 3)] {
            let limits = limits(requests_max, 0, workers);
            let all: usize = (0..workers)
                .map(|_| {
                    let load = Load::default();
                    std::iter::from_fn(|| load.enter(Some(&limits)).map(std::mem::forget)).count()
                })
                .sum();
            assert!(all >= requests_max && all < requests_max + workers, "{requests_max} {workers} {all}");
        }
    }
}
