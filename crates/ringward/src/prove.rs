//! `ringward prove`: what a client has proved at the least when a route serves it, by every way there is.
//!
//! The ways are those of the data path, which is asked for each name ([`ringward_proxy::Snapshot::reach`]); here they are
//! put beside what the configuration declares, and shown. A policy may refuse a request that gets there, which is not
//! looked at: what is proved holds whatever policies say.

mod findings;
mod report;

use std::path::Path;

use ringward_config::Diagnostics;
use serde::Serialize;

use self::report::Listeners;
use crate::check;
use crate::failure::{EXIT_USAGE, Failure};
use crate::terminal::{complain, print_json, say};

/// What `--json` prints.
#[derive(Serialize)]
struct Outcome<'a> {
    ok: bool,
    /// What refuses the configuration, or a route that is reached with less than it declares; and warnings.
    problems: &'a Diagnostics,
    /// Empty if the configuration is refused.
    listeners: Listeners,
}

/// Proves the configuration at `path`.
///
/// # Errors
/// If it is refused, or a route is reached with less than `require` says; that was printed.
pub(crate) fn run(path: &Path, json: bool) -> Result<(), Failure> {
    let (problems, listeners) = match check::load(path) {
        Ok((loaded, snapshot)) => {
            let reach = snapshot.reach(&loaded.config);
            let problems = findings::of(&loaded.config, &reach);
            (problems, Listeners::of(&loaded.config, &reach))
        }
        Err(problems) => (problems, Listeners::default()),
    };
    let ok = !problems.has_errors();
    if json {
        print_json(&Outcome { ok, problems: &problems, listeners })?;
    } else {
        say(listeners.to_string().trim_end());
        if !problems.is_empty() {
            complain(&problems);
        }
    }
    if ok { Ok(()) } else { Err(Failure::Reported(EXIT_USAGE)) }
}
