//! What becomes of the requests of a route.

use std::fmt;

use crate::template::Template;

/// What becomes of the requests of a route, once they are allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// They go to the cluster of this name, which exists.
    Cluster(String),
    /// Clients are sent elsewhere.
    Redirect {
        /// 301, 302, 303, 307 or 308.
        status: u16,
        /// Where.
        to: Template,
    },
    /// They get this answer.
    Respond {
        /// From 200 to 599.
        status: u16,
        /// Of the body; without line breaks.
        content_type: String,
        /// The body; empty for statuses that have none.
        body: String,
    },
}

impl Action {
    /// The cluster that they go to, if they go to one.
    pub fn cluster(&self) -> Option<&str> {
        match self {
            Self::Cluster(name) => Some(name),
            Self::Redirect { .. } | Self::Respond { .. } => None,
        }
    }
}

/// As in `cluster orders`, `redirect 308 /new/{id}`, `respond 200`.
impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cluster(name) => write!(f, "cluster {name}"),
            Self::Redirect { status, to } => write!(f, "redirect {status} {to}"),
            Self::Respond { status, .. } => write!(f, "respond {status}"),
        }
    }
}
