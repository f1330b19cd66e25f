//! When requests are sent again, and how many there are at a time.

use serde_spanned::Spanned;

use super::context::{Context, UNLIMITED};
use super::{health_check, section};
use crate::bounds;
use crate::model::{ClusterLimits, Retry, RetryBudget};
use crate::raw::{self, Field, OneOrMany, RetryOn, WordOrTable};
use crate::routes::Method;

/// What a route or a host says; `None` if it says nothing.
pub(super) fn retry(cx: &mut Context<'_>, field: &Field<WordOrTable<raw::Retry>>) -> Option<Option<Retry>> {
    let given = cx.given(field)?;
    match given.get_ref() {
        WordOrTable::Word(word) if word == "off" => Some(None),
        WordOrTable::Word(word) => {
            cx.error(&given.span(), format!("`retry`: expected a table or \"off\", found {word:?}"))
                .help("write retry = { attempts = 3, status = [\"502-504\"] }, or \"off\" for none");
            None
        }
        WordOrTable::Table(raw) => Some(Some(table(cx, raw))),
    }
}

fn table(cx: &mut Context<'_>, raw: &raw::Retry) -> Retry {
    let on = match raw.on.is_absent() {
        true => vec![RetryOn::ConnectFailure, RetryOn::ResetBeforeResponse, RetryOn::RefusedStream],
        false => cx.choices("on", &raw.on),
    };
    let statuses = cx
        .given(&raw.status)
        .map(|list| health_check::statuses(cx, "status", list, bounds::RETRY_STATUSES, bounds::RETRY_STATUS));
    let attempts = cx.number("attempts", &raw.attempts, &bounds::RETRY_ATTEMPTS);
    let safe = cx.given(&raw.methods).map(|list| methods(cx, "methods", list));
    let mut all =
        safe.unwrap_or_else(|| IDEMPOTENT.iter().filter_map(|name| Method::parse(name).ok()).collect());
    all.extend(
        cx.given(&raw.danger_methods).map(|list| methods(cx, "danger_methods", list)).unwrap_or_default(),
    );
    Retry {
        connect_failure: on.contains(&RetryOn::ConnectFailure),
        reset: on.contains(&RetryOn::ResetBeforeResponse),
        refused_stream: on.contains(&RetryOn::RefusedStream),
        timeout: on.contains(&RetryOn::Timeout),
        statuses: statuses.unwrap_or_default(),
        attempts: u8::try_from(attempts).unwrap_or(u8::MAX),
        per_try_timeout: cx.optional_duration(
            "per_try_timeout",
            &raw.per_try_timeout,
            &bounds::RESPONSE_TIMEOUT,
        ),
        methods: all,
        backoff: cx.duration("backoff", &raw.backoff, &bounds::RETRY_BACKOFF),
    }
}

/// Methods of which all are idempotent (RFC 9110 §9.2.2), or with `danger_methods` none.
fn methods(cx: &mut Context<'_>, key: &str, list: &Spanned<OneOrMany>) -> Vec<Method> {
    let is_danger = key != "methods";
    let mut methods = Vec::new();
    for item in cx.list(key, list, bounds::METHODS) {
        let name = *item.get_ref();
        match Method::parse(name) {
            Ok(method) if methods.contains(&method) => {
                cx.error(&item.span(), format!("`{key}`: the method {name} appears twice"));
            }
            Ok(_) if IDEMPOTENT.contains(&name) == is_danger => {
                let (is, belongs) = if is_danger { ("", "methods") } else { ("not ", "danger_methods") };
                cx.error(&item.span(), format!("`{key}`: the method {name} is {is}idempotent"))
                    .help(format!("write {belongs} = [\"{name}\"], if it is to be sent again"));
            }
            Ok(method) => methods.push(method),
            Err(error) => {
                cx.error(&item.span(), format!("`{key}`: {error}")).help("write it in capitals: \"GET\"")
            }
        }
    }
    methods
}

/// How many requests of a cluster are tried again.
pub(super) fn budget(cx: &mut Context<'_>, field: &Field<raw::RetryBudget>) -> RetryBudget {
    let (raw, _) = section(cx, field);
    let whole = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    RetryBudget {
        percent: whole(cx.number("percent", &raw.percent, &bounds::RETRY_BUDGET_PERCENT)),
        per_second: whole(cx.number("per_second", &raw.per_second, &bounds::RETRY_BUDGET_PER_SECOND)),
    }
}

/// How many requests a cluster has at once.
pub(super) fn limits(cx: &mut Context<'_>, raw: &raw::Cluster) -> Option<ClusterLimits> {
    let requests_max =
        cx.number_or_word("requests_max", &raw.requests_max, UNLIMITED, &bounds::CLUSTER_REQUESTS_MAX);
    let pending_max = cx.number("pending_max", &raw.pending_max, &bounds::CLUSTER_PENDING_MAX);
    let pending_timeout =
        cx.duration("pending_timeout", &raw.pending_timeout, &bounds::CLUSTER_PENDING_TIMEOUT);
    // One that cannot be read was meant to be there.
    let is_limited =
        !raw.requests_max.is_absent() && (requests_max.is_some() || raw.requests_max.value().is_none());
    if let Some(span) = raw.pending_max.span().filter(|_| !is_limited) {
        cx.error(&span, "`pending_max` has no meaning without a `requests_max`")
            .help("nothing waits where there is no limit: add requests_max = 1000, or remove it");
    }
    if let Some(span) = raw.pending_timeout.span().filter(|_| raw.pending_max.is_absent()) {
        cx.error(&span, "`pending_timeout` has no meaning without a `pending_max`")
            .help("nothing waits: add pending_max = 100, or remove it");
    }
    let requests_max = usize::try_from(requests_max?).unwrap_or(usize::MAX);
    Some(ClusterLimits { requests_max, pending_max, pending_timeout })
}

/// RFC 9110 §9.2.2.
const IDEMPOTENT: [&str; 6] = ["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"];
