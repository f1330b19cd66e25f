//! A cluster that is looked after while it runs: its endpoints are checked, or come and go, or both.
//!
//! Puts together what is known of its endpoints, and publishes what follows for the workers. Nothing in here waits or asks anybody.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ringward_config::{self as config, Cluster, EndpointAddr, HealthCheck, OutlierDetection};
use ringward_proxy::{Conduct, Endpoint, Endpoints, reported};
use ringward_telemetry::{EndpointFigures, OutlierReason, UpstreamFigures};
use ringward_tls::{EndpointTls, UpstreamTls};
use tokio::time::Instant;

use super::ejection::{self, Ejection};
use super::failover::{self, Candidate, Choice, PACE_FULL, Rank};
use super::standing::{Health, Standing};
use crate::discovery::Source;

/// A cluster whose endpoints are checked, or found elsewhere than in the configuration.
#[derive(Debug)]
pub(super) struct LiveCluster {
    pub(super) check: Option<Arc<HealthCheck>>,
    pub(super) source: Option<Arc<Source>>,
    outliers: Option<OutlierDetection>,
    tls: Option<Arc<UpstreamTls>>,
    /// Its connections begin with a header of the PROXY protocol.
    sends_proxy_protocol: bool,
    slow_start: Option<Duration>,
    /// The zone that we are in.
    zone: Option<String>,
    roster: Mutex<Arc<Roster>>,
    published: Arc<Endpoints>,
}

/// The endpoints that a cluster has at one moment.
#[derive(Debug)]
struct Roster {
    /// As they were named.
    named: Arc<[config::Endpoint]>,
    /// The same.
    members: Vec<Arc<Member>>,
}

/// An endpoint as long as its cluster has it and checks it in one way.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) addr: EndpointAddr,
    /// How it is asked, if by TLS: as requests are.
    pub(super) tls: Option<Arc<EndpointTls>>,
    standing: Mutex<Standing>,
    /// What requests have found out.
    conduct: Arc<Conduct>,
    ejection: Mutex<Ejection>,
    /// When it began to take requests beside others that did already.
    begun: Mutex<Option<Instant>>,
}

/// What came of an endpoint that failed too many requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) addr: EndpointAddr,
    pub(super) reason: OutlierReason,
    /// For how long it is ejected; `None` if it is not, since too few others would be left.
    pub(super) ejected_for: Option<Duration>,
    /// The log has not been told of this a moment ago.
    pub(super) is_news: bool,
}

/// How the endpoints of a cluster have changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) endpoints: usize,
    pub(super) added: usize,
    pub(super) removed: usize,
}

impl LiveCluster {
    /// A cluster that was `before`, in a node in `zone`.
    pub(super) fn new(
        (cluster, zone): (&Cluster, Option<&str>),
        source: Option<Arc<Source>>,
        tls: Option<&Arc<UpstreamTls>>,
        published: Arc<Endpoints>,
        before: Option<&LiveCluster>,
    ) -> LiveCluster {
        let named = match &source {
            Some(source) => source.endpoints(),
            None => cluster.endpoints.as_slice().into(),
        };
        let live = LiveCluster {
            check: cluster.health_check.clone().map(Arc::new),
            source,
            outliers: cluster.outlier_detection.clone(),
            tls: tls.cloned(),
            sends_proxy_protocol: cluster.sends_proxy_protocol,
            slow_start: cluster.slow_start,
            zone: zone.map(str::to_owned),
            roster: Mutex::new(Arc::new(Roster { named: Arc::default(), members: Vec::new() })),
            published,
        };
        live.enlist(named, before, Instant::now());
        live
    }

    /// Takes over what its source has found by now, and what is known of it in the same cluster of the plan `before`: what has
    /// changed, if anything.
    pub(super) fn refresh(&self, before: Option<&LiveCluster>, now: Instant) -> Option<Change> {
        let named = self.source.as_ref()?.endpoints();
        let roster = self.roster();
        if roster.named == named {
            return None;
        }
        let addrs = |named: &[config::Endpoint]| -> HashSet<EndpointAddr> {
            named.iter().map(|endpoint| endpoint.addr.clone()).collect()
        };
        let (then, now_named) = (addrs(&roster.named), addrs(&named));
        self.enlist(named, before, now);
        Some(Change {
            endpoints: now_named.len(),
            added: now_named.difference(&then).count(),
            removed: then.difference(&now_named).count(),
        })
    }

    /// Its endpoints are these from now on. Those that it had already stay what they are.
    fn enlist(&self, named: Arc<[config::Endpoint]>, before: Option<&LiveCluster>, now: Instant) {
        // Another question finds out something else, and so does who asks somebody else.
        let before = before.filter(|before| before.question() == self.question()).map(LiveCluster::roster);
        let own = self.roster();
        let all = before.iter().chain([&own]).rev().flat_map(|roster| &roster.members);
        let known: HashMap<_, _> = all.map(|member| (&member.addr, member)).collect();
        let kept: Vec<_> = named.iter().filter_map(|endpoint| known.get(&endpoint.addr)).collect();
        // Whoever serves already can go on doing so for the moment that the first check of the others takes.
        let works = kept.iter().any(|kept| kept.standing().health == Health::Healthy);
        let health = if works { Health::Awaited } else { Health::Assumed };
        let starts_at_once = self.check.is_none() && !kept.is_empty();
        let member = |endpoint: &config::Endpoint| match known.get(&endpoint.addr) {
            Some(known) => (*known).clone(),
            None => {
                let new = Member::new(endpoint.addr.clone(), self.tls.as_ref(), health);
                if starts_at_once {
                    new.begin(now);
                }
                Arc::new(new)
            }
        };
        let members: Vec<Arc<Member>> = named.iter().map(member).collect();
        self.published
            .watch(members.iter().map(|member| (member.addr.clone(), member.conduct.clone())).collect());
        *self.lock() = Arc::new(Roster { named, members });
    }

    /// Lets the workers use those endpoints that should be used, given what is known of all.
    pub(super) fn publish(&self, now: Instant) -> Choice {
        let roster = self.roster();
        let (weights, choice) = self.shares(&roster, now);
        let endpoints = roster.members.iter().zip(weights);
        let endpoints = endpoints.map(|(member, weight)| Endpoint { addr: member.addr.clone(), weight });
        self.published.publish(endpoints.collect());
        choice
    }

    /// What is known, for metrics.
    pub(super) fn figures(&self, now: Instant) -> UpstreamFigures {
        let roster = self.roster();
        let (weights, choice) = self.shares(&roster, now);
        let sum: f64 = weights.iter().map(|weight| f64::from(*weight)).sum();
        let endpoints = roster.members.iter().zip(weights).map(|(member, weight)| EndpointFigures {
            addr: reported(&member.addr),
            health: member.standing().health.reported(),
            share: if weight == 0 { 0.0 } else { f64::from(weight) / sum },
        });
        let ejected = self.outliers.as_ref().map(|_| self.ejected(&roster));
        UpstreamFigures { endpoints: endpoints.collect(), panic: choice == Choice::All, ejected }
    }

    /// The share of each endpoint.
    fn shares(&self, roster: &Roster, now: Instant) -> (Vec<u32>, Choice) {
        let candidates = roster.members.iter().zip(&*roster.named).map(|(member, named)| Candidate {
            rank: self.rank(named),
            health: member.standing().health,
            is_ejected: self.is_ejected(member),
            pace: self.slow_start.map_or(PACE_FULL, |window| member.pace(window, now)),
        });
        // Without a check: if those that are left are all ejected, the others having gone.
        let panic_threshold = self.check.as_ref().map_or(1, |check| check.panic_threshold);
        failover::shares(&candidates.collect::<Vec<_>>(), panic_threshold)
    }

    fn rank(&self, endpoint: &config::Endpoint) -> Rank {
        let is_far = self.zone.is_some() && self.zone != endpoint.zone;
        Rank { weight: endpoint.weight, priority: endpoint.priority, is_far }
    }

    /// What is asked of whom, and how.
    fn question(&self) -> (Option<&config::Probe>, Option<&[u8; 32]>, bool) {
        let probe = self.check.as_ref().map(|check| &check.probe);
        (probe, self.tls.as_ref().map(|tls| tls.digest()), self.sends_proxy_protocol)
    }

    /// Its shares may change with time alone.
    pub(super) fn changes_with_time(&self) -> bool {
        self.slow_start.is_some() || self.outliers.is_some()
    }

    /// When its shares change without a check, because an endpoint is starting or its ejection ends.
    pub(super) fn next_step(&self, now: Instant) -> Option<Instant> {
        let roster = self.roster();
        let starting = self.slow_start.and_then(|window| {
            let starts = roster.members.iter().any(|member| member.pace(window, now) < PACE_FULL);
            starts.then(|| now + window / PACE_FULL)
        });
        let ejected = self
            .outliers
            .as_ref()
            .and_then(|_| roster.members.iter().filter_map(|member| member.ejection().until()).min());
        [starting, ejected].into_iter().flatten().min()
    }

    /// Ejects endpoints that have failed too many requests, as many as may be.
    pub(super) fn judge_suspects(&self, now: Instant) -> Vec<Verdict> {
        let Some(rule) = &self.outliers else { return Vec::new() };
        let roster = self.roster();
        let judge = |member: &Arc<Member>| {
            let reason = member.conduct.take_suspicion()?;
            // What is still under way there says nothing new.
            if self.is_ejected(member) {
                return None;
            }
            let takes = |other: &&Arc<Member>| {
                !Arc::ptr_eq(member, other) && other.standing().health.is_fit() && !self.is_ejected(other)
            };
            let others = roster.members.iter().filter(takes).count();
            let is_allowed = ejection::is_allowed(rule, roster.members.len(), self.ejected(&roster), others);
            let ejected_for = is_allowed.then(|| member.ejection().begin(rule, now));
            let is_news = ejected_for.is_some() || member.ejection().withhold(rule, now);
            if ejected_for.is_none() {
                // So that it is judged again after as many.
                member.conduct.forgive();
            }
            Some(Verdict { addr: member.addr.clone(), reason, ejected_for, is_news })
        };
        roster.members.iter().filter_map(judge).collect()
    }

    /// Lets endpoints back whose ejection is over.
    pub(super) fn end_ejections(&self, now: Instant) -> Vec<EndpointAddr> {
        let is_over = |member: &&Arc<Member>| member.ejection().end(now);
        let roster = self.roster();
        let back = roster.members.iter().filter(is_over).map(|member| {
            member.conduct.forgive();
            member.begin(now);
            member.addr.clone()
        });
        back.collect()
    }

    fn ejected(&self, roster: &Roster) -> usize {
        roster.members.iter().filter(|member| self.is_ejected(member)).count()
    }

    fn is_ejected(&self, member: &Member) -> bool {
        self.outliers.is_some() && member.ejection().until().is_some()
    }

    /// Whether this is one of its endpoints still.
    pub(super) fn has(&self, member: &Arc<Member>) -> bool {
        self.roster().members.iter().any(|own| Arc::ptr_eq(own, member))
    }

    /// Its endpoints.
    pub(super) fn members(&self) -> Vec<Arc<Member>> {
        self.roster().members.clone()
    }

    fn roster(&self) -> Arc<Roster> {
        self.lock().clone()
    }

    /// A poisoned lock is entered anyway: what it guards is replaced whole.
    fn lock(&self) -> MutexGuard<'_, Arc<Roster>> {
        self.roster.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Member {
    fn new(addr: EndpointAddr, tls: Option<&Arc<UpstreamTls>>, health: Health) -> Member {
        let tls = tls.map(|tls| Arc::new(tls.endpoint(addr.ip())));
        Member {
            addr,
            tls,
            standing: Mutex::new(Standing::new(health)),
            conduct: Arc::default(),
            ejection: Mutex::default(),
            begun: Mutex::default(),
        }
    }

    /// It takes requests again, or for the first time beside others that do.
    pub(super) fn begin(&self, now: Instant) {
        *self.begun.lock().unwrap_or_else(PoisonError::into_inner) = Some(now);
    }

    /// How far it has started, from 1 to [`PACE_FULL`]: a tenth more with each tenth of the time.
    fn pace(&self, window: Duration, now: Instant) -> u32 {
        let begun = *self.begun.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(begun) = begun else { return PACE_FULL };
        let steps = now.duration_since(begun).as_nanos() * u128::from(PACE_FULL) / window.as_nanos().max(1);
        u32::try_from(steps).unwrap_or(PACE_FULL).saturating_add(1).min(PACE_FULL)
    }

    /// A poisoned lock is entered anyway: no state in between is invalid.
    fn ejection(&self) -> MutexGuard<'_, Ejection> {
        self.ejection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The same.
    pub(super) fn standing(&self) -> MutexGuard<'_, Standing> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
