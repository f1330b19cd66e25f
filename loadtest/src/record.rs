//! What a run saw: counts and times, filled while it goes on.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;

use crate::answer::Answer;
use crate::client::Connection;
use crate::failure::{Failure, FailureKind};
use crate::plan::Plan;

/// Everything that is counted.
#[derive(Debug)]
pub(crate) struct Record {
    /// Exchanges whose answer was right.
    pub(crate) right: u64,
    /// Clients whose handshake was refused as it must be.
    pub(crate) refused: u64,
    /// The same by the kind of the request, and by the class of the client, each by its index in the plan.
    pub(crate) by_kind: Vec<KindRecord>,
    pub(crate) by_class: Vec<ClassRecord>,
    /// Times of right exchanges, in nanoseconds, from before the first byte is sent.
    pub(crate) exchange_time: Times,
    /// The same from when the request was due, in an open loop; what was never sent has waited for so long at the least.
    pub(crate) due_time: Times,
    /// Times until the first byte of whole answers.
    pub(crate) first_byte_time: Times,
    /// Times that messages of WebSockets took to come back.
    pub(crate) round_trip_time: Times,
    /// Times of TCP alone.
    pub(crate) connect_time: Times,
    /// Times of handshakes, TCP included.
    pub(crate) handshake_time: Times,
    pub(crate) connections: u64,
    /// Those of them that resumed a session.
    pub(crate) resumed_connections: u64,
    /// Idle connections that the target had closed when the next request was sent, which was then sent on a new one.
    pub(crate) stale_connections: u64,
    pub(crate) statuses: BTreeMap<u16, u64>,
    pub(crate) received_bytes: u64,
    pub(crate) sent_bytes: u64,
    pub(crate) failures: BTreeMap<FailureKind, Failures>,
    /// What the first connection agreed on.
    pub(crate) negotiated: Option<String>,
}

/// What is counted for requests of a kind.
#[derive(Debug)]
pub(crate) struct KindRecord {
    pub(crate) right: u64,
    pub(crate) failed: u64,
    pub(crate) exchange_time: Times,
}

/// What is counted for clients of a class.
#[derive(Clone, Debug, Default)]
pub(crate) struct ClassRecord {
    pub(crate) connections: u64,
    pub(crate) resumed_connections: u64,
    pub(crate) refused: u64,
    pub(crate) right: u64,
    pub(crate) failed: u64,
}

/// Failures of one kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Failures {
    pub(crate) count: u64,
    /// What the first one said.
    pub(crate) first: String,
}

/// A histogram of times in nanoseconds, to three digits.
#[derive(Debug)]
pub(crate) struct Times(Histogram<u64>);

impl Record {
    pub(crate) fn new(plan: &Plan) -> Record {
        Record {
            right: 0,
            refused: 0,
            by_kind: plan.requests.kinds.iter().map(|_| KindRecord::default()).collect(),
            by_class: vec![ClassRecord::default(); plan.clients.classes.len()],
            exchange_time: Times::new(),
            due_time: Times::new(),
            first_byte_time: Times::new(),
            round_trip_time: Times::new(),
            connect_time: Times::new(),
            handshake_time: Times::new(),
            connections: 0,
            resumed_connections: 0,
            stale_connections: 0,
            statuses: BTreeMap::new(),
            received_bytes: 0,
            sent_bytes: 0,
            failures: BTreeMap::new(),
            negotiated: None,
        }
    }

    /// Counts a new connection of a client of this class.
    pub(crate) fn opened(&mut self, class: usize, connection: &Connection) {
        self.connections += 1;
        self.resumed_connections += u64::from(connection.resumed);
        self.by_class[class].connections += 1;
        self.by_class[class].resumed_connections += u64::from(connection.resumed);
        self.connect_time.add(connection.connect_time);
        self.handshake_time.add(connection.handshake_time);
        self.negotiated.get_or_insert_with(|| connection.negotiated.clone());
    }

    /// A connection that seemed to be open never was.
    pub(crate) fn was_not_opened(&mut self, class: usize, connection: &Connection) {
        self.connections -= 1;
        self.resumed_connections -= u64::from(connection.resumed);
        self.by_class[class].connections -= 1;
        self.by_class[class].resumed_connections -= u64::from(connection.resumed);
    }

    /// Counts a client whose handshake was refused as it must be.
    pub(crate) fn refused(&mut self, class: usize) {
        self.refused += 1;
        self.by_class[class].refused += 1;
    }

    /// Counts an answer, right or not.
    pub(crate) fn answered(&mut self, answer: &Answer, sent_bytes: u64) {
        *self.statuses.entry(answer.status).or_default() += 1;
        self.received_bytes += answer.body_bytes;
        self.sent_bytes += sent_bytes;
    }

    /// Counts a right exchange.
    pub(crate) fn right(&mut self, kind: usize, class: usize, time: Duration) {
        self.right += 1;
        self.exchange_time.add(time);
        self.by_kind[kind].right += 1;
        self.by_class[class].right += 1;
        // With one kind it is the same.
        if self.by_kind.len() > 1 {
            self.by_kind[kind].exchange_time.add(time);
        }
    }

    /// Counts a request that was due for so long, and never sent.
    pub(crate) fn unsent(&mut self, waited: Duration) {
        self.due_time.add(waited);
        self.failed(Failure::new(
            FailureKind::Unsent,
            format!("it was due for {waited:?}, and no connection was free"),
        ));
    }

    /// Counts a failure that a client of this class saw.
    pub(crate) fn failed_for(&mut self, class: usize, failure: Failure) {
        self.by_class[class].failed += 1;
        self.failed(failure);
    }

    /// Counts a failure.
    pub(crate) fn failed(&mut self, failure: Failure) {
        let failures = self.failures.entry(failure.kind).or_default();
        failures.count += 1;
        if failures.count == 1 {
            failures.first = failure.detail;
        }
    }
}

impl Default for KindRecord {
    fn default() -> KindRecord {
        KindRecord { right: 0, failed: 0, exchange_time: Times::new() }
    }
}

impl Times {
    fn new() -> Times {
        Times(Histogram::new_with_bounds(1, TIME_MAX_NS, 3).expect("bounds and digits are valid"))
    }

    pub(crate) fn add(&mut self, time: Duration) {
        self.0.saturating_record(u64::try_from(time.as_nanos()).unwrap_or(TIME_MAX_NS));
    }

    /// How many there are.
    pub(crate) fn count(&self) -> u64 {
        self.0.len()
    }

    /// The time below which this share of all lies, in microseconds.
    pub(crate) fn quantile_us(&self, quantile: f64) -> f64 {
        self.0.value_at_quantile(quantile) as f64 / 1e3
    }

    /// The mean in microseconds.
    pub(crate) fn mean_us(&self) -> f64 {
        self.0.mean() / 1e3
    }
}

/// The longest that an exchange may take (`--timeout`).
const TIME_MAX_NS: u64 = 3_600_000_000_000;
