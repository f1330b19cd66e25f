//! Upgraded connections: to which protocols a route may switch, and for how long.

use serde_spanned::Spanned;

use super::context::{Context, UNLIMITED};
use crate::bounds;
use crate::model::Tunnel;
use crate::raw::{self, Field};
use crate::routes::Methods;

/// What a route says about tunnels; `methods` are those that it takes.
pub(super) fn tunnel(cx: &mut Context<'_>, raw: &raw::Route, methods: &Methods) -> Option<Tunnel> {
    let idle_timeout =
        cx.duration("tunnel_idle_timeout", &raw.tunnel_idle_timeout, &bounds::TUNNEL_IDLE_TIMEOUT);
    let age_max =
        cx.duration_or_word("tunnel_age_max", &raw.tunnel_age_max, UNLIMITED, &bounds::TUNNEL_AGE_MAX);
    let Some(list) = cx.given(&raw.upgrade) else {
        report_useless(cx, "tunnel_idle_timeout", &raw.tunnel_idle_timeout);
        report_useless(cx, "tunnel_age_max", &raw.tunnel_age_max);
        return None;
    };
    let mut protocols: Vec<String> = Vec::new();
    for item in cx.list("upgrade", list, bounds::UPGRADES) {
        let name = *item.get_ref();
        if protocols.iter().any(|known| known.eq_ignore_ascii_case(name)) {
            cx.error(&item.span(), format!("`upgrade` names {name:?} twice"));
        } else if is_allowed(cx, &item, methods) {
            protocols.push(name.to_owned());
        }
    }
    Some(Tunnel { protocols, idle_timeout, age_max })
}

fn report_useless<T>(cx: &mut Context<'_>, key: &str, field: &Field<T>) {
    if let Some(span) = field.span() {
        cx.error(&span, format!("`{key}` has no effect: the route has no `upgrade`"))
            .help("add upgrade = [\"websocket\"], or take the key out");
    }
}

fn is_allowed(cx: &mut Context<'_>, item: &Spanned<&str>, methods: &Methods) -> bool {
    let (name, span) = (*item.get_ref(), item.span());
    let is_token = |part: &str| {
        let symbol = |byte| b"!#$%&'*+-.^_`|~".contains(&byte);
        !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || symbol(byte))
    };
    let (protocol, version) =
        name.split_once('/').map_or((name, None), |(name, version)| (name, Some(version)));
    if name == "*" || !is_token(protocol) || version.is_some_and(|version| !is_token(version)) {
        cx.error(&span, format!("`upgrade`: {name:?} is not the name of a protocol")).help(
            "write each protocol as clients do, with or without a version: \"websocket\", \"SPDY/3.1\"",
        );
        return false;
    }
    let is = |refused: &[&str]| refused.iter().any(|refused| protocol.eq_ignore_ascii_case(refused));
    if is(&["h2c", "h2", "h3", "http"]) {
        cx.error(&span, format!("`upgrade`: {name:?} would carry requests past every route and policy"))
            .help("clients get HTTP/2 by ALPN, from listeners without http2 = false");
        return false;
    }
    if is(&["tls"]) {
        cx.error(&span, format!("`upgrade`: {name:?} would hide requests from every route and policy"))
            .help("clients speak TLS with the listener from the start: take it out");
        return false;
    }
    if protocol.eq_ignore_ascii_case("websocket") && !takes_get(methods) {
        cx.error(&span, "the route opens no WebSocket: it does not take GET")
            .help("add \"GET\" to the route's methods");
        return false;
    }
    true
}

fn takes_get(methods: &Methods) -> bool {
    match methods {
        Methods::All => true,
        Methods::Only(methods) => methods.iter().any(|method| method.as_str() == "GET"),
    }
}
