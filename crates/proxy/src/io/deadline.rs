//! Bounds every wait on a socket, at the price of one store per wait.
//!
//! A [`Deadline`] is a socket's entry in its worker's table. Setting or clearing the time is a store; a sweep over the table, a
//! few times per second, shuts down the sockets whose time has come. That completes the operation in flight (a read with 0
//! bytes, a write with an error), and its owner asks [`Deadline::fired`] why. Compared with a timer per read this costs no
//! timer operation per request and cannot lose a completion (see the rules in [`super`]).
//!
//! Resolution is the sweep's interval: deadlines fire up to twice that late, never early.

use std::{
    cell::{Cell, RefCell},
    os::fd::RawFd,
    rc::Rc,
    task::{Context, Poll, Waker},
};

use monoio::io::{CancelHandle, Canceller};
use slab::Slab;

use super::sys::{self, Shut};

/// The table of one worker.
#[derive(Debug, Default)]
pub(crate) struct Deadlines {
    entries: RefCell<Slab<Rc<Entry>>>,
    /// Milliseconds since the worker started, as of the last sweep.
    now: Cell<u64>,
}

impl Deadlines {
    /// Milliseconds since the worker started; as coarse as the sweep.
    pub(crate) fn now(&self) -> u64 {
        self.now.get()
    }

    /// The time in `millis`, read off a clock that may be an interval old.
    fn after(&self, millis: u64) -> u64 {
        self.now.get().saturating_add(SWEEP_MILLIS).saturating_add(millis)
    }

    /// Enters a socket. The entry ends when the result is dropped, which must be before the socket is closed, unless
    /// [`Deadline::retire`] was called.
    pub(crate) fn register(self: &Rc<Self>, fd: RawFd) -> Deadline {
        self.enter(Some(fd))
    }

    /// A bound on waits that have no socket of their own: [`Deadline::poll_fired`] ends them.
    pub(crate) fn timer(self: &Rc<Self>) -> Deadline {
        self.enter(None)
    }

    fn enter(self: &Rc<Self>, fd: Option<RawFd>) -> Deadline {
        let entry = Rc::new(Entry {
            fd: Cell::new(fd),
            waiting: RefCell::new(None),
            at: Cell::new(NEVER),
            how: Cell::new(Shut::Both),
            fired: Cell::new(false),
            write_at: Cell::new(NEVER),
            limit: Cell::new(NEVER),
            read_shut: Cell::new(false),
            serves: RefCell::new(None),
            abandoned: Cell::new(false),
            cut: Cell::new(false),
            call_off_at: Cell::new(NEVER),
            canceller: RefCell::new(None),
        });
        let key = self.entries.borrow_mut().insert(entry.clone());
        Deadline { entry, key, table: self.clone() }
    }

    /// Advances the clock and fires what is due.
    pub(crate) fn sweep(&self, now: u64) {
        self.now.set(now);
        for (_, entry) in self.entries.borrow().iter() {
            if entry.at.get().min(entry.write_at.get()) <= now {
                entry.fire(now);
            } else if entry.call_off_at.get() <= now {
                entry.call_off();
            }
        }
    }

    /// Shuts down the sockets that serve a peer which has hung up ([`Deadline::serve`], [`Deadline::serve_until_broken`]). One system call for each that
    /// serves, so it runs less often than [`Deadlines::sweep`].
    pub(crate) fn sweep_abandoned(&self) {
        for (_, entry) in self.entries.borrow().iter() {
            let abandoned = entry.serves.borrow().as_ref().is_some_and(Served::is_over);
            if abandoned {
                entry.serves.take();
                entry.abandoned.set(true);
                entry.shut_socket(Shut::Both);
                entry.wake();
            }
        }
    }
}

/// One socket's bound on its waits.
#[derive(Debug)]
pub(crate) struct Deadline {
    entry: Rc<Entry>,
    key: usize,
    table: Rc<Deadlines>,
}

impl Deadline {
    /// The operations from now on must end within `millis`, else the socket is shut down as `how` says.
    pub(crate) fn set(&self, millis: u64, how: Shut) {
        self.entry.at.set(self.table.after(millis).min(self.entry.limit.get()));
        self.entry.how.set(how);
    }

    /// The operations that are bounded from now on, all of them together, must end within `millis`. `None`: no limit.
    pub(crate) fn limit(&self, millis: Option<u64>) {
        self.entry.limit.set(millis.map_or(NEVER, |millis| self.table.after(millis)));
    }

    /// The same limit as that of `other`.
    pub(crate) fn limit_like(&self, other: &Deadline) {
        self.entry.limit.set(other.entry.limit.get());
    }

    /// Whether the time of the limit has come.
    pub(crate) fn is_limit_reached(&self) -> bool {
        self.entry.limit.get() <= self.table.now()
    }

    /// No bound until [`Deadline::set`].
    pub(crate) fn clear(&self) {
        self.entry.at.set(NEVER);
    }

    /// Whether the time came; stays true until [`Deadline::rearm`].
    pub(crate) fn fired(&self) -> bool {
        self.entry.fired.get()
    }

    /// Forgets that the time came, where that is not the end.
    pub(crate) fn rearm(&self) {
        self.entry.fired.set(false);
    }

    /// Milliseconds since the worker started; as coarse as the sweep.
    pub(crate) fn now(&self) -> u64 {
        self.table.now()
    }

    /// Calls an operation off after `millis`: it ends as [`is_called_off`] tells, unless it has completed before, and the
    /// socket stays as it is. Ends with [`Deadline::call_nothing_off`].
    pub(super) fn call_off_after(&self, millis: u64) -> CancelHandle {
        self.entry.call_off_at.set(self.table.after(millis));
        self.entry.canceller.borrow_mut().get_or_insert_default().handle()
    }

    /// Calls the operation off now that [`Deadline::call_off_after`] was asked for.
    pub(crate) fn call_off(&self) {
        self.entry.call_off();
    }

    pub(super) fn call_nothing_off(&self) {
        self.entry.call_off_at.set(NEVER);
    }

    /// While `other` is set, this socket works for that one alone: when the peer of `other` hangs up, this one is shut down (and
    /// a timer ends its wait), so that nobody waits for an answer that nobody wants. `other` must not be dropped before the setting ends.
    pub(crate) fn serve(&self, other: Option<&Deadline>) {
        self.serve_until(other, Served::HungUp);
    }

    /// The same, but a peer of `other` that only sends no more is served to the end: this one is shut down when the connection
    /// is reset, or was [`Deadline::cut`] in both directions.
    pub(crate) fn serve_until_broken(&self, other: Option<&Deadline>) {
        self.serve_until(other, Served::Broken);
    }

    fn serve_until(&self, other: Option<&Deadline>, served: impl FnOnce(Rc<Entry>) -> Served) {
        *self.entry.serves.borrow_mut() = other.map(|deadline| served(deadline.entry.clone()));
    }

    /// Whether the peer has hung up, at the price of a system call.
    pub(crate) fn hung_up(&self) -> bool {
        self.entry.hung_up()
    }

    /// As [`Deadline::set`] for the writes alone, which then do not share their time with a read in the other direction.
    pub(crate) fn set_write(&self, millis: u64) {
        self.entry.write_at.set(self.table.after(millis).min(self.entry.limit.get()));
    }

    /// No bound on writes until [`Deadline::set_write`].
    pub(crate) fn clear_write(&self) {
        self.entry.write_at.set(NEVER);
    }

    /// Ends the wait now, as if its time had come, but without [`Deadline::fired`].
    pub(crate) fn cut(&self, how: Shut) {
        self.entry.shut(how, self.table.now());
        if how == Shut::Both {
            self.entry.cut.set(true);
            self.entry.wake();
        }
    }

    /// Ready once both directions were [`Deadline::cut`], for who may have no operation on the socket that would notice. For the
    /// task of [`Deadline::poll_fired`] alone.
    pub(crate) fn poll_cut(&self, cx: &Context<'_>) -> Poll<()> {
        if self.entry.cut.get() {
            return Poll::Ready(());
        }
        self.entry.wake_later(cx);
        Poll::Pending
    }

    /// Whether nothing waits to be read, not even the end, at the price of a system call.
    pub(crate) fn is_quiet(&self) -> bool {
        self.entry.fd.get().is_none_or(sys::is_quiet)
    }

    /// Has the connection reset when it is closed: the peer learns no less that nobody waits for it, and the port can be used
    /// again at once, not a minute later (RFC 9293 §3.3.2, TIME-WAIT).
    pub(crate) fn reset_when_closed(&self) {
        if let Some(fd) = self.entry.fd.get() {
            sys::reset_when_closed(fd);
        }
    }

    /// The socket is about to be closed: its number may soon be another's.
    pub(crate) fn retire(&self) {
        self.entry.fd.set(None);
    }

    /// Ready once the time has come, or once nobody is left to be served ([`Deadline::serve`]). For one task at a time.
    pub(crate) fn poll_fired(&self, cx: &Context<'_>) -> Poll<()> {
        if self.fired() || self.entry.abandoned.get() {
            return Poll::Ready(());
        }
        self.entry.wake_later(cx);
        Poll::Pending
    }
}

impl Drop for Deadline {
    fn drop(&mut self) {
        self.table.entries.borrow_mut().remove(self.key);
    }
}

/// Whether this is how a called off operation ends.
pub(crate) fn is_called_off(error: &std::io::Error) -> bool {
    error.raw_os_error() == Some(libc::ECANCELED)
}

struct Entry {
    /// The socket, if there is one that is not closed.
    fd: Cell<Option<RawFd>>,
    /// Who waits in [`Deadline::poll_fired`] or [`Deadline::poll_cut`].
    waiting: RefCell<Option<Waker>>,
    at: Cell<u64>,
    how: Cell<Shut>,
    fired: Cell<bool>,
    write_at: Cell<u64>,
    /// No wait goes beyond this.
    limit: Cell<u64>,
    /// We have shut down the receiving side ourselves.
    read_shut: Cell<bool>,
    serves: RefCell<Option<Served>>,
    /// The peer that it served has hung up.
    abandoned: Cell<bool>,
    /// Both directions were cut.
    cut: Cell<bool>,
    call_off_at: Cell<u64>,
    canceller: RefCell<Option<Canceller>>,
}

/// For whom a socket works, and until when.
enum Served {
    /// Until its peer sends no more.
    HungUp(Rc<Entry>),
    /// Until its connection is broken.
    Broken(Rc<Entry>),
}

impl Served {
    /// At the price of a system call.
    fn is_over(&self) -> bool {
        match self {
            Served::HungUp(entry) => entry.hung_up(),
            Served::Broken(entry) => entry.cut.get() || entry.fd.get().is_some_and(sys::is_broken),
        }
    }
}

impl Entry {
    fn fire(&self, now: u64) {
        let how = if self.write_at.get() <= now { Shut::Both } else { self.how.get() };
        self.fired.set(true);
        self.shut(how, now);
        self.wake();
    }

    fn wake_later(&self, cx: &Context<'_>) {
        let mut waiting = self.waiting.borrow_mut();
        if !waiting.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            *waiting = Some(cx.waker().clone());
        }
    }

    fn wake(&self) {
        if let Some(waker) = self.waiting.take() {
            waker.wake();
        }
    }

    /// Shuts down. What does not end although its receiving side is shut (a write that the peer does not take, a queue that the
    /// peer keeps filling) is shut down altogether a while later, unless a new deadline is set by then.
    fn shut(&self, how: Shut, now: u64) {
        self.write_at.set(NEVER);
        if how == Shut::Read {
            self.read_shut.set(true);
            self.how.set(Shut::Both);
            self.at.set(now.saturating_add(GRACE_MILLIS));
        } else {
            self.at.set(NEVER);
        }
        self.shut_socket(how);
    }

    fn shut_socket(&self, how: Shut) {
        if let Some(fd) = self.fd.get() {
            sys::shutdown(fd, how);
        }
    }

    fn hung_up(&self) -> bool {
        self.fd.get().is_some_and(|fd| sys::hung_up(fd, self.read_shut.get()))
    }

    fn call_off(&self) {
        self.call_off_at.set(NEVER);
        let canceller = self.canceller.take();
        // Cancelling gives back a canceller for the next operation.
        *self.canceller.borrow_mut() = canceller.map(Canceller::cancel);
    }
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Entry").field("fd", &self.fd.get()).field("at", &self.at).finish_non_exhaustive()
    }
}

/// How often the table is to be swept: fine enough for timeouts of a second, and 20 wake-ups per second cost nothing.
pub(crate) const SWEEP_MILLIS: u64 = 50;
/// How long a connection may go on whose receiving side was shut down.
const GRACE_MILLIS: u64 = 10_000;
const NEVER: u64 = u64::MAX;

#[cfg(test)]
mod tests {
    use std::{
        io::{Read, Write},
        net::{TcpListener, TcpStream},
        os::fd::AsRawFd,
    };

    use super::*;

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let ours = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (ours, listener.accept().unwrap().0)
    }

    #[test]
    fn a_due_deadline_ends_the_read_and_says_so() {
        let (mut ours, _theirs) = pair();
        let table = Rc::new(Deadlines::default());
        let deadline = table.register(ours.as_raw_fd());
        deadline.set(100, Shut::Read);
        table.sweep(99 + SWEEP_MILLIS);
        assert!(!deadline.fired());
        table.sweep(100 + SWEEP_MILLIS);
        assert!(deadline.fired());
        assert_eq!(ours.read(&mut [0]).unwrap(), 0);
    }

    #[test]
    fn a_cleared_deadline_never_fires() {
        let (ours, _theirs) = pair();
        let table = Rc::new(Deadlines::default());
        let deadline = table.register(ours.as_raw_fd());
        deadline.set(1, Shut::Both);
        deadline.clear();
        table.sweep(u64::MAX - 1);
        assert!(!deadline.fired());
    }

    #[test]
    fn waits_end_at_the_limit_and_not_before() {
        let table = Rc::new(Deadlines::default());
        let (timer, other) = (table.timer(), table.timer());
        timer.limit(Some(100));
        other.limit_like(&timer);
        for (number, wait) in [(0, 1000), (1, 1000), (2, 10)] {
            timer.set(wait, Shut::Both);
            other.set_write(wait);
            table.sweep(40 * number);
            assert!(!timer.fired() && !other.fired() && !timer.is_limit_reached(), "a wait that is renewed");
        }
        timer.set(1000, Shut::Both);
        other.set_write(1000);
        table.sweep(100 + SWEEP_MILLIS);
        assert!(timer.fired() && other.fired() && timer.is_limit_reached());
        timer.rearm();
        timer.limit(None);
        timer.set(1000, Shut::Both);
        table.sweep(1000);
        assert!(!timer.fired() && !timer.is_limit_reached());
    }

    #[test]
    fn a_timer_wakes_who_waits_for_it() {
        struct Woken(std::sync::atomic::AtomicBool);
        impl std::task::Wake for Woken {
            fn wake(self: std::sync::Arc<Self>) {
                self.0.store(true, std::sync::atomic::Ordering::Relaxed);
            }
        }
        let woken = std::sync::Arc::new(Woken(false.into()));
        let waker = Waker::from(woken.clone());
        let cx = Context::from_waker(&waker);
        let table = Rc::new(Deadlines::default());
        let timer = table.timer();
        timer.set(100, Shut::Read);
        assert!(timer.poll_fired(&cx).is_pending());
        table.sweep(100);
        assert!(!woken.0.load(std::sync::atomic::Ordering::Relaxed));
        table.sweep(100 + SWEEP_MILLIS);
        assert!(woken.0.load(std::sync::atomic::Ordering::Relaxed));
        assert!(timer.poll_fired(&cx).is_ready());
        timer.rearm();
        timer.set(100, Shut::Read);
        assert!(timer.poll_fired(&cx).is_pending());
        assert!(!timer.hung_up());
    }

    #[test]
    fn a_retired_entry_shuts_nobody_down() {
        let (mut ours, mut theirs) = pair();
        let table = Rc::new(Deadlines::default());
        let deadline = table.register(ours.as_raw_fd());
        deadline.set(1, Shut::Both);
        deadline.retire();
        table.sweep(1000);
        theirs.write_all(b"!").unwrap();
        assert_eq!(ours.read(&mut [0]).unwrap(), 1);
        assert!(deadline.is_quiet() && !deadline.hung_up());
    }

    #[test]
    fn the_entry_ends_with_its_handle() {
        let (ours, _theirs) = pair();
        let table = Rc::new(Deadlines::default());
        let deadline = table.register(ours.as_raw_fd());
        assert_eq!(table.entries.borrow().len(), 1);
        drop(deadline);
        assert_eq!(table.entries.borrow().len(), 0);
    }

    #[test]
    fn a_socket_is_shut_down_when_the_peer_that_it_serves_hangs_up() {
        let (downstream, client) = pair();
        let (mut upstream, _server) = pair();
        let table = Rc::new(Deadlines::default());
        let served = table.register(downstream.as_raw_fd());
        let serving = table.register(upstream.as_raw_fd());
        serving.serve(Some(&served));
        table.sweep_abandoned();
        assert!(serving.is_quiet());
        drop(client);
        assert!(served.hung_up());
        table.sweep_abandoned();
        assert!(!serving.fired());
        assert_eq!(upstream.read(&mut [0]).unwrap(), 0);
    }

    #[test]
    fn bytes_and_ends_break_the_quiet() {
        let table = Rc::new(Deadlines::default());
        let (mut one, mut other) = pair();
        let deadline = table.register(one.as_raw_fd());
        assert!(deadline.is_quiet());
        other.write_all(b"!").unwrap();
        assert!(!deadline.is_quiet());
        one.read_exact(&mut [0]).unwrap();
        assert!(deadline.is_quiet());
        drop(other);
        assert!(!deadline.is_quiet());
    }
}
