//! Host names, and the one table that matches them, for SNI and for the `Host` field alike.
//!
//! Hides normalisation: letter case, a trailing dot, a port, the spellings of an IPv6 address. If two places of a proxy
//! disagree on whether two names are the same, a lax virtual host opens a strict one; so nothing else may compare
//! them. Never resolves a name and never allocates in a lookup.
//!
//! A host name is 1 to 253 characters in labels of 1 to 63 letters, digits, `-` and `_`, without `-` at a label's ends
//! (RFC 952, RFC 1123 §2.1). `_` is no host name character there, but is common in private zones, and TLS libraries
//! take it. The last label is not all digits, or the name could be read as an IPv4 address (RFC 3696 §2). Names that
//! are not ASCII are written as A-labels (`xn--`), the only form that reaches us in SNI (RFC 6066 §3).
//! IP addresses are names too, for `Host` fields; they come in one canonical spelling, IPv6 in brackets.

use std::collections::HashMap;
use std::fmt;
use std::io::Write;
use std::net::{Ipv4Addr, Ipv6Addr};

/// A host name in the one form in which names are compared: lower case, no trailing dot, no port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostName(String);

impl HostName {
    /// Reads a name of any letter case, with or without a trailing dot; an IPv6 address with or without brackets.
    ///
    /// # Errors
    /// [`HostNameError`] says which rule is broken.
    pub fn parse(text: &str) -> Result<Self, HostNameError> {
        let fault = |kind| HostNameError { text: text.to_owned(), kind };
        if let Some(address) = ipv6_literal(text) {
            return Ok(Self(format!("[{address}]")));
        }
        let bare = text.strip_suffix('.').unwrap_or(text);
        if let Ok(address) = bare.parse::<Ipv4Addr>() {
            return Ok(Self(address.to_string()));
        }
        check_name(bare).map_err(fault)?;
        Ok(Self(bare.to_ascii_lowercase()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this is an IP address, which no client sends as SNI.
    pub fn is_ip_address(&self) -> bool {
        self.0.starts_with('[') || self.0.parse::<Ipv4Addr>().is_ok()
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a virtual host answers to: one name, or all names one label below a suffix.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HostPattern {
    /// This name only.
    Exact(HostName),
    /// `*.suffix`: any name with exactly one label in front of the suffix (RFC 9525 §6.3), so not the suffix itself.
    Wildcard(HostName),
}

impl HostPattern {
    /// Reads a name, or a name with `*.` in front. `*` anywhere else is refused, `*` alone too: which clients a virtual
    /// host is for has to be written down, and `default_host` says who answers the others.
    ///
    /// # Errors
    /// [`HostNameError`] says which rule is broken.
    pub fn parse(text: &str) -> Result<Self, HostNameError> {
        let fault = |kind| HostNameError { text: text.to_owned(), kind };
        match text.strip_prefix("*.") {
            _ if text == "*" || text == "*." => Err(fault(HostNameFault::WildcardAlone)),
            Some(suffix) if suffix.contains('*') => Err(fault(HostNameFault::Wildcard)),
            Some(suffix) => {
                let suffix = HostName::parse(suffix).map_err(|error| fault(error.kind))?;
                if suffix.is_ip_address() {
                    return Err(fault(HostNameFault::WildcardAddress));
                }
                // The label that `*` stands for takes at least two characters with its dot.
                if suffix.as_str().len() + 2 > NAME_BYTES_MAX {
                    return Err(fault(HostNameFault::TooLong));
                }
                Ok(Self::Wildcard(suffix))
            }
            None if text.contains('*') => Err(fault(HostNameFault::Wildcard)),
            None => HostName::parse(text).map(Self::Exact),
        }
    }

    /// Whether `name` is matched; the rules are those of [`HostTable::lookup`].
    pub fn matches(&self, name: &str) -> bool {
        let mut buffer = [0; NAME_BYTES_MAX];
        let Some(name) = normalise(name, &mut buffer) else { return false };
        match self {
            Self::Exact(exact) => exact.as_str() == name,
            Self::Wildcard(suffix) => parent(name) == Some(suffix.as_str()),
        }
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => name.fmt(f),
            Self::Wildcard(suffix) => write!(f, "*.{suffix}"),
        }
    }
}

/// A value for each host pattern, found by name: an exact pattern before a wildcard.
#[derive(Clone, Debug)]
pub struct HostTable<T> {
    exact: HashMap<Box<str>, T>,
    /// By suffix.
    wildcard: HashMap<Box<str>, T>,
}

impl<T> HostTable<T> {
    /// An empty table.
    pub fn new() -> Self {
        Self { exact: HashMap::new(), wildcard: HashMap::new() }
    }

    /// Adds a pattern.
    ///
    /// # Errors
    /// Gives the value back if the table has this pattern already, and keeps the old one.
    pub fn insert(&mut self, pattern: &HostPattern, value: T) -> Result<(), T> {
        let (map, name) = match pattern {
            HostPattern::Exact(name) => (&mut self.exact, name),
            HostPattern::Wildcard(suffix) => (&mut self.wildcard, suffix),
        };
        if map.contains_key(name.as_str()) {
            return Err(value);
        }
        map.insert(name.as_str().into(), value);
        Ok(())
    }

    /// The value for a name as a peer sent it: any letter case, with or without trailing dot and port. What is not a
    /// host name matches nothing.
    pub fn lookup(&self, name: &str) -> Option<&T> {
        // The names in the table are normal, so one that is there needs no more to be found; it is what most peers send.
        if let Some(value) = self.exact.get(name) {
            return Some(value);
        }
        let mut buffer = [0; NAME_BYTES_MAX];
        let name = normalise(name, &mut buffer)?;
        if let Some(value) = self.exact.get(name) {
            return Some(value);
        }
        if self.wildcard.is_empty() {
            return None;
        }
        self.wildcard.get(parent(name)?)
    }

    /// All values, in no particular order, each as often as it has patterns.
    pub fn values(&self) -> impl Iterator<Item = &T> {
        self.exact.values().chain(self.wildcard.values())
    }
}

impl<T> Default for HostTable<T> {
    fn default() -> Self {
        Self::new()
    }
}

/// Why a text is not a host name or pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a host name: {kind}")]
pub struct HostNameError {
    text: String,
    kind: HostNameFault,
}

impl HostNameError {
    /// What to do about it, if that is more than the message says.
    pub fn help(&self) -> Option<&'static str> {
        match self.kind {
            HostNameFault::NotAscii => {
                Some("write the punycode form of the name, which begins with \"xn--\"")
            }
            HostNameFault::WildcardAlone => Some(
                "name the hosts; default_host of the listener says who answers clients that ask for another one",
            ),
            HostNameFault::Wildcard => {
                Some("\"*.example.com\" stands for every name one label below example.com")
            }
            HostNameFault::Url => Some("write the name alone, without scheme, port and path"),
            _ => None,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
enum HostNameFault {
    #[error("it is empty")]
    Empty,
    #[error("it is longer than 253 characters")]
    TooLong,
    #[error("a label is empty")]
    EmptyLabel,
    #[error("a label is longer than 63 characters")]
    LongLabel,
    #[error("a label begins or ends with '-'")]
    Hyphen,
    #[error("it has other characters than letters, digits, '-', '_' and '.'")]
    Character,
    #[error("it has characters that are not ASCII")]
    NotAscii,
    #[error("its last label is a number, but it is no IPv4 address")]
    NumberLast,
    #[error("'*' may only stand for the whole first label")]
    Wildcard,
    #[error("'*' alone would take every name")]
    WildcardAlone,
    #[error("'*.' in front of an IP address means nothing")]
    WildcardAddress,
    #[error("it looks like a URL or has a port")]
    Url,
}

fn check_name(name: &str) -> Result<(), HostNameFault> {
    if name.is_empty() {
        return Err(HostNameFault::Empty);
    }
    if !name.is_ascii() {
        return Err(HostNameFault::NotAscii);
    }
    if name.contains([':', '/', '@']) {
        return Err(HostNameFault::Url);
    }
    if !name.bytes().all(is_name_byte) {
        return Err(HostNameFault::Character);
    }
    if name.len() > NAME_BYTES_MAX {
        return Err(HostNameFault::TooLong);
    }
    for label in name.split('.') {
        match label.len() {
            0 => return Err(HostNameFault::EmptyLabel),
            1..=63 => {}
            _ => return Err(HostNameFault::LongLabel),
        }
        if label.starts_with('-') || label.ends_with('-') {
            return Err(HostNameFault::Hyphen);
        }
    }
    let last = name.rsplit('.').next().unwrap_or(name);
    if last.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(HostNameFault::NumberLast);
    }
    Ok(())
}

/// The name in the form of [`HostName`], if it can be one at all. Shape is checked no further than safety needs: a name
/// that breaks the finer rules is in no table.
fn normalise<'b>(name: &str, buffer: &'b mut [u8; NAME_BYTES_MAX]) -> Option<&'b str> {
    if name.starts_with('[') {
        let end = name.find(']')?;
        let after = &name[end + 1..];
        let port_follows = after.is_empty() || strip_port(after).is_some_and(str::is_empty);
        let address = ipv6_literal(&name[..=end]).filter(|_| port_follows)?;
        let mut rest = &mut buffer[..];
        write!(rest, "[{address}]").ok()?;
        let unused = rest.len();
        return std::str::from_utf8(&buffer[..NAME_BYTES_MAX - unused]).ok();
    }
    let name = strip_port(name).unwrap_or(name);
    let name = name.strip_suffix('.').unwrap_or(name);
    let normal = buffer.get_mut(..name.len())?;
    for (to, from) in normal.iter_mut().zip(name.bytes()) {
        if !is_name_byte(from) {
            return None;
        }
        *to = from.to_ascii_lowercase();
    }
    std::str::from_utf8(normal).ok().filter(|name| !name.is_empty())
}

/// What stands before `:port`, if a port stands there.
fn strip_port(authority: &str) -> Option<&str> {
    let (host, port) = authority.rsplit_once(':')?;
    let is_port = (1..=5).contains(&port.len()) && port.bytes().all(|byte| byte.is_ascii_digit());
    is_port.then_some(host)
}

/// The name without its first label.
fn parent(name: &str) -> Option<&str> {
    let (label, parent) = name.split_once('.')?;
    (!label.is_empty()).then_some(parent)
}

fn ipv6_literal(text: &str) -> Option<Ipv6Addr> {
    let inner = text.strip_prefix('[').map_or(Some(text), |rest| rest.strip_suffix(']'))?;
    inner.parse().ok()
}

fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.')
}

/// RFC 1035 §2.3.4 allows 255 octets on the wire, which are 253 characters without the trailing dot.
const NAME_BYTES_MAX: usize = 253;

#[cfg(test)]
mod tests;
