//! Numbers for the subjects that a cache has seen: clients and connections, as far as the policy can tell them apart.

use std::collections::HashMap;
use std::rc::Rc;

use super::key::{Epoch, SubjectMark, subject_bytes};
use super::projection::Projection;
use crate::input::subject::Subject;

/// The subjects of one cache. Equal bytes have equal numbers, and nothing else has.
#[derive(Debug)]
pub(super) struct Subjects {
    /// Compares whole keys, with a seed of its own.
    numbers: HashMap<Box<[u8]>, u32>,
    entries_max: usize,
    bytes: usize,
    bytes_max: usize,
    epoch: Rc<Epoch>,
}

/// What came of asking for a subject's number.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Interned {
    Known(u32),
    /// There was no room: all numbers were given back, this one is the first new one. Keys with older ones mean nothing.
    NewEpoch(u32),
    /// The subject is too large to be kept.
    TooLarge,
}

impl Subjects {
    pub(super) fn new(entries_max: usize, bytes_max: usize) -> Self {
        Self { numbers: HashMap::new(), entries_max, bytes: 0, bytes_max, epoch: Rc::new(Epoch) }
    }

    /// The number that a mark remembers, if it is still one.
    pub(super) fn remembered(&self, mark: &SubjectMark) -> Option<u32> {
        mark.subject_in(&self.epoch)
    }

    /// The number of a subject, also for its mark to remember.
    pub(super) fn number(
        &mut self,
        projection: &Projection,
        subject: &Subject,
        mark: &mut SubjectMark,
    ) -> Interned {
        let Some(bytes) = subject_bytes(projection, subject) else { return Interned::TooLarge };
        let interned = self.intern(bytes);
        if let Interned::Known(number) | Interned::NewEpoch(number) = interned {
            mark.remember(&self.epoch, number);
        }
        interned
    }

    fn intern(&mut self, bytes: Vec<u8>) -> Interned {
        if let Some(number) = self.numbers.get(bytes.as_slice()) {
            return Interned::Known(*number);
        }
        let size = bytes.len() + ENTRY_BYTES;
        if size > self.bytes_max {
            return Interned::TooLarge;
        }
        let full = self.numbers.len() >= self.entries_max || self.bytes + size > self.bytes_max;
        if full {
            self.clear();
        }
        // Fits: there are no more subjects than entries, whose number has far fewer bits.
        let number = self.numbers.len() as u32;
        self.numbers.insert(bytes.into(), number);
        self.bytes += size;
        if full { Interned::NewEpoch(number) } else { Interned::Known(number) }
    }

    fn clear(&mut self) {
        self.numbers.clear();
        self.bytes = 0;
        self.epoch = Rc::new(Epoch);
    }
}

/// What a subject takes beside its bytes: its place in the table, and the allocation.
const ENTRY_BYTES: usize = 48;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_subjects_have_equal_numbers_and_others_have_not() {
        let mut subjects = Subjects::new(16, 1 << 20);
        assert_eq!(subjects.intern(b"a".to_vec()), Interned::Known(0));
        assert_eq!(subjects.intern(b"b".to_vec()), Interned::Known(1));
        assert_eq!(subjects.intern(b"a".to_vec()), Interned::Known(0));
        assert_eq!(subjects.intern(Vec::new()), Interned::Known(2));
    }

    #[test]
    fn a_full_table_begins_a_new_epoch_in_which_no_mark_holds() {
        let mut subjects = Subjects::new(2, 1 << 20);
        let mut mark = SubjectMark::default();
        mark.remember(&subjects.epoch, 0);
        subjects.intern(b"a".to_vec());
        subjects.intern(b"b".to_vec());
        assert_eq!(subjects.remembered(&mark), Some(0));
        assert_eq!(subjects.intern(b"b".to_vec()), Interned::Known(1), "at the limit, what is known stays");
        assert_eq!(subjects.intern(b"c".to_vec()), Interned::NewEpoch(0));
        assert_eq!(subjects.remembered(&mark), None, "0 is another subject now");
        assert_eq!((subjects.numbers.len(), subjects.bytes), (1, 1 + ENTRY_BYTES));
    }

    #[test]
    fn bytes_are_bounded_too() {
        let mut subjects = Subjects::new(1000, 2 * (100 + ENTRY_BYTES));
        assert_eq!(subjects.intern(vec![1; 100]), Interned::Known(0));
        assert_eq!(subjects.intern(vec![2; 100]), Interned::Known(1));
        assert_eq!(subjects.intern(vec![3; 1]), Interned::NewEpoch(0));
        assert_eq!(subjects.intern(vec![4; 2 * (100 + ENTRY_BYTES)]), Interned::TooLarge);
    }

    #[test]
    fn a_mark_serves_two_policies_of_a_connection() {
        let tables: Vec<Subjects> = (0..3).map(|_| Subjects::new(8, 1 << 10)).collect();
        let mut mark = SubjectMark::default();
        for (number, subjects) in tables.iter().enumerate() {
            assert_eq!(subjects.remembered(&mark), None);
            mark.remember(&subjects.epoch, number as u32);
        }
        let remembered: Vec<_> = tables.iter().map(|subjects| subjects.remembered(&mark)).collect();
        assert_eq!(remembered, [None, Some(1), Some(2)]);
    }
}
