//! SHA-256 over lists of values, encoded so that two different lists never hash alike.
//!
//! Hides the encoding only. It is used for the digests of configurations and the names of issuers, where an ambiguity would
//! let one pass for another.

use std::collections::BTreeSet;
use std::hash::{Hash, Hasher};
use std::time::Duration;

use aws_lc_rs::digest::{Context, SHA256, digest};

/// SHA-256 of `bytes`.
pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    fixed(digest(&SHA256, bytes).as_ref())
}

/// A SHA-256 as the key of a hash table. All of it is compared, and its first octets are hashed: to find many certificates or
/// CAs that agree in eight of them is beyond anybody's means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DigestKey(pub(crate) [u8; 32]);

impl Hash for DigestKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0.first_chunk().map_or(0, |octets| u64::from_ne_bytes(*octets)));
    }
}

/// Hashes a sequence of fields. Each is preceded by its length, and the sequence by a purpose, so no
/// concatenation of other fields and no other purpose yields the same input.
pub(crate) struct FieldHasher(Context);

impl FieldHasher {
    pub(crate) fn new(purpose: &str) -> Self {
        let mut hasher = Self(Context::new(&SHA256));
        hasher.field(purpose.as_bytes());
        hasher
    }

    pub(crate) fn field(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.update(&(bytes.len() as u64).to_be_bytes());
        self.0.update(bytes);
        self
    }

    pub(crate) fn number(&mut self, value: u64) -> &mut Self {
        self.field(&value.to_be_bytes())
    }

    pub(crate) fn duration(&mut self, value: Duration) -> &mut Self {
        self.field(&value.as_nanos().to_be_bytes())
    }

    /// A list in which neither order nor repetition counts.
    pub(crate) fn set<'a>(&mut self, items: impl Iterator<Item = &'a [u8]>) -> &mut Self {
        let items: BTreeSet<_> = items.collect();
        self.number(items.len() as u64);
        items.into_iter().fold(self, Self::field)
    }

    /// Distinguishes an absent value from an empty one.
    pub(crate) fn optional(&mut self, bytes: Option<&[u8]>) -> &mut Self {
        match bytes {
            Some(bytes) => self.number(1).field(bytes),
            None => self.number(0),
        }
    }

    pub(crate) fn optional_number(&mut self, value: Option<u64>) -> &mut Self {
        self.optional(value.map(u64::to_be_bytes).as_ref().map(<[u8; 8]>::as_slice))
    }

    pub(crate) fn finish(self) -> [u8; 32] {
        fixed(self.0.finish().as_ref())
    }
}

fn fixed(bytes: &[u8]) -> [u8; 32] {
    bytes.try_into().expect("SHA-256 yields 32 bytes")
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::hash::{BuildHasher as _, RandomState};

    use super::*;

    fn hash(fields: &[&[u8]]) -> [u8; 32] {
        let mut hasher = FieldHasher::new("test");
        for field in fields {
            hasher.field(field);
        }
        hasher.finish()
    }

    #[test]
    fn boundaries_between_fields_count() {
        assert_ne!(hash(&[b"ab", b"c"]), hash(&[b"a", b"bc"]));
        assert_ne!(hash(&[b"ab"]), hash(&[b"ab", b""]));
        assert_eq!(hash(&[b"ab", b"c"]), hash(&[b"ab", b"c"]));
    }

    #[test]
    fn order_and_repetition_do_not_count_in_sets_but_their_extent_does() {
        let hash = |set: &[&[u8]], next: &[u8]| {
            let mut hasher = FieldHasher::new("test");
            hasher.set(set.iter().copied()).field(next);
            hasher.finish()
        };
        assert_eq!(hash(&[b"a", b"b"], b"c"), hash(&[b"b", b"a", b"b"], b"c"));
        assert_ne!(hash(&[b"a", b"b"], b"c"), hash(&[b"a"], b"c"));
        let mut longer = FieldHasher::new("test");
        longer.set([b"a".as_slice()].into_iter()).field(b"b").field(b"c");
        assert_ne!(hash(&[b"a", b"b"], b"c"), longer.finish());
    }

    #[test]
    fn digests_that_agree_in_what_is_hashed_are_different_keys() {
        let digests = [8, 31].map(|position| {
            let mut digest = [7; 32];
            digest[position] = 8;
            DigestKey(digest)
        });
        let hasher = RandomState::new();
        assert_eq!(hasher.hash_one(digests[0]), hasher.hash_one(digests[1]));
        let table = HashMap::from([(digests[0], ())]);
        assert!(table.contains_key(&digests[0]) && !table.contains_key(&digests[1]));
    }

    #[test]
    fn purpose_and_absence_count() {
        assert_ne!(FieldHasher::new("one").finish(), FieldHasher::new("two").finish());
        let (mut absent, mut empty) = (FieldHasher::new("test"), FieldHasher::new("test"));
        absent.optional(None);
        empty.optional(Some(b""));
        assert_ne!(absent.finish(), empty.finish());
    }
}
