//! The response of a stream of HTTP/2: the upstream's, or our own.

use std::{
    cell::RefCell,
    future::poll_fn,
    io,
    rc::Rc,
    task::{Context, Poll, ready},
};

use h2::{Reason, SendStream, server::SendResponse};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header::CONTENT_TYPE};
use ringward_http::{
    BodyFraming, ResponseHead,
    write::{self, ResponseFraming, WriteError},
};

use ringward_telemetry::GrpcStatus;

use super::{piece::Piece, room::poll_room, wire::Wire};
use crate::{
    client_side::Sink,
    compression::Recoded,
    grpc,
    io::{BufferPool, Deadline},
    relay::Plan,
    respond,
};

/// A stream's sending side.
pub(super) struct Responder {
    respond: SendResponse<Piece>,
    /// Once the head of the response was sent.
    stream: Option<SendStream<Piece>>,
    /// A head that leaves with what follows.
    head: Option<Response<()>>,
    trailers: Option<HeaderMap>,
    /// The request is one for a head alone, also if it cannot be read.
    is_for_head: bool,
    /// All was handed over to be sent.
    complete: bool,
    buffers: Rc<BufferPool>,
}

impl Responder {
    pub(super) fn new(respond: SendResponse<Piece>, is_for_head: bool, buffers: Rc<BufferPool>) -> Responder {
        Responder { respond, stream: None, head: None, trailers: None, is_for_head, complete: false, buffers }
    }

    /// Whether the request was answered to its end.
    pub(super) fn is_complete(&self) -> bool {
        self.complete
    }

    /// Ready when the client has called the stream off, or is gone.
    pub(super) fn poll_reset(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.stream {
            Some(stream) => stream.poll_reset(cx),
            None => self.respond.poll_reset(cx),
        }
        .map(drop)
    }

    pub(super) fn ask_for_body(&mut self) -> io::Result<()> {
        self.inform(100, HeaderMap::new())
    }

    /// Prepares the head of our own answer to an error; what is its body.
    pub(super) fn prepare<'e>(&mut self, status: u16, content: &respond::Content<'e>) -> &'e str {
        let mut named = Named::default();
        // As on HTTP/1.1, what cannot be set is left out: an answer without it is better than none.
        let settable = content.fields.iter().filter(|(name, value)| write::is_settable(name, value));
        settable.for_each(|(name, value)| named.add(name.as_bytes(), value));
        if !content.body.is_empty() && !named.fields.contains_key(CONTENT_TYPE) {
            named.add(b"content-type", b"text/plain; charset=utf-8");
        }
        let has_body = !matches!(status, 204 | 304);
        if has_body {
            named.add(b"content-length", itoa::Buffer::new().format(content.body.len()).as_bytes());
        }
        self.head = Some(response(status, named.fields));
        if self.is_for_head || !has_body { "" } else { content.body }
    }

    /// Prepares the head of our own answer to an error of a gRPC call, which has no body.
    pub(super) fn prepare_grpc(&mut self, status: GrpcStatus, content: &respond::Content<'_>) {
        let mut named = Named::default();
        grpc::trailers_only(status, content, |name, value| named.add(name, value));
        self.head = Some(response(200, named.fields));
    }

    /// Ends the stream so that nobody takes it for whole.
    pub(super) fn reset(&mut self, reason: Reason) {
        match &mut self.stream {
            Some(stream) => stream.send_reset(reason),
            None => self.respond.send_reset(reason),
        }
    }

    fn inform(&mut self, status: u16, fields: HeaderMap) -> io::Result<()> {
        self.respond.send_informational(response(status, fields)).map_err(io::Error::other)
    }

    /// Sends the head, if that is yet to be done; with `last`, nothing follows it.
    fn begin(&mut self, last: bool) -> io::Result<()> {
        if let Some(head) = self.head.take() {
            self.stream = Some(self.respond.send_response(head, last).map_err(io::Error::other)?);
            self.complete = last;
        }
        Ok(())
    }

    /// Sends bytes for which there is capacity.
    fn push(&mut self, bytes: &[u8], last: bool) -> io::Result<()> {
        let piece = Piece::copy(bytes, &self.buffers);
        let stream = self.stream.as_mut().ok_or(io::ErrorKind::NotConnected)?;
        let trailers = if last { self.trailers.take() } else { None };
        let ends_here = last && trailers.is_none();
        if !bytes.is_empty() || ends_here {
            stream.send_data(piece, ends_here).map_err(io::Error::other)?;
        }
        if let Some(trailers) = trailers {
            stream.send_trailers(trailers).map_err(io::Error::other)?;
        }
        self.complete = last;
        Ok(())
    }

    fn reserve(&mut self, bytes: usize) {
        if let Some(stream) = &mut self.stream {
            stream.reserve_capacity(bytes);
        }
    }

    /// How many bytes may be sent now.
    fn poll_capacity(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let room = match &mut self.stream {
            Some(stream) => ready!(poll_room(stream, cx)),
            None => None,
        };
        Poll::Ready(room.and_then(Result::ok).ok_or_else(|| io::ErrorKind::BrokenPipe.into()))
    }
}

/// Where the relay sends a response.
pub(super) struct ResponseSink<'a> {
    responder: &'a RefCell<Responder>,
    deadline: &'a Deadline,
    wire: &'a Wire,
}

impl<'a> ResponseSink<'a> {
    pub(super) fn new(
        responder: &'a RefCell<Responder>,
        deadline: &'a Deadline,
        wire: &'a Wire,
    ) -> ResponseSink<'a> {
        ResponseSink { responder, deadline, wire }
    }

    async fn capacity(&self, wanted: usize) -> io::Result<usize> {
        self.responder.borrow_mut().reserve(wanted);
        poll_fn(|cx| {
            if let Poll::Ready(capacity) = self.responder.borrow_mut().poll_capacity(cx) {
                return Poll::Ready(capacity);
            }
            self.deadline.poll_fired(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
        })
        .await
    }
}

impl Sink for ResponseSink<'_> {
    async fn ask_for_body(&mut self) -> io::Result<()> {
        self.responder.borrow_mut().ask_for_body()
    }

    fn interim(&mut self, plan: &Plan<'_>, _out: &mut Vec<u8>, head: &ResponseHead) {
        let mut named = Named::default();
        // Nothing is set, so nothing can be refused.
        let _ = plan.edits.response_fields(plan.head, head, None, |name, value| named.add(name, value));
        // A client that is gone is noticed with what follows.
        let _ = self.responder.borrow_mut().inform(head.status(), named.fields);
    }

    fn head(
        &mut self,
        plan: &Plan<'_>,
        _out: &mut Vec<u8>,
        head: &ResponseHead,
        _keep_alive: bool,
        recoded: Option<&Recoded>,
    ) -> Result<ResponseFraming, WriteError> {
        let mut named = Named::default();
        plan.edits.response_fields(plan.head, head, recoded, |name, value| named.add(name, value))?;
        if named.is_incomplete {
            return Err(WriteError::BadValue { index: 0 });
        }
        self.responder.borrow_mut().head = Some(response(head.status(), named.fields));
        // Bytes are bytes here, whatever delimits them.
        Ok(ResponseFraming { body: BodyFraming::UntilClose, keep_alive: true })
    }

    fn switch(
        &mut self,
        plan: &Plan<'_>,
        _out: &mut Vec<u8>,
        head: &ResponseHead,
        _protocol: &str,
    ) -> Result<u16, WriteError> {
        let mut named = Named::default();
        plan.edits.response_fields(plan.head, head, None, |name, value| {
            // RFC 8441 §5: the proof is for HTTP/1.1 alone.
            if !name.eq_ignore_ascii_case(b"sec-websocket-accept") {
                named.add(name, value);
            }
        })?;
        if named.is_incomplete {
            return Err(WriteError::BadValue { index: 0 });
        }
        self.responder.borrow_mut().head = Some(response(OPEN_STATUS, named.fields));
        Ok(OPEN_STATUS)
    }

    fn end<'t>(
        &mut self,
        _out: &mut Vec<u8>,
        trailers: impl Iterator<Item = (&'t str, &'t [u8])>,
        _rechunk: bool,
    ) {
        if let Some(allowed) = Named::trailers(trailers) {
            self.responder.borrow_mut().trailers = Some(allowed);
        }
    }

    fn is_pending(&self, last: bool) -> bool {
        last || self.responder.borrow().head.is_some()
    }

    async fn send(&mut self, plain: &[u8], last: bool, progressed: impl Fn()) -> io::Result<()> {
        let ends_with_head = {
            let mut responder = self.responder.borrow_mut();
            let ends = last && plain.is_empty() && responder.head.is_some() && responder.trailers.is_none();
            responder.begin(ends)?;
            ends
        };
        if ends_with_head {
            return Ok(());
        }
        let mut rest = plain;
        while !rest.is_empty() {
            let n = self.capacity(rest.len()).await?.min(rest.len());
            let piece;
            (piece, rest) = rest.split_at(n);
            self.responder.borrow_mut().push(piece, last && rest.is_empty())?;
            self.wire.meter.borrow_mut().sent_data(n, !rest.is_empty());
            progressed();
        }
        if last && plain.is_empty() {
            self.responder.borrow_mut().push(&[], true)?;
        }
        Ok(())
    }
}

/// What opens a tunnel (RFC 8441 §4).
const OPEN_STATUS: u16 = 200;

/// Fields as the crate wants them.
#[derive(Default)]
pub(crate) struct Named {
    pub(crate) fields: HeaderMap,
    /// Something could not be taken over.
    pub(crate) is_incomplete: bool,
}

impl Named {
    pub(crate) fn add(&mut self, name: &[u8], value: &[u8]) {
        let appended = match (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
            (Ok(name), Ok(value)) => self.fields.try_append(name, value).is_ok(),
            _ => false,
        };
        self.is_incomplete |= !appended;
    }

    /// Those of `trailers` that may go on, if there are any.
    pub(crate) fn trailers<'t>(trailers: impl Iterator<Item = (&'t str, &'t [u8])>) -> Option<HeaderMap> {
        let mut named = Named::default();
        let allowed = trailers.filter(|(name, value)| write::is_trailer(name.as_bytes(), value));
        allowed.for_each(|(name, value)| named.add(name.as_bytes(), value));
        Some(named.fields).filter(|fields| !fields.is_empty())
    }
}

fn response(status: u16, fields: HeaderMap) -> Response<()> {
    let mut response = Response::new(());
    // Statuses of upstreams are from 100 to 599, and ours are of a table; a policy's was checked when it was read.
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    *response.headers_mut() = fields;
    response
}
