//! Tenants: from a verified certificate to the tenant that it belongs to, by declared rules.
//!
//! Hides how rules are compared with certificates and with one another. Never prefers one rule to another: two
//! tenants that share a trust bundle must have rules that no single value can match twice, else
//! [`TenantMap::build`] refuses them, and a certificate that still matches two (by two values of one kind) belongs
//! to neither. Nothing here depends on the order of tenants, rules or names.

mod condition;
mod rule;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use aws_lc_rs::digest;

pub use self::condition::IdentityCondition;
use crate::name::NameParts;
use crate::peer::PeerIdentity;
use rule::Rule;

/// A tenant as it is configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TenantDefinition {
    /// Its name, in logs, metrics and policies.
    pub name: Arc<str>,
    /// The trust bundles that its certificates are verified against.
    pub trust: Vec<String>,
    /// Which of the certificates verified so are its own: those that match any of these. Without a rule it owns
    /// all of them; then no other tenant can share a bundle with it.
    pub matches: Vec<TenantMatch>,
    /// What the tenant calls the owner of a certificate.
    pub identity: IdentitySource,
}

/// A rule about one part of a certificate. Of a part that can have several values, any may match.
///
/// Written by [`Display`](fmt::Display) as in a configuration file: `san_dns = "*.acme.example"`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TenantMatch {
    /// The trust domain of an X.509-SVID, such as `acme.example`.
    SpiffeTrustDomain(String),
    /// A URI name: the whole of it, or all below a path when it ends in `/*`. Compared byte by byte.
    SanUri(String),
    /// A DNS name: the whole of it, or `*.suffix` for one label more than the suffix. Case does not count.
    SanDns(String),
    /// An email name: the whole of it, or `@domain` for all of one domain, without those below. Case counts in
    /// the part before the `@` only (RFC 5280 §7.5).
    SanEmail(String),
    /// An OU value of the subject, compared byte by byte.
    OrganizationalUnit(String),
    /// An O value of the subject, compared byte by byte.
    Organization(String),
    /// An organizationIdentifier (2.5.4.97) value of the subject, compared byte by byte.
    OrganizationIdentifier(String),
    /// The name of the leaf's issuer as RFC 4514 text, compared attribute by attribute. Every authority below a
    /// bundle can give a subordinate any name that its constraints allow.
    Issuer(String),
}

/// What a tenant calls the owner of a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum IdentitySource {
    /// [`PeerIdentity::name`]; every certificate has one.
    #[default]
    Name,
    /// The SPIFFE ID.
    SpiffeId,
    /// The only URI name.
    SanUri,
    /// The only DNS name.
    SanDns,
    /// The only email name.
    SanEmail,
    /// The only CN value of the subject.
    CommonName,
    /// The leaf's SHA-256 in hexadecimal; every certificate has one.
    Fingerprint,
}

/// What the rules say of one peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Assignment {
    /// No tenant claims it.
    None,
    /// Exactly one does.
    Tenant {
        /// Its name.
        name: Arc<str>,
        /// What it calls the peer; never empty.
        identity: Box<str>,
        /// Which of [`TenantDefinition::matches`] matched first; `None` if the tenant owns the whole bundle.
        rule: Option<usize>,
    },
    /// Several claim it, named in alphabetical order; it belongs to none.
    Ambiguous(Vec<Arc<str>>),
    /// One does, but the certificate has no value, or several, where the tenant's identities are read.
    NoIdentity {
        /// The tenant's name.
        name: Arc<str>,
        /// Where it reads them.
        source: IdentitySource,
    },
}

/// All tenants, checked against one another. Immutable.
#[derive(Debug, Default)]
pub struct TenantMap {
    /// Sorted by name.
    tenants: Vec<Tenant>,
    /// Positions of the tenants that use a bundle, by the bundle's name.
    bundles: BTreeMap<String, Vec<usize>>,
    digest: [u8; 32],
}

#[derive(Debug)]
struct Tenant {
    definition: TenantDefinition,
    /// Of the definition's `matches`, in their order.
    rules: Vec<Rule>,
}

impl TenantMap {
    /// Checks the definitions one by one and in pairs. Takes time in proportion to the pairs of rules that share a
    /// bundle; do it when a configuration is loaded.
    ///
    /// # Errors
    /// All rules that are malformed or match too much; then, if there are none, all pairs of tenants of which one
    /// certificate value could belong to both, one pair of rules each. [`TENANT_ERRORS_MAX`] at most.
    pub fn build(mut definitions: Vec<TenantDefinition>) -> Result<Self, Vec<TenantError>> {
        definitions.sort_by(|a, b| a.name.cmp(&b.name));
        let mut errors = Vec::new();
        for pair in definitions.windows(2).filter(|pair| pair[0].name == pair[1].name) {
            errors.push(TenantError::Duplicate { tenant: pair[0].name.clone() });
        }
        let mut tenants = Vec::with_capacity(definitions.len());
        for definition in definitions {
            match Tenant::new(definition) {
                Ok(tenant) => tenants.push(tenant),
                Err(of_tenant) => errors.extend(of_tenant),
            }
        }
        let bundles = bundles(&tenants);
        if errors.is_empty() {
            errors = conflicts(&tenants, &bundles);
        }
        if errors.is_empty() {
            let digest = digest_of(&tenants);
            Ok(Self { tenants, bundles, digest })
        } else {
            errors.truncate(TENANT_ERRORS_MAX);
            Err(errors)
        }
    }

    /// The tenant of a peer whose chain was verified against the bundle of this name.
    ///
    /// Looks at every rule of every tenant of the bundle; do it once for each chain, not for each request.
    pub fn assign(&self, bundle: &str, peer: &PeerIdentity) -> Assignment {
        let Some(users) = self.bundles.get(bundle) else { return Assignment::None };
        // Our own text; should it ever not be readable, no rule on issuers matches.
        let issuer = NameParts::parse(peer.issuer()).ok();
        let claims = users.iter().filter_map(|&index| {
            let tenant = &self.tenants[index];
            Some((tenant, tenant.claim(peer, issuer.as_ref())?))
        });
        let claims: Vec<_> = claims.collect();
        match claims.as_slice() {
            [] => Assignment::None,
            [(tenant, rule)] => tenant.assignment(peer, *rule),
            several => {
                Assignment::Ambiguous(several.iter().map(|(t, _)| t.definition.name.clone()).collect())
            }
        }
    }

    /// All tenants, sorted by name.
    pub fn definitions(&self) -> impl ExactSizeIterator<Item = &TenantDefinition> {
        self.tenants.iter().map(|tenant| &tenant.definition)
    }

    /// The tenant of this name.
    pub fn definition(&self, name: &str) -> Option<&TenantDefinition> {
        let index = self.tenants.binary_search_by(|tenant| (*tenant.definition.name).cmp(name)).ok()?;
        Some(&self.tenants[index].definition)
    }

    /// SHA-256 over everything that decides an assignment. The order of tenants, bundles and rules does not count.
    pub fn digest(&self) -> [u8; 32] {
        self.digest
    }
}

impl Tenant {
    fn new(definition: TenantDefinition) -> Result<Self, Vec<TenantError>> {
        let mut errors = Vec::new();
        if definition.trust.is_empty() {
            errors.push(TenantError::NoTrust { tenant: definition.name.clone() });
        }
        let mut rules = Vec::with_capacity(definition.matches.len());
        for (index, written) in definition.matches.iter().enumerate() {
            match Rule::new(written) {
                Ok(rule) => rules.push(rule),
                Err(problem) => {
                    let rule =
                        TenantRule { tenant: definition.name.clone(), index, text: written.to_string() };
                    errors.push(TenantError::Rule { rule, problem });
                }
            }
        }
        if errors.is_empty() { Ok(Self { definition, rules }) } else { Err(errors) }
    }

    /// The outer option: whether the peer is claimed; the inner: by which rule.
    #[expect(
        clippy::option_option,
        reason = "claimed without a rule is neither claimed by one nor unclaimed"
    )]
    fn claim(&self, peer: &PeerIdentity, issuer: Option<&NameParts>) -> Option<Option<usize>> {
        if self.rules.is_empty() {
            return Some(None);
        }
        self.rules.iter().position(|rule| rule.matches(peer, issuer)).map(Some)
    }

    fn assignment(&self, peer: &PeerIdentity, rule: Option<usize>) -> Assignment {
        let (name, source) = (self.definition.name.clone(), self.definition.identity);
        match source.identity(peer) {
            Some(identity) => Assignment::Tenant { name, identity: identity.into(), rule },
            None => Assignment::NoIdentity { name, source },
        }
    }

    fn rule(&self, index: usize) -> TenantRule {
        let text = self.definition.matches[index].to_string();
        TenantRule { tenant: self.definition.name.clone(), index, text }
    }
}

impl IdentitySource {
    /// As in a configuration file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::SpiffeId => "spiffe_id",
            Self::SanUri => "san_uri",
            Self::SanDns => "san_dns",
            Self::SanEmail => "san_email",
            Self::CommonName => "common_name",
            Self::Fingerprint => "fingerprint",
        }
    }

    /// The value, if there is exactly one and it is not empty.
    fn identity(self, peer: &PeerIdentity) -> Option<&str> {
        let value = match self {
            Self::Name => Some(peer.name()),
            Self::SpiffeId => peer.spiffe_id().map(|id| id.as_str()),
            Self::SanUri => only(peer.san_uris()),
            Self::SanDns => only(peer.san_dns()),
            Self::SanEmail => only(peer.san_emails()),
            Self::CommonName => only(peer.common_names()),
            Self::Fingerprint => Some(peer.fingerprint_hex()),
        };
        value.filter(|value| !value.is_empty())
    }
}

fn only(values: &[String]) -> Option<&str> {
    match values {
        [only] => Some(only),
        _ => None,
    }
}

impl fmt::Display for IdentitySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One rule of one tenant, for messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TenantRule {
    /// The tenant's name.
    pub tenant: Arc<str>,
    /// Position in [`TenantDefinition::matches`].
    pub index: usize,
    /// The rule as in a configuration file.
    pub text: String,
}

impl fmt::Display for TenantRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` of tenant `{}`", self.text, self.tenant)
    }
}

/// Why tenants cannot be told apart, or one cannot work at all.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TenantError {
    /// Two definitions have one name.
    #[error("there are two tenants named `{tenant}`; give each a name of its own")]
    Duplicate {
        /// The name.
        tenant: Arc<str>,
    },
    /// The definition names no bundle.
    #[error("tenant `{tenant}` names no trust bundle, so nobody could belong to it; name one in `trust`")]
    NoTrust {
        /// The tenant's name.
        tenant: Arc<str>,
    },
    /// A rule is malformed, could never match, or matches too much.
    #[error("the rule {rule} {problem}")]
    Rule {
        /// The rule.
        rule: TenantRule,
        /// What is wrong, and what to write.
        problem: &'static str,
    },
    /// A tenant that owns its bundles shares one.
    #[error(
        "tenant `{owner}` has no rule and so owns every certificate of the trust bundle `{bundle}`, which tenant \
         `{other}` uses too; give `{owner}` a rule, or each a bundle of its own"
    )]
    OwnsAll {
        /// The bundle's name.
        bundle: String,
        /// The tenant without a rule.
        owner: Arc<str>,
        /// The other tenant.
        other: Arc<str>,
    },
    /// Two rules look at different parts of a certificate, so one that has both parts could match both.
    #[error(
        "the tenants share the trust bundle `{bundle}`, but the rules {first} and {second} look at different parts \
         of a certificate, so that one could match both; give each tenant a bundle of its own, or both tenants \
         rules of the same kind"
    )]
    DifferentKinds {
        /// The bundle's name.
        bundle: String,
        /// A rule of the one tenant.
        first: TenantRule,
        /// A rule of the other tenant.
        second: TenantRule,
    },
    /// One value could match rules of two tenants.
    #[error(
        "the tenants share the trust bundle `{bundle}`, but a certificate could match both the rule {first} and the \
         rule {second}; make the rules exclude each other, or give each tenant a bundle of its own"
    )]
    Overlap {
        /// The bundle's name.
        bundle: String,
        /// A rule of the one tenant.
        first: TenantRule,
        /// A rule of the other tenant.
        second: TenantRule,
    },
}

impl TenantError {
    /// The tenant, and the rule by its position, where the message belongs. For two tenants, those of the second.
    pub fn place(&self) -> (&str, Option<usize>) {
        match self {
            Self::Duplicate { tenant } | Self::NoTrust { tenant } => (tenant, None),
            Self::OwnsAll { owner, .. } => (owner, None),
            Self::Rule { rule, .. }
            | Self::DifferentKinds { second: rule, .. }
            | Self::Overlap { second: rule, .. } => (&rule.tenant, Some(rule.index)),
        }
    }
}

fn bundles(tenants: &[Tenant]) -> BTreeMap<String, Vec<usize>> {
    let mut bundles: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (index, tenant) in tenants.iter().enumerate() {
        for bundle in tenant.definition.trust.iter().collect::<BTreeSet<_>>() {
            bundles.entry(bundle.clone()).or_default().push(index);
        }
    }
    bundles
}

/// One error for each pair of tenants that could claim one certificate.
fn conflicts(tenants: &[Tenant], bundles: &BTreeMap<String, Vec<usize>>) -> Vec<TenantError> {
    let mut errors = Vec::new();
    let mut reported = BTreeSet::new();
    for (bundle, users) in bundles {
        for (position, &first) in users.iter().enumerate() {
            for &second in &users[position + 1..] {
                if errors.len() == TENANT_ERRORS_MAX {
                    return errors;
                }
                let conflict = conflict(bundle, &tenants[first], &tenants[second]);
                if let Some(error) = conflict.filter(|_| reported.insert((first, second))) {
                    errors.push(error);
                }
            }
        }
    }
    errors
}

fn conflict(bundle: &str, a: &Tenant, b: &Tenant) -> Option<TenantError> {
    if let Some((owner, other)) = [(a, b), (b, a)].into_iter().find(|(owner, _)| owner.rules.is_empty()) {
        let (owner, other) = (owner.definition.name.clone(), other.definition.name.clone());
        return Some(TenantError::OwnsAll { bundle: bundle.to_owned(), owner, other });
    }
    for (one, rule) in a.rules.iter().enumerate() {
        for (two, other) in b.rules.iter().enumerate() {
            let (bundle, first, second) = (|| bundle.to_owned(), || a.rule(one), || b.rule(two));
            if rule.kind() != other.kind() {
                let (bundle, first, second) = (bundle(), first(), second());
                return Some(TenantError::DifferentKinds { bundle, first, second });
            }
            if rule.overlaps(other) {
                return Some(TenantError::Overlap { bundle: bundle(), first: first(), second: second() });
            }
        }
    }
    None
}

fn digest_of(tenants: &[Tenant]) -> [u8; 32] {
    let mut context = digest::Context::new(&digest::SHA256);
    // Every text with its length and every list with its count, so that no two maps give the same octets.
    let mut text = |text: &str| {
        context.update(&(text.len() as u64).to_be_bytes());
        context.update(text.as_bytes());
    };
    text("ringward tenants 1");
    for tenant in tenants {
        let definition = &tenant.definition;
        text(&definition.name);
        text(definition.identity.as_str());
        for list in [
            definition.trust.iter().cloned().collect::<BTreeSet<_>>(),
            definition.matches.iter().map(ToString::to_string).collect(),
        ] {
            text(&list.len().to_string());
            list.iter().for_each(|item| text(item));
        }
    }
    context.finish().as_ref().try_into().expect("SHA-256 has 32 octets")
}

/// How many errors are reported at once: more tell an operator nothing, and thousands of tenants have millions
/// of pairs.
pub const TENANT_ERRORS_MAX: usize = 100;

#[cfg(test)]
mod tests;
