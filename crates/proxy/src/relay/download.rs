//! The response, from the upstream to the client.

use std::time::Instant;

use ringward_http::{BodyFraming, ResponseHead, write};

use super::{Plan, client_failure, encode};
use crate::{
    client_side::Sink,
    compression::{Compressing, Encoding},
    error::ProxyError,
    grpc,
    io::{Deadline, Shut},
    upstream::millis,
    upstream_side::ResponseSource,
};

/// The client's side of a response on its way, and the times of both sides.
pub(crate) struct Download<'a, S> {
    plan: &'a Plan<'a>,
    sink: S,
    up: &'a Deadline,
    client: &'a Deadline,
    /// The body is sent in chunks.
    rechunk: bool,
    /// Of the final response, once its head is written; sent with the first bytes behind it.
    status: u16,
}

/// How a response left its connections.
#[derive(Clone, Copy, Debug)]
pub(super) struct End {
    pub(super) downstream_reusable: bool,
    pub(super) upstream_reusable: bool,
}

impl<'a, S: Sink> Download<'a, S> {
    pub(super) fn new(
        plan: &'a Plan<'a>,
        sink: S,
        up: &'a Deadline,
        client: &'a Deadline,
    ) -> Download<'a, S> {
        Download { plan, sink, up, client, rechunk: false, status: 0 }
    }

    /// Reads the head of the final response into `head`, passing interim ones on. The upstream's deadline is the caller's: it
    /// runs from the end of the request, however slowly the head trickles in.
    pub(super) async fn head(
        &mut self,
        source: &mut impl ResponseSource,
        head: &mut ResponseHead,
    ) -> Result<(), ProxyError> {
        let mut interim = 0;
        loop {
            source.head(head).await?;
            if !head.is_interim() {
                self.plan.progress.answered.set(Some(Instant::now()));
                return Ok(());
            }
            interim += 1;
            if interim > INTERIM_MAX {
                return Err(ProxyError::TooManyInterim);
            }
            self.pass_interim(head).await?;
        }
    }

    /// RFC 9110 §15.2: a proxy passes 1xx on, except 100, which it has asked for itself.
    async fn pass_interim(&mut self, head: &ResponseHead) -> Result<(), ProxyError> {
        if head.status() == 100 {
            return Ok(());
        }
        let mut out = self.plan.buffers.small();
        self.sink.interim(self.plan, &mut out, head);
        let sent = self.finish(&mut out, false).await;
        self.plan.buffers.put(out);
        self.await_upstream();
        sent
    }

    /// Passes the final response on. `close` makes it the connection's last.
    pub(super) async fn body(
        &mut self,
        source: &mut impl ResponseSource,
        head: &ResponseHead,
        close: bool,
    ) -> Result<End, ProxyError> {
        let mut out = self.plan.buffers.small();
        let (keep_alive, encoding) = self.begin(head, close, &mut out)?;
        let streamed = match encoding {
            None => source.stream(self, head, &mut out).await,
            // Boxed, so that responses that pass as they are need not have room for it.
            Some(encoding) => Box::pin(encode::stream(self, source, head, encoding, &mut out)).await,
        };
        self.plan.buffers.put(out);
        self.up.clear();
        Ok(End { downstream_reusable: keep_alive, upstream_reusable: streamed? })
    }

    /// Writes the head of the final response; whether the client keeps its connection, and what the body has to pass through.
    fn begin(
        &mut self,
        head: &ResponseHead,
        close: bool,
        out: &mut Vec<u8>,
    ) -> Result<(bool, Option<Box<Encoding<'a>>>), ProxyError> {
        let Plan { edits, progress, compression, standing, .. } = *self.plan;
        let compressing = compression
            .zip(standing)
            .map(|(rules, standing)| Compressing { rules, worker: standing.worker() });
        let verdict = compressing.and_then(|compressing| compressing.judge(self.plan.head, head, edits));
        let recoded = verdict.as_ref().map(|verdict| &verdict.recoded);
        let framed = self.sink.head(self.plan, out, head, !close, recoded)?;
        self.rechunk = framed.body == BodyFraming::Chunked;
        self.status = head.status();
        grpc::note_head(progress, head);
        Ok((framed.keep_alive, verdict.and_then(|verdict| verdict.encoding)))
    }

    /// Tells the client that the upstream switches to `protocol`.
    pub(super) async fn switch(&mut self, head: &ResponseHead, protocol: &str) -> Result<(), ProxyError> {
        let mut out = self.plan.buffers.small();
        self.status = self.sink.switch(self.plan, &mut out, head, protocol)?;
        let sent = self.finish(&mut out, false).await;
        self.plan.buffers.put(out);
        sent
    }

    /// A piece of the body, as the client gets it.
    pub(crate) fn piece(&self, out: &mut Vec<u8>, data: &[u8]) {
        if self.rechunk {
            write::chunk(out, data);
        } else {
            out.extend_from_slice(data);
        }
    }

    /// The end of the body, with those of its trailers that may go on.
    pub(crate) fn end<'t>(&mut self, out: &mut Vec<u8>, trailers: impl Iterator<Item = (&'t str, &'t [u8])>) {
        let Plan { progress, edits, .. } = *self.plan;
        let noted = trailers.inspect(|(name, value)| grpc::note(progress, name, value));
        let kept = noted.filter(|(name, _)| !edits.drops_trailer_of_response(name.as_bytes()));
        self.sink.end(out, kept, self.rechunk);
    }

    /// Sends what is in `out`; with `last`, nothing follows.
    pub(crate) async fn finish(&mut self, out: &mut Vec<u8>, last: bool) -> Result<(), ProxyError> {
        if out.is_empty() && !self.sink.is_pending(last) {
            return Ok(());
        }
        let sent = self.send(out, last).await;
        out.clear();
        sent
    }

    /// Sends a part of the body that is framed as the client gets it.
    pub(crate) async fn send(&mut self, plain: &[u8], last: bool) -> Result<(), ProxyError> {
        self.up.clear();
        self.plan.progress.status.set(self.status);
        let renew = || self.client.set_write(millis(self.plan.body_timeout));
        renew();
        let sent = self.sink.send(plain, last, renew).await;
        // It is the upstream's turn.
        self.client.clear_write();
        sent.map_err(|_| client_failure(self.client, self.plan.body_timeout))
    }

    /// It is the upstream's turn.
    pub(crate) fn await_upstream(&self) {
        self.up.set(millis(self.plan.response_timeout), Shut::Both);
    }

    /// It is neither's.
    pub(super) fn hold_upstream(&self) {
        self.up.clear();
    }

    /// Counts bytes that have been sent.
    pub(crate) fn count(&self, bytes: usize) {
        let sent = &self.plan.progress.sent;
        sent.set(sent.get() + bytes as u64);
    }
}

/// Interim responses accepted before the final one. Real servers send one or two; without a bound an upstream could keep an
/// exchange going for ever.
const INTERIM_MAX: u32 = 16;
