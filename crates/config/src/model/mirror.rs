//! What of the requests of a route is copied to another cluster.

use std::fmt;
use std::time::Duration;

/// Where copies of a route's requests go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mirror {
    /// The name of the cluster, which exists and is none of those that the requests go to.
    pub cluster: String,
    /// Of the requests, in percent; at most 100.
    pub percent: u8,
    /// How long the cluster may take for a part of a copy, and for all of its answer.
    pub timeout: Duration,
    /// How many bytes of a body are held at most.
    pub body_held_max: usize,
    /// How many copies the cluster has at the same time, on the whole node.
    pub requests_max: usize,
}

/// As in `10 % mirrored to orders-next`.
impl fmt::Display for Mirror {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} % mirrored to {}", self.percent, self.cluster)
    }
}
