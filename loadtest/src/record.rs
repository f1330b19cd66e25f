//! What a run saw: counts and times, filled while it goes on.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use crate::answer::Answer;
use crate::client::Connection;
use crate::failure::{Failure, FailureKind};
use crate::plan::Plan;
use crate::series::Sample;
use crate::times::Times;

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
    /// In an open loop.
    open_loop: bool,
    /// Times since the last sample: since due in an open loop, and of exchanges in a closed one.
    lately: Times,
    /// What had been counted by then.
    sampled: Counts,
    /// Each open connection has a share in it.
    open: Rc<()>,
}

/// What has been counted by some moment.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    right: u64,
    failed: u64,
    opened: u64,
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
    /// How they were told of it.
    pub(crate) refusals: BTreeMap<String, u64>,
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
            open_loop: plan.rate.is_some(),
            lately: Times::small(),
            sampled: Counts::default(),
            open: Rc::default(),
        }
    }

    /// Counts a new connection of a client of this class, also among those that are open for as long as it is there.
    pub(crate) fn opened(&mut self, class: usize, connection: &mut Connection) {
        connection.open = Some(self.open.clone());
        self.connections += 1;
        self.resumed_connections += u64::from(connection.resumed);
        self.by_class[class].connections += 1;
        self.by_class[class].resumed_connections += u64::from(connection.resumed);
        self.connect_time.add(connection.connect_time);
        self.handshake_time.add(connection.handshake_time);
        self.negotiated.get_or_insert_with(|| connection.negotiated.clone());
    }

    /// A connection that seemed to be open was refused, as it must be. However many requests see that, it is counted once.
    pub(crate) fn refused_late(&mut self, class: usize, connection: &Connection, how: String) {
        if !connection.is_counted.replace(false) {
            return;
        }
        self.connections -= 1;
        self.resumed_connections -= u64::from(connection.resumed);
        self.by_class[class].connections -= 1;
        self.by_class[class].resumed_connections -= u64::from(connection.resumed);
        self.refused(class, how);
    }

    /// Counts a client whose handshake was refused as it must be, and how it was told.
    pub(crate) fn refused(&mut self, class: usize, how: String) {
        self.refused += 1;
        let class = &mut self.by_class[class];
        class.refused += 1;
        let how = if class.refusals.len() < REFUSALS_MAX || class.refusals.contains_key(&how) {
            how
        } else {
            "other".to_owned()
        };
        *class.refusals.entry(how).or_default() += 1;
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
        if !self.open_loop {
            self.lately.add(time);
        }
    }

    /// In an open loop: a right exchange ended so long after it was due.
    pub(crate) fn right_since_due(&mut self, time: Duration) {
        self.due_time.add(time);
        self.lately.add(time);
    }

    /// In an open loop: a request had no answer so long after it was due.
    pub(crate) fn late_since_due(&mut self, waited: Duration) {
        self.due_time.add(waited);
        self.lately.add(waited);
    }

    /// Counts a request that was due for so long, and never sent.
    pub(crate) fn unsent(&mut self, waited: Duration) {
        self.late_since_due(waited);
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

    /// What was counted since this was asked for last. The times of the sample are left to who asks.
    pub(crate) fn sample(&mut self) -> Sample {
        let (before, now) = (self.sampled, self.counts());
        let some = |value: f64| (self.lately.count() > 0).then_some(value);
        let sample = Sample {
            right: now.right.saturating_sub(before.right),
            failed: now.failed.saturating_sub(before.failed),
            opened: now.opened.saturating_sub(before.opened),
            open: self.open_connections(),
            p50_us: some(self.lately.quantile_us(0.5)),
            p99_us: some(self.lately.quantile_us(0.99)),
            max_us: some(self.lately.quantile_us(1.0)),
            ..Sample::default()
        };
        self.sampled = now;
        self.lately.clear();
        sample
    }

    /// How many failures there were.
    pub(crate) fn failed_count(&self) -> u64 {
        self.failures.values().map(|failures| failures.count).sum()
    }

    fn open_connections(&self) -> u64 {
        Rc::strong_count(&self.open) as u64 - 1
    }

    fn counts(&self) -> Counts {
        Counts { right: self.right, failed: self.failed_count(), opened: self.connections }
    }
}

impl Default for KindRecord {
    fn default() -> KindRecord {
        KindRecord { right: 0, failed: 0, exchange_time: Times::new() }
    }
}

/// A target has few ways to refuse; whatever else it says must not fill the memory.
const REFUSALS_MAX: usize = 16;
