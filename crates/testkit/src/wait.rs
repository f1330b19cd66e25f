//! Waiting for something that another thread or process does, always with a deadline.

use std::net::{Ipv4Addr, TcpListener};
use std::thread;
use std::time::{Duration, Instant};

/// Asks `condition` again and again until it holds.
///
/// # Panics
/// With `what` when it does not hold within `deadline`.
#[track_caller]
pub fn eventually(deadline: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    eventually_some(deadline, what, || condition().then_some(()));
}

/// Asks `attempt` again and again until it yields a value.
///
/// # Panics
/// With `what` when it yields none within `deadline`.
#[track_caller]
pub fn eventually_some<T>(deadline: Duration, what: &str, mut attempt: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + deadline;
    loop {
        if let Some(value) = attempt() {
            return value;
        }
        assert!(Instant::now() < end, "did not happen within {deadline:?}: {what}");
        thread::sleep(POLL_INTERVAL);
    }
}

/// A TCP port on the loopback interface that was free a moment ago.
///
/// Another process may take it before its user does. Prefer port 0 and reading back what was bound; this is for
/// programs that must be told a port, and their start should be tried again when the port is in use.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a loopback port to listen on");
    listener.local_addr().expect("the address that was bound").port()
}

const POLL_INTERVAL: Duration = Duration::from_millis(2);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_until_the_condition_holds() {
        let mut asked = 0;
        let seen = eventually_some(Duration::from_secs(5), "third time", || {
            asked += 1;
            (asked == 3).then_some(asked)
        });
        assert_eq!(seen, 3);
        eventually(Duration::ZERO, "at once", || true);
    }

    #[test]
    #[should_panic(expected = "did not happen within 1ms: never")]
    fn names_what_did_not_happen() {
        eventually(Duration::from_millis(1), "never", || false);
    }

    #[test]
    fn ports_can_be_bound() {
        TcpListener::bind((Ipv4Addr::LOCALHOST, free_port())).unwrap();
    }
}
