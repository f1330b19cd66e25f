//! What good files mean: the sample, the defaults, values at their bounds.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::num::NonZeroU32;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ringward_config::{
    AccessLog, Audit, Balance, ClientAuthMode, CompressionAlgorithm, Config, CrlMode, Engine, FileKind,
    ForwardMode, HashKey, HealthCheck, HostPolicy, IdentityKey, IoDriver, Level, Lookup, Methods,
    PolicyCache, PolicyServer, PolicyServerAddress, Probe, Protocol, RevocationPolicy, Severity, XfccMode,
    load, parse,
};

const MINIMAL: &str = r#"
[trust.partners]
ca = "ca.pem"
[policy.main]
path = "policies"
[cluster.c]
endpoints = "127.0.0.1:80"
[[listener]]
name = "edge"
bind = "127.0.0.1:0"
[[listener.host]]
names = "a.test"
certificate = { chain = "a.pem", key = "a.key" }
client_auth = { mode = "required", trust = "partners" }
policy = "main"
[[listener.host.route]]
match = { path = "/orders/{id}" }
cluster = "c"
"#;

fn good(source: &str) -> Config {
    match parse(source, Path::new("/etc/ringward/ringward.toml")) {
        Ok(config) => config,
        Err(found) => panic!("{found}"),
    }
}

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// [`MINIMAL`] with one line put in place of another.
fn with(from: &str, to: &str) -> String {
    assert!(MINIMAL.contains(from), "{from}");
    MINIMAL.replacen(from, to, 1)
}

#[test]
fn the_sample_is_good_and_complete() {
    let config = good(include_str!("sample.toml"));
    assert!(config.warnings.is_empty(), "{}", config.warnings);
    assert_eq!(config.listeners.len(), 2);
    let edge = &config.listeners[0];
    assert_eq!((edge.name.as_str(), edge.default_host), ("edge", Some(0)));
    let host = &edge.hosts[0];
    assert_eq!(host.names[1].to_string(), "*.api.example.com");
    let verification = host.client_auth.verification().unwrap();
    assert_eq!(verification.extensions[0].as_str(), "1.3.6.1.4.1.57264.1.8");
    assert_eq!(
        (verification.trust.as_slice(), verification.tenants.len()),
        (&["partners".to_owned()][..], 2)
    );
    let ids: Vec<_> = host.routes.iter().map(|route| route.id.as_str()).collect();
    let expected = [
        "orders",
        "orders-id-files-rest",
        "get-head-reports-rest",
        "get-events",
        "events-canary",
        "rollout-rest",
        "versions",
        "old-id-rest",
        "get-version",
    ];
    assert_eq!(ids, expected);
    assert_eq!(
        host.routes[4].conditions.to_string(),
        "header x-build begins with \"1.\" and header x-canary is there and header x-tier is \"gold\" \
         and query version matches \"[0-9]{1,3}\" and tenant = \"acme\" and ou = \"Acme\""
    );
    assert!(host.routes[6].path.regex().is_some());
    let actions: Vec<String> = host.routes[5..].iter().map(|route| route.action.to_string()).collect();
    let redirect = "redirect 308 https://{host}/orders/{id}/{rest}{query}";
    let split = "split orders 95, reports 5 by identity spiffe_id";
    assert_eq!(actions, [split, "cluster orders", redirect, "respond 200"]);
    assert_eq!(host.routes[0].labels, BTreeMap::from([("team".to_owned(), "fulfilment".to_owned())]));
    let rewrite = &host.routes[0].rewrite;
    assert_eq!(rewrite.path.as_ref().unwrap().to_string(), "/v2/orders/{id}");
    assert_eq!(rewrite.host.as_deref(), Some("orders.internal:8080"));
    assert!(host.routes[1].rewrite.is_empty() && host.routes[2].rewrite.path.is_some());
    let cors = host.routes[0].cors.as_ref().unwrap();
    assert!(
        cors.credentials
            && cors.allows(b"https://app.example.com")
            && cors.allows(b"https://x.app.example.com")
    );
    assert!(!cors.allows(b"http://app.example.com") && !cors.allows(b"https://app.example.com.evil.test"));
    let edits = &host.routes[0].request_headers;
    let set: Vec<_> = edits.set.iter().map(|(name, value)| format!("{name}: {value}")).collect();
    assert_eq!((&*set, edits.append.len()), (&["x-order: {id}".to_owned()][..], 1));
    assert_eq!(edits.remove.iter().map(|name| &**name).collect::<Vec<_>>(), ["x-tenant", "x-debug"]);
    assert_eq!(host.routes[1].request_headers.set[0].0.as_ref(), "x-tenant");
    assert_eq!(host.routes[0].response_headers.append[0].0.as_ref(), "cache-status");
    assert_eq!(host.routes[1].body_bytes_max, Some(1_000_000_000));
    assert_eq!(host.routes[1].policy_body_max, Some(64 << 10));
    assert_eq!(host.routes[1].response_timeout, seconds(300));
    assert_eq!((host.routes[1].request_timeout, host.routes[1].grpc), (None, false));
    let calls = config.listeners[1].hosts[0].routes.last().unwrap();
    assert_eq!(
        (calls.path.as_str(), calls.id.as_str()),
        ("/orders.v1.Orders/{method}", "orders.v1.Orders-method")
    );
    assert_eq!((calls.request_timeout, calls.grpc), (Some(seconds(15)), true));
    let compression = host.routes[2].compression.as_ref().unwrap();
    assert_eq!(
        compression.algorithms,
        [(CompressionAlgorithm::Zstd, 3), (CompressionAlgorithm::Br, 4), (CompressionAlgorithm::Gzip, 5)]
    );
    assert_eq!((compression.bytes_min, config.server.compression_memory_max), (1024, 256 << 20));
    assert!(compression.takes(b"text/html; charset=utf-8") && !compression.takes(b"image/svg+xml"));
    assert!(host.routes[0].compression.is_none());
    let tunnel = host.routes[3].tunnel.as_ref().unwrap();
    assert_eq!((&*tunnel.protocols, tunnel.idle_timeout), (&["websocket".to_owned()][..], seconds(600)));
    assert_eq!(tunnel.age_max, Some(seconds(86_400)));
    assert_eq!(host.policy.names(), ["main"]);
    assert_eq!(host.routes[0].policy.names(), ["guard", "main"]);
    assert_eq!(host.routes[2].policy.names(), ["guard", "main", "reports"]);
    let table = edge.host_table();
    assert_eq!(table.lookup("V1.api.example.com."), Some(&0));
    assert_eq!(table.lookup("staff.example.com"), None);
    match host.route_table().find("GET", "/reports/2026/q1", |_| true) {
        Lookup::Found { route, pattern, params } => {
            let params: Vec<_> = params.iter(pattern, "/reports/2026/q1").collect();
            assert_eq!((*route, params), (2, vec![("rest", "2026/q1")]));
        }
        other => panic!("{other:?}"),
    }
}

/// The sample says that it shows every default; so it may differ from a file without those keys in nothing but
/// what has no default.
#[test]
fn the_sample_shows_the_defaults() {
    let sample = good(include_str!("sample.toml"));
    let minimal = good(MINIMAL);
    let (edge, listener) = (&sample.listeners[0], &minimal.listeners[0]);
    assert_eq!((edge.resumption, &edge.tls), (listener.resumption, &listener.tls));
    let verification =
        |config: &Config| config.listeners[0].hosts[0].client_auth.verification.clone().unwrap();
    let (shown, default) = (verification(&sample), verification(&minimal));
    assert_eq!((shown.max_auth_age, shown.ocsp), (default.max_auth_age, default.ocsp));
    assert_eq!(shown.ocsp_timeout, default.ocsp_timeout);
    let (shown, default) = (&sample.trust["partners"], &minimal.trust["partners"]);
    assert_eq!(shown.hints, default.hints);
    assert_eq!(
        (&shown.profile.keys, shown.profile.rsa_bits_min),
        (&default.profile.keys, default.profile.rsa_bits_min)
    );
    // What lists mean by default depends on whether there are some.
    let default = RevocationPolicy { crl: CrlMode::Required, ..default.revocation.clone() };
    assert_eq!(shown.revocation, default);
    assert_eq!(
        (sample.keys.rotate_every, sample.keys.rotate),
        (minimal.keys.rotate_every, minimal.keys.rotate)
    );
    assert_eq!(sample.tenants["acme"].identity, sample.tenants["globex"].identity);
    assert_eq!(sample.listeners[0].limits, minimal.listeners[0].limits);
    assert_eq!(sample.listeners[0].hosts[0].forward, minimal.listeners[0].hosts[0].forward);
    assert_eq!(sample.listeners[0].backlog, minimal.listeners[0].backlog);
    let same = |config: &Config, policy: &str, cluster: &str| {
        let mut text = String::new();
        let (server, log) = (&config.server, &config.log);
        write!(text, "{:?} {:?} {:?}", server.workers, server.io, server.drain_timeout).unwrap();
        write!(text, "{:?} {:?}", server.session_cache, server.trust_grace).unwrap();
        write!(text, "{} ", server.policy_body_memory_max).unwrap();
        write!(text, "{:?} {:?} {:?} {}", server.trust_drain_rate, log.audit, log.level, log.queue_records)
            .unwrap();
        let policy = &config.policies[policy];
        write!(text, "{:?} {} {:?}", policy.engine, policy.rule, policy.time_budget).unwrap();
        let cache = policy.cache.clone().map(|cache| PolicyCache { asked_at: None, ..cache });
        write!(text, "{cache:?}").unwrap();
        let cluster = &config.clusters[cluster];
        write!(text, "{:?} {:?} {:?}", cluster.balance, cluster.connect_timeout, cluster.response_timeout)
            .unwrap();
        write!(text, "{:?} {} {:?}", cluster.idle_timeout, cluster.pool_idle_max, cluster.protocol).unwrap();
        text
    };
    assert_eq!(same(&sample, "main", "orders"), same(&minimal, "main", "c"));
}

#[test]
fn health_checks() {
    let check = |keys: &str| {
        let config = good(&with("[cluster.c]", &format!("[cluster.c]\n{keys}")));
        config.clusters["c"].health_check.clone()
    };
    let http = |http2: bool, target: &str, host: Option<&str>, expect: &[RangeInclusive<u16>]| Probe::Http {
        http2,
        target: target.to_owned(),
        host: host.map(str::to_owned),
        expect: expect.to_vec(),
    };
    assert_eq!(check(""), None);
    let defaults = HealthCheck {
        probe: http(false, "/healthz", None, &[200..=299]),
        interval: seconds(5),
        timeout: seconds(1),
        healthy_threshold: 2,
        unhealthy_threshold: 3,
        panic_threshold: 50,
        sends_proxy_protocol: false,
    };
    assert_eq!(check("health_check = { http = \"/healthz\" }").as_ref(), Some(&defaults));
    // What the sample shows are the defaults.
    let sample = good(include_str!("sample.toml"));
    let shown = sample.clusters["orders"].health_check.clone().unwrap();
    let probe = http(false, "/healthz", Some("orders.internal"), &[200..=299]);
    assert_eq!(shown, HealthCheck { probe, ..defaults });
    let table = [
        (
            "protocol = \"http2\"\nhealth_check = { http = \"/a?b=c\", expect = [\"204\", \"300-399\"], host = \"[::1]:80\" }",
            http(true, "/a?b=c", Some("[::1]:80"), &[204..=204, 300..=399]),
        ),
        (
            "protocol = \"http2\"\nhealth_check = { grpc = \"\", host = \"a.test:8080\" }",
            Probe::Grpc { service: String::new(), host: Some("a.test:8080".to_owned()) },
        ),
        ("health_check = { tcp = true }", Probe::Tcp),
    ];
    for (keys, probe) in table {
        assert_eq!(check(keys).unwrap().probe, probe, "{keys}");
    }
}

#[test]
fn endpoints_and_balance() {
    let cluster = |keys: &str| good(&with("endpoints = \"127.0.0.1:80\"", keys)).clusters["c"].clone();
    let given = cluster("endpoints = [\"10.0.0.1:80\", { address = \"[::1]:81\", weight = 256 }]");
    let endpoints = given.endpoints.iter().map(|endpoint| (endpoint.addr.to_string(), endpoint.weight));
    let expected = [("10.0.0.1:80".to_owned(), 1), ("[::1]:81".to_owned(), 256)];
    assert_eq!(endpoints.collect::<Vec<_>>(), expected);
    let full = "endpoints = { address = \"10.0.0.1:80\", zone = \"a\", priority = 15 }\nslow_start = \"1s\"\n\
                health_check = { tcp = true }";
    let full = cluster(full);
    assert_eq!((full.endpoints[0].zone.as_deref(), full.endpoints[0].priority), (Some("a"), 15));
    assert_eq!((full.slow_start, given.slow_start), (Some(seconds(1)), None));
    assert_eq!((given.endpoints[0].zone.as_deref(), given.endpoints[0].priority), (None, 0));
    assert_eq!(good(MINIMAL).server.zone, None);
    let zoned = with("[trust.partners]", "[server]\nzone = \"a-1\"\n[trust.partners]");
    assert_eq!(good(&zoned).server.zone.as_deref(), Some("a-1"));
    assert_eq!(cluster("endpoints = { address = \"10.0.0.1:80\" }").endpoints.len(), 1);
    assert_eq!(cluster("endpoints = \"10.0.0.1:80\"").balance, Balance::RoundRobin);
    let table = [
        ("\"round_robin\"", Balance::RoundRobin),
        ("\"least_request\"", Balance::LeastRequest),
        ("\"random\"", Balance::Random),
        ("{ maglev = { header = \"X-User\" } }", Balance::Maglev(HashKey::Header("x-user".into()))),
        ("{ maglev = { cookie = \"Session\" } }", Balance::Maglev(HashKey::Cookie("Session".into()))),
        (
            "{ maglev = { identity = \"spiffe_id\" } }",
            Balance::Maglev(HashKey::Identity(IdentityKey::SpiffeId)),
        ),
        ("{ maglev = \"source_address\" }", Balance::Maglev(HashKey::SourceAddress)),
    ];
    for (text, balance) in table {
        let keys = format!("endpoints = \"10.0.0.1:80\"\nbalance = {text}");
        assert_eq!(cluster(&keys).balance, balance, "{text}");
    }
}

#[test]
fn defaults() {
    let config = good(MINIMAL);
    assert!(config.warnings.is_empty(), "{}", config.warnings);
    assert_eq!((config.server.workers, config.server.io), (None, IoDriver::Auto));
    assert_eq!(config.server.drain_timeout, seconds(30));
    assert!(config.admin.metrics.is_none());
    assert!(matches!(config.log.access, AccessLog::Stdout));
    assert_eq!(
        (config.log.audit, config.log.level, config.log.queue_records),
        (Audit::BestEffort, Level::Info, 8192)
    );
    let policy = &config.policies["main"];
    assert_eq!((policy.engine, policy.rule.as_str()), (Engine::Rego, "data.ringward.authz.decision"));
    assert_eq!(policy.time_budget, Duration::from_millis(5));
    let cache = policy.cache.as_ref().unwrap();
    assert_eq!((cache.entries, cache.bytes, cache.verify_every.get()), (8192, 4 << 20, 1024));
    assert_eq!(cache.misses_per_second, None);
    assert!(cache.asked_at.is_none(), "nobody has asked for it");
    let cluster = &config.clusters["c"];
    assert_eq!((&cluster.balance, cluster.pool_idle_max), (&Balance::RoundRobin, 256));
    assert_eq!((cluster.connect_timeout, cluster.response_timeout), (seconds(2), seconds(30)));
    assert_eq!(cluster.idle_timeout, seconds(60));
    assert_eq!(cluster.protocol, Protocol::Http1);
    assert_eq!((cluster.connections_max, cluster.streams_per_connection_max), (16, 100));
    let listener = &config.listeners[0];
    assert_eq!((listener.backlog, listener.default_host, listener.http2), (4096, None, true));
    let limits = &listener.limits;
    assert_eq!((limits.connections_max, limits.head_bytes_max, limits.fields_max), (20_000, 32 << 10, 100));
    assert_eq!((limits.body_bytes_max, limits.streams_max), (Some(10 << 20), 100));
    assert_eq!((limits.handshake_timeout, limits.header_timeout), (seconds(10), seconds(10)));
    assert_eq!((limits.body_timeout, limits.idle_timeout), (seconds(30), seconds(60)));
    assert_eq!((limits.requests_per_connection_max, limits.connection_age_max), (None, None));
    let host = &listener.hosts[0];
    assert!(!host.danger_allow_expired_certificate);
    assert_eq!(host.client_auth.handshake, ClientAuthMode::Required);
    let verification = host.client_auth.verification().unwrap();
    assert_eq!((verification.intermediates_max, verification.require_eku), (4, true));
    assert!(verification.extensions.is_empty());
    let forward = &host.forward;
    assert_eq!((forward.client_cert, forward.client_cert_chain, forward.xfcc), (true, false, XfccMode::Off));
    assert_eq!((forward.x_forwarded, forward.forwarded), (ForwardMode::Set, ForwardMode::Off));
    assert_eq!(forward.via.as_deref(), Some("ringward"));
    let route = &host.routes[0];
    assert_eq!((route.id.as_str(), &route.methods), ("orders-id", &Methods::All));
    assert_eq!(
        (route.action.clusters().next(), &route.policy),
        (Some("c"), &HostPolicy::Named(vec!["main".into()]))
    );
    assert!(!route.allow_encoded_slash && route.labels.is_empty());
    assert_eq!((route.body_bytes_max, route.response_timeout), (Some(10 << 20), seconds(30)));
    assert_eq!((route.request_timeout, route.grpc, &route.tunnel), (None, false, &None));
    assert_eq!((route.policy_body_max, config.server.policy_body_memory_max), (None, 64 << 20));
}

/// The other side of each bound is in `bad/bounds.toml`.
#[test]
fn values_at_their_bounds() {
    for lines in [
        "[server]\nworkers = 1\ndrain_timeout = \"100ms\"",
        "[server]\nworkers = 1024\ndrain_timeout = \"1h\"",
        "[server]\npolicy_body_memory_max = \"4MiB\"",
        "[server]\npolicy_body_memory_max = \"64GiB\"",
        "[log]\nqueue_records = 64",
        "[log]\nqueue_records = 1048576",
    ] {
        good(&format!("{lines}{MINIMAL}"));
    }
    for line in [
        "time_budget = \"100us\"",
        "time_budget = \"1s\"",
        &format!("rule = \"data.{}\"", "r".repeat(251)),
        &format!("path = {:?}", vec!["p"; 64]),
        "cache = \"auto\"",
        "cache = { entries = 64, bytes = \"256KiB\", verify_every = 1, misses_per_second = 1 }",
        "cache = { entries = 65536, bytes = \"256MiB\", verify_every = 1000000, misses_per_second = 1000000 }",
    ] {
        let from = if line.starts_with("path") { "path = \"policies\"" } else { "[policy.main]" };
        let to = if line.starts_with("path") { line.to_owned() } else { format!("[policy.main]\n{line}") };
        good(&with(from, &to));
    }
    for line in [
        "connect_timeout = \"1ms\"\nresponse_timeout = \"1ms\"\nidle_timeout = \"10ms\"\npool_idle_max = 0",
        "protocol = \"http2\"\nconnections_max = 1\nstreams_per_connection_max = 1",
        "protocol = \"http2\"\nconnections_max = 1024\nstreams_per_connection_max = 1000",
        "connect_timeout = \"1m\"\nresponse_timeout = \"1d\"\nidle_timeout = \"1h\"\npool_idle_max = 65536",
        "health_check = { http = \"/\", interval = \"100ms\", timeout = \"10ms\", healthy_threshold = 1, unhealthy_threshold = 1 }",
        "panic_threshold = 0\nhealth_check = { http = \"/\", interval = \"1h\", timeout = \"1m\", healthy_threshold = 100, unhealthy_threshold = 100 }",
        "panic_threshold = 100\nhealth_check = { tcp = true }",
    ] {
        good(&with("[cluster.c]", &format!("[cluster.c]\n{line}")));
    }
    for limits in [
        "connections_max = 1, head_bytes_max = \"1KiB\", fields_max = 1, body_bytes_max = \"0B\"",
        "connections_max = 10000000, head_bytes_max = \"1MiB\", fields_max = 1000, body_bytes_max = \"unlimited\"",
        "streams_max = 1",
        "streams_max = 1000",
        "handshake_timeout = \"100ms\", header_timeout = \"100ms\", body_timeout = \"100ms\", idle_timeout = \"100ms\"",
        "handshake_timeout = \"5m\", header_timeout = \"5m\", body_timeout = \"1h\", idle_timeout = \"24h\"",
        "requests_per_connection_max = 1, connection_age_max = \"1s\"",
        "requests_per_connection_max = \"unlimited\", connection_age_max = \"720h\"",
    ] {
        good(&with("[[listener.host]]", &format!("limits = {{ {limits} }}\n[[listener.host]]")));
    }
    for backlog in ["1", "65535"] {
        good(&with("[[listener.host]]", &format!("backlog = {backlog}\n[[listener.host]]")));
    }
    for count in ["0", "4"] {
        good(&with("trust = \"partners\"", &format!("trust = \"partners\", intermediates_max = {count}")));
    }
    for lines in [
        "tunnel_idle_timeout = \"100ms\"\ntunnel_age_max = \"1s\"",
        "tunnel_idle_timeout = \"168h\"\ntunnel_age_max = \"720h\"",
        "tunnel_age_max = \"unlimited\"",
    ] {
        good(&with("cluster = \"c\"", &format!("cluster = \"c\"\nupgrade = \"SPDY/3.1\"\n{lines}")));
    }
    let over_http2 = with("cluster = \"c\"", "cluster = \"c\"\nupgrade = \"websocket\"");
    good(&over_http2.replace("[cluster.c]", "[cluster.c]\nprotocol = \"http2\""));
    for size in ["1B", "1MiB"] {
        good(&with("cluster = \"c\"", &format!("cluster = \"c\"\npolicy_body_max = \"{size}\"")));
    }
    for time in ["1ms", "1d", "unlimited"] {
        good(&with("cluster = \"c\"", &format!("cluster = \"c\"\nrequest_timeout = \"{time}\"")));
    }
    for via in ["", "a", &"v".repeat(64)] {
        good(&with("policy = \"main\"", &format!("policy = \"main\"\nforward = {{ via = \"{via}\" }}")));
    }
    let labels: String = (0..32).map(|n| format!("l{n} = \"{}\", ", "ü".repeat(256))).collect();
    good(&with(
        "cluster = \"c\"",
        &format!("cluster = \"c\"\nlabels = {{ {} }}", labels.trim_end_matches(", ")),
    ));
    good(&with("name = \"edge\"", &format!("name = \"{}\"", "n".repeat(64))));
}

#[test]
fn lists_and_names_beyond_their_bounds_are_refused() {
    let labels: String = (0..33).map(|n| format!("l{n} = \"\", ")).collect();
    let names: Vec<String> = (0..1001).map(|n| format!("h{n}.test")).collect();
    let endpoints: Vec<String> = (0..1025).map(|n| format!("10.0.{}.{}:80", n / 256, n % 256)).collect();
    for (from, to, expected) in [
        ("name = \"edge\"", format!("name = \"{}\"", "n".repeat(65)), "is not a name for a listener"),
        (
            "names = \"a.test\"",
            format!("names = {names:?}"),
            "`names` has 1001 entries: from 1 to 1000 are allowed",
        ),
        (
            "endpoints = \"127.0.0.1:80\"",
            format!("endpoints = {endpoints:?}"),
            "`endpoints` has 1025 entries",
        ),
        ("ca = \"ca.pem\"", format!("ca = {:?}", vec!["p"; 65]), "`ca` has 65 entries"),
        (
            "cluster = \"c\"",
            format!("cluster = \"c\"\nlabels = {{ {} }}", labels.trim_end_matches(", ")),
            "`labels` has 33 entries",
        ),
        (
            "cluster = \"c\"",
            format!("cluster = \"c\"\nlabels = {{ a = \"{}\" }}", "x".repeat(257)),
            "the label \"a\" is longer than 256 characters",
        ),
        (
            "policy = \"main\"",
            format!("policy = \"main\"\nforward = {{ via = \"{}\" }}", "v".repeat(65)),
            "is not a pseudonym",
        ),
    ] {
        let found = parse(&with(from, &to), Path::new("r.toml")).unwrap_err();
        assert!(found.iter().any(|diagnostic| diagnostic.message.contains(expected)), "{expected}: {found}");
    }
}

#[test]
fn values_are_taken_as_written() {
    let config = good(&with("[[listener.host]]", "limits = { body_bytes_max = \"1GB\" }\n[[listener.host]]"));
    assert_eq!(config.listeners[0].hosts[0].routes[0].body_bytes_max, Some(1_000_000_000));
    let config = good(&with("cluster = \"c\"", "cluster = \"c\"\nbody_bytes_max = \"unlimited\""));
    assert_eq!(config.listeners[0].hosts[0].routes[0].body_bytes_max, None);
    let config = good(&with("[cluster.c]", "[cluster.c]\nresponse_timeout = \"7s\""));
    assert_eq!(config.listeners[0].hosts[0].routes[0].response_timeout, seconds(7));
    let config = good(&format!("[log]\naccess = \"off\"\n[server]\nworkers = 3\nio = \"epoll\"{MINIMAL}"));
    assert!(matches!(config.log.access, AccessLog::Off));
    assert_eq!(config.server.workers.unwrap().get(), 3);
    assert_eq!(config.server.io, IoDriver::Epoll);
    let config = good(&with("policy = \"main\"", "policy = \"main\"\nforward = { via = \"\" }"));
    assert_eq!(config.listeners[0].hosts[0].forward.via, None);
}

/// Each warning on its own, in a file that is good otherwise.
#[test]
fn warnings() {
    let off = "client_auth = { mode = \"off\" }\npolicy = \"main\"\nforward = { client_cert = true }";
    for (source, expected) in [
        (format!("{MINIMAL}[trust.old]\nca = \"old.pem\""), "the trust bundle \"old\" is not used"),
        (format!("{MINIMAL}[policy.old]\npath = \"old\""), "the policy \"old\" is not used"),
        (format!("{MINIMAL}[cluster.old]\nendpoints = \"10.0.0.1:80\""), "the cluster \"old\" is not used"),
        (
            with("path = \"/orders/{id}\"", "path = \"/:id\""),
            "\"/:id\" matches a segment that begins with ':' as it is",
        ),
        (
            with("policy = \"main\"", "policy = \"main\"\ndanger_allow_expired_certificate = true"),
            "a certificate of ours is served even after it has expired",
        ),
        (
            with("[[listener.host.route]]\nmatch", "danger_no_policy = true\n[[listener.host.route]]\nmatch")
                .replace("policy = \"main\"\n", "")
                .replace("cluster = \"c\"", "cluster = \"c\"\npolicy = \"main\""),
            "no policy decides about requests of this host, except on routes that name one",
        ),
        (
            with("[trust.partners]\nca = \"ca.pem\"\n", "").replace(
                "client_auth = { mode = \"required\", trust = \"partners\" }\npolicy = \"main\"",
                off,
            ),
            "`client_cert` has no effect: this host knows no client by a certificate",
        ),
    ] {
        let config = good(&source);
        let messages: Vec<_> = config.warnings.iter().map(|warning| warning.message.as_str()).collect();
        assert_eq!(messages, [expected], "{source}");
        assert!(
            config.warnings.iter().all(|warning| warning.severity == Severity::Warning && warning.line > 0)
        );
    }
}

/// Every pair of hosts, with the first as default host: it passes only if it is not laxer.
#[test]
fn which_host_may_be_the_default() {
    let kinds = [
        ("off", "mode = \"off\""),
        ("optional", "mode = \"optional\", trust = \"partners\""),
        ("required", "mode = \"required\", trust = \"partners\""),
        ("staff", "mode = \"required\", trust = \"staff\""),
        ("short", "mode = \"required\", trust = \"partners\", intermediates_max = 1"),
        ("no-eku", "mode = \"required\", trust = \"partners\", require_eku = false"),
    ];
    let allowed = [
        "off off",
        "optional off",
        "optional optional",
        "required off",
        "required optional",
        "required required",
        "required no-eku",
        "staff off",
        "staff staff",
        "short off",
        "short optional",
        "short required",
        "short short",
        "short no-eku",
        "no-eku off",
        "no-eku no-eku",
    ];
    for (default, default_auth) in kinds {
        for (other, other_auth) in kinds {
            let host = |name: &str, auth: &str| {
                format!(
                    "[[listener.host]]\nnames = \"{name}.test\"\ncertificate = {{ chain = \"a\", key = \"b\" }}\n\
                     client_auth = {{ {auth} }}\npolicy = \"main\"\n"
                )
            };
            let source = format!(
                "[trust.partners]\nca = \"p\"\n[trust.staff]\nca = \"s\"\n[policy.main]\npath = \"p\"\n\
                 [[listener]]\nname = \"l\"\nbind = \"127.0.0.1:0\"\ndefault_host = \"default.test\"\n{}{}",
                host("default", default_auth),
                host("other", other_auth)
            );
            let passes = parse(&source, Path::new("r.toml")).is_ok();
            // An `optional` default host lets in everybody whom an `off` host lets in, and no fewer checks are made.
            let expected = allowed.contains(&format!("{default} {other}").as_str());
            assert_eq!(passes, expected, "{default} as default beside {other}");
        }
    }
}

#[test]
fn strictness_is_ordered() {
    assert!(
        ClientAuthMode::Off < ClientAuthMode::Observe
            && ClientAuthMode::Observe < ClientAuthMode::Optional
            && ClientAuthMode::Optional < ClientAuthMode::Required
    );
}

#[test]
fn every_file_is_listed_with_its_kind_and_place() {
    let config = good(include_str!("sample.toml"));
    let files: Vec<(String, FileKind, u32)> = config
        .files()
        .iter()
        .map(|file| (file.path.display().to_string(), file.kind, file.at.map_or(0, |at| at.line)))
        .collect();
    let directory = "/etc/ringward";
    let expected: Vec<(String, FileKind)> = [
        ("ringward.toml", FileKind::Configuration),
        ("trust/partners/", FileKind::TrustAnchors),
        ("crl/", FileKind::Crl),
        ("trust/partners-issuing.pem", FileKind::CrlIssuers),
        ("trust/staff.pem", FileKind::TrustAnchors),
        ("pki/servers.pem", FileKind::TrustAnchors),
        ("tickets.ring", FileKind::KeyRing),
        ("policies/files.toml", FileKind::MatcherTable),
        ("policies/guard.rego", FileKind::Policy),
        ("policies/", FileKind::Policy),
        ("policies/next.rego", FileKind::Policy),
        ("policies/reports.rego", FileKind::Policy),
        ("trust/backends.pem", FileKind::TrustAnchors),
        ("crl/backends.crl", FileKind::Crl),
        ("trust/backends-issuing.pem", FileKind::CrlIssuers),
        ("tls/client.pem", FileKind::CertificateChain),
        ("tls/client.key", FileKind::PrivateKey),
        ("tls/api.pem", FileKind::CertificateChain),
        ("tls/api.key", FileKind::PrivateKey),
        ("tls/api-rsa.pem", FileKind::CertificateChain),
        ("tls/api-rsa.key", FileKind::PrivateKey),
        ("tls/events.pem", FileKind::CertificateChain),
        ("tls/events.key", FileKind::PrivateKey),
        ("tls/staff.pem", FileKind::CertificateChain),
        ("tls/staff.key", FileKind::PrivateKey),
        ("tls/staff.ocsp", FileKind::StapleFile),
    ]
    .map(|(path, kind)| (format!("{directory}/{path}"), kind))
    .to_vec();
    assert_eq!(files.iter().map(|(path, kind, _)| (path.clone(), *kind)).collect::<Vec<_>>(), expected);
    let source = include_str!("sample.toml");
    for (path, _, line) in &files[1..] {
        let line = source.lines().nth(*line as usize - 1).unwrap();
        assert!(line.contains(path.strip_prefix("/etc/ringward/").unwrap()), "{path} is named in {line}");
    }
    assert!(
        matches!(&config.log.access, AccessLog::File(file) if file.path == Path::new("/etc/ringward/log/access.json"))
    );
}

#[test]
fn absolute_paths_stay_and_relative_ones_begin_at_the_file() {
    let source = with("ca = \"ca.pem\"", "ca = [\"/srv/ca.pem\", \"../ca\"]");
    let config = parse(&source, Path::new("conf/ringward.toml")).unwrap();
    let paths: Vec<PathBuf> = config.trust["partners"].ca.iter().map(|ca| ca.path.clone()).collect();
    assert_eq!(paths, [Path::new("/srv/ca.pem"), Path::new("conf/../ca")]);
    let config = parse(MINIMAL, Path::new("ringward.toml")).unwrap();
    assert_eq!(config.trust["partners"].ca[0].path, Path::new("ca.pem"));
}

#[test]
fn later_problems_point_into_the_file() {
    let config = good(MINIMAL);
    let at = &config.listeners[0].hosts[0].certificates[0].key.at;
    let shown =
        config.diagnostic(Severity::Error, at, "the key does not match").with_help("renew both").to_string();
    assert_eq!(
        shown,
        "/etc/ringward/ringward.toml:13:40: error: the key does not match\n   |\n\
         13 | certificate = { chain = \"a.pem\", key = \"a.key\" }\n   |                                        ^^^^^^^\n   \
         = help: renew both"
    );
}

#[test]
fn files_are_loaded_from_disk() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ringward.toml");
    let message = |path: &Path| load(path).unwrap_err().iter().next().unwrap().message.clone();
    assert!(message(&path).starts_with("cannot be opened: "));
    std::fs::write(&path, MINIMAL).unwrap();
    assert_eq!(load(&path).unwrap().trust["partners"].ca[0].path, directory.path().join("ca.pem"));
    std::fs::write(&path, b"[server]\nworkers = \"\xff\"\n").unwrap();
    let found = load(&path).unwrap_err();
    let first = found.iter().next().unwrap();
    assert_eq!((first.line, first.column, first.message.as_str()), (2, 12, "not valid UTF-8 from here on"));
    std::fs::write(&path, vec![b' '; (16 << 20) + 1]).unwrap();
    assert_eq!(message(&path), "is larger than 16 MiB");
    assert!(message(directory.path()).starts_with("cannot be read: "));
}

/// The policies of the one route of [`MINIMAL`], with these lines for the process, its host and itself.
fn policies_of_route(server: &str, host: &str, route: &str) -> (Config, HostPolicy) {
    let named = ["a", "b", "guard"].map(|name| format!("[policy.{name}]\npath = \"p\"\n")).concat();
    let source =
        with("policy = \"main\"", host).replace("cluster = \"c\"\n", &format!("cluster = \"c\"\n{route}\n"));
    let config = good(&format!("[server]\n{server}\n{named}{source}"));
    let policy = config.listeners[0].hosts[0].routes[0].policy.clone();
    (config, policy)
}

#[test]
fn every_policy_of_a_route_is_asked_in_its_order_after_the_global_one() {
    let global = "global_policy = \"guard\"";
    let danger = "danger_no_policy = true";
    for (server, host, route, expected) in [
        ("", "policy = \"main\"", "", &["main"][..]),
        ("", "policy = [\"b\", \"a\"]", "", &["b", "a"]),
        // A route's list stands for itself.
        ("", "policy = [\"b\", \"a\"]", "policy = \"main\"", &["main"]),
        ("", danger, "policy = [\"main\", \"b\"]", &["main", "b"]),
        (global, "policy = \"main\"", "", &["guard", "main"]),
        (global, "policy = \"main\"", "policy = [\"a\", \"b\"]", &["guard", "a", "b"]),
        // Once, and first.
        (global, "policy = [\"main\", \"guard\", \"b\"]", "", &["guard", "main", "b"]),
        (global, "policy = \"guard\"", "", &["guard"]),
        // It can deny where nothing else is asked.
        (global, danger, "", &["guard"]),
        (global, danger, "policy = \"a\"", &["guard", "a"]),
    ] {
        let (_, policy) = policies_of_route(server, host, route);
        assert_eq!(policy.names(), expected, "{server} {host} {route}");
    }
    let (config, policy) = policies_of_route("", danger, "");
    assert_eq!((config.global_policy, policy), (None, HostPolicy::DangerNone));
}

#[test]
fn a_global_policy_is_used_and_named_where_nothing_else_is_asked() {
    let unused = |config: &Config, name: &str| {
        let message = format!("the policy {name:?} is not used");
        config.warnings.iter().any(|warning| warning.message == message)
    };
    let (config, _) = policies_of_route("", "policy = [\"a\", \"main\"]", "");
    assert!(!unused(&config, "a") && unused(&config, "b") && unused(&config, "guard"), "{}", config.warnings);
    let (config, _) = policies_of_route("global_policy = \"guard\"", "danger_no_policy = true", "");
    assert!(!unused(&config, "guard") && unused(&config, "a"), "{}", config.warnings);
    let warned = config.warnings.to_string();
    assert!(warned.contains("no policy but the global one, \"guard\", decides"), "{warned}");
    // As many as there may be.
    let eight: Vec<String> = (0..8).map(|number| format!("p{number}")).collect();
    let named: String = eight.iter().map(|name| format!("[policy.{name}]\npath = \"p\"\n")).collect();
    let source = with("policy = \"main\"", &format!("policy = {eight:?}"));
    assert_eq!(good(&format!("{named}{source}")).listeners[0].hosts[0].policy.names(), eight);
}

#[test]
fn the_decision_cache_is_off_bounded_or_left_alone() {
    let cache = |line: &str| {
        let config = good(&with("[policy.main]", &format!("[policy.main]\n{line}")));
        config.policies["main"].cache.clone()
    };
    assert_eq!(cache("cache = \"off\""), None);
    assert_eq!(cache("cache = \"auto\""), cache(""));
    let bounded = cache("cache = { entries = 100, misses_per_second = 10000 }").unwrap();
    assert_eq!(
        (bounded.entries, bounded.bytes, bounded.misses_per_second),
        (100, 4 << 20, NonZeroU32::new(10_000))
    );
    assert!(bounded.asked_at.is_some());
}

#[test]
fn a_server_decides_for_a_policy() {
    let asking = |server: &str| {
        let keys = format!("[policy.main]\nengine = \"opa\"\nserver = {server}");
        let text = with("[policy.main]", &keys).replace("path = \"policies\"", "");
        good(&text).policies["main"].clone()
    };
    let policy = asking("\"127.0.0.1:8181\"");
    assert_eq!((policy.engine, policy.rule.as_str()), (Engine::Opa, "data.ringward.authz.decision"));
    assert!(policy.path.is_empty() && policy.cache.is_none(), "nothing is evaluated here, and nothing kept");
    let default = PolicyServer {
        address: PolicyServerAddress::Tcp("127.0.0.1:8181".parse().unwrap()),
        timeout: Duration::from_millis(100),
        connections_max: 256,
        answer_bytes_max: 256 << 10,
        failures_to_open: NonZeroU32::new(10).unwrap(),
        open_for: seconds(1),
    };
    assert_eq!(policy.server, Some(default.clone()));
    let shown = asking(
        "{ address = \"127.0.0.1:8181\", timeout = \"100ms\", connections_max = 256, answer_bytes_max = \"256KiB\", failures_to_open = 10, open_for = \"1s\" }",
    );
    assert_eq!(shown.server, Some(default), "the sample shows the defaults");
    for (written, address) in [
        ("unix:/run/opa.sock", "unix:/run/opa.sock"),
        ("unix:opa.sock", "unix:/etc/ringward/opa.sock"),
        ("[::1]:1", "[::1]:1"),
        ("127.9.9.9:65535", "127.9.9.9:65535"),
        ("[::ffff:127.0.0.1]:80", "[::ffff:127.0.0.1]:80"),
    ] {
        assert_eq!(asking(&format!("\"{written}\"")).server.unwrap().address.to_string(), address);
    }
}

#[test]
fn regular_expressions_of_a_host_are_as_many_as_a_request_can_be_held_against() {
    let routes = |count: usize| -> String {
        let route = |index| {
            format!("[[listener.host.route]]\nmatch = {{ regex = \"/v{index}[a-z]+\" }}\ncluster = \"c\"\n")
        };
        (0..count).map(route).collect()
    };
    good(&format!("{MINIMAL}{}", routes(64)));
    let refused = parse(&format!("{MINIMAL}{}", routes(65)), Path::new("ringward.toml")).unwrap_err();
    assert!(refused.to_string().contains("more than 64 regular expressions"), "{refused}");
}
