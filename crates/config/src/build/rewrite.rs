//! `rewrite` of a route.

use serde_spanned::Spanned;

use super::context::Context;
use crate::bounds;
use crate::host::HostName;
use crate::model::Rewrite;
use crate::path::PathPattern;
use crate::raw::{self, Field};
use crate::template::Template;

/// What a route with this path rewrites.
pub(super) fn rewrite(cx: &mut Context<'_>, field: &Field<raw::Rewrite>, pattern: &PathPattern) -> Rewrite {
    let Some(raw) = cx.given(field) else { return Rewrite::default() };
    let (span, raw) = (raw.span(), raw.get_ref());
    if raw.path.is_absent() && raw.prefix.is_absent() && raw.host.is_absent() {
        cx.error(&span, "`rewrite` changes nothing").help("add path = \"/v2/{id}\", prefix or host");
    }
    if let (Some(span), false) = (raw.prefix.span(), raw.path.is_absent()) {
        cx.error(&span, "`prefix` beside `path`: a rewrite has one of them").help("leave one of them away");
    }
    let path = cx.given(&raw.path).and_then(|text| path(cx, text, pattern));
    let prefix = cx.given(&raw.prefix).and_then(|text| prefix(cx, text, pattern));
    let host = cx.given(&raw.host).and_then(|text| host(cx, text));
    Rewrite { path: path.or(prefix), host }
}

fn path(cx: &mut Context<'_>, text: &Spanned<String>, pattern: &PathPattern) -> Option<Template> {
    let template = match Template::parse_path(text.get_ref(), pattern) {
        Ok(template) => template,
        Err(fault) => {
            cx.error(&text.span(), format!("`path` {fault}"))
                .help("it knows {host}, {path} and the names in the route's path, each as {name}");
            return None;
        }
    };
    if template.places() > bounds::HEADER_PLACES_MAX {
        let max = bounds::HEADER_PLACES_MAX;
        cx.error(&text.span(), format!("`path` has {} places: up to {max} are allowed", template.places()));
    }
    check_form(cx, "path", text, &template.sample()).then_some(template)
}

fn prefix(cx: &mut Context<'_>, text: &Spanned<String>, pattern: &PathPattern) -> Option<Template> {
    if pattern.regex().is_some() {
        cx.error(&text.span(), "`prefix` in a route with `regex`: it does not say where the prefix ends")
            .help("write path = \"/prefix{path}\"");
        return None;
    }
    if text.get_ref().contains(['{', '}']) {
        cx.error(&text.span(), "`prefix` has braces, and knows no names")
            .help("write path = \"/{name}/{rest}\"");
        return None;
    }
    let before = pattern.literal_prefix();
    // A name stands for a whole segment.
    if before.len() < pattern.as_str().len() && !text.get_ref().ends_with('/') {
        cx.error(
            &text.span(),
            format!("`prefix` does not end with '/', as {before:?} does, in whose place it stands"),
        )
        .help(format!("write prefix = \"{}/\"", text.get_ref()));
        return None;
    }
    check_form(cx, "prefix", text, text.get_ref())
        .then(|| Template::instead_of_prefix(text.get_ref(), before.len()))
}

/// Whether a path is one that a request could have; what is to be put in stands there as an example.
fn check_form(cx: &mut Context<'_>, key: &str, written: &Spanned<String>, path: &str) -> bool {
    let Err(error) = PathPattern::parse(path) else { return true };
    let report = cx.error(&written.span(), format!("`{key}`: {error}"));
    if let Some(help) = error.help() {
        report.help(help);
    }
    false
}

fn host(cx: &mut Context<'_>, text: &Spanned<String>) -> Option<Box<str>> {
    let written = text.get_ref().as_str();
    let (name, port) = match written.rsplit_once(':') {
        Some((name, port)) if !written.ends_with(']') => (name, Some(port)),
        _ => (written, None),
    };
    if port.is_some_and(|port| port.parse::<u16>().map_or(true, |number| number.to_string() != port)) {
        cx.error(&text.span(), format!("`host`: {written:?} has no port behind its ':'"))
            .help("write \"name\", \"name:port\" or \"[address]:port\"");
        return None;
    }
    match HostName::parse(name) {
        Ok(name) => Some(match port {
            Some(port) => format!("{name}:{port}").into(),
            None => name.as_str().into(),
        }),
        Err(error) => {
            cx.error(&text.span(), format!("`host`: {error}"));
            None
        }
    }
}
