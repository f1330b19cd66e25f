//! Asking an upstream to switch protocols, and what it answers.

use ringward_http::{ResponseHead, Version};

use super::{Failure, Plan, Relayed, blame, download::Download};
use crate::{
    client_side::ClientSide,
    error::ProxyError,
    io::Shut,
    upgrade::Asked,
    upstream::millis,
    upstream_side::{RequestSink, ResponseSource, UpstreamSide},
};

/// How the upstream has answered.
pub(crate) enum Answer {
    /// With a response like any other, which the client has got.
    Relayed(Relayed),
    /// With 101, and the client knows. These bytes came behind it.
    Switched(Vec<u8>),
}

/// Sends the request, and relays the response or the 101. As with [`super::exchange`], the upstream connection cannot be used
/// again after a failure.
pub(crate) async fn ask(
    plan: &Plan<'_>,
    asked: &Asked<'_>,
    down: &mut impl ClientSide,
    up: &mut impl UpstreamSide,
    response: &mut ResponseHead,
) -> Result<Answer, Failure> {
    let answer = run(plan, asked, down, up, response).await;
    answer.map_err(|(error, unanswered)| Failure {
        error: blame(error, up.deadline(), down.deadline()),
        unanswered,
        // What the client has said for the tunnel is not looked at before there is one.
        unsent: unanswered,
        request_unread: false,
    })
}

/// The error comes with whether nothing of a response has arrived.
async fn run(
    plan: &Plan<'_>,
    asked: &Asked<'_>,
    down: &mut impl ClientSide,
    up: &mut impl UpstreamSide,
    response: &mut ResponseHead,
) -> Result<Answer, (ProxyError, bool)> {
    up.deadline().limit_like(down.deadline());
    let mut out = plan.buffers.small();
    if let Err(error) = up.head(plan, &mut out) {
        plan.buffers.put(out);
        let unanswered = matches!(error, ProxyError::UpstreamUnprocessed(_));
        return Err((error, unanswered));
    }
    let (mut request, mut source, deadline) = up.split(plan);
    deadline.set(millis(plan.response_timeout), Shut::Both);
    let (sent, out) = request.send(out, false, || {}).await;
    plan.buffers.put(out);
    sent.map_err(|error| (error, true))?;
    let client = down.deadline().clone();
    // As with every request, the client is only watched: what it sends before it knows the answer stays where it is.
    deadline.serve(Some(&client));
    let mut download = Download::new(plan, down.split().1, deadline, &client);
    if let Err(error) = download.head(&mut source, response).await {
        return Err((error, source.is_untouched()));
    }
    let answered = |error| (error, false);
    if response.status() == 101 {
        asked.confirm(response).map_err(answered)?;
        download.switch(response, asked.protocol()).await.map_err(answered)?;
        deadline.serve(None);
        // What the route allows for a request is over with the answer; a tunnel has limits of its own.
        deadline.limit(None);
        return Ok(Answer::Switched(source.into_rest()));
    }
    if plan.head.version() == Version::Http2 && (200..300).contains(&response.status()) {
        // To the client this would say that the tunnel is open (RFC 8441 §4).
        return Err(answered(ProxyError::UpstreamUpgrade("it answers 2xx instead of 101")));
    }
    let end = download.body(&mut source, response, plan.is_last()).await.map_err(answered)?;
    Ok(Answer::Relayed(Relayed {
        downstream_reusable: end.downstream_reusable,
        request_unread: false,
        upstream_reusable: end.upstream_reusable,
    }))
}
