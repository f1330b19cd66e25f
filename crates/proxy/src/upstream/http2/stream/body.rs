//! The body of a response as bytes alone, for those who look at them.

use http::HeaderMap;
use ringward_http::BodyFraming;

use super::{Receiving, is_behind_the_end, truncated};
use crate::{
    client_side::Sink,
    error::ProxyError,
    relay::Download,
    upstream_side::{ResponseBody, Taken},
};

/// What is left of a body.
pub(crate) struct Body<'s, 'a> {
    source: &'s mut Receiving<'a>,
    /// Of a body of known length.
    left: Option<u64>,
    /// How much the window has to get back.
    taken: usize,
    trailers: HeaderMap,
}

impl<'s, 'a> Body<'s, 'a> {
    pub(super) fn new(source: &'s mut Receiving<'a>, framing: BodyFraming) -> Self {
        let left = match framing {
            BodyFraming::Length(length) => Some(length),
            _ => None,
        };
        Body { source, left, taken: 0, trailers: HeaderMap::new() }
    }

    fn fields(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.trailers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()))
    }
}

impl ResponseBody for Body<'_, '_> {
    async fn take<S: Sink>(
        &mut self,
        download: &Download<'_, S>,
        plain: &mut Vec<u8>,
        max: usize,
        waits: bool,
    ) -> Result<Taken, ProxyError> {
        // What was taken before has gone on. Only now may the upstream send as much again.
        self.source.release(std::mem::take(&mut self.taken));
        while plain.len() < max {
            let next = if waits && plain.is_empty() {
                download.await_upstream();
                self.source.next().await
            } else {
                match self.source.ready().await {
                    Some(next) => next,
                    None => return Ok(Taken::Pause),
                }
            };
            let next = match next {
                Err(error) if is_behind_the_end(&error, self.left) => {
                    *self.source.body = None;
                    return Ok(Taken::End);
                }
                next => next.map_err(|error| truncated(error, self.left))?,
            };
            let Some(data) = next else {
                self.trailers = self.source.trailers().await?.unwrap_or_default();
                let limits = self.source.common.plan.head_limits;
                limits.check_trailers(self.fields()).map_err(ProxyError::UpstreamChunk)?;
                return Ok(Taken::End);
            };
            plain.extend_from_slice(&data);
            self.taken += data.len();
            self.left = self.left.map(|left| left.saturating_sub(data.len() as u64));
        }
        Ok(Taken::More)
    }

    fn trailers(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.fields()
    }

    fn is_reusable(&self) -> bool {
        true
    }
}
