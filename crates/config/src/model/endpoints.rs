//! The endpoints of a cluster, and how one of them is chosen.

use std::net::SocketAddr;

use crate::diagnostic::Location;
pub use crate::raw::IdentityKey;

/// One server of a cluster.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// Its address.
    pub addr: SocketAddr,
    /// How many requests it gets in proportion to others; at least 1.
    pub weight: u32,
    /// The zone that it is in.
    pub zone: Option<String>,
    /// Those of a lower number come first.
    pub priority: u8,
    /// Where it is named.
    pub at: Location,
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
