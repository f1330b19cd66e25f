//! Counter cells: written by one worker, read by the scrape, never locked and never shared between two writers.
//!
//! A cell is a plain load, add and store on an atomic (no locked instruction), which is sound because each cell has one
//! writer; [`crate::Shard`] sees to that. All storage is aligned to [`Line`], so that two workers never write
//! to the same cache line, wherever the allocator puts them. Cells are allocated when an entity (a listener, a route)
//! is first counted and then live as long as the process, so that no count is ever lost or goes backwards.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// Two cache lines, since the prefetcher of x86 fetches them in pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Line([AtomicU64; LINE_CELLS]);

/// The cells of one entity.
#[derive(Debug)]
pub(crate) struct Block(Box<[Line]>);

impl Block {
    pub(crate) fn new(cells: usize) -> Block {
        Block((0..cells.div_ceil(LINE_CELLS)).map(|_| Line::default()).collect())
    }

    /// Adds to a cell. Only the one writer of this block may call it.
    #[inline]
    pub(crate) fn add(&self, cell: usize, amount: u64) {
        let cell = self.cell(cell);
        cell.store(cell.load(Ordering::Relaxed).wrapping_add(amount), Ordering::Relaxed);
    }

    /// Overwrites a cell. Only the one writer of this block may call it.
    #[inline]
    pub(crate) fn set(&self, cell: usize, value: u64) {
        self.cell(cell).store(value, Ordering::Relaxed);
    }

    #[inline]
    pub(crate) fn value(&self, cell: usize) -> u64 {
        self.cell(cell).load(Ordering::Relaxed)
    }

    #[inline]
    fn cell(&self, cell: usize) -> &AtomicU64 {
        &self.0[cell / LINE_CELLS].0[cell % LINE_CELLS]
    }
}

/// The blocks of one family (all routes, say) in one shard, indexed by the entity's number.
#[derive(Debug)]
pub(crate) struct Blocks {
    slots: Box<[SlotLine]>,
    entities_max: usize,
    cells_per_entity: usize,
}

/// Aligned as [`Line`] is: a slot is written once, but its neighbours on the line are read all the time.
#[derive(Debug, Default)]
#[repr(align(128))]
struct SlotLine([OnceLock<Block>; SLOTS_PER_LINE]);

impl Blocks {
    pub(crate) fn new(entities_max: usize, cells_per_entity: usize) -> Blocks {
        let lines = entities_max.div_ceil(SLOTS_PER_LINE);
        Blocks { slots: (0..lines).map(|_| SlotLine::default()).collect(), entities_max, cells_per_entity }
    }

    /// The cells of an entity, allocated on first use; those of entity 0 (`other`) above the ceiling.
    #[inline]
    pub(crate) fn entity(&self, entity: u32) -> &Block {
        let index = entity as usize;
        let index = if index < self.entities_max { index } else { 0 };
        self.slot(index).get_or_init(|| Block::new(self.cells_per_entity))
    }

    /// The cells of an entity if this shard has ever counted it.
    pub(crate) fn existing(&self, entity: u32) -> Option<&Block> {
        let index = entity as usize;
        if index < self.entities_max { self.slot(index).get() } else { None }
    }

    /// The cells of every entity that was counted.
    pub(crate) fn all_existing(&self) -> impl Iterator<Item = &Block> {
        self.slots.iter().flat_map(|line| &line.0).filter_map(OnceLock::get)
    }

    #[inline]
    fn slot(&self, index: usize) -> &OnceLock<Block> {
        &self.slots[index / SLOTS_PER_LINE].0[index % SLOTS_PER_LINE]
    }
}

const LINE_CELLS: usize = 16;
/// A slot takes three words, so that four leave no more than a quarter of the line unused.
const SLOTS_PER_LINE: usize = 4;
const _: () = assert!(size_of::<SlotLine>() == 128 && size_of::<Line>() == 128);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_blocks_share_a_cache_line() {
        let blocks: Vec<Block> = (0..64).map(|_| Block::new(3)).collect();
        for block in &blocks {
            assert_eq!(std::ptr::from_ref(block.cell(0)).addr() % 128, 0);
            assert_eq!(size_of_val(&*block.0) % 128, 0);
        }
        let family = Blocks::new(1, 1);
        assert_eq!(family.slots.as_ptr().addr() % 128, 0);
        assert_eq!(size_of_val(&*family.slots) % 128, 0);
    }

    #[test]
    fn cells_are_independent_and_start_at_zero() {
        let block = Block::new(40);
        block.add(0, 1);
        block.add(39, 7);
        block.add(39, 2);
        block.set(16, 5);
        let values: Vec<u64> = (0..40).map(|cell| block.value(cell)).collect();
        assert_eq!(values.iter().sum::<u64>(), 15);
        assert_eq!((values[0], values[16], values[39]), (1, 5, 9));
    }

    #[test]
    fn entities_above_the_ceiling_share_the_cells_of_entity_zero() {
        let family = Blocks::new(5, 1);
        family.entity(4).add(0, 1);
        assert!(family.existing(0).is_none(), "nothing was counted as other yet");
        family.entity(5).add(0, 10);
        family.entity(u32::MAX).add(0, 100);
        assert_eq!(family.existing(0).unwrap().value(0), 110);
        assert_eq!(family.existing(4).unwrap().value(0), 1);
        assert!(family.existing(5).is_none());
    }
}
