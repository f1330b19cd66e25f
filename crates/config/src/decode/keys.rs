//! What to say about keys and values that are not understood: those of later versions, those of other programs, slips.
//!
//! A key whose feature does not exist yet is known here by name and refused with that reason. It must never be
//! ignored: an operator who writes `crl = ...` believes that revocation is checked.

use super::quoted;
use crate::suggest::nearest;

/// Message and help for a key that is not among the `fields` of its section.
pub(super) fn unknown(section: &str, key: &str, fields: &[&str]) -> (String, String) {
    for (note_section, note_key, note) in KEY_NOTES {
        if *note_section == section && *note_key == key {
            return note.words(&format!("`{key}` in {section}"), REMOVE_KEY);
        }
    }
    let help = match nearest(key, fields.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => {
            match KEY_NOTES.iter().find(|(_, note_key, note)| *note_key == key && note.belongs_elsewhere()) {
                Some((_, _, note)) => note.words(key, REMOVE_KEY).1,
                None => format!("known keys: {}", fields.join(", ")),
            }
        }
    };
    (format!("unknown key `{key}` in {section}"), help)
}

/// Message and help for a value of an enumeration that is known, but is none of this version's `variants`.
pub(super) fn value_note(choice: &str, value: &str, variants: &[&str]) -> Option<(String, String)> {
    VALUE_NOTES
        .iter()
        .find(|(note_choice, note_value, _)| *note_choice == choice && *note_value == value)
        .map(|(_, _, note)| note.words(&quoted(&[value]), &format!("write one of {}", quoted(variants))))
}

/// Why a key or value is refused although it is known.
enum Note {
    /// It would open a hole that nothing could close, which is named here.
    Never(&'static str),
    /// Its feature, named here, comes with a later version.
    Later(&'static str),
    /// It is written otherwise.
    Instead(&'static str),
}

impl Note {
    fn words(&self, subject: &str, way_out: &str) -> (String, String) {
        match self {
            Self::Later(feature) => {
                (format!("{subject} is not available yet ({feature})"), way_out.to_owned())
            }
            Self::Never(hole) => (format!("{subject} is refused: {hole}"), way_out.to_owned()),
            Self::Instead(help) => (format!("{subject} is not understood"), (*help).to_owned()),
        }
    }

    fn belongs_elsewhere(&self) -> bool {
        matches!(self, Self::Instead(_))
    }
}

use Note::{Instead, Later, Never};

const TIMEOUTS: &str = "write response_timeout for how long the upstream may be silent, request_timeout for how long all of it may take";
const MIRROR: &str = "write mirror = { cluster = \"orders-next\", percent = 10 }";
const SPLIT: &str = "write split = { weights = { orders = 95, orders-next = 5 } }";
const MAGLEV: &str =
    "write balance = { maglev = { header = \"x-user\" } }, or by cookie, identity or source_address";
const DNS: &str = "write endpoints_dns = \"orders.internal:8080\"";
const WEIGHTS: &str = "write a weight per endpoint: { address = \"10.0.0.11:8080\", weight = 3 }";
const FORWARDED_IDENTITY: &str =
    "write forwarded_identity = { from = { san_uri = \"spiffe://example.com/edge\" } }";
const CLIENT_ADDRESS: &str = "write client_address = { from = \"10.0.0.0/24\" }";
const RETRY: &str = "write retry = { attempts = 3, status = [\"502-504\"] } in a [[listener.host.route]] or its [[listener.host]]";
const REMOVE_KEY: &str = "remove it: a key that is not obeyed is refused, never ignored";

/// RFC 8446 §8 and appendix E.5.
const EARLY_DATA: Note =
    Never("early data (0-RTT) can be replayed, and comes before the client has proved who it is");

/// What translates has to read every body by a schema that must agree with the upstream's.
const GRPC_JSON: Note = Never(
    "gRPC-JSON translation would send upstream another message than the one that policies saw; let the service offer JSON itself",
);

/// The network is asked for the lists of clients only.
const UPSTREAM_LISTS: Note = Instead(
    "lists for upstreams are not fetched: have a timer put the list into a file, and name it in crl, which is watched",
);
/// Nor for answers of OCSP.
const UPSTREAM_OCSP: Note = Instead(
    "responders are not asked about upstreams: write crl = [\"FILE-OR-DIRECTORY\"], or have the CA issue short-lived certificates",
);

const NO_VERIFICATION: Note = Never(
    "whoever is on the way could be the upstream, and get all requests with what is said about their clients; give `ca` the certificate \
     of a private CA, and `server_name` the name that it has signed",
);

/// OpenSSL's names of TLS 1.2 suites in those of the registry.
const ECDSA_AES256: &str = "write \"TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384\"";
const ECDSA_AES128: &str = "write \"TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256\"";
const ECDSA_CHACHA20: &str = "write \"TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256\"";
const RSA_AES256: &str = "write \"TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384\"";
const RSA_AES128: &str = "write \"TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256\"";
const RSA_CHACHA20: &str = "write \"TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256\"";

/// By section and key.
const KEY_NOTES: &[(&str, &str, Note)] = &[
    ("the file", "includes", Instead("write [[include]], one table for each")),
    ("the file", "fleet", Later("several nodes that share state")),
    ("the file", "etcd", Later("several nodes that share state")),
    ("the file", "spiffe", Later("identities from the SPIFFE Workload API")),
    ("the file", "tenants", Instead("write [tenant.NAME], one table for each")),
    ("the file", "early_data", EARLY_DATA),
    ("the file", "limits", Instead("limits belong to a listener: limits = { ... } in [[listener]]")),
    ("the file", "listeners", Instead("write [[listener]], one table for each")),
    ("the file", "clusters", Instead("write [cluster.NAME], one table for each")),
    ("the file", "policies", Instead("write [policy.NAME], one table for each")),
    ("the file", "global_policy", Instead("write global_policy = \"NAME\" in [server]")),
    ("the file", "hosts", Instead("write [[listener.host]] below its [[listener]]")),
    ("the file", "routes", Instead("write [[listener.host.route]] below its [[listener.host]]")),
    ("the file", "upstream", Instead("write [cluster.NAME], one table for each")),
    ("the file", "metrics", Instead("write metrics = \"127.0.0.1:9464\" in [admin]")),
    ("[server]", "seccomp", Later("a process that locks itself")),
    ("[server]", "landlock", Later("a process that locks itself")),
    ("[server]", "user", Later("dropping privileges")),
    ("[server]", "threads", Instead("write workers")),
    ("[admin]", "control_socket", Instead("write socket = \"/run/ringward/admin.sock\"")),
    ("[admin]", "ui", Later("the web view")),
    ("[admin]", "traces", Later("tracing export")),
    ("[log]", "decisions", Later("the decision log as a stream of its own")),
    ("[log]", "format", Later("other log formats than JSON lines")),
    ("[log]", "otlp", Later("export over OTLP")),
    (
        "[trust.NAME]",
        "ocsp",
        Instead(
            "write ocsp_url or ocsp_hosts here, and ocsp = \"soft_fail\" or \"hard_fail\" in client_auth",
        ),
    ),
    ("[trust.NAME]", "deny", Instead("the deny list is not in this file: ringward revoke")),
    ("[trust.NAME]", "pin", Instead("write pins = [\"sha256/...\", \"sha256/...\"]")),
    ("[trust.NAME]", "trust_domain", Instead("write spiffe_trust_domain = \"DOMAIN\"")),
    ("[trust.NAME]", "spiffe", Later("trust bundles from the SPIFFE Workload API")),
    ("[trust.NAME]", "path", Instead("write ca = [\"FILE-OR-DIRECTORY\"]")),
    (
        "[trust.NAME]",
        "system",
        Instead("client certificates are never verified against the system's roots: name your CA"),
    ),
    ("[policy.NAME]", "bundle", Later("policy bundles")),
    ("[policy.NAME]", "shadow", Later("a candidate policy beside the active one")),
    ("[policy.NAME]", "mode", Later("policies that only observe")),
    (
        "[policy.NAME]",
        "url",
        Instead("write server = \"127.0.0.1:8181\", and the rule as rule = \"data.PACKAGE.RULE\""),
    ),
    ("[policy.NAME]", "query", Instead("write rule = \"data.PACKAGE.RULE\"")),
    ("[policy.NAME]", "package", Instead("write rule = \"data.PACKAGE.RULE\"")),
    ("policy.server", "tls", Later("TLS to policy servers")),
    ("[cluster.NAME]", "sni", Instead("write tls = { ..., server_name = \"NAME\" }")),
    ("[cluster.NAME]", "ca", Instead("write tls = { ca = \"FILE\" }")),
    ("cluster.tls", "sni", Instead("write server_name = \"NAME\"")),
    ("cluster.tls", "trust", Instead("write ca = [\"FILE-OR-DIRECTORY\"]")),
    ("cluster.tls", "cert", Instead("write certificate = { chain = \"FILE\", key = \"FILE\" }")),
    ("cluster.tls", "chain", Instead("write certificate = { chain = \"FILE\", key = \"FILE\" }")),
    (
        "cluster.tls",
        "alpn",
        Instead("write protocol = \"http2\" or \"auto\" beside tls: it says what is offered"),
    ),
    ("cluster.tls", "verify", NO_VERIFICATION),
    ("cluster.tls", "insecure", NO_VERIFICATION),
    ("cluster.tls", "skip_verify", NO_VERIFICATION),
    ("cluster.tls", "insecure_skip_verify", NO_VERIFICATION),
    ("cluster.tls", "danger_no_verification", NO_VERIFICATION),
    ("cluster.tls", "early_data", EARLY_DATA),
    ("cluster.tls", "crl_urls", UPSTREAM_LISTS),
    ("cluster.tls", "crl_distribution_points", UPSTREAM_LISTS),
    ("cluster.tls", "ocsp", UPSTREAM_OCSP),
    ("cluster.tls", "ocsp_url", UPSTREAM_OCSP),
    ("cluster.tls", "ocsp_hosts", UPSTREAM_OCSP),
    ("cluster.tls.revocation", "refresh", UPSTREAM_LISTS),
    ("[cluster.NAME]", "send_proxy", Instead("write proxy_protocol = \"v2\"")),
    ("[cluster.NAME]", "health_checks", Instead("write health_check = { http = \"/healthz\" }")),
    ("cluster.health_check", "path", Instead("write http = \"/healthz\"")),
    ("cluster.health_check", "service", Instead("write grpc = \"package.Service\"")),
    ("cluster.health_check", "status", Instead("write expect = \"200-299\"")),
    ("cluster.health_check", "panic_threshold", Instead("it belongs to the cluster, beside health_check")),
    ("[cluster.NAME]", "retry", Instead(RETRY)),
    ("[cluster.NAME]", "retries", Instead(RETRY)),
    ("[cluster.NAME]", "weights", Instead(WEIGHTS)),
    ("[cluster.NAME]", "circuit_breaker", Instead("write requests_max = 1000, pending_max = 100")),
    ("[cluster.NAME]", "discovery", Instead(DNS)),
    ("[cluster.NAME]", "dns", Instead(DNS)),
    ("[cluster.NAME]", "srv", Instead("write endpoints_dns = { srv = \"_http._tcp.orders.internal\" }")),
    ("[server]", "resolvers", Instead("write dns_servers = [\"10.0.0.2\"]")),
    ("endpoint", "dns", Instead("write endpoints_dns = \"orders.internal:8080\" in [cluster.NAME]")),
    ("endpoint", "file", Instead("write endpoints_file = \"orders.endpoints.toml\" in [cluster.NAME]")),
    ("[cluster.NAME]", "file", Instead("write endpoints_file = \"orders.endpoints.toml\"")),
    ("endpoint", "addr", Instead("write address = \"10.0.0.11:8080\"")),
    (
        "[cluster.NAME]",
        "zone",
        Instead("write a zone per endpoint: { address = \"10.0.0.11:8080\", zone = \"a\" }"),
    ),
    (
        "[cluster.NAME]",
        "priority",
        Instead("write a priority per endpoint: { address = \"10.0.0.11:8080\", priority = 1 }"),
    ),
    ("[cluster.NAME]", "h2", Instead("write protocol = \"http2\"")),
    ("[cluster.NAME]", "h2c", Instead("write protocol = \"http2\"")),
    ("[cluster.NAME]", "http2", Instead("write protocol = \"http2\"")),
    ("[cluster.NAME]", "hash", Instead(MAGLEV)),
    ("[[listener]]", "tickets", Instead("write resumption = \"tickets\", \"cache\" or \"off\"")),
    ("[[listener]]", "min_version", Instead("write tls = { min_version = \"1.3\" }")),
    ("[[listener]]", "early_data", EARLY_DATA),
    ("[[listener]]", "zero_rtt", EARLY_DATA),
    ("[[listener]]", "max_early_data_size", EARLY_DATA),
    ("tls", "early_data", EARLY_DATA),
    ("tls", "zero_rtt", EARLY_DATA),
    ("tls", "max_early_data_size", EARLY_DATA),
    ("tls", "max_version", Instead("TLS 1.3 is always offered: leave it away")),
    ("tls", "ciphers", Instead("write cipher_suites = [\"TLS_AES_128_GCM_SHA256\"]")),
    ("tls", "curves", Instead("write groups = [\"X25519MLKEM768\", \"x25519\"]")),
    ("[[listener]]", "alpn", Instead("HTTP/2 is offered beside HTTP/1.1 unless http2 = false")),
    ("[[listener]]", "h2", Instead("HTTP/2 is offered unless http2 = false")),
    ("[[listener]]", "max_concurrent_streams", Instead("write limits = { streams_max = 100 }")),
    ("[[listener]]", "trusted_proxies", Instead(CLIENT_ADDRESS)),
    ("[[listener]]", "real_ip", Instead(CLIENT_ADDRESS)),
    ("[[listener]]", "x_forwarded_for", Instead(CLIENT_ADDRESS)),
    ("[[listener]]", "rate_limit", Later("rate limits")),
    ("[[listener]]", "routes", Instead("write [[listener.host.route]] below a [[listener.host]]")),
    ("[[listener]]", "route", Instead("write [[listener.host.route]] below a [[listener.host]]")),
    ("[[listener]]", "hosts", Instead("write [[listener.host]], one table for each")),
    (
        "[[listener]]",
        "certificate",
        Instead("certificates belong to a host: certificate = { ... } in [[listener.host]]"),
    ),
    (
        "[[listener]]",
        "client_auth",
        Instead("client authentication belongs to a host: client_auth = { ... } in [[listener.host]]"),
    ),
    ("[[listener]]", "policy", Instead("policies belong to a host: policy = \"NAME\" in [[listener.host]]")),
    ("[[listener.host]]", "policies", Instead("write policy = [\"NAME\", \"NAME\"]")),
    ("[[listener.host]]", "xfcc", Instead(FORWARDED_IDENTITY)),
    ("[[listener.host]]", "client_cert_header", Instead(FORWARDED_IDENTITY)),
    ("forwarded_identity", "peers", Instead("write from = { san_uri = \"spiffe://example.com/edge\" }")),
    ("forwarded_identity", "assertion", Later("identities that cannot be verified")),
    ("[[listener.host]]", "tls", Instead("TLS belongs to the listener: tls = { ... } in [[listener]]")),
    (
        "[[listener.host]]",
        "staple",
        Instead("staples belong to a certificate: certificate = { ..., staple = \"fetch\" }"),
    ),
    (
        "[[listener.host]]",
        "resumption",
        Instead("resumption belongs to the listener: resumption = \"tickets\" in [[listener]]"),
    ),
    (
        "[[listener.host]]",
        "tickets",
        Instead("resumption belongs to the listener: resumption = \"tickets\" in [[listener]]"),
    ),
    ("[[listener.host]]", "early_data", EARLY_DATA),
    ("[[listener.host]]", "zero_rtt", EARLY_DATA),
    ("[[listener.host]]", "tenant", Instead("write client_auth = { ..., tenants = [\"NAME\"] }")),
    ("[[listener.host]]", "tenants", Instead("write client_auth = { ..., tenants = [\"NAME\"] }")),
    (
        "[[listener.host]]",
        "certificates",
        Instead("write certificate = [{ chain = ..., key = ... }, { chain = ..., key = ... }]"),
    ),
    ("[[listener.host]]", "alpn", Instead("protocols belong to the listener: http2 in [[listener]]")),
    ("[[listener.host]]", "http2", Instead("protocols belong to the listener: http2 in [[listener]]")),
    ("[[listener.host]]", "h2", Instead("protocols belong to the listener: http2 in [[listener]]")),
    ("[[listener.host]]", "rate_limit", Later("rate limits")),
    (
        "[[listener.host]]",
        "compression",
        Instead("it belongs to routes: write it in [[listener.host.route]]"),
    ),
    ("compression", "level", Instead("write zstd_level, br_level or gzip_level")),
    ("compression", "min_size", Instead("write bytes_min = \"1KiB\"")),
    ("compression", "min_length", Instead("write bytes_min = \"1KiB\"")),
    ("compression", "types", Instead("write content_types = [\"application/json\", \"text/*\"]")),
    ("cors", "methods", Instead("leave it away: pages may use the methods that routes take")),
    ("cors", "allow_origins", Instead("write origins = [\"https://app.example.com\"]")),
    ("[[listener.host]]", "trust", Instead("write client_auth = { mode = \"required\", trust = \"NAME\" }")),
    ("[[listener.host]]", "cert", Instead("write certificate = { chain = \"FILE\", key = \"FILE\" }")),
    ("[[listener.host]]", "key", Instead("write certificate = { chain = \"FILE\", key = \"FILE\" }")),
    (
        "[[listener.host]]",
        "cluster",
        Instead("clusters belong to a route: cluster = \"NAME\" in [[listener.host.route]]"),
    ),
    ("[[listener.host]]", "routes", Instead("write [[listener.host.route]], one table for each")),
    (
        "[[listener.host]]",
        "limits",
        Instead("limits belong to the listener: limits = { ... } in [[listener]]"),
    ),
    ("certificate", "pkcs11", Later("keys in hardware")),
    ("certificate", "cert", Instead("write chain = \"FILE\"")),
    ("client_auth", "crl", Instead("revocation lists belong to a trust bundle: crl in [trust.NAME]")),
    (
        "client_auth",
        "revocation",
        Instead("revocation belongs to a trust bundle: revocation in [trust.NAME]"),
    ),
    ("client_auth", "hints", Instead("hints belong to a trust bundle: hints = true in [trust.NAME]")),
    ("client_auth", "tenant", Instead("write tenants = [\"NAME\"]")),
    ("client_auth", "ca", Instead("write trust = \"NAME\" and name the CA in [trust.NAME]")),
    (
        "[[listener.host]]",
        "upstream_certificate",
        Instead("it belongs to a route: upstream_certificate = { ... } in [[listener.host.route]]"),
    ),
    (
        "[cluster.NAME]",
        "upstream_certificate",
        Instead("write tls = { ..., certificate = { chain = \"FILE\", key = \"FILE\" } }"),
    ),
    ("[[listener.host.route]]", "rate_limit", Later("rate limits")),
    ("[[listener.host.route]]", "retries", Instead(RETRY)),
    ("retry", "num_retries", Instead("write attempts = 3, which counts the first try too")),
    ("retry", "statuses", Instead("write status = [\"502-504\"]")),
    (
        "retry",
        "budget",
        Instead("write retry_budget = { percent = 20, per_second = 10 } in the [cluster.NAME]"),
    ),
    ("[[listener.host.route]]", "prefix_rewrite", Instead("write rewrite = { prefix = \"/\" }")),
    ("[[listener.host.route]]", "strip_prefix", Instead("write rewrite = { prefix = \"/\" }")),
    ("[[listener.host.route]]", "clusters", Instead(SPLIT)),
    ("[[listener.host.route]]", "weights", Instead(SPLIT)),
    ("split", "clusters", Instead(SPLIT)),
    ("split", "sticky", Instead("write by = { identity = \"spiffe_id\" } or { header = \"x-user\" }")),
    ("rewrite", "query", Instead("the query goes with the path, unchanged; a policy can change it")),
    ("rewrite", "authority", Instead("write host = \"NAME\"")),
    (
        "[[listener.host.route]]",
        "direct_response",
        Instead("write respond = { status = 200, body = \"...\" }"),
    ),
    ("redirect", "location", Instead("write to = \"https://{host}/new/{id}\"")),
    ("redirect", "code", Instead("write status = 308")),
    ("respond", "code", Instead("write status = 200")),
    (
        "[[listener.host.route]]",
        "headers",
        Instead("write request_headers or response_headers = { set = { ... } }"),
    ),
    (
        "[[listener.host]]",
        "headers",
        Instead("write request_headers or response_headers = { set = { ... } }"),
    ),
    ("header edits", "add", Instead("write append = { \"x-name\" = \"VALUE\" }")),
    ("[[listener.host.route]]", "grpc_json", GRPC_JSON),
    ("[[listener.host.route]]", "transcode", GRPC_JSON),
    ("match", "grpc_json", GRPC_JSON),
    ("[[listener.host.route]]", "shadow", Instead(MIRROR)),
    ("[[listener.host.route]]", "mirrors", Instead(MIRROR)),
    ("[[listener.host.route]]", "request_mirror_policies", Instead(MIRROR)),
    ("mirror", "fraction", Instead("write percent = 10")),
    ("mirror", "retry", Instead("a copy is sent once, whatever comes of it")),
    ("[[listener.host.route]]", "websocket", Instead("write upgrade = [\"websocket\"]")),
    (
        "[[listener.host.route]]",
        "danger_no_policy",
        Instead(
            "danger_no_policy belongs to the whole host: put a route without policy on a host of its own",
        ),
    ),
    ("[[listener.host.route]]", "policies", Instead("write policy = [\"NAME\", \"NAME\"]")),
    ("[[listener.host.route]]", "path", Instead("write match = { path = \"/...\" }")),
    ("[[listener.host.route]]", "methods", Instead("write match = { path = \"/...\", methods = [...] }")),
    ("[[listener.host.route]]", "upstream", Instead("write cluster = \"NAME\"")),
    ("[[listener.host.route]]", "timeout", Instead(TIMEOUTS)),
    ("[[listener.host.route]]", "total_timeout", Instead(TIMEOUTS)),
    ("[[listener.host.route]]", "idle_timeout", Instead(TIMEOUTS)),
    ("[keys]", "path", Instead("write file = \"FILE\"")),
    ("match of a tenant", "organizational_unit", Instead("write ou = \"NAME\"")),
    ("match of a tenant", "o", Instead("write organization = \"NAME\"")),
    (
        "match of a tenant",
        "common_name",
        Instead(
            "common names are not unique across owners: use another condition, and identity = \"common_name\"",
        ),
    ),
    ("match", "prefix", Instead("write path = \"/prefix/{rest...}\"")),
    ("match", "method", Instead("write methods = [\"GET\"]")),
    ("match", "service", Instead("write grpc = \"package.Service/*\"")),
    ("match", "header", Instead("write headers = { \"x-name\" = \"VALUE\" }")),
    ("match", "host", Instead("write a [[listener.host]] with that name")),
    ("match", "tenant", Instead("write identity = { tenant = \"NAME\" }")),
    ("a condition of match", "exact", Instead("write the text alone: \"x-name\" = \"TEXT\"")),
    ("identity of match", "organizational_unit", Instead("write ou = \"NAME\"")),
    (
        "identity of match",
        "spiffe",
        Instead("write san_uri = \"spiffe://DOMAIN/PATH/*\", or spiffe_trust_domain"),
    ),
    ("identity of match", "spiffe_id", Instead("write san_uri = \"spiffe://DOMAIN/PATH\"")),
    (
        "identity of match",
        "common_name",
        Instead("common names are not unique across issuers: write another condition"),
    ),
    ("limits", "rate", Later("rate limits")),
    ("forward", "client_cert_header", Later("other header names than those of RFC 9440")),
];

/// By enumeration and value.
const VALUE_NOTES: &[(&str, &str, Note)] = &[
    ("client_auth.mode", "none", Instead("write \"off\"")),
    ("client_auth.mode", "require", Instead("write \"required\"")),
    ("require", "token", Later("tokens")),
    ("require", "none", Instead("leave `require` away")),
    ("require", "required", Instead("write \"mtls\"")),
    ("client_auth.ocsp", "on", Instead("write \"soft_fail\" or \"hard_fail\": what if nobody answers?")),
    ("tls.min_version", "1.0", Instead("write \"1.3\" or \"1.2\": older versions are broken (RFC 8996)")),
    ("tls.min_version", "1.1", Instead("write \"1.3\" or \"1.2\": older versions are broken (RFC 8996)")),
    ("tls.min_version", "TLSv1.3", Instead("write \"1.3\"")),
    ("tls.min_version", "TLSv1.2", Instead("write \"1.2\"")),
    ("tls.groups", "P-256", Instead("write \"secp256r1\"")),
    ("tls.groups", "prime256v1", Instead("write \"secp256r1\"")),
    ("tls.groups", "P-384", Instead("write \"secp384r1\"")),
    ("tls.cipher_suites", "ECDHE-ECDSA-AES256-GCM-SHA384", Instead(ECDSA_AES256)),
    ("tls.cipher_suites", "ECDHE-ECDSA-AES128-GCM-SHA256", Instead(ECDSA_AES128)),
    ("tls.cipher_suites", "ECDHE-ECDSA-CHACHA20-POLY1305", Instead(ECDSA_CHACHA20)),
    ("tls.cipher_suites", "ECDHE-RSA-AES256-GCM-SHA384", Instead(RSA_AES256)),
    ("tls.cipher_suites", "ECDHE-RSA-AES128-GCM-SHA256", Instead(RSA_AES128)),
    ("tls.cipher_suites", "ECDHE-RSA-CHACHA20-POLY1305", Instead(RSA_CHACHA20)),
    ("profile.keys", "ecdsa", Instead("write the curves: \"ecdsa-p256\", \"ecdsa-p384\", \"ecdsa-p521\"")),
    ("policy.engine", "static", Instead("write \"matcher\"")),
    ("policy.engine", "ext_authz", Later("external policy engines")),
    ("policy.engine", "wasm", Later("WebAssembly policies")),
    ("retry.on", "reset", Instead("write \"reset_before_response\"")),
    ("retry.on", "connect-failure", Instead("write \"connect_failure\"")),
    ("retry.on", "refused-stream", Instead("write \"refused_stream\"")),
    ("retry.on", "5xx", Instead("write status = [\"500-599\"]")),
    ("retry.on", "gateway-error", Instead("write status = [\"502-504\"]")),
    ("cluster.balance", "least-request", Instead("write \"least_request\"")),
    ("cluster.balance", "hash", Instead(MAGLEV)),
    ("cluster.balance", "ring_hash", Instead(MAGLEV)),
    ("cluster.balance", "weighted", Instead(WEIGHTS)),
    ("cluster.balance", "peak_ewma", Later("balancing by load")),
    ("log.access", "syslog", Later("logging to syslog")),
    ("log.access", "journald", Instead("write \"stdout\": under systemd it ends in the journal")),
    ("log.access", "otlp", Later("export over OTLP")),
    (
        "forward.xfcc",
        "append",
        Instead(
            "write \"set\": an element that a client sent cannot be told from a true one, so none is kept",
        ),
    ),
];

/// Sections or enumerations with the keys or values that there is a note about.
#[cfg(test)]
pub(super) fn noted() -> impl Iterator<Item = (&'static str, &'static str)> {
    KEY_NOTES.iter().chain(VALUE_NOTES).map(|(section, key, _)| (*section, *key))
}
