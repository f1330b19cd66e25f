//! From the parsed TOML document to the [`raw`](crate::raw) types, without stopping at the first problem.
//!
//! Hides the deserializer that makes this possible: serde gives up at the first error, so every unknown key and every
//! value of a wrong type is written into a list on the spot, with its position, and decoding goes on. It never
//! loses a problem: what could not be read is in that list, and whoever reads it has to refuse the file then.

mod access;
mod field;
mod keys;

use std::borrow::Cow;
use std::cell::RefCell;
use std::fmt;
use std::ops::Range;

use serde::Deserialize;
use serde::de::value::CowStrDeserializer;
use serde::de::{self, Deserializer, Expected, IntoDeserializer, Unexpected, Visitor};
use serde_spanned::Spanned;
use serde_spanned::de::{SpannedDeserializer, is_spanned};
use toml::de::{DeTable, DeValue};

pub use self::field::Field;
use crate::suggest::nearest;

/// Something wrong with the document, by byte range.
#[derive(Debug)]
pub(crate) struct Problem {
    pub(crate) span: Range<usize>,
    pub(crate) message: String,
    pub(crate) help: Option<String>,
}

/// What holds for a whole document.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Manner {
    /// Where its text begins in the [`Source`](crate::diagnostic::Source): what all positions are counted from.
    pub(crate) begin: usize,
    /// Keys that weaken something are refused.
    pub(crate) refuses_danger: bool,
}

/// Reads a document into `T`. The value is there unless the document is not TOML at all; it may be used only to look
/// for further problems if the list is not empty.
pub(crate) fn decode<'de, T: Deserialize<'de>>(text: &'de str, manner: Manner) -> (Option<T>, Vec<Problem>) {
    let (document, errors) = DeTable::parse_recoverable(text);
    let sink = Sink { manner, problems: RefCell::default() };
    if !errors.is_empty() {
        // What the parser recovered is a guess, and problems found in a guess would mislead.
        return (None, errors.iter().map(|error| syntax_problem(error, &sink)).collect());
    }
    let root = Spanned::new(document.span(), DeValue::Table(document.into_inner()));
    let decoder = ValueDecoder::new(root, None, &sink);
    let decoded = T::deserialize(decoder).ok();
    let mut problems = sink.problems.into_inner();
    if decoded.is_none() && problems.is_empty() {
        let span = manner.begin..manner.begin;
        problems.push(Problem { span, message: "the file cannot be read".into(), help: None });
    }
    (decoded, problems)
}

fn syntax_problem(error: &toml::de::Error, sink: &Sink) -> Problem {
    let message = error.message().replace('\n', ", ");
    let message = format!("not valid TOML: {}", message.trim_end_matches(", expected nothing"));
    Problem { span: sink.place(error.span().unwrap_or(0..0)), message, help: None }
}

/// The list that decoding writes its findings into.
#[derive(Debug)]
struct Sink {
    manner: Manner,
    problems: RefCell<Vec<Problem>>,
}

impl Sink {
    /// A range of the document, as it is told to others.
    fn place(&self, span: Range<usize>) -> Range<usize> {
        span.start + self.manner.begin..span.end + self.manner.begin
    }

    fn report(&self, span: Range<usize>, message: String, help: Option<String>) {
        self.problems.borrow_mut().push(Problem { span, message, help });
    }
}

/// Why a value could not be read; `Reported` once it stands in the sink.
#[derive(Debug)]
pub(crate) enum DecodeError {
    Found { message: String, help: Option<&'static str> },
    Reported,
}

impl DecodeError {
    fn message(message: impl Into<String>) -> Self {
        Self::Found { message: message.into(), help: None }
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Found { message, .. } => f.write_str(message),
            Self::Reported => f.write_str("already reported"),
        }
    }
}

impl std::error::Error for DecodeError {}

impl de::Error for DecodeError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::message(message.to_string())
    }

    /// In TOML's words, which are not quite serde's.
    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        let expected = match expected.to_string() {
            expected if expected == "a sequence" => "a list".to_owned(),
            expected if expected == "a map" => "a table".to_owned(),
            expected => expected,
        };
        let (found, help) = match found {
            Unexpected::Map if expected == "a list" => (
                "a table".to_owned(),
                Some("there may be several: write the header in double brackets, [[...]]"),
            ),
            Unexpected::Map => ("a table".to_owned(), None),
            Unexpected::Seq if expected == "a table" => {
                ("a list".to_owned(), Some("there is only one: write the header in single brackets, [...]"))
            }
            Unexpected::Seq => ("a list".to_owned(), None),
            found => (found.to_string(), None),
        };
        Self::Found { message: format!("expected {expected}, found {found}"), help }
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::message(format!("expected {expected}, found {found}"))
    }
}

/// serde's view of one value of the document, which knows where it stands and under which key.
struct ValueDecoder<'s, 'de> {
    value: DeValue<'de>,
    span: Range<usize>,
    key: Option<Cow<'de, str>>,
    sink: &'s Sink,
}

impl<'s, 'de> ValueDecoder<'s, 'de> {
    fn new(value: Spanned<DeValue<'de>>, key: Option<Cow<'de, str>>, sink: &'s Sink) -> Self {
        Self { span: sink.place(value.span()), value: value.into_inner(), key, sink }
    }

    /// Runs one step of decoding and writes its error, if that is new, into the sink with this value's position.
    fn reporting<T>(self, step: impl FnOnce(Self) -> Result<T, DecodeError>) -> Result<T, DecodeError> {
        let (span, key, sink) = (self.span.clone(), self.key.clone(), self.sink);
        step(self).map_err(|error| {
            if let DecodeError::Found { message, help } = error {
                let message = match key {
                    Some(key) => format!("`{key}`: {message}"),
                    None => message,
                };
                sink.report(span, message, help.map(str::to_owned));
            }
            DecodeError::Reported
        })
    }

    fn visit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match self.value {
            DeValue::String(Cow::Borrowed(text)) => visitor.visit_borrowed_str(text),
            DeValue::String(Cow::Owned(text)) => visitor.visit_string(text),
            DeValue::Integer(integer) => match i64::from_str_radix(integer.as_str(), integer.radix()) {
                Ok(number) => visitor.visit_i64(number),
                Err(_) => Err(DecodeError::message(format!("the number {integer} is too large"))),
            },
            DeValue::Float(float) => match float.as_str().parse() {
                Ok(number) => visitor.visit_f64(number),
                Err(_) => Err(DecodeError::message(format!("{:?} is not a number", float.as_str()))),
            },
            DeValue::Boolean(flag) => visitor.visit_bool(flag),
            DeValue::Datetime(_) => {
                Err(de::Error::invalid_type(Unexpected::Other("a date or time"), &visitor))
            }
            DeValue::Array(items) => visitor.visit_seq(access::Items::new(items, self.key, self.sink)),
            DeValue::Table(table) => visitor.visit_map(access::Entries::all(table, self.sink)),
        }
    }

    fn visit_section<V: Visitor<'de>>(
        self,
        section: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        match self.value {
            DeValue::Table(table) => {
                visitor.visit_map(access::Entries::known(table, section, fields, self.sink))
            }
            other => {
                let found = access::unexpected(&other);
                Err(de::Error::invalid_type(found, &"a table"))
            }
        }
    }

    fn visit_choice<V: Visitor<'de>>(
        self,
        choice: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        let known = |variant: &str| variants.contains(&variant);
        match self.value {
            DeValue::String(variant) if known(&variant) => visitor.visit_enum(access::Choice::Word(variant)),
            DeValue::String(variant) => {
                let (message, help) = unknown_variant(choice, &variant, variants);
                let key = self.key.as_deref().unwrap_or("value");
                self.sink.report(self.span, format!("`{key}`: {message}"), Some(help));
                Err(DecodeError::Reported)
            }
            DeValue::Table(table) if table.len() == 1 && table.keys().all(|key| known(key.get_ref())) => {
                visitor.visit_enum(access::Choice::table(table, self.sink))
            }
            DeValue::Table(_) => Err(DecodeError::message(format!("expected one of {}", quoted(variants)))),
            other => {
                let expected = format!("one of {}", quoted(variants));
                Err(de::Error::invalid_type(access::unexpected(&other), &expected.as_str()))
            }
        }
    }
}

impl<'de> Deserializer<'de> for ValueDecoder<'_, 'de> {
    type Error = DecodeError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.reporting(|this| this.visit(visitor))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.reporting(|this| visitor.visit_some(this))
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        self.reporting(|this| match (name, this.value) {
            (DATE_TIME, DeValue::Datetime(moment)) => visitor.visit_string(moment.to_string()),
            (DATE_TIME, other) => Err(de::Error::invalid_type(access::unexpected(&other), &visitor)),
            (ONE_OR_MORE, DeValue::Array(items)) => {
                visitor.visit_seq(access::Items::new(items, this.key, this.sink))
            }
            (WORD_OR_TABLE, DeValue::String(word)) => visitor.visit_str(&word),
            (WORD_OR_TABLE, value @ DeValue::Table(_)) => {
                visitor.visit_newtype_struct(Self { value, ..this })
            }
            (WORD_OR_TABLE, other) => Err(de::Error::invalid_type(access::unexpected(&other), &visitor)),
            (_, value) => visitor.visit_newtype_struct(Self { value, ..this }),
        })
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        if is_spanned(name) {
            let span = self.span.clone();
            return visitor.visit_map(SpannedDeserializer::new(self, span));
        }
        self.reporting(|this| this.visit_section(name, fields, visitor))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        self.reporting(|this| this.visit_choice(name, variants, visitor))
    }

    serde::forward_to_deserialize_any! {
        bool u8 u16 u32 u64 u128 i8 i16 i32 i64 i128 f32 f64 char str string seq
        bytes byte_buf map unit ignored_any unit_struct tuple_struct tuple identifier
    }
}

impl<'de> IntoDeserializer<'de, DecodeError> for ValueDecoder<'_, 'de> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

/// serde's view of a key that the operator chose, such as the name of a cluster.
struct KeyDecoder<'de> {
    key: Cow<'de, str>,
    span: Range<usize>,
}

impl<'de> Deserializer<'de> for KeyDecoder<'de> {
    type Error = DecodeError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        CowStrDeserializer::new(self.key).deserialize_any(visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        if is_spanned(name) {
            let span = self.span;
            let key: CowStrDeserializer<'de, DecodeError> = CowStrDeserializer::new(self.key);
            return visitor.visit_map(SpannedDeserializer::new(access::Word(key), span));
        }
        self.deserialize_any(visitor)
    }

    serde::forward_to_deserialize_any! {
        bool u8 u16 u32 u64 u128 i8 i16 i32 i64 i128 f32 f64 char str string seq option newtype_struct enum
        bytes byte_buf map unit ignored_any unit_struct tuple_struct tuple identifier
    }
}

/// What to say about a word that is not one of an enumeration's.
fn unknown_variant(choice: &str, found: &str, variants: &[&str]) -> (String, String) {
    if let Some(note) = keys::value_note(choice, found, variants) {
        return note;
    }
    let help = match nearest(found, variants.iter().copied()) {
        Some(near) => format!("did you mean \"{near}\"?"),
        None => format!("write one of {}", quoted(variants)),
    };
    (format!("unknown value {found:?}"), help)
}

/// Names by which a type asks for what serde has no method for: a date and time, as text.
pub(crate) const DATE_TIME: &str = "$ringward.date_time";
/// The same for a list of things, or one of them.
pub(crate) const ONE_OR_MORE: &str = "$ringward.one_or_more";
/// The same for a word, or a table.
pub(crate) const WORD_OR_TABLE: &str = "$ringward.word_or_table";

fn quoted(words: &[&str]) -> String {
    words.iter().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests;
