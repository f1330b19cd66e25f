//! Histogram cells: where the samples of one histogram lie in a block, how they are recorded and how they are folded.
//!
//! A sample costs the search for its bucket and three cells. The sum is kept in whole microseconds plus a remainder
//! that is carried over, so that nothing is lost to rounding and nothing wraps: nanoseconds in 64 bits would, after
//! three weeks of ten thousand exchanges held open at a time.

use crate::cells::Block;

/// Place of a histogram in a block.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Histogram {
    bounds: &'static [u64],
    first: usize,
}

impl Histogram {
    /// `bounds` are ascending upper bounds in nanoseconds, inclusive as Prometheus wants them.
    pub(crate) const fn new(bounds: &'static [u64], first: usize) -> Histogram {
        Histogram { bounds, first }
    }

    /// Cells taken: one per bucket, one for what lies above, two for the sum.
    pub(crate) const fn cells(bounds: &[u64]) -> usize {
        bounds.len() + 1 + 2
    }

    #[inline]
    pub(crate) fn record(&self, block: &Block, duration_ns: u64) {
        let bucket = self.bounds.partition_point(|bound| *bound < duration_ns);
        block.add(self.first + bucket, 1);
        let remainder = self.remainder_cell();
        let ns = block.value(remainder).saturating_add(duration_ns);
        block.set(remainder, ns % NS_PER_US);
        block.add(self.sum_cell(), ns / NS_PER_US);
    }

    /// Adds what one block holds to `folded`.
    pub(crate) fn fold(&self, block: &Block, folded: &mut Folded) {
        for (bucket, count) in folded.buckets.iter_mut().enumerate() {
            *count += block.value(self.first + bucket);
        }
        folded.sum_us += block.value(self.sum_cell());
    }

    pub(crate) fn empty(&self) -> Folded {
        Folded { bounds: self.bounds, buckets: vec![0; self.bounds.len() + 1], sum_us: 0 }
    }

    const fn sum_cell(&self) -> usize {
        self.first + self.bounds.len() + 1
    }

    const fn remainder_cell(&self) -> usize {
        self.sum_cell() + 1
    }
}

/// A histogram summed over shards.
#[derive(Debug)]
pub(crate) struct Folded {
    bounds: &'static [u64],
    buckets: Vec<u64>,
    sum_us: u64,
}

impl Folded {
    /// Upper bound in seconds and cumulative count of each bucket but the last.
    pub(crate) fn cumulative(&self) -> impl Iterator<Item = (f64, u64)> {
        let counts = self.buckets.iter().scan(0, |total, count| {
            *total += count;
            Some(*total)
        });
        self.bounds.iter().map(|bound| *bound as f64 / NS_PER_S).zip(counts)
    }

    /// Samples in all buckets.
    pub(crate) fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// How many series this makes: each bucket, the sum and the count.
    pub(crate) fn series(&self) -> usize {
        self.buckets.len() + 2
    }

    /// Sum of all samples, rounded down to microseconds once per shard.
    pub(crate) fn sum_seconds(&self) -> f64 {
        self.sum_us as f64 / US_PER_S
    }
}

const NS_PER_US: u64 = 1_000;
const NS_PER_S: f64 = 1e9;
const US_PER_S: f64 = 1e6;

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: &[u64] = &[1_000, 2_000, 4_000];

    fn recorded(samples: &[u64]) -> Folded {
        let histogram = Histogram::new(BOUNDS, 2);
        let block = Block::new(2 + Histogram::cells(BOUNDS));
        for sample in samples {
            histogram.record(&block, *sample);
        }
        assert_eq!((block.value(0), block.value(1)), (0, 0), "cells in front are untouched");
        let mut folded = histogram.empty();
        histogram.fold(&block, &mut folded);
        folded
    }

    #[test]
    fn bounds_are_inclusive_and_counts_cumulative() {
        let folded = recorded(&[0, 1_000, 1_001, 2_000, 4_000, 4_001, u64::from(u32::MAX)]);
        let cumulative: Vec<(f64, u64)> = folded.cumulative().collect();
        assert_eq!(cumulative, [(1e-6, 2), (2e-6, 4), (4e-6, 5)]);
        assert_eq!(folded.count(), 7);
    }

    #[test]
    fn the_sum_loses_nothing_to_rounding() {
        // 1000 samples of 1.999 us: rounding each down would lose half of the sum.
        let folded = recorded(&[1_999; 1_000]);
        assert_eq!(folded.sum_us, 1_999);
        assert_eq!(folded.sum_seconds(), 0.001_999);
    }

    #[test]
    fn absurd_durations_do_not_break_the_sum() {
        let folded = recorded(&[1_999, u64::MAX, u64::MAX]);
        assert_eq!(folded.count(), 3);
        assert_eq!(folded.sum_us, 1 + 2 * (u64::MAX / NS_PER_US));
    }
}
