//! Things that are lent, given back and lent again, as long as somebody needs them.

use std::cell::{Cell, RefCell};

/// What waits to be lent. The last one that was given back is lent first, since it is still in the cache; so those that nobody needs
/// gather at the far end, from which [`Shelf::age`] takes them.
#[derive(Debug)]
pub(crate) struct Shelf<T> {
    there: RefCell<Vec<T>>,
    /// The fewest that were there since the last [`Shelf::age`]: so many were not needed.
    fewest: Cell<usize>,
}

impl<T> Shelf<T> {
    /// Lends one, if there is one.
    pub(crate) fn take(&self) -> Option<T> {
        let mut there = self.there.borrow_mut();
        let taken = there.pop();
        self.fewest.set(self.fewest.get().min(there.len()));
        taken
    }

    /// Takes one back, or drops it when `max` are there.
    pub(crate) fn put(&self, item: T, max: usize) {
        let mut there = self.there.borrow_mut();
        if there.len() < max {
            there.push(item);
        }
    }

    /// Drops what was not needed since this was called last, so that a burst's share does not stay for good.
    pub(crate) fn age(&self) {
        let mut there = self.there.borrow_mut();
        let fewest = self.fewest.get().min(there.len());
        let unneeded: Vec<T> = there.drain(..fewest).collect();
        self.fewest.set(there.len());
        drop(there);
        // Only now, since what is dropped may give something back in its turn.
        drop(unneeded);
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.there.borrow().len()
    }
}

impl<T> Default for Shelf<T> {
    fn default() -> Shelf<T> {
        Shelf { there: RefCell::default(), fewest: Cell::new(0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_given_back_last_is_lent_first_and_the_rest_is_bounded() {
        let shelf = Shelf::default();
        assert_eq!(shelf.take(), None);
        (1..=5).for_each(|item| shelf.put(item, 3));
        assert_eq!(
            [shelf.take(), shelf.take(), shelf.take(), shelf.take()],
            [Some(3), Some(2), Some(1), None]
        );
    }

    #[test]
    fn what_nobody_needs_is_dropped_and_what_is_in_use_stays() {
        let shelf = Shelf::default();
        (1..=10).for_each(|item| shelf.put(item, 10));
        // They have come only now.
        shelf.age();
        assert_eq!(shelf.len(), 10);
        // Three at a time are needed.
        for _ in 0..2 {
            let lent = [shelf.take(), shelf.take(), shelf.take()];
            lent.into_iter().flatten().for_each(|item| shelf.put(item, 10));
            shelf.age();
            assert_eq!(shelf.len(), 3);
        }
        shelf.age();
        assert_eq!(shelf.len(), 0);
        shelf.age();
    }
}
