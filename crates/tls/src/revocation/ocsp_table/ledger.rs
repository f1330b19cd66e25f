//! The control plane's side of the table: what to ask next, and what to forget.

use super::*;

/// Who decides which questions are asked, and puts answers in. There is one for each table.
#[derive(Debug)]
pub struct OcspLedger {
    table: Arc<OcspTable>,
    grace: Duration,
    entries_max: usize,
    pub(super) plans: HashMap<OcspKey, Plan>,
    /// `(next, key)` of every plan that is not in flight.
    pub(super) agenda: BTreeSet<(i64, OcspKey)>,
    /// New entries, and the keys of those to be forgotten, until [`publish`](OcspLedger::publish).
    fresh: HashMap<OcspKey, Arc<OcspEntry>>,
    gone: Vec<OcspKey>,
    /// The index before the last: a worker that still reads it must not be the one that drops it.
    retired: Option<Arc<HashMap<OcspKey, Arc<OcspEntry>>>>,
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Plan {
    /// When it is looked at next, seconds since 1970. None while a question is out.
    next: Option<i64>,
    /// How often asking has failed in a row.
    failures: u32,
    /// thisUpdate of the answer that is in the table.
    this_update: Option<i64>,
}

/// An answer is not refreshed sooner than this after it came.
const REFRESH_SECONDS_MIN: i64 = 300;
/// Failures in a row after which the time between attempts does not grow any more: 16 minutes.
const FAILURES_COUNTED: u32 = 5;

impl OcspLedger {
    /// The book of `table`, for at most `entries_max` certificates. An answer is used for `grace` after its end
    /// if no newer one can be had.
    pub fn new(table: Arc<OcspTable>, entries_max: usize, grace: Duration) -> Self {
        Self {
            table,
            grace,
            entries_max,
            plans: HashMap::new(),
            agenda: BTreeSet::new(),
            fresh: HashMap::new(),
            gone: Vec::new(),
            retired: None,
        }
    }

    /// Up to `max` questions to ask now, none of them twice: what workers wished for, then what living
    /// connections will need. Each has to be [settled](Self::settle).
    pub fn due(&mut self, max: usize, now_unix: i64) -> Vec<OcspQuery> {
        self.retired = None;
        let mut queries = Vec::new();
        while queries.len() < max {
            let Some(query) = self.table.queue.pop() else { break };
            // It may have been answered since, for another connection of the same client.
            let answered = self.known(&query.key).is_some_and(|entry| now_unix < entry.state().until);
            if !answered && !self.is_in_flight(&query.key) {
                self.depart(query.key);
                queries.push(query);
            }
        }
        while queries.len() < max
            && let Some(&(next, key)) = self.agenda.first()
            && next <= now_unix
        {
            queries.extend(self.look_at(key, now_unix));
        }
        queries
    }

    /// Puts an answer in, or `None` if none came that could be believed. True if a certificate has become
    /// revoked by it, so that living connections have to be looked at.
    ///
    /// A new answer about a known certificate is seen by workers at once, a new certificate after
    /// [`publish`](Self::publish).
    pub fn settle(&mut self, query: &OcspQuery, response: Option<&OcspResponse>, now_unix: i64) -> bool {
        let (key, known) = (query.key, self.known(&query.key));
        let plan = self.plans.entry(key).or_default();
        // An answer that is older than the last one is a recorded one: it may say "good" of what is revoked.
        let response =
            response.filter(|response| plan.this_update.is_none_or(|last| response.this_update_unix >= last));
        let (state, next) = match response {
            Some(response) => {
                (plan.failures, plan.this_update) = (0, Some(response.this_update_unix));
                let state = State::of_response(response, self.grace, now_unix);
                let half_life = ((state.until - now_unix) / 2).max(REFRESH_SECONDS_MIN);
                (state, now_unix.saturating_add(half_life))
            }
            None => {
                let pause = FAILURE_SECONDS << plan.failures.min(FAILURES_COUNTED);
                plan.failures = plan.failures.saturating_add(1);
                let next = now_unix.saturating_add(pause);
                // What may still be used is. Its wish for a new answer stays pending until `next`.
                if known.as_ref().and_then(|entry| entry.answer(now_unix)).is_some() {
                    self.schedule(key, next);
                    return false;
                }
                (State { answer: OcspAnswer::Failed, until: now_unix + FAILURE_SECONDS, grace: 0 }, next)
            }
        };
        self.schedule(key, next);
        let was_revoked = known.as_ref().is_some_and(|entry| entry.state().answer == OcspAnswer::Revoked);
        match known {
            Some(entry) => entry.set(state),
            None => drop(self.fresh.insert(key, Arc::new(OcspEntry::new(query.clone(), state)))),
        }
        state.answer == OcspAnswer::Revoked && !was_revoked
    }

    /// Shows workers what is new, and forgets what nobody needs. Copies the table's index, so it is to be called
    /// after a batch and not after each answer. True if anything changed.
    pub fn publish(&mut self) -> bool {
        if self.fresh.is_empty() && self.gone.is_empty() {
            return false;
        }
        self.retired = None;
        let mut entries = HashMap::clone(&self.table.entries.load());
        for key in self.gone.drain(..) {
            entries.remove(&key);
        }
        entries.extend(self.fresh.drain());
        let excess = entries.len().saturating_sub(self.entries_max);
        if excess > 0 {
            let mut order: Vec<_> = entries.iter().map(|(key, entry)| (rank(entry), *key)).collect();
            order.sort_unstable();
            for (_, key) in &order[..excess] {
                entries.remove(key);
                self.forget(key);
            }
        }
        self.retired = Some(self.table.entries.swap(Arc::new(entries)));
        true
    }

    /// Questions that are out.
    pub fn in_flight(&self) -> usize {
        self.plans.len() - self.agenda.len()
    }

    /// What becomes of an entry whose time has come: a question, a later time, or nothing.
    fn look_at(&mut self, key: OcspKey, now_unix: i64) -> Option<OcspQuery> {
        let Some(entry) = self.known(&key) else {
            self.forget(&key);
            return None;
        };
        let state = entry.state();
        // One reference is the table's and one is ours.
        if Arc::strong_count(&entry) > 2 {
            self.depart(key);
            return Some(entry.query.clone());
        }
        // A client that comes back may wish anew.
        entry.asked.store(false, Ordering::Relaxed);
        let end = state.until + state.grace;
        if now_unix >= end {
            self.forget(&key);
            self.gone.push(key);
        } else {
            self.schedule(key, end);
        }
        None
    }

    fn known(&self, key: &OcspKey) -> Option<Arc<OcspEntry>> {
        self.fresh.get(key).cloned().or_else(|| self.table.entry(key))
    }

    fn is_in_flight(&self, key: &OcspKey) -> bool {
        self.plans.get(key).is_some_and(|plan| plan.next.is_none())
    }

    fn depart(&mut self, key: OcspKey) {
        if let Some(next) = self.plans.entry(key).or_default().next.take() {
            self.agenda.remove(&(next, key));
        }
    }

    fn schedule(&mut self, key: OcspKey, next: i64) {
        self.depart(key);
        self.plans.entry(key).or_default().next = Some(next);
        self.agenda.insert((next, key));
    }

    fn forget(&mut self, key: &OcspKey) {
        self.depart(*key);
        self.plans.remove(key);
    }
}

/// In which order entries have to go when there are too many: last those in use, before them what is revoked, and
/// first what ends soonest.
fn rank(entry: &Arc<OcspEntry>) -> (bool, bool, i64) {
    let state = entry.state();
    // One reference is the old table's and one the new one's; a new entry has one.
    (Arc::strong_count(entry) > 2, state.answer == OcspAnswer::Revoked, state.until)
}
