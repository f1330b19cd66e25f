//! Runs the tests that a policy set brings along: rules whose names begin with `test_`.
//!
//! As with `opa test`, a test passes if its rule is `true`; `todo_test_` rules are skipped. A test starts without
//! input and gives its own (`... with input as {...}`).

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use regex::Regex;
use regorus::{Engine, Value};
use serde::{Deserialize, Serialize};

use crate::check::rules::{Kind, Rules, dotted};
use crate::compile::Prepared;
use crate::coverage::Coverage;
use crate::problem::{FailedStatement, Place, PolicyErrors, Problem, Test, TestOutcome, TestReport};
use crate::rego;
use crate::set::PolicySet;
use crate::trace::{Ending, Seen, Traced};

/// Which tests are run, and how.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TestOptions {
    /// Those whose full name matches this regular expression; all without one.
    pub run: Option<String>,
    /// Longest run of one test.
    pub time_budget: Duration,
    /// Whether to find out which lines they cover.
    pub coverage: bool,
}

impl Default for TestOptions {
    fn default() -> Self {
        Self { run: None, time_budget: TIME_BUDGET, coverage: false }
    }
}

/// What came of the tests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TestRun {
    /// The tests.
    pub report: TestReport,
    /// What they cover, if that was asked for.
    pub coverage: Option<Coverage>,
}

/// Longest run of one test. Tests may do more than a request, and run where nothing waits for them.
const TIME_BUDGET: Duration = Duration::from_secs(2);

/// Runs the tests of a policy set.
///
/// # Errors
///
/// What keeps the set from being compiled. Failed tests are no error here, see [`TestReport::failed`].
pub fn run_tests(set: &PolicySet, options: &TestOptions) -> Result<TestRun, PolicyErrors> {
    let refused = |problem: Problem| PolicyErrors::new(vec![problem]);
    let mut prepared = Prepared::of(set)?;
    if let Some(run) = &options.run {
        let run = test_filter(run).map_err(|error| refused(Problem::error(&Place::default(), error)))?;
        prepared.tests.retain(|test| run.is_match(&test.name));
    }
    let report = run(&prepared, set, options.time_budget);
    let coverage = options.coverage.then(|| cover(&prepared, set, &report, options.time_budget)).transpose();
    let coverage = coverage.map_err(|error| {
        let message = format!("coverage of this policy cannot be measured: {error}");
        refused(Problem::error(&Place::default(), message))
    })?;
    Ok(TestRun { report, coverage })
}

/// Whether [`TestOptions::run`] may be this text.
///
/// # Errors
///
/// What is wrong with it.
pub fn check_test_filter(text: &str) -> Result<(), String> {
    test_filter(text).map(drop)
}

fn test_filter(text: &str) -> Result<Regex, String> {
    Regex::new(text).map_err(|error| format!("`{text}` is no regular expression: {error}"))
}

/// A test rule.
pub(crate) struct Found {
    name: String,
    at: Place,
}

impl Found {
    fn is_todo(&self) -> bool {
        self.name.rsplit('.').next().is_some_and(|name| name.starts_with("todo_"))
    }
}

/// The tests among all rules, in order of their names.
pub(crate) fn find(rules: &Rules<'_>) -> Vec<Found> {
    let mut found: Vec<Found> = Vec::new();
    for definition in &rules.definitions {
        let is_test = definition
            .path
            .last()
            .is_some_and(|name| name.starts_with("test_") || name.starts_with("todo_test_"));
        if is_test && definition.kind == Kind::Complete {
            found.push(Found { name: dotted(&definition.path), at: definition.place() });
        }
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    // Several bodies of one rule are one test.
    found.dedup_by(|a, b| a.name == b.name);
    found
}

/// Runs tests with the usual time for each, where nobody listens to what they print.
pub(crate) fn run_all(prepared: &Prepared, set: &PolicySet) -> TestReport {
    let mut report = run(prepared, set, TIME_BUDGET);
    report.tests.iter_mut().for_each(|test| test.prints.clear());
    report
}

fn run(prepared: &Prepared, set: &PolicySet, time_budget: Duration) -> TestReport {
    let test = |found: &Found| {
        let started = Instant::now();
        let (outcome, prints) = outcome(&prepared.with_tests, found, time_budget);
        Test {
            name: found.name.clone(),
            file: found.at.file.clone(),
            line: found.at.line,
            outcome,
            took: started.elapsed(),
            prints,
            failed: None,
        }
    };
    let mut tests: Vec<Test> = prepared.tests.iter().map(test).collect();
    if tests.iter().any(|test| test.outcome == TestOutcome::Failed) {
        locate(prepared, set, &mut tests, time_budget);
    }
    TestReport { tests }
}

/// Finds the statements at which tests failed. What cannot be found out stays open: the tests have failed anyway.
fn locate(prepared: &Prepared, set: &PolicySet, tests: &mut [Test], time_budget: Duration) {
    let Ok(traced) = Traced::of(prepared, set, true) else { return };
    for (found, test) in prepared.tests.iter().zip(tests) {
        if test.outcome != TestOutcome::Failed {
            continue;
        }
        let mut engine = traced.engine.clone();
        engine.set_gather_prints(true);
        if matches!(evaluate(&mut engine, found, time_budget), Ok(Ok(Value::Bool(true)))) {
            continue;
        }
        let mut seen = Seen::default();
        seen.add(&engine);
        let bodies = traced.rules.iter().filter(|rule| dotted(&rule.path) == test.name);
        let failed = bodies.flat_map(|rule| &rule.bodies).find_map(|body| match body.ending(&seen) {
            Ending::Failed(index) => Some(&body.conditions[index]),
            Ending::Held | Ending::Untried => None,
        });
        test.failed =
            failed.map(|statement| FailedStatement { line: statement.at.line, text: statement.text.clone() });
    }
}

fn outcome(engine: &Engine, test: &Found, time_budget: Duration) -> (TestOutcome, Vec<String>) {
    if test.is_todo() {
        return (TestOutcome::Skipped, Vec::new());
    }
    // A clone each: nothing that one test leaves behind reaches another.
    let mut engine = engine.clone();
    engine.set_gather_prints(true);
    let outcome = match evaluate(&mut engine, test, time_budget) {
        Ok(Ok(Value::Bool(true))) => TestOutcome::Passed,
        Ok(Ok(_)) => TestOutcome::Failed,
        Ok(Err(error)) => TestOutcome::Error(rego::evaluation_error(&error).to_string()),
        Err(_) => TestOutcome::Error("policy evaluator panicked".to_owned()),
    };
    (outcome, prints(&mut engine))
}

fn evaluate(
    engine: &mut Engine,
    test: &Found,
    time_budget: Duration,
) -> std::thread::Result<Result<Value, String>> {
    rego::set_time_budget(engine, time_budget);
    engine.set_input(Value::new_object());
    catch_unwind(AssertUnwindSafe(|| engine.eval_rule(test.name.clone()).map_err(|error| error.to_string())))
}

/// What the test printed, each with its place, up to a limit.
fn prints(engine: &mut Engine) -> Vec<String> {
    let mut prints = engine.take_prints().unwrap_or_default();
    let more = prints.len().saturating_sub(PRINTS_MAX);
    prints.truncate(PRINTS_MAX);
    for print in &mut prints {
        if print.chars().count() > PRINT_CHARS_MAX {
            *print = print.chars().take(PRINT_CHARS_MAX).chain(['…']).collect();
        }
    }
    if more > 0 {
        prints.push(format!("... and {more} more"));
    }
    prints
}

/// Runs the tests once more, on the text that tells what they cover.
fn cover(
    prepared: &Prepared,
    set: &PolicySet,
    report: &TestReport,
    time_budget: Duration,
) -> Result<Coverage, String> {
    let traced = Traced::of(prepared, set, true)?;
    let mut seen = Seen::default();
    for (test, known) in prepared.tests.iter().zip(&report.tests).filter(|(test, _)| !test.is_todo()) {
        let mut engine = traced.engine.clone();
        engine.set_gather_prints(true);
        let outcome = evaluate(&mut engine, test, time_budget);
        // Another outcome covers other lines.
        let passed = matches!(outcome, Ok(Ok(Value::Bool(true))));
        if passed != (known.outcome == TestOutcome::Passed) {
            return Err(format!("`{}` ends otherwise when its evaluation is followed", test.name));
        }
        seen.add(&engine);
    }
    Ok(Coverage::of(&traced, &seen))
}

/// A failed test as a problem of the set.
pub(crate) fn problem(test: &Test) -> Problem {
    let at = Place::new(&test.file, test.line, 1);
    let name = test.name.rsplit('.').next().unwrap_or(&test.name);
    match &test.outcome {
        TestOutcome::Error(error) => Problem::error(&at, format!("test `{name}`: {error}")),
        _ => {
            let problem = Problem::error(&at, format!("test `{name}` failed"));
            match &test.failed {
                Some(FailedStatement { line, text }) => {
                    problem.help(format!("`{text}` in line {line} does not hold"))
                }
                None => problem,
            }
        }
    }
}

/// Most lines that one test prints; the report of all has to stay readable.
const PRINTS_MAX: usize = 50;
/// Most characters of one of them.
const PRINT_CHARS_MAX: usize = 400;

#[cfg(test)]
mod tests;
