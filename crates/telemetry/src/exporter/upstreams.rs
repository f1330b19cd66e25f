//! The series of what the control plane measures of upstreams.

use std::collections::BTreeMap;

use super::Page;
use crate::closed::{CheckOutcome, DiscoveryOutcome, EndpointHealth, OutlierReason};
use crate::discovery::DiscoveryState;
use crate::metrics as catalogue;
use crate::upstreams::{EndpointFigures, UpstreamState};

/// Adds them to the page.
pub(super) fn series(page: &mut Page, clusters: &BTreeMap<String, UpstreamState>) {
    let mut room = ENDPOINT_SERIES_MAX;
    for (cluster, UpstreamState { figures, checks, ejections, withheld }) in clusters {
        for health in EndpointHealth::ALL {
            let count = figures.endpoints.iter().filter(|known| known.health == *health).count();
            page.gauge(&catalogue::UPSTREAM_ENDPOINTS, &[cluster, health.as_str()], count as f64);
        }
        page.gauge(&catalogue::UPSTREAM_PANIC, &[cluster], f64::from(u8::from(figures.panic)));
        for outcome in CheckOutcome::ALL {
            let labels = [cluster, outcome.as_str()];
            page.counter(&catalogue::UPSTREAM_HEALTH_CHECKS, &labels, checks[*outcome as usize]);
        }
        if let Some(ejected) = figures.ejected {
            page.gauge(&catalogue::UPSTREAM_EJECTED, &[cluster], ejected as f64);
            for reason in OutlierReason::ALL {
                let labels = [cluster, reason.as_str()];
                page.counter(&catalogue::UPSTREAM_EJECTIONS, &labels, ejections[*reason as usize]);
            }
            page.counter(&catalogue::UPSTREAM_EJECTIONS_WITHHELD, &[cluster], *withheld);
        }
        for EndpointFigures { addr, health, share } in figures.endpoints.iter().take(room) {
            let labels = [cluster, &*addr.to_string()];
            let value = f64::from(u8::from(*health != EndpointHealth::Unhealthy));
            page.gauge(&catalogue::UPSTREAM_ENDPOINT_HEALTHY, &labels, value);
            page.gauge(&catalogue::UPSTREAM_ENDPOINT_SHARE, &labels, *share);
        }
        room = room.saturating_sub(figures.endpoints.len());
    }
}

/// Adds what is known of the clusters whose endpoints are found elsewhere.
pub(super) fn discovery(page: &mut Page, clusters: &BTreeMap<String, DiscoveryState>, now_unix: f64) {
    for (cluster, DiscoveryState { confirmed_unix, attempts }) in clusters {
        for outcome in DiscoveryOutcome::ALL {
            let labels = [cluster, outcome.as_str()];
            page.counter(&catalogue::UPSTREAM_DISCOVERIES, &labels, attempts[*outcome as usize]);
        }
        if let Some(confirmed) = confirmed_unix {
            page.gauge(&catalogue::UPSTREAM_DISCOVERY_AGE, &[cluster], (now_unix - confirmed).max(0.0));
        }
    }
}

/// A cluster may have 1024, and there may be many clusters. The counts by cluster cover all.
const ENDPOINT_SERIES_MAX: usize = 2048;
