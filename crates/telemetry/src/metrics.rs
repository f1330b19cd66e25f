//! The metric catalogue: every series that Ringward exports is declared here, once, with its name, kind, help and labels.
//!
//! Names follow `ringward_<noun>_<what>_<unit>[_total]` in base units. Label values come from the configuration or from
//! a closed set (`closed.rs`), never from a peer: no path, subject alternative name or error text becomes a label. A
//! name, once released, keeps its meaning.

/// What a series is, as in its `# TYPE` line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows while the process lives.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Cumulative buckets with these upper bounds in nanoseconds, a sum in seconds and a count.
    Histogram(&'static [u64]),
}

/// One entry of the catalogue.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// Full name.
    pub name: &'static str,
    /// Kind.
    pub kind: Kind,
    /// Label names, in the order in which values are given.
    pub labels: &'static [&'static str],
    /// The `# HELP` text.
    pub help: &'static str,
}

/// Declares the metrics as constants and lists them in [`CATALOGUE`], so that none can be left out.
macro_rules! catalogue {
    ($($constant:ident = $kind:expr, $name:literal, [$($label:literal),*], $help:literal;)+) => {
        $(
            #[doc = $help]
            pub const $constant: Metric =
                Metric { name: $name, kind: $kind, labels: &[$($label),*], help: $help };
        )+

        /// Every metric, in the order of declaration.
        pub const CATALOGUE: &[Metric] = &[$($constant,)+];
    };
}

catalogue! {
    CONNECTIONS_ACCEPTED = Kind::Counter, "ringward_connections_accepted_total", ["listener"],
        "Downstream connections accepted.";
    CONNECTIONS_ACTIVE = Kind::Gauge, "ringward_connections_active", ["listener"],
        "Downstream connections open now.";
    CONNECTIONS_CLOSED = Kind::Counter, "ringward_connections_closed_total", ["listener", "reason"],
        "Downstream connections closed, by reason.";
    HANDSHAKES_FINISHED = Kind::Counter, "ringward_handshakes_finished_total", ["listener", "outcome", "reason"],
        "TLS handshakes finished; reason is none for completed ones.";
    HANDSHAKE_DURATION = Kind::Histogram(HANDSHAKE_BOUNDS), "ringward_handshake_duration_seconds", ["listener"],
        "Time from accept to the end of a completed TLS handshake.";
    HANDSHAKES_RESUMED = Kind::Counter, "ringward_handshakes_resumed_total", ["listener", "how"],
        "Completed TLS handshakes that resumed a session, by where it was kept.";
    RESUMPTIONS_DECLINED = Kind::Counter, "ringward_resumptions_declined_total", ["listener", "reason"],
        "Clients that offered a session and got a full handshake instead, by reason.";
    HANDSHAKES_QUEUED = Kind::Counter, "ringward_handshakes_queued_total", ["listener"],
        "TLS handshakes that had to wait for their turn, by the limits in handshakes.";
    SOURCES_REFUSED = Kind::Counter, "ringward_sources_refused_total", ["listener"],
        "Networks of clients that began to be refused because their handshakes failed too often, counted by worker.";
    OBSERVED_CLIENTS = Kind::Counter, "ringward_observed_clients_total", ["listener", "verdict"],
        "Certificates shown where they are only observed; verdict is admitted, or why the client would be refused.";
    REVOCATION_REFUSALS = Kind::Counter, "ringward_revocation_refusals_total", ["listener", "source"],
        "Clients refused by revocation, by what refused them; missing and stale are lists that are required.";
    OCSP_UNCHECKED = Kind::Counter, "ringward_ocsp_unchecked_requests_total", ["listener"],
        "Requests that passed by soft_fail: the client's OCSP responder did not answer in time, or does not know it.";
    TRUST_ENFORCEMENT = Kind::Histogram(ENFORCEMENT_BOUNDS), "ringward_trust_enforcement_seconds", ["how"],
        "Time from a change of trust until it ended a client that it affects, by where it caught the client.";
    TENANT_CONNECTIONS = Kind::Gauge, "ringward_tenant_connections_active", ["tenant"],
        "Downstream connections of the tenant's clients open now.";
    TENANT_REFUSED = Kind::Counter, "ringward_tenant_connections_refused_total", ["tenant"],
        "Connections refused because the tenant had as many as it may.";
    TENANT_REQUESTS = Kind::Counter, "ringward_tenant_requests_finished_total", ["tenant"],
        "Requests of the tenant's clients finished.";
    REQUESTS_FINISHED = Kind::Counter, "ringward_requests_finished_total", ["listener", "route", "status_class"],
        "Requests finished, by class of the status sent; none if the exchange ended before any.";
    REQUEST_DURATION = Kind::Histogram(REQUEST_BOUNDS), "ringward_request_duration_seconds", ["listener", "route"],
        "Time from the first byte of a request to the last byte of its response.";
    REQUESTS_ACTIVE = Kind::Gauge, "ringward_requests_active", ["listener"],
        "Requests in work that count against requests.concurrent_max of their listener; 0 where there is no such limit.";
    REQUESTS_WAITING = Kind::Gauge, "ringward_requests_waiting", ["listener"],
        "Requests that wait to be let into work.";
    REQUESTS_QUEUED = Kind::Counter, "ringward_requests_queued_total", ["listener"],
        "Requests that had to wait to be let into work.";
    REQUESTS_SHED = Kind::Counter, "ringward_requests_shed_total", ["listener", "reason"],
        "Requests that were not let into work, by reason: the queue was full, or what ended their wait.";
    GRPC_FINISHED = Kind::Counter, "ringward_grpc_requests_finished_total", ["listener", "route", "grpc_status"],
        "gRPC calls finished, by the status sent, Ringward's own included; of routes that have had any.";
    REQUESTS_MISDIRECTED = Kind::Counter, "ringward_requests_misdirected_total", ["listener"],
        "Requests answered 421 because their host is protected differently than the server name of the handshake.";
    REQUESTS_UNVERIFIED = Kind::Counter, "ringward_requests_unverified_total", ["listener"],
        "Requests that came to a route for verified clients without one, and were refused; more than 0 is a fault of Ringward's.";
    STREAMS_UNSERVED = Kind::Counter, "ringward_streams_unserved_total", ["listener"],
        "HTTP/2 streams of ended connections that came to no request: malformed, above a limit, or of a flood. They have no record.";
    RESPONSES_GENERATED = Kind::Counter, "ringward_responses_generated_total", ["listener", "flag"],
        "Responses made by Ringward itself instead of an upstream, by flag.";
    IDENTITY_HEADERS_STRIPPED = Kind::Counter, "ringward_identity_headers_stripped_total", ["listener"],
        "Inbound header fields removed because they look like those that carry the verified identity.";
    ADDRESS_CLAIMS = Kind::Counter, "ringward_client_address_claims_total", ["listener", "outcome"],
        "Requests where `client_address` is configured, by what became of what their headers say; untrusted was removed, malformed refused.";
    FORWARDED_IDENTITIES = Kind::Counter, "ringward_forwarded_identities_total", ["listener", "verdict"],
        "Requests where `forwarded_identity` is configured, by what became of the certificate that they forward; of listeners that have had any.";
    DOWNSTREAM_RECEIVED = Kind::Counter, "ringward_downstream_received_bytes_total", ["listener"],
        "Bytes received from clients, TLS included.";
    DOWNSTREAM_SENT = Kind::Counter, "ringward_downstream_sent_bytes_total", ["listener"],
        "Bytes sent to clients, TLS included.";
    COMPRESSED = Kind::Counter, "ringward_compressed_responses_total", ["coding"],
        "Responses that are compressed on their way to the client, those that were cut included; of codings that were used.";
    COMPRESSION_RECEIVED = Kind::Counter, "ringward_compression_received_bytes_total", ["coding"],
        "Bytes of these responses as they come from the upstream.";
    COMPRESSION_SENT = Kind::Counter, "ringward_compression_sent_bytes_total", ["coding"],
        "Bytes of these responses as they leave for the client.";
    COMPRESSION_SKIPPED = Kind::Counter, "ringward_compression_skipped_total", [],
        "Responses that passed as they are since memory for compressing them was short (`compression_memory_max`, `memory_max`).";
    TUNNELS_OPENED = Kind::Counter, "ringward_tunnels_opened_total", ["listener"],
        "Exchanges that became a tunnel: upgraded connections, and streams of extended CONNECT.";
    TUNNELS_ACTIVE = Kind::Gauge, "ringward_tunnels_active", ["listener"],
        "Tunnels open now.";
    TUNNEL_RECEIVED = Kind::Counter, "ringward_tunnel_received_bytes_total", ["listener"],
        "Bytes received from clients in tunnels, as they come; frames of HTTP/2 and TLS do not count.";
    TUNNEL_SENT = Kind::Counter, "ringward_tunnel_sent_bytes_total", ["listener"],
        "Bytes sent to clients in tunnels, as they leave; frames of HTTP/2 and TLS do not count.";
    POLICY_DECISIONS = Kind::Counter, "ringward_policy_decisions_total", ["policy", "outcome"],
        "Decisions of the policy, evaluated or cached, by outcome; only allowed lets a request through.";
    POLICY_DURATION = Kind::Histogram(POLICY_BOUNDS), "ringward_policy_evaluation_duration_seconds", ["policy"],
        "Time that one policy evaluation took, input included.";
    POLICY_CACHE_LOOKUPS = Kind::Counter, "ringward_policy_cache_lookups_total", ["policy", "result"],
        "Requests by how the policy's decision cache was used; bypass did not look. None where there is no cache.";
    POLICY_CACHE_MISMATCHES = Kind::Counter, "ringward_policy_cache_mismatches_total", ["policy"],
        "Cached decisions that turned out to be other than the policy's; each has turned the cache of a worker off.";
    POLICY_CACHE_ACTIVE = Kind::Gauge, "ringward_policy_cache_active", ["policy"],
        "Workers that have a decision cache for the policy.";
    POLICY_CACHE_ENTRIES = Kind::Gauge, "ringward_policy_cache_entries", ["policy"],
        "Decisions in the caches of all workers.";
    POLICY_BUDGET_REFUSALS = Kind::Counter, "ringward_policy_budget_refusals_total", ["policy"],
        "Requests answered 429 because their client has caused too many evaluations of the policy.";
    POLICY_CANDIDATE_DECISIONS = Kind::Counter, "ringward_policy_candidate_decisions_total", ["policy", "verdict"],
        "Requests that the candidate of the policy was asked about, by what it said beside the policy; it decides nothing.";
    POLICY_SERVER_QUESTIONS = Kind::Counter, "ringward_policy_server_questions_total", ["policy", "outcome"],
        "Questions to the policy's server by outcome; every other one than answered was a request answered 500.";
    POLICY_SERVER_DURATION = Kind::Histogram(REQUEST_BOUNDS), "ringward_policy_server_answer_duration_seconds", ["policy"],
        "Time from a question to the policy's server to the end of its answer, connecting included.";
    POLICY_SERVER_CIRCUITS_OPEN = Kind::Gauge, "ringward_policy_server_circuits_open", ["policy"],
        "Workers that do not ask the policy's server for now, since it did not answer lately.";
    UPSTREAM_REQUESTS = Kind::Counter, "ringward_upstream_requests_total", ["cluster"],
        "Requests sent to upstreams, retries included.";
    UPSTREAM_ERRORS = Kind::Counter, "ringward_upstream_errors_total", ["cluster", "reason"],
        "Exchanges with upstreams that failed, by reason.";
    UPSTREAM_RETRIES = Kind::Counter, "ringward_upstream_retries_total", ["cluster", "reason"],
        "Times that a request was sent again, by what was wrong with the try before.";
    UPSTREAM_ACTIVE = Kind::Gauge, "ringward_upstream_requests_active", ["cluster"],
        "Requests to the cluster that are under way, looked up twice a second.";
    UPSTREAM_PENDING = Kind::Gauge, "ringward_upstream_requests_pending", ["cluster"],
        "Requests that wait since the cluster has as many as it may, looked up twice a second.";
    UPSTREAM_CIRCUITS_OPEN = Kind::Gauge, "ringward_upstream_circuits_open", ["cluster"],
        "Workers whose share of the cluster's requests is used up, looked up twice a second.";
    UPSTREAM_RETRIED = Kind::Counter, "ringward_upstream_retried_requests_finished_total", ["cluster", "outcome"],
        "Requests that were sent again or would have been, by what came of them; budget had no other try, since the cluster's budget was used up.";
    UPSTREAM_MIRRORED = Kind::Counter, "ringward_upstream_mirrored_requests_finished_total", ["cluster", "outcome"],
        "Copies of requests for the cluster, by what came of them; limit, memory and stale were not sent, cut and incomplete in part.";
    UPSTREAM_OPENED = Kind::Counter, "ringward_upstream_connections_opened_total", ["cluster"],
        "Upstream connections opened.";
    UPSTREAM_HANDSHAKES = Kind::Counter, "ringward_upstream_tls_handshakes_total", ["cluster", "how"],
        "TLS handshakes with upstreams that succeeded, full and resumed. Those that failed are among the upstream errors.";
    UPSTREAM_REUSED = Kind::Counter, "ringward_upstream_connections_reused_total", ["cluster"],
        "Requests that took a pooled upstream connection.";
    UPSTREAM_DURATION = Kind::Histogram(REQUEST_BOUNDS), "ringward_upstream_response_duration_seconds", ["cluster"],
        "Time from sending a request upstream to the head of its final response.";
    UPSTREAM_ENDPOINTS = Kind::Gauge, "ringward_upstream_endpoints", ["cluster", "health"],
        "Endpoints of the cluster by what their checks have found out; for clusters whose endpoints are checked or come and go.";
    UPSTREAM_ENDPOINT_HEALTHY = Kind::Gauge, "ringward_upstream_endpoint_healthy", ["cluster", "endpoint"],
        "1 if the endpoint is healthy or was not checked yet, else 0; of the first 2048 endpoints that are checked.";
    UPSTREAM_ENDPOINT_SHARE = Kind::Gauge, "ringward_upstream_endpoint_share", ["cluster", "endpoint"],
        "The part of the cluster's requests that is meant for the endpoint, from 0 to 1, by health, weight, zone, priority and slow start; of the same endpoints.";
    UPSTREAM_PANIC = Kind::Gauge, "ringward_upstream_panic", ["cluster"],
        "1 if so few endpoints of the cluster are healthy that all are used, else 0.";
    UPSTREAM_EJECTED = Kind::Gauge, "ringward_upstream_endpoints_ejected", ["cluster"],
        "Endpoints that get no requests for a while, since they failed too many.";
    UPSTREAM_EJECTIONS = Kind::Counter, "ringward_upstream_ejections_total", ["cluster", "reason"],
        "Times that an endpoint was ejected, by its last failure.";
    UPSTREAM_EJECTIONS_WITHHELD = Kind::Counter, "ringward_upstream_ejections_withheld_total", ["cluster"],
        "Times that an endpoint failed too many requests and was not ejected, since too few others would have been left.";
    UPSTREAM_HEALTH_CHECKS = Kind::Counter, "ringward_upstream_health_checks_finished_total", ["cluster", "outcome"],
        "Health checks of the cluster's endpoints, by outcome; only passed is a success.";
    UPSTREAM_DISCOVERIES = Kind::Counter, "ringward_upstream_discoveries_finished_total", ["cluster", "outcome"],
        "Attempts to find the endpoints of the cluster, by outcome; with all but updated and unchanged the last good ones stay.";
    UPSTREAM_DISCOVERY_AGE = Kind::Gauge, "ringward_upstream_discovery_age_seconds", ["cluster"],
        "Time since the endpoints of the cluster that are in use were found or confirmed.";
    WORKER_HEARTBEAT = Kind::Gauge, "ringward_worker_heartbeat_timestamp_seconds", ["worker"],
        "When the worker last showed that its event loop turns.";
    WORKER_GENERATION = Kind::Gauge, "ringward_worker_snapshot_generation", ["worker"],
        "Snapshot generation in use by the worker.";
    WORKER_ADOPTION = Kind::Histogram(ADOPTION_BOUNDS), "ringward_worker_snapshot_adoption_seconds", ["worker"],
        "Time for which the worker stood still to take up a new snapshot.";
    WORKER_ACCEPTED = Kind::Counter, "ringward_worker_connections_accepted_total", ["worker"],
        "Downstream connections that the worker has accepted.";
    WORKER_CONNECTIONS = Kind::Gauge, "ringward_worker_connections_active", ["worker"],
        "Downstream connections of the worker that are open now.";
    WORKER_REQUESTS = Kind::Counter, "ringward_worker_requests_finished_total", ["worker"],
        "Requests that the worker has finished.";
    WORKER_PANICS = Kind::Counter, "ringward_worker_panics_total", ["worker"],
        "Panics caught; each closed one connection.";
    ACCESS_RECORDS_WRITTEN = Kind::Counter, "ringward_access_records_written_total", [],
        "Access records written to the log.";
    ACCESS_RECORDS_DROPPED = Kind::Counter, "ringward_access_records_dropped_total", ["worker"],
        "Access records lost because the queue to the log was full.";
    LOG_RECORDS_DROPPED = Kind::Counter, "ringward_log_records_dropped_total", ["worker"],
        "Records of failed handshakes and other events lost because their share of the queue was full.";
    LOG_LINES_SUPPRESSED = Kind::Counter, "ringward_log_lines_suppressed_total", [],
        "Lines of failed handshakes left out by the rate limit.";
    LOG_WRITE_ERRORS = Kind::Counter, "ringward_log_write_errors_total", [],
        "Failed attempts to write the log; the lines are kept and written later.";
    RELOADS_FINISHED = Kind::Counter, "ringward_reloads_finished_total", ["outcome"],
        "Reloads, by outcome; a failed one leaves the running snapshot in force.";
    RELOAD_SUCCESS = Kind::Gauge, "ringward_reload_success_timestamp_seconds", [],
        "When a reload last succeeded, or the process started to serve.";
    CONFIG_GENERATION = Kind::Gauge, "ringward_config_generation", [],
        "Generation of the snapshot published last.";
    CONFIG_INFO = Kind::Gauge, "ringward_config_info", ["part", "digest"],
        "Always 1; digest is of the files of that part in force (configuration, policies, trust), whatever they are called, and the same where they are.";
    MAINTENANCE_UNTIL = Kind::Gauge, "ringward_maintenance_until_timestamp_seconds", [],
        "Until when `admin.maintenance` announces work on this node; 0 if it does not.";
    SNAPSHOT_AGE = Kind::Gauge, "ringward_snapshot_age_seconds", [],
        "Time since the snapshot in force was published.";
    SNAPSHOTS_RETIRED = Kind::Gauge, "ringward_snapshots_retired", [],
        "Replaced snapshots that somebody still uses; one that stays is a leak.";
    CERTIFICATE_NOT_AFTER = Kind::Gauge, "ringward_certificate_not_after_timestamp_seconds", ["host"],
        "When the certificate presented for the virtual host expires.";
    TRUST_NOT_AFTER = Kind::Gauge, "ringward_trust_not_after_timestamp_seconds", ["bundle"],
        "When the first certificate authority of the trust bundle expires.";
    CLIENT_CERTIFICATE_NOT_AFTER = Kind::Gauge, "ringward_client_certificate_not_after_timestamp_seconds", ["bundle", "client"],
        "When the certificate of a client expires that was due to be renewed, of the twenty that expire the soonest.";
    CLIENTS_KNOWN = Kind::Gauge, "ringward_clients_known", [],
        "Clients that were seen and whose certificates are looked at for their expiry.";
    DENY_LIST_ENTRIES = Kind::Gauge, "ringward_deny_list_entries", [],
        "Entries of the deny list in force.";
    CRL_ENTRIES = Kind::Gauge, "ringward_crl_entries", ["bundle"],
        "Certificates on the revocation lists of the trust bundle.";
    CRL_THIS_UPDATE = Kind::Gauge, "ringward_crl_this_update_timestamp_seconds", ["bundle"],
        "When the oldest revocation list of the trust bundle was made.";
    CRL_NEXT_UPDATE = Kind::Gauge, "ringward_crl_next_update_timestamp_seconds", ["bundle"],
        "When the first revocation list of the trust bundle is due to be replaced.";
    CRL_FETCHES = Kind::Counter, "ringward_crl_fetches_finished_total", ["bundle", "outcome"],
        "Attempts to fetch a revocation list of the trust bundle, by outcome.";
    CRL_FETCH_HEALTHY = Kind::Gauge, "ringward_crl_fetch_healthy", ["bundle"],
        "1 if the last attempt at each source of the trust bundle's revocation lists succeeded, else 0.";
    OCSP_QUERIES = Kind::Counter, "ringward_ocsp_queries_finished_total", ["responder", "outcome"],
        "Questions to OCSP responders about clients, by the responder's host as configured, none where nobody may be asked, and outcome.";
    OCSP_CACHE_ENTRIES = Kind::Gauge, "ringward_ocsp_cache_entries", [],
        "OCSP answers about clients that are kept.";
    STAPLE_THIS_UPDATE = Kind::Gauge, "ringward_staple_this_update_timestamp_seconds", ["host"],
        "When the OCSP answer that is stapled for the virtual host was made.";
    STAPLE_NEXT_UPDATE = Kind::Gauge, "ringward_staple_next_update_timestamp_seconds", ["host"],
        "Until when the OCSP answer that is stapled for the virtual host is valid.";
    STAPLE_FAILURES = Kind::Counter, "ringward_staple_fetches_failed_total", ["host"],
        "Attempts to get an OCSP answer to staple for the virtual host that failed.";
    REVOCATION_SUSPENDED = Kind::Gauge, "ringward_revocation_suspended_until_timestamp_seconds", ["tenant"],
        "Until when revocation is not looked up for the tenant; absent where it is.";
    TICKET_KEY_SINCE = Kind::Gauge, "ringward_ticket_key_since_timestamp_seconds", [],
        "Since when the key in use seals session tickets.";
    TICKET_KEY_ROTATIONS = Kind::Counter, "ringward_ticket_key_rotations_total", [],
        "Times that another key took over to seal session tickets.";
    SESSION_CACHE_ENTRIES = Kind::Gauge, "ringward_session_cache_entries", [],
        "Sessions in the cache.";
    SESSION_CACHE_BYTES = Kind::Gauge, "ringward_session_cache_bytes", [],
        "Bytes that the sessions in the cache take.";
    SESSION_CACHE_EVICTIONS = Kind::Counter, "ringward_session_cache_evictions_total", [],
        "Sessions that gave way to newer ones before they expired.";
    MEMORY_PRESSURE = Kind::Gauge, "ringward_memory_pressure", [],
        "How short memory is, by memory_max: 0, or 1 from 85 % (no connections), or 2 from 95 % (no requests).";
    BUILD_INFO = Kind::Gauge, "ringward_build_info", ["version", "revision"],
        "Always 1; the labels say what is running.";
    PROCESS_START = Kind::Gauge, "ringward_process_start_timestamp_seconds", [],
        "When the process started.";
    PROCESS_CPU = Kind::Counter, "ringward_process_cpu_seconds_total", [],
        "User and system time that the process has used.";
    PROCESS_MEMORY = Kind::Gauge, "ringward_process_resident_memory_bytes", [],
        "Resident memory.";
    PROCESS_FDS = Kind::Gauge, "ringward_process_open_fds", [],
        "Open file descriptors.";
    PROCESS_FDS_MAX = Kind::Gauge, "ringward_process_max_fds", [],
        "Most file descriptors that the process may have open.";
    METRICS_SERIES = Kind::Gauge, "ringward_metrics_series_active", [],
        "Series in this scrape, counting each histogram as its samples.";
    METRICS_SERIES_MAX = Kind::Gauge, "ringward_metrics_series_max", [],
        "Most series that listeners, routes, policies, clusters and tenants can make together.";
    METRICS_OVERFLOWED = Kind::Counter, "ringward_metrics_labels_overflowed_total", ["family"],
        "Names above the ceiling of their family, which share the series labelled other.";
}

const US: u64 = 1_000;
const MS: u64 = 1_000_000;
const S: u64 = 1_000_000_000;

/// 150 ms is the usual goal for the 95th percentile of full handshakes.
const HANDSHAKE_BOUNDS: &[u64] = &[
    500 * US,
    MS,
    2_500 * US,
    5 * MS,
    10 * MS,
    25 * MS,
    50 * MS,
    100 * MS,
    150 * MS,
    250 * MS,
    500 * MS,
    S,
    2_500 * MS,
    5 * S,
    10 * S,
];

/// From an idle connection that is ended at once to exchanges that end with the grace, 30 s if nothing else is configured.
const ENFORCEMENT_BOUNDS: &[u64] = &[
    MS,
    2_500 * US,
    5 * MS,
    10 * MS,
    25 * MS,
    50 * MS,
    100 * MS,
    250 * MS,
    500 * MS,
    S,
    2_500 * MS,
    5 * S,
    10 * S,
    30 * S,
    60 * S,
];

/// Usually tens of microseconds; more than 5 ms would be felt as latency.
const ADOPTION_BOUNDS: &[u64] =
    &[50 * US, 100 * US, 250 * US, 500 * US, MS, 2_500 * US, 5 * MS, 10 * MS, 50 * MS, 250 * MS];

const REQUEST_BOUNDS: &[u64] = &[
    100 * US,
    250 * US,
    500 * US,
    MS,
    2_500 * US,
    5 * MS,
    10 * MS,
    25 * MS,
    50 * MS,
    100 * MS,
    250 * MS,
    500 * MS,
    S,
    2_500 * MS,
    5 * S,
    10 * S,
    30 * S,
];

const POLICY_BOUNDS: &[u64] = &[
    2 * US,
    5 * US,
    10 * US,
    20 * US,
    50 * US,
    100 * US,
    200 * US,
    500 * US,
    MS,
    2 * MS,
    5 * MS,
    10 * MS,
    50 * MS,
];

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use regex::Regex;

    use super::*;

    #[test]
    fn names_obey_the_scheme() {
        let scheme = Regex::new("^ringward_[a-z]+(_[a-z]+)+$").unwrap();
        let mut seen = HashSet::new();
        for metric in CATALOGUE {
            assert!(scheme.is_match(metric.name), "{}", metric.name);
            assert!(seen.insert(metric.name), "{} is declared twice", metric.name);
            let total = metric.name.ends_with("_total");
            match metric.kind {
                Kind::Counter => assert!(total, "{}: a counter ends in _total", metric.name),
                Kind::Gauge => assert!(!total, "{}: only a counter ends in _total", metric.name),
                Kind::Histogram(_) => assert!(metric.name.ends_with("_seconds"), "{}", metric.name),
            }
            for unit in ["_ms", "_us", "_millis", "_kb", "_percent"] {
                assert!(!metric.name.contains(unit), "{}: base units only", metric.name);
            }
            for reserved in ["_bucket", "_sum", "_count"] {
                assert!(
                    !metric.name.ends_with(reserved),
                    "{}: {reserved} belongs to histograms",
                    metric.name
                );
            }
        }
    }

    #[test]
    fn labels_are_few_and_never_name_what_a_peer_controls() {
        let bounded = [
            "listener",
            "route",
            "policy",
            "cluster",
            "host",
            "bundle",
            "worker",
            "reason",
            "outcome",
            "flag",
            "grpc_status",
            "status_class",
            "family",
            "how",
            "verdict",
            "source",
            "tenant",
            "version",
            "revision",
            "result",
            "health",
            "endpoint",
            "coding",
            "part",
            "digest",
            "responder",
            // Names from verified certificates, of the twenty clients that the control plane chooses.
            "client",
        ];
        for metric in CATALOGUE {
            assert!(metric.labels.len() <= 3, "{}", metric.name);
            for label in metric.labels {
                assert!(bounded.contains(label), "{}: label {label} is not known to be bounded", metric.name);
            }
        }
    }

    #[test]
    fn every_metric_has_help_on_one_line() {
        for metric in CATALOGUE {
            assert!(metric.help.ends_with('.') && !metric.help.contains(['\n', '\\']), "{}", metric.name);
        }
    }

    #[test]
    fn bounds_ascend() {
        for metric in CATALOGUE {
            if let Kind::Histogram(bounds) = metric.kind {
                assert!(!bounds.is_empty() && bounds.is_sorted_by(|a, b| a < b), "{}", metric.name);
            }
        }
    }
}
