//! A scenario: everything about a load but whom it is for. Read from a TOML file, or made of a command line.
//!
//! A file is read in two steps: `raw` mirrors it key by key, and `judge` makes a [`Scenario`] of it, or a list of all that is wrong,
//! each with its place (`problem`).

mod judge;
mod problem;
mod raw;
mod units;

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::clients::Outcome;
use crate::distribution::Distribution;
use crate::fleet;
use crate::rate::Rates;
use crate::request::RequestKind;
use crate::tls::Offer;

pub(crate) use self::problem::Problems;

/// A load. Who it is for may be left open.
#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    /// What it is called in reports.
    pub(crate) name: String,
    /// What it stands for.
    pub(crate) description: Option<String>,
    /// `HOST:PORT`.
    pub(crate) target: Option<String>,
    /// Names that the target's certificate must carry; each connection asks for the next of them.
    pub(crate) server_names: Vec<String>,
    /// A directory that `ringward-load pki` has made.
    pub(crate) pki: Option<PathBuf>,
    pub(crate) ca: Option<PathBuf>,
    pub(crate) offer: Offer,
    pub(crate) connections: u32,
    /// At the same time on each connection.
    pub(crate) streams: u32,
    /// Requests on each connection, if it is closed after some.
    pub(crate) per_connection: Option<Distribution>,
    /// Seconds between an answer and the next request of who got it.
    pub(crate) think_time: Distribution,
    /// How often all clients leave their connections and come again at the same moment.
    pub(crate) storm_every: Option<Duration>,
    /// Handshakes at the same time.
    pub(crate) handshakes_max: u32,
    /// Whether one client uses a place for the whole run.
    pub(crate) kept: bool,
    pub(crate) resume: bool,
    pub(crate) requests_max: Option<u64>,
    pub(crate) duration_max: Option<Duration>,
    pub(crate) rate: Option<Rates>,
    pub(crate) timeout: Duration,
    /// How long connections wait that make one request, wait, and make another. None if that is not what they do.
    pub(crate) hold: Option<Duration>,
    pub(crate) seed: u64,
    pub(crate) classes: Vec<ClassPlan>,
    pub(crate) kinds: Vec<RequestKind>,
}

/// Clients that are alike.
#[derive(Clone, Debug)]
pub(crate) struct ClassPlan {
    pub(crate) name: String,
    /// Of all connections.
    pub(crate) share: f64,
    pub(crate) source: Source,
    pub(crate) outcome: Outcome,
}

/// Where certificates come from.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    /// There are none.
    Anonymous,
    /// A chain and its key.
    Files { cert: PathBuf, key: PathBuf },
    /// Those of this class in the PKI, the first so many if that is said.
    Fleet { class: fleet::Class, count: Option<usize> },
}

impl Scenario {
    /// Reads a scenario. Paths in it begin at its directory.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub(crate) fn read(file: &Path) -> Result<Scenario, Problems> {
        let text = std::fs::read_to_string(file).map_err(|error| Problems::unreadable(file, &error))?;
        let raw = raw::File::parse(file, &text)?;
        judge::judge(file, &text, &raw)
    }
}

/// As many handshakes as a target's backlog is likely to take, unless a storm is wanted.
pub(crate) const HANDSHAKES_MAX: u32 = 64;
pub(crate) const TIMEOUT_DEFAULT: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests;
