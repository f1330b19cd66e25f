//! The configuration file as it is written: one type per table, one field per key, in the words of the file.
//!
//! This is the reference of the file format: every key says what it does, its unit, default, bounds and an example.
//! Hides nothing and decides nothing; [`crate::model`] is what runs. Types name themselves the way that messages name
//! their section, and all of them refuse unknown keys.
//!
//! Values that more than one key uses are written like this:
//! - a *duration* is whole numbers with units `d`, `h`, `m`, `s`, `ms`, `us`, largest first: `"10s"`, `"1m30s"`, `"5ms"`;
//!   a day has 24 hours;
//! - a *size* is a whole number with a unit `B`, `KB`, `MB`, `GB`, `TB`, `KiB`, `MiB`, `GiB` or `TiB`: `"32KiB"`;
//! - a *name* is 1 to 64 letters, digits, `_`, `-` and `.`, beginning with a letter or digit, since it appears in logs
//!   and metrics;
//! - a *URL* begins with `http://` or `https://`, names a host, and has neither user nor fragment;
//! - a *path of a file* is absolute, or relative to the directory of the configuration file.

mod compression;
mod cors;
mod endpoints;
mod forwarded_identity;
mod handshakes;
mod header_edits;
mod health_check;
mod host;
mod listener;
mod mirror;
mod outlier_detection;
mod policy_server;
mod retry;
mod rewrite;
mod route;
mod scalar;
mod split;
mod trust;
mod upstream_tls;

use std::collections::BTreeMap;
use std::fmt;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_spanned::Spanned;

pub use self::compression::{Compression, CompressionAlgorithm};
pub use self::cors::Cors;
pub use self::endpoints::{
    Balance, Endpoint, EndpointList, Endpoints, EndpointsDns, EndpointsFile, Family, HashKey, IdentityKey,
};
pub use self::forwarded_identity::{ForwardedIdentity, ForwardedIdentityHeader, ForwardedIdentityOthers};
pub use self::handshakes::{Handshakes, HandshakesPerSource};
pub use self::header_edits::HeaderEdits;
pub use self::health_check::HealthCheck;
pub use self::host::{
    Certificate, ClientAuth, ClientAuthMode, Forward, ForwardMode, Host, OcspMode, Require, Staple, XfccMode,
};
pub use self::listener::{
    CipherSuite, ClientAddress, ClientAddressHeader, Group, Limits, Listener, ProxyProtocol,
    ProxyProtocolOthers, Resumption, Tls, TlsVersion,
};
pub use self::mirror::Mirror;
pub use self::outlier_detection::OutlierDetection;
pub use self::policy_server::PolicyServer;
pub use self::retry::{Retry, RetryBudget, RetryOn};
pub use self::rewrite::Rewrite;
pub use self::route::{IdentityMatch, Match, Redirect, Respond, Route, TextCondition};
pub use self::scalar::{
    Count, CountOrWord, DateTime, DurationText, OneOrMany, OneOrMore, SizeText, WordOrTable, strings,
};
pub use self::split::Split;
pub use self::trust::{
    CrlMode, IdentitySource, KeyKind, Keys, Profile, Revocation, RevocationDepth, Tenant, TenantLimits,
    TenantMatch, Trust,
};
pub use self::upstream_tls::{ClientCertificate, UpstreamTls};
pub use crate::decode::Field;

/// The whole file.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename = "the file", default, deny_unknown_fields)]
pub struct File {
    /// `[server]`: the process as a whole.
    ///
    /// Default: all its defaults.
    pub server: Field<Server>,
    /// `[admin]`: what operators and monitoring reach.
    ///
    /// Default: all its defaults.
    pub admin: Field<Admin>,
    /// `[log]`: what is written about requests and about the process.
    ///
    /// Default: all its defaults.
    pub log: Field<Log>,
    /// `[trust.NAME]`: named trust bundles, each a set of CAs that may sign client certificates.
    ///
    /// Default: none. Example: `[trust.partners]`.
    #[schemars(with = "BTreeMap<String, Trust>")]
    pub trust: Field<BTreeMap<Spanned<String>, Field<Trust>>>,
    /// `[tenant.NAME]`: named owners of clients, and the rules by which certificates are theirs.
    ///
    /// Default: none, and certificates have no tenant; up to 4096, with 16384 conditions in all. Example: `[tenant.acme]`.
    #[schemars(with = "BTreeMap<String, Tenant>")]
    pub tenant: Field<BTreeMap<Spanned<String>, Field<Tenant>>>,
    /// `[keys]`: the keys that seal session tickets.
    ///
    /// Default: all its defaults.
    pub keys: Field<Keys>,
    /// `[policy.NAME]`: named policies, which decide about requests.
    ///
    /// Default: none. Example: `[policy.main]`.
    #[schemars(with = "BTreeMap<String, Policy>")]
    pub policy: Field<BTreeMap<Spanned<String>, Field<Policy>>>,
    /// `[cluster.NAME]`: named groups of equal upstream endpoints.
    ///
    /// Default: none. Example: `[cluster.orders]`.
    #[schemars(with = "BTreeMap<String, Cluster>")]
    pub cluster: Field<BTreeMap<Spanned<String>, Field<Cluster>>>,
    /// `[[listener]]`: sockets that accept TLS connections from downstream.
    ///
    /// Required: at least one.
    pub listener: Field<Vec<Field<Listener>>>,
}

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
    /// The Unix socket by which `ringward revoke`, `ringward trust` and `ringward keys` reach the process. It is made with
    /// mode 0600, in a directory that not everybody may write to, and answers root and the user that runs the process.
    ///
    /// Default: no such socket; needs `state_dir`. Example: `socket = "/run/ringward/admin.sock"`.
    pub socket: Field<String>,
}

/// `[log]`: what is written about requests and about the process.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename = "[log]", default, deny_unknown_fields)]
pub struct Log {
    /// Where access records go, one JSON line per exchange: `"off"`, `"stdout"`, `"stderr"` or a file that is appended
    /// to.
    ///
    /// Default `"stdout"`. Example: `access = { file = "log/access.json" }`.
    pub access: Field<AccessLog>,
    /// What happens when a record finds its queue full: `"best_effort"` loses and counts it, `"required"` answers the
    /// request with 503 instead of serving it without a trace.
    ///
    /// Default `"best_effort"`. Example: `audit = "required"`.
    pub audit: Field<Audit>,
    /// The least severe messages about the process itself to be written: `"error"`, `"warn"`, `"info"`, `"debug"` or
    /// `"trace"`.
    ///
    /// Default `"info"`. Example: `level = "warn"`.
    pub level: Field<Level>,
    /// How many access records may wait to be written, per worker.
    ///
    /// Default 8192; 64 to 1048576. Example: `queue_records = 65536`.
    pub queue_records: Field<Count>,
}

/// Values of `access` in `[log]`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename = "log.access", rename_all = "snake_case")]
pub enum AccessLog {
    /// No access records.
    Off,
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// A file, appended to and created if it is missing.
    File(Field<String>),
}

/// Values of `audit` in `[log]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename = "log.audit", rename_all = "snake_case")]
pub enum Audit {
    /// A record that cannot be queued is lost and counted.
    BestEffort,
    /// A request whose record cannot be queued is answered with 503.
    Required,
}

/// Values of `level` in `[log]`, the most severe first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, JsonSchema)]
#[serde(rename = "log.level", rename_all = "snake_case")]
pub enum Level {
    /// Someone must act.
    Error,
    /// Something is degraded.
    Warn,
    /// Life cycle of the process.
    Info,
    /// Each connection.
    Debug,
    /// Everything.
    Trace,
}

impl Level {
    /// The word that stands in the file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

/// `[policy.NAME]`: a policy, which decides whether a request is allowed.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename = "[policy.NAME]", default, deny_unknown_fields)]
pub struct Policy {
    /// What decides. `"rego"`: rules in the Rego language, which can do everything. `"matcher"`: a table in TOML of who may ask
    /// for what, the quickest to write and to decide. `"cedar"`: policies in Cedar, whose types are checked before they run, with
    /// groups of clients. `"opa"`: an OPA server that is asked about every request (`server`).
    ///
    /// Default `"rego"`. Example: `engine = "matcher"`.
    pub engine: Field<Engine>,
    /// Files and directories with the sources: `*.rego` modules, and `*.json` and `*.yaml` documents for `data`; for the matcher
    /// `*.toml`; for Cedar `*.cedar` policies, `*.json` entities, one `*.cedarschema` and `*.test.toml`. They are watched, and a change takes effect with the next request, also on connections that are open.
    ///
    /// Required, except with `engine = "opa"`; 1 to 64. Example: `path = ["policies/"]`.
    pub path: Field<OneOrMany>,
    /// The OPA server that decides, for `engine = "opa"`: its address, or a table with more about how it is asked. It gets the
    /// whole input, in which `authorization` and `cookie` are, and is asked about every request anew. With it, `path`,
    /// `time_budget` and `cache` are refused.
    ///
    /// Required with `engine = "opa"`. Example: `server = "127.0.0.1:8181"`.
    pub server: Field<WordOrTable<PolicyServer>>,
    /// The rule that is asked: a boolean, or an object with `allowed` and more. Undefined means denied. The matcher and Cedar have none.
    ///
    /// Default `"data.ringward.authz.decision"`. Example: `rule = "data.partners.allow"`.
    pub rule: Field<String>,
    /// How long one decision may take; after that the request is answered with 500. A worker does nothing else
    /// meanwhile, so the worst delay of every connection of that worker grows with it. Of Rego only: the
    /// matcher is done before anybody could look at a clock, and policies in Cedar are bounded in size instead.
    ///
    /// Default `"5ms"`; `"100us"` to `"1s"`. Example: `time_budget = "20ms"`.
    pub time_budget: Field<DurationText>,
    /// Whether a decision is given again to requests that the policy cannot tell from the one it was made for. `"auto"` does so
    /// where that is sound, which follows from what the policy reads and calls; `ringward check` says which policies cannot
    /// be cached and why. `"off"` evaluates the policy for every request. A table sets the bounds and is `"auto"` in all
    /// else.
    ///
    /// Default `"auto"`. Example: `cache = { entries = 32768, bytes = "16MiB" }`.
    pub cache: Field<WordOrTable<PolicyCache>>,
    /// The shape of the policy's input and result. `"native"` is Ringward's own. `"envoy-v3"` is what OPA's Envoy plugin gives
    /// to policies (`input.attributes.request.http.path`, `input.parsed_path`), `"kong"` what Kong's OPA plugin gives
    /// (`input.request.http.path`, and a result with `allow`, `status`, `headers` and `message`). `ringward policy schema
    /// --shape SHAPE` prints all fields; deploy/policy-input.md says what differs from those gateways.
    ///
    /// Default `"native"`. Example: `input = "envoy-v3"`.
    pub input: Field<InputShape>,
}

/// `cache = { ... }` of `[policy.NAME]`: bounds of the decision cache that each worker has for the policy. A change of the
/// policy or its data begins a new cache; until then decisions stay, unless the policy limits them with `cache_ttl`. Errors
/// are never kept.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename = "cache", default, deny_unknown_fields)]
pub struct PolicyCache {
    /// How many decisions each worker keeps. When there is no room, those that are not used are replaced.
    ///
    /// Default 8192; 64 to 65536. Example: `entries = 32768`.
    pub entries: Field<Count>,
    /// How much memory they may take with all that they are found by, in each worker.
    ///
    /// Default `"4MiB"`; `"256KiB"` to `"256MiB"`. Example: `bytes = "16MiB"`.
    pub bytes: Field<SizeText>,
    /// One of about so many decisions that are given again is checked by evaluating the policy. A difference, which only a
    /// fault of Ringward can make, turns the cache off until the policy changes or the process starts anew, and shows in
    /// `ringward_policy_cache_mismatches_total`.
    ///
    /// Default 1024; 1 (all) to 1000000. Example: `verify_every = 64`.
    pub verify_every: Field<Count>,
    /// How many evaluations per second one client may cause on the whole node by requests that are not found, such as paths
    /// that it never asks for twice, or `"unlimited"`. What is above is answered with 429; requests that are found are not
    /// concerned, nor are other clients. A client is a certificate, and without one an address. Each worker has its share, so a
    /// client with fewer connections than there are workers may get less.
    ///
    /// Of a policy that cannot be cached every request counts.
    ///
    /// Default `"unlimited"`; 1 to 1000000. Example: `misses_per_second = 500`.
    pub misses_per_second: Field<CountOrWord>,
}

/// Values of `engine` in `[policy.NAME]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename = "policy.engine", rename_all = "snake_case")]
pub enum Engine {
    /// Rego.
    Rego,
    /// A table in TOML.
    Matcher,
    /// Policies in Cedar.
    Cedar,
    /// An OPA server.
    Opa,
}

impl Engine {
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rego => "rego",
            Self::Matcher => "matcher",
            Self::Cedar => "cedar",
            Self::Opa => "opa",
        }
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Values of `input` in `[policy.NAME]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename = "policy.input", rename_all = "kebab-case")]
pub enum InputShape {
    /// Ringward's own.
    Native,
    /// That of OPA's Envoy plugin.
    EnvoyV3,
    /// That of Kong's OPA plugin.
    Kong,
}

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
    /// each tenth of the time. It does so when it becomes healthy again, and when it comes to a cluster that has others: once it has
    /// passed its first check, or at once where there are none. Needs a `health_check` or endpoints that come and go; not with
    /// `maglev`.
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
