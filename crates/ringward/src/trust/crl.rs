//! Revocation lists from the network: fetched, verified, kept on disk, and handed to whoever publishes snapshots.
//!
//! Hides HTTP, schedules and files. Runs as one task of the control plane; what takes long (verifying a large list, writing
//! to the disk) happens in the [`background`], one list at a time. Nothing is used that was not verified, and nothing is taken
//! away because a server does not answer: a list stays until a newer one takes its place, and what a stale one is worth is
//! the policy's decision, made by the workers for each client.

pub(crate) mod copies;
pub(crate) mod floors;
pub(crate) mod issuers;
pub(crate) mod list;
mod source;
pub(crate) mod sources;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use ringward_telemetry::{ControlMetrics, CrlFigures, FetchOutcome};
use ringward_tls::{CrlError, IssuerCertificate, Sightings};
use rustls::ClientConfig;
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;
use tokio::task::{self, JoinSet};
use tokio::time::{Interval, MissedTickBehavior};

use self::copies::Kept;
use self::issuers::Issuers;
use self::list::List;
use self::source::{Event, Outcome, Source, Task};
use self::sources::{Rules, Sources};
use super::clients::Clients;
use super::clock::Clock;
use super::fetch::url::Url;
use super::fetch::{Ask, FetchError, FetchLimits, Fetched, Fetcher};
use super::status::CrlStatus;
use super::{TrustKeeper, schedule};
use crate::background;
use crate::load::Loaded;

/// Keeps the lists that are fetched.
pub(crate) struct CrlKeeper {
    trust: Arc<TrustKeeper>,
    metrics: Arc<ControlMetrics>,
    sightings: Sightings,
    clock: Clock,
    shop: Arc<Shop>,
    sources: Sources,
    issuers: Issuers,
    /// They are no matter of lists; but who looks at what workers have seen is here.
    clients: Clients,
    jobs: JoinSet<Outcome>,
    /// What the jobs are about.
    tasks: HashMap<task::Id, Task>,
    tick: Interval,
    /// Lists of files, for the figures of their bundles.
    files: Vec<CrlStatus>,
    /// Lists that were said to be stale, by issuer and source.
    stale: BTreeSet<(String, String)>,
}

/// What a job needs. Jobs run beside each other.
struct Shop {
    trust: Arc<TrustKeeper>,
    fetcher: Fetcher,
    clock: Clock,
    /// One list at a time is parsed and verified: it takes a core, and several times its size.
    parsing: Semaphore,
}

/// What a configuration wants fetched.
#[derive(Clone, Debug, Default)]
pub(crate) struct CrlSettings {
    /// Bundles whose lists are used.
    pub(crate) rules: Vec<Rules>,
    /// All bundles.
    pub(crate) bundles: BTreeSet<String>,
    /// Trust anchors and `crl_issuers`.
    pub(crate) issuers: Vec<IssuerCertificate>,
    /// Lists of files.
    pub(crate) files: Vec<CrlStatus>,
    /// How https servers are verified.
    pub(crate) tls: Option<Arc<ClientConfig>>,
}

impl CrlKeeper {
    /// Fetches nothing before [`CrlKeeper::configure`]. To be called within a runtime.
    pub(crate) fn new(
        trust: Arc<TrustKeeper>,
        metrics: Arc<ControlMetrics>,
        sightings: Sightings,
        fetcher: Fetcher,
        clock: Clock,
    ) -> CrlKeeper {
        let shop = Shop { trust: trust.clone(), fetcher, clock: clock.clone(), parsing: Semaphore::new(1) };
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        CrlKeeper {
            trust,
            metrics,
            sightings,
            clock,
            shop: Arc::new(shop),
            sources: Sources::default(),
            issuers: Issuers::default(),
            clients: Clients::default(),
            jobs: JoinSet::new(),
            tasks: HashMap::new(),
            tick,
            files: Vec::new(),
            stale: BTreeSet::new(),
        }
    }

    /// Takes over the copies of an earlier process, after [`CrlKeeper::configure`]. Those that nobody wants are removed.
    pub(crate) fn restore(&mut self, copies: Vec<Kept>) {
        let now = self.clock.now_unix();
        let mut unwanted = Vec::new();
        // Complete lists first: they say which deltas there are.
        let (deltas, complete): (Vec<_>, Vec<_>) = copies.into_iter().partition(|kept| kept.list.is_delta());
        for Kept { url, point, issuer, list } in complete.into_iter().chain(deltas) {
            if self.sources.restore(&url, point.as_ref(), list, now) {
                self.issuers.add(issuer);
            } else {
                unwanted.push(url);
            }
        }
        self.remove_copies(unwanted);
        self.publish();
    }

    /// Fetches for another configuration from now on.
    pub(crate) fn configure(&mut self, settings: CrlSettings) {
        let now = self.clock.now_unix();
        self.shop.fetcher.verify_https_by(settings.tls.as_ref());
        self.issuers.configure(settings.issuers);
        self.files = settings.files;
        self.clients.keep(&settings.bundles);
        let (gone, events) = self.sources.configure(settings.rules, now);
        self.sources.issuer_found(now);
        self.remove_copies(gone);
        self.say(events);
        self.publish();
    }

    /// Follows the configuration in force, for ever.
    pub(crate) async fn run(mut self) {
        let mut loaded = self.trust.follow();
        loop {
            tokio::select! {
                changed = loaded.changed() => match changed {
                    Ok(()) => {
                        let settings = loaded.borrow_and_update().as_deref().map(CrlSettings::of);
                        settings.into_iter().for_each(|settings| self.configure(settings));
                    }
                    Err(_) => return,
                },
                () = self.turn() => {}
            }
        }
    }

    /// Waits until every URL of the configuration was tried once, or there is a list of it already.
    pub(crate) async fn first_round(&mut self) {
        while !self.sources.all_tried() {
            self.turn().await;
        }
    }

    /// Waits until there is something to do, and does it. Loses nothing if it is dropped before its end.
    pub(crate) async fn turn(&mut self) {
        tokio::select! {
            Some(done) = self.jobs.join_next_with_id() => {
                let (id, outcome) = done.unwrap_or_else(|error| {
                    (error.id(), Outcome::Invalid { reason: format!("fetching it failed: {error}") })
                });
                if let Some(task) = self.tasks.remove(&id) {
                    self.finish(&task, outcome);
                }
            }
            _ = self.tick.tick() => self.look_around(),
        }
    }

    /// What workers saw, what is due, and what became stale.
    fn look_around(&mut self) {
        let now = self.clock.now_unix();
        let mut found = false;
        for _ in 0..SIGHTINGS_PER_TICK {
            let Some(path) = self.sightings.pop() else { break };
            self.clients.sighted(&path, now);
            found |= self.issuers.sighted(&path);
            let events = self.sources.sighted(&path, now);
            self.say(events);
        }
        if found {
            self.sources.issuer_found(now);
        }
        if let Some(due) = self.clients.report(now) {
            self.metrics.clients_seen(due, self.clients.len());
        }
        for task in self.sources.due(now, JOBS_MAX.saturating_sub(self.jobs.len())) {
            let (shop, issuers, of) = (self.shop.clone(), self.issuers.all(), task.clone());
            let job = self.jobs.spawn(async move { shop.run(&of, issuers).await });
            self.tasks.insert(job.id(), task);
        }
        let gone = self.sources.expire(now);
        if !gone.is_empty() {
            self.remove_copies(gone);
            self.publish();
        }
        self.mention_stale(now);
    }

    fn finish(&mut self, task: &Task, outcome: Outcome) {
        let now = self.clock.now_unix();
        let is_new = matches!(outcome, Outcome::New { .. });
        let counted = match outcome {
            Outcome::Same => FetchOutcome::Unchanged,
            Outcome::New { .. } => FetchOutcome::Updated,
            Outcome::Unreachable { .. } => FetchOutcome::Unreachable,
            Outcome::NoIssuer { .. } | Outcome::Invalid { .. } => FetchOutcome::Invalid,
        };
        let Some(events) = self.sources.finished(&task.url, outcome, now, schedule::roll()) else {
            // Another configuration came in between, and its copy was removed before this one was written.
            return self.remove_copies(vec![task.url.clone()]);
        };
        for bundle in self.sources.bundles_of(&task.url) {
            self.metrics.crl_fetched(bundle, counted);
        }
        self.say(events);
        if is_new {
            self.publish();
        } else {
            self.report();
        }
    }

    /// Hands all lists over, to be put in force if they are others than before.
    fn publish(&self) {
        let lists: Vec<List> = self.sources.lists().cloned().collect();
        let known = self.trust.current().1.fetched_crls;
        let is_known =
            lists.len() == known.len() && lists.iter().zip(&*known).all(|(one, other)| one.is(other));
        if !is_known {
            self.trust.update(|state| state.fetched_crls = Arc::new(lists));
        }
        self.report();
    }

    fn report(&self) {
        let statuses: Vec<CrlStatus> = self.sources.iter().map(Source::status).collect();
        let mut figures: BTreeMap<String, CrlFigures> =
            self.sources.bundles().map(|bundle| (bundle.clone(), CrlFigures::default())).collect();
        for status in self.files.iter().chain(&statuses) {
            for bundle in &status.bundles {
                add_figures(figures.entry(bundle.clone()).or_default(), status);
            }
        }
        self.metrics.crls_changed(figures);
        self.trust.report(|reports| reports.crls = statuses);
    }

    fn say(&self, events: Vec<Event>) {
        for event in events {
            match event {
                Event::Renewed { url, list } => {
                    tracing::info!(%url, list = %list.head(), entries = list.entries(), "revocation list fetched");
                }
                Event::Failed { url, reason, retry_in } => tracing::warn!(
                    %url, reason, retry_in_seconds = retry_in,
                    "revocation list not fetched, the one in use stays"
                ),
                Event::Recovered(url) => tracing::info!(%url, "revocation list can be fetched again"),
                Event::HostRefused { bundle, host } => tracing::warn!(
                    trust = bundle,
                    host,
                    "certificates name a host for revocation lists that `crl_distribution_points` does not allow"
                ),
                Event::Full(url) => tracing::warn!(
                    %url, sources_max = sources::SOURCES_MAX,
                    "certificates name more revocation lists than are fetched; name the CA's full list in `crl_urls`"
                ),
            }
        }
    }

    /// Once for each list: from then on clients may be refused for it.
    fn mention_stale(&mut self, now: i64) {
        let stale: BTreeSet<(String, String)> = self
            .sources
            .iter()
            .filter_map(|source| Some((source.list.as_ref()?.head(), source)))
            .filter(|(head, _)| head.next_update_unix <= now)
            .map(|(head, source)| (head.issuer_name.to_string(), source.url.to_string()))
            .collect();
        for (issuer, url) in stale.difference(&self.stale) {
            tracing::error!(
                issuer,
                url,
                "revocation list is stale: its CA, or its server, has not provided the next one in time"
            );
        }
        self.stale = stale;
    }

    fn remove_copies(&self, urls: Vec<Url>) {
        let Some(state) = self.trust.state_dir().cloned().filter(|_| !urls.is_empty()) else { return };
        task::spawn_blocking(move || {
            for url in urls {
                if let Err(error) = copies::remove(&state, &url) {
                    tracing::warn!(%error, "the copy of a revocation list that is not used any more stays");
                }
            }
        });
    }
}

impl Shop {
    async fn run(self: &Arc<Self>, task: &Task, issuers: Arc<[IssuerCertificate]>) -> Outcome {
        let ask = Ask::Get(&task.validators);
        let (body, validators) = match self.fetcher.fetch(&task.url, &task.reach, ask, task.bytes_max).await {
            Ok(Fetched::NotModified) => return Outcome::Same,
            Ok(Fetched::Fresh { body, validators }) => (body, validators),
            Err(error) => return unreachable(&error),
        };
        let Ok(_turn) = self.parsing.acquire().await else {
            return Outcome::Invalid { reason: "the control plane ends".to_owned() };
        };
        let (shop, of) = (self.clone(), task.clone());
        let verified = background::spawn(move || shop.verify(&of, &body, &issuers));
        match verified.await {
            Ok(Verified::New(list, digest)) => Outcome::New { list, validators, digest },
            Ok(Verified::Same) => Outcome::Same,
            Ok(Verified::NoIssuer(reason)) => Outcome::NoIssuer { reason },
            Ok(Verified::Invalid(reason)) => Outcome::Invalid { reason },
            Err(error) => Outcome::Invalid { reason: format!("reading it failed: {error}") },
        }
    }

    /// Blocks.
    fn verify(&self, task: &Task, body: &[u8], issuers: &[IssuerCertificate]) -> Verified {
        let digest: [u8; 32] = Sha256::digest(body).into();
        if task.digest == Some(digest) {
            return Verified::Same;
        }
        let floors = self.trust.floors();
        let list = match List::read(body, issuers, &floors.current(), self.clock.now_unix()) {
            Ok(list) => list,
            Err(error @ CrlError::NoIssuer { .. }) => return Verified::NoIssuer(error.to_string()),
            Err(error) => return Verified::Invalid(error.to_string()),
        };
        // First the copy: with the floor alone, a process that starts would refuse the older copy that it finds.
        let issuer = issuers.iter().find(|issuer| issuer.id() == list.head().issuer);
        if let (Some(state), Some(issuer)) = (self.trust.state_dir(), issuer)
            && let Err(error) = copies::write(state, &task.url, task.point.as_ref(), issuer, body)
        {
            tracing::error!(%error, "a revocation list is used, but would be missing after a restart");
        }
        if let Err(error) = floors.raise([&list]) {
            tracing::error!(%error, "a revocation list is used, but an older one would be taken after a restart");
        }
        Verified::New(list, digest)
    }
}

enum Verified {
    New(List, [u8; 32]),
    Same,
    NoIssuer(String),
    Invalid(String),
}

impl CrlSettings {
    /// What a configuration and its files say.
    pub(crate) fn of(loaded: &Loaded) -> CrlSettings {
        let rules = loaded.config.trust.values().filter_map(Rules::of);
        CrlSettings {
            rules: rules.collect(),
            bundles: loaded.config.trust.keys().cloned().collect(),
            issuers: loaded.issuers.values().flatten().cloned().collect(),
            files: loaded.list_status.clone(),
            tls: loaded.fetch_tls.clone(),
        }
    }
}

fn unreachable(error: &FetchError) -> Outcome {
    Outcome::Unreachable { reason: error.to_string(), retry_after: error.retry_after() }
}

fn add_figures(figures: &mut CrlFigures, status: &CrlStatus) {
    let soonest = |one: Option<i64>, other: Option<i64>| one.into_iter().chain(other).min();
    figures.entries += status.entries as u64;
    figures.this_update_unix = soonest(figures.this_update_unix, status.this_update_unix);
    figures.next_update_unix = soonest(figures.next_update_unix, status.next_update_unix);
    // Files are watched, not fetched.
    if status.next_fetch_unix.is_some() {
        let is_healthy = status.problem.is_none();
        figures.fetch_healthy = Some(figures.fetch_healthy.unwrap_or(true) && is_healthy);
    }
}

/// Lists are large and servers slow; nobody waits for the answer.
pub(crate) const CRL_FETCH: FetchLimits = FetchLimits {
    connect_timeout: Duration::from_secs(10),
    idle_timeout: Duration::from_secs(20),
    total_timeout: Duration::from_secs(300),
    requests_max: JOBS_MAX,
    requests_per_server_max: sources::IN_FLIGHT_PER_SERVER_MAX,
};
/// Each holds a list in memory while it is read.
const JOBS_MAX: usize = 8;
/// How soon a sighting is noticed.
const TICK: Duration = Duration::from_millis(100);
/// More wait for the next tick.
const SIGHTINGS_PER_TICK: usize = 256;

#[cfg(test)]
mod tests;
