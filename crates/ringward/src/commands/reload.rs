//! `ringward reload`: have the running process read its files again, and wait for what comes of it.
//!
//! It goes through the admin socket: that is the one way to the process that is for operators alone, as it lets nobody through but
//! root and the user of the process, and that answers. A signal cannot say what came of it, and the number in a file of process
//! numbers may be another process by now. The admin listener knows nobody, and is therefore never asked to change something.

use std::time::Duration;

use clap::Args;

use super::{Process, parse_span, show};
use crate::admin_socket::{Client, ClientError, Request};
use crate::failure::{EXIT_RUNTIME, EXIT_USAGE, Failure};
use crate::reload::ReloadReport;
use crate::terminal::complain;

/// Have the running process read its configuration and all files again, and say what came of it.
///
/// Files are read again by themselves when they change; this waits for it and tells the outcome: the generation in force, the files
/// that made a difference, or what is wrong. What is refused changes nothing. It needs `socket` in `[admin]`.
///
/// Exit codes: 0, what is on disk is in force. 1, it is refused, and what was in force stays. 2, the process cannot be asked, ends,
/// or did not answer in time.
#[derive(Debug, Args)]
pub(crate) struct Reload {
    /// How long to wait for the outcome; the reload goes on afterwards.
    #[arg(long, value_name = "SPAN", value_parser = parse_span, default_value = "60s")]
    timeout: Duration,
    #[command(flatten)]
    process: Process,
}

/// Runs the command.
///
/// # Errors
/// If what is on disk is not in force now.
pub(crate) fn run(arguments: &Reload) -> Result<(), Failure> {
    let report = match ask(arguments)? {
        Ok(report) => report,
        Err(error) => {
            complain(format_args!("error: {error}"));
            return Err(Failure::Reported(EXIT_USAGE));
        }
    };
    show(&report, arguments.process.json)?;
    match report {
        ReloadReport::Applied { .. } | ReloadReport::Unchanged { .. } => Ok(()),
        ReloadReport::Refused { .. } => Err(Failure::Reported(EXIT_RUNTIME)),
        ReloadReport::TooLate => Err(Failure::Reported(EXIT_USAGE)),
    }
}

fn ask(arguments: &Reload) -> Result<Result<ReloadReport, ClientError>, Failure> {
    let Reload { timeout, process } = arguments;
    let path = process.socket()?;
    let request = Request::Reload { timeout_seconds: timeout.as_secs() };
    // The process ends the wait, if it can, and says so.
    let client = Client::connect(&path).and_then(|client| client.waiting(*timeout + ANSWER_SLACK));
    Ok(client.and_then(|mut client| client.ask(request, &[])))
}

/// For an answer to get here.
const ANSWER_SLACK: Duration = Duration::from_secs(2);
