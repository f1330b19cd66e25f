//! The load itself: tasks that take requests as they are due, and make them on their connections.
//!
//! Everything is bounded: by the number of requests, by time, and each step by the timeout. Runs on one thread, whose
//! tasks share what they count without locks. `place` keeps the connections, `idle` is the load of those that only wait.

mod idle;
mod place;

use std::cell::{Cell, OnceCell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use fastrand::Rng;
use tokio::select;
use tokio::sync::{Barrier, Semaphore, watch};
use tokio::task::{JoinSet, spawn_local};
use tokio::time::{sleep, sleep_until};

use crate::answer::Answer;
use crate::client::Connection;
use crate::clients::{Client, Outcome};
use crate::engine::place::{Line, Place};
use crate::failure::{Failure, FailureKind};
use crate::pace::Pace;
use crate::plan::Plan;
use crate::progress::Progress;
use crate::record::Record;
use crate::report::Report;
use crate::request::Message;
use crate::watch::Watch;

/// Carries out a plan. To be called on a [`tokio::runtime::LocalRuntime`].
pub(crate) async fn run(plan: Plan, progress: Option<Progress>) -> Report {
    let run = Rc::new(Run::new(plan, progress));
    let (elapsed, idle) = match run.plan.hold {
        None => (requests(&run).await, None),
        Some(hold) => {
            let (elapsed, idle) = idle::idle(&run, hold).await;
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
    record: Rc<RefCell<Record>>,
    watch: Watch,
    random: RefCell<Rng>,
    /// Requests that may still be made.
    left: Cell<u64>,
    /// How many connections were to be opened.
    opened: Cell<u64>,
    /// Number of the next request.
    number: Cell<u64>,
    deadline: Cell<Instant>,
    /// When requests are due, in an open loop.
    pace: OnceCell<Pace>,
    /// Limits the handshakes at the same time, which would only wait for each other in the target's backlog.
    handshakes: Semaphore,
    /// Counts the storms, in which all clients leave their connections and come again.
    storms: watch::Sender<u64>,
}

impl Run {
    fn new(plan: Plan, progress: Option<Progress>) -> Run {
        let record = Rc::new(RefCell::new(Record::new(&plan)));
        Run {
            watch: Watch::begin(record.clone(), plan.server.clone(), progress),
            record,
            random: RefCell::new(Rng::with_seed(plan.seed)),
            left: Cell::new(plan.requests_max),
            opened: Cell::new(0),
            number: Cell::new(0),
            deadline: Cell::new(Instant::now() + plan.duration_max),
            pace: OnceCell::new(),
            handshakes: Semaphore::new(plan.handshakes_max),
            storms: watch::Sender::new(0),
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

    /// Until when who has its answer looks at it; `None` if he does not.
    fn thinks_until(&self) -> Option<Instant> {
        if self.plan.think_time.is_always(0.0) {
            return None;
        }
        let time = Duration::from_secs_f64(self.plan.think_time.draw(&mut self.random.borrow_mut()));
        Some((Instant::now() + time).min(self.deadline.get()))
    }

    /// Whether storms still come: after the end of a run its tasks have to see that it is over.
    fn has_storms(&self) -> bool {
        self.plan.storm_every.is_some() && Instant::now() < self.deadline.get()
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

    /// Lets storms come at their times, without end.
    async fn let_storms_come(&self, every: Duration) {
        loop {
            sleep(every).await;
            self.storms.send_modify(|storms| *storms += 1);
        }
    }

    /// Opens a connection and counts it.
    async fn open(&self, client: &Client) -> Result<Connection, Failure> {
        let permit = self.handshakes.acquire().await.expect("never closed");
        let number = self.opened.get();
        self.opened.set(number + 1);
        let mut connection = Connection::open(&self.plan, &client.tls, number).await?;
        drop(permit);
        self.record.borrow_mut().opened(client.class, &mut connection);
        Ok(connection)
    }

    /// Draws what a client of this class asks for.
    fn draw(&self, class: usize) -> Message<'_> {
        let number = self.number.get();
        self.number.set(number + 1);
        let random = &mut self.random.borrow_mut();
        self.plan.requests.kind(class, random).message(number, random)
    }

    async fn exchange(
        &self,
        connection: &mut Connection,
        message: &Message<'_>,
        buffer: &mut [u8],
    ) -> Result<Answer, Failure> {
        let outcome = connection.exchange(self.plan.timeout, message, buffer).await;
        let mut record = self.record.borrow_mut();
        if let (Ok(_), Some(time)) = (&outcome, connection.first_byte_time) {
            record.first_byte_time.add(time);
        }
        connection.round_trips.drain(..).for_each(|time| record.round_trip_time.add(time));
        drop(record);
        outcome
    }

    /// Counts that no connection could be opened. True if that was right.
    fn note_unopened(&self, client: &Client, failure: Failure) -> bool {
        let mut record = self.record.borrow_mut();
        let is_refusal = client.outcome == Outcome::Refused && failure.is_refusal();
        match is_refusal {
            true => record.refused(client.class, failure.detail),
            false => record.failed_for(client.class, failure),
        }
        is_refusal
    }

    /// Counts the outcome of an exchange that was due, and of which the first byte was sent, at these times. True if it was right.
    fn note(
        &self,
        line: &Line,
        message: &Message<'_>,
        outcome: &Result<Answer, Failure>,
        times: Times,
    ) -> bool {
        let (mut record, class) = (self.record.borrow_mut(), line.client.class);
        let checked = match (outcome, line.client.outcome) {
            (Ok(_), Outcome::Refused) => {
                let class = &self.plan.clients.classes[class].name;
                Err(Failure::new(FailureKind::Admitted, format!("`{class}` got an answer")))
            }
            (Err(failure), Outcome::Refused) if failure.is_late_refusal() => {
                // In TLS 1.3 a client has finished its handshake before it can be refused (RFC 8446 §4.6.2 and appendix E.1.2).
                record.refused_late(class, &line.connection, failure.detail.clone());
                return true;
            }
            (Ok(answer), Outcome::Served) => {
                record.answered(answer, message.sent_bytes());
                message.kind.expected.check(message.kind.what, class, answer)
            }
            (Err(failure), _) => Err(failure.clone()),
        };
        let is_right = checked.is_ok();
        match checked {
            Ok(()) => record.right(message.kind.index, class, times.started.elapsed()),
            Err(failure) => {
                if self.plan.rate.is_some() && failure.kind == FailureKind::Timeout {
                    // It has waited for so long at the least.
                    record.late_since_due(times.due.elapsed());
                }
                record.by_kind[message.kind.index].failed += 1;
                record.failed_for(class, failure);
            }
        }
        if is_right && self.plan.rate.is_some() {
            record.right_since_due(times.due.elapsed());
        }
        is_right
    }
}

/// When an exchange was due, and when its first byte was sent.
#[derive(Clone, Copy, Debug)]
struct Times {
    due: Instant,
    started: Instant,
}

/// Requests on connections that stay open, or are closed after some of them. Unless each request has its own, all connections are there
/// before the first request is sent.
async fn requests(run: &Rc<Run>) -> Duration {
    let all_open = Rc::new(Barrier::new(run.takers() + 1));
    let open_first = !run.plan.per_connection.is_some_and(|count| count.is_always(1.0));
    let mut tasks = JoinSet::new();
    for _ in 0..run.plan.connections {
        let place = Rc::new(Place::new(run.plan.clients.for_place()));
        for stream in 0..run.plan.streams {
            let (run, all_open, place) = (run.clone(), all_open.clone(), place.clone());
            tasks.spawn_local(async move {
                if stream == 0 && open_first {
                    place.fill(&run).await;
                }
                all_open.wait().await;
                // Its time has begun.
                all_open.wait().await;
                turns(&run, &place).await;
            });
        }
    }
    all_open.wait().await;
    run.begin();
    all_open.wait().await;
    let started = Instant::now();
    let storms = run.plan.storm_every.map(|every| {
        let run = run.clone();
        spawn_local(async move { run.let_storms_come(every).await })
    });
    run.let_go().await;
    finish(tasks).await;
    if let Some(storms) = storms {
        storms.abort();
    }
    started.elapsed()
}

/// Makes one request after the other in a place, until there are no more.
async fn turns(run: &Run, place: &Place) {
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut storms = run.storms.subscribe();
    let mut thinks_until = run.thinks_until();
    loop {
        let due = select! {
            biased;
            Ok(()) = storms.changed(), if run.has_storms() => {
                place.renew(run).await;
                continue;
            }
            due = async {
                if let Some(end) = thinks_until {
                    sleep_until(end.into()).await;
                }
                run.take().await
            } => due,
        };
        let Some(due) = due else { return };
        if !turn(run, place, due, &mut buffer).await && place.is_empty().await {
            sleep(PAUSE_AFTER_FAILURE).await;
        }
        thinks_until = run.thinks_until();
    }
}

/// One request, on the connection that is there or on a new one. True if all was right.
async fn turn(run: &Run, place: &Place, due: Instant, buffer: &mut [u8]) -> bool {
    let mut line = match place.take(run).await {
        Ok(line) => line,
        Err((client, failure)) => return run.note_unopened(&client, failure),
    };
    let mut message = run.draw(line.client.class);
    message.is_last = line.is_last;
    let started = Instant::now();
    let mut outcome = run.exchange(&mut line.connection, &message, buffer).await;
    // At once: who has closed before the request came has not worked on it.
    let is_closed = outcome.as_ref().is_err_and(|failure| failure.kind == FailureKind::Closed)
        && started.elapsed() < STALE_WITHIN;
    // RFC 9112 §9.3.1, RFC 9113 §9.1: a target may close an idle connection at any time, also just when the next request is on its
    // way.
    let may_be_stale = line.reused && run.plan.hold.is_none() && line.client.outcome == Outcome::Served;
    if is_closed && may_be_stale && message.kind.is_idempotent() {
        run.record.borrow_mut().stale_connections += 1;
        place.forget(&line).await;
        line = match place.replace(run, line).await {
            Ok(line) => line,
            Err((client, failure)) => return run.note_unopened(&client, failure),
        };
        outcome = run.exchange(&mut line.connection, &message, buffer).await;
    }
    let is_right = run.note(&line, &message, &outcome, Times { due, started });
    match outcome {
        Ok(Answer { keep_alive: true, .. }) if !line.is_last => place.put_back(line).await,
        // After a WebSocket the target closes; so it does after what was said to be the last request.
        Ok(Answer { status: SWITCHED, .. }) => line.connection.wait_for_close(run.plan.timeout, buffer).await,
        Ok(_) if line.is_last => line.connection.wait_for_close(run.plan.timeout, buffer).await,
        _ => place.forget(&line).await,
    }
    is_right
}

async fn finish(mut tasks: JoinSet<()>) {
    while let Some(ended) = tasks.join_next().await {
        ended.expect("no task panics or is cancelled");
    }
}

/// A target that closes later than that has had the request, and its failure counts. Long enough for a busy machine.
const STALE_WITHIN: Duration = Duration::from_millis(100);
/// RFC 9110 §15.2.2.
const SWITCHED: u16 = 101;
/// For each task that reads: several TLS records.
const BUFFER_BYTES: usize = 64 << 10;
/// A target that refuses everything is not to be asked as fast as it can refuse.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(20);

#[cfg(test)]
mod protocol_tests;
#[cfg(test)]
mod scenario_tests;
#[cfg(test)]
mod tests;
