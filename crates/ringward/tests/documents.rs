//! The commands that the documents tell people to type, typed.
//!
//! A block that begins with ```` ```toml NAME ```` is a file of that name. In ```` ```sh ```` and ```` ```console ```` blocks the
//! lines that call `ringward`, `cargo run --release --` (which stands for it), `curl`, or one of a few programs that handle files
//! are run, in order, in one empty directory; every other line is left to the reader. `ringward run` goes on until the end of the
//! document, and ports are replaced by free ones. A line that ends in `# refused` must fail, every other one succeed; what clients
//! see may follow a change after a moment, so they try until it is so. The lines of a ```` ```text ```` block are in what the last
//! command before it said, up to the spaces around them; `...` stands for any.
#![allow(clippy::unwrap_used, reason = "a failed expectation is a failed test")]

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use ringward_testkit::{DEADLINE, Process, Script, Upstream, eventually, free_port};
use tempfile::TempDir;

#[test]
fn readme() {
    let mut reader = Reader::new();
    let ran = reader.read("README.md");
    assert!(count(&ran, "ringward ") >= 4 && count(&ran, "curl ") >= 3, "the commands are there: {ran:#?}");
    let proxy = reader.serving.first().expect("something serves");
    for decision in ["allowed", "denied"] {
        proxy.wait_for_line(DEADLINE, |line| line.contains(&format!("\"decision\":\"{decision}\"")));
    }
}

#[test]
fn policies() {
    let mut reader = Reader::new();
    reader.take_along("policies");
    let ran = reader.read("policies/README.md");
    assert!(count(&ran, "ringward policy ") >= 20 && count(&ran, "curl ") >= 2, "{ran:#?}");
    for entry in fs::read_dir(repository().join("policies")).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        let is_run = ran.iter().any(|line| line.contains(&format!("policies/{name}")));
        assert!(is_run || name == "bench" || name == "README.md", "{name} is not shown");
    }
}

#[test]
fn policy_engines() {
    let mut reader = Reader::new();
    reader.take_along("policies");
    let ran = reader.read("deploy/policy-engines.md");
    assert!(count(&ran, "ringward policy check") >= 2, "{ran:#?}");
}

#[test]
fn route_protection() {
    let ran = Reader::new().read("deploy/route-protection.md");
    assert!(count(&ran, "ringward prove") >= 2, "{ran:#?}");
}

#[test]
fn load_balancers() {
    let ran = Reader::new().read("deploy/load-balancers.md");
    assert!(count(&ran, "ringward check --forwarding") >= 2, "{ran:#?}");
}

#[test]
fn routing() {
    let ran = Reader::new().read("deploy/routing.md");
    assert!(count(&ran, "ringward route") >= 2, "{ran:#?}");
}

#[test]
fn resumption() {
    let ran = Reader::new().read("deploy/resumption.md");
    assert!(count(&ran, "ringward keys rotate") >= 2, "{ran:#?}");
}

#[test]
fn revocation() {
    let mut reader = Reader::new();
    let ran = reader.read("deploy/revocation.md");
    assert!(count(&ran, "ringward revoke") >= 4 && count(&ran, "openssl ca") >= 3, "{ran:#?}");
    let proxy = reader.serving.first().expect("something serves");
    // A list may overtake a client between its handshake and its request, whose line then says so.
    for why in ["\"reason\":\"deny_listed\"", " is revoked ("] {
        proxy.wait_for_line(DEADLINE, |line| line.contains(why));
    }
}

#[test]
fn policy_input() {
    let ran = Reader::new().read("deploy/policy-input.md");
    assert!(count(&ran, "ringward policy ") >= 5, "{ran:#?}");
}

#[test]
fn request_bodies() {
    let ran = Reader::new().read("deploy/request-bodies.md");
    assert!(count(&ran, "ringward policy ") >= 2, "{ran:#?}");
}

#[test]
fn credentials() {
    let ran = Reader::new().read("deploy/credentials.md");
    assert!(count(&ran, "openssl s_client") >= 2, "{ran:#?}");
}

#[test]
fn tuning() {
    let ran = Reader::new().read("deploy/tuning.md");
    assert!(count(&ran, "ringward tune") == 1, "{ran:#?}");
}

/// A whole configuration by hand, from the manual alone.
#[test]
fn manual() {
    let ran = Reader::new().read("deploy/manual/README.md");
    assert!(count(&ran, "ringward ") >= 8 && count(&ran, "curl ") >= 6, "{ran:#?}");
}

#[test]
fn onboarding() {
    let ran = Reader::new().read("deploy/onboarding.md");
    assert!(count(&ran, "ringward onboard ") == 4 && count(&ran, "curl ") == 2, "{ran:#?}");
}

#[test]
fn quick_start() {
    let mut reader = Reader::new();
    reader.take_along("deploy/prometheus");
    let ran = reader.read("deploy/manual/quick-start.md");
    assert!(count(&ran, "ringward ") >= 17 && count(&ran, "curl ") >= 11, "{ran:#?}");
}

#[test]
fn report() {
    let ran = Reader::new().read("deploy/manual/report.md");
    assert!(count(&ran, "ringward report") == 1 && count(&ran, "curl ") == 1, "{ran:#?}");
}

#[test]
fn policy_rollout() {
    let ran = Reader::new().read("deploy/policy-rollout.md");
    assert!(count(&ran, "ringward policy check") == 1, "{ran:#?}");
}

#[test]
fn policy_server() {
    let opa = Upstream::start();
    opa.on(
        "/v1/data/ringward/authz/decision",
        Script::new().read_body().respond(200, &[], "{\"result\":true}"),
    );
    let mut reader = Reader::new();
    reader.ports.push(("8181", opa.address().port()));
    let ran = reader.read("deploy/policy-server.md");
    assert!(count(&ran, "ringward ") >= 3 && count(&ran, "curl ") >= 1, "{ran:#?}");
    assert!(!opa.requests().is_empty(), "it is asked");
}

fn count(ran: &[String], beginning: &str) -> usize {
    ran.iter().filter(|line| line.starts_with(beginning)).count()
}

/// Somebody who follows a document.
struct Reader {
    dir: TempDir,
    upstream: Upstream,
    /// Ports of the document and those that are taken instead.
    ports: Vec<(&'static str, u16)>,
    serving: Vec<Process>,
    /// What the last command said.
    said: String,
}

impl Reader {
    fn new() -> Reader {
        let upstream = Upstream::start();
        let ports = vec![("8443", free_port()), ("9464", free_port()), ("8080", upstream.address().port())];
        Reader { dir: TempDir::new().unwrap(), upstream, ports, serving: Vec::new(), said: String::new() }
    }

    /// Copies a directory of the repository to where the commands are run.
    fn take_along(&self, directory: &str) {
        let mut copy = Command::new("cp");
        copy.arg("-R").arg(repository().join(directory)).arg(self.dir.path());
        assert!(copy.status().unwrap().success());
    }

    /// Follows the document to its end; what was run.
    fn read(&mut self, document: &str) -> Vec<String> {
        let text = fs::read_to_string(repository().join(document)).unwrap();
        let mut ran = Vec::new();
        for block in blocks(&text) {
            let content = self.with_free_ports(&block.content);
            match (block.language, block.name) {
                (_, Some(name)) => fs::write(self.dir.path().join(name), content).unwrap(),
                ("sh" | "console", None) => {
                    for line in commands(&content) {
                        self.run(&line);
                        ran.push(line);
                    }
                }
                ("text", None) => self.compare(&content),
                _ => {}
            }
        }
        assert_eq!(self.upstream.errors(), Vec::<String>::new());
        ran
    }

    fn run(&mut self, line: &str) {
        let mut shell = self.shell(line);
        if line.starts_with("ringward run ") {
            let process = Process::start(&mut shell);
            process.wait_for_line(DEADLINE, |line| line.contains("ready"));
            let edge = SocketAddr::from((Ipv4Addr::LOCALHOST, self.ports[0].1));
            eventually(DEADLINE, "it accepts connections", || TcpStream::connect(edge).is_ok());
            self.serving.push(process);
            return;
        }
        let wanted = !line.ends_with(REFUSED);
        if !["curl ", "openssl s_client "].iter().any(|client| line.starts_with(client)) {
            let (success, said) = finish(&mut shell);
            assert_eq!(success, wanted, "{line}\n{said}");
            self.said = said;
            return;
        }
        let mut said = String::new();
        let mut is_so = || {
            let (success, text) = finish(&mut self.shell(line));
            said = text;
            success == wanted
        };
        let end = Instant::now() + DEADLINE;
        while !is_so() {
            assert!(Instant::now() < end, "{line}\n{said}");
        }
    }

    /// Compares what the document says with what the last command said.
    fn compare(&self, text: &str) {
        for line in text.lines().map(str::trim).filter(|line| *line != "...") {
            assert!(self.said.contains(line), "not said: {line}\n{}", self.said);
        }
    }

    /// Of a directory that the program under test comes first in.
    fn shell(&self, line: &str) -> Command {
        let program = Path::new(env!("CARGO_BIN_EXE_ringward"));
        let path = std::env::var("PATH").unwrap();
        let mut shell = Command::new("sh");
        // exec: what is killed is the program and not its shell.
        shell.args(["-c", &format!("exec {line}")]).current_dir(self.dir.path());
        shell.env("PATH", format!("{}:{path}", program.parent().unwrap().display()));
        // A proxy of whoever runs the tests has no business between here and here.
        shell.env("no_proxy", "localhost,127.0.0.1");
        shell
    }

    fn with_free_ports(&self, text: &str) -> String {
        self.ports.iter().fold(text.to_owned(), |text, (port, free)| {
            text.replace(&format!(":{port}"), &format!(":{free}"))
        })
    }
}

/// A fenced block of a document.
struct Block<'a> {
    language: &'a str,
    name: Option<&'a str>,
    content: String,
}

fn blocks(text: &str) -> Vec<Block<'_>> {
    let mut blocks = Vec::new();
    let mut open: Option<Block<'_>> = None;
    for line in text.lines() {
        match (line.strip_prefix("```"), &mut open) {
            (Some(info), None) => {
                let mut words = info.split_whitespace();
                let language = words.next().unwrap_or_default();
                open = Some(Block { language, name: words.next(), content: String::new() });
            }
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (None, Some(block)) => {
                block.content.push_str(line);
                block.content.push('\n');
            }
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "a block is not closed");
    blocks
}

/// Whether it succeeded, and what it said.
fn finish(shell: &mut Command) -> (bool, String) {
    let mut process = Process::start(shell);
    let success = process.wait(DEADLINE).success();
    (success, format!("{}\n{}", process.stdout(), process.stderr()))
}

/// The commands of a block that can be run here, as they are run.
fn commands(block: &str) -> Vec<String> {
    let joined = block.replace("\\\n", " ");
    let lines = joined.lines().map(|line| line.trim().trim_start_matches("$ "));
    let ours = |line: &str| {
        let line = line.replacen("cargo run --release -- ", "ringward ", 1);
        let once = if line == "ringward demo" { " --once" } else { "" };
        let program = line.split(' ').next().unwrap_or_default();
        PROGRAMS.contains(&program).then(|| line + once)
    };
    lines.filter_map(ours).collect()
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// What is run of a document.
const PROGRAMS: [&str; 11] =
    ["ringward", "curl", "openssl", "promtool", "cat", "chmod", "cp", "mkdir", "mv", "rm", "sed"];
/// What ends a line that must fail.
const REFUSED: &str = "# refused";
