//! Mistakes of authors that the interpreter does not notice and that can let someone in.

use crate::ast::{Expr, Reference, Visit, place, walk_expr};
use crate::check::rules::Rules;
use crate::input::schema::{self, Lookup};
use crate::input::shape::InputShape;
use crate::problem::Problem;

/// Looks for them in all modules.
pub(crate) fn check(rules: &Rules<'_>, shape: InputShape, problems: &mut Vec<Problem>) {
    for (index, names) in rules.modules.iter().enumerate() {
        for import in &names.module.imports {
            if let Expr::Var { span, .. } = import.refr.as_ref()
                && span.text() == "input"
                && import.r#as.is_none()
            {
                problems
                    .push(Problem::error(&place(span), "import of `input` is redundant").help("remove it"));
            }
            input_path(rules, index, shape, &import.refr, problems);
        }
    }
    for definition in &rules.definitions {
        Lints { rules, module: definition.module, shape, problems }.rule(definition.rule);
    }
}

struct Lints<'a, 'p> {
    rules: &'a Rules<'a>,
    module: usize,
    shape: InputShape,
    problems: &'p mut Vec<Problem>,
}

impl Visit for Lints<'_, '_> {
    fn expr(&mut self, expr: &Expr) {
        match expr {
            Expr::Var { .. } | Expr::RefDot { .. } | Expr::RefBrack { .. } => {
                input_path(self.rules, self.module, self.shape, expr, self.problems);
                match Reference::of(expr) {
                    Some(reference) => reference.indices.iter().for_each(|index| self.expr(index)),
                    None => walk_expr(self, expr),
                }
            }
            Expr::Call { params, .. } => params.iter().for_each(|param| self.expr(param)),
            _ => walk_expr(self, expr),
        }
    }
}

/// The reference and its names behind `input`, if it is one into the input.
pub(crate) fn input_names<'e>(
    rules: &Rules<'_>,
    module: usize,
    expr: &'e Expr,
) -> Option<(Reference<'e>, Vec<String>)> {
    let reference = Reference::of(expr)?;
    let mut names: Vec<String> = Vec::new();
    if reference.root != "input" {
        let target = rules.import(module, reference.root)?;
        if target.first()?.as_ref() != "input" {
            return None;
        }
        names.extend(target[1..].iter().map(ToString::to_string));
    }
    names.extend(reference.names.iter().map(ToString::to_string));
    // An index that is computed still selects an entry.
    if !reference.complete {
        names.push("*".to_owned());
    }
    Some((reference, names))
}

/// A name that the input never has is undefined for every request: its rule never holds, its negation always does.
fn input_path(rules: &Rules<'_>, module: usize, shape: InputShape, expr: &Expr, problems: &mut Vec<Problem>) {
    let Some((_, names)) = input_names(rules, module, expr) else { return };
    if let Lookup::Unknown { parent, name } = schema::look_up(shape, &names) {
        let path = if parent.is_empty() { name.clone() } else { format!("{parent}.{name}") };
        let whose =
            if shape == InputShape::Native { "the input".to_owned() } else { format!("the input `{shape}`") };
        let problem = Problem::error(&place(expr.span()), format!("`input.{path}` is not part of {whose}"));
        problems.push(match super::nearest(&name, schema::names_below(shape, &parent)) {
            _ if let Some(elsewhere) = shape.elsewhere(&path) => problem.help(elsewhere),
            Some(near) => problem.help(format!("did you mean `{near}`?")),
            None => {
                let known: Vec<&str> = schema::names_below(shape, &parent).collect();
                if known.is_empty() {
                    problem.help(format!("`input.{parent}` has no fields"))
                } else {
                    problem.help(format!("known are: {}", known.join(", ")))
                }
            }
        });
    }
}
