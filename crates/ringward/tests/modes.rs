//! What a route wants of its clients: `off`, `observe`, `optional`, `required`, side by side on one host. The handshake asks as
//! the weakest route does; each route then has its own way.
#![allow(clippy::unwrap_used, reason = "a failed expectation here is a failed test")]

mod support;

use ringward_testkit::{Authority, Client, DEADLINE, Echo, Issued, Leaf, Usage, eventually};
use rustls::AlertDescription;
use serde_json::{Value, json};

use self::support::{Gateway, HOST, Host, ringward};

/// Lets everybody pass, and has upstreams see what the policy has seen of the client.
const POLICY: &str = r#"package ringward.authz

decision := {"allowed": true, "rule": "all", "headers": {"x-seen": json.marshal(input.client)}}
"#;

/// A gateway whose host has a route for each of these modes, named after it.
fn gateway(host_mode: &str, modes: &[&str]) -> Gateway {
    let auth = format!("mode = \"{host_mode}\", trust = \"partners\"");
    let host = Host::new(&[HOST])
        .client_auth(&auth)
        .policy("main")
        .forward("xfcc = \"set\", client_cert_chain = true");
    let host = modes.iter().fold(host, |host, mode| {
        host.route(&format!("path = \"/{mode}\""), &format!("id = \"{mode}\"\nclient_auth = \"{mode}\""))
    });
    Gateway::builder().policy("main", POLICY).host(host).start()
}

/// A certificate that is refused wherever one counts, with the reason; then a good one, then none.
fn clients(gateway: &Gateway) -> Vec<(Option<Issued>, &'static str)> {
    let root = &gateway.root;
    vec![
        (Some(Authority::root("Stranger").issue(&Leaf::client("stranger"))), "unknown_issuer"),
        (Some(root.issue(&Leaf::client("late").expired())), "expired"),
        (Some(root.issue(&Leaf::client("server").usages(&[Usage::ServerAuth]))), "bad_eku"),
        (Some(root.issue(&Leaf::client("evil\0.example"))), "bad_name"),
        (Some(gateway.partner.clone()), "admitted"),
        (None, "none"),
    ]
}

fn client(gateway: &Gateway, identity: Option<&Issued>) -> Client {
    identity.map_or_else(|| gateway.anonymous(), |identity| gateway.anonymous().identity(identity))
}

/// Nothing of a certificate has come to policy or upstream.
#[track_caller]
fn assert_nobody(echo: &Echo) {
    let seen: Value = serde_json::from_str(echo.headers.get("x-seen").unwrap()).unwrap();
    assert_eq!(seen["verified"], false, "{seen}");
    for member in ["name", "identity", "tenant", "fingerprint_sha256", "spiffe_id", "serial"] {
        assert!(seen[member].is_null() || seen[member] == "", "{member}: {seen}");
    }
    for field in ["client-cert", "client-cert-chain", "x-forwarded-client-cert"] {
        assert_eq!(echo.headers.get(field), None);
    }
}

#[track_caller]
fn assert_known(echo: &Echo) {
    let seen: Value = serde_json::from_str(echo.headers.get("x-seen").unwrap()).unwrap();
    assert_eq!((&seen["verified"], &seen["name"]), (&json!(true), &json!("CN=partner-a")), "{seen}");
    assert!(echo.headers.get("client-cert").is_some());
}

/// Observing is to learn who would be refused, before anybody is. It refuses nobody, and nobody gains anything by it.
#[test]
fn observed_clients_are_nobody_and_nobody_is_refused() {
    let gateway = gateway("observe", &["observe"]);
    for (index, (identity, verdict)) in clients(&gateway).into_iter().enumerate() {
        let client = client(&gateway, identity.as_ref()).resuming();
        for resumed in [false, true] {
            let mut connection = client.connect(gateway.edge).unwrap();
            let target = format!("/observe?{index}-{resumed}");
            let response = connection.get(&target).unwrap();
            assert_eq!(response.status, 200, "{verdict}");
            assert_nobody(&Echo::of(&response));
        }
        if let Some(identity) = identity {
            let count = gateway.metric("ringward_observed_clients_total", &[("verdict", verdict)]);
            assert!(count >= 1.0, "{verdict}: {count}");
            let fingerprint = ringward_testkit::sha256_hex(identity.leaf());
            let record = gateway.wait_for_record("observed.fingerprint", fingerprint);
            assert_eq!(record["observed.verdict"], verdict, "{record}");
            for member in ["peer.id", "peer.fingerprint", "peer.tenant", "peer.identity"] {
                assert!(record[member].is_null(), "{record}");
            }
        }
    }
    assert_eq!(gateway.metric("ringward_handshakes_finished_total", &[("outcome", "failed")]), 0.0);
}

/// A chain that nobody could read is still not a reason to refuse.
#[test]
fn unreadable_certificates_are_observed() {
    let gateway = gateway("observe", &["observe"]);
    let noise = vec![rustls::pki_types::CertificateDer::from(vec![0x30; 2000]); 3];
    let odd = gateway.partner.presenting(&noise);
    let response = gateway.anonymous().identity(&odd).connect(gateway.edge).unwrap().get("/observe").unwrap();
    assert_eq!(response.status, 200);
    assert_nobody(&Echo::of(&response));
    assert_eq!(gateway.metric("ringward_worker_panics_total", &[]), 0.0);
}

/// Each route has its own way, on one connection.
#[test]
fn routes_of_one_host_differ() {
    let gateway = gateway("optional", &["off", "optional", "required"]);
    let mut known = gateway.connect();
    for (path, is_known) in [("/off", false), ("/optional", true), ("/required", true), ("/off", false)] {
        let response = known.get(path).unwrap();
        assert_eq!(response.status, 200, "{path}");
        match is_known {
            true => assert_known(&Echo::of(&response)),
            false => assert_nobody(&Echo::of(&response)),
        }
    }
    let mut anonymous = gateway.anonymous().connect(gateway.edge).unwrap();
    for (path, status) in [("/off", 200), ("/optional", 200), ("/required", 403), ("/optional", 200)] {
        let response = anonymous.get(path).unwrap();
        assert_eq!(response.status, status, "{path}");
        if status == 200 {
            assert_nobody(&Echo::of(&response));
        }
    }
    let record = gateway.wait_for_record("flag", "certificate_required");
    assert_eq!((&record["route"], &record["status"]), (&json!("required"), &json!(403)), "{record}");
    // A bad certificate is refused where one counts on some route.
    let stranger = Authority::root("Stranger").issue(&Leaf::client("stranger"));
    let refusal = gateway.anonymous().identity(&stranger).refusal(gateway.edge);
    assert_eq!(refusal.alert(), Some(AlertDescription::UnknownCA), "{refusal}");
    assert!(!gateway.reached().contains(&"/after".to_owned()));
}

/// Beside a route that observes, the handshake lets everybody pass. The other routes have their way nevertheless, and who is
/// known to them is nobody to the one that observes.
#[test]
fn a_route_that_observes_opens_no_other() {
    let gateway = gateway("required", &["observe", "off", "optional", "required"]);
    for (identity, verdict) in clients(&gateway) {
        let mut connection = client(&gateway, identity.as_ref()).connect(gateway.edge).unwrap();
        for path in ["/observe", "/off", "/optional", "/required"] {
            let response = connection.get(&format!("{path}?{verdict}")).unwrap();
            let refused = match (path, verdict) {
                ("/observe" | "/off", _) | ("/optional", "none") => {
                    assert_nobody(&Echo::of(&response));
                    continue;
                }
                (_, "admitted") => {
                    assert_known(&Echo::of(&response));
                    continue;
                }
                (_, "none") => "certificate_required",
                _ => "certificate_refused",
            };
            assert_eq!(response.status, 403, "{verdict} {path}");
            let record = gateway.wait_for_record("flag", refused);
            assert!(record["peer.id"].is_null(), "{record}");
        }
    }
    let flagged = |flag: &str| gateway.lines("request").iter().filter(|line| line["flag"] == flag).count();
    eventually(DEADLINE, "all are recorded", || {
        (flagged("certificate_refused"), flagged("certificate_required")) == (8, 1)
    });
}

/// Where every route requires one, the handshake does, and where none wants one it does not even ask.
#[test]
fn the_handshake_asks_as_the_weakest_route_does() {
    let all_required = gateway("optional", &["required"]);
    let refusal = all_required.anonymous().refusal(all_required.edge);
    assert_eq!(refusal.alert(), Some(AlertDescription::CertificateRequired), "{refusal}");
    let host = Host::new(&[HOST]).client_auth("mode = \"off\"").policy("main");
    let off = Gateway::builder().policy("main", POLICY).host(host).start();
    let stranger = Authority::root("Stranger").issue(&Leaf::client("stranger").expired());
    let response = off.anonymous().identity(&stranger).connect(off.edge).unwrap().get("/off").unwrap();
    assert_eq!(response.status, 200);
    let run = off.s_client(off.edge, HOST).get(HOST, "/off");
    assert!(
        run.text.contains("No client certificate CA names sent") && !run.text.contains("Requested Signature"),
        "{}",
        run.text
    );
    // A certificate is asked for on a host that is `off` itself, because of one route.
    let mixed = gateway("off", &["off", "required"]);
    assert_eq!(mixed.connect().get("/required").unwrap().status, 200);
    let mut anonymous = mixed.anonymous().connect(mixed.edge).unwrap();
    assert_eq!(anonymous.get("/required").unwrap().status, 403);
    assert_eq!(anonymous.get("/off").unwrap().status, 200);
}

/// Observing beside routes that want an identity could let a bad certificate count: such a host is refused.
#[test]
fn observing_beside_requiring_is_refused_or_refuses_bad_certificates() {
    let auth = "mode = \"observe\", trust = \"partners\"";
    let host = Host::new(&[HOST]).client_auth(auth).policy("main");
    let host = host
        .route("path = \"/observe\"", "id = \"observe\"")
        .route("path = \"/required\"", "id = \"required\"\nclient_auth = \"required\"");
    let builder = Gateway::builder().policy("main", POLICY).host(host);
    let said = builder.refusal();
    assert!(said.contains("observe"), "{said}");
}

/// A change of the mode of one route, while clients are connected.
#[test]
fn a_route_that_becomes_required_refuses_who_is_connected() {
    let gateway = gateway("optional", &["off", "optional"]);
    let mut anonymous = gateway.anonymous().connect(gateway.edge).unwrap();
    assert_eq!(anonymous.get("/optional").unwrap().status, 200);
    let before = gateway.reached().len();
    gateway.reconfigure("client_auth = \"optional\"", "client_auth = \"required\"");
    let answer = anonymous.get("/optional").map(|response| response.status);
    assert!(answer.as_ref().map_or(true, |status| *status == 403), "{answer:?}");
    let mut again = gateway.anonymous().connect(gateway.edge).unwrap();
    assert_eq!(again.get("/optional").unwrap().status, 403);
    assert_eq!(gateway.reached().len(), before);
    assert_eq!(again.get("/off").unwrap().status, 200);
}

/// `check` says of a certificate where it is admitted, and where it is nobody.
#[test]
fn check_tells_the_modes_apart() {
    let gateway = gateway("optional", &["off", "required"]);
    let files = gateway.client_files("partner", &gateway.partner);
    let output = ringward()
        .args(["check", "--json", "--cert"])
        .arg(&files.chain)
        .arg("-c")
        .arg(gateway.pki.path().join("ringward.toml"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(said.to_string().contains("partner-a"), "{said}");
}
