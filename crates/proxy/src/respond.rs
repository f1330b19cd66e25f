//! Our own answers: which error gives which status, and what the client is told.
//!
//! Clients learn little: a status and its standard phrase. Operators learn all, from the access record's flag and error.

use ringward_http::write;

use ringward_telemetry::CloseReason;
use ringward_tls::UpstreamTlsReason;
use smallvec::SmallVec;

use crate::{
    connection::{End, Next},
    error::ProxyError,
};

/// Whether and how the client is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    /// HTTP status; 0 when no answer is possible.
    pub(crate) status: u16,
    /// The connection cannot be used afterwards: its framing is in doubt, or the request's body is unread.
    pub(crate) close: bool,
}

/// The table.
pub(crate) fn answer(error: &ProxyError) -> Answer {
    use ProxyError::*;
    let (status, close) = match error {
        Head(e) => (e.status(), true),
        HeadTimeout(_) | BodyTimeout(_) | PolicyBodyTimeout(_) => (408, true),
        Misdirected { .. } | UnknownHost(_) => (421, false),
        NoRoute | ConditionsUnmet => (404, false),
        MethodNotAllowed { .. } => (405, false),
        NotGrpc => (415, false),
        EncodedSlash | BadGrpcTimeout(_) | BadClientAddress { .. } | TooFewHops { .. } => (400, false),
        BadForwardedIdentity(_) | UnlistedForwarder => (400, false),
        BadUpgrade(_) => (400, true),
        UpgradeNotAllowed => (501, false),
        BodyTooLarge { .. } => (413, true),
        Chunk(_) => (400, true),
        UnreadableBody(_) => (400, false),
        Redirected(answered) | Responded(answered) | Preflight(answered) => (answered.status, false),
        BadRedirect | BadRewrite => (400, false),
        // What is too long is what the client has sent, whatever is made of it.
        HeaderValueTooLong(_) => (431, false),
        Denied(decision) => (decision.status.unwrap_or(403), false),
        PolicyBudget => (429, false),
        UnverifiedClient | Policy(_) | Unwritable(_) | HeaderValue(_) | Encode(_) => (500, false),
        PolicyBodyMemory { .. }
        | MemoryCeiling
        | RequestQueueFull
        | RequestQueueTimeout(_)
        | AuditOverflow
        | Unsettled(_)
        | ClusterFull
        | ClusterWait(_)
        | NoHealthyUpstream
        | NoEndpoints => (503, false),
        Connect { source, .. } if source.kind() == std::io::ErrorKind::TimedOut => (504, false),
        Connect { .. } => (502, false),
        UpstreamTls(failure) if failure.reason == UpstreamTlsReason::Timeout => (504, false),
        UpstreamTls(_) => (502, false),
        UpstreamTimeout(_) | GrpcTimeout(_) | RequestTimeout(_) => (504, false),
        UpstreamReset(_)
        | UpstreamClosed
        | UpstreamStatus(_)
        | UpstreamHead(_)
        | TooManyInterim
        | UpstreamChunk(_)
        | UpstreamTruncated { .. }
        | UpstreamStreamReset(_)
        | UpstreamUnprocessed(_)
        | UpstreamProtocol(_) => (502, false),
        // The client may take what follows for the other protocol.
        UpstreamUpgrade(_) => (502, true),
        TunnelIdle(_) | TunnelAge(_) | Stopped => (0, true),
        ClientGone | ClientStalled(_) | TrustWithdrawn { .. } => (0, true),
        CertificateRequired | CertificateRefused(_) | RevocationRefused(_) => (403, false),
    };
    Answer { status, close }
}

/// How the connection ends for an error that has no answer.
pub(crate) fn silent_end(error: &ProxyError) -> Next {
    match error {
        ProxyError::TrustWithdrawn { withdrawal, .. } => Next::End(End::Close(withdrawal.close_reason())),
        error => Next::End(End::Cut(cut_reason(error))),
    }
}

/// Why a connection is cut that cannot be answered any more.
pub(crate) fn cut_reason(error: &ProxyError) -> CloseReason {
    match error {
        ProxyError::ClientStalled(_) | ProxyError::BodyTimeout(_) => CloseReason::BodyTimeout,
        ProxyError::ClientGone => CloseReason::Peer,
        ProxyError::Chunk(_) => CloseReason::BadRequest,
        ProxyError::Stopped => CloseReason::Drain,
        ProxyError::TunnelIdle(_) => CloseReason::IdleTimeout,
        ProxyError::TunnelAge(_) => CloseReason::AgeLimit,
        _ => CloseReason::Exchange,
    }
}

/// Why the connection ends after the answer, if the error says so.
pub(crate) fn close_reason(error: &ProxyError) -> Option<CloseReason> {
    match error {
        ProxyError::Head(_) | ProxyError::Chunk(_) | ProxyError::BadUpgrade(_) => {
            Some(CloseReason::BadRequest)
        }
        ProxyError::HeadTimeout(_) => Some(CloseReason::HeaderTimeout),
        ProxyError::BodyTimeout(_) | ProxyError::PolicyBodyTimeout(_) => Some(CloseReason::BodyTimeout),
        ProxyError::BodyTooLarge { .. } => Some(CloseReason::Exchange),
        _ => None,
    }
}

/// Appends the answer to `out`; how many bytes of it are its body. `date` is what the `Date` field has.
pub(crate) fn write(
    out: &mut Vec<u8>,
    error: &ProxyError,
    answer: Answer,
    date: &[u8],
    close: bool,
    head_only: bool,
) -> u64 {
    let Content { fields, body } = content(error, answer, date);
    write::simple_response(out, answer.status, &fields, body.as_bytes(), close, head_only);
    if head_only { 0 } else { body.len() as u64 }
}

/// What an answer consists of, besides its status and framing.
pub(crate) struct Content<'a> {
    pub(crate) fields: SmallVec<[(&'a str, &'a [u8]); 4]>,
    pub(crate) body: &'a str,
}

/// What a client is told of an error. `date` is what the `Date` field has.
pub(crate) fn content<'a>(error: &'a ProxyError, answer: Answer, date: &'a [u8]) -> Content<'a> {
    let mut fields: SmallVec<[(&str, &[u8]); 4]> = SmallVec::new();
    fields.push(("date", date));
    let mut body = phrase(answer.status);
    match error {
        ProxyError::Denied(decision) => {
            fields.extend(decision.headers.iter().map(|(name, value)| (&**name, value.as_bytes())));
            body = decision.body.as_deref().unwrap_or(body);
        }
        ProxyError::Redirected(answered)
        | ProxyError::Responded(answered)
        | ProxyError::Preflight(answered) => {
            if answered.fields.iter().any(|(name, _)| **name == *"date") {
                fields.clear();
            }
            let own = [
                ("location", answered.location.as_deref()),
                ("content-type", answered.content_type.as_deref()),
            ];
            fields.extend(own.into_iter().filter_map(|(name, value)| Some((name, value?.as_bytes()))));
            fields.extend(answered.fields.iter().map(|(name, value)| (&**name, &**value)));
            let added = answered.decision.iter().flat_map(|decision| &decision.response_headers_to_add);
            fields.extend(added.map(|(name, value)| (&**name, value.as_bytes())));
            body = &answered.body;
        }
        // A second refills what the client may spend, and other bodies are decided about by then.
        ProxyError::PolicyBudget
        | ProxyError::PolicyBodyMemory { .. }
        | ProxyError::MemoryCeiling
        | ProxyError::RequestQueueFull
        | ProxyError::RequestQueueTimeout(_)
        | ProxyError::ClusterFull
        | ProxyError::ClusterWait(_) => fields.push(("retry-after", b"1")),
        ProxyError::MethodNotAllowed { allow } => fields.push(("allow", allow.as_bytes())),
        _ => {}
    }
    Content { fields, body }
}

/// The body of our own answers.
fn phrase(status: u16) -> &'static str {
    match status {
        400 => "bad request\n",
        403 => "forbidden\n",
        404 => "not found\n",
        405 => "method not allowed\n",
        408 => "request timeout\n",
        413 => "content too large\n",
        414 => "uri too long\n",
        415 => "unsupported media type\n",
        417 => "expectation failed\n",
        421 => "misdirected request\n",
        429 => "too many requests\n",
        431 => "request header fields too large\n",
        500 => "internal server error\n",
        501 => "not implemented\n",
        502 => "bad gateway\n",
        503 => "service unavailable\n",
        504 => "gateway timeout\n",
        505 => "http version not supported\n",
        _ => "",
    }
}
