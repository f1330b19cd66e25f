//! gRPC: what its clients are told where others get a status of HTTP, and how its calls have ended.
//!
//! An answer of our own to a call is a *trailers-only* response: HTTP 200 without a body, with `grpc-status` and `grpc-message`
//! in its head. Calls go through like any other request. The exceptions, which stay as they are for others:
//!
//! - 421: it is about the connection and not about the call, and who understands it asks again on another (RFC 9110 §15.5.20).
//!   A library of gRPC takes it for UNKNOWN, which it does not repeat.
//! - What is not known to be a call: a head that cannot be read, a route of gRPC that is asked for anything else (415).
//! - A stream that is reset, before an answer (REFUSED_STREAM: it was not processed) or after the head of one.

use std::time::Duration;

use h2::Reason;
use ringward_http::{ResponseHead, grpc};
use ringward_telemetry::GrpcStatus;
use ringward_tls::UpstreamTlsReason;

use crate::{
    error::ProxyError,
    relay::Progress,
    respond::{Answer, Content},
    snapshot::{Limits, Route},
};

/// The status that a call ends with for an error; `answer` is what a client of HTTP would get. `None`: the same.
///
/// Where the document on HTTP statuses (`http-grpc-status-mapping.md`) has an opinion, ours differ by two rules. It is for
/// clients that know nothing but the number; we know more. And UNAVAILABLE says that the call may be repeated, so it is for
/// what did not reach the service, or broke off with its connection; what is refused for its size or rate is
/// RESOURCE_EXHAUSTED, and what has taken too long DEADLINE_EXCEEDED, since it may have had its effect.
pub(crate) fn status(error: &ProxyError, answer: Answer) -> Option<GrpcStatus> {
    use ProxyError::*;
    Some(match error {
        Misdirected { .. } | UnknownHost(_) => return None,
        _ if answer.status == 0 => return None,
        Denied(_) => of_denial(answer.status),
        CertificateRequired | CertificateRefused(_) | RevocationRefused(_) => GrpcStatus::Unauthenticated,
        NoRoute | ConditionsUnmet | MethodNotAllowed { .. } | UpgradeNotAllowed => GrpcStatus::Unimplemented,
        // The configuration has none of these where calls are expected.
        Redirected(_) | Responded(_) | Preflight(_) => GrpcStatus::Unimplemented,
        Head(_)
        | BadRedirect
        | BadRewrite
        | NotGrpc
        | BadGrpcTimeout(_)
        | EncodedSlash
        | BadUpgrade(_)
        | Chunk(_)
        | UnreadableBody(_)
        | BadClientAddress { .. }
        | TooFewHops { .. }
        | BadForwardedIdentity(_)
        | UnlistedForwarder => GrpcStatus::InvalidArgument,
        BodyTooLarge { .. } | PolicyBudget | HeaderValueTooLong(_) => GrpcStatus::ResourceExhausted,
        HeadTimeout(_) | BodyTimeout(_) | PolicyBodyTimeout(_) => GrpcStatus::Cancelled,
        GrpcTimeout(_) | RequestTimeout(_) | UpstreamTimeout(_) => GrpcStatus::DeadlineExceeded,
        PolicyBodyMemory { .. }
        | MemoryCeiling
        | RequestQueueFull
        | RequestQueueTimeout(_)
        | AuditOverflow
        | Stopped
        | Unsettled(_) => GrpcStatus::Unavailable,
        UpstreamTls(failure) if failure.reason == UpstreamTlsReason::Timeout => GrpcStatus::DeadlineExceeded,
        UpstreamTls(_) => GrpcStatus::Unavailable,
        NoHealthyUpstream
        | NoEndpoints
        | Connect { .. }
        | UpstreamReset(_)
        | UpstreamClosed
        | UpstreamStatus(_)
        | ClusterFull
        | ClusterWait(_)
        | UpstreamUnprocessed(_) => GrpcStatus::Unavailable,
        UpstreamStreamReset(reason) => of_reset(*reason),
        UnverifiedClient | Policy(_) | Unwritable(_) | HeaderValue(_) | Encode(_) => GrpcStatus::Internal,
        UpstreamHead(_)
        | TooManyInterim
        | UpstreamChunk(_)
        | UpstreamTruncated { .. }
        | UpstreamProtocol(_)
        | UpstreamUpgrade(_) => GrpcStatus::Internal,
        // There is no answer to these.
        ClientGone | ClientStalled(_) | TrustWithdrawn { .. } | TunnelIdle(_) | TunnelAge(_) => return None,
    })
}

/// `PROTOCOL-HTTP2.md`, "Errors": what clients make of a stream that is reset, as if the upstream's reset were theirs.
fn of_reset(reason: Reason) -> GrpcStatus {
    match reason {
        Reason::REFUSED_STREAM => GrpcStatus::Unavailable,
        Reason::CANCEL => GrpcStatus::Cancelled,
        Reason::ENHANCE_YOUR_CALM => GrpcStatus::ResourceExhausted,
        _ => GrpcStatus::Internal,
    }
}

/// A policy may choose the status of HTTP for what it denies. What hides something hides it as what does not exist.
fn of_denial(status: u16) -> GrpcStatus {
    match status {
        400 => GrpcStatus::InvalidArgument,
        401 => GrpcStatus::Unauthenticated,
        404 => GrpcStatus::Unimplemented,
        429 => GrpcStatus::ResourceExhausted,
        503 => GrpcStatus::Unavailable,
        _ => GrpcStatus::PermissionDenied,
    }
}

/// Gives `field` the head of a trailers-only response, as names and values. Fields that a policy has set go along.
pub(crate) fn trailers_only(status: GrpcStatus, content: &Content<'_>, mut field: impl FnMut(&[u8], &[u8])) {
    field(b"content-type", grpc::CONTENT_TYPE.as_bytes());
    let is_ours = |name: &str| {
        let begins = name.get(..5).is_some_and(|begin| begin.eq_ignore_ascii_case("grpc-"));
        begins || name.eq_ignore_ascii_case("content-type") || name.eq_ignore_ascii_case("content-encoding")
    };
    for (name, value) in content.fields.iter().filter(|(name, _)| !is_ours(name)) {
        field(name.as_bytes(), value);
    }
    field(grpc::STATUS.as_bytes(), itoa::Buffer::new().format(status as u8).as_bytes());
    let text = content.body.trim_end();
    if !text.is_empty() && text.len() <= MESSAGE_BYTES_MAX {
        let mut message = Vec::new();
        grpc::write_message(&mut message, text);
        field(grpc::MESSAGE.as_bytes(), &message);
    }
}

/// Takes note of how the upstream has ended a call, if this field of its trailers says so.
pub(crate) fn note(progress: &Progress, name: &str, value: &[u8]) {
    if progress.grpc.get().is_some() && name.eq_ignore_ascii_case(grpc::STATUS) {
        progress.grpc.set(Some(GrpcStatus::of(grpc::parse_status(value))));
    }
}

/// The same of a head, which has it if nothing else follows.
pub(crate) fn note_head(progress: &Progress, head: &ResponseHead) {
    if progress.grpc.get().is_some()
        && let Some(value) = head.field(grpc::STATUS)
    {
        note(progress, grpc::STATUS, value);
    }
}

/// How long a client may be silent: with streams in both directions it is no fault of the client to have nothing to say for as
/// long as the upstream may be silent.
pub(crate) fn body_timeout(is_grpc: bool, limits: &Limits, route: &Route) -> Duration {
    if is_grpc { limits.body_timeout.max(route.response_timeout) } else { limits.body_timeout }
}

/// The longest text of a policy that becomes a `grpc-message`, which may triple it: clients take heads of 8 KiB. Of a longer one
/// nothing is told.
const MESSAGE_BYTES_MAX: usize = 1024;

#[cfg(test)]
mod tests;
