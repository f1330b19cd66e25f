//! Builtins whose results in regorus differ from OPA's, put right or, where OPA fails, made to fail.
//!
//! A result that differs allows as easily as it denies: `strings.count(path, "//") != 2` is a condition like any other.
//! What is known to differ and is not mended here is listed in `DIFFERENCES.md`.

use regorus::Value;

use crate::builtins::original::{self, Check, Original};
use crate::builtins::{CallError, Function, text};

const CHECKS: &[(&str, Check)] = &[
    // These give nothing in places where OPA's fail.
    ("array.slice", as_it_is),
    ("bits.and", as_it_is),
    ("bits.negate", as_it_is),
    ("bits.or", as_it_is),
    ("bits.rsh", as_it_is),
    ("bits.xor", as_it_is),
    ("ceil", no_small_negative),
    ("floor", no_small_negative),
    ("format_int", no_small_negative),
    ("indexof", needle),
    ("indexof_n", needle),
    ("json.filter", json_paths),
    ("json.marshal", json_marshal),
    ("json.remove", json_paths),
    ("lower", lower),
    ("semver.is_valid", semver_is_valid),
    ("strings.count", strings_count),
    ("upper", upper),
    ("uuid.parse", uuid_parse),
];

pub(crate) fn functions() -> Vec<Function> {
    original::checked(CHECKS)
}

fn as_it_is(_: &[Value]) -> Result<Option<Value>, CallError> {
    Ok(None)
}

/// OPA rounds between -1 and 0 to the wrong side.
fn no_small_negative(args: &[Value]) -> Result<Option<Value>, CallError> {
    match &args[0] {
        Value::Number(number) if number.as_f64().is_some_and(|number| -1.0 < number && number < 0.0) => {
            Err(CallError::new("number lies between -1 and 0"))
        }
        _ => Ok(None),
    }
}

/// OPA takes a `v` before and zeros in front of numbers, and calls every other value invalid.
fn semver_is_valid(args: &[Value]) -> Result<Option<Value>, CallError> {
    let Value::String(version) = &args[0] else { return Ok(Some(Value::Bool(false))) };
    let has_zero = |part: &str| part.len() > 1 && part.starts_with('0');
    if version.starts_with('v') || version.split(['.', '-', '+']).any(has_zero) {
        return Err(CallError(format!(
            "version `{version}` has a `v` before it or a zero in front of a number"
        )));
    }
    Ok(None)
}

/// regorus names other variants than OPA.
fn uuid_parse(args: &[Value]) -> Result<Option<Value>, CallError> {
    let parsed = Original::of("uuid.parse").call(args)?;
    match &parsed["variant"] {
        Value::String(variant) if variant.as_ref() == "RFC4122" => Ok(Some(parsed)),
        _ => Err(CallError::new("UUID is not of the variant of RFC 4122")),
    }
}

fn needle(args: &[Value]) -> Result<Option<Value>, CallError> {
    match &args[1] {
        Value::String(needle) if needle.is_empty() => Err(CallError::new("search text is empty")),
        _ => Ok(None),
    }
}

/// regorus takes `/a` for a field without a name.
fn json_paths(args: &[Value]) -> Result<Option<Value>, CallError> {
    let leads = |path: &Value| matches!(path, Value::String(path) if path.starts_with('/'));
    let wrong = match &args[1] {
        Value::Array(paths) => paths.iter().any(leads),
        Value::Set(paths) => paths.iter().any(leads),
        _ => false,
    };
    if wrong { Err(CallError::new("JSON path begins with `/`: write `a/b`")) } else { Ok(None) }
}

/// Go escapes what could end a script in HTML. All of it occurs in texts only.
fn json_marshal(args: &[Value]) -> Result<Option<Value>, CallError> {
    if would_round(&args[0]) {
        return Err(CallError::new("`json.marshal` would round a number of more than 64 bits"));
    }
    let json = Original::of("json.marshal").call(args)?;
    let json = text("json.marshal", std::slice::from_ref(&json), 0)?;
    let mut escaped = String::with_capacity(json.len());
    for character in json.chars() {
        match character {
            '<' => escaped.push_str("\\u003c"),
            '>' => escaped.push_str("\\u003e"),
            '&' => escaped.push_str("\\u0026"),
            '\u{2028}' => escaped.push_str("\\u2028"),
            '\u{2029}' => escaped.push_str("\\u2029"),
            character => escaped.push(character),
        }
    }
    Ok(Some(Value::from(escaped)))
}

fn would_round(value: &Value) -> bool {
    match value {
        Value::Number(number) => {
            number.is_integer() && number.as_i64().is_none() && number.as_u64().is_none()
        }
        Value::Array(items) => items.iter().any(would_round),
        Value::Set(items) => items.iter().any(would_round),
        Value::Object(fields) => fields.iter().any(|(key, value)| would_round(key) || would_round(value)),
        _ => false,
    }
}

/// Go maps each character to one character.
fn lower(args: &[Value]) -> Result<Option<Value>, CallError> {
    let lowered = text("lower", args, 0)?.chars().map(|c| settled(c, c.to_lowercase().next().unwrap_or(c)));
    Ok(Some(Value::from(lowered.collect::<String>())))
}

fn upper(args: &[Value]) -> Result<Option<Value>, CallError> {
    let uppered = text("upper", args, 0)?.chars().map(|c| settled(c, upper_character(c)));
    Ok(Some(Value::from(uppered.collect::<String>())))
}

/// The other case of a character, or itself if OPA's edition of Unicode does not know the pair yet.
fn settled(character: char, other: char) -> char {
    let is_new = |c| {
        matches!(c, '\u{a7cb}'..='\u{a7cf}' | '\u{a7d2}'..='\u{a7d5}' | '\u{a7da}'..='\u{a7df}'
            | '\u{10d50}'..='\u{10d8f}' | '\u{16ea0}'..='\u{16ed9}')
    };
    if is_new(character) || is_new(other) { character } else { other }
}

fn upper_character(character: char) -> char {
    let mut full = character.to_uppercase();
    match (full.next(), full.next()) {
        (Some(only), None) => only,
        // Greek letters with iota subscript have a capital 8 or 9 places on; others with several (`ß`) have none.
        _ => [8, 9]
            .into_iter()
            .filter_map(|distance| char::from_u32(u32::from(character) + distance))
            .find(|capital| capital.to_lowercase().eq([character]))
            .unwrap_or(character),
    }
}

/// Without overlaps; regorus counts those, too, and panics for an empty text.
fn strings_count(args: &[Value]) -> Result<Option<Value>, CallError> {
    let name = "strings.count";
    let (value, part) = (text(name, args, 0)?, text(name, args, 1)?);
    Ok(Some(Value::from(value.matches(part.as_ref()).count())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(name: &str, args: &str) -> Result<String, String> {
        let args = Value::from_json_str(args).unwrap().as_array().unwrap().to_vec();
        let (name, check) = CHECKS.iter().find(|(checked, _)| *checked == name).unwrap();
        let result = match check(&args) {
            Ok(None) => Original::of(name).call(&args),
            Ok(Some(result)) => Ok(result),
            Err(error) => Err(error),
        };
        result.map(|result| result.to_json_str().unwrap()).map_err(|error| error.to_string())
    }

    #[test]
    fn results_are_those_of_opa() {
        for (name, args, expected) in [
            ("lower", r#"["AÉİΑΣ꟎"]"#, "\"aéiασ꟎\"".to_owned()),
            ("upper", r#"["aéßﬁᾳᾀ"]"#, "\"AÉßﬁᾼᾈ\"".to_owned()),
            ("strings.count", r#"["aaa", "aa"]"#, "1".to_owned()),
            ("strings.count", r#"["abc", ""]"#, "4".to_owned()),
            ("json.marshal", r#"["<&>"]"#, r#""\"\\u003c\\u0026\\u003e\"""#.to_owned()),
            ("json.remove", r#"[{"a": 1}, ["a"]]"#, "{}".to_owned()),
            ("indexof", r#"["abc", "c"]"#, "2".to_owned()),
        ] {
            assert_eq!(call(name, args), Ok(expected), "{name} {args}");
        }
    }

    #[test]
    fn numbers_are_not_rounded_in_json() {
        let serial = Value::from_numeric_string("18446744073709551617").unwrap();
        assert!(json_marshal(&[Value::from(vec![serial])]).is_err());
        assert!(json_marshal(&[Value::from(u64::MAX)]).is_ok());
    }

    #[test]
    fn what_opa_refuses_is_an_error() {
        for (name, args) in [
            ("indexof", r#"["abc", ""]"#),
            ("indexof_n", r#"["abc", ""]"#),
            ("json.remove", r#"[{"a": 1}, ["/a"]]"#),
            ("json.filter", r#"[{"a": 1}, ["/a"]]"#),
            ("array.slice", "[[1], 0.5, 1]"),
            ("floor", "[-0.5]"),
            ("format_int", "[-0.5, 10]"),
            ("semver.is_valid", r#"["v1.2.3"]"#),
            ("semver.is_valid", r#"["01.2.3"]"#),
            ("uuid.parse", r#"["00000000-0000-0000-0000-000000000000"]"#),
        ] {
            assert!(call(name, args).is_err(), "{name} {args}");
        }
    }
}
