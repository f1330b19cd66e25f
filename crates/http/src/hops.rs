//! Which addresses `X-Forwarded-For` and `Forwarded` (RFC 7239) name: what proxies before us say about theirs.
//!
//! Hides how both are spelled. Never decides who is believed: it gives the addresses, the nearest first, and the caller stops
//! where its trust ends. What could be read in two ways is an error and no address.

use std::net::{IpAddr, Ipv6Addr};

use smallvec::SmallVec;
use thiserror::Error;

use crate::request::RequestHead;
use crate::token::{is_token, is_token_byte, trim_ows};

/// The field that proxies name the addresses of their peers in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HopField {
    /// `X-Forwarded-For`: a list of addresses, with or without ports.
    XForwardedFor,
    /// `Forwarded` of RFC 7239: `for` of each element.
    Forwarded,
}

/// Why a field names no addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum BadHops {
    /// A list that is longer than any chain of proxies.
    #[error("it has more than {HOPS_MAX} elements")]
    TooMany,
    /// RFC 7239 §4: what is no `forwarded-element`.
    #[error("an element is malformed, or has `for` twice")]
    Malformed,
    /// A node that is no IP address: `unknown`, a name, or nonsense.
    #[error("a node that counts is not an IP address")]
    NoAddress,
}

/// The nodes of a request's field, the farthest first.
#[derive(Debug)]
pub struct Hops<'h> {
    /// Empty for an element without `for`.
    nodes: SmallVec<[&'h [u8]; 8]>,
}

impl HopField {
    /// Its name in lower case.
    pub fn name(self) -> &'static str {
        match self {
            HopField::XForwardedFor => "x-forwarded-for",
            HopField::Forwarded => "forwarded",
        }
    }
}

impl<'h> Hops<'h> {
    /// Finds the nodes in all lines of the field. Of `Forwarded`, every element has to be well-formed, as one that is not may have
    /// swallowed those behind it; in `X-Forwarded-For`, an element is what lies between two commas.
    ///
    /// # Errors
    /// [`BadHops::TooMany`] and [`BadHops::Malformed`].
    pub fn of(head: &'h RequestHead, field: HopField) -> Result<Hops<'h>, BadHops> {
        let mut hops = Hops { nodes: SmallVec::new() };
        let named = |name: &str| name.eq_ignore_ascii_case(field.name());
        for line in head.fields().filter(|line| named(line.name)) {
            match field {
                HopField::XForwardedFor => {
                    // RFC 9110 §5.6.1: empty elements do not count.
                    let nodes = line.value.split(|byte| *byte == b',').map(trim_ows);
                    nodes.filter(|node| !node.is_empty()).try_for_each(|node| hops.push(node))?;
                }
                HopField::Forwarded => hops.push_elements(line.value)?,
            }
        }
        Ok(hops)
    }

    /// How many nodes there are.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether the request has no such field, or an empty one.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// The addresses, the nearest first: the last of the list is what the last proxy has said about its peer.
    pub fn nearest_first(&self) -> impl Iterator<Item = Result<IpAddr, BadHops>> {
        self.nodes.iter().rev().map(|node| address(node).ok_or(BadHops::NoAddress))
    }

    fn push(&mut self, node: &'h [u8]) -> Result<(), BadHops> {
        if self.nodes.len() == HOPS_MAX {
            return Err(BadHops::TooMany);
        }
        self.nodes.push(node);
        Ok(())
    }

    /// RFC 7239 §4: `1#forwarded-element`.
    fn push_elements(&mut self, mut rest: &'h [u8]) -> Result<(), BadHops> {
        loop {
            let mut node = None;
            let mut pairs = 0;
            let end = loop {
                rest = trim_ows(rest);
                if !matches!(rest.first(), None | Some(b',' | b';')) {
                    let (name, value, behind) = pair(rest).ok_or(BadHops::Malformed)?;
                    if name.eq_ignore_ascii_case(b"for") && node.replace(value).is_some() {
                        return Err(BadHops::Malformed);
                    }
                    rest = trim_ows(behind);
                    pairs += 1;
                }
                match rest.split_first() {
                    Some((b';', behind)) => rest = behind,
                    end => break end,
                }
            };
            if pairs > 0 {
                self.push(node.unwrap_or_default())?;
            }
            match end {
                None => return Ok(()),
                Some((b',', behind)) => rest = behind,
                Some(_) => return Err(BadHops::Malformed),
            }
        }
    }
}

/// RFC 7239 §4: `forwarded-pair`; its name, its value without quotes, and what follows.
fn pair(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let (name, rest) = bytes.split_at(bytes.iter().position(|byte| *byte == b'=')?);
    let rest = &rest[1..];
    if !is_token(name) {
        return None;
    }
    if let Some(quoted) = rest.strip_prefix(b"\"") {
        let mut escaped = false;
        let end = quoted.iter().position(|byte| {
            let ends = *byte == b'"' && !escaped;
            escaped = *byte == b'\\' && !escaped;
            ends
        })?;
        // With its escapes, as no address has any.
        return Some((name, &quoted[..end], &quoted[end + 1..]));
    }
    let end = rest.iter().position(|byte| !is_token_byte(*byte)).unwrap_or(rest.len());
    let (value, rest) = rest.split_at(end);
    (!value.is_empty()).then_some((name, value, rest))
}

/// The address of a node, with or without a port: `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]:80`. What follows an
/// IPv6 address without brackets is no port.
fn address(node: &[u8]) -> Option<IpAddr> {
    let node = std::str::from_utf8(node).ok()?;
    if let Some(rest) = node.strip_prefix('[') {
        let (address, port) = rest.split_once(']')?;
        let is_whole = port.is_empty() || port.strip_prefix(':').is_some_and(is_port);
        let address: Ipv6Addr = address.parse().ok()?;
        return is_whole.then(|| IpAddr::from(address).to_canonical());
    }
    if let Some((address, port)) = node.split_once(':')
        && !port.contains(':')
    {
        let address: std::net::Ipv4Addr = address.parse().ok()?;
        return is_port(port).then(|| address.into());
    }
    node.parse::<IpAddr>().ok().map(|address| address.to_canonical())
}

fn is_port(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u16>().is_ok()
}

/// More than any chain of proxies has.
const HOPS_MAX: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::HeadLimits;

    fn head(lines: &str) -> RequestHead {
        let mut head = RequestHead::new();
        let text = format!("GET / HTTP/1.1\r\nhost: a\r\n{lines}\r\n");
        let limits = HeadLimits { head_bytes_max: 1 << 16, fields_max: 100 };
        assert_eq!(head.parse(text.as_bytes(), &limits), Ok(Some(text.len())));
        head
    }

    /// The addresses as text, the nearest first, up to the first that is none.
    fn read(lines: &str, field: HopField) -> Result<Vec<String>, BadHops> {
        let head = head(lines);
        let hops = Hops::of(&head, field)?;
        hops.nearest_first().map(|hop| hop.map(|address| address.to_string())).collect()
    }

    #[test]
    fn x_forwarded_for_is_read_from_its_end() {
        let table = [
            ("", &[][..]),
            ("X-Forwarded-For:\r\n", &[]),
            ("X-Forwarded-For: ,, \r\n", &[]),
            ("X-Forwarded-For: 192.0.2.1\r\n", &["192.0.2.1"]),
            ("x-forwarded-for: 192.0.2.1 ,192.0.2.2\r\n", &["192.0.2.2", "192.0.2.1"]),
            (
                "X-Forwarded-For: 192.0.2.1\r\nX: y\r\nX-FORWARDED-FOR: 192.0.2.2\r\n",
                &["192.0.2.2", "192.0.2.1"],
            ),
            ("x_forwarded_for: 192.0.2.1\r\nForwarded: for=192.0.2.2\r\n", &[]),
            (
                "X-Forwarded-For: [2001:db8::1]:443, 2001:DB8::2, [2001:db8::3], 192.0.2.4:65535, ::ffff:192.0.2.5\r\n",
                &["192.0.2.5", "192.0.2.4", "2001:db8::3", "2001:db8::2", "2001:db8::1"],
            ),
        ];
        for (lines, expected) in table {
            let expected: Vec<String> = expected.iter().map(ToString::to_string).collect();
            assert_eq!(read(lines, HopField::XForwardedFor), Ok(expected), "{lines:?}");
        }
    }

    #[test]
    fn forwarded_is_read_from_its_end() {
        let table = [
            ("", &[][..]),
            ("Forwarded: , ,\r\n", &[]),
            ("Forwarded: for=192.0.2.1\r\n", &["192.0.2.1"]),
            ("Forwarded: For=\"192.0.2.1:80\";Proto=http;by=_x\r\n", &["192.0.2.1"]),
            (
                "Forwarded: host=\"a, for=192.0.2.9; \\\" \"; for=192.0.2.1 , proto=https;for=\"[2001:db8::1]:1\"\r\n",
                &["2001:db8::1", "192.0.2.1"],
            ),
            ("Forwarded: for=192.0.2.1\r\nForwarded: for=192.0.2.2;\r\n", &["192.0.2.2", "192.0.2.1"]),
            ("X-Forwarded-For: 192.0.2.1\r\n", &[]),
        ];
        for (lines, expected) in table {
            let expected: Vec<String> = expected.iter().map(ToString::to_string).collect();
            assert_eq!(read(lines, HopField::Forwarded), Ok(expected), "{lines:?}");
        }
    }

    #[test]
    fn what_can_be_read_in_two_ways_is_no_address() {
        for node in [
            "unknown",
            "_hidden",
            "a.example",
            "192.0.2",
            "192.0.2.1:",
            "192.0.2.1:x",
            "192.0.2.1:+1",
            "192.0.2.1:65536",
            "192.0.2.01",
            "0xc0000201",
            "3221225985",
            "fe80::1%eth0",
            "[192.0.2.1]",
            "[2001:db8::1",
            "2001:db8::1]",
            "[2001:db8::1]443",
            "[2001:db8::1]:",
            "192.0.2.1 192.0.2.2",
            "\"192.0.2.1\"",
            "for=192.0.2.1",
            "\u{e9}",
        ] {
            let lines = format!("X-Forwarded-For: {node}\r\n");
            assert_eq!(read(&lines, HopField::XForwardedFor), Err(BadHops::NoAddress), "{node:?}");
        }
        for element in ["for=unknown", "for=_hidden", "for=\"192\\.0.2.1\"", "proto=https", "for=\"\""] {
            let lines = format!("Forwarded: {element}\r\n");
            assert_eq!(read(&lines, HopField::Forwarded), Err(BadHops::NoAddress), "{element:?}");
        }
        for element in [
            "for",
            "for=",
            "=192.0.2.1",
            "for =192.0.2.1",
            "for= 192.0.2.1",
            "for=192.0.2.1;for=192.0.2.1",
            "for=192.0.2.1;FOR=192.0.2.2",
            "for=[2001:db8::1]",
            "for=192.0.2.1:80",
            "for=\"192.0.2.1",
            "for=\"192.0.2.1\\\"",
            "for=192.0.2.1 proto=https",
            "\"for\"=192.0.2.1",
            "for=\"192.0.2.1\"x",
            "192.0.2.1",
        ] {
            let lines = format!("Forwarded: {element}\r\n");
            assert_eq!(read(&lines, HopField::Forwarded), Err(BadHops::Malformed), "{element:?}");
            // Nor does it hide one before it or behind it.
            let lines = format!("Forwarded: {element}\r\nForwarded: for=192.0.2.1\r\n");
            assert_eq!(read(&lines, HopField::Forwarded), Err(BadHops::Malformed), "{element:?}");
        }
    }

    /// What is left of the client is its own word, and is not looked at.
    #[test]
    fn what_the_client_has_written_itself_does_not_matter() {
        let head = head("X-Forwarded-For: nonsense, 192.0.2.1\r\n");
        let hops = Hops::of(&head, HopField::XForwardedFor).unwrap();
        assert_eq!(hops.nearest_first().next(), Some(Ok([192, 0, 2, 1].into())));
        assert_eq!(hops.len(), 2);
    }

    #[test]
    fn a_list_without_end_is_refused() {
        let list = |count| format!("X-Forwarded-For: {}\r\n", vec!["192.0.2.1"; count].join(","));
        assert_eq!(read(&list(HOPS_MAX), HopField::XForwardedFor).map(|hops| hops.len()), Ok(HOPS_MAX));
        assert_eq!(read(&list(HOPS_MAX + 1), HopField::XForwardedFor), Err(BadHops::TooMany));
        let list = |count| format!("Forwarded: {}\r\n", vec!["for=192.0.2.1"; count].join(","));
        assert_eq!(read(&list(HOPS_MAX), HopField::Forwarded).map(|hops| hops.len()), Ok(HOPS_MAX));
        assert_eq!(read(&list(HOPS_MAX + 1), HopField::Forwarded), Err(BadHops::TooMany));
    }
}
