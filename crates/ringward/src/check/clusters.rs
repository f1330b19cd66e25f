//! The clusters of a configuration, for its summary.

use std::fmt;

use ringward_config::{Cluster, HealthCheck, Probe, Protocol};
use serde::Serialize;

/// A cluster, for people and scripts.
#[derive(Debug, Serialize)]
pub(super) struct ClusterSummary {
    name: String,
    endpoints: Vec<String>,
    protocol: &'static str,
    /// `None` if nobody looks whether the endpoints are there.
    health_check: Option<HealthCheckSummary>,
}

#[derive(Debug, Serialize)]
struct HealthCheckSummary {
    /// What is asked.
    probe: String,
    interval_ms: u64,
    timeout_ms: u64,
    panic_threshold: u32,
}

impl ClusterSummary {
    pub(super) fn of(cluster: &Cluster) -> ClusterSummary {
        ClusterSummary {
            name: cluster.name.clone(),
            endpoints: cluster.endpoints.iter().map(|endpoint| endpoint.addr.to_string()).collect(),
            protocol: match cluster.protocol {
                Protocol::Http1 => "http1",
                Protocol::Http2 => "http2",
            },
            health_check: cluster.health_check.as_ref().map(HealthCheckSummary::of),
        }
    }
}

impl HealthCheckSummary {
    fn of(check: &HealthCheck) -> HealthCheckSummary {
        let HealthCheck { interval, timeout, panic_threshold, .. } = check;
        // A configured duration is an hour at most.
        let millis = |duration: &std::time::Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        HealthCheckSummary {
            probe: probe(&check.probe),
            interval_ms: millis(interval),
            timeout_ms: millis(timeout),
            panic_threshold: *panic_threshold,
        }
    }
}

fn probe(probe: &Probe) -> String {
    match probe {
        Probe::Http { target, .. } => format!("GET {target}"),
        Probe::Grpc { service, .. } if service.is_empty() => "gRPC health of the server".to_owned(),
        Probe::Grpc { service, .. } => format!("gRPC health of {service}"),
        Probe::Tcp => "a TCP connection".to_owned(),
    }
}

impl fmt::Display for ClusterSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ClusterSummary { name, endpoints, protocol, health_check } = self;
        write!(f, "cluster {name}: {protocol} to {}", endpoints.join(", "))?;
        match health_check {
            Some(HealthCheckSummary { probe, interval_ms, .. }) => {
                let interval = std::time::Duration::from_millis(*interval_ms);
                writeln!(f, "; checked by {probe} every {interval:?}")
            }
            None => writeln!(f, "; not checked"),
        }
    }
}
