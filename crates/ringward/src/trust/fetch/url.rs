//! URLs of revocation data, as they are fetched.
//!
//! They come from the configuration and out of certificates; the rules are those of [`HttpUrl`]. Two spellings of one URL are
//! one here. Never resolves a name.

use std::fmt;
use std::net::IpAddr;

use ringward_config::{HostName, HttpUrl, HttpUrlError};

/// An absolute `http` or `https` URL.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Url {
    scheme: Scheme,
    host: HostName,
    port: u16,
    /// Path and query as they go into the request line.
    target: String,
}

/// How a server is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Scheme {
    /// In the clear. What is fetched is signed, so this is the norm.
    Http,
    /// Over TLS.
    Https,
}

impl Url {
    /// Reads an absolute URL.
    ///
    /// # Errors
    /// Which rule it breaks.
    pub(crate) fn parse(text: &str) -> Result<Url, HttpUrlError> {
        HttpUrl::parse(text).map(|url| Url::from(&url))
    }

    /// How the server is spoken to.
    pub(crate) fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// The host in the one form in which names are compared.
    pub(crate) fn host(&self) -> &HostName {
        &self.host
    }

    /// The host, if it is an address.
    pub(crate) fn address(&self) -> Option<IpAddr> {
        address_of(&self.host)
    }

    /// The port, also if it is not written.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Path and query.
    pub(crate) fn target(&self) -> &str {
        &self.target
    }

    /// `host` or `host:port`, as in the `Host` field.
    pub(crate) fn authority(&self) -> String {
        if self.port == self.scheme.default_port() {
            self.host.to_string()
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// Whether the same server is meant.
    pub(crate) fn is_same_server(&self, other: &Url) -> bool {
        (self.scheme, &self.host, self.port) == (other.scheme, &other.host, other.port)
    }

    /// With `segment` as a further segment of the path. A query is dropped: what it would mean there, nobody has defined.
    ///
    /// # Errors
    /// If the result is too long.
    pub(crate) fn join(&self, segment: &str) -> Result<Url, HttpUrlError> {
        let path = self.target.split('?').next().unwrap_or_default().trim_end_matches('/');
        Url::parse(&format!("{}://{}{path}/{segment}", self.scheme.as_str(), self.authority()))
    }

    /// Where a redirection with this `Location` leads.
    ///
    /// # Errors
    /// If that is no URL that could be fetched. Of relative ones only those are taken that begin with one slash.
    pub(crate) fn redirected(&self, location: &str) -> Result<Url, HttpUrlError> {
        // RFC 9110 §10.2.2: a fragment may be there, and is for browsers.
        let location = location.split('#').next().unwrap_or_default();
        if location.starts_with('/') && !location.starts_with("//") {
            return Url::parse(&format!("{}://{}{location}", self.scheme.as_str(), self.authority()));
        }
        Url::parse(location)
    }
}

impl From<&HttpUrl> for Url {
    fn from(url: &HttpUrl) -> Url {
        let scheme = if url.is_https() { Scheme::Https } else { Scheme::Http };
        Url { scheme, host: url.host().clone(), port: url.port(), target: url.target() }
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", self.scheme.as_str(), self.authority(), self.target)
    }
}

impl Scheme {
    /// The word in front of `://`.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Scheme::Http => "http",
            Scheme::Https => "https",
        }
    }

    /// The port if none is written.
    pub(crate) fn default_port(self) -> u16 {
        match self {
            Scheme::Http => 80,
            Scheme::Https => 443,
        }
    }
}

/// The address that a host is written as, if it is.
pub(crate) fn address_of(host: &HostName) -> Option<IpAddr> {
    let bare = host.as_str().trim_start_matches('[').trim_end_matches(']');
    bare.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_spellings_of_one_url_are_one() {
        let shown = |text: &str| Url::parse(text).unwrap().to_string();
        assert_eq!(shown("HTTP://A.example.:80"), "http://a.example/");
        assert_eq!(shown("https://a.example:80?b=c"), "https://a.example:80/?b=c");
        assert_eq!(shown("http://[2001:DB8::1]:81/x"), "http://[2001:db8::1]:81/x");
        assert!(Url::parse("http://user@a.example/").is_err());
    }

    #[test]
    fn addresses_are_told_from_names() {
        let address = |text: &str| Url::parse(text).unwrap().address();
        assert_eq!(address("http://127.0.0.1:1/"), Some(IpAddr::from([127, 0, 0, 1])));
        assert_eq!(address("http://[::1]/"), "::1".parse().ok());
        assert_eq!(address("http://a.example/"), None);
    }

    #[test]
    fn a_redirection_is_read_relative_to_where_it_came_from() {
        let from = Url::parse("http://a.example:81/b/c?d").unwrap();
        let to = |location: &str| from.redirected(location).map(|url| url.to_string()).ok();
        assert_eq!(to("/x?y#z").as_deref(), Some("http://a.example:81/x?y"));
        assert_eq!(to("https://b.example/").as_deref(), Some("https://b.example/"));
        assert_eq!(to("//b.example/x"), None);
        assert_eq!(to("x"), None);
        assert_eq!(to(""), None);
    }

    #[test]
    fn a_segment_is_added_to_the_path() {
        let joined = |text: &str| Url::parse(text).unwrap().join("QQ%3D%3D").unwrap().to_string();
        assert_eq!(joined("http://a.example"), "http://a.example/QQ%3D%3D");
        assert_eq!(joined("http://a.example/ocsp/?x"), "http://a.example/ocsp/QQ%3D%3D");
        assert!(Url::parse("http://a.example").unwrap().join(&"x".repeat(4096)).is_err());
    }
}
