//! A response's body that is compressed on its way to the client.
//!
//! In steps: the upstream's framing is taken off, what is left passes through the encoder, and what comes out of that is framed for the
//! client. When nothing more has arrived, all that the encoder holds leaves, so nobody waits for bytes that are here. After each step
//! others have their turn. As everywhere, more is read once what was read has been sent. A body that breaks off is never given an end.

use ringward_coding::EncodeError;
use ringward_http::ResponseHead;

use super::Download;
use crate::{
    client_side::Sink,
    compression::{self, Encoding, Held, is_digest},
    error::ProxyError,
    upstream_side::{ResponseBody, ResponseSource, Taken},
};

/// Streams the body that follows `head` to its end. In `out` is what has to leave before it. Whether the upstream's connection may be
/// used again.
pub(super) async fn stream<S: Sink>(
    download: &mut Download<'_, S>,
    source: &mut impl ResponseSource,
    head: &ResponseHead,
    encoding: Box<Encoding<'_>>,
    out: &mut Vec<u8>,
) -> Result<bool, ProxyError> {
    let Encoding { worker, mut encoder } = *encoding;
    let mut body = source.body(head);
    let coding = compression::label(encoder.algorithm());
    worker.shard.compressed(coding);
    let (mut plain, mut encoded) = (worker.buffers.large(), worker.buffers.large());
    let (mut waits, mut worked) = (false, 0);
    loop {
        plain.clear();
        encoded.clear();
        let taken = body.take(download, &mut plain, STEP, waits).await?;
        encode(&mut encoder, &plain, taken, &mut encoded)?;
        worker.shard.compressed_bytes(coding, plain.len() as u64, encoded.len() as u64);
        download.piece(out, &encoded);
        download.count(encoded.len());
        if taken == Taken::End {
            download.end(out, body.trailers().filter(|(name, _)| !is_digest(name)));
            download.finish(out, true).await?;
            break;
        }
        waits = taken == Taken::Pause;
        if waits || out.len() >= STEP {
            download.finish(out, false).await?;
        }
        worked += plain.len();
        if worked >= STEP {
            worked = 0;
            download.hold_upstream();
            worker.turnstile.pass().await;
        }
    }
    worker.buffers.put(plain);
    worker.buffers.put(encoded);
    Ok(body.is_reusable())
}

fn encode(
    encoder: &mut Held<'_>,
    plain: &[u8],
    taken: Taken,
    encoded: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    let encoder = encoder.encoder();
    encoder.write(plain, encoded)?;
    match taken {
        Taken::More => Ok(()),
        Taken::Pause => encoder.flush(encoded),
        Taken::End => encoder.finish(encoded),
    }
}

/// How much is encoded in one turn: a record of TLS, or a frame of HTTP/2, and less than a millisecond.
const STEP: usize = 16 * 1024;
