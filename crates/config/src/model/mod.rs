//! The configuration that runs: checked, complete, immutable.
//!
//! Everything is resolved: defaults are filled in, paths are absolute or relative to the working directory, names that
//! refer to something do refer to it. A value of these types exists only if the whole file had no error. Items that name
//! a file or that can fail later keep their [`Location`], so that later errors can point at the line.

mod action;
mod client_auth;
mod compression;
mod cors;
mod endpoints;
mod forwarded_identity;
mod handshakes;
mod header_edits;
mod health_check;
mod listener;
mod mirror;
mod outlier_detection;
mod policy_server;
mod requests;
mod retry;
mod rewrite;
mod trust;
mod upstream_tls;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ringward_identity::TenantMap;

pub use self::action::{Action, Split};
pub use self::client_auth::{ClientAuth, ClientAuthMode, ClientVerification, OcspMode};
pub use self::compression::Compression;
pub use self::cors::Cors;
pub use self::endpoints::{
    Balance, Discovery, DnsQuery, Endpoint, EndpointAddr, EndpointsDns, EndpointsFile, Family, HashKey,
    IdentityKey,
};
pub use self::forwarded_identity::{ForwardedIdentity, ForwardedIdentityHeader};
pub use self::handshakes::{Handshakes, HandshakesPerSource};
pub use self::header_edits::HeaderEdits;
pub use self::health_check::{HealthCheck, Probe};
pub use self::listener::{
    Bind, Certificate, CipherSuite, ClientAddress, ClientAddressHeader, Forward, ForwardMode, Group, Host,
    HostPolicy, Limits, Listener, Passphrase, ProxyProtocol, Require, Resumption, Route, StapleMode,
    TlsPolicy, TlsVersion, Tunnel, XfccMode,
};
pub use self::mirror::Mirror;
pub use self::outlier_detection::OutlierDetection;
pub use self::policy_server::{PolicyServer, PolicyServerAddress};
pub use self::requests::Requests;
pub use self::retry::{ClusterLimits, Retry, RetryBudget};
pub use self::rewrite::Rewrite;
pub use self::trust::{
    CrlMode, KeyKind, Keys, NamedUrl, Profile, RevocationDepth, RevocationPolicy, Tenant, TenantCondition,
    Trust,
};
pub use self::upstream_tls::{ClientCertificate, UpstreamRevocation, UpstreamTls};
// Plain choices mean the same in the file and at run time, so they are one type.
pub use crate::build::include::Pattern;
use crate::diagnostic::{Diagnostic, Diagnostics, Location, Severity, Source};
pub use crate::raw::{Audit, CompressionAlgorithm, Engine, InputShape, IoDriver, Level, Protocol, Section};

/// A whole configuration. Made by [`crate::load`] and [`crate::parse`] only.
#[derive(Debug)]
pub struct Config {
    /// The process as a whole.
    pub server: Server,
    /// What operators and monitoring reach.
    pub admin: Admin,
    /// What is written about requests and about the process.
    pub log: Log,
    /// Trust bundles by name.
    pub trust: BTreeMap<String, Trust>,
    /// Tenants by name.
    pub tenants: BTreeMap<String, Tenant>,
    /// The rules of all tenants, checked against one another.
    pub tenant_map: Arc<TenantMap>,
    /// The keys that seal session tickets.
    pub keys: Keys,
    /// Policies by name.
    pub policies: BTreeMap<String, Policy>,
    /// The name of the policy that is asked about every request. Routes hold it as the first of theirs.
    pub global_policy: Option<String>,
    /// Clusters by name.
    pub clusters: BTreeMap<String, Cluster>,
    /// Listeners in the order of the file; at least one.
    pub listeners: Vec<Listener>,
    /// What works, but probably not as meant.
    pub warnings: Diagnostics,
    pub(crate) source: Arc<Source>,
}

impl Config {
    /// The certificates of ours that upstreams are shown, those of clusters and of routes.
    pub fn upstream_certificates(&self) -> impl Iterator<Item = &ClientCertificate> {
        let of_clusters =
            self.clusters.values().filter_map(|cluster| cluster.tls.as_ref()?.certificate.as_ref());
        let routes = self.listeners.iter().flat_map(|listener| &listener.hosts).flat_map(|host| &host.routes);
        of_clusters.chain(routes.filter_map(|route| route.upstream_certificate.as_ref()))
    }

    /// The configuration file, as it was named.
    pub fn file(&self) -> &Path {
        self.source.file()
    }

    /// Every file and directory that the configuration is made of, itself first, then what it includes: what has to be watched
    /// for changes, beside the directories that includes look into, which [`crate::IncludedFiles`] has learnt.
    /// A path that is named twice is listed twice, with both places. Files that we write, such as logs and the state
    /// directory, are not listed: watching them would reload forever. The key ring is listed also where this process
    /// rotates it: it is read from there, and a rotation is one reload that finds the keys which are in use already.
    pub fn files(&self) -> Vec<WatchedPath<'_>> {
        let mut files = vec![WatchedPath { path: self.file(), kind: FileKind::Configuration, at: None }];
        let included = self.source.others();
        files.extend(included.map(|path| WatchedPath { path, kind: FileKind::Configuration, at: None }));
        for trust in self.trust.values() {
            let kinds = [
                (&trust.ca, FileKind::TrustAnchors),
                (&trust.crl, FileKind::Crl),
                (&trust.crl_issuers, FileKind::CrlIssuers),
            ];
            for (paths, kind) in kinds {
                files.extend(paths.iter().map(|path| WatchedPath::new(path, kind)));
            }
        }
        files.extend(self.server.fetch_ca.iter().map(|path| WatchedPath::new(path, FileKind::TrustAnchors)));
        files.extend(self.keys.file.iter().map(|ring| WatchedPath::new(ring, FileKind::KeyRing)));
        for policy in self.policies.values() {
            files.extend(policy.path.iter().map(|path| WatchedPath::new(path, policy.file_kind())));
        }
        files.extend(
            self.clusters.values().filter_map(|cluster| cluster.tls.as_ref()).flat_map(UpstreamTls::files),
        );
        for host in self.listeners.iter().flat_map(|listener| &listener.hosts) {
            files.extend(host.certificates.iter().flat_map(Certificate::files));
            let towards = host.routes.iter().filter_map(|route| route.upstream_certificate.as_ref());
            files.extend(towards.flat_map(ClientCertificate::files));
        }
        files
    }

    /// How a place of this configuration is called within a sentence.
    pub fn place(&self, at: &Location) -> String {
        self.source.place(at)
    }

    /// A problem that was found later at a place of this configuration, with the snippet of that place.
    pub fn diagnostic(&self, severity: Severity, at: &Location, message: impl Into<String>) -> Diagnostic {
        self.source.diagnostic(severity, at, message.into())
    }
}

/// Files that are part of the configuration.
#[derive(Clone, Debug)]
pub struct Include {
    /// Where they are.
    pub directory: PathBuf,
    /// What they are called.
    pub file: Pattern,
    /// The sections that they may have.
    pub may_define: Vec<Section>,
    /// What their bundles, tenants, policies and clusters may be called; none for anything.
    pub names: Option<Vec<Pattern>>,
}

/// A path from the configuration.
#[derive(Clone, Debug)]
pub struct NamedPath {
    /// Where the file is: as written if that was absolute, else below the directory of the configuration file.
    pub path: PathBuf,
    /// Where it is named.
    pub at: Location,
}

/// One entry of [`Config::files`].
#[derive(Clone, Copy, Debug)]
pub struct WatchedPath<'c> {
    /// The file or directory.
    pub path: &'c Path,
    /// What it is for.
    pub kind: FileKind,
    /// Where it is named; nowhere for the configuration file itself, and those that it includes.
    pub at: Option<&'c Location>,
}

impl<'c> WatchedPath<'c> {
    fn new(named: &'c NamedPath, kind: FileKind) -> Self {
        Self { path: &named.path, kind, at: Some(&named.at) }
    }
}

/// What a file of the configuration is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FileKind {
    /// The configuration file itself, or one that it includes.
    Configuration,
    /// Our certificate with its intermediates.
    CertificateChain,
    /// Our private key.
    PrivateKey,
    /// CAs: a file, or a directory with `*.pem`, `*.crt` and `*.cer`.
    TrustAnchors,
    /// Revocation lists: a file, or a directory with `*.crl`, `*.pem` and `*.der`.
    Crl,
    /// Certificates that sign revocation lists.
    CrlIssuers,
    /// An OCSP response for our certificate.
    StapleFile,
    /// The keys that seal session tickets.
    KeyRing,
    /// The passphrase of our private key.
    Passphrase,
    /// Policy sources: a file, or a directory with `*.rego`, `*.json` and `*.yaml`.
    Policy,
    /// Tables of the matcher: a file, or a directory with `*.toml`.
    MatcherTable,
    /// Policies in Cedar: a file, or a directory with `*.cedar`, `*.json`, `*.cedarschema` and `*.toml`.
    CedarPolicy,
}

/// The process as a whole.
#[derive(Clone, Debug)]
pub struct Server {
    /// How many worker threads; none for one per core.
    pub workers: Option<NonZeroUsize>,
    /// The kernel interface of the workers.
    pub io: IoDriver,
    /// How long connections may go on after the process was told to stop.
    pub drain_timeout: Duration,
    /// The directory for what must survive a restart. There is one whenever something in the configuration needs it.
    pub state_dir: Option<NamedPath>,
    /// The CAs of servers that revocation data is fetched from by TLS. There are some whenever a URL needs them.
    pub fetch_ca: Option<NamedPath>,
    /// The session cache of listeners that want it.
    pub session_cache: SessionCache,
    /// How long an exchange may go on after its client has lost our trust.
    pub trust_grace: Duration,
    /// How many idle connections per second are closed when trust changes, over all workers; none for no limit.
    pub trust_drain_rate: Option<NonZeroU32>,
    /// Bytes that bodies may take that are read ahead for policies, over all workers.
    pub policy_body_memory_max: usize,
    /// Bytes that encoders of responses may take, over all workers.
    pub compression_memory_max: usize,
    /// Who is asked for names; none for the servers of the system.
    pub dns_servers: Vec<SocketAddr>,
    /// Bytes that the process should take at most; none for no limit.
    pub memory_max: Option<usize>,
    /// The zone that this node is in.
    pub zone: Option<String>,
}

/// The size of the session cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionCache {
    /// Sessions.
    pub entries: usize,
    /// Bytes of all sessions together.
    pub bytes_max: usize,
}

/// What operators and monitoring reach.
#[derive(Clone, Debug)]
pub struct Admin {
    /// The address of the plain HTTP listener for `/metrics`, `/healthz` and `/readyz`.
    pub metrics: Option<Bind>,
    /// The Unix socket for the commands that reach the process.
    pub socket: Option<NamedPath>,
    /// Work on this node that is announced and was not over when the file was read.
    pub maintenance: Option<Maintenance>,
}

/// Work on this node, announced for whoever watches it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Maintenance {
    /// Until when, in seconds since 1970.
    pub until_unix: i64,
    /// Why.
    pub reason: String,
}

/// What is written about requests and about the process.
#[derive(Clone, Debug)]
pub struct Log {
    /// Where access records go.
    pub access: AccessLog,
    /// What happens when a record finds its queue full.
    pub audit: Audit,
    /// The least severe messages about the process to be written.
    pub level: Level,
    /// How many access records may wait, per worker.
    pub queue_records: usize,
}

/// Where access records go.
#[derive(Clone, Debug)]
pub enum AccessLog {
    /// Nowhere.
    Off,
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// To the end of this file.
    File(NamedPath),
}

/// A policy.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Its name.
    pub name: String,
    /// What decides.
    pub engine: Engine,
    /// Files and directories with the sources; at least one, unless a server has them.
    pub path: Vec<NamedPath>,
    /// The rule that is asked, beginning with `data.`. Of Rego only.
    pub rule: String,
    /// The server that decides, if one does.
    pub server: Option<PolicyServer>,
    /// Where the rule is named, or else the policy.
    pub rule_at: Location,
    /// How long one decision may take. Of Rego only.
    pub time_budget: Duration,
    /// The shape of its input and result.
    pub input: InputShape,
    /// Bounds of the decision cache; `None` if it is off.
    pub cache: Option<PolicyCache>,
    /// The policy that is asked beside it and decides nothing.
    pub candidate: Option<String>,
    /// Where it is defined.
    pub at: Location,
}

impl Policy {
    /// What its paths lead to.
    pub fn file_kind(&self) -> FileKind {
        match self.engine {
            // Of a server there are none.
            Engine::Rego | Engine::Opa => FileKind::Policy,
            Engine::Matcher => FileKind::MatcherTable,
            Engine::Cedar => FileKind::CedarPolicy,
        }
    }
}

/// The decision cache that each worker has for a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyCache {
    /// Most decisions kept.
    pub entries: usize,
    /// Most bytes that they take.
    pub bytes: usize,
    /// One in about so many decisions that are given again is checked.
    pub verify_every: NonZeroU32,
    /// Most evaluations per second that one client may cause on the whole node; `None` for any number.
    pub misses_per_second: Option<NonZeroU32>,
    /// Where bounds are given, as a sign that somebody counts on the cache.
    pub asked_at: Option<Location>,
}

/// A group of upstream endpoints that serve the same.
#[derive(Clone, Debug)]
pub struct Cluster {
    /// Its name.
    pub name: String,
    /// Those endpoints that the configuration names, each once; none if they are found elsewhere.
    pub endpoints: Vec<Endpoint>,
    /// Where they are found otherwise.
    pub discovery: Option<Discovery>,
    /// What they speak.
    pub protocol: Protocol,
    /// How both sides prove who they are; none for no TLS.
    pub tls: Option<UpstreamTls>,
    /// Each connection is of one request, and begins with a header of the PROXY protocol, version 2.
    pub sends_proxy_protocol: bool,
    /// How an endpoint is chosen.
    pub balance: Balance,
    /// For how long an endpoint that comes back gets fewer requests; none for no time.
    pub slow_start: Option<Duration>,
    /// How long a connection may take to be established.
    pub connect_timeout: Duration,
    /// How long an endpoint may take to answer. Routes hold the value that applies to them.
    pub response_timeout: Duration,
    /// How long a connection is kept without use.
    pub idle_timeout: Duration,
    /// How many unused connections each worker keeps.
    pub pool_idle_max: usize,
    /// How many connections each worker has to one endpoint, with HTTP/2.
    pub connections_max: usize,
    /// How many requests share a connection, with HTTP/2.
    pub streams_per_connection_max: usize,
    /// How its endpoints are checked, if they are.
    pub health_check: Option<HealthCheck>,
    /// When endpoints that fail requests get none for a while, if that is so.
    pub outlier_detection: Option<OutlierDetection>,
    /// How many requests it has at once; none for no limit.
    pub limits: Option<ClusterLimits>,
    /// How many of its requests are tried again.
    pub retry_budget: RetryBudget,
    /// Where it is defined.
    pub at: Location,
}
