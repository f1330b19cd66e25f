//! Remembers chains that were verified, so that a returning client costs one hash instead of its chain's
//! signatures.
//!
//! What must stay true: an entry is found only under the verification context that admitted it and only for
//! exactly the same presented chain, byte for byte; it holds only while every certificate of its path is
//! valid; nothing is ever remembered about a refusal, so a flood of bad chains changes nothing. The client's
//! proof of possession (CertificateVerify) is never remembered.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ringward_identity::PeerIdentity;
use rustls_pki_types::CertificateDer;

use crate::digest::FieldHasher;
use crate::path::{PeerPath, Sightings};

/// Default bound on the entries of a [`PathMemo`]. An entry is a peer identity and the
/// certificates of its path, some five kilobytes, so a worker that has seen this many different clients holds some
/// 80 MB of them.
pub const MEMO_ENTRIES_DEFAULT: usize = 16_384;

/// The memo of one worker, shared by all its hosts and surviving snapshots: the verification context is part
/// of every key, so a host whose rules or trust changed simply finds nothing.
///
/// rustls wants a verifier that is `Sync`, hence a mutex. It is taken once per handshake and, as each worker
/// has a memo of its own, never contended.
#[derive(Clone, Debug)]
pub struct PathMemo {
    table: Arc<Mutex<Table>>,
    /// Where paths that were not remembered are reported.
    sightings: Option<Sightings>,
}

/// What verification found out about a chain.
#[derive(Clone, Debug)]
pub struct Admitted {
    /// Who the client is.
    pub identity: Arc<PeerIdentity>,
    /// Why it is believed: the anchor, and the certificates in between.
    pub path: Arc<PeerPath>,
}

/// Names one (verification context, presented chain).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct MemoKey([u8; 32]);

#[derive(Debug)]
struct Table {
    entries: HashMap<MemoKey, Admitted>,
    /// Keys in order of insertion: the oldest is the first to go. Holds every key of `entries` exactly once.
    order: VecDeque<MemoKey>,
    entries_max: usize,
}

impl PathMemo {
    /// A memo of at most `entries_max` chains; 0 remembers nothing.
    pub fn new(entries_max: usize) -> Self {
        let table = Table { entries: HashMap::new(), order: VecDeque::new(), entries_max };
        Self { table: Arc::new(Mutex::new(table)), sightings: None }
    }

    /// The same memo, which reports every path that verified and was not remembered.
    #[must_use]
    pub fn reporting_to(self, sightings: Sightings) -> Self {
        Self { sightings: Some(sightings), ..self }
    }

    /// How many chains are remembered now.
    pub fn len(&self) -> usize {
        self.table().entries.len()
    }

    /// True if nothing is remembered.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The remembered verdict, if every certificate of its path is valid at `now` (seconds since 1970).
    pub(crate) fn find(&self, key: &MemoKey, now: i64) -> Option<Admitted> {
        let table = self.table();
        // An entry outside its window stays until its turn to be evicted: verification then answers, and
        // replaces it if it passes.
        table.entries.get(key).filter(|entry| entry.path.is_valid_at(now)).cloned()
    }

    pub(crate) fn insert(&self, key: MemoKey, admitted: Admitted) {
        let mut table = self.table();
        if table.entries_max == 0 {
            return;
        }
        if table.entries.insert(key, admitted).is_some() {
            return;
        }
        table.order.push_back(key);
        if table.entries.len() > table.entries_max
            && let Some(oldest) = table.order.pop_front()
        {
            table.entries.remove(&oldest);
        }
    }

    /// Reports a path that has just verified, whatever becomes of it. False if there was no room for the report.
    pub(crate) fn sight(&self, path: &Arc<PeerPath>) -> bool {
        self.sightings.as_ref().is_none_or(|sightings| sightings.push(path.clone()))
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        // A panic cannot leave the table half changed in a way that admits: at worst an order entry lacks its
        // value.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for PathMemo {
    fn default() -> Self {
        Self::new(MEMO_ENTRIES_DEFAULT)
    }
}

impl MemoKey {
    pub(crate) fn new(
        context: &[u8; 32],
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
    ) -> Self {
        let mut hasher = FieldHasher::new("ringward path memo 1");
        hasher.field(context).field(leaf);
        for certificate in intermediates {
            hasher.field(certificate);
        }
        Self(hasher.finish())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Pki;

    fn key(context: u8, chain: &[&[u8]]) -> MemoKey {
        let chain: Vec<_> = chain.iter().map(|der| CertificateDer::from(*der)).collect();
        MemoKey::new(&[context; 32], &chain[0], &chain[1..])
    }

    fn admitted(valid_from: i64, valid_until: i64) -> Admitted {
        let pki = Pki::new();
        let leaf = pki.client("memo");
        let path = PeerPath { valid_from, valid_until, ..leaf.path_under(&pki.client_ca) };
        Admitted { identity: leaf.identity(), path: Arc::new(path) }
    }

    #[test]
    fn key_depends_on_context_and_on_every_byte_of_the_chain() {
        let base = key(1, &[b"leaf", b"intermediate"]);
        assert_eq!(base, key(1, &[b"leaf", b"intermediate"]));
        assert_ne!(base, key(2, &[b"leaf", b"intermediate"]));
        assert_ne!(base, key(1, &[b"leaf"]));
        assert_ne!(base, key(1, &[b"leafi", b"ntermediate"]));
        assert_ne!(base, key(1, &[b"leaf", b"intermediate", b""]));
        assert_ne!(base, key(1, &[b"intermediate", b"leaf"]));
    }

    #[test]
    fn entry_holds_within_its_window_only() {
        let memo = PathMemo::new(8);
        memo.insert(key(1, &[b"a"]), admitted(100, 200));
        for (now, found) in [(99, false), (100, true), (200, true), (201, false)] {
            assert_eq!(memo.find(&key(1, &[b"a"]), now).is_some(), found, "at {now}");
        }
        assert!(memo.find(&key(2, &[b"a"]), 150).is_none());
    }

    #[test]
    fn oldest_entry_goes_when_full() {
        let memo = PathMemo::new(3);
        let entry = admitted(0, 10);
        for name in [b"a", b"b", b"c"] {
            memo.insert(key(1, &[name]), entry.clone());
        }
        memo.insert(key(1, &[b"a"]), entry.clone());
        assert_eq!(memo.len(), 3, "replacing an entry evicts none");
        memo.insert(key(1, &[b"d"]), entry.clone());
        assert_eq!(memo.len(), 3);
        assert!(memo.find(&key(1, &[b"a"]), 5).is_none());
        for name in [b"b", b"c", b"d"] {
            assert!(memo.find(&key(1, &[name]), 5).is_some());
        }
        for number in 0..1000_u32 {
            memo.insert(key(1, &[&number.to_be_bytes()]), entry.clone());
        }
        assert_eq!(memo.len(), 3);
        assert_eq!(memo.table().order.len(), 3);
    }

    #[test]
    fn memo_of_size_zero_remembers_nothing() {
        let memo = PathMemo::new(0);
        memo.insert(key(1, &[b"a"]), admitted(0, 10));
        assert!(memo.is_empty());
    }
}
