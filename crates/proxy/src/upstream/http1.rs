//! HTTP/1.1 as the upstream's side of an exchange: a connection of its own, whose bytes are bodies in their framing.

mod body;
mod tunnel;

use std::mem;

use ringward_http::{BodyFraming, ChunkedDecoder, Decoded, RequestKind, ResponseHead, write};

use self::{
    body::Body,
    tunnel::{StreamInlet, StreamOutlet},
};

use super::{
    Connection, failure,
    transport::{Inflow, Outflow, Transport},
};
use crate::{
    client_side::Sink,
    error::ProxyError,
    io::{BULK, BufferPool, Deadline, LARGE, SMALL},
    relay::{Download, Plan},
    upstream_side::{RequestSink, ResponseSource, UpstreamSide},
};

impl<S: Transport> UpstreamSide for Connection<S> {
    const SAYS_UNPROCESSED: bool = false;

    type Sink<'a>
        = Sending<'a, S::Write>
    where
        S: 'a;
    type Source<'a>
        = Receiving<'a, S::Read>
    where
        S: 'a;
    type Inlet<'a>
        = StreamInlet<'a, S::Read>
    where
        S: 'a;
    type Outlet<'a>
        = StreamOutlet<'a, S::Write>
    where
        S: 'a;

    fn deadline(&self) -> &Deadline {
        &self.deadline
    }

    fn head(&mut self, plan: &Plan<'_>, out: &mut Vec<u8>) -> Result<(), ProxyError> {
        plan.edits.request_head(out, plan.head)?;
        if let Some(asked) = plan.asked {
            asked.write(out)?;
        }
        Ok(())
    }

    fn split<'a>(&'a mut self, plan: &'a Plan<'_>) -> (Self::Sink<'a>, Self::Source<'a>, &'a Deadline) {
        let Connection { stream, deadline, .. } = self;
        let (read, write) = stream.halves();
        let sending = Sending { half: write, plan, deadline };
        let receiving = Receiving {
            half: read,
            plan,
            deadline,
            buffer: Vec::new(),
            taken: 0,
            untouched: true,
            kind: match plan.asked {
                Some(_) => RequestKind::Upgrade,
                None if plan.head.is_head() => RequestKind::Head,
                None => RequestKind::Other,
            },
        };
        (sending, receiving, deadline)
    }

    fn tunnel<'a>(
        &'a mut self,
        early: Vec<u8>,
        buffers: &'a BufferPool,
    ) -> (Self::Inlet<'a>, Self::Outlet<'a>) {
        let Connection { stream, deadline, .. } = self;
        let (read, write) = stream.halves();
        (StreamInlet::new(read, deadline, buffers, early), StreamOutlet::new(write, buffers))
    }
}

/// A request on its way.
pub(crate) struct Sending<'a, W> {
    half: &'a mut W,
    plan: &'a Plan<'a>,
    deadline: &'a Deadline,
}

impl<W: Outflow> RequestSink for Sending<'_, W> {
    fn piece(&self, out: &mut Vec<u8>, data: &[u8]) {
        match self.plan.head.body() {
            BodyFraming::Chunked => write::chunk(out, data),
            // Whoever reads the body compares what arrives with the declared length.
            _ => out.extend_from_slice(data),
        }
    }

    fn end<'t>(&mut self, out: &mut Vec<u8>, trailers: impl Iterator<Item = (&'t str, &'t [u8])>) {
        if self.plan.head.body() == BodyFraming::Chunked {
            write::last_chunk(out, trailers);
        }
    }

    fn is_pending(&self, _last: bool) -> bool {
        false
    }

    async fn send(
        &mut self,
        bytes: Vec<u8>,
        _last: bool,
        progressed: impl Fn(),
    ) -> (Result<(), ProxyError>, Vec<u8>) {
        let (sent, bytes) = self.half.write_all(bytes, progressed).await;
        (sent.map_err(|error| failure(self.deadline, Some(error), self.plan.response_timeout)), bytes)
    }
}

/// A response on its way.
pub(crate) struct Receiving<'a, R> {
    half: &'a mut R,
    plan: &'a Plan<'a>,
    deadline: &'a Deadline,
    /// What has arrived and is not used up, from `taken` on.
    buffer: Vec<u8>,
    taken: usize,
    untouched: bool,
    kind: RequestKind,
}

impl<'a, R: Inflow> ResponseSource for Receiving<'a, R> {
    type Body<'s>
        = Body<'s, 'a, R>
    where
        Self: 's;

    fn is_untouched(&self) -> bool {
        self.untouched
    }

    async fn head(&mut self, head: &mut ResponseHead) -> Result<(), ProxyError> {
        if self.buffer.capacity() == 0 {
            self.buffer = self.plan.buffers.small();
        }
        loop {
            if self.taken < self.buffer.len()
                && let Some(length) =
                    head.parse(&self.buffer[self.taken..], self.kind, self.plan.head_limits)?
            {
                self.consume(length);
                return Ok(());
            }
            self.read().await?;
        }
    }

    async fn stream<S: Sink>(
        &mut self,
        download: &mut Download<'_, S>,
        head: &ResponseHead,
        out: &mut Vec<u8>,
    ) -> Result<bool, ProxyError> {
        match head.body() {
            BodyFraming::None => download.finish(out, true).await?,
            BodyFraming::Length(length) => self.length(download, out, length).await?,
            BodyFraming::Chunked => self.chunked(download, out).await?,
            BodyFraming::UntilClose => {
                self.until_close(download, out).await?;
                return Ok(false);
            }
        }
        // Bytes after the response belong to no request.
        let surplus = self.taken < self.buffer.len();
        Ok(head.keep_alive() && !surplus)
    }

    fn body<'s>(&'s mut self, head: &ResponseHead) -> Body<'s, 'a, R> {
        Body::new(self, head.body(), head.keep_alive())
    }

    fn into_rest(mut self) -> Vec<u8> {
        if self.taken == self.buffer.len() {
            // The buffer is not theirs to keep.
            return Vec::new();
        }
        let mut rest = mem::take(&mut self.buffer);
        rest.drain(..self.taken);
        rest
    }
}

impl<R: Inflow> Receiving<'_, R> {
    async fn length<S: Sink>(
        &mut self,
        download: &mut Download<'_, S>,
        out: &mut Vec<u8>,
        length: u64,
    ) -> Result<(), ProxyError> {
        let mut left = length;
        // What came with the head leaves with the head.
        let n = usize::try_from(left).unwrap_or(usize::MAX).min(self.buffer.len() - self.taken);
        out.extend_from_slice(&self.buffer[self.taken..self.taken + n]);
        self.consume(n);
        download.count(n);
        left -= n as u64;
        download.finish(out, left == 0).await?;
        while left > 0 {
            match self.read_body(download).await {
                Err(ProxyError::UpstreamClosed) => {
                    return Err(ProxyError::UpstreamTruncated { missing: left });
                }
                read => read?,
            }
            let n = usize::try_from(left).unwrap_or(usize::MAX).min(self.buffer.len());
            download.send(&self.buffer[..n], n as u64 == left).await?;
            self.consume(n);
            download.count(n);
            left -= n as u64;
        }
        Ok(())
    }

    async fn chunked<S: Sink>(
        &mut self,
        download: &mut Download<'_, S>,
        out: &mut Vec<u8>,
    ) -> Result<(), ProxyError> {
        let mut decoder = ChunkedDecoder::new(|_| false);
        loop {
            while self.taken < self.buffer.len() {
                match decoder.decode(&self.buffer[self.taken..]).map_err(ProxyError::UpstreamChunk)? {
                    Decoded::Data { skip, data } => {
                        download.piece(out, &self.buffer[self.taken + skip..self.taken + skip + data]);
                        self.consume(skip + data);
                        download.count(data);
                    }
                    Decoded::NeedMore { consumed } => self.consume(consumed),
                    Decoded::Done { consumed } => {
                        self.consume(consumed);
                        download.end(out, decoder.trailers());
                        return download.finish(out, true).await;
                    }
                }
            }
            download.finish(out, false).await?;
            self.read_body(download).await?;
        }
    }

    async fn until_close<S: Sink>(
        &mut self,
        download: &mut Download<'_, S>,
        out: &mut Vec<u8>,
    ) -> Result<(), ProxyError> {
        loop {
            let n = self.buffer.len() - self.taken;
            download.piece(out, &self.buffer[self.taken..]);
            self.consume(n);
            download.count(n);
            download.finish(out, false).await?;
            match self.read_body(download).await {
                Err(ProxyError::UpstreamClosed) => break,
                read => read?,
            }
        }
        download.end(out, std::iter::empty());
        download.finish(out, true).await
    }

    async fn read_body<S: Sink>(&mut self, download: &Download<'_, S>) -> Result<(), ProxyError> {
        if self.buffer.is_empty() && self.buffer.capacity() < LARGE {
            let small = mem::replace(&mut self.buffer, self.plan.buffers.large());
            self.plan.buffers.put(small);
        }
        download.await_upstream();
        self.read().await
    }

    /// Reads more behind what is there. [`ProxyError::UpstreamClosed`] at the end of the stream.
    async fn read(&mut self) -> Result<(), ProxyError> {
        if self.taken > 0 {
            // The bound of a read counts what is there.
            self.buffer.drain(..mem::take(&mut self.taken));
        }
        if self.buffer.len() == self.buffer.capacity() {
            // Only a head grows its buffer, and the parser refuses one beyond its limit.
            self.buffer.reserve(SMALL);
        }
        let buffer = mem::take(&mut self.buffer);
        let (read, buffer) = self.half.read(buffer, BULK.max(self.plan.head_limits.head_bytes_max)).await;
        self.buffer = buffer;
        match read {
            Ok(0) => Err(failure(self.deadline, None, self.plan.response_timeout)),
            Ok(_) => {
                self.untouched = false;
                Ok(())
            }
            Err(error) => Err(failure(self.deadline, Some(error), self.plan.response_timeout)),
        }
    }

    fn consume(&mut self, n: usize) {
        self.taken += n;
        if self.taken == self.buffer.len() {
            self.buffer.clear();
            self.taken = 0;
        }
    }
}

impl<R> Drop for Receiving<'_, R> {
    fn drop(&mut self) {
        self.plan.buffers.put(mem::take(&mut self.buffer));
    }
}
