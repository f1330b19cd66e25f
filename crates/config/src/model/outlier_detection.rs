//! When endpoints that fail requests get none for a while.

use std::ops::RangeInclusive;
use std::time::Duration;

/// When an endpoint that fails requests is ejected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutlierDetection {
    /// After how many failures in a row, on the whole node; at least 1.
    pub consecutive_failures: u32,
    /// Statuses of responses that are failures.
    pub statuses: Vec<RangeInclusive<u16>>,
    /// For how long, the first time.
    pub ejection_time: Duration,
    /// For how long at most.
    pub ejection_time_max: Duration,
    /// Of the endpoints, how many at a time.
    pub ejected_percent_max: u32,
}
