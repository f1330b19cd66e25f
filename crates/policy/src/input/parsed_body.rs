//! The body of a request as values: `parsed_body` of other gateways.
//!
//! Whoever reads the body after the policy must not find something else in it: what two parsers could understand differently
//! is no value, and a request with such a body gets no decision.

use std::collections::BTreeMap;

use regorus::Value;

use crate::decision::DecisionError;
use crate::input::body;
use crate::input::document::query_pairs;
use crate::input::go_form;
use crate::input::values::text;

/// A body that is a form (`application/x-www-form-urlencoded`): lists of values by name.
///
/// # Errors
///
/// If it is none.
pub(crate) fn form(bytes: &[u8]) -> Result<Value, DecisionError> {
    let form = std::str::from_utf8(bytes).map_err(|_| refused("is not UTF-8"))?;
    let mut fields: BTreeMap<Value, Value> = BTreeMap::new();
    for (count, (name, value)) in query_pairs(form).enumerate() {
        if count == body::VALUES_MAX {
            return Err(refused("is a form with too many values"));
        }
        let (Some(name), Some(value)) = (go_form::decode(name), go_form::decode(value)) else {
            return Err(refused("is no form"));
        };
        let values = fields.entry(text(&name)).or_insert_with(Value::new_array);
        if let Ok(values) = values.as_array_mut() {
            values.push(text(&value));
        }
    }
    Ok(Value::from(fields))
}

pub(crate) fn refused(what: &str) -> DecisionError {
    DecisionError::Body(what.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_is_lists_by_name() {
        let value = form(b"a=1&b=x+y%21&a=2&c").unwrap();
        assert_eq!(value, Value::from_json_str(r#"{"a": ["1", "2"], "b": ["x y!"], "c": [""]}"#).unwrap());
        for refused in ["a=%zz", "a;b=1", "%=1"] {
            assert!(form(refused.as_bytes()).is_err(), "{refused}");
        }
        let pairs = |count| vec!["a"; count].join("&");
        assert!(form(pairs(body::VALUES_MAX).as_bytes()).is_ok());
        assert!(form(pairs(body::VALUES_MAX + 1).as_bytes()).is_err());
    }
}
