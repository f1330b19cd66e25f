//! What a configuration does, in a few lines or as JSON.

use std::fmt;

use ringward_config::{Config, Engine, HandshakesPerSource, Host, Listener, Methods, Route};
use rustls::pki_types::UnixTime;
use serde::Serialize;
use time::OffsetDateTime;

use super::clusters::ClusterSummary;
use crate::load::{Loaded, LoadedPolicy, Reason};
use crate::table::moment;
use crate::trust::keys;
use crate::trust::status::{CrlStatus, KeysStatus};

/// A checked configuration, for people and scripts.
#[derive(Debug, Serialize)]
pub(super) struct Summary {
    file: String,
    listeners: Vec<ListenerSummary>,
    clusters: Vec<ClusterSummary>,
    trust: Vec<TrustSummary>,
    tenants: Vec<TenantSummary>,
    keys: KeysStatus,
    policies: Vec<PolicySummary>,
    /// The policy that is asked about every request; routes list it, too.
    global_policy: Option<String>,
}

#[derive(Debug, Serialize)]
struct ListenerSummary {
    name: String,
    bind: Vec<String>,
    /// Whether clients may speak HTTP/2, too.
    http2: bool,
    default_host: Option<String>,
    /// Absent if any number may be in work.
    requests: Option<RequestsSummary>,
    /// Absent if a network may have any number.
    connections_per_source: Option<SourceSummary>,
    hosts: Vec<HostSummary>,
}

/// How many requests are in work, and wait for that.
#[derive(Debug, Serialize)]
struct RequestsSummary {
    concurrent_max: usize,
    queue_max: usize,
    queue_timeout_ms: u128,
}

/// How many connections a network may have open.
#[derive(Debug, Serialize)]
struct SourceSummary {
    connections_max: usize,
    prefix_v4: u8,
    prefix_v6: u8,
}

#[derive(Debug, Serialize)]
struct HostSummary {
    names: Vec<String>,
    /// Subjects, one for each kind of key.
    certificates: Vec<String>,
    not_after_unix: i64,
    client_auth: &'static str,
    trust: Option<String>,
    routes: Vec<RouteSummary>,
}

#[derive(Debug, Serialize)]
struct RouteSummary {
    id: String,
    path: String,
    /// Whether that is a regular expression.
    regex: bool,
    /// Empty for all.
    methods: Vec<String>,
    /// What else a request has to be; empty if it is nothing.
    conditions: String,
    /// All of that in words.
    takes: String,
    /// Whether it takes calls of gRPC alone.
    grpc: bool,
    /// The protocols to which it switches.
    upgrade: Vec<String>,
    /// Absent if Ringward answers itself.
    cluster: Option<String>,
    /// The codings of its responses, in the order of preference; empty if they pass as they are.
    compression: Vec<&'static str>,
    /// Where requests go, or what they are answered with.
    action: String,
    /// The cluster that gets copies of its requests.
    mirror: Option<String>,
    /// The file of the certificate that upstreams are shown instead of their cluster's.
    #[serde(skip_serializing_if = "Option::is_none")]
    presents: Option<String>,
    /// In the order in which they are asked; empty if nobody decides.
    policies: Vec<String>,
}

#[derive(Debug, Serialize)]
struct TrustSummary {
    name: String,
    cas: usize,
    /// Of the CA that expires first.
    not_after_unix: Option<i64>,
    /// Certificates that were left out.
    quarantined: Vec<String>,
    /// Revocation lists of files.
    crls: Vec<CrlStatus>,
}

#[derive(Debug, Serialize)]
struct TenantSummary {
    name: String,
    trust: Vec<String>,
    /// The conditions of which one must hold; empty if every client of its bundles is its own.
    rules: Vec<String>,
    revocation_suspended_until_unix: Option<i64>,
}

#[derive(Debug, Serialize)]
struct PolicySummary {
    name: String,
    engine: &'static str,
    /// Not of the matcher and of Cedar.
    rule: Option<String>,
    /// Where the server listens that decides; `None` if the policy is evaluated here.
    server: Option<String>,
    digest: String,
    packages: Vec<String>,
    reads: Vec<String>,
    impure: Vec<String>,
    /// Whether decisions are given again.
    cached: bool,
    /// Why they cannot be; empty if they can.
    uncacheable: Vec<String>,
    tests_passed: usize,
}

impl Summary {
    /// Of what was loaded.
    pub(super) fn of(loaded: &Loaded) -> Summary {
        let config: &Config = &loaded.config;
        let listeners = config.listeners.iter().map(|listener| listener_summary(loaded, listener)).collect();
        let trust = config.trust.keys().filter_map(|name| {
            let bundle = loaded.materials.trust.get(name)?;
            let not_after_unix = bundle.anchors().iter().map(|anchor| anchor.not_after_unix).min();
            let of_bundle = |list: &&CrlStatus| list.bundles.contains(name);
            Some(TrustSummary {
                name: name.clone(),
                cas: bundle.anchors().len(),
                not_after_unix,
                quarantined: loaded.quarantined.get(name).cloned().unwrap_or_default(),
                crls: loaded.list_status.iter().filter(of_bundle).cloned().collect(),
            })
        });
        let tenants = config.tenants.values().map(|tenant| TenantSummary {
            name: tenant.name.clone(),
            trust: tenant.trust.clone(),
            rules: config.tenant_map.definition(&tenant.name).map_or_else(Vec::new, |definition| {
                definition.matches.iter().map(ToString::to_string).collect()
            }),
            revocation_suspended_until_unix: tenant.danger_suspend_revocation_until_unix,
        });
        let file = config.keys.file.as_ref().map(|named| named.path.as_path());
        let keys = match &loaded.key_ring {
            Some(ring) => keys::status(ring, file, UnixTime::now()),
            None => KeysStatus { file: None, keys: Vec::new() },
        };
        let policies = config.policies.values().filter_map(|policy| {
            let LoadedPolicy { digest, report, .. } = loaded.policies.get(&policy.name)?;
            Some(PolicySummary {
                name: policy.name.clone(),
                engine: policy.engine.as_str(),
                rule: (!matches!(policy.engine, Engine::Matcher | Engine::Cedar))
                    .then(|| policy.rule.clone()),
                server: policy.server.as_ref().map(|server| server.address.to_string()),
                digest: digest.iter().map(|byte| format!("{byte:02x}")).collect(),
                packages: report.packages.clone(),
                reads: report.reads.clone(),
                impure: report.impure.clone(),
                cached: policy.cache.is_some() && report.uncacheable.is_empty(),
                uncacheable: report.uncacheable.iter().map(|reason| Reason(reason).to_string()).collect(),
                tests_passed: report.tests.passed(),
            })
        });
        let endpoints = &loaded.materials.endpoints;
        let cluster = |(name, cluster)| Some(ClusterSummary::of(cluster, endpoints.get::<String>(name)?));
        Summary {
            file: config.file().display().to_string(),
            listeners,
            clusters: config.clusters.iter().filter_map(cluster).collect(),
            trust: trust.collect(),
            tenants: tenants.collect(),
            keys,
            policies: policies.collect(),
            global_policy: config.global_policy.clone(),
        }
    }
}

fn listener_summary(loaded: &Loaded, listener: &Listener) -> ListenerSummary {
    let host = |(index, host): (usize, &Host)| {
        let credentials = loaded.materials.credentials.get(&(listener.name.clone(), index))?;
        let certificates = credentials.iter().map(|credential| credential.subject().to_owned()).collect();
        Some(HostSummary {
            names: host.names.iter().map(ToString::to_string).collect(),
            certificates,
            not_after_unix: credentials.iter().map(|credential| credential.not_after_unix()).min()?,
            client_auth: host.client_auth.handshake.as_str(),
            trust: host.client_auth.verification().map(|verification| verification.trust.join(", ")),
            routes: host.routes.iter().map(route_summary).collect(),
        })
    };
    let requests = listener.requests.as_ref().map(|limits| RequestsSummary {
        concurrent_max: limits.concurrent_max,
        queue_max: limits.queue_max,
        queue_timeout_ms: limits.queue_timeout.as_millis(),
    });
    let per_source = listener.handshakes.as_ref().and_then(|limits| limits.per_source.as_ref());
    let connections_per_source = per_source.and_then(|limits| {
        let HandshakesPerSource { prefix_v4, prefix_v6, .. } = *limits;
        Some(SourceSummary { connections_max: limits.connections_max?, prefix_v4, prefix_v6 })
    });
    ListenerSummary {
        requests,
        connections_per_source,
        name: listener.name.clone(),
        bind: listener.bind.iter().map(|bind| bind.addr.to_string()).collect(),
        http2: listener.http2,
        default_host: listener.default_host.map(|index| listener.hosts[index].names[0].to_string()),
        hosts: listener.hosts.iter().enumerate().filter_map(host).collect(),
    }
}

/// The names of all clusters of a route; none if it answers by itself.
pub(crate) fn clusters(route: &Route) -> Option<String> {
    let names: Vec<&str> = route.action.clusters().collect();
    (!names.is_empty()).then(|| names.join(", "))
}

/// The codings that a route compresses its responses with.
fn compression(route: &Route) -> Vec<&'static str> {
    let rules = route.compression.iter();
    rules.flat_map(|rules| &rules.algorithms).map(|(algorithm, _)| algorithm.as_str()).collect()
}

fn presents(route: &Route) -> Option<String> {
    Some(route.upstream_certificate.as_ref()?.chain.path.display().to_string())
}

fn route_summary(route: &Route) -> RouteSummary {
    RouteSummary {
        id: route.id.clone(),
        path: route.path.as_str().to_owned(),
        regex: route.path.regex().is_some(),
        conditions: route.conditions.to_string(),
        takes: route.takes(),
        methods: match &route.methods {
            Methods::All => Vec::new(),
            Methods::Only(methods) => methods.iter().map(ToString::to_string).collect(),
        },
        grpc: route.grpc,
        upgrade: route.tunnel.as_ref().map_or_else(Vec::new, |tunnel| tunnel.protocols.clone()),
        cluster: clusters(route),
        action: [
            Some(route.action.to_string()),
            route.mirror.as_ref().map(ToString::to_string),
            presents(route).map(|file| format!("presenting {file}")),
        ]
        .into_iter()
        .flatten()
        .collect::<Vec<_>>()
        .join(", "),
        presents: presents(route),
        mirror: route.mirror.as_ref().map(|mirror| mirror.cluster.clone()),
        compression: compression(route),
        policies: route.policy.names().to_vec(),
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: good", self.file)?;
        for listener in &self.listeners {
            let speaks = if listener.http2 { "HTTP/2 and HTTP/1.1" } else { "HTTP/1.1" };
            writeln!(f, "\nlistener {} on {}: {speaks}", listener.name, listener.bind.join(", "))?;
            let default = listener.default_host.as_deref().unwrap_or("nobody: such handshakes are refused");
            writeln!(f, "  unknown server names are answered by {default}")?;
            if let Some(RequestsSummary { concurrent_max, queue_max, queue_timeout_ms }) = &listener.requests
            {
                let s = plural(*concurrent_max);
                writeln!(
                    f,
                    "  {concurrent_max} request{s} at once, {queue_max} wait up to {queue_timeout_ms} ms"
                )?;
            }
            if let Some(limits) = &listener.connections_per_source {
                let SourceSummary { connections_max, prefix_v4, prefix_v6 } = limits;
                let s = plural(*connections_max);
                writeln!(
                    f,
                    "  {connections_max} connection{s} from each /{prefix_v4} of IPv4 and /{prefix_v6} of IPv6"
                )?;
            }
            for host in &listener.hosts {
                write!(f, "{host}")?;
            }
        }
        writeln!(f)?;
        for cluster in &self.clusters {
            write!(f, "{cluster}")?;
        }
        for TrustSummary { name, cas, not_after_unix, quarantined, crls } in &self.trust {
            let until = not_after_unix
                .map_or_else(String::new, |seconds| format!(", the first until {}", date(seconds)));
            writeln!(f, "trust {name}: {cas} CA{}{until}", plural(*cas))?;
            for left_out in quarantined {
                writeln!(f, "  left out: {left_out}")?;
            }
            for CrlStatus { issuer, source, entries, next_update_unix, .. } in crls {
                let until = next_update_unix
                    .map_or_else(String::new, |until| format!(", next due {}", moment(until)));
                writeln!(f, "  revocation list of {issuer}: {entries} entries{until} ({source})")?;
            }
        }
        for TenantSummary { name, trust, rules, revocation_suspended_until_unix } in &self.tenants {
            let rules = if rules.is_empty() { "every client".to_owned() } else { rules.join(" or ") };
            writeln!(f, "tenant {name}: {rules} of trust {}", trust.join(" or "))?;
            if let Some(until) = revocation_suspended_until_unix {
                writeln!(f, "  REVOCATION IS SUSPENDED until {}", moment(*until))?;
            }
        }
        if let Some(file) = &self.keys.file {
            let keys = self.keys.keys.len();
            writeln!(f, "ticket keys of {file}: {keys} key{}", plural(keys))?;
        }
        if let Some(name) = &self.global_policy {
            writeln!(f, "global policy {name}: asked first about every request")?;
        }
        for policy in &self.policies {
            let PolicySummary { name, engine, rule, digest, tests_passed, reads, .. } = policy;
            let decides = rule.as_deref().unwrap_or(engine);
            if let Some(server) = &policy.server {
                writeln!(f, "policy {name}: {decides} of the server at {server}")?;
                continue;
            }
            let tests = plural(*tests_passed);
            writeln!(f, "policy {name}: {decides}, {tests_passed} test{tests} passed, digest {digest}")?;
            writeln!(f, "  reads input.{}", reads.join(", input."))?;
            match (policy.cached, policy.uncacheable.as_slice()) {
                (true, _) => writeln!(f, "  decisions are cached")?,
                (false, []) => writeln!(f, "  decisions are not cached: cache = \"off\"")?,
                (false, reasons) => {
                    writeln!(f, "  decisions are not cached: {}", reasons.join("; "))?;
                }
            }
        }
        write!(f, "no errors")
    }
}

impl fmt::Display for HostSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "  host {}", self.names.join(", "))?;
        writeln!(
            f,
            "    certificate  {} until {}",
            self.certificates.join(" and "),
            date(self.not_after_unix)
        )?;
        let trust = self.trust.as_ref().map_or_else(String::new, |name| format!(", issued by trust {name}"));
        writeln!(f, "    clients      certificate {}{trust}", self.client_auth)?;
        if self.routes.is_empty() {
            writeln!(f, "    no routes: every request is answered with 404")?;
        }
        for RouteSummary { id, takes, upgrade, action, compression, policies, .. } in &self.routes {
            let upgrade = if upgrade.is_empty() {
                String::new()
            } else {
                format!(", upgrade to {}", upgrade.join(" or "))
            };
            let policies = match policies.as_slice() {
                [] => "NO POLICY".to_owned(),
                [name] => format!("policy {name}"),
                names => format!("policies {}", names.join(" and ")),
            };
            let compression = match compression.as_slice() {
                [] => String::new(),
                codings => {
                    format!(", COMPRESSES by {}: no secrets beside text of requests", codings.join(", "))
                }
            };
            writeln!(f, "    route {id}: {takes} → {action}, {policies}{upgrade}{compression}")?;
        }
        Ok(())
    }
}

/// A moment as a date, which is enough to see what expires.
fn date(seconds: i64) -> String {
    OffsetDateTime::from_unix_timestamp(seconds)
        .map_or_else(|_| "ever".to_owned(), |time| time.date().to_string())
}

fn plural(count: usize) -> &'static str {
    if count == 1 { "" } else { "s" }
}
