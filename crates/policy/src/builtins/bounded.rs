//! Bounds on builtins that a client could make expensive.
//!
//! The time budget is cooperative: nothing looks at the clock while one builtin runs. `numbers.range(1, n)` with an `n`
//! from a header would hold its worker for seconds, or end the process when the allocation fails. Such builtins check
//! the size of what they are asked for and then call regorus' own. `count` is corrected on the way: regorus counts
//! UTF-16 units of a string.

use regorus::Value;

use crate::builtins::original::{self, Check};
use crate::builtins::{CallError, Function, integer, sprintf, text};

/// Most elements of an array that a builtin may make.
pub(crate) const ELEMENTS_MAX: u64 = 10_000;

/// Most bytes of a text that a builtin may make; as many as a body may have that policies see.
pub(crate) const RESULT_BYTES_MAX: usize = 1024 * 1024;

/// Most bytes of a text that is read as a number, and the largest exponent in it.
const NUMBER_BYTES_MAX: usize = 64;
const EXPONENT_MAX: u32 = 308;

/// Most bits of a shift.
const SHIFT_MAX: i64 = 1024;

/// Most bytes of JSON that a builtin reads.
const JSON_BYTES_MAX: usize = 256 * 1024;

const CHECKS: &[(&str, Check)] = &[
    ("bits.lsh", shift),
    ("concat", concat),
    ("count", count),
    ("json.is_valid", json),
    ("json.unmarshal", json),
    ("net.cidr_expand", cidr_expand),
    ("numbers.range", range),
    ("numbers.range_step", range_step),
    ("replace", replace),
    ("split", split),
    ("sprintf", sprintf::check),
    ("strings.replace_n", replace_n),
    ("to_number", number),
    ("units.parse", units),
    ("units.parse_bytes", units_bytes),
];

pub(crate) fn functions() -> Vec<Function> {
    original::checked(CHECKS)
}

fn too_large(name: &str, what: &str) -> CallError {
    CallError(format!("`{name}` would give {what}"))
}

fn elements(name: &str, elements: u64) -> Result<Option<Value>, CallError> {
    if elements > ELEMENTS_MAX {
        return Err(too_large(name, &format!("{elements} elements, more than {ELEMENTS_MAX}")));
    }
    Ok(None)
}

fn bytes(name: &str, bytes: usize) -> Result<Option<Value>, CallError> {
    if bytes > RESULT_BYTES_MAX {
        return Err(too_large(name, &format!("{bytes} bytes, more than {RESULT_BYTES_MAX}")));
    }
    Ok(None)
}

fn split(args: &[Value]) -> Result<Option<Value>, CallError> {
    let (value, separator) = (text("split", args, 0)?, text("split", args, 1)?);
    elements("split", value.matches(&**separator).count() as u64 + 1)
}

fn range(args: &[Value]) -> Result<Option<Value>, CallError> {
    let name = "numbers.range";
    let distance = integer(name, args, 0)?.abs_diff(integer(name, args, 1)?);
    elements(name, distance.saturating_add(1))
}

fn range_step(args: &[Value]) -> Result<Option<Value>, CallError> {
    let name = "numbers.range_step";
    let distance = integer(name, args, 0)?.abs_diff(integer(name, args, 1)?);
    match u64::try_from(integer(name, args, 2)?) {
        Ok(step @ 1..) => elements(name, (distance / step).saturating_add(1)),
        _ => Err(CallError(format!("`{name}` expects a positive step"))),
    }
}

fn shift(args: &[Value]) -> Result<Option<Value>, CallError> {
    let shift = integer("bits.lsh", args, 1)?;
    if !(0..=SHIFT_MAX).contains(&shift) {
        return Err(CallError(format!("`bits.lsh` expects a shift from 0 to {SHIFT_MAX}, not {shift}")));
    }
    Ok(None)
}

fn cidr_expand(args: &[Value]) -> Result<Option<Value>, CallError> {
    let name = "net.cidr_expand";
    let cidr = text(name, args, 0)?;
    let (address, length) = cidr.split_once('/').unwrap_or((cidr, "0"));
    let bits = if address.contains(':') { 128 } else { 32 };
    let length: u32 = length.parse().unwrap_or(0);
    elements(name, 1_u64.checked_shl(bits - length.min(bits)).unwrap_or(u64::MAX))
}

fn number(args: &[Value]) -> Result<Option<Value>, CallError> {
    if let Value::String(text) = &args[0] {
        if text.len() > NUMBER_BYTES_MAX {
            return Err(CallError(format!("number has {} digits, more than {NUMBER_BYTES_MAX}", text.len())));
        }
        // regorus would read on without it.
        if text.contains(char::is_whitespace) {
            return Err(CallError::new("number has a space"));
        }
        exponents(text)?;
        exact(text)?;
    }
    Ok(None)
}

/// Units that OPA knows, of numbers that both read alike: no exponent, and no more than 64 bits.
fn units(args: &[Value]) -> Result<Option<Value>, CallError> {
    number(args)?;
    let Value::String(text) = &args[0] else { return Ok(None) };
    let (number, suffix) = text.split_at(text.rfind(|c: char| c.is_ascii_digit()).map_or(0, |last| last + 1));
    let suffix = suffix.to_lowercase();
    let unit = suffix.strip_suffix('b').unwrap_or(&suffix);
    if !["", "m", "k", "g", "t", "p", "e"].contains(&unit.strip_suffix('i').unwrap_or(unit)) {
        return Err(CallError(format!("unit `{suffix}` is unknown")));
    }
    let is_plain =
        number.starts_with(|c: char| c == '-' || c.is_ascii_digit()) && !number.contains(['e', 'E']);
    if is_plain { Ok(None) } else { Err(CallError(format!("`{text}` is no number with a unit"))) }
}

/// OPA cuts the fraction of a byte off, regorus rounds.
fn units_bytes(args: &[Value]) -> Result<Option<Value>, CallError> {
    units(args)?;
    let bytes = original::Original::of("units.parse_bytes").call(args)?;
    let is_exact = bytes.as_f64().is_ok_and(|bytes| bytes.abs() < 9_007_199_254_740_992.0);
    let has_fraction = matches!(&args[0], Value::String(text) if text.contains('.'));
    match is_exact && !has_fraction {
        true => Ok(Some(bytes)),
        false => Err(CallError::new("`units.parse_bytes` expects a whole number below 2^53")),
    }
}

fn json(args: &[Value]) -> Result<Option<Value>, CallError> {
    if let Value::String(text) = &args[0] {
        if text.len() > JSON_BYTES_MAX {
            return Err(CallError(format!("JSON has {} bytes, more than {JSON_BYTES_MAX}", text.len())));
        }
        exact_numbers(text)?;
    }
    Ok(None)
}

/// Refuses JSON with numbers that would be rounded.
pub(crate) fn exact_numbers(json: &str) -> Result<(), CallError> {
    // Outside of strings: every other part between quotation marks that are not escaped.
    let unescaped = json.replace("\\\\", "").replace("\\\"", "");
    for part in unescaped.split('"').step_by(2) {
        exponents(part)?;
        let numbers = part.split(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '+')));
        numbers
            .filter(|word| word.starts_with(|c: char| c == '-' || c.is_ascii_digit()))
            .try_for_each(exact)?;
    }
    Ok(())
}

/// Refuses numbers that would be rounded: two of them could then be equal here that differ in OPA.
fn exact(number: &str) -> Result<(), CallError> {
    if is_exact(number) { Ok(()) } else { Err(CallError(format!("number `{number}` has too many digits"))) }
}

/// Whether no other number of as many digits is read as the same. Whole numbers are kept up to 64 bits; a binary
/// fraction of 53 bits tells all decimals of 15 digits apart.
pub(crate) fn is_exact(number: &str) -> bool {
    let is_whole = number.strip_prefix('-').unwrap_or(number).bytes().all(|byte| byte.is_ascii_digit());
    if is_whole && (number.parse::<u64>().is_ok() || number.parse::<i64>().is_ok()) {
        return true;
    }
    let mantissa = number.split(['e', 'E']).next().unwrap_or("");
    let digits: String = mantissa.chars().filter(char::is_ascii_digit).collect();
    digits.trim_matches('0').len() <= 15
}

/// Refuses `1e999999999`, whose digits would be written out.
fn exponents(text: &str) -> Result<(), CallError> {
    let bytes = text.as_bytes();
    for (at, _) in
        bytes.windows(2).enumerate().filter(|(_, pair)| pair[0].is_ascii_digit() && pair[1] | 0x20 == b'e')
    {
        let exponent = &text[at + 2..];
        let exponent = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
        let digits = exponent.bytes().take_while(|byte| byte.is_ascii_digit() || *byte == b'_').count();
        if digits > 0 && exponent[..digits].parse::<u32>().map_or(true, |exponent| exponent > EXPONENT_MAX) {
            return Err(CallError(format!("number has an exponent above {EXPONENT_MAX}")));
        }
    }
    Ok(())
}

fn replace(args: &[Value]) -> Result<Option<Value>, CallError> {
    let name = "replace";
    let (value, old, new) = (text(name, args, 0)?, text(name, args, 1)?, text(name, args, 2)?);
    // OPA puts it between the bytes.
    if old.is_empty() && !value.is_ascii() {
        return Err(CallError::new("`replace` of an empty text expects ASCII"));
    }
    let times = if old.is_empty() { value.len() + 1 } else { value.len() / old.len() };
    bytes(name, value.len().saturating_add(times.saturating_mul(new.len())))
}

/// Our own: in one pass, as OPA does it. regorus replaces what it has put in before.
fn replace_n(args: &[Value]) -> Result<Option<Value>, CallError> {
    let name = "strings.replace_n";
    let Value::Object(patterns) = &args[0] else {
        return Err(CallError(format!("`{name}` expects an object as argument 1")));
    };
    let mut pairs: Vec<(&str, &str)> = Vec::with_capacity(patterns.len());
    for pattern in patterns.iter() {
        match pattern {
            (Value::String(old), Value::String(new)) => pairs.push((old, new)),
            _ => return Err(CallError(format!("`{name}` expects an object of strings"))),
        }
    }
    let value = text(name, args, 1)?;
    let longest = pairs.iter().map(|(_, new)| new.len()).max().unwrap_or(0).max(1);
    bytes(name, (value.len() + 1).saturating_mul(longest))?;
    let mut replaced = String::with_capacity(value.len());
    let mut rest: &str = value;
    loop {
        let found = pairs.iter().find(|(old, _)| rest.starts_with(old));
        if let Some((old, new)) = found {
            replaced.push_str(new);
            rest = &rest[old.len()..];
            if !old.is_empty() {
                if rest.is_empty() && !pairs.iter().any(|(old, _)| old.is_empty()) {
                    break;
                }
                continue;
            }
        }
        let Some(character) = rest.chars().next() else { break };
        replaced.push(character);
        rest = &rest[character.len_utf8()..];
    }
    Ok(Some(Value::from(replaced)))
}

fn concat(args: &[Value]) -> Result<Option<Value>, CallError> {
    let name = "concat";
    let delimiter = text(name, args, 0)?;
    let length = |item: &Value| match item {
        Value::String(item) => item.len().saturating_add(delimiter.len()),
        _ => 0,
    };
    let sum = |total: usize, length: usize| total.saturating_add(length);
    match &args[1] {
        Value::Array(items) => bytes(name, items.iter().map(length).fold(0, sum)),
        Value::Set(items) => bytes(name, items.iter().map(length).fold(0, sum)),
        _ => Ok(None),
    }
}

/// Our own for strings: characters, as in OPA.
fn count(args: &[Value]) -> Result<Option<Value>, CallError> {
    match &args[0] {
        Value::String(text) => Ok(Some(Value::from(text.chars().count()))),
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Calls as a policy would, with arguments in JSON.
    fn call(name: &str, args: &str) -> Result<Value, String> {
        let Value::Array(args) = Value::from_json_str(args).unwrap() else { panic!("{args}") };
        let args = args.to_vec();
        let (_, check) = CHECKS.iter().find(|(checked, _)| *checked == name).unwrap();
        match check(&args).map_err(|error| error.to_string())? {
            Some(result) => Ok(result),
            None => original::Original::of(CHECKS.iter().find(|(checked, _)| *checked == name).unwrap().0)
                .call(&args)
                .map_err(|error| error.to_string()),
        }
    }

    fn gives(name: &str, args: &str, expected: &str) {
        assert_eq!(call(name, args), Ok(Value::from_json_str(expected).unwrap()), "{name} {args}");
    }

    fn fails(name: &str, args: &str, message: &str) {
        let error = call(name, args).expect_err(name);
        assert!(error.contains(message) && !error.contains("-->"), "{error}");
    }

    #[test]
    fn arrays_are_bounded() {
        gives("numbers.range", "[1, 3]", "[1, 2, 3]");
        gives("numbers.range", "[3, 1]", "[3, 2, 1]");
        assert!(call("numbers.range", "[1, 10000]").is_ok());
        fails("numbers.range", "[1, 10001]", "10001 elements, more than 10000");
        fails("numbers.range", "[-9223372036854775808, 9223372036854775807]", "more than 10000");
        fails("numbers.range", "[1, 1e30]", "expects an integer");
        fails("numbers.range", "[1, \"x\"]", "expects an integer");
        gives("numbers.range_step", "[1, 9, 4]", "[1, 5, 9]");
        fails("numbers.range_step", "[1, 100000, 2]", "more than 10000");
        fails("numbers.range_step", "[1, 100000, 0]", "positive step");
        gives(
            "net.cidr_expand",
            "[\"192.0.2.0/30\"]",
            r#"["192.0.2.0", "192.0.2.1", "192.0.2.2", "192.0.2.3"]"#,
        );
        assert!(call("net.cidr_expand", "[\"10.0.0.0/19\"]").is_ok());
        fails("net.cidr_expand", "[\"10.0.0.0/18\"]", "more than 10000");
        fails("net.cidr_expand", "[\"0.0.0.0/0\"]", "more than 10000");
        fails("net.cidr_expand", "[\"2001:db8::/32\"]", "more than 10000");
        fails("net.cidr_expand", "[\"::ffff:10.0.0.0/8\"]", "more than 10000");
    }

    #[test]
    fn numbers_are_bounded() {
        gives("to_number", "[\"12.5\"]", "12.5");
        gives("to_number", "[\"1e3\"]", "1000");
        fails("to_number", "[\"1e999999999\"]", "exponent above 308");
        fails("to_number", "[\"1E+999999999999999999\"]", "exponent above 308");
        fails("to_number", &format!("[\"{}\"]", "9".repeat(65)), "more than 64");
        fails("units.parse", "[\"1e2000000000G\"]", "exponent above 308");
        fails("units.parse_bytes", "[\"1e1_000_000GB\"]", "exponent above 308");
        gives("json.unmarshal", "[\"{\\\"a\\\": 1e2}\"]", "{\"a\": 100.0}");
        fails("json.unmarshal", "[\"[1e2000000000]\"]", "exponent above 308");
        fails("json.is_valid", "[\"[1E-2000000000]\"]", "exponent above 308");
        gives("json.is_valid", "[\"{\\\"1e9999\\\"\"]", "false");
        gives("bits.lsh", "[1, 4]", "16");
        assert!(call("bits.lsh", "[1, 1024]").is_ok());
        fails("bits.lsh", "[1, 1025]", "shift from 0 to 1024");
        fails("bits.lsh", "[1, -1]", "shift from 0 to 1024");
    }

    #[test]
    fn texts_are_bounded() {
        gives("replace", r#"["a.b", ".", "-"]"#, "\"a-b\"");
        let (many, long) = ("a".repeat(30_000), "b".repeat(30_000));
        fails("replace", &format!("[\"{many}\", \"a\", \"{long}\"]"), "more than 1048576");
        fails("replace", &format!("[\"{many}\", \"\", \"{long}\"]"), "more than 1048576");
        fails("strings.replace_n", &format!("[{{\"a\": \"{long}\"}}, \"{many}\"]"), "more than 1048576");
        gives("concat", r#"[",", ["a", "b"]]"#, "\"a,b\"");
        let items = vec!["\"x\""; 100].join(",");
        fails("concat", &format!("[\"{long}\", [{items}]]"), "more than 1048576");
        fails("concat", "[\",\", [1]]", "string");
        gives("sprintf", r#"["%d-%s %03d%%", [1, "a", 7]]"#, "\"1-a 007%\"");
        fails("sprintf", r#"["%1000000000d", [1]]"#, "three digits");
        fails("sprintf", r#"["%.99999999f", [1]]"#, "three digits");
        fails("sprintf", "[\"%²d\", [1]]", "three digits");
    }

    #[test]
    fn replacements_are_made_in_one_pass() {
        gives("strings.replace_n", r#"[{"a": "b", "b": "c"}, "ab"]"#, "\"bc\"");
        gives(
            "strings.replace_n",
            r#"[{"<": "&lt;", ">": "&gt;"}, "This is <b>H>M</b>!"]"#,
            "\"This is &lt;b&gt;H&gt;M&lt;/b&gt;!\"",
        );
        gives("strings.replace_n", r#"[{}, "é"]"#, "\"é\"");
        gives("strings.replace_n", r#"[{"": "-"}, "aé"]"#, "\"-a-é-\"");
    }

    #[test]
    fn count_counts_characters() {
        gives("count", "[\"é😀\"]", "2");
        gives("count", "[[1, 2, 3]]", "3");
        gives("count", "[{\"a\": 1}]", "1");
        fails("count", "[1]", "requires");
    }
}
