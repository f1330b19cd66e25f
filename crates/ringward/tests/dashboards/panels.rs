//! The dashboards themselves: which panels there are, and what they ask.

use super::model::Kind::{Heatmap, Lines, Number, Table};
use super::model::Unit::{Bytes, Count, PerSecond, Ratio, Seconds};
use super::model::{Dashboard, Panel, Query, Row, Variable};

pub(crate) const DASHBOARDS: [Dashboard; 3] = [
    Dashboard {
        name: "executive",
        title: "Ringward: executive",
        description: "Is the service kept, what is about to expire, how many partners there are, how often somebody was woken.",
        from: "now-30d",
        variables: &[INSTANCE, LISTENER, TENANT],
        rows: &[SERVICE, DUE, PARTNERS],
    },
    Dashboard {
        name: "on-call",
        title: "Ringward: on call",
        description: "What fails now and for what reason, who causes most of the load, what has changed lately, and whether revocation is up to date.",
        from: "now-3h",
        variables: &[INSTANCE, LISTENER, CLUSTER, TENANT],
        rows: &[INCIDENTS, FAILURES, BUSIEST, CHANGES, REVOCATION],
    },
    Dashboard {
        name: "debug",
        title: "Ringward: debug",
        description: "Where time goes, and what the workers and the process do. What a single client did is in the access log, since no label names a client.",
        from: "now-1h",
        variables: &[INSTANCE, LISTENER, CLUSTER, TENANT],
        rows: &[LATENCY, CLIENTS, UPSTREAMS, PROCESS],
    },
];

const INSTANCE: Variable = Variable { label: "instance", metric: "ringward_build_info" };
const LISTENER: Variable = Variable { label: "listener", metric: "ringward_connections_accepted_total" };
const CLUSTER: Variable = Variable { label: "cluster", metric: "ringward_upstream_requests_total" };
const TENANT: Variable = Variable { label: "tenant", metric: "ringward_tenant_connections_active" };

const fn q(expression: &'static str, legend: &'static str) -> Query {
    Query { expression, legend }
}

const SERVICE: Row = Row {
    title: "Service",
    panels: &[
        Panel::new("Requests without a server error", Number, Ratio, &[q(
            r#"1 - sum(increase(ringward_requests_finished_total{@l, status_class="5xx"}[$__range])) / (sum(increase(ringward_requests_finished_total{@l}[$__range])) > 0)"#,
            "success",
        )])
        .about("Of all requests in the range that is chosen. A denied request (403) is no error.")
        .limits(0.999, 0.99)
        .runbook("requests"),
        Panel::new("Handshakes completed", Number, Ratio, &[q(
            r#"sum(increase(ringward_handshakes_finished_total{@l, outcome="completed"}[$__range])) / (sum(increase(ringward_handshakes_finished_total{@l}[$__range])) > 0)"#,
            "completed",
        )])
        .about("Of all handshakes in the range that is chosen, those of clients without a right certificate included.")
        .runbook("handshake-failures"),
        Panel::new("Pages", Number, Count, &[q(
            r#"count(count by (alertname, instance, listener) (count_over_time(ALERTS{severity="page", alertstate="firing"}[$__range])))"#,
            "pages",
        )])
        .about("Different alerts with severity page that fired in the range that is chosen: incidents per month if that is 30 days.")
        .only_if("Prometheus has alerting rules with the label severity, and one fired"),
        Panel::new("Nodes", Number, Count, &[q("count(ringward_build_info{@i})", "nodes")])
            .about("Gateways that Prometheus gets metrics of.")
            .runbook("node-down"),
        Panel::new("Requests by class of status", Lines, PerSecond, &[q(
            "sum by (status_class) (rate(ringward_requests_finished_total{@l}[$__rate_interval]))",
            "{{status_class}}",
        )]),
        Panel::new("Requests slower than the rest", Lines, Seconds, &[q(
            "histogram_quantile(0.99, sum by (le) (rate(ringward_request_duration_seconds_bucket{@l}[$__rate_interval])))",
            "99 %",
        )])
        .about("99 of 100 requests were faster."),
    ],
};

const DUE: Row = Row {
    title: "What expires",
    panels: &[
        Panel::new(
            "Own certificates",
            Table,
            Seconds,
            &[q(
                "sort(min by (host) (ringward_certificate_not_after_timestamp_seconds{@i}) - time())",
                "{{host}}",
            )],
        )
        .about("Time left, by virtual host, of the node where it is shortest.")
        .limits(14.0 * DAY, 7.0 * DAY)
        .runbook("certificate-expiry"),
        Panel::new(
            "Certificate authorities",
            Table,
            Seconds,
            &[q(
                "sort(min by (bundle) (ringward_trust_not_after_timestamp_seconds{@i}) - time())",
                "{{bundle}}",
            )],
        )
        .about("Time left of the first authority of each trust bundle to expire.")
        .limits(30.0 * DAY, 7.0 * DAY)
        .runbook("certificate-expiry"),
        Panel::new(
            "Revocation lists",
            Table,
            Seconds,
            &[q(
                "sort(min by (bundle) (ringward_crl_next_update_timestamp_seconds{@i}) - time())",
                "{{bundle}}",
            )],
        )
        .about("Time until a newer list is due, by trust bundle. Below 0: the list is stale.")
        .limits(HOUR, 0.0)
        .runbook("revocation-lists")
        .only_if("a trust bundle has revocation lists"),
    ],
};

const PARTNERS: Row = Row {
    title: "Partners",
    panels: &[
        Panel::new("Partners", Number, Count, &[q(
            "count(count by (tenant) (ringward_tenant_connections_active{@t}))",
            "tenants",
        )])
        .about("Tenants that are configured.")
        .only_if("tenants are configured"),
        Panel::new("Active partners", Number, Count, &[q(
            "count(sum by (tenant) (increase(ringward_tenant_requests_finished_total{@t}[$__range])) > 0)",
            "tenants",
        )])
        .about("Tenants with requests in the range that is chosen.")
        .only_if("tenants are configured and have had requests"),
        Panel::new("Requests by partner", Lines, PerSecond, &[q(
            "topk(10, sum by (tenant) (rate(ringward_tenant_requests_finished_total{@t}[$__rate_interval])))",
            "{{tenant}}",
        )])
        .only_if("tenants are configured"),
    ],
};

const INCIDENTS: Row = Row {
    title: "Incidents",
    panels: &[
        Panel::new("Alerts that fire", Lines, Count, &[q(
            r#"sum by (alertname, severity) (ALERTS{alertstate="firing"})"#,
            "{{alertname}} ({{severity}})",
        )])
        .about("From begin to end: the time line of an incident. The runbook of each is in its annotations.")
        .only_if("Prometheus has alerting rules, and one fires"),
        Panel::new("Time that alerts fired", Table, Seconds, &[q(
            r#"sort_desc(60 * sum by (alertname, severity) (count_over_time(ALERTS{alertstate="firing"}[$__range:1m])))"#,
            "{{alertname}}",
        )])
        .about("In the range that is chosen, to the minute: the time to restore, if that has one incident.")
        .only_if("Prometheus has alerting rules, and one fired"),
    ],
};

const FAILURES: Row = Row {
    title: "Failures now",
    panels: &[
        Panel::new("Refused handshakes by reason", Lines, PerSecond, &[q(
            r#"sum by (reason) (rate(ringward_handshakes_finished_total{@l, outcome="failed"}[$__rate_interval])) > 0"#,
            "{{reason}}",
        )])
        .about("The log has a line with a hint for each.")
        .runbook("handshake-failures")
        .only_if("handshakes fail"),
        Panel::new("Own answers by flag", Lines, PerSecond, &[q(
            "sum by (flag) (rate(ringward_responses_generated_total{@l}[$__rate_interval])) > 0",
            "{{flag}}",
        )])
        .about("Answers that Ringward gave itself; the flag says why. denied is the policy's doing.")
        .runbook("requests")
        .only_if("requests are refused"),
        Panel::new("Decisions by outcome", Lines, PerSecond, &[q(
            "sum by (policy, outcome) (rate(ringward_policy_decisions_total{@i}[$__rate_interval]))",
            "{{policy}} {{outcome}}",
        )])
        .about("Only allowed lets a request through. denied and undefined are answered 403, all others 500.")
        .runbook("policy-errors"),
        Panel::new("Upstream failures by reason", Lines, PerSecond, &[q(
            "sum by (cluster, reason) (rate(ringward_upstream_errors_total{@c}[$__rate_interval])) > 0",
            "{{cluster}} {{reason}}",
        )])
        .runbook("upstream")
        .only_if("upstreams fail"),
        Panel::new("Requests with a server error", Lines, Ratio, &[q(
            r#"sum by (listener) (rate(ringward_requests_finished_total{@l, status_class="5xx"}[$__rate_interval])) / (sum by (listener) (rate(ringward_requests_finished_total{@l}[$__rate_interval])) > 0)"#,
            "{{listener}}",
        )])
        .limits(0.001, 0.01)
        .runbook("requests"),
        Panel::new("Load that was shed", Lines, PerSecond, &[
            q("sum by (reason) (rate(ringward_requests_shed_total{@l}[$__rate_interval]))", "{{reason}}"),
            q("sum(rate(ringward_sources_refused_total{@l}[$__rate_interval]))", "networks refused"),
        ])
        .limits(0.1, 1.0)
        .runbook("overload"),
    ],
};

const BUSIEST: Row = Row {
    title: "Top services",
    panels: &[
        Panel::new("Busiest routes", Lines, PerSecond, &[q(
            "topk(10, sum by (route) (rate(ringward_requests_finished_total{@l}[$__rate_interval])))",
            "{{route}}",
        )]),
        Panel::new("Slowest routes", Lines, Seconds, &[q(
            "topk(10, histogram_quantile(0.99, sum by (route, le) (rate(ringward_request_duration_seconds_bucket{@l}[$__rate_interval]))))",
            "{{route}}",
        )])
        .about("99 of 100 requests of the route were faster."),
        Panel::new("Busiest clusters", Lines, PerSecond, &[q(
            "topk(10, sum by (cluster) (rate(ringward_upstream_requests_total{@c}[$__rate_interval])))",
            "{{cluster}}",
        )]),
        Panel::new("Candidates of policies", Lines, PerSecond, &[q(
            "sum by (policy, verdict) (rate(ringward_policy_candidate_decisions_total{@i}[$__rate_interval]))",
            "{{policy}} {{verdict}}",
        )])
        .about("What a policy that is being tried says beside the one that decides. It decides nothing.")
        .runbook("policy-candidate")
        .only_if("a policy has a candidate"),
        Panel::new("Busiest tenants", Lines, PerSecond, &[q(
            "topk(10, sum by (tenant) (rate(ringward_tenant_requests_finished_total{@t}[$__rate_interval])))",
            "{{tenant}}",
        )])
        .only_if("tenants are configured"),
    ],
};

const CHANGES: Row = Row {
    title: "Rotations and reloads",
    panels: &[
        Panel::new("Reloads by outcome", Lines, Count, &[q(
            "sum by (outcome) (increase(ringward_reloads_finished_total{@i}[$__rate_interval]))",
            "{{outcome}}",
        )])
        .about("Renewed certificates and CAs come into force by a reload. A failed one leaves the former state in force.")
        .runbook("reload-failed"),
        Panel::new("Generation in force", Lines, Count, &[q("ringward_config_generation{@i}", "{{instance}}")])
            .about("Grows by one with each change of configuration, certificates, trust or policies."),
        Panel::new("Own certificates, time left", Table, Seconds, &[q(
            "sort(ringward_certificate_not_after_timestamp_seconds{@i} - time())",
            "{{instance}} {{host}}",
        )])
        .about("By node and host. A node that missed a rotation has less left than the others.")
        .limits(14.0 * DAY, 7.0 * DAY)
        .runbook("certificate-expiry"),
        Panel::new("Last reload that succeeded", Table, Seconds, &[q(
            "time() - ringward_reload_success_timestamp_seconds{@i}",
            "{{instance}}",
        )])
        .about("How long ago."),
    ],
};

const REVOCATION: Row = Row {
    title: "Revocation and responders",
    panels: &[
        Panel::new(
            "Revocation lists, time left",
            Table,
            Seconds,
            &[q("sort(ringward_crl_next_update_timestamp_seconds{@i} - time())", "{{instance}} {{bundle}}")],
        )
        .about("Below 0: the list is stale.")
        .limits(HOUR, 0.0)
        .runbook("revocation-lists")
        .only_if("a trust bundle has revocation lists"),
        Panel::new(
            "Fetches of revocation lists",
            Lines,
            PerSecond,
            &[q(
                "sum by (bundle, outcome) (rate(ringward_crl_fetches_finished_total{@i}[$__rate_interval]))",
                "{{bundle}} {{outcome}}",
            )],
        )
        .runbook("revocation-lists")
        .only_if("revocation lists are fetched"),
        Panel::new(
            "Answers of OCSP responders",
            Lines,
            PerSecond,
            &[q(
                "sum by (outcome) (rate(ringward_ocsp_queries_finished_total{@i}[$__rate_interval]))",
                "{{outcome}}",
            )],
        )
        .about("unreachable and invalid: the responder does not answer, or not as it should.")
        .runbook("ocsp")
        .only_if("responders are asked about clients"),
        Panel::new(
            "Requests let through unchecked",
            Lines,
            PerSecond,
            &[q(
                "sum by (listener) (rate(ringward_ocsp_unchecked_requests_total{@l}[$__rate_interval]))",
                "{{listener}}",
            )],
        )
        .about("By soft_fail, while the responder did not answer.")
        .limits(0.1, 1.0)
        .runbook("ocsp"),
    ],
};

const LATENCY: Row = Row {
    title: "Where time goes",
    panels: &[
        Panel::new("Requests", Heatmap, Seconds, &[q(
            "sum by (le) (increase(ringward_request_duration_seconds_bucket{@l}[$__rate_interval]))",
            "{{le}}",
        )])
        .about("From the first byte of a request to the last of its response."),
        Panel::new("Handshakes", Heatmap, Seconds, &[q(
            "sum by (le) (increase(ringward_handshake_duration_seconds_bucket{@l}[$__rate_interval]))",
            "{{le}}",
        )])
        .about("From accept to the end of a completed handshake.")
        .runbook("handshake-latency"),
        Panel::new("Upstreams until their answer", Lines, Seconds, &[
            q(
                "histogram_quantile(0.5, sum by (cluster, le) (rate(ringward_upstream_response_duration_seconds_bucket{@c}[$__rate_interval])))",
                "{{cluster}} 50 %",
            ),
            q(
                "histogram_quantile(0.99, sum by (cluster, le) (rate(ringward_upstream_response_duration_seconds_bucket{@c}[$__rate_interval])))",
                "{{cluster}} 99 %",
            ),
        ])
        .runbook("upstream"),
        Panel::new("Evaluation of policies", Lines, Seconds, &[q(
            "histogram_quantile(0.99, sum by (policy, le) (rate(ringward_policy_evaluation_duration_seconds_bucket{@i}[$__rate_interval])))",
            "{{policy}} 99 %",
        )])
        .about("Decisions that the cache gave again are none.")
        .only_if("policies are evaluated"),
    ],
};

const CLIENTS: Row = Row {
    title: "Clients",
    panels: &[
        Panel::new("Connections", Lines, Count, &[q(
            "sum by (listener) (ringward_connections_active{@l})",
            "{{listener}}",
        )])
        .about("What one client did, with its names, issuer, serial number and chain, is in the access log: look for its peer.id or connection.id."),
        Panel::new("Connections closed by reason", Lines, PerSecond, &[q(
            "sum by (reason) (rate(ringward_connections_closed_total{@l}[$__rate_interval])) > 0",
            "{{reason}}",
        )]),
        Panel::new("Full and resumed handshakes", Lines, PerSecond, &[
            q(r#"sum(rate(ringward_handshakes_finished_total{@l, outcome="completed"}[$__rate_interval]))"#, "completed"),
            q("sum by (how) (rate(ringward_handshakes_resumed_total{@l}[$__rate_interval]))", "resumed by {{how}}"),
        ]),
        Panel::new("Clients refused by revocation", Lines, PerSecond, &[q(
            "sum by (source) (rate(ringward_revocation_refusals_total{@l}[$__rate_interval]))",
            "{{source}}",
        )])
        .runbook("revoked-key"),
        Panel::new("Changes of trust until they ended a client", Lines, Seconds, &[q(
            "histogram_quantile(0.99, sum by (how, le) (increase(ringward_trust_enforcement_seconds_bucket{@i}[$__range]))) >= 0",
            "{{how}} 99 %",
        )])
        .about("How long a revoked client still had a connection, by where it was caught.")
        .runbook("revoked-key")
        .only_if("a change of trust has ended a connection in the range that is chosen"),
        Panel::new("Connections by tenant", Lines, Count, &[q(
            "topk(10, sum by (tenant) (ringward_tenant_connections_active{@t}))",
            "{{tenant}}",
        )])
        .only_if("tenants are configured"),
    ],
};

const UPSTREAMS: Row = Row {
    title: "Upstreams",
    panels: &[
        Panel::new("Connections opened and used again", Lines, PerSecond, &[
            q("sum by (cluster) (rate(ringward_upstream_connections_opened_total{@c}[$__rate_interval]))", "{{cluster}} opened"),
            q("sum by (cluster) (rate(ringward_upstream_connections_reused_total{@c}[$__rate_interval]))", "{{cluster}} used again"),
        ]),
        Panel::new("Requests sent again", Lines, PerSecond, &[q(
            "sum by (cluster, reason) (rate(ringward_upstream_retries_total{@c}[$__rate_interval])) > 0",
            "{{cluster}} {{reason}}",
        )])
        .runbook("upstream")
        .only_if("requests are sent again"),
        Panel::new("Requests under way and waiting", Lines, Count, &[
            q("sum by (cluster) (ringward_upstream_requests_active{@c})", "{{cluster}} under way"),
            q("sum by (cluster) (ringward_upstream_requests_pending{@c})", "{{cluster}} waiting"),
        ]),
        Panel::new("Policy cache", Lines, Ratio, &[q(
            r#"sum by (policy) (rate(ringward_policy_cache_lookups_total{@i, result="hit"}[$__rate_interval])) / (sum by (policy) (rate(ringward_policy_cache_lookups_total{@i}[$__rate_interval])) > 0)"#,
            "{{policy}}",
        )])
        .about("Requests whose decision was given again, of all that asked."),
    ],
};

const PROCESS: Row = Row {
    title: "Workers and process",
    panels: &[
        Panel::new("Snapshot taken up by the workers", Lines, Count, &[q(
            "max by (instance) (ringward_config_generation{@i}) - on (instance) group_right max by (instance, worker) (ringward_worker_snapshot_generation{@i})",
            "{{instance}} worker {{worker}}",
        )])
        .about("Generations that the worker is behind; 0 but for moments.")
        .runbook("worker"),
        Panel::new("CPU", Lines, Count, &[q(
            "rate(ringward_process_cpu_seconds_total{@i}[$__rate_interval])",
            "{{instance}}",
        )])
        .about("Cores in use."),
        Panel::new("Memory", Lines, Bytes, &[q("ringward_process_resident_memory_bytes{@i}", "{{instance}}")]),
        Panel::new("File descriptors", Lines, Count, &[q("ringward_process_open_fds{@i}", "{{instance}}")])
            .runbook("file-descriptors"),
        Panel::new("Records lost", Lines, PerSecond, &[q(
            "sum by (instance) (rate(ringward_access_records_dropped_total{@i}[$__rate_interval])) + sum by (instance) (rate(ringward_log_records_dropped_total{@i}[$__rate_interval]))",
            "{{instance}}",
        )])
        .limits(0.1, 1.0)
        .runbook("log"),
        Panel::new("Series", Lines, Count, &[
            q("ringward_metrics_series_active{@i}", "{{instance}}"),
            q("ringward_metrics_series_max{@i}", "{{instance}} at most"),
        ])
        .about("Series in a scrape, and their ceiling."),
    ],
};

const HOUR: f64 = 3600.0;
const DAY: f64 = 24.0 * HOUR;
