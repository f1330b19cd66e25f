//! `ringward demo`: everything of Ringward on one machine, in one command, as an ordinary user.
//!
//! It writes certificates, the sample policy and a configuration into a temporary directory and then does what
//! `ringward run` does with them. What it prints about the decisions is read from the access log, as an operator would.

mod client;
mod upstream;

use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use serde::Deserialize;
use tempfile::TempDir;

use crate::failure::{EXIT_RUNTIME, Failure};
use crate::pki::{self, DevPki, PemFiles};
use crate::server::{Outline, Server};
use crate::service_manager::Inherited;
use crate::terminal::{complain, say};
use crate::upgrade::Bequest;

/// Runs the demo: with `once` only its own two requests, else until it is told to stop. `port` 0 takes a free one.
///
/// # Errors
/// If it cannot be set up, or, with `once`, if the requests did not end as they should.
pub(crate) fn run(once: bool, port: u16) -> Result<(), Failure> {
    let stage = Stage::set(port).map_err(Failure::Runtime)?;
    let server = Server::start(&stage.config, Inherited::default(), &mut Bequest::default())?;
    let stop = server.stop_handle();
    let outline = server.outline.clone();
    // The control plane has this thread; the audience sits on another one.
    let show = thread::Builder::new().name("demo".to_owned()).spawn(move || {
        let as_expected = stage.show(&outline, once);
        if once {
            stop.notify_one();
        }
        // With the directory, which has to outlive the server.
        (as_expected, stage)
    });
    let show = show.map_err(|error| Failure::Runtime(format!("cannot start a thread: {error}")))?;
    server.serve()?;
    match show.join() {
        Ok((true, _)) => Ok(()),
        Ok((false, _)) if !once => Ok(()),
        _ => Err(Failure::Reported(EXIT_RUNTIME)),
    }
}

/// What lies in the temporary directory.
struct Stage {
    dir: TempDir,
    config: PathBuf,
    access_log: PathBuf,
    pki: DevPki,
}

/// A request of the demo and how it should end.
struct Scene {
    client: &'static str,
    path: &'static str,
    decision: &'static str,
    status: u16,
}

/// What is read of an access record.
#[derive(Debug, Deserialize)]
struct Record {
    path: Option<String>,
    #[serde(rename = "peer.id")]
    peer: Option<String>,
    decision: Option<String>,
    rule: Option<String>,
    reason: Option<String>,
}

impl Stage {
    fn set(port: u16) -> Result<Stage, String> {
        let dir = tempfile::Builder::new().prefix("ringward-demo-").tempdir();
        let dir = dir.map_err(|error| format!("cannot make a temporary directory: {error}"))?;
        let names: Vec<String> = pki::SERVER_NAMES.iter().map(|name| (*name).to_owned()).collect();
        let pki = pki::create(&dir.path().join("pki"), &names).map_err(|error| error.to_string())?;
        let upstream =
            upstream::start().map_err(|error| format!("cannot start the demo upstream: {error}"))?;
        let (config, access_log) = (dir.path().join("ringward.toml"), dir.path().join("access.json"));
        let write = |path: PathBuf, text: &str| {
            fs::write(&path, text).map_err(|error| format!("cannot write `{}`: {error}", path.display()))
        };
        let policies = dir.path().join("policies");
        fs::create_dir(&policies)
            .map_err(|error| format!("cannot make `{}`: {error}", policies.display()))?;
        for (name, text) in POLICIES {
            write(policies.join(name), text)?;
        }
        write(config.clone(), &configuration(port, upstream))?;
        Ok(Stage { dir, config, access_log, pki })
    }

    /// Makes the two requests, prints what came of them, and then what else there is to try. Whether both ended as they
    /// should.
    fn show(&self, outline: &Outline, once: bool) -> bool {
        let Some((_, address)) = outline.listeners.first() else { return false };
        let plural = if outline.workers == 1 { "" } else { "s" };
        say(format_args!(
            "ringward demo: {} worker{plural} on {}\n",
            outline.workers,
            outline.driver.as_str()
        ));
        let mut as_expected = true;
        for scene in SCENES {
            as_expected &= self.play(scene, *address);
        }
        if !once {
            say(self.suggestions(*address, outline.admin));
        }
        as_expected
    }

    fn play(&self, scene: &Scene, address: SocketAddr) -> bool {
        let Some(client) = self.files_of(scene.client) else { return false };
        let answer = match client::get(address, &self.pki.ca, client, scene.path) {
            Ok(answer) => answer,
            Err(error) => {
                complain(format_args!("  {}: {error}", scene.client));
                return false;
            }
        };
        let Some(record) = self.record_of(scene.path) else {
            complain(format_args!("  {}: no access record of GET {}", scene.client, scene.path));
            return false;
        };
        let or_none = |text: Option<String>| text.unwrap_or_else(|| "(none)".to_owned());
        let decision = or_none(record.decision);
        let mut text = format!("  {:<8} {}  GET {}\n", decision, answer.status, scene.path);
        // Writing to a string cannot fail; the same holds below.
        let _ = writeln!(text, "           identity  {}", or_none(record.peer));
        let _ = writeln!(text, "           rule      {}", or_none(record.rule));
        if let Some(reason) = record.reason {
            let _ = writeln!(text, "           reason    {reason}");
        }
        let _ = writeln!(text, "           answer    {}", answer.body.trim_end());
        say(text);
        decision == scene.decision && answer.status == scene.status
    }

    /// The record of the request for `path`, which the log writer may still have to write.
    fn record_of(&self, path: &str) -> Option<Record> {
        let deadline = Instant::now() + RECORD_TIMEOUT;
        loop {
            let text = fs::read_to_string(&self.access_log).unwrap_or_default();
            let mut records = text.lines().filter_map(|line| serde_json::from_str::<Record>(line).ok());
            if let Some(record) = records.find(|record| record.path.as_deref() == Some(path)) {
                return Some(record);
            }
            if Instant::now() > deadline {
                return None;
            }
            thread::sleep(RECORD_POLL);
        }
    }

    fn files_of(&self, client: &str) -> Option<&PemFiles> {
        self.pki.clients.iter().find(|candidate| candidate.name == client).map(|client| &client.files)
    }

    fn suggestions(&self, address: SocketAddr, admin: Option<SocketAddr>) -> String {
        let url = format!("https://{}:{}", client::HOST, address.port());
        let ca = self.pki.ca.display();
        let mut text = "Try it; Ctrl-C ends the demo and removes its files.\n\n".to_owned();
        for (client, path, outcome) in SUGGESTIONS {
            let Some(PemFiles { chain, key }) = self.files_of(client) else { continue };
            let (chain, key) = (chain.display(), key.display());
            let _ = writeln!(text, "  # {client}: {outcome}");
            let _ = writeln!(text, "  curl --cacert {ca} --cert {chain} --key {key} {url}{path}");
        }
        let _ = writeln!(text, "  # nobody: refused in the TLS handshake\n  curl --cacert {ca} {url}/\n");
        if let Some(admin) = admin {
            let _ = writeln!(text, "  metrics        http://{admin}/metrics   /healthz   /readyz");
        }
        let policy = self.dir.path().join("policies").join(POLICIES[0].0);
        let _ = writeln!(
            text,
            "  policy         {}   (edit it: the next request is decided by it)",
            policy.display()
        );
        let _ = writeln!(text, "  configuration  {}", self.config.display());
        let _ = write!(text, "  access log     {}", self.access_log.display());
        text
    }
}

/// Of one listener with one host, all whose requests go to the demo upstream.
fn configuration(port: u16, upstream: SocketAddr) -> String {
    let names: Vec<String> = pki::SERVER_NAMES.iter().map(|name| format!("{name:?}")).collect();
    format!(
        r#"# Written by `ringward demo`. Edit it while the demo runs: it is read again.
[admin]
metrics = "127.0.0.1:0"

[log]
level = "error"
access = {{ file = "access.json" }}

[trust.partners]
ca = ["pki/ca.pem"]

[policy.main]
path = ["policies/"]

[cluster.demo]
endpoints = ["{upstream}"]

[[listener]]
name = "demo"
bind = ["127.0.0.1:{port}"]
default_host = "{host}"

[[listener.host]]
names = [{names}]
certificate = {{ chain = "pki/server.pem", key = "pki/server.key" }}
client_auth = {{ mode = "required", trust = "partners" }}
policy = "main"

[[listener.host.route]]
id = "demo"
match = {{ path = "/{{rest...}}" }}
cluster = "demo"
"#,
        host = client::HOST,
        names = names.join(", "),
    )
}

/// The sample policy with its tests.
const POLICIES: &[(&str, &str)] = &[
    ("authz.rego", include_str!("../../../policies/authz.rego")),
    ("authz_test.rego", include_str!("../../../policies/authz_test.rego")),
    ("data.json", include_str!("../../../policies/data.json")),
];

const SCENES: &[Scene] = &[
    Scene { client: "partner-a", path: "/partner-api/data", decision: "allowed", status: 200 },
    Scene { client: "partner-a", path: "/partner-api/reports", decision: "denied", status: 403 },
];

/// Client, path, outcome.
const SUGGESTIONS: &[(&str, &str, &str)] = &[
    ("partner-b", "/partner-api/reports", "allowed, each partner has its path"),
    ("alice", "/builds/42", "allowed by her role"),
    ("orders", "/orders/7", "allowed by its SPIFFE ID"),
    ("operator", "/partner-api/data", "denied by the policy"),
    ("outsider", "/partner-api/data", "of another CA, refused in the TLS handshake"),
];

/// The log writer looks for records 100 times per second.
const RECORD_TIMEOUT: Duration = Duration::from_secs(10);
const RECORD_POLL: Duration = Duration::from_millis(5);
