//! What the runs of a comparison amount to: medians, and ratios to the best peer.

use std::collections::BTreeMap;

use serde::Serialize;

use super::case::{Case, Load};
use super::measure::Sample;
use super::peer::Proxy;
use super::probe::Seen;

/// All that came of a comparison. Its fields are the members of the JSON, which only ever gets more of them.
#[derive(Debug, Serialize)]
pub(crate) struct Comparison {
    pub(super) machine: String,
    pub(super) proxy_cpus: String,
    pub(super) load_cpus: String,
    /// What clients offered.
    pub(super) offer: &'static str,
    /// Quick runs show that everything works, and their figures say nothing.
    pub(super) quick: bool,
    pub(super) seconds: f64,
    pub(super) rounds: u32,
    pub(super) idle_connections: u32,
    /// What is to be known before the figures are read.
    pub(super) notes: Vec<String>,
    pub(super) proxies: Vec<ProxyReport>,
    /// Requests per second of the cases of latency.
    pub(super) rates: BTreeMap<&'static str, u64>,
    pub(super) table: Vec<Row>,
    pub(super) runs: Vec<Sample>,
    pub(super) failures: Vec<FailureRow>,
}

/// One of the proxies that were chosen.
#[derive(Debug, Serialize)]
pub(super) struct ProxyReport {
    pub(super) name: &'static str,
    /// None if it is not installed.
    pub(super) version: Option<String>,
    /// Why it was not measured in some or all cases: what the probe saw, or what is wrong with its variable.
    pub(super) refused: Option<String>,
    /// What the probe saw without the policy, and with it.
    pub(super) probe: Vec<Seen>,
    pub(super) probe_with_policy: Vec<Seen>,
}

/// A proxy that could not be measured in a case.
#[derive(Debug, Serialize)]
pub(super) struct FailureRow {
    pub(super) case: Case,
    pub(super) proxy: &'static str,
    pub(super) reason: String,
}

/// A proxy in a case.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    pub(super) case: Case,
    pub(super) unit: &'static str,
    pub(super) rate_unit: &'static str,
    pub(super) proxy: &'static str,
    /// Whether it can be compared with others: it was saturated.
    pub(super) counts: bool,
    /// Runs that the figures are of: those that count, or all if none does.
    pub(super) runs: usize,
    pub(super) figure: Spread,
    /// To the best peer that counts.
    pub(super) ratio: Option<f64>,
    pub(super) rate: Option<Spread>,
    pub(super) busy: Option<Spread>,
    pub(super) load_busy: Spread,
    pub(super) foreign: Spread,
    pub(super) p50_us: Option<Spread>,
    pub(super) p99_us: Option<Spread>,
    pub(super) p999_us: Option<Spread>,
    pub(super) resumed: Option<Spread>,
    pub(super) base_mib: Option<Spread>,
    pub(super) remarks: Vec<String>,
}

/// Of several runs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Spread {
    pub(super) median: f64,
    pub(super) min: f64,
    pub(super) max: f64,
}

impl Comparison {
    /// Whether every proxy that is installed could be measured in every case.
    pub(crate) fn is_right(&self) -> bool {
        self.failures.is_empty() && !self.runs.is_empty()
    }

    /// Makes the table of the runs so far.
    pub(super) fn sum_up(&mut self) {
        self.table = table(&self.runs);
    }
}

/// Case after case, in each the best first.
fn table(runs: &[Sample]) -> Vec<Row> {
    let mut by_case: BTreeMap<(Case, &str), Vec<Sample>> = BTreeMap::new();
    for sample in runs {
        by_case.entry((sample.case, sample.proxy)).or_default().push(*sample);
    }
    let mut rows: Vec<Row> = by_case.into_values().map(|samples| row(&samples)).collect();
    let peers: Vec<&str> =
        Proxy::ALL.iter().filter(|proxy| proxy.is_peer()).map(|proxy| proxy.name()).collect();
    let best: BTreeMap<Case, f64> = rows
        .iter()
        .filter(|row| row.counts && peers.contains(&row.proxy))
        .map(|row| (row.case, row.figure.median))
        .fold(BTreeMap::new(), |mut best, (case, figure)| {
            best.entry(case).and_modify(|least: &mut f64| *least = least.min(figure)).or_insert(figure);
            best
        });
    for row in &mut rows {
        row.ratio = best.get(&row.case).filter(|&&best| best > 0.0).map(|best| row.figure.median / best);
    }
    rows.sort_by(|a, b| a.case.cmp(&b.case).then(a.figure.median.total_cmp(&b.figure.median)));
    rows
}

/// Of the runs of one proxy in one case, of which there is one at least.
fn row(samples: &[Sample]) -> Row {
    let Sample { case, proxy, .. } = samples[0];
    let saturated: Vec<Sample> = samples.iter().copied().filter(is_saturated).collect();
    let counts = !saturated.is_empty();
    let counted = if counts { &saturated[..] } else { samples };
    let all = |field: fn(&Sample) -> Option<f64>| Spread::of(counted.iter().filter_map(field));
    let busy = all(|sample| sample.busy);
    let resumed = all(|sample| sample.resumed);
    let load_busy = all(|sample| Some(sample.load_busy)).unwrap_or(Spread::NOTHING);
    let foreign = all(|sample| Some(sample.foreign)).unwrap_or(Spread::NOTHING);
    let base_mib = all(|sample| sample.base_mib);
    let mut remarks = Vec::new();
    if let Some(base) = base_mib {
        remarks.push(format!("{:.1} MiB without them", base.median));
    }
    if case.saturates() && saturated.len() < samples.len() {
        remarks.push(match counts {
            false => format!("busy below {BUSY_MIN} %"),
            true => {
                format!(
                    "{} of {} runs busy below {BUSY_MIN} %",
                    samples.len() - saturated.len(),
                    samples.len()
                )
            }
        });
    }
    if !counts && load_busy.median > LOAD_BUSY_MAX {
        remarks.push("the load was the limit".to_owned());
    }
    // Memory does not feel it.
    if foreign.max > FOREIGN_MAX && case.load != Load::Idle {
        remarks.push(format!("distrust: others used up to {:.0} %", foreign.max));
    }
    if case.load == Load::HandshakeResumed && resumed.is_some_and(|resumed| resumed.min < RESUMED_MIN) {
        remarks.push("does not resume all".to_owned());
    }
    Row {
        case,
        unit: case.unit(),
        rate_unit: case.rate_unit(),
        proxy,
        counts,
        runs: counted.len(),
        figure: all(|sample| Some(sample.figure)).unwrap_or(Spread::NOTHING),
        ratio: None,
        rate: all(|sample| sample.rate),
        busy,
        load_busy,
        foreign,
        p50_us: all(|sample| sample.p50_us),
        p99_us: all(|sample| sample.p99_us),
        p999_us: all(|sample| sample.p999_us),
        resumed,
        base_mib,
        remarks,
    }
}

fn is_saturated(sample: &Sample) -> bool {
    !sample.case.saturates() || sample.busy.is_some_and(|busy| busy >= BUSY_MIN)
}

impl Spread {
    const NOTHING: Spread = Spread { median: 0.0, min: 0.0, max: 0.0 };

    fn of(values: impl Iterator<Item = f64>) -> Option<Spread> {
        let mut values: Vec<f64> = values.collect();
        values.sort_by(f64::total_cmp);
        let (min, max) = (*values.first()?, *values.last()?);
        let (left, right) = (values[(values.len() - 1) / 2], values[values.len() / 2]);
        Some(Spread { median: left.midpoint(right), min, max })
    }
}

/// In percent. A proxy that waits for its load has smaller batches, and needs more processor time for each request.
const BUSY_MIN: f64 = 95.0;
/// In percent. It takes a moment to begin and to end, in which it is not.
const LOAD_BUSY_MAX: f64 = 85.0;
/// In percent of a processor.
const FOREIGN_MAX: f64 = 5.0;
/// In percent. The first connection of each client has nothing to resume.
const RESUMED_MIN: f64 = 90.0;

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A run of a case.
    pub(in crate::compare) fn sample(name: &str, proxy: &'static str, figure: f64, busy: f64) -> Sample {
        let case = Case::ALL.into_iter().find(|case| case.name() == name).unwrap();
        Sample {
            case,
            proxy,
            round: 1,
            figure,
            rate: Some(1.0),
            busy: Some(busy),
            load_busy: 0.0,
            foreign: 0.0,
            p50_us: None,
            p99_us: None,
            p999_us: None,
            resumed: None,
            base_mib: None,
        }
    }

    #[test]
    fn spreads_have_a_median() {
        for (values, expected) in [
            (&[][..], None),
            (&[3.0], Some([3.0, 3.0, 3.0])),
            (&[5.0, 1.0], Some([3.0, 1.0, 5.0])),
            (&[5.0, 1.0, 2.0], Some([2.0, 1.0, 5.0])),
        ] {
            let expected = expected.map(|[median, min, max]| Spread { median, min, max });
            assert_eq!(Spread::of(values.iter().copied()), expected, "{values:?}");
        }
    }

    #[test]
    fn what_was_not_saturated_does_not_count() {
        let rows = table(&[
            sample("keepalive", "ringward", 10.0, 99.0),
            sample("keepalive", "ringward", 12.0, 99.0),
            sample("keepalive", "ringward", 1.0, 50.0),
            sample("keepalive", "nginx", 5.0, 94.0),
            sample("keepalive", "haproxy", 20.0, 95.0),
            sample("latency", "nginx", 100.0, 10.0),
            sample("latency", "ringward", 50.0, 10.0),
        ]);
        let seen: Vec<_> = rows
            .iter()
            .map(|row| (row.case.name(), row.proxy, row.counts, row.runs, row.figure.median, row.ratio))
            .collect();
        assert_eq!(
            seen,
            [
                ("keepalive", "nginx", false, 1, 5.0, Some(0.25)),
                ("keepalive", "ringward", true, 2, 11.0, Some(0.55)),
                ("keepalive", "haproxy", true, 1, 20.0, Some(1.0)),
                ("latency", "ringward", true, 1, 50.0, Some(0.5)),
                ("latency", "nginx", true, 1, 100.0, Some(1.0)),
            ]
        );
        assert_eq!(rows[0].remarks, ["busy below 95 %"]);
        assert_eq!(rows[1].remarks, ["1 of 3 runs busy below 95 %"]);
    }

    #[test]
    fn ringward_alone_has_no_ratio() {
        assert_eq!(table(&[sample("h2", "ringward", 10.0, 99.0)])[0].ratio, None);
    }
}
