//! What becomes of the requests of a route.

use std::fmt;

use super::HashKey;
use crate::template::Template;

/// What becomes of the requests of a route, once they are allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// They go to the cluster of this name, which exists.
    Cluster(String),
    /// They are divided among clusters.
    Split(Split),
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
    /// The clusters that they go to; none if they go nowhere.
    pub fn clusters(&self) -> impl Iterator<Item = &str> {
        let (one, several) = match self {
            Self::Cluster(name) => (Some(name), &[][..]),
            Self::Split(split) => (None, &*split.parts),
            Self::Redirect { .. } | Self::Respond { .. } => (None, &[][..]),
        };
        one.into_iter().chain(several.iter().map(|(name, _)| name)).map(String::as_str)
    }
}

/// How requests are divided among clusters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split {
    /// Names of clusters, which exist, and their weights; at least two, and not all of weight 0.
    pub parts: Vec<(String, u32)>,
    /// What requests have in common that go to the same cluster.
    pub by: Option<HashKey>,
}

/// As in `cluster orders`, `redirect 308 /new/{id}`, `respond 200`.
impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cluster(name) => write!(f, "cluster {name}"),
            Self::Split(split) => {
                let parts = split.parts.iter().map(|(name, weight)| format!("{name} {weight}"));
                write!(f, "split {}", parts.collect::<Vec<_>>().join(", "))?;
                split.by.as_ref().map_or(Ok(()), |by| write!(f, " by {by}"))
            }
            Self::Redirect { status, to } => write!(f, "redirect {status} {to}"),
            Self::Respond { status, .. } => write!(f, "respond {status}"),
        }
    }
}
