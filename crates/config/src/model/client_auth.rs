//! What a virtual host wants of its clients.

use std::time::Duration;

use ringward_identity::ObjectId;

use crate::diagnostic::Location;
pub use crate::raw::{ClientAuthMode, OcspMode};
use crate::units::ShowDuration;

/// What the handshake of a virtual host wants of clients. Routes hold what applies to their requests.
#[derive(Clone, Debug)]
pub struct ClientAuth {
    /// How the handshake asks for a certificate: as the weakest route of the host does, or as the host's own `mode` says
    /// if it has no routes. With [`ClientAuthMode::Observe`] other routes may still want to know their clients, and
    /// refuse those whose certificates the handshake has let pass.
    pub handshake: ClientAuthMode,
    /// How certificates are verified; none exactly if `handshake` is [`ClientAuthMode::Off`].
    pub verification: Option<ClientVerification>,
}

/// How the certificates of clients are verified.
#[derive(Clone, Debug)]
pub struct ClientVerification {
    /// The names of the trust bundles, which exist, in the order in which they are tried; at least one, each once.
    pub trust: Vec<String>,
    /// The names of the tenants whose clients are admitted, which exist; if empty, every certificate is, with a tenant or
    /// without.
    pub tenants: Vec<String>,
    /// How many intermediates a client may send.
    pub intermediates_max: usize,
    /// Whether the extended key usage `clientAuth` must be present.
    pub require_eku: bool,
    /// Certificate extensions that policies get to see.
    pub extensions: Vec<ObjectId>,
    /// How long after its last full handshake a client is served.
    pub max_auth_age: Duration,
    /// Whether OCSP responders are asked, on routes that do not say otherwise.
    pub ocsp: OcspMode,
    /// How long a connection waits for the first answer about its certificate.
    pub ocsp_timeout: Duration,
    /// Where the trust bundles are named.
    pub at: Location,
}

impl ClientAuth {
    /// How certificates are verified, unless none is asked for.
    pub fn verification(&self) -> Option<&ClientVerification> {
        self.verification.as_ref()
    }

    /// Whether a client that passes `self` would pass `other` too, as far as the configuration can tell: the handshake
    /// asks at least as strictly, and, where `other` knows its clients, no further bundle is trusted, no further tenant is
    /// admitted and every other rule is at least as strict. This is a partial order: hosts with different trust are not
    /// laxer or stricter, they are different. Bundles are compared by name; whoever reads them can tell more.
    pub fn at_least_as_strict_as(&self, other: &Self) -> bool {
        self.laxer_than(other).is_none()
    }

    /// In which way `self` is laxer than `other`, or different from it; none if in no way.
    pub(crate) fn laxer_than(&self, other: &Self) -> Option<String> {
        let verifies = self.verification.is_some() || other.verification.is_none();
        if self.handshake < other.handshake || !verifies {
            let (here, there) = (self.handshake.as_str(), other.handshake.as_str());
            return Some(format!("its handshake has client_auth \"{here}\", the other's \"{there}\""));
        }
        // A handshake that refuses nobody lets everybody pass, whatever it trusts.
        if !other.handshake.identifies() {
            return None;
        }
        self.verification()?.laxer_than(other.verification()?)
    }
}

impl ClientVerification {
    fn laxer_than(&self, other: &Self) -> Option<String> {
        let trusted = |bundle: &String| other.trust.contains(bundle);
        if !self.trust.iter().all(trusted) {
            let (here, there) = (listed(&self.trust), listed(&other.trust));
            return Some(format!("its clients are trusted by {here}, the other's by {there}"));
        }
        let admitted = |tenant: &String| other.tenants.contains(tenant);
        if !other.tenants.is_empty() && (self.tenants.is_empty() || !self.tenants.iter().all(admitted)) {
            let here = if self.tenants.is_empty() { "any".to_owned() } else { listed(&self.tenants) };
            return Some(format!("it admits the tenants {here}, the other {}", listed(&other.tenants)));
        }
        let differs = |key: &str, here: &dyn std::fmt::Display, there: &dyn std::fmt::Display| {
            Some(format!("{key} is {here} here and {there} there"))
        };
        if self.intermediates_max > other.intermediates_max {
            return differs("intermediates_max", &self.intermediates_max, &other.intermediates_max);
        }
        if !self.require_eku && other.require_eku {
            return differs("require_eku", &false, &true);
        }
        if self.max_auth_age > other.max_auth_age {
            let (here, there) = (ShowDuration(self.max_auth_age), ShowDuration(other.max_auth_age));
            return differs("max_auth_age", &here, &there);
        }
        if self.ocsp < other.ocsp {
            return differs("ocsp", &self.ocsp.as_str(), &other.ocsp.as_str());
        }
        None
    }
}

fn listed(names: &[String]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("{name:?}")).collect();
    quoted.join(" and ")
}
