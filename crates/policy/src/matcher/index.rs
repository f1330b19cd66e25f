//! Which rules can match a request, found without looking at the others.
//!
//! A tree of path segments leads to the templates that take the path. Behind each template, rules are found by one more thing
//! that they name: a name of the client, a route or a host. So a decision costs as much in a table of thousands of rules as in
//! one of ten, unless thousands are about the same paths and the same clients.

use std::collections::HashMap;

use ringward_config::{HostPattern, PathPattern, Segment};

use crate::input::facts::Facts;
use crate::input::view::RequestView;
use crate::matcher::rule::{Claim, Conditions, Rule, beginnings};

/// The index of a table. Numbers of rules are their places in the table.
#[derive(Debug)]
pub(super) struct Index {
    /// The first is the root.
    nodes: Vec<Node>,
    /// Rules without a template.
    any_path: Bucket,
    entries: usize,
}

/// A place between two segments.
#[derive(Debug, Default)]
struct Node {
    literals: HashMap<Box<str>, usize>,
    /// The child behind `{name}`.
    param: Option<usize>,
    /// Rules with a template that ends here in `{rest...}`.
    rest: Bucket,
    /// Rules with a template that ends here.
    end: Bucket,
}

/// Rules behind one template.
#[derive(Debug, Default)]
struct Bucket {
    /// Rules that name nothing that they could be found by.
    rest: Vec<u32>,
    keyed: Vec<(Key, RulesByValue)>,
}

type RulesByValue = HashMap<Box<str>, Vec<u32>>;

/// What rules are found by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Key {
    Claim(Claim),
    /// The beginning of a SPIFFE ID.
    SpiffeUnder,
    Route,
    Host,
}

impl Index {
    pub(super) fn of(rules: &[Rule]) -> Self {
        let mut index = Self { nodes: vec![Node::default()], any_path: Bucket::default(), entries: 0 };
        for (number, rule) in rules.iter().enumerate() {
            let number = u32::try_from(number).expect("a table has far fewer rules");
            let keys = keys(&rule.conditions);
            index.entries += keys.len().max(1) * rule.conditions.paths.len().max(1);
            if index.entries > ENTRIES_MAX {
                break;
            }
            if rule.conditions.paths.is_empty() {
                index.any_path.add(number, &keys);
            }
            for pattern in &rule.conditions.paths {
                index.bucket(pattern).add(number, &keys);
            }
        }
        index
    }

    /// Whether there was no room for all rules, so that the index must not be used.
    pub(super) fn is_too_large(&self) -> bool {
        self.entries > ENTRIES_MAX
    }

    fn bucket(&mut self, pattern: &PathPattern) -> &mut Bucket {
        let mut at = 0;
        for segment in pattern.segments() {
            let node = &self.nodes[at];
            let child = match segment {
                Segment::Literal(text) => node.literals.get(text).copied(),
                Segment::Param(_) => node.param,
                Segment::Rest(_) => return &mut self.nodes[at].rest,
            };
            at = child.unwrap_or_else(|| self.grow(at, segment));
        }
        &mut self.nodes[at].end
    }

    fn grow(&mut self, at: usize, segment: &Segment) -> usize {
        let child = self.nodes.len();
        self.nodes.push(Node::default());
        match segment {
            Segment::Literal(text) => drop(self.nodes[at].literals.insert(text.clone(), child)),
            Segment::Param(_) | Segment::Rest(_) => self.nodes[at].param = Some(child),
        }
        child
    }

    /// Calls `each` with every rule that can match, as far as path and key tell; with some of them more than once, in no order.
    pub(super) fn candidates(&self, facts: &Facts, request: &RequestView<'_>, each: &mut impl FnMut(u32)) {
        self.any_path.candidates(facts, request, each);
        let at = request.path.starts_with('/').then_some(1);
        if at.is_some() {
            self.descend(0, at, facts, request, each);
        }
    }

    /// From a node on, with `at` the start of the next segment, if there is one. Goes on only where a template does, so depth is
    /// bounded by the longest, 64 segments, and all visits by the number of nodes.
    fn descend(
        &self,
        node: usize,
        at: Option<usize>,
        facts: &Facts,
        request: &RequestView<'_>,
        each: &mut impl FnMut(u32),
    ) {
        let node = &self.nodes[node];
        let Some(start) = at else { return node.end.candidates(facts, request, each) };
        node.rest.candidates(facts, request, each);
        let rest = &request.path[start..];
        let (segment, next) = match rest.find('/') {
            Some(length) => (&rest[..length], Some(start + length + 1)),
            None => (rest, None),
        };
        if let Some(child) = node.literals.get(segment) {
            self.descend(*child, next, facts, request, each);
        }
        if let Some(child) = node.param.filter(|_| !segment.is_empty()) {
            self.descend(child, next, facts, request, each);
        }
    }
}

impl Bucket {
    fn add(&mut self, rule: u32, keys: &[(Key, &str)]) {
        if keys.is_empty() {
            self.rest.push(rule);
        }
        for (key, value) in keys {
            let known = self.keyed.iter().position(|(known, _)| known == key);
            let place = known.unwrap_or_else(|| {
                self.keyed.push((*key, HashMap::new()));
                self.keyed.len() - 1
            });
            self.keyed[place].1.entry((*value).into()).or_default().push(rule);
        }
    }

    fn candidates(&self, facts: &Facts, request: &RequestView<'_>, each: &mut impl FnMut(u32)) {
        self.rest.iter().for_each(|rule| each(*rule));
        for (key, rules) in &self.keyed {
            let mut look_up = |value: &str| {
                rules.get(value).into_iter().flatten().for_each(|rule| each(*rule));
            };
            match key {
                Key::Claim(claim) => claim.values(facts).iter().for_each(look_up),
                Key::SpiffeUnder => beginnings(&facts.spiffe_id).for_each(look_up),
                Key::Route => look_up(request.route.id),
                Key::Host => look_up(request.host),
            }
        }
    }
}

/// The values that a rule is found by: of the condition that tells requests apart best, all that it names.
fn keys(conditions: &Conditions) -> Vec<(Key, &str)> {
    let Conditions { client, routes, hosts, .. } = conditions;
    let client = client.iter().min_by_key(|condition| condition.claim);
    let exact_hosts: Option<Vec<&str>> = hosts.iter().map(exact_name).collect();
    match (client, exact_hosts) {
        // A unit or an organization can be that of every client; routes and hosts are more.
        (Some(condition), _) if condition.claim < Claim::OrganizationalUnit || conditions.is_everywhere() => {
            let exact = condition.exact.iter().map(|value| (Key::Claim(condition.claim), value));
            exact.chain(condition.under.iter().map(|value| (Key::SpiffeUnder, value))).collect()
        }
        _ if !routes.is_empty() => routes.iter().map(|route| (Key::Route, route)).collect(),
        (_, Some(hosts)) if !hosts.is_empty() => hosts.into_iter().map(|host| (Key::Host, host)).collect(),
        (Some(condition), _) => {
            condition.exact.iter().map(|value| (Key::Claim(condition.claim), value)).collect()
        }
        (None, _) => Vec::new(),
    }
}

/// The name as requests have it. Addresses have several spellings, which are only brought together by comparing.
fn exact_name(host: &HostPattern) -> Option<&str> {
    match host {
        HostPattern::Exact(name) if !name.is_ip_address() => Some(name.as_str()),
        HostPattern::Exact(_) | HostPattern::Wildcard(_) => None,
    }
}

impl Conditions {
    /// Whether neither route nor host is named.
    fn is_everywhere(&self) -> bool {
        self.routes.is_empty() && self.hosts.is_empty()
    }
}

/// Rules times what they are found by: some 100 MiB.
const ENTRIES_MAX: usize = 1 << 20;
