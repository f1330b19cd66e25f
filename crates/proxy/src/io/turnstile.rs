//! Where what can wait lets all others go first: connections that have more to do, and sockets that are to be opened or closed.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    future::Future,
    io,
    num::NonZeroU64,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use monoio::{
    io::OwnedWriteHalf,
    net::{TcpStream, UnixStream},
};

use super::{Driver, Stream, sleep};

/// One worker's.
///
/// A request needs several rounds of the ring, and in each it waits for all that others do in it. So what can wait does so in
/// queues, and each round takes a little of one of them, in turn of those that have something.
pub(crate) struct Turnstile {
    rounds: Rounds,
    /// Connections that have more to do.
    waiting: RefCell<Waiting>,
    /// Those who want to connect.
    connecting: RefCell<Waiting>,
    /// Sockets, in the order in which they were given up.
    closing: RefCell<VecDeque<OwnedWriteHalf<TcpStream>>>,
    /// The queue that is served next.
    next: Cell<Queue>,
    /// Somebody sees to the next round.
    is_attended: Cell<bool>,
}

/// What a round serves.
#[derive(Clone, Copy)]
enum Queue {
    Turns,
    Connects,
    Closes,
}

impl Turnstile {
    /// To be called on the runtime.
    pub(crate) fn new(driver: Driver) -> Rc<Turnstile> {
        Rc::new(Turnstile {
            rounds: Rounds::new(driver),
            waiting: RefCell::default(),
            connecting: RefCell::default(),
            closing: RefCell::default(),
            next: Cell::new(Queue::Turns),
            is_attended: Cell::new(false),
        })
    }

    /// Waits for a turn: until all have run who can, with io_uring also those whose operations have completed meanwhile, and those
    /// who wait longer have had their turn.
    pub(crate) fn pass(self: &Rc<Turnstile>) -> impl Future<Output = ()> {
        self.place(&self.waiting)
    }

    /// Connects in its turn, by `connecting`, and has the socket closed in its turn as well: for those of which one peer can have
    /// us open and give up many at once. `connecting` is not begun before.
    ///
    /// # Errors
    /// Those of `connecting`.
    pub(crate) async fn connect(
        self: &Rc<Turnstile>,
        connecting: impl Future<Output = io::Result<Stream>>,
    ) -> io::Result<Stream> {
        self.place(&self.connecting).await;
        let mut stream = connecting.await?;
        stream.close_in_turn(self);
        Ok(stream)
    }

    fn place<'a>(self: &'a Rc<Turnstile>, queue: &'a RefCell<Waiting>) -> Place<'a> {
        Place { turnstile: self, queue, number: None }
    }

    /// Ends the stream towards the peer and closes the socket, which is work for the kernel: much if it still has something to
    /// be read.
    pub(super) fn close(self: &Rc<Turnstile>, socket: OwnedWriteHalf<TcpStream>) {
        self.closing.borrow_mut().push_back(socket);
        self.attend();
    }

    fn attend(self: &Rc<Turnstile>) {
        if !self.is_attended.replace(true) {
            self.await_round();
        }
    }

    fn await_round(self: &Rc<Turnstile>) {
        let next = self.rounds.next();
        // Who is to be served is dropped with the worker, on its runtime.
        let turnstile = Rc::downgrade(self);
        // A task of its own comes after all others, which is all that there is to it where the driver has nothing to wait for.
        monoio::spawn(async move {
            next.await;
            turnstile.upgrade().iter().for_each(Turnstile::round);
        });
    }

    /// Serves what one round takes: of the queue whose turn it is, or of the next one that has something.
    fn round(self: &Rc<Turnstile>) {
        for _ in 0..3 {
            let queue = self.next.get();
            self.next.set(queue.next());
            if self.serve(queue) {
                break;
            }
        }
        if self.is_empty() {
            self.is_attended.set(false);
        } else {
            self.await_round();
        }
    }

    /// Serves so many of a queue as one round takes; whether there were any.
    fn serve(&self, queue: Queue) -> bool {
        match queue {
            Queue::Turns => self.waiting.borrow_mut().admit(),
            Queue::Connects => {
                let mut connecting = self.connecting.borrow_mut();
                (0..CONNECTS_PER_ROUND).filter(|_| connecting.admit()).count() > 0
            }
            Queue::Closes => self.close_some(),
        }
    }

    fn close_some(&self) -> bool {
        let waiting = self.closing.borrow().len();
        for _ in 0..(CLOSES_PER_ROUND + waiting / CLOSES_SHARE).min(waiting) {
            let socket = self.closing.borrow_mut().pop_front();
            drop(socket);
        }
        waiting > 0
    }

    fn is_empty(&self) -> bool {
        let nobody = |queue: &RefCell<Waiting>| queue.borrow().wakers.is_empty();
        nobody(&self.waiting) && nobody(&self.connecting) && self.closing.borrow().is_empty()
    }
}

impl Queue {
    fn next(self) -> Queue {
        match self {
            Queue::Turns => Queue::Connects,
            Queue::Connects => Queue::Closes,
            Queue::Closes => Queue::Turns,
        }
    }
}

/// Who waits for a turn, in order.
#[derive(Default)]
struct Waiting {
    /// How many places there were before the one at the front.
    first: u64,
    /// `None` for one who has given up.
    wakers: VecDeque<Option<Waker>>,
}

impl Waiting {
    /// Lets the one at the front go on; whether there was one.
    fn admit(&mut self) -> bool {
        while let Some(waker) = self.wakers.pop_front() {
            self.first += 1;
            if let Some(waker) = waker {
                waker.wake();
                return true;
            }
        }
        false
    }

    /// A place at the end; the number, from one, of all that there have been.
    fn enter(&mut self, waker: Waker) -> Option<NonZeroU64> {
        self.wakers.push_back(Some(waker));
        NonZeroU64::new(self.first + self.wakers.len() as u64)
    }

    /// The place of that number, unless it was admitted.
    fn place(&mut self, number: NonZeroU64) -> Option<&mut Option<Waker>> {
        let index = (number.get() - 1).checked_sub(self.first)?;
        self.wakers.get_mut(usize::try_from(index).ok()?)
    }
}

/// A place in the queue; whoever is dropped gives it up.
struct Place<'a> {
    turnstile: &'a Rc<Turnstile>,
    queue: &'a RefCell<Waiting>,
    /// There once it was polled.
    number: Option<NonZeroU64>,
}

impl Future for Place<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut waiting = self.queue.borrow_mut();
        let Some(number) = self.number else {
            let number = waiting.enter(cx.waker().clone());
            drop(waiting);
            self.number = number;
            self.turnstile.attend();
            return Poll::Pending;
        };
        match waiting.place(number) {
            None => Poll::Ready(()),
            Some(place) => {
                place.as_mut().expect("whoever polls has not given up").clone_from(cx.waker());
                Poll::Pending
            }
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if let Some(number) = self.number
            && let Some(place) = self.queue.borrow_mut().place(number)
        {
            *place = None;
        }
    }
}

/// Tells when the driver has looked at what has completed.
///
/// A task of monoio 0.2.4 that just wakes itself is the next one to run, and timers wait until no task has anything to do. So a
/// round is a completion, which comes as soon as completions are looked at.
struct Rounds {
    /// A socket that nobody writes to, so that it can always be written to; none if there were no descriptors left.
    ends: Option<Rc<(UnixStream, UnixStream)>>,
    driver: Driver,
    passed: Cell<u32>,
}

impl Rounds {
    fn new(driver: Driver) -> Rounds {
        Rounds { ends: UnixStream::pair().ok().map(Rc::new), driver, passed: Cell::new(0) }
    }

    fn next(&self) -> impl Future<Output = ()> + use<> {
        let passed = self.passed.get().wrapping_add(1);
        self.passed.set(passed);
        let rests = self.driver == Driver::Epoll && passed.is_multiple_of(ROUNDS_BETWEEN_RESTS);
        let ends = self.ends.clone();
        async move {
            if rests {
                sleep(REST).await;
            } else if let Some(ends) = ends {
                let _ = ends.0.writable(true).await;
            }
        }
    }
}

/// How many connect in a round. Each takes some 20 us of the kernel's time, and the request that follows as much again.
const CONNECTS_PER_ROUND: usize = 4;
/// How many sockets are closed in a round. One with a full receive queue takes a tenth of a millisecond.
const CLOSES_PER_ROUND: usize = 1;
/// And one more for as many as wait, so that they cannot pile up faster than they are closed.
const CLOSES_SHARE: usize = 64;
/// With epoll no timer of the worker fires while somebody has more to do, so that everybody rests at times.
const ROUNDS_BETWEEN_RESTS: u32 = 16;
const REST: Duration = Duration::from_millis(1);

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, io::Read, net::TcpListener};

    use super::*;
    use crate::io::{DriverMode, Stream, run_on_this_thread, spawn};

    #[test]
    fn others_go_first() {
        for mode in [DriverMode::Auto, DriverMode::Epoll] {
            run_on_this_thread(mode, |driver| async move {
                let turnstile = Turnstile::new(driver);
                let ran = Rc::new(Cell::new(0));
                for nth in 1..10 {
                    let ran = ran.clone();
                    spawn(async move { ran.set(nth) });
                }
                turnstile.pass().await;
                assert_eq!(ran.get(), 9);
            })
            .unwrap();
        }
    }

    #[test]
    fn timers_fire_although_somebody_always_has_more_to_do() {
        for mode in [DriverMode::Auto, DriverMode::Epoll] {
            run_on_this_thread(mode, |driver| async move {
                let turnstile = Turnstile::new(driver);
                let fired = Rc::new(Cell::new(false));
                let told = fired.clone();
                spawn(async move {
                    sleep(Duration::from_millis(1)).await;
                    told.set(true);
                });
                let mut passes = 0;
                while !fired.get() {
                    turnstile.pass().await;
                    passes += 1;
                    assert!(passes < 10_000_000, "the timer waits until nobody has anything to do");
                }
            })
            .unwrap();
        }
    }

    /// All that are in the queue, in the order in which they came.
    async fn queue(turnstile: &Rc<Turnstile>, length: usize) -> Vec<Pin<Box<impl Future<Output = ()>>>> {
        let mut places: Vec<_> = (0..length).map(|_| Box::pin(turnstile.pass())).collect();
        poll_fn(|cx| {
            assert!(places.iter_mut().all(|place| place.as_mut().poll(cx).is_pending()));
            Poll::Ready(())
        })
        .await;
        places
    }

    #[test]
    fn one_goes_on_at_a_time_and_in_order() {
        for mode in [DriverMode::Auto, DriverMode::Epoll] {
            run_on_this_thread(mode, |driver| async move {
                let turnstile = Turnstile::new(driver);
                let ran = Rc::new(RefCell::new(Vec::new()));
                for nth in 0..20 {
                    let (turnstile, ran) = (turnstile.clone(), ran.clone());
                    spawn(async move {
                        turnstile.pass().await;
                        ran.borrow_mut().push((nth, "turn"));
                        spawn(async move { ran.borrow_mut().push((nth, "others")) });
                    });
                }
                while ran.borrow().len() < 40 {
                    turnstile.pass().await;
                }
                let expected: Vec<_> = (0..20).flat_map(|nth| [(nth, "turn"), (nth, "others")]).collect();
                assert_eq!(*ran.borrow(), expected);
            })
            .unwrap();
        }
    }

    #[test]
    fn whoever_gives_up_leaves_the_queue() {
        for mode in [DriverMode::Auto, DriverMode::Epoll] {
            run_on_this_thread(mode, |driver| async move {
                let turnstile = Turnstile::new(driver);
                let mut places = queue(&turnstile, 100).await;
                let last = places.pop().unwrap();
                drop(places);
                last.await;
                assert!(turnstile.rounds.passed.get() <= 2, "{} rounds", turnstile.rounds.passed.get());
                // One whose turn it is may give up, too.
                let mut places = queue(&turnstile, 3).await;
                let last = places.pop().unwrap();
                turnstile.waiting.borrow_mut().admit();
                drop(places);
                last.await;
                turnstile.pass().await;
            })
            .unwrap();
        }
    }

    fn rounds(turnstile: &Rc<Turnstile>) -> u32 {
        turnstile.rounds.passed.get()
    }

    #[test]
    fn sockets_are_opened_and_closed_a_few_at_a_time() {
        for mode in [DriverMode::Auto, DriverMode::Epoll] {
            run_on_this_thread(mode, |driver| async move {
                let turnstile = Turnstile::new(driver);
                let listener = TcpListener::bind("127.0.0.1:0").unwrap();
                let (addr, patience) = (listener.local_addr().unwrap(), Duration::from_secs(10));
                let ours = Rc::new(RefCell::new(Vec::new()));
                // The rounds in which each has begun.
                let begun = Rc::new(RefCell::new(Vec::new()));
                for _ in 0..20 {
                    let (turnstile, ours, begun) = (turnstile.clone(), ours.clone(), begun.clone());
                    spawn(async move {
                        let connecting = async {
                            begun.borrow_mut().push(rounds(&turnstile));
                            Stream::connect(addr, patience).await
                        };
                        let stream = turnstile.connect(connecting).await.unwrap();
                        ours.borrow_mut().push(stream);
                    });
                }
                while ours.borrow().len() < 20 {
                    turnstile.pass().await;
                }
                // The last ones may begin before the next round is counted.
                let begun = begun.take();
                assert!(begun[19] - begun[0] >= 20 / CONNECTS_PER_ROUND as u32 - 2, "{begun:?}");
                let theirs: Vec<_> = (0..20).map(|_| listener.accept().unwrap().0).collect();
                ours.borrow_mut().clear();
                assert_eq!(turnstile.closing.borrow().len(), 20);
                let before = rounds(&turnstile);
                while !turnstile.closing.borrow().is_empty() {
                    turnstile.pass().await;
                }
                assert!(rounds(&turnstile) - before >= 20, "{} rounds", rounds(&turnstile) - before);
                for mut peer in theirs {
                    assert_eq!(peer.read(&mut [0]).unwrap(), 0);
                }
            })
            .unwrap();
        }
    }

    #[test]
    fn no_queue_waits_for_the_end_of_another() {
        for mode in [DriverMode::Auto, DriverMode::Epoll] {
            run_on_this_thread(mode, |driver| async move {
                let turnstile = Turnstile::new(driver);
                let connected = Rc::new(Cell::new(0));
                for _ in 0..100 {
                    let (turnstile, connected) = (turnstile.clone(), connected.clone());
                    spawn(async move {
                        let refused = async { Err(io::ErrorKind::ConnectionRefused.into()) };
                        assert!(turnstile.connect(refused).await.is_err());
                        connected.set(connected.get() + 1);
                    });
                }
                turnstile.pass().await;
                turnstile.pass().await;
                assert!(connected.get() < 100, "turns go on");
                while connected.get() < 100 {
                    turnstile.pass().await;
                }
            })
            .unwrap();
        }
    }
}
