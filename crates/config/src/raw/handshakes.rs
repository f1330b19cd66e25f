//! `handshakes` of `[[listener]]`, as it is written.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Count, DurationText, Field};

/// `handshakes = { ... }` of a listener: how much TLS handshakes may take, and who waits when that is not enough.
///
/// Clients that resume a session of ours come first, then those from addresses whose client has proved a certificate within the
/// last hour, then everybody else; a quarter of everything is kept for the first two. Who has to wait does so before anything
/// costly is done, and who waits too long is closed without a word.
///
/// Numbers are for all workers together. Each worker holds to its equal share, and the kernel spreads connections by address and
/// port, so up to one more per worker passes where a share is not whole, and fewer pass while connections are few.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename = "handshakes", default, deny_unknown_fields)]
pub struct Handshakes {
    /// How many handshakes may be in work at the same time, from the ClientHello to the end.
    ///
    /// Default 1024; 4 to 1000000. Example: `concurrent_max = 256`.
    pub concurrent_max: Field<Count>,
    /// How many full handshakes may begin per second; as many at once, then evenly. A client that resumes has none.
    ///
    /// Default: no limit; 1 to 1000000. Example: `full_per_second = 3000`, about three quarters of what two cores can do.
    pub full_per_second: Field<Count>,
    /// How many clients of each of the three kinds may wait for their handshake. More are closed.
    ///
    /// Default 1024; 0 to 1000000, where 0 lets nobody wait. Example: `queue_max = 256`.
    pub queue_max: Field<Count>,
    /// How long a client may wait for its handshake; it counts as part of `handshake_timeout` and has to be less.
    ///
    /// Default `"2s"`; `"10ms"` to `"1m"`. Example: `queue_timeout = "500ms"`.
    pub queue_timeout: Field<DurationText>,
    /// `per_source = { ... }`: what the addresses of one network may take together.
    ///
    /// Default: no limit.
    pub per_source: Field<HandshakesPerSource>,
}

/// `per_source = { ... }` in `handshakes`: limits for each network of clients.
///
/// With `proxy_protocol` it is the client's address that counts, not the load balancer's. What is known of the handshakes of networks
/// has a fixed size (4096 of them per worker and listener); in a flood from more than that, those that were seen last count, and the
/// listener's own limits hold. Connections are counted exactly.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename = "handshakes.per_source", default, deny_unknown_fields)]
pub struct HandshakesPerSource {
    /// How many full handshakes may begin per second for each network. More are closed at once.
    ///
    /// Default: no limit; 1 to 1000000. Example: `full_per_second = 50`.
    pub full_per_second: Field<Count>,
    /// How many handshakes of each network may fail per minute, by the client's fault and after its ClientHello. After that its
    /// connections are closed as soon as they are accepted, for the time of `refuse_for`, but for addresses whose client has
    /// proved a certificate within the last hour: they may share a network (or, behind NAT, an address) with whoever fails.
    ///
    /// Default: no limit; 1 to 1000000. Example: `failures_per_minute = 60`.
    pub failures_per_minute: Field<Count>,
    /// How long a network is refused that has failed too often.
    ///
    /// Default `"1m"`; `"1s"` to `"24h"`. Needs `failures_per_minute`. Example: `refuse_for = "10m"`.
    pub refuse_for: Field<DurationText>,
    /// How many connections each network may have open, those in their handshake included. More are closed as soon as they are
    /// accepted, behind `proxy_protocol` when its header has been read.
    ///
    /// Each worker holds to its share, rounded up, and the kernel spreads connections by address and port: give several times as
    /// many as clients need, and more than there are workers.
    ///
    /// Default: no limit but `connections_max` in `limits`; 1 to 10000000. Example: `connections_max = 200`.
    pub connections_max: Field<Count>,
    /// How many leading bits of IPv4 addresses make a network.
    ///
    /// Default 24; 8 to 32. Example: `prefix_v4 = 32`.
    pub prefix_v4: Field<Count>,
    /// How many leading bits of IPv6 addresses make a network.
    ///
    /// Default 56, which is what one customer of a provider has; 16 to 128. Example: `prefix_v6 = 64`.
    pub prefix_v6: Field<Count>,
}
