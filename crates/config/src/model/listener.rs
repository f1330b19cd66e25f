//! Listeners, virtual hosts and routes.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use ringward_identity::ObjectId;

use super::NamedPath;
use crate::diagnostic::Location;
use crate::host::{HostPattern, HostTable};
use crate::path::PathPattern;
pub use crate::raw::{ClientAuthMode, ForwardMode, XfccMode};
use crate::routes::{Methods, Routes};

/// Addresses that accept TLS connections, and the virtual hosts behind them.
#[derive(Clone, Debug)]
pub struct Listener {
    /// Its name; no other listener's.
    pub name: String,
    /// Its addresses; at least one, and no other listener's.
    pub bind: Vec<Bind>,
    /// The index in `hosts` of the host that answers clients that ask for no host or an unknown one. It is not laxer
    /// than any other host here. None refuses such handshakes.
    pub default_host: Option<usize>,
    /// How many connections may wait to be accepted, per socket.
    pub backlog: u32,
    /// What downstream connections may use.
    pub limits: Limits,
    /// The virtual hosts; at least one.
    pub hosts: Vec<Host>,
    /// Where it is defined.
    pub at: Location,
}

impl Listener {
    /// Which host answers to a name, by index in `hosts`.
    pub fn host_table(&self) -> HostTable<usize> {
        let mut table = HostTable::new();
        for (index, host) in self.hosts.iter().enumerate() {
            for name in &host.names {
                let added = table.insert(name, index);
                debug_assert!(added.is_ok(), "no name stands twice in a checked configuration");
            }
        }
        table
    }
}

/// An address to listen on.
#[derive(Clone, Debug)]
pub struct Bind {
    /// The address.
    pub addr: SocketAddr,
    /// Where it is named.
    pub at: Location,
}

/// What downstream connections of a listener may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Open connections, over all workers.
    pub connections_max: usize,
    /// Bytes of a request's head.
    pub head_bytes_max: usize,
    /// Fields of a request's head.
    pub fields_max: usize,
    /// Bytes of a request's body; none for no limit. Routes hold the value that applies to them.
    pub body_bytes_max: Option<u64>,
    /// From accept to the end of the handshake.
    pub handshake_timeout: Duration,
    /// From the first byte of a head to its last.
    pub header_timeout: Duration,
    /// The longest pause within a body, or in taking our response.
    pub body_timeout: Duration,
    /// The longest pause between two exchanges.
    pub idle_timeout: Duration,
    /// Requests of one connection; none for no limit.
    pub requests_per_connection_max: Option<u64>,
    /// Age of a connection; none for no limit.
    pub connection_age_max: Option<Duration>,
}

/// A virtual host.
#[derive(Clone, Debug)]
pub struct Host {
    /// The names that it answers to; at least one, each once per listener.
    pub names: Vec<HostPattern>,
    /// The certificate that it shows.
    pub certificate: Certificate,
    /// Whether clients must show a certificate, and whose.
    pub client_auth: ClientAuth,
    /// What decides about requests of routes that name no policy themselves. Routes hold the value that applies to them.
    pub policy: HostPolicy,
    /// What upstreams are told about the client.
    pub forward: Forward,
    /// Whether an expired certificate is served.
    pub danger_allow_expired_certificate: bool,
    /// The routes, in the order of the file.
    pub routes: Vec<Route>,
    /// Where it is defined.
    pub at: Location,
}

impl Host {
    /// Which route a request takes, by index in `routes`.
    pub fn route_table(&self) -> Routes<usize> {
        let entries = self.routes.iter().enumerate();
        Routes::build(entries.map(|(index, route)| (route.path.clone(), route.methods.clone(), index)))
            .expect("no route is unreachable in a checked configuration")
    }
}

/// The files of a certificate of ours.
#[derive(Clone, Debug)]
pub struct Certificate {
    /// The certificate with its intermediates.
    pub chain: NamedPath,
    /// The private key.
    pub key: NamedPath,
    /// Where both are named.
    pub at: Location,
}

/// Whether clients must show a certificate, and whose.
#[derive(Clone, Debug)]
pub enum ClientAuth {
    /// None is asked for.
    Off,
    /// One is asked for, and must be valid if there is one.
    Optional(ClientVerification),
    /// No handshake without a valid one.
    Required(ClientVerification),
}

impl ClientAuth {
    /// Off, optional or required.
    pub fn mode(&self) -> ClientAuthMode {
        match self {
            Self::Off => ClientAuthMode::Off,
            Self::Optional(_) => ClientAuthMode::Optional,
            Self::Required(_) => ClientAuthMode::Required,
        }
    }

    /// How certificates are verified, unless none is asked for.
    pub fn verification(&self) -> Option<&ClientVerification> {
        match self {
            Self::Off => None,
            Self::Optional(verification) | Self::Required(verification) => Some(verification),
        }
    }

    /// Whether a client that passes `self` would pass `other` too, as far as the configuration can tell: the mode is at
    /// least as strict, and, where `other` verifies at all, the trust is the same, and the chain and key usage rules
    /// are at least as strict. This is a partial order: hosts with different trust are not laxer or stricter, they are
    /// different.
    pub fn at_least_as_strict_as(&self, other: &Self) -> bool {
        let Some(theirs) = other.verification() else { return true };
        let Some(ours) = self.verification() else { return false };
        self.mode() >= other.mode()
            && ours.trust == theirs.trust
            && ours.intermediates_max <= theirs.intermediates_max
            && (ours.require_eku || !theirs.require_eku)
    }
}

/// How the certificates of clients are verified.
#[derive(Clone, Debug)]
pub struct ClientVerification {
    /// The name of the trust bundle, which exists.
    pub trust: String,
    /// How many intermediates a client may send.
    pub intermediates_max: usize,
    /// Whether the extended key usage `clientAuth` must be present.
    pub require_eku: bool,
    /// Certificate extensions that policies get to see.
    pub extensions: Vec<ObjectId>,
    /// Where the trust bundle is named.
    pub at: Location,
}

/// What decides about requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostPolicy {
    /// The policy of this name, which exists.
    Named(String),
    /// Nothing: everybody who passes the handshake is served.
    DangerNone,
}

impl HostPolicy {
    /// The name of the policy, unless nothing decides.
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Named(name) => Some(name),
            Self::DangerNone => None,
        }
    }
}

/// What upstreams are told about the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forward {
    /// Whether to send `Client-Cert`.
    pub client_cert: bool,
    /// Whether to send `Client-Cert-Chain`.
    pub client_cert_chain: bool,
    /// Whether to send `x-forwarded-client-cert`.
    pub xfcc: XfccMode,
    /// `X-Forwarded-For`, `-Proto` and `-Host`.
    pub x_forwarded: ForwardMode,
    /// `Forwarded`.
    pub forwarded: ForwardMode,
    /// Our name in `Via`; none for no `Via`.
    pub via: Option<String>,
}

/// Where the requests of a path go.
#[derive(Clone, Debug)]
pub struct Route {
    /// Its name; no other route's of the host.
    pub id: String,
    /// The paths that it takes.
    pub path: PathPattern,
    /// The methods that it takes.
    pub methods: Methods,
    /// The name of the cluster, which exists.
    pub cluster: String,
    /// What decides about its requests: its own policy or the host's.
    pub policy: HostPolicy,
    /// Words for policies and logs.
    pub labels: BTreeMap<String, String>,
    /// Whether `%2F` may stand in the path.
    pub allow_encoded_slash: bool,
    /// Bytes of a request's body, the route's own limit or the listener's; none for no limit.
    pub body_bytes_max: Option<u64>,
    /// How long the upstream may take, the route's own limit or the cluster's.
    pub response_timeout: Duration,
    /// Where it is defined.
    pub at: Location,
}
