//! Which endpoints are checked, and what a reload keeps of what is known of them.
//!
//! A plan is made of a configuration before that is in force, and has no effect until it is. An endpoint that the last one
//! checked in the same way is the same in both, with what is known of it. What workers read of the endpoints is each plan's own.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ringward_config::{self as config, Cluster, Config, HealthCheck};
use ringward_proxy::{Endpoint, Endpoints};
use ringward_telemetry::{EndpointFigures, UpstreamFigures};
use tokio::time::Instant;

use super::failover::{self, Candidate, Choice, PACE_FULL, Rank};
use super::standing::{Health, Standing};

/// The endpoints of one configuration, and which of them it has checked.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    /// Those that are checked, by name.
    pub(super) clusters: BTreeMap<String, CheckedCluster>,
    /// What the workers read, of all clusters, by name.
    published: HashMap<String, Arc<Endpoints>>,
}

/// A cluster whose endpoints are checked.
#[derive(Debug)]
pub(super) struct CheckedCluster {
    pub(super) check: Arc<HealthCheck>,
    pub(super) endpoints: Vec<Arc<CheckedEndpoint>>,
    /// Of the same endpoints.
    ranks: Vec<Rank>,
    slow_start: Option<Duration>,
    published: Arc<Endpoints>,
}

/// An endpoint as long as it is checked in one way.
#[derive(Debug)]
pub(super) struct CheckedEndpoint {
    pub(super) addr: SocketAddr,
    standing: Mutex<Standing>,
    /// When it began to take requests again.
    begun: Mutex<Option<Instant>>,
}

impl Plan {
    /// Of a configuration that comes after `previous`.
    pub(crate) fn new(config: &Config, previous: Option<&Plan>) -> Plan {
        let mut plan = Plan::default();
        for (name, cluster) in &config.clusters {
            let published = Arc::new(Endpoints::of(cluster));
            plan.published.insert(name.clone(), published.clone());
            let zone = config.server.zone.as_deref();
            if let Some(check) = &cluster.health_check {
                let before = previous.and_then(|previous| previous.clusters.get(name));
                let checked = CheckedCluster::new((cluster, zone), check, published, before);
                // Nobody reads it yet.
                checked.publish(Instant::now());
                plan.clusters.insert(name.clone(), checked);
            }
        }
        plan
    }

    /// What the workers read, by the names of clusters.
    pub(crate) fn published(&self) -> HashMap<String, Arc<Endpoints>> {
        self.published.clone()
    }
}

impl CheckedCluster {
    fn new(
        (cluster, zone): (&Cluster, Option<&str>),
        check: &HealthCheck,
        published: Arc<Endpoints>,
        before: Option<&CheckedCluster>,
    ) -> CheckedCluster {
        // Another question finds out something else.
        let before = before.filter(|before| before.check.probe == check.probe);
        let known = |addr| {
            let mut endpoints = before.iter().flat_map(|before| &before.endpoints);
            endpoints.find(|endpoint| endpoint.addr == addr).cloned()
        };
        let endpoints = cluster.endpoints.iter().map(|endpoint| (endpoint.addr, known(endpoint.addr)));
        let endpoints: Vec<_> = endpoints.collect();
        let kept = endpoints.iter().filter_map(|(_, known)| known.as_ref());
        // Whoever serves already can go on doing so for the moment that the first check of the others takes.
        let works = kept.clone().any(|kept| kept.standing().health == Health::Healthy);
        let new = if works { Health::Awaited } else { Health::Assumed };
        let endpoints = endpoints
            .iter()
            .map(|(addr, known)| known.clone().unwrap_or_else(|| Arc::new(CheckedEndpoint::new(*addr, new))));
        let endpoints = endpoints.collect();
        let is_far = |own: &Option<String>| zone.is_some() && own.as_deref() != zone;
        let rank = |endpoint: &config::Endpoint| Rank {
            weight: endpoint.weight,
            priority: endpoint.priority,
            is_far: is_far(&endpoint.zone),
        };
        let ranks = cluster.endpoints.iter().map(rank).collect();
        let slow_start = cluster.slow_start;
        CheckedCluster { check: Arc::new(check.clone()), endpoints, ranks, slow_start, published }
    }

    /// Lets the workers use those endpoints that should be used, given what is known of all.
    pub(super) fn publish(&self, now: Instant) -> Choice {
        let (weights, choice) = self.shares(now);
        let endpoints = self.endpoints.iter().zip(weights);
        let endpoints = endpoints.map(|(endpoint, weight)| Endpoint { addr: endpoint.addr, weight });
        self.published.publish(endpoints.collect());
        choice
    }

    /// What is known, for metrics.
    pub(super) fn figures(&self, now: Instant) -> UpstreamFigures {
        let (weights, choice) = self.shares(now);
        let sum: f64 = weights.iter().map(|weight| f64::from(*weight)).sum();
        let endpoints = self.endpoints.iter().zip(weights).map(|(endpoint, weight)| EndpointFigures {
            addr: endpoint.addr,
            health: endpoint.standing().health.reported(),
            share: if weight == 0 { 0.0 } else { f64::from(weight) / sum },
        });
        UpstreamFigures { endpoints: endpoints.collect(), panic: choice == Choice::All }
    }

    /// The share of each endpoint.
    fn shares(&self, now: Instant) -> (Vec<u32>, Choice) {
        let candidates = self.endpoints.iter().zip(&self.ranks).map(|(endpoint, rank)| Candidate {
            rank: *rank,
            health: endpoint.standing().health,
            pace: self.slow_start.map_or(PACE_FULL, |window| endpoint.pace(window, now)),
        });
        failover::shares(&candidates.collect::<Vec<_>>(), self.check.panic_threshold)
    }

    /// Its endpoints are given their full share by and by.
    pub(super) fn starts_slowly(&self) -> bool {
        self.slow_start.is_some()
    }

    /// When its shares change without a check, because an endpoint is starting.
    pub(super) fn next_step(&self, now: Instant) -> Option<Instant> {
        let window = self.slow_start?;
        let starting = self.endpoints.iter().any(|endpoint| endpoint.pace(window, now) < PACE_FULL);
        starting.then(|| now + window / PACE_FULL)
    }
}

impl CheckedEndpoint {
    fn new(addr: SocketAddr, health: Health) -> CheckedEndpoint {
        CheckedEndpoint { addr, standing: Mutex::new(Standing::new(health)), begun: Mutex::default() }
    }

    /// It takes requests again, or for the first time beside others that do.
    pub(super) fn begin(&self, now: Instant) {
        *self.begun.lock().unwrap_or_else(PoisonError::into_inner) = Some(now);
    }

    /// How far it has started, from 1 to [`PACE_FULL`]: a tenth more with each tenth of the time.
    fn pace(&self, window: Duration, now: Instant) -> u32 {
        let begun = *self.begun.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(begun) = begun else { return PACE_FULL };
        let steps = now.duration_since(begun).as_nanos() * u128::from(PACE_FULL) / window.as_nanos().max(1);
        u32::try_from(steps).unwrap_or(PACE_FULL).saturating_add(1).min(PACE_FULL)
    }

    /// A poisoned lock is entered anyway: no state in between is invalid.
    pub(super) fn standing(&self) -> MutexGuard<'_, Standing> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// A plan for a cluster with these keys and endpoints, the last figures of whose addresses are given.
    fn plan(check: &str, endpoints: &[u8], previous: Option<&Plan>) -> Plan {
        let endpoints: Vec<String> = endpoints.iter().map(|last| format!("10.0.0.{last}:80")).collect();
        let text = format!(
            "[trust.t]\nca = \"ca.pem\"\n[cluster.c]\nendpoints = {endpoints:?}\n{check}\n[[listener]]\nname = \"l\"\n\
             bind = \"127.0.0.1:0\"\n[[listener.host]]\nnames = [\"a.test\"]\ndanger_no_policy = true\n\
             certificate = {{ chain = \"a.pem\", key = \"a.key\" }}\n\
             client_auth = {{ mode = \"required\", trust = \"t\" }}\n\
             [[listener.host.route]]\nmatch = {{ path = \"/\" }}\ncluster = \"c\"\n"
        );
        let config = ringward_config::parse(&text, Path::new("ringward.toml"));
        Plan::new(&config.unwrap_or_else(|problems| panic!("{problems}")), previous)
    }

    fn healths(plan: &Plan) -> Vec<Health> {
        plan.clusters["c"].endpoints.iter().map(|endpoint| endpoint.standing().health).collect()
    }

    fn rotation(plan: &Plan) -> Vec<bool> {
        plan.published()["c"].current().endpoints().iter().map(|endpoint| endpoint.weight > 0).collect()
    }

    fn judge(plan: &Plan, endpoint: usize, passed: bool) {
        let cluster = &plan.clusters["c"];
        cluster.endpoints[endpoint].standing().judge(passed, &cluster.check);
        cluster.publish(Instant::now());
    }

    const HTTP: &str = "health_check = { http = \"/\" }";

    #[test]
    fn without_a_check_nothing_is_planned() {
        assert!(plan("", &[1, 2], None).clusters.is_empty());
        assert_eq!(rotation(&plan("", &[1, 2], None)), [true, true]);
    }

    #[test]
    fn a_new_cluster_serves_at_once() {
        let plan = plan(HTTP, &[1, 2], None);
        assert_eq!((healths(&plan), rotation(&plan)), (vec![Health::Assumed; 2], vec![true; 2]));
    }

    #[test]
    fn what_is_known_of_an_endpoint_outlives_a_reload() {
        let first = plan(HTTP, &[1, 2, 3], None);
        judge(&first, 0, true);
        judge(&first, 1, false);
        judge(&first, 2, true);
        let timing = "health_check = { http = \"/\", interval = \"1s\", unhealthy_threshold = 1 }\npanic_threshold = 0";
        let second = plan(timing, &[3, 2], Some(&first));
        assert_eq!(
            (healths(&second), rotation(&second)),
            (vec![Health::Healthy, Health::Unhealthy], vec![true, false])
        );
        judge(&second, 0, false);
        assert_eq!(rotation(&second), [false, false]);
        assert_eq!(healths(&first)[2], Health::Unhealthy, "it is the same endpoint");
    }

    #[test]
    fn an_endpoint_that_joins_a_working_cluster_waits_for_its_first_check() {
        let first = plan(HTTP, &[1], None);
        judge(&first, 0, true);
        let second = plan(HTTP, &[1, 2, 3], Some(&first));
        assert_eq!((healths(&second)[1], rotation(&second)), (Health::Awaited, vec![true, false, false]));
        assert_eq!(second.clusters["c"].publish(Instant::now()), Choice::Fit, "those who wait make no panic");
        judge(&second, 1, true);
        assert_eq!(rotation(&second), [true, true, false]);
    }

    #[test]
    fn where_none_is_known_to_be_healthy_nobody_waits() {
        let first = plan(HTTP, &[1], None);
        judge(&first, 0, false);
        for (endpoints, known) in
            [(&[1, 2][..], vec![Health::Unhealthy, Health::Assumed]), (&[2], vec![Health::Assumed])]
        {
            assert_eq!(healths(&plan(HTTP, endpoints, Some(&first))), known);
        }
    }

    #[test]
    fn another_question_begins_anew() {
        let first = plan(HTTP, &[1, 2], None);
        judge(&first, 0, false);
        judge(&first, 1, true);
        for other in [
            "health_check = { http = \"/other\" }",
            "health_check = { tcp = true }",
            "health_check = { http = \"/\", expect = \"204\" }",
            "protocol = \"http2\"\nhealth_check = { http = \"/\" }",
        ] {
            let second = plan(other, &[1, 2], Some(&first));
            assert_eq!(
                (healths(&second), rotation(&second)),
                (vec![Health::Assumed; 2], vec![true; 2]),
                "{other}"
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_endpoint_that_comes_back_starts_slowly() {
        let keys = "slow_start = \"10s\"\nhealth_check = { http = \"/\", healthy_threshold = 1, unhealthy_threshold = 1 }";
        let plan = plan(keys, &[1, 2], None);
        let cluster = &plan.clusters["c"];
        let shares = || {
            cluster.publish(Instant::now());
            let set = plan.published()["c"].current();
            set.endpoints().iter().map(|endpoint| endpoint.weight).collect::<Vec<_>>()
        };
        assert_eq!((shares(), cluster.next_step(Instant::now())), (vec![1, 1], None), "all are new");
        cluster.endpoints[1].begin(Instant::now());
        for (seconds, expected) in [(0, vec![10, 1]), (1, vec![10, 2]), (4, vec![10, 6]), (4, vec![1, 1])] {
            tokio::time::advance(Duration::from_secs(seconds)).await;
            assert_eq!(shares(), expected);
        }
        assert_eq!(cluster.next_step(Instant::now()), None);
    }
}
