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
//! A pattern is translated to a regular expression, so that matching takes linear time whatever pattern and text. Where
//! gobwas does not do what its description says, the call is an error: see `check_neighbours`, `is_one_brace` and
//! `is_mistaken`.

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
    if is_mistaken(pattern, value) {
        return Err(CallError(format!("`glob.match` with `{pattern}` is not defined for `{value}`")));
    }
    Ok(Value::Bool(regex.is_match(value)))
}

/// Texts about which gobwas is mistaken: it counts bytes for characters around `?`, brackets and braces, and lets a
/// lone `?` match nothing.
fn is_mistaken(pattern: &str, value: &str) -> bool {
    pattern.contains(['?', '[', '{']) && (value.is_empty() || !value.is_ascii() || !pattern.is_ascii())
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

/// Whether every call with this pattern fails; `delimiters` are their characters, none for `null`.
pub(crate) fn check(pattern: &str, delimiters: &str) -> Result<(), CallError> {
    compile(pattern, delimiters).map(drop)
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
    /// Where in `out` the last alternative of braces begins.
    alternative: usize,
    is_one_brace: bool,
    delimiters: usize,
    last: Last,
    /// The texts between stars that match anything, if the pattern has nothing else.
    texts: Option<Vec<String>>,
}

/// Whether the pattern is one pair of braces whose alternatives gobwas tries each on its own. It does not if all of them
/// begin alike, or end alike.
fn is_one_brace(pattern: &str) -> bool {
    let inside = pattern.strip_prefix('{').and_then(|pattern| pattern.strip_suffix('}'));
    let Some(inside) = inside.filter(|inside| !inside.contains(['{', '}', '\\'])) else { return false };
    let differ = |end: fn(&str) -> &str| {
        let mut ends = inside.split(',').map(end);
        let first = ends.next();
        ends.any(|end| Some(end) != first)
    };
    differ(first_token)
        && differ(last_token)
        && !inside.split(',').any(|alternative| {
            let ends = alternative.split_once("**").or_else(|| alternative.split_once('*'));
            ends.is_some_and(|(prefix, suffix)| !overlaps(prefix, suffix).is_empty())
        })
}

/// The wildcard, brackets or text that an alternative begins with.
fn first_token(alternative: &str) -> &str {
    let length = match alternative.find(['*', '?', '[']) {
        Some(0) if alternative.starts_with("**") => 2,
        Some(0) if alternative.starts_with('[') => alternative.find(']').map_or(1, |end| end + 1),
        Some(0) => 1,
        Some(at) => at,
        None => alternative.len(),
    };
    &alternative[..length]
}

/// The wildcard, brackets or text that an alternative ends with.
fn last_token(alternative: &str) -> &str {
    let last = alternative.len().saturating_sub(1);
    let start = match alternative.rfind(['*', '?', ']']) {
        Some(at) if at < last => at + 1,
        Some(_) if alternative.ends_with("**") => last - 1,
        Some(_) if alternative.ends_with(']') => alternative.rfind('[').unwrap_or(0),
        Some(at) => at,
        None => 0,
    };
    &alternative[start..]
}

/// The texts that begin with `prefix` and end with `suffix` and are shorter than both together.
fn overlaps(prefix: &str, suffix: &str) -> Vec<String> {
    let ends = suffix.char_indices().map(|(at, character)| at + character.len_utf8());
    ends.filter(|&at| prefix.ends_with(&suffix[..at]))
        .map(|at| format!("{prefix}{}", &suffix[at..]))
        .collect()
}

/// What stands before, as far as gobwas puts it together with what follows.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Last {
    Text,
    /// `*` or `**`.
    Stars,
    /// `?` or brackets.
    Single,
}

impl<'p> Translation<'p> {
    fn of(pattern: &'p str, delimiters: &str) -> Result<String, &'static str> {
        let other = if delimiters.is_empty() { ".".to_owned() } else { class(true, delimiters.chars()) };
        let mut translation = Self {
            rest: pattern.chars().peekable(),
            out: String::from(r"\A(?:"),
            other,
            alternative: 0,
            is_one_brace: is_one_brace(pattern),
            texts: Some(vec![String::new()]),
            delimiters: delimiters.chars().count(),
            last: Last::Text,
        };
        translation.pattern()?;
        translation.overlap();
        translation.out.push_str(r")\z");
        Ok(translation.out)
    }

    fn pattern(&mut self) -> Result<(), &'static str> {
        let mut open = 0;
        while let Some(character) = self.rest.next() {
            let this = match character {
                '*' => Last::Stars,
                '?' | '[' => Last::Single,
                _ => Last::Text,
            };
            self.check_neighbours(this, open)?;
            match character {
                '*' => {
                    let twice = self.rest.next_if_eq(&'*').is_some();
                    match &mut self.texts {
                        Some(texts) if twice || self.delimiters == 0 => texts.push(String::new()),
                        texts => *texts = None,
                    }
                    self.out.push_str(if twice { "." } else { &self.other });
                    self.out.push('*');
                }
                '?' => {
                    self.texts = None;
                    self.out.push_str(&self.other);
                }
                '[' => self.brackets()?,
                '{' if open > 0 => return Err("braces stand in braces"),
                '{' if self.delimiters > 1 && !self.is_one_brace => {
                    return Err("braces as a part of the pattern take at most one delimiter");
                }
                '{' => {
                    self.texts = None;
                    open += 1;
                    self.out.push_str("(?:");
                    self.alternative = self.out.len();
                }
                ',' | '}' if open > 0 && self.alternative == self.out.len() => {
                    return Err("braces hold an empty text");
                }
                '}' if open > 0 => {
                    open -= 1;
                    self.out.push(')');
                }
                ',' if open > 0 => {
                    self.out.push('|');
                    self.alternative = self.out.len();
                }
                '\\' => {
                    let escaped = self.rest.next().ok_or("it ends with a backslash")?;
                    self.text(escaped);
                }
                character => self.text(character),
            }
        }
        if open > 0 { Err("`{` is not closed") } else { Ok(()) }
    }

    /// Refuses what gobwas puts together wrongly, so that no pattern means one thing here and another in OPA.
    fn check_neighbours(&mut self, this: Last, open: usize) -> Result<(), &'static str> {
        let last = std::mem::replace(&mut self.last, this);
        match (last, this) {
            (Last::Stars, Last::Stars) => Err("more than two stars in a row"),
            (Last::Stars | Last::Single, Last::Single) | (Last::Single, Last::Stars)
                if self.delimiters > 1 =>
            {
                Err("`?` or brackets beside one another or beside `*` take at most one delimiter")
            }
            (_, Last::Stars | Last::Single) if open > 0 && !self.is_one_brace => {
                Err("braces hold more than texts, and are not the whole pattern or begin or end alike")
            }
            _ => Ok(()),
        }
    }

    /// gobwas looks at both ends on their own, so that `/a/**/b` also matches `/a/b`.
    fn overlap(&mut self) {
        let Some([prefix, suffix]) = self.texts.as_deref() else { return };
        for overlap in overlaps(prefix, suffix) {
            self.out.push('|');
            overlap.chars().for_each(|character| literal(&mut self.out, character));
        }
    }

    /// Writes a character that stands for itself.
    fn text(&mut self, character: char) {
        if let Some(text) = self.texts.as_mut().and_then(|texts| texts.last_mut()) {
            text.push(character);
        }
        literal(&mut self.out, character);
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
            self.texts = None;
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
        if let ([only], false) = (list.as_slice(), negated) {
            self.text(*only);
            return Ok(());
        }
        self.texts = None;
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
mod tests;
