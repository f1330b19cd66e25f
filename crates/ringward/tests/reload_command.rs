//! `ringward reload`: asks the process, waits, and tells the outcome by text and exit code.
#![allow(clippy::unwrap_used, reason = "a failed expectation is a failed test")]

mod common;

use std::net::TcpStream;

use ringward_testkit::{DEADLINE, Gate, Process, Script, Signal, eventually, eventually_some};
use serde_json::Value;

use self::common::{POLICY, World, ringward};

/// Exit code and output of a command.
type Said = (Option<i32>, String, String);

fn reload(arguments: &[&str]) -> Said {
    let mut process = Process::start(ringward().arg("reload").args(arguments));
    let code = process.wait(2 * DEADLINE).code();
    (code, process.stdout(), process.stderr())
}

/// A world whose process can be asked, and how.
fn operated() -> (World, String) {
    let world = World::new();
    world.edit_config("workers = 2", "workers = 2\nstate_dir = \"state\"");
    world.edit_config("[admin]", "[admin]\nsocket = \"admin.sock\"");
    let socket = world.path("admin.sock").display().to_string();
    (world, socket)
}

#[test]
fn what_is_in_force_afterwards_is_told() {
    let (world, socket) = operated();
    let running = world.start();
    let (code, text, _) = reload(&["--socket", &socket]);
    assert_eq!((code, &*text), (Some(0), "nothing has changed, generation 1 is in force\n"));

    // The process may notice a change by itself and be faster, so there are several.
    let mut version = 0;
    let report = eventually_some(DEADLINE, "a reload that was asked for", || {
        version += 1;
        world.pki.write("policies/authz.rego", format!("{POLICY}# {version}\n"));
        let (code, text, error) = reload(&["--socket", &socket, "--json"]);
        assert_eq!(code, Some(0), "{error}");
        let report: Value = serde_json::from_str(&text).unwrap();
        (report["outcome"] == "applied").then_some(report)
    });
    let files = report["files"]["changed"].as_array().unwrap();
    assert!(files.len() == 1 && files[0].as_str().unwrap().ends_with("authz.rego"), "{report}");
    let generation = ringward_testkit::scrape(running.admin).sum("ringward_config_generation", &[]);
    assert_eq!(report["generation"].as_f64(), Some(generation));
    running.wait_for_message("an operator asks for a reload");
}

#[test]
fn what_is_refused_is_explained_and_ends_with_1() {
    let (world, _) = operated();
    let running = world.start();
    world.pki.write("policies/authz.rego", POLICY.replace("default decision", "default decision decision"));
    let config = world.path("ringward.toml").display().to_string();
    let (code, text, _) = reload(&["-c", &config]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.starts_with("refused, generation 1 stays in force\n"), "{text}");
    assert!(text.contains("authz.rego:3:"), "{text}");
    let (code, text, _) = reload(&["-c", &config, "--json"]);
    let report: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((code, &report["outcome"]), (Some(1), &"refused".into()));
    assert_eq!(world.client().connect(running.edge).unwrap().get("/open").unwrap().status, 200);
}

#[test]
fn a_process_that_does_not_tell_the_outcome_ends_with_2() {
    let (world, socket) = operated();
    let (code, _, error) = reload(&["--socket", &socket]);
    assert_eq!(code, Some(2));
    assert!(error.contains("no ringward listens on"), "{error}");

    // It is there and does not answer.
    let gate = Gate::new();
    world.upstream.on("/open", Script::new().wait(&gate).respond(200, &[], ""));
    let mut running = world.start();
    let mut connection = world.client().connect(running.edge).unwrap();
    let request = connection.head("GET", "/open", &[]);
    connection.send(&request).unwrap();
    gate.wait_for_arrivals(1, DEADLINE);
    running.process.signal(Signal::STOP);
    eventually(DEADLINE, "it stands still", || running.process.is_stopped());
    let (code, _, error) = reload(&["--socket", &socket, "--timeout", "1s"]);
    assert_eq!(code, Some(2));
    assert!(error.contains("did not answer in time"), "{error}");
    running.process.signal(Signal::CONT);

    // It ends, and will not reload any more.
    running.process.signal(Signal::TERM);
    eventually(DEADLINE, "the listener is closed", || TcpStream::connect(running.edge).is_err());
    let (code, text, _) = reload(&["--socket", &socket]);
    assert_eq!((code, &*text), (Some(2), "not reloaded: the process ends\n"));
    gate.open();
    assert_eq!(running.process.wait(DEADLINE).code(), Some(0));

    // Its configuration has no socket to ask it by.
    world.edit_config("socket = \"admin.sock\"", "");
    let config = world.path("ringward.toml").display().to_string();
    let (code, _, error) = reload(&["-c", &config]);
    assert_eq!(code, Some(2));
    assert!(error.contains("has no `socket` in [admin]"), "{error}");
}
