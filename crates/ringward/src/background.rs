//! Work of the control plane that keeps a core busy for long: a revocation list of a million entries takes most of a second
//! to read, and so do a configuration and its policies.
//!
//! Hides the threads that it is done on. Each piece of work has one of its own, which gives way to everybody else: a worker
//! that never sleeps leaves it a tenth of a core. On a thread of the ordinary priority the work would take half of a core
//! from a worker, and handshakes would wait. A tenth it keeps: what is read here takes trust away, too, and a flood of
//! handshakes must not put that off for ever.
//!
//! Priority alone is not enough: a worker that wakes up is put onto another core, where it has to share, or waits for the next
//! tick of the clock, and Linux may have those four milliseconds apart. So what goes through megabytes is [idle](idle()) where that
//! is possible, and in any case [pauses](pause) again and again, so that a worker finds its core free after a quarter of a
//! millisecond.
//!
//! Who has given way cannot ask for its old priority back without a privilege. So it is never the thread of a pool that does,
//! which would be used for something else afterwards, and nothing that a client or an operator waits for is done here: what
//! OCSP responders answer, the deny list, and the building of snapshots.

use std::cell::Cell;
use std::panic;
use std::thread;
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

mod idle;

pub(crate) use idle::idle;

/// Like [`spawn_blocking`](tokio::task::spawn_blocking), for work that may take long. Processes and threads that it starts
/// give way, too.
pub(crate) fn spawn<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    // A thread of the pool waits, so that a panic comes out as it does there, and a runtime knows that something is done.
    tokio::task::spawn_blocking(|| {
        let thread = thread::Builder::new().name("background".to_owned()).spawn(|| {
            give_way();
            RESUMED.set(Some(Instant::now()));
            work()
        });
        match thread {
            Ok(thread) => thread.join().unwrap_or_else(|panic| panic::resume_unwind(panic)),
            Err(error) => panic!("no thread can be started: {error}"),
        }
    })
}

/// Does both at the same time at the start, when nobody is served yet; else one after the other, as workers have to find a core
/// that is free.
pub(crate) fn both<A: Send, B>(beside: impl FnOnce() -> A + Send, here: impl FnOnce() -> B) -> (A, B) {
    if gives_way() {
        return (beside(), here());
    }
    thread::scope(|scope| {
        let beside = scope.spawn(beside);
        let here = here();
        (beside.join().unwrap_or_else(|panic| panic::resume_unwind(panic)), here)
    })
}

/// To be called often by work that takes long: sleeps if the last pause was [`WORK`] ago. Costs a look at the clock, and nothing
/// but that on threads that do not give way, such as that of the start, when nobody is served yet.
pub(crate) fn pause() {
    if RESUMED.get().is_some_and(|resumed| resumed.elapsed() >= WORK) {
        idle::end_in_time();
        thread::sleep(REST);
        RESUMED.set(Some(Instant::now()));
    }
}

thread_local! {
    /// When the work of this thread began or last went on; none on threads that do not give way.
    static RESUMED: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Whether this is a thread of background work.
fn gives_way() -> bool {
    RESUMED.get().is_some()
}

/// On Linux this is about the calling thread alone, whatever POSIX says of the process (setpriority(2)).
fn give_way() {
    // Nobody needs a privilege for it; where a sandbox forbids it all the same, the work is done as it is.
    let _ = rustix::process::setpriority_process(None, NICENESS);
}

fn niceness() -> Option<i32> {
    rustix::process::getpriority_process(None).ok()
}

/// Between the ordinary 0 and the least 19: each step is a quarter of CPU time against those who do not give way (sched(7)).
const NICENESS: i32 = 10;
/// As long as one full handshake keeps a core: a worker waits for no more than it does for a further client.
const WORK: Duration = Duration::from_micros(250);
/// So a fifth of a core is asked for, and a list of a million entries takes about two seconds.
const REST: Duration = Duration::from_millis(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_gives_way_and_the_threads_of_the_pool_do_not() {
        let runtime = tokio::runtime::Builder::new_current_thread().max_blocking_threads(1).build().unwrap();
        let usual = niceness();
        runtime.block_on(async {
            let work = spawn(|| (niceness(), thread::spawn(niceness).join().unwrap()));
            assert_eq!(work.await.unwrap(), (Some(NICENESS), Some(NICENESS)));
            // There is only one thread, so it is the one that waited.
            assert_eq!(tokio::task::spawn_blocking(niceness).await.unwrap(), usual);
        });
        assert_eq!(niceness(), usual);
    }

    #[test]
    fn only_work_that_gives_way_pauses() {
        let far = Instant::now().checked_sub(Duration::from_secs(1)).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let work = move || {
            RESUMED.set(Some(far));
            pause();
            let first = RESUMED.get().unwrap();
            RESUMED.set(Some(Instant::now() + Duration::from_secs(1)));
            let soon = RESUMED.get();
            pause();
            (first > far, RESUMED.get() == soon)
        };
        assert_eq!(runtime.block_on(async { spawn(work).await.unwrap() }), (true, true));
        pause();
        assert_eq!(RESUMED.get(), None);
    }

    #[test]
    fn work_that_gives_way_takes_one_core_at_a_time() {
        let here = || thread::current().id();
        let is_beside = move || {
            let (beside, own) = both(here, here);
            (beside != own, own == here())
        };
        assert_eq!(is_beside(), (true, true));
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        assert_eq!(runtime.block_on(async { spawn(is_beside).await.unwrap() }), (false, true));
    }

    #[tokio::test]
    async fn a_panic_is_the_outcome_of_its_work_only() {
        assert!(spawn::<()>(|| panic!("as a test")).await.unwrap_err().is_panic());
        assert_eq!(spawn(|| 7).await.unwrap(), 7);
    }
}
