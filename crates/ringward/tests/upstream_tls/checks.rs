//! Health checks go the way of requests: who cannot be trusted with those is not healthy.

use ringward_testkit::{DEADLINE, eventually};

use super::servers::Server;
use super::{MUTUAL, Scene};

const CHECKS: &str = "ringward_upstream_health_checks_finished_total";

#[test]
fn a_check_shows_our_certificate_and_verifies_the_endpoint() {
    for cluster in ["", "protocol = \"http2\""] {
        let scene = Scene::new();
        let haproxy = Server::haproxy(&scene, "alpn h2,http/1.1", None);
        let check = "health_check = { http = \"/healthz\", interval = \"100ms\", unhealthy_threshold = 1, healthy_threshold = 1 }\n\
                     panic_threshold = 0";
        let gateway = scene.start(haproxy.address, &format!("{cluster}\n{check}"), MUTUAL);
        gateway.wait_for_metric("ringward_upstream_endpoint_healthy", &[("cluster", "others")], 1.0);
        assert_eq!(gateway.connect().get("/").unwrap().status, 200);
        // Others of our CA, but not the one that is expected.
        gateway.reconfigure("orders.internal", "reports.internal");
        gateway.wait_for_metric("ringward_upstream_endpoint_healthy", &[("cluster", "others")], 0.0);
        assert!(gateway.metric(CHECKS, &[("outcome", "tls")]) >= 1.0);
        assert_eq!(gateway.connect().get("/").unwrap().status, 503);
    }
}

/// What is resumed shows no certificate.
#[test]
fn a_check_resumes_nothing() {
    let scene = Scene::new();
    let nginx = Server::nginx(&scene, "if ($ssl_session_reused = r) { return 503; }");
    let check = "health_check = { http = \"/healthz\", interval = \"100ms\" }";
    let gateway = scene.start(nginx.address, check, MUTUAL);
    eventually(DEADLINE, "it was checked several times", || {
        gateway.metric(CHECKS, &[("outcome", "passed")]) + gateway.metric(CHECKS, &[("outcome", "status")])
            >= 4.0
    });
    assert_eq!(gateway.metric(CHECKS, &[("outcome", "status")]), 0.0);
}
