//! Sessions that a client keeps, and those that it should not have.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};

use rustls::NamedGroup;
use rustls::client::{ClientSessionStore, Resumption, Tls12ClientSessionValue, Tls13ClientSessionValue};
use rustls_pki_types::ServerName;

/// A stock of sessions, each used once. Clones are the same stock.
///
/// A client of good manners asks for a session of the server that it talks to. This stock hands out whatever it has, so
/// that a test can offer the session of one host or listener to another.
#[derive(Debug, Clone, Default)]
pub struct Sessions(Arc<Mutex<Stock>>);

#[derive(Debug, Default)]
struct Stock {
    tls13: VecDeque<Tls13ClientSessionValue>,
    tls12: Option<Tls12ClientSessionValue>,
    kx_hint: Option<NamedGroup>,
    /// Sessions of TLS 1.3 ever received.
    received: usize,
}

impl Sessions {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many sessions of TLS 1.3 are left. They arrive with or after the first response.
    pub fn len(&self) -> usize {
        self.stock().tls13.len()
    }

    /// Whether none of TLS 1.3 is left.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether there is a session of TLS 1.2.
    pub fn has_tls12(&self) -> bool {
        self.stock().tls12.is_some()
    }

    /// Sessions of TLS 1.3 that were ever received.
    pub fn received(&self) -> usize {
        self.stock().received
    }

    /// Moves up to `count` of its oldest sessions of TLS 1.3 to a stock of their own.
    pub fn split_off(&self, count: usize) -> Sessions {
        let mut stock = self.stock();
        let count = count.min(stock.tls13.len());
        let tls13 = stock.tls13.drain(..count).collect();
        Sessions(Arc::new(Mutex::new(Stock { tls13, ..Stock::default() })))
    }

    /// Moves all sessions of TLS 1.3 of another stock here.
    pub fn take(&self, other: &Sessions) {
        let taken = std::mem::take(&mut other.stock().tls13);
        self.stock().tls13.extend(taken);
    }

    fn stock(&self) -> MutexGuard<'_, Stock> {
        self.0.lock().expect("no holder panics")
    }
}

/// What rustls is to use.
pub(super) fn resumption(sessions: Option<&Sessions>, early_data: bool) -> Resumption {
    match sessions {
        Some(sessions) => Resumption::store(Arc::new(Store { sessions: sessions.clone(), early_data })),
        None => Resumption::disabled(),
    }
}

#[derive(Debug)]
struct Store {
    sessions: Sessions,
    early_data: bool,
}

impl ClientSessionStore for Store {
    fn set_kx_hint(&self, _server_name: ServerName<'static>, group: NamedGroup) {
        self.sessions.stock().kx_hint = Some(group);
    }

    fn kx_hint(&self, _server_name: &ServerName<'_>) -> Option<NamedGroup> {
        self.sessions.stock().kx_hint
    }

    fn set_tls12_session(&self, _server_name: ServerName<'static>, value: Tls12ClientSessionValue) {
        self.sessions.stock().tls12 = Some(value);
    }

    fn tls12_session(&self, _server_name: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.sessions.stock().tls12.clone()
    }

    fn remove_tls12_session(&self, _server_name: &ServerName<'static>) {
        self.sessions.stock().tls12 = None;
    }

    fn insert_tls13_ticket(&self, _server_name: ServerName<'static>, value: Tls13ClientSessionValue) {
        let mut stock = self.sessions.stock();
        stock.received += 1;
        if stock.tls13.len() == SESSIONS_MAX {
            stock.tls13.pop_front();
        }
        stock.tls13.push_back(value);
    }

    fn take_tls13_ticket(&self, _server_name: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        let mut value = self.sessions.stock().tls13.pop_back()?;
        if self.early_data {
            value._private_set_max_early_data_size(16 * 1024);
        }
        Some(value)
    }
}

/// More than any test collects on purpose.
const SESSIONS_MAX: usize = 4096;
