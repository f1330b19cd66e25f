//! The shapes of the input: for which gateway's document a policy is written, and where these documents differ.

use std::fmt;
use std::str::FromStr;

use regorus::Value;

use crate::decision::{Decision, DecisionError};
use crate::input::schema::{self, Field};
use crate::input::{envoy, kong};

/// The shape of a policy's input, and with it of the policy's result.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum InputShape {
    /// Ringward's own: every field is always there.
    #[default]
    Native,
    /// What OPA's Envoy plugin gives to policies, for version 3 of Envoy's interface.
    EnvoyV3,
    /// What Kong's OPA plugin gives to policies.
    Kong,
}

impl InputShape {
    /// Every shape.
    pub const ALL: [Self; 3] = [Self::Native, Self::EnvoyV3, Self::Kong];

    /// As `input` in `[policy.NAME]` and `--input` of `ringward policy` call it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::EnvoyV3 => "envoy-v3",
            Self::Kong => "kong",
        }
    }

    /// The fields of `input`.
    pub(crate) fn fields(self) -> &'static [Field] {
        match self {
            Self::Native => schema::INPUT,
            Self::EnvoyV3 => envoy::FIELDS,
            Self::Kong => kong::FIELDS,
        }
    }

    /// Where the header fields are.
    pub(crate) fn headers(self) -> &'static [&'static str] {
        match self {
            Self::Native => &["request", "headers"],
            Self::EnvoyV3 => &["attributes", "request", "http", "headers"],
            Self::Kong => &["request", "http", "headers"],
        }
    }

    /// What follows from the body of a request.
    pub(crate) fn body(self) -> &'static [&'static [&'static str]] {
        match self {
            Self::Native => &[&["request", "body"]],
            Self::EnvoyV3 => envoy::BODY,
            Self::Kong => kong::BODY,
        }
    }

    /// Where there is JSON that a client sent.
    pub(crate) fn json(self) -> &'static [&'static [&'static str]] {
        match self {
            Self::Native => &[&["request", "body", "json"]],
            Self::EnvoyV3 => &[&["parsed_body"]],
            Self::Kong => &[&["request", "http", "parsed_body"]],
        }
    }

    /// Reads the value of the deciding rule.
    pub(crate) fn decision(self, value: &Value) -> Result<Decision, DecisionError> {
        match self {
            Self::Native => Decision::from_value(value),
            Self::EnvoyV3 => envoy::decision(value),
            Self::Kong => kong::decision(value),
        }
    }

    /// What to write for a path that belongs to another shape, or that this one's gateway has and Ringward has not.
    pub(crate) fn elsewhere(self, path: &str) -> Option<String> {
        let find = |table: &[(&str, &str)]| {
            table.iter().find(|(other, _)| *other == path).map(|(_, instead)| (*instead).to_owned())
        };
        match self {
            Self::Native => find(ELSEWHERE).map(|ours| {
                format!(
                    "other gateways have it; here it is `{ours}`, or choose their input (`envoy-v3`, `kong`)"
                )
            }),
            Self::EnvoyV3 => find(envoy::ELSEWHERE),
            Self::Kong => find(kong::ELSEWHERE),
        }
    }
}

/// Names that policies for OPA-Envoy, Kong and APISIX begin with, and where the native input has the same.
const ELSEWHERE: &[(&str, &str)] = &[
    ("attributes", "input.request, input.connection"),
    ("consumer", "input.client"),
    ("parsed_path", "input.request.segments"),
    ("parsed_query", "input.request.query"),
    ("service", "input.route.upstream"),
    ("source_principal", "input.client.spiffe_id"),
    ("var", "input.connection, input.time"),
];

impl fmt::Display for InputShape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// No shape has this name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no such shape of the input; there are native, envoy-v3 and kong")]
pub struct UnknownShape;

impl FromStr for InputShape {
    type Err = UnknownShape;

    fn from_str(name: &str) -> Result<Self, UnknownShape> {
        Self::ALL.into_iter().find(|shape| shape.name() == name).ok_or(UnknownShape)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_are_found_by_their_names() {
        for shape in InputShape::ALL {
            assert_eq!(shape.name().parse(), Ok(shape));
        }
        assert_eq!("envoy".parse::<InputShape>(), Err(UnknownShape));
    }
}
