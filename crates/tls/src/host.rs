//! The TLS side of a virtual host: its credential, whom it admits, and how strict that is compared with
//! others.
//!
//! Hides how a rustls server configuration is put together. What is fixed for every host: TLS 1.3 only,
//! HTTP/1 only, no session tickets, no resumption, no early data, no data before the client's Finished.

use std::rc::Rc;
use std::sync::Arc;

use ringward_identity::{IdentityOptions, PeerIdentity};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::NoServerSessionStorage;
use rustls::server::danger::ClientCertVerifier;
use rustls::sign::SingleCertAndKey;
use rustls::time_provider::{DefaultTimeProvider, TimeProvider};
use rustls::{ServerConfig, version};
use rustls_pki_types::CertificateDer;

use crate::credential::Credential;
use crate::digest::FieldHasher;
use crate::failure::{HandshakeFailure, HandshakeReason};
use crate::memo::PathMemo;
use crate::session::ServerSession;
use crate::trust::TrustBundle;
use crate::verifier::{CHAIN_BYTES_MAX, ClientAuth, ClientVerifier, VerdictSlot};

/// Default bound on presented intermediates. Each one beyond a path's need costs a stranger nothing and us a
/// signature check; real hierarchies have one or two.
pub const INTERMEDIATES_MAX_DEFAULT: usize = 4;

/// Whether clients are asked for a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ClientAuthMode {
    /// Not asked. Every client is anonymous.
    Off,
    /// Asked. A client without one is anonymous, one with a bad one is refused.
    Optional,
    /// Asked. A client without a good one is refused.
    Required,
}

/// Settings of a virtual host that decide whom it admits.
#[derive(Clone, Debug)]
pub struct HostTlsOptions {
    /// Whether clients are asked for a certificate.
    pub mode: ClientAuthMode,
    /// Most intermediates a client may present.
    pub intermediates_max: usize,
    /// Refuse a leaf without extendedKeyUsage. One that has it must list clientAuth in any case.
    pub require_eku: bool,
    /// What is read into the identities of this host's clients.
    pub identity: IdentityOptions,
    /// The clock that validity is judged by.
    pub clock: Arc<dyn TimeProvider>,
}

impl HostTlsOptions {
    /// The strict defaults for `mode`, on the system clock.
    pub fn new(mode: ClientAuthMode) -> Self {
        Self {
            mode,
            intermediates_max: INTERMEDIATES_MAX_DEFAULT,
            require_eku: true,
            identity: IdentityOptions::default(),
            clock: Arc::new(DefaultTimeProvider),
        }
    }
}

/// Why a host's TLS configuration cannot be built.
#[derive(Clone, Debug, thiserror::Error)]
pub enum TlsBuildError {
    /// Client authentication without anyone to trust.
    #[error("client_auth is on but names no trust bundle; add `trust = \"...\"` or set `mode = \"off\"`")]
    NoTrust,
    /// rustls refused the combination.
    #[error("rustls refused the configuration: {0}")]
    Rustls(#[from] rustls::Error),
}

/// The immutable TLS side of a virtual host, part of a snapshot and shared by all workers.
#[derive(Debug)]
pub struct HostTls {
    mode: ClientAuthMode,
    auth: Option<Arc<ClientAuth>>,
    credential: Arc<Credential>,
    clock: Arc<dyn TimeProvider>,
    provider: Arc<CryptoProvider>,
    policy_digest: [u8; 32],
}

/// A host's TLS side as one worker uses it. Stays on the thread that made it: the verdict on a client chain
/// passes from the verifier to the session through a slot that must not be shared between threads.
#[derive(Clone, Debug)]
pub struct WorkerTls(Rc<WorkerHost>);

#[derive(Debug)]
pub(crate) struct WorkerHost {
    pub(crate) config: Arc<ServerConfig>,
    pub(crate) mode: ClientAuthMode,
    pub(crate) trust_name: Option<Arc<str>>,
    /// `None` if clients are not asked.
    verifier: Option<Arc<ClientVerifier>>,
    /// The clock that validity is judged by.
    clock: Arc<dyn TimeProvider>,
    /// Filled by the verifier within a call to rustls and emptied by the caller of that call.
    pub(crate) verdict: Arc<VerdictSlot>,
}

impl HostTls {
    /// Puts a host together. `trust` is not consulted if the mode is [`ClientAuthMode::Off`].
    ///
    /// # Errors
    ///
    /// [`TlsBuildError`] if clients are asked for certificates and `trust` is `None`.
    pub fn build(
        options: &HostTlsOptions,
        credential: Arc<Credential>,
        trust: Option<Arc<TrustBundle>>,
    ) -> Result<Self, TlsBuildError> {
        let trust = if options.mode == ClientAuthMode::Off { None } else { trust };
        if options.mode != ClientAuthMode::Off && trust.is_none() {
            return Err(TlsBuildError::NoTrust);
        }
        let policy_digest = policy_digest(options, trust.as_deref());
        let auth = trust.map(|trust| {
            Arc::new(ClientAuth {
                mode: options.mode,
                memo_context: memo_context(&policy_digest, options, &trust),
                trust,
                intermediates_max: options.intermediates_max,
                require_eku: options.require_eku,
                identity: options.identity.clone(),
            })
        });
        let clock = options.clock.clone();
        let host = Self { mode: options.mode, auth, credential, clock, provider: provider(), policy_digest };
        // Built once here so that a refusal stops the snapshot, not a worker.
        host.server_config(host.verifier(&PathMemo::new(0), &Arc::default()))?;
        Ok(host)
    }

    /// What one worker needs to accept connections for this host. `memo` is the worker's own.
    ///
    /// # Errors
    ///
    /// None in practice, as [`build`](Self::build) has done the same.
    pub fn worker_view(&self, memo: &PathMemo) -> Result<WorkerTls, TlsBuildError> {
        let verdict = Arc::<VerdictSlot>::default();
        let verifier = self.verifier(memo, &verdict);
        let config = Arc::new(self.server_config(verifier.clone())?);
        let trust_name = self.auth.as_ref().map(|auth| auth.trust.name().clone());
        let (mode, clock) = (self.mode, self.clock.clone());
        Ok(WorkerTls(Rc::new(WorkerHost { config, mode, trust_name, verifier, clock, verdict })))
    }

    /// Whether clients are asked for a certificate.
    pub fn mode(&self) -> ClientAuthMode {
        self.mode
    }

    /// SHA-256 over the whole validation section: mode, trust, limits, EKU rule, TLS versions and the version
    /// of rustls.
    ///
    /// Two hosts with the same digest admit the same clients. A request that came in under one host's name
    /// may be answered as another host exactly if their digests are equal.
    pub fn policy_digest(&self) -> &[u8; 32] {
        &self.policy_digest
    }

    /// The certificate that this host presents.
    pub fn credential(&self) -> &Arc<Credential> {
        &self.credential
    }

    /// The bundle that clients are checked against, `None` if they are not asked.
    pub fn trust(&self) -> Option<&Arc<TrustBundle>> {
        self.auth.as_ref().map(|auth| &auth.trust)
    }

    /// True if no client that this host admits would be refused by `other`: this host may then answer in its
    /// place, as a default host does for an absent or unknown server name.
    ///
    /// Two hosts that trust different CAs are never comparable, unless the CAs of this one are among those of
    /// `other`.
    pub fn is_at_least_as_strict_as(&self, other: &Self) -> bool {
        let Some(theirs) = &other.auth else { return true };
        let Some(ours) = &self.auth else { return false };
        let mode = self.mode == ClientAuthMode::Required || other.mode == ClientAuthMode::Optional;
        mode && ours.trust.is_subset_of(&theirs.trust)
            && ours.intermediates_max <= theirs.intermediates_max
            && (ours.require_eku || !theirs.require_eku)
    }

    fn verifier(&self, memo: &PathMemo, slot: &Arc<VerdictSlot>) -> Option<Arc<ClientVerifier>> {
        let algorithms = self.provider.signature_verification_algorithms;
        let auth = self.auth.clone()?;
        Some(Arc::new(ClientVerifier::new(auth, memo.clone(), slot.clone(), algorithms)))
    }

    fn server_config(&self, verifier: Option<Arc<ClientVerifier>>) -> Result<ServerConfig, TlsBuildError> {
        let builder = ServerConfig::builder_with_details(self.provider.clone(), self.clock.clone())
            .with_protocol_versions(&[&version::TLS13])?;
        let builder = match verifier {
            None => builder.with_no_client_auth(),
            Some(verifier) => builder.with_client_cert_verifier(verifier),
        };
        let resolver = SingleCertAndKey::from(self.credential.certified_key().clone());
        let mut config = builder.with_cert_resolver(Arc::new(resolver));
        config.alpn_protocols = ALPN.map(<[u8]>::to_vec).into();
        // Our order of suites; see `provider`.
        config.ignore_client_order = true;
        // No resumption: a session that resumes is not verified again, so it would outlive the trust that
        // admitted it. The ticketer stays the one that produces and accepts nothing, which is the default of
        // rustls.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        config.max_tls13_tickets = 0;
        // Nothing is read from or sent to a client before it is authenticated.
        config.max_early_data_size = 0;
        config.send_half_rtt_data = false;
        Ok(config)
    }
}

impl WorkerTls {
    /// Whether this host, as it is now, would let in the client of a session that another host, or an earlier
    /// generation of this one, has let in. The proof that the client holds its key was given in the handshake
    /// and is not asked for again.
    ///
    /// # Errors
    ///
    /// Why it would not: no certificate where one is required, one that does not verify any more, or one
    /// where none is asked for any more.
    pub fn readmit(&self, session: &ServerSession) -> Result<(), Box<HandshakeFailure>> {
        let host = &self.0;
        if host.verifier.is_none() {
            if session.peer_chain().is_none() {
                return Ok(());
            }
            // A new connection would be anonymous here, and this one must not be more.
            let message =
                "the host asks for no certificate now, so nobody vouches for the one that let the client in";
            return Err(Box::new(HandshakeFailure::new(HandshakeReason::UnknownIssuer, message)));
        }
        if session.peer_chain().is_none() && host.mode == ClientAuthMode::Required {
            let message = "the host requires a certificate now, and the client was let in without one";
            return Err(Box::new(HandshakeFailure::new(HandshakeReason::NoCertificate, message)));
        }
        self.admit(session.peer_chain().unwrap_or_default()).map(drop)
    }

    /// What a handshake with this host would make of a client that presents `chain`, leaf first, and holds its
    /// key: its identity, or `None` where it stays anonymous.
    ///
    /// # Errors
    ///
    /// Why it would be refused.
    pub fn admit(
        &self,
        chain: &[CertificateDer<'static>],
    ) -> Result<Option<Arc<PeerIdentity>>, Box<HandshakeFailure>> {
        let host = &self.0;
        let failure = |reason, message: &str| Err(Box::new(HandshakeFailure::new(reason, message)));
        let Some(verifier) = &host.verifier else { return Ok(None) };
        let [leaf, intermediates @ ..] = chain else {
            return match host.mode {
                ClientAuthMode::Required => {
                    failure(HandshakeReason::NoCertificate, "the host requires a certificate")
                }
                ClientAuthMode::Optional | ClientAuthMode::Off => Ok(None),
            };
        };
        let Some(now) = host.clock.current_time() else {
            return failure(HandshakeReason::Internal, "the clock cannot be read");
        };
        // The verdict arrives through the same slot as in a handshake, so that there is one way to judge.
        let verified = verifier.verify_client_cert(leaf, intermediates, now);
        match (host.verdict.take(), verified) {
            (Some(Ok(admitted)), Ok(_)) => Ok(Some(admitted.identity)),
            (Some(Err(failure)), _) => Err(failure),
            (None, _) | (Some(Ok(_)), Err(_)) => {
                failure(HandshakeReason::Internal, "the verifier gave no verdict")
            }
        }
    }

    pub(crate) fn host(&self) -> &Rc<WorkerHost> {
        &self.0
    }
}

/// The suites and groups that are offered, in order of preference.
///
/// AES-128 first: its handshake hash is SHA-256, which current processors accelerate, and it is the cheapest
/// suite per byte. In TLS 1.3 the client's order of key exchange groups decides; the post-quantum hybrid is
/// there for those who put it first.
fn provider() -> Arc<CryptoProvider> {
    use aws_lc_rs::{cipher_suite, kx_group};
    Arc::new(CryptoProvider {
        cipher_suites: vec![
            cipher_suite::TLS13_AES_128_GCM_SHA256,
            cipher_suite::TLS13_AES_256_GCM_SHA384,
            cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
        ],
        kx_groups: vec![kx_group::X25519MLKEM768, kx_group::X25519, kx_group::SECP256R1, kx_group::SECP384R1],
        ..aws_lc_rs::default_provider()
    })
}

/// Seeds the random numbers of this thread. The first ones of a process take some 20 ms of collecting entropy, for which
/// otherwise the first client, and everybody else on its worker, would have to wait.
pub fn seed_random() {
    // A failure shows in the first handshake, which fails.
    let _ = provider().secure_random.fill(&mut [0; 32]);
}

fn policy_digest(options: &HostTlsOptions, trust: Option<&TrustBundle>) -> [u8; 32] {
    let mode: &[u8] = match options.mode {
        ClientAuthMode::Off => b"off",
        ClientAuthMode::Optional => b"optional",
        ClientAuthMode::Required => b"required",
    };
    let mut hasher = FieldHasher::new("ringward client authentication 1");
    hasher.field(mode).field(b"TLS 1.3").field(RUSTLS_VERSION.as_bytes());
    // Without client authentication nothing else decides about anyone.
    if let Some(trust) = trust {
        hasher.field(trust.digest());
        hasher.number(options.intermediates_max as u64).number(CHAIN_BYTES_MAX as u64);
        hasher.number(options.require_eku.into());
    }
    hasher.finish()
}

/// Everything that a remembered verdict depends on: the policy, what is read into the identity, and until
/// when each anchor holds.
fn memo_context(policy_digest: &[u8; 32], options: &HostTlsOptions, trust: &TrustBundle) -> [u8; 32] {
    let mut hasher = FieldHasher::new("ringward memo context 1");
    hasher.field(policy_digest);
    // The derived output names every field, present and future.
    hasher.field(format!("{:?}", options.identity).as_bytes());
    for anchor in trust.anchors() {
        hasher.field(&anchor.fingerprint_sha256);
    }
    hasher.finish()
}

/// In order of preference. Some clients offer the version of their request, and nothing else.
const ALPN: [&[u8]; 2] = [b"http/1.1", b"http/1.0"];

/// The version of rustls that is built in, as what is verified follows from it. A test compares it with the
/// pinned one.
const RUSTLS_VERSION: &str = "0.23.46";

#[cfg(test)]
mod tests;
