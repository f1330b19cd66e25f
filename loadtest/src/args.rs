//! The command line of a run: a scenario that is read, in which some things are replaced, or one that is made of arguments.

use std::cell::Cell;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, ValueEnum};
use http::Method;

use crate::clients::Outcome;
use crate::distribution::Distribution;
use crate::fleet;
use crate::grpc::CallKind;
use crate::plan::{Plan, PlanError};
use crate::progress::Progress;
use crate::rate::Rates;
use crate::report::OutFile;
use crate::request::{Expected, ExpectedBytes, PathTemplate, RequestKind, What};
use crate::scenario::{ClassPlan, HANDSHAKES_MAX, Scenario, Source, TIMEOUT_DEFAULT};
use crate::tls::{self, Offer};
use crate::websocket::MESSAGE_BYTES_MAX;

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
    /// gRPC calls on connections that stay open.
    Grpc,
    /// WebSockets with somebody who echoes, one after the other.
    Websocket,
}

/// Arguments of `ringward-load run`.
#[derive(Clone, Debug, Args)]
pub(crate) struct RunArguments {
    /// A scenario to carry out. What it says of target, amount and time is replaced by what is given here; the rest belongs to it.
    pub(crate) scenario: Option<PathBuf>,
    /// What each connection does.
    #[arg(long, value_enum, default_value_t = Mode::Keepalive, conflicts_with = "scenario")]
    pub(crate) mode: Mode,
    /// Whom to load. Only loopback addresses, unless --allow-remote is given.
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) target: Option<String>,
    /// Load a target that is not on this machine. Make sure that it is yours.
    #[arg(long)]
    pub(crate) allow_remote: bool,
    /// The name that the target's certificate must carry; sent as SNI and Host.
    #[arg(long, value_name = "NAME")]
    pub(crate) server_name: Option<String>,
    /// Our certificate with its intermediates, PEM.
    #[arg(long, value_name = "FILE", requires = "key", conflicts_with_all = ["scenario", "pki"])]
    pub(crate) cert: Option<PathBuf>,
    /// The key of our certificate, PEM.
    #[arg(long, value_name = "FILE", requires = "cert", conflicts_with_all = ["scenario", "pki"])]
    pub(crate) key: Option<PathBuf>,
    /// Who may have signed the target's certificate, PEM.
    #[arg(long, value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,
    /// A directory that `ringward-load pki` has made: certificates of clients, and the one that signed the target's. Each
    /// connection is another client's.
    #[arg(long, value_name = "DIRECTORY")]
    pub(crate) pki: Option<PathBuf>,
    /// Offer this version of TLS alone.
    #[arg(long, value_enum, value_name = "VERSION", conflicts_with = "scenario")]
    pub(crate) tls_version: Option<tls::Version>,
    /// Offer these cipher suites alone, by their names of IANA, the preferred one first: `TLS_AES_128_GCM_SHA256`.
    #[arg(long, value_name = "NAME", value_delimiter = ',', conflicts_with = "scenario")]
    pub(crate) tls_suite: Vec<String>,
    /// Offer these groups alone, the preferred one first: `X25519MLKEM768,X25519`.
    #[arg(long, value_name = "NAME", value_delimiter = ',', conflicts_with = "scenario")]
    pub(crate) tls_group: Vec<String>,
    /// How many connections are used at the same time: 16, unless a scenario says something else.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(CONNECTIONS_MAX)))]
    pub(crate) connections: Option<u32>,
    /// Speak HTTP/2. Mode grpc does so in any case.
    #[arg(long, conflicts_with = "scenario")]
    pub(crate) http2: bool,
    /// With --http2: how many requests are made at the same time on each connection.
    #[arg(long, value_name = "N", default_value_t = 1, conflicts_with = "scenario", value_parser = clap::value_parser!(u32).range(1..=i64::from(STREAMS_MAX)))]
    pub(crate) streams: u32,
    /// End after so many requests.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=REQUESTS_MAX))]
    pub(crate) requests: Option<u64>,
    /// End after so many seconds. With --requests: whichever comes first.
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub(crate) duration: Option<Duration>,
    /// Requests per second, however the target does: an open loop. A request that has to wait for one of the connections has begun
    /// when it was due. `RATE`, or rates that say themselves how long they last, each `RATE:SECONDS` or `FROM-TO:SECONDS` with
    /// commas between: `0-2000:10,2000:60,5000:2,2000:30`. All modes but idle.
    #[arg(long, value_name = "RATES")]
    pub(crate) rate: Option<Rates>,
    /// The path to ask for, and the query if there is one. `{1..1000}` is any number from 1 to 1000, and n in braces
    /// the number of the request.
    #[arg(long, value_name = "PATH", default_value = "/", conflicts_with = "scenario")]
    pub(crate) path: String,
    /// Modes keepalive and handshake: of a hundred requests so many ask for a path below --path that no other request asks
    /// for. It ends in the process's id and a number, so that no later run repeats it either.
    #[arg(long, value_name = "PERCENT", conflicts_with = "scenario", value_parser = clap::value_parser!(u8).range(1..=100))]
    pub(crate) fresh_paths: Option<u8>,
    /// How long a handshake or an exchange may take: 30 seconds, unless a scenario says something else.
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub(crate) timeout: Option<Duration>,
    /// Modes handshake and websocket: keep what the target gives for resuming a session, and resume with the next connection.
    #[arg(long, conflicts_with = "scenario")]
    pub(crate) resume: bool,
    /// Mode idle: how long the connections wait.
    #[arg(long, value_name = "SECONDS", value_parser = seconds, conflicts_with = "scenario")]
    pub(crate) hold: Option<Duration>,
    /// Mode grpc: how many messages go in which direction.
    #[arg(long, value_enum, value_name = "KIND", conflicts_with = "scenario")]
    pub(crate) grpc: Option<CallKind>,
    /// Modes grpc and websocket: how many messages; with gRPC in the direction that has many.
    #[arg(long, value_name = "N", conflicts_with = "scenario", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) messages: Option<u32>,
    /// Mode grpc: the status that each call must end with, 0 unless it is given.
    #[arg(long, value_name = "STATUS", conflicts_with = "scenario")]
    pub(crate) expect_grpc_status: Option<u32>,
    /// Mode upload: how large the bodies are. Modes grpc and websocket: how large each message is.
    #[arg(long, value_name = "BYTES", conflicts_with = "scenario", value_parser = clap::value_parser!(u64).range(1..=BODY_BYTES_MAX))]
    pub(crate) body_bytes: Option<u64>,
    /// A process whose CPU time and memory are reported, with all that it has started: the target's, on this machine.
    #[arg(long, value_name = "PID", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) server_pid: Option<u32>,
    /// The status that every answer must have.
    #[arg(long, value_name = "STATUS", default_value_t = 200, conflicts_with = "scenario", value_parser = clap::value_parser!(u16).range(200..=599))]
    pub(crate) expect_status: u16,
    /// How large the body of every answer must be: a number of bytes, `same` for that of the first answer, or `any`. Mode
    /// download needs the number.
    #[arg(long, value_name = "BYTES", default_value = "same", conflicts_with = "scenario")]
    pub(crate) expect_bytes: ExpectedBytes,
    /// What is drawn (which request is next, sizes, pauses) is drawn alike in runs with the same seed.
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,
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

impl RunArguments {
    /// What is shown of the run while it goes on.
    pub(crate) fn progress(&self, plan: &Plan) -> Option<Progress> {
        let duration = (plan.duration_max < SECONDS_MAX).then_some(plan.duration_max);
        let requests = (plan.requests_max < REQUESTS_MAX).then_some(plan.requests_max);
        (!self.quiet).then(|| Progress::new(duration, requests))
    }

    /// The scenario that is to be carried out.
    ///
    /// # Errors
    /// The first argument that is wrong, or all that is wrong with a file.
    pub(crate) fn to_scenario(&self) -> Result<Scenario, PlanError> {
        let mut scenario = match &self.scenario {
            Some(file) => Scenario::read(file)?,
            None => self.own_scenario()?,
        };
        self.replace_in(&mut scenario);
        Ok(scenario)
    }

    /// What both a scenario and arguments say, arguments decide.
    fn replace_in(&self, scenario: &mut Scenario) {
        fn replace<T: Clone>(value: &mut T, given: Option<&T>) {
            if let Some(given) = given {
                value.clone_from(given);
            }
        }
        let optional = |value: &mut Option<_>, given: &Option<_>| {
            if given.is_some() {
                value.clone_from(given);
            }
        };
        optional(&mut scenario.ca, &self.ca);
        optional(&mut scenario.pki, &self.pki);
        if let Some(rate) = &self.rate {
            scenario.rate = Some(rate.clone());
            // Rates that last for times of their own say when the run ends.
            scenario.duration_max = scenario.duration_max.filter(|_| rate.duration().is_none());
        }
        if let Some(target) = &self.target {
            scenario.target = Some(target.clone());
        }
        if let Some(name) = &self.server_name {
            scenario.server_names = vec![name.clone()];
        }
        scenario.requests_max = self.requests.or(scenario.requests_max);
        scenario.duration_max = self.duration.or(scenario.duration_max);
        replace(&mut scenario.connections, self.connections.as_ref());
        replace(&mut scenario.timeout, self.timeout.as_ref());
        replace(&mut scenario.seed, self.seed.as_ref());
    }

    fn what(&self) -> What {
        let messages = self.messages.unwrap_or(1);
        match (self.mode, self.grpc) {
            (Mode::Grpc, Some(kind)) => {
                What::Call { kind, messages, deadline: None, status: self.expect_grpc_status.unwrap_or(0) }
            }
            (Mode::Websocket, _) => What::WebSocket { messages, between: Duration::ZERO },
            _ => What::Request,
        }
    }

    /// A scenario of one class of clients and one kind of requests.
    fn own_scenario(&self) -> Result<Scenario, PlanError> {
        fits_mode(self)?;
        let source = match (&self.cert, &self.key, &self.pki) {
            (Some(cert), Some(key), _) => Source::Files { cert: cert.clone(), key: key.clone() },
            (_, _, Some(_)) => Source::Fleet { class: fleet::Class::Valid, count: None },
            _ => Source::Anonymous,
        };
        let path =
            PathTemplate::new(&self.path).map_err(|reason| PlanError::Path(self.path.clone(), reason))?;
        let kind = RequestKind {
            index: 0,
            name: self.path.clone(),
            share: 1.0,
            classes: Vec::new(),
            method: if self.mode == Mode::Upload { Method::POST } else { Method::GET },
            path,
            fresh_paths: self.fresh_paths.unwrap_or(0).into(),
            fields: Vec::new(),
            body: Distribution::Always(self.body_bytes.unwrap_or(0) as f64),
            what: self.what(),
            expected: Expected {
                status: match self.mode {
                    // RFC 6455 §4.1.
                    Mode::Websocket if !self.http2 && self.expect_status == 200 => 101,
                    _ => self.expect_status,
                },
                status_for: Vec::new(),
                bytes: Cell::new(self.expect_bytes),
                sha256: None,
            },
        };
        Ok(Scenario {
            name: self.mode.to_string(),
            description: None,
            target: None,
            server_names: Vec::new(),
            pki: None,
            ca: None,
            offer: Offer {
                version: self.tls_version,
                suites: self.tls_suite.clone(),
                groups: self.tls_group.clone(),
                http2: self.http2 || self.mode == Mode::Grpc,
            },
            connections: CONNECTIONS_DEFAULT,
            streams: self.streams,
            per_connection: (self.mode == Mode::Handshake).then_some(Distribution::Always(1.0)),
            think_time: Distribution::Always(0.0),
            storm_every: None,
            handshakes_max: HANDSHAKES_MAX,
            kept: true,
            resume: self.resume,
            requests_max: None,
            duration_max: None,
            rate: None,
            timeout: TIMEOUT_DEFAULT,
            hold: (self.mode == Mode::Idle).then(|| self.hold.unwrap_or(HOLD_DEFAULT)),
            seed: SEED_DEFAULT,
            classes: vec![ClassPlan { name: "all".to_owned(), share: 1.0, source, outcome: Outcome::Served }],
            kinds: vec![kind],
        })
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
            Mode::Grpc => "grpc",
            Mode::Websocket => "websocket",
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
    let http2 = arguments.http2 || mode == Mode::Grpc;
    if !http2 || matches!(mode, Mode::Handshake | Mode::Idle) {
        useless(arguments.streams > 1, "--streams, unless with --http2 on connections that stay open")?;
    }
    // Over HTTP/1.1 each WebSocket has a connection of its own.
    if mode != Mode::Handshake && (mode != Mode::Websocket || arguments.http2) {
        useless(arguments.resume, "--resume")?;
    }
    if !matches!(mode, Mode::Keepalive | Mode::Handshake) {
        useless(arguments.fresh_paths.is_some(), "--fresh-paths")?;
    }
    if mode == Mode::Grpc {
        needs(arguments.grpc.is_some(), "--grpc with the kind of the calls")?;
    } else {
        useless(arguments.grpc.is_some(), "--grpc")?;
        useless(arguments.expect_grpc_status.is_some(), "--expect-grpc-status")?;
    }
    if !matches!(mode, Mode::Grpc | Mode::Websocket) {
        useless(arguments.messages.is_some(), "--messages")?;
    }
    if matches!(mode, Mode::Upload | Mode::Grpc | Mode::Websocket) {
        needs(arguments.body_bytes.is_some(), "--body-bytes")?;
        let bytes = arguments.body_bytes.unwrap_or(0);
        needs(mode == Mode::Upload || bytes <= MESSAGE_BYTES_MAX as u64, "--body-bytes of up to 64 MiB")?;
        // What says how many are to come back (`grpc`).
        let counts = arguments.grpc == Some(CallKind::ServerStream);
        needs(
            !counts || bytes >= 4,
            "--body-bytes of at least 4, the number of messages that are to come back",
        )?;
    } else {
        useless(arguments.body_bytes.is_some(), "--body-bytes")?;
    }
    if mode == Mode::Download {
        needs(matches!(arguments.expect_bytes, ExpectedBytes::Exactly(_)), "--expect-bytes with a number")?;
    }
    Ok(())
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
/// As many as there are ports.
pub(crate) const CONNECTIONS_MAX: u32 = 60_000;
pub(crate) const STREAMS_MAX: u32 = 1000;
/// More than a target can answer in an hour.
pub(crate) const REQUESTS_MAX: u64 = 1_000_000_000;
/// 16 GiB.
const BODY_BYTES_MAX: u64 = 16 << 30;
/// Long enough to look at the target's memory.
const HOLD_DEFAULT: Duration = Duration::from_secs(10);
const CONNECTIONS_DEFAULT: u32 = 16;
const SEED_DEFAULT: u64 = 1;

#[cfg(test)]
mod tests;
