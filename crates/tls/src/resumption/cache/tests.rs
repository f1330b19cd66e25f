use std::hint::black_box;
use std::sync::atomic::AtomicUsize;
use std::sync::{Barrier, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use super::*;
use crate::resumption::{Offer, OfferSlot, Resumption};
use crate::testing::{ManualClock, NOW, Noise};

const NOW_UNIX: i64 = NOW as i64;
const SLOT: usize = STRIDE_MIN * WORD_BYTES;

/// A cache of `entries` slots of 2 KiB.
fn cache(entries: usize) -> SessionCache {
    let cache = SessionCache::new(entries, entries * SLOT);
    assert_eq!(cache.capacity(), entries);
    cache
}

fn scope(number: u8) -> Scope {
    Scope::new("public", "api.example.com", &[number; 32], &Resumption::Off)
}

/// An id as rustls would draw it.
fn id(number: u64) -> SessionId {
    let mut noise = Noise(number);
    std::array::from_fn(|_| noise.next() as u8)
}

/// A session that does not expire.
fn session(value: &[u8]) -> Session {
    Session { auth_time: NOW_UNIX, expires: i64::MAX, value: value.to_vec() }
}

fn put(cache: &SessionCache, number: u64, length: usize) -> bool {
    cache.put(&id(number), &scope(1), &session(&vec![number as u8; length]), NOW_UNIX)
}

fn take(cache: &SessionCache, number: u64) -> Option<Vec<u8>> {
    cache.take(&id(number), &scope(1), NOW_UNIX).map(|session| session.value)
}

#[test]
fn a_session_is_handed_out_once() {
    let cache = cache(64);
    for length in [0, 1, 7, 8, 9, 100, 1100] {
        assert!(put(&cache, 1, length));
        assert_eq!(cache.entries(), 1);
        let taken = cache.take(&id(1), &scope(1), NOW_UNIX);
        assert_eq!(taken, Some(session(&vec![1; length])));
        assert_eq!(take(&cache, 1), None);
        assert_eq!(cache.entries(), 0);
    }
}

#[test]
fn a_session_is_found_by_its_whole_id_alone() {
    let cache = cache(4);
    assert!(put(&cache, 1, 100));
    for position in 0..32 {
        let mut other = id(1);
        other[position] ^= 1;
        assert!(cache.take(&other, &scope(1), NOW_UNIX).is_none());
    }
    assert!(take(&cache, 1).is_some());
}

#[test]
fn a_session_stays_where_another_scope_asks_for_it() {
    let cache = cache(4);
    assert!(put(&cache, 1, 100));
    assert!(cache.take(&id(1), &scope(2), NOW_UNIX).is_none());
    assert!(take(&cache, 1).is_some(), "and can still be used in its own");
    // One id in two scopes: no chance of that, and no mistake either.
    for number in [1, 2] {
        assert!(cache.put(&id(7), &scope(number), &session(&[number]), NOW_UNIX));
    }
    for number in [2, 1] {
        let taken = cache.take(&id(7), &scope(number), NOW_UNIX).map(|session| session.value);
        assert_eq!(taken, Some(vec![number]));
    }
}

#[test]
fn an_expired_session_is_gone() {
    let cache = cache(4);
    for (now, found) in [(NOW_UNIX + 9, true), (NOW_UNIX + 10, false)] {
        let session = Session { expires: NOW_UNIX + 10, ..session(b"s") };
        assert!(cache.put(&id(1), &scope(1), &session, NOW_UNIX));
        assert_eq!(cache.take(&id(1), &scope(1), now).is_some(), found);
        assert_eq!(cache.entries(), 0);
    }
}

#[test]
fn in_a_full_set_the_expired_goes_first_and_then_the_oldest() {
    let cache = cache(4);
    let put = |number, expires| {
        let session = Session { expires, ..session(b"s") };
        assert!(cache.put(&id(number), &scope(1), &session, NOW_UNIX));
    };
    put(1, i64::MAX);
    put(2, i64::MAX);
    put(3, NOW_UNIX);
    put(4, i64::MAX);
    for number in [5, 6, 7] {
        put(number, i64::MAX);
    }
    let found: Vec<_> = (1..=7).filter(|number| take(&cache, *number).is_some()).collect();
    assert_eq!(found, [4, 5, 6, 7], "3 had expired, 1 and 2 were the oldest");
}

#[test]
fn entries_and_bytes_are_bounded() {
    let largest = VALUE * WORD_BYTES + SESSION_BYTES_MAX;
    let cases = [
        ((0, 0), 0, 0),
        ((0, 1 << 20), 0, 0),
        ((3, 1 << 20), 0, 0),
        ((4, 0), 0, 0),
        ((4, 4 * SLOT - 1), 0, 0),
        ((4, 4 * SLOT), 4, SLOT),
        ((7, 1 << 20), 4, largest),
        ((8, 1 << 20), 8, largest),
        ((1000, 1000 * SLOT), 1000, SLOT),
        // Fewer sessions rather than useless ones.
        ((100_000, 1000 * SLOT), 1000, SLOT),
        ((1000, 3_000_000), 1000, 3000),
    ];
    for ((entries_max, bytes_max), capacity, slot) in cases {
        let cache = SessionCache::new(entries_max, bytes_max);
        assert_eq!(
            (cache.capacity(), cache.bytes()),
            (capacity, capacity * slot),
            "{entries_max}, {bytes_max}"
        );
        assert!(cache.bytes() <= bytes_max && cache.capacity() <= entries_max);
        for number in 0..2000 {
            assert_eq!(put(&cache, number, 10), capacity > 0);
        }
        assert!(cache.entries() <= capacity);
        assert!(cache.entries() * 10 >= capacity * 7, "and used: {} of {capacity}", cache.entries());
        if capacity > 0 {
            assert!(put(&cache, 1, slot - VALUE * WORD_BYTES), "a session that just fits");
            assert!(!put(&cache, 2, slot - VALUE * WORD_BYTES + 1), "and one that does not");
            assert_eq!(take(&cache, 1).map(|value| value.len()), Some(slot - VALUE * WORD_BYTES));
        }
        assert!(take(&cache, 2001).is_none());
    }
}

#[test]
fn little_is_lost_before_the_table_is_nearly_full() {
    let cache = cache(4096);
    for number in 0..2048 {
        assert!(put(&cache, number, 10));
    }
    let found = (0..2048).filter(|number| take(&cache, *number).is_some()).count();
    assert!(found > 2048 * 95 / 100, "{found} of 2048 at half capacity");
}

#[test]
fn nothing_of_a_session_stays_behind() {
    let cache = cache(4);
    assert!(put(&cache, 0xaa, 1100) && take(&cache, 0xaa).is_some());
    assert!(cache.words.iter().all(|word| word.load(Ordering::Relaxed) == 0), "taken");
    // Nor of one that had to go: here three shorter ones remain, and a fourth.
    for number in [0xaa, 1, 2, 3, 4] {
        assert!(put(&cache, number, if number == 0xaa { 1100 } else { 10 }));
    }
    let of_the_first = u64::from_ne_bytes([0xaa; 8]);
    assert!(cache.words.iter().all(|word| word.load(Ordering::Relaxed) != of_the_first), "replaced");
}

#[test]
fn a_busy_slot_is_nobody_elses() {
    let cache = cache(4);
    for number in 1..=4 {
        assert!(put(&cache, number, 10));
    }
    let state = |number| {
        let of = |slot: &&[AtomicU64]| holds(slot, &id(number), &scope(1));
        &cache.words.chunks_exact(cache.stride).find(of).unwrap()[STATE]
    };
    // A thread stopped while it had the third.
    let before = state(3).swap(BUSY, Ordering::Relaxed);
    assert!(take(&cache, 3).is_none());
    assert!(put(&cache, 5, 10) && take(&cache, 1).is_none(), "the oldest of the others went");
    for number in [2, 4, 5] {
        state(number).store(BUSY, Ordering::Relaxed);
    }
    assert!(!put(&cache, 6, 10), "no slot is free, and nobody waits for one");
    state(3).store(before, Ordering::Relaxed);
    assert_eq!(take(&cache, 3), Some(vec![3; 10]));
}

#[test]
fn a_returning_session_is_kept_under_the_terms_of_its_connection() {
    let (slot, clock) = (Arc::<OfferSlot>::default(), ManualClock::new());
    let cache = Arc::new(cache(64));
    let store = |accepts, scope| {
        let terms = Terms { accepts, auth_age_max: 3600, slot: slot.clone(), clock: clock.clone() };
        ScopedCache::new(cache.clone(), scope, terms)
    };
    let (here, elsewhere, full) = (store(true, scope(1)), store(true, scope(2)), store(false, scope(1)));
    assert!(!here.put(id(1).to_vec(), b"s".to_vec()), "no auth_time outside of a handshake");
    slot.begin(NOW_UNIX - 100);
    for number in 1..=6 {
        assert!(full.put(id(number).to_vec(), b"s".to_vec()));
    }
    assert!(!here.put(vec![1; 31], b"s".to_vec()), "no id of rustls");
    assert_eq!(slot.end(), Offer::Nothing);

    assert_eq!(here.take(&id(1)).as_deref(), Some(&b"s"[..]));
    assert_eq!(slot.end(), Offer::Session { auth_time: NOW_UNIX - 100 });
    for (store, id) in [(&here, &id(1)[..]), (&elsewhere, &id(2)), (&here, b"nonsense"), (&here, b"")] {
        assert_eq!(store.take(id), None);
        assert_eq!(slot.end(), Offer::Unknown);
    }
    assert_eq!(full.take(&id(3)), None);
    assert_eq!(slot.end(), Offer::Nothing, "one that does not accept does not look");
    assert_eq!(here.get(&id(3)), None, "TLS 1.2 finds nothing");
    clock.set(NOW + 3499);
    assert!(here.take(&id(4)).is_some());
    clock.set(NOW + 3500);
    assert!(here.take(&id(5)).is_none(), "an hour after the proof");
    slot.begin(NOW_UNIX - 100);
    assert!(!here.put(id(7).to_vec(), b"s".to_vec()), "it could not be resumed any more");
}

#[test]
fn debug_tells_no_session() {
    let cache = cache(4);
    assert!(cache.put(&id(1), &scope(1), &session(b"secret"), NOW_UNIX));
    let shown = format!("{cache:?}");
    assert!(shown.contains("capacity: 4") && !shown.contains("secret") && shown.len() < 100, "{shown}");
}

/// Runs `work` on several threads that begin together.
fn on_threads(count: usize, work: impl Fn(usize) + Sync) {
    let start = Barrier::new(count);
    thread::scope(|threads| {
        for number in 0..count {
            let (start, work) = (&start, &work);
            threads.spawn(move || {
                start.wait();
                work(number);
            });
        }
    });
}

#[test]
fn whoever_else_asks_at_the_same_time_gets_nothing() {
    const SESSIONS: u64 = 4000;
    let cache = cache(4 * SESSIONS as usize);
    let stored: Vec<u64> = (0..SESSIONS).filter(|number| put(&cache, *number, 8)).collect();
    let present = cache.entries();
    let taken = Mutex::new(Vec::new());
    on_threads(4, |_| {
        let mine: Vec<u64> =
            stored.iter().copied().filter(|number| take(&cache, *number).is_some()).collect();
        taken.lock().unwrap().extend(mine);
    });
    let mut taken = taken.into_inner().unwrap();
    let count = taken.len();
    taken.sort_unstable();
    taken.dedup();
    assert_eq!(taken.len(), count, "a session was handed out twice");
    assert_eq!(count, present, "and none was lost on the way");
    assert_eq!(cache.entries(), 0);
}

/// Several threads put and take in two scopes, in a table so small that they always meet. Every session says whose
/// it is.
#[test]
fn under_contention_nothing_is_mixed_up_and_bounds_hold() {
    const ROUNDS: u64 = 30_000;
    let cache = cache(32);
    let handed_out: Vec<AtomicUsize> = (0..ROUNDS).map(|_| AtomicUsize::new(0)).collect();
    let next = AtomicUsize::new(0);
    on_threads(4, |thread| {
        let mut noise = Noise(thread as u64);
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed) as u64;
            if number >= ROUNDS {
                break;
            }
            let owner = scope((number % 2) as u8);
            let value = number.to_be_bytes().repeat(1 + noise.below(100));
            cache.put(&id(number), &owner, &session(&value), NOW_UNIX);
            // Ask for one of the last few, in its own scope and the other one.
            let wanted = number.saturating_sub(noise.next() % 40);
            let (own, other) = (scope((wanted % 2) as u8), scope((wanted % 2 + 1) as u8 % 2));
            assert!(cache.take(&id(wanted), &other, NOW_UNIX).is_none());
            if let Some(session) = cache.take(&id(wanted), &own, NOW_UNIX) {
                assert!(session.value.chunks(8).all(|part| part == wanted.to_be_bytes()), "whole");
                handed_out[wanted as usize].fetch_add(1, Ordering::Relaxed);
            }
        }
    });
    assert!(handed_out.iter().all(|count| count.load(Ordering::Relaxed) <= 1), "single use");
    let total: usize = handed_out.iter().map(|count| count.load(Ordering::Relaxed)).sum();
    assert!(total > 1000, "the test would prove nothing: {total} handed out");
    let states = cache.words.chunks_exact(cache.stride).map(|slot| slot[STATE].load(Ordering::Relaxed));
    assert!(states.into_iter().all(|state| state != BUSY), "every slot was given back");
}

#[test]
#[ignore = "measures and prints; meaningful in release mode only"]
fn cost_of_the_cache() {
    const SESSIONS: u64 = 2000;
    const ROUNDS: u32 = 50;
    let cache = cache(20_000);
    let ids: Vec<_> = (0..SESSIONS).map(id).collect();
    let (value, owner) = ([7; 1080], scope(1));
    for threads in [1, 2] {
        let spent = Mutex::new([Duration::ZERO; 3]);
        on_threads(threads, |thread| {
            let share = ids.len() / threads;
            let mine = &ids[thread * share..(thread + 1) * share];
            let mut times = [Duration::ZERO; 3];
            for _ in 0..ROUNDS {
                let values: Vec<_> = mine.iter().map(|_| session(&value)).collect();
                let start = Instant::now();
                for (id, session) in mine.iter().zip(values) {
                    black_box(cache.put(id, &owner, &session, NOW_UNIX));
                }
                times[0] += start.elapsed();
                for time in &mut times[1..] {
                    let start = Instant::now();
                    for id in mine {
                        black_box(cache.take(id, &owner, NOW_UNIX));
                    }
                    *time += start.elapsed();
                }
            }
            let mut spent = spent.lock().unwrap();
            spent.iter_mut().zip(times).for_each(|(spent, time)| *spent += time);
        });
        let [put, take, miss] = spent
            .into_inner()
            .unwrap()
            .map(|time| time.as_nanos() / u128::from(ROUNDS) / u128::from(SESSIONS));
        println!(
            "{threads} thread(s), sessions of 1080 bytes: put {put} ns, take {take} ns, look in vain {miss} ns"
        );
    }
}
