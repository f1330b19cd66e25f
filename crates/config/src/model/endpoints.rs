//! The endpoints of a cluster, and how one of them is chosen.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use crate::model::NamedPath;
pub use crate::raw::{Family, IdentityKey};

/// One server of a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Its address.
    pub addr: SocketAddr,
    /// How many requests it gets in proportion to others; at least 1.
    pub weight: u32,
    /// The zone that it is in.
    pub zone: Option<String>,
    /// Those of a lower number come first.
    pub priority: u8,
}

/// Where the endpoints of a cluster are found, if the configuration does not name them.
#[derive(Clone, Debug, PartialEq)]
pub enum Discovery {
    /// In a file.
    File(EndpointsFile),
    /// In DNS.
    Dns(EndpointsDns),
}

/// What is asked of which servers of DNS, and how often.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointsDns {
    /// What is asked.
    pub query: DnsQuery,
    /// Which addresses.
    pub family: Family,
    /// The shortest time between two questions.
    pub ttl_min: Duration,
    /// The longest.
    pub ttl_max: Duration,
    /// For how long endpoints are used without being confirmed; `None` for ever.
    pub stale_max: Option<Duration>,
    /// Who is asked; none for those of the system.
    pub servers: Vec<SocketAddr>,
}

/// What is asked of DNS. Names are absolute, without the dot at the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DnsQuery {
    /// The addresses of a name.
    Addresses {
        /// The name.
        name: String,
        /// The port of all of them.
        port: u16,
    },
    /// The servers of a service.
    Service(String),
}

impl fmt::Display for DnsQuery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DnsQuery::Addresses { name, port } => write!(f, "{name}:{port}"),
            DnsQuery::Service(name) => f.write_str(name),
        }
    }
}

/// A file that names endpoints.
#[derive(Clone, Debug)]
pub struct EndpointsFile {
    /// The file.
    pub path: NamedPath,
    /// It may name none.
    pub allow_empty: bool,
    /// It may say of endpoints what follows from health.
    pub is_checked: bool,
}

/// How an endpoint is chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Balance {
    /// One after the other, by weight.
    RoundRobin,
    /// Of two that are drawn by weight the one with less to do.
    LeastRequest,
    /// Drawn by weight.
    Random,
    /// By a property of the request.
    Maglev(HashKey),
}

/// The property of a request by which its endpoint is chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HashKey {
    /// The first field of this name, which is in lower case.
    Header(String),
    /// The cookie of this name.
    Cookie(String),
    /// Who the client is.
    Identity(IdentityKey),
    /// The client's address without port.
    SourceAddress,
}

/// As in `header x-user`.
impl fmt::Display for HashKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header(name) => write!(f, "header {name}"),
            Self::Cookie(name) => write!(f, "cookie {name}"),
            Self::Identity(IdentityKey::Fingerprint) => f.write_str("identity fingerprint"),
            Self::Identity(IdentityKey::SpiffeId) => f.write_str("identity spiffe_id"),
            Self::Identity(IdentityKey::Tenant) => f.write_str("identity tenant"),
            Self::SourceAddress => f.write_str("source_address"),
        }
    }
}
