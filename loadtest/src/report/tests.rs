use std::path::Path;

use super::*;
use crate::origin::rfc3339;

/// A report of a run on a host of this name that began at this second, with so many right answers each second, for ten seconds.
pub(crate) fn synthetic(host: &str, unix: u64, right: u64) -> Report {
    synthetic_seconds(host, unix, &[right; 10])
}

/// The same with these right answers in its seconds. The times are the same for all hosts.
pub(crate) fn synthetic_seconds(host: &str, unix: u64, right: &[u64]) -> Report {
    let mut times = Times::new();
    let all: u64 = right.iter().sum();
    (0..all).for_each(|index| times.add(Duration::from_nanos(100_000 + index % 1000 * 1000)));
    let used = ServerReport {
        cpu_seconds: 0.5 * right.len() as f64,
        cpu_us_per_right: None,
        memory_begin: 1 << 20,
        memory_max: 3 << 20,
        memory_end: 2 << 20,
    };
    let seconds = right.len() as f64;
    let sample = |(index, right): (usize, &u64)| Sample {
        unix: unix + index as u64,
        lasts: 1.0,
        right: *right,
        opened: u64::from(index == 0),
        open: 1,
        p50_us: Some(600.0),
        p99_us: Some(1090.0),
        max_us: Some(1099.0),
        load_cpu: 0.25,
        ..Sample::default()
    };
    let target =
        |index: usize| TargetSample { unix: unix + index as u64, lasts: 1.0, cpu: 0.5, memory: 2 << 20 };
    let mut report = Report {
        schema: SCHEMA,
        processes: vec![Origin {
            harness: "ringward-load 0.0.0".to_owned(),
            host: host.to_owned(),
            boot: host.to_owned(),
            pid: 7,
            kernel: "Linux 6".to_owned(),
            cpu: "Some CPU".to_owned(),
            cpus: 2,
            started: rfc3339(unix as f64),
            seconds,
            cpu_seconds: 0.25 * seconds,
        }],
        plan: [("mode".to_owned(), "keepalive".to_owned()), ("path".to_owned(), "/".to_owned())].into(),
        mode: "keepalive".to_owned(),
        description: None,
        target: "192.0.2.1:443".to_owned(),
        connections: 1,
        tls: Some("TLSv1_3".to_owned()),
        seconds,
        right: all,
        failed: 0,
        refused: Some(1),
        rate: None,
        due: None,
        per_second: Some(all as f64 / seconds),
        received_bytes: all * 10,
        sent_bytes: 0,
        connections_opened: 1,
        connections_resumed: None,
        stale_connections: 0,
        statuses: [(200, all)].into(),
        failures: BTreeMap::new(),
        exchange_us: None,
        due_us: None,
        first_byte_us: None,
        round_trip_us: None,
        connect_us: None,
        handshake_us: None,
        requests: vec![KindReport { name: "read".to_owned(), right: all, failed: 0, exchange_us: None }],
        clients: vec![ClassReport {
            name: "good".to_owned(),
            connections_opened: 1,
            connections_resumed: None,
            refused: 1,
            refusals: [("an alert".to_owned(), 1)].into(),
            right: all,
            failed: 0,
        }],
        idle: None,
        server: None,
        targets: vec![TargetReport {
            host: "target".to_owned(),
            boot: "target".to_owned(),
            pid: 99,
            began_ticks: 5,
            used,
            series: (0..right.len()).map(target).collect(),
        }],
        histograms: [(EXCHANGE.to_owned(), times)].into(),
        series: right.iter().enumerate().map(sample).collect(),
    };
    report.sum_up();
    report
}

/// The same report with failures of which the first said this.
pub(crate) fn with_failures(mut report: Report, count: u64, first: &str) -> Report {
    report.failed += count;
    report.failures.insert(FailureKind::Malformed, FailureReport { count, first: first.to_owned() });
    let seconds = report.series.len() as u64;
    for (index, sample) in report.series.iter_mut().enumerate() {
        sample.failed += count / seconds + u64::from((index as u64) < count % seconds);
    }
    report
}

fn parse(text: &str) -> Result<Report, String> {
    Report::parse(Path::new("a.json"), text.as_bytes()).map_err(|error| error.to_string())
}

#[test]
fn what_is_written_is_what_is_read() {
    let report = with_failures(synthetic("a", 1_800_000_000, 100), 3, "\"<\u{1b}");
    let text = report.to_json();
    let read = parse(&text).unwrap();
    assert_eq!(read.to_json(), text);
    assert_eq!(read.histograms, report.histograms);
    assert_eq!(read.series, report.series);
    // A second is a line.
    assert!(text.lines().any(|line| line.trim_start().starts_with("{\"unix\":1800000003,")), "{text}");
}

/// Members that a later version adds are passed over.
#[test]
fn what_is_not_known_is_passed_over() {
    let text = synthetic("a", 1_800_000_000, 5).to_json().replacen('{', "{\"new\": {\"a\": [1]},", 1);
    assert_eq!(parse(&text).unwrap().right, 50);
}

#[test]
fn what_is_no_report_is_refused() {
    let good = synthetic("a", 1_800_000_000, 5).to_json();
    let histogram = good.split("\"exchange\": \"").nth(1).unwrap().split('"').next().unwrap();
    for (text, wanted) in [
        (String::new(), "`a.json` is no report of `ringward-load run --json`: EOF"),
        ("hello".to_owned(), "is no report"),
        ("[1, 2]".to_owned(), "it has no `schema`"),
        ("{\"right\": 5}".to_owned(), "it has no `schema`"),
        ("{\"schema\": 1}".to_owned(), "missing field"),
        (good.replace("\"schema\": 1", "\"schema\": 2"), "has schema 2, and this version reads 1"),
        (good.replace("\"schema\": 1", "\"schema\": \"x\""), "has schema \"x\""),
        (good[..good.len() / 2].to_owned(), "is no report"),
        (good.replace(histogram, &histogram[8..]), "a histogram is not in HdrHistogram's form V2"),
        (good.replace("2027-01-15T08:00:00Z", "yesterday"), "`started` is \"yesterday\""),
        (good.replace("\"unix\":1800000003", "\"unix\":18000000030000000"), "a sample of second"),
        (good.replace("\"right\": 50", "\"right\": -1"), "invalid value: integer `-1`"),
    ] {
        assert_ne!(text, good);
        let error = parse(&text).unwrap_err();
        assert!(error.contains(wanted), "{wanted}: {error}");
    }
    let error = Report::read(Path::new("/missing/a.json")).unwrap_err().to_string();
    assert!(error.contains("`/missing/a.json` cannot be read"), "{error}");
}

#[test]
fn text_has_no_control_characters_of_others() {
    let report = with_failures(synthetic("a", 1_800_000_000, 5), 2, "\u{1b}[2J\r\nright 5 \u{202e}");
    let text = report.to_text();
    assert!(text.contains("2   first: \u{fffd}[2J\u{fffd}\u{fffd}right 5 \u{fffd}"), "{text:?}");
}

#[test]
fn tables_have_a_row_for_each_second_and_quantile() {
    let mut report = with_failures(synthetic("a", 1_800_000_000, 100), 1, "=1, \"two\"");
    report.series[1].p50_us = None;
    let rows: Vec<_> = report.to_csv().lines().map(str::to_owned).collect();
    assert_eq!(rows.len(), 11);
    assert_eq!(rows[1], "2027-01-15T08:00:00Z,0.000,1.000,100,1,1,1,600.0,1090.0,1099.0,50.00,2097152,25.00");
    assert_eq!(rows[2], "2027-01-15T08:00:01Z,1.000,1.000,100,0,0,1,,1090.0,1099.0,50.00,2097152,25.00");
    let columns = |row: &String| row.matches(',').count();
    assert!(rows.iter().all(|row| columns(row) == columns(&rows[0])));
    let percentiles = report.to_percentiles_csv();
    assert!(percentiles.contains("\r\nexchange,50,599.0,1000\r\n"), "{percentiles}");
    assert_eq!(report.to_failures_csv(), "kind,count,first\r\nmalformed,1,\"'=1, \"\"two\"\"\"\r\n");
}
