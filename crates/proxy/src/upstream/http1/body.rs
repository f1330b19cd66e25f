//! The body of a response without its framing, for those who look at its bytes.

use ringward_http::{BodyFraming, ChunkedDecoder, Decoded};

use super::Receiving;
use crate::{
    client_side::Sink,
    error::ProxyError,
    relay::Download,
    upstream::transport::Inflow,
    upstream_side::{ResponseBody, Taken},
};

/// What is left of a body.
pub(crate) struct Body<'s, 'a, R> {
    source: &'s mut Receiving<'a, R>,
    framing: Framing,
    /// What the head says about the connection.
    keeps_alive: bool,
}

enum Framing {
    Length(u64),
    Chunked(Box<ChunkedDecoder>),
    UntilClose,
}

impl<'s, 'a, R: Inflow> Body<'s, 'a, R> {
    pub(super) fn new(source: &'s mut Receiving<'a, R>, framing: BodyFraming, keeps_alive: bool) -> Self {
        let framing = match framing {
            BodyFraming::None => Framing::Length(0),
            BodyFraming::Length(length) => Framing::Length(length),
            BodyFraming::Chunked => Framing::Chunked(Box::new(ChunkedDecoder::new(|_| false))),
            BodyFraming::UntilClose => Framing::UntilClose,
        };
        Body { source, framing, keeps_alive }
    }

    /// Takes what is there, up to about `max` bytes; whether that was the end.
    fn decode(&mut self, plain: &mut Vec<u8>, max: usize) -> Result<bool, ProxyError> {
        while self.has_some() && plain.len() < max {
            let (arrived, room) = (&self.source.buffer[self.source.taken..], max - plain.len());
            let (skip, data) = match &mut self.framing {
                Framing::Length(0) => return Ok(true),
                Framing::Length(left) => {
                    let data = usize::try_from(*left).unwrap_or(usize::MAX).min(arrived.len()).min(room);
                    *left -= data as u64;
                    (0, data)
                }
                Framing::UntilClose => (0, arrived.len().min(room)),
                // The decoder knows no bound but the end of what it is given, so that may be no more than there is room for.
                Framing::Chunked(decoder) => {
                    let arrived = &arrived[..arrived.len().min(room)];
                    match decoder.decode(arrived).map_err(ProxyError::UpstreamChunk)? {
                        Decoded::Data { skip, data } => (skip, data),
                        Decoded::NeedMore { consumed } => (consumed, 0),
                        Decoded::Done { consumed } => {
                            self.source.consume(consumed);
                            return Ok(true);
                        }
                    }
                }
            };
            plain.extend_from_slice(&arrived[skip..skip + data]);
            self.source.consume(skip + data);
        }
        Ok(matches!(self.framing, Framing::Length(0)))
    }

    fn has_some(&self) -> bool {
        self.source.taken < self.source.buffer.len()
    }
}

impl<R: Inflow> ResponseBody for Body<'_, '_, R> {
    async fn take<S: Sink>(
        &mut self,
        download: &Download<'_, S>,
        plain: &mut Vec<u8>,
        max: usize,
        waits: bool,
    ) -> Result<Taken, ProxyError> {
        loop {
            if self.decode(plain, max)? {
                return Ok(Taken::End);
            }
            if self.has_some() && plain.len() >= max {
                return Ok(Taken::More);
            }
            if !plain.is_empty() || !waits {
                return Ok(Taken::Pause);
            }
            match (self.source.read_body(download).await, &self.framing) {
                (Err(ProxyError::UpstreamClosed), Framing::UntilClose) => return Ok(Taken::End),
                (Err(ProxyError::UpstreamClosed), Framing::Length(left)) => {
                    return Err(ProxyError::UpstreamTruncated { missing: *left });
                }
                (read, _) => read?,
            }
        }
    }

    fn trailers(&self) -> impl Iterator<Item = (&str, &[u8])> {
        let decoder = match &self.framing {
            Framing::Chunked(decoder) => Some(decoder),
            Framing::Length(_) | Framing::UntilClose => None,
        };
        decoder.into_iter().flat_map(|decoder| decoder.trailers())
    }

    fn is_reusable(&self) -> bool {
        // As in [`Receiving::stream`].
        !matches!(self.framing, Framing::UntilClose) && self.keeps_alive && !self.has_some()
    }
}
