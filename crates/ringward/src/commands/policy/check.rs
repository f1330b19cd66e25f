//! `ringward policy check`.

use std::time::Duration;

use ringward_policy::child::Task;
use ringward_policy::{Problem, Report};
use serde::Serialize;

use super::source::{PolicySource, print_json};
use crate::failure::Failure;
use crate::load::Reason;
use crate::terminal::{complain, say};

/// What `--json` prints of a policy that is good.
#[derive(Serialize)]
struct Checked<'a> {
    ok: bool,
    /// Warnings only.
    problems: &'a [Problem],
    packages: &'a [String],
    /// Paths below `input`; `*` stands for all of it.
    reads: &'a [String],
    /// Builtins whose result does not follow from the input.
    impure: &'a [String],
    /// Why decisions cannot be given again; empty if they can.
    uncacheable: &'a [Problem],
    tests_passed: usize,
}

pub(super) fn run(source: &PolicySource) -> Result<(), Failure> {
    let report: Report = source.ask(&source.load()?, &Task::Check, Duration::ZERO)?;
    if source.json {
        return print_json(&Checked {
            ok: true,
            problems: &report.warnings,
            packages: &report.packages,
            reads: &report.reads,
            impure: &report.impure,
            uncacheable: &report.uncacheable,
            tests_passed: report.tests.passed(),
        });
    }
    report.warnings.iter().for_each(complain);
    let or_nothing = |names: &[String]| match names {
        [] => "nothing".to_owned(),
        names => names.join(", "),
    };
    if !report.packages.is_empty() {
        say(format_args!("packages  {}", report.packages.join(", ")));
    }
    let reads: Vec<String> = report.reads.iter().map(|path| format!("input.{path}")).collect();
    say(format_args!("reads     {}", or_nothing(&reads).replace("input.*", "input")));
    if !report.impure.is_empty() {
        say(format_args!("calls     {} (not a function of the input)", report.impure.join(", ")));
    }
    match report.uncacheable.as_slice() {
        [] => say(format_args!("cache     decisions can be given again to equal requests")),
        reasons => reasons.iter().for_each(|reason| say(format_args!("cache     no: {}", Reason(reason)))),
    }
    let skipped = report.tests.tests.len() - report.tests.passed();
    let skipped = if skipped == 0 { String::new() } else { format!(", {skipped} skipped") };
    say(format_args!("tests     {} passed{skipped}", report.tests.passed()));
    Ok(())
}
