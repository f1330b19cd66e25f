//! Reads the answer of an OPA server: an object with the rule's value as `result`, or without it if the rule has none.
//!
//! What two readers could understand differently is refused, since the other reader may be OPA: keys that occur twice, numbers
//! that would be rounded. Members beside `result` (`decision_id`, `metrics`, `warning` and the like) decide nothing.

use regorus::Value;

use crate::builtins::bounded;
use crate::documents;

/// The value of the rule; undefined without one.
///
/// # Errors
/// Why the answer is none.
pub(super) fn result(answer: &[u8]) -> Result<Value, String> {
    if let Some(number) = numbers(answer).find(|number| !is_kept(number)) {
        return Err(format!("number `{number}` would be rounded"));
    }
    let value = documents::read_json(answer, documents::DATA_BOUNDS).map_err(|error| error.to_string())?;
    match &value {
        Value::Object(members) => {
            Ok(members.get(&Value::from("result")).cloned().unwrap_or(Value::Undefined))
        }
        _ => Err("it is no object".to_owned()),
    }
}

/// Everything outside of strings that could be a number.
fn numbers(json: &[u8]) -> impl Iterator<Item = &str> {
    let mut rest = json;
    std::iter::from_fn(move || {
        loop {
            let begin = rest.iter().position(|&byte| byte == b'"' || is_of_number(byte))?;
            rest = &rest[begin..];
            if rest[0] == b'"' {
                rest = after_string(rest);
                continue;
            }
            let end = rest.iter().position(|&byte| !is_of_number(byte)).unwrap_or(rest.len());
            let (word, after) = rest.split_at(end);
            rest = after;
            // The other words are `true`, `false` and `null`, or no JSON.
            if word[0] == b'-' || word[0].is_ascii_digit() {
                return Some(std::str::from_utf8(word).unwrap_or("?"));
            }
        }
    })
}

fn is_of_number(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'+')
}

/// What follows the string at the front.
fn after_string(json: &[u8]) -> &[u8] {
    let mut at = 1;
    while let Some(&byte) = json.get(at) {
        match byte {
            b'"' => return &json[at + 1..],
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    &[]
}

/// Whether a number is the same once it was read.
fn is_kept(number: &str) -> bool {
    let is_zero =
        || !number.bytes().take_while(|byte| byte | 0x20 != b'e').any(|b| (b'1'..=b'9').contains(&b));
    // What is too small for a fraction of 53 bits becomes another, or zero.
    bounded::is_exact(number) && number.parse::<f64>().is_ok_and(|value| value.is_normal() || is_zero())
}
