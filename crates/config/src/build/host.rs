//! Virtual hosts: names, certificate, client authentication, what upstreams are told.

use std::collections::BTreeMap;
use std::ops::Range;

use ringward_identity::ObjectId;
use serde_spanned::Spanned;

use super::context::Context;
use super::{References, route, section};
use crate::bounds;
use crate::host::HostPattern;
use crate::model::{
    Certificate, ClientAuth, ClientAuthMode, ClientVerification, Cluster, Forward, ForwardMode, Host,
    HostPolicy, XfccMode,
};
use crate::raw::{self, Field};

/// What routes inherit.
pub(super) struct Defaults<'d> {
    pub(super) body_bytes_max: Option<u64>,
    pub(super) clusters: &'d BTreeMap<String, Cluster>,
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
    let names = names(cx, raw, &span);
    let certificate = certificate(cx, raw, &span);
    let client_auth = client_auth(cx, raw, &span, references);
    let policy = policy(cx, raw, &span, references);
    let forward = forward(cx, &raw.forward, client_auth.as_ref());
    let danger_allow_expired_certificate = cx.value_or(&raw.danger_allow_expired_certificate, false);
    if let (true, Some(at)) = (danger_allow_expired_certificate, raw.danger_allow_expired_certificate.span())
    {
        cx.warning(&at, "a certificate of ours is served even after it has expired");
    }
    let routes = route::routes(cx, &raw.route, policy.as_ref(), references, defaults);
    if raw.route.is_absent() {
        cx.warning(&span, "the host has no [[listener.host.route]]: every request is answered with 404");
    }
    let model = match (certificate, client_auth, policy) {
        (Some(certificate), Some(client_auth), Some(policy)) => Some(Host {
            names: names.iter().map(|(name, _)| name.clone()).collect(),
            certificate,
            client_auth,
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

fn certificate(cx: &mut Context<'_>, raw: &raw::Host, section: &Range<usize>) -> Option<Certificate> {
    let example = "certificate = { chain = \"tls/api.pem\", key = \"tls/api.key\" }: every host speaks TLS";
    let given = cx.required("certificate", example, &raw.certificate, section)?;
    let (span, files) = (given.span(), given.get_ref());
    let chain = cx.required("chain", "chain = \"tls/api.pem\"", &files.chain, &span);
    let key = cx.required("key", "key = \"tls/api.key\"", &files.key, &span);
    let (chain, key) = (chain?, key?);
    let chain = cx.path("chain", chain.get_ref(), &chain.span());
    let key = cx.path("key", key.get_ref(), &key.span());
    Some(Certificate { chain: chain?, key: key?, at: cx.at(&span) })
}

fn client_auth(
    cx: &mut Context<'_>,
    raw: &raw::Host,
    section: &Range<usize>,
    references: &mut References,
) -> Option<ClientAuth> {
    let example =
        "client_auth = { mode = \"required\", trust = \"NAME\" }, or { mode = \"off\" } to admit anybody";
    let given = cx.required("client_auth", example, &raw.client_auth, section)?;
    let (span, raw) = (given.span(), given.get_ref());
    let trust_name = cx.given(&raw.trust);
    let trust = trust_name.and_then(|name| references.trust.resolve(cx, name));
    let intermediates_max =
        cx.number("intermediates_max", &raw.intermediates_max, &bounds::INTERMEDIATES_MAX);
    let require_eku = cx.value_or(&raw.require_eku, true);
    let extensions = extensions(cx, &raw.extensions);
    let mode = *cx.required("mode", "mode = \"required\"", &raw.mode, &span)?.get_ref();
    if mode == ClientAuthMode::Off {
        refuse_beside_off(cx, raw);
        return Some(ClientAuth::Off);
    }
    if raw.trust.is_absent() {
        cx.error(&span, format!("client_auth is \"{}\", but `trust` is missing", mode.as_str()))
            .help("name the trust bundle that client certificates chain to: trust = \"NAME\"");
    }
    let at = cx.at(&trust_name?.span());
    let verification = ClientVerification { trust: trust?, intermediates_max, require_eku, extensions, at };
    Some(match mode {
        ClientAuthMode::Required => ClientAuth::Required(verification),
        _ => ClientAuth::Optional(verification),
    })
}

/// Whoever writes how certificates are verified expects that they are.
fn refuse_beside_off(cx: &mut Context<'_>, raw: &raw::ClientAuth) {
    let given = [
        ("trust", raw.trust.span()),
        ("intermediates_max", raw.intermediates_max.span()),
        ("require_eku", raw.require_eku.span()),
        ("extensions", raw.extensions.span()),
    ];
    for (key, span) in given.into_iter().filter_map(|(key, span)| Some((key, span?))) {
        cx.error(&span, format!("`{key}` has no effect, since client_auth is \"off\""))
            .help("write mode = \"required\" or \"optional\", or leave it away");
    }
}

fn extensions(cx: &mut Context<'_>, field: &Field<raw::OneOrMany>) -> Vec<ObjectId> {
    let Some(list) = cx.given(field) else { return Vec::new() };
    let mut extensions = Vec::new();
    for item in cx.list("extensions", list, bounds::EXTENSIONS) {
        match item.get_ref().parse() {
            Ok(identifier) if item.get_ref().len() <= bounds::OBJECT_ID_CHARS_MAX => {
                extensions.push(identifier)
            }
            _ => cx
                .error(
                    &item.span(),
                    format!("`extensions`: {:?} is not an object identifier", item.get_ref()),
                )
                .help("write numbers joined by dots: \"1.3.6.1.4.1.57264.1.8\""),
        }
    }
    extensions
}

fn policy(
    cx: &mut Context<'_>,
    raw: &raw::Host,
    section: &Range<usize>,
    references: &mut References,
) -> Option<HostPolicy> {
    let danger = cx.value_or(&raw.danger_no_policy, false);
    let named = cx.given(&raw.policy);
    let resolved = named.and_then(|name| references.policy.resolve(cx, name));
    match (danger, raw.danger_no_policy.span()) {
        (true, Some(span)) if !raw.policy.is_absent() => {
            cx.error(&span, "the host has a policy and `danger_no_policy` as well")
                .help("leave one of them away");
        }
        (true, Some(span)) => {
            cx.warning(
                &span,
                "no policy decides about requests of this host, except on routes that name one",
            );
            return Some(HostPolicy::DangerNone);
        }
        _ if raw.policy.is_absent() => {
            cx.error(section, "`policy` is missing").help(
                "add policy = \"NAME\", or danger_no_policy = true to serve everybody who passes the handshake",
            );
        }
        _ => {}
    }
    resolved.map(HostPolicy::Named)
}

fn forward(cx: &mut Context<'_>, field: &Field<raw::Forward>, client_auth: Option<&ClientAuth>) -> Forward {
    let (raw, _) = section(cx, field);
    let forward = Forward {
        client_cert: cx.value_or(&raw.client_cert, true),
        client_cert_chain: cx.value_or(&raw.client_cert_chain, false),
        xfcc: cx.value_or(&raw.xfcc, XfccMode::Off),
        x_forwarded: cx.value_or(&raw.x_forwarded, ForwardMode::Set),
        forwarded: cx.value_or(&raw.forwarded, ForwardMode::Off),
        via: via(cx, &raw.via),
    };
    if matches!(client_auth, Some(ClientAuth::Off)) {
        let asked = [
            ("client_cert", forward.client_cert, raw.client_cert.span()),
            ("client_cert_chain", forward.client_cert_chain, raw.client_cert_chain.span()),
            ("xfcc", forward.xfcc == XfccMode::Set, raw.xfcc.span()),
        ];
        for (key, _, span) in asked.into_iter().filter(|(_, asked, _)| *asked) {
            if let Some(span) = span {
                cx.warning(&span, format!("`{key}` has no effect: this host asks for no client certificate"));
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
