//! OCSP answers about clients: asks responders what workers want to know, and puts verified answers into the table.
//!
//! Hides HTTP, verification and batching. Which question is asked when, how failures are repeated and how long an answer is
//! used is the [`OcspLedger`]'s decision; this is its legs. Each certificate is asked about once at a time, a limited number
//! at the same time, and no question outlives its timeout. Responders that certificates name are asked only on allowed hosts.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use ringward_config::{OcspMode, Trust};
use ringward_telemetry::{ControlMetrics, OcspOutcome};
use ringward_tls::ocsp::{CertIdHash, request, verify_response};
use ringward_tls::{
    IssuerCertificate, IssuerId, OcspCheck, OcspError, OcspLedger, OcspQuery, OcspResponse,
    OcspStatus as Said, OcspTally, Revocation, RevocationParts,
};
use rustls::ClientConfig;
use tokio::task::{self, JoinSet};
use tokio::time::{Interval, MissedTickBehavior};

use super::clock::Clock;
use super::crl::list::{List, in_force};
use super::fetch::Fetcher;
use super::fetch::reach::{AllowList, Reach};
use super::fetch::url::Url;
use super::responder::Responder;
use super::status::OcspStatus;
use super::{TrustKeeper, TrustVersion};
use crate::load::Loaded;

/// Answers the questions of workers.
pub(crate) struct OcspKeeper {
    trust: Arc<TrustKeeper>,
    metrics: Arc<ControlMetrics>,
    clock: Clock,
    fetcher: Arc<Fetcher>,
    ledger: OcspLedger,
    settings: Arc<OcspSettings>,
    jobs: JoinSet<Result<OcspResponse, Unanswered>>,
    /// What the jobs are about.
    queries: HashMap<task::Id, OcspQuery>,
    tick: Interval,
    /// What a delegated responder's certificate is looked up in, and of which state; none yet of these settings.
    revocation: Option<(TrustVersion, Arc<Revocation>)>,
    /// Bundles whose responder fails, each mentioned once.
    failing: BTreeMap<String, String>,
    /// Answers came since workers were shown any.
    is_unpublished: bool,
    /// When the table is looked over next for `trust status`, seconds since 1970.
    report_unix: i64,
}

/// Whom a configuration wants asked.
#[derive(Clone, Debug, Default)]
pub(crate) struct OcspSettings {
    /// Whether anybody wants to know.
    pub(crate) is_on: bool,
    /// By name of the trust bundle.
    pub(crate) bundles: BTreeMap<String, BundleResponders>,
    /// The CAs of all bundles.
    pub(crate) issuers: BTreeMap<IssuerId, IssuerCertificate>,
    /// Revocation lists of files.
    pub(crate) lists: Vec<List>,
    /// How https servers are verified.
    pub(crate) tls: Option<Arc<ClientConfig>>,
}

/// Who answers for the certificates of a trust bundle.
#[derive(Clone, Debug, Default)]
pub(crate) struct BundleResponders {
    /// For certificates that name no allowed one.
    pub(crate) url: Option<Url>,
    /// Hosts that certificates may name.
    pub(crate) hosts: Arc<AllowList>,
}

/// Why there is no answer.
#[derive(Clone, Debug, thiserror::Error)]
enum Unanswered {
    /// Nobody to ask.
    #[error(
        "there is no responder for it: neither `ocsp_url`, nor one in the certificate whose host `ocsp_hosts` allows"
    )]
    NoResponder,
    /// Nothing to check an answer with.
    #[error("the certificate of its issuer is not known: {0}")]
    NoIssuer(String),
    /// Nothing came.
    #[error("{0}")]
    Unreachable(String),
    /// Something came that is not believed.
    #[error("{0}")]
    Invalid(String),
}

impl OcspKeeper {
    /// Asks nobody before [`OcspKeeper::configure`]. To be called within a runtime.
    pub(crate) fn new(
        trust: Arc<TrustKeeper>,
        metrics: Arc<ControlMetrics>,
        fetcher: Fetcher,
        clock: Clock,
    ) -> OcspKeeper {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        OcspKeeper {
            ledger: OcspLedger::new(trust.ocsp().clone(), ENTRIES_MAX, GRACE),
            trust,
            metrics,
            clock,
            fetcher: Arc::new(fetcher),
            settings: Arc::default(),
            jobs: JoinSet::new(),
            queries: HashMap::new(),
            tick,
            revocation: None,
            failing: BTreeMap::new(),
            is_unpublished: false,
            report_unix: 0,
        }
    }

    /// Asks for another configuration from now on.
    pub(crate) fn configure(&mut self, settings: OcspSettings) {
        self.fetcher.verify_https_by(settings.tls.as_ref());
        self.metrics.ocsp_responders_changed(settings.hosts());
        self.settings = Arc::new(settings);
        self.revocation = None;
        self.failing.clear();
    }

    /// Follows the configuration in force, for ever.
    pub(crate) async fn run(mut self) {
        let mut loaded = self.trust.follow();
        loop {
            tokio::select! {
                changed = loaded.changed() => match changed {
                    Ok(()) => {
                        let settings = loaded.borrow_and_update().as_deref().map(OcspSettings::of);
                        settings.into_iter().for_each(|settings| self.configure(settings));
                    }
                    Err(_) => return,
                },
                () = self.turn() => {}
            }
        }
    }

    /// Waits until there is something to do, and does it. Loses nothing if it is dropped before its end.
    pub(crate) async fn turn(&mut self) {
        // Workers do not wake us. Nobody's connection waits while nobody asks.
        let pause = if self.settings.is_on { Duration::ZERO } else { PAUSE_WHEN_OFF };
        tokio::select! {
            Some(done) = self.jobs.join_next_with_id() => {
                let (id, answer) =
                    done.unwrap_or_else(|error| (error.id(), Err(Unanswered::Invalid(format!("asking failed: {error}")))));
                if let Some(query) = self.queries.remove(&id) {
                    self.settle(&query, answer);
                }
            }
            () = async {
                self.tick.tick().await;
                tokio::time::sleep(pause).await;
            } => self.look_around(),
        }
    }

    fn look_around(&mut self) {
        let now = self.clock.now_unix();
        // One copy of the table's index for all answers since the last tick.
        self.publish();
        if self.report_unix <= now {
            self.report_unix = now + REPORT_SECONDS;
            self.report(now);
        }
        let room = JOBS_MAX.saturating_sub(self.jobs.len());
        let due = self.ledger.due(room, now);
        if due.is_empty() {
            return;
        }
        let revocation = self.revocation();
        for query in due {
            let job = Job {
                settings: self.settings.clone(),
                fetcher: self.fetcher.clone(),
                revocation: revocation.clone(),
                clock: self.clock.clone(),
            };
            let of = query.clone();
            let job = self.jobs.spawn(async move { job.run(&of).await });
            self.queries.insert(job.id(), query);
        }
    }

    fn settle(&mut self, query: &OcspQuery, answer: Result<OcspResponse, Unanswered>) {
        let now = self.clock.now_unix();
        let responder = self.settings.responder(query).map(|responder| responder.url.host().to_string());
        let outcome = match &answer {
            Ok(OcspResponse { status: Said::Good, .. }) => OcspOutcome::Good,
            Ok(OcspResponse { status: Said::Revoked { .. }, .. }) => OcspOutcome::Revoked,
            Ok(OcspResponse { status: Said::Unknown, .. }) => OcspOutcome::Unknown,
            Err(Unanswered::NoResponder | Unanswered::Unreachable(_)) => OcspOutcome::Unreachable,
            Err(Unanswered::NoIssuer(_) | Unanswered::Invalid(_)) => OcspOutcome::Invalid,
        };
        self.metrics.ocsp_queried(responder.as_deref(), outcome);
        self.mention(query, answer.as_ref().err());
        let has_become_revoked = self.ledger.settle(query, answer.as_ref().ok(), now);
        self.is_unpublished = true;
        if has_become_revoked {
            tracing::info!(serial = %query.key.serial, "OCSP: the certificate of a client is revoked");
            // A new generation makes workers look at their connections, and the answer has to be there when they do.
            self.publish();
            self.trust.update(|_| {});
        }
    }

    /// Shows workers the answers that came since it was called last.
    fn publish(&mut self) {
        if std::mem::take(&mut self.is_unpublished) && self.ledger.publish() {
            self.metrics.ocsp_cache_changed(self.trust.ocsp().len() as u64);
        }
    }

    fn report(&self, now: i64) {
        let status = self.settings.is_on.then(|| {
            let OcspTally { good, revoked, unknown, failed } = self.trust.ocsp().tally(now);
            OcspStatus { good, revoked, unknown, failed, pending: self.ledger.in_flight() }
        });
        self.trust.report(|reports| reports.ocsp = status);
    }

    /// A bundle's first failure, and its first success afterwards.
    fn mention(&mut self, query: &OcspQuery, failure: Option<&Unanswered>) {
        let bundle = &*query.path.bundle;
        match failure {
            None => {
                if self.failing.remove(bundle).is_some() {
                    tracing::info!(trust = bundle, "OCSP responder answers again");
                }
            }
            Some(failure) => {
                let reason = failure.to_string();
                if self.failing.get(bundle) != Some(&reason) && self.failing.len() < FAILING_MAX {
                    tracing::warn!(
                        trust = bundle, serial = %query.key.serial, reason,
                        "no OCSP answer about a client; further failures of this kind are only counted"
                    );
                    self.failing.insert(bundle.to_owned(), reason);
                }
            }
        }
    }

    fn revocation(&mut self) -> Arc<Revocation> {
        let (version, state) = self.trust.current();
        if let Some((of, revocation)) = &self.revocation
            && *of == version
        {
            return revocation.clone();
        }
        let parts = RevocationParts {
            crls: in_force(self.settings.lists.iter().chain(state.fetched_crls.iter())),
            deny: state.deny,
            ..RevocationParts::default()
        };
        let revocation = Revocation::new(parts);
        self.revocation = Some((version, revocation.clone()));
        revocation
    }
}

/// What it takes to answer one question.
struct Job {
    settings: Arc<OcspSettings>,
    fetcher: Arc<Fetcher>,
    revocation: Arc<Revocation>,
    clock: Clock,
}

impl Job {
    async fn run(self, query: &OcspQuery) -> Result<OcspResponse, Unanswered> {
        let responder = self.settings.responder(query).ok_or(Unanswered::NoResponder)?;
        let issuer = Arc::new(self.settings.issuer(query)?);
        match self.ask(query, &responder, &issuer, CertIdHash::Sha1).await? {
            // Some do not know SHA-1 any more, and say it like this.
            Err(OcspError::Responder { status: MALFORMED_REQUEST }) => {
                let answer = self.ask(query, &responder, &issuer, CertIdHash::Sha256).await?;
                answer.map_err(|error| Unanswered::Invalid(error.to_string()))
            }
            answer => answer.map_err(|error| Unanswered::Invalid(error.to_string())),
        }
    }

    async fn ask(
        &self,
        query: &OcspQuery,
        responder: &Responder,
        issuer: &Arc<IssuerCertificate>,
        hash: CertIdHash,
    ) -> Result<Result<OcspResponse, OcspError>, Unanswered> {
        // No nonce: most responders sign in advance. An old answer is refused by the ledger.
        let body = responder.post(&self.fetcher, request(issuer, &query.key.serial, hash, None)).await;
        let body = body.map_err(|error| Unanswered::Unreachable(format!("{}: {error}", responder.url)))?;
        let (issuer, revocation, serial) = (issuer.clone(), self.revocation.clone(), query.key.serial);
        let now_unix = self.clock.now_unix();
        let verified = task::spawn_blocking(move || {
            let revocation = Some(&*revocation);
            verify_response(&body, &OcspCheck { issuer: &issuer, serial, nonce: None, now_unix, revocation })
        });
        verified.await.map_err(|error| Unanswered::Invalid(error.to_string()))
    }
}

impl OcspSettings {
    /// What a configuration says.
    pub(crate) fn of(loaded: &Loaded) -> OcspSettings {
        let config = &loaded.config;
        let hosts = config.listeners.iter().flat_map(|listener| &listener.hosts);
        let mut modes = hosts.flat_map(|host| {
            let own = host.client_auth.verification().map(|verification| verification.ocsp);
            own.into_iter().chain(host.routes.iter().map(|route| route.ocsp))
        });
        let issuers = loaded.issuers.values().flatten();
        OcspSettings {
            is_on: modes.any(|mode| mode != OcspMode::Off),
            bundles: config
                .trust
                .values()
                .map(|trust| (trust.name.clone(), BundleResponders::of(trust)))
                .collect(),
            issuers: issuers.map(|issuer| (issuer.id(), issuer.clone())).collect(),
            lists: loaded.lists.clone(),
            tls: loaded.fetch_tls.clone(),
        }
    }

    /// Where responders may be, as the configuration writes it: a set that no certificate adds to.
    fn hosts(&self) -> impl Iterator<Item = String> {
        self.bundles.values().flat_map(|bundle| {
            let own = bundle.url.iter().map(|url| url.host().to_string());
            own.chain(bundle.hosts.hosts().map(ToString::to_string))
        })
    }

    /// Whom to ask: whom the certificate names, if that is allowed, and else the bundle's own.
    fn responder(&self, query: &OcspQuery) -> Option<Responder> {
        let bundle = self.bundles.get(&*query.path.bundle)?;
        let certificate = query.path.certificates.get(query.index)?;
        let named = certificate.ocsp_url.as_ref().and_then(|text| Url::parse(text).ok());
        let named = named.filter(|url| bundle.hosts.allows(url));
        let named = named.map(|url| Responder { url, reach: Reach::Listed(bundle.hosts.clone()) });
        let own = || Some(Responder { url: bundle.url.clone()?, reach: Reach::Configured });
        named.or_else(own)
    }

    /// The next certificate of the path, or the anchor.
    fn issuer(&self, query: &OcspQuery) -> Result<IssuerCertificate, Unanswered> {
        match query.path.certificates.get(query.index + 1) {
            Some(issuer) => IssuerCertificate::from_der(&issuer.der)
                .map_err(|error| Unanswered::NoIssuer(error.to_string())),
            None => self.issuers.get(&query.key.issuer).cloned().ok_or_else(|| {
                Unanswered::NoIssuer("the trust anchor is not configured any more".to_owned())
            }),
        }
    }
}

impl BundleResponders {
    fn of(trust: &Trust) -> BundleResponders {
        BundleResponders {
            url: trust.ocsp_url.as_ref().map(|named| Url::from(&named.url)),
            hosts: Arc::new(AllowList::new(&trust.ocsp_hosts)),
        }
    }
}

/// How soon a question of a worker is noticed, and an answer shown: connections wait for both.
const TICK: Duration = Duration::from_millis(5);
/// The whole table is looked at.
const REPORT_SECONDS: i64 = 5;
const PAUSE_WHEN_OFF: Duration = Duration::from_millis(500);
/// Clients that are remembered. Some 4 kB each, with their chain.
const ENTRIES_MAX: usize = 100_000;
/// How long a last answer is used beyond its end while no newer one can be had.
const GRACE: Duration = Duration::from_secs(900);
/// Questions that are out. Most of them wait: for their turn at a responder, of which a dead one must not keep the others
/// from theirs.
const JOBS_MAX: usize = 4096;
/// Bundles that are mentioned.
const FAILING_MAX: usize = 256;
/// OCSPResponseStatus (RFC 6960 §4.2.1).
const MALFORMED_REQUEST: u8 = 1;

#[cfg(test)]
mod tests;
