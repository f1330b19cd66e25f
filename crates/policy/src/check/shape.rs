//! How large and how deep one rule may be.
//!
//! The scheduler and the interpreter recurse along the tree and count in small integers, without looking.

use crate::ast::{Expr, LiteralStmt, Query, Rule, RuleHead, Visit, walk_expr, walk_query, walk_statement};
use crate::check::rules::Rules;
use crate::problem::Problem;

/// Deepest tree of one rule: expressions within expressions and queries.
pub(crate) const DEPTH_MAX: usize = 80;

/// Most statements in one query. The interpreter numbers them with 16 bits and orders them in quadratic time.
const STATEMENTS_MAX: usize = 500;

/// Most parameters of one function. The interpreter counts them with 8 bits.
const PARAMETERS_MAX: usize = 32;

/// Checks the shape of every rule.
pub(crate) fn check(rules: &Rules<'_>, problems: &mut Vec<Problem>) {
    for definition in &rules.definitions {
        let shape = Shape::of(definition.rule);
        if shape.depth > DEPTH_MAX {
            let message = format!("rule is {} expressions deep, more than {DEPTH_MAX}", shape.depth);
            problems.push(Problem::error(&definition.place(), message).help("split it into several rules"));
        }
        if shape.statements > STATEMENTS_MAX {
            let message = format!("body has {} statements, more than {STATEMENTS_MAX}", shape.statements);
            problems.push(Problem::error(&definition.place(), message).help("split it into several rules"));
        }
        if shape.parameters > PARAMETERS_MAX {
            let message = format!("function has {} parameters, more than {PARAMETERS_MAX}", shape.parameters);
            problems.push(Problem::error(&definition.place(), message).help("pass an object"));
        }
    }
}

/// Measures of one rule.
#[derive(Default)]
pub(crate) struct Shape {
    /// Length of the longest way into the tree.
    pub(crate) depth: usize,
    /// Statements of the longest query.
    statements: usize,
    parameters: usize,
    current: usize,
}

impl Shape {
    pub(crate) fn of(rule: &Rule) -> Self {
        let mut shape = Self::default();
        shape.rule(rule);
        shape.parameters = match rule {
            Rule::Spec { head: RuleHead::Func { args, .. }, .. } | Rule::Default { args, .. } => args.len(),
            Rule::Spec { .. } => 0,
        };
        shape
    }

    fn down(&mut self, walk: impl FnOnce(&mut Self)) {
        self.current += 1;
        self.depth = self.depth.max(self.current);
        walk(self);
        self.current -= 1;
    }
}

impl Visit for Shape {
    fn query(&mut self, query: &Query) {
        self.statements = self.statements.max(query.stmts.len());
        walk_query(self, query);
    }

    fn statement(&mut self, statement: &LiteralStmt) {
        self.down(|shape| walk_statement(shape, statement));
    }

    fn expr(&mut self, expr: &Expr) {
        self.down(|shape| walk_expr(shape, expr));
    }
}
