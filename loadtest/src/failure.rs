//! What can be wrong with an exchange: a closed set of kinds, each with what was seen.

use std::io;

use serde::Serialize;

/// The kind of a failure, by which failures are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum FailureKind {
    /// No TCP connection.
    Connect,
    /// The handshake failed, or an alert came. In TLS 1.3 a client learns only with its first answer that its certificate
    /// was refused.
    Tls,
    /// The connection ended before the first byte of an answer.
    Closed,
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
    /// It is no gRPC: no messages, or no status at the end.
    Grpc,
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
            FailureKind::Malformed => "malformed",
            FailureKind::Status => "status",
            FailureKind::Length => "length",
            FailureKind::Grpc => "grpc",
            FailureKind::WebSocket => "websocket",
            FailureKind::Unsent => "unsent",
        }
    }
}

impl Failure {
    pub(crate) fn new(kind: FailureKind, detail: impl Into<String>) -> Failure {
        Failure { kind, detail: detail.into() }
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
        Failure::new(kind, error.to_string())
    }
}
