use serde_json::json;

use super::*;
use crate::explain::Outcome;
use crate::input::given::complete_input;
use crate::input::shape::InputShape;
use crate::set::{Limits, Source};

const POLICY: &str = "package p

import data.q

default decision := {\"allowed\": false, \"rule\": \"default\"}

decision := {\"allowed\": false, \"rule\": \"blocked\", \"reason\": \"not you\"} if {
	input.client.spiffe_id in {\"spiffe://example.com/x\"}
} else := {\"allowed\": true, \"rule\": \"readers\"} if {
	q.reader; under(\"/docs\")
}

under(prefix) if startswith(input.request.path, prefix)

unrelated if input.request.path == \"/\"
";

const MORE: &str = "package q

reader if {
	row := data.readers[input.client.tenant]
	input.request.method == \"GET\"
	row.active
}
";

fn set() -> PolicySet {
    let sources = vec![
        Source::new("p.rego", POLICY.as_bytes()),
        Source::new("q.rego", MORE.as_bytes()),
        Source::new("data.json", b"{\"readers\": {\"shop\": {\"active\": true}}}".as_slice()),
    ];
    let limits = Limits { time_budget: Duration::from_secs(10), ..Limits::default() };
    PolicySet::new(sources, "data.p.decision", limits)
}

fn evaluated(given: &Json) -> Evaluated {
    let input = complete_input(InputShape::Native, given).unwrap();
    evaluate(&set(), &Evaluation { input, explain: true }).unwrap_or_else(|errors| panic!("{errors}"))
}

/// Each body as `line: outcome`, with line, text and input of the failed condition.
fn told(evaluated: &Evaluated) -> Vec<String> {
    let rules = &evaluated.explanation.as_ref().unwrap().rules;
    let bodies = rules.iter().flat_map(|rule| &rule.bodies);
    bodies
        .map(|body| match (&body.outcome, &body.failed) {
            (Outcome::Failed, Some(failed)) => {
                let input = serde_json::to_string(&failed.input).unwrap();
                format!(
                    "{}:{}: {}:{} {} {input}",
                    body.file, body.line, failed.line, failed.column, failed.text
                )
            }
            (outcome, _) => format!("{}:{}: {outcome:?}", body.file, body.line),
        })
        .collect()
}

#[test]
fn an_allowed_request_is_explained() {
    let evaluated = evaluated(&json!({
        "client": { "tenant": "shop" },
        "request": { "method": "GET", "path": "/docs/1" },
    }));
    assert_eq!((evaluated.decision.as_str(), evaluated.rule.as_deref()), ("allowed", Some("readers")));
    assert_eq!(evaluated.result, Some(json!({ "allowed": true, "rule": "readers" })));
    assert_eq!(
        told(&evaluated),
        [
            "p.rego:7: 8:2 input.client.spiffe_id in {\"spiffe://example.com/x\"} {\"client.spiffe_id\":\"\"}",
            "p.rego:9: Held",
            "p.rego:13: Held",
            "q.rego:3: Held",
        ]
    );
    let rules = evaluated.explanation.unwrap().rules;
    let names: Vec<_> = rules.iter().map(|rule| (rule.rule.as_str(), rule.function)).collect();
    assert_eq!(names, [("data.p.decision", false), ("data.p.under", true), ("data.q.reader", false)]);
    assert_eq!(rules[0].bodies[1].head, "else := {\"allowed\": true, \"rule\": \"readers\"}");
}

#[test]
fn a_denied_request_is_explained_down_to_the_condition() {
    let told_of = |tenant: &str, path: &str| {
        let evaluated = evaluated(&json!({ "client": { "tenant": tenant }, "request": { "path": path } }));
        assert_eq!((evaluated.decision.as_str(), evaluated.rule.as_deref()), ("denied", Some("default")));
        told(&evaluated).split_off(1)
    };
    assert_eq!(
        told_of("shop", "/else"),
        [
            "p.rego:9: 10:12 under(\"/docs\") {\"request.path\":\"/else\"}",
            "p.rego:13: 13:18 startswith(input.request.path, prefix) {\"request.path\":\"/else\"}",
            "q.rego:3: Held",
        ]
    );
    assert_eq!(
        told_of("other", "/docs"),
        [
            "p.rego:9: 10:2 q.reader {}",
            "p.rego:13: NotTried",
            "q.rego:3: 4:2 row := data.readers[input.client.tenant] {\"client.tenant\":\"other\"}",
        ]
    );
}

#[test]
fn what_follows_the_body_that_held_was_not_tried() {
    let evaluated = evaluated(&json!({ "client": { "spiffe_id": "spiffe://example.com/x" } }));
    assert_eq!((evaluated.decision.as_str(), evaluated.reason.as_deref()), ("denied", Some("not you")));
    let told = told(&evaluated);
    assert_eq!(told[..2], ["p.rego:7: Held", "p.rego:9: NotTried"]);
}

#[test]
fn what_is_no_decision_is_told_apart() {
    let of = |rules: &str| {
        let policy = format!("package p\n\n{rules}\n");
        let set = PolicySet::new(
            vec![Source::new("p.rego", policy.as_bytes())],
            "data.p.decision",
            Limits::default(),
        );
        let input = complete_input(InputShape::Native, &json!({})).unwrap();
        evaluate(&set, &Evaluation { input, explain: false }).unwrap()
    };
    let undefined = of("decision if input.request.method == \"PUT\"");
    assert_eq!(
        (undefined.decision.as_str(), undefined.result, undefined.explanation),
        ("undefined", None, None)
    );
    let error = of("decision := x if x := {\"allowed\": 1}");
    assert_eq!(error.decision, "error");
    assert!(error.error.unwrap().contains("allowed"));
    assert_eq!(error.result, Some(json!({ "allowed": 1 })));
    let broken = of("default decision := false\ndecision if to_number(input.request.path) == 1");
    assert_eq!((broken.decision.as_str(), broken.result), ("error", None));
    assert!(broken.error.unwrap().contains("p.rego:4:"));
}

#[test]
fn a_bad_policy_is_refused() {
    let set = PolicySet::new(
        vec![Source::new("p.rego", b"package p".as_slice())],
        "data.p.decision",
        Limits::default(),
    );
    let input = complete_input(InputShape::Native, &json!({})).unwrap();
    assert!(evaluate(&set, &Evaluation { input: input.clone(), explain: true }).is_err());
    assert!(measure(&set, &Measurement { input, duration: Duration::ZERO }).is_err());
}

#[test]
fn the_time_budget_of_requests_counts() {
    let policy = "package p\n\ndefault decision := false\n\ndecision if count([1 | some i in numbers.range(1, 9000); some j in numbers.range(1, 9000); i == j]) > 0\n";
    let limits = Limits { time_budget: Duration::from_millis(1), ..Limits::default() };
    let set = PolicySet::new(vec![Source::new("p.rego", policy.as_bytes())], "data.p.decision", limits);
    let input = complete_input(InputShape::Native, &json!({})).unwrap();
    let evaluated = evaluate(&set, &Evaluation { input, explain: false }).unwrap();
    assert_eq!(evaluated.error, Some(DecisionError::TimeBudget.to_string()));
}

#[test]
fn reasons_of_another_decision_are_not_given() {
    let set = set();
    let prepared = Prepared::of(&set).unwrap();
    let input = value(&complete_input(InputShape::Native, &json!({})).unwrap()).unwrap();
    assert!(follow(&prepared, &set, &input, "denied").is_ok());
    let error = follow(&prepared, &set, &input, "allowed").unwrap_err();
    assert!(error.to_string().contains("decides otherwise"), "{error}");
}
