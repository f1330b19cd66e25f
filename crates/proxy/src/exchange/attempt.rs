//! One try: the request leaves on a connection, and its response is relayed.

use std::cell::OnceCell;

use ringward_http::grpc::TimeoutText;

use super::{Facts, Job};
use crate::{
    announced,
    client_side::ClientSide,
    edits::Edits,
    error::ProxyError,
    grpc,
    header_edits::Fields,
    mirror::{self, Mirror, Tap},
    relay::{self, Answer, Failure, Plan, Progress},
    retry::Tries,
    upgrade::Asked,
    upstream::Upstream,
};

/// What one try is made of. By reference, since what is passed on by value takes its room twice.
#[derive(Clone, Copy)]
pub(super) struct Attempt<'a, 't> {
    pub(super) job: &'a Job<'a>,
    pub(super) asked: Option<&'a Asked<'a>>,
    /// Header fields that the route adds.
    pub(super) fields: Option<&'a Fields<'a>>,
    /// Where the body is copied to, once that is decided.
    pub(super) copy: &'a OnceCell<Option<Tap>>,
    pub(super) tries: &'a Tries<'t>,
    pub(super) facts: &'a Facts,
    pub(super) progress: &'a Progress,
}

/// One try: sends the request on `up`, and relays the response.
pub(super) async fn send(
    client: &mut impl ClientSide,
    attempt: &Attempt<'_, '_>,
    up: &mut Upstream,
) -> Result<Result<Answer, Failure>, ProxyError> {
    let Attempt { job, facts, progress, .. } = *attempt;
    let Job { connection, head, listener, target, .. } = *job;
    let worker = &connection.worker;
    let is_grpc = progress.grpc.get().is_some();
    let left = job.time.left()?;
    let date = worker.clock.date();
    let from = (&connection.client, &facts.on_behalf);
    let mut edits = Edits::new(target.host, from, job.caller, facts.decision.as_deref(), &date);
    edits.fields = attempt.fields;
    edits.grpc_timeout = left.filter(|_| is_grpc).map(TimeoutText::new);
    let copy = match &target.route.mirror {
        Some(mirror) if attempt.asked.is_none() => {
            attempt.copy.get_or_init(|| begin_copy(mirror, client, attempt, &edits)).as_ref()
        }
        _ => None,
    };
    let tries = attempt.tries;
    let drops = |status| tries.drops(status);
    let plan = Plan {
        head,
        edits: &edits,
        asked: attempt.asked,
        mirror: copy,
        head_limits: &listener.limits.head,
        body_bytes_max: target.route.body_bytes_max,
        body_timeout: grpc::body_timeout(is_grpc, &listener.limits, target.route),
        response_timeout: target.route.response_timeout,
        try_timeout: tries.timeout(target.route.response_timeout),
        drops: tries.keeps_body().then_some(&drops),
        compression: target.route.compression.as_deref().filter(|_| !is_grpc && attempt.asked.is_none()),
        standing: Some(&connection.standing),
        buffers: &worker.buffers,
        room: job.room,
        progress,
    };
    let mut response = worker.heads.response();
    response.clear();
    let answered = match (up, plan.asked) {
        (Upstream::Http1(connection), None) => {
            relay::exchange(&plan, client, connection, &mut response).await.map(Answer::Relayed)
        }
        // Boxed, so that exchanges without TLS need not have room for it.
        (Upstream::Http1Tls(connection), None) => {
            let exchange = relay::exchange(&plan, client, connection, &mut response);
            Box::pin(exchange).await.map(Answer::Relayed)
        }
        // Boxed, as what is rare.
        (Upstream::Http1(connection), Some(asked)) => {
            Box::pin(relay::ask(&plan, asked, client, connection, &mut response)).await
        }
        (Upstream::Http1Tls(connection), Some(asked)) => {
            Box::pin(relay::ask(&plan, asked, client, connection, &mut response)).await
        }
        // Boxed, so that exchanges with upstreams of HTTP/1.1 need not have room for it.
        (Upstream::Http2(stream), None) => {
            let exchange = relay::exchange(&plan, client, &mut **stream, &mut response);
            Box::pin(exchange).await.map(Answer::Relayed)
        }
        (Upstream::Http2(stream), Some(asked)) => {
            Box::pin(relay::ask(&plan, asked, client, &mut **stream, &mut response)).await
        }
    };
    worker.heads.put_response(response);
    Ok(answered)
}

/// Begins a copy of a request that is about to leave, if there is to be one and it leaves for the first time.
#[inline(never)]
fn begin_copy(
    mirror: &Mirror,
    client: &mut impl ClientSide,
    attempt: &Attempt<'_, '_>,
    edits: &Edits<'_>,
) -> Option<Tap> {
    let Attempt { job, facts, .. } = *attempt;
    let Job { connection, head, view, caller, .. } = *job;
    if facts.attempts > 1 {
        return None;
    }
    let request = mirror::Request {
        number: (connection.facts.id, facts.number),
        head,
        edits,
        hash: &|cluster| cluster.hash(head, caller, facts.on_behalf.ip(connection)),
        announced: &mut || {
            announced::header(connection, client.session(), caller, facts.on_behalf.client.as_deref())
        },
    };
    let copy = mirror.begin(&connection.worker, view, request);
    facts.mirror.set(copy.is_some().then(|| mirror.cluster(view)));
    copy
}
