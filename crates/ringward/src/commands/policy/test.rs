//! `ringward policy test`.

use std::fmt;
use std::time::Duration;

use clap::Args;
use ringward_policy::child::Task;
use ringward_policy::{
    FailedStatement, Test, TestOptions, TestOutcome, TestReport, TestRun, check_test_filter,
};
use serde::Serialize;

use super::coverage::CoverageSummary;
use super::source::{PolicySource, print_json};
use crate::commands::parse_span;
use crate::failure::{EXIT_RUNTIME, Failure};
use crate::table::printable;
use crate::terminal::say;

/// Run the tests of a policy.
///
/// A test is a rule whose name begins with `test_`; it passes if it is true. Rules named `todo_test_` are skipped.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(super) source: PolicySource,
    /// Only tests whose full name matches this regular expression.
    #[arg(long, value_name = "REGEX")]
    run: Option<String>,
    /// Longest run of one test.
    #[arg(long, value_name = "SPAN", value_parser = parse_span, default_value = "2s")]
    timeout: Duration,
    /// Show what every test printed, not only those that failed.
    #[arg(short, long)]
    verbose: bool,
    /// Find out which lines the tests cover.
    #[arg(long)]
    coverage: bool,
    /// Fail unless at least so many percent of the lines are covered.
    #[arg(long, value_name = "PERCENT", requires = "coverage", value_parser = clap::value_parser!(u8).range(..=100))]
    threshold: Option<u8>,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Tested<'a> {
    ok: bool,
    passed: usize,
    failed: usize,
    skipped: usize,
    tests: Vec<Row<'a>>,
    coverage: Option<CoverageSummary<'a>>,
}

#[derive(Serialize)]
struct Row<'a> {
    name: &'a str,
    file: &'a str,
    line: u32,
    /// `passed`, `failed`, `error` or `skipped`.
    outcome: &'static str,
    error: Option<&'a str>,
    /// The statement that did not hold.
    failed: Option<&'a FailedStatement>,
    took_ns: u64,
    prints: &'a [String],
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let Arguments { source, run, timeout, verbose, coverage, threshold } = arguments;
    let run = tests(source, run.as_deref(), *timeout, *coverage)?;
    let summary = run.coverage.as_ref().map(|coverage| CoverageSummary::of(coverage, *threshold));
    let ok = run.report.failed().next().is_none() && summary.as_ref().is_none_or(|summary| summary.reached);
    let (passed, failed) = (run.report.passed(), run.report.failed().count());
    let skipped = run.report.tests.len() - passed - failed;
    if source.json {
        let tests = run.report.tests.iter().map(Row::of).collect();
        print_json(&Tested { ok, passed, failed, skipped, tests, coverage: summary })?;
    } else {
        say(Outcomes { report: &run.report, verbose: *verbose });
        let took: Duration = run.report.tests.iter().map(|test| test.took).sum();
        say(format_args!("{passed} passed, {failed} failed, {skipped} skipped in {}", milliseconds(took)));
        if let Some(summary) = summary {
            say(&summary);
            summary.complain_if_missed();
        }
    }
    if ok { Ok(()) } else { Err(Failure::Reported(EXIT_RUNTIME)) }
}

/// Has the tests run.
///
/// # Errors
/// If the policy is refused, or there is no test that could show anything.
pub(super) fn tests(
    source: &PolicySource,
    run: Option<&str>,
    time_budget: Duration,
    coverage: bool,
) -> Result<TestRun, Failure> {
    if let Some(run) = run {
        check_test_filter(run).map_err(Failure::Usage)?;
    }
    let options = TestOptions { run: run.map(str::to_owned), time_budget, coverage };
    let set = source.load()?;
    let result: TestRun = source.ask(&set, &Task::Test(options), TESTS_TIME.max(time_budget))?;
    match (result.report.tests.is_empty(), run) {
        (false, _) => Ok(result),
        (true, Some(run)) => Err(Failure::Usage(format!("no test matches `{run}`"))),
        (true, None) => Err(Failure::Usage(
            "the policy has no tests: write rules named `test_...` into a file named `..._test.rego`"
                .to_owned(),
        )),
    }
}

impl<'a> Row<'a> {
    fn of(test: &'a Test) -> Row<'a> {
        let (outcome, error) = match &test.outcome {
            TestOutcome::Passed => ("passed", None),
            TestOutcome::Failed => ("failed", None),
            TestOutcome::Error(error) => ("error", Some(error.as_str())),
            TestOutcome::Skipped => ("skipped", None),
        };
        Row {
            name: &test.name,
            file: &test.file,
            line: test.line,
            outcome,
            error,
            failed: test.failed.as_ref(),
            took_ns: u64::try_from(test.took.as_nanos()).unwrap_or(u64::MAX),
            prints: &test.prints,
        }
    }
}

/// One line for each test, and what it said.
struct Outcomes<'a> {
    report: &'a TestReport,
    verbose: bool,
}

impl fmt::Display for Outcomes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, test) in self.report.tests.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            let row = Row::of(test);
            let took = milliseconds(test.took);
            match &test.outcome {
                TestOutcome::Passed => write!(f, "passed   {took:>9}  {}", row.name)?,
                TestOutcome::Skipped => write!(f, "skipped  {:>9}  {}", "", row.name)?,
                TestOutcome::Failed => {
                    write!(f, "FAILED   {took:>9}  {}\n         {}:", row.name, row.file)?;
                    match row.failed {
                        Some(FailedStatement { line, text }) => write!(f, "{line}: {}", printable(text))?,
                        None => write!(f, "{}", row.line)?,
                    }
                }
                TestOutcome::Error(error) => {
                    write!(
                        f,
                        "ERROR    {took:>9}  {}\n         {}:{}: {}",
                        row.name,
                        row.file,
                        row.line,
                        printable(error)
                    )?;
                }
            }
            if self.verbose || !matches!(test.outcome, TestOutcome::Passed | TestOutcome::Skipped) {
                test.prints.iter().try_for_each(|print| write!(f, "\n         {}", printable(print)))?;
            }
        }
        Ok(())
    }
}

fn milliseconds(span: Duration) -> String {
    format!("{:.1} ms", span.as_secs_f64() * 1000.0)
}

/// All tests together, beside the check of the policy.
const TESTS_TIME: Duration = Duration::from_secs(60);
