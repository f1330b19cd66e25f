//! `cors` of hosts and routes.

use serde_spanned::Spanned;

use super::context::Context;
use super::host::Inherited;
use crate::bounds;
use crate::host::HostName;
use crate::model::{Cors, HeaderEdits};
use crate::raw::{self, Field, OneOrMany};
use crate::regex::BoundedRegex;

/// What a host or a route says about pages of other origins.
pub(super) fn cors(cx: &mut Context<'_>, field: &Field<raw::Cors>) -> Option<Cors> {
    let raw = cx.given(field)?;
    let (span, raw) = (raw.span(), raw.get_ref());
    if raw.origins.is_absent() && raw.origin_regex.is_absent() {
        cx.error(&span, "`origins` is missing").help("add origins = [\"https://app.example.com\"]");
    }
    let (mut any_origin, mut origins) = (false, Vec::new());
    if let Some(list) = cx.given(&raw.origins) {
        for item in cx.list("origins", list, bounds::CORS_LIST) {
            match *item.get_ref() {
                "*" => any_origin = true,
                text if is_origin(text) => origins.push(text.into()),
                text => cx
                    .error(&item.span(), format!("`origins`: {text:?} is no origin as browsers write it"))
                    .help("write \"https://app.example.com\" or \"https://app.example.com:8443\", in small letters"),
            }
        }
    }
    let credentials = cx.value_or(&raw.credentials, false);
    if let (true, true, Some(span)) = (credentials, any_origin, raw.credentials.span()) {
        cx.error(&span, "`credentials` beside the origin \"*\": every page could act for its visitors")
            .help("name the origins");
    }
    let origin_regex = cx.given(&raw.origin_regex).and_then(|text| origin_regex(cx, text));
    if let (true, Some(regex), Some(span)) = (credentials, &origin_regex, raw.origin_regex.span())
        && regex.is_match(ANYBODYS.bytes())
    {
        cx.error(
            &span,
            format!("`origin_regex` beside `credentials` takes anybody's pages: {ANYBODYS:?}, say"),
        )
        .help("write down the domain that pages come from");
    }
    Some(Cors {
        any_origin,
        origins,
        origin_regex,
        headers: names(cx, "headers", &raw.headers),
        expose_headers: names(cx, "expose_headers", &raw.expose_headers).join(", ").into(),
        credentials,
        max_age: cx.duration("max_age", &raw.max_age, &bounds::CORS_MAX_AGE),
    })
}

/// What counts for a route that changes `edits` in responses: its own words or its host's.
pub(super) fn of_route(
    cx: &mut Context<'_>,
    route: &Spanned<raw::Route>,
    edits: &HeaderEdits,
    inherited: &Inherited<'_>,
) -> Option<Cors> {
    let cors = match cors(cx, &route.get_ref().cors) {
        Some(own) => own,
        None => inherited.cors.clone()?,
    };
    if let Some(name) = edits.names().find(|name| name.starts_with("access-control-")) {
        let span = route.get_ref().response_headers.span().unwrap_or(route.span());
        cx.error(&span, format!("`response_headers` has {name:?}, which `cors` writes")).help("take it out");
    }
    Some(cors)
}

/// HTML Standard, \"serialization of an origin\": without the port that the scheme has anyway.
fn is_origin(text: &str) -> bool {
    let Some((scheme, authority)) = text.split_once("://") else { return false };
    let own_port = match scheme {
        "https" => "443",
        "http" => "80",
        _ => return false,
    };
    let (name, port) = match authority.rsplit_once(':') {
        Some((name, port)) if !authority.ends_with(']') => (name, Some(port)),
        _ => (authority, None),
    };
    let is_port = |port: &str| {
        port != own_port && port.parse::<u16>().is_ok_and(|number| number > 0 && number.to_string() == port)
    };
    HostName::parse(name).is_ok_and(|parsed| parsed.as_str() == name) && port.is_none_or(is_port)
}

fn origin_regex(cx: &mut Context<'_>, text: &Spanned<String>) -> Option<BoundedRegex> {
    if !text.get_ref().starts_with("http") {
        cx.error(&text.span(), "`origin_regex` does not begin with \"http\", as every origin does")
            .help("write it for whole origins, without ^ and $: \"https://[a-z0-9-]+[.]example[.]com\"");
        return None;
    }
    BoundedRegex::new(text.get_ref())
        .map_err(|error| {
            cx.error(&text.span(), format!("`origin_regex`: {error}"));
        })
        .ok()
}

/// Names of header fields in lower case.
fn names(cx: &mut Context<'_>, key: &str, field: &Field<OneOrMany>) -> Vec<Box<str>> {
    let Some(list) = cx.given(field) else { return Vec::new() };
    let mut names = Vec::new();
    for item in cx.list(key, list, bounds::CORS_LIST) {
        let name = item.get_ref().to_ascii_lowercase();
        // "*" would be a token, and mean something else.
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        if name.is_empty() || name.len() > bounds::HEADER_NAME_BYTES_MAX || !name.bytes().all(is_name) {
            cx.error(&item.span(), format!("`{key}`: {name:?} is not the name of a header field"));
            continue;
        }
        names.push(name.into());
    }
    names
}

/// RFC 2606 §2: nobody's, and so like anybody's.
const ANYBODYS: &str = "https://attacker.invalid";
