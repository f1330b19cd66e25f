//! What the end-to-end tests share: a directory with everything that a configuration names, and a running `ringward`.
#![allow(dead_code, reason = "each test program uses a part")]

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;

use ringward_testkit::{Authority, Client, DEADLINE, Issued, Leaf, Pki, Process, Upstream};
use serde_json::Value;

/// The name of the virtual host.
pub(crate) const HOST: &str = "api.example.com";

/// Allows everybody to read `/open`, and `/a` to partner-a.
pub(crate) const POLICY: &str = r#"package ringward.authz

default decision := {"allowed": false, "rule": "default"}

decision := {"allowed": true, "rule": "open"} if input.request.path == "/open"

decision := {"allowed": true, "rule": "partner_a"} if {
	input.request.path == "/a"
	input.client.subject.common_name == "partner-a"
}
"#;

/// Files for one proxy with one upstream.
pub(crate) struct World {
    pub(crate) pki: Pki,
    pub(crate) root: Authority,
    pub(crate) upstream: Upstream,
    /// A client that is trusted.
    pub(crate) partner: Issued,
}

/// A running `ringward run`.
pub(crate) struct Running {
    pub(crate) process: Process,
    /// Where it serves.
    pub(crate) edge: SocketAddr,
    /// Where its admin listener is.
    pub(crate) admin: SocketAddr,
}

impl World {
    /// With a certificate, a policy, and a configuration that uses them.
    pub(crate) fn new() -> World {
        let world = World {
            pki: Pki::new(),
            root: Authority::root("Test Root"),
            upstream: Upstream::start(),
            partner: Authority::root("not yet").issue(&Leaf::client("nobody")),
        };
        let world = World { partner: world.root.issue(&Leaf::client("partner-a")), ..world };
        world.pki.write_pem("api", &world.server());
        world.pki.write_authorities("trust/partners.pem", &[&world.root]);
        world.pki.write("policies/authz.rego", POLICY);
        world.pki.write("ringward.toml", world.config());
        world
    }

    /// A fresh certificate for [`HOST`].
    pub(crate) fn server(&self) -> Issued {
        self.root.issue(&Leaf::server(HOST))
    }

    /// The text of the configuration.
    pub(crate) fn config(&self) -> String {
        format!(
            r#"[server]
workers = 2
drain_timeout = "10s"

[admin]
metrics = "127.0.0.1:0"

[log]
access = {{ file = "access.json" }}

[trust.partners]
ca = ["trust/"]

[policy.main]
path = ["policies/"]

[cluster.echo]
endpoints = ["{upstream}"]

[[listener]]
name = "edge"
bind = ["127.0.0.1:0"]

[[listener.host]]
names = ["{HOST}"]
certificate = {{ chain = "api.pem", key = "api.key" }}
client_auth = {{ mode = "required", trust = "partners" }}
policy = "main"

[[listener.host.route]]
id = "all"
match = {{ path = "/{{rest...}}" }}
cluster = "echo"
"#,
            upstream = self.upstream.address()
        )
    }

    /// Path of a file of this world.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.pki.path().join(name)
    }

    /// Changes the configuration by replacing a part of it, which must be there.
    pub(crate) fn edit_config(&self, from: &str, to: &str) {
        let text = std::fs::read_to_string(self.path("ringward.toml")).unwrap();
        assert!(text.contains(from), "{from} is not in the configuration");
        self.pki.write("ringward.toml", text.replacen(from, to, 1));
    }

    /// A client that trusts the root and shows the partner's certificate.
    pub(crate) fn client(&self) -> Client {
        Client::new(HOST, &self.root).identity(&self.partner)
    }

    /// Starts `ringward run` and waits until it is ready.
    pub(crate) fn start(&self) -> Running {
        let process = Process::start(ringward().arg("run").arg("-c").arg(self.path("ringward.toml")));
        let address = |message: &str| {
            let line = process.wait_for_line(DEADLINE, |line| message_of(line).as_deref() == Some(message));
            let event: Value = serde_json::from_str(&line).unwrap();
            event["address"].as_str().unwrap().parse().unwrap()
        };
        let (edge, admin) = (address("listening"), address("admin listening"));
        process.wait_for_line(DEADLINE, |line| message_of(line).as_deref() == Some("ready"));
        Running { process, edge, admin }
    }
}

impl Running {
    /// Waits for a message of the lifecycle log and returns its line.
    pub(crate) fn wait_for_message(&self, message: &str) -> String {
        self.process.wait_for_line(DEADLINE, |line| message_of(line).as_deref() == Some(message))
    }

    /// How often a message was logged so far.
    pub(crate) fn count_messages(&self, message: &str) -> usize {
        self.process.stderr().lines().filter(|line| message_of(line).as_deref() == Some(message)).count()
    }

    /// Reloads with this outcome so far.
    pub(crate) fn reloads(&self, outcome: &str) -> f64 {
        ringward_testkit::scrape(self.admin).sum("ringward_reloads_finished_total", &[("outcome", outcome)])
    }

    /// Waits until a further reload has ended this way.
    pub(crate) fn wait_for_reload(&self, outcome: &str, before: f64) {
        ringward_testkit::eventually(DEADLINE, &format!("a reload that is {outcome}"), || {
            self.reloads(outcome) > before
        });
    }
}

/// The program under test.
pub(crate) fn ringward() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringward"));
    command.env_remove("CREDENTIALS_DIRECTORY");
    command
}

fn message_of(line: &str) -> Option<String> {
    let event: Value = serde_json::from_str(line).ok()?;
    Some(event["message"].as_str()?.to_owned())
}
