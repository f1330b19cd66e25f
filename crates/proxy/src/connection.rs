//! One client connection from accept to close: handshake, then one exchange after the other.
//!
//! Between two exchanges a connection owns no buffer and has no read in flight. Here is decided how it waits and how it ends.

use std::{net::SocketAddr, rc::Rc, sync::Arc};

use ringward_http::RequestHead;
use ringward_policy::Subject;
use ringward_telemetry::{CloseReason, ConnectionFacts};

use crate::{
    downstream::{Downstream, ReadError},
    edits::Client,
    error::ProxyError,
    exchange,
    handshake::{self, Established},
    io::{Shut, Stream},
    live::Live,
    record,
    snapshot::Limits,
    standing::Standing,
    upstream::millis,
    worker::Worker,
};

/// A connection that has been let in.
pub(crate) struct Connection {
    // Declared before `downstream`: it must leave the table of live connections before the socket is closed.
    pub(crate) standing: Standing,
    pub(crate) downstream: Downstream,
    pub(crate) worker: Rc<Worker>,
    pub(crate) client: Client,
    pub(crate) peer_addr: SocketAddr,
    pub(crate) facts: Arc<ConnectionFacts>,
    /// What policies see of client and connection; made when the first one asks.
    pub(crate) subject: Option<Subject>,
}

/// What follows an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// The next one.
    Request,
    /// The end, in order.
    Close(CloseReason),
    /// The end, but the client may still be sending.
    Linger(CloseReason),
    /// The end, without a goodbye that could be taken for the end of a body.
    Cut(CloseReason),
}

/// Serves a connection to its end.
pub(crate) async fn serve(
    worker: Rc<Worker>,
    listener: Arc<str>,
    stream: Stream,
    peer: SocketAddr,
) -> CloseReason {
    let Some(mut connection) = open(&worker, &listener, stream, peer).await else {
        return CloseReason::HandshakeFailed;
    };
    loop {
        let reason = match connection.next().await {
            Next::Request => continue,
            Next::Close(reason) => {
                connection.downstream.close().await;
                reason
            }
            Next::Linger(reason) => {
                connection.downstream.close().await;
                connection.downstream.linger().await;
                reason
            }
            Next::Cut(reason) => reason,
        };
        return reason;
    }
}

async fn open(
    worker: &Rc<Worker>,
    listener: &str,
    stream: Stream,
    peer_addr: SocketAddr,
) -> Option<Connection> {
    let id = worker.connection_id();
    let view = worker.view();
    let listener = view.snapshot.listener(listener)?;
    let established = handshake::establish(worker, &view, listener, stream, peer_addr, id).await?;
    let Established { downstream, admission, peer, peer_valid_until } = established;
    let facts = record::connection(
        worker,
        listener,
        id,
        peer_addr,
        peer.as_deref(),
        admission.server_name.as_deref(),
    );
    let live = Live::enter(worker, downstream.deadline.clone(), admission);
    Some(Connection {
        standing: Standing::new(worker, &view, listener, live, peer_valid_until),
        downstream,
        worker: worker.clone(),
        client: Client::new(peer, peer_addr),
        peer_addr,
        facts: Arc::new(facts),
        subject: None,
    })
}

impl Connection {
    /// Waits for a request and serves it.
    async fn next(&mut self) -> Next {
        let Some(limits) = self.limits() else { return Next::Close(CloseReason::Removed) };
        if self.downstream.buffered().is_empty()
            && let Err(error) = self.wait(&limits).await
        {
            return self.ended(&error);
        }
        let mut head = self.worker.heads.request();
        let next = match self.read_head(&mut head, &limits).await {
            // Boxed: its state is much larger than what an idle connection should have to keep.
            Ok(()) => Box::pin(exchange::run(self, &head)).await,
            Err(next) => next,
        };
        self.worker.heads.put_request(head);
        next
    }

    /// Waits for the first bytes of a request, as an idle connection.
    async fn wait(&mut self, limits: &Limits) -> Result<(), ReadError> {
        self.downstream.deadline.set(self.standing.patience(limits.idle_timeout), Shut::Read);
        self.standing.live().idle();
        if !self.downstream.is_busy() {
            // As much memory as all the rest of an idle connection, and made again in microseconds.
            self.subject = None;
        }
        self.downstream.wait().await
    }

    /// Reads a request's head to its end. Its bytes are used up.
    async fn read_head(&mut self, head: &mut RequestHead, limits: &Limits) -> Result<(), Next> {
        self.standing.live().busy();
        head.clear();
        let mut waits = false;
        loop {
            match head.parse(self.downstream.buffered(), &limits.head) {
                Ok(Some(length)) => {
                    self.downstream.deadline.clear();
                    self.downstream.consume(length);
                    return Ok(());
                }
                Ok(None) => {}
                Err(error) => return Err(Box::pin(exchange::refuse(self, error.into())).await),
            }
            if !waits {
                self.downstream.deadline.set(millis(limits.header_timeout), Shut::Read);
                waits = true;
            }
            match self.downstream.fill().await {
                Ok(()) => {}
                Err(ReadError::Closed) if self.downstream.deadline.fired() => {
                    let error = ProxyError::HeadTimeout(limits.header_timeout);
                    return Err(Box::pin(exchange::refuse(self, error)).await);
                }
                Err(error) => return Err(self.ended(&error)),
            }
        }
    }

    /// Nothing more can be read, and nothing of a request is there.
    fn ended(&self, error: &ReadError) -> Next {
        match error {
            ReadError::Tls(_) => Next::Close(CloseReason::Tls),
            ReadError::Io(_) => Next::Cut(CloseReason::Io),
            ReadError::Closed if self.downstream.deadline.fired() || self.standing.live().was_cut() => {
                Next::Close(self.standing.outlived().unwrap_or(CloseReason::IdleTimeout))
            }
            ReadError::Closed => Next::Close(CloseReason::Peer),
        }
    }

    fn limits(&self) -> Option<Limits> {
        let view = self.worker.view();
        view.snapshot.listener(&self.standing.admission().listener).map(|listener| listener.limits.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size_of_future<A, B, C, D, F>(_: impl Fn(A, B, C, D) -> F) -> usize {
        size_of::<F>()
    }

    /// Every connection has room for the whole of its state, idle or not.
    #[test]
    fn a_connection_takes_little_memory_of_its_own() {
        let size = size_of_future(serve);
        assert!(size <= 1536, "{size} bytes");
    }
}
