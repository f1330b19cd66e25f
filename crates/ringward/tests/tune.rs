//! `ringward tune`: what it says of this machine, and of machines that tests make up.
#![allow(clippy::unwrap_used, reason = "a failed expectation is a failed test")]

mod common;

use std::fs;
use std::path::Path;

use ringward_testkit::{DEADLINE, Process};
use serde_json::Value;

use self::common::{World, ringward};

/// Exit code, standard output, standard error.
fn tune(arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut process = Process::start(ringward().arg("tune").args(arguments));
    let code = process.wait(DEADLINE).code();
    (code, process.stdout(), process.stderr())
}

fn row<'a>(report: &'a Value, name: &str) -> &'a Value {
    let rows = report["rows"].as_array().unwrap();
    rows.iter().find(|row| row["name"] == name).unwrap_or_else(|| panic!("no row {name}: {report:#}"))
}

#[test]
fn this_machine_is_looked_at() {
    let world = World::new();
    let config = world.path("ringward.toml");
    let config = config.to_str().unwrap();
    for arguments in [&["--json"][..], &["--json", "-c", config]] {
        let (code, stdout, stderr) = tune(arguments);
        let report: Value = serde_json::from_str(&stdout).unwrap_or_else(|_| panic!("{stdout}{stderr}"));
        let bad = report["rows"].as_array().unwrap().iter().any(|row| row["verdict"] == "bad");
        assert_eq!((code, &report["ok"]), (Some(i32::from(bad)), &Value::from(!bad)), "{report:#}");
        for name in ["kernel", "io_uring", "open files", "net.core.somaxconn", "swap", "clock synchronised"] {
            let row = row(&report, name);
            assert!(!row["found"].as_str().unwrap().is_empty(), "{row}");
            let mends = row["verdict"] == "warn" || row["verdict"] == "bad";
            assert_eq!(row["fix"].is_string(), mends, "{row}");
        }
        // Whatever machine this is, it has one.
        assert_ne!(row(&report, "kernel")["verdict"], "unknown");
    }
}

#[test]
fn what_is_bad_fails_and_says_what_would_mend_it() {
    let world = World::new();
    world.edit_config(
        "bind = [\"127.0.0.1:0\"]",
        "bind = [\"127.0.0.1:0\"]\nlimits = { connections_max = 50 }",
    );
    let (config, root) = (world.path("ringward.toml"), world.path("machine"));
    let arguments = ["-c", config.to_str().unwrap(), "--root", root.to_str().unwrap()];
    let limit = |files: &str| {
        let line = format!("Max open files            10                   {files}                 files\n");
        write(&root.join("proc/self/limits"), &line);
    };
    for (files, verdict, code) in [("100", "ok", 0), ("99", "warn", 0), ("50", "bad", 1)] {
        limit(files);
        let (exit, stdout, stderr) = tune(&arguments);
        assert_eq!((exit, stderr.as_str()), (Some(code), ""), "{stdout}");
        let line = stdout.lines().find(|line| line.contains(" open files ")).unwrap();
        assert!(line.trim_start().starts_with(verdict) && line.contains(files), "{line}");
        assert_eq!(stdout.contains("open files: LimitNOFILE=100 "), verdict != "ok", "{stdout}");
    }
    write(&root.join(".dockerenv"), "");
    assert!(tune(&arguments).1.contains("in a container (docker)"));
}

#[test]
fn a_configuration_that_is_refused_is_no_measure() {
    let world = World::new();
    world.edit_config("workers = 2", "wokers = 2");
    let config = world.path("ringward.toml");
    let (code, _, stderr) = tune(&["-c", config.to_str().unwrap()]);
    assert_eq!(code, Some(2));
    assert!(stderr.contains("wokers"), "{stderr}");
    let (code, stdout, stderr) = tune(&["--root", "/nonexistent"]);
    assert_eq!((code, stderr.as_str()), (Some(0), ""), "{stdout}");
    assert!(stdout.contains("cannot be read") && !stdout.contains("bad "), "{stdout}");
}

fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}
