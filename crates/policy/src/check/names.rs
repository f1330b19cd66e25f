//! Every name means something.
//!
//! regorus reports an undefined variable of a body when it is loaded, but one in a rule's head only when a request gets
//! there, and a misspelt rule of another package never: it is undefined, so that a `not` in front of it always holds.

use std::collections::BTreeSet;

use regorus::{Rc, Value};

use crate::ast::{
    Expr, Literal, LiteralStmt, Reference, Rule, RuleHead, Visit, place, walk_expr, walk_rule, walk_statement,
};
use crate::check::rules::{Definition, Path, Rules, dotted};
use crate::documents;
use crate::problem::Problem;

/// Checks the variables of all heads and the references to all packages.
pub(crate) fn check(rules: &Rules<'_>, data: &Value, problems: &mut Vec<Problem>) {
    for names in &rules.modules {
        for import in &names.module.imports {
            package_reference(rules, data, &import.refr, problems);
        }
    }
    for definition in &rules.definitions {
        heads(rules, definition, problems);
        if let Rule::Default { value, .. } = definition.rule {
            Constants { problems }.expr(value);
        }
        Packages { rules, data, problems }.rule(definition.rule);
    }
}

fn heads(rules: &Rules<'_>, definition: &Definition<'_>, problems: &mut Vec<Problem>) {
    let Rule::Spec { head, bodies, .. } = definition.rule else { return };
    let mut bound = Bound::default();
    bound.everything(definition.rule);
    let assigned = match head {
        RuleHead::Compr { assign, .. } | RuleHead::Func { assign, .. } => assign.as_ref(),
        RuleHead::Set { .. } => None,
    };
    let key = match head {
        RuleHead::Set { key, .. } => key.as_ref(),
        RuleHead::Compr { .. } | RuleHead::Func { .. } => None,
    };
    let values =
        bodies.iter().filter_map(|body| body.assign.as_ref()).chain(assigned).map(|assign| &assign.value);
    let mut variables = Variables { rules, definition, bound: &bound.names, problems };
    values.chain(key).for_each(|value| variables.expr(value));
}

/// Names that a rule can bind, wherever: variables of its bodies and comprehensions, its parameters, and variables in
/// brackets, which run over a collection. More than it does bind, which only makes for fewer reports.
#[derive(Default)]
struct Bound {
    names: BTreeSet<String>,
    /// Inside a query or brackets, where every variable counts.
    inside: bool,
}

impl Bound {
    fn everything(&mut self, rule: &Rule) {
        if let Rule::Spec { head: RuleHead::Func { args, .. }, .. } = rule {
            self.inside(|bound| args.iter().for_each(|arg| bound.expr(arg)));
        }
        walk_rule(self, rule);
    }

    fn inside(&mut self, walk: impl FnOnce(&mut Self)) {
        let before = std::mem::replace(&mut self.inside, true);
        walk(self);
        self.inside = before;
    }
}

impl Visit for Bound {
    fn statement(&mut self, statement: &LiteralStmt) {
        match &statement.literal {
            Literal::SomeVars { vars, .. } => self.names.extend(vars.iter().map(|var| var.text().to_owned())),
            Literal::Every { key, value, .. } => {
                self.names.extend(key.iter().chain([value]).map(|var| var.text().to_owned()));
            }
            _ => {}
        }
        self.inside(|bound| walk_statement(bound, statement));
    }

    fn expr(&mut self, expr: &Expr) {
        match expr {
            Expr::Var { span, .. } if self.inside => {
                self.names.insert(span.text().to_owned());
            }
            Expr::RefBrack { refr, index, .. } => {
                self.expr(refr);
                self.inside(|bound| bound.expr(index));
            }
            _ => walk_expr(self, expr),
        }
    }
}

/// Reports variables that nothing binds.
struct Variables<'a, 'p> {
    rules: &'a Rules<'a>,
    definition: &'a Definition<'a>,
    bound: &'a BTreeSet<String>,
    problems: &'p mut Vec<Problem>,
}

impl Variables<'_, '_> {
    fn is_known(&self, name: &str) -> bool {
        let module = self.definition.module;
        matches!(name, "input" | "data" | "_")
            || self.bound.contains(name)
            || self.rules.import(module, name).is_some()
            || self.rules.defines(&self.rules.modules[module].package, name)
    }
}

impl Visit for Variables<'_, '_> {
    fn expr(&mut self, expr: &Expr) {
        match expr {
            Expr::Var { span, .. } if !self.is_known(span.text()) => {
                let name = span.text();
                let problem = Problem::error(&place(span), format!("undefined variable `{name}`"));
                let own = self.rules.modules[self.definition.module].package.clone();
                let names = self.rules.below(&own).filter_map(|path| path.get(own.len()));
                let names: Vec<&Rc<str>> = names.collect();
                self.problems.push(match super::nearest(name, names.iter().map(|name| name.as_ref())) {
                    Some(near) => problem.help(format!("did you mean `{near}`?")),
                    None => problem.help("define it in the body, as a rule or by an import"),
                });
            }
            // The function of a call is for `check::calls`.
            Expr::Call { params, .. } => params.iter().for_each(|param| self.expr(param)),
            _ => walk_expr(self, expr),
        }
    }
}

/// Reports what a default value may not hold: it has to be known without an evaluation. Found by regorus only when the
/// default is needed.
struct Constants<'p> {
    problems: &'p mut Vec<Problem>,
}

impl Visit for Constants<'_> {
    fn expr(&mut self, expr: &Expr) {
        match expr {
            Expr::ArrayCompr { .. } | Expr::SetCompr { .. } | Expr::ObjectCompr { .. } => {}
            Expr::Array { .. } | Expr::Set { .. } | Expr::Object { .. } | Expr::UnaryExpr { .. } => {
                walk_expr(self, expr)
            }
            Expr::String { .. }
            | Expr::RawString { .. }
            | Expr::Number { .. }
            | Expr::Bool { .. }
            | Expr::Null { .. } => {}
            other => {
                let problem = Problem::error(&place(other.span()), "default value is not a constant");
                self.problems.push(problem.help("give a constant, and a rule for what is computed"));
            }
        }
    }
}

/// Reports references into packages of the set that lead nowhere.
struct Packages<'a, 'p> {
    rules: &'a Rules<'a>,
    data: &'a Value,
    problems: &'p mut Vec<Problem>,
}

impl Visit for Packages<'_, '_> {
    fn expr(&mut self, expr: &Expr) {
        match expr {
            Expr::Call { params, .. } => params.iter().for_each(|param| self.expr(param)),
            Expr::RefDot { .. } | Expr::RefBrack { .. } => {
                package_reference(self.rules, self.data, expr, self.problems);
                match Reference::of(expr) {
                    Some(reference) => reference.indices.iter().for_each(|index| self.expr(index)),
                    None => walk_expr(self, expr),
                }
            }
            _ => walk_expr(self, expr),
        }
    }
}

fn package_reference(rules: &Rules<'_>, data: &Value, expr: &Expr, problems: &mut Vec<Problem>) {
    let Some(reference) = Reference::of(expr).filter(|reference| reference.root == "data") else { return };
    let path: Path = [Rc::from("data")].into_iter().chain(reference.names.iter().cloned()).collect();
    let in_package = rules
        .modules
        .iter()
        .any(|names| path.len() > names.package.len() && path.starts_with(&names.package));
    let has_rule = rules.below(&path).next().is_some()
        || (1..path.len()).any(|end| rules.at(&path[..end]).next().is_some())
        || rules.modules.iter().any(|names| names.package.starts_with(&path));
    if !in_package || has_rule || documents::at(data, &path[1..]).is_some() {
        return;
    }
    let problem = Problem::error(&place(expr.span()), format!("nothing is defined at `{}`", dotted(&path)));
    let known: BTreeSet<String> =
        rules.definitions.iter().map(|definition| dotted(&definition.path)).collect();
    problems.push(match super::nearest(&dotted(&path), known.iter().map(String::as_str)) {
        Some(near) => problem.help(format!("did you mean `{near}`?")),
        None => problem.help("define the rule, or put the value into a data document"),
    });
}
