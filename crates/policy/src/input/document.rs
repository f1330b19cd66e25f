//! Builds the native input document of one request, and what other shapes have of it.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use regorus::Value;
use regorus::value::Object;
use ringward_identity::headers::is_stripped_inbound;
use smallvec::SmallVec;

use crate::decision::DecisionError;
use crate::input::body::{BodyBuilder, BodyParts};
use crate::input::subject::Subject;
use crate::input::values::text;
use crate::input::view::{RequestView, RouteView};
use crate::reads::Reads;

/// Version of the input's shape; policies find it in `input.version`.
const VERSION: u64 = 1;

const AUTH_AGE: &str = "auth_age_seconds";

/// Builds documents; owned by one worker. Keys and frequent texts are allocated once, here.
pub(crate) struct Builder {
    keys: Keys,
    parts: Parts,
    known: Known,
    recent: Recent,
    body: BodyBuilder,
    /// Pairs of the query at hand; kept for its capacity.
    pairs: Vec<(Value, Value)>,
}

/// Which parts a policy can read. What is not read is left out, which no policy can notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Parts {
    auth_age: bool,
    body: BodyParts,
    client: bool,
    connection: bool,
    headers: bool,
    headers_all: bool,
    host: bool,
    id: bool,
    method: bool,
    path: bool,
    protocol: bool,
    query: bool,
    raw_path: bool,
    scheme: bool,
    segments: bool,
    route: bool,
    time: bool,
}

impl Parts {
    pub(crate) fn of(reads: &Reads) -> Self {
        let request = |name| reads.may_read(&["request", name]);
        Self {
            auth_age: reads.may_read(&["connection", AUTH_AGE]),
            body: BodyParts::of(reads),
            client: reads.may_read(&["client"]),
            connection: reads.may_read(&["connection"]),
            headers: request("headers"),
            headers_all: request("headers_all"),
            host: request("host"),
            id: request("id"),
            method: request("method"),
            path: request("path"),
            protocol: request("protocol"),
            query: request("query"),
            raw_path: request("raw_path"),
            scheme: request("scheme"),
            segments: request("segments"),
            route: reads.may_read(&["route"]),
            time: reads.may_read(&["time"]),
        }
    }

    /// Everything: the whole documented input.
    pub(crate) const ALL: Self = Self {
        auth_age: true,
        body: BodyParts::ALL,
        client: true,
        connection: true,
        headers: true,
        headers_all: true,
        host: true,
        id: true,
        method: true,
        path: true,
        protocol: true,
        query: true,
        raw_path: true,
        scheme: true,
        segments: true,
        route: true,
        time: true,
    };
}

impl Builder {
    pub(crate) fn new(parts: Parts) -> Self {
        Self {
            keys: Keys::new(),
            parts,
            known: Known::new(),
            recent: Recent::default(),
            body: BodyBuilder::new(parts.body),
            pairs: Vec::new(),
        }
    }

    /// The document of a request.
    ///
    /// # Errors
    /// Of a body that there is no decision about, see [`BodyBuilder::build`].
    pub(crate) fn build(
        &mut self,
        subject: &Subject,
        view: &RequestView<'_>,
    ) -> Result<Value, DecisionError> {
        let request = self.request(view)?;
        Ok(self.document(subject, view, Some(request)))
    }

    /// What the document has beside the request: what Ringward knows and other gateways do not.
    pub(crate) fn beside_request(&mut self, subject: &Subject, view: &RequestView<'_>) -> Value {
        self.document(subject, view, None)
    }

    fn document(&mut self, subject: &Subject, view: &RequestView<'_>, request: Option<Value>) -> Value {
        let route = self.parts.route.then(|| self.route(&view.route));
        let time = self.parts.time.then(|| self.time(view.now_unix));
        let client = self.parts.client.then(|| subject.client.clone());
        let connection = self.parts.connection.then(|| self.connection(subject, view.now_unix));
        let keys = &self.keys;
        let mut fields = Vec::with_capacity(6);
        fields.extend(client.map(|client| (keys.client.clone(), client)));
        fields.extend(connection.map(|connection| (keys.connection.clone(), connection)));
        let version = request.is_some().then(|| (keys.version.clone(), keys.version_value.clone()));
        fields.extend(request.map(|request| (keys.request.clone(), request)));
        fields.extend(route.map(|route| (keys.route.clone(), route)));
        fields.extend(time.map(|time| (keys.time.clone(), time)));
        fields.extend(version);
        object(fields)
    }

    /// The connection, with the age of the client's proof if that is read. A copy per request then: all else in it
    /// stays the same for as long as the connection lives.
    fn connection(&self, subject: &Subject, now_unix: i64) -> Value {
        let mut connection = subject.connection.clone();
        if self.parts.auth_age
            && let Value::Object(fields) = &mut connection
        {
            // A clock that was set back makes nothing younger than now.
            let age = now_unix.saturating_sub(subject.auth_time_unix).max(0);
            Arc::make_mut(fields).insert(self.keys.auth_age.clone(), Value::from(age));
        }
        connection
    }

    fn request(&mut self, view: &RequestView<'_>) -> Result<Value, DecisionError> {
        let body = self.body.build(view)?;
        let (headers, headers_all) = self.headers(view);
        let query = if self.parts.query { self.query(view.query) } else { Value::Undefined };
        let host = if self.parts.host { self.recent.host.value(view.host) } else { Value::Undefined };
        let (keys, parts, known) = (&self.keys, &self.parts, &self.known);
        let mut fields = Vec::with_capacity(12);
        let mut add = |wanted: bool, key: &Value, value: &dyn Fn() -> Value| {
            if wanted {
                fields.push((key.clone(), value()));
            }
        };
        // In order of the keys, which saves the sort.
        add(parts.body.any(), &keys.body, &|| body.clone());
        add(parts.headers, &keys.headers, &|| headers.clone());
        add(parts.headers_all, &keys.headers_all, &|| headers_all.clone());
        add(parts.host, &keys.host, &|| host.clone());
        add(parts.id, &keys.id, &|| text(view.id));
        add(parts.method, &keys.method, &|| known.word(view.method));
        add(parts.path, &keys.path, &|| text(view.path));
        add(parts.protocol, &keys.protocol, &|| known.word(view.protocol));
        add(parts.query, &keys.query, &|| query.clone());
        add(parts.raw_path, &keys.raw_path, &|| text(view.raw_path));
        add(parts.scheme, &keys.scheme, &|| known.word(view.scheme));
        add(parts.segments, &keys.segments, &|| segments(view.path));
        Ok(object(fields))
    }

    /// `headers` and `headers_all`. Undefined where not wanted.
    fn headers(&mut self, view: &RequestView<'_>) -> (Value, Value) {
        if !self.parts.headers && !self.parts.headers_all {
            return (Value::Undefined, Value::Undefined);
        }
        let (known, Recent { fields, headers, .. }) = (&self.known, &mut self.recent);
        let (mut count, mut changed) = (0, headers.is_none());
        view.headers.for_each(&mut |name, value| {
            if is_hidden(name) {
                return;
            }
            // Requests in a row tend to have the same fields in the same order.
            changed |= match fields.get_mut(count) {
                Some(field) => field.become_like(known, name, value),
                None => {
                    fields.push(HeaderField::new(known.header(name), value));
                    true
                }
            };
            count += 1;
        });
        changed |= fields.len() > count;
        fields.truncate(count);
        if changed {
            *headers = None;
        }
        let parts = self.parts;
        headers.get_or_insert_with(|| header_objects(fields, parts)).clone()
    }

    /// `name=value` pairs, decoded as forms are; a name without `=` has the empty value.
    fn query(&mut self, query: Option<&str>) -> Value {
        let Some(query) = query.filter(|query| !query.is_empty()) else { return self.keys.empty.clone() };
        self.pairs.clear();
        for (name, value) in query_pairs(query) {
            self.pairs.push((text(&decode_form(name)), text(&decode_form(value))));
        }
        // Stable: values of one name stay in the order received.
        self.pairs.sort_by(|(a, _), (b, _)| a.cmp(b));
        let groups = self.pairs.chunk_by(|(a, _), (b, _)| a == b);
        let list = |group: &[(Value, Value)]| group.iter().map(|(_, v)| v.clone()).collect::<Vec<_>>();
        let query = object(groups.map(|group| (group[0].0.clone(), Value::from(list(group)))).collect());
        self.pairs.clear();
        query
    }

    fn route(&mut self, route: &RouteView<'_>) -> Value {
        let (keys, recent) = (&self.keys, &mut self.recent);
        let pairs = |pairs: &mut dyn Iterator<Item = (&str, &str)>| {
            let fields: Vec<_> = pairs.map(|(name, value)| (text(name), text(value))).collect();
            if fields.is_empty() { keys.empty.clone() } else { object(fields) }
        };
        let labels = &mut route.labels.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        object(vec![
            (keys.id.clone(), recent.route.value(route.id)),
            (keys.labels.clone(), pairs(labels)),
            (keys.params.clone(), params(route.params, &keys.empty)),
            (keys.template.clone(), recent.template.value(route.template)),
            (keys.upstream.clone(), recent.upstream.value(route.upstream)),
        ])
    }

    fn time(&mut self, now_unix: i64) -> Value {
        let unix_s = Value::from(now_unix);
        if self.recent.time.0 != unix_s {
            let document = object(vec![(self.keys.unix_s.clone(), unix_s.clone())]);
            self.recent.time = (unix_s, document);
        }
        self.recent.time.1.clone()
    }
}

/// Whether policies do not see fields of this name. They are removed before anything goes upstream; a policy must not believe
/// them either.
pub(crate) fn is_hidden(name: &str) -> bool {
    is_stripped_inbound(name.as_bytes())
}

/// Names and values of a query, still encoded, in the order received.
pub(crate) fn query_pairs(query: &str) -> impl Iterator<Item = (&str, &str)> {
    query.split('&').filter(|pair| !pair.is_empty()).map(|pair| pair.split_once('=').unwrap_or((pair, "")))
}

/// Decodes a name or value of a query.
pub(crate) fn decode_form(encoded: &str) -> Cow<'_, str> {
    decode(encoded, true)
}

/// An object. Fields are best given in order of their keys; of equal keys the last stays.
pub(crate) fn object(fields: Vec<(Value, Value)>) -> Value {
    // Left as the tree that it is: regorus' own conversion would copy it into a slice, which pays for what lives long.
    Value::Object(Arc::new(Object::from(fields.into_iter().collect::<BTreeMap<_, _>>())))
}

/// `headers` and `headers_all` of these fields.
fn header_objects(fields: &[HeaderField], parts: Parts) -> (Value, Value) {
    let mut sorted: SmallVec<[&HeaderField; 32]> = fields.iter().collect();
    // Stable: values of one name stay in the order received.
    sorted.sort_by(|a, b| a.name.cmp(&b.name));
    let groups = || sorted.chunk_by(|a, b| a.name == b.name);
    let joined = || object(groups().map(|group| (group[0].name.clone(), join(group))).collect());
    let listed = || object(groups().map(|group| (group[0].name.clone(), list(group))).collect());
    let headers = if parts.headers { joined() } else { Value::Undefined };
    let headers_all = if parts.headers_all { listed() } else { Value::Undefined };
    (headers, headers_all)
}

/// A header field with its value as text and as the list of this one text.
struct HeaderField {
    name: Value,
    value: Value,
    list: Value,
}

impl HeaderField {
    fn new(name: Value, value: &str) -> Self {
        let value = text(value);
        Self { name, list: Value::from(vec![value.clone()]), value }
    }

    /// Keeps what is the same already. Returns whether anything was not.
    fn become_like(&mut self, known: &Known, name: &str, value: &str) -> bool {
        let (same_name, same_value) = (is_text(&self.name, name), is_text(&self.value, value));
        if !same_name {
            self.name = known.header(name);
        }
        if !same_value {
            *self = Self::new(self.name.clone(), value);
        }
        !(same_name && same_value)
    }
}

fn is_text(value: &Value, text: &str) -> bool {
    matches!(value, Value::String(value) if value.as_ref() == text)
}

/// The values of one field as one (RFC 9110 §5.2: joined by a comma; `cookie` by a semicolon, RFC 6265 §4.2.1).
fn join(group: &[&HeaderField]) -> Value {
    if let [only] = group {
        return only.value.clone();
    }
    let separator = if is_text(&group[0].name, "cookie") { "; " } else { ", " };
    let mut joined = String::new();
    for (index, field) in group.iter().enumerate() {
        if index > 0 {
            joined.push_str(separator);
        }
        if let Value::String(value) = &field.value {
            joined.push_str(value);
        }
    }
    Value::String(joined.into())
}

/// The values of one field as a list.
fn list(group: &[&HeaderField]) -> Value {
    if let [only] = group {
        return only.list.clone();
    }
    Value::from(group.iter().map(|field| field.value.clone()).collect::<Vec<_>>())
}

/// The path's segments, each decoded after the split, so that an encoded slash never separates. `/` has none.
pub(crate) fn segments(path: &str) -> Value {
    let path = path.strip_prefix('/').unwrap_or(path);
    if path.is_empty() {
        return Value::new_array();
    }
    Value::from(path.split('/').map(|segment| text(&decode(segment, false))).collect::<Vec<_>>())
}

/// What the template's parameters stand for, decoded as the segments are, so that both compare alike with a claim. In a value of
/// several segments, one with an encoded slash stays encoded: decoded it would look like two.
pub(crate) fn params(params: &[(&str, &str)], empty: &Value) -> Value {
    if params.is_empty() {
        return empty.clone();
    }
    let decoded = |value: &str| -> Value {
        if !value.contains('%') {
            return text(value);
        }
        if !value.contains('/') {
            return text(&decode(value, false));
        }
        let segments = value.split('/').map(|encoded| match decode(encoded, false) {
            decoded if decoded.contains('/') => Cow::Borrowed(encoded),
            decoded => decoded,
        });
        text(&segments.collect::<Vec<_>>().join("/"))
    };
    object(params.iter().map(|(name, value)| (text(name), decoded(value))).collect())
}

/// Percent-decodes. What is no valid escape stays as it is; what is no UTF-8 afterwards is replaced by U+FFFD.
pub(crate) fn decode(encoded: &str, form: bool) -> Cow<'_, str> {
    if !encoded.bytes().any(|byte| byte == b'%' || (form && byte == b'+')) {
        return Cow::Borrowed(encoded);
    }
    let mut decoded = Vec::with_capacity(encoded.len());
    let mut bytes = encoded.as_bytes();
    while let [first, rest @ ..] = bytes {
        bytes = rest;
        match (*first, rest) {
            (b'%', [high, low, rest @ ..]) if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                decoded.push(hex(*high) << 4 | hex(*low));
                bytes = rest;
            }
            (b'+', _) if form => decoded.push(b' '),
            (byte, _) => decoded.push(byte),
        }
    }
    match String::from_utf8(decoded) {
        Ok(decoded) => Cow::Owned(decoded),
        Err(error) => Cow::Owned(String::from_utf8_lossy(error.as_bytes()).into_owned()),
    }
}

fn hex(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        _ => (digit | 0x20) - b'a' + 10,
    }
}

/// The fixed keys of a document.
struct Keys {
    auth_age: Value,
    body: Value,
    client: Value,
    connection: Value,
    headers: Value,
    headers_all: Value,
    host: Value,
    id: Value,
    labels: Value,
    method: Value,
    params: Value,
    path: Value,
    protocol: Value,
    query: Value,
    raw_path: Value,
    request: Value,
    route: Value,
    scheme: Value,
    segments: Value,
    template: Value,
    time: Value,
    unix_s: Value,
    upstream: Value,
    version: Value,
    version_value: Value,
    empty: Value,
}

impl Keys {
    fn new() -> Self {
        Self {
            auth_age: text(AUTH_AGE),
            body: text("body"),
            client: text("client"),
            connection: text("connection"),
            headers: text("headers"),
            headers_all: text("headers_all"),
            host: text("host"),
            id: text("id"),
            labels: text("labels"),
            method: text("method"),
            params: text("params"),
            path: text("path"),
            protocol: text("protocol"),
            query: text("query"),
            raw_path: text("raw_path"),
            request: text("request"),
            route: text("route"),
            scheme: text("scheme"),
            segments: text("segments"),
            template: text("template"),
            time: text("time"),
            unix_s: text("unix_s"),
            upstream: text("upstream"),
            version: text("version"),
            version_value: Value::from(VERSION),
            empty: Value::new_object(),
        }
    }
}

/// Texts of the last request, of which the next often has the same. One of each, so that no client can grow it.
struct Recent {
    host: Memo,
    route: Memo,
    template: Memo,
    upstream: Memo,
    /// Header fields by their position. As many as the last request had, which the limits of the head bound.
    fields: Vec<HeaderField>,
    /// `headers` and `headers_all` of these fields.
    headers: Option<(Value, Value)>,
    /// The second, and the document that says it.
    time: (Value, Value),
}

impl Default for Recent {
    fn default() -> Self {
        let [host, route, template, upstream] = [const { Memo(Value::Undefined) }; 4];
        Self {
            host,
            route,
            template,
            upstream,
            fields: Vec::new(),
            headers: None,
            time: (Value::Undefined, Value::Undefined),
        }
    }
}

/// A text and its value.
struct Memo(Value);

impl Memo {
    fn value(&mut self, wanted: &str) -> Value {
        if !is_text(&self.0, wanted) {
            self.0 = text(wanted);
        }
        self.0.clone()
    }
}

/// Texts that most requests share. Filled at the start and never from requests, so that no client can grow it.
pub(crate) struct Known {
    words: Vec<Value>,
    headers: HashMap<&'static str, Value>,
}

impl Known {
    pub(crate) fn new() -> Self {
        Self {
            words: WORDS.iter().map(|word| text(word)).collect(),
            headers: HEADERS.iter().map(|name| (*name, text(name))).collect(),
        }
    }

    /// A method, scheme or protocol.
    pub(crate) fn word(&self, word: &str) -> Value {
        let known =
            self.words.iter().find(|known| matches!(known, Value::String(known) if known.as_ref() == word));
        known.map_or_else(|| text(word), Value::clone)
    }

    pub(crate) fn header(&self, name: &str) -> Value {
        self.headers.get(name).map_or_else(|| text(name), Value::clone)
    }
}

const WORDS: &[&str] = &[
    "GET", "https", "HTTP/1.1", "POST", "PUT", "HEAD", "DELETE", "PATCH", "OPTIONS", "http", "HTTP/2",
    "HTTP/1.0",
];

/// Field names of ordinary requests.
const HEADERS: &[&str] = &[
    "accept",
    "accept-charset",
    "accept-encoding",
    "accept-language",
    "authorization",
    "cache-control",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "cookie",
    "date",
    "dnt",
    "expect",
    "forwarded",
    "from",
    "host",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "keep-alive",
    "max-forwards",
    "origin",
    "pragma",
    "priority",
    "range",
    "referer",
    "sec-ch-ua",
    "sec-ch-ua-mobile",
    "sec-ch-ua-platform",
    "sec-fetch-dest",
    "sec-fetch-mode",
    "sec-fetch-site",
    "sec-fetch-user",
    "te",
    "trailer",
    "traceparent",
    "tracestate",
    "transfer-encoding",
    "upgrade",
    "upgrade-insecure-requests",
    "user-agent",
    "via",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-real-ip",
    "x-request-id",
    "x-requested-with",
];

#[cfg(test)]
mod tests;
