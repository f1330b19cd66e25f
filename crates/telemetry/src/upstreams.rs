//! What the control plane measures of upstreams: the health of endpoints, and the checks that find it out.
//!
//! Series come and go with what is configured: a cluster that is not checked any more leaves the report, and takes its counts
//! along.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::closed::{CheckOutcome, EndpointHealth, OutlierReason};
use crate::control::ControlMetrics;

/// A cluster whose endpoints are checked, at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct UpstreamFigures {
    /// What is known of each endpoint.
    pub endpoints: Vec<EndpointFigures>,
    /// So few are healthy that all are used.
    pub panic: bool,
    /// How many get no requests for a while, since they failed too many; `None` if nobody counts.
    pub ejected: Option<usize>,
}

/// An endpoint, at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct EndpointFigures {
    /// Its address.
    pub addr: UpstreamAddr,
    /// What its checks have found out.
    pub health: EndpointHealth,
    /// Which part of the cluster's requests is meant for it, from 0 to 1.
    pub share: f64,
}

/// Where an endpoint listens: the configuration says so, not a peer. As in `10.0.0.11:8080` or `unix:/run/app.sock`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UpstreamAddr {
    /// At a port.
    Ip(SocketAddr),
    /// At a Unix socket of this path.
    Unix(Arc<str>),
}

impl From<SocketAddr> for UpstreamAddr {
    fn from(addr: SocketAddr) -> UpstreamAddr {
        UpstreamAddr::Ip(addr)
    }
}

impl fmt::Display for UpstreamAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            UpstreamAddr::Ip(addr) => addr.fmt(f),
            UpstreamAddr::Unix(path) => write!(f, "unix:{path}"),
        }
    }
}

/// One cluster.
#[derive(Clone, Debug, Default)]
pub(crate) struct UpstreamState {
    pub(crate) figures: UpstreamFigures,
    pub(crate) checks: [u64; CheckOutcome::ALL.len()],
    pub(crate) ejections: [u64; OutlierReason::ALL.len()],
    pub(crate) withheld: u64,
}

impl ControlMetrics {
    /// Replaces the clusters whose endpoints are checked, by name.
    pub fn upstreams_changed(&self, clusters: impl IntoIterator<Item = (String, UpstreamFigures)>) {
        let mut state = self.lock();
        let mut before = std::mem::take(&mut state.upstreams);
        state.upstreams = clusters
            .into_iter()
            .map(|(cluster, figures)| {
                let before = before.remove(&cluster).unwrap_or_default();
                (cluster, UpstreamState { figures, ..before })
            })
            .collect::<BTreeMap<_, _>>();
    }

    /// What is known of the endpoints of a cluster has changed.
    pub fn upstream_changed(&self, cluster: &str, figures: UpstreamFigures) {
        if let Some(state) = self.lock().upstreams.get_mut(cluster) {
            state.figures = figures;
        }
    }

    /// An endpoint of this cluster has failed too many requests, at last in this way. It is ejected, unless too few others would be
    /// left (`withheld`).
    pub fn upstream_failed(&self, cluster: &str, reason: OutlierReason, withheld: bool) {
        if let Some(state) = self.lock().upstreams.get_mut(cluster) {
            match withheld {
                true => state.withheld += 1,
                false => state.ejections[reason as usize] += 1,
            }
        }
    }

    /// A check of an endpoint of this cluster ended.
    pub fn upstream_checked(&self, cluster: &str, outcome: CheckOutcome) {
        if let Some(state) = self.lock().upstreams.get_mut(cluster) {
            state.checks[outcome as usize] += 1;
        }
    }
}
