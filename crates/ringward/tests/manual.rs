//! The references of `deploy/manual` are what the types and the catalogue of metrics say.
//!
//! `UPDATE_GOLDEN=1 cargo test -p ringward --test manual` writes them anew; read the difference then.
#![allow(clippy::unwrap_used, reason = "a failed expectation is a failed test")]

use std::fs;
use std::path::{Path, PathBuf};

use ringward_telemetry::metrics::{CATALOGUE, Kind, Metric};

#[test]
fn every_key_of_the_configuration_is_explained() {
    let entries = ringward_config::reference();
    let keys = entries.iter().filter(|entry| entry.heading.is_none());
    for key in keys.clone() {
        assert!(!key.doc.trim().is_empty(), "{}", key.path);
    }
    assert!(keys.count() > 150, "the reference has lost keys");
    compare("configuration.md", &configuration(&entries));
}

#[test]
fn every_metric_is_explained() {
    let rules = fs::read_to_string(deploy().join("prometheus/ringward.rules.yml")).unwrap();
    let text = metrics(&rules);
    for metric in CATALOGUE {
        assert!(text.contains(&format!("`{}`", metric.name)), "{}", metric.name);
    }
    compare("metrics.md", &text);
}

fn compare(name: &str, text: &str) {
    let path = deploy().join("manual").join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, text).unwrap();
    }
    let committed = fs::read_to_string(&path).unwrap_or_default();
    assert!(committed == text, "{} is not what the source says: see the top of manual.rs", path.display());
}

/// All tables, each with its keys.
fn configuration(entries: &[ringward_config::Entry]) -> String {
    let mut text = CONFIGURATION_HEAD.to_owned();
    for entry in entries {
        match &entry.heading {
            Some(heading) => text += &format!("\n## `{heading}`\n\n{}\n", entry.doc.trim()),
            None => {
                let name = entry.path.rsplit('.').next().unwrap_or(&entry.path);
                text += &format!("\n### `{name}`\n\n{}\n", entry.doc.trim());
            }
        }
    }
    text
}

/// All metrics, each with its labels and the alerts that look at it.
fn metrics(rules: &str) -> String {
    let mut text = METRICS_HEAD.to_owned();
    for metric in CATALOGUE {
        let (kind, samples) = match metric.kind {
            Kind::Counter => ("counter", ""),
            Kind::Gauge => ("gauge", ""),
            Kind::Histogram(_) => ("histogram", ", as `_bucket`, `_sum` and `_count`"),
        };
        let labels: Vec<String> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
        let labels = if labels.is_empty() { "none".to_owned() } else { labels.join(", ") };
        text +=
            &format!("\n## `{}`\n\n{}\n\n- A {kind}{samples}. Labels: {labels}.\n", metric.name, metric.help);
        let bounds = match metric.kind {
            Kind::Histogram(bounds) => bounds.iter().map(|nanos| seconds(*nanos)).collect::<Vec<_>>(),
            _ => Vec::new(),
        };
        if !bounds.is_empty() {
            text += &format!("- Buckets up to (seconds): {}.\n", bounds.join(", "));
        }
        let alerts = alerts_about(rules, metric);
        if !alerts.is_empty() {
            text += &format!("- Alerts: {}.\n", alerts.join(", "));
        }
    }
    text
}

fn seconds(nanos: u64) -> String {
    (nanos as f64 / 1e9).to_string()
}

/// Alerts whose expression names the metric itself; those by recording rules are found in the rules.
fn alerts_about(rules: &str, metric: &Metric) -> Vec<String> {
    let is_named = |block: &str| {
        block.match_indices(metric.name).any(|(at, name)| {
            let rest = block[at + name.len()..].trim_start_matches("_bucket");
            let before = block[..at].chars().next_back();
            !rest.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':')
                && before.is_none_or(|c| !(c.is_ascii_alphanumeric() || c == '_' || c == ':'))
        })
    };
    let blocks = rules.split("\n      - ").filter_map(|block| block.strip_prefix("alert: "));
    blocks
        .filter(|block| is_named(block))
        .filter_map(|block| block.lines().next())
        .map(|alert| format!("`{alert}`"))
        .collect()
}

fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy")
}

const CONFIGURATION_HEAD: &str = "# Configuration\n\n\
Every table and key of the configuration file, in the words that `ringward help config TABLE.KEY` prints. The file is TOML; relative paths begin \
at its directory. What is not here is refused, and so is everything that is not as it says; `ringward check -c FILE` finds it all, with line \
and column. Unless it is said otherwise a change is in force with the next request after a reload, which comes by itself; what needs a \
new process is refused by a reload that says so, and taken by `ringward upgrade` ([upgrade](../upgrade.md)).\n\n\
For editors: `ringward help config --json-schema`. A file with all keys is `crates/config/tests/sample.toml`.\n\n\
This file is made from the types by a test (`crates/ringward/tests/manual.rs`).\n";
const METRICS_HEAD: &str = "# Metrics\n\n\
Everything that `/metrics` of the admin listener has (`metrics` in `[admin]`), in the text format of Prometheus. A series with labels appears when \
there is something to count. Values of labels come from the configuration or from closed sets and never from clients; \
`ringward_metrics_series_max` is the most that there can be. Rules, alerts and dashboards: [prometheus](../prometheus/README.md), \
[grafana](../grafana/README.md).\n\n\
This file is made from the catalogue by a test (`crates/ringward/tests/manual.rs`).\n";
