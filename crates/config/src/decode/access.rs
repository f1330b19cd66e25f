//! serde's views of tables, arrays and enumerations of the document.

use std::borrow::Cow;
use std::vec;

use serde::de::value::CowStrDeserializer;
use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, IntoDeserializer, MapAccess, SeqAccess, Unexpected,
    VariantAccess, Visitor,
};
use serde_spanned::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use super::{DecodeError, KeyDecoder, Sink, ValueDecoder, keys};

/// The entries of a table.
pub(super) struct Entries<'s, 'de> {
    entries: vec::IntoIter<(Spanned<Cow<'de, str>>, Spanned<DeValue<'de>>)>,
    value: Option<(Cow<'de, str>, Spanned<DeValue<'de>>)>,
    sink: &'s Sink,
}

impl<'s, 'de> Entries<'s, 'de> {
    /// All entries, for tables whose keys are names that the operator chose.
    pub(super) fn all(table: DeTable<'de>, sink: &'s Sink) -> Self {
        Self { entries: table.into_iter().collect::<Vec<_>>().into_iter(), value: None, sink }
    }

    /// The entries whose keys are `fields`; every other one is reported and left out.
    pub(super) fn known(table: DeTable<'de>, section: &str, fields: &[&str], sink: &'s Sink) -> Self {
        let mut entries = Vec::with_capacity(table.len());
        for (key, value) in table {
            let name = key.get_ref();
            if sink.manner.refuses_danger && name.starts_with("danger_") {
                let help = "the file that includes this one allows it with `may_weaken = true`".to_owned();
                sink.report(
                    sink.place(key.span()),
                    format!("`{name}` may not stand in this file"),
                    Some(help),
                );
            }
            if fields.contains(&key.get_ref().as_ref()) {
                entries.push((key, value));
            } else {
                let (message, help) = keys::unknown(section, key.get_ref(), fields);
                sink.report(sink.place(key.span()), message, Some(help));
            }
        }
        Self { entries: entries.into_iter(), value: None, sink }
    }
}

impl<'de> MapAccess<'de> for Entries<'_, 'de> {
    type Error = DecodeError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, DecodeError> {
        let Some((key, value)) = self.entries.next() else { return Ok(None) };
        let span = self.sink.place(key.span());
        let key = key.into_inner();
        self.value = Some((key.clone(), value));
        seed.deserialize(KeyDecoder { key, span }).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, DecodeError> {
        match self.value.take() {
            Some((key, value)) => seed.deserialize(ValueDecoder::new(value, Some(key), self.sink)),
            None => Err(DecodeError::message("a value was asked for before its key")),
        }
    }
}

/// The items of an array.
pub(super) struct Items<'s, 'de> {
    items: vec::IntoIter<Spanned<DeValue<'de>>>,
    key: Option<Cow<'de, str>>,
    sink: &'s Sink,
}

impl<'s, 'de> Items<'s, 'de> {
    pub(super) fn new(items: DeArray<'de>, key: Option<Cow<'de, str>>, sink: &'s Sink) -> Self {
        Self { items: items.into_iter().collect::<Vec<_>>().into_iter(), key, sink }
    }
}

impl<'de> SeqAccess<'de> for Items<'_, 'de> {
    type Error = DecodeError;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, DecodeError> {
        let Some(item) = self.items.next() else { return Ok(None) };
        seed.deserialize(ValueDecoder::new(item, self.key.clone(), self.sink)).map(Some)
    }
}

/// One of several alternatives: a word, or a table with the word as its only key and a value.
pub(super) enum Choice<'s, 'de> {
    Word(Cow<'de, str>),
    Table { word: Cow<'de, str>, value: ValueDecoder<'s, 'de> },
}

impl<'s, 'de> Choice<'s, 'de> {
    /// From a table that has exactly one entry.
    pub(super) fn table(table: DeTable<'de>, sink: &'s Sink) -> Self {
        let (key, value) = table.into_iter().next().expect("the caller has seen one entry");
        let word = key.into_inner();
        Self::Table { value: ValueDecoder::new(value, Some(word.clone()), sink), word }
    }
}

impl<'s, 'de> EnumAccess<'de> for Choice<'s, 'de> {
    type Error = DecodeError;
    type Variant = Variant<'s, 'de>;

    fn variant_seed<V: DeserializeSeed<'de>>(
        self,
        seed: V,
    ) -> Result<(V::Value, Self::Variant), DecodeError> {
        let (word, value) = match self {
            Self::Word(word) => (word, None),
            Self::Table { word, value } => (word, Some(value)),
        };
        let variant = Variant { word: word.clone(), value };
        Ok((seed.deserialize(CowStrDeserializer::new(word))?, variant))
    }
}

/// What belongs to the alternative that was chosen.
pub(super) struct Variant<'s, 'de> {
    word: Cow<'de, str>,
    value: Option<ValueDecoder<'s, 'de>>,
}

impl Variant<'_, '_> {
    fn wants_a_value(&self) -> DecodeError {
        DecodeError::message(format!("{:?} needs a value: {{ {} = ... }}", self.word, self.word))
    }

    fn takes_no_value(&self) -> DecodeError {
        DecodeError::message(format!("{:?} takes no value: write it as a string", self.word))
    }
}

impl<'de> VariantAccess<'de> for Variant<'_, 'de> {
    type Error = DecodeError;

    fn unit_variant(self) -> Result<(), DecodeError> {
        match self.value {
            None => Ok(()),
            Some(_) => Err(self.takes_no_value()),
        }
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, DecodeError> {
        match self.value {
            Some(value) => seed.deserialize(value),
            None => Err(self.wants_a_value()),
        }
    }

    fn tuple_variant<V: Visitor<'de>>(self, _len: usize, visitor: V) -> Result<V::Value, DecodeError> {
        match self.value {
            Some(value) => value.deserialize_seq(visitor),
            None => Err(self.wants_a_value()),
        }
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        match self.value {
            Some(value) => value.deserialize_struct("", fields, visitor),
            None => Err(self.wants_a_value()),
        }
    }
}

/// A key on its way through [`Spanned`]'s protocol, which wants something that turns into a deserializer.
pub(super) struct Word<'de>(pub(super) CowStrDeserializer<'de, DecodeError>);

impl<'de> IntoDeserializer<'de, DecodeError> for Word<'de> {
    type Deserializer = CowStrDeserializer<'de, DecodeError>;

    fn into_deserializer(self) -> Self::Deserializer {
        self.0
    }
}

/// What serde calls the type of a value.
pub(super) fn unexpected<'v>(value: &'v DeValue<'_>) -> Unexpected<'v> {
    match value {
        DeValue::String(text) => Unexpected::Str(text),
        DeValue::Integer(_) => Unexpected::Other("a number"),
        DeValue::Float(_) => Unexpected::Other("a number"),
        DeValue::Boolean(flag) => Unexpected::Bool(*flag),
        DeValue::Datetime(_) => Unexpected::Other("a date or time"),
        DeValue::Array(_) => Unexpected::Seq,
        DeValue::Table(_) => Unexpected::Map,
    }
}
