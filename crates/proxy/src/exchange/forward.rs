//! From a decision to a response: an endpoint's connection, a try on it, another one if the route allows that.

use std::{
    cell::OnceCell,
    future::{Future, poll_fn},
    pin::pin,
    task::Poll,
    time::{Duration, Instant},
};

use ringward_http::BodyFraming;
use ringward_telemetry::RetryReason;

use super::{
    Facts, Job, Served, Unserved,
    attempt::{Attempt, send},
    decide::still_stands,
};
use crate::{
    announced,
    client_side::ClientSide,
    error::{ProxyError, Side},
    header_edits::{self, Asking},
    io::Deadline,
    relay::{Answer, Opened, Progress, TunnelLimits},
    retry::Tries,
    snapshot::{Listener, Route},
    upgrade::Asked,
    upstream::{Active, Cluster, Upstream, Wanted},
};

/// Sends the request to an endpoint and relays the response, if need be several times. `None`: the snapshot changed before a
/// byte of it was sent, or before it was sent again, or what the client's OCSP responder had said is over.
pub(super) async fn forward(
    client: &mut impl ClientSide,
    job: &Job<'_>,
    facts: &mut Facts,
    progress: &Progress,
) -> Result<Option<Served>, Unserved> {
    let Job { connection, target, .. } = *job;
    let worker = &connection.worker;
    let cluster: &Cluster = &job.view.clusters[target.cluster()];
    let refused = |error| Unserved { error, request_unread: job.head.body() != BodyFraming::None };
    let _active = match cluster.enter() {
        Some(active) => active,
        // Boxed, as what is rare.
        None => Box::pin(wait(cluster, job, &*client)).await.map_err(refused)?,
    };
    let mut tries = Tries::new(worker, cluster, target.route.retry.as_deref(), job.head, facts.tries.take());
    let asked = Asked::of(job.head, target.route).map_err(refused)?;
    let fields = {
        let asking = Asking { head: job.head, target, connection, facts };
        header_edits::fields(target.route, &asking, job.caller).map_err(refused)?
    };
    let hash = cluster.hash(job.head, job.caller, facts.on_behalf.ip(connection));
    let copy = OnceCell::new();
    let needs_http2 = target.route.grpc && cluster.chooses_protocol();
    loop {
        let started = Instant::now();
        let kept = if tries.is_plain() && !needs_http2 { cluster.kept(hash) } else { None };
        let mut up = match kept {
            Some(up) => up,
            None => {
                let announced = cluster.announces().then(|| {
                    let named = facts.on_behalf.client.as_deref();
                    announced::header(connection, client.session(), job.caller, named)
                });
                // Boxed, so that the many that find one need not have room for it.
                Box::pin(connect(job, &mut tries, hash, announced)).await.map_err(refused)?
            }
        };
        let reused = up.is_reused();
        facts.connect_time = if reused { Duration::ZERO } else { started.elapsed() };
        facts.upstream = Some(up.addr().clone());
        if target.route.grpc {
            cluster.check_grpc(&up, &worker.shard).map_err(refused)?;
        }
        match still_stands(connection, job.view, (target, &facts.on_behalf), job.heard) {
            Ok(true) => {}
            stands => {
                facts.tries = tries.suspend();
                cluster.keep(up);
                return stands.map(|_| None).map_err(refused);
            }
        }
        facts.attempts = facts.attempts.saturating_add(1);
        facts.sent_at = Some(started + facts.connect_time);
        worker.shard.upstream_request(cluster.id, reused);
        let (asked, fields) = (asked.as_ref(), fields.as_deref());
        let attempt = Attempt { job, asked, fields, copy: &copy, tries: &tries, facts, progress };
        up.set_busy(true);
        let sent = send(client, &attempt, &mut up).await;
        up.set_busy(!matches!(sent, Ok(Ok(_))));
        tries.answered(matches!(sent, Ok(Ok(_))));
        let reason = match sent.map_err(refused)? {
            Ok(Answer::Relayed(relayed)) => {
                cluster.has_answered(up.addr(), progress.status.get(), progress.grpc.get());
                if relayed.upstream_reusable {
                    cluster.keep(up);
                }
                return Ok(Some(Served::Relayed(relayed)));
            }
            Ok(Answer::Switched(early)) => {
                cluster.has_answered(up.addr(), progress.status.get(), None);
                let limits = tunnel_limits(target.route, job.listener);
                return Ok(Some(Served::Switched(Box::new(Opened { up, early, limits }))));
            }
            Err(failure) => match tries.after(&failure, reused) {
                // That a kept connection has died says nothing of its endpoint.
                Some(RetryReason::StaleConnection) => RetryReason::StaleConnection,
                Some(reason) => {
                    blame(cluster, &up, &failure.error, client.deadline(), progress);
                    reason
                }
                None => {
                    blame(cluster, &up, &failure.error, client.deadline(), progress);
                    if failure.error.side() == Side::Upstream {
                        worker.shard.upstream_error(cluster.id, failure.error.flag());
                    }
                    return Err(Unserved { error: failure.error, request_unread: failure.request_unread });
                }
            },
        };
        progress.answered.set(None);
        let failed = up.addr().clone();
        drop(up);
        // Boxed, as what is rare.
        Box::pin(tries.next(reason, Some(failed), job.time)).await.map_err(refused)?;
    }
}

/// Waits for the request's turn on the cluster.
///
/// # Errors
/// Those of [`Cluster::wait`]; that the request's own time is over, or its client gone.
async fn wait<'c>(
    cluster: &'c Cluster,
    job: &Job<'_>,
    client: &impl ClientSide,
) -> Result<Active<'c>, ProxyError> {
    let worker = &job.connection.worker;
    // Nothing is read from the client meanwhile, which would tell that it has hung up.
    let (own, looks) = (client.deadline(), worker.deadlines.timer());
    looks.serve(Some(client.socket()));
    let mut turn = pin!(cluster.wait(&worker.shard));
    let turn = pin!(poll_fn(|cx| match turn.as_mut().poll(cx) {
        // Nothing else notices that we have cut the connection ourselves.
        Poll::Pending if own.poll_cut(cx).is_ready() || looks.poll_fired(cx).is_ready() => {
            Poll::Ready(Err(job.connection.standing.withdrawn().unwrap_or(ProxyError::ClientGone)))
        }
        turn => turn,
    }));
    let active = job.time.bound(&worker.deadlines, turn).await.and_then(|active| active)?;
    // Since the last look. The turn is somebody else's, then.
    if client.socket().hung_up() { Err(ProxyError::ClientGone) } else { Ok(active) }
}

/// Counts a failure against the endpoint, unless it says nothing of that: the client's own time was over, or a kept connection
/// was gone before anything came on it.
fn blame(cluster: &Cluster, up: &Upstream, error: &ProxyError, client: &Deadline, progress: &Progress) {
    let is_innocent = match error {
        ProxyError::UpstreamTimeout(_) => client.is_limit_reached(),
        ProxyError::UpstreamClosed | ProxyError::UpstreamReset(_) => {
            up.is_reused() && progress.answered.get().is_none()
        }
        _ => false,
    };
    if !is_innocent {
        cluster.has_failed(up.addr(), error);
    }
}

/// A connection, after several tries if the route wants that. It begins with `announced`.
async fn connect(
    job: &Job<'_>,
    tries: &mut Tries<'_>,
    hash: Option<u64>,
    announced: Option<Vec<u8>>,
) -> Result<Upstream, ProxyError> {
    let worker = &job.connection.worker;
    loop {
        let http2 = job.target.route.grpc && tries.cluster().chooses_protocol();
        let wanted = Wanted { http2, ..tries.wanted() };
        let connected = {
            let connecting = pin!(tries.cluster().connect(worker, hash, wanted, announced.as_deref()));
            job.time.bound(&worker.deadlines, connecting).await.and_then(|up| up)
        };
        let error = match connected {
            Ok(up) => return Ok(up),
            Err(error) => error,
        };
        let Some(reason) = tries.after_connect(&error) else { return Err(error) };
        tries.next(reason, None, job.time).await?;
    }
}

fn tunnel_limits(route: &Route, listener: &Listener) -> TunnelLimits {
    let idle_half = listener.limits.body_timeout;
    match &route.tunnel {
        Some(tunnel) => TunnelLimits { idle: tunnel.idle_timeout, idle_half, age_max: tunnel.age_max },
        // Only a route that carries tunnels has asked for one.
        None => TunnelLimits { idle: idle_half, idle_half, age_max: None },
    }
}
