//! A rule and its conditions, and whether a request matches them. Nothing here allocates.

use ringward_config::{HostPattern, PathPattern};

use crate::input::facts::Facts;
use crate::input::view::RequestView;
use crate::matcher::raw::Effect;
use crate::problem::Place;

/// A rule of a table.
#[derive(Debug)]
pub(super) struct Rule {
    pub(super) name: Box<str>,
    pub(super) effect: Effect,
    pub(super) reason: Option<Box<str>>,
    pub(super) status: Option<u16>,
    pub(super) conditions: Conditions,
    /// Where it begins.
    pub(super) at: Place,
}

/// What has to hold; what is empty or absent holds always.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Conditions {
    pub(super) verified: Option<bool>,
    pub(super) client: Vec<ClientCondition>,
    pub(super) methods: Words,
    pub(super) paths: Vec<PathPattern>,
    pub(super) hosts: Vec<HostPattern>,
    pub(super) routes: Words,
    /// By name in lower case, each once.
    pub(super) headers: Vec<(Box<str>, Words)>,
}

/// A condition on one kind of name that a client has.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ClientCondition {
    pub(super) claim: Claim,
    pub(super) exact: Words,
    /// Beginnings that end in `/`; of SPIFFE IDs only.
    pub(super) under: Words,
}

/// The kinds of names that a client has, those first that tell clients apart best.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Claim {
    Fingerprint,
    SpiffeId,
    Identity,
    Uri,
    Email,
    Dns,
    CommonName,
    Tenant,
    OrganizationalUnit,
    Organization,
}

/// A sorted set of texts.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Words(Box<[Box<str>]>);

impl Rule {
    /// Whether the request matches all conditions but those on its path, which the index has looked at.
    pub(super) fn matches_beside_path(&self, facts: &Facts, request: &RequestView<'_>) -> bool {
        let Conditions { verified, client, methods, hosts, routes, headers, paths: _ } = &self.conditions;
        verified.is_none_or(|wanted| wanted == facts.verified)
            && (methods.is_empty() || methods.contains(request.method))
            && (routes.is_empty() || routes.contains(request.route.id))
            && client.iter().all(|condition| condition.holds(facts, self.effect))
            && (hosts.is_empty() || hosts.iter().any(|host| host.matches(request.host)))
            && headers.iter().all(|(name, values)| header_holds(name, values, request, self.effect))
    }
}

impl ClientCondition {
    fn holds(&self, facts: &Facts, effect: Effect) -> bool {
        let values = self.claim.values(facts);
        // Which of several common names is meant nobody can say, so none of them is good for anything; but each is bad enough.
        if self.claim == Claim::CommonName && effect == Effect::Allow && values.len() > 1 {
            return false;
        }
        values.iter().any(|value| {
            self.exact.contains(value)
                || !self.under.is_empty() && beginnings(value).any(|beginning| self.under.contains(beginning))
        })
    }
}

/// Fields may be repeated and mean a list then, which may also stand in one field, with commas (RFC 9110 §5.3). What is allowed
/// for one value is not allowed for others beside it; what is denied for one value stays denied whatever is beside it.
fn header_holds(name: &str, values: &Words, request: &RequestView<'_>, effect: Effect) -> bool {
    let (mut listed, mut others) = (false, false);
    request.headers.values(name, &mut |value| match values.contains(value) {
        true => listed = true,
        false if effect == Effect::Deny => {
            listed |= value.split(',').any(|part| values.contains(part.trim_matches([' ', '\t'])));
        }
        false => others = true,
    });
    listed && !others
}

impl Claim {
    /// The names of this kind that a client has.
    pub(super) fn values(self, facts: &Facts) -> Values<'_> {
        match self {
            Self::Fingerprint => Values::One(&facts.fingerprint_sha256),
            Self::SpiffeId => Values::One(&facts.spiffe_id),
            Self::Identity => Values::One(&facts.identity),
            Self::Tenant => Values::One(&facts.tenant),
            Self::Uri => Values::Many(&facts.uris),
            Self::Email => Values::Many(&facts.emails),
            Self::Dns => Values::Many(&facts.dns),
            Self::CommonName => Values::Many(&facts.common_names),
            Self::OrganizationalUnit => Values::Many(&facts.organizational_units),
            Self::Organization => Values::Many(&facts.organizations),
        }
    }

    /// Its path in the input of policies.
    pub(super) fn input_path(self) -> &'static str {
        match self {
            Self::Fingerprint => "client.fingerprint_sha256",
            Self::SpiffeId => "client.spiffe_id",
            Self::Identity => "client.identity",
            Self::Tenant => "client.tenant",
            Self::Uri => "client.san.uri",
            Self::Email => "client.san.email",
            Self::Dns => "client.san.dns",
            Self::CommonName => "client.subject.common_names",
            Self::OrganizationalUnit => "client.subject.organizational_units",
            Self::Organization => "client.subject.organizations",
        }
    }
}

/// The names of one kind of one client.
#[derive(Clone, Copy)]
pub(super) enum Values<'f> {
    /// One, or none if it is empty.
    One(&'f str),
    Many(&'f [String]),
}

impl<'f> Values<'f> {
    fn len(self) -> usize {
        self.iter().count()
    }

    pub(super) fn iter(self) -> impl Iterator<Item = &'f str> {
        let (one, many): (Option<&str>, &[String]) = match self {
            Self::One(text) => (Some(text).filter(|text| !text.is_empty()), &[]),
            Self::Many(texts) => (None, texts),
        };
        one.into_iter().chain(many.iter().map(String::as_str))
    }
}

/// The beginnings of a SPIFFE ID that end before one of its segments: `spiffe://a/`, `spiffe://a/b/` for `spiffe://a/b/c`.
pub(super) fn beginnings(spiffe_id: &str) -> impl Iterator<Item = &str> {
    let slashes = spiffe_id.bytes().enumerate().skip(SCHEME.len()).filter(|(_, byte)| *byte == b'/');
    slashes.map(|(at, _)| &spiffe_id[..=at])
}

impl Words {
    pub(super) fn new(words: impl IntoIterator<Item = String>) -> Self {
        let mut words: Vec<Box<str>> = words.into_iter().map(String::into_boxed_str).collect();
        words.sort_unstable();
        words.dedup();
        Self(words.into())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn contains(&self, word: &str) -> bool {
        match &*self.0 {
            few if few.len() <= FEW_WORDS_MAX => few.iter().any(|known| **known == *word),
            many => many.binary_search_by(|known| (**known).cmp(word)).is_ok(),
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(AsRef::as_ref)
    }
}

/// Comparing one by one is quicker than searching up to here: most words differ in length.
const FEW_WORDS_MAX: usize = 8;
const SCHEME: &str = "spiffe://";
