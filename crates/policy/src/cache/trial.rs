//! Tries, before a policy is loaded, whether the parts of the input that it was found to read decide as the whole input does.
//!
//! They do unless the analysis has missed a read, and then the input that requests get lacks something as well.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use regorus::Value;

use super::Projection;
use crate::ast::{Expr, LiteralStmt, Module, Ref, Reference, Visit, walk_expr, walk_statement};
use crate::builtins::header;
use crate::check::rules::{Callee, Rules, dotted};
use crate::input::builder::Builder;
use crate::input::sample;
use crate::input::shape::InputShape;
use crate::problem::{Place, Problem};
use crate::rego::{self, RegoPolicy};
use crate::set::{PolicySet, SourceKind};

/// Decides the invented request and `inputs` both ways.
pub(crate) fn run(
    policy: &RegoPolicy,
    shape: InputShape,
    projection: &Projection,
    inputs: Vec<Value>,
    problems: &mut Vec<Problem>,
) {
    let whole = Builder::whole(shape).build(&sample::subject(), &sample::request());
    let mut worker = policy.rego_worker();
    for input in whole.into_iter().chain(inputs) {
        let projected = projection.of_document(&input);
        let (of_whole, of_projected) =
            (worker.decide_on(|_| Ok(input.clone())), worker.decide_on(|_| Ok(projected)));
        // Running out of time says nothing, and errors may name what else they saw.
        if let (Ok(of_whole), Ok(of_projected)) = (of_whole, of_projected)
            && of_whole != of_projected
        {
            let message = "the policy decides differently when it is given only what it reads";
            let help = "this is a fault of ringward: report it, and read the fields in another way until it is mended";
            problems.push(Problem::error(&Place::default(), message).help(help));
            return;
        }
    }
}

/// The inputs that the tests of a set give (`with input as ...`), as far as they can be had without running the tests: those
/// that need no variable of the test.
///
/// `modules` are those of the set.
pub(crate) fn inputs_of_tests(set: &PolicySet, modules: &[Ref<Module>], data: &Value) -> Vec<Value> {
    let rules = Rules::collect(modules);
    // By file, its package and the text of each input.
    let mut found: BTreeMap<&str, (String, Vec<String>)> = BTreeMap::new();
    for definition in &rules.definitions {
        let names = &rules.modules[definition.module];
        let file = names.module.package.span.source.file();
        if SourceKind::of(file) == Some(SourceKind::PolicyTest) {
            let (_, texts) = found.entry(file).or_insert_with(|| (dotted(&names.package), Vec::new()));
            Inputs { rules: &rules, module: definition.module, texts }.rule(definition.rule);
        }
    }
    let provided = header::modules(&rules, set.input());
    let mut values = Vec::new();
    for (file, (package, texts)) in &mut found {
        texts.truncate(INPUTS_MAX - values.len());
        // In a rule of the module that has them every name means what it means there.
        let rules: String =
            texts.iter().enumerate().map(|(index, text)| format!("\n{RULE}{index} := {text}\n")).collect();
        let evaluated = catch_unwind(AssertUnwindSafe(|| {
            let mut engine = rego::new_engine();
            rego::set_time_budget(&mut engine, set.limits().time_budget);
            for source in set.sources() {
                let Ok(text) = std::str::from_utf8(&source.bytes) else { continue };
                let added = if source.path == *file { rules.as_str() } else { "" };
                if matches!(source.kind(), Some(SourceKind::Policy | SourceKind::PolicyTest)) {
                    engine.add_policy(source.path.clone(), format!("{text}{added}")).ok()?;
                }
            }
            for (path, text) in &provided {
                engine.add_policy(path.clone(), text.clone()).ok()?;
            }
            engine.add_data(data.clone()).ok()?;
            let rule = |index| format!("{package}.{RULE}{index}");
            Some((0..texts.len()).filter_map(|index| engine.eval_rule(rule(index)).ok()).collect::<Vec<_>>())
        }));
        // What cannot be had this way is left to the test itself.
        values.extend(evaluated.ok().flatten().into_iter().flatten());
    }
    values.retain(|value| matches!(value, Value::Object(_)));
    values
}

/// Finds inputs that are given by constants, rules and functions.
struct Inputs<'a, 't> {
    rules: &'a Rules<'a>,
    module: usize,
    texts: &'t mut Vec<String>,
}

impl Visit for Inputs<'_, '_> {
    fn statement(&mut self, statement: &LiteralStmt) {
        for modifier in &statement.with_mods {
            let target = Reference::of(&modifier.refr);
            let is_input = target.is_some_and(|target| target.root == "input" && target.names.is_empty());
            let mut variables = Variables { rules: self.rules, module: self.module, found: false };
            variables.expr(&modifier.r#as);
            let span = modifier.r#as.span();
            let text = span.source.contents().get(span.start as usize..span.end as usize);
            if let (true, false, Some(text)) = (is_input, variables.found, text) {
                self.texts.push(text.to_owned());
            }
        }
        walk_statement(self, statement);
    }
}

/// Whether an expression needs variables.
struct Variables<'a> {
    rules: &'a Rules<'a>,
    module: usize,
    found: bool,
}

impl Visit for Variables<'_> {
    fn expr(&mut self, expr: &Expr) {
        match expr {
            Expr::Var { span, .. } => {
                let (name, module) = (span.text(), self.module);
                let package = &self.rules.modules[module].package;
                self.found |= name != "data"
                    && self.rules.import(module, name).is_none()
                    && !self.rules.defines(package, name);
            }
            Expr::Call { fcn, params, .. } => {
                self.found |= matches!(self.rules.callee(self.module, fcn), Callee::Unknown(_));
                params.iter().for_each(|param| self.expr(param));
            }
            _ => walk_expr(self, expr),
        }
    }
}

/// Name of the rules that inputs are evaluated by, before their numbers.
const RULE: &str = "ringward_trial_";
/// Inputs that are tried: enough to meet each rule of ordinary policies, few enough to be over in no time.
const INPUTS_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compile::Prepared;
    use crate::set::{Limits, Source};

    fn problems(text: &str, broken: impl Fn(&Projection) -> Projection, inputs: Vec<Value>) -> usize {
        let source = Source::new("p.rego", text.as_bytes());
        let set = PolicySet::new(vec![source], "data.p.allow", Limits::default());
        let prepared = Prepared::of(&set).unwrap();
        let projection = broken(prepared.projection().unwrap());
        let mut problems = Vec::new();
        run(&prepared.policy(&set), set.input(), &projection, inputs, &mut problems);
        problems.len()
    }

    #[test]
    fn a_read_that_was_missed_is_noticed() {
        let text = "package p\ndefault allow := false\nallow if input.request.path == \"/orders/17\"\n";
        assert_eq!(problems(text, Projection::clone, Vec::new()), 0);
        assert_eq!(problems(text, |whole| whole.without_read(0), Vec::new()), 1);
        let text = text.replace("/orders/17", "/other");
        let broken = |whole: &Projection| whole.without_read(0);
        assert_eq!(problems(&text, broken, Vec::new()), 0, "the invented request does not show it");
        let input = Value::from_json_str(r#"{"request": {"path": "/other"}}"#).unwrap();
        assert_eq!(problems(&text, broken, vec![input]), 1, "an input of a test does");
    }

    #[test]
    fn inputs_come_from_tests_as_far_as_they_need_no_variables() {
        let test = r#"package p_test

import data.p

base := {"request": {"path": "/base"}}

request(path) := {"request": {
	"path": path,
}}

test_constant if p.allow with input as {"request": {"path": "/constant"}}
test_rule if p.allow with input as base
test_function if {
	not p.allow with input as request("/function")
}
test_builtin if p.allow with input as object.union(base, {"x": 1})
test_variable if {
	some path in ["/a", "/b"]
	p.allow with input as request(path)
}
test_part if p.allow with input.request.path as "/part"
"#;
        let sources = vec![
            Source::new("p.rego", &b"package p\nallow if input.request.path == \"/x\"\n"[..]),
            Source::new("p_test.rego", test.as_bytes()),
        ];
        let set = PolicySet::new(sources, "data.p.allow", Limits::default());
        let prepared = Prepared::of(&set).unwrap();
        let inputs = inputs_of_tests(&set, &prepared.modules, &Value::new_object());
        let paths: Vec<_> = inputs.iter().map(|input| input["request"]["path"].clone()).collect();
        assert_eq!(paths, ["/constant", "/base", "/function", "/base"].map(Value::from));
        assert_eq!(inputs[3]["x"], Value::from(1));
    }
}
