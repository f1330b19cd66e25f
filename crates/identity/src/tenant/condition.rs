//! One condition on a verified peer, for those who choose by it and own nobody: routes.

use std::fmt;

use super::TenantMatch;
use super::rule::{Kind, Rule};
use crate::peer::PeerIdentity;
use crate::spiffe;

/// A condition that a verified peer meets or not. It reads certificates as rules of tenants do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdentityCondition {
    written: TenantMatch,
    rule: Rule,
}

impl IdentityCondition {
    /// Checks a condition.
    ///
    /// # Errors
    /// Why it cannot be, as the end of a sentence about it, with the likely fix behind a semicolon.
    pub fn new(written: TenantMatch) -> Result<Self, &'static str> {
        match Rule::new(&written)? {
            // Taking a name apart for every request would cost more than all else about a route.
            Rule::Issuer { .. } => Err("is no condition of a route; write what the certificate itself has"),
            rule => Ok(Self { written, rule }),
        }
    }

    /// Whether any value of the peer's certificate matches. Allocates nothing.
    pub fn is_met_by(&self, peer: &PeerIdentity) -> bool {
        self.rule.matches(peer, None)
    }

    /// Whether no peer can meet both. Known of SPIFFE IDs alone: of them a certificate has exactly one (X509-SVID §2), of
    /// other values it may have several.
    pub fn excludes(&self, other: &Self) -> bool {
        self.is_about_spiffe() && other.is_about_spiffe() && !self.rule.overlaps(&other.rule)
    }

    fn is_about_spiffe(&self) -> bool {
        match &self.written {
            TenantMatch::SpiffeTrustDomain(_) => true,
            TenantMatch::SanUri(uri) => self.rule.kind() == Kind::Uri && spiffe::claims_scheme(uri),
            _ => false,
        }
    }
}

impl fmt::Display for IdentityCondition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.written.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::Certificate;
    use crate::peer::IdentityOptions;

    fn condition(written: TenantMatch) -> IdentityCondition {
        IdentityCondition::new(written).unwrap()
    }

    fn uri(text: &str) -> IdentityCondition {
        condition(TenantMatch::SanUri(text.into()))
    }

    #[test]
    fn a_peer_meets_what_its_certificate_says() {
        let der = Certificate::new("x").uris(&["spiffe://acme.example/ns/prod/sa/web"]).der();
        let peer = PeerIdentity::from_verified_chain(&[der], &IdentityOptions::default()).unwrap();
        for (uri_text, met) in [
            ("spiffe://acme.example/ns/prod/*", true),
            ("spiffe://acme.example/ns/prod/sa/web", true),
            ("spiffe://acme.example/ns/dev/*", false),
            ("spiffe://acme.example/ns/prod/sa/we", false),
        ] {
            assert_eq!(uri(uri_text).is_met_by(&peer), met, "{uri_text}");
        }
        assert!(condition(TenantMatch::SpiffeTrustDomain("acme.example".into())).is_met_by(&peer));
        assert!(!condition(TenantMatch::OrganizationalUnit("prod".into())).is_met_by(&peer));
    }

    #[test]
    fn only_what_no_certificate_can_have_twice_excludes() {
        let domain = |name: &str| condition(TenantMatch::SpiffeTrustDomain(name.into()));
        let unit = |name: &str| condition(TenantMatch::OrganizationalUnit(name.into()));
        assert!(domain("a.example").excludes(&domain("b.example")));
        assert!(uri("spiffe://a.example/x/*").excludes(&uri("spiffe://a.example/y/*")));
        assert!(!uri("spiffe://a.example/x/*").excludes(&domain("a.example")));
        assert!(!uri("https://a.example/x").excludes(&uri("https://a.example/y")));
        assert!(!unit("a").excludes(&unit("b")));
    }

    #[test]
    fn what_cannot_be_asked_per_request_is_refused() {
        assert!(IdentityCondition::new(TenantMatch::Issuer("CN=Acme".into())).is_err());
        assert!(IdentityCondition::new(TenantMatch::SanUri("spiffe://acme.example/*".into())).is_err());
    }
}
