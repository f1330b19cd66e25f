//! A token bucket. It reads no clock: whoever asks says what time it is.

use std::time::Duration;

/// Lets `burst` through at once and `per_second` in the long run.
#[derive(Debug)]
pub(crate) struct TokenBucket {
    per_second: f64,
    burst: f64,
    tokens: f64,
    refilled_at: Duration,
}

impl TokenBucket {
    /// A full bucket.
    pub(crate) fn new(per_second: u32, burst: u32) -> TokenBucket {
        TokenBucket {
            per_second: f64::from(per_second),
            burst: f64::from(burst),
            tokens: f64::from(burst),
            refilled_at: Duration::ZERO,
        }
    }

    /// Takes a token, if there is one. `now` counts from any fixed moment; a clock that steps back refills nothing.
    pub(crate) fn take(&mut self, now: Duration) -> bool {
        if let Some(passed) = now.checked_sub(self.refilled_at) {
            self.tokens = (self.tokens + passed.as_secs_f64() * self.per_second).min(self.burst);
            self.refilled_at = now;
        }
        if self.tokens < 1.0 {
            return false;
        }
        self.tokens -= 1.0;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(bucket: &mut TokenBucket, now: Duration) -> usize {
        (0..100).take_while(|_| bucket.take(now)).count()
    }

    #[test]
    fn the_burst_goes_first_and_the_rate_holds_afterwards() {
        let mut bucket = TokenBucket::new(2, 5);
        assert_eq!(taken(&mut bucket, Duration::ZERO), 5);
        assert_eq!(taken(&mut bucket, Duration::from_millis(499)), 0);
        assert_eq!(taken(&mut bucket, Duration::from_millis(500)), 1);
        assert_eq!(taken(&mut bucket, Duration::from_millis(2_500)), 4);
        assert_eq!(taken(&mut bucket, Duration::from_secs(3_600)), 5, "never more than the burst");
    }

    #[test]
    fn a_clock_that_steps_back_refills_nothing() {
        let mut bucket = TokenBucket::new(1, 1);
        assert!(bucket.take(Duration::from_secs(10)));
        assert!(!bucket.take(Duration::from_secs(5)));
        assert!(!bucket.take(Duration::from_secs(10)));
        assert!(bucket.take(Duration::from_secs(11)));
    }

    #[test]
    fn a_bucket_without_burst_lets_nothing_through() {
        let mut bucket = TokenBucket::new(100, 0);
        assert!(!bucket.take(Duration::from_secs(100)));
    }
}
