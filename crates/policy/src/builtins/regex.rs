//! `regex.*` as OPA has them, which is as Go's `regexp` (RE2 syntax) has them.
//!
//! The matching is by the `regex` crate, which is of the same family: linear time, leftmost-first. Its syntax differs in
//! places that decide who matches, so a pattern is translated first: `\d`, `\w`, `\s` and `\b` are ASCII, brackets
//! within brackets and `&&` are characters, `\<` is `<`, and flags that Go does not have are refused.

use regex::{Regex, RegexBuilder};
use regorus::Value;

use crate::builtins::bounded::{ELEMENTS_MAX, RESULT_BYTES_MAX};
use crate::builtins::cache::PatternCache;
use crate::builtins::{CallError, Function, integer, text};

/// Longest pattern in bytes.
const PATTERN_BYTES_MAX: usize = 4096;

/// Largest compiled pattern in bytes. Bounds the time to compile what a request may bring along; addresses, host names,
/// UUIDs and the like take a tenth.
const COMPILED_BYTES_MAX: usize = 256 * 1024;

/// Deepest nesting of groups.
const NESTING_MAX: u32 = 50;

/// A builtin over compiled patterns.
type Call = fn(&mut PatternCache, &[Value]) -> Result<Value, CallError>;

pub(crate) fn functions() -> Vec<Function> {
    let calls: [(&str, Call); 6] = [
        ("regex.match", regex_match),
        ("regex.is_valid", is_valid),
        ("regex.find_n", find_n),
        ("regex.find_all_string_submatch_n", find_all_string_submatch_n),
        ("regex.replace", replace),
        ("regex.split", split),
    ];
    let function = |(name, call): (&'static str, Call)| -> Function {
        let mut cache = PatternCache::default();
        (name, Box::new(move |args| call(&mut cache, &args).map_err(Into::into)))
    };
    calls.into_iter().map(function).collect()
}

fn regex_match(cache: &mut PatternCache, args: &[Value]) -> Result<Value, CallError> {
    let name = "regex.match";
    let (pattern, value) = (text(name, args, 0)?, text(name, args, 1)?);
    Ok(Value::Bool(cache.get(pattern, || compile(pattern))?.is_match(value)))
}

fn is_valid(cache: &mut PatternCache, args: &[Value]) -> Result<Value, CallError> {
    let Value::String(pattern) = &args[0] else { return Ok(Value::Bool(false)) };
    Ok(Value::Bool(cache.get(pattern, || compile(pattern)).is_ok()))
}

/// A count as Go takes it: negative means all.
fn count(name: &str, args: &[Value]) -> Result<usize, CallError> {
    Ok(usize::try_from(integer(name, args, 2)?).unwrap_or(usize::MAX))
}

/// What a text of the client's choice is taken apart into.
fn limited(name: &str, found: impl Iterator<Item = Value>) -> Result<Vec<Value>, CallError> {
    let found: Vec<Value> = found.take(ELEMENTS_MAX as usize + 1).collect();
    match found.len() as u64 > ELEMENTS_MAX {
        true => Err(CallError(format!("`{name}` would give more than {ELEMENTS_MAX} elements"))),
        false => Ok(found),
    }
}

fn find_n(cache: &mut PatternCache, args: &[Value]) -> Result<Value, CallError> {
    let name = "regex.find_n";
    let (pattern, value, n) = (text(name, args, 0)?, text(name, args, 1)?, count(name, args)?);
    let regex = cache.get(pattern, || compile(pattern))?;
    Ok(Value::from(limited(name, regex.find_iter(value).take(n).map(|found| Value::from(found.as_str())))?))
}

fn find_all_string_submatch_n(cache: &mut PatternCache, args: &[Value]) -> Result<Value, CallError> {
    let name = "regex.find_all_string_submatch_n";
    let (pattern, value, n) = (text(name, args, 0)?, text(name, args, 1)?, count(name, args)?);
    let regex = cache.get(pattern, || compile(pattern))?;
    let groups = |captures: regex::Captures<'_>| {
        Value::from(
            captures.iter().map(|group| Value::from(group.map_or("", |g| g.as_str()))).collect::<Vec<_>>(),
        )
    };
    Ok(Value::from(limited(name, regex.captures_iter(value).take(n).map(groups))?))
}

fn replace(cache: &mut PatternCache, args: &[Value]) -> Result<Value, CallError> {
    let name = "regex.replace";
    let (value, pattern, with) = (text(name, args, 0)?, text(name, args, 1)?, text(name, args, 2)?);
    let regex = cache.get(pattern, || compile(pattern))?;
    let mut replaced = String::with_capacity(value.len());
    let mut end = 0;
    for captures in regex.captures_iter(value) {
        let whole = captures.get(0).expect("group 0 is the match");
        replaced.push_str(&value[end..whole.start()]);
        captures.expand(with, &mut replaced);
        end = whole.end();
        if replaced.len() > RESULT_BYTES_MAX {
            return Err(CallError(format!("`{name}` would give more than {RESULT_BYTES_MAX} bytes")));
        }
    }
    replaced.push_str(&value[end..]);
    Ok(Value::from(replaced))
}

fn split(cache: &mut PatternCache, args: &[Value]) -> Result<Value, CallError> {
    let name = "regex.split";
    let (pattern, value) = (text(name, args, 0)?, text(name, args, 1)?);
    let regex = cache.get(pattern, || compile(pattern))?;
    if value.is_empty() && !pattern.is_empty() {
        return Ok(Value::from(vec![Value::from("")]));
    }
    // Go gives nothing for an empty match at either end.
    let (mut parts, mut begin, mut end) = (Vec::new(), 0, 0);
    for found in regex.find_iter(value) {
        end = found.start();
        if found.end() != 0 {
            parts.push(Value::from(&value[begin..end]));
        }
        if parts.len() as u64 >= ELEMENTS_MAX {
            return Err(CallError(format!("`{name}` would give more than {ELEMENTS_MAX} elements")));
        }
        begin = found.end();
    }
    if end != value.len() {
        parts.push(Value::from(&value[begin..]));
    }
    Ok(Value::from(parts))
}

/// Whether every call with this pattern fails.
pub(crate) fn check(pattern: &str) -> Result<(), CallError> {
    compile(pattern).map(drop)
}

fn compile(pattern: &str) -> Result<Regex, CallError> {
    if pattern.len() > PATTERN_BYTES_MAX {
        return Err(CallError(format!("regular expression has more than {PATTERN_BYTES_MAX} bytes")));
    }
    let translated = Translation::of(pattern)
        .map_err(|why| CallError(format!("regular expression `{pattern}` is invalid: {why}")))?;
    RegexBuilder::new(&translated)
        .size_limit(COMPILED_BYTES_MAX)
        .dfa_size_limit(COMPILED_BYTES_MAX)
        .nest_limit(NESTING_MAX)
        .build()
        .map_err(|error| match error {
            regex::Error::CompiledTooBig(_) => {
                CallError(format!("regular expression `{pattern}` is too large"))
            }
            _ => CallError(format!("regular expression `{pattern}` is invalid")),
        })
}

/// What stands before, as far as a repetition behind it is concerned.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Item {
    Repetition,
    LazyRepetition,
    Other,
}

/// From Go's syntax to that of the `regex` crate. What neither understands passes through and is refused there.
struct Translation<'p> {
    rest: &'p str,
    out: String,
}

impl<'p> Translation<'p> {
    fn of(pattern: &'p str) -> Result<String, &'static str> {
        let mut translation = Self { rest: pattern, out: String::with_capacity(pattern.len() + 16) };
        let mut before = Item::Other;
        while let Some(character) = translation.next() {
            let mut item = Item::Other;
            match character {
                '\\' => translation.escape()?,
                '[' => translation.class()?,
                '(' => translation.group()?,
                '{' if translation.is_repetition() => {
                    item = Item::Repetition;
                    translation.check_counts()?;
                    translation.out.push('{');
                    while !translation.out.ends_with('}') {
                        let next = translation.next().ok_or("`{` is not closed")?;
                        translation.out.push(next);
                    }
                }
                '{' => translation.out.push_str(r"\{"),
                '?' if before == Item::Repetition => translation.out.push('?'),
                '*' | '+' | '?' => {
                    item = Item::Repetition;
                    translation.out.push(character);
                }
                character => translation.out.push(character),
            }
            // Go: operators of repetition do not stack; only a single `?` may follow one.
            if before != Item::Other && item == Item::Repetition {
                return Err("repetition of a repetition");
            }
            let lazy = before == Item::Repetition && character == '?';
            before = if lazy { Item::LazyRepetition } else { item };
        }
        Ok(translation.out)
    }

    fn next(&mut self) -> Option<char> {
        let character = self.rest.chars().next()?;
        self.rest = &self.rest[character.len_utf8()..];
        Some(character)
    }

    fn skip(&mut self, text: &str) -> bool {
        let rest = self.rest.strip_prefix(text);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    /// Behind a backslash outside of brackets.
    fn escape(&mut self) -> Result<(), &'static str> {
        match self.next().ok_or("it ends with a backslash")? {
            'd' => self.out.push_str("[0-9]"),
            'D' => self.out.push_str("[^0-9]"),
            'w' => self.out.push_str("[0-9A-Za-z_]"),
            'W' => self.out.push_str("[^0-9A-Za-z_]"),
            // Go's has no vertical tab.
            's' => self.out.push_str(r"[\t\n\f\r ]"),
            'S' => self.out.push_str(r"[^\t\n\f\r ]"),
            'b' => self.out.push_str(r"(?-u:\b)"),
            'B' => self.out.push_str(r"(?-u:\B)"),
            'Q' => {
                let (quoted, rest) = self.rest.split_once(r"\E").unwrap_or((self.rest, ""));
                self.out.push_str(&regex::escape(quoted));
                self.rest = rest;
            }
            escaped => self.common_escape(escaped)?,
        }
        Ok(())
    }

    /// Behind a backslash, what means the same inside and outside of brackets.
    fn common_escape(&mut self, escaped: char) -> Result<(), &'static str> {
        match escaped {
            // Word boundaries to the crate, characters to Go.
            '<' | '>' => self.out.push(escaped),
            'a' | 'f' | 't' | 'n' | 'r' | 'v' | 'A' | 'z' | 'p' | 'P' | 'x' => {
                self.out.push('\\');
                self.out.push(escaped);
                // The braces of `\p{Greek}` and `\x{41}` are no repetition.
                if matches!(escaped, 'p' | 'P' | 'x') && self.rest.starts_with('{') {
                    let end = self.rest.find('}').ok_or("`{` is not closed")?;
                    self.out.push_str(&self.rest[..=end]);
                    self.rest = &self.rest[end + 1..];
                }
            }
            escaped if escaped.is_ascii_punctuation() => {
                self.out.push('\\');
                self.out.push(escaped);
            }
            _ => return Err("unknown escape sequence"),
        }
        Ok(())
    }

    /// Behind `[`: a class is `]`-first, then up to the next `]`, and knows neither nesting nor set operations.
    fn class(&mut self) -> Result<(), &'static str> {
        self.out.push('[');
        if self.skip("^") {
            self.out.push('^');
        }
        let mut first = true;
        // Whether a hyphen would make a range with what stands before.
        let mut begins = false;
        loop {
            let began = std::mem::replace(&mut begins, false);
            match self.next().ok_or("`[` is not closed")? {
                ']' if !first => break,
                '[' if self.rest.strip_prefix(':').is_some_and(|name| name.contains(":]")) => {
                    let end = self.rest[1..].find(":]").map_or(0, |end| end + 3);
                    let name = self.rest[1..end - 2].trim_start_matches('^');
                    if !POSIX_CLASSES.contains(&name) {
                        // The crate would read it as brackets within brackets.
                        return Err("unknown character class");
                    }
                    self.out.push('[');
                    self.out.push_str(&self.rest[..end]);
                    self.rest = &self.rest[end..];
                }
                character @ ('[' | ']' | '&' | '~' | '^') => {
                    begins = true;
                    self.out.push('\\');
                    self.out.push(character);
                }
                // A hyphen is itself at either end, elsewhere it makes a range.
                '-' if began && !self.rest.starts_with(']') && self.starts_with_class() => {
                    return Err("a range in brackets ends with a class");
                }
                '-' if first || self.rest.starts_with(']') => {
                    begins = true;
                    self.out.push_str(r"\-");
                }
                // Go makes a range of some and refuses others, the crate takes a difference of sets.
                '-' if self.rest.starts_with('-') => return Err("two hyphens in a row in brackets"),
                '\\' => match self.next().ok_or("it ends with a backslash")? {
                    'd' => self.out.push_str("0-9"),
                    'w' => self.out.push_str("0-9A-Za-z_"),
                    's' => self.out.push_str(r"\t\n\f\r "),
                    'D' => self.out.push_str("[^0-9]"),
                    'W' => self.out.push_str("[^0-9A-Za-z_]"),
                    'S' => self.out.push_str(r"[^\t\n\f\r ]"),
                    'A' | 'z' => return Err("unknown escape sequence"),
                    escaped => {
                        begins = !matches!(escaped, 'p' | 'P');
                        self.common_escape(escaped)?;
                    }
                },
                character => {
                    begins = character != '-';
                    self.out.push(character);
                }
            }
            first = false;
        }
        self.out.push(']');
        Ok(())
    }

    fn starts_with_class(&self) -> bool {
        let escape = self.rest.strip_prefix('\\');
        self.rest.starts_with("[:")
            || escape.is_some_and(|rest| rest.starts_with(['d', 'D', 'w', 'W', 's', 'S', 'p', 'P']))
    }

    /// Behind `{`: a repetition is `{n}`, `{n,}` or `{n,m}`, all else are characters.
    fn is_repetition(&self) -> bool {
        self.rest.split_once('}').is_some_and(|(counts, _)| {
            let (from, to) = counts.split_once(',').unwrap_or((counts, "0"));
            let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
            !from.is_empty() && digits(from) && digits(to)
        })
    }

    /// Go refuses counts above 1000.
    fn check_counts(&self) -> Result<(), &'static str> {
        let counts = self.rest.split('}').next().unwrap_or("").split(',');
        let is_small =
            |count: &str| count.is_empty() || count.parse::<u32>().is_ok_and(|count| count <= 1000);
        if counts.into_iter().all(is_small) { Ok(()) } else { Err("repeat count above 1000") }
    }

    /// Behind `(`: flags are those of Go.
    fn group(&mut self) -> Result<(), &'static str> {
        self.out.push('(');
        if !self.skip("?") {
            return Ok(());
        }
        self.out.push('?');
        if self.rest.starts_with("P<") || self.rest.starts_with('<') {
            // A name; `(?<=` and `(?<!` are no names and are refused by the crate.
            return Ok(());
        }
        let flags = self.rest.split([':', ')']).next().unwrap_or("");
        if !flags.chars().all(|flag| matches!(flag, 'i' | 'm' | 's' | 'U' | '-')) {
            return Err("unknown group flags");
        }
        Ok(())
    }
}

const POSIX_CLASSES: &[&str] = &[
    "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct", "space",
    "upper", "word", "xdigit",
];

#[cfg(test)]
mod tests;
