//! What a check of a policy set reports: problems with their place, and the outcome of its tests.
//!
//! Problems are for operators and policy authors; nothing of them is ever sent to a client.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How bad a [`Problem`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The policy set is refused.
    Error,
    /// The policy set is accepted, but its author should know.
    Warning,
}

/// One finding in a policy set.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Problem {
    /// Path of the source as given in the policy set; empty if the finding is about the whole set.
    pub file: String,
    /// Line, from 1; 0 if unknown.
    pub line: u32,
    /// Column in characters, from 1; 0 if unknown.
    pub column: u32,
    /// Whether the finding refuses the set.
    pub severity: Severity,
    /// What is wrong, in lower case, naming the thing and the value.
    pub message: String,
    /// The likely fix.
    pub help: Option<String>,
}

impl Problem {
    pub(crate) fn error(at: &Place, message: impl Into<String>) -> Self {
        Self::new(Severity::Error, at, message.into())
    }

    pub(crate) fn warning(at: &Place, message: impl Into<String>) -> Self {
        Self::new(Severity::Warning, at, message.into())
    }

    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    fn new(severity: Severity, at: &Place, message: String) -> Self {
        Self { file: at.file.clone(), line: at.line, column: at.column, severity, message, help: None }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.file.is_empty() {
            write!(f, "{}:", self.file)?;
            if self.line > 0 {
                write!(f, "{}:{}:", self.line, self.column)?;
            }
            f.write_str(" ")?;
        }
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        write!(f, "{severity}: {}", self.message)?;
        if let Some(help) = &self.help {
            write!(f, "\n  help: {help}")?;
        }
        Ok(())
    }
}

/// Where a finding is. Line and column are 0 where they are unknown.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) file: String,
    pub(crate) line: u32,
    pub(crate) column: u32,
}

impl Place {
    pub(crate) fn file(file: &str) -> Self {
        Self { file: file.to_owned(), line: 0, column: 0 }
    }

    pub(crate) fn new(file: &str, line: u32, column: u32) -> Self {
        Self { file: file.to_owned(), line, column }
    }
}

/// Why a policy set was refused: every error that could be found, with the warnings found on the way.
///
/// Holds at least one [`Severity::Error`]. Sorted by file, line and column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyErrors {
    problems: Vec<Problem>,
}

impl PolicyErrors {
    pub(crate) fn new(mut problems: Vec<Problem>) -> Self {
        problems.sort();
        problems.dedup();
        Self { problems }
    }

    /// All findings, errors and warnings.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }
}

impl fmt::Display for PolicyErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for PolicyErrors {}

/// What was learnt about an accepted policy set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Warnings only.
    pub warnings: Vec<Problem>,
    /// The packages of the set, as `data.a.b`, sorted, without those of test files.
    pub packages: Vec<String>,
    /// Input paths that the policy can read, as `request.path`; `*` stands for the whole input.
    pub reads: Vec<String>,
    /// Called builtins whose result does not follow from the input alone, such as `time.now_ns`.
    pub impure: Vec<String>,
    /// Why decisions of the policy are not cached; empty if they can be.
    pub uncacheable: Vec<Problem>,
    /// Routes and tenants that the policy names. They should exist: what is denied to one that has another name now, is not.
    pub mentions: Vec<Mention>,
    /// Outcome of the embedded tests.
    pub tests: TestReport,
}

/// A thing of the configuration that a policy names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mention {
    /// What it is.
    pub of: Mentioned,
    /// The id of the route, or the name of the tenant.
    pub name: String,
    /// The rule that names it; empty if it is no rule but an entity of Cedar's.
    pub rule: String,
    /// Path of the rule's source.
    pub file: String,
    /// Line of the rule, from 1.
    pub line: u32,
    /// Its column in characters, from 1.
    pub column: u32,
}

/// What a policy may name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mentioned {
    /// A route.
    Route,
    /// A tenant.
    Tenant,
}

/// Outcome of the `test_` rules of a policy set.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TestReport {
    /// Every test, in order of package and name.
    pub tests: Vec<Test>,
}

impl TestReport {
    /// Tests that ended in [`TestOutcome::Passed`].
    pub fn passed(&self) -> usize {
        self.tests.iter().filter(|test| test.outcome == TestOutcome::Passed).count()
    }

    /// Tests that did not hold or ended in an error.
    pub fn failed(&self) -> impl Iterator<Item = &Test> {
        self.tests.iter().filter(|test| matches!(test.outcome, TestOutcome::Failed | TestOutcome::Error(_)))
    }
}

/// One `test_` rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Test {
    /// Full name of the rule, as `data.ringward.authz_test.test_denies_anonymous`.
    pub name: String,
    /// Path of its source.
    pub file: String,
    /// Line of its head, from 1.
    pub line: u32,
    /// What came out.
    pub outcome: TestOutcome,
    /// How long it ran.
    pub took: Duration,
    /// What it printed, each as `file:line: text`.
    pub prints: Vec<String>,
    /// Where it failed, if that could be found out.
    pub failed: Option<FailedStatement>,
}

/// The statement of a test that did not hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedStatement {
    /// Its line in the test's file.
    pub line: u32,
    /// As it is written, on one line.
    pub text: String,
}

/// How a test ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TestOutcome {
    /// The rule was `true`.
    Passed,
    /// The rule was undefined or anything but `true`.
    Failed,
    /// Evaluation ended in this error.
    Error(String),
    /// A `todo_test_` rule: not run.
    Skipped,
}
