//! Inputs of other shapes: what they describe is described as a native input, that one is completed, and the document of the
//! shape is built from it by the code that builds those of requests.

use std::sync::Arc;

use regorus::Value;
use serde_json::{Map, Value as Json, json};

use super::{GivenHeaders, InputError, complete_native, encode, overlay};
use crate::decision::DecisionError;
use crate::input::builder::Builder;
use crate::input::sample;
use crate::input::schema::{Kind, json_of};
use crate::input::shape::InputShape;
use crate::input::subject::Subject;
use crate::input::view::{BodyView, RequestView, RouteView};
use crate::input::{envoy, kong};

/// Completes an input that is in order.
///
/// # Errors
///
/// If there is a body that could not be read.
pub(super) fn complete(shape: InputShape, given: &Json) -> Result<Json, InputError> {
    let (native, http) = match shape {
        InputShape::Native => return complete_native(given),
        InputShape::EnvoyV3 => (described_by_envoy(given), &given["attributes"]["request"]["http"]),
        InputShape::Kong => (described_by_kong(given), &given["request"]["http"]),
    };
    let truncated = given["truncated_body"] == Json::Bool(true);
    let given_body = http["body"].as_str().map(|body| BodyView { bytes: body.as_bytes(), truncated });
    let body = if http.is_object() { given_body } else { sample::request().body };
    let built = build(shape, &complete_native(&native)?, body);
    let mut input = built.map_err(|error| InputError { problems: vec![error.to_string()] })?;
    overlay(Kind::Object(shape.fields()), &mut input, given);
    Ok(input)
}

/// The document of a completed native input.
fn build(shape: InputShape, native: &Json, body: Option<BodyView<'_>>) -> Result<Json, DecisionError> {
    let text = |value: &Json| value.as_str().unwrap_or_default().to_owned();
    let (request, route) = (&native["request"], &native["route"]);
    let field = |name: &str| text(&request[name]);
    let pairs = |map: &Json| -> Vec<(String, String)> {
        map.as_object().into_iter().flatten().map(|(name, value)| (name.clone(), text(value))).collect()
    };
    let (method, path, raw_path) = (field("method"), field("path"), field("raw_path"));
    let (host, scheme, protocol, id) = (field("host"), field("scheme"), field("protocol"), field("id"));
    let (params, labels) = (pairs(&route["params"]), pairs(&route["labels"]));
    let params: Vec<(&str, &str)> =
        params.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let (route_id, template, upstream) =
        (text(&route["id"]), text(&route["template"]), text(&route["upstream"]));
    let view = RequestView {
        method: &method,
        path: &path,
        raw_path: &raw_path,
        query: raw_path.split_once('?').map(|(_, query)| query),
        host: &host,
        scheme: &scheme,
        protocol: &protocol,
        id: &id,
        headers: &GivenHeaders(request),
        body,
        route: RouteView {
            id: &route_id,
            template: &template,
            params: &params,
            upstream: &upstream,
            labels: &labels,
        },
        now_unix: native["time"]["unix_s"].as_i64().unwrap_or_default(),
    };
    let value = |section: &str| -> Value {
        // What was completed has nothing that is no value.
        serde_json::from_value(native[section].clone()).unwrap_or(Value::Undefined)
    };
    let subject = Subject {
        client: value("client"),
        connection: value("connection"),
        facts: Arc::default(),
        auth_time_unix: native["connection"]["auth_time_unix"].as_i64().unwrap_or_default(),
    };
    Ok(json_of(&Builder::whole(shape).build(&subject, &view)?))
}

fn described_by_envoy(given: &Json) -> Json {
    let (attributes, http) = (&given["attributes"], &given["attributes"]["request"]["http"]);
    let mut native = facts(given, envoy::RINGWARD);
    if http.is_object() {
        let mut request = json!({});
        copy(http, "method", &mut request, "method");
        copy(http, "host", &mut request, "host");
        if let Some(path) = http["path"].as_str() {
            request["path"] = path.split('?').next().into();
            request["raw_path"] = path.into();
        }
        let headers = http["headers"].as_object().into_iter().flatten();
        let fields = headers.filter(|(name, _)| !name.starts_with(':'));
        request["headers"] =
            fields.map(|(name, value)| (name.clone(), value.clone())).collect::<Map<_, _>>().into();
        native["request"] = request;
    }
    let source = &attributes["source"];
    if source.is_object() && native["client"].is_null() {
        native["client"] = match source["principal"].as_str() {
            None => json!({ "verified": false }),
            Some(id) if id.starts_with("spiffe://") => json!({ "spiffe_id": id }),
            Some(name) => json!({ "name": name, "san": { "dns": [name] } }),
        };
    }
    let mut connection = json!({});
    let socket = &source["address"]["socketAddress"];
    copy(socket, "address", &mut connection, "remote_addr");
    copy(socket, "portValue", &mut connection, "remote_port");
    copy(&attributes["destination"]["address"]["socketAddress"], "portValue", &mut connection, "local_port");
    copy(&attributes["tlsSession"], "sni", &mut connection, "sni");
    extend(&mut native, "connection", connection);
    if attributes["contextExtensions"].is_object() {
        extend(&mut native, "route", json!({ "labels": attributes["contextExtensions"] }));
    }
    native
}

fn described_by_kong(given: &Json) -> Json {
    let http = &given["request"]["http"];
    let mut native = facts(given, kong::RINGWARD);
    if http.is_object() {
        let mut request = json!({ "headers_all": lists(&http["headers"]) });
        for name in ["method", "host", "path"] {
            copy(http, name, &mut request, name);
        }
        let query = query_of(&http["querystring"]);
        if !query.is_empty() {
            let path = http["path"].as_str().unwrap_or("/");
            request["path"] = path.into();
            request["raw_path"] = format!("{path}?{query}").into();
        }
        native["request"] = request;
    }
    if native["client"].is_null()
        && let Some(name) = given["consumer"]["username"].as_str()
    {
        native["client"] = json!({ "name": name });
    }
    let mut connection = json!({});
    copy(given, "client_ip", &mut connection, "remote_addr");
    if let Some(port) = http["port"].as_str().and_then(|port| port.parse::<u16>().ok()) {
        connection["local_port"] = port.into();
    }
    copy(&http["tls"], "version", &mut connection, "tls_version");
    copy(&http["tls"], "cipher", &mut connection, "cipher");
    extend(&mut native, "connection", connection);
    let mut route = json!({});
    copy(&given["route"], "name", &mut route, "id");
    copy(&given["service"], "name", &mut route, "upstream");
    copy(&http["uri_captures"], "named", &mut route, "params");
    extend(&mut native, "route", route);
    native
}

/// The native sections that are given.
fn facts(given: &Json, path: &[&str]) -> Json {
    let facts = path.iter().fold(given, |value, name| &value[*name]);
    if facts.is_object() { facts.clone() } else { json!({}) }
}

fn copy(from: &Json, name: &str, into: &mut Json, as_name: &str) {
    if !from[name].is_null() {
        into[as_name] = from[name].clone();
    }
}

/// Adds to a section what was not given there.
fn extend(native: &mut Json, section: &str, fields: Json) {
    for (name, value) in fields.as_object().into_iter().flatten() {
        if native[section][name].is_null() {
            native[section][name] = value.clone();
        }
    }
}

/// A text as a list of itself.
fn lists(map: &Json) -> Json {
    let list = |value: &Json| if value.is_array() { value.clone() } else { json!([value]) };
    let fields = map.as_object().into_iter().flatten();
    fields.map(|(name, value)| (name.clone(), list(value))).collect::<Map<_, _>>().into()
}

/// The query that is read as this map.
fn query_of(map: &Json) -> String {
    let mut pairs = Vec::new();
    for (name, values) in lists(map).as_object().into_iter().flatten() {
        for value in values.as_array().into_iter().flatten() {
            pairs.push(match value.as_str() {
                Some(value) => format!("{}={}", encode(name), encode(value)),
                None => encode(name),
            });
        }
    }
    pairs.join("&")
}

/// A request that was described by options, to be put into an input.
#[derive(Debug, Clone, Default)]
pub struct Described {
    /// Its method.
    pub method: Option<String>,
    /// Its path with the query.
    pub path: Option<String>,
    /// Its host.
    pub host: Option<String>,
    /// Its header fields: names in lower case, and their values.
    pub headers: Vec<(String, Vec<String>)>,
    /// The claims of its client, as [`client_claims`](crate::client_claims) has them.
    pub client: Option<Json>,
}

impl Described {
    /// The part of an input of another shape than the native one that it describes.
    pub fn input(&self, shape: InputShape) -> Json {
        let is_kong = shape == InputShape::Kong;
        let (mut input, mut http) = (json!({}), Map::new());
        for (name, value) in [("method", &self.method), ("host", &self.host)] {
            http.extend(value.as_ref().map(|value| (name.to_owned(), json!(value))));
        }
        if let Some(path) = &self.path {
            let (before, query) = path.split_once('?').unwrap_or((path, ""));
            http.insert("path".to_owned(), json!(if is_kong { before } else { path }));
            if is_kong {
                http.insert("querystring".to_owned(), json_of(&kong::querystring(Some(query))));
            }
        }
        if !self.headers.is_empty() {
            let value = |values: &Vec<String>| match values.as_slice() {
                several @ [_, _, ..] if is_kong => json!(several),
                values => json!(values.join(",")),
            };
            let fields = self.headers.iter().map(|(name, values)| (name.clone(), value(values)));
            http.insert("headers".to_owned(), fields.collect::<Map<_, _>>().into());
        }
        if !http.is_empty() {
            let request = if is_kong { &mut input["request"] } else { &mut input["attributes"]["request"] };
            request["http"] = http.into();
        }
        if let Some(client) = &self.client {
            let facts = json!({ "client": client });
            if is_kong {
                input["ringward"] = facts;
            } else {
                input["attributes"]["metadataContext"]["filterMetadata"]["ringward"] = facts;
            }
        }
        input
    }
}
