//! Why a policy server has not decided.

use std::time::Duration;

/// Why there is no answer of a policy server, or none that means anything. Every one ends the request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ServerError {
    /// No connection could be made.
    #[error("it cannot be reached: {0}")]
    Unreachable(std::io::ErrorKind),
    /// The connection ended before the answer did.
    #[error("it closed the connection before its answer was complete")]
    Closed,
    /// There was no whole answer in time.
    #[error("it did not answer within {0:?}")]
    Timeout(Duration),
    /// Not asked: so many questions wait for their answers already.
    #[error("{0} questions wait for their answers already (`connections_max`)")]
    Busy(usize),
    /// Not asked: it did not answer lately.
    #[error("it did not answer lately and is not asked for now (`open_for`)")]
    CircuitOpen,
    /// It answered with another status than 200, as OPA does when an evaluation fails.
    #[error("it answered with status {0}")]
    Status(u16),
    /// The answer has more bytes than are read.
    #[error("its answer has more than {0} bytes (`answer_bytes_max`)")]
    TooLarge(usize),
    /// What it sent is no HTTP response whose end is certain.
    #[error("its answer is not understood: {0}")]
    NotHttp(String),
    /// The answer is not one JSON object that can be read in one way only.
    #[error("its answer is not understood: {0}")]
    NotJson(String),
}
