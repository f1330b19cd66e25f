//! Our certificate, the CA and the pins change while requests flow: none is lost, and none goes by what was before.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use ringward_testkit::{Authority, DEADLINE, Leaf, eventually};

use super::servers::Server;
use super::support::{HOST, Host};
use super::{HANDSHAKES, MUTUAL, OPENED, Scene};

#[test]
fn a_new_certificate_of_ours_is_shown_with_the_next_request() {
    let scene = Scene::new();
    let authority = scene.authority.clone();
    let haproxy = Server::haproxy(&scene, "", None);
    let gateway = scene.start(haproxy.address, "", MUTUAL);
    let mut client = gateway.connect();
    assert!(client.get("/").unwrap().text().starts_with("ringward-client|orders.internal|0|"));
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        // Requests flow meanwhile, and none fails.
        let flow = scope.spawn(|| {
            let (mut client, mut count) = (gateway.connect(), 0);
            while !stop.load(Ordering::Relaxed) {
                assert_eq!(client.get("/").unwrap().status, 200);
                count += 1;
            }
            count
        });
        let _stop = Stop(&stop);
        gateway.change(|gateway| {
            gateway.pki.write_pem("client", &authority.issue(&Leaf::client("ringward-renewed")));
        });
        // A session of the old certificate would have shown the old name.
        let text = client.get("/").unwrap().text().to_owned();
        assert!(text.starts_with("ringward-renewed|orders.internal|"), "{text}");
        stop.store(true, Ordering::Relaxed);
        assert!(flow.join().unwrap() > 0);
    });
}

/// Ends what goes on until then, also when the test fails.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Rule: who we are to an upstream was proved on one connection, and no request that is somebody else's to say goes on it.
#[test]
fn clusters_with_certificates_of_their_own_share_no_connection() {
    for cluster in ["", "protocol = \"http2\"", "protocol = \"auto\""] {
        let scene = Scene::new();
        scene.present("other", "ringward-other");
        let haproxy = Server::haproxy(&scene, "alpn h2,http/1.1", None);
        let clusters: String = ["client", "other"]
            .map(|file| {
                format!(
                    "[cluster.{file}]\nendpoints = {:?}\n{cluster}\ntls = {{ ca = \"up-ca.pem\", server_name = \"orders.internal\", \
                     certificate = {{ chain = \"{file}.pem\", key = \"{file}.key\" }} }}\n",
                    haproxy.address.to_string()
                )
            })
            .concat();
        let host = Host::new(&[HOST])
            .route("path = \"/client\"", "cluster = \"client\"")
            .route("path = \"/other\"", "cluster = \"other\"");
        let gateway = scene.builder.section(&clusters).host(host).start();
        let mut connection = gateway.connect();
        for _ in 0..3 {
            assert!(connection.get("/client").unwrap().text().starts_with("ringward-client|"), "{cluster}");
            assert!(connection.get("/other").unwrap().text().starts_with("ringward-other|"), "{cluster}");
        }
        gateway.wait_for_metric(OPENED, &[("cluster", "client")], 1.0);
        gateway.wait_for_metric(OPENED, &[("cluster", "other")], 1.0);
    }
}

#[test]
fn a_reload_that_changes_nothing_of_it_keeps_the_connection() {
    let scene = Scene::new();
    let haproxy = Server::haproxy(&scene, "", None);
    let gateway = scene.start(haproxy.address, "", MUTUAL);
    let mut client = gateway.connect();
    assert_eq!(client.get("/").unwrap().status, 200);
    gateway.reconfigure("[cluster.others]\n", "[cluster.others]\nidle_timeout = \"50s\"\n");
    assert_eq!(client.get("/").unwrap().status, 200);
    assert_eq!(gateway.metric(HANDSHAKES, &[]), 1.0);
}

#[test]
fn a_ca_that_is_gone_vouches_for_nobody_any_more() {
    for cluster in ["", "protocol = \"http2\""] {
        let scene = Scene::new();
        let (authority, other) = (scene.authority.clone(), Authority::root("Another Root"));
        let haproxy = Server::haproxy(&scene, "alpn h2,http/1.1", None);
        let gateway = scene.start(haproxy.address, cluster, MUTUAL);
        let mut client = gateway.connect();
        assert_eq!(client.get("/").unwrap().status, 200);
        gateway.change(|gateway| drop(gateway.pki.write_authorities("up-ca.pem", &[&other])));
        assert_eq!(client.get("/").unwrap().status, 502, "{cluster}: on an open connection");
        gateway.wait_for_record("flag", "upstream_tls_unknown_ca");
        gateway.change(|gateway| drop(gateway.pki.write_authorities("up-ca.pem", &[&other, &authority])));
        assert_eq!(client.get("/").unwrap().status, 200);
    }
}

#[test]
fn a_broken_file_changes_nothing() {
    let scene = Scene::new();
    let haproxy = Server::haproxy(&scene, "", None);
    let gateway = scene.start(haproxy.address, "", MUTUAL);
    let mut client = gateway.connect();
    assert_eq!(client.get("/").unwrap().status, 200);
    let refused = gateway.refused_change(|gateway| drop(gateway.pki.write("up-ca.pem", "nothing")));
    assert!(refused.to_string().contains("cluster.others.tls"), "{refused}");
    assert_eq!(client.get("/").unwrap().status, 200);
    eventually(DEADLINE, "one handshake", || gateway.metric(HANDSHAKES, &[]) == 1.0);
}

#[test]
fn a_certificate_that_is_not_for_clients_is_refused() {
    let scene = Scene::new();
    scene.builder.pki().write_pem("client", &scene.authority.issue(&Leaf::server("x")));
    let said = scene.describe("127.0.0.1:1".parse().unwrap(), "", MUTUAL).refusal();
    assert!(said.contains("clientAuth"), "{said}");
}
