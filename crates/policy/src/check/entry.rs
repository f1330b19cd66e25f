//! The deciding rule: it exists, can be a decision, and says what holds when nothing else does.

use regorus::{Rc, Value};

use crate::ast::{Expr, Rule, RuleHead, place};
use crate::check::rules::{Definition, Kind, Path, Rules, dotted};
use crate::documents;
use crate::problem::{Place, Problem};

/// Checks the rule that decides, `rule` as in `data.ringward.authz.decision`.
pub(crate) fn check(rules: &Rules<'_>, rule: &str, problems: &mut Vec<Problem>) {
    let nowhere = Place::default();
    let Some(path) = parse(rule) else {
        let help = "write it as `data.<package>.<rule>`, such as `data.ringward.authz.decision`";
        problems.push(Problem::error(&nowhere, format!("`{rule}` is not the path of a rule")).help(help));
        return;
    };
    let definitions: Vec<&Definition<'_>> = rules.at(&path).collect();
    if definitions.is_empty() {
        problems.push(missing(rules, rule, &path));
        return;
    }
    for definition in &definitions {
        let wrong = match definition.kind {
            Kind::Function { .. } => "is a function",
            Kind::PartialSet => "is a set (`contains`)",
            Kind::Complete | Kind::Default | Kind::PartialObject => continue,
        };
        let help = "the deciding rule has to be `true`, `false` or an object with `allowed`";
        problems
            .push(Problem::error(&definition.place(), format!("deciding rule `{rule}` {wrong}")).help(help));
    }
    definitions.iter().for_each(|definition| literal_results(definition, rule, problems));
    default_rule(&definitions, rule, problems);
}

/// Where the rule that decides is defined first.
pub(crate) fn place_of(rules: &Rules<'_>, rule: &str) -> Place {
    let path = parse(rule).unwrap_or_default();
    rules.at(&path).next().map_or_else(Place::default, Definition::place)
}

/// Reports data documents that stand where a rule is: the interpreter would take the rule's value from the document.
pub(crate) fn check_data(rules: &Rules<'_>, data: &Value, problems: &mut Vec<Problem>) {
    for definition in &rules.definitions {
        let names = &definition.path[1..];
        let hidden = (1..=names.len()).find(|&end| match documents::at(data, &names[..end]) {
            None => false,
            Some(value) => end == names.len() || !matches!(value, Value::Object(_)),
        });
        if let Some(end) = hidden {
            let name = dotted(&definition.path[..=end]);
            let message = format!("a data document gives `{name}`, where this rule is");
            problems
                .push(Problem::error(&definition.place(), message).help("rename the key in the document"));
        }
    }
}

fn parse(rule: &str) -> Option<Path> {
    let path: Path = rule.split('.').map(Rc::from).collect();
    let identifier = |name: &Rc<str>| {
        !name.starts_with(|c: char| c.is_ascii_digit())
            && !name.is_empty()
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    (path.len() >= 3 && path[0].as_ref() == "data" && path.iter().all(identifier)).then_some(path)
}

fn missing(rules: &Rules<'_>, rule: &str, path: &Path) -> Problem {
    let problem = Problem::error(&Place::default(), format!("no rule `{rule}`"));
    if let Some(below) = rules.below(path).find(|below| below.len() > path.len()) {
        let help = format!("`{}` gives a part of it only; define the rule itself", dotted(below));
        return problem.help(help);
    }
    let candidates: Vec<String> = rules
        .definitions
        .iter()
        .filter(|found| matches!(found.kind, Kind::Complete | Kind::Default))
        .map(|found| dotted(&found.path))
        .collect();
    match super::nearest(rule, candidates.iter().map(String::as_str)) {
        Some(near) => problem.help(format!("did you mean `{near}`?")),
        None if rules.modules.is_empty() => problem.help("the policy has no `.rego` file"),
        None => {
            let mut names: Vec<String> = candidates.iter().map(|name| format!("`{name}`")).collect();
            names.dedup();
            names.truncate(CANDIDATES_SHOWN);
            problem.help(format!("name the rule that decides with `rule` (`--rule`): {}", names.join(", ")))
        }
    }
}

/// Rules that are named where none is like the missing one.
const CANDIDATES_SHOWN: usize = 4;

/// Results that can be seen to be of a wrong type.
fn literal_results(definition: &Definition<'_>, rule: &str, problems: &mut Vec<Problem>) {
    for value in results(definition.rule) {
        let wrong = match value {
            Expr::String { .. } | Expr::RawString { .. } => "a string",
            Expr::Number { .. } => "a number",
            Expr::Null { .. } => "null",
            Expr::Array { .. } | Expr::ArrayCompr { .. } => "an array",
            Expr::Set { .. } | Expr::SetCompr { .. } => "a set",
            _ => continue,
        };
        let message = format!("deciding rule `{rule}` gives {wrong}");
        let help = "it has to give `true`, `false` or an object with `allowed`";
        problems.push(Problem::error(&place(value.span()), message).help(help));
    }
}

fn results(rule: &Rule) -> Vec<&Expr> {
    match rule {
        Rule::Default { value, .. } => vec![value],
        Rule::Spec { head: RuleHead::Compr { assign, .. }, bodies, .. } => {
            let bodies = bodies.iter().filter_map(|body| body.assign.as_ref());
            assign.iter().chain(bodies).map(|assign| assign.value.as_ref()).collect()
        }
        Rule::Spec { .. } => Vec::new(),
    }
}

fn default_rule(definitions: &[&Definition<'_>], rule: &str, problems: &mut Vec<Problem>) {
    let unconditional = |definition: &&&Definition<'_>| match definition.rule {
        Rule::Default { .. } => true,
        Rule::Spec { bodies, .. } => definition.kind == Kind::Complete && bodies.is_empty(),
    };
    let Some(default) = definitions.iter().find(unconditional) else {
        let name = rule.rsplit('.').next().unwrap_or(rule);
        let message = format!("deciding rule `{rule}` has no default");
        let help =
            format!("add `default {name} := false`; without it, what no rule covers is denied as undefined");
        problems.push(Problem::warning(&definitions[0].place(), message).help(help));
        return;
    };
    if matches!(default.rule, Rule::Default { .. }) && results(default.rule).iter().any(|value| allows(value))
    {
        let message = format!("deciding rule `{rule}` allows by default");
        problems.push(Problem::warning(&default.place(), message).help("deny by default and allow by rule"));
    }
}

fn allows(value: &Expr) -> bool {
    let is_true = |value: &Expr| matches!(value, Expr::Bool { value: Value::Bool(true), .. });
    match value {
        Expr::Object { fields, .. } => fields.iter().any(|(_, key, value)| {
            let key = match key.as_ref() {
                Expr::String { value, .. } => value.as_string().map_or("", |key| key.as_ref()),
                _ => "",
            };
            matches!(key, "allowed" | "allow") && is_true(value)
        }),
        value => is_true(value),
    }
}
