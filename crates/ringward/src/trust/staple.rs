//! OCSP staples of our own certificates: fetched, verified, kept on disk, renewed at half of their life.
//!
//! Hides the responder, the schedule and the files. Only a verified, good answer ever becomes a [`Staple`]; the last good one
//! is shown until it is too old, and then none, rather than one that clients would refuse. A certificate that demands a staple
//! does not go into service without one ([`prepare()`]). That a certificate of ours is revoked, or that a staple runs out while
//! nobody answers, is told loudly: only an operator can help.

mod plan;
mod prepare;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use ringward_telemetry::ControlMetrics;
use ringward_tls::ocsp::{CertIdHash, OCSP_RESPONSE_BYTES_MAX};
use ringward_tls::{Credential, Staple, StapleError};
use rustls::ClientConfig;
use tokio::task::{self, JoinSet};
use tokio::time::{Interval, MissedTickBehavior};

pub(crate) use self::plan::Wanted;
use self::plan::{Event, Plan};
pub(crate) use self::prepare::prepare;
use super::clock::Clock;
use super::fetch::{FetchError, FetchLimits, Fetcher};
use super::responder::Responder;
use super::state::StateDir;
use super::{TrustKeeper, schedule};
use crate::hex;

/// Keeps the staples of our certificates.
pub(crate) struct StapleKeeper {
    trust: Arc<TrustKeeper>,
    metrics: Arc<ControlMetrics>,
    clock: Clock,
    shop: Arc<Shop>,
    /// By SHA-256 of the leaf.
    plans: BTreeMap<[u8; 32], Plan>,
    jobs: JoinSet<Result<Arc<Staple>, Unstapled>>,
    /// For which leaf each job is.
    leaves: HashMap<task::Id, [u8; 32]>,
    tick: Interval,
}

/// What it takes to get a staple. Shared with [`prepare()`].
#[derive(Clone)]
pub(crate) struct Shop {
    trust: Arc<TrustKeeper>,
    fetcher: Arc<Fetcher>,
    clock: Clock,
}

/// Why there is no new staple.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum Unstapled {
    /// Nothing came.
    #[error("{0}")]
    Unreachable(#[from] FetchError),
    /// Something came that is not shown.
    #[error("{0}")]
    Refused(#[from] StapleError),
    /// It took a fault of ours.
    #[error("reading it failed: {0}")]
    Broken(String),
}

impl StapleKeeper {
    /// Fetches nothing before [`StapleKeeper::configure`]. To be called within a runtime.
    pub(crate) fn new(shop: Shop, metrics: Arc<ControlMetrics>) -> StapleKeeper {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        StapleKeeper {
            trust: shop.trust.clone(),
            metrics,
            clock: shop.clock.clone(),
            shop: Arc::new(shop),
            plans: BTreeMap::new(),
            jobs: JoinSet::new(),
            leaves: HashMap::new(),
            tick,
        }
    }

    /// Keeps staples for another configuration from now on.
    pub(crate) fn configure(&mut self, wanted: Vec<Wanted>) {
        let now = self.clock.now_unix();
        let (_, state) = self.trust.current();
        let mut before = std::mem::take(&mut self.plans);
        for wanted in wanted {
            let leaf = *wanted.credential.fingerprint_sha256();
            if let Some(plan) = self.plans.get_mut(&leaf) {
                plan.also(wanted);
                continue;
            }
            let known = before.remove(&leaf);
            let plan = Plan::new(wanted, known, state.staples.get(&leaf).cloned(), now, schedule::roll());
            self.plans.insert(leaf, plan);
        }
        self.hand_over(before.into_keys());
        self.tidy();
    }

    /// Follows the configuration in force, for ever.
    pub(crate) async fn run(mut self) {
        let mut loaded = self.trust.follow();
        loop {
            tokio::select! {
                changed = loaded.changed() => match changed {
                    Ok(()) => {
                        let wanted = loaded.borrow_and_update().as_deref().map(Wanted::of);
                        wanted.into_iter().for_each(|wanted| self.configure(wanted));
                    }
                    Err(_) => return,
                },
                () = self.turn() => {}
            }
        }
    }

    /// Waits until there is something to do, and does it. Loses nothing if it is dropped before its end.
    pub(crate) async fn turn(&mut self) {
        tokio::select! {
            Some(done) = self.jobs.join_next_with_id() => {
                let (id, outcome) =
                    done.unwrap_or_else(|error| (error.id(), Err(Unstapled::Broken(error.to_string()))));
                if let Some(leaf) = self.leaves.remove(&id) {
                    self.finish(leaf, outcome);
                }
            }
            _ = self.tick.tick() => self.look_around(),
        }
    }

    fn look_around(&mut self) {
        let now = self.clock.now_unix();
        for (leaf, plan) in &mut self.plans {
            if self.jobs.len() >= JOBS_MAX {
                break;
            }
            let Some(responder) = plan.depart(now) else { continue };
            let (shop, credential) = (self.shop.clone(), plan.credential().clone());
            let job = self.jobs.spawn(async move { shop.fetch(&credential, &responder).await });
            self.leaves.insert(job.id(), *leaf);
        }
        let mut has_ended = false;
        for plan in self.plans.values_mut() {
            let events = plan.look(now);
            has_ended |= events.iter().any(|event| matches!(event, Event::Ended));
            say(plan, events);
        }
        if has_ended {
            self.hand_over([]);
        }
    }

    fn finish(&mut self, leaf: [u8; 32], outcome: Result<Arc<Staple>, Unstapled>) {
        let now = self.clock.now_unix();
        let Some(plan) = self.plans.get_mut(&leaf) else { return };
        if outcome.is_err() {
            plan.hosts().iter().for_each(|host| self.metrics.staple_failed(host));
        }
        let (is_other, events) = plan.finished(outcome, now, schedule::roll());
        let is_revoked = events.iter().any(|event| matches!(event, Event::Revoked { .. }));
        let copy = plan.credential().staple_file_name();
        say(plan, events);
        if is_revoked {
            // It would come back with the next start.
            self.remove_copies(move |name| *name == copy);
        }
        if is_other {
            self.hand_over([]);
        } else {
            self.report();
        }
    }

    /// Hands the staples over, to be put in force, and takes those of `gone` away. Others stay: they may be for a configuration
    /// that is about to go into force.
    fn hand_over(&self, gone: impl IntoIterator<Item = [u8; 32]>) {
        let known = self.trust.current().1.staples;
        let mut staples = HashMap::clone(&known);
        gone.into_iter().for_each(|leaf| drop(staples.remove(&leaf)));
        for (leaf, plan) in &self.plans {
            match plan.last() {
                Some(staple) => drop(staples.insert(*leaf, staple.clone())),
                None => drop(staples.remove(leaf)),
            }
        }
        let same = |(leaf, staple): (&[u8; 32], &Arc<Staple>)| {
            known.get(leaf).is_some_and(|other| other.der() == staple.der())
        };
        if staples.len() != known.len() || !staples.iter().all(same) {
            self.trust.update(|state| state.staples = Arc::new(staples));
        }
        self.report();
    }

    fn report(&self) {
        let now = self.clock.now_unix();
        // Of several certificates of one host the one that is worst off counts.
        let mut hosts: BTreeMap<String, Option<(i64, i64)>> = BTreeMap::new();
        for plan in self.plans.values() {
            let updates =
                plan.shown(now).map(|staple| (staple.this_update_unix(), staple.next_update_unix()));
            for host in plan.hosts() {
                let worst = hosts.entry(host.clone()).or_insert(updates);
                *worst = worst.zip(updates).map(|(one, other)| if other.1 < one.1 { other } else { one });
            }
        }
        self.metrics.staples_changed(hosts);
        let statuses = self.plans.values().map(|plan| plan.status(now)).collect();
        self.trust.report(|reports| reports.staples = statuses);
    }

    /// Removes copies of certificates that are not in use any more.
    fn tidy(&self) {
        let wanted: Vec<String> =
            self.plans.values().map(|plan| plan.credential().staple_file_name()).collect();
        self.remove_copies(move |name| !wanted.iter().any(|wanted| wanted == name));
    }

    fn remove_copies(&self, is_meant: impl Fn(&str) -> bool + Send + 'static) {
        let Some(state) = self.trust.state_dir().cloned() else { return };
        task::spawn_blocking(move || {
            let names = state.names("").unwrap_or_default();
            for name in names.iter().filter(|name| is_copy(name) && is_meant(name)) {
                if let Err(error) = state.remove(name) {
                    tracing::warn!(%error, "the copy of a staple that is not used any more stays");
                }
            }
        });
    }
}

impl Shop {
    /// With this client.
    pub(crate) fn new(trust: Arc<TrustKeeper>, fetcher: Fetcher, clock: Clock) -> Shop {
        Shop { trust, fetcher: Arc::new(fetcher), clock }
    }

    /// How https servers are verified from now on.
    pub(crate) fn verify_https_by(&self, tls: Option<&Arc<ClientConfig>>) {
        self.fetcher.verify_https_by(tls);
    }

    /// Gets a staple and keeps a copy of it.
    async fn fetch(
        &self,
        credential: &Arc<Credential>,
        responder: &Responder,
    ) -> Result<Arc<Staple>, Unstapled> {
        let request = credential.staple_request(CertIdHash::Sha1)?;
        let body = responder.get_or_post(&self.fetcher, request).await?;
        let (credential, state) = (credential.clone(), self.trust.state_dir().cloned());
        let now = self.clock.now_unix();
        let verified = task::spawn_blocking(move || {
            let staple = Staple::verify(&body, &credential, now)?;
            if let Some(state) = state
                && let Err(error) = state.write(&credential.staple_file_name(), staple.der())
            {
                tracing::warn!(%error, "a staple is used, but would be missing after a restart");
            }
            Ok(Arc::new(staple))
        });
        verified.await.unwrap_or_else(|error| Err(Unstapled::Broken(error.to_string())))
    }
}

/// The copy of a staple, if there is one that can still be shown. Blocks.
fn read_copy(state: &StateDir, credential: &Credential, now: i64) -> Option<Arc<Staple>> {
    let name = credential.staple_file_name();
    let content = state.read(&name, OCSP_RESPONSE_BYTES_MAX as u64);
    let content =
        content.inspect_err(|error| tracing::warn!(%error, "the copy of a staple is not used")).ok()??;
    match Staple::verify(&content, credential, now) {
        Ok(staple) => Some(Arc::new(staple)).filter(|staple| now < staple.usable_until_unix()),
        Err(error) => {
            tracing::info!(file = %state.path_of(&name).display(), %error, "the copy of a staple is not used");
            None
        }
    }
}

fn is_copy(name: &str) -> bool {
    name.strip_suffix(".ocsp").is_some_and(|leaf| hex::decode_array::<32>(leaf).is_some())
}

fn say(plan: &Plan, events: Vec<Event>) {
    let host = plan.hosts().first().map_or("", String::as_str);
    for event in events {
        match event {
            Event::Renewed { until_unix } => tracing::info!(host, until_unix, "staple renewed"),
            Event::Recovered => tracing::info!(host, "OCSP responder answers again"),
            Event::Failed { reason, retry_in } => tracing::warn!(
                host,
                reason,
                retry_in_seconds = retry_in,
                "no new staple, the last one is shown until it is too old"
            ),
            Event::Revoked { reason } => tracing::error!(
                host,
                reason,
                "our own certificate is revoked, as its CA says; no staple is shown any more: replace the certificate"
            ),
            Event::RunningOut { left } => tracing::error!(
                host,
                left_seconds = left,
                required = plan.credential().requires_staple(),
                "the staple runs out and there is no newer one"
            ),
            Event::Ended => tracing::error!(
                host,
                required = plan.credential().requires_staple(),
                "the staple is too old and is not shown any more"
            ),
        }
    }
}

/// Nobody waits, but for [`prepare()`].
pub(crate) const STAPLE_FETCH: FetchLimits = FetchLimits {
    connect_timeout: Duration::from_secs(5),
    idle_timeout: Duration::from_secs(10),
    total_timeout: Duration::from_secs(30),
    requests_max: 16,
    requests_per_server_max: 4,
};
/// Most of them wait for their turn at their responder.
const JOBS_MAX: usize = 256;
const TICK: Duration = Duration::from_millis(250);

#[cfg(test)]
mod tests;
