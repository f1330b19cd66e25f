//! `sprintf` where regorus' result is that of Go; every other directive is an error.
//!
//! Go writes a mistake into its result (`%!d(string=a)`), and regorus leaves something out; a policy wants neither.

use regorus::Value;

use crate::builtins::{CallError, text};

/// Most digits of a width. Widths are written out.
const WIDTH_DIGITS_MAX: usize = 3;

/// Checks every directive against its argument.
pub(crate) fn check(args: &[Value]) -> Result<Option<Value>, CallError> {
    let format = text("sprintf", args, 0)?;
    let Value::Array(values) = &args[1] else {
        return Err(CallError::new("`sprintf` expects an array as argument 2"));
    };
    let mut values = values.iter();
    let mut rest: &str = format;
    while let Some((_, directive)) = rest.split_once('%') {
        if let Some(behind) = directive.strip_prefix('%') {
            rest = behind;
            continue;
        }
        let verb_at = directive.find(|c: char| c != '.' && !c.is_numeric()).unwrap_or(directive.len());
        let (width, behind) = directive.split_at(verb_at);
        let digits = width.strip_prefix('.').unwrap_or(width);
        if digits.len() > WIDTH_DIGITS_MAX || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(CallError::new("`sprintf` expects widths of up to three digits"));
        }
        let Some(verb) = behind.chars().next() else {
            return Err(CallError::new("`sprintf` format ends within a directive"));
        };
        let value =
            values.next().ok_or_else(|| CallError::new("`sprintf` has fewer values than directives"))?;
        if !is_same_in_go(width, verb, value) {
            let message = format!("`sprintf` does not support `%{width}{verb}` for this value");
            return Err(CallError(message));
        }
        rest = &behind[verb.len_utf8()..];
    }
    match values.next() {
        Some(_) => Err(CallError::new("`sprintf` has more values than directives")),
        None => Ok(None),
    }
}

fn is_same_in_go(width: &str, verb: char, value: &Value) -> bool {
    let integer = || value.as_i64().is_ok() || value.as_u64().is_ok();
    match (verb, value) {
        ('v', _) => width.is_empty(),
        ('s' | 'q', Value::String(_)) => width.is_empty(),
        ('d' | 'x' | 'X', Value::Number(_)) => !width.starts_with('.') && integer(),
        ('b', Value::Number(_)) => width.is_empty() && integer(),
        // What is a whole number here may have been `2.0`, which Go tells from `2`.
        ('f', Value::Number(_)) => width.len() > 1 && width.starts_with('.') && !integer(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(format: &str, values: &str) -> Result<(), String> {
        let args = [Value::from(format), Value::from_json_str(values).unwrap()];
        super::check(&args).map(|_| ()).map_err(|error| error.to_string())
    }

    #[test]
    fn what_go_and_regorus_write_alike_is_accepted() {
        for (format, values) in [
            ("", "[]"),
            ("100%%", "[]"),
            ("%s-%v %d", r#"["a", {"b": [1]}, 7]"#),
            ("%5d|%05d|%x|%X|%b", "[1, 2, 255, 255, 5]"),
            ("%.2f", "[1.5]"),
            ("%q", r#"["a"]"#),
        ] {
            assert_eq!(check(format, values), Ok(()), "{format}");
        }
    }

    #[test]
    fn everything_else_is_an_error() {
        for (format, values, message) in [
            ("%d", r#"["a"]"#, "does not support `%d`"),
            ("%d", "[1.5]", "does not support"),
            ("%s", "[1]", "does not support"),
            ("%5s", r#"["a"]"#, "does not support `%5s`"),
            ("%-5d", "[1]", "does not support `%-`"),
            ("%f", "[1.5]", "does not support"),
            ("%.1f", "[2]", "does not support"),
            ("%o", "[8]", "does not support"),
            ("%t", "[true]", "does not support"),
            ("%[1]s", r#"["a"]"#, "does not support"),
            ("%s %s", r#"["a"]"#, "fewer values"),
            ("%s", r#"["a", "b"]"#, "more values"),
            ("%", "[1]", "ends within"),
            ("%5", "[1]", "ends within"),
        ] {
            let error = check(format, values).expect_err(format);
            assert!(error.contains(message), "{format}: {error}");
        }
    }
}
