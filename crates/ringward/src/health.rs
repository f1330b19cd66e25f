//! Whether the process does its work, for `/healthz` and `/readyz`.

use std::sync::Arc;
use std::time::UNIX_EPOCH;

use ringward_proxy::{Control, Phase};
use ringward_telemetry::{Exporter, metrics::WORKER_HEARTBEAT};

/// Looks at the workers from outside.
#[derive(Debug)]
pub(crate) struct Health {
    control: Arc<Control>,
    exporter: Arc<Exporter>,
    workers: usize,
}

impl Health {
    /// Of a process with this many workers, all of which have started.
    pub(crate) fn new(control: Arc<Control>, exporter: Arc<Exporter>, workers: usize) -> Health {
        Health { control, exporter, workers }
    }

    /// Whether every worker's event loop turns; what is wrong otherwise. Renders the metrics, so it takes as long as a
    /// scrape.
    ///
    /// # Errors
    /// What is wrong.
    pub(crate) fn healthy(&self) -> Result<(), String> {
        // Workers end while the process drains, and are silent then.
        if self.control.phase() != Phase::Running {
            return Ok(());
        }
        let now_unix = UNIX_EPOCH.elapsed().map_or(0.0, |since| since.as_secs_f64());
        judge(&heartbeats(&self.exporter.render()), self.workers, now_unix)
    }

    /// Whether new connections are welcome; why not otherwise.
    ///
    /// # Errors
    /// Why not.
    pub(crate) fn ready(&self) -> Result<(), String> {
        match self.control.phase() {
            Phase::Running => self.healthy(),
            Phase::Draining => Err("draining".to_owned()),
            Phase::Stopped => Err("stopping".to_owned()),
        }
    }
}

fn judge(beats: &[(String, f64)], workers: usize, now_unix: f64) -> Result<(), String> {
    if beats.len() < workers {
        return Err(format!("{} of {workers} workers have begun to work", beats.len()));
    }
    let silent = beats.iter().find(|(_, beat_unix)| now_unix - beat_unix > SILENCE_SECONDS_MAX);
    match silent {
        Some((worker, beat_unix)) => {
            Err(format!("worker {worker} has been silent for {:.0} s", now_unix - beat_unix))
        }
        None => Ok(()),
    }
}

/// Worker and time of its last heartbeat in seconds since 1970, of every worker on a page of metrics.
fn heartbeats(page: &str) -> Vec<(String, f64)> {
    let heartbeat = |line: &str| {
        let labelled = line.strip_prefix(WORKER_HEARTBEAT.name)?.strip_prefix("{worker=\"")?;
        let (worker, value) = labelled.split_once("\"} ")?;
        Some((worker.to_owned(), value.parse().ok()?))
    };
    page.lines().filter_map(heartbeat).collect()
}

/// A worker beats 20 times per second. A policy may take its time budget, up to a second, for several requests in a row.
const SILENCE_SECONDS_MAX: f64 = 5.0;

#[cfg(test)]
mod tests {
    use ringward_telemetry::{BuildInfo, ClosedSets, ControlMetrics, Limits, LogStats, Registry};

    use super::*;

    #[test]
    fn a_silent_worker_is_named() {
        let beats = |second: f64| [("0".to_owned(), 100.0), ("1".to_owned(), second)];
        assert_eq!(judge(&beats(100.0), 2, 100.0 + SILENCE_SECONDS_MAX), Ok(()), "at the limit");
        let error = judge(&beats(90.0), 2, 101.0).unwrap_err();
        assert_eq!(error, "worker 1 has been silent for 11 s");
        assert!(judge(&beats(100.0), 3, 101.0).unwrap_err().starts_with("2 of 3"));
    }

    #[test]
    fn heartbeats_are_found_on_the_page() {
        let registry = Registry::new(ClosedSets::default(), Limits::default());
        registry.shard(0).heartbeat(1_500, 1);
        registry.shard(11).heartbeat(2_000, 1);
        let build = BuildInfo { version: "0", revision: "0" };
        let exporter = Exporter::new(
            registry,
            Arc::new(ControlMetrics::default()),
            Arc::new(LogStats::default()),
            build,
        );
        let mut beats = heartbeats(&exporter.render());
        beats.sort_by(|a, b| a.0.cmp(&b.0));
        assert_eq!(beats, [("0".to_owned(), 1.5), ("11".to_owned(), 2.0)]);
    }
}
