//! Clients, upstreams, and the configurations of the manual with what they name.

use std::collections::HashMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;

use ringward_testkit::{
    Authority, Client, Crl, DEADLINE, Gate, Issued, Leaf, Pki, Process, Script, Upstream, eventually,
    free_port,
};
use serde_json::Value;

use super::support::ringward;

/// The hosts of all guides.
pub(crate) const API: &str = "api.example.com";
pub(crate) const PORTAL: &str = "portal.example.com";

/// Everything around the two of a guide.
pub(crate) struct Scene {
    pub(crate) pki: Pki,
    /// Has signed all certificates.
    pub(crate) root: Authority,
    pub(crate) people: HashMap<&'static str, Issued>,
    /// By the address that the configurations have for it.
    pub(crate) upstreams: Vec<(&'static str, Upstream)>,
    guide: String,
    directory: PathBuf,
}

/// Where somebody serves.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Edge {
    pub(crate) port: u16,
}

impl Edge {
    pub(crate) fn address(self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }
}

/// A file of the manual, and what is replaced in it: each must be there.
pub(crate) struct Replaced<'a> {
    pub(crate) file: &'a str,
    pub(crate) parts: Vec<(&'a str, String)>,
}

impl Scene {
    /// Of `migrate-NAME.md`.
    pub(crate) fn new(name: &str) -> Scene {
        let (pki, root) = (Pki::new(), Authority::root("Partners CA"));
        let manual = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/manual");
        let guide = read(&manual.join(format!("migrate-{name}.md")));
        let addresses = ["10.0.0.11:8080", "10.0.0.12:8080", "10.0.0.21:8080"];
        let scene = Scene {
            people: people(&root),
            upstreams: addresses.map(|address| (address, Upstream::start())).into(),
            guide,
            directory: manual.join("migrate").join(name),
            pki,
            root,
        };
        let issuing = scene.root.intermediate("Partners Issuing CA");
        for name in [API, PORTAL] {
            let short = name.split('.').next().unwrap();
            let issued = issuing.issue(&Leaf::server(name));
            scene.pki.write_pem(&format!("tls/{short}"), &issued);
            scene.pki.write(&format!("tls/{short}.both"), issued.chain_pem() + &issued.key_pem());
        }
        for (_, upstream) in &scene.upstreams {
            upstream.on("/orders/talkative", Script::new().read_body().respond(200, TALKATIVE, ""));
            // Never: everybody gives up before.
            upstream.on("/quotes/slow", Script::new().read_body().wait(&Gate::new()));
        }
        scene.pki.write_authorities("tls/partners-ca.pem", &[&scene.root]);
        let list = Crl::new().revoke(scene.people["revoked"].serial());
        scene.pki.write("tls/partners.crl", scene.root.sign_crl_pem(&list));
        for directory in ["run", "lib", "log", "tmp"] {
            scene.pki.write(&format!("{directory}/.keep"), "");
        }
        scene
    }

    /// A client that knows the server by this name.
    pub(crate) fn client(&self, name: &str) -> Client {
        Client::new(name, &self.root)
    }

    /// The file of the manual as it is.
    pub(crate) fn original(&self, file: &str) -> PathBuf {
        self.directory.join(file)
    }

    pub(crate) fn at(&self, path: &str) -> String {
        self.pki.path().join(path).display().to_string()
    }

    /// The file of the manual with these replaced, and with the upstreams that there are.
    pub(crate) fn place(&self, replaced: &Replaced<'_>) -> PathBuf {
        let mut text = read(&self.directory.join(replaced.file));
        for (from, upstream) in &self.upstreams {
            assert!(text.contains(from), "{} has no {from}", replaced.file);
            text = text.replace(from, &upstream.address().to_string());
        }
        for (from, to) in &replaced.parts {
            assert!(text.contains(from), "{} has no {from}", replaced.file);
            text = text.replace(from, to);
        }
        self.pki.write(replaced.file, text)
    }

    /// Starts a server of another make, which may find that another process has taken its port.
    #[track_caller]
    pub(crate) fn start_original(&self, command: impl Fn(Edge) -> Command) -> (Process, Edge) {
        let mut said = String::new();
        for _ in 0..5 {
            let edge = Edge { port: free_port() };
            let mut process = Process::start(&mut command(edge));
            eventually(DEADLINE, "the original listens or ends", || {
                !process.is_running() || TcpStream::connect(edge.address()).is_ok()
            });
            if process.is_running() {
                return (process, edge);
            }
            said = process.stdout() + &process.stderr();
        }
        panic!("the original does not start: {said}");
    }

    /// Ringward's side with these policies, as the manual has it: checked without a word of warning, proved, and served.
    #[track_caller]
    pub(crate) fn start_ringward(&self, policies: &[&str]) -> (Process, Edge) {
        let config = self.place_ringward(policies, "127.0.0.1:0");
        for command in ["check", "prove"] {
            let mut process = Process::start(ringward().arg(command).arg("-c").arg(&config));
            let code = process.wait(DEADLINE).code();
            assert_eq!((code, process.stderr().as_str()), (Some(0), ""), "{command}: {}", process.stdout());
        }
        let process = Process::start(ringward().arg("run").arg("-c").arg(&config));
        let line = process.wait_for_line(DEADLINE, |line| line.contains("\"listening\""));
        let port = serde_json::from_str::<Value>(&line).unwrap()["address"]
            .as_str()
            .and_then(|address| address.parse::<SocketAddr>().ok())
            .unwrap_or_else(|| panic!("no address: {line}"))
            .port();
        process.wait_for_line(DEADLINE, |line| line.contains("\"ready\""));
        (process, Edge { port })
    }

    fn place_ringward(&self, policies: &[&str], bind: &str) -> PathBuf {
        for policy in policies {
            self.pki.write(policy, read(&self.directory.join(policy)));
        }
        let mut replaced = Replaced {
            file: "ringward.toml",
            parts: vec![
                ("\"/var/lib/ringward\"", format!("\"{}\"", self.at("lib"))),
                ("\"/run/ringward/admin.sock\"", format!("\"{}\"", self.at("run/admin.sock"))),
                ("\"127.0.0.1:9464\"", "\"127.0.0.1:0\"".to_owned()),
                ("\"0.0.0.0:443\"", format!("\"{bind}\"")),
            ],
        };
        if policies.iter().any(|policy| policy.ends_with(".rego")) {
            // A build for tests on a machine with other work is slow.
            replaced.parts.push((".rego\"\n", ".rego\"\ntime_budget = \"1s\"\n".to_owned()));
        }
        self.place(&replaced)
    }

    /// Runs what stands in the `sh` blocks of the guide, in the directory of the configuration; what was run.
    ///
    /// A line that ends in `# refused` must fail, every other one succeed, and `ringward run` goes on until the end.
    #[track_caller]
    pub(crate) fn follow_guide(&self, policies: &[&str]) -> Vec<String> {
        self.place_ringward(policies, "0.0.0.0:443");
        // With the names that every guide's rules ask for.
        self.pki.write_pem("billing", &self.people["billing workload"]);
        self.pki.write_authorities("server-ca.pem", &[&self.root]);
        let port = free_port().to_string();
        let (mut serving, mut ran, mut is_shell) = (Vec::new(), Vec::new(), false);
        for line in self.guide.lines().map(str::trim) {
            if line.starts_with("```") {
                is_shell = line == "```sh";
                continue;
            }
            if !is_shell {
                continue;
            }
            let line = line.replace("8443", &port);
            let mut shell = Command::new("sh");
            shell.args(["-c", &format!("exec {line}")]).current_dir(self.pki.path());
            let path = std::env::var("PATH").unwrap();
            let program = Path::new(env!("CARGO_BIN_EXE_ringward")).parent().unwrap();
            shell.env("PATH", format!("{}:{path}", program.display())).env("no_proxy", "*");
            let mut process = Process::start(&mut shell);
            if line.starts_with("ringward run ") {
                process.wait_for_line(DEADLINE, |line| line.contains("\"ready\""));
                serving.push(process);
            } else {
                let succeeded = process.wait(DEADLINE).success();
                let said = process.stdout() + &process.stderr();
                assert_eq!(succeeded, !line.ends_with("# refused"), "{line}\n{said}");
            }
            ran.push(line);
        }
        ran
    }

    /// Three of four requests go to the first server.
    #[track_caller]
    pub(crate) fn shares_are_kept(&self, edges: &[Edge], who: &str) {
        for edge in edges {
            let target = format!("/orders/shares-{}", edge.port);
            let client = self.client(API).identity(&self.people[who]);
            let mut connection = client.connect(edge.address()).unwrap();
            for _ in 0..8 {
                assert_eq!(connection.get(&target).unwrap().status, 200);
            }
            assert_eq!(self.received(&target), [6, 2, 0]);
        }
    }

    /// A server that says 503 is asked once, and then the other one; what is not idempotent is not sent twice.
    #[track_caller]
    pub(crate) fn failures_are_tried_again(&self, edges: &[Edge], who: &str) {
        for edge in edges {
            let target = format!("/orders/fails-{}", edge.port);
            for (_, upstream) in &self.upstreams {
                upstream.on(&target, Script::new().read_body().respond(503, &[], ""));
            }
            let client = self.client(API).identity(&self.people[who]);
            let mut connection = client.connect(edge.address()).unwrap();
            assert_eq!(connection.get(&target).unwrap().status, 503);
            assert_eq!(self.received(&target), [1, 1, 0], "GET goes to both");
            let mut connection = client.connect(edge.address()).unwrap();
            assert_eq!(connection.post(&target, b"x").unwrap().status, 503);
            assert_eq!(self.received(&target).iter().sum::<usize>(), 3, "POST goes to one");
        }
    }

    /// How many requests for this each upstream has got.
    fn received(&self, target: &str) -> [usize; 3] {
        let of = |upstream: &Upstream| {
            upstream.requests().iter().filter(|request| request.target == target).count()
        };
        [0, 1, 2].map(|at| of(&self.upstreams[at].1))
    }

    /// A difference that clients or upstreams notice is told in the guide; what is missing if it is not.
    pub(crate) fn guide_lacks(&self, sentence: &str) -> Option<String> {
        let guide = self.guide.split_whitespace().collect::<Vec<_>>().join(" ");
        (!guide.contains(sentence)).then(|| format!("the guide does not say: {sentence}"))
    }
}

/// What the originals do on port 80.
#[track_caller]
pub(crate) fn redirected_without_tls(plain: Edge) {
    let mut stream = TcpStream::connect(plain.address()).unwrap();
    stream.write_all(b"GET /orders/7?all HTTP/1.0\r\nHost: api.example.com\r\n\r\n").unwrap();
    let mut said = String::new();
    stream.read_to_string(&mut said).unwrap();
    let said = said.to_ascii_lowercase();
    assert!(
        said.contains(" 301 ") && said.contains("\r\nlocation: https://api.example.com/orders/7?all\r\n"),
        "{said}"
    );
}

/// Everybody who asks for something.
fn people(root: &Authority) -> HashMap<&'static str, Issued> {
    // The common name last, as CAs write it.
    let partner = |name: &str, unit: &str| {
        let subject = Leaf::client("").no_subject().organization("Acme");
        subject.organizational_unit(unit).common_name(name)
    };
    let workload = |unit: &str, id: &str| root.issue(&partner("workload", unit).spiffe(id));
    let stranger = Authority::root("Other CA");
    HashMap::from([
        ("billing", root.issue(&partner("billing.acme.example", "Billing"))),
        ("integration", root.issue(&partner("importer.acme.example", "Integration"))),
        ("sales", root.issue(&partner("sales.acme.example", "Sales"))),
        ("billing workload", workload("Billing", "spiffe://example.com/ns/billing/sa/reader")),
        ("integration workload", workload("Integration", "spiffe://example.com/ns/integration/sa/writer")),
        (
            "integration test workload",
            workload("Sales", "spiffe://example.com/ns/integration-test/sa/writer"),
        ),
        ("operator workload", workload("Operations", "spiffe://example.com/ns/ops/sa/anna")),
        ("importer", root.issue(&partner("importer", "Sales").dns("importer.acme.example"))),
        (
            "importer with URI",
            root.issue(
                &partner("importer", "Sales")
                    .dns("importer.acme.example")
                    .uri("https://acme.example/importer"),
            ),
        ),
        // nginx's maps and regular expressions see texts, not names.
        ("lower case", root.issue(&partner("lower.acme.example", "billing"))),
        ("umlaut", root.issue(&partner("jörg.acme.example", "Billing"))),
        ("comma", root.issue(&partner("x,OU=Integration", "Sales"))),
        ("operator", root.issue(&partner("ops-anna", "Operations"))),
        ("revoked", root.issue(&partner("billing.acme.example", "Billing"))),
        ("expired", root.issue(&partner("billing.acme.example", "Billing").expired())),
        ("stranger", stranger.issue(&partner("billing.acme.example", "Billing"))),
    ])
}

pub(crate) fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// What an upstream says of itself.
const TALKATIVE: &[(&str, &str)] = &[("server", "app/1.2"), ("x-powered-by", "app"), ("x-kept", "1")];
