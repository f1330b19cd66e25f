//! One request on a connection that it shares with others.

mod body;

use std::{
    cell::Cell,
    future::poll_fn,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use bytes::{Buf, Bytes};
use h2::{RecvStream, SendStream, client::ResponseFuture};
use http::{HeaderMap, Method, Request, Response, Uri, uri};
use ringward_config::EndpointAddr;
use ringward_http::{
    BodyFraming, Http2Response, RequestHead, RequestKind, ResponseHead,
    write::{self, WriteError},
};
use ringward_tls::EndpointTls;

use self::body::Body;
use super::{
    SharedPool, Terms,
    link::Link,
    pool::Lease,
    tunnel::{self, StreamInlet, StreamOutlet},
};
use crate::{
    client_side::Sink,
    error::ProxyError,
    h2::{Named, Piece, poll_room},
    io::{BufferPool, Deadline, LARGE},
    relay::{Download, Plan},
    upgrade::Asked,
    upstream_side::{RequestSink, ResponseSource, UpstreamSide},
    worker::Worker,
};

/// A request as the upstream's side of its exchange. Dropped before its end it is called off.
pub(crate) struct Stream {
    /// A head that leaves with what follows.
    request: Option<Request<()>>,
    trailers: Option<HeaderMap>,
    /// Once the head was sent.
    sending: Option<SendStream<Piece>>,
    response: Cell<Option<ResponseFuture>>,
    /// Once the final head has arrived.
    body: Option<RecvStream>,
    /// A timer: the socket is everybody's.
    deadline: Deadline,
    buffers: Rc<BufferPool>,
    /// Last, so that the place is free when it is given back.
    lease: Lease,
}

impl Stream {
    /// A stream to be, on a connection to `addr`.
    ///
    /// # Errors
    /// When no connection has a place for it in time.
    pub(crate) async fn open(
        pool: &Rc<SharedPool>,
        addr: &EndpointAddr,
        tls: Option<&Rc<EndpointTls>>,
        terms: &Terms,
        worker: &Rc<Worker>,
        fresh: bool,
    ) -> io::Result<Stream> {
        let lease = pool.lease(addr, tls, terms, worker, fresh).await?;
        Ok(Stream {
            request: None,
            trailers: None,
            sending: None,
            response: Cell::new(None),
            body: None,
            deadline: worker.deadlines.timer(),
            buffers: worker.buffers.clone(),
            lease,
        })
    }

    pub(crate) fn addr(&self) -> &EndpointAddr {
        &self.lease.link.addr
    }

    /// Its connection has carried a request before.
    pub(crate) fn is_reused(&self) -> bool {
        self.lease.reused
    }
}

impl UpstreamSide for Stream {
    const SAYS_UNPROCESSED: bool = true;
    type Sink<'a> = Sending<'a>;
    type Source<'a> = Receiving<'a>;
    type Inlet<'a> = StreamInlet<'a>;
    type Outlet<'a> = StreamOutlet<'a>;

    fn deadline(&self) -> &Deadline {
        &self.deadline
    }

    fn head(&mut self, plan: &Plan<'_>, _out: &mut Vec<u8>) -> Result<(), ProxyError> {
        let mut image = plan.buffers.small();
        let request = plan
            .edits
            .request_fields(&mut image, plan.head)
            .and_then(|fields| request(plan.head, fields, &self.lease.link.scheme));
        plan.buffers.put(image);
        let mut request = request?;
        if let Some(asked) = plan.asked {
            tunnel::ask(&self.lease.link, &mut request, asked)?;
        }
        self.request = Some(request);
        Ok(())
    }

    fn split<'a>(&'a mut self, plan: &'a Plan<'_>) -> (Sending<'a>, Receiving<'a>, &'a Deadline) {
        let Stream { request, trailers, sending, response, body, deadline, buffers, lease } = self;
        let (link, response) = (&*lease.link, &*response);
        let common = Common { plan, deadline, link };
        let sending = Sending { common, request, trailers, sending, response, buffers };
        (sending, Receiving { common, response, future: None, body, untouched: true }, deadline)
    }

    fn tunnel<'a>(
        &'a mut self,
        _early: Vec<u8>,
        buffers: &'a BufferPool,
    ) -> (StreamInlet<'a>, StreamOutlet<'a>) {
        let link = &*self.lease.link;
        let inlet = StreamInlet::new(&mut self.body, link, buffers);
        (inlet, StreamOutlet::new(&mut self.sending, link, &self.buffers))
    }
}

/// The request as the crate wants it.
fn request(
    head: &RequestHead,
    written: write::Http2Fields<'_>,
    scheme: &uri::Scheme,
) -> Result<Request<()>, WriteError> {
    let bad = |_| WriteError::BadTarget;
    let mut named = Named::default();
    written.fields().for_each(|(name, value)| named.add(name, value));
    if named.is_incomplete {
        return Err(WriteError::BadValue { index: 0 });
    }
    let mut parts = uri::Parts::default();
    parts.path_and_query = Some(uri::PathAndQuery::try_from(written.target).map_err(bad)?);
    if !written.authority.is_empty() {
        parts.scheme = Some(scheme.clone());
        parts.authority = Some(uri::Authority::try_from(written.authority).map_err(bad)?);
    }
    let mut request = Request::new(());
    *request.uri_mut() = Uri::from_parts(parts).map_err(|_| WriteError::BadTarget)?;
    *request.method_mut() =
        Method::from_bytes(head.method().as_bytes()).map_err(|_| WriteError::BadTarget)?;
    *request.headers_mut() = named.fields;
    Ok(request)
}

/// What both directions have.
#[derive(Clone, Copy)]
struct Common<'a> {
    plan: &'a Plan<'a>,
    deadline: &'a Deadline,
    link: &'a Link,
}

impl Common<'_> {
    fn poll_late(&self, cx: &Context<'_>) -> Poll<ProxyError> {
        self.deadline.poll_fired(cx).map(|()| {
            if self.deadline.fired() {
                // Who has little time says nothing about the upstream.
                if !self.deadline.is_limit_reached() {
                    self.link.suspect();
                }
                ProxyError::UpstreamTimeout(self.plan.response_timeout)
            } else {
                // The client has gone.
                ProxyError::UpstreamReset(io::ErrorKind::ConnectionAborted.into())
            }
        })
    }
}

/// A request on its way.
pub(crate) struct Sending<'a> {
    common: Common<'a>,
    request: &'a mut Option<Request<()>>,
    trailers: &'a mut Option<HeaderMap>,
    sending: &'a mut Option<SendStream<Piece>>,
    response: &'a Cell<Option<ResponseFuture>>,
    buffers: &'a Rc<BufferPool>,
}

impl Sending<'_> {
    /// Sends the head, if that is yet to be done; with `last`, nothing follows it.
    fn begin(&mut self, last: bool) -> Result<(), ProxyError> {
        let Some(request) = self.request.take() else { return Ok(()) };
        let link = self.common.link;
        // The connection has been told to end since the place was given.
        let unprocessed = ProxyError::UpstreamUnprocessed(h2::Reason::NO_ERROR);
        let mut sender = link.sender().ok_or(unprocessed)?;
        let (response, sending) = sender.send_request(request, last).map_err(|error| link.failure(error))?;
        self.response.set(Some(response));
        *self.sending = Some(sending);
        Ok(())
    }

    /// How many bytes may be sent now.
    async fn capacity(&mut self, wanted: usize) -> Result<usize, ProxyError> {
        let Sending { sending, common, .. } = self;
        let stream = sending.as_mut().ok_or(ProxyError::UpstreamClosed)?;
        stream.reserve_capacity(wanted);
        poll_fn(|cx| {
            if let Poll::Ready(capacity) = poll_capacity(stream, common.link, cx) {
                return Poll::Ready(capacity);
            }
            common.poll_late(cx).map(Err)
        })
        .await
    }

    /// `cut`: the window has no room for what follows.
    fn push(&mut self, piece: Piece, last: bool, cut: bool) -> Result<(), ProxyError> {
        let stream = self.sending.as_mut().ok_or(ProxyError::UpstreamClosed)?;
        push(stream, self.common.link, piece, last, cut)
    }

    /// Sends everything of `bytes`, which are used up if they need not be copied.
    async fn push_all(
        &mut self,
        bytes: &mut Vec<u8>,
        last: bool,
        progressed: impl Fn(),
    ) -> Result<(), ProxyError> {
        let buffers = self.buffers;
        let trailers = if last { self.trailers.take() } else { None };
        let ends = last && trailers.is_none();
        if bytes.is_empty() && ends && self.request.is_some() {
            return self.begin(true);
        }
        self.begin(false)?;
        if bytes.is_empty() && ends {
            return self.push(Piece::whole(Vec::new(), buffers), true, false);
        }
        let mut sent = 0;
        while sent < bytes.len() {
            let left = bytes.len() - sent;
            let n = self.capacity(left).await?.min(left);
            if n == bytes.len() {
                self.push(Piece::whole(std::mem::take(bytes), buffers), ends, false)?;
                break;
            }
            self.push(Piece::copy(&bytes[sent..sent + n], buffers), ends && n == left, n < left)?;
            sent += n;
            progressed();
        }
        match trailers {
            Some(trailers) => {
                let stream = self.sending.as_mut().ok_or(ProxyError::UpstreamClosed)?;
                let link = self.common.link;
                stream.send_trailers(trailers).map_err(|error| link.failure(error))
            }
            None => Ok(()),
        }
    }
}

/// How many bytes may be sent now, of those for which [`SendStream::reserve_capacity`] was called.
pub(super) fn poll_capacity(
    stream: &mut SendStream<Piece>,
    link: &Link,
    cx: &mut Context<'_>,
) -> Poll<Result<usize, ProxyError>> {
    poll_room(stream, cx).map(|room| match room {
        Some(room) => room.map_err(|error| link.failure(error)),
        None => Err(ProxyError::UpstreamClosed),
    })
}

/// Sends a piece for which there is capacity. `cut`: the window has no room for what follows.
pub(super) fn push(
    stream: &mut SendStream<Piece>,
    link: &Link,
    piece: Piece,
    last: bool,
    cut: bool,
) -> Result<(), ProxyError> {
    let bytes = piece.remaining();
    stream.send_data(piece, last).map_err(|error| link.failure(error))?;
    link.wire.meter.borrow_mut().sent_data(bytes, cut);
    Ok(())
}

impl RequestSink for Sending<'_> {
    fn piece(&self, out: &mut Vec<u8>, data: &[u8]) {
        out.extend_from_slice(data);
    }

    fn end<'t>(&mut self, _out: &mut Vec<u8>, trailers: impl Iterator<Item = (&'t str, &'t [u8])>) {
        if let Some(allowed) = Named::trailers(trailers) {
            *self.trailers = Some(allowed);
        }
    }

    fn is_pending(&self, last: bool) -> bool {
        last || self.request.is_some()
    }

    async fn send(
        &mut self,
        mut bytes: Vec<u8>,
        last: bool,
        progressed: impl Fn(),
    ) -> (Result<(), ProxyError>, Vec<u8>) {
        let sent = self.push_all(&mut bytes, last, progressed).await;
        (sent, bytes)
    }
}

/// A response on its way.
pub(crate) struct Receiving<'a> {
    common: Common<'a>,
    response: &'a Cell<Option<ResponseFuture>>,
    future: Option<ResponseFuture>,
    body: &'a mut Option<RecvStream>,
    untouched: bool,
}

/// A head that has arrived.
enum Arrived {
    Interim(Response<()>),
    Final(Response<RecvStream>),
}

impl<'a> ResponseSource for Receiving<'a> {
    type Body<'s>
        = Body<'s, 'a>
    where
        Self: 's;

    fn is_untouched(&self) -> bool {
        self.untouched
    }

    async fn head(&mut self, head: &mut ResponseHead) -> Result<(), ProxyError> {
        let arrived = self.arrived().await?;
        self.untouched = false;
        match arrived {
            Arrived::Interim(response) => {
                self.take_head(head, response.status().as_u16(), response.headers(), false)
            }
            Arrived::Final(response) => {
                let (parts, body) = response.into_parts();
                let ends = body.is_end_stream();
                *self.body = Some(body);
                self.take_head(head, parts.status.as_u16(), &parts.headers, ends)
            }
        }
    }

    async fn stream<S: Sink>(
        &mut self,
        download: &mut Download<'_, S>,
        head: &ResponseHead,
        out: &mut Vec<u8>,
    ) -> Result<bool, ProxyError> {
        let mut left = match head.body() {
            BodyFraming::None => {
                download.finish(out, true).await?;
                return Ok(true);
            }
            BodyFraming::Length(length) => Some(length),
            _ => None,
        };
        // The head leaves before anything is waited for.
        let mut waits = false;
        loop {
            let (taken, ended) = self.gather(download, out, waits, &mut left).await?;
            if ended {
                let trailers = self.trailers().await?.unwrap_or_default();
                let fields = || trailers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
                let limits = self.common.plan.head_limits;
                limits.check_trailers(fields()).map_err(ProxyError::UpstreamChunk)?;
                download.end(out, fields());
            }
            download.finish(out, ended).await?;
            if ended {
                return Ok(true);
            }
            // Only now may the upstream send as much again.
            self.release(taken);
            waits = true;
        }
    }

    fn body<'s>(&'s mut self, head: &ResponseHead) -> Body<'s, 'a> {
        Body::new(self, head.body())
    }

    /// What follows is in the stream.
    fn into_rest(self) -> Vec<u8> {
        Vec::new()
    }
}

impl Receiving<'_> {
    async fn arrived(&mut self) -> Result<Arrived, ProxyError> {
        let Receiving { common, response, future, .. } = self;
        if let Some(sent) = response.take() {
            *future = Some(sent);
        }
        let future = future.as_mut().ok_or(ProxyError::UpstreamClosed)?;
        poll_fn(|cx| {
            let failed = |error| Err(common.link.failure(error));
            match future.poll_informational(cx) {
                Poll::Ready(Some(Ok(interim))) => return Poll::Ready(Ok(Arrived::Interim(interim))),
                Poll::Ready(Some(Err(error))) => return Poll::Ready(failed(error)),
                Poll::Ready(None) | Poll::Pending => {}
            }
            if let Poll::Ready(response) = Pin::new(&mut *future).poll(cx) {
                return Poll::Ready(response.map(Arrived::Final).or_else(failed));
            }
            common.poll_late(cx).map(Err)
        })
        .await
    }

    fn take_head(
        &self,
        head: &mut ResponseHead,
        status: u16,
        fields: &HeaderMap,
        ends: bool,
    ) -> Result<(), ProxyError> {
        let plan = self.common.plan;
        let kind = if plan.head.is_head() { RequestKind::Head } else { RequestKind::Other };
        let fields = fields.iter().map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes()));
        let response = Http2Response { status, ends, connect: plan.asked.map(Asked::connect) };
        let mut scratch = plan.buffers.small();
        let taken = head.take_http2(response, fields, kind, &mut scratch, plan.head_limits);
        plan.buffers.put(scratch);
        Ok(taken?)
    }

    /// Puts into `out`, framed for the client, what has arrived, up to about a buffer full; how much of it the window has to get
    /// back once it has been sent, and whether that was the end.
    async fn gather<S: Sink>(
        &mut self,
        download: &Download<'_, S>,
        out: &mut Vec<u8>,
        waits: bool,
        left: &mut Option<u64>,
    ) -> Result<(usize, bool), ProxyError> {
        let mut taken = 0;
        while out.len() < LARGE / 2 {
            let next = if waits && taken == 0 {
                download.await_upstream();
                self.next().await
            } else {
                match self.ready().await {
                    Some(next) => next,
                    None => return Ok((taken, false)),
                }
            };
            let data = match next {
                Ok(Some(data)) => data,
                Ok(None) => return Ok((taken, true)),
                Err(error) if is_behind_the_end(&error, *left) => {
                    *self.body = None;
                    return Ok((taken, true));
                }
                Err(error) => return Err(truncated(error, *left)),
            };
            download.piece(out, &data);
            download.count(data.len());
            taken += data.len();
            *left = left.map(|left| left.saturating_sub(data.len() as u64));
        }
        Ok((taken, false))
    }

    /// Waits for the next piece; `None` at the end.
    async fn next(&mut self) -> Result<Option<Bytes>, ProxyError> {
        poll_fn(|cx| {
            if let Poll::Ready(next) = self.poll_next(cx) {
                return Poll::Ready(next);
            }
            self.common.poll_late(cx).map(Err)
        })
        .await
    }

    /// The next piece, if it is there.
    async fn ready(&mut self) -> Option<Result<Option<Bytes>, ProxyError>> {
        poll_fn(|cx| match self.poll_next(cx) {
            Poll::Ready(next) => Poll::Ready(Some(next)),
            Poll::Pending => Poll::Ready(None),
        })
        .await
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, ProxyError>> {
        let Some(body) = self.body else { return Poll::Ready(Ok(None)) };
        body.poll_data(cx).map(|next| next.transpose().map_err(|error| self.common.link.failure(error)))
    }

    async fn trailers(&mut self) -> Result<Option<HeaderMap>, ProxyError> {
        let Receiving { common, body, .. } = self;
        let Some(body) = body else { return Ok(None) };
        poll_fn(|cx| {
            if let Poll::Ready(trailers) = body.poll_trailers(cx) {
                return Poll::Ready(trailers.map_err(|error| common.link.failure(error)));
            }
            common.poll_late(cx).map(Err)
        })
        .await
    }

    /// Gives so many bytes of the window back.
    fn release(&mut self, bytes: usize) {
        if let Some(body) = self.body {
            // Only a stream that is gone has no window.
            let _ = body.flow_control().release_capacity(bytes);
        }
    }
}

/// A connection that ends as soon as a response is whole, while the request is still being sent: of such a stream it is not known any
/// more that it had ended, but its length says so. There are no trailers then.
fn is_behind_the_end(error: &ProxyError, left: Option<u64>) -> bool {
    left == Some(0) && matches!(error, ProxyError::UpstreamClosed | ProxyError::UpstreamReset(_))
}

/// What an end within a body of known length means.
fn truncated(error: ProxyError, left: Option<u64>) -> ProxyError {
    match (error, left) {
        (ProxyError::UpstreamClosed, Some(missing @ 1..)) => ProxyError::UpstreamTruncated { missing },
        (error, _) => error,
    }
}

#[cfg(test)]
mod tests;
