//! One URL of revocation lists: what is known of it, and when it is asked next.
//!
//! Pure. Which URLs there are, and whom they are fetched for, is decided in [`super::sources`].

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::list::List;
use super::sources::Rules;
use crate::trust::fetch::Validators;
use crate::trust::fetch::reach::Reach;
use crate::trust::fetch::url::Url;
use crate::trust::schedule::{Backoff, Due, Validity};
use crate::trust::status::CrlStatus;

/// One URL.
#[derive(Debug)]
pub(crate) struct Source {
    /// The URL.
    pub(crate) url: Url,
    pub(super) kind: Kind,
    /// The bundles that it is fetched for.
    pub(crate) bundles: Vec<String>,
    pub(super) every: Duration,
    pub(super) bytes_max: u64,
    pub(super) due: Due,
    pub(super) is_in_flight: bool,
    pub(super) backoff: Backoff,
    pub(super) validators: Validators,
    pub(super) digest: Option<[u8; 32]>,
    /// The newest list.
    pub(crate) list: Option<List>,
    /// When it was last fetched or confirmed, seconds since 1970.
    pub(crate) checked_unix: Option<i64>,
    /// Why the last attempt failed, if it did.
    pub(crate) problem: Option<String>,
    /// The list was there, and no known CA has signed it.
    pub(super) wants_issuer: bool,
}

/// Why it is fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The configuration names it.
    Configured,
    /// Certificates name it.
    Point {
        /// When the last of their paths ends, seconds since 1970.
        until_unix: i64,
    },
    /// A list names it.
    Delta {
        /// Where that list comes from.
        of: String,
    },
}

/// Something to fetch.
#[derive(Clone, Debug)]
pub(crate) struct Task {
    /// From where.
    pub(crate) url: Url,
    /// What that may lead to.
    pub(crate) reach: Reach,
    /// What we have.
    pub(crate) validators: Validators,
    /// SHA-256 of what we have.
    pub(crate) digest: Option<[u8; 32]>,
    /// Largest list.
    pub(crate) bytes_max: u64,
    /// What is kept with the copy of a list that certificates name.
    pub(crate) point: Option<PointOf>,
}

/// For whom, and until when, a distribution point is fetched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PointOf {
    /// The bundle.
    pub(crate) bundle: String,
    /// When the last path ends that it was seen in, seconds since 1970.
    pub(crate) until_unix: i64,
}

/// What came of a [`Task`].
#[derive(Debug)]
pub(crate) enum Outcome {
    /// What we have is what there is.
    Same,
    /// A list that is verified, and not older than what was seen before.
    New {
        /// The list.
        list: List,
        /// For the next time.
        validators: Validators,
        /// SHA-256 of what was fetched.
        digest: [u8; 32],
    },
    /// Signed by a CA that is not known yet.
    NoIssuer {
        /// In words.
        reason: String,
    },
    /// Not fetched.
    Unreachable {
        /// In words.
        reason: String,
        /// When the server wants to be asked again at the earliest.
        retry_after: Option<Duration>,
    },
    /// Not to be believed.
    Invalid {
        /// In words.
        reason: String,
    },
}

/// Something that an operator may want to read.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    /// A list is new.
    Renewed {
        /// Where it is from.
        url: Url,
        /// The list.
        list: List,
    },
    /// It failed, for a reason that was not mentioned yet.
    Failed {
        /// Where.
        url: Url,
        /// Why.
        reason: String,
        /// Seconds until the next attempt.
        retry_in: i64,
    },
    /// It works again.
    Recovered(Url),
    /// A certificate or list leads to a host that is not allowed.
    HostRefused {
        /// The bundle.
        bundle: String,
        /// The host.
        host: String,
    },
    /// There are as many sources as there can be.
    Full(Url),
}

impl Source {
    pub(super) fn new(url: Url, kind: Kind, now_unix: i64) -> Source {
        Source {
            url,
            kind,
            bundles: Vec::new(),
            every: Duration::ZERO,
            bytes_max: 0,
            due: Due::at(now_unix, now_unix),
            is_in_flight: false,
            backoff: Backoff::default(),
            validators: Validators::default(),
            digest: None,
            list: None,
            checked_unix: None,
            problem: None,
            wants_issuer: false,
        }
    }

    /// Follows the rules of the bundles that it is fetched for: as often as the most eager one wants.
    pub(super) fn adopt(&mut self, rules: &[&Rules], now_unix: i64) {
        self.bundles = rules.iter().map(|rules| rules.bundle.clone()).collect();
        self.every = rules.iter().map(|rules| rules.every).min().unwrap_or(self.every);
        self.bytes_max = rules.iter().map(|rules| rules.bytes_max).max().unwrap_or(self.bytes_max);
        let every = i64::try_from(self.every.as_secs()).unwrap_or(i64::MAX);
        self.due = self.due.or_at(now_unix.saturating_add(every), now_unix);
    }

    /// For people and scripts.
    pub(crate) fn status(&self) -> CrlStatus {
        let head = self.list.as_ref().map(List::head);
        CrlStatus {
            bundles: self.bundles.clone(),
            issuer: head.map_or_else(String::new, |head| head.issuer_name.to_string()),
            source: self.url.to_string(),
            number: head.and_then(|head| head.number).map(|number| number.to_string()),
            this_update_unix: head.map(|head| head.this_update_unix),
            next_update_unix: head.map(|head| head.next_update_unix),
            entries: self.list.as_ref().map_or(0, List::entries),
            checked_unix: self.checked_unix,
            next_fetch_unix: Some(self.due.unix()),
            problem: self.problem.clone(),
        }
    }

    pub(super) fn succeeded(&mut self, now_unix: i64, roll: f64, events: &mut Vec<Event>) {
        self.backoff.succeeded();
        self.checked_unix = Some(now_unix);
        self.wants_issuer = false;
        if self.problem.take().is_some() {
            events.push(Event::Recovered(self.url.clone()));
        }
        let validity = self.list.as_ref().map(List::head).map(|head| Validity {
            this_update_unix: head.this_update_unix,
            next_update_unix: head.next_update_unix,
        });
        let never = Validity { this_update_unix: now_unix, next_update_unix: i64::MAX };
        self.due = Due::at(validity.unwrap_or(never).list_due(now_unix, self.every, roll), now_unix);
    }

    pub(super) fn failed(
        &mut self,
        reason: String,
        retry_after: Option<Duration>,
        now_unix: i64,
        roll: f64,
        events: &mut Vec<Event>,
    ) {
        let due_unix = self.backoff.failed(now_unix, self.every.min(RETRY_MAX), retry_after, roll);
        self.due = Due::at(due_unix, now_unix);
        if self.problem.as_ref() != Some(&reason) {
            let retry_in = due_unix.saturating_sub(now_unix);
            events.push(Event::Failed { url: self.url.clone(), reason: reason.clone(), retry_in });
            self.problem = Some(reason);
        }
    }
}

/// A server that is down for long is noticed to be up again within this.
const RETRY_MAX: Duration = Duration::from_secs(900);
