//! Route, trust and policy, on the snapshot in force: asked until they hold at the moment when the request can be sent.

use std::pin::pin;

use ringward_http::{BodyFraming, RequestHead};

use super::{Facts, Job, Served, Unserved, forward::forward};
use crate::{
    authorize,
    caller::{self, Heard},
    client_side::ClientSide,
    connection::Connection,
    cors,
    error::ProxyError,
    header_edits::Asking,
    on_behalf::{self, OnBehalf},
    overload,
    policy_body::{self, PolicyBody, Room},
    relay::Progress,
    route::{self, Target},
    time_limit::TimeLimit,
    upstream::split,
    worker::View,
};

/// How often a request is decided again because the snapshot changed before it could be sent. Reloads are seconds apart, so
/// more than one is rare, and more than these is a fault.
const SETTLE_MAX: u32 = 8;

/// Decides and relays, again if the snapshot changes in between.
pub(super) async fn serve(
    (connection, client): (&Connection, &mut impl ClientSide),
    head: &RequestHead,
    time: &TimeLimit,
    audited: bool,
    facts: &mut Facts,
    progress: &Progress,
) -> Result<Served, Unserved> {
    let unread = head.body() != BodyFraming::None;
    let refused = |error| Unserved { error, request_unread: unread };
    let worker = &connection.worker;
    let room = Room::new(&worker.bodies);
    let counted = on_behalf::Counted::default();
    // In work until the response has ended.
    let mut in_work = None;
    for _ in 0..SETTLE_MAX {
        let view = worker.view();
        facts.generation = view.generation();
        if view.snapshot.audit_required && !audited {
            // It came into force while the request waited; there is no place for its record.
            return Err(refused(ProxyError::AuditOverflow));
        }
        let (listener, admitted_as) = connection.standing.gate(&view).map_err(refused)?;
        let place = (listener, admitted_as);
        facts.on_behalf = on_behalf::of(connection, &view, place, head, &counted).map_err(refused)?;
        let peer = facts.on_behalf.peer(connection);
        let mut target = route::select(listener, admitted_as, head, peer).map_err(refused)?;
        facts.route = Some(target.route.id);
        route::check_protocol(&target, progress.grpc.get().is_some()).map_err(refused)?;
        time.allow(target.route.request_timeout);
        time.apply(client.deadline()).map_err(refused)?;
        if let Some(limits) = &listener.requests
            && in_work.is_none()
            && overload::counts(&target)
        {
            in_work = connection.requests.enter(limits);
            if in_work.is_none() {
                // Boxed, as what is rare. What was said above may not hold afterwards.
                let waiting = Box::pin(connection.requests.wait(limits, connection, &*client, time));
                in_work = Some(waiting.await.map_err(refused)?);
                continue;
            }
        }
        let caller = caller::identify(connection, &facts.on_behalf, target.route).map_err(refused)?;
        if let Some(split) = &target.route.split {
            let random = split::random(connection.facts.id, facts.number);
            let source = facts.on_behalf.ip(connection);
            target.part = Some(split.part(head, caller.as_deref(), source, random));
        }
        let heard = {
            let heard = pin!(caller::check_ocsp(connection, &view, target.route));
            time.bound(&worker.deadlines, heard).await.and_then(|heard| heard).map_err(refused)?
        };
        if let Some(cors) = target.route.cors().filter(|_| target.is_preflight) {
            // It comes from the browser and not from the page, says nothing of what the request will be, and reaches no upstream: there
            // is nothing that a policy could decide about.
            return Err(refused(cors::answer(cors, head)));
        }
        if target.route.policy_body_max.is_some() {
            // Nothing is read of a body that is refused anyway.
            within_limit(head, target.route.body_bytes_max).map_err(refused)?;
        }
        let body =
            policy_body::read((connection, client), &view, &listener.limits, target.route, head, &room);
        let body = body.await.map_err(refused)?;
        if body.is_some() && !worker.is_current(&view) {
            // The policies in force now are to decide; what was read is there for them.
            continue;
        }
        let request = authorize::Request { head, body: body.as_ref().map(PolicyBody::view) };
        let decided = {
            let caller = caller.as_deref();
            let decided =
                pin!(authorize::decide(&view, (connection, client), caller, request, &target, facts));
            time.bound(&worker.deadlines, decided).await.and_then(|decided| decided)
        };
        if let Some(body) = body {
            body.release(worker);
        }
        decided.map_err(refused)?;
        within_limit(head, target.route.body_bytes_max).map_err(refused)?;
        let caller = caller::verified(connection, target.route, caller.as_deref()).map_err(refused)?;
        if let Some(answer) = &target.route.answer {
            let stands = still_stands(connection, &view, (&target, &facts.on_behalf), heard);
            if !stands.map_err(refused)? {
                continue;
            }
            let asking = Asking { head, target: &target, connection, facts };
            return Err(refused(answer.to(&asking, caller, facts.decision.clone())));
        }
        facts.cluster = Some(view.snapshot.clusters[target.cluster()].id);
        let job = Job {
            connection,
            head,
            time,
            view: &view,
            listener,
            target: &target,
            caller,
            heard,
            room: &room,
        };
        if let Some(served) = forward(client, &job, facts, progress).await? {
            return Ok(served);
        }
    }
    Err(refused(ProxyError::Unsettled(SETTLE_MAX)))
}

fn within_limit(head: &RequestHead, limit: u64) -> Result<(), ProxyError> {
    match head.body() {
        BodyFraming::Length(length) if length > limit => Err(ProxyError::BodyTooLarge { limit }),
        _ => Ok(()),
    }
}

/// Whether what was decided holds now that the request can be sent. There were waits since: for OCSP, for the body, for a
/// policy's server, for the connection.
pub(super) fn still_stands(
    connection: &Connection,
    view: &View,
    (target, on_behalf): (&Target<'_>, &OnBehalf),
    heard: Heard,
) -> Result<bool, ProxyError> {
    if !connection.worker.is_current(view) {
        return Ok(false);
    }
    // Time ends admissions without a new snapshot, and what a responder says may end or change without one.
    connection.standing.gate(view)?;
    if let Some(forwarded) = on_behalf.forwarded() {
        forwarded.check_standing(target.host, connection.worker.clock.now_unix())?;
    }
    caller::recheck_ocsp(connection, view, target.route, heard)
}
