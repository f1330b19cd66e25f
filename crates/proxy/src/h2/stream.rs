//! One stream: a request of HTTP/2 that is served like any other.

use std::{cell::RefCell, future::Future, future::poll_fn, io, pin::Pin, rc::Rc, task::Poll};

use h2::{Reason, RecvStream, server::SendResponse};
use http::{Method, Request, request::Parts};
use ringward_http::{BodyFraming, Http2Request, RequestError, RequestHead};

use super::{
    body::{Body, BodySource},
    course::Shared,
    piece::Piece,
    response::{Responder, ResponseSink},
    tunnel::{StreamInlet, StreamOutlet},
};
use crate::{
    client_side::{ClientSide, SessionFacts, Sink},
    connection::{Connection, Next},
    downstream::ReadError,
    error::ProxyError,
    exchange::{self, ANSWER_TIMEOUT, Opening, Outcome},
    grpc,
    io::{BufferPool, Deadline, Shut},
    relay::Progress,
    respond::{self, Answer, Content},
    upstream::millis,
};

/// Serves one stream; the tunnel that it has become, if it has.
pub(super) async fn serve(
    shared: Rc<Shared>,
    request: Request<RecvStream>,
    respond: SendResponse<Piece>,
) -> Option<Tunnel> {
    let mut head = shared.connection.worker.heads.request();
    let (mut stream, read) = open(&shared, &mut head, request, respond);
    // What follows is said to the client within the stream; the connection goes on.
    match read {
        Ok(()) => {
            if let Outcome::Tunnel(opening) = exchange::run(&shared.connection, &mut stream, &head).await {
                return Some(Tunnel { stream, head, opening });
            }
        }
        // Boxed, so that the many that are well-formed need not have room for it.
        Err(error) => {
            Box::pin(exchange::refuse(&shared.connection, &mut stream, error.into())).await;
        }
    }
    stream.over(head);
    None
}

/// A stream that has become a tunnel.
pub(super) struct Tunnel {
    stream: Stream,
    head: Box<RequestHead>,
    opening: Box<Opening>,
}

impl Tunnel {
    /// Carries it to its end.
    pub(super) async fn carry(self) {
        let Tunnel { mut stream, head, opening } = self;
        let connection = stream.shared.connection.clone();
        exchange::tunnel(&connection, &mut stream, &head, opening).await;
        stream.over(head);
    }
}

/// Takes a request apart: the stream, and whether its `head` could be read. Not a part of [`serve`], so that the parts take no
/// room while the request is served.
fn open(
    shared: &Rc<Shared>,
    head: &mut RequestHead,
    request: Request<RecvStream>,
    respond: SendResponse<Piece>,
) -> (Stream, Result<(), RequestError>) {
    let worker = &shared.connection.worker;
    let (parts, body) = request.into_parts();
    let body = Body::new(body);
    let read = read_head(shared, head, &parts, body.has_ended());
    let responder = Responder::new(respond, parts.method == Method::HEAD, worker.buffers.clone());
    let stream = Stream {
        deadline: Rc::new(worker.deadlines.timer()),
        body,
        responder: Rc::new(RefCell::new(responder)),
        shared: shared.clone(),
    };
    (stream, read)
}

fn read_head(shared: &Shared, head: &mut RequestHead, parts: &Parts, ends: bool) -> Result<(), RequestError> {
    let authority = parts.uri.authority().map(|authority| authority.as_str().as_bytes());
    // The crate has seen that there is a scheme, and forgets it where there is no authority.
    let unknown = if authority.is_none() { "https" } else { "" };
    let request = Http2Request {
        method: parts.method.as_str().as_bytes(),
        scheme: parts.uri.scheme_str().unwrap_or(unknown).as_bytes(),
        authority,
        path: parts.uri.path_and_query().map_or("", |path| path.as_str()).as_bytes(),
        protocol: parts.extensions.get::<h2::ext::Protocol>().map(|protocol| protocol.as_str().as_bytes()),
        ends,
    };
    let fields = parts.headers.iter().map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes()));
    let buffers = &shared.connection.worker.buffers;
    let mut scratch = buffers.small();
    let taken = head.take_http2(&request, fields, &mut scratch, &shared.limits.head);
    buffers.put(scratch);
    taken
}

/// A stream as the client's side of its exchange.
pub(super) struct Stream {
    /// A timer: the socket is everybody's.
    deadline: Rc<Deadline>,
    body: Body,
    responder: Rc<RefCell<Responder>>,
    shared: Rc<Shared>,
}

impl Stream {
    /// Prepares what the client is told of an error: its status and its body.
    fn prepare<'e>(
        &self,
        error: &ProxyError,
        answer: Answer,
        content: &Content<'e>,
        progress: &Progress,
    ) -> (u16, &'e str) {
        let mut responder = self.responder.borrow_mut();
        let Some(status) = progress.grpc.get().and_then(|_| grpc::status(error, answer)) else {
            return (answer.status, responder.prepare(answer.status, content));
        };
        responder.prepare_grpc(status, content);
        progress.grpc.set(Some(status));
        (200, "")
    }
}

impl Stream {
    /// Its exchange is over.
    fn over(&self, head: Box<RequestHead>) {
        self.shared.connection.worker.heads.put_request(head);
        if self.responder.borrow().is_complete() {
            self.shared.wire.meter.borrow_mut().served();
        }
    }
}

impl ClientSide for Stream {
    type Source<'a> = BodySource<'a>;
    type Sink<'a> = ResponseSink<'a>;
    type Inlet<'a> = StreamInlet<'a>;
    type Outlet<'a> = StreamOutlet<'a>;
    type Gone = Rc<RefCell<Responder>>;

    fn deadline(&self) -> &Rc<Deadline> {
        &self.deadline
    }

    fn socket(&self) -> &Rc<Deadline> {
        &self.shared.wire.deadline
    }

    fn framing(&self, head: &RequestHead) -> BodyFraming {
        match head.body() {
            // For the upstream. What is here are the bytes alone.
            BodyFraming::Chunked => BodyFraming::UntilClose,
            framing => framing,
        }
    }

    fn arrived(&self) -> &[u8] {
        self.body.arrived()
    }

    fn consume(&mut self, n: usize) {
        self.body.consume(n);
    }

    fn has_ended(&self) -> bool {
        self.body.has_ended()
    }

    async fn fill(&mut self) -> Result<(), ReadError> {
        self.body.fill(&self.deadline).await
    }

    async fn ask_for_body(&mut self) -> io::Result<()> {
        self.responder.borrow_mut().ask_for_body()
    }

    fn split(&mut self) -> (BodySource<'_>, ResponseSink<'_>) {
        let Stream { deadline, body, responder, shared } = self;
        (BodySource::new(body, deadline), ResponseSink::new(responder, deadline, &shared.wire))
    }

    fn tunnel<'a>(&'a mut self, buffers: &'a BufferPool) -> (StreamInlet<'a>, StreamOutlet<'a>) {
        let Stream { deadline, body, responder, shared } = self;
        let sink = ResponseSink::new(responder, deadline, &shared.wire);
        (StreamInlet::new(body, deadline, buffers), StreamOutlet::new(sink, buffers))
    }

    fn tunnel_over(&mut self, error: Option<&ProxyError>) -> Next {
        if error.is_some() {
            // RFC 8441 §4: as a reset of TCP.
            self.responder.borrow_mut().reset(Reason::CANCEL);
        }
        Next::Request
    }

    fn session(&mut self) -> SessionFacts {
        self.shared.session
    }

    fn gone(&self) -> Rc<RefCell<Responder>> {
        self.responder.clone()
    }

    async fn unless_gone<T>(
        responder: Rc<RefCell<Responder>>,
        mut work: Pin<&mut impl Future<Output = T>>,
    ) -> Option<T> {
        // What was called off before it has begun does not begin: it would open a connection to an upstream for nobody.
        let called_off = poll_fn(|cx| Poll::Ready(responder.borrow_mut().poll_reset(cx).is_ready())).await;
        if called_off {
            return None;
        }
        poll_fn(|cx| {
            // The work first: what it has done may be what ended the stream.
            if let Poll::Ready(done) = work.as_mut().poll(cx) {
                return Poll::Ready(Some(done));
            }
            responder.borrow_mut().poll_reset(cx).map(|()| None)
        })
        .await
    }

    async fn answer(
        &mut self,
        connection: &Connection,
        _head: &RequestHead,
        progress: &Progress,
        error: &ProxyError,
        _request_unread: bool,
    ) -> Next {
        if let ProxyError::TrustWithdrawn { withdrawal, .. } = error {
            self.shared.end(withdrawal.close_reason());
        }
        let answer = respond::answer(error);
        if progress.status.get() != 0 || answer.status == 0 {
            self.responder.borrow_mut().reset(match error {
                // RFC 9113 §8.7: it was not processed, and may be tried on another connection.
                ProxyError::TrustWithdrawn { .. } => Reason::REFUSED_STREAM,
                ProxyError::ClientGone
                | ProxyError::ClientStalled(_)
                | ProxyError::GrpcTimeout(_)
                | ProxyError::RequestTimeout(_) => Reason::CANCEL,
                _ => Reason::INTERNAL_ERROR,
            });
            return Next::Request;
        }
        let date = connection.worker.clock.date();
        let content = respond::content(error, answer, &date);
        let (status, body) = self.prepare(error, answer, &content, progress);
        progress.status.set(status);
        progress.sent.set(body.len() as u64);
        // It may be that the time was what failed.
        self.deadline.rearm();
        self.deadline.set(millis(ANSWER_TIMEOUT.min(self.shared.limits.body_timeout)), Shut::Both);
        let sent = self.split().1.send(body.as_bytes(), true, || {}).await;
        if sent.is_err() {
            self.responder.borrow_mut().reset(Reason::CANCEL);
        }
        Next::Request
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size_of_future<A, B, C, F>(_: impl Fn(A, B, C) -> F) -> usize {
        size_of::<F>()
    }

    /// A client may have many streams, and each has room for the whole of its state.
    #[test]
    fn a_stream_takes_little_memory_of_its_own() {
        let size = size_of_future(serve);
        // The allocator gives blocks of 3,072 bytes for whatever is above 2,560.
        assert!(size <= 3072, "{size} bytes");
    }
}
