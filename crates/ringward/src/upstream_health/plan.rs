//! Which clusters have endpoints that are checked or found elsewhere, and what a reload keeps of what is known of them.
//!
//! A plan is made of a configuration before that is in force, and has no effect until it is. What the last one had of the same
//! is the same in both: sources with what they have found, endpoints that were checked in the same way with what is known of
//! them. What workers read of the endpoints is each plan's own.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use ringward_config::{Cluster, Config, Diagnostics};
use ringward_proxy::Endpoints;
use ringward_tls::UpstreamTls;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::cluster::LiveCluster;
use crate::discovery::{self, Source};

/// The clusters of one configuration, and which of them are looked after.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    /// Those that are, by name.
    pub(super) clusters: BTreeMap<String, LiveCluster>,
    /// Notified when an endpoint has failed too many requests; one for all plans.
    pub(super) suspects: Arc<Notify>,
    /// What the workers read, of all clusters, by name.
    published: HashMap<String, Arc<Endpoints>>,
}

impl Plan {
    /// Of a configuration that comes after `previous`, with the TLS sides of its clusters. Files that name endpoints are read, if
    /// `previous` did not have them.
    ///
    /// # Errors
    /// What is wrong with those files.
    pub(crate) fn new(
        config: &Config,
        tls: &HashMap<String, Arc<UpstreamTls>>,
        previous: Option<&Plan>,
    ) -> Result<Plan, Diagnostics> {
        let (mut plan, mut problems) = (Plan::default(), Diagnostics::new());
        if let Some(previous) = previous {
            plan.suspects = previous.suspects.clone();
        }
        let zone = config.server.zone.as_deref();
        for (name, cluster) in &config.clusters {
            let mut published = Endpoints::of(cluster);
            if let Some(rule) = &cluster.outlier_detection {
                published = published.with_outlier_detection(rule.clone(), plan.suspects.clone());
            }
            let published = Arc::new(published);
            plan.published.insert(name.clone(), published.clone());
            let before = previous.and_then(|previous| previous.clusters.get(name));
            let source = match source(config, cluster, before) {
                Ok(source) => source,
                Err(found) => {
                    problems.extend(found);
                    continue;
                }
            };
            let is_watched = cluster.health_check.is_some() || cluster.outlier_detection.is_some();
            if !is_watched && source.is_none() {
                continue;
            }
            let live = LiveCluster::new((cluster, zone), source, tls.get(name), published, before);
            // Nobody reads it yet.
            live.publish(Instant::now());
            plan.clusters.insert(name.clone(), live);
        }
        if problems.is_empty() { Ok(plan) } else { Err(problems) }
    }

    /// What the workers read, by the names of clusters.
    pub(crate) fn published(&self) -> HashMap<String, Arc<Endpoints>> {
        self.published.clone()
    }

    /// Waits for the first answers about endpoints, for a bounded time. To be called before the plan is in force.
    pub(crate) async fn prepare(&self) {
        discovery::ask_first(self.sources()).await;
        for cluster in self.clusters.values() {
            let now = Instant::now();
            if cluster.refresh(None, now).is_some() {
                cluster.publish(now);
            }
        }
    }

    /// Where endpoints are found, by the names of clusters.
    pub(crate) fn sources(&self) -> impl Iterator<Item = (&str, &Arc<Source>)> {
        self.clusters.iter().filter_map(|(name, cluster)| Some((name.as_str(), cluster.source.as_ref()?)))
    }
}

/// Where the endpoints of a cluster are found.
fn source(
    config: &Config,
    cluster: &Cluster,
    before: Option<&LiveCluster>,
) -> Result<Option<Arc<Source>>, Diagnostics> {
    let Some(discovery) = &cluster.discovery else { return Ok(None) };
    let before = before.and_then(|before| before.source.as_ref());
    Source::open(config, discovery, before, discovery::now_unix()).map(Some)
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use super::super::cluster::Member;
    use super::super::failover::Choice;
    use super::super::standing::Health;
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
        Plan::new(&config.unwrap_or_else(|problems| panic!("{problems}")), &HashMap::new(), previous).unwrap()
    }

    fn healths(plan: &Plan) -> Vec<Health> {
        members(plan).iter().map(|member| member.standing().health).collect()
    }

    fn members(plan: &Plan) -> Vec<Arc<Member>> {
        plan.clusters["c"].members()
    }

    fn rotation(plan: &Plan) -> Vec<bool> {
        plan.published()["c"].current().endpoints().iter().map(|endpoint| endpoint.weight > 0).collect()
    }

    fn judge(plan: &Plan, endpoint: usize, passed: bool) {
        let cluster = &plan.clusters["c"];
        let check = cluster.check.as_ref().unwrap();
        members(plan)[endpoint].standing().judge(passed, check);
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
            "proxy_protocol = \"v2\"\nhealth_check = { http = \"/\" }",
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
        members(&plan)[1].begin(Instant::now());
        for (seconds, expected) in [(0, vec![10, 1]), (1, vec![10, 2]), (4, vec![10, 6]), (4, vec![1, 1])] {
            tokio::time::advance(Duration::from_secs(seconds)).await;
            assert_eq!(shares(), expected);
        }
        assert_eq!(cluster.next_step(Instant::now()), None);
    }
}
