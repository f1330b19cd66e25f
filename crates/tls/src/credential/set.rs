//! The certificates of one host, and which of them a client is shown.

use std::sync::Arc;

use rustls::SignatureScheme;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::time_provider::TimeProvider;

use super::Credential;
use crate::certificate::unix_seconds;
use crate::trust::KeyKind;

/// The credentials of a host, at most one of each kind of key. Each client is shown the cheapest that it can verify.
#[derive(Clone, Debug)]
pub struct CredentialSet {
    /// The cheapest first; not empty.
    credentials: Vec<Arc<Credential>>,
}

/// Why some credentials cannot be those of one host.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CredentialSetError {
    /// There are none.
    #[error("the host has no certificate; add `certificate = {{ chain = \"...\", key = \"...\" }}`")]
    Empty,
    /// No client would ever be shown the second one.
    #[error(
        "the host has two certificates with keys of the kind {kind}, `{first}` and `{second}`; no client would be \
         shown the second, so remove one, or give it a key of another kind"
    )]
    SameKind {
        /// The kind.
        kind: KeyKind,
        /// Subject of one.
        first: String,
        /// Subject of the other.
        second: String,
    },
}

impl CredentialSet {
    /// Puts credentials together, in any order.
    ///
    /// # Errors
    ///
    /// [`CredentialSetError`].
    pub fn new(mut credentials: Vec<Arc<Credential>>) -> Result<Self, CredentialSetError> {
        if credentials.is_empty() {
            return Err(CredentialSetError::Empty);
        }
        credentials.sort_by_key(|credential| cost(credential.key_kind()));
        if let Some([first, second]) =
            credentials.array_windows().find(|[first, second]| first.key_kind() == second.key_kind())
        {
            return Err(CredentialSetError::SameKind {
                kind: first.key_kind(),
                first: first.subject().to_owned(),
                second: second.subject().to_owned(),
            });
        }
        Ok(Self { credentials })
    }

    /// The credentials, the cheapest first.
    pub fn credentials(&self) -> &[Arc<Credential>] {
        &self.credentials
    }

    /// What rustls asks in each handshake. A staple is shown by `clock` until it is too old.
    pub(crate) fn resolver(&self, clock: Arc<dyn TimeProvider>) -> Arc<dyn ResolvesServerCert> {
        let choices = self.credentials.iter().map(|credential| Choice::new(credential)).collect();
        Arc::new(Resolver { choices, clock })
    }
}

#[derive(Debug)]
struct Resolver {
    /// The cheapest first; not empty.
    choices: Vec<Choice>,
    clock: Arc<dyn TimeProvider>,
}

#[derive(Debug)]
struct Choice {
    schemes: &'static [SignatureScheme],
    plain: Arc<CertifiedKey>,
    stapled: Option<Stapled>,
    requires_staple: bool,
}

#[derive(Debug)]
struct Stapled {
    key: Arc<CertifiedKey>,
    /// Shown before this second, seconds since 1970.
    usable_until: i64,
}

impl Choice {
    fn new(credential: &Credential) -> Self {
        let plain = credential.certified_key().clone();
        let stapled = credential.staple().map(|staple| {
            let ocsp = Some(staple.der().to_vec());
            let key = Arc::new(CertifiedKey { ocsp, ..CertifiedKey::clone(&plain) });
            Stapled { key, usable_until: staple.usable_until_unix() }
        });
        let schemes = schemes(credential.key_kind());
        Self { schemes, plain, stapled, requires_staple: credential.requires_staple() }
    }

    fn suits(&self, offered: &[SignatureScheme]) -> bool {
        offered.iter().any(|scheme| self.schemes.contains(scheme))
    }

    /// With its staple, as long as that is worth something.
    fn stapled_at(&self, now: Option<i64>) -> Option<&Arc<CertifiedKey>> {
        let stapled = self.stapled.as_ref()?;
        // Without a clock nobody knows how old it is.
        (now? < stapled.usable_until).then_some(&stapled.key)
    }
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let offered = hello.signature_schemes();
        let now = self.clock.current_time().map(unix_seconds);
        let mut bare = None;
        for choice in self.choices.iter().filter(|choice| choice.suits(offered)) {
            match choice.stapled_at(now) {
                Some(key) => return Some(key.clone()),
                None if !choice.requires_staple => return Some(choice.plain.clone()),
                // Its clients may refuse it, so another is better, and it is better than none.
                None => bare = bare.or(Some(&choice.plain)),
            }
        }
        // With one that does not suit, rustls finds the right words for the client.
        Some(bare.unwrap_or(&self.choices[0].plain).clone())
    }
}

/// The order in which kinds of keys are preferred, by what a signature costs us: 12 µs with P-256, 6 µs with Ed25519,
/// 150 µs with P-384, 280 µs with P-521, 440 µs with RSA-2048. P-256 is first all the same: clients verify it faster.
fn cost(kind: KeyKind) -> u8 {
    match kind {
        KeyKind::EcdsaP256 => 0,
        KeyKind::Ed25519 => 1,
        KeyKind::EcdsaP384 => 2,
        KeyKind::EcdsaP521 => 3,
        KeyKind::Rsa => 4,
    }
}

/// What a key of this kind signs with, in TLS 1.3 or 1.2.
fn schemes(kind: KeyKind) -> &'static [SignatureScheme] {
    use SignatureScheme as Scheme;
    match kind {
        KeyKind::EcdsaP256 => &[Scheme::ECDSA_NISTP256_SHA256],
        KeyKind::EcdsaP384 => &[Scheme::ECDSA_NISTP384_SHA384],
        KeyKind::EcdsaP521 => &[Scheme::ECDSA_NISTP521_SHA512],
        KeyKind::Ed25519 => &[Scheme::ED25519],
        KeyKind::Rsa => &[
            Scheme::RSA_PSS_SHA256,
            Scheme::RSA_PSS_SHA384,
            Scheme::RSA_PSS_SHA512,
            Scheme::RSA_PKCS1_SHA256,
            Scheme::RSA_PKCS1_SHA384,
            Scheme::RSA_PKCS1_SHA512,
        ],
    }
}

#[cfg(test)]
mod tests;
