//! The text of one page, in the text format of Prometheus.
//!
//! Metrics of the process, which have no labels, go through a `metrics` recorder of `metrics-exporter-prometheus` that lives for one
//! page; it is never the process-global recorder. Series with labels, of which there are thousands, are written as they are to stand
//! there: a key, an atomic and a place in several maps for each of ten thousand took several times as long as the folding, and all of
//! it from a core of the workers. Histograms come folded: the recorder takes their samples one by one, and after an hour between two
//! scrapes that would be hundreds of millions. All series of a metric have to stand together, so each metric has a text of its own
//! until the page is whole.

use std::collections::{HashMap, HashSet};
use std::fmt::Write;

use metrics::{Key, Level, Metadata, Recorder};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusRecorder};

use crate::histogram::Folded;
use crate::metrics::{self as catalogue, CATALOGUE, Kind, Metric};

/// A page in the making.
pub(super) struct Page {
    /// Of metrics without labels.
    recorder: PrometheusRecorder,
    /// Of all others, by the metric's name.
    families: HashMap<&'static str, Family>,
    series: usize,
    /// The labels of the series that is written, to be used again for the next.
    labels: String,
}

/// The series of a metric.
#[derive(Debug, Default)]
struct Family {
    text: String,
    /// Upper bounds of a histogram, in seconds: the same for all of its series, and slow to write.
    bounds: Vec<String>,
}

impl Page {
    pub(super) fn new() -> Page {
        let recorder = PrometheusBuilder::new().build_recorder();
        Page { recorder, families: HashMap::new(), series: 0, labels: String::new() }
    }

    /// Adds a series, which must not be there yet, with values for the labels of its metric.
    pub(super) fn counter(&mut self, metric: &'static Metric, labels: &[&str], value: u64) {
        debug_assert_eq!(metric.kind, Kind::Counter, "{}", metric.name);
        if metric.labels.is_empty() {
            self.series += 1;
            self.recorder.describe_counter(metric.name.into(), None, metric.help.into());
            return self
                .recorder
                .register_counter(&Key::from_static_name(metric.name), &METADATA)
                .absolute(value);
        }
        self.sample(metric, labels, itoa::Buffer::new().format(value));
    }

    /// As [`Page::counter`].
    pub(super) fn gauge(&mut self, metric: &'static Metric, labels: &[&str], value: f64) {
        debug_assert_eq!(metric.kind, Kind::Gauge, "{}", metric.name);
        if metric.labels.is_empty() {
            self.series += 1;
            self.recorder.describe_gauge(metric.name.into(), None, metric.help.into());
            return self.recorder.register_gauge(&Key::from_static_name(metric.name), &METADATA).set(value);
        }
        self.sample(metric, labels, &value.to_string());
    }

    /// A counter without labels whose unit is not whole, which the recorder cannot hold.
    pub(super) fn fractional_counter(&mut self, metric: &'static Metric, value: f64) {
        debug_assert_eq!(metric.kind, Kind::Counter, "{}", metric.name);
        self.sample(metric, &[], &value.to_string());
    }

    /// As [`Page::counter`].
    pub(super) fn histogram(&mut self, metric: &'static Metric, labels: &[&str], folded: &Folded) {
        self.series += folded.series();
        write_labels(&mut self.labels, metric, labels);
        let separator = if self.labels.is_empty() { "" } else { "," };
        let Family { text, bounds } = self.families.entry(metric.name).or_default();
        if bounds.is_empty() {
            bounds.extend(folded.cumulative().map(|(bound, _)| bound.to_string()));
        }
        let (mut number, name, labels) = (itoa::Buffer::new(), metric.name, self.labels.as_str());
        let count = folded.count();
        let counts = folded.cumulative().map(|(_, count)| count);
        for (bound, count) in bounds.iter().zip(counts).chain([(&"+Inf".to_owned(), count)]) {
            text.extend([
                name,
                "_bucket{",
                labels,
                separator,
                "le=\"",
                bound,
                "\"} ",
                number.format(count),
                "\n",
            ]);
        }
        line(text, name, "_sum", labels, &folded.sum_seconds().to_string());
        line(text, name, "_count", labels, number.format(count));
    }

    /// The whole of it: what has no labels, and then the rest in the order of the catalogue.
    pub(super) fn finish(mut self) -> String {
        self.gauge(&catalogue::METRICS_SERIES, &[], (self.series + 1) as f64);
        let bytes: usize = self.families.values().map(|family| family.text.len() + HEAD_BYTES).sum();
        let mut page = self.recorder.handle().render();
        page.reserve(bytes);
        for metric in CATALOGUE {
            let Some(Family { text, .. }) = self.families.get(metric.name) else { continue };
            debug_assert!(has_each_series_once(text), "Prometheus refuses what is given twice: {text}");
            let kind = match metric.kind {
                Kind::Counter => "counter",
                Kind::Gauge => "gauge",
                Kind::Histogram(_) => "histogram",
            };
            page.extend([
                "# HELP ",
                metric.name,
                " ",
                metric.help,
                "\n# TYPE ",
                metric.name,
                " ",
                kind,
                "\n",
                text,
                "\n",
            ]);
        }
        page
    }

    fn sample(&mut self, metric: &'static Metric, labels: &[&str], value: &str) {
        self.series += 1;
        write_labels(&mut self.labels, metric, labels);
        let text = &mut self.families.entry(metric.name).or_default().text;
        line(text, metric.name, "", &self.labels, value);
    }
}

/// `name="value"` for each label, with commas between.
fn write_labels(text: &mut String, metric: &Metric, values: &[&str]) {
    debug_assert_eq!(values.len(), metric.labels.len(), "{}", metric.name);
    text.clear();
    for (name, value) in metric.labels.iter().zip(values) {
        text.extend([if text.is_empty() { "" } else { "," }, name, "=\""]);
        write_escaped(text, value);
        text.push('"');
    }
}

/// The escapes of the text format. Registered names need none, so this is the second guard.
fn write_escaped(text: &mut String, value: &str) {
    let mut rest = value;
    while let Some(at) = rest.find(['\\', '"', '\n']) {
        let (before, escaped) = rest.split_at(at);
        text.push_str(before);
        // Writing to a string cannot fail.
        let _ = match escaped.as_bytes()[0] {
            b'\n' => write!(text, "\\n"),
            octet => write!(text, "\\{}", char::from(octet)),
        };
        rest = &escaped[1..];
    }
    text.push_str(rest);
}

fn line(text: &mut String, name: &str, suffix: &str, labels: &str, value: &str) {
    let (open, close) = if labels.is_empty() { ("", "") } else { ("{", "}") };
    text.extend([name, suffix, open, labels, close, " ", value, "\n"]);
}

fn has_each_series_once(text: &str) -> bool {
    let mut known = HashSet::new();
    text.lines().filter_map(|line| line.rsplit_once(' ')).all(|(series, _)| known.insert(series))
}

static METADATA: Metadata<'static> = Metadata::new("ringward", Level::INFO, None);
/// About what stands above the series of a metric.
const HEAD_BYTES: usize = 256;
