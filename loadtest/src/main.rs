//! `ringward-load`: load for gateways that ask their clients for certificates.
//!
//! A closed loop: each connection sends its next request when it has the whole answer to the last one, so a slow target
//! slows the load down. With `--rate` an open one: requests are due at their times, however slow it is (`pace`). Every status and every body length is checked, and one wrong answer makes the run fail. Nothing
//! of Ringward's own protocol code is used, so that a mistake cannot hide by being made at both ends.
//!
//! Only the command line is in here. `args` or a file makes a `scenario`, `plan` makes sure that it can be carried out, `engine` makes the load
//! with the connections of `client`, `report` shows what came of it.
#![forbid(unsafe_code)]

mod answer;
mod args;
mod chunked;
mod client;
mod clients;
mod distribution;
mod engine;
mod failure;
mod fleet;
mod http2;
mod mix;
mod pace;
mod plan;
mod process;
mod rate;
mod record;
mod report;
mod request;
mod scenario;
#[cfg(test)]
mod testing;
mod tls;
mod watch;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tokio::runtime::{Builder, LocalOptions};

use crate::args::RunArguments;
use crate::plan::{Plan, PlanError};
use crate::report::Report;

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
}

fn main() -> ExitCode {
    let Command::Run(arguments) = Arguments::parse().command;
    let report = match begin(&arguments) {
        Ok(report) => report,
        Err(error) => {
            // Nobody is left to be told if standard error is closed.
            let _ = writeln!(io::stderr(), "ringward-load: {error}");
            return ExitCode::from(2);
        }
    };
    let text = if arguments.json { report.to_json() } else { report.to_text() };
    if writeln!(io::stdout(), "{}", text.trim_end()).is_err() || !report.is_right() {
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn begin(arguments: &RunArguments) -> Result<Report, PlanError> {
    let plan = Plan::new(arguments)?;
    // One thread, so that what is counted needs no locks.
    let mut builder = Builder::new_current_thread();
    let runtime = builder.enable_all().build_local(LocalOptions::default()).map_err(PlanError::Runtime)?;
    Ok(runtime.block_on(engine::run(plan)))
}
