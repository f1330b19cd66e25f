//! What both ends have counted, side by side.

use std::fmt::Write;

use serde::Serialize;

use super::metrics::Sample;
use crate::report::Report;

/// Something that both have counted.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Count {
    what: String,
    /// By `ringward-load`, and by Ringward.
    load: u64,
    gateway: u64,
}

impl Count {
    pub(super) fn agrees(&self) -> bool {
        self.load == self.gateway
    }
}

/// What a report says, and what the metrics have counted meanwhile.
pub(super) fn of(report: &Report, before: &Sample, now: &Sample) -> Vec<Count> {
    let since = |name: &str, labels: &[(&str, &str)]| now.since(before, name, labels);
    let count = |what: &str, load, gateway| Count { what: what.to_owned(), load, gateway };
    let finished = since("ringward_handshakes_finished_total", &[]);
    let completed = since("ringward_handshakes_finished_total", &[("outcome", "completed")]);
    let resumed = since("ringward_handshakes_resumed_total", &[]);
    let mut counts = vec![
        count("handshakes completed", report.connections_opened, completed),
        count("handshakes resumed", report.connections_resumed.unwrap_or(0), resumed),
        count("handshakes refused", report.refused.unwrap_or(0), finished - completed),
    ];
    let denied = report.statuses.get(&403).copied().unwrap_or(0);
    let generated = |flag: &&str| since("ringward_responses_generated_total", &[("flag", flag)]);
    counts.push(count("requests denied", denied, DENIALS.iter().map(generated).sum()));
    for class in 1..=5 {
        let name = format!("{class}xx");
        let answered = report.statuses.iter().filter(|(status, _)| **status / 100 == class);
        let load = answered.map(|(_, count)| count).sum();
        let gateway = since("ringward_requests_finished_total", &[("status_class", &name)]);
        if load > 0 || gateway > 0 {
            counts.push(count(&format!("answers {name}"), load, gateway));
        }
    }
    counts
}

/// The same for people.
pub(super) fn table(counts: &[Count]) -> String {
    let mut text = format!("{:<24}{:>14}{:>14}\n", "counted", "ringward-load", "ringward");
    for Count { what, load, gateway } in counts {
        let mark = if load == gateway { "" } else { "   they differ" };
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{what:<24}{load:>14}{gateway:>14}{mark}");
    }
    text
}

/// The flags of answers 403: by policy, and where a route needs a certificate.
const DENIALS: [&str; 2] = ["policy_denied", "certificate_required"];
