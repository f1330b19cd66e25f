//! The host and port that a request names, from `Host` or an absolute-form target (RFC 9110 §4.2, §7.2).
//!
//! Narrower than RFC 3986's `authority`: no user information, no percent-encoding, no sub-delimiters, no empty port.
//! Nothing that names a virtual host needs them, and software differs about what they mean.

use std::net::Ipv6Addr;

use crate::error::HostError;

/// An authority whose syntax is right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Authority<'a> {
    /// As received, without the trailing dot; brackets kept around an IPv6 address.
    pub(crate) host: &'a [u8],
    /// Digits without leading zero, 1 to 65535.
    pub(crate) port: Option<&'a [u8]>,
    /// The received bytes are already the normal form: lower-case, no trailing dot.
    pub(crate) normal: bool,
}

impl<'a> Authority<'a> {
    pub(crate) fn parse(received: &'a [u8]) -> Result<Authority<'a>, HostError> {
        let (host, port) = match received {
            [b'[', ..] => {
                let end = received.iter().position(|&byte| byte == b']').ok_or(HostError::Syntax)?;
                received.split_at(end + 1)
            }
            _ => received.split_at(received.iter().position(|&byte| byte == b':').unwrap_or(received.len())),
        };
        let port = match port {
            [] => None,
            [b':', digits @ ..] if is_port(digits) => Some(digits),
            _ => return Err(HostError::Syntax),
        };
        let normalised = host.strip_suffix(b".").unwrap_or(host);
        if !(is_name(normalised) || is_ipv6(host)) {
            return Err(HostError::Syntax);
        }
        let normal = normalised.len() == host.len() && !host.iter().any(u8::is_ascii_uppercase);
        Ok(Authority { host: normalised, port, normal })
    }

    /// Appends the normal form of host and port to `out`; returns the length of the host.
    pub(crate) fn write_normal(&self, out: &mut Vec<u8>) -> usize {
        out.extend(self.host.iter().map(u8::to_ascii_lowercase));
        if let Some(port) = self.port {
            out.push(b':');
            out.extend_from_slice(port);
        }
        self.host.len()
    }

    /// Whether both name the same host and port. An absent port does not equal a default one written out: upstreams
    /// tell them apart.
    pub(crate) fn same_as(&self, other: &Authority<'_>) -> bool {
        self.host.eq_ignore_ascii_case(other.host) && self.port == other.port
    }
}

/// A DNS name or IPv4 address: labels of letters, digits, `-` and `_` (which internal names use), RFC 1123 §2.1 lengths.
fn is_name(host: &[u8]) -> bool {
    let is_label_byte = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    let mut label_bytes = 0;
    for &byte in host {
        label_bytes = match byte {
            b'.' if label_bytes > 0 => 0,
            _ if is_label_byte(byte) && label_bytes < LABEL_BYTES_MAX => label_bytes + 1,
            _ => return false,
        };
    }
    label_bytes > 0 && host.len() <= NAME_BYTES_MAX
}

/// RFC 3986 §3.2.2: `[` IPv6address `]`, without zone and without IPvFuture.
fn is_ipv6(host: &[u8]) -> bool {
    let Some(address) = host.strip_prefix(b"[").and_then(|rest| rest.strip_suffix(b"]")) else {
        return false;
    };
    std::str::from_utf8(address).is_ok_and(|address| address.parse::<Ipv6Addr>().is_ok())
}

fn is_port(digits: &[u8]) -> bool {
    let plain = (1..=5).contains(&digits.len()) && digits[0] != b'0' && digits.iter().all(u8::is_ascii_digit);
    plain
        && digits.iter().fold(0_u32, |port, &digit| port * 10 + u32::from(digit - b'0'))
            <= u32::from(u16::MAX)
}

/// RFC 1035 §2.3.4: 255 octets on the wire, 253 as text.
const NAME_BYTES_MAX: usize = 253;

/// RFC 1035 §2.3.4.
const LABEL_BYTES_MAX: usize = 63;

#[cfg(test)]
mod tests {
    use super::*;

    fn normalised(received: &str) -> Option<(String, String)> {
        let authority = Authority::parse(received.as_bytes()).ok()?;
        let mut out = Vec::new();
        let host_len = authority.write_normal(&mut out);
        let out = String::from_utf8(out).unwrap();
        assert_eq!(authority.normal, out == received, "{received}");
        Some((out[..host_len].to_owned(), out))
    }

    #[test]
    fn names_and_addresses_are_normalised() {
        for (received, host, authority) in [
            ("example.com", "example.com", "example.com"),
            ("Example.COM", "example.com", "example.com"),
            ("example.com.", "example.com", "example.com"),
            ("example.com.:8443", "example.com", "example.com:8443"),
            ("localhost:1", "localhost", "localhost:1"),
            ("a_b-c.x:65535", "a_b-c.x", "a_b-c.x:65535"),
            ("127.0.0.1:80", "127.0.0.1", "127.0.0.1:80"),
            ("[::1]", "[::1]", "[::1]"),
            ("[2001:DB8::A]:443", "[2001:db8::a]", "[2001:db8::a]:443"),
        ] {
            assert_eq!(normalised(received), Some((host.to_owned(), authority.to_owned())), "{received}");
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for received in [
            "",
            ".",
            "..",
            "a..b",
            ".a",
            "a..",
            ":80",
            "a:",
            "a:0",
            "a:080",
            "a:65536",
            "a:123456",
            "a:80a",
            "a:80:80",
            "a b",
            "user@a",
            "a/b",
            "a?b",
            "a#b",
            "a\\b",
            "a%41",
            "a,b",
            "a;b",
            "a'b",
            "a\u{e9}",
            "a\t",
            "[::1",
            "::1",
            "[::1]x",
            "[::1]:",
            "[::1].",
            "[fe80::1%25eth0]",
            "[v1.a]",
            "[]",
            "[127.0.0.1]",
            "a[::1]",
            "*",
            "*.example.com",
        ] {
            assert_eq!(normalised(received), None, "{received:?}");
        }
    }

    #[test]
    fn lengths_are_limited() {
        let label = "a".repeat(63);
        assert!(normalised(&label).is_some());
        assert!(normalised(&format!("{label}a")).is_none());
        let name = [&label[..], &label, &label, &label[..61]].join(".");
        assert_eq!(name.len(), 253);
        assert!(normalised(&name).is_some());
        assert!(normalised(&format!("{name}.")).is_some());
        assert!(normalised(&format!("{name}a")).is_none());
    }

    #[test]
    fn comparison_ignores_case_and_trailing_dot_only() {
        let parse = |text: &'static str| Authority::parse(text.as_bytes()).unwrap();
        assert!(parse("A.example.").same_as(&parse("a.EXAMPLE")));
        assert!(!parse("a:443").same_as(&parse("a")));
        assert!(!parse("a:443").same_as(&parse("a:444")));
    }
}
