//! Remembers chains that were verified, so that a returning client costs a comparison instead of its chain's
//! signatures.
//!
//! What must stay true: an entry is found only under the verification context that admitted it and only for
//! exactly the same presented chain, byte for byte; it holds only while every certificate of its path is
//! valid; nothing is ever remembered about a refusal, so a flood of bad chains changes nothing. The client's
//! proof of possession (CertificateVerify) is never remembered.
//!
//! So that no digest of the chain has to be computed for each look-up, an entry keeps its chain, and has a place
//! ([`Slot`]) that a few octets of the key decide. Who wants to can present several chains of one place, by changing what he
//! presents beside his path: then the later one takes the place of the earlier, which is verified when it comes again. A
//! place never holds two entries, as a look-up would have to compare itself with all of them.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ringward_identity::PeerIdentity;
use rustls_pki_types::CertificateDer;

use crate::path::{PeerPath, Sightings};

/// Default bound on the entries of a [`PathMemo`]. An entry is a peer identity, the certificates of its path, and the chain as
/// it was presented, some six kilobytes, so a worker that has seen this many different clients holds some 100 MB of them.
pub const MEMO_ENTRIES_DEFAULT: usize = 16_384;

/// Bound on the presented chains of a [`PathMemo`], which are of the clients' choice up to
/// [`CHAIN_BYTES_MAX`](crate::CHAIN_BYTES_MAX) each: room for [`MEMO_ENTRIES_DEFAULT`] chains of a leaf and an intermediate with
/// long RSA keys. What else an entry holds is in proportion to its chain, some four times as much.
pub const MEMO_CHAIN_BYTES_MAX: usize = 64 << 20;

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

/// What a verdict is remembered for: a verification context, and a chain as it is presented.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MemoKey<'k> {
    pub(crate) context: &'k [u8; 32],
    pub(crate) leaf: &'k CertificateDer<'k>,
    pub(crate) intermediates: &'k [CertificateDer<'k>],
}

/// The place of an entry. Equal keys have equal places; that two places are equal says nothing about the keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Slot {
    context: u64,
    leaf: u128,
    last: u128,
    chain_bytes: usize,
}

#[derive(Debug)]
struct Entry {
    context: [u8; 32],
    /// As it was presented, leaf first.
    chain: Box<[CertificateDer<'static>]>,
    admitted: Admitted,
}

#[derive(Debug)]
struct Table {
    entries: HashMap<Slot, Entry>,
    /// Places in order of insertion: the oldest is the first to go. Holds every key of `entries` exactly once.
    order: VecDeque<Slot>,
    /// Of all chains in `entries`.
    chain_bytes: usize,
    entries_max: usize,
    chain_bytes_max: usize,
}

impl PathMemo {
    /// A memo of at most `entries_max` chains, which have at most [`MEMO_CHAIN_BYTES_MAX`] bytes; 0 remembers nothing.
    pub fn new(entries_max: usize) -> Self {
        Self::bounded(entries_max, MEMO_CHAIN_BYTES_MAX)
    }

    fn bounded(entries_max: usize, chain_bytes_max: usize) -> Self {
        let (entries, order) = (HashMap::new(), VecDeque::new());
        let table = Table { entries, order, chain_bytes: 0, entries_max, chain_bytes_max };
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
    pub(crate) fn find(&self, key: MemoKey<'_>, now: i64) -> Option<Admitted> {
        let table = self.table();
        let entry = table.entries.get(&key.slot()).filter(|entry| entry.is_of(key))?;
        // An entry outside its window stays until its turn to be evicted: verification then answers, and
        // replaces it if it passes.
        entry.admitted.path.is_valid_at(now).then(|| entry.admitted.clone())
    }

    pub(crate) fn insert(&self, key: MemoKey<'_>, admitted: Admitted) {
        let mut table = self.table();
        if table.entries_max == 0 {
            return;
        }
        let slot = key.slot();
        table.chain_bytes += slot.chain_bytes;
        match table.entries.insert(slot, Entry::new(key, admitted)) {
            // Of as many bytes, as that is part of the place.
            Some(_) => table.chain_bytes -= slot.chain_bytes,
            None => table.order.push_back(slot),
        }
        table.evict();
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

impl MemoKey<'_> {
    /// The last octets of a certificate are of its signature, which tells it from all others but those that somebody made for
    /// the purpose.
    fn slot(&self) -> Slot {
        let tail =
            |der: &CertificateDer<'_>| der.last_chunk().map_or(0, |octets| u128::from_le_bytes(*octets));
        Slot {
            context: self.context.first_chunk().map_or(0, |octets| u64::from_le_bytes(*octets)),
            leaf: tail(self.leaf),
            last: self.intermediates.last().map_or(0, tail),
            chain_bytes: self.leaf.len() + self.intermediates.iter().map(|der| der.len()).sum::<usize>(),
        }
    }
}

impl Entry {
    fn new(key: MemoKey<'_>, admitted: Admitted) -> Self {
        let chain = std::iter::once(key.leaf).chain(key.intermediates);
        let chain = chain.map(|der| der.clone().into_owned()).collect();
        Self { context: *key.context, chain, admitted }
    }

    /// Whether this is what was found out for exactly this key.
    fn is_of(&self, key: MemoKey<'_>) -> bool {
        let chain = self.chain.split_first();
        self.context == *key.context
            && chain.is_some_and(|(leaf, rest)| leaf == key.leaf && rest == key.intermediates)
    }
}

impl Table {
    /// Makes room until both bounds are kept.
    fn evict(&mut self) {
        while self.entries.len() > self.entries_max || self.chain_bytes > self.chain_bytes_max {
            let Some(oldest) = self.order.pop_front() else { return };
            if self.entries.remove(&oldest).is_some() {
                self.chain_bytes -= oldest.chain_bytes;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Pki;

    /// A key that owns what it is made of.
    struct Presented {
        context: [u8; 32],
        chain: Vec<CertificateDer<'static>>,
    }

    impl Presented {
        fn key(&self) -> MemoKey<'_> {
            MemoKey { context: &self.context, leaf: &self.chain[0], intermediates: &self.chain[1..] }
        }
    }

    fn presented(context: u8, chain: &[&[u8]]) -> Presented {
        let chain = chain.iter().map(|der| CertificateDer::from(der.to_vec())).collect();
        Presented { context: [context; 32], chain }
    }

    fn admitted(valid_from: i64, valid_until: i64) -> Admitted {
        let pki = Pki::new();
        let leaf = pki.client("memo");
        let path = PeerPath { valid_from, valid_until, ..leaf.path_under(&pki.client_ca) };
        Admitted { identity: leaf.identity(), path: Arc::new(path) }
    }

    fn finds(memo: &PathMemo, presented: &Presented) -> bool {
        memo.find(presented.key(), 5).is_some()
    }

    const LEAF: &[u8] = b"a leaf with the signature 0123456789abcdef";
    const ISSUING: &[u8] = b"a certificate beside it 0123456789abcdef";
    /// They differ from the others only where a place is not decided.
    const OTHER_LEAF: &[u8] = b"A leaf with the signature 0123456789abcdef";
    const OTHER_ISSUING: &[u8] = b"A certificate beside it 0123456789abcdef";

    #[test]
    fn an_entry_is_of_its_context_and_of_every_byte_of_its_chain() {
        let base = presented(1, &[LEAF, ISSUING]);
        let others = [
            presented(2, &[LEAF, ISSUING]),
            presented(1, &[LEAF]),
            presented(1, &[LEAF, b""]),
            presented(1, &[LEAF, ISSUING, b""]),
            presented(1, &[ISSUING, LEAF]),
            presented(1, &[&[LEAF, &ISSUING[..1]].concat(), &ISSUING[1..]]),
            presented(1, &[OTHER_LEAF, ISSUING]),
            presented(1, &[LEAF, OTHER_ISSUING]),
            Presented {
                context: [[1; 31].as_slice(), &[2]].concat().try_into().unwrap(),
                ..presented(1, &[LEAF, ISSUING])
            },
        ];
        let memo = PathMemo::new(8);
        memo.insert(base.key(), admitted(0, 10));
        assert!(finds(&memo, &base));
        for other in &others {
            assert!(!finds(&memo, other), "{:?}", other.key());
            // Not even if all places were one.
            let mut table = memo.table();
            let entry = table.entries.remove(&base.key().slot()).unwrap();
            table.entries.insert(other.key().slot(), entry);
            drop(table);
            assert!(!finds(&memo, other), "{:?}", other.key());
            let mut table = memo.table();
            let entry = table.entries.remove(&other.key().slot()).unwrap();
            table.entries.insert(base.key().slot(), entry);
        }
        assert!(finds(&memo, &base));
    }

    #[test]
    fn of_two_chains_of_one_place_the_later_is_remembered() {
        let (one, other) = (presented(1, &[LEAF, ISSUING]), presented(1, &[OTHER_LEAF, OTHER_ISSUING]));
        assert_eq!(one.key().slot(), other.key().slot());
        let memo = PathMemo::new(8);
        let (first, second) = (admitted(0, 10), admitted(0, 10));
        for (presented, admitted, gone) in [(&one, &first, &other), (&other, &second, &one)] {
            memo.insert(presented.key(), admitted.clone());
            let found = memo.find(presented.key(), 5).unwrap();
            assert!(Arc::ptr_eq(&found.identity, &admitted.identity));
            assert!(!finds(&memo, gone));
            assert_eq!((memo.len(), memo.table().order.len()), (1, 1));
            assert_eq!(memo.table().chain_bytes, LEAF.len() + ISSUING.len());
        }
    }

    #[test]
    fn entry_holds_within_its_window_only() {
        let memo = PathMemo::new(8);
        let (known, unknown) = (presented(1, &[b"a"]), presented(2, &[b"a"]));
        memo.insert(known.key(), admitted(100, 200));
        for (now, found) in [(99, false), (100, true), (200, true), (201, false)] {
            assert_eq!(memo.find(known.key(), now).is_some(), found, "at {now}");
        }
        assert!(memo.find(unknown.key(), 150).is_none());
    }

    #[test]
    fn oldest_entry_goes_when_full() {
        let memo = PathMemo::new(3);
        let entry = admitted(0, 10);
        let [a, b, c, d] = [b"aa", b"bb", b"cc", b"dd"].map(|name| presented(1, &[&name.repeat(8)]));
        for known in [&a, &b, &c, &a] {
            memo.insert(known.key(), entry.clone());
        }
        assert_eq!(memo.len(), 3, "replacing an entry evicts none");
        memo.insert(d.key(), entry.clone());
        assert_eq!(memo.len(), 3);
        assert!(!finds(&memo, &a));
        assert!([&b, &c, &d].into_iter().all(|known| finds(&memo, known)));
        for number in 0..1000_u128 {
            memo.insert(presented(1, &[&number.to_be_bytes()]).key(), entry.clone());
        }
        let table = memo.table();
        assert_eq!((table.entries.len(), table.order.len(), table.chain_bytes), (3, 3, 3 * 16));
    }

    #[test]
    fn oldest_entries_go_when_their_chains_are_too_long() {
        let memo = PathMemo::bounded(8, 100);
        let entry = admitted(0, 10);
        let [a, b, c] = [b'a', b'b', b'c'].map(|name| presented(1, &[&[name; 30], &[name; 20]]));
        let (long, too_long) = (presented(1, &[&[1; 100]]), presented(1, &[&[1; 101]]));
        let known = |expected: &[&Presented]| {
            assert!(expected.iter().all(|known| finds(&memo, known)));
            let table = memo.table();
            let bytes = expected.iter().flat_map(|known| &known.chain).map(|der| der.len()).sum::<usize>();
            assert_eq!(
                (table.entries.len(), table.order.len(), table.chain_bytes),
                (expected.len(), expected.len(), bytes)
            );
        };
        for (presented, expected) in [
            (&a, [&a].as_slice()),
            (&b, &[&a, &b]),
            (&b, &[&a, &b]),
            (&c, &[&b, &c]),
            (&long, &[&long]),
            (&too_long, &[]),
            (&a, &[&a]),
        ] {
            memo.insert(presented.key(), entry.clone());
            known(expected);
        }
    }

    #[test]
    fn memo_of_size_zero_remembers_nothing() {
        let memo = PathMemo::new(0);
        memo.insert(presented(1, &[b"a"]).key(), admitted(0, 10));
        assert!(memo.is_empty());
    }
}
