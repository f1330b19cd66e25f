//! Clients and servers that we did not write: whether they are installed, and what they need to reach a [`Gateway`].

use std::env;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;

use ringward_testkit::{DEADLINE, Leaf, Process, Signal};

use super::{Builder, Gateway, HOST, Host};

/// A host that requires a certificate.
pub(crate) const STRICT: &str = HOST;
/// A host that does not.
pub(crate) const OPTIONAL: &str = "optional.example.com";

/// A gateway, and files for its clients.
pub(crate) struct Setting {
    pub(crate) gateway: Gateway,
    pub(crate) ca: PathBuf,
    pub(crate) cert: PathBuf,
    pub(crate) key: PathBuf,
}

impl Setting {
    pub(crate) fn new() -> Setting {
        Setting::of(Gateway::builder())
    }

    /// With the hosts [`STRICT`] and [`OPTIONAL`], under a policy that lets the partner do everything, and the anonymous
    /// what is public.
    pub(crate) fn of(builder: Builder) -> Setting {
        Setting::routed(builder, |host| host)
    }

    /// The same with these routes.
    pub(crate) fn routed(builder: Builder, routes: impl Fn(Host) -> Host) -> Setting {
        let optional = Host::new(&[OPTIONAL]).client_auth("mode = \"optional\", trust = \"partners\"");
        let gateway = builder
            .policy("main", POLICY)
            .limits("body_bytes_max = \"200MiB\"")
            .host(routes(Host::new(&[STRICT]).policy("main")))
            .host(routes(optional.policy("main")))
            .start();
        let ca = gateway.pki.write_authorities("client/ca.pem", &[&gateway.root]);
        let files = gateway.client_files("partner", &gateway.partner);
        Setting { gateway, ca, cert: files.chain, key: files.key }
    }

    /// The port, the CA, the certificate and the key, as our scripts take them.
    pub(crate) fn arguments(&self) -> [PathBuf; 4] {
        self.arguments_of(&self.cert, &self.key)
    }

    /// The same for another client.
    pub(crate) fn arguments_of(&self, cert: &Path, key: &Path) -> [PathBuf; 4] {
        let port = self.gateway.edge.port().to_string();
        [port.into(), self.ca.clone(), cert.to_owned(), key.to_owned()]
    }

    /// Runs two clients that hold something open, revokes one of them, and demands that it is cut, and not the other. `cut` is
    /// what the first says then.
    #[track_caller]
    pub(crate) fn expect_revocation_cuts(&self, client: impl Fn() -> Command, further: &[&str], cut: &str) {
        let other = self.gateway.client_files("other", &self.gateway.root.issue(&Leaf::client("partner-a")));
        let mut revoked = Process::start(client().args(self.arguments()).args(further));
        let mut other =
            Process::start(client().args(self.arguments_of(&other.chain, &other.key)).args(further));
        for process in [&revoked, &other] {
            process.wait_for_line(DEADLINE, |line| line == "open");
        }
        let certificate = self.cert.display().to_string();
        self.gateway.ask(&["revoke", "--cert", &certificate, "--reason", "laptop lost"]);
        assert!(revoked.wait(DEADLINE).success(), "{}", revoked.stderr());
        assert_eq!(revoked.stdout(), format!("open\n{cut}\n"), "{}", revoked.stderr());
        other.signal(Signal::TERM);
        assert!(other.wait(DEADLINE).success(), "{}", other.stderr());
        assert_eq!(other.stdout(), "open\nalive\n", "{}", other.stderr());
    }

    /// Runs a client that prints one word per step, and compares what the gateway has seen: one client without a certificate
    /// where one is required, and the requests that were answered with 421.
    #[track_caller]
    pub(crate) fn expect_words(&self, client: &mut Command, words: &str) {
        assert_eq!(said(client), format!("{words}\n"));
        self.gateway.wait_for_failed_handshakes("no_certificate", 1);
        let misdirected = words.matches("421").count() as f64;
        self.gateway.wait_for_metric("ringward_requests_misdirected_total", &[], misdirected);
        assert!(self.gateway.upstream.errors().is_empty(), "{:?}", self.gateway.upstream.errors());
    }
}

/// A program, which has to be installed: by this package of Debian's, for instance.
#[track_caller]
pub(crate) fn program(name: &str, package: &str) -> Command {
    let path = env::var_os("PATH").unwrap_or_default();
    // Not everybody has the folder of servers among theirs.
    let mut folders = env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    let found = folders.find_map(|folder| Some(folder.join(name)).filter(|program| program.is_file()));
    Command::new(found.unwrap_or_else(|| {
        panic!("{name} is not installed: run .ci/packages, or apt-get install {package}");
    }))
}

/// Python with the packages of `.ci/requirements.txt`.
#[track_caller]
pub(crate) fn python() -> Command {
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/tools/python/bin/python3");
    assert!(python.is_file(), "{} is not there: run .ci/packages", python.display());
    Command::new(python)
}

/// Node, which finds Debian's packages.
#[track_caller]
pub(crate) fn node() -> Command {
    let mut node = program("node", "nodejs");
    node.env("NODE_PATH", "/usr/share/nodejs");
    node
}

/// A script of ours.
pub(crate) fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts").join(name)
}

/// Starts a server, which prints its port first.
#[track_caller]
pub(crate) fn start_server(command: &mut Command) -> (Process, SocketAddr) {
    let server = Process::start(command);
    let line = server.wait_for_line(DEADLINE, |line| line.parse::<u16>().is_ok());
    (server, (Ipv4Addr::LOCALHOST, line.parse().expect("a port")).into())
}

/// Runs a program to its end: all that it wrote. What it wrote as errors comes last.
#[track_caller]
pub(crate) fn said(command: &mut Command) -> String {
    let mut process = Process::start(command);
    // Some of them compile themselves first, on a machine that has other work.
    let status = process.wait(3 * DEADLINE);
    let said = process.stdout() + &process.stderr();
    assert!(status.success(), "{status}: {said}");
    said
}

/// Lets the partner read, and the anonymous read what is public.
const POLICY: &str = r#"package ringward.authz

default decision := {"allowed": false, "rule": "default", "body": "not for you\n"}

decision := {"allowed": true, "rule": "partner"} if input.client.subject.common_name == "partner-a"

decision := {"allowed": true, "rule": "public"} if {
	not input.client.verified
	input.request.path == "/public"
}
"#;
