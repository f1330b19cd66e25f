//! Each scenario in a short form, against a Ringward of its own: every answer has to be right, and both ends have to count alike.
#![allow(clippy::unwrap_used, reason = "a failed expectation is a failed test")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Mutex;

/// At the same time, as many as a small machine carries without timeouts.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// The gateway of the same build; tests of the whole workspace find it there.
fn ringward() -> PathBuf {
    let file = Path::new(env!("CARGO_BIN_EXE_ringward-load")).with_file_name("ringward");
    if !file.exists() {
        let built =
            Command::new(env!("CARGO")).args(["build", "--locked", "-p", "ringward"]).status().unwrap();
        assert!(built.success() && file.exists(), "{} cannot be built", file.display());
    }
    file
}

fn carry_out(scenario: &str, shorter: &[&str]) -> (serde_json::Value, Output) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios").join(scenario).with_extension("toml");
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let output = Command::new(env!("CARGO_BIN_EXE_ringward-load"))
        .arg("try")
        .arg(file)
        .args(["--json", "--quiet", "--timeout", "60"])
        .args(shorter)
        .env("RINGWARD_BIN", ringward())
        .output()
        .unwrap();
    let trial = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
    (trial, output)
}

/// Carries a scenario out and returns its report.
fn right(scenario: &str, shorter: &[&str]) -> serde_json::Value {
    let (mut trial, output) = carry_out(scenario, shorter);
    let (counts, failures) = (&trial["counts"], &trial["report"]["failures"]);
    assert_eq!(output.status.code(), Some(0), "{scenario}: {counts:#} {failures:#}");
    for count in counts.as_array().unwrap() {
        assert_eq!(count["load"], count["gateway"], "{scenario}: {count}");
    }
    trial["report"].take()
}

fn number(value: &serde_json::Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("{value} is no number"))
}

#[test]
fn partner_api() {
    let report = right("partner-api", &["--requests", "3000", "--connections", "10"]);
    assert!(number(&report["refused"]) > 0 && number(&report["statuses"]["403"]) > 0, "{report:#}");
    assert_eq!(number(&report["right"]) + number(&report["refused"]), 3000);
}

#[test]
fn service_mesh() {
    let report = right("service-mesh", &["--rate", "0-300:1,300:1"]);
    assert_eq!(number(&report["due"]), 450);
}

#[test]
fn devices_reconnecting() {
    let report = right("devices-reconnecting", &["--connections", "50", "--duration", "11.5"]);
    assert!(number(&report["connections_resumed"]) > 0, "they come again after ten seconds: {report:#}");
}

#[test]
fn payments() {
    let report = right("payments", &["--requests", "300", "--connections", "4"]);
    assert_eq!(report["connections_opened"], report["right"]);
    assert_eq!(number(&report["refused"]), 6);
}

#[test]
fn streaming_bodies() {
    let report = right("streaming-bodies", &["--requests", "30"]);
    assert!(number(&report["received_bytes"]) > 1 << 20 && number(&report["sent_bytes"]) > 1 << 20);
}

#[test]
fn grpc_fan_out() {
    let report = right("grpc-fan-out", &["--requests", "1000"]);
    assert_eq!(report["requests"].as_array().unwrap().len(), 4);
}

#[test]
fn selective_mtls() {
    let report = right("selective-mtls", &["--requests", "2000"]);
    let statuses = &report["statuses"];
    assert!(
        number(&statuses["403"]) > 0 && number(&statuses["200"]) > number(&statuses["403"]),
        "{report:#}"
    );
}

#[test]
fn websockets() {
    let report = right("websockets", &["--requests", "30", "--connections", "10"]);
    assert_eq!(number(&report["statuses"]["101"]), 30);
}

#[test]
fn what_is_wrong_is_told_and_ends_with_1() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("wrong.toml");
    let text = "description = 'x'\n[target]\nserver_name = 'api.example.com'\n[load]\nconnections = 1\nrequests = 2\n\
                [[requests]]\nname = 'r'\npath = '/admin/x'\n";
    std::fs::write(&file, text).unwrap();
    let (trial, output) = carry_out(file.to_str().unwrap(), &[]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(number(&trial["report"]["failures"]["status"]["count"]), 2);
}

#[test]
fn what_cannot_begin_ends_with_2() {
    let try_with = |arguments: &[&str]| {
        Command::new(env!("CARGO_BIN_EXE_ringward-load")).arg("try").args(arguments).output().unwrap()
    };
    let partner = concat!(env!("CARGO_MANIFEST_DIR"), "/scenarios/partner-api.toml");
    for (arguments, wanted) in [
        (&["--requests", "1"][..], "a scenario is needed"),
        (&["no-such.toml"], "no-such.toml: error: cannot be read"),
        (&[partner, "--target", "127.0.0.1:1"], "--target is for `run`"),
        (&[partner, "--ringward", "/no/such/program"], "`/no/such/program`"),
    ] {
        let output = try_with(arguments);
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {error}");
        assert!(error.contains(wanted), "{arguments:?}: {error}");
    }
}

/// Every file is carried out here.
#[test]
fn no_scenario_is_left_out() {
    let tests = include_str!("scenarios.rs");
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    let mut count = 0;
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        if path.extension().is_some_and(|extension| extension == "toml") && name != "gateway" {
            assert!(tests.contains(&format!("right(\"{name}\"")), "{name} has no test");
            count += 1;
        }
    }
    assert_eq!(count, 8);
}
