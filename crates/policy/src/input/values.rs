//! Shorthand for building values.

use std::collections::BTreeMap;

use regorus::Value;

pub(crate) fn text(text: &str) -> Value {
    Value::String(text.into())
}

pub(crate) fn list(items: impl Iterator<Item = Value>) -> Value {
    Value::from(items.collect::<Vec<_>>())
}

/// An object with text keys. For what is built once per connection: keys are allocated.
pub(crate) fn object<'k>(fields: impl IntoIterator<Item = (&'k str, Value)>) -> Value {
    Value::from(fields.into_iter().map(|(key, value)| (text(key), value)).collect::<BTreeMap<_, _>>())
}
