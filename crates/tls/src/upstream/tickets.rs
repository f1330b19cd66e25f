//! Sessions that can be resumed with one endpoint.
//!
//! A session that is resumed is not verified again, so none is of use for longer than the certificates that were. An endpoint may
//! have several (an address with several servers behind it), and tickets come when another handshake may have taken place: so each
//! ticket has the end of its own connection's certificates. The store holds those since the last full handshake only.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rustls::NamedGroup;
use rustls::client::{ClientSessionStore, Tls12ClientSessionValue, Tls13ClientSessionValue};
use rustls::time_provider::TimeProvider;
use rustls_pki_types::ServerName;

use crate::certificate::unix_seconds;

/// The sessions. One worker's: nobody waits for the lock.
pub(super) struct Tickets {
    clock: Arc<dyn TimeProvider>,
    /// When our own certificate ends, in seconds since 1970.
    ours_until: i64,
    /// Until when the path holds that was verified within the call which is under way, as [`OfConnection::until`].
    verified: AtomicI64,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    group: Option<NamedGroup>,
    tickets: VecDeque<Ticket>,
}

struct Ticket {
    /// Seconds since 1970.
    until: i64,
    value: Tls13ClientSessionValue,
}

/// The same as one connection sees them.
#[derive(Debug)]
pub(super) struct OfConnection {
    tickets: Arc<Tickets>,
    /// When what the endpoint was verified by on this connection ends, in seconds since 1970; [`UNVERIFIED`] until it was.
    until: AtomicI64,
}

impl Tickets {
    pub(super) fn new(clock: Arc<dyn TimeProvider>, ours_until: i64) -> Self {
        Self { clock, ours_until, verified: AtomicI64::new(UNVERIFIED), kept: Mutex::default() }
    }

    /// The endpoint was verified by a path that holds until `valid_until`, in seconds since 1970. Sessions of other paths are
    /// forgotten. Whose connection it was is for [`OfConnection::called`] to know.
    pub(super) fn verified(&self, valid_until: i64) {
        self.verified.store(valid_until.min(self.ours_until), Ordering::Relaxed);
        self.with(|kept| kept.tickets.clear());
    }

    /// When those that are kept end, in seconds since 1970.
    #[cfg(test)]
    pub(super) fn ends(&self) -> Vec<u64> {
        self.with(|kept| kept.tickets.iter().map(|ticket| ticket.until.try_into().unwrap()).collect())
    }

    fn with<T>(&self, work: impl FnOnce(&mut Kept) -> T) -> T {
        work(&mut self.kept.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl OfConnection {
    pub(super) fn new(tickets: Arc<Tickets>) -> Self {
        Self { tickets, until: AtomicI64::new(UNVERIFIED) }
    }

    /// A call of rustls for this connection, of which there is one at a time, is over: what was verified in it was its own.
    pub(super) fn called(&self) {
        let verified = self.tickets.verified.swap(UNVERIFIED, Ordering::Relaxed);
        if verified != UNVERIFIED {
            self.until.store(verified, Ordering::Relaxed);
        }
    }
}

impl ClientSessionStore for OfConnection {
    fn set_kx_hint(&self, _server_name: ServerName<'static>, group: NamedGroup) {
        self.tickets.with(|kept| kept.group = Some(group));
    }

    fn kx_hint(&self, _server_name: &ServerName<'_>) -> Option<NamedGroup> {
        self.tickets.with(|kept| kept.group)
    }

    fn set_tls12_session(&self, _server_name: ServerName<'static>, _value: Tls12ClientSessionValue) {}

    fn tls12_session(&self, _server_name: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        None
    }

    fn remove_tls12_session(&self, _server_name: &ServerName<'static>) {}

    fn insert_tls13_ticket(&self, _server_name: ServerName<'static>, value: Tls13ClientSessionValue) {
        // It may come with the certificate.
        self.called();
        let until = self.until.load(Ordering::Relaxed);
        self.tickets.with(|kept| {
            if kept.tickets.len() == TICKETS_MAX {
                kept.tickets.pop_front();
            }
            kept.tickets.push_back(Ticket { until, value });
        });
    }

    fn take_tls13_ticket(&self, _server_name: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        let now = self.tickets.clock.current_time().map(unix_seconds)?;
        let ticket = self.tickets.with(|kept| {
            kept.tickets.retain(|ticket| now <= ticket.until);
            kept.tickets.pop_back()
        })?;
        // Unless there is a full handshake after all, further tickets are of the same certificates.
        self.until.store(ticket.until, Ordering::Relaxed);
        Some(ticket.value)
    }
}

impl std::fmt::Debug for Tickets {
    // Never what is in it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tickets").finish_non_exhaustive()
    }
}

/// Most servers send two with each handshake, and each is used once (RFC 8446 appendix C.4).
const TICKETS_MAX: usize = 8;
/// Before all times: a ticket of a connection on which nothing was verified is of no use.
const UNVERIFIED: i64 = i64::MIN;
