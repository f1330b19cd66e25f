//! The upstream's side: which endpoint, and a connection to it.
//!
//! - `endpoints.rs` has the endpoints that a cluster has at the moment, as the control plane publishes them; `shares.rs` how
//!   requests are dealt out among them; `choice.rs` one worker's choice, with `hash_key.rs` for the property of a request that
//!   may decide.
//! - `split.rs` chooses the cluster where a route divides its requests among several.
//! - `load.rs` counts what one worker has under way with a cluster, and bounds what is tried again.
//! - `outliers.rs` counts the failures of endpoints.
//! - `pool.rs` has the connections to an endpoint, `http1.rs` an exchange on one of them, `http2/` those that requests share;
//!   `by_alpn.rs` which of the two it is, where the endpoint says so.
//! - `transport.rs` is what a connection runs over, `tls.rs` that with TLS. `socket_trouble.rs` says what is wrong with a Unix socket.

mod by_alpn;
mod choice;
mod endpoints;
mod hash_key;
mod http1;
pub(crate) mod http2;
mod load;
mod outliers;
mod pool;
mod shares;
mod socket_trouble;
pub(crate) mod split;
mod tls;
mod transport;

use std::{io, time::Duration};

use crate::{error::ProxyError, io::Deadline};

pub use endpoints::{Endpoint, EndpointSet, Endpoints, reported};
pub(crate) use load::{Active, Copying, Retrying};
pub use outliers::Conduct;
use pool::Pool;
pub(crate) use pool::{Cluster, Connection, PoolKey, Pools, Upstream, Wanted};
pub use socket_trouble::SocketTrouble;
pub(crate) use socket_trouble::in_brackets;
use tls::failure_in;

/// Why reading from or writing to an upstream failed (`None`: it closed), seen with the deadline in mind.
pub(crate) fn failure(deadline: &Deadline, error: Option<io::Error>, limit: Duration) -> ProxyError {
    match error {
        _ if deadline.fired() => ProxyError::UpstreamTimeout(limit),
        Some(error) => match failure_in(&error) {
            Some(failure) => ProxyError::UpstreamTls(failure.clone()),
            None => ProxyError::UpstreamReset(error),
        },
        None => ProxyError::UpstreamClosed,
    }
}

/// Whole milliseconds, at least 1, as deadlines take them.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX).max(1)
}
