//! Routes that go upstream with a certificate of their own.

use std::thread;

use ringward_testkit::{DEADLINE, Gate, Leaf, Script, Upstream, eventually};

use super::servers::Server;
use super::support::{Builder, HOST, Host};
use super::{ERRORS, OPENED, Scene};

/// The keys of a route that shows the certificate `file`.
fn shows(file: &str) -> String {
    format!("upstream_certificate = {{ chain = \"{file}.pem\", key = \"{file}.key\" }}")
}

/// A cluster of these endpoints, with this certificate of ours if it is one.
fn cluster(name: &str, endpoints: &[&Server], keys: &str, own: Option<&str>) -> String {
    let endpoints: Vec<String> = endpoints.iter().map(|server| server.address.to_string()).collect();
    let own = own.map_or_else(String::new, |file| {
        format!("certificate = {{ chain = \"{file}.pem\", key = \"{file}.key\" }}")
    });
    format!(
        "[cluster.{name}]\nendpoints = {endpoints:?}\n{keys}\n[cluster.{name}.tls]\nca = \"up-ca.pem\"\n\
         server_name = \"orders.internal\"\n{own}\n"
    )
}

fn scene() -> Scene {
    let scene = Scene::new();
    for (file, name) in [("payroll", "ringward-payroll"), ("reports", "ringward-reports")] {
        scene.present(file, name);
    }
    scene
}

const SPOKEN: [&str; 3] = ["", "protocol = \"http2\"", "protocol = \"auto\""];

/// Rule: a request of a route with a certificate of its own never goes by a connection, or a session, of another identity.
#[test]
fn identities_share_no_connection_and_no_session() {
    for (protocol, io) in SPOKEN.into_iter().zip(["auto", "epoll", "auto"]) {
        let scene = scene();
        let haproxy = Server::haproxy(&scene, "alpn h2,http/1.1", None);
        let host = Host::new(&[HOST])
            .route("path = \"/own\"", "cluster = \"c\"")
            .route("path = \"/payroll\"", &format!("cluster = \"c\"\n{}", shows("payroll")))
            .route("path = \"/again\"", &format!("cluster = \"c\"\n{}", shows("payroll")))
            .route("path = \"/reports\"", &format!("cluster = \"c\"\n{}", shows("reports")));
        let clusters = cluster("c", &[&haproxy], protocol, Some("client"));
        let gateway = scene.builder.io(io).section(&clusters).host(host).start();
        let mut client = gateway.connect();
        for _ in 0..4 {
            for (path, name) in [
                ("/own", "ringward-client|"),
                ("/payroll", "ringward-payroll|"),
                ("/reports", "ringward-reports|"),
                ("/again", "ringward-payroll|"),
            ] {
                let response = client.get(path).unwrap();
                assert!(response.text().starts_with(name), "{protocol} {path}: {}", response.text());
            }
        }
        // Connections are kept all the same, and routes with one certificate share theirs.
        gateway.wait_for_metric(OPENED, &[("cluster", "c")], 3.0);
    }
}

/// Each of its own files is watched, and a change reaches the routes that have it alone.
#[test]
fn a_new_certificate_of_a_route_is_shown_with_the_next_request() {
    let scene = scene();
    let authority = scene.authority.clone();
    let haproxy = Server::haproxy(&scene, "", None);
    let host = Host::new(&[HOST])
        .route("path = \"/own\"", "cluster = \"c\"")
        .route("path = \"/payroll\"", &format!("cluster = \"c\"\n{}", shows("payroll")));
    let clusters = cluster("c", &[&haproxy], "", Some("client"));
    let gateway = scene.builder.section(&clusters).host(host).start();
    let mut client = gateway.connect();
    assert!(client.get("/payroll").unwrap().text().starts_with("ringward-payroll|"));
    assert!(client.get("/own").unwrap().text().starts_with("ringward-client|"));
    gateway.change(|gateway| {
        gateway.pki.write_pem("payroll", &authority.issue(&Leaf::client("ringward-renewed")));
    });
    let text = client.get("/payroll").unwrap().text().to_owned();
    assert!(text.starts_with("ringward-renewed|orders.internal|0|"), "a full handshake: {text}");
    assert!(client.get("/own").unwrap().text().starts_with("ringward-client|"));
    gateway.wait_for_metric(OPENED, &[("cluster", "c")], 3.0);
}

/// Wherever a request goes, it goes as the one that its route says: to each part of a split, with each try, and as a copy.
#[test]
fn splits_retries_and_copies_show_the_certificate_of_the_route() {
    for protocol in SPOKEN {
        let scene = scene();
        let good = Server::haproxy(&scene, "alpn h2,http/1.1", None);
        let bad = Server::haproxy(&scene, "alpn h2,http/1.1\nhttp-request deny deny_status 503", None);
        // None of these has a certificate that the servers would take.
        let clusters = [
            cluster("one", &[&good, &bad], protocol, None),
            cluster("two", &[&bad, &good], protocol, None),
            cluster("copies", &[&good], protocol, None),
        ]
        .concat();
        let keys = format!(
            "split = {{ weights = {{ one = 1, two = 1 }} }}\nretry = {{ attempts = 3, status = [\"503\"] }}\n\
             mirror = {{ cluster = \"copies\", percent = 100 }}\n{}",
            shows("reports")
        );
        let host = Host::new(&[HOST])
            .route("path = \"/all\"", &keys)
            .route("path = \"/own\"", "cluster = \"copies\"");
        let gateway = scene.builder.section(&clusters).host(host).start();
        let mut client = gateway.connect();
        for _ in 0..12 {
            let response = client.get("/all").unwrap();
            assert!(response.text().starts_with("ringward-reports|"), "{protocol}: {}", response.text());
        }
        let sum = |name: &str, labels: &[(&str, &str)]| gateway.metric(name, labels);
        for cluster in ["one", "two"] {
            assert!(
                sum("ringward_upstream_requests_total", &[("cluster", cluster)]) > 0.0,
                "{protocol} {cluster}"
            );
        }
        gateway.wait_for_metric(
            "ringward_upstream_mirrored_requests_finished_total",
            &[("cluster", "copies"), ("outcome", "answered")],
            12.0,
        );
        // A route without one gets no connection of theirs.
        assert_eq!(client.get("/own").unwrap().status, 502, "{protocol}");
        eventually(DEADLINE, "our lack of a certificate is counted", || {
            gateway.metric(ERRORS, &[("cluster", "copies"), ("reason", "upstream_tls_certificate_refused")])
                > 0.0
        });
    }
}

/// What a cluster may have at once it has altogether, whoever asks, from the first snapshot on.
#[test]
fn a_clusters_limits_are_those_of_all_its_identities() {
    let scene = scene();
    let (slow, gate) = (Upstream::start(), Gate::new());
    slow.on("/own", Script::new().wait(&gate).respond(200, &[], "late"));
    let haproxy = Server::haproxy(&scene, "alpn h2,http/1.1", Some(slow.address()));
    let host = Host::new(&[HOST])
        .route("path = \"/own\"", "cluster = \"c\"")
        .route("path = \"/payroll\"", &format!("cluster = \"c\"\n{}", shows("payroll")));
    let clusters = cluster("c", &[&haproxy], "requests_max = 1\npending_max = 0", Some("client"));
    let gateway = scene.builder.section(&clusters).host(host).start();
    let (mut first, mut second) = (gateway.connect(), gateway.connect());
    thread::scope(|scope| {
        let waiting = scope.spawn(|| first.get("/own").unwrap().status);
        gate.wait_for_arrivals(1, DEADLINE);
        assert_eq!(second.get("/payroll").unwrap().status, 503);
        assert_eq!(gateway.wait_for_record("path", "/payroll")["flag"], "cluster_full");
        gate.open();
        assert_eq!(waiting.join().unwrap(), 200);
    });
    assert_eq!(second.get("/payroll").unwrap().status, 200);
}

#[test]
fn health_checks_show_the_clusters_own() {
    let scene = scene();
    let only =
        "location = /healthz { if ($ssl_client_s_dn != \"CN=ringward-client\") { return 503; } return 200; }";
    let nginx = Server::nginx(&scene, only);
    let check = "health_check = { http = \"/healthz\", interval = \"100ms\", unhealthy_threshold = 1, healthy_threshold = 1 }\n\
                 panic_threshold = 0";
    let host = Host::new(&[HOST]).route("path = \"/\"", &format!("cluster = \"c\"\n{}", shows("payroll")));
    let clusters = cluster("c", &[&nginx], check, Some("client"));
    let gateway = scene.builder.section(&clusters).host(host).start();
    gateway.wait_for_metric("ringward_upstream_endpoint_healthy", &[("cluster", "c")], 1.0);
    let text = gateway.connect().get("/").unwrap().text().to_owned();
    assert!(text.starts_with("CN=ringward-payroll|"), "{text}");
}

#[test]
fn a_broken_certificate_of_a_route_is_refused_and_a_good_one_is_shown_by_check() {
    let described = |scene: Scene, file: &str| -> Builder {
        let haproxy = Server::haproxy(&scene, "", None);
        let host = Host::new(&[HOST]).route("path = \"/\"", &format!("cluster = \"c\"\n{}", shows(file)));
        let clusters = cluster("c", &[&haproxy], "", Some("client"));
        scene.builder.section(&clusters).host(host)
    };
    let said = described(scene(), "payroll").check();
    assert!(said.contains("presenting") && said.contains("payroll.pem"), "{said}");
    // What is rehearsed has no upstreams to show it to.
    let (said, is_good) = described(scene(), "payroll").command("check", &["--forwarding"]);
    assert!(is_good, "{said}");
    let scene = scene();
    scene.builder.pki().write_pem("wrong", &scene.authority.issue(&Leaf::server("x")));
    let said = described(scene, "wrong").refusal();
    assert!(said.contains("clientAuth") && said.contains("wrong.pem"), "{said}");
}
