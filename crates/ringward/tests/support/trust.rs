//! Changes of trust while a gateway runs: made in its files or by its commands, and waited for until they are in force.

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Output;
use std::thread;
use std::time::{Duration, Instant};

use ringward_testkit::{
    Authority, Client, Crl, DEADLINE, Issued, PemFiles, Pki, SClient, Sessions, eventually, scrape,
};
use serde_json::Value;

use super::{Gateway, ringward};

impl Gateway {
    /// The number of the configuration that is in force.
    pub(crate) fn generation(&self) -> f64 {
        self.metric("ringward_config_generation", &[])
    }

    /// Makes a change and waits until it is in force: how long that took.
    #[track_caller]
    pub(crate) fn change(&self, change: impl FnOnce(&Gateway)) -> Duration {
        let (before, started) = (self.reloads("applied"), Instant::now());
        change(self);
        let end = started + DEADLINE;
        while self.reloads("applied") == before {
            // What was said explains it best.
            assert!(Instant::now() < end, "the change is not in force: {}", self.process.stderr());
            thread::sleep(Duration::from_millis(2));
        }
        started.elapsed()
    }

    /// Changes the configuration by replacing a part of it, which must be there, and waits until that is in force.
    #[track_caller]
    pub(crate) fn reconfigure(&self, from: &str, to: &str) -> Duration {
        self.change(|gateway| gateway.edit_config(from, to))
    }

    /// Replaces a part of the configuration, which must be there, everywhere.
    #[track_caller]
    pub(crate) fn edit_config(&self, from: &str, to: &str) {
        let text = std::fs::read_to_string(&self.config).expect("a configuration");
        assert!(text.contains(from), "{from} is not in the configuration: {text}");
        self.pki.write("ringward.toml", text.replace(from, to));
    }

    /// Makes a change that must be refused, and waits until it is: the last line that says why. The same problem is said once.
    #[track_caller]
    pub(crate) fn refused_change(&self, change: impl FnOnce(&Gateway)) -> Value {
        let (generation, failed) = (self.generation(), self.reloads("failed"));
        let said = self.messages(REFUSED).len();
        change(self);
        // It may wait for others first.
        eventually(3 * DEADLINE, "the change is refused", || self.reloads("failed") > failed);
        assert_eq!(self.generation(), generation, "it is in force");
        // The line was written before the failure was counted, but maybe not read yet. There is none if it has been said.
        let end = Instant::now() + SAID_WITHIN;
        loop {
            let mut lines = self.messages(REFUSED);
            if lines.len() > said || (said > 0 && Instant::now() > end) {
                return lines.pop().expect("there is one");
            }
            assert!(Instant::now() < end + DEADLINE, "it is not said why");
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// Reloads with this outcome so far.
    pub(crate) fn reloads(&self, outcome: &str) -> f64 {
        self.metric("ringward_reloads_finished_total", &[("outcome", outcome)])
    }

    /// Lines of the lifecycle log with this message so far.
    pub(crate) fn messages(&self, message: &str) -> Vec<Value> {
        let log = self.process.stderr();
        let lines = log.lines().filter_map(|line| serde_json::from_str(line).ok());
        lines.filter(|line: &Value| line["message"] == message).collect()
    }

    /// Runs a command that talks to this gateway.
    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        ringward().args(arguments).arg("-c").arg(&self.config).output().expect("run the program")
    }

    /// The same for a command that must succeed: its standard output.
    #[track_caller]
    pub(crate) fn ask(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).expect("text")
    }

    /// The same for a command that prints JSON.
    #[track_caller]
    pub(crate) fn ask_json(&self, arguments: &[&str]) -> Value {
        let text = self.ask(arguments);
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{arguments:?}: {error}: {text}"))
    }

    /// Asks the admin socket by hand, as [`Gateway::run`] does with a process of its own: the answer, which must not be an
    /// error.
    #[track_caller]
    pub(crate) fn tell(&self, request: &Value) -> Value {
        let mut stream =
            UnixStream::connect(self.pki.path().join("admin.sock")).expect("connect to the admin socket");
        stream.set_read_timeout(Some(DEADLINE)).expect("set a timeout");
        writeln!(stream, "{}", serde_json::json!({ "request": request })).expect("send a request");
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).expect("read the answer");
        let answer: Value = serde_json::from_str(&line).expect("a line of JSON");
        assert!(answer.get("ok").is_some(), "{request}: {answer}");
        answer["ok"].clone()
    }

    /// `openssl s_client` for a virtual host of a listener; it trusts the gateway.
    pub(crate) fn s_client(&self, listener: SocketAddr, server_name: &str) -> SClient {
        let ca = self.pki.write_authorities("s_client/ca.pem", &[&self.root]);
        SClient::new(listener, server_name, &ca)
    }

    /// Files of a client, named after it.
    pub(crate) fn client_files(&self, name: &str, identity: &Issued) -> PemFiles {
        self.pki.write_pem(&format!("clients/{name}"), identity)
    }

    /// Targets of all requests that reached the upstream.
    pub(crate) fn reached(&self) -> Vec<String> {
        self.upstream.requests().into_iter().map(|request| request.target).collect()
    }

    /// Whether a request with such a target has reached the upstream.
    pub(crate) fn has_reached(&self, prefix: &str) -> bool {
        self.reached().iter().any(|target| target.starts_with(prefix))
    }
}

/// A client that keeps its sessions, with so many of them from full handshakes with this listener.
#[track_caller]
pub(crate) fn with_sessions(client: &Client, listener: SocketAddr, count: usize) -> (Client, Sessions) {
    let sessions = Sessions::new();
    for _ in 0..count {
        let fresh = Sessions::new();
        let mut connection =
            client.clone().sessions(&fresh).connect(listener).expect("a trusted client connects");
        assert_eq!(connection.get("/to-begin-a-session").expect("a response").status, 200);
        assert!(!connection.is_resumed(), "there was no session");
        eventually(DEADLINE, "a session arrives", || fresh.len() == 1);
        sessions.take(&fresh);
    }
    (client.clone().sessions(&sessions), sessions)
}

/// Writes a list of an authority where a gateway looks for lists.
pub(crate) fn publish(pki: &Pki, name: &str, authority: &Authority, crl: &Crl) -> PathBuf {
    pki.write(&format!("crl/{name}.crl"), authority.sign_crl(crl))
}

const REFUSED: &str = "new configuration refused, the running one stays";
/// How long a line that was written may be on its way to us.
const SAID_WITHIN: Duration = Duration::from_secs(5);
