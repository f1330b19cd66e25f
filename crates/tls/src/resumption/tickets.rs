//! Session tickets that open only where they were sealed: for one scope, with one key ring.
//!
//! Hides the form of a ticket:
//!
//! ```text
//! k      = HKDF-SHA256(salt = "ringward ticket 1", ikm = ring secret).expand(scope)
//! ticket = key id (8) ‖ nonce (12) ‖ AES-256-GCM-SIV(k, nonce, aad = scope, auth_time (8) ‖ session) ‖ tag (16)
//! ```
//!
//! What must stay true: what is opened was sealed by a holder of the ring for exactly this scope, and comes with
//! its `auth_time`. AES-GCM-SIV (RFC 8452) because nodes that share a ring cannot count nonces together: a nonce
//! drawn twice gives away no more than that two tickets are alike.

use std::sync::Arc;

use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::{hkdf, rand};
use rustls::server::ProducesTickets;

use super::key_ring::KeyRing;
use super::{Scope, Terms};

/// Largest session, with its client chain, that becomes a ticket. Clients send tickets back in a ClientHello,
/// which is to fit into one record (16 KiB) beside all else that it holds.
pub(super) const TICKET_SESSION_BYTES_MAX: usize = 8 * 1024;

/// The keys of a ring for one scope.
pub(super) struct TicketKeys {
    scope: Scope,
    /// In the order of the ring: the newest first.
    keys: Vec<TicketKey>,
}

struct TicketKey {
    id: [u8; ID_LEN],
    key: LessSafeKey,
    not_before: i64,
    not_after: i64,
}

/// A session as it came out of a ticket.
pub(super) struct Opened {
    pub(super) auth_time: i64,
    pub(super) session: Vec<u8>,
}

impl TicketKeys {
    pub(super) fn derive(ring: &KeyRing, scope: &Scope) -> Self {
        let salt = hkdf::Salt::new(hkdf::HKDF_SHA256, b"ringward ticket 1");
        let derive = |secret: &[u8; 32]| {
            let expanded = salt.extract(secret);
            let info = [&scope.0[..]];
            let key = expanded.expand(&info, &AES_256_GCM_SIV).map(UnboundKey::from);
            LessSafeKey::new(key.expect("HKDF-SHA256 yields 32 bytes at once"))
        };
        let keys = ring.keys().iter().map(|key| TicketKey {
            id: key.id,
            key: derive(&key.secret),
            not_before: key.not_before,
            not_after: key.not_after,
        });
        Self { scope: *scope, keys: keys.collect() }
    }

    /// `None` if no key seals at `now`, if the session is too large, or if there are no random numbers.
    pub(super) fn seal(&self, session: &[u8], auth_time: i64, now: i64) -> Option<Vec<u8>> {
        if session.len() > TICKET_SESSION_BYTES_MAX {
            return None;
        }
        let key = self.sealing(now)?;
        let mut nonce = [0; NONCE_LEN];
        rand::fill(&mut nonce).ok()?;
        let mut ticket = Vec::with_capacity(SEALED_AT + AUTH_TIME_LEN + session.len() + TAG_LEN);
        ticket.extend_from_slice(&key.id);
        ticket.extend_from_slice(&nonce);
        ticket.extend_from_slice(&auth_time.to_be_bytes());
        ticket.extend_from_slice(session);
        let nonce = Nonce::assume_unique_for_key(nonce);
        let tag = key.key.seal_in_place_separate_tag(nonce, self.aad(), &mut ticket[SEALED_AT..]).ok()?;
        ticket.extend_from_slice(tag.as_ref());
        Some(ticket)
    }

    /// `None` unless a key that is still in use sealed exactly these bytes for this scope.
    pub(super) fn open(&self, ticket: &[u8], now: i64) -> Option<Opened> {
        // A peer chose it, so its size is judged before it is copied.
        if ticket.len() > SEALED_AT + AUTH_TIME_LEN + TICKET_SESSION_BYTES_MAX + TAG_LEN {
            return None;
        }
        let (id, rest) = ticket.split_first_chunk::<ID_LEN>()?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_LEN>()?;
        // One that does not seal yet may do so on a node whose clock is ahead.
        let key = self.keys.iter().find(|key| key.id == *id && now < key.not_after)?;
        let mut session = sealed.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let opened = key.key.open_in_place(nonce, self.aad(), &mut session).ok()?.len();
        session.truncate(opened);
        let auth_time = i64::from_be_bytes(*session.first_chunk::<AUTH_TIME_LEN>()?);
        session.drain(..AUTH_TIME_LEN);
        Some(Opened { auth_time, session }).filter(|opened| opened.auth_time >= 0)
    }

    /// Until when a ticket sealed now can be opened.
    fn opens_until(&self, now: i64) -> Option<i64> {
        self.sealing(now).map(|key| key.not_after)
    }

    fn sealing(&self, now: i64) -> Option<&TicketKey> {
        self.keys.iter().find(|key| key.not_before <= now && now < key.not_after)
    }

    fn aad(&self) -> Aad<&[u8]> {
        Aad::from(&self.scope.0[..])
    }
}

impl std::fmt::Debug for TicketKeys {
    // Never a key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TicketKeys").field("keys", &self.keys.len()).finish_non_exhaustive()
    }
}

/// What rustls asks for tickets: the keys of a host under the terms of one kind of connection.
#[derive(Debug)]
pub(super) struct Ticketer {
    keys: Arc<TicketKeys>,
    terms: Terms,
}

impl Ticketer {
    pub(super) fn new(keys: Arc<TicketKeys>, terms: Terms) -> Self {
        Self { keys, terms }
    }
}

impl ProducesTickets for Ticketer {
    fn enabled(&self) -> bool {
        true
    }

    /// For the client to know when a ticket is of no more use. What it does then is nothing to rely on.
    fn lifetime(&self) -> u32 {
        let lifetime = || {
            let now = self.terms.now()?;
            let age_limit = self.terms.auth_time(now)?.saturating_add(self.terms.auth_age_max);
            u32::try_from(age_limit.min(self.keys.opens_until(now)?) - now).ok()
        };
        // RFC 8446 §4.6.1: 0 means to discard the ticket.
        lifetime().unwrap_or(0).min(LIFETIME_SECONDS_MAX)
    }

    fn encrypt(&self, session: &[u8]) -> Option<Vec<u8>> {
        let now = self.terms.now()?;
        self.keys.seal(session, self.terms.auth_time(now)?, now)
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        if !self.terms.accepts {
            return None;
        }
        let opened = self.terms.now().and_then(|now| self.keys.open(ticket, now));
        self.terms.slot.opened(opened.as_ref().map(|opened| opened.auth_time));
        opened.map(|opened| opened.session)
    }
}

const ID_LEN: usize = 8;
const AUTH_TIME_LEN: usize = 8;
/// Where the sealed part of a ticket begins.
const SEALED_AT: usize = ID_LEN + NONCE_LEN;
/// Of AES-256-GCM-SIV (RFC 8452 §4).
const TAG_LEN: usize = 16;
/// RFC 8446 §4.6.1.
const LIFETIME_SECONDS_MAX: u32 = 7 * 24 * 60 * 60;

#[cfg(test)]
mod tests;
