//! The endpoints of a cluster, and how one of them is chosen: addresses that can be connected to, names that can be looked up.

use std::collections::HashSet;
use std::ops::Range;
use std::time::Duration;

use serde_spanned::Spanned;

use super::context::Context;
use super::{discovery, socket_path};
use crate::bounds;
use crate::model::{Balance, Endpoint, EndpointAddr, HashKey};
use crate::raw::{self, Field, WordOrTable};

/// What else is known of the endpoints of a list.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kind {
    /// It is found out how they are.
    pub(super) is_checked: bool,
    /// Their certificates are compared with their IP addresses.
    pub(super) needs_ip: bool,
}

/// Those of a list.
pub(super) fn endpoints(
    cx: &mut Context<'_>,
    list: &Spanned<raw::Endpoints>,
    Kind { is_checked, needs_ip }: Kind,
) -> Vec<Endpoint> {
    let mut endpoints: Vec<Endpoint> = Vec::new();
    let mut known = HashSet::new();
    let items = &list.get_ref().0;
    let (written, allowed) = (items.len(), bounds::ENDPOINTS);
    if !allowed.contains(&written) {
        let (min, max) = (allowed.start(), allowed.end());
        let message = format!("`endpoints` has {written} entries: from {min} to {max} are allowed");
        cx.error(&list.span(), message);
    }
    for item in items.iter().take(*bounds::ENDPOINTS.end()) {
        let Some(item) = cx.given(item) else { continue };
        if let WordOrTable::Table(table) = item.get_ref()
            && !is_checked
        {
            refuse_unchecked(cx, "zone", &table.zone);
            refuse_unchecked(cx, "priority", &table.priority);
        }
        let Some((endpoint, span)) = endpoint(cx, item) else { continue };
        let addr = &endpoint.addr;
        if !known.insert(addr.clone()) {
            cx.error(&span, format!("the endpoint {addr} appears twice"))
                .help(format!("write it once, with a weight: {{ address = \"{addr}\", weight = 2 }}"));
        }
        check_connectable(cx, addr, &span);
        if needs_ip && addr.ip().is_none() {
            cx.error(&span, format!("{addr} has no IP address that its certificate could be for"))
                .help("write into `tls` the name that the certificate has: server_name = \"orders.internal\"; or `spiffe_ids`");
        }
        endpoints.push(endpoint);
    }
    endpoints
}

fn endpoint(
    cx: &mut Context<'_>,
    item: &Spanned<WordOrTable<raw::Endpoint>>,
) -> Option<(Endpoint, Range<usize>)> {
    let (text, span, table) = match item.get_ref() {
        WordOrTable::Word(text) => (text, item.span(), &raw::Endpoint::default()),
        WordOrTable::Table(table) => {
            let address =
                cx.required("address", "address = \"10.0.0.11:8080\"", &table.address, &item.span())?;
            (address.get_ref(), address.span(), table)
        }
    };
    let weight = cx.number("weight", &table.weight, &bounds::ENDPOINT_WEIGHT);
    let zone = cx.given(&table.zone).and_then(|zone| cx.name("a zone", zone.get_ref(), &zone.span()));
    let priority = cx.number("priority", &table.priority, &bounds::ENDPOINT_PRIORITY);
    let priority = u8::try_from(priority).unwrap_or(u8::MAX);
    let addr = match text.strip_prefix("unix:") {
        Some(path) => EndpointAddr::Unix(socket_path::socket_path(cx, "endpoints", path, &span)?.into()),
        None => cx.socket_addr("endpoints", text, &span)?.into(),
    };
    let weight = u32::try_from(weight).unwrap_or(u32::MAX);
    Some((Endpoint { addr, weight, zone, priority }, span))
}

fn check_connectable(cx: &mut Context<'_>, addr: &EndpointAddr, span: &Range<usize>) {
    let EndpointAddr::Ip(addr) = addr else { return };
    if addr.port() == 0 {
        cx.error(span, format!("the endpoint {addr} has port 0, which nothing listens on"));
    } else if addr.ip().is_unspecified() || addr.ip().is_multicast() {
        cx.error(span, format!("the endpoint {addr} is not the address of a server"))
            .help("for a server on this machine write 127.0.0.1 or [::1]");
    }
}

/// Refuses what follows from health where nothing finds that out: those who come second would never get a request.
fn refuse_unchecked<T>(cx: &mut Context<'_>, key: &str, field: &Field<T>) {
    if let Some(span) = field.span() {
        cx.error(&span, format!("`{key}` of an endpoint has no meaning without a `health_check`"))
            .help("add health_check = { http = \"/healthz\" } to the cluster, or remove it");
    }
}

/// For how long an endpoint that comes back is spared.
pub(super) fn slow_start(
    cx: &mut Context<'_>,
    raw: &raw::Cluster,
    balance: &Balance,
    is_checked: bool,
) -> Option<Duration> {
    let slow_start = cx.optional_duration("slow_start", &raw.slow_start, &bounds::SLOW_START)?;
    let span = raw.slow_start.span()?;
    let comes_back = is_checked || !raw.outlier_detection.is_absent() || discovery::is_asked_for(raw);
    if !comes_back {
        cx.error(&span, "`slow_start` has no meaning without a `health_check` or `outlier_detection`")
            .help("nothing else finds out that an endpoint comes back: add one, or remove it");
    } else if matches!(balance, Balance::Maglev(_)) {
        cx.error(&span, "`slow_start` does not go together with `maglev`")
            .help("requests would change their endpoint with every step: remove it");
    }
    Some(slow_start)
}

/// How one is chosen.
pub(super) fn balance(cx: &mut Context<'_>, field: &Field<raw::Balance>) -> Balance {
    match cx.given(field).map(Spanned::get_ref) {
        None | Some(raw::Balance::RoundRobin) => Balance::RoundRobin,
        Some(raw::Balance::LeastRequest) => Balance::LeastRequest,
        Some(raw::Balance::Random) => Balance::Random,
        // One that cannot be read was reported.
        Some(raw::Balance::Maglev(key)) => hash_key(cx, key).map_or(Balance::RoundRobin, Balance::Maglev),
    }
}

/// The property of a request by which something is chosen.
pub(super) fn hash_key(cx: &mut Context<'_>, key: &raw::HashKey) -> Option<HashKey> {
    Some(match key {
        raw::HashKey::Header(name) => HashKey::Header(token(cx, "header", name)?.to_ascii_lowercase()),
        raw::HashKey::Cookie(name) => HashKey::Cookie(token(cx, "cookie", name)?),
        raw::HashKey::Identity(key) => HashKey::Identity(*key),
        raw::HashKey::SourceAddress => HashKey::SourceAddress,
    })
}

/// RFC 9110 §5.6.2, which names of fields are, and RFC 6265 §4.1.1 those of cookies.
fn token(cx: &mut Context<'_>, key: &str, name: &Field<String>) -> Option<String> {
    let name = cx.given(name)?;
    let text = name.get_ref();
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if !text.is_empty() && text.bytes().all(is_token) && text.len() <= bounds::HASH_KEY_NAME_CHARS_MAX {
        return Some(text.clone());
    }
    cx.error(&name.span(), format!("`{key}`: {text:?} is not the name of a {key}")).help(format!(
        "write 1 to {} letters, digits and such as '-' and '_'",
        bounds::HASH_KEY_NAME_CHARS_MAX
    ));
    None
}
