//! `[cluster.NAME]`.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    Balance, Count, CountOrWord, DurationText, Endpoints, EndpointsDns, EndpointsFile, Field, HealthCheck,
    OutlierDetection, RetryBudget, UpstreamTls, WordOrTable,
};

/// `[cluster.NAME]`: a group of equal upstream endpoints.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename = "[cluster.NAME]", default, deny_unknown_fields)]
pub struct Cluster {
    /// The servers: IP address and port each, or a Unix socket (`"unix:/run/app/app.sock"`), or a table that says more, such as
    /// `{ address = "10.0.0.11:8080", weight = 3 }`. A Unix socket has its path from the root on; abstract ones are refused, since
    /// anybody on the machine could listen there. They change with the configuration only; those of `endpoints_file` and `endpoints_dns` change without it.
    ///
    /// Required, unless another key says where they are found; 1 to 1024. Example:
    /// `endpoints = ["10.0.0.11:8080", "[2001:db8::1]:8080"]`.
    pub endpoints: Field<Endpoints>,
    /// A file that names the servers, for those that come and go: TOML with `endpoints = [...]` as it stands in `[cluster.NAME]`, or a
    /// table that says more, such as `{ path = "orders.endpoints.toml", allow_empty = true }`. What is written there is in force at
    /// once, without a reload. A file that is gone or bad in any part changes nothing: the last good endpoints stay, and it is
    /// logged and counted. The process does not start with such a file, and a reload that adds the key is refused.
    ///
    /// Default: none, and `endpoints` names them. Example: `endpoints_file = "orders.endpoints.toml"`.
    pub endpoints_file: Field<WordOrTable<EndpointsFile>>,
    /// A name whose addresses in DNS are the servers, with their port, or a table that says more, such as
    /// `{ srv = "_http._tcp.orders.internal" }`. It is looked up again when the TTL is over. Whatever is no good answer changes
    /// nothing: the last good endpoints stay, and it is logged and counted. The process waits for a first answer for 5 seconds
    /// at most, and then serves without: requests to the cluster are answered with 503.
    ///
    /// Default: none. Example: `endpoints_dns = "orders.internal:8080"`.
    pub endpoints_dns: Field<WordOrTable<EndpointsDns>>,
    /// What the endpoints speak: `"http1"` is HTTP/1.1; `"http2"` is HTTP/2, which every endpoint has to speak then, with TLS
    /// agreed on by ALPN and without from the first byte on (prior knowledge, also called h2c). Clients may speak either in both
    /// cases. `"auto"` is for endpoints with `tls`: each connection speaks HTTP/2 if the endpoint agrees to that by ALPN, else HTTP/1.1.
    /// Not with `proxy_protocol`.
    ///
    /// Default `"http1"`. Example: `protocol = "http2"`.
    pub protocol: Field<Protocol>,
    /// `tls = { ... }`, or a section `[cluster.NAME.tls]`: TLS to the endpoints, and how both sides prove who they are.
    ///
    /// Default: none, and everything is sent in the clear. Example: `tls = { ca = "trust/backends.pem" }`.
    pub tls: Field<UpstreamTls>,
    /// Tells the endpoints by the PROXY protocol whose request it is: `"v2"`, ahead of TLS if there is any. It has the client's
    /// address, the one that the client connected to, the server name, and of the client's TLS the version and whether its
    /// certificate was verified, with its common name. Connections are not shared then: each request has a new one. With
    /// `protocol = "http1"` only; every endpoint has to expect it.
    ///
    /// Default: none. Example: `proxy_protocol = "v2"`.
    pub proxy_protocol: Field<SentProxyProtocol>,
    /// How an endpoint is chosen, of those that take requests: `"round_robin"`, `"least_request"`, `"random"`, or by a property
    /// of the request, so that requests which have it in common come to the same endpoint: `{ maglev = { header = "x-user" } }`,
    /// `{ maglev = { cookie = "session" } }`, `{ maglev = { identity = "tenant" } }` (or `"fingerprint"`, `"spiffe_id"`),
    /// `{ maglev = "source_address" }`. Where one cannot be connected to, the others are tried, each once.
    ///
    /// Default `"round_robin"`. Example: `balance = "least_request"`.
    pub balance: Field<Balance>,
    /// For how long an endpoint that comes back gets fewer requests than its weight says: a tenth at first, and a tenth more with
    /// each tenth of the time. It does so when it becomes healthy again, when its ejection is over, and when it comes to a cluster
    /// that has others: once it has passed its first check, or at once where there are none. Needs a `health_check`,
    /// `outlier_detection`, or endpoints that come and go; not with `maglev`.
    ///
    /// Default: none, and it gets its share at once; `"1s"` to `"1h"`. Example: `slow_start = "30s"`.
    pub slow_start: Field<DurationText>,
    /// How long a connection to an endpoint may take to be established, and with TLS its handshake as well. With HTTP/2 that
    /// includes the endpoint's settings, and it is also how long a request waits when all connections are full.
    ///
    /// Default `"2s"`; `"1ms"` to `"1m"`. Example: `connect_timeout = "500ms"`.
    pub connect_timeout: Field<DurationText>,
    /// How long an endpoint may be silent: from the end of the request to the head of its response, and between two pieces of
    /// its body. A route may set its own, and bound the whole by `request_timeout`.
    ///
    /// Default `"30s"`; `"1ms"` to `"1d"`. Example: `response_timeout = "5s"`.
    pub response_timeout: Field<DurationText>,
    /// How long a connection to an endpoint is kept without use. Keep it below the endpoint's own limit.
    ///
    /// Default `"60s"`; `"10ms"` to `"1h"`. Example: `idle_timeout = "4s"`.
    pub idle_timeout: Field<DurationText>,
    /// How many unused connections to this cluster each worker keeps; 0 keeps none.
    ///
    /// Default 256; 0 to 65536. Example: `pool_idle_max = 32`.
    pub pool_idle_max: Field<Count>,
    /// How many connections each worker has to one endpoint at most. Requests for which they have no room wait for as long as
    /// `connect_timeout`. For `protocol = "http2"` only: with HTTP/1.1 every request has a connection of its own.
    ///
    /// Default 16; 1 to 1024. Example: `connections_max = 4`.
    pub connections_max: Field<Count>,
    /// How many requests share a connection at most; fewer if the endpoint allows fewer. What endpoints have sent and clients
    /// have not taken waits in memory: up to 64 KiB for each of them. For `protocol = "http2"` only.
    ///
    /// Default 100; 1 to 1000. Example: `streams_per_connection_max = 32`.
    pub streams_per_connection_max: Field<Count>,
    /// `health_check = { ... }`: how it is found out which endpoints can take requests. The others get none until they can
    /// again, except as `panic_threshold` says.
    ///
    /// Default: none, and every endpoint gets requests. Example: `health_check = { http = "/healthz" }`.
    pub health_check: Field<HealthCheck>,
    /// Below how many percent of healthy endpoints all of them get requests again, healthy or not; 0 for never. So few are
    /// rather overrun by the requests of all others than able to serve them, and more often it is the check that is wrong. With
    /// 0, requests are answered with 503 while no endpoint is healthy. Needs a `health_check`; with that, endpoints that are ejected
    /// (`outlier_detection`) count like unhealthy ones.
    ///
    /// Default 50; 0 to 100. Example: `panic_threshold = 0`.
    pub panic_threshold: Field<Count>,
    /// `outlier_detection = { ... }`: endpoints that fail requests get none for a while.
    ///
    /// Default: none. Example: `outlier_detection = { consecutive_failures = 3 }`.
    pub outlier_detection: Field<OutlierDetection>,
    /// How many requests there may be at once from this node to the cluster, or `"unlimited"`. With HTTP/1.1, where each has a
    /// connection of its own, this also bounds the connections in use. A tunnel counts until it is open. Each worker has its share,
    /// rounded up: of N workers all together have at most N - 1 more, and a worker whose share is used up does not ask others.
    ///
    /// Default `"unlimited"`; 1 to 1000000. Example: `requests_max = 1000`.
    pub requests_max: Field<CountOrWord>,
    /// How many requests wait while there are `requests_max`, in the order in which they came; what is above is answered with 503
    /// (`cluster_full`). Shared out among the workers in the same way. Needs `requests_max`.
    ///
    /// Default 0; 0 to 1000000. Example: `pending_max = 100`.
    pub pending_max: Field<Count>,
    /// How long one waits before it is answered with 503 (`cluster_wait_timeout`). Needs `pending_max`.
    ///
    /// Default `"1s"`; `"1ms"` to `"1m"`. Example: `pending_timeout = "250ms"`.
    pub pending_timeout: Field<DurationText>,
    /// `retry_budget = { ... }`: how many of its requests are tried again at a time, of those that routes want to have tried again
    /// (`retry`).
    ///
    /// Default: all its defaults. Example: `retry_budget = { percent = 10 }`.
    pub retry_budget: Field<RetryBudget>,
}

/// Values of `proxy_protocol` in `[cluster.NAME]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename = "cluster.proxy_protocol", rename_all = "snake_case")]
pub enum SentProxyProtocol {
    /// Version 2.
    V2,
}

/// Values of `protocol` in `[cluster.NAME]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename = "cluster.protocol", rename_all = "snake_case")]
pub enum Protocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2.
    Http2,
    /// Either, as each endpoint agrees to by ALPN: HTTP/2 if it can, else HTTP/1.1.
    Auto,
}
