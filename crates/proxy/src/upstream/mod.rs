//! The upstream's side: which endpoint, and a connection to it.

mod endpoints;
mod http1;
pub(crate) mod http2;
mod pool;

use std::{io, time::Duration};

use crate::{error::ProxyError, io::Deadline};

pub use endpoints::Rotation;
pub(crate) use pool::{Cluster, Connection, Pools, Upstream};

/// Why reading from or writing to an upstream failed (`None`: it closed), seen with the deadline in mind.
pub(crate) fn failure(deadline: &Deadline, error: Option<io::Error>, limit: Duration) -> ProxyError {
    match error {
        _ if deadline.fired() => ProxyError::UpstreamTimeout(limit),
        Some(error) => ProxyError::UpstreamReset(error),
        None => ProxyError::UpstreamClosed,
    }
}

/// Whole milliseconds, at least 1, as deadlines take them.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX).max(1)
}
