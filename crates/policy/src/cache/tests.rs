use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::net::SocketAddr;

use super::*;
use crate::cache::projection::Accessor;
use crate::input::sample;
use crate::input::subject::Claims;
use crate::input::view::{ConnectionView, RouteView};
use crate::problem::Problem;
use crate::set::{Limits, PolicySet, Source};

/// An engine that answers what it was told to, and counts how often it was asked.
#[derive(Clone, Default)]
struct Scripted(Rc<Script>);

#[derive(Default)]
struct Script {
    asked: Cell<usize>,
    answers: RefCell<VecDeque<Result<Decision, DecisionError>>>,
}

impl Scripted {
    fn will_answer(&self, answer: Result<Decision, DecisionError>) {
        self.0.answers.borrow_mut().push_back(answer);
    }

    /// How often it was asked since this was asked last.
    fn asked(&self) -> usize {
        self.0.asked.take()
    }
}

impl PolicyWorker for Scripted {
    /// Allows, unless told otherwise.
    fn ask(&mut self, _: &Subject, _: &RequestView<'_>) -> Result<Reply, DecisionError> {
        self.0.asked.set(self.0.asked.get() + 1);
        self.0.answers.borrow_mut().pop_front().unwrap_or_else(|| Ok(allow())).map(Reply::Decided)
    }
}

fn allow() -> Decision {
    Decision { allowed: true, ..Decision::default() }
}

fn options() -> CacheOptions {
    CacheOptions {
        entries: 1024,
        bytes: 1 << 20,
        verify_every: NonZeroU32::new(1_000_000).unwrap(),
        misses_per_second: None,
    }
}

/// A cache around a scripted engine, for a policy that reads client name and path.
struct Bed {
    engine: Scripted,
    worker: CachingWorker,
    mark: SubjectMark,
    start: Instant,
}

impl Bed {
    fn new(options: CacheOptions) -> Self {
        let projection = Projection {
            subject: vec![vec!["client".to_owned(), "name".to_owned()]],
            fields: vec![Accessor::Path],
            ..Projection::default()
        };
        let engine = Scripted::default();
        let cache = Some(Box::new(Cache::new(Arc::new(projection), &options)));
        let budget = options.misses_per_second.map(|rate| Budget::new(rate.get()));
        let worker = CachingWorker { engine: Box::new(engine.clone()), cache, budget, budget_beside: None };
        Self { engine, worker, mark: SubjectMark::default(), start: Instant::now() }
    }

    fn ask(&mut self, path: &str) -> Answer {
        self.ask_at(path, Duration::ZERO)
    }

    fn ask_at(&mut self, path: &str, after: Duration) -> Answer {
        let request = RequestView {
            path,
            now_unix: 1_800_000_000 + i64::try_from(after.as_secs()).unwrap(),
            ..sample::request()
        };
        self.worker.decide(&mut self.mark, &mut sample::subject, &request, self.start + after)
    }

    /// Asks until the answer is kept.
    fn warm(&mut self, path: &str) {
        self.ask(path);
        self.ask(path);
        assert_eq!(self.ask(path).lookup, Some(Lookup::Hit), "{path}");
        self.engine.asked();
    }
}

fn decided(answer: &Answer) -> &Decision {
    match &answer.verdict {
        Verdict::Decided(decision) => decision,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_third_equal_request_is_a_hit() {
    let mut bed = Bed::new(options());
    let lookups = [(); 4].map(|()| bed.ask("/a").lookup.unwrap());
    assert_eq!(lookups, [Lookup::Miss, Lookup::Miss, Lookup::Hit, Lookup::Hit]);
    assert_eq!((bed.engine.asked(), bed.worker.entries()), (2, 1));
    assert_eq!(bed.ask("/b").lookup, Some(Lookup::Miss));
}

#[test]
fn denials_are_kept_as_they_are() {
    let mut bed = Bed::new(options());
    let denial = Decision { status: Some(451), reason: Some("no".into()), ..Decision::default() };
    let undefined = Decision { undefined: true, ..Decision::default() };
    for (path, decision) in [("/denied", denial), ("/undefined", undefined)] {
        (0..2).for_each(|_| bed.engine.will_answer(Ok(decision.clone())));
        bed.warm(path);
        assert_eq!(decided(&bed.ask(path)), &decision);
    }
}

#[test]
fn errors_are_never_kept() {
    let mut bed = Bed::new(options());
    for error in [
        DecisionError::TimeBudget,
        DecisionError::Panic,
        DecisionError::Evaluation("x".to_owned()),
        DecisionError::WrongType("null"),
        DecisionError::InvalidResult("x".to_owned()),
    ] {
        for _ in 0..4 {
            bed.engine.will_answer(Err(error.clone()));
            let answer = bed.ask("/a");
            assert!(matches!(&answer.verdict, Verdict::Failed(found) if *found == error));
            assert_eq!(answer.lookup, Some(Lookup::Miss));
        }
    }
    assert_eq!(bed.worker.entries(), 0);
}

#[test]
fn a_time_to_live_ends_an_entry_and_zero_keeps_none() {
    let mut bed = Bed::new(options());
    for _ in 0..4 {
        bed.engine.will_answer(Ok(Decision { cache_ttl: Some(0), ..allow() }));
        assert_eq!(bed.ask("/never").lookup, Some(Lookup::Miss));
    }
    (0..2).for_each(|_| bed.engine.will_answer(Ok(Decision { cache_ttl: Some(3), ..allow() })));
    bed.warm("/short");
    assert_eq!(bed.ask_at("/short", Duration::from_secs(2)).lookup, Some(Lookup::Hit));
    assert_eq!(bed.ask_at("/short", Duration::from_secs(3)).lookup, Some(Lookup::Miss));
    bed.warm("/long");
    assert_eq!(bed.ask_at("/long", Duration::from_secs(1_000_000)).lookup, Some(Lookup::Hit));
}

#[test]
fn clients_that_the_policy_can_tell_apart_share_nothing() {
    let mut bed = Bed::new(options());
    bed.warm("/a");
    let other = Claims { name: "other", ..sample::claims() };
    let mut subject = || Subject::from_claims(&other, &sample::connection());
    let request = RequestView { path: "/a", ..sample::request() };
    let now = bed.start;
    let answer = bed.worker.decide(&mut SubjectMark::default(), &mut subject, &request, now);
    assert_eq!(answer.lookup, Some(Lookup::Miss));
    // Those that it cannot tell apart do, on whatever connection.
    let twin = Claims { serial: "ff", ..sample::claims() };
    let remote = SocketAddr::from(([198, 51, 100, 1], 1));
    let connection = ConnectionView { remote, ..sample::connection() };
    let mut subject = || Subject::from_claims(&twin, &connection);
    let answer = bed.worker.decide(&mut SubjectMark::default(), &mut subject, &request, now);
    assert_eq!(answer.lookup, Some(Lookup::Hit));
}

#[test]
fn a_hit_on_a_known_connection_does_not_ask_for_the_client() {
    let mut bed = Bed::new(options());
    bed.warm("/a");
    let request = RequestView { path: "/a", ..sample::request() };
    let mut subject = || panic!("the mark says who it is");
    let answer = bed.worker.decide(&mut bed.mark, &mut subject, &request, bed.start);
    assert_eq!(answer.lookup, Some(Lookup::Hit));
}

/// When the table of subjects is full it begins anew, while the decisions stay: none may come to mean another subject.
#[test]
fn a_table_of_subjects_that_begins_anew_gives_nobody_the_decision_of_another() {
    let mut bed = Bed::new(CacheOptions { entries: 4, ..options() });
    let request = RequestView { path: "/a", ..sample::request() };
    let mut marks = vec![SubjectMark::default(); 9];
    for round in 0..3 {
        for (number, mark) in marks.iter_mut().enumerate() {
            let name = format!("client {number}");
            let claims = Claims { name: &name, ..sample::claims() };
            let mut subject = || Subject::from_claims(&claims, &sample::connection());
            for _ in 0..3 {
                // What the engine says names the client.
                let own = Decision { rule: Some(name.as_str().into()), ..allow() };
                bed.engine.0.answers.borrow_mut().clear();
                bed.engine.will_answer(Ok(own.clone()));
                let answer = bed.worker.decide(mark, &mut subject, &request, bed.start);
                assert_eq!(decided(&answer), &own, "round {round}");
            }
        }
    }
}

#[test]
fn sampled_hits_are_evaluated_again() {
    let mut bed = Bed::new(CacheOptions { verify_every: NonZeroU32::new(10).unwrap(), ..options() });
    bed.warm("/a");
    for _ in 0..1000 {
        assert_eq!(bed.ask("/a").lookup, Some(Lookup::Hit));
    }
    let asked = bed.engine.asked();
    assert!((50..200).contains(&asked), "{asked} of 1000");
    assert!(bed.worker.is_active());
}

#[test]
fn a_mismatch_ends_the_cache_and_the_policy_has_its_word() {
    for fresh in [
        Ok(Decision::default()),
        Ok(Decision { reason: Some("changed".into()), ..allow() }),
        Err(DecisionError::Evaluation("x".to_owned())),
        Err(DecisionError::Panic),
    ] {
        let mut bed = Bed::new(CacheOptions { verify_every: NonZeroU32::MIN, ..options() });
        bed.ask("/a");
        bed.ask("/a");
        assert!(!bed.ask("/a").mismatch);
        bed.engine.will_answer(fresh.clone());
        let answer = bed.ask("/a");
        assert!(answer.mismatch);
        match (&answer.verdict, fresh) {
            (Verdict::Decided(decision), Ok(fresh)) => assert_eq!(**decision, fresh),
            (Verdict::Failed(error), Err(fresh)) => assert_eq!(*error, fresh),
            other => panic!("{other:?}"),
        }
        assert!(!bed.worker.is_active());
        bed.engine.asked();
        for _ in 0..4 {
            assert_eq!(bed.ask("/a").lookup, None);
        }
        assert_eq!((bed.engine.asked(), bed.worker.entries()), (4, 0));
    }
}

#[test]
fn a_busy_machine_is_no_mismatch() {
    let mut bed = Bed::new(CacheOptions { verify_every: NonZeroU32::MIN, ..options() });
    bed.ask("/a");
    bed.ask("/a");
    bed.engine.will_answer(Err(DecisionError::TimeBudget));
    let answer = bed.ask("/a");
    assert_eq!((decided(&answer), answer.mismatch), (&allow(), false));
    assert!(bed.worker.is_active());
}

#[test]
fn a_cache_that_is_of_no_use_pauses_and_tries_again() {
    let mut bed = Bed::new(options());
    bed.warm("/a");
    // Three look-ups were made, and the first look is none.
    for number in 3..2 * LOOKUPS_PER_LOOK {
        assert_eq!(bed.ask(&format!("/{number}")).lookup, Some(Lookup::Miss));
    }
    assert_eq!(bed.ask("/a").lookup, Some(Lookup::Bypass));
    assert_eq!(bed.ask_at("/a", PAUSE - Duration::from_nanos(1)).lookup, Some(Lookup::Bypass));
    assert_eq!(bed.ask_at("/a", PAUSE).lookup, Some(Lookup::Hit), "unique paths have not displaced it");
}

#[test]
fn a_tenth_of_hits_is_use_enough() {
    let mut bed = Bed::new(options());
    bed.warm("/a");
    for number in 3..2 * LOOKUPS_PER_LOOK {
        let hit = (LOOKUPS_PER_LOOK..LOOKUPS_PER_LOOK + HITS_MIN).contains(&number);
        bed.ask(&if hit { "/a".to_owned() } else { format!("/{number}") });
    }
    assert_eq!(bed.ask("/a").lookup, Some(Lookup::Hit));
}

/// As many requests as there may be decisions, one after the other: none is found twice in the first ten thousand.
#[test]
fn a_cache_is_given_the_time_to_fill() {
    let mut bed = Bed::new(CacheOptions { entries: 8192, bytes: 16 << 20, ..options() });
    let mut round = || {
        let hits = (0..8000).filter(|n| bed.ask(&format!("/{n}")).lookup == Some(Lookup::Hit)).count();
        hits * 100 / 8000
    };
    let percent = [(); 6].map(|()| round());
    assert!(percent[0] == 0 && percent[5] > 90, "{percent:?}");
}

#[test]
fn a_client_above_its_budget_is_refused_for_what_it_misses_alone() {
    let mut bed = Bed::new(CacheOptions { misses_per_second: NonZeroU32::new(5), ..options() });
    bed.warm("/a");
    let refused = |answer: &Answer| matches!(answer.verdict, Verdict::OverBudget);
    let refusals = (0..10).filter(|number| refused(&bed.ask(&format!("/{number}")))).count();
    assert_eq!(refusals, 10 - 3, "two were spent before");
    bed.engine.asked();
    assert_eq!(bed.ask("/a").lookup, Some(Lookup::Hit));
    // A path too long for a key is no way around it.
    assert!(refused(&bed.ask(&"/x".repeat(400))));
    assert_eq!(bed.engine.asked(), 0);
    let other = Claims { fingerprint_sha256: "ff", ..sample::claims() };
    let mut subject = || Subject::from_claims(&other, &sample::connection());
    let request = RequestView { path: "/b", ..sample::request() };
    let now = bed.start;
    let answer = bed.worker.decide(&mut SubjectMark::default(), &mut subject, &request, now);
    assert!(!refused(&answer), "another client is not affected");
    assert!(!refused(&bed.ask_at("/c", Duration::from_secs(1))), "nor is the same one a second later");
}

/// Of a policy that cannot be cached every request is an evaluation.
#[test]
fn a_budget_counts_without_a_cache_too() {
    let mut bed = Bed::new(CacheOptions { misses_per_second: NonZeroU32::new(5), ..options() });
    bed.worker.cache = None;
    let refused = |answer: &Answer| matches!(answer.verdict, Verdict::OverBudget);
    let refusals = (0..10).filter(|_| refused(&bed.ask("/a"))).count();
    assert_eq!((refusals, bed.engine.asked()), (5, 5));
    assert!(!refused(&bed.ask_at("/a", Duration::from_secs(1))));
}

/// Or one client could turn the cache off for all.
#[test]
fn refused_misses_do_not_pause_the_cache() {
    let mut bed = Bed::new(CacheOptions { misses_per_second: NonZeroU32::new(5), ..options() });
    bed.warm("/a");
    for number in 0..3 * LOOKUPS_PER_LOOK {
        bed.ask(&format!("/{number}"));
    }
    assert_eq!(bed.ask("/a").lookup, Some(Lookup::Hit));
}

#[test]
fn long_keys_and_large_subjects_are_not_looked_up() {
    let mut bed = Bed::new(options());
    let long = "/x".repeat(400);
    for _ in 0..4 {
        assert_eq!(bed.ask(&long).lookup, Some(Lookup::Bypass));
    }
    let name = "n".repeat(64 * 1024);
    let large = Claims { name: &name, ..sample::claims() };
    let mut subject = || Subject::from_claims(&large, &sample::connection());
    for _ in 0..4 {
        let answer =
            bed.worker.decide(&mut SubjectMark::default(), &mut subject, &sample::request(), bed.start);
        assert_eq!(answer.lookup, Some(Lookup::Bypass));
    }
    assert_eq!(bed.engine.asked(), 8);
}

fn compiled(text: &str) -> Arc<dyn CompiledPolicy> {
    let limits = Limits { time_budget: Duration::from_secs(10), ..Limits::default() };
    let set = PolicySet::new(vec![Source::new("p.rego", text.as_bytes())], "data.p.allow", limits);
    crate::compile(&set).unwrap_or_else(|errors| panic!("{errors}"))
}

#[test]
fn what_cannot_be_cached_has_no_cache_and_decides_all_the_same() {
    let policy = compiled("package p\nallow if time.now_ns() > 0\n");
    assert!(policy.projection().is_err());
    let mut worker = CachingWorker::new(&*policy, Some(&options()));
    assert!(!worker.is_active());
    let now = Instant::now();
    let mut ask =
        || worker.decide(&mut SubjectMark::default(), &mut sample::subject, &sample::request(), now);
    for _ in 0..3 {
        let answer = ask();
        assert_eq!((decided(&answer).allowed, answer.lookup), (true, None));
    }
    let plain = compiled("package p\nallow if input.request.path == \"/\"\n");
    assert!(!CachingWorker::new(&*plain, None).is_active(), "turned off");
    assert!(CachingWorker::new(&*plain, Some(&options())).is_active());
    let reasons: &[Problem] = policy.projection().unwrap_err();
    assert_eq!(reasons[0].line, 2);
}

/// What changes with the request and not with its path must not be given to the next request.
#[test]
fn a_second_and_the_age_of_a_proof_are_of_their_time() {
    let policy = compiled("package p\nallow if input.connection.auth_age_seconds < 1001\n");
    let mut worker = CachingWorker::new(&*policy, Some(&options()));
    let mut mark = SubjectMark::default();
    // The sample's proof is 1000 seconds old.
    for (later, allowed) in [(0, true), (0, true), (0, true), (1, false), (1, false), (1, false), (0, true)] {
        let request = RequestView { now_unix: sample::request().now_unix + later, ..sample::request() };
        let answer = worker.decide(&mut mark, &mut sample::subject, &request, Instant::now());
        assert_eq!(decided(&answer).allowed, allowed, "{later} s");
    }
}

/// Labels come from the configuration, which changes while the policy and its cache stay.
#[test]
fn a_route_that_changes_is_another_route() {
    let policy = compiled("package p\nallow if input.route.labels.open == \"yes\"\n");
    let mut worker = CachingWorker::new(&*policy, Some(&options()));
    let mut mark = SubjectMark::default();
    for (value, allowed) in [("yes", true), ("yes", true), ("yes", true), ("no", false), ("yes", true)] {
        let labels = [("open".to_owned(), value.to_owned())];
        let route = RouteView { labels: &labels, ..sample::request().route };
        let request = RequestView { route, ..sample::request() };
        let answer = worker.decide(&mut mark, &mut sample::subject, &request, Instant::now());
        assert_eq!(decided(&answer).allowed, allowed, "{value}");
    }
}
