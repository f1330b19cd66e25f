//! Cedar: policies that permit and forbid, entities in groups, and a schema that all of it is checked by before it runs.
//!
//! Hides the `cedar-policy` crate. What a request is to Cedar is in [`request`], what policies are checked for in [`sources`].
//!
//! A request is allowed if a policy permits it and none forbids it. Cedar leaves out a policy whose evaluation ends in an error, so
//! that a `forbid` could be got around by making it fail; here any such error means that there is no decision.

mod ancestors;
mod named;
mod request;
mod scan;
mod schema;
mod sources;
mod trial;
mod uses;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use cedar_policy::ffi::DetailedError;
use cedar_policy::{Authorizer, Decision as Outcome, Entities, PolicySet as Policies, Request};
use regorus::Value;

use crate::cache::Projection;
use crate::cedar::request::{Caller, Names, Size, Wanted};
use crate::cedar::schema::{ADDRESS, ADDRESS_IP};
use crate::cedar::sources::{Checked, Rule, number};
use crate::cedar::uses::{Looks, Uses};
use crate::decision::{Decision, DecisionError};
use crate::engine::{CompiledPolicy, PolicyWorker, Reply};
use crate::input::document::{Builder, Parts};
use crate::input::subject::Subject;
use crate::input::view::RequestView;
use crate::problem::{Place, PolicyErrors, Problem, Report, Severity, TestReport};
use crate::reads::Reads;
use crate::set::{PolicySet, Source};

/// Compiles policies.
pub(crate) fn compile(set: &PolicySet) -> Result<Arc<dyn CompiledPolicy>, PolicyErrors> {
    let checked = Checked::of(set).map_err(PolicyErrors::new)?;
    Ok(Arc::new(CedarPolicy::new(checked, *set.digest())))
}

/// Compiles policies and runs their tests.
pub(crate) fn check(set: &PolicySet) -> Result<Report, PolicyErrors> {
    let mut checked = Checked::of(set).map_err(PolicyErrors::new)?;
    let (mut problems, mentions) =
        (std::mem::take(&mut checked.warnings), std::mem::take(&mut checked.mentions));
    let trials = std::mem::take(&mut checked.trials);
    let policy = CedarPolicy::new(checked, *set.digest());
    let mut worker = policy.cedar_worker();
    let tests = TestReport { tests: trials.iter().map(|trial| trial.run(&mut worker)).collect() };
    problems.extend(tests.failed().map(trial::problem));
    if problems.iter().any(|problem| problem.severity == Severity::Error) {
        return Err(PolicyErrors::new(problems));
    }
    problems.sort();
    Ok(Report {
        warnings: problems,
        packages: Vec::new(),
        reads: policy.reads.dotted(),
        impure: Vec::new(),
        uncacheable: policy.projection.err().unwrap_or_default(),
        mentions,
        tests,
    })
}

/// What all workers share.
struct Compiled {
    policies: Policies,
    entities: Entities,
    /// See [`Checked`].
    attributes: Size,
    rules: Vec<Rule>,
    wanted: Wanted,
    /// Whether policies look at the principal. If not, it makes no difference who it is.
    principal: bool,
    looks: Looks,
}

/// Compiled policies.
struct CedarPolicy {
    compiled: Arc<Compiled>,
    /// What of the input makes the context.
    context: Reads,
    /// What of the input anything is decided by.
    reads: Reads,
    projection: Result<Arc<Projection>, Vec<Problem>>,
    digest: [u8; 32],
}

impl CedarPolicy {
    fn new(checked: Checked, digest: [u8; 32]) -> Self {
        let Checked { policies, entities, attributes, rules, uses, .. } = checked;
        let wanted = Wanted::of(uses.context.keys().map(Vec::as_slice));
        let mut paths = uses.context.clone();
        if let Some(at) = paths.remove(&names(&ADDRESS_IP)) {
            paths.entry(names(&ADDRESS)).or_insert(at);
        }
        let context = Reads::of_paths(paths.clone());
        let first = rules.first().map_or_else(Place::default, |rule| rule.at.clone());
        let looked_at = [(uses.principal, PRINCIPAL), (uses.action, ACTION), (uses.resource, RESOURCE)];
        for path in looked_at.into_iter().filter(|(used, _)| *used).flat_map(|(_, paths)| paths) {
            paths.entry(names(path)).or_insert_with(|| first.clone());
        }
        let reads = Reads::of_paths(paths);
        let projection = Projection::of_reads(&reads)
            .map(Arc::new)
            .map_err(|reasons| reasons.into_iter().map(in_words_of_cedar).collect());
        let Uses { principal, looks, .. } = uses;
        let compiled = Compiled { policies, entities, attributes, rules, wanted, principal, looks };
        Self { compiled: Arc::new(compiled), context, reads, projection, digest }
    }

    fn cedar_worker(&self) -> CedarWorker {
        CedarWorker {
            compiled: Arc::clone(&self.compiled),
            builder: Builder::new(Parts::of(&self.context)),
            authorizer: Authorizer::new(),
            names: Names::new(),
            decisions: self.compiled.rules.iter().map(|_| None).collect(),
            nothing: Decision { reason: Some("no policy permits the request".into()), ..Decision::default() },
        }
    }
}

impl CompiledPolicy for CedarPolicy {
    fn digest(&self) -> &[u8; 32] {
        &self.digest
    }

    fn reads_body(&self) -> bool {
        self.context.may_read(BODY)
    }

    fn names_body(&self) -> bool {
        self.context.names(BODY)
    }

    fn projection(&self) -> Result<&Arc<Projection>, &[Problem]> {
        self.projection.as_ref().map_err(Vec::as_slice)
    }

    fn worker(&self) -> Box<dyn PolicyWorker> {
        Box::new(self.cedar_worker())
    }
}

/// One worker's evaluator.
struct CedarWorker {
    compiled: Arc<Compiled>,
    builder: Builder,
    authorizer: Authorizer,
    names: Names,
    /// By number of the policy, made when it first decides: texts of its own, whose counters no other worker touches.
    decisions: Box<[Option<Box<Decision>>]>,
    /// The decision if no policy permits the request.
    nothing: Decision,
}

impl CedarWorker {
    /// Decides about an input document.
    fn decide_document(&mut self, document: &Value) -> Result<Decision, DecisionError> {
        let field = |section: &str, name: &str| match &document[section][name] {
            Value::String(text) => text.to_string(),
            _ => String::new(),
        };
        let (method, route) = (field("request", "method"), field("route", "id"));
        self.decide(&Caller::of_document(document), &method, &route, document)
    }

    fn decide(
        &mut self,
        caller: &Caller<'_>,
        method: &str,
        route: &str,
        document: &Value,
    ) -> Result<Decision, DecisionError> {
        let compiled = &self.compiled;
        let caller = if compiled.principal { caller } else { &Caller::default() };
        let principal = self.names.principal(caller)?;
        let (context, size) = compiled.wanted.context(document)?;
        let text_bytes = size.text_bytes + compiled.attributes.text_bytes;
        let items = size.items + compiled.attributes.items;
        if compiled.looks.at(text_bytes, items) > LOOKS_MAX {
            return Err(DecisionError::TimeBudget);
        }
        let (action, resource) = (self.names.action(method), self.names.resource(route));
        // Without a schema: what policies do not look at is left out, which is not as the schema says.
        let request = Request::new(principal, action, resource, context, None)
            .map_err(|error| DecisionError::Evaluation(error.to_string()))?;
        let response = self.authorizer.is_authorized(&request, &compiled.policies, &compiled.entities);
        if let Some(error) = response.diagnostics().errors().next() {
            return Err(compiled.evaluation_error(error));
        }
        let allowed = response.decision() == Outcome::Allow;
        let deciding = response.diagnostics().reason().filter_map(number).min();
        let Some(number) =
            deciding.filter(|number| compiled.rules.get(*number).is_some_and(|rule| rule.allows == allowed))
        else {
            return if allowed {
                Err(DecisionError::Evaluation("no policy stands behind what Cedar allowed".to_owned()))
            } else {
                Ok(self.nothing.clone())
            };
        };
        let decision =
            self.decisions[number].get_or_insert_with(|| Box::new(compiled.rules[number].decision()));
        Ok(Decision::clone(decision))
    }
}

impl PolicyWorker for CedarWorker {
    fn ask(&mut self, subject: &Subject, request: &RequestView<'_>) -> Result<Reply, DecisionError> {
        // Unwind safe: nothing of a request stays in the worker but texts that the next one compares with its own.
        let result = catch_unwind(AssertUnwindSafe(|| {
            let document = self.builder.build(subject, request)?;
            self.decide(&Caller::of(&subject.facts), request.method, request.route.id, &document)
        }));
        result.unwrap_or(Err(DecisionError::Panic)).map(Reply::Decided)
    }
}

impl Compiled {
    /// The error of a policy, with its place.
    fn evaluation_error(&self, error: &cedar_policy::AuthorizationError) -> DecisionError {
        let cedar_policy::AuthorizationError::PolicyEvaluationError(error) = error;
        let rule = number(error.policy_id()).and_then(|number| self.rules.get(number));
        DecisionError::Evaluation(match rule {
            Some(Rule { name, at, .. }) => {
                format!("{}:{}:{}: policy `{name}`: {}", at.file, at.line, at.column, error.inner())
            }
            None => error.to_string(),
        })
    }
}

impl Rule {
    fn decision(&self) -> Decision {
        Decision {
            allowed: self.allows,
            rule: Some(self.name.as_str().into()),
            reason: self.reason.as_deref().map(Into::into),
            ..Decision::default()
        }
    }
}

/// The text of a file, without the mark that some editors put in front of it.
fn text_of(source: &Source) -> Result<&str, Problem> {
    let text = std::str::from_utf8(&source.bytes);
    let text = text.map_err(|_| Problem::error(&beginning(&source.path), "file is not UTF-8"))?;
    Ok(text.strip_prefix('\u{feff}').unwrap_or(text))
}

/// The place of what is about a whole file.
fn beginning(file: &str) -> Place {
    Place::new(file, 1, 1)
}

/// A problem that Cedar found, at its place in `text` if it has one there, else at `at`.
fn place_of<'e, E: ?Sized>(error: &'e E, at: &Place, text: Option<&str>) -> Problem
where
    DetailedError: From<&'e E>,
{
    let detailed = DetailedError::from(error);
    let label = detailed.source_locations.first();
    let at = match (label, text) {
        (Some(label), Some(text)) => scan::place(&at.file, text, label.loc.start),
        _ => at.clone(),
    };
    let message = detailed.message.replace('\n', " ");
    let problem = Problem::error(&at, message);
    match detailed.help.or_else(|| label.and_then(|label| label.label.clone())) {
        Some(help) => problem.help(help.replace('\n', " ")),
        None => problem,
    }
}

fn names(path: &[&str]) -> Vec<String> {
    path.iter().map(ToString::to_string).collect()
}

/// Policies have the input as their context.
fn in_words_of_cedar(problem: Problem) -> Problem {
    let words = |text: String| text.replace("`input.", "`context.").replace("`input`", "`context`");
    Problem { message: words(problem.message), help: problem.help.map(words), ..problem }
}

/// Where the body is.
const BODY: &[&str] = &["request", "body"];
/// What the principal is made of.
const PRINCIPAL: &[&[&str]] = &[
    &["client", "identity"],
    &["client", "san", "dns"],
    &["client", "san", "email"],
    &["client", "san", "uri"],
    &["client", "spiffe_id"],
    &["client", "tenant"],
    &["client", "verified"],
];
const ACTION: &[&[&str]] = &[&["request", "method"]];
const RESOURCE: &[&[&str]] = &[&["route", "id"]];
/// Characters that patterns may look at for one request, with the items of sets: 2 ms, where as many expressions as there may be take
/// another 2 ms.
const LOOKS_MAX: usize = 3_000_000;

#[cfg(test)]
mod tests;
