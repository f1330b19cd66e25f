//! The request's body, from the client to the upstream.

use std::time::Duration;

use ringward_http::{BodyFraming, ChunkedDecoder, Decoded, write};
use ringward_identity::headers::is_stripped_inbound;

use super::Plan;
use crate::{
    downstream::{ReadError, Reader},
    error::ProxyError,
    io::{Deadline, LARGE, Shut, WriteHalf},
    upstream::{self, millis},
};

/// Streams the body to its end.
///
/// # Errors
/// On the client's side when it vanishes, stalls, breaks the framing or exceeds the limit; on the upstream's side when it does
/// not take the bytes.
pub(super) async fn run(
    plan: &Plan<'_>,
    reader: &mut Reader<'_>,
    up: &mut WriteHalf,
    up_deadline: &Deadline,
    client: &Deadline,
) -> Result<(), ProxyError> {
    let mut upload = Upload { plan, reader, up, up_deadline, client };
    match plan.head.body() {
        BodyFraming::Length(length) => upload.length(length).await?,
        BodyFraming::Chunked => upload.chunked().await?,
        _ => {}
    }
    client.clear();
    if plan.progress.answered.get().is_none() {
        up_deadline.set(millis(plan.response_timeout), Shut::Both);
    }
    // From now on nothing is in flight on the client's socket that would notice that it has gone.
    up_deadline.serve(Some(client));
    Ok(())
}

struct Upload<'a, 'r> {
    plan: &'a Plan<'a>,
    reader: &'a mut Reader<'r>,
    up: &'a mut WriteHalf,
    up_deadline: &'a Deadline,
    client: &'a Deadline,
}

impl Upload<'_, '_> {
    async fn length(&mut self, length: u64) -> Result<(), ProxyError> {
        let mut left = length;
        while left > 0 {
            if self.reader.buffered().is_empty() {
                self.wait().await?;
            }
            let piece = self.reader.take_buffer(usize::try_from(left).unwrap_or(usize::MAX));
            left -= piece.len() as u64;
            self.count(piece.len());
            self.send(piece).await?;
        }
        Ok(())
    }

    async fn chunked(&mut self) -> Result<(), ProxyError> {
        let mut decoder = ChunkedDecoder::new(is_stripped_inbound);
        loop {
            let mut out = self.plan.buffers.large();
            let done = self.decode(&mut decoder, &mut out)?;
            if out.is_empty() {
                self.plan.buffers.put(out);
            } else {
                self.send(out).await?;
            }
            if done {
                return Ok(());
            }
            if self.reader.buffered().is_empty() {
                self.wait().await?;
            }
        }
    }

    /// Re-frames what has arrived, up to about a buffer full; whether that was the end.
    fn decode(&mut self, decoder: &mut ChunkedDecoder, out: &mut Vec<u8>) -> Result<bool, ProxyError> {
        while out.len() < LARGE / 2 && !self.reader.buffered().is_empty() {
            // Of a body that was read ahead there may be much more, of which no second copy is made.
            let arrived = self.reader.buffered();
            match decoder.decode(&arrived[..arrived.len().min(LARGE)])? {
                Decoded::Data { skip, data } => {
                    let arrived = self.plan.progress.received.get() + data as u64;
                    if arrived > self.plan.body_bytes_max {
                        return Err(ProxyError::BodyTooLarge { limit: self.plan.body_bytes_max });
                    }
                    write::chunk(out, &self.reader.buffered()[skip..skip + data]);
                    self.reader.consume(skip + data);
                    self.count(data);
                }
                Decoded::NeedMore { consumed } => self.reader.consume(consumed),
                Decoded::Done { consumed } => {
                    self.reader.consume(consumed);
                    self.plan.progress.stripped_trailers.set(decoder.dropped_trailers());
                    self.plan.edits.last_chunk(out, decoder);
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    async fn wait(&mut self) -> Result<(), ProxyError> {
        let limit = self.plan.body_timeout;
        self.client.set(millis(limit), Shut::Read);
        // It is the client's turn.
        self.up_deadline.clear();
        match self.reader.fill().await {
            Ok(()) => Ok(()),
            Err(ReadError::Closed) if self.client.fired() => Err(ProxyError::BodyTimeout(limit)),
            Err(_) => Err(ProxyError::ClientGone),
        }
    }

    async fn send(&mut self, piece: Vec<u8>) -> Result<(), ProxyError> {
        let limit: Duration = self.plan.response_timeout;
        // It is the upstream's turn.
        self.client.clear();
        let renew = || self.up_deadline.set_write(millis(limit));
        renew();
        let (sent, piece) = self.up.write_all(piece, renew).await;
        self.up_deadline.clear_write();
        self.plan.buffers.put(piece);
        self.plan.room.shrink(self.reader.held());
        sent.map_err(|error| upstream::failure(self.up_deadline, Some(error), limit))
    }

    fn count(&self, bytes: usize) {
        let received = &self.plan.progress.received;
        received.set(received.get() + bytes as u64);
    }
}
