//! TLS towards upstreams: whom we believe to be the upstream, and as whom we present ourselves.
//!
//! Hides rustls' client side. There is no way to build an [`UpstreamTls`] that verifies nothing: a bundle of CAs is needed, and
//! the name, the address or the SPIFFE ID of the upstream is always compared with its certificate.
//!
//! [`UpstreamTls`] is immutable and part of a snapshot. Of it a worker makes an [`EndpointTls`] for each endpoint, which has the
//! sessions that can be resumed there: they are good for this endpoint, this certificate of ours and this trust, and for no
//! others. [`ClientSession`] is one connection. All of them share one configuration of rustls, of which a connection takes a copy
//! that has its own place for sessions (`tickets.rs`).

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ringward_identity::SpiffePattern;
use rustls::client::{ClientSessionStore, ResolvesClientCert, Resumption, Tls12Resumption};
use rustls::crypto::CryptoProvider;
use rustls::sign::CertifiedKey;
use rustls::time_provider::{DefaultTimeProvider, TimeProvider};
use rustls::{ClientConfig, SignatureScheme, version};
use rustls_pki_types::ServerName;

use crate::credential::Credential;
use crate::digest::FieldHasher;
use crate::host::TlsBuildError;
use crate::protocol::TlsPolicy;
use crate::revocation::Revocation;
use crate::trust::TrustBundle;

mod failure;
mod session;
mod tickets;
mod verifier;

pub use failure::{UpstreamTlsFailure, UpstreamTlsReason};
pub use session::ClientSession;

use tickets::{OfConnection, Tickets};
use verifier::{Rules, Verifier};

/// What is spoken above TLS, and so what is offered by ALPN.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum UpstreamProtocol {
    /// HTTP/1.1. An upstream that knows no ALPN will do.
    Http1,
    /// HTTP/2, which the upstream has to agree to (RFC 9113 §3.2).
    Http2,
    /// Whichever of both the upstream chooses, rather HTTP/2.
    Either,
}

/// What the TLS side of a cluster is made of.
#[derive(Clone, Debug)]
pub struct UpstreamTlsOptions {
    /// The CAs that may vouch for the upstream, with pins if there are any.
    pub trust: Arc<TrustBundle>,
    /// The lists that certificates of its path are looked up in, as the revocation policy of `trust` asks for.
    pub lists: UpstreamLists,
    /// The name or address that the upstream's certificate must be for, and which it is asked for (SNI) if it is a name. None:
    /// the address that is connected to.
    pub server_name: Option<String>,
    /// If there are any, the upstream is who has one of these SPIFFE IDs, and its certificate needs no name.
    pub spiffe_ids: Vec<SpiffePattern>,
    /// Our certificate, for upstreams that ask for one.
    pub credential: Option<Arc<Credential>>,
    /// Upstreams that do not speak TLS 1.3 may speak TLS 1.2.
    pub min_version_12: bool,
    /// Sessions may be resumed.
    pub resumption: bool,
    /// What is spoken.
    pub protocol: UpstreamProtocol,
    /// The clock that validity is judged by.
    pub clock: Arc<dyn TimeProvider>,
}

impl UpstreamTlsOptions {
    /// The strict defaults, on the system clock: whoever `trust` vouches for and has the address that is connected to.
    pub fn new(trust: Arc<TrustBundle>) -> Self {
        Self {
            trust,
            lists: UpstreamLists::default(),
            server_name: None,
            spiffe_ids: Vec::new(),
            credential: None,
            min_version_12: false,
            resumption: true,
            protocol: UpstreamProtocol::Http1,
            clock: Arc::new(DefaultTimeProvider),
        }
    }
}

/// Revocation lists for certificates of upstreams.
#[derive(Clone, Debug, Default)]
pub struct UpstreamLists {
    /// What the lists say.
    pub revocation: Arc<Revocation>,
    /// SHA-256 of what each of them was read from. With another list, connections and sessions from before are of no use: the
    /// endpoint may be one that it revokes.
    pub sources: Vec<[u8; 32]>,
}

/// The TLS side of a cluster.
#[derive(Debug)]
pub struct UpstreamTls {
    options: UpstreamTlsOptions,
    server_name: Option<ServerName<'static>>,
    digest: [u8; 32],
    rules: Arc<Rules>,
    /// Resumes nothing, and tells nobody what it was asked: each endpoint has parts of its own for that.
    config: ClientConfig,
}

/// The TLS side of one endpoint, as one worker uses it. Small, as there may be thousands.
#[derive(Debug)]
pub struct EndpointTls {
    tls: Arc<UpstreamTls>,
    /// One of the endpoint's and no other's: rustls resumes a session only with the verifier and the identity that it was made with.
    verifier: Arc<Verifier>,
    identity: Arc<Identity>,
    /// None if nothing is resumed.
    tickets: Option<Arc<Tickets>>,
    name: ServerName<'static>,
}

impl UpstreamTls {
    /// Puts the TLS side of a cluster together.
    ///
    /// # Errors
    /// [`TlsBuildError`] if rustls refuses it, or the name is none.
    pub fn build(options: UpstreamTlsOptions) -> Result<Self, TlsBuildError> {
        let parse = |name: &String| {
            ServerName::try_from(name.clone()).map_err(|_| TlsBuildError::ServerName(name.as_str().into()))
        };
        let server_name = options.server_name.as_ref().map(parse).transpose()?;
        let digest = digest(&options);
        let UpstreamTlsOptions { trust, lists, spiffe_ids, .. } = &options;
        let provider =
            TlsPolicy { min_version_12: options.min_version_12, ..TlsPolicy::default() }.provider()?;
        let algorithms = provider.signature_verification_algorithms;
        let rules =
            Arc::new(Rules::new(trust.clone(), lists.revocation.clone(), spiffe_ids.clone(), algorithms));
        let config = config(&options, provider, rules.clone())?;
        Ok(Self { options, server_name, digest, rules, config })
    }

    /// The same for who is somebody else to these upstreams: all but our certificate is as it is here.
    ///
    /// # Errors
    /// [`TlsBuildError`] if rustls refuses it.
    pub fn with_credential(&self, credential: Arc<Credential>) -> Result<Self, TlsBuildError> {
        Self::build(UpstreamTlsOptions { credential: Some(credential), ..self.options.clone() })
    }

    /// SHA-256 of all that decides who the upstream is, who we are and what is spoken: connections and sessions of one digest are
    /// good for another [`UpstreamTls`] with the same.
    pub fn digest(&self) -> &[u8; 32] {
        &self.digest
    }

    /// What a worker needs to connect to the endpoint at this address; `None` for one that has none, a Unix socket. Without a name or
    /// SPIFFE IDs nobody's certificate is good for that.
    pub fn endpoint(self: &Arc<Self>, address: Option<IpAddr>) -> EndpointTls {
        let UpstreamTlsOptions { resumption, clock, credential, .. } = &self.options;
        // What proves who we are ends, too.
        let ours_until = credential.as_ref().map_or(i64::MAX, |credential| credential.not_after_unix());
        let tickets = resumption.then(|| Arc::new(Tickets::new(clock.clone(), ours_until)));
        EndpointTls {
            verifier: Arc::new(Verifier::new(self.rules.clone(), tickets.clone())),
            identity: Arc::new(Identity::new(&self.options)),
            tickets,
            name: self
                .server_name
                .clone()
                .unwrap_or(ServerName::IpAddress(address.unwrap_or(NOWHERE).into())),
            tls: self.clone(),
        }
    }
}

/// What all endpoints have in common.
fn config(
    options: &UpstreamTlsOptions,
    provider: Arc<CryptoProvider>,
    rules: Arc<Rules>,
) -> Result<ClientConfig, TlsBuildError> {
    let UpstreamTlsOptions { min_version_12, protocol, clock, .. } = options;
    let versions: &[_] =
        if *min_version_12 { &[&version::TLS13, &version::TLS12] } else { &[&version::TLS13] };
    let mut config = ClientConfig::builder_with_details(provider, clock.clone())
        .with_protocol_versions(versions)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Verifier::new(rules, None)))
        .with_client_cert_resolver(Arc::new(Identity::new(options)));
    config.alpn_protocols = match protocol {
        UpstreamProtocol::Http1 => vec![b"http/1.1".to_vec()],
        UpstreamProtocol::Http2 => vec![b"h2".to_vec()],
        UpstreamProtocol::Either => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
    };
    config.resumption = Resumption::disabled();
    // RFC 7627: without it our proof could be passed on (the triple handshake attack).
    config.require_ems = *min_version_12;
    // A request could be replayed, and would leave before the upstream has proved who it is (RFC 8446 §8).
    config.enable_early_data = false;
    Ok(config)
}

impl EndpointTls {
    /// The same for who drives rustls himself: a health check, which goes no other way than requests do, but resumes nothing, so
    /// that each looks at the certificate. The name is the one to verify. For one connection at a time, because of
    /// [`EndpointTls::explain`].
    pub fn client_config(&self) -> (Arc<ClientConfig>, ServerName<'static>) {
        self.identity.asked.store(false, Ordering::Relaxed);
        (Arc::new(self.config(None)), self.name.clone())
    }

    /// What an error of such a connection means.
    pub fn explain(&self, error: &rustls::Error) -> UpstreamTlsFailure {
        let asked = self.identity.asked.load(Ordering::Relaxed);
        UpstreamTlsFailure::of(error, asked.then_some(self.has_credential()))
    }

    /// Whether the endpoint speaks what it should, given what it has agreed to by ALPN. One that knows no ALPN speaks HTTP/1.1, and
    /// only that.
    ///
    /// # Errors
    /// That it does not.
    pub fn check_protocol(&self, agreed: Option<&[u8]>) -> Result<(), UpstreamTlsFailure> {
        check_protocol(self.tls.options.protocol, agreed)
    }

    /// Of one connection, which takes its sessions from `store`.
    fn config(&self, store: Option<Arc<OfConnection>>) -> ClientConfig {
        let mut config = self.tls.config.clone();
        config.dangerous().set_certificate_verifier(self.verifier.clone());
        config.client_auth_cert_resolver = self.identity.clone();
        if let Some(store) = store {
            let store: Arc<dyn ClientSessionStore> = store;
            // RFC 7627: in TLS 1.2 a resumed session proves less than a full handshake.
            config.resumption = Resumption::store(store).tls12_resumption(Tls12Resumption::Disabled);
        }
        config
    }

    fn has_credential(&self) -> bool {
        self.identity.key.is_some()
    }
}

/// Our certificate, and whether it was asked for.
#[derive(Debug)]
struct Identity {
    key: Option<Arc<CertifiedKey>>,
    /// Set by rustls when the upstream asks for our certificate, within a call; read by the caller of that call.
    asked: AtomicBool,
}

impl Identity {
    fn new(options: &UpstreamTlsOptions) -> Identity {
        let key = options.credential.as_ref().map(|credential| credential.certified_key().clone());
        Identity { key, asked: AtomicBool::new(false) }
    }
}

impl ResolvesClientCert for Identity {
    fn resolve(&self, _issuers: &[&[u8]], schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.asked.store(true, Ordering::Relaxed);
        // The issuers that it names are hints: what it accepts is for it to say.
        self.key.clone().filter(|key| key.key.choose_scheme(schemes).is_some())
    }

    fn has_certs(&self) -> bool {
        // So that it is asked, and we know about it.
        true
    }
}

fn check_protocol(protocol: UpstreamProtocol, agreed: Option<&[u8]>) -> Result<(), UpstreamTlsFailure> {
    if protocol == UpstreamProtocol::Http2 && agreed != Some(b"h2") {
        let message = "the upstream does not agree to HTTP/2 by ALPN: is `protocol` right?";
        return Err(UpstreamTlsFailure::new(UpstreamTlsReason::AlpnRefused, message));
    }
    Ok(())
}

fn digest(options: &UpstreamTlsOptions) -> [u8; 32] {
    let UpstreamTlsOptions { trust, lists, server_name, spiffe_ids, credential, .. } = options;
    let UpstreamTlsOptions { min_version_12, resumption, protocol, clock: _, .. } = options;
    let mut hasher = FieldHasher::new("ringward upstream TLS 1");
    hasher.field(trust.digest());
    // Which that leaves out: of clients each bundle is asked anew, whereas this one is kept as long as the digest stays.
    for anchor in trust.anchors() {
        for unix in [anchor.not_before_unix, anchor.not_after_unix] {
            hasher.field(&unix.to_be_bytes());
        }
    }
    hasher.set(lists.sources.iter().map(<[u8; 32]>::as_slice));
    hasher.optional(server_name.as_deref().map(str::as_bytes));
    hasher.set(spiffe_ids.iter().map(|pattern| pattern.as_str().as_bytes()));
    let chain = credential.as_ref().map_or(&[][..], |credential| &credential.certified_key().cert);
    hasher.number(chain.len() as u64);
    for certificate in chain {
        hasher.field(certificate);
    }
    hasher.number(u64::from(*min_version_12));
    hasher.number(u64::from(*resumption));
    hasher.number(*protocol as u64);
    hasher.finish()
}

/// The address of no server (RFC 1122 section 3.2.1.3), for whom no certificate should be.
const NOWHERE: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

#[cfg(test)]
mod tests;
