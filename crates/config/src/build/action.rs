//! What becomes of the requests of a route: `cluster`, `split`, `redirect` or `respond`.

use std::ops::Range;

use serde_spanned::Spanned;

use super::context::Context;
use super::{References, split};
use crate::bounds;
use crate::model::Action;
use crate::path::PathPattern;
use crate::raw::{self, Field};
use crate::template::Template;

/// The action of a route that stands at `section`; `path` is what it takes, unless that is broken. `None` if it has none that is good, which was reported.
pub(super) fn action(
    cx: &mut Context<'_>,
    raw: &raw::Route,
    section: &Range<usize>,
    path: Option<&PathPattern>,
    references: &mut References,
) -> Option<Action> {
    let given = [
        ("cluster", raw.cluster.span()),
        ("split", raw.split.span()),
        ("redirect", raw.redirect.span()),
        ("respond", raw.respond.span()),
    ];
    let given: Vec<(&str, Range<usize>)> =
        given.into_iter().filter_map(|(key, span)| Some((key, span?))).collect();
    if let [(first, _), (second, span), ..] = given.as_slice() {
        cx.error(span, format!("`{second}` beside `{first}`: a route does one of them"))
            .help("leave one of them away");
    }
    if !raw.redirect.is_absent() || !raw.respond.is_absent() {
        refuse_useless(cx, raw);
    }
    if let Some(redirect) = cx.given(&raw.redirect) {
        return redirection(cx, redirect, path?);
    }
    if let Some(respond) = cx.given(&raw.respond) {
        return response(cx, respond);
    }
    if let Some(given) = cx.given(&raw.split) {
        return split::split(cx, given, references).map(Action::Split);
    }
    let missing = matches!(given.as_slice(), [] | [("cluster", _), ..]);
    let cluster =
        if missing { cx.required("cluster", "cluster = \"NAME\"", &raw.cluster, section) } else { None };
    cluster.and_then(|name| references.cluster.resolve(cx, name)).map(Action::Cluster)
}

/// What is about upstreams alone.
fn refuse_useless(cx: &mut Context<'_>, raw: &raw::Route) {
    let useless = [
        ("upgrade", raw.upgrade.span()),
        ("response_timeout", raw.response_timeout.span()),
        ("retry", raw.retry.span()),
        ("mirror", raw.mirror.span()),
        ("upstream_certificate", raw.upstream_certificate.span()),
        ("request_headers", raw.request_headers.span()),
        ("rewrite", raw.rewrite.span()),
    ];
    for (key, span) in useless.into_iter().filter_map(|(key, span)| Some((key, span?))) {
        cx.error(&span, format!("`{key}` has no effect: the route has no `cluster`")).help("take it out");
    }
    let grpc = raw.r#match.value().and_then(|matched| matched.grpc.span());
    if let Some(span) = grpc {
        cx.error(&span, "a route for gRPC needs a `cluster`: its clients understand no other answer");
    }
}

fn redirection(cx: &mut Context<'_>, raw: &Spanned<raw::Redirect>, path: &PathPattern) -> Option<Action> {
    let status = status(cx, &raw.get_ref().status, 308, &REDIRECTS, "301, 302, 303, 307 or 308");
    let to = cx.required("to", "to = \"https://{host}/new/{id}\"", &raw.get_ref().to, &raw.span())?;
    let text = to.get_ref();
    // RFC 3986 §2: nothing else stands in a URI.
    let plain = text.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"<>\\^`|".contains(&byte));
    if !plain || text.len() > bounds::REDIRECT_BYTES_MAX {
        let max = bounds::REDIRECT_BYTES_MAX;
        cx.error(&to.span(), format!("`to` is longer than {max} bytes or has characters that no URL has"));
        return None;
    }
    let template = match Template::parse(text, path) {
        Ok(template) => template,
        Err(fault) => {
            cx.error(&to.span(), format!("`to` {fault}"))
                .help("it knows {host}, {path}, {query} (with its \"?\") and the names in the route's path");
            return None;
        }
    };
    if !template.has_own_host() {
        cx.error(&to.span(), "`to` would let whoever makes a link choose the host that it leads to")
            .help("begin with \"/\", \"https://{host}/\" or \"https://a.host.of.yours/\"");
        return None;
    }
    Some(Action::Redirect { status: status?, to: template })
}

fn response(cx: &mut Context<'_>, raw: &Spanned<raw::Respond>) -> Option<Action> {
    let (span, raw) = (raw.span(), raw.get_ref());
    let allowed: Vec<u16> = (200..=599).collect();
    if raw.status.is_absent() {
        cx.error(&span, "`status` is missing").help("add status = 200");
        return None;
    }
    let status = status(cx, &raw.status, 200, &allowed, "200 to 599")?;
    let body = cx.given(&raw.body).map_or_else(String::new, |body| body.get_ref().clone());
    if let Some(at) = raw.body.span() {
        if body.len() > bounds::RESPONSE_BODY_BYTES_MAX {
            let max = bounds::RESPONSE_BODY_BYTES_MAX;
            cx.error(&at, format!("`body` is longer than {max} bytes"));
        }
        // RFC 9110 §15.3.5, §15.3.6 and §15.4.5.
        if matches!(status, 204 | 205 | 304) {
            cx.error(&at, format!("a response with status {status} has no body")).help("leave `body` away");
        }
    }
    let content_type = match cx.given(&raw.content_type) {
        None => DEFAULT_CONTENT_TYPE.to_owned(),
        Some(given) => {
            let text = given.get_ref();
            let printable = text.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ');
            if !printable
                || !text.contains('/')
                || text.trim() != text
                || text.len() > bounds::LABEL_CHARS_MAX
            {
                cx.error(&given.span(), format!("`content_type`: {text:?} is no media type"))
                    .help("write it as in \"application/json\"");
            }
            text.clone()
        }
    };
    Some(Action::Respond { status, content_type, body })
}

fn status(
    cx: &mut Context<'_>,
    field: &Field<raw::Count>,
    default: u16,
    allowed: &[u16],
    words: &str,
) -> Option<u16> {
    let Some(given) = cx.given(field) else { return field.is_absent().then_some(default) };
    let status = u16::try_from(given.get_ref().0).ok().filter(|status| allowed.contains(status));
    if status.is_none() {
        cx.error(&given.span(), format!("`status` is {}: {words} is allowed", given.get_ref().0));
    }
    status
}

const REDIRECTS: [u16; 5] = [301, 302, 303, 307, 308];
const DEFAULT_CONTENT_TYPE: &str = "text/plain; charset=utf-8";
