//! From a checked configuration and what it names, loaded, to a snapshot.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use ringward_config::{self as config, Location, Routes};
use ringward_http::HeadLimits;
use ringward_identity::{IdentityOptions, TenantMap};
use ringward_policy::{CacheOptions, CompiledPolicy};
use ringward_telemetry::{ListenerId, Registry};
use ringward_tls::{
    ClientAuth, ClientAuthMode, ClientAuthOptions, Credential, HostTls, HostTlsOptions, KeyRing, OcspMode,
    OcspPolicy, OcspTable, Resumption, Revocation, SessionCache, TenantRules, TlsBuildError, TlsPolicy,
    TrustBundle, UpstreamTls,
};

use super::{
    Cluster, Forwarding, Host, Limits, Listener, Policy, Route, Snapshot, Tenant,
    identities::{Identities, RouteIdentity},
};
use crate::{
    header_edits::RouteEdits,
    mirror::Mirror,
    policy_server::PolicyServer,
    route_answer::RouteAnswer,
    upstream::{Endpoints, millis, split::Split},
};

/// What the control plane has loaded for a configuration.
#[derive(Clone, Default)]
pub struct Materials {
    /// Certificates with keys, by listener name and index of the host in the listener.
    pub credentials: HashMap<(String, usize), Vec<Arc<Credential>>>,
    /// Trust bundles by name.
    pub trust: HashMap<String, Arc<TrustBundle>>,
    /// Policies by name.
    pub policies: HashMap<String, Arc<dyn CompiledPolicy>>,
    /// The rules by which clients belong to tenants.
    pub tenants: Arc<TenantMap>,
    /// What is revoked.
    pub revocation: Arc<Revocation>,
    /// What OCSP responders have answered.
    pub ocsp: Arc<OcspTable>,
    /// The keys that seal session tickets, if a listener hands out any.
    pub key_ring: Option<Arc<KeyRing>>,
    /// The session cache, if a listener uses it.
    pub session_cache: Option<Arc<SessionCache>>,
    /// The TLS side of clusters that have one, by name.
    pub upstream_tls: HashMap<String, Arc<UpstreamTls>>,
    /// The same of clusters as routes use them that have a certificate of their own.
    pub route_tls: HashMap<RouteIdentity, Arc<UpstreamTls>>,
    /// The endpoints of clusters, by name. Of a cluster that is not here they are those that the configuration names.
    pub endpoints: HashMap<String, Arc<Endpoints>>,
}

/// A snapshot that cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// Something that the configuration names was not loaded: a fault of the caller.
    #[error("{what} was not loaded")]
    Missing {
        /// What.
        what: String,
    },
    /// rustls does not accept the combination.
    #[error("{host}: {source}")]
    Tls {
        /// The virtual host.
        host: Arc<str>,
        /// Why.
        source: TlsBuildError,
        /// Where the host is defined.
        at: Location,
    },
    /// The host that answers unknown names would let in clients that another host refuses.
    #[error(
        "default_host {default} is laxer than {host}, so that absent or unknown server names would get around the latter"
    )]
    LaxDefault {
        /// The default host.
        default: Arc<str>,
        /// The stricter host.
        host: Arc<str>,
        /// Where the listener is defined.
        at: Location,
    },
}

impl Snapshot {
    /// Puts a checked configuration and its materials together. `generation` must be greater than that of every earlier
    /// snapshot of this process.
    ///
    /// # Errors
    /// All reasons why the snapshot would not be safe or complete.
    pub fn build(
        config: &config::Config,
        materials: &Materials,
        generation: u64,
        registry: &Registry,
    ) -> Result<Snapshot, Vec<SnapshotError>> {
        let identities = Identities::of(config);
        let builder = Builder { config, materials, registry, identities: &identities };
        let policies: Vec<_> = config.policies.values().map(|policy| builder.policy(policy)).collect();
        let listeners: Vec<_> = config
            .listeners
            .iter()
            .enumerate()
            .map(|(index, listener)| builder.listener(index, listener))
            .collect();
        let clusters: Vec<_> = config
            .clusters
            .values()
            .map(|cluster| builder.cluster(cluster))
            .chain(identities.clusters(&builder))
            .collect();
        let mut errors = Vec::new();
        let clusters =
            clusters.into_iter().filter_map(|cluster| cluster.map_err(|e| errors.push(e)).ok()).collect();
        let policies =
            policies.into_iter().filter_map(|policy| policy.map_err(|e| errors.push(e)).ok()).collect();
        let listeners = listeners
            .into_iter()
            .filter_map(|listener| listener.map_err(|e| errors.extend(e)).ok())
            .collect();
        if !errors.is_empty() {
            return Err(errors);
        }
        Ok(Snapshot {
            generation,
            listeners,
            clusters,
            policies,
            audit_required: config.log.audit == config::Audit::Required,
            access_log: !matches!(config.log.access, config::AccessLog::Off),
            tenants: config.tenants.values().map(|tenant| builder.tenant(tenant)).collect(),
            revocation: materials.revocation.clone(),
            ocsp: materials.ocsp.clone(),
            published_at: Instant::now(),
            trust_grace_millis: millis(config.server.trust_grace),
            trust_drain_rate: config.server.trust_drain_rate,
            policy_body_memory_max: config.server.policy_body_memory_max,
            compression_memory_max: config.server.compression_memory_max,
        })
    }
}

pub(super) struct Builder<'a> {
    pub(super) config: &'a config::Config,
    pub(super) materials: &'a Materials,
    registry: &'a Registry,
    identities: &'a Identities,
}

impl Builder<'_> {
    fn policy(&self, policy: &config::Policy) -> Result<Policy, SnapshotError> {
        let compiled = self.materials.policies.get(&policy.name).cloned();
        let compiled =
            compiled.ok_or_else(|| SnapshotError::Missing { what: format!("policy {}", policy.name) })?;
        let cache = policy.cache.as_ref().map(|cache| CacheOptions {
            entries: cache.entries,
            bytes: cache.bytes,
            verify_every: cache.verify_every,
            misses_per_second: cache.misses_per_second,
        });
        let server = policy.server.as_ref().map(|server| Arc::new(PolicyServer::new(server, &policy.rule)));
        let id = self.registry.policy(&policy.name);
        let index = |name: &String| self.config.policies.keys().position(|key| key == name);
        let candidate = policy.candidate.as_ref().and_then(index);
        Ok(Policy { id, name: policy.name.as_str().into(), compiled, server, candidate, cache })
    }

    pub(super) fn cluster(&self, cluster: &config::Cluster) -> Result<Cluster, SnapshotError> {
        let missing = || SnapshotError::Missing { what: format!("the TLS side of cluster {}", cluster.name) };
        let tls = match &cluster.tls {
            None => None,
            Some(_) => Some(self.materials.upstream_tls.get(&cluster.name).cloned().ok_or_else(missing)?),
        };
        let endpoints = self.materials.endpoints.get(&cluster.name).cloned();
        Ok(Cluster {
            id: self.registry.cluster(&cluster.name),
            name: cluster.name.as_str().into(),
            endpoints: endpoints.unwrap_or_else(|| Arc::new(Endpoints::of(cluster))),
            protocol: cluster.protocol,
            tls,
            announces: cluster.sends_proxy_protocol,
            connect_timeout: cluster.connect_timeout,
            idle_timeout: cluster.idle_timeout,
            pool_idle_max: cluster.pool_idle_max,
            connections_max: cluster.connections_max,
            streams_per_connection_max: cluster.streams_per_connection_max,
            head_list_bytes_max: self.head_list_bytes_max(),
            retry_budget: cluster.retry_budget,
            limits: cluster.limits,
        })
    }

    fn head_list_bytes_max(&self) -> usize {
        let limits = self.config.listeners.iter().map(|listener| &listener.limits);
        limits.map(|limits| head_limits(limits).list_bytes_max()).max().unwrap_or_default()
    }

    fn tenant(&self, tenant: &config::Tenant) -> Tenant {
        Tenant {
            id: self.registry.tenant(&tenant.name),
            name: tenant.name.as_str().into(),
            connections_max: tenant.connections_max,
        }
    }

    fn listener(&self, index: usize, listener: &config::Listener) -> Result<Listener, Vec<SnapshotError>> {
        let id = self.registry.listener(&listener.name);
        let mut errors = Vec::new();
        let hosts =
            listener.hosts.iter().enumerate().map(|(index, host)| self.host(listener, id, index, host));
        let hosts: Vec<Host> = hosts.filter_map(|host| host.map_err(|e| errors.push(e)).ok()).collect();
        if !errors.is_empty() {
            return Err(errors);
        }
        // The configuration has compared names of trust bundles; here their content is compared.
        if let Some(default) = listener.default_host.map(|index| &hosts[index]) {
            for host in hosts
                .iter()
                .filter(|host| !default.tls.client_auth().is_at_least_as_strict_as(host.tls.client_auth()))
            {
                let (default, host) = (default.name.clone(), host.name.clone());
                errors.push(SnapshotError::LaxDefault { default, host, at: listener.at.clone() });
            }
            if !errors.is_empty() {
                return Err(errors);
            }
        }
        let limits = &listener.limits;
        Ok(Listener {
            index,
            id,
            name: listener.name.as_str().into(),
            limits: Limits {
                connections_max: limits.connections_max,
                head: head_limits(limits),
                streams_max: limits.streams_max,
                handshake_timeout: limits.handshake_timeout,
                header_timeout: limits.header_timeout,
                body_timeout: limits.body_timeout,
                idle_timeout: limits.idle_timeout,
                requests_per_connection_max: limits.requests_per_connection_max,
                connection_age_max: limits.connection_age_max,
            },
            hosts,
            names: listener.host_table(),
            default_host: listener.default_host,
            proxy_protocol: listener.proxy_protocol.clone(),
            handshakes: listener.handshakes.clone(),
            requests: listener.requests.clone(),
            client_address: listener.client_address.clone(),
            has_forwarding: listener.hosts.iter().any(|host| host.forwarded_identity.is_some()),
            unmatched: self.registry.unmatched(id),
            has_tunnels: listener
                .hosts
                .iter()
                .flat_map(|host| &host.routes)
                .any(|route| route.tunnel.is_some()),
        })
    }

    fn host(
        &self,
        listener: &config::Listener,
        listener_id: ListenerId,
        index: usize,
        host: &config::Host,
    ) -> Result<Host, SnapshotError> {
        let name: Arc<str> = host.names[0].to_string().into();
        let missing = |what: String| SnapshotError::Missing { what };
        let credentials = self.materials.credentials.get(&(listener.name.clone(), index)).cloned();
        let credentials = credentials.ok_or_else(|| missing(format!("the certificate of {name}")))?;
        let refused =
            |source: TlsBuildError| SnapshotError::Tls { host: name.clone(), source, at: host.at.clone() };
        let client_auth =
            ClientAuth::build(&self.client_auth(host)?).map_err(|error| refused(error.into()))?;
        let tls = HostTls::build(&HostTlsOptions {
            listener: listener.name.as_str().into(),
            name: name.clone(),
            client_auth: Arc::new(client_auth),
            credentials,
            resumption: self.resumption(listener)?,
            tls: tls_policy(&listener.tls, listener.http2),
        })
        .map_err(refused)?;
        let routes = host.routes.iter().map(|route| (route.matched(), self.route(listener_id, host, route)));
        let routes = Routes::build(routes).expect("no route is unreachable in a checked configuration");
        let forwarding = self.forwarding(host, &name)?.map(Box::new);
        Ok(Host { name, tls, forwarding, forward: host.forward.clone(), routes })
    }

    /// Forwarded certificates are judged as those of the host's own clients, by the bundles that are for them.
    fn forwarding(&self, host: &config::Host, name: &Arc<str>) -> Result<Option<Forwarding>, SnapshotError> {
        let Some(rules) = host.forwarded_identity.clone() else { return Ok(None) };
        let mut options = self.client_auth(host)?;
        options.mode = ClientAuthMode::Required;
        options.trust = self.bundles(&rules.trust)?;
        let auth = ClientAuth::build(&options).map_err(|error| SnapshotError::Tls {
            host: name.clone(),
            source: error.into(),
            at: host.at.clone(),
        })?;
        Ok(Some(Forwarding { rules, auth: Arc::new(auth) }))
    }

    fn bundles(&self, names: &[String]) -> Result<Vec<Arc<TrustBundle>>, SnapshotError> {
        let missing = |name: &String| SnapshotError::Missing { what: format!("trust bundle {name}") };
        names
            .iter()
            .map(|name| self.materials.trust.get(name).cloned().ok_or_else(|| missing(name)))
            .collect()
    }

    fn client_auth(&self, host: &config::Host) -> Result<ClientAuthOptions, SnapshotError> {
        let mut options = ClientAuthOptions::new(handshake_mode(host));
        let Some(verification) = host.client_auth.verification() else { return Ok(options) };
        options.trust = self.bundles(&verification.trust)?;
        options.intermediates_max = verification.intermediates_max;
        options.require_eku = verification.require_eku;
        options.identity =
            IdentityOptions { extensions: verification.extensions.clone(), ..IdentityOptions::default() };
        options.max_auth_age = verification.max_auth_age;
        options.ocsp = OcspPolicy { mode: ocsp_mode(verification.ocsp), timeout: verification.ocsp_timeout };
        options.tenants = Some(TenantRules {
            map: self.materials.tenants.clone(),
            admitted: verification.tenants.iter().map(|name| name.as_str().into()).collect(),
        });
        options.revocation = self.materials.revocation.clone();
        Ok(options)
    }

    fn resumption(&self, listener: &config::Listener) -> Result<Resumption, SnapshotError> {
        let missing = |what: &str| SnapshotError::Missing { what: what.to_owned() };
        Ok(match listener.resumption {
            config::Resumption::Off => Resumption::Off,
            config::Resumption::Tickets => Resumption::Tickets(
                self.materials.key_ring.clone().ok_or_else(|| missing("the keys of session tickets"))?,
            ),
            config::Resumption::Cache => Resumption::Cache(
                self.materials.session_cache.clone().ok_or_else(|| missing("the session cache"))?,
            ),
        })
    }

    fn route(&self, listener: ListenerId, host: &config::Host, route: &config::Route) -> Route {
        let position = |found: Option<usize>| found.expect("names that refer to something do (config)");
        let cluster_index = |cluster: &str| self.identities.index(self.config, route, cluster);
        let reads_body = |name: &str| self.materials.policies.get(name).is_some_and(|p| p.reads_body());
        Route {
            id: self.registry.route(listener, &route.id),
            name: route.id.as_str().into(),
            template: route.path.as_str().into(),
            labels: route.labels.clone().into_iter().collect(),
            grpc: route.grpc,
            cluster: route.action.clusters().next().map_or(0, cluster_index),
            cluster_name: route.action.clusters().next().unwrap_or_default().into(),
            split: match &route.action {
                config::Action::Split(split) => Some(Split::new(split, cluster_index)),
                _ => None,
            },
            mirror: route.mirror.as_ref().map(|mirror| Box::new(Mirror::new(mirror, cluster_index))),
            answer: RouteAnswer::of(&route.action),
            edits: RouteEdits::of(route),
            policies: route
                .policy
                .names()
                .iter()
                .map(|name| position(self.config.policies.keys().position(|key| key == name)))
                .collect(),
            client_auth: route.client_auth,
            ocsp: ocsp_mode(route.ocsp),
            ocsp_timeout: host.client_auth.verification().map_or(Duration::ZERO, |rules| rules.ocsp_timeout),
            allow_encoded_slash: route.allow_encoded_slash,
            body_bytes_max: route.body_bytes_max.unwrap_or(u64::MAX),
            policy_body_max: route
                .policy
                .names()
                .iter()
                .any(|name| reads_body(name))
                .then_some(route.policy_body_max.unwrap_or(0)),
            response_timeout: route.response_timeout,
            request_timeout: route.request_timeout,
            retry: route.retry.clone().map(Box::new),
            tunnel: route.tunnel.clone(),
            compression: route.compression.clone().map(Box::new),
        }
    }
}

fn head_limits(limits: &config::Limits) -> HeadLimits {
    HeadLimits { head_bytes_max: limits.head_bytes_max, fields_max: limits.fields_max }
}

/// How the handshake asks: as the configuration says, except that bad certificates pass it where one route only observes while
/// others want to know the client.
fn handshake_mode(host: &config::Host) -> ClientAuthMode {
    match host.client_auth.handshake {
        config::ClientAuthMode::Off => ClientAuthMode::Off,
        config::ClientAuthMode::Observe if host.routes.iter().any(identifies) => ClientAuthMode::Lenient,
        config::ClientAuthMode::Observe => ClientAuthMode::Observe,
        config::ClientAuthMode::Optional => ClientAuthMode::Optional,
        config::ClientAuthMode::Required => ClientAuthMode::Required,
    }
}

/// Whether a route wants to know its clients.
fn identifies(route: &config::Route) -> bool {
    matches!(route.client_auth, config::ClientAuthMode::Optional | config::ClientAuthMode::Required)
}

fn ocsp_mode(mode: config::OcspMode) -> OcspMode {
    match mode {
        config::OcspMode::Off => OcspMode::Off,
        config::OcspMode::SoftFail => OcspMode::SoftFail,
        config::OcspMode::HardFail => OcspMode::HardFail,
    }
}

fn tls_policy(tls: &config::TlsPolicy, http2: bool) -> TlsPolicy {
    TlsPolicy {
        min_version_12: tls.min_version == config::TlsVersion::Tls12,
        suites: tls.cipher_suites.iter().map(|suite| suite.as_str().into()).collect(),
        groups: tls.groups.iter().map(|group| group.as_str().into()).collect(),
        http2,
    }
}
