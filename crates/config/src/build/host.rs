//! Virtual hosts: names, policy, what upstreams are told, and their parts put together.

use std::collections::BTreeMap;
use std::ops::Range;

use serde_spanned::Spanned;

use super::client_auth::Declared;
use super::context::Context;
use super::{
    References, certificate, client_auth, cors, forwarded_identity, header_edits, retry, route, section,
};
use crate::bounds;
use crate::host::HostPattern;
use crate::model::{
    Cluster, Cors, Forward, ForwardMode, HeaderEdits, Host, HostPolicy, Require, Retry, Tenant, Trust,
    XfccMode,
};
use crate::raw::{self, Field, OneOrMany};

/// What hosts and routes of a listener refer to or inherit.
pub(super) struct Defaults<'d> {
    pub(super) body_bytes_max: Option<u64>,
    /// Whether the listener speaks HTTP/2.
    pub(super) http2: bool,
    pub(super) global_policy: Option<&'d str>,
    pub(super) trust: &'d BTreeMap<String, Trust>,
    pub(super) tenants: &'d BTreeMap<String, Tenant>,
    pub(super) clusters: &'d BTreeMap<String, Cluster>,
}

/// What routes inherit from their host; none of what is broken there, which was reported.
pub(super) struct Inherited<'d> {
    pub(super) policy: Option<&'d HostPolicy>,
    pub(super) client_auth: Option<&'d Declared<'d>>,
    pub(super) require: Option<Require>,
    /// Load balancers may say whose requests they pass on.
    pub(super) forwards: bool,
    pub(super) cors: Option<Cors>,
    pub(super) retry: Option<&'d Retry>,
    pub(super) request_headers: HeaderEdits,
    pub(super) response_headers: HeaderEdits,
    pub(super) defaults: &'d Defaults<'d>,
}

/// A host with the places of its names.
pub(super) struct Built {
    pub(super) names: Vec<(HostPattern, Range<usize>)>,
    /// None if something essential is missing, which was reported.
    pub(super) model: Option<Host>,
}

/// Builds one host with its routes.
pub(super) fn host(
    cx: &mut Context<'_>,
    raw: &Spanned<raw::Host>,
    references: &mut References,
    defaults: &Defaults<'_>,
) -> Built {
    let (span, raw) = (raw.span(), raw.get_ref());
    if let Some(span) = raw.listener.span() {
        cx.error(&span, "`listener` is only for a [[host]], which stands apart from its listener")
            .help("remove it: a [[listener.host]] belongs to the [[listener]] above it");
    }
    let names = names(cx, raw, &span);
    let certificates = certificate::certificates(cx, raw, &span);
    let declared = client_auth::declared(cx, raw, &span, references, defaults.trust, defaults.tenants);
    let policy = policy(cx, raw, &span, references, defaults.global_policy);
    let danger_allow_expired_certificate = cx.value_or(&raw.danger_allow_expired_certificate, false);
    if let (true, Some(at)) = (danger_allow_expired_certificate, raw.danger_allow_expired_certificate.span())
    {
        cx.warning(&at, "a certificate of ours is served even after it has expired");
    }
    let require = client_auth::require(cx, &raw.require, None);
    let retry = retry::retry(cx, &raw.retry).flatten();
    let inherited = Inherited {
        policy: policy.as_ref(),
        client_auth: declared.as_ref(),
        require,
        forwards: !raw.forwarded_identity.is_absent(),
        cors: cors::cors(cx, &raw.cors),
        retry: retry.as_ref(),
        request_headers: header_edits::header_edits(cx, "request_headers", &raw.request_headers, None),
        response_headers: header_edits::header_edits(cx, "response_headers", &raw.response_headers, None),
        defaults,
    };
    let routes = route::routes(cx, &raw.route, &inherited, references);
    let client_auth = declared.and_then(|declared| client_auth::of_host(cx, declared, &raw.route));
    let forwarded_identity = forwarded_identity::forwarded_identity(
        cx,
        &raw.forwarded_identity,
        client_auth.as_ref(),
        &routes,
        references,
    );
    // Of a host that is broken it is not known.
    let knows_clients = client_auth.as_ref().is_none_or(|client_auth| {
        client_auth.handshake.identifies() || routes.iter().any(|route| route.client_auth.identifies())
    });
    let forward = forward(cx, &raw.forward, knows_clients);
    if raw.route.is_absent() {
        cx.warning(&span, "the host has no [[listener.host.route]]: every request is answered with 404");
    }
    let model = match (client_auth, policy) {
        (Some(client_auth), Some(policy)) => Some(Host {
            names: names.iter().map(|(name, _)| name.clone()).collect(),
            certificates,
            client_auth,
            forwarded_identity,
            policy,
            forward,
            danger_allow_expired_certificate,
            routes,
            at: cx.at(&span),
        }),
        _ => None,
    };
    Built { names, model }
}

fn names(cx: &mut Context<'_>, raw: &raw::Host, section: &Range<usize>) -> Vec<(HostPattern, Range<usize>)> {
    let Some(list) = cx.required("names", "names = [\"api.example.com\"]", &raw.names, section) else {
        return Vec::new();
    };
    let mut names = Vec::new();
    for item in cx.list("names", list, bounds::HOST_NAMES) {
        match HostPattern::parse(item.get_ref()) {
            Ok(name) => names.push((name, item.span())),
            Err(error) => {
                let report = cx.error(&item.span(), format!("`names`: {error}"));
                if let Some(help) = error.help() {
                    report.help(help);
                }
            }
        }
    }
    names
}

fn policy(
    cx: &mut Context<'_>,
    raw: &raw::Host,
    section: &Range<usize>,
    references: &mut References,
    global: Option<&str>,
) -> Option<HostPolicy> {
    let danger = cx.value_or(&raw.danger_no_policy, false);
    let named = policies(cx, &raw.policy, references);
    match (danger, raw.danger_no_policy.span()) {
        (true, Some(span)) if !raw.policy.is_absent() => {
            cx.error(&span, "the host has a policy and `danger_no_policy` as well")
                .help("leave one of them away");
        }
        (true, Some(span)) => {
            let message = match global {
                None => {
                    "no policy decides about requests of this host, except on routes that name one".to_owned()
                }
                Some(name) => format!(
                    "no policy but the global one, {name:?}, decides about requests of this host, except on routes that name one"
                ),
            };
            cx.warning(&span, message);
            return Some(HostPolicy::DangerNone);
        }
        _ if raw.policy.is_absent() => {
            cx.error(section, "`policy` is missing").help(
                "add policy = \"NAME\", or danger_no_policy = true to serve everybody who passes the handshake",
            );
        }
        _ => {}
    }
    named
}

/// The policies that a host or a route names. `None` if it names none, or one that does not exist, which was reported.
pub(super) fn policies(
    cx: &mut Context<'_>,
    field: &Field<OneOrMany>,
    references: &mut References,
) -> Option<HostPolicy> {
    let list = cx.given(field)?;
    let resolve = |cx: &mut Context<'_>, name: &Spanned<&str>| references.policy.resolve(cx, name);
    let names = cx.names("policy", list, bounds::POLICIES, resolve);
    (!names.is_empty()).then_some(HostPolicy::Named(names))
}

fn forward(cx: &mut Context<'_>, field: &Field<raw::Forward>, knows_clients: bool) -> Forward {
    let (raw, _) = section(cx, field);
    let forward = Forward {
        client_cert: cx.value_or(&raw.client_cert, true),
        client_cert_chain: cx.value_or(&raw.client_cert_chain, false),
        xfcc: cx.value_or(&raw.xfcc, XfccMode::Off),
        x_forwarded: cx.value_or(&raw.x_forwarded, ForwardMode::Set),
        forwarded: cx.value_or(&raw.forwarded, ForwardMode::Off),
        via: via(cx, &raw.via),
    };
    if !knows_clients {
        let asked = [
            ("client_cert", forward.client_cert, raw.client_cert.span()),
            ("client_cert_chain", forward.client_cert_chain, raw.client_cert_chain.span()),
            ("xfcc", forward.xfcc == XfccMode::Set, raw.xfcc.span()),
        ];
        for (key, _, span) in asked.into_iter().filter(|(_, asked, _)| *asked) {
            if let Some(span) = span {
                cx.warning(
                    &span,
                    format!("`{key}` has no effect: this host knows no client by a certificate"),
                );
            }
        }
    }
    forward
}

/// RFC 9110 §7.6.3: `received-by` is a pseudonym, a token. Only its plainest characters are allowed, and so neither
/// blanks nor line breaks get into a header.
fn via(cx: &mut Context<'_>, field: &Field<String>) -> Option<String> {
    let Some(name) = cx.given(field) else { return Some(DEFAULT_VIA.to_owned()) };
    let text = name.get_ref();
    if text.is_empty() {
        return None;
    }
    let plain = text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'));
    if !plain || text.len() > bounds::VIA_CHARS_MAX {
        cx.error(&name.span(), format!("`via`: {text:?} is not a pseudonym")).help(format!(
            "write up to {} letters, digits, '-', '.' and '_', or \"\" for no Via",
            bounds::VIA_CHARS_MAX
        ));
    }
    Some(text.clone())
}

const DEFAULT_VIA: &str = "ringward";
