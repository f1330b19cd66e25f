//! The scheduling class for work that is to run only where nobody else wants to.
//!
//! Hides how a thread gets into `SCHED_IDLE` (sched(7)) and out of it again. To the scheduler a core on which only such work
//! runs is a free one: a worker that wakes up is put there and runs at once, even in the middle of a system call, where a
//! mere lower priority makes it wait for the next tick of the clock or share another core. In exchange such work gets three
//! thousandths of a core that is busy. So it is asked for only where the way back is open, and for a limited time.

use std::cell::Cell;
use std::sync::LazyLock;
use std::thread;
use std::time::{Duration, Instant};

use thread_priority::{
    NormalThreadSchedulePolicy, ThreadPriority, ThreadSchedulePolicy, set_thread_priority_and_policy,
    thread_native_id, thread_schedule_policy,
};

/// While it is there, the thread runs only where nobody else wants to.
#[must_use]
pub(crate) struct Idle(());

/// Begins it, on a thread of background work and for the rest of [`IDLE_MAX`] since that first asked. On other threads, later,
/// and where a thread would not be allowed to come back, it changes nothing.
pub(crate) fn idle() -> Idle {
    if super::gives_way() && !IS_IDLE.get() && *MAY_RETURN {
        let until = UNTIL.get().unwrap_or_else(|| Instant::now() + IDLE_MAX);
        UNTIL.set(Some(until));
        if Instant::now() < until {
            enter();
            IS_IDLE.set(true);
        }
    }
    Idle(())
}

/// Ends it if it has lasted for long enough.
pub(super) fn end_in_time() {
    if IS_IDLE.get() && UNTIL.get().is_some_and(|until| until <= Instant::now()) {
        end();
    }
}

fn end() {
    if IS_IDLE.replace(false) {
        leave();
    }
}

impl Drop for Idle {
    fn drop(&mut self) {
        end();
    }
}

/// Whether the way back is open: it takes a privilege, or a limit such as systemd's `LimitNICE=`. Found out by going it, as
/// there are many reasons why it may not be.
static MAY_RETURN: LazyLock<bool> = LazyLock::new(|| {
    let trial = thread::Builder::new().name("idle-trial".to_owned()).spawn(|| {
        super::give_way();
        enter();
        leave();
        thread_schedule_policy().ok() == Some(NORMAL) && super::niceness() == Some(super::NICENESS)
    });
    trial.is_ok_and(|trial| trial.join().unwrap_or(false))
});

thread_local! {
    static IS_IDLE: Cell<bool> = const { Cell::new(false) };
    /// Until when this thread may be; set when it first was.
    static UNTIL: Cell<Option<Instant>> = const { Cell::new(None) };
}

fn enter() {
    set(IDLE);
}

fn leave() {
    set(NORMAL);
}

fn set(policy: ThreadSchedulePolicy) {
    // It sets a niceness as well, which may be forbidden and is ours to set.
    let _ = set_thread_priority_and_policy(thread_native_id(), ThreadPriority::Min, policy);
    super::give_way();
}

const IDLE: ThreadSchedulePolicy = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle);
const NORMAL: ThreadSchedulePolicy = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Other);
/// Twice what a list of a million entries takes where there is room. Where there is none it goes on at its usual priority.
const IDLE_MAX: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> ThreadSchedulePolicy {
        thread_schedule_policy().unwrap()
    }

    fn on_a_thread_of_background_work<T: Send + 'static>(test: impl FnOnce() -> T + Send + 'static) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async { super::super::spawn(test).await.unwrap() })
    }

    #[test]
    fn a_thread_is_idle_while_it_asks_for_it_and_not_longer() {
        let class = if *MAY_RETURN { IDLE } else { NORMAL };
        on_a_thread_of_background_work(move || {
            assert_eq!(policy(), NORMAL);
            let work = idle();
            assert_eq!(policy(), class);
            drop(work);
            assert_eq!((policy(), super::super::niceness()), (NORMAL, Some(super::super::NICENESS)));
        });
    }

    #[test]
    fn nobody_is_idle_for_ever() {
        on_a_thread_of_background_work(|| {
            let _work = idle();
            end_in_time();
            assert_eq!(IS_IDLE.get(), *MAY_RETURN, "there is time left");
            UNTIL.set(Some(Instant::now()));
            end_in_time();
            assert_eq!(policy(), NORMAL);
            let _more = idle();
            assert_eq!(policy(), NORMAL, "that was its time");
        });
    }

    #[test]
    fn threads_that_do_not_give_way_stay_as_they_are() {
        let usual = policy();
        let _work = idle();
        assert_eq!(policy(), usual);
    }
}
