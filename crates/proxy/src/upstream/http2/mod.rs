//! HTTP/2 to upstreams (RFC 9113), agreed on by ALPN or with prior knowledge, on the `h2` crate: requests share connections.
//!
//! - `pool.rs` has the connections of one worker to one endpoint and gives each request a **lease**: a place on one of them. When
//!   all are full another is opened, up to `connections_max`; beyond that requests wait, for as long as `connect_timeout`.
//! - `connection.rs` is one connection, driven by a task of its own; `link.rs` is what of it others see, `bytes.rs` its bytes. It
//!   counts as open once the upstream has sent its settings, so that no request goes to somebody who does not speak HTTP/2.
//! - `stream.rs` is one request: an [`crate::upstream_side::UpstreamSide`] on a lease. Its deadline is a timer, since the socket
//!   belongs to all: a request that times out, or whose client goes, is called off (CANCEL), and the connection lives on.
//! - `tunnel.rs` is a stream that carries another protocol (RFC 8441).
//!
//! Bytes pass through the same [`crate::h2::Wire`] as those of clients, with its meter.
//!
//! **Flow control** is end to end: a response's window is given back when the client has taken the bytes. The connection's window
//! is as large as those of all its streams together, so that clients that stand still never hold up others.
//!
//! **The end.** An upstream that says GOAWAY gets no more requests; what it has taken on ends as it wants. What it has not
//! processed ([`crate::error::ProxyError::UpstreamUnprocessed`]) is sent again once, if nothing of its body is gone and nothing of an
//! answer has come. A connection on which a request has timed out is asked whether it is there (PING), and gets nothing until it says so.

mod bytes;
mod connection;
mod link;
mod pool;
mod stream;
mod tunnel;

use std::time::Duration;

use ringward_config::Protocol;
use ringward_telemetry::ClusterId;

use crate::snapshot;

pub(crate) use pool::{AllFull, Shared, SharedPool};
pub(crate) use stream::Stream;

/// What a cluster wants of connections that requests share.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    cluster: ClusterId,
    connect_timeout: Duration,
    idle_timeout: Duration,
    idle_max: usize,
    connections_max: usize,
    streams_max: usize,
    head_list_bytes_max: usize,
    by_alpn: bool,
}

impl Terms {
    pub(crate) fn of(cluster: &snapshot::Cluster) -> Terms {
        Terms {
            cluster: cluster.id,
            connect_timeout: cluster.connect_timeout,
            idle_timeout: cluster.idle_timeout,
            idle_max: cluster.pool_idle_max,
            connections_max: cluster.connections_max,
            streams_max: cluster.streams_per_connection_max,
            head_list_bytes_max: cluster.head_list_bytes_max,
            by_alpn: cluster.protocol == Protocol::Auto,
        }
    }

    /// Endpoints may agree to HTTP/1.1 instead.
    pub(crate) fn by_alpn(&self) -> bool {
        self.by_alpn
    }

    pub(super) fn cluster(&self) -> ClusterId {
        self.cluster
    }

    pub(super) fn connect_timeout(&self) -> Duration {
        self.connect_timeout
    }
}
