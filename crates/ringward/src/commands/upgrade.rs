//! `ringward upgrade`: have the program on disk take over from the process that runs.

use std::time::Duration;

use clap::Args;

use super::{Process, parse_span, show};
use crate::admin_socket::{Client, ClientError, Request};
use crate::failure::{EXIT_RUNTIME, EXIT_USAGE, Failure};
use crate::terminal::complain;
use crate::upgrade::UpgradeReport;

/// Have a new process of the program on disk take over, without a connection refused or reset.
///
/// The running process starts the program at the path at which it was started itself, and hands over its listening sockets, the admin
/// listener and socket, the state directory and the ticket keys, so that sessions are resumed. When the new process serves, the old one
/// accepts no more, ends its connections within `drain_timeout`, and then itself. If the new one refuses the configuration, dies or is
/// not ready in time, it is ended, and the old one serves on as if nothing had been. What a reload cannot change, such as `workers` or
/// the addresses of listeners, is taken from the file, too. systemd is told the new main process. It needs `socket` in `[admin]`.
///
/// Exit codes: 0, the new process serves. 1, it does not, and the old one does. 2, the process cannot be asked, or ends.
#[derive(Debug, Args)]
pub(crate) struct Upgrade {
    /// How long the new process may take until it serves.
    #[arg(long, value_name = "SPAN", value_parser = parse_span, default_value = "60s")]
    timeout: Duration,
    #[command(flatten)]
    process: Process,
}

/// Runs the command.
///
/// # Errors
/// If no new process serves.
pub(crate) fn run(arguments: &Upgrade) -> Result<(), Failure> {
    let report = match ask(arguments)? {
        Ok(report) => report,
        Err(error) => {
            complain(format_args!("error: {error}"));
            return Err(Failure::Reported(EXIT_USAGE));
        }
    };
    show(&report, arguments.process.json)?;
    match report {
        UpgradeReport::HandedOver { .. } => Ok(()),
        UpgradeReport::Refused { .. } => Err(Failure::Reported(EXIT_RUNTIME)),
        UpgradeReport::TooLate => Err(Failure::Reported(EXIT_USAGE)),
    }
}

fn ask(arguments: &Upgrade) -> Result<Result<UpgradeReport, ClientError>, Failure> {
    let Upgrade { timeout, process } = arguments;
    let path = process.socket()?;
    let request = Request::Upgrade { timeout_seconds: timeout.as_secs().max(1) };
    let client = Client::connect(&path).and_then(|client| client.waiting(*timeout + ANSWER_SLACK));
    Ok(client.and_then(|mut client| client.ask(request, &[])))
}

/// For a new process that is not ready to be ended, and the answer to get here.
const ANSWER_SLACK: Duration = Duration::from_secs(15);
