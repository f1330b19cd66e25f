//! For how long an endpoint that fails requests gets none.
//!
//! Pure: verdicts come in, times go out.

use std::time::Duration;

use ringward_config::OutlierDetection;
use tokio::time::Instant;

/// The ejections of an endpoint.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Ejection {
    /// Until when it is ejected, if it is.
    until: Option<Instant>,
    /// How many there were that are not forgotten.
    times: u32,
    /// When the last one ended.
    ended: Option<Instant>,
    /// When the log was last told that it ought to be ejected and is not.
    withheld: Option<Instant>,
}

impl Ejection {
    /// Ejects it: for how long.
    pub(super) fn begin(&mut self, rule: &OutlierDetection, now: Instant) -> Duration {
        let stood = self
            .ended
            .map_or(0, |ended| now.duration_since(ended).as_nanos() / rule.ejection_time.as_nanos().max(1));
        self.times = self.times.saturating_sub(u32::try_from(stood).unwrap_or(u32::MAX)).saturating_add(1);
        let time = rule.ejection_time.saturating_mul(self.times).min(rule.ejection_time_max);
        self.until = Some(now + time);
        time
    }

    /// It ought to be ejected, and may not be: whether the log is to be told, which it is once in [`OutlierDetection::ejection_time`].
    pub(super) fn withhold(&mut self, rule: &OutlierDetection, now: Instant) -> bool {
        let is_news = self.withheld.is_none_or(|told| now.duration_since(told) >= rule.ejection_time);
        if is_news {
            self.withheld = Some(now);
        }
        is_news
    }

    /// Lets it back if its time is over: whether that is so.
    pub(super) fn end(&mut self, now: Instant) -> bool {
        let is_over = self.until.is_some_and(|until| until <= now);
        if is_over {
            (self.until, self.ended) = (None, Some(now));
        }
        is_over
    }

    /// Until when it is ejected, if it is.
    pub(super) fn until(&self) -> Option<Instant> {
        self.until
    }
}

/// Whether one more of `endpoints` may be ejected, of which `ejected` are, and `others` without it would be left that take requests.
pub(super) fn is_allowed(rule: &OutlierDetection, endpoints: usize, ejected: usize, others: usize) -> bool {
    let percent = (ejected as u64 + 1) * 100;
    others > 0 && (ejected == 0 || percent <= u64::from(rule.ejected_percent_max) * endpoints as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule() -> OutlierDetection {
        OutlierDetection {
            consecutive_failures: 5,
            statuses: vec![502..=504],
            ejection_time: Duration::from_secs(30),
            ejection_time_max: Duration::from_secs(100),
            ejected_percent_max: 30,
        }
    }

    #[test]
    fn ejections_last_longer_each_time_and_are_forgotten_one_by_one() {
        let (rule, mut ejection, mut now) = (rule(), Ejection::default(), Instant::now());
        // How long it stands before each, and how long that lasts.
        for (stands, lasts) in
            [(0, 30), (0, 60), (29, 90), (0, 100), (0, 100), (60, 100), (119, 60), (1000, 30)]
        {
            now += Duration::from_secs(stands);
            assert_eq!(ejection.begin(&rule, now), Duration::from_secs(lasts), "after {stands} s");
            assert!(!ejection.end(now + Duration::from_secs(lasts - 1)));
            now += Duration::from_secs(lasts);
            assert!(ejection.end(now) && ejection.until().is_none());
            assert!(!ejection.end(now), "only once");
        }
    }

    #[test]
    fn what_is_withheld_is_told_once_in_a_while() {
        let (rule, mut ejection, now) = (rule(), Ejection::default(), Instant::now());
        let told = [0, 1, 29, 30, 31, 61].map(|at| ejection.withhold(&rule, now + Duration::from_secs(at)));
        assert_eq!(told, [true, false, false, true, false, true]);
    }

    #[test]
    fn some_may_always_be_ejected_but_never_all() {
        for (endpoints, ejected, others, allowed) in [
            (1, 0, 0, false),
            (2, 0, 1, true),
            (2, 0, 0, false),
            (3, 1, 1, false),
            (7, 1, 5, true),
            (10, 2, 7, true),
            (10, 3, 6, false),
        ] {
            assert_eq!(is_allowed(&rule(), endpoints, ejected, others), allowed, "{endpoints} {ejected}");
        }
    }
}
