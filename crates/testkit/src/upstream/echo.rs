//! What the upstream says about a request.

use serde::{Deserialize, Serialize};

use crate::http::{Headers, Response};

/// A request as the upstream received it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Echo {
    /// Method.
    pub method: String,
    /// Request target as received.
    pub target: String,
    /// Fields in order.
    pub headers: Headers,
    /// Length of the body without transfer coding.
    pub body_bytes: u64,
    /// SHA-256 of the body without transfer coding, in lower-case hexadecimal.
    pub body_sha256: String,
    /// Trailer fields in order.
    pub trailers: Headers,
}

impl Echo {
    /// Reads the body of a response.
    ///
    /// # Panics
    /// If it is no echo.
    #[track_caller]
    pub fn of(response: &Response) -> Self {
        serde_json::from_slice(&response.body)
            .unwrap_or_else(|error| panic!("status {} and no echo ({error}): {response:?}", response.status))
    }
}
