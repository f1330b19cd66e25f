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
//! 2. [`HostTls`], built once per snapshot from a [`Credential`] and a [`TrustBundle`], gives each worker a
//!    [`WorkerTls`] with [`HostTls::worker_view`].
//! 3. [`ServerSession`] replays the ClientHello and pumps records. It has a [`PeerIdentity`](ringward_identity::PeerIdentity)
//!    exactly when the chain was verified and the handshake is complete.
//!
//! Sessions are never resumed: no ticket is sent and none is accepted, so nothing outlives the trust that
//! admitted it.
#![forbid(unsafe_code)]

mod certificate;
mod credential;
mod digest;
mod failure;
mod hello;
mod host;
mod memo;
mod session;
#[cfg(test)]
mod testing;
mod trust;
mod verifier;

pub use credential::{Credential, CredentialError, CredentialOptions, CredentialSource, CredentialWarning};
pub use failure::{HandshakeFailure, HandshakeReason, PresentedChain, UnknownReason};
pub use hello::{CLIENT_HELLO_BYTES_MAX, ClientHello, HelloReader};
pub use host::{
    ClientAuthMode, HostTls, HostTlsOptions, INTERMEDIATES_MAX_DEFAULT, TlsBuildError, WorkerTls, seed_random,
};
pub use memo::{MEMO_ENTRIES_DEFAULT, PathMemo};
pub use session::{
    HANDSHAKE_BYTES_MAX, Negotiated, PLAINTEXT_RECORD_BYTES_MAX, Progress, RECORD_OVERHEAD_BYTES,
    ServerSession, SessionError,
};
pub use trust::{
    ANCHORS_PER_SUBJECT_MAX, ANCHORS_PER_SUBJECT_WARN, Anchor, QuarantineReason, Quarantined, TrustBundle,
    TrustError, TrustWarning,
};
pub use verifier::CHAIN_BYTES_MAX;
