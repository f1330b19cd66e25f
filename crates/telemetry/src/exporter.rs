//! The scrape: folds all shards and renders one page in the Prometheus text format.
//!
//! A page is made anew for each scrape (`exposition.rs`), so that nothing stale outlives what it described. A scrape reads the
//! workers' cells and never makes a worker wait.

mod exposition;
mod fold;
mod trust;
mod upstreams;

use std::sync::Arc;
use std::time::UNIX_EPOCH;

use self::exposition::Page;
use crate::closed::ReloadOutcome;
use crate::control::ControlMetrics;
use crate::metrics as catalogue;
use crate::process::{self, ProcessFigures};
use crate::registry::Registry;
use crate::writer::LogStats;

/// What is running.
#[derive(Clone, Copy, Debug)]
pub struct BuildInfo {
    /// Version of the release.
    pub version: &'static str,
    /// Revision of the source, or "unknown".
    pub revision: &'static str,
}

/// Renders the metrics of one process.
#[derive(Debug)]
pub struct Exporter {
    registry: Registry,
    control: Arc<ControlMetrics>,
    log: Arc<LogStats>,
    build: BuildInfo,
    started_unix: f64,
}

impl Exporter {
    /// An exporter of everything that `registry`'s shards, the control plane and the log count.
    pub fn new(
        registry: Registry,
        control: Arc<ControlMetrics>,
        log: Arc<LogStats>,
        build: BuildInfo,
    ) -> Exporter {
        Exporter { registry, control, log, build, started_unix: process::started_unix() }
    }

    /// The page for `GET /metrics`, to be served as [`CONTENT_TYPE`].
    pub fn render(&self) -> String {
        let now_unix = UNIX_EPOCH.elapsed().map_or(0.0, |since| since.as_secs_f64());
        self.render_at(now_unix, ProcessFigures::read())
    }

    fn render_at(&self, now_unix: f64, figures: ProcessFigures) -> String {
        let mut page = Page::new();
        fold::shards(&self.registry, &mut page);
        self.control(&mut page, now_unix);
        self.log(&mut page);
        self.process(&mut page, figures);
        page.gauge(&catalogue::METRICS_SERIES_MAX, &[], self.registry.layout().series_max() as f64);
        page.finish()
    }

    fn control(&self, page: &mut Page, now_unix: f64) {
        let state = self.control.state();
        for outcome in ReloadOutcome::ALL {
            page.counter(&catalogue::RELOADS_FINISHED, &[outcome.as_str()], state.reloads[*outcome as usize]);
        }
        page.gauge(&catalogue::CONFIG_GENERATION, &[], state.generation as f64);
        for (part, digest) in &state.digests {
            page.gauge(&catalogue::CONFIG_INFO, &[part, digest], 1.0);
        }
        let maintenance_until_unix = state.maintenance_until_unix.unwrap_or(0);
        page.gauge(&catalogue::MAINTENANCE_UNTIL, &[], maintenance_until_unix as f64);
        page.gauge(&catalogue::MEMORY_PRESSURE, &[], f64::from(state.memory_pressure));
        if let Some(success) = state.reload_success_unix {
            page.gauge(&catalogue::RELOAD_SUCCESS, &[], success);
        }
        if let Some(published) = state.snapshot_unix {
            page.gauge(&catalogue::SNAPSHOT_AGE, &[], (now_unix - published).max(0.0));
        }
        page.gauge(&catalogue::SNAPSHOTS_RETIRED, &[], state.snapshots_retired as f64);
        for (host, not_after) in &state.certificates {
            page.gauge(&catalogue::CERTIFICATE_NOT_AFTER, &[host], *not_after as f64);
        }
        for (bundle, not_after) in &state.authorities {
            page.gauge(&catalogue::TRUST_NOT_AFTER, &[bundle], *not_after as f64);
        }
        trust::series(page, &state.trust);
        upstreams::series(page, &state.upstreams);
        upstreams::discovery(page, &state.discoveries, now_unix);
    }

    fn log(&self, page: &mut Page) {
        page.counter(&catalogue::ACCESS_RECORDS_WRITTEN, &[], self.log.access_records_written());
        page.counter(&catalogue::LOG_LINES_SUPPRESSED, &[], self.log.lines_suppressed());
        page.counter(&catalogue::LOG_WRITE_ERRORS, &[], self.log.write_errors());
    }

    fn process(&self, page: &mut Page, figures: ProcessFigures) {
        page.gauge(&catalogue::BUILD_INFO, &[self.build.version, self.build.revision], 1.0);
        page.gauge(&catalogue::PROCESS_START, &[], self.started_unix);
        if let Some(bytes) = figures.resident_bytes {
            page.gauge(&catalogue::PROCESS_MEMORY, &[], bytes as f64);
        }
        if let Some(fds) = figures.open_fds {
            page.gauge(&catalogue::PROCESS_FDS, &[], fds as f64);
        }
        if let Some(fds) = figures.max_fds {
            page.gauge(&catalogue::PROCESS_FDS_MAX, &[], fds as f64);
        }
        if let Some(seconds) = figures.cpu_seconds {
            page.fractional_counter(&catalogue::PROCESS_CPU, seconds);
        }
    }
}

/// Content type of the page that [`Exporter::render`] makes.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

#[cfg(test)]
mod tests;
