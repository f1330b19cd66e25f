//! The only place from which snapshots are put in force.
//!
//! A snapshot comes from two sides: what was loaded for a configuration (a reload, seconds of work) and what is trusted at
//! the moment (a revocation, which must not wait for a reload). So every snapshot is built here, one at a time, of the newest
//! of both: a reload that began before a revocation cannot undo it. Building happens on a thread that may block.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ringward_config::{Diagnostic, Diagnostics, Maintenance, Severity};
use ringward_proxy::{Control, Materials, Snapshot, SnapshotError};
use ringward_telemetry::{ControlMetrics, Registry, SessionCacheFigures};
use ringward_tls::{KeyRole, Revocation, RevocationParts, Suspension};
use rustls::pki_types::UnixTime;
use tokio::sync::Mutex;

use crate::hex;
use crate::load::Loaded;
use crate::table::moment;
use crate::trust::crl::list::in_force;
use crate::trust::{TrustKeeper, TrustState, TrustVersion};

/// Puts snapshots in force.
#[derive(Debug)]
pub(crate) struct Publisher {
    control: Arc<Control>,
    registry: Registry,
    metrics: Arc<ControlMetrics>,
    trust: Arc<TrustKeeper>,
    /// Held from the begin of a build until its snapshot is in force.
    in_force: Mutex<InForce>,
}

#[derive(Debug)]
struct InForce {
    loaded: Arc<Loaded>,
    version: TrustVersion,
}

/// What is in force since a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Published {
    /// The generation that has it.
    pub(crate) generation: u64,
}

impl Publisher {
    /// Of a process whose `control` has a snapshot of `loaded` and of the `version` of `trust`.
    pub(crate) fn new(
        control: Arc<Control>,
        registry: Registry,
        metrics: Arc<ControlMetrics>,
        trust: Arc<TrustKeeper>,
        loaded: Arc<Loaded>,
        version: TrustVersion,
    ) -> Publisher {
        trust.adopted(loaded.clone());
        let in_force = InForce { loaded: loaded.clone(), version };
        let publisher = Publisher { control, registry, metrics, trust, in_force: Mutex::new(in_force) };
        publisher.measure(&loaded, &publisher.trust.current().1);
        warn_of_suspensions(&loaded);
        announce_maintenance(&loaded);
        publisher
    }

    /// Puts a new configuration in force, with what is trusted at the moment.
    ///
    /// # Errors
    /// Why its parts do not go together; what was in force stays.
    pub(crate) async fn adopt(&self, loaded: Arc<Loaded>) -> Result<Published, Diagnostics> {
        let mut in_force = self.in_force.lock().await;
        let (version, state) = self.trust.current();
        let published = self.build_and_publish(&mut in_force, loaded.clone(), version, state).await?;
        warn_of_suspensions(&loaded);
        announce_maintenance(&loaded);
        self.trust.adopted(loaded);
        Ok(published)
    }

    /// Puts in force what is trusted at the moment, at least `version` of it, with the configuration that runs.
    ///
    /// # Errors
    /// Why the parts do not go together; what was in force stays.
    pub(crate) async fn publish(&self, version: TrustVersion) -> Result<Published, Diagnostics> {
        let mut in_force = self.in_force.lock().await;
        // Somebody who came before us may have taken our change along.
        if in_force.version >= version {
            return Ok(Published { generation: self.control.generation() });
        }
        let loaded = in_force.loaded.clone();
        // After the lock was taken: what is published must not be older than what somebody before us published.
        let (version, state) = self.trust.current();
        self.build_and_publish(&mut in_force, loaded, version, state).await
    }

    /// Puts each change of what is trusted in force, for ever.
    pub(crate) async fn follow(self: Arc<Self>) -> Infallible {
        loop {
            self.trust.changed().await;
            let (version, _) = self.trust.current();
            if let Err(problems) = self.publish(version).await {
                // It was accepted when it came in, so this is a fault of ours; the next change tries again.
                tracing::error!(problems = %crate::reload::brief(&problems), "a change of trust cannot be put in force");
            }
        }
    }

    /// What is in force, for metrics.
    fn measure(&self, loaded: &Loaded, state: &TrustState) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.metrics.snapshot_published(self.control.generation(), now.as_secs_f64());
        self.metrics.deny_list_changed(state.deny.len() as u64);
        let parts =
            loaded.parts.iter().map(|(part, digest)| (*part, hex::encode(&digest[..DIGEST_SHOWN_BYTES])));
        let maintenance = loaded.config.admin.maintenance.as_ref();
        self.metrics.configuration_in_force(parts, maintenance.map(|announced| announced.until_unix));
        let suspensions = loaded.suspensions().into_iter();
        self.metrics.revocation_suspended(
            suspensions.map(|suspended| (suspended.tenant.to_string(), suspended.until_unix)),
        );
        let keys = state.key_ring(loaded).status(UnixTime::now());
        if let Some(current) = keys.iter().find(|key| key.role == KeyRole::Current) {
            self.metrics.ticket_key_in_use(current.not_before_unix);
        }
    }

    /// What is trusted beyond the configuration.
    pub(crate) fn trust(&self) -> &Arc<TrustKeeper> {
        &self.trust
    }

    /// What snapshots count their metrics with.
    pub(crate) fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Measures what changes without a new snapshot, for ever.
    pub(crate) async fn sample(self: Arc<Self>) -> Infallible {
        loop {
            let loaded = self.in_force.lock().await.loaded.clone();
            let cache = self.trust.session_cache(&loaded.config);
            // It looks at every slot, of which there may be millions.
            let figures = tokio::task::spawn_blocking(move || {
                cache.map(|cache| SessionCacheFigures {
                    entries: cache.entries() as u64,
                    bytes: cache.bytes() as u64,
                    evictions: cache.evictions(),
                })
            });
            self.metrics.session_cache_sampled(figures.await.ok().flatten());
            tokio::time::sleep(SAMPLE_PAUSE).await;
        }
    }

    async fn build_and_publish(
        &self,
        in_force: &mut InForce,
        loaded: Arc<Loaded>,
        version: TrustVersion,
        state: TrustState,
    ) -> Result<Published, Diagnostics> {
        let generation = self.control.generation() + 1;
        let (registry, trust, of, with) =
            (self.registry.clone(), self.trust.clone(), loaded.clone(), state.clone());
        let built = tokio::task::spawn_blocking(move || build(&of, &with, &trust, generation, &registry));
        let snapshot = built.await.unwrap_or_else(|error| {
            let message = format!("the snapshot cannot be built: {error}");
            Err(Diagnostic::whole_file(loaded.config.file(), message, None).into())
        })?;
        self.control.publish(snapshot);
        self.measure(&loaded, &state);
        *in_force = InForce { loaded, version };
        Ok(Published { generation })
    }
}

/// Somebody decided this in a hurry, and others should know as long as it lasts.
fn warn_of_suspensions(loaded: &Loaded) {
    for Suspension { tenant, until_unix } in loaded.suspensions() {
        let until = moment(until_unix);
        tracing::warn!(%tenant, until, "revocation is suspended: clients of this tenant are not looked up in revocation lists");
    }
}

/// Whoever reads the log later is to know that something was expected.
fn announce_maintenance(loaded: &Loaded) {
    if let Some(Maintenance { until_unix, reason }) = &loaded.config.admin.maintenance {
        tracing::info!(
            until = moment(*until_unix),
            reason,
            "maintenance is announced: alerts about what it causes are silent"
        );
    }
}

/// What a snapshot is built from: what was loaded, with what is trusted at the moment.
fn materials(loaded: &Loaded, state: &TrustState, trust: &TrustKeeper) -> Materials {
    let mut materials = loaded.materials.clone();
    for credential in materials.credentials.values_mut().flatten() {
        let leaf = credential.fingerprint_sha256();
        let staple = state.staples.get(leaf).or_else(|| loaded.staples.get(leaf));
        if let Some(stapled) = staple.and_then(|staple| credential.with_staple(staple.clone()).ok()) {
            *credential = Arc::new(stapled);
        }
    }
    materials.revocation = Revocation::new(RevocationParts {
        crls: in_force(loaded.lists.iter().chain(state.fetched_crls.iter())),
        deny: state.deny.clone(),
        suspended: loaded.suspensions(),
    });
    materials.ocsp = trust.ocsp().clone();
    materials.key_ring = Some(state.key_ring(loaded));
    materials.session_cache = trust.session_cache(&loaded.config);
    materials
}

/// Builds a snapshot of what was loaded and of what is trusted.
///
/// # Errors
/// Why the parts do not go together.
pub(crate) fn build(
    loaded: &Loaded,
    state: &TrustState,
    trust: &TrustKeeper,
    generation: u64,
    registry: &Registry,
) -> Result<Snapshot, Diagnostics> {
    let materials = materials(loaded, state, trust);
    Snapshot::build(&loaded.config, &materials, generation, registry).map_err(|errors| {
        let mut problems = Diagnostics::new();
        problems.extend(errors.iter().map(|error| match error {
            SnapshotError::Tls { at, .. } | SnapshotError::LaxDefault { at, .. } => {
                loaded.config.diagnostic(Severity::Error, at, error.to_string())
            }
            SnapshotError::Missing { .. } => {
                Diagnostic::whole_file(loaded.config.file(), error.to_string(), None)
            }
        }));
        problems
    })
}

/// Enough to tell files apart; nobody is kept from anything by it.
const DIGEST_SHOWN_BYTES: usize = 8;
/// Scrapes come less often.
const SAMPLE_PAUSE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests;
