//! Values that stand for something else than themselves: durations, sizes, counts, lists.
//!
//! Their text is kept as written. It is read where the key's bounds are known, so that one message can name the key,
//! the value and what is allowed.

use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::{self, Deserializer, SeqAccess, Unexpected, Visitor};
use serde_spanned::Spanned;

use super::Field;
use crate::decode::{DATE_TIME, ONE_OR_MORE, WORD_OR_TABLE};

/// A duration as it is written, such as `10s`.
#[derive(Clone, Debug)]
pub struct DurationText(pub String);

/// A size as it is written, such as `32KiB`.
#[derive(Clone, Debug)]
pub struct SizeText(pub String);

/// A whole number that is not negative.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count(pub u64);

/// A whole number that is not negative, or a word such as `auto`.
#[derive(Clone, Debug)]
pub enum CountOrWord {
    /// A number.
    Count(u64),
    /// A word.
    Word(String),
}

/// One string, or a list of strings.
#[derive(Clone, Debug)]
pub enum OneOrMany {
    /// `key = "a"`.
    One(String),
    /// `key = ["a", "b"]`.
    Many(Vec<Field<String>>),
}

/// One table, or a list of tables.
#[derive(Clone, Debug)]
pub struct OneOrMore<T>(pub Vec<Field<T>>);

/// A word such as `off`, or a table.
#[derive(Clone, Debug)]
pub enum WordOrTable<T> {
    /// `key = "off"`.
    Word(String),
    /// `key = { ... }`.
    Table(T),
}

/// A moment as it is written, such as `2027-03-01T18:00:00Z`: any of TOML's dates and times.
#[derive(Clone, Debug)]
pub struct DateTime(pub String);

/// The readable strings of a [`OneOrMany`] with their positions.
pub fn strings(list: &Spanned<OneOrMany>) -> Vec<Spanned<&str>> {
    match list.get_ref() {
        OneOrMany::One(text) => vec![Spanned::new(list.span(), text.as_str())],
        OneOrMany::Many(items) => items
            .iter()
            .filter_map(Field::given)
            .map(|item| Spanned::new(item.span(), item.get_ref().as_str()))
            .collect(),
    }
}

impl<'de> Deserialize<'de> for DurationText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(TextVisitor("a duration such as \"10s\"")).map(Self)
    }
}

impl<'de> Deserialize<'de> for SizeText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(TextVisitor("a size such as \"32KiB\"")).map(Self)
    }
}

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_u64(CountVisitor).map(Self)
    }
}

impl<'de> Deserialize<'de> for CountOrWord {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(CountOrWordVisitor)
    }
}

impl<'de> Deserialize<'de> for OneOrMany {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(OneOrManyVisitor)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for OneOrMore<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_newtype_struct(ONE_OR_MORE, OneOrMoreVisitor(PhantomData))
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for WordOrTable<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_newtype_struct(WORD_OR_TABLE, WordOrTableVisitor(PhantomData))
    }
}

impl<'de> Deserialize<'de> for DateTime {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_newtype_struct(DATE_TIME, TextVisitor(DATE_TIME_EXPECTED)).map(Self)
    }
}

/// Takes a string; the field is what to say when it is something else.
struct TextVisitor(&'static str);

impl Visitor<'_> for TextVisitor {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<String, E> {
        Ok(text.to_owned())
    }
}

struct CountVisitor;

impl Visitor<'_> for CountVisitor {
    type Value = u64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a whole number that is not negative")
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<u64, E> {
        u64::try_from(number).map_err(|_| E::invalid_value(Unexpected::Signed(number), &self))
    }
}

struct CountOrWordVisitor;

impl Visitor<'_> for CountOrWordVisitor {
    type Value = CountOrWord;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a whole number that is not negative, or a string")
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<CountOrWord, E> {
        u64::try_from(number)
            .map(CountOrWord::Count)
            .map_err(|_| E::invalid_value(Unexpected::Signed(number), &self))
    }

    fn visit_str<E: de::Error>(self, word: &str) -> Result<CountOrWord, E> {
        Ok(CountOrWord::Word(word.to_owned()))
    }
}

struct OneOrManyVisitor;

impl<'de> Visitor<'de> for OneOrManyVisitor {
    type Value = OneOrMany;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string or a list of strings")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<OneOrMany, E> {
        Ok(OneOrMany::One(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<OneOrMany, A::Error> {
        let mut all = Vec::new();
        while let Some(item) = items.next_element()? {
            all.push(item);
        }
        Ok(OneOrMany::Many(all))
    }
}

/// The decoder shows it a list as a sequence, and anything else as the content of a newtype.
struct OneOrMoreVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for OneOrMoreVisitor<T> {
    type Value = OneOrMore<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a table or a list of tables")
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, one: D) -> Result<OneOrMore<T>, D::Error> {
        Ok(OneOrMore(vec![Field::deserialize(one)?]))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<OneOrMore<T>, A::Error> {
        let mut all = Vec::new();
        while let Some(item) = items.next_element()? {
            all.push(item);
        }
        Ok(OneOrMore(all))
    }
}

/// The decoder shows it a word as a string, and a table as the content of a newtype.
struct WordOrTableVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for WordOrTableVisitor<T> {
    type Value = WordOrTable<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string or a table")
    }

    fn visit_str<E: de::Error>(self, word: &str) -> Result<WordOrTable<T>, E> {
        Ok(WordOrTable::Word(word.to_owned()))
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, table: D) -> Result<WordOrTable<T>, D::Error> {
        Ok(WordOrTable::Table(T::deserialize(table)?))
    }
}

const DATE_TIME_EXPECTED: &str = "a date and time such as 2027-03-01T18:00:00Z, without quotes";
