//! What TLS handshakes of a listener may take.

use std::num::NonZeroU32;
use std::time::Duration;

/// Limits of handshakes, over all workers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handshakes {
    /// Handshakes in work at the same time; at least 4.
    pub concurrent_max: usize,
    /// Full handshakes that begin per second; none for no limit.
    pub full_per_second: Option<NonZeroU32>,
    /// Clients of each kind that may wait.
    pub queue_max: usize,
    /// How long one may wait; less than the time for the whole handshake.
    pub queue_timeout: Duration,
    /// What each network of clients may take; none for no limit.
    pub per_source: Option<HandshakesPerSource>,
}

/// Limits of handshakes for each network of clients, over all workers. At least one of the limits is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HandshakesPerSource {
    /// Full handshakes that begin per second; none for no limit.
    pub full_per_second: Option<NonZeroU32>,
    /// Handshakes that fail per minute; none for no limit.
    pub failures_per_minute: Option<NonZeroU32>,
    /// For how long a network is refused that has failed too often.
    pub refuse_for: Duration,
    /// Connections that are open; none for no limit.
    pub connections_max: Option<usize>,
    /// Bits of an IPv4 address that make a network; at most 32.
    pub prefix_v4: u8,
    /// Bits of an IPv6 address that make a network; at most 128.
    pub prefix_v6: u8,
}
