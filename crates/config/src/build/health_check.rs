//! How a cluster's endpoints are checked: one kind of check, and no key that it would not obey.

use std::ops::RangeInclusive;

use serde_spanned::Spanned;

use super::context::Context;
use crate::bounds;
use crate::host::HostName;
use crate::model::{HealthCheck, Probe, Protocol};
use crate::raw::{self, Field, OneOrMany};

/// The check of a cluster that speaks `protocol`; `None` if it has none.
pub(super) fn health_check(
    cx: &mut Context<'_>,
    raw: &raw::Cluster,
    protocol: Protocol,
) -> Option<HealthCheck> {
    let panic_threshold = cx.number("panic_threshold", &raw.panic_threshold, &bounds::PANIC_THRESHOLD);
    let Some(given) = cx.given(&raw.health_check) else {
        if raw.health_check.is_absent()
            && let Some(span) = raw.panic_threshold.span()
        {
            cx.error(&span, "`panic_threshold` has no meaning without a `health_check`")
                .help("add health_check = { http = \"/healthz\" }, or remove it");
        }
        return None;
    };
    let (check, span) = (given.get_ref(), given.span());
    let interval = cx.duration("interval", &check.interval, &bounds::HEALTH_CHECK_INTERVAL);
    let timeout = cx.duration("timeout", &check.timeout, &bounds::HEALTH_CHECK_TIMEOUT);
    let healthy = cx.number("healthy_threshold", &check.healthy_threshold, &bounds::HEALTHY_THRESHOLD);
    let unhealthy =
        cx.number("unhealthy_threshold", &check.unhealthy_threshold, &bounds::UNHEALTHY_THRESHOLD);
    let host = cx.given(&check.host).and_then(|host| self::host(cx, host));
    let expect = cx
        .given(&check.expect)
        .map(|list| statuses(cx, "expect", list, bounds::HEALTH_CHECK_EXPECT, STATUSES));
    let kinds = [&check.http.span(), &check.grpc.span(), &check.tcp.span()];
    if kinds.into_iter().flatten().count() != 1 {
        cx.error(&span, "`health_check` needs exactly one of `http`, `grpc` and `tcp`")
            .help("write { http = \"/healthz\" }, { grpc = \"package.Service\" } or { tcp = true }");
        return None;
    }
    let probe = if let Some(target) = cx.given(&check.http) {
        let target = self::target(cx, target)?;
        let expect = expect.unwrap_or_else(|| vec![EXPECTED]);
        Probe::Http { http2: protocol == Protocol::Http2, target, host, expect }
    } else if let Some(service) = cx.given(&check.grpc) {
        refuse(cx, "expect", &check.expect, "a server answers by gRPC whether it is SERVING");
        let service = self::service(cx, service, protocol)?;
        Probe::Grpc { service, host }
    } else {
        refuse(cx, "expect", &check.expect, "nothing is asked but a connection");
        refuse(cx, "host", &check.host, "nothing is asked but a connection");
        let tcp = cx.given(&check.tcp)?;
        if !tcp.get_ref() {
            cx.error(&tcp.span(), "`tcp` is false, and nothing else is asked")
                .help("write tcp = true, or leave health_check away for no checks");
        }
        Probe::Tcp
    };
    let whole = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    Some(HealthCheck {
        probe,
        interval,
        timeout,
        healthy_threshold: whole(healthy),
        unhealthy_threshold: whole(unhealthy),
        panic_threshold: whole(panic_threshold),
        sends_proxy_protocol: !raw.proxy_protocol.is_absent(),
    })
}

/// A path that can be sent as it is.
fn target(cx: &mut Context<'_>, target: &Spanned<String>) -> Option<String> {
    let text = target.get_ref();
    let visible = text.bytes().all(|byte| byte.is_ascii_graphic() && !b"#\"<>\\^`{|}".contains(&byte));
    if text.starts_with('/') && visible && text.len() <= bounds::HEALTH_CHECK_TARGET_CHARS_MAX {
        return Some(text.clone());
    }
    cx.error(&target.span(), format!("`http`: {text:?} is not a path")).help(format!(
        "write what follows the host in a URL, such as \"/healthz\", up to {} characters",
        bounds::HEALTH_CHECK_TARGET_CHARS_MAX
    ));
    None
}

fn service(cx: &mut Context<'_>, service: &Spanned<String>, protocol: Protocol) -> Option<String> {
    let text = service.get_ref();
    if protocol == Protocol::Http1 {
        cx.error(&service.span(), "`grpc` needs HTTP/2, which the cluster does not speak")
            .help("write protocol = \"http2\" for endpoints that serve gRPC, or check them by http or tcp");
        return None;
    }
    if text.bytes().all(|byte| byte.is_ascii_graphic()) && text.len() <= bounds::GRPC_SERVICE_CHARS_MAX {
        return Some(text.clone());
    }
    cx.error(&service.span(), format!("`grpc`: {text:?} is not the name of a service")).help(format!(
        "write package and service, up to {} characters: \"orders.v1.Orders\", or \"\" for the whole server",
        bounds::GRPC_SERVICE_CHARS_MAX
    ));
    None
}

/// A host name or address, with or without a port.
fn host(cx: &mut Context<'_>, host: &Spanned<String>) -> Option<String> {
    let text = host.get_ref();
    // The colons of an IPv6 address stand in brackets.
    let (name, port) = match text.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') => (name, Some(port)),
        _ => (text.as_str(), None),
    };
    if HostName::parse(name).is_ok() && port.is_none_or(|port| port.parse().is_ok_and(|port: u16| port > 0)) {
        return Some(text.clone());
    }
    cx.error(&host.span(), format!("`host`: {text:?} is not a host"))
        .help("write a name with or without a port: \"orders.internal\", \"orders.internal:8080\"");
    None
}

/// Statuses among `known`, and ranges of them.
pub(super) fn statuses(
    cx: &mut Context<'_>,
    key: &str,
    list: &Spanned<OneOrMany>,
    allowed: RangeInclusive<usize>,
    known: RangeInclusive<u16>,
) -> Vec<RangeInclusive<u16>> {
    let mut ranges = Vec::new();
    for item in cx.list(key, list, allowed) {
        let (from, to) = item.get_ref().split_once('-').unwrap_or((item.get_ref(), item.get_ref()));
        let status = |text: &str| text.parse().ok().filter(|status| known.contains(status));
        match (status(from), status(to)) {
            (Some(from), Some(to)) if from <= to => ranges.push(from..=to),
            _ => cx.error(&item.span(), format!("`{key}`: {:?} is not a status", item.get_ref())).help(
                format!(
                    "write a number from {0} to {1}, or a range of them: \"{0}\", \"{0}-{1}\"",
                    known.start(),
                    known.end()
                ),
            ),
        }
    }
    ranges
}

/// Refuses a key that this kind of check would not obey.
fn refuse<T>(cx: &mut Context<'_>, key: &str, field: &Field<T>, why: &str) {
    if let Some(span) = cx.given(field).map(Spanned::span) {
        cx.error(&span, format!("`{key}` has no meaning for this kind of check"))
            .help(format!("{why}: remove it"));
    }
}

/// Unless `expect` says otherwise.
const EXPECTED: RangeInclusive<u16> = 200..=299;
/// Final ones.
const STATUSES: RangeInclusive<u16> = 200..=599;
