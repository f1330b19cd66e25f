//! From the [`raw`](crate::raw) file to the [`model`](crate::model): the one place where a configuration is judged.
//!
//! Every rule that spans keys is here or in the modules below: references exist, names are unique, a host has a policy, a
//! default host is not laxer than the others. All problems are collected; the model comes out only if there is no error.

mod context;
mod host;
mod listener;
mod route;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::sync::Arc;

use serde_spanned::Spanned;

use self::context::{Context, Names};
use crate::diagnostic::{Diagnostics, Source};
use crate::model::{
    AccessLog, Admin, Audit, Balance, Bind, Cluster, Config, Endpoint, Engine, IoDriver, Level, Log, Policy,
    Server, Trust,
};
use crate::raw::{self, Field};
use crate::system_roots::is_system_bundle;
use crate::{bounds, raw::OneOrMany};

/// Judges a file. `found` are the problems that decoding has found already.
///
/// # Errors
/// Everything that is wrong, with warnings, if there is any error.
pub(crate) fn build(
    file: &raw::File,
    source: Arc<Source>,
    found: Diagnostics,
) -> Result<Config, Diagnostics> {
    let mut context = Context::new(&source, found);
    let cx = &mut context;
    let mut names = References {
        trust: Names::new("trust bundle", "trust", &file.trust),
        policy: Names::new("policy", "policy", &file.policy),
        cluster: Names::new("cluster", "cluster", &file.cluster),
    };
    let server = server(cx, &file.server);
    let admin = admin(cx, &file.admin);
    let log = log(cx, &file.log);
    let trust = each(cx, &file.trust, trust);
    let policies = each(cx, &file.policy, policy);
    let clusters = each(cx, &file.cluster, cluster);
    let listeners = listener::listeners(cx, &file.listener, &mut names, &clusters, admin.metrics.as_ref());
    if !cx.found.has_errors() {
        // After an error a reference may be missing only because of that error.
        names.trust.warn_unused(cx);
        names.policy.warn_unused(cx);
        names.cluster.warn_unused(cx);
    }
    let found = context.finish();
    if found.has_errors() {
        return Err(found);
    }
    Ok(Config { server, admin, log, trust, policies, clusters, listeners, warnings: found, source })
}

/// The names that listeners refer to.
struct References {
    trust: Names,
    policy: Names,
    cluster: Names,
}

/// Builds each entry of a table of named things.
fn each<R, T>(
    cx: &mut Context<'_>,
    table: &Field<BTreeMap<Spanned<String>, Field<R>>>,
    build: fn(&mut Context<'_>, String, &Spanned<R>) -> Option<T>,
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

fn server(cx: &mut Context<'_>, field: &Field<raw::Server>) -> Server {
    let (raw, _) = section(cx, field);
    let workers = cx.number_or_word("workers", &raw.workers, "auto", &bounds::WORKERS);
    Server {
        workers: workers.and_then(|count| usize::try_from(count).ok()).and_then(NonZeroUsize::new),
        io: cx.value_or(&raw.io, IoDriver::Auto),
        drain_timeout: cx.duration("drain_timeout", &raw.drain_timeout, &bounds::DRAIN_TIMEOUT),
    }
}

fn admin(cx: &mut Context<'_>, field: &Field<raw::Admin>) -> Admin {
    let (raw, _) = section(cx, field);
    let metrics = cx.given(&raw.metrics).and_then(|text| {
        let addr = cx.socket_addr("metrics", text.get_ref(), &text.span())?;
        Some(Bind { addr, at: cx.at(&text.span()) })
    });
    Admin { metrics }
}

fn log(cx: &mut Context<'_>, field: &Field<raw::Log>) -> Log {
    let (raw, _) = section(cx, field);
    let access = match cx.given(&raw.access).map(Spanned::get_ref) {
        None | Some(raw::AccessLog::Stdout) => Some(AccessLog::Stdout),
        Some(raw::AccessLog::Stderr) => Some(AccessLog::Stderr),
        Some(raw::AccessLog::Off) => Some(AccessLog::Off),
        Some(raw::AccessLog::File(path)) => {
            cx.given(path).and_then(|path| cx.path("file", path.get_ref(), &path.span())).map(AccessLog::File)
        }
    };
    let access = access.unwrap_or(AccessLog::Stdout);
    let audit = cx.value_or(&raw.audit, Audit::BestEffort);
    if let (AccessLog::Off, Audit::Required, Some(span)) = (&access, audit, raw.audit.span()) {
        cx.error(&span, "`audit` is \"required\", but access = \"off\" writes no records")
            .help("write the records somewhere, or leave audit away");
    }
    Log {
        access,
        audit,
        level: cx.value_or(&raw.level, Level::Info),
        queue_records: cx.number("queue_records", &raw.queue_records, &bounds::QUEUE_RECORDS),
    }
}

fn trust(cx: &mut Context<'_>, name: String, raw: &Spanned<raw::Trust>) -> Option<Trust> {
    let list = cx.required("ca", "ca = [\"FILE-OR-DIRECTORY\"]", &raw.get_ref().ca, &raw.span())?;
    let mut ca = Vec::new();
    for item in cx.list("ca", list, bounds::PATHS) {
        let Some(named) = cx.path("ca", item.get_ref(), &item.span()) else { continue };
        if is_system_bundle(&named.path) {
            cx.error(&item.span(), format!("{:?} holds the CAs of the public web", item.get_ref())).help(
                "they sign for everybody, so everybody would be trusted: copy the CAs of your clients into a directory of their own",
            );
        }
        ca.push(named);
    }
    Some(Trust { name, ca, at: cx.at(&raw.span()) })
}

fn policy(cx: &mut Context<'_>, name: String, raw: &Spanned<raw::Policy>) -> Option<Policy> {
    let at = cx.at(&raw.span());
    let (raw, span) = (raw.get_ref(), raw.span());
    let engine = cx.value_or(&raw.engine, Engine::Rego);
    let time_budget = cx.duration("time_budget", &raw.time_budget, &bounds::TIME_BUDGET);
    let (rule, rule_at) = match cx.given(&raw.rule) {
        Some(rule) => {
            check_rule(cx, rule);
            (rule.get_ref().clone(), cx.at(&rule.span()))
        }
        None => (DEFAULT_RULE.to_owned(), at.clone()),
    };
    let list = cx.required("path", "path = [\"FILE-OR-DIRECTORY\"]", &raw.path, &span)?;
    let path = cx.paths("path", list, bounds::PATHS);
    Some(Policy { name, engine, path, rule, rule_at, time_budget, at })
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

fn cluster(cx: &mut Context<'_>, name: String, raw: &Spanned<raw::Cluster>) -> Option<Cluster> {
    let (raw, span) = (raw.get_ref(), raw.span());
    let cluster = Cluster {
        name,
        balance: cx.value_or(&raw.balance, Balance::RoundRobin),
        connect_timeout: cx.duration("connect_timeout", &raw.connect_timeout, &bounds::CONNECT_TIMEOUT),
        response_timeout: cx.duration("response_timeout", &raw.response_timeout, &bounds::RESPONSE_TIMEOUT),
        idle_timeout: cx.duration("idle_timeout", &raw.idle_timeout, &bounds::POOL_IDLE_TIMEOUT),
        pool_idle_max: cx.number("pool_idle_max", &raw.pool_idle_max, &bounds::POOL_IDLE_MAX),
        at: cx.at(&span),
        endpoints: Vec::new(),
    };
    let list = cx.required("endpoints", "endpoints = [\"10.0.0.11:8080\"]", &raw.endpoints, &span)?;
    Some(Cluster { endpoints: endpoints(cx, list), ..cluster })
}

fn endpoints(cx: &mut Context<'_>, list: &Spanned<OneOrMany>) -> Vec<Endpoint> {
    let mut endpoints: Vec<Endpoint> = Vec::new();
    for item in cx.list("endpoints", list, bounds::ENDPOINTS) {
        let Some(addr) = cx.socket_addr("endpoints", item.get_ref(), &item.span()) else { continue };
        if endpoints.iter().any(|known| known.addr == addr) {
            cx.error(&item.span(), format!("the endpoint {addr} appears twice"))
                .help("leave one away: weighted balancing is not available yet");
        }
        check_connectable(cx, addr, &item.span());
        endpoints.push(Endpoint { addr, at: cx.at(&item.span()) });
    }
    endpoints
}

fn check_connectable(cx: &mut Context<'_>, addr: SocketAddr, span: &Range<usize>) {
    if addr.port() == 0 {
        cx.error(span, format!("the endpoint {addr} has port 0, which nothing listens on"));
    } else if addr.ip().is_unspecified() || addr.ip().is_multicast() {
        cx.error(span, format!("the endpoint {addr} is not the address of a server"))
            .help("for a server on this machine write 127.0.0.1 or [::1]");
    }
}

/// The package of the sample policies, and the rule that they define.
const DEFAULT_RULE: &str = "data.ringward.authz.decision";

/// Long enough for any package; it appears in messages.
const RULE_BYTES_MAX: usize = 256;
