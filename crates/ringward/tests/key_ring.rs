//! The keys that seal session tickets: shared by processes, rotated while they run, and refused if anybody could know them.
#![allow(clippy::unwrap_used, reason = "a failed expectation here is a failed test")]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use ringward_testkit::{Authority, Client, DEADLINE, Leaf, Pki, Sessions, eventually};

use self::support::{Builder, Gateway, HOST, Host, ringward, with_sessions};

/// A ring, made as operators make it.
fn new_ring(pki: &Pki) -> PathBuf {
    let file = pki.path().join("tickets.ring");
    let output = ringward().args(["keys", "new", "--file"]).arg(&file).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let again = ringward().args(["keys", "new", "--file"]).arg(&file).output().unwrap();
    assert!(!again.status.success(), "an existing ring is not overwritten");
    file
}

fn rotate(file: &Path) {
    let output = ringward().args(["keys", "rotate", "--file"]).arg(file).output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

/// A process that has the ring in this file, which it watches.
fn sharing(root: &Authority, file: &Path) -> Builder {
    Gateway::builder().signed_by(root).section(&format!("[keys]\nfile = {:?}", file.to_str().unwrap()))
}

/// Whether a session of the one process is resumed by the other. It is let in anyhow.
#[track_caller]
fn carries(client: &Client, from: &Gateway, to: &Gateway) -> bool {
    let (client, _) = with_sessions(client, from.edge, 1);
    offer(&client, to)
}

#[track_caller]
fn offer(client: &Client, to: &Gateway) -> bool {
    let mut connection = client.connect(to.edge).unwrap();
    assert_eq!(connection.get("/").unwrap().status, 200);
    connection.is_resumed()
}

#[test]
fn processes_with_one_ring_resume_each_others_sessions() {
    let (pki, root) = (Pki::new(), Authority::root("Test Root"));
    let ring = new_ring(&pki);
    let (one, mut two) = (sharing(&root, &ring).start(), sharing(&root, &ring).start());
    let client = Client::new(HOST, &root).identity(&root.issue(&Leaf::client("roaming")));
    assert!(carries(&client, &one, &two) && carries(&client, &two, &one));
    // Without the ring, or with another one, it is a full handshake.
    let alone = Gateway::builder().signed_by(&root).start();
    let elsewhere = Pki::new();
    let stranger = sharing(&root, &new_ring(&elsewhere)).start();
    for other in [&alone, &stranger] {
        assert!(!carries(&client, &one, other) && !carries(&client, other, &one));
    }
    // A restart forgets nothing.
    let (client, _) = with_sessions(&client, two.edge, 1);
    two.kill_and_start_again();
    assert!(offer(&client, &two));
}

#[test]
fn a_shared_ring_carries_no_session_to_other_rules() {
    let (pki, root) = (Pki::new(), Authority::root("Test Root"));
    let ring = new_ring(&pki);
    let one = sharing(&root, &ring).start();
    let host = |keys: &str| Host::new(&[HOST]).client_auth(keys);
    let others = Authority::root("Others");
    let client = Client::new(HOST, &root).identity(&root.issue(&Leaf::client("roaming")));
    for (what, other) in [
        (
            "a CA more",
            sharing(&root, &ring)
                .trust("more", &[&root, &others])
                .host(host("mode = \"required\", trust = \"more\"")),
        ),
        (
            "a bundle more",
            sharing(&root, &ring)
                .trust("others", &[&others])
                .host(host("mode = \"required\", trust = [\"partners\", \"others\"]")),
        ),
        ("another mode", sharing(&root, &ring).host(host("mode = \"optional\", trust = \"partners\""))),
        ("another limit", {
            sharing(&root, &ring)
                .host(host("mode = \"required\", trust = \"partners\", intermediates_max = 1"))
        }),
        ("another age", {
            sharing(&root, &ring)
                .host(host("mode = \"required\", trust = \"partners\", max_auth_age = \"1h\""))
        }),
        ("a profile", sharing(&root, &ring).trust_key("profile = { leaf_lifetime_max = \"365d\" }")),
    ] {
        let other = other.start();
        assert!(!carries(&client, &one, &other), "{what}");
        assert!(!carries(&client, &other, &one), "{what}");
    }
    // A host that does not trust the client at all lets it in by no session either.
    let strict = host("mode = \"required\", trust = \"others\"");
    let foreign = sharing(&root, &ring).trust("others", &[&others]).host(strict).start();
    let (client, _) = with_sessions(&client, one.edge, 1);
    assert!(client.connect(foreign.edge).and_then(|mut connection| connection.get("/")).is_err());
    assert!(foreign.upstream.requests().is_empty());
}

#[test]
fn rings_that_anybody_could_know_are_refused_at_the_start() {
    let root = Authority::root("Test Root");
    let good = fs::read_to_string(new_ring(&Pki::new())).unwrap();
    let keys: Vec<&str> = good.lines().filter(|line| line.starts_with("key ")).collect();
    let words: Vec<Vec<&str>> = keys.iter().map(|line| line.split(' ').collect()).collect();
    let (secret, id) = (words[0][2], words[0][1]);
    let edited = |from: &str, to: &str| {
        assert!(good.contains(from));
        good.replace(from, to)
    };
    for (what, content, mode, said) in [
        ("a zero secret", edited(secret, &"0".repeat(64)), 0o600, "no random number"),
        ("one byte repeated", edited(secret, &"a7".repeat(32)), 0o600, "no random number"),
        ("a short secret", edited(secret, &secret[..62]), 0o600, "64 hexadecimal digits"),
        ("a secret twice", edited(words[1][2], secret), 0o600, "repeats the secret"),
        ("a name twice", edited(words[1][1], id), 0o600, "repeats the id"),
        ("no key", good.replace("\nkey ", "\n# key "), 0o600, "no key of the ring"),
        ("nothing", String::new(), 0o600, "not a key ring"),
        ("something else", root.key_pem(), 0o600, "not a key ring"),
        ("everybody may read it", good.clone(), 0o644, "accessible to others"),
        ("the group may read it", good.clone(), 0o640, "accessible to others"),
        ("it is too large", good.clone() + &"# a comment\n".repeat(2000), 0o600, "bytes"),
    ] {
        let pki = Pki::new();
        let file = pki.write("tickets.ring", &content);
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        let refusal = sharing(&root, &file).refusal();
        assert!(refusal.contains("tickets.ring") && refusal.contains(said), "{what}: {refusal}");
        for secret in words.iter().map(|words| words[2]) {
            assert!(!refusal.contains(&secret[..16]), "{what}: it shows a secret: {refusal}");
        }
        let check = ringward().arg("check").arg("-c").arg(write_config(&pki, &root, &file)).output().unwrap();
        let said_by_check =
            String::from_utf8_lossy(&check.stderr).into_owned() + &String::from_utf8_lossy(&check.stdout);
        assert!(!check.status.success() && said_by_check.contains(said), "{what}: {said_by_check}");
    }
    // Even one that nobody else could read is missed if it is not there.
    let refusal = sharing(&root, Path::new("/nonexistent/tickets.ring")).refusal();
    assert!(refusal.contains("/nonexistent/tickets.ring"), "{refusal}");
}

/// A configuration with this ring, for `ringward check`.
fn write_config(pki: &Pki, root: &Authority, ring: &Path) -> PathBuf {
    pki.write_pem("host", &root.issue(&Leaf::server(HOST)));
    pki.write_authorities("ca.pem", &[root]);
    pki.write(
        "ringward.toml",
        format!(
            "[keys]\nfile = {:?}\n[trust.partners]\nca = [\"ca.pem\"]\n[cluster.echo]\nendpoints = [\"127.0.0.1:9\"]\n\
             [[listener]]\nname = \"edge\"\nbind = [\"127.0.0.1:0\"]\n[[listener.host]]\nnames = [\"{HOST}\"]\n\
             certificate = {{ chain = \"host.pem\", key = \"host.key\" }}\n\
             client_auth = {{ mode = \"required\", trust = \"partners\" }}\ndanger_no_policy = true\n\
             [[listener.host.route]]\nmatch = {{ path = \"/{{rest...}}\" }}\ncluster = \"echo\"\n",
            ring.to_str().unwrap()
        ),
    )
}

#[test]
fn a_rotation_loses_no_session() {
    let (pki, root) = (Pki::new(), Authority::root("Test Root"));
    let ring = new_ring(&pki);
    let one = sharing(&root, &ring).start();
    // The other one has a copy, which comes later.
    let copy = pki.write("copy.ring", fs::read(&ring).unwrap());
    let two = sharing(&root, &copy).start();
    let client = Client::new(HOST, &root).identity(&root.issue(&Leaf::client("roaming")));
    let (before, _) = with_sessions(&client, one.edge, 1);
    let old = keys_of(&one);
    one.change(|_| rotate(&ring));
    let new = keys_of(&one);
    assert_ne!(old, new);
    assert!(offer(&before, &one), "what the previous key has sealed is opened");
    assert!(carries(&client, &one, &two), "the next key was there before it sealed");
    assert!(carries(&client, &two, &one), "and the one before it still opens");
    two.change(|_| drop(pki.write("copy.ring", fs::read(&ring).unwrap())));
    assert_eq!(keys_of(&two), new);
    assert!(carries(&client, &one, &two) && carries(&client, &two, &one));
}

/// Names of the keys and what they do, as the file says. Secrets are never shown.
fn keys_of(gateway: &Gateway) -> Vec<(String, String)> {
    let text = fs::read_to_string(gateway.pki.path().join("ringward.toml")).unwrap();
    let file = text.split("[keys]\nfile = \"").nth(1).and_then(|rest| rest.split('"').next()).unwrap();
    let output = ringward().args(["keys", "show", "--json", "--file", file]).output().unwrap();
    let shown = String::from_utf8(output.stdout).unwrap();
    for line in fs::read_to_string(file).unwrap().lines().filter(|line| line.starts_with("key ")) {
        assert!(!shown.contains(&line.split(' ').nth(2).unwrap()[..16]), "{shown}");
    }
    let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
    let keys = shown["keys"].as_array().unwrap().iter();
    keys.map(|key| (key["id"].as_str().unwrap().to_owned(), key["role"].as_str().unwrap().to_owned()))
        .collect()
}

#[test]
fn a_broken_ring_while_running_changes_nothing() {
    let (pki, root) = (Pki::new(), Authority::root("Test Root"));
    let ring = new_ring(&pki);
    let good = fs::read_to_string(&ring).unwrap();
    let gateway = sharing(&root, &ring).start();
    let (client, sessions) = with_sessions(&gateway.client(), gateway.edge, 4);
    for broken in [String::new(), good[..good.len() / 2].to_owned(), good.replace("\nkey ", "\n# key ")] {
        let line = gateway.refused_change(|_| drop(pki.write("tickets.ring", &broken)));
        assert!(line.to_string().contains("tickets.ring"), "{line}");
        assert!(offer(&client, &gateway), "{broken}");
    }
    pki.write("tickets.ring", &good);
    rotate(&ring);
    eventually(DEADLINE, "the good one is taken", || gateway.reloads("applied") > 0.0);
    assert!(offer(&client, &gateway) && !sessions.is_empty());
}

/// Of a process without a ring file, and by hand.
#[test]
fn keys_of_a_process_are_rotated_by_command() {
    let gateway = Gateway::builder().stateful().start();
    let show = || gateway.ask_json(&["keys", "show", "--json"]);
    let (client, _) = with_sessions(&gateway.client(), gateway.edge, 1);
    let before = show();
    let after = gateway.ask_json(&["keys", "rotate", "--json"]);
    assert_eq!(show()["keys"], after["keys"]);
    assert_ne!(before["keys"], after["keys"]);
    assert!(before["file"].is_null() && after["keys"].as_array().unwrap().len() >= 2, "{after}");
    assert!(offer(&client, &gateway));
    // Nobody else can do it.
    let socket = gateway.pki.path().join("admin.sock");
    assert_eq!(fs::metadata(socket).unwrap().permissions().mode() & 0o777, 0o600);
    let sessions = Sessions::new();
    assert!(!offer(&gateway.client().sessions(&sessions), &gateway));
}
