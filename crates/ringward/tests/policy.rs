//! `ringward policy`: what authors of policies ask, with the answers for people and for scripts, and the exit codes.
#![allow(clippy::unwrap_used, reason = "a failed expectation is a failed test")]

mod common;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use ringward_testkit::{DEADLINE, Process};
use serde_json::{Value, json};
use tempfile::TempDir;

use self::common::{World, ringward};

const POLICY: &str = r#"package ringward.authz

default decision := {"allowed": false, "rule": "default"}

decision := {"allowed": true, "rule": "readers"} if {
	reader
	input.request.method == "GET"; startswith(input.request.path, "/docs")
}

reader if "Readers" in input.client.subject.organizational_units
"#;

const TESTS: &str = r#"package ringward.authz_test

import data.ringward.authz

decide(unit, path) := decision if {
	decision := authz.decision with input as {
		"client": {"subject": {"organizational_units": [unit]}},
		"request": {"method": "GET", "path": path},
	}
}

test_readers if {
	print("deciding")
	decide("Readers", "/docs/1").allowed
}

test_others if not decide("Others", "/docs/1").allowed
"#;

/// A directory with a policy and its tests.
struct Desk {
    dir: TempDir,
}

struct Answer {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Desk {
    fn new() -> Desk {
        let desk = Desk { dir: TempDir::new().unwrap() };
        fs::create_dir(desk.dir.path().join("mine")).unwrap();
        desk.write("mine/authz.rego", POLICY);
        desk.write("mine/authz_test.rego", TESTS);
        desk
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.dir.path().join(name), text).unwrap();
    }

    /// Runs `ringward policy` in the directory.
    fn ask(&self, arguments: &[&str]) -> Answer {
        ask_in(self.dir.path(), arguments)
    }

    /// What `ringward policy ... --json` prints, and the exit code.
    fn ask_json(&self, arguments: &[&str]) -> (Value, Option<i32>) {
        let answer = self.ask(&[arguments, &["--json"]].concat());
        let json = serde_json::from_str(&answer.stdout);
        (json.unwrap_or_else(|error| panic!("{error}: {}{}", answer.stdout, answer.stderr)), answer.code)
    }
}

fn ask_in(dir: &Path, arguments: &[&str]) -> Answer {
    let mut process = Process::start(ringward().arg("policy").args(arguments).current_dir(dir));
    let code = process.wait(DEADLINE).code();
    Answer { code, stdout: process.stdout(), stderr: process.stderr() }
}

#[track_caller]
fn says(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "does not say {part:?} but\n{text}");
    }
}

fn policies() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../policies")
}

/// Every directory of `policies/` is a complete policy: accepted without a warning, all its lines covered by its tests.
#[test]
fn the_library_passes_its_own_tests() {
    let mut checked = 0;
    for entry in fs::read_dir(policies()).unwrap() {
        let path = entry.unwrap().path();
        if !path.is_dir() {
            continue;
        }
        let name = path.file_name().unwrap().to_str().unwrap();
        let engine = match name {
            "matcher" | "cedar" => name,
            _ => "rego",
        };
        let check = ask_in(&policies(), &["check", name, "--engine", engine]);
        assert_eq!((check.code, check.stderr.as_str()), (Some(0), ""), "{name}: {}", check.stdout);
        checked += 1;
        if engine != "rego" {
            continue;
        }
        let test = ask_in(&policies(), &["test", name, "--coverage", "--threshold", "100"]);
        assert_eq!(test.code, Some(0), "{name}: {}{}", test.stdout, test.stderr);
    }
    assert!(checked >= 10, "only {checked} policies");
    let sample = ["test", "authz.rego", "authz_test.rego", "data.json", "--coverage", "--threshold", "100"];
    let sample = ask_in(&policies(), &sample);
    assert_eq!(sample.code, Some(0), "{}{}", sample.stdout, sample.stderr);
}

#[test]
fn tests_are_reported_one_by_one() {
    let desk = Desk::new();
    let passed = desk.ask(&["test", "mine"]);
    assert_eq!(passed.code, Some(0), "{}", passed.stderr);
    says(&passed.stdout, &["data.ringward.authz_test.test_readers", "2 passed, 0 failed, 0 skipped in "]);
    assert!(!passed.stdout.contains("deciding"), "{}", passed.stdout);
    says(&desk.ask(&["test", "mine", "-v"]).stdout, &["mine/authz_test.rego:13: deciding"]);

    let one = desk.ask(&["test", "mine", "--run", "test_o"]);
    assert_eq!(one.code, Some(0));
    says(&one.stdout, &["1 passed, 0 failed"]);
    for (run, complaint) in [("nothing", "no test matches `nothing`"), ("(", "is no regular expression")] {
        let none = desk.ask(&["test", "mine", "--run", run]);
        assert_eq!(none.code, Some(2));
        says(&none.stderr, &[complaint]);
    }
}

#[test]
fn failed_tests_are_shown_with_what_they_printed() {
    let desk = Desk::new();
    desk.write("mine/authz.rego", &POLICY.replace("/docs", "/documents"));
    desk.write(
        "mine/more_test.rego",
        "package more_test\n\ntest_errs if to_number(\"x\") == 1\n\ntodo_test_later if false\n",
    );
    let failed = desk.ask(&["test", "mine"]);
    assert_eq!(failed.code, Some(1));
    says(
        &failed.stdout,
        &[
            "FAILED",
            "mine/authz_test.rego:14: decide(\"Readers\", \"/docs/1\").allowed\n         mine/authz_test.rego:13: deciding",
            "ERROR",
            "mine/more_test.rego:3: ",
            "1 passed, 2 failed, 1 skipped",
        ],
    );
    let (json, code) = desk.ask_json(&["test", "mine"]);
    assert_eq!((&json["ok"], code), (&json!(false), Some(1)));
    assert_eq!((&json["passed"], &json["failed"], &json["skipped"]), (&json!(1), &json!(2), &json!(1)));
    let test = json["tests"].as_array().unwrap().iter().find(|test| test["outcome"] == "failed").unwrap();
    assert_eq!(test["name"], "data.ringward.authz_test.test_readers");
    assert_eq!((&test["file"], &test["line"]), (&json!("mine/authz_test.rego"), &json!(12)));
    assert_eq!(test["prints"], json!(["mine/authz_test.rego:13: deciding"]));
    assert_eq!(test["failed"]["line"], 14);
    assert!(test["took_ns"].is_u64() && test["error"].is_null());
}

#[test]
fn a_policy_without_tests_has_not_passed() {
    let desk = Desk::new();
    fs::remove_file(desk.dir.path().join("mine/authz_test.rego")).unwrap();
    let answer = desk.ask(&["test", "mine"]);
    assert_eq!(answer.code, Some(2));
    says(&answer.stderr, &["the policy has no tests", "_test.rego"]);
}

#[test]
fn a_test_has_its_time() {
    let desk = Desk::new();
    let long = "package long_test\n\ntest_long if count([1 | some i in numbers.range(1, 9000); some j in numbers.range(1, 9000); i + j == 1]) == 0\n";
    desk.write("mine/long_test.rego", long);
    let answer = desk.ask(&["test", "mine", "--run", "long", "--timeout", "1s"]);
    assert_eq!(answer.code, Some(1), "{}", answer.stderr);
    says(&answer.stdout, &["ERROR", "time budget"]);
}

#[test]
fn coverage_has_a_threshold() {
    let desk = Desk::new();
    let uncovered = format!(
        "{POLICY}\ndecision := {{\"allowed\": true, \"rule\": \"root\"}} if {{\n\tinput.request.path == \"/\"\n\tfalse\n}}\n"
    );
    desk.write("mine/authz.rego", &uncovered);
    let short = desk.ask(&["test", "mine", "--coverage", "--threshold", "80"]);
    assert_eq!(short.code, Some(1));
    says(&short.stdout, &["2 passed, 0 failed", "coverage 75 %, 6 of 8 lines", "mine/authz.rego"]);
    says(&short.stderr, &["75 % of the lines are covered, less than 80 %"]);
    assert_eq!(desk.ask(&["test", "mine", "--coverage", "--threshold", "75"]).code, Some(0));
    assert_eq!(desk.ask(&["test", "mine", "--threshold", "75"]).code, Some(2));

    let lines = desk.ask(&["coverage", "mine"]);
    assert_eq!(lines.code, Some(0));
    says(&lines.stdout, &["not covered in mine/authz.rego:", "   12  decision := ", "   14      false"]);
    let (json, code) = desk.ask_json(&["coverage", "mine", "--threshold", "80"]);
    assert_eq!((&json["ok"], code), (&json!(false), Some(1)));
    let coverage = &json["coverage"];
    assert_eq!((&coverage["percent"], &coverage["threshold"]), (&json!(75), &json!(80)));
    assert_eq!(coverage["files"][0]["not_covered"], json!([12, 14]));
    desk.write("mine/authz_test.rego", &TESTS.replace("if not decide", "if decide"));
    assert_eq!(desk.ask(&["coverage", "mine"]).code, Some(1));
}

#[test]
fn a_check_reports_all_problems_or_what_is_read() {
    let desk = Desk::new();
    let good = desk.ask(&["check", "mine"]);
    assert_eq!((good.code, good.stderr.as_str()), (Some(0), ""));
    says(
        &good.stdout,
        &["input.client.subject.organizational_units, input.request.method", "tests     2 passed"],
    );
    let (json, code) = desk.ask_json(&["check", "mine"]);
    assert_eq!((&json["ok"], code), (&json!(true), Some(0)));
    assert_eq!(json["reads"][2], "request.path");
    assert_eq!((&json["problems"], &json["impure"]), (&json!([]), &json!([])));

    desk.write(
        "mine/authz.rego",
        &POLICY.replace("request.method", "request.mehtod").replace("startswith", "startwith"),
    );
    let bad = desk.ask(&["check", "mine"]);
    assert_eq!(bad.code, Some(2));
    says(
        &bad.stderr,
        &["mine/authz.rego:7:2: error: ", "did you mean `method`?", "did you mean `startswith`?"],
    );
    let (json, code) = desk.ask_json(&["check", "mine"]);
    assert_eq!((&json["ok"], code), (&json!(false), Some(2)));
    let problem = &json["problems"][0];
    assert_eq!((&problem["file"], &problem["line"]), (&json!("mine/authz.rego"), &json!(7)));
    assert_eq!(problem["severity"], "error");
    assert!(problem["help"].as_str().unwrap().contains("did you mean"));
    // A refused policy is refused by every command.
    for command in ["test", "eval", "coverage", "bench"] {
        let answer = desk.ask(&[command, "mine"]);
        assert_eq!(answer.code, Some(2), "{command}: {}", answer.stdout);
        says(&answer.stderr, &["did you mean `method`?"]);
    }
    assert_eq!(desk.ask(&["check", "nowhere"]).code, Some(2));
    assert_eq!(desk.ask(&["check"]).code, Some(2));
}

#[test]
fn an_input_is_evaluated_and_explained() {
    let desk = Desk::new();
    desk.write(
        "in.json",
        r#"{"client": {"subject": {"organizational_units": ["Readers"]}}, "request": {"path": "/docs/1"}}"#,
    );
    let allowed = desk.ask(&["eval", "mine", "--input", "in.json", "--fail"]);
    assert_eq!(allowed.code, Some(0), "{}", allowed.stderr);
    says(&allowed.stdout, &["allowed\n  rule    readers"]);

    let denied = desk.ask(&["eval", "mine", "--input", "in.json", "--path", "/else?x=1", "--explain"]);
    assert_eq!(denied.code, Some(0));
    says(
        &denied.stdout,
        &[
            "denied\n  rule    default",
            "failed     mine/authz.rego:5  decision := {\"allowed\": true, \"rule\": \"readers\"}",
            "failed at mine/authz.rego:7  startswith(input.request.path, \"/docs\")\n      input.request.path = \"/else\"",
            "held       mine/authz.rego:10  reader",
        ],
    );
    let (json, code) =
        desk.ask_json(&["eval", "mine", "--input", "in.json", "--method", "PUT", "--explain", "--fail"]);
    assert_eq!((&json["ok"], &json["decision"], code), (&json!(true), &json!("denied"), Some(1)));
    assert_eq!(json["input"]["request"]["method"], "PUT");
    let (path, _) = desk.ask_json(&["eval", "mine", "--input", "in.json", "--path", "/x/y?a=b"]);
    let request = &path["input"]["request"];
    assert_eq!((&request["segments"], &request["raw_path"]), (&json!(["x", "y"]), &json!("/x/y?a=b")));
    assert_eq!(request["query"], json!({ "a": ["b"] }));
    let body = &json["explanation"]["rules"][0]["bodies"][0];
    assert_eq!((&body["outcome"], &body["failed"]["line"]), (&json!("failed"), &json!(7)));
    assert_eq!(body["failed"]["input"], json!({ "request.method": "PUT" }));
}

#[test]
fn an_input_comes_from_standard_input_too() {
    let desk = Desk::new();
    let mut child = ringward()
        .args(["policy", "eval", "mine", "--input", "-", "--json"])
        .current_dir(desk.dir.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(br#"{"request": {"headers": {"x-a": "1"}}}"#).unwrap();
    let output = child.wait_with_output().unwrap();
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["input"]["request"]["headers_all"], json!({ "x-a": ["1"] }));
}

#[test]
fn what_no_input_has_is_refused() {
    let desk = Desk::new();
    for (input, complaint) in [
        (r#"{"request": {"pth": "/"}}"#, "did you mean `path`?"),
        (r#"{"client": {"verified": 1}}"#, "`input.client.verified` is a number, expected a boolean"),
        ("[]", "`input` is a list, expected an object"),
        ("{", "is no JSON"),
    ] {
        desk.write("in.json", input);
        for command in ["eval", "bench"] {
            let answer = desk.ask(&[command, "mine", "--input", "in.json"]);
            assert_eq!(answer.code, Some(2), "{input}: {}", answer.stdout);
            says(&answer.stderr, &[complaint]);
        }
    }
    desk.write("in.json", r#"{"request": {"pth": "/", "headers": {"x-a": "1"}}}"#);
    let (json, code) = desk.ask_json(&["eval", "mine", "--input", "in.json"]);
    assert_eq!((&json["ok"], code), (&json!(false), Some(2)));
    assert!(json["problems"][0]["message"].as_str().unwrap().contains("did you mean `path`?"));
    let both = desk.ask(&["eval", "mine", "--input", "in.json", "--header", "x-b: 1"]);
    assert_eq!(both.code, Some(2));
    says(&both.stderr, &["give all of them in one place"]);
    let header = desk.ask(&["eval", "mine", "--header", "Client-Cert: x"]);
    assert_eq!(header.code, Some(2));
    says(&header.stderr, &["`client-cert`, which policies never see"]);
}

#[test]
fn a_certificate_says_who_asks_and_the_configuration_which_policy() {
    let world = World::new();
    let chain = world.pki.write_pem("clients/partner", &world.partner).chain;
    let chain = chain.to_str().unwrap();
    let of_config = |arguments: &[&str]| {
        let arguments = [arguments, &["-c", "ringward.toml"]].concat();
        ask_in(world.pki.path(), &arguments)
    };
    let allowed = of_config(&["eval", "--cert", chain, "--path", "/a", "--header", "X-A: 1", "--json"]);
    let json: Value = serde_json::from_str(&allowed.stdout).unwrap_or_else(|_| panic!("{}", allowed.stderr));
    assert_eq!((&json["decision"], &json["rule"]), (&json!("allowed"), &json!("partner_a")));
    assert_eq!(json["input"]["client"]["subject"]["common_name"], "partner-a");
    assert_eq!(json["input"]["request"]["headers"], json!({ "x-a": "1" }));
    let denied = of_config(&["eval", "--policy", "main", "--path", "/a", "--fail"]);
    assert_eq!(denied.code, Some(1), "{}", denied.stderr);
    let key = of_config(&["eval", "--cert", "api.key"]);
    assert_eq!(key.code, Some(2));
    says(&key.stderr, &["`api.key` holds no certificate in PEM form"]);

    says(&of_config(&["check", "--policy", "other"]).stderr, &["no policy `other`; there are `main`"]);
    world.edit_config("[policy.main]", "[policy.second]\npath = [\"policies/\"]\n\n[policy.main]");
    let which = of_config(&["check"]);
    assert_eq!(which.code, Some(2));
    says(&which.stderr, &["which policy? `--policy` takes one of", "`second`"]);
    world.edit_config("workers = 2", "wokers = 2");
    let broken = of_config(&["check", "--policy", "main"]);
    assert_eq!(broken.code, Some(2));
    says(&broken.stderr, &["ringward.toml:2:1: error: "]);
}

#[test]
fn no_decision_is_a_failure() {
    let desk = Desk::new();
    desk.write("mine/authz.rego", "package ringward.authz\n\ndefault decision := false\n\ndecision if to_number(input.request.path) == 1\n");
    fs::remove_file(desk.dir.path().join("mine/authz_test.rego")).unwrap();
    let answer = desk.ask(&["eval", "mine"]);
    assert_eq!(answer.code, Some(1), "{}", answer.stderr);
    says(&answer.stdout, &["error\n  error   policy evaluation failed: mine/authz.rego:5:"]);
}

#[test]
fn a_measurement_has_its_spread() {
    let desk = Desk::new();
    let (json, code) = desk.ask_json(&["bench", "mine", "--for", "1s"]);
    assert_eq!((&json["ok"], code), (&json!(true), Some(0)));
    let figure = |name: &str| json[name].as_u64().unwrap_or_else(|| panic!("{name}: {json}"));
    assert!(figure("fastest_ns") <= figure("median_ns") && figure("median_ns") <= figure("slowest_ns"));
    assert!(figure("evaluations") > 0 && figure("per_second") > 0 && figure("runs") > 0);
    assert_eq!(json["decision"], "denied");
    assert_eq!(desk.ask(&["bench", "mine", "--for", "2m"]).code, Some(2));
}

#[test]
fn the_schema_is_for_people_and_for_tools() {
    let desk = Desk::new();
    says(&desk.ask(&["schema"]).stdout, &["FIELD", "input.request.path", "map of lists of strings"]);
    let (schema, code) = desk.ask_json(&["schema"]);
    assert_eq!(code, Some(0));
    assert_eq!(schema["properties"]["request"]["properties"]["path"]["type"], "string");
    // By both names of the option.
    says(
        &desk.ask(&["schema", "--input", "envoy-v3"]).stdout,
        &["input.attributes.source.principal", "string?"],
    );
    let (schema, _) = desk.ask_json(&["schema", "--shape", "kong"]);
    assert_eq!(schema["examples"][0]["request"]["http"]["method"], "GET");
    assert_eq!(desk.ask(&["schema", "--shape", "envoy"]).code, Some(2));
}

#[test]
fn a_policy_for_another_gateway_is_tried_with_its_input() {
    let desk = Desk::new();
    let policy = r#"package envoy.authz

default allow := false

allow if {
	input.parsed_path == ["orders", "17"]
	input.parsed_query.page == ["2"]
	input.attributes.request.http.headers["x-a"] == "1"
	input.attributes.request.http.method == "PUT"
}
"#;
    desk.write("envoy.rego", policy);
    let shape = ["--rule", "data.envoy.authz.allow", "--shape", "envoy-v3"];
    let ask = |options: &[&str]| desk.ask_json(&[&["eval", "envoy.rego"], &shape[..], options].concat());
    let request = ["--path", "/orders/17?page=2", "--header", "X-A: 1", "--method"];
    let (put, _) = ask(&[&request[..], &["PUT"]].concat());
    assert_eq!((&put["decision"], &put["input"]["parsed_body"]), (&json!("allowed"), &Value::Null));
    assert_eq!(put["input"]["attributes"]["request"]["http"]["headers"][":path"], "/orders/17?page=2");
    assert_eq!(ask(&[&request[..], &["GET"]].concat()).0["decision"], "denied");
    desk.write("input.json", r#"{"attributes": {"request": {"http": {"method": "PUT"}}}}"#);
    let both = ["eval", "envoy.rego", "--input", "input.json", "--method", "GET"];
    assert_eq!(desk.ask(&[&both[..], &shape].concat()).code, Some(2), "said twice");
}
