//! The soak of `loadtest/soak` in short, and the measuring of starts in small: everything changes while clients ask, and every answer
//! is judged.
#![allow(clippy::unwrap_used, reason = "a failed expectation here is a failed test")]

mod support;

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use ringward_testkit::{DEADLINE, Process};

use self::support::program;

/// A script of `loadtest`, about the program under test.
fn script(path: &str) -> Command {
    let mut python = program("python3", "python3");
    python.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../loadtest").join(path));
    python.env("RINGWARD_BIN", env!("CARGO_BIN_EXE_ringward"));
    python
}

#[track_caller]
fn said(command: &mut Command, deadline: Duration) -> String {
    let mut process = Process::start(command);
    let status = process.wait(deadline);
    let said = process.stdout() + &process.stderr();
    assert!(status.success(), "{status}: {said}");
    said
}

#[test]
fn no_answer_is_wrong_while_everything_changes() {
    let soak = ["--minutes", "0.3", "--period", "6", "--pause", "0.05", "--seed", "7"];
    let said = said(script("soak/soak.py").args(soak), 6 * DEADLINE);
    for expected in
        [" 0 wrong", "server               changed 3 times", "denied               changed 3 times"]
    {
        assert!(said.contains(expected), "{expected:?} is not in {said}");
    }
}

#[test]
fn starts_are_measured() {
    let small =
        ["--runs", "1", "--hosts", "3", "--authorities", "4", "--bundles", "2", "--entries", "1000", "start"];
    let said = said(script("scale/measure.py").args(small), 3 * DEADLINE);
    assert!(said.contains("start, small: ") && said.contains("start, large: "), "{said}");
}
