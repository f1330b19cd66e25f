//! `header("x-a")`: a header field of the request, `""` if it has none.
//!
//! OPA has no such function. It is for conditions over fields that a client may leave out, where
//! `input.request.headers["x-a"]` would be undefined. An extension of the interpreter cannot see the input, nor what
//! `with` puts in its place; so `header` is a function in Rego, which each package that calls it gets as a module.

use std::collections::BTreeSet;

use crate::ast::{Expr, Visit, walk_expr};
use crate::check::rules::{Callee, Path, Rules};
use crate::input::shape::InputShape;

pub(crate) const NAME: &str = "header";

/// The function, behind the line with the package. Names in the input are in lower case.
fn function(shape: InputShape) -> String {
    let headers = shape.headers().join(".");
    format!("default header(_) := \"\"\nheader(name) := object.get(input.{headers}, lower(name), \"\")\n")
}

/// Path and text of the modules that rules need which call `header`.
pub(crate) fn modules(rules: &Rules<'_>, shape: InputShape) -> Vec<(String, String)> {
    let function = function(shape);
    let mut packages: BTreeSet<&Path> = BTreeSet::new();
    for definition in &rules.definitions {
        let mut calls = Calls { rules, module: definition.module, found: false };
        calls.rule(definition.rule);
        if calls.found {
            packages.insert(&rules.modules[definition.module].package);
        }
    }
    let module = |package: &Path| {
        let mut text = String::from("package ");
        for (index, name) in package.iter().skip(1).enumerate() {
            match index {
                0 => text.push_str(name),
                _ => text.push_str(&format!("[{}]", serde_json::Value::from(name.as_ref()))),
            }
        }
        (format!("{NAME} of {}", crate::check::rules::dotted(package)), format!("{text}\n{function}"))
    };
    packages.into_iter().map(module).collect()
}

/// Finds calls of `header` that no function of the policy answers.
struct Calls<'a> {
    rules: &'a Rules<'a>,
    module: usize,
    found: bool,
}

impl Visit for Calls<'_> {
    fn expr(&mut self, expr: &Expr) {
        if let Expr::Call { fcn, .. } = expr {
            let callee = self.rules.callee(self.module, fcn);
            self.found |= matches!(callee, Callee::Builtin(builtin) if builtin.name == NAME);
        }
        walk_expr(self, expr);
    }
}
