//! The clusters of a configuration, for its summary.

use std::fmt;
use std::time::Duration;

use ringward_config::{Cluster, Discovery, HealthCheck, Probe, Protocol, UpstreamTls};
use ringward_proxy::Endpoints;
use serde::Serialize;

/// A cluster, for people and scripts.
#[derive(Debug, Serialize)]
pub(super) struct ClusterSummary {
    name: String,
    endpoints: Vec<String>,
    /// Where they were found, if that is not the configuration.
    #[serde(skip_serializing_if = "Option::is_none")]
    found_in: Option<String>,
    protocol: &'static str,
    /// `None` if everything is sent in the clear.
    tls: Option<TlsSummary>,
    /// `None` if nobody looks whether the endpoints are there.
    health_check: Option<HealthCheckSummary>,
    /// `None` if endpoints that fail requests go on getting them.
    outlier_detection: Option<OutlierSummary>,
}

#[derive(Debug, Serialize)]
struct TlsSummary {
    /// Who the endpoints have to be.
    verified_as: Vec<String>,
    /// The file of our certificate.
    presents: Option<String>,
    /// What an endpoint is that no revocation list is about; `None` if there are no lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    crl: Option<&'static str>,
}

#[derive(Debug, Serialize)]
struct HealthCheckSummary {
    /// What is asked.
    probe: String,
    interval_ms: u64,
    timeout_ms: u64,
    panic_threshold: u32,
}

#[derive(Debug, Serialize)]
struct OutlierSummary {
    consecutive_failures: u32,
    ejection_time_ms: u64,
    ejected_percent_max: u32,
}

impl ClusterSummary {
    /// Of a cluster that has these endpoints for now.
    pub(super) fn of(cluster: &Cluster, endpoints: &Endpoints) -> ClusterSummary {
        let endpoints = endpoints.current();
        ClusterSummary {
            name: cluster.name.clone(),
            endpoints: endpoints.endpoints().iter().map(|endpoint| endpoint.addr.to_string()).collect(),
            found_in: cluster.discovery.as_ref().map(found_in),
            protocol: match cluster.protocol {
                Protocol::Http1 => "http1",
                Protocol::Http2 => "http2",
                Protocol::Auto => "http2 or http1",
            },
            tls: cluster.tls.as_ref().map(TlsSummary::of),
            health_check: cluster.health_check.as_ref().map(HealthCheckSummary::of),
            outlier_detection: cluster.outlier_detection.as_ref().map(|rule| OutlierSummary {
                consecutive_failures: rule.consecutive_failures,
                ejection_time_ms: millis(rule.ejection_time),
                ejected_percent_max: rule.ejected_percent_max,
            }),
        }
    }
}

impl TlsSummary {
    fn of(tls: &UpstreamTls) -> TlsSummary {
        let ids: Vec<String> = tls.spiffe_ids.iter().map(|id| id.as_str().to_owned()).collect();
        let name = || tls.server_name.clone().unwrap_or_else(|| "their addresses".to_owned());
        TlsSummary {
            verified_as: if ids.is_empty() { vec![name()] } else { ids },
            presents: tls
                .certificate
                .as_ref()
                .map(|certificate| certificate.chain.path.display().to_string()),
            crl: (!tls.crl.is_empty()).then(|| tls.revocation.crl.as_str()),
        }
    }
}

impl HealthCheckSummary {
    fn of(check: &HealthCheck) -> HealthCheckSummary {
        let HealthCheck { interval, timeout, panic_threshold, .. } = check;
        HealthCheckSummary {
            probe: probe(&check.probe),
            interval_ms: millis(*interval),
            timeout_ms: millis(*timeout),
            panic_threshold: *panic_threshold,
        }
    }
}

/// A configured duration is a day at most.
fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn found_in(discovery: &Discovery) -> String {
    match discovery {
        Discovery::File(file) => file.path.path.display().to_string(),
        Discovery::Dns(dns) => format!("DNS as {}", dns.query),
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
        let ClusterSummary { name, endpoints, found_in, protocol, tls, health_check, outlier_detection } =
            self;
        write!(f, "cluster {name}: {protocol} to ")?;
        match (endpoints.join(", "), found_in) {
            (endpoints, None) => write!(f, "{endpoints}")?,
            (none, Some(place)) if none.is_empty() => write!(f, "those in {place}")?,
            (endpoints, Some(place)) => write!(f, "{endpoints} (in {place})")?,
        }
        if let Some(TlsSummary { verified_as, presents, crl }) = tls {
            let presents = presents.as_deref().unwrap_or("no certificate");
            write!(f, " by TLS, verified as {}, presenting {presents}", verified_as.join(" or "))?;
            if let Some(mode) = crl {
                write!(f, ", looked up in revocation lists ({mode})")?;
            }
        }
        match health_check {
            Some(HealthCheckSummary { probe, interval_ms, .. }) => {
                let interval = Duration::from_millis(*interval_ms);
                write!(f, "; checked by {probe} every {interval:?}")?;
            }
            None => write!(f, "; not checked")?,
        }
        if let Some(OutlierSummary { consecutive_failures, .. }) = outlier_detection {
            write!(f, "; ejected after {consecutive_failures} failures in a row")?;
        }
        writeln!(f)
    }
}
