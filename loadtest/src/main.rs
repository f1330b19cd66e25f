//! `ringward-load`: load for gateways that ask their clients for certificates.
//!
//! A closed loop: each connection sends its next request when it has the whole answer to the last one, so a slow target
//! slows the load down. With `--rate` an open one: requests are due at their times, however slow it is (`pace`). Every status and every body length is checked, and one wrong answer makes the run fail. Nothing
//! of Ringward's own protocol code is used, so that a mistake cannot hide by being made at both ends.
//!
//! Only the command line is in here. `args` judges it, `modes` makes the load with the connections of `client`, `report`
//! shows what came of it. `fleet` makes certificates for it.
#![forbid(unsafe_code)]

mod answer;
mod args;
mod chunked;
mod client;
mod compare;
mod failure;
#[cfg_attr(not(test), allow(dead_code, reason = "runs with fleets read them"))]
mod fleet;
#[cfg_attr(not(test), expect(dead_code, reason = "no mode makes calls yet"))]
mod grpc;
mod http2;
mod http2_stream;
mod modes;
mod pace;
mod process;
mod rate;
mod record;
mod report;
#[cfg(test)]
mod testing;
mod tls;
mod upstream;
mod watch;
#[cfg_attr(not(test), expect(dead_code, reason = "no mode has WebSockets yet"))]
mod websocket;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tokio::runtime::{Builder, LocalOptions};

use crate::args::{Plan, PlanError, RunArguments};
use crate::compare::process::{LaunchArguments, launch};
use crate::compare::{CompareArguments, CompareError};
use crate::fleet::{FleetError, PkiArguments};
use crate::report::Report;
use crate::upstream::UpstreamArguments;

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

fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Run(arguments) => run(&arguments).map_err(|error| error.to_string()),
        Command::Pki(arguments) => pki(&arguments).map_err(|error| error.to_string()),
        Command::Upstream(arguments) => {
            upstream::run(&arguments).map(|()| ExitCode::SUCCESS).map_err(|error| error.to_string())
        }
        Command::Compare(arguments) => compare(&arguments).map_err(|error| error.to_string()),
        Command::Launch(arguments) => Err(launch(&arguments)),
    };
    outcome.unwrap_or_else(|error| {
        // Nobody is left to be told if standard error is closed.
        let _ = writeln!(io::stderr(), "ringward-load: {error}");
        ExitCode::from(2)
    })
}

fn run(arguments: &RunArguments) -> Result<ExitCode, PlanError> {
    let report = begin(arguments)?;
    let text = if arguments.json { report.to_json() } else { report.to_text() };
    let told = writeln!(io::stdout(), "{}", text.trim_end()).is_ok();
    Ok(if told && report.is_right() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn begin(arguments: &RunArguments) -> Result<Report, PlanError> {
    let plan = Plan::new(arguments)?;
    // One thread, so that what is counted needs no locks.
    let mut builder = Builder::new_current_thread();
    let runtime = builder.enable_all().build_local(LocalOptions::default()).map_err(PlanError::Runtime)?;
    Ok(runtime.block_on(modes::run(plan)))
}

fn pki(arguments: &PkiArguments) -> Result<ExitCode, FleetError> {
    fleet::make(&arguments.plan, &arguments.out)?;
    let made = arguments.plan.classes().map(|(class, numbers)| format!("{} {class}", numbers.len()));
    // All is there, also if nobody wants to know.
    let made = made.collect::<Vec<_>>().join(", ");
    let _ = writeln!(io::stdout(), "{}: {made}; see fleet.toml", arguments.out.display());
    Ok(ExitCode::SUCCESS)
}

fn compare(arguments: &CompareArguments) -> Result<ExitCode, CompareError> {
    let comparison = compare::run(arguments)?;
    let text = match (arguments.json, arguments.markdown) {
        (true, _) => comparison.to_json(),
        (false, true) => comparison.to_markdown(),
        (false, false) => comparison.to_text(),
    };
    let told = writeln!(io::stdout(), "{}", text.trim_end()).is_ok();
    Ok(if told && comparison.is_right() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
