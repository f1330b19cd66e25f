//! Makes one report of those of several processes or hosts, as if one process had made all their load.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;

use crate::origin::rfc3339;
use crate::plain::shown;
use crate::report::{
    ClassReport, FailureReport, IdleReport, KindReport, OutFile, Report, ServerReport, TargetReport,
};
use crate::series::TargetSample;
use crate::settings::differences;

/// Arguments of `ringward-load merge`.
#[derive(Clone, Debug, Args)]
pub(crate) struct MergeArguments {
    /// Reports in JSON.
    #[arg(required = true, num_args = 2..)]
    pub(crate) reports: Vec<PathBuf>,
    /// Where the merged report goes, in the form that its name ends in: .json, .csv, .html or .txt.
    #[arg(long, value_name = "FILE", required = true)]
    pub(crate) out: Vec<OutFile>,
    /// Merge also runs that were to do different things, or did not overlap in time.
    #[arg(long)]
    pub(crate) force: bool,
}

/// Why reports cannot be merged.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MergeError {
    #[error("process {pid} on {host} is in two of them, with the run that began at {started}")]
    Twice { host: String, pid: u32, started: String },
    #[error(
        "they were to do different things ({}); use --force if they belong together all the same", .0.join("; ")
    )]
    Plans(Vec<String>),
    #[error(
        "they did not run at the same time: one ended at {ended}, and another began at {began}; use `diff` to compare them, or --force if the clocks are wrong"
    )]
    Apart { ended: String, began: String },
}

/// Makes one report of all, of which there is one at the least.
///
/// # Errors
/// Why they do not belong together. With `force` only that a process is in two of them.
pub(crate) fn merge(reports: Vec<Report>, force: bool) -> Result<Report, MergeError> {
    refuse_twice(&reports)?;
    if !force {
        refuse_different(&reports)?;
        refuse_apart(&reports)?;
    }
    let mut reports = reports.into_iter();
    let mut sum = reports.next().expect("the command line has two at the least");
    reports.for_each(|report| add(&mut sum, report));
    sum.processes.sort_by(|a, b| a.started.cmp(&b.started));
    sum.sum_up();
    Ok(sum)
}

fn refuse_twice(reports: &[Report]) -> Result<(), MergeError> {
    let processes: Vec<_> = reports.iter().flat_map(|report| &report.processes).collect();
    for (index, process) in processes.iter().enumerate() {
        if processes[..index].iter().any(|earlier| earlier.is(process)) {
            let (host, started) = (shown(&process.host), shown(&process.started));
            return Err(MergeError::Twice { host, pid: process.pid, started });
        }
    }
    Ok(())
}

fn refuse_different(reports: &[Report]) -> Result<(), MergeError> {
    let first = &reports[0].plan;
    let differ = reports.iter().map(|report| differences(first, &report.plan));
    differ
        .into_iter()
        .find(|differ| !differ.is_empty())
        .map_or(Ok(()), |differ| Err(MergeError::Plans(differ)))
}

fn refuse_apart(reports: &[Report]) -> Result<(), MergeError> {
    let end = |report: &Report| report.started() + report.seconds;
    let began = reports.iter().max_by(|a, b| a.started().total_cmp(&b.started()));
    let ended = reports.iter().min_by(|a, b| end(a).total_cmp(&end(b)));
    match began.zip(ended) {
        Some((began, ended)) if began.started() >= end(ended) => {
            Err(MergeError::Apart { ended: rfc3339(end(ended)), began: rfc3339(began.started()) })
        }
        _ => Ok(()),
    }
}

/// By their names; what follows from histograms is made later.
fn add_kinds(sum: &mut Vec<KindReport>, more: Vec<KindReport>) {
    for kind in more {
        match sum.iter_mut().find(|known| known.name == kind.name) {
            Some(known) => {
                known.right = known.right.saturating_add(kind.right);
                known.failed = known.failed.saturating_add(kind.failed);
            }
            None => sum.push(kind),
        }
    }
}

/// By their names.
fn add_classes(sum: &mut Vec<ClassReport>, more: Vec<ClassReport>) {
    for class in more {
        let Some(known) = sum.iter_mut().find(|known| known.name == class.name) else {
            sum.push(class);
            continue;
        };
        for (count, more) in [
            (&mut known.connections_opened, class.connections_opened),
            (&mut known.refused, class.refused),
            (&mut known.right, class.right),
            (&mut known.failed, class.failed),
        ] {
            *count = count.saturating_add(more);
        }
        for (how, count) in class.refusals {
            let all = known.refusals.entry(how).or_default();
            *all = all.saturating_add(count);
        }
        known.connections_resumed =
            both(known.connections_resumed, class.connections_resumed, u64::saturating_add);
    }
}

/// Adds a report to the sum.
fn add(sum: &mut Report, report: Report) {
    let began = sum.started().min(report.started());
    let ended = (sum.started() + sum.seconds).max(report.started() + report.seconds);
    sum.seconds = ended - began;
    sum.processes.extend(report.processes);
    for (name, value) in report.plan {
        join(sum.plan.entry(name).or_default(), &value);
    }
    join(&mut sum.mode, &report.mode);
    join(&mut sum.target, &report.target);
    sum.connections = sum.connections.saturating_add(report.connections);
    join_optional(&mut sum.description, report.description);
    join_optional(&mut sum.tls, report.tls);
    join_optional(&mut sum.rate, report.rate);
    for (count, more) in [
        (&mut sum.right, report.right),
        (&mut sum.failed, report.failed),
        (&mut sum.received_bytes, report.received_bytes),
        (&mut sum.sent_bytes, report.sent_bytes),
        (&mut sum.connections_opened, report.connections_opened),
        (&mut sum.stale_connections, report.stale_connections),
    ] {
        *count = count.saturating_add(more);
    }
    for (count, more) in [
        (&mut sum.due, report.due),
        (&mut sum.refused, report.refused),
        (&mut sum.connections_resumed, report.connections_resumed),
    ] {
        *count = both(*count, more, u64::saturating_add);
    }
    let per_second = sum.right as f64 / sum.seconds;
    sum.per_second = sum.per_second.or(report.per_second).map(|_| per_second);
    for (status, count) in report.statuses {
        let all = sum.statuses.entry(status).or_default();
        *all = all.saturating_add(count);
    }
    for (kind, failures) in report.failures {
        let all = sum.failures.entry(kind).or_insert(FailureReport { count: 0, first: failures.first });
        all.count = all.count.saturating_add(failures.count);
    }
    add_kinds(&mut sum.requests, report.requests);
    add_classes(&mut sum.clients, report.clients);
    sum.idle = both(sum.idle, report.idle, |a, b| IdleReport {
        opened_seconds: a.opened_seconds.max(b.opened_seconds),
        held: a.held.saturating_add(b.held),
        answered_again: a.answered_again.saturating_add(b.answered_again),
    });
    for target in report.targets {
        match sum.targets.iter_mut().find(|known| known.is(&target)) {
            Some(known) => known.see(&target),
            None => sum.targets.push(target),
        }
    }
    for (name, times) in report.histograms {
        match sum.histograms.get_mut(&name) {
            Some(all) => all.add_all(&times),
            None => {
                sum.histograms.insert(name, times);
            }
        }
    }
    let mut series: BTreeMap<_, _> = sum.series.iter().map(|sample| (sample.unix, *sample)).collect();
    for sample in &report.series {
        series.entry(sample.unix).and_modify(|all| all.add(sample)).or_insert(*sample);
    }
    sum.series = series.into_values().collect();
}

impl TargetReport {
    /// Whether both looked at the same process.
    fn is(&self, other: &TargetReport) -> bool {
        let identity = |target: &TargetReport| (target.boot.clone(), target.pid, target.began_ticks);
        identity(self) == identity(other)
    }

    /// Adds what somebody else has seen of the same process. Its CPU time is not another's: it counts once, of those who saw most of it.
    fn see(&mut self, other: &TargetReport) {
        self.used = ServerReport {
            cpu_seconds: self.used.cpu_seconds.max(other.used.cpu_seconds),
            cpu_us_per_right: None,
            memory_begin: self.used.memory_begin.min(other.used.memory_begin),
            memory_max: self.used.memory_max.max(other.used.memory_max),
            memory_end: self.used.memory_end.max(other.used.memory_end),
        };
        let mut series: BTreeMap<_, _> = self.series.iter().map(|sample| (sample.unix, *sample)).collect();
        for sample in &other.series {
            let seen = series.entry(sample.unix).or_insert(*sample);
            *seen = TargetSample {
                unix: sample.unix,
                lasts: seen.lasts.max(sample.lasts),
                cpu: seen.cpu.max(sample.cpu),
                memory: seen.memory.max(sample.memory),
            };
        }
        self.series = series.into_values().collect();
    }
}

/// What both say, or what each says.
fn join(text: &mut String, other: &str) {
    if text.is_empty() {
        other.clone_into(text);
    } else if !text.split(" | ").any(|part| part == other) {
        *text = format!("{text} | {other}");
    }
}

fn join_optional(text: &mut Option<String>, other: Option<String>) {
    match (text, other) {
        (Some(text), Some(other)) => join(text, &other),
        (text @ None, other) => *text = other,
        (Some(_), None) => {}
    }
}

fn both<T>(a: Option<T>, b: Option<T>, sum: impl FnOnce(T, T) -> T) -> Option<T> {
    match (a, b) {
        (Some(a), Some(b)) => Some(sum(a, b)),
        (a, b) => a.or(b),
    }
}

#[cfg(test)]
mod tests;
