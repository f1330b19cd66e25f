//! The schema that policies and entities are checked by: the native input as the type of the context, and the entity types that
//! requests are made of, with what the operator's own schema says of these.

use std::collections::BTreeSet;

use cedar_policy::{Schema, SchemaFragment};
use serde_json::{Map, Value as Json, json};

use crate::cedar::{beginning, place_of, scan, text_of};
use crate::input::schema::{Field, INPUT, Kind};
use crate::problem::{Place, Problem};
use crate::set::Source;

/// The namespace of everything that Ringward knows.
pub(super) const NAMESPACE: &str = "Ringward";

/// Methods that are actions of their own: RFC 9110 §9.3 and RFC 5789. [`OTHER`] is every other.
pub(super) const METHODS: &[&str] =
    &["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"];

/// The action of a request with any other method. It is declared, so that the types of policies are checked for it too.
pub(super) const OTHER: &str = "OTHER";

/// The client's address as a value of Cedar's own type, which policies cannot make of the text: `ip(...)` takes literals only, so that
/// no request can make it fail.
pub(super) const ADDRESS_IP: [&str; 2] = ["connection", "remote_ip"];
/// The text that it is made of.
pub(super) const ADDRESS: [&str; 2] = ["connection", "remote_addr"];

/// Names of attributes that there may be.
#[derive(Debug, Default)]
pub(super) struct Attributes {
    pub(super) client: BTreeSet<String>,
    pub(super) route: BTreeSet<String>,
    pub(super) action: BTreeSet<String>,
    /// Of anything, the context and what is in it too.
    pub(super) any: BTreeSet<String>,
}

impl Attributes {
    fn of(namespaces: &Map<String, Json>) -> Self {
        let types = &namespaces[NAMESPACE]["entityTypes"];
        let of_type = |name: &str| names_in(&types[name]["shape"]["attributes"]);
        let (client, route) = (of_type("Client"), of_type("Route"));
        let (mut any, mut left) = (BTreeSet::new(), namespaces.values().collect::<Vec<_>>());
        while let Some(next) = left.pop() {
            any.extend(names_in(&next["attributes"]));
            match next {
                Json::Object(object) => left.extend(object.values()),
                Json::Array(items) => left.extend(items),
                _ => {}
            }
        }
        Self { client, route, action: BTreeSet::new(), any }
    }
}

fn names_in(attributes: &Json) -> BTreeSet<String> {
    attributes.as_object().into_iter().flatten().map(|(name, _)| name.clone()).collect()
}

/// The schema for policies that take these paths into the context, and the attributes in it. `own` is the operator's.
pub(super) fn schema<'p>(
    own: Option<&Source>,
    paths: impl Iterator<Item = &'p [String]> + Clone,
    problems: &mut Vec<Problem>,
) -> Option<(Schema, Attributes)> {
    let mut namespaces = match own {
        Some(source) => namespaces(source, problems)?,
        None => Map::new(),
    };
    let mut types = json!({
        "Anonymous": {},
        "Client": { "memberOfTypes": ["Group"] },
        "Group": { "memberOfTypes": ["Group"] },
        "Route": { "memberOfTypes": ["Group"] },
    });
    if let Some(own) = namespaces.remove(NAMESPACE) {
        for (name, declared) in own["entityTypes"].as_object().into_iter().flatten() {
            types[name] = declared.clone();
        }
    }
    let context = record(INPUT, &mut Vec::new(), &paths);
    let action = json!({ "appliesTo": {
        "principalTypes": ["Client", "Anonymous"],
        "resourceTypes": ["Route"],
        "context": context,
    } });
    let actions: Map<_, _> =
        METHODS.iter().chain([&OTHER]).map(|method| ((*method).to_owned(), action.clone())).collect();
    namespaces.insert(NAMESPACE.to_owned(), json!({ "entityTypes": types, "actions": actions }));
    let attributes = Attributes::of(&namespaces);
    match Schema::from_json_value(namespaces.into()) {
        Ok(schema) => Some((schema, attributes)),
        Err(error) => {
            // Only what the operator wrote can be wrong: a type that there is not.
            let at = own.map_or_else(Place::default, |source| beginning(&source.path));
            let problem = place_of(&error, &at, None);
            problems.push(match own {
                Some(source) => at_its_name(problem, text_of(source).unwrap_or_default()),
                None => problem,
            });
            None
        }
    }
}

/// What the operator's schema declares, by namespace.
fn namespaces(source: &Source, problems: &mut Vec<Problem>) -> Option<Map<String, Json>> {
    let at = beginning(&source.path);
    let text = text_of(source).map_err(|problem| problems.push(problem)).ok()?;
    if let Some(problem) = scan::scan_schema(&source.path, text) {
        problems.push(problem);
        return None;
    }
    let json = match SchemaFragment::from_cedarschema_str(text) {
        Ok((fragment, _)) => fragment.to_json_value().map_err(|error| place_of(&error, &at, None)),
        Err(error) => Err(place_of(&error, &at, Some(text))),
    };
    let namespaces = match json {
        Ok(Json::Object(namespaces)) => namespaces,
        Ok(_) => Map::new(),
        Err(problem) => {
            problems.push(problem);
            return None;
        }
    };
    let mut refused = Vec::new();
    for (name, declared) in &namespaces {
        if declared["actions"].as_object().is_some_and(|actions| !actions.is_empty()) {
            refused.push((
                "the schema declares an `action`, and those are the methods of requests".to_owned(),
                "remove them",
            ));
        }
        if name.starts_with("Ringward::") {
            refused.push((format!("`{name}` is a namespace of Ringward's"), "choose another name"));
        }
    }
    bounds(&namespaces, &mut refused);
    if let Some(declared) = namespaces.get(NAMESPACE) {
        judge(declared, &mut refused);
    }
    let problem = |(message, help): &(String, &'static str)| {
        at_its_name(Problem::error(&at, message).help(*help), text)
    };
    problems.extend(refused.iter().map(problem));
    refused.is_empty().then_some(namespaces)
}

/// A problem without a place of its own, at the first thing outside of comments that it names: between backticks, or at its end.
fn at_its_name(problem: Problem, text: &str) -> Problem {
    let is_part = |character: char| character.is_alphanumeric() || character == '_';
    let quoted = problem.message.split('`').skip(1).step_by(2);
    let last = problem.message.rsplit([' ', '\n']).next();
    let named =
        quoted.chain(last).filter_map(|name| name.rsplit("::").next()).filter(|name| !name.is_empty());
    let offset = named.filter(|name| name.chars().all(is_part)).find_map(|name| {
        let mut found = text.match_indices(name).map(|(at, _)| at);
        found.find(|at| {
            let (before, behind) = (&text[..*at], &text[at + name.len()..]);
            let line = before.rsplit('\n').next().unwrap_or_default();
            !before.ends_with(is_part) && !behind.starts_with(is_part) && !line.contains("//")
        })
    });
    match offset.map(|offset| scan::place(&problem.file, text, offset)) {
        Some(Place { line, column, .. }) => Problem { line, column, ..problem },
        None => problem,
    }
}

/// What bounds the depth of types, and how long it takes to find out which may be in which.
fn bounds(namespaces: &Map<String, Json>, refused: &mut Vec<(String, &'static str)>) {
    let entity_types: usize =
        namespaces.values().filter_map(|declared| declared["entityTypes"].as_object()).map(Map::len).sum();
    if entity_types > ENTITY_TYPES_MAX {
        let message = format!("there are {entity_types} types of entities, more than {ENTITY_TYPES_MAX}");
        refused.push((message, "tell entities apart by attributes"));
    }
    let common: Vec<_> =
        namespaces.values().filter_map(|declared| declared["commonTypes"].as_object()).flatten().collect();
    let names: BTreeSet<&str> = common.iter().map(|(name, _)| name.as_str()).collect();
    // Each could hold the other twice, and that the next.
    for (name, declared) in common {
        if let Some(other) = mentioned(declared, &names) {
            let message = format!("type `{name}` is made of type `{other}`");
            refused.push((message, "write out what it holds: types may not be made of one another"));
        }
    }
}

/// A type among these that a type mentions.
fn mentioned<'t>(declared: &Json, types: &BTreeSet<&'t str>) -> Option<&'t str> {
    match declared {
        Json::String(name) => {
            let last = name.rsplit("::").next().unwrap_or_default();
            types.get(last).copied()
        }
        Json::Array(items) => items.iter().find_map(|item| mentioned(item, types)),
        Json::Object(fields) => fields
            .iter()
            .filter(|(key, _)| *key != "annotations")
            .find_map(|(_, field)| mentioned(field, types)),
        _ => None,
    }
}

/// What the operator may say of the types that Ringward has.
fn judge(declared: &Json, refused: &mut Vec<(String, &'static str)>) {
    if declared["commonTypes"].as_object().is_some_and(|types| !types.is_empty()) {
        refused.push((
            "common types cannot be declared in `Ringward`".to_owned(),
            "choose a namespace of your own",
        ));
    }
    for (name, declared) in declared["entityTypes"].as_object().into_iter().flatten() {
        match name.as_str() {
            "Group" => {}
            "Client" | "Route" => {
                // A request may come from any client on any route, and entities are known of some.
                let attributes = &declared["shape"]["attributes"];
                let shape_is_plain = declared["shape"].is_null() || attributes.is_object();
                if !shape_is_plain || !declared["enum"].is_null() {
                    let message = format!("`Ringward::{name}` is not declared by its attributes");
                    refused.push((message, "write them in braces behind the type: `{ level?: Long }`"));
                }
                for (attribute, declared) in attributes.as_object().into_iter().flatten() {
                    if declared["required"] != json!(false) {
                        let message = format!(
                            "attribute `{attribute}` of `Ringward::{name}` is required, and not every one is among the entities"
                        );
                        refused.push((message, "make it optional: write `?` behind its name"));
                    }
                }
            }
            _ => {
                let message = format!("`Ringward::{name}` is no type that can be declared");
                refused.push((
                    message,
                    "there are Client, Group and Route; other types need a namespace of their own",
                ));
            }
        }
    }
}

/// A record of these fields, below `path`. Maps have the names that policies ask for, each of which a request may lack.
fn record<'p>(
    fields: &[Field],
    path: &mut Vec<&'static str>,
    paths: &(impl Iterator<Item = &'p [String]> + Clone),
) -> Json {
    let mut attributes = Map::new();
    for field in fields {
        path.push(field.name);
        if let Some(mut declared) = attribute(field.kind, path, paths) {
            if field.optional {
                declared["required"] = json!(false);
            }
            attributes.insert(field.name.to_owned(), declared);
        }
        path.pop();
    }
    json!({ "type": "Record", "attributes": attributes })
}

/// The type of a field. JSON that a client sends has none.
fn attribute<'p>(
    kind: Kind,
    path: &mut Vec<&'static str>,
    paths: &(impl Iterator<Item = &'p [String]> + Clone),
) -> Option<Json> {
    let texts = || json!({ "type": "Set", "element": { "type": "String" } });
    Some(match kind {
        Kind::Text => json!({ "type": "String" }),
        Kind::Integer => json!({ "type": "Long" }),
        Kind::Boolean => json!({ "type": "Boolean" }),
        Kind::Texts => texts(),
        Kind::Object(fields) => {
            let mut record = record(fields, path, paths);
            if *path == ADDRESS_IP[..1] {
                record["attributes"][ADDRESS_IP[1]] = json!({ "type": "Extension", "name": "ipaddr" });
            }
            record
        }
        Kind::TextMap | Kind::TextsMap => {
            let below = paths
                .clone()
                .filter(|asked| asked.len() > path.len() && asked.iter().zip(&*path).all(|(a, b)| a == b));
            let names: BTreeSet<&str> = below.map(|asked| asked[path.len()].as_str()).collect();
            let mut entry = if matches!(kind, Kind::TextMap) { json!({ "type": "String" }) } else { texts() };
            entry["required"] = json!(false);
            let entries: Map<_, _> = names.into_iter().map(|name| (name.to_owned(), entry.clone())).collect();
            json!({ "type": "Record", "attributes": entries })
        }
        // Of other shapes, which Cedar has not.
        Kind::Json | Kind::TextMapWith(_) | Kind::LooseMap => return None,
    })
}

/// Types of entities that an operator may declare.
const ENTITY_TYPES_MAX: usize = 256;
