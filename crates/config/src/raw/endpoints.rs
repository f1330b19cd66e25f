//! `endpoints`, `endpoints_file`, `endpoints_dns` and `balance` of `[cluster.NAME]`, as they are written.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Count, DurationText, Field, OneOrMore, WordOrTable};

/// `endpoints = [...]` of `[cluster.NAME]`: addresses, and tables that say more of an endpoint.
pub type Endpoints = OneOrMore<WordOrTable<Endpoint>>;

/// `{ address = "10.0.0.11:8080", ... }` in `endpoints` of `[cluster.NAME]`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename = "endpoint", default, deny_unknown_fields)]
pub struct Endpoint {
    /// IP address and port, or `unix:` and the absolute path of a Unix socket (`"unix:/run/app/app.sock"`).
    ///
    /// Required. Example: `address = "10.0.0.11:8080"`.
    pub address: Field<String>,
    /// How many requests it gets in proportion to the others of its cluster. With `"round_robin"` they come as evenly as they
    /// can: to an endpoint of weight 3 not in threes.
    ///
    /// Default 1; 1 to 256. Example: `weight = 3`.
    pub weight: Field<Count>,
    /// The zone that it is in: a name. Endpoints in the zone of this node (`zone` in `[server]`) get the requests, and the others of
    /// the same priority what those cannot take, by the same rule as for `priority`. Needs a `health_check`.
    ///
    /// Default: none, which is another zone than any. Example: `zone = "a"`.
    pub zone: Field<String>,
    /// Endpoints of the lowest number get the requests, and the next ones what those cannot take. They can take all while at least
    /// 72 % of them are healthy (so many that 1.4 times their part is all), and below that 1.4 times the healthy part: with one
    /// of two healthy 70 %. Needs a `health_check`, since nothing else finds out when the next ones are wanted.
    ///
    /// Default 0; 0 to 15. Example: `priority = 1`.
    pub priority: Field<Count>,
}

/// `{ path = "orders.endpoints.toml", ... }` of `endpoints_file` in `[cluster.NAME]`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename = "cluster.endpoints_file", default, deny_unknown_fields)]
pub struct EndpointsFile {
    /// The file.
    ///
    /// Required. Example: `path = "orders.endpoints.toml"`.
    pub path: Field<String>,
    /// Whether the file may say that there are no endpoints, `endpoints = []`. Requests to the cluster are answered with 503 then.
    /// Otherwise such a file is refused like one that cannot be read: it is rather a fault of what writes it.
    ///
    /// Default `false`. Example: `allow_empty = true`.
    pub allow_empty: Field<bool>,
}

/// `{ name = "orders.internal", port = 8080, ... }` of `endpoints_dns` in `[cluster.NAME]`. Exactly one of `name` and `srv` says what is
/// asked for.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename = "cluster.endpoints_dns", default, deny_unknown_fields)]
pub struct EndpointsDns {
    /// The name whose addresses (A and AAAA) are the endpoints, each with `port`. It is absolute: no search list is added.
    ///
    /// Required unless there is `srv`. Example: `name = "orders.default.svc.cluster.local"`.
    pub name: Field<String>,
    /// The port of all endpoints.
    ///
    /// Required with `name`, and with that only. Example: `port = 8080`.
    pub port: Field<Count>,
    /// The name of a service whose SRV records (RFC 2782) are the endpoints, with their ports, weights and priorities. Weights are
    /// taken in proportion, 0 as the least; without a `health_check` those of the first priority are used and no others.
    ///
    /// Required unless there is `name`. Example: `srv = "_http._tcp.orders.internal"`.
    pub srv: Field<String>,
    /// Which addresses are asked for: `"any"`, `"ipv4"` or `"ipv6"`.
    ///
    /// Default `"any"`. Example: `family = "ipv4"`.
    pub family: Field<Family>,
    /// How long it takes at least until the servers are asked again, whatever the TTL of their answer; also after a failure, then
    /// twice as long after each further one, up to `ttl_max`.
    ///
    /// Default `"5s"`; `"100ms"` to `"1h"`. Example: `ttl_min = "1s"`.
    pub ttl_min: Field<DurationText>,
    /// How long it takes at most.
    ///
    /// Default `"5m"`; `"1s"` to `"1d"`, and no less than `ttl_min`. Example: `ttl_max = "30s"`.
    pub ttl_max: Field<DurationText>,
    /// For how long the last good endpoints are used if the servers do not answer, say that there are none, or answer with what
    /// cannot be used. After that the cluster has none, and requests are answered with 503.
    ///
    /// Default `"unlimited"`; `"1s"` to `"30d"`. Example: `stale_max = "1h"`.
    pub stale_max: Field<DurationText>,
}

/// Values of `family` in `endpoints_dns`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename = "endpoints_dns.family", rename_all = "snake_case")]
pub enum Family {
    /// IPv4 and IPv6.
    Any,
    /// IPv4 (A).
    Ipv4,
    /// IPv6 (AAAA).
    Ipv6,
}

/// A file that `endpoints_file` names: TOML with one key.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename = "the file", default, deny_unknown_fields)]
pub struct EndpointList {
    /// The same as in `[cluster.NAME]`; empty only with `allow_empty`.
    ///
    /// Required. Example: `endpoints = ["10.0.0.11:8080"]`.
    pub endpoints: Field<Endpoints>,
}

/// Values of `balance` in `[cluster.NAME]`. Each worker chooses for itself.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename = "cluster.balance", rename_all = "snake_case")]
pub enum Balance {
    /// One after the other, each as often as its weight says.
    RoundRobin,
    /// Of two that are drawn by weight the one with fewer requests under way, in proportion to its weight. Each worker counts its
    /// own requests: with N workers an endpoint that looks idle to one of them may have work from N - 1 others.
    LeastRequest,
    /// Drawn by weight.
    Random,
    /// By a property of the request, so that requests which have it in common come to the same endpoint on every worker and every
    /// node, for as long as that endpoint takes requests (Maglev hashing: when one endpoint in N comes or goes, about one in N
    /// requests changes its endpoint). Requests without the property are drawn by weight.
    Maglev(HashKey),
}

/// Values of `maglev` in `balance` of `[cluster.NAME]`: which property of a request decides.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename = "balance.maglev", rename_all = "snake_case")]
pub enum HashKey {
    /// The first header field of this name. Clients choose its value, and so their endpoint.
    Header(Field<String>),
    /// The cookie of this name. Ringward sets none: the application does.
    Cookie(Field<String>),
    /// Who the client is, by its certificate.
    Identity(IdentityKey),
    /// The address of the client, without port.
    SourceAddress,
}

/// Values of `identity` in `maglev`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename = "maglev.identity", rename_all = "snake_case")]
pub enum IdentityKey {
    /// SHA-256 of its certificate, which changes when that is renewed.
    Fingerprint,
    /// Its SPIFFE ID, which does not.
    SpiffeId,
    /// The tenant that it belongs to.
    Tenant,
}
