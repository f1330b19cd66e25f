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

mod cluster;
mod compression;
mod cors;
mod endpoints;
mod forwarded_identity;
mod handshakes;
mod header_edits;
mod health_check;
mod host;
mod include;
mod listener;
mod log;
mod mirror;
mod outlier_detection;
mod policy;
mod policy_server;
mod requests;
mod retry;
mod rewrite;
mod route;
mod scalar;
mod server;
mod split;
mod trust;
mod upstream_tls;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_spanned::Spanned;

pub use self::cluster::{Cluster, Protocol, SentProxyProtocol};
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
pub use self::include::{Include, Section};
pub use self::listener::{
    CipherSuite, ClientAddress, ClientAddressHeader, Group, Limits, Listener, ProxyProtocol,
    ProxyProtocolOthers, Resumption, Tls, TlsVersion,
};
pub use self::log::{AccessLog, Audit, Level, Log};
pub use self::mirror::Mirror;
pub use self::outlier_detection::OutlierDetection;
pub use self::policy::{Engine, InputShape, Policy, PolicyCache};
pub use self::policy_server::PolicyServer;
pub use self::requests::Requests;
pub use self::retry::{Retry, RetryBudget, RetryOn};
pub use self::rewrite::Rewrite;
pub use self::route::{IdentityMatch, Match, Redirect, Respond, Route, TextCondition};
pub use self::scalar::{
    Count, CountOrWord, DateTime, DurationText, OneOrMany, OneOrMore, SizeText, WordOrTable, strings,
};
pub use self::server::{Admin, IoDriver, Maintenance, Server, SessionCache};
pub use self::split::Split;
pub use self::trust::{
    CrlMode, IdentitySource, KeyKind, Keys, Profile, Revocation, RevocationDepth, Tenant, TenantLimits,
    TenantMatch, Trust,
};
pub use self::upstream_tls::{ClientCertificate, UpstreamRevocation, UpstreamTls};
pub use crate::decode::Field;

/// The whole file.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename = "the file", default, deny_unknown_fields)]
pub struct File {
    /// `[[include]]`: other files that are part of this configuration, and what they may say.
    ///
    /// Default: none, up to 64. Example: `[[include]]` with `path = "partners.d/*.toml"` and
    /// `may_define = ["trust", "tenant"]`.
    pub include: Field<Vec<Field<Include>>>,
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
    /// `[[host]]`: virtual hosts for listeners that stand elsewhere, in another file for example. Each has the keys of a
    /// `[[listener.host]]`, with `[[host.route]]` for its routes, and `listener`, the name of its listener.
    ///
    /// Default: none.
    pub host: Field<Vec<Field<Host>>>,
    /// `[[route]]`: routes for hosts that stand elsewhere, in another file for example. Each has the keys of a
    /// `[[listener.host.route]]`, and `host`, one of the names of its host. They stand behind the host's own.
    ///
    /// Default: none.
    pub route: Field<Vec<Field<Route>>>,
}
