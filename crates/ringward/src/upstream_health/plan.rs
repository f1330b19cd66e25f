//! Which endpoints are checked, and what a reload keeps of what is known of them.
//!
//! A plan is made of a configuration before that is in force, and has no effect until it is. An endpoint that the last one
//! checked in the same way is the same in both: with what is known of it, and with the word that the workers read.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ringward_config::{Cluster, Config, HealthCheck};
use ringward_proxy::Rotation;
use ringward_telemetry::UpstreamFigures;

use super::standing::{Choice, Health, Standing};

/// The endpoints that one configuration has checked.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    /// By name.
    pub(super) clusters: BTreeMap<String, CheckedCluster>,
}

/// A cluster whose endpoints are checked.
#[derive(Debug)]
pub(super) struct CheckedCluster {
    pub(super) check: Arc<HealthCheck>,
    pub(super) endpoints: Vec<Arc<CheckedEndpoint>>,
}

/// An endpoint as long as it is checked in one way.
#[derive(Debug)]
pub(super) struct CheckedEndpoint {
    pub(super) addr: SocketAddr,
    rotation: Arc<Rotation>,
    standing: Mutex<Standing>,
}

impl Plan {
    /// Of a configuration that comes after `previous`.
    pub(crate) fn new(config: &Config, previous: Option<&Plan>) -> Plan {
        let checked = |(name, cluster): (&String, &Cluster)| {
            let check = cluster.health_check.as_ref()?;
            let before = previous.and_then(|previous| previous.clusters.get(name));
            Some((name.clone(), CheckedCluster::new(cluster, check, before)))
        };
        Plan { clusters: config.clusters.iter().filter_map(checked).collect() }
    }

    /// What the workers read, by cluster and address.
    pub(crate) fn rotation(&self) -> HashMap<String, HashMap<SocketAddr, Arc<Rotation>>> {
        let of_cluster = |cluster: &CheckedCluster| {
            cluster.endpoints.iter().map(|endpoint| (endpoint.addr, endpoint.rotation.clone())).collect()
        };
        self.clusters.iter().map(|(name, cluster)| (name.clone(), of_cluster(cluster))).collect()
    }
}

impl CheckedCluster {
    fn new(cluster: &Cluster, check: &HealthCheck, before: Option<&CheckedCluster>) -> CheckedCluster {
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
        CheckedCluster { check: Arc::new(check.clone()), endpoints: endpoints.collect() }
    }

    /// Puts those endpoints in rotation that should be, given what is known of all.
    pub(super) fn rotate(&self) -> Choice {
        let (healths, choice) = self.known();
        for (endpoint, health) in self.endpoints.iter().zip(healths) {
            endpoint.rotation.set(choice == Choice::All || health.is_fit());
        }
        choice
    }

    /// What is known, for metrics.
    pub(super) fn figures(&self) -> UpstreamFigures {
        let (healths, choice) = self.known();
        let endpoints = self.endpoints.iter().zip(healths);
        let endpoints = endpoints.map(|(endpoint, health)| (endpoint.addr, health.reported())).collect();
        UpstreamFigures { endpoints, panic: choice == Choice::All }
    }

    /// The health of each endpoint, and what follows.
    fn known(&self) -> (Vec<Health>, Choice) {
        let healths: Vec<Health> = self.endpoints.iter().map(|endpoint| endpoint.standing().health).collect();
        let choice = Choice::of(healths.iter().copied(), self.check.panic_threshold);
        (healths, choice)
    }
}

impl CheckedEndpoint {
    fn new(addr: SocketAddr, health: Health) -> CheckedEndpoint {
        let rotation = Rotation::new();
        rotation.set(health.is_fit());
        CheckedEndpoint { addr, rotation: Arc::new(rotation), standing: Mutex::new(Standing::new(health)) }
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
        plan.clusters["c"].endpoints.iter().map(|endpoint| endpoint.rotation.is_in()).collect()
    }

    fn judge(plan: &Plan, endpoint: usize, passed: bool) {
        let cluster = &plan.clusters["c"];
        cluster.endpoints[endpoint].standing().judge(passed, &cluster.check);
        cluster.rotate();
    }

    const HTTP: &str = "health_check = { http = \"/\" }";

    #[test]
    fn without_a_check_nothing_is_planned() {
        assert!(plan("", &[1, 2], None).clusters.is_empty());
        assert!(plan("", &[1, 2], None).rotation().is_empty());
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
        // The very word that the workers of the last snapshot read.
        judge(&second, 0, false);
        assert_eq!(rotation(&first), [true, false, false]);
        let (old, new) = (first.rotation(), second.rotation());
        let addr = "10.0.0.3:80".parse().unwrap();
        assert!(Arc::ptr_eq(&old["c"][&addr], &new["c"][&addr]));
    }

    #[test]
    fn an_endpoint_that_joins_a_working_cluster_waits_for_its_first_check() {
        let first = plan(HTTP, &[1], None);
        judge(&first, 0, true);
        let second = plan(HTTP, &[1, 2, 3], Some(&first));
        assert_eq!((healths(&second)[1], rotation(&second)), (Health::Awaited, vec![true, false, false]));
        assert_eq!(second.clusters["c"].rotate(), Choice::Fit, "those who wait make no panic");
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
}
