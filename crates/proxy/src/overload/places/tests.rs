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
    let mut stranger = places.wait(Rank::Stranger, 0, None).unwrap();
    let mut known = places.wait(Rank::Known, 0, None).unwrap();
    let mut later = places.wait(Rank::Known, 0, None).unwrap();
    let mut cheap = places.wait(Rank::Cheap, 0, None).unwrap();
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
    let mut first = places.wait(Rank::Known, 0, None).unwrap();
    let mut second = places.wait(Rank::Known, 500 * MILLI, None).unwrap();
    assert_eq!(places.wait(Rank::Known, 500 * MILLI, None).err(), Some(NoPlace::QueueFull));
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
    let gone = places.wait(Rank::Known, 0, None).unwrap();
    let let_in = places.wait(Rank::Known, 0, None).unwrap();
    drop(gone);
    drop(held);
    // The second was let in, and goes before it knows.
    assert!(places.enter(Rank::Known, 0).is_none());
    drop(let_in);
    assert!(places.enter(Rank::Known, 0).is_some());
}

/// Rule: who has gone is in nobody's way, wherever it stood.
#[test]
fn who_has_gone_makes_room_in_the_queue_at_once() {
    let places = places(1, None);
    let held = places.enter(Rank::Known, 0).unwrap();
    let mut first = places.wait(Rank::Known, 0, None).unwrap();
    for _ in 0..10_000 {
        let second = places.wait(Rank::Known, 0, None).unwrap();
        assert_eq!(places.wait(Rank::Known, 0, None).err(), Some(NoPlace::QueueFull));
        drop(second);
    }
    assert!(places.waiting.borrow()[Rank::Known as usize].len() <= 2 + GONE_KEPT, "and takes no memory");
    assert_eq!(places.counts(), (1, 1));
    let mut last = places.wait(Rank::Known, 0, None).unwrap();
    drop(held);
    assert_eq!((outcome(&mut first), outcome(&mut last)), (Some(Ok(())), Some(Ok(()))));
    assert!(places.is_idle() && places.counts() == (0, 0));
}

/// A client's end of a connection, and our entry of its socket.
fn client() -> (std::os::unix::net::UnixStream, std::os::unix::net::UnixStream, Rc<Deadline>) {
    use std::os::fd::AsRawFd;
    let (theirs, ours) = std::os::unix::net::UnixStream::pair().unwrap();
    let deadline = Rc::new(Rc::new(crate::io::Deadlines::default()).register(ours.as_raw_fd()));
    (theirs, ours, deadline)
}

/// Rule: who has hung up gets no place and takes none of the rate, and leaves the middle of a queue as well.
#[test]
fn who_has_hung_up_waits_no_longer() {
    let places = places(1, Some(2));
    let held = places.enter(Rank::Known, 0).unwrap();
    let (first, _ours, socket) = client();
    let mut gone = places.wait(Rank::Known, 0, Some(&socket)).unwrap();
    let (_second, _ours, socket) = client();
    let mut there = places.wait(Rank::Known, 0, Some(&socket)).unwrap();
    drop((first, held));
    assert_eq!(outcome(&mut gone), Some(Err(NoPlace::Gone)));
    assert_eq!(outcome(&mut there), Some(Ok(())), "the rate has just one left");

    let held = places.enter(Rank::Known, SECOND).unwrap();
    let mut before = places.wait(Rank::Known, SECOND, None).unwrap();
    let (third, _ours, socket) = client();
    let mut middle = places.wait(Rank::Known, SECOND, Some(&socket)).unwrap();
    drop(third);
    (1..20).for_each(|beat| places.beat(SECOND + beat * 50 * MILLI));
    assert_eq!((outcome(&mut before), outcome(&mut middle)), (None, Some(Err(NoPlace::Gone))));
    assert_eq!(places.counts(), (1, 1));
    drop((before, held));
    assert_eq!(places.counts(), (0, 0));
}

#[test]
fn a_limit_that_goes_lets_everybody_in() {
    let places = places(1, Some(1));
    let _held = places.enter(Rank::Known, 0).unwrap();
    let mut waits =
        [places.wait(Rank::Stranger, 0, None).unwrap(), places.wait(Rank::Stranger, 0, None).unwrap()];
    places.set(Rules::NONE);
    places.turn(0);
    assert!(waits.iter_mut().all(|wait| outcome(wait) == Some(Ok(()))));
}
