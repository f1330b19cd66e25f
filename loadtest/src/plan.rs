//! The plan of a run. It can be carried out: its files were read, its target was resolved and may be loaded, its counts and times are
//! bounded.

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;

use crate::args::{Mode, REQUESTS_MAX, RunArguments, SECONDS_MAX};
use crate::clients::{Class, Clients, Host};
use crate::distribution::Distribution;
use crate::fleet::{self, Files, FleetError};
use crate::open_files;
use crate::process::Processes;
use crate::rate::Rates;
use crate::request::Requests;
use crate::scenario::{ClassPlan, Problems, Scenario, Source};
use crate::settings;
use crate::tls::{self, Common, TlsFileError};

/// What is to be done. See the fields of [`Scenario`].
#[derive(Debug)]
pub(crate) struct Plan {
    /// What it is called in reports.
    pub(crate) name: String,
    /// What it stands for.
    pub(crate) description: Option<String>,
    pub(crate) target: SocketAddr,
    /// Each connection asks for the next of them.
    pub(crate) hosts: Vec<Rc<Host>>,
    pub(crate) clients: Clients,
    pub(crate) requests: Requests,
    pub(crate) connections: usize,
    pub(crate) http2: bool,
    pub(crate) streams: usize,
    pub(crate) per_connection: Option<Distribution>,
    /// In seconds.
    pub(crate) think_time: Distribution,
    pub(crate) storm_every: Option<Duration>,
    pub(crate) handshakes_max: usize,
    pub(crate) requests_max: u64,
    pub(crate) duration_max: Duration,
    pub(crate) rate: Option<Rates>,
    pub(crate) timeout: Duration,
    pub(crate) hold: Option<Duration>,
    pub(crate) seed: u64,
    pub(crate) server: Option<Processes>,
    /// By which a report says what it tells of.
    pub(crate) settings: BTreeMap<String, String>,
}

/// Why a run cannot begin.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PlanError {
    #[error("{0}")]
    Scenario(#[from] Problems),
    #[error("{0} is needed{1}")]
    Needed(&'static str, &'static str),
    #[error("--target {text}: {reason}")]
    Target { text: String, reason: String },
    #[error(
        "--target {text} is {address}, which is not on this machine; give --allow-remote if you may load it"
    )]
    Remote { text: String, address: SocketAddr },
    #[error("--server-name {0} is no host name and no IP address")]
    ServerName(String),
    #[error("--path {0:?} {1}")]
    Path(String, String),
    #[error("--mode {mode} needs {argument}")]
    Missing { mode: Mode, argument: &'static str },
    #[error("--mode {mode} has no use for {argument}")]
    Useless { mode: Mode, argument: &'static str },
    #[error(
        "the rates say how long each of them lasts; leave --duration out, or give one rate alone with --rate"
    )]
    TwoDurations,
    #[error("a think time is for closed loops; this scenario cannot be carried out with --rate")]
    Thinking,
    #[error("--server-pid {0}: there is no such process, or it is not ours to look at")]
    Server(u32),
    #[error("{0}")]
    Tls(#[from] TlsFileError),
    #[error("{0}")]
    Fleet(#[from] FleetError),
    #[error("`{}` has {there} clients of class `{class}`, and the scenario takes {wanted} (`count`)", .pki.display())]
    TooFew { pki: PathBuf, class: fleet::Class, there: usize, wanted: usize },
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
    /// The first thing that is wrong, or all that is wrong with a scenario.
    pub(crate) fn new(arguments: &RunArguments) -> Result<Plan, PlanError> {
        let scenario = arguments.to_scenario()?;
        let target = scenario.target.as_deref().ok_or(PlanError::Needed("--target", ""))?;
        let target = resolve(target, arguments.allow_remote)?;
        let hosts = hosts(&scenario.server_names, target.port())?;
        let lasts = scenario.rate.as_ref().and_then(Rates::duration);
        if scenario.duration_max.is_some() && lasts.is_some() {
            return Err(PlanError::TwoDurations);
        }
        if scenario.rate.is_some() && !scenario.think_time.is_always(0.0) {
            return Err(PlanError::Thinking);
        }
        let needed = u64::from(scenario.connections) + open_files::OTHERS;
        open_files::allow(needed).map_err(|allowed| PlanError::OpenFiles {
            wanted: scenario.connections,
            needed,
            allowed,
        })?;
        let clients = Clients::new(classes(&scenario)?, scenario.kept, scenario.resume);
        Ok(Plan {
            settings: settings::of(&scenario, target),
            name: scenario.name,
            description: scenario.description,
            target,
            hosts,
            requests: Requests::new(scenario.kinds, clients.classes.len()),
            clients,
            connections: scenario.connections as usize,
            http2: scenario.offer.http2,
            streams: scenario.streams as usize,
            per_connection: scenario.per_connection,
            think_time: scenario.think_time,
            storm_every: scenario.storm_every,
            handshakes_max: scenario.handshakes_max as usize,
            requests_max: scenario.requests_max.unwrap_or(REQUESTS_MAX),
            duration_max: scenario.duration_max.or(lasts).unwrap_or(SECONDS_MAX),
            rate: scenario.rate,
            timeout: scenario.timeout,
            hold: scenario.hold,
            seed: scenario.seed,
            server: arguments.server_pid.map(server).transpose()?,
        })
    }
}

/// The clients of each class, with their certificates.
fn classes(scenario: &Scenario) -> Result<Vec<Class>, PlanError> {
    let pki = scenario.pki.as_deref();
    let ca = match (&scenario.ca, pki) {
        (Some(ca), _) => ca.clone(),
        (None, Some(pki)) => Files::of(pki).server_ca,
        (None, None) => {
            return Err(PlanError::Needed(
                "--ca or --pki",
                ", which says who signed the target's certificate",
            ));
        }
    };
    let common = Common::new(&ca, &scenario.offer)?;
    let class = |plan: &ClassPlan| -> Result<Class, PlanError> {
        let members = match &plan.source {
            Source::Anonymous => vec![common.client(None)?],
            Source::Files { cert, key } => vec![common.client(Some(tls::credential(cert, key)?))?],
            Source::Fleet { class, count } => {
                let pki = pki.ok_or(PlanError::Needed(
                    "--pki",
                    ": the scenario's clients take their certificates from there",
                ))?;
                members(&common, pki, *class, *count)?
            }
        };
        Ok(Class::new(plan.name.clone(), plan.share, plan.outcome, members))
    };
    scenario.classes.iter().map(class).collect()
}

/// Clients of a class of a PKI.
fn members(
    common: &Common,
    pki: &Path,
    class: fleet::Class,
    count: Option<usize>,
) -> Result<Vec<Arc<ClientConfig>>, PlanError> {
    let all = fleet::identities(pki, class)?;
    let (there, wanted) = (all.len(), count.unwrap_or(all.len()));
    if there < wanted {
        return Err(PlanError::TooFew { pki: pki.to_owned(), class, there, wanted });
    }
    let some = all.into_iter().take(wanted);
    Ok(fleet::client_configs(&*common.client(None)?, some)?)
}

fn hosts(names: &[String], port: u16) -> Result<Vec<Rc<Host>>, PlanError> {
    if names.is_empty() {
        return Err(PlanError::Needed(
            "--server-name",
            ", the name that the target's certificate must carry",
        ));
    }
    let host = |name: &String| {
        let server_name =
            ServerName::try_from(name.clone()).map_err(|_| PlanError::ServerName(name.clone()))?;
        Ok(Rc::new(Host::new(server_name, port)))
    };
    names.iter().map(host).collect()
}

/// The address to connect to. A name that has a remote address beside a loopback address counts as remote.
fn resolve(text: &str, allow_remote: bool) -> Result<SocketAddr, PlanError> {
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
