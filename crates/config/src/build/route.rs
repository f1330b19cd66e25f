//! Routes: what they match, where they go, what they are called.

use std::collections::BTreeMap;

use serde_spanned::Spanned;

use super::context::{Context, UNLIMITED};
use super::host::{Inherited, policies};
use super::{
    References, action, client_auth, compression, conditions, cors, grpc, header_edits, mirror, precedence,
    retry, rewrite, split, tunnel, upstream_certificate,
};
use crate::bounds;
use crate::model::Route;
use crate::path::{PathPattern, Segment};
use crate::raw::{self, Field};
use crate::routes::{Method, Methods};

/// Builds the routes of a host.
pub(super) fn routes(
    cx: &mut Context<'_>,
    field: &Field<Vec<Field<raw::Route>>>,
    inherited: &Inherited<'_>,
    references: &mut References,
) -> Vec<Route> {
    let mut routes: Vec<Route> = Vec::new();
    let mut spans = Vec::new();
    let mut places_by_id: BTreeMap<String, String> = BTreeMap::new();
    for raw in cx.given(field).into_iter().flat_map(|list| list.get_ref()) {
        let Some(raw) = cx.given(raw) else { continue };
        let Some(route) = route(cx, raw, inherited, references) else { continue };
        if let Some(place) = places_by_id.get(&route.id) {
            let message = format!("the id {:?} belongs to the route at {place}", route.id);
            let (span, help) = match raw.get_ref().id.span() {
                Some(span) => (span, "give each route of a host an id of its own"),
                None => (raw.span(), "it was made from the template: give one of the two routes an id"),
            };
            cx.error(&span, message).help(help);
        } else {
            places_by_id.insert(route.id.clone(), cx.place(&route.at));
        }
        spans.push(raw.get_ref().r#match.span().unwrap_or(raw.span()));
        routes.push(route);
    }
    precedence::report(cx, &routes, &spans);
    routes
}

fn route(
    cx: &mut Context<'_>,
    raw: &Spanned<raw::Route>,
    inherited: &Inherited<'_>,
    references: &mut References,
) -> Option<Route> {
    let written = raw;
    let (span, raw) = (raw.span(), raw.get_ref());
    for (key, field) in [("host", &raw.host), ("listener", &raw.listener)] {
        if let Some(span) = field.span() {
            cx.error(&span, format!("`{key}` is only for a [[route]], which stands apart from its host"))
                .help("remove it: a [[listener.host.route]] belongs to the [[listener.host]] above it");
        }
    }
    let defaults = inherited.defaults;
    let (client_auth, ocsp) = client_auth::of_route(cx, raw, inherited.client_auth, defaults.trust);
    let require = client_auth::require(cx, &raw.require, inherited.require);
    if inherited.client_auth.is_some() {
        let own = &raw.client_auth;
        client_auth::check_required(cx, require, client_auth, own, inherited.forwards, &span);
    }
    let own_policy = policies(cx, &raw.policy, references);
    let allow_encoded_slash = cx.value_or(&raw.allow_encoded_slash, false);
    let labels = labels(cx, &raw.labels);
    let body_bytes_max = cx.optional_size_or_unlimited("body_bytes_max", &raw.body_bytes_max);
    let policy_body_max = cx.optional_size("policy_body_max", &raw.policy_body_max, &bounds::POLICY_BODY_MAX);
    let timeout = cx.optional_duration("response_timeout", &raw.response_timeout, &bounds::RESPONSE_TIMEOUT);
    let request_timeout =
        cx.duration_or_word("request_timeout", &raw.request_timeout, UNLIMITED, &bounds::REQUEST_TIMEOUT);
    let retry = retry::retry(cx, &raw.retry);
    let given_id = cx.given(&raw.id).and_then(|id| cx.name("a route", id.get_ref(), &id.span()));
    let matched = cx.required("match", "match = { path = \"/orders/{id}\" }", &raw.r#match, &span);
    let grpc = matched.and_then(|matched| cx.given(&matched.get_ref().grpc));
    let taken = matched.and_then(|matched| match grpc {
        Some(text) => grpc::matched(cx, matched.get_ref(), text, defaults.http2),
        None => by_path(cx, matched, allow_encoded_slash),
    });
    let action = action::action(cx, raw, &span, taken.as_ref().map(|(path, _)| path), references);
    let (matched, (path, methods)) = matched.zip(taken)?;
    let conditions = conditions::conditions(cx, matched.get_ref(), client_auth, references);
    let tunnel = tunnel::tunnel(cx, raw, &methods);
    let (request_headers, response_headers) = header_edits::of_route(cx, raw, &path, client_auth, inherited);
    let cors = cors::of_route(cx, written, &response_headers, inherited);
    let compression = compression::compression(cx, raw, action.as_ref(), &response_headers);
    let rewrite = rewrite::rewrite(cx, &raw.rewrite, &path);
    let action = action?;
    split::check_key(cx, raw, &action, client_auth);
    if let Some(text) = grpc {
        action.clusters().for_each(|name| grpc::warn_over_http1(cx, text, name, defaults.clusters));
    }
    let answers = action.clusters().next().is_none();
    let mirror =
        if answers { None } else { mirror::mirror(cx, &raw.mirror, &action, grpc, references, defaults) };
    let upstream_certificate = upstream_certificate::of_route(cx, raw, &action, mirror.as_ref(), defaults);
    let policy = own_policy.or_else(|| inherited.policy.cloned())?;
    // Of a cluster that is broken, which was reported, nothing is known.
    let of_clusters = action.clusters().filter_map(|name| defaults.clusters.get(name));
    let response_timeout = timeout
        .or(of_clusters.map(|cluster| cluster.response_timeout).max())
        .unwrap_or(bounds::RESPONSE_TIMEOUT.default);
    Some(Route {
        // That a call is a POST distinguishes nothing.
        id: given_id
            .unwrap_or_else(|| derived_id(&path, if grpc.is_some() { &Methods::All } else { &methods })),
        path,
        methods,
        conditions,
        grpc: grpc.is_some(),
        action,
        mirror,
        upstream_certificate,
        rewrite,
        cors,
        request_headers,
        response_headers,
        compression,
        policy: match defaults.global_policy {
            Some(global) => policy.behind(global),
            None => policy,
        },
        client_auth,
        require,
        ocsp,
        labels,
        allow_encoded_slash,
        body_bytes_max: body_bytes_max.unwrap_or(defaults.body_bytes_max),
        policy_body_max,
        response_timeout,
        request_timeout,
        retry: retry.unwrap_or_else(|| inherited.retry.cloned()),
        tunnel,
        at: cx.at(&span),
    })
}

/// The path and the methods of a route that names them.
fn by_path(
    cx: &mut Context<'_>,
    matched: &Spanned<raw::Match>,
    allow_encoded_slash: bool,
) -> Option<(PathPattern, Methods)> {
    let methods = methods(cx, &matched.get_ref().methods);
    if let Some(text) = cx.given(&matched.get_ref().regex) {
        if let Some(span) = matched.get_ref().path.span() {
            cx.error(&span, "`path` beside `regex`: a route has one of them").help("leave one of them away");
        }
        return Some((regex(cx, text)?, methods));
    }
    let path = cx.required("path", "path = \"/orders/{id}\"", &matched.get_ref().path, &matched.span())?;
    Some((template(cx, path, allow_encoded_slash)?, methods))
}

fn regex(cx: &mut Context<'_>, text: &Spanned<String>) -> Option<PathPattern> {
    if !text.get_ref().starts_with('/') {
        cx.error(&text.span(), "`regex` does not begin with '/', as every path does")
            .help("write it for whole paths, without ^ and $: \"/v[0-9]+/reports/[^/]+\"");
        return None;
    }
    PathPattern::parse_regex(text.get_ref())
        .map_err(|error| cx.error(&text.span(), format!("`regex`: {error}")).help(REGEX_HELP))
        .ok()
}

fn template(cx: &mut Context<'_>, text: &Spanned<String>, allow_encoded_slash: bool) -> Option<PathPattern> {
    let pattern = match PathPattern::parse(text.get_ref()) {
        Ok(pattern) => pattern,
        Err(error) => {
            let report = cx.error(&text.span(), format!("`path`: {error}"));
            if let Some(help) = error.help() {
                report.help(help);
            }
            return None;
        }
    };
    if pattern.needs_encoded_slash() && !allow_encoded_slash {
        cx.error(&text.span(), format!("no request can match \"{pattern}\": paths with %2F are refused"))
            .help("add allow_encoded_slash = true to the route, if its upstream tells %2F from /");
    }
    let colon = |segment: &Segment| matches!(segment, Segment::Literal(text) if text.starts_with(':'));
    if pattern.segments().iter().any(colon) {
        cx.warning(&text.span(), format!("\"{pattern}\" matches a segment that begins with ':' as it is"))
            .help("write {name} for a segment that varies");
    }
    Some(pattern)
}

fn methods(cx: &mut Context<'_>, field: &Field<raw::OneOrMany>) -> Methods {
    let Some(list) = cx.given(field) else { return Methods::All };
    let mut methods: Vec<Method> = Vec::new();
    for item in cx.list("methods", list, bounds::METHODS) {
        match Method::parse(item.get_ref()) {
            Ok(method) if methods.contains(&method) => {
                cx.error(&item.span(), format!("the method {method} appears twice"));
            }
            Ok(method) => methods.push(method),
            Err(error) => {
                let report = cx.error(&item.span(), format!("`methods`: {error}"));
                match *item.get_ref() {
                    "*" | "ANY" | "any" | "ALL" | "all" => report.help("leave methods away to take all"),
                    text if Method::parse(&text.to_ascii_uppercase()).is_ok() => {
                        report.help(format!("write \"{}\"", text.to_ascii_uppercase()));
                    }
                    _ => {}
                }
            }
        }
    }
    Methods::Only(methods)
}

fn labels(
    cx: &mut Context<'_>,
    field: &Field<BTreeMap<Spanned<String>, Field<String>>>,
) -> BTreeMap<String, String> {
    let Some(table) = cx.given(field) else { return BTreeMap::new() };
    if table.get_ref().len() > bounds::LABELS_MAX {
        let message = format!(
            "`labels` has {} entries: up to {} are allowed",
            table.get_ref().len(),
            bounds::LABELS_MAX
        );
        cx.error(&table.span(), message);
    }
    let mut labels = BTreeMap::new();
    for (key, value) in table.get_ref() {
        let name = key.get_ref();
        let word = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
        let first = name.bytes().next().is_some_and(|b| !b.is_ascii_digit());
        if !word || !first || name.len() > bounds::NAME_CHARS_MAX {
            cx.error(&key.span(), format!("{name:?} is not a name for a label"))
                .help("write lower-case letters, digits and '_', beginning with a letter");
        }
        let Some(value) = cx.given(value) else { continue };
        let text = value.get_ref();
        if text.chars().count() > bounds::LABEL_CHARS_MAX || text.chars().any(char::is_control) {
            let message = format!("the label {name:?} is longer than {} characters", bounds::LABEL_CHARS_MAX);
            let message = if text.chars().any(char::is_control) {
                format!("the label {name:?} has control characters")
            } else {
                message
            };
            cx.error(&value.span(), message);
        }
        labels.insert(name.clone(), text.clone());
    }
    labels
}

/// `get-orders-id` for `GET /orders/{id}`; `root` for `/`.
fn derived_id(path: &PathPattern, methods: &Methods) -> String {
    let methods = match methods {
        Methods::All => &[][..],
        Methods::Only(methods) => methods,
    };
    let methods = methods.iter().map(|method| method.as_str().to_ascii_lowercase());
    let segments = path.segments().iter().filter_map(|segment| match segment {
        Segment::Literal(text) if text.is_empty() => None,
        Segment::Literal(text) | Segment::Param(text) | Segment::Rest(text) => Some(text.to_string()),
    });
    let mut words: Vec<String> = segments.collect();
    if path.regex().is_some() {
        words.extend(path.as_str().split('/').filter(|word| !word.is_empty()).map(str::to_owned));
    }
    if words.is_empty() {
        words.push("root".to_owned());
    }
    let plain = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '.' | '_') { c } else { '-' };
    let id: String = methods.chain(words).collect::<Vec<_>>().join("-").chars().map(plain).collect();
    let id: String = id
        .trim_start_matches(|c: char| !c.is_ascii_alphanumeric())
        .chars()
        .take(bounds::NAME_CHARS_MAX)
        .collect();
    if id.is_empty() { "root".to_owned() } else { id }
}

const REGEX_HELP: &str =
    "the syntax is that of the regex crate, without Unicode classes, look-around and back-references";
