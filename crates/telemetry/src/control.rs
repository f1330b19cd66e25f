//! What the control plane itself measures: reloads, generations and the expiry of certificates. What it measures of
//! trust is in `trust.rs`, what it measures of upstreams in `upstreams.rs` and `discovery.rs`.
//!
//! Everything in here is set off the request path, so a lock is good enough.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::closed::ReloadOutcome;
use crate::discovery::DiscoveryState;
use crate::trust::TrustState;
use crate::upstreams::UpstreamState;

/// Metrics that the control plane sets. Shared with the [`Exporter`](crate::Exporter) behind an `Arc`.
///
/// All times are seconds since the Unix epoch.
#[derive(Debug, Default)]
pub struct ControlMetrics(Mutex<ControlState>);

/// A copy of [`ControlMetrics`] at one moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct ControlState {
    pub(crate) reloads: [u64; ReloadOutcome::ALL.len()],
    pub(crate) reload_success_unix: Option<f64>,
    pub(crate) generation: u64,
    /// By part.
    pub(crate) digests: Vec<(&'static str, String)>,
    pub(crate) maintenance_until_unix: Option<i64>,
    pub(crate) memory_pressure: u8,
    pub(crate) snapshot_unix: Option<f64>,
    pub(crate) snapshots_retired: usize,
    pub(crate) certificates: Vec<(String, i64)>,
    pub(crate) authorities: Vec<(String, i64)>,
    pub(crate) trust: TrustState,
    pub(crate) upstreams: BTreeMap<String, UpstreamState>,
    pub(crate) discoveries: BTreeMap<String, DiscoveryState>,
}

impl ControlMetrics {
    /// A reload ended. Whatever did not fail is a success, even if it changed nothing.
    pub fn reload_finished(&self, outcome: ReloadOutcome, now_unix: f64) {
        let mut state = self.lock();
        state.reloads[outcome as usize] += 1;
        if outcome != ReloadOutcome::Failed {
            state.reload_success_unix = Some(now_unix);
        }
    }

    /// A snapshot was published, at start or by a reload.
    pub fn snapshot_published(&self, generation: u64, now_unix: f64) {
        let mut state = self.lock();
        state.generation = generation;
        state.snapshot_unix = Some(now_unix);
        state.reload_success_unix.get_or_insert(now_unix);
    }

    /// So many replaced snapshots are still in use.
    pub fn snapshots_retired(&self, count: usize) {
        self.lock().snapshots_retired = count;
    }

    /// What is in force now: a digest of each part of the configuration, by which nodes are compared, and until when work on
    /// this node is announced.
    pub fn configuration_in_force(
        &self,
        digests: impl IntoIterator<Item = (&'static str, String)>,
        maintenance_until_unix: Option<i64>,
    ) {
        let mut state = self.lock();
        state.digests = digests.into_iter().collect();
        state.maintenance_until_unix = maintenance_until_unix;
    }

    /// Memory runs short by this level.
    pub fn memory_pressure(&self, level: u8) {
        self.lock().memory_pressure = level;
    }

    /// Replaces the expiry times: of the certificate presented for each virtual host, by host name, and of the first
    /// certificate authority to expire in each trust bundle, by bundle name. What is no longer configured leaves the
    /// report. Of two entries with one name the earlier time counts.
    pub fn expiries_changed(
        &self,
        certificates: impl IntoIterator<Item = (String, i64)>,
        trust: impl IntoIterator<Item = (String, i64)>,
    ) {
        let mut state = self.lock();
        state.certificates = soonest_by_name(certificates);
        state.authorities = soonest_by_name(trust);
    }

    pub(crate) fn state(&self) -> ControlState {
        self.lock().clone()
    }

    /// A poisoned lock is entered anyway: no state in between is invalid.
    pub(crate) fn lock(&self) -> MutexGuard<'_, ControlState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One entry per name, since a series given twice spoils the whole scrape.
fn soonest_by_name(entries: impl IntoIterator<Item = (String, i64)>) -> Vec<(String, i64)> {
    let mut entries: Vec<_> = entries.into_iter().collect();
    entries.sort();
    entries.dedup_by(|later, earlier| later.0 == earlier.0);
    entries
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_reload_does_not_count_as_success() {
        let control = ControlMetrics::default();
        control.snapshot_published(1, 100.0);
        control.reload_finished(ReloadOutcome::Failed, 200.0);
        assert_eq!(control.state().reload_success_unix, Some(100.0));
        control.reload_finished(ReloadOutcome::Unchanged, 300.0);
        control.reload_finished(ReloadOutcome::Applied, 400.0);
        let state = control.state();
        assert_eq!((state.reloads, state.reload_success_unix), ([1, 1, 1], Some(400.0)));
        assert_eq!((state.generation, state.snapshot_unix), (1, Some(100.0)));
    }

    #[test]
    fn the_soonest_expiry_of_a_name_is_reported_once() {
        let entries = [("b".to_owned(), 7), ("a".to_owned(), 9), ("a".to_owned(), 3)];
        assert_eq!(soonest_by_name(entries), [("a".to_owned(), 3), ("b".to_owned(), 7)]);
    }
}
