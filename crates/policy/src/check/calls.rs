//! Every call in every rule is of a known function, with the number of arguments that it takes.

use std::collections::BTreeMap;

use crate::ast::{Expr, Visit, place, walk_expr};
use crate::builtins::catalogue;
use crate::check::rules::{Callee, Rules, dotted};
use crate::problem::{Place, Problem};
use crate::set::SourceKind;

/// The called builtins whose result does not follow from the input, each with the first place that calls it.
pub(crate) type Impure = BTreeMap<&'static str, Place>;

/// Checks all calls.
pub(crate) fn check(rules: &Rules<'_>, problems: &mut Vec<Problem>) -> Impure {
    let mut impure = Impure::new();
    for definition in &rules.definitions {
        Calls { rules, module: definition.module, problems, impure: &mut impure }.rule(definition.rule);
    }
    impure
}

struct Calls<'a, 'p> {
    rules: &'a Rules<'a>,
    module: usize,
    problems: &'p mut Vec<Problem>,
    impure: &'p mut Impure,
}

impl Visit for Calls<'_, '_> {
    fn expr(&mut self, expr: &Expr) {
        if let Expr::Call { fcn, params, span, .. } = expr {
            let (name, arity) = match self.rules.callee(self.module, fcn) {
                Callee::Function { path, arity } => (dotted(&path), arity),
                Callee::Builtin(builtin) => {
                    if !builtin.pure {
                        self.impure.entry(builtin.name).or_insert_with(|| place(span));
                    }
                    (builtin.name.to_owned(), builtin.arity)
                }
                // It takes any number of arguments, and its lines are shown with the outcome of the test.
                Callee::Unknown(name) if name == "print" && self.is_test() => {
                    return params.iter().for_each(|param| self.expr(param));
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

impl Calls<'_, '_> {
    fn is_test(&self) -> bool {
        let module = self.rules.modules[self.module].module;
        SourceKind::of(module.package.span.source.file()) == Some(SourceKind::PolicyTest)
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
