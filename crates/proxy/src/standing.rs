//! Whether a connection may go on: its admission, its age, and whether the worker drains.
//!
//! This is where a change of trust reaches a connection that was admitted before it. Per request it costs one comparison of
//! generations.

use std::{cell::Cell, rc::Rc, time::Duration};

use ringward_telemetry::{CloseReason, ConnectionFacts, Enforced};

use crate::{
    admission::Admission,
    control::Pressure,
    error::ProxyError,
    io::Shut,
    live::Guard,
    snapshot::Listener,
    upstream::millis,
    worker::{View, Worker},
};

/// What decides whether a connection may serve another request.
pub(crate) struct Standing {
    worker: Rc<Worker>,
    live: Guard,
    /// When the connection has served long enough, in the clock of [`crate::io::Deadlines`].
    ages_at: Option<u64>,
    requests: Cell<u64>,
    /// A request was refused because the admission does not hold any more.
    refused: Cell<bool>,
}

impl Standing {
    pub(crate) fn new(worker: &Rc<Worker>, listener: &Listener, live: Guard) -> Standing {
        let now = worker.deadlines.now();
        Standing {
            worker: worker.clone(),
            live,
            ages_at: listener.limits.connection_age_max.map(|age| now.saturating_add(millis(age))),
            requests: Cell::new(0),
            refused: Cell::new(false),
        }
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

    /// Counts a request; its number, from 1.
    pub(crate) fn count_request(&self) -> u64 {
        self.requests.set(self.requests.get() + 1);
        self.requests.get()
    }

    /// How long this connection may wait for its next request, in milliseconds.
    pub(crate) fn patience(&self, idle_timeout: Duration) -> u64 {
        let now = self.worker.deadlines.now();
        let ends = [self.admission().ends_at(), self.ages_at];
        ends.into_iter().flatten().map(|end| end.saturating_sub(now)).fold(millis(idle_timeout), u64::min)
    }

    /// The gate: the listener and host by whose rules this client is admitted today.
    ///
    /// # Errors
    /// [`ProxyError::TrustWithdrawn`] when the snapshot in force would not let this client in.
    pub(crate) fn gate<'v>(&self, view: &'v View) -> Result<(&'v Listener, usize), ProxyError> {
        let admission = self.admission();
        match admission.examine(view, self.worker.deadlines.now()) {
            Ok((listener, host)) => Ok((&view.snapshot.listeners[listener], host)),
            Err(withdrawal) => {
                self.refused.set(true);
                Err(ProxyError::TrustWithdrawn { withdrawal, why: admission.explanation() })
            }
        }
    }

    /// Who serves it.
    pub(crate) fn worker(&self) -> &Worker {
        &self.worker
    }

    /// Why this connection must not serve a request after the present one, if it must not.
    pub(crate) fn outlived(&self) -> Option<CloseReason> {
        let view = self.worker.view();
        let now = self.worker.deadlines.now();
        let (listener, _) = match self.admission().examine(&view, now) {
            Ok(place) => place,
            Err(withdrawal) => return Some(withdrawal.close_reason()),
        };
        let requests_max = view.snapshot.listeners[listener].limits.requests_per_connection_max;
        if self.worker.is_draining() {
            Some(CloseReason::Drain)
        } else if self.worker.control.pressure() >= Pressure::Soft {
            Some(CloseReason::Memory)
        } else if self.ages_at.is_some_and(|at| at <= now) {
            Some(CloseReason::AgeLimit)
        } else if requests_max.is_some_and(|max| self.requests.get() >= max) {
            Some(CloseReason::RequestLimit)
        } else {
            None
        }
    }

    /// Why the sweep has cut this connection in the middle of an exchange, if it has.
    pub(crate) fn withdrawn(&self) -> Option<ProxyError> {
        let (withdrawal, _) =
            self.admission().withdrawn().filter(|_| self.live.was_cut() == Some(Shut::Both))?;
        Some(ProxyError::TrustWithdrawn { withdrawal, why: self.admission().explanation() })
    }

    /// Records how long it took from the change of trust that ended this connection to its end, and that it did, unless a
    /// request's record says so.
    pub(crate) fn note_end(&self, facts: &ConnectionFacts) {
        let Some((withdrawal, changed_at)) = self.admission().withdrawn() else { return };
        if !self.refused.get() {
            let (reason, why) = (withdrawal.close_reason(), self.admission().explanation());
            crate::record::ended_by_trust(&self.worker, facts, reason, &why);
        }
        let how = match self.live.was_cut() {
            Some(Shut::Read) => Enforced::Idle,
            Some(Shut::Both) => Enforced::Exchange,
            // The change has overtaken its handshake.
            None if self.refused.get() && self.requests.get() <= 1 => Enforced::Handshake,
            None if self.refused.get() => Enforced::Request,
            None => Enforced::Exchange,
        };
        self.worker.shard.trust_enforced(how, crate::record::nanos(changed_at.elapsed()));
    }
}
