//! Compares Ringward with OPA on the cases of `tests/opa`, whose answers are OPA's own (`tests/opa/generate.py`).
//!
//! Where OPA does not allow, Ringward must not; no list can excuse that. Every other difference has its line in
//! `DIFFERENCES.md`, under the heading of its kind.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use regorus::Value;
use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::compile::Prepared;
use crate::input::shape::InputShape;
use crate::rego;
use crate::set::{Limits, PolicySet, Source};

const CASES: &[(&str, &str)] = &[
    ("collections", include_str!("../tests/opa/cases/collections.cases")),
    ("comparison", include_str!("../tests/opa/cases/comparison.cases")),
    ("envoy", include_str!("../tests/opa/cases/envoy.cases")),
    ("formats", include_str!("../tests/opa/cases/formats.cases")),
    ("iteration", include_str!("../tests/opa/cases/iteration.cases")),
    ("kong", include_str!("../tests/opa/cases/kong.cases")),
    ("negation", include_str!("../tests/opa/cases/negation.cases")),
    ("numbers", include_str!("../tests/opa/cases/numbers.cases")),
    ("operands", include_str!("../tests/opa/cases/operands.cases")),
    ("patterns", include_str!("../tests/opa/cases/patterns.cases")),
    ("rules", include_str!("../tests/opa/cases/rules.cases")),
    ("strings", include_str!("../tests/opa/cases/strings.cases")),
    ("undefined", include_str!("../tests/opa/cases/undefined.cases")),
];

const ANSWERS: &str = include_str!("../tests/opa/answers.json");

const DIFFERENCES: &str = include_str!("../DIFFERENCES.md");

#[derive(Deserialize)]
struct Answers {
    answers: BTreeMap<String, Entry>,
}

#[derive(Deserialize)]
struct Entry {
    answer: Answer,
    sha256: String,
}

/// What came out of a case, in OPA or here.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Answer {
    /// The policy was not loaded.
    Refused,
    /// It was, and its evaluation failed.
    Error,
    Undefined,
    Value(serde_json::Value),
}

impl Answer {
    /// Whether this allows something that OPA does not: a decision, or `true` in a place of a list.
    fn allows_beyond(&self, opa: &Self) -> bool {
        let Self::Value(ours) = self else { return false };
        let opa = if let Self::Value(opa) = opa { opa } else { &serde_json::Value::Null };
        allows_beyond(ours, opa)
    }
}

fn allows_beyond(ours: &serde_json::Value, opa: &serde_json::Value) -> bool {
    use serde_json::Value::{Array, Bool, Object};
    match ours {
        Bool(true) => *opa != Bool(true),
        Array(ours) => (0..ours.len()).any(|at| allows_beyond(&ours[at], &opa[at])),
        Object(ours) => ["allowed", "allow"]
            .iter()
            .any(|name| ours.get(*name).is_some_and(|allowed| allows_beyond(allowed, &opa[*name]))),
        _ => false,
    }
}

/// How Ringward's answer differs; each has a heading in `DIFFERENCES.md`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Refused,
    Error,
    Result,
}

impl Kind {
    fn of(heading: &str) -> Option<Self> {
        match heading {
            "Refused when the policy is loaded" => Some(Self::Refused),
            "An error, which denies" => Some(Self::Error),
            "Another result" => Some(Self::Result),
            _ => None,
        }
    }
}

struct Case {
    name: String,
    text: &'static str,
}

fn cases() -> Vec<Case> {
    let sections = |(file, text): &(&str, &'static str)| -> Vec<Case> {
        let case = |section: &'static str| {
            let (name, text) = section.split_once('\n').unwrap();
            Case { name: format!("{file}/{}", name.trim()), text: text.trim() }
        };
        text.split("### ").skip(1).map(case).collect()
    };
    CASES.iter().flat_map(sections).collect()
}

impl Case {
    fn document(&self, kind: &str) -> Value {
        let prefix = format!("# {kind} ");
        let json = self.text.lines().find_map(|line| line.strip_prefix(&prefix));
        Value::from_json_str(json.unwrap_or("{}")).unwrap()
    }

    /// What Ringward makes of it: all checks of a policy set, then the evaluation.
    fn answer(&self) -> (Answer, String) {
        let asks_for_value = self.text.lines().any(|line| line.starts_with("value"));
        let mut text = format!("package p\n{}\n", self.text);
        if asks_for_value {
            // Every policy has a deciding rule.
            let end = text.find("\npackage ").unwrap_or(text.len());
            text.insert_str(end, "\ndefault allow := false\n");
        }
        let mut sources =
            vec![Source::new("data.json", self.document("data").to_json_str().unwrap().as_bytes())];
        for (index, module) in text.split("\npackage ").enumerate() {
            let module = if index == 0 { module.to_owned() } else { format!("package {module}") };
            sources.push(Source::new(format!("{index}.rego"), module.as_bytes()));
        }
        let shape = self.text.lines().find_map(|line| line.strip_prefix("# shape "));
        let shape = shape.map_or(InputShape::Native, |name| name.parse().unwrap());
        let set = PolicySet::new(sources, "data.p.allow", Limits::default()).with_input(shape);
        let prepared = match Prepared::of(&set) {
            Ok(prepared) => prepared,
            Err(errors) => return (Answer::Refused, errors.to_string()),
        };
        let mut engine = prepared.with_tests;
        // Patient: the outcome may not depend on how busy the machine is.
        rego::set_time_budget(&mut engine, Duration::from_secs(10));
        engine.set_input(self.document("input"));
        let rule = if asks_for_value { "data.p.value" } else { "data.p.allow" };
        // As when requests are decided: a panic is an error.
        let Ok(result) = catch_unwind(AssertUnwindSafe(|| engine.eval_rule(rule.to_owned()))) else {
            return (Answer::Error, "panic".to_owned());
        };
        match result {
            Err(error) => (Answer::Error, rego::evaluation_error(&error.to_string()).to_string()),
            Ok(Value::Undefined) => (Answer::Undefined, String::new()),
            Ok(value) => {
                (Answer::Value(serde_json::from_str(&value.to_json_str().unwrap()).unwrap()), String::new())
            }
        }
    }
}

/// Equal as JSON; numbers by their value, since `1.0` may be written `1`.
fn same(a: &serde_json::Value, b: &serde_json::Value) -> bool {
    use serde_json::Value::{Array, Number, Object};
    match (a, b) {
        (Number(a), Number(b)) if a.is_f64() || b.is_f64() => a.as_f64() == b.as_f64(),
        (Array(a), Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Object(a), Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| same(a, b)))
        }
        _ => a == b,
    }
}

fn difference(opa: &Answer, ours: &Answer) -> Option<Kind> {
    match (opa, ours) {
        (Answer::Value(opa), Answer::Value(ours)) => (!same(opa, ours)).then_some(Kind::Result),
        (Answer::Refused, Answer::Error) | (Answer::Error, Answer::Refused) => None,
        (opa, ours) if opa == ours => None,
        (_, Answer::Refused) => Some(Kind::Refused),
        (_, Answer::Error) => Some(Kind::Error),
        (_, Answer::Undefined | Answer::Value(_)) => Some(Kind::Result),
    }
}

/// The cases that `DIFFERENCES.md` lists: in backticks within brackets at the end of a line. A name may end with `*`.
fn listed(names: &BTreeSet<&str>) -> BTreeMap<String, Kind> {
    let mut listed = BTreeMap::new();
    let mut kind = None;
    for line in DIFFERENCES.lines() {
        if let Some(heading) = line.strip_prefix("## ") {
            kind = Kind::of(heading);
        }
        let Some((_, cases)) = line.strip_suffix(']').and_then(|line| line.rsplit_once('[')) else {
            continue;
        };
        for case in cases.split(", ").map(|case| case.trim_matches('`')) {
            let kind = kind.unwrap_or_else(|| panic!("{case} is listed under no kind"));
            let prefix = case.strip_suffix('*');
            let meant = |name: &&&str| prefix.map_or(**name == case, |prefix| name.starts_with(prefix));
            let meant: Vec<&str> = names.iter().filter(meant).copied().collect();
            assert!(!meant.is_empty(), "{case} is listed and no case");
            for name in meant {
                assert_eq!(listed.insert(name.to_owned(), kind), None, "{name} is listed twice");
            }
        }
    }
    listed
}

#[test]
fn ringward_never_allows_where_opa_does_not_and_differs_where_it_says() {
    let answers: Answers = serde_json::from_str(ANSWERS).unwrap();
    let mut wrong = String::new();
    let cases = cases();
    let names: BTreeSet<&str> = cases.iter().map(|case| case.name.as_str()).collect();
    assert_eq!(names.len(), cases.len(), "a name occurs twice");
    let listed = listed(&names);
    assert!(answers.answers.keys().map(String::as_str).eq(names.iter().copied()), "run generate.py");
    for case in &cases {
        let entry = &answers.answers[&case.name];
        let digest: String = Sha256::digest(case.text).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(digest, entry.sha256, "{} has changed: run generate.py", case.name);
        let (ours, message) = case.answer();
        let opa = &entry.answer;
        let found = difference(opa, &ours);
        let expected = listed.get(&case.name).copied();
        if ours.allows_beyond(opa) {
            writeln!(wrong, "{} ALLOWS: OPA {opa:?}, Ringward {ours:?}", case.name).unwrap();
        } else if found != expected {
            writeln!(
                wrong,
                "{} {found:?}, listed {expected:?}: OPA {opa:?}, Ringward {ours:?} {message}",
                case.name
            )
            .unwrap();
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}
