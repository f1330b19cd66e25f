//! Why a policy decided as it did: for each body of the deciding rule and of the rules it leads to, how far it came.

use std::collections::{BTreeMap, BTreeSet};

use regorus::{Rc, Value};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use crate::check::cycles::Dependencies;
use crate::check::rules::{Path, Rules, dotted};
use crate::compile::Prepared;
use crate::documents;
use crate::input::schema::json_of;
use crate::set::PolicySet;
use crate::trace::{Body, Condition, Ending, Seen, Traced, TracedRule};

/// Why a policy decided as it did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    /// The deciding rule first, then what it leads to, each before what it leads to itself. Rules without conditions are
    /// left out.
    pub rules: Vec<ExplainedRule>,
}

/// A rule with all its bodies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExplainedRule {
    /// Its full name, as `data.ringward.authz.decision`.
    pub rule: String,
    /// Whether it is a function. What is said of its bodies is then of all calls together.
    pub function: bool,
    /// Its bodies in order of the text.
    pub bodies: Vec<ExplainedBody>,
}

/// Conditions that have to hold together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExplainedBody {
    /// Path of the source.
    pub file: String,
    /// Line of the rule's head or `else`.
    pub line: u32,
    /// The head or `else` as it is written, on one line.
    pub head: String,
    /// What came of it.
    pub outcome: Outcome,
    /// The condition that failed.
    pub failed: Option<FailedCondition>,
}

/// What came of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// All conditions held.
    Held,
    /// One did not.
    Failed,
    /// No condition was evaluated: nothing asked for it, or what stands before it held.
    NotTried,
}

/// A condition that did not hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedCondition {
    /// Its line in the body's file.
    pub line: u32,
    /// Its column.
    pub column: u32,
    /// As it is written, on one line.
    pub text: String,
    /// The fields of the input that it depends on, as `request.path`, and what they hold.
    pub input: BTreeMap<String, Json>,
}

/// Explains an evaluation that came by what was `seen`.
pub(crate) fn explain(
    prepared: &Prepared,
    set: &PolicySet,
    traced: &Traced,
    seen: &Seen,
    input: &Value,
) -> Explanation {
    let rules = Rules::collect(&prepared.modules);
    let mut by_path: BTreeMap<&Path, Vec<&TracedRule>> = BTreeMap::new();
    for rule in &traced.rules {
        by_path.entry(&rule.path).or_default().push(rule);
    }
    let order = reachable(&rules, set.rule());
    let explained = order.iter().filter_map(|path| {
        let definitions = by_path.get(path)?;
        let bodies = definitions.iter().flat_map(|rule| &rule.bodies);
        Some(ExplainedRule {
            rule: dotted(path),
            function: definitions.iter().any(|rule| rule.is_function),
            bodies: bodies.map(|body| explain_body(body, seen, input)).collect(),
        })
    });
    Explanation { rules: explained.filter(|rule| !rule.bodies.is_empty()).collect() }
}

fn explain_body(body: &Body, seen: &Seen, input: &Value) -> ExplainedBody {
    let (outcome, failed) = match body.ending(seen) {
        Ending::Held => (Outcome::Held, None),
        Ending::Untried => (Outcome::NotTried, None),
        Ending::Failed(index) => (Outcome::Failed, Some(&body.conditions[index])),
    };
    ExplainedBody {
        file: body.at.file.clone(),
        line: body.at.line,
        head: body.head.clone(),
        outcome,
        failed: failed.map(|condition| explain_condition(condition, input)),
    }
}

fn explain_condition(condition: &Condition, input: &Value) -> FailedCondition {
    let value = |path: &Vec<String>| {
        let value = documents::at(input, path)?;
        // The whole input would say nothing; what is read of it is not known.
        (!path.is_empty()).then(|| (path.join("."), json_of(value)))
    };
    FailedCondition {
        line: condition.at.line,
        column: condition.at.column,
        text: condition.text.clone(),
        input: condition.inputs.iter().filter_map(value).collect(),
    }
}

/// The rule and all that it leads to, each before what it leads to first.
fn reachable(rules: &Rules<'_>, rule: &str) -> Vec<Path> {
    let (mut order, mut known) = (Vec::new(), BTreeSet::new());
    let mut next: Vec<Path> = vec![rule.split('.').map(Rc::from).collect()];
    while let Some(path) = next.pop() {
        if !known.insert(path.clone()) {
            continue;
        }
        let below: BTreeSet<Path> =
            rules.at(&path).flat_map(|definition| Dependencies::of(rules, definition)).collect();
        next.extend(below.into_iter().rev());
        order.push(path);
    }
    order
}
