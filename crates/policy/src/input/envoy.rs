//! The input of OPA's Envoy plugin, for version 3 of Envoy's external authorization: what Envoy tells (`attributes`), as
//! JSON of protocol buffers, and what the plugin adds. Fields that Envoy leaves out when they are empty are missing here,
//! too; `parsed_body` is null where there is nothing to parse.
//!
//! What differs on purpose: path and host are the normalised ones that router and upstream use, and `parsed_path` is decoded
//! after the split, so that an encoded slash never separates. What Ringward knows and Envoy does not is where Envoy has
//! the metadata of its filters.

mod fields;

use std::collections::BTreeMap;

use regorus::Value;

use crate::decision::{Decision, DecisionError};
use crate::input::document::{self, Known, Parts as NativeParts, is_hidden, object, query_pairs, segments};
use crate::input::subject::Subject;
use crate::input::values::{rfc3339, text};
use crate::input::view::{BodyView, RequestView};
use crate::input::{body, go_form, parsed_body};
use crate::reads::Reads;

pub(crate) use self::fields::{BODY, ELSEWHERE, FIELDS, PARTIAL_BODY, RINGWARD};

/// As the native result, which follows the plugin's, but without the name that the plugin does not know: what it denies as
/// incomplete must not be allowed here.
pub(crate) fn decision(value: &Value) -> Result<Decision, DecisionError> {
    if let Value::Object(fields) = value
        && fields.get(&text("allow")).is_some()
    {
        return Err(DecisionError::InvalidResult(
            "`allow` is no field of this shape, use `allowed`".to_owned(),
        ));
    }
    Decision::from_value(value)
}

/// Builds documents; owned by one worker.
pub(crate) struct Builder {
    parts: Parts,
    keys: Keys,
    known: Known,
    ringward: Option<document::Builder>,
    /// Of the connection that was asked about last.
    peer: Option<Peer>,
    /// The second, and how it is written.
    time: (i64, Value),
}

/// Which parts a policy can read.
struct Parts {
    attributes: bool,
    body: bool,
    connection: bool,
    context_extensions: bool,
    headers: bool,
    host: bool,
    http: bool,
    id: bool,
    method: bool,
    parsed_body: bool,
    parsed_path: bool,
    parsed_query: bool,
    path: bool,
    protocol: bool,
    reads_body: bool,
    request: bool,
    scheme: bool,
    size: bool,
    time: bool,
    truncated_body: bool,
    version: bool,
}

impl Parts {
    fn of(reads: &Reads) -> Self {
        let attributes = |name| reads.may_read(&["attributes", name]);
        let http = |name| reads.may_read(&["attributes", "request", "http", name]);
        Self {
            attributes: reads.may_read(&["attributes"]),
            body: http("body"),
            connection: attributes("source") || attributes("destination") || attributes("tlsSession"),
            context_extensions: attributes("contextExtensions"),
            headers: http("headers"),
            host: http("host"),
            http: reads.may_read(&["attributes", "request", "http"]),
            id: http("id"),
            method: http("method"),
            parsed_body: reads.may_read(&["parsed_body"]),
            parsed_path: reads.may_read(&["parsed_path"]),
            parsed_query: reads.may_read(&["parsed_query"]),
            path: http("path"),
            protocol: http("protocol"),
            reads_body: BODY.iter().any(|path| reads.may_read(path)),
            request: attributes("request"),
            scheme: http("scheme"),
            size: http("size"),
            time: reads.may_read(&["attributes", "request", "time"]),
            truncated_body: reads.may_read(&["truncated_body"]),
            version: reads.may_read(&["version"]),
        }
    }
}

impl Builder {
    pub(crate) fn new(reads: &Reads) -> Self {
        let ringward =
            reads.may_read(RINGWARD).then(|| document::Builder::new(NativeParts::of(&reads.below(RINGWARD))));
        Self {
            parts: Parts::of(reads),
            keys: Keys::new(),
            known: Known::new(),
            ringward,
            peer: None,
            time: (0, text(&rfc3339(0))),
        }
    }

    /// The document of a request.
    ///
    /// # Errors
    ///
    /// If the policy reads the body and the plugin could not parse it.
    pub(crate) fn build(
        &mut self,
        subject: &Subject,
        view: &RequestView<'_>,
    ) -> Result<Value, DecisionError> {
        // Whatever of it is read: the plugin decides about no request whose body it cannot parse.
        let parsed_body = if self.parts.reads_body { parse_body(view)? } else { Value::Null };
        let attributes = self.parts.attributes.then(|| self.attributes(subject, view));
        let (keys, parts) = (&self.keys, &self.parts);
        let mut fields = Vec::with_capacity(6);
        fields.extend(attributes.map(|attributes| (keys.attributes.clone(), attributes)));
        if parts.parsed_body {
            fields.push((keys.parsed_body.clone(), parsed_body));
        }
        if parts.parsed_path {
            fields.push((keys.parsed_path.clone(), parsed_path(view.path)));
        }
        if parts.parsed_query {
            fields.push((keys.parsed_query.clone(), parsed_query(view.query)));
        }
        if parts.truncated_body {
            let truncated = view.body.is_some_and(|body| body.truncated);
            fields.push((keys.truncated_body.clone(), Value::Bool(truncated)));
        }
        if parts.version {
            fields.push((keys.version.clone(), keys.version_value.clone()));
        }
        Ok(object(fields))
    }

    fn attributes(&mut self, subject: &Subject, view: &RequestView<'_>) -> Value {
        let ringward = self.ringward.as_mut().map(|builder| builder.beside_request(subject, view));
        let request = self.parts.request.then(|| self.request(view));
        let (keys, parts) = (&self.keys, &self.parts);
        let mut fields = Vec::with_capacity(6);
        if parts.context_extensions && !view.route.labels.is_empty() {
            let labels = view.route.labels.iter().map(|(name, value)| (text(name), text(value)));
            fields.push((keys.context_extensions.clone(), object(labels.collect())));
        }
        if let Some(ringward) = ringward {
            let filters = object(vec![(keys.ringward.clone(), ringward)]);
            let metadata = object(vec![(keys.filter_metadata.clone(), filters)]);
            fields.push((keys.metadata_context.clone(), metadata));
        }
        fields.extend(request.map(|request| (keys.request.clone(), request)));
        if parts.connection {
            let peer = match self.peer.take() {
                Some(known) if known.subject.is_same(subject) => known,
                _ => Peer::of(subject),
            };
            let peer = self.peer.insert(peer);
            fields.push((keys.destination.clone(), peer.destination.clone()));
            fields.push((keys.source.clone(), peer.source.clone()));
            fields.extend(peer.tls_session.clone().map(|session| (keys.tls_session.clone(), session)));
        }
        object(fields)
    }

    fn request(&mut self, view: &RequestView<'_>) -> Value {
        if self.parts.time && self.time.0 != view.now_unix {
            self.time = (view.now_unix, text(&rfc3339(view.now_unix)));
        }
        let mut fields = Vec::with_capacity(2);
        if self.parts.http {
            fields.push((self.keys.http.clone(), self.http(view)));
        }
        if self.parts.time {
            fields.push((self.keys.time.clone(), self.time.1.clone()));
        }
        object(fields)
    }

    fn http(&self, view: &RequestView<'_>) -> Value {
        let (keys, parts, known) = (&self.keys, &self.parts, &self.known);
        let path = if parts.path || parts.headers { path(view) } else { Value::Undefined };
        let body = view.body.filter(|body| !body.bytes.is_empty());
        let mut fields = Vec::with_capacity(9);
        let mut add = |wanted: bool, key: &Value, value: &dyn Fn() -> Value| {
            if wanted {
                fields.push((key.clone(), value()));
            }
        };
        if let Some(body) = body {
            add(parts.body, &keys.body, &|| text(&sanitized(body.bytes)));
        }
        add(parts.headers, &keys.headers, &|| self.headers(view, &path));
        add(parts.host, &keys.host, &|| text(view.host));
        add(parts.id, &keys.id, &|| text(view.id));
        add(parts.method, &keys.method, &|| known.word(view.method));
        add(parts.path, &keys.path, &|| path.clone());
        add(parts.protocol, &keys.protocol, &|| known.word(view.protocol));
        add(parts.scheme, &keys.scheme, &|| known.word(view.scheme));
        if let Some(body) = body {
            // JSON of protocol buffers writes numbers of 64 bits as text.
            add(parts.size, &keys.size, &|| text(&body.bytes.len().to_string()));
        }
        object(fields)
    }

    fn headers(&self, view: &RequestView<'_>, path: &Value) -> Value {
        let mut received: Vec<(Value, Value)> = Vec::new();
        view.headers.for_each(&mut |name, value| {
            if !is_left_out(name) {
                received.push((self.known.header(name), text(value)));
            }
        });
        // Stable: values of one name stay in the order received.
        received.sort_by(|(a, _), (b, _)| a.cmp(b));
        let groups = received.chunk_by(|(a, _), (b, _)| a == b);
        let mut fields: Vec<(Value, Value)> =
            groups.map(|group| (group[0].0.clone(), joined(group))).collect();
        let keys = &self.keys;
        fields.push((keys.authority.clone(), text(view.host)));
        fields.push((keys.pseudo_method.clone(), self.known.word(view.method)));
        fields.push((keys.pseudo_path.clone(), path.clone()));
        fields.push((keys.pseudo_scheme.clone(), self.known.word(view.scheme)));
        if let Some(body) = view.body.filter(|_| self.parts.reads_body) {
            fields.push((text(PARTIAL_BODY), text(if body.truncated { "true" } else { "false" })));
        }
        object(fields)
    }
}

/// Whether a field of this name is not among the headers: those that are hidden in every shape, `host`, which Envoy turns
/// into `:authority`, and what only Envoy says.
pub(crate) fn is_left_out(name: &str) -> bool {
    name == "host" || name == PARTIAL_BODY || is_hidden(name)
}

/// The values of one field, as Envoy joins them.
fn joined(group: &[(Value, Value)]) -> Value {
    if let [(_, only)] = group {
        return only.clone();
    }
    let values: Vec<&str> =
        group.iter().filter_map(|(_, value)| value.as_string().ok()).map(AsRef::as_ref).collect();
    text(&values.join(","))
}

fn path(view: &RequestView<'_>) -> Value {
    let Some(query) = view.query else { return text(view.path) };
    text(&[view.path, "?", query].concat())
}

fn parsed_path(path: &str) -> Value {
    // The split of an empty text has one part.
    if path == "/" { Value::from(vec![text("")]) } else { segments(path) }
}

fn parsed_query(query: Option<&str>) -> Value {
    let mut values: BTreeMap<Value, Vec<Value>> = BTreeMap::new();
    for (name, value) in query.into_iter().flat_map(query_pairs) {
        if let (Some(name), Some(value)) = (go_form::decode(name), go_form::decode(value)) {
            values.entry(text(&name)).or_default().push(text(&value));
        }
    }
    object(values.into_iter().map(|(name, values)| (name, Value::from(values))).collect())
}

/// The body as the plugin parses it.
fn parse_body(view: &RequestView<'_>) -> Result<Value, DecisionError> {
    let Some(BodyView { bytes, truncated: false }) = view.body.filter(|body| !body.bytes.is_empty()) else {
        return Ok(Value::Null);
    };
    let mut content_type = String::new();
    view.headers.values("content-type", &mut |value| {
        if !content_type.is_empty() {
            content_type.push(',');
        }
        content_type.push_str(value);
    });
    // Anywhere in it and in this order, as the plugin looks for them.
    if content_type.contains("application/json") {
        body::parse(&BodyView { bytes, truncated: false })
    } else if content_type.contains("application/grpc") {
        Ok(Value::Null)
    } else if content_type.contains("application/x-www-form-urlencoded") {
        parsed_body::form(bytes)
    } else if content_type.contains("multipart/form-data") {
        Err(parsed_body::refused("is a form of several parts, which policies cannot read"))
    } else {
        Ok(Value::Null)
    }
}

/// As text; Envoy puts `!` for what is not UTF-8.
fn sanitized(bytes: &[u8]) -> String {
    let mut sanitized = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        sanitized.push_str(chunk.valid());
        sanitized.extend(chunk.invalid().iter().map(|_| '!'));
    }
    sanitized
}

/// What stays the same for a connection.
struct Peer {
    /// Held, so that equal addresses mean the same subject.
    subject: Subject,
    source: Value,
    destination: Value,
    tls_session: Option<Value>,
}

impl Peer {
    fn of(subject: &Subject) -> Self {
        let (client, connection) = (&subject.client, &subject.connection);
        let socket = |fields: Vec<(Value, Value)>| object(vec![(text("socketAddress"), object(fields))]);
        let remote = socket(vec![
            (text("address"), connection["remote_addr"].clone()),
            (text("portValue"), connection["remote_port"].clone()),
        ]);
        let local = socket(vec![(text("portValue"), connection["local_port"].clone())]);
        let mut source = vec![(text("address"), remote)];
        source.extend(principal(client).map(|principal| (text("principal"), principal)));
        let sni = &connection["sni"];
        Self {
            subject: subject.clone(),
            source: object(source),
            destination: object(vec![(text("address"), local)]),
            tls_session: (*sni != text("")).then(|| object(vec![(text("sni"), sni.clone())])),
        }
    }
}

/// As Envoy names a client: its first URI, else its first DNS name, else its subject.
fn principal(client: &Value) -> Option<Value> {
    let first = |names: &Value| names.as_array().ok().and_then(|names| names.first().cloned());
    let name = first(&client["san"]["uri"]).or_else(|| first(&client["san"]["dns"]));
    let name = name.unwrap_or_else(|| client["subject"]["dn"].clone());
    (client["verified"] == Value::Bool(true) && name != text("")).then_some(name)
}

/// The fixed keys of a document.
struct Keys {
    attributes: Value,
    authority: Value,
    body: Value,
    context_extensions: Value,
    destination: Value,
    filter_metadata: Value,
    headers: Value,
    host: Value,
    http: Value,
    id: Value,
    metadata_context: Value,
    method: Value,
    parsed_body: Value,
    parsed_path: Value,
    parsed_query: Value,
    path: Value,
    protocol: Value,
    pseudo_method: Value,
    pseudo_path: Value,
    pseudo_scheme: Value,
    request: Value,
    ringward: Value,
    scheme: Value,
    size: Value,
    source: Value,
    time: Value,
    tls_session: Value,
    truncated_body: Value,
    version: Value,
    version_value: Value,
}

impl Keys {
    fn new() -> Self {
        let version = object(vec![(text("encoding"), text("protojson")), (text("ext_authz"), text("v3"))]);
        Self {
            attributes: text("attributes"),
            authority: text(":authority"),
            body: text("body"),
            context_extensions: text("contextExtensions"),
            destination: text("destination"),
            filter_metadata: text("filterMetadata"),
            headers: text("headers"),
            host: text("host"),
            http: text("http"),
            id: text("id"),
            metadata_context: text("metadataContext"),
            method: text("method"),
            parsed_body: text("parsed_body"),
            parsed_path: text("parsed_path"),
            parsed_query: text("parsed_query"),
            path: text("path"),
            protocol: text("protocol"),
            pseudo_method: text(":method"),
            pseudo_path: text(":path"),
            pseudo_scheme: text(":scheme"),
            request: text("request"),
            ringward: text("ringward"),
            scheme: text("scheme"),
            size: text("size"),
            source: text("source"),
            time: text("time"),
            tls_session: text("tlsSession"),
            truncated_body: text("truncated_body"),
            version: text("version"),
            version_value: version,
        }
    }
}

#[cfg(test)]
mod tests;
