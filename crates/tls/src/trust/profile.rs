//! What the certificates of a path have to look like, beyond being valid.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use ringward_identity::ObjectId;

use crate::certificate::{Certificate, PublicKey};
use crate::digest::FieldHasher;
use crate::failure::HandshakeReason;

use super::rules::Violation;

/// Rules for the certificates of a path. The default admits whatever TLS can verify.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// Kinds of key that the leaf and the intermediates may have. Empty: every [`KeyKind`]. The anchor was chosen by the
    /// operator and is not looked at.
    pub keys: Vec<KeyKind>,
    /// Shortest RSA key of the leaf and the intermediates, in bits. TLS takes none below [`RSA_BITS_MIN_DEFAULT`] anyway.
    pub rsa_bits_min: usize,
    /// Certificate policies of which the leaf must carry one by name (anyPolicy does not count), and which no
    /// intermediate on its path may exclude by listing others only. Empty: none is asked for.
    pub policies: Vec<ObjectId>,
    /// Most intermediates between leaf and anchor.
    pub path_length_max: Option<usize>,
    /// Longest time from notBefore to notAfter of the leaf.
    pub leaf_lifetime_max: Option<Duration>,
}

/// The kinds of key that TLS can verify.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum KeyKind {
    /// ECDSA on P-256.
    EcdsaP256,
    /// ECDSA on P-384.
    EcdsaP384,
    /// ECDSA on P-521.
    EcdsaP521,
    /// Ed25519.
    Ed25519,
    /// RSA of any length.
    Rsa,
}

/// The shortest RSA key that TLS takes, and the default of [`Profile::rsa_bits_min`].
pub const RSA_BITS_MIN_DEFAULT: usize = 2048;

impl KeyKind {
    /// Every kind.
    pub const ALL: [Self; 5] = [Self::EcdsaP256, Self::EcdsaP384, Self::EcdsaP521, Self::Ed25519, Self::Rsa];

    /// As in a configuration file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::EcdsaP256 => "ecdsa-p256",
            Self::EcdsaP384 => "ecdsa-p384",
            Self::EcdsaP521 => "ecdsa-p521",
            Self::Ed25519 => "ed25519",
            Self::Rsa => "rsa",
        }
    }
}

impl fmt::Display for KeyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for KeyKind {
    type Err = UnknownKeyKind;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.as_str() == name)
            .ok_or_else(|| UnknownKeyKind(name.to_owned()))
    }
}

/// A text that names no [`KeyKind`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a kind of key; write ecdsa-p256, ecdsa-p384, ecdsa-p521, ed25519 or rsa")]
pub struct UnknownKeyKind(pub String);

impl Default for Profile {
    fn default() -> Self {
        Self {
            keys: Vec::new(),
            rsa_bits_min: RSA_BITS_MIN_DEFAULT,
            policies: Vec::new(),
            path_length_max: None,
            leaf_lifetime_max: None,
        }
    }
}

impl Profile {
    /// Whether a path may look like this: leaf first, without the anchor.
    pub(super) fn check(&self, path: &[Certificate<'_>]) -> Result<(), Violation> {
        let (leaf, intermediates) = path.split_first().expect("a path starts with a leaf");
        if let Some(max) = self.path_length_max.filter(|max| intermediates.len() > *max) {
            return Err(Violation::new(
                HandshakeReason::ConstraintViolation,
                format!(
                    "{} intermediates lead to the anchor, at most {max} may (`path_length_max`)",
                    intermediates.len()
                ),
            ));
        }
        path.iter().try_for_each(|certificate| self.check_key(certificate))?;
        self.check_lifetime(leaf)?;
        self.check_policies(leaf, intermediates)
    }

    fn check_key(&self, certificate: &Certificate<'_>) -> Result<(), Violation> {
        let refuse = |what: String| {
            let message = format!("the key of `{}` is {what}", certificate.subject());
            Err(Violation::new(HandshakeReason::KeyNotAllowed, message))
        };
        let Some(PublicKey { kind, bits }) = certificate.public_key() else {
            return refuse("of a kind that TLS cannot verify".to_owned());
        };
        if !self.keys.is_empty() && !self.keys.contains(&kind) {
            let allowed: Vec<_> = self.keys.iter().map(|kind| kind.as_str()).collect();
            return refuse(format!("{kind}, and allowed is {} (`profile.keys`)", allowed.join(", ")));
        }
        if kind == KeyKind::Rsa && bits < self.rsa_bits_min {
            let min = self.rsa_bits_min;
            return refuse(format!(
                "RSA of {bits} bits, and at least {min} are asked for (`profile.rsa_bits_min`)"
            ));
        }
        Ok(())
    }

    fn check_lifetime(&self, leaf: &Certificate<'_>) -> Result<(), Violation> {
        let Some(max) = self.leaf_lifetime_max else { return Ok(()) };
        let lifetime = leaf.not_after_unix().saturating_sub(leaf.not_before_unix());
        // A negative lifetime belongs to a certificate that is never valid.
        if u64::try_from(lifetime).is_ok_and(|lifetime| lifetime <= max.as_secs()) {
            return Ok(());
        }
        Err(Violation::new(
            HandshakeReason::LifetimeTooLong,
            format!(
                "the leaf is valid for {lifetime} s, at most {} s are allowed (`profile.leaf_lifetime_max`)",
                max.as_secs()
            ),
        ))
    }

    /// RFC 5280 §6.1 without policy mapping, and with one thing more lenient: an intermediate without
    /// certificatePolicies restricts nothing, as few private CAs give their intermediates any.
    fn check_policies(
        &self,
        leaf: &Certificate<'_>,
        intermediates: &[Certificate<'_>],
    ) -> Result<(), Violation> {
        if self.policies.is_empty() {
            return Ok(());
        }
        let malformed = |message| Violation::new(HandshakeReason::BadCertificate, message);
        let mut carried = leaf.policies().map_err(malformed)?.unwrap_or_default();
        carried.retain(|policy| self.policies.iter().any(|wanted| wanted.as_str() == policy));
        for intermediate in intermediates {
            let Some(granted) = intermediate.policies().map_err(malformed)? else { continue };
            carried.retain(|policy| granted.contains(policy) || granted.iter().any(|oid| oid == ANY_POLICY));
        }
        if carried.is_empty() {
            let wanted: Vec<_> = self.policies.iter().map(ObjectId::as_str).collect();
            let message = format!(
                "the leaf carries none of the certificate policies {} (`profile.policies`), or its issuer may not give it",
                wanted.join(", ")
            );
            return Err(Violation::new(HandshakeReason::PolicyOidMissing, message));
        }
        Ok(())
    }

    pub(super) fn digest(&self, hasher: &mut FieldHasher) {
        let Self { keys, rsa_bits_min, policies, path_length_max, leaf_lifetime_max } = self;
        hasher.set(keys.iter().map(|kind| kind.as_str().as_bytes()));
        hasher.number(*rsa_bits_min as u64);
        hasher.set(policies.iter().map(|policy| policy.as_str().as_bytes()));
        hasher.optional_number(path_length_max.map(|max| max as u64));
        hasher.optional_number(leaf_lifetime_max.map(|max| max.as_secs()));
    }

    /// True if every path that passes this profile passes `other` too.
    pub(super) fn is_at_least_as_strict_as(&self, other: &Self) -> bool {
        let Self { keys, rsa_bits_min, policies, path_length_max, leaf_lifetime_max } = self;
        within(keys, &other.keys)
            && *rsa_bits_min >= other.rsa_bits_min
            && within(policies, &other.policies)
            && at_most(*path_length_max, other.path_length_max)
            && at_most(*leaf_lifetime_max, other.leaf_lifetime_max)
    }
}

/// True if what `ours` allows is allowed by `theirs`, where an empty list allows everything.
pub(super) fn within<T: PartialEq>(ours: &[T], theirs: &[T]) -> bool {
    theirs.is_empty() || (!ours.is_empty() && ours.iter().all(|item| theirs.contains(item)))
}

fn at_most<T: PartialOrd>(ours: Option<T>, theirs: Option<T>) -> bool {
    match (ours, theirs) {
        (_, None) => true,
        (None, Some(_)) => false,
        (Some(ours), Some(theirs)) => ours <= theirs,
    }
}

/// RFC 5280 §4.2.1.4: anyPolicy.
const ANY_POLICY: &str = "2.5.29.32.0";

#[cfg(test)]
mod tests;
