//! What a comparison needs while it measures: a proxy that serves, and load for it.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{env, fs, io};

use serde::Deserialize;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use super::case::Amount;
use super::peer::{Proxy, Setting};
use super::pki::{Client, PkiFiles, SERVER_NAME};
use super::process::{Cpus, Running, Start};

/// What all runs have in common.
pub(super) struct Bench {
    /// For the directories of proxies.
    pub(super) dir: PathBuf,
    pub(super) files: PkiFiles,
    pub(super) upstream: SocketAddr,
    pub(super) proxy_cpus: Cpus,
    pub(super) load_cpus: Cpus,
    pub(super) amount: Amount,
    pub(super) connections_max: u32,
}

/// A proxy that is there.
#[derive(Clone, Debug)]
pub(super) struct Candidate {
    pub(super) proxy: Proxy,
    pub(super) program: PathBuf,
    pub(super) version: String,
}

/// Why a run has come to nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum Trouble {
    #[error("its files cannot be written: {0}")]
    Prepare(io::Error),
    #[error("it cannot be started: {0}")]
    Start(io::Error),
    #[error("it did not start: {0}")]
    Ended(String),
    #[error("it accepts no connections after {} seconds: {log}", READY_MAX.as_secs())]
    Silent { log: String },
    #[error("the load could not be made: {0}")]
    Load(String),
    #[error("{failed} of {all} answers were wrong, the first: {first}")]
    Wrong { failed: u64, all: u64, first: String },
    #[error("its processes cannot be looked at")]
    Unseen,
    #[error("only {open} of {wanted} connections were open at the same time")]
    Closed { open: usize, wanted: u32 },
}

/// A proxy that serves. Its directory goes with it.
pub(super) struct Serving {
    pub(super) running: Running,
    pub(super) address: SocketAddr,
    dir: PathBuf,
}

/// What is read of the report of `ringward-load run`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct LoadReport {
    pub(super) right: u64,
    pub(super) failed: u64,
    pub(super) seconds: f64,
    pub(super) received_bytes: u64,
    pub(super) sent_bytes: u64,
    pub(super) connections_opened: u64,
    pub(super) connections_resumed: Option<u64>,
    pub(super) statuses: BTreeMap<u16, u64>,
    pub(super) failures: BTreeMap<String, FailureReport>,
    pub(super) due_us: Option<TimesReport>,
    pub(super) server: Option<ServerReport>,
}

/// Failures of one kind.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct FailureReport {
    first: String,
}

/// Times in microseconds.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct TimesReport {
    pub(super) p50: f64,
    pub(super) p99: f64,
    pub(super) p999: f64,
}

/// What the proxy has used.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ServerReport {
    pub(super) cpu_seconds: f64,
}

impl Candidate {
    /// Looks for it, and asks it for its version.
    pub(super) async fn find(proxy: Proxy, cache: &Path, cpus: &Cpus) -> Option<Candidate> {
        let program = proxy.find(cache)?;
        let arguments: Vec<_> = proxy.about().version.iter().map(Into::into).collect();
        let shown = program.to_string_lossy().into_owned();
        if arguments.is_empty() {
            let file = program.file_name().unwrap_or_default().to_string_lossy();
            let version = format!("{file}, which says no version");
            return Some(Candidate { proxy, program, version });
        }
        let start = Start { program: program.clone(), arguments, ..Start::default() };
        let asked = async { Running::start(&start, cpus, None)?.finish(VERSION_MAX).await };
        let text = asked.await.map(|said| said.output + &said.errors).unwrap_or_default();
        let line = text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or("unknown version");
        // Some begin with their path.
        let version = line.strip_prefix(&shown).unwrap_or(line).trim_start().to_owned();
        Some(Candidate { proxy, program, version })
    }
}

impl Serving {
    /// Starts a proxy afresh, and waits until it accepts connections.
    pub(super) async fn start(
        bench: &Bench,
        candidate: &Candidate,
        policy: bool,
    ) -> Result<Serving, Trouble> {
        let address = free_address().map_err(Trouble::Prepare)?;
        let dir = bench.dir.join(format!("{}-{}", candidate.proxy.name(), address.port()));
        fs::create_dir(&dir).map_err(Trouble::Prepare)?;
        let setting = Setting {
            listen: address,
            upstream: bench.upstream,
            dir: &dir,
            files: &bench.files,
            policy,
            workers: bench.proxy_cpus.count(),
            connections_max: bench.connections_max,
        };
        let prepared = (candidate.proxy.about().prepare)(&setting).map_err(Trouble::Prepare)?;
        let log = dir.join("output.log");
        let running = Running::start(&prepared.of(&candidate.program), &bench.proxy_cpus, Some(&log));
        let mut serving = Serving { running: running.map_err(Trouble::Start)?, address, dir };
        let began = Instant::now();
        while !matches!(timeout(CONNECT_MAX, TcpStream::connect(address)).await, Ok(Ok(_))) {
            if serving.running.ended().is_some() {
                return Err(Trouble::Ended(end_of(&log)));
            }
            if began.elapsed() > READY_MAX {
                return Err(Trouble::Silent { log: end_of(&log) });
            }
            sleep(BETWEEN_LOOKS).await;
        }
        Ok(serving)
    }

    /// Ends it in peace.
    pub(super) async fn stop(self) {
        self.running.stop().await;
        // What stays is removed with everything else at the end.
        let _ = fs::remove_dir_all(&self.dir);
    }
}

impl Bench {
    /// Begins to load a proxy.
    pub(super) fn begin_load(
        &self,
        serving: &Serving,
        client: Option<Client>,
        arguments: &str,
    ) -> Result<Running, Trouble> {
        let mut start = Start { program: env::current_exe().map_err(Trouble::Start)?, ..Start::default() };
        let target = serving.address.to_string();
        let fixed = ["run", "--json", "--target", &target, "--server-name", SERVER_NAME, "--ca"];
        start.arguments.extend(fixed.map(Into::into));
        start.arguments.push(self.files.server_ca.clone().into());
        if let Some(client) = client {
            let [chain, key] = self.files.client(client);
            start.arguments.extend(["--cert".into(), chain.into(), "--key".into(), key.into()]);
        }
        start.arguments.extend(arguments.split_whitespace().map(Into::into));
        Running::start(&start, &self.load_cpus, None).map_err(Trouble::Start)
    }

    /// Loads a proxy, and returns what came of it, right or wrong.
    pub(super) async fn load(
        &self,
        serving: &Serving,
        client: Option<Client>,
        arguments: &str,
    ) -> Result<LoadReport, Trouble> {
        LoadReport::of(self.begin_load(serving, client, arguments)?).await
    }
}

impl LoadReport {
    /// Waits for a load to end.
    pub(super) async fn of(load: Running) -> Result<LoadReport, Trouble> {
        let ended = load.finish(LOAD_MAX).await.map_err(|error| Trouble::Load(error.to_string()))?;
        serde_json::from_str(&ended.output).map_err(|error| {
            let said = ended.errors.trim();
            Trouble::Load(if said.is_empty() {
                format!("{}: {error}", ended.status)
            } else {
                said.to_owned()
            })
        })
    }

    /// The same report, if every answer was right.
    pub(super) fn right(self) -> Result<LoadReport, Trouble> {
        if self.failed == 0 && self.right > 0 {
            return Ok(self);
        }
        let first = self.failures.values().next().map_or("none was asked for", |failure| &failure.first);
        Err(Trouble::Wrong { failed: self.failed, all: self.failed + self.right, first: first.to_owned() })
    }
}

/// A port of 127.0.0.1 that nobody listens at now.
pub(crate) fn free_address() -> io::Result<SocketAddr> {
    TcpListener::bind(("127.0.0.1", 0))?.local_addr()
}

/// What a process has said of why it ended: the lines that speak of errors, or the last ones.
fn end_of(log: &Path) -> String {
    let text = fs::read(log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let speaks_of_errors = |line: &&&str| {
        let line = line.to_ascii_lowercase();
        ["error", "emerg", "alert", "critical", "panic"].iter().any(|word| line.contains(word))
    };
    let mut said: Vec<&str> = lines.iter().filter(speaks_of_errors).take(LOG_LINES).copied().collect();
    if said.is_empty() {
        said = lines[lines.len().saturating_sub(LOG_LINES)..].to_vec();
    }
    if said.is_empty() { "it said nothing".to_owned() } else { said.join("; ") }
}

/// For a program to say its version.
const VERSION_MAX: Duration = Duration::from_secs(20);
/// For a program to begin to serve.
const READY_MAX: Duration = Duration::from_secs(20);
const CONNECT_MAX: Duration = Duration::from_secs(1);
const BETWEEN_LOOKS: Duration = Duration::from_millis(20);
/// A measured run has some seconds, and all that it does beside is bounded as well.
pub(super) const LOAD_MAX: Duration = Duration::from_secs(900);
const LOG_LINES: usize = 3;
