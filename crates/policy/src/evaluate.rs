//! Evaluations that somebody asks for: on an input that they wrote, with reasons, or many times with a clock.
//!
//! The input is given whole, see [`complete_input`](crate::complete_input); nothing here is on the way of a request.

use std::hint::black_box;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use regorus::{Engine, Value};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use crate::compile::Prepared;
use crate::decision::{Decision, DecisionError};
use crate::explain::{Explanation, explain};
use crate::input::schema::json_of;
use crate::problem::{Place, PolicyErrors, Problem};
use crate::rego;
use crate::set::PolicySet;
use crate::trace::{Seen, Traced};

/// An evaluation to be done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// The whole input.
    pub input: Json,
    /// Whether to say why.
    pub explain: bool,
}

/// What a policy says to an input.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evaluated {
    /// `allowed`, `denied`, `undefined` (denied, since the rule has no value) or `error` (no decision).
    pub decision: String,
    /// The rule that decided, as the policy calls it.
    pub rule: Option<String>,
    /// Why, in the policy's words.
    pub reason: Option<String>,
    /// Why there is no decision.
    pub error: Option<String>,
    /// The value of the deciding rule; absent without one.
    pub result: Option<Json>,
    /// Why, if that was asked for.
    pub explanation: Option<Explanation>,
}

/// A measurement to be done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Measurement {
    /// The whole input.
    pub input: Json,
    /// How long it takes.
    pub duration: Duration,
}

/// How long evaluations take. Without building the input and without anything that is remembered between requests.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// What was decided, as in [`Evaluated::decision`].
    pub decision: String,
    /// How often it was evaluated.
    pub evaluations: u64,
    /// How many runs these were done in; the times below are means of runs.
    pub runs: usize,
    /// Time of one evaluation in the median run, in nanoseconds.
    pub median_ns: u64,
    /// In the fastest run.
    pub fastest_ns: u64,
    /// In the slowest run.
    pub slowest_ns: u64,
    /// Evaluations in a second on one core, by the median.
    pub per_second: u64,
}

/// Evaluates a policy set on an input.
///
/// # Errors
///
/// What keeps the set from being compiled or explained. That there is no decision is no error here.
pub fn evaluate(set: &PolicySet, evaluation: &Evaluation) -> Result<Evaluated, PolicyErrors> {
    let prepared = Prepared::of(set)?;
    let input = value(&evaluation.input)?;
    let mut engine = prepared.engine.clone();
    rego::set_time_budget(&mut engine, set.limits().time_budget);
    let mut outcome = run(&mut engine, set, &input);
    // The budget is in real time: on a busy machine one evaluation may lose it to others.
    for _ in 1..ATTEMPTS_MAX {
        if outcome == Err(DecisionError::TimeBudget) {
            outcome = run(&mut engine, set, &input);
        }
    }
    let decision =
        outcome.as_ref().map_err(DecisionError::clone).and_then(|value| set.input().decision(value));
    let result = outcome.ok().filter(|value| *value != Value::Undefined).map(|value| json_of(&value));
    let explanation = evaluation.explain.then(|| follow(&prepared, set, &input, name_of(&decision)));
    let owned = |text: &Option<Arc<str>>| text.as_ref().map(ToString::to_string);
    Ok(Evaluated {
        decision: name_of(&decision).to_owned(),
        rule: decision.as_ref().ok().and_then(|decision| owned(&decision.rule)),
        reason: decision.as_ref().ok().and_then(|decision| owned(&decision.reason)),
        error: decision.err().map(|error| error.to_string()),
        result,
        explanation: explanation.transpose()?,
    })
}

/// Evaluates a policy set on an input for as long as is asked.
///
/// # Errors
///
/// What keeps the set from being compiled.
pub fn measure(set: &PolicySet, measurement: &Measurement) -> Result<Measured, PolicyErrors> {
    let prepared = Prepared::of(set)?;
    let input = value(&measurement.input)?;
    let mut engine = prepared.engine.clone();
    rego::set_time_budget(&mut engine, set.limits().time_budget);
    // The first evaluations fill what the engine keeps.
    let decision = run(&mut engine, set, &input).and_then(|value| set.input().decision(&value));
    let mut time = |count: u64| {
        let started = Instant::now();
        for _ in 0..count {
            let _ = black_box(run(&mut engine, set, &input));
        }
        started.elapsed()
    };
    let mut count = 1;
    while time(count) < RUN_MIN && count < EVALUATIONS_MAX {
        count *= 2;
    }
    let (started, mut runs) = (Instant::now(), Vec::new());
    while runs.len() < RUNS_MIN || started.elapsed() < measurement.duration {
        runs.push(u64::try_from(time(count).as_nanos()).unwrap_or(u64::MAX) / count);
    }
    runs.sort_unstable();
    let median = runs[runs.len() / 2].max(1);
    Ok(Measured {
        decision: name_of(&decision).to_owned(),
        evaluations: count * runs.len() as u64,
        runs: runs.len(),
        median_ns: median,
        fastest_ns: runs[0],
        slowest_ns: runs[runs.len() - 1],
        per_second: 1_000_000_000 / median,
    })
}

/// The value of the deciding rule.
fn run(engine: &mut Engine, set: &PolicySet, input: &Value) -> Result<Value, DecisionError> {
    engine.set_input(input.clone());
    let evaluated = catch_unwind(AssertUnwindSafe(|| engine.eval_rule(set.rule().to_owned())));
    let evaluated = evaluated.map_err(|_| DecisionError::Panic)?;
    evaluated.map_err(|error| rego::evaluation_error(&error.to_string()))
}

/// Evaluates it once more, on the text that tells how far each body came.
fn follow(
    prepared: &Prepared,
    set: &PolicySet,
    input: &Value,
    decided: &str,
) -> Result<Explanation, PolicyErrors> {
    let unexplained = |error: &str| refused(format!("this policy cannot be explained: {error}"));
    let traced = Traced::of(prepared, set, false).map_err(|error| unexplained(&error))?;
    let mut engine = traced.engine.clone();
    rego::set_time_budget(&mut engine, EXPLAIN_TIME_BUDGET);
    let decision = run(&mut engine, set, input).and_then(|value| set.input().decision(&value));
    if decided == "error" && decision.is_ok() {
        return Err(unexplained("it has no decision within its time budget"));
    }
    // Another decision has other reasons: better none than those.
    if name_of(&decision) != decided {
        return Err(unexplained("it decides otherwise when its evaluation is followed"));
    }
    let mut seen = Seen::default();
    seen.add(&engine);
    Ok(explain(prepared, set, &traced, &seen, input))
}

fn value(input: &Json) -> Result<Value, PolicyErrors> {
    serde_json::from_value(input.clone()).map_err(|error| refused(format!("the input is refused: {error}")))
}

fn refused(message: String) -> PolicyErrors {
    PolicyErrors::new(vec![Problem::error(&Place::default(), message)])
}

/// As the access log calls it.
fn name_of(decision: &Result<Decision, DecisionError>) -> &'static str {
    match decision {
        Ok(decision) if decision.allowed => "allowed",
        Ok(decision) if decision.undefined => "undefined",
        Ok(_) => "denied",
        Err(_) => "error",
    }
}

/// As often a policy may exceed its time budget before that is said of it.
const ATTEMPTS_MAX: usize = 5;
/// Somebody waits for it, and nothing else does.
const EXPLAIN_TIME_BUDGET: Duration = Duration::from_secs(2);
/// Shortest run that a clock measures well.
const RUN_MIN: Duration = Duration::from_millis(20);
/// Fewest runs that have a median.
const RUNS_MIN: usize = 5;
/// Most evaluations of one run, whatever the clock says.
const EVALUATIONS_MAX: u64 = 1 << 24;

#[cfg(test)]
mod tests;
