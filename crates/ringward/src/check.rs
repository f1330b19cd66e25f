//! `ringward check`: everything that is wrong with a configuration and its files, or a summary of what it does.
//!
//! Runs the loaders of `run`, so it finds what `run` would find, except for what other processes have taken (ports).

mod admission;
mod clusters;
pub(crate) mod forwarding;
mod path;
mod summary;

use std::path::{Path, PathBuf};

use ringward_config::{Config, Diagnostics};
use ringward_proxy::Snapshot;
use ringward_telemetry::{ClosedSets, Limits, Registry};
use ringward_tls::CrlFloors;
use serde::Serialize;

pub(crate) use self::admission::{Admission, Verdict, sample_connection, verdict, verify};
use self::summary::Summary;
pub(crate) use self::summary::clusters;
use crate::failure::{EXIT_USAGE, Failure};
use crate::load::{self, Loaded, Staged};
use crate::publish;
use crate::terminal::{complain, print_json, say};
use crate::trust;

/// What `--json` prints.
#[derive(Serialize)]
struct Outcome<'a> {
    ok: bool,
    problems: &'a Diagnostics,
    summary: Option<Summary>,
    clients: Vec<Admission>,
}

/// Checks the configuration at `path`, and what would become of the clients whose certificates are in `clients`.
///
/// # Errors
/// If it is refused; what is wrong was printed. If there is no certificate in one of `clients`.
pub(crate) fn run(path: &Path, clients: &[PathBuf], json: bool) -> Result<(), Failure> {
    match load(path) {
        Ok((loaded, snapshot)) => {
            let clients = clients.iter().map(|file| Admission::of(file, &loaded, &snapshot));
            let clients = clients.collect::<Result<Vec<Admission>, Failure>>()?;
            let mut warnings = Diagnostics::new();
            warnings.extend(loaded.warnings.iter().cloned());
            let summary = Summary::of(&loaded);
            if json {
                print_json(&Outcome { ok: true, problems: &warnings, summary: Some(summary), clients })?;
            } else {
                if !warnings.is_empty() {
                    complain(format_args!("{warnings}\n"));
                }
                say(summary);
                clients.iter().for_each(say);
            }
            Ok(())
        }
        Err(problems) => {
            if json {
                print_json(&Outcome { ok: false, problems: &problems, summary: None, clients: Vec::new() })?;
            } else {
                complain(&problems);
            }
            Err(Failure::Reported(EXIT_USAGE))
        }
    }
}

/// Loads a configuration with all that it names, as `run` would.
///
/// # Errors
/// Everything that refuses it.
pub(crate) fn load(path: &Path) -> Result<(Loaded, Snapshot), Diagnostics> {
    load_with(path, Staged::new(), |_| {})
}

/// The same as if these files were there, with this content, and something were changed.
///
/// # Errors
/// As [`load()`].
pub(crate) fn load_with(
    path: &Path,
    staged: Staged,
    change: impl FnOnce(&mut Config),
) -> Result<(Loaded, Snapshot), Diagnostics> {
    let loaded = load::gather_with(path, staged)?
        .with(change)
        .build(None, &CrlFloors::new())
        .map_err(|refused| refused.problems)?;
    // The last step of `run`: the parts have to go together. The state directory is left alone: a process may have it.
    let registry = Registry::new(ClosedSets::default(), Limits::default());
    let trust = trust::without_state(&loaded.config);
    let (_, state) = trust.current();
    let snapshot = publish::build(&loaded, &state, &trust, 1, &registry)?;
    Ok((loaded, snapshot))
}
