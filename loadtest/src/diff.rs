//! Compares reports: what was before a change with what is after it. How, and how far that can be believed: see [`statistics`].

mod text;

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use crate::report::Report;
use crate::settings::differences;
use crate::statistics::{self, Comparing, Estimate, Seconds, ratio};

/// Arguments of `ringward-load diff`.
#[derive(Clone, Debug, Args)]
pub(crate) struct DiffArguments {
    /// A report in JSON, of before, and one of after.
    #[arg(num_args = 2, value_names = ["BEFORE", "AFTER"], conflicts_with_all = ["before", "after"], required_unless_present = "before")]
    reports: Vec<PathBuf>,
    /// Several runs of before.
    #[arg(long, num_args = 1.., value_name = "REPORT", requires = "after")]
    before: Vec<PathBuf>,
    /// Several runs of after.
    #[arg(long, num_args = 1.., value_name = "REPORT", requires = "before")]
    after: Vec<PathBuf>,
    /// Exit code 1 if something has become worse by more than so many percent, with 95 % confidence: if its whole interval is beyond
    /// them. For failures: if they have become more frequent by so much, or there were none.
    #[arg(long, value_name = "PERCENT", value_parser = percent)]
    pub(crate) fail_if_worse: Option<f64>,
    /// Print the comparison as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Why there is nothing to compare.
#[derive(Debug, thiserror::Error)]
#[error("--before has {before} reports and --after {after}; give one each, or two at the least for each")]
pub(crate) struct OneAndMany {
    before: usize,
    after: usize,
}

/// A comparison. Its fields are the members of the JSON.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Comparison {
    schema: u32,
    before: Vec<Run>,
    after: Vec<Run>,
    /// Where the plans of the first runs differ.
    plan_differences: Vec<String>,
    /// How the intervals were made: `seconds and ranks` of one run each, or `runs`.
    method: Method,
    quantities: Vec<Quantity>,
}

/// A run that was compared.
#[derive(Clone, Debug, Serialize)]
struct Run {
    file: String,
    started: String,
    seconds: f64,
    right: u64,
    failed: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
enum Method {
    #[serde(rename = "seconds and ranks")]
    Within,
    #[serde(rename = "runs")]
    Between,
}

/// Something that was compared.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Quantity {
    name: String,
    unit: &'static str,
    /// Of one run of each, what it does per second in whole seconds. Of several runs, the geometric mean; of shares, the mean.
    before: f64,
    after: f64,
    /// What `difference` and `interval` are in: `percent`, or `points` for shares.
    difference_in: &'static str,
    difference: Option<f64>,
    /// With 95 % confidence. What is null is not bounded.
    interval: Option<[Option<f64>; 2]>,
    verdict: Verdict,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
enum Verdict {
    #[serde(rename = "slower")]
    Slower,
    #[serde(rename = "faster")]
    Faster,
    /// Of failures.
    #[serde(rename = "more")]
    More,
    #[serde(rename = "fewer")]
    Fewer,
    #[serde(rename = "no difference seen")]
    Same,
    #[serde(rename = "cannot be told")]
    Unknown,
}

/// Which way is worse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Worse {
    Less,
    More,
}

/// A quantity of a run that follows from its seconds.
struct PerSecond {
    name: &'static str,
    unit: &'static str,
    by: Comparing,
    worse: Worse,
    /// For those who read it.
    scale: f64,
    /// Second by second.
    seconds: fn(&Report) -> Seconds,
    /// Of the whole run.
    total: fn(&Report) -> Option<f64>,
}

impl DiffArguments {
    /// Which reports are of before, and which of after.
    ///
    /// # Errors
    /// One cannot be compared with several.
    pub(crate) fn sides(&self) -> Result<(Vec<PathBuf>, Vec<PathBuf>), OneAndMany> {
        let (before, after) = match &self.reports[..] {
            [before, after] => (vec![before.clone()], vec![after.clone()]),
            _ => (self.before.clone(), self.after.clone()),
        };
        let (one, other) = (before.len(), after.len());
        if (one == 1) == (other == 1) {
            Ok((before, after))
        } else {
            Err(OneAndMany { before: one, after: other })
        }
    }
}

impl Comparison {
    /// Compares reports, which have these names. There is one of each side, or two of each at the least.
    pub(crate) fn new(before: &[(PathBuf, Report)], after: &[(PathBuf, Report)]) -> Comparison {
        let run = |(file, report): &(PathBuf, Report)| Run {
            file: file.display().to_string(),
            started: report.processes.first().map_or_else(String::new, |process| process.started.clone()),
            seconds: report.seconds,
            right: report.right,
            failed: report.failed,
        };
        let reports =
            |side: &[(PathBuf, Report)]| side.iter().map(|(_, report)| report.clone()).collect::<Vec<_>>();
        let (a, b) = (reports(before), reports(after));
        let mut quantities: Vec<_> = PER_SECOND.iter().filter_map(|each| each.compare(&a, &b)).collect();
        for (phase, _) in a[0].phases() {
            quantities
                .extend(QUANTILES.iter().filter_map(|quantile| compare_times(phase, *quantile, &a, &b)));
        }
        Comparison {
            schema: 1,
            plan_differences: differences(&a[0].plan, &b[0].plan),
            before: before.iter().map(run).collect(),
            after: after.iter().map(run).collect(),
            method: if a.len() > 1 { Method::Between } else { Method::Within },
            quantities,
        }
    }

    /// What has become worse by more than so many percent, by name.
    pub(crate) fn worse_than(&self, percent: f64) -> Vec<&str> {
        let worse = self.quantities.iter().filter(|quantity| quantity.is_worse_than(percent));
        worse.map(|quantity| &*quantity.name).collect()
    }

    /// One JSON object.
    pub(crate) fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("it has no maps")
    }
}

impl PerSecond {
    /// `None` if one side does not have it.
    fn compare(&self, before: &[Report], after: &[Report]) -> Option<Quantity> {
        let totals = |reports: &[Report]| reports.iter().map(self.total).collect::<Option<Vec<_>>>();
        let (mut a, mut b) = (totals(before)?, totals(after)?);
        let estimate = match (before, after) {
            ([before], [after]) => {
                let (before, after) = ((self.seconds)(before), (self.seconds)(after));
                let estimate = statistics::of_series(&before, &after, self.by);
                // What is told is what was compared.
                if let (Some(_), Some(before), Some(after)) = (estimate, ratio(&before), ratio(&after)) {
                    (a, b) = (vec![before], vec![after]);
                }
                estimate
            }
            _ => statistics::of_runs(&a, &b, self.by),
        };
        Some(Quantity::new(
            self.name.to_owned(),
            self.unit,
            self.scale,
            (&a, &b),
            (self.by, self.worse),
            estimate,
        ))
    }
}

/// `None` if one side has no times of this phase.
fn compare_times(phase: &str, quantile: f64, before: &[Report], after: &[Report]) -> Option<Quantity> {
    let times = |report: &Report| {
        report
            .phases()
            .find(|(name, times)| *name == phase && times.count() > 0)
            .map(|(_, times)| times.clone())
    };
    let all = |reports: &[Report]| reports.iter().map(times).collect::<Option<Vec<_>>>();
    let (before, after) = (all(before)?, all(after)?);
    let [a, b] = [&before, &after]
        .map(|side| side.iter().map(|times| times.quantile_us(quantile)).collect::<Vec<_>>());
    let estimate = match (&before[..], &after[..]) {
        ([before], [after]) => statistics::of_quantiles(
            quantile,
            (before.count(), &|rank| before.ranked_us(rank)),
            (after.count(), &|rank| after.ranked_us(rank)),
        ),
        _ => statistics::of_runs(&a, &b, Comparing::Ratios),
    };
    let name = format!("{phase} p{}", quantile * 100.0);
    Some(Quantity::new(name, "µs", 1.0, (&a, &b), (Comparing::Ratios, Worse::More), estimate))
}

impl Quantity {
    fn new(
        name: String,
        unit: &'static str,
        scale: f64,
        (before, after): (&[f64], &[f64]),
        (by, worse): (Comparing, Worse),
        estimate: Option<Estimate>,
    ) -> Quantity {
        let (before, after) = (by.mean(before), by.mean(after));
        let told = |value: f64| match by {
            Comparing::Ratios => value.exp_m1() * 100.0,
            Comparing::Differences => value * scale,
        };
        // What is smaller by 100 % cannot be smaller.
        let bound = |value: f64| value.is_finite().then(|| told(value)).filter(|bound| bound.is_finite());
        let simple = match by {
            Comparing::Ratios if before > 0.0 => Some((after / before - 1.0) * 100.0),
            Comparing::Ratios => None,
            Comparing::Differences => Some((after - before) * scale),
        };
        let verdict = match estimate {
            None => Verdict::Unknown,
            Some(Estimate { low, high, .. }) if low <= 0.0 && high >= 0.0 => Verdict::Same,
            Some(Estimate { low, .. }) => match ((low > 0.0) == (worse == Worse::More), by) {
                (true, Comparing::Ratios) => Verdict::Slower,
                (false, Comparing::Ratios) => Verdict::Faster,
                (true, Comparing::Differences) => Verdict::More,
                (false, Comparing::Differences) => Verdict::Fewer,
            },
        };
        Quantity {
            name,
            unit,
            before: before * scale,
            after: after * scale,
            difference_in: if by == Comparing::Ratios { "percent" } else { POINTS },
            difference: estimate.map_or(simple, |estimate| Some(told(estimate.value))),
            interval: estimate.map(|estimate| [bound(estimate.low), bound(estimate.high)]),
            verdict,
        }
    }

    fn is_worse_than(&self, percent: f64) -> bool {
        let rises = self.before == 0.0 || (self.after / self.before - 1.0) * 100.0 > percent;
        let Some([low, high]) = self.interval else {
            // A run that is too short for an interval must not hide that its answers are wrong.
            return self.difference_in == POINTS && self.after > self.before && rises;
        };
        match self.verdict {
            // Of what should be much, the fall counts, and of what should be little, the rise.
            Verdict::Slower if self.difference.is_some_and(|difference| difference < 0.0) => {
                high.is_some_and(|high| high < -percent)
            }
            Verdict::Slower => low.is_some_and(|low| low > percent),
            Verdict::More => rises,
            _ => false,
        }
    }
}

/// Of the seconds that are whole, and lie between the first request and the last one.
fn whole_seconds(report: &Report) -> impl Iterator<Item = &crate::series::Sample> {
    let (begin, end) = (report.started(), report.started() + report.seconds);
    report.series.iter().filter(move |sample| {
        let unix = sample.unix as f64;
        unix >= begin && unix + sample.lasts <= end + LATE && sample.lasts > 1.0 - LATE
    })
}

fn throughput(report: &Report) -> Seconds {
    if report.per_second.is_none() {
        return Vec::new();
    }
    whole_seconds(report).map(|sample| (sample.right as f64, sample.lasts)).collect()
}

fn target_cpu(report: &Report) -> Seconds {
    let targets = report.target_series();
    let seconds = whole_seconds(report);
    seconds.filter_map(|sample| Some((targets.get(&sample.unix)?.cpu * 1e6, sample.right as f64))).collect()
}

fn failures(report: &Report) -> Seconds {
    whole_seconds(report)
        .map(|sample| (sample.failed as f64, sample.right as f64 + sample.failed as f64))
        .collect()
}

fn percent(text: &str) -> Result<f64, String> {
    let percent = text.parse().ok().filter(|percent| (0.0..=1000.0).contains(percent));
    percent.ok_or_else(|| "must be a number from 0 to 1000".to_owned())
}

const PER_SECOND: [PerSecond; 3] = [
    PerSecond {
        name: "throughput",
        unit: "/s",
        by: Comparing::Ratios,
        worse: Worse::Less,
        scale: 1.0,
        seconds: throughput,
        total: |report| report.per_second,
    },
    PerSecond {
        name: "target CPU per answer",
        unit: "µs",
        by: Comparing::Ratios,
        worse: Worse::More,
        scale: 1.0,
        seconds: target_cpu,
        total: |report| report.server?.cpu_us_per_right,
    },
    PerSecond {
        name: "failures",
        unit: "%",
        by: Comparing::Differences,
        worse: Worse::More,
        scale: 100.0,
        seconds: failures,
        total: |report| {
            let all = report.right as f64 + report.failed as f64;
            (all > 0.0).then(|| report.failed as f64 / all)
        },
    },
];
/// The unit of differences of shares: of failures.
const POINTS: &str = "points";
const QUANTILES: [f64; 4] = [0.5, 0.9, 0.99, 0.999];
/// A second may be so much shorter or longer, and is whole all the same.
const LATE: f64 = 0.2;

#[cfg(test)]
mod tests;
