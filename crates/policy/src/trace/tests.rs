use regorus::Value as RegoValue;

use super::*;
use crate::check::rules::dotted;
use crate::set::{Limits, Source};

fn set(policy: &str) -> PolicySet {
    let sources = vec![Source::new("p.rego", policy.as_bytes())];
    PolicySet::new(sources, "data.p.decision", Limits::default())
}

/// How the bodies of a policy end, in order of the text: `held`, `untried`, or the text of the condition that failed.
fn endings(rules: &str, input: &str) -> Vec<String> {
    let set = set(&format!("package p\n\nimport input.client as who\n\n{rules}\n"));
    let prepared = Prepared::of(&set).unwrap_or_else(|errors| panic!("{errors}"));
    let traced = Traced::of(&prepared, &set, false).unwrap_or_else(|error| panic!("{rules}: {error}"));
    let evaluate = |engine: &Engine| {
        let mut engine = engine.clone();
        engine.set_input(RegoValue::from_json_str(input).unwrap());
        let value = engine.eval_rule("data.p.decision".to_owned()).map_err(|error| error.to_string());
        (value, engine)
    };
    let (value, engine) = evaluate(&traced.engine);
    // The rewritten text decides as the policy does.
    assert_eq!(value, evaluate(&prepared.with_tests).0, "{rules}");
    let mut seen = Seen::default();
    seen.add(&engine);
    let bodies = traced.rules.iter().flat_map(|rule| &rule.bodies);
    bodies
        .map(|body| match body.ending(&seen) {
            Ending::Held => "held".to_owned(),
            Ending::Untried => "untried".to_owned(),
            Ending::Failed(index) => body.conditions[index].text.clone(),
        })
        .collect()
}

const ALICE: &str = r#"{"client": {"name": "alice", "verified": true, "identity": "a", "san": {"dns": ["x", "y"]}},
    "request": {"method": "GET", "path": "/a", "headers": {"h": "1"}}}"#;

#[track_caller]
fn check(rules: &str, expected: &[&str]) {
    assert_eq!(endings(&format!("default decision := false\n{rules}"), ALICE), expected, "{rules}");
}

#[test]
fn the_condition_that_failed_is_found() {
    check("decision if input.request.method == \"GET\"", &["held"]);
    check("decision if input.request.method == \"PUT\"", &["input.request.method == \"PUT\""]);
    check(
        "decision if { input.request.method == \"GET\"; input.request.path == \"/b\" }",
        &["input.request.path == \"/b\""],
    );
    check(
        "decision if {\n\tinput.request.method == \"PUT\" # a; b\n\tinput.request.path == \"/b\"\n}",
        &["input.request.method == \"PUT\""],
    );
    check("decision if not input.request.method == \"GET\"", &["not input.request.method == \"GET\""]);
    check(
        "decision if {\n\tconcat(\n\t\t\"\",\n\t\t[input.request.path, \"x\"],\n\t) == \"/ax\"\n\tfalse\n}",
        &["false"],
    );
}

#[test]
fn functions_that_ringward_provides_are_there() {
    check(
        "decision if { header(\"H\") == \"1\"; header(\"none\") == \"x\" }",
        &["header(\"none\") == \"x\""],
    );
}

/// A condition is evaluated when its variables have values, wherever in the text they get them.
#[test]
fn the_order_of_evaluation_is_not_that_of_the_text() {
    let unified =
        "decision if {\n\tname == \"w\"\n\tname = input.client.name\n\tinput.request.path == \"/b\"\n}";
    check(unified, &["input.request.path == \"/b\""]);
    check(&unified.replace("/b", "/a"), &["name == \"w\""]);
    check(
        "decision if {\n\tstartswith(x, \"z\")\n\tlower(input.client.name, x)\n}",
        &["startswith(x, \"z\")"],
    );
    check("decision if {\n\ti == 5\n\tinput.client.san.dns[i] == \"y\"\n}", &["i == 5"]);
    let table = "table := {\"b\": 1}\n";
    let rules = "decision if {\n\trow := table[input.client.identity]\n\tinput.request.method == \"GET\"\n\trow == 1\n}";
    check(&format!("{table}{rules}"), &["row := table[input.client.identity]"]);
    let rules = "decision if {\n\tzed := input.client.name\n\tabe := table[input.client.identity]\n\tzed == \"alice\"\n\tabe == 1\n}";
    check(&format!("{table}{rules}"), &["abe := table[input.client.identity]"]);
}

#[test]
fn loops_count_by_how_far_they_ever_came() {
    check("decision if { some name in input.client.san.dns; name == \"y\" }", &["held"]);
    check(
        "decision if { some name in input.client.san.dns; name != \"z\"; name == \"w\" }",
        &["name == \"w\""],
    );
    check("decision if { some name in []; name == \"w\" }", &["some name in []"]);
    check("decision if { some i; input.client.san.dns[i] == \"y\"; i == 0 }", &["i == 0"]);
    check("decision if { input.client.san.dns[_] == \"w\" }", &["input.client.san.dns[_] == \"w\""]);
    check(
        "decision if { every name in input.client.san.dns { name != \"y\" } }",
        &["every name in input.client.san.dns { name != \"y\" }"],
    );
    check(
        "decision if { tag := \"y\"; count([n | some n in input.client.san.dns; n != tag]) == 2 }",
        &["count([n | some n in input.client.san.dns; n != tag]) == 2"],
    );
}

#[test]
fn what_a_rule_leads_to_is_followed() {
    check(
        "decision if f(input.request.path)\nf(path) if path == \"/b\"\nf(\"/c\") if { 1 == 1 }",
        &["f(input.request.path)", "path == \"/b\"", "untried"],
    );
    check(
        "decision if count(s) == 1\ns contains x if some x in input.client.san.dns\ns contains 3 if false",
        &["count(s) == 1", "held", "false"],
    );
    check(
        "decision if g.b\ng.a := true if 1 == 1\ng.b := true if who.name == \"bob\"",
        &["g.b", "untried", "who.name == \"bob\""],
    );
    let chain = "decision := {\"allowed\": true} if {\n\tfalse\n} else := {\"allowed\": true} if input.request.path == \"/a\" else := false if true";
    check(chain, &["false", "held", "untried"]);
    let last = "decision if {\n\tfalse\n} else := input.client.verified";
    check(last, &["false", "held"]);
    check(&last.replace("false", "true"), &["held", "untried"]);
    check(
        "decision if { input.request.path == \"/a\" with input.request.path as \"/b\" }",
        &["input.request.path == \"/a\" with input.request.path as \"/b\""],
    );
}

/// A name of a comprehension may be that of a variable of the body, or that of a rule.
#[test]
fn names_that_are_shadowed() {
    check("decision if { count({n | n := 1}) == 2; n := 1; n == 1 }", &["count({n | n := 1}) == 2"]);
    check("decision if { r := input.client.name; count([r | r]) == 3 }\nr := 1", &["count([r | r]) == 3"]);
}

#[test]
fn fields_that_a_condition_depends_on() {
    let set = set(
        "package p\n\nimport input.client as who\n\ndefault decision := false\n\ndecision if {\n\tvalue := object.get(input.request.headers, \"h\", \"\")\n\tfound := [value, who.name]\n\tunder(\"/x\")\n\tfound == [\"2\"]\n}\n\nunder(prefix) if startswith(input.request.path, prefix)\n",
    );
    let traced = Traced::of(&Prepared::of(&set).unwrap(), &set, false).unwrap();
    let rule =
        traced.rules.iter().find(|rule| dotted(&rule.path) == "data.p.decision" && !rule.bodies.is_empty());
    let inputs = |index: usize| {
        let condition = &rule.unwrap().bodies[0].conditions[index];
        condition.inputs.iter().map(|path| path.join(".")).collect::<Vec<_>>()
    };
    assert_eq!(inputs(2), ["request.path"]);
    assert_eq!(inputs(3), ["client.name", "request.headers"]);
}

#[test]
fn a_pattern_with_wildcards() {
    check(
        "decision if open({\"from\": 1})\nopen(window) if {\n\tnow := [1, 2]\n\t[hour, _, _] := [now[1], 1, 1]\n\thour >= window.from\n}",
        &["held", "held"],
    );
}
