//! What a configuration needs of the machine that it runs on.

use std::path::{Path, PathBuf};

use ringward_config::{Cluster, Config, IoDriver, Protocol};

use super::machine::Machine;
use crate::server::descriptors_wanted;
use crate::workers;

/// What is needed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Needs {
    /// What the workers are to run on.
    pub(super) io: IoDriver,
    pub(super) workers: usize,
    /// Downstream connections of all listeners.
    pub(super) connections: u64,
    /// Descriptors for these and their upstream connections.
    pub(super) files: u64,
    /// The longest backlog.
    pub(super) backlog: u32,
    /// Ports that are listened on.
    pub(super) ports: Vec<u16>,
    /// Upstreams by TCP.
    pub(super) upstreams: Vec<Upstream>,
    /// Files that the configuration is made of.
    pub(super) files_named: Vec<PathBuf>,
}

/// What a cluster takes of local ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Upstream {
    pub(super) cluster: String,
    /// Connections that each endpoint may have at once, if they are shared out evenly.
    pub(super) per_endpoint: u64,
    /// No connection serves two requests, so each leaves a port behind in TIME_WAIT.
    pub(super) one_per_request: bool,
    /// All endpoints are on this machine.
    pub(super) is_local: bool,
}

impl Needs {
    /// Of a configuration on a machine.
    pub(super) fn of(config: &Config, machine: &Machine) -> Needs {
        let server = &config.server;
        let workers = match (server.workers, machine.cpus()) {
            (None, Some(cpus)) => cpus,
            (configured, _) => workers::count(configured),
        };
        let connections =
            config.listeners.iter().map(|listener| listener.limits.connections_max as u64).sum();
        let binds = config.listeners.iter().flat_map(|listener| &listener.bind).chain(&config.admin.metrics);
        let mut ports: Vec<u16> = binds.map(|bind| bind.addr.port()).filter(|port| *port > 0).collect();
        ports.sort_unstable();
        ports.dedup();
        let upstreams =
            config.clusters.values().filter_map(|cluster| upstream(cluster, workers, connections));
        Needs {
            io: server.io,
            workers,
            connections,
            files: descriptors_wanted(config),
            backlog: config.listeners.iter().map(|listener| listener.backlog).max().unwrap_or_default(),
            ports,
            upstreams: upstreams.collect(),
            files_named: config.files().iter().map(|file| file.path.to_owned()).collect(),
        }
    }

    /// Of a listener and a cluster for which nothing is said.
    pub(super) fn of_defaults(machine: &Machine) -> Needs {
        let config = ringward_config::parse(DEFAULTS, Path::new("defaults.toml"));
        let needs = Needs::of(&config.expect("a test reads it"), machine);
        Needs { ports: Vec::new(), files_named: Vec::new(), ..needs }
    }
}

fn upstream(cluster: &Cluster, workers: usize, connections: u64) -> Option<Upstream> {
    let by_ip: Vec<_> = cluster.endpoints.iter().filter_map(|endpoint| endpoint.addr.ip()).collect();
    // Of those that are found while it runs there may be one alone.
    let endpoints = match by_ip.len() as u64 {
        0 if cluster.discovery.is_none() => return None,
        found => found.max(1),
    };
    let requests = cluster.limits.map_or(u64::MAX, |limits| limits.requests_max as u64);
    let per_endpoint = match cluster.protocol {
        // An endpoint that agrees to HTTP/2 needs fewer.
        Protocol::Http1 | Protocol::Auto => connections.min(requests).div_ceil(endpoints),
        Protocol::Http2 => (workers * cluster.connections_max) as u64,
    };
    Some(Upstream {
        cluster: cluster.name.clone(),
        per_endpoint,
        one_per_request: cluster.sends_proxy_protocol
            || (cluster.protocol != Protocol::Http2 && cluster.pool_idle_max == 0),
        is_local: cluster.discovery.is_none() && by_ip.iter().all(|address| address.is_loopback()),
    })
}

/// Only what has no default.
const DEFAULTS: &str = r#"
[cluster.app]
endpoints = "192.0.2.1:80"

[[listener]]
name = "edge"
bind = "127.0.0.1:8443"

[[listener.host]]
names = "a.test"
certificate = { chain = "a.pem", key = "a.key" }
client_auth = { mode = "off" }
danger_no_policy = true

[[listener.host.route]]
match   = { path = "/" }
cluster = "app"
"#;

#[cfg(test)]
mod tests {
    use super::super::testing::Fixture;
    use super::*;

    fn needs(more: &str, clusters: &str) -> Needs {
        let machine = Fixture::new().file("/proc/self/status", "Cpus_allowed_list:\t0-3\n").machine();
        let text = format!("{more}\n{}", DEFAULTS.replace("endpoints = \"192.0.2.1:80\"", clusters));
        let config = ringward_config::parse(&text, Path::new("a.toml"));
        Needs::of(&config.unwrap_or_else(|found| panic!("{found}")), &machine)
    }

    #[test]
    fn defaults_are_those_of_the_configuration() {
        let machine = Fixture::new().file("/proc/self/status", "Cpus_allowed_list:\t0-3\n").machine();
        let needs = Needs::of_defaults(&machine);
        assert_eq!((needs.workers, needs.connections, needs.files, needs.backlog), (4, 20_000, 40_000, 4096));
        assert_eq!((needs.ports.len(), needs.upstreams[0].per_endpoint), (0, 20_000));
    }

    #[test]
    fn what_is_configured_counts() {
        let needs = needs(
            "[server]\nworkers = 3\nio = \"epoll\"\n[admin]\nmetrics = \"127.0.0.1:9464\"",
            "endpoints = \"192.0.2.1:80\"",
        );
        assert_eq!((needs.workers, needs.io, needs.ports), (3, IoDriver::Epoll, vec![8443, 9464]));
        assert!(needs.files_named.contains(&PathBuf::from("a.pem")));
    }

    #[test]
    fn upstreams_take_ports_by_what_they_speak() {
        for (cluster, expected) in [
            ("endpoints = \"192.0.2.1:80\"", Some((20_000, false, false))),
            (
                "endpoints = [\"192.0.2.1:80\", \"192.0.2.2:80\", \"192.0.2.3:80\"]",
                Some((6667, false, false)),
            ),
            ("endpoints = \"127.0.0.1:80\"\nrequests_max = 100", Some((100, false, true))),
            ("endpoints = \"192.0.2.1:80\"\nprotocol = \"http2\"", Some((64, false, false))),
            ("endpoints = \"192.0.2.1:80\"\nproxy_protocol = \"v2\"", Some((20_000, true, false))),
            ("endpoints = \"192.0.2.1:80\"\npool_idle_max = 0", Some((20_000, true, false))),
            ("endpoints = \"unix:/run/app.sock\"", None),
            ("endpoints_dns = \"app.test:80\"", Some((20_000, false, false))),
        ] {
            let found = needs("", cluster).upstreams;
            let found = found.first().map(|one| (one.per_endpoint, one.one_per_request, one.is_local));
            assert_eq!(found, expected, "{cluster}");
        }
    }
}
