//! One exchange with an upstream: the request goes up, the response comes down.
//!
//! What either side speaks is known to [`crate::client_side`] and [`crate::upstream_side`] alone, and resolved when this is
//! compiled.
//!
//! Bodies stream and are never held whole: each direction reads again only after what it read has been sent, so the slower
//! side sets the pace. Both directions run at once, because an upstream may answer while the request still arrives. Heads are
//! written anew from their parsed parts.

mod copy;
mod download;
mod encode;
mod tunnel;
mod upgrade;
mod upload;

use std::{cell::Cell, future::Future, pin::pin, task::Poll, time::Duration};

use ringward_config::Compression;
use ringward_http::{BodyFraming, HeadLimits, RequestHead, ResponseHead};
use ringward_telemetry::GrpcStatus;

use crate::{
    client_side::{ClientSide, Sink, Source},
    edits::Edits,
    error::{ProxyError, Side},
    io::{BufferPool, Deadline, Shut},
    mirror::Tap,
    policy_body::Room,
    standing::Standing,
    upgrade::Asked,
    upstream::millis,
    upstream_side::{RequestSink, ResponseSource, UpstreamSide},
};

pub(crate) use tunnel::{Inlet, Limits as TunnelLimits, Opened, Outlet, carry as tunnel};
pub(crate) use upgrade::{Answer, ask};
pub(crate) use {copy::copy, download::Download, upload::Upload};

/// What an exchange is to do, and where it counts.
pub(crate) struct Plan<'a> {
    pub(crate) head: &'a RequestHead,
    pub(crate) edits: &'a Edits<'a>,
    /// The protocol that the request asks for besides.
    pub(crate) asked: Option<&'a Asked<'a>>,
    /// Where the body is copied to as it passes.
    pub(crate) mirror: Option<&'a Tap>,
    pub(crate) head_limits: &'a HeadLimits,
    pub(crate) body_bytes_max: u64,
    /// A client that makes no progress with a body for this long ends the exchange.
    pub(crate) body_timeout: Duration,
    /// An upstream that makes no progress for this long ends the exchange.
    pub(crate) response_timeout: Duration,
    /// An upstream that has not begun its response by then ends the try, if the request's body does not stream.
    pub(crate) try_timeout: Duration,
    /// Whether a response of this status is dropped, because the request goes again. Where there is this, the body is kept until
    /// then, if it leaves with the head.
    pub(crate) drops: Option<&'a dyn Fn(u16) -> bool>,
    /// How the response is compressed, if its route wants that.
    pub(crate) compression: Option<&'a Compression>,
    /// Of the client's connection; none for copies, which have no client.
    pub(crate) standing: Option<&'a Standing>,
    pub(crate) buffers: &'a BufferPool,
    /// What is held of the request's body, because policies have looked at it.
    pub(crate) room: &'a Room<'a>,
    pub(crate) progress: &'a Progress,
}

impl Plan<'_> {
    /// This is the connection's last exchange; asked when the response's head is written.
    fn is_last(&self) -> bool {
        !self.head.keep_alive() || self.standing.is_some_and(|standing| standing.outlived().is_some())
    }
}

/// How far an exchange has come.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// Status of the response that the client gets; 0 until its head is on its way.
    pub(crate) status: Cell<u16>,
    /// Bytes of the request's body that have arrived.
    pub(crate) received: Cell<u64>,
    /// Bytes of the response's body that have been sent.
    pub(crate) sent: Cell<u64>,
    /// Of a gRPC call, how it has ended as far as the client was told.
    pub(crate) grpc: Cell<Option<GrpcStatus>>,
    /// Identity look-alikes that were dropped from the request's trailers.
    pub(crate) stripped_trailers: Cell<u64>,
    /// When the head of the upstream's response arrived.
    pub(crate) answered: Cell<Option<std::time::Instant>>,
}

/// How the connections are left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Relayed {
    /// The client was told that its connection stays open.
    pub(crate) downstream_reusable: bool,
    /// The client may still be sending its body.
    pub(crate) request_unread: bool,
    pub(crate) upstream_reusable: bool,
}

/// An exchange that failed.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) error: ProxyError,
    /// No byte of a response has arrived, and the request had no body: what a kept connection looks like that died unnoticed.
    pub(crate) unanswered: bool,
    /// All of the request's body is still where it arrived, and nothing of a response has, so that all of it could be sent
    /// elsewhere.
    pub(crate) unsent: bool,
    /// The client may still be sending its body.
    pub(crate) request_unread: bool,
}

/// Runs the exchange. After a failure the upstream connection cannot be used again; whether the client can still be told is in
/// [`Progress::status`].
pub(crate) async fn exchange<U: UpstreamSide>(
    plan: &Plan<'_>,
    down: &mut impl ClientSide,
    up: &mut U,
    response: &mut ResponseHead,
) -> Result<Relayed, Failure> {
    up.deadline().limit_like(down.deadline());
    let mut out = plan.buffers.small();
    if let Err(error) = up.head(plan, &mut out) {
        plan.buffers.put(out);
        let request_unread = plan.head.body() != BodyFraming::None;
        return Err(Failure { error, unanswered: false, unsent: false, request_unread });
    }
    let body = plan.head.body();
    let complete = match body {
        BodyFraming::None => Some(0),
        BodyFraming::Length(length) => copy_small_body(down, &mut out, length),
        _ => None,
    };
    let relayed = if let Some(mut held) = complete {
        if let Some(copy) = plan.mirror {
            copy.piece(&down.arrived()[..held]);
            copy.end();
        }
        if !U::SAYS_UNPROCESSED && plan.drops.is_none() {
            take(plan, down, std::mem::take(&mut held));
        }
        let relayed = without_body(plan, down, up, response, out).await;
        let is_whole = held > 0 || matches!(body, BodyFraming::None | BodyFraming::Length(0));
        let unsent = is_whole && matches!(relayed, Err((_, true)));
        if !unsent {
            take(plan, down, held);
        }
        relayed.map_err(|(error, unanswered)| Failure {
            error,
            unanswered: unanswered && body == BodyFraming::None,
            unsent,
            request_unread: unsent && held > 0,
        })
    } else {
        // Boxed, so that the many connections that never carry such a request need not have room for it.
        Box::pin(with_body(plan, down, up, response, out)).await
    };
    relayed
        .map_err(|failure| Failure { error: blame(failure.error, up.deadline(), down.deadline()), ..failure })
}

/// An upstream that was cut off because its client had gone is not to blame.
fn blame(error: ProxyError, up: &Deadline, client: &Deadline) -> ProxyError {
    let cut_off = error.side() == Side::Upstream && !up.fired() && client.hung_up();
    if cut_off { ProxyError::ClientGone } else { error }
}

/// A small body that is there already leaves with the head: its length, if there is one.
fn copy_small_body(down: &impl ClientSide, out: &mut Vec<u8>, length: u64) -> Option<usize> {
    let body = down.arrived().get(..usize::try_from(length).ok()?)?;
    if body.len() > WITH_HEAD_MAX {
        return None;
    }
    out.extend_from_slice(body);
    Some(body.len())
}

/// Takes so many bytes of the body, which is all of it, off the client.
fn take(plan: &Plan<'_>, down: &mut impl ClientSide, bytes: usize) {
    if bytes > 0 {
        down.consume(bytes);
        plan.progress.received.set(bytes as u64);
        plan.room.shrink(0);
    }
}

/// The request is in `out`, complete. The error comes with whether nothing of a response has arrived.
async fn without_body(
    plan: &Plan<'_>,
    down: &mut impl ClientSide,
    up: &mut impl UpstreamSide,
    response: &mut ResponseHead,
    out: Vec<u8>,
) -> Result<Relayed, (ProxyError, bool)> {
    let (mut request, mut answer, deadline) = up.split(plan);
    deadline.set(millis(plan.try_timeout), Shut::Both);
    let (sent, out) = request.send(out, true, || {}).await;
    plan.buffers.put(out);
    sent.map_err(|error| (error, true))?;
    let client = down.deadline().clone();
    // Nothing is in flight on the client's socket while we wait, so nobody else would notice that it has gone.
    deadline.serve(Some(&client));
    let mut download = Download::new(plan, down.split().1, deadline, &client);
    if let Err(error) = download.head(&mut answer, response).await {
        let untouched = answer.is_untouched();
        return Err(match error {
            ProxyError::UpstreamTimeout(_) if untouched => {
                (ProxyError::UpstreamTimeout(plan.try_timeout), true)
            }
            error => (error, untouched),
        });
    }
    if plan.drops.is_some_and(|drops| drops(response.status())) {
        return Err((ProxyError::UpstreamStatus(response.status()), true));
    }
    let end = download.body(&mut answer, response, plan.is_last()).await.map_err(|e| (e, false))?;
    Ok(Relayed {
        downstream_reusable: end.downstream_reusable,
        request_unread: false,
        upstream_reusable: end.upstream_reusable,
    })
}

/// The head of the request is in `out`; its body streams.
async fn with_body(
    plan: &Plan<'_>,
    down: &mut impl ClientSide,
    up: &mut impl UpstreamSide,
    response: &mut ResponseHead,
    out: Vec<u8>,
) -> Result<Relayed, Failure> {
    let client = down.deadline().clone();
    let (mut source, mut sink) = down.split();
    let unread = |error| Failure { error, unanswered: false, unsent: false, request_unread: true };
    let (mut request, mut answer, deadline) = up.split(plan);
    deadline.set(millis(plan.response_timeout), Shut::Both);
    let (sent, out) = request.send(out, false, || {}).await;
    plan.buffers.put(out);
    sent.map_err(|error| Failure { unsent: true, ..unread(error) })?;
    if plan.head.expects_continue() && source.is_untouched() {
        // RFC 9110 §10.1.1: the client waits for this. Policy and limits have had their say, the upstream is connected.
        client.set(millis(plan.body_timeout), Shut::Both);
        sink.ask_for_body().await.map_err(|_| unread(ProxyError::ClientGone))?;
    }

    let mut upload = pin!(upload::run(plan, &mut source, &mut request, deadline, &client));
    let mut uploaded = None;
    let mut download = Download::new(plan, sink, deadline, &client);
    {
        let head = pin!(download.head(&mut answer, response));
        let arrived = beside(upload.as_mut(), &mut uploaded, head).await;
        arrived.map_err(|error| unread(first_told(error, &mut uploaded)))?;
    }
    // An answer to a request that has not arrived completely is the connection's last: what is left of the request would have
    // to be read to find the next one.
    let early = !matches!(uploaded, Some(Ok(())));
    let end = {
        let body = pin!(download.body(&mut answer, response, early || plan.is_last()));
        let ended = beside(upload.as_mut(), &mut uploaded, body).await;
        ended.map_err(|error| unread(first_told(error, &mut uploaded)))?
    };
    let request_unread = !matches!(uploaded, Some(Ok(())));
    Ok(Relayed {
        downstream_reusable: end.downstream_reusable && !early,
        request_unread,
        upstream_reusable: end.upstream_reusable && !request_unread,
    })
}

/// Runs `main` to its end, and `upload` beside it as long as that lasts. An upload that fails on the client's side ends both;
/// one that fails on the upstream's side does not, because the upstream may have answered before it closed.
async fn beside<T>(
    mut upload: std::pin::Pin<&mut impl Future<Output = Result<(), ProxyError>>>,
    uploaded: &mut Option<Result<(), ProxyError>>,
    mut main: std::pin::Pin<&mut impl Future<Output = Result<T, ProxyError>>>,
) -> Result<T, ProxyError> {
    std::future::poll_fn(|cx| {
        if uploaded.is_none()
            && let Poll::Ready(result) = upload.as_mut().poll(cx)
        {
            match result {
                Err(error) if error.side() == Side::Downstream => {
                    *uploaded = Some(Ok(()));
                    return Poll::Ready(Err(error));
                }
                result => *uploaded = Some(result),
            }
        }
        main.as_mut().poll(cx)
    })
    .await
}

/// The kernel tells of a reset once. If it was the upload that learned of it, the download finds nothing but an end.
fn first_told(error: ProxyError, uploaded: &mut Option<Result<(), ProxyError>>) -> ProxyError {
    match (error, uploaded.take()) {
        (ProxyError::UpstreamClosed, Some(Err(ProxyError::UpstreamReset(reset))))
            if reset.kind() == std::io::ErrorKind::ConnectionReset =>
        {
            ProxyError::UpstreamReset(reset)
        }
        (error, _) => error,
    }
}

/// The client took nothing, or is gone.
fn client_failure(deadline: &Deadline, limit: Duration) -> ProxyError {
    if deadline.fired() { ProxyError::ClientStalled(limit) } else { ProxyError::ClientGone }
}

/// Largest body that is copied behind its head; a copy of this size is cheaper than a second write.
const WITH_HEAD_MAX: usize = 16 * 1024;
