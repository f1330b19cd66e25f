//! `ringward-load`: load for gateways that ask their clients for certificates.
//!
//! A closed loop: each connection sends its next request when it has the whole answer to the last one, so a slow target
//! slows the load down. With `--rate` an open one: requests are due at their times, however slow it is (`pace`). Every status and every body length is checked, and one wrong answer makes the run fail. Nothing
//! of Ringward's own protocol code is used, so that a mistake cannot hide by being made at both ends.
//!
//! Only the command line is in here. `args` or a file makes a `scenario`, `plan` makes sure that it can be carried out, `engine` makes the load
//! with the connections of `client`, `report` shows what came of it. `fleet` makes certificates for it, `upstream` is what is behind a
//! gateway, `compare` does all of it for several gateways.
#![forbid(unsafe_code)]

mod answer;
mod args;
mod chunked;
mod client;
mod clients;
mod compare;
mod distribution;
mod engine;
mod failure;
mod fleet;
mod grpc;
mod http2;
mod http2_stream;
mod mix;
mod origin;
mod pace;
mod plan;
mod process;
mod progress;
mod rate;
mod record;
mod report;
mod request;
mod scenario;
mod series;
mod settings;
#[cfg(test)]
mod testing;
mod times;
mod tls;
mod trial;
mod upstream;
mod watch;
mod websocket;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tokio::runtime::{Builder, LocalOptions};

use crate::args::RunArguments;
use crate::compare::process::{LaunchArguments, launch};
use crate::compare::{CompareArguments, CompareError};
use crate::fleet::{FleetError, PkiArguments};
use crate::plan::{Plan, PlanError};
use crate::report::{ReadError, Report, ReportArguments, WriteError, write_files};
use crate::trial::{TrialError, TryArguments};
use crate::upstream::{UpstreamArguments, UpstreamError};

/// Load for gateways that ask their clients for certificates: a closed loop, or an open one at a rate; every answer checked.
#[derive(Debug, Parser)]
#[command(name = "ringward-load", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make load, check every answer, and say how long they took.
    ///
    /// Exit code 0: every answer was right. 1: one was not. 2: the run could not begin.
    Run(Box<RunArguments>),
    /// Start Ringward with an upstream and certificates of its own, carry out a scenario, and compare what both have counted.
    ///
    /// Exit code 0: every answer was right, and both have counted alike. 1: not so. 2: it could not begin.
    Try(Box<TryArguments>),
    /// Show the report of an earlier run, from its JSON.
    ///
    /// Exit code 0: it is there. 2: it is not.
    Report(ReportArguments),
    /// Make the certificates and keys of a gateway and of many clients, right and wrong ones, into a new directory.
    ///
    /// Exit code 0: all is there. 2: it is not.
    Pki(Box<PkiArguments>),
    /// Answer what comes through a gateway, in clear text: HTTP/1.1, HTTP/2, gRPC and WebSockets on one port.
    ///
    /// `/bytes/N` and `/chunked/N` are so many bytes, `/status/N` is that status, `/sse/COUNT/MS` so many events, `/echo` the request's
    /// body, `/delay/MS/…` any of these later; a POST is answered with its body's length and SHA-256, or as a GET if it is for
    /// `/discard`, which costs less. It ends on SIGTERM.
    Upstream(UpstreamArguments),
    /// Make the same load for Ringward and for other proxies, and print one table.
    ///
    /// Exit code 0: all that are installed were measured. 1: one was not. 2: the comparison could not begin.
    Compare(Box<CompareArguments>),
    /// Become another program, on certain processors.
    #[command(hide = true)]
    Launch(LaunchArguments),
}

/// Why nothing was done.
#[derive(Debug, thiserror::Error)]
enum CommandError {
    #[error("{0}")]
    Plan(#[from] PlanError),
    #[error("{0}")]
    Read(#[from] ReadError),
    #[error("{0}")]
    Write(#[from] WriteError),
    #[error("{0}")]
    Fleet(#[from] FleetError),
    #[error("{0}")]
    Upstream(#[from] UpstreamError),
    #[error("{0}")]
    Compare(#[from] CompareError),
    #[error("{0}")]
    Trial(#[from] TrialError),
    #[error("{0}")]
    Launch(String),
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Run(arguments) => run(&arguments),
        Command::Try(arguments) => try_out(&arguments),
        Command::Report(arguments) => report(&arguments),
        Command::Pki(arguments) => pki(&arguments),
        Command::Upstream(arguments) => {
            upstream::run(&arguments).map(|()| ExitCode::SUCCESS).map_err(CommandError::from)
        }
        Command::Compare(arguments) => compare(&arguments),
        Command::Launch(arguments) => Err(CommandError::Launch(launch(&arguments))),
    };
    outcome.unwrap_or_else(|error| {
        complain(&error);
        ExitCode::from(2)
    })
}

fn run(arguments: &RunArguments) -> Result<ExitCode, CommandError> {
    let report = begin(arguments)?;
    let written = write_files(&report, &arguments.out);
    if let Err(error) = &written {
        complain(error);
    }
    let text = if arguments.json { report.to_json() } else { report.to_text() };
    Ok(exit_code(print(&text) && written.is_ok() && report.is_right()))
}

fn try_out(arguments: &TryArguments) -> Result<ExitCode, CommandError> {
    let trial = trial::run(arguments)?;
    let written = write_files(&trial.report, &arguments.run.out);
    if let Err(error) = &written {
        complain(error);
    }
    let text = if arguments.run.json { trial.to_json() } else { trial.to_text() };
    Ok(exit_code(print(&text) && written.is_ok() && trial.is_right()))
}

fn report(arguments: &ReportArguments) -> Result<ExitCode, CommandError> {
    let text = arguments.render(&Report::read(&arguments.report)?)?;
    Ok(exit_code(text.is_none_or(|text| print(&text))))
}

fn begin(arguments: &RunArguments) -> Result<Report, PlanError> {
    let plan = Plan::new(arguments)?;
    // One thread, so that what is counted needs no locks.
    let mut builder = Builder::new_current_thread();
    let runtime = builder.enable_all().build_local(LocalOptions::default()).map_err(PlanError::Runtime)?;
    let progress = arguments.progress(&plan);
    Ok(runtime.block_on(engine::run(plan, progress)))
}

fn pki(arguments: &PkiArguments) -> Result<ExitCode, CommandError> {
    fleet::make(&arguments.plan, &arguments.out)?;
    let made = arguments.plan.classes().map(|(class, numbers)| format!("{} {class}", numbers.len()));
    // All is there, also if nobody wants to know.
    let made = made.collect::<Vec<_>>().join(", ");
    let _ = writeln!(io::stdout(), "{}: {made}; see fleet.toml", arguments.out.display());
    Ok(ExitCode::SUCCESS)
}

fn compare(arguments: &CompareArguments) -> Result<ExitCode, CommandError> {
    let comparison = compare::run(arguments)?;
    let text = match (arguments.json, arguments.markdown) {
        (true, _) => comparison.to_json(),
        (false, true) => comparison.to_markdown(),
        (false, false) => comparison.to_text(),
    };
    Ok(exit_code(print(&text) && comparison.is_right()))
}

fn exit_code(is_right: bool) -> ExitCode {
    if is_right { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// True if somebody has got it.
fn print(text: &str) -> bool {
    writeln!(io::stdout(), "{}", text.trim_end()).is_ok()
}

fn complain(error: &dyn std::error::Error) {
    // Nobody is left to be told if standard error is closed.
    let _ = writeln!(io::stderr(), "ringward-load: {error}");
}
