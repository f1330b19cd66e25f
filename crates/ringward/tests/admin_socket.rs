//! What operators do to a running process: refuse clients, ask whom it trusts, rotate keys.
#![allow(clippy::unwrap_used, reason = "a failed expectation is a failed test")]

mod common;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use ringward_testkit::{
    Authority, Client, Closing, Crl, DEADLINE, Issued, Leaf, Process, Signal, eventually,
};
use serde_json::Value;

use self::common::{HOST, Running, World, ringward};

/// What a command came to.
#[derive(Debug)]
struct Ran {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Ran {
    #[track_caller]
    fn good(self) -> String {
        assert_eq!(self.code, Some(0), "{self:?}");
        self.stdout
    }

    #[track_caller]
    fn json(self) -> Value {
        serde_json::from_str(&self.good()).unwrap()
    }

    #[track_caller]
    fn fails(self, code: i32, part: &str) {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert!(self.stderr.contains(part), "{part}: {self:?}");
    }
}

fn run(arguments: &[&str]) -> Ran {
    let mut process = Process::start(ringward().args(arguments));
    let code = process.wait(DEADLINE).code();
    Ran { code, stdout: process.stdout(), stderr: process.stderr() }
}

/// A world whose process can be asked.
struct Operated {
    world: World,
    other: Issued,
}

impl Operated {
    fn new() -> Operated {
        let world = World::new();
        world.edit_config("workers = 2", "workers = 2\nstate_dir = \"state\"");
        world.edit_config("[admin]", "[admin]\nsocket = \"admin.sock\"");
        let other = world.root.issue(&Leaf::client("partner-b"));
        Operated { world, other }
    }

    fn socket(&self) -> PathBuf {
        self.world.path("admin.sock")
    }

    fn start(&self) -> Running {
        let running = self.world.start();
        running.wait_for_message("admin socket listening");
        running
    }

    /// Runs a command against the process.
    fn ask(&self, arguments: &[&str]) -> Ran {
        let socket = self.socket();
        run(&[arguments, &["--socket", socket.to_str().unwrap()]].concat())
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        self.world.pki.write(name, content).display().to_string()
    }

    fn client(&self, identity: &Issued) -> Client {
        Client::new(HOST, &self.world.root).identity(identity)
    }

    #[track_caller]
    fn assert_admitted(&self, running: &Running, identity: &Issued) {
        let mut connection = self.client(identity).connect(running.edge).unwrap();
        assert_eq!(connection.get("/open").unwrap().status, 200);
    }

    #[track_caller]
    fn assert_refused(&self, running: &Running, identity: &Issued) {
        let refusal = self.client(identity).refusal(running.edge);
        assert!(refusal.alert().is_some(), "{refusal}");
    }
}

fn leaf_pem(issued: &Issued) -> String {
    // Without its intermediates and its issuer.
    issued.presenting(&[]).chain_pem()
}

#[test]
fn a_revoked_client_loses_its_connections_and_comes_back_in_no_way() {
    let operated = Operated::new();
    let mut running = operated.start();
    let mut partner = operated.client(&operated.world.partner).connect(running.edge).unwrap();
    let mut other = operated.client(&operated.other).connect(running.edge).unwrap();
    for connection in [&mut partner, &mut other] {
        assert_eq!(connection.get("/open").unwrap().status, 200);
    }
    let certificate = operated.write("revoked.pem", leaf_pem(&operated.world.partner));
    let revoke = ["revoke", "--cert", certificate.as_str(), "--reason", "laptop lost", "--json"];
    let revoked = operated.ask(&revoke).json();
    assert_eq!((&revoked["known"], &revoked["hits"]["connections"]), (&false.into(), &1.into()), "{revoked}");
    assert_eq!(revoked["hits"]["examined"], 2, "{revoked}");
    assert_eq!(revoked["hits"]["clients"][0]["identity"], "CN=partner-a", "{revoked}");

    assert_eq!(partner.wait_closed().1, Closing::Notified);
    assert_eq!(other.get("/open").unwrap().status, 200, "nobody else is hit");
    operated.assert_refused(&running, &operated.world.partner);
    let line: Value = serde_json::from_str(&running.wait_for_message("changed by an operator")).unwrap();
    assert!(line["request"].as_str().unwrap().contains("laptop lost"), "{line}");
    assert_eq!(line["uid"], rustix_uid(), "{line}");

    // It survives the worst end of the process.
    running.process.kill();
    assert!(operated.socket().exists(), "the socket of a killed process stays behind");
    let running = operated.start();
    operated.assert_refused(&running, &operated.world.partner);
    operated.assert_admitted(&running, &operated.other);
    let again = operated.ask(&revoke).json();
    assert_eq!((&again["known"], &again["entry"]), (&true.into(), &revoked["entry"]));
    let list = operated.ask(&["revoke", "list"]).good();
    assert!(list.contains("laptop lost") && list.contains("for ever"), "{list}");

    let removed = operated.ask(&["revoke", "--cert", &certificate, "--remove"]).good();
    assert!(removed.contains("no longer refused"), "{removed}");
    operated.assert_admitted(&running, &operated.world.partner);
    assert!(operated.ask(&["revoke", "list"]).good().contains("the deny list is empty"));
}

/// Our own, as the kernel tells it to the process.
fn rustix_uid() -> u32 {
    fs::metadata("/proc/self").unwrap().uid()
}

#[test]
fn every_kind_of_target_is_found() {
    let operated = Operated::new();
    let intermediate = operated.world.root.intermediate("Below");
    let below = intermediate.issue(&Leaf::client("partner-c"));
    let running = operated.start();
    let root = operated.write("root.pem", operated.world.root.pem());
    let middle = operated.write("below.pem", intermediate.pem());
    let certificate = operated.write("partner-c.pem", leaf_pem(&below));
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let (serial, spki, fingerprint) =
        (hex(below.serial()), hex(&below.spki_sha256()), hex(&below.fingerprint_sha256()));
    let colons = fingerprint.as_bytes().chunks(2).map(|pair| str::from_utf8(pair).unwrap().to_uppercase());
    let colons = colons.collect::<Vec<_>>().join(":");
    // The last one is of the root, so it hits everybody.
    let targets: [(&[&str], u64); 9] = [
        (&["--serial", &serial, "--issuer-cert", &middle], 1),
        (&["--cert", &certificate, "--issuer-cert", &middle], 1),
        (&["--cert", &certificate], 1),
        (&["--spki", &spki], 1),
        (&["--fingerprint", &colons], 1),
        (&["--identity", "CN=partner-c"], 1),
        (&["--ca", &middle], 1),
        (&["--serial", &serial, "--issuer-cert", &root], 0),
        (&["--ca", &root], 2),
    ];
    let mut witness = operated.client(&operated.other).connect(running.edge).unwrap();
    assert_eq!(witness.get("/open").unwrap().status, 200);
    for (target, expected) in targets {
        let mut connection = operated.client(&below).connect(running.edge).unwrap();
        assert_eq!(connection.get("/open").unwrap().status, 200, "{target:?}");
        let preview = operated.ask(&[&["revoke", "--preview", "--json"], target].concat()).json();
        assert_eq!(preview["connections"], expected, "{target:?}: {preview}");
        assert_eq!(connection.get("/open").unwrap().status, 200, "{target:?}: a preview changes nothing");
        if expected == 1 {
            operated.ask(&[&["revoke", "--reason", "test"], target].concat()).good();
            assert_eq!(connection.wait_closed().1, Closing::Notified, "{target:?}");
            operated.assert_refused(&running, &below);
            operated.ask(&[&["revoke", "--remove"], target].concat()).good();
        }
    }
    assert_eq!(witness.get("/open").unwrap().status, 200, "was never meant");
}

#[test]
fn trust_is_shown_and_compared() {
    let operated = Operated::new();
    let running = operated.start();
    let mut connection = operated.client(&operated.other).connect(running.edge).unwrap();
    assert_eq!(connection.get("/open").unwrap().status, 200);
    let status = operated.ask(&["trust", "status", "--json"]).json();
    let bundle = &status["bundles"][0];
    assert_eq!(
        (&bundle["name"], &bundle["connections"], &status["connections"]),
        (&"partners".into(), &1.into(), &1.into())
    );
    assert_eq!(bundle["cas"][0]["subject"], "CN=Test Root");
    let text = operated.ask(&["trust", "status"]).good();
    assert!(text.contains("CN=Test Root") && text.contains("ticket keys of this process alone"), "{text}");
    assert!(operated.ask(&["trust", "diff"]).good().contains("no difference"));

    // Another host: the same but for its own ticket keys.
    let export = operated.write("export.json", status.to_string());
    assert!(operated.ask(&["trust", "diff", &export]).good().contains("no difference"));
    // A file that would be refused on reload is no reason to change anything, and says why.
    operated
        .world
        .edit_config("[trust.partners]\nca = [\"trust/\"]", "[trust.partners]\nca = [\"elsewhere/\"]");
    operated.ask(&["trust", "diff"]).fails(1, "would be refused");
    operated.world.edit_config("elsewhere/", "trust/");

    let next = Authority::root("Next Root");
    let bundle = operated.world.pki.write_authorities("next.pem", &[&next]).display().to_string();
    let diff = operated.ask(&["trust", "diff", &bundle]);
    assert_eq!(diff.code, Some(3), "{diff:?}");
    assert!(
        diff.stdout.contains("- bundle partners, CA") && diff.stdout.contains("+ bundle partners, CA"),
        "{diff:?}"
    );
    operated.ask(&["revoke", "--identity", "x", "--reason", "r"]).good();
    let diff = operated.ask(&["trust", "diff", &export, "--json"]);
    assert_eq!(diff.code, Some(3), "{diff:?}");
    let diff: Value = serde_json::from_str(&diff.stdout).unwrap();
    assert_eq!(diff["differences"][0]["what"], "deny list");
    operated.ask(&["trust", "diff", "--bundle", "nobody", &bundle]).fails(2, "there are: partners");
}

#[test]
fn a_file_is_tried_on_the_clients_of_the_moment() {
    let operated = Operated::new();
    let running = operated.start();
    let mut connections: Vec<_> = [&operated.world.partner, &operated.other]
        .map(|identity| operated.client(identity).connect(running.edge).unwrap())
        .into();
    for connection in &mut connections {
        assert_eq!(connection.get("/open").unwrap().status, 200);
    }
    let hits = |file: &str| {
        operated.ask(&["trust", "preview", file, "--json"]).json()["hits"]["connections"].clone()
    };
    let crl = Crl::new().number(7).revoke(operated.other.serial());
    let file = operated.write("next.crl", operated.world.root.sign_crl(&crl));
    // Lists are not looked at unless the bundle says so.
    assert_eq!(hits(&file), 0);
    operated.world.pki.write("crl/first.crl", operated.world.root.sign_crl(&Crl::new().number(1)));
    let applied = running.reloads("applied");
    operated.world.edit_config("ca = [\"trust/\"]", "ca = [\"trust/\"]\ncrl = [\"crl/\"]");
    running.wait_for_reload("applied", applied);
    assert_eq!(hits(&file), 1);
    let pem = operated.write("next.crl.pem", operated.world.root.sign_crl_pem(&crl));
    assert_eq!(hits(&pem), 1);
    let text = operated.ask(&["trust", "preview", &pem]).good();
    assert!(text.contains("CN=partner-b") && text.contains("would end 1 of 2"), "{text}");

    let both =
        operated.world.pki.write_authorities("both.pem", &[&operated.world.root, &Authority::root("Next")]);
    assert_eq!(hits(both.to_str().unwrap()), 0);
    let next = operated.world.pki.write_authorities("next.pem", &[&Authority::root("Next")]);
    assert_eq!(hits(next.to_str().unwrap()), 2);

    let deny = "{\"ringward_deny_list\":1}\n\
        {\"deny\":{\"identity\":\"CN=partner-a\"},\"reason\":\"r\",\"added\":1,\"by\":\"b\"}\n";
    assert_eq!(hits(&operated.write("deny.jsonl", deny)), 1);
    let stranger = Authority::root("Stranger").sign_crl(&crl);
    operated
        .ask(&["trust", "preview", &operated.write("stranger.crl", stranger)])
        .fails(1, "no revocation list that can be used");
    operated.ask(&["trust", "preview", &operated.write("junk", "junk")]).fails(1, "no deny list");
    for connection in &mut connections {
        assert_eq!(connection.get("/open").unwrap().status, 200, "nothing was changed");
    }
}

#[test]
fn ticket_keys_are_made_rotated_and_shown_without_their_secrets() {
    let operated = Operated::new();
    let file = operated.world.path("tickets.ring").display().to_string();
    let made = run(&["keys", "new", "--file", &file, "--json"]).json();
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o7777, 0o600);
    run(&["keys", "new", "--file", &file]).fails(2, "exists already");
    let role = |status: &Value, role: &str| {
        let key = status["keys"].as_array().unwrap().iter().find(|key| key["role"] == role);
        key.map(|key| key["id"].as_str().unwrap().to_owned())
    };
    // Keys that begin to seal in the same second have no order: wait for the next one.
    let next_second = || {
        let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let begun = now();
        eventually(DEADLINE, "another second", || now() > begun);
    };
    next_second();
    let rotated = run(&["keys", "rotate", "--file", &file, "--json"]).json();
    assert_eq!(role(&rotated, "current"), role(&made, "next"));
    assert_eq!(role(&rotated, "previous"), role(&made, "current"));

    // Of the process: first its own, then those of the file.
    let running = operated.start();
    let own = operated.ask(&["keys", "show", "--json"]).json();
    next_second();
    let next = operated.ask(&["keys", "rotate", "--json"]).json();
    assert_eq!((role(&next, "current"), &next["file"]), (role(&own, "next"), &Value::Null));
    let applied = running.reloads("applied");
    operated.world.edit_config("[log]", "[keys]\nfile = \"tickets.ring\"\n\n[log]");
    running.wait_for_reload("applied", applied);
    let shared = operated.ask(&["keys", "show", "--json"]).json();
    assert_eq!(role(&shared, "current"), role(&rotated, "current"));
    next_second();
    let next = operated.ask(&["keys", "rotate", "--json"]).json();
    assert_eq!(role(&next, "current"), role(&shared, "next"));
    let in_file = run(&["keys", "show", "--file", &file, "--json"]).json();
    assert_eq!(in_file["keys"], next["keys"]);
    // Rotated elsewhere, and carried here.
    next_second();
    let elsewhere = run(&["keys", "rotate", "--file", &file, "--json"]).json();
    eventually(DEADLINE, "the process takes the file over", || {
        role(&operated.ask(&["keys", "show", "--json"]).json(), "current") == role(&elsewhere, "current")
    });

    let secrets: Vec<String> = fs::read_to_string(&file)
        .unwrap()
        .lines()
        .filter_map(|line| Some(line.strip_prefix("key ")?.split(' ').nth(1)?.to_owned()))
        .collect();
    assert!(secrets.len() >= 3);
    let shown = operated.ask(&["keys", "show"]).good() + &operated.ask(&["trust", "status", "--json"]).good();
    let said = shown + &running.process.stderr() + &running.process.stdout();
    assert!(secrets.iter().all(|secret| !said.contains(secret)));
}

#[test]
fn a_ring_that_is_not_fit_is_refused_at_the_start() {
    let operated = Operated::new();
    let ring = operated.world.path("tickets.ring");
    operated.world.edit_config("[log]", "[keys]\nfile = \"tickets.ring\"\n\n[log]");
    let refused = |part: &str| {
        for command in ["run", "check"] {
            run(&[command, "-c", operated.world.path("ringward.toml").to_str().unwrap()]).fails(2, part);
        }
    };
    refused("tickets.ring");
    run(&["keys", "new", "--file", ring.to_str().unwrap()]).good();
    let good = fs::read_to_string(&ring).unwrap();
    let secret =
        good.lines().find_map(|line| line.strip_prefix("key ")?.split(' ').nth(1)).unwrap().to_owned();
    fs::write(&ring, good.replace(&secret, &"00".repeat(32))).unwrap();
    refused("one byte repeated");
    fs::write(&ring, good.replace(&secret, &secret[2..])).unwrap();
    refused("64 hexadecimal digits");
    fs::write(&ring, &good).unwrap();
    fs::set_permissions(&ring, fs::Permissions::from_mode(0o640)).unwrap();
    refused("accessible to others");
}

#[test]
fn only_our_user_and_root_are_heard() {
    let operated = Operated::new();
    let running = operated.start();
    assert_eq!(fs::metadata(operated.socket()).unwrap().permissions().mode() & 0o7777, 0o600);
    // The rest needs other users to try it with.
    if rustix_uid() != 0 {
        return;
    }
    let copy = tempfile::tempdir().unwrap();
    fs::set_permissions(copy.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let binary = copy.path().join("ringward");
    fs::copy(env!("CARGO_BIN_EXE_ringward"), &binary).unwrap();
    let socket = operated.socket();
    let as_nobody = || {
        let mut command = std::process::Command::new(&binary);
        command.args(["keys", "show", "--socket", socket.to_str().unwrap()]).uid(65_534).gid(65_534);
        let mut process = Process::start(&mut command);
        let code = process.wait(DEADLINE).code();
        Ran { code, stdout: process.stdout(), stderr: process.stderr() }
    };
    // First the directory and the mode keep them out; then, both opened by mistake, the word of the kernel.
    fs::set_permissions(operated.world.pki.path(), fs::Permissions::from_mode(0o755)).unwrap();
    as_nobody().fails(1, "may not be used by this user");
    fs::set_permissions(&socket, fs::Permissions::from_mode(0o666)).unwrap();
    as_nobody().fails(1, "closed the connection without an answer");
    let line: Value = serde_json::from_str(
        &running.wait_for_message("a client of the admin socket was refused: not our user, nor root"),
    )
    .unwrap();
    assert_eq!(line["uid"], 65_534, "{line}");
    operated.ask(&["keys", "show"]).good();
}

#[test]
fn a_command_does_not_talk_to_a_stranger() {
    if rustix_uid() != 0 {
        return;
    }
    // A directory of root that all may write to, and a socket there of somebody else.
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o1777)).unwrap();
    let path = dir.path().join("admin.sock");
    let mut command = std::process::Command::new("python3");
    let script = "import socket,sys,time\ns=socket.socket(socket.AF_UNIX)\ns.bind(sys.argv[1])\ns.listen()\nprint('up',flush=True)\ntime.sleep(600)";
    command.args(["-c", script, path.to_str().unwrap()]).uid(65_534).gid(65_534);
    let Ok(mut stranger) = command.stdout(std::process::Stdio::piped()).spawn() else { return };
    eventually(DEADLINE, "the stranger listens", || UnixStream::connect(&path).is_ok());
    run(&["keys", "show", "--socket", path.to_str().unwrap()]).fails(1, "belongs to a process of user 65534");
    stranger.kill().unwrap();
    stranger.wait().unwrap();
}

#[test]
fn two_processes_do_not_share_state_or_socket() {
    let operated = Operated::new();
    let mut running = operated.start();
    let config = operated.world.path("ringward.toml");
    run(&["run", "-c", config.to_str().unwrap()]).fails(2, "is in use by another process");
    // With a directory of its own it still is not to have the socket.
    operated.world.edit_config("state_dir = \"state\"", "state_dir = \"state2\"");
    run(&["run", "-c", config.to_str().unwrap()]).fails(2, "admin.sock` is in use");
    operated.ask(&["keys", "show"]).good();
    operated.world.edit_config("state_dir = \"state2\"", "state_dir = \"state\"");
    running.process.signal(Signal::TERM);
    assert!(running.process.wait(DEADLINE).success());
    assert!(!operated.socket().exists(), "a process that ends takes its socket along");
    operated.ask(&["keys", "show"]).fails(1, "no ringward listens");
}

#[test]
fn damaged_state_keeps_the_process_from_starting() {
    let operated = Operated::new();
    let mut running = operated.start();
    operated.ask(&["revoke", "--identity", "x", "--reason", "r"]).good();
    running.process.kill();
    let file = operated.world.path("state/deny-list");
    let intact = fs::read(&file).unwrap();
    fs::write(&file, &intact[..intact.len() - 10]).unwrap();
    let config = operated.world.path("ringward.toml");
    run(&["run", "-c", config.to_str().unwrap()]).fails(2, "is damaged");
    fs::write(&file, &intact).unwrap();
    operated.start();
}

#[test]
fn commands_say_how_they_are_used() {
    let operated = Operated::new();
    for (arguments, part) in [
        (&["revoke"][..], "required"),
        (&["revoke", "--identity", "a"], "--reason"),
        (&["revoke", "--identity", "a", "--spki", "b", "--reason", "r"], "cannot be used with"),
        (&["revoke", "--serial", "01", "--reason", "r"], "--issuer-cert"),
        (&["revoke", "--identity", "a", "--preview", "--remove"], "cannot be used with"),
        (&["revoke", "--identity", "a", "--reason", "r", "--expires", "1y"], "30d"),
        (&["revoke", "--spki", "abc", "--reason", "r"], "64 hexadecimal digits"),
        (&["revoke", "--cert", "/no/such", "--reason", "r"], "cannot be read"),
        (&["keys", "new", "--file", "x", "--rotate-every", "1m"], "`1h` to `24h`"),
        (&["trust"], "Usage"),
    ] {
        run(arguments).fails(2, part);
    }
    operated.ask(&["trust", "status"]).fails(1, "no ringward listens");
    // By way of the configuration.
    let config = operated.world.path("ringward.toml").display().to_string();
    run(&["trust", "status", "-c", &config]).fails(1, "no ringward listens");
    let _running = operated.start();
    run(&["trust", "status", "-c", &config]).good();
    operated.world.edit_config("socket = \"admin.sock\"\n", "");
    run(&["trust", "status", "-c", &config]).fails(2, "has no `socket`");
}
