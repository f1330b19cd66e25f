//! `requests` of `[[listener]]`, as it is written.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Count, DurationText, Field};

/// `requests = { ... }` of a listener: how many requests may be in work at the same time, and how many wait for that.
///
/// A request counts from its head to the end of its response, and a tunnel until it is open. What Ringward answers itself
/// (`respond`, `redirect`, preflights, 404 and the like) does not count and never waits. A request that waits has read nothing of
/// its body, and its `request_timeout` or `grpc-timeout` goes on. What is above is answered with 503 and `Retry-After` at once.
///
/// Numbers are for all workers together. Each worker holds to its equal share, rounded up.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename = "requests", default, deny_unknown_fields)]
pub struct Requests {
    /// How many requests may be in work at the same time.
    ///
    /// Required; 1 to 1000000. Example: `concurrent_max = 2000`.
    pub concurrent_max: Field<Count>,
    /// How many requests may wait for that, in order. More are answered with 503 (`request_queue_full`).
    ///
    /// Default 1024; 0 to 1000000, where 0 lets nobody wait. Example: `queue_max = 200`.
    pub queue_max: Field<Count>,
    /// How long a request may wait before it is answered with 503 (`request_queue_timeout`).
    ///
    /// Default `"1s"`; `"10ms"` to `"1m"`. Example: `queue_timeout = "250ms"`.
    pub queue_timeout: Field<DurationText>,
}
