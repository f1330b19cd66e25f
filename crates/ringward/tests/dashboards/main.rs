//! The dashboards of `deploy/grafana`: their files are what `panels.rs` makes, and a real Prometheus has an answer to every expression.
//!
//! `UPDATE_GOLDEN=1 cargo test -p ringward --test dashboards` writes the files anew; read the difference then.
#![allow(clippy::unwrap_used, reason = "a failed expectation here is a failed test")]

#[path = "../support/mod.rs"]
mod support;

mod model;
mod panels;

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use ringward_telemetry::metrics::{CATALOGUE, Kind};
use ringward_testkit::{
    Authority, Connection, Crl, DEADLINE, Leaf, Process, Signal, eventually_some, free_port,
};
use serde_json::Value;

use self::model::{ANY, Panel, Shows};
use self::panels::DASHBOARDS;
use self::support::{Gateway, HOST, Host, publish};

/// Denies `/denied`, and has no decision about `/broken`.
const POLICY: &str = r#"package ringward.authz

decision := {"allowed": input.request.path != "/denied", "rule": "all"}

decision := {"allowed": false, "rule": "broken"} if input.request.path == "/broken"
"#;

const TENANT: &str = r#"
[tenant.acme]
trust = ["partners"]
match = [{ organization = "Acme" }]
identity = "common_name"
"#;

/// A page, so that there is one to be counted.
const RULES: &str =
    "groups: [{name: test, rules: [{alert: Test, expr: 'up == 1', labels: {severity: page}}]}]\n";

#[test]
fn the_files_are_what_the_source_makes() {
    for dashboard in &DASHBOARDS {
        let (path, text) = (directory().join(format!("{}.json", dashboard.name)), dashboard.text());
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            fs::write(&path, &text).unwrap();
        }
        let committed = fs::read_to_string(&path).unwrap_or_default();
        assert!(committed == text, "{} is not what panels.rs makes: see the top of main.rs", path.display());
    }
}

#[test]
fn every_metric_and_runbook_is_there_and_every_variable_declared() {
    for dashboard in &DASHBOARDS {
        let mut used = BTreeSet::new();
        for panel in dashboard.panels() {
            for query in panel.queries {
                let promql = query.promql();
                assert!(!promql.contains('@'), "{}: {promql}", panel.title);
                used.extend(
                    dashboard
                        .variables
                        .iter()
                        .map(|variable| variable.label)
                        .filter(|label| promql.contains(&format!("${label}"))),
                );
                for label in ["instance", "listener", "cluster", "tenant"] {
                    let is_declared = dashboard.variables.iter().any(|variable| variable.label == label);
                    assert!(
                        is_declared || !promql.contains(&format!("${label}")),
                        "{}: {label}",
                        panel.title
                    );
                }
                for name in promql.split(|c: char| !c.is_ascii_alphanumeric() && c != '_') {
                    assert!(!name.starts_with("ringward_") || is_exported(name), "{}: {name}", panel.title);
                }
            }
            // Runbooks come with the alerts.
            let runbooks = directory().join("../runbooks");
            if let Some(runbook) = panel.runbook.filter(|_| runbooks.exists()) {
                assert!(runbooks.join(format!("{runbook}.md")).exists(), "{}: {runbook}", panel.title);
            }
        }
        assert_eq!(used.len(), dashboard.variables.len(), "{}: only {used:?} are used", dashboard.name);
        for variable in dashboard.variables {
            assert!(is_exported(variable.metric), "{}", variable.metric);
        }
    }
}

/// What `deploy/grafana/demo` starts fills every panel that needs nothing special.
#[test]
fn the_demo_fills_the_panels() {
    let prometheus = Prometheus::start(&[], &[]);
    prometheus.wait_for_answers(|panel| panel.shows == Shows::Always, || {});
}

/// All of them have something to show where everything is configured and goes wrong.
#[test]
fn trouble_fills_the_others() {
    let (gateway, root) = troubled();
    let rules = tempfile::NamedTempFile::new().unwrap();
    fs::write(rules.path(), RULES).unwrap();
    let prometheus =
        Prometheus::start(&[&gateway.admin.to_string()], &[("RULES", rules.path().to_str().unwrap())]);
    gateway.refused_change(|gateway| gateway.edit_config("[admin]", "[admin]\nno_such_key = 1"));
    gateway.edit_config("no_such_key = 1", "");
    // Now and then one of these is revoked while it is connected, and its end is measured.
    let mut number = 0;
    prometheus.wait_for_answers(
        |_| true,
        || {
            number += 1;
            let client = root.issue(&Leaf::client(&format!("client {number}")).organization("Acme"));
            let mut connection: Connection =
                gateway.client().identity(&client).connect(gateway.edge).unwrap();
            for (path, status) in [("/", 200), ("/denied", 403), ("/broken", 500), ("/dead", 502)] {
                assert_eq!(connection.get(path).unwrap().status, status, "{path}");
            }
            gateway.anonymous().refusal(gateway.edge);
            if number % 5 == 1 {
                let files = gateway.client_files(&format!("client-{number}"), &client);
                gateway.ask(&["revoke", "--cert", files.chain.to_str().unwrap(), "--reason", "test"]);
            }
        },
    );
}

/// The time line of an incident, as the documentation exports it: when each alert began to fire, and when it ended.
#[test]
fn the_time_line_of_an_incident_can_be_exported() {
    let rules = tempfile::NamedTempFile::new().unwrap();
    fs::write(rules.path(), RULES).unwrap();
    let gateway = Gateway::builder().policy("main", POLICY).host(Host::new(&[HOST]).policy("main")).start();
    let prometheus =
        Prometheus::start(&[&gateway.admin.to_string()], &[("RULES", rules.path().to_str().unwrap())]);
    let readme = fs::read_to_string(directory().join("README.md")).unwrap();
    let command = readme.lines().find(|line| line.starts_with("curl ")).unwrap();
    let command = command.replace("127.0.0.1:9090", &prometheus.address.to_string());
    let exported = eventually_some(DEADLINE, "an alert in the time line", || {
        let output = Command::new("bash").args(["-c", &command]).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
        answer["data"]["result"].as_array().and_then(|series| series.first()).cloned()
    });
    assert_eq!(
        (&exported["metric"]["alertname"], &exported["metric"]["severity"]),
        (&"Test".into(), &"page".into())
    );
    assert!(exported["values"].as_array().is_some_and(|values| !values.is_empty()), "{exported}");
}

/// A gateway with a tenant, a revocation list that is fetched from nobody, a responder and a cluster that are down, and a policy
/// that fails. Its clients are issued by the authority.
fn troubled() -> (Gateway, Authority) {
    let (root, former) = (Authority::root("Test Root"), Authority::root("Former Root"));
    // Nobody listens there any more.
    let dead = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
    let builder = Gateway::builder()
        .signed_by(&root)
        .stateful()
        .trust_key(&format!("ocsp_url = \"http://{dead}/\""))
        .trust("former", &[&former])
        .bundle_key("former", "crl = [\"crl/\"]")
        .bundle_key("former", &format!("crl_urls = \"http://{dead}/former.crl\""))
        .section(TENANT)
        .section(&format!("\n[cluster.dead]\nendpoints = [\"{dead}\"]\n"))
        .policy("main", POLICY)
        .policy("next", POLICY)
        .policy_key("main", "candidate = \"next\"");
    publish(builder.pki(), "former", &former, &Crl::new());
    let host = Host::new(&[HOST])
        .client_auth("mode = \"required\", trust = \"partners\", ocsp = \"soft_fail\"")
        .key("retry = { on = [\"connect_failure\"], attempts = 2, backoff = \"1ms\" }")
        .route("path = \"/dead\"", "id = \"dead\"\ncluster = \"dead\"")
        .route("path = \"/{rest...}\"", "id = \"all\"")
        .policy("main");
    let other = Host::new(&["former.example.com"])
        .client_auth("mode = \"required\", trust = \"former\"")
        .policy("main");
    (builder.host(host).host(other).start(), root)
}

/// What `deploy/grafana/demo` has started.
struct Prometheus {
    process: Process,
    address: SocketAddr,
}

impl Prometheus {
    fn start(arguments: &[&str], environment: &[(&str, &str)]) -> Prometheus {
        // It has to be told a port, which somebody else may have taken when it gets there.
        for _ in 0..STARTS {
            let port = free_port();
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
            let mut command = Command::new(directory().join("demo"));
            command.args(arguments).envs(environment.iter().copied());
            command.env("RINGWARD", env!("CARGO_BIN_EXE_ringward"));
            let process = Process::start(command.env("PORT", port.to_string()).env("INTERVAL", "1s"));
            let mut prometheus = Prometheus { process, address };
            let end = Instant::now() + DEADLINE;
            while prometheus.process.is_running() {
                if get(address, "/-/ready").is_some_and(|answer| answer.starts_with("HTTP/1.0 200")) {
                    return prometheus;
                }
                assert!(Instant::now() < end, "it is not ready: {}", prometheus.process.stderr());
                std::thread::sleep(POLL_INTERVAL);
            }
        }
        panic!("prometheus (a Debian package) does not start");
    }

    /// Until every expression of these panels has an answer. Meanwhile does `work` again and again.
    fn wait_for_answers(&self, wanted: impl Fn(&Panel) -> bool, mut work: impl FnMut()) {
        let panels = DASHBOARDS.iter().flat_map(model::Dashboard::panels).filter(|panel| wanted(panel));
        let mut missing: Vec<String> =
            panels.flat_map(|panel| panel.queries).map(|query| chosen(&query.promql())).collect();
        assert!(missing.len() > 20, "{missing:?}");
        let end = Instant::now() + WAIT;
        while !missing.is_empty() {
            assert!(Instant::now() < end, "no answer to {missing:#?}");
            work();
            missing.retain(|promql| !self.has_answer(promql));
            std::thread::sleep(PACE);
        }
    }

    /// Whether there is a series with a number. An expression that is wrong ends the test.
    fn has_answer(&self, promql: &str) -> bool {
        let encoded: String = promql.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let answer = get(self.address, &format!("/api/v1/query?query={encoded}"));
        let answer = answer.unwrap_or_else(|| panic!("no answer: {}", self.process.stderr()));
        let body = answer.split_once("\r\n\r\n").expect("a body").1;
        let answer: Value = serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {body}"));
        assert_eq!(answer["status"], "success", "{promql}: {body}");
        let series = answer["data"]["result"].as_array().expect("series");
        series.iter().any(|one| one["value"][1] != "NaN")
    }
}

impl Drop for Prometheus {
    /// By a signal that the script can act upon.
    fn drop(&mut self) {
        if self.process.is_running() {
            self.process.signal(Signal::TERM);
            self.process.wait(DEADLINE);
        }
    }
}

/// With all instances, listeners, clusters and tenants chosen, and with short ranges.
fn chosen(promql: &str) -> String {
    let text =
        promql.replace("$__rate_interval", "10s").replace("$__range:1m", "30s:1s").replace("$__range", "30s");
    ["$instance", "$listener", "$cluster", "$tenant"]
        .into_iter()
        .fold(text, |text, variable| text.replace(variable, ANY))
}

/// Whether a sample of this name is in the catalogue.
fn is_exported(name: &str) -> bool {
    CATALOGUE.iter().any(|metric| match metric.kind {
        Kind::Counter | Kind::Gauge => name == metric.name,
        Kind::Histogram(_) => name.strip_suffix("_bucket") == Some(metric.name),
    })
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

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/grafana")
}

const STARTS: usize = 5;
const POLL_INTERVAL: Duration = Duration::from_millis(20);
const PACE: Duration = Duration::from_millis(50);
const WAIT: Duration = Duration::from_secs(40);
