//! What a configuration brings along beside itself: lists, keys, passphrases, and certificates that are being renewed.
#![allow(clippy::unwrap_used, reason = "a failed expectation is a failed test")]

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use ringward_testkit::{Client, Crl, DEADLINE, Issued, KeyForm, KeyType, Leaf, Process};

use self::common::{HOST, Running, World, ringward};

/// Runs `ringward check` and returns its exit code and all that it says.
fn check(world: &World, arguments: &[&str]) -> (Option<i32>, String) {
    run(ringward().arg("check").arg("-c").arg(world.path("ringward.toml")).args(arguments))
}

fn run(command: &mut Command) -> (Option<i32>, String) {
    let mut process = Process::start(command);
    let code = process.wait(DEADLINE).code();
    (code, process.stdout() + &process.stderr())
}

#[track_caller]
fn refused(world: &World, part: &str) {
    let (code, said) = check(world, &[]);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains(part), "{part}: {said}");
}

/// With lists in `crl/`.
fn world_with_lists() -> World {
    let world = World::new();
    world.edit_config("workers = 2", "workers = 2\nstate_dir = \"state\"");
    world.edit_config("ca = [\"trust/\"]", "ca = [\"trust/\"]\ncrl = [\"crl/\"]");
    world
}

fn admitted(world: &World, running: &Running, identity: &Issued) -> bool {
    let connected = Client::new(HOST, &world.root).identity(identity).connect(running.edge);
    connected.is_ok_and(|mut connection| connection.get("/open").is_ok_and(|response| response.status == 200))
}

#[test]
fn a_list_in_a_file_refuses_whom_it_names_and_may_be_renewed() {
    let world = world_with_lists();
    refused(&world, "crl");
    let other = world.root.issue(&Leaf::client("partner-b"));
    let list = Crl::new().number(1).revoke(other.serial());
    world.pki.write("crl/root.crl", world.root.sign_crl(&list));
    let chain = world.pki.write_pem("clients/b", &other).chain;
    let (code, said) = check(&world, &["--cert", chain.to_str().unwrap()]);
    assert_eq!(code, Some(0), "{said}");
    for part in [
        "revocation list of CN=Test Root: 1 entries",
        "refused, revoked",
        "vouched for by bundle partners",
        "is revoked",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let running = world.start();
    assert!(admitted(&world, &running, &world.partner));
    assert!(!admitted(&world, &running, &other));

    let applied = running.reloads("applied");
    let next = Crl::new().number(2).revoke(world.partner.serial());
    world.pki.write("crl/root.crl", world.root.sign_crl_pem(&next));
    running.wait_for_reload("applied", applied);
    assert!(!admitted(&world, &running, &world.partner));
    assert!(admitted(&world, &running, &other));

    // What is broken, forged or older changes nothing.
    let forged = ringward_testkit::Authority::root("Test Root").sign_crl(&Crl::new().number(9));
    for bad in [b"junk".to_vec(), forged, world.root.sign_crl(&Crl::new().number(1))] {
        let failed = running.reloads("failed");
        world.pki.write("crl/root.crl", bad);
        running.wait_for_reload("failed", failed);
        assert!(!admitted(&world, &running, &world.partner));
    }
}

#[test]
fn an_older_list_is_refused_after_a_kill_too() {
    let world = world_with_lists();
    let revoking = Crl::new().number(5).revoke(world.partner.serial());
    let older = world.root.sign_crl(&Crl::new().number(4));
    world.pki.write("crl/root.crl", &older);
    let mut running = world.start();
    assert!(admitted(&world, &running, &world.partner));
    let applied = running.reloads("applied");
    world.pki.write("crl/root.crl", world.root.sign_crl(&revoking));
    running.wait_for_reload("applied", applied);
    running.process.kill();
    world.pki.write("crl/root.crl", &older);
    let (code, said) = run(ringward().arg("run").arg("-c").arg(world.path("ringward.toml")));
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("number 5") || said.contains("number 05"), "{said}");
    world.pki.write("crl/root.crl", world.root.sign_crl(&revoking));
    let running = world.start();
    assert!(!admitted(&world, &running, &world.partner));
}

#[test]
fn a_certificate_and_a_key_that_are_written_one_after_the_other() {
    let world = World::new();
    let running = world.start();
    let next = world.root.issue(&Leaf::server(HOST));
    let before = running.reloads("applied");
    world.pki.write("api.pem", next.chain_pem());
    running.wait_for_message("a certificate and its key do not belong together, trying again in a moment");
    // Served with the old pair meanwhile.
    assert!(admitted(&world, &running, &world.partner));
    world.pki.write("api.key", next.key_pem());
    running.wait_for_reload("applied", before);
    assert_eq!(running.count_messages("new configuration refused, the running one stays"), 0);
    let connection = Client::new(HOST, &world.root).identity(&world.partner).connect(running.edge).unwrap();
    assert_eq!(connection.server_chain()[0], *next.leaf());

    // One that stays torn is an error in the end, and the last good pair serves.
    let failed = running.reloads("failed");
    world.pki.write("api.pem", world.server().chain_pem());
    running.wait_for_reload("failed", failed);
    running.wait_for_message("new configuration refused, the running one stays");
    let connection = Client::new(HOST, &world.root).identity(&world.partner).connect(running.edge).unwrap();
    assert_eq!(connection.server_chain()[0], *next.leaf());
}

#[test]
fn an_encrypted_key_is_opened_by_a_file_or_a_credential() {
    let world = World::new();
    let server = world.server();
    world.pki.write("api.pem", server.chain_pem());
    world.pki.write("api.key", server.key_pem_as(KeyForm::Pbkdf2 { iterations: 2048 }, b"open sesame"));
    refused(&world, "encrypted");
    let certificate = "certificate = { chain = \"api.pem\", key = \"api.key\" }";
    let with = |passphrase: &str| certificate.replace(" }", &format!(", passphrase = \"{passphrase}\" }}"));
    world.edit_config(certificate, &with("pass.txt"));
    refused(&world, "pass.txt");
    let write = |text: &str, mode| {
        let path = world.pki.write("pass.txt", text);
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    };
    write("wrong\n", 0o600);
    refused(&world, "passphrase");
    write("", 0o600);
    refused(&world, "holds no passphrase");
    write("open sesame\n", 0o644);
    refused(&world, "accessible to others");
    write("open sesame\n", 0o600);
    assert_eq!(check(&world, &[]).0, Some(0));
    let running = world.start();
    assert!(admitted(&world, &running, &world.partner));
    assert!(!(running.process.stderr() + &running.process.stdout()).contains("sesame"));

    world.edit_config(&with("pass.txt"), &with("credential:tls"));
    refused(&world, "CREDENTIALS_DIRECTORY is not set");
    let path = world.pki.write("credentials/tls", "open sesame");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o440)).unwrap();
    let directory = world.path("credentials");
    let mut command = ringward();
    command.env("CREDENTIALS_DIRECTORY", &directory).arg("check").arg("-c").arg(world.path("ringward.toml"));
    let (code, said) = run(&mut command);
    // Readable by its group, as systemd does it for services that do not run as root, whose files are root's.
    let is_root =
        fs::metadata("/proc/self").map(|metadata| std::os::unix::fs::MetadataExt::uid(&metadata)).unwrap()
            == 0;
    assert_eq!(code, Some(if is_root { 0 } else { 2 }), "{said}");
}

#[test]
fn a_host_shows_the_certificate_that_its_client_can_verify() {
    let world = World::new();
    let rsa = world.root.issue(&Leaf::server(HOST).key(KeyType::Rsa2048));
    world.pki.write_pem("rsa", &rsa);
    let certificate = "certificate = { chain = \"api.pem\", key = \"api.key\" }";
    let both = "certificate = [{ chain = \"api.pem\", key = \"api.key\" }, { chain = \"rsa.pem\", key = \"rsa.key\" }]";
    world.edit_config(certificate, both);
    let (code, said) = check(&world, &[]);
    assert_eq!(code, Some(0), "{said}");
    let running = world.start();
    let connection = Client::new(HOST, &world.root).identity(&world.partner).connect(running.edge).unwrap();
    assert_ne!(connection.server_chain()[0], *rsa.leaf(), "ECDSA goes first");
    world.edit_config("chain = \"rsa.pem\", key = \"rsa.key\"", "chain = \"api.pem\", key = \"api.key\"");
    refused(&world, "certificate");
}

#[test]
fn a_tenant_is_shown_with_the_rule_that_it_comes_from() {
    let world = World::new();
    world.edit_config(
        "[policy.main]",
        "[tenant.acme]\ntrust = [\"partners\"]\nmatch = [{ spiffe_trust_domain = \"acme.example\" }]\nidentity = \"spiffe_id\"\n\n[policy.main]",
    );
    let acme = world.root.issue(&Leaf::client("robot").spiffe("spiffe://acme.example/robot"));
    let chain = world.pki.write_pem("clients/acme", &acme).chain;
    let (code, said) = check(&world, &["--cert", chain.to_str().unwrap()]);
    assert_eq!(code, Some(0), "{said}");
    for part in [
        "admitted as spiffe://acme.example/robot",
        "tenant acme, by",
        "CN=robot, serial",
        "(CA of the bundle)",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let stranger = world.pki.write_pem("clients/partner", &world.partner).chain;
    let (_, said) = check(&world, &["--cert", stranger.to_str().unwrap()]);
    assert!(said.contains("admitted as CN=partner-a") && !said.contains("tenant acme, by"), "{said}");
}
