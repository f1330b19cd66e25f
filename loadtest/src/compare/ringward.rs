//! Ringward: session tickets, no metrics and no access log; with log, metrics are on as well, as in production. The policy is Rego.

use std::net::SocketAddr;
use std::path::Path;
use std::{fs, io};

use super::free_address;
use super::peer::{About, Prepared, Setting, Source};
use super::pki::SERVER_NAME;

pub(super) const ABOUT: About = About {
    name: "ringward",
    program: "ringward",
    variable: "RINGWARD_BIN",
    version: &["--version"],
    source: Source::Own("`cargo build --release -p ringward`"),
    prepare,
};

pub(super) const ABOUT_WITH_LOG: About = About { name: "ringward+log", prepare: prepare_with_log, ..ABOUT };

fn prepare(setting: &Setting<'_>) -> io::Result<Prepared> {
    start(setting, None)
}

fn prepare_with_log(setting: &Setting<'_>) -> io::Result<Prepared> {
    start(setting, Some(free_address()?))
}

fn start(setting: &Setting<'_>, metrics: Option<SocketAddr>) -> io::Result<Prepared> {
    let policy = setting.dir.join("policy");
    if setting.policy {
        fs::create_dir(&policy)?;
        fs::write(policy.join("authz.rego"), POLICY)?;
    }
    let path = setting.write("ringward.toml", &config(setting, &policy, metrics))?;
    Ok(Prepared::new(["run".into(), "-c".into(), path.into()]))
}

fn config(setting: &Setting<'_>, policy: &Path, metrics: Option<SocketAddr>) -> String {
    let Setting { listen, upstream, workers, connections_max, .. } = setting;
    let dir = setting.dir.display();
    let files = &setting.files;
    let [chain, key, ca] = [&files.server_chain, &files.server_key, &files.client_ca].map(|p| p.display());
    let (admin, access) = match metrics {
        Some(address) => {
            (format!("[admin]\nmetrics = \"{address}\"\n"), format!("{{ file = \"{dir}/access.json\" }}"))
        }
        None => (String::new(), "\"off\"".to_owned()),
    };
    let (policies, decides) = match setting.policy {
        true => (format!("[policy.main]\npath = \"{}\"\n", policy.display()), "policy = \"main\""),
        false => (String::new(), "danger_no_policy = true"),
    };
    format!(
        r#"[server]
workers = {workers}

{admin}
[log]
access = {access}
level = "error"

[trust.clients]
ca = "{ca}"

{policies}
[cluster.up]
endpoints = "{upstream}"
idle_timeout = "10m"
pool_idle_max = 1024

[[listener]]
name = "bench"
bind = "{listen}"
tls = {{ min_version = "1.2" }}
resumption = "tickets"
http2 = true

[listener.limits]
connections_max = {connections_max}
body_bytes_max = "unlimited"
idle_timeout = "10m"

[[listener.host]]
names = "{SERVER_NAME}"
certificate = {{ chain = "{chain}", key = "{key}" }}
client_auth = {{ mode = "required", trust = "clients" }}
{decides}

[[listener.host.route]]
id = "all"
match = {{ path = "/{{rest...}}" }}
cluster = "up"
"#
    )
}

/// That of the other kit, with its tests beside it.
const POLICY: &str = include_str!("../../../policies/bench/authz.rego");
