//! Which virtual host and route a request is for, and whether its connection may ask for them.

use ringward_config::{Lookup, Params, PathPattern, RequestFacts};
use ringward_http::{Field, RequestHead};
use ringward_identity::PeerIdentity;

use crate::{
    cors,
    edits::is_one_variable,
    error::ProxyError,
    snapshot::{Host, Listener, Route},
    upstream::split::Part,
};

/// What a request asks for.
pub(crate) struct Target<'v> {
    pub(crate) host: &'v Host,
    pub(crate) route: &'v Route,
    pub(crate) pattern: &'v PathPattern,
    pub(crate) params: Params,
    /// Which of the route's clusters the request goes to, where it is divided among several; small, since exchanges hold it.
    pub(crate) part: Option<u8>,
    /// It is a preflight for this route, for us to answer.
    pub(crate) is_preflight: bool,
}

impl Target<'_> {
    /// The index of the cluster in the snapshot.
    pub(crate) fn cluster(&self) -> usize {
        self.part().map_or(self.route.cluster, |part| part.cluster)
    }

    /// The name of the cluster; empty if there is none.
    pub(crate) fn cluster_name(&self) -> &str {
        self.part().map_or(&self.route.cluster_name, |part| &part.name)
    }

    fn part(&self) -> Option<&Part> {
        self.route.split.as_ref()?.get(self.part?)
    }
}

/// What conditions of routes look at: the head without what is for this connection alone, and the client as it was verified. That a
/// route with a condition on the client also wants to know it, the configuration sees to.
struct Facts<'r> {
    head: &'r RequestHead,
    peer: Option<&'r PeerIdentity>,
}

impl RequestFacts for Facts<'_> {
    fn header(&self, name: &str, each: &mut dyn FnMut(&[u8])) {
        // What an upstream may take for the same field has to meet the condition as well.
        let named =
            |field: &Field<'_>| !field.hop_by_hop && is_one_variable(field.name.as_bytes(), name.as_bytes());
        self.head.fields().filter(named).for_each(|field| each(field.value));
    }

    fn query(&self) -> Option<&str> {
        self.head.query()
    }

    fn identity(&self) -> Option<&PeerIdentity> {
        self.peer
    }
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
    if let Some(method) = cors::asked_method(head)
        && let Lookup::Found { route, pattern, params } =
            host.routes.find(method, head.path(), |conditions| conditions.are_met_by(&facts))
        && route.cors().is_some()
        && (route.allow_encoded_slash || !head.has_encoded_slash())
    {
        return Ok(Target { host, route, pattern, params, part: None, is_preflight: true });
    }
    match host.routes.find(head.method(), head.path(), |conditions| conditions.are_met_by(&facts)) {
        Lookup::Found { route, .. } if head.has_encoded_slash() && !route.allow_encoded_slash => {
            Err(ProxyError::EncodedSlash)
        }
        Lookup::Found { route, pattern, params } => {
            Ok(Target { host, route, pattern, params, part: None, is_preflight: false })
        }
        Lookup::MethodNotAllowed { allow } => Err(ProxyError::MethodNotAllowed { allow: allow.to_owned() }),
        Lookup::Unmet => Err(ProxyError::ConditionsUnmet),
        Lookup::NotFound => Err(ProxyError::NoRoute),
    }
}

/// Refuses what is no gRPC call on a route that takes nothing else, unless it is a preflight for one. It is not a part of [`select`], which never falls back to
/// another route for what a request is like.
///
/// # Errors
/// 415, as `PROTOCOL-HTTP2.md` has it for other content types.
pub(crate) fn check_protocol(target: &Target<'_>, is_grpc: bool) -> Result<(), ProxyError> {
    if target.route.grpc && !is_grpc && !target.is_preflight { Err(ProxyError::NotGrpc) } else { Ok(()) }
}
