//! A source of endpoints, with what it has said last that was good.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ringward_config::{
    Config, Diagnostic, Diagnostics, Discovery, Endpoint, EndpointAddr, EndpointsDns, Severity,
};
use ringward_telemetry::DiscoveryOutcome;
use tokio::time::Instant;

use super::dns::ATTEMPT_MAX;
use super::file;

/// Where the endpoints of a cluster are found, for as long as that is described by the same words.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) discovery: Discovery,
    known: Mutex<Known>,
}

#[derive(Clone, Debug)]
struct Known {
    endpoints: Arc<[Endpoint]>,
    /// When they were found or confirmed.
    confirmed: Option<Confirmed>,
    /// Since when a part of them is not confirmed, while the others are; and that part.
    partial_since: Option<Instant>,
    unconfirmed: Vec<EndpointAddr>,
    /// Why the last attempt failed, if it did.
    trouble: Option<String>,
    /// How many attempts in a row have failed.
    failures: u32,
    /// When DNS is asked again.
    due: Instant,
}

#[derive(Clone, Copy, Debug)]
struct Confirmed {
    at: Instant,
    unix: f64,
}

/// What an attempt has found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) endpoints: Vec<Endpoint>,
    /// For how long that holds, as DNS says.
    pub(super) ttl: Duration,
    /// Of them those that were known before, and that nobody answers for.
    pub(super) unconfirmed: Vec<EndpointAddr>,
}

/// Why an attempt has found nothing that can be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub(super) struct Trouble {
    pub(super) outcome: DiscoveryOutcome,
    pub(super) reason: String,
}

/// What an attempt has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Taken {
    pub(super) outcome: DiscoveryOutcome,
    /// It failed for another reason than the last one, or is the first to succeed after one that failed.
    pub(super) is_news: bool,
}

impl Source {
    /// A source that comes in place of `before`, or that nobody has asked yet. A file is read at once.
    ///
    /// # Errors
    /// What is wrong with the file: there is nothing to stay with.
    pub(crate) fn open(
        config: &Config,
        discovery: &Discovery,
        before: Option<&Arc<Source>>,
        now_unix: f64,
    ) -> Result<Arc<Source>, Diagnostics> {
        if let Some(before) = before.filter(|before| before.discovery == *discovery) {
            return Ok(before.clone());
        }
        let now = Instant::now();
        let mut known = Known::new(now);
        match (discovery, before.map(|before| (&before.discovery, before))) {
            (Discovery::File(named), _) => {
                known.endpoints =
                    file::read(named).map_err(|unread| unread.diagnostics(config, named))?.into();
                known.confirmed = Some(Confirmed { at: now, unix: now_unix });
            }
            // The same endpoints, asked for in another way.
            (Discovery::Dns(dns), Some((Discovery::Dns(last), before))) if dns.query == last.query => {
                known = Known { due: now, ..before.known().clone() };
            }
            (Discovery::Dns(_), _) => {}
        }
        Ok(Arc::new(Source { discovery: discovery.clone(), known: Mutex::new(known) }))
    }

    /// A source in DNS that nobody has asked yet.
    #[cfg(test)]
    pub(super) fn asking(dns: &EndpointsDns) -> Arc<Source> {
        let discovery = Discovery::Dns(dns.clone());
        Arc::new(Source { discovery, known: Mutex::new(Known::new(Instant::now())) })
    }

    /// The last good endpoints.
    pub(crate) fn endpoints(&self) -> Arc<[Endpoint]> {
        self.known().endpoints.clone()
    }

    /// Those that stay if an attempt is answered in part: the last good ones, unless some were not confirmed for too long.
    pub(super) fn to_keep(&self) -> Arc<[Endpoint]> {
        let known = self.known();
        if known.partial_left(&self.discovery, Instant::now()).is_zero() {
            Arc::default()
        } else {
            known.endpoints.clone()
        }
    }

    /// When they were found or confirmed, if they ever were.
    pub(super) fn confirmed_unix(&self) -> Option<f64> {
        self.known().confirmed.map(|confirmed| confirmed.unix)
    }

    /// When it is to be asked again.
    pub(super) fn due(&self) -> Instant {
        self.known().due
    }

    /// Nobody has asked it yet.
    pub(super) fn is_new(&self) -> bool {
        let known = self.known();
        known.confirmed.is_none() && known.failures == 0
    }

    /// Takes what an attempt has found. `roll` is from 0 to 1.
    pub(super) fn take(&self, found: &Result<Found, Trouble>, roll: f64, now_unix: f64) -> Taken {
        let mut known = self.known();
        let (now, before) = (Instant::now(), known.trouble.take());
        let (outcome, is_news) = match found {
            Ok(Found { endpoints, unconfirmed, .. }) => {
                let last = known.confirmed.map_or(now, |confirmed| confirmed.at);
                // What has expired since it was asked does not come back.
                let is_known = |addr: &EndpointAddr| known.endpoints.iter().any(|known| known.addr == *addr);
                let (unconfirmed, expired): (Vec<_>, Vec<_>) =
                    unconfirmed.iter().cloned().partition(is_known);
                let is_good = |endpoint: &&Endpoint| !expired.contains(&endpoint.addr);
                let endpoints: Vec<_> = endpoints.iter().filter(is_good).cloned().collect();
                known.partial_since = (!unconfirmed.is_empty()).then(|| known.partial_since.unwrap_or(last));
                known.unconfirmed = unconfirmed;
                known.confirmed = Some(Confirmed { at: now, unix: now_unix });
                known.failures = 0;
                let is_same = *known.endpoints == *endpoints;
                if !is_same {
                    known.endpoints = endpoints.into();
                }
                let outcome = if is_same { DiscoveryOutcome::Unchanged } else { DiscoveryOutcome::Updated };
                (outcome, before.is_some())
            }
            Err(Trouble { outcome, reason }) => {
                known.failures = known.failures.saturating_add(1);
                known.trouble = Some(reason.clone());
                (*outcome, before.as_ref() != Some(reason))
            }
        };
        known.due =
            now + known.pause(&self.discovery, found.as_ref().map_or(Duration::ZERO, |f| f.ttl), now, roll);
        Taken { outcome, is_news }
    }

    /// When endpoints are used no more unless they are confirmed before, if any are.
    pub(super) fn expires(&self) -> Option<Instant> {
        let known = self.known();
        let Discovery::Dns(EndpointsDns { stale_max: Some(stale_max), .. }) = &self.discovery else {
            return None;
        };
        let all = known.confirmed.filter(|_| !known.endpoints.is_empty()).map(|confirmed| confirmed.at);
        let since = [all, known.partial_since].into_iter().flatten().min()?;
        since.checked_add(*stale_max)
    }

    /// Takes those away that were not confirmed for too long; how many are left, if it took any.
    pub(super) fn expire(&self) -> Option<usize> {
        let mut known = self.known();
        let (now, before) = (Instant::now(), known.endpoints.len());
        if known.left(&self.discovery, now).is_zero() {
            known.endpoints = Arc::default();
        } else if known.partial_left(&self.discovery, now).is_zero() {
            let is_confirmed = |endpoint: &&Endpoint| !known.unconfirmed.contains(&endpoint.addr);
            known.endpoints = known.endpoints.iter().filter(is_confirmed).cloned().collect();
        } else {
            return None;
        }
        (known.partial_since, known.unconfirmed) = (None, Vec::new());
        (known.endpoints.len() < before).then_some(known.endpoints.len())
    }

    /// A poisoned lock is entered anyway: no state in between is invalid.
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    /// Nothing, and it is time to ask.
    fn new(now: Instant) -> Known {
        Known {
            endpoints: Arc::default(),
            confirmed: None,
            partial_since: None,
            unconfirmed: Vec::new(),
            trouble: None,
            failures: 0,
            due: now,
        }
    }

    /// For how long the endpoints may be used without being confirmed.
    fn left(&self, discovery: &Discovery, now: Instant) -> Duration {
        left_since(self.confirmed.map(|confirmed| confirmed.at), discovery, now)
    }

    /// The same for those of them that are not confirmed while the others are.
    fn partial_left(&self, discovery: &Discovery, now: Instant) -> Duration {
        left_since(self.partial_since, discovery, now)
    }

    /// Until DNS is asked again: the TTL within its bounds, and after failures ever longer. A tenth more, by chance, so that several
    /// nodes do not ask together. An answer is to come before endpoints are used no more.
    fn pause(&self, discovery: &Discovery, ttl: Duration, now: Instant, roll: f64) -> Duration {
        // Files are watched.
        let Discovery::Dns(dns) = discovery else { return Duration::ZERO };
        let pause = match self.failures {
            0 => ttl.clamp(dns.ttl_min, dns.ttl_max),
            failures => {
                let doubled = 1_u32.checked_shl(failures - 1).unwrap_or(u32::MAX);
                dns.ttl_min.saturating_mul(doubled).min(dns.ttl_max)
            }
        };
        let pause = pause.mul_f64(1.0 + 0.1 * roll);
        let in_time = |left: Duration| match dns.stale_max {
            Some(stale_max) => left.saturating_sub(ATTEMPT_MAX.min(stale_max / 10)),
            None => left,
        };
        let left = self.left(discovery, now).min(self.partial_left(discovery, now));
        let left = in_time(left);
        if self.endpoints.is_empty() || left.is_zero() { pause } else { pause.min(left) }
    }
}

/// For how long what was confirmed last at this moment may be used.
fn left_since(confirmed: Option<Instant>, discovery: &Discovery, now: Instant) -> Duration {
    match (discovery, confirmed) {
        (Discovery::Dns(dns), Some(confirmed)) => {
            let since = now.duration_since(confirmed);
            dns.stale_max.map_or(Duration::MAX, |stale_max| stale_max.saturating_sub(since))
        }
        (Discovery::Dns(_) | Discovery::File(_), _) => Duration::MAX,
    }
}

impl file::Unread {
    /// As an error of the configuration that names the file.
    fn diagnostics(self, config: &Config, named: &ringward_config::EndpointsFile) -> Diagnostics {
        match self {
            file::Unread::Unreachable(error) => {
                let problem = config.diagnostic(Severity::Error, &named.path.at, error.to_string());
                Diagnostics::from(Diagnostic { help: error.help(), ..problem })
            }
            file::Unread::Refused(problems) => problems,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use ringward_config::{DnsQuery, EndpointsDns, Family};

    use super::*;

    fn config() -> Config {
        let text = "[trust.t]\nca = \"ca.pem\"\n[cluster.c]\nendpoints = \"127.0.0.1:80\"\n[[listener]]\nname = \"l\"\n\
                    bind = \"127.0.0.1:0\"\n[[listener.host]]\nnames = [\"a.test\"]\ndanger_no_policy = true\n\
                    certificate = { chain = \"a.pem\", key = \"a.key\" }\n\
                    client_auth = { mode = \"required\", trust = \"t\" }\n\
                    [[listener.host.route]]\nmatch = { path = \"/\" }\ncluster = \"c\"\n";
        ringward_config::parse(text, Path::new("ringward.toml")).unwrap_or_else(|found| panic!("{found}"))
    }

    fn dns(port: u16, ttl_max: u64, stale_max: Option<u64>) -> Discovery {
        Discovery::Dns(EndpointsDns {
            query: DnsQuery::Addresses { name: "orders.internal".to_owned(), port },
            family: Family::Any,
            ttl_min: Duration::from_secs(5),
            ttl_max: Duration::from_secs(ttl_max),
            stale_max: stale_max.map(Duration::from_secs),
            servers: Vec::new(),
        })
    }

    fn open(discovery: &Discovery, before: Option<&Arc<Source>>) -> Arc<Source> {
        Source::open(&config(), discovery, before, 0.0).unwrap()
    }

    fn found(ttl: u64) -> Result<Found, Trouble> {
        let addr = "10.0.0.1:80".parse::<std::net::SocketAddr>().unwrap().into();
        let endpoint = Endpoint { addr, weight: 1, zone: None, priority: 0 };
        Ok(Found { endpoints: vec![endpoint], ttl: Duration::from_secs(ttl), unconfirmed: Vec::new() })
    }

    fn failed() -> Result<Found, Trouble> {
        Err(Trouble { outcome: DiscoveryOutcome::Unreachable, reason: "nobody answers".to_owned() })
    }

    /// Seconds until it is asked again after this.
    fn pause(source: &Source, taken: &Result<Found, Trouble>, roll: f64) -> f64 {
        source.take(taken, roll, 0.0);
        source.due().duration_since(Instant::now()).as_secs_f64()
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_asked_again_when_the_answer_is_over_and_ever_more_rarely_after_failures() {
        let source = open(&dns(80, 300, None), None);
        assert!(source.is_new() && source.due() <= Instant::now());
        for (ttl, roll, expected) in [(0, 0.0, 5.0), (60, 0.0, 60.0), (60, 1.0, 66.0), (86_400, 0.0, 300.0)] {
            assert_eq!(pause(&source, &found(ttl), roll), expected, "{ttl}");
        }
        for expected in [5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 300.0, 300.0] {
            assert_eq!(pause(&source, &failed(), 0.0), expected);
        }
        for _ in 0..100 {
            assert_eq!(pause(&source, &failed(), 0.0), 300.0);
        }
        assert_eq!(source.endpoints().len(), 1, "what was found last stays");
        assert_eq!(pause(&source, &found(60), 0.0), 60.0);
        assert_eq!(pause(&source, &failed(), 0.0), 5.0, "it begins anew");
    }

    #[tokio::test(start_paused = true)]
    async fn endpoints_expire_at_their_time_and_once() {
        let source = open(&dns(80, 300, Some(20)), None);
        assert_eq!(source.expires(), None, "there are none");
        assert_eq!(pause(&source, &found(60), 1.0), 18.0, "so that an answer comes in time");
        tokio::time::advance(Duration::from_secs(18)).await;
        source.take(&failed(), 0.0, 0.0);
        assert_eq!(source.due().duration_since(Instant::now()), Duration::from_secs(5), "too late anyway");
        assert_eq!(source.expires(), Some(Instant::now() + Duration::from_secs(2)));
        assert_eq!((source.expire(), source.endpoints().len()), (None, 1), "not yet");
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!((source.expire(), source.endpoints().len()), (Some(0), 0));
        assert_eq!((source.expire(), source.expires()), (None, None));
        assert!(!source.take(&failed(), 0.0, 0.0).is_news);
        assert_eq!(source.due().duration_since(Instant::now()), Duration::from_secs(10));
        assert_eq!(source.take(&found(60), 0.0, 0.0).outcome, DiscoveryOutcome::Updated);
    }

    #[tokio::test(start_paused = true)]
    async fn a_part_that_is_not_confirmed_for_too_long_is_not_kept() {
        let source = open(&dns(80, 300, Some(20)), None);
        source.take(&found(5), 0.0, 0.0);
        let partial = || {
            found(5).map(|mut found| {
                found.unconfirmed = vec![found.endpoints[0].addr.clone()];
                let addr = "10.0.0.2:80".parse::<std::net::SocketAddr>().unwrap().into();
                found.endpoints.push(Endpoint { addr, ..found.endpoints[0].clone() });
                found
            })
        };
        tokio::time::advance(Duration::from_secs(8)).await;
        assert_eq!(pause(&source, &partial(), 0.0), 5.0);
        tokio::time::advance(Duration::from_secs(8)).await;
        assert_eq!(pause(&source, &partial(), 0.0), 2.0, "so that an answer comes in time");
        assert_eq!((source.to_keep().len(), source.expire()), (2, None));
        assert_eq!(source.expires(), Some(Instant::now() + Duration::from_secs(4)));
        tokio::time::advance(Duration::from_secs(4)).await;
        assert!(source.to_keep().is_empty() && source.endpoints().len() == 2);
        assert_eq!((source.expire(), source.expire()), (Some(1), None), "the others stay");
        assert_eq!(source.endpoints()[0].addr.to_string(), "10.0.0.2:80");
        assert_eq!(source.to_keep().len(), 1, "all that are left are confirmed");
        source.take(&partial(), 0.0, 0.0);
        assert_eq!(source.endpoints().len(), 1, "whoever was asked before brings nothing back");
    }

    #[test]
    fn what_was_found_outlives_a_change_of_how_it_is_asked_for() {
        let first = open(&dns(80, 300, None), None);
        first.take(&found(60), 0.0, 7.0);
        assert!(Arc::ptr_eq(&first, &open(&dns(80, 300, None), Some(&first))));
        let second = open(&dns(80, 60, None), Some(&first));
        assert_eq!((second.endpoints().len(), second.confirmed_unix()), (1, Some(7.0)));
        let other = open(&dns(81, 300, None), Some(&first));
        assert!(other.is_new() && other.endpoints().is_empty(), "another question has another answer");
    }
}
