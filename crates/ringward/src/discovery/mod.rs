//! Endpoints that are found elsewhere than in the configuration, and come and go while it stays.
//!
//! A [`Source`] keeps what was found last that was good; nothing that fails takes endpoints away, unless they were not confirmed for
//! longer than the configuration allows. Who uses them, and for what, is decided in [`crate::upstream_health`], which is told when
//! there is something new.

mod dns;
mod file;
mod source;

use std::convert::Infallible;
use std::future::pending;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ringward_config::{Discovery, EndpointsDns, EndpointsFile};
use ringward_telemetry::{ControlMetrics, DiscoveryOutcome};
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{sleep_until, timeout};

use self::file::Unread;
pub(crate) use self::source::Source;
use self::source::{Found, Taken, Trouble};
use crate::background;
use crate::reload;
use crate::trust::schedule::roll;
use crate::upstream_health::Plan;
use crate::watch::Watch;

/// Finds the endpoints of the plan in force.
pub(crate) struct Finder {
    plans: watch::Receiver<Arc<Plan>>,
    plan: Arc<Plan>,
    /// Of the files that name endpoints.
    watch: Watch,
    /// Those who ask DNS.
    tasks: Vec<Task>,
    answers: mpsc::Sender<Answer>,
    answered: mpsc::Receiver<Answer>,
    /// Told when there is something new.
    news: Arc<Notify>,
    metrics: Arc<ControlMetrics>,
}

/// Who asks DNS for one cluster. Dropping it ends that.
struct Task {
    source: Arc<Source>,
    handle: AbortHandle,
}

/// What has come of an attempt, after the source has taken it.
struct Answer {
    cluster: Arc<str>,
    source: Arc<Source>,
    found: Result<Found, Trouble>,
    taken: Taken,
}

impl Finder {
    /// Of the plans that come out of `plans`, beginning with the one that is there. To be called within a runtime.
    pub(crate) fn new(
        mut plans: watch::Receiver<Arc<Plan>>,
        news: Arc<Notify>,
        metrics: Arc<ControlMetrics>,
    ) -> Finder {
        let plan = plans.borrow_and_update().clone();
        let (answers, answered) = mpsc::channel(ANSWERS_MAX);
        Finder { plans, plan, watch: Watch::new(), tasks: Vec::new(), answers, answered, news, metrics }
    }

    /// Finds them for as long as the process lives.
    pub(crate) async fn run(mut self) -> Infallible {
        self.adopt().await;
        loop {
            tokio::select! {
                changed = self.plans.changed() => match changed {
                    Ok(()) => {
                        self.plan = self.plans.borrow_and_update().clone();
                        self.adopt().await;
                    }
                    // Nobody reloads any more: the process ends.
                    Err(_) => return pending().await,
                },
                _ = self.watch.changed() => self.read_files().await,
                Some(answer) = self.answered.recv() => self.tell(answer),
            }
        }
    }

    async fn adopt(&mut self) {
        let sources = self.plan.sources();
        let confirmed = sources.map(|(name, source)| (name.to_owned(), source.confirmed_unix()));
        self.metrics.discoveries_changed(confirmed);
        let mut before = std::mem::take(&mut self.tasks);
        for (name, source) in self.plan.sources() {
            let Discovery::Dns(dns) = &source.discovery else { continue };
            let running = before.iter().position(|task| Arc::ptr_eq(&task.source, source));
            let task = running.map(|index| before.swap_remove(index));
            self.tasks.push(task.unwrap_or_else(|| self.start(name, source, dns)));
        }
        drop(before);
        self.watch.set(&self.paths());
        // What changed between the first reading and the begin of the watch was not noticed.
        self.read_files().await;
    }

    fn start(&self, cluster: &str, source: &Arc<Source>, dns: &EndpointsDns) -> Task {
        let asking = ask_again(cluster.into(), source.clone(), dns.clone(), self.answers.clone());
        Task { source: source.clone(), handle: tokio::spawn(asking).abort_handle() }
    }

    fn paths(&self) -> Vec<PathBuf> {
        let path = |(_, source): (&str, &Arc<Source>)| match &source.discovery {
            Discovery::File(file) => Some(file.path.path.clone()),
            Discovery::Dns(_) => None,
        };
        self.plan.sources().filter_map(path).collect()
    }

    async fn read_files(&mut self) {
        let plan = self.plan.clone();
        for (cluster, source) in plan.sources() {
            let Discovery::File(file) = &source.discovery else { continue };
            let found = read_again(file.clone()).await;
            let taken = source.take(&found, roll(), now_unix());
            self.tell(Answer { cluster: cluster.into(), source: source.clone(), found, taken });
        }
        // A directory that was replaced by another of its name has lost its watch.
        self.watch.set(&self.paths());
    }

    /// Counts an attempt, wakes whoever it concerns, and says what is worth it.
    fn tell(&self, Answer { cluster, source, found, taken }: Answer) {
        let cluster = &*cluster;
        let Taken { outcome, is_news, has_expired } = taken;
        // It may come from a task that was ended since.
        if !self.plan.sources().any(|(_, own)| Arc::ptr_eq(own, &source)) {
            return;
        }
        self.metrics.discovery_finished(cluster, outcome, source.confirmed_unix());
        if outcome == DiscoveryOutcome::Updated || has_expired {
            self.news.notify_one();
        }
        match found {
            Err(Trouble { reason, .. }) if has_expired => {
                tracing::error!(cluster, reason, "endpoints were not confirmed for too long: none is used");
            }
            Err(Trouble { outcome: DiscoveryOutcome::Refused, reason: problems }) if is_news => {
                tracing::error!(cluster, problems, "new endpoints refused, the last good ones stay");
            }
            Err(Trouble { reason, .. }) if is_news => {
                tracing::error!(cluster, reason, "no endpoints can be read, the last good ones stay");
            }
            Ok(_) if is_news => tracing::info!(cluster, "endpoints can be read again"),
            Ok(_) | Err(_) => {}
        }
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.handle.abort();
    }
}

/// Asks those sources in DNS that nobody has asked yet, and waits for their answers for a bounded time. Whoever serves afterwards
/// serves without those that were not answered.
pub(crate) async fn ask_first(sources: impl Iterator<Item = (&str, &Arc<Source>)>) {
    let mut asking = JoinSet::new();
    for (cluster, source) in sources.filter(|(_, source)| source.is_new()) {
        let Discovery::Dns(dns) = &source.discovery else { continue };
        let (cluster, source, dns) = (cluster.to_owned(), source.clone(), dns.clone());
        asking.spawn(async move {
            let found = dns::look_up(&dns, &[]).await;
            if let Err(Trouble { reason, .. }) = &found {
                tracing::error!(cluster, reason, "no endpoints yet: requests are answered with 503");
            }
            source.take(&found, roll(), now_unix());
        });
    }
    // A panic is an attempt that has come to nothing.
    let answers = async { while asking.join_next().await.is_some() {} };
    if timeout(FIRST_ANSWER_WAIT, answers).await.is_err() {
        tracing::warn!(
            "no answer of DNS for some clusters: their requests are answered with 503 until it comes"
        );
    }
}

/// Asks DNS until it is aborted.
async fn ask_again(cluster: Arc<str>, source: Arc<Source>, dns: EndpointsDns, answers: mpsc::Sender<Answer>) {
    loop {
        sleep_until(source.due()).await;
        let (asked, before) = (dns.clone(), source.to_keep());
        // In a task of its own, so that a panic, whatever the answer was, is a failed attempt and not the last one.
        let mut attempt = JoinSet::new();
        attempt.spawn(async move { dns::look_up(&asked, &before).await });
        let Some(found) = attempt.join_next().await else { return };
        let found = found.unwrap_or_else(|error| {
            Err(Trouble { outcome: DiscoveryOutcome::Unreachable, reason: error.to_string() })
        });
        let taken = source.take(&found, roll(), now_unix());
        let answer = Answer { cluster: cluster.clone(), source: source.clone(), found, taken };
        if answers.send(answer).await.is_err() {
            return;
        }
    }
}

/// Reads a file beside everything else.
async fn read_again(named: EndpointsFile) -> Result<Found, Trouble> {
    let trouble = |outcome, reason| Err(Trouble { outcome, reason });
    match background::spawn(move || file::read(&named)).await {
        Ok(Ok(endpoints)) => Ok(Found { endpoints, ttl: Duration::ZERO, is_partial: false }),
        Ok(Err(Unread::Unreachable(error))) => trouble(DiscoveryOutcome::Unreachable, error.to_string()),
        Ok(Err(Unread::Refused(problems))) => trouble(DiscoveryOutcome::Refused, reload::brief(&problems)),
        Err(error) => trouble(DiscoveryOutcome::Unreachable, format!("it cannot be read: {error}")),
    }
}

/// Seconds since 1970.
pub(crate) fn now_unix() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

/// A server that answers at all answers within it, also if it has to ask others.
const FIRST_ANSWER_WAIT: Duration = Duration::from_secs(5);
/// Answers that wait to be counted.
const ANSWERS_MAX: usize = 64;
