//! Where revocation lists are fetched, when, and what came of it.
//!
//! Pure: told the time and what happened, it says what to fetch next. Three kinds of sources: URLs of the configuration;
//! distribution points of certificates whose chains were verified, on allowed hosts; and the deltas that lists name. Their
//! number is bounded, whatever a CA writes into its certificates. A list stays until a newer one of the same source takes its
//! place, whether it is stale or not: what it revokes stays revoked, and what else it is worth the workers know.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use ringward_config::{CrlMode, RevocationDepth, Trust};
use ringward_tls::PeerPath;

use super::list::List;
use super::source::{Event, Kind, Outcome, PointOf, Source, Task};
use crate::trust::fetch::reach::{AllowList, Reach};
use crate::trust::fetch::url::Url;

/// What a trust bundle says about lists that are fetched.
#[derive(Clone, Debug)]
pub(crate) struct Rules {
    /// Its name.
    pub(crate) bundle: String,
    /// Where its lists are.
    pub(crate) urls: Vec<Url>,
    /// Hosts to which certificates may lead.
    pub(crate) points: Arc<AllowList>,
    /// How often lists are fetched.
    pub(crate) every: Duration,
    /// Largest list.
    pub(crate) bytes_max: u64,
    /// Whether only leaves are looked up.
    pub(crate) leaf_only: bool,
}

/// All sources.
#[derive(Debug)]
pub(crate) struct Sources {
    /// What lists may occupy that the configuration does not name.
    point_bytes_max: usize,
    rules: BTreeMap<String, Rules>,
    by_url: BTreeMap<String, Source>,
    /// Paths seen lately: a change of the rules may concern them, and workers report a path once.
    recent: VecDeque<Arc<PeerPath>>,
    /// Hosts that were refused, so that each is mentioned once.
    refused: BTreeSet<String>,
}

impl Sources {
    /// Puts other rules in force. Sources that stay keep what they have; the URLs of the others are returned.
    pub(crate) fn configure(&mut self, rules: Vec<Rules>, now_unix: i64) -> (Vec<Url>, Vec<Event>) {
        self.rules = rules.into_iter().map(|rules| (rules.bundle.clone(), rules)).collect();
        self.refused.clear();
        let mut wanted: BTreeMap<String, (Url, Vec<&Rules>)> = BTreeMap::new();
        for rules in self.rules.values() {
            for url in &rules.urls {
                wanted.entry(url.to_string()).or_insert_with(|| (url.clone(), Vec::new())).1.push(rules);
            }
        }
        let before: Vec<(String, Url)> =
            self.by_url.iter().map(|(key, source)| (key.clone(), source.url.clone())).collect();
        let kept_points = |source: &Source| {
            source
                .bundles
                .iter()
                .any(|bundle| self.rules.get(bundle).is_some_and(|rules| rules.points.allows(&source.url)))
        };
        self.by_url.retain(|key, source| match source.kind {
            Kind::Configured => wanted.contains_key(key),
            Kind::Point { .. } => kept_points(source),
            Kind::Delta { .. } => true,
        });
        for (key, (url, rules)) in wanted {
            let source =
                self.by_url.entry(key).or_insert_with(|| Source::new(url, Kind::Configured, now_unix));
            source.kind = Kind::Configured;
            source.adopt(&rules, now_unix);
        }
        self.refresh_points_and_deltas(now_unix);
        let mut events = Vec::new();
        for path in self.recent.clone() {
            self.add_points(&path, now_unix, &mut events);
        }
        self.drop_orphans();
        let gone = before.into_iter().filter(|(key, _)| !self.by_url.contains_key(key)).map(|(_, url)| url);
        (gone.collect(), events)
    }

    /// Takes a list from a copy on disk, for a source that is configured, or a distribution point that is allowed. False if
    /// it is neither.
    pub(crate) fn restore(&mut self, url: &Url, point: Option<&PointOf>, list: List, now_unix: i64) -> bool {
        let key = url.to_string();
        if let (None, Some(point)) = (self.by_url.get(&key), point) {
            let allowed = self.rules.get(&point.bundle).is_some_and(|rules| rules.points.allows(url));
            if allowed && point.until_unix > now_unix && self.by_url.len() < SOURCES_MAX {
                let kind = Kind::Point { until_unix: point.until_unix };
                let mut source = Source::new(url.clone(), kind, now_unix);
                source.adopt(&[&self.rules[&point.bundle]], now_unix);
                self.by_url.insert(key.clone(), source);
            }
        }
        let Some(source) = self.by_url.get_mut(&key) else { return false };
        source.list = Some(list);
        // It is fetched nevertheless, since nobody knows how old it is.
        self.add_deltas(&key, now_unix, &mut Vec::new());
        true
    }

    /// A worker has verified this path for the first time.
    pub(crate) fn sighted(&mut self, path: &Arc<PeerPath>, now_unix: i64) -> Vec<Event> {
        let mut events = Vec::new();
        self.add_points(path, now_unix, &mut events);
        if self.recent.len() == RECENT_MAX {
            self.recent.pop_front();
        }
        self.recent.push_back(path.clone());
        events
    }

    /// A CA certificate became known: lists that waited for one are fetched again.
    pub(crate) fn issuer_found(&mut self, now_unix: i64) {
        for source in self.by_url.values_mut().filter(|source| source.wants_issuer) {
            source.wants_issuer = false;
            source.due = source.due.or_at(now_unix, now_unix);
        }
    }

    /// What is to be fetched now, at most `max` of it. Of one server only [`IN_FLIGHT_PER_SERVER_MAX`] are fetched at the same
    /// time, so that one that is dead does not take the turn of the others.
    pub(crate) fn due(&mut self, now_unix: i64, max: usize) -> Vec<Task> {
        let mut in_flight: BTreeMap<String, usize> = BTreeMap::new();
        for source in self.by_url.values().filter(|source| source.is_in_flight) {
            *in_flight.entry(source.url.authority()).or_default() += 1;
        }
        let mut due: Vec<(i64, &String, &Source)> = self
            .by_url
            .iter()
            .filter(|(_, source)| !source.is_in_flight && source.due.is_reached(now_unix))
            .map(|(key, source)| (source.due.unix(), key, source))
            .collect();
        due.sort_by_key(|(due, key, _)| (*due, *key));
        let has_room = |(_, _, source): &(i64, &String, &Source)| {
            let others = in_flight.entry(source.url.authority()).or_default();
            *others += 1;
            *others <= IN_FLIGHT_PER_SERVER_MAX
        };
        let keys: Vec<String> =
            due.into_iter().filter(has_room).map(|(_, key, _)| key.clone()).take(max).collect();
        let keys = keys.into_iter();
        keys.map(|key| {
            let reach = self.reach(&key);
            let source = self.by_url.get_mut(&key).expect("it was listed just now");
            source.is_in_flight = true;
            Task {
                url: source.url.clone(),
                reach,
                validators: source.validators.clone(),
                digest: source.digest,
                bytes_max: source.bytes_max,
                point: match (&source.kind, source.bundles.first()) {
                    (Kind::Point { until_unix }, Some(bundle)) => {
                        Some(PointOf { bundle: bundle.clone(), until_unix: *until_unix })
                    }
                    _ => None,
                },
            }
        })
        .collect()
    }

    /// Takes the outcome of a task. `None` if the source is gone meanwhile, and so the list is not used. `roll` is from 0 to 1.
    pub(crate) fn finished(
        &mut self,
        url: &Url,
        outcome: Outcome,
        now_unix: i64,
        roll: f64,
    ) -> Option<Vec<Event>> {
        let key = url.to_string();
        let of_others = self.point_bytes_beside(&key);
        let source = self.by_url.get_mut(&key)?;
        source.is_in_flight = false;
        let mut events = Vec::new();
        let outcome = match outcome {
            Outcome::New { list, .. }
                if source.kind != Kind::Configured
                    && of_others + list.memory_bytes() > self.point_bytes_max =>
            {
                let max = self.point_bytes_max;
                let reason =
                    format!("with it, lists that certificates name would take more than {max} bytes");
                Outcome::Invalid { reason }
            }
            outcome => outcome,
        };
        let is_success = matches!(outcome, Outcome::Same | Outcome::New { .. });
        match outcome {
            Outcome::Same => {}
            Outcome::New { list, validators, digest } => {
                source.list = Some(list.clone());
                source.validators = validators;
                source.digest = Some(digest);
                events.push(Event::Renewed { url: url.clone(), list });
            }
            Outcome::NoIssuer { reason } => {
                source.wants_issuer = true;
                source.failed(reason, None, now_unix, roll, &mut events);
            }
            Outcome::Invalid { reason } => source.failed(reason, None, now_unix, roll, &mut events),
            Outcome::Unreachable { reason, retry_after } => {
                source.failed(reason, retry_after, now_unix, roll, &mut events);
            }
        }
        if is_success {
            source.succeeded(now_unix, roll, &mut events);
            self.add_deltas(&key, now_unix, &mut events);
        }
        self.drop_orphans();
        Some(events)
    }

    /// Drops distribution points that no certificate needs any more; their URLs.
    pub(crate) fn expire(&mut self, now_unix: i64) -> Vec<Url> {
        let mut gone = Vec::new();
        self.by_url.retain(|_, source| {
            let is_needed = !matches!(source.kind, Kind::Point { until_unix } if until_unix < now_unix);
            if !is_needed {
                gone.push(source.url.clone());
            }
            is_needed
        });
        gone.extend(self.drop_orphans());
        self.recent.retain(|path| path.valid_until >= now_unix);
        gone
    }

    /// All sources, in the order of their URLs.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Source> {
        self.by_url.values()
    }

    /// All lists.
    pub(crate) fn lists(&self) -> impl Iterator<Item = &List> {
        self.by_url.values().filter_map(|source| source.list.as_ref())
    }

    /// The bundles that use lists.
    pub(crate) fn bundles(&self) -> impl Iterator<Item = &String> {
        self.rules.keys()
    }

    /// The bundles that a URL is fetched for.
    pub(crate) fn bundles_of(&self, url: &Url) -> &[String] {
        self.by_url.get(&url.to_string()).map_or(&[], |source| &source.bundles)
    }

    /// Whether every source of the configuration has a list or was tried.
    pub(crate) fn all_tried(&self) -> bool {
        let is_tried = |source: &Source| source.list.is_some() || source.problem.is_some();
        self.by_url.values().filter(|source| source.kind == Kind::Configured).all(is_tried)
    }

    fn add_points(&mut self, path: &PeerPath, now_unix: i64, events: &mut Vec<Event>) {
        let Some(rules) = self.rules.get(&*path.bundle).cloned() else { return };
        if rules.points.is_empty() {
            return;
        }
        let depth = if rules.leaf_only { 1 } else { path.certificates.len() };
        for text in path.certificates.iter().take(depth).flat_map(|certificate| &certificate.crl_urls) {
            // LDAP, and whatever else nobody fetches.
            let Ok(url) = Url::parse(text) else { continue };
            let key = url.to_string();
            match self.by_url.get_mut(&key) {
                Some(Source { kind: Kind::Point { until_unix }, bundles, .. }) => {
                    *until_unix = path.valid_until.max(*until_unix);
                    if !bundles.contains(&rules.bundle) && rules.points.allows(&url) {
                        bundles.push(rules.bundle.clone());
                    }
                }
                Some(_) => {}
                None if !rules.points.allows(&url) => self.refuse(&rules.bundle, &url, events),
                None => {
                    let mut source = Source::new(url, Kind::Point { until_unix: path.valid_until }, now_unix);
                    source.adopt(&[&rules], now_unix);
                    self.add(source, events);
                }
            }
        }
    }

    /// Deltas that the list of this source names: on the same server, or on an allowed host.
    fn add_deltas(&mut self, key: &str, now_unix: i64, events: &mut Vec<Event>) {
        let Some(parent) = self.by_url.get(key) else { return };
        let Some(List::Complete(index)) = &parent.list else { return };
        let named: Vec<Url> = index
            .head()
            .delta_urls
            .iter()
            .take(DELTAS_MAX)
            .filter_map(|text| Url::parse(text).ok())
            .collect();
        let (from, bundles) = (parent.url.clone(), parent.bundles.clone());
        for url in named {
            if self.by_url.contains_key(&url.to_string()) {
                continue;
            }
            let rules: Vec<&Rules> = bundles.iter().filter_map(|bundle| self.rules.get(bundle)).collect();
            if !from.is_same_server(&url) && !rules.iter().any(|rules| rules.points.allows(&url)) {
                let bundle = bundles.first().cloned().unwrap_or_default();
                self.refuse(&bundle, &url, events);
                continue;
            }
            let mut source = Source::new(url, Kind::Delta { of: key.to_owned() }, now_unix);
            source.adopt(&rules, now_unix);
            self.add(source, events);
        }
    }

    /// What the lists occupy that the configuration does not name, without that of `key`.
    fn point_bytes_beside(&self, key: &str) -> usize {
        let others =
            self.by_url.iter().filter(|(other, source)| *other != key && source.kind != Kind::Configured);
        others.filter_map(|(_, source)| source.list.as_ref()).map(List::memory_bytes).sum()
    }

    fn add(&mut self, source: Source, events: &mut Vec<Event>) {
        if self.by_url.len() >= SOURCES_MAX {
            if self.refused.len() < REFUSED_MAX && self.refused.insert(String::new()) {
                events.push(Event::Full(source.url));
            }
            return;
        }
        self.by_url.insert(source.url.to_string(), source);
    }

    fn refuse(&mut self, bundle: &str, url: &Url, events: &mut Vec<Event>) {
        let host = url.host().to_string();
        if self.refused.len() < REFUSED_MAX && self.refused.insert(format!("{bundle} {host}")) {
            events.push(Event::HostRefused { bundle: bundle.to_owned(), host });
        }
    }

    /// After a change of the rules: whom the sources are for, and how often.
    fn refresh_points_and_deltas(&mut self, now_unix: i64) {
        let rules = &self.rules;
        for source in self.by_url.values_mut().filter(|source| matches!(source.kind, Kind::Point { .. })) {
            source
                .bundles
                .retain(|bundle| rules.get(bundle).is_some_and(|rules| rules.points.allows(&source.url)));
            let own: Vec<&Rules> = source.bundles.iter().filter_map(|bundle| rules.get(bundle)).collect();
            source.adopt(&own, now_unix);
        }
        let parents: BTreeMap<String, Vec<String>> =
            self.by_url.iter().map(|(key, source)| (key.clone(), source.bundles.clone())).collect();
        for source in self.by_url.values_mut() {
            let Kind::Delta { of } = &source.kind else { continue };
            let bundles = parents.get(of).cloned().unwrap_or_default();
            let own: Vec<&Rules> = bundles.iter().filter_map(|bundle| rules.get(bundle)).collect();
            source.adopt(&own, now_unix);
        }
    }

    /// Deltas whose list is gone, names them no more, or may not lead there any more.
    fn drop_orphans(&mut self) -> Vec<Url> {
        let is_named = |of: &String, url: &Url| {
            let Some(parent) = self.by_url.get(of) else { return false };
            let Some(List::Complete(index)) = &parent.list else { return false };
            let names_it = index.head().delta_urls.iter().any(|text| Url::parse(text).as_ref() == Ok(url));
            let mut rules = parent.bundles.iter().filter_map(|bundle| self.rules.get(bundle));
            names_it && (parent.url.is_same_server(url) || rules.any(|rules| rules.points.allows(url)))
        };
        let orphans: Vec<(String, Url)> = self
            .by_url
            .iter()
            .filter(|(_, source)| matches!(&source.kind, Kind::Delta { of } if !is_named(of, &source.url)))
            .map(|(key, source)| (key.clone(), source.url.clone()))
            .collect();
        orphans.iter().for_each(|(key, _)| drop(self.by_url.remove(key)));
        orphans.into_iter().map(|(_, url)| url).collect()
    }

    fn reach(&self, key: &str) -> Reach {
        let Some(source) = self.by_url.get(key) else { return Reach::Listed(Arc::default()) };
        match &source.kind {
            Kind::Configured => Reach::Configured,
            Kind::Point { .. } => Reach::Listed(self.points_for(source)),
            Kind::Delta { of } => match self.by_url.get(of) {
                // A delta of a delta is none, so this goes no further.
                Some(parent) if parent.url.is_same_server(&source.url) && parent.kind == Kind::Configured => {
                    Reach::Configured
                }
                _ => Reach::Listed(self.points_for(source)),
            },
        }
    }

    /// The first list that allows the source.
    fn points_for(&self, source: &Source) -> Arc<AllowList> {
        let mut rules = source.bundles.iter().filter_map(|bundle| self.rules.get(bundle));
        rules
            .find(|rules| rules.points.allows(&source.url))
            .map(|rules| rules.points.clone())
            .unwrap_or_default()
    }
}

impl Default for Sources {
    fn default() -> Sources {
        Sources {
            point_bytes_max: POINT_BYTES_MAX,
            rules: BTreeMap::new(),
            by_url: BTreeMap::new(),
            recent: VecDeque::new(),
            refused: BTreeSet::new(),
        }
    }
}

impl Rules {
    /// What a bundle says; `None` if it uses no lists.
    pub(crate) fn of(trust: &Trust) -> Option<Rules> {
        let policy = &trust.revocation;
        (policy.crl != CrlMode::Off).then(|| Rules {
            bundle: trust.name.clone(),
            urls: trust.crl_urls.iter().map(|named| Url::from(&named.url)).collect(),
            points: Arc::new(AllowList::new(&trust.crl_distribution_points)),
            every: policy.refresh,
            bytes_max: policy.crl_bytes_max as u64,
            leaf_only: policy.depth == RevocationDepth::Leaf,
        })
    }
}

/// What lists may occupy that the configuration does not name: ten million entries.
const POINT_BYTES_MAX: usize = 256 << 20;
/// Sources of all kinds. Configured ones are bounded by the configuration and may go beyond.
pub(crate) const SOURCES_MAX: usize = 512;
/// As many as the fetcher asks one server at the same time.
pub(crate) const IN_FLIGHT_PER_SERVER_MAX: usize = 2;
/// A list names one server for its deltas, or two.
const DELTAS_MAX: usize = 4;
/// Paths of 1 to 4 kB.
const RECENT_MAX: usize = 1024;
/// Hosts that are mentioned.
const REFUSED_MAX: usize = 64;

#[cfg(test)]
mod tests;
