//! One certificate of ours: when its staple is fetched, and what is to be said about it.
//!
//! Pure: told the time and what happened.

use std::sync::Arc;
use std::time::Duration;

use ringward_config::{Location, StapleMode};
use ringward_tls::{Credential, Staple, StapleError};

use super::Unstapled;
use crate::hex;
use crate::load::Loaded;
use crate::trust::fetch::reach::Reach;
use crate::trust::fetch::url::Url;
use crate::trust::responder::Responder;
use crate::trust::schedule::{Backoff, Due, Validity};
use crate::trust::status::StapleStatus;

/// A certificate of the configuration that is to have a staple.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    /// First name of its virtual host.
    pub(crate) host: String,
    /// The certificate.
    pub(crate) credential: Arc<Credential>,
    /// Where the staple comes from.
    pub(crate) source: Source,
    /// Where it is configured.
    pub(crate) at: Location,
}

/// Where a staple comes from.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    /// From a file, read with the configuration.
    File(Option<Arc<Staple>>),
    /// From this responder; none if neither the certificate nor the configuration names one.
    Fetch(Option<Responder>),
}

/// What is known about a certificate's staple.
#[derive(Debug)]
pub(super) struct Plan {
    credential: Arc<Credential>,
    hosts: Vec<String>,
    source: Source,
    /// The last good one that was fetched, if one is to be.
    staple: Option<Arc<Staple>>,
    due: Due,
    is_in_flight: bool,
    backoff: Backoff,
    problem: Option<String>,
    is_revoked: bool,
    is_alarmed: bool,
    has_ended: bool,
}

/// Something that an operator should read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// There is a newer one.
    Renewed {
        /// nextUpdate, seconds since 1970.
        until_unix: i64,
    },
    /// It works again.
    Recovered,
    /// It failed, for a reason that was not mentioned yet.
    Failed {
        /// Why.
        reason: String,
        /// Seconds until the next attempt.
        retry_in: i64,
    },
    /// The CA has revoked our certificate.
    Revoked {
        /// In words.
        reason: String,
    },
    /// Less than a quarter of its life is left.
    RunningOut {
        /// Seconds.
        left: i64,
    },
    /// It is not shown any more.
    Ended,
}

impl Wanted {
    /// The certificates of a configuration that are to have a staple.
    pub(crate) fn of(loaded: &Loaded) -> Vec<Wanted> {
        let mut all = Vec::new();
        for listener in &loaded.config.listeners {
            for (index, host) in listener.hosts.iter().enumerate() {
                let credentials = loaded.materials.credentials.get(&(listener.name.clone(), index));
                // Both in the order of the file: nothing is left out of what was loaded.
                for (certificate, credential) in
                    host.certificates.iter().zip(credentials.into_iter().flatten())
                {
                    let source = match &certificate.staple {
                        // A certificate that demands one was refused when it was loaded.
                        StapleMode::Off => continue,
                        StapleMode::File(_) => {
                            Source::File(loaded.staples.get(credential.fingerprint_sha256()).cloned())
                        }
                        StapleMode::Fetch => {
                            let configured = certificate.ocsp_url.as_ref().map(|named| Url::from(&named.url));
                            Source::Fetch(responder(configured, credential))
                        }
                    };
                    let host = host.names[0].to_string();
                    all.push(Wanted {
                        host,
                        credential: credential.clone(),
                        source,
                        at: certificate.at.clone(),
                    });
                }
            }
        }
        all
    }
}

/// The configured responder, or the first that the certificate names and that can be asked.
fn responder(configured: Option<Url>, credential: &Credential) -> Option<Responder> {
    let own = |url| Responder { url, reach: Reach::Configured };
    let named = || {
        let url = credential.ocsp_urls().iter().find_map(|text| Url::parse(text).ok())?;
        Some(Responder { url, reach: Reach::OwnCertificate })
    };
    configured.map(own).or_else(named)
}

impl Plan {
    /// For a certificate, with what was `known` of it under the configuration before, or else a staple from elsewhere. `roll`
    /// is from 0 to 1.
    pub(super) fn new(
        wanted: Wanted,
        known: Option<Plan>,
        staple: Option<Arc<Staple>>,
        now_unix: i64,
        roll: f64,
    ) -> Plan {
        let Wanted { host, credential, source, .. } = wanted;
        let known = known.filter(|known| {
            // A change of the responder is a reason to ask it.
            let url = |source: &Source| match source {
                Source::Fetch(responder) => responder.as_ref().map(|responder| responder.url.clone()),
                Source::File(_) => None,
            };
            url(&known.source) == url(&source)
        });
        if let Some(known) = known {
            let (source, problem) = match (source, &known.source) {
                // A file that is broken now takes nothing away.
                (Source::File(None), Source::File(Some(last))) => {
                    (Source::File(Some(last.clone())), Some(BROKEN_FILE.to_owned()))
                }
                (source @ Source::File(_), _) => (source, None),
                (source, _) => (source, known.problem.clone()),
            };
            let (is_alarmed, has_ended) = match source {
                Source::File(_) => (false, false),
                Source::Fetch(_) => (known.is_alarmed, known.has_ended),
            };
            return Plan { credential, hosts: vec![host], source, problem, is_alarmed, has_ended, ..known };
        }
        let staple = staple.filter(|_| matches!(source, Source::Fetch(_)));
        let due_unix =
            staple.as_ref().map_or(now_unix, |staple| validity(staple).response_due(now_unix, roll));
        Plan {
            credential,
            hosts: vec![host],
            source,
            staple,
            due: Due::at(due_unix, now_unix),
            is_in_flight: false,
            backoff: Backoff::default(),
            problem: None,
            is_revoked: false,
            is_alarmed: false,
            has_ended: false,
        }
    }

    /// The same certificate serves a further host.
    pub(super) fn also(&mut self, wanted: Wanted) {
        if !self.hosts.contains(&wanted.host) {
            self.hosts.push(wanted.host);
        }
        if !matches!(self.source, Source::Fetch(_)) {
            self.source = wanted.source;
        }
    }

    /// The certificate.
    pub(super) fn credential(&self) -> &Arc<Credential> {
        &self.credential
    }

    /// First names of its virtual hosts.
    pub(super) fn hosts(&self) -> &[String] {
        &self.hosts
    }

    /// The last good staple, wherever it is from.
    pub(super) fn last(&self) -> Option<&Arc<Staple>> {
        match &self.source {
            Source::File(staple) => staple.as_ref(),
            Source::Fetch(_) => self.staple.as_ref(),
        }
    }

    /// The staple that clients see.
    pub(super) fn shown(&self, now_unix: i64) -> Option<&Arc<Staple>> {
        self.last().filter(|staple| now_unix < staple.usable_until_unix())
    }

    /// Whom to ask now; the answer goes to [`Plan::finished`].
    pub(super) fn depart(&mut self, now_unix: i64) -> Option<Responder> {
        let Source::Fetch(Some(responder)) = &self.source else { return None };
        if self.is_in_flight || !self.due.is_reached(now_unix) {
            return None;
        }
        self.is_in_flight = true;
        Some(responder.clone())
    }

    /// Takes an answer. True if another staple is to be shown from now on, or none any more. `roll` is from 0 to 1.
    pub(super) fn finished(
        &mut self,
        outcome: Result<Arc<Staple>, Unstapled>,
        now_unix: i64,
        roll: f64,
    ) -> (bool, Vec<Event>) {
        self.is_in_flight = false;
        match outcome {
            Ok(staple) => self.succeeded(staple, now_unix, roll),
            Err(error) => self.failed(&error, now_unix, roll),
        }
    }

    /// What became worth mentioning with time.
    pub(super) fn look(&mut self, now_unix: i64) -> Vec<Event> {
        let mut events = Vec::new();
        let Some(staple) = self.last().cloned() else { return events };
        let left = staple.usable_until_unix().saturating_sub(now_unix);
        if left <= 0 {
            if !std::mem::replace(&mut self.has_ended, true) {
                match &mut self.source {
                    Source::File(staple) => *staple = None,
                    Source::Fetch(_) => self.staple = None,
                }
                events.push(Event::Ended);
            }
        } else if validity(&staple).is_running_out(now_unix) && !std::mem::replace(&mut self.is_alarmed, true)
        {
            events.push(Event::RunningOut { left });
        }
        events
    }

    /// For people and scripts.
    pub(super) fn status(&self, now_unix: i64) -> StapleStatus {
        let shown = self.shown(now_unix);
        let word = match (self.is_revoked, shown) {
            (true, _) => "revoked",
            (false, Some(_)) => "good",
            (false, None) => "none",
        };
        let (source, nowhere) = match &self.source {
            Source::File(_) => ("file".to_owned(), None),
            Source::Fetch(Some(responder)) => (responder.url.to_string(), None),
            Source::Fetch(None) => ("nowhere".to_owned(), Some(NO_RESPONDER.to_owned())),
        };
        StapleStatus {
            host: self.hosts.first().cloned().unwrap_or_default(),
            certificate_sha256: hex::encode(self.credential.fingerprint_sha256()),
            status: word.to_owned(),
            source,
            required: self.credential.requires_staple(),
            this_update_unix: shown.map(|staple| staple.this_update_unix()),
            next_update_unix: shown.map(|staple| staple.next_update_unix()),
            problem: self.problem.clone().or(nowhere),
        }
    }

    fn succeeded(&mut self, staple: Arc<Staple>, now_unix: i64, roll: f64) -> (bool, Vec<Event>) {
        let mut events = Vec::new();
        self.backoff.succeeded();
        if self.problem.take().is_some() {
            events.push(Event::Recovered);
        }
        self.is_revoked = false;
        // Caches on the way may have an older one.
        let is_newer =
            self.staple.as_ref().is_none_or(|last| staple.this_update_unix() > last.this_update_unix());
        if is_newer {
            events.push(Event::Renewed { until_unix: staple.next_update_unix() });
            (self.is_alarmed, self.has_ended) = (false, false);
            self.staple = Some(staple);
        }
        if let Some(staple) = &self.staple {
            self.due = Due::at(validity(staple).response_due(now_unix, roll), now_unix);
        }
        (is_newer, events)
    }

    fn failed(&mut self, error: &Unstapled, now_unix: i64, roll: f64) -> (bool, Vec<Event>) {
        let asked = match error {
            Unstapled::Unreachable(error) => error.retry_after(),
            Unstapled::Refused(_) | Unstapled::Broken(_) => None,
        };
        // Several attempts fit into what is left of a short life.
        let life = self.staple.as_ref().map_or(Duration::MAX, |staple| {
            let life = staple.next_update_unix().saturating_sub(staple.this_update_unix());
            Duration::from_secs(u64::try_from(life / 16).unwrap_or(0))
        });
        let due_unix = self.backoff.failed(now_unix, life.min(RETRY_MAX), asked, roll);
        self.due = Due::at(due_unix, now_unix);
        let reason = error.to_string();
        let is_new = self.problem.as_ref() != Some(&reason);
        self.problem = Some(reason.clone());
        if let Unstapled::Refused(StapleError::Revoked { .. }) = error {
            // What was said before is not true any more, however long it would have lasted.
            let had_one = self.staple.take().is_some();
            let events = if std::mem::replace(&mut self.is_revoked, true) {
                Vec::new()
            } else {
                vec![Event::Revoked { reason }]
            };
            return (had_one, events);
        }
        let retry_in = due_unix.saturating_sub(now_unix);
        (false, if is_new { vec![Event::Failed { reason, retry_in }] } else { Vec::new() })
    }
}

fn validity(staple: &Staple) -> Validity {
    Validity { this_update_unix: staple.this_update_unix(), next_update_unix: staple.next_update_unix() }
}

/// Why nothing can be fetched.
pub(super) const NO_RESPONDER: &str =
    "the certificate names no OCSP responder; set `ocsp_url` beside it, or leave `staple` away";
const BROKEN_FILE: &str = "what the file holds now cannot be shown, the last staple is";
const RETRY_MAX: Duration = Duration::from_secs(3600);

#[cfg(test)]
mod tests;
