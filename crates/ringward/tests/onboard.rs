//! `ringward onboard`, and configurations in several files as they run: added, changed and taken away while the process serves.
#![allow(clippy::unwrap_used, reason = "a failed expectation is a failed test")]

mod common;

use std::fs;

use ringward_testkit::{Authority, DEADLINE, Leaf, Process, eventually, eventually_some};
use serde_json::Value;

use self::common::{HOST, World, ringward};

/// A world that takes partners as files, and whose process can be asked.
fn operated() -> World {
    let world = World::new();
    world.edit_config("[trust.partners]\nca = [\"trust/\"]\n", "");
    world.edit_config("workers = 2", "workers = 2\nstate_dir = \"state\"");
    world.edit_config("[admin]", "[admin]\nsocket = \"admin.sock\"");
    world.edit_config("trust = \"partners\"", "trust = \"partner-*\", tenants = \"partner-*\"");
    world.edit_config(
        "[server]",
        "[[include]]\npath = \"partners.d/*.toml\"\nmay_define = [\"trust\", \"tenant\", \"route\"]\nnames = [\"partner-*\"]\n\n[server]",
    );
    fs::create_dir(world.path("partners.d")).unwrap();
    world.pki.write("partners.d/partner-first.toml", "[trust.partner-first]\nca = \"../trust/partners.pem\"\n[tenant.partner-first]\ntrust = \"partner-first\"\n");
    world
}

/// Exit code, standard output, standard error.
fn onboard(world: &World, arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = ringward();
    command.current_dir(world.pki.path()).args(["onboard", "-c", "ringward.toml"]).args(arguments);
    let mut process = Process::start(&mut command);
    let code = process.wait(2 * DEADLINE).code();
    (code, process.stdout(), process.stderr())
}

/// What is in the directory of partners.
fn files(world: &World) -> Vec<String> {
    let entries = fs::read_dir(world.path("partners.d")).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_partner_is_one_change_that_is_tried_first() {
    let world = operated();
    let acme = Authority::root("Acme Root");
    let (billing, stranger) =
        (acme.issue(&Leaf::client("billing").dns("b.acme.example")), acme.issue(&Leaf::client("stranger")));
    world.pki.write_authorities("acme.pem", &[&acme]);
    world.pki.write_pem("billing", &billing);
    world.pki.write_pem("stranger", &stranger);
    world.pki.write("more.toml", format!("[[route]]\nhost = \"{HOST}\"\nid = \"acme\"\nmatch = {{ path = \"/open\" }}\ncluster = \"echo\"\n"));
    let running = world.start();
    let client = || world.client().identity(&billing);
    client().refusal(running.edge);
    let rule = ["--ca", "acme.pem", "--match", "san_dns=*.acme.example"];

    // Nothing is written while something is wrong, or nothing is to be.
    let before = files(&world);
    for (more, code, said) in [
        (vec!["partner-acme", "--cert", "billing.pem", "--dry-run"], 0, ""),
        (vec!["acme"], 2, "no [[include]] of `ringward.toml` takes a file `acme.toml`"),
        (
            vec!["partner-acme", "--cert", "stranger.pem"],
            2,
            "would not be a client of \"partner-acme\" at any host",
        ),
        (
            vec!["partner-acme", "--cert", "api.pem"],
            2,
            "would not be a client of \"partner-acme\" at any host",
        ),
        (vec!["partner-first"], 2, "is there already: `--replace` writes over it"),
        (vec!["partner-acme", "--identity", "nickname"], 2, "unknown value \"nickname\""),
        (vec!["partner-acme", "--match", "colour=red"], 2, "unknown key `colour`"),
        (vec!["partner-acme", "--into", "."], 2, "`--into` takes one of partners.d"),
        (vec!["../x"], 2, "is not a name"),
    ] {
        let (is, out, error) = onboard(&world, &[&more[..], &rule[..]].concat());
        assert_eq!(is, Some(code), "{more:?} {out}{error}");
        assert!(error.contains(said), "{more:?} {error}");
        assert_eq!(files(&world), before, "{more:?}");
    }
    client().refusal(running.edge);

    // Then it is in force when the command ends.
    let arguments =
        [&["partner-acme", "--cert", "billing.pem", "--with", "more.toml", "--json"][..], &rule].concat();
    let (code, out, error) = onboard(&world, &arguments);
    assert_eq!(code, Some(0), "{error}");
    let report: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(report["in_force"]["process"], "running", "{report}");
    assert_eq!(report["authorities"][0]["subject"], "CN=Acme Root", "{report}");
    assert_eq!(client().connect(running.edge).unwrap().get("/open").unwrap().status, 200);
    world.client().identity(&stranger).refusal(running.edge);
    let records = running.process.stderr();
    assert!(!records.contains("panic"), "{records}");
    let access = eventually_some(DEADLINE, "the record", || {
        let text = fs::read_to_string(world.path("access.json")).ok()?;
        text.lines().find(|line| line.contains("\"acme\"")).map(str::to_owned)
    });
    let access: Value = serde_json::from_str(&access).unwrap();
    assert_eq!(
        (&access["route"], &access["peer.tenant"]),
        (&"acme".into(), &"partner-acme".into()),
        "{access}"
    );

    // A file that is gone takes its partner along, also on a connection that is open.
    let mut open = client().connect(running.edge).unwrap();
    assert_eq!(open.get("/open").unwrap().status, 200);
    fs::remove_file(world.path("partners.d/partner-acme.toml")).unwrap();
    eventually(DEADLINE, "the partner is gone", || {
        client().connect(running.edge).and_then(|mut connection| connection.get("/open")).is_err()
    });
    eventually(DEADLINE, "its connection, too", || open.get("/open").is_err());
    assert_eq!(world.client().connect(running.edge).unwrap().get("/open").unwrap().status, 200);
}

#[test]
fn what_the_process_refuses_is_taken_back() {
    let world = operated();
    let acme = Authority::root("Acme Root");
    world.pki.write_authorities("acme.pem", &[&acme]);
    // It runs with another configuration than the one that the partner is added to.
    world.edit_config("socket = \"admin.sock\"", "socket = \"admin.sock\" # this one");
    let other =
        fs::read_to_string(world.path("ringward.toml")).unwrap().replace("partners.d/*", "others.d/*");
    fs::create_dir(world.path("others.d")).unwrap();
    world
        .pki
        .write("others.d/partner-first.toml", "[trust.partner-first]\nca = \"../trust/partners.pem\"\n[tenant.partner-first]\ntrust = \"partner-first\"\n");
    let mine = fs::read_to_string(world.path("ringward.toml")).unwrap();
    world.pki.write("ringward.toml", other);
    let running = world.start();
    world.pki.write("mine.toml", mine);
    let before = files(&world);
    let mut command = ringward();
    command.current_dir(world.pki.path()).args([
        "onboard",
        "-c",
        "mine.toml",
        "partner-acme",
        "--ca",
        "acme.pem",
    ]);
    let mut process = Process::start(&mut command);
    assert_eq!(process.wait(2 * DEADLINE).code(), Some(1), "{}", process.stdout());
    let error = process.stderr();
    assert!(error.contains("does it run with another configuration? The files were taken back"), "{error}");
    assert_eq!(files(&world), before);
    drop(running);

    // Without a process it counts from the next start on.
    let (code, out, error) = onboard(&world, &["partner-acme", "--ca", "acme.pem", "--into", "others.d"]);
    assert_eq!(code, Some(0), "{error}");
    assert!(out.contains("in force  with the next start: no process listens on its socket"), "{out}");
    let running = world.start();
    let client = world.client().identity(&acme.issue(&Leaf::client("any")));
    assert_eq!(client.connect(running.edge).unwrap().get("/open").unwrap().status, 200);
}

#[test]
fn a_file_that_is_refused_changes_nothing_and_is_named() {
    let world = operated();
    let running = world.start();
    let refused = running.reloads("failed");
    world.pki.write("partners.d/partner-x.toml", "[server]\nworkers = 1\n");
    running.wait_for_reload("failed", refused);
    let line = running.wait_for_message("new configuration refused, the running one stays");
    assert!(line.contains("partners.d/partner-x.toml:1:1"), "{line}");
    assert_eq!(world.client().connect(running.edge).unwrap().get("/open").unwrap().status, 200);
    // Put right, it is taken, and with it others are read again as they change.
    let applied = running.reloads("applied");
    world.pki.write_authorities("partners.d/x.pem", &[&Authority::root("X")]);
    world.pki.write(
        "partners.d/partner-x.toml",
        "[trust.partner-x]\nca = \"x.pem\"\n[tenant.partner-x]\ntrust = \"partner-x\"\n",
    );
    running.wait_for_reload("applied", applied);
}
