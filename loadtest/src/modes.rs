//! The load itself: what connections do in each mode.
//!
//! Everything is bounded: by the number of requests, by time, and each step by the timeout. Runs on one thread, whose
//! tasks share what they count without locks.

use std::cell::{Cell, OnceCell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::ClientConfig;
use tokio::sync::{Barrier, Mutex, Semaphore};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::answer::Answer;
use crate::args::{Mode, Plan};
use crate::client::{Connection, Request};
use crate::failure::{Failure, FailureKind};
use crate::pace::Pace;
use crate::progress::Progress;
use crate::record::Record;
use crate::report::{IdleReport, Report};
use crate::tls;
use crate::watch::Watch;

/// Carries out a plan. To be called on a [`tokio::runtime::LocalRuntime`].
pub(crate) async fn run(plan: Plan, progress: Option<Progress>) -> Report {
    let run = Rc::new(Run::new(plan, progress));
    let (elapsed, idle) = match run.plan.mode {
        Mode::Keepalive | Mode::Download | Mode::Upload => (keepalive(&run).await, None),
        Mode::Handshake => (handshake(&run).await, None),
        Mode::Idle => {
            let (elapsed, idle) = idle(&run).await;
            (elapsed, Some(idle))
        }
    };
    let due = run.pace.get().map(Pace::due);
    let watched = run.watch.end(elapsed);
    Report::new(&run.plan, &run.record.borrow(), elapsed, due, idle, watched)
}

/// What the tasks of a run share.
struct Run {
    plan: Plan,
    request: Request,
    record: Rc<RefCell<Record>>,
    watch: Watch,
    /// Requests that may still be made.
    left: Cell<u64>,
    /// How many connections were to be opened.
    opened: Cell<u64>,
    /// Number of the next one that is sent.
    number: Cell<u64>,
    deadline: Cell<Instant>,
    /// When requests are due, in an open loop.
    pace: OnceCell<Pace>,
    /// Limits the handshakes at the same time, which would only wait for each other in the target's backlog.
    handshakes: Semaphore,
}

impl Run {
    fn new(plan: Plan, progress: Option<Progress>) -> Run {
        let record = Rc::new(RefCell::new(Record::new(&plan)));
        Run {
            request: Request::of(&plan),
            watch: Watch::begin(record.clone(), plan.server.clone(), progress),
            record,
            left: Cell::new(plan.requests_max),
            opened: Cell::new(0),
            number: Cell::new(0),
            deadline: Cell::new(Instant::now() + plan.duration_max),
            pace: OnceCell::new(),
            handshakes: Semaphore::new(HANDSHAKES_MAX),
            plan,
        }
    }

    /// The time that the run may take begins now.
    fn begin(&self) {
        self.watch.requests_begin();
        self.deadline.set(Instant::now() + self.plan.duration_max);
        if let Some(rate) = &self.plan.rate {
            let _ = self.pace.set(Pace::new(rate, self.plan.requests_max));
        }
    }

    /// Takes one request from the budget, once it is due: since when it is under way. `None` if there is none, or no time.
    async fn take(&self) -> Option<Instant> {
        let now = Instant::now();
        let Some(pace) = self.pace.get() else {
            let left = self.left.get();
            if left == 0 || now >= self.deadline.get() {
                return None;
            }
            self.left.set(left - 1);
            return Some(now);
        };
        loop {
            let due = pace.next().await?;
            let now = Instant::now();
            if now < self.deadline.get() + self.plan.timeout {
                return Some(due);
            }
            // Who was due is counted, and the run has an end.
            self.record.borrow_mut().unsent(now - due);
        }
    }

    /// How many tasks take requests.
    fn takers(&self) -> usize {
        self.plan.connections * self.plan.streams
    }

    /// Lets requests go in an open loop, to as many tasks as there are.
    async fn let_go(&self) {
        if let Some(pace) = self.pace.get() {
            pace.run(self.plan.duration_max, self.takers()).await;
        }
    }

    /// Opens a connection and counts it.
    async fn open(&self, tls: &Arc<ClientConfig>) -> Result<Connection, Failure> {
        let permit = self.handshakes.acquire().await.expect("never closed");
        let opened = self.opened.get() + 1;
        self.opened.set(opened);
        let mut connection = Connection::open(&self.plan, tls, opened).await?;
        drop(permit);
        self.record.borrow_mut().opened(&mut connection);
        Ok(connection)
    }

    /// Opens one of the first connections, or counts why not.
    async fn open_first(&self, tls: &Arc<ClientConfig>) -> Option<Connection> {
        self.open(tls).await.map_err(|failure| self.record.borrow_mut().failed(failure)).ok()
    }

    async fn exchange(&self, connection: &mut Connection, buffer: &mut [u8]) -> Result<Answer, Failure> {
        let number = self.number.get();
        self.number.set(number + 1);
        let outcome = connection.exchange(&self.plan, &self.request, number, buffer).await;
        if let (Ok(_), Some(time)) = (&outcome, connection.first_byte_time) {
            self.record.borrow_mut().first_byte_time.add(time);
        }
        outcome
    }

    /// Counts the outcome of an exchange that was due, and of which the first byte was sent, at these times. True if it was right.
    fn note(&self, outcome: Result<Answer, Failure>, (due, started): (Instant, Instant)) -> bool {
        let mut record = self.record.borrow_mut();
        match outcome {
            Ok(answer) => {
                let is_right = record.answered(&answer, started.elapsed(), self.request.body_bytes());
                if is_right && self.plan.rate.is_some() {
                    record.right_since_due(due.elapsed());
                }
                is_right
            }
            Err(failure) => {
                record.failed(failure);
                false
            }
        }
    }
}

/// Connections that stay open. All are there before the first request is sent.
async fn keepalive(run: &Rc<Run>) -> Duration {
    let all_open = Rc::new(Barrier::new(run.takers() + 1));
    let mut tasks = JoinSet::new();
    for _ in 0..run.plan.connections {
        let shared = Rc::new(Shared::default());
        for stream in 0..run.plan.streams {
            let (run, all_open, shared) = (run.clone(), all_open.clone(), shared.clone());
            tasks.spawn_local(async move {
                let mut slot = None;
                if stream == 0 {
                    slot = run.open_first(&run.plan.tls).await;
                    shared.keep(&mut slot).await;
                }
                all_open.wait().await;
                // Its time has begun.
                all_open.wait().await;
                let mut buffer = vec![0; BUFFER_BYTES];
                while let Some(due) = run.take().await {
                    let started = Instant::now();
                    let outcome = match run.plan.http2 {
                        false => exchange_or_reopen(&run, &mut slot, &mut buffer).await,
                        true => shared.exchange(&run, &mut buffer).await,
                    };
                    if !run.note(outcome, (due, started)) && slot.is_none() {
                        sleep(PAUSE_AFTER_FAILURE).await;
                    }
                }
            });
        }
    }
    all_open.wait().await;
    run.begin();
    all_open.wait().await;
    let started = Instant::now();
    run.let_go().await;
    finish(tasks).await;
    started.elapsed()
}

/// One exchange on the connection in `slot`, or on a new one, which is left there if it can be used again.
async fn exchange_or_reopen(
    run: &Run,
    slot: &mut Option<Connection>,
    buffer: &mut [u8],
) -> Result<Answer, Failure> {
    let (mut connection, reused) = match slot.take() {
        Some(connection) => (connection, true),
        None => (run.open(&run.plan.tls).await?, false),
    };
    let mut outcome = run.exchange(&mut connection, buffer).await;
    // RFC 9112 §9.3.1: a target may close an idle connection at any time, also just when the next request is on its way.
    if let Err(failure) = &outcome
        && failure.kind == FailureKind::Closed
        && reused
        && run.request.is_idempotent()
    {
        run.record.borrow_mut().stale_connections += 1;
        connection = run.open(&run.plan.tls).await?;
        outcome = run.exchange(&mut connection, buffer).await;
    }
    if matches!(outcome, Ok(Answer { keep_alive: true, .. })) {
        *slot = Some(connection);
    }
    outcome
}

/// A connection that several requests share at a time, if it is there.
#[derive(Default)]
struct Shared(Mutex<Option<Connection>>);

impl Shared {
    /// Takes the connection over, if it can be shared.
    async fn keep(&self, slot: &mut Option<Connection>) {
        if slot.as_ref().is_some_and(|connection| connection.share().is_some()) {
            *self.0.lock().await = slot.take();
        }
    }

    /// One exchange on the connection, or on a new one.
    async fn exchange(&self, run: &Run, buffer: &mut [u8]) -> Result<Answer, Failure> {
        let (mut connection, reused) = self.get(run).await?;
        let mut outcome = run.exchange(&mut connection, buffer).await;
        if outcome.as_ref().is_err_and(|failure| failure.kind == FailureKind::Closed) {
            // RFC 9113 §9.1: a target may close an idle connection at any time. The first who notices opens another one.
            self.forget(&connection).await;
            if reused && run.request.is_idempotent() {
                run.record.borrow_mut().stale_connections += 1;
                (connection, _) = self.get(run).await?;
                outcome = run.exchange(&mut connection, buffer).await;
            }
        }
        if outcome.is_err() {
            self.forget(&connection).await;
        }
        outcome
    }

    /// The connection, or a new one; whether it was there.
    async fn get(&self, run: &Run) -> Result<(Connection, bool), Failure> {
        let mut slot = self.0.lock().await;
        let reused = slot.is_some();
        let connection = match slot.take() {
            Some(connection) => connection,
            None => run.open(&run.plan.tls).await?,
        };
        let shared = connection.share().expect("connections of HTTP/2 can be shared");
        *slot = Some(connection);
        Ok((shared, reused))
    }

    /// Lets go of a connection of which something went wrong, unless there is another one by now.
    async fn forget(&self, failed: &Connection) {
        let mut slot = self.0.lock().await;
        if slot.as_ref().is_some_and(|connection| connection.is(failed)) {
            *slot = None;
        }
    }
}

/// A connection for each request. Each task is a client of its own, which resumes its own sessions if it is to.
async fn handshake(run: &Rc<Run>) -> Duration {
    run.begin();
    let started = Instant::now();
    let mut tasks = JoinSet::new();
    for _ in 0..run.plan.connections {
        let run = run.clone();
        let tls = if run.plan.resume { tls::resuming(&run.plan.tls) } else { run.plan.tls.clone() };
        tasks.spawn_local(async move {
            let mut buffer = vec![0; BUFFER_BYTES];
            while let Some(due) = run.take().await {
                let Some(mut connection) = run.open_first(&tls).await else {
                    sleep(PAUSE_AFTER_FAILURE).await;
                    continue;
                };
                let started = Instant::now();
                let outcome = run.exchange(&mut connection, &mut buffer).await;
                if run.note(outcome, (due, started)) {
                    connection.wait_for_close(&run.plan, &mut buffer).await;
                } else {
                    sleep(PAUSE_AFTER_FAILURE).await;
                }
            }
        });
    }
    run.let_go().await;
    finish(tasks).await;
    started.elapsed()
}

/// Connections that wait. One request each before and after.
async fn idle(run: &Rc<Run>) -> (Duration, IdleReport) {
    let started = Instant::now();
    let connections = (0..run.plan.connections).map(|_| None).collect();
    let waiting = on_each(run, connections).await;
    let opened_in = started.elapsed();
    let held = waiting.len();
    sleep(run.plan.hold).await;
    let waiting = on_each(run, waiting.into_iter().map(Some).collect()).await;
    let report = IdleReport { opened_seconds: opened_in.as_secs_f64(), held, answered_again: waiting.len() };
    (started.elapsed(), report)
}

/// Makes one exchange on each of these connections, opening those that are not there, a few at a time. Returns those whose
/// answer was right.
async fn on_each(run: &Rc<Run>, connections: Vec<Option<Connection>>) -> Vec<Connection> {
    let todo = Rc::new(RefCell::new(connections));
    let done = Rc::new(RefCell::new(Vec::new()));
    let mut tasks = JoinSet::new();
    for _ in 0..HANDSHAKES_MAX {
        let (run, todo, done) = (run.clone(), todo.clone(), done.clone());
        tasks.spawn_local(async move {
            let mut buffer = vec![0; BUFFER_BYTES];
            loop {
                let Some(next) = todo.borrow_mut().pop() else { return };
                let opened = match next {
                    Some(connection) => Some(connection),
                    None => run.open_first(&run.plan.tls).await,
                };
                let Some(mut connection) = opened else { continue };
                let started = Instant::now();
                let outcome = run.exchange(&mut connection, &mut buffer).await;
                if run.note(outcome, (started, started)) {
                    done.borrow_mut().push(connection);
                }
            }
        });
    }
    finish(tasks).await;
    done.take()
}

async fn finish(mut tasks: JoinSet<()>) {
    while let Some(ended) = tasks.join_next().await {
        ended.expect("no task panics or is cancelled");
    }
}

/// At the same time.
const HANDSHAKES_MAX: usize = 64;
/// For each task that reads: several TLS records.
const BUFFER_BYTES: usize = 64 << 10;
/// A target that refuses everything is not to be asked as fast as it can refuse.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests;
