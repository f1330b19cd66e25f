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

use std::error::Error;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tokio::runtime::{Builder, LocalOptions};

use crate::args::{Plan, PlanError, RunArguments};
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
    /// Answer what comes through a gateway, in clear text: HTTP/1.1, HTTP/2, gRPC and WebSockets on one port.
    ///
    /// `/bytes/N` and `/chunked/N` are so many bytes, `/status/N` is that status, `/sse/COUNT/MS` so many events, `/echo` the request's
    /// body, `/delay/MS/…` any of these later; a POST is answered with its body's length and SHA-256. It ends on SIGTERM.
    Upstream(UpstreamArguments),
}

fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Run(arguments) => load(&arguments),
        Command::Upstream(arguments) => match upstream::run(&arguments) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => cannot_begin(&error),
        },
    }
}

fn load(arguments: &RunArguments) -> ExitCode {
    let report = match begin(arguments) {
        Ok(report) => report,
        Err(error) => return cannot_begin(&error),
    };
    let text = if arguments.json { report.to_json() } else { report.to_text() };
    if writeln!(io::stdout(), "{}", text.trim_end()).is_err() || !report.is_right() {
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn cannot_begin(error: &dyn Error) -> ExitCode {
    // Nobody is left to be told if standard error is closed.
    let _ = writeln!(io::stderr(), "ringward-load: {error}");
    ExitCode::from(2)
}

fn begin(arguments: &RunArguments) -> Result<Report, PlanError> {
    let plan = Plan::new(arguments)?;
    // One thread, so that what is counted needs no locks.
    let mut builder = Builder::new_current_thread();
    let runtime = builder.enable_all().build_local(LocalOptions::default()).map_err(PlanError::Runtime)?;
    Ok(runtime.block_on(modes::run(plan)))
}
