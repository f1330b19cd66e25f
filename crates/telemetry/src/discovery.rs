//! What the control plane measures of the endpoints that it finds elsewhere than in the configuration.

use std::collections::BTreeMap;

use crate::closed::DiscoveryOutcome;
use crate::control::ControlMetrics;

/// One cluster.
#[derive(Clone, Debug, Default)]
pub(crate) struct DiscoveryState {
    /// When the endpoints in use were found or confirmed.
    pub(crate) confirmed_unix: Option<f64>,
    pub(crate) attempts: [u64; DiscoveryOutcome::ALL.len()],
}

impl ControlMetrics {
    /// Replaces the clusters whose endpoints are found elsewhere, by name, each with the moment at which those in use were found or
    /// confirmed, if there are any. The counts of those that there were already stay.
    pub fn discoveries_changed(&self, clusters: impl IntoIterator<Item = (String, Option<f64>)>) {
        let mut state = self.lock();
        let mut before = std::mem::take(&mut state.discoveries);
        state.discoveries = clusters
            .into_iter()
            .map(|(cluster, confirmed_unix)| {
                let attempts = before.remove(&cluster).unwrap_or_default().attempts;
                (cluster, DiscoveryState { confirmed_unix, attempts })
            })
            .collect::<BTreeMap<_, _>>();
    }

    /// An attempt to find the endpoints of this cluster ended; those in use were found or confirmed then.
    pub fn discovery_finished(&self, cluster: &str, outcome: DiscoveryOutcome, confirmed_unix: Option<f64>) {
        if let Some(state) = self.lock().discoveries.get_mut(cluster) {
            state.attempts[outcome as usize] += 1;
            state.confirmed_unix = confirmed_unix;
        }
    }
}
