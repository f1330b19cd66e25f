//! Inputs that somebody wrote, completed to what a request would have.
//!
//! Policies rely on it that every field is there, so an evaluation without a field would say nothing about real ones. A
//! section that is not given is that of the invented request. In a section that is given, claims, header fields, query and
//! the route's fields are empty unless given, so that nothing is allowed by a claim that nobody wrote; what follows from
//! others (segments from the path, `headers_all` from `headers`, `text` and `size` of a body from its `json`) is worked
//! out; all else is the invented request's. Inputs of other shapes are completed as the native input that they describe.

mod other;

pub use self::other::Described;

use std::fmt::Write as _;

use ringward_identity::PeerIdentity;
use ringward_identity::headers::is_stripped_inbound;
use serde_json::{Map, Value as Json, json};

use crate::check::nearest;
use crate::decision::DecisionError;
use crate::input::document::{self, Parts};
use crate::input::sample;
use crate::input::schema::{self, Field, INPUT, Kind, json_of};
use crate::input::shape::InputShape;
use crate::input::subject::Subject;
use crate::input::view::{BodyView, HeaderSource, RequestView};

/// What is wrong with an input: one sentence for each field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .problems.join("\n"))]
pub struct InputError {
    /// What is wrong, each with the path of its field.
    pub problems: Vec<String>,
}

/// What policies see of a client, as JSON: the value of `client` in an input.
pub fn client_claims(peer: &PeerIdentity) -> Json {
    json_of(&Subject::new(Some(peer), &sample::connection()).client)
}

/// Completes an input of this shape.
///
/// # Errors
///
/// Fields that no input has, and values of another type, all of them.
pub fn complete_input(shape: InputShape, given: &Json) -> Result<Json, InputError> {
    let mut problems = Vec::new();
    compare("input", Kind::Object(shape.fields()), given, &mut problems);
    if problems.is_empty() {
        meaning(shape, given, &mut problems);
    }
    if !problems.is_empty() {
        return Err(InputError { problems });
    }
    match shape {
        InputShape::Native => complete_native(given),
        shape => other::complete(shape, given),
    }
}

/// Completes a native input that is in order.
fn complete_native(given: &Json) -> Result<Json, InputError> {
    let mut input = schema::example(InputShape::Native);
    if given["client"].is_object() {
        input["client"] = client(&given["client"]);
    }
    if given["request"].is_object() {
        input["request"] = request(&given["request"])
            .map_err(|error| InputError { problems: vec![format!("`input.request.body`: {error}")] })?;
        // The invented route does not lead there.
        input["route"] = empty("route");
    }
    if given["route"].is_object() {
        input["route"] = empty("route");
    }
    overlay(Kind::Object(INPUT), &mut input, given);
    if given["connection"]["auth_age_seconds"].is_null() {
        let number = |value: &Json| value.as_i64().unwrap_or_default();
        let age =
            number(&input["time"]["unix_s"]).saturating_sub(number(&input["connection"]["auth_time_unix"]));
        input["connection"]["auth_age_seconds"] = age.max(0).into();
    }
    Ok(input)
}

/// Compares names and types with those that inputs have.
fn compare(path: &str, kind: Kind, value: &Json, problems: &mut Vec<String>) {
    let entries = |of: Kind, problems: &mut Vec<String>| {
        for (name, value) in value.as_object().into_iter().flatten() {
            compare(&format!("{path}[{name:?}]"), of, value, problems);
        }
        value.is_object()
    };
    let fits = match kind {
        Kind::Text => value.is_string(),
        Kind::Integer => value.is_i64(),
        Kind::Boolean => value.is_boolean(),
        Kind::Texts => value.as_array().is_some_and(|items| items.iter().all(Json::is_string)),
        Kind::Json => true,
        Kind::TextMap => entries(Kind::Text, problems),
        Kind::TextsMap => entries(Kind::Texts, problems),
        Kind::TextMapWith(_) => entries(Kind::Text, problems),
        Kind::LooseMap => {
            let is_text = |item: &Json| item.is_string() || *item == Json::Bool(true);
            let is_loose =
                |value: &Json| is_text(value) || value.as_array().is_some_and(|all| all.iter().all(is_text));
            value.as_object().is_some_and(|map| map.values().all(is_loose))
        }
        Kind::Object(fields) => match value.as_object() {
            Some(object) => {
                object.iter().for_each(|(name, value)| compare_field(path, fields, name, value, problems));
                true
            }
            None => false,
        },
    };
    if !fits {
        problems.push(format!(
            "`{path}` is {}, expected {}",
            with_article(name_of(value)),
            with_article(kind.name())
        ));
    }
}

fn compare_field(path: &str, fields: &'static [Field], name: &str, value: &Json, problems: &mut Vec<String>) {
    if let Some(field) = fields.iter().find(|field| field.name == name) {
        return compare(&format!("{path}.{name}"), field.kind, value, problems);
    }
    let names = || fields.iter().map(|field| field.name);
    let mut problem = format!("`{path}` has no field `{name}`");
    // Writing to a string cannot fail.
    let _ = match nearest(name, names()) {
        Some(near) => write!(problem, "; did you mean `{near}`?"),
        None => write!(problem, "; there are {}", names().collect::<Vec<_>>().join(", ")),
    };
    problems.push(problem);
}

/// What no request has, though its type is right.
fn meaning(shape: InputShape, given: &Json, problems: &mut Vec<String>) {
    let request = &given["request"];
    if request["path"].as_str().is_some_and(|path| !path.starts_with('/') || path.contains('?')) {
        problems
            .push("`input.request.path` begins with `/` and has no query, which is in `query`".to_owned());
    }
    if request["body"]["truncated"] == true && !request["body"]["json"].is_null() {
        problems.push("`input.request.body` is truncated, and such a body has no `json`".to_owned());
    }
    let headers_all = &["request", "headers_all"][..];
    for path in [shape.headers(), headers_all] {
        let fields = path.iter().fold(given, |value, name| &value[*name]);
        for name in fields.as_object().into_iter().flatten().map(|(name, _)| name) {
            let path = path.join(".");
            if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
                problems.push(format!("`input.{path}` has `{name}`: names are in lower case"));
            } else if is_stripped_inbound(name.as_bytes()) {
                problems.push(format!("`input.{path}` has `{name}`, which policies never see"));
            }
        }
    }
}

/// A client that was described in part: verified, and without any claim that is not given.
fn client(given: &Json) -> Json {
    let mut client = empty("client");
    client["verified"] = true.into();
    if let Some(id) = given["spiffe_id"].as_str() {
        client["trust_domain"] =
            id.strip_prefix("spiffe://").and_then(|id| id.split('/').next()).unwrap_or("").into();
        client["san"]["uri"] = json!([id]);
        client["name"] = id.into();
    }
    let subject = &given["subject"];
    match (subject["common_name"].as_str(), subject["common_names"].as_array().map(Vec::as_slice)) {
        (Some(name), None) if !name.is_empty() => client["subject"]["common_names"] = json!([name]),
        (None, Some([name])) => client["subject"]["common_name"] = name.clone(),
        _ => {}
    }
    let name = given["name"].as_str().or(client["name"].as_str()).unwrap_or_default();
    client["identity"] = name.into();
    client
}

/// A request that was described in part, by the code that describes real ones.
fn request(given: &Json) -> Result<Json, DecisionError> {
    let invented = sample::request();
    let field = |name: &str, invented: &'static str| given[name].as_str().unwrap_or(invented).to_owned();
    let (method, path, host) =
        (field("method", "GET"), field("path", invented.path), field("host", invented.host));
    let query = match (given["query"].as_object(), given["raw_path"].as_str()) {
        (Some(query), _) => form(query),
        (None, Some(raw)) => raw.split_once('?').map_or("", |(_, query)| query).to_owned(),
        (None, None) => String::new(),
    };
    let raw_path = if query.is_empty() { path.clone() } else { format!("{path}?{query}") };
    let body = &given["body"];
    let bytes = match (body["text"].as_str(), &body["json"]) {
        (Some(text), _) => text.to_owned(),
        (None, Json::Null) => String::new(),
        (None, json) => json.to_string(),
    };
    let truncated = body["truncated"].as_bool().unwrap_or_default();
    let view = RequestView {
        method: &method,
        path: &path,
        raw_path: &raw_path,
        query: Some(&query),
        host: &host,
        headers: &GivenHeaders(given),
        body: Some(BodyView { bytes: bytes.as_bytes(), truncated }),
        ..invented
    };
    let document = document::Builder::new(Parts::ALL).build(&sample::subject(), &view)?;
    Ok(json_of(&document["request"]))
}

/// `name=value` pairs of a query, encoded as forms are.
fn form(query: &Map<String, Json>) -> String {
    let mut pairs = Vec::new();
    for (name, values) in query {
        for value in values.as_array().into_iter().flatten().filter_map(Json::as_str) {
            pairs.push(format!("{}={}", encode(name), encode(value)));
        }
    }
    pairs.join("&")
}

fn encode(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

/// The header fields of a given request, from `headers_all` or `headers`.
struct GivenHeaders<'a>(&'a Json);

impl HeaderSource for GivenHeaders<'_> {
    fn for_each(&self, each: &mut dyn FnMut(&str, &str)) {
        let lists = self.0["headers_all"].as_object();
        for (name, values) in lists.into_iter().flatten() {
            for value in values.as_array().into_iter().flatten().filter_map(Json::as_str) {
                each(name, value);
            }
        }
        let texts = self.0["headers"].as_object().filter(|_| lists.is_none());
        for (name, value) in texts.into_iter().flatten() {
            each(name, value.as_str().unwrap_or_default());
        }
    }
}

fn empty(section: &str) -> Json {
    INPUT.iter().find(|field| field.name == section).map_or(Json::Null, |field| field.kind.empty())
}

/// Puts what is given over what was found for it.
fn overlay(kind: Kind, into: &mut Json, given: &Json) {
    match (kind, given) {
        (_, Json::Null) => {}
        (Kind::Object(fields), _) => {
            // What is optional is there only if somebody wrote it.
            let fields = fields.iter().filter(|field| !given[field.name].is_null());
            fields.for_each(|field| overlay(field.kind, &mut into[field.name], &given[field.name]));
        }
        (Kind::TextMapWith(_), Json::Object(given)) => {
            given.iter().for_each(|(name, value)| into[name] = value.clone());
        }
        (_, given) => *into = given.clone(),
    }
}

fn name_of(value: &Json) -> &'static str {
    match value {
        Json::Null => "null",
        Json::Bool(_) => "boolean",
        Json::Number(_) => "number",
        Json::String(_) => "string",
        Json::Array(_) => "list",
        Json::Object(_) => "object",
    }
}

fn with_article(name: &str) -> String {
    match name.chars().next() {
        _ if name == "null" => name.to_owned(),
        Some('a' | 'e' | 'i' | 'o') => format!("an {name}"),
        _ => format!("a {name}"),
    }
}

#[cfg(test)]
mod tests;
