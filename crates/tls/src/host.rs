//! The TLS side of a virtual host: its credentials, its rules for clients, how they resume, and what a worker
//! makes of it all.
//!
//! Hides how rustls server configurations are put together. What is fixed for every host: HTTP/1 only, no early
//! data, no data before the client's Finished, TLS 1.2 only for clients that cannot do better and never with
//! resumption.

use std::rc::Rc;
use std::sync::Arc;

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, ResolvesServerCert};
use rustls::{ServerConfig, SupportedProtocolVersion, version};
use rustls_pki_types::CertificateDer;

use crate::certificate::unix_seconds;
use crate::client_auth::{ClientAuth, ClientAuthError, ClientAuthMode};
use crate::credential::{Credential, CredentialSet, CredentialSetError};
use crate::failure::{HandshakeFailure, HandshakeReason};
use crate::hello::{ClientHello, offered_sessions};
use crate::memo::{Admitted, PathMemo};
use crate::protocol::TlsPolicy;
use crate::resumption::{OfferSlot, ResumedBy, Resumer, Resumption, Scope};
use crate::session::ServerSession;
use crate::verifier::{ClientVerifier, Verdict, VerdictSlot};

/// What a virtual host is made of.
#[derive(Clone, Debug)]
pub struct HostTlsOptions {
    /// The name of its listener. Sessions are bound to it.
    pub listener: Arc<str>,
    /// The first name of the host. Sessions are bound to it.
    pub name: Arc<str>,
    /// Whom it admits.
    pub client_auth: Arc<ClientAuth>,
    /// The certificates that it presents, one of each kind of key: to each client the cheapest that it can verify.
    pub credentials: Vec<Arc<Credential>>,
    /// How its clients resume. Not at all where client certificates are only observed.
    pub resumption: Resumption,
    /// Which versions, cipher suites and groups it speaks.
    pub tls: TlsPolicy,
}

/// Why a host's TLS configuration cannot be built.
#[derive(Clone, Debug, thiserror::Error)]
pub enum TlsBuildError {
    /// The validation section makes no sense.
    #[error(transparent)]
    ClientAuth(#[from] ClientAuthError),
    /// The certificates do not go together.
    #[error(transparent)]
    Credentials(#[from] CredentialSetError),
    /// A cipher suite that is not offered here.
    #[error("`{0}` is no cipher suite that can be used; use one such as `TLS_AES_128_GCM_SHA256`")]
    UnknownSuite(Box<str>),
    /// A key exchange group that is not offered here.
    #[error("`{0}` is no key exchange group that can be used; use one such as `x25519`")]
    UnknownGroup(Box<str>),
    /// What an upstream is to be called.
    #[error("`{0}` is neither a host name nor an address")]
    ServerName(Box<str>),
    /// A version that no client could use.
    #[error("no cipher suite and group for {version}; add one of each to `tls`, or leave both keys out")]
    NothingFor {
        /// The version.
        version: &'static str,
    },
    /// rustls refused the combination.
    #[error("rustls refused the configuration: {0}")]
    Rustls(#[from] rustls::Error),
}

/// The immutable TLS side of a virtual host, part of a snapshot and shared by all workers.
#[derive(Debug)]
pub struct HostTls {
    auth: Arc<ClientAuth>,
    credentials: CredentialSet,
    resolver: Arc<dyn ResolvesServerCert>,
    resumer: Resumer,
    provider: Arc<CryptoProvider>,
    tls12: bool,
    http2: bool,
}

/// A host's TLS side as one worker uses it. Stays on the thread that made it: the verdict on a client chain
/// passes from the verifier to the session through a slot that must not be shared between threads, and so does
/// what is known of a session that a client resumes.
#[derive(Clone, Debug)]
pub struct WorkerTls(Rc<WorkerHost>);

#[derive(Debug)]
pub(crate) struct WorkerHost {
    /// For TLS 1.3. Its connections may turn out to be resumed.
    pub(crate) config: Arc<ServerConfig>,
    /// The same, for a handshake that is to be a full one. The client is given a session all the same.
    pub(crate) full: Arc<ServerConfig>,
    /// For any version, without resumption: for clients that do not offer TLS 1.3. `None` if they are refused.
    pub(crate) tls12: Option<Arc<ServerConfig>>,
    /// Where a resumed session comes from; `None` if none is.
    pub(crate) resumed_by: Option<ResumedBy>,
    resumer: Resumer,
    pub(crate) auth: Arc<ClientAuth>,
    pub(crate) trust_name: Option<Arc<str>>,
    /// `None` if clients are not asked.
    verifier: Option<Arc<ClientVerifier>>,
    /// Filled by the verifier within a call to rustls and emptied by the caller of that call.
    pub(crate) verdict: Arc<VerdictSlot>,
    /// Tells the ticketer or store within a call to rustls what its caller knows, and the caller what they saw.
    pub(crate) offers: Arc<OfferSlot>,
}

impl HostTls {
    /// Puts a host together.
    ///
    /// # Errors
    ///
    /// [`TlsBuildError`] if there is no certificate, or the policy names what does not exist or cannot work.
    pub fn build(options: &HostTlsOptions) -> Result<Self, TlsBuildError> {
        let auth = options.client_auth.clone();
        // A host that only observes wants to see each client's certificate and proof, and what it lets pass without
        // must not come back as if it had been proven.
        let observes = matches!(auth.mode(), ClientAuthMode::Observe | ClientAuthMode::Lenient);
        let resumption = if observes { &Resumption::Off } else { &options.resumption };
        let scope = Scope::new(&options.listener, &options.name, auth.digest(), resumption);
        let credentials = CredentialSet::new(options.credentials.clone())?;
        let host = Self {
            resolver: credentials.resolver(auth.clock().clone()),
            resumer: Resumer::new(resumption, scope, auth.max_auth_age(), auth.clock().clone()),
            provider: options.tls.provider()?,
            tls12: options.tls.min_version_12,
            http2: options.tls.http2,
            credentials,
            auth,
        };
        // Made once here so that a refusal stops the snapshot, not a worker.
        host.worker_view(&PathMemo::new(0))?;
        Ok(host)
    }

    /// What one worker needs to accept connections for this host. `memo` is the worker's own.
    ///
    /// # Errors
    ///
    /// None in practice, as [`build`](Self::build) has done the same.
    pub fn worker_view(&self, memo: &PathMemo) -> Result<WorkerTls, TlsBuildError> {
        let (verdict, offers) = (Arc::<VerdictSlot>::default(), Arc::<OfferSlot>::default());
        let verifier = self.verifier(memo, &verdict);
        let plain = self.server_config(&[&version::TLS13], verifier.clone())?;
        let with_sessions = |accepts| {
            let mut config = plain.clone();
            self.resumer.install(&mut config, accepts, &offers);
            Arc::new(config)
        };
        let tls12 = if self.tls12 {
            // Both versions although those who offer TLS 1.3 do not come here: only a server that could have
            // spoken it warns a client of being talked down (RFC 8446 §4.1.3).
            let mut config = self.server_config(&[&version::TLS13, &version::TLS12], verifier.clone())?;
            // RFC 7627: without it a session's keys do not depend on the whole handshake (the triple handshake
            // attack), and a client's proof could be passed on.
            config.require_ems = true;
            Some(Arc::new(config))
        } else {
            None
        };
        Ok(WorkerTls(Rc::new(WorkerHost {
            config: with_sessions(true),
            full: with_sessions(false),
            tls12,
            resumed_by: self.resumer.kind(),
            resumer: self.resumer.clone(),
            trust_name: self.auth.trust_names(),
            auth: self.auth.clone(),
            verifier,
            verdict,
            offers,
        })))
    }

    /// Whom this host admits.
    pub fn client_auth(&self) -> &Arc<ClientAuth> {
        &self.auth
    }

    /// The certificates that this host presents, the preferred first.
    pub fn credentials(&self) -> &[Arc<Credential>] {
        self.credentials.credentials()
    }

    fn verifier(&self, memo: &PathMemo, slot: &Arc<VerdictSlot>) -> Option<Arc<ClientVerifier>> {
        let algorithms = self.provider.signature_verification_algorithms;
        ClientVerifier::new(self.auth.clone(), memo.clone(), slot.clone(), algorithms).map(Arc::new)
    }

    /// A configuration that neither issues nor resumes sessions.
    fn server_config(
        &self,
        versions: &[&'static SupportedProtocolVersion],
        verifier: Option<Arc<ClientVerifier>>,
    ) -> Result<ServerConfig, TlsBuildError> {
        let builder = ServerConfig::builder_with_details(self.provider.clone(), self.auth.clock().clone())
            .with_protocol_versions(versions)?;
        let builder = match verifier {
            None => builder.with_no_client_auth(),
            Some(verifier) => builder.with_client_cert_verifier(verifier),
        };
        let mut config = builder.with_cert_resolver(self.resolver.clone());
        let offered = if self.http2 { &ALPN[..] } else { &ALPN[1..] };
        config.alpn_protocols = offered.iter().map(|protocol| protocol.to_vec()).collect();
        // Our order of suites; see `protocol`.
        config.ignore_client_order = true;
        // The store of rustls' defaults knows nothing of scopes, and the default ticketer is one that does
        // nothing.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        config.max_tls13_tickets = 0;
        // Nothing is read from or sent to a client before it is authenticated, however it resumes.
        config.max_early_data_size = 0;
        config.send_half_rtt_data = false;
        Ok(config)
    }
}

impl WorkerTls {
    /// Whether this host, as it is now, would let in the client of a session that another host, or an earlier
    /// generation of this one, has let in. The proof that the client holds its key was given in the handshake
    /// and is not asked for again, unless it is older than `max_auth_age`.
    ///
    /// # Errors
    ///
    /// Why it would not: no certificate where one is required, one that does not verify any more, one where none
    /// is asked for any more, or a proof that is too old.
    pub fn readmit(&self, session: &ServerSession) -> Result<(), Box<HandshakeFailure>> {
        self.0.readmit(session.peer_chain(), session.auth_time_unix().unwrap_or(i64::MIN)).map(drop)
    }

    /// What a handshake with this host would make of a client that presents `chain`, leaf first, and holds its
    /// key: who it is and by which path, or `None` where it stays anonymous.
    ///
    /// # Errors
    ///
    /// Why it would be refused.
    pub fn admit(&self, chain: &[CertificateDer<'_>]) -> Result<Option<Admitted>, Box<HandshakeFailure>> {
        self.0.admit(chain)
    }

    /// Whether a client may resume with a session that is ours, given the bytes that `hello` was read from: its handshake is then
    /// cheap, or ends when the client cannot prove that the session is its own.
    ///
    /// Says nothing about who the client is: ClientHellos are not secret, so anybody may send another's.
    pub fn knows_session(&self, hello: &ClientHello, bytes: &[u8]) -> bool {
        self.0.resumed_by.is_some()
            && hello.in_one_record
            && offered_sessions(bytes).any(|session| self.0.resumer.knows(session))
    }

    pub(crate) fn host(&self) -> &Rc<WorkerHost> {
        &self.0
    }
}

impl WorkerHost {
    /// The time by the host's clock, in seconds since 1970.
    pub(crate) fn now(&self) -> Result<i64, Box<HandshakeFailure>> {
        self.auth.clock().current_time().map(unix_seconds).ok_or_else(|| {
            Box::new(HandshakeFailure::new(HandshakeReason::Internal, "the clock cannot be read"))
        })
    }

    /// Until when a client need not prove anew that it holds its key, in seconds since 1970.
    pub(crate) fn auth_valid_until(&self, auth_time: i64) -> i64 {
        auth_time.saturating_add(i64::try_from(self.auth.max_auth_age().as_secs()).unwrap_or(i64::MAX))
    }

    /// Judges a client that has been let in before, with `chain` or as nobody, and that last proved its key at
    /// `auth_time`: by all that a handshake with this host would judge now, and by the age of the proof.
    pub(crate) fn readmit(
        &self,
        chain: Option<&[CertificateDer<'static>]>,
        auth_time: i64,
    ) -> Result<Option<Admitted>, Box<HandshakeFailure>> {
        let Some(chain) = chain else {
            return self.admit(&[]);
        };
        if matches!(self.auth.mode(), ClientAuthMode::Off | ClientAuthMode::Observe) {
            // A new connection would be anonymous here, and this one must not be more.
            let message = "the host gives no client an identity now, so nobody vouches for the one that let the client in";
            return Err(Box::new(HandshakeFailure::new(HandshakeReason::UnknownIssuer, message)));
        }
        let now = self.now()?;
        if now > self.auth_valid_until(auth_time) {
            let (age, max) = (now.saturating_sub(auth_time), self.auth.max_auth_age().as_secs());
            let message = format!(
                "the client proved its key {age} s ago, at most {max} s are accepted (`max_auth_age`)"
            );
            return Err(Box::new(HandshakeFailure::new(HandshakeReason::TooOld, message)));
        }
        self.admit(chain)
    }

    fn admit(&self, chain: &[CertificateDer<'_>]) -> Result<Option<Admitted>, Box<HandshakeFailure>> {
        let failure = |reason, message: &str| Err(Box::new(HandshakeFailure::new(reason, message)));
        let Some(verifier) = &self.verifier else { return Ok(None) };
        let [leaf, intermediates @ ..] = chain else {
            return match self.auth.mode() {
                ClientAuthMode::Required => failure(
                    HandshakeReason::NoCertificate,
                    "the host requires a certificate, and there is none",
                ),
                ClientAuthMode::Off
                | ClientAuthMode::Observe
                | ClientAuthMode::Lenient
                | ClientAuthMode::Optional => Ok(None),
            };
        };
        let Some(now) = self.auth.clock().current_time() else {
            return failure(HandshakeReason::Internal, "the clock cannot be read");
        };
        // The verdict arrives through the same slot as in a handshake, so that there is one way to judge.
        let verified = verifier.verify_client_cert(leaf, intermediates, now);
        match (self.verdict.take(), verified) {
            (Some(Verdict::Admitted(admitted)), Ok(_)) => Ok(Some(admitted)),
            (Some(Verdict::Observed(observed)), Ok(_)) => match observed.verdict {
                Ok(()) => Ok(None),
                // Nobody is refused here for it; but whoever asks is told.
                Err(reason) => failure(reason, &observed.message),
            },
            (Some(Verdict::Refused(failure)), _) => Err(failure),
            (None, _) | (Some(_), Err(_)) => {
                failure(HandshakeReason::Internal, "the verifier gave no verdict")
            }
        }
    }
}

/// Seeds the random numbers of this thread. The first ones of a process take some 20 ms of collecting entropy, for which
/// otherwise the first client, and everybody else on its worker, would have to wait.
pub fn seed_random() {
    // A failure shows in the first handshake, which fails.
    let _ = aws_lc_rs::default_provider().secure_random.fill(&mut [0; 32]);
}

/// In order of preference; the first only where it is configured. Some clients offer the version of their request, and nothing else.
const ALPN: [&[u8]; 3] = [b"h2", b"http/1.1", b"http/1.0"];

#[cfg(test)]
mod tests;
