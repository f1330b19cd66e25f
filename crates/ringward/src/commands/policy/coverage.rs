//! `ringward policy coverage`, and what `policy test --coverage` says of it.

use std::fmt;
use std::time::Duration;

use clap::Args;
use ringward_policy::{Coverage, FileCoverage, PolicySet};
use serde::Serialize;

use super::source::{PolicySource, print_json};
use super::test;
use crate::commands::parse_span;
use crate::failure::{EXIT_RUNTIME, Failure};
use crate::table::printable;
use crate::terminal::{complain, say};

/// Show which lines of a policy its tests do not cover.
///
/// A line counts if a rule, an `else` or a condition begins on it. A condition is covered if a test evaluated it, a rule if
/// all its conditions held in one.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    source: PolicySource,
    /// Longest run of one test.
    #[arg(long, value_name = "SPAN", value_parser = parse_span, default_value = "2s")]
    timeout: Duration,
    /// Fail unless at least so many percent of the lines are covered.
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(..=100))]
    threshold: Option<u8>,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Covered<'a> {
    ok: bool,
    tests_failed: usize,
    coverage: CoverageSummary<'a>,
}

/// Coverage in figures.
#[derive(Debug, Serialize)]
pub(super) struct CoverageSummary<'a> {
    /// Rounded down.
    percent: usize,
    covered: usize,
    lines: usize,
    threshold: Option<u8>,
    /// Whether the threshold is reached.
    pub(super) reached: bool,
    files: &'a [FileCoverage],
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let Arguments { source, timeout, threshold } = arguments;
    let run = test::tests(source, None, *timeout, true)?;
    let tests_failed = run.report.failed().count();
    let coverage = run.coverage.unwrap_or_default();
    let summary = CoverageSummary::of(&coverage, *threshold);
    let ok = tests_failed == 0 && summary.reached;
    if source.json {
        print_json(&Covered { ok, tests_failed, coverage: summary })?;
    } else {
        say(&summary);
        say_lines(&coverage, &source.load()?);
        summary.complain_if_missed();
        if tests_failed > 0 {
            complain(format_args!("error: {tests_failed} tests failed; `ringward policy test` shows them"));
        }
    }
    if ok { Ok(()) } else { Err(Failure::Reported(EXIT_RUNTIME)) }
}

/// The lines that are not covered, as they are written.
fn say_lines(coverage: &Coverage, set: &PolicySet) {
    for file in coverage.files.iter().filter(|file| !file.not_covered.is_empty()) {
        let source = set.sources().iter().find(|source| source.path == file.file);
        let text = source.map(|source| String::from_utf8_lossy(&source.bytes)).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        say(format_args!("\nnot covered in {}:", file.file));
        for number in &file.not_covered {
            let line = lines.get(*number as usize - 1).copied().unwrap_or_default();
            say(format_args!("{number:>5}  {}", printable(&line.replace('\t', "    "))));
        }
    }
}

impl<'a> CoverageSummary<'a> {
    pub(super) fn of(coverage: &'a Coverage, threshold: Option<u8>) -> CoverageSummary<'a> {
        let (covered, lines) = coverage.lines();
        CoverageSummary {
            percent: percent(covered, lines),
            covered,
            lines,
            threshold,
            reached: threshold.is_none_or(|threshold| coverage.reaches(threshold)),
            files: &coverage.files,
        }
    }

    pub(super) fn complain_if_missed(&self) {
        if let (Some(threshold), false) = (self.threshold, self.reached) {
            complain(format_args!(
                "error: {} % of the lines are covered, less than {threshold} %",
                self.percent
            ));
        }
    }
}

impl fmt::Display for CoverageSummary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let CoverageSummary { percent: all, covered, lines, .. } = self;
        write!(f, "coverage {all} %, {covered} of {lines} lines")?;
        for file in self.files {
            let (covered, lines) = file.lines();
            write!(f, "\n  {:>3} %  {}", percent(covered, lines), file.file)?;
        }
        Ok(())
    }
}

/// Rounded down, so that only all is 100.
fn percent(covered: usize, lines: usize) -> usize {
    (covered * 100).checked_div(lines).unwrap_or(100)
}
