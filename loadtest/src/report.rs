//! What came of a run, as text for people and as JSON for programs.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use serde::Serialize;

use crate::clients::Outcome;
use crate::failure::FailureKind;
use crate::plan::Plan;
use crate::record::{Record, Times};

/// The outcome of a run. Its fields are the members of the JSON, which only ever gets more of them.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// The mode, or the name of the scenario.
    mode: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    target: String,
    connections: usize,
    /// Version, suite and group of the first connection.
    tls: Option<String>,
    seconds: f64,
    /// Exchanges whose answer was right.
    right: u64,
    failed: u64,
    /// Clients whose handshake was refused, as it must be. None unless there are such clients.
    #[serde(skip_serializing_if = "Option::is_none")]
    refused: Option<u64>,
    /// The rates that requests were due at, in an open loop, and how many were.
    #[serde(skip_serializing_if = "Option::is_none")]
    rate: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    due: Option<u64>,
    /// Right exchanges per second. None where they were waiting on purpose.
    per_second: Option<f64>,
    received_bytes: u64,
    sent_bytes: u64,
    connections_opened: u64,
    /// Those whose handshake resumed a session. None unless clients were to resume.
    #[serde(skip_serializing_if = "Option::is_none")]
    connections_resumed: Option<u64>,
    stale_connections: u64,
    statuses: BTreeMap<u16, u64>,
    failures: BTreeMap<FailureKind, FailureReport>,
    exchange_us: Option<TimesReport>,
    /// From when requests were due.
    #[serde(skip_serializing_if = "Option::is_none")]
    due_us: Option<TimesReport>,
    /// Until the first byte of the answer.
    first_byte_us: Option<TimesReport>,
    /// Of messages of WebSockets, there and back.
    #[serde(skip_serializing_if = "Option::is_none")]
    round_trip_us: Option<TimesReport>,
    /// TCP alone.
    connect_us: Option<TimesReport>,
    handshake_us: Option<TimesReport>,
    /// By the kind of the request and the class of the client, if there are several.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    requests: Vec<KindReport>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    clients: Vec<ClassReport>,
    #[serde(skip_serializing_if = "Option::is_none")]
    idle: Option<IdleReport>,
    /// What the target's processes used, if they were to be looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    server: Option<ServerReport>,
}

/// What the target's processes have used from the first request on.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct ServerReport {
    pub(crate) cpu_seconds: f64,
    /// Microseconds for each right answer.
    pub(crate) cpu_us_per_right: Option<f64>,
    /// Resident, in bytes: at the first request, at the most, and after the last.
    pub(crate) memory_begin: u64,
    pub(crate) memory_max: u64,
    pub(crate) memory_end: u64,
}

/// How requests of one kind did.
#[derive(Clone, Debug, Serialize)]
struct KindReport {
    name: String,
    right: u64,
    failed: u64,
    exchange_us: Option<TimesReport>,
}

/// How clients of one class did.
#[derive(Clone, Debug, Serialize)]
struct ClassReport {
    name: String,
    connections_opened: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    connections_resumed: Option<u64>,
    refused: u64,
    right: u64,
    failed: u64,
}

/// Failures of one kind.
#[derive(Clone, Debug, Serialize)]
struct FailureReport {
    count: u64,
    first: String,
}

/// Times in microseconds.
#[derive(Clone, Copy, Debug, Serialize)]
struct TimesReport {
    mean: f64,
    p50: f64,
    p90: f64,
    p99: f64,
    p999: f64,
    max: f64,
}

/// How connections did that had to wait.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct IdleReport {
    /// How long it took to open all and to make one request on each.
    pub(crate) opened_seconds: f64,
    /// Connections that waited.
    pub(crate) held: usize,
    /// Those of them that answered rightly afterwards.
    pub(crate) answered_again: usize,
}

impl Report {
    /// `due` says how many requests were due, in an open loop.
    pub(crate) fn new(
        plan: &Plan,
        record: &Record,
        elapsed: Duration,
        due: Option<u64>,
        idle: Option<IdleReport>,
        server: Option<ServerReport>,
    ) -> Report {
        let seconds = elapsed.as_secs_f64();
        let failures: BTreeMap<_, _> = record
            .failures
            .iter()
            .map(|(kind, failures)| {
                (*kind, FailureReport { count: failures.count, first: failures.first.clone() })
            })
            .collect();
        Report {
            mode: plan.name.clone(),
            description: plan.description.clone(),
            target: plan.target.to_string(),
            connections: plan.connections,
            tls: record.negotiated.clone(),
            seconds,
            right: record.right,
            failed: failures.values().map(|failures| failures.count).sum(),
            refused: plan
                .clients
                .classes
                .iter()
                .any(|class| class.outcome == Outcome::Refused)
                .then_some(record.refused),
            rate: plan.rate.as_ref().map(ToString::to_string),
            due,
            per_second: plan.hold.is_none().then(|| record.right as f64 / seconds),
            received_bytes: record.received_bytes,
            sent_bytes: record.sent_bytes,
            connections_opened: record.connections,
            connections_resumed: plan.clients.resume.then_some(record.resumed_connections),
            stale_connections: record.stale_connections,
            statuses: record.statuses.clone(),
            failures,
            exchange_us: TimesReport::new(&record.exchange_time),
            due_us: TimesReport::new(&record.due_time),
            first_byte_us: TimesReport::new(&record.first_byte_time),
            round_trip_us: TimesReport::new(&record.round_trip_time),
            connect_us: TimesReport::new(&record.connect_time),
            handshake_us: TimesReport::new(&record.handshake_time),
            requests: kinds(plan, record),
            clients: classes(plan, record),
            idle,
            server: server.map(|server| ServerReport {
                cpu_us_per_right: (record.right > 0).then(|| server.cpu_seconds * 1e6 / record.right as f64),
                ..server
            }),
        }
    }

    /// Whether something was asked for and every answer was right.
    pub(crate) fn is_right(&self) -> bool {
        self.right + self.refused.unwrap_or(0) > 0 && self.failed == 0
    }

    /// One JSON object.
    pub(crate) fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("no map has keys that JSON cannot have")
    }

    /// Lines for people.
    pub(crate) fn to_text(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = self.write(&mut text);
        text
    }

    fn write(&self, text: &mut String) -> std::fmt::Result {
        writeln!(
            text,
            "{} of {}, {} connections, {:.2} s",
            self.mode, self.target, self.connections, self.seconds
        )?;
        for line in [&self.description, &self.tls].into_iter().flatten() {
            writeln!(text, "  {line}")?;
        }
        if let (Some(rate), Some(due)) = (&self.rate, self.due) {
            writeln!(text, "due       {due:>12}   at {rate} per second")?;
        }
        let rate = self.per_second.map(|rate| format!("   {rate:.0} per second")).unwrap_or_default();
        writeln!(text, "right     {:>12}{rate}", self.right)?;
        writeln!(text, "failed    {:>12}", self.failed)?;
        for (kind, failures) in &self.failures {
            writeln!(text, "  {:<10}{:>10}   first: {}", kind.as_str(), failures.count, failures.first)?;
        }
        if let Some(refused) = self.refused {
            writeln!(text, "refused   {refused:>12} clients, as they must be")?;
        }
        for (status, count) in &self.statuses {
            writeln!(text, "status {status}{count:>12}")?;
        }
        for (name, bytes) in [("received", self.received_bytes), ("sent", self.sent_bytes)] {
            if bytes > 0 {
                let rate = bytes as f64 / 1e6 / self.seconds;
                writeln!(text, "{name:<10}{bytes:>12} bytes of bodies, {rate:.1} MB/s")?;
            }
        }
        writeln!(
            text,
            "opened    {:>12} connections, {} were stale when used again",
            self.connections_opened, self.stale_connections
        )?;
        if let Some(resumed) = self.connections_resumed {
            let share = resumed as f64 * 100.0 / (self.connections_opened.max(1)) as f64;
            writeln!(text, "resumed   {resumed:>12} of them, {share:.1} %")?;
        }
        if let Some(idle) = &self.idle {
            let IdleReport { opened_seconds, held, answered_again } = idle;
            writeln!(text, "held      {held:>12} connections, opened in {opened_seconds:.2} s")?;
            writeln!(text, "again     {answered_again:>12} of them answered afterwards")?;
        }
        if let Some(ServerReport { cpu_seconds, cpu_us_per_right, memory_begin, memory_max, memory_end }) =
            self.server
        {
            let busy = cpu_seconds * 100.0 / self.seconds;
            let each = cpu_us_per_right
                .map(|each| format!(", {each:.1} µs for each right answer"))
                .unwrap_or_default();
            writeln!(text, "target    {cpu_seconds:>12.2} s of CPU time, {busy:.0} % of a core{each}")?;
            let [begin, max, end] =
                [memory_begin, memory_max, memory_end].map(|bytes| bytes as f64 / f64::from(1 << 20));
            writeln!(text, "memory    {max:>12.1} MiB at the most, {begin:.1} before, {end:.1} after")?;
        }
        for ClassReport { name, connections_opened, refused, right, failed, .. } in &self.clients {
            let refused = if *refused > 0 { format!(", {refused} refused") } else { String::new() };
            writeln!(
                text,
                "clients   {right:>12} right, {failed} failed, {connections_opened} connections{refused}: {name}"
            )?;
        }
        for KindReport { name, right, failed, exchange_us } in &self.requests {
            let times =
                exchange_us.map(|times| format!(", p50 {:.1} µs, p99 {:.1} µs", times.p50, times.p99));
            writeln!(
                text,
                "requests  {right:>12} right, {failed} failed{}: {name}",
                times.unwrap_or_default()
            )?;
        }
        let header = ["mean", "p50", "p90", "p99", "p99.9", "max"];
        writeln!(text, "{:<11}{}", "µs", header.map(|name| format!("{name:>11}")).concat())?;
        for (name, times) in [
            ("since due", self.due_us),
            ("exchange", self.exchange_us),
            ("first byte", self.first_byte_us),
            ("round trip", self.round_trip_us),
            ("connect", self.connect_us),
            ("handshake", self.handshake_us),
        ] {
            if let Some(TimesReport { mean, p50, p90, p99, p999, max }) = times {
                let columns = [mean, p50, p90, p99, p999, max].map(|value| format!("{value:>11.1}"));
                writeln!(text, "{name:<11}{}", columns.concat())?;
            }
        }
        Ok(())
    }
}

fn kinds(plan: &Plan, record: &Record) -> Vec<KindReport> {
    let all = plan.requests.kinds.iter().zip(&record.by_kind);
    let report = all.map(|(kind, record)| KindReport {
        name: kind.name.clone(),
        right: record.right,
        failed: record.failed,
        exchange_us: TimesReport::new(&record.exchange_time),
    });
    if record.by_kind.len() > 1 { report.collect() } else { Vec::new() }
}

fn classes(plan: &Plan, record: &Record) -> Vec<ClassReport> {
    let all = plan.clients.classes.iter().zip(&record.by_class);
    let report = all.map(|(class, record)| ClassReport {
        name: class.name.clone(),
        connections_opened: record.connections,
        connections_resumed: plan.clients.resume.then_some(record.resumed_connections),
        refused: record.refused,
        right: record.right,
        failed: record.failed,
    });
    if record.by_class.len() > 1 { report.collect() } else { Vec::new() }
}

impl TimesReport {
    fn new(times: &Times) -> Option<TimesReport> {
        (times.count() > 0).then(|| TimesReport {
            mean: times.mean_us(),
            p50: times.quantile_us(0.5),
            p90: times.quantile_us(0.9),
            p99: times.quantile_us(0.99),
            p999: times.quantile_us(0.999),
            max: times.quantile_us(1.0),
        })
    }
}

#[cfg(test)]
impl Report {
    pub(crate) fn right(&self) -> u64 {
        self.right
    }

    pub(crate) fn due(&self) -> Option<u64> {
        self.due
    }

    /// Of exchanges, and of the same since they were due: p50 and the longest, in microseconds.
    pub(crate) fn medians_and_longest(&self) -> [(f64, f64); 2] {
        [self.exchange_us, self.due_us].map(|times| times.map(|times| (times.p50, times.max)).unwrap())
    }

    pub(crate) fn seconds(&self) -> f64 {
        self.seconds
    }

    pub(crate) fn server(&self) -> Option<ServerReport> {
        self.server
    }

    pub(crate) fn statuses(&self) -> &BTreeMap<u16, u64> {
        &self.statuses
    }

    pub(crate) fn connections_opened(&self) -> u64 {
        self.connections_opened
    }

    pub(crate) fn connections_resumed(&self) -> Option<u64> {
        self.connections_resumed
    }

    pub(crate) fn stale_connections(&self) -> u64 {
        self.stale_connections
    }

    pub(crate) fn bytes(&self) -> (u64, u64) {
        (self.received_bytes, self.sent_bytes)
    }

    pub(crate) fn idle(&self) -> Option<IdleReport> {
        self.idle
    }

    /// Kinds of failures with their numbers.
    pub(crate) fn failures(&self) -> Vec<(FailureKind, u64)> {
        self.failures.iter().map(|(kind, failures)| (*kind, failures.count)).collect()
    }

    /// What the first failure of a kind said.
    pub(crate) fn first(&self, kind: FailureKind) -> &str {
        &self.failures[&kind].first
    }
}
