//! What happened in each second of a run.
//!
//! Samples end with the seconds of the wall clock, so that those of several processes fit together. The first and the last one are
//! shorter, and one is longer if the process was late.

use serde::{Deserialize, Serialize};

/// One second, as the process that makes the load saw it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Sample {
    /// The second of the wall clock that it began in, counted since 1970 in UTC.
    pub(crate) unix: u64,
    /// How long it is, in seconds.
    pub(crate) lasts: f64,
    /// Right answers.
    pub(crate) right: u64,
    pub(crate) failed: u64,
    /// Connections that were opened.
    pub(crate) opened: u64,
    /// Connections that were open at its end.
    pub(crate) open: u64,
    /// Of right exchanges; in an open loop since they were due. In reports that were merged p50 and p99 are those of the process
    /// where they are longest: they would need all times to be exact, and are at the most this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) p50_us: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) p99_us: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) max_us: Option<f64>,
    /// CPU time of the processes that make the load, in seconds.
    pub(crate) load_cpu: f64,
}

/// One second of a process under load.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct TargetSample {
    pub(crate) unix: u64,
    pub(crate) lasts: f64,
    /// CPU time in seconds.
    pub(crate) cpu: f64,
    /// Resident at its end, in bytes.
    pub(crate) memory: u64,
}

impl Sample {
    /// Adds what another process saw in the same second.
    pub(crate) fn add(&mut self, other: &Sample) {
        let longer = |a: Option<f64>, b: Option<f64>| a.into_iter().chain(b).reduce(f64::max);
        *self = Sample {
            unix: self.unix,
            lasts: self.lasts.max(other.lasts),
            right: self.right.saturating_add(other.right),
            failed: self.failed.saturating_add(other.failed),
            opened: self.opened.saturating_add(other.opened),
            open: self.open.saturating_add(other.open),
            p50_us: longer(self.p50_us, other.p50_us),
            p99_us: longer(self.p99_us, other.p99_us),
            max_us: longer(self.max_us, other.max_us),
            load_cpu: self.load_cpu + other.load_cpu,
        };
    }
}

/// Samples that are kept of a run: it takes an hour, and at the most one more to open its connections and one for what is under way.
pub(crate) const SAMPLES_MAX: usize = 3 * 3600 + 60;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_of_two_processes_are_added() {
        let one = Sample {
            unix: 7,
            lasts: 0.5,
            right: 10,
            failed: 1,
            opened: 2,
            open: 3,
            p50_us: Some(1.0),
            p99_us: Some(9.0),
            max_us: None,
            load_cpu: 0.25,
        };
        let mut sum = one;
        sum.add(&Sample {
            lasts: 1.0,
            right: 5,
            p50_us: Some(2.0),
            p99_us: Some(3.0),
            max_us: Some(4.0),
            ..one
        });
        let wanted = Sample {
            unix: 7,
            lasts: 1.0,
            right: 15,
            failed: 2,
            opened: 4,
            open: 6,
            p50_us: Some(2.0),
            p99_us: Some(9.0),
            max_us: Some(4.0),
            load_cpu: 0.5,
        };
        assert_eq!(sum, wanted);
    }
}
