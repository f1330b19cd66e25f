//! Policies that a server decides: where it is, how it is asked, and which keys have no meaning for them.

use std::num::NonZeroU32;
use std::ops::Range;

use serde_spanned::Spanned;

use super::context::Context;
use crate::bounds;
use crate::model::{Engine, PolicyServer, PolicyServerAddress};
use crate::raw::{self, Field, WordOrTable};

/// The server of a policy; `None` if the policy is evaluated here. `span` is where the policy stands.
pub(super) fn server(
    cx: &mut Context<'_>,
    engine: Engine,
    raw: &raw::Policy,
    span: &Range<usize>,
) -> Option<PolicyServer> {
    if engine != Engine::Opa {
        refuse(
            cx,
            "server",
            &raw.server,
            "the policy is evaluated here: write engine = \"opa\" to have a server asked",
        );
        return None;
    }
    refuse(cx, "path", &raw.path, "the server has the policy: remove it");
    refuse(
        cx,
        "time_budget",
        &raw.time_budget,
        "the server is bounded by timeout = \"100ms\" in server = { ... }",
    );
    refuse(
        cx,
        "cache",
        &raw.cache,
        "decisions of a server are never given again, it may know more the next time: remove it",
    );
    let given = cx.required("server", "server = \"127.0.0.1:8181\"", &raw.server, span)?;
    match given.get_ref() {
        WordOrTable::Word(address) => {
            let address = self::address(cx, "server", address, &given.span());
            build(cx, address, &raw::PolicyServer::default())
        }
        WordOrTable::Table(table) => {
            let address =
                cx.required("address", "address = \"127.0.0.1:8181\"", &table.address, &given.span());
            let address =
                address.cloned().and_then(|text| self::address(cx, "address", text.get_ref(), &text.span()));
            build(cx, address, table)
        }
    }
}

fn build(
    cx: &mut Context<'_>,
    address: Option<PolicyServerAddress>,
    raw: &raw::PolicyServer,
) -> Option<PolicyServer> {
    let timeout = cx.duration("timeout", &raw.timeout, &bounds::POLICY_SERVER_TIMEOUT);
    let connections_max =
        cx.number("connections_max", &raw.connections_max, &bounds::POLICY_SERVER_CONNECTIONS_MAX);
    let answer_bytes_max =
        cx.size("answer_bytes_max", &raw.answer_bytes_max, &bounds::POLICY_SERVER_ANSWER_BYTES_MAX);
    let failures =
        cx.number("failures_to_open", &raw.failures_to_open, &bounds::POLICY_SERVER_FAILURES_TO_OPEN);
    let open_for = cx.duration("open_for", &raw.open_for, &bounds::POLICY_SERVER_OPEN_FOR);
    Some(PolicyServer {
        address: address?,
        timeout,
        connections_max,
        answer_bytes_max,
        failures_to_open: u32::try_from(failures).ok().and_then(NonZeroU32::new).unwrap_or(NonZeroU32::MIN),
        open_for,
    })
}

/// Only what does not leave this machine: who reads along learns credentials, and who answers decides.
fn address(cx: &mut Context<'_>, key: &str, text: &str, span: &Range<usize>) -> Option<PolicyServerAddress> {
    if let Some(path) = text.strip_prefix("unix:") {
        let path = cx.path(key, path, span)?.path;
        if path.as_os_str().len() > bounds::SOCKET_PATH_BYTES_MAX {
            cx.error(
                span,
                format!(
                    "`{key}`: the path of the socket has more than {} bytes",
                    bounds::SOCKET_PATH_BYTES_MAX
                ),
            )
            .help("the kernel takes no longer ones: put it into /run");
            return None;
        }
        return Some(PolicyServerAddress::Unix(path));
    }
    if text.contains("://") {
        cx.error(span, format!("`{key}`: {text:?} is a URL"))
            .help("write address and port, and name the rule by `rule`: server = \"127.0.0.1:8181\"");
        return None;
    }
    let addr = cx.socket_addr(key, text, span)?;
    if !addr.ip().to_canonical().is_loopback() {
        cx.error(
            span,
            format!("`{key}`: {addr} is not on this machine, and TLS to policy servers does not exist yet"),
        )
        .help("run the server beside ringward, at 127.0.0.1, [::1] or unix:/run/opa/opa.sock");
        return None;
    }
    if addr.port() == 0 {
        cx.error(span, format!("`{key}`: {addr} has port 0, which nothing listens on"));
        return None;
    }
    Some(PolicyServerAddress::Tcp(addr))
}

/// Refuses a key that the engine would not obey.
fn refuse<T>(cx: &mut Context<'_>, key: &str, field: &Field<T>, help: &str) {
    if let Some(span) = cx.given(field).map(Spanned::span) {
        cx.error(&span, format!("`{key}` has no meaning for this engine")).help(help);
    }
}
