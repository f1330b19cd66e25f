//! Whether a request that failed is sent again.
//!
//! Two things are so whatever is configured, each once: what took a kept connection that has died goes again if it is idempotent,
//! and what the upstream says it has not processed goes again in any case. All else is as the route's `retry` wants it, within
//! the cluster's budget. Nothing goes again of which the client has got a part, or of whose body anything is gone.

use std::{
    cell::Cell,
    time::{Duration, Instant},
};

use ringward_config::{EndpointAddr, Retry};
use ringward_http::{BodyFraming, RequestHead};
use ringward_telemetry::{ClusterId, RetryOutcome, RetryReason};

use crate::{
    error::ProxyError,
    io,
    relay::Failure,
    time_limit::TimeLimit,
    upstream::{Cluster, Retrying, Wanted},
    worker::Worker,
};

/// The tries of one request.
pub(crate) struct Tries<'a> {
    worker: &'a Worker,
    cluster: &'a Cluster,
    policy: Option<&'a Retry>,
    /// RFC 9110 §9.2.2: it may be sent again although an upstream may have acted on it, if its kept connection has died.
    idempotent: bool,
    /// The same by the policy, whatever the failure.
    repeatable: bool,
    /// How many tries there were, without the one that needs no policy.
    made: u8,
    /// That one was made.
    replaced: bool,
    /// The last one asks for a new connection.
    fresh: bool,
    /// Endpoints that have failed.
    tried: Vec<EndpointAddr>,
    retrying: Cell<Option<Retrying>>,
    /// There would have been another try.
    refused: Cell<bool>,
    /// What has come of them so far, if they are over.
    outcome: Option<RetryOutcome>,
}

/// The tries of a request that is decided about anew, between the last one and the next.
pub(crate) struct Suspended {
    made: u8,
    replaced: bool,
    fresh: bool,
    tried: Vec<EndpointAddr>,
    /// Of the cluster with this number; another one has a budget of its own.
    retrying: (ClusterId, Option<Retrying>),
}

impl<'a> Tries<'a> {
    /// Of the request `head`, which go on from those that were made `before`.
    pub(crate) fn new(
        worker: &'a Worker,
        cluster: &'a Cluster,
        policy: Option<&'a Retry>,
        head: &RequestHead,
        before: Option<Box<Suspended>>,
    ) -> Tries<'a> {
        let repeatable =
            |policy: &Retry| policy.methods.iter().any(|method| method.as_str() == head.method());
        let before = before.map_or_else(|| Suspended::none(cluster.id), |before| *before);
        let Suspended { made, replaced, fresh, tried, retrying: (id, retrying) } = before;
        Tries {
            worker,
            cluster,
            policy,
            idempotent: head.is_idempotent() && head.body() == BodyFraming::None,
            repeatable: policy.is_some_and(repeatable),
            made,
            replaced,
            fresh,
            tried,
            retrying: Cell::new(retrying.filter(|_| id == cluster.id)),
            refused: Cell::new(false),
            outcome: Some(RetryOutcome::Failed),
        }
    }

    /// On which they are made.
    pub(crate) fn cluster(&self) -> &'a Cluster {
        self.cluster
    }

    /// They are over for now, since the request is decided about anew. What is to be known when they go on, if there was more
    /// than one.
    pub(crate) fn suspend(&mut self) -> Option<Box<Suspended>> {
        self.outcome = None;
        (self.replaced || self.made > 1).then(|| {
            Box::new(Suspended {
                made: self.made,
                replaced: self.replaced,
                fresh: self.fresh,
                tried: std::mem::take(&mut self.tried),
                retrying: (self.cluster.id, self.retrying.take()),
            })
        })
    }

    /// Whether the last one has led to a response, or a tunnel.
    pub(crate) fn answered(&mut self, answered: bool) {
        self.outcome = Some(if answered { RetryOutcome::Answered } else { RetryOutcome::Failed });
    }

    /// Any kept connection will do.
    pub(crate) fn is_plain(&self) -> bool {
        !self.fresh && self.tried.is_empty()
    }

    /// The connection that the next one wants.
    pub(crate) fn wanted(&self) -> Wanted<'_> {
        Wanted { fresh: self.fresh, http2: false, others_than: &self.tried }
    }

    /// How long one may take, of which the upstream may be silent for `limit`.
    pub(crate) fn timeout(&self, limit: Duration) -> Duration {
        self.policy.and_then(|policy| policy.per_try_timeout).map_or(limit, |timeout| timeout.min(limit))
    }

    /// Whether responses of some status, or failures, let the request be sent again, so that its body is to be kept.
    pub(crate) fn keeps_body(&self) -> bool {
        self.repeatable
    }

    /// Whether a response of this status is dropped, since another one is asked for. It is, then.
    pub(crate) fn drops(&self, status: u16) -> bool {
        let is_listed = |policy: &Retry| policy.statuses.iter().any(|range| range.contains(&status));
        self.repeatable && self.policy.is_some_and(is_listed) && self.allows_another()
    }

    /// Whether and why the request goes again after no endpoint could be connected to.
    pub(crate) fn after_connect(&self, error: &ProxyError) -> Option<RetryReason> {
        let wanted = matches!(error, ProxyError::Connect { .. } | ProxyError::UpstreamTls(_))
            && self.policy.is_some_and(|policy| policy.connect_failure);
        (wanted && self.allows_another()).then_some(RetryReason::ConnectFailure)
    }

    /// Whether and why it goes again after a failure on a connection, which had carried others if it was `reused`.
    pub(crate) fn after(&self, failure: &Failure, reused: bool) -> Option<RetryReason> {
        use ProxyError::{
            UpstreamClosed, UpstreamReset, UpstreamStatus, UpstreamStreamReset, UpstreamTimeout,
            UpstreamUnprocessed,
        };
        let policy = self.policy;
        let (reason, needs_none, wanted) = match failure.error {
            // Decided when it arrived.
            UpstreamStatus(_) => return Some(RetryReason::Status),
            UpstreamClosed | UpstreamReset(_)
                if failure.unanswered && reused && self.idempotent && !self.replaced =>
            {
                (RetryReason::StaleConnection, true, false)
            }
            UpstreamClosed | UpstreamReset(_) | UpstreamStreamReset(_) => {
                (RetryReason::Reset, false, self.repeatable && policy.is_some_and(|policy| policy.reset))
            }
            // RFC 9113 §8.7: what was not processed may be sent again, whatever its method.
            UpstreamUnprocessed(_) => (
                RetryReason::RefusedStream,
                !self.replaced,
                policy.is_some_and(|policy| policy.refused_stream),
            ),
            UpstreamTimeout(_) => {
                (RetryReason::Timeout, false, self.repeatable && policy.is_some_and(|policy| policy.timeout))
            }
            _ => return None,
        };
        let is_whole = failure.unsent || reason == RetryReason::StaleConnection;
        (is_whole && (needs_none || wanted && self.allows_another())).then_some(reason)
    }

    /// Whether there may be another try; it counts from then on.
    fn allows_another(&self) -> bool {
        if self.policy.is_none_or(|policy| self.made >= policy.attempts) || self.worker.is_stopped() {
            return false;
        }
        // What was given for the last one is free again.
        self.retrying.take();
        let retrying = self.cluster.may_retry(Instant::now());
        self.refused.set(retrying.is_none());
        self.retrying.set(retrying);
        !self.refused.get()
    }

    /// Goes on to the next one, which is made because of `reason`, after a pause if that is due. `failed` is where the last one
    /// was.
    ///
    /// # Errors
    /// When the time of the whole exchange is over.
    pub(crate) async fn next(
        &mut self,
        reason: RetryReason,
        failed: Option<EndpointAddr>,
        time: &TimeLimit,
    ) -> Result<(), ProxyError> {
        self.worker.shard.upstream_retry(self.cluster.id, reason);
        let needs_none = match reason {
            RetryReason::StaleConnection => true,
            RetryReason::RefusedStream => !self.replaced,
            _ => false,
        };
        self.fresh = !matches!(reason, RetryReason::Timeout | RetryReason::Status);
        if needs_none {
            self.replaced = true;
            return Ok(());
        }
        self.tried.extend(failed.filter(|failed| !self.tried.contains(failed)));
        let backoff = self.policy.map_or(Duration::ZERO, |policy| policy.backoff);
        let pause = pause(backoff, self.made, self.cluster.roll());
        self.made = self.made.saturating_add(1);
        let mut pausing = Box::pin(io::sleep(pause));
        time.bound(&self.worker.deadlines, pausing.as_mut()).await
    }
}

impl Suspended {
    /// Nothing was tried yet.
    fn none(cluster: ClusterId) -> Suspended {
        Suspended { made: 1, replaced: false, fresh: false, tried: Vec::new(), retrying: (cluster, None) }
    }
}

impl Drop for Tries<'_> {
    /// Counts what has come of them.
    fn drop(&mut self) {
        let outcome = match self.outcome {
            None => return,
            // With a response that was not wanted, perhaps.
            Some(_) if self.refused.get() => RetryOutcome::Budget,
            Some(_) if !self.replaced && self.made == 1 => return,
            Some(outcome) => outcome,
        };
        self.worker.shard.upstream_retried(self.cluster.id, outcome);
    }
}

/// Before the try that follows so many. `roll` is from 0 to 2^16.
fn pause(backoff: Duration, made: u8, roll: u64) -> Duration {
    let factor = 1 << made.saturating_sub(1).min(16);
    let whole = (backoff * factor).min(backoff * BACKOFF_MAX);
    whole - whole.mul_f64(roll as f64 / 131_072.0)
}

/// The longest pause, in those of the first one.
const BACKOFF_MAX: u32 = 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_ten_times_the_first_and_are_shortened_by_half_at_most() {
        let backoff = Duration::from_millis(40);
        for (made, longest) in [(1, 40), (2, 80), (3, 160), (4, 320), (5, 400), (9, 400), (255, 400)] {
            assert_eq!(pause(backoff, made, 0), Duration::from_millis(longest), "{made}");
            let shortest = pause(backoff, made, 65_535);
            assert!(shortest >= Duration::from_millis(longest / 2), "{made} {shortest:?}");
            assert!(shortest < Duration::from_millis(longest / 2 + 1), "{made} {shortest:?}");
        }
    }
}
