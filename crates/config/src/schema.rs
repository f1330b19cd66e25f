//! The JSON Schema of the file, made from the [`crate::raw`] types and their docs.
//!
//! It knows names, types and words, and nothing of bounds and of what belongs together: whatever it refuses [`crate::parse`]
//! refuses, and more.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::Value;

use crate::raw::{
    Count, CountOrWord, DateTime, DurationText, Field, File, OneOrMany, OneOrMore, SizeText, WordOrTable,
};

/// The schema, for editors and other tools.
pub fn json_schema() -> Value {
    schemars::schema_for!(File).to_value()
}

/// Schemas that stand where they are used: what they describe has no name of its own.
macro_rules! inline {
    ($type:ty $(, $parameter:ident)?; $name:literal, $generator:ident => $schema:expr) => {
        impl$(<$parameter: JsonSchema>)? JsonSchema for $type {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                $name.into()
            }

            fn json_schema($generator: &mut SchemaGenerator) -> Schema {
                $schema
            }
        }
    };
}

inline!(Field<T>, T; "value", generator => generator.subschema_for::<T>());
inline!(DurationText; "duration", _generator => json_schema!({ "type": "string" }));
inline!(SizeText; "size", _generator => json_schema!({ "type": "string" }));
inline!(DateTime; "moment", _generator => json_schema!({ "type": "string", "format": "date-time" }));
inline!(Count; "count", _generator => json_schema!({ "type": "integer", "minimum": 0 }));
inline!(CountOrWord; "count or word", _generator => json_schema!({ "type": ["integer", "string"], "minimum": 0 }));
inline!(OneOrMany; "one or many", _generator => json_schema!({
    "type": ["string", "array"], "items": { "type": "string" },
}));
inline!(OneOrMore<T>, T; "one or more", generator => {
    let one = generator.subschema_for::<T>();
    json_schema!({ "anyOf": [one, { "type": "array", "items": one }] })
});
inline!(WordOrTable<T>, T; "word or table", generator => {
    let table = generator.subschema_for::<T>();
    json_schema!({ "anyOf": [{ "type": "string" }, table] })
});

/// What the reference says of a key or a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The keys that lead there, without the names that the file gives, such as `cluster.health_check.interval`.
    pub path: String,
    /// Of a table, how it is begun: `[cluster.NAME]`.
    pub heading: Option<String>,
    /// What it means, in the words of [`crate::raw`].
    pub doc: String,
}

/// All tables, each followed by its keys, and then by the tables in it.
pub fn reference() -> Vec<Entry> {
    let schema = json_schema();
    let mut entries = Vec::new();
    Walk { schema: &schema, entries: &mut entries }.table(&schema, "", "");
    entries
}

struct Walk<'a> {
    schema: &'a Value,
    entries: &'a mut Vec<Entry>,
}

/// A table that a key stands for.
struct Table<'a> {
    schema: &'a Value,
    /// What stands behind the key in its heading.
    suffix: &'static str,
    is_list: bool,
}

impl<'a> Walk<'a> {
    /// Adds what stands in a table; `name` is that of its heading.
    fn table(&mut self, table: &'a Value, path: &str, name: &str) {
        let Some(keys) = table["properties"].as_object() else { return };
        let join =
            |front: &str, key: &str| if front.is_empty() { key.to_owned() } else { format!("{front}.{key}") };
        let mut tables = Vec::new();
        for (key, schema) in keys {
            let path = join(path, key);
            let found = self.find(schema);
            // Tables of the first level have headings of their own, below.
            if found.is_none() || !name.is_empty() {
                self.entries.push(Entry { path, heading: None, doc: doc(schema) });
            }
            tables.extend(found.map(|found| (key, found)));
        }
        for (key, Table { schema, suffix, is_list }) in tables {
            // What stands apart is the table that stands below another.
            let stands_apart = name.is_empty() && APART.contains(&key.as_str());
            let (path, name) = (join(path, key), join(name, key) + suffix);
            let heading = if is_list { format!("[[{name}]]") } else { format!("[{name}]") };
            self.entries.push(Entry { path: path.clone(), heading: Some(heading), doc: doc(schema) });
            if stands_apart {
                continue;
            }
            self.table(schema, &path, &name);
        }
    }

    /// The table that is meant by a schema, if it is one or may be one.
    fn find(&self, schema: &'a Value) -> Option<Table<'a>> {
        let schema = self.resolve(schema);
        if schema["properties"].is_object() {
            return Some(Table { schema, suffix: "", is_list: false });
        }
        if let Some(choices) = schema["anyOf"].as_array() {
            // Of one table or a list of them, the one.
            return choices.iter().find_map(|choice| self.find(choice));
        }
        if schema["items"].is_object() {
            return self.find(&schema["items"]).map(|table| Table { is_list: true, ..table });
        }
        let named = &schema["additionalProperties"];
        if named.is_object() {
            self.find(named).map(|table| Table { suffix: ".NAME", ..table })
        } else {
            None
        }
    }

    /// Follows a reference to a definition.
    fn resolve(&self, schema: &'a Value) -> &'a Value {
        let Some(reference) = schema["$ref"].as_str() else { return schema };
        let name = reference.trim_start_matches("#/$defs/");
        // Of what has to be encoded in a reference, our names have brackets and blanks.
        let name = name.replace("%5B", "[").replace("%5D", "]").replace("%20", " ");
        &self.schema["$defs"][&name]
    }
}

/// Tables that stand below listeners, too, where their keys are told.
const APART: [&str; 2] = ["host", "route"];

fn doc(schema: &Value) -> String {
    schema["description"].as_str().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// The paths of all keys of a file.
    fn paths(value: &toml::Value, schema_path: &str, known: &BTreeSet<&str>, found: &mut BTreeSet<String>) {
        match value {
            toml::Value::Table(table) => {
                for (key, value) in table {
                    let path =
                        if schema_path.is_empty() { key.clone() } else { format!("{schema_path}.{key}") };
                    // A name that the file gives is no key.
                    let path = if known.contains(&*path) { path } else { schema_path.to_owned() };
                    found.insert(path.clone());
                    if path == schema_path && !is_named(&path) {
                        found.insert(format!("{path}: {key}"));
                    }
                    paths(value, &path, known, found);
                }
            }
            toml::Value::Array(items) => items.iter().for_each(|item| paths(item, schema_path, known, found)),
            _ => {}
        }
    }

    /// In these a key is a name.
    const NAMED: [&str; 8] = [
        "trust",
        "tenant",
        "policy",
        "cluster",
        "listener.host.route.labels",
        "listener.host.route.split.weights",
        "listener.host.route.match.headers",
        "listener.host.route.match.query",
    ];

    fn is_named(path: &str) -> bool {
        NAMED.contains(&path) || path.ends_with("_headers.set") || path.ends_with("_headers.append")
    }

    #[test]
    fn every_key_of_the_sample_is_in_the_reference_with_its_doc() {
        let entries = reference();
        let known: BTreeSet<&str> = entries.iter().map(|entry| &*entry.path).collect();
        let sample: toml::Value = toml::from_str(include_str!("../tests/sample.toml")).unwrap();
        let mut found = BTreeSet::new();
        paths(&sample, "", &known, &mut found);
        let words = |path: &str| {
            ["log.access", "listener.host.certificate.staple", "listener.host.route.split.by"]
                .iter()
                .any(|enumeration| path.starts_with(enumeration))
        };
        let missing: Vec<_> = found.iter().filter(|path| !known.contains(&***path) && !words(path)).collect();
        assert!(missing.is_empty(), "{missing:?}");
        assert!(found.len() > 150, "{}", found.len());
        for entry in &entries {
            assert!(!entry.doc.is_empty(), "{} has no doc", entry.path);
        }
    }

    #[test]
    fn tables_have_the_headings_of_the_file() {
        let entries = reference();
        let heading = |path: &str| {
            entries.iter().find_map(|entry| entry.heading.as_deref().filter(|_| entry.path == path))
        };
        for (path, expected) in [
            ("server", "[server]"),
            ("cluster", "[cluster.NAME]"),
            ("cluster.health_check", "[cluster.NAME.health_check]"),
            ("policy.server", "[policy.NAME.server]"),
            ("tenant.match", "[[tenant.NAME.match]]"),
            ("listener", "[[listener]]"),
            ("listener.tls", "[listener.tls]"),
            ("listener.host.certificate", "[listener.host.certificate]"),
            ("listener.host.route.match", "[listener.host.route.match]"),
        ] {
            assert_eq!(heading(path), Some(expected), "{path}");
        }
        assert_eq!(heading("listener.host.route.labels"), None, "its keys are no keys of ours");
        let interval = entries.iter().find(|entry| entry.path == "cluster.health_check.interval").unwrap();
        assert!(interval.doc.contains("Default `\"5s\"`"), "{}", interval.doc);
    }

    #[test]
    fn the_schema_refuses_unknown_keys() {
        let schema = json_schema();
        assert_eq!(schema["additionalProperties"], false);
        for (name, definition) in schema["$defs"].as_object().unwrap() {
            assert!(
                definition["properties"].is_null() || definition["additionalProperties"] == false,
                "{name}"
            );
        }
    }
}
