//! One request: route → authorize → upstream → relay → respond, and its record.
//!
//! Policy and trust are asked for every request, on the snapshot in force. They are asked again when that changed while the
//! request waited for a connection, so that nothing reaches an upstream on a decision that is not current.
//!
//! - `decide.rs` asks them, and asks again.
//! - `forward.rs` finds a connection for what may go on, and another one if the first try fails.
//! - `attempt.rs` is one try.

mod attempt;
mod decide;
mod forward;

use std::{
    cell::Cell,
    pin::pin,
    rc::Rc,
    time::{Duration, Instant},
};

use ringward_config::EndpointAddr;
use ringward_http::{BodyFraming, RequestHead};
use ringward_identity::PeerIdentity;
use ringward_policy::Decision;
use ringward_telemetry::{CloseReason, ClusterId, GrpcStatus, PolicyId, PolicyOutcome, RouteId};

use self::decide::serve;
use crate::{
    caller::Heard,
    client_side::ClientSide,
    connection::{Connection, End, Next},
    control::Pressure,
    error::ProxyError,
    on_behalf::OnBehalf,
    policy_body::Room,
    record,
    relay::{self, Opened, Progress, Relayed},
    retry::Suspended,
    route::Target,
    snapshot::Listener,
    time_limit::TimeLimit,
    worker::View,
};

/// How long a client may take to take our own small answer.
pub(crate) const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

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
    /// The tries of before, if it is decided about anew in the middle of them.
    pub(crate) tries: Option<Box<Suspended>>,
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

/// What follows a response that was relayed whole.
fn after(connection: &Connection, relayed: &Relayed) -> Next {
    match relayed {
        Relayed { downstream_reusable: true, .. } => Next::Request,
        Relayed { request_unread: true, .. } => Next::End(End::Linger(CloseReason::Exchange)),
        _ => Next::End(End::Close(connection.standing.outlived().unwrap_or(CloseReason::Peer))),
    }
}
