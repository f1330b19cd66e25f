//! Hot upgrade: another process takes over, and nobody who connects or resumes notices.
#![allow(clippy::unwrap_used, reason = "a failed expectation is a failed test")]
#![allow(clippy::print_stderr, reason = "figures are shown")]

mod common;

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use ringward_testkit::{DEADLINE, Process, Script, Signal, eventually, scrape};
use rustix::process::{Pid, kill_process, test_kill_process};
use serde_json::Value;

use self::common::{Running, World, ringward};

/// A world whose process can be asked, and is started through a link, as where several versions are installed.
struct Stage {
    world: World,
    running: Running,
    /// Processes that have taken over, the last of which may run.
    heirs: Vec<u32>,
}

impl Stage {
    fn new() -> Stage {
        Stage::with(&[])
    }

    fn with(variables: &[(&str, &str)]) -> Stage {
        Stage::of(upgradable_world(), variables)
    }

    fn of(world: World, variables: &[(&str, &str)]) -> Stage {
        let running = start(&world, variables);
        Stage { world, running, heirs: Vec::new() }
    }

    /// A command to the process that serves: exit code, output and errors.
    fn ask(&self, arguments: &[&str]) -> (Option<i32>, String, String) {
        let mut command = ringward();
        command.args(arguments).arg("--socket").arg(self.world.path("admin.sock"));
        let mut process = Process::start(&mut command);
        let code = process.wait(2 * DEADLINE).code();
        (code, process.stdout(), process.stderr())
    }

    /// An upgrade that succeeds; what is said about it.
    #[track_caller]
    fn upgrade(&mut self) -> Value {
        let (code, text, error) = self.ask(&["upgrade", "--json"]);
        assert_eq!(code, Some(0), "{text} {error} {}", self.running.process.stderr());
        let report: Value = serde_json::from_str(&text).unwrap();
        self.heirs.push(u32::try_from(report["process"].as_u64().unwrap()).unwrap());
        report
    }

    /// Who has the state directory.
    fn holder(&self) -> String {
        fs::read_to_string(self.world.path("state/lock")).unwrap()
    }

    #[track_caller]
    fn assert_holder(&self, number: u32) {
        assert_eq!(self.holder(), format!("process {number}\n"));
    }

    #[track_caller]
    fn assert_serves(&self) {
        let mut connection = self.world.client().connect(self.running.edge).unwrap();
        assert_eq!(connection.get("/open").unwrap().status, 200);
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        for heir in self.heirs.iter().filter_map(|heir| pid(*heir)) {
            let _ = kill_process(heir, Signal::KILL);
        }
    }
}

/// What [`Stage`] has.
fn upgradable_world() -> World {
    let world = World::new();
    world.edit_config("workers = 2", "workers = 2\nstate_dir = \"state\"\ntrust_grace = \"1s\"");
    world.edit_config("[admin]", "[admin]\nsocket = \"admin.sock\"");
    // Longer than any test waits: what ends before has a better reason.
    world.edit_config("drain_timeout = \"10s\"", "drain_timeout = \"60s\"");
    world.upstream.on("/open", Script::new().respond(200, &[], "open"));
    symlink(ringward().get_program(), world.path("ringward")).unwrap();
    world
}

fn pid(number: u32) -> Option<Pid> {
    Pid::from_raw(i32::try_from(number).unwrap())
}

fn runs(number: u32) -> bool {
    pid(number).is_some_and(|pid| test_kill_process(pid).is_ok())
}

/// As [`World::start`], through the link.
fn start(world: &World, variables: &[(&str, &str)]) -> Running {
    let mut command = Command::new(world.path("ringward"));
    command.env_remove("CREDENTIALS_DIRECTORY").envs(variables.iter().copied());
    let process = Process::start(command.arg("run").arg("-c").arg(world.path("ringward.toml")));
    let address = |message: &str| -> SocketAddr {
        let wanted = format!("\"message\":\"{message}\"");
        let line = process.wait_for_line(DEADLINE, |line| line.contains(&wanted));
        serde_json::from_str::<Value>(&line).unwrap()["address"].as_str().unwrap().parse().unwrap()
    };
    let (edge, admin) = (address("listening"), address("admin listening"));
    process.wait_for_line(DEADLINE, |line| line.contains("\"message\":\"ready\""));
    Running { process, edge, admin }
}

#[test]
fn a_new_process_serves_resumes_and_is_asked_where_the_old_one_was() {
    let mut stage = Stage::new();
    let client = stage.world.client().resuming();
    let mut kept = client.connect(stage.running.edge).unwrap();
    assert_eq!(kept.get("/open").unwrap().status, 200);
    let (code, ..) = stage.ask(&["revoke", "--identity", "somebody", "--reason", "lost"]);
    assert_eq!(code, Some(0));

    let report = stage.upgrade();
    assert_eq!(report["outcome"], "handed_over");
    assert_eq!(report["draining_connections"], 1, "{report}");
    let first = stage.heirs[0];
    assert!(runs(first) && first != stage.running.process.id());
    // An idle connection is ended, and the next one resumes the session elsewhere.
    kept.wait_closed();
    assert_eq!(stage.running.process.wait(DEADLINE).code(), Some(0), "the old one has ended");
    let mut resumed = client.connect(stage.running.edge).unwrap();
    assert_eq!(resumed.get("/open").unwrap().status, 200);
    assert!(resumed.is_resumed(), "the ticket keys were handed over");

    // What was refused before still is, and further changes are taken.
    let (code, text, error) = stage.ask(&["revoke", "list"]);
    assert!(code == Some(0) && text.contains("somebody"), "{text} {error}");
    let (code, _, error) = stage.ask(&["revoke", "--identity", "somebody else", "--reason", "lost"]);
    assert_eq!(code, Some(0), "{error}");
    assert_eq!(stage.ask(&["keys", "rotate"]).0, Some(0));
    // Its own metrics are at the same address, and know nothing of the old one's.
    eventually(DEADLINE, "one resumed session", || {
        scrape(stage.running.admin).sum("ringward_handshakes_resumed_total", &[]) == 1.0
    });
    drop(resumed);

    // And once more.
    stage.upgrade();
    let second = stage.heirs[1];
    eventually(DEADLINE, "the former process ends", || !runs(first) || is_zombie(first));
    assert!(runs(second) && second != first);
    let mut again = client.connect(stage.running.edge).unwrap();
    assert!(again.get("/open").unwrap().status == 200 && again.is_resumed());
    let (_, text, _) = stage.ask(&["revoke", "list"]);
    assert!(text.contains("somebody else"), "{text}");
    drop(again);
    // It goes as any other.
    kill_process(pid(second).unwrap(), Signal::TERM).unwrap();
    eventually(DEADLINE, "nobody listens", || TcpStream::connect(stage.running.edge).is_err());
    eventually(DEADLINE, "the admin socket is gone", || !stage.world.path("admin.sock").exists());
}

/// Nobody may have waited for it yet.
fn is_zombie(number: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{number}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_none_or(|(_, state)| state.starts_with('Z'))
}

#[test]
fn no_connection_is_refused_or_reset_while_processes_follow_each_other() {
    const CLIENTS: usize = 8;
    const UPGRADES: usize = 4;
    let mut stage = Stage::new();
    let (stop, served) = (AtomicBool::new(false), AtomicUsize::new(0));
    let (client, edge) = (stage.world.client(), stage.running.edge);
    thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let mut connection = client.connect(edge).expect("a handshake");
                    let request = connection.head("GET", "/open", &[("connection", "close")]);
                    connection.send(&request).expect("a request");
                    assert_eq!(connection.response().expect("an answer").status, 200);
                    served.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let mut before = 0;
        for round in 0..UPGRADES {
            eventually(DEADLINE, "further connections", || {
                served.load(Ordering::Relaxed) > before + 4 * CLIENTS
            });
            before = served.load(Ordering::Relaxed);
            // The number of workers is no matter of the sockets.
            let (from, to) = ([2, 3, 1, 4][round], [3, 1, 4, 2][round]);
            stage.world.edit_config(&format!("workers = {from}"), &format!("workers = {to}"));
            stage.upgrade();
        }
        eventually(DEADLINE, "further connections", || served.load(Ordering::Relaxed) > before + 4 * CLIENTS);
        stop.store(true, Ordering::Relaxed);
    });
    eprintln!("{} connections during {UPGRADES} upgrades", served.into_inner());
    assert_eq!(stage.running.process.wait(DEADLINE).code(), Some(0));
}

#[test]
fn who_comes_alone_when_the_old_process_leaves_is_not_forgotten() {
    const ADDRESSES: usize = 60;
    const UPGRADES: usize = 25;
    // With a ring, one of those who wait on a socket is woken for a connection, and its accept may be called off at that moment.
    let world = upgradable_world();
    world.edit_config("workers = 2", "workers = 1");
    world.edit_config("drain_timeout = \"60s\"", "drain_timeout = \"1s\"");
    let all: Vec<String> = (1..=ADDRESSES).map(|number| format!("\"127.0.0.{number}:0\"")).collect();
    world.edit_config("bind = [\"127.0.0.1:0\"]", &format!("bind = [{}]", all.join(", ")));
    let mut stage = Stage::of(world, &[]);
    let log = stage.running.process.stderr();
    let events = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let listening = events.filter(|event| event["message"] == "listening");
    let edges: Vec<SocketAddr> =
        listening.map(|event| event["address"].as_str().unwrap().parse().unwrap()).collect();
    assert_eq!(edges.len(), ADDRESSES);
    for round in 0..UPGRADES {
        let former = stage.heirs.last().copied().unwrap_or_else(|| stage.running.process.id());
        stage.upgrade();
        // Its worker leaves within some milliseconds from now on.
        while runs(former) && !is_zombie(former) {
            for edge in &edges {
                let mut connection = TcpStream::connect(edge).unwrap();
                connection.set_read_timeout(Some(DEADLINE)).unwrap();
                connection.write_all(b"no ClientHello").unwrap();
                let answered = connection.read(&mut [0; 64]);
                assert!(answered.is_ok(), "{edge} at upgrade {round}: {answered:?}");
            }
        }
    }
}

#[test]
fn what_goes_wrong_leaves_the_old_process_as_it_was() {
    let stage = Stage::new();
    let (program, good) = (stage.world.path("ringward"), stage.world.path("ringward.toml"));
    let config = fs::read_to_string(&good).unwrap();
    let real = fs::read_link(&program).unwrap();
    let script = |text: &str| {
        fs::remove_file(&program).unwrap();
        fs::write(&program, format!("#!/bin/sh\n{text}\n")).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    };
    let busy = TcpListener::bind("127.0.0.1:0").unwrap();
    let cases: [(&str, &dyn Fn(), &str); 7] = [
        (
            "an address of somebody else",
            &|| {
                let both = format!("bind = [\"127.0.0.1:0\", \"{}\"]", busy.local_addr().unwrap());
                stage.world.edit_config("bind = [\"127.0.0.1:0\"]", &both);
            },
            "cannot listen on",
        ),
        (
            "a configuration that is refused",
            &|| stage.world.edit_config("policy = \"main\"", "policy = \"other\""),
            "policy",
        ),
        ("a program that fails", &|| script("exit 7"), "exit status: 7"),
        ("a program of another kind", &|| script("exec cat"), "not ready within 1 s"),
        ("a program that hangs", &|| script("exec sleep 600"), "not ready within 1 s"),
        (
            "a program that cannot be run",
            &|| fs::set_permissions(&program, fs::Permissions::from_mode(0o644)).unwrap(),
            "cannot be started",
        ),
        ("no program", &|| fs::remove_file(&program).unwrap(), "cannot be started"),
    ];
    for (name, spoil, reason) in cases {
        spoil();
        let (code, text, error) = stage.ask(&["upgrade", "--timeout", "1s"]);
        assert_eq!(code, Some(1), "{name}: {text} {error}");
        assert!(text.starts_with("nothing has changed") && text.contains(reason), "{name}: {text}");
        stage.assert_serves();
        stage.assert_holder(stage.running.process.id());
        // What was held is let go.
        let (code, _, error) = stage.ask(&["revoke", "--identity", name, "--reason", "a test"]);
        assert_eq!(code, Some(0), "{name}: {error}");
        assert_eq!(stage.ask(&["keys", "rotate"]).0, Some(0), "{name}");
        stage.world.pki.write("ringward.toml", &config);
    }
    let children = children_of(stage.running.process.id());
    assert!(children.is_empty(), "left behind: {children:?}");
    // As soon as it is mended, it works.
    let mut stage = stage;
    symlink(real, &program).unwrap();
    stage.upgrade();
    stage.assert_serves();
    let heir = stage.heirs[0];
    eventually(DEADLINE, "the new one has it", || stage.holder() == format!("process {heir}\n"));
}

/// Says that it is ready, and ends when it is told to serve.
const DIES_WHEN_READY: &str = r#"#!/usr/bin/env python3
import json, socket
other = socket.socket(fileno=0)
def heard():
    try:
        return json.loads(other.recv(1 << 16))
    except ValueError:
        return "keys"
while heard() != "end":
    pass
other.send(json.dumps({"ready": {"version": "9", "addresses": [], "operators": False}}).encode())
assert heard() == "commit"
"#;

#[test]
fn a_new_process_that_dies_when_it_is_told_to_serve_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(DEADLINE)).unwrap();
    let address = path.display().to_string();
    let stage = Stage::with(&[("NOTIFY_SOCKET", &address), ("WATCHDOG_USEC", "1000000")]);
    let program = stage.world.path("ringward");
    fs::remove_file(&program).unwrap();
    fs::write(&program, DIES_WHEN_READY).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let (code, text, error) = stage.ask(&["upgrade"]);
    assert_eq!(code, Some(1), "{text} {error}");
    assert!(text.contains("did not answer when it was told to serve"), "{text}");
    stage.assert_serves();
    assert_eq!(stage.ask(&["revoke", "--identity", "somebody", "--reason", "a test"]).0, Some(0));
    // It is still the main process, and says that it is well.
    manager.set_nonblocking(true).unwrap();
    let mut said = [0; 4096];
    while let Ok(length) = manager.recv(&mut said) {
        let message = String::from_utf8_lossy(&said[..length]);
        assert!(!message.contains("MAINPID"), "{message}");
    }
    said.fill(0);
    manager.set_nonblocking(false).unwrap();
    while !said.starts_with(b"WATCHDOG=1\n") {
        manager.recv(&mut said).expect("that all is well");
    }
}

/// Processes that it has started and that run.
fn children_of(number: u32) -> Vec<String> {
    let threads = fs::read_dir(format!("/proc/{number}/task")).unwrap();
    let children =
        threads.map(|thread| fs::read_to_string(thread.unwrap().path().join("children")).unwrap_or_default());
    let all: Vec<String> =
        children.flat_map(|line| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>()).collect();
    all.into_iter().filter(|child| !is_zombie(child.parse().unwrap())).collect()
}

#[test]
fn a_second_upgrade_waits_for_nobody() {
    let stage = Stage::new();
    let program = stage.world.path("ringward");
    fs::remove_file(&program).unwrap();
    let (mark, go_on) = (stage.world.path("started"), stage.world.path("go-on"));
    let text = format!(
        "#!/bin/sh\ntouch {}\nfor _ in $(seq 600); do [ -e {} ] && break; sleep 0.05; done\nexit 1\n",
        mark.display(),
        go_on.display()
    );
    fs::write(&program, text).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    thread::scope(|scope| {
        let first = scope.spawn(|| stage.ask(&["upgrade"]));
        eventually(DEADLINE, "it has begun", || mark.exists());
        let (code, text, _) = stage.ask(&["upgrade"]);
        assert!(code == Some(1) && text.contains("another upgrade is under way"), "{text}");
        // Meanwhile nothing is changed that the new process could have read already.
        let (code, _, error) = stage.ask(&["revoke", "--identity", "somebody", "--reason", "lost"]);
        assert!(code != Some(0) && error.contains("an upgrade is under way"), "{error}");
        let (code, _, error) = stage.ask(&["keys", "rotate"]);
        assert!(code != Some(0) && error.contains("an upgrade is under way"), "{error}");
        stage.assert_serves();
        fs::write(&go_on, "").unwrap();
        assert_eq!(first.join().unwrap().0, Some(1));
    });
}

#[test]
fn who_is_revoked_afterwards_is_cut_off_from_the_old_process_too() {
    let mut stage = Stage::new();
    let gate = ringward_testkit::Gate::new();
    stage.world.upstream.on("/open", Script::new().wait(&gate).respond(200, &[], ""));
    let mut connection = stage.world.client().connect(stage.running.edge).unwrap();
    let request = connection.head("GET", "/open", &[]);
    connection.send(&request).unwrap();
    gate.wait_for_arrivals(1, DEADLINE);
    stage.upgrade();
    stage.world.pki.write_pem("partner", &stage.world.partner);
    let partner = stage.world.path("partner.pem").display().to_string();
    let (code, _, error) = stage.ask(&["revoke", "--cert", &partner, "--reason", "compromised"]);
    assert_eq!(code, Some(0), "{error}");
    let (received, closing) = connection.wait_closed();
    assert!(!received.starts_with(b"HTTP/1.1 200"), "{closing:?}");
    gate.open();
    assert_eq!(stage.running.process.wait(DEADLINE).code(), Some(0));
}

#[test]
fn listeners_may_come_and_go_with_an_upgrade() {
    let mut stage = Stage::new();
    let old = stage.running.edge;
    // Another port, and the old one is given up.
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let next = free.local_addr().unwrap();
    drop(free);
    stage.world.edit_config("bind = [\"127.0.0.1:0\"]", &format!("bind = [\"{next}\"]"));
    stage.upgrade();
    stage.running.edge = next;
    stage.assert_serves();
    eventually(DEADLINE, "nobody listens on the old address", || TcpStream::connect(old).is_err());
    assert_eq!(stage.running.process.wait(DEADLINE).code(), Some(0));
}

#[test]
fn the_service_manager_is_told_who_serves() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(DEADLINE)).unwrap();
    let messages = |wanted: &str| -> Vec<String> {
        let mut all = Vec::new();
        let mut buffer = [0; 4096];
        loop {
            let length =
                manager.recv(&mut buffer).unwrap_or_else(|error| panic!("no {wanted}: {error}, but {all:?}"));
            let message = str::from_utf8(&buffer[..length]).unwrap().to_owned();
            let found = message.contains(wanted);
            all.push(message);
            if found {
                return all;
            }
        }
    };
    let address = path.display().to_string();
    let variables = [("NOTIFY_SOCKET", &*address), ("WATCHDOG_USEC", "2000000"), ("WATCHDOG_PID", "1")];
    let mut stage = Stage::with(&variables);
    assert!(messages("READY=1").len() == 1);
    stage.upgrade();
    let heir = stage.heirs[0];
    // The old one has the first word and the last, and the new one begins after it.
    messages(&format!("MAINPID={heir}\n"));
    let after = messages("READY=1");
    assert_eq!(after.len(), 1, "{after:?}");
    assert!(after[0].contains("STATUS=serving generation 1"), "{after:?}");
    // The watchdog is fed by the new process, whose number the manager could not know.
    messages("WATCHDOG=1");
    assert_eq!(stage.running.process.wait(DEADLINE).code(), Some(0));
    kill_process(pid(heir).unwrap(), Signal::TERM).unwrap();
    let last = messages("STOPPING=1");
    assert!(!last.iter().any(|message| message.contains("MAINPID")), "{last:?}");
}

#[test]
fn nobody_takes_over_from_nobody() {
    let world = World::new();
    let mut command = ringward();
    command.args(["run", "--successor", "-c"]).arg(world.path("ringward.toml"));
    let mut process = Process::start(&mut command);
    assert_eq!(process.wait(DEADLINE).code(), Some(2));
    assert!(process.stderr().contains("use `ringward upgrade`"), "{}", process.stderr());
}
