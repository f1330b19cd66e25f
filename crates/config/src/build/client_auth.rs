//! What a host and its routes want of clients, and what the handshake has to ask for therefore.

use std::collections::BTreeMap;
use std::ops::Range;

use serde_spanned::Spanned;

use super::References;
use super::context::{Context, object_ids};
use super::names::Names;
use crate::bounds;
use crate::model::{ClientAuth, ClientAuthMode, ClientVerification, OcspMode, Require, Tenant, Trust};
use crate::raw::{self, Field, OneOrMany};

/// `client_auth` of a host as it is written; routes are needed to know what it comes to.
pub(super) struct Declared<'f> {
    mode: ClientAuthMode,
    verification: Option<ClientVerification>,
    raw: &'f raw::ClientAuth,
    span: Range<usize>,
}

impl Declared<'_> {
    fn asks_ocsp(&self) -> bool {
        self.verification.as_ref().is_some_and(|verification| verification.ocsp != OcspMode::Off)
    }
}

/// The names of the bundles that a host trusts, in the order in which they are tried, or of the tenants that it admits.
fn names(cx: &mut Context<'_>, key: &str, list: &Spanned<OneOrMany>, known: &mut Names) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for item in cx.list(key, list, bounds::OF_HOST) {
        let added = match item.get_ref().strip_suffix('*') {
            Some(begin) => known.resolve_all(cx, begin, &item.span()),
            None => known.resolve(cx, &item).into_iter().collect(),
        };
        for name in added {
            if names.contains(&name) {
                cx.error(&item.span(), format!("`{key}`: {name:?} appears twice"));
            } else {
                names.push(name);
            }
        }
    }
    if names.len() > *bounds::OF_HOST.end() {
        let (count, max) = (names.len(), bounds::OF_HOST.end());
        cx.error(&list.span(), format!("`{key}` comes to {count} names: up to {max} are allowed"))
            .help("divide the clients among several hosts");
    }
    names
}

/// Reads what stands in the host.
pub(super) fn declared<'f>(
    cx: &mut Context<'_>,
    raw: &'f raw::Host,
    section: &Range<usize>,
    references: &mut References,
    trust: &BTreeMap<String, Trust>,
    tenants: &BTreeMap<String, Tenant>,
) -> Option<Declared<'f>> {
    let example =
        "client_auth = { mode = \"required\", trust = \"NAME\" }, or { mode = \"off\" } to admit anybody";
    let given = cx.required("client_auth", example, &raw.client_auth, section)?;
    let (span, raw) = (given.span(), given.get_ref());
    let verification = ClientVerification {
        trust: cx
            .given(&raw.trust)
            .map_or_else(Vec::new, |list| names(cx, "trust", list, &mut references.trust)),
        tenants: cx
            .given(&raw.tenants)
            .map_or_else(Vec::new, |list| names(cx, "tenants", list, &mut references.tenant)),
        intermediates_max: cx.number("intermediates_max", &raw.intermediates_max, &bounds::INTERMEDIATES_MAX),
        require_eku: cx.value_or(&raw.require_eku, true),
        extensions: object_ids(cx, "extensions", &raw.extensions, bounds::EXTENSIONS),
        max_auth_age: cx.duration("max_auth_age", &raw.max_auth_age, &bounds::MAX_AUTH_AGE),
        ocsp: cx.value_or(&raw.ocsp, OcspMode::Off),
        ocsp_timeout: cx.duration("ocsp_timeout", &raw.ocsp_timeout, &bounds::OCSP_TIMEOUT),
        at: cx.at(&raw.trust.span().unwrap_or(span.clone())),
    };
    check_tenants(cx, raw, &verification, tenants);
    check_ocsp(cx, &raw.ocsp, &verification, trust);
    let mode = *cx.required("mode", "mode = \"required\"", &raw.mode, &span)?.get_ref();
    let verification = Some(verification).filter(|_| !raw.trust.is_absent());
    Some(Declared { mode, verification, raw, span })
}

/// What a route wants, and whether it asks OCSP responders.
pub(super) fn of_route(
    cx: &mut Context<'_>,
    raw: &raw::Route,
    host: Option<&Declared<'_>>,
    trust: &BTreeMap<String, Trust>,
) -> (ClientAuthMode, OcspMode) {
    let inherited = host.map_or(ClientAuthMode::Off, |host| host.mode);
    let mode = cx.value_or(&raw.client_auth, inherited);
    if !mode.identifies() {
        if let (Some(span), true) = (raw.ocsp.span(), host.is_some()) {
            cx.error(&span, format!("`ocsp` has no effect, since client_auth is \"{}\"", mode.as_str()))
                .help("leave it away: only clients that a certificate identifies can be asked about");
        }
        return (mode, OcspMode::Off);
    }
    if let Some(verification) = host.and_then(|host| host.verification.as_ref()) {
        let ocsp = cx.value_or(&raw.ocsp, verification.ocsp);
        check_ocsp(cx, &raw.ocsp, verification, trust);
        return (mode, ocsp);
    }
    (mode, cx.value_or(&raw.ocsp, OcspMode::Off))
}

/// What a host or a route says that its clients must have proved, or what it inherits.
pub(super) fn require(
    cx: &mut Context<'_>,
    field: &Field<Require>,
    inherited: Option<Require>,
) -> Option<Require> {
    cx.given(field).map(|require| *require.get_ref()).or(inherited)
}

/// A route that serves clients who have proved less than `require` says.
pub(super) fn check_required(
    cx: &mut Context<'_>,
    require: Option<Require>,
    mode: ClientAuthMode,
    own: &Field<ClientAuthMode>,
    forwards: bool,
    route: &Range<usize>,
) {
    let Some(require) = require else { return };
    if mode == ClientAuthMode::Required {
        if require == Require::Mtls && forwards {
            let message =
                "`require` says \"mtls\", but load balancers vouch for clients here (`forwarded_identity`)";
            cx.error(route, message).help(
                "write require = \"forwarded\" to accept that, or move the route to a host without `forwarded_identity`",
            );
        }
        return;
    }
    let words = mode.as_str();
    let (at, whose) = match own.span() {
        Some(own) => (own, "client_auth"),
        None => (route.clone(), "client_auth of the host"),
    };
    let message = format!("{whose} is \"{words}\", but `require` says {:?}", require.as_str());
    cx.error(&at, message).help(
        "write client_auth = \"required\" for the route, or move what anybody may ask for to a host without `require`",
    );
}

/// What the handshake of the host asks for: it must not refuse a client that a route would serve.
pub(super) fn of_host(
    cx: &mut Context<'_>,
    declared: Declared<'_>,
    routes: &Field<Vec<Field<raw::Route>>>,
) -> Option<ClientAuth> {
    let wishes: Vec<Wish> = wishes(&declared, routes)?;
    let handshake = weakest(declared.mode, &wishes);
    check_observed(cx, &declared, &wishes);
    if handshake == ClientAuthMode::Off {
        refuse_beside_off(cx, &declared);
        return Some(ClientAuth { handshake, verification: None });
    }
    if declared.raw.trust.is_absent() {
        report_missing_trust(cx, &declared, &wishes);
        return None;
    }
    if !handshake.identifies() && !wishes.iter().any(|wish| wish.mode.identifies()) {
        refuse_beside_observe(cx, &declared);
    } else if let Some(span) = declared.raw.ocsp_timeout.span()
        && !declared.asks_ocsp()
        && !wishes.iter().any(|wish| wish.asks_ocsp)
    {
        cx.error(&span, "`ocsp_timeout` has no effect, since ocsp is \"off\"")
            .help("add ocsp = \"soft_fail\" or \"hard_fail\", or leave it away");
    }
    let verification = declared.verification.filter(|verification| !verification.trust.is_empty())?;
    Some(ClientAuth { handshake, verification: Some(verification) })
}

/// What one route wants of clients, as it is written: also of routes that are broken otherwise.
struct Wish {
    mode: ClientAuthMode,
    /// Where the route says so itself.
    own: Option<Range<usize>>,
    asks_ocsp: bool,
}

/// None if one cannot be read, which was reported.
fn wishes(declared: &Declared<'_>, routes: &Field<Vec<Field<raw::Route>>>) -> Option<Vec<Wish>> {
    if routes.is_absent() {
        return Some(Vec::new());
    }
    let wish = |route: &Field<raw::Route>| {
        let route = route.given()?;
        let (mode, ocsp) = (&route.get_ref().client_auth, &route.get_ref().ocsp);
        Some(Wish {
            mode: if mode.is_absent() { declared.mode } else { *mode.value()? },
            own: mode.span(),
            asks_ocsp: ocsp.value().is_some_and(|ocsp| *ocsp != OcspMode::Off),
        })
    };
    routes.value()?.iter().map(wish).collect()
}

/// The mode of a handshake that serves every route.
fn weakest(host: ClientAuthMode, wishes: &[Wish]) -> ClientAuthMode {
    use ClientAuthMode::{Observe, Off, Optional, Required};
    let any = |mode| wishes.iter().any(|wish| wish.mode == mode);
    match (any(Off), any(Observe), any(Optional), any(Required)) {
        (false, false, false, false) => host,
        (_, true, _, _) => Observe,
        (true, _, false, false) => Off,
        (false, _, false, true) => Required,
        _ => Optional,
    }
}

/// A host that observes is there to refuse nobody. A route that is to refuse somebody does not belong there: the next route
/// would be open by itself.
fn check_observed(cx: &mut Context<'_>, declared: &Declared<'_>, wishes: &[Wish]) {
    if declared.mode != ClientAuthMode::Observe {
        return;
    }
    for wish in wishes.iter().filter(|wish| wish.mode.identifies()) {
        let Some(own) = &wish.own else { continue };
        let mode = wish.mode.as_str();
        cx.error(own, format!("client_auth is \"{mode}\", but the host's `mode` is \"observe\"")).help(format!(
            "write mode = \"{mode}\" for the host, and client_auth = \"observe\" in the routes that only observe"
        ));
    }
}

fn report_missing_trust(cx: &mut Context<'_>, declared: &Declared<'_>, wishes: &[Wish]) {
    let help = "name the trust bundle that client certificates chain to: trust = \"NAME\"";
    if declared.mode != ClientAuthMode::Off {
        let mode = declared.mode.as_str();
        cx.error(&declared.span, format!("client_auth is \"{mode}\", but `trust` is missing")).help(help);
        return;
    }
    for wish in wishes.iter().filter(|wish| wish.mode != ClientAuthMode::Off) {
        let Some(own) = &wish.own else { continue };
        let mode = wish.mode.as_str();
        cx.error(own, format!("client_auth is \"{mode}\", but the host's client_auth names no `trust`"))
            .help(help);
    }
}

/// Whoever writes how certificates are verified expects that they are.
fn refuse_beside_off(cx: &mut Context<'_>, declared: &Declared<'_>) {
    let raw = declared.raw;
    if let (true, Some(span)) = (declared.mode != ClientAuthMode::Off, raw.mode.span()) {
        let mode = declared.mode.as_str();
        cx.error(
            &span,
            format!("`mode` \"{mode}\" has no effect, since client_auth is \"off\" on every route"),
        )
        .help("write mode = \"off\", or leave client_auth away in the routes");
        return;
    }
    let given = [
        ("trust", raw.trust.span()),
        ("tenants", raw.tenants.span()),
        ("intermediates_max", raw.intermediates_max.span()),
        ("require_eku", raw.require_eku.span()),
        ("extensions", raw.extensions.span()),
        ("max_auth_age", raw.max_auth_age.span()),
        ("ocsp", raw.ocsp.span()),
        ("ocsp_timeout", raw.ocsp_timeout.span()),
    ];
    for (key, span) in given.into_iter().filter_map(|(key, span)| Some((key, span?))) {
        cx.error(&span, format!("`{key}` has no effect, since client_auth is \"off\""))
            .help("write mode = \"required\" or \"optional\", or leave it away");
    }
}

/// Observing refuses nobody and waits for nobody.
fn refuse_beside_observe(cx: &mut Context<'_>, declared: &Declared<'_>) {
    let raw = declared.raw;
    let given = [
        ("max_auth_age", raw.max_auth_age.span()),
        ("ocsp", raw.ocsp.span()),
        ("ocsp_timeout", raw.ocsp_timeout.span()),
    ];
    for (key, span) in given.into_iter().filter_map(|(key, span)| Some((key, span?))) {
        cx.error(&span, format!("`{key}` has no effect, since client_auth is \"observe\""))
            .help("leave it away until certificates count");
    }
}

fn check_tenants(
    cx: &mut Context<'_>,
    raw: &raw::ClientAuth,
    verification: &ClientVerification,
    tenants: &BTreeMap<String, Tenant>,
) {
    let Some(list) = raw.tenants.given() else { return };
    for item in raw::strings(list) {
        let Some(tenant) = tenants.get(*item.get_ref()) else { continue };
        let shared = tenant.trust.iter().any(|bundle| verification.trust.contains(bundle));
        if !shared && !verification.trust.is_empty() && !tenant.trust.is_empty() {
            cx.error(
                &item.span(),
                format!(
                    "no client can be of the tenant {:?}: none of its bundles is in `trust`",
                    tenant.name
                ),
            )
            .help(format!("add one of its bundles to `trust`: \"{}\"", tenant.trust.join("\", \"")));
        }
    }
}

/// OCSP needs to know whom to ask: `hard_fail` for every bundle, since it would refuse all clients of the others.
fn check_ocsp(
    cx: &mut Context<'_>,
    field: &Field<OcspMode>,
    verification: &ClientVerification,
    trust: &BTreeMap<String, Trust>,
) {
    let Some(given) = field.given().filter(|given| *given.get_ref() != OcspMode::Off) else { return };
    let bundles: Vec<&Trust> = verification.trust.iter().filter_map(|name| trust.get(name)).collect();
    let without: Vec<&str> =
        bundles.iter().filter(|bundle| !bundle.has_ocsp()).map(|bundle| bundle.name.as_str()).collect();
    let bad = match given.get_ref() {
        OcspMode::HardFail => !without.is_empty(),
        OcspMode::SoftFail => !bundles.is_empty() && without.len() == bundles.len(),
        OcspMode::Off => false,
    };
    if bad {
        let mode = given.get_ref().as_str();
        let message =
            format!("ocsp is \"{mode}\", but nothing says whom to ask about clients of {:?}", without[0]);
        cx.error(&given.span(), message)
            .help(format!("add ocsp_url or ocsp_hosts to [trust.{}]", without[0]));
    }
}
