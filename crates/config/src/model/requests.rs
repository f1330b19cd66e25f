//! How many requests a listener has in work.

use std::time::Duration;

/// Limits of requests, over all workers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requests {
    /// Requests in work at the same time; at least 1.
    pub concurrent_max: usize,
    /// Requests that may wait for that.
    pub queue_max: usize,
    /// How long one may wait.
    pub queue_timeout: Duration,
}
