//! `ringward check --forwarding`: whether nobody can say by a header who they are, unless the configuration lets them.
//!
//! The configuration runs for a moment, in this process and on loopback addresses alone: its listeners, hosts, routes and edits as they
//! are, with authorities made for the occasion instead of its trust bundles, and with upstreams that note what reaches them
//! (`rehearsal.rs`). Then clients say all they must not be able to say (`trials.rs`), and what came of it is shown (`report.rs`).
//! Policies are not asked: they may refuse more, and they cannot write what is tried here. No key or credential of the
//! configuration is used, and nothing outside of the process is reached.

mod ask;
mod papers;
mod rehearsal;
mod report;
mod trials;
mod upstreams;

use std::path::Path;

use ringward_config::Diagnostics;

use self::rehearsal::Rehearsal;
use self::report::Report;
use crate::failure::{EXIT_USAGE, Failure};
use crate::terminal::{complain, print_json, say};

/// Checks the configuration at `path`, whose upstreams also trust what stands in fields of these names.
///
/// # Errors
/// If the configuration is refused, or a part of the contract is not kept; that was printed. If it cannot run.
pub(crate) fn run(path: &Path, trusted: &[String], json: bool) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::Runtime(format!("cannot start: {error}")))?;
    // First as it is: what refuses it is said of the configuration as it was written.
    let report = match super::load(path) {
        Ok(_) => {
            let report = runtime.block_on(async {
                let rehearsal = Rehearsal::start(path).await?;
                let tried = trials::run(&rehearsal, trusted).await;
                rehearsal.stop().await;
                tried
            })?;
            Report::new(Diagnostics::new(), report)
        }
        Err(problems) => Report::new(problems, Vec::new()),
    };
    let ok = report.ok;
    if json {
        print_json(&report)?;
    } else if report.problems.is_empty() {
        say(report.to_string().trim_end());
    } else {
        complain(&report.problems);
    }
    if ok { Ok(()) } else { Err(Failure::Reported(EXIT_USAGE)) }
}
