//! `[server]` and `[admin]`.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Count, CountOrWord, DateTime, DurationText, Field, OneOrMany, SizeText};

/// `[server]`: the process as a whole.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename = "[server]", default, deny_unknown_fields)]
pub struct Server {
    /// How many worker threads carry traffic, each with sockets, connections and pools of its own: a number, or
    /// `"auto"` for one per core that the process may run on.
    ///
    /// Default `"auto"`; 1 to 1024. Example: `workers = 4`.
    pub workers: Field<CountOrWord>,
    /// The kernel interface of the workers: `"io_uring"`, `"epoll"`, or `"auto"` for io_uring where the kernel allows
    /// it and epoll elsewhere. With `"io_uring"` the process refuses to start without it.
    ///
    /// Default `"auto"`. Example: `io = "epoll"`.
    pub io: Field<IoDriver>,
    /// How long connections may go on after the process was told to stop: exchanges under way finish, new ones are
    /// refused; what is left then is closed.
    ///
    /// Default `"30s"`; `"100ms"` to `"1h"`. Example: `drain_timeout = "2m"`.
    pub drain_timeout: Field<DurationText>,
    /// A directory that belongs to the process, where it keeps what must survive a restart: the deny list, copies and
    /// numbers of revocation lists, fetched OCSP staples. Each process has its own.
    ///
    /// Default: none; required by `socket` in `[admin]`, by `crl`, `crl_urls` and `crl_distribution_points` in
    /// `[trust.NAME]` and by `staple = "fetch"`. Example: `state_dir = "/var/lib/ringward"`.
    pub state_dir: Field<String>,
    /// CA certificates, a PEM file or a directory of such, by which servers are verified from which revocation lists and OCSP
    /// responses are fetched over `https`. They are signed, so plain `http` serves as well; the CAs of the system are never
    /// used.
    ///
    /// Default: none, and then `https` URLs are refused. Example: `fetch_ca = "pki/servers.pem"`.
    pub fetch_ca: Field<String>,
    /// `session_cache = { ... }`: the TLS sessions of listeners with `resumption = "cache"`.
    ///
    /// Default: all its defaults.
    pub session_cache: Field<SessionCache>,
    /// How long an exchange under way may go on after its client has lost our trust (CA removed, revoked, denied); then
    /// its connection is cut. Connections without an exchange are closed at once.
    ///
    /// Default `"30s"`; `"0s"` to `"1h"`. Example: `trust_grace = "5s"`.
    pub trust_grace: Field<DurationText>,
    /// How many idle connections per second are closed when trust changes, over all workers, or `"unlimited"`. Their
    /// clients come back with full handshakes, all at once if nothing holds them apart. It delays no refusal: a
    /// connection that waits for its turn is not served.
    ///
    /// Default 1000; 1 to 1000000. Example: `trust_drain_rate = "unlimited"`.
    pub trust_drain_rate: Field<CountOrWord>,
    /// A policy that is asked about the requests of every route of every host before any other, also of hosts with
    /// `danger_no_policy`. It can only deny: after its allow the route's own policies are asked. A route that names it as well
    /// has it asked once, first.
    ///
    /// Default: none. Example: `global_policy = "guard"`.
    pub global_policy: Field<String>,
    /// How much memory the bodies may take that are read ahead for policies (`policy_body_max` of a route), over all workers.
    /// A worker has an equal share, and at least 4 MiB; a body for which nothing is left is answered with 503. Bodies that
    /// arrive together with their head do not count.
    ///
    /// Default `"64MiB"`; `"4MiB"` to `"64GiB"`. Example: `policy_body_memory_max = "256MiB"`.
    pub policy_body_memory_max: Field<SizeText>,
    /// How much memory the encoders may take that compress responses (`compression` of a route), over all workers. A worker has an
    /// equal share, and at least room for one. A response for which nothing is left passes as it is. An encoder of zstd or
    /// Brotli takes up to 2 MiB, one of gzip 512 KiB.
    ///
    /// Default `"256MiB"`; `"4MiB"` to `"64GiB"`. Example: `compression_memory_max = "1GiB"`.
    pub compression_memory_max: Field<SizeText>,
    /// The servers that are asked for the names of `endpoints_dns`: IP address each, and port if that is not 53. All are asked to do
    /// the work (recursion); the first that answers counts.
    ///
    /// Default: those of `/etc/resolv.conf`, which is read each time; 1 to 8. Example: `dns_servers = ["10.0.0.2"]`.
    pub dns_servers: Field<OneOrMany>,
    /// How much memory the process should take at most, as the kernel counts it (resident memory). From 85 % on no connection is
    /// accepted and open ones end after their request; from 95 % on requests are answered with 503 too. It is measured ten times
    /// per second, so leave room below what the kernel or the container kills for.
    ///
    /// Default: none; `"16MiB"` to `"16TiB"`. Example: `memory_max = "2GiB"`.
    pub memory_max: Field<SizeText>,
    /// The zone that this node is in: a name, as endpoints have it (`zone` in `endpoints` of `[cluster.NAME]`), which come first then.
    ///
    /// Default: none, and zones of endpoints make no difference. Example: `zone = "a"`.
    pub zone: Field<String>,
}

/// `session_cache = { ... }` of `[server]`: one cache, which all workers and listeners share. When it is full, new sessions
/// replace others; a client whose session is gone has a full handshake.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename = "session_cache", default, deny_unknown_fields)]
pub struct SessionCache {
    /// How many sessions it holds. Its table is made for as many when the process starts.
    ///
    /// Default 20000; 64 to 10000000. Example: `entries = 100000`.
    pub entries: Field<Count>,
    /// How much memory the sessions may take; one takes about as much as the client's certificates.
    ///
    /// Default `"64MiB"`; `"256KiB"` to `"64GiB"`. Example: `bytes_max = "256MiB"`.
    pub bytes_max: Field<SizeText>,
}

/// Values of `io` in `[server]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename = "server.io", rename_all = "snake_case")]
pub enum IoDriver {
    /// io_uring where the kernel allows it, epoll elsewhere.
    Auto,
    /// io_uring, or no start.
    IoUring,
    /// epoll.
    Epoll,
}

/// `[admin]`: what operators and monitoring reach.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename = "[admin]", default, deny_unknown_fields)]
pub struct Admin {
    /// The address of the plain HTTP listener with `/metrics`, `/healthz` and `/readyz`: an IP address and a port. It
    /// authenticates nobody, so it belongs on a loopback or management address.
    ///
    /// Default: no such listener. Example: `metrics = "127.0.0.1:9464"`.
    pub metrics: Field<String>,
    /// The Unix socket by which `ringward revoke`, `trust`, `keys` and `reload` reach the process. It is made with
    /// mode 0600, in a directory that not everybody may write to, and answers root and the user that runs the process.
    ///
    /// Default: no such socket; needs `state_dir`. Example: `socket = "/run/ringward/admin.sock"`.
    pub socket: Field<String>,
    /// `maintenance = { ... }`: work on this node is announced, so that alerts about what it causes keep silent.
    ///
    /// Default: none.
    pub maintenance: Field<Maintenance>,
}

/// `maintenance = { ... }` of `[admin]`: changes nothing but the metric `ringward_maintenance_until_timestamp_seconds`, by which
/// the rules in `deploy/prometheus` silence alerts that a restart, an upgrade or a renewal under way causes by itself, on this
/// node. It ends by itself.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename = "maintenance", default, deny_unknown_fields)]
pub struct Maintenance {
    /// Until when, at most 24 hours ahead.
    ///
    /// Required. Example: `until = 2027-03-01T18:00:00Z`.
    pub until: Field<DateTime>,
    /// Why, for the log: 1 to 200 bytes.
    ///
    /// Required. Example: `reason = "upgrade of the kernel"`.
    pub reason: Field<String>,
}
