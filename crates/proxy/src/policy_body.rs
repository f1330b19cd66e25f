//! The beginning of a request's body, read before the decision for policies that look at it.
//!
//! It stays where it arrived: the relay finds it there and sends it on as if nobody had looked, framing included, and a
//! decision that has to be made again finds it again. What is made here is a copy without the framing, which lasts until the
//! decision. A body that breaks off or breaks the rules before enough of it is there is never decided about.

use std::{cell::Cell, time::Duration};

use ringward_http::{BodyFraming, ChunkError, ChunkedDecoder, Decoded, RequestHead};
use ringward_identity::headers::is_stripped_inbound;
use ringward_policy::BodyView;

use crate::{
    client_side::ClientSide,
    connection::Connection,
    downstream::ReadError,
    error::ProxyError,
    io::{SMALL, Shut},
    snapshot::{Limits, Route},
    upstream::millis,
    worker::{View, Worker},
};

/// What policies see of a body.
pub(crate) struct PolicyBody {
    bytes: Vec<u8>,
    truncated: bool,
}

impl PolicyBody {
    pub(crate) fn view(&self) -> BodyView<'_> {
        BodyView { bytes: &self.bytes, truncated: self.truncated }
    }

    /// Gives its buffer back.
    pub(crate) fn release(self, worker: &Worker) {
        worker.buffers.put(self.bytes);
    }
}

/// Reads as much of the body as policies of the route may see; `None` if none of them looks at bodies.
///
/// # Errors
/// As for a body that is relayed, and [`ProxyError::PolicyBodyMemory`].
pub(crate) async fn read(
    (connection, client): (&Connection, &mut impl ClientSide),
    view: &View,
    limits: &Limits,
    route: &Route,
    head: &RequestHead,
    room: &Room<'_>,
) -> Result<Option<PolicyBody>, ProxyError> {
    match (route.policy_body_max, head.body()) {
        (None, _) => Ok(None),
        (Some(_), BodyFraming::None | BodyFraming::Length(0)) => {
            Ok(Some(PolicyBody { bytes: Vec::new(), truncated: false }))
        }
        // There is something, and looking at it is not allowed.
        (Some(0), _) => Ok(Some(PolicyBody { bytes: Vec::new(), truncated: true })),
        (Some(bytes_max), _) => {
            let bounds = Bounds {
                bytes_max,
                body_bytes_max: route.body_bytes_max,
                held_max: held_max(view, connection.worker.workers),
                timeout: limits.body_timeout,
            };
            // Boxed, so that requests without all this need not have room for it.
            Box::pin(read_ahead(&connection.worker, client, head, &bounds, room)).await.map(Some)
        }
    }
}

/// What may be read, how much of it may be held, and how long it may take.
struct Bounds {
    bytes_max: usize,
    body_bytes_max: u64,
    held_max: usize,
    timeout: Duration,
}

/// A worker's share of `policy_body_memory_max`.
fn held_max(view: &View, workers: usize) -> usize {
    (view.snapshot.policy_body_memory_max / workers.max(1)).max(HELD_MAX_LEAST)
}

async fn read_ahead(
    worker: &Worker,
    client: &mut impl ClientSide,
    head: &RequestHead,
    bounds: &Bounds,
    room: &Room<'_>,
) -> Result<PolicyBody, ProxyError> {
    let is_small = bounds.bytes_max <= SMALL
        || matches!(head.body(), BodyFraming::Length(length) if length <= SMALL as u64);
    let buffer = if is_small { worker.buffers.small() } else { worker.buffers.large() };
    let mut ahead = Ahead::of(client.framing(head), bounds, buffer);
    let mut waits = false;
    loop {
        if let Some(truncated) = ahead.look(client.arrived(), client.has_ended())? {
            client.deadline().clear();
            return Ok(PolicyBody { bytes: ahead.bytes, truncated });
        }
        if !waits {
            waits = true;
            // All of it: a wait that began anew with each byte would have no end.
            client.deadline().set(millis(bounds.timeout), Shut::Read);
            if head.expects_continue() && client.arrived().is_empty() {
                // RFC 9110 §10.1.1: the client waits for this, and the decision for the client.
                client.ask_for_body().await.map_err(|_| ProxyError::ClientGone)?;
            }
        }
        match client.fill().await {
            Ok(()) => {
                room.resize(client.arrived().len() + ahead.copied(), bounds.held_max)?;
            }
            Err(ReadError::Closed) if client.deadline().fired() => {
                return Err(ProxyError::PolicyBodyTimeout(bounds.timeout));
            }
            Err(_) => return Err(ProxyError::ClientGone),
        }
    }
}

/// A body of which the beginning is looked for in what has arrived.
struct Ahead {
    framing: Framing,
    bytes_max: usize,
    /// What was found, without its framing.
    bytes: Vec<u8>,
}

enum Framing {
    Length(u64),
    /// The client says when.
    UntilEnd {
        body_bytes_max: u64,
    },
    Chunked {
        decoder: Box<ChunkedDecoder>,
        /// Bytes that the decoder has seen.
        seen: usize,
        body_bytes_max: u64,
    },
}

impl Ahead {
    /// Of a body of which nothing was looked at. `bytes` is empty.
    fn of(framing: BodyFraming, bounds: &Bounds, bytes: Vec<u8>) -> Ahead {
        let framing = match framing {
            BodyFraming::Chunked => {
                let decoder = Box::new(ChunkedDecoder::new(is_stripped_inbound));
                Framing::Chunked { decoder, seen: 0, body_bytes_max: bounds.body_bytes_max }
            }
            BodyFraming::None => Framing::Length(0),
            BodyFraming::Length(length) => Framing::Length(length),
            // What the frames of HTTP/2 amount to.
            BodyFraming::UntilClose => Framing::UntilEnd { body_bytes_max: bounds.body_bytes_max },
        };
        Ahead { framing, bytes_max: bounds.bytes_max, bytes }
    }

    /// Bytes of the copy, also of one that is yet to be made, when all has arrived.
    fn copied(&self) -> usize {
        match self.framing {
            Framing::Length(length) => wanted(length, self.bytes_max),
            Framing::UntilEnd { .. } | Framing::Chunked { .. } => self.bytes.len(),
        }
    }

    /// Looks at all that has arrived, which is more each time. Whether the body goes on behind what was found; `None` until
    /// that is known.
    fn look(&mut self, arrived: &[u8], ended: bool) -> Result<Option<bool>, ProxyError> {
        let Ahead { framing, bytes_max, bytes } = self;
        match framing {
            Framing::Length(length) => {
                let wanted = wanted(*length, *bytes_max);
                let Some(found) = arrived.get(..wanted) else { return Ok(None) };
                bytes.extend_from_slice(found);
                Ok(Some(*length > wanted as u64))
            }
            Framing::UntilEnd { body_bytes_max } => {
                if arrived.len() as u64 > *body_bytes_max {
                    return Err(ProxyError::BodyTooLarge { limit: *body_bytes_max });
                }
                let is_longer = arrived.len() > *bytes_max;
                if !ended && !is_longer {
                    return Ok(None);
                }
                bytes.extend_from_slice(&arrived[..arrived.len().min(*bytes_max)]);
                Ok(Some(is_longer))
            }
            Framing::Chunked { decoder, seen, body_bytes_max } => {
                let ended = decode(decoder, arrived, seen, *bytes_max, bytes)?;
                if bytes.len() as u64 > *body_bytes_max {
                    return Err(ProxyError::BodyTooLarge { limit: *body_bytes_max });
                }
                if bytes.len() > *bytes_max {
                    bytes.truncate(*bytes_max);
                    return Ok(Some(true));
                }
                // Chunks of a byte take six, and may take twenty: what is mostly framing is not waited for.
                let is_bloated = arrived.len() > 2 * *bytes_max + FRAMING_MAX;
                Ok(if ended { Some(false) } else { is_bloated.then_some(true) })
            }
        }
    }
}

/// Bytes of a body of this length that are looked at.
fn wanted(length: u64, bytes_max: usize) -> usize {
    usize::try_from(length).map_or(bytes_max, |length| length.min(bytes_max))
}

/// Decodes on from `seen`, until the body ends or `bytes` has more than `bytes_max`; whether it ended.
fn decode(
    decoder: &mut ChunkedDecoder,
    arrived: &[u8],
    seen: &mut usize,
    bytes_max: usize,
    bytes: &mut Vec<u8>,
) -> Result<bool, ChunkError> {
    while *seen < arrived.len() && bytes.len() <= bytes_max {
        match decoder.decode(&arrived[*seen..])? {
            Decoded::Data { skip, data } => {
                let data = *seen + skip..*seen + skip + data;
                *seen = data.end;
                bytes.extend_from_slice(&arrived[data]);
            }
            Decoded::NeedMore { consumed } => *seen += consumed,
            Decoded::Done { .. } => return Ok(true),
        }
    }
    Ok(false)
}

/// Bytes that a worker holds of bodies which were not there when their request was looked at.
#[derive(Default)]
pub(crate) struct HeldBodies(Cell<usize>);

/// The part of these that one request has.
pub(crate) struct Room<'w> {
    held: &'w HeldBodies,
    bytes: Cell<usize>,
}

impl<'w> Room<'w> {
    /// Nothing yet.
    pub(crate) fn new(held: &'w HeldBodies) -> Room<'w> {
        Room { held, bytes: Cell::new(0) }
    }

    /// Takes so many bytes, unless those of all requests together would be more than `held_max`.
    fn resize(&self, bytes: usize, held_max: usize) -> Result<(), ProxyError> {
        let others = self.held.0.get() - self.bytes.get();
        if others + bytes > held_max {
            return Err(ProxyError::PolicyBodyMemory { limit: held_max });
        }
        self.held.0.set(others + bytes);
        self.bytes.set(bytes);
        Ok(())
    }

    /// No more than so many bytes are still held.
    pub(crate) fn shrink(&self, bytes: usize) {
        if bytes < self.bytes.get() {
            self.held.0.set(self.held.0.get() - self.bytes.get() + bytes);
            self.bytes.set(bytes);
        }
    }
}

impl Drop for Room<'_> {
    fn drop(&mut self) {
        self.shrink(0);
    }
}

/// What a worker has at least: room for the largest body that policies may see (1 MiB) in its framing, and without it.
const HELD_MAX_LEAST: usize = 4 << 20;
/// Framing that any body may have besides as much again as it has bytes: small bodies in chunks of a byte are read whole.
const FRAMING_MAX: usize = 16 * 1024;

#[cfg(test)]
mod tests;
