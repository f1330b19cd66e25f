//! Sessions that can be resumed with one endpoint.
//!
//! A session that is resumed is not verified again, so none is of use for longer than the certificates that were: the store
//! holds those of the last full handshake only, until the first certificate of its path expires.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::NamedGroup;
use rustls::client::{ClientSessionStore, Tls12ClientSessionValue, Tls13ClientSessionValue};
use rustls::time_provider::TimeProvider;
use rustls_pki_types::ServerName;

use crate::certificate::unix_seconds;

/// The sessions. One worker's: nobody waits for the lock.
pub(super) struct Tickets {
    clock: Arc<dyn TimeProvider>,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    group: Option<NamedGroup>,
    tickets: VecDeque<Tls13ClientSessionValue>,
    /// Seconds since 1970.
    valid_until: i64,
}

impl Tickets {
    pub(super) fn new(clock: Arc<dyn TimeProvider>) -> Self {
        Self { clock, kept: Mutex::default() }
    }

    /// The endpoint was verified by a path that holds until `valid_until`, in seconds since 1970. Sessions of other paths are
    /// forgotten.
    pub(super) fn verified(&self, valid_until: i64) {
        self.with(|kept| {
            kept.tickets.clear();
            kept.valid_until = valid_until;
        });
    }

    fn with<T>(&self, work: impl FnOnce(&mut Kept) -> T) -> T {
        work(&mut self.kept.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl ClientSessionStore for Tickets {
    fn set_kx_hint(&self, _server_name: ServerName<'static>, group: NamedGroup) {
        self.with(|kept| kept.group = Some(group));
    }

    fn kx_hint(&self, _server_name: &ServerName<'_>) -> Option<NamedGroup> {
        self.with(|kept| kept.group)
    }

    fn set_tls12_session(&self, _server_name: ServerName<'static>, _value: Tls12ClientSessionValue) {}

    fn tls12_session(&self, _server_name: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        None
    }

    fn remove_tls12_session(&self, _server_name: &ServerName<'static>) {}

    fn insert_tls13_ticket(&self, _server_name: ServerName<'static>, value: Tls13ClientSessionValue) {
        self.with(|kept| {
            if kept.tickets.len() == TICKETS_MAX {
                kept.tickets.pop_front();
            }
            kept.tickets.push_back(value);
        });
    }

    fn take_tls13_ticket(&self, _server_name: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        let now = self.clock.current_time().map(unix_seconds)?;
        self.with(|kept| {
            if now > kept.valid_until {
                kept.tickets.clear();
            }
            kept.tickets.pop_back()
        })
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
