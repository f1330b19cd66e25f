//! One rule: checked, and compared with a certificate or with another rule.

use std::fmt;

use crate::name::NameParts;
use crate::peer::PeerIdentity;
use crate::san;
use crate::spiffe::{self, SpiffeId};
use crate::tenant::TenantMatch;
use crate::text;

/// A rule in the form in which it is compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Rule {
    TrustDomain {
        domain: String,
        /// What every ID of the domain starts with.
        prefix: String,
    },
    Uri(String),
    /// With the slash at its end.
    UriBelow(String),
    /// Lower-case.
    Dns(String),
    /// The suffix with the dot in front, lower-case.
    DnsLabelOf(String),
    Mailbox {
        local: String,
        /// The local part as [`folded`].
        folded: String,
        /// Lower-case.
        domain: String,
    },
    /// The domain alone, lower-case.
    MailboxAt(String),
    Unit(Attribute),
    Organization(Attribute),
    OrganizationIdentifier(Attribute),
    Issuer {
        name: NameParts,
        /// With each value as [`folded`].
        folded: NameParts,
    },
}

/// A value of the subject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Attribute {
    value: String,
    folded: String,
}

/// Which part of a certificate a rule looks at. Rules on different parts never exclude each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// The trust domain too: an X.509-SVID has exactly one URI name.
    Uri,
    Dns,
    Email,
    Unit,
    Organization,
    OrganizationIdentifier,
    Issuer,
}

impl Rule {
    /// # Errors
    /// Why the rule cannot be, as the end of a sentence about it.
    pub(super) fn new(written: &TenantMatch) -> Result<Self, &'static str> {
        let value = written.value();
        match value {
            "" => {
                return Err("is empty and would match anything or nothing; write what alone is meant");
            }
            "*" => return Err("would match every certificate; write what alone is meant"),
            _ => {}
        }
        match written {
            TenantMatch::SpiffeTrustDomain(domain) => trust_domain(domain),
            TenantMatch::SanUri(uri) => match uri.strip_suffix('*') {
                Some(prefix) => uri_below(prefix),
                None => whole_uri(uri),
            },
            TenantMatch::SanDns(name) => dns(&name.to_ascii_lowercase()),
            TenantMatch::SanEmail(mailbox) => email(mailbox),
            TenantMatch::OrganizationalUnit(value) => attribute(value).map(Self::Unit),
            TenantMatch::Organization(value) => attribute(value).map(Self::Organization),
            TenantMatch::OrganizationIdentifier(value) => attribute(value).map(Self::OrganizationIdentifier),
            TenantMatch::Issuer(name) => issuer(name),
        }
    }

    pub(super) fn kind(&self) -> Kind {
        match self {
            Self::TrustDomain { .. } | Self::Uri(_) | Self::UriBelow(_) => Kind::Uri,
            Self::Dns(_) | Self::DnsLabelOf(_) => Kind::Dns,
            Self::Mailbox { .. } | Self::MailboxAt(_) => Kind::Email,
            Self::Unit(_) => Kind::Unit,
            Self::Organization(_) => Kind::Organization,
            Self::OrganizationIdentifier(_) => Kind::OrganizationIdentifier,
            Self::Issuer { .. } => Kind::Issuer,
        }
    }

    /// Whether any value of the rule's kind matches. `issuer` is the peer's, taken apart.
    pub(super) fn matches(&self, peer: &PeerIdentity, issuer: Option<&NameParts>) -> bool {
        match self {
            Self::TrustDomain { domain, .. } => {
                peer.spiffe_id().is_some_and(|id| id.trust_domain() == domain)
            }
            Self::Uri(uri) => peer.san_uris().contains(uri),
            Self::UriBelow(prefix) => peer.san_uris().iter().any(|uri| is_below(uri, prefix)),
            Self::Dns(name) => peer.san_dns().contains(name),
            Self::DnsLabelOf(suffix) => peer.san_dns().iter().any(|name| is_label_of(name, suffix)),
            Self::Mailbox { local, domain, .. } => {
                let mut mailboxes = peer.san_emails().iter().filter_map(|mailbox| mailbox.split_once('@'));
                mailboxes.any(|(l, d)| l == local && d.eq_ignore_ascii_case(domain))
            }
            Self::MailboxAt(domain) => {
                let mut mailboxes = peer.san_emails().iter().filter_map(|mailbox| mailbox.split_once('@'));
                mailboxes.any(|(_, d)| d.eq_ignore_ascii_case(domain))
            }
            Self::Unit(unit) => peer.organizational_units().contains(&unit.value),
            Self::Organization(organization) => peer.organizations().contains(&organization.value),
            Self::OrganizationIdentifier(id) => peer.organization_identifiers().contains(&id.value),
            Self::Issuer { name, .. } => issuer == Some(name),
        }
    }

    /// Whether one value could match both; also for values that only an authority would take for the same, such as
    /// names in other letter case. Rules of different kinds overlap.
    pub(super) fn overlaps(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::TrustDomain { domain: a, .. }, Self::TrustDomain { domain: b, .. })
            | (Self::Uri(a), Self::Uri(b))
            | (Self::Dns(a), Self::Dns(b))
            | (Self::DnsLabelOf(a), Self::DnsLabelOf(b))
            | (Self::Mailbox { domain: a, .. }, Self::MailboxAt(b))
            | (Self::MailboxAt(a), Self::Mailbox { domain: b, .. } | Self::MailboxAt(b)) => a == b,
            (Self::TrustDomain { prefix, .. }, Self::Uri(uri) | Self::UriBelow(uri))
            | (Self::Uri(uri) | Self::UriBelow(uri), Self::TrustDomain { prefix, .. }) => {
                uri.starts_with(prefix.as_str())
            }
            (Self::Uri(uri), Self::UriBelow(prefix)) | (Self::UriBelow(prefix), Self::Uri(uri)) => {
                is_below(uri, prefix)
            }
            (Self::UriBelow(a), Self::UriBelow(b)) => a.starts_with(b) || b.starts_with(a),
            (Self::Dns(name), Self::DnsLabelOf(suffix)) | (Self::DnsLabelOf(suffix), Self::Dns(name)) => {
                is_label_of(name, suffix)
            }
            (
                Self::Mailbox { folded: a, domain: at_a, .. },
                Self::Mailbox { folded: b, domain: at_b, .. },
            ) => a == b && at_a == at_b,
            (Self::Unit(a), Self::Unit(b))
            | (Self::Organization(a), Self::Organization(b))
            | (Self::OrganizationIdentifier(a), Self::OrganizationIdentifier(b)) => a.folded == b.folded,
            (Self::Issuer { folded: a, .. }, Self::Issuer { folded: b, .. }) => a == b,
            _ => true,
        }
    }
}

fn trust_domain(domain: &str) -> Result<Rule, &'static str> {
    if domain.contains('*') {
        return Err("has a wildcard, and trust domains have none below them; write each by its name");
    }
    let prefix = format!("spiffe://{domain}/");
    match SpiffeId::parse(&format!("{prefix}x")) {
        Ok(id) if id.trust_domain() == domain => Ok(Rule::TrustDomain { domain: domain.to_owned(), prefix }),
        _ => Err(
            "is no SPIFFE trust domain; write it in lower case without `spiffe://`, such as `acme.example`",
        ),
    }
}

/// `prefix` is the rule without its `*`.
fn uri_below(prefix: &str) -> Result<Rule, &'static str> {
    if !prefix.ends_with('/') {
        return Err("ends in `*` but not in `/*`; end it where a path segment ends");
    }
    // A prefix has to hold at least an authority: `https://*` and `x:/*` name nobody.
    let (_, hierarchy) = prefix.split_once("://").ok_or(NO_AUTHORITY)?;
    let (authority, path) = hierarchy.split_once('/').ok_or(NO_AUTHORITY)?;
    if authority.is_empty() {
        return Err(NO_AUTHORITY);
    }
    whole_uri(&format!("{prefix}x"))?;
    if spiffe::claims_scheme(prefix) && path.is_empty() {
        return Err(
            "covers a whole trust domain; if that is meant, write `spiffe_trust_domain`, else a path",
        );
    }
    Ok(Rule::UriBelow(prefix.to_owned()))
}

fn whole_uri(uri: &str) -> Result<Rule, &'static str> {
    if uri.contains('*') {
        return Err("has a `*` inside; a wildcard is possible at the end only, as `/*`");
    }
    if spiffe::claims_scheme(uri) {
        return match SpiffeId::parse(uri) {
            Ok(id) if !id.path().is_empty() => Ok(Rule::Uri(uri.to_owned())),
            _ => Err("is no valid SPIFFE ID of a workload, so no certificate could match it"),
        };
    }
    match san::uri(uri) {
        Ok(_) if has_dot_segments(uri) => Err("has a `.` or `..` segment; write the path without it"),
        Ok(_) => Ok(Rule::Uri(uri.to_owned())),
        Err(_) => Err("is no absolute URI; write it with its scheme, such as `https://acme.example/a`"),
    }
}

/// `name` in lower case.
fn dns(name: &str) -> Result<Rule, &'static str> {
    let Some(suffix) = name.strip_prefix('*') else {
        return match san::dns(name) {
            Ok(_) => Ok(Rule::Dns(name.to_owned())),
            Err(_) => Err("is no host name, or has a `*` elsewhere than as the whole first label"),
        };
    };
    match suffix.strip_prefix('.') {
        Some(labels) if !labels.starts_with('*') && san::dns(labels).is_ok() => {
            if labels.contains('.') {
                Ok(Rule::DnsLabelOf(suffix.to_owned()))
            } else {
                Err("covers a whole top-level domain; add at least one label, such as `*.acme.example`")
            }
        }
        _ => Err("is no host name behind its wildcard; write `*.` and a domain, such as `*.acme.example`"),
    }
}

fn email(mailbox: &str) -> Result<Rule, &'static str> {
    if mailbox == "@" {
        return Err("would match every mailbox; add the domain, such as `@acme.example`");
    }
    let (local, domain) = mailbox.split_once('@').ok_or(NO_MAILBOX)?;
    let whole = if local.is_empty() { format!("x{mailbox}") } else { mailbox.to_owned() };
    if mailbox.contains('*') || san::email(&whole).is_err() || san::dns(domain).is_err() {
        return Err(NO_MAILBOX);
    }
    let domain = domain.to_ascii_lowercase();
    if local.is_empty() {
        Ok(Rule::MailboxAt(domain))
    } else {
        Ok(Rule::Mailbox { local: local.to_owned(), folded: folded(local), domain })
    }
}

fn attribute(value: &str) -> Result<Attribute, &'static str> {
    if value.contains('*') {
        return Err("has a `*`, but there are no wildcards here; write the whole value");
    }
    if value.trim().is_empty() || text::check(value).is_err() {
        return Err("is blank or holds characters that no certificate is accepted with");
    }
    Ok(Attribute { value: value.to_owned(), folded: folded(value) })
}

fn issuer(name: &str) -> Result<Rule, &'static str> {
    let parts = NameParts::parse(name)?;
    if parts.is_empty() || parts.values().all(|value| value.trim().is_empty()) {
        return Err("names no issuer; write its whole name, such as `CN=Acme CA,O=Acme`");
    }
    if parts.values().any(|value| value.contains('*')) {
        return Err("has a `*`, but there are no wildcards here; write the whole name");
    }
    Ok(Rule::Issuer { folded: parts.map(folded), name: parts })
}

/// A longer URI below `prefix`, and not one that leads elsewhere once its dot segments are removed (RFC 3986
/// §5.2.4).
fn is_below(uri: &str, prefix: &str) -> bool {
    uri.len() > prefix.len() && uri.starts_with(prefix) && !has_dot_segments(uri)
}

/// Also in percent-encoding, which RFC 3986 §6.2.2.2 takes for the same.
fn has_dot_segments(uri: &str) -> bool {
    let path = uri.split(['?', '#']).next().unwrap_or_default();
    path.split('/').any(|segment| {
        let (mut rest, mut dots) = (segment.as_bytes(), 0);
        while let [b'.', after @ ..] | [b'%', b'2', b'e' | b'E', after @ ..] = rest {
            (rest, dots) = (after, dots + 1);
        }
        rest.is_empty() && matches!(dots, 1 | 2)
    })
}

/// `suffix` with its dot behind exactly one more label.
fn is_label_of(name: &str, suffix: &str) -> bool {
    name.strip_suffix(suffix).is_some_and(|label| !label.is_empty() && !label.contains('.'))
}

/// RFC 5280 §7.1: names are the same whatever their case and their inner blanks. Matching is stricter than that,
/// keeping tenants apart is not.
fn folded(value: &str) -> String {
    value.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase()
}

impl TenantMatch {
    /// The value, without its kind.
    pub fn value(&self) -> &str {
        self.parts().1
    }

    fn parts(&self) -> (&'static str, &str) {
        match self {
            Self::SpiffeTrustDomain(value) => ("spiffe_trust_domain", value),
            Self::SanUri(value) => ("san_uri", value),
            Self::SanDns(value) => ("san_dns", value),
            Self::SanEmail(value) => ("san_email", value),
            Self::OrganizationalUnit(value) => ("ou", value),
            Self::Organization(value) => ("organization", value),
            Self::OrganizationIdentifier(value) => ("organization_identifier", value),
            Self::Issuer(value) => ("issuer", value),
        }
    }
}

impl fmt::Display for TenantMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (key, value) = self.parts();
        write!(f, "{key} = {value:?}")
    }
}

const NO_AUTHORITY: &str = "covers every authority of a scheme; write at least scheme, authority and a slash, such as `https://acme.example/*`";
const NO_MAILBOX: &str = "is neither a plain mailbox nor `@` and a domain, such as `@acme.example`";
