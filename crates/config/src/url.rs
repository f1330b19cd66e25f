//! URLs of what the control plane fetches: revocation lists and OCSP responders.
//!
//! Hides a deliberately small grammar: `http` or `https`, a host, perhaps a port, a path and a query. Whatever two readers
//! of a URL could take for different hosts is refused: users, backslashes, blanks, percent signs in the host. It
//! never resolves a name and never decodes the path.

use std::fmt;

use crate::host::{HostName, HostNameError};

/// An absolute `http` or `https` URL, as it was written and taken apart.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HttpUrl {
    text: String,
    https: bool,
    host: HostName,
    port: u16,
    /// Where path and query begin in `text`; its end if there are none.
    target: usize,
}

impl HttpUrl {
    /// Reads a URL. Those that certificates carry are read by the same rules.
    ///
    /// # Errors
    /// [`HttpUrlError`] says which rule is broken.
    pub fn parse(text: &str) -> Result<Self, HttpUrlError> {
        let fault = |kind| HttpUrlError { text: text.to_owned(), kind };
        if text.len() > URL_BYTES_MAX {
            return Err(fault(HttpUrlFault::TooLong));
        }
        if !text.bytes().all(|b| b.is_ascii_graphic() && !br#""<>\^`{|}"#.contains(&b)) {
            return Err(fault(HttpUrlFault::Character));
        }
        if text.contains('#') {
            return Err(fault(HttpUrlFault::Fragment));
        }
        let (scheme, rest) = text.split_once("://").ok_or_else(|| fault(HttpUrlFault::Scheme))?;
        let https = match scheme.to_ascii_lowercase().as_str() {
            "http" => false,
            "https" => true,
            _ => return Err(fault(HttpUrlFault::Scheme)),
        };
        let authority = rest.split(['/', '?']).next().unwrap_or_default();
        if authority.contains('@') {
            return Err(fault(HttpUrlFault::User));
        }
        let (host, port) = split_port(authority);
        let port = match port {
            None if https => 443,
            None => 80,
            Some(digits) => port_number(digits).ok_or_else(|| fault(HttpUrlFault::Port))?,
        };
        if host.is_empty() {
            return Err(fault(HttpUrlFault::NoHost));
        }
        // RFC 3986 §3.2.2: an IPv6 address stands in brackets; without them its last group would be a port.
        if host.contains(':') && !host.starts_with('[') {
            return Err(fault(HttpUrlFault::Port));
        }
        let host = HostName::parse(host).map_err(|error| fault(HttpUrlFault::Host(error)))?;
        if ends_in_hexadecimal(host.as_str()) {
            return Err(fault(HttpUrlFault::Number));
        }
        let target = text.len() - rest.len() + authority.len();
        Ok(Self { text: text.to_owned(), https, host, port, target })
    }

    /// The URL as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it is spoken over TLS.
    pub fn is_https(&self) -> bool {
        self.https
    }

    /// The host; an IPv6 address has its brackets.
    pub fn host(&self) -> &HostName {
        &self.host
    }

    /// The port, the scheme's if none is written.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Path and query for a request line (RFC 9112 §3.2.1). It begins with `/`, which is added if only a query is written.
    pub fn target(&self) -> String {
        let target = &self.text[self.target..];
        if target.starts_with('/') { target.to_owned() } else { format!("/{target}") }
    }
}

impl fmt::Display for HttpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Why a text is not the URL of something to fetch.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a URL to fetch from: {kind}")]
pub struct HttpUrlError {
    text: String,
    kind: HttpUrlFault,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
enum HttpUrlFault {
    #[error("it is longer than {URL_BYTES_MAX} bytes")]
    TooLong,
    #[error("it has characters that stand in no URL")]
    Character,
    #[error("it has a fragment (#)")]
    Fragment,
    #[error("it begins with neither http:// nor https://")]
    Scheme,
    #[error("it names a user")]
    User,
    #[error("its port is not a number from 1 to 65535")]
    Port,
    #[error("it names no host")]
    NoHost,
    #[error("{0}")]
    Host(HostNameError),
    #[error("its host could be read as an address")]
    Number,
}

/// The port only if there is a colon outside of brackets.
fn split_port(authority: &str) -> (&str, Option<&str>) {
    let after_address = authority.rfind(']').map_or(0, |at| at + 1);
    match authority[after_address..].find(':') {
        Some(at) => (&authority[..after_address + at], Some(&authority[after_address + at + 1..])),
        None => (authority, None),
    }
}

/// Resolvers read `0x7f.0x1` as an address (inet_aton(3)). Decimal numbers at the end are no host names anyway.
fn ends_in_hexadecimal(host: &str) -> bool {
    let last = host.rsplit('.').next().unwrap_or_default();
    last.strip_prefix("0x").is_some_and(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()))
}

fn port_number(digits: &str) -> Option<u16> {
    let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    digits.parse().ok().filter(|port| plain && *port > 0)
}

/// Far more than any URL of a revocation list; it is written into requests, logs and file names of copies.
const URL_BYTES_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart() {
        for (text, https, host, port, target) in [
            ("http://pki.example.com/a.crl", false, "pki.example.com", 80, "/a.crl"),
            ("https://pki.example.com", true, "pki.example.com", 443, "/"),
            ("HTTP://PKI.Example.com.:8080/A?b=c", false, "pki.example.com", 8080, "/A?b=c"),
            ("http://10.0.0.1:1?x", false, "10.0.0.1", 1, "/?x"),
            ("http://[2001:DB8::1]/", false, "[2001:db8::1]", 80, "/"),
            ("http://[::1]:65535/a@b:c", false, "[::1]", 65535, "/a@b:c"),
        ] {
            let url = HttpUrl::parse(text).unwrap();
            assert_eq!(
                (url.is_https(), url.host().as_str(), url.port(), url.target().as_str()),
                (https, host, port, target)
            );
            assert_eq!(url.as_str(), text);
        }
    }

    #[test]
    fn what_could_mean_another_host_is_refused() {
        for (text, why) in [
            ("", "it begins with neither http:// nor https://"),
            ("pki.example.com/a.crl", "it begins with neither http:// nor https://"),
            ("ldap://pki.example.com/cn=crl", "it begins with neither http:// nor https://"),
            ("file:///etc/passwd", "it begins with neither http:// nor https://"),
            ("http:/a", "it begins with neither http:// nor https://"),
            ("http:///a", "it names no host"),
            ("http://:80/", "it names no host"),
            ("http://user@pki.example.com/", "it names a user"),
            ("http://pki.example.com:80@evil.example/", "it names a user"),
            ("http://a.test\\@evil.example/", "it has characters that stand in no URL"),
            ("http://a b.test/", "it has characters that stand in no URL"),
            ("http://a.test/\u{e9}", "it has characters that stand in no URL"),
            ("http://a.test/\r\nx", "it has characters that stand in no URL"),
            ("http://a.test/#x", "it has a fragment (#)"),
            ("http://a.test:/", "its port is not a number from 1 to 65535"),
            ("http://a.test:0/", "its port is not a number from 1 to 65535"),
            ("http://a.test:+80/", "its port is not a number from 1 to 65535"),
            ("http://a.test:65536/", "its port is not a number from 1 to 65535"),
            ("http://[::1/", "its port is not a number from 1 to 65535"),
            ("http://0x7f000001/", "its host could be read as an address"),
            ("http://a.0X/", "its host could be read as an address"),
            ("http://2001:db8::1/", "its port is not a number from 1 to 65535"),
        ] {
            let error = HttpUrl::parse(text).unwrap_err().to_string();
            assert_eq!(error, format!("{text:?} is not a URL to fetch from: {why}"));
        }
        for host in ["a%2eb.test", "*.a.test", "[::1]x", "a..b", "[v1.a]"] {
            let text = format!("http://{host}/");
            assert!(HttpUrl::parse(&text).unwrap_err().to_string().contains("is not a host name"), "{text}");
        }
    }

    #[test]
    fn length_is_bounded() {
        let url = |bytes: usize| format!("http://a.test/{}", "a".repeat(bytes - 14));
        assert!(HttpUrl::parse(&url(URL_BYTES_MAX)).is_ok());
        let error = HttpUrl::parse(&url(URL_BYTES_MAX + 1)).unwrap_err().to_string();
        assert!(error.ends_with("it is longer than 1024 bytes"), "{error}");
    }
}
