//! Numbers for the subjects that a cache has seen: clients and connections, as far as the policy can tell them apart.

use std::collections::{HashMap, hash_map};
use std::iter::Chain;
use std::rc::Rc;

use super::key::{SubjectMark, TableId, subject_bytes};
use super::projection::Projection;
use crate::input::subject::Subject;

/// What a table leaves behind.
pub(super) type Entries = Chain<Numbers, Numbers>;

type Numbers = hash_map::IntoIter<Box<[u8]>, u64>;

/// The subjects of one cache. Equal bytes have equal numbers for as long as they are known, and no number is ever given to
/// other bytes.
#[derive(Debug)]
pub(super) struct Subjects {
    /// Compares whole keys, with a seed of its own.
    numbers: HashMap<Box<[u8]>, u64>,
    /// Those of the table before, which was full. Letting go of thousands at once would hold up everybody, so each new subject
    /// lets go of a few; they are gone before the table is full again.
    fading: Numbers,
    next: u64,
    entries_max: usize,
    bytes: usize,
    bytes_max: usize,
    id: Rc<TableId>,
}

impl Subjects {
    pub(super) fn new(entries_max: usize, bytes_max: usize) -> Self {
        Self {
            numbers: HashMap::new(),
            fading: Numbers::default(),
            next: 0,
            entries_max,
            bytes: 0,
            bytes_max,
            id: Rc::new(TableId),
        }
    }

    /// The number that a mark remembers, if it is of this table.
    pub(super) fn remembered(&self, mark: &SubjectMark) -> Option<u64> {
        mark.subject_in(&self.id)
    }

    /// The number of a subject, also for its mark to remember. `None` if the subject is too large to be kept.
    pub(super) fn number(
        &mut self,
        projection: &Projection,
        subject: &Subject,
        mark: &mut SubjectMark,
    ) -> Option<u64> {
        let number = self.intern(subject_bytes(projection, subject)?)?;
        mark.remember(&self.id, number);
        Some(number)
    }

    fn intern(&mut self, bytes: Vec<u8>) -> Option<u64> {
        if let Some(number) = self.numbers.get(bytes.as_slice()) {
            return Some(*number);
        }
        let size = bytes.len() + ENTRY_BYTES;
        if size > self.bytes_max {
            return None;
        }
        if self.numbers.len() >= self.entries_max || self.bytes + size > self.bytes_max {
            self.fading = std::mem::take(&mut self.numbers).into_iter();
            self.bytes = 0;
        }
        self.fade(size);
        if self.numbers.capacity() == 0 {
            // At once: a table that grows hashes all its keys again, and somebody's request waits for that.
            self.numbers.reserve(self.entries_max);
        }
        let number = self.next;
        self.next += 1;
        self.numbers.insert(bytes.into(), number);
        self.bytes += size;
        Some(number)
    }

    /// Lets go of twice as much of the table before as comes into this one, in number and in bytes.
    fn fade(&mut self, size: usize) {
        let (mut entries, mut bytes) = (0, 0);
        while entries < 2 || bytes < 2 * size {
            let Some((old, _)) = self.fading.next() else { return };
            entries += 1;
            bytes += old.len() + ENTRY_BYTES;
        }
    }

    /// All that it has, for whoever lets go of it.
    pub(super) fn into_entries(self) -> Entries {
        self.numbers.into_iter().chain(self.fading)
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
        assert_eq!(subjects.intern(b"a".to_vec()), Some(0));
        assert_eq!(subjects.intern(b"b".to_vec()), Some(1));
        assert_eq!(subjects.intern(b"a".to_vec()), Some(0));
        assert_eq!(subjects.intern(Vec::new()), Some(2));
    }

    /// Decisions are found by these numbers: one that meant two subjects would give one the decisions of the other.
    #[test]
    fn a_full_table_begins_anew_and_gives_no_number_twice() {
        let mut subjects = Subjects::new(2, 1 << 20);
        assert_eq!(subjects.intern(b"a".to_vec()), Some(0));
        assert_eq!(subjects.intern(b"b".to_vec()), Some(1));
        assert_eq!(subjects.intern(b"b".to_vec()), Some(1), "at the limit, what is known stays");
        assert_eq!(subjects.intern(b"c".to_vec()), Some(2));
        assert_eq!((subjects.numbers.len(), subjects.bytes), (1, 1 + ENTRY_BYTES));
        assert_eq!(subjects.intern(b"a".to_vec()), Some(3), "forgotten, and another number now");
    }

    #[test]
    fn bytes_are_bounded_too() {
        let mut subjects = Subjects::new(1000, 2 * (100 + ENTRY_BYTES));
        assert_eq!(subjects.intern(vec![1; 100]), Some(0));
        assert_eq!(subjects.intern(vec![2; 100]), Some(1));
        assert_eq!(subjects.intern(vec![3; 1]), Some(2));
        assert_eq!((subjects.numbers.len(), subjects.bytes), (1, 1 + ENTRY_BYTES));
        assert_eq!(subjects.intern(vec![4; 2 * (100 + ENTRY_BYTES)]), None);
    }

    #[test]
    fn a_full_table_is_let_go_of_little_by_little_and_within_the_bounds() {
        for (small, large) in [(8, 8), (8, 4000), (4000, 8)] {
            let mut subjects = Subjects::new(100, 64 << 10);
            for number in 0..1000_u32 {
                let length = if number / 100 % 2 == 0 { small } else { large };
                let mut bytes = number.to_le_bytes().to_vec();
                bytes.resize(length, 0);
                let (before, known) = (subjects.fading.len(), subjects.numbers.len());
                subjects.intern(bytes).unwrap();
                let fading: Vec<_> = subjects.fading.by_ref().collect();
                let fading_bytes: usize = fading.iter().map(|(old, _)| old.len() + ENTRY_BYTES).sum();
                assert!(fading_bytes + subjects.bytes <= subjects.bytes_max, "{small} {large}");
                assert!(fading.len() + subjects.numbers.len() <= subjects.entries_max, "{small} {large}");
                let begun_anew = subjects.numbers.len() <= known;
                assert!(!begun_anew || before == 0, "the one before has gone: {small} {large}");
                subjects.fading = fading.into_iter().collect::<HashMap<_, _>>().into_iter();
            }
        }
    }

    #[test]
    fn a_mark_serves_all_policies_of_a_route() {
        let tables: Vec<Subjects> = (0..10).map(|_| Subjects::new(8, 1 << 10)).collect();
        let mut mark = SubjectMark::default();
        for (number, subjects) in tables.iter().enumerate() {
            assert_eq!(subjects.remembered(&mark), None);
            mark.remember(&subjects.id, number as u64);
        }
        let remembered: Vec<_> = tables.iter().map(|subjects| subjects.remembered(&mark)).collect();
        assert_eq!(remembered[0], None, "the oldest goes");
        assert!((1..10).all(|number| remembered[number] == Some(number as u64)), "{remembered:?}");
        mark.remember(&tables[1].id, 77);
        assert_eq!((tables[1].remembered(&mark), tables[2].remembered(&mark)), (Some(77), Some(2)));
    }
}
