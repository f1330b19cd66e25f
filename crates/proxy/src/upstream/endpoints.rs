//! The endpoints of a cluster, as the control plane publishes them and as workers read them.
//!
//! Which endpoints there are, which of them take requests and how large the share of each is: that is decided on the control
//! plane, once for all workers, and changes without a new snapshot. What is published is immutable, with all that makes a
//! choice quick worked out. A worker compares one word per request to know whether what it has is current.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use arc_swap::ArcSwap;
use ringward_config::{Balance, Cluster, EndpointAddr, OutlierDetection};
use ringward_telemetry::UpstreamAddr;
use tokio::sync::Notify;

use super::{
    outliers::{Conduct, Outliers},
    shares::Shares,
};

/// One server of a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Its address.
    pub addr: EndpointAddr,
    /// Its share, in proportion to those of others; 0 if it takes no requests. Requests that are under way go on.
    pub weight: u32,
}

/// An address as metrics and logs have it.
pub fn reported(addr: &EndpointAddr) -> UpstreamAddr {
    match addr {
        EndpointAddr::Ip(addr) => UpstreamAddr::Ip(*addr),
        EndpointAddr::Unix(path) => UpstreamAddr::Unix(path.clone()),
    }
}

/// The endpoints of a cluster at one moment.
#[derive(Debug)]
pub struct EndpointSet {
    endpoints: Box<[Endpoint]>,
    pub(super) shares: Shares,
}

/// The endpoints of a cluster. Shared between the control plane, which publishes them, and the workers.
#[derive(Debug)]
pub struct Endpoints {
    balance: Balance,
    /// Counts what was published.
    version: AtomicU64,
    set: ArcSwap<EndpointSet>,
    /// If their failures count.
    outliers: Option<Outliers>,
}

impl EndpointSet {
    fn new(endpoints: Vec<Endpoint>, balance: &Balance) -> EndpointSet {
        let shares = Shares::new(&endpoints, balance);
        EndpointSet { endpoints: endpoints.into(), shares }
    }

    /// All of them, also those that take no requests.
    pub fn endpoints(&self) -> &[Endpoint] {
        &self.endpoints
    }
}

impl Endpoints {
    /// To be chosen from by `balance`.
    pub fn new(endpoints: Vec<Endpoint>, balance: Balance) -> Endpoints {
        let set = ArcSwap::from_pointee(EndpointSet::new(endpoints, &balance));
        Endpoints { balance, version: AtomicU64::new(0), set, outliers: None }
    }

    /// Those that the configuration names, all of which take requests.
    pub fn of(cluster: &Cluster) -> Endpoints {
        let endpoints = cluster.endpoints.iter();
        let endpoints =
            endpoints.map(|endpoint| Endpoint { addr: endpoint.addr.clone(), weight: endpoint.weight });
        Endpoints::new(endpoints.collect(), cluster.balance.clone())
    }

    /// Replaces them, if there is any difference. Whoever calls it is the only one.
    pub fn publish(&self, endpoints: Vec<Endpoint>) {
        if *self.set.load().endpoints != *endpoints {
            self.set.store(Arc::new(EndpointSet::new(endpoints, &self.balance)));
            // Afterwards, so that whoever sees the new number finds the new endpoints.
            self.version.fetch_add(1, Ordering::Release);
        }
    }

    /// The failures of endpoints are to be counted, as [`Self::watch`] says. `suspects` is notified when one of them has had too many,
    /// which [`Conduct::take_suspicion`] tells then.
    #[must_use]
    pub fn with_outlier_detection(self, rule: OutlierDetection, suspects: Arc<Notify>) -> Endpoints {
        Endpoints { outliers: Some(Outliers::new(rule, suspects)), ..self }
    }

    /// Where failures are counted from now on. Without [`Self::with_outlier_detection`] none are.
    pub fn watch(&self, endpoints: HashMap<EndpointAddr, Arc<Conduct>>) {
        if let Some(outliers) = &self.outliers {
            outliers.watch(endpoints);
        }
    }

    /// Where failures are counted, if they are.
    pub(super) fn outliers(&self) -> Option<&Outliers> {
        self.outliers.as_ref()
    }

    /// How one is chosen.
    pub fn balance(&self) -> &Balance {
        &self.balance
    }

    /// Those that were published last.
    pub fn current(&self) -> Arc<EndpointSet> {
        self.set.load_full()
    }

    /// Another one once they were replaced.
    pub(super) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }
}
