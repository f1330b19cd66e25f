//! A copy of a request, whose answer nobody gets.

use std::{pin::pin, rc::Rc};

use ringward_http::{BodyFraming, ResponseHead};

use super::{Download, Plan, beside, upload};
use crate::{
    client_side::{Sink, Source},
    error::ProxyError,
    io::{Deadline, Shut},
    upstream::millis,
    upstream_side::{RequestSink, UpstreamSide},
};

/// Sends the copy with the body from `source`, and gives `sink` the answer; whether `up` may be used again. `timer` stands for the
/// client's socket, since there is none.
///
/// Of [`Plan::response_timeout`] each part of the request may take so long to be accepted, and then all of the answer.
pub(crate) async fn copy<U: UpstreamSide>(
    plan: &Plan<'_>,
    timer: &Rc<Deadline>,
    (source, sink): (&mut impl Source, impl Sink),
    up: &mut U,
    response: &mut ResponseHead,
) -> Result<bool, ProxyError> {
    let time = millis(plan.response_timeout);
    up.deadline().limit(None);
    let mut out = plan.buffers.small();
    if let Err(error) = up.head(plan, &mut out) {
        plan.buffers.put(out);
        return Err(error);
    }
    let (mut request, mut answer, deadline) = up.split(plan);
    deadline.set(time, Shut::Both);
    let is_whole = plan.head.body() == BodyFraming::None;
    let (sent, out) = request.send(out, is_whole, || {}).await;
    plan.buffers.put(out);
    sent?;
    let mut upload = pin!(async {
        if !is_whole {
            upload::run(plan, source, &mut request, deadline, timer).await?;
        }
        // From now on it is one wait, however much moves.
        deadline.limit(Some(time));
        deadline.set(time, Shut::Both);
        Ok::<(), ProxyError>(())
    });
    let mut uploaded = None;
    let mut download = Download::new(plan, sink, deadline, timer);
    {
        let head = pin!(download.head(&mut answer, response));
        beside(upload.as_mut(), &mut uploaded, head).await?;
    }
    let end = {
        let body = pin!(download.body(&mut answer, response, false));
        beside(upload.as_mut(), &mut uploaded, body).await?
    };
    Ok(end.upstream_reusable && matches!(uploaded, Some(Ok(()))))
}
