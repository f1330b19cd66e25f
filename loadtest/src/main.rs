//! `ringward-load`: load for gateways that ask their clients for certificates.
//!
//! A closed loop: each connection sends its next request when it has the whole answer to the last one, so a slow target
//! slows the load down. With `--rate` an open one: requests are due at their times, however slow it is (`pace`). Every status and every
//! body length is checked, and one wrong answer makes the run fail. Nothing of Ringward's own protocol code is used, so that a mistake
//! cannot hide by being made at both ends.
//!
//! Only the command line is in here. A run goes `args` or a file → `scenario` (what is to be done) → `plan` (it can be done: files are read,
//! names are resolved) → `engine` (the tasks, with the connections of `client` and the messages of `request`) → `record` (what is
//! counted) → `report`. Around it: `fleet` makes certificates, `upstream` is what is behind a gateway, `trial` puts both around a
//! Ringward, `compare` does all of it for several gateways, `merge` and `diff` work on reports.
#![forbid(unsafe_code)]

mod answer;
mod args;
mod chunked;
mod client;
mod clients;
mod compare;
mod diff;
mod distribution;
mod engine;
mod failure;
mod fleet;
mod grpc;
mod http2;
mod http2_stream;
mod merge;
mod mix;
mod open_files;
mod origin;
mod pace;
mod plain;
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
mod statistics;
#[cfg(test)]
mod testing;
mod times;
mod tls;
mod trial;
mod upstream;
mod watch;
mod websocket;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tokio::runtime::{Builder, LocalOptions};

use crate::args::RunArguments;
use crate::compare::process::{LaunchArguments, launch};
use crate::compare::{CompareArguments, CompareError};
use crate::diff::{Comparison, DiffArguments, OneAndMany};
use crate::fleet::{FleetError, PkiArguments};
use crate::merge::{MergeArguments, MergeError, merge};
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
    /// Make one report of those of several processes or hosts that made load at the same time, as if one had made it all.
    ///
    /// Counts and histograms are added. The series is put together by the seconds of each host's clock, so let them be set by NTP; its
    /// p50 and p99 are the longest of any process. A target that several have looked at is counted once. They must have had the same
    /// plan and have overlapped in time, unless --force is given.
    ///
    /// Exit code 0: it is there. 2: it is not.
    Merge(MergeArguments),
    /// Compare a report with an earlier one, or several with several: throughput, CPU time, failures and times, each with an interval in
    /// which the difference lies with 95 % confidence.
    ///
    /// With several of each side (--before, --after) the interval is that of their means, and has in it what differs from run to run.
    /// With one of each it has not. It says `slower` or `faster` if the interval is all on one side of
    /// zero, and `no difference seen` otherwise: of twenty such comparisons of equal things one will say that they differ.
    ///
    /// Exit code 0: they were compared. 1: something is worse than --fail-if-worse allows. 2: they could not be compared.
    Diff(DiffArguments),
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
    Merge(#[from] MergeError),
    #[error("{0}")]
    Diff(#[from] OneAndMany),
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
        Command::Merge(arguments) => merge_reports(&arguments),
        Command::Diff(arguments) => diff(&arguments),
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

fn merge_reports(arguments: &MergeArguments) -> Result<ExitCode, CommandError> {
    let reports = arguments.reports.iter().map(|file| Report::read(file)).collect::<Result<Vec<_>, _>>()?;
    write_files(&merge(reports, arguments.force)?, &arguments.out)?;
    Ok(ExitCode::SUCCESS)
}

fn diff(arguments: &DiffArguments) -> Result<ExitCode, CommandError> {
    let (before, after) = arguments.sides()?;
    let read = |files: Vec<PathBuf>| {
        let read = files.into_iter().map(|file| Report::read(&file).map(|report| (file, report)));
        read.collect::<Result<Vec<_>, _>>()
    };
    let comparison = Comparison::new(&read(before)?, &read(after)?);
    let text = if arguments.json { comparison.to_json() } else { comparison.to_text() };
    let is_printed = print(&text);
    let worse = arguments.fail_if_worse.map(|percent| comparison.worse_than(percent)).unwrap_or_default();
    if !worse.is_empty() {
        let _ = writeln!(io::stderr(), "ringward-load: worse: {}", worse.join(", "));
    }
    Ok(exit_code(is_printed && worse.is_empty()))
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
