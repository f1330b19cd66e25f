//! Whether a response is compressed on its way to the client, and with what.
//!
//! It is decided when the response's head is there, from the two heads and what the route says (RFC 9110 §8.4, §12.5.3). What that means
//! for the head is in [`fields`], where encoders come from in [`encoders`]; the body passes through [`crate::relay`].

mod encoders;
mod fields;

use ringward_coding::Algorithm;
use ringward_config::{Compression, CompressionAlgorithm};
use ringward_http::{BodyFraming, RequestHead, ResponseHead};
use ringward_telemetry::ContentCoding;
use smallvec::SmallVec;

use crate::{control::Pressure, edits::Edits, worker::Worker};

pub(crate) use self::{
    encoders::{Encoders, Held},
    fields::{Recoded, is_digest},
};

/// What a route says, where it says something, and who does it.
pub(crate) struct Compressing<'a> {
    pub(crate) rules: &'a Compression,
    pub(crate) worker: &'a Worker,
}

/// A body that is to be compressed.
pub(crate) struct Encoding<'w> {
    pub(crate) worker: &'w Worker,
    pub(crate) encoder: Held<'w>,
}

/// What becomes of a response of a route that compresses.
pub(crate) struct Verdict<'w> {
    pub(crate) recoded: Recoded,
    /// What its body has to pass through, if it has one.
    pub(crate) encoding: Option<Box<Encoding<'w>>>,
}

impl<'a> Compressing<'a> {
    /// Looks at a final response. `None`: it passes as it is, whatever the client can read.
    pub(crate) fn judge(
        &self,
        request: &RequestHead,
        response: &ResponseHead,
        edits: &Edits<'_>,
    ) -> Option<Verdict<'a>> {
        let is_unchanged = response.status() == 304;
        if !is_unchanged && !has_whole_body(request, response)
            || ["content-encoding", "etag"].iter().any(|name| edits.adds_to_response(name))
        {
            return None;
        }
        if !self.takes_content(response, is_unchanged) {
            return None;
        }
        let mut recoded = Recoded::varying(response);
        let Some((wanted, level)) = wanted(self.rules, request) else {
            return Some(Verdict { recoded, encoding: None });
        };
        let algorithm = match wanted {
            CompressionAlgorithm::Gzip => Algorithm::Gzip,
            CompressionAlgorithm::Br => Algorithm::Brotli,
            CompressionAlgorithm::Zstd => Algorithm::Zstd,
        };
        if is_unchanged {
            // RFC 9110 §15.4.5: the fields that the response would have had.
            recoded.weaken(response);
            return Some(Verdict { recoded, encoding: None });
        }
        let encoding = match request.is_head() {
            true => None,
            false => match self.encoder(algorithm, level) {
                Some(encoder) => Some(Box::new(Encoding { worker: self.worker, encoder })),
                None => {
                    self.worker.shard.compression_skipped();
                    return Some(Verdict { recoded, encoding: None });
                }
            },
        };
        recoded.encode(algorithm.coding(), response);
        Some(Verdict { recoded, encoding })
    }

    /// Whether the route compresses such content, and the upstream lets it.
    fn takes_content(&self, response: &ResponseHead, is_unchanged: bool) -> bool {
        let mut content_type = None;
        for field in response.fields() {
            let is = |name: &str| field.name.eq_ignore_ascii_case(name);
            // Two types are none.
            let is_another_type = is("content-type") && content_type.replace(field.value).is_some();
            let is_not_ours = is("cache-control") && has_no_transform(field.value);
            if is_another_type || is_not_ours || PASSES.into_iter().any(is) {
                return false;
            }
        }
        let is_taken = match content_type {
            Some(content_type) => self.rules.takes(content_type),
            // RFC 9110 §15.4.5: a 304 need not say it.
            None => is_unchanged,
        };
        // Where nobody knows how long it is, it is not known to be short.
        let is_short = response.declared_length().is_some_and(|length| length < self.rules.bytes_min);
        is_taken && (is_unchanged || !is_short)
    }

    fn encoder(&self, algorithm: Algorithm, level: u8) -> Option<Held<'a>> {
        if self.worker.control.pressure() != Pressure::None {
            return None;
        }
        let share = self.worker.view().snapshot.compression_memory_max / self.worker.workers.max(1);
        self.worker.encoders.take(algorithm, level, share)
    }
}

/// What the client wants most of what the route has, with its level.
pub(crate) fn wanted(rules: &Compression, request: &RequestHead) -> Option<(CompressionAlgorithm, u8)> {
    let mut asked = request.fields().filter(|field| field.name.eq_ignore_ascii_case("cache-control"));
    // RFC 9111 §5.2.1.6.
    if asked.any(|field| has_no_transform(field.value)) {
        return None;
    }
    let names: SmallVec<[&str; 3]> =
        rules.algorithms.iter().map(|(algorithm, _)| algorithm.as_str()).collect();
    request.preferred_coding(&names).map(|index| rules.algorithms[index])
}

/// The word for metrics.
pub(crate) fn label(algorithm: Algorithm) -> ContentCoding {
    match algorithm {
        Algorithm::Gzip => ContentCoding::Gzip,
        Algorithm::Brotli => ContentCoding::Brotli,
        Algorithm::Zstd => ContentCoding::Zstd,
    }
}

/// Whether it is a whole representation, with a body or in answer to HEAD.
fn has_whole_body(request: &RequestHead, response: &ResponseHead) -> bool {
    let has_body = match response.body() {
        BodyFraming::None => request.is_head(),
        BodyFraming::Length(length) => length > 0,
        BodyFraming::Chunked | BodyFraming::UntilClose => true,
    };
    has_body && !matches!(response.status(), 0..=199 | 204..=206 | 304)
}

/// RFC 9111 §5.2.2.6. Whatever else stands there, also malformed: who says it so is not to be told that it was not said.
fn has_no_transform(value: &[u8]) -> bool {
    let directives = value.split(|byte| matches!(byte, b',' | b'=' | b'"' | b';' | b' ' | b'\t'));
    directives.into_iter().any(|word| word.eq_ignore_ascii_case(b"no-transform"))
}

/// A response with one of these is not touched: it is encoded already, is a part of something, or is signed (RFC 9421) as it is.
const PASSES: [&str; 4] = ["content-encoding", "content-range", "signature", "signature-input"];

#[cfg(test)]
mod tests;
