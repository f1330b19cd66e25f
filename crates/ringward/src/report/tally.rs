//! What the lines of logs come to.

use std::collections::HashMap;
use std::hash::Hash;

use serde::Serialize;

use super::expiries::{Expiry, Kind, SOON_SECONDS};
use super::incidents::{Incident, Incidents};
use super::lines::{Line, unix};
use crate::table::moment;

/// What the logs of the period hold.
#[derive(Debug, Serialize)]
pub(super) struct Tally {
    #[serde(skip)]
    since: i64,
    #[serde(skip)]
    until: i64,
    /// By tenant, those with the most denials first.
    pub(super) tenants: Vec<TenantRow>,
    #[serde(skip)]
    by_tenant: Bounded<String, TenantCounts>,
    /// Those with the most requests first.
    pub(super) denials: Vec<DenialRow>,
    /// Denied requests whose rule is not listed.
    pub(super) denials_unlisted: u64,
    #[serde(skip)]
    by_rule: Bounded<DenialKey, u64>,
    /// Refused handshakes by reason, the most frequent first.
    pub(super) handshakes_failed: Vec<ReasonRow>,
    /// Refused handshakes that were not logged one by one.
    pub(super) handshakes_failed_unlogged: u64,
    #[serde(skip)]
    by_reason: Bounded<String, ReasonCounts>,
    /// In the order of the logs.
    pub(super) changes: Vec<Change>,
    /// More of them.
    pub(super) changes_unlisted: u64,
    /// Failed fetches of revocation data by URL, host or bundle.
    pub(super) fetch_failures: Vec<FetchRow>,
    #[serde(skip)]
    by_source: Bounded<String, u64>,
    #[serde(skip)]
    clients: Bounded<(String, String), i64>,
    #[serde(skip)]
    incidents: Incidents,
}

/// The requests of a tenant; the empty name for clients of none.
#[derive(Debug, Serialize)]
pub(super) struct TenantRow {
    pub(super) tenant: String,
    #[serde(flatten)]
    pub(super) counts: TenantCounts,
}

#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(super) struct TenantCounts {
    /// All requests.
    pub(super) requests: u64,
    /// Refused by a policy, or without a rule for them.
    pub(super) denied: u64,
    /// Policies came to no decision.
    pub(super) undecided: u64,
}

/// Who denied what.
#[derive(Debug, Serialize)]
pub(super) struct DenialRow {
    #[serde(flatten)]
    pub(super) key: DenialKey,
    pub(super) requests: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub(super) struct DenialKey {
    pub(super) tenant: String,
    pub(super) policy: String,
    pub(super) rule: String,
    pub(super) route: String,
}

#[derive(Debug, Serialize)]
pub(super) struct ReasonRow {
    pub(super) reason: String,
    #[serde(flatten)]
    pub(super) counts: ReasonCounts,
}

/// Refused handshakes with one reason.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct ReasonCounts {
    pub(super) handshakes: u64,
    /// The subject that was presented last. It was not verified.
    pub(super) last_subject: Option<String>,
}

/// A change of what is trusted, or of what is served.
#[derive(Debug, Serialize)]
pub(super) struct Change {
    pub(super) at: String,
    pub(super) what: String,
}

#[derive(Debug, Serialize)]
pub(super) struct FetchRow {
    pub(super) source: String,
    pub(super) failures: u64,
}

impl Tally {
    /// Of lines from the first moment on and before the second, in seconds since 1970.
    pub(super) fn new(since: i64, until: i64) -> Tally {
        Tally {
            since,
            until,
            tenants: Vec::new(),
            by_tenant: Bounded::new(NAMES_MAX),
            denials: Vec::new(),
            denials_unlisted: 0,
            by_rule: Bounded::new(NAMES_MAX),
            handshakes_failed: Vec::new(),
            handshakes_failed_unlogged: 0,
            by_reason: Bounded::new(NAMES_MAX),
            changes: Vec::new(),
            changes_unlisted: 0,
            fetch_failures: Vec::new(),
            by_source: Bounded::new(NAMES_MAX),
            clients: Bounded::new(CLIENTS_MAX),
            incidents: Incidents::default(),
        }
    }

    /// Adds a line, if it is of the period.
    pub(super) fn add(&mut self, line: &Line<'_>, at: i64) -> bool {
        if at < self.since || at >= self.until {
            return false;
        }
        match &*line.msg {
            "request" => self.request(line),
            "handshake failed" => self.handshake(line),
            "failed handshakes not logged one by one" => {
                self.handshakes_failed_unlogged += line.suppressed.unwrap_or(0);
            }
            _ => self.event(line, at),
        }
        true
    }

    fn request(&mut self, line: &Line<'_>) {
        let tenant = text(line.forwarded_tenant.as_deref().or(line.tenant.as_deref()));
        let is_denied = matches!(line.decision.as_deref(), Some("denied" | "undefined"));
        let is_undecided = line.decision.as_deref().is_some_and(|is| !is_denied && is != "allowed");
        if let Some(counts) = self.by_tenant.entry(tenant.clone()) {
            counts.requests += 1;
            counts.denied += u64::from(is_denied);
            counts.undecided += u64::from(is_undecided);
        }
        if is_denied {
            let (policy, rule) = (text(line.policy.as_deref()), text(line.rule.as_deref()));
            let key = DenialKey { tenant: tenant.clone(), policy, rule, route: text(line.route.as_deref()) };
            match self.by_rule.entry(key) {
                Some(count) => *count += 1,
                None => self.denials_unlisted += 1,
            }
        }
        if let (Some(peer), Some(not_after)) = (&line.peer, line.not_after.as_deref().and_then(unix))
            && let Some(known) = self.clients.entry((text(line.tenant.as_deref()), peer.to_string()))
        {
            *known = (*known).max(not_after);
        }
    }

    fn handshake(&mut self, line: &Line<'_>) {
        if let Some(counts) = self.by_reason.entry(text(line.reason.as_deref())) {
            counts.handshakes += 1;
            if let Some(subject) = &line.presented {
                counts.last_subject = Some(subject.to_string());
            }
        }
    }

    fn event(&mut self, line: &Line<'_>, at: i64) {
        self.incidents.event(line, at);
        let by = line.by.as_deref().map(|by| format!(" by {by}")).unwrap_or_default();
        let what = match &*line.msg {
            "revoked" | "revocation removed" => {
                let (kind, value) = (text(line.kind.as_deref()), text(line.value.as_deref()));
                let reason = line.reason.as_deref().map(|why| format!(", {why}")).unwrap_or_default();
                format!("{}: {kind} {value}{by}{reason}", line.msg)
            }
            "revocation is suspended: clients of this tenant are not looked up in revocation lists" => {
                format!("revocation suspended for {}", text(line.tenant.as_deref()))
            }
            "revocation suspended" | "revocation no longer suspended" => {
                format!("{} for {}", line.msg, text(line.tenant.as_deref()))
            }
            "new configuration in force" => {
                let files = line.files.as_deref().map(|files| format!(": {files}")).unwrap_or_default();
                format!("generation {} in force{files}", line.generation.unwrap_or(0))
            }
            "new configuration refused, the running one stays" => {
                format!("refused: {}", text(line.problems.as_deref()))
            }
            "revocation list fetched" => format!("new revocation list from {}", text(line.url.as_deref())),
            "ticket keys rotated" => "ticket keys rotated".to_owned(),
            "upgrade: the new process serves, draining" => "upgraded: another process serves".to_owned(),
            "revocation list not fetched, the one in use stays"
            | "no OCSP answer about a client; further failures of this kind are only counted"
            | "no new staple, the last one is shown until it is too old" => {
                let source = line.url.as_deref().or(line.trust.as_deref()).or(line.host.as_deref());
                if let Some(count) = self.by_source.entry(text(source)) {
                    *count += 1;
                }
                return;
            }
            _ => return,
        };
        if self.changes.len() == CHANGES_MAX {
            self.changes_unlisted += 1;
            return;
        }
        self.changes.push(Change { at: moment(at), what });
    }

    /// What began and ended.
    pub(super) fn take_incidents(&mut self) -> Vec<Incident> {
        self.settle();
        std::mem::take(&mut self.incidents).finish()
    }

    /// Clients whose certificates end soon, as the log has them.
    pub(super) fn take_clients(&mut self, now: i64) -> Vec<Expiry> {
        let soon = |not_after: i64| not_after > now && not_after - now <= SOON_SECONDS;
        let clients = self.clients.drain().filter(|(_, not_after)| soon(*not_after));
        let mut clients: Vec<_> = clients.collect();
        clients.sort_by(|one, other| (one.1, &one.0).cmp(&(other.1, &other.0)));
        clients.truncate(CLIENTS_SHOWN);
        let expiry = |((tenant, peer), not_after_unix): ((String, String), i64)| Expiry {
            kind: Kind::Client,
            name: if tenant.is_empty() { peer } else { format!("{peer} of {tenant}") },
            not_after_unix,
        };
        clients.into_iter().map(expiry).collect()
    }

    /// Makes rows of what was counted.
    fn settle(&mut self) {
        let tenants = self.by_tenant.drain().map(|(tenant, counts)| TenantRow { tenant, counts });
        self.tenants = tenants.collect();
        self.tenants.sort_by(|one, other| {
            let order = |row: &TenantRow| (row.counts.denied, row.counts.requests);
            order(other).cmp(&order(one)).then_with(|| one.tenant.cmp(&other.tenant))
        });
        let mut denials: Vec<_> = self.by_rule.drain().collect();
        denials.sort_by(|one, other| (other.1, &one.0).cmp(&(one.1, &other.0)));
        self.denials_unlisted += denials.iter().skip(ROWS_MAX).map(|(_, requests)| requests).sum::<u64>();
        denials.truncate(ROWS_MAX);
        self.denials = denials.into_iter().map(|(key, requests)| DenialRow { key, requests }).collect();
        let reasons = self.by_reason.drain().map(|(reason, counts)| ReasonRow { reason, counts });
        self.handshakes_failed = reasons.collect();
        self.handshakes_failed.sort_by(|one, other| {
            (other.counts.handshakes, &one.reason).cmp(&(one.counts.handshakes, &other.reason))
        });
        let failures = self.by_source.drain().map(|(source, failures)| FetchRow { source, failures });
        self.fetch_failures = failures.collect();
        self.fetch_failures
            .sort_by(|one, other| (other.failures, &one.source).cmp(&(one.failures, &other.source)));
    }
}

fn text(text: Option<&str>) -> String {
    text.unwrap_or_default().to_owned()
}

/// A map that takes no further key when it is full.
#[derive(Debug)]
struct Bounded<K, V> {
    map: HashMap<K, V>,
    max: usize,
}

impl<K: Eq + Hash, V: Default> Bounded<K, V> {
    fn new(max: usize) -> Self {
        Self { map: HashMap::new(), max }
    }

    /// The value of a key, unless it is new and there is no room.
    fn entry(&mut self, key: K) -> Option<&mut V> {
        if self.map.len() >= self.max && !self.map.contains_key(&key) {
            return None;
        }
        Some(self.map.entry(key).or_default())
    }

    fn drain(&mut self) -> impl Iterator<Item = (K, V)> {
        self.map.drain()
    }
}

/// Tenants, rules and reasons come from configurations, of which a log may have seen several.
const NAMES_MAX: usize = 16_384;
/// Clients are looked at for their expiry. A fleet that has more is looked at in part.
const CLIENTS_MAX: usize = 262_144;
/// As many as somebody writes to in a week.
const CLIENTS_SHOWN: usize = 20;
const ROWS_MAX: usize = 50;
const CHANGES_MAX: usize = 500;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_map_keeps_counting_what_it_has() {
        let mut map: Bounded<u8, u64> = Bounded::new(2);
        for key in [1, 2, 3, 1] {
            if let Some(count) = map.entry(key) {
                *count += 1;
            }
        }
        let mut all: Vec<_> = map.drain().collect();
        all.sort_unstable();
        assert_eq!(all, [(1, 2), (2, 1)]);
    }
}
