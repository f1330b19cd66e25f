//! The request's body, from the client to the upstream.

use std::time::Duration;

use ringward_http::{BodyFraming, ChunkedDecoder, Decoded};
use ringward_identity::headers::is_stripped_inbound;

use super::Plan;
use crate::{
    client_side::Source,
    downstream::{ReadError, Reader},
    error::ProxyError,
    io::{Deadline, LARGE, Shut},
    upstream::millis,
    upstream_side::RequestSink,
};

/// Streams the body to its end.
///
/// # Errors
/// On the client's side when it vanishes, stalls, breaks the framing or exceeds the limit; on the upstream's side when it does
/// not take the bytes.
pub(super) async fn run(
    plan: &Plan<'_>,
    source: &mut impl Source,
    up: &mut impl RequestSink,
    up_deadline: &Deadline,
    client: &Deadline,
) -> Result<(), ProxyError> {
    source.stream(&mut Upload { plan, up, up_deadline, client }).await?;
    if let Some(copy) = plan.mirror {
        copy.end();
    }
    client.clear();
    if plan.progress.answered.get().is_none() {
        up_deadline.set(millis(plan.response_timeout), Shut::Both);
    }
    // From now on nothing is in flight on the client's socket that would notice that it has gone.
    up_deadline.serve(Some(client));
    Ok(())
}

/// The upstream's side of a body on its way, and the times of both sides.
pub(crate) struct Upload<'a, S> {
    pub(crate) plan: &'a Plan<'a>,
    up: &'a mut S,
    up_deadline: &'a Deadline,
    client: &'a Deadline,
}

impl<S: RequestSink> Upload<'_, S> {
    /// It is the client's turn.
    pub(crate) fn await_client(&self) {
        self.client.set(millis(self.plan.body_timeout), Shut::Read);
        self.up_deadline.clear();
    }

    /// What it means that nothing more can be read.
    pub(crate) fn read_failure(&self, error: &ReadError) -> ProxyError {
        match error {
            ReadError::Closed if self.client.fired() => ProxyError::BodyTimeout(self.plan.body_timeout),
            _ => ProxyError::ClientGone,
        }
    }

    /// A piece of the body, as the upstream gets it.
    pub(crate) fn piece(&self, out: &mut Vec<u8>, data: &[u8]) {
        self.mirror(data);
        self.up.piece(out, data);
    }

    /// A piece of the body goes to where the request is mirrored, too.
    fn mirror(&self, data: &[u8]) {
        if let Some(copy) = self.plan.mirror {
            copy.piece(data);
        }
    }

    /// The end of the body, with those of the trailers that may go on.
    pub(crate) fn end<'t>(&mut self, out: &mut Vec<u8>, trailers: impl Iterator<Item = (&'t str, &'t [u8])>) {
        let edits = self.plan.edits;
        let kept = trailers.filter(|(name, _)| !edits.drops_trailer(name.as_bytes()));
        let Some(copy) = self.plan.mirror else { return self.up.end(out, kept) };
        let kept: Vec<_> = kept.collect();
        copy.end_with(kept.iter().map(|(name, value)| ((*name).to_owned(), value.to_vec())).collect());
        self.up.end(out, kept.into_iter());
    }

    /// As [`Upload::send`], unless there is nothing to send.
    pub(crate) async fn finish(
        &mut self,
        out: Vec<u8>,
        last: bool,
        held: impl FnOnce() -> usize,
    ) -> Result<(), ProxyError> {
        if out.is_empty() && !self.up.is_pending(last) {
            self.plan.buffers.put(out);
            return Ok(());
        }
        self.send(out, last, held).await
    }

    /// Sends a part of the body that is framed as the upstream gets it; with `last`, nothing follows. `held` bytes of the body
    /// remain in memory.
    pub(crate) async fn send(
        &mut self,
        piece: Vec<u8>,
        last: bool,
        held: impl FnOnce() -> usize,
    ) -> Result<(), ProxyError> {
        let limit: Duration = self.plan.response_timeout;
        // It is the upstream's turn.
        self.client.clear();
        let renew = || self.up_deadline.set_write(millis(limit));
        renew();
        let (sent, piece) = self.up.send(piece, last, renew).await;
        self.up_deadline.clear_write();
        self.plan.buffers.put(piece);
        self.plan.room.shrink(held());
        sent
    }

    /// Counts bytes that have arrived.
    pub(crate) fn count(&self, bytes: usize) {
        let received = &self.plan.progress.received;
        received.set(received.get() + bytes as u64);
    }

    /// Whether `bytes` more are more than the route allows.
    pub(crate) fn check_limit(&self, bytes: usize) -> Result<(), ProxyError> {
        let limit = self.plan.body_bytes_max;
        match self.plan.progress.received.get() + bytes as u64 > limit {
            true => Err(ProxyError::BodyTooLarge { limit }),
            false => Ok(()),
        }
    }
}

impl Source for Reader<'_> {
    fn is_untouched(&self) -> bool {
        self.buffered().is_empty()
    }

    async fn stream<S: RequestSink>(&mut self, upload: &mut Upload<'_, S>) -> Result<(), ProxyError> {
        match upload.plan.head.body() {
            BodyFraming::Length(length) => self.length(upload, length).await,
            BodyFraming::Chunked => self.chunked(upload).await,
            _ => Ok(()),
        }
    }
}

impl Reader<'_> {
    async fn length<S: RequestSink>(
        &mut self,
        upload: &mut Upload<'_, S>,
        length: u64,
    ) -> Result<(), ProxyError> {
        let mut left = length;
        while left > 0 {
            if self.buffered().is_empty() {
                self.wait(upload).await?;
            }
            let piece = self.take_buffer(usize::try_from(left).unwrap_or(usize::MAX));
            left -= piece.len() as u64;
            upload.count(piece.len());
            upload.mirror(&piece);
            upload.send(piece, left == 0, || self.held()).await?;
        }
        Ok(())
    }

    async fn chunked<S: RequestSink>(&mut self, upload: &mut Upload<'_, S>) -> Result<(), ProxyError> {
        let mut decoder = ChunkedDecoder::new(is_stripped_inbound);
        loop {
            let mut out = upload.plan.buffers.large();
            let done = self.decode(upload, &mut decoder, &mut out)?;
            upload.finish(out, done, || self.held()).await?;
            if done {
                return Ok(());
            }
            if self.buffered().is_empty() {
                self.wait(upload).await?;
            }
        }
    }

    /// Re-frames what has arrived, up to about a buffer full; whether that was the end.
    fn decode<S: RequestSink>(
        &mut self,
        upload: &mut Upload<'_, S>,
        decoder: &mut ChunkedDecoder,
        out: &mut Vec<u8>,
    ) -> Result<bool, ProxyError> {
        while out.len() < LARGE / 2 && !self.buffered().is_empty() {
            // Of a body that was read ahead there may be much more, of which no second copy is made.
            let arrived = self.buffered();
            match decoder.decode(&arrived[..arrived.len().min(LARGE)])? {
                Decoded::Data { skip, data } => {
                    upload.check_limit(data)?;
                    upload.piece(out, &self.buffered()[skip..skip + data]);
                    self.consume(skip + data);
                    upload.count(data);
                }
                Decoded::NeedMore { consumed } => self.consume(consumed),
                Decoded::Done { consumed } => {
                    self.consume(consumed);
                    upload.plan.progress.stripped_trailers.set(decoder.dropped_trailers());
                    upload.end(out, decoder.trailers());
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    async fn wait<S: RequestSink>(&mut self, upload: &Upload<'_, S>) -> Result<(), ProxyError> {
        upload.await_client();
        self.fill().await.map_err(|error| upload.read_failure(&error))
    }
}
