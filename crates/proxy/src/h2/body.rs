//! The body of a request of HTTP/2: its frames, and the window that is given back for them.

use std::{
    future::poll_fn,
    rc::Rc,
    task::{Context, Poll},
};

use bytes::Bytes;
use h2::RecvStream;
use http::HeaderMap;
use ringward_identity::headers::is_stripped_inbound;

use crate::{
    client_side::Source,
    downstream::ReadError,
    error::ProxyError,
    io::{Deadline, LARGE},
    relay::Upload,
    upstream_side::RequestSink,
};

/// A body that arrives.
pub(super) struct Body {
    stream: RecvStream,
    /// What was read ahead and is not used up, from `taken` on.
    ahead: Vec<u8>,
    taken: usize,
    ended: bool,
}

impl Body {
    pub(super) fn new(stream: RecvStream) -> Body {
        let ended = stream.is_end_stream();
        Body { stream, ahead: Vec::new(), taken: 0, ended }
    }

    pub(super) fn arrived(&self) -> &[u8] {
        &self.ahead[self.taken..]
    }

    pub(super) fn consume(&mut self, n: usize) {
        self.taken += n;
        debug_assert!(self.taken <= self.ahead.len());
        if self.taken == self.ahead.len() {
            (self.ahead, self.taken) = (Vec::new(), 0);
        }
    }

    /// Nothing follows what has arrived, trailers aside.
    pub(super) fn has_ended(&self) -> bool {
        self.ended
    }

    /// Waits for more to read ahead, or for the end. The window is given back at once: who reads ahead bounds what is held.
    pub(super) async fn fill(&mut self, deadline: &Deadline) -> Result<(), ReadError> {
        if let Some(data) = self.next(deadline).await? {
            self.ahead.extend_from_slice(&data);
            self.release(data.len());
        }
        Ok(())
    }

    /// Waits for the next piece; `None` at the end.
    pub(super) async fn next(&mut self, deadline: &Deadline) -> Result<Option<Bytes>, ReadError> {
        poll_fn(|cx| {
            if let Poll::Ready(next) = self.poll_next(cx) {
                return Poll::Ready(next);
            }
            deadline.poll_fired(cx).map(|()| Err(ReadError::Closed))
        })
        .await
    }

    /// The next piece, if it is there.
    pub(super) async fn ready(&mut self) -> Option<Result<Option<Bytes>, ReadError>> {
        poll_fn(|cx| match self.poll_next(cx) {
            Poll::Ready(next) => Poll::Ready(Some(next)),
            Poll::Pending => Poll::Ready(None),
        })
        .await
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, ReadError>> {
        if self.ended {
            return Poll::Ready(Ok(None));
        }
        self.stream.poll_data(cx).map(|next| match next {
            Some(Ok(data)) => Ok(Some(data)),
            // The client has called the stream off, broken its rules, or gone.
            Some(Err(_)) => Err(ReadError::Closed),
            None => {
                self.ended = true;
                Ok(None)
            }
        })
    }

    /// Gives so many bytes of the window back.
    pub(super) fn release(&mut self, bytes: usize) {
        // Only a stream that is gone has no window.
        let _ = self.stream.flow_control().release_capacity(bytes);
    }

    async fn trailers(&mut self, deadline: &Deadline) -> Result<Option<HeaderMap>, ReadError> {
        poll_fn(|cx| {
            if let Poll::Ready(trailers) = self.stream.poll_trailers(cx) {
                return Poll::Ready(trailers.map_err(|_| ReadError::Closed));
            }
            deadline.poll_fired(cx).map(|()| Err(ReadError::Closed))
        })
        .await
    }
}

/// A body on its way to the upstream.
pub(super) struct BodySource<'a> {
    body: &'a mut Body,
    deadline: &'a Rc<Deadline>,
}

impl<'a> BodySource<'a> {
    pub(super) fn new(body: &'a mut Body, deadline: &'a Rc<Deadline>) -> BodySource<'a> {
        BodySource { body, deadline }
    }

    /// Puts into `out`, framed for the upstream, what has arrived, up to about a buffer full; how much of it the window has to
    /// get back once it has been sent.
    async fn gather<S: RequestSink>(
        &mut self,
        upload: &Upload<'_, S>,
        out: &mut Vec<u8>,
    ) -> Result<usize, ProxyError> {
        if !self.body.arrived().is_empty() {
            let n = self.body.arrived().len().min(LARGE / 2);
            frame(upload, &self.body.arrived()[..n], out)?;
            self.body.consume(n);
            return Ok(0);
        }
        let mut taken = 0;
        while out.len() < LARGE / 2 {
            let next = if taken == 0 {
                upload.await_client();
                self.body.next(self.deadline).await
            } else {
                // What is there leaves before anything is waited for.
                let Some(next) = self.body.ready().await else { break };
                next
            };
            match next.map_err(|error| upload.read_failure(&error))? {
                Some(data) => {
                    frame(upload, &data, out)?;
                    taken += data.len();
                }
                None => break,
            }
        }
        Ok(taken)
    }

    /// Writes the end of the body, with the trailers that may go on.
    async fn end<S: RequestSink>(
        &mut self,
        upload: &mut Upload<'_, S>,
        out: &mut Vec<u8>,
    ) -> Result<(), ProxyError> {
        upload.await_client();
        let trailers =
            self.body.trailers(self.deadline).await.map_err(|error| upload.read_failure(&error))?;
        let trailers = trailers.unwrap_or_default();
        let fields = trailers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
        upload.plan.head_limits.check_trailers(fields)?;
        let is_stripped = |name: &str| is_stripped_inbound(name.as_bytes());
        // Fields, of which several may have one name.
        let stripped = trailers.iter().filter(|(name, _)| is_stripped(name.as_str())).count();
        upload.plan.progress.stripped_trailers.set(stripped as u64);
        let kept = trailers.iter().filter(|(name, _)| !is_stripped(name.as_str()));
        upload.end(out, kept.map(|(name, value)| (name.as_str(), value.as_bytes())));
        Ok(())
    }
}

/// Writes a piece of the body as the upstream gets it.
fn frame<S: RequestSink>(upload: &Upload<'_, S>, data: &[u8], out: &mut Vec<u8>) -> Result<(), ProxyError> {
    upload.check_limit(data.len())?;
    upload.count(data.len());
    // The crate compares what arrives with a declared length.
    upload.piece(out, data);
    Ok(())
}

impl Source for BodySource<'_> {
    fn is_untouched(&self) -> bool {
        self.body.arrived().is_empty() && !self.body.has_ended()
    }

    async fn stream<S: RequestSink>(&mut self, upload: &mut Upload<'_, S>) -> Result<(), ProxyError> {
        loop {
            let mut out = upload.plan.buffers.large();
            let taken = self.gather(upload, &mut out).await?;
            let done = self.body.has_ended() && self.body.arrived().is_empty();
            if done {
                self.end(upload, &mut out).await?;
            }
            upload.finish(out, done, || self.body.ahead.len()).await?;
            // Only now may the client send as much again.
            self.body.release(taken);
            if done {
                return Ok(());
            }
        }
    }
}
