//! Negations over the JSON of a request's body.
//!
//! Most requests have none: another content type, a content coding or a few more blanks than may be read take it away. A
//! negation over it holds for all of these, so a client chooses whether it holds, unless another condition of the rule needs
//! the JSON to be there.

use crate::ast::{Expr, Literal, LiteralStmt, Visit, place, walk_expr, walk_statement};
use crate::check::lints::input_names;
use crate::check::rules::Rules;
use crate::input::shape::InputShape;
use crate::problem::{Place, Problem};

/// Reports rules that look at it in negations only.
pub(crate) fn check(rules: &Rules<'_>, shape: InputShape, problems: &mut Vec<Problem>) {
    for definition in &rules.definitions {
        let module = definition.module;
        let mut looks =
            Looks { rules, module, json: shape.json(), negation: None, negated: None, is_needed: false };
        looks.rule(definition.rule);
        if let (Some(at), false) = (looks.negated, looks.is_needed) {
            let message = "negation holds also when the body is not JSON, or not all of it was read";
            let path = shape.json().first().map_or_else(String::new, |path| path.join("."));
            let help = format!("add a condition that needs the JSON, such as `is_object(input.{path})`");
            problems.push(Problem::warning(&at, message).help(help));
        }
    }
}

/// How a rule looks at it.
struct Looks<'a> {
    rules: &'a Rules<'a>,
    module: usize,
    /// Where it is.
    json: &'static [&'static [&'static str]],
    /// The negation at hand.
    negation: Option<Place>,
    /// The first negation that looks at it.
    negated: Option<Place>,
    /// Something besides negations does.
    is_needed: bool,
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
        let names = input_names(self.rules, self.module, expr).map(|(_, names)| names);
        let is_json = |names: Vec<String>| {
            self.json
                .iter()
                .any(|json| names.len() >= json.len() && names.iter().zip(*json).all(|(a, b)| a == b))
        };
        if names.is_some_and(is_json) {
            match &self.negation {
                Some(at) => self.negated = self.negated.take().or_else(|| Some(at.clone())),
                None => self.is_needed = true,
            }
        }
        walk_expr(self, expr);
    }
}
