//! Arithmetic that rounds.
//!
//! OPA reckons with decimal fractions, the interpreter with binary ones: `0.1 * 3 > 0.3` holds in the interpreter and not
//! in OPA. Whole numbers are exact in both, and so is a comparison without arithmetic.

use std::collections::BTreeSet;

use regorus::Value;

use crate::ast::{ArithOp, Expr, Reference, Visit, place, walk_expr};
use crate::builtins::bounded::is_exact;
use crate::check::lints::input_names;
use crate::check::rules::{Callee, Kind, Path, Rules};
use crate::input::shape::InputShape;
use crate::problem::Problem;
use crate::reads::Reads;

/// Builtins that read fractions from texts.
const FRACTION_BUILTINS: &[&str] = &["json.unmarshal", "to_number", "units.parse"];

/// Builtins that add or multiply what they are given.
const REDUCING_BUILTINS: &[&str] = &["product", "sum"];

/// Builtins that give whole numbers.
const WHOLE_BUILTINS: &[&str] = &[
    "bits.and",
    "bits.lsh",
    "bits.negate",
    "bits.or",
    "bits.rsh",
    "bits.xor",
    "ceil",
    "count",
    "floor",
    "indexof",
    "rand.intn",
    "round",
    "semver.compare",
    "strings.count",
    "time.add_date",
    "time.now_ns",
    "time.parse_duration_ns",
    "time.parse_ns",
    "time.parse_rfc3339_ns",
    "units.parse_bytes",
];

/// Reports numbers that are not kept exactly, and arithmetic with what may be a fraction.
pub(crate) fn check(rules: &Rules<'_>, data: &Value, shape: InputShape, problems: &mut Vec<Problem>) {
    let mut fractions = Fractions { rules, module: 0, found: BTreeSet::new() };
    for definition in &rules.definitions {
        fractions.module = definition.module;
        fractions.rule(definition.rule);
    }
    let data_has_fractions = has_fractions(data);
    let source = match fractions.found.into_iter().next() {
        _ if data_has_fractions => Some("a data document has fractions".to_owned()),
        _ if shape.json().iter().any(|path| Reads::of(rules, shape).may_read(path)) => {
            Some("the body of a request may have fractions".to_owned())
        }
        Some(found) => Some(format!("{found} gives fractions")),
        None => None,
    };
    for definition in &rules.definitions {
        let module = definition.module;
        Arithmetic { rules, module, shape, data_has_fractions, source: source.as_deref(), problems }
            .rule(definition.rule);
    }
}

fn has_fractions(value: &Value) -> bool {
    match value {
        Value::Number(number) => !number.is_integer(),
        Value::Array(items) => items.iter().any(has_fractions),
        Value::Object(fields) => fields.iter().any(|(_, value)| has_fractions(value)),
        _ => false,
    }
}

fn is_fraction(literal: &str) -> bool {
    literal.contains(['.', 'e', 'E'])
}

/// Finds where fractions can come from.
struct Fractions<'a> {
    rules: &'a Rules<'a>,
    module: usize,
    found: BTreeSet<String>,
}

impl Visit for Fractions<'_> {
    fn expr(&mut self, expr: &Expr) {
        match expr {
            Expr::Number { span, .. } if is_fraction(span.text()) => {
                self.found.insert(format!("`{}`", span.text()));
            }
            Expr::ArithExpr { op: ArithOp::Div, .. } => {
                self.found.insert("a division".to_owned());
            }
            Expr::Call { fcn, .. } => {
                if let Callee::Builtin(builtin) = self.rules.callee(self.module, fcn)
                    && FRACTION_BUILTINS.contains(&builtin.name)
                {
                    self.found.insert(format!("`{}`", builtin.name));
                }
            }
            _ => {}
        }
        walk_expr(self, expr);
    }
}

/// Whether an expression is a reference to JSON that a client sent, or to something that holds it.
fn is_json(rules: &Rules<'_>, module: usize, shape: InputShape, expr: &Expr) -> bool {
    let Some((_, names)) = input_names(rules, module, expr) else { return false };
    let meets = |path: &&[&str]| names.iter().zip(*path).all(|(name, part)| name == part || name == "*");
    shape.json().iter().any(meets)
}

struct Arithmetic<'a, 'p> {
    rules: &'a Rules<'a>,
    module: usize,
    shape: InputShape,
    data_has_fractions: bool,
    /// Why there may be fractions at all.
    source: Option<&'a str>,
    problems: &'p mut Vec<Problem>,
}

impl Visit for Arithmetic<'_, '_> {
    fn expr(&mut self, expr: &Expr) {
        match expr {
            Expr::Number { span, .. } if !is_exact(span.text()) => {
                let message = format!("number `{}` has more digits than are kept", span.text());
                let help =
                    "whole numbers may have 64 bits, fractions 15 digits; compare longer ones as texts";
                self.problems.push(Problem::error(&place(span), message).help(help));
            }
            Expr::ArithExpr { lhs, rhs, .. } if !(self.is_whole(lhs) && self.is_whole(rhs)) => {
                self.report(expr)
            }
            Expr::Call { fcn, .. } => {
                if let Callee::Builtin(builtin) = self.rules.callee(self.module, fcn)
                    && REDUCING_BUILTINS.contains(&builtin.name)
                {
                    self.report(expr);
                }
            }
            _ => {}
        }
        walk_expr(self, expr);
    }
}

impl Arithmetic<'_, '_> {
    fn report(&mut self, expr: &Expr) {
        if let Some(source) = self.source {
            let message = format!("arithmetic may round otherwise than OPA's, since {source}");
            let help = "reckon in whole numbers of a smaller unit (milliseconds, cents), or round each operand with `floor`, `ceil` or `round`";
            self.problems.push(Problem::error(&place(expr.span()), message).help(help));
        }
    }

    /// Whether an operand is no fraction for sure. What is no number at all, such as a set, is none either.
    fn is_whole(&self, operand: &Expr) -> bool {
        match operand {
            Expr::Number { span, .. } => !is_fraction(span.text()),
            Expr::Set { .. } | Expr::SetCompr { .. } => true,
            Expr::UnaryExpr { expr, .. } => self.is_whole(expr),
            Expr::ArithExpr { op, lhs, rhs, .. } => {
                !matches!(op, ArithOp::Div) && self.is_whole(lhs) && self.is_whole(rhs)
            }
            Expr::Call { fcn, .. } => match self.rules.callee(self.module, fcn) {
                Callee::Builtin(builtin) => WHOLE_BUILTINS.contains(&builtin.name),
                _ => false,
            },
            Expr::Var { .. } | Expr::RefDot { .. } | Expr::RefBrack { .. } => {
                self.is_whole_reference(operand)
            }
            _ => false,
        }
    }

    fn is_whole_reference(&self, expr: &Expr) -> bool {
        if input_names(self.rules, self.module, expr).is_some() {
            return !is_json(self.rules, self.module, self.shape, expr);
        }
        let Some(reference) = Reference::of(expr) else { return false };
        let names = reference.names.iter().cloned();
        let package = &self.rules.modules[self.module].package;
        let is_data = reference.root == "data";
        let path: Path = if is_data {
            [reference.root.into()].into_iter().chain(names).collect()
        } else {
            package.iter().cloned().chain([reference.root.into()]).chain(names).collect()
        };
        let is_rule = self.rules.below(&path).next().is_some()
            || (1..=path.len()).any(|end| self.rules.at(&path[..end]).next().is_some());
        if is_rule {
            return self.rules.at(&path).all(|definition| definition.kind == Kind::PartialSet);
        }
        is_data && !self.data_has_fractions
    }
}
