//! What is sound but slow, or fails for some requests: warnings.

use std::collections::BTreeMap;

use crate::ast::{BoolOp, Expr, Reference, Visit, place, walk_expr};
use crate::builtins::bounded::ELEMENTS_MAX;
use crate::check::rules::{Callee, Definition, Kind, Path, Rules, dotted};
use crate::problem::Problem;

/// Most definitions of one rule that tell requests apart by literals. The interpreter tries every one, at about a
/// microsecond each.
const LITERAL_RULES_MAX: usize = 50;

/// Most parameters of a function that anybody calls without a mistake.
const PARAMETERS_ADVISED: usize = 8;

/// Builtins that compare with a literal.
const COMPARISONS: &[&str] = &["endswith", "glob.match", "regex.match", "startswith"];

/// Builtins whose result is as long as their arguments say.
const RANGES: &[&str] = &["numbers.range", "numbers.range_step"];

/// Looks at all rules.
pub(crate) fn check(rules: &Rules<'_>, problems: &mut Vec<Problem>) {
    let mut literal_rules: BTreeMap<&Path, (usize, &Definition<'_>)> = BTreeMap::new();
    for definition in &rules.definitions {
        let mut advice = Advice { rules, module: definition.module, compares: false, problems };
        advice.rule(definition.rule);
        if advice.compares {
            literal_rules.entry(&definition.path).or_insert((0, definition)).0 += 1;
        }
        if let Kind::Function { arity } = definition.kind
            && arity > PARAMETERS_ADVISED
        {
            let message = format!("function has {arity} parameters, more than {PARAMETERS_ADVISED}");
            problems.push(Problem::warning(&definition.place(), message).help("pass an object"));
        }
    }
    for (path, (count, first)) in literal_rules {
        if count > LITERAL_RULES_MAX {
            let name = dotted(path);
            let message = format!("`{name}` has {count} definitions that compare with literals");
            let help = "each is tried for each request: put what differs into a table in a data document and look it up";
            problems.push(Problem::warning(&first.place(), message).help(help));
        }
    }
}

struct Advice<'a, 'p> {
    rules: &'a Rules<'a>,
    module: usize,
    /// Whether something of the request is compared with a literal.
    compares: bool,
    problems: &'p mut Vec<Problem>,
}

impl Visit for Advice<'_, '_> {
    fn expr(&mut self, expr: &Expr) {
        match expr {
            Expr::BoolExpr { op: BoolOp::Eq, lhs, rhs, .. } => {
                self.compares |= (is_text(lhs) && is_reference(rhs)) || (is_reference(lhs) && is_text(rhs));
            }
            Expr::Membership { value, collection, .. } => {
                self.compares |= is_reference(value)
                    && matches!(collection.as_ref(), Expr::Set { .. } | Expr::Array { .. });
            }
            Expr::Call { fcn, params, .. } => {
                if let Callee::Builtin(builtin) = self.rules.callee(self.module, fcn) {
                    self.compares |=
                        COMPARISONS.contains(&builtin.name) && params.iter().any(|param| is_text(param));
                    let is_number =
                        |param: &Expr| matches!(param, Expr::Number { .. } | Expr::UnaryExpr { .. });
                    if RANGES.contains(&builtin.name) && !params.iter().all(|param| is_number(param)) {
                        let message =
                            format!("length of `{}` is not known before the evaluation", builtin.name);
                        let help = format!(
                            "more than {ELEMENTS_MAX} elements are an error, which denies; bound the number first"
                        );
                        self.problems.push(Problem::warning(&place(expr.span()), message).help(help));
                    }
                }
            }
            _ => {}
        }
        walk_expr(self, expr);
    }
}

fn is_text(expr: &Expr) -> bool {
    matches!(expr, Expr::String { .. } | Expr::RawString { .. })
}

fn is_reference(expr: &Expr) -> bool {
    Reference::of(expr).is_some()
}
