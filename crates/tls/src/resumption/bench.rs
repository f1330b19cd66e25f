//! For the benches and fuzz targets of this repository: tickets and the cache without a handshake around them. Nothing here
//! is used by the product.

use super::cache::Session;
use super::tickets::TicketKeys;
use super::{KeyRing, Scope, SessionCache};

/// The ticket keys of one scope.
pub struct Tickets(TicketKeys);

impl Tickets {
    /// The keys that a host with this scope derives from the ring.
    pub fn new(ring: &KeyRing, scope: [u8; 32]) -> Self {
        Self(TicketKeys::derive(ring, &Scope(scope)))
    }

    /// A ticket for this session. `auth_time` and `now` are seconds since 1970.
    pub fn seal(&self, session: &[u8], auth_time: i64, now: i64) -> Option<Vec<u8>> {
        self.0.seal(session, auth_time, now)
    }

    /// The `auth_time` and the session of a ticket.
    pub fn open(&self, ticket: &[u8], now: i64) -> Option<(i64, Vec<u8>)> {
        self.0.open(ticket, now).map(|opened| (opened.auth_time, opened.session))
    }
}

/// Keeps a session of one scope for an hour. False if it was not kept.
pub fn put(cache: &SessionCache, id: &[u8; 32], scope: [u8; 32], value: Vec<u8>, now: i64) -> bool {
    cache.put(id, &Scope(scope), &Session { auth_time: now, expires: now + 3600, value }, now)
}

/// Takes the session out.
pub fn take(cache: &SessionCache, id: &[u8; 32], scope: [u8; 32], now: i64) -> Option<Vec<u8>> {
    cache.take(id, &Scope(scope), now).map(|session| session.value)
}
