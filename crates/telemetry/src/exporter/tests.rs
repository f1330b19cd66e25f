use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use super::*;
use crate::closed::{CloseReason, ClosedSets, PolicyOutcome};
use crate::registry::Limits;
use crate::shard::Shard;

const SETS: ClosedSets = ClosedSets {
    handshake_reasons: &["expired", "unknown_issuer"],
    response_flags: &["no_route", "policy_denied"],
    upstream_errors: &["connect_refused"],
};
const BUILD: BuildInfo = BuildInfo { version: "1.2.3", revision: "abc" };
const NOW_UNIX: f64 = 1_000_000.0;

struct Fixture {
    registry: Registry,
    control: Arc<ControlMetrics>,
    exporter: Exporter,
}

impl Fixture {
    fn new(limits: Limits) -> Fixture {
        let registry = Registry::new(SETS, limits);
        let control = Arc::new(ControlMetrics::default());
        let log = Arc::new(LogStats::default());
        let exporter = Exporter::new(registry.clone(), Arc::clone(&control), log, BUILD);
        Fixture { registry, control, exporter }
    }

    fn page(&self) -> ParsedPage {
        let figures =
            ProcessFigures { resident_bytes: Some(4_096), open_fds: Some(7), cpu_seconds: Some(1.25) };
        ParsedPage::parse(&self.exporter.render_at(NOW_UNIX, figures))
    }
}

/// A page as Prometheus reads it; panics on what Prometheus would refuse.
struct ParsedPage {
    help: HashMap<String, String>,
    kinds: HashMap<String, String>,
    samples: HashMap<String, f64>,
}

impl ParsedPage {
    fn parse(text: &str) -> ParsedPage {
        let sample = regex::Regex::new(
            r#"^([a-z_]+)(\{[a-z_]+="(?:[^"\\\n]|\\[\\"n])*"(?:,[a-z_]+="(?:[^"\\\n]|\\[\\"n])*")*\})? (\S+)$"#,
        )
        .unwrap();
        let mut page = ParsedPage { help: HashMap::new(), kinds: HashMap::new(), samples: HashMap::new() };
        assert!(text.ends_with('\n'));
        for line in text.lines().filter(|line| !line.is_empty()) {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, help) = rest.split_once(' ').unwrap();
                assert!(page.help.insert(name.to_owned(), help.to_owned()).is_none(), "{line}");
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').unwrap();
                assert!(page.kinds.insert(name.to_owned(), kind.to_owned()).is_none(), "{line}");
            } else {
                let captures = sample.captures(line).unwrap_or_else(|| panic!("not a sample: {line}"));
                let name = &captures[1];
                let family = ["_bucket", "_sum", "_count"]
                    .into_iter()
                    .filter_map(|suffix| name.strip_suffix(suffix))
                    .find(|family| page.kinds.get(*family).is_some_and(|kind| kind == "histogram"))
                    .unwrap_or(name);
                assert!(page.kinds.contains_key(family), "a sample before its type: {line}");
                let value = captures[3].parse().unwrap_or_else(|_| panic!("not a number: {line}"));
                let (series, _) = line.rsplit_once(' ').unwrap();
                assert!(page.samples.insert(series.to_owned(), value).is_none(), "given twice: {line}");
            }
        }
        page
    }

    #[track_caller]
    fn value(&self, series: &str) -> f64 {
        *self.samples.get(series).unwrap_or_else(|| panic!("no series {series}"))
    }
}

/// Counts one of everything.
fn exercise(registry: &Registry, shard: &Shard) {
    let edge = registry.listener("edge");
    shard.connection_accepted(edge);
    shard.connection_accepted(edge);
    shard.connection_closed(edge, CloseReason::IdleTimeout);
    shard.handshake_completed(edge, 3_000_000);
    shard.handshake_failed(edge, "expired");
    shard.handshake_failed(edge, "a reason that nobody registered");
    shard.downstream_bytes(edge, 100, 2_000);
    shard.identity_headers_stripped(edge, 3);
    shard.request_misdirected(edge);
    shard.response_generated(edge, "policy_denied");
    shard.request_finished(registry.route(edge, "orders"), 204, 1_000_000);
    shard.request_finished(registry.unmatched(edge), 404, 50_000);
    shard.policy_decided(registry.policy("main"), PolicyOutcome::Denied, 15_000);
    let cluster = registry.cluster("orders");
    shard.upstream_connection_opened(cluster);
    shard.upstream_request(cluster, false);
    shard.upstream_request(cluster, true);
    shard.upstream_retry(cluster);
    shard.upstream_response(cluster, 2_000_000);
    shard.upstream_error(cluster, "connect_refused");
    shard.panic_caught();
    shard.access_record_dropped();
    shard.log_record_dropped();
    shard.heartbeat(999_999_500, 4);
}

#[test]
fn every_metric_of_the_catalogue_is_exported_with_help_and_type() {
    let fixture = Fixture::new(Limits::default());
    exercise(&fixture.registry, &fixture.registry.shard(0));
    fixture.control.snapshot_published(4, NOW_UNIX - 60.0);
    fixture.control.expiries_changed([("api.example.com".to_owned(), 5)], [("partners".to_owned(), 6)]);
    let page = fixture.page();
    for metric in CATALOGUE {
        let kind = match metric.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram(_) => "histogram",
        };
        assert_eq!(page.kinds.get(metric.name).map(String::as_str), Some(kind), "{}", metric.name);
        assert_eq!(page.help.get(metric.name).map(String::as_str), Some(metric.help), "{}", metric.name);
    }
    assert_eq!(page.kinds.len(), CATALOGUE.len(), "nothing is exported that the catalogue does not name");
}

#[test]
fn what_was_counted_is_what_is_exported() {
    let fixture = Fixture::new(Limits::default());
    exercise(&fixture.registry, &fixture.registry.shard(2));
    fixture.control.snapshot_published(4, NOW_UNIX - 60.0);
    fixture.control.reload_finished(ReloadOutcome::Failed, NOW_UNIX);
    fixture
        .control
        .expiries_changed([("*.example.com".to_owned(), 1_800_000_000)], [("partners".to_owned(), 6)]);
    let page = fixture.page();
    for (series, value) in [
        (r#"ringward_connections_accepted_total{listener="edge"}"#, 2.0),
        (r#"ringward_connections_active{listener="edge"}"#, 1.0),
        (r#"ringward_connections_closed_total{listener="edge",reason="idle_timeout"}"#, 1.0),
        (r#"ringward_connections_closed_total{listener="edge",reason="drain"}"#, 0.0),
        (r#"ringward_handshakes_finished_total{listener="edge",outcome="completed",reason="none"}"#, 1.0),
        (r#"ringward_handshakes_finished_total{listener="edge",outcome="failed",reason="expired"}"#, 1.0),
        (
            r#"ringward_handshakes_finished_total{listener="edge",outcome="failed",reason="unknown_issuer"}"#,
            0.0,
        ),
        (r#"ringward_handshakes_finished_total{listener="edge",outcome="failed",reason="other"}"#, 1.0),
        (r#"ringward_downstream_received_bytes_total{listener="edge"}"#, 100.0),
        (r#"ringward_downstream_sent_bytes_total{listener="edge"}"#, 2_000.0),
        (r#"ringward_identity_headers_stripped_total{listener="edge"}"#, 3.0),
        (r#"ringward_requests_misdirected_total{listener="edge"}"#, 1.0),
        (r#"ringward_responses_generated_total{listener="edge",flag="policy_denied"}"#, 1.0),
        (r#"ringward_requests_finished_total{listener="edge",route="orders",status_class="2xx"}"#, 1.0),
        (r#"ringward_requests_finished_total{listener="edge",route="unmatched",status_class="4xx"}"#, 1.0),
        (r#"ringward_policy_decisions_total{policy="main",outcome="denied"}"#, 1.0),
        (r#"ringward_policy_decisions_total{policy="main",outcome="allowed"}"#, 0.0),
        (r#"ringward_upstream_requests_total{cluster="orders"}"#, 2.0),
        (r#"ringward_upstream_connections_opened_total{cluster="orders"}"#, 1.0),
        (r#"ringward_upstream_connections_reused_total{cluster="orders"}"#, 1.0),
        (r#"ringward_upstream_retries_total{cluster="orders"}"#, 1.0),
        (r#"ringward_upstream_errors_total{cluster="orders",reason="connect_refused"}"#, 1.0),
        (r#"ringward_worker_panics_total{worker="2"}"#, 1.0),
        (r#"ringward_worker_heartbeat_timestamp_seconds{worker="2"}"#, 999_999.5),
        (r#"ringward_worker_snapshot_generation{worker="2"}"#, 4.0),
        (r#"ringward_access_records_dropped_total{worker="2"}"#, 1.0),
        (r#"ringward_log_records_dropped_total{worker="2"}"#, 1.0),
        (r#"ringward_reloads_finished_total{outcome="failed"}"#, 1.0),
        ("ringward_config_generation", 4.0),
        ("ringward_snapshot_age_seconds", 60.0),
        ("ringward_reload_success_timestamp_seconds", NOW_UNIX - 60.0),
        (r#"ringward_certificate_not_after_timestamp_seconds{host="*.example.com"}"#, 1_800_000_000.0),
        (r#"ringward_trust_not_after_timestamp_seconds{bundle="partners"}"#, 6.0),
        (r#"ringward_build_info{version="1.2.3",revision="abc"}"#, 1.0),
        ("ringward_process_cpu_seconds_total", 1.25),
        ("ringward_process_open_fds", 7.0),
        ("ringward_process_resident_memory_bytes", 4_096.0),
    ] {
        assert_eq!(page.value(series), value, "{series}");
    }
}

#[test]
fn histograms_are_cumulative_and_their_sum_is_exact() {
    let fixture = Fixture::new(Limits::default());
    let policy = fixture.registry.policy("main");
    let (first, second) = (fixture.registry.shard(0), fixture.registry.shard(1));
    for (shard, duration_ns) in
        [(&first, 2_000), (&second, 2_001), (&first, 7_000_500), (&second, 90_000_000)]
    {
        shard.policy_decided(policy, PolicyOutcome::Allowed, duration_ns);
    }
    let page = fixture.page();
    let bucket = |le: &str| {
        page.value(&format!(
            r#"ringward_policy_evaluation_duration_seconds_bucket{{policy="main",le="{le}"}}"#
        ))
    };
    assert_eq!((bucket("0.000002"), bucket("0.000005"), bucket("0.005")), (1.0, 2.0, 2.0));
    assert_eq!((bucket("0.01"), bucket("0.05"), bucket("+Inf")), (3.0, 3.0, 4.0));
    assert_eq!(page.value(r#"ringward_policy_evaluation_duration_seconds_count{policy="main"}"#), 4.0);
    assert_eq!(page.value(r#"ringward_policy_evaluation_duration_seconds_sum{policy="main"}"#), 0.097_004);
}

#[test]
fn a_certificate_that_is_gone_leaves_the_report() {
    let fixture = Fixture::new(Limits::default());
    let series = r#"ringward_certificate_not_after_timestamp_seconds{host="old.example.com"}"#;
    fixture.control.expiries_changed([("old.example.com".to_owned(), 5)], []);
    assert_eq!(fixture.page().value(series), 5.0);
    fixture.control.expiries_changed([("new.example.com".to_owned(), 9)], []);
    assert!(!fixture.page().samples.contains_key(series));
}

#[test]
fn reloads_and_restarted_workers_lose_no_count() {
    let fixture = Fixture::new(Limits::default());
    let edge = fixture.registry.listener("edge");
    let series = r#"ringward_requests_finished_total{listener="edge",route="orders",status_class="2xx"}"#;
    let shard = fixture.registry.shard(0);
    shard.request_finished(fixture.registry.route(edge, "orders"), 200, 1);
    // A reload removes the route and brings others; a later one brings it back, and the worker was restarted meanwhile.
    for route in ["a", "b", "c"] {
        fixture.registry.route(edge, route);
    }
    assert_eq!(fixture.page().value(series), 1.0);
    shard.panic_caught();
    shard.heartbeat(1_000, 7);
    drop(shard);
    let shard = fixture.registry.shard(0);
    shard.request_finished(fixture.registry.route(edge, "orders"), 200, 1);
    shard.panic_caught();
    shard.heartbeat(2_000, 8);
    let page = fixture.page();
    assert_eq!(page.value(series), 2.0);
    assert_eq!(page.value(r#"ringward_worker_panics_total{worker="0"}"#), 2.0);
    assert_eq!(page.value(r#"ringward_worker_snapshot_generation{worker="0"}"#), 8.0);
}

#[test]
fn what_is_above_the_ceiling_is_counted_as_other() {
    let fixture = Fixture::new(Limits { routes_max: 2, ..Limits::default() });
    let shard = fixture.registry.shard(0);
    let edge = fixture.registry.listener("edge");
    let other = r#"ringward_requests_finished_total{listener="other",route="other",status_class="2xx"}"#;
    for route in ["a", "b"] {
        shard.request_finished(fixture.registry.route(edge, route), 200, 1);
    }
    assert!(!fixture.page().samples.contains_key(other), "at the ceiling all have series of their own");
    for route in ["c", "d", "a"] {
        shard.request_finished(fixture.registry.route(edge, route), 200, 1);
    }
    let page = fixture.page();
    assert_eq!(page.value(other), 2.0);
    assert_eq!(
        page.value(r#"ringward_requests_finished_total{listener="edge",route="a",status_class="2xx"}"#),
        2.0
    );
    assert_eq!(page.value(r#"ringward_metrics_labels_overflowed_total{family="route"}"#), 2.0);
    assert!(!page.samples.keys().any(|series| series.contains(r#"route="c""#)));
}

#[test]
fn the_number_of_series_is_bounded_and_says_so() {
    let limits = Limits { listeners_max: 2, routes_max: 3, policies_max: 2, clusters_max: 2 };
    let fixture = Fixture::new(limits);
    let shard = fixture.registry.shard(0);
    let dynamic = |page: &ParsedPage| {
        let labels = ["listener=", "policy=", "cluster="];
        page.samples.keys().filter(|series| labels.iter().any(|label| series.contains(label))).count()
    };
    for number in 0..50 {
        let name = number.to_string();
        let listener = fixture.registry.listener(&name);
        shard.connection_accepted(listener);
        shard.request_finished(fixture.registry.route(listener, &name), 200, 1);
        shard.policy_decided(fixture.registry.policy(&name), PolicyOutcome::Allowed, 1);
        shard.upstream_request(fixture.registry.cluster(&name), false);
    }
    let page = fixture.page();
    assert_eq!(dynamic(&page) as f64, page.value("ringward_metrics_series_max"));
    assert_eq!(page.samples.len() as f64, page.value("ringward_metrics_series_active"));
}

#[test]
fn the_fold_equals_the_sum_under_concurrent_writers_and_growth() {
    const WORKERS: u16 = 3;
    const ROUNDS: u64 = 2_000;
    let fixture = Fixture::new(Limits::default());
    let edge = fixture.registry.listener("edge");
    let total = r#"ringward_downstream_received_bytes_total{listener="edge"}"#;
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let workers: Vec<_> = (0..WORKERS)
            .map(|worker| {
                let registry = &fixture.registry;
                let shard = registry.shard(worker);
                scope.spawn(move || {
                    for round in 0..ROUNDS {
                        // Names keep coming, as with reloads under load.
                        let route = registry.route(edge, &format!("route-{}", round / 100));
                        shard.request_finished(route, 200, 1_000);
                        shard.downstream_bytes(edge, 3, 0);
                    }
                })
            })
            .collect();
        let reader = scope.spawn(|| {
            let mut last = 0.0;
            while !done.load(Ordering::Relaxed) {
                let now = fixture.page().samples.get(total).copied().unwrap_or(0.0);
                assert!(now >= last, "a counter went from {last} to {now}");
                last = now;
            }
        });
        for worker in workers {
            worker.join().unwrap();
        }
        done.store(true, Ordering::Relaxed);
        reader.join().unwrap();
    });
    let page = fixture.page();
    let expected = (u64::from(WORKERS) * ROUNDS) as f64;
    assert_eq!(page.value(total), 3.0 * expected);
    let sum = |prefix: &str, part: &str| -> f64 {
        page.samples
            .iter()
            .filter(|(series, _)| series.starts_with(prefix) && series.contains(part))
            .map(|(_, value)| value)
            .sum()
    };
    assert_eq!(sum("ringward_requests_finished_total", "2xx"), expected);
    assert_eq!(sum("ringward_request_duration_seconds_count", "edge"), expected);
    assert_eq!(sum("ringward_request_duration_seconds_bucket", "+Inf"), expected);
}

#[test]
fn hostile_names_from_a_configuration_do_not_break_the_page() {
    let fixture = Fixture::new(Limits::default());
    let shard = fixture.registry.shard(0);
    for name in ["a\\", "a\"", "a\n", "a_"] {
        shard.connection_accepted(fixture.registry.listener(name));
        shard.policy_decided(fixture.registry.policy(name), PolicyOutcome::Allowed, 1);
    }
    let page = fixture.page();
    assert_eq!(
        page.value(r#"ringward_connections_accepted_total{listener="a_"}"#),
        4.0,
        "one series, not four alike"
    );
}

#[test]
fn figures_that_cannot_be_read_are_absent() {
    let fixture = Fixture::new(Limits::default());
    let page = ParsedPage::parse(&fixture.exporter.render_at(NOW_UNIX, ProcessFigures::default()));
    assert!(!page.samples.keys().any(|series| series.contains("resident_memory") || series.contains("_fds")));
    assert!(!page.samples.contains_key("ringward_snapshot_age_seconds"), "no snapshot yet");
    assert_eq!(
        ParsedPage::parse(&fixture.exporter.render())
            .value(r#"ringward_build_info{version="1.2.3",revision="abc"}"#),
        1.0
    );
}
