//! Connections to endpoints that may speak HTTP/2 or HTTP/1.1, which each says in its TLS handshake (`protocol = "auto"`).
//!
//! An endpoint is taken for one of HTTP/2 until it says otherwise, so that a burst of requests shares what is opened for the first of them.
//! From then on each request has a connection of its own, for which both protocols are offered again: whatever is agreed on is what is
//! spoken on that connection, and once HTTP/2 is, the others share it. So an endpoint may change its mind, and be a load balancer in
//! front of servers that differ.

use std::{io, rc::Rc};

use ringward_config::EndpointAddr;
use ringward_tls::{UpstreamTlsFailure, UpstreamTlsReason};

use super::{
    Connection, Pool,
    http2::{self, Terms},
    pool::{Opened, Upstream, open},
};
use crate::{error::ProxyError, worker::Worker};

/// A connection or a place on one, in the protocol that the endpoint agrees to; with `needs_http2` in that one.
pub(super) async fn connect(
    worker: &Rc<Worker>,
    addr: &EndpointAddr,
    pool: &Pool,
    terms: &Terms,
    (fresh, needs_http2): (bool, bool),
) -> io::Result<Upstream> {
    // What a connection of others is told does not end this request, unless that goes on.
    for _ in 0..AGREEMENTS_MAX {
        match agree(worker, addr, pool, terms, (fresh, needs_http2)).await {
            Err(error) if is_http1(&error) => {}
            agreed => return agreed,
        }
    }
    Err(io::Error::other(Http1Agreed))
}

async fn agree(
    worker: &Rc<Worker>,
    addr: &EndpointAddr,
    pool: &Pool,
    terms: &Terms,
    (fresh, needs_http2): (bool, bool),
) -> io::Result<Upstream> {
    if needs_http2 && pool.shared.has_connections() {
        return lease(worker, addr, pool, terms, fresh).await;
    }
    if !pool.shared.speaks_http1() {
        match lease(worker, addr, pool, terms, fresh).await {
            Err(error) if is_http1(&error) && needs_http2 => return Err(refused()),
            Err(error) if is_http1(&error) => {}
            leased => return leased,
        }
        // The one that has found it out has nothing to do yet.
        if let Some((stream, deadline)) = pool.shared.take_http1() {
            return Ok(Upstream::Http1Tls(Connection::new(stream, deadline, addr.clone(), pool.hold())));
        }
    }
    if !fresh
        && !needs_http2
        && let Some(kept) = pool.take()
    {
        return Ok(kept);
    }
    let held = pool.hold();
    let peer = (addr, pool.tls.as_deref());
    match open(peer, None, terms.cluster(), terms.connect_timeout(), worker).await? {
        (Opened::Plain(stream), deadline) => {
            // The configuration lets nobody come here: without TLS nothing is agreed on.
            Ok(Upstream::Http1(Connection::new(stream, deadline, addr.clone(), held)))
        }
        (Opened::Tls(stream), deadline) if stream.speaks_http2() => {
            drop(held);
            pool.shared.adopt(addr, (stream, deadline), terms, worker);
            lease(worker, addr, pool, terms, false).await
        }
        (Opened::Tls(_), _) if needs_http2 => Err(refused()),
        (Opened::Tls(stream), deadline) => {
            Ok(Upstream::Http1Tls(Connection::new(stream, deadline, addr.clone(), held)))
        }
    }
}

async fn lease(
    worker: &Rc<Worker>,
    addr: &EndpointAddr,
    pool: &Pool,
    terms: &Terms,
    fresh: bool,
) -> io::Result<Upstream> {
    let open = http2::Stream::open(&pool.shared, addr, pool.tls.as_ref(), terms, worker, fresh);
    open.await.map(|stream| Upstream::Http2(Box::new(stream)))
}

/// Refuses to send a call of gRPC on a connection that speaks HTTP/1.1, where its status would be lost.
///
/// # Errors
/// [`ProxyError::UpstreamTls`], with the reason of endpoints that do not agree to the protocol.
pub(super) fn check_grpc(up: &Upstream) -> Result<(), ProxyError> {
    match up {
        Upstream::Http2(_) => Ok(()),
        Upstream::Http1(_) | Upstream::Http1Tls(_) => {
            let message = format!("{}: {NEEDS_HTTP2}", up.addr());
            Err(ProxyError::UpstreamTls(UpstreamTlsFailure::new(UpstreamTlsReason::AlpnRefused, message)))
        }
    }
}

fn refused() -> io::Error {
    io::Error::other(UpstreamTlsFailure::new(UpstreamTlsReason::AlpnRefused, NEEDS_HTTP2.to_owned()))
}

const NEEDS_HTTP2: &str = "the upstream agreed to HTTP/1.1, and the route is one of gRPC, which is HTTP/2";
/// How often a request looks for a connection anew because another one's agreement was for another protocol.
const AGREEMENTS_MAX: u32 = 3;

/// What those hear who wait for a place on a connection of HTTP/2.
#[derive(Debug, thiserror::Error)]
#[error("the upstream agreed to HTTP/1.1 this time")]
pub(super) struct Http1Agreed;

fn is_http1(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|cause| cause.is::<Http1Agreed>())
}
