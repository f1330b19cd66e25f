//! TLS credentials, trust bundles, client verification and the record pump, without any I/O.
//!
//! Hides rustls and webpki: how a server configuration is put together, how a client chain is judged and
//! remembered, and how records become plaintext. Never opens a file or a socket, never starts a thread, never
//! asks the wall clock by itself (it is given a time or a [`rustls::time_provider::TimeProvider`]), and knows
//! neither HTTP nor policy.
//!
//! The life of one connection, in the order of the modules:
//!
//! 1. [`HelloReader`] reads the ClientHello far enough to choose a virtual host.
//! 2. [`HostTls`], built once per snapshot from its [`Credential`]s and a [`ClientAuth`], which says whom it admits by
//!    which [`TrustBundle`]s, gives each worker a [`WorkerTls`] with [`HostTls::worker_view`].
//! 3. [`ServerSession`] replays the ClientHello and pumps records. It has a [`PeerIdentity`](ringward_identity::PeerIdentity)
//!    exactly when the chain was verified and the handshake is complete.
//!
//! Towards upstreams it is the other way round, see [`UpstreamTls`].
//!
//! A client may resume a session, by a ticket or from the [`SessionCache`]. What it resumes is a key and a chain, not
//! a verdict: the chain is judged anew by the rules and the trust of the moment, and if they do not admit it, or the
//! client's proof of its key is too old, the client has a full handshake instead. So no session outlives the trust
//! that admitted it.
#![forbid(unsafe_code)]

mod certificate;
mod client_auth;
mod credential;
mod digest;
mod facts;
mod failure;
mod forwarded;
mod hello;
mod host;
mod memo;
mod observed;
mod path;
mod protocol;
mod records;
mod resumption;
mod revocation;
mod session;
mod staple;
#[cfg(test)]
mod testing;
mod trust;
mod upstream;
mod verifier;
mod websocket;

pub use client_auth::{
    ClientAuth, ClientAuthError, ClientAuthMode, ClientAuthOptions, HINT_BYTES_MAX,
    INTERMEDIATES_MAX_DEFAULT, MAX_AUTH_AGE_DEFAULT, OCSP_TIMEOUT_DEFAULT, OcspPolicy, TenantRules,
};
pub use credential::{
    Credential, CredentialError, CredentialOptions, CredentialSet, CredentialSetError, CredentialSource,
    CredentialWarning,
};
pub use facts::CertificateFacts;
pub use failure::{HandshakeFailure, HandshakeReason, PresentedChain, UnknownReason};
pub use forwarded::ForwardedVerifier;
pub use hello::{CLIENT_HELLO_BYTES_MAX, ClientHello, HelloReader, offered_sessions};
pub use host::{HostTls, HostTlsOptions, TlsBuildError, WorkerTls, seed_random};
pub use memo::{Admitted, MEMO_CHAIN_BYTES_MAX, MEMO_ENTRIES_DEFAULT, PathMemo};
pub use observed::ObservedIdentity;
pub use path::{
    AnchorRef, BESIDE_BYTES_MAX, PathCertificate, PeerPath, REVOCATION_URL_BYTES_MAX, REVOCATION_URLS_MAX,
    SIGHTINGS_MAX, Sightings,
};
pub use protocol::TlsPolicy;
pub use records::{HANDSHAKE_BYTES_MAX, PLAINTEXT_RECORD_BYTES_MAX, RECORD_OVERHEAD_BYTES};
/// For the benches and fuzz targets of this repository: what rustls calls within a handshake, on its own.
#[doc(hidden)]
pub use resumption::bench;
pub use resumption::{
    DeclineReason, KEY_RING_BYTES_MAX, KEY_RING_KEYS_MAX, KeyRing, KeyRingError, KeyRole, KeyStatus,
    ResumedBy, Resumption, SESSION_BYTES_MAX, SessionCache,
};
pub use revocation::*;
pub use session::{Negotiated, Progress, ServerSession, SessionError};
pub use staple::{STAPLE_SKEW_SECONDS, Staple, StapleError};
pub use trust::{
    ANCHORS_PER_SUBJECT_MAX, ANCHORS_PER_SUBJECT_WARN, Anchor, KeyKind, Profile, QuarantineReason,
    Quarantined, RSA_BITS_MIN_DEFAULT, TrustBundle, TrustError, TrustOptions, TrustWarning, UnknownKeyKind,
};
pub use upstream::{
    ClientSession, EndpointTls, UpstreamLists, UpstreamProtocol, UpstreamTls, UpstreamTlsFailure,
    UpstreamTlsOptions, UpstreamTlsReason,
};
pub use verifier::CHAIN_BYTES_MAX;
pub use websocket::{websocket_accept, websocket_key};
