//! The rules that a trust bundle adds to "some anchor vouches for it".

use crate::certificate::Certificate;
use crate::digest::{FieldHasher, sha256};
use crate::failure::HandshakeReason;
use crate::revocation::{CrlMode, RevocationDepth, RevocationPolicy, StalePolicy};

use super::anchors::Anchor;
use super::profile::{Profile, within};

/// What a `[trust.NAME]` section says beside its CAs. The default adds no rule.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustOptions {
    /// The SPIFFE trust domain that the bundle speaks for: it admits leaves of this domain only, and they are
    /// verified against bundles of this domain only, so that no other CA of the host can mint its identities
    /// (X509-SVID §6).
    pub spiffe_trust_domain: Option<String>,
    /// SHA-256 of SubjectPublicKeyInfos, of which the verified path must have one, anchor included. Empty: no pins.
    pub pins: Vec<[u8; 32]>,
    /// What certificates have to look like.
    pub profile: Profile,
    /// Name the CAs to clients that are asked for a certificate, which tells strangers whom the host trusts. Decides
    /// about nobody's admission.
    pub hints: bool,
    /// What is asked of revocation data for the paths of this bundle.
    pub revocation: RevocationPolicy,
}

/// A path that verified and breaks a rule of the bundle that it leads to.
#[derive(Clone, Debug)]
pub(crate) struct Violation {
    pub(crate) reason: HandshakeReason,
    pub(crate) message: String,
}

impl Violation {
    pub(crate) fn new(reason: HandshakeReason, message: String) -> Self {
        Self { reason, message }
    }
}

impl TrustOptions {
    /// Whether a verified path keeps the rules: leaf first, each certificate issued by the next and the last by
    /// `anchor`.
    pub(crate) fn check(&self, path: &[Certificate<'_>], anchor: &Anchor) -> Result<(), Violation> {
        self.profile.check(path)?;
        self.check_pins(path, anchor)
    }

    fn check_pins(&self, path: &[Certificate<'_>], anchor: &Anchor) -> Result<(), Violation> {
        let pinned = |spki: &[u8; 32]| self.pins.contains(spki);
        if self.pins.is_empty()
            || pinned(&anchor.spki_sha256)
            || path.iter().any(|certificate| pinned(&sha256(certificate.spki_der())))
        {
            return Ok(());
        }
        let message = format!(
            "no key on the path from the leaf to `{}` is among the {} pinned ones (`pins`)",
            anchor.subject,
            self.pins.len()
        );
        Err(Violation::new(HandshakeReason::PinMismatch, message))
    }

    /// Hashes everything that decides about admission, and nothing else.
    pub(super) fn digest(&self, hasher: &mut FieldHasher) {
        let Self { spiffe_trust_domain, pins, profile, hints: _, revocation } = self;
        hasher.optional(spiffe_trust_domain.as_deref().map(str::as_bytes));
        hasher.set(pins.iter().map(<[u8; 32]>::as_slice));
        profile.digest(hasher);
        digest_revocation(revocation, hasher);
    }

    /// True if whatever keeps these rules keeps those of `other`.
    pub(super) fn is_at_least_as_strict_as(&self, other: &Self) -> bool {
        let Self { spiffe_trust_domain, pins, profile, hints: _, revocation } = self;
        // Neither of a bound and an unbound bundle is stricter: which one is asked depends on the leaf.
        *spiffe_trust_domain == other.spiffe_trust_domain
            && within(pins, &other.pins)
            && profile.is_at_least_as_strict_as(&other.profile)
            && revocation_is_at_least_as_strict(revocation, &other.revocation)
    }
}

fn digest_revocation(policy: &RevocationPolicy, hasher: &mut FieldHasher) {
    let RevocationPolicy { crl, stale, depth } = policy;
    hasher.number(match crl {
        CrlMode::Off => 0,
        CrlMode::IfPresent => 1,
        CrlMode::Required => 2,
    });
    hasher.optional_number(match stale {
        StalePolicy::Deny => None,
        StalePolicy::Allow(grace) => Some(grace.as_secs()),
    });
    hasher.number(match depth {
        RevocationDepth::Leaf => 0,
        RevocationDepth::Chain => 1,
    });
}

fn revocation_is_at_least_as_strict(ours: &RevocationPolicy, theirs: &RevocationPolicy) -> bool {
    let crl = match (ours.crl, theirs.crl) {
        (_, CrlMode::Off) => return true,
        (CrlMode::Off, _) | (CrlMode::IfPresent, CrlMode::Required) => false,
        (CrlMode::IfPresent | CrlMode::Required, _) => true,
    };
    let stale = match (ours.stale, theirs.stale) {
        (StalePolicy::Deny, _) => true,
        (StalePolicy::Allow(_), StalePolicy::Deny) => false,
        (StalePolicy::Allow(ours), StalePolicy::Allow(theirs)) => ours <= theirs,
    };
    let depth = ours.depth == RevocationDepth::Chain || theirs.depth == RevocationDepth::Leaf;
    crl && stale && depth
}

#[cfg(test)]
mod tests;
