//! `ringward onboard`: a partner's CA and the rule by which clients are theirs, as one change that is tried before it is made.
//!
//! Four steps, and what fails in one of them leaves everything as it was: what is to be written (`plan`), does the configuration
//! with it stand, and is the partner's certificate the partner's (`trial`), written (`files`), and in force. If the running process
//! refuses it, the files are taken back.

mod files;
mod plan;
mod report;
mod trial;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;
use ringward_config::Config;

use self::files::Change;
use self::plan::Plan;
use self::report::{InForce, OnboardReport};
use crate::admin_socket::{Client, ClientError, Request};
use crate::commands::show;
use crate::failure::{EXIT_RUNTIME, Failure};
use crate::reload::ReloadReport;
use crate::trust::status::TrustStatus;

/// Add a partner: their CA, the rule by which clients are theirs, and what else you write for them, as one change.
///
/// The files go where an `[[include]]` of the configuration lets them define trust bundles and tenants. Before anything is written the
/// whole configuration is checked with them, and the certificates of `--cert` have to be clients of this partner. Then they are
/// written, the running process reads them, and if it refuses, they are taken away again.
///
/// Exit codes: 0, the partner is in force, or, without a running process, will be with its next start. 1, something failed at run time,
/// and what was written was taken back. 2, it is refused, and nothing was written.
#[derive(Debug, Args)]
pub(crate) struct Onboard {
    /// What the trust bundle and the tenant are called.
    name: String,
    /// The CA of the partner: PEM, one certificate or several.
    #[arg(long, value_name = "FILE")]
    ca: PathBuf,
    /// The configuration file.
    #[arg(short, long, value_name = "FILE")]
    config: PathBuf,
    /// What makes a certificate this partner's, such as `san_dns=*.acme.example`: a key of `match` in `[tenant.NAME]` and its value. May be
    /// given several times, of which one must hold. By default every certificate of the CA is.
    #[arg(long = "match", value_name = "KEY=VALUE", value_parser = condition)]
    matches: Vec<(String, String)>,
    /// What names a client within the tenant, as `identity` in `[tenant.NAME]`.
    #[arg(long, value_name = "SOURCE")]
    identity: Option<String>,
    /// A file with more of the configuration, such as a `[[host]]` or `[[route]]` for this partner, which goes behind the rest.
    #[arg(long = "with", value_name = "FILE")]
    more: Option<PathBuf>,
    /// A certificate of one of the partner's clients: PEM, with its intermediates. It has to be admitted, as one of this partner. May
    /// be given several times.
    #[arg(long = "cert", value_name = "FILE")]
    certificates: Vec<PathBuf>,
    /// The directory to write into, if several `[[include]]` would take the partner.
    #[arg(long, value_name = "DIR")]
    into: Option<PathBuf>,
    /// Write over what is there of this name.
    #[arg(long)]
    replace: bool,
    /// Try it, and write nothing.
    #[arg(long)]
    dry_run: bool,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

/// Runs the command.
///
/// # Errors
/// If the partner is not in force now; nothing was changed then.
pub(crate) fn run(arguments: &Onboard) -> Result<(), Failure> {
    let begun = Instant::now();
    let plan = Plan::of(arguments)?;
    let (trial, config) = trial::of(arguments, &plan)?;
    let mut report = OnboardReport::of(arguments, &plan, trial);
    if !arguments.dry_run {
        let change = Change::write(&plan)?;
        match put_in_force(&config, &plan.name, begun) {
            Ok(in_force) => {
                report.in_force = Some(in_force);
                change.keep();
            }
            Err(failure) => {
                change.take_back();
                return Err(failure);
            }
        }
    }
    show(&report, arguments.json)
}

/// Has the running process read the files, if there is one.
fn put_in_force(config: &Config, name: &str, begun: Instant) -> Result<InForce, Failure> {
    let Some(socket) = &config.admin.socket else {
        return Ok(InForce::no_process("there is no `socket` in [admin] by which a process could be told"));
    };
    let request = Request::Reload { timeout_seconds: RELOAD_TIME.as_secs() };
    let client = Client::connect(&socket.path).and_then(|client| client.waiting(RELOAD_TIME + ANSWER_SLACK));
    let mut client = match client {
        Ok(client) => client,
        Err(ClientError::NotRunning { .. }) => {
            return Ok(InForce::no_process("no process listens on its socket"));
        }
        Err(error) => return Err(Failure::Runtime(format!("{error}; nothing was changed"))),
    };
    match client.ask(request, &[]) {
        Ok(ReloadReport::Applied { generation, .. } | ReloadReport::Unchanged { generation }) => {
            check_bundle(&socket.path, name)?;
            Ok(InForce::Now { generation, after_ms: begun.elapsed().as_millis() as u64 })
        }
        Ok(report) => {
            crate::terminal::complain(format_args!("{report}the files were taken back"));
            Err(Failure::Reported(EXIT_RUNTIME))
        }
        Err(error) => Err(Failure::Runtime(format!("{error}; the files were taken back"))),
    }
}

/// The process may have been started with another configuration.
fn check_bundle(socket: &Path, name: &str) -> Result<(), Failure> {
    let failed = |error: ClientError| Failure::Runtime(format!("{error}; the files were taken back"));
    let mut client = Client::connect(socket).map_err(failed)?;
    let status: TrustStatus = client.ask(Request::TrustStatus, &[]).map_err(failed)?;
    if status.bundles.iter().any(|bundle| bundle.name == name) {
        return Ok(());
    }
    Err(Failure::Runtime(format!(
        "the process that listens on `{}` has no trust bundle {name:?} after it has read its files: does it run with another \
         configuration? The files were taken back",
        socket.display()
    )))
}

/// `KEY=VALUE`.
fn condition(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() && !value.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("write KEY=VALUE, such as `san_dns=*.acme.example`".to_owned()),
    }
}

/// As `ringward reload` waits.
const RELOAD_TIME: Duration = Duration::from_secs(60);
/// For an answer to get here.
const ANSWER_SLACK: Duration = Duration::from_secs(2);
