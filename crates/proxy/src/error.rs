//! Why an exchange ended without the upstream's whole answer.
//!
//! Every variant knows its [`Side`], its stable short flag for logs and metrics, and what the client is told; the table that
//! turns it into a response is in [`crate::respond`].

use std::{io, rc::Rc, time::Duration};

use ringward_config::EndpointAddr;
use ringward_http::{BadHops, ChunkError, RequestError, ResponseError, grpc::BadTimeout, write::WriteError};
use ringward_identity::ForwardedError;
use ringward_policy::DecisionError;
use ringward_tls::UpstreamTlsFailure;

use crate::{
    admission::Withdrawal,
    route_answer::Answered,
    upstream::{SocketTrouble, in_brackets},
};

/// Who is to blame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Downstream,
    Upstream,
    Internal,
}

/// An exchange that did not end as asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProxyError {
    // Downstream: the request.
    #[error("{0}")]
    Head(#[from] RequestError),
    #[error("the request head did not arrive within {0:?}")]
    HeadTimeout(Duration),
    #[error(
        "host {host} has another client-authentication policy than {admitted_as}, for which this connection was made"
    )]
    Misdirected { host: String, admitted_as: std::sync::Arc<str> },
    #[error("this client is not trusted any more: {why}")]
    TrustWithdrawn { withdrawal: Withdrawal, why: Box<str> },
    #[error("the route requires a client certificate, and the client has shown none")]
    CertificateRequired,
    #[error("the client's certificate is not accepted: {0}")]
    CertificateRefused(Box<str>),
    #[error("the client's certificate is not served: {0}")]
    RevocationRefused(Box<str>),
    #[error("the {field} of a trusted proxy names no client: {why}")]
    BadClientAddress { field: &'static str, why: BadHops },
    #[error("the {field} of a trusted proxy has {found} elements, and `hops` expects {expected} at least")]
    TooFewHops { field: &'static str, expected: usize, found: usize },
    #[error("what a load balancer forwards as its client's certificate cannot be read: {0}")]
    BadForwardedIdentity(ForwardedError),
    #[error("the client forwards a certificate, and is none of those who may: see `forwarded_identity`")]
    UnlistedForwarder,
    #[error(
        "the route requires a verified client and the request has come to it without one, which is a fault of ringward's"
    )]
    UnverifiedClient,
    #[error("no virtual host is named {0}")]
    UnknownHost(String),
    #[error("no route matches")]
    NoRoute,
    #[error("routes take this path and method, but the request does not meet the conditions of any")]
    ConditionsUnmet,
    #[error("the route does not take this method")]
    MethodNotAllowed { allow: String },
    #[error("the route takes gRPC calls alone: content-type application/grpc, over HTTP/2")]
    NotGrpc,
    #[error("{0}")]
    BadGrpcTimeout(#[from] BadTimeout),
    #[error("the call was not over within the {0:?} of its grpc-timeout")]
    GrpcTimeout(Duration),
    #[error("the path has an encoded slash, which the route does not allow")]
    EncodedSlash,
    #[error("the request cannot ask for another protocol: {0}")]
    BadUpgrade(&'static str),
    #[error("the route does not switch to the protocol that the client asks for: see `upgrade`")]
    UpgradeNotAllowed,
    #[error("the body is larger than {limit} bytes")]
    BodyTooLarge { limit: u64 },
    #[error("the body made no progress for {0:?}")]
    BodyTimeout(Duration),
    #[error("what policies read of the body did not arrive within {0:?}")]
    PolicyBodyTimeout(Duration),
    #[error("the policy cannot look into the body: {0}")]
    UnreadableBody(DecisionError),
    #[error("the chunked body is malformed: {0}")]
    Chunk(#[from] ChunkError),
    #[error("the client went away")]
    ClientGone,
    #[error("the client took no bytes of the response for {0:?}")]
    ClientStalled(Duration),

    // The decision.
    #[error("denied by policy")]
    Denied(Rc<ringward_policy::Decision>),
    #[error("the client has caused more policy evaluations than `misses_per_second` allows")]
    PolicyBudget,
    #[error("the policy could not decide: {0}")]
    Policy(DecisionError),
    #[error(
        "bodies that policies look at take all of the worker's {limit} bytes of `policy_body_memory_max`"
    )]
    PolicyBodyMemory { limit: usize },
    #[error("memory is about to run out: see `memory_max`")]
    MemoryCeiling,
    #[error("as many requests as may be are in work or wait: see `requests` of the listener")]
    RequestQueueFull,
    #[error("other requests were in work for {0:?}: see `concurrent_max` and `queue_timeout` in `requests`")]
    RequestQueueTimeout(Duration),
    #[error("the access record could not be queued, and audit is \"required\"")]
    AuditOverflow,
    #[error("the policy's answer cannot be carried out: {0}")]
    Unwritable(WriteError),
    #[error(
        "the value of the field {0:?} in `request_headers` or `response_headers` has other bytes than visible ASCII and blanks"
    )]
    HeaderValue(Box<str>),
    #[error(
        "the value of the field {0:?} in `request_headers` or `response_headers` has more than 8192 bytes with what the client has sent"
    )]
    HeaderValueTooLong(Box<str>),
    #[error("the request was not over within {0:?}, the route's `request_timeout`")]
    RequestTimeout(Duration),
    #[error("nothing moved in the tunnel for {0:?}")]
    TunnelIdle(Duration),
    #[error("the tunnel reached its greatest age of {0:?}")]
    TunnelAge(Duration),
    #[error("the process ends, and the drain timeout is over")]
    Stopped,
    #[error("the configuration changed {0} times while the request waited")]
    Unsettled(u32),
    #[error("the response cannot be compressed: {0}")]
    Encode(#[from] ringward_coding::EncodeError),

    // The route's own answer.
    #[error("the route redirects")]
    Redirected(Box<Answered>),
    #[error("the route responds by itself")]
    Responded(Box<Answered>),
    #[error("a preflight was answered")]
    Preflight(Box<Answered>),
    #[error("what the route redirects to is no URL with what the request says in it")]
    BadRedirect,
    #[error("the path for the upstream is in no normal form with what the request says in it, or too long")]
    BadRewrite,

    // Upstream.
    #[error(
        "no endpoint of the cluster is healthy, and its `panic_threshold` lets none of the others be used"
    )]
    NoHealthyUpstream,
    #[error("the cluster has no endpoints: none were found yet, or what names them names none")]
    NoEndpoints,
    #[error("as many requests as may be are under way or wait: see `requests_max` and `pending_max`")]
    ClusterFull,
    #[error("others were under way for {0:?}: see `requests_max` and `pending_timeout`")]
    ClusterWait(Duration),
    #[error("cannot connect to {addr}: {source}{}", in_brackets(addr, source))]
    Connect { addr: EndpointAddr, source: io::Error },
    #[error("TLS with the upstream failed: {0}")]
    UpstreamTls(UpstreamTlsFailure),
    #[error("the upstream broke off: {0}")]
    UpstreamReset(io::Error),
    #[error("the upstream closed before a response")]
    UpstreamClosed,
    #[error("the upstream sent nothing for {0:?}")]
    UpstreamTimeout(Duration),
    #[error("the upstream answered with status {0}, after which the request was to be sent again")]
    UpstreamStatus(u16),
    #[error("{0}")]
    UpstreamHead(#[from] ResponseError),
    #[error("the upstream does not switch protocols as it was asked to: {0}")]
    UpstreamUpgrade(&'static str),
    #[error("the upstream sent interim responses without end")]
    TooManyInterim,
    #[error("the upstream's chunked body is malformed: {0}")]
    UpstreamChunk(ChunkError),
    #[error("the upstream closed {missing} bytes before the end of its body")]
    UpstreamTruncated { missing: u64 },
    #[error("the upstream reset the stream: {0}")]
    UpstreamStreamReset(h2::Reason),
    #[error("the upstream has not processed the request, since its connection ends or is full: {0}")]
    UpstreamUnprocessed(h2::Reason),
    #[error("the upstream broke the rules of HTTP/2: {0}")]
    UpstreamProtocol(String),
}

impl From<WriteError> for ProxyError {
    fn from(error: WriteError) -> ProxyError {
        match error {
            // The client named it.
            WriteError::BadTarget => ProxyError::Head(RequestError::BadTarget),
            error => ProxyError::Unwritable(error),
        }
    }
}

impl ProxyError {
    /// Who is to blame.
    pub(crate) fn side(&self) -> Side {
        use ProxyError::*;
        match self {
            Head(_)
            | HeadTimeout(_)
            | Misdirected { .. }
            | TrustWithdrawn { .. }
            | CertificateRequired
            | CertificateRefused(_)
            | RevocationRefused(_)
            | BadClientAddress { .. }
            | TooFewHops { .. }
            | BadForwardedIdentity(_)
            | UnlistedForwarder
            | UnknownHost(_)
            | NoRoute
            | ConditionsUnmet
            | MethodNotAllowed { .. }
            | NotGrpc
            | BadGrpcTimeout(_)
            | GrpcTimeout(_)
            | EncodedSlash
            | BadUpgrade(_)
            | UpgradeNotAllowed
            | BodyTooLarge { .. }
            | BodyTimeout(_)
            | PolicyBodyTimeout(_)
            | UnreadableBody(_)
            | Chunk(_)
            | ClientGone
            | ClientStalled(_)
            | Denied(_)
            | PolicyBudget
            | BadRedirect
            | BadRewrite
            | HeaderValueTooLong(_) => Side::Downstream,
            // Whoever it was that took the time.
            RequestTimeout(_)
            | Redirected(_)
            | Responded(_)
            | Preflight(_)
            | UnverifiedClient
            | Policy(_)
            | Unwritable(_)
            | HeaderValue(_)
            | PolicyBodyMemory { .. }
            | MemoryCeiling
            | RequestQueueFull
            | RequestQueueTimeout(_)
            | AuditOverflow
            | TunnelIdle(_)
            | TunnelAge(_)
            | Stopped
            | Unsettled(_)
            | Encode(_) => Side::Internal,
            NoHealthyUpstream
            | ClusterFull
            | ClusterWait(_)
            | NoEndpoints
            | Connect { .. }
            | UpstreamTls(_)
            | UpstreamReset(_)
            | UpstreamClosed
            | UpstreamTimeout(_)
            | UpstreamStatus(_)
            | UpstreamHead(_)
            | UpstreamUpgrade(_)
            | TooManyInterim
            | UpstreamChunk(_)
            | UpstreamTruncated { .. }
            | UpstreamStreamReset(_)
            | UpstreamUnprocessed(_)
            | UpstreamProtocol(_) => Side::Upstream,
        }
    }

    /// The stable short name for logs and metrics.
    pub(crate) fn flag(&self) -> &'static str {
        use ProxyError::*;
        match self {
            Head(e) => e.flag(),
            HeadTimeout(_) => "request_head_timeout",
            Misdirected { .. } => "misdirected",
            TrustWithdrawn { .. } => "trust_withdrawn",
            CertificateRequired => "certificate_required",
            CertificateRefused(_) => "certificate_refused",
            RevocationRefused(_) => "revocation_refused",
            BadClientAddress { .. } | TooFewHops { .. } => "bad_client_address",
            BadForwardedIdentity(_) => "bad_forwarded_identity",
            UnlistedForwarder => "unlisted_forwarder",
            UnverifiedClient => "unverified_client",
            UnknownHost(_) => "unknown_host",
            NoRoute => "no_route",
            ConditionsUnmet => "conditions_unmet",
            MethodNotAllowed { .. } => "method_not_allowed",
            NotGrpc => "not_grpc",
            BadGrpcTimeout(_) => "bad_grpc_timeout",
            GrpcTimeout(_) => "grpc_timeout",
            RequestTimeout(_) => "request_timeout",
            EncodedSlash => "encoded_slash",
            BadUpgrade(_) => "bad_upgrade",
            UpgradeNotAllowed => "upgrade_not_allowed",
            TunnelIdle(_) => "tunnel_idle",
            TunnelAge(_) => "tunnel_age",
            BodyTooLarge { .. } => "request_body_too_large",
            BodyTimeout(_) | PolicyBodyTimeout(_) => "request_body_timeout",
            UnreadableBody(_) => "request_body_unreadable",
            Chunk(_) => "request_body_malformed",
            ClientGone => "client_gone",
            ClientStalled(_) => "client_stalled",
            Denied(decision) if decision.undefined => "policy_undefined",
            Denied(_) => "policy_denied",
            PolicyBudget => "policy_budget",
            Policy(_) | Unwritable(_) => "policy_error",
            HeaderValue(_) => "bad_header_value",
            HeaderValueTooLong(_) => "header_value_too_long",
            PolicyBodyMemory { .. } => "policy_body_memory",
            MemoryCeiling => "memory_ceiling",
            RequestQueueFull => "request_queue_full",
            RequestQueueTimeout(_) => "request_queue_timeout",
            AuditOverflow => "audit_overflow",
            Redirected(_) => "redirected",
            Responded(_) => "responded",
            Preflight(_) => "preflight",
            BadRedirect => "bad_redirect",
            BadRewrite => "bad_rewrite",
            Stopped => "stopped",
            Unsettled(_) => "unsettled",
            Encode(_) => "encoder_failed",
            NoHealthyUpstream => "no_healthy_upstream",
            ClusterFull => "cluster_full",
            ClusterWait(_) => "cluster_wait_timeout",
            NoEndpoints => "no_endpoints",
            Connect { source, .. } if source.kind() == io::ErrorKind::TimedOut => "upstream_connect_timeout",
            Connect { addr, source } => {
                SocketTrouble::of(addr, source).map_or("upstream_connect", SocketTrouble::flag)
            }
            UpstreamTls(failure) => failure.reason.as_str(),
            UpstreamReset(_) => "upstream_reset",
            UpstreamClosed => "upstream_closed",
            UpstreamTimeout(_) => "upstream_timeout",
            UpstreamStatus(_) => "upstream_status",
            UpstreamHead(_) | TooManyInterim => "upstream_head_malformed",
            UpstreamUpgrade(_) => "upstream_upgrade",
            UpstreamChunk(_) => "upstream_body_malformed",
            UpstreamTruncated { .. } => "upstream_truncated",
            UpstreamStreamReset(_) => "upstream_reset",
            UpstreamUnprocessed(_) => "upstream_unprocessed",
            UpstreamProtocol(_) => "upstream_protocol",
        }
    }
}

/// Every flag that a request can end with: the closed set of the metric's label.
pub const FLAGS: &[&str] = &[
    // Requests that cannot be read; the words are those of `ringward_http`.
    "bad_connection_option",
    "bad_content_length",
    "bad_field_name",
    "bad_field_value",
    "bad_host",
    "bad_method",
    "bad_request_line",
    "bad_target",
    "bad_transfer_encoding",
    "bare_lf",
    "connect_unsupported",
    "connection_field",
    "empty_line",
    "encoding_on_http10",
    "expectation_failed",
    "head_too_large",
    "host_mismatch",
    "length_and_encoding",
    "line_folding",
    "method_too_long",
    "missing_host",
    "path_above_root",
    "path_bad_escape",
    "path_disguised_dot_segment",
    "path_empty_segment",
    "path_forbidden_byte",
    "path_forbidden_escape",
    "path_not_absolute",
    "path_not_utf8",
    "protected_connection_option",
    "repeated_content_length",
    "repeated_host",
    "request_line_too_long",
    "too_many_connection_options",
    "too_many_fields",
    "unsupported_transfer_encoding",
    "unsupported_version",
    // All others.
    "audit_overflow",
    "bad_client_address",
    "bad_forwarded_identity",
    "bad_grpc_timeout",
    "bad_header_value",
    "bad_redirect",
    "bad_rewrite",
    "bad_upgrade",
    "certificate_refused",
    "certificate_required",
    "client_gone",
    "client_stalled",
    "cluster_full",
    "cluster_wait_timeout",
    "conditions_unmet",
    "encoded_slash",
    "encoder_failed",
    "grpc_timeout",
    "header_value_too_long",
    "method_not_allowed",
    "misdirected",
    "no_endpoints",
    "no_healthy_upstream",
    "no_route",
    "not_grpc",
    "policy_body_memory",
    "memory_ceiling",
    "policy_budget",
    "policy_denied",
    "policy_error",
    "policy_undefined",
    "preflight",
    "redirected",
    "request_body_malformed",
    "request_body_timeout",
    "request_body_too_large",
    "request_body_unreadable",
    "request_head_timeout",
    "request_queue_full",
    "request_queue_timeout",
    "request_timeout",
    "responded",
    "revocation_refused",
    "stopped",
    "trust_withdrawn",
    "tunnel_age",
    "tunnel_idle",
    "unknown_host",
    "unlisted_forwarder",
    "unsettled",
    "unverified_client",
    "upgrade_not_allowed",
    "upstream_body_malformed",
    "upstream_closed",
    "upstream_connect",
    "upstream_connect_timeout",
    "upstream_head_malformed",
    "upstream_protocol",
    "upstream_reset",
    "upstream_socket_dead",
    "upstream_socket_forbidden",
    "upstream_socket_missing",
    "upstream_status",
    "upstream_timeout",
    "upstream_tls_alpn_refused",
    "upstream_tls_bad_certificate",
    "upstream_tls_certificate_refused",
    "upstream_tls_closed",
    "upstream_tls_expired",
    "upstream_tls_internal",
    "upstream_tls_malformed",
    "upstream_tls_name_mismatch",
    "upstream_tls_no_common_suite",
    "upstream_tls_no_common_version",
    "upstream_tls_not_yet_valid",
    "upstream_tls_peer_alert",
    "upstream_tls_pin_mismatch",
    "upstream_tls_revocation_stale",
    "upstream_tls_revocation_unknown",
    "upstream_tls_revoked",
    "upstream_tls_timeout",
    "upstream_tls_unknown_ca",
    "upstream_truncated",
    "upstream_unprocessed",
    "upstream_upgrade",
];

/// Those of [`FLAGS`] that say why an exchange with an upstream failed.
pub const UPSTREAM_FLAGS: &[&str] = &[
    "cluster_full",
    "cluster_wait_timeout",
    "no_endpoints",
    "no_healthy_upstream",
    "upstream_body_malformed",
    "upstream_closed",
    "upstream_connect",
    "upstream_connect_timeout",
    "upstream_head_malformed",
    "upstream_protocol",
    "upstream_reset",
    "upstream_socket_dead",
    "upstream_socket_forbidden",
    "upstream_socket_missing",
    "upstream_status",
    "upstream_timeout",
    "upstream_tls_alpn_refused",
    "upstream_tls_bad_certificate",
    "upstream_tls_certificate_refused",
    "upstream_tls_closed",
    "upstream_tls_expired",
    "upstream_tls_internal",
    "upstream_tls_malformed",
    "upstream_tls_name_mismatch",
    "upstream_tls_no_common_suite",
    "upstream_tls_no_common_version",
    "upstream_tls_not_yet_valid",
    "upstream_tls_peer_alert",
    "upstream_tls_pin_mismatch",
    "upstream_tls_revocation_stale",
    "upstream_tls_revocation_unknown",
    "upstream_tls_revoked",
    "upstream_tls_timeout",
    "upstream_tls_unknown_ca",
    "upstream_truncated",
    "upstream_unprocessed",
    "upstream_upgrade",
];
