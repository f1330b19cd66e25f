//! Clients that are connected when the rules change: each is judged anew by the rules of now. Whom they would not admit, or
//! would take for somebody else, has to come again; all others go on, on the connection that they have.
#![allow(clippy::unwrap_used, reason = "a failed expectation here is a failed test")]

mod support;

use std::time::{Duration, Instant};

use ringward_testkit::{
    Authority, AuthorityOptions, Closing, Connection, DEADLINE, Issued, Leaf, OcspDatabase, Pki,
};

use self::support::{Gateway, HOST, Host};

const STRICT: &str = "mode = \"required\", trust = \"partners\"";

/// A connection that has served a request, and is idle.
#[track_caller]
fn idle(gateway: &Gateway, identity: &Issued) -> Connection {
    let mut connection = gateway.client().identity(identity).connect(gateway.edge).unwrap();
    assert_eq!(connection.get("/before").unwrap().status, 200);
    connection
}

/// Its end, in order and with nothing before it.
#[track_caller]
fn assert_ended(gateway: &Gateway, mut connection: Connection, reason: &str) {
    let (rest, closing) = connection.wait_closed();
    assert!(rest.is_empty() && closing == Closing::Notified, "{reason}: {closing:?}");
    gateway.wait_for_closed(reason, 1);
}

#[track_caller]
fn assert_goes_on(connection: &mut Connection) {
    assert_eq!(connection.get("/after").map(|response| response.status).unwrap(), 200);
}

/// What a policy knows of a client is of the handshake. So it must be what a handshake would find out now.
#[test]
fn who_would_be_taken_for_somebody_else_comes_again() {
    const ASKED_FOR: &str = "1.3.6.1.4.1.99999.7";
    let tenants = "[tenant.acme]\ntrust = [\"partners\"]\nmatch = [{ organization = \"Acme\" }]\n\
                   identity = \"common_name\"\n";
    for (what, from, to) in [
        ("the tenant", "[tenant.acme]", "[tenant.other]"),
        ("the identity", "identity = \"common_name\"", "identity = \"fingerprint\""),
        ("an extension", STRICT, &format!("{STRICT}, extensions = [{ASKED_FOR:?}]")),
    ] {
        let gateway =
            Gateway::builder().section(tenants).host(Host::new(&[HOST]).client_auth(STRICT)).start();
        let client = Leaf::client("client").organization("Acme").extension(ASKED_FOR, false, vec![5, 0]);
        let client = gateway.root.issue(&client);
        let (concerned, mut other) = (idle(&gateway, &client), idle(&gateway, &gateway.partner));
        gateway.reconfigure(from, to);
        assert_ended(&gateway, concerned, "trust_changed");
        assert_goes_on(&mut other);
        let mut again = gateway.client().identity(&client).connect(gateway.edge).unwrap();
        assert_eq!(again.get("/again").map(|response| response.status).unwrap(), 200, "{what}");
    }
}

#[test]
fn who_is_not_asked_for_a_certificate_any_more_comes_again() {
    let auth = "mode = \"optional\", trust = \"partners\"";
    let gateway = Gateway::builder().host(Host::new(&[HOST]).client_auth(auth)).start();
    let known = idle(&gateway, &gateway.partner);
    let mut anonymous = gateway.anonymous().connect(gateway.edge).unwrap();
    assert_eq!(anonymous.get("/before").unwrap().status, 200);
    gateway.reconfigure(auth, "mode = \"off\"");
    assert_ended(&gateway, known, "trust_changed");
    assert_goes_on(&mut anonymous);
}

/// What vouches for a client may change while the client does not.
#[test]
fn who_is_vouched_for_by_another_bundle_goes_on() {
    let builder = Gateway::builder();
    let root = builder.root().clone();
    let gateway = builder.trust("successors", &[&root]).host(Host::new(&[HOST]).client_auth(STRICT)).start();
    let mut connection = idle(&gateway, &gateway.partner);
    for (from, to) in [("trust = \"partners\"", "trust = \"successors\""), ("id = \"all\"", "id = \"every\"")]
    {
        gateway.reconfigure(from, to);
        assert_goes_on(&mut connection);
    }
    assert_eq!(gateway.metric("ringward_handshakes_finished_total", &[]), 1.0);
}

#[test]
fn a_path_that_ends_earlier_ends_connections_earlier() {
    let (builder, leaving) = (Gateway::builder(), Authority::root("Leaving Root"));
    let root = builder.root().clone();
    let host = Host::new(&[HOST]).client_auth("mode = \"required\", trust = \"both\"");
    let gateway = builder.trust("both", &[&root, &leaving]).host(host).start();
    let (concerned, mut other) =
        (idle(&gateway, &leaving.issue(&Leaf::client("client"))), idle(&gateway, &gateway.partner));
    // The same CA, by a certificate that ends soon.
    let options =
        AuthorityOptions::named("Leaving Root").same_key_as(&leaving).valid_for(Duration::from_secs(12));
    let ending = Authority::root_with(&options);
    gateway.change(|gateway| drop(gateway.pki.write_authorities("trust/both.pem", &[&root, &ending])));
    assert_ended(&gateway, concerned, "certificate_expired");
    assert_goes_on(&mut other);
}

#[test]
fn a_proof_that_may_not_be_so_old_ends_connections_earlier() {
    let limit = Duration::from_secs(60);
    let gateway = Gateway::builder()
        .limits("idle_timeout = \"5m\"")
        .host(Host::new(&[HOST]).client_auth(STRICT))
        .start();
    let started = Instant::now();
    let client = gateway.client().timeout(limit + DEADLINE);
    let mut concerned = client.connect(gateway.edge).unwrap();
    assert_eq!(concerned.get("/before").unwrap().status, 200);
    gateway.reconfigure(STRICT, &format!("{STRICT}, max_auth_age = \"1m\""));
    assert_goes_on(&mut concerned);
    assert_ended(&gateway, concerned, "auth_age");
    assert!(started.elapsed() > limit - Duration::from_secs(2), "ended after {:?}", started.elapsed());
}

#[test]
fn who_has_come_for_a_name_that_is_gone_is_not_served() {
    let gone = "gone.example.com";
    let gateway =
        Gateway::builder().host(Host::new(&["first.example.com"])).host(Host::new(&[HOST, gone])).start();
    let mut other = idle(&gateway, &gateway.partner);
    let mut concerned = gateway.client().server_name(gone).connect(gateway.edge).unwrap();
    assert_eq!(concerned.get("/before").unwrap().status, 200);
    gateway.reconfigure(&format!("{:?}", [HOST, gone]), &format!("{:?}", [HOST]));
    assert_ended(&gateway, concerned, "removed");
    assert_goes_on(&mut other);
}

/// What is known by OCSP counts from the moment on at which it is asked for.
#[test]
fn who_is_known_to_be_revoked_ends_when_that_counts() {
    let (pki, root) = (Pki::new(), Authority::root("Test Root"));
    let database = OcspDatabase::new(&pki, "root", &root);
    let revoked = root.issue(&Leaf::client("revoked"));
    database.revoked(&revoked, "keyCompromise");
    let responder = database.serve();
    let host = Host::new(&[HOST])
        .client_auth(&format!("{STRICT}, ocsp = \"off\""))
        .route("path = \"/asked\"", "id = \"asked\"\nocsp = \"soft_fail\"")
        .route("path = \"/{rest...}\"", "id = \"others\"\nocsp = \"off\"");
    let gateway = Gateway::builder()
        .signed_by(&root)
        .trust_key(&format!("ocsp_url = {:?}", responder.url()))
        .host(host)
        .start();
    let mut concerned = idle(&gateway, &revoked);
    assert_eq!(concerned.get("/asked").unwrap().status, 403);
    assert_goes_on(&mut concerned);
    gateway.reconfigure("ocsp = \"off\" }", "ocsp = \"soft_fail\" }");
    assert!(concerned.get("/late").is_err());
    assert!(!gateway.has_reached("/late"));
}
