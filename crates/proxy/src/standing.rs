//! Whether a connection may go on: its admission, its age, and whether the worker drains.
//!
//! This is where a change of trust reaches a connection that was admitted before it. Per request it costs one comparison of
//! generations.

use std::{
    cell::Cell,
    rc::Rc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use ringward_telemetry::CloseReason;

use crate::{
    downstream::Downstream,
    error::ProxyError,
    live::{Admission, Guard},
    snapshot::Listener,
    upstream::millis,
    worker::{View, Worker},
};

/// What decides whether a connection may serve another request.
pub(crate) struct Standing {
    worker: Rc<Worker>,
    live: Guard,
    examined: Cell<Examined>,
    /// When the client's certificate path ends to hold, in the clock of [`crate::io::Deadlines`].
    expires_at: Option<u64>,
    /// When the connection has served long enough, in the same clock.
    ages_at: Option<u64>,
    requests: Cell<u64>,
}

/// How the connection stands in one generation.
#[derive(Clone, Copy, Debug)]
struct Examined {
    generation: u64,
    /// Listener and host that would do this client's handshake.
    place: Option<(usize, usize)>,
    /// That host checks clients in the very way in which this one was checked.
    holds: bool,
    /// It does not, but would let the client in nevertheless.
    readmitted: bool,
}

impl Standing {
    pub(crate) fn new(
        worker: &Rc<Worker>,
        view: &View,
        listener: &Listener,
        live: Guard,
        valid_until_unix: Option<i64>,
    ) -> Standing {
        let now = worker.deadlines.now();
        let standing = Standing {
            worker: worker.clone(),
            live,
            examined: Cell::new(Examined { generation: 0, place: None, holds: false, readmitted: false }),
            expires_at: valid_until_unix.map(|until| now.saturating_add(millis(until_unix(until)))),
            ages_at: listener.limits.connection_age_max.map(|age| now.saturating_add(millis(age))),
            requests: Cell::new(0),
        };
        standing.examine(view);
        standing
    }

    pub(crate) fn live(&self) -> &Guard {
        &self.live
    }

    pub(crate) fn admission(&self) -> &Admission {
        self.live.admission()
    }

    /// Requests that this connection has carried.
    pub(crate) fn requests(&self) -> u64 {
        self.requests.get()
    }

    /// Counts a request.
    pub(crate) fn count_request(&self) {
        self.requests.set(self.requests.get() + 1);
    }

    /// How long this connection may wait for its next request, in milliseconds.
    pub(crate) fn patience(&self, idle_timeout: Duration) -> u64 {
        let now = self.worker.deadlines.now();
        let ends = [self.expires_at, self.ages_at];
        ends.into_iter().flatten().map(|end| end.saturating_sub(now)).fold(millis(idle_timeout), u64::min)
    }

    /// The gate: the listener and host by whose rules this client is admitted today.
    ///
    /// # Errors
    /// [`ProxyError::TrustWithdrawn`] when the snapshot in force would not let this client in.
    pub(crate) fn gate<'v>(
        &self,
        view: &'v View,
        downstream: &Downstream,
    ) -> Result<(&'v Listener, usize), ProxyError> {
        if self.expires_at.is_some_and(|at| at <= self.worker.deadlines.now()) {
            return Err(ProxyError::TrustWithdrawn(
                "the client's certificate, or one that it depends on, has expired".into(),
            ));
        }
        let mut examined = self.examine(view);
        let Some((listener, host)) = examined.place else {
            return Err(ProxyError::TrustWithdrawn(
                "its listener or virtual host is no longer configured".into(),
            ));
        };
        if !examined.holds && !examined.readmitted {
            downstream
                .with_session(|session| view.hosts[listener][host].readmit(session))
                .map_err(|failure| ProxyError::TrustWithdrawn(failure.to_string()))?;
            examined.readmitted = true;
            self.examined.set(examined);
        }
        Ok((&view.snapshot.listeners[listener], host))
    }

    /// Why this connection must not serve a request after the present one, if it must not.
    pub(crate) fn outlived(&self) -> Option<CloseReason> {
        let view = self.worker.view();
        let now = self.worker.deadlines.now();
        let examined = self.examine(&view);
        let Some((listener, _)) = examined.place else { return Some(CloseReason::Removed) };
        let requests_max = view.snapshot.listeners[listener].limits.requests_per_connection_max;
        if self.expires_at.is_some_and(|at| at <= now) {
            Some(CloseReason::CertificateExpired)
        } else if !examined.holds {
            Some(CloseReason::TrustChanged)
        } else if self.worker.is_draining() {
            Some(CloseReason::Drain)
        } else if self.ages_at.is_some_and(|at| at <= now) {
            Some(CloseReason::AgeLimit)
        } else if requests_max.is_some_and(|max| self.requests.get() >= max) {
            Some(CloseReason::RequestLimit)
        } else {
            None
        }
    }

    fn examine(&self, view: &View) -> Examined {
        let mut examined = self.examined.get();
        if examined.generation != view.generation() {
            let place = self.admission().place_in(&view.snapshot);
            let holds = self.admission().holds_in(&view.snapshot);
            examined = Examined { generation: view.generation(), place, holds, readmitted: false };
            self.examined.set(examined);
        }
        examined
    }
}

/// How long it is until then; zero if it is over.
fn until_unix(seconds: i64) -> Duration {
    let then = UNIX_EPOCH + Duration::from_secs(seconds.max(0).unsigned_abs());
    then.duration_since(SystemTime::now()).unwrap_or_default()
}
