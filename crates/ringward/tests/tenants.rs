//! Tenants: whose a client is, and what that means for policies, logs, limits and hosts.
#![allow(clippy::unwrap_used, reason = "a failed expectation here is a failed test")]

mod support;

use ringward_testkit::{Authority, Connection, DEADLINE, Echo, Issued, Leaf, eventually};
use serde_json::{Value, json};

use self::support::{Builder, Gateway, HOST, Host, ringward};

/// Lets tenants at their own paths, and tells upstreams whom it has seen.
const POLICY: &str = r#"package ringward.authz

default decision := {"allowed": false, "rule": "default"}

decision := {"allowed": true, "rule": "own", "headers": {"x-who": sprintf("%s/%s", [input.client.tenant, input.client.identity])}} if {
	input.client.tenant != ""
	startswith(input.request.path, sprintf("/%s/", [input.client.tenant]))
}

decision := {"allowed": true, "rule": "nobodys"} if {
	input.client.tenant == ""
	input.request.path == "/nobodys"
}
"#;

const TENANTS: &str = r#"
[tenant.acme]
trust = ["partners"]
match = [{ organization = "Acme" }]
identity = "common_name"
limits = { connections_max = 3 }

[tenant.globex]
trust = ["partners"]
match = [{ organization = "Globex" }]
identity = "fingerprint"

[tenant.initech]
trust = ["named"]
match = [{ san_dns = "*.initech.example" }, { ou = "Initech" }]
identity = "name"

[tenant.mesh]
trust = ["mesh"]
match = [{ spiffe_trust_domain = "mesh.example" }]
identity = "spiffe_id"
"#;

/// Authorities of their own: of a bundle that is bound to a trust domain, and of one with two rules for one tenant.
struct Others {
    mesh: Authority,
    named: Authority,
}

fn builder() -> (Builder, Others) {
    let others = Others { mesh: Authority::root("Mesh Root"), named: Authority::root("Named Root") };
    let auth = "mode = \"required\", trust = [\"partners\", \"mesh\", \"named\"]";
    let builder = Gateway::builder()
        .policy("main", POLICY)
        .trust("mesh", &[&others.mesh])
        .bundle_key("mesh", "spiffe_trust_domain = \"mesh.example\"")
        .trust("named", &[&others.named])
        .section(TENANTS)
        .host(Host::new(&[HOST]).client_auth(auth).policy("main"));
    (builder, others)
}

fn connect(gateway: &Gateway, identity: &Issued) -> Connection {
    gateway.client().identity(identity).connect(gateway.edge).unwrap()
}

#[test]
fn a_certificate_is_its_tenants_and_named_as_that_tenant_says() {
    let (builder, Others { mesh, named }) = builder();
    let gateway = builder.start();
    let root = &gateway.root;
    let globex = root.issue(&Leaf::client("b").organization("Globex"));
    let fingerprint = ringward_testkit::sha256_hex(globex.leaf());
    let spiffe = "spiffe://mesh.example/ns/shop/sa/api";
    for (identity, tenant, name) in [
        (root.issue(&Leaf::client("a").organization("Acme")), "acme", "a"),
        (named.issue(&Leaf::client("c").dns("x.initech.example")), "initech", "x.initech.example"),
        (named.issue(&Leaf::client("c").organizational_unit("Initech")), "initech", "OU=Initech,CN=c"),
        (globex, "globex", &*fingerprint),
        (mesh.issue(&Leaf::client("svc").spiffe(spiffe)), "mesh", spiffe),
    ] {
        let mut connection = connect(&gateway, &identity);
        let path = format!("/{tenant}/x?{name}");
        let response = connection.get(&path).unwrap();
        assert_eq!(response.status, 200, "{tenant}");
        assert_eq!(Echo::of(&response).headers.get("x-who"), Some(&*format!("{tenant}/{name}")));
        for other in ["acme", "globex", "initech", "mesh"].into_iter().filter(|other| *other != tenant) {
            assert_eq!(connection.get(&format!("/{other}/x")).unwrap().status, 403, "{tenant} to {other}");
        }
        let record = gateway.wait_for_record("peer.identity", name);
        assert_eq!(record["peer.tenant"], tenant, "{record}");
        drop(connection);
        eventually(DEADLINE, "requests are counted", || {
            gateway.metric("ringward_tenant_requests_finished_total", &[("tenant", tenant)]) >= 3.0
        });
    }
    // Of no tenant, where no host asks for one.
    let nobodys = root.issue(&Leaf::client("c").organization("Initech"));
    let mut connection = connect(&gateway, &nobodys);
    assert_eq!(connection.get("/nobodys").unwrap().status, 200);
    assert_eq!(connection.get("/acme/x").unwrap().status, 403);
}

/// Rules look at names as they are in the certificate; nothing that looks like one gets in.
#[test]
fn what_resembles_a_tenants_name_is_not_its() {
    let (builder, Others { mesh, named }) = builder();
    let gateway = builder.start();
    let root = &gateway.root;
    for (authority, leaf) in [
        (root, Leaf::client("a").organization("acme")),
        (root, Leaf::client("a").organization("Acme ")),
        (root, Leaf::client("a").organization("Acme Ltd")),
        (root, Leaf::client("Acme")),
        (root, Leaf::client("a").organizational_unit("Acme")),
        (root, Leaf::client("a").dns("x.initech.example")),
        (&named, Leaf::client("a").organization("Acme")),
        (&named, Leaf::client("a").dns("initech.example")),
        (&named, Leaf::client("a").dns("x.y.initech.example")),
        (&named, Leaf::client("a").dns("xinitech.example")),
        (&named, Leaf::client("a").uri("https://x.initech.example/")),
    ] {
        let mut connection = connect(&gateway, &authority.issue(&leaf));
        for path in ["/acme/x", "/initech/x"] {
            assert_eq!(connection.get(path).unwrap().status, 403, "{leaf:?}");
        }
    }
    // The CA of partners cannot make SPIFFE IDs of the mesh, nor the mesh's CA anything else.
    let spiffe = Leaf::client("svc").spiffe("spiffe://mesh.example/ns/shop/sa/api");
    let foreign = mesh.issue(&Leaf::client("svc").spiffe("spiffe://other.example/ns/shop/sa/api"));
    for identity in [root.issue(&spiffe), foreign, mesh.issue(&Leaf::client("a").organization("Acme"))] {
        let refusal = gateway.client().identity(&identity).refusal(gateway.edge);
        assert!(refusal.alert().is_some(), "{refusal}");
    }
    gateway.wait_for_failed_handshakes("trust_domain_mismatch", 3);
    // Whose a client is, is never in doubt.
    let both = root.issue(&Leaf::client("a").organization("Acme").organization("Globex"));
    assert!(gateway.client().identity(&both).refusal(gateway.edge).alert().is_some());
    gateway.wait_for_failed_handshakes("ambiguous_tenant", 1);
    assert!(!gateway.has_reached("/acme"));
}

/// What names the client must be there, once.
#[test]
fn a_client_without_its_tenants_kind_of_name_is_refused() {
    let gateway = builder().0.start();
    for leaf in [
        Leaf::client("a").organization("Acme").common_name("b"),
        Leaf::client("a").no_subject().organization("Acme"),
    ] {
        let refusal = gateway.client().identity(&gateway.root.issue(&leaf)).refusal(gateway.edge);
        assert!(refusal.alert().is_some(), "{refusal}");
    }
}

#[test]
fn a_tenant_has_no_more_connections_than_it_may() {
    let gateway = builder().0.workers(2).start();
    let client = |name: &str| gateway.root.issue(&Leaf::client(name).organization("Acme"));
    let (one, two) = (client("one"), client("two"));
    let globex = gateway.root.issue(&Leaf::client("b").organization("Globex"));
    let mut open: Vec<Connection> =
        [&one, &two, &one].into_iter().map(|identity| connect(&gateway, identity)).collect();
    for connection in &mut open {
        assert_eq!(connection.get("/acme/x").unwrap().status, 200);
    }
    gateway.wait_for_metric("ringward_tenant_connections_active", &[("tenant", "acme")], 3.0);
    let reached = gateway.reached().len();
    let answer = gateway
        .client()
        .identity(&two)
        .connect(gateway.edge)
        .and_then(|mut connection| connection.get("/acme/x"));
    assert!(answer.is_err() && gateway.reached().len() == reached, "{answer:?}");
    gateway.wait_for_closed("tenant_limit", 1);
    gateway.wait_for_metric("ringward_tenant_connections_refused_total", &[("tenant", "acme")], 1.0);
    assert_eq!(connect(&gateway, &globex).get("/globex/x").unwrap().status, 200, "of another tenant");
    drop(open.pop());
    eventually(DEADLINE, "a place is free", || {
        let again = gateway.client().identity(&two).connect(gateway.edge);
        again
            .and_then(|mut connection| connection.get("/acme/x"))
            .is_ok_and(|response| response.status == 200)
    });
    assert!(open.iter_mut().all(|connection| connection.get("/acme/x").is_ok()));
}

/// A host admits the tenants that it names, and nobody else; the same bundle is trusted throughout.
#[test]
fn a_host_admits_the_tenants_that_it_names() {
    let host = Host::new(&["acme.example.com"])
        .client_auth("mode = \"required\", trust = \"partners\", tenants = [\"acme\"]")
        .policy("main");
    let gateway = builder().0.host(host).start();
    let admitted = |leaf: &Leaf| {
        let client = gateway.client().identity(&gateway.root.issue(leaf)).server_name("acme.example.com");
        client.connect(gateway.edge).and_then(|mut connection| connection.get("/acme/x")).is_ok()
    };
    assert!(admitted(&Leaf::client("a").organization("Acme")));
    assert!(!admitted(&Leaf::client("b").organization("Globex")));
    assert!(!admitted(&Leaf::client("c")));
    gateway.wait_for_failed_handshakes("no_tenant", 2);
}

/// Rules that could claim one certificate for two tenants are a mistake that `check` finds.
#[test]
fn overlapping_rules_are_refused() {
    let tenant =
        |name: &str, rules: &str| format!("[tenant.{name}]\ntrust = [\"partners\"]\nmatch = [{rules}]\n");
    for (one, other) in [
        ("{ organization = \"Acme\" }", "{ organization = \"Acme\" }"),
        ("{ san_dns = \"*.acme.example\" }", "{ san_dns = \"a.acme.example\" }"),
        ("{ san_uri = \"https://acme.example/*\" }", "{ san_uri = \"https://acme.example/a/*\" }"),
        ("{ san_email = \"@acme.example\" }", "{ san_email = \"boss@acme.example\" }"),
        ("{ spiffe_trust_domain = \"acme.example\" }", "{ san_uri = \"spiffe://acme.example/a/*\" }"),
    ] {
        let said = Gateway::builder().section(&(tenant("one", one) + &tenant("other", other))).refusal();
        assert!(
            said.contains("one") && said.contains("other") && said.contains("tenant"),
            "{one} {other}: {said}"
        );
    }
    for (what, section) in [
        ("too broad", tenant("one", "{ san_dns = \"*\" }")),
        ("two keys in one rule", tenant("one", "{ ou = \"a\", organization = \"b\" }")),
        ("everything, twice", tenant("one", "") + "[tenant.other]\ntrust = [\"partners\"]\n"),
        ("an unknown bundle", tenant("one", "{ ou = \"a\" }").replace("partners", "partner")),
    ] {
        let said = Gateway::builder().section(&section).refusal();
        assert!(said.contains("one") || said.contains("tenant"), "{what}: {said}");
    }
}

/// `check --cert` shows whose a certificate is, and by which rule.
#[test]
fn check_shows_the_mapping() {
    let gateway = builder().0.start();
    let acme = gateway.root.issue(&Leaf::client("a").organization("Acme"));
    let both = gateway.root.issue(&Leaf::client("a").organization("Acme").organization("Globex"));
    let check = |identity: &Issued, json: &[&str]| {
        let file = gateway.client_files("checked", identity).chain;
        let config = gateway.pki.path().join("ringward.toml");
        let output = ringward()
            .arg("check")
            .args(json)
            .arg("--cert")
            .arg(file)
            .arg("-c")
            .arg(config)
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap() + &String::from_utf8_lossy(&output.stderr)
    };
    let said: Value = serde_json::from_str(&check(&acme, &["--json"])).unwrap();
    let identity = find(&said, "identity").unwrap_or_else(|| panic!("{said}"));
    assert_eq!((&identity["tenant"], &identity["identity"]), (&json!("acme"), &json!("a")), "{said}");
    assert!(identity["tenant_rule"].as_str().is_some_and(|rule| rule.contains("Acme")), "{said}");
    let text = check(&acme, &[]);
    assert!(text.contains("acme"), "{text}");
    let text = check(&both, &[]);
    assert!(text.contains("acme") && text.contains("globex"), "{text}");
}

/// The first member of this name that is an object, wherever it is.
fn find<'v>(value: &'v Value, name: &str) -> Option<&'v Value> {
    match value {
        Value::Object(members) => {
            let own = members.get(name).filter(|member| member.is_object());
            own.or_else(|| members.values().find_map(|member| find(member, name)))
        }
        Value::Array(elements) => elements.iter().find_map(|element| find(element, name)),
        _ => None,
    }
}
