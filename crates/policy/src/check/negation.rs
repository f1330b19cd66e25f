//! Negations over what may be missing.
//!
//! OPA evaluates the operands of a negated call, comparison or literal first, outside of the negation: a missing one makes
//! the body undefined. The interpreter evaluates them inside, and lets the negation hold. `not startswith(header, "x")`
//! with a header that the client left out would then allow what OPA denies, so it is refused unless every operand can be
//! seen to be there. `not reference` and `not reference == value` mean the same in both.

use std::cell::Cell;
use std::collections::BTreeSet;

use regorus::{Rc, Value};

use crate::ast::{
    AssignOp, BoolOp, Expr, Literal, LiteralStmt, Reference, Rule, RuleHead, Visit, place, walk_expr,
    walk_statement,
};
use crate::check::cycles::Locals;
use crate::check::lints::input_names;
use crate::check::rules::{Callee, Definition, Kind, Path, Rules};
use crate::documents;
use crate::input::schema::{self, Lookup};
use crate::input::shape::InputShape;
use crate::problem::Problem;

/// Rules that are followed one from another to see that a value is there.
const FOLLOWED_MAX: usize = 8;

/// Rules that are followed for one rule with negations; what is beyond counts as missing.
const FOLLOWED_TOTAL_MAX: usize = 1000;

/// Builtins without a result for some arguments of the right type.
const PARTIAL_BUILTINS: &[&str] = &["max", "min"];

/// Reports the negations in all rules.
pub(crate) fn check(rules: &Rules<'_>, data: &Value, shape: InputShape, problems: &mut Vec<Problem>) {
    let mut replacements = Replacements { found: false };
    rules.definitions.iter().for_each(|definition| replacements.rule(definition.rule));
    for definition in &rules.definitions {
        let followed_total = Cell::new(0);
        let scope = Scope::of(rules, data, shape, replacements.found, &followed_total, definition);
        Negations { scope, problems }.rule(definition.rule);
    }
}

/// Finds a `with`, behind which nothing of input and data can be relied on.
struct Replacements {
    found: bool,
}

impl Visit for Replacements {
    fn statement(&mut self, statement: &LiteralStmt) {
        self.found |= !statement.with_mods.is_empty();
        walk_statement(self, statement);
    }
}

struct Negations<'a, 'p> {
    scope: Scope<'a>,
    problems: &'p mut Vec<Problem>,
}

impl Visit for Negations<'_, '_> {
    fn statement(&mut self, statement: &LiteralStmt) {
        if let Literal::NotExpr { expr, .. } = &statement.literal
            && let Some(name) = self.scope.missing_in_negated(expr)
        {
            let message = format!("negation would hold when {name} is missing; in OPA it would not");
            let help = "bind the value in a statement before it (`x := ...`), or give what is missing a value: `header(\"x-a\")` for a header field, `object.get` for others";
            self.problems.push(Problem::error(&place(expr.span()), message).help(help));
        }
        walk_statement(self, statement);
    }
}

/// What the names in one rule mean.
struct Scope<'a> {
    rules: &'a Rules<'a>,
    data: &'a Value,
    shape: InputShape,
    /// Whether some `with` replaces values.
    replaced: bool,
    module: usize,
    locals: BTreeSet<String>,
    followed: usize,
    followed_total: &'a Cell<usize>,
}

impl<'a> Scope<'a> {
    fn of(
        rules: &'a Rules<'a>,
        data: &'a Value,
        shape: InputShape,
        replaced: bool,
        followed_total: &'a Cell<usize>,
        definition: &Definition<'_>,
    ) -> Self {
        let locals = Locals::of(definition.rule);
        Self { rules, data, shape, replaced, module: definition.module, locals, followed: 0, followed_total }
    }

    /// What OPA would miss before it comes to the negation.
    fn missing_in_negated(&self, negated: &Expr) -> Option<String> {
        match negated {
            Expr::BoolExpr { op: BoolOp::Eq, lhs, rhs, .. }
            | Expr::AssignExpr { op: AssignOp::Eq, lhs, rhs, .. } => {
                [lhs, rhs].into_iter().find_map(|side| self.missing_around(side))
            }
            Expr::Call { params, .. } => params.iter().find_map(|param| self.missing(param)),
            Expr::Var { .. } | Expr::RefDot { .. } | Expr::RefBrack { .. } => self.missing_around(negated),
            negated => self.missing_within(negated),
        }
    }

    /// A reference itself may lead nowhere here, but not what it is made of.
    fn missing_around(&self, expr: &Expr) -> Option<String> {
        match expr {
            Expr::Var { .. } => None,
            Expr::RefDot { refr, .. } => self.missing_around(refr),
            Expr::RefBrack { refr, index, .. } => self.missing_around(refr).or_else(|| self.missing(index)),
            expr => self.missing(expr),
        }
    }

    /// What may be without a value in an operand.
    fn missing(&self, operand: &Expr) -> Option<String> {
        match operand {
            Expr::Var { .. } | Expr::RefDot { .. } | Expr::RefBrack { .. } => {
                self.missing_around(operand).or_else(|| self.missing_reference(operand))
            }
            Expr::Call { fcn, params, .. } => {
                let missing = params.iter().find_map(|param| self.missing(param));
                missing.or_else(|| {
                    (!self.is_total(fcn)).then(|| format!("the result of `{}`", fcn.span().text()))
                })
            }
            // These have a value whatever happens within.
            Expr::ArrayCompr { .. } | Expr::SetCompr { .. } | Expr::ObjectCompr { .. } => None,
            operand => self.missing_within(operand),
        }
    }

    fn missing_within(&self, expr: &Expr) -> Option<String> {
        let mut children = Children { scope: self, outermost: true, missing: None };
        children.expr(expr);
        children.missing
    }

    fn missing_reference(&self, expr: &Expr) -> Option<String> {
        let Some(reference) = Reference::of(expr) else { return Some(format!("`{}`", expr.span().text())) };
        let is_there = self.is_there(expr, &reference);
        let entry = if reference.complete { "" } else { "[...]" };
        (!is_there).then(|| format!("`{}{entry}`", reference.dotted()))
    }

    fn is_there(&self, expr: &Expr, reference: &Reference<'_>) -> bool {
        if let Some((reference, names)) = input_names(self.rules, self.module, expr) {
            return reference.complete
                && !self.replaced
                && schema::look_up(self.shape, &names) == Lookup::Field;
        }
        let is_bare = reference.complete && reference.names.is_empty();
        let names = reference.names.iter().cloned();
        let package = &self.rules.modules[self.module].package;
        let path: Path = if reference.root == "data" {
            [reference.root.into()].into_iter().chain(names).collect()
        } else if self.locals.contains(reference.root) {
            return is_bare;
        } else if self.rules.defines(package, reference.root) {
            package.iter().cloned().chain([reference.root.into()]).chain(names).collect()
        } else if let Some(target) = self.rules.import(self.module, reference.root) {
            target.iter().cloned().chain(names).collect()
        } else {
            return is_bare;
        };
        reference.complete && !self.replaced && self.is_path_there(&path)
    }

    fn is_path_there(&self, path: &[Rc<str>]) -> bool {
        if self.rules.at(path).next().is_some() {
            return self.rules.at(path).any(|definition| self.always_has_a_value(definition));
        }
        let is_in_rule = (1..path.len()).any(|end| self.rules.at(&path[..end]).next().is_some());
        !is_in_rule && documents::at(self.data, &path[1..]).is_some()
    }

    /// Whether a function has a result for all arguments.
    fn is_total(&self, function: &Expr) -> bool {
        match self.rules.callee(self.module, function) {
            Callee::Function { path, .. } => {
                !self.replaced && self.rules.at(&path).any(|definition| self.always_has_a_value(definition))
            }
            Callee::Builtin(builtin) => !self.replaced && !PARTIAL_BUILTINS.contains(&builtin.name),
            Callee::Unknown(_) => false,
        }
    }

    fn always_has_a_value(&self, definition: &Definition<'_>) -> bool {
        if matches!(definition.kind, Kind::PartialSet | Kind::PartialObject) {
            return true;
        }
        let (arguments, value) = match definition.rule {
            Rule::Default { .. } => return true,
            Rule::Spec { head: RuleHead::Compr { assign, .. }, bodies, .. } if bodies.is_empty() => {
                (&[][..], assign)
            }
            Rule::Spec { head: RuleHead::Func { args, assign, .. }, bodies, .. } if bodies.is_empty() => {
                (&args[..], assign)
            }
            Rule::Spec { .. } => return false,
        };
        let takes_all = arguments.iter().all(|argument| matches!(argument.as_ref(), Expr::Var { .. }));
        self.followed_total.set(self.followed_total.get() + 1);
        if !takes_all || self.followed == FOLLOWED_MAX || self.followed_total.get() > FOLLOWED_TOTAL_MAX {
            return false;
        }
        let scope =
            Scope::of(self.rules, self.data, self.shape, self.replaced, self.followed_total, definition);
        let scope = Scope { followed: self.followed + 1, ..scope };
        value.as_ref().is_none_or(|assign| scope.missing(&assign.value).is_none())
    }
}

/// Visits the operands that an expression is made of.
struct Children<'s, 'a> {
    scope: &'s Scope<'a>,
    outermost: bool,
    missing: Option<String>,
}

impl Visit for Children<'_, '_> {
    fn expr(&mut self, expr: &Expr) {
        if std::mem::take(&mut self.outermost) {
            walk_expr(self, expr);
        } else if self.missing.is_none() {
            self.missing = self.scope.missing(expr);
        }
    }
}
