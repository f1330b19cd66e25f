use std::num::NonZeroU32;

use super::*;

const MILLI: u64 = 1_000_000;
const SECOND: u64 = 1000 * MILLI;

fn places(places: usize, rate: Option<u32>) -> Rc<Places> {
    let rate = rate.map(|limit| Rate::share(NonZeroU32::new(limit).unwrap(), Duration::from_secs(1), 1));
    let all = Places::new();
    all.set(Rules { places, rate, queue_max: 2, patience: Duration::from_secs(1) });
    all
}

/// What has come of a wait; none while it lasts.
fn outcome(wait: &mut Wait) -> Option<Result<(), NoPlace>> {
    match Pin::new(wait).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(outcome) => Some(outcome.map(drop)),
        Poll::Pending => None,
    }
}

#[test]
fn a_place_is_for_one_and_comes_back() {
    let places = places(2, None);
    let first = places.enter(Rank::Known, 0);
    let second = places.enter(Rank::Known, 0);
    assert!(first.is_some() && second.is_some());
    assert!(places.enter(Rank::Known, 0).is_none());
    drop(first);
    assert!(places.enter(Rank::Known, 0).is_some());
}

#[test]
fn strangers_leave_a_quarter_of_the_places() {
    let places = places(8, None);
    let mut held: Vec<_> = (0..8).map_while(|_| places.enter(Rank::Stranger, 0)).collect();
    assert_eq!(held.len(), 6);
    held.extend((0..8).map_while(|_| places.enter(Rank::Known, 0)));
    assert_eq!(held.len(), 8);
}

#[test]
fn who_is_known_goes_first_and_within_a_rank_who_came_first() {
    let places = places(1, None);
    let held = places.enter(Rank::Stranger, 0).unwrap();
    let mut stranger = places.wait(Rank::Stranger, 0).unwrap();
    let mut known = places.wait(Rank::Known, 0).unwrap();
    let mut later = places.wait(Rank::Known, 0).unwrap();
    let mut cheap = places.wait(Rank::Cheap, 0).unwrap();
    assert!(places.enter(Rank::Cheap, 0).is_none(), "nobody passes who has just come");
    drop(held);
    // What each gets is given back when it is looked at, and goes to the next.
    for wait in [&mut cheap, &mut known, &mut later, &mut stranger] {
        assert_eq!(outcome(wait), Some(Ok(())));
    }
}

#[test]
fn what_is_cheap_takes_nothing_of_the_rate() {
    let places = places(100, Some(4));
    let mut held: Vec<_> = (0..100).map_while(|_| places.enter(Rank::Stranger, 0)).collect();
    assert_eq!(held.len(), 3);
    held.extend((0..100).map_while(|_| places.enter(Rank::Known, 0)));
    assert_eq!(held.len(), 4);
    held.extend((0..10).map_while(|_| places.enter(Rank::Cheap, 0)));
    assert_eq!(held.len(), 14);
    places.charge(0);
    assert!(places.enter(Rank::Known, SECOND / 4).is_none(), "what was not cheap is owed");
    assert!(places.enter(Rank::Known, SECOND / 2).is_some());
}

#[test]
fn waits_and_queues_have_an_end() {
    let places = places(1, None);
    let _held = places.enter(Rank::Known, 0).unwrap();
    let mut first = places.wait(Rank::Known, 0).unwrap();
    let mut second = places.wait(Rank::Known, 500 * MILLI).unwrap();
    assert_eq!(places.wait(Rank::Known, 500 * MILLI).err(), Some(NoPlace::QueueFull));
    places.turn(SECOND);
    assert_eq!((outcome(&mut first), outcome(&mut second)), (Some(Err(NoPlace::Overdue)), None));
    places.turn(1500 * MILLI);
    assert_eq!(outcome(&mut second), Some(Err(NoPlace::Overdue)));
    assert!(places.is_idle());
}

#[test]
fn who_has_gone_takes_no_place_along() {
    let places = places(1, None);
    let held = places.enter(Rank::Known, 0).unwrap();
    let gone = places.wait(Rank::Known, 0).unwrap();
    let let_in = places.wait(Rank::Known, 0).unwrap();
    drop(gone);
    drop(held);
    // The second was let in, and goes before it knows.
    assert!(places.enter(Rank::Known, 0).is_none());
    drop(let_in);
    assert!(places.enter(Rank::Known, 0).is_some());
}

#[test]
fn a_limit_that_goes_lets_everybody_in() {
    let places = places(1, Some(1));
    let _held = places.enter(Rank::Known, 0).unwrap();
    let mut waits = [places.wait(Rank::Stranger, 0).unwrap(), places.wait(Rank::Stranger, 0).unwrap()];
    places.set(Rules::NONE);
    places.turn(0);
    assert!(waits.iter_mut().all(|wait| outcome(wait) == Some(Ok(()))));
}
