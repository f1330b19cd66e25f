//! `ringward check`: every kind of bad input is an error with its place and the way out, and exit code 2.
#![allow(clippy::unwrap_used, reason = "a failed expectation is a failed test")]

mod common;

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::process::{ExitStatus, Stdio};

use ringward_testkit::{Authority, DEADLINE, Issued, Leaf, Process};
use serde_json::Value;

use ringward_policy::child::{Request, Task};
use ringward_policy::{Limits, PolicySet, Source};

use self::common::{HOST, POLICY, World, ringward};

struct Checked {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

fn check(world: &World, arguments: &[&str]) -> Checked {
    command(world, "check", arguments)
}

fn command(world: &World, name: &str, arguments: &[&str]) -> Checked {
    let mut process =
        Process::start(ringward().arg(name).arg("-c").arg(world.path("ringward.toml")).args(arguments));
    let code = process.wait(DEADLINE).code();
    // The temporary directory has another name each time.
    let tidy = |text: String| text.replace(&format!("{}/", world.pki.path().display()), "");
    Checked { code, stdout: tidy(process.stdout()), stderr: tidy(process.stderr()) }
}

/// Both `check` and `run` refuse with exit code 2 and say all of `expected`.
#[track_caller]
fn refused(world: &World, expected: &[&str]) {
    for name in ["check", "run"] {
        let Checked { code, stdout, stderr } = command(world, name, &[]);
        assert_eq!(code, Some(2), "{name}: {stdout}{stderr}");
        for part in expected {
            assert!(stderr.contains(part), "{name} does not say {part:?} but\n{stderr}");
        }
    }
}

#[test]
fn a_good_configuration_is_summed_up() {
    let world = World::new();
    let Checked { code, stdout, stderr } = check(&world, &[]);
    assert_eq!(code, Some(0), "{stderr}");
    for part in [
        "listener edge on 127.0.0.1:0",
        HOST,
        "certificate required, issued by trust partners",
        "policy main",
    ] {
        assert!(stdout.contains(part), "{part}: {stdout}");
    }
}

#[test]
fn the_summary_says_who_speaks_what() {
    let world = World::new();
    world.edit_config("id = \"all\"", "id = \"all\"\nupgrade = [\"websocket\"]");
    world.edit_config(
        "[[listener]]",
        "[cluster.calls]\nendpoints = \"127.0.0.1:9\"\nprotocol = \"http2\"\n\
         health_check = { grpc = \"a.B\", interval = \"2s\" }\n\n[[listener]]",
    );
    let Checked { stdout, stderr, .. } = check(&world, &[]);
    for part in [
        "listener edge on 127.0.0.1:0: HTTP/2 and HTTP/1.1",
        "policy main, upgrade to websocket",
        "cluster calls: http2 to 127.0.0.1:9; checked by gRPC health of a.B every 2s",
        &format!("cluster echo: http1 to {}; not checked", world.upstream.address()),
    ] {
        assert!(stdout.contains(part), "{part}: {stdout}{stderr}");
    }
    let json: Value = serde_json::from_str(&check(&world, &["--json"]).stdout).unwrap();
    let listener = &json["summary"]["listeners"][0];
    assert_eq!(listener["http2"], true);
    assert_eq!(listener["hosts"][0]["routes"][0]["upgrade"][0], "websocket");
    world.edit_config("name = \"edge\"", "name = \"edge\"\nhttp2 = false");
    assert!(check(&world, &[]).stdout.contains("listener edge on 127.0.0.1:0: HTTP/1.1\n"));
    let calls = &json["summary"]["clusters"][0];
    assert_eq!((&calls["name"], &calls["protocol"]), (&"calls".into(), &"http2".into()));
    assert_eq!(calls["health_check"]["probe"], "gRPC health of a.B");
}

#[test]
fn json_has_problems_or_a_summary() {
    let world = World::new();
    let good = check(&world, &["--json"]);
    let good: Value = serde_json::from_str(&good.stdout).unwrap();
    assert_eq!((&good["ok"], &good["summary"]["listeners"][0]["name"]), (&true.into(), &"edge".into()));
    world.edit_config("workers = 2", "wokers = 2");
    let Checked { code, stdout, .. } = check(&world, &["--json"]);
    assert_eq!(code, Some(2));
    let bad: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!((&bad["ok"], &bad["problems"][0]["line"]), (&false.into(), &2.into()));
}

#[test]
fn a_client_certificate_is_judged_as_in_a_handshake() {
    let world = World::new();
    let judge = |name: &str, issued: &Issued| {
        let chain = world.pki.write_pem(&format!("clients/{name}"), issued).chain;
        let Checked { code, stdout, stderr } = check(&world, &["--cert", chain.to_str().unwrap()]);
        assert_eq!(code, Some(0), "{stderr}");
        stdout.split_once("\nclient ").unwrap_or_else(|| panic!("{stdout}")).1.to_owned()
    };
    world.edit_config("path = \"/{rest...}\"", "path = \"/a\"");
    let admitted = judge("partner", &world.partner);
    assert!(admitted.contains("admitted as CN=partner-a"), "{admitted}");
    assert!(admitted.contains("GET /a: allowed, rule partner_a"), "{admitted}");
    let other = judge("other", &world.root.issue(&Leaf::client("partner-b")));
    assert!(other.contains("GET /a: denied, rule default"), "{other}");
    let stranger = judge("stranger", &Authority::root("Stranger").issue(&Leaf::client("partner-a")));
    assert!(stranger.contains("refused, unknown_issuer: "), "{stranger}");
    let expired = judge("expired", &world.root.issue(&Leaf::client("partner-a").expired()));
    assert!(expired.contains("refused, expired: ") && !expired.contains("GET"), "{expired}");
    let Checked { code, stderr, .. } = check(&world, &["--cert", world.path("api.key").to_str().unwrap()]);
    assert_eq!(code, Some(2));
    assert!(stderr.contains("holds no certificate"), "{stderr}");
}

#[test]
fn a_missing_configuration() {
    let world = World::new();
    fs::remove_file(world.path("ringward.toml")).unwrap();
    refused(
        &world,
        &[
            "ringward.toml: error: `ringward.toml` cannot be read",
            "name the configuration file with `-c FILE`",
        ],
    );
}

#[test]
fn malformed_toml() {
    let world = World::new();
    world.edit_config("workers = 2", "workers = = 2");
    refused(&world, &["ringward.toml:2:11: error: ", "2 | workers = = 2"]);
}

#[test]
fn an_unknown_key() {
    let world = World::new();
    world.edit_config("workers = 2", "wokers = 2");
    refused(&world, &["ringward.toml:2:1: error: ", "wokers", "workers"]);
}

#[test]
fn a_key_whose_feature_is_not_there_yet() {
    let world = World::new();
    world.edit_config("workers = 2", "workers = 2\nseccomp = true");
    refused(&world, &["ringward.toml:3:1: error: ", "seccomp"]);
}

#[test]
fn a_missing_file() {
    let world = World::new();
    fs::remove_file(world.path("api.pem")).unwrap();
    refused(
        &world,
        &["ringward.toml:26:25: error: `api.pem` cannot be read", "26 | certificate = {", "= help: "],
    );
}

#[test]
fn a_key_that_others_can_read() {
    let world = World::new();
    fs::set_permissions(world.path("api.key"), fs::Permissions::from_mode(0o644)).unwrap();
    refused(
        &world,
        &[
            "ringward.toml:26:42: error: `api.key` is a secret and is accessible to others",
            "(mode 0644)",
            "chmod 0600 api.key",
        ],
    );
}

#[test]
fn a_key_of_another_certificate() {
    let world = World::new();
    world.pki.write("api.key", world.server().key_pem());
    refused(&world, &["ringward.toml:26:", "the private key does not belong to the certificate"]);
}

#[test]
fn an_expired_certificate() {
    let world = World::new();
    world.pki.write_pem("api", &world.root.issue(&Leaf::server(HOST).expired()));
    refused(&world, &["ringward.toml:26:", "expired on", "danger_allow_expired_certificate = true"]);
    world.edit_config("policy = \"main\"", "policy = \"main\"\ndanger_allow_expired_certificate = true");
    let Checked { code, stderr, .. } = check(&world, &[]);
    assert_eq!(code, Some(0), "{stderr}");
    assert!(stderr.contains("warning: ") && stderr.contains("expired"), "{stderr}");
}

#[test]
fn a_certificate_for_another_name() {
    let world = World::new();
    world.pki.write_pem("api", &world.root.issue(&Leaf::server("www.example.org")));
    refused(
        &world,
        &[
            "ringward.toml:26:25: error: the certificate in `api.pem` is not for `api.example.com`",
            "it is for `www.example.org`",
        ],
    );
}

#[test]
fn trust_in_nobody() {
    let world = World::new();
    world.pki.write("trust/partners.pem", "nothing");
    refused(&world, &["ringward.toml:12:7: error: trust bundle `partners` holds no usable CA"]);
    fs::remove_file(world.path("trust/partners.pem")).unwrap();
    refused(&world, &["ringward.toml:12:7: error: `trust/` holds no *.pem, *.crt or *.cer"]);
}

#[test]
fn trust_in_one_expired_ca_beside_a_good_one() {
    let world = World::new();
    world.pki.write_authorities("trust/old.pem", &[&Authority::expired_root("Old Root")]);
    let Checked { code, stderr, .. } = check(&world, &[]);
    assert_eq!(code, Some(0), "{stderr}");
    assert!(stderr.contains("warning: left out of trust bundle `partners`: trust/old.pem: "), "{stderr}");
}

#[test]
fn trust_in_the_whole_web() {
    let world = World::new();
    world.edit_config("ca = [\"trust/\"]", "ca = [\"/etc/ssl/certs/ca-certificates.crt\"]");
    refused(&world, &["ringward.toml:12:7: error: ", "public web"]);
    // Under another name the content gives it away.
    let world = World::new();
    let public = ["ISRG Root X1", "DigiCert Global Root G2", "GTS Root R1"].map(Authority::root);
    let public: Vec<&Authority> = public.iter().collect();
    world.pki.write_authorities("trust/more.pem", &public);
    refused(&world, &["ringward.toml:12:7: error: ", "CAs of the public web", "ISRG Root X1"]);
}

#[test]
fn a_policy_that_does_not_parse() {
    let world = World::new();
    world.pki.write("policies/authz.rego", POLICY.replace("default decision", "default default decision"));
    refused(&world, &["policies/authz.rego:3:", "error: "]);
}

#[test]
fn a_policy_that_bombs_the_parser() {
    let world = World::new();
    let bomb = format!("{POLICY}\nbomb := {}1{}\n", "[".repeat(24), "]".repeat(24));
    world.pki.write("policies/authz.rego", bomb);
    refused(&world, &["policies/authz.rego:12:17: error: brackets nested deeper than 8", "= help: "]);
}

#[test]
fn a_policy_that_recurses() {
    let world = World::new();
    world.pki.write("policies/authz.rego", format!("{POLICY}\nf(x) := f(x)\n"));
    refused(&world, &["policies/authz.rego:", "error: ", "f"]);
}

#[test]
fn a_policy_without_the_rule() {
    let world = World::new();
    world.edit_config(
        "path = [\"policies/\"]",
        "path = [\"policies/\"]\nrule = \"data.ringward.authz.nothing\"",
    );
    refused(&world, &["ringward.toml:16:8: error: ", "data.ringward.authz.nothing"]);
}

#[test]
fn a_policy_whose_tests_fail() {
    let world = World::new();
    let test = "package ringward.authz_test\n\nimport data.ringward.authz\n\ntest_open if not authz.decision.allowed with input.request.path as \"/open\"\n";
    world.pki.write("policies/authz_test.rego", test);
    refused(&world, &["policies/authz_test.rego:5:", "test_open"]);
}

/// The child process of a check, with these limits, on a policy with a data document of this size.
fn policy_child(memory_bytes: u64, data_bytes: usize) -> ExitStatus {
    let data = format!("{{\"filler\": [{}0]}}", "1,".repeat(data_bytes / 2));
    let sources = vec![Source::new("a.rego", POLICY.as_bytes()), Source::new("data.json", data.into_bytes())];
    let set = PolicySet::new(sources, "data.ringward.authz.decision", Limits::default());
    let request = Request::encode(&set, &Task::Check);
    let mut child = ringward()
        .args(["policy-check-child", "10", &memory_bytes.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    // It may die before it has read all.
    let _ = child.stdin.take().unwrap().write_all(&request);
    child.wait().unwrap()
}

#[test]
fn a_policy_that_eats_memory_kills_the_child_and_not_us() {
    assert_eq!(policy_child(2 << 30, 4 << 20).code(), Some(0));
    let death = policy_child(128 << 20, 4 << 20);
    assert!(!matches!(death.code(), Some(0 | 1)), "{death}");
}

#[test]
fn all_problems_are_reported_at_once_in_the_order_of_the_file() {
    let world = World::new();
    fs::set_permissions(world.path("api.key"), fs::Permissions::from_mode(0o640)).unwrap();
    fs::remove_file(world.path("api.pem")).unwrap();
    world.pki.write("trust/partners.pem", "nothing");
    let Checked { code, stderr, .. } = check(&world, &[]);
    assert_eq!(code, Some(2));
    let places: Vec<&str> = stderr
        .lines()
        .filter_map(|line| line.split(": error: ").next())
        .filter(|line| line.starts_with("ringward.toml:"))
        .collect();
    assert_eq!(places, ["ringward.toml:12:7", "ringward.toml:26:25", "ringward.toml:26:42"]);
    assert!(stderr.contains("3 errors"), "{stderr}");
}

#[test]
fn keys_of_the_configuration_are_explained() {
    let help = |arguments: &[&str]| {
        let mut process = Process::start(ringward().arg("help").args(arguments));
        (process.wait(DEADLINE).code(), process.stdout(), process.stderr())
    };
    for (arguments, expected) in [
        (&["config"][..], &["[cluster.NAME]\n", "[[listener.host]]\n", "[server]\n"][..]),
        (
            &["config", "cluster"],
            &["[cluster.NAME]\n", "\nprotocol\n    What the endpoints speak", "\nhealth_check\n"],
        ),
        (&["config", "cluster.NAME.protocol"], &["Default `\"http1\"`"]),
        (&["config", "[listener.tls]"], &["\nmin_version\n"]),
        (&["trust", "status"], &["Usage: ringward trust status"]),
        (&["run"], &["Exit codes: 0, ", "NOTIFY_SOCKET", "LISTEN_FDS"]),
        (&["reload"], &["Exit codes: 0, ", "--timeout"]),
        (&[], &["Usage: ringward <COMMAND>", "  check "]),
    ] {
        let (code, stdout, stderr) = help(arguments);
        assert_eq!(code, Some(0), "{arguments:?}: {stderr}");
        for part in expected {
            assert!(stdout.contains(part), "{arguments:?} does not say {part:?} but\n{stdout}");
        }
    }
    let schema: Value = serde_json::from_str(&help(&["config", "--json-schema"]).1).unwrap();
    assert!(schema["properties"]["listener"].is_object(), "{schema}");
    for unknown in [&["config", "cluster.protokol"][..], &["chekc"], &["check", "--json-schema"]] {
        let (code, _, stderr) = help(unknown);
        assert!(code == Some(2) && stderr.contains("ringward help"), "{unknown:?}: {stderr}");
    }
}
