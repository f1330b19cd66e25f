//! Every call in every rule is of a known function, with the number of arguments that it takes.

use std::collections::BTreeSet;

use crate::ast::{Expr, Visit, place, walk_expr};
use crate::builtins::catalogue;
use crate::check::rules::{Callee, Rules, dotted};
use crate::problem::Problem;

/// Checks all calls. Returns the called builtins whose result does not follow from the input.
pub(crate) fn check(rules: &Rules<'_>, problems: &mut Vec<Problem>) -> BTreeSet<&'static str> {
    let mut impure = BTreeSet::new();
    for definition in &rules.definitions {
        Calls { rules, module: definition.module, problems, impure: &mut impure }.rule(definition.rule);
    }
    impure
}

struct Calls<'a, 'p> {
    rules: &'a Rules<'a>,
    module: usize,
    problems: &'p mut Vec<Problem>,
    impure: &'p mut BTreeSet<&'static str>,
}

impl Visit for Calls<'_, '_> {
    fn expr(&mut self, expr: &Expr) {
        if let Expr::Call { fcn, params, span, .. } = expr {
            let (name, arity) = match self.rules.callee(self.module, fcn) {
                Callee::Function { path, arity } => (dotted(&path), arity),
                Callee::Builtin(builtin) => {
                    if !builtin.pure {
                        self.impure.insert(builtin.name);
                    }
                    (builtin.name.to_owned(), builtin.arity)
                }
                Callee::Unknown(name) => {
                    self.problems.push(unknown(expr, &name));
                    return params.iter().for_each(|param| self.expr(param));
                }
            };
            // One more argument takes the result: `f(x, y)` may be written for `y = f(x)`.
            if params.len() != arity && params.len() != arity + 1 {
                let message = format!("`{name}` takes {arity} arguments, here are {}", params.len());
                self.problems.push(Problem::error(&place(span), message));
            }
        }
        walk_expr(self, expr);
    }
}

fn unknown(call: &Expr, name: &str) -> Problem {
    let at = place(call.span());
    if let Some(why) = catalogue::refused(name) {
        return Problem::error(&at, format!("function `{name}` is refused")).help(why);
    }
    let known = catalogue::BUILTINS.iter().map(|builtin| builtin.name);
    let problem = Problem::error(&at, format!("unknown function `{name}`"));
    match super::nearest(name, known) {
        Some(near) => problem.help(format!("did you mean `{near}`?")),
        None => problem.help("define it, or import the package that does"),
    }
}
