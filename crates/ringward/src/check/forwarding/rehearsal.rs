//! The configuration, run for a moment.
//!
//! What is changed of it is here and nowhere else: where it listens, whom it trusts (authorities for the occasion), where its requests
//! go, and that nobody decides about them. What is to be tried is left as it is: hosts, routes, edits, what is forwarded to upstreams, and
//! what load balancers may say.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ringward_config::{
    Audit, Conditions, Config, Endpoint, ForwardedIdentity, Host, HostPolicy, Listener, OcspMode, Protocol,
    Resumption,
};
use ringward_identity::{IdentityCondition, TenantMatch};
use ringward_proxy::{Control, Phase, Snapshot};
use ringward_telemetry::{BuildInfo, ControlMetrics, Exporter, Limits, LogStats, RecordReceiver, Registry};
use ringward_tls::CrlFloors;

use super::papers::Papers;
use super::upstreams::Upstreams;
use crate::failure::Failure;
use crate::load::{self, Loaded};
use crate::sockets::{self, Wanted};
use crate::workers::{self, Workers};
use crate::{publish, server, trust, version};

/// It runs, until it is told to stop.
pub(super) struct Rehearsal {
    pub(super) config: Arc<Config>,
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) papers: Papers,
    pub(super) upstreams: Upstreams,
    /// Of the listeners, in their order.
    pub(super) addresses: Vec<SocketAddr>,
    control: Arc<Control>,
    workers: Workers,
    exporter: Exporter,
    /// Nobody reads them; without these, each would count as lost.
    _records: Vec<RecordReceiver>,
}

impl Rehearsal {
    /// Runs the configuration at `path`, which was found to be good.
    pub(super) async fn start(path: &Path) -> Result<Rehearsal, Failure> {
        let failed = |error: String| Failure::Runtime(error);
        let upstreams = Upstreams::start().await.map_err(|error| failed(error.to_string()))?;
        let gathered = load::gather(path).map_err(Failure::Configuration)?;
        let gathered = gathered.with(|config| rehearse(config, &upstreams));
        let loaded = gathered.build(None, &CrlFloors::new());
        let mut loaded = loaded.map_err(|refused| Failure::Configuration(refused.problems))?;
        let papers = Papers::new(&loaded.config).map_err(failed)?;
        hand_out(&papers, &mut loaded).map_err(failed)?;
        let registry = Registry::new(server::words(), Limits::default());
        let trust = trust::without_state(&loaded.config);
        let (_, state) = trust.current();
        let snapshot =
            publish::build(&loaded, &state, &trust, 1, &registry).map_err(Failure::Configuration)?;
        let control = Control::new(snapshot, 1);
        let (mut sockets, mut addresses) = (Vec::new(), Vec::new());
        for listener in &loaded.config.listeners {
            let wanted = Wanted { address: (Ipv4Addr::LOCALHOST, 0).into(), backlog: 64 };
            let opened = sockets::open(wanted, 1, &[]).map_err(|error| failed(error.to_string()))?;
            addresses.push(opened.address);
            let opened = opened.per_worker(1).map_err(|error| failed(error.to_string()))?;
            sockets.push((listener.name.clone(), opened.into_iter().flatten().collect()));
        }
        let (queues, records) = workers::queues(1, 64);
        let driver = server::driver_mode(loaded.config.server.io);
        let started = Workers::start(control.clone(), registry.clone(), driver, vec![sockets], queues);
        let (workers, _) = started.map_err(|error| failed(error.to_string()))?;
        let build = BuildInfo { version: version::VERSION, revision: version::REVISION };
        Ok(Rehearsal {
            config: loaded.config.clone(),
            snapshot: control.snapshot(),
            papers,
            upstreams,
            addresses,
            control,
            workers,
            exporter: Exporter::new(
                registry,
                Arc::new(ControlMetrics::default()),
                Arc::new(LogStats::default()),
                build,
            ),
            _records: records,
        })
    }

    /// Ends it.
    pub(super) async fn stop(mut self) {
        self.control.advance(Phase::Stopped);
        while self.workers.running() > 0 {
            self.workers.ended().await;
        }
    }

    /// The sum of all series of a metric that have these labels.
    pub(super) fn count(&self, metric: &str, labels: &[(&str, &str)]) -> u64 {
        let page = self.exporter.render();
        let has =
            |line: &&str| labels.iter().all(|(name, value)| line.contains(&format!("{name}={value:?}")));
        let of_metric =
            |line: &&str| line.strip_prefix(metric).is_some_and(|rest| rest.starts_with(['{', ' ']));
        let lines = page.lines().filter(of_metric).filter(has);
        lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum::<f64>() as u64
    }

    /// Waits until [`Rehearsal::count`] is `expected`, as counters are written after the last byte of an answer; what it is then, or else
    /// after a while.
    pub(super) async fn counted(&self, metric: &str, labels: &[(&str, &str)], expected: u64) -> u64 {
        for _ in 0..POLLS_MAX {
            let count = self.count(metric, labels);
            if count >= expected {
                return count;
            }
            tokio::time::sleep(POLL).await;
        }
        self.count(metric, labels)
    }
}

/// Changes of a configuration what would reach others, or would refuse us.
fn rehearse(config: &mut Config, upstreams: &Upstreams) {
    config.server.state_dir = None;
    config.log.audit = Audit::BestEffort;
    config.policies.clear();
    config.global_policy = None;
    for cluster in config.clusters.values_mut() {
        if cluster.protocol != Protocol::Http2 {
            cluster.protocol = Protocol::Http1;
        }
        let addr = if cluster.protocol == Protocol::Http2 { upstreams.http2 } else { upstreams.http1 };
        cluster.endpoints = vec![Endpoint { addr: addr.into(), weight: 1, zone: None, priority: 0 }];
        (cluster.discovery, cluster.tls) = (None, None);
        (cluster.health_check, cluster.limits, cluster.slow_start) = (None, None, None);
        // Ours could not read it.
        cluster.sends_proxy_protocol = false;
    }
    config.listeners.iter_mut().for_each(rehearse_listener);
}

fn rehearse_listener(listener: &mut Listener) {
    (listener.handshakes, listener.requests) = (None, None);
    listener.resumption = Resumption::Off;
    let only = |address: Ipv4Addr| vec![format!("{address}/32").parse().expect("it is a network")];
    if let Some(rules) = &mut listener.proxy_protocol {
        rules.from = only(BALANCER);
    }
    if let Some(rules) = &mut listener.client_address {
        rules.from = only(PROXY);
    }
    listener.hosts.iter_mut().for_each(rehearse_host);
}

fn rehearse_host(host: &mut Host) {
    host.policy = HostPolicy::DangerNone;
    if let Some(verification) = &mut host.client_auth.verification {
        verification.tenants.clear();
        verification.ocsp = OcspMode::Off;
    }
    if let Some(ForwardedIdentity { from, .. }) = &mut host.forwarded_identity {
        // Beside those of the configuration, which count all the same.
        let ours = IdentityCondition::new(TenantMatch::SanDns(BALANCER_NAME.to_owned()));
        let ours = ours.expect("a DNS name is a condition");
        from.push(Conditions { identity: vec![ours], ..Conditions::default() });
    }
    for route in &mut host.routes {
        route.policy = HostPolicy::DangerNone;
        route.policy_body_max = None;
        route.ocsp = OcspMode::Off;
        // Its cluster has no TLS here.
        route.upstream_certificate = None;
    }
}

/// Puts the papers in the place of credentials and bundles.
fn hand_out(papers: &Papers, loaded: &mut Loaded) -> Result<(), String> {
    loaded.materials.trust = papers.trust_bundles()?.into_iter().collect();
    for listener in &loaded.config.listeners {
        for (index, host) in listener.hosts.iter().enumerate() {
            let credential = papers.credential(host)?;
            loaded.materials.credentials.insert((listener.name.clone(), index), vec![credential]);
        }
    }
    (loaded.lists, loaded.staples) = (Vec::new(), std::collections::HashMap::new());
    Ok(())
}

/// Who speaks the PROXY protocol where that is expected.
pub(super) const BALANCER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
/// Who is nobody in particular.
pub(super) const CLIENT: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 3);
/// Who may name clients in headers.
pub(super) const PROXY: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 4);
/// In the certificate of a load balancer that may forward identities.
pub(super) const BALANCER_NAME: &str = "balancer.ringward-check.invalid";
const POLL: Duration = Duration::from_millis(2);
const POLLS_MAX: u32 = 1000;
