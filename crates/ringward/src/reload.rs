//! Reload: reads everything again, and if it is different and good, puts it in force.
//!
//! What is broken changes nothing: the running snapshot stays, and the reason is logged once and counted. The work is done on
//! a thread of its own ([`Job`]); publishing and counting happen on the control thread ([`Reloader`]).

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use ringward_config::{AccessLog, Config, Diagnostic, Diagnostics, Severity};
use ringward_proxy::{Control, Snapshot, SnapshotError};
use ringward_telemetry::{ControlMetrics, Registry, ReloadOutcome};

use crate::load::{self, Loaded, LoadedPolicy};

/// Knows what runs, and replaces it.
pub(crate) struct Reloader {
    path: PathBuf,
    control: Arc<Control>,
    registry: Registry,
    metrics: Arc<ControlMetrics>,
    config: Arc<Config>,
    digest: [u8; 32],
    policies: HashMap<String, LoadedPolicy>,
    warnings: HashSet<String>,
    /// The last failure, so that it is logged once and not at every poll.
    failure: Option<String>,
}

/// One attempt, to be made on a thread that may block.
pub(crate) struct Job {
    path: PathBuf,
    registry: Registry,
    config: Arc<Config>,
    digest: [u8; 32],
    policies: HashMap<String, LoadedPolicy>,
    generation: u64,
}

/// What an attempt came to.
pub(crate) struct Attempt {
    result: Result<Outcome, Diagnostics>,
    /// What to watch from now on, if the configuration could be read.
    pub(crate) watched: Option<Vec<PathBuf>>,
}

/// What an attempt found that did not fail.
enum Outcome {
    /// Everything is as it was.
    Unchanged,
    /// Something new, which is good.
    Ready(Box<Loaded>, Box<Snapshot>),
}

impl Reloader {
    /// Of a process that has just put `loaded` in force.
    pub(crate) fn new(
        path: &Path,
        control: Arc<Control>,
        registry: Registry,
        metrics: Arc<ControlMetrics>,
        loaded: Loaded,
    ) -> Reloader {
        let mut reloader = Reloader {
            path: path.to_owned(),
            control,
            registry,
            metrics,
            config: loaded.config.clone(),
            digest: loaded.digest,
            policies: HashMap::new(),
            warnings: HashSet::new(),
            failure: None,
        };
        reloader.adopt(loaded);
        reloader
    }

    /// The configuration in force.
    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    /// A further attempt.
    pub(crate) fn job(&self) -> Job {
        Job {
            path: self.path.clone(),
            registry: self.registry.clone(),
            config: self.config.clone(),
            digest: self.digest,
            policies: self.policies.clone(),
            generation: self.control.generation() + 1,
        }
    }

    /// Puts the result of an attempt in force, or says why not. `insist` says it even if it was said before.
    pub(crate) fn finish(&mut self, attempt: Attempt, insist: bool) {
        let outcome = match attempt.result {
            Ok(Outcome::Unchanged) => {
                if self.failure.take().is_some() {
                    tracing::info!("the configuration is again what runs");
                } else if insist {
                    tracing::info!(generation = self.control.generation(), "nothing has changed");
                }
                ReloadOutcome::Unchanged
            }
            Ok(Outcome::Ready(loaded, snapshot)) => {
                self.failure = None;
                self.control.publish(*snapshot);
                self.adopt(*loaded);
                tracing::info!(generation = self.control.generation(), "new configuration in force");
                ReloadOutcome::Applied
            }
            Err(problems) => {
                let text = brief(&problems);
                if insist || self.failure.as_ref() != Some(&text) {
                    tracing::error!(
                        generation = self.control.generation(),
                        problems = text,
                        "new configuration refused, the running one stays"
                    );
                }
                self.failure = Some(text);
                ReloadOutcome::Failed
            }
        };
        self.metrics.reload_finished(outcome, now_unix());
    }

    fn adopt(&mut self, loaded: Loaded) {
        self.metrics.snapshot_published(self.control.generation(), now_unix());
        self.metrics.expiries_changed(loaded.certificate_expiries(), loaded.trust_expiries());
        let warnings: HashSet<String> = loaded.warnings.iter().map(brief_one).collect();
        for warning in warnings.difference(&self.warnings) {
            tracing::warn!(problem = warning, "the configuration deserves a look");
        }
        self.warnings = warnings;
        self.config = loaded.config;
        self.digest = loaded.digest;
        self.policies = loaded.policies;
    }
}

impl Job {
    /// Reads and builds. Blocks, for seconds if policies are large.
    pub(crate) fn run(self) -> Attempt {
        let gathered = match load::gather(&self.path) {
            Ok(gathered) => gathered,
            Err(problems) => return Attempt { result: Err(problems), watched: None },
        };
        let watched = Some(gathered.watched());
        if gathered.digest() == self.digest {
            return Attempt { result: Ok(Outcome::Unchanged), watched };
        }
        let result = gathered.build(&self.policies).and_then(|loaded| {
            refuse_what_needs_a_restart(&self.config, &loaded.config)?;
            let snapshot = snapshot(&loaded, self.generation, &self.registry)?;
            Ok(Outcome::Ready(Box::new(loaded), Box::new(snapshot)))
        });
        Attempt { result, watched }
    }
}

/// Builds a snapshot of what was loaded.
///
/// # Errors
/// Why the parts do not go together.
pub(crate) fn snapshot(
    loaded: &Loaded,
    generation: u64,
    registry: &Registry,
) -> Result<Snapshot, Diagnostics> {
    Snapshot::build(&loaded.config, &loaded.materials, generation, registry).map_err(|errors| {
        let mut problems = Diagnostics::new();
        problems.extend(errors.iter().map(|error| match error {
            SnapshotError::Tls { at, .. } | SnapshotError::LaxDefault { at, .. } => {
                loaded.config.diagnostic(Severity::Error, at, error.to_string())
            }
            SnapshotError::Missing { .. } => {
                Diagnostic::whole_file(loaded.config.file(), error.to_string(), None)
            }
        }));
        problems
    })
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
    compare(running.log.level == next.log.level, "`level` in [log]");
    compare(running.log.queue_records == next.log.queue_records, "`queue_records` in [log]");
    compare(access_target(running) == access_target(next), "`access` in [log]");
    compare(sockets(running) == sockets(next), "`name`, `bind` or `backlog` of a [[listener]]");
    if problems.is_empty() { Ok(()) } else { Err(problems) }
}

/// All problems in one line of a log; `ringward check` shows them in full.
fn brief(problems: &Diagnostics) -> String {
    let mut text: Vec<String> = problems.iter().take(PROBLEMS_LOGGED).map(brief_one).collect();
    if let Some(more @ 1..) = problems.len().checked_sub(PROBLEMS_LOGGED) {
        text.push(format!("{more} more"));
    }
    text.join("; ")
}

fn brief_one(problem: &Diagnostic) -> String {
    let Diagnostic { severity, file, line, column, message, .. } = problem;
    format!("{}:{line}:{column}: {severity}: {message}", file.display())
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

/// Problems shown in one line of the log.
const PROBLEMS_LOGGED: usize = 20;
