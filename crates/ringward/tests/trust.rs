//! Which client certificates are let in, and how the others are told: by a TLS alert, one reason in metrics, one line in the log.
#![allow(clippy::unwrap_used, reason = "a failed expectation here is a failed test")]

mod support;

use std::io::Read;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use ringward_testkit::{
    Authority, Client, ClientError, Closing, DEADLINE, Echo, Gate, Issued, KeyType, Leaf, Script, Usage,
    eventually,
};
use rustls::pki_types::CertificateDer;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{AlertDescription, ClientConfig, ClientConnection, RootCertStore};

use self::support::{Gateway, HOST, Host, connect_tcp, on_both_drivers};

on_both_drivers!(
    a_client_without_certificate_is_refused_where_one_is_required,
    a_connection_ends_when_its_clients_certificate_does,
);

const REQUIRED: &str = "mode = \"required\", trust = \"partners\"";
const OPTIONAL: &str = "mode = \"optional\", trust = \"partners\"";

/// The client is refused with an alert and nothing else; there is one line in the log, with this reason.
#[track_caller]
fn assert_refused(gateway: &Gateway, client: &Client, reason: &str) -> AlertDescription {
    let lines = gateway.lines("handshake failed").len();
    let labels = [("outcome", "failed"), ("reason", reason)];
    let before = gateway.metric("ringward_handshakes_finished_total", &labels);
    let refusal = client.refusal(gateway.edge);
    let alert = refusal.alert().unwrap_or_else(|| panic!("{reason}: no alert but {refusal}"));
    gateway.wait_for_metric("ringward_handshakes_finished_total", &labels, before + 1.0);
    let mut line = None;
    eventually(DEADLINE, "a line in the log", || {
        line = gateway.lines("handshake failed").into_iter().nth(lines);
        line.is_some()
    });
    let line = line.unwrap();
    assert_eq!((&line["reason"], &line["tls.server_name"]), (&reason.into(), &HOST.into()), "{line}");
    assert!(line["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{line}");
    assert_eq!(gateway.lines("handshake failed").len(), lines + 1);
    alert
}

/// The client is let in.
#[track_caller]
fn assert_admitted(gateway: &Gateway, identity: &Issued) {
    let mut connection = gateway.client().identity(identity).connect(gateway.edge).unwrap();
    assert_eq!(connection.get("/").map(|response| response.status).unwrap(), 200);
}

fn a_client_without_certificate_is_refused_where_one_is_required(driver: &str) {
    let gateway = Gateway::builder().io(driver).start();
    let alert = assert_refused(&gateway, &gateway.anonymous(), "no_certificate");
    assert_eq!(alert, AlertDescription::CertificateRequired);
    gateway.wait_for_closed("handshake_failed", 1);
    assert_eq!(gateway.upstream.connections_accepted(), 0);
    gateway.assert_serves();
}

/// Leafs that nobody should be let in with, and why.
fn refused_leafs(root: &Authority) -> Vec<(&'static str, Issued)> {
    let client = || Leaf::client("partner-a");
    let stranger = Authority::root("Stranger");
    // Of the same name as the trusted root, which finds it but did not sign.
    let namesake = Authority::root("Test Root");
    vec![
        ("unknown_issuer", stranger.issue(&client())),
        ("unknown_issuer", stranger.intermediate("Below").issue(&client())),
        ("unknown_issuer", root.intermediate("Left out").issue(&client()).presenting(&[])),
        ("bad_signature", namesake.issue(&client())),
        ("expired", root.issue(&client().expired())),
        ("not_yet_valid", root.issue(&client().not_yet_valid())),
        ("bad_eku", root.issue(&client().usages(&[]))),
        ("bad_eku", root.issue(&client().usages(&[Usage::ServerAuth]))),
        ("bad_eku", root.issue(&client().usages(&[Usage::CodeSigning]))),
        ("bad_key_usage", root.issue(&client().without_digital_signature())),
        ("ca_as_leaf", root.issue(&client().authority())),
        ("bad_name", root.issue(&Leaf::client("partner-a\0.evil.example"))),
        ("bad_name", root.issue(&Leaf::client("partner\n-a"))),
        ("bad_name", root.issue(&client().organization("Partner\u{7f}"))),
        ("bad_name", root.issue(&client().attribute("2.5.4.11", "Ops\0"))),
    ]
}

#[test]
fn certificates_that_prove_nothing_are_refused_each_for_its_reason() {
    let gateway = Gateway::start();
    for (reason, identity) in refused_leafs(&gateway.root) {
        assert_refused(&gateway, &gateway.client().identity(&identity), reason);
    }
    assert_eq!(gateway.upstream.connections_accepted(), 0);
    gateway.assert_serves();
}

#[test]
fn where_a_certificate_is_optional_a_bad_one_is_still_refused() {
    let gateway = Gateway::builder().host(Host::new(&[HOST]).client_auth(OPTIONAL)).start();
    let mut connection = gateway.anonymous().connect(gateway.edge).unwrap();
    assert!(!Echo::of(&connection.get("/").unwrap()).headers.contains("client-cert"));
    assert_admitted(&gateway, &gateway.partner);
    for (reason, identity) in refused_leafs(&gateway.root) {
        assert_refused(&gateway, &gateway.client().identity(&identity), reason);
    }
}

#[test]
fn where_no_certificate_is_asked_for_none_matters() {
    let gateway = Gateway::builder().host(Host::new(&[HOST]).client_auth("mode = \"off\"")).start();
    let stranger = Authority::root("Stranger").issue(&Leaf::client("x").expired());
    for client in [gateway.anonymous(), gateway.client().identity(&stranger)] {
        assert_eq!(client.connect(gateway.edge).unwrap().get("/").unwrap().status, 200);
    }
}

#[test]
fn the_line_of_a_refusal_names_what_was_presented() {
    let gateway = Gateway::start();
    let identity = gateway.root.issue(&Leaf::client("late partner").organization("Partner L").expired());
    assert_refused(&gateway, &gateway.client().identity(&identity), "expired");
    let line = &gateway.lines("handshake failed")[0];
    let subject = line["presented.subject"].as_str().unwrap();
    assert!(subject.contains("CN=late partner") && subject.contains("O=Partner L"), "{line}");
    assert_eq!(line["presented.fingerprint"], ringward_testkit::sha256_hex(identity.leaf()));
    assert_eq!(line["listener"], "edge");
    assert!(line["downstream.addr"].as_str().unwrap().starts_with("127.0.0.1:"), "{line}");
}

#[test]
fn keys_and_chains_of_every_kind_that_is_trusted_are_let_in() {
    let gateway = Gateway::start();
    for key in [KeyType::P256, KeyType::P384, KeyType::Ed25519, KeyType::Rsa2048] {
        assert_admitted(&gateway, &gateway.root.issue(&Leaf::client("partner").key(key)));
    }
    let mut authority = gateway.root.clone();
    for depth in 1..=4 {
        authority = authority.intermediate(&format!("Level {depth}"));
        assert_admitted(&gateway, &authority.issue(&Leaf::client("partner")));
    }
    // What is presented beside the path does not matter, as long as there is a path.
    let leaf = gateway.root.intermediate("Issuing").issue(&Leaf::client("partner"));
    let unrelated = Authority::root("Unrelated").certificate().clone();
    let chain = [unrelated, leaf.chain()[1].clone(), gateway.root.certificate().clone()];
    assert_admitted(&gateway, &leaf.presenting(&chain));
    for usages in [&[Usage::ClientAuth, Usage::ServerAuth][..], &[Usage::CodeSigning, Usage::ClientAuth]] {
        assert_admitted(&gateway, &gateway.root.issue(&Leaf::client("partner").usages(usages)));
    }
}

/// `require_eku = false` accepts what has no extended key usage at all, and still nothing that was made for other purposes.
#[test]
fn certificates_without_extended_key_usage_are_let_in_only_where_that_is_allowed() {
    let lax = format!("{REQUIRED}, require_eku = false");
    let gateway = Gateway::builder().host(Host::new(&[HOST]).client_auth(&lax)).start();
    assert_admitted(&gateway, &gateway.root.issue(&Leaf::client("old").usages(&[])));
    let other = gateway.root.issue(&Leaf::client("server").usages(&[Usage::ServerAuth]));
    assert_refused(&gateway, &gateway.client().identity(&other), "bad_eku");
}

/// Without hints the size of a bundle is nothing that a handshake shows, to clients or in its length.
#[test]
fn clients_of_a_thousand_authorities_are_let_in() {
    let authorities: Vec<Authority> =
        (0..1000).map(|number| Authority::root(&format!("Root {number}"))).collect();
    let trusted: Vec<&Authority> = authorities.iter().collect();
    let host = Host::new(&[HOST]).client_auth("mode = \"required\", trust = \"many\"");
    let gateway = Gateway::builder().trust("many", &trusted).host(host).start();
    for authority in [&authorities[0], &authorities[499], &authorities[999]] {
        assert_admitted(&gateway, &authority.issue(&Leaf::client("one of many")));
    }
    let stranger = Authority::root("Root 1000").issue(&Leaf::client("stranger"));
    assert!(
        gateway.anonymous().identity(&stranger).connect(gateway.edge).and_then(|mut c| c.get("/")).is_err()
    );
    gateway.wait_for_failed_handshakes("unknown_issuer", 1);
}

#[test]
fn more_intermediates_than_allowed_are_refused() {
    let deep = |root: &Authority, depth: usize| {
        let issuer = (0..depth)
            .fold(root.clone(), |authority, level| authority.intermediate(&format!("Level {level}")));
        issuer.issue(&Leaf::client("deep"))
    };
    let gateway = Gateway::start();
    assert_admitted(&gateway, &deep(&gateway.root, 4));
    assert_refused(&gateway, &gateway.client().identity(&deep(&gateway.root, 5)), "chain_too_long");

    let short = format!("{REQUIRED}, intermediates_max = 1");
    let gateway = Gateway::builder().host(Host::new(&[HOST]).client_auth(&short)).start();
    assert_admitted(&gateway, &deep(&gateway.root, 1));
    assert_refused(&gateway, &gateway.client().identity(&deep(&gateway.root, 2)), "chain_too_long");
}

/// Chains that are made to cost: each intermediate is a candidate issuer of every other.
#[test]
fn hostile_chains_are_refused_quickly() {
    let gateway = Gateway::start();
    let stranger = Authority::root("Stranger");
    let leaf = stranger.intermediate("Loop").issue(&Leaf::client("hostile"));
    let loops: Vec<CertificateDer<'static>> =
        (0..50).map(|_| stranger.intermediate("Loop").certificate().clone()).collect();
    let noise = CertificateDer::from(vec![0x30; 5000]);
    let empty = CertificateDer::from(vec![0x30, 0]);
    let huge = stranger
        .issue(&Leaf::client("x").extension("1.3.6.1.4.1.99999.7", false, vec![4; 60_000]))
        .leaf()
        .clone();
    for (reasons, chain) in [
        (&["chain_too_long"][..], loops.clone()),
        (&["unknown_issuer", "bad_signature"], loops[..4].to_vec()),
        (&["unknown_issuer", "bad_certificate"], vec![noise.clone(), empty.clone()]),
        (&["unknown_issuer", "bad_certificate"], vec![leaf.leaf().clone(); 4]),
        (&["chain_too_long", "malformed", "bad_certificate", "unknown_issuer"], vec![huge; 4]),
        (&["chain_too_long", "malformed", "bad_certificate"], vec![noise; 1000]),
    ] {
        let started = Instant::now();
        let before = gateway.lines("handshake failed").len();
        let refusal = gateway.client().identity(&leaf.presenting(&chain)).refusal(gateway.edge);
        assert!(matches!(refusal, ClientError::Tls(_) | ClientError::Reset | ClientError::Cut), "{refusal}");
        assert!(started.elapsed() < DEADLINE, "{:?}", started.elapsed());
        eventually(DEADLINE, "a line in the log", || gateway.lines("handshake failed").len() > before);
        let line = gateway.lines("handshake failed").pop().unwrap();
        assert!(reasons.iter().any(|reason| line["reason"] == *reason), "{reasons:?}: {line}");
    }
    assert_eq!(gateway.metric("ringward_worker_panics_total", &[]), 0.0);
    gateway.assert_serves();
}

/// A certificate is public: it names only who can sign with its key (RFC 8446 §4.4.3).
#[test]
fn a_certificate_in_other_hands_is_refused() {
    let gateway = Gateway::start();
    let thief = gateway.root.issue(&Leaf::client("thief"));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let key = provider.key_provider.load_private_key(thief.key()).unwrap();
    let stolen = CertifiedKey::new(gateway.partner.chain().to_vec(), key);
    let mut roots = RootCertStore::empty();
    roots.add(gateway.root.certificate().clone()).unwrap();
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(stolen)));
    let mut tls = ClientConnection::new(Arc::new(config), HOST.try_into().unwrap()).unwrap();
    let mut tcp = connect_tcp(gateway.edge);
    let error = rustls::Stream::new(&mut tls, &mut tcp).read(&mut [0]).unwrap_err();
    let error = error.downcast::<rustls::Error>().unwrap();
    assert_eq!(error, rustls::Error::AlertReceived(AlertDescription::DecryptError));
    gateway.wait_for_failed_handshakes("bad_signature", 1);
    assert_eq!(gateway.upstream.connections_accepted(), 0);
}

fn a_connection_ends_when_its_clients_certificate_does(driver: &str) {
    let gateway = Gateway::builder().io(driver).start();
    let gate = Gate::new();
    gateway.upstream.on("/slow", Script::new().wait(&gate).respond(200, &[], "late"));
    let ends = SystemTime::now() + Duration::from_secs(8);
    let identity =
        gateway.root.issue(&Leaf::client("brief").valid_between(ends - Duration::from_secs(3600), ends));
    let client = gateway.client().identity(&identity);
    let mut idle = client.connect(gateway.edge).unwrap();
    assert_eq!(idle.get("/").unwrap().status, 200);
    let mut busy = client.connect(gateway.edge).unwrap();
    let head = busy.head("GET", "/slow", &[]);
    busy.send(&head).unwrap();
    gate.wait_for_arrivals(1, DEADLINE);
    let mut others = gateway.connect();

    let (rest, closing) = idle.wait_closed();
    assert!(rest.is_empty() && closing == Closing::Notified, "{closing:?}");
    // The certificate's own clock has whole seconds.
    assert!(SystemTime::now() + Duration::from_secs(1) >= ends, "closed before its time");
    gateway.wait_for_closed("certificate_expired", 1);
    // What was under way when it ended is finished, and is the last.
    gate.open();
    let response = busy.response().unwrap();
    assert_eq!((response.text(), response.headers.get("connection")), ("late", Some("close")));
    busy.wait_closed();
    gateway.wait_for_closed("certificate_expired", 2);
    // RFC 5280 §4.1.2.5: it is valid through the whole of its last second.
    let refused = || client.connect(gateway.edge).and_then(|mut connection| connection.get("/")).err();
    eventually(DEADLINE, "a new handshake is refused", || {
        refused().and_then(|error| error.alert()) == Some(AlertDescription::CertificateExpired)
    });
    assert_eq!(others.get("/").unwrap().status, 200, "others are not concerned");
}

/// A CA takes the place of the one below it, which was trusted directly: who presents both goes on, on the same connection.
#[test]
fn a_connection_goes_on_whose_whole_chain_leads_to_another_anchor() {
    let gateway = Gateway::builder().start();
    let issuing = gateway.root.intermediate("Issuing");
    let trust = |authority: &Authority| {
        gateway.change(|gateway| drop(gateway.pki.write_authorities("trust/partners.pem", &[authority])));
    };
    trust(&issuing);
    let client = gateway.client().identity(&issuing.issue(&Leaf::client("client")));
    let mut connection = client.connect(gateway.edge).unwrap();
    assert_eq!(connection.get("/a").unwrap().status, 200);
    for anchor in [&gateway.root, &issuing, &gateway.root] {
        trust(anchor);
        assert_eq!(client.connect(gateway.edge).unwrap().get("/new").unwrap().status, 200);
        assert_eq!(connection.get("/b").unwrap().status, 200);
    }
}

#[test]
fn tls_1_2_and_foreign_protocols_are_refused() {
    let gateway = Gateway::builder().listener("http2 = false").start();
    let refusal = gateway.client().tls12_only().refusal(gateway.edge);
    assert_eq!(refusal.alert(), Some(AlertDescription::ProtocolVersion), "{refusal}");
    gateway.wait_for_failed_handshakes("no_common_version", 1);
    let refusal = gateway.client().alpn(&["h2", "spdy/3"]).refusal(gateway.edge);
    assert_eq!(refusal.alert(), Some(AlertDescription::NoApplicationProtocol), "{refusal}");
    gateway.wait_for_failed_handshakes("no_alpn", 1);
    for (offered, chosen) in [
        (&["h2", "http/1.1"][..], Some("http/1.1")),
        (&["http/1.0", "http/1.1"], Some("http/1.1")),
        (&["http/1.0"], Some("http/1.0")),
        (&[], None),
    ] {
        let mut connection = gateway.client().alpn(offered).connect(gateway.edge).unwrap();
        assert_eq!(connection.alpn(), chosen.map(str::as_bytes), "{offered:?}");
        assert_eq!(connection.get("/").unwrap().status, 200);
    }
}

#[test]
fn a_client_that_does_not_trust_the_gateway_is_counted_as_its_alert() {
    let gateway = Gateway::start();
    let distrustful = Client::new(HOST, &Authority::root("Stranger")).identity(&gateway.partner);
    assert!(distrustful.connect(gateway.edge).is_err());
    gateway.wait_for_failed_handshakes("peer_alert", 1);
    gateway.assert_serves();
}
