//! What can be wrong with an exchange: a closed set of kinds, each with what was seen.

use std::io;

use rustls::AlertDescription;
use serde::{Deserialize, Serialize};

/// The kind of a failure, by which failures are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum FailureKind {
    /// No TCP connection.
    Connect,
    /// The handshake failed, or an alert came. In TLS 1.3 a client learns only with its first answer that its certificate
    /// was refused.
    Tls,
    /// The connection ended before the first byte of an answer.
    Closed,
    /// The target reset a stream of HTTP/2 before the first byte of an answer.
    Reset,
    /// The connection ended, or failed, within a request or an answer.
    Truncated,
    /// It took longer than allowed.
    Timeout,
    /// The answer breaks HTTP/1.1.
    Malformed,
    /// Not the expected status.
    Status,
    /// Not the expected body length.
    Length,
    /// Not the expected body.
    Body,
    /// A client was served whose handshake must be refused.
    Admitted,
    /// It is no gRPC: no messages, or no status at the end.
    Grpc,
    /// Not the expected status of gRPC.
    GrpcStatus,
    /// A WebSocket broke its rules, or a message did not come back as it was sent.
    #[serde(rename = "websocket")]
    WebSocket,
    /// It was due, and no connection was free to send it before the run gave up.
    Unsent,
}

/// One failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) kind: FailureKind,
    /// What was seen, for people.
    pub(crate) detail: String,
    /// The kernel says that the other end has reset the connection.
    is_connection_reset: bool,
}

impl FailureKind {
    /// The word for reports.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            FailureKind::Connect => "connect",
            FailureKind::Tls => "tls",
            FailureKind::Closed => "closed",
            FailureKind::Truncated => "truncated",
            FailureKind::Timeout => "timeout",
            FailureKind::Reset => "reset",
            FailureKind::Malformed => "malformed",
            FailureKind::Status => "status",
            FailureKind::Length => "length",
            FailureKind::Body => "body",
            FailureKind::Admitted => "admitted",
            FailureKind::Grpc => "grpc",
            FailureKind::GrpcStatus => "grpc_status",
            FailureKind::WebSocket => "websocket",
            FailureKind::Unsent => "unsent",
        }
    }
}

impl Failure {
    pub(crate) fn new(kind: FailureKind, detail: impl Into<String>) -> Failure {
        Failure { kind, detail: detail.into(), is_connection_reset: false }
    }

    /// Whether a target refuses a client's certificate with it: by an alert that says so. That something merely ended proves nothing.
    pub(crate) fn is_refusal(&self) -> bool {
        // h2 keeps of an error of the stream below it nothing but its text.
        let is_received = |alert: &AlertDescription| {
            self.detail.contains(&rustls::Error::AlertReceived(*alert).to_string())
        };
        self.kind == FailureKind::Tls && REFUSALS.iter().any(is_received)
    }

    /// The same once the client has finished its handshake: what it has sent by then may be answered by a reset, which takes with it the
    /// alert that was on its way.
    pub(crate) fn is_late_refusal(&self) -> bool {
        self.is_refusal() || (self.kind == FailureKind::Closed && self.is_connection_reset)
    }

    pub(crate) fn malformed(detail: impl Into<String>) -> Failure {
        Failure::new(FailureKind::Malformed, detail)
    }

    /// An error of a connection. `begun` says whether a byte of the answer had come.
    pub(crate) fn of_stream(error: &io::Error, begun: bool) -> Failure {
        let kind = match error.kind() {
            // What rustls says is wrapped into this.
            io::ErrorKind::InvalidData => FailureKind::Tls,
            _ if begun => FailureKind::Truncated,
            _ => FailureKind::Closed,
        };
        let is_connection_reset = is_reset(error);
        Failure { is_connection_reset, ..Failure::new(kind, error.to_string()) }
    }

    /// The same failure, of a connection on which sending failed too.
    pub(crate) fn after_sending(self, error: &io::Error) -> Failure {
        let is_connection_reset = self.is_connection_reset || is_reset(error);
        Failure { detail: format!("sending: {error}"), is_connection_reset, ..self }
    }
}

fn is_reset(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe)
}

/// What says that a certificate is missing or not good enough (RFC 8446 §6.2). Of these `handshake_failure` is that of TLS 1.2 for a
/// missing one (RFC 5246 §7.4.6).
const REFUSALS: [AlertDescription; 9] = [
    AlertDescription::HandshakeFailure,
    AlertDescription::BadCertificate,
    AlertDescription::UnsupportedCertificate,
    AlertDescription::CertificateRevoked,
    AlertDescription::CertificateExpired,
    AlertDescription::CertificateUnknown,
    AlertDescription::UnknownCA,
    AlertDescription::AccessDenied,
    AlertDescription::CertificateRequired,
];
