//! Policies: sources to a compiled policy, by way of the child process that checks them.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::thread;

use ringward_config::{Config, Diagnostic, Engine, Policy, Severity};
use ringward_policy::{
    CompiledPolicy, InputShape, Language, Limits, Mention, Mentioned, OpaPolicy, PolicyErrors, PolicySet,
    Problem, Source, TestReport,
};

use super::Report;
use super::files::Files;
use crate::policy_child::{self, Bounds, CHECK_STACK_BYTES, ChildError};

/// A policy that was checked and compiled.
#[derive(Clone)]
pub(crate) struct LoadedPolicy {
    /// What workers evaluate.
    pub(crate) compiled: Arc<dyn CompiledPolicy>,
    /// SHA-256 of its sources, rule and bounds.
    pub(crate) digest: [u8; 32],
    /// What the check found out.
    pub(crate) report: Arc<ringward_policy::Report>,
}

/// Loads all policies of a configuration. Those whose digest is that of the `previous` one of their name are kept.
pub(super) fn load(
    config: &Config,
    files: &Files,
    previous: &HashMap<String, LoadedPolicy>,
    report: &mut Report<'_>,
) -> HashMap<String, LoadedPolicy> {
    let mut loaded = HashMap::new();
    for policy in config.policies.values() {
        if policy.engine == Engine::Opa {
            loaded.insert(policy.name.clone(), decided_elsewhere(policy, previous.get(&policy.name)));
            continue;
        }
        let Some(set) = policy_set(policy, files, report) else { continue };
        let kept = previous.get(&policy.name).filter(|kept| kept.digest == *set.digest());
        let fresh = match kept {
            Some(kept) => Some(kept.clone()),
            None => check_and_compile(policy, &set, report),
        };
        if let Some(fresh) = fresh {
            report.cache(policy, &fresh.report.uncacheable);
            report.mentions(config, &fresh.report.mentions);
            loaded.insert(policy.name.clone(), fresh);
        }
    }
    loaded
}

pub(super) fn policy_set(policy: &Policy, files: &Files, report: &mut Report<'_>) -> Option<PolicySet> {
    let mut sources = Vec::new();
    let mut complete = true;
    for named in &policy.path {
        for entry in files.entries(&named.path, policy.file_kind()) {
            match &entry.content {
                Ok(content) => {
                    let path = entry.path.display().to_string();
                    sources.push(Source { path, bytes: content.bytes.clone() });
                }
                Err(error) => {
                    report.file(&named.at, error);
                    complete = false;
                }
            }
        }
    }
    let set = match policy.engine {
        Engine::Rego => {
            let limits = Limits { time_budget: policy.time_budget, ..Limits::default() };
            PolicySet::new(sources, policy.rule.clone(), limits).with_input(input_shape(policy.input))
        }
        Engine::Matcher => PolicySet::without_rule(Language::Matcher, sources, Limits::default()),
        Engine::Cedar => PolicySet::without_rule(Language::Cedar, sources, Limits::default()),
        Engine::Opa => {
            let message = format!("policy `{}` is not here: a server decides", policy.name);
            let help = "ask the server about it, with the tools that it brings".to_owned();
            report.error(&policy.at, message, Some(help));
            return None;
        }
    };
    complete.then_some(set)
}

/// A policy of which there is nothing to read or to check: its server may be down for now, and has its own checks.
fn decided_elsewhere(policy: &Policy, previous: Option<&LoadedPolicy>) -> LoadedPolicy {
    let compiled = OpaPolicy::new(&policy.rule, input_shape(policy.input));
    if let Some(kept) = previous.filter(|kept| kept.digest == *compiled.digest()) {
        return kept.clone();
    }
    let report = ringward_policy::Report {
        warnings: Vec::new(),
        packages: Vec::new(),
        reads: vec!["*".to_owned()],
        impure: Vec::new(),
        uncacheable: compiled.projection().err().map_or_else(Vec::new, <[Problem]>::to_vec),
        tests: TestReport::default(),
        mentions: Vec::new(),
    };
    LoadedPolicy { digest: *compiled.digest(), compiled: Arc::new(compiled), report: Arc::new(report) }
}

fn input_shape(configured: ringward_config::InputShape) -> InputShape {
    match configured {
        ringward_config::InputShape::Native => InputShape::Native,
        ringward_config::InputShape::EnvoyV3 => InputShape::EnvoyV3,
        ringward_config::InputShape::Kong => InputShape::Kong,
    }
}

fn check_and_compile(policy: &Policy, set: &PolicySet, report: &mut Report<'_>) -> Option<LoadedPolicy> {
    let checked = match policy_child::check(set, &Bounds::default()) {
        Ok(checked) => checked,
        Err(ChildError::Refused(errors)) => {
            errors.problems().iter().for_each(|problem| report.problem(policy, problem));
            return None;
        }
        Err(error) => {
            let at = policy.path.first().map_or(&policy.at, |named| &named.at);
            report.error(at, format!("policy `{}`: {error}", policy.name), error.help().map(str::to_owned));
            return None;
        }
    };
    checked.warnings.iter().for_each(|problem| report.problem(policy, problem));
    match compile(set) {
        Ok(compiled) => Some(LoadedPolicy { compiled, digest: *set.digest(), report: Arc::new(checked) }),
        Err(errors) => {
            errors.problems().iter().for_each(|problem| report.problem(policy, problem));
            None
        }
    }
}

/// On a thread with at least the stack that was enough for the child.
fn compile(set: &PolicySet) -> Result<Arc<dyn CompiledPolicy>, PolicyErrors> {
    thread::scope(|scope| {
        thread::Builder::new()
            .name("policy-compile".to_owned())
            .stack_size(2 * CHECK_STACK_BYTES)
            .spawn_scoped(scope, || ringward_policy::compile(set))
            .expect("a process that could just start a process can start a thread")
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

impl Report<'_> {
    /// Says so if bounds are given for a cache that there cannot be.
    fn cache(&mut self, policy: &Policy, uncacheable: &[Problem]) {
        let asked_at = policy.cache.as_ref().and_then(|cache| cache.asked_at.as_ref());
        if let (Some(at), Some(reason)) = (asked_at, uncacheable.first()) {
            let counts = policy.cache.as_ref().is_some_and(|cache| cache.misses_per_second.is_some());
            let effect = if counts { "but for `misses_per_second` has no" } else { "has no" };
            let message = format!(
                "`cache` {effect} effect, decisions of this policy cannot be cached: {}",
                Reason(reason)
            );
            self.push(Severity::Warning, at, message, reason.help.clone());
        }
    }

    /// Says so if a policy names a route or tenant that there is not, which may be so because it has another name now.
    fn mentions(&mut self, config: &Config, mentions: &[Mention]) {
        let hosts = config.listeners.iter().flat_map(|listener| &listener.hosts);
        let routes: HashSet<&str> =
            hosts.flat_map(|host| &host.routes).map(|route| route.id.as_str()).collect();
        for Mention { of, name, rule, file, line, column } in mentions {
            let (known, what, help) = match of {
                Mentioned::Route => (
                    routes.contains(name.as_str()),
                    format!("route `{name}`, which no host has"),
                    "routes are named by `id` in [[listener.host.route]]",
                ),
                Mentioned::Tenant => (
                    config.tenants.contains_key(name),
                    format!("tenant `{name}`, which there is not"),
                    "tenants are the sections [tenant.NAME]",
                ),
            };
            if !known {
                self.found.push(Diagnostic {
                    severity: Severity::Warning,
                    file: Arc::from(Path::new(file)),
                    line: *line,
                    column: *column,
                    message: match rule.as_str() {
                        "" => format!("an entity stands for {what}"),
                        rule => format!("rule `{rule}` names {what}"),
                    },
                    help: Some(help.to_owned()),
                    snippet: None,
                });
            }
        }
    }

    /// A finding in a policy, at its place there if it has one.
    fn problem(&mut self, policy: &Policy, problem: &Problem) {
        let severity = match problem.severity {
            ringward_policy::Severity::Error => Severity::Error,
            ringward_policy::Severity::Warning => Severity::Warning,
        };
        if problem.file.is_empty() {
            self.push(severity, &policy.rule_at, problem.message.clone(), problem.help.clone());
            return;
        }
        self.found.push(Diagnostic {
            severity,
            file: Arc::from(Path::new(&problem.file)),
            line: problem.line,
            column: problem.column,
            message: problem.message.clone(),
            help: problem.help.clone(),
            snippet: None,
        });
    }
}

/// Why decisions of a policy are not cached, on one line.
pub(crate) struct Reason<'p>(pub(crate) &'p Problem);

impl fmt::Display for Reason<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Problem { file, line, column, message, .. } = self.0;
        match file.as_str() {
            "" => f.write_str(message),
            file => write!(f, "{message} ({file}:{line}:{column})"),
        }
    }
}
