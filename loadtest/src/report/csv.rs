//! A report as tables (RFC 4180), each with a line that names its columns: the seconds, the percentiles, the failures.

use std::fmt::Write;

use super::Report;
use crate::origin::rfc3339;
use crate::times::Times;

impl Report {
    /// One row for each second. What is not known is empty.
    ///
    /// `time`: its begin, in UTC. `second`: the same counted from the first request on, negative while connections are opened. `lasts`:
    /// its length, less for the first and the last one. `right`, `failed`, `opened`: how many in it. `open`: connections at its end.
    /// `p50_us`, `p99_us`, `max_us`: of exchanges, or since due in an open loop. `target_cpu_percent` and `load_cpu_percent`: of one
    /// core. `target_memory_bytes`: at its end.
    pub(crate) fn to_csv(&self) -> String {
        let columns = "time,second,lasts,right,failed,opened,open,p50_us,p99_us,max_us,target_cpu_percent,target_memory_bytes,load_cpu_percent";
        let mut text = format!("{columns}\r\n");
        let (started, targets) = (self.started(), self.target_series());
        for sample in &self.series {
            let percent = |cpu: f64, lasts: f64| format!("{:.2}", cpu * 100.0 / lasts.max(1e-3));
            let target = targets.get(&sample.unix);
            let optional = |value: Option<f64>| value.map(|value| format!("{value:.1}")).unwrap_or_default();
            let row = [
                rfc3339(sample.unix as f64),
                format!("{:.3}", sample.unix as f64 - started),
                format!("{:.3}", sample.lasts),
                sample.right.to_string(),
                sample.failed.to_string(),
                sample.opened.to_string(),
                sample.open.to_string(),
                optional(sample.p50_us),
                optional(sample.p99_us),
                optional(sample.max_us),
                target.map(|target| percent(target.cpu, target.lasts)).unwrap_or_default(),
                target.map(|target| target.memory.to_string()).unwrap_or_default(),
                percent(sample.load_cpu, sample.lasts),
            ];
            push_row(&mut text, &row);
        }
        text
    }

    /// For each phase its percentiles: `phase`, `percentile`, `us`, and `count`, how many times there are in all.
    pub(crate) fn to_percentiles_csv(&self) -> String {
        let mut text = "phase,percentile,us,count\r\n".to_owned();
        for (phase, times) in self.phases() {
            for quantile in quantiles(times) {
                let row = [
                    phase.to_owned(),
                    percentile(quantile),
                    format!("{:.1}", times.quantile_us(quantile)),
                    times.count().to_string(),
                ];
                push_row(&mut text, &row);
            }
        }
        text
    }

    /// `kind`, `count`, and `first`, what the first one said.
    pub(crate) fn to_failures_csv(&self) -> String {
        let mut text = "kind,count,first\r\n".to_owned();
        for (kind, failures) in &self.failures {
            let row = [kind.as_str().to_owned(), failures.count.to_string(), failures.first.clone()];
            push_row(&mut text, &row);
        }
        text
    }
}

/// Ten for each nine: 0, 0.1 … 0.9, 0.91 … 0.99, 0.991 and so on, as far as there are times for them, and 1.
pub(crate) fn quantiles(times: &Times) -> Vec<f64> {
    let mut all = vec![0.0];
    let mut step: f64 = 0.1;
    while step * times.count() as f64 >= 1.0 || all.len() == 1 {
        all.extend((1..10).map(|index| 1.0 - 10.0 * step + f64::from(index) * step));
        step /= 10.0;
    }
    all.push(1.0);
    all
}

fn percentile(quantile: f64) -> String {
    let text = format!("{:.8}", quantile * 100.0);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn push_row(text: &mut String, cells: &[String]) {
    for (index, cell) in cells.iter().enumerate() {
        let comma = if index > 0 { "," } else { "" };
        // Writing to a String cannot fail.
        let _ = write!(text, "{comma}{}", quoted(cell));
    }
    text.push_str("\r\n");
}

/// A cell. What a target has said may look like a formula, which spreadsheets would carry out: it gets an apostrophe, as they have it.
fn quoted(cell: &str) -> String {
    let is_number = cell.parse::<f64>().is_ok();
    let formula = cell.starts_with(['=', '+', '-', '@', '\t', '\r']) && !is_number;
    let cell = if formula { format!("'{cell}") } else { cell.to_owned() };
    if cell.contains(['"', ',', '\r', '\n']) { format!("\"{}\"", cell.replace('"', "\"\"")) } else { cell }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn cells_are_quoted_where_they_must_be() {
        for (cell, wanted) in [
            ("plain words", "plain words"),
            ("a, b", "\"a, b\""),
            ("he said \"no\"", "\"he said \"\"no\"\"\""),
            ("two\nlines", "\"two\nlines\""),
            ("=cmd|' /C calc'!A0", "'=cmd|' /C calc'!A0"),
            ("@SUM(1,2)", "\"'@SUM(1,2)\""),
            ("-1.5", "-1.5"),
            ("-1+2", "'-1+2"),
            ("", ""),
        ] {
            assert_eq!(quoted(cell), wanted);
        }
    }

    #[test]
    fn there_are_as_many_nines_as_there_are_times_for() {
        for (count, nines) in [(1, 1), (10, 1), (100, 2), (9999, 3), (10_000, 4)] {
            let mut times = Times::new();
            (0..count).for_each(|_| times.add(Duration::from_millis(1)));
            let all = quantiles(&times);
            assert_eq!(all.len(), 2 + 9 * nines, "{count}");
            assert!(all.is_sorted() && all.iter().all(|quantile| (0.0..=1.0).contains(quantile)), "{all:?}");
        }
        assert_eq!([0.0, 0.5, 0.99, 0.9995, 1.0].map(percentile), ["0", "50", "99", "99.95", "100"]);
    }
}
