//! The matcher: tables of who may ask for what, in TOML. [`raw`] is the reference of their format.
//!
//! Hides how a table is searched. Decides in about the time that the decision cache would need to make a key, so its decisions
//! are not cached. A request is allowed only if a rule says so and no rule says otherwise.

mod index;
mod overlap;
mod raw;
mod read;
mod rule;
mod trial;

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::cache::Projection;
use crate::decision::{Decision, DecisionError};
use crate::engine::{CompiledPolicy, PolicyWorker, Reply};
use crate::input::facts::Facts;
use crate::input::subject::Subject;
use crate::input::view::RequestView;
use crate::matcher::index::Index;
use crate::matcher::raw::Effect;
use crate::matcher::read::Tables;
use crate::matcher::rule::{Claim, Conditions, Rule};
use crate::matcher::trial::Trial;
use crate::problem::{Mention, Mentioned, Place, PolicyErrors, Problem, Report, Severity, TestReport};
use crate::set::PolicySet;

/// Compiles tables.
pub(crate) fn compile(set: &PolicySet) -> Result<Arc<dyn CompiledPolicy>, PolicyErrors> {
    let (matcher, _) = prepare(set).map_err(PolicyErrors::new)?;
    Ok(Arc::new(MatcherPolicy {
        matcher: Arc::new(matcher),
        digest: *set.digest(),
        uncacheable: [uncacheable()],
    }))
}

/// Compiles tables, looks for rules without effect, and runs their tests.
pub(crate) fn check(set: &PolicySet) -> Result<Report, PolicyErrors> {
    let (matcher, trials) = prepare(set).map_err(PolicyErrors::new)?;
    let matcher = Arc::new(matcher);
    let mut problems = Vec::new();
    overlap::warn(&matcher.rules, &mut problems);
    let tests = TestReport { tests: trials.iter().map(|trial| trial.run(&matcher)).collect() };
    problems.extend(tests.failed().map(trial::problem));
    if problems.iter().any(|problem| problem.severity == Severity::Error) {
        return Err(PolicyErrors::new(problems));
    }
    problems.sort();
    Ok(Report {
        warnings: problems,
        packages: Vec::new(),
        reads: reads(&matcher.rules),
        impure: Vec::new(),
        uncacheable: vec![uncacheable()],
        mentions: mentions(&matcher.rules),
        tests,
    })
}

fn prepare(set: &PolicySet) -> Result<(Matcher, Vec<Trial>), Vec<Problem>> {
    let mut tables = Tables::default();
    for source in set.sources() {
        let at = Place::file(&source.path);
        if !source.path.ends_with(".toml") {
            let problem =
                Problem::error(&at, "unknown kind of file").help("a policy of the matcher holds *.toml");
            tables.problems.push(problem);
        } else if source.bytes.len() > TABLE_BYTES_MAX {
            let message = format!("file has {} bytes, more than {TABLE_BYTES_MAX}", source.bytes.len());
            tables.problems.push(Problem::error(&at, message).help("split the policy by host or route"));
        } else {
            tables.read(source);
        }
    }
    let Tables { rules, tests, mut problems, .. } = tables;
    if rules.is_empty() && problems.is_empty() {
        let file = set.sources().first().map_or("", |source| &source.path);
        let help = "write [[rule]] with name, effect = \"allow\" and conditions";
        problems.push(
            Problem::error(&Place::file(file), "there is no rule, so nothing would be allowed").help(help),
        );
    }
    if rules.len() > RULES_MAX {
        let message = format!("policy has {} rules, more than {RULES_MAX}", rules.len());
        problems.push(
            Problem::error(&rules[RULES_MAX].at, message).help("name several clients or paths in one rule"),
        );
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    let index = Index::of(&rules);
    if index.is_too_large() {
        let message =
            "the rules name too many clients for too many paths, so the table would not fit into memory";
        return Err(vec![
            Problem::error(&rules[0].at, message)
                .help("name tenants or a SPIFFE path instead of each client"),
        ]);
    }
    Ok((Matcher { rules, index }, tests))
}

/// Tables ready to be searched.
#[derive(Debug)]
struct Matcher {
    rules: Vec<Rule>,
    index: Index,
}

impl Matcher {
    /// The rule that decides: the first that denies, else the first that allows. `None`: nothing allows the request.
    fn find(&self, facts: &Facts, request: &RequestView<'_>) -> Option<&Rule> {
        self.number(facts, request).map(|number| &self.rules[number as usize])
    }

    fn number(&self, facts: &Facts, request: &RequestView<'_>) -> Option<u32> {
        let (mut allow, mut deny) = (None, None);
        self.index.candidates(facts, request, &mut |number| {
            let rule = &self.rules[number as usize];
            let first = match rule.effect {
                Effect::Allow => &mut allow,
                Effect::Deny => &mut deny,
            };
            if first.is_none_or(|first| number < first) && rule.matches_beside_path(facts, request) {
                *first = Some(number);
            }
        });
        deny.or(allow)
    }
}

/// Compiled tables.
struct MatcherPolicy {
    matcher: Arc<Matcher>,
    digest: [u8; 32],
    uncacheable: [Problem; 1],
}

impl CompiledPolicy for MatcherPolicy {
    fn digest(&self) -> &[u8; 32] {
        &self.digest
    }

    fn projection(&self) -> Result<&Arc<Projection>, &[Problem]> {
        Err(&self.uncacheable)
    }

    fn worker(&self) -> Box<dyn PolicyWorker> {
        Box::new(MatcherWorker {
            matcher: Arc::clone(&self.matcher),
            decisions: (0..self.matcher.rules.len()).map(|_| None).collect(),
            nothing: Decision { reason: Some("no rule allows the request".into()), ..Decision::default() },
        })
    }
}

/// One worker's matcher.
struct MatcherWorker {
    matcher: Arc<Matcher>,
    /// By number of the rule, made when it first decides: texts of its own, whose counters no other worker touches.
    decisions: Box<[Option<Box<Decision>>]>,
    /// The decision if no rule matches.
    nothing: Decision,
}

impl PolicyWorker for MatcherWorker {
    fn ask(&mut self, subject: &Subject, request: &RequestView<'_>) -> Result<Reply, DecisionError> {
        let Some(number) = self.matcher.number(&subject.facts, request) else {
            return Ok(Reply::Decided(self.nothing.clone()));
        };
        let rule = &self.matcher.rules[number as usize];
        let decision = self.decisions[number as usize].get_or_insert_with(|| Box::new(rule.decision()));
        Ok(Reply::Decided(Decision::clone(decision)))
    }
}

impl Rule {
    fn decision(&self) -> Decision {
        Decision {
            allowed: self.effect == Effect::Allow,
            status: self.status,
            rule: Some(self.name.as_ref().into()),
            reason: self.reason.as_deref().map(Into::into),
            ..Decision::default()
        }
    }
}

impl Effect {
    fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
        }
    }
}

/// What of the input the rules look at, by the names that it has in other policies.
fn reads(rules: &[Rule]) -> Vec<String> {
    let mut reads = BTreeSet::new();
    for Rule { conditions, .. } in rules {
        let Conditions { verified, client, methods, paths, hosts, routes, headers } = conditions;
        reads.extend(client.iter().map(|condition| condition.claim.input_path().to_owned()));
        reads.extend(headers.iter().map(|(name, _)| format!("request.headers_all.{name}")));
        let others = [
            (verified.is_some(), "client.verified"),
            (!methods.is_empty(), "request.method"),
            (!paths.is_empty(), "request.path"),
            (!hosts.is_empty(), "request.host"),
            (!routes.is_empty(), "route.id"),
        ];
        reads.extend(others.into_iter().filter(|(read, _)| *read).map(|(_, path)| path.to_owned()));
    }
    reads.into_iter().collect()
}

fn mentions(rules: &[Rule]) -> Vec<Mention> {
    let of_rule = |rule: &Rule| {
        let mention = |of: Mentioned, name: &str| Mention {
            of,
            name: name.to_owned(),
            rule: rule.name.to_string(),
            file: rule.at.file.clone(),
            line: rule.at.line,
            column: rule.at.column,
        };
        let Conditions { client, routes, .. } = &rule.conditions;
        let tenants = client.iter().filter(|condition| condition.claim == Claim::Tenant);
        let tenants = tenants.flat_map(|condition| condition.exact.iter());
        let routes = routes.iter().map(|id| mention(Mentioned::Route, id));
        routes.chain(tenants.map(|name| mention(Mentioned::Tenant, name))).collect::<Vec<_>>()
    };
    rules.iter().flat_map(of_rule).collect()
}

fn uncacheable() -> Problem {
    let message = "the matcher decides about as quickly as a decision would be found";
    Problem::warning(&Place::default(), message).help("remove `cache`")
}

/// As the configuration file: some 50,000 rules.
const TABLE_BYTES_MAX: usize = 16 << 20;
/// Each is looked at with all others when it is loaded, to find those without effect.
const RULES_MAX: usize = 20_000;

#[cfg(test)]
mod tests;
