//! Logs as files: rotated while the process writes them, and what `ringward report` makes of them.
#![allow(clippy::unwrap_used, reason = "a failed expectation is a failed test")]

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

use ringward_testkit::{Authority, DEADLINE, Leaf, Process, eventually};
use serde_json::{Value, json};

use self::common::{World, ringward};

/// Exit code, standard output, standard error.
fn report(world: &World, arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = ringward();
    command.current_dir(world.pki.path()).args(["report", "-c", "ringward.toml"]).args(arguments);
    let mut process = Process::start(&mut command);
    let code = process.wait(2 * DEADLINE).code();
    (code, process.stdout(), process.stderr())
}

#[test]
fn a_week_is_told_exactly() {
    let world = World::new();
    world.edit_config("workers = 2", "workers = 1\nstate_dir = \"state\"");
    world.edit_config("[admin]", "[admin]\nsocket = \"admin.sock\"");
    world.edit_config(
        "[policy.main]",
        "[tenant.acme]\ntrust = \"partners\"\nmatch = [{ organization = \"Acme\" }]\n\n[tenant.other]\ntrust = \"partners\"\nmatch = [{ organization = \"Other\" }]\n\n[policy.main]",
    );
    let running = world.start();
    let day = Duration::from_secs(86_400);
    let soon = |name: &str, organization: &str, days: u32| {
        let leaf = Leaf::client(name).organization(organization);
        world.root.issue(&leaf.valid_between(SystemTime::now() - day, SystemTime::now() + days * day))
    };
    let (billing, reports) = (soon("billing", "Acme", 10), soon("reports", "Other", 90));
    for (client, path, times) in [(&billing, "/open", 3), (&billing, "/secret", 2), (&reports, "/secret", 1)]
    {
        let mut connection = world.client().identity(client).connect(running.edge).unwrap();
        for _ in 0..times {
            connection.get(path).unwrap();
        }
    }
    let stranger = Authority::root("Stranger").issue(&Leaf::client("stranger"));
    world.client().identity(&stranger).refusal(running.edge);
    // One reload that is refused, and one that mends it.
    let config = fs::read_to_string(world.path("ringward.toml")).unwrap();
    world.edit_config("workers = 1", "workers = 1\ncolour = \"red\"");
    running.wait_for_message("new configuration refused, the running one stays");
    world.pki.write("ringward.toml", config.replace("id = \"all\"", "id = \"everything\""));
    running.wait_for_message("new configuration in force");
    eventually(DEADLINE, "the records are written", || {
        let log = fs::read_to_string(world.path("access.json")).unwrap_or_default();
        log.lines().count() == 7
    });
    world.pki.write("process.log", running.process.stderr());

    let (code, out, error) = report(&world, &["--log", "process.log", "--json"]);
    assert_eq!(code, Some(0), "{error}");
    let told: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(
        told["tenants"],
        json!([
            {"tenant": "acme", "requests": 5, "denied": 2, "undecided": 0},
            {"tenant": "other", "requests": 1, "denied": 1, "undecided": 0},
        ]),
        "{told:#}"
    );
    let rule = json!({"tenant": "acme", "policy": "main", "rule": "default", "route": "all", "requests": 2});
    assert_eq!((&told["denials"][0], &told["denials_unlisted"]), (&rule, &json!(0)), "{told:#}");
    let refused = &told["handshakes_failed"];
    assert_eq!(refused[0]["handshakes"], 1, "{told:#}");
    assert_eq!(refused[0]["last_subject"], "CN=stranger", "{told:#}");
    let ends: Vec<_> =
        told["expiries"].as_array().unwrap().iter().map(|end| (&end["kind"], &end["name"])).collect();
    let client = json!("O=Acme,CN=billing of acme");
    assert!(ends.contains(&(&json!("client"), &client)), "{told:#}");
    assert!(!ends.iter().any(|(_, name)| name.as_str().unwrap().contains("reports")), "{told:#}");
    let incident = &told["incidents"][0];
    assert_eq!(incident["class"], "reload refused", "{told:#}");
    assert!(incident["ended_unix"].as_i64() >= incident["began_unix"].as_i64(), "{told:#}");
    let changes: Vec<&str> =
        told["changes"].as_array().unwrap().iter().map(|change| change["what"].as_str().unwrap()).collect();
    assert!(
        changes.iter().any(|what| what.contains("in force: ~") && what.contains("ringward.toml")),
        "{changes:?}"
    );
    assert!(
        changes.iter().any(|what| what.starts_with("refused: ") && what.contains("colour")),
        "{changes:?}"
    );
    assert_eq!(told["node"]["deny_entries"], 0, "{told:#}");
    assert_eq!(told["logs"][0]["lines"], 7, "{told:#}");

    // The same for people; and a week in which nothing was.
    let (code, out, _) = report(&world, &["--log", "process.log"]);
    assert_eq!(code, Some(0));
    for line in ["  acme    5         2       0", "  reload refused", "  client", "process   version "] {
        assert!(out.contains(line), "{line}\n{out}");
    }
    let (code, out, _) = report(&world, &["--until", "2020-01-01T00:00:00Z"]);
    assert_eq!(code, Some(0));
    assert!(out.contains("access.json: 0 lines, 7 of other times"), "{out}");
    assert!(out.contains("requests by tenant\n  none in these logs"), "{out}");

    // What could not be read is said, and is no silence.
    let (code, out, _) = report(&world, &["--log", "gone.log"]);
    assert_eq!(code, Some(1));
    assert!(out.contains("log       gone.log: 0 lines; NOT READ TO ITS END: No such file"), "{out}");
    for (arguments, said) in [
        (["--since", "yesterday"], "write a moment such as"),
        (["--since", "2999-01-01T00:00:00Z"], "the period is empty"),
    ] {
        let (code, _, error) = report(&world, &arguments);
        assert_eq!((code, error.contains(said)), (Some(2), true), "{error}");
    }
    drop(running);
    world.edit_config("access = { file = \"access.json\" }", "access = \"off\"");
    let (code, out, error) = report(&world, &[]);
    assert_eq!(code, Some(0), "{error}");
    assert!(out.contains("requests, handshakes, changes: no data, as there is no log"), "{out}");
    assert!(out.contains("process   none runs"), "{out}");
}

/// With the file that `deploy/logging.md` has installed, by logrotate itself.
#[test]
fn a_log_that_is_rotated_loses_no_line() {
    let world = World::new();
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/logrotate/ringward");
    let pattern = world.path("*.json").display().to_string();
    // There is no such user here.
    let rules = fs::read_to_string(sample).unwrap().replace("    su ringward ringward\n", "");
    assert!(rules.contains("/var/log/ringward/*.json {") && !rules.contains("    su "));
    let rules = world.pki.write("rules", rules.replace("/var/log/ringward/*.json", &pattern));
    // It takes no rules that others could have written.
    fs::set_permissions(&rules, fs::Permissions::from_mode(0o644)).unwrap();
    let running = world.start();
    let mut connection = world.client().connect(running.edge).unwrap();
    for round in 1..=3 {
        for _ in 0..50 {
            assert_eq!(connection.get("/open").unwrap().status, 200);
        }
        eventually(DEADLINE, "the records of this round are in the log", || lines(&world) == 50 * round);
        if round < 3 {
            let mut logrotate = Command::new("/usr/sbin/logrotate");
            let state = world.path("logrotate.state");
            let output = logrotate.arg("--force").arg("--state").arg(state).arg(&rules).output().unwrap();
            assert!(output.status.success(), "{output:?}");
            eventually(DEADLINE, "there is a new file", || world.path("access.json").exists());
        }
    }
    let mode = fs::metadata(world.path("access.json")).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode & 0o007, 0, "nobody else reads the new file: {mode:o}");
    assert!(world.path("access.json.1").exists() && world.path("access.json.2.gz").exists());
}

/// Of all pieces of the access log.
fn lines(world: &World) -> usize {
    let mut shell = Command::new("sh");
    let output =
        shell.args(["-c", "zcat -f access.json* | wc -l"]).current_dir(world.pki.path()).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().parse().unwrap()
}
