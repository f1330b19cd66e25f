//! The policies under `policies/` are accepted without a warning and pass their own tests.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::time::Duration;

use ringward_policy::child::{Request, Task};
use ringward_policy::{Limits, PolicySet, Report, Source, SourceKind, check, child};

fn set(directory: &str) -> PolicySet {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../policies").join(directory);
    let mut sources = Vec::new();
    for entry in std::fs::read_dir(&root).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if SourceKind::of(&name).is_some() {
            sources.push(Source::new(name, std::fs::read(&path).unwrap()));
        }
    }
    // Patient: the outcome may not depend on how busy the machine is.
    let limits = Limits { time_budget: Duration::from_secs(10), ..Limits::default() };
    PolicySet::new(sources, "data.ringward.authz.decision", limits)
}

fn accepted(directory: &str, tests: usize, reads: &[&str]) {
    let set = set(directory);
    let report = check(&set).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(report.warnings, [], "{directory}");
    assert_eq!((report.tests.passed(), report.tests.tests.len()), (tests, tests));
    assert_eq!(report.packages, ["data.ringward.authz"]);
    assert_eq!(report.reads, reads);
    // And through the protocol of the child process.
    let mut reply = Vec::new();
    assert_eq!(child::run_child(Request::encode(&set, &Task::Check).as_slice(), &mut reply), 0);
    let mut of_child: Report = child::parse_reply(&reply).unwrap().into_answer(&set).unwrap();
    // All but the times.
    for (test, again) in report.tests.tests.iter().zip(&mut of_child.tests.tests) {
        again.took = test.took;
    }
    assert_eq!(of_child, report);
}

#[test]
fn the_sample_policy() {
    let reads = [
        "client.fingerprint_sha256",
        "client.san.dns",
        "client.san.email",
        "client.spiffe_id",
        "client.subject.common_name",
        "client.subject.organizational_units",
        "client.subject.organizations",
        "client.trust_domain",
        "client.verified",
        "connection.remote_addr",
        "request.method",
        "request.path",
    ];
    accepted("", 22, &reads);
}

#[test]
fn the_policy_of_the_benchmark() {
    accepted("bench", 3, &["client.san.uri", "request.path"]);
}
