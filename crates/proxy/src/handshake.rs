//! From an accepted socket to a client whose identity is known, or to a reason.
//!
//! ClientHello → virtual host → TLS → identity. The client of a failed handshake learns nothing but a TLS alert; the operator
//! gets one reason from a closed set, with the presented chain and the trust bundle that was consulted.

use std::{
    rc::Rc,
    time::{Duration, Instant},
};

use ringward_http::write;
use ringward_tls::{
    ClientHello, DeclineReason, HandshakeFailure, HandshakeReason, HelloReader, ObservedIdentity, ResumedBy,
    ServerSession, SessionError,
};

use crate::{
    admission::Terms,
    connection::Accepted,
    downstream::{Downstream, ReadError},
    io::{Deadline, SMALL, Shut, Stream},
    overload::{Gate, SourcePlace, TooMany},
    proxied::{self, Origin, OriginError},
    record,
    snapshot::Listener,
    upstream::millis,
    worker::{View, Worker},
};

/// A client that may send requests.
pub(crate) struct Established {
    pub(crate) downstream: Downstream,
    pub(crate) origin: Origin,
    /// Its place among the connections of its network, if there is one.
    pub(crate) source: Option<Box<SourcePlace>>,
    /// Index of the virtual host that has let it in.
    pub(crate) host: usize,
    pub(crate) terms: Terms,
    /// How the session was resumed, if it was.
    pub(crate) resumed: Option<ResumedBy>,
    /// Why the session that the client offered was not resumed, if it might have been.
    pub(crate) declined: Option<DeclineReason>,
    /// What the client has shown where certificates are only observed.
    pub(crate) observed: Option<Box<ObservedIdentity>>,
    /// The verdict on the client was given about now. Between it and the client's last message, which it may hold back, a
    /// certificate can expire and a list go stale; a resumed session is judged at the very begin.
    pub(crate) settled: bool,
}

/// What is known of a handshake when it fails.
pub(crate) struct Attempt {
    pub(crate) origin: Origin,
    pub(crate) server_name: Option<Box<str>>,
    /// Why a session that the client offered was not resumed.
    pub(crate) declined: Option<DeclineReason>,
    /// Its place among the connections of its network, if there is one.
    pub(crate) source: Option<Box<SourcePlace>>,
    /// Its ClientHello was read and it was let in to begin.
    pub(crate) had_turn: bool,
}

/// Runs the handshake. A failure has been counted, recorded and told to the client, as far as it is told anything.
pub(crate) async fn establish(
    worker: &Rc<Worker>,
    view: &View,
    (listener, gate): (&Listener, &Gate),
    (stream, peer, source): Accepted,
    connection_id: u64,
) -> Option<Established> {
    let started = Instant::now();
    let mut attempt =
        Attempt { origin: Origin::direct(peer), server_name: None, declined: None, source, had_turn: false };
    // Boxed: its state is larger than what an idle connection should have to keep.
    let outcome = Box::pin(run(worker, view, (listener, gate), stream, &mut attempt)).await;
    let duration = started.elapsed();
    match outcome {
        Ok(mut established) => {
            established.settled = established.resumed.is_none() && duration < SETTLED_WITHIN;
            worker.shard.handshake_completed(listener.id, record::nanos(duration));
            count(worker, listener, &established);
            Some(established)
        }
        Err(mut failure) => {
            if let Some(limits) = listener.handshakes.as_ref().filter(|_| attempt.had_turn) {
                gate.failed(limits, attempt.origin.client.ip(), &mut failure, (&worker.shard, listener.id));
            }
            worker.shard.handshake_failed(listener.id, failure.reason.as_str());
            if let Some(declined) = attempt.declined {
                worker.shard.resumption_declined(listener.id, declined.as_str());
            }
            if let Some(source) = record::revocation_source(failure.reason) {
                worker.shard.revocation_refused(listener.id, source);
            }
            record::handshake(worker, view, listener, connection_id, &attempt, &failure, duration);
            None
        }
    }
}

async fn run(
    worker: &Rc<Worker>,
    view: &View,
    (listener, gate): (&Listener, &Gate),
    mut stream: Stream,
    attempt: &mut Attempt,
) -> Result<Established, Box<HandshakeFailure>> {
    // After the stream, so that it is dropped before: the entry in the table must end before the descriptor is closed.
    let deadline = Rc::new(worker.deadlines.register(stream.fd()));
    deadline.set(millis(listener.limits.handshake_timeout), Shut::Both);

    let (raw, hello, host) = match hello(worker, (listener, gate), &mut stream, &deadline, attempt).await {
        Ok(found) => found,
        Err(failure) => {
            part(&mut stream, &deadline, &failure).await;
            return Err(failure);
        }
    };
    let tls = view.host_tls(listener.index, host);
    let address = attempt.origin.client.ip();
    let turn = match &listener.handshakes {
        Some(limits) => {
            let resumes = || tls.knows_session(&hello, &raw);
            let client = (address, Some(&deadline));
            let turn = gate.turn_of(limits, client, resumes, (&worker.shard, listener.id)).await?;
            // Many may be let in at once, and what each of them costs would hold up requests: they begin one after the other.
            worker.turnstile.pass().await;
            // Its time may be over, or the client gone, and then nothing is computed for it.
            if deadline.fired() || deadline.hung_up() {
                return Err(ended(&deadline));
            }
            Some(turn)
        }
        None => None,
    };
    attempt.had_turn = true;
    let session = ServerSession::new(tls, &hello).map_err(of_session)?;
    let mut downstream = Downstream::new(stream, deadline.clone(), session, raw, worker.buffers.clone());
    if let Err(error) = downstream.handshake().await {
        let failure = of_read(error, &deadline);
        attempt.declined = downstream.with_session(ServerSession::declined);
        if let (Some(limits), Some(turn), true) = (&listener.handshakes, &turn, attempt.declined.is_some()) {
            gate.failed_in_full(limits, address, turn);
        }
        drop(turn);
        // The alert has been sent. What the client has sent behind its certificate must not turn it into a reset.
        downstream.close().await;
        downstream.linger().await;
        return Err(failure);
    }
    deadline.clear();

    let server_name = attempt.server_name.take();
    let (terms, resumed, declined, observed) = downstream.with_session(|session| {
        let terms = Terms {
            listener: listener.name.clone(),
            server_name,
            peer: session.peer_identity().cloned(),
            path: session.peer_path().cloned(),
            auth_time_unix: session.auth_time_unix().unwrap_or_default(),
        };
        (terms, session.resumed(), session.declined(), session.observed().cloned().map(Box::new))
    });
    if let (Some(limits), Some(turn)) = (&listener.handshakes, &turn) {
        gate.succeeded(limits, address, turn, (resumed.is_some(), terms.peer.is_some()));
    }
    let origin = attempt.origin;
    let source = attempt.source.take();
    Ok(Established { downstream, origin, source, host, terms, resumed, declined, observed, settled: false })
}

fn count(worker: &Worker, listener: &Listener, established: &Established) {
    if let Some(how) = established.resumed {
        worker.shard.handshake_resumed(listener.id, record::resumed(how));
    }
    if let Some(declined) = established.declined {
        worker.shard.resumption_declined(listener.id, declined.as_str());
    }
    if let Some(observed) = &established.observed {
        worker.shard.client_observed(listener.id, observed.verdict.err().map(HandshakeReason::as_str));
    }
}

/// Reads what comes before the handshake and the ClientHello; its bytes, what they say, and the index of the virtual host that it
/// asks for.
async fn hello(
    worker: &Worker,
    (listener, gate): (&Listener, &Gate),
    stream: &mut Stream,
    deadline: &Deadline,
    attempt: &mut Attempt,
) -> Result<(Vec<u8>, ClientHello, usize), Box<HandshakeFailure>> {
    let mut raw = worker.buffers.small();
    if let Some(rules) = &listener.proxy_protocol {
        let origin = proxied::origin(rules, stream, attempt.origin.client, &mut raw).await;
        attempt.origin = origin.map_err(|error| match error {
            OriginError::Refused(failure) => failure,
            OriginError::Ended => ended(deadline),
        })?;
        let limits = listener.handshakes.as_ref().filter(|_| attempt.origin.proxy.is_some());
        if limits.is_some_and(|limits| gate.refuses(limits, attempt.origin.client.ip())) {
            let message =
                "too many handshakes of its network have failed (`failures_per_minute` in `handshakes`)";
            return Err(Box::new(HandshakeFailure::new(HandshakeReason::SourceRefused, message)));
        }
        if attempt.origin.proxy.is_some() {
            let place = gate.connect(listener.handshakes.as_ref(), attempt.origin.client.ip());
            attempt.source = place.map_err(|TooMany(max)| {
                let message =
                    format!("its network has {max} connections (`connections_max` in `per_source`)");
                Box::new(HandshakeFailure::new(HandshakeReason::SourceConnections, message))
            })?;
        }
    }
    let mut reader = HelloReader::new();
    // Behind what came before it there may be some of it.
    let mut arrived = reader.feed(&raw)?;
    let hello = loop {
        if let Some(hello) = arrived {
            break hello;
        }
        let seen = raw.len();
        if raw.capacity() - seen < SMALL / 4 {
            raw.reserve(SMALL);
        }
        let (read, buffer) = stream.read.read(raw, usize::MAX).await;
        raw = buffer;
        if !matches!(read, Ok(1..)) {
            return Err(ended(deadline));
        }
        arrived = reader.feed(&raw[seen..])?;
    };
    let host = listener.host_index(hello.server_name.as_deref()).ok_or_else(|| {
        Box::new(match &hello.server_name {
            Some(name) => HandshakeFailure::unknown_server_name(name),
            None => HandshakeFailure::missing_server_name(),
        })
    });
    attempt.server_name = hello.server_name.as_deref().map(Into::into);
    Ok((raw, hello, host?))
}

/// Tells a client why there is no session, as far as there is a way to tell it.
async fn part(stream: &mut Stream, deadline: &Deadline, failure: &HandshakeFailure) {
    let mut answer = failure.alert.clone();
    if failure.reason == HandshakeReason::PlainHttp {
        // The one answer that such a client can read.
        write::simple_response(&mut answer, 400, &[], b"this port speaks https, not http\n", true, false);
    }
    if !answer.is_empty() && !deadline.fired() {
        stream.end_with(answer).await;
    }
}

fn of_session(error: SessionError) -> Box<HandshakeFailure> {
    match error {
        SessionError::Handshake(failure) => failure,
        SessionError::PeerAlert(_) => {
            Box::new(HandshakeFailure::new(HandshakeReason::PeerAlert, error.to_string()))
        }
        other => Box::new(HandshakeFailure::new(HandshakeReason::Internal, other.to_string())),
    }
}

fn of_read(error: ReadError, deadline: &Deadline) -> Box<HandshakeFailure> {
    match error {
        ReadError::Tls(error) => of_session(error),
        ReadError::Closed | ReadError::Io(_) => ended(deadline),
    }
}

fn ended(deadline: &Deadline) -> Box<HandshakeFailure> {
    Box::new(if deadline.fired() {
        HandshakeFailure::new(HandshakeReason::Timeout, "the handshake took longer than `handshake_timeout`")
    } else {
        HandshakeFailure::new(
            HandshakeReason::PeerClosed,
            "the client closed the connection in the middle of the handshake",
        )
    })
}

/// A handshake that took no longer has a verdict of about now: certificates and lists count in seconds.
const SETTLED_WITHIN: Duration = Duration::from_secs(1);
