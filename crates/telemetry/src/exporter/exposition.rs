//! Text of the series that a `metrics` recorder cannot carry: histograms that are already folded, and a counter of
//! fractional seconds.
//!
//! The recorder takes histogram samples one by one, also in `record_many`: a loop that stores each of them with a time
//! stamp, to be added up when the page is rendered. After an hour between two scrapes that would be hundreds of millions
//! of them at once. The buckets lie in the shards already, so writing them out is both less and exact.

use std::fmt::Write;

use super::HistogramSeries;
use crate::metrics::Metric;

/// Appends a counter without labels.
pub(super) fn counter(text: &mut String, metric: &Metric, value: f64) {
    head(text, metric, "counter");
    line(text, metric.name, "", "", value);
    text.push('\n');
}

/// Appends a histogram with its series.
pub(super) fn histogram(text: &mut String, metric: &Metric, series: &[HistogramSeries]) {
    head(text, metric, "histogram");
    for HistogramSeries { labels: values, folded } in series {
        let labels = labels(metric, values);
        let separator = if labels.is_empty() { "" } else { "," };
        for (bound, count) in folded.cumulative() {
            line(text, metric.name, "_bucket", &format!("{labels}{separator}le=\"{bound}\""), count);
        }
        line(text, metric.name, "_bucket", &format!("{labels}{separator}le=\"+Inf\""), folded.count());
        line(text, metric.name, "_sum", &labels, folded.sum_seconds());
        line(text, metric.name, "_count", &labels, folded.count());
    }
    text.push('\n');
}

fn head(text: &mut String, metric: &Metric, kind: &str) {
    let Metric { name, help, .. } = metric;
    // Writing to a string cannot fail; the same holds below.
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

fn labels(metric: &Metric, values: &[String]) -> String {
    let pairs: Vec<String> = metric
        .labels
        .iter()
        .zip(values)
        .map(|(name, value)| format!("{name}=\"{}\"", escaped(value)))
        .collect();
    pairs.join(",")
}

fn line(text: &mut String, name: &str, suffix: &str, labels: &str, value: impl std::fmt::Display) {
    let _ = if labels.is_empty() {
        writeln!(text, "{name}{suffix} {value}")
    } else {
        writeln!(text, "{name}{suffix}{{{labels}}} {value}")
    };
}

/// The escapes of the text format. Registered names need none, so this is the second guard.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
