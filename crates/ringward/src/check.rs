//! `ringward check`: everything that is wrong with a configuration and its files, or a summary of what it does.
//!
//! Runs the loaders of `run`, so it finds what `run` would find, except for what other processes have taken (ports).

mod summary;

use std::path::Path;

use ringward_config::Diagnostics;
use ringward_telemetry::{ClosedSets, Limits, Registry};
use serde::Serialize;

use self::summary::Summary;
use crate::failure::{EXIT_USAGE, Failure};
use crate::load::{self, Loaded};
use crate::terminal::{complain, say};

/// What `--json` prints.
#[derive(Serialize)]
struct Outcome<'a> {
    ok: bool,
    problems: &'a Diagnostics,
    summary: Option<Summary>,
}

/// Checks the configuration at `path`.
///
/// # Errors
/// If it is refused; what is wrong was printed.
pub(crate) fn run(path: &Path, json: bool) -> Result<(), Failure> {
    match load(path) {
        Ok(loaded) => {
            let mut warnings = Diagnostics::new();
            warnings.extend(loaded.warnings.iter().cloned());
            let summary = Summary::of(&loaded);
            if json {
                print_json(&Outcome { ok: true, problems: &warnings, summary: Some(summary) })?;
            } else {
                if !warnings.is_empty() {
                    complain(format_args!("{warnings}\n"));
                }
                say(summary);
            }
            Ok(())
        }
        Err(problems) => {
            if json {
                print_json(&Outcome { ok: false, problems: &problems, summary: None })?;
            } else {
                complain(&problems);
            }
            Err(Failure::Reported(EXIT_USAGE))
        }
    }
}

fn load(path: &Path) -> Result<Loaded, Diagnostics> {
    let loaded = load::gather(path)?.build(&Default::default())?;
    // The last step of `run`: the parts have to go together.
    let registry = Registry::new(ClosedSets::default(), Limits::default());
    crate::reload::snapshot(&loaded, 1, &registry)?;
    Ok(loaded)
}

fn print_json(outcome: &Outcome<'_>) -> Result<(), Failure> {
    let json = serde_json::to_string_pretty(outcome);
    say(json.map_err(|error| Failure::Runtime(format!("the result cannot be written as JSON: {error}")))?);
    Ok(())
}
