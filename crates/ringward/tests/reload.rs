//! Changes of files while the proxy runs: in force at once if they are good, without effect if not.
#![allow(clippy::unwrap_used, reason = "a failed expectation is a failed test")]

mod common;

use std::fs;
use std::os::unix::fs::symlink;

use ringward_testkit::{Authority, Client, Closing, DEADLINE, Leaf, Signal, eventually};

use self::common::{HOST, POLICY, World};

#[test]
fn a_policy_edit_decides_the_next_request_on_an_open_connection() {
    let world = World::new();
    let running = world.start();
    let mut connection = world.client().connect(running.edge).unwrap();
    assert_eq!(connection.get("/open").unwrap().status, 200);
    assert_eq!(connection.get("/late").unwrap().status, 403);
    world.pki.write("policies/authz.rego", POLICY.replace("/open", "/late"));
    running.wait_for_reload("applied", 0.0);
    assert_eq!(connection.get("/open").unwrap().status, 403);
    assert_eq!(connection.get("/late").unwrap().status, 200);
}

#[test]
fn a_new_file_in_a_policy_directory_counts() {
    let world = World::new();
    let running = world.start();
    let mut connection = world.client().connect(running.edge).unwrap();
    assert_eq!(connection.get("/more").unwrap().status, 403);
    let more =
        "package ringward.authz\n\ndecision := {\"allowed\": true} if input.request.path == \"/more\"\n";
    world.pki.write("policies/more/more.rego", more);
    running.wait_for_reload("applied", 0.0);
    assert_eq!(connection.get("/more").unwrap().status, 200);
}

#[test]
fn a_policy_whose_tests_fail_changes_nothing() {
    let world = World::new();
    let running = world.start();
    let mut connection = world.client().connect(running.edge).unwrap();
    let test = "package ringward.authz_test\n\nimport data.ringward.authz\n\ntest_open if authz.decision.allowed with input.request.path as \"/open\"\n";
    world.pki.write("policies/authz_test.rego", test);
    running.wait_for_reload("applied", 0.0);
    world.pki.write("policies/authz.rego", POLICY.replace("/open", "/late"));
    running.wait_for_reload("failed", 0.0);
    let line = running.wait_for_message("new configuration refused, the running one stays");
    assert!(line.contains("authz_test.rego:5:") && line.contains("test_open"), "{line}");
    assert_eq!(connection.get("/open").unwrap().status, 200);
    assert_eq!(connection.get("/late").unwrap().status, 403);

    world.pki.write("policies/authz_test.rego", test.replace("/open", "/late"));
    running.wait_for_reload("applied", 1.0);
    assert_eq!(connection.get("/late").unwrap().status, 200);
}

#[test]
fn a_broken_policy_changes_nothing_and_is_reported_once() {
    let world = World::new();
    let running = world.start();
    let mut connection = world.client().connect(running.edge).unwrap();
    world.pki.write("policies/authz.rego", POLICY.replace("default decision", "default decision decision"));
    running.wait_for_reload("failed", 0.0);
    let line = running.wait_for_message("new configuration refused, the running one stays");
    assert!(line.contains("authz.rego:3:"), "{line}");
    // Touched again, and as broken as before.
    world.pki.write("policies/authz.rego", POLICY.replace("default decision", "default decision decision"));
    running.wait_for_reload("failed", 1.0);
    assert_eq!(running.count_messages("new configuration refused, the running one stays"), 1);
    assert_eq!(connection.get("/open").unwrap().status, 200);
    assert_eq!(connection.get("/late").unwrap().status, 403);

    world.pki.write("policies/authz.rego", POLICY.replace("/open", "/late"));
    running.wait_for_reload("applied", 0.0);
    assert_eq!(connection.get("/late").unwrap().status, 200);
}

#[test]
fn a_renewed_certificate_is_shown_to_new_connections_and_old_ones_go_on() {
    let world = World::new();
    let running = world.start();
    let mut old = world.client().connect(running.edge).unwrap();
    assert_eq!(old.get("/open").unwrap().status, 200);

    let renewed = world.server();
    // One file after the other, as it really happens, and with the pair torn for longer than the wait for quiet.
    world.pki.write("api.pem", renewed.chain_pem());
    running.wait_for_reload("failed", 0.0);
    let between = world.client().connect(running.edge).unwrap();
    assert_eq!(between.server_chain()[0], old.server_chain()[0]);
    world.pki.write("api.key", renewed.key_pem());
    running.wait_for_reload("applied", 0.0);

    let mut new = world.client().connect(running.edge).unwrap();
    assert_eq!(new.server_chain()[0], *renewed.leaf());
    assert_eq!(new.get("/open").unwrap().status, 200);
    assert_eq!(old.get("/open").unwrap().status, 200);
}

#[test]
fn a_change_of_trust_ends_the_connections_that_the_old_one_admitted() {
    let world = World::new();
    let running = world.start();
    let mut old = world.client().connect(running.edge).unwrap();
    assert_eq!(old.get("/open").unwrap().status, 200);

    let successor = Authority::root("Successor");
    let partner = successor.issue(&Leaf::client("partner-a"));
    world.pki.write_authorities("trust/partners.pem", &[&successor]);
    running.wait_for_reload("applied", 0.0);
    let (rest, closing) = old.wait_closed();
    assert!(
        rest.is_empty() && matches!(closing, Closing::Notified | Closing::Cut | Closing::Reset),
        "{closing:?}"
    );
    world.client().refusal(running.edge);
    let mut new = Client::new(HOST, &world.root).identity(&partner).connect(running.edge).unwrap();
    assert_eq!(new.get("/a").unwrap().status, 200);
}

#[test]
fn an_emptied_trust_bundle_is_refused() {
    let world = World::new();
    let running = world.start();
    world.pki.write("trust/partners.pem", "");
    running.wait_for_reload("failed", 0.0);
    assert_eq!(world.client().connect(running.edge).unwrap().get("/open").unwrap().status, 200);
    fs::remove_file(world.path("trust/partners.pem")).unwrap();
    running.wait_for_reload("failed", 1.0);
    assert_eq!(world.client().connect(running.edge).unwrap().get("/open").unwrap().status, 200);
}

#[test]
fn a_new_route_is_taken_and_a_broken_configuration_is_not() {
    let world = World::new();
    let running = world.start();
    let mut connection = world.client().connect(running.edge).unwrap();
    world.edit_config("path = \"/{rest...}\"", "path = \"/only/{rest...}\"");
    running.wait_for_reload("applied", 0.0);
    assert_eq!(connection.get("/open").unwrap().status, 404);
    world.edit_config("cluster = \"echo\"", "cluster = \"eco\"");
    running.wait_for_reload("failed", 0.0);
    let line = running.wait_for_message("new configuration refused, the running one stays");
    assert!(line.contains("eco") && line.contains("(did you mean"), "{line}");
    assert_eq!(connection.get("/open").unwrap().status, 404);
}

#[test]
fn what_needs_a_restart_is_refused_as_a_whole() {
    let world = World::new();
    let running = world.start();
    world.edit_config("workers = 2", "workers = 1");
    world.edit_config("path = \"/{rest...}\"", "path = \"/only/{rest...}\"");
    running.wait_for_reload("failed", 0.0);
    let line = running.wait_for_message("new configuration refused, the running one stays");
    assert!(line.contains("`workers` in [server] changed, which needs a restart"), "{line}");
    assert_eq!(world.client().connect(running.edge).unwrap().get("/open").unwrap().status, 200);
}

#[test]
fn sighup_reads_again_and_says_so() {
    let world = World::new();
    let running = world.start();
    running.process.signal(Signal::HUP);
    running.wait_for_message("nothing has changed");
    world.edit_config("workers = 2", "workers = 1");
    let refused = "new configuration refused, the running one stays";
    running.wait_for_message(refused);
    running.process.signal(Signal::HUP);
    eventually(DEADLINE, "the second report", || running.count_messages(refused) == 2);
}

#[test]
fn directories_that_are_swapped_by_a_link_are_followed_every_time() {
    let world = World::new();
    let publish = |version: &str, policy: String| {
        world.pki.write(&format!("volume/..{version}/authz.rego"), policy);
        let link = world.path("volume/..data_new");
        symlink(format!("..{version}"), &link).unwrap();
        fs::rename(&link, world.path("volume/..data")).unwrap();
    };
    publish("1", POLICY.to_owned());
    symlink("..data/authz.rego", world.path("volume/authz.rego")).unwrap();
    world.edit_config("policies/", "volume/");
    let running = world.start();
    let mut connection = world.client().connect(running.edge).unwrap();
    assert_eq!(connection.get("/open").unwrap().status, 200);
    for (version, applied) in [("2", 0.0), ("3", 1.0), ("4", 2.0)] {
        let path = format!("/version-{version}");
        publish(version, POLICY.replace("/open", &path));
        running.wait_for_reload("applied", applied);
        assert_eq!(connection.get(&path).unwrap().status, 200, "{version}");
    }
}

#[test]
fn our_own_access_log_beside_the_configuration_is_no_change() {
    let world = World::new();
    let running = world.start();
    eventually(DEADLINE, "the first look", || running.reloads("unchanged") > 0.0);
    let mut connection = world.client().connect(running.edge).unwrap();
    for _ in 0..10 {
        connection.get("/open").unwrap();
    }
    let lines = || fs::read_to_string(world.path("access.json")).unwrap_or_default().lines().count();
    eventually(DEADLINE, "ten records", || lines() == 10);
    // A change that counts comes later than those of the log, and finds no reload before it.
    world.pki.write("policies/authz.rego", POLICY.replace("/open", "/late"));
    running.wait_for_reload("applied", 0.0);
    assert_eq!(running.reloads("unchanged"), 1.0);
}
