//! `[log]`.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Count, Field};

/// `[log]`: what is written about requests and about the process.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename = "[log]", default, deny_unknown_fields)]
pub struct Log {
    /// Where access records go, one JSON line per exchange: `"off"`, `"stdout"`, `"stderr"` or a file that is appended
    /// to.
    ///
    /// Default `"stdout"`. Example: `access = { file = "log/access.json" }`.
    pub access: Field<AccessLog>,
    /// What happens when a record finds its queue full: `"best_effort"` loses and counts it, `"required"` answers the
    /// request with 503 instead of serving it without a trace.
    ///
    /// Default `"best_effort"`. Example: `audit = "required"`.
    pub audit: Field<Audit>,
    /// The least severe messages about the process itself to be written: `"error"`, `"warn"`, `"info"`, `"debug"` or
    /// `"trace"`.
    ///
    /// Default `"info"`. Example: `level = "warn"`.
    pub level: Field<Level>,
    /// How many access records may wait to be written, per worker.
    ///
    /// Default 8192; 64 to 1048576. Example: `queue_records = 65536`.
    pub queue_records: Field<Count>,
}

/// Values of `access` in `[log]`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename = "log.access", rename_all = "snake_case")]
pub enum AccessLog {
    /// No access records.
    Off,
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// A file, appended to and created if it is missing.
    File(Field<String>),
}

/// Values of `audit` in `[log]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename = "log.audit", rename_all = "snake_case")]
pub enum Audit {
    /// A record that cannot be queued is lost and counted.
    BestEffort,
    /// A request whose record cannot be queued is answered with 503.
    Required,
}

/// Values of `level` in `[log]`, the most severe first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, JsonSchema)]
#[serde(rename = "log.level", rename_all = "snake_case")]
pub enum Level {
    /// Someone must act.
    Error,
    /// Something is degraded.
    Warn,
    /// Life cycle of the process.
    Info,
    /// Each connection.
    Debug,
    /// Everything.
    Trace,
}

impl Level {
    /// The word that stands in the file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}
