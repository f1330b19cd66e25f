//! The Rego engine: regorus' interpreter, strict about errors and bounded in time.
//!
//! Never regorus' bytecode machine, which evaluates some undefined bodies to true. This file and what prepares its
//! values are all that names the interpreter.

use std::num::NonZeroU32;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use regorus::utils::limits::ExecutionTimerConfig;
use regorus::{Engine, LimitError, Value};

use crate::builtins;
use crate::cache::Projection;
use crate::decision::{Decision, DecisionError};
use crate::engine::{CompiledPolicy, PolicyWorker, Reply};
use crate::input::builder::Builder;
use crate::input::shape::InputShape;
use crate::input::subject::Subject;
use crate::input::view::RequestView;
use crate::problem::Problem;
use crate::reads::Reads;
use crate::set::PolicySet;

/// Steps of the interpreter between two looks at the clock: a step takes about 50 ns, a look 25 ns.
const STEPS_PER_CLOCK: NonZeroU32 = NonZeroU32::new(64).expect("not zero");

/// An engine as all evaluations here want it, still without policies.
pub(crate) fn new_engine() -> Engine {
    let mut engine = Engine::new();
    engine.set_rego_v0(false);
    // An error in a builtin must end the evaluation: as undefined it would make a `not` hold.
    engine.set_strict_builtin_errors(true);
    builtins::register(&mut engine);
    engine
}

/// Limits every evaluation of the engine.
pub(crate) fn set_time_budget(engine: &mut Engine, limit: Duration) {
    engine.set_execution_timer_config(ExecutionTimerConfig { limit, check_interval: STEPS_PER_CLOCK });
}

/// A compiled Rego policy.
pub(crate) struct RegoPolicy {
    /// Prepared and never evaluated, so that a clone is always in its first state.
    prototype: Arc<Engine>,
    rule: Arc<str>,
    shape: InputShape,
    reads: Reads,
    projection: Result<Arc<Projection>, Vec<Problem>>,
    digest: [u8; 32],
}

impl RegoPolicy {
    /// `prepared` has passed all checks and been prepared for `set.rule()`.
    pub(crate) fn new(
        mut prepared: Engine,
        reads: Reads,
        projection: Result<Arc<Projection>, Vec<Problem>>,
        set: &PolicySet,
    ) -> Self {
        set_time_budget(&mut prepared, set.limits().time_budget);
        let (rule, shape) = (set.rule().into(), set.input());
        Self { prototype: Arc::new(prepared), rule, shape, reads, projection, digest: *set.digest() }
    }

    pub(crate) fn rego_worker(&self) -> RegoWorker {
        RegoWorker {
            engine: (*self.prototype).clone(),
            prototype: Arc::clone(&self.prototype),
            rule: Arc::clone(&self.rule),
            shape: self.shape,
            builder: Builder::reading(self.shape, &self.reads),
        }
    }
}

impl CompiledPolicy for RegoPolicy {
    fn digest(&self) -> &[u8; 32] {
        &self.digest
    }

    fn reads_body(&self) -> bool {
        self.shape.body().iter().any(|path| self.reads.may_read(path))
    }

    fn names_body(&self) -> bool {
        self.shape.body().iter().any(|path| self.reads.names(path))
    }

    fn projection(&self) -> Result<&Arc<Projection>, &[Problem]> {
        self.projection.as_ref().map_err(Vec::as_slice)
    }

    fn worker(&self) -> Box<dyn PolicyWorker> {
        Box::new(self.rego_worker())
    }
}

/// One worker's evaluator.
pub(crate) struct RegoWorker {
    engine: Engine,
    prototype: Arc<Engine>,
    rule: Arc<str>,
    shape: InputShape,
    builder: Builder,
}

impl RegoWorker {
    /// Decides about an input document, or about what `input` makes.
    pub(crate) fn decide_on(
        &mut self,
        input: impl FnOnce(&mut Builder) -> Result<Value, DecisionError>,
    ) -> Result<Decision, DecisionError> {
        // Unwind safe: whatever state a panic leaves behind is thrown away below.
        let result = catch_unwind(AssertUnwindSafe(|| {
            let input = input(&mut self.builder)?;
            self.evaluate(input)
        }));
        let result = result.unwrap_or(Err(DecisionError::Panic));
        if result.is_err() {
            // An evaluation that ends early can leave overrides of `with` and half-evaluated rules in the interpreter.
            self.engine = (*self.prototype).clone();
        }
        self.shape.decision(&result?)
    }

    /// The value of the deciding rule.
    fn evaluate(&mut self, input: Value) -> Result<Value, DecisionError> {
        self.engine.set_input(input);
        self.engine.eval_rule(self.rule.to_string()).map_err(|error| {
            match error.downcast_ref::<LimitError>() {
                Some(LimitError::TimeLimitExceeded { .. }) => DecisionError::TimeBudget,
                _ => evaluation_error(&error.to_string()),
            }
        })
    }
}

impl PolicyWorker for RegoWorker {
    fn ask(&mut self, subject: &Subject, request: &RequestView<'_>) -> Result<Reply, DecisionError> {
        self.decide_on(|builder| builder.build(subject, request)).map(Reply::Decided)
    }
}

/// Tells what regorus reports in text: `--> file:line:column`, the source line, `error: message`.
pub(crate) fn evaluation_error(text: &str) -> DecisionError {
    // The interpreter turns the error into text where it leaves a function.
    if text.contains("execution exceeded time limit") {
        return DecisionError::TimeBudget;
    }
    let report = EngineReport::parse(text);
    DecisionError::Evaluation(match report.place {
        Some((file, line, column)) => format!("{file}:{line}:{column}: {}", report.message),
        None => report.message.to_owned(),
    })
}

/// regorus' report of an error, taken apart.
pub(crate) struct EngineReport<'t> {
    pub(crate) place: Option<(&'t str, u32, u32)>,
    pub(crate) message: &'t str,
}

impl<'t> EngineReport<'t> {
    pub(crate) fn parse(text: &'t str) -> Self {
        let place = text.split_once("--> ").and_then(|(_, rest)| {
            let line = rest.lines().next()?;
            let (rest, column) = line.rsplit_once(':')?;
            let (file, line) = rest.rsplit_once(':')?;
            Some((file, line.trim().parse().ok()?, column.trim().parse().ok()?))
        });
        let message = match text.split_once("error: ") {
            Some((_, message)) if place.is_some() => message,
            _ => text,
        };
        // Further lines show other places of the source.
        let message = message.trim().lines().next().unwrap_or("unknown error");
        Self { place, message: message.trim_end_matches(['.', ':']) }
    }
}

#[cfg(test)]
mod tests;
