//! The session cache that all workers share: sessions that wait for a single use.
//!
//! Hides the table. Sessions are written once and read at most once, so nothing is gained by knowing which are
//! popular: the table is an array of sets of four slots, a session lives in the set that its random id names, and
//! what is oldest goes.
//!
//! What must stay true: a session is handed out at most once, only to whoever names its whole id, and only within
//! the scope that put it there; memory never exceeds its bound, as all of it is taken at the start. A session may
//! be lost at any time, which costs its client a full handshake.
//!
//! There is no lock and nobody waits for anybody. The first word of a slot is its state: empty, busy, or the number
//! of the session that lies there, which no other session ever has. Whoever exchanges a state for busy owns the slot
//! until storing the next state; to all others a busy slot is of no use, and they go on. All words are atomic, so
//! looking at a slot that changes yields nonsense at worst, and what was seen counts only if the state has not
//! changed. (Swapped pointers, as `arc-swap` has them, would do without the copies, but each swap has to ask every
//! thread of the process whether it is just reading: 0.5 µs with two threads, 11 µs with 64.)

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustls::server::StoresServerSessions;

use super::{Scope, Terms};

/// Largest session, with its client chain, that is ever kept.
pub const SESSION_BYTES_MAX: usize = 4 * 1024;

/// Sessions of all hosts and workers, bounded by number and by bytes.
pub struct SessionCache {
    /// Slot after slot, each of `stride` words; set after set, each of [`WAYS`] slots.
    words: Box<[AtomicU64]>,
    stride: usize,
    /// The number of the next session.
    next: AtomicU64,
    /// Sessions that gave way to others before they expired.
    evictions: AtomicU64,
}

/// A session id. rustls draws all its bits at random, so some of them serve as a hash.
pub(super) type SessionId = [u8; 32];

/// A session as it is kept.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Session {
    /// When the client last proved its key, seconds since 1970.
    pub(super) auth_time: i64,
    /// From then on the session is as good as gone, seconds since 1970.
    pub(super) expires: i64,
    pub(super) value: Vec<u8>,
}

impl SessionCache {
    /// A cache of at most `entries_max` sessions, rounded down to a multiple of four, that takes at most `bytes_max`
    /// bytes.
    ///
    /// Each session has an equal share of the bytes, but at least 2 KiB and at most some 4 KiB: with few bytes for
    /// many sessions there will be fewer sessions. A session that needs more than its share is not kept. A client
    /// chain of a leaf and an intermediate with keys on P-256 takes 1.1 KB, with RSA-2048 some 2.3 KB.
    pub fn new(entries_max: usize, bytes_max: usize) -> Self {
        let share = bytes_max.checked_div(entries_max).unwrap_or(0) / WORD_BYTES;
        let stride = share.clamp(STRIDE_MIN, VALUE + SESSION_BYTES_MAX / WORD_BYTES);
        let slots = entries_max.min(bytes_max / (stride * WORD_BYTES));
        let words = std::iter::repeat_with(AtomicU64::default).take(slots / WAYS * WAYS * stride).collect();
        Self { words, stride, next: AtomicU64::new(NUMBER_MIN), evictions: AtomicU64::new(0) }
    }

    /// Sessions that it has room for.
    pub fn capacity(&self) -> usize {
        self.words.len() / self.stride
    }

    /// Sessions that are kept now. Looks at every slot.
    pub fn entries(&self) -> usize {
        let is_kept = |slot: &&[AtomicU64]| slot[STATE].load(Ordering::Relaxed) >= NUMBER_MIN;
        self.words.chunks_exact(self.stride).filter(is_kept).count()
    }

    /// Bytes that the cache takes, however many sessions are in it.
    pub fn bytes(&self) -> usize {
        self.words.len() * WORD_BYTES
    }

    /// Sessions, since the cache was made, that gave way to others before they expired.
    pub fn evictions(&self) -> u64 {
        self.evictions.load(Ordering::Relaxed)
    }

    /// Keeps a session, at the cost of an expired or else the oldest one if its set is full. False if it is not
    /// kept.
    pub(super) fn put(&self, id: &SessionId, scope: &Scope, session: &Session, now: i64) -> bool {
        if session.value.len() > (self.stride - VALUE) * WORD_BYTES {
            return false;
        }
        for _ in 0..PUT_ATTEMPTS {
            let Some((slot, state)) = self.least_wanted(id, now) else { return false };
            if own(slot, state) {
                if state != EMPTY && now < slot[EXPIRES].load(Ordering::Relaxed).cast_signed() {
                    self.evictions.fetch_add(1, Ordering::Relaxed);
                }
                wipe(slot);
                write(slot, id, scope, session);
                let number = self.next.fetch_add(1, Ordering::Relaxed);
                slot[STATE].store(number, Ordering::Release);
                return true;
            }
        }
        // Others keep writing to the same four slots.
        false
    }

    /// Hands out a session, and to nobody else. One of another scope stays where it is.
    pub(super) fn take(&self, id: &SessionId, scope: &Scope, now: i64) -> Option<Session> {
        for slot in self.set_of(id) {
            let state = slot[STATE].load(Ordering::Acquire);
            // What was looked at is what is owned then: no number is ever the state of a slot twice.
            if state < NUMBER_MIN || !holds(slot, id, scope) || !own(slot, state) {
                continue;
            }
            let session = read(slot);
            wipe(slot);
            slot[STATE].store(EMPTY, Ordering::Release);
            return Some(session).filter(|session| now < session.expires);
        }
        None
    }

    /// Whether there is a session to be handed out. It may be gone the next moment.
    pub(super) fn holds(&self, id: &SessionId, scope: &Scope, now: i64) -> bool {
        self.set_of(id).any(|slot| {
            slot[STATE].load(Ordering::Acquire) >= NUMBER_MIN
                && holds(slot, id, scope)
                && now < slot[EXPIRES].load(Ordering::Relaxed).cast_signed()
        })
    }

    /// The slot that a session goes to, and its state: an empty one, or else that of an expired session, or else of
    /// the oldest. `None` if all are busy or there are none.
    fn least_wanted(&self, id: &SessionId, now: i64) -> Option<(&[AtomicU64], u64)> {
        let states = self.set_of(id).map(|slot| (slot, slot[STATE].load(Ordering::Acquire)));
        states.filter(|(_, state)| *state != BUSY).min_by_key(|(slot, state)| {
            let expires = slot[EXPIRES].load(Ordering::Relaxed).cast_signed();
            // A number is higher than `EMPTY`.
            (*state != EMPTY && now < expires, *state)
        })
    }

    fn set_of(&self, id: &SessionId) -> impl Iterator<Item = &[AtomicU64]> {
        let [a, b, c, d, e, f, g, h, ..] = *id;
        let sets = (self.words.len() / (WAYS * self.stride)) as u64;
        let index = u64::from_ne_bytes([a, b, c, d, e, f, g, h]).checked_rem(sets).unwrap_or(0);
        let start = usize::try_from(index).expect("less than a number of words") * WAYS * self.stride;
        self.words[start..].chunks_exact(self.stride).take(WAYS)
    }
}

impl fmt::Debug for SessionCache {
    // Never a session.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionCache").field("capacity", &self.capacity()).finish_non_exhaustive()
    }
}

/// Makes the slot ours if it is still in `state`.
fn own(slot: &[AtomicU64], state: u64) -> bool {
    slot[STATE].compare_exchange(state, BUSY, Ordering::Acquire, Ordering::Relaxed).is_ok()
}

/// Whether it is the session of this id and scope that lies in the slot. Of no meaning if the state changes meanwhile.
fn holds(slot: &[AtomicU64], id: &SessionId, scope: &Scope) -> bool {
    holds_bytes(&slot[ID..SCOPE], id) && holds_bytes(&slot[SCOPE..AUTH_TIME], &scope.0)
}

fn holds_bytes(words: &[AtomicU64], bytes: &[u8; 32]) -> bool {
    let (chunks, _) = bytes.as_chunks();
    words.iter().zip(chunks).all(|(word, chunk)| word.load(Ordering::Relaxed) == u64::from_ne_bytes(*chunk))
}

/// Fills a slot that is ours and empty.
fn write(slot: &[AtomicU64], id: &SessionId, scope: &Scope, session: &Session) {
    write_bytes(&slot[ID..SCOPE], id);
    write_bytes(&slot[SCOPE..AUTH_TIME], &scope.0);
    slot[AUTH_TIME].store(session.auth_time.cast_unsigned(), Ordering::Relaxed);
    slot[EXPIRES].store(session.expires.cast_unsigned(), Ordering::Relaxed);
    slot[LENGTH].store(session.value.len() as u64, Ordering::Relaxed);
    write_bytes(&slot[VALUE..], &session.value);
}

fn write_bytes(words: &[AtomicU64], bytes: &[u8]) {
    let (chunks, rest) = bytes.as_chunks();
    for (word, chunk) in words.iter().zip(chunks) {
        word.store(u64::from_ne_bytes(*chunk), Ordering::Relaxed);
    }
    if !rest.is_empty() {
        let mut last = [0; WORD_BYTES];
        last[..rest.len()].copy_from_slice(rest);
        words[chunks.len()].store(u64::from_ne_bytes(last), Ordering::Relaxed);
    }
}

/// What lies in a slot that is ours and not empty.
fn read(slot: &[AtomicU64]) -> Session {
    let length = value_length(slot);
    let words = &slot[VALUE..VALUE + length.div_ceil(WORD_BYTES)];
    let mut value = vec![0; words.len() * WORD_BYTES];
    let (chunks, _) = value.as_chunks_mut();
    for (chunk, word) in chunks.iter_mut().zip(words) {
        *chunk = word.load(Ordering::Relaxed).to_ne_bytes();
    }
    value.truncate(length);
    let number = |index: usize| slot[index].load(Ordering::Relaxed).cast_signed();
    Session { auth_time: number(AUTH_TIME), expires: number(EXPIRES), value }
}

/// Leaves nothing of a session in a slot that is ours: it is as good as the keys of its connections.
fn wipe(slot: &[AtomicU64]) {
    let used = VALUE + value_length(slot).div_ceil(WORD_BYTES);
    for word in &slot[ID..used] {
        word.store(0, Ordering::Relaxed);
    }
}

fn value_length(slot: &[AtomicU64]) -> usize {
    let max = (slot.len() - VALUE) * WORD_BYTES;
    // What was written is no more than that, which the compiler cannot know.
    usize::try_from(slot[LENGTH].load(Ordering::Relaxed)).map_or(max, |length| length.min(max))
}

/// What rustls asks for sessions: the cache for one host under the terms of one kind of connection.
#[derive(Debug)]
pub(super) struct ScopedCache {
    cache: Arc<SessionCache>,
    scope: Scope,
    terms: Terms,
}

impl ScopedCache {
    pub(super) fn new(cache: Arc<SessionCache>, scope: Scope, terms: Terms) -> Self {
        Self { cache, scope, terms }
    }

    fn store(&self, id: &[u8], value: Vec<u8>) -> Option<bool> {
        let now = self.terms.now()?;
        let auth_time = self.terms.auth_time(now)?;
        let expires = auth_time.saturating_add(self.terms.auth_age_max);
        let session = Session { auth_time, expires, value };
        Some(self.cache.put(id.try_into().ok()?, &self.scope, &session, now))
    }
}

impl StoresServerSessions for ScopedCache {
    fn put(&self, id: Vec<u8>, value: Vec<u8>) -> bool {
        self.store(&id, value).unwrap_or(false)
    }

    /// Only TLS 1.2 asks, which may use a session over and over, and never resumes here.
    fn get(&self, _id: &[u8]) -> Option<Vec<u8>> {
        None
    }

    fn take(&self, id: &[u8]) -> Option<Vec<u8>> {
        if !self.terms.accepts {
            return None;
        }
        let take = |now| self.cache.take(id.try_into().ok()?, &self.scope, now);
        let session = self.terms.now().and_then(take);
        self.terms.slot.opened(session.as_ref().map(|session| session.auth_time));
        session.map(|session| session.value)
    }

    fn can_cache(&self) -> bool {
        true
    }
}

/// Slots of a set. Random ids fill sets unevenly: with four slots each, little is lost before the table is nearly
/// full.
const WAYS: usize = 4;
/// Attempts to put a session into its set while others write to the same set.
const PUT_ATTEMPTS: usize = 4;

const WORD_BYTES: usize = size_of::<u64>();
/// What the words of a slot are; those from [`VALUE`] on are the session in rustls' own form.
const STATE: usize = 0;
const ID: usize = 1;
const SCOPE: usize = ID + 4;
const AUTH_TIME: usize = SCOPE + 4;
const EXPIRES: usize = AUTH_TIME + 1;
const LENGTH: usize = EXPIRES + 1;
const VALUE: usize = LENGTH + 1;
/// A slot of 2 KiB: less would be too small for most client chains.
const STRIDE_MIN: usize = 2048 / WORD_BYTES;

/// States of a slot. Those from [`NUMBER_MIN`] on are numbers of sessions: 2⁶⁴ are enough for all times.
const EMPTY: u64 = 0;
const BUSY: u64 = 1;
const NUMBER_MIN: u64 = 2;

#[cfg(test)]
mod tests;
