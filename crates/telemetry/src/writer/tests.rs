use std::collections::VecDeque;
use std::io::Write;
use std::sync::{Mutex, MutexGuard};

use serde_json::Value;

use super::*;
use crate::closed::ClosedSets;
use crate::queue::{RecordSender, record_queue};
use crate::record::tests::connection;
use crate::record::{HandshakeRecord, TextField};
use crate::registry::Limits;

/// An output whose answers are scripted: how many bytes it takes, or the error. Without script it takes everything.
#[derive(Clone, Default)]
struct ScriptedOutput(Arc<Mutex<Script>>);

#[derive(Default)]
struct Script {
    taken: Vec<u8>,
    answers: VecDeque<io::Result<usize>>,
}

impl ScriptedOutput {
    fn lock(&self) -> MutexGuard<'_, Script> {
        self.0.lock().unwrap()
    }

    fn answer(&self, answers: impl IntoIterator<Item = io::Result<usize>>) {
        self.lock().answers.extend(answers);
    }

    fn lines(&self) -> Vec<Value> {
        let script = self.lock();
        let text = std::str::from_utf8(&script.taken).unwrap();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
            .collect()
    }
}

impl Write for ScriptedOutput {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut script = self.lock();
        let taken = script.answers.pop_front().unwrap_or(Ok(bytes.len()))?.min(bytes.len());
        script.taken.extend_from_slice(&bytes[..taken]);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Fixture {
    output: ScriptedOutput,
    senders: Vec<RecordSender>,
    stats: Arc<LogStats>,
    writer: LogWriter,
}

impl Fixture {
    fn new(workers: usize, capacity: usize, rate: HandshakeLineRate) -> Fixture {
        let output = ScriptedOutput::default();
        let (senders, receivers) = (0..workers).map(|_| record_queue(capacity)).unzip();
        let stats = Arc::new(LogStats::default());
        let registry = Registry::new(ClosedSets::default(), Limits::default());
        let sink = LogOutput::from_writer(Box::new(output.clone()));
        let writer = LogWriter::new(sink, receivers, registry, Arc::clone(&stats), rate);
        Fixture { output, senders, stats, writer }
    }

    fn push(&self, worker: usize, path: &str) {
        let sender = &self.senders[worker];
        let mut record = sender.blank(&connection(1), 0);
        record.set(TextField::Path, path);
        sender.push(record).unwrap();
    }

    fn poll_at(&mut self, ms: u64) -> Polled {
        self.writer.poll(Duration::from_millis(ms), 0)
    }

    fn paths(&self) -> Vec<String> {
        self.output.lines().iter().filter_map(|line| Some(line["path"].as_str()?.to_owned())).collect()
    }
}

fn handshake() -> Box<HandshakeRecord> {
    let facts = connection(9);
    Box::new(HandshakeRecord {
        time_unix_ns: 0,
        connection_id: facts.id,
        worker: 0,
        listener: facts.listener,
        downstream: facts.downstream,
        proxy: None,
        server_name: None,
        reason: "expired",
        detail: None,
        presented_subject: None,
        presented_fingerprint: None,
        tenant: None,
        resumed: None,
        resumption_declined: None,
        observed: None,
        duration_ns: 0,
        generation: 0,
    })
}

fn disk_full() -> io::Result<usize> {
    Err(io::ErrorKind::StorageFull.into())
}

#[test]
fn all_queues_are_emptied_in_turn() {
    let mut fixture = Fixture::new(2, 8, HandshakeLineRate::default());
    assert_eq!(fixture.poll_at(0), Polled::Idle);
    for (worker, path) in [(0, "/a"), (0, "/b"), (1, "/c")] {
        fixture.push(worker, path);
    }
    assert_eq!(fixture.poll_at(1), Polled::Busy);
    assert_eq!(fixture.paths(), ["/a", "/c", "/b"], "a busy worker does not hold up the others");
    assert_eq!(fixture.stats.access_records_written(), 3);
    assert_eq!(fixture.poll_at(2), Polled::Idle);
}

#[test]
fn a_full_disk_is_counted_and_loses_nothing() {
    let mut fixture = Fixture::new(1, 4, HandshakeLineRate::default());
    fixture.output.answer([Ok(10), disk_full(), Ok(0)]);
    fixture.push(0, "/a");
    assert_eq!(fixture.poll_at(0), Polled::Stuck);
    assert_eq!((fixture.stats.write_errors(), fixture.stats.access_records_written()), (1, 0));
    // Meanwhile the queue takes what it has room for, and the worker sees when it is full.
    for path in ["/b", "/c", "/d", "/e"] {
        fixture.push(0, path);
    }
    assert!(fixture.senders[0].reserve().is_none());
    assert_eq!(fixture.poll_at(99), Polled::Stuck);
    assert_eq!(fixture.stats.write_errors(), 1, "not tried again before its time");
    assert_eq!(fixture.poll_at(100), Polled::Stuck);
    assert_eq!(fixture.stats.write_errors(), 2, "an output that takes nothing is an error too");
    assert_eq!(fixture.poll_at(200), Polled::Busy);
    assert_eq!(fixture.poll_at(201), Polled::Busy);
    assert_eq!(fixture.paths(), ["/a", "/b", "/c", "/d", "/e"], "whole lines, none twice");
    assert_eq!(fixture.stats.access_records_written(), 5);
}

#[test]
fn short_and_interrupted_writes_go_on() {
    let mut fixture = Fixture::new(1, 4, HandshakeLineRate::default());
    fixture.output.answer([Ok(1), Err(io::ErrorKind::Interrupted.into()), Ok(7)]);
    fixture.push(0, "/a");
    assert_eq!(fixture.poll_at(0), Polled::Busy);
    assert_eq!((fixture.paths(), fixture.stats.write_errors()), (vec!["/a".to_owned()], 0));
}

#[test]
fn a_batch_is_bounded() {
    let mut fixture = Fixture::new(1, 1_024, HandshakeLineRate::default());
    let long = "x".repeat(TextField::Path.bytes_max());
    for _ in 0..100 {
        fixture.push(0, &long);
    }
    assert_eq!(fixture.poll_at(0), Polled::Busy);
    let first = fixture.output.lock().taken.len();
    assert!((BATCH_BYTES..BATCH_BYTES + 4_096).contains(&first), "{first}");
    while fixture.poll_at(1) == Polled::Busy {}
    assert_eq!(fixture.stats.access_records_written(), 100);
}

#[test]
fn failed_handshakes_are_limited_and_the_rest_is_summed_up() {
    let mut fixture = Fixture::new(1, 1_024, HandshakeLineRate { per_second: 2, burst: 3 });
    for _ in 0..10 {
        fixture.senders[0].push_handshake(handshake()).unwrap();
    }
    fixture.push(0, "/served");
    assert_eq!(fixture.poll_at(0), Polled::Busy);
    let count = |fixture: &Fixture, message: &str| {
        fixture.output.lines().iter().filter(|line| line["msg"] == message).count()
    };
    assert_eq!(count(&fixture, "handshake failed"), 3);
    assert_eq!(count(&fixture, "request"), 1, "exchanges are not limited");
    assert_eq!(fixture.stats.lines_suppressed(), 7);
    let summary = "failed handshakes not logged one by one";
    assert_eq!(count(&fixture, summary), 0, "the summary is limited like the lines");

    assert_eq!(fixture.poll_at(500), Polled::Busy, "also if no other record arrives");
    let lines = fixture.output.lines();
    let line = lines.last().unwrap();
    assert_eq!((&line["msg"], &line["suppressed"]), (&Value::from(summary), &Value::from(7)));
    assert_eq!(fixture.poll_at(10_000), Polled::Idle, "said once");
}

#[test]
fn a_flood_of_failed_handshakes_does_not_hold_the_writer() {
    let mut fixture = Fixture::new(1, 4 * BATCH_RECORDS, HandshakeLineRate { per_second: 1, burst: 0 });
    for _ in 0..BATCH_RECORDS + 1 {
        fixture.senders[0].push_handshake(handshake()).unwrap();
    }
    assert_eq!(fixture.poll_at(0), Polled::Busy);
    assert_eq!(fixture.stats.lines_suppressed(), BATCH_RECORDS as u64);
    assert_eq!(fixture.poll_at(0), Polled::Busy);
    assert_eq!(fixture.poll_at(0), Polled::Idle);
    assert_eq!(fixture.stats.lines_suppressed(), BATCH_RECORDS as u64 + 1);
}

#[test]
fn stopping_writes_what_is_queued() {
    let fixture = Fixture::new(2, 512, HandshakeLineRate::default());
    for number in 0..300 {
        fixture.push(number % 2, &format!("/{number}"));
    }
    let thread = fixture.writer.spawn().unwrap();
    assert!(thread.stop(Duration::from_secs(60)));
    assert_eq!(fixture.output.lines().len(), 300);
}

#[test]
fn stopping_does_not_wait_for_an_output_that_stays_full() {
    let fixture = Fixture::new(1, 4, HandshakeLineRate::default());
    fixture.output.answer((0..1_000).map(|_| disk_full()));
    fixture.push(0, "/a");
    let thread = fixture.writer.spawn().unwrap();
    assert!(!thread.stop(Duration::from_millis(1)), "and says that records are lost");
}
