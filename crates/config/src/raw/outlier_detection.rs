//! `outlier_detection` of clusters.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Count, DurationText, Field, OneOrMany};

/// `outlier_detection = { ... }` of `[cluster.NAME]`: an endpoint that fails requests is **ejected**, which means that it gets none for
/// a while. What counts are failures in a row, of all workers together: connections and TLS handshakes that fail, connections and
/// streams that end too early, answers that do not come in time or cannot be read, and the statuses in `status`. One good answer
/// ends the row.
///
/// It comes back by itself, and is ejected for longer if it goes on failing. Health checks have no say in that: they may well pass while
/// requests fail. An endpoint that is ejected and one that is unhealthy are the same for `panic_threshold`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename = "outlier_detection", default, deny_unknown_fields)]
pub struct OutlierDetection {
    /// After how many failures in a row an endpoint is ejected.
    ///
    /// Default 5; 1 to 1000. Example: `consecutive_failures = 3`.
    pub consecutive_failures: Field<Count>,
    /// The statuses of responses that are failures: numbers, or ranges of them, from 400 on. Calls of gRPC count by the status that stands
    /// for theirs: `UNAVAILABLE` as 503, `UNKNOWN`, `INTERNAL` and `DATA_LOSS` as 500.
    ///
    /// Default `"502-504"`; 1 to 16. Example: `status = ["500", "502-504"]`.
    pub status: Field<OneOrMany>,
    /// How long the first ejection lasts. Each further one lasts as much longer; for each such time that the endpoint has stood without
    /// one, one is forgotten.
    ///
    /// Default `"30s"`; `"100ms"` to `"1d"`. Example: `ejection_time = "10s"`.
    pub ejection_time: Field<DurationText>,
    /// How long an ejection lasts at most.
    ///
    /// Default `"5m"`; `"100ms"` to `"1d"`, and no less than `ejection_time`. Example: `ejection_time_max = "1m"`.
    pub ejection_time_max: Field<DurationText>,
    /// How many percent of the endpoints are ejected at a time, at most; one may always be, if that leaves another that is healthy.
    ///
    /// Default 50; 1 to 100. Example: `ejected_percent_max = 20`.
    pub ejected_percent_max: Field<Count>,
}
