//! Limits of requests.

use super::context::Context;
use crate::bounds;
use crate::model::Requests;
use crate::raw::{self, Field};

/// What a listener says about requests, if it says something.
pub(super) fn requests(cx: &mut Context<'_>, field: &Field<raw::Requests>) -> Option<Requests> {
    let given = cx.given(field)?;
    let (span, raw) = (given.span(), given.get_ref());
    // Nobody knows but the operator: it depends on what the upstreams can do.
    cx.required("concurrent_max", "concurrent_max = 2000", &raw.concurrent_max, &span);
    Some(Requests {
        concurrent_max: cx.number("concurrent_max", &raw.concurrent_max, &bounds::REQUESTS_CONCURRENT_MAX),
        queue_max: cx.number("queue_max", &raw.queue_max, &bounds::REQUEST_QUEUE_MAX),
        queue_timeout: cx.duration("queue_timeout", &raw.queue_timeout, &bounds::REQUEST_QUEUE_TIMEOUT),
    })
}
