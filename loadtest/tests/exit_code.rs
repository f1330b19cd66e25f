//! The program as a script sees it: what it prints where, and its exit code.
#![allow(clippy::unwrap_used, reason = "a failed expectation is a failed test")]

mod common;

use std::process::Command;

use ringward_testkit::Pki;

use self::common::{run, serve_one_connection};

#[test]
fn right_answers_end_with_0_and_the_report() {
    let pki = Pki::new();
    let target = serve_one_connection(&pki).to_string();
    let output = run(&pki, &target, "--requests 3 --expect-bytes 5 --json");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&report["right"], &report["failed"]), (&3.into(), &0.into()));
}

#[test]
fn wrong_answers_end_with_1_and_the_report() {
    let pki = Pki::new();
    let target = serve_one_connection(&pki).to_string();
    let output = run(&pki, &target, "--requests 3 --expect-status 403");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let report = String::from_utf8(output.stdout).unwrap();
    assert!(report.contains("200 where 403 was expected"), "{report}");
}

#[test]
fn a_run_that_cannot_begin_ends_with_2_and_the_reason() {
    let output = run(&Pki::new(), "192.0.2.1:443", "--requests 1");
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(output.stdout.is_empty());
    let reason = String::from_utf8(output.stderr).unwrap();
    assert!(reason.starts_with("ringward-load: ") && reason.contains("--allow-remote"), "{reason}");
}

#[test]
fn a_fleet_is_made_once() {
    let pki = Pki::new();
    let make = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ringward-load"));
        command.args(["pki", "--clients", "2", "--revoked", "0", "--out"]).arg(pki.path().join("fleet"));
        command.output().unwrap()
    };
    let output = make();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains("fleet: 2 valid, 10 expired, ") && !said.contains("revoked"), "{said}");
    let output = make();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(String::from_utf8(output.stderr).unwrap().contains("fleet` is not empty"));
}
