//! One immutable generation of everything that a worker needs.
//!
//! Built and checked by the control plane from a configuration and the loaded materials, published whole, and dropped on the
//! control thread. Indexes between its parts (routes to clusters, routes to policies) are resolved once, here.

mod build;
mod identities;

use std::{
    num::NonZeroU32,
    sync::Arc,
    time::{Duration, Instant},
};

use ringward_config::{self as config, HostTable, Routes};
use ringward_http::HeadLimits;
use ringward_policy::{CacheOptions, CompiledPolicy};
use ringward_telemetry::{ClusterId, ListenerId, PolicyId, RouteId, TenantId};
use ringward_tls::{ClientAuth, HostTls, OcspMode, OcspTable, Revocation, UpstreamTls};

pub use self::build::{Materials, SnapshotError};
pub use self::identities::RouteIdentity;
use crate::{
    header_edits::RouteEdits,
    mirror::Mirror,
    policy_server::PolicyServer,
    route_answer::RouteAnswer,
    upstream::{Endpoints, split::Split},
};

/// One generation.
pub struct Snapshot {
    generation: u64,
    pub(crate) listeners: Vec<Listener>,
    pub(crate) clusters: Vec<Cluster>,
    pub(crate) policies: Vec<Policy>,
    /// A request whose access record cannot be queued is not served.
    pub(crate) audit_required: bool,
    /// Access records are written.
    pub(crate) access_log: bool,
    pub(crate) tenants: Vec<Tenant>,
    /// What is revoked; the hosts of this snapshot look it up in the same.
    pub(crate) revocation: Arc<Revocation>,
    pub(crate) ocsp: Arc<OcspTable>,
    /// When it was built, right before it came into force.
    pub(crate) published_at: Instant,
    /// How long an exchange may go on after its client has lost our trust.
    pub(crate) trust_grace_millis: u64,
    /// How many idle connections are ended per second for that, on the whole node.
    pub(crate) trust_drain_rate: Option<NonZeroU32>,
    /// Bytes of bodies that are held for policies, on the whole node.
    pub(crate) policy_body_memory_max: usize,
    /// Bytes that encoders of responses may take, on the whole node.
    pub(crate) compression_memory_max: usize,
}

/// A tenant, as far as connections are concerned.
pub(crate) struct Tenant {
    pub(crate) id: TenantId,
    pub(crate) name: Arc<str>,
    /// Open connections, on the whole node.
    pub(crate) connections_max: Option<usize>,
}

/// A configured listener.
pub(crate) struct Listener {
    pub(crate) index: usize,
    pub(crate) id: ListenerId,
    pub(crate) name: Arc<str>,
    pub(crate) limits: Limits,
    pub(crate) hosts: Vec<Host>,
    names: HostTable<usize>,
    default_host: Option<usize>,
    /// Who may say that a connection is another's.
    pub(crate) proxy_protocol: Option<config::ProxyProtocol>,
    /// What handshakes may take.
    pub(crate) handshakes: Option<config::Handshakes>,
    /// How many requests are in work.
    pub(crate) requests: Option<config::Requests>,
    /// Who may say that a request is another's.
    pub(crate) client_address: Option<config::ClientAddress>,
    /// Some host has load balancers forward identities.
    pub(crate) has_forwarding: bool,
    /// Where requests are counted that match no route.
    pub(crate) unmatched: RouteId,
    /// Some route carries tunnels.
    pub(crate) has_tunnels: bool,
}

/// What downstream connections may use.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    pub(crate) connections_max: usize,
    pub(crate) head: HeadLimits,
    pub(crate) streams_max: usize,
    pub(crate) handshake_timeout: Duration,
    pub(crate) header_timeout: Duration,
    pub(crate) body_timeout: Duration,
    pub(crate) idle_timeout: Duration,
    pub(crate) requests_per_connection_max: Option<u64>,
    pub(crate) connection_age_max: Option<Duration>,
}

/// A virtual host.
pub(crate) struct Host {
    /// Its first name.
    pub(crate) name: Arc<str>,
    pub(crate) tls: HostTls,
    /// Who may say whose requests they are; boxed, as few hosts have it.
    pub(crate) forwarding: Option<Box<Forwarding>>,
    pub(crate) forward: config::Forward,
    pub(crate) routes: Routes<Route>,
}

/// Load balancers that forward their clients' certificates.
pub(crate) struct Forwarding {
    pub(crate) rules: config::ForwardedIdentity,
    /// Whom they may vouch for.
    pub(crate) auth: Arc<ClientAuth>,
}

/// Where the requests of a path go.
pub(crate) struct Route {
    pub(crate) id: RouteId,
    pub(crate) name: Arc<str>,
    pub(crate) template: Box<str>,
    pub(crate) labels: Vec<(String, String)>,
    /// It takes calls of gRPC alone.
    pub(crate) grpc: bool,
    /// Index of the cluster in [`Snapshot::clusters`], unless there is `answer`.
    pub(crate) cluster: usize,
    /// Nothing if there is `answer`.
    pub(crate) cluster_name: Box<str>,
    /// Among which clusters its requests are divided; `cluster` and `cluster_name` say nothing then.
    pub(crate) split: Option<Split>,
    /// Where copies of its requests go.
    pub(crate) mirror: Option<Box<Mirror>>,
    /// What requests are answered with instead of being sent upstream.
    pub(crate) answer: Option<RouteAnswer>,
    /// What it changes in heads, if it does.
    pub(crate) edits: Option<RouteEdits>,
    /// Indices in [`Snapshot::policies`] of those that all have to allow a request, in the order in which they are asked;
    /// none if the configuration says `danger_no_policy`.
    pub(crate) policies: Box<[usize]>,
    /// What it wants of clients.
    pub(crate) client_auth: config::ClientAuthMode,
    /// Whether it has OCSP responders asked, and how long it waits for them.
    pub(crate) ocsp: OcspMode,
    pub(crate) ocsp_timeout: Duration,
    pub(crate) allow_encoded_slash: bool,
    pub(crate) body_bytes_max: u64,
    /// How much of a body is read before the decision, 0 if the configuration allows nothing; `None` if no policy of the
    /// route looks at bodies.
    pub(crate) policy_body_max: Option<usize>,
    pub(crate) response_timeout: Duration,
    /// Of a request altogether, if there is a limit.
    pub(crate) request_timeout: Option<Duration>,
    /// When requests that failed are sent again.
    pub(crate) retry: Option<Box<config::Retry>>,
    /// Which tunnels it carries.
    pub(crate) tunnel: Option<config::Tunnel>,
    /// How its responses are compressed, if they are.
    pub(crate) compression: Option<Box<config::Compression>>,
}

impl Route {
    /// Which pages of other origins may use it.
    pub(crate) fn cors(&self) -> Option<&config::Cors> {
        self.edits.as_ref()?.cors.as_ref()
    }
}

/// A group of endpoints that serve the same.
pub(crate) struct Cluster {
    pub(crate) id: ClusterId,
    pub(crate) name: Arc<str>,
    pub(crate) endpoints: Arc<Endpoints>,
    pub(crate) protocol: config::Protocol,
    /// How both sides prove who they are; none for no TLS.
    pub(crate) tls: Option<Arc<UpstreamTls>>,
    /// Each connection is of one request, and begins with whose it is ([`crate::announced`]).
    pub(crate) announces: bool,
    pub(crate) connect_timeout: Duration,
    pub(crate) idle_timeout: Duration,
    pub(crate) pool_idle_max: usize,
    /// With HTTP/2: per worker and endpoint.
    pub(crate) connections_max: usize,
    pub(crate) streams_per_connection_max: usize,
    /// The largest head that any listener lets through, as RFC 9113 §6.5.2 counts: with HTTP/2, nothing larger is taken in.
    pub(crate) head_list_bytes_max: usize,
    pub(crate) retry_budget: config::RetryBudget,
    pub(crate) limits: Option<config::ClusterLimits>,
}

/// A compiled policy.
pub(crate) struct Policy {
    pub(crate) id: PolicyId,
    pub(crate) name: Arc<str>,
    pub(crate) compiled: Arc<dyn CompiledPolicy>,
    /// The server that decides, if one does.
    pub(crate) server: Option<Arc<PolicyServer>>,
    /// The policy that is asked beside it and decides nothing, by its index.
    pub(crate) candidate: Option<usize>,
    /// Bounds of its decision cache, the budget of clients for the whole node; `None` if it is off.
    pub(crate) cache: Option<CacheOptions>,
}

impl Snapshot {
    /// Counts the snapshots of this process.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The TLS side of a virtual host, by the name of its listener and its index there.
    pub fn host_tls(&self, listener: &str, host: usize) -> Option<&HostTls> {
        Some(&self.listener(listener)?.hosts.get(host)?.tls)
    }

    pub(crate) fn tenant_index(&self, name: &str) -> Option<usize> {
        self.tenants.iter().position(|tenant| &*tenant.name == name)
    }

    pub(crate) fn listener(&self, name: &str) -> Option<&Listener> {
        self.listeners.iter().find(|listener| &*listener.name == name)
    }
}

#[cfg(test)]
impl Snapshot {
    /// One that has nothing.
    pub(crate) fn empty() -> Snapshot {
        let Materials { revocation, ocsp, .. } = Materials::default();
        Snapshot {
            generation: 1,
            listeners: Vec::new(),
            clusters: Vec::new(),
            policies: Vec::new(),
            audit_required: false,
            access_log: false,
            tenants: Vec::new(),
            revocation,
            ocsp,
            published_at: Instant::now(),
            trust_grace_millis: 0,
            trust_drain_rate: None,
            policy_body_memory_max: 0,
            compression_memory_max: 0,
        }
    }
}

impl std::fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Snapshot").field("generation", &self.generation).finish_non_exhaustive()
    }
}

impl Listener {
    /// The virtual host that does the handshake: the named one, else the default, else nobody.
    pub(crate) fn host_index(&self, server_name: Option<&str>) -> Option<usize> {
        server_name.and_then(|name| self.names.lookup(name).copied()).or(self.default_host)
    }

    /// The virtual host that a request asks for: the named one, else the default, else nobody. The same table as for server
    /// names, so that both are always read alike.
    pub(crate) fn host_for_request(&self, name: &str) -> Option<&Host> {
        self.names.lookup(name).copied().or(self.default_host).map(|index| &self.hosts[index])
    }
}

impl Host {
    /// Whether a client that is admitted by the rules of this host may ask for `other`: only if it has the very same rules.
    pub(crate) fn vouches_for(&self, other: &Host) -> bool {
        self.tls.client_auth().digest() == other.tls.client_auth().digest()
    }
}
