//! `retry` of routes and hosts, and `retry_budget` of clusters.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Count, DurationText, Field, OneOrMany};

/// `retry = { ... }` of a route or a host: when a request that failed is sent again.
///
/// Nothing is sent again of which the client has got a part of the response, and nothing with a body that is not there whole with
/// the request's head, or is larger than 16 KiB. What was decided about the request is asked again if the configuration changed
/// meanwhile. Without `retry`, and beside it, two things are so: of endpoints that cannot be connected to the others are tried, each
/// once; and a request is sent once more if the upstream says that it has not processed it, or if the kept connection that it
/// took has died and its method is idempotent.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename = "retry", default, deny_unknown_fields)]
pub struct Retry {
    /// What failures are tried again, beside the statuses in `status`.
    ///
    /// Default `["connect_failure", "reset_before_response", "refused_stream"]`. Example: `on = ["connect_failure", "timeout"]`.
    pub on: Field<Vec<Field<RetryOn>>>,
    /// The statuses of responses that are dropped and asked for again: numbers, or ranges of them, from 400 on. The last try's
    /// response is passed on whatever it is.
    ///
    /// Default: none; 1 to 16. Example: `status = ["502-504"]`.
    pub status: Field<OneOrMany>,
    /// How many tries a request has altogether, the first one included.
    ///
    /// Default 2; 2 to 10. Example: `attempts = 3`.
    pub attempts: Field<Count>,
    /// How long each try may take from the end of the request to the head of the response, if that is less than
    /// `response_timeout`. Of a request whose body streams `response_timeout` counts. All tries together, with the pauses between
    /// them, are bounded by `request_timeout`.
    ///
    /// Default: `response_timeout`; `"1ms"` to `"1d"`. Example: `per_try_timeout = "2s"`.
    pub per_try_timeout: Field<DurationText>,
    /// The methods of requests that are tried again although an endpoint may have acted on them, of `GET`, `HEAD`, `OPTIONS`, `TRACE`,
    /// `PUT` and `DELETE`, which mean the same once and twice. After `connect_failure` and `refused_stream` the method does not matter.
    ///
    /// Default: all of them. Example: `methods = ["GET", "HEAD"]`.
    pub methods: Field<OneOrMany>,
    /// Other methods of requests that are tried again although an endpoint may have acted on them, so that it may act twice.
    ///
    /// Default: none. Example: `danger_methods = ["POST"]`.
    pub danger_methods: Field<OneOrMany>,
    /// The pause before the second try; before each further one it is twice as long, up to ten times this. Each is shortened by up to
    /// a half, by chance.
    ///
    /// Default `"25ms"`; `"1ms"` to `"10s"`. Example: `backoff = "100ms"`.
    pub backoff: Field<DurationText>,
}

/// Values of `on` in `retry`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename = "retry.on", rename_all = "snake_case")]
pub enum RetryOn {
    /// No endpoint could be connected to; each was tried once.
    ConnectFailure,
    /// The connection ended, or the stream was reset, before anything of a response came.
    ResetBeforeResponse,
    /// The upstream says that it has not processed the request (`REFUSED_STREAM`, or `GOAWAY` of HTTP/2).
    RefusedStream,
    /// Nothing of a response came within `per_try_timeout` or `response_timeout`.
    Timeout,
}

/// `retry_budget = { ... }` of `[cluster.NAME]`: how many requests are being tried again at a time, so that retries do not make
/// of an upstream with trouble one that is overrun. What is above goes without another try.
///
/// Each worker has its share and counts its own requests: on the whole node retries are above `percent` by at most one per worker,
/// and fewer than `per_second` where the failures come to few workers.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename = "retry_budget", default, deny_unknown_fields)]
pub struct RetryBudget {
    /// How many percent of the cluster's requests under way may be retries.
    ///
    /// Default 20; 0 to 100. Example: `percent = 10`.
    pub percent: Field<Count>,
    /// How many retries per second there may be beside those. What is not used is saved for up to ten seconds.
    ///
    /// Default 10; 0 to 1000000. Example: `per_second = 100`.
    pub per_second: Field<Count>,
}
