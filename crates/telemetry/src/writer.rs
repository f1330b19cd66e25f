//! The log writer: takes records from all queues, formats them and writes them out, on a thread of its own.
//!
//! It polls, since a worker that would have to wake it paid for a system call per record. It never makes a worker
//! wait: if the output blocks or fails (a full disk), lines already formatted are kept and tried again, nothing more
//! is taken, and the queues fill up, which the workers see and count.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, mpsc};
use std::thread;
use std::time::{Duration, Instant, UNIX_EPOCH};

use crate::json::Formatter;
use crate::output::LogOutput;
use crate::queue::RecordReceiver;
use crate::rate::TokenBucket;
use crate::record::Record;
use crate::registry::Registry;

/// What the log writer counts.
#[derive(Debug, Default)]
pub struct LogStats {
    access_records_written: AtomicU64,
    lines_suppressed: AtomicU64,
    write_errors: AtomicU64,
}

impl LogStats {
    /// Access records that the output has taken.
    pub fn access_records_written(&self) -> u64 {
        self.access_records_written.load(Ordering::Relaxed)
    }

    /// Failed handshakes that got no line of their own.
    pub fn lines_suppressed(&self) -> u64 {
        self.lines_suppressed.load(Ordering::Relaxed)
    }

    /// Attempts to write or to follow a rotation that failed.
    pub fn write_errors(&self) -> u64 {
        self.write_errors.load(Ordering::Relaxed)
    }
}

/// How many lines of failed handshakes are written; the rest is summed up in one line and counted.
#[derive(Clone, Copy, Debug)]
pub struct HandshakeLineRate {
    /// In the long run.
    pub per_second: u32,
    /// At once.
    pub burst: u32,
}

impl Default for HandshakeLineRate {
    fn default() -> HandshakeLineRate {
        HandshakeLineRate { per_second: 10, burst: 100 }
    }
}

/// Writes the records of all workers. Usually [`spawn`](LogWriter::spawn)ed.
#[derive(Debug)]
pub struct LogWriter {
    output: LogOutput,
    receivers: Vec<RecordReceiver>,
    registry: Registry,
    stats: Arc<LogStats>,
    formatter: Formatter,
    handshake_lines: TokenBucket,
    /// Failed handshakes left out since the last line that says so.
    suppressed: u64,
    /// Formatted lines; those before `written` are out already.
    lines: Vec<u8>,
    written: usize,
    /// Access records among the lines.
    access_records: u64,
    retry_at: Duration,
    rotation_checked_at: Duration,
}

/// What a poll of the [`LogWriter`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Polled {
    /// Records were taken; there may be more.
    Busy,
    /// All queues were empty and everything is written.
    Idle,
    /// The output does not take the lines; they are kept.
    Stuck,
}

impl LogWriter {
    /// A writer of the records that come from `receivers`. `registry` gives the names for the ids in the records.
    pub fn new(
        output: LogOutput,
        receivers: Vec<RecordReceiver>,
        registry: Registry,
        stats: Arc<LogStats>,
        rate: HandshakeLineRate,
    ) -> LogWriter {
        LogWriter {
            output,
            receivers,
            registry,
            stats,
            formatter: Formatter::default(),
            handshake_lines: TokenBucket::new(rate.per_second, rate.burst),
            suppressed: 0,
            lines: Vec::with_capacity(BATCH_BYTES),
            written: 0,
            access_records: 0,
            retry_at: Duration::ZERO,
            rotation_checked_at: Duration::ZERO,
        }
    }

    /// Writes one batch. `now` counts from any fixed moment, `now_unix_ns` dates the line about suppressed ones.
    pub fn poll(&mut self, now: Duration, now_unix_ns: u64) -> Polled {
        if now >= self.rotation_checked_at + ROTATION_CHECK_INTERVAL {
            self.rotation_checked_at = now;
            if self.output.follow_rotation().is_err() {
                self.stats.write_errors.fetch_add(1, Ordering::Relaxed);
            }
        }
        if self.lines.is_empty() {
            let records = self.format_batch(now, now_unix_ns);
            if self.lines.is_empty() {
                return if records == 0 { Polled::Idle } else { Polled::Busy };
            }
        }
        if now < self.retry_at || !self.flush(now) {
            return Polled::Stuck;
        }
        Polled::Busy
    }

    /// Runs the writer on a thread of its own.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn spawn(self) -> io::Result<LogThread> {
        let stop_by = Arc::new(OnceLock::new());
        let (ended, end) = mpsc::channel();
        let thread = thread::Builder::new().name("ringward-log".to_owned()).spawn({
            let stop_by = Arc::clone(&stop_by);
            move || {
                let everything_written = self.run(&stop_by);
                // Nobody waits any more if the grace period is over.
                let _ = ended.send(everything_written);
            }
        })?;
        Ok(LogThread { stop_by, end, thread: thread.thread().clone() })
    }

    fn run(mut self, stop_by: &OnceLock<Instant>) -> bool {
        let started = Instant::now();
        loop {
            let now_unix_ns = UNIX_EPOCH.elapsed().map_or(0, |since| since.as_nanos() as u64);
            let polled = self.poll(started.elapsed(), now_unix_ns);
            match stop_by.get() {
                Some(_) if polled == Polled::Idle => return true,
                Some(stop_by) if Instant::now() >= *stop_by => return false,
                _ => {}
            }
            if polled != Polled::Busy {
                thread::park_timeout(IDLE_INTERVAL);
            }
        }
    }

    /// Takes records from the queues in turn, until the batch is full or nothing is left, and says how many.
    fn format_batch(&mut self, now: Duration, now_unix_ns: u64) -> usize {
        let names = self.registry.names();
        let mut records = 0;
        let mut found = true;
        while found && records < BATCH_RECORDS && self.lines.len() < BATCH_BYTES {
            found = false;
            for receiver in &self.receivers {
                let Some(record) = receiver.pop() else { continue };
                found = true;
                records += 1;
                if matches!(record, Record::Handshake(_)) && !self.handshake_lines.take(now) {
                    self.suppressed += 1;
                    self.stats.lines_suppressed.fetch_add(1, Ordering::Relaxed);
                    continue;
                }
                self.formatter.line(&mut self.lines, &names, &record);
                if let Record::Access(record) = record {
                    self.access_records += 1;
                    receiver.recycle(record);
                }
            }
        }
        if self.suppressed > 0 && self.handshake_lines.take(now) {
            self.formatter.suppressed(&mut self.lines, now_unix_ns, self.suppressed);
            self.suppressed = 0;
        }
        records
    }

    /// True if all lines are out. Otherwise the rest is kept, to be continued in the middle of a line if need be.
    fn flush(&mut self, now: Duration) -> bool {
        while self.written < self.lines.len() {
            match self.output.write(&self.lines[self.written..]) {
                Ok(taken) if taken > 0 => self.written += taken,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(_) | Err(_) => {
                    self.stats.write_errors.fetch_add(1, Ordering::Relaxed);
                    self.retry_at = now + RETRY_INTERVAL;
                    return false;
                }
            }
        }
        self.stats.access_records_written.fetch_add(self.access_records, Ordering::Relaxed);
        self.access_records = 0;
        self.lines.clear();
        self.written = 0;
        true
    }
}

/// A running [`LogWriter`].
#[derive(Debug)]
pub struct LogThread {
    stop_by: Arc<OnceLock<Instant>>,
    end: mpsc::Receiver<bool>,
    thread: thread::Thread,
}

impl LogThread {
    /// Lets the writer empty the queues and end. To be called when the workers have ended. False if it did not get
    /// done within `grace`: what was left is lost.
    pub fn stop(self, grace: Duration) -> bool {
        self.stop_by.get_or_init(|| Instant::now() + grace);
        self.thread.unpark();
        // Not joined: a write to a pipe that nobody reads never returns.
        self.end.recv_timeout(grace).unwrap_or(false)
    }
}

/// A batch is written when it has this size; the last line of each queue may exceed it.
const BATCH_BYTES: usize = 64 * 1024;
/// Bounds a batch of records that make no lines.
const BATCH_RECORDS: usize = 1_024;
const IDLE_INTERVAL: Duration = Duration::from_millis(10);
const RETRY_INTERVAL: Duration = Duration::from_millis(100);
const ROTATION_CHECK_INTERVAL: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests;
