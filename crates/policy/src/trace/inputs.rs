//! The fields of the input that a condition depends on, to show their values beside it.
//!
//! Shown to people, so literal paths are enough; what no decision may miss is for `reads`.

use std::collections::BTreeSet;

use regorus::Rc;

use crate::ast::{Expr, LiteralStmt, Query, Reference, Visit, walk_expr};
use crate::check::rules::{Callee, Path, Rules};
use crate::trace::variables::Names;

/// Paths below `input` that the statement reads: itself, by the functions that it calls, or by the statements of its
/// query that gave its variables their values.
pub(crate) fn of(
    rules: &Rules<'_>,
    module: usize,
    query: &Query,
    statement: &LiteralStmt,
) -> BTreeSet<Vec<String>> {
    let mut inputs = Inputs { rules, module, found: BTreeSet::new(), called: BTreeSet::new() };
    let mut followed: Vec<*const LiteralStmt> = Vec::new();
    let mut next = vec![statement];
    while let Some(statement) = next.pop() {
        followed.push(statement);
        inputs.statement(statement);
        let names = Names::of(statement);
        let gives = |other: &&LiteralStmt| {
            !followed.contains(&std::ptr::from_ref(*other))
                && Names::of(other).declared().iter().any(|name| names.mentions(name))
        };
        next.extend(query.stmts.iter().filter(gives));
    }
    inputs.found
}

struct Inputs<'a> {
    rules: &'a Rules<'a>,
    module: usize,
    found: BTreeSet<Vec<String>>,
    called: BTreeSet<Path>,
}

impl Inputs<'_> {
    fn call(&mut self, function: &Expr) {
        let Callee::Function { path, .. } = self.rules.callee(self.module, function) else { return };
        if !self.called.insert(path.clone()) {
            return;
        }
        let caller = self.module;
        for definition in self.rules.at(&path) {
            self.module = definition.module;
            self.rule(definition.rule);
        }
        self.module = caller;
    }

    fn reference(&mut self, reference: &Reference<'_>) {
        let imported = self.rules.import(self.module, reference.root);
        let root: &[Rc<str>] = match imported {
            Some(target) => target,
            None if reference.root == "input" => &[],
            None => return,
        };
        // An import's path begins with `input` itself.
        let root = match root.split_first() {
            Some((first, rest)) if first.as_ref() == "input" => rest,
            Some(_) => return,
            None => root,
        };
        self.found.insert(root.iter().chain(&reference.names).map(ToString::to_string).collect());
    }
}

impl Visit for Inputs<'_> {
    fn expr(&mut self, expr: &Expr) {
        match expr {
            Expr::Call { fcn, params, .. } => {
                self.call(fcn);
                params.iter().for_each(|param| self.expr(param));
            }
            Expr::Var { .. } | Expr::RefDot { .. } | Expr::RefBrack { .. } => match Reference::of(expr) {
                Some(reference) => {
                    self.reference(&reference);
                    reference.indices.iter().for_each(|index| self.expr(index));
                }
                None => walk_expr(self, expr),
            },
            _ => walk_expr(self, expr),
        }
    }
}
