//! One request: route → authorize → upstream → relay → respond, and its record.
//!
//! Policy and trust are asked for every request, on the snapshot in force. They are asked again when that changed while the
//! request waited for a connection, so that nothing reaches an upstream on a decision that is not current.

use std::{
    cell::{Cell, OnceCell},
    pin::pin,
    rc::Rc,
    time::{Duration, Instant},
};

use ringward_config::EndpointAddr;
use ringward_http::{BodyFraming, RequestHead, grpc::TimeoutText};
use ringward_identity::PeerIdentity;
use ringward_policy::Decision;
use ringward_telemetry::{CloseReason, ClusterId, GrpcStatus, PolicyId, PolicyOutcome, RetryReason, RouteId};

use crate::{
    announced, authorize,
    caller::{self, Heard},
    client_side::ClientSide,
    connection::{Connection, End, Next},
    control::Pressure,
    cors,
    edits::Edits,
    error::{ProxyError, Side},
    grpc,
    header_edits::{self, Asking, Fields},
    io::Deadline,
    mirror::{self, Mirror, Tap},
    on_behalf::{self, OnBehalf},
    policy_body::{self, PolicyBody, Room},
    record,
    relay::{self, Answer, Failure, Opened, Plan, Progress, Relayed, TunnelLimits},
    retry::Tries,
    route::{self, Target},
    snapshot::{Listener, Route},
    time_limit::TimeLimit,
    upgrade::Asked,
    upstream::{Cluster, Upstream, split},
    worker::View,
};

/// What is known of an exchange, for its record.
#[derive(Default)]
pub(crate) struct Facts {
    /// The request's number on its connection.
    pub(crate) number: u64,
    pub(crate) generation: u64,
    pub(crate) route: Option<RouteId>,
    pub(crate) on_behalf: OnBehalf,
    /// The policy that decided: of several the one that did not allow, or else the last.
    pub(crate) policy: Option<PolicyId>,
    pub(crate) outcome: Option<PolicyOutcome>,
    pub(crate) decision: Option<Rc<Decision>>,
    /// The decision was made for an earlier request; of several policies every one was.
    pub(crate) cached: Option<bool>,
    pub(crate) policy_time: Duration,
    pub(crate) cluster: Option<ClusterId>,
    pub(crate) upstream: Option<EndpointAddr>,
    /// The cluster that gets a copy.
    pub(crate) mirror: Cell<Option<ClusterId>>,
    /// How often it was sent.
    pub(crate) attempts: u8,
    /// How many of the tries that its route allows were made.
    pub(crate) tries: u8,
    pub(crate) connect_time: Duration,
    pub(crate) sent_at: Option<Instant>,
}

/// What a request got.
enum Served {
    /// A response, relayed whole.
    Relayed(Relayed),
    /// A tunnel.
    Switched(Box<Opened>),
}

/// What has come of an exchange.
pub(crate) enum Outcome {
    /// It is over, and recorded.
    Over(Next),
    /// A tunnel, to be carried to its end by [`tunnel`]: apart, since what an exchange needs is much more than that.
    Tunnel(Box<Opening>),
}

/// A tunnel whose client knows that it is open.
pub(crate) struct Opening {
    facts: Facts,
    progress: Progress,
    started: Instant,
    opened: Opened,
}

/// A request that got no response from an upstream, or not all of it.
struct Unserved {
    error: ProxyError,
    /// The client may still be sending its body.
    request_unread: bool,
}

/// A request that may go on.
#[derive(Clone, Copy)]
struct Job<'a> {
    connection: &'a Connection,
    head: &'a RequestHead,
    time: &'a TimeLimit,
    view: &'a Rc<View>,
    listener: &'a Listener,
    target: &'a Target<'a>,
    /// The client, as far as the route wants to know.
    caller: Option<&'a PeerIdentity>,
    /// What its OCSP responder was found to say.
    heard: Heard,
    /// What is held of the body.
    room: &'a Room<'a>,
}

/// What one try is made of. By reference, since what is passed on by value takes its room twice.
#[derive(Clone, Copy)]
struct Attempt<'a, 't> {
    job: &'a Job<'a>,
    asked: Option<&'a Asked<'a>>,
    /// Header fields that the route adds.
    fields: Option<&'a Fields<'a>>,
    /// Where the body is copied to, once that is decided.
    copy: &'a OnceCell<Option<Tap>>,
    tries: &'a Tries<'t>,
    facts: &'a Facts,
    progress: &'a Progress,
}

/// Serves one request whose head has arrived.
pub(crate) async fn run<C: ClientSide>(
    connection: &Connection,
    client: &mut C,
    head: &RequestHead,
) -> Outcome {
    let started = Instant::now();
    let number = connection.standing.count_request();
    let (mut facts, progress) = (Facts { number, ..Facts::default() }, Progress::default());
    let worker = &connection.worker;
    let unread = head.body() != BodyFraming::None;
    let is_grpc = head.is_grpc();
    progress.grpc.set(is_grpc.then_some(GrpcStatus::None));
    let audit_required = worker.view().snapshot.audit_required;
    // Taken before anything can reach an upstream, and held until the record is written into it.
    let permit = audit_required.then(|| worker.records.reserve());
    let served = match (&permit, TimeLimit::new(started, head, is_grpc)) {
        (Some(None), _) => Err(Unserved { error: ProxyError::AuditOverflow, request_unread: unread }),
        (_, Err(error)) => Err(Unserved { error: error.into(), request_unread: unread }),
        _ if worker.control.pressure() == Pressure::Hard => {
            Err(Unserved { error: ProxyError::MemoryCeiling, request_unread: unread })
        }
        (_, Ok(time)) => {
            let gone = client.gone();
            let served = {
                let work = serve((connection, client), head, &time, audit_required, &mut facts, &progress);
                C::unless_gone(gone, pin!(work)).await
            };
            let given_up = || Err(Unserved { error: ProxyError::ClientGone, request_unread: unread });
            let served = served.unwrap_or_else(given_up);
            let deadline = client.deadline();
            let served = served.map_err(|e| Unserved { error: time.blame(e.error, deadline), ..e });
            // What follows is ours, and has time of its own.
            deadline.limit(None);
            served
        }
    };
    let (next, error) = match served {
        Ok(Served::Relayed(relayed)) => (after(connection, &relayed), None),
        Ok(Served::Switched(opened)) => {
            let exchange = record::Exchange { connection, head, facts: &facts, progress: &progress, started };
            record::tunnel_opened(&exchange, permit.flatten());
            return Outcome::Tunnel(Box::new(Opening { facts, progress, started, opened: *opened }));
        }
        Err(Unserved { error, request_unread }) => {
            // Sockets that we have shut down look as if their peers had gone.
            let error = if worker.is_stopped() { ProxyError::Stopped } else { error };
            (client.answer(connection, head, &progress, &error, request_unread).await, Some(error))
        }
    };
    let exchange = record::Exchange { connection, head, facts: &facts, progress: &progress, started };
    record::access(&exchange, error.as_ref(), permit.flatten());
    Outcome::Over(next)
}

/// Carries a tunnel to its end, and records it. What was decided at its opening is not asked again: it goes on for as long as its
/// client's trust does, which [`crate::live`] sees to.
pub(crate) async fn tunnel<C: ClientSide>(
    connection: &Connection,
    client: &mut C,
    head: &RequestHead,
    opening: Box<Opening>,
) -> Next {
    // Nobody asks policies here, and other requests of the client can make it again.
    connection.subjects.borrow_mut().shrink();
    let Opening { facts, progress, started, opened } = *opening;
    let gone = client.gone();
    let work = relay::tunnel(&connection.worker, connection.facts.listener, client, opened, &progress);
    let ended = C::unless_gone(gone, pin!(work)).await.unwrap_or(Err(ProxyError::ClientGone));
    // A connection that we have cut looks as if the client had gone.
    let error = ended.err().map(|error| match connection.standing.withdrawn() {
        Some(withdrawn) => withdrawn,
        None if connection.worker.is_stopped() => ProxyError::Stopped,
        None => error,
    });
    let next = client.tunnel_over(error.as_ref());
    let exchange = record::Exchange { connection, head, facts: &facts, progress: &progress, started };
    record::tunnel_closed(&exchange, error.as_ref());
    next
}

/// Answers a head that could not be read, and ends the connection.
pub(crate) async fn refuse(connection: &Connection, client: &mut impl ClientSide, error: ProxyError) -> Next {
    let started = Instant::now();
    let number = connection.standing.requests();
    let (facts, progress) = (Facts { number, ..Facts::default() }, Progress::default());
    // What was read of the head is not trusted to be described.
    let head = RequestHead::new();
    let next = client.answer(connection, &head, &progress, &error, true).await;
    let exchange = record::Exchange { connection, head: &head, facts: &facts, progress: &progress, started };
    record::access(&exchange, Some(&error), None);
    next
}

/// Decides and relays, again if the snapshot changes in between.
async fn serve(
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
        if let Some(answer) = &target.route.answer {
            let stands = still_stands(connection, &view, (&target, &facts.on_behalf), heard);
            if !stands.map_err(refused)? {
                continue;
            }
            let asking = Asking { head, target: &target, connection, facts };
            return Err(refused(answer.to(&asking, caller.as_deref(), facts.decision.clone())));
        }
        facts.cluster = Some(view.snapshot.clusters[target.cluster()].id);
        let caller = caller.as_deref();
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

/// Sends the request to an endpoint and relays the response, if need be several times. `None`: the snapshot changed before a
/// byte of it was sent, or before it was sent again, or what the client's OCSP responder had said is over.
async fn forward(
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
        None => {
            let mut waiting = Box::pin(cluster.wait(&worker.shard));
            job.time
                .bound(&worker.deadlines, waiting.as_mut())
                .await
                .and_then(|active| active)
                .map_err(refused)?
        }
    };
    let mut tries = Tries::new(worker, cluster, target.route.retry.as_deref(), job.head, facts.tries);
    let asked = Asked::of(job.head, target.route).map_err(refused)?;
    let fields = {
        let asking = Asking { head: job.head, target, connection, facts };
        header_edits::fields(target.route, &asking, job.caller).map_err(refused)?
    };
    let hash = cluster.hash(job.head, job.caller, facts.on_behalf.ip(connection));
    let copy = OnceCell::new();
    loop {
        let started = Instant::now();
        let kept = if tries.is_plain() { cluster.kept(hash) } else { None };
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
        let connected = {
            let connecting =
                pin!(tries.cluster().connect(worker, hash, tries.wanted(), announced.as_deref()));
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

/// One try: sends the request on `up`, and relays the response.
async fn send(
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

/// Whether what was decided holds now that the request can be sent. There were waits since: for OCSP, for the body, for a
/// policy's server, for the connection.
fn still_stands(
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

fn tunnel_limits(route: &Route, listener: &Listener) -> TunnelLimits {
    let idle_half = listener.limits.body_timeout;
    match &route.tunnel {
        Some(tunnel) => TunnelLimits { idle: tunnel.idle_timeout, idle_half, age_max: tunnel.age_max },
        // Only a route that carries tunnels has asked for one.
        None => TunnelLimits { idle: idle_half, idle_half, age_max: None },
    }
}

/// What follows a response that was relayed whole.
fn after(connection: &Connection, relayed: &Relayed) -> Next {
    match relayed {
        Relayed { downstream_reusable: true, .. } => Next::Request,
        Relayed { request_unread: true, .. } => Next::End(End::Linger(CloseReason::Exchange)),
        _ => Next::End(End::Close(connection.standing.outlived().unwrap_or(CloseReason::Peer))),
    }
}

/// How often a request is decided again because the snapshot changed before it could be sent. Reloads are seconds apart, so
/// more than one is rare, and more than these is a fault.
const SETTLE_MAX: u32 = 8;
/// How long a client may take to take our own small answer.
pub(crate) const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
