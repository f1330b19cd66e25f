//! Encodings as Go has them.
//!
//! Bytes that are no UTF-8 are an error: OPA keeps them in its texts, regorus replaces them, and then texts would be
//! equal here that differ in OPA.

use regorus::Value;

use crate::builtins::original::{self, Check, Original};
use crate::builtins::{CallError, Function, text};

const CHECKS: &[(&str, Check)] = &[
    ("base64.decode", base64_decode),
    ("base64.is_valid", base64_is_valid),
    ("base64url.decode", |args| decoded("base64url.decode", args)),
    ("hex.decode", |args| decoded("hex.decode", args)),
    ("urlquery.decode", decode),
    ("urlquery.decode_object", decode_object),
    ("urlquery.encode", |args| escaped("urlquery.encode", args)),
    ("urlquery.encode_object", |args| escaped("urlquery.encode_object", args)),
];

pub(crate) fn functions() -> Vec<Function> {
    original::checked(CHECKS)
}

fn base64_decode(args: &[Value]) -> Result<Option<Value>, CallError> {
    let decoded =
        base64(text("base64.decode", args, 0)?).ok_or_else(|| CallError::new("text is not base64"))?;
    utf8(decoded).map(Some)
}

fn base64_is_valid(args: &[Value]) -> Result<Option<Value>, CallError> {
    Ok(Some(Value::Bool(base64(text("base64.is_valid", args, 0)?).is_some())))
}

/// The decoded bytes, `None` if it is not base64. Line breaks are skipped, and bits of no meaning ignored.
pub(crate) fn base64(encoded: &str) -> Option<Vec<u8>> {
    let encoded: Vec<u8> = encoded.bytes().filter(|byte| !matches!(byte, b'\r' | b'\n')).collect();
    let digits = encoded.iter().rposition(|byte| *byte != b'=').map_or(0, |last| last + 1);
    if !encoded.len().is_multiple_of(4) || encoded.len() - digits > 2 {
        return None;
    }
    let (mut decoded, mut bits, mut count) = (Vec::with_capacity(digits), 0_u32, 0);
    for digit in &encoded[..digits] {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            decoded.push((bits >> count) as u8);
        }
    }
    Some(decoded)
}

fn utf8(bytes: Vec<u8>) -> Result<Value, CallError> {
    String::from_utf8(bytes).map(Value::from).map_err(|_| CallError::new("decoded text is not UTF-8"))
}

/// regorus' result, unless it holds the character that stands in for what is no UTF-8.
fn decoded(name: &'static str, args: &[Value]) -> Result<Option<Value>, CallError> {
    let decoded = Original::of(name).call(args)?;
    if text(name, std::slice::from_ref(&decoded), 0)?.contains(char::REPLACEMENT_CHARACTER) {
        return Err(CallError::new("decoded text is not UTF-8"));
    }
    Ok(Some(decoded))
}

fn decode(args: &[Value]) -> Result<Option<Value>, CallError> {
    let encoded = text("urlquery.decode", args, 0)?;
    let mut decoded = Vec::with_capacity(encoded.len());
    let mut bytes = encoded.as_bytes();
    while let [first, rest @ ..] = bytes {
        bytes = rest;
        match first {
            b'%' => {
                let [high, low, rest @ ..] = rest else { return Err(invalid_escape()) };
                decoded.push(hex_digit(*high)? << 4 | hex_digit(*low)?);
                bytes = rest;
            }
            b'+' => decoded.push(b' '),
            byte => decoded.push(*byte),
        }
    }
    utf8(decoded).map(Some)
}

fn invalid_escape() -> CallError {
    CallError::new("query has an invalid escape sequence")
}

fn hex_digit(digit: u8) -> Result<u8, CallError> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok()).ok_or_else(invalid_escape)
}

fn decode_object(args: &[Value]) -> Result<Option<Value>, CallError> {
    if text("urlquery.decode_object", args, 0)?.contains(';') {
        return Err(CallError::new("query has a semicolon"));
    }
    // Fails for what is no escape sequence or no UTF-8; regorus leaves or replaces it.
    decode(args)?;
    Ok(None)
}

/// Go escapes `*` and not `~`.
fn escaped(name: &'static str, args: &[Value]) -> Result<Option<Value>, CallError> {
    let encoded = Original::of(name).call(args)?;
    let encoded = text(name, std::slice::from_ref(&encoded), 0)?;
    Ok(Some(Value::from(encoded.replace('*', "%2A").replace("%7E", "~"))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(name: &str, arg: &str) -> Result<String, String> {
        let args = [Value::from(arg)];
        let (name, check) = CHECKS.iter().find(|(checked, _)| *checked == name).unwrap();
        let result = match check(&args) {
            Ok(None) => Original::of(name).call(&args),
            Ok(Some(result)) => Ok(result),
            Err(error) => Err(error),
        };
        result.map(|result| result.to_json_str().unwrap()).map_err(|error| error.to_string())
    }

    #[test]
    fn results_are_those_of_go() {
        for (name, arg, expected) in [
            ("base64.decode", "aMOp", "\"hé\""),
            ("base64.decode", "aGVs\r\nbG8=", "\"hello\""),
            ("base64.decode", "YR==", "\"a\""),
            ("base64.decode", "", "\"\""),
            ("base64.is_valid", "YQ", "false"),
            ("base64.is_valid", "Y===", "false"),
            ("base64.is_valid", "=", "false"),
            ("base64.is_valid", "Y=Q=", "false"),
            ("base64.is_valid", "/w==", "true"),
            ("urlquery.decode", "a+b%26&c ", "\"a b&&c \""),
            ("urlquery.encode", "a b*~é", "\"a+b%2A~%C3%A9\""),
        ] {
            assert_eq!(call(name, arg).as_deref(), Ok(expected), "{name} {arg}");
        }
    }

    #[test]
    fn what_is_no_encoding_or_no_text_is_an_error() {
        for (name, arg) in [
            ("base64.decode", "YQ"),
            ("base64.decode", "!"),
            ("base64.decode", "/w=="),
            ("base64url.decode", "_w"),
            ("hex.decode", "ff"),
            ("urlquery.decode", "%zz"),
            ("urlquery.decode", "%a"),
            ("urlquery.decode", "%+1"),
            ("urlquery.decode", "%ff"),
            ("urlquery.decode_object", "a=%zz"),
            ("urlquery.decode_object", "a=1;b=2"),
        ] {
            assert!(call(name, arg).is_err(), "{name} {arg}");
        }
    }
}
