//! Reload: reads everything again, and if it is different and good, puts it in force.
//!
//! What is broken changes nothing: the running snapshot stays, and the reason is logged once and counted. Reading is done
//! in the [`background`] ([`Job`]); what was read is put in force by the [`Publisher`]; counting and logging happen on the
//! control thread ([`Reloader`]).

mod queue;
mod report;

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ringward_config::{AccessLog, Config, Diagnostic, Diagnostics, NamedPath};
use ringward_proxy::{Control, Phase};
use ringward_telemetry::{ControlMetrics, ReloadOutcome};
use tokio::sync::watch;

use crate::background;
use crate::load::{self, Gathered, Loaded, Refused};
use crate::publish::{Published, Publisher};
use crate::trust::TrustKeeper;
use crate::trust::network::Preparation;
use crate::upstream_health;
use crate::watch::Interests;

pub(crate) use self::queue::{Answer, Due, Event, Reloads};
use self::report::ChangedFiles;
pub(crate) use self::report::{FileDigests, ReloadReport, serving};

/// Knows what was loaded last, and replaces it.
pub(crate) struct Reloader {
    path: PathBuf,
    control: Arc<Control>,
    publisher: Arc<Publisher>,
    preparation: Preparation,
    metrics: Arc<ControlMetrics>,
    /// For whoever checks endpoints.
    upstreams: watch::Sender<Arc<upstream_health::Plan>>,
    loaded: Arc<Loaded>,
    warnings: HashSet<String>,
    /// The last failure and the digest of what was read, so that it is logged once and not at every poll.
    failure: Option<(String, Option<[u8; 32]>)>,
    /// Attempts in a row that found a certificate and a key that do not belong together.
    torn: usize,
}

/// The reading part of an attempt.
struct Job {
    path: PathBuf,
    running: Arc<Loaded>,
    trust: Arc<TrustKeeper>,
}

/// What an attempt came to.
pub(crate) struct Attempt {
    result: Result<Outcome, Refused>,
    /// Digest of what was read, if the configuration could be read.
    digest: Option<[u8; 32]>,
    /// What to watch from now on, if the configuration could be read.
    pub(crate) watched: Option<Interests>,
}

/// What an attempt found that did not fail.
enum Outcome {
    /// Everything is as it was.
    Unchanged,
    /// Something new, which is good and in force since this generation.
    Applied(Arc<Loaded>, u64),
    /// The process ends, and a new snapshot would only delay that.
    TooLate,
}

/// What follows from an attempt.
pub(crate) enum Finished {
    /// It came too early, and is to be made again after this time.
    Again(Duration),
    /// This is what it came to.
    Done(ReloadReport),
}

/// What [`Job::run`] comes to.
struct Finding {
    read: Result<Read, Refused>,
    digest: Option<[u8; 32]>,
    watched: Option<Interests>,
}

/// What was read.
enum Read {
    Unchanged,
    New(Box<Loaded>),
}

impl Reloader {
    /// Of a process that has just put `loaded` in force.
    pub(crate) fn new(
        path: &Path,
        control: Arc<Control>,
        publisher: Arc<Publisher>,
        preparation: Preparation,
        metrics: Arc<ControlMetrics>,
        loaded: Arc<Loaded>,
    ) -> Reloader {
        let mut reloader = Reloader {
            path: path.to_owned(),
            control,
            publisher,
            preparation,
            metrics,
            upstreams: watch::Sender::new(loaded.upstreams.clone()),
            loaded: loaded.clone(),
            warnings: HashSet::new(),
            failure: None,
            torn: 0,
        };
        reloader.adopt(loaded);
        reloader
    }

    /// The configuration in force.
    pub(crate) fn config(&self) -> &Config {
        &self.loaded.config
    }

    /// The endpoints to be checked, by each configuration that comes into force.
    pub(crate) fn upstreams(&self) -> watch::Receiver<Arc<upstream_health::Plan>> {
        self.upstreams.subscribe()
    }

    /// A further attempt, to be run beside everything else.
    pub(crate) fn attempt(&self) -> impl Future<Output = Attempt> + Send + 'static {
        let (path, running) = (self.path.clone(), self.loaded.clone());
        let job = Job { path, running, trust: self.publisher.trust().clone() };
        let (control, publisher, path) = (self.control.clone(), self.publisher.clone(), self.path.clone());
        let (preparation, serving) = (self.preparation.clone(), self.loaded.leaves());
        async move {
            let found = background::spawn(|| job.run()).await;
            let Finding { read, digest, watched } = found.unwrap_or_else(|error| {
                let message = format!("cannot be loaded: {error}");
                Finding::nothing(Diagnostic::whole_file(&path, message, None).into())
            });
            let result = match read {
                Err(refused) => Err(refused),
                Ok(Read::Unchanged) => Ok(Outcome::Unchanged),
                Ok(Read::New(_)) if control.phase() != Phase::Running => Ok(Outcome::TooLate),
                Ok(Read::New(loaded)) => {
                    let loaded: Arc<Loaded> = Arc::from(loaded);
                    loaded.upstreams.prepare().await;
                    let adopted = match preparation.prepare(&loaded, &serving).await {
                        Ok(()) => publisher.adopt(loaded.clone()).await,
                        Err(problems) => Err(problems),
                    };
                    let applied = |published: Published| Outcome::Applied(loaded, published.generation);
                    adopted.map(applied).map_err(Refused::from)
                }
            };
            Attempt { result, digest, watched }
        }
    }

    /// Counts an attempt and says what it came to. `insist` says it even if it was said before.
    pub(crate) fn finish(&mut self, attempt: Attempt, insist: bool) -> Finished {
        let torn = std::mem::take(&mut self.torn);
        let generation = self.control.generation();
        let (outcome, report) = match attempt.result {
            Ok(Outcome::TooLate) => return Finished::Done(ReloadReport::TooLate),
            Ok(Outcome::Unchanged) => {
                if self.failure.take().is_some() {
                    tracing::info!("the configuration is again what runs");
                } else if insist {
                    tracing::info!(generation, "nothing has changed");
                }
                (ReloadOutcome::Unchanged, ReloadReport::Unchanged { generation })
            }
            Ok(Outcome::Applied(loaded, generation)) => {
                self.failure = None;
                let files = ChangedFiles::between(&self.loaded.files, &loaded.files);
                self.adopt(loaded);
                tracing::info!(generation, files = files.brief(), "new configuration in force");
                (ReloadOutcome::Applied, ReloadReport::Applied { generation, files })
            }
            // Whoever renews a certificate writes two files, and we may have come between. It is no failure yet.
            Err(Refused { torn: true, .. }) if torn < TORN_RETRIES.len() => {
                tracing::info!("a certificate and its key do not belong together, trying again in a moment");
                self.torn = torn + 1;
                return Finished::Again(TORN_RETRIES[torn]);
            }
            Err(Refused { problems, .. }) => {
                let text = brief(&problems);
                let failure = Some((text.clone(), attempt.digest));
                if insist || self.failure != failure {
                    tracing::error!(
                        generation,
                        problems = text,
                        "new configuration refused, the running one stays"
                    );
                }
                self.failure = failure;
                let problems = problems.iter().map(brief_one).collect();
                (ReloadOutcome::Failed, ReloadReport::Refused { generation, problems })
            }
        };
        self.metrics.reload_finished(outcome, now_unix());
        Finished::Done(report)
    }

    fn adopt(&mut self, loaded: Arc<Loaded>) {
        self.metrics.expiries_changed(loaded.certificate_expiries(), loaded.trust_expiries());
        let warnings: HashSet<String> = loaded.warnings.iter().map(brief_one).collect();
        for warning in warnings.difference(&self.warnings) {
            tracing::warn!(problem = warning, "the configuration deserves a look");
        }
        self.warnings = warnings;
        self.upstreams.send_replace(loaded.upstreams.clone());
        self.loaded = loaded;
    }
}

impl Job {
    /// Reads and checks. Blocks, for seconds if policies are large.
    fn run(self) -> Finding {
        let reading = background::idle();
        let gathered = match load::gather(&self.path) {
            Ok(gathered) => gathered,
            Err(problems) => return Finding::nothing(problems),
        };
        let (digest, watched) = (gathered.digest(), Some(Interests::of(&gathered.watched())));
        drop(reading);
        let read = if digest == self.running.digest { Ok(Read::Unchanged) } else { self.build(gathered) };
        Finding { read, digest: Some(digest), watched }
    }

    fn build(&self, gathered: Gathered) -> Result<Read, Refused> {
        let floors = self.trust.floors();
        let loaded = gathered.build(Some(&self.running), &floors.current())?;
        refuse_what_needs_a_restart(&self.running.config, &loaded.config)?;
        // On disk before the lists are used, so that no older ones can take their place after a restart.
        if let Err(error) = floors.raise(loaded.all_lists()) {
            tracing::error!(%error, "the numbers of revocation lists cannot be remembered");
        }
        Ok(Read::New(Box::new(loaded)))
    }
}

impl Finding {
    /// The configuration could not even be read.
    fn nothing(problems: Diagnostics) -> Finding {
        Finding { read: Err(problems.into()), digest: None, watched: None }
    }
}

/// Sockets, threads and logs are set up once.
fn refuse_what_needs_a_restart(running: &Config, next: &Config) -> Result<(), Diagnostics> {
    let mut problems = Diagnostics::new();
    let mut compare = |same: bool, what: &str| {
        if !same {
            let help = "restart the process, or undo this change; until then nothing else of the file is applied either";
            let message = format!("{what} changed, which needs a restart");
            problems.push(Diagnostic::whole_file(next.file(), message, Some(help.to_owned())));
        }
    };
    compare(running.server.workers == next.server.workers, "`workers` in [server]");
    compare(running.server.io == next.server.io, "`io` in [server]");
    let metrics = |config: &Config| config.admin.metrics.as_ref().map(|bind| bind.addr);
    compare(metrics(running) == metrics(next), "`metrics` in [admin]");
    let path = |named: &'_ Option<NamedPath>| named.as_ref().map(|named| named.path.clone());
    compare(path(&running.admin.socket) == path(&next.admin.socket), "`socket` in [admin]");
    compare(path(&running.server.state_dir) == path(&next.server.state_dir), "`state_dir` in [server]");
    compare(running.server.session_cache == next.server.session_cache, "`session_cache` in [server]");
    compare(running.log.level == next.log.level, "`level` in [log]");
    compare(running.log.queue_records == next.log.queue_records, "`queue_records` in [log]");
    compare(access_target(running) == access_target(next), "`access` in [log]");
    compare(sockets(running) == sockets(next), "`name`, `bind` or `backlog` of a [[listener]]");
    if problems.is_empty() { Ok(()) } else { Err(problems) }
}

/// All problems in one line of a log; `ringward check` shows them in full.
pub(crate) fn brief(problems: &Diagnostics) -> String {
    let mut text: Vec<String> = problems.iter().take(PROBLEMS_LOGGED).map(brief_one).collect();
    if let Some(more @ 1..) = problems.len().checked_sub(PROBLEMS_LOGGED) {
        text.push(format!("{more} more"));
    }
    text.join("; ")
}

fn brief_one(problem: &Diagnostic) -> String {
    let Diagnostic { severity, file, line, column, message, help, .. } = problem;
    let help = help.as_ref().map(|help| format!(" ({help})")).unwrap_or_default();
    format!("{}:{line}:{column}: {severity}: {message}{help}", file.display())
}

fn access_target(config: &Config) -> (&'static str, Option<&Path>) {
    match &config.log.access {
        AccessLog::Off => ("off", None),
        AccessLog::Stdout => ("stdout", None),
        AccessLog::Stderr => ("stderr", None),
        AccessLog::File(file) => ("file", Some(&file.path)),
    }
}

fn sockets(config: &Config) -> HashSet<(&str, std::net::SocketAddr, u32)> {
    let of_listener = |listener: &'_ ringward_config::Listener| -> Vec<_> {
        listener.bind.iter().map(|bind| (bind.addr, listener.backlog)).collect()
    };
    config
        .listeners
        .iter()
        .flat_map(|listener| {
            of_listener(listener).into_iter().map(|(addr, backlog)| (listener.name.as_str(), addr, backlog))
        })
        .collect()
}

fn now_unix() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

/// Renewal tools need milliseconds between certificate and key, people with an editor somewhat longer. Further changes are
/// noticed anyway; this is for those that come before we watch again.
const TORN_RETRIES: [Duration; 4] =
    [Duration::from_millis(250), Duration::from_millis(500), Duration::from_secs(1), Duration::from_secs(2)];
/// Problems shown in one line of the log.
const PROBLEMS_LOGGED: usize = 20;
