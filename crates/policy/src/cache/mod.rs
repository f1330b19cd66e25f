//! The decision cache: gives a decision again to a request that the policy cannot tell from an earlier one.
//!
//! It lies around a [`PolicyWorker`] of any engine and knows of the policy only what the [`CompiledPolicy`] tells: the
//! [projection](Projection) of what it reads. Nothing of it is shared between workers, so nothing in it locks.
//!
//! A decision follows from the policy with its data and from the projected input, and from nothing else. So entries outlive
//! configurations for as long as the policy is the same, and end with it; who is admitted and who the client is are decided
//! before and are no matter of the policy. What could still be wrong is looked for: one hit in [`CacheOptions::verify_every`]
//! is evaluated again, and the first difference ends the cache.
//!
//! Errors are never kept: the next request may have more time.

mod budget;
mod key;
mod projection;
mod remains;
mod store;
mod subjects;
pub(crate) mod trial;

use std::num::NonZeroU32;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::cache::budget::Budget;
use crate::cache::key::KeyBuffer;
use crate::cache::store::Store;
use crate::cache::subjects::Subjects;
use crate::decision::{Decision, DecisionError};
use crate::engine::{CompiledPolicy, PolicyWorker, Query, Reply};
use crate::input::subject::Subject;
use crate::input::view::RequestView;

pub use key::SubjectMark;
pub use projection::Projection;
pub use remains::Remains;

/// Bounds of the decision cache of one policy on one worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheOptions {
    /// Most decisions kept.
    pub entries: usize,
    /// Most bytes that keys and decisions take.
    pub bytes: usize,
    /// One hit in about so many is evaluated again.
    pub verify_every: NonZeroU32,
    /// Most evaluations per second that one client may cause by requests that are not found; `None` for any number.
    pub misses_per_second: Option<NonZeroU32>,
}

/// What became of a request.
#[derive(Debug)]
pub enum Verdict {
    /// The policy has decided, now or earlier.
    Decided(Rc<Decision>),
    /// There is no decision.
    Failed(DecisionError),
    /// A server has to be asked; its answer is for [`CachingWorker::read_answer`].
    Pending(Query),
    /// Not evaluated: the client has caused too many evaluations.
    OverBudget,
}

/// How a cache was used for a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lookup {
    /// The decision was there.
    Hit,
    /// It was not.
    Miss,
    /// It was not looked for: the key would be too long, or so few were found lately that looking costs more than it saves.
    Bypass,
}

/// A verdict and how it came about.
#[derive(Debug)]
pub struct Answer {
    /// What became of the request.
    pub verdict: Verdict,
    /// How the cache was used; `None` where there is none.
    pub lookup: Option<Lookup>,
    /// An entry said something else than the policy, whose word is the verdict. The cache has ended.
    pub mismatch: bool,
}

/// An engine's worker with the cache around it, as one worker of the proxy has it for one policy.
pub struct CachingWorker {
    engine: Box<dyn PolicyWorker>,
    cache: Option<Box<Cache>>,
    /// Also of a policy that cannot be cached: then every request is an evaluation.
    budget: Option<Budget>,
    /// The same for requests that it does not decide: one is never spent for the other.
    budget_beside: Option<Budget>,
}

impl CachingWorker {
    /// The evaluator of a policy, with a cache if there are options for one and the policy can be cached.
    pub fn new(policy: &dyn CompiledPolicy, options: Option<&CacheOptions>) -> Self {
        let cache = match (policy.projection(), options) {
            (Ok(projection), Some(options)) => Some(Box::new(Cache::new(Arc::clone(projection), options))),
            _ => None,
        };
        let rate = options.and_then(|options| options.misses_per_second);
        let budget = || rate.map(|rate| Budget::new(rate.get()));
        Self { engine: policy.worker(), cache, budget: budget(), budget_beside: budget() }
    }

    /// Whether decisions are kept; not if the policy cannot be cached, and not after a mismatch.
    pub fn is_active(&self) -> bool {
        self.cache.is_some()
    }

    /// How many decisions are kept.
    pub fn entries(&self) -> usize {
        self.cache.as_ref().map_or(0, |cache| cache.store.len())
    }

    /// Decides one request, at the time `now`. `subject` gives the client and its connection; it is asked only if the cache
    /// does not know `mark`, which belongs to it, or does not know the request.
    pub fn decide(
        &mut self,
        mark: &mut SubjectMark,
        subject: &mut dyn FnMut() -> Subject,
        request: &RequestView<'_>,
        now: Instant,
    ) -> Answer {
        let Some(cache) = &mut self.cache else {
            let subject = subject();
            if self.budget.as_mut().is_some_and(|budget| !budget.spend(&subject, now)) {
                return Answer { verdict: Verdict::OverBudget, lookup: None, mismatch: false };
            }
            let verdict = match self.engine.ask(&subject, request) {
                Ok(Reply::Decided(decision)) => Verdict::Decided(Rc::new(decision)),
                Ok(Reply::Pending(query)) => Verdict::Pending(query),
                Err(error) => Verdict::Failed(error),
            };
            return Answer { verdict, lookup: None, mismatch: false };
        };
        let answer = cache.decide((&mut *self.engine, &mut self.budget), mark, subject, request, now);
        if answer.mismatch {
            // For good: whatever made the entry wrong may have made others wrong.
            self.cache = None;
        }
        answer
    }

    /// As [`CachingWorker::decide`], for a request that another policy decides: what its client causes here is counted apart, so that it
    /// does not take from what this policy decides elsewhere.
    pub fn decide_beside(
        &mut self,
        mark: &mut SubjectMark,
        subject: &mut dyn FnMut() -> Subject,
        request: &RequestView<'_>,
        now: Instant,
    ) -> Answer {
        std::mem::swap(&mut self.budget, &mut self.budget_beside);
        let answer = self.decide(mark, subject, request, now);
        std::mem::swap(&mut self.budget, &mut self.budget_beside);
        answer
    }

    /// Ends the evaluator. What it has kept is left over, to be let go of little by little.
    pub fn into_remains(self) -> Option<Remains> {
        self.cache.map(|cache| Remains::of(*cache))
    }

    /// The decision that a server's answer to a query of this policy stands for. It is never kept.
    ///
    /// # Errors
    /// Whatever is not plainly a decision is none.
    pub fn read_answer(&mut self, answer: &[u8]) -> Result<Decision, DecisionError> {
        self.engine.read_answer(answer)
    }
}

impl Verdict {
    fn of(result: Result<Decision, DecisionError>) -> Self {
        match result {
            Ok(decision) => Self::Decided(Rc::new(decision)),
            Err(error) => Self::Failed(error),
        }
    }
}

struct Cache {
    projection: Arc<Projection>,
    key: KeyBuffer,
    subjects: Subjects,
    store: Store,
    usefulness: Usefulness,
    sampling: Sampling,
}

impl Cache {
    fn new(projection: Arc<Projection>, options: &CacheOptions) -> Self {
        Self {
            projection,
            key: KeyBuffer::new(),
            subjects: Subjects::new(options.entries, options.bytes / SUBJECTS_SHARE),
            store: Store::new(options.entries, options.bytes - options.bytes / SUBJECTS_SHARE),
            usefulness: Usefulness::default(),
            sampling: Sampling::new(options.verify_every),
        }
    }

    fn decide(
        &mut self,
        (engine, budget): (&mut dyn PolicyWorker, &mut Option<Budget>),
        mark: &mut SubjectMark,
        subject: &mut dyn FnMut() -> Subject,
        request: &RequestView<'_>,
        now: Instant,
    ) -> Answer {
        if self.usefulness.is_paused(now) {
            return self.evaluate((engine, budget), &subject(), request, now, None);
        }
        let Some(number) = self.number(mark, subject) else {
            return self.evaluate((engine, budget), &subject(), request, now, None);
        };
        let Some(key) = self.key.write(&self.projection, number, request) else {
            return self.evaluate((engine, budget), &subject(), request, now, None);
        };
        let hash = self.store.hash(key);
        let Some(kept) = self.store.find(hash, key, request.now_unix) else {
            return self.evaluate((engine, budget), &subject(), request, now, Some(hash));
        };
        self.usefulness.note(true, now);
        if self.sampling.is_due() {
            return verify(kept, engine.decide(&subject(), request));
        }
        Answer { verdict: Verdict::Decided(kept), lookup: Some(Lookup::Hit), mismatch: false }
    }

    /// The number of the subject. `None` if it has none.
    fn number(&mut self, mark: &mut SubjectMark, subject: &mut dyn FnMut() -> Subject) -> Option<u64> {
        if self.projection.subject.is_empty() {
            return Some(0);
        }
        let remembered = self.subjects.remembered(mark);
        remembered.or_else(|| self.subjects.number(&self.projection, &subject(), mark))
    }

    /// Evaluates a request that was not found, under `hash` if it was looked for. Its key is still in the buffer.
    fn evaluate(
        &mut self,
        (engine, budget): (&mut dyn PolicyWorker, &mut Option<Budget>),
        subject: &Subject,
        request: &RequestView<'_>,
        now: Instant,
        hash: Option<u64>,
    ) -> Answer {
        let lookup = Some(if hash.is_some() { Lookup::Miss } else { Lookup::Bypass });
        // What was not looked for is paid for as well: long paths must not be the way around the budget.
        if budget.as_mut().is_some_and(|budget| !budget.spend(subject, now)) {
            // Nor does it count as a look-up: one client's misses must not turn the cache off for all.
            return Answer { verdict: Verdict::OverBudget, lookup, mismatch: false };
        }
        let verdict = Verdict::of(engine.decide(subject, request));
        if let Some(hash) = hash {
            self.usefulness.note(false, now);
            if let Verdict::Decided(decision) = &verdict {
                self.store.offer(hash, self.key.bytes(), decision, request.now_unix);
            }
        }
        Answer { verdict, lookup, mismatch: false }
    }
}

/// Compares an entry with what the policy says now.
fn verify(kept: Rc<Decision>, fresh: Result<Decision, DecisionError>) -> Answer {
    let lookup = Some(Lookup::Hit);
    match fresh {
        Ok(fresh) if fresh == *kept => Answer { verdict: Verdict::Decided(kept), lookup, mismatch: false },
        // A busy machine says nothing about the entry, and the request needs no second opinion.
        Err(DecisionError::TimeBudget) => Answer { verdict: Verdict::Decided(kept), lookup, mismatch: false },
        fresh => Answer { verdict: Verdict::of(fresh), lookup, mismatch: true },
    }
}

/// Whether looking is worth its cost: a key that is never found again costs time and displaces others.
#[derive(Debug, Default)]
struct Usefulness {
    lookups: u32,
    hits: u32,
    /// It was looked once at least. A cache begins empty, and finds nothing before it is asked twice: that says nothing.
    begun: bool,
    paused_until: Option<Instant>,
}

impl Usefulness {
    fn is_paused(&mut self, now: Instant) -> bool {
        match self.paused_until {
            Some(until) if now < until => true,
            Some(_) => {
                self.paused_until = None;
                false
            }
            None => false,
        }
    }

    fn note(&mut self, hit: bool, now: Instant) {
        self.lookups += 1;
        self.hits += u32::from(hit);
        if self.lookups == LOOKUPS_PER_LOOK {
            if self.begun && self.hits < HITS_MIN {
                self.paused_until = Some(now + PAUSE);
            }
            (self.lookups, self.hits, self.begun) = (0, 0, true);
        }
    }
}

/// Chooses the hits that are evaluated again: one in so many on average, at irregular distances, so that a client that asks in
/// turns cannot keep one of its requests from ever being chosen.
#[derive(Debug)]
struct Sampling {
    every: NonZeroU32,
    hits_left: u64,
    random: u64,
}

impl Sampling {
    fn new(every: NonZeroU32) -> Self {
        use std::hash::{BuildHasher, RandomState};
        // Odd, so that it is no fixed point of the generator.
        let mut sampling = Self { every, hits_left: 0, random: RandomState::new().hash_one(every) | 1 };
        sampling.hits_left = sampling.distance();
        sampling
    }

    fn is_due(&mut self) -> bool {
        self.hits_left -= 1;
        if self.hits_left > 0 {
            return false;
        }
        self.hits_left = self.distance();
        true
    }

    /// From 1 to twice the average less 1.
    fn distance(&mut self) -> u64 {
        // xorshift64 (Marsaglia 2003): not for secrets.
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        1 + self.random % (2 * u64::from(self.every.get()) - 1)
    }
}

/// The part of a cache's bytes that its subjects may take is 1 over this.
const SUBJECTS_SHARE: usize = 8;
/// After how many look-ups it is decided whether they were worth it.
const LOOKUPS_PER_LOOK: u32 = 10_000;
/// How many of these must be hits: a look-up costs about a hundredth of an evaluation, a tenth of hits pays for it amply.
const HITS_MIN: u32 = LOOKUPS_PER_LOOK / 10;
/// How long no decisions are looked up if they were not.
const PAUSE: Duration = Duration::from_secs(30);

#[cfg(test)]
mod equivalence;
#[cfg(test)]
mod tests;
