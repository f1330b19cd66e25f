//! When a request is sent again, and how many requests there are at a time.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::routes::Method;

/// When a request that failed is sent again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retry {
    /// When no endpoint could be connected to.
    pub connect_failure: bool,
    /// When the connection or stream ended before anything of a response.
    pub reset: bool,
    /// When the upstream says that it has not processed it.
    pub refused_stream: bool,
    /// When nothing of a response came in time.
    pub timeout: bool,
    /// Statuses of responses that are asked for again.
    pub statuses: Vec<RangeInclusive<u16>>,
    /// How many tries there are altogether; at least 2.
    pub attempts: u8,
    /// How long each may take; none for as long as the upstream may be silent.
    pub per_try_timeout: Option<Duration>,
    /// Methods of requests on which an endpoint may have acted.
    pub methods: Vec<Method>,
    /// The first pause.
    pub backoff: Duration,
}

/// How many requests a cluster has at once, on the whole node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClusterLimits {
    /// Under way.
    pub requests_max: usize,
    /// That wait to be.
    pub pending_max: usize,
    /// For so long.
    pub pending_timeout: Duration,
}

/// How many requests of a cluster are being tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryBudget {
    /// Of the requests under way, in percent.
    pub percent: u32,
    /// Beside those.
    pub per_second: u32,
}
