//! `request_headers` and `response_headers`, of hosts and of routes.

use std::collections::BTreeMap;

use ringward_identity::headers;
use serde_spanned::Spanned;

use super::context::Context;
use super::host::Inherited;
use crate::bounds;
use crate::model::{ClientAuthMode, HeaderEdits};
use crate::path::PathPattern;
use crate::raw::{self, Field};
use crate::template::Template;

/// What `key` of a host, or of a route with this path, changes.
pub(super) fn header_edits(
    cx: &mut Context<'_>,
    key: &str,
    field: &Field<raw::HeaderEdits>,
    pattern: Option<&PathPattern>,
) -> HeaderEdits {
    let Some(raw) = cx.given(field) else { return HeaderEdits::default() };
    let raw = raw.get_ref();
    let mut names = Names { key, seen: Vec::new() };
    let set = written(cx, &mut names, &raw.set, pattern);
    let append = written(cx, &mut names, &raw.append, pattern);
    let mut remove = Vec::new();
    if let Some(list) = cx.given(&raw.remove) {
        for item in cx.list("remove", list, bounds::HEADER_EDITS) {
            let name = Spanned::new(item.span(), (*item.get_ref()).to_owned());
            remove.extend(names.take(cx, &name));
        }
    }
    HeaderEdits { set, append, remove }
}

/// What a route with this path, which wants `client_auth` of its clients, changes in requests and in responses; its host's words
/// included.
pub(super) fn of_route(
    cx: &mut Context<'_>,
    raw: &raw::Route,
    pattern: &PathPattern,
    client_auth: ClientAuthMode,
    inherited: &Inherited<'_>,
) -> (HeaderEdits, HeaderEdits) {
    let mut edits = |key: &str, field, of_host| {
        let own = header_edits(cx, key, field, Some(pattern));
        check_places(cx, key, field, &own, client_auth);
        own.over(of_host)
    };
    (
        edits("request_headers", &raw.request_headers, &inherited.request_headers),
        edits("response_headers", &raw.response_headers, &inherited.response_headers),
    )
}

/// Refuses places for what a route that wants `client_auth` of its clients never knows of them.
fn check_places(
    cx: &mut Context<'_>,
    key: &str,
    field: &Field<raw::HeaderEdits>,
    edits: &HeaderEdits,
    client_auth: ClientAuthMode,
) {
    let (true, Some(span)) = (!client_auth.identifies(), field.span()) else { return };
    if edits.values().any(Template::names_client) {
        let mode = client_auth.as_str();
        cx.error(
            &span,
            format!("`{key}` names the client, and client_auth is \"{mode}\" here, which knows nobody"),
        )
        .help("write client_auth = \"required\" or \"optional\" in the route, or take it out");
    }
}

/// The names of one table, each once.
struct Names<'k> {
    key: &'k str,
    /// With `-` for `_`.
    seen: Vec<String>,
}

impl Names<'_> {
    /// A name in lower case, if it may be changed and is not there yet.
    fn take(&mut self, cx: &mut Context<'_>, written: &Spanned<String>) -> Option<Box<str>> {
        let (key, span) = (self.key, written.span());
        let name = written.get_ref().to_ascii_lowercase();
        let symbol = |byte| b"!#$%&'*+-.^_`|~".contains(&byte);
        let is_token =
            !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || symbol(byte));
        if !is_token || name.len() > bounds::HEADER_NAME_BYTES_MAX {
            cx.error(&span, format!("`{key}`: {name:?} is not the name of a header field"));
            return None;
        }
        if headers::is_identity_lookalike(name.as_bytes()) {
            cx.error(
                &span,
                format!("`{key}`: {name:?} says who the client is, which only ringward may write"),
            )
            .help("write forward = { ... } in the host");
            return None;
        }
        // Many servers do not tell `_` from `-`.
        let folded = name.replace('_', "-");
        if FORWARDED.contains(&&*folded) {
            cx.error(&span, format!("`{key}`: {name:?} is set by `forward` of the host"))
                .help("write forward = { ... } in the host");
            return None;
        }
        if RESERVED.contains(&&*folded) {
            cx.error(&span, format!("`{key}`: {name:?} belongs to the connection, or frames the message"));
            return None;
        }
        if self.seen.contains(&folded) {
            cx.error(&span, format!("`{key}` has {name:?} twice"))
                .help("names of fields have no case, and many servers do not tell `_` from `-`");
            return None;
        }
        self.seen.push(folded);
        Some(name.into())
    }
}

fn written(
    cx: &mut Context<'_>,
    names: &mut Names<'_>,
    field: &Field<BTreeMap<Spanned<String>, Field<String>>>,
    pattern: Option<&PathPattern>,
) -> Vec<(Box<str>, Template)> {
    let Some(table) = cx.given(field) else { return Vec::new() };
    if table.get_ref().len() > *bounds::HEADER_EDITS.end() {
        let (count, max) = (table.get_ref().len(), bounds::HEADER_EDITS.end());
        cx.error(&table.span(), format!("`{}` has {count} fields: up to {max} are allowed", names.key));
    }
    let mut fields = Vec::new();
    for (name, value) in table.get_ref() {
        let name = names.take(cx, name);
        let value = cx.given(value).and_then(|value| template(cx, names.key, value, pattern));
        fields.extend(name.zip(value));
    }
    fields
}

fn template(
    cx: &mut Context<'_>,
    key: &str,
    value: &Spanned<String>,
    pattern: Option<&PathPattern>,
) -> Option<Template> {
    let (text, span) = (value.get_ref(), value.span());
    let max = bounds::HEADER_VALUE_BYTES_MAX;
    // RFC 9110 §5.5: what else there could be is read differently by different servers, or ends the field.
    if text.len() > max || !text.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ') {
        cx.error(
            &span,
            format!("`{key}`: a value is longer than {max} bytes, or not of visible ASCII and blanks"),
        );
        return None;
    }
    if text.trim() != text {
        cx.error(&span, format!("`{key}`: a value begins or ends with a blank, which no field keeps"));
        return None;
    }
    match Template::parse_value(text, pattern) {
        Ok(template) if template.places() > bounds::HEADER_PLACES_MAX => {
            let (count, max) = (template.places(), bounds::HEADER_PLACES_MAX);
            cx.error(&span, format!("`{key}`: a value has {count} places: up to {max} are allowed"));
            None
        }
        Ok(template) => Some(template),
        Err(fault) => {
            cx.error(&span, format!("`{key}`: a value {fault}")).help(PLACES);
            None
        }
    }
}

/// Message framing, hop-by-hop fields (RFC 9110 §7.6.1) and what the head itself says (RFC 9112 §3.2).
const RESERVED: &[&str] = &[
    "connection",
    "content-length",
    "expect",
    "host",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// What tells of the connection.
const FORWARDED: &[&str] =
    &["forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-forwarded-port", "x-forwarded-proto"];

const PLACES: &str = "it knows {host}, {path}, {query}, {request.method}, {request.id}, {client.ip}, {client.identity}, \
                      {client.tenant} and others (see `ringward help config`), in a route the names in its path; {{ is a brace";
