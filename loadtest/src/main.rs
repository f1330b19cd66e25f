//! `ringward-load`: load for gateways that ask their clients for certificates.
//!
//! A closed loop: each connection sends its next request when it has the whole answer to the last one, so a slow target
//! slows the load down. With `--rate` an open one: requests are due at their times, however slow it is (`pace`). Every status and every body length is checked, and one wrong answer makes the run fail. Nothing
//! of Ringward's own protocol code is used, so that a mistake cannot hide by being made at both ends.
//!
//! Only the command line is in here. `args` judges it, `modes` makes the load with the connections of `client`, `report`
//! shows what came of it.
#![forbid(unsafe_code)]

mod answer;
mod args;
mod chunked;
mod client;
mod failure;
mod http2;
mod modes;
mod origin;
mod pace;
mod process;
mod progress;
mod rate;
mod record;
mod report;
mod series;
mod settings;
#[cfg(test)]
mod testing;
mod times;
mod tls;
mod watch;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tokio::runtime::{Builder, LocalOptions};

use crate::args::{Plan, PlanError, RunArguments};
use crate::report::{ReadError, Report, ReportArguments, WriteError, write_files};

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
    /// Show the report of an earlier run, from its JSON.
    ///
    /// Exit code 0: it is there. 2: it is not.
    Report(ReportArguments),
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
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Run(arguments) => run(&arguments),
        Command::Report(arguments) => report(&arguments),
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

fn report(arguments: &ReportArguments) -> Result<ExitCode, CommandError> {
    let text = arguments.render(&Report::read(&arguments.report)?)?;
    Ok(exit_code(text.is_none_or(|text| print(&text))))
}

fn begin(arguments: &RunArguments) -> Result<Report, PlanError> {
    let plan = Plan::new(arguments)?;
    // One thread, so that what is counted needs no locks.
    let mut builder = Builder::new_current_thread();
    let runtime = builder.enable_all().build_local(LocalOptions::default()).map_err(PlanError::Runtime)?;
    Ok(runtime.block_on(modes::run(plan, arguments.progress())))
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
