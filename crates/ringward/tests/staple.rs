//! OCSP staples of our own certificates, as `openssl s_client -status` sees them.
#![allow(clippy::unwrap_used, reason = "a failed expectation here is a failed test")]

mod support;

use std::net::TcpListener;
use std::time::{Duration, SystemTime};

use ringward_testkit::{
    Authority, DEADLINE, Issued, Leaf, OcspAnswer, OcspDatabase, Pki, RevocationReason, Script, Upstream,
    eventually,
};

use self::support::{Builder, Gateway, HOST, Host};

/// A gateway whose certificate is of an authority below the root, with `staple` and what belongs to it.
fn gateway(authority: &Authority, server: &Issued, root: &Authority, keys: &str) -> Builder {
    let builder = Gateway::builder().signed_by(root).stateful();
    builder.pki().write_pem("server", server);
    builder.pki().write_authorities("server-ca.pem", &[authority]);
    let certificate = format!("{{ chain = \"server.pem\", key = \"server.key\", {keys} }}");
    builder.host(Host::new(&[HOST]).certificate(&certificate))
}

/// What a client sees that asks for a staple.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seen {
    Nothing,
    Good,
    Other,
}

fn seen(gateway: &Gateway) -> Seen {
    let client = gateway.s_client(gateway.edge, HOST);
    let client = client.identity(&gateway.client_files("partner", &gateway.partner));
    let run = client.clone().ask_for_staple().get(HOST, "/");
    assert_eq!(run.status(), Some(200), "{}", run.text);
    let unasked = client.get(HOST, "/");
    assert!(unasked.status() == Some(200) && !unasked.text.contains("OCSP"), "{}", unasked.text);
    if run.text.contains("OCSP response: no response sent") {
        return Seen::Nothing;
    }
    let good =
        run.text.contains("OCSP Response Status: successful") && run.text.contains("Cert Status: good");
    if good { Seen::Good } else { Seen::Other }
}

/// Serves these bytes to whoever asks a responder.
fn serve(server: &Upstream, answer: &[u8]) {
    let fields = [("content-type", "application/ocsp-response")];
    server.on("*", Script::new().read_body().respond_bytes(200, &fields, answer));
}

fn authorities() -> (Authority, Authority) {
    let root = Authority::root("Test Root");
    let issuing = root.intermediate("Server CA");
    (root, issuing)
}

#[test]
fn a_staple_is_fetched_kept_and_shown() {
    let (pki, (root, issuing)) = (Pki::new(), authorities());
    let database = OcspDatabase::new(&pki, "server", &issuing);
    let responder = database.serve();
    let server = issuing.issue(&Leaf::server(HOST).ocsp_url(&responder.url()));
    database.good(&server);
    let mut gateway = gateway(&issuing, &server, &root, "staple = \"fetch\"").start();
    eventually(DEADLINE, "the staple is shown", || seen(&gateway) == Seen::Good);
    let [made, ends] =
        ["ringward_staple_this_update_timestamp_seconds", "ringward_staple_next_update_timestamp_seconds"]
            .map(|name| gateway.metric(name, &[("host", HOST)]));
    assert!(0.0 < made && made < ends, "{made} {ends}");
    let status = gateway.ask_json(&["trust", "status", "--json"]);
    assert_eq!(
        (&status["staples"][0]["host"], &status["staples"][0]["status"]),
        (&HOST.into(), &"good".into()),
        "{status}"
    );
    // From disk, when nobody answers.
    responder.stop();
    gateway.kill_and_start_again();
    assert_eq!(seen(&gateway), Seen::Good);
}

/// The responder of the configuration is asked instead of the one in the certificate.
#[test]
fn a_configured_responder_is_asked() {
    let (pki, (root, issuing)) = (Pki::new(), authorities());
    let database = OcspDatabase::new(&pki, "server", &issuing);
    let responder = database.serve();
    let server = issuing.issue(&Leaf::server(HOST).ocsp_url("http://127.0.0.1:9/"));
    database.good(&server);
    let keys = format!("staple = \"fetch\", ocsp_url = {:?}", responder.url());
    let gateway = gateway(&issuing, &server, &root, &keys).start();
    eventually(DEADLINE, "the staple is shown", || seen(&gateway) == Seen::Good);
}

/// What is not verified is not shown: a client would refuse us for it.
#[test]
fn wrong_answers_are_not_shown() {
    let (root, issuing) = authorities();
    let responder = Upstream::start();
    let server = issuing.issue(&Leaf::server(HOST).ocsp_url(&format!("http://{}/", responder.address())));
    let good = OcspAnswer::good(&server, &issuing);
    let revoked = OcspAnswer::revoked(&server, &issuing, RevocationReason::KeyCompromise);
    for (what, answer, said) in [
        ("a foreign CA", good.signed_by_authority(&Authority::root("Server CA")), "signature"),
        ("the CA above", good.signed_by_authority(&root), "responder"),
        (
            "another certificate",
            good.clone().serial(&[1]).signed_by_authority(&issuing),
            "other certificates",
        ),
        ("an old one", good.clone().stale().signed_by_authority(&issuing), "stale since"),
        (
            "one of tomorrow",
            good.clone().from_the_future().signed_by_authority(&issuing),
            "compare the clocks",
        ),
        ("unknown", OcspAnswer::unknown(&server, &issuing).signed_by_authority(&issuing), "does not know"),
        ("revoked", revoked.signed_by_authority(&issuing), "revoked"),
        ("noise", vec![0x30; 300], "cannot be read"),
    ] {
        serve(&responder, &answer);
        let gateway = gateway(&issuing, &server, &root, "staple = \"fetch\"").start();
        gateway.wait_for_metric("ringward_staple_fetches_failed_total", &[("host", HOST)], 1.0);
        assert_eq!(seen(&gateway), Seen::Nothing, "{what}");
        // That we are revoked, only an operator can mend.
        let level = if what == "revoked" { "ERROR" } else { "WARN" };
        let is_told = |line: &str| {
            (line.contains("staple") || line.contains("OCSP")) && line.contains(level) && line.contains(said)
        };
        gateway.process.wait_for_line(DEADLINE, is_told);
    }
}

/// A staple of which others take care, in a file that is watched.
#[test]
fn a_staple_in_a_file_is_verified_and_followed() {
    let (root, issuing) = authorities();
    let server = issuing.issue(&Leaf::server(HOST));
    let good = OcspAnswer::good(&server, &issuing);
    let builder = gateway(&issuing, &server, &root, "staple = { file = \"staple.der\" }");
    let soon = SystemTime::now() + Duration::from_secs(3600);
    builder.pki().write("staple.der", good.clone().next_update(soon).signed_by_authority(&issuing));
    let gateway = builder.start();
    assert_eq!(seen(&gateway), Seen::Good);
    let before = gateway.metric("ringward_staple_next_update_timestamp_seconds", &[("host", HOST)]);
    gateway.change(|gateway| drop(gateway.pki.write("staple.der", good.signed_by_authority(&issuing))));
    assert_eq!(seen(&gateway), Seen::Good);
    assert!(gateway.metric("ringward_staple_next_update_timestamp_seconds", &[("host", HOST)]) > before);
    let forged = good.signed_by_authority(&Authority::root("Server CA"));
    for broken in [forged, b"noise".to_vec(), Vec::new()] {
        let ended = || gateway.reloads("applied") + gateway.reloads("failed");
        let before = ended();
        gateway.pki.write("staple.der", &broken);
        eventually(DEADLINE, "the file is read", || ended() > before);
        assert_eq!(seen(&gateway), Seen::Good);
    }
}

/// A staple that ends is not shown any more: better none than one that is refused.
#[test]
fn a_staple_is_not_shown_after_its_end() {
    let (root, issuing) = authorities();
    let server = issuing.issue(&Leaf::server(HOST));
    let builder = gateway(&issuing, &server, &root, "staple = { file = \"staple.der\" }");
    builder
        .pki()
        .write("staple.der", OcspAnswer::good(&server, &issuing).stale().signed_by_authority(&issuing));
    let gateway = builder.start();
    assert_eq!(seen(&gateway), Seen::Nothing);
}

/// RFC 7633: clients refuse such a certificate without a staple, so it does not go into service without one.
#[test]
fn a_certificate_that_demands_a_staple_waits_for_it() {
    let (root, issuing) = authorities();
    let dead = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let leaf = |address| Leaf::server(HOST).must_staple().ocsp_url(&format!("http://{address}/"));
    let refusal = gateway(&issuing, &issuing.issue(&leaf(dead)), &root, "staple = \"off\"").refusal();
    assert!(refusal.contains("demands an OCSP staple") && refusal.contains("add staple = "), "{refusal}");
    // At the start there is nothing better, and other hosts have clients, too: it is said loudly.
    let unstapled = gateway(&issuing, &issuing.issue(&leaf(dead)), &root, "staple = \"fetch\"").start();
    let said = unstapled.messages("a certificate serves without what it demands");
    assert!(said.len() == 1 && said[0]["level"] == "ERROR", "{said:?}");

    // While running: the old one stays until there is a staple for the new one.
    let responder = Upstream::start();
    responder.on("*", Script::new().read_body().respond(503, &[], ""));
    let old = issuing.issue(&Leaf::server(HOST).ocsp_url(&format!("http://{}/", responder.address())));
    let gateway = gateway(&issuing, &old, &root, "staple = \"fetch\"").start();
    let new = issuing.issue(&leaf(responder.address()));
    let shown = || gateway.connect().server_chain()[0].clone();
    gateway.refused_change(|gateway| drop(gateway.pki.write_pem("server", &new)));
    assert_eq!(shown(), *old.leaf());
    serve(&responder, &OcspAnswer::good(&new, &issuing).signed_by_authority(&issuing));
    gateway.pki.write_pem("server", &new);
    eventually(4 * DEADLINE, "the new one goes into service", || shown() == *new.leaf());
    assert_eq!(seen(&gateway), Seen::Good, "from its first handshake on");
}
