//! How long an exchange may take altogether: what its route allows (`request_timeout`), and of a gRPC call what its client
//! asks for (`grpc-timeout`), whichever is less.
//!
//! The bounds on single waits do the work: a deadline with a limit ([`Deadline::limit`]) ends the wait that reaches it, as if
//! that had lasted too long, and what the wait failed with is then put down to the limit ([`TimeLimit::blame`]). So there is no
//! timer per request; what waits without a deadline of its own waits in [`TimeLimit::bound`].

use std::{
    cell::Cell,
    future::{Future, poll_fn},
    pin::Pin,
    rc::Rc,
    task::Poll,
    time::{Duration, Instant},
};

use ringward_http::{RequestHead, grpc::BadTimeout};

use crate::{
    error::ProxyError,
    io::{Deadline, Deadlines, Shut},
    upstream::millis,
};

/// The time of one exchange.
pub(crate) struct TimeLimit {
    started: Instant,
    /// What the client asks for.
    asked: Option<Duration>,
    /// What the route allows.
    allowed: Cell<Option<Duration>>,
}

impl TimeLimit {
    /// Of an exchange that began at `started`, before its route is known. `is_grpc`: the request is a gRPC call.
    ///
    /// # Errors
    /// When the client's own limit cannot be read: served without it, the call would be one that nobody waits for.
    pub(crate) fn new(started: Instant, head: &RequestHead, is_grpc: bool) -> Result<TimeLimit, BadTimeout> {
        let asked = if is_grpc { head.grpc_timeout()? } else { None };
        Ok(TimeLimit { started, asked, allowed: Cell::new(None) })
    }

    /// Sets what the route allows.
    pub(crate) fn allow(&self, allowed: Option<Duration>) {
        self.allowed.set(allowed);
    }

    /// How much is left; `None` if there is no limit.
    ///
    /// # Errors
    /// When nothing is left.
    pub(crate) fn left(&self) -> Result<Option<Duration>, ProxyError> {
        let Some(total) = self.total() else { return Ok(None) };
        match total.checked_sub(self.started.elapsed()) {
            None | Some(Duration::ZERO) => Err(self.over(total)),
            left => Ok(left),
        }
    }

    /// Sets the limit of the waits that `deadline` bounds.
    ///
    /// # Errors
    /// When nothing is left.
    pub(crate) fn apply(&self, deadline: &Deadline) -> Result<(), ProxyError> {
        deadline.limit(self.left()?.map(millis));
        Ok(())
    }

    /// The result of `work`, unless the limit comes first. Only for work that may be dropped wherever it is.
    ///
    /// # Errors
    /// When nothing is left.
    pub(crate) async fn bound<T>(
        &self,
        deadlines: &Rc<Deadlines>,
        mut work: Pin<&mut impl Future<Output = T>>,
    ) -> Result<T, ProxyError> {
        let Some(left) = self.left()? else { return Ok(work.await) };
        let mut timer = None;
        let done = poll_fn(|cx| {
            if let Poll::Ready(done) = work.as_mut().poll(cx) {
                return Poll::Ready(Some(done));
            }
            // Made only now: most of such work is done at once.
            let timer = timer.get_or_insert_with(|| {
                let timer = deadlines.timer();
                timer.set(millis(left), Shut::Both);
                timer
            });
            timer.poll_fired(cx).map(|()| None)
        });
        done.await.ok_or_else(|| self.over(self.total().unwrap_or(left)))
    }

    /// What the client is to learn of where a wait has failed: that the time is over, if `deadline` has reached its limit.
    pub(crate) fn blame(&self, error: ProxyError, deadline: &Deadline) -> ProxyError {
        let has_waited = matches!(
            error,
            ProxyError::BodyTimeout(_)
                | ProxyError::PolicyBodyTimeout(_)
                | ProxyError::ClientStalled(_)
                | ProxyError::UpstreamTimeout(_)
        );
        match self.total() {
            Some(total) if has_waited && deadline.is_limit_reached() => self.over(total),
            _ => error,
        }
    }

    fn total(&self) -> Option<Duration> {
        match (self.asked, self.allowed.get()) {
            (Some(asked), Some(allowed)) => Some(asked.min(allowed)),
            (asked, allowed) => asked.or(allowed),
        }
    }

    fn over(&self, total: Duration) -> ProxyError {
        match self.asked {
            Some(asked) if asked == total => ProxyError::GrpcTimeout(asked),
            _ => ProxyError::RequestTimeout(total),
        }
    }
}
