//! From an accepted socket to a client whose identity is known, or to a reason.
//!
//! ClientHello → virtual host → TLS → identity. The client of a failed handshake learns nothing but a TLS alert; the operator
//! gets one reason from a closed set, with the presented chain and the trust bundle that was consulted.

use std::{net::SocketAddr, rc::Rc, sync::Arc, time::Instant};

use ringward_http::write;
use ringward_identity::PeerIdentity;
use ringward_tls::{HandshakeFailure, HandshakeReason, HelloReader, ServerSession, SessionError};

use crate::{
    downstream::{Downstream, ReadError},
    io::{Deadline, SMALL, Shut, Stream},
    live::Admission,
    record,
    snapshot::Listener,
    upstream::millis,
    worker::{View, Worker},
};

/// A client that may send requests.
pub(crate) struct Established {
    pub(crate) downstream: Downstream,
    pub(crate) admission: Admission,
    /// `None` when the virtual host asks for no certificate, or the client has none and need not have one.
    pub(crate) peer: Option<Arc<PeerIdentity>>,
    /// Until when the client's path holds, in seconds since the epoch.
    pub(crate) peer_valid_until: Option<i64>,
}

/// What is known of a handshake when it fails.
#[derive(Default)]
pub(crate) struct Attempt {
    pub(crate) server_name: Option<Box<str>>,
}

/// Runs the handshake. A failure has been counted, recorded and told to the client, as far as it is told anything.
pub(crate) async fn establish(
    worker: &Rc<Worker>,
    view: &View,
    listener: &Listener,
    stream: Stream,
    peer: SocketAddr,
    connection_id: u64,
) -> Option<Established> {
    let started = Instant::now();
    let mut attempt = Attempt::default();
    // Boxed: its state is larger than what an idle connection should have to keep.
    let outcome = Box::pin(run(worker, view, listener, stream, &mut attempt)).await;
    let duration = started.elapsed();
    match outcome {
        Ok(established) => {
            worker.shard.handshake_completed(listener.id, record::nanos(duration));
            Some(established)
        }
        Err(failure) => {
            worker.shard.handshake_failed(listener.id, failure.reason.as_str());
            record::handshake(worker, view, listener, peer, connection_id, &attempt, &failure, duration);
            None
        }
    }
}

async fn run(
    worker: &Rc<Worker>,
    view: &View,
    listener: &Listener,
    mut stream: Stream,
    attempt: &mut Attempt,
) -> Result<Established, Box<HandshakeFailure>> {
    // After the stream, so that it is dropped before: the entry in the table must end before the descriptor is closed.
    let deadline = Rc::new(worker.deadlines.register(stream.fd()));
    deadline.set(millis(listener.limits.handshake_timeout), Shut::Both);

    let (raw, host) = match hello(worker, listener, &mut stream, &deadline, attempt).await {
        Ok(found) => found,
        Err(failure) => {
            part(&mut stream, &deadline, &failure).await;
            return Err(failure);
        }
    };
    let session = ServerSession::new(&view.hosts[listener.index][host]).map_err(of_session)?;
    let mut downstream = Downstream::new(stream, deadline.clone(), session, raw, worker.buffers.clone());
    if let Err(error) = downstream.handshake().await {
        let failure = of_read(error, &deadline);
        // The alert has been sent. What the client has sent behind its certificate must not turn it into a reset.
        downstream.close().await;
        downstream.linger().await;
        return Err(failure);
    }
    deadline.clear();

    let (peer, peer_valid_until) = downstream
        .with_session(|session| (session.peer_identity().cloned(), session.peer_valid_until_unix()));
    let admission = Admission {
        listener: listener.name.clone(),
        server_name: attempt.server_name.take(),
        policy_digest: *listener.hosts[host].tls.policy_digest(),
    };
    Ok(Established { downstream, admission, peer, peer_valid_until })
}

/// Reads the ClientHello; its bytes, and the index of the virtual host that it asks for.
async fn hello(
    worker: &Worker,
    listener: &Listener,
    stream: &mut Stream,
    deadline: &Deadline,
    attempt: &mut Attempt,
) -> Result<(Vec<u8>, usize), Box<HandshakeFailure>> {
    let mut reader = HelloReader::new();
    let mut raw = worker.buffers.small();
    let hello = loop {
        let seen = raw.len();
        if raw.capacity() - seen < SMALL / 4 {
            raw.reserve(SMALL);
        }
        let (read, buffer) = stream.read.read(raw, usize::MAX).await;
        raw = buffer;
        if !matches!(read, Ok(1..)) {
            return Err(ended(deadline));
        }
        if let Some(hello) = reader.feed(&raw[seen..])? {
            break hello;
        }
    };
    let host = listener.host_index(hello.server_name.as_deref()).ok_or_else(|| {
        Box::new(match &hello.server_name {
            Some(name) => HandshakeFailure::unknown_server_name(name),
            None => HandshakeFailure::missing_server_name(),
        })
    });
    attempt.server_name = hello.server_name.map(Into::into);
    Ok((raw, host?))
}

/// Tells a client why there is no session, as far as there is a way to tell it.
async fn part(stream: &mut Stream, deadline: &Deadline, failure: &HandshakeFailure) {
    let mut answer = failure.alert.clone();
    if failure.reason == HandshakeReason::PlainHttp {
        // The one answer that such a client can read.
        write::simple_response(&mut answer, 400, &[], b"this port speaks https, not http\n", true, false);
    }
    if !answer.is_empty() && !deadline.fired() {
        // The client may be gone, which is as good.
        let _ = stream.write.write_all(answer, || {}).await;
        stream.write.shutdown().await;
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
