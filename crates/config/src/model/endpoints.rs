//! The endpoints of a cluster, and how one of them is chosen.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use crate::model::NamedPath;
pub use crate::raw::{Family, IdentityKey};

/// One server of a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Where it listens.
    pub addr: EndpointAddr,
    /// How many requests it gets in proportion to others; at least 1.
    pub weight: u32,
    /// The zone that it is in.
    pub zone: Option<String>,
    /// Those of a lower number come first.
    pub priority: u8,
}

/// Where a server of a cluster listens. As in `10.0.0.11:8080` or `unix:/run/app.sock`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum EndpointAddr {
    /// At a port.
    Ip(SocketAddr),
    /// At a Unix socket: its path, which is absolute, has at most 107 bytes and no control characters. Shared, since requests carry
    /// it with them.
    Unix(Arc<str>),
}

impl EndpointAddr {
    /// The address that its certificate can be for, if it has one.
    pub fn ip(&self) -> Option<IpAddr> {
        match self {
            Self::Ip(addr) => Some(addr.ip()),
            Self::Unix(_) => None,
        }
    }

    /// What a request to it is for (`Host`) that is nobody else's.
    pub fn authority(&self) -> String {
        match self {
            Self::Ip(addr) => addr.to_string(),
            // A path is no host (RFC 3986 section 3.2.2).
            Self::Unix(_) => "localhost".to_owned(),
        }
    }
}

impl From<SocketAddr> for EndpointAddr {
    fn from(addr: SocketAddr) -> EndpointAddr {
        EndpointAddr::Ip(addr)
    }
}

impl fmt::Display for EndpointAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(addr) => addr.fmt(f),
            Self::Unix(path) => write!(f, "unix:{path}"),
        }
    }
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
    /// They have to have IP addresses, since their certificates are compared with those.
    pub needs_ip: bool,
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
