//! The input of Kong's OPA plugin, and the result that it takes.
//!
//! What differs on purpose: path and host are the normalised ones that router and upstream use. A consumer is a client with
//! a verified certificate, a service is a cluster. What Ringward knows and Kong does not is below `ringward`.

use std::sync::Arc;

use regorus::Value;

use crate::decision::{self, Decision, DecisionError};
use crate::input::document::{self, Known, Parts as NativeParts, decode_form, is_hidden, object, params};
use crate::input::schema::{
    CLIENT, CONNECTION, Field, Kind, ROUTE, TIME, field, integer, object as section, optional,
    text as text_field, texts,
};
use crate::input::subject::Subject;
use crate::input::values::text;
use crate::input::view::{BodyView, RequestView};
use crate::input::{body, parsed_body};
use crate::reads::Reads;

/// The fields of `input`.
pub(crate) const FIELDS: &[Field] = &[
    text_field("client_ip", "IP address of the client"),
    optional(section(
        "consumer",
        "who is calling, by the verified certificate; missing without one",
        &[text_field("username", "what the tenant calls the client; the name without a tenant")],
    )),
    section("request", "what the client asks for", &[section("http", "the request", HTTP)]),
    section("ringward", "as in the native input", &[CLIENT, CONNECTION, ROUTE, TIME]),
    section(
        "route",
        "the route that serves the request",
        &[text_field("name", "its id in the configuration")],
    ),
    section("service", "where the request goes", &[text_field("name", "the cluster")]),
];

const HTTP: &[Field] = &[
    optional(text_field("body", "the body; missing if nothing was read")),
    optional(integer("body_size", "its bytes; missing if nothing was read")),
    field(
        "headers",
        Kind::LooseMap,
        "header fields by name in lower case; a list where there are several of one name",
    ),
    text_field("host", "the host asked for, lower case, no port"),
    text_field("method", "as received"),
    optional(field("parsed_body", Kind::Json, "the body if it is `application/json`; missing if not")),
    text_field("path", "normalised, without the query"),
    text_field("port", "the port that accepted the connection, as text"),
    field(
        "querystring",
        Kind::LooseMap,
        "decoded parameters of the query by name; true without `=`, a list where there are several of one name",
    ),
    text_field("scheme", "`https` or `http`"),
    section(
        "tls",
        "the TLS session",
        &[
            text_field("cipher", "cipher suite by its IANA name"),
            text_field("client_verify", "`SUCCESS` for a verified certificate, `NONE` without one"),
            text_field("version", "such as `TLSv1.3`"),
        ],
    ),
    section(
        "uri_captures",
        "what the route's parameters stand for",
        &[field("named", Kind::TextMap, "by name"), texts("unnamed", "in order of the template")],
    ),
];

/// What follows from the body.
pub(crate) const BODY: &[&[&str]] =
    &[&["request", "http", "body"], &["request", "http", "body_size"], &["request", "http", "parsed_body"]];

/// Where the native document's sections are.
pub(crate) const RINGWARD: &[&str] = &["ringward"];

/// What is elsewhere here, by its path.
pub(crate) const ELSEWHERE: &[(&str, &str)] = &[
    ("client", "here it is `input.ringward.client`"),
    ("connection", "here it is `input.ringward.connection`"),
    ("consumer.custom_id", "use `input.ringward.client`"),
    ("consumer.id", "use `input.consumer.username`, or `input.ringward.client`"),
    ("route.id", "routes have no id beside their name: use `input.route.name`"),
    ("service.host", "use `input.service.name`, which is the cluster"),
    ("service.id", "clusters have no id beside their name: use `input.service.name`"),
    ("time", "here it is `input.ringward.time`"),
];

/// A boolean, or an object with `allow`, `status`, `headers` and `message`; as in Kong, anything else is an error.
pub(crate) fn decision(value: &Value) -> Result<Decision, DecisionError> {
    let Value::Object(fields) = value else { return Decision::from_value(value) };
    let (mut native, mut message) = (Vec::with_capacity(3), None);
    for (name, value) in fields.iter() {
        match name.as_string().map(AsRef::as_ref) {
            Ok("allow") => native.push((text("allowed"), value.clone())),
            Ok("status") => native.push((text("http_status"), value.clone())),
            Ok("headers") => native.push((text("headers"), value.clone())),
            Ok("message") => message = Some(answer(value)?),
            _ => {
                let known = "there are `allow`, `status`, `headers` and `message`";
                return Err(DecisionError::InvalidResult(format!("unknown field, {known}")));
            }
        }
    }
    native.extend(message.map(|message| (text("body"), message)));
    let mut decision = Decision::from_value(&object(native))?;
    let has_type = |(name, _): &decision::HeaderPair| name.eq_ignore_ascii_case(CONTENT_TYPE);
    if decision.body.is_some() && !decision.headers.iter().any(has_type) {
        decision.headers.push((Arc::from(CONTENT_TYPE), Arc::from("application/json; charset=utf-8")));
    }
    Ok(decision)
}

/// The answer to a denied request as Kong writes it.
fn answer(message: &Value) -> Result<Value, DecisionError> {
    if !matches!(message, Value::String(_) | Value::Object(_)) {
        return Err(DecisionError::InvalidResult("`message` is neither a string nor an object".to_owned()));
    }
    let json = serde_json::to_string(&object(vec![(text("message"), message.clone())]));
    json.map(|json| text(&json)).map_err(|_| DecisionError::InvalidResult("`message` is no JSON".to_owned()))
}

const CONTENT_TYPE: &str = "content-type";

/// Builds documents; owned by one worker.
pub(crate) struct Builder {
    parts: Parts,
    keys: Keys,
    known: Known,
    ringward: Option<document::Builder>,
}

/// Which parts a policy can read.
struct Parts {
    body: bool,
    body_size: bool,
    client_ip: bool,
    consumer: bool,
    headers: bool,
    host: bool,
    method: bool,
    parsed_body: bool,
    path: bool,
    port: bool,
    querystring: bool,
    reads_body: bool,
    request: bool,
    route: bool,
    scheme: bool,
    service: bool,
    tls: bool,
    uri_captures: bool,
}

impl Parts {
    fn of(reads: &Reads) -> Self {
        let http = |name| reads.may_read(&["request", "http", name]);
        Self {
            body: http("body"),
            body_size: http("body_size"),
            client_ip: reads.may_read(&["client_ip"]),
            consumer: reads.may_read(&["consumer"]),
            headers: http("headers"),
            host: http("host"),
            method: http("method"),
            parsed_body: http("parsed_body"),
            path: http("path"),
            port: http("port"),
            querystring: http("querystring"),
            reads_body: BODY.iter().any(|path| reads.may_read(path)),
            request: reads.may_read(&["request"]),
            route: reads.may_read(&["route"]),
            scheme: http("scheme"),
            service: reads.may_read(&["service"]),
            tls: http("tls"),
            uri_captures: http("uri_captures"),
        }
    }
}

impl Builder {
    pub(crate) fn new(reads: &Reads) -> Self {
        let ringward =
            reads.may_read(RINGWARD).then(|| document::Builder::new(NativeParts::of(&reads.below(RINGWARD))));
        Self { parts: Parts::of(reads), keys: Keys::new(), known: Known::new(), ringward }
    }

    /// The document of a request.
    ///
    /// # Errors
    ///
    /// If the policy reads the body, and it was not read whole or is no JSON though it says so.
    pub(crate) fn build(
        &mut self,
        subject: &Subject,
        view: &RequestView<'_>,
    ) -> Result<Value, DecisionError> {
        let request = if self.parts.request { Some(self.http(subject, view)?) } else { None };
        let ringward = self.ringward.as_mut().map(|builder| builder.beside_request(subject, view));
        let (keys, parts) = (&self.keys, &self.parts);
        let named = |name: &str| object(vec![(keys.name.clone(), text(name))]);
        let mut fields = Vec::with_capacity(6);
        if parts.client_ip {
            fields.push((keys.client_ip.clone(), subject.connection["remote_addr"].clone()));
        }
        if parts.consumer && subject.client["verified"] == Value::Bool(true) {
            let username = (keys.username.clone(), subject.client["identity"].clone());
            fields.push((keys.consumer.clone(), object(vec![username])));
        }
        let http = request.map(|http| object(vec![(keys.http.clone(), http)]));
        fields.extend(http.map(|request| (keys.request.clone(), request)));
        fields.extend(ringward.map(|ringward| (keys.ringward.clone(), ringward)));
        if parts.route {
            fields.push((keys.route.clone(), named(view.route.id)));
        }
        if parts.service {
            fields.push((keys.service.clone(), named(view.route.upstream)));
        }
        Ok(object(fields))
    }

    fn http(&self, subject: &Subject, view: &RequestView<'_>) -> Result<Value, DecisionError> {
        let (keys, parts, known) = (&self.keys, &self.parts, &self.known);
        // Where looking is not allowed there is none to see.
        let body = view.body.filter(|body| parts.reads_body && !(body.truncated && body.bytes.is_empty()));
        let parsed_body = body.map(|body| parse_body(view, body)).transpose()?.flatten();
        let mut fields = Vec::with_capacity(12);
        let mut add = |wanted: bool, key: &Value, value: &dyn Fn() -> Value| {
            if wanted {
                fields.push((key.clone(), value()));
            }
        };
        if let Some(BodyView { bytes, .. }) = body {
            add(parts.body, &keys.body, &|| text(&String::from_utf8_lossy(bytes)));
            add(parts.body_size, &keys.body_size, &|| Value::from(bytes.len()));
        }
        add(parts.headers, &keys.headers, &|| headers(view, known));
        add(parts.host, &keys.host, &|| text(view.host));
        add(parts.method, &keys.method, &|| known.word(view.method));
        if let Some(parsed_body) = parsed_body {
            add(parts.parsed_body, &keys.parsed_body, &|| parsed_body.clone());
        }
        add(parts.path, &keys.path, &|| text(view.path));
        add(parts.port, &keys.port, &|| text(&subject.connection["local_port"].to_string()));
        add(parts.querystring, &keys.querystring, &|| querystring(view.query));
        add(parts.scheme, &keys.scheme, &|| known.word(view.scheme));
        add(parts.tls, &keys.tls, &|| self.tls(subject));
        add(parts.uri_captures, &keys.uri_captures, &|| self.uri_captures(view));
        Ok(object(fields))
    }

    fn tls(&self, subject: &Subject) -> Value {
        let verified = subject.client["verified"] == Value::Bool(true);
        object(vec![
            (self.keys.cipher.clone(), subject.connection["cipher"].clone()),
            (self.keys.client_verify.clone(), text(if verified { "SUCCESS" } else { "NONE" })),
            (self.keys.version.clone(), subject.connection["tls_version"].clone()),
        ])
    }

    fn uri_captures(&self, view: &RequestView<'_>) -> Value {
        let named = params(view.route.params, &Value::new_object());
        let unnamed: Vec<Value> = view.route.params.iter().map(|(name, _)| named[*name].clone()).collect();
        object(vec![(self.keys.named.clone(), named), (self.keys.unnamed.clone(), Value::from(unnamed))])
    }
}

fn headers(view: &RequestView<'_>, known: &Known) -> Value {
    let mut received: Vec<(Value, Value)> = Vec::new();
    view.headers.for_each(&mut |name, value| {
        if !is_hidden(name) {
            received.push((known.header(name), text(value)));
        }
    });
    loose(received)
}

/// Decoded as forms are. A name without `=` is true, a value without a name is left out.
pub(crate) fn querystring(query: Option<&str>) -> Value {
    let pairs = query.into_iter().flat_map(|query| query.split('&'));
    let named = pairs.filter(|pair| !pair.is_empty() && !pair.starts_with('='));
    let decoded = named.map(|pair| match pair.split_once('=') {
        None => (text(&decode_form(pair)), Value::Bool(true)),
        Some((name, value)) => (text(&decode_form(name)), text(&decode_form(value))),
    });
    loose(decoded.collect())
}

/// An object of these pairs: a list where there are several of one name.
fn loose(mut pairs: Vec<(Value, Value)>) -> Value {
    // Stable: values of one name stay in the order received.
    pairs.sort_by(|(a, _), (b, _)| a.cmp(b));
    let groups = pairs.chunk_by(|(a, _), (b, _)| a == b);
    let value = |group: &[(Value, Value)]| match group {
        [(_, only)] => only.clone(),
        several => Value::from(several.iter().map(|(_, value)| value.clone()).collect::<Vec<_>>()),
    };
    object(groups.map(|group| (group[0].0.clone(), value(group))).collect())
}

/// The body as JSON, if it says that it is. Kong has no word for a body that was not read whole.
fn parse_body(view: &RequestView<'_>, body: BodyView<'_>) -> Result<Option<Value>, DecisionError> {
    if body.truncated {
        return Err(parsed_body::refused("is longer than was read of it, which this shape cannot say"));
    }
    let (mut fields, mut is_json) = (0, false);
    view.headers.values(CONTENT_TYPE, &mut |value| {
        fields += 1;
        is_json = fields == 1 && value == "application/json";
    });
    let parsed = if is_json { body::parse(&body)? } else { Value::Undefined };
    Ok((parsed != Value::Undefined).then_some(parsed))
}

/// The fixed keys of a document.
struct Keys {
    body: Value,
    body_size: Value,
    cipher: Value,
    client_ip: Value,
    client_verify: Value,
    consumer: Value,
    headers: Value,
    host: Value,
    http: Value,
    method: Value,
    name: Value,
    named: Value,
    parsed_body: Value,
    path: Value,
    port: Value,
    querystring: Value,
    request: Value,
    ringward: Value,
    route: Value,
    scheme: Value,
    service: Value,
    tls: Value,
    unnamed: Value,
    uri_captures: Value,
    username: Value,
    version: Value,
}

impl Keys {
    fn new() -> Self {
        Self {
            body: text("body"),
            body_size: text("body_size"),
            cipher: text("cipher"),
            client_ip: text("client_ip"),
            client_verify: text("client_verify"),
            consumer: text("consumer"),
            headers: text("headers"),
            host: text("host"),
            http: text("http"),
            method: text("method"),
            name: text("name"),
            named: text("named"),
            parsed_body: text("parsed_body"),
            path: text("path"),
            port: text("port"),
            querystring: text("querystring"),
            request: text("request"),
            ringward: text("ringward"),
            route: text("route"),
            scheme: text("scheme"),
            service: text("service"),
            tls: text("tls"),
            unnamed: text("unnamed"),
            uri_captures: text("uri_captures"),
            username: text("username"),
            version: text("version"),
        }
    }
}

#[cfg(test)]
mod tests;
