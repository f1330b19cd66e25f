//! What comes out of a run, and what can be made of it afterwards, as a script sees it.
#![allow(clippy::unwrap_used, reason = "a failed expectation is a failed test")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use ringward_testkit::Pki;
use serde_json::Value;

use self::common::{run, serve_one_connection};

/// A run of the program, with a directory for all that it writes.
struct Made {
    pki: Pki,
    json: PathBuf,
}

/// Makes a run and keeps its report.
fn made(more: &str) -> Made {
    let pki = Pki::new();
    let target = serve_one_connection(&pki).to_string();
    let json = pki.path().join("a.json");
    let output = run(&pki, &target, &format!("--requests 5 --quiet --out {} {more}", json.display()));
    assert!(output.stderr.is_empty(), "{output:?}");
    Made { pki, json }
}

impl Made {
    /// Where a file of this name would be.
    fn file(&self, name: &str) -> PathBuf {
        self.pki.path().join(name)
    }

    /// The report, changed, as another file.
    fn changed(&self, name: &str, change: impl FnOnce(&mut Value)) -> PathBuf {
        let mut report: Value = serde_json::from_str(&fs::read_to_string(&self.json).unwrap()).unwrap();
        change(&mut report);
        fs::write(self.file(name), report.to_string()).unwrap();
        self.file(name)
    }

    /// The same from another process.
    fn of_another_process(&self) -> PathBuf {
        self.changed("b.json", |report| report["processes"][0]["pid"] = 1.into())
    }
}

fn load(command: &str, files: &[&Path], more: &[&str]) -> Output {
    let mut program = Command::new(env!("CARGO_BIN_EXE_ringward-load"));
    program.arg(command).args(files).args(more).output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn a_run_writes_its_report_in_all_forms() {
    let pki = Pki::new();
    let target = serve_one_connection(&pki).to_string();
    let file = |name: &str| pki.path().join(name).display().to_string();
    let out: String =
        ["a.json", "a.csv", "a.html", "a.txt"].map(|name| format!(" --out {}", file(name))).concat();
    let output = run(&pki, &target, &format!("--requests 3 --quiet{out}"));
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let read = |name: &str| fs::read_to_string(file(name)).unwrap();
    assert_eq!(read("a.txt"), text(&output.stdout));
    assert!(read("a.html").starts_with("<!DOCTYPE html>"));
    assert!(read("a.csv").starts_with("time,second,"));
    assert!(read("a.percentiles.csv").contains("\r\nexchange,50,"));
    assert_eq!(read("a.failures.csv"), "kind,count,first\r\n");
    // And the same once more from the JSON.
    let json = pki.path().join("a.json");
    for (format, name) in [("text", "a.txt"), ("json", "a.json"), ("csv", "a.csv"), ("html", "a.html")] {
        let output = load("report", &[&json], &["--format", format]);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        assert_eq!(text(&output.stdout).trim_end(), read(name).trim_end(), "{format}");
        let again = file(&format!("again-{name}"));
        let output = load("report", &[&json], &["--out", &again]);
        assert_eq!((output.status.code(), output.stdout.len()), (Some(0), 0), "{output:?}");
        assert_eq!(read(&format!("again-{name}")).trim_end(), read(name).trim_end(), "{format}");
    }
}

#[test]
fn where_a_report_cannot_go_is_told_before_the_run() {
    let pki = Pki::new();
    for (name, wanted) in
        [("a.xml", "none of .json, .csv, .html and .txt"), ("missing/a.json", "there is no directory")]
    {
        let output =
            run(&pki, "127.0.0.1:1", &format!("--requests 1 --out {}", pki.path().join(name).display()));
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        assert!(text(&output.stderr).contains(wanted), "{output:?}");
    }
}

#[test]
fn what_is_no_report_ends_with_2_and_the_reason() {
    let made = made("");
    let foreign = made.file("foreign.json");
    fs::write(&foreign, "{\"name\": \"x\"}").unwrap();
    let damaged = made.file("damaged.json");
    let good = fs::read_to_string(&made.json).unwrap();
    fs::write(&damaged, &good[..good.len() * 2 / 3]).unwrap();
    let newer = made.changed("newer.json", |report| report["schema"] = 2.into());
    let missing = made.file("missing.json");
    for (file, wanted) in [
        (&foreign, "foreign.json` is no report of `ringward-load run --json`: it has no `schema`"),
        (&damaged, "damaged.json` is no report of `ringward-load run --json`: "),
        (&newer, "newer.json` has schema 2, and this version reads 1"),
        (&missing, "missing.json` cannot be read"),
    ] {
        let out = made.file("out.json").display().to_string();
        for output in [
            load("report", &[file], &[]),
            load("merge", &[&made.json, file], &["--out", &out]),
            load("diff", &[&made.json, file], &[]),
        ] {
            assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{output:?}");
            assert!(text(&output.stderr).contains(wanted), "{output:?}");
        }
    }
}

#[test]
fn reports_of_two_processes_are_merged() {
    let made = made("");
    let other = made.of_another_process();
    let out = made.file("sum.json");
    let output = load("merge", &[&made.json, &other], &["--out", out.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let sum: Value = serde_json::from_str(&fs::read_to_string(&out).unwrap()).unwrap();
    assert_eq!((&sum["right"], sum["processes"].as_array().unwrap().len()), (&10.into(), 2));
    assert!(text(&load("report", &[&out], &[]).stdout).contains("by 2 processes"));
    let output = load("merge", &[&made.json, &made.json], &["--force", "--out", out.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(text(&output.stderr).contains("is in two of them"), "{output:?}");
    let different = made.changed("c.json", |report| {
        report["processes"][0]["pid"] = 1.into();
        report["plan"]["path"] = "/other".into();
    });
    for (force, code) in [(&[][..], 2), (&["--force"], 0)] {
        let more = [force, &["--out", out.to_str().unwrap()]].concat();
        let output = load("merge", &[&made.json, &different], &more);
        assert_eq!(output.status.code(), Some(code), "{output:?}");
    }
}

#[test]
fn what_is_worse_ends_with_1_if_it_is_to() {
    let made = made("");
    // Twelve whole seconds, in all of which so many fail.
    let failing = |name: &str, failed: u64| {
        made.changed(name, |report| {
            report["failed"] = (12 * failed).into();
            report["processes"][0]["started"] = "2027-01-15T08:00:00Z".into();
            report["seconds"] = 12.0.into();
            let second = |index: u64| {
                serde_json::json!({
                    "unix": 1_800_000_000 + index, "lasts": 1.0, "right": 10, "failed": failed, "opened": 0, "open": 1,
                    "load_cpu": 0.0
                })
            };
            report["series"] = (0..12).map(second).collect();
        })
    };
    let (better, worse) = (failing("better.json", 0), failing("worse.json", 3));
    let limit = ["--fail-if-worse", "5"];
    for (files, more, code) in [
        ([&better, &worse], &limit[..], 1),
        ([&better, &worse], &[], 0),
        ([&worse, &better], &limit, 0),
        ([&better, &better], &limit, 0),
    ] {
        let output = load("diff", &files.map(PathBuf::as_path), more);
        assert_eq!(output.status.code(), Some(code), "{output:?}");
        assert_eq!(text(&output.stderr).contains("worse: failures"), code == 1, "{output:?}");
    }
    let output = load("diff", &[&better, &worse], &["--json"]);
    let comparison: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(comparison["quantities"][1]["verdict"], "more", "{comparison}");
    // Several of each.
    let [a, b] = [&better, &worse].map(|file| file.to_str().unwrap());
    let output = load("diff", &[], &["--before", a, a, "--after", b, b]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let output = load("diff", &[], &["--before", a, "--after", b, b]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
}

/// A browser reads the page as it is meant: all plots are there, and what a target said is text.
#[test]
fn a_browser_understands_the_page() {
    let Ok(output) = Command::new("chromium").arg("--version").output() else {
        eprintln!("chromium is not installed; .ci/packages installs it");
        return;
    };
    assert!(output.status.success(), "{output:?}");
    let made = made("--expect-status 403");
    let evil = "</td><script>document.title='owned'</script><svg class=plot>";
    let json = made.changed("evil.json", |report| {
        report["failures"]["status"]["first"] = evil.into();
        report["tls"] = evil.into();
    });
    let page = made.file("evil.html");
    assert_eq!(load("report", &[&json], &["--out", page.to_str().unwrap()]).status.code(), Some(0));
    let profile = format!("--user-data-dir={}", made.file("profile").display());
    let output = Command::new("timeout")
        .args(["120", "chromium", "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom", &profile])
        .arg(format!("file://{}", page.display()))
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let dom = text(&output.stdout);
    assert!(dom.trim_end().ends_with("</html>") && dom.contains("<title>keepalive of 127.0.0.1:"), "{dom}");
    // Percentiles, times, throughput, connections, CPU.
    let sections = dom.matches("<svg class=\"plot\"").count() + dom.matches("Nothing to show.").count();
    assert_eq!(sections, 5, "{dom}");
    assert!(dom.matches("<path class=\"line").count() >= 2 * 5, "{dom}");
    assert!(!dom.contains("<script") && dom.contains("&lt;script&gt;"), "{dom}");
}
