//! `*.test.toml`: requests that a policy decides whenever it is loaded.

use std::path::Path;
use std::time::Instant;

use regorus::Value;
use ringward_config::Document;
use ringward_config::raw::Field;
use serde::Deserialize;
use serde_json::{Value as Json, json};
use serde_spanned::Spanned;

use crate::cedar::{CedarWorker, text_of};
use crate::input::given::complete_input;
use crate::input::shape::InputShape;
use crate::problem::{FailedStatement, Place, Problem, Severity, Test, TestOutcome};
use crate::set::Source;

/// The whole file.
#[derive(Debug, Default, Deserialize)]
#[serde(rename = "a file of tests", default, deny_unknown_fields)]
struct Raw {
    /// `[[test]]`: requests, and what has to become of them. A policy with a failing one is refused.
    test: Field<Vec<Field<RawTest>>>,
}

/// `[[test]]`: a request, and what has to become of it.
#[derive(Debug, Default, Deserialize)]
#[serde(rename = "[[test]]", default, deny_unknown_fields)]
struct RawTest {
    /// What it shows. Required.
    name: Field<String>,
    /// The request, by the fields of the context (`ringward policy schema`); what is left out is as it is where there is nothing.
    /// Without `client` it is a client without certificate. Example: `input.request.path = "/orders/17"`.
    input: Field<Json>,
    /// What has to become of it. Required.
    expect: Field<Expected>,
    /// The policy that has to decide, by its `@id`. Default: any, or none.
    rule: Field<String>,
}

/// What has to become of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename = "test.expect", rename_all = "snake_case")]
enum Expected {
    /// It is allowed.
    Allow,
    /// It is denied.
    Deny,
    /// There is no decision, since a policy ends in an error.
    Error,
}

/// A request, and what has to become of it.
#[derive(Debug)]
pub(super) struct Trial {
    name: String,
    pub(super) document: Value,
    expect: Expected,
    rule: Option<String>,
    at: Place,
}

/// Reads a file of tests.
pub(super) fn read(source: &Source, trials: &mut Vec<Trial>, problems: &mut Vec<Problem>) {
    let text = match text_of(source) {
        Ok(text) => text,
        Err(problem) => return problems.push(problem),
    };
    let document = Document::new(Path::new(&source.path), text);
    let (raw, found) = document.decode::<Raw>();
    problems.extend(found.into_iter().map(|found| Problem {
        file: source.path.clone(),
        line: found.line,
        column: found.column,
        severity: Severity::Error,
        message: found.message,
        help: found.help,
    }));
    let Some(raw) = raw else { return };
    for test in raw.test.value().into_iter().flatten().filter_map(Field::given) {
        let at = document.locate(&test.span());
        let at = Place::new(&source.path, at.line, at.column);
        match Trial::of(test, &at) {
            Ok(trial) => trials.push(trial),
            Err(messages) => {
                problems.extend(messages.into_iter().map(|message| Problem::error(&at, message)))
            }
        }
    }
}

impl Trial {
    fn of(given: &Spanned<RawTest>, at: &Place) -> Result<Self, Vec<String>> {
        let raw = given.get_ref();
        let missing = |key: &str| vec![format!("`{key}` is missing in [[test]]")];
        let name = raw.name.value().ok_or_else(|| missing("name"))?;
        let expect = *raw.expect.value().ok_or_else(|| missing("expect"))?;
        let mut input = raw.input.value().cloned().unwrap_or_else(|| json!({}));
        if let Some(sections) = input.as_object_mut() {
            let nobody = json!({ "verified": false });
            sections.entry("client").or_insert(nobody);
            // Not the invented request either.
            sections.entry("request").or_insert_with(|| json!({}));
        }
        let input = complete_input(InputShape::Native, &input).map_err(|error| error.problems)?;
        Ok(Self {
            name: name.clone(),
            document: Value::from(input),
            expect,
            rule: raw.rule.value().cloned(),
            at: at.clone(),
        })
    }

    /// Decides the request, and says whether what became of it is what had to.
    pub(super) fn run(&self, worker: &mut CedarWorker) -> Test {
        let started = Instant::now();
        let decided = worker.decide_document(&self.document);
        let (found, rule, text) = match &decided {
            Ok(decision) => {
                let found = if decision.allowed { Expected::Allow } else { Expected::Deny };
                let rule = decision.rule.as_deref();
                let text = match (rule, decision.allowed) {
                    (Some(rule), true) => format!("policy `{rule}` allows it"),
                    (Some(rule), false) => format!("policy `{rule}` denies it"),
                    (None, _) => "no policy allows it".to_owned(),
                };
                (found, rule, text)
            }
            Err(error) => (Expected::Error, None, error.to_string()),
        };
        let passed = found == self.expect && self.rule.as_deref().is_none_or(|wanted| Some(wanted) == rule);
        Test {
            name: self.name.clone(),
            file: self.at.file.clone(),
            line: self.at.line,
            outcome: if passed { TestOutcome::Passed } else { TestOutcome::Failed },
            took: started.elapsed(),
            prints: Vec::new(),
            failed: (!passed).then_some(FailedStatement { line: self.at.line, text }),
        }
    }
}

/// What a failed test says of the policy.
pub(super) fn problem(test: &Test) -> Problem {
    let found = test.failed.as_ref().map_or("", |failed| failed.text.as_str());
    Problem::error(&Place::new(&test.file, test.line, 1), format!("test `{}` failed: {found}", test.name))
}
