//! Where a task that has more to do lets the others go first.

use std::{cell::Cell, rc::Rc, time::Duration};

use monoio::net::UnixStream;

use super::{Driver, sleep};

/// One worker's.
///
/// A task of monoio 0.2.4 that just wakes itself is the next one to run, and timers wait until no task has anything to do. So a
/// task that goes on later waits for a completion, which comes as soon as completions are looked at.
pub(crate) struct Turnstile {
    /// A socket that nobody writes to, so that it can always be written to; none if there were no descriptors left.
    ends: Option<Rc<(UnixStream, UnixStream)>>,
    driver: Driver,
    passes: Cell<u32>,
}

impl Turnstile {
    /// To be called on the runtime.
    pub(crate) fn new(driver: Driver) -> Turnstile {
        Turnstile { ends: UnixStream::pair().ok().map(Rc::new), driver, passes: Cell::new(0) }
    }

    /// Waits until all have run who can, with io_uring also those whose operations have completed meanwhile.
    pub(crate) async fn pass(&self) {
        let passes = self.passes.get().wrapping_add(1);
        self.passes.set(passes);
        let rests = self.driver == Driver::Epoll && passes.is_multiple_of(PASSES_BETWEEN_RESTS);
        let ends = self.ends.clone();
        // A task of its own comes after all others, which is all it does where the socket is known to be writable, as it is with
        // epoll. It also keeps the room that the operation needs out of connections.
        monoio::spawn(async move {
            if rests {
                sleep(REST).await;
            } else if let Some(ends) = ends {
                let _ = ends.0.writable(true).await;
            }
        })
        .await;
    }
}

/// With epoll no timer of the worker fires while somebody has more to do, so that everybody rests at times.
const PASSES_BETWEEN_RESTS: u32 = 16;
const REST: Duration = Duration::from_millis(1);

#[cfg(test)]
mod tests {
    use std::{cell::Cell, rc::Rc, time::Duration};

    use super::*;
    use crate::io::{DriverMode, run_on_this_thread, spawn};

    #[test]
    fn others_go_first() {
        for mode in [DriverMode::Auto, DriverMode::Epoll] {
            run_on_this_thread(mode, |driver| async move {
                let turnstile = Turnstile::new(driver);
                let ran = Rc::new(Cell::new(0));
                for nth in 1..10 {
                    let ran = ran.clone();
                    spawn(async move { ran.set(nth) });
                }
                turnstile.pass().await;
                assert_eq!(ran.get(), 9);
            })
            .unwrap();
        }
    }

    #[test]
    fn timers_fire_although_somebody_always_has_more_to_do() {
        for mode in [DriverMode::Auto, DriverMode::Epoll] {
            run_on_this_thread(mode, |driver| async move {
                let turnstile = Turnstile::new(driver);
                let fired = Rc::new(Cell::new(false));
                let told = fired.clone();
                spawn(async move {
                    sleep(Duration::from_millis(1)).await;
                    told.set(true);
                });
                let mut passes = 0;
                while !fired.get() {
                    turnstile.pass().await;
                    passes += 1;
                    assert!(passes < 10_000_000, "the timer waits until nobody has anything to do");
                }
            })
            .unwrap();
        }
    }
}
