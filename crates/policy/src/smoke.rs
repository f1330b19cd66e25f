//! One evaluation on an invented request, where a policy that hangs or crashes harms nobody.

use std::time::{Duration, Instant};

use crate::decision::DecisionError;
use crate::engine::CompiledPolicy;
use crate::input::sample;
use crate::problem::{Place, Problem};
use crate::rego::RegoPolicy;
use crate::set::PolicySet;

/// Runs the policy, whose deciding rule is `at`. That it denies means nothing, and neither does an error that other values might
/// not cause.
pub(crate) fn run(policy: &RegoPolicy, set: &PolicySet, at: &Place, problems: &mut Vec<Problem>) {
    let mut worker = policy.worker();
    let mut run = || {
        let started = Instant::now();
        let outcome = worker.decide(&sample::subject(), &sample::request());
        (started.elapsed(), outcome)
    };
    let (mut took, mut outcome) = run();
    // The budget is in real time: on a busy machine one run may lose it to others.
    for _ in 1..ATTEMPTS_MAX {
        if outcome == Err(DecisionError::TimeBudget) {
            (took, outcome) = run();
        }
    }
    let budget = set.limits().time_budget;
    match outcome {
        Ok(_) => {}
        Err(DecisionError::TimeBudget) => {
            let message =
                format!("evaluating an invented request took longer than the time budget of {budget:?}");
            let help = "look tables up by key instead of iterating over them, or raise `time_budget`";
            problems.push(Problem::warning(at, message).help(help));
        }
        Err(
            error @ (DecisionError::Panic | DecisionError::WrongType(_) | DecisionError::InvalidResult(_)),
        ) => {
            problems.push(Problem::error(at, format!("tried on an invented request: {error}")));
        }
        Err(error @ (DecisionError::Evaluation(_) | DecisionError::Server(_) | DecisionError::Body(_))) => {
            let message = format!("tried on an invented request: {error}");
            problems.push(Problem::warning(at, message).help("requests that end so are answered with 500"));
        }
    }
    if took > budget + OVERRUN_MAX {
        let message =
            format!("evaluating an invented request took {took:?}, which the time budget could not stop");
        problems.push(Problem::error(at, message).help("find the builtin that is given too much to do"));
    }
}

/// How often a run that exceeds its budget is tried again.
const ATTEMPTS_MAX: usize = 3;

/// By how much an evaluation may exceed its budget on a slow machine before a builtin must be at fault.
const OVERRUN_MAX: Duration = Duration::from_secs(2);
