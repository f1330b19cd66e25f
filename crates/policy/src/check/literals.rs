//! Patterns that stand in the policy: whether they are any is known before a request comes.

use crate::ast::{Expr, Visit, place, walk_expr};
use crate::builtins::{CallError, glob, regex, x509};
use crate::check::rules::{Callee, Rules};
use crate::problem::Problem;

/// Reports globs and regular expressions that every evaluation would fail at.
pub(crate) fn check(rules: &Rules<'_>, problems: &mut Vec<Problem>) {
    let mut parses_certificates = false;
    for definition in &rules.definitions {
        let mut literals = Literals { rules, module: definition.module, parses_certificates, problems };
        literals.rule(definition.rule);
        parses_certificates = literals.parses_certificates;
    }
    if parses_certificates {
        for definition in &rules.definitions {
            Omitted { problems }.rule(definition.rule);
        }
    }
}

/// Finds names of fields that parsed certificates have in OPA only: a negation over one would hold.
struct Omitted<'p> {
    problems: &'p mut Vec<Problem>,
}

impl Omitted<'_> {
    fn name(&mut self, expr: &Expr, name: &str) {
        if x509::OMITTED.contains(&name) {
            let message = format!("field `{name}` of a parsed certificate is not available");
            self.problems.push(Problem::error(&place(expr.span()), message).help("compare another field"));
        }
    }
}

impl Visit for Omitted<'_> {
    fn expr(&mut self, expr: &Expr) {
        match expr {
            Expr::RefDot { field, .. } => self.name(expr, field.1.as_string().map_or("", AsRef::as_ref)),
            expr => self.name(expr, literal(expr).unwrap_or("")),
        }
        walk_expr(self, expr);
    }
}

struct Literals<'a, 'p> {
    rules: &'a Rules<'a>,
    module: usize,
    parses_certificates: bool,
    problems: &'p mut Vec<Problem>,
}

impl Visit for Literals<'_, '_> {
    fn expr(&mut self, expr: &Expr) {
        if let Expr::Call { fcn, params, .. } = expr
            && let Callee::Builtin(builtin) = self.rules.callee(self.module, fcn)
        {
            self.parses_certificates |= builtin.name.starts_with("crypto.x509.");
            let pattern = |index: usize| params.get(index).and_then(|param| Some((param, literal(param)?)));
            let checked = match builtin.name {
                "glob.match" => pattern(0)
                    .zip(params.get(1).and_then(|param| delimiters(param)))
                    .map(|((param, pattern), delimiters)| (param, glob::check(pattern, &delimiters))),
                "regex.replace" => pattern(1).map(|(param, pattern)| (param, regex::check(pattern))),
                "regex.find_all_string_submatch_n" | "regex.find_n" | "regex.match" | "regex.split" => {
                    pattern(0).map(|(param, pattern)| (param, regex::check(pattern)))
                }
                _ => None,
            };
            if let Some((param, Err(CallError(message)))) = checked {
                let help = "every request that reaches it would be denied; `DIFFERENCES.md` says what differs from OPA";
                self.problems.push(Problem::error(&place(param.span()), message).help(help));
            }
        }
        walk_expr(self, expr);
    }
}

/// The text of a string that is written out.
pub(crate) fn literal(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::String { value, .. } | Expr::RawString { value, .. } => {
            value.as_string().ok().map(AsRef::as_ref)
        }
        _ => None,
    }
}

/// The delimiters of a glob if they are literals, in the form that the builtin keeps them.
fn delimiters(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Null { .. } => Some(String::new()),
        Expr::Array { items, .. } if items.is_empty() => Some(".".to_owned()),
        Expr::Array { items, .. } => items.iter().map(|item| literal(item)).collect(),
        _ => None,
    }
}
