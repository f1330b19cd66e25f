//! The bounded queue of records from one worker to the log writer.
//!
//! A full queue never blocks the worker: it is told, counts the loss and decides. Where no record may be lost
//! (`audit = "required"`), the worker takes a [`Permit`] before it contacts the upstream; a permit is a slot that
//! nothing else can take, so sending with it cannot fail. Records of failed handshakes and events get at most half of
//! the slots: who is refused by TLS must not be able to push out the records of those who were let in, or turn
//! required auditing into an outage.

use std::cell::Cell;
use std::sync::Arc;

use crossbeam_queue::ArrayQueue;

use crate::record::{AccessRecord, ConnectionFacts, EventRecord, HandshakeRecord, Record};

/// A queue for `capacity` records (at least 2), with the worker's end and the log writer's.
pub fn record_queue(capacity: usize) -> (RecordSender, RecordReceiver) {
    let capacity = capacity.max(2);
    let shared = Arc::new(Shared {
        records: ArrayQueue::new(capacity),
        spares: ArrayQueue::new(capacity.min(SPARES_MAX)),
    });
    let sender =
        RecordSender { shared: Arc::clone(&shared), free: Cell::new(capacity), reserved: Cell::new(0) };
    (sender, RecordReceiver { shared })
}

/// The worker's end: the only producer.
#[derive(Debug)]
pub struct RecordSender {
    shared: Arc<Shared>,
    /// Slots known to be free and promised to nobody. Counted down here, so that the consumer's cache line is read
    /// only when it reaches 0. Being a `Cell` it also keeps the sender on one thread.
    free: Cell<usize>,
    /// Permits given out and not used yet.
    reserved: Cell<usize>,
}

impl RecordSender {
    /// An empty record of an exchange on `connection`, reusing one that was written already.
    pub fn blank(&self, connection: &Arc<ConnectionFacts>, started_unix_ns: u64) -> Box<AccessRecord> {
        match self.shared.spares.pop() {
            Some(mut spare) => {
                spare.begin(Arc::clone(connection), started_unix_ns);
                spare
            }
            None => Box::new(AccessRecord::new(Arc::clone(connection), started_unix_ns)),
        }
    }

    /// A slot of the queue, or `None` if it is full. Dropping the permit gives the slot back, so a caller that must not
    /// lose a record holds it until [`Permit::send`], through every error path of the exchange.
    pub fn reserve(&self) -> Option<Permit<'_>> {
        if self.free.get() == 0 {
            self.free.set(self.count_free());
        }
        let free = self.free.get().checked_sub(1)?;
        self.free.set(free);
        self.reserved.set(self.reserved.get() + 1);
        Some(Permit { sender: self })
    }

    /// Queues an access record.
    ///
    /// # Errors
    /// The queue is full; the record is gone and the caller counts it.
    pub fn push(&self, record: Box<AccessRecord>) -> Result<(), QueueFull> {
        let permit = self.reserve().ok_or(QueueFull)?;
        permit.send(record);
        Ok(())
    }

    /// Queues the record of a failed handshake.
    ///
    /// # Errors
    /// Fewer than half of the slots are free; the record is gone and the caller counts it.
    pub fn push_handshake(&self, record: Box<HandshakeRecord>) -> Result<(), QueueFull> {
        self.push_low_priority(Record::Handshake(record))
    }

    /// Queues an event.
    ///
    /// # Errors
    /// Fewer than half of the slots are free; the record is gone and the caller counts it.
    pub fn push_event(&self, record: Box<EventRecord>) -> Result<(), QueueFull> {
        self.push_low_priority(Record::Event(record))
    }

    fn push_low_priority(&self, record: Record) -> Result<(), QueueFull> {
        let kept_back = self.shared.records.capacity() / 2;
        if self.free.get() <= kept_back {
            self.free.set(self.count_free());
        }
        if self.free.get() <= kept_back {
            return Err(QueueFull);
        }
        self.free.set(self.free.get() - 1);
        self.enqueue(record);
        Ok(())
    }

    fn count_free(&self) -> usize {
        let records = &self.shared.records;
        records.capacity() - records.len() - self.reserved.get()
    }

    /// Only after a slot was taken out of `free`. Nothing else pushes, so the slot is still there.
    fn enqueue(&self, record: Record) {
        let pushed = self.shared.records.push(record);
        debug_assert!(pushed.is_ok(), "a slot that was counted as free was taken");
    }
}

/// A slot of the queue that is kept for one access record.
#[derive(Debug)]
#[must_use = "dropping a permit gives its slot back"]
pub struct Permit<'a> {
    sender: &'a RecordSender,
}

impl Permit<'_> {
    /// Queues the record. Cannot fail.
    pub fn send(self, record: Box<AccessRecord>) {
        let sender = self.sender;
        // The slot goes from "promised" to "taken", not back to "free" as on drop.
        std::mem::forget(self);
        sender.reserved.set(sender.reserved.get() - 1);
        sender.enqueue(Record::Access(record));
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        self.sender.reserved.set(self.sender.reserved.get() - 1);
        self.sender.free.set(self.sender.free.get() + 1);
    }
}

/// The log writer's end: the only consumer.
#[derive(Debug)]
pub struct RecordReceiver {
    shared: Arc<Shared>,
}

impl RecordReceiver {
    /// The oldest record.
    pub(crate) fn pop(&self) -> Option<Record> {
        self.shared.records.pop()
    }

    /// Gives a written record back to its worker.
    pub(crate) fn recycle(&self, mut record: Box<AccessRecord>) {
        record.clear();
        // With enough spares there already, it is simply freed.
        let _ = self.shared.spares.push(record);
    }
}

/// No slot was left for a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the queue to the log is full")]
pub struct QueueFull;

#[derive(Debug)]
struct Shared {
    records: ArrayQueue<Record>,
    spares: ArrayQueue<Box<AccessRecord>>,
}

/// Enough for the records of one poll of the log writer at usual rates.
const SPARES_MAX: usize = 1_024;

#[cfg(test)]
mod tests;
