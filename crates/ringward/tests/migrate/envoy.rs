//! Ringward in the place of Envoy, which is not here: its side of the table is what its documentation says.

use std::fs;

use yaml_serde::Value;

use super::scene::{API, PORTAL, Scene};
use super::table::{End, Row, check, get};

const POLICIES: &[&str] = &["policy.toml"];

#[test]
fn envoy() {
    let scene = Scene::new("envoy");
    let (_ringward, after) = scene.start_ringward(POLICIES);
    scene.shares_are_kept(&[after], "billing workload");
    check(&scene, after, &rows());
    scene.failures_are_tried_again(&[after], "integration workload");
    // What upstreams are told.
    let client = scene.client(API).identity(&scene.people["billing workload"]);
    let spoofed = [("x-forwarded-client-cert", "URI=spiffe://example.com/ns/ops/sa/anna"), ("x-debug", "1")];
    let response =
        client.connect(after.address()).unwrap().request("GET", "/orders/7", &spoofed, b"").unwrap();
    let headers = ringward_testkit::Echo::of(&response).headers;
    let xfcc = headers.get("x-forwarded-client-cert").unwrap();
    for part in ["Hash=", "Subject=\"", "URI=spiffe://example.com/ns/billing/sa/reader"] {
        assert!(xfcc.contains(part), "{part}: {xfcc}");
    }
    assert!(!xfcc.contains("anna") && !headers.contains("x-debug"), "{headers:?}");
    assert!(
        !xfcc.contains("Cert=") && headers.get("client-cert").unwrap().starts_with(":MII"),
        "{headers:?}"
    );
    assert_eq!(scene.guide_lacks("`Cert` and `Chain` are not in `X-Forwarded-Client-Cert`"), None);
    assert_eq!(headers.get("x-client-fingerprint").map(str::len), Some(64));
}

#[test]
fn envoy_guide() {
    let scene = Scene::new("envoy");
    let ran = scene.follow_guide(POLICIES);
    assert!(ran.len() >= 9, "{ran:#?}");
    assert_eq!(scene.guide_lacks("Envoy's side was written by its documentation"), None);
    assert_eq!(scene.guide_lacks("Ringward has no listener without TLS."), None);
}

/// It is YAML, and its two sides speak of the same servers, hosts and files.
#[test]
fn envoy_yaml_is_well_formed() {
    let scene = Scene::new("envoy");
    let text = fs::read_to_string(scene.original("envoy.yaml")).unwrap();
    let value: Value = yaml_serde::from_str(&text).unwrap();
    let resources = &value["static_resources"];
    let chains = resources["listeners"][1]["filter_chains"].as_sequence().unwrap();
    assert_eq!(chains.len(), 2);
    let converted = fs::read_to_string(scene.original("ringward.toml")).unwrap();
    for chain in chains {
        let name = chain["filter_chain_match"]["server_names"][0].as_str().unwrap();
        assert!(converted.contains(&format!("[\"{name}\"]")), "{name}");
        let tls = &chain["transport_socket"]["typed_config"]["common_tls_context"];
        let key = tls["tls_certificates"][0]["private_key"]["filename"].as_str().unwrap();
        let key = key.strip_prefix("/etc/envoy/").unwrap();
        assert!(converted.contains(&format!("\"{key}\"")), "{key}");
        let filters = chain["filters"].as_sequence().unwrap();
        let manager = &filters.last().unwrap()["typed_config"];
        assert_eq!(manager["forward_client_cert_details"].as_str(), Some("SANITIZE_SET"));
        let order: Vec<_> = manager["http_filters"]
            .as_sequence()
            .unwrap()
            .iter()
            .map(|f| f["name"].as_str().unwrap())
            .collect();
        assert_eq!(
            order,
            ["envoy.filters.http.rbac", "envoy.filters.http.buffer", "envoy.filters.http.router"]
        );
    }
    let mut servers = Vec::new();
    for cluster in resources["clusters"].as_sequence().unwrap() {
        for server in cluster["load_assignment"]["endpoints"][0]["lb_endpoints"].as_sequence().unwrap() {
            let address = &server["endpoint"]["address"]["socket_address"];
            servers.push(format!(
                "{}:{}",
                address["address"].as_str().unwrap(),
                address["port_value"].as_u64().unwrap()
            ));
        }
    }
    assert_eq!(servers.len(), 3);
    for server in servers {
        assert!(converted.contains(&format!("\"{server}\"")), "{server}");
    }
}

fn rows() -> Vec<Row> {
    use End::{Answered, Passed, Refused, SentTo};
    let hosts = "A request for another host than that of the handshake is answered with 421";
    let empty = "An empty segment (`//`) is answered with 400";
    let missing = "What has no route is answered with 404";
    let dns = "Envoy compares one name";
    let underscores = "Fields with an underscore in their name pass";
    let letters = "Letters outside of ASCII in a subject are not sent in a field";
    let billing = "billing workload";
    let integration = "integration workload";
    vec![
        get(API, "/orders/7?all=1").by(billing),
        get(API, "/orders/7").by(billing).method("HEAD").ends(Answered(200)),
        get(API, "/orders/7").by(billing).body(10).ends(Answered(403)),
        get(API, "/orders/7").by(integration).body(10),
        get(API, "/orders/7").by("importer").method("DELETE"),
        get(API, "/orders/7").by("importer with URI").ends(Answered(403)).but(Passed("/orders/7"), dns),
        get(API, "/orders/7").by("integration test workload").ends(Answered(403)),
        get(API, "/orders/7").by("sales").ends(Answered(403)),
        get(API, "/quotes/7").by("sales"),
        get(API, "/orders/7").ends(Refused),
        get(API, "/orders/7").by("revoked").ends(Refused),
        get(API, "/orders/7").by("expired").ends(Refused),
        get(API, "/orders/7").by("stranger").ends(Refused),
        get(PORTAL, "/start"),
        get(PORTAL, "/start").by("sales"),
        get(PORTAL, "/start").by("revoked").ends(Refused),
        get(PORTAL, "/admin/users").ends(Answered(403)),
        get(PORTAL, "/admin/users").by("sales").ends(Answered(403)),
        get(PORTAL, "/admin/users").by("operator workload"),
        get(PORTAL, "/healthz").ends(Answered(200)),
        get(API, "/nothing").by(billing).ends(Answered(403)).but(Answered(404), missing),
        get(API, "/orders/7").by(billing).sni(Some(PORTAL)).ends(Answered(404)).but(Answered(421), hosts),
        get(API, "/orders/7").by(billing).sni(None).ends(Refused),
        get(API, "/orders/7").by(integration).body(1 << 20),
        get(API, "/orders/7").by(integration).announced("1048577").ends(Answered(413)),
        get(API, "/orders/import").by(integration).body((1 << 20) + 1),
        get(API, "/orders/import").by(integration).announced("10485761").ends(Answered(413)),
        get(API, "/old/7?x=1").by("sales").ends(SentTo(301, "https://api.example.com/orders/7?x=1")),
        get(API, "/v2/orders/7?x=1").by(billing).ends(Passed("/orders/7?x=1")),
        get(API, "/v2/orders/7").by("sales").ends(Answered(403)),
        get(API, "/orders//7").by(billing).ends(Passed("/orders/7")).but(Answered(400), empty),
        get(API, "/orders/x/../7").by(billing).ends(Passed("/orders/7")),
        get(API, "/orders/a%2Fb").by(billing).ends(Answered(400)),
        get(API, "/orders/7")
            .by(billing)
            .field("x_other", "1")
            .ends(Answered(400))
            .but(Passed("/orders/7"), underscores),
        get(API, "/quotes/7").by("umlaut").ends(Passed("/quotes/7")).but(Answered(500), letters),
        get(API, "/quotes/slow").by(billing).ends(Answered(504)),
    ]
}
