//! Listeners, virtual hosts and routes.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ipnet::IpNet;

use super::{
    Action, ClientAuth, ClientAuthMode, ClientCertificate, Compression, Cors, FileKind, ForwardedIdentity,
    Handshakes, HeaderEdits, Mirror, NamedPath, NamedUrl, OcspMode, Requests, Retry, Rewrite, WatchedPath,
};
use crate::diagnostic::Location;
use crate::host::{HostPattern, HostTable};
use crate::path::PathPattern;
pub use crate::raw::{
    CipherSuite, ClientAddressHeader, ForwardMode, Group, Require, Resumption, TlsVersion, XfccMode,
};
use crate::routes::condition::Conditions;
use crate::routes::{Method, Methods, RouteMatch, Routes};

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
    /// How clients resume TLS sessions.
    pub resumption: Resumption,
    /// Whether clients may speak HTTP/2.
    pub http2: bool,
    /// Who may say that a connection is another's.
    pub proxy_protocol: Option<ProxyProtocol>,
    /// What handshakes may take; none for no limit of their own.
    pub handshakes: Option<Handshakes>,
    /// How many requests are in work; none for no limit.
    pub requests: Option<Requests>,
    /// Who may say in a request's header that it is another's.
    pub client_address: Option<ClientAddress>,
    /// Versions, cipher suites and key exchange.
    pub tls: TlsPolicy,
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

/// Load balancers that speak the PROXY protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxyProtocol {
    /// Where they are; at least one network.
    pub from: Vec<IpNet>,
    /// Whether connections from elsewhere are served.
    pub serves_others: bool,
}

impl ProxyProtocol {
    /// Whether connections from there have to begin with a header.
    pub fn is_from(&self, address: IpAddr) -> bool {
        is_in(&self.from, address)
    }
}

/// Proxies that name the client in the header of each request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientAddress {
    /// Where they are; at least one network.
    pub from: Vec<IpNet>,
    /// The field that they write.
    pub header: ClientAddressHeader,
    /// How many of them there are; none if their addresses tell.
    pub hops: Option<usize>,
}

impl ClientAddress {
    /// Whether a proxy of this address is believed.
    pub fn is_from(&self, address: IpAddr) -> bool {
        is_in(&self.from, address)
    }
}

fn is_in(networks: &[IpNet], address: IpAddr) -> bool {
    // A socket for both families shows IPv4 addresses as if they were IPv6.
    let address = address.to_canonical();
    networks.iter().any(|network| network.contains(&address))
}

/// Versions, cipher suites and key exchange of a listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsPolicy {
    /// The oldest version.
    pub min_version: TlsVersion,
    /// The cipher suites, most wanted first: some of TLS 1.3, and of TLS 1.2 exactly if `min_version` admits it.
    pub cipher_suites: Vec<CipherSuite>,
    /// The groups for key exchange, for TLS 1.2 the most wanted first; if `min_version` admits it, some that it has.
    pub groups: Vec<Group>,
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
    /// Requests that an HTTP/2 connection has open at a time.
    pub streams_max: usize,
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
    /// The certificates that it shows, one to each client; at least one.
    pub certificates: Vec<Certificate>,
    /// What the handshake wants of clients.
    pub client_auth: ClientAuth,
    /// Who may say whose requests they are.
    pub forwarded_identity: Option<ForwardedIdentity>,
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
        Routes::build(entries.map(|(index, route)| (route.matched(), index)))
            .expect("no route is unreachable in a checked configuration")
    }
}

/// A certificate of ours.
#[derive(Clone, Debug)]
pub struct Certificate {
    /// The certificate with its intermediates.
    pub chain: NamedPath,
    /// The private key.
    pub key: NamedPath,
    /// What opens the key, if it is encrypted.
    pub passphrase: Option<Passphrase>,
    /// The OCSP response that goes with it.
    pub staple: StapleMode,
    /// The OCSP responder to ask instead of the certificate's own.
    pub ocsp_url: Option<NamedUrl>,
    /// Where it is named.
    pub at: Location,
}

impl Certificate {
    /// The files that it is made of.
    pub(super) fn files(&self) -> impl Iterator<Item = WatchedPath<'_>> {
        let passphrase = self.passphrase.as_ref().and_then(Passphrase::file);
        let passphrase = passphrase.map(|file| (file, FileKind::Passphrase));
        let staple = match &self.staple {
            StapleMode::File(file) => Some((file, FileKind::StapleFile)),
            StapleMode::Off | StapleMode::Fetch => None,
        };
        let own = [(&self.chain, FileKind::CertificateChain), (&self.key, FileKind::PrivateKey)];
        own.into_iter().chain(passphrase).chain(staple).map(|(path, kind)| WatchedPath::new(path, kind))
    }
}

/// Where a passphrase is.
#[derive(Clone, Debug)]
pub enum Passphrase {
    /// In a file.
    File(NamedPath),
    /// In a systemd credential.
    Credential {
        /// Its name: the name of a file in `$CREDENTIALS_DIRECTORY`.
        name: String,
        /// Where it is named.
        at: Location,
    },
}

impl Passphrase {
    /// The file that the configuration names.
    pub(super) fn file(&self) -> Option<&NamedPath> {
        match self {
            Self::File(file) => Some(file),
            Self::Credential { .. } => None,
        }
    }
}

/// The OCSP response that goes with a certificate of ours.
#[derive(Clone, Debug)]
pub enum StapleMode {
    /// None.
    Off,
    /// From the responder.
    Fetch,
    /// From this file.
    File(NamedPath),
}

/// What decides about requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostPolicy {
    /// The policies of these names, which exist and all have to allow: at least one, each once, in the order in which they are
    /// asked.
    Named(Vec<String>),
    /// Nothing: everybody who passes the handshake is served.
    DangerNone,
}

impl HostPolicy {
    /// The names of the policies, in the order in which they are asked; none if nothing decides.
    pub fn names(&self) -> &[String] {
        match self {
            Self::Named(names) => names,
            Self::DangerNone => &[],
        }
    }

    /// These policies, with `first` before them.
    pub(crate) fn behind(self, first: &str) -> Self {
        let others = match self {
            Self::Named(names) => names,
            Self::DangerNone => Vec::new(),
        };
        let others = others.into_iter().filter(|name| name != first);
        Self::Named(std::iter::once(first.to_owned()).chain(others).collect())
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
    /// What else a request has to be.
    pub conditions: Conditions,
    /// Whether it takes calls of gRPC alone.
    pub grpc: bool,
    /// What becomes of its requests.
    pub action: Action,
    /// The certificate that upstreams are shown for its requests, instead of their cluster's; all its clusters, that of `mirror`
    /// included, have TLS.
    pub upstream_certificate: Option<ClientCertificate>,
    /// Where copies of its requests go; none if nowhere.
    pub mirror: Option<Mirror>,
    /// The path and the host that the upstream gets.
    pub rewrite: Rewrite,
    /// Which pages of other origins may use it, by its own words or its host's.
    pub cors: Option<Cors>,
    /// What changes in its requests on their way to the upstream, by its own words and the host's.
    pub request_headers: HeaderEdits,
    /// What changes in its responses, by its own words and the host's.
    pub response_headers: HeaderEdits,
    /// How its responses are compressed; none if they are not.
    pub compression: Option<Compression>,
    /// What decides about its requests: the global policy, then its own policies or the host's.
    pub policy: HostPolicy,
    /// What it wants of clients: its own mode or the host's. The host's handshake is not stricter.
    pub client_auth: ClientAuthMode,
    /// What its clients must have proved at least, by its own words or the host's; `client_auth` is not less.
    pub require: Option<Require>,
    /// Whether OCSP responders are asked about its clients; off unless it identifies them.
    pub ocsp: OcspMode,
    /// Words for policies and logs.
    pub labels: BTreeMap<String, String>,
    /// Whether `%2F` may stand in the path.
    pub allow_encoded_slash: bool,
    /// Bytes of a request's body, the route's own limit or the listener's; none for no limit.
    pub body_bytes_max: Option<u64>,
    /// Bytes of a request's body that are read before the decision; none if policies may not look at bodies.
    pub policy_body_max: Option<usize>,
    /// How long the upstream may be silent, the route's own limit or the cluster's.
    pub response_timeout: Duration,
    /// How long a request may take altogether; none for no limit.
    pub request_timeout: Option<Duration>,
    /// When its requests are sent again, by its own words or the host's; none if only what is so without any.
    pub retry: Option<Retry>,
    /// Which tunnels it carries; none if it refuses to switch protocols.
    pub tunnel: Option<Tunnel>,
    /// Where it is defined.
    pub at: Location,
}

impl Route {
    /// The clusters that its requests go to, and the one that gets copies of them.
    pub fn clusters(&self) -> impl Iterator<Item = &str> {
        let copies = self.mirror.as_ref().map(|mirror| mirror.cluster.as_str());
        self.action.clusters().chain(copies)
    }

    /// What it takes.
    pub fn matched(&self) -> RouteMatch {
        let Self { path, methods, conditions, .. } = self;
        RouteMatch { path: path.clone(), methods: methods.clone(), conditions: conditions.clone() }
    }

    /// What it takes, in words: `GET, PUT /orders/{id} if header x-tier is "gold"`.
    pub fn takes(&self) -> String {
        let methods = match &self.methods {
            _ if self.grpc => "gRPC".to_owned(),
            Methods::All => "any method".to_owned(),
            Methods::Only(methods) => methods.iter().map(Method::as_str).collect::<Vec<_>>().join(", "),
        };
        let kind = if self.path.regex().is_some() { "regex " } else { "" };
        let mut text = format!("{methods} {kind}{}", self.path);
        if !self.conditions.is_empty() {
            text += &format!(" if {}", self.conditions);
        }
        text
    }

    /// Whether it lets in clients that `other` would not: it asks less of their certificates, or less about them, or no policy where
    /// the other asks one.
    pub(crate) fn is_laxer_than(&self, other: &Self) -> bool {
        self.client_auth < other.client_auth
            || self.ocsp < other.ocsp
            || self.policy.names().is_empty() && !other.policy.names().is_empty()
    }
}

/// What a route says about upgraded connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tunnel {
    /// The protocols, as they are asked of upstreams. At least one.
    pub protocols: Vec<String>,
    /// How long nothing may move.
    pub idle_timeout: Duration,
    /// How old one may become; none for no limit.
    pub age_max: Option<Duration>,
}
