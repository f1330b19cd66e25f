//! A rate with room for a burst: the generic cell rate algorithm (ITU-T I.371), which needs one word for what was spent.

use std::{num::NonZeroU32, time::Duration};

/// So many in a period: as many at once, then one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rate {
    /// Nanoseconds from one to the next.
    interval: u64,
    /// Nanoseconds by which they may come early.
    burst: u64,
}

/// Who takes of a rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Claim {
    /// May take everything.
    Whole,
    /// Leaves a quarter of the burst to others.
    Rest,
}

impl Rate {
    /// The share of one of `workers` in a limit that is for all of them. Shares add up to the limit, but each may begin with one
    /// at least.
    pub(crate) fn share(limit: NonZeroU32, period: Duration, workers: usize) -> Rate {
        let period = nanos(period);
        let interval = period.saturating_mul(workers.max(1) as u64) / u64::from(limit.get());
        Rate { interval, burst: period.max(interval) }
    }

    /// Takes one, if there is one. `spent` is the moment at which nothing will be owed any more; times are in nanoseconds.
    pub(crate) fn take(self, spent: &mut u64, now: u64, claim: Claim) -> bool {
        let allowed = match claim {
            Claim::Whole => self.burst,
            Claim::Rest => (self.burst - self.burst / 4).max(self.interval),
        };
        let after = (*spent).max(now).saturating_add(self.interval);
        let fits = after - now <= allowed;
        if fits {
            *spent = after;
        }
        fits
    }

    /// Takes one that has been used already, if need be of those to come.
    pub(crate) fn charge(self, spent: &mut u64, now: u64) {
        let after = (*spent).max(now).saturating_add(self.interval);
        // What is owed has an end, or it would be owed for hours.
        *spent = after.min(now.saturating_add(self.burst).saturating_add(self.interval));
    }

    /// Whether more was charged than there is.
    pub(crate) fn is_overdrawn(self, spent: u64, now: u64) -> bool {
        spent.saturating_sub(now) > self.burst
    }
}

/// Durations here are of hours at most.
pub(super) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn per_second(limit: u32, workers: usize) -> Rate {
        Rate::share(NonZeroU32::new(limit).unwrap(), Duration::from_secs(1), workers)
    }

    /// How many of a flood pass from the beginning to `end`, a thousand tries per second.
    fn passed(rate: Rate, end: u64, claim: Claim) -> u64 {
        let mut spent = 0;
        (0..end / (SECOND / 1000)).filter(|try_| rate.take(&mut spent, try_ * (SECOND / 1000), claim)).count()
            as u64
    }

    #[test]
    fn as_many_as_the_limit_at_once_and_then_evenly() {
        let rate = per_second(10, 1);
        let mut spent = 0;
        assert_eq!((0..100).filter(|_| rate.take(&mut spent, 0, Claim::Whole)).count(), 10);
        assert!(!rate.take(&mut spent, SECOND / 10 - 1, Claim::Whole));
        assert!(rate.take(&mut spent, SECOND / 10, Claim::Whole));
        assert_eq!((0..100).filter(|_| rate.take(&mut spent, 60 * SECOND, Claim::Whole)).count(), 10);
    }

    #[test]
    fn a_quarter_is_left_to_those_who_may_take_all() {
        let rate = per_second(100, 1);
        let mut spent = 0;
        assert_eq!((0..1000).filter(|_| rate.take(&mut spent, 0, Claim::Rest)).count(), 75);
        assert_eq!((0..1000).filter(|_| rate.take(&mut spent, 0, Claim::Whole)).count(), 25);
        // Who has only the rest is not shut out by a small limit.
        assert!(per_second(1, 1).take(&mut 0, 0, Claim::Rest));
    }

    /// The error bound that the documentation states.
    #[test]
    fn shares_of_workers_add_up_to_the_limit() {
        for (limit, workers) in [(1, 1), (1, 16), (7, 4), (10, 3), (100, 64), (500, 2)] {
            let rate = per_second(limit, workers);
            let seconds = 20;
            let all = passed(rate, seconds * SECOND, Claim::Whole) * workers as u64;
            let most = u64::from(limit) * (seconds + 1) + workers as u64;
            assert!(all <= most, "{limit} by {workers}: {all} of at most {most}");
            let least = (u64::from(limit) * seconds).saturating_sub(workers as u64);
            assert!(all >= least, "{limit} by {workers}: {all} of at least {least}");
        }
    }

    #[test]
    fn what_is_charged_is_owed_for_a_while() {
        let rate = per_second(10, 1);
        let mut spent = 0;
        (0..1000).for_each(|_| rate.charge(&mut spent, 0));
        assert!(!rate.take(&mut spent, SECOND / 10, Claim::Whole));
        assert!(rate.take(&mut spent, SECOND / 5, Claim::Whole), "but not for ever");
    }
}
