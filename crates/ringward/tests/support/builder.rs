//! The configuration of a gateway, piece by piece.

use std::net::SocketAddr;
use std::path::PathBuf;

use ringward_testkit::{Authority, DEADLINE, Issued, Leaf, Pki, Process, Upstream};

use super::{Gateway, HOST, LOOPBACK, Running, server_certificate};

/// Describes a gateway. Texts are TOML.
pub(crate) struct Builder {
    pki: Pki,
    workers: usize,
    server: String,
    admin: String,
    log: String,
    listeners: Vec<Listener>,
    bind: Vec<String>,
    limits: Vec<String>,
    echo: String,
    sections: String,
    policies: Vec<(String, String)>,
    trust: Vec<(String, Vec<Authority>)>,
    trust_keys: Vec<(String, String)>,
    policy_keys: Vec<(String, String)>,
    root: Authority,
    upstream: Upstream,
    open_files_max: Option<usize>,
}

/// A listener to be described.
struct Listener {
    name: String,
    keys: String,
    hosts: Vec<Host>,
}

/// A virtual host to be described.
#[derive(Clone)]
pub(crate) struct Host {
    names: Vec<String>,
    certificate: Option<String>,
    client_auth: String,
    policy: Option<String>,
    forward: String,
    keys: String,
    routes: String,
}

impl Builder {
    pub(super) fn new() -> Builder {
        Builder {
            pki: Pki::new(),
            // So that pools and limits behave the same in every run.
            workers: 1,
            server: "io = \"auto\"\n".to_owned(),
            admin: String::new(),
            log: String::new(),
            listeners: vec![Listener::new("edge", "")],
            bind: vec![LOOPBACK.to_string()],
            limits: Vec::new(),
            echo: String::new(),
            sections: String::new(),
            policies: Vec::new(),
            trust: Vec::new(),
            trust_keys: Vec::new(),
            policy_keys: Vec::new(),
            root: Authority::root("Test Root"),
            upstream: Upstream::start(),
            open_files_max: None,
        }
    }

    /// The authority that is trusted, to issue certificates before the start.
    pub(crate) fn root(&self) -> &Authority {
        &self.root
    }

    /// Where the files of the gateway are, to write some before the start.
    pub(crate) fn pki(&self) -> &Pki {
        &self.pki
    }

    /// With the certificates and the trust of this authority.
    pub(crate) fn signed_by(mut self, root: &Authority) -> Self {
        self.root = root.clone();
        self
    }

    /// With so many workers; otherwise one.
    pub(crate) fn workers(mut self, workers: usize) -> Self {
        self.workers = workers;
        self
    }

    /// Adds a key to `[server]`.
    pub(crate) fn server(mut self, line: &str) -> Self {
        self.server.push_str(&format!("{line}\n"));
        self
    }

    /// With a directory for its state and an admin socket.
    pub(crate) fn stateful(mut self) -> Self {
        self.admin.push_str("socket = \"admin.sock\"\n");
        self.server("state_dir = \"state\"")
    }

    /// Adds a key to `[admin]`.
    pub(crate) fn admin(mut self, line: &str) -> Self {
        self.admin.push_str(&format!("{line}\n"));
        self
    }

    /// With this driver.
    pub(crate) fn io(mut self, driver: &str) -> Self {
        self.server = self.server.replace("io = \"auto\"", &format!("io = \"{driver}\""));
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

    /// Adds a key to the listener, of several the last one.
    pub(crate) fn listener(mut self, line: &str) -> Self {
        self.last_listener().keys.push_str(&format!("{line}\n"));
        self
    }

    /// Binds every listener to these addresses; otherwise any port of the loopback interface.
    pub(crate) fn bind(mut self, addresses: &[&str]) -> Self {
        self.bind = addresses.iter().map(|address| (*address).to_owned()).collect();
        self
    }

    /// Adds a listener, which is the one of the hosts that are added from now on. The first is named `edge`.
    pub(crate) fn another_listener(mut self, name: &str) -> Self {
        self.listeners.push(Listener::new(name, ""));
        self
    }

    /// Adds a listener that has the hosts of the last one and these keys.
    pub(crate) fn same_listener(mut self, name: &str, keys: &str) -> Self {
        let hosts = self.last_listener().hosts.clone();
        self.listeners.push(Listener { hosts, ..Listener::new(name, keys) });
        self
    }

    /// Adds keys to the `limits` of every listener.
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
    pub(crate) fn section(mut self, text: &str) -> Self {
        self.sections.push_str(&format!("{text}\n"));
        self
    }

    /// Sends everything to these endpoints instead of `echo`, as the cluster `others` with these keys. For the one host that
    /// is there unless others are added.
    pub(crate) fn endpoints(self, endpoints: &[impl ToString], keys: &str) -> Self {
        let endpoints: Vec<String> = endpoints.iter().map(ToString::to_string).collect();
        let host = Host::new(&[HOST]).route("path = \"/{rest...}\"", "cluster = \"others\"");
        self.section(&format!("[cluster.others]\nendpoints = {endpoints:?}\n{keys}")).host(host)
    }

    /// Adds a policy.
    pub(crate) fn policy(mut self, name: &str, rego: &str) -> Self {
        self.policies.push((name.to_owned(), rego.to_owned()));
        self
    }

    /// Adds a key to a policy.
    pub(crate) fn policy_key(mut self, policy: &str, line: &str) -> Self {
        self.policy_keys.push((policy.to_owned(), line.to_owned()));
        self
    }

    /// Adds a trust bundle to `partners`, in which the root is.
    pub(crate) fn trust(mut self, name: &str, authorities: &[&Authority]) -> Self {
        self.trust.push((name.to_owned(), authorities.iter().copied().cloned().collect()));
        self
    }

    /// Adds a key to `[trust.partners]`.
    pub(crate) fn trust_key(self, line: &str) -> Self {
        self.bundle_key("partners", line)
    }

    /// Adds a key to a trust bundle.
    pub(crate) fn bundle_key(mut self, bundle: &str, line: &str) -> Self {
        self.trust_keys.push((bundle.to_owned(), line.to_owned()));
        self
    }

    /// Adds a virtual host to the last listener. A listener without any gets one that is named [`HOST`].
    pub(crate) fn host(mut self, host: Host) -> Self {
        self.last_listener().hosts.push(host);
        self
    }

    /// Writes all files and starts the program.
    pub(crate) fn start(mut self) -> Gateway {
        let (config, certificates) = self.write();
        let running = Gateway::launch(&config, self.open_files_max);
        let partner = self.root.issue(&Leaf::client("partner-a"));
        let Builder { upstream, root, pki, open_files_max, .. } = self;
        let Running { process, listeners, admin } = running;
        let edge = listeners[0].1;
        Gateway {
            process,
            edge,
            listeners,
            admin,
            upstream,
            root,
            partner,
            pki,
            certificates,
            config,
            open_files_max,
        }
    }

    /// Writes all files and runs the program, which must refuse to start: what it says.
    #[track_caller]
    pub(crate) fn refusal(mut self) -> String {
        let (config, _) = self.write();
        let mut process = Process::start(super::ringward().arg("run").arg("-c").arg(config));
        // It may wait for others first.
        let status = process.wait(2 * DEADLINE);
        assert!(!status.success(), "it starts and ends without complaint");
        process.stdout() + &process.stderr()
    }

    /// Writes all files, and what `ringward check` says of them.
    pub(crate) fn check(self) -> String {
        self.command("check", &[]).0
    }

    /// Writes all files, and what a command says of the configuration, and whether it succeeds.
    pub(crate) fn command(mut self, command: &str, arguments: &[&str]) -> (String, bool) {
        let (config, _) = self.write();
        super::said_of(&config, command, arguments)
    }

    /// Writes all files: the configuration, and the certificates of the virtual hosts.
    fn write(&mut self) -> (PathBuf, Vec<Issued>) {
        for listener in &mut self.listeners {
            if listener.hosts.is_empty() {
                listener.hosts.push(Host::new(&[HOST]));
            }
        }
        self.trust.push(("partners".to_owned(), vec![self.root.clone()]));
        let mut certificates = Vec::new();
        for (index, host) in self.listeners.iter().flat_map(|listener| &listener.hosts).enumerate() {
            let names: Vec<&str> = host.names.iter().map(String::as_str).collect();
            let certificate = server_certificate(&self.root, &names);
            self.pki.write_pem(&format!("host-{index}"), &certificate);
            certificates.push(certificate);
        }
        for (name, authorities) in &self.trust {
            let authorities: Vec<&Authority> = authorities.iter().collect();
            self.pki.write_authorities(&format!("trust/{name}.pem"), &authorities);
        }
        for (name, rego) in &self.policies {
            self.pki.write(&format!("policies/{name}/policy.rego"), rego);
        }
        (self.pki.write("ringward.toml", self.text()), certificates)
    }

    fn last_listener(&mut self) -> &mut Listener {
        self.listeners.last_mut().expect("the first is made with the builder")
    }

    /// The configuration.
    fn text(&self) -> String {
        let mut text = format!("[server]\nworkers = {}\n{}\n", self.workers, self.server);
        text += &format!("[admin]\nmetrics = \"{LOOPBACK}\"\n{}\n[log]\n{}\n", self.admin, self.log);
        for (name, _) in &self.trust {
            text += &format!("\n[trust.{name}]\nca = [\"trust/{name}.pem\"]\n");
            for (_, line) in self.trust_keys.iter().filter(|(bundle, _)| bundle == name) {
                text += &format!("{line}\n");
            }
        }
        for (name, _) in &self.policies {
            text += &format!("[policy.{name}]\npath = [\"policies/{name}/\"]\ntime_budget = \"1s\"\n");
            for (_, line) in self.policy_keys.iter().filter(|(policy, _)| policy == name) {
                text += &format!("{line}\n");
            }
            text += "\n";
        }
        text += &format!("[cluster.echo]\nendpoints = [\"{}\"]\n{}\n", self.upstream.address(), self.echo);
        text += &self.sections;
        let limits = self.limits.join(", ");
        let mut index = 0;
        for Listener { name, keys, hosts } in &self.listeners {
            text += &format!(
                "\n[[listener]]\nname = \"{name}\"\nbind = {:?}\n{keys}limits = {{ {limits} }}\n\n",
                self.bind
            );
            for host in hosts {
                host.write(&mut text, index);
                index += 1;
            }
        }
        text
    }
}

impl Listener {
    fn new(name: &str, keys: &str) -> Listener {
        Listener { name: name.to_owned(), keys: keys.to_owned(), hosts: Vec::new() }
    }
}

impl Host {
    /// Requires a certificate of the bundle `partners`, asks no policy, and passes everything to `echo`.
    pub(crate) fn new(names: &[&str]) -> Host {
        Host {
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            certificate: None,
            client_auth: "mode = \"required\", trust = \"partners\"".to_owned(),
            policy: None,
            forward: String::new(),
            keys: String::new(),
            routes: String::new(),
        }
    }

    /// Replaces the keys of `client_auth`.
    pub(crate) fn client_auth(mut self, keys: &str) -> Self {
        keys.clone_into(&mut self.client_auth);
        self
    }

    /// Replaces the value of `certificate`.
    pub(crate) fn certificate(mut self, value: &str) -> Self {
        self.certificate = Some(value.to_owned());
        self
    }

    /// Asks this policy.
    pub(crate) fn policy(mut self, name: &str) -> Self {
        self.policy = Some(format!("{name:?}"));
        self
    }

    /// Asks these policies.
    pub(crate) fn policies(mut self, names: &[&str]) -> Self {
        self.policy = Some(format!("{names:?}"));
        self
    }

    /// Sets the keys of `forward`.
    pub(crate) fn forward(mut self, keys: &str) -> Self {
        keys.clone_into(&mut self.forward);
        self
    }

    /// Adds a key.
    pub(crate) fn key(mut self, line: &str) -> Self {
        self.keys += line;
        self.keys.push('\n');
        self
    }

    /// Adds a route to `echo` unless `lines` name another cluster or an answer. The first route replaces the one for everything.
    pub(crate) fn route(mut self, matching: &str, lines: &str) -> Self {
        let has_own =
            ["cluster =", "split =", "redirect =", "respond ="].iter().any(|key| lines.contains(key));
        let cluster = if has_own { "" } else { "cluster = \"echo\"\n" };
        self.routes += &format!("[[listener.host.route]]\nmatch = {{ {matching} }}\n{cluster}{lines}\n");
        self
    }

    fn write(&self, text: &mut String, index: usize) {
        let policy = match &self.policy {
            Some(value) => format!("policy = {value}"),
            None => "danger_no_policy = true".to_owned(),
        };
        let own = format!("{{ chain = \"host-{index}.pem\", key = \"host-{index}.key\" }}");
        let certificate = self.certificate.as_ref().unwrap_or(&own);
        let everything =
            "[[listener.host.route]]\nid = \"all\"\nmatch = { path = \"/{rest...}\" }\ncluster = \"echo\"\n";
        let routes = if self.routes.is_empty() { everything } else { &self.routes };
        *text += &format!(
            "[[listener.host]]\nnames = {:?}\ncertificate = {certificate}\n\
             client_auth = {{ {} }}\n{policy}\nforward = {{ {} }}\n{}\n{routes}\n",
            self.names, self.client_auth, self.forward, self.keys
        );
    }
}
