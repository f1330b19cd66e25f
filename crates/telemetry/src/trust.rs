//! What the control plane measures of trust: revocation, stapling, ticket keys and the session cache.
//!
//! Ages are exported as the times that they are counted from, which stay true between two scrapes. Series come and go
//! with what is configured: a bundle, host or tenant that is gone leaves the report, and takes its counts along.

use std::collections::{BTreeMap, BTreeSet};

use crate::closed::{FetchOutcome, OcspOutcome};
use crate::control::ControlMetrics;

/// The part of [`ControlMetrics`] that is about trust, at one moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct TrustState {
    pub(crate) clients: Vec<ClientExpiry>,
    pub(crate) clients_known: usize,
    pub(crate) deny_list_entries: u64,
    pub(crate) crls: BTreeMap<String, CrlState>,
    /// By host of the responder.
    pub(crate) ocsp_queries: BTreeMap<String, [u64; OcspOutcome::ALL.len()]>,
    pub(crate) ocsp_cache_entries: u64,
    pub(crate) staples: BTreeMap<String, StapleState>,
    pub(crate) suspended: BTreeMap<String, i64>,
    pub(crate) ticket_key_since_unix: Option<i64>,
    pub(crate) ticket_key_rotations: u64,
    pub(crate) session_cache: Option<SessionCacheFigures>,
}

/// When the certificate of a client ends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientExpiry {
    /// The trust bundle that admits it.
    pub bundle: String,
    /// What the client is called, fit for a label.
    pub client: String,
    /// Seconds since 1970.
    pub not_after_unix: i64,
}

/// One bundle's lists. `figures` are missing only from a fetch until the figures are given for the first time.
#[derive(Clone, Debug, Default)]
pub(crate) struct CrlState {
    pub(crate) figures: Option<CrlFigures>,
    pub(crate) fetches: [u64; FetchOutcome::ALL.len()],
}

/// One host's staple.
#[derive(Clone, Debug, Default)]
pub(crate) struct StapleState {
    pub(crate) updates_unix: Option<(i64, i64)>,
    pub(crate) failures: u64,
}

/// The revocation lists of one trust bundle, taken together. Times are seconds since 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CrlFigures {
    /// Certificates on them.
    pub entries: u64,
    /// `thisUpdate` of the oldest; `None` without a list.
    pub this_update_unix: Option<i64>,
    /// `nextUpdate` that comes first; `None` without a list.
    pub next_update_unix: Option<i64>,
    /// Whether the last attempt at each source succeeded; `None` without a source to fetch from.
    pub fetch_healthy: Option<bool>,
}

/// The session cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SessionCacheFigures {
    /// Sessions in it.
    pub entries: u64,
    /// Bytes that they take.
    pub bytes: u64,
    /// Sessions, since the cache was made, that gave way to newer ones before they expired.
    pub evictions: u64,
}

impl ControlMetrics {
    /// How many entries the deny list in force has.
    pub fn deny_list_changed(&self, entries: u64) {
        self.lock().trust.deny_list_entries = entries;
    }

    /// Replaces the clients whose certificates were due to be renewed, of `known` in all. Each bundle and client is there once.
    pub fn clients_seen(&self, due: Vec<ClientExpiry>, known: usize) {
        let mut state = self.lock();
        (state.trust.clients, state.trust.clients_known) = (due, known);
    }

    /// Replaces the figures of the revocation lists, by name of every bundle that has or should have any.
    pub fn crls_changed(&self, bundles: impl IntoIterator<Item = (String, CrlFigures)>) {
        let mut state = self.lock();
        let before = std::mem::take(&mut state.trust.crls);
        state.trust.crls = bundles
            .into_iter()
            .map(|(bundle, figures)| {
                let fetches = before.get(&bundle).map_or_else(Default::default, |crls| crls.fetches);
                (bundle, CrlState { figures: Some(figures), fetches })
            })
            .collect();
    }

    /// An attempt to fetch a list of this bundle ended.
    pub fn crl_fetched(&self, bundle: &str, outcome: FetchOutcome) {
        self.lock().trust.crls.entry(bundle.to_owned()).or_default().fetches[outcome as usize] += 1;
    }

    /// Replaces the hosts of OCSP responders that may be asked about clients. The counts of those that there were already stay.
    pub fn ocsp_responders_changed(&self, hosts: impl IntoIterator<Item = String>) {
        let mut hosts: BTreeSet<String> = hosts.into_iter().collect();
        hosts.insert(NO_RESPONDER.to_owned());
        let mut state = self.lock();
        let mut before = std::mem::take(&mut state.trust.ocsp_queries);
        state.trust.ocsp_queries = hosts
            .into_iter()
            .map(|host| {
                let queries = before.remove(&host).unwrap_or_default();
                (host, queries)
            })
            .collect();
    }

    /// A question about a client ended, to the OCSP responder on this host; `None` if there was nobody to ask.
    pub fn ocsp_queried(&self, host: Option<&str>, outcome: OcspOutcome) {
        let host = host.unwrap_or(NO_RESPONDER).to_owned();
        self.lock().trust.ocsp_queries.entry(host).or_default()[outcome as usize] += 1;
    }

    /// How many OCSP answers about clients are kept.
    pub fn ocsp_cache_changed(&self, entries: u64) {
        self.lock().trust.ocsp_cache_entries = entries;
    }

    /// Replaces the staples, by first name of every virtual host that has or should have one: `thisUpdate` and
    /// `nextUpdate` in seconds since 1970, `None` for a host without a usable staple.
    pub fn staples_changed(&self, hosts: impl IntoIterator<Item = (String, Option<(i64, i64)>)>) {
        let mut state = self.lock();
        let before = std::mem::take(&mut state.trust.staples);
        state.trust.staples = hosts
            .into_iter()
            .map(|(host, updates_unix)| {
                let failures = before.get(&host).map_or(0, |staple| staple.failures);
                (host, StapleState { updates_unix, failures })
            })
            .collect();
    }

    /// An attempt to get a staple for this host failed; the one in use stays.
    pub fn staple_failed(&self, host: &str) {
        self.lock().trust.staples.entry(host.to_owned()).or_default().failures += 1;
    }

    /// Replaces the tenants for which revocation is suspended, each with the end in seconds since 1970.
    pub fn revocation_suspended(&self, tenants: impl IntoIterator<Item = (String, i64)>) {
        self.lock().trust.suspended = tenants.into_iter().collect();
    }

    /// Tickets are sealed with a key that came into use then, in seconds since 1970. The first key is no rotation, and
    /// neither is a call that says the same again.
    pub fn ticket_key_in_use(&self, since_unix: i64) {
        let trust = &mut self.lock().trust;
        match trust.ticket_key_since_unix.replace(since_unix) {
            Some(before) if before != since_unix => trust.ticket_key_rotations += 1,
            _ => {}
        }
    }

    /// The session cache at this moment; `None` if no listener uses it.
    pub fn session_cache_sampled(&self, figures: Option<SessionCacheFigures>) {
        self.lock().trust.session_cache = figures;
    }
}

/// Label of questions that there was no responder for.
const NO_RESPONDER: &str = "none";
