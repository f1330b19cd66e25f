//! The response, from the upstream to the client.

use std::{mem, time::Instant};

use ringward_http::{BodyFraming, ChunkedDecoder, Decoded, RequestKind, ResponseHead, write};

use super::{Plan, client_failure};
use crate::{
    client_side::Sink,
    error::ProxyError,
    io::{BULK, Deadline, LARGE, ReadHalf, SMALL, Shut},
    upstream::{self, millis},
};

/// A response on its way.
pub(super) struct Download<'a> {
    plan: &'a Plan<'a>,
    up: &'a Deadline,
    client: &'a Deadline,
    /// What has arrived and is not used up, from `taken` on.
    buffer: Vec<u8>,
    taken: usize,
    untouched: bool,
    /// Of the final response, once its head is written; sent with the first bytes behind it.
    status: u16,
}

/// How a response left its connections.
#[derive(Clone, Copy, Debug)]
pub(super) struct End {
    pub(super) downstream_reusable: bool,
    pub(super) upstream_reusable: bool,
}

impl<'a> Download<'a> {
    pub(super) fn new(plan: &'a Plan<'a>, up: &'a Deadline, client: &'a Deadline) -> Download<'a> {
        Download { plan, up, client, buffer: plan.buffers.small(), taken: 0, untouched: true, status: 0 }
    }

    /// Whether no byte has arrived.
    pub(super) fn is_untouched(&self) -> bool {
        self.untouched
    }

    /// Reads the head of the final response into `head`, passing interim ones on. The upstream's deadline is the caller's: it
    /// runs from the end of the request, however slowly the head trickles in.
    pub(super) async fn head(
        &mut self,
        up: &mut ReadHalf,
        sink: &mut impl Sink,
        head: &mut ResponseHead,
    ) -> Result<(), ProxyError> {
        let kind = if self.plan.head.is_head() { RequestKind::Head } else { RequestKind::Other };
        let mut interim = 0;
        loop {
            if self.taken < self.buffer.len()
                && let Some(length) = head.parse(&self.buffer[self.taken..], kind, self.plan.head_limits)?
            {
                self.consume(length);
                if !head.is_interim() {
                    self.plan.progress.answered.set(Some(Instant::now()));
                    return Ok(());
                }
                interim += 1;
                if interim > INTERIM_MAX {
                    return Err(ProxyError::TooManyInterim);
                }
                self.pass_interim(sink, head).await?;
                continue;
            }
            self.read(up).await?;
        }
    }

    /// RFC 9110 §15.2: a proxy passes 1xx on, except 100, which it has asked for itself.
    async fn pass_interim(&mut self, sink: &mut impl Sink, head: &ResponseHead) -> Result<(), ProxyError> {
        if head.status() == 100 {
            return Ok(());
        }
        let mut out = self.plan.buffers.small();
        sink.interim(self.plan, &mut out, head);
        let sent = self.finish(sink, &mut out, false).await;
        self.plan.buffers.put(out);
        self.up.set(millis(self.plan.response_timeout), Shut::Both);
        sent
    }

    /// Passes the final response on. `close` makes it the connection's last.
    pub(super) async fn body(
        &mut self,
        up: &mut ReadHalf,
        sink: &mut impl Sink,
        head: &ResponseHead,
        close: bool,
    ) -> Result<End, ProxyError> {
        let mut out = self.plan.buffers.small();
        let framed = sink.head(self.plan, &mut out, head, !close)?;
        let rechunk = framed.body == BodyFraming::Chunked;
        self.status = head.status();
        let complete = match head.body() {
            BodyFraming::None => self.finish(sink, &mut out, true).await.map(|()| true),
            BodyFraming::Length(length) => self.length(up, sink, &mut out, length).await.map(|()| true),
            BodyFraming::Chunked => self.chunked(up, sink, &mut out, rechunk).await.map(|()| true),
            BodyFraming::UntilClose => self.until_close(up, sink, &mut out, rechunk).await.map(|()| false),
        };
        self.plan.buffers.put(out);
        self.up.clear();
        let surplus = self.taken < self.buffer.len();
        Ok(End {
            downstream_reusable: framed.keep_alive,
            // Bytes after the response belong to no request.
            upstream_reusable: complete? && head.keep_alive() && !surplus,
        })
    }

    async fn length(
        &mut self,
        up: &mut ReadHalf,
        sink: &mut impl Sink,
        out: &mut Vec<u8>,
        length: u64,
    ) -> Result<(), ProxyError> {
        let mut left = length;
        // What came with the head leaves with the head.
        let n = usize::try_from(left).unwrap_or(usize::MAX).min(self.buffer.len() - self.taken);
        out.extend_from_slice(&self.buffer[self.taken..self.taken + n]);
        self.consume(n);
        self.count(n);
        left -= n as u64;
        self.finish(sink, out, left == 0).await?;
        while left > 0 {
            match self.read_body(up).await {
                Err(ProxyError::UpstreamClosed) => {
                    return Err(ProxyError::UpstreamTruncated { missing: left });
                }
                read => read?,
            }
            let n = usize::try_from(left).unwrap_or(usize::MAX).min(self.buffer.len());
            let buffer = mem::take(&mut self.buffer);
            let sent = self.send(sink, &buffer[..n], n as u64 == left).await;
            self.buffer = buffer;
            sent?;
            self.consume(n);
            self.count(n);
            left -= n as u64;
        }
        Ok(())
    }

    async fn chunked(
        &mut self,
        up: &mut ReadHalf,
        sink: &mut impl Sink,
        out: &mut Vec<u8>,
        rechunk: bool,
    ) -> Result<(), ProxyError> {
        let mut decoder = ChunkedDecoder::new(|_| false);
        loop {
            while self.taken < self.buffer.len() {
                match decoder.decode(&self.buffer[self.taken..]).map_err(ProxyError::UpstreamChunk)? {
                    Decoded::Data { skip, data } => {
                        let piece = &self.buffer[self.taken + skip..self.taken + skip + data];
                        if rechunk {
                            write::chunk(out, piece);
                        } else {
                            out.extend_from_slice(piece);
                        }
                        self.consume(skip + data);
                        self.count(data);
                    }
                    Decoded::NeedMore { consumed } => self.consume(consumed),
                    Decoded::Done { consumed } => {
                        self.consume(consumed);
                        sink.end(self.plan, out, &decoder, rechunk);
                        return self.finish(sink, out, true).await;
                    }
                }
            }
            self.finish(sink, out, false).await?;
            self.read_body(up).await?;
        }
    }

    async fn until_close(
        &mut self,
        up: &mut ReadHalf,
        sink: &mut impl Sink,
        out: &mut Vec<u8>,
        rechunk: bool,
    ) -> Result<(), ProxyError> {
        loop {
            let piece = &self.buffer[self.taken..];
            let n = piece.len();
            match rechunk {
                true if n > 0 => write::chunk(out, piece),
                true => {}
                false => out.extend_from_slice(piece),
            }
            self.consume(n);
            self.count(n);
            self.finish(sink, out, false).await?;
            match self.read_body(up).await {
                Err(ProxyError::UpstreamClosed) => break,
                read => read?,
            }
        }
        if rechunk {
            write::last_chunk(out, std::iter::empty());
        }
        self.finish(sink, out, true).await
    }

    /// Sends what is in `out`; with `last`, nothing follows.
    async fn finish(
        &mut self,
        sink: &mut impl Sink,
        out: &mut Vec<u8>,
        last: bool,
    ) -> Result<(), ProxyError> {
        if out.is_empty() && !sink.is_pending(last) {
            return Ok(());
        }
        let sent = self.send(sink, out, last).await;
        out.clear();
        sent
    }

    async fn send(&mut self, sink: &mut impl Sink, plain: &[u8], last: bool) -> Result<(), ProxyError> {
        self.up.clear();
        self.plan.progress.status.set(self.status);
        let renew = || self.client.set_write(millis(self.plan.body_timeout));
        renew();
        let sent = sink.send(plain, last, renew).await;
        // It is the upstream's turn.
        self.client.clear_write();
        sent.map_err(|_| client_failure(self.client, self.plan.body_timeout))
    }

    async fn read_body(&mut self, up: &mut ReadHalf) -> Result<(), ProxyError> {
        if self.buffer.is_empty() {
            self.enlarge();
        }
        self.up.set(millis(self.plan.response_timeout), Shut::Both);
        self.read(up).await
    }

    /// Reads more behind what is there. [`ProxyError::UpstreamClosed`] at the end of the stream.
    async fn read(&mut self, up: &mut ReadHalf) -> Result<(), ProxyError> {
        if self.taken > 0 {
            // The bound of a read counts what is there.
            self.buffer.drain(..mem::take(&mut self.taken));
        }
        if self.buffer.len() == self.buffer.capacity() {
            // Only a head grows its buffer, and the parser refuses one beyond its limit.
            self.buffer.reserve(SMALL);
        }
        let (read, buffer) =
            up.read(mem::take(&mut self.buffer), BULK.max(self.plan.head_limits.head_bytes_max)).await;
        self.buffer = buffer;
        match read {
            Ok(0) => Err(upstream::failure(self.up, None, self.plan.response_timeout)),
            Ok(_) => {
                self.untouched = false;
                Ok(())
            }
            Err(error) => Err(upstream::failure(self.up, Some(error), self.plan.response_timeout)),
        }
    }

    fn consume(&mut self, n: usize) {
        self.taken += n;
        if self.taken == self.buffer.len() {
            self.buffer.clear();
            self.taken = 0;
        }
    }

    fn count(&self, bytes: usize) {
        let sent = &self.plan.progress.sent;
        sent.set(sent.get() + bytes as u64);
    }

    /// Exchanges an empty small buffer for a large one.
    fn enlarge(&mut self) {
        if self.buffer.capacity() < LARGE {
            self.plan.buffers.put(mem::replace(&mut self.buffer, self.plan.buffers.large()));
        }
    }
}

impl Drop for Download<'_> {
    fn drop(&mut self) {
        self.plan.buffers.put(mem::take(&mut self.buffer));
    }
}

/// Interim responses accepted before the final one. Real servers send one or two; without a bound an upstream could keep an
/// exchange going for ever.
const INTERIM_MAX: u32 = 16;
