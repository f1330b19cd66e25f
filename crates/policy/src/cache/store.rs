//! The decisions that are kept: found by whole keys, bounded in number and bytes, the unused replaced first.

use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, Hasher, RandomState};
use std::rc::Rc;
use std::vec;

use crate::decision::Decision;

/// Decisions by key. Belongs to one worker and one policy.
#[derive(Debug)]
pub(super) struct Store {
    /// SipHash with keys of this store: clients choose paths, and must not be able to choose what collides.
    seed: RandomState,
    /// From the hash of a key to its slot. Of two keys with one hash only one is kept; slots have the whole key.
    slots_by_hash: HashMap<u64, u32, BuildHasherDefault<AlreadyHashed>>,
    slots: Vec<Slot>,
    hand: usize,
    bytes: usize,
    entries_max: usize,
    bytes_max: usize,
    seen: Doorkeeper,
}

#[derive(Debug)]
pub(super) struct Slot {
    hash: u64,
    key: Box<[u8]>,
    decision: Rc<Decision>,
    bytes: usize,
    /// The seconds in which the entry may be used: from the first, before the last. Also a clock that is set back ends it.
    from_unix: i64,
    until_unix: i64,
    /// It was used since the hand came by.
    used: bool,
}

impl Store {
    pub(super) fn new(entries_max: usize, bytes_max: usize) -> Self {
        Self {
            seed: RandomState::new(),
            slots_by_hash: HashMap::default(),
            slots: Vec::new(),
            hand: 0,
            bytes: 0,
            entries_max,
            bytes_max,
            seen: Doorkeeper::new(entries_max),
        }
    }

    pub(super) fn hash(&self, key: &[u8]) -> u64 {
        let mut hasher = self.seed.build_hasher();
        hasher.write(key);
        hasher.finish()
    }

    /// The decision of a key. `hash` is the key's.
    pub(super) fn find(&mut self, hash: u64, key: &[u8], now_unix: i64) -> Option<Rc<Decision>> {
        let index = *self.slots_by_hash.get(&hash)?;
        let slot = &mut self.slots[index as usize];
        // The whole key: with the hash alone, whoever finds a collision has another's decision.
        if *slot.key != *key || now_unix < slot.from_unix || slot.until_unix <= now_unix {
            return None;
        }
        slot.used = true;
        Some(Rc::clone(&slot.decision))
    }

    /// Keeps a decision, if its key was offered before: what is asked once must not replace what is asked often.
    pub(super) fn offer(&mut self, hash: u64, key: &[u8], decision: &Rc<Decision>, now_unix: i64) {
        if decision.cache_ttl == Some(0) || !self.seen.again(hash) {
            return;
        }
        let bytes = key.len() + decision_bytes(decision) + ENTRY_BYTES;
        if bytes > self.bytes_max / LARGEST_SHARE {
            return;
        }
        if let Some(index) = self.slots_by_hash.get(&hash).copied() {
            self.remove(index as usize);
        }
        while self.slots.len() >= self.entries_max || self.bytes + bytes > self.bytes_max {
            self.evict();
        }
        let until_unix = decision.cache_ttl.map_or(i64::MAX, |ttl| now_unix.saturating_add(ttl.into()));
        self.slots_by_hash.insert(hash, self.slots.len() as u32);
        self.bytes += bytes;
        self.slots.push(Slot {
            hash,
            key: key.into(),
            decision: Rc::clone(decision),
            bytes,
            from_unix: now_unix,
            until_unix,
            used: false,
        });
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// All that it has, for whoever lets go of it.
    pub(super) fn into_slots(self) -> vec::IntoIter<Slot> {
        self.slots.into_iter()
    }

    /// Removes an entry that was not used since the hand came by last, or one that was if there are many such.
    fn evict(&mut self) {
        for _ in 0..SECOND_CHANCES_MAX {
            self.hand = if self.hand + 1 < self.slots.len() { self.hand + 1 } else { 0 };
            if !std::mem::replace(&mut self.slots[self.hand].used, false) {
                break;
            }
        }
        self.remove(self.hand);
    }

    fn remove(&mut self, index: usize) {
        let removed = self.slots.swap_remove(index);
        self.bytes -= removed.bytes;
        self.slots_by_hash.remove(&removed.hash);
        if let Some(moved) = self.slots.get(index) {
            self.slots_by_hash.insert(moved.hash, index as u32);
        }
    }
}

/// Which keys were offered lately; forgets as others come. A false memory lets one in that need not be, no more.
#[derive(Debug)]
struct Doorkeeper {
    /// Four tags for each place, the latest first: room for as many keys as there may be entries, with few that push each
    /// other out for ever.
    tags: Box<[[u32; 4]]>,
}

impl Doorkeeper {
    fn new(entries: usize) -> Self {
        Self { tags: vec![[0; 4]; entries.next_power_of_two()].into() }
    }

    /// Whether the key of this hash was offered before.
    fn again(&mut self, hash: u64) -> bool {
        let index = hash as usize & (self.tags.len() - 1);
        // The half of the hash that does not choose the place; 0 is no key.
        let tag = (hash >> 32) as u32 | 1;
        let tags = &mut self.tags[index];
        let known = tags.contains(&tag);
        if !known {
            tags.rotate_right(1);
            tags[0] = tag;
        }
        known
    }
}

/// Passes on hashes that are good already.
#[derive(Debug, Default)]
struct AlreadyHashed(u64);

impl Hasher for AlreadyHashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("keys of the table are u64");
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

/// The texts of a decision. Some may be the policy's own and shared; they are counted all the same.
fn decision_bytes(decision: &Decision) -> usize {
    // By name, so that a field that is added has to be counted too.
    let Decision {
        allowed: _,
        undefined: _,
        status: _,
        cache_ttl: _,
        body,
        headers,
        request_headers_to_set,
        request_headers_to_remove,
        query_parameters_to_set,
        query_parameters_to_remove,
        response_headers_to_add,
        rule,
        reason,
        metadata,
    } = decision;
    let texts = [body, rule, reason, metadata].into_iter().flatten();
    let names = request_headers_to_remove.iter().chain(query_parameters_to_remove);
    let pairs = headers
        .iter()
        .chain(request_headers_to_set)
        .chain(query_parameters_to_set)
        .chain(response_headers_to_add)
        .flat_map(|(name, value)| [name, value]);
    texts.chain(names).chain(pairs).map(|text| text.len() + TEXT_BYTES).sum()
}

/// What an entry takes beside key and texts: slot, decision, its places in table and doorkeeper, and allocations.
const ENTRY_BYTES: usize = size_of::<Slot>() + size_of::<Decision>() + 64;
/// What a text takes beside its bytes: the pointer to it and its reference counts.
const TEXT_BYTES: usize = 32;
/// The part of all bytes that one entry may take is 1 over this.
const LARGEST_SHARE: usize = 16;
/// After how many used entries in a row one is removed all the same, so that no request waits for a walk over all of them.
const SECOND_CHANCES_MAX: usize = 32;

#[cfg(test)]
mod tests;
