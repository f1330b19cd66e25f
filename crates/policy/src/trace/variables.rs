//! The variables of a condition that follow from the body it stands in: those that its witness has to mention.

use std::collections::BTreeSet;

use crate::ast::{
    AssignOp, Expr, Literal, LiteralStmt, Query, Rule, RuleHead, Visit, walk_expr, walk_query, walk_statement,
};
use crate::check::rules::{Definition, Rules};

/// Names of one statement, apart by whether they stand in a comprehension or an `every`.
#[derive(Default)]
pub(crate) struct Names {
    outer: BTreeSet<String>,
    nested: BTreeSet<String>,
    /// Declared by the statement, for what follows it.
    declared: BTreeSet<String>,
    /// Declared within a comprehension or an `every`.
    declared_nested: BTreeSet<String>,
    depth: usize,
}

impl Names {
    pub(crate) fn of(statement: &LiteralStmt) -> Self {
        let mut names = Self::default();
        names.statement(statement);
        names
    }

    /// What the statement declares.
    pub(crate) fn declared(&self) -> &BTreeSet<String> {
        &self.declared
    }

    /// Whether the name stands in the statement and means something outside of it.
    pub(crate) fn mentions(&self, name: &str) -> bool {
        self.outer.contains(name) || (self.nested.contains(name) && !self.declared_nested.contains(name))
    }

    fn declare(&mut self, pattern: &Expr) {
        match pattern {
            Expr::Var { span, .. } => {
                let declared = if self.depth == 0 { &mut self.declared } else { &mut self.declared_nested };
                declared.insert(span.text().to_owned());
            }
            Expr::Array { items, .. } | Expr::Set { items, .. } => {
                items.iter().for_each(|item| self.declare(item));
            }
            Expr::Object { fields, .. } => fields.iter().for_each(|(_, _, value)| self.declare(value)),
            _ => {}
        }
    }

    fn nested(&mut self, walk: impl FnOnce(&mut Self)) {
        self.depth += 1;
        walk(self);
        self.depth -= 1;
    }
}

impl Visit for Names {
    fn query(&mut self, query: &Query) {
        self.nested(|names| walk_query(names, query));
    }

    fn statement(&mut self, statement: &LiteralStmt) {
        match &statement.literal {
            Literal::SomeVars { vars, .. } => {
                let declared = if self.depth == 0 { &mut self.declared } else { &mut self.declared_nested };
                declared.extend(vars.iter().map(|var| var.text().to_owned()));
            }
            Literal::SomeIn { key, value, .. } => {
                key.iter().for_each(|key| self.declare(key));
                self.declare(value);
            }
            Literal::Every { key, value, .. } => {
                let names = key.iter().chain([value]).map(|var| var.text().to_owned());
                self.declared_nested.extend(names);
            }
            Literal::Expr { .. } | Literal::NotExpr { .. } => {}
        }
        walk_statement(self, statement);
    }

    fn expr(&mut self, expr: &Expr) {
        match expr {
            Expr::Var { span, .. } => {
                let names = if self.depth == 0 { &mut self.outer } else { &mut self.nested };
                names.insert(span.text().to_owned());
            }
            // What is called is no variable.
            Expr::Call { params, .. } => params.iter().for_each(|param| self.expr(param)),
            Expr::ArrayCompr { .. } | Expr::SetCompr { .. } | Expr::ObjectCompr { .. } => {
                self.nested(|names| walk_expr(names, expr));
            }
            Expr::AssignExpr { op: AssignOp::ColEq, lhs, .. } => {
                self.declare(lhs);
                walk_expr(self, expr);
            }
            _ => walk_expr(self, expr),
        }
    }
}

/// The variables that a body has outside of comprehensions.
pub(crate) struct BodyVariables {
    names: BTreeSet<String>,
}

impl BodyVariables {
    pub(crate) fn of(rules: &Rules<'_>, definition: &Definition<'_>, statements: &[Names]) -> Self {
        let mut declared: BTreeSet<&String> = statements.iter().flat_map(|names| &names.declared).collect();
        let arguments = arguments(definition);
        declared.extend(&arguments.outer);
        let package = &rules.modules[definition.module].package;
        let is_variable = |name: &&String| {
            let is_global = || {
                matches!(name.as_str(), "input" | "data")
                    || rules.import(definition.module, name).is_some()
                    || rules.defines(package, name)
            };
            // The wildcard is another variable wherever it stands.
            name.as_str() != "_" && (declared.contains(name) || !is_global())
        };
        let names = statements.iter().flat_map(|names| &names.outer).filter(is_variable);
        Self { names: names.cloned().collect() }
    }

    /// Those that the statement cannot be evaluated without, or that it gives a value.
    pub(crate) fn within<'n>(&'n self, statement: &'n Names) -> impl Iterator<Item = &'n str> {
        self.names.iter().map(String::as_str).filter(|name| statement.mentions(name))
    }
}

fn arguments(definition: &Definition<'_>) -> Names {
    let mut names = Names::default();
    if let Rule::Spec { head: RuleHead::Func { args, .. }, .. } = definition.rule {
        args.iter().for_each(|argument| names.expr(argument));
    }
    names
}
