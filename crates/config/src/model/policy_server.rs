//! The server that decides for a policy.

use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

/// The server that decides for a policy, and how it is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyServer {
    /// Where it listens.
    pub address: PolicyServerAddress,
    /// How long a question may take.
    pub timeout: Duration,
    /// How many questions may wait for their answers, per worker.
    pub connections_max: usize,
    /// How large an answer may be.
    pub answer_bytes_max: usize,
    /// After how many questions in a row without an answer none are asked for a while.
    pub failures_to_open: NonZeroU32,
    /// How long the while is.
    pub open_for: Duration,
}

/// Where a policy server listens: on this machine, since what is said is neither encrypted nor authenticated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PolicyServerAddress {
    /// A port of a loopback address.
    Tcp(SocketAddr),
    /// A Unix socket: as written if its path was absolute, else below the directory of the configuration file.
    Unix(PathBuf),
}

impl fmt::Display for PolicyServerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}
