//! Alerts that the running program fires in a real Prometheus, by the rules of `deploy/prometheus` as they are but for their time: each
//! duration is divided by [`FASTER`], so that what takes ten minutes takes ten seconds, and ranges, `for` and offsets keep their
//! proportions.
#![allow(clippy::unwrap_used, reason = "a failed expectation is a failed test")]

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use ringward_telemetry::metrics::{CATALOGUE, Kind};
use ringward_testkit::{Authority, Crl, DEADLINE, Leaf, Process, eventually, free_port, scrape};
use serde_json::Value;
use tempfile::TempDir;

use self::support::{Gateway, HOST, Host, publish};

/// Allows everybody, and has no decision about `/broken`.
const POLICY: &str = r#"package ringward.authz

decision := {"allowed": true, "rule": "all"}

decision := {"allowed": false, "rule": "broken"} if input.request.path == "/broken"
"#;

/// What goes wrong here, and what says so.
const EXPECTED: [&str; 7] = [
    "RingwardCertificateExpires1d",
    "RingwardCrlStale",
    "RingwardOcspResponderFails",
    "RingwardReloadFailed",
    "RingwardHandshakeFailureSpike",
    "RingwardPolicyErrors",
    "RingwardMaintenance",
];

#[test]
fn what_goes_wrong_is_an_alert_in_prometheus() {
    let (gateway, root) = troubled();
    let prometheus = Prometheus::start(gateway.admin);
    let (started, mut fired) = (Instant::now(), BTreeSet::new());
    // While all handshakes succeed, what is usual is learned; afterwards those without a certificate are a spike.
    let quiet = ["RingwardHandshakeFailureSpike"];
    let (mut is_window_open, mut is_reload_refused) = (true, false);
    while !EXPECTED.iter().all(|alert| fired.contains(*alert)) {
        let missing: Vec<_> = EXPECTED.iter().filter(|alert| !fired.contains(**alert)).collect();
        assert!(started.elapsed() < WAIT, "not fired: {missing:?}; fired: {fired:?}");
        // A new client each time, about whom nobody was asked yet.
        let client = gateway.client().identity(&root.issue(&Leaf::client("client")));
        let mut connection = client.connect(gateway.edge).unwrap();
        assert_eq!(connection.get("/soft").unwrap().status, 200);
        assert_eq!(connection.get("/broken").unwrap().status, 500);
        if EXPECTED.iter().all(|alert| fired.contains(*alert) || quiet.contains(alert)) {
            gateway.anonymous().refusal(gateway.edge);
        }
        if is_window_open && fired.contains("RingwardMaintenance") {
            is_window_open = false;
            // All nodes, of which there is one, are worked on; that would silence the spike.
            gateway.reconfigure("maintenance = ", "# ");
        }
        // When there is a past that it can be compared with.
        if !is_reload_refused && fired.contains("RingwardCertificateExpires1d") {
            is_reload_refused = true;
            gateway.refused_change(|gateway| gateway.edit_config("[admin]", "[admin]\nno_such_key = 1"));
        }
        fired.extend(prometheus.firing());
        // Leaves the machine to others.
        std::thread::sleep(PACE);
    }
    // Nothing fires that is not so. What requests fail with, and what the lists and the responder cause, is told as well.
    let others: Vec<&String> = fired.iter().filter(|alert| !EXPECTED.contains(&alert.as_str())).collect();
    for alert in &others {
        assert!(CONSEQUENCES.contains(&alert.as_str()), "{alert} fired: {others:?}");
    }
}

#[test]
fn every_metric_of_the_rules_is_exported_by_the_running_program() {
    let (gateway, _) = troubled();
    // Workers beat before long.
    eventually(DEADLINE, "a heartbeat", || {
        gateway.metric("ringward_worker_heartbeat_timestamp_seconds", &[("worker", "0")]) > 0.0
    });
    let samples = scrape(gateway.admin);
    let exported: BTreeSet<&str> =
        samples.iter().map(|(series, _)| series.split('{').next().unwrap()).collect();
    let rules = fs::read_to_string(rules()).unwrap();
    let rules: String =
        rules.lines().filter(|line| !line.trim_start().starts_with('#')).collect::<Vec<_>>().join("\n");
    let word = |c: char| !(c.is_ascii_alphanumeric() || matches!(c, '_' | ':'));
    let named: BTreeSet<&str> =
        rules.split(word).filter(|word| word.starts_with("ringward_") && !word.contains(':')).collect();
    assert!(named.len() > 50, "{named:?}");
    let others = other_tests();
    let mut missing = Vec::new();
    for name in named {
        let metric = CATALOGUE.iter().find(|metric| {
            let suffixes: &[&str] = match metric.kind {
                Kind::Counter | Kind::Gauge => &[""],
                Kind::Histogram(_) => &["_bucket", "_sum", "_count"],
            };
            suffixes.iter().any(|suffix| name.strip_suffix(suffix) == Some(metric.name))
        });
        let metric = metric.unwrap_or_else(|| panic!("{name} is not in the catalogue"));
        // Others are there when something else is configured, which another test of the running program looks at.
        if !exported.contains(name) && !others.contains(&format!("\"{}", metric.name)) {
            missing.push(name);
        }
    }
    assert!(missing.is_empty(), "no running program is known to export {missing:?}");
}

/// Names, help and types as Prometheus wants them.
#[test]
fn promtool_finds_nothing_wrong_with_the_metrics() {
    let (gateway, _) = troubled();
    let page = get(gateway.admin, "/metrics").unwrap();
    let page = page.split_once("\r\n\r\n").unwrap().1;
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), page).unwrap();
    let mut promtool = Command::new("promtool");
    let output = promtool.args(["check", "metrics"]).stdin(file.reopen().unwrap()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && page.contains("ringward_build_info"), "{said}");
}

#[test]
fn durations_become_shorter_and_nothing_else_changes() {
    for (line, shorter) in [
        (
            "expr: rate(a:b:rate5m[5m]) > 5 * x offset 10m",
            "expr: rate(a:b:rate5m[5000ms]) > 5 * x offset 10000ms",
        ),
        ("for: 2m", "for: 2000ms"),
        ("interval: 30s", "interval: 500ms"),
        ("[7d:5m] - time() <= 30 * 86400", "[10080000ms:5000ms] - time() <= 30 * 86400"),
        ("- alert: RingwardCertificateExpires30d", "- alert: RingwardCertificateExpires30d"),
        ("a:p95_5m > 0.15 and b{reason=\"5xx\"}", "a:p95_5m > 0.15 and b{reason=\"5xx\"}"),
        ("[1h]", "[60000ms]"),
    ] {
        assert_eq!(shortened(line), shorter, "{line}");
    }
}

/// A gateway with a certificate that ends within a day, a list that has ended, a responder that is down, a policy that fails, and work
/// announced. Its clients are issued by the authority.
fn troubled() -> (Gateway, Authority) {
    let (root, former) = (Authority::root("Test Root"), Authority::root("Former Root"));
    // Nobody listens there any more.
    let dead = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
    let builder = Gateway::builder()
        .signed_by(&root)
        .stateful()
        .admin(&format!("maintenance = {{ until = {}, reason = \"test\" }}", in_an_hour()))
        .trust_key(&format!("ocsp_url = \"http://{dead}/\""))
        .trust("former", &[&former])
        .bundle_key("former", "crl = [\"crl/\"]")
        .bundle_key("former", &format!("crl_urls = \"http://{dead}/former.crl\""))
        .policy("main", POLICY);
    publish(builder.pki(), "former", &former, &Crl::new().stale());
    let twelve_hours = Duration::from_secs(12 * 3600);
    builder.pki().write_pem("short", &root.issue(&Leaf::server(HOST).valid_for(twelve_hours)));
    let host = Host::new(&[HOST])
        .certificate("{ chain = \"short.pem\", key = \"short.key\" }")
        .client_auth("mode = \"required\", trust = \"partners\", ocsp = \"soft_fail\"")
        .policy("main");
    let other = Host::new(&["former.example.com"]).client_auth("mode = \"required\", trust = \"former\"");
    (builder.host(host).host(other).start(), root)
}

fn in_an_hour() -> String {
    let moment = time::OffsetDateTime::now_utc() + Duration::from_secs(3600);
    moment.format(&time::format_description::well_known::Rfc3339).unwrap()
}

/// A Prometheus that scrapes one target.
struct Prometheus {
    process: Process,
    address: SocketAddr,
    _directory: TempDir,
}

impl Prometheus {
    fn start(target: SocketAddr) -> Prometheus {
        let directory = tempfile::tempdir().unwrap();
        let faster = shortened(&fs::read_to_string(rules()).unwrap());
        fs::write(directory.path().join("ringward.rules.yml"), faster).unwrap();
        let config = format!(
            "global:\n  scrape_interval: 1s\n  scrape_timeout: 1s\n  evaluation_interval: 500ms\n\
             rule_files:\n  - ringward.rules.yml\n\
             scrape_configs:\n  - job_name: ringward\n    static_configs:\n      - targets: [\"{target}\"]\n"
        );
        fs::write(directory.path().join("prometheus.yml"), config).unwrap();
        // It has to be told a port, which somebody else may have taken when it gets there.
        for _ in 0..STARTS {
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
            let mut command = Command::new("prometheus");
            let mut process = Process::start(
                command
                    .arg(format!("--config.file={}", directory.path().join("prometheus.yml").display()))
                    .arg(format!("--storage.tsdb.path={}", directory.path().join("data").display()))
                    .arg(format!("--web.listen-address={address}")),
            );
            let end = Instant::now() + DEADLINE;
            while process.is_running() {
                if get(address, "/-/ready").is_some_and(|answer| answer.starts_with("HTTP/1.0 200")) {
                    return Prometheus { process, address, _directory: directory };
                }
                assert!(Instant::now() < end, "it is not ready: {}", process.stderr());
                std::thread::sleep(POLL_INTERVAL);
            }
        }
        panic!("prometheus (a Debian package) does not start");
    }

    /// The names of all alerts that are firing now.
    fn firing(&self) -> BTreeSet<String> {
        let answer = get(self.address, "/api/v1/alerts");
        let answer = answer.unwrap_or_else(|| panic!("no answer: {}", self.process.stderr()));
        let body = answer.split_once("\r\n\r\n").expect("a body").1;
        let answer: Value = serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {body}"));
        let alerts = answer["data"]["alerts"].as_array().expect("a list of alerts");
        let firing = alerts.iter().filter(|alert| alert["state"] == "firing");
        firing.map(|alert| alert["labels"]["alertname"].as_str().expect("a name").to_owned()).collect()
    }
}

/// The whole answer to a request of HTTP/1.0, which ends with its connection. `None` if nobody is there.
fn get(address: SocketAddr, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(DEADLINE)).ok()?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\nhost: {address}\r\n\r\n").as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}

/// With every duration (a number with `s`, `m`, `h` or `d` that stands by itself) divided by [`FASTER`], in milliseconds. Nothing else in
/// the rules looks like one: names of series and alerts go on before it.
fn shortened(rules: &str) -> String {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
    let mut text = String::new();
    let mut rest = rules;
    while let Some(first) = rest.chars().next() {
        let end = rest.find(|c: char| is_word(c) != is_word(first)).unwrap_or(rest.len());
        let (token, after) = rest.split_at(end);
        let number = token.get(..token.len().saturating_sub(1)).and_then(|number| number.parse::<u64>().ok());
        let seconds = match token.chars().last() {
            Some('s') => Some(1),
            Some('m') => Some(60),
            Some('h') => Some(3600),
            Some('d') => Some(86_400),
            _ => None,
        };
        match (number, seconds) {
            (Some(number), Some(seconds)) => text += &format!("{}ms", number * seconds * 1000 / FASTER),
            _ => text += token,
        }
        rest = after;
    }
    text
}

/// The other tests of the running program.
fn other_tests() -> String {
    let mut text = String::new();
    for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "rs") && !path.ends_with("rules.rs") {
            text += &fs::read_to_string(path).unwrap();
        }
    }
    text
}

fn rules() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/prometheus/ringward.rules.yml")
}

/// What else is so while the test runs.
const CONSEQUENCES: [&str; 13] = [
    // The certificate of the other host.
    "RingwardCertificateExpires30d",
    "RingwardPolicyErrorsMany",
    "RingwardServerErrors",
    "RingwardOcspUnchecked",
    "RingwardCrlFetchFails",
    // The first scrape comes late on a busy machine.
    "RingwardAbsent",
    "RingwardDown",
    // Those without a certificate are the clients' fault and do not count for the objective; a machine that is busy with other things makes
    // handshakes and requests slow, here in seconds rather than minutes.
    "RingwardHandshakeSlow",
    "RingwardLatencySpike",
    "RingwardPolicySlow",
    "RingwardDenialSpike",
    "RingwardWorkerImbalance",
    "RingwardWorkerStalled",
];

/// Of ranges in which there are twenty scrapes every 15 s, four every second remain.
const FASTER: u64 = 60;
const STARTS: usize = 5;
const POLL_INTERVAL: Duration = Duration::from_millis(20);
const PACE: Duration = Duration::from_millis(50);
const WAIT: Duration = Duration::from_secs(90);
