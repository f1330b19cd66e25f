//! What a route may ask of a request besides path and method: header fields, query, the identity of the client.
//!
//! Hides how values are compared. A condition on a name that stands several times in a request is met only if each of its values
//! meets it, so that nobody is routed by one value and understood by another. Nothing here allocates while it matches.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::fmt;

use ringward_identity::{IdentityCondition, PeerIdentity};

use crate::regex::BoundedRegex;

/// What conditions look at.
pub trait RequestFacts {
    /// Calls `each` with the value of every field of this name, which is in lower case.
    fn header(&self, name: &str, each: &mut dyn FnMut(&[u8]));
    /// The query as received, without `?`.
    fn query(&self) -> Option<&str>;
    /// The client, if it is verified.
    fn identity(&self) -> Option<&PeerIdentity>;
}

/// The conditions of a route, all of which have to be met.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Conditions {
    /// By name of the field, in lower case.
    pub headers: BTreeMap<Box<str>, TextCondition>,
    /// By name of the parameter, decoded.
    pub query: BTreeMap<Box<str>, TextCondition>,
    /// The client's tenant.
    pub tenant: Option<Box<str>>,
    /// What else the client's certificate has to say.
    pub identity: Vec<IdentityCondition>,
}

/// What the values of one name have to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TextCondition {
    /// There, and this text.
    Exact(Box<str>),
    /// There, and beginning with this text.
    Prefix(Box<str>),
    /// There, and matched whole.
    Regex(BoundedRegex),
    /// There, whatever it is, or not there.
    Present(bool),
}

impl Conditions {
    /// How many there are: of two routes that could take a request, the one with more comes first.
    pub fn len(&self) -> usize {
        self.headers.len() + self.query.len() + usize::from(self.tenant.is_some()) + self.identity.len()
    }

    /// Whether there is none, so that every request meets them.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether some of them are about the client's identity.
    pub fn ask_for_identity(&self) -> bool {
        self.tenant.is_some() || !self.identity.is_empty()
    }

    /// Whether a request meets all of them.
    pub fn are_met_by(&self, request: &impl RequestFacts) -> bool {
        self.headers.iter().all(|(name, condition)| {
            let mut values = Values::new(condition);
            request.header(name, &mut |value| values.see(value.iter().copied()));
            values.are_good()
        }) && self.query.iter().all(|(name, condition)| {
            let mut values = Values::new(condition);
            for (key, value) in request.query().into_iter().flat_map(pairs) {
                if decoded(key).eq(name.bytes()) {
                    values.see(decoded(value));
                }
            }
            values.are_good()
        }) && self.are_met_by_client(request.identity())
    }

    /// Whether a client meets those that are about it.
    pub fn are_met_by_client(&self, peer: Option<&PeerIdentity>) -> bool {
        if !self.ask_for_identity() {
            return true;
        }
        // Nobody meets no condition.
        let Some(peer) = peer else { return false };
        self.tenant.as_deref().is_none_or(|tenant| peer.tenant() == Some(tenant))
            && self.identity.iter().all(|condition| condition.is_met_by(peer))
    }

    /// Whether every request that meets these meets `others` as well. May say no where that could not be found out.
    pub(crate) fn imply(&self, others: &Self) -> bool {
        let texts = |ours: &BTreeMap<Box<str>, TextCondition>, theirs: &BTreeMap<Box<str>, TextCondition>| {
            theirs.iter().all(|(name, other)| ours.get(name).is_some_and(|own| own.implies(other)))
        };
        texts(&self.headers, &others.headers)
            && texts(&self.query, &others.query)
            && (others.tenant.is_none() || self.tenant == others.tenant)
            && others.identity.iter().all(|other| self.identity.contains(other))
    }

    /// Whether no request meets both. May say no where that could not be found out.
    pub(crate) fn exclude(&self, others: &Self) -> bool {
        let texts = |ours: &BTreeMap<Box<str>, TextCondition>, theirs: &BTreeMap<Box<str>, TextCondition>| {
            theirs.iter().any(|(name, other)| ours.get(name).is_some_and(|own| own.excludes(other)))
        };
        texts(&self.headers, &others.headers)
            || texts(&self.query, &others.query)
            || (self.tenant.is_some() && others.tenant.is_some() && self.tenant != others.tenant)
            || self.identity.iter().any(|own| others.identity.iter().any(|other| own.excludes(other)))
    }
}

impl TextCondition {
    fn is_met_by(&self, value: impl Iterator<Item = u8>) -> bool {
        match self {
            Self::Exact(text) => value.eq(text.bytes()),
            Self::Prefix(text) => {
                let mut value = value;
                text.bytes().all(|byte| value.next() == Some(byte))
            }
            Self::Regex(regex) => regex.is_match(value),
            Self::Present(present) => *present,
        }
    }

    fn implies(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Present(false), Self::Present(true)) => false,
            (Self::Exact(_) | Self::Prefix(_) | Self::Regex(_), Self::Present(true)) => true,
            (Self::Exact(text), other) => other.is_met_by(text.bytes()),
            (Self::Prefix(text), Self::Prefix(other)) => text.starts_with(other.borrow() as &str),
            (own, other) => own == other,
        }
    }

    fn excludes(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Present(a), Self::Present(b)) => a != b,
            (Self::Present(present), _) | (_, Self::Present(present)) => !present,
            (Self::Exact(text), other) | (other, Self::Exact(text)) => !other.is_met_by(text.bytes()),
            (Self::Prefix(a), Self::Prefix(b)) => {
                !a.starts_with(b.borrow() as &str) && !b.starts_with(a.borrow() as &str)
            }
            _ => false,
        }
    }
}

/// The values of one name, as they come by.
struct Values<'c> {
    condition: &'c TextCondition,
    seen: bool,
    refused: bool,
}

impl<'c> Values<'c> {
    fn new(condition: &'c TextCondition) -> Self {
        Self { condition, seen: false, refused: false }
    }

    fn see(&mut self, value: impl Iterator<Item = u8>) {
        self.seen = true;
        self.refused |= !self.condition.is_met_by(value);
    }

    fn are_good(&self) -> bool {
        !self.refused && (self.seen || *self.condition == TextCondition::Present(false))
    }
}

/// Names and values of a query, still encoded; taken apart as for policies.
fn pairs(query: &str) -> impl Iterator<Item = (&str, &str)> {
    query.split('&').filter(|pair| !pair.is_empty()).map(|pair| pair.split_once('=').unwrap_or((pair, "")))
}

/// The bytes that a name or value of a query stands for, as policies see them: `+` is a blank, and what is no valid escape stays as
/// it is.
fn decoded(encoded: &str) -> impl Iterator<Item = u8> {
    let mut rest = encoded.as_bytes();
    std::iter::from_fn(move || {
        let (&first, after) = rest.split_first()?;
        rest = after;
        let digit = |byte: u8| char::from(byte).to_digit(16);
        match (first, after) {
            (b'%', [high, low, after @ ..]) if digit(*high).is_some() && digit(*low).is_some() => {
                rest = after;
                let value = digit(*high).zip(digit(*low)).map_or(0, |(high, low)| high * 16 + low);
                Some(u8::try_from(value).unwrap_or(u8::MAX))
            }
            (b'+', _) => Some(b' '),
            (byte, _) => Some(byte),
        }
    })
}

impl fmt::Display for TextCondition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(text) => write!(f, "is {text:?}"),
            Self::Prefix(text) => write!(f, "begins with {text:?}"),
            Self::Regex(regex) => write!(f, "matches {:?}", regex.as_str()),
            Self::Present(true) => f.write_str("is there"),
            Self::Present(false) => f.write_str("is not there"),
        }
    }
}

impl fmt::Display for Conditions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut before = "";
        let mut and = |f: &mut fmt::Formatter<'_>| f.write_str(std::mem::replace(&mut before, " and "));
        for (name, condition) in &self.headers {
            and(f)?;
            write!(f, "header {name} {condition}")?;
        }
        for (name, condition) in &self.query {
            and(f)?;
            write!(f, "query {name} {condition}")?;
        }
        if let Some(tenant) = &self.tenant {
            and(f)?;
            write!(f, "tenant = {tenant:?}")?;
        }
        for condition in &self.identity {
            and(f)?;
            write!(f, "{condition}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
