//! What came of a run. As JSON it is kept, read again, merged and compared; `text`, `csv` and `html` are for people and their programs.

mod csv;
mod format;
mod html;
mod json;
mod plot;
mod text;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clients::Outcome;
use crate::failure::FailureKind;
use crate::origin::{Origin, parse_rfc3339};
use crate::plan::Plan;
use crate::record::Record;
use crate::series::{Sample, TargetSample};
use crate::times::Times;
use crate::watch::Watched;

pub(crate) use self::format::{OutFile, ReportArguments, WriteError, write_files};
pub(crate) use self::json::ReadError;

/// The outcome of a run. Its fields are the members of the JSON, which only ever gets more of them: readers pass over what they do
/// not know. If the meaning of one ever has to change, `schema` will be another number.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Report {
    /// 1.
    pub(crate) schema: u32,
    /// The processes that made the load: one, or several if this was merged.
    pub(crate) processes: Vec<Origin>,
    /// What was to be done, by the names of the arguments: two reports with the same can be compared, or merged.
    pub(crate) plan: BTreeMap<String, String>,
    /// The mode, or the name of the scenario.
    pub(crate) mode: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) description: Option<String>,
    pub(crate) target: String,
    pub(crate) connections: usize,
    /// Version, suite and group of the first connection.
    pub(crate) tls: Option<String>,
    pub(crate) seconds: f64,
    /// Exchanges whose answer was right.
    pub(crate) right: u64,
    pub(crate) failed: u64,
    /// Clients whose handshake was refused, as it must be. None unless there are such clients.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) refused: Option<u64>,
    /// The rates that requests were due at, in an open loop, and how many were.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) rate: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) due: Option<u64>,
    /// Right exchanges per second. None where they were waiting on purpose.
    pub(crate) per_second: Option<f64>,
    pub(crate) received_bytes: u64,
    pub(crate) sent_bytes: u64,
    pub(crate) connections_opened: u64,
    /// Those whose handshake resumed a session. None unless clients were to resume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) connections_resumed: Option<u64>,
    pub(crate) stale_connections: u64,
    pub(crate) statuses: BTreeMap<u16, u64>,
    pub(crate) failures: BTreeMap<FailureKind, FailureReport>,
    pub(crate) exchange_us: Option<TimesReport>,
    /// From when requests were due.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) due_us: Option<TimesReport>,
    /// Until the first byte of the answer.
    pub(crate) first_byte_us: Option<TimesReport>,
    /// Of messages of WebSockets, there and back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) round_trip_us: Option<TimesReport>,
    /// TCP alone.
    pub(crate) connect_us: Option<TimesReport>,
    pub(crate) handshake_us: Option<TimesReport>,
    /// By the kind of the request and by the class of the client, if there are several.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) requests: Vec<KindReport>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) clients: Vec<ClassReport>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) idle: Option<IdleReport>,
    /// What the target's processes used, if they were to be looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) server: Option<ServerReport>,
    /// The same by process, each with what it used in each second.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) targets: Vec<TargetReport>,
    /// All times in nanoseconds, by phase: `due`, `exchange`, `first_byte`, `round_trip`, `connect`, `handshake`; and `exchange NAME` for
    /// each kind of requests. Without those of which there are none.
    pub(crate) histograms: BTreeMap<String, Times>,
    /// What happened in each second, from before the first connection was opened.
    pub(crate) series: Vec<Sample>,
}

/// How requests of one kind did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct KindReport {
    pub(crate) name: String,
    pub(crate) right: u64,
    pub(crate) failed: u64,
    /// Of the histogram `exchange NAME`.
    pub(crate) exchange_us: Option<TimesReport>,
}

/// How clients of one class did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ClassReport {
    pub(crate) name: String,
    pub(crate) connections_opened: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) connections_resumed: Option<u64>,
    /// Those whose handshake was refused, as it must be.
    pub(crate) refused: u64,
    /// How they were told of it, with how often: the alert, or that the connection ended.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) refusals: BTreeMap<String, u64>,
    pub(crate) right: u64,
    pub(crate) failed: u64,
}

/// What the target's processes have used from the first request on.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ServerReport {
    pub(crate) cpu_seconds: f64,
    /// Microseconds for each right answer.
    pub(crate) cpu_us_per_right: Option<f64>,
    /// Resident, in bytes: at the first request, at the most, and after the last.
    pub(crate) memory_begin: u64,
    pub(crate) memory_max: u64,
    pub(crate) memory_end: u64,
}

/// A process under load, with those that it has started.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct TargetReport {
    pub(crate) host: String,
    /// Of which boot of it, as in [`Origin`].
    pub(crate) boot: String,
    pub(crate) pid: u32,
    /// When it was started, in clock ticks since the host was.
    pub(crate) began_ticks: u64,
    pub(crate) used: ServerReport,
    pub(crate) series: Vec<TargetSample>,
}

/// Failures of one kind.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct FailureReport {
    pub(crate) count: u64,
    pub(crate) first: String,
}

/// Times in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct TimesReport {
    pub(crate) mean: f64,
    pub(crate) p50: f64,
    pub(crate) p90: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
    pub(crate) max: f64,
}

/// How connections did that had to wait.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
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
        watched: Watched,
    ) -> Report {
        let seconds = elapsed.as_secs_f64();
        let targets: Vec<_> = watched.target.into_iter().collect();
        let times = [
            (DUE, &record.due_time),
            (EXCHANGE, &record.exchange_time),
            (FIRST_BYTE, &record.first_byte_time),
            (ROUND_TRIP, &record.round_trip_time),
            (CONNECT, &record.connect_time),
            (HANDSHAKE, &record.handshake_time),
        ];
        let times = times.into_iter().map(|(name, times)| (name.to_owned(), times));
        let kinds = plan.requests.kinds.iter().zip(&record.by_kind);
        let times = times.chain(kinds.map(|(kind, record)| (of_kind(&kind.name), &record.exchange_time)));
        let some = times.filter(|(_, times)| times.count() > 0);
        let failures: BTreeMap<_, _> = record
            .failures
            .iter()
            .map(|(kind, failures)| {
                (*kind, FailureReport { count: failures.count, first: failures.first.clone() })
            })
            .collect();
        let mut report = Report {
            schema: SCHEMA,
            processes: vec![watched.origin],
            plan: plan.settings.clone(),
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
            exchange_us: None,
            due_us: None,
            first_byte_us: None,
            round_trip_us: None,
            connect_us: None,
            handshake_us: None,
            requests: kinds_of(plan, record),
            clients: classes_of(plan, record),
            idle,
            server: None,
            targets,
            histograms: some.map(|(name, times)| (name, times.clone())).collect(),
            series: watched.series,
        };
        report.sum_up();
        report
    }

    /// Makes what follows from the histograms and the targets.
    pub(crate) fn sum_up(&mut self) {
        let times = |name: &str| self.histograms.get(name).and_then(TimesReport::new);
        (self.due_us, self.exchange_us) = (times(DUE), times(EXCHANGE));
        self.first_byte_us = times(FIRST_BYTE);
        (self.connect_us, self.handshake_us) = (times(CONNECT), times(HANDSHAKE));
        self.round_trip_us = times(ROUND_TRIP);
        for kind in &mut self.requests {
            kind.exchange_us = self.histograms.get(&of_kind(&kind.name)).and_then(TimesReport::new);
        }
        let used = self.targets.iter().map(|target| target.used);
        let used = used.reduce(|a, b| ServerReport {
            cpu_seconds: a.cpu_seconds + b.cpu_seconds,
            cpu_us_per_right: None,
            memory_begin: a.memory_begin.saturating_add(b.memory_begin),
            memory_max: a.memory_max.saturating_add(b.memory_max),
            memory_end: a.memory_end.saturating_add(b.memory_end),
        });
        self.server = used.map(|used| ServerReport {
            cpu_us_per_right: (self.right > 0).then(|| used.cpu_seconds * 1e6 / self.right as f64),
            ..used
        });
    }

    /// Times by phase, with their names for people.
    pub(crate) fn times(&self) -> [(&'static str, Option<TimesReport>); 6] {
        [
            ("since due", self.due_us),
            ("exchange", self.exchange_us),
            ("first byte", self.first_byte_us),
            ("round trip", self.round_trip_us),
            ("connect", self.connect_us),
            ("handshake", self.handshake_us),
        ]
    }

    /// The histograms in the same order.
    pub(crate) fn phases(&self) -> impl Iterator<Item = (&'static str, &Times)> {
        let names = [DUE, EXCHANGE, FIRST_BYTE, ROUND_TRIP, CONNECT, HANDSHAKE];
        let names = names.into_iter().zip(self.times().map(|(shown, _)| shown));
        names.filter_map(|(name, shown)| Some((shown, self.histograms.get(name)?)))
    }

    /// When requests began, in seconds since 1970 in UTC.
    pub(crate) fn started(&self) -> f64 {
        let starts = self.processes.iter().filter_map(|process| parse_rfc3339(&process.started));
        starts.reduce(f64::min).unwrap_or(0.0)
    }

    /// What the targets used, second by second, added up.
    pub(crate) fn target_series(&self) -> BTreeMap<u64, TargetSample> {
        let mut sums = BTreeMap::<u64, TargetSample>::new();
        for sample in self.targets.iter().flat_map(|target| &target.series) {
            let sum =
                sums.entry(sample.unix).or_insert(TargetSample { unix: sample.unix, ..Default::default() });
            sum.lasts = sum.lasts.max(sample.lasts);
            sum.cpu += sample.cpu;
            sum.memory = sum.memory.saturating_add(sample.memory);
        }
        sums
    }

    /// Whether something was asked for and every answer was right.
    pub(crate) fn is_right(&self) -> bool {
        self.right + self.refused.unwrap_or(0) > 0 && self.failed == 0
    }
}

/// One kind alone is all that there is.
fn kinds_of(plan: &Plan, record: &Record) -> Vec<KindReport> {
    let all = plan.requests.kinds.iter().zip(&record.by_kind);
    let report = all.map(|(kind, record)| KindReport {
        name: kind.name.clone(),
        right: record.right,
        failed: record.failed,
        exchange_us: None,
    });
    if record.by_kind.len() > 1 { report.collect() } else { Vec::new() }
}

fn classes_of(plan: &Plan, record: &Record) -> Vec<ClassReport> {
    let all = plan.clients.classes.iter().zip(&record.by_class);
    let report = all.map(|(class, record)| ClassReport {
        name: class.name.clone(),
        connections_opened: record.connections,
        connections_resumed: plan.clients.resume.then_some(record.resumed_connections),
        refused: record.refused,
        refusals: record.refusals.clone(),
        right: record.right,
        failed: record.failed,
    });
    // How clients were refused is told of one class too.
    if record.by_class.len() > 1 || record.refused > 0 { report.collect() } else { Vec::new() }
}

/// The name of the histogram of a kind of requests.
fn of_kind(name: &str) -> String {
    format!("{EXCHANGE} {name}")
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

const SCHEMA: u32 = 1;
/// The names of histograms.
const DUE: &str = "due";
const EXCHANGE: &str = "exchange";
const FIRST_BYTE: &str = "first_byte";
const ROUND_TRIP: &str = "round_trip";
const CONNECT: &str = "connect";
const HANDSHAKE: &str = "handshake";

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

#[cfg(test)]
pub(crate) mod tests;
