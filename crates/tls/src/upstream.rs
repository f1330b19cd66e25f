//! TLS towards upstreams: whom we believe to be the upstream, and as whom we present ourselves.
//!
//! Hides rustls' client side. There is no way to build an [`UpstreamTls`] that verifies nothing: a bundle of CAs is needed, and
//! the name, the address or the SPIFFE ID of the upstream is always compared with its certificate.
//!
//! [`UpstreamTls`] is immutable and part of a snapshot. Of it a worker makes an [`EndpointTls`] for each endpoint, which has the
//! sessions that can be resumed there: they are good for this endpoint, this certificate of ours and this trust, and for no
//! others. [`ClientSession`] is one connection.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ringward_identity::SpiffePattern;
use rustls::client::{ResolvesClientCert, Resumption, Tls12Resumption};
use rustls::sign::CertifiedKey;
use rustls::time_provider::{DefaultTimeProvider, TimeProvider};
use rustls::{ClientConfig, SignatureScheme, version};
use rustls_pki_types::ServerName;

use crate::credential::Credential;
use crate::digest::FieldHasher;
use crate::host::TlsBuildError;
use crate::protocol::TlsPolicy;
use crate::trust::TrustBundle;

mod failure;
mod session;
mod tickets;
mod verifier;

pub use failure::{UpstreamTlsFailure, UpstreamTlsReason};
pub use session::ClientSession;

use tickets::Tickets;
use verifier::Verifier;

/// What is spoken above TLS, and so what is offered by ALPN.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum UpstreamProtocol {
    /// HTTP/1.1. An upstream that knows no ALPN will do.
    Http1,
    /// HTTP/2, which the upstream has to agree to (RFC 9113 §3.2).
    Http2,
}

/// What the TLS side of a cluster is made of.
#[derive(Clone, Debug)]
pub struct UpstreamTlsOptions {
    /// The CAs that may vouch for the upstream, with pins if there are any.
    pub trust: Arc<TrustBundle>,
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

/// The TLS side of a cluster.
#[derive(Debug)]
pub struct UpstreamTls {
    options: UpstreamTlsOptions,
    server_name: Option<ServerName<'static>>,
    digest: [u8; 32],
}

/// The TLS side of one endpoint, as one worker uses it.
#[derive(Debug)]
pub struct EndpointTls {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
    protocol: UpstreamProtocol,
    /// Set by rustls when the upstream asks for our certificate, within a call; read by the caller of that call.
    asked: Arc<AtomicBool>,
    has_credential: bool,
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
        let tls = Self { options, server_name, digest };
        // Made once here so that a refusal stops the snapshot, not a worker.
        tls.make_config(&Arc::default())?;
        Ok(tls)
    }

    /// SHA-256 of all that decides who the upstream is, who we are and what is spoken: connections and sessions of one digest are
    /// good for another [`UpstreamTls`] with the same.
    pub fn digest(&self) -> &[u8; 32] {
        &self.digest
    }

    /// What a worker needs to connect to the endpoint at this address.
    ///
    /// # Errors
    /// None in practice, as [`UpstreamTls::build`] has done the same.
    pub fn endpoint(&self, address: IpAddr) -> Result<EndpointTls, TlsBuildError> {
        let asked = Arc::<AtomicBool>::default();
        Ok(EndpointTls {
            config: self.make_config(&asked)?,
            name: self.server_name.clone().unwrap_or(ServerName::IpAddress(address.into())),
            protocol: self.options.protocol,
            asked,
            has_credential: self.options.credential.is_some(),
        })
    }

    fn make_config(&self, asked: &Arc<AtomicBool>) -> Result<Arc<ClientConfig>, TlsBuildError> {
        let UpstreamTlsOptions { trust, spiffe_ids, credential, clock, .. } = &self.options;
        let min_version_12 = self.options.min_version_12;
        let provider = TlsPolicy { min_version_12, ..TlsPolicy::default() }.provider()?;
        let algorithms = provider.signature_verification_algorithms;
        let tickets = self.options.resumption.then(|| Arc::new(Tickets::new(clock.clone())));
        let verifier = Verifier::new(trust.clone(), spiffe_ids.clone(), algorithms, tickets.clone());
        let versions: &[_] =
            if min_version_12 { &[&version::TLS13, &version::TLS12] } else { &[&version::TLS13] };
        let identity = Identity {
            key: credential.as_ref().map(|credential| credential.certified_key().clone()),
            asked: asked.clone(),
        };
        let mut config = ClientConfig::builder_with_details(provider, clock.clone())
            .with_protocol_versions(versions)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_client_cert_resolver(Arc::new(identity));
        config.alpn_protocols = match self.options.protocol {
            UpstreamProtocol::Http1 => vec![b"http/1.1".to_vec()],
            UpstreamProtocol::Http2 => vec![b"h2".to_vec()],
        };
        config.resumption = match tickets {
            // RFC 7627: in TLS 1.2 a resumed session proves less than a full handshake.
            Some(tickets) => Resumption::store(tickets).tls12_resumption(Tls12Resumption::Disabled),
            None => Resumption::disabled(),
        };
        // RFC 7627: without it our proof could be passed on (the triple handshake attack).
        config.require_ems = min_version_12;
        // A request could be replayed, and would leave before the upstream has proved who it is (RFC 8446 §8).
        config.enable_early_data = false;
        Ok(Arc::new(config))
    }
}

impl EndpointTls {
    /// The same for who drives rustls himself: a health check, which goes no other way than requests do, but resumes nothing, so
    /// that each looks at the certificate. The name is the one to verify. For one connection at a time, because of
    /// [`EndpointTls::explain`].
    pub fn client_config(&self) -> (Arc<ClientConfig>, ServerName<'static>) {
        self.asked.store(false, Ordering::Relaxed);
        let mut config = (*self.config).clone();
        config.resumption = Resumption::disabled();
        (Arc::new(config), self.name.clone())
    }

    /// What an error of such a connection means.
    pub fn explain(&self, error: &rustls::Error) -> UpstreamTlsFailure {
        UpstreamTlsFailure::of(error, self.asked.load(Ordering::Relaxed).then_some(self.has_credential))
    }

    /// Whether the endpoint speaks what it should, given what it has agreed to by ALPN. One that knows no ALPN speaks HTTP/1.1, and
    /// only that.
    ///
    /// # Errors
    /// That it does not.
    pub fn check_protocol(&self, agreed: Option<&[u8]>) -> Result<(), UpstreamTlsFailure> {
        check_protocol(self.protocol, agreed)
    }
}

/// Our certificate, and whether it was asked for.
#[derive(Debug)]
struct Identity {
    key: Option<Arc<CertifiedKey>>,
    asked: Arc<AtomicBool>,
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
    let UpstreamTlsOptions { trust, server_name, spiffe_ids, credential, .. } = options;
    let UpstreamTlsOptions { min_version_12, resumption, protocol, clock: _, .. } = options;
    let mut hasher = FieldHasher::new("ringward upstream TLS 1");
    hasher.field(trust.digest());
    // Which that leaves out: of clients each bundle is asked anew, whereas this one is kept as long as the digest stays.
    for anchor in trust.anchors() {
        for unix in [anchor.not_before_unix, anchor.not_after_unix] {
            hasher.field(&unix.to_be_bytes());
        }
    }
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

#[cfg(test)]
mod tests;
