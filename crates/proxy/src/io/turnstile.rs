//! Where a task that has more to do lets the others go first.

use std::rc::Rc;

use monoio::net::UnixStream;

/// One worker's.
///
/// A task of monoio 0.2.4 that just wakes itself is the next one to run, and timers wait until no task has anything to do. So a
/// task that goes on later waits for a completion, which comes as soon as completions are looked at.
pub(crate) struct Turnstile {
    /// A socket that nobody writes to, so that it can always be written to; none if there were no descriptors left.
    ends: Option<Rc<(UnixStream, UnixStream)>>,
}

impl Turnstile {
    /// To be called on the runtime.
    pub(crate) fn new() -> Turnstile {
        Turnstile { ends: UnixStream::pair().ok().map(Rc::new) }
    }

    /// Waits until all have run who can, with io_uring also those whose operations have completed meanwhile.
    pub(crate) async fn pass(&self) {
        let ends = self.ends.clone();
        // A task of its own comes after all others, which is all it does where the socket is known to be writable, as it is with
        // epoll. It also keeps the room that the operation needs out of connections.
        monoio::spawn(async move {
            if let Some(ends) = ends {
                let _ = ends.0.writable(true).await;
            }
        })
        .await;
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, rc::Rc, time::Duration};

    use super::*;
    use crate::io::{Driver, DriverMode, run_on_this_thread, sleep, spawn};

    #[test]
    fn others_go_first() {
        for mode in [DriverMode::Auto, DriverMode::Epoll] {
            run_on_this_thread(mode, |_| async {
                let turnstile = Turnstile::new();
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
        run_on_this_thread(DriverMode::Auto, |driver| async move {
            let turnstile = Turnstile::new();
            let fired = Rc::new(Cell::new(false));
            let told = fired.clone();
            spawn(async move {
                sleep(Duration::from_millis(1)).await;
                told.set(true);
            });
            let mut passes = 0;
            while !fired.get() && driver == Driver::IoUring {
                turnstile.pass().await;
                passes += 1;
                assert!(passes < 10_000_000, "the timer waits until nobody has anything to do");
            }
        })
        .unwrap();
    }
}
