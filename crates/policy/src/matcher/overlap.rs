//! Rules that have no effect because of others, and rules that probably mean more or less than they say. Warnings only.

use ringward_config::{HostPattern, PathPattern, Segment};

use crate::matcher::raw::Effect;
use crate::matcher::rule::{ClientCondition, Conditions, Rule, Words, beginnings};
use crate::problem::Problem;

pub(super) fn warn(rules: &[Rule], problems: &mut Vec<Problem>) {
    for rule in rules {
        if rule.effect == Effect::Allow && rule.conditions == Conditions::default() {
            let message = format!("rule `{}` allows every request of every client", rule.name);
            problems.push(Problem::warning(&rule.at, message).help("give it conditions"));
        }
        if rule.effect == Effect::Deny {
            warn_of_parents(rule, problems);
        }
    }
    let pairs = rules.len().saturating_mul(rules.len());
    if pairs <= PAIRS_MAX {
        warn_of_others(rules, problems);
    }
}

/// A rule that another one leaves nothing to: one that denies as well and comes first, or that denies what this one allows.
fn warn_of_others(rules: &[Rule], problems: &mut Vec<Problem>) {
    for (number, rule) in rules.iter().enumerate() {
        let takes_all = |(other_number, other): &(usize, &Rule)| {
            let decides = match (other.effect, rule.effect) {
                (Effect::Deny, Effect::Allow) => true,
                (Effect::Allow, Effect::Deny) => false,
                (Effect::Allow, Effect::Allow) | (Effect::Deny, Effect::Deny) => *other_number < number,
            };
            decides && other.conditions.cover(&rule.conditions)
        };
        let Some((_, other)) = rules.iter().enumerate().find(takes_all) else { continue };
        let what = if other.effect == Effect::Deny { "denies" } else { "allows" };
        let message = format!(
            "rule `{}` never decides: rule `{}` ({}:{}) {what} all that it matches",
            rule.name, other.name, other.at.file, other.at.line
        );
        problems.push(
            Problem::warning(&rule.at, message).help("remove one of them, or give it other conditions"),
        );
    }
}

/// `/admin/{rest...}` takes what is below `/admin`, and not `/admin`: easily forgotten by who denies.
fn warn_of_parents(rule: &Rule, problems: &mut Vec<Problem>) {
    for pattern in &rule.conditions.paths {
        let [before @ .., Segment::Rest(_)] = pattern.segments() else { continue };
        let parent_is_named = rule.conditions.paths.iter().any(|other| covers(other.segments(), before));
        if !before.is_empty() && !parent_is_named {
            let text = pattern.as_str();
            let parent = text.rfind("/{").map_or(text, |end| &text[..end]);
            let message =
                format!("rule `{}` denies what is below {parent}, and not {parent} itself", rule.name);
            problems.push(Problem::warning(&rule.at, message).help(format!("add \"{parent}\" to `path`")));
        }
    }
}

impl Conditions {
    /// Whether every request that `other` matches matches these, too, as far as this can be seen easily. If the
    /// effects differ, these are those of a rule that denies: it matches for any of several values, where one that allows asks
    /// for all.
    fn cover(&self, other: &Self) -> bool {
        let words = |all: &Words, some: &Words| {
            all.is_empty() || !some.is_empty() && some.iter().all(|word| all.contains(word))
        };
        let client = |condition: &ClientCondition| {
            other.client.iter().any(|other| condition.claim == other.claim && condition.covers(other))
        };
        let paths =
            |pattern: &PathPattern| self.paths.iter().any(|all| covers(all.segments(), pattern.segments()));
        let hosts = |host: &HostPattern| {
            self.hosts.iter().any(|all| {
                all == host || matches!(host, HostPattern::Exact(name) if all.matches(name.as_str()))
            })
        };
        let headers = |(name, all): &(Box<str>, Words)| {
            other.headers.iter().any(|(other, some)| name == other && words(all, some))
        };
        (self.verified.is_none() || self.verified == other.verified)
            && self.client.iter().all(client)
            && words(&self.methods, &other.methods)
            && words(&self.routes, &other.routes)
            && (self.paths.is_empty() || !other.paths.is_empty() && other.paths.iter().all(paths))
            && (self.hosts.is_empty() || !other.hosts.is_empty() && other.hosts.iter().all(hosts))
            && self.headers.iter().all(headers)
    }
}

impl ClientCondition {
    fn covers(&self, other: &Self) -> bool {
        let exact = |value: &str| {
            self.exact.contains(value) || beginnings(value).any(|part| self.under.contains(part))
        };
        let under = |value: &str| beginnings(value).any(|part| self.under.contains(part));
        other.exact.iter().all(exact) && other.under.iter().all(under)
    }
}

/// Whether a template of `all` takes every path that one of `some` takes.
fn covers(all: &[Segment], some: &[Segment]) -> bool {
    match (all, some) {
        ([], []) => true,
        ([Segment::Rest(_)], [_, ..]) => true,
        ([Segment::Literal(a), all @ ..], [Segment::Literal(b), some @ ..]) => a == b && covers(all, some),
        ([Segment::Param(_), all @ ..], [Segment::Literal(b), some @ ..]) => {
            !b.is_empty() && covers(all, some)
        }
        ([Segment::Param(_), all @ ..], [Segment::Param(_), some @ ..]) => covers(all, some),
        _ => false,
    }
}

/// Rules compared with each other: above, this would take seconds.
const PAIRS_MAX: usize = 25_000_000;
