//! `ringward demo` and `ringward pki dev`.
#![allow(clippy::unwrap_used, reason = "a failed expectation is a failed test")]

mod common;

use ringward_testkit::{DEADLINE, Process, Signal};

use self::common::ringward;

#[test]
fn once_shows_one_allowed_and_one_denied_request() {
    let mut demo = Process::start(ringward().args(["demo", "--once"]));
    let status = demo.wait(DEADLINE);
    let shown = demo.stdout();
    assert_eq!(status.code(), Some(0), "{shown}\n{}", demo.stderr());
    let allowed = shown.find("allowed  200").unwrap_or_else(|| panic!("{shown}"));
    let denied = shown.find("denied   403").unwrap_or_else(|| panic!("{shown}"));
    assert!(allowed < denied);
    assert_eq!(shown.matches("rule      ").count(), 2, "{shown}");
    assert!(!shown.contains("(none)"), "{shown}");
    assert_eq!(demo.stderr(), "");
}

#[test]
fn it_keeps_serving_and_cleans_up() {
    let mut demo = Process::start(ringward().arg("demo"));
    let line = demo.wait_for_line(DEADLINE, |line| line.contains("configuration  "));
    let config = std::path::PathBuf::from(line.split_whitespace().last().unwrap());
    assert!(config.exists());
    assert!(demo.is_running());
    assert!(demo.stdout().contains("curl --cacert "));
    demo.signal(Signal::INT);
    assert_eq!(demo.wait(DEADLINE).code(), Some(0), "{}", demo.stderr());
    assert!(!config.parent().unwrap().exists(), "the directory is removed");
}

#[test]
fn development_certificates_are_never_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    let make = || {
        let mut made = Process::start(ringward().args(["pki", "dev"]).arg(dir.path().join("pki")));
        (made.wait(DEADLINE).code(), made.stdout(), made.stderr())
    };
    let (code, shown, _) = make();
    assert_eq!(code, Some(0));
    assert!(shown.contains("development only"), "{shown}");
    let key = std::fs::read(dir.path().join("pki/ca.key")).unwrap();
    let (code, _, complaint) = make();
    assert_eq!(code, Some(2));
    assert!(complaint.contains("exists already"), "{complaint}");
    assert_eq!(std::fs::read(dir.path().join("pki/ca.key")).unwrap(), key);
}
