//! When something is fetched the next time: before it ends, not all at the same moment, and ever more rarely while it fails.
//!
//! Pure: the caller brings the time and the dice. Times are seconds since 1970, since that is what is signed; whoever waits
//! looks again every now and then, so a clock that is set does no harm for long.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::time::Duration;

/// From when until when something signed is said to hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Validity {
    /// thisUpdate.
    pub(crate) this_update_unix: i64,
    /// nextUpdate.
    pub(crate) next_update_unix: i64,
}

/// When something is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Due {
    at_unix: i64,
    set_unix: i64,
}

/// How often something failed in a row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Backoff {
    failures: u32,
}

impl Due {
    /// At this time, as was decided at `now_unix`.
    pub(crate) fn at(at_unix: i64, now_unix: i64) -> Due {
        Due { at_unix, set_unix: now_unix }
    }

    /// At this time, if that is sooner.
    pub(crate) fn or_at(self, at_unix: i64, now_unix: i64) -> Due {
        if self.at_unix <= at_unix { self } else { Due::at(at_unix, now_unix) }
    }

    /// Whether it is time. Also if the clock was put back since: what was decided by the wrong time is of no use.
    pub(crate) fn is_reached(self, now_unix: i64) -> bool {
        now_unix >= self.at_unix || now_unix < self.set_unix.saturating_sub(CLOCK_JITTER)
    }

    /// When, in seconds since 1970.
    pub(crate) fn unix(self) -> i64 {
        self.at_unix
    }
}

impl Validity {
    fn life(self) -> i64 {
        self.next_update_unix.saturating_sub(self.this_update_unix).max(0)
    }

    /// Whether less than a quarter of the life is left: several attempts must have failed by then.
    pub(crate) fn is_running_out(self, now_unix: i64) -> bool {
        self.next_update_unix.saturating_sub(now_unix).saturating_mul(4) < self.life()
    }

    /// When a revocation list is fetched again: after `every`, or a margin before its nextUpdate if that is sooner. A list
    /// that is past that point was not replaced in time by its CA, and is asked for more often. `roll` is from 0 to 1.
    pub(crate) fn list_due(self, now_unix: i64, every: Duration, roll: f64) -> i64 {
        let every = seconds(every);
        let margin = (self.life() / 10).clamp(MARGIN_MIN, MARGIN_MAX);
        let left = self.next_update_unix.saturating_sub(margin).saturating_sub(now_unix);
        let wait = if left > 0 { every.min(left) } else { every.min((margin / 2).clamp(LATE_MIN, LATE_MAX)) };
        now_unix.saturating_add(earlier(wait, roll))
    }

    /// When an OCSP response is fetched again: at half of its life, so that half of it is left for failures; not more often
    /// than every five minutes unless it would end before.
    pub(crate) fn response_due(self, now_unix: i64, roll: f64) -> i64 {
        let left = self.next_update_unix.saturating_sub(now_unix);
        let to_half = left.saturating_sub(self.life() / 2);
        let wait = to_half.max(RESPONSE_PAUSE.min(left / 2)).max(RESPONSE_PAUSE_MIN);
        now_unix.saturating_add(earlier(wait, roll))
    }
}

impl Backoff {
    /// It worked.
    pub(crate) fn succeeded(&mut self) {
        self.failures = 0;
    }

    /// It failed: when it is tried again. Never sooner than the server asked for, otherwise within `longest`. `roll` is
    /// from 0 to 1.
    pub(crate) fn failed(
        &mut self,
        now_unix: i64,
        longest: Duration,
        asked: Option<Duration>,
        roll: f64,
    ) -> i64 {
        let doubled = RETRY_FIRST << self.failures.min(RETRY_DOUBLINGS);
        self.failures = self.failures.saturating_add(1);
        let wait = doubled.min(seconds(longest).max(RETRY_FIRST));
        // Half of it is random: those who failed together do not come back together.
        let wait = wait - scaled(wait / 2, roll);
        now_unix.saturating_add(wait.max(asked.map_or(0, seconds)))
    }
}

/// From 0 to 1. Good for spreading load, and for nothing else.
pub(crate) fn roll() -> f64 {
    f64::from(RandomState::new().build_hasher().finish() as u32) / f64::from(u32::MAX)
}

/// Up to a tenth sooner: later could be too late.
fn earlier(wait: i64, roll: f64) -> i64 {
    wait - scaled(wait / 10, roll)
}

fn scaled(span: i64, roll: f64) -> i64 {
    (span as f64 * roll.clamp(0.0, 1.0)) as i64
}

fn seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}

/// Clocks are steered back and forth by less than this.
const CLOCK_JITTER: i64 = 60;
/// Before nextUpdate of a list: a tenth of its life, within these.
const MARGIN_MIN: i64 = 60;
const MARGIN_MAX: i64 = 3600;
/// Between attempts to get the successor of a list that is late.
const LATE_MIN: i64 = 30;
const LATE_MAX: i64 = 600;
/// Responders produce responses in batches; asking more often yields the same one.
const RESPONSE_PAUSE: i64 = 300;
const RESPONSE_PAUSE_MIN: i64 = 30;
/// The first retry comes after five to ten seconds.
const RETRY_FIRST: i64 = 10;
/// 10 s · 2^10 is beyond any cap in use.
const RETRY_DOUBLINGS: u32 = 10;

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3600;
    const DAY: i64 = 24 * HOUR;

    fn validity(this_update_unix: i64, next_update_unix: i64) -> Validity {
        Validity { this_update_unix, next_update_unix }
    }

    fn hours(hours: u64) -> Duration {
        Duration::from_secs(hours * 3600)
    }

    #[test]
    fn a_list_is_fetched_at_the_interval_and_before_its_end() {
        let week = validity(0, 7 * DAY);
        let table = [
            // (now, every, due)
            (0, hours(1), HOUR),
            (0, hours(24), DAY),
            // The margin is an hour: whichever is sooner.
            (7 * DAY - 90 * 60, hours(24), 7 * DAY - HOUR),
            (7 * DAY - 90 * 60, Duration::from_secs(60), 7 * DAY - 90 * 60 + 60),
            // Within the margin, and after the end: every ten minutes.
            (7 * DAY - HOUR, hours(24), 7 * DAY - HOUR + 600),
            (8 * DAY, hours(24), 8 * DAY + 600),
            (8 * DAY, Duration::from_secs(60), 8 * DAY + 60),
        ];
        for (now, every, due) in table {
            assert_eq!(week.list_due(now, every, 0.0), due, "{now}");
        }
        // A life of ten minutes: a minute of margin, then every half minute.
        assert_eq!(validity(0, 600).list_due(0, hours(1), 0.0), 540);
        assert_eq!(validity(0, 600).list_due(540, hours(1), 0.0), 570);
    }

    #[test]
    fn dice_make_it_sooner_and_never_later() {
        let week = validity(0, 7 * DAY);
        assert_eq!(week.list_due(0, hours(1), 1.0), HOUR - 360);
        assert_eq!(week.list_due(0, hours(1), 0.5), HOUR - 180);
        assert_eq!(week.response_due(0, 1.0), 7 * DAY / 2 - 7 * DAY / 20);
    }

    #[test]
    fn a_response_is_fetched_at_half_of_its_life() {
        let day = validity(0, DAY);
        let table = [
            (0, DAY / 2),
            (HOUR, DAY / 2),
            (DAY / 2, DAY / 2 + 300),
            (DAY - 200, DAY - 100),
            (DAY + 5, DAY + 35),
        ];
        for (now, due) in table {
            assert_eq!(day.response_due(now, 0.0), due, "{now}");
        }
        // A life of two minutes.
        assert_eq!(validity(0, 120).response_due(0, 0.0), 60);
    }

    #[test]
    fn failures_are_repeated_ever_more_rarely() {
        let mut backoff = Backoff::default();
        let waits: Vec<i64> =
            (0..8).map(|_| backoff.failed(0, Duration::from_secs(300), None, 0.0)).collect();
        assert_eq!(waits, [10, 20, 40, 80, 160, 300, 300, 300]);
        assert_eq!(backoff.failures, 8);
        assert_eq!(backoff.failed(0, Duration::from_secs(300), None, 1.0), 150);
        assert_eq!(backoff.failed(0, Duration::from_secs(300), Some(hours(1)), 1.0), HOUR);
        backoff.succeeded();
        assert_eq!(backoff.failed(100, Duration::from_secs(300), None, 0.0), 110);
        for _ in 0..100 {
            assert!(backoff.failed(0, Duration::MAX, None, 0.0) <= RETRY_FIRST << RETRY_DOUBLINGS);
        }
    }

    #[test]
    fn a_clock_that_is_put_back_delays_nothing() {
        let due = Due::at(DAY + HOUR, DAY);
        let table = [
            (DAY, false),
            (DAY + HOUR - 1, false),
            (DAY + HOUR, true),
            (DAY - 60, false),
            (DAY - 61, true),
            (0, true),
        ];
        for (now, reached) in table {
            assert_eq!(due.is_reached(now), reached, "{now}");
        }
        assert_eq!(due.or_at(DAY + 5, DAY + 1).unix(), DAY + 5);
        assert_eq!(due.or_at(DAY + HOUR + 5, DAY + 1), due);
    }

    #[test]
    fn the_last_quarter_is_an_alarm() {
        let day = validity(0, DAY);
        assert!(!day.is_running_out(DAY / 4 * 3));
        assert!(day.is_running_out(DAY / 4 * 3 + 1));
        assert!(day.is_running_out(DAY + 1));
    }

    #[test]
    fn no_time_is_too_odd() {
        for odd in
            [validity(i64::MIN, i64::MAX), validity(i64::MAX, i64::MIN), validity(0, 0), validity(DAY, 0)]
        {
            for now in [i64::MIN, 0, DAY, i64::MAX] {
                assert!(odd.list_due(now, Duration::MAX, 1.0) >= now);
                assert!(odd.response_due(now, 1.0) >= now);
                odd.is_running_out(now);
            }
        }
    }

    #[test]
    fn dice_fall_everywhere() {
        let rolls: Vec<f64> = (0..1000).map(|_| roll()).collect();
        assert!(rolls.iter().all(|roll| (0.0..=1.0).contains(roll)));
        assert!((0..10).all(|tenth| rolls.iter().any(|roll| (roll * 10.0) as u32 == tenth)));
    }
}
