//! Which endpoints of upstreams take requests: active health checks, and what [`crate::discovery`] finds.
//!
//! Checks run once per node, here, and not once per worker: each endpoint has a task that asks it again and again
//! ([`probe`]). What the results mean is decided in one place ([`standing`]), and what follows for the endpoints in another
//! ([`failover`]). It reaches the workers as endpoints with weights ([`ringward_proxy::Endpoints`]), without a new snapshot; nobody else
//! publishes them ([`cluster`]). What a reload keeps is decided in [`plan`].
//!
//! Endpoints that fail requests are left out for a while ([`ejection`]); the workers say which ([`ringward_proxy::Conduct`]).
//!
//! It never opens a connection that carries any, and knows of no
//! address that neither the configuration nor a source that it names has named.

mod cluster;
mod ejection;
mod failover;
mod grpc;
mod plan;
mod probe;
mod standing;

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use ringward_config::{EndpointAddr, HealthCheck};
use ringward_telemetry::{CheckOutcome, ControlMetrics};
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::{AbortHandle, JoinHandle};
use tokio::time::Instant;

use self::cluster::{Change, LiveCluster, Member, Verdict};
use self::failover::Choice;
pub(crate) use self::plan::Plan;
use self::probe::{Failure, Way};
use self::standing::Health;
use crate::trust::schedule::roll;

/// Checks the endpoints of the plan in force.
pub(crate) struct HealthChecker {
    plans: watch::Receiver<Arc<Plan>>,
    plan: Arc<Plan>,
    /// Some source has found something else.
    news: Arc<Notify>,
    metrics: Arc<ControlMetrics>,
    tasks: Vec<Task>,
    /// What was last chosen for each cluster, so that each change is logged once.
    choices: HashMap<String, Choice>,
    /// When an endpoint that is starting gets more requests.
    step: Option<Instant>,
    results: mpsc::Sender<Finished>,
    finished: mpsc::Receiver<Finished>,
}

/// The checks of one endpoint. Dropping it ends them.
struct Task {
    endpoint: Arc<Member>,
    check: Arc<HealthCheck>,
    handle: AbortHandle,
}

/// A check that has ended.
struct Finished {
    cluster: Arc<str>,
    endpoint: Arc<Member>,
    result: Result<(), Failure>,
}

impl HealthChecker {
    /// Of the plans that come out of `plans`, beginning with the one that is there. `news` says that a source has found something.
    pub(crate) fn new(
        plans: watch::Receiver<Arc<Plan>>,
        news: Arc<Notify>,
        metrics: Arc<ControlMetrics>,
    ) -> HealthChecker {
        // Whoever finds it full waits, and checks less often.
        let (results, finished) = mpsc::channel(RESULTS_MAX);
        let (plan, tasks, choices) = Default::default();
        HealthChecker { plans, plan, news, metrics, tasks, choices, step: None, results, finished }
    }

    /// Checks for as long as the process lives.
    pub(crate) async fn run(mut self) -> Infallible {
        self.adopt();
        loop {
            let suspects = self.plan.suspects.clone();
            tokio::select! {
                changed = self.plans.changed() => match changed {
                    Ok(()) => self.adopt(),
                    // Nobody reloads any more: the process ends.
                    Err(_) => return pending().await,
                },
                () = self.news.notified() => self.refresh(),
                () = suspects.notified() => self.judge_suspects(),
                Some(finished) = self.finished.recv() => self.judge(finished),
                () = step(self.step) => self.advance(),
            }
        }
    }

    /// Goes on with the newest plan: tasks of endpoints that it checks as before run on.
    fn adopt(&mut self) {
        let plan = self.plans.borrow_and_update().clone();
        // What was found since the plan was made.
        for (name, cluster) in &plan.clusters {
            cluster.refresh(self.plan.clusters.get(name), Instant::now());
        }
        self.choices.retain(|name, _| plan.clusters.contains_key(name));
        let figures =
            plan.clusters.iter().map(|(name, cluster)| (name.clone(), cluster.figures(Instant::now())));
        self.metrics.upstreams_changed(figures);
        self.plan = plan.clone();
        self.arrange();
        for (name, cluster) in &plan.clusters {
            self.publish(name, cluster);
        }
    }

    /// Takes up what sources have found.
    fn refresh(&mut self) {
        let plan = self.plan.clone();
        let mut changed = false;
        for (name, cluster) in &plan.clusters {
            let Some(Change { endpoints, added, removed }) = cluster.refresh(None, Instant::now()) else {
                continue;
            };
            // Whoever reads of a change finds it in force.
            self.publish(name, cluster);
            changed = true;
            if endpoints == 0 {
                tracing::warn!(
                    cluster = name,
                    removed,
                    "no endpoints are left: requests are answered with 503"
                );
            } else {
                tracing::info!(
                    cluster = name,
                    endpoints,
                    added,
                    removed,
                    "the endpoints of a cluster have changed"
                );
            }
        }
        if changed {
            self.arrange();
        }
    }

    /// Begins the checks of endpoints that have none, and ends those of endpoints that are gone.
    fn arrange(&mut self) {
        let before = std::mem::take(&mut self.tasks);
        let mut before: HashMap<_, _> =
            before.into_iter().map(|task| (Arc::as_ptr(&task.endpoint), task)).collect();
        let plan = self.plan.clone();
        for (name, cluster) in &plan.clusters {
            let Some(check) = &cluster.check else { continue };
            let name: Arc<str> = name.as_str().into();
            for endpoint in cluster.members() {
                let running = before.remove(&Arc::as_ptr(&endpoint)).filter(|task| task.check == *check);
                let task = running.unwrap_or_else(|| self.start(&name, check, endpoint));
                self.tasks.push(task);
            }
        }
    }

    fn start(&self, name: &Arc<str>, check: &Arc<HealthCheck>, endpoint: Arc<Member>) -> Task {
        let task = check_again(name.clone(), endpoint.clone(), check.clone(), self.results.clone());
        Task { endpoint, check: check.clone(), handle: tokio::spawn(task).abort_handle() }
    }

    /// Takes a result into account.
    fn judge(&mut self, Finished { cluster: name, endpoint, result }: Finished) {
        let plan = self.plan.clone();
        // It may come from a task that was ended since.
        let Some(cluster) = plan.clusters.get(&*name) else { return };
        let Some(check) = &cluster.check else { return };
        if !cluster.has(&endpoint) {
            return;
        }
        let outcome = result.as_ref().err().map_or(CheckOutcome::Passed, Failure::outcome);
        self.metrics.upstream_checked(&name, outcome);
        let (before, changed) = {
            let mut standing = endpoint.standing();
            (standing.health, standing.judge(result.is_ok(), check))
        };
        tell(&name, &endpoint.addr, before, changed, &result);
        if changed {
            if endpoint.standing().health == Health::Healthy && before != Health::Assumed {
                endpoint.begin(Instant::now());
            }
            self.publish(&name, cluster);
        }
    }

    /// Ejects endpoints that have failed too many requests.
    fn judge_suspects(&mut self) {
        let plan = self.plan.clone();
        for (name, cluster) in &plan.clusters {
            let verdicts = cluster.judge_suspects(Instant::now());
            for Verdict { addr, reason, ejected_for, is_news } in &verdicts {
                self.metrics.upstream_failed(name, *reason, ejected_for.is_none());
                let last = reason.as_str();
                match ejected_for {
                    Some(time) => tracing::warn!(
                        cluster = name,
                        endpoint = %addr,
                        last,
                        ejected_for = ?time,
                        "an endpoint fails requests: it gets none for a while"
                    ),
                    None if !is_news => {}
                    None => tracing::warn!(
                        cluster = name,
                        endpoint = %addr,
                        last,
                        "an endpoint fails requests, and still gets them: too few others would be left \
                         (`ejected_percent_max`)"
                    ),
                }
            }
            if !verdicts.is_empty() {
                self.publish(name, cluster);
            }
        }
    }

    /// Gives endpoints that are starting more requests, and those whose ejection is over some again.
    fn advance(&mut self) {
        let plan = self.plan.clone();
        self.step = None;
        for (name, cluster) in plan.clusters.iter().filter(|(_, cluster)| cluster.changes_with_time()) {
            for endpoint in cluster.end_ejections(Instant::now()) {
                tracing::info!(cluster = name, %endpoint, "an endpoint that failed requests gets some again");
            }
            self.publish(name, cluster);
        }
    }

    /// Lets workers use the endpoints that they should, and says so if that is something special.
    fn publish(&mut self, name: &str, cluster: &LiveCluster) {
        let now = Instant::now();
        let choice = cluster.publish(now);
        self.step = [self.step, cluster.next_step(now)].into_iter().flatten().min();
        let before = self.choices.insert(name.to_owned(), choice).unwrap_or(Choice::Fit);
        if choice != before {
            match choice {
                Choice::Fit => {
                    tracing::info!(cluster = name, "enough endpoints are healthy: only those are used")
                }
                Choice::All => {
                    tracing::warn!(
                        cluster = name,
                        "too few endpoints are healthy: all are used (`panic_threshold`)"
                    );
                }
                Choice::None => {
                    tracing::error!(cluster = name, "no endpoint is healthy: requests are answered with 503");
                }
            }
        }
        self.metrics.upstream_changed(name, cluster.figures(now));
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.handle.abort();
    }
}

/// Waits for the moment, or for ever if there is none.
async fn step(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => pending().await,
    }
}

/// Logs a result. That a new endpoint is as it should be is no news.
fn tell(cluster: &str, endpoint: &EndpointAddr, before: Health, changed: bool, result: &Result<(), Failure>) {
    match result {
        Err(reason) if changed => {
            tracing::warn!(cluster, %endpoint, %reason, "upstream endpoint is unhealthy");
        }
        Err(reason) => tracing::debug!(cluster, %endpoint, %reason, "a health check failed"),
        Ok(()) if changed && before != Health::Assumed => {
            tracing::info!(cluster, %endpoint, "upstream endpoint is healthy");
        }
        Ok(()) => tracing::debug!(cluster, %endpoint, "a health check passed"),
    }
}

/// Checks an endpoint until it is aborted.
async fn check_again(
    cluster: Arc<str>,
    endpoint: Arc<Member>,
    check: Arc<HealthCheck>,
    results: mpsc::Sender<Finished>,
) {
    tokio::time::sleep(first_pause(check.interval, roll())).await;
    loop {
        let (asked, addr, tls) = (check.clone(), endpoint.addr.clone(), endpoint.tls.clone());
        // In a task of its own, so that a panic, whatever the endpoint did to cause it, is a failed check and not the last one.
        let probing = Probing(tokio::spawn(async move {
            let way = Way { tls: tls.as_deref(), sends_proxy_protocol: asked.sends_proxy_protocol };
            probe::check(&asked.probe, &addr, way, asked.timeout).await
        }));
        let result = probing.result().await;
        let (cluster, endpoint) = (cluster.clone(), endpoint.clone());
        if results.send(Finished { cluster, endpoint, result }).await.is_err() {
            return;
        }
        tokio::time::sleep(pause(check.interval, roll())).await;
    }
}

/// A check under way. Dropping it ends the check.
struct Probing(JoinHandle<Result<(), Failure>>);

impl Probing {
    async fn result(mut self) -> Result<(), Failure> {
        (&mut self.0).await.unwrap_or_else(|error| Err(Failure::Protocol(error.to_string())))
    }
}

impl Drop for Probing {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Before the first check of an endpoint: soon, since somebody may wait for it, and not with all others at once. `roll` is from
/// 0 to 1.
fn first_pause(interval: Duration, roll: f64) -> Duration {
    (interval / 10).min(FIRST_PAUSE_MAX).mul_f64(roll)
}

/// Between two checks: a tenth more or less than `interval`.
fn pause(interval: Duration, roll: f64) -> Duration {
    interval.mul_f64(0.9 + 0.2 * roll)
}

const FIRST_PAUSE_MAX: Duration = Duration::from_secs(1);
/// Results that wait to be judged.
const RESULTS_MAX: usize = 64;

#[cfg(test)]
mod tests;
