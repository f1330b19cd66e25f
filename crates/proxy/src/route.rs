//! Which virtual host and route a request is for, and whether its connection may ask for them.

use ringward_config::{Lookup, Params, PathPattern, RequestFacts};
use ringward_http::{Field, RequestHead};
use ringward_identity::PeerIdentity;

use crate::{
    error::ProxyError,
    snapshot::{Host, Listener, Route},
};

/// What a request asks for.
pub(crate) struct Target<'v> {
    pub(crate) host: &'v Host,
    pub(crate) route: &'v Route,
    pub(crate) pattern: &'v PathPattern,
    pub(crate) params: Params,
}

/// What conditions of routes look at: the head without what is for this connection alone, and the client as the handshake has verified it. That a route
/// with a condition on the client also wants to know it, the configuration sees to.
struct Facts<'r> {
    head: &'r RequestHead,
    peer: Option<&'r PeerIdentity>,
}

impl RequestFacts for Facts<'_> {
    fn header(&self, name: &str, each: &mut dyn FnMut(&[u8])) {
        // What an upstream may take for the same field has to meet the condition as well.
        let named = |field: &Field<'_>| !field.hop_by_hop && is_one_variable(field.name, name);
        self.head.fields().filter(named).for_each(|field| each(field.value));
    }

    fn query(&self) -> Option<&str> {
        self.head.query()
    }

    fn identity(&self) -> Option<&PeerIdentity> {
        self.peer
    }
}

/// Whether two names of fields are one to upstreams which make variables of them (RFC 3875 §4.1.18), and so read `_` for `-`.
fn is_one_variable(one: &str, another: &str) -> bool {
    let folded = |byte: u8| if byte == b'_' { b'-' } else { byte.to_ascii_lowercase() };
    one.len() == another.len() && one.bytes().map(folded).eq(another.bytes().map(folded))
}

/// Finds the target of a request on a connection whose client, `peer` if it is verified, is admitted by the rules of host
/// `admitted_as`.
///
/// # Errors
/// 421 for a host that this connection may not ask for, 404, 405, and 400 for a path that only another route would take.
pub(crate) fn select<'v>(
    listener: &'v Listener,
    admitted_as: usize,
    head: &RequestHead,
    peer: Option<&PeerIdentity>,
) -> Result<Target<'v>, ProxyError> {
    let Some(host) = listener.host_for_request(head.host()) else {
        return Err(ProxyError::UnknownHost(head.host().to_owned()));
    };
    // The client was checked by the rules of the host that the ClientHello named. Another host's request may be answered on
    // this connection exactly if that host has the very same rules (RFC 9110 §7.4; CVE-2025-23048, CVE-2026-48491).
    let admitted_as = &listener.hosts[admitted_as];
    if !admitted_as.vouches_for(host) {
        let admitted_as = admitted_as.name.clone();
        return Err(ProxyError::Misdirected { host: head.host().to_owned(), admitted_as });
    }
    let facts = Facts { head, peer };
    match host.routes.find(head.method(), head.path(), |conditions| conditions.are_met_by(&facts)) {
        Lookup::Found { route, .. } if head.has_encoded_slash() && !route.allow_encoded_slash => {
            Err(ProxyError::EncodedSlash)
        }
        Lookup::Found { route, pattern, params } => Ok(Target { host, route, pattern, params }),
        Lookup::MethodNotAllowed { allow } => Err(ProxyError::MethodNotAllowed { allow: allow.to_owned() }),
        Lookup::Unmet => Err(ProxyError::ConditionsUnmet),
        Lookup::NotFound => Err(ProxyError::NoRoute),
    }
}

/// Refuses what is no gRPC call on a route that takes nothing else. It is not a part of [`select`], which never falls back to
/// another route for what a request is like.
///
/// # Errors
/// 415, as `PROTOCOL-HTTP2.md` has it for other content types.
pub(crate) fn check_protocol(route: &Route, is_grpc: bool) -> Result<(), ProxyError> {
    if route.grpc && !is_grpc { Err(ProxyError::NotGrpc) } else { Ok(()) }
}
