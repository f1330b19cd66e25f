//! The commands that look at trust and take it away: `ringward revoke`, `ringward trust`.
#![allow(clippy::unwrap_used, reason = "a failed expectation here is a failed test")]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;

use ringward_testkit::{
    Authority, Client, Connection, Crl, DEADLINE, Gate, Issued, Leaf, Script, eventually,
};
use serde_json::Value;

use self::support::{Gateway, HOST, Host, publish, ringward};

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn admits(gateway: &Gateway, client: &Client, target: &str) -> bool {
    client.connect(gateway.edge).and_then(|mut connection| connection.get(target)).is_ok()
}

/// Clients of one CA, and what each way to name the first of them hits: itself, its renewal with the same key, its colleague
/// with the same name, the other one of the same intermediate.
struct Clients {
    first: Issued,
    renewed: Issued,
    namesake: Issued,
    sibling: Issued,
    issuing: Authority,
}

impl Clients {
    fn of(root: &Authority) -> Clients {
        let issuing = root.intermediate("Issuing");
        let leaf = Leaf::client("first").dns("first.example.com");
        let first = issuing.issue(&leaf);
        Clients {
            renewed: issuing.issue(&Leaf::client("renewed").same_key_as(&first).serial(&[0x4e, 1])),
            namesake: root.issue(&Leaf::client("namesake").dns("first.example.com")),
            sibling: issuing.issue(&Leaf::client("sibling")),
            first,
            issuing,
        }
    }

    fn all(&self) -> [&Issued; 4] {
        [&self.first, &self.renewed, &self.namesake, &self.sibling]
    }
}

/// When the command has ended, nobody it names is served any more; and everybody else is. `--remove` gives it back.
#[test]
fn each_way_to_name_a_client_hits_whom_it_names() {
    let gateway = Gateway::builder().workers(2).stateful().start();
    let clients = Clients::of(&gateway.root);
    let files = gateway.client_files("first", &clients.first);
    let cert = files.chain.to_str().unwrap();
    let ca = gateway.pki.write_authorities("issuing.pem", &[&clients.issuing]);
    let ca = ca.to_str().unwrap();
    let (serial, spki, fingerprint) = (
        hex(clients.first.serial()),
        hex(&clients.first.spki_sha256()),
        hex(&clients.first.fingerprint_sha256()),
    );
    for (whom, hit) in [
        (vec!["--cert", cert], [true, true, false, false]),
        (vec!["--cert", cert, "--issuer-cert", ca], [true, false, false, false]),
        (vec!["--serial", &serial, "--issuer-cert", ca], [true, false, false, false]),
        (vec!["--spki", &spki], [true, true, false, false]),
        (vec!["--fingerprint", &fingerprint], [true, false, false, false]),
        (vec!["--identity", "first.example.com"], [true, false, true, false]),
        (vec!["--ca", ca], [true, true, false, true]),
    ] {
        let run = |more: &[&str]| gateway.ask_json(&[&["revoke", "--json"], &whom[..], more].concat());
        let mut open: Vec<Connection> = clients
            .all()
            .iter()
            .map(|identity| gateway.client().identity(identity).connect(gateway.edge).unwrap())
            .collect();
        for connection in &mut open {
            assert_eq!(connection.get("/before").unwrap().status, 200);
        }
        let expected = hit.iter().filter(|hit| **hit).count();
        let preview = run(&["--preview"]);
        assert_eq!(preview["connections"], expected, "{whom:?}: {preview}");
        assert!(open.iter_mut().all(|connection| connection.get("/before").is_ok()), "nothing has changed");

        run(&["--reason", "stolen"]);
        for (index, (identity, hit)) in clients.all().into_iter().zip(hit).enumerate() {
            let target = if hit { "/after" } else { "/before" };
            assert_eq!(open[index].get(target).is_err(), hit, "{whom:?}: connection {index}");
            let client = gateway.client().identity(identity);
            assert_eq!(admits(&gateway, &client, target), !hit, "{whom:?}: client {index}");
        }
        let list = gateway.ask_json(&["revoke", "list", "--json"]);
        assert!(list.to_string().contains("stolen"), "{list}");
        run(&["--remove"]);
        let list = gateway.ask_json(&["revoke", "list", "--json"]);
        assert!(!list.to_string().contains("stolen"), "{list}");
        for identity in clients.all() {
            assert!(admits(&gateway, &gateway.client().identity(identity), "/before"), "{whom:?}");
        }
    }
    assert!(!gateway.has_reached("/after"), "{:?}", gateway.reached());
}

/// Once the command has ended, the entry is on disk, whatever happens next.
#[test]
fn the_deny_list_survives_a_kill() {
    let mut gateway = Gateway::builder().stateful().start();
    let victims: Vec<Issued> =
        (0..5).map(|number| gateway.root.issue(&Leaf::client(&format!("victim-{number}")))).collect();
    for (number, victim) in victims.iter().enumerate() {
        let client = gateway.client().identity(victim);
        assert!(admits(&gateway, &client, "/before"));
        let file = gateway.client_files("victim", victim).chain;
        let output = gateway.run(&["revoke", "--cert", file.to_str().unwrap(), "--reason", "stolen"]);
        gateway.process.kill();
        assert!(output.status.success(), "{output:?}");
        gateway.kill_and_start_again();
        for victim in &victims[..=number] {
            assert!(!admits(&gateway, &gateway.client().identity(victim), "/after"));
        }
        gateway.assert_serves();
        assert_eq!(gateway.metric("ringward_deny_list_entries", &[]), (number + 1) as f64);
    }
    assert!(!gateway.has_reached("/after"));
    // What lies there is the owner's alone.
    for entry in fs::read_dir(gateway.pki.path().join("state")).unwrap() {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{:?} has mode {mode:o}", entry.path());
    }
}

/// A deny list that cannot be read keeps the process from starting: it must not forget whom it refused.
#[test]
fn a_torn_deny_list_is_refused_at_the_start() {
    let mut gateway = Gateway::builder().stateful().start();
    for name in ["a.example.com", "b.example.com"] {
        gateway.ask(&["revoke", "--identity", name, "--reason", "test"]);
    }
    gateway.process.kill();
    let state = gateway.pki.path().join("state");
    let list = fs::read_dir(&state).unwrap().map(|entry| entry.unwrap().path());
    let list = list.filter(|path| {
        fs::read(path).is_ok_and(|bytes| bytes.windows(13).any(|part| part == b"b.example.com"))
    });
    let lists: Vec<_> = list.collect();
    assert_eq!(lists.len(), 1, "{lists:?}");
    let good = fs::read(&lists[0]).unwrap();
    for broken in [good[..good.len() - 5].to_vec(), [&good[..], b"garbage\n"].concat(), vec![0xff; 20]] {
        fs::write(&lists[0], &broken).unwrap();
        let output =
            ringward().arg("run").arg("-c").arg(gateway.pki.path().join("ringward.toml")).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains("deny"), "{said}");
    }
    fs::write(&lists[0], &good).unwrap();
    gateway.kill_and_start_again();
    assert_eq!(gateway.metric("ringward_deny_list_entries", &[]), 2.0);
}

#[test]
fn an_entry_that_expires_is_forgotten() {
    let gateway = Gateway::builder().stateful().start();
    let victim = gateway.root.issue(&Leaf::client("victim").dns("victim.example.com"));
    let client = gateway.client().identity(&victim);
    gateway.ask(&["revoke", "--identity", "victim.example.com", "--reason", "test", "--expires", "10s"]);
    assert!(!admits(&gateway, &client, "/after"));
    eventually(DEADLINE, "the entry expires", || admits(&gateway, &client, "/before"));
    assert!(!gateway.has_reached("/after"));
}

#[test]
fn commands_refuse_what_they_cannot_do() {
    let gateway = Gateway::builder().stateful().start();
    let nowhere = gateway.pki.write("none.pem", "nothing\n");
    for arguments in [
        &["revoke", "--identity", "a"][..],
        &["revoke", "--reason", "a"],
        &["revoke", "--identity", "", "--reason", "a"],
        &["revoke", "--identity", "a", "--fingerprint", &"0".repeat(64), "--reason", "a"],
        &["revoke", "--fingerprint", "00", "--reason", "a"],
        &["revoke", "--serial", "0a", "--reason", "a"],
        &["revoke", "--cert", nowhere.to_str().unwrap(), "--reason", "a"],
        &["revoke", "--identity", "a", "--reason", "a", "--expires", "0s"],
        &["trust", "preview", nowhere.to_str().unwrap()],
    ] {
        let output = gateway.run(arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            !output.status.success() && !said.is_empty() && !said.contains("panicked"),
            "{arguments:?}: {output:?}"
        );
    }
    assert_eq!(gateway.metric("ringward_deny_list_entries", &[]), 0.0);
    // Without a process to ask.
    let alone = Gateway::builder().start();
    assert!(!alone.run(&["trust", "status"]).status.success());
    let socket = alone.pki.path().join("admin.sock");
    let output = ringward().args(["trust", "status", "--socket"]).arg(socket).output().unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("no ringward listens"), "{output:?}");
}

/// Everything that decides whom the process trusts, in one document that others can be compared with.
#[test]
fn status_says_whom_it_trusts() {
    let builder = Gateway::builder().stateful().trust_key("crl = [\"crl/\"]");
    let root = builder.root().clone();
    publish(builder.pki(), "root", &root, &Crl::new().number(0x1a).revoke(&[7]));
    let gateway = builder
        .trust("others", &[&Authority::root("Other Root"), &Authority::expired_root("Old Root")])
        .start();
    let mut open = gateway.connect();
    assert_eq!(open.get("/").unwrap().status, 200);
    gateway.ask(&["revoke", "--identity", "a.example.com", "--reason", "test"]);

    let status = gateway.ask_json(&["trust", "status", "--json"]);
    let find = |list: &str, key: &str, value: &str| -> Value {
        let list = status[list].as_array().unwrap();
        list.iter().find(|entry| entry[key] == value).unwrap_or_else(|| panic!("{value}: {status}")).clone()
    };
    let partners = find("bundles", "name", "partners");
    assert_eq!(partners["cas"][0]["subject"], "CN=Test Root");
    assert_eq!(partners["cas"][0]["fingerprint_sha256"], hex(&root.fingerprint_sha256()));
    assert_eq!(partners["connections"], 1);
    let others = find("bundles", "name", "others");
    assert_eq!(
        (others["cas"].as_array().unwrap().len(), others["quarantined"].as_array().unwrap().len()),
        (1, 1)
    );
    let crl = find("crls", "issuer", "CN=Test Root");
    assert_eq!(
        (&crl["number"], &crl["entries"], &crl["problem"]),
        (&"26".into(), &1.into(), &Value::Null),
        "{crl}"
    );
    assert_eq!((&status["deny_entries"], &status["connections"]), (&1.into(), &1.into()), "{status}");
    assert!(status["keys"]["keys"].as_array().is_some_and(|keys| !keys.is_empty()), "{status}");
    let text = gateway.ask(&["trust", "status"]);
    assert!(text.contains("CN=Test Root") && text.contains("CN=Old Root"), "{text}");
}

/// Exit code 3 says that there is a difference, which is printed.
#[test]
fn diff_compares_with_files_and_other_processes() {
    let builder = Gateway::builder().stateful();
    let (root, other) = (builder.root().clone(), Authority::root("Other Root"));
    let gateway = builder.start();
    let same = gateway.run(&["trust", "diff"]);
    assert_eq!(same.status.code(), Some(0), "{same:?}");
    let file = gateway.pki.write_authorities("later.pem", &[&root, &other]);
    let differs = gateway.run(&["trust", "diff", file.to_str().unwrap(), "--bundle", "partners"]);
    let said = String::from_utf8_lossy(&differs.stdout).into_owned();
    assert!(
        differs.status.code() == Some(3) && said.contains("+ ") && said.contains("CN=Other Root"),
        "{said}"
    );

    // With what another host exports.
    let twin = Gateway::builder().signed_by(&root).stateful().start();
    let export = gateway.pki.write("export.json", twin.ask(&["trust", "status", "--json"]));
    let against = ["trust", "diff", "--json", export.to_str().unwrap()];
    let output = gateway.run(&against);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    gateway.ask(&["revoke", "--identity", "a.example.com", "--reason", "test"]);
    let output = gateway.run(&against);
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(output.status.code() == Some(3) && said["differences"][0]["what"] == "deny list", "{said}");
}

/// Says who would be hit, and does nothing.
#[test]
fn preview_lists_whom_a_file_would_hit() {
    let builder = Gateway::builder().stateful().bundle_key("both", "crl = [\"crl/\"]");
    let (root, leaving) = (builder.root().clone(), Authority::root("Leaving Root"));
    publish(builder.pki(), "root", &root, &Crl::new());
    publish(builder.pki(), "leaving", &leaving, &Crl::new());
    let host = Host::new(&[HOST]).client_auth("mode = \"required\", trust = \"both\"");
    let gateway = builder.trust("both", &[&root, &leaving]).host(host).start();
    let departing = leaving.issue(&Leaf::client("departing"));
    let mut first = gateway.client().identity(&departing).connect(gateway.edge).unwrap();
    assert_eq!(first.get("/").unwrap().status, 200);
    let (gate, mut busy) =
        (Gate::new(), gateway.client().identity(&departing).connect(gateway.edge).unwrap());
    gateway.upstream.on("/slow", Script::new().wait(&gate).respond(200, &[], "late"));
    let head = busy.head("GET", "/slow", &[]);
    busy.send(&head).unwrap();
    gate.wait_for_arrivals(1, DEADLINE);
    let mut kept = gateway.connect();
    assert_eq!(kept.get("/").unwrap().status, 200);

    let later = gateway.pki.write_authorities("later.pem", &[&root]);
    let crl =
        gateway.pki.write("later.crl", leaving.sign_crl(&Crl::new().number(2).revoke(departing.serial())));
    for file in [vec![later.to_str().unwrap(), "--bundle", "both"], vec![crl.to_str().unwrap()]] {
        let preview = gateway.ask_json(&[&["trust", "preview", "--json"], &file[..]].concat());
        let hits = &preview["hits"];
        assert_eq!((&hits["examined"], &hits["connections"]), (&3.into(), &2.into()), "{preview}");
        let client = &hits["clients"][0];
        assert_eq!(client["fingerprint_sha256"], hex(&departing.fingerprint_sha256()), "{preview}");
        assert_eq!((&client["connections"], &client["busy"]), (&2.into(), &1.into()), "{preview}");
        let text = gateway.ask(&[&["trust", "preview"], &file[..]].concat());
        assert!(text.contains("departing"), "{text}");
    }
    gate.open();
    assert_eq!(busy.response().unwrap().status, 200);
    for connection in [&mut first, &mut busy, &mut kept] {
        assert_eq!(connection.get("/").unwrap().status, 200, "nothing has changed");
    }
}

/// Whoever may not change trust cannot ask: the socket is the owner's, and its directory must not be everybody's.
#[test]
fn the_socket_is_refused_where_everybody_may_write() {
    let builder = Gateway::builder().stateful();
    fs::set_permissions(builder.pki().path(), fs::Permissions::from_mode(0o777)).unwrap();
    let refusal = builder.refusal();
    assert!(refusal.contains("admin.sock"), "{refusal}");
}
