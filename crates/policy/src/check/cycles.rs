//! No rule or function depends on itself, and no chain of them is too long for the stack.
//!
//! The interpreter evaluates what a rule refers to by recursion. It notices a rule within itself, but not a function,
//! whose recursion overflows the stack and so ends the process with every connection in it. Rego forbids both.
//! A call always counts as an edge. A reference counts unless its name is declared as a local variable anywhere in the
//! rule; what that could miss runs into the interpreter's own check and ends as an error, not as an overflow.

use std::collections::{BTreeMap, BTreeSet};

use crate::ast::{
    AssignOp, Expr, Literal, LiteralStmt, Reference, Rule, RuleHead, Span, Visit, place, walk_expr,
    walk_statement,
};
use crate::check::rules::{Callee, Definition, Kind, Path, Rules, dotted};
use crate::check::shape::Shape;
use crate::problem::Problem;

/// Longest chain of rules and functions that call each other, each counted with the depth of its tree and
/// [`LINK_DEPTH`]. The interpreter took at most 1.4 KiB of stack for one unit (regorus 0.14.1, lightly optimised).
pub(crate) const CHAIN_DEPTH_MAX: usize = 512;

/// What a link of the chain takes beside its expressions.
const LINK_DEPTH: usize = 2;

/// Reports every cycle once and every rule whose chain is too long.
pub(crate) fn check(rules: &Rules<'_>, problems: &mut Vec<Problem>) {
    let graph = Graph::build(rules);
    let mut walk = Walk { graph: &graph, state: vec![State::New; graph.nodes.len()], problems };
    for node in 0..graph.nodes.len() {
        walk.from(node);
    }
}

struct Node<'a> {
    path: Path,
    head: &'a Span,
    depth: usize,
    edges: Vec<usize>,
}

struct Graph<'a> {
    nodes: Vec<Node<'a>>,
}

impl<'a> Graph<'a> {
    fn build(rules: &Rules<'a>) -> Self {
        let mut index: BTreeMap<&Path, usize> = BTreeMap::new();
        let mut nodes: Vec<Node<'a>> = Vec::new();
        for definition in &rules.definitions {
            index.entry(&definition.path).or_insert_with(|| {
                nodes.push(Node {
                    path: definition.path.clone(),
                    head: definition.head,
                    depth: 0,
                    edges: vec![],
                });
                nodes.len() - 1
            });
        }
        for definition in &rules.definitions {
            let from = index[&definition.path];
            let node = &mut nodes[from];
            node.depth = node.depth.max(Shape::of(definition.rule).depth + LINK_DEPTH);
            let edges: BTreeSet<usize> =
                Dependencies::of(rules, definition).iter().map(|path| index[path]).collect();
            node.edges.extend(edges);
        }
        Self { nodes }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    New,
    /// On the current way.
    Open,
    /// Finished: the depth of the longest chain from here.
    Done(usize),
}

struct Walk<'g, 'p> {
    graph: &'g Graph<'g>,
    state: Vec<State>,
    problems: &'p mut Vec<Problem>,
}

impl Walk<'_, '_> {
    /// Depth first without recursion, because the chain may be as long as the policy.
    fn from(&mut self, start: usize) {
        if self.state[start] != State::New {
            return;
        }
        self.state[start] = State::Open;
        // Way from the start: node, its next edge, longest chain among the edges so far.
        let mut way: Vec<(usize, usize, usize)> = vec![(start, 0, 0)];
        while let Some((node, edge, longest)) = way.last_mut() {
            let node = *node;
            if let Some(&next) = self.graph.nodes[node].edges.get(*edge) {
                *edge += 1;
                match self.state[next] {
                    State::New => {
                        self.state[next] = State::Open;
                        way.push((next, 0, 0));
                    }
                    State::Open => self.cycle(&way, next),
                    State::Done(depth) => *longest = (*longest).max(depth),
                }
                continue;
            }
            let depth = *longest + self.graph.nodes[node].depth;
            way.pop();
            self.finish(node, depth);
            if let Some((_, _, longest)) = way.last_mut() {
                *longest = (*longest).max(depth);
            }
        }
    }

    fn finish(&mut self, node: usize, depth: usize) {
        self.state[node] = State::Done(depth);
        let own = self.graph.nodes[node].depth;
        // Only where the limit is crossed, not at everything above it.
        if depth > CHAIN_DEPTH_MAX && depth - own <= CHAIN_DEPTH_MAX {
            let Node { path, head, .. } = &self.graph.nodes[node];
            let message = format!("`{}` depends on a chain of rules too long for the stack", dotted(path));
            self.problems.push(
                Problem::error(&place(head), message).help("flatten the chain, or use a data document"),
            );
        }
    }

    fn cycle(&mut self, way: &[(usize, usize, usize)], back_to: usize) {
        let begin = way.iter().position(|(node, _, _)| *node == back_to).unwrap_or(0);
        let mut cycle: Vec<&Node<'_>> =
            way[begin..].iter().map(|(node, _, _)| &self.graph.nodes[*node]).collect();
        // The same cycle reads the same wherever the walk came upon it.
        let first = (0..cycle.len()).min_by_key(|&node| &cycle[node].path).unwrap_or(0);
        cycle.rotate_left(first);
        let head = cycle[0].head;
        let names: Vec<String> = cycle.iter().chain([&cycle[0]]).map(|node| dotted(&node.path)).collect();
        let problem = Problem::error(&place(head), format!("recursion: {}", names.join(" -> ")));
        self.problems.push(problem.help("a rule must not depend on itself, not even through others"));
    }
}

/// The paths of the rules that one rule depends on.
pub(crate) struct Dependencies<'a> {
    rules: &'a Rules<'a>,
    module: usize,
    locals: BTreeSet<String>,
    found: BTreeSet<Path>,
}

impl<'a> Dependencies<'a> {
    pub(crate) fn of(rules: &'a Rules<'a>, definition: &Definition<'a>) -> BTreeSet<Path> {
        let locals = Locals::of(definition.rule);
        let mut dependencies = Self { rules, module: definition.module, locals, found: BTreeSet::new() };
        dependencies.rule(definition.rule);
        dependencies.found
    }

    fn refer(&mut self, reference: &Reference<'_>) {
        let names = reference.names.iter().cloned();
        let root = reference.root;
        let package = &self.rules.modules[self.module].package;
        let path: Path = if root == "data" {
            [root.into()].into_iter().chain(names).collect()
        } else if root == "input" || self.locals.contains(root) {
            return;
        } else if self.rules.defines(package, root) {
            package.iter().cloned().chain([root.into()]).chain(names).collect()
        } else if let Some(target) = self.rules.import(self.module, root) {
            target.iter().cloned().chain(names).collect()
        } else {
            return;
        };
        self.depend(&path);
    }

    /// Everything that has to be evaluated for the value at `path`: what is below it, and what it is a part of.
    fn depend(&mut self, path: &Path) {
        let is_value =
            |path: &&Path| self.rules.at(path).any(|rule| !matches!(rule.kind, Kind::Function { .. }));
        let below = self.rules.below(path).filter(|found| is_value(found) || *found == path);
        let mut found: BTreeSet<Path> = below.cloned().collect();
        for end in 1..path.len() {
            let above = path[..end].to_vec();
            if self.rules.at(&above).next().is_some() && is_value(&&above) {
                found.insert(above);
            }
        }
        self.found.extend(found);
    }
}

impl Visit for Dependencies<'_> {
    fn expr(&mut self, expr: &Expr) {
        match expr {
            Expr::Call { fcn, params, .. } => {
                if let Callee::Function { path, .. } = self.rules.callee(self.module, fcn) {
                    self.found.insert(path);
                }
                params.iter().for_each(|param| self.expr(param));
            }
            Expr::Var { .. } | Expr::RefDot { .. } | Expr::RefBrack { .. } => match Reference::of(expr) {
                Some(reference) => {
                    self.refer(&reference);
                    reference.indices.iter().for_each(|index| self.expr(index));
                }
                None => walk_expr(self, expr),
            },
            _ => walk_expr(self, expr),
        }
    }
}

/// Names that a rule declares for itself.
#[derive(Default)]
pub(crate) struct Locals {
    names: BTreeSet<String>,
}

impl Locals {
    pub(crate) fn of(rule: &Rule) -> BTreeSet<String> {
        let mut locals = Self::default();
        if let Rule::Spec { head: RuleHead::Func { args, .. }, .. } | Rule::Default { args, .. } = rule {
            args.iter().for_each(|arg| locals.pattern(arg));
        }
        locals.rule(rule);
        locals.names
    }

    /// Declares the variables of a pattern such as `[x, {"key": y}]`.
    fn pattern(&mut self, pattern: &Expr) {
        match pattern {
            Expr::Var { span, .. } => {
                self.names.insert(span.text().to_owned());
            }
            Expr::Array { items, .. } | Expr::Set { items, .. } => {
                items.iter().for_each(|item| self.pattern(item))
            }
            Expr::Object { fields, .. } => fields.iter().for_each(|(_, _, value)| self.pattern(value)),
            _ => {}
        }
    }
}

impl Visit for Locals {
    fn statement(&mut self, statement: &LiteralStmt) {
        match &statement.literal {
            Literal::SomeVars { vars, .. } => self.names.extend(vars.iter().map(|var| var.text().to_owned())),
            Literal::SomeIn { key, value, .. } => {
                key.iter().for_each(|key| self.pattern(key));
                self.pattern(value);
            }
            Literal::Every { key, value, .. } => {
                self.names.extend(key.iter().chain([value]).map(|var| var.text().to_owned()));
            }
            Literal::Expr { .. } | Literal::NotExpr { .. } => {}
        }
        walk_statement(self, statement);
    }

    fn expr(&mut self, expr: &Expr) {
        if let Expr::AssignExpr { op: AssignOp::ColEq, lhs, .. } = expr {
            self.pattern(lhs);
        }
        walk_expr(self, expr);
    }
}
