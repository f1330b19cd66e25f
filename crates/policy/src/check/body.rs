//! Negations over the JSON of a request's body.
//!
//! Most requests have none: another content type, a content coding or a few more blanks than may be read take it away. A
//! negation over it holds for all of these, and so does what counts the results of a comprehension. So a client chooses whether
//! they hold, unless another condition of the rule needs the JSON to be there. A rule that looks at it passes that on to those
//! who ask for the rule.

use std::collections::BTreeSet;

use crate::ast::{Expr, Literal, LiteralStmt, Reference, Visit, place, walk_expr, walk_statement};
use crate::check::lints::input_names;
use crate::check::rules::{Path, Rules};
use crate::input::shape::InputShape;
use crate::problem::{Place, Problem};

/// Reports rules that look at it in negations and comprehensions only.
pub(crate) fn check(rules: &Rules<'_>, shape: InputShape, problems: &mut Vec<Problem>) {
    let lookers = lookers(rules, shape);
    if lookers.is_empty() {
        return;
    }
    for definition in &rules.definitions {
        let mut looks = Looks::new(rules, definition.module, shape, &lookers);
        looks.rule(definition.rule);
        if let (Some(at), false) = (looks.negated, looks.is_needed) {
            let message = "negation holds also when the body is not JSON, or not all of it was read";
            let path = shape.json().first().map_or_else(String::new, |path| path.join("."));
            let help = format!("add a condition that needs the JSON, such as `is_object(input.{path})`");
            problems.push(Problem::warning(&at, message).help(help));
        }
    }
}

/// The rules that look at it, themselves or by another rule.
fn lookers(rules: &Rules<'_>, shape: InputShape) -> BTreeSet<Path> {
    let mut lookers = BTreeSet::new();
    loop {
        let before = lookers.len();
        for definition in &rules.definitions {
            let mut looks = Looks::new(rules, definition.module, shape, &lookers);
            looks.rule(definition.rule);
            if looks.negated.is_some() || looks.is_needed {
                lookers.insert(definition.path.clone());
            }
        }
        if lookers.len() == before {
            return lookers;
        }
    }
}

/// How a rule looks at it.
struct Looks<'a> {
    rules: &'a Rules<'a>,
    module: usize,
    /// Where it is.
    json: &'static [&'static [&'static str]],
    /// Rules that are known to look at it.
    lookers: &'a BTreeSet<Path>,
    /// The negation or comprehension at hand.
    negation: Option<Place>,
    /// The first of these that looks at it.
    negated: Option<Place>,
    /// Something besides them does.
    is_needed: bool,
}

impl<'a> Looks<'a> {
    fn new(rules: &'a Rules<'a>, module: usize, shape: InputShape, lookers: &'a BTreeSet<Path>) -> Self {
        let json = shape.json();
        Self { rules, module, json, lookers, negation: None, negated: None, is_needed: false }
    }

    fn is_look(&self, expr: &Expr) -> bool {
        if let Some((_, names)) = input_names(self.rules, self.module, expr) {
            let is_in = |json: &[&str]| {
                names.len() >= json.len() && names.iter().zip(json).all(|(name, part)| name == part)
            };
            return self.json.iter().any(|json| is_in(json));
        }
        let Some(reference) = Reference::of(expr) else { return false };
        let names = || reference.names.iter().cloned();
        let package = &self.rules.modules[self.module].package;
        let own: Path = package.iter().cloned().chain([reference.root.into()]).chain(names()).collect();
        let full: Path = [reference.root.into()].into_iter().chain(names()).collect();
        let imported = self.rules.import(self.module, reference.root);
        let imported = imported.map(|target| target.iter().cloned().chain(names()).collect::<Path>());
        let is_looker = |path: Path| (1..=path.len()).any(|end| self.lookers.contains(&path[..end]));
        [Some(own), Some(full), imported].into_iter().flatten().any(is_looker)
    }
}

impl Visit for Looks<'_> {
    fn statement(&mut self, statement: &LiteralStmt) {
        let outer = self.negation.clone();
        if let Literal::NotExpr { expr, .. } = &statement.literal {
            self.negation = Some(place(expr.span()));
        }
        walk_statement(self, statement);
        self.negation = outer;
    }

    fn expr(&mut self, expr: &Expr) {
        let outer = self.negation.clone();
        if matches!(expr, Expr::ArrayCompr { .. } | Expr::SetCompr { .. } | Expr::ObjectCompr { .. }) {
            self.negation = outer.clone().or_else(|| Some(place(expr.span())));
        }
        if self.is_look(expr) {
            match &self.negation {
                Some(at) => self.negated = self.negated.take().or_else(|| Some(at.clone())),
                None => self.is_needed = true,
            }
        }
        walk_expr(self, expr);
        self.negation = outer;
    }
}
