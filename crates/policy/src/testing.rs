//! Runs the tests that a policy set brings along: rules whose names begin with `test_`.
//!
//! As with `opa test`, a test passes if its rule is `true`; `todo_test_` rules are skipped. A test starts without
//! input and gives its own (`... with input as {...}`).

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use regorus::{Engine, Value};

use crate::check::rules::{Kind, Rules, dotted};
use crate::compile::Prepared;
use crate::problem::{Place, PolicyErrors, Problem, Test, TestOutcome, TestReport};
use crate::rego;
use crate::set::PolicySet;

/// Longest run of one test. Tests may do more than a request, and run where nothing waits for them.
const TIME_BUDGET: Duration = Duration::from_secs(2);

/// Runs the tests of a policy set.
///
/// # Errors
///
/// What keeps the set from being compiled. Failed tests are no error here, see [`TestReport::failed`].
pub fn run_tests(set: &PolicySet) -> Result<TestReport, PolicyErrors> {
    let prepared = Prepared::of(set)?;
    Ok(run(&prepared.with_tests, &prepared.tests))
}

/// A test rule.
pub(crate) struct Found {
    name: String,
    at: Place,
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

pub(crate) fn run(engine: &Engine, tests: &[Found]) -> TestReport {
    let test = |found: &Found| Test {
        name: found.name.clone(),
        file: found.at.file.clone(),
        line: found.at.line,
        outcome: outcome(engine, &found.name),
    };
    TestReport { tests: tests.iter().map(test).collect() }
}

fn outcome(engine: &Engine, rule: &str) -> TestOutcome {
    if rule.rsplit('.').next().is_some_and(|name| name.starts_with("todo_")) {
        return TestOutcome::Skipped;
    }
    // A clone each: nothing that one test leaves behind reaches another.
    let mut engine = engine.clone();
    rego::set_time_budget(&mut engine, TIME_BUDGET);
    engine.set_input(Value::new_object());
    match catch_unwind(AssertUnwindSafe(|| engine.eval_rule(rule.to_owned()))) {
        Ok(Ok(Value::Bool(true))) => TestOutcome::Passed,
        Ok(Ok(_)) => TestOutcome::Failed,
        Ok(Err(error)) => TestOutcome::Error(rego::evaluation_error(&error.to_string()).to_string()),
        Err(_) => TestOutcome::Error("policy evaluator panicked".to_owned()),
    }
}

/// A failed test as a problem of the set.
pub(crate) fn problem(test: &Test) -> Problem {
    let at = Place::new(&test.file, test.line, 1);
    let name = test.name.rsplit('.').next().unwrap_or(&test.name);
    match &test.outcome {
        TestOutcome::Error(error) => Problem::error(&at, format!("test `{name}`: {error}")),
        _ => Problem::error(&at, format!("test `{name}` failed")),
    }
}
