//! Work of the control plane that keeps a core busy for long: a revocation list of a million entries takes most of a second
//! to read, and so do a configuration and its policies.
//!
//! Hides the threads that it is done on. Each piece of work has one of its own, which gives way to everybody else: a worker
//! that wakes up takes the core from it, and one that never sleeps leaves it a tenth of a core. On a thread of the ordinary
//! priority the work would take half of a core from a worker, and handshakes would wait. A tenth it keeps: what is read here
//! takes trust away, too, and a flood of handshakes must not put that off for ever.
//!
//! Who has given way cannot ask for its old priority back without a privilege. So it is never the thread of a pool that does,
//! which would be used for something else afterwards, and nothing that a client or an operator waits for is done here: what
//! OCSP responders answer, the deny list, and the building of snapshots.

use std::panic;
use std::thread;

use tokio::task::JoinHandle;

/// Like [`spawn_blocking`](tokio::task::spawn_blocking), for work that may take long. Processes and threads that it starts
/// give way, too.
pub(crate) fn spawn<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    // A thread of the pool waits, so that a panic comes out as it does there, and a runtime knows that something is done.
    tokio::task::spawn_blocking(|| {
        let thread = thread::Builder::new().name("background".to_owned()).spawn(|| {
            give_way();
            work()
        });
        match thread {
            Ok(thread) => thread.join().unwrap_or_else(|panic| panic::resume_unwind(panic)),
            Err(error) => panic!("no thread can be started: {error}"),
        }
    })
}

/// On Linux this is about the calling thread alone, whatever POSIX says of the process (setpriority(2)).
fn give_way() {
    // Nobody needs a privilege for it; where a sandbox forbids it all the same, the work is done as it is.
    let _ = rustix::process::setpriority_process(None, NICENESS);
}

/// Between the ordinary 0 and the least 19: each step is a quarter of CPU time against those who do not give way (sched(7)).
const NICENESS: i32 = 10;

#[cfg(test)]
mod tests {
    use super::*;

    fn niceness() -> i32 {
        rustix::process::getpriority_process(None).unwrap()
    }

    #[test]
    fn work_gives_way_and_the_threads_of_the_pool_do_not() {
        let runtime = tokio::runtime::Builder::new_current_thread().max_blocking_threads(1).build().unwrap();
        let usual = niceness();
        runtime.block_on(async {
            let work = spawn(|| (niceness(), thread::spawn(niceness).join().unwrap()));
            assert_eq!(work.await.unwrap(), (NICENESS, NICENESS));
            // There is only one thread, so it is the one that waited.
            assert_eq!(tokio::task::spawn_blocking(niceness).await.unwrap(), usual);
        });
        assert_eq!(niceness(), usual);
    }

    #[tokio::test]
    async fn a_panic_is_the_outcome_of_its_work_only() {
        assert!(spawn::<()>(|| panic!("as a test")).await.unwrap_err().is_panic());
        assert_eq!(spawn(|| 7).await.unwrap(), 7);
    }
}
