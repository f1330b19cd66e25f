//! What policies see of a request's body.
//!
//! Only policies that read it have it looked at. Nothing is decoded on the way: a body in a content coding (`gzip`) shows as
//! the bytes that it is. JSON shows only if everybody reads it alike. The upstream has a parser of its own, and a body in which
//! that one finds another value than the policy did would be the way around the policy: a key that is there twice, a number
//! that is rounded. There is no decision about such a body.

use regorus::Value;

use crate::builtins::bounded::is_exact;
use crate::decision::DecisionError;
use crate::documents::{self, Bounds};
use crate::input::document::object;
use crate::input::values::text;
use crate::input::view::{BodyView, RequestView};
use crate::reads::Reads;

/// Most values in a body. One of two bytes (`0,`) takes about ten times as much memory, and nothing looks at the clock while it
/// is made.
pub(crate) const VALUES_MAX: usize = 32 * 1024;
/// Bounds of JSON in a body.
const BOUNDS: Bounds = Bounds { depth_max: 64, values_max: VALUES_MAX };

/// Which fields of the body a policy can read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BodyParts {
    any: bool,
    json: bool,
    text: bool,
}

impl BodyParts {
    pub(crate) const ALL: Self = Self { any: true, json: true, text: true };

    pub(crate) fn of(reads: &Reads) -> Self {
        Self {
            any: reads.may_read(&["request", "body"]),
            json: reads.may_read(&["request", "body", "json"]),
            text: reads.may_read(&["request", "body", "text"]),
        }
    }

    /// Whether there is any.
    pub(crate) fn any(self) -> bool {
        self.any
    }
}

/// Builds `input.request.body`.
pub(crate) struct BodyBuilder {
    parts: BodyParts,
    json: Value,
    size: Value,
    text: Value,
    truncated: Value,
}

impl BodyBuilder {
    pub(crate) fn new(parts: BodyParts) -> Self {
        Self {
            parts,
            json: text("json"),
            size: text("size"),
            text: text("text"),
            truncated: text("truncated"),
        }
    }

    /// What the policy reads of the body; undefined if that is nothing.
    ///
    /// # Errors
    /// Of a body that says that it is JSON and is not, or not the same to everybody, and if nobody has read the body.
    pub(crate) fn build(&self, view: &RequestView<'_>) -> Result<Value, DecisionError> {
        if !self.parts.any {
            return Ok(Value::Undefined);
        }
        let Some(body) = view.body else {
            return Err(DecisionError::Evaluation("the body was not read before the decision".to_owned()));
        };
        let mut fields = Vec::with_capacity(4);
        if self.parts.json {
            let json = json(view)?;
            if json != Value::Undefined {
                fields.push((self.json.clone(), json));
            }
        }
        fields.push((self.size.clone(), Value::from(body.bytes.len())));
        if self.parts.text {
            // As in header fields, what is no text shows as U+FFFD: one such byte must not hide all the others.
            fields.push((self.text.clone(), text(&String::from_utf8_lossy(body.bytes))));
        }
        fields.push((self.truncated.clone(), Value::Bool(body.truncated)));
        Ok(object(fields))
    }
}

/// The JSON in the body of a request. Undefined if its fields do not say that it is JSON without a content coding, if there is
/// no body, and if not all of it is there.
///
/// # Errors
/// [`DecisionError::Body`], as [`parse`].
pub(crate) fn json(view: &RequestView<'_>) -> Result<Value, DecisionError> {
    let (mut types, mut is_json, mut is_coded) = (0, false, false);
    view.headers.values("content-type", &mut |value| {
        types += 1;
        is_json = says_json(value);
    });
    view.headers.values("content-encoding", &mut |value| {
        is_coded |= !matches!(value.trim(), "" | "identity");
    });
    match &view.body {
        // Of two types the upstream may believe the other one.
        Some(body) if types == 1 && is_json && !is_coded => parse(body),
        _ => Ok(Value::Undefined),
    }
}

/// A body as JSON, whatever its fields say. Undefined if it is empty, or not all of it is there.
///
/// # Errors
/// [`DecisionError::Body`] if it is malformed, too deep or too large, or if two readers could take it for different values. The
/// error has nothing of the body: it is for the log.
pub(crate) fn parse(body: &BodyView<'_>) -> Result<Value, DecisionError> {
    if body.truncated || body.bytes.is_empty() {
        return Ok(Value::Undefined);
    }
    let value = documents::read_json(body.bytes, BOUNDS).map_err(|error| {
        let what = match error.classify() {
            serde_json::error::Category::Data => {
                "a key occurs twice, a number is too large, or it is nested too deep or has too many values,"
            }
            _ => "it is malformed",
        };
        refused(&format!("{what} at line {} column {}", error.line(), error.column()))
    })?;
    match numbers(body.bytes).all(is_kept) {
        true => Ok(value),
        false => Err(refused("a number has too many digits")),
    }
}

fn refused(why: &str) -> DecisionError {
    DecisionError::Body(format!("is not JSON that everybody reads alike: {why}"))
}

/// Whether this content type is JSON (RFC 8259 §11, RFC 6839 §3.1), in the one encoding that JSON has.
fn says_json(content_type: &str) -> bool {
    let mut parts = content_type.split(';');
    let Some((kind, subtype)) = parts.next().and_then(|media| media.trim().split_once('/')) else {
        return false;
    };
    // A list of types is none.
    if subtype.contains([',', ' ', '\t', '/']) {
        return false;
    }
    let (kind, subtype) = (kind.to_ascii_lowercase(), subtype.to_ascii_lowercase());
    let is_json = kind == "application" && subtype == "json" || subtype.ends_with("+json");
    is_json
        && parts.filter_map(|parameter| parameter.split_once('=')).all(|(name, value)| {
            let encoding = value.trim().trim_matches('"').to_ascii_lowercase();
            !name.trim().eq_ignore_ascii_case("charset")
                || matches!(&*encoding, "utf-8" | "utf8" | "us-ascii")
        })
}

/// The numbers of well-formed JSON, as they are written.
fn numbers(json: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = json;
    std::iter::from_fn(move || {
        while let [first, after @ ..] = rest {
            match first {
                b'"' => rest = after_string(after),
                b'-' | b'0'..=b'9' => {
                    let is_part = |byte: &u8| byte.is_ascii_digit() || b"-+.eE".contains(byte);
                    let end = rest.iter().position(|byte| !is_part(byte)).unwrap_or(rest.len());
                    let (number, after) = rest.split_at(end);
                    rest = after;
                    return Some(number);
                }
                _ => rest = after,
            }
        }
        None
    })
}

/// What follows a string, from behind its first quotation mark.
fn after_string(mut rest: &[u8]) -> &[u8] {
    loop {
        rest = match rest {
            [b'\\', _, after @ ..] => after,
            [b'"', after @ ..] => return after,
            [_, after @ ..] => after,
            [] => return rest,
        };
    }
}

/// Whether the evaluator tells this number from all others of as many digits. Those too near to 0 become 0, or lose digits.
fn is_kept(number: &[u8]) -> bool {
    let Ok(number) = str::from_utf8(number) else { return false };
    let mantissa = number.split(['e', 'E']).next().unwrap_or(number);
    let is_zero = !mantissa.bytes().any(|byte| matches!(byte, b'1'..=b'9'));
    is_zero || is_exact(number) && number.parse().is_ok_and(f64::is_normal)
}

#[cfg(test)]
mod tests;
