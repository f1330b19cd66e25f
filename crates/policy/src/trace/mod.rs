//! Which conditions of a policy were evaluated, and which of them held.
//!
//! The interpreter records the lines that it evaluates. That is too coarse in two ways: a line may have several
//! conditions, and conditions are evaluated in an order that follows from their variables, so that the last line evaluated
//! need not be where a body ended. Therefore the policy is evaluated from a text in which every condition has lines of its
//! own and is followed by a *witness*: a literal that always holds and mentions the same variables, for which it is
//! evaluated right after the condition, and only if that held. The body ended at the condition that was evaluated and
//! whose witness was not.
//!
//! Nothing is decided by that text: it is for people who want to know why, and for the coverage of tests.

mod inputs;
mod rewrite;
mod variables;

use std::collections::{BTreeMap, BTreeSet};
use std::num::{NonZeroU32, NonZeroUsize};
use std::ops::RangeInclusive;
use std::panic::{AssertUnwindSafe, catch_unwind};

use regorus::{Engine, PolicyLengthConfig, Rc};

use crate::ast::{Module, Ref};
use crate::builtins::header;
use crate::check::rules::{Path, Rules};
use crate::compile::Prepared;
use crate::problem::Place;
use crate::rego;
use crate::set::{PolicySet, SourceKind};

/// A policy whose evaluation can be followed.
pub(crate) struct Traced {
    /// Prepared, with coverage, and never evaluated: to be cloned for each evaluation.
    pub(crate) engine: Engine,
    /// Every rule, in order of the sources.
    pub(crate) rules: Vec<TracedRule>,
}

/// One definition of a rule.
pub(crate) struct TracedRule {
    pub(crate) path: Path,
    pub(crate) is_function: bool,
    pub(crate) at: Place,
    /// Where the rewritten text has a rule without bodies.
    pub(crate) lines: Option<Lines>,
    /// The first, and what follows it after `else`.
    pub(crate) bodies: Vec<Body>,
}

/// Conditions that have to hold together.
pub(crate) struct Body {
    pub(crate) at: Place,
    /// What stands before the conditions, on one line.
    pub(crate) head: String,
    pub(crate) conditions: Vec<Condition>,
    /// Where the rewritten text has a body without conditions: the end of a chain of `else`.
    pub(crate) lines: Option<Lines>,
}

/// A statement of a body.
pub(crate) struct Condition {
    pub(crate) at: Place,
    /// As it is written, on one line.
    pub(crate) text: String,
    /// Where the rewritten text has it.
    pub(crate) lines: Lines,
    /// The line of its witness there.
    witness: u32,
    /// Statements of comprehensions and of `every` within it: their line in the source, and their lines there.
    pub(crate) nested: Vec<(u32, Lines)>,
    /// Paths into the input that its value depends on, as far as the body says.
    pub(crate) inputs: Vec<Vec<String>>,
}

/// Lines of a rewritten text.
pub(crate) type Lines = RangeInclusive<u32>;

/// How a body ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// All its conditions held together at least once.
    Held,
    /// At the condition of this index, and never further.
    Failed(usize),
    /// It was not evaluated, or only its arguments were.
    Untried,
}

/// The lines that evaluations came by.
#[derive(Default)]
pub(crate) struct Seen {
    /// By path of the source.
    lines: BTreeMap<String, BTreeSet<u32>>,
}

impl Traced {
    /// Of a set that passed the checks, with its tests or without.
    ///
    /// # Errors
    ///
    /// If the interpreter does not take the rewritten text, with what it says.
    pub(crate) fn of(prepared: &Prepared, set: &PolicySet, with_tests: bool) -> Result<Self, String> {
        let modules: Vec<&Ref<Module>> = prepared.modules.iter().collect();
        let rules = Rules::collect(modules.iter().copied());
        let mut engine = rego::new_engine();
        engine.set_policy_length_config(LENGTHS);
        let mut traced = Vec::new();
        for (index, module) in modules.iter().enumerate() {
            let source = &module.package.span.source;
            if SourceKind::of(source.file()) == Some(SourceKind::PolicyTest) && !with_tests {
                continue;
            }
            let (text, mut rewritten) = rewrite::module(&rules, index);
            traced.append(&mut rewritten);
            let added = catch_unwind(AssertUnwindSafe(|| engine.add_policy(source.file().to_string(), text)));
            unless_refused(added)?;
        }
        for (path, text) in header::modules(&rules, set.input()) {
            unless_refused(catch_unwind(AssertUnwindSafe(|| engine.add_policy(path, text))))?;
        }
        engine.add_data(prepared.data.clone()).map_err(|error| error.to_string())?;
        let rule: Rc<str> = set.rule().into();
        unless_refused(catch_unwind(AssertUnwindSafe(|| engine.compile_with_entrypoint(&rule).map(drop))))?;
        engine.set_enable_coverage(true);
        Ok(Self { engine, rules: traced })
    }
}

fn unless_refused<T, E: ToString>(outcome: std::thread::Result<Result<T, E>>) -> Result<(), String> {
    match outcome {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(rego::EngineReport::parse(&error.to_string()).message.to_owned()),
        Err(_) => Err("the interpreter panicked".to_owned()),
    }
}

impl Seen {
    /// Adds what `engine`, a clone of [`Traced::engine`], came by since it was cloned.
    pub(crate) fn add(&mut self, engine: &Engine) {
        let Ok(report) = engine.get_coverage_report() else { return };
        for file in report.files {
            self.lines.entry(file.path).or_default().extend(file.covered);
        }
    }

    /// Whether one of these lines was evaluated.
    pub(crate) fn any(&self, file: &str, lines: &Lines) -> bool {
        self.lines.get(file).is_some_and(|seen| seen.range(lines.clone()).next().is_some())
    }
}

impl Condition {
    /// Whether it was evaluated.
    pub(crate) fn tried(&self, seen: &Seen) -> bool {
        seen.any(&self.at.file, &self.lines)
    }

    /// Whether it held at least once.
    pub(crate) fn held(&self, seen: &Seen) -> bool {
        seen.any(&self.at.file, &(self.witness..=self.witness))
    }
}

impl Body {
    /// How it ended, as far as anything of it was evaluated.
    pub(crate) fn ending(&self, seen: &Seen) -> Ending {
        if let Some(lines) = &self.lines {
            return if seen.any(&self.at.file, lines) { Ending::Held } else { Ending::Untried };
        }
        let failed =
            self.conditions.iter().position(|condition| condition.tried(seen) && !condition.held(seen));
        match failed {
            Some(index) => Ending::Failed(index),
            None if self.conditions.iter().all(|condition| condition.held(seen)) => Ending::Held,
            None => Ending::Untried,
        }
    }
}

/// More than the largest policy file has when it is rewritten; what is read was within its limits before.
const LENGTHS: PolicyLengthConfig = PolicyLengthConfig {
    max_col: NonZeroU32::new(64 * 1024).expect("not zero"),
    max_file_bytes: NonZeroUsize::new(64 << 20).expect("not zero"),
    max_lines: NonZeroUsize::new(4 << 20).expect("not zero"),
};

#[cfg(test)]
mod tests;
