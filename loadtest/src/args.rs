//! The command line, and the plan that is made of it. A [`Plan`] can be carried out: its files were read, its target was
//! resolved and may be loaded, its counts and times are bounded.

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;
use std::{fmt, io};

use clap::{Args, ValueEnum};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;

use crate::process::Processes;
use crate::progress::Progress;
use crate::rate::Rates;
use crate::report::OutFile;
use crate::tls::{self, TlsFileError};

/// What each connection does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mode {
    /// GET after GET on connections that stay open.
    Keepalive,
    /// A new connection for each GET, with a full handshake unless `--resume` is given.
    Handshake,
    /// Connections that make one request, wait, and make another.
    Idle,
    /// GETs of large bodies on connections that stay open.
    Download,
    /// POSTs of large bodies on connections that stay open.
    Upload,
}

/// Arguments of `ringward-load run`.
#[derive(Clone, Debug, Args)]
pub(crate) struct RunArguments {
    /// What each connection does.
    #[arg(long, value_enum, default_value_t = Mode::Keepalive)]
    pub(crate) mode: Mode,
    /// Whom to load. Only loopback addresses, unless --allow-remote is given.
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) target: String,
    /// Load a target that is not on this machine. Make sure that it is yours.
    #[arg(long)]
    pub(crate) allow_remote: bool,
    /// The name that the target's certificate must carry; sent as SNI and Host.
    #[arg(long, value_name = "NAME")]
    pub(crate) server_name: String,
    /// Our certificate with its intermediates, PEM.
    #[arg(long, value_name = "FILE", requires = "key")]
    pub(crate) cert: Option<PathBuf>,
    /// The key of our certificate, PEM.
    #[arg(long, value_name = "FILE", requires = "cert")]
    pub(crate) key: Option<PathBuf>,
    /// Who may have signed the target's certificate, PEM.
    #[arg(long, value_name = "FILE")]
    pub(crate) ca: PathBuf,
    /// Offer this version of TLS alone.
    #[arg(long, value_enum, value_name = "VERSION")]
    pub(crate) tls_version: Option<tls::Version>,
    /// Offer these cipher suites alone, by their names of IANA, the preferred one first: `TLS_AES_128_GCM_SHA256`.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub(crate) tls_suite: Vec<String>,
    /// Offer these groups alone, the preferred one first: `X25519MLKEM768,X25519`.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub(crate) tls_group: Vec<String>,
    /// How many connections are used at the same time.
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=60_000))]
    pub(crate) connections: u32,
    /// Speak HTTP/2.
    #[arg(long)]
    pub(crate) http2: bool,
    /// With --http2: how many requests are made at the same time on each connection.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) streams: u32,
    /// End after so many requests.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=REQUESTS_MAX))]
    pub(crate) requests: Option<u64>,
    /// End after so many seconds. With --requests: whichever comes first.
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub(crate) duration: Option<Duration>,
    /// Requests per second, however the target does: an open loop. A request that has to wait for one of the connections has begun
    /// when it was due. `RATE`, or rates that say themselves how long they last, each `RATE:SECONDS` or `FROM-TO:SECONDS` with
    /// commas between: `0-2000:10,2000:60,5000:2,2000:30`. Modes keepalive, handshake, download and upload.
    #[arg(long, value_name = "RATES")]
    pub(crate) rate: Option<Rates>,
    /// The path to ask for, and the query if there is one.
    #[arg(long, value_name = "PATH", default_value = "/")]
    pub(crate) path: String,
    /// Modes keepalive and handshake: of a hundred requests so many ask for a path below --path that no other request asks
    /// for. It ends in the process's id and a number, so that no later run repeats it either.
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(1..=100))]
    pub(crate) fresh_paths: Option<u8>,
    /// How long a handshake or an exchange may take.
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = seconds)]
    pub(crate) timeout: Duration,
    /// Mode handshake: keep what the target gives for resuming a session, and resume with the next connection.
    #[arg(long)]
    pub(crate) resume: bool,
    /// Mode idle: how long the connections wait.
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub(crate) hold: Option<Duration>,
    /// Mode upload: how large the bodies are.
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u64).range(1..=BODY_BYTES_MAX))]
    pub(crate) body_bytes: Option<u64>,
    /// A process whose CPU time and memory are reported, with all that it has started: the target's, on this machine.
    #[arg(long, value_name = "PID", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) server_pid: Option<u32>,
    /// The status that every answer must have.
    #[arg(long, value_name = "STATUS", default_value_t = 200, value_parser = clap::value_parser!(u16).range(200..=599))]
    pub(crate) expect_status: u16,
    /// How large the body of every answer must be: a number of bytes, `same` for that of the first answer, or `any`. Mode
    /// download needs the number.
    #[arg(long, value_name = "BYTES", default_value = "same")]
    pub(crate) expect_bytes: ExpectedBytes,
    /// Print the report as JSON.
    #[arg(long)]
    pub(crate) json: bool,
    /// Write the report to this file too, in the form that its name ends in: .json, .csv, .html or .txt. May be given several times.
    /// A .csv file has the seconds of the run; what does not fit into its table is beside it, in .percentiles.csv and .failures.csv.
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Vec<OutFile>,
    /// Do not tell on standard error how the run goes on.
    #[arg(long)]
    pub(crate) quiet: bool,
}

/// How large the bodies of answers must be. That they are as large as their own heads say is checked in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ExpectedBytes {
    /// So large.
    Exactly(u64),
    /// All as large as the first.
    Same,
    /// Each may be different.
    Any,
}

/// What is to be done. See the fields of [`RunArguments`].
#[derive(Clone)]
pub(crate) struct Plan {
    pub(crate) mode: Mode,
    pub(crate) target: SocketAddr,
    pub(crate) server_name: ServerName<'static>,
    /// What the `Host` field says.
    pub(crate) authority: String,
    pub(crate) tls: Arc<ClientConfig>,
    /// What that is made of.
    pub(crate) offer: tls::Offer,
    pub(crate) connections: usize,
    pub(crate) http2: bool,
    /// At the same time on each connection.
    pub(crate) streams: usize,
    pub(crate) requests_max: u64,
    pub(crate) duration_max: Duration,
    pub(crate) rate: Option<Rates>,
    pub(crate) path: String,
    pub(crate) fresh_paths: u8,
    pub(crate) timeout: Duration,
    pub(crate) resume: bool,
    pub(crate) hold: Duration,
    pub(crate) body_bytes: u64,
    pub(crate) expected_status: u16,
    pub(crate) expected_bytes: ExpectedBytes,
    pub(crate) server: Option<Processes>,
}

/// Why a run cannot begin.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PlanError {
    #[error("--target {text}: {reason}")]
    Target { text: String, reason: String },
    #[error(
        "--target {text} is {address}, which is not on this machine; give --allow-remote if you may load it"
    )]
    Remote { text: String, address: SocketAddr },
    #[error("--server-name {0} is no host name and no IP address")]
    ServerName(String),
    #[error("--path {0:?} must begin with `/` and hold visible ASCII characters only")]
    Path(String),
    #[error("--mode {mode} needs {argument}")]
    Missing { mode: Mode, argument: &'static str },
    #[error("--mode {mode} has no use for {argument}")]
    Useless { mode: Mode, argument: &'static str },
    #[error("--rate says how long each of its rates lasts; leave --duration out, or give one rate alone")]
    TwoDurations,
    #[error("--server-pid {0}: there is no such process, or it is not ours to look at")]
    Server(u32),
    #[error("{0}")]
    Tls(#[from] TlsFileError),
    #[error(
        "{wanted} connections need {needed} open files, and this process may have {allowed}; raise `ulimit -n`"
    )]
    OpenFiles { wanted: u32, needed: u64, allowed: u64 },
    #[error("the runtime cannot be started: {0}")]
    Runtime(io::Error),
}

impl Plan {
    /// Makes sure that a run can begin.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub(crate) fn new(arguments: &RunArguments) -> Result<Plan, PlanError> {
        fits_mode(arguments)?;
        let target = target(&arguments.target, arguments.allow_remote)?;
        let name = &arguments.server_name;
        let server_name =
            ServerName::try_from(name.clone()).map_err(|_| PlanError::ServerName(name.clone()))?;
        let is_path = arguments.path.starts_with('/') && arguments.path.bytes().all(|b| b.is_ascii_graphic());
        if !is_path {
            return Err(PlanError::Path(arguments.path.clone()));
        }
        allow_open_files(arguments.connections)?;
        let duration = arguments.duration.or_else(|| arguments.rate.as_ref()?.duration());
        let offer = tls::Offer {
            version: arguments.tls_version,
            suites: arguments.tls_suite.clone(),
            groups: arguments.tls_group.clone(),
            http2: arguments.http2,
        };
        let identity = arguments.cert.as_deref().zip(arguments.key.as_deref());
        Ok(Plan {
            mode: arguments.mode,
            target,
            authority: authority(&server_name, target.port()),
            server_name,
            tls: tls::client_config(&arguments.ca, identity, &offer)?,
            offer,
            connections: arguments.connections as usize,
            http2: arguments.http2,
            streams: arguments.streams as usize,
            requests_max: arguments.requests.unwrap_or(REQUESTS_MAX),
            duration_max: duration.unwrap_or(SECONDS_MAX),
            rate: arguments.rate.clone(),
            path: arguments.path.clone(),
            fresh_paths: arguments.fresh_paths.unwrap_or(0),
            timeout: arguments.timeout,
            resume: arguments.resume,
            hold: arguments.hold.unwrap_or(HOLD_DEFAULT),
            body_bytes: arguments.body_bytes.unwrap_or(0),
            expected_status: arguments.expect_status,
            expected_bytes: arguments.expect_bytes,
            server: arguments.server_pid.map(server).transpose()?,
        })
    }
}

impl RunArguments {
    /// What is shown of the run while it goes on.
    pub(crate) fn progress(&self) -> Option<Progress> {
        let duration = self.duration.or_else(|| self.rate.as_ref()?.duration());
        (!self.quiet).then(|| Progress::new(duration, self.requests))
    }
}

impl FromStr for ExpectedBytes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "same" => Ok(ExpectedBytes::Same),
            "any" => Ok(ExpectedBytes::Any),
            _ => text.parse().map(ExpectedBytes::Exactly).map_err(|_| "a number, `same` or `any`".to_owned()),
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Mode::Keepalive => "keepalive",
            Mode::Handshake => "handshake",
            Mode::Idle => "idle",
            Mode::Download => "download",
            Mode::Upload => "upload",
        })
    }
}

/// An argument that would change nothing is a misunderstanding, and one that is missing must not be guessed.
fn fits_mode(arguments: &RunArguments) -> Result<(), PlanError> {
    let mode = arguments.mode;
    let needs = |given, argument| if given { Ok(()) } else { Err(PlanError::Missing { mode, argument }) };
    let useless = |given, argument| if given { Err(PlanError::Useless { mode, argument }) } else { Ok(()) };
    if mode == Mode::Idle {
        useless(arguments.requests.is_some(), "--requests")?;
        useless(arguments.duration.is_some(), "--duration")?;
        useless(arguments.rate.is_some(), "--rate")?;
    } else {
        let lasts = arguments.rate.as_ref().and_then(Rates::duration);
        needs(
            arguments.requests.is_some() || arguments.duration.or(lasts).is_some(),
            "--requests or --duration",
        )?;
        if lasts.is_some() && arguments.duration.is_some() {
            return Err(PlanError::TwoDurations);
        }
        useless(arguments.hold.is_some(), "--hold")?;
    }
    if !arguments.http2 || !matches!(mode, Mode::Keepalive | Mode::Download | Mode::Upload) {
        useless(arguments.streams > 1, "--streams, unless with --http2 on connections that stay open")?;
    }
    if mode != Mode::Handshake {
        useless(arguments.resume, "--resume")?;
    }
    if !matches!(mode, Mode::Keepalive | Mode::Handshake) {
        useless(arguments.fresh_paths.is_some(), "--fresh-paths")?;
    }
    if mode == Mode::Upload {
        needs(arguments.body_bytes.is_some(), "--body-bytes")?;
    } else {
        useless(arguments.body_bytes.is_some(), "--body-bytes")?;
    }
    if mode == Mode::Download {
        needs(matches!(arguments.expect_bytes, ExpectedBytes::Exactly(_)), "--expect-bytes with a number")?;
    }
    Ok(())
}

/// The address to connect to. A name that has a remote address beside a loopback address counts as remote.
fn target(text: &str, allow_remote: bool) -> Result<SocketAddr, PlanError> {
    let failed = |reason: String| PlanError::Target { text: text.to_owned(), reason };
    let addresses: Vec<_> = text.to_socket_addrs().map_err(|error| failed(error.to_string()))?.collect();
    let first = *addresses.first().ok_or_else(|| failed("has no address".to_owned()))?;
    match addresses.into_iter().find(|address| !address.ip().to_canonical().is_loopback()) {
        Some(address) if !allow_remote => Err(PlanError::Remote { text: text.to_owned(), address }),
        _ => Ok(first),
    }
}

fn server(id: u32) -> Result<Processes, PlanError> {
    let processes = Processes::new(id);
    processes.usage().map(|_| processes).ok_or(PlanError::Server(id))
}

/// RFC 9110 §7.2: with the port, unless it is that of the scheme.
fn authority(name: &ServerName<'_>, port: u16) -> String {
    let host = match name {
        ServerName::IpAddress(rustls::pki_types::IpAddr::V6(_)) => format!("[{}]", name.to_str()),
        _ => name.to_str().into_owned(),
    };
    if port == HTTPS_PORT { host } else { format!("{host}:{port}") }
}

/// Raises the limit of open files as far as this process may.
fn allow_open_files(connections: u32) -> Result<(), PlanError> {
    let needed = u64::from(connections) + OTHER_FILES;
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= needed) {
        return Ok(());
    }
    let raised = Rlimit { current: Some(needed), maximum: limit.maximum };
    setrlimit(Resource::Nofile, raised).map_err(|_| {
        let allowed = limit.maximum.or(limit.current).unwrap_or(0);
        PlanError::OpenFiles { wanted: connections, needed, allowed }
    })
}

/// Reads a time: seconds, also with a fraction, up to an hour.
fn seconds(text: &str) -> Result<Duration, String> {
    let time = text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    match time {
        Some(time) if (SECONDS_MIN..=SECONDS_MAX).contains(&time) => Ok(time),
        _ => Err(format!("must be a number from {} to {}", SECONDS_MIN.as_secs_f64(), SECONDS_MAX.as_secs())),
    }
}

/// A run that takes longer is better made of several.
pub(crate) const SECONDS_MAX: Duration = Duration::from_secs(3600);
/// Below it, the time that the run itself takes would be measured.
const SECONDS_MIN: Duration = Duration::from_millis(10);
/// More than a target can answer in an hour.
pub(crate) const REQUESTS_MAX: u64 = 1_000_000_000;
/// 16 GiB.
const BODY_BYTES_MAX: u64 = 16 << 30;
/// Long enough to look at the target's memory.
const HOLD_DEFAULT: Duration = Duration::from_secs(10);
/// Standard streams, the runtime's own and connections that are being closed.
const OTHER_FILES: u64 = 64;
const HTTPS_PORT: u16 = 443;

#[cfg(test)]
mod tests;
