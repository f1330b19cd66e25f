//! The configuration of a gateway, piece by piece.

use std::fmt::Write;
use std::net::SocketAddr;

use ringward_testkit::{Authority, Leaf, Pki, Upstream};

use super::{Gateway, HOST, LOOPBACK, server_certificate};

/// Describes a gateway. Texts are TOML.
pub(crate) struct Builder {
    server: String,
    log: String,
    listener: String,
    limits: Vec<String>,
    echo: String,
    sections: String,
    policies: Vec<(String, String)>,
    trust: Vec<(String, Vec<Authority>)>,
    hosts: Vec<Host>,
    root: Authority,
    upstream: Upstream,
    open_files_max: Option<usize>,
}

/// A virtual host to be described.
pub(crate) struct Host {
    names: Vec<String>,
    client_auth: String,
    policy: Option<String>,
    forward: String,
    routes: String,
}

impl Builder {
    pub(super) fn new() -> Builder {
        Builder {
            server: "io = \"auto\"\n".to_owned(),
            log: String::new(),
            listener: String::new(),
            limits: Vec::new(),
            echo: String::new(),
            sections: String::new(),
            policies: Vec::new(),
            trust: Vec::new(),
            hosts: Vec::new(),
            root: Authority::root("Test Root"),
            upstream: Upstream::start(),
            open_files_max: None,
        }
    }

    /// The authority that is trusted, to issue certificates before the start.
    pub(crate) fn root(&self) -> &Authority {
        &self.root
    }

    /// With this driver.
    pub(crate) fn io(mut self, driver: &str) -> Self {
        self.server = format!("io = \"{driver}\"\n");
        self
    }

    /// Lets the program have so many file descriptors at most.
    pub(crate) fn open_files_max(mut self, max: usize) -> Self {
        self.open_files_max = Some(max);
        self
    }

    /// Adds a key to `[log]`.
    pub(crate) fn log(mut self, line: &str) -> Self {
        self.log.push_str(&format!("{line}\n"));
        self
    }

    /// Adds a key to the listener.
    pub(crate) fn listener(mut self, line: &str) -> Self {
        self.listener.push_str(&format!("{line}\n"));
        self
    }

    /// Adds keys to `limits`.
    pub(crate) fn limits(mut self, keys: &str) -> Self {
        self.limits.push(keys.to_owned());
        self
    }

    /// Adds a key to the cluster `echo`, in front of the upstream.
    pub(crate) fn cluster(mut self, line: &str) -> Self {
        self.echo.push_str(&format!("{line}\n"));
        self
    }

    /// Adds whole sections.
    fn section(mut self, text: &str) -> Self {
        self.sections.push_str(&format!("{text}\n"));
        self
    }

    /// Sends everything to these endpoints instead of `echo`, as the cluster `others` with these keys. For the one host that
    /// is there unless others are added.
    pub(crate) fn endpoints(self, endpoints: &[SocketAddr], keys: &str) -> Self {
        let endpoints: Vec<String> = endpoints.iter().map(ToString::to_string).collect();
        let host = Host::new(&[HOST]).route("path = \"/{rest...}\"", "cluster = \"others\"");
        self.section(&format!("[cluster.others]\nendpoints = {endpoints:?}\n{keys}")).host(host)
    }

    /// Adds a policy.
    pub(crate) fn policy(mut self, name: &str, rego: &str) -> Self {
        self.policies.push((name.to_owned(), rego.to_owned()));
        self
    }

    /// Adds a trust bundle to `partners`, in which the root is.
    pub(crate) fn trust(mut self, name: &str, authorities: &[&Authority]) -> Self {
        self.trust.push((name.to_owned(), authorities.iter().copied().cloned().collect()));
        self
    }

    /// Adds a virtual host. Without any there is one that is named [`HOST`].
    pub(crate) fn host(mut self, host: Host) -> Self {
        self.hosts.push(host);
        self
    }

    /// Writes all files and starts the program.
    pub(crate) fn start(mut self) -> Gateway {
        if self.hosts.is_empty() {
            self.hosts.push(Host::new(&[HOST]));
        }
        self.trust.push(("partners".to_owned(), vec![self.root.clone()]));
        let pki = Pki::new();
        let mut certificates = Vec::new();
        for (index, host) in self.hosts.iter().enumerate() {
            let names: Vec<&str> = host.names.iter().map(String::as_str).collect();
            let certificate = server_certificate(&self.root, &names);
            pki.write_pem(&format!("host-{index}"), &certificate);
            certificates.push(certificate);
        }
        for (name, authorities) in &self.trust {
            let authorities: Vec<&Authority> = authorities.iter().collect();
            pki.write_authorities(&format!("trust/{name}.pem"), &authorities);
        }
        for (name, rego) in &self.policies {
            pki.write(&format!("policies/{name}/policy.rego"), rego);
        }
        let config = pki.write("ringward.toml", self.text());
        let (process, edge, admin) = Gateway::launch(&config, self.open_files_max);
        let partner = self.root.issue(&Leaf::client("partner-a"));
        let Builder { upstream, root, .. } = self;
        Gateway { process, edge, admin, upstream, root, partner, pki, certificates }
    }

    /// The configuration. One worker, so that pools and limits behave the same in every run.
    fn text(&self) -> String {
        let mut text =
            format!("[server]\nworkers = 1\n{}\n[admin]\nmetrics = \"{LOOPBACK}\"\n\n", self.server);
        text += &format!("[log]\n{}\n", self.log);
        for (name, _) in &self.trust {
            writeln!(text, "[trust.{name}]\nca = [\"trust/{name}.pem\"]\n").expect("a String takes all");
        }
        for (name, _) in &self.policies {
            let budget = "time_budget = \"200ms\"";
            writeln!(text, "[policy.{name}]\npath = [\"policies/{name}/\"]\n{budget}\n")
                .expect("a String takes all");
        }
        text += &format!("[cluster.echo]\nendpoints = [\"{}\"]\n{}\n", self.upstream.address(), self.echo);
        text += &self.sections;
        text += &format!("\n[[listener]]\nname = \"edge\"\nbind = [\"{LOOPBACK}\"]\n{}", self.listener);
        text += &format!("limits = {{ {} }}\n\n", self.limits.join(", "));
        self.hosts.iter().enumerate().for_each(|(index, host)| host.write(&mut text, index));
        text
    }
}

impl Host {
    /// Requires a certificate of the bundle `partners`, asks no policy, and passes everything to `echo`.
    pub(crate) fn new(names: &[&str]) -> Host {
        Host {
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            client_auth: "mode = \"required\", trust = \"partners\"".to_owned(),
            policy: None,
            forward: String::new(),
            routes: String::new(),
        }
    }

    /// Replaces the keys of `client_auth`.
    pub(crate) fn client_auth(mut self, keys: &str) -> Self {
        keys.clone_into(&mut self.client_auth);
        self
    }

    /// Asks this policy.
    pub(crate) fn policy(mut self, name: &str) -> Self {
        self.policy = Some(name.to_owned());
        self
    }

    /// Sets the keys of `forward`.
    pub(crate) fn forward(mut self, keys: &str) -> Self {
        keys.clone_into(&mut self.forward);
        self
    }

    /// Adds a route to `echo` unless `lines` name another cluster. The first route replaces the one for everything.
    pub(crate) fn route(mut self, matching: &str, lines: &str) -> Self {
        let cluster = if lines.contains("cluster =") { "" } else { "cluster = \"echo\"\n" };
        self.routes += &format!("[[listener.host.route]]\nmatch = {{ {matching} }}\n{cluster}{lines}\n");
        self
    }

    fn write(&self, text: &mut String, index: usize) {
        let policy = match &self.policy {
            Some(name) => format!("policy = \"{name}\""),
            None => "danger_no_policy = true".to_owned(),
        };
        let everything =
            "[[listener.host.route]]\nid = \"all\"\nmatch = { path = \"/{rest...}\" }\ncluster = \"echo\"\n";
        let routes = if self.routes.is_empty() { everything } else { &self.routes };
        *text += &format!(
            "[[listener.host]]\nnames = {:?}\ncertificate = {{ chain = \"host-{index}.pem\", key = \"host-{index}.key\" }}\n\
             client_auth = {{ {} }}\n{policy}\nforward = {{ {} }}\n\n{routes}\n",
            self.names, self.client_auth, self.forward
        );
    }
}
