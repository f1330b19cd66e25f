//! One connection to a policy server: with a question under way, or kept for the next.

use std::rc::Rc;

use crate::io::{Deadline, Deadlines, ServerStream, Shut};

/// A connection. A question that takes too long is dropped with it, which calls off what is in flight: nobody goes on with it.
#[derive(Debug)]
pub(super) struct Connection {
    // Declared before the stream: the entry in the table of deadlines must end before the descriptor is closed.
    deadline: Deadline,
    pub(super) stream: ServerStream,
}

impl Connection {
    pub(super) fn new(stream: ServerStream, deadlines: &Rc<Deadlines>) -> Connection {
        Connection { deadline: deadlines.register(stream.fd()), stream }
    }

    /// As it is kept: it ends after a while.
    pub(super) fn asleep(self) -> Connection {
        self.deadline.set(IDLE_MILLIS, Shut::Both);
        self
    }

    /// For the next question, if it is alive and nothing waits on it.
    pub(super) fn awakened(self) -> Option<Connection> {
        if self.has_died() || !self.deadline.is_quiet() {
            return None;
        }
        self.deadline.clear();
        Some(self)
    }

    /// Whether it was kept for too long.
    pub(super) fn has_died(&self) -> bool {
        self.deadline.fired()
    }
}

/// A server on the same machine has no reason to close sooner; OPA never does.
const IDLE_MILLIS: u64 = 30_000;
