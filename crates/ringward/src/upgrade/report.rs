//! What an upgrade came to, as whoever asked for it is told.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The outcome of an upgrade.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub(crate) enum UpgradeReport {
    /// The new process serves, and the old one drains.
    HandedOver {
        /// Number of the new process.
        process: u32,
        /// Its version.
        version: String,
        /// Version of the old one.
        from_version: String,
        /// From the request until the new one served alone.
        took_milliseconds: u64,
        /// Open connections of the old one, which it ends within its `drain_timeout`.
        draining_connections: usize,
    },
    /// There is no new process, and the old one serves as before.
    Refused {
        /// Why.
        reason: String,
    },
    /// Not even tried, because the process ends.
    TooLate,
}

impl fmt::Display for UpgradeReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            UpgradeReport::HandedOver {
                process,
                version,
                from_version,
                took_milliseconds,
                draining_connections,
            } => {
                writeln!(
                    f,
                    "process {process} serves, version {version} (was {from_version}), after {took_milliseconds} ms"
                )?;
                writeln!(f, "the former process ends {draining_connections} connections")
            }
            UpgradeReport::Refused { reason } => {
                writeln!(f, "nothing has changed, the process serves on: {reason}")
            }
            UpgradeReport::TooLate => writeln!(f, "not upgraded: the process ends"),
        }
    }
}
