//! Session resumption that does not outlive the trust that admitted the session.
//!
//! Hides how rustls asks for tickets and stored sessions, and what is added to both: the scope that they are
//! bound to, and the time of the handshake that proved the client's key (`auth_time`), which passes through
//! every resumption and is renewed by none.
//!
//! Nothing here decides whether a client is let in. A ticket that opens yields a session and a chain, and the
//! host judges that chain anew as if it had just been presented: no identity is ever read from a ticket.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use rustls::ServerConfig;
use rustls::time_provider::TimeProvider;

use crate::certificate::unix_seconds;
use crate::client_auth::RUSTLS_VERSION;
use crate::digest::FieldHasher;
use crate::failure::HandshakeReason;

pub mod bench;
mod cache;
mod key_ring;
mod tickets;

pub use cache::{SESSION_BYTES_MAX, SessionCache};
pub use key_ring::{KEY_RING_BYTES_MAX, KEY_RING_KEYS_MAX, KeyRing, KeyRingError, KeyRole, KeyStatus};

use cache::ScopedCache;
use tickets::{TicketKeys, Ticketer};

/// How the clients of a host may resume their sessions.
#[derive(Clone, Debug)]
pub enum Resumption {
    /// Not at all: every handshake is a full one.
    Off,
    /// The client keeps the session, sealed. Nothing is stored here, and nodes with one ring share it.
    Tickets(Arc<KeyRing>),
    /// The client keeps a number, and the session is here, for a single use.
    Cache(Arc<SessionCache>),
}

/// Where a resumed session came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ResumedBy {
    /// From a ticket.
    Ticket,
    /// From the session cache.
    Cache,
}

impl ResumedBy {
    /// The stable name used in metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ticket => "ticket",
            Self::Cache => "cache",
        }
    }
}

/// Why a client that wanted to resume had a full handshake instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DeclineReason {
    /// Nothing that it offered means anything here: made by another host, by other rules or with another key,
    /// altered, too old, or used already.
    Unknown,
    /// Its session is for another server name or cipher suite.
    Incompatible,
    /// When the client proved its key is not known, or lies in the future.
    NoAuthTime,
    /// It would not be let in with that session now.
    Refused(HandshakeReason),
}

impl DeclineReason {
    /// The stable name used in metrics and logs, from a closed set.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown_session",
            Self::Incompatible => "incompatible_session",
            Self::NoAuthTime => "no_auth_time",
            Self::Refused(reason) => reason.as_str(),
        }
    }
}

/// What a session is bound to: resumed elsewhere, it does not exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Scope([u8; 32]);

impl Scope {
    /// `client_auth` is the digest of the whole validation section. Whatever changes whom the host admits thereby
    /// ends all its sessions, on every node alike and without a message between them.
    pub(crate) fn new(listener: &str, host: &str, client_auth: &[u8; 32], resumption: &Resumption) -> Self {
        let kind: &[u8] = match resumption {
            Resumption::Off => b"off",
            Resumption::Tickets(_) => b"tickets",
            Resumption::Cache(_) => b"cache",
        };
        let mut hasher = FieldHasher::new("ringward resumption scope 1");
        hasher.field(listener.as_bytes()).field(host.as_bytes()).field(client_auth);
        // The form of a session is rustls' own and may change with every version.
        hasher.field(RUSTLS_VERSION.as_bytes()).field(kind);
        Self(hasher.finish())
    }
}

/// How one host issues and takes back sessions: made once, shared by all workers.
#[derive(Clone, Debug)]
pub(crate) struct Resumer {
    source: Source,
    auth_age_max: i64,
    clock: Arc<dyn TimeProvider>,
}

#[derive(Clone, Debug)]
enum Source {
    Off,
    Tickets(Arc<TicketKeys>),
    Cache(Arc<SessionCache>, Scope),
}

impl Resumer {
    /// `auth_age_max` bounds how long after a full handshake its session, or one that came of it, is resumed.
    pub(crate) fn new(
        resumption: &Resumption,
        scope: Scope,
        auth_age_max: Duration,
        clock: Arc<dyn TimeProvider>,
    ) -> Self {
        let source = match resumption {
            Resumption::Off => Source::Off,
            Resumption::Tickets(ring) => Source::Tickets(Arc::new(TicketKeys::derive(ring, &scope))),
            Resumption::Cache(cache) => Source::Cache(cache.clone(), scope),
        };
        let auth_age_max = i64::try_from(auth_age_max.as_secs()).unwrap_or(i64::MAX);
        Self { source, auth_age_max, clock }
    }

    /// `None` if no session is ever resumed.
    pub(crate) fn kind(&self) -> Option<ResumedBy> {
        match self.source {
            Source::Off => None,
            Source::Tickets(_) => Some(ResumedBy::Ticket),
            Source::Cache(..) => Some(ResumedBy::Cache),
        }
    }

    /// Whether a client that offers this session would be taken back by it now, as far as that is known before its certificate is
    /// judged anew and it has proved that the session is its own.
    pub(crate) fn knows(&self, session: &[u8]) -> bool {
        let Some(now) = self.clock.current_time().map(unix_seconds) else { return false };
        match &self.source {
            Source::Off => false,
            Source::Tickets(keys) => {
                let is_young = |auth_time: i64| now.saturating_sub(auth_time) <= self.auth_age_max;
                keys.open(session, now).is_some_and(|opened| is_young(opened.auth_time))
            }
            Source::Cache(cache, scope) => session.try_into().is_ok_and(|id| cache.holds(id, scope, now)),
        }
    }

    /// Has the connections of `config` issue sessions and, if it `accepts` them, take them back. `config` must be
    /// for TLS 1.3 alone: in TLS 1.2 rustls issues and resumes without the calls that bound both.
    pub(crate) fn install(&self, config: &mut ServerConfig, accepts: bool, slot: &Arc<OfferSlot>) {
        let terms =
            Terms { accepts, auth_age_max: self.auth_age_max, slot: slot.clone(), clock: self.clock.clone() };
        match &self.source {
            Source::Off => return,
            Source::Tickets(keys) => config.ticketer = Arc::new(Ticketer::new(keys.clone(), terms)),
            Source::Cache(cache, scope) => {
                config.session_storage = Arc::new(ScopedCache::new(cache.clone(), *scope, terms));
            }
        }
        config.send_tls13_tickets = TICKETS_DEFAULT;
        config.max_tls13_tickets = TICKETS_MAX;
    }
}

/// What sessions of one host on one worker are issued and taken back under.
#[derive(Debug)]
struct Terms {
    accepts: bool,
    auth_age_max: i64,
    slot: Arc<OfferSlot>,
    clock: Arc<dyn TimeProvider>,
}

impl Terms {
    fn now(&self) -> Option<i64> {
        self.clock.current_time().map(unix_seconds)
    }

    /// The `auth_time` of the session that is being issued. `None` if it is not known or too long ago: a session
    /// without it could never be resumed.
    fn auth_time(&self, now: i64) -> Option<i64> {
        self.slot.issuing().filter(|auth_time| now - auth_time < self.auth_age_max)
    }
}

/// Carries `auth_time` between a session and the ticketer or store within one call to rustls, which has no channel
/// of its own for it on the kind of connection that we use.
///
/// rustls wants both to be `Sync`, hence the atomics; each slot is used by one thread.
#[derive(Debug)]
pub(crate) struct OfferSlot {
    /// Of the session that rustls may issue.
    issuing: AtomicI64,
    /// Of the session that rustls has taken back last.
    opened: AtomicI64,
}

/// What a client offered to resume during a call to rustls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Offer {
    Nothing,
    /// Nothing that could be opened.
    Unknown,
    /// A session that goes back to a full handshake at this time, in seconds since 1970.
    Session {
        auth_time: i64,
    },
}

impl OfferSlot {
    /// Before a call to rustls: what is issued within it is for a client whose full handshake was at `auth_time`.
    pub(crate) fn begin(&self, auth_time: i64) {
        self.issuing.store(auth_time, Ordering::Relaxed);
        self.opened.store(NOTHING, Ordering::Relaxed);
    }

    /// After the call: what was offered within it. Of several offers it is the last that rustls looked at, which
    /// is the one that it took, if it took any.
    pub(crate) fn end(&self) -> Offer {
        self.issuing.store(NOTHING, Ordering::Relaxed);
        match self.opened.swap(NOTHING, Ordering::Relaxed) {
            NOTHING => Offer::Nothing,
            UNKNOWN => Offer::Unknown,
            auth_time => Offer::Session { auth_time },
        }
    }

    fn issuing(&self) -> Option<i64> {
        Some(self.issuing.load(Ordering::Relaxed)).filter(|auth_time| *auth_time >= 0)
    }

    /// Within the call: what became of an attempt to take a session back.
    pub(crate) fn opened(&self, auth_time: Option<i64>) {
        self.opened.store(auth_time.unwrap_or(UNKNOWN), Ordering::Relaxed);
    }
}

impl Default for OfferSlot {
    fn default() -> Self {
        Self { issuing: AtomicI64::new(NOTHING), opened: AtomicI64::new(NOTHING) }
    }
}

/// No time.
const NOTHING: i64 = i64::MIN;
/// No time, but an attempt.
const UNKNOWN: i64 = i64::MIN + 1;
/// Sessions issued per handshake. One is enough for a client that resumes one connection at a time, and each costs
/// some 5 µs and 1.1 KB.
const TICKETS_DEFAULT: usize = 1;
/// The same for a client that asks for a number of them (RFC 9149).
const TICKETS_MAX: usize = 2;

#[cfg(test)]
mod tests;
