//! `net.cidr_*` as OPA has them, which is as Go's `net.ParseCIDR` and `IPNet.Contains` have them.
//!
//! An IPv4 address mapped into IPv6 (`::ffff:10.1.2.3`) is the IPv4 address; regorus takes it for another one, so that a
//! client could leave a network by the way its address is written.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use regorus::Value;

use crate::builtins::{CallError, Function, text};

/// Most pairs that `net.cidr_contains_matches` compares.
const PAIRS_MAX: usize = 100_000;

type Call = fn(&[Value]) -> Result<Value, CallError>;

pub(crate) fn functions() -> Vec<Function> {
    let calls: [(&str, Call); 4] = [
        ("net.cidr_contains", contains),
        ("net.cidr_contains_matches", contains_matches),
        ("net.cidr_intersects", intersects),
        ("net.cidr_is_valid", is_valid),
    ];
    let function = |(name, call): (&'static str, Call)| -> Function {
        (name, Box::new(move |args| call(&args).map_err(Into::into)))
    };
    calls.into_iter().map(function).collect()
}

fn contains(args: &[Value]) -> Result<Value, CallError> {
    let name = "net.cidr_contains";
    let network = Network::parse(text(name, args, 0)?)?;
    Ok(Value::Bool(network.contains_text(text(name, args, 1)?)?))
}

fn intersects(args: &[Value]) -> Result<Value, CallError> {
    let name = "net.cidr_intersects";
    let (a, b) = (Network::parse(text(name, args, 0)?)?, Network::parse(text(name, args, 1)?)?);
    Ok(Value::Bool(a.contains(&b.first) || b.contains(&a.first)))
}

fn is_valid(args: &[Value]) -> Result<Value, CallError> {
    Ok(Value::Bool(matches!(&args[0], Value::String(text) if Network::parse(text).is_ok())))
}

/// The pairs of index or key of the network and of the address or network within it.
fn contains_matches(args: &[Value]) -> Result<Value, CallError> {
    let (networks, addresses) = (entries(&args[0])?, entries(&args[1])?);
    if networks.len().saturating_mul(addresses.len()) > PAIRS_MAX {
        return Err(CallError(format!(
            "`net.cidr_contains_matches` would compare more than {PAIRS_MAX} pairs"
        )));
    }
    let mut matches = Vec::new();
    for (network_key, network) in networks {
        let network = Network::parse(network)?;
        for (key, address) in &addresses {
            if network.contains_text(address)? {
                matches.push(Value::from(vec![network_key.clone(), key.clone()]));
            }
        }
    }
    Ok(Value::from(matches.into_iter().collect::<BTreeSet<_>>()))
}

/// The texts of an operand with what names them in the result: index or key, else themselves.
fn entries(operand: &Value) -> Result<Vec<(Value, &str)>, CallError> {
    match operand {
        Value::String(_) => Ok(vec![(operand.clone(), entry(operand)?)]),
        Value::Array(items) => {
            items.iter().enumerate().map(|(index, item)| Ok((Value::from(index), entry(item)?))).collect()
        }
        Value::Set(items) => items.iter().map(|item| Ok((item.clone(), entry(item)?))).collect(),
        Value::Object(fields) => fields.iter().map(|(key, value)| Ok((key.clone(), entry(value)?))).collect(),
        _ => Err(CallError::new("`net.cidr_contains_matches` expects texts or collections of them")),
    }
}

/// The text itself, or the first of a list that says more about it.
fn entry(value: &Value) -> Result<&str, CallError> {
    let value = match value {
        Value::Array(parts) => parts.first().unwrap_or(value),
        value => value,
    };
    match value {
        Value::String(text) => Ok(text),
        _ => Err(CallError::new("`net.cidr_contains_matches` expects texts, or lists that begin with one")),
    }
}

/// The addresses from `first` on that share its first `length` bits.
struct Network {
    /// Without the bits behind the prefix, and as IPv4 if it is of that family.
    first: IpAddr,
    length: u32,
}

impl Network {
    fn parse(cidr: &str) -> Result<Self, CallError> {
        let invalid = || CallError(format!("`{cidr}` is no network such as `192.0.2.0/24`"));
        let (address, digits) = cidr.split_once('/').ok_or_else(invalid)?;
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(invalid());
        }
        let length: u32 = digits.parse().map_err(|_| invalid())?;
        let (address, bits) = match address.parse().map_err(|_| invalid())? {
            IpAddr::V4(address) => (IpAddr::V4(address), 32),
            IpAddr::V6(address) => (IpAddr::V6(address), 128),
        };
        if length > bits {
            return Err(invalid());
        }
        Ok(Self::new(address, length))
    }

    fn new(address: IpAddr, length: u32) -> Self {
        let first = match address {
            IpAddr::V4(address) => {
                let mask = u32::MAX.checked_shl(32 - length).unwrap_or(0);
                IpAddr::V4(Ipv4Addr::from_bits(address.to_bits() & mask))
            }
            IpAddr::V6(address) => {
                let mask = u128::MAX.checked_shl(128 - length).unwrap_or(0);
                IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & mask))
            }
        };
        match first.to_canonical() {
            // Go compares as IPv4 what begins as a mapped address, with the last 32 bits of the mask.
            IpAddr::V4(first) if address.is_ipv6() => {
                Self { first: IpAddr::V4(first), length: length.saturating_sub(96) }
            }
            first => Self { first, length },
        }
    }

    fn contains(&self, address: &IpAddr) -> bool {
        match (self.first, address.to_canonical()) {
            (IpAddr::V4(first), IpAddr::V4(address)) => {
                let differing = first.to_bits() ^ address.to_bits();
                differing.checked_shr(32 - self.length).unwrap_or(0) == 0
            }
            (IpAddr::V6(first), IpAddr::V6(address)) => {
                let differing = first.to_bits() ^ address.to_bits();
                differing.checked_shr(128 - self.length).unwrap_or(0) == 0
            }
            _ => false,
        }
    }

    /// Whether it contains an address, or a network from its first address to its last.
    fn contains_text(&self, text: &str) -> Result<bool, CallError> {
        if let Ok(address) = text.parse() {
            return Ok(self.contains(&address));
        }
        let other = Self::parse(text)
            .map_err(|_| CallError(format!("`{text}` is neither an address nor a network")))?;
        Ok(self.contains(&other.first) && self.contains(&other.last()))
    }

    fn last(&self) -> IpAddr {
        match self.first {
            IpAddr::V4(first) => IpAddr::V4(Ipv4Addr::from_bits(
                first.to_bits() | u32::MAX.checked_shr(self.length).unwrap_or(0),
            )),
            IpAddr::V6(first) => IpAddr::V6(Ipv6Addr::from_bits(
                first.to_bits() | u128::MAX.checked_shr(self.length).unwrap_or(0),
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contains(network: &str, address: &str) -> Result<bool, CallError> {
        super::contains(&[Value::from(network), Value::from(address)]).map(|found| found == Value::Bool(true))
    }

    #[test]
    fn mapped_addresses_are_ipv4_addresses() {
        for (network, address, expected) in [
            ("10.0.0.0/8", "::ffff:10.1.2.3", true),
            ("10.0.0.0/8", "::ffff:11.1.2.3", false),
            ("::ffff:10.0.0.0/104", "10.1.2.3", true),
            ("::ffff:10.0.0.0/104", "::ffff:10.1.2.3", true),
            ("::ffff:0:0/96", "10.1.2.3", true),
            ("10.0.0.0/8", "::ffff:10.1.0.0/112", true),
            ("::/0", "10.1.2.3", false),
            ("0.0.0.0/0", "::1", false),
            ("0.0.0.0/0", "255.255.255.255", true),
            ("::/0", "2001:db8::1", true),
            ("10.1.2.3/32", "10.1.2.3", true),
            ("10.1.2.3/32", "10.1.2.2", false),
            ("10.1.2.3/8", "10.0.0.0/8", true),
            ("10.1.0.0/16", "10.0.0.0/8", false),
        ] {
            assert_eq!(contains(network, address), Ok(expected), "{network} {address}");
        }
    }

    #[test]
    fn what_is_no_address_is_an_error() {
        for network in
            ["", "10.0.0.0", "10.0.0.0/", "10.0.0.0/33", "10.0.0.0/+8", "::/129", "010.0.0.0/8", "x/8"]
        {
            assert!(contains(network, "10.0.0.1").is_err(), "{network}");
        }
        for address in ["", "x", "10.1", "010.0.0.1", "fe80::1%eth0", "10.0.0.1/33", " 10.0.0.1"] {
            assert!(contains("10.0.0.0/8", address).is_err(), "{address}");
        }
    }

    #[test]
    fn matches_are_bounded() {
        let many = |count: usize| Value::from(vec![Value::from("10.0.0.0/8"); count]);
        assert!(contains_matches(&[many(300), many(300)]).is_ok());
        assert!(contains_matches(&[many(400), many(400)]).is_err());
    }
}
