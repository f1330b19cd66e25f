//! A scenario against a Ringward of its own: certificates, an upstream and the gateway are made for it, and gone when it is over.
//!
//! Both ends count: what `ringward-load` says of handshakes and answers has to be what Ringward's metrics say, to the last one.

mod counts;
mod metrics;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{env, fs, io};

use clap::Args;
use serde::Serialize;
use tempfile::TempDir;
use tokio::runtime::{Builder, LocalOptions};
use tokio::time::sleep;

use crate::args::RunArguments;
use crate::compare::free_address;
use crate::compare::process::{Cpus, Running, Start};
use crate::engine;
use crate::fleet::{self, Class, FleetError, FleetPlan};
use crate::open_files;
use crate::plan::{Plan, PlanError};
use crate::report::Report;
use crate::scenario::{Scenario, Source};

use self::counts::Count;
use self::metrics::Metrics;

/// Arguments of `ringward-load try`.
#[derive(Clone, Debug, Args)]
pub(crate) struct TryArguments {
    #[command(flatten)]
    pub(crate) run: RunArguments,
    /// Ringward's program: by default what the variable RINGWARD_BIN names, or else the one beside this program or in PATH.
    #[arg(long, value_name = "FILE")]
    ringward: Option<PathBuf>,
}

/// What came of it.
#[derive(Debug, Serialize)]
pub(crate) struct Trial {
    pub(crate) report: Report,
    /// What both have counted.
    counts: Vec<Count>,
}

/// Why nothing was tried.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TrialError {
    #[error("{0}")]
    Plan(#[from] PlanError),
    #[error("{0}")]
    Fleet(#[from] FleetError),
    #[error("a scenario is needed: `ringward-load try SCENARIO.toml`")]
    NoScenario,
    #[error("`try` starts what it loads; {0} is for `run`")]
    OwnTarget(&'static str),
    #[error("the scenario has {0} server names, and `try` makes a certificate for {NAMES_MAX} at the most")]
    Names(usize),
    #[error(
        "there is no program `ringward`; build it with `cargo build --release -p ringward`, or name it with --ringward"
    )]
    NoGateway,
    #[error("files for it cannot be written: {0}")]
    Files(io::Error),
    #[error("`{program}` cannot be started: {reason}")]
    Start { program: String, reason: io::Error },
    #[error("the upstream does not say where it listens")]
    Upstream,
    #[error("the gateway is not ready: {0}")]
    NotReady(String),
    #[error("the metrics of the gateway cannot be read: {0}")]
    Metrics(io::Error),
}

/// Makes everything that a scenario needs, carries it out, and compares what was counted.
///
/// # Errors
/// What kept it from beginning. That answers were wrong, or counts differ, is in the trial.
pub(crate) fn run(arguments: &TryArguments) -> Result<Trial, TrialError> {
    let scenario = judged(&arguments.run)?;
    // Before anything is started, which inherits it: one for the client, one for the upstream.
    let needed = 2 * u64::from(scenario.connections) + open_files::OTHERS;
    open_files::allow(needed).map_err(|allowed| PlanError::OpenFiles {
        wanted: scenario.connections,
        needed,
        allowed,
    })?;
    let gateway = program(arguments.ringward.as_deref()).ok_or(TrialError::NoGateway)?;
    let directory = TempDir::with_prefix("ringward-try-").map_err(TrialError::Files)?;
    let pki = directory.path().join("pki");
    fleet::make(&fleet_for(&scenario)?, &pki)?;
    let mut builder = Builder::new_current_thread();
    let runtime = builder
        .enable_all()
        .build_local(LocalOptions::default())
        .map_err(|reason| TrialError::Plan(PlanError::Runtime(reason)))?;
    runtime.block_on(async {
        let upstream = Upstream::start().await?;
        let gateway = Gateway::start(&gateway, directory.path(), &scenario, upstream.address).await?;
        let load = RunArguments {
            target: Some(gateway.listen.to_string()),
            pki: Some(pki),
            server_pid: Some(gateway.running.id()),
            ..arguments.run.clone()
        };
        let plan = Plan::new(&load)?;
        let progress = load.progress(&plan);
        let before = gateway.metrics.scrape().await.map_err(TrialError::Metrics)?;
        let report = engine::run(plan, progress).await;
        let counts = settled(&gateway.metrics, &before, &report).await?;
        gateway.running.stop().await;
        upstream.running.stop().await;
        Ok(Trial { report, counts })
    })
}

/// The scenario, if it can be tried.
fn judged(arguments: &RunArguments) -> Result<Scenario, TrialError> {
    let own = [
        (arguments.target.is_some(), "--target"),
        (arguments.allow_remote, "--allow-remote"),
        (arguments.pki.is_some(), "--pki"),
        (arguments.ca.is_some(), "--ca"),
        (arguments.server_pid.is_some(), "--server-pid"),
    ];
    if arguments.scenario.is_none() {
        return Err(TrialError::NoScenario);
    }
    if let Some((_, argument)) = own.into_iter().find(|(given, _)| *given) {
        return Err(TrialError::OwnTarget(argument));
    }
    let scenario = arguments.to_scenario()?;
    match scenario.server_names.len() {
        names if names > NAMES_MAX => Err(TrialError::Names(names)),
        _ => Ok(scenario),
    }
}

/// As many certificates of each class as the scenario takes.
fn fleet_for(scenario: &Scenario) -> Result<FleetPlan, TrialError> {
    let mut plan = FleetPlan { server_names: scenario.server_names.clone(), ..FleetPlan::default() };
    for name in [STRICT_HOST, OPEN_HOST] {
        if !plan.server_names.iter().any(|known| known == name) {
            plan.server_names.push(name.to_owned());
        }
    }
    for class in &scenario.classes {
        if let Source::Fleet { class, count: Some(count) } = class.source {
            let wanted = u32::try_from(count).unwrap_or(u32::MAX);
            let made = match class {
                Class::Valid => &mut plan.valid,
                Class::Expired => &mut plan.expired,
                Class::NotYetValid => &mut plan.not_yet_valid,
                Class::Revoked => &mut plan.revoked,
                Class::WrongCa => &mut plan.wrong_ca,
                Class::NoClientAuth => &mut plan.no_client_auth,
            };
            *made = wanted.max(*made);
        }
    }
    Ok(plan)
}

/// Where Ringward's program is.
fn program(named: Option<&Path>) -> Option<PathBuf> {
    if let Some(named) = named {
        return Some(named.to_owned());
    }
    if let Some(named) = env::var_os("RINGWARD_BIN") {
        return Some(named.into());
    }
    let beside = env::current_exe().ok()?.with_file_name("ringward");
    let in_path = env::var_os("PATH").unwrap_or_default();
    let in_path = env::split_paths(&in_path).map(|directory| directory.join("ringward"));
    [beside].into_iter().chain(in_path).find(|file| file.is_file())
}

struct Upstream {
    running: Running,
    address: SocketAddr,
}

impl Upstream {
    async fn start() -> Result<Upstream, TrialError> {
        let program = env::current_exe().map_err(TrialError::Files)?;
        let arguments = ["upstream", "--listen", "127.0.0.1:0"].map(Into::into).to_vec();
        let mut running = start(Start { program, arguments, variables: Vec::new() }, None)?;
        let line = running.first_line().await.map_err(|_| TrialError::Upstream)?;
        let address = line.trim().rsplit(' ').next().and_then(|word| word.parse().ok());
        Ok(Upstream { running, address: address.ok_or(TrialError::Upstream)? })
    }
}

struct Gateway {
    running: Running,
    listen: SocketAddr,
    metrics: Metrics,
}

impl Gateway {
    async fn start(
        program: &Path,
        directory: &Path,
        scenario: &Scenario,
        upstream: SocketAddr,
    ) -> Result<Gateway, TrialError> {
        let [listen, metrics] = [free_address(), free_address()];
        let (listen, metrics) = (listen.map_err(TrialError::Files)?, metrics.map_err(TrialError::Files)?);
        let policy = directory.join("authz.rego");
        let strict =
            [STRICT_HOST].into_iter().map(str::to_owned).chain(scenario.server_names.iter().cloned());
        let mut strict: Vec<_> = strict.filter(|name| name != OPEN_HOST).collect();
        strict.sort();
        strict.dedup();
        let config = CONFIG
            .replace("@METRICS@", &metrics.to_string())
            .replace("@STATE@", &directory.join("state").display().to_string())
            .replace("@PKI@", &directory.join("pki").display().to_string())
            .replace("@POLICY@", &policy.display().to_string())
            .replace("@UPSTREAM@", &upstream.to_string())
            .replace("@LISTEN@", &listen.to_string())
            .replace("@STRICT_NAMES@", &format!("{strict:?}"));
        let path = directory.join("ringward.toml");
        fs::create_dir(directory.join("state"))
            .and_then(|()| fs::write(&policy, POLICY))
            .and_then(|()| fs::write(&path, config))
            .map_err(TrialError::Files)?;
        let log = directory.join("ringward.log");
        let arguments = vec!["run".into(), "-c".into(), path.into()];
        let running =
            start(Start { program: program.to_owned(), arguments, variables: Vec::new() }, Some(&log))?;
        let mut gateway = Gateway { running, listen, metrics: Metrics::new(metrics) };
        gateway.wait(&log).await?;
        Ok(gateway)
    }

    /// Waits until it serves.
    async fn wait(&mut self, log: &Path) -> Result<(), TrialError> {
        let began = Instant::now();
        while !self.metrics.is_ready().await {
            if self.running.ended().is_some() || began.elapsed() > READY_MAX {
                return Err(TrialError::NotReady(fs::read_to_string(log).unwrap_or_default()));
            }
            sleep(BETWEEN_LOOKS).await;
        }
        Ok(())
    }
}

fn start(what: Start, log: Option<&Path>) -> Result<Running, TrialError> {
    let program = what.program.display().to_string();
    let cpus = Cpus::allowed().map_err(TrialError::Files)?;
    Running::start(&what, &cpus, log).map_err(|reason| TrialError::Start { program, reason })
}

/// What both have counted, once the gateway has counted all: it does so when an exchange is over, which is after the client has its
/// answer.
async fn settled(
    metrics: &Metrics,
    before: &metrics::Sample,
    report: &Report,
) -> Result<Vec<Count>, TrialError> {
    let began = Instant::now();
    loop {
        let now = metrics.scrape().await.map_err(TrialError::Metrics)?;
        let counts = counts::of(report, before, &now);
        if counts.iter().all(Count::agrees) || began.elapsed() > SETTLE_MAX {
            return Ok(counts);
        }
        sleep(BETWEEN_LOOKS).await;
    }
}

impl Trial {
    /// Whether every answer was right and both have counted alike.
    pub(crate) fn is_right(&self) -> bool {
        self.report.is_right() && self.counts.iter().all(Count::agrees)
    }

    /// Lines for people.
    pub(crate) fn to_text(&self) -> String {
        format!("{}\n{}", self.report.to_text().trim_end(), counts::table(&self.counts))
    }

    /// One JSON object.
    pub(crate) fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("no map has keys that JSON cannot have")
    }
}

const CONFIG: &str = include_str!("../scenarios/gateway.toml");
const POLICY: &str = include_str!("../scenarios/authz.rego");
/// The host whose clients all need certificates, and the one where some routes are for everybody.
const STRICT_HOST: &str = "api.example.com";
const OPEN_HOST: &str = "open.example.com";
const NAMES_MAX: usize = 100;
/// A debug build on a busy machine takes some seconds.
const READY_MAX: Duration = Duration::from_secs(60);
/// For what is under way in the gateway when the last answer is there.
const SETTLE_MAX: Duration = Duration::from_secs(10);
const BETWEEN_LOOKS: Duration = Duration::from_millis(50);
