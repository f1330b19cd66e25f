//! From the [`raw`](crate::raw) file to the [`model`](crate::model): the one place where a configuration is judged.
//!
//! Every rule that spans keys is here or in the modules below: references exist, names are unique, a host has a policy, a
//! default host is not laxer than the others. All problems are collected; the model comes out only if there is no error.

mod action;
mod certificate;
mod client_auth;
mod compression;
mod conditions;
mod context;
mod cors;
mod discovery;
mod endpoints;
mod forwarded_identity;
mod grpc;
mod handshakes;
mod header_edits;
mod health_check;
mod host;
pub(crate) mod include;
mod listener;
mod mirror;
mod names;
mod outlier_detection;
mod policy_server;
mod precedence;
mod process;
mod requests;
mod retry;
mod rewrite;
mod route;
mod socket_path;
mod split;
mod tenant;
mod tls;
mod trust;
mod tunnel;
mod unused;
mod upstream_certificate;
mod upstream_revocation;
mod upstream_tls;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::ops::Range;
use std::sync::Arc;

use serde_spanned::Spanned;

use self::context::{Context, ProcessKeys, UNLIMITED};
use self::host::Defaults;
use self::names::Names;
use crate::bounds;
use crate::diagnostic::{Diagnostics, Source};
use crate::model::{Cluster, Config, Engine, InputShape, Policy, PolicyCache, Protocol};
use crate::raw::{self, Field};

/// Judges a file. `found` are the problems that decoding has found already.
///
/// # Errors
/// Everything that is wrong, with warnings, if there is any error.
pub(crate) fn build(
    file: &raw::File,
    source: Arc<Source>,
    found: Diagnostics,
    now_unix: i64,
) -> Result<Config, Diagnostics> {
    // Of a section that cannot be read it is not known.
    let has = |key: fn(&raw::Server) -> &Field<String>| {
        file.server.value().map_or(!file.server.is_absent(), |server| !key(server).is_absent())
    };
    let process =
        ProcessKeys { state_dir: has(|server| &server.state_dir), fetch_ca: has(|server| &server.fetch_ca) };
    let mut context = Context::new(&source, found, now_unix, process);
    let cx = &mut context;
    let mut names = References {
        trust: Names::new("trust bundle", "trust", &file.trust),
        tenant: Names::new("tenant", "tenant", &file.tenant),
        policy: Names::new("policy", "policy", &file.policy),
        cluster: Names::new("cluster", "cluster", &file.cluster),
    };
    let server = process::server(cx, &file.server);
    let admin = process::admin(cx, &file.admin);
    let log = process::log(cx, &file.log);
    let keys = process::keys(cx, &file.keys);
    let trust = each(cx, &file.trust, trust::trust);
    trust::check_trust_domains(cx, &file.trust);
    let (tenants, tenant_map) = tenant::tenants(cx, &file.tenant, &names.trust, &trust);
    let mut policies = each(cx, &file.policy, policy);
    candidates(cx, file, &mut policies, &mut names.policy);
    let global_policy = global_policy(cx, &file.server, &mut names.policy);
    let clusters = each(cx, &file.cluster, |cx, name, raw| cluster(cx, name, raw, &server.dns_servers));
    let defaults = Defaults {
        body_bytes_max: None,
        http2: false,
        global_policy: global_policy.as_deref(),
        trust: &trust,
        tenants: &tenants,
        clusters: &clusters,
    };
    let listeners = listener::listeners(cx, &file.listener, &mut names, &defaults, admin.metrics.as_ref());
    if !cx.found.has_errors() {
        // After an error something may be unused only because of that error.
        names.trust.warn_unused(cx);
        names.policy.warn_unused(cx);
        names.cluster.warn_unused(cx);
        unused::warn(cx, file, &trust, &tenants, &listeners);
    }
    let found = context.finish();
    if found.has_errors() {
        return Err(found);
    }
    Ok(Config {
        server,
        admin,
        log,
        trust,
        tenants,
        tenant_map: Arc::new(tenant_map),
        keys,
        policies,
        global_policy,
        clusters,
        listeners,
        warnings: found,
        source,
    })
}

/// The names that listeners refer to.
struct References {
    trust: Names,
    tenant: Names,
    policy: Names,
    cluster: Names,
}

/// Builds each entry of a table of named things.
fn each<R, T>(
    cx: &mut Context<'_>,
    table: &Field<BTreeMap<Spanned<String>, Field<R>>>,
    build: impl Fn(&mut Context<'_>, String, &Spanned<R>) -> Option<T>,
) -> BTreeMap<String, T> {
    let mut built = BTreeMap::new();
    for (key, entry) in cx.given(table).into_iter().flat_map(|table| table.get_ref()) {
        let name = cx.name("this table", key.get_ref(), &key.span());
        let entry = cx.given(entry).and_then(|entry| build(cx, key.get_ref().clone(), entry));
        if let (Some(name), Some(entry)) = (name, entry) {
            built.insert(name, entry);
        }
    }
    built
}

/// A section that may be left out, with where it stands.
fn section<R: Clone + Default>(cx: &mut Context<'_>, field: &Field<R>) -> (R, Range<usize>) {
    cx.given(field).map_or((R::default(), 0..0), |given| (given.get_ref().clone(), given.span()))
}

fn policy(cx: &mut Context<'_>, name: String, raw: &Spanned<raw::Policy>) -> Option<Policy> {
    let at = cx.at(&raw.span());
    let (raw, span) = (raw.get_ref(), raw.span());
    let engine = cx.value_or(&raw.engine, Engine::Rego);
    if matches!(engine, Engine::Matcher | Engine::Cedar) {
        refuse_keys_of_rego(cx, engine, raw);
    }
    let time_budget = cx.duration("time_budget", &raw.time_budget, &bounds::TIME_BUDGET);
    let input = cx.value_or(&raw.input, InputShape::Native);
    let cache = policy_cache(cx, &raw.cache).filter(|_| engine != Engine::Opa);
    let server = policy_server::server(cx, engine, raw, &span);
    let (rule, rule_at) = match cx.given(&raw.rule) {
        Some(rule) => {
            check_rule(cx, rule);
            (rule.get_ref().clone(), cx.at(&rule.span()))
        }
        None => (DEFAULT_RULE.to_owned(), at.clone()),
    };
    let path = match engine {
        Engine::Opa => Vec::new(),
        Engine::Rego | Engine::Matcher | Engine::Cedar => {
            let list = cx.required("path", "path = [\"FILE-OR-DIRECTORY\"]", &raw.path, &span)?;
            cx.paths("path", list, bounds::PATHS)
        }
    };
    let candidate = None;
    Some(Policy { name, engine, path, server, rule, rule_at, time_budget, input, cache, candidate, at })
}

/// Adds the candidates of policies. A candidate is a policy that is evaluated here and has none itself: what is compared with what
/// stays clear, and its cost bounded.
fn candidates(
    cx: &mut Context<'_>,
    file: &raw::File,
    policies: &mut BTreeMap<String, Policy>,
    names: &mut Names,
) {
    let table = cx.given(&file.policy).map(|table| table.get_ref().clone()).unwrap_or_default();
    for (name, entry) in &table {
        let Some(named) = entry.value().and_then(|raw| cx.given(&raw.candidate)).cloned() else { continue };
        let span = named.span();
        let Some(candidate) = names.resolve(cx, &named) else { continue };
        let of = |name: &str| {
            table.iter().find(|(key, _)| key.get_ref() == name).and_then(|(_, entry)| entry.value())
        };
        let has_one = of(&candidate).is_some_and(|raw| !raw.candidate.is_absent());
        let is_server = policies.get(&candidate).is_some_and(|policy| policy.engine == Engine::Opa);
        let problem = if candidate == *name.get_ref() {
            Some(("a policy cannot be its own candidate", "name another one: the policy as it is to become"))
        } else if has_one {
            Some(("the candidate has a candidate itself", "compare one with one: remove `candidate` there"))
        } else if is_server {
            Some((
                "a policy server cannot be a candidate",
                "the server itself can compare, in its decision log",
            ))
        } else {
            None
        };
        match (problem, policies.get_mut(name.get_ref())) {
            (Some((message, help)), _) => {
                cx.error(&span, message).help(help);
            }
            (None, Some(policy)) => policy.candidate = Some(candidate),
            (None, None) => {}
        }
    }
}

fn global_policy(cx: &mut Context<'_>, server: &Field<raw::Server>, policies: &mut Names) -> Option<String> {
    let name = cx.given(&server.value()?.global_policy)?;
    policies.resolve(cx, name)
}

/// A key that says something about the evaluation of Rego is not obeyed by another engine, so it is refused.
fn refuse_keys_of_rego(cx: &mut Context<'_>, engine: Engine, raw: &raw::Policy) {
    for (key, span) in
        [("rule", raw.rule.span()), ("time_budget", raw.time_budget.span()), ("input", raw.input.span())]
    {
        if let Some(span) = span {
            let message = format!("`{key}` means nothing to the engine \"{engine}\": only Rego has it");
            cx.error(&span, message).help(format!("remove {key}, or write engine = \"rego\""));
        }
    }
}

/// `None` if decisions are not kept.
fn policy_cache(
    cx: &mut Context<'_>,
    field: &Field<raw::WordOrTable<raw::PolicyCache>>,
) -> Option<PolicyCache> {
    let given = cx.given(field);
    let (raw, asked_at) = match given.map(|given| (given.get_ref(), given.span())) {
        None => (raw::PolicyCache::default(), None),
        Some((raw::WordOrTable::Table(table), span)) => (table.clone(), Some(cx.at(&span))),
        Some((raw::WordOrTable::Word(word), span)) => match word.as_str() {
            "auto" => (raw::PolicyCache::default(), None),
            "off" => return None,
            word => {
                cx.error(&span, format!("`cache`: unknown value {word:?}"))
                    .help("write \"auto\", \"off\", or a table of bounds such as { entries = 8192 }");
                return None;
            }
        },
    };
    let misses = &bounds::POLICY_MISSES_PER_SECOND;
    let misses_per_second = cx.number_or_word("misses_per_second", &raw.misses_per_second, UNLIMITED, misses);
    let whole = |number: u64| u32::try_from(number).ok().and_then(NonZeroU32::new);
    let verify_every = cx.number("verify_every", &raw.verify_every, &bounds::POLICY_CACHE_VERIFY_EVERY);
    Some(PolicyCache {
        entries: cx.number("entries", &raw.entries, &bounds::POLICY_CACHE_ENTRIES),
        bytes: cx.size("bytes", &raw.bytes, &bounds::POLICY_CACHE_BYTES),
        verify_every: whole(verify_every as u64).unwrap_or(NonZeroU32::MIN),
        misses_per_second: misses_per_second.and_then(whole),
        asked_at,
    })
}

fn check_rule(cx: &mut Context<'_>, rule: &Spanned<String>) {
    let word = |part: &str| {
        let letters = part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        letters && part.bytes().next().is_some_and(|b| !b.is_ascii_digit())
    };
    let mut parts = rule.get_ref().split('.');
    let begins = parts.next() == Some("data");
    let words = parts.clone().count() > 0 && parts.all(word);
    if begins && words && rule.get_ref().len() <= RULE_BYTES_MAX {
        return;
    }
    let help = if rule.get_ref().starts_with("data.") {
        format!("write words joined by dots: \"{DEFAULT_RULE}\"")
    } else {
        format!("write the whole path from data on: \"{DEFAULT_RULE}\"")
    };
    cx.error(&rule.span(), format!("`rule`: {:?} does not name a rule", rule.get_ref())).help(help);
}

fn cluster(
    cx: &mut Context<'_>,
    name: String,
    raw: &Spanned<raw::Cluster>,
    dns_servers: &[SocketAddr],
) -> Option<Cluster> {
    let (raw, span) = (raw.get_ref(), raw.span());
    let protocol = protocol(cx, raw);
    let balance = endpoints::balance(cx, &raw.balance);
    // One that cannot be read was meant to be there.
    let is_checked = !raw.health_check.is_absent();
    let discovery = discovery::discovery(cx, raw, dns_servers);
    let cluster = Cluster {
        name,
        protocol,
        slow_start: endpoints::slow_start(cx, raw, &balance, is_checked),
        balance,
        connect_timeout: cx.duration("connect_timeout", &raw.connect_timeout, &bounds::CONNECT_TIMEOUT),
        response_timeout: cx.duration("response_timeout", &raw.response_timeout, &bounds::RESPONSE_TIMEOUT),
        idle_timeout: cx.duration("idle_timeout", &raw.idle_timeout, &bounds::POOL_IDLE_TIMEOUT),
        pool_idle_max: cx.number("pool_idle_max", &raw.pool_idle_max, &bounds::POOL_IDLE_MAX),
        connections_max: cx.number(
            "connections_max",
            &raw.connections_max,
            &bounds::UPSTREAM_CONNECTIONS_MAX,
        ),
        streams_per_connection_max: cx.number(
            "streams_per_connection_max",
            &raw.streams_per_connection_max,
            &bounds::STREAMS_PER_CONNECTION_MAX,
        ),
        health_check: health_check::health_check(cx, raw, protocol),
        outlier_detection: outlier_detection::outlier_detection(cx, &raw.outlier_detection),
        limits: retry::limits(cx, raw),
        retry_budget: retry::budget(cx, &raw.retry_budget),
        tls: upstream_tls::upstream_tls(cx, &raw.tls, discovery.as_ref()),
        sends_proxy_protocol: sends_proxy_protocol(cx, raw, protocol),
        at: cx.at(&span),
        discovery,
        endpoints: Vec::new(),
    };
    if cluster.protocol == Protocol::Http1 {
        refuse_shared(cx, "connections_max", &raw.connections_max);
        refuse_shared(cx, "streams_per_connection_max", &raw.streams_per_connection_max);
    }
    if !raw.endpoints.is_absent() || !discovery::is_asked_for(raw) {
        let kind = endpoints::Kind { is_checked, needs_ip: upstream_tls::needs_ip(raw) };
        let list = cx.required("endpoints", "endpoints = [\"10.0.0.11:8080\"]", &raw.endpoints, &span)?;
        return Some(Cluster { endpoints: endpoints::endpoints(cx, list, kind), ..cluster });
    }
    Some(cluster)
}

/// What its endpoints speak.
fn protocol(cx: &mut Context<'_>, raw: &raw::Cluster) -> Protocol {
    let protocol = cx.value_or(&raw.protocol, Protocol::Http1);
    if protocol == Protocol::Auto
        && raw.tls.is_absent()
        && let Some(span) = raw.protocol.span()
    {
        cx.error(&span, "`protocol` is \"auto\", and the cluster has no `tls`").help(
            "without TLS an endpoint cannot say what it speaks: write protocol = \"http1\" or \"http2\"",
        );
    }
    protocol
}

/// Whether its connections begin with whose they are, which leaves none that others could use.
fn sends_proxy_protocol(cx: &mut Context<'_>, raw: &raw::Cluster, protocol: Protocol) -> bool {
    let Some(sent) = cx.given(&raw.proxy_protocol) else { return false };
    let raw::SentProxyProtocol::V2 = *sent.get_ref();
    if protocol != Protocol::Http1 {
        cx.error(&sent.span(), "`proxy_protocol` has no meaning with HTTP/2")
            .help("requests of all clients share its connections: write protocol = \"http1\", or remove it");
    }
    for (key, field) in
        [("pool_idle_max", raw.pool_idle_max.span()), ("idle_timeout", raw.idle_timeout.span())]
    {
        if let Some(span) = field {
            cx.error(&span, format!("`{key}` has no meaning with `proxy_protocol`"))
                .help("a connection that began with one client's name is kept for nobody: remove it");
        }
    }
    true
}

/// Refuses a key about connections that requests share.
fn refuse_shared(cx: &mut Context<'_>, key: &str, field: &Field<raw::Count>) {
    if let Some(span) = field.span() {
        cx.error(&span, format!("`{key}` has no meaning with HTTP/1.1"))
            .help("requests do not share a connection there: write protocol = \"http2\", or remove it");
    }
}

/// The package of the sample policies, and the rule that they define.
const DEFAULT_RULE: &str = "data.ringward.authz.decision";

/// Long enough for any package; it appears in messages.
const RULE_BYTES_MAX: usize = 256;
