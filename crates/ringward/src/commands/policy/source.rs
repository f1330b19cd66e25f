//! Which policy is meant, and how a child is asked about it.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use ringward_config::FileKind;
use ringward_policy::child::Task;
use ringward_policy::{
    InputShape, Language, Limits, PolicySet, Problem, Severity, Source, UnknownShape, complete_input,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::failure::{EXIT_USAGE, Failure};
use crate::load;
use crate::load::files::Files;
use crate::policy_child::{self, Bounds, ChildError};
use crate::terminal::{complain, say};

/// Which policy is meant, and how the result is to be shown.
#[derive(Debug, Args)]
pub(crate) struct PolicySource {
    /// Files and directories of the policy: *.rego, *.json, *.yaml; *.toml for the matcher; *.cedar, *.json, *.cedarschema and
    /// *.test.toml for Cedar.
    #[arg(value_name = "PATH", required_unless_present = "config", conflicts_with = "config")]
    paths: Vec<PathBuf>,
    /// What decides by these files. Policies of the matcher and in Cedar can be checked, which runs their tests; all else is for
    /// Rego.
    #[arg(long, value_name = "ENGINE", value_enum, default_value_t = EngineName::Rego, conflicts_with = "config")]
    engine: EngineName,
    /// The rule that decides, in Rego.
    #[arg(long, value_name = "RULE", default_value = RULE_DEFAULT, conflicts_with = "config")]
    rule: String,
    /// The shape of the input: native, envoy-v3 or kong.
    #[arg(long = "shape", value_name = "SHAPE", default_value_t, value_parser = parse_shape, conflicts_with = "config")]
    shape: InputShape,
    /// A configuration file, to take the policy from instead.
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The name of the policy in the configuration. Needed if there are several.
    #[arg(long = "policy", value_name = "NAME", requires = "config")]
    name: Option<String>,
    /// Print the result as JSON.
    #[arg(long)]
    pub(super) json: bool,
}

/// As `engine` of `[policy.NAME]` has it.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum EngineName {
    Rego,
    Matcher,
    Cedar,
}

/// What `--json` prints of a policy that is refused.
#[derive(Serialize)]
struct Refusal<'a> {
    ok: bool,
    problems: &'a [Problem],
}

impl PolicySource {
    /// Reads the files.
    ///
    /// # Errors
    /// If one cannot be read, or the configuration is refused.
    pub(super) fn load(&self) -> Result<PolicySet, Failure> {
        if let Some(config) = &self.config {
            let gathered = load::gather(config).map_err(Failure::Configuration)?;
            return gathered.policy_set(self.name.as_deref());
        }
        let kind = match self.engine {
            EngineName::Rego => FileKind::Policy,
            EngineName::Matcher => FileKind::MatcherTable,
            EngineName::Cedar => FileKind::CedarPolicy,
        };
        let mut files = Files::default();
        let mut sources = Vec::new();
        for path in &self.paths {
            files.read(path, kind);
            for entry in files.entries(path, kind) {
                let content = entry.content.as_ref().map_err(|error| Failure::Usage(error.to_string()))?;
                let path = entry.path.display().to_string();
                sources.push(Source { path, bytes: content.bytes.clone() });
            }
        }
        Ok(match self.engine {
            EngineName::Rego => {
                PolicySet::new(sources, self.rule.clone(), Limits::default()).with_input(self.shape)
            }
            EngineName::Matcher => PolicySet::without_rule(Language::Matcher, sources, Limits::default()),
            EngineName::Cedar => PolicySet::without_rule(Language::Cedar, sources, Limits::default()),
        })
    }

    /// Has a child do something with the policy that may take `time` beside a check.
    ///
    /// # Errors
    /// If it is refused; why was printed.
    pub(super) fn ask<T: DeserializeOwned>(
        &self,
        set: &PolicySet,
        task: &Task,
        time: Duration,
    ) -> Result<T, Failure> {
        match policy_child::perform(set, task, &Bounds::with_time(time)) {
            Ok(answer) => Ok(answer),
            Err(ChildError::Refused(errors)) => Err(self.refuse(errors.problems())),
            Err(error) => Err(self.refuse(&[problem(error.to_string(), error.help())])),
        }
    }

    /// Completes an input that was given in part.
    ///
    /// # Errors
    /// If it is none; why was printed.
    pub(super) fn complete(&self, shape: InputShape, given: &Value) -> Result<Value, Failure> {
        complete_input(shape, given).map_err(|error| {
            let problems = error.problems.into_iter().map(|message| problem(message, None));
            self.refuse(&problems.collect::<Vec<_>>())
        })
    }

    fn refuse(&self, problems: &[Problem]) -> Failure {
        if !self.json {
            problems.iter().for_each(complain);
            return Failure::Reported(EXIT_USAGE);
        }
        match print_json(&Refusal { ok: false, problems }) {
            Ok(()) => Failure::Reported(EXIT_USAGE),
            Err(failure) => failure,
        }
    }
}

/// A problem without a place.
fn problem(message: String, help: Option<&str>) -> Problem {
    let (severity, help) = (Severity::Error, help.map(str::to_owned));
    Problem { file: String::new(), line: 0, column: 0, severity, message, help }
}

/// Prints a result as JSON.
///
/// # Errors
/// If it cannot be written so.
pub(super) fn print_json(result: &impl Serialize) -> Result<(), Failure> {
    let json = serde_json::to_string_pretty(result);
    say(json.map_err(|error| Failure::Runtime(format!("the result cannot be written as JSON: {error}")))?);
    Ok(())
}

pub(super) fn parse_shape(name: &str) -> Result<InputShape, UnknownShape> {
    name.parse()
}

/// As `rule` of `[policy.NAME]` has it.
const RULE_DEFAULT: &str = "data.ringward.authz.decision";
