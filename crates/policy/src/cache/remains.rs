//! What an evaluator leaves behind: tens of thousands of small allocations, which take milliseconds to free. A worker, for
//! which all its connections would wait meanwhile, frees them piece by piece.

use std::vec;

use super::Cache;
use super::store::Slot;
use super::subjects::Entries;

/// The entries of a cache that has ended.
#[derive(Debug)]
pub struct Remains {
    decisions: vec::IntoIter<Slot>,
    subjects: Entries,
}

impl Remains {
    pub(super) fn of(cache: Cache) -> Self {
        Self { decisions: cache.store.into_slots(), subjects: cache.subjects.into_entries() }
    }

    /// Lets go of so many entries. Whether any may be left.
    pub fn shrink(&mut self, entries: usize) -> bool {
        (0..entries).all(|_| self.decisions.next().is_some() || self.subjects.next().is_some())
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;
    use std::rc::Rc;
    use std::sync::Arc;

    use super::*;
    use crate::cache::CacheOptions;
    use crate::cache::projection::{Accessor, Projection};
    use crate::decision::Decision;

    #[test]
    fn no_piece_is_larger_than_was_asked_for_and_in_the_end_all_is_gone() {
        let projection = Projection { fields: vec![Accessor::Path], ..Projection::default() };
        let options = CacheOptions {
            entries: 64,
            bytes: 1 << 20,
            verify_every: NonZeroU32::MIN,
            misses_per_second: None,
        };
        let mut cache = Cache::new(Arc::new(projection), &options);
        let decision = Rc::new(Decision::default());
        for number in 0..10_u8 {
            let hash = cache.store.hash(&[number]);
            (0..2).for_each(|_| cache.store.offer(hash, &[number], &decision, 0));
        }
        let mut remains = Remains::of(cache);
        assert_eq!(Rc::strong_count(&decision), 11);
        assert!(remains.shrink(4));
        assert_eq!(Rc::strong_count(&decision), 7);
        assert!(remains.shrink(4));
        assert!(!remains.shrink(4), "two were left");
        assert_eq!(Rc::strong_count(&decision), 1);
        assert!(!remains.shrink(4));
    }
}
