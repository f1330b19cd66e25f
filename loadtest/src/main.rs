//! `ringward-load`: load for gateways that ask their clients for certificates.
//!
//! A closed loop: each connection sends its next request when it has the whole answer to the last one, so a slow target
//! slows the load down. With `--rate` an open one: requests are due at their times, however slow it is (`pace`). Every status and every body length is checked, and one wrong answer makes the run fail. Nothing
//! of Ringward's own protocol code is used, so that a mistake cannot hide by being made at both ends.
//!
//! Only the command line is in here. `args` judges it, `modes` makes the load with the connections of `client`, `report`
//! shows what came of it; `merge` and `diff` work on such reports.
#![forbid(unsafe_code)]

mod answer;
mod args;
mod chunked;
mod client;
mod diff;
mod failure;
mod http2;
mod merge;
mod modes;
mod origin;
mod pace;
mod plain;
mod process;
mod progress;
mod rate;
mod record;
mod report;
mod series;
mod settings;
mod statistics;
#[cfg(test)]
mod testing;
mod times;
mod tls;
mod watch;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tokio::runtime::{Builder, LocalOptions};

use crate::args::{Plan, PlanError, RunArguments};
use crate::diff::{Comparison, DiffArguments, OneAndMany};
use crate::merge::{MergeArguments, MergeError, merge};
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
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Run(arguments) => run(&arguments),
        Command::Report(arguments) => report(&arguments),
        Command::Merge(arguments) => merge_reports(&arguments),
        Command::Diff(arguments) => diff(&arguments),
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
