//! Objects that are patterns.
//!
//! In OPA the pattern `{"role": x}` fits objects with that one field only. The interpreter also lets it fit objects
//! with further fields, so that a body would hold for more inputs than in OPA.

use crate::ast::{
    AssignOp, Expr, Literal, LiteralStmt, Rule, RuleHead, Visit, place, walk_expr, walk_rule, walk_statement,
};
use crate::check::rules::Rules;
use crate::problem::Problem;

/// Reports object patterns in all rules.
pub(crate) fn check(rules: &Rules<'_>, problems: &mut Vec<Problem>) {
    for definition in &rules.definitions {
        Patterns { rules, module: definition.module, problems }.rule(definition.rule);
    }
}

struct Patterns<'a, 'p> {
    rules: &'a Rules<'a>,
    module: usize,
    problems: &'p mut Vec<Problem>,
}

impl Patterns<'_, '_> {
    /// Reports objects in what is a pattern for sure: it declares its variables.
    fn declaring(&mut self, pattern: &Expr) {
        match pattern {
            Expr::Object { .. } => self.report(pattern),
            Expr::Array { items, .. } => items.iter().for_each(|item| self.declaring(item)),
            _ => {}
        }
    }

    /// Reports objects that are a pattern if one of their variables has no value yet.
    fn unifying(&mut self, side: &Expr) {
        match side {
            Expr::Object { .. } if self.has_variable(side) => self.report(side),
            Expr::Array { items, .. } => items.iter().for_each(|item| self.unifying(item)),
            _ => {}
        }
    }

    fn has_variable(&self, expr: &Expr) -> bool {
        match expr {
            Expr::Var { span, .. } => {
                let name = span.text();
                let package = &self.rules.modules[self.module].package;
                !matches!(name, "input" | "data")
                    && !self.rules.defines(package, name)
                    && self.rules.import(self.module, name).is_none()
            }
            Expr::Array { items, .. } => items.iter().any(|item| self.has_variable(item)),
            Expr::Object { fields, .. } => fields.iter().any(|(_, _, value)| self.has_variable(value)),
            _ => false,
        }
    }

    fn report(&mut self, pattern: &Expr) {
        let help = "name the fields: `x := object.role`; to compare with a whole object use `==`";
        let message = "object as a pattern would fit objects with further fields; in OPA it would not";
        self.problems.push(Problem::error(&place(pattern.span()), message).help(help));
    }
}

impl Visit for Patterns<'_, '_> {
    fn rule(&mut self, rule: &Rule) {
        if let Rule::Spec { head: RuleHead::Func { args, .. }, .. } | Rule::Default { args, .. } = rule {
            args.iter().for_each(|argument| self.declaring(argument));
        }
        walk_rule(self, rule);
    }

    fn statement(&mut self, statement: &LiteralStmt) {
        if let Literal::SomeIn { key, value, .. } = &statement.literal {
            key.iter().for_each(|key| self.declaring(key));
            self.declaring(value);
        }
        walk_statement(self, statement);
    }

    fn expr(&mut self, expr: &Expr) {
        match expr {
            Expr::AssignExpr { op: AssignOp::ColEq, lhs, .. } => self.declaring(lhs),
            Expr::AssignExpr { op: AssignOp::Eq, lhs, rhs, .. } => {
                self.unifying(lhs);
                self.unifying(rhs);
            }
            _ => {}
        }
        walk_expr(self, expr);
    }
}
