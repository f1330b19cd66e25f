//! `endpoints` and `balance` of `[cluster.NAME]`, as they are written.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Count, Field, OneOrMore, WordOrTable};

/// `endpoints = [...]` of `[cluster.NAME]`: addresses, and tables that say more of an endpoint.
pub type Endpoints = OneOrMore<WordOrTable<Endpoint>>;

/// `{ address = "10.0.0.11:8080", ... }` in `endpoints` of `[cluster.NAME]`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename = "endpoint", default, deny_unknown_fields)]
pub struct Endpoint {
    /// IP address and port.
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
