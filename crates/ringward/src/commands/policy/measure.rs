//! `ringward policy bench`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use ringward_policy::child::Task;
use ringward_policy::{Measured, Measurement};
use serde::Serialize;

use super::eval::read_input;
use super::source::{PolicySource, print_json};
use crate::commands::parse_span;
use crate::failure::Failure;
use crate::terminal::say;

/// Measure how long a policy takes to decide about one input.
///
/// The time is that of the evaluation alone: without building the input, and without anything that is remembered between
/// requests. Compare figures of one machine only, and look at their spread first.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    source: PolicySource,
    /// An input as JSON, `-` for standard input; what it lacks is completed, see `policy eval`. Without it an invented one.
    #[arg(long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// How long to measure, up to a minute.
    #[arg(long = "for", value_name = "SPAN", value_parser = parse_span, default_value = "2s")]
    duration: Duration,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Benched {
    ok: bool,
    #[serde(flatten)]
    measured: Measured,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let Arguments { source, input, duration } = arguments;
    if *duration > DURATION_MAX {
        return Err(Failure::Usage("`--for` takes a span up to `1m`".to_owned()));
    }
    let set = source.load()?;
    let input = source.complete(set.input(), &read_input(input.as_deref())?)?;
    let task = Task::Measure(Measurement { input, duration: *duration });
    // Finding out how long a run has to be takes time, too.
    let measured: Measured = source.ask(&set, &task, 2 * *duration)?;
    if source.json {
        return print_json(&Benched { ok: true, measured });
    }
    let Measured { decision, evaluations, runs, median_ns, fastest_ns, slowest_ns, per_second } = measured;
    say(format_args!("{median_ns} ns per decision, {per_second} per second on one core ({decision})"));
    say(format_args!(
        "fastest run {fastest_ns} ns, slowest {slowest_ns} ns; {evaluations} evaluations in {runs} runs"
    ));
    Ok(())
}

const DURATION_MAX: Duration = Duration::from_secs(60);
