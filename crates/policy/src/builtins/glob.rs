//! `glob.match` and `glob.quote_meta` as OPA has them, which is as Go's gobwas/glob v0.2 has them.
//!
//! | pattern | matches |
//! |---|---|
//! | `*` | any characters but delimiters, also none |
//! | `**` | any characters |
//! | `?` | one character that is no delimiter |
//! | `[abc]`, `[!abc]` | one character that is, or is not, in the list; `^` is a character like any other |
//! | `[a-c]`, `[!a-c]` | one character that is, or is not, in the range; a list and a range do not mix |
//! | `{a*,b}` | one of the patterns |
//! | `\x` | `x` |
//!
//! Delimiters are single characters; none given (`[]`) means `.`, `null` means that there are none.
//! A pattern is translated to a regular expression, so that matching takes linear time whatever pattern and text.

use std::iter::Peekable;
use std::str::Chars;

use regex::{Regex, RegexBuilder};
use regorus::Value;

use crate::builtins::cache::PatternCache;
use crate::builtins::{CallError, Function, text};

/// Longest pattern in bytes.
const PATTERN_BYTES_MAX: usize = 4096;

/// Largest compiled pattern in bytes.
const COMPILED_BYTES_MAX: usize = 1024 * 1024;

/// Deepest nesting of braces.
const NESTING_MAX: usize = 16;

pub(crate) fn functions() -> Vec<Function> {
    let (mut cache, mut key) = (PatternCache::default(), String::new());
    vec![
        ("glob.match", Box::new(move |args| glob_match(&mut cache, &mut key, &args).map_err(Into::into))),
        ("glob.quote_meta", Box::new(|args| quote_meta(&args).map_err(Into::into))),
    ]
}

fn glob_match(cache: &mut PatternCache, key: &mut String, args: &[Value]) -> Result<Value, CallError> {
    let name = "glob.match";
    let (pattern, value) = (text(name, args, 0)?, text(name, args, 2)?);
    // The key is the delimiters, a NUL (which is refused as a delimiter) and the pattern.
    key.clear();
    match &args[1] {
        Value::Null => {}
        Value::Array(delimiters) if delimiters.is_empty() => key.push('.'),
        Value::Array(delimiters) => {
            for delimiter in delimiters.iter() {
                key.push(single_character(delimiter)?);
            }
        }
        _ => return Err(CallError::new("`glob.match` expects an array or null as argument 2")),
    }
    let delimiters = key.len();
    key.push('\0');
    key.push_str(pattern);
    let regex = cache.get(key, || compile(pattern, &key[..delimiters]))?;
    Ok(Value::Bool(regex.is_match(value)))
}

fn single_character(delimiter: &Value) -> Result<char, CallError> {
    let wrong = || CallError::new("`glob.match` expects delimiters of one character each");
    let Value::String(delimiter) = delimiter else { return Err(wrong()) };
    let mut characters = delimiter.chars();
    match (characters.next(), characters.next()) {
        (Some(only), None) if only != '\0' => Ok(only),
        _ => Err(wrong()),
    }
}

fn compile(pattern: &str, delimiters: &str) -> Result<Regex, CallError> {
    let invalid = |why: &str| CallError(format!("`glob.match` pattern `{pattern}` is invalid: {why}"));
    if pattern.len() > PATTERN_BYTES_MAX {
        return Err(CallError(format!("`glob.match` pattern has more than {PATTERN_BYTES_MAX} bytes")));
    }
    let translated = Translation::of(pattern, delimiters).map_err(invalid)?;
    RegexBuilder::new(&translated)
        .dot_matches_new_line(true)
        .size_limit(COMPILED_BYTES_MAX)
        .dfa_size_limit(COMPILED_BYTES_MAX)
        .build()
        .map_err(|_| invalid("it is too large"))
}

struct Translation<'p> {
    rest: Peekable<Chars<'p>>,
    out: String,
    /// One character that is no delimiter, as a regular expression.
    other: String,
}

impl<'p> Translation<'p> {
    fn of(pattern: &'p str, delimiters: &str) -> Result<String, &'static str> {
        let other = if delimiters.is_empty() { ".".to_owned() } else { class(true, delimiters.chars()) };
        let mut translation = Self { rest: pattern.chars().peekable(), out: String::from(r"\A(?:"), other };
        translation.pattern()?;
        translation.out.push_str(r")\z");
        Ok(translation.out)
    }

    fn pattern(&mut self) -> Result<(), &'static str> {
        let mut open = 0;
        while let Some(character) = self.rest.next() {
            match character {
                '*' if self.rest.next_if_eq(&'*').is_some() => self.out.push_str(".*"),
                '*' => {
                    self.out.push_str(&self.other);
                    self.out.push('*');
                }
                '?' => self.out.push_str(&self.other),
                '[' => self.brackets()?,
                '{' if open == NESTING_MAX => return Err("braces are nested too deep"),
                '{' => {
                    open += 1;
                    self.out.push_str("(?:");
                }
                '}' if open > 0 => {
                    open -= 1;
                    self.out.push(')');
                }
                ',' if open > 0 => self.out.push('|'),
                '\\' => {
                    let escaped = self.rest.next().ok_or("it ends with a backslash")?;
                    literal(&mut self.out, escaped);
                }
                character => literal(&mut self.out, character),
            }
        }
        if open > 0 { Err("`{` is not closed") } else { Ok(()) }
    }

    /// Behind `[`.
    fn brackets(&mut self) -> Result<(), &'static str> {
        const UNCLOSED: &str = "`[` is not closed";
        let negated = self.rest.next_if_eq(&'!').is_some();
        let first = self.rest.next().ok_or(UNCLOSED)?;
        if self.rest.next_if_eq(&'-').is_some() {
            let last = self.rest.next().ok_or(UNCLOSED)?;
            if self.rest.next() != Some(']') {
                return Err("a range in brackets has to be alone: `[a-z]`");
            }
            if last < first {
                return Err("a range in brackets ends before it begins");
            }
            self.out.push_str(if negated { "[^" } else { "[" });
            literal(&mut self.out, first);
            self.out.push('-');
            literal(&mut self.out, last);
            self.out.push(']');
            return Ok(());
        }
        let mut list = Vec::new();
        let mut next = first;
        while next != ']' {
            if next == '\\' {
                next = self.rest.next().ok_or(UNCLOSED)?;
            }
            list.push(next);
            next = self.rest.next().ok_or(UNCLOSED)?;
        }
        if list.is_empty() {
            return Err("brackets are empty");
        }
        self.out.push_str(&class(negated, list.into_iter()));
        Ok(())
    }
}

fn class(negated: bool, characters: impl Iterator<Item = char>) -> String {
    let mut class = String::from(if negated { "[^" } else { "[" });
    characters.for_each(|character| literal(&mut class, character));
    class.push(']');
    class
}

/// The character itself, inside and outside of a class.
fn literal(out: &mut String, character: char) {
    if character.is_ascii_punctuation() {
        // Escaped punctuation is literal, except `<` and `>`, which become word boundaries.
        if !matches!(character, '<' | '>') {
            out.push('\\');
        }
    }
    out.push(character);
}

fn quote_meta(args: &[Value]) -> Result<Value, CallError> {
    let pattern = text("glob.quote_meta", args, 0)?;
    let mut quoted = String::with_capacity(pattern.len());
    for character in pattern.chars() {
        if matches!(character, '*' | '?' | '\\' | '[' | ']' | '{' | '}') {
            quoted.push('\\');
        }
        quoted.push(character);
    }
    Ok(Value::from(quoted))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `glob.match(pattern, delimiters, value)` with `-` for `null`.
    fn matches(pattern: &str, delimiters: &str, value: &str) -> Result<bool, CallError> {
        let list = match delimiters {
            "-" => Value::Null,
            list => Value::from(list.chars().map(|c| Value::from(c.to_string())).collect::<Vec<_>>()),
        };
        let args = [Value::from(pattern), list, Value::from(value)];
        let found = glob_match(&mut PatternCache::default(), &mut String::new(), &args)?;
        Ok(found == Value::Bool(true))
    }

    fn check(cases: &[(&str, &str, &str, bool)]) {
        for (pattern, delimiters, value, expected) in cases {
            assert_eq!(
                matches(pattern, delimiters, value),
                Ok(*expected),
                "{pattern:?} {delimiters:?} {value:?}"
            );
        }
    }

    #[test]
    fn stars_respect_delimiters() {
        check(&[
            // OPA's documentation of glob.match.
            ("*.github.com", "", "api.github.com", true),
            ("*.github.com", "", "api.cdn.github.com", false),
            ("*.github.com", "-", "api.cdn.github.com", true),
            ("*hub.com", ".", "api.cdn.github.com", false),
            ("*:github:com", ":", "api:github:com", true),
            ("api.**.com", ".", "api.github.com", true),
            ("api.**.com", ".", "api.cdn.github.com", true),
            ("?at", "", "cat", true),
            ("?at", "", "at", false),
            ("[abc]at", "", "bat", true),
            ("[abc]at", "", "lat", false),
            ("[!abc]at", "", "cat", false),
            ("[!abc]at", "", "lat", true),
            ("[a-c]at", "", "cat", true),
            ("[a-c]at", "", "lat", false),
            ("[!a-c]at", "", "cat", false),
            ("[!a-c]at", "", "lat", true),
            ("{cat,bat,[fr]at}", "", "cat", true),
            ("{cat,bat,[fr]at}", "", "rat", true),
            ("{cat,bat,[fr]at}", "", "at", false),
            // Where regorus' own differs: the colon, `**` within a segment.
            ("a:*", ":", "a:b:c", false),
            ("a:**", ":", "a:b:c", true),
            ("**.json", "/", "a/b.json", true),
            ("/public**", "/", "/public/a/b", true),
            ("/public**", "/", "/publication", true),
            ("/api/*/items", "/", "/api/7/items", true),
            ("/api/*/items", "/", "/api/7/8/items", false),
            ("/api/*", "/", "/api/", true),
            ("/api/*", "/", "/api", false),
            ("/api/*", "", "/api/a/b", true),
            ("/api/*", "", "/api/a.b", false),
            ("a*c", "bd", "axc", true),
            ("a*c", "bd", "abc", false),
            ("*", "/", "", true),
            ("**", "/", "", true),
            ("", "/", "", true),
            ("", "/", "a", false),
            ("***", "/", "a/b", true),
            ("a***b", "/", "a/x/b", true),
        ]);
    }

    #[test]
    fn lists_and_ranges_are_those_of_gobwas() {
        check(&[
            // `^` does not negate.
            ("[^b]", "", "a", false),
            ("[^b]", "", "^", true),
            ("[^b]", "", "b", true),
            ("[!^]", "", "^", false),
            // Lists may hold delimiters, and what means something elsewhere.
            ("[/]", "/", "/", true),
            ("[!a]", "/", "/", true),
            ("[*?{}]", "", "*", true),
            ("[*?{}]", "", "a", false),
            ("[ab-d]", "", "-", true),
            ("[ab-d]", "", "c", false),
            ("[a!]", "", "!", true),
            (r"[\]]", "", "]", true),
            (r"[a\]b]", "", "]", true),
            ("[[]", "", "[", true),
            ("[&&~~]", "", "~", true),
            ("[.-9]", "", "5", true),
            ("[é]", "", "é", true),
            ("[α-ω]", "", "π", true),
            ("[!a]", "", "é", true),
        ]);
    }

    #[test]
    fn braces_hold_patterns() {
        check(&[
            ("{a,ab}{bc,f}", "-", "abc", true),
            ("{a*,b}c", ".", "abc", true),
            ("{*.google.*,yandex.*}", ".", "www.yandex.com", false),
            ("{*.google.*,yandex.*}", ".", "yandex.com", true),
            ("{{a,b},c}", "", "b", true),
            ("{,a}", "", "", true),
            ("{a,}", "", "a", true),
            ("x{a}y", "", "xay", true),
            ("{a,b}", "", "a,b", false),
            ("a,b", "", "a,b", true),
            ("a}", "", "a}", true),
            ("*//{,*.}example.com", "-", "https://www.example.com", true),
            ("*//{,*.}example.com", "-", "http://example.com.net", false),
        ]);
    }

    #[test]
    fn other_characters_are_themselves() {
        check(&[
            (r"\*", "", "*", true),
            (r"\*", "", "a", false),
            (r"a\{b\}", "", "a{b}", true),
            (r"\a", "", "a", true),
            ("a.b", "/", "axb", false),
            ("a+(b)|c$^", "", "a+(b)|c$^", true),
            (r"\d", "", "1", false),
            ("<a>", "", "<a>", true),
            (r"\<", "", "<", true),
            ("A", "", "a", false),
            ("?", "", "é", true),
            ("?", "", "😀", true),
            ("??", "", "é", false),
            ("*é*", "/", "caféx", true),
            ("a*b", "/", "a\nb", true),
            ("a?b", "/", "a\nb", true),
            ("a", "", "a\n", false),
            ("a*", "é", "abé", false),
            ("sta", "", "stagnation", false),
        ]);
    }

    #[test]
    fn what_is_no_pattern_is_an_error() {
        for pattern in
            ["[", "[a", "[a-", "[a-c", "[a-cx]", "[c-a]", "[]", "[!]", "{a", "{a,{b}", r"a\", r"[\"]
        {
            assert!(matches(pattern, "", "a").is_err(), "{pattern}");
        }
        assert!(matches(&"{".repeat(1000), "", "a").is_err());
        assert!(matches(&"a".repeat(PATTERN_BYTES_MAX), "", "a").is_ok());
        assert!(matches(&"a".repeat(PATTERN_BYTES_MAX + 1), "", "a").is_err());
        let call = |delimiters: Value| {
            let args = [Value::from("a"), delimiters, Value::from("a")];
            glob_match(&mut PatternCache::default(), &mut String::new(), &args)
        };
        assert!(call(Value::from("/")).is_err());
        assert!(call(Value::from(vec![Value::from("ab")])).is_err());
        assert!(call(Value::from(vec![Value::from("")])).is_err());
        assert!(call(Value::from(vec![Value::from("\0")])).is_err());
        assert!(call(Value::from(vec![Value::from(1)])).is_err());
        assert_eq!(call(Value::from(vec![Value::from("é")])), Ok(Value::Bool(true)));
    }

    #[test]
    fn one_cache_keeps_patterns_of_different_delimiters_apart() {
        let (mut cache, mut key) = (PatternCache::default(), String::new());
        let mut call = |delimiters: Value, value: &str| {
            glob_match(&mut cache, &mut key, &[Value::from("a*"), delimiters, Value::from(value)]).unwrap()
        };
        let slash = || Value::from(vec![Value::from("/")]);
        for _ in 0..2 {
            assert_eq!(call(slash(), "a/b"), Value::Bool(false));
            assert_eq!(call(Value::Null, "a/b"), Value::Bool(true));
            assert_eq!(call(Value::new_array(), "a/b"), Value::Bool(true));
            assert_eq!(call(Value::new_array(), "a.b"), Value::Bool(false));
        }
    }

    #[test]
    fn adversarial_patterns_take_linear_time() {
        let started = std::time::Instant::now();
        assert_eq!(matches(&format!("{}b", "a*".repeat(50)), "/", &"a".repeat(5_000)), Ok(false));
        assert_eq!(matches(&"{a,a*}".repeat(20), "/", &format!("{}b/", "a".repeat(5_000))), Ok(false));
        assert!(started.elapsed() < std::time::Duration::from_secs(5));
    }

    #[test]
    fn quoted_text_matches_itself_only() {
        let quoted = quote_meta(&[Value::from(r"*?\[]{}a")]).unwrap();
        assert_eq!(quoted, Value::from(r"\*\?\\\[\]\{\}a"));
        assert_eq!(matches(r"\*\?\\\[\]\{\}a", "", r"*?\[]{}a"), Ok(true));
    }
}
