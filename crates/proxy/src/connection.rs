//! One client connection from accept to close: handshake, then one exchange after the other.
//!
//! Between two exchanges a connection owns no buffer and has no read in flight. Here is decided how it waits and how it ends.

use std::{
    cell::{OnceCell, RefCell},
    net::SocketAddr,
    rc::Rc,
    sync::Arc,
};

use ringward_http::RequestHead;
use ringward_policy::{Subject, SubjectMark};
use ringward_telemetry::{CloseReason, ConnectionFacts};
use ringward_tls::{ObservedIdentity, OcspEntry};

use crate::{
    admission::{Admission, Terms},
    downstream::{Downstream, ReadError},
    edits::Client,
    error::ProxyError,
    exchange::{self, Outcome},
    h2,
    handshake::{self, Established},
    io::{SMALL, Shut, Stream},
    listener,
    live::Live,
    overload::{Requests, SourcePlace},
    record,
    snapshot::Limits,
    standing::Standing,
    tenants::TenantPlace,
    upstream::millis,
    worker::{View, Worker},
};

/// What the exchanges of a connection that has been let in share.
pub(crate) struct Connection {
    pub(crate) standing: Standing,
    pub(crate) worker: Rc<Worker>,
    pub(crate) client: Client,
    pub(crate) peer_addr: SocketAddr,
    pub(crate) facts: Arc<ConnectionFacts>,
    /// What the client has shown where certificates are only observed.
    pub(crate) observed: Option<Box<ObservedIdentity>>,
    pub(crate) subjects: RefCell<Subjects>,
    /// What OCSP says of the client's certificate; held so that it stays up to date.
    pub(crate) ocsp: OnceCell<Arc<OcspEntry>>,
    /// Its place among the connections of the client's tenant.
    pub(crate) tenant: Option<TenantPlace>,
    /// Its place among the connections of its network, if their number is limited.
    _source: Option<Box<SourcePlace>>,
    /// The requests of its listener that are in work.
    pub(crate) requests: Rc<Requests>,
}

/// What policies see of client and connection; made when the first one asks.
#[derive(Default)]
pub(crate) struct Subjects {
    /// On routes that know the client.
    pub(crate) known: Seen,
    /// On routes that do not want to know.
    pub(crate) anonymous: Seen,
}

/// One of the two ways in which policies see a client. Both stay the same for as long as the connection lives.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) subject: Option<Subject>,
    /// By which decision caches know the subject again.
    pub(crate) mark: SubjectMark,
}

impl Subjects {
    /// Gives back what can be made again.
    pub(crate) fn shrink(&mut self) {
        (self.known.subject, self.anonymous.subject) = (None, None);
    }
}

/// A connection that was accepted, with its place among those of its network.
pub(crate) type Accepted = (Stream, SocketAddr, Option<Box<SourcePlace>>);

/// What follows an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// The next one.
    Request,
    /// The end.
    End(End),
}

/// How a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// In order.
    Close(CloseReason),
    /// In order, but the client may still be sending.
    Linger(CloseReason),
    /// Without a goodbye that could be taken for the end of a body.
    Cut(CloseReason),
}

/// Serves a connection to its end.
pub(crate) async fn serve(
    worker: Rc<Worker>,
    listener: Rc<listener::Listener>,
    accepted: Accepted,
) -> CloseReason {
    // In this order: the connection must leave the table of live ones before the socket is closed.
    let (mut downstream, connection) = match open(&worker, &listener, accepted).await {
        Ok(opened) => opened,
        Err(reason) => return reason,
    };
    let connection = Rc::new(connection);
    let end = if downstream.with_session(|session| session.negotiated().alpn) == "h2" {
        // Boxed, so that connections of HTTP/1.1 need not have room for it.
        Box::pin(h2::run(&connection, &mut downstream)).await
    } else {
        connection.run(&mut downstream).await
    };
    let reason = close(&mut downstream, end).await;
    connection.standing.note_end(&connection.facts);
    match connection.standing.live().was_cut() {
        // Whatever the exchange took it for.
        Some(Shut::Both) => CloseReason::TrustGrace,
        _ => reason,
    }
}

async fn open(
    worker: &Rc<Worker>,
    listener: &listener::Listener,
    accepted: Accepted,
) -> Result<(Downstream, Connection), CloseReason> {
    let id = worker.connection_id();
    let view = worker.view();
    let (gate, requests) = (&listener.gate, listener.requests.clone());
    let listener = view.snapshot.listener(&listener.name).ok_or(CloseReason::Removed)?;
    let established = handshake::establish(worker, &view, (listener, gate), accepted, id).await;
    let mut established = established.ok_or(CloseReason::HandshakeFailed)?;
    let tenant = match tenant_place(worker, &view, &established.terms) {
        Ok(place) => place,
        Err(reason) => {
            established.downstream.close().await;
            return Err(reason);
        }
    };
    let facts = record::connection(worker, listener, id, &established);
    let peer_addr = established.origin.client;
    let Established { downstream, source, host, terms, observed, settled, .. } = established;
    let client = Client::new(peer_addr.ip());
    let admission = Admission::new(terms, &view, (listener.index, host), settled, id, worker.deadlines.now());
    let live = Live::enter(worker, id, peer_addr, downstream.deadline.clone(), admission);
    let connection = Connection {
        standing: Standing::new(worker, listener, live),
        worker: worker.clone(),
        client,
        peer_addr,
        facts: Arc::new(facts),
        observed,
        subjects: RefCell::default(),
        ocsp: OnceCell::new(),
        tenant,
        _source: source,
        requests,
    };
    Ok((downstream, connection))
}

/// A place among the connections of the client's tenant, if it has one.
fn tenant_place(worker: &Rc<Worker>, view: &View, terms: &Terms) -> Result<Option<TenantPlace>, CloseReason> {
    let Some(name) = terms.peer.as_ref().and_then(|peer| peer.tenant()) else { return Ok(None) };
    // The handshake was done with this very snapshot, so it knows the tenant.
    let tenant = view.snapshot.tenant_index(name).ok_or(CloseReason::TrustChanged)?;
    TenantPlace::take(worker, view, tenant).map(Some).ok_or(CloseReason::TenantLimit)
}

async fn close(downstream: &mut Downstream, end: End) -> CloseReason {
    match end {
        End::Close(reason) => {
            downstream.close().await;
            reason
        }
        End::Linger(reason) => {
            downstream.close().await;
            downstream.linger().await;
            reason
        }
        End::Cut(reason) => reason,
    }
}

impl Connection {
    /// Serves one request of HTTP/1.1 after the other; what follows the last.
    async fn run(&self, downstream: &mut Downstream) -> End {
        loop {
            match self.next(downstream).await {
                Next::Request => {}
                Next::End(end) => return end,
            }
        }
    }

    /// Waits for a request and serves it.
    async fn next(&self, downstream: &mut Downstream) -> Next {
        let Some(limits) = self.limits() else { return Next::End(End::Close(CloseReason::Removed)) };
        if downstream.buffered().is_empty()
            && let Err(error) = self.wait(downstream, &limits).await
        {
            return self.ended(downstream, &error);
        }
        let mut head = self.worker.heads.request();
        let next = match self.read_head(downstream, &mut head, &limits).await {
            // Boxed: its state is much larger than what an idle connection should have to keep.
            Ok(()) => {
                let outcome = Box::pin(exchange::run(self, downstream, &head)).await;
                match outcome {
                    Outcome::Over(next) => next,
                    Outcome::Tunnel(opening) => {
                        Box::pin(exchange::tunnel(self, downstream, &head, opening)).await
                    }
                }
            }
            Err(next) => next,
        };
        self.worker.heads.put_request(head);
        next
    }

    /// Waits for the first bytes of a request, as an idle connection.
    async fn wait(&self, downstream: &mut Downstream, limits: &Limits) -> Result<(), ReadError> {
        downstream.deadline.set(self.standing.patience(limits.idle_timeout), Shut::Read);
        self.standing.live().idle();
        if !downstream.is_busy() {
            // As much memory as all the rest of an idle connection, and made again in microseconds. A request whose decision is
            // cached does without.
            self.subjects.borrow_mut().shrink();
        }
        downstream.wait().await
    }

    /// Reads a request's head to its end. Its bytes are used up.
    async fn read_head(
        &self,
        downstream: &mut Downstream,
        head: &mut RequestHead,
        limits: &Limits,
    ) -> Result<(), Next> {
        self.standing.live().busy();
        head.clear();
        let mut waits = false;
        loop {
            match head.parse(downstream.buffered(), &limits.head) {
                Ok(Some(length)) => {
                    downstream.deadline.clear();
                    downstream.consume(length);
                    return Ok(());
                }
                Ok(None) => {}
                Err(error) => return Err(Box::pin(exchange::refuse(self, downstream, error.into())).await),
            }
            if !waits {
                downstream.deadline.set(millis(limits.header_timeout), Shut::Read);
                waits = true;
            }
            match downstream.fill(SMALL).await {
                Ok(()) => {}
                Err(ReadError::Closed) if downstream.deadline.fired() => {
                    let error = ProxyError::HeadTimeout(limits.header_timeout);
                    return Err(Box::pin(exchange::refuse(self, downstream, error)).await);
                }
                Err(error) => return Err(self.ended(downstream, &error)),
            }
        }
    }

    /// Nothing more can be read, and nothing of a request is there.
    fn ended(&self, downstream: &Downstream, error: &ReadError) -> Next {
        match error {
            ReadError::Tls(_) => Next::End(End::Close(CloseReason::Tls)),
            ReadError::Io(_) => Next::End(End::Cut(CloseReason::Io)),
            ReadError::Closed if downstream.deadline.fired() || self.standing.live().was_cut().is_some() => {
                Next::End(End::Close(self.standing.outlived().unwrap_or(CloseReason::IdleTimeout)))
            }
            ReadError::Closed => Next::End(End::Close(CloseReason::Peer)),
        }
    }

    /// Whether some route of the listener carries tunnels.
    pub(crate) fn has_tunnels(&self) -> bool {
        let view = self.worker.view();
        let listener = view.snapshot.listener(&self.standing.admission().terms.listener);
        listener.is_some_and(|listener| listener.has_tunnels)
    }

    pub(crate) fn limits(&self) -> Option<Limits> {
        let view = self.worker.view();
        view.snapshot
            .listener(&self.standing.admission().terms.listener)
            .map(|listener| listener.limits.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size_of_future<A, B, C, F>(_: impl Fn(A, B, C) -> F) -> usize {
        size_of::<F>()
    }

    /// Every connection has room for the whole of its state, idle or not.
    #[test]
    fn a_connection_takes_little_memory_of_its_own() {
        let size = size_of_future(serve);
        assert!(size <= 1536, "{size} bytes");
    }
}
