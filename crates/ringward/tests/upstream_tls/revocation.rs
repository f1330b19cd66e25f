//! Revocation lists about upstreams: whom they refuse, what their absence means, and that what was open before is of no use after.

use ringward_testkit::{Authority, Crl, Leaf};

use super::servers::Server;
use super::support::{Gateway, publish};
use super::{ERRORS, MUTUAL, NAME, NAMED, Scene};

const LISTS: &str = "crl = [\"crl/\"]\n";
const KEPT: &str = "keepalive_requests 1000;";

/// A scene whose root has an empty list.
fn scene() -> Scene {
    let mut scene = Scene::new();
    scene.builder = std::mem::replace(&mut scene.builder, Gateway::builder()).stateful();
    publish(scene.builder.pki(), "root", &scene.authority, &Crl::new());
    scene
}

/// The next request, on a connection that was there before, gets this flag.
#[track_caller]
fn expect(gateway: &Gateway, flag: &str, said: &str) {
    let before = gateway.metric(ERRORS, &[("cluster", "others"), ("reason", flag)]);
    let response = gateway.connect().get("/").unwrap();
    assert_eq!((response.status, response.text()), (502, "bad gateway\n"), "{flag}");
    let record = gateway.wait_for_record("flag", flag);
    assert!(record["reason"].as_str().unwrap().contains(said), "{record}");
    gateway.wait_for_metric(ERRORS, &[("cluster", "others"), ("reason", flag)], before + 1.0);
}

/// Rule: a request goes by no connection and no session to an upstream whose certificate a list in force revokes.
#[test]
fn an_upstream_that_was_revoked_gets_no_further_request() {
    for cluster in ["", "protocol = \"http2\"", "protocol = \"auto\""] {
        let scene = scene();
        let leaf = scene.authority.issue(&Leaf::server(NAME));
        scene.serve_with(&leaf);
        let server = match cluster {
            "" => Server::nginx(&scene, KEPT),
            _ => Server::nginx_speaking(&scene, true),
        };
        let authority = scene.authority.clone();
        let gateway = scene.start(server.address, cluster, &format!("{MUTUAL}{LISTS}"));
        let mut client = gateway.connect();
        for _ in 0..2 {
            assert_eq!(client.get("/").unwrap().status, 200, "{cluster}");
        }
        let other = Crl::new().number(2).revoke(&[0x77]);
        gateway.change(|gateway| drop(publish(&gateway.pki, "root", &authority, &other)));
        assert_eq!(client.get("/").unwrap().status, 200, "{cluster}: somebody else is revoked");
        let revoked = Crl::new().number(3).revoke(leaf.serial());
        gateway.change(|gateway| drop(publish(&gateway.pki, "root", &authority, &revoked)));
        assert_eq!(client.get("/").unwrap().status, 502, "{cluster}");
        gateway.wait_for_metric(ERRORS, &[("reason", "upstream_tls_revoked")], 1.0);
        expect(&gateway, "upstream_tls_revoked", "is revoked");
        // A list that is older, or that somebody else has signed, does not help.
        for crl in [
            authority.sign_crl(&Crl::new().number(2)),
            Authority::root("Upstream Root").sign_crl(&Crl::new().number(4)),
            b"nothing".to_vec(),
        ] {
            gateway.refused_change(|gateway| drop(gateway.pki.write("crl/root.crl", crl)));
            assert_eq!(client.get("/").unwrap().status, 502, "{cluster}");
        }
        let lifted = Crl::new().number(5);
        gateway.change(|gateway| drop(publish(&gateway.pki, "root", &authority, &lifted)));
        assert_eq!(client.get("/").unwrap().status, 200, "{cluster}");
    }
}

#[test]
fn the_whole_chain_is_looked_up_unless_the_leaf_alone_should_be() {
    let issuers = "crl_issuers = [\"issuing.pem\"]\n";
    let rules = |text: &str| format!("revocation = {{ {text} }}\n");
    let unknown = Some(("upstream_tls_revocation_unknown", "no list of its issuer"));
    let revoked = Some(("upstream_tls_revoked", "intermediate 1"));
    // Whether there is a list of the intermediate, whether that is revoked, and what is asked.
    for (listed, is_revoked, rules, refused) in [
        (false, false, String::new(), unknown),
        (false, false, rules("crl = \"required\", depth = \"leaf\""), unknown),
        (false, false, rules("crl = \"if_present\""), None),
        (true, false, String::new(), None),
        (true, true, String::new(), revoked),
        (false, true, rules("crl = \"if_present\""), revoked),
        (true, true, rules("depth = \"leaf\""), None),
    ] {
        let scene = scene();
        let issuing = scene.authority.intermediate("Issuing");
        scene.builder.pki().write_authorities("issuing.pem", &[&issuing]);
        scene.serve_with(&issuing.issue(&Leaf::server(NAME)));
        if listed {
            publish(scene.builder.pki(), "issuing", &issuing, &Crl::new());
        }
        if is_revoked {
            let crl = Crl::new().number(2).revoke(issuing.serial());
            publish(scene.builder.pki(), "root", &scene.authority, &crl);
        }
        let server = Server::openssl(scene.builder.pki().path(), &[]);
        let gateway = scene.start(server.address, "", &format!("{NAMED}{LISTS}{issuers}{rules}"));
        match refused {
            Some((flag, said)) => expect(&gateway, flag, said),
            None => assert_eq!(gateway.connect().get("/").unwrap().status, 200, "{rules}"),
        }
    }
}

#[test]
fn a_list_that_is_overdue_clears_nobody_beyond_its_grace() {
    for (stale, passes) in [
        ("", false),
        ("revocation = { stale = \"1m\" }\n", false),
        ("revocation = { stale = \"7d\" }\n", true),
    ] {
        let scene = scene();
        publish(scene.builder.pki(), "root", &scene.authority, &Crl::new().number(2).stale());
        let server = Server::openssl(scene.builder.pki().path(), &[]);
        let gateway = scene.start(server.address, "", &format!("{NAMED}{LISTS}{stale}"));
        match passes {
            true => assert_eq!(gateway.connect().get("/").unwrap().status, 200),
            false => expect(&gateway, "upstream_tls_revocation_stale", "was to be replaced"),
        }
    }
}

#[test]
fn a_list_of_a_stranger_is_refused_and_not_left_out() {
    let scene = scene();
    publish(scene.builder.pki(), "stranger", &Authority::root("Stranger"), &Crl::new());
    let said = scene.describe("127.0.0.1:1".parse().unwrap(), "", &format!("{NAMED}{LISTS}")).refusal();
    assert!(said.contains("Stranger") && said.contains("crl_issuers"), "{said}");
}

/// What can be said of lists of clients is said of these, too: age, entries, in metrics and for people.
#[test]
fn lists_are_measured_and_shown() {
    let scene = scene();
    publish(scene.builder.pki(), "root", &scene.authority, &Crl::new().number(2).revoke(&[1]).revoke(&[2]));
    let server = Server::openssl(scene.builder.pki().path(), &[]);
    let gateway = scene.start(server.address, "", &format!("{NAMED}{LISTS}"));
    let bundle = [("bundle", "cluster.others.tls")];
    gateway.wait_for_metric("ringward_crl_entries", &bundle, 2.0);
    assert!(gateway.metric("ringward_crl_next_update_timestamp_seconds", &bundle) > 1.7e9);
    let status = gateway.ask(&["trust", "status"]);
    assert!(status.contains("CN=Upstream Root"), "{status}");
}

#[test]
fn a_health_check_looks_at_lists_too() {
    let scene = scene();
    let leaf = scene.authority.issue(&Leaf::server(NAME));
    scene.serve_with(&leaf);
    let authority = scene.authority.clone();
    let server = Server::nginx(&scene, KEPT);
    let check = "health_check = { http = \"/healthz\", interval = \"100ms\", unhealthy_threshold = 1, healthy_threshold = 1 }\n\
                 panic_threshold = 0";
    let gateway = scene.start(server.address, check, &format!("{MUTUAL}{LISTS}"));
    gateway.wait_for_metric("ringward_upstream_endpoint_healthy", &[("cluster", "others")], 1.0);
    let revoked = Crl::new().number(2).revoke(leaf.serial());
    gateway.change(|gateway| drop(publish(&gateway.pki, "root", &authority, &revoked)));
    gateway.wait_for_metric("ringward_upstream_endpoint_healthy", &[("cluster", "others")], 0.0);
    assert_eq!(gateway.connect().get("/").unwrap().status, 503);
}
