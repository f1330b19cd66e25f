//! Data documents (JSON, YAML) to the one value that a policy sees as `data`.
//!
//! Documents are merged at the root of `data`. Nothing is overwritten on the way: a key that occurs twice in one
//! document, or a value that two documents disagree about, is an error, because which of the two wins could decide
//! who is let in.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::sync::Arc;

use regorus::Value;
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use crate::problem::{Place, Problem};
use crate::set::{Source, SourceKind};

/// Fractions have 53 bits: above this, not even whole numbers are told apart.
const WHOLE_MAX: f64 = 9_007_199_254_740_992.0;

/// Deepest nesting of a data document.
pub(crate) const DEPTH_MAX: usize = 32;

/// Most values in one data document. Reached first by YAML aliases that multiply (a few lines can ask for billions).
pub(crate) const VALUES_MAX: usize = 4_000_000;

/// How large a document may be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// Deepest nesting.
    pub(crate) depth_max: usize,
    /// Most values.
    pub(crate) values_max: usize,
}

/// Of a data document.
pub(crate) const DATA_BOUNDS: Bounds = Bounds { depth_max: DEPTH_MAX, values_max: VALUES_MAX };

/// Reads and merges the data documents among `sources`. Problems of all documents are reported together.
pub(crate) fn load(sources: &[Source], problems: &mut Vec<Problem>) -> Value {
    let mut documents: Vec<(&str, Value)> = Vec::new();
    for source in sources {
        let parsed = match source.kind() {
            Some(SourceKind::Json) => json(source),
            Some(SourceKind::Yaml) => yaml(source),
            _ => continue,
        };
        match parsed {
            Ok(value @ Value::Object(_)) => documents.push((&source.path, value)),
            Ok(_) => problems.push(
                Problem::error(&Place::new(&source.path, 1, 1), "data document is not an object")
                    .help("put the value under a key: the document's keys become keys of `data`"),
            ),
            Err(problem) => problems.push(problem),
        }
    }
    let mut data = Value::new_object();
    for (index, (file, document)) in documents.iter().enumerate() {
        let mut path = Vec::new();
        let mut conflicts = Vec::new();
        merge(&mut data, document, &mut path, &mut conflicts);
        for conflict in conflicts {
            let earlier = documents[..index].iter().find(|(_, document)| at(document, &conflict).is_some());
            let earlier = earlier.map_or("another document", |(file, _)| file);
            problems.push(
                Problem::error(
                    &Place::file(file),
                    format!("`data.{}` is already given by {earlier}", conflict.join(".")),
                )
                .help("keep it in one of the two documents"),
            );
        }
    }
    data
}

/// The value at a path of string keys.
pub(crate) fn at<'v>(value: &'v Value, path: &[impl AsRef<str>]) -> Option<&'v Value> {
    path.iter().try_fold(value, |value, key| match value {
        Value::Object(object) => object.get(&Value::from(key.as_ref())),
        _ => None,
    })
}

/// Reads JSON in which no key occurs twice and no number is too large to be exact.
pub(crate) fn read_json(bytes: &[u8], bounds: Bounds) -> Result<Value, serde_json::Error> {
    let mut state = State::new(bounds);
    let mut json = serde_json::Deserializer::from_slice(bytes);
    state.seed(0).deserialize(&mut json).and_then(|value| json.end().map(|()| value))
}

fn json(source: &Source) -> Result<Value, Problem> {
    read_json(&source.bytes, DATA_BOUNDS).map_err(|error| {
        let at = Place::new(&source.path, error.line() as u32, error.column() as u32);
        let message = error.to_string();
        // serde_json repeats the place at the end of its message.
        let message = message.split(" at line ").next().unwrap_or(&message).to_owned();
        Problem::error(&at, format!("invalid JSON: {message}"))
    })
}

fn yaml(source: &Source) -> Result<Value, Problem> {
    let mut state = State::new(DATA_BOUNDS);
    state.seed(0).deserialize(yaml_serde::Deserializer::from_slice(&source.bytes)).map_err(|error| {
        let place = error.location().map_or_else(
            || Place::file(&source.path),
            |at| Place::new(&source.path, at.line() as u32, at.column() as u32),
        );
        let message = error.to_string();
        let message = message.split(" at line ").next().unwrap_or(&message).to_owned();
        Problem::error(&place, format!("invalid YAML: {message}"))
    })
}

/// Adds `from` to `into`; equal values may meet, objects join, all else is a conflict at its path.
fn merge(into: &mut Value, from: &Value, path: &mut Vec<String>, conflicts: &mut Vec<Vec<String>>) {
    match (&mut *into, from) {
        (Value::Object(_), Value::Object(from)) => {
            let into = into.as_object_mut().expect("matched as an object");
            for (key, value) in from.iter() {
                path.push(key.as_string().map_or_else(|_| key.to_string(), |key| key.to_string()));
                match into.get_mut(key) {
                    Some(existing) => merge(existing, value, path, conflicts),
                    None => {
                        into.insert(key.clone(), value.clone());
                    }
                }
                path.pop();
            }
        }
        (into, from) if *into == *from => {}
        _ => conflicts.push(path.clone()),
    }
}

/// What is counted and shared while one document is read.
struct State {
    bounds: Bounds,
    values: usize,
    /// Keys of documents repeat; each is stored once.
    keys: HashSet<Arc<str>>,
}

impl State {
    fn new(bounds: Bounds) -> Self {
        Self { bounds, values: 0, keys: HashSet::new() }
    }

    fn seed(&mut self, depth: usize) -> Seed<'_> {
        Seed { state: self, depth }
    }

    fn key(&mut self, key: String) -> Arc<str> {
        match self.keys.get(key.as_str()) {
            Some(known) => Arc::clone(known),
            None => {
                let key: Arc<str> = key.into();
                self.keys.insert(Arc::clone(&key));
                key
            }
        }
    }
}

struct Seed<'s> {
    state: &'s mut State,
    depth: usize,
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        self.state.values += 1;
        let Bounds { depth_max, values_max } = self.state.bounds;
        if self.state.values > values_max {
            return Err(D::Error::custom(format!("more than {values_max} values")));
        }
        if self.depth > depth_max {
            return Err(D::Error::custom(format!("nested deeper than {depth_max}")));
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        if !value.is_finite() {
            return Err(E::custom(format!("number {value} is not finite")));
        }
        // A whole number beyond 64 bits arrives rounded: two of them could be equal here that differ in OPA.
        if value.abs() >= WHOLE_MAX {
            return Err(E::custom(format!("number {value} is too large to be exact; write it as a text")));
        }
        Ok(Value::from(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element_seed(self.state.seed(self.depth + 1))? {
            items.push(item);
        }
        Ok(Value::from(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut fields = BTreeMap::new();
        while let Some(key) = access.next_key::<String>()? {
            let key = Value::String(self.state.key(key));
            if fields.contains_key(&key) {
                return Err(A::Error::custom(format!("key {key} occurs twice")));
            }
            let value = access.next_value_seed(self.state.seed(self.depth + 1))?;
            fields.insert(key, value);
        }
        Ok(Value::from(fields))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loaded(documents: &[(&str, &str)]) -> (Value, Vec<String>) {
        let sources: Vec<Source> =
            documents.iter().map(|(path, text)| Source::new(*path, text.as_bytes())).collect();
        let mut problems = Vec::new();
        let data = load(&sources, &mut problems);
        (data, problems.iter().map(ToString::to_string).collect())
    }

    fn problem(documents: &[(&str, &str)]) -> String {
        let (_, problems) = loaded(documents);
        assert_eq!(problems.len(), 1, "{problems:?}");
        problems[0].clone()
    }

    #[test]
    fn documents_merge_at_the_root() {
        let (data, problems) = loaded(&[
            ("a.json", r#"{"roles": {"admin": ["x", 1, 1.5, null, true]}, "same": 1}"#),
            ("b.yaml", "roles:\n  reader: [\"*\"]\n  1: one\nsame: 1\n"),
        ]);
        assert_eq!(problems, [""; 0]);
        let expected =
            r#"{"roles": {"1": "one", "admin": ["x", 1, 1.5, null, true], "reader": ["*"]}, "same": 1}"#;
        assert_eq!(data, Value::from_json_str(expected).unwrap());
    }

    #[test]
    fn nothing_is_overwritten() {
        let both = problem(&[("a.json", r#"{"r": {"x": [1]}}"#), ("b.yaml", "r: {x: [2]}")]);
        assert_eq!(
            both,
            "b.yaml: error: `data.r.x` is already given by a.json\n  help: keep it in one of the two documents"
        );
        assert!(problem(&[("a.json", r#"{"r": 1}"#), ("b.json", r#"{"r": {"x": 1}}"#)]).contains("`data.r`"));
        let twice = problem(&[("a.json", "{\n\"r\": 1,\n\"r\": 2}")]);
        assert_eq!(twice, "a.json:3:3: error: invalid JSON: key \"r\" occurs twice");
        assert!(problem(&[("a.yaml", "r: 1\nx: 1\nr: 2")]).contains("key \"r\" occurs twice"));
    }

    #[test]
    fn what_is_no_document_is_refused_with_its_place() {
        assert!(
            problem(&[("a.json", "{\n\"r\": }")])
                .starts_with("a.json:2:6: error: invalid JSON: expected value")
        );
        assert!(problem(&[("a.json", "{} {}")]).contains("trailing characters"));
        assert!(problem(&[("a.json", "[1]")]).contains("not an object"));
        assert!(problem(&[("a.json", "")]).contains("invalid JSON"));
        assert!(problem(&[("a.json", "{\"a\": 1e999}")]).contains("invalid JSON"));
        assert!(problem(&[("a.yaml", "a: .inf")]).contains("not finite"));
        assert!(problem(&[("a.yaml", "a: [1")]).starts_with("a.yaml:"));
        assert!(problem(&[("a.yaml", "a: !tag x")]).contains("invalid YAML"));
        assert!(problem(&[("a.json", "{\"\\ud800\": 1}")]).contains("invalid JSON"));
    }

    #[test]
    fn depth_is_limited() {
        let nested = |depth: usize| format!("{{\"a\": {}1{}}}", "[".repeat(depth), "]".repeat(depth));
        assert_eq!(loaded(&[("a.json", &nested(DEPTH_MAX - 1))]).1, [""; 0]);
        assert!(problem(&[("a.json", &nested(DEPTH_MAX))]).contains("nested deeper than 32"));
        assert!(problem(&[("a.json", &nested(100_000))]).contains("nested deeper than 32"));
        assert!(problem(&[("a.yaml", &nested(DEPTH_MAX))]).contains("nested deeper than 32"));
        assert!(problem(&[("a.yaml", &nested(10_000))]).starts_with("a.yaml"));
    }

    #[test]
    fn yaml_aliases_cannot_multiply_without_end() {
        let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for n in 1..10 {
            let before = n - 1;
            bomb.push_str(&format!("a{n}: &a{n} [{}]\n", vec![format!("*a{before}"); 10].join(", ")));
        }
        let message = problem(&[("a.yaml", &bomb)]);
        assert!(
            message.contains("more than 4000000 values") || message.contains("repetition limit"),
            "{message}"
        );
        assert_eq!(loaded(&[("a.yaml", "a: &a [1]\nb: *a")]).1, [""; 0]);
    }
}
