//! `health_check` of `[cluster.NAME]`, as it is written.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Count, DurationText, Field, OneOrMany};

/// `health_check = { ... }` of `[cluster.NAME]`: how it is found out which endpoints can take requests. The process asks each
/// endpoint for itself, on a connection that is made for each check, once for all workers. Exactly one of `http`, `grpc`
/// and `tcp` says what is asked.
///
/// An endpoint that nobody has looked at yet counts as healthy, so that a cluster serves from its first moment. The first
/// check decides alone; after that it takes as many in a row as the thresholds say. An endpoint that a reload adds to a cluster
/// with a healthy one gets requests only after it has passed its first check. What is known of an endpoint outlives reloads
/// that keep `http`, `grpc`, `tcp`, `host` and `expect` as they are.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename = "cluster.health_check", default, deny_unknown_fields)]
pub struct HealthCheck {
    /// Asks `GET` for this path, with its query if there is one, by the cluster's `protocol`. The status decides (`expect`); the
    /// body is not read.
    ///
    /// Required unless there is `grpc` or `tcp`. Example: `http = "/healthz"`.
    pub http: Field<String>,
    /// Asks `grpc.health.v1.Health/Check` for this service, or for the whole server if the name is empty. Only `SERVING` passes,
    /// and a server that does not know the service, or has no health service, fails. Needs `protocol = "http2"`.
    ///
    /// Required unless there is `http` or `tcp`. Example: `grpc = "orders.v1.Orders"`.
    pub grpc: Field<String>,
    /// Connects, and passes as soon as the connection is there. `true` is the only value.
    ///
    /// Required unless there is `http` or `grpc`. Example: `tcp = true`.
    pub tcp: Field<bool>,
    /// The host that is asked for, with its port if that is not the usual one; for `http` and `grpc`.
    ///
    /// Default: address and port of the endpoint. Example: `host = "orders.internal"`.
    pub host: Field<String>,
    /// The statuses with which a check by `http` passes: numbers, or ranges of them, from 200 on.
    ///
    /// Default `"200-299"`; 1 to 16. Example: `expect = ["200-299", "401"]`.
    pub expect: Field<OneOrMany>,
    /// The pause from the end of a check to the next one of the same endpoint. Each is up to a tenth longer or shorter, by chance,
    /// so that several nodes do not ask at the same moment.
    ///
    /// Default `"5s"`; `"100ms"` to `"1h"`. Example: `interval = "10s"`.
    pub interval: Field<DurationText>,
    /// How long a check may take, from connecting to the answer.
    ///
    /// Default `"1s"`; `"10ms"` to `"1m"`. Example: `timeout = "300ms"`.
    pub timeout: Field<DurationText>,
    /// How many checks in a row an unhealthy endpoint has to pass to be healthy again.
    ///
    /// Default 2; 1 to 100. Example: `healthy_threshold = 1`.
    pub healthy_threshold: Field<Count>,
    /// How many checks in a row a healthy endpoint has to fail to be unhealthy.
    ///
    /// Default 3; 1 to 100. Example: `unhealthy_threshold = 2`.
    pub unhealthy_threshold: Field<Count>,
}
