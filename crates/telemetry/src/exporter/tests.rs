use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use super::*;
use crate::closed::{
    AddressClaim, CacheLookup, CandidateVerdict, CheckOutcome, CloseReason, ClosedSets, ContentCoding,
    DiscoveryOutcome, EndpointHealth, Enforced, FetchOutcome, ForwardedIdentity, GrpcStatus, MirrorOutcome,
    OcspOutcome, OutlierReason, PolicyOutcome, Resumed, RetryOutcome, RetryReason, RevocationSource,
    ServerOutcome, Shed,
};
use crate::metrics::{CATALOGUE, Kind};
use crate::registry::Limits;
use crate::shard::Shard;
use crate::trust::{ClientExpiry, CrlFigures, SessionCacheFigures};
use crate::upstreams::{EndpointFigures, UpstreamFigures};

const SETS: ClosedSets = ClosedSets {
    handshake_reasons: &["expired", "unknown_issuer"],
    response_flags: &["no_route", "policy_denied"],
    upstream_errors: &["connect_refused"],
    resumption_declines: &["unknown_session"],
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
        Fixture::of(SETS, limits)
    }

    fn of(sets: ClosedSets, limits: Limits) -> Fixture {
        let registry = Registry::new(sets, limits);
        let control = Arc::new(ControlMetrics::default());
        let log = Arc::new(LogStats::default());
        let exporter = Exporter::new(registry.clone(), Arc::clone(&control), log, BUILD);
        Fixture { registry, control, exporter }
    }

    fn page(&self) -> ParsedPage {
        let figures = ProcessFigures {
            resident_bytes: Some(4_096),
            open_fds: Some(7),
            max_fds: Some(1_024),
            cpu_seconds: Some(1.25),
        };
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
    shard.handshake_resumed(edge, Resumed::Cache);
    shard.resumption_declined(edge, "unknown_session");
    shard.resumption_declined(edge, "expired");
    shard.resumption_declined(edge, "a reason that nobody registered");
    shard.client_observed(edge, None);
    shard.client_observed(edge, Some("unknown_issuer"));
    shard.client_observed(edge, Some("a reason that nobody registered"));
    shard.revocation_refused(edge, RevocationSource::DenyList);
    shard.ocsp_unchecked(edge);
    shard.trust_enforced(Enforced::Idle, 3_000_000);
    shard.trust_enforced(Enforced::Exchange, 30_000_000_001);
    let acme = registry.tenant("acme");
    shard.tenant_connection_opened(acme);
    shard.tenant_connection_opened(acme);
    shard.tenant_connection_closed(acme);
    shard.tenant_connection_refused(acme);
    shard.tenant_request_finished(acme);
    shard.downstream_bytes(edge, 100, 2_000);
    shard.tunnel_opened(edge);
    shard.tunnel_opened(edge);
    shard.tunnel_closed(edge);
    shard.tunnel_bytes(edge, 7, 11);
    shard.identity_headers_stripped(edge, 3);
    shard.address_claim(edge, AddressClaim::Untrusted);
    shard.forwarded_identity(edge, ForwardedIdentity::Unlisted);
    shard.forwarded_identity_refused(edge, "expired");
    shard.request_misdirected(edge);
    shard.request_unverified(edge);
    shard.streams_unserved(edge, 7);
    shard.handshake_queued(edge);
    shard.source_refused(edge);
    shard.requests_load(edge, 12, 3);
    shard.request_queued(edge);
    shard.request_shed(edge, Shed::QueueFull);
    shard.response_generated(edge, "policy_denied");
    shard.request_finished(registry.route(edge, "orders"), 204, 1_000_000);
    shard.request_finished(registry.unmatched(edge), 404, 50_000);
    shard.grpc_finished(registry.route(edge, "orders"), GrpcStatus::PermissionDenied);
    shard.policy_decided(registry.policy("main"), PolicyOutcome::Denied, Some(15_000));
    shard.policy_decided(registry.policy("main"), PolicyOutcome::Denied, None);
    shard.policy_cache_lookup(registry.policy("main"), CacheLookup::Hit);
    shard.policy_cache_mismatch(registry.policy("main"));
    shard.policy_budget_refused(registry.policy("main"));
    shard.policy_candidate_compared(registry.policy("main"), CandidateVerdict::NewlyDenied);
    shard.policy_cache_state(registry.policy("main"), true, 7);
    shard.policy_server_asked(registry.policy("main"), ServerOutcome::Answered, Some(2_000_000));
    shard.policy_server_asked(registry.policy("main"), ServerOutcome::Busy, None);
    shard.policy_server_circuit(registry.policy("main"), true);
    let cluster = registry.cluster("orders");
    shard.upstream_connection_opened(cluster);
    shard.upstream_request(cluster, false);
    shard.upstream_request(cluster, true);
    shard.upstream_retry(cluster, RetryReason::Timeout);
    shard.upstream_retried(cluster, RetryOutcome::Answered);
    shard.upstream_mirrored(cluster, MirrorOutcome::Cut);
    shard.upstream_response(cluster, 2_000_000);
    shard.upstream_error(cluster, "connect_refused");
    shard.compressed(ContentCoding::Brotli);
    shard.compressed_bytes(ContentCoding::Brotli, 1_000, 300);
    shard.compression_skipped();
    shard.panic_caught();
    shard.access_record_dropped();
    shard.log_record_dropped();
    shard.heartbeat(999_999_500, 4);
}

/// A cluster of four endpoints.
fn upstream() -> UpstreamFigures {
    use EndpointHealth::{Healthy, Unchecked, Unhealthy};
    let endpoints = [Healthy, Unhealthy, Unchecked, Unhealthy].into_iter().zip(1..);
    let endpoints = endpoints.map(|(health, last)| EndpointFigures {
        addr: SocketAddr::from(([10, 0, 0, last], 80)).into(),
        health,
        share: 0.25,
    });
    UpstreamFigures { endpoints: endpoints.collect(), panic: true, ejected: Some(1) }
}

/// Measures one of everything on the control plane.
fn measure(control: &ControlMetrics) {
    control.snapshot_published(4, NOW_UNIX - 60.0);
    control.snapshots_retired(2);
    control.deny_list_changed(3);
    let client =
        ClientExpiry { bundle: "partners".to_owned(), client: "billing".to_owned(), not_after_unix: 9 };
    control.clients_seen(vec![client], 1);
    control.upstreams_changed([("orders".to_owned(), upstream())]);
    control.upstream_checked("orders", CheckOutcome::Passed);
    control.upstream_checked("orders", CheckOutcome::Timeout);
    control.upstream_failed("orders", OutlierReason::Status, false);
    control.upstream_failed("orders", OutlierReason::Timeout, true);
    control.discoveries_changed([("orders".to_owned(), Some(NOW_UNIX - 90.0))]);
    control.discovery_finished("orders", DiscoveryOutcome::Updated, Some(NOW_UNIX - 30.0));
    control.discovery_finished("orders", DiscoveryOutcome::Refused, Some(NOW_UNIX - 30.0));
    let figures = CrlFigures {
        entries: 1_000_000,
        this_update_unix: Some(999_000),
        next_update_unix: Some(1_002_600),
        fetch_healthy: Some(false),
    };
    control.crls_changed([("partners".to_owned(), figures)]);
    control.crl_fetched("partners", FetchOutcome::Updated);
    control.crl_fetched("partners", FetchOutcome::Unreachable);
    control.configuration_in_force([("policies", "00ff".to_owned())], Some(1_000_900));
    control.ocsp_responders_changed(["ocsp.example.com".to_owned()]);
    control.ocsp_queried(Some("ocsp.example.com"), OcspOutcome::Revoked);
    control.ocsp_queried(None, OcspOutcome::Unreachable);
    control.ocsp_cache_changed(12);
    control.staples_changed([("api.example.com".to_owned(), Some((998_000, 1_010_000)))]);
    control.staple_failed("api.example.com");
    control.revocation_suspended([("acme".to_owned(), 1_003_600)]);
    control.ticket_key_in_use(990_000);
    control.ticket_key_in_use(990_000);
    control.ticket_key_in_use(995_000);
    control.session_cache_sampled(Some(SessionCacheFigures { entries: 20, bytes: 4_096, evictions: 5 }));
}

#[test]
fn every_metric_of_the_catalogue_is_exported_with_help_and_type() {
    let fixture = Fixture::new(Limits::default());
    exercise(&fixture.registry, &fixture.registry.shard(0));
    measure(&fixture.control);
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
    measure(&fixture.control);
    fixture.control.reload_finished(ReloadOutcome::Failed, NOW_UNIX);
    fixture
        .control
        .expiries_changed([("*.example.com".to_owned(), 1_800_000_000)], [("partners".to_owned(), 6)]);
    let page = fixture.page();
    for (series, value) in [
        (r#"ringward_upstream_endpoints{cluster="orders",health="healthy"}"#, 1.0),
        (r#"ringward_upstream_endpoints{cluster="orders",health="unhealthy"}"#, 2.0),
        (r#"ringward_upstream_endpoints{cluster="orders",health="unchecked"}"#, 1.0),
        (r#"ringward_upstream_endpoint_healthy{cluster="orders",endpoint="10.0.0.1:80"}"#, 1.0),
        (r#"ringward_upstream_endpoint_healthy{cluster="orders",endpoint="10.0.0.2:80"}"#, 0.0),
        (r#"ringward_upstream_endpoint_healthy{cluster="orders",endpoint="10.0.0.3:80"}"#, 1.0),
        (r#"ringward_upstream_endpoint_share{cluster="orders",endpoint="10.0.0.2:80"}"#, 0.25),
        (r#"ringward_upstream_panic{cluster="orders"}"#, 1.0),
        (r#"ringward_upstream_discoveries_finished_total{cluster="orders",outcome="updated"}"#, 1.0),
        (r#"ringward_upstream_discoveries_finished_total{cluster="orders",outcome="refused"}"#, 1.0),
        (r#"ringward_upstream_discoveries_finished_total{cluster="orders",outcome="unreachable"}"#, 0.0),
        (r#"ringward_upstream_discovery_age_seconds{cluster="orders"}"#, 30.0),
        (r#"ringward_upstream_health_checks_finished_total{cluster="orders",outcome="passed"}"#, 1.0),
        (r#"ringward_upstream_health_checks_finished_total{cluster="orders",outcome="timeout"}"#, 1.0),
        (r#"ringward_upstream_health_checks_finished_total{cluster="orders",outcome="status"}"#, 0.0),
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
        (r#"ringward_handshakes_resumed_total{listener="edge",how="cache"}"#, 1.0),
        (r#"ringward_handshakes_resumed_total{listener="edge",how="ticket"}"#, 0.0),
        (r#"ringward_resumptions_declined_total{listener="edge",reason="unknown_session"}"#, 1.0),
        (r#"ringward_resumptions_declined_total{listener="edge",reason="expired"}"#, 1.0),
        (r#"ringward_resumptions_declined_total{listener="edge",reason="unknown_issuer"}"#, 0.0),
        (r#"ringward_resumptions_declined_total{listener="edge",reason="other"}"#, 1.0),
        (r#"ringward_observed_clients_total{listener="edge",verdict="admitted"}"#, 1.0),
        (r#"ringward_observed_clients_total{listener="edge",verdict="unknown_issuer"}"#, 1.0),
        (r#"ringward_observed_clients_total{listener="edge",verdict="expired"}"#, 0.0),
        (r#"ringward_observed_clients_total{listener="edge",verdict="other"}"#, 1.0),
        (r#"ringward_revocation_refusals_total{listener="edge",source="deny_list"}"#, 1.0),
        (r#"ringward_revocation_refusals_total{listener="edge",source="crl"}"#, 0.0),
        (r#"ringward_ocsp_unchecked_requests_total{listener="edge"}"#, 1.0),
        (r#"ringward_client_address_claims_total{listener="edge",outcome="untrusted"}"#, 1.0),
        (r#"ringward_client_address_claims_total{listener="edge",outcome="taken"}"#, 0.0),
        (r#"ringward_forwarded_identities_total{listener="edge",verdict="unlisted"}"#, 1.0),
        (r#"ringward_forwarded_identities_total{listener="edge",verdict="expired"}"#, 1.0),
        (r#"ringward_forwarded_identities_total{listener="edge",verdict="admitted"}"#, 0.0),
        (r#"ringward_trust_enforcement_seconds_bucket{how="idle",le="0.0025"}"#, 0.0),
        (r#"ringward_trust_enforcement_seconds_bucket{how="idle",le="0.005"}"#, 1.0),
        (r#"ringward_trust_enforcement_seconds_bucket{how="exchange",le="30"}"#, 0.0),
        (r#"ringward_trust_enforcement_seconds_bucket{how="exchange",le="60"}"#, 1.0),
        (r#"ringward_trust_enforcement_seconds_count{how="handshake"}"#, 0.0),
        (r#"ringward_tenant_connections_active{tenant="acme"}"#, 1.0),
        (r#"ringward_tenant_connections_refused_total{tenant="acme"}"#, 1.0),
        (r#"ringward_tenant_requests_finished_total{tenant="acme"}"#, 1.0),
        ("ringward_deny_list_entries", 3.0),
        (r#"ringward_crl_entries{bundle="partners"}"#, 1_000_000.0),
        (r#"ringward_crl_this_update_timestamp_seconds{bundle="partners"}"#, 999_000.0),
        (r#"ringward_crl_next_update_timestamp_seconds{bundle="partners"}"#, 1_002_600.0),
        (r#"ringward_crl_fetch_healthy{bundle="partners"}"#, 0.0),
        (r#"ringward_crl_fetches_finished_total{bundle="partners",outcome="updated"}"#, 1.0),
        (r#"ringward_crl_fetches_finished_total{bundle="partners",outcome="unreachable"}"#, 1.0),
        (r#"ringward_crl_fetches_finished_total{bundle="partners",outcome="invalid"}"#, 0.0),
        (r#"ringward_ocsp_queries_finished_total{responder="ocsp.example.com",outcome="revoked"}"#, 1.0),
        (r#"ringward_ocsp_queries_finished_total{responder="ocsp.example.com",outcome="good"}"#, 0.0),
        (r#"ringward_ocsp_queries_finished_total{responder="none",outcome="unreachable"}"#, 1.0),
        (r#"ringward_config_info{part="policies",digest="00ff"}"#, 1.0),
        ("ringward_maintenance_until_timestamp_seconds", 1_000_900.0),
        (r#"ringward_requests_unverified_total{listener="edge"}"#, 1.0),
        (r#"ringward_worker_connections_accepted_total{worker="2"}"#, 2.0),
        (r#"ringward_worker_connections_active{worker="2"}"#, 1.0),
        (r#"ringward_worker_requests_finished_total{worker="2"}"#, 2.0),
        ("ringward_process_max_fds", 1_024.0),
        ("ringward_ocsp_cache_entries", 12.0),
        (r#"ringward_staple_this_update_timestamp_seconds{host="api.example.com"}"#, 998_000.0),
        (r#"ringward_staple_next_update_timestamp_seconds{host="api.example.com"}"#, 1_010_000.0),
        (r#"ringward_staple_fetches_failed_total{host="api.example.com"}"#, 1.0),
        (r#"ringward_revocation_suspended_until_timestamp_seconds{tenant="acme"}"#, 1_003_600.0),
        ("ringward_ticket_key_since_timestamp_seconds", 995_000.0),
        ("ringward_ticket_key_rotations_total", 1.0),
        ("ringward_session_cache_entries", 20.0),
        ("ringward_session_cache_bytes", 4_096.0),
        ("ringward_session_cache_evictions_total", 5.0),
        (r#"ringward_downstream_received_bytes_total{listener="edge"}"#, 100.0),
        (r#"ringward_downstream_sent_bytes_total{listener="edge"}"#, 2_000.0),
        (r#"ringward_tunnels_opened_total{listener="edge"}"#, 2.0),
        (r#"ringward_tunnels_active{listener="edge"}"#, 1.0),
        (r#"ringward_tunnel_received_bytes_total{listener="edge"}"#, 7.0),
        (r#"ringward_tunnel_sent_bytes_total{listener="edge"}"#, 11.0),
        (r#"ringward_identity_headers_stripped_total{listener="edge"}"#, 3.0),
        (r#"ringward_requests_misdirected_total{listener="edge"}"#, 1.0),
        (r#"ringward_streams_unserved_total{listener="edge"}"#, 7.0),
        (r#"ringward_handshakes_queued_total{listener="edge"}"#, 1.0),
        (r#"ringward_sources_refused_total{listener="edge"}"#, 1.0),
        (r#"ringward_requests_active{listener="edge"}"#, 12.0),
        (r#"ringward_requests_waiting{listener="edge"}"#, 3.0),
        (r#"ringward_requests_queued_total{listener="edge"}"#, 1.0),
        (r#"ringward_requests_shed_total{listener="edge",reason="queue_full"}"#, 1.0),
        (r#"ringward_requests_shed_total{listener="edge",reason="queue_timeout"}"#, 0.0),
        (r#"ringward_responses_generated_total{listener="edge",flag="policy_denied"}"#, 1.0),
        (r#"ringward_requests_finished_total{listener="edge",route="orders",status_class="2xx"}"#, 1.0),
        (r#"ringward_requests_finished_total{listener="edge",route="unmatched",status_class="4xx"}"#, 1.0),
        (r#"ringward_policy_decisions_total{policy="main",outcome="denied"}"#, 2.0),
        (r#"ringward_policy_evaluation_duration_seconds_count{policy="main"}"#, 1.0),
        (r#"ringward_policy_cache_lookups_total{policy="main",result="hit"}"#, 1.0),
        (r#"ringward_policy_cache_lookups_total{policy="main",result="miss"}"#, 0.0),
        (r#"ringward_policy_cache_mismatches_total{policy="main"}"#, 1.0),
        (r#"ringward_policy_budget_refusals_total{policy="main"}"#, 1.0),
        (r#"ringward_policy_candidate_decisions_total{policy="main",verdict="newly_denied"}"#, 1.0),
        (r#"ringward_policy_candidate_decisions_total{policy="main",verdict="agrees"}"#, 0.0),
        (r#"ringward_policy_cache_active{policy="main"}"#, 1.0),
        (r#"ringward_policy_cache_entries{policy="main"}"#, 7.0),
        (r#"ringward_policy_server_questions_total{policy="main",outcome="answered"}"#, 1.0),
        (r#"ringward_policy_server_questions_total{policy="main",outcome="busy"}"#, 1.0),
        (r#"ringward_policy_server_questions_total{policy="main",outcome="timeout"}"#, 0.0),
        (r#"ringward_policy_server_answer_duration_seconds_count{policy="main"}"#, 1.0),
        (r#"ringward_policy_server_circuits_open{policy="main"}"#, 1.0),
        (r#"ringward_policy_decisions_total{policy="main",outcome="allowed"}"#, 0.0),
        (r#"ringward_upstream_requests_total{cluster="orders"}"#, 2.0),
        (r#"ringward_upstream_connections_opened_total{cluster="orders"}"#, 1.0),
        (r#"ringward_upstream_connections_reused_total{cluster="orders"}"#, 1.0),
        (r#"ringward_upstream_retries_total{cluster="orders",reason="timeout"}"#, 1.0),
        (r#"ringward_upstream_retried_requests_finished_total{cluster="orders",outcome="answered"}"#, 1.0),
        (r#"ringward_upstream_mirrored_requests_finished_total{cluster="orders",outcome="cut"}"#, 1.0),
        (r#"ringward_upstream_errors_total{cluster="orders",reason="connect_refused"}"#, 1.0),
        (r#"ringward_compressed_responses_total{coding="br"}"#, 1.0),
        (r#"ringward_compression_received_bytes_total{coding="br"}"#, 1_000.0),
        (r#"ringward_compression_sent_bytes_total{coding="br"}"#, 300.0),
        ("ringward_compression_skipped_total", 1.0),
        (r#"ringward_worker_panics_total{worker="2"}"#, 1.0),
        (r#"ringward_worker_heartbeat_timestamp_seconds{worker="2"}"#, 999_999.5),
        (r#"ringward_worker_snapshot_generation{worker="2"}"#, 4.0),
        (r#"ringward_access_records_dropped_total{worker="2"}"#, 1.0),
        (r#"ringward_log_records_dropped_total{worker="2"}"#, 1.0),
        (r#"ringward_reloads_finished_total{outcome="failed"}"#, 1.0),
        ("ringward_config_generation", 4.0),
        ("ringward_memory_pressure", 0.0),
        ("ringward_snapshot_age_seconds", 60.0),
        ("ringward_snapshots_retired", 2.0),
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
fn workers_share_the_work_of_all_listeners_and_keep_their_counts_when_they_start_again() {
    let fixture = Fixture::new(Limits::default());
    let (edge, inner) = (fixture.registry.listener("edge"), fixture.registry.listener("inner"));
    let (first, second) = (fixture.registry.shard(0), fixture.registry.shard(1));
    for (shard, listener, connections) in [(&first, edge, 3), (&first, inner, 2), (&second, edge, 1)] {
        for _ in 0..connections {
            shard.connection_accepted(listener);
            shard.request_finished(fixture.registry.unmatched(listener), 404, 1);
        }
    }
    first.connection_closed(inner, CloseReason::Drain);
    drop(second);
    let second = fixture.registry.shard(1);
    second.connection_accepted(inner);
    let page = fixture.page();
    for (worker, accepted, active, requests) in [("0", 5.0, 4.0, 5.0), ("1", 2.0, 2.0, 1.0)] {
        let value = |name: &str| page.value(&format!(r#"ringward_worker_{name}{{worker="{worker}"}}"#));
        assert_eq!(
            (
                value("connections_accepted_total"),
                value("connections_active"),
                value("requests_finished_total")
            ),
            (accepted, active, requests),
            "{worker}"
        );
    }
}

#[test]
fn responders_that_are_gone_leave_the_report_and_the_others_keep_their_counts() {
    let fixture = Fixture::new(Limits::default());
    let hosts =
        |hosts: &[&str]| fixture.control.ocsp_responders_changed(hosts.iter().map(|host| (*host).to_owned()));
    hosts(&["a", "b", "b"]);
    fixture.control.ocsp_queried(Some("a"), OcspOutcome::Good);
    hosts(&["c", "a"]);
    let page = fixture.page();
    let good =
        |host: &str| format!(r#"ringward_ocsp_queries_finished_total{{responder="{host}",outcome="good"}}"#);
    assert_eq!(["a", "c", "none"].map(|host| page.value(&good(host))), [1.0, 0.0, 0.0]);
    assert!(!page.samples.contains_key(&good("b")));
}

#[test]
fn maintenance_that_is_over_is_zero_and_the_last_digests_count() {
    let fixture = Fixture::new(Limits::default());
    let part = |digest: &str| [("trust", digest.to_owned())];
    fixture.control.configuration_in_force(part("aa"), Some(5));
    fixture.control.configuration_in_force(part("bb"), None);
    let page = fixture.page();
    assert_eq!(page.value("ringward_maintenance_until_timestamp_seconds"), 0.0);
    assert_eq!(page.value(r#"ringward_config_info{part="trust",digest="bb"}"#), 1.0);
    assert!(!page.samples.contains_key(r#"ringward_config_info{part="trust",digest="aa"}"#));
}

#[test]
fn histograms_are_cumulative_and_their_sum_is_exact() {
    let fixture = Fixture::new(Limits::default());
    let policy = fixture.registry.policy("main");
    let (first, second) = (fixture.registry.shard(0), fixture.registry.shard(1));
    for (shard, duration_ns) in
        [(&first, 2_000), (&second, 2_001), (&first, 7_000_500), (&second, 90_000_000)]
    {
        shard.policy_decided(policy, PolicyOutcome::Allowed, Some(duration_ns));
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
fn names_of_clients_are_harmless_in_labels() {
    let fixture = Fixture::new(Limits::default());
    let client = ClientExpiry {
        bundle: "partners".to_owned(),
        client: "CN=\"a\\b\"} 1".to_owned(),
        not_after_unix: 7,
    };
    fixture.control.clients_seen(vec![client], 3);
    let series = r#"ringward_client_certificate_not_after_timestamp_seconds{bundle="partners",client="CN=\"a\\b\"} 1"}"#;
    assert_eq!((fixture.page().value(series), fixture.page().value("ringward_clients_known")), (7.0, 3.0));
    fixture.control.clients_seen(Vec::new(), 3);
    assert!(!fixture.page().samples.contains_key(series));
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
fn tenants_above_the_ceiling_share_series_and_keep_their_sums() {
    let fixture = Fixture::new(Limits { tenants_max: 1, ..Limits::default() });
    let (here, there) = (fixture.registry.shard(0), fixture.registry.shard(1));
    let [acme, zeta, omega] = ["acme", "zeta", "omega"].map(|name| fixture.registry.tenant(name));
    let active = |tenant: &str| {
        let series = format!(r#"ringward_tenant_connections_active{{tenant="{tenant}"}}"#);
        fixture.page().samples.get(&series).copied()
    };
    assert_eq!((active("acme"), active("other")), (Some(0.0), None), "at the ceiling");
    for (shard, tenant) in [(&here, acme), (&here, zeta), (&there, omega), (&there, zeta)] {
        shard.tenant_connection_opened(tenant);
    }
    there.tenant_connection_closed(zeta);
    assert_eq!((active("acme"), active("other"), active("zeta")), (Some(1.0), Some(2.0), None));
    let overflowed = r#"ringward_metrics_labels_overflowed_total{family="tenant"}"#;
    assert_eq!(fixture.page().value(overflowed), 2.0);
}

#[test]
fn trust_that_is_gone_or_not_known_leaves_the_report() {
    let fixture = Fixture::new(Limits::default());
    measure(&fixture.control);
    let none = CrlFigures::default();
    fixture.control.crls_changed([("partners".to_owned(), none), ("new".to_owned(), none)]);
    fixture.control.staples_changed([("api.example.com".to_owned(), None)]);
    fixture.control.revocation_suspended([]);
    fixture.control.session_cache_sampled(None);
    let page = fixture.page();
    let fetched = |bundle: &str| {
        format!(r#"ringward_crl_fetches_finished_total{{bundle="{bundle}",outcome="updated"}}"#)
    };
    assert_eq!(page.value(&fetched("partners")), 1.0, "counts stay while the bundle does");
    assert_eq!(page.value(&fetched("new")), 0.0);
    assert_eq!(page.value(r#"ringward_crl_entries{bundle="partners"}"#), 0.0);
    assert_eq!(page.value(r#"ringward_staple_fetches_failed_total{host="api.example.com"}"#), 1.0);
    for gone in [
        "crl_this_update",
        "crl_next_update",
        "crl_fetch_healthy",
        "staple_next",
        "suspended",
        "session_cache",
    ] {
        assert!(!page.samples.keys().any(|series| series.contains(gone)), "{gone}");
    }
    fixture.control.crls_changed([]);
    fixture.control.staples_changed([]);
    fixture.control.clients_seen(Vec::new(), 0);
    let page = fixture.page();
    assert!(!page.samples.keys().any(|series| series.contains("bundle=") || series.contains("staple")));
    // A count that comes first is there, and bounded by what is configured next.
    fixture.control.crl_fetched("partners", FetchOutcome::Updated);
    assert_eq!(fixture.page().value(&fetched("partners")), 1.0, "from zero");
}

#[test]
fn series_of_endpoints_are_bounded_and_those_of_clusters_go_with_them() {
    let fixture = Fixture::new(Limits::default());
    let endpoint = |number: u16| EndpointFigures {
        addr: SocketAddr::from(([10, 0, 0, 1], number)).into(),
        health: EndpointHealth::Unhealthy,
        share: 0.0,
    };
    let many = UpstreamFigures { endpoints: (0..1500).map(endpoint).collect(), panic: false, ejected: None };
    fixture.control.upstreams_changed(["a", "b"].map(|name| (name.to_owned(), many.clone())));
    fixture.control.upstream_checked("a", CheckOutcome::Passed);
    fixture.control.upstream_checked("gone", CheckOutcome::Passed);
    fixture.control.upstream_changed("gone", many.clone());
    let count =
        |page: &ParsedPage, part: &str| page.samples.keys().filter(|series| series.contains(part)).count();
    let page = fixture.page();
    assert_eq!((count(&page, "endpoint="), count(&page, "gone")), (2 * 2048, 0));
    let all = r#"ringward_upstream_endpoints{cluster="b",health="unhealthy"}"#;
    assert_eq!(page.value(all), 1500.0);
    // A reload keeps counts.
    fixture.control.upstreams_changed([("a".to_owned(), UpstreamFigures::default())]);
    let page = fixture.page();
    let passed = r#"ringward_upstream_health_checks_finished_total{cluster="a",outcome="passed"}"#;
    assert_eq!((page.value(passed), count(&page, r#"cluster="b""#)), (1.0, 0));
}

#[test]
fn series_of_discovery_go_with_their_cluster() {
    let fixture = Fixture::new(Limits::default());
    let two = ["a", "b"].map(|name| (name.to_owned(), None));
    fixture.control.discoveries_changed(two);
    for cluster in ["a", "gone"] {
        fixture.control.discovery_finished(cluster, DiscoveryOutcome::Unreachable, None);
    }
    let failed = r#"ringward_upstream_discoveries_finished_total{cluster="a",outcome="unreachable"}"#;
    let page = fixture.page();
    assert_eq!(page.value(failed), 1.0);
    let has = |page: &ParsedPage, part: &str| page.samples.keys().any(|series| series.contains(part));
    assert!(has(&page, r#"cluster="b""#) && !has(&page, "gone"));
    assert!(
        !has(&page, "ringward_upstream_discovery_age_seconds{"),
        "nothing was found that could have an age"
    );
    fixture.control.discoveries_changed([("a".to_owned(), Some(NOW_UNIX))]);
    let page = fixture.page();
    assert_eq!((page.value(failed), has(&page, r#"cluster="b""#)), (1.0, false));
    assert_eq!(page.value(r#"ringward_upstream_discovery_age_seconds{cluster="a"}"#), 0.0);
}

/// Prometheus would refuse the whole page for a series that is there twice.
#[test]
fn words_of_two_sets_that_are_alike_are_one_series() {
    let word = ForwardedIdentity::Malformed.as_str();
    let reasons: &'static [&'static str] = Vec::leak(vec![word]);
    let fixture = Fixture::of(ClosedSets { handshake_reasons: reasons, ..SETS }, Limits::default());
    let (shard, edge) = (fixture.registry.shard(0), fixture.registry.listener("edge"));
    shard.forwarded_identity(edge, ForwardedIdentity::Malformed);
    shard.forwarded_identity_refused(edge, word);
    let series = format!("ringward_forwarded_identities_total{{listener=\"edge\",verdict=\"{word}\"}}");
    assert_eq!(fixture.page().value(&series), 2.0);
}

#[test]
fn the_number_of_series_is_bounded_and_says_so() {
    let limits = Limits { listeners_max: 2, routes_max: 3, policies_max: 2, clusters_max: 2, tenants_max: 2 };
    let fixture = Fixture::new(limits);
    let shard = fixture.registry.shard(0);
    let dynamic = |page: &ParsedPage| {
        let labels = ["listener=", "policy=", "cluster=", "tenant="];
        page.samples.keys().filter(|series| labels.iter().any(|label| series.contains(label))).count()
    };
    for number in 0..50 {
        let name = number.to_string();
        let listener = fixture.registry.listener(&name);
        shard.connection_accepted(listener);
        shard.forwarded_identity(listener, ForwardedIdentity::Absent);
        let route = fixture.registry.route(listener, &name);
        shard.request_finished(route, 200, 1);
        shard.grpc_finished(route, GrpcStatus::Ok);
        shard.policy_decided(fixture.registry.policy(&name), PolicyOutcome::Allowed, Some(1));
        shard.policy_candidate_compared(fixture.registry.policy(&name), CandidateVerdict::Agrees);
        shard.upstream_request(fixture.registry.cluster(&name), false);
        shard.tenant_connection_opened(fixture.registry.tenant(&name));
    }
    let page = fixture.page();
    assert_eq!(dynamic(&page) as f64, page.value("ringward_metrics_series_max"));
    assert_eq!(page.samples.len() as f64, page.value("ringward_metrics_series_active"));
}

#[test]
fn only_routes_that_had_calls_of_grpc_have_their_statuses() {
    let fixture = Fixture::new(Limits::default());
    let shard = fixture.registry.shard(0);
    let edge = fixture.registry.listener("edge");
    shard.request_finished(fixture.registry.route(edge, "pages"), 200, 1);
    shard.grpc_finished(fixture.registry.route(edge, "calls"), GrpcStatus::Unavailable);
    let page = fixture.page();
    let series = |route: &str, status: &str| {
        format!(
            r#"ringward_grpc_requests_finished_total{{listener="edge",route="{route}",grpc_status="{status}"}}"#
        )
    };
    assert_eq!(page.value(&series("calls", "unavailable")), 1.0);
    assert_eq!(page.value(&series("calls", "ok")), 0.0, "so that the first of a kind shows as an increase");
    assert!(!page.samples.contains_key(&series("pages", "ok")));
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
        shard.policy_decided(fixture.registry.policy(name), PolicyOutcome::Allowed, Some(1));
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
