//! What the end-to-end tests of the data path share: a [`Gateway`] with everything in front of it and behind it.
//!
//! A gateway is the real program with a configuration of its own, an authority, a client that is trusted, and a scripted
//! upstream. Tests look at it from outside only: responses, what the upstream received, metrics, access records.
#![allow(dead_code, unused_imports, unused_macros, reason = "each test program uses a part")]

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;

use ringward_testkit::{
    Authority, Client, Connection, DEADLINE, Issued, Leaf, Pki, Process, Upstream, eventually,
    eventually_some, scrape,
};
use serde_json::Value;

mod builder;
mod foreign;
mod peer;
mod trust;

pub(crate) use builder::{Builder, Host};
pub(crate) use foreign::{OPTIONAL, STRICT, Setting, node, program, python, said, script, start_server};
pub(crate) use peer::{
    PlayedConnection, PlayedUpstream, byte_by_byte, client_hello, congested, connect_tcp, deserted,
    read_until_closed,
};
pub(crate) use trust::{publish, with_sessions};

/// The name of the virtual host that is there unless a test says otherwise.
pub(crate) const HOST: &str = "api.example.com";

/// A running proxy. Ends when dropped.
pub(crate) struct Gateway {
    pub(crate) process: Process,
    /// Where it serves, of several listeners the first.
    pub(crate) edge: SocketAddr,
    /// Names and addresses of all listeners.
    pub(crate) listeners: Vec<(String, SocketAddr)>,
    /// Where its metrics are.
    pub(crate) admin: SocketAddr,
    /// Behind the cluster `echo`.
    pub(crate) upstream: Upstream,
    /// Signed the certificates of the virtual hosts, and is trusted for clients.
    pub(crate) root: Authority,
    /// A client that is trusted.
    pub(crate) partner: Issued,
    pub(crate) pki: Pki,
    /// Certificates by virtual host, in the order of the configuration.
    pub(crate) certificates: Vec<Issued>,
    config: PathBuf,
    open_files_max: Option<usize>,
}

/// The program once it is ready.
struct Running {
    process: Process,
    listeners: Vec<(String, SocketAddr)>,
    admin: SocketAddr,
}

impl Gateway {
    /// A gateway to be described.
    pub(crate) fn builder() -> Builder {
        Builder::new()
    }

    /// With one virtual host that requires a client certificate, no policy, and one route for everything.
    pub(crate) fn start() -> Gateway {
        Self::builder().start()
    }

    /// Runs the program with this configuration file until it is ready, if need be with so many file descriptors at most.
    fn launch(config: &Path, open_files_max: Option<usize>) -> Running {
        let mut command = match open_files_max {
            None => ringward(),
            Some(max) => {
                let mut shell = Command::new("sh");
                let limited = format!("ulimit -n {max} && exec \"$0\" \"$@\"");
                shell.args(["-c", &limited, PROGRAM]).env_remove("CREDENTIALS_DIRECTORY");
                shell
            }
        };
        let process = Process::start(command.arg("run").arg("-c").arg(config));
        process.wait_for_line(DEADLINE, |line| member(line, "message").as_deref() == Some("ready"));
        let mut listeners = Vec::new();
        let mut admin = None;
        for line in process.stderr().lines() {
            let address = || member(line, "address").and_then(|address| address.parse().ok());
            match member(line, "message").as_deref() {
                Some("listening") => {
                    let name = member(line, "listener").expect("a listener has a name");
                    listeners.push((name, address().expect("a line with an address")));
                }
                Some("admin listening") => admin = address(),
                _ => {}
            }
        }
        Running { process, listeners, admin: admin.expect("an admin listener") }
    }

    /// What a command says of its configuration, and whether it succeeds.
    pub(crate) fn command(&self, command: &str, arguments: &[&str]) -> (String, bool) {
        said_of(&self.config, command, arguments)
    }

    /// Where this listener serves.
    pub(crate) fn listener(&self, name: &str) -> SocketAddr {
        self.listeners.iter().find(|(own, _)| own == name).expect("a listener of this name").1
    }

    /// Kills it (SIGKILL) and starts it again with the same files, which it serves at other addresses.
    pub(crate) fn kill_and_start_again(&mut self) {
        self.process.kill();
        let Running { process, listeners, admin } = Self::launch(&self.config, self.open_files_max);
        self.edge = listeners[0].1;
        (self.process, self.listeners, self.admin) = (process, listeners, admin);
    }

    /// A client that trusts the gateway and is trusted by it.
    pub(crate) fn client(&self) -> Client {
        self.anonymous().identity(&self.partner)
    }

    /// A client that trusts the gateway and has no certificate.
    pub(crate) fn anonymous(&self) -> Client {
        Client::new(HOST, &self.root)
    }

    /// A connection of [`Gateway::client`].
    #[track_caller]
    pub(crate) fn connect(&self) -> Connection {
        self.client().connect(self.edge).expect("a trusted client connects")
    }

    /// The gateway still does what it is for.
    #[track_caller]
    pub(crate) fn assert_serves(&self) {
        let response = self.connect().get("/still-there").expect("a request is answered");
        assert_eq!(response.status, 200);
    }

    /// The sum of all series of a metric that have these labels.
    pub(crate) fn metric(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        scrape(self.admin).sum(name, labels)
    }

    /// Waits until the sum of all series with these labels is `value`. Counters are written after the last byte of a response.
    #[track_caller]
    pub(crate) fn wait_for_metric(&self, name: &str, labels: &[(&str, &str)], value: f64) {
        eventually(DEADLINE, &format!("{name} {labels:?} becomes {value}"), || {
            self.metric(name, labels) == value
        });
    }

    /// Waits until this many connections have ended for `reason`.
    #[track_caller]
    pub(crate) fn wait_for_closed(&self, reason: &str, count: usize) {
        self.wait_for_metric("ringward_connections_closed_total", &[("reason", reason)], count as f64);
    }

    /// Waits until this many handshakes have failed for `reason`.
    #[track_caller]
    pub(crate) fn wait_for_failed_handshakes(&self, reason: &str, count: usize) {
        let labels = [("outcome", "failed"), ("reason", reason)];
        self.wait_for_metric("ringward_handshakes_finished_total", &labels, count as f64);
    }

    /// Waits until no connection is open.
    #[track_caller]
    pub(crate) fn wait_for_no_connections(&self) {
        self.wait_for_metric("ringward_connections_active", &[], 0.0);
    }

    /// Lines of the access log with this message (`request`, `handshake failed` or that of an event) so far.
    pub(crate) fn lines(&self, message: &str) -> Vec<Value> {
        let log = self.process.stdout();
        let lines = log.lines().map(|line| serde_json::from_str(line).expect("a line of JSON"));
        lines.filter(|line: &Value| line["msg"] == message).collect()
    }

    /// Waits for the record of the first request whose `member` has this value.
    #[track_caller]
    pub(crate) fn wait_for_record(&self, member: &str, value: impl Into<Value>) -> Value {
        let value = value.into();
        let find = || self.lines("request").into_iter().find(|line| line[member] == value);
        eventually_some(DEADLINE, &format!("an access record with {member} {value}"), find)
    }

    /// The largest resident memory that the program has had, in bytes.
    pub(crate) fn peak_resident_bytes(&self) -> u64 {
        self.status("VmHWM:") * 1024
    }

    /// For how many descriptors the kernel has room now.
    pub(crate) fn descriptors_reserved(&self) -> u64 {
        self.status("FDSize:")
    }

    /// A number of proc(5), in kB if it is memory.
    fn status(&self, name: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("a line of that name");
        line.trim().trim_end_matches(" kB").parse().expect("a number")
    }
}

/// The program under test.
/// What `ringward` says of a configuration, and whether it succeeds.
fn said_of(config: &Path, command: &str, arguments: &[&str]) -> (String, bool) {
    let output = ringward().arg(command).arg("-c").arg(config).args(arguments).output().expect("it runs");
    let said = [output.stdout, output.stderr].concat();
    (String::from_utf8_lossy(&said).into_owned(), output.status.success())
}

/// The program.
pub(crate) fn ringward() -> Command {
    let mut command = Command::new(PROGRAM);
    command.env_remove("CREDENTIALS_DIRECTORY");
    command
}

/// A certificate for these host names.
fn server_certificate(root: &Authority, names: &[&str]) -> Issued {
    let leaf = names[1..].iter().fold(Leaf::server(names[0]), |leaf, name| leaf.dns(name));
    root.issue(&leaf)
}

/// A member of a line of JSON, if it is a text.
fn member(line: &str, name: &str) -> Option<String> {
    let value: Value = serde_json::from_str(line).ok()?;
    Some(value.get(name)?.as_str()?.to_owned())
}

const PROGRAM: &str = env!("CARGO_BIN_EXE_ringward");

/// Any port on the loopback interface.
const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// Makes one test per driver of each function: with the best one that the kernel has, and with epoll.
macro_rules! on_both_drivers {
    ($($test:ident),+ $(,)?) => {
        mod default_driver {
            $(#[test] fn $test() { super::$test("auto"); })+
        }
        mod epoll {
            $(#[test] fn $test() { super::$test("epoll"); })+
        }
    };
}
pub(crate) use on_both_drivers;
