//! An open loop: requests are due at their times, whatever became of those before them.
//!
//! A request that has to wait for a free connection has begun when it was due. A closed loop would not have sent it yet, and so
//! would not have noticed that clients wait: what is called coordinated omission.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

use crate::rate::{Rates, Schedule};

/// Says who may send when.
pub(crate) struct Pace {
    /// When requests are due that nobody has taken yet.
    untaken: RefCell<Schedule>,
    requests_max: u64,
    shared: Arc<Shared>,
}

/// What the thread that looks at the time has let go.
struct Shared {
    begun: Instant,
    /// How many are due.
    due: AtomicU64,
    /// Requests that are due and that nobody has taken.
    waiting: Semaphore,
}

impl Pace {
    /// By these rates, up to so many requests. Times count from now on.
    pub(crate) fn new(rates: &Rates, requests_max: u64) -> Pace {
        let shared = Shared { begun: Instant::now(), due: AtomicU64::new(0), waiting: Semaphore::new(0) };
        Pace { untaken: RefCell::new(rates.schedule()), requests_max, shared: Arc::new(shared) }
    }

    /// How many requests were due.
    pub(crate) fn due(&self) -> u64 {
        self.shared.due.load(Ordering::Relaxed)
    }

    /// Lets requests go when they are due, for `duration`; then each of `takers` is told that there are no more.
    pub(crate) async fn run(&self, duration: Duration, takers: usize) {
        let count = usize::try_from(self.requests_max).unwrap_or(usize::MAX);
        let schedule = self.untaken.borrow().clone().take(count).take_while(move |due| *due < duration);
        let shared = self.shared.clone();
        // A thread of its own: the runtime's timer goes by milliseconds, which would be in every time that is measured.
        spawn_blocking(move || shared.let_go(schedule)).await.expect("it does not panic");
        self.shared.waiting.add_permits(takers);
    }

    /// When the next request was due, once it is; `None` if there are no more.
    pub(crate) async fn next(&self) -> Option<Instant> {
        self.shared.waiting.acquire().await.expect("never closed").forget();
        let mut untaken = self.untaken.borrow_mut();
        if untaken.told() >= self.due() {
            return None;
        }
        Some(self.shared.begun + untaken.next()?)
    }
}

impl Shared {
    fn let_go(&self, schedule: impl Iterator<Item = Duration>) {
        let mut dues = schedule.peekable();
        while let Some(next) = dues.peek() {
            thread::sleep(next.saturating_sub(self.begun.elapsed()));
            let now = self.begun.elapsed();
            let mut count = 0;
            while dues.next_if(|due| *due <= now).is_some() {
                count += 1;
            }
            self.due.fetch_add(count as u64, Ordering::Relaxed);
            self.waiting.add_permits(count);
        }
    }
}
