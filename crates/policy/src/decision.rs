//! What a policy's result means, and which results are none.
//!
//! A result is `true`, `false` or an object with the fields that OPA's Envoy plugin knows. Every part is checked before
//! it can touch a message: a result that asks for something that Ringward would not do is an error and so denies,
//! it is never carried out in part.

mod combine;

use std::sync::Arc;

use regorus::Value;
use ringward_identity::headers::is_identity_lookalike;

pub use self::combine::combine;
use crate::server_error::ServerError;

/// A header field to be written: name and value.
pub type HeaderPair = (Arc<str>, Arc<str>);

/// A query parameter to be written, not encoded: name and value.
pub type QueryParameter = (Arc<str>, Arc<str>);

/// The outcome of an evaluation that went well.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Decision {
    /// Whether the request may go on.
    pub allowed: bool,
    /// The deciding rule had no value: denied, and worth telling apart from an intended denial.
    pub undefined: bool,
    /// Status of the answer to a denied request, 400 to 599; `None` for the usual one.
    pub status: Option<u16>,
    /// Body of the answer to a denied request.
    pub body: Option<Arc<str>>,
    /// Fields for the answer to a denied request.
    pub headers: Vec<HeaderPair>,
    /// Fields that replace those of the request before it goes upstream; empty when denied.
    pub request_headers_to_set: Vec<HeaderPair>,
    /// Fields that are removed from the request before it goes upstream; empty when denied.
    pub request_headers_to_remove: Vec<Arc<str>>,
    /// Fields that are added to the upstream's answer; empty when denied.
    pub response_headers_to_add: Vec<HeaderPair>,
    /// Query parameters, decoded, that replace all of their names before the request goes upstream; empty when denied.
    pub query_parameters_to_set: Vec<QueryParameter>,
    /// Names of query parameters, decoded, that are removed before the request goes upstream; empty when denied.
    pub query_parameters_to_remove: Vec<Arc<str>>,
    /// What the policy notes for the log, whatever it decides: an object as JSON on one line.
    pub metadata: Option<Arc<str>>,
    /// Name of the rule that decided, as the policy calls it.
    pub rule: Option<Arc<str>>,
    /// Why, in the policy's words.
    pub reason: Option<Arc<str>>,
    /// For how many seconds the decision may be given again to equal requests; 0 for not at all, `None` for as long as the
    /// policy stays the same.
    pub cache_ttl: Option<u32>,
}

/// Why there is no decision. The caller denies with 500; nothing of it is for the client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecisionError {
    /// The evaluation ended in an error: a builtin refused its arguments, two rules contradict each other, ...
    #[error("policy evaluation failed: {0}")]
    Evaluation(String),
    /// The result is neither a boolean nor an object.
    #[error("policy result is {0}, expected a boolean or an object with `allowed`")]
    WrongType(&'static str),
    /// The policy reads the body of the request, and it is not what it says it is, or not the same to everybody.
    #[error("the body {0}")]
    Body(String),
    /// The evaluation took longer than its time budget.
    #[error("policy evaluation exceeded its time budget")]
    TimeBudget,
    /// The result is an object with a field that cannot be carried out.
    #[error("policy result is invalid: {0}")]
    InvalidResult(String),
    /// The evaluator panicked and was rebuilt.
    #[error("policy evaluator panicked")]
    Panic,
    /// The server that decides did not.
    #[error("the policy server gave no decision: {0}")]
    Server(ServerError),
}

impl DecisionError {
    /// A stable name for metrics and logs.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Evaluation(_) => "evaluation",
            Self::WrongType(_) => "wrong_type",
            Self::Body(_) => "body",
            Self::TimeBudget => "time_budget",
            Self::InvalidResult(_) => "invalid_result",
            Self::Panic => "panic",
            Self::Server(_) => "server",
        }
    }
}

impl Decision {
    /// Reads the value of the deciding rule.
    pub(crate) fn from_value(value: &Value) -> Result<Self, DecisionError> {
        match value {
            Value::Bool(allowed) => Ok(Self { allowed: *allowed, ..Self::default() }),
            Value::Undefined => Ok(Self { undefined: true, ..Self::default() }),
            Value::Object(fields) => {
                let mut result = Fields::default();
                for (name, value) in fields.iter() {
                    let name = name.as_string().map_err(|_| invalid("a field name is not a string"))?;
                    result.field(name, value)?;
                }
                result.decision()
            }
            other => Err(DecisionError::WrongType(type_name(other))),
        }
    }
}

/// The fields of a result object as they come.
#[derive(Default)]
struct Fields {
    allowed: Option<bool>,
    status: Option<u16>,
    body: Option<Arc<str>>,
    headers: Vec<HeaderPair>,
    response_headers_to_add: Vec<HeaderPair>,
    request_headers_to_remove: Vec<Arc<str>>,
    query_parameters_to_set: Vec<QueryParameter>,
    query_parameters_to_remove: Vec<Arc<str>>,
    metadata: Option<Arc<str>>,
    rule: Option<Arc<str>>,
    reason: Option<Arc<str>>,
    cache_ttl: Option<u32>,
}

impl Fields {
    fn field(&mut self, name: &str, value: &Value) -> Result<(), DecisionError> {
        match name {
            "allowed" | "allow" => {
                let Value::Bool(allowed) = value else { return Err(wrong(name, value, "a boolean")) };
                if self.allowed.replace(*allowed).is_some() {
                    return Err(invalid("`allowed` and `allow` are both given"));
                }
            }
            "http_status" => self.status = Some(status(value)?),
            "body" => self.body = Some(string(name, value, BODY_BYTES_MAX)?),
            "headers" => self.headers = header_pairs(name, value)?,
            "response_headers_to_add" => self.response_headers_to_add = header_pairs(name, value)?,
            "request_headers_to_remove" => self.request_headers_to_remove = header_names(name, value)?,
            "rule" => self.rule = Some(string(name, value, RULE_BYTES_MAX)?),
            "reason" => self.reason = Some(string(name, value, REASON_BYTES_MAX)?),
            "query_parameters_to_set" => self.query_parameters_to_set = parameters(value)?,
            "query_parameters_to_remove" => self.query_parameters_to_remove = parameter_names(value)?,
            "dynamic_metadata" => self.metadata = Some(metadata(value)?),
            "cache_ttl" => self.cache_ttl = Some(seconds(name, value)?),
            _ => return Err(invalid(&format!("unknown field `{}`", printable(name)))),
        }
        Ok(())
    }

    fn decision(self) -> Result<Decision, DecisionError> {
        let allowed = self.allowed.ok_or_else(|| invalid("`allowed` is missing"))?;
        if let Some((name, _)) = self
            .query_parameters_to_set
            .iter()
            .find(|(name, _)| self.query_parameters_to_remove.contains(name))
        {
            return Err(invalid(&format!("query parameter `{}` is both set and removed", printable(name))));
        }
        let Self { rule, reason, cache_ttl, metadata, .. } = self;
        if allowed {
            // As in Envoy, `headers` go upstream with an allowed request; status and body are for denied ones.
            return Ok(Decision {
                allowed,
                rule,
                reason,
                cache_ttl,
                metadata,
                query_parameters_to_set: self.query_parameters_to_set,
                query_parameters_to_remove: self.query_parameters_to_remove,
                request_headers_to_set: self.headers,
                request_headers_to_remove: self.request_headers_to_remove,
                response_headers_to_add: self.response_headers_to_add,
                ..Decision::default()
            });
        }
        if let Some(status @ ..400) = self.status {
            return Err(invalid(&format!("`http_status` {status} does not deny, use 400 to 599")));
        }
        Ok(Decision {
            rule,
            reason,
            cache_ttl,
            metadata,
            status: self.status,
            body: self.body,
            headers: self.headers,
            ..Decision::default()
        })
    }
}

fn status(value: &Value) -> Result<u16, DecisionError> {
    match value.as_u16() {
        Ok(status @ 200..=599) => Ok(status),
        Ok(status) => Err(invalid(&format!("`http_status` {status} is not between 200 and 599"))),
        Err(_) => Err(wrong("http_status", value, "a whole number")),
    }
}

fn seconds(name: &str, value: &Value) -> Result<u32, DecisionError> {
    value.as_u32().map_err(|_| wrong(name, value, "a whole number of seconds"))
}

fn string(name: &str, value: &Value, bytes_max: usize) -> Result<Arc<str>, DecisionError> {
    let Value::String(text) = value else { return Err(wrong(name, value, "a string")) };
    if text.len() > bytes_max {
        return Err(invalid(&format!("`{name}` has {} bytes, more than {bytes_max}", text.len())));
    }
    Ok(Arc::clone(text))
}

/// An object of names to a value or a list of values, or a list of such objects.
fn header_pairs(field: &str, value: &Value) -> Result<Vec<HeaderPair>, DecisionError> {
    let mut pairs = Vec::new();
    match value {
        Value::Object(_) => object_pairs(field, value, &mut pairs)?,
        Value::Array(items) => items.iter().try_for_each(|item| object_pairs(field, item, &mut pairs))?,
        _ => return Err(wrong(field, value, "an object of header fields")),
    }
    if pairs.len() > FIELDS_MAX {
        return Err(invalid(&format!("`{field}` has {} fields, more than {FIELDS_MAX}", pairs.len())));
    }
    Ok(pairs)
}

fn object_pairs(field: &str, value: &Value, pairs: &mut Vec<HeaderPair>) -> Result<(), DecisionError> {
    let Value::Object(object) = value else { return Err(wrong(field, value, "an object of header fields")) };
    for (name, value) in object.iter() {
        let name = header_name(field, name)?;
        match value {
            Value::Array(values) => {
                for value in values.iter() {
                    pairs.push((Arc::clone(&name), header_value(field, &name, value)?));
                }
            }
            value => pairs.push((Arc::clone(&name), header_value(field, &name, value)?)),
        }
    }
    Ok(())
}

fn header_names(field: &str, value: &Value) -> Result<Vec<Arc<str>>, DecisionError> {
    let names: Result<Vec<_>, _> = match value {
        Value::Array(names) => names.iter().map(|name| header_name(field, name)).collect(),
        Value::Set(names) => names.iter().map(|name| header_name(field, name)).collect(),
        _ => return Err(wrong(field, value, "a list of header names")),
    };
    let names = names?;
    if names.len() > FIELDS_MAX {
        return Err(invalid(&format!("`{field}` has {} names, more than {FIELDS_MAX}", names.len())));
    }
    Ok(names)
}

/// An object of names to a value or a list of values.
fn parameters(value: &Value) -> Result<Vec<QueryParameter>, DecisionError> {
    const FIELD: &str = "query_parameters_to_set";
    let Value::Object(object) = value else { return Err(wrong(FIELD, value, "an object of parameters")) };
    let mut parameters = Vec::new();
    for (name, value) in object.iter() {
        let name = parameter_name(FIELD, name)?;
        let mut set = |value: &Value| {
            parameters.push((Arc::clone(&name), string(FIELD, value, VALUE_BYTES_MAX)?));
            Ok(())
        };
        match value {
            Value::Array(values) => values.iter().try_for_each(&mut set)?,
            value => set(value)?,
        }
    }
    bounded(FIELD, parameters)
}

fn parameter_names(value: &Value) -> Result<Vec<Arc<str>>, DecisionError> {
    const FIELD: &str = "query_parameters_to_remove";
    let names: Result<Vec<_>, _> = match value {
        Value::Array(names) => names.iter().map(|name| parameter_name(FIELD, name)).collect(),
        Value::Set(names) => names.iter().map(|name| parameter_name(FIELD, name)).collect(),
        _ => return Err(wrong(FIELD, value, "a list of parameter names")),
    };
    bounded(FIELD, names?)
}

fn parameter_name(field: &str, name: &Value) -> Result<Arc<str>, DecisionError> {
    let name = string(field, name, NAME_BYTES_MAX)?;
    if name.is_empty() {
        Err(invalid(&format!("`{field}` names a parameter without a name")))
    } else {
        Ok(name)
    }
}

fn bounded<T>(field: &str, items: Vec<T>) -> Result<Vec<T>, DecisionError> {
    if items.len() > FIELDS_MAX {
        return Err(invalid(&format!("`{field}` has {} entries, more than {FIELDS_MAX}", items.len())));
    }
    Ok(items)
}

/// An object, as JSON on one line.
fn metadata(value: &Value) -> Result<Arc<str>, DecisionError> {
    const FIELD: &str = "dynamic_metadata";
    let Value::Object(_) = value else { return Err(wrong(FIELD, value, "an object")) };
    let json =
        serde_json::to_string(value).map_err(|error| invalid(&format!("`{FIELD}` is no JSON: {error}")))?;
    if json.len() > METADATA_BYTES_MAX {
        let message = format!("`{FIELD}` has {} bytes as JSON, more than {METADATA_BYTES_MAX}", json.len());
        return Err(invalid(&message));
    }
    Ok(json.into())
}

fn header_name(field: &str, name: &Value) -> Result<Arc<str>, DecisionError> {
    let Value::String(name) = name else { return Err(wrong(field, name, "a header name")) };
    // RFC 9110 §5.6.2: a field name is a token.
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.bytes().all(token) {
        return Err(invalid(&format!(
            "`{field}` names header `{}`, which is no header name",
            printable(name)
        )));
    }
    if is_identity_lookalike(name.as_bytes()) {
        return Err(invalid(&format!("`{field}` names header `{name}`, which only ringward may write")));
    }
    if RESERVED.iter().any(|reserved| is_lookalike(name, reserved)) {
        return Err(invalid(&format!("`{field}` names header `{name}`, which belongs to the connection")));
    }
    if FORWARDED.iter().any(|reserved| is_lookalike(name, reserved)) {
        return Err(invalid(&format!(
            "`{field}` names header `{name}`, which is set by configuration (`forward`)"
        )));
    }
    Ok(Arc::clone(name))
}

/// Equal in any case and with `_` for `-`, which many servers do not tell apart.
fn is_lookalike(name: &str, reserved: &str) -> bool {
    let fold = |byte: u8| if byte == b'_' { b'-' } else { byte.to_ascii_lowercase() };
    name.len() == reserved.len()
        && name.bytes().zip(reserved.bytes()).all(|(byte, wanted)| fold(byte) == wanted)
}

fn header_value(field: &str, name: &str, value: &Value) -> Result<Arc<str>, DecisionError> {
    let Value::String(text) = value else {
        return Err(wrong(field, value, "a header value, which is a string"));
    };
    if text.len() > VALUE_BYTES_MAX {
        let message = format!("`{field}` gives `{name}` {} bytes, more than {VALUE_BYTES_MAX}", text.len());
        return Err(invalid(&message));
    }
    // RFC 9110 §5.5: CR, LF and NUL are dangerous, other control characters but the tab are invalid.
    if text.bytes().any(|byte| (byte < b' ' && byte != b'\t') || byte == 0x7f) {
        return Err(invalid(&format!("`{field}` gives `{name}` a value with a control character")));
    }
    if text.starts_with([' ', '\t']) || text.ends_with([' ', '\t']) {
        return Err(invalid(&format!("`{field}` gives `{name}` a value that begins or ends with a blank")));
    }
    Ok(Arc::clone(text))
}

fn invalid(message: &str) -> DecisionError {
    DecisionError::InvalidResult(message.to_owned())
}

fn wrong(field: &str, value: &Value, expected: &str) -> DecisionError {
    invalid(&format!("`{field}` holds {}, expected {expected}", type_name(value)))
}

/// A name from a policy, fit for a log line.
fn printable(name: &str) -> String {
    name.chars().take(64).flat_map(char::escape_debug).collect()
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Set(_) => "a set",
        Value::Object(_) => "an object",
        Value::Undefined => "undefined",
    }
}

/// Message framing, hop-by-hop fields (RFC 9110 §7.6.1) and what the head itself says (RFC 9112 §3.2).
const RESERVED: &[&str] = &[
    "connection",
    "content-length",
    "expect",
    "host",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// What tells an upstream about the connection, written as `forward` says.
const FORWARDED: &[&str] =
    &["forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-forwarded-port", "x-forwarded-proto"];

/// Most fields or names in one list of a result.
const FIELDS_MAX: usize = 64;
/// Most bytes of a header name.
const NAME_BYTES_MAX: usize = 128;
/// Most bytes of a header value; upstreams commonly take heads of 8 KiB.
const VALUE_BYTES_MAX: usize = 4096;
/// Most bytes of a body.
const BODY_BYTES_MAX: usize = 64 * 1024;
/// Most bytes of a rule's name; it stands in every record.
pub(crate) const RULE_BYTES_MAX: usize = 128;
/// Most bytes of the metadata as JSON; it stands in the record, which has room for as many.
const METADATA_BYTES_MAX: usize = 4096;
/// Most bytes of a reason.
pub(crate) const REASON_BYTES_MAX: usize = 1024;

#[cfg(test)]
mod tests;
