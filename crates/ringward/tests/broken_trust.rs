//! Files of trust that break while the proxy runs, or were swapped for older ones: what was in force stays in force, somebody
//! is told, and nobody gets in who did not before.
#![allow(clippy::unwrap_used, reason = "a failed expectation here is a failed test")]

mod support;

use std::fs;
use std::os::unix::fs::symlink;
use std::time::{Duration, SystemTime};

use ringward_testkit::{Authority, Crl, DEADLINE, Issued, Leaf, Pki, Process};

use self::support::{Gateway, HOST, Host, publish, ringward};

/// A gateway with a list on which `revoked` is, number 5.
struct Scene {
    gateway: Gateway,
    revoked: Issued,
}

impl Scene {
    fn new() -> Scene {
        let builder = Gateway::builder().workers(2).stateful().trust_key("crl = [\"crl/\"]");
        let builder = builder.trust_key("revocation = { crl_bytes_max = \"16KiB\" }");
        let revoked = builder.root().issue(&Leaf::client("revoked"));
        publish(builder.pki(), "root", builder.root(), &Crl::new().number(5).revoke(revoked.serial()));
        let scene = Scene { gateway: builder.start(), revoked };
        scene.assert_checks();
        scene
    }

    /// The good is served, the revoked and the stranger are not.
    #[track_caller]
    fn assert_checks(&self) {
        self.gateway.assert_serves();
        for identity in [&self.revoked, &Authority::root("Stranger").issue(&Leaf::client("stranger"))] {
            let client = self.gateway.client().identity(identity);
            let answer =
                client.connect(self.gateway.edge).and_then(|mut connection| connection.get("/after"));
            assert!(answer.is_err());
        }
        assert!(!self.gateway.has_reached("/after"));
    }
}

#[test]
fn broken_authorities_change_nothing() {
    let scene = Scene::new();
    let gateway = &scene.gateway;
    let (file, good) = ("trust/partners.pem", gateway.root.pem());
    let mut open = gateway.connect();
    assert_eq!(open.get("/").unwrap().status, 200);
    let leaf = gateway.root.issue(&Leaf::client("no CA"));
    for (what, broken) in [
        ("nothing", String::new()),
        ("half a certificate", good[..good.len() / 2].to_owned()),
        ("damaged base64", good.replacen('M', "!", 1)),
        ("other certificates than of CAs", leaf.chain_pem()),
        ("a key", gateway.root.key_pem()),
        ("an expired CA alone", Authority::expired_root("Old Root").pem()),
        ("noise", "\0\u{1}\u{2}".repeat(1000)),
    ] {
        let line = gateway.refused_change(|gateway| drop(gateway.pki.write(file, &broken)));
        assert!(line.to_string().contains("partners"), "{what}: {line}");
        scene.assert_checks();
        assert_eq!(open.get("/").unwrap().status, 200, "{what}");
        assert!(gateway.metric("ringward_reload_success_timestamp_seconds", &[]) > 0.0);
    }
    fs::remove_file(gateway.pki.path().join(file)).unwrap();
    gateway.refused_change(|gateway| drop(gateway.pki.write("trust/unrelated.txt", "touches the directory")));
    scene.assert_checks();
}

/// One broken certificate must not lock out the clients of the others; and it is said.
#[test]
fn a_broken_authority_among_others_is_left_out() {
    let scene = Scene::new();
    let gateway = &scene.gateway;
    let (second, old) = (Authority::root("Second Root"), Authority::expired_root("Old Root"));
    let damaged = second.pem().replacen("MII", "AAA", 1);
    let all = [gateway.root.pem(), old.pem(), damaged, second.pem()].concat();
    // Two changes if they are noticed one by one: a list that nobody has signed yet is left out.
    gateway.change(|gateway| drop(publish(&gateway.pki, "second", &second, &Crl::new())));
    gateway.change(|gateway| drop(gateway.pki.write("trust/partners.pem", &all)));
    scene.assert_checks();
    let client = gateway.client().identity(&second.issue(&Leaf::client("second")));
    assert_eq!(client.connect(gateway.edge).unwrap().get("/").unwrap().status, 200);
    let status = gateway.ask_json(&["trust", "status", "--json"]);
    let bundle = &status["bundles"][0];
    assert_eq!(bundle["cas"].as_array().unwrap().len(), 2, "{bundle}");
    assert_eq!(bundle["quarantined"].as_array().unwrap().len(), 2, "{bundle}");
}

#[test]
fn broken_revocation_lists_change_nothing() {
    let scene = Scene::new();
    let gateway = &scene.gateway;
    let root = &gateway.root;
    let tomorrow = SystemTime::now() + Duration::from_secs(86_400);
    let forged = Authority::root("Test Root");
    let good = root.sign_crl(&Crl::new().number(6).revoke(&[1]));
    let flipped = {
        let mut list = good.clone();
        list[good.len() - 3] ^= 1;
        list
    };
    let long = (0..1000_u32).fold(Crl::new().number(6), |crl, serial| crl.revoke(&serial.to_be_bytes()));
    let two =
        root.sign_crl_pem(&Crl::new().number(6)) + "-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n";
    for (what, broken) in [
        ("nothing", Vec::new()),
        ("noise", vec![0x30; 500]),
        ("half a list", good[..good.len() / 2].to_vec()),
        ("a flipped bit", flipped),
        ("more behind it", [&good[..], &[0]].concat()),
        ("an authority of the same name", forged.sign_crl(&Crl::new().number(6))),
        ("a client's signature", gateway.partner.sign_crl_for(root, &Crl::new().number(6))),
        ("an unknown issuer", Authority::root("Stranger").sign_crl(&Crl::new().number(6))),
        ("version 1", root.sign_crl(&Crl::new().version_1())),
        ("no nextUpdate", root.sign_crl(&Crl::new().number(6).without_next_update())),
        (
            "made tomorrow",
            root.sign_crl(
                &Crl::new().number(6).this_update(tomorrow).next_update(tomorrow + Duration::from_secs(60)),
            ),
        ),
        (
            "an unknown critical extension",
            root.sign_crl(&Crl::new().number(6).extension("1.3.6.1.4.1.99999.1", true, b"\x05\0")),
        ),
        ("an older number", root.sign_crl(&Crl::new().number(4))),
        ("no number any more", root.sign_crl(&Crl::new().without_number())),
        ("more than the limit", root.sign_crl(&long)),
        ("a good one and a broken one", two.into_bytes()),
        ("a certificate", root.pem().into_bytes()),
    ] {
        let line = gateway.refused_change(|gateway| drop(gateway.pki.write("crl/root.crl", &broken)));
        assert!(line.to_string().contains("crl"), "{what}: {line}");
        scene.assert_checks();
    }
    // None at all is a list missing, not permission.
    fs::remove_file(gateway.pki.path().join("crl/root.crl")).unwrap();
    let client = gateway.client().identity(&scene.revoked);
    for _ in 0..20 {
        let answer = client.connect(gateway.edge).and_then(|mut connection| connection.get("/after"));
        assert!(answer.is_err());
    }
    gateway.change(|gateway| drop(gateway.pki.write("crl/root.crl", &good)));
    assert_eq!(client.connect(gateway.edge).unwrap().get("/").unwrap().status, 200, "not on the new list");
    assert!(!gateway.has_reached("/after"));
}

/// A list of a CA that nobody trusts is of no use. In the place of another list it is a mistake at best, also where certificates
/// without a list pass, and where another CA still has its own.
#[test]
fn a_list_that_displaces_another_changes_nothing() {
    let (second, stranger) = (Authority::root("Second Root"), Authority::root("Stranger"));
    for mode in ["required", "if_present"] {
        let builder = Gateway::builder().stateful();
        let root = builder.root().clone();
        let revoked = root.issue(&Leaf::client("revoked"));
        publish(builder.pki(), "root", &root, &Crl::new().revoke(revoked.serial()));
        publish(builder.pki(), "second", &second, &Crl::new());
        let gateway = builder
            .trust("both", &[&root, &second])
            .bundle_key("both", "crl = [\"crl/\"]")
            .bundle_key("both", &format!("revocation = {{ crl = {mode:?} }}"))
            .host(Host::new(&[HOST]).client_auth("mode = \"required\", trust = \"both\""))
            .start();
        let line = gateway.refused_change(|gateway| {
            drop(publish(&gateway.pki, "root", &stranger, &Crl::new().number(2)));
        });
        assert!(line.to_string().contains("Test Root"), "{mode}: {line}");
        gateway.assert_serves();
        let client = gateway.client().identity(&revoked);
        assert!(client.connect(gateway.edge).and_then(|mut connection| connection.get("/after")).is_err());
        assert!(!gateway.has_reached("/after"), "{mode}");
    }
}

/// The lists of intermediates count as long as their signers are known, which are in a file of their own.
#[test]
fn a_list_whose_signer_is_forgotten_counts_on() {
    for mode in ["required", "if_present"] {
        let builder = Gateway::builder().stateful();
        let (root, issuing) = (builder.root().clone(), builder.root().intermediate("Issuing"));
        let revoked = issuing.issue(&Leaf::client("revoked"));
        publish(builder.pki(), "root", &root, &Crl::new());
        publish(builder.pki(), "issuing", &issuing, &Crl::new().revoke(revoked.serial()));
        builder.pki().write_authorities("issuing.pem", &[&issuing]);
        let mut gateway = builder
            .trust_key("crl = [\"crl/\"]")
            .trust_key("crl_issuers = [\"issuing.pem\"]")
            .trust_key(&format!("revocation = {{ crl = {mode:?} }}"))
            .start();
        for forgotten in [String::new(), Authority::root("Stranger").pem()] {
            let line = gateway.refused_change(|gateway| drop(gateway.pki.write("issuing.pem", &forgotten)));
            assert!(line.to_string().contains("Issuing"), "{mode}: {line}");
            gateway.assert_serves();
            let client = gateway.client().identity(&revoked);
            assert!(
                client.connect(gateway.edge).and_then(|mut connection| connection.get("/after")).is_err()
            );
            assert!(!gateway.has_reached("/after"), "{mode}");
        }
        gateway.pki.write("issuing.pem", "");
        gateway.process.kill();
        let said = refused_start(&gateway.pki);
        assert!(said.contains("issuing.pem"), "{mode}: {said}");
    }
}

/// Whoever can put an old list back, when nobody looks, gets nobody in.
#[test]
fn an_older_list_is_refused_after_a_restart() {
    let mut scene = Scene::new();
    scene.gateway.process.kill();
    let older = scene.gateway.root.sign_crl(&Crl::new().number(4));
    let newer = scene.gateway.root.sign_crl(&Crl::new().number(5).revoke(scene.revoked.serial()));
    scene.gateway.pki.write("crl/root.crl", &older);
    let said = refused_start(&scene.gateway.pki);
    assert!(said.contains("root.crl") && said.contains("number"), "{said}");
    scene.gateway.pki.write("crl/root.crl", &newer);
    scene.gateway.kill_and_start_again();
    scene.assert_checks();

    // Nor does it help to damage what is remembered.
    scene.gateway.process.kill();
    let state = scene.gateway.pki.path().join("state");
    let files: Vec<_> = fs::read_dir(&state).unwrap().map(|entry| entry.unwrap().path()).collect();
    let floors: Vec<_> =
        files.iter().filter(|file| file.is_file() && file.to_string_lossy().contains("floor")).collect();
    assert_eq!(floors.len(), 1, "{files:?}");
    let good = fs::read(floors[0]).unwrap();
    for broken in [good[..good.len() - 3].to_vec(), b"noise".to_vec(), Vec::new()] {
        fs::write(floors[0], &broken).unwrap();
        let said = refused_start(&scene.gateway.pki);
        assert!(said.contains("floor"), "{said}");
    }
}

/// What the program says when it does not start.
#[track_caller]
fn refused_start(pki: &Pki) -> String {
    let mut process = Process::start(ringward().arg("run").arg("-c").arg(pki.path().join("ringward.toml")));
    assert!(!process.wait(DEADLINE).success());
    process.stderr() + &process.stdout()
}

/// As Kubernetes replaces the files of a volume: all at once, by one link, and more than once.
#[test]
fn volumes_that_are_swapped_by_a_link_are_followed_every_time() {
    let scene = Scene::new();
    let gateway = &scene.gateway;
    let pki = &gateway.pki;
    let second = Authority::root("Second Root");
    let victim = gateway.root.issue(&Leaf::client("victim"));
    let publish = |version: &str, authorities: &[&Authority], crl: &Crl| {
        pki.write_authorities(&format!("volume/..{version}/ca.pem"), authorities);
        pki.write(&format!("volume/..{version}/root.crl"), gateway.root.sign_crl(crl));
        let link = pki.path().join("volume/..data_new");
        symlink(format!("..{version}"), &link).unwrap();
        fs::rename(&link, pki.path().join("volume/..data")).unwrap();
    };
    let list = |number| Crl::new().number(number).revoke(scene.revoked.serial());
    publish("1", &[&gateway.root], &list(6));
    for name in ["ca.pem", "root.crl"] {
        symlink(format!("..data/{name}"), pki.path().join("volume").join(name)).unwrap();
    }
    gateway.reconfigure("crl/", "volume/root.crl");
    gateway.reconfigure("trust/partners.pem", "volume/ca.pem");
    let admitted = |identity: &Issued| {
        let client = gateway.client().identity(identity);
        client.connect(gateway.edge).and_then(|mut connection| connection.get("/")).is_ok()
    };
    let newcomer = second.issue(&Leaf::client("newcomer"));
    for (version, number, revoked) in [("2", 7, true), ("3", 8, false), ("4", 9, true)] {
        let crl = if revoked { list(number).revoke(victim.serial()) } else { list(number) };
        gateway.change(|_| publish(version, &[&gateway.root], &crl));
        assert_eq!(admitted(&victim), !revoked, "{version}");
        scene.assert_checks();
    }
    assert!(!admitted(&newcomer));
    pki.write("volume/second.crl", second.sign_crl(&Crl::new()));
    gateway.reconfigure("\"volume/root.crl\"", "\"volume/root.crl\", \"volume/second.crl\"");
    gateway.change(|_| publish("5", &[&gateway.root, &second], &list(10)));
    assert!(admitted(&newcomer));
    gateway.reconfigure(", \"volume/second.crl\"", "");
    gateway.change(|_| publish("6", &[&gateway.root], &list(11)));
    assert!(!admitted(&newcomer));
}
