//! Sessions with upstreams are resumed where they may be, and nowhere else.

use super::servers::Server;
use super::{HANDSHAKES, MUTUAL, Scene};

#[test]
fn resumption_can_be_turned_off() {
    let scene = Scene::new();
    let nginx = Server::nginx(&scene, "");
    let gateway = scene.start(nginx.address, "", &format!("{MUTUAL}resumption = false"));
    let mut client = gateway.connect();
    for _ in 0..4 {
        let response = client.get("/").unwrap();
        assert!(response.text().contains("|.|TLSv1.3"), "{}", response.text());
    }
    gateway.wait_for_metric(HANDSHAKES, &[("how", "full")], 2.0);
    assert_eq!(gateway.metric(HANDSHAKES, &[("how", "resumed")]), 0.0);
}

#[test]
fn a_session_is_of_use_for_its_endpoint_alone() {
    let scene = Scene::new();
    // One key for tickets, so that each server could resume what the other has begun.
    scene.builder.pki().write("tickets.key", [7; 80]);
    let keys = "ssl_session_ticket_key tickets.key;\nssl_session_tickets on;";
    let servers = [Server::nginx(&scene, keys), Server::nginx(&scene, keys)];
    let keys = format!("[cluster.others.tls]\nca = \"up-ca.pem\"\n{MUTUAL}");
    let gateway = scene.builder.endpoints(&servers.each_ref().map(|server| server.address), &keys).start();
    let mut client = gateway.connect();
    for resumed in [false, false, false, false, true, true] {
        let response = client.get("/").unwrap();
        assert_eq!(response.text().contains("|r|"), resumed, "{}", response.text());
    }
}
