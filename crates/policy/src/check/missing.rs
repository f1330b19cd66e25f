//! References to data that no document holds, but for a letter.
//!
//! What a data document lacks is undefined, and may be so on purpose, such as the hours of a maintenance that nobody
//! planned. So only what resembles something that is there is worth a word.

use regorus::{Rc, Value};

use crate::ast::{Expr, Reference, Visit, place, walk_expr};
use crate::check::rules::{Path, Rules, dotted};
use crate::documents;
use crate::problem::Problem;

/// Looks at the references and imports of all rules.
pub(crate) fn check(rules: &Rules<'_>, data: &Value, problems: &mut Vec<Problem>) {
    let mut references = References { rules, data, problems };
    for names in &rules.modules {
        names.module.imports.iter().for_each(|import| references.reference(&import.refr));
    }
    rules.definitions.iter().for_each(|definition| references.rule(definition.rule));
}

struct References<'a, 'p> {
    rules: &'a Rules<'a>,
    data: &'a Value,
    problems: &'p mut Vec<Problem>,
}

impl Visit for References<'_, '_> {
    fn expr(&mut self, expr: &Expr) {
        match expr {
            // The function of a call is no data.
            Expr::Call { params, .. } => params.iter().for_each(|param| self.expr(param)),
            Expr::RefDot { .. } | Expr::RefBrack { .. } => {
                self.reference(expr);
                match Reference::of(expr) {
                    Some(reference) => reference.indices.iter().for_each(|index| self.expr(index)),
                    None => walk_expr(self, expr),
                }
            }
            _ => walk_expr(self, expr),
        }
    }
}

impl References<'_, '_> {
    fn reference(&mut self, expr: &Expr) {
        let Some(reference) = Reference::of(expr).filter(|reference| reference.root == "data") else {
            return;
        };
        let path: Path = [Rc::from("data")].into_iter().chain(reference.names.iter().cloned()).collect();
        // What is missing in a package is an error, see `check::names`.
        let of_rules = |names: &[Rc<str>]| names.starts_with(&path) || path.starts_with(names);
        if self.rules.modules.iter().any(|names| of_rules(&names.package)) {
            return;
        }
        if let Some(near) = likely(self.data, &path[1..]) {
            let message = format!("no data document holds `{}`", dotted(&path));
            let help = format!("it is undefined; did you mean `{near}`?");
            self.problems.push(Problem::warning(&place(expr.span()), message).help(help));
        }
    }
}

/// What `path` most likely means: it ends with something that resembles its first name that leads nowhere.
fn likely(data: &Value, path: &[Rc<str>]) -> Option<String> {
    let wrong = (0..path.len()).find(|end| documents::at(data, &path[..=*end]).is_none())?;
    let name = &path[wrong];
    // Short ones are more often codes than misspelt words.
    if name.len() < WORD_LENGTH_MIN {
        return None;
    }
    let beside = documents::at(data, &path[..wrong])?.as_object().ok()?;
    let names = beside.keys().filter_map(|key| key.as_string().ok());
    let near = super::nearest(name, names.map(|key| key.as_ref()))?;
    let right = path[..wrong].iter().map(Rc::as_ref).chain([near]);
    Some(right.fold("data".to_owned(), |right, name| format!("{right}.{name}")))
}

const WORD_LENGTH_MIN: usize = 4;
