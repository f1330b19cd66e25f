//! Endpoints that are found elsewhere than in the configuration, and come and go while it stays.
//!
//! A [`Source`] keeps what was found last that was good; nothing that fails takes endpoints away, unless they were not confirmed for
//! longer than the configuration allows. Who uses them, and for what, is decided in [`crate::upstream_health`], which is told when
//! there is something new.
//!
//! Each source has a task of its own, with at most one attempt under way: one that does not answer, such as a file on a mount that
//! hangs, delays nobody else.

mod dns;
mod file;
mod source;

use std::convert::Infallible;
use std::future::pending;
use std::pin::pin;
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
use crate::watch::{Interests, Watch};

/// Finds the endpoints of the plan in force.
pub(crate) struct Finder {
    plans: watch::Receiver<Arc<Plan>>,
    plan: Arc<Plan>,
    /// Of the files that name endpoints.
    watch: Watch,
    /// One for each source.
    tasks: Vec<Task>,
    answers: mpsc::Sender<Answer>,
    answered: mpsc::Receiver<Answer>,
    /// Told when there is something new.
    news: Arc<Notify>,
    metrics: Arc<ControlMetrics>,
}

/// Who asks the source of one cluster. Dropping it ends that.
struct Task {
    source: Arc<Source>,
    handle: AbortHandle,
    /// Notified when a file is to be read again. DNS is asked at its time.
    again: Arc<Notify>,
    /// What matters for a file, as was found when it was read last.
    interests: Interests,
}

/// What has come of an attempt, after the source has taken it.
struct Answer {
    cluster: Arc<str>,
    source: Arc<Source>,
    found: Result<Found, Trouble>,
    taken: Taken,
    /// Of a file.
    interests: Interests,
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
        self.adopt();
        loop {
            tokio::select! {
                changed = self.plans.changed() => match changed {
                    Ok(()) => {
                        self.plan = self.plans.borrow_and_update().clone();
                        self.adopt();
                    }
                    // Nobody reloads any more: the process ends.
                    Err(_) => return pending().await,
                },
                _ = self.watch.changed() => self.tasks.iter().for_each(|task| task.again.notify_one()),
                Some(answer) = self.answered.recv() => self.take(answer),
            }
        }
    }

    /// Goes on with the plan: tasks of sources that it has as before run on.
    fn adopt(&mut self) {
        let sources = self.plan.sources();
        let confirmed = sources.map(|(name, source)| (name.to_owned(), source.confirmed_unix()));
        self.metrics.discoveries_changed(confirmed);
        let mut before = std::mem::take(&mut self.tasks);
        for (name, source) in self.plan.sources() {
            let running = before.iter().position(|task| Arc::ptr_eq(&task.source, source));
            let task = running.map(|index| before.swap_remove(index));
            self.tasks.push(task.unwrap_or_else(|| self.start(name, source)));
        }
        drop(before);
        self.watch(&Interests::default());
        // What changed between the first reading and the begin of the watch was not noticed.
        self.tasks.iter().for_each(|task| task.again.notify_one());
    }

    fn start(&self, cluster: &str, source: &Arc<Source>) -> Task {
        let (again, answers) = (Arc::new(Notify::new()), self.answers.clone());
        let (cluster, asked) = (cluster.into(), source.clone());
        let task = match &source.discovery {
            Discovery::Dns(dns) => {
                tokio::spawn(ask_again(cluster, asked, dns.clone(), answers, self.news.clone()))
            }
            Discovery::File(file) => {
                tokio::spawn(read_again(cluster, asked, file.clone(), again.clone(), answers))
            }
        };
        Task { source: source.clone(), handle: task.abort_handle(), again, interests: Interests::default() }
    }

    /// Watches what matters for the files, of which `seen` was found just now.
    fn watch(&self, seen: &Interests) {
        let mut interests = Interests::default();
        self.tasks.iter().for_each(|task| interests.merge(&task.interests));
        self.watch.set(interests, seen);
    }

    /// Goes on from an attempt.
    fn take(&mut self, answer: Answer) {
        // It may come from a task that was ended since.
        let Some(task) = self.tasks.iter_mut().find(|task| Arc::ptr_eq(&task.source, &answer.source)) else {
            return;
        };
        if matches!(answer.source.discovery, Discovery::File(_)) {
            task.interests = answer.interests.clone();
            self.watch(&answer.interests);
        }
        self.tell(answer);
    }

    /// Counts an attempt, wakes whoever it concerns, and says what is worth it.
    fn tell(&self, Answer { cluster, source, found, taken, .. }: Answer) {
        let cluster = &*cluster;
        let Taken { outcome, is_news } = taken;
        self.metrics.discovery_finished(cluster, outcome, source.confirmed_unix());
        if outcome == DiscoveryOutcome::Updated {
            self.news.notify_one();
        }
        match found {
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

/// Asks DNS until it is aborted. Endpoints that expire meanwhile are gone at that moment, whether anybody is being asked or not.
async fn ask_again(
    cluster: Arc<str>,
    source: Arc<Source>,
    dns: EndpointsDns,
    answers: mpsc::Sender<Answer>,
    news: Arc<Notify>,
) {
    loop {
        unless_expired(&cluster, &source, &news, sleep_until(source.due())).await;
        let (asked, before) = (dns.clone(), source.to_keep());
        // In a task of its own, so that a panic, whatever the answer was, is a failed attempt and not the last one.
        let mut attempt = JoinSet::new();
        attempt.spawn(async move { dns::look_up(&asked, &before).await });
        let Some(found) = unless_expired(&cluster, &source, &news, attempt.join_next()).await else { return };
        let found = found.unwrap_or_else(|error| {
            Err(Trouble { outcome: DiscoveryOutcome::Unreachable, reason: error.to_string() })
        });
        let taken = source.take(&found, roll(), now_unix());
        let (cluster, source) = (cluster.clone(), source.clone());
        let answer = Answer { cluster, source, found, taken, interests: Interests::default() };
        if answers.send(answer).await.is_err() {
            return;
        }
    }
}

/// Waits for something, and takes endpoints away that expire meanwhile.
async fn unless_expired<T>(
    cluster: &str,
    source: &Source,
    news: &Notify,
    something: impl Future<Output = T>,
) -> T {
    let mut something = pin!(something);
    loop {
        let expired = async {
            match source.expires() {
                Some(at) => sleep_until(at).await,
                None => pending().await,
            }
        };
        tokio::select! {
            // What has come in time counts.
            biased;
            done = &mut something => return done,
            () = expired => {}
        }
        match source.expire() {
            Some(0) => {
                tracing::error!(cluster, "endpoints were not confirmed for too long: none is used");
            }
            Some(left) => {
                tracing::warn!(
                    cluster,
                    left,
                    "some endpoints were not confirmed for too long: these are not used"
                );
            }
            None => continue,
        }
        news.notify_one();
    }
}

/// Reads a file whenever it is told to, until it is aborted. What waits for the file is a thread of its own.
async fn read_again(
    cluster: Arc<str>,
    source: Arc<Source>,
    named: EndpointsFile,
    again: Arc<Notify>,
    answers: mpsc::Sender<Answer>,
) {
    loop {
        again.notified().await;
        let (interests, found) = read(named.clone()).await;
        let taken = source.take(&found, roll(), now_unix());
        let answer = Answer { cluster: cluster.clone(), source: source.clone(), found, taken, interests };
        if answers.send(answer).await.is_err() {
            return;
        }
    }
}

/// What matters for a file, and what it says.
async fn read(named: EndpointsFile) -> (Interests, Result<Found, Trouble>) {
    let trouble = |outcome, reason| Err(Trouble { outcome, reason });
    let paths = [named.path.path.clone()];
    let reading = background::spawn(move || (Interests::of(&paths), file::read(&named)));
    let (interests, read) = match reading.await {
        Ok(found) => found,
        Err(error) => {
            let reason = format!("it cannot be read: {error}");
            return (Interests::default(), trouble(DiscoveryOutcome::Unreachable, reason));
        }
    };
    let found = match read {
        Ok(endpoints) => Ok(Found { endpoints, ttl: Duration::ZERO, unconfirmed: Vec::new() }),
        Err(Unread::Unreachable(error)) => trouble(DiscoveryOutcome::Unreachable, error.to_string()),
        Err(Unread::Refused(problems)) => trouble(DiscoveryOutcome::Refused, reload::brief(&problems)),
    };
    (interests, found)
}

/// Seconds since 1970.
pub(crate) fn now_unix() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

/// A server that answers at all answers within it, also if it has to ask others.
const FIRST_ANSWER_WAIT: Duration = Duration::from_secs(5);
/// Answers that wait to be counted.
const ANSWERS_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use ringward_config::{DnsQuery, Endpoint, Family};
    use tokio::net::UdpSocket;
    use tokio::time::Instant;

    use super::*;

    /// A name server may be silent for as long as an attempt takes.
    #[tokio::test(start_paused = true)]
    async fn endpoints_expire_while_somebody_is_asked() {
        let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let dns = EndpointsDns {
            query: DnsQuery::Addresses { name: "orders.internal".to_owned(), port: 80 },
            family: Family::Ipv4,
            ttl_min: Duration::from_millis(5_400),
            ttl_max: Duration::from_secs(300),
            stale_max: Some(Duration::from_secs(6)),
            servers: vec![silent.local_addr().unwrap()],
        };
        let source = Source::asking(&dns);
        let addr = "10.0.0.1:80".parse::<std::net::SocketAddr>().unwrap().into();
        let endpoints = vec![Endpoint { addr, weight: 1, zone: None, priority: 0 }];
        let begin = Instant::now();
        source.take(&Ok(Found { endpoints, ttl: Duration::ZERO, unconfirmed: Vec::new() }), 0.0, 0.0);
        let (answers, mut answered) = mpsc::channel(1);
        let news = Arc::new(Notify::new());
        let asking = tokio::spawn(ask_again("c".into(), source.clone(), dns, answers, news.clone()));
        sleep_until(begin + Duration::from_millis(5_999)).await;
        assert_eq!((source.endpoints().len(), source.due() < Instant::now()), (1, true), "it is being asked");
        news.notified().await;
        assert_eq!(begin.elapsed(), Duration::from_secs(6));
        assert!(source.endpoints().is_empty() && answered.try_recv().is_err(), "there is no answer yet");
        asking.abort();
    }
}
