//! How the endpoints of a cluster are checked.

use std::ops::RangeInclusive;
use std::time::Duration;

/// How the endpoints of a cluster are checked, and what follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    /// What is asked.
    pub probe: Probe,
    /// From the end of a check to the next one.
    pub interval: Duration,
    /// How long a check may take.
    pub timeout: Duration,
    /// After how many passed checks in a row an unhealthy endpoint is healthy.
    pub healthy_threshold: u32,
    /// After how many failed checks in a row a healthy endpoint is unhealthy.
    pub unhealthy_threshold: u32,
    /// Below how many percent of healthy endpoints all are used; 0 for never.
    pub panic_threshold: u32,
    /// Its connections begin with a header of the PROXY protocol, version 2, which says that they are nobody's.
    pub sends_proxy_protocol: bool,
}

/// What a check asks an endpoint. Two that are equal find out the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Probe {
    /// `GET` of a path.
    Http {
        /// By HTTP/2 with prior knowledge.
        http2: bool,
        /// The path, with its query.
        target: String,
        /// The host that is asked for; `None` for the address of the endpoint.
        host: Option<String>,
        /// Statuses that pass.
        expect: Vec<RangeInclusive<u16>>,
    },
    /// `grpc.health.v1.Health/Check`.
    Grpc {
        /// The service; empty for the whole server.
        service: String,
        /// The host that is asked for; `None` for the address of the endpoint.
        host: Option<String>,
    },
    /// A connection.
    Tcp,
}
