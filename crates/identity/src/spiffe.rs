//! SPIFFE IDs, strictly.
//!
//! Source: the SPIFFE ID and X509-SVID standards of the SPIFFE project. Nothing is normalised: an ID has one
//! spelling or is refused, so that comparing bytes compares identities.

use std::fmt;

/// A valid SPIFFE ID, such as `spiffe://example.org/ns/payments/sa/web`.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct SpiffeId {
    uri: String,
    trust_domain_bytes: usize,
}

impl SpiffeId {
    /// Parses an ID in its only spelling.
    ///
    /// The trust domain is 1 to 255 of `a-z 0-9 . - _`; the path is empty or made of non-empty segments of
    /// `a-z A-Z 0-9 . - _` other than `.` and `..`; at most 2048 bytes in all.
    ///
    /// # Errors
    /// What the text violates first.
    pub fn parse(uri: &str) -> Result<Self, SpiffeError> {
        if uri.len() > URI_BYTES_MAX {
            return Err(SpiffeError::TooLong { bytes: uri.len() });
        }
        let rest = uri.strip_prefix(SCHEME).ok_or(SpiffeError::Scheme)?;
        let (trust_domain, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        check_trust_domain(trust_domain)?;
        check_path(path)?;
        Ok(Self { uri: uri.to_owned(), trust_domain_bytes: trust_domain.len() })
    }

    /// The whole URI.
    pub fn as_str(&self) -> &str {
        &self.uri
    }

    /// The trust domain, such as `example.org`.
    pub fn trust_domain(&self) -> &str {
        &self.uri[SCHEME.len()..SCHEME.len() + self.trust_domain_bytes]
    }

    /// The path with its leading slash, or the empty string.
    pub fn path(&self) -> &str {
        &self.uri[SCHEME.len() + self.trust_domain_bytes..]
    }
}

impl fmt::Debug for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SpiffeId").field(&self.uri).finish()
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.uri)
    }
}

/// Which SPIFFE IDs are meant: one, or all below a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpiffePattern {
    text: Box<str>,
    /// The part that every ID begins with, if more has to follow.
    prefix_bytes: Option<usize>,
}

impl SpiffePattern {
    /// Parses `spiffe://DOMAIN/PATH`, which is this ID; `spiffe://DOMAIN/PATH/*`, all below the path; or `spiffe://DOMAIN/*`, all
    /// of the trust domain.
    ///
    /// # Errors
    /// What the ID, or the part before `/*`, violates first. An ID without a path names no workload (X509-SVID §5.2).
    pub fn parse(text: &str) -> Result<Self, SpiffeError> {
        let prefix = text.strip_suffix("/*");
        let id = SpiffeId::parse(prefix.unwrap_or(text))?;
        if prefix.is_none() && id.path().is_empty() {
            return Err(SpiffeError::RootPath);
        }
        // The slash is a part of it, so that `/ns/pay/*` has nothing of `/ns/payroll`.
        Ok(Self { text: text.into(), prefix_bytes: prefix.map(|prefix| prefix.len() + 1) })
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether `id` is meant.
    pub fn matches(&self, id: &SpiffeId) -> bool {
        match self.prefix_bytes {
            Some(bytes) => id.as_str().len() > bytes && id.as_str().starts_with(&self.text[..bytes]),
            None => *self.text == *id.as_str(),
        }
    }
}

/// Why a URI is no SPIFFE ID, or a certificate no X.509-SVID.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpiffeError {
    /// SPIFFE ID §2.3.
    #[error("{bytes} bytes long, at most 2048 are allowed")]
    TooLong {
        /// Length of the URI.
        bytes: usize,
    },
    /// The scheme is not `spiffe://` in lower case.
    #[error("the URI must start with `spiffe://` in lower case")]
    Scheme,
    /// No trust domain, or one above 255 bytes.
    #[error("the trust domain has {bytes} bytes, 1 to 255 are allowed")]
    TrustDomainLength {
        /// Length of the trust domain.
        bytes: usize,
    },
    /// Anything but `a-z 0-9 . - _`; also what a user, a port, a query or a fragment would need.
    #[error("the trust domain may hold only a-z, 0-9, '.', '-' and '_': no user, no port, no upper case")]
    TrustDomainCharacter,
    /// Two slashes in a row, or one at the end.
    #[error("the path has an empty segment or a trailing slash")]
    EmptySegment,
    /// `.` or `..`.
    #[error("the path has a `.` or `..` segment")]
    DotSegment,
    /// Anything but letters, digits, `.`, `-` and `_`; also what a query, a fragment or an escape would need.
    #[error("a path segment may hold only letters, digits, '.', '-' and '_': no query, fragment or escape")]
    PathCharacter,
    /// X509-SVID §2: exactly one URI SAN.
    #[error("the certificate has {count} URI names, an X.509-SVID has exactly one")]
    SeveralUris {
        /// URI SANs in the certificate.
        count: usize,
    },
    /// X509-SVID §5.2: `CA` must be false.
    #[error("the leaf is a CA certificate, which an X.509-SVID must not be")]
    Authority,
    /// X509-SVID §5.2: `keyCertSign` and `cRLSign` must not be set.
    #[error("the leaf's keyUsage has keyCertSign or cRLSign, which an X.509-SVID must not have")]
    SigningKeyUsage,
    /// X509-SVID §5.2: the ID of a leaf has a path.
    #[error("the ID of a leaf needs a path; an ID without one names the trust domain's authority")]
    RootPath,
}

/// True for a URI that claims the scheme, in any case: then it must be valid.
pub(crate) fn claims_scheme(uri: &str) -> bool {
    let scheme = uri.split(':').next().unwrap_or_default();
    scheme.eq_ignore_ascii_case("spiffe")
}

fn check_trust_domain(trust_domain: &str) -> Result<(), SpiffeError> {
    if trust_domain.is_empty() || trust_domain.len() > TRUST_DOMAIN_BYTES_MAX {
        return Err(SpiffeError::TrustDomainLength { bytes: trust_domain.len() });
    }
    if trust_domain.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-' | b'_')) {
        Ok(())
    } else {
        Err(SpiffeError::TrustDomainCharacter)
    }
}

fn check_path(path: &str) -> Result<(), SpiffeError> {
    let Some(segments) = path.strip_prefix('/') else {
        return Ok(());
    };
    for segment in segments.split('/') {
        match segment {
            "" => return Err(SpiffeError::EmptySegment),
            "." | ".." => return Err(SpiffeError::DotSegment),
            _ => {}
        }
        if !segment.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_')) {
            return Err(SpiffeError::PathCharacter);
        }
    }
    Ok(())
}

const SCHEME: &str = "spiffe://";
/// SPIFFE ID §2.3.
const URI_BYTES_MAX: usize = 2048;
/// SPIFFE ID §2.3, after RFC 3986's limit of a host.
const TRUST_DOMAIN_BYTES_MAX: usize = 255;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_valid_ids_apart() {
        let longest_domain = format!("spiffe://{}/a", "d".repeat(255));
        let longest = format!("spiffe://example.org/{}", "p".repeat(2048 - 21));
        for (uri, trust_domain, path) in [
            ("spiffe://example.org", "example.org", ""),
            ("spiffe://example.org/a", "example.org", "/a"),
            ("spiffe://example.org/ns/Prod-1/sa/web_2.x", "example.org", "/ns/Prod-1/sa/web_2.x"),
            ("spiffe://10.0.0.1/a", "10.0.0.1", "/a"),
            ("spiffe://a_b-c/...", "a_b-c", "/..."),
            (&longest_domain, &"d".repeat(255), "/a"),
            (&longest, "example.org", &longest[20..]),
        ] {
            let id = SpiffeId::parse(uri).unwrap();
            assert_eq!((id.as_str(), id.trust_domain(), id.path()), (uri, trust_domain, path));
        }
    }

    #[test]
    fn refuses_every_other_spelling() {
        use SpiffeError as E;
        let long_domain = format!("spiffe://{}/a", "d".repeat(256));
        let long = format!("spiffe://example.org/{}", "p".repeat(2049 - 21));
        let table: &[(&str, SpiffeError)] = &[
            ("", E::Scheme),
            ("spiffe:example.org/a", E::Scheme),
            ("spiffe:/example.org/a", E::Scheme),
            ("SPIFFE://example.org/a", E::Scheme),
            ("Spiffe://example.org/a", E::Scheme),
            ("https://example.org/a", E::Scheme),
            (" spiffe://example.org/a", E::Scheme),
            ("spiffe://", E::TrustDomainLength { bytes: 0 }),
            ("spiffe:///a", E::TrustDomainLength { bytes: 0 }),
            (&long_domain, E::TrustDomainLength { bytes: 256 }),
            ("spiffe://Example.org/a", E::TrustDomainCharacter),
            ("spiffe://user@example.org/a", E::TrustDomainCharacter),
            ("spiffe://example.org:443/a", E::TrustDomainCharacter),
            ("spiffe://example.org:/a", E::TrustDomainCharacter),
            ("spiffe://[::1]/a", E::TrustDomainCharacter),
            ("spiffe://ex%61mple.org/a", E::TrustDomainCharacter),
            ("spiffe://example.org?a", E::TrustDomainCharacter),
            ("spiffe://example.org#a", E::TrustDomainCharacter),
            ("spiffe://exämple.org/a", E::TrustDomainCharacter),
            ("spiffe://example.org/", E::EmptySegment),
            ("spiffe://example.org/a/", E::EmptySegment),
            ("spiffe://example.org//a", E::EmptySegment),
            ("spiffe://example.org/a//b", E::EmptySegment),
            ("spiffe://example.org/./a", E::DotSegment),
            ("spiffe://example.org/a/..", E::DotSegment),
            ("spiffe://example.org/a/../b", E::DotSegment),
            ("spiffe://example.org/a?b=c", E::PathCharacter),
            ("spiffe://example.org/a#b", E::PathCharacter),
            ("spiffe://example.org/%61", E::PathCharacter),
            ("spiffe://example.org/a b", E::PathCharacter),
            ("spiffe://example.org/a;b", E::PathCharacter),
            ("spiffe://example.org/ä", E::PathCharacter),
            (&long, E::TooLong { bytes: 2049 }),
        ];
        for (uri, expected) in table {
            assert_eq!(SpiffeId::parse(uri).as_ref(), Err(expected), "{uri}");
        }
    }

    #[test]
    fn a_scheme_in_any_case_is_a_claim() {
        for uri in ["spiffe://a/b", "SPIFFE://a/b", "sPiFfE:x", "spiffe"] {
            assert!(claims_scheme(uri), "{uri}");
        }
        for uri in ["", "https://spiffe", "spiffes://a", "urn:spiffe:a"] {
            assert!(!claims_scheme(uri), "{uri}");
        }
    }
}
