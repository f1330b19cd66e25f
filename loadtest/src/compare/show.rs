//! A comparison as text for people, as Markdown for documents, and as JSON for programs.

use std::fmt::{self, Write};

use super::case::Case;
use super::summary::{Comparison, FailureRow, ProxyReport, Row, Spread};

impl Comparison {
    /// One JSON object.
    pub(crate) fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("no map has keys that JSON cannot have")
    }

    /// Lines for people.
    pub(crate) fn to_text(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = self.write_text(&mut text);
        text
    }

    /// A table for documents.
    pub(crate) fn to_markdown(&self) -> String {
        let mut text = String::new();
        let _ = self.write_markdown(&mut text);
        text
    }

    fn write_text(&self, text: &mut String) -> fmt::Result {
        writeln!(text, "{}\n{}", self.machine, self.how())?;
        self.notes.iter().try_for_each(|note| writeln!(text, "{note}"))?;
        writeln!(text)?;
        for proxy in &self.proxies {
            writeln!(text, "{:<14}{}", proxy.name, proxy.about())?;
        }
        for case in self.cases() {
            let rows: Vec<&Row> = self.table.iter().filter(|row| row.case == case).collect();
            writeln!(text, "\n{}", self.headline(case))?;
            writeln!(text, "  {:<14}{}", "", HEAD.map(|name| format!("{name:>10}")).concat())?;
            for row in rows {
                let cells = row.cells().map(|cell| format!("{cell:>10}")).concat();
                let line = format!("  {:<14}{cells}  {}", row.proxy, row.remarks.join("; "));
                writeln!(text, "{}", line.trim_end())?;
            }
            for FailureRow { proxy, reason, .. } in self.failures.iter().filter(|row| row.case == case) {
                writeln!(text, "  {proxy:<14}not measured: {reason}")?;
            }
        }
        Ok(())
    }

    fn write_markdown(&self, text: &mut String) -> fmt::Result {
        writeln!(text, "{}. {}", self.machine, self.how())?;
        self.notes.iter().try_for_each(|note| writeln!(text, "{note}"))?;
        writeln!(text)?;
        for proxy in &self.proxies {
            writeln!(text, "- {}: {}", proxy.name, proxy.about())?;
        }
        writeln!(
            text,
            "\n| case | proxy | figure (min to max) | ratio | rate | busy % | foreign % | p50 / p99 / p99.9 µs | |"
        )?;
        writeln!(text, "|---|---|---|---|---|---|---|---|---|")?;
        for case in self.cases() {
            for row in self.table.iter().filter(|row| row.case == case) {
                let [median, min, max, ratio, rate, busy, foreign, p50, p99, p999, resumed] = row.cells();
                let latency = if p50.is_empty() { p50 } else { format!("{p50} / {p99} / {p999}") };
                let rate = format!("{rate} {}", row.rate_unit);
                let resumed = Some(resumed).filter(|text| !text.is_empty());
                let resumed = resumed.map(|percent| format!("{percent} % resumed"));
                let remarks: Vec<_> = resumed.into_iter().chain(row.remarks.iter().cloned()).collect();
                let remarks = remarks.join("; ");
                writeln!(
                    text,
                    "| {} | {} | {median} {} ({min} to {max}) | {ratio} | {} | {busy} | {foreign} | {latency} | {remarks} |",
                    case.name(),
                    row.proxy,
                    row.unit,
                    rate.trim(),
                )?;
            }
            for FailureRow { proxy, reason, .. } in self.failures.iter().filter(|row| row.case == case) {
                let reason = reason.replace('|', "\\|");
                writeln!(text, "| {} | {proxy} | not measured | | | | | | {reason} |", case.name())?;
            }
        }
        Ok(())
    }

    /// What was done, in a sentence.
    fn how(&self) -> String {
        let Comparison { proxy_cpus, load_cpus, rounds, seconds, .. } = self;
        format!(
            "Proxies on processor {proxy_cpus}, load and upstream on {load_cpus}; each figure the median of {rounds} × {seconds} s."
        )
    }

    fn cases(&self) -> impl Iterator<Item = Case> {
        let is_there = |case: &Case| {
            self.table.iter().any(|row| row.case == *case)
                || self.failures.iter().any(|row| row.case == *case)
        };
        Case::ALL.into_iter().filter(is_there)
    }

    fn headline(&self, case: Case) -> String {
        let rate = self.rates.get(case.name()).map(|rate| format!(", at {rate} requests per second"));
        let counted = case.rate_unit();
        let counted = if counted.is_empty() { String::new() } else { format!(", rate in {counted}") };
        format!("{}: {}{}{counted}", case.name(), case.unit(), rate.unwrap_or_default())
    }
}

impl ProxyReport {
    fn about(&self) -> String {
        let Some(version) = &self.version else {
            return self
                .refused
                .as_ref()
                .map_or("not installed, left out".to_owned(), |reason| format!("left out: {reason}"));
        };
        match &self.refused {
            None => version.clone(),
            Some(reason) => format!("{version}; NOT MEASURED: {reason}"),
        }
    }
}

impl Row {
    /// Median, least, most, ratio, rate, busy, foreign, three latencies, resumed.
    fn cells(&self) -> [String; 11] {
        let median = |spread: Option<Spread>| spread.map_or(String::new(), |spread| number(spread.median));
        [
            number(self.figure.median),
            number(self.figure.min),
            number(self.figure.max),
            self.ratio.map_or(String::new(), |ratio| format!("{ratio:.2}")),
            median(self.rate),
            median(self.busy),
            number(self.foreign.median),
            median(self.p50_us),
            median(self.p99_us),
            median(self.p999_us),
            median(self.resumed),
        ]
    }
}

/// With three digits, and all that are before the point.
fn number(value: f64) -> String {
    let digits = match value.abs() {
        0.0 => 0,
        value if value < 1.0 => 3,
        value if value < 10.0 => 2,
        value if value < 100.0 => 1,
        _ => 0,
    };
    format!("{value:.digits$}")
}

/// As [`Row::cells`] has them.
const HEAD: [&str; 11] = [
    "median",
    "min",
    "max",
    "ratio",
    "rate/s",
    "busy %",
    "foreign %",
    "p50 µs",
    "p99 µs",
    "p99.9 µs",
    "resumed %",
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::summary::tests::sample;
    use super::*;

    #[test]
    fn numbers_have_three_digits() {
        for (value, text) in [
            (0.0, "0"),
            (0.12345, "0.123"),
            (1.2345, "1.23"),
            (12.345, "12.3"),
            (123.45, "123"),
            (60319.4, "60319"),
        ] {
            assert_eq!(number(value), text);
        }
    }

    #[test]
    fn everything_is_shown_in_each_form() {
        let mut resumed = sample("handshake-resumed", "nginx", 600.0, 99.0);
        resumed.resumed = Some(99.5);
        let runs = vec![
            sample("keepalive", "ringward", 10.0, 99.0),
            sample("keepalive", "nginx", 20.0, 99.0),
            sample("keepalive", "nginx", 22.0, 99.0),
            resumed,
        ];
        let proxy = |name, version: Option<&str>, refused: Option<&str>| ProxyReport {
            name,
            version: version.map(str::to_owned),
            refused: refused.map(str::to_owned),
            probe: Vec::new(),
            probe_with_policy: Vec::new(),
        };
        let mut comparison = Comparison {
            machine: "a machine".to_owned(),
            proxy_cpus: "0".to_owned(),
            load_cpus: "1".to_owned(),
            offer: "",
            quick: false,
            seconds: 3.0,
            rounds: 2,
            idle_connections: 1,
            notes: Vec::new(),
            proxies: vec![
                proxy("nginx", Some("nginx/1"), None),
                proxy("envoy", Some("2"), Some("no certificate: status 200")),
                proxy("caddy", None, None),
            ],
            rates: BTreeMap::new(),
            table: Vec::new(),
            failures: vec![FailureRow { case: runs[0].case, proxy: "envoy", reason: "see above".to_owned() }],
            runs,
        };
        comparison.sum_up();
        let text = comparison.to_text();
        for line in [
            "caddy         not installed, left out",
            "envoy         2; NOT MEASURED: no certificate: status 200",
            "keepalive: CPU µs/request, rate in requests/s",
            "  ringward            10.0      10.0      10.0      0.48      1.00      99.0         0",
            "  nginx               21.0      20.0      22.0      1.00      1.00      99.0         0",
            "  envoy         not measured: see above",
        ] {
            assert!(text.lines().any(|other| other == line), "{line}\n{text}");
        }
        let markdown = comparison.to_markdown();
        for line in [
            "- caddy: not installed, left out",
            "| keepalive | nginx | 21.0 CPU µs/request (20.0 to 22.0) | 1.00 | 1.00 requests/s | 99.0 | 0 |  |  |",
            "| keepalive | envoy | not measured | | | | | | see above |",
            "| handshake-resumed | nginx | 600 CPU µs/connection (600 to 600) | 1.00 | 1.00 connections/s | 99.0 | 0 |  | 99.5 % resumed |",
        ] {
            assert!(markdown.lines().any(|other| other == line), "{line}\n{markdown}");
        }
        let json: serde_json::Value = serde_json::from_str(&comparison.to_json()).unwrap();
        assert_eq!(json["table"][0]["case"], "keepalive");
        assert_eq!(json["runs"].as_array().unwrap().len(), 4);
    }
}
