//! OCSP answers as workers ask for them, and the book that the control plane keeps about them.
//!
//! Hides when an answer is asked for, how long it is used, and when it is forgotten. Workers read without a lock
//! and never wait inside; what they miss they put into a bounded queue. The control plane empties the queue, asks
//! responders (elsewhere), and puts verified answers in.
//!
//! - Only a certificate's first question makes a connection wait. Later ones are answered with the last answer,
//!   until it ends and for the grace after it, while a new one is on its way: on the wish of the first worker that
//!   meets it past its end, or at half its life if a living connection holds its entry.
//! - "Revoked" outlives its end, so that a responder that does not answer any more clears nobody, for
//!   [`REVOKED_KEPT_SECONDS`].
//! - A failure is remembered for [`FAILURE_SECONDS`], and never displaces an answer that may still be used.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use crossbeam_queue::ArrayQueue;
use ringward_identity::PeerIdentity;

use super::issuer::IssuerId;
use super::ocsp::{OcspResponse, OcspStatus};
use super::serial::Serial;
use super::{Revocation, RevocationFinding, RevocationRefusal, RevocationSource};
use crate::path::{PathCertificate, PeerPath};

mod ledger;

pub use ledger::OcspLedger;

/// What a certificate is asked about by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OcspKey {
    /// Whose key has signed it.
    pub issuer: IssuerId,
    /// Its serial number.
    pub serial: Serial,
}

/// A question for a responder.
#[derive(Clone, Debug)]
pub struct OcspQuery {
    /// What it is about.
    pub key: OcspKey,
    /// Which certificate of `path` it is about.
    pub index: usize,
    /// The verified path, which also names responder and issuer.
    pub path: Arc<PeerPath>,
}

/// Whether a route needs OCSP answers about its clients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum OcspMode {
    /// Nobody is asked.
    #[default]
    Off,
    /// "Revoked" refuses; no answer, and "unknown", pass and are counted.
    SoftFail,
    /// Only "good" passes.
    HardFail,
}

/// What is known about a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OcspAnswer {
    /// Not revoked.
    Good,
    /// Revoked or suspended.
    Revoked,
    /// The responder does not know it.
    Unknown,
    /// No answer that can be believed was to be had a moment ago.
    Failed,
}

/// How many certificates there is which answer about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OcspTally {
    /// Not revoked.
    pub good: usize,
    /// Revoked or suspended.
    pub revoked: usize,
    /// Not known to their responder.
    pub unknown: usize,
    /// Asked about in vain.
    pub failed: usize,
}

/// What follows for a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OcspVerdict {
    /// Its certificate is good, or does not need to be known.
    Pass,
    /// Nothing is known, and the mode lets it pass. To be counted.
    PassUnchecked,
    /// Nothing is known yet: [`OcspTable::ask`] once, look again until the timeout, and then take
    /// [`OcspMode::without_answer`].
    Wait,
    /// It is refused.
    Refuse(RevocationRefusal),
}

/// One certificate's answer. A connection that keeps the entry keeps the answer fresh.
#[derive(Debug)]
pub struct OcspEntry {
    query: OcspQuery,
    /// See [`State`].
    state: AtomicU64,
    /// A new answer was asked for since the last one came.
    asked: AtomicBool,
}

/// Answers shared by all workers.
#[derive(Debug)]
pub struct OcspTable {
    entries: ArcSwap<HashMap<OcspKey, Arc<OcspEntry>>>,
    queue: ArrayQueue<OcspQuery>,
}

/// Questions of workers that wait at most.
pub const OCSP_QUEUE_MAX: usize = 1024;
/// How long a failure is remembered.
pub const FAILURE_SECONDS: i64 = 30;
/// How long "revoked" is remembered beyond its end.
pub const REVOKED_KEPT_SECONDS: i64 = 24 * 3600;

impl OcspTable {
    /// An empty table.
    pub fn new() -> Self {
        Self { entries: ArcSwap::default(), queue: ArrayQueue::new(OCSP_QUEUE_MAX) }
    }

    /// What follows from the answer about the leaf of `path`, as it is now. Does not wait; allocates only to
    /// refuse.
    ///
    /// A tenant whose revocation is suspended passes.
    pub fn judge(
        &self,
        path: &PeerPath,
        peer: &PeerIdentity,
        mode: OcspMode,
        revocation: &Revocation,
        now_unix: i64,
    ) -> OcspVerdict {
        let Some(leaf) = path.certificates.first() else { return OcspVerdict::Wait };
        if mode == OcspMode::Off || revocation.is_suspended(peer.tenant(), now_unix) {
            return OcspVerdict::Pass;
        }
        let Some(answer) = self.get(&OcspKey::of(leaf), now_unix) else { return OcspVerdict::Wait };
        match (answer, mode) {
            (OcspAnswer::Good, _) => OcspVerdict::Pass,
            (OcspAnswer::Revoked, _) => {
                refuse(leaf, RevocationFinding::Revoked, "is revoked, as its OCSP responder says")
            }
            (OcspAnswer::Unknown, OcspMode::HardFail) => {
                refuse(leaf, RevocationFinding::Unknown, "is not known to its OCSP responder")
            }
            (OcspAnswer::Failed, OcspMode::HardFail) => mode.without_answer(path),
            (OcspAnswer::Unknown | OcspAnswer::Failed, _) => OcspVerdict::PassUnchecked,
        }
    }

    /// What is known about a certificate, `None` if it has to be asked for. Wishes for a new answer if this one
    /// has ended. Lock-free, no allocation.
    pub fn get(&self, key: &OcspKey, now_unix: i64) -> Option<OcspAnswer> {
        let entries = self.entries.load();
        let entry = entries.get(key)?;
        let state = entry.state();
        // One wish for all workers, and none while one is granted.
        if now_unix >= state.until
            && !entry.asked.swap(true, Ordering::Relaxed)
            && !self.ask(entry.query.clone())
        {
            entry.asked.store(false, Ordering::Relaxed);
        }
        state.answer_at(now_unix)
    }

    /// The entry of a certificate, for a connection to hold on to.
    pub fn entry(&self, key: &OcspKey) -> Option<Arc<OcspEntry>> {
        self.entries.load().get(key).cloned()
    }

    /// Asks for an answer. Once for each certificate and connection is enough. False if the queue is full.
    pub fn ask(&self, query: OcspQuery) -> bool {
        self.queue.push(query).is_ok()
    }

    /// How many certificates there is an answer about at `now_unix`, by answer. Looks at every entry, so not for workers.
    pub fn tally(&self, now_unix: i64) -> OcspTally {
        let mut tally = OcspTally::default();
        for answer in self.entries.load().values().filter_map(|entry| entry.answer(now_unix)) {
            *match answer {
                OcspAnswer::Good => &mut tally.good,
                OcspAnswer::Revoked => &mut tally.revoked,
                OcspAnswer::Unknown => &mut tally.unknown,
                OcspAnswer::Failed => &mut tally.failed,
            } += 1;
        }
        tally
    }

    /// How many certificates are known.
    pub fn len(&self) -> usize {
        self.entries.load().len()
    }

    /// True if no certificate is known.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Default for OcspTable {
    fn default() -> Self {
        Self::new()
    }
}

impl OcspEntry {
    /// What is known at `now_unix`, `None` if the answer is too old to be used. One atomic load.
    pub fn answer(&self, now_unix: i64) -> Option<OcspAnswer> {
        self.state().answer_at(now_unix)
    }

    fn new(query: OcspQuery, state: State) -> Self {
        Self { query, state: AtomicU64::new(state.pack()), asked: AtomicBool::new(false) }
    }

    fn state(&self) -> State {
        State::unpack(self.state.load(Ordering::Relaxed))
    }

    fn set(&self, state: State) {
        self.state.store(state.pack(), Ordering::Relaxed);
        self.asked.store(false, Ordering::Relaxed);
    }
}

impl OcspKey {
    /// The key of a certificate.
    pub fn of(certificate: &PathCertificate) -> Self {
        Self { issuer: certificate.issuer, serial: certificate.serial }
    }
}

impl OcspQuery {
    /// The question about the leaf of a path.
    pub fn about_leaf(path: Arc<PeerPath>) -> Option<Self> {
        let key = OcspKey::of(path.certificates.first()?);
        Some(Self { key, index: 0, path })
    }
}

impl OcspMode {
    /// What follows if no answer came in time.
    pub fn without_answer(self, path: &PeerPath) -> OcspVerdict {
        match (self, path.certificates.first()) {
            (Self::Off, _) => OcspVerdict::Pass,
            (Self::SoftFail, _) => OcspVerdict::PassUnchecked,
            (Self::HardFail, Some(leaf)) => refuse(
                leaf,
                RevocationFinding::Unknown,
                "may be revoked: no answer about it was to be had from its OCSP responder",
            ),
            (Self::HardFail, None) => OcspVerdict::Wait,
        }
    }
}

fn refuse(leaf: &PathCertificate, what: RevocationFinding, detail: &str) -> OcspVerdict {
    let detail = format!("the leaf (serial {}) {detail}", leaf.serial);
    OcspVerdict::Refuse(RevocationRefusal { source: RevocationSource::Ocsp, what, detail })
}

/// An answer and its time, packed into one word so that workers read both at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct State {
    answer: OcspAnswer,
    /// From when on a new answer is wanted, seconds since 1970.
    until: i64,
    /// For how many seconds longer it is used.
    grace: i64,
}

const UNTIL_BITS: u32 = 36;
const GRACE_BITS: u32 = 26;

impl State {
    fn answer_at(self, now_unix: i64) -> Option<OcspAnswer> {
        (now_unix < self.until + self.grace).then_some(self.answer)
    }

    /// 2 bits, 36 bits (until the year 4147), 26 bits (two years).
    fn pack(self) -> u64 {
        let clamp = |value: i64, bits: u32| value.clamp(0, (1_i64 << bits) - 1) as u64;
        let answer = self.answer as u64;
        answer << (UNTIL_BITS + GRACE_BITS)
            | clamp(self.until, UNTIL_BITS) << GRACE_BITS
            | clamp(self.grace, GRACE_BITS)
    }

    fn unpack(word: u64) -> Self {
        let answer = match word >> (UNTIL_BITS + GRACE_BITS) {
            0 => OcspAnswer::Good,
            1 => OcspAnswer::Revoked,
            2 => OcspAnswer::Unknown,
            _ => OcspAnswer::Failed,
        };
        let until = ((word >> GRACE_BITS) & ((1 << UNTIL_BITS) - 1)) as i64;
        Self { answer, until, grace: (word & ((1 << GRACE_BITS) - 1)) as i64 }
    }

    fn of_response(response: &OcspResponse, grace: Duration, now_unix: i64) -> Self {
        let grace = i64::try_from(grace.as_secs()).unwrap_or(i64::MAX);
        // A responder may promise months; revocations are to be seen sooner.
        let until = response.until_unix.min(now_unix.saturating_add(ANSWER_USED_SECONDS_MAX));
        match response.status {
            OcspStatus::Good => Self { answer: OcspAnswer::Good, until, grace },
            OcspStatus::Unknown => Self { answer: OcspAnswer::Unknown, until, grace },
            OcspStatus::Revoked { .. } => {
                Self { answer: OcspAnswer::Revoked, until, grace: grace.max(REVOKED_KEPT_SECONDS) }
            }
        }
    }
}

/// Longest time for which an answer is used before it is asked for again.
pub const ANSWER_USED_SECONDS_MAX: i64 = 3600;

#[cfg(test)]
mod tests;
