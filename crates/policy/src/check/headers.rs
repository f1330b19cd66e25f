//! Header fields that no request has: a condition over one never holds, its negation always does.

use crate::ast::{Expr, Reference, Visit, place, walk_expr};
use crate::builtins::header;
use crate::check::lints::input_names;
use crate::check::literals::literal;
use crate::check::rules::{Callee, Rules};
use crate::input::document::is_hidden;
use crate::input::shape::InputShape;
use crate::problem::Problem;

/// Looks for them in all rules.
pub(crate) fn check(rules: &Rules<'_>, shape: InputShape, problems: &mut Vec<Problem>) {
    for definition in &rules.definitions {
        Headers { rules, module: definition.module, shape, problems }.rule(definition.rule);
    }
}

struct Headers<'a, 'p> {
    rules: &'a Rules<'a>,
    module: usize,
    shape: InputShape,
    problems: &'p mut Vec<Problem>,
}

impl Headers<'_, '_> {
    /// If `expr` leads into the fields of a request: the name of the field that it asks for, or `None` for the whole map.
    fn asked(&self, expr: &Expr) -> Option<Option<String>> {
        let (_, names) = input_names(self.rules, self.module, expr)?;
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let lists = match self.shape {
            InputShape::Native => names.strip_prefix(&["request", "headers_all"]),
            InputShape::EnvoyV3 | InputShape::Kong => None,
        };
        let rest = names.strip_prefix(self.shape.headers()).or(lists)?;
        Some(rest.first().map(|name| (*name).to_owned()))
    }

    fn name(&mut self, at: &Expr, name: &str) {
        let lower = name.to_ascii_lowercase();
        let (why, help) = if self.shape == InputShape::EnvoyV3 && lower == "host" {
            ("Envoy has it apart", "`input.attributes.request.http.host` says the host".to_owned())
        } else if is_hidden(&lower) {
            ("clients cannot say who they are by it", "`input.client` says who the client is".to_owned())
        } else if lower != name {
            ("names are in lower case", format!("write \"{lower}\""))
        } else {
            return;
        };
        let message = format!("header `{name}` is never there, since {why}");
        self.problems.push(Problem::error(&place(at.span()), message).help(help));
    }
}

impl Visit for Headers<'_, '_> {
    fn expr(&mut self, expr: &Expr) {
        match expr {
            Expr::Var { .. } | Expr::RefDot { .. } | Expr::RefBrack { .. } => {
                if let Some(Some(name)) = self.asked(expr) {
                    self.name(expr, &name);
                }
                return match Reference::of(expr) {
                    Some(reference) => reference.indices.iter().for_each(|index| self.expr(index)),
                    None => walk_expr(self, expr),
                };
            }
            Expr::Call { fcn, params, .. } => {
                let callee = self.rules.callee(self.module, fcn);
                match (callee, params.as_slice()) {
                    (Callee::Builtin(builtin), [map, name, ..])
                        if builtin.name == "object.get" && self.asked(map) == Some(None) =>
                    {
                        literal(name).into_iter().for_each(|text| self.name(name, text));
                    }
                    // It takes names in any case.
                    (Callee::Builtin(builtin), [name, ..]) if builtin.name == header::NAME => {
                        let text = literal(name).map(str::to_ascii_lowercase);
                        text.into_iter().for_each(|text| self.name(name, &text));
                    }
                    _ => {}
                }
            }
            _ => {}
        }
        walk_expr(self, expr);
    }
}
