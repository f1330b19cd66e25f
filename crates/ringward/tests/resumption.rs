//! Resumed sessions: where they save a handshake, how long they do, and that nothing rides on them but a handshake saved.
#![allow(clippy::unwrap_used, reason = "a failed expectation here is a failed test")]

mod support;

use std::time::{Duration, Instant};

use ringward_testkit::{Closing, DEADLINE, Echo, Leaf, SClient, eventually};

use self::support::{Gateway, HOST, Host, on_both_drivers, with_sessions};

on_both_drivers!(tickets_and_cache_resume_with_the_whole_identity);

const KINDS: [&str; 2] = ["tickets", "cache"];

/// Allows what it says about resumption, to show that policies see it.
const POLICY: &str = r#"package ringward.authz

default decision := {"allowed": false, "rule": "default"}

decision := {"allowed": true, "rule": "resumed"} if input.connection.resumed == true

decision := {"allowed": true, "rule": "full"} if input.connection.resumed == false
"#;

fn gateway(kind: &str) -> Gateway {
    Gateway::builder().listener(&format!("resumption = \"{kind}\"")).start()
}

fn tickets_and_cache_resume_with_the_whole_identity(driver: &str) {
    for (kind, how) in KINDS.into_iter().zip(["ticket", "cache"]) {
        let host = Host::new(&[HOST]).policy("main").forward("client_cert_chain = true");
        let builder = Gateway::builder().io(driver).workers(2).policy("main", POLICY).host(host);
        let gateway = builder.listener(&format!("resumption = \"{kind}\"")).start();
        let identity = gateway.root.intermediate("Issuing").issue(&Leaf::client("partner-b"));
        let client = gateway.client().identity(&identity).resuming();
        let mut certificates = Vec::new();
        for round in 0..6 {
            let mut connection = client.connect(gateway.edge).unwrap();
            let echo = Echo::of(&connection.get(&format!("/round/{round}")).unwrap());
            assert_eq!(connection.is_resumed(), round > 0, "{kind} {round}");
            // RFC 9149: a client that says nothing gets one.
            assert_eq!(connection.tickets_received(), 1, "{kind} {round}");
            let sent =
                ["client-cert", "client-cert-chain"].map(|name| echo.headers.get(name).unwrap().to_owned());
            certificates.push(sent);
        }
        certificates.dedup();
        assert_eq!(certificates.len(), 1, "the same certificates are passed on each time");
        gateway.wait_for_metric("ringward_handshakes_resumed_total", &[("how", how)], 5.0);
        let (full, resumed) =
            (gateway.wait_for_record("path", "/round/0"), gateway.wait_for_record("path", "/round/5"));
        assert_eq!((&full["rule"], &resumed["rule"]), (&"full".into(), &"resumed".into()), "{resumed}");
        assert_eq!((&full["tls.resumed"], &resumed["tls.resumed"]), (&().into(), &how.into()), "{resumed}");
        for member in ["peer.id", "peer.fingerprint", "peer.serial", "peer.not_after", "tls.auth_time"] {
            assert!(!full[member].is_null() && full[member] == resumed[member], "{member}: {full} {resumed}");
        }
    }
}

#[test]
fn no_session_is_given_where_resumption_is_off() {
    let gateway = gateway("off");
    let client = gateway.client().resuming();
    for _ in 0..3 {
        let mut connection = client.connect(gateway.edge).unwrap();
        assert_eq!(connection.get("/").unwrap().status, 200);
        assert!(!connection.is_resumed() && connection.tickets_received() == 0);
    }
}

/// A ticket is the client's to use as often as it likes; what is in the cache is used once.
#[test]
fn a_cached_session_is_used_once() {
    for (kind, again) in KINDS.into_iter().zip([true, false]) {
        let gateway = gateway(kind);
        let client = s_client(&gateway);
        let session = gateway.pki.path().join("a.session");
        client.clone().save(&session).get(HOST, "/");
        let client = client.offer(&session);
        for (round, resumed) in [true, again, again].into_iter().enumerate() {
            let run = client.get(HOST, "/");
            assert_eq!((run.status(), run.resumed()), (Some(200), resumed), "{kind} {round}: {}", run.text);
        }
    }
}

/// What was begun before a restart is opened after it only if the keys are in a file; then still nobody gets in by it who
/// would not get in without.
#[test]
fn sessions_of_an_earlier_process_lead_to_a_full_handshake() {
    for kind in KINDS {
        let mut gateway = gateway(kind);
        let (client, sessions) = with_sessions(&gateway.client(), gateway.edge, 1);
        gateway.kill_and_start_again();
        let mut connection = client.connect(gateway.edge).unwrap();
        assert_eq!(connection.get("/").unwrap().status, 200);
        assert!(!connection.is_resumed() && sessions.received() == 1, "{kind}");
    }
}

/// RFC 8446 §8 and ours: early data is replayed by whoever records it, and comes before we know who speaks.
#[test]
fn early_data_is_never_taken() {
    for kind in KINDS {
        let gateway = Gateway::builder()
            .host(Host::new(&[HOST]))
            .host(Host::new(&["open.example.com"]).client_auth("mode = \"off\""))
            .listener(&format!("resumption = \"{kind}\""))
            .start();
        for (client, host) in [(gateway.client(), HOST), (gateway.anonymous(), "open.example.com")] {
            let early = format!("GET /early HTTP/1.1\r\nhost: {host}\r\n\r\n");
            let client = client.server_name(host).resuming();
            client.connect(gateway.edge).unwrap().get("/").unwrap();
            let mut connection = client.early_data(early.as_bytes()).connect(gateway.edge).unwrap();
            assert_eq!(connection.get("/late").unwrap().status, 200);
            assert_eq!(connection.early_data_accepted(), Some(false), "{kind} {host}");

            let (session, file) = (gateway.pki.path().join("a.session"), gateway.pki.write("early", &early));
            let s_client = gateway.s_client(gateway.edge, host);
            let s_client = s_client.identity(&gateway.client_files("partner", &gateway.partner));
            s_client.clone().save(&session).get(host, "/");
            SClient::open_to_early_data(&session);
            let run = s_client.offer(&session).early_data(&file).get(host, "/late");
            assert_eq!(
                (run.early_data(), run.status()),
                (Some("rejected"), Some(200)),
                "{kind}: {}",
                run.text
            );
        }
        assert!(!gateway.has_reached("/early"), "{:?}", gateway.reached());
    }
}

/// After a HelloRetryRequest rustls chooses the session later than we look; what decides is looked at again.
#[test]
fn a_retried_handshake_resumes_nothing_that_must_not() {
    for kind in KINDS {
        let builder = Gateway::builder().stateful().listener(&format!("resumption = \"{kind}\""));
        let gateway = builder.start();
        let session = gateway.pki.path().join("a.session");
        // It brings a key share for the first group, which the gateway does not have.
        let client = s_client(&gateway).arguments(["-groups", "P-521:P-256"]);
        for revoked in [false, true] {
            client.clone().save(&session).get(HOST, "/before");
            if revoked {
                let file = gateway.client_files("partner", &gateway.partner).chain;
                gateway.ask(&["revoke", "--cert", file.to_str().unwrap(), "--reason", "test"]);
            }
            let run = client.clone().offer(&session).get(HOST, if revoked { "/after" } else { "/before" });
            assert_eq!(run.status(), if revoked { None } else { Some(200) }, "{kind}: {}", run.text);
        }
        assert!(!gateway.has_reached("/after"));
        assert_eq!(gateway.metric("ringward_worker_panics_total", &[]), 0.0);
    }
}

/// `max_auth_age` counts from the last full handshake: resuming again and again renews nothing, and a connection that stays
/// open ends with it too.
#[test]
fn resuming_does_not_make_a_proof_younger() {
    let host =
        Host::new(&[HOST]).client_auth("mode = \"required\", trust = \"partners\", max_auth_age = \"1m\"");
    let gateway = Gateway::builder().host(host).limits("idle_timeout = \"5m\"").start();
    let client = gateway.client().resuming();
    let session = gateway.pki.path().join("a.session");
    let stubborn = s_client(&gateway);
    stubborn.clone().save(&session).get(HOST, "/");
    SClient::keep_for_a_week(&session);
    assert!(stubborn.clone().offer(&session).get(HOST, "/").resumed());
    let started = Instant::now();
    let mut open = client.connect(gateway.edge).unwrap();
    assert_eq!(open.get("/").unwrap().status, 200);
    let limit = Duration::from_secs(60);
    let mut resumed = 0;
    let mut pause = started;
    // Each resumed connection brings the session for the next.
    eventually(limit + DEADLINE, "a session is declined", || {
        if pause.elapsed() < Duration::from_secs(3) {
            return false;
        }
        pause = Instant::now();
        let mut connection = client.connect(gateway.edge).unwrap();
        assert_eq!(connection.get("/").unwrap().status, 200);
        resumed += usize::from(connection.is_resumed());
        !connection.is_resumed()
    });
    assert!(started.elapsed() > limit - Duration::from_secs(2), "declined after {:?}", started.elapsed());
    assert!(resumed > 5, "{resumed} were resumed before that");
    // Ours tells clients how long a session is of use. One that does not listen gets a full handshake, too.
    let run = stubborn.offer(&session).get(HOST, "/");
    assert!(run.status() == Some(200) && !run.resumed(), "{}", run.text);
    gateway.wait_for_metric("ringward_resumptions_declined_total", &[("reason", "too_old")], 1.0);
    let (rest, closing) = open.wait_closed();
    assert!(rest.is_empty() && closing == Closing::Notified, "{closing:?}");
    gateway.wait_for_closed("auth_age", 1);
}

/// Cipher suites and groups are the listener's to choose.
#[test]
fn suites_and_groups_are_those_of_the_listener() {
    let tls = "tls = { cipher_suites = [\"TLS_AES_256_GCM_SHA384\"], groups = [\"secp384r1\", \"X25519MLKEM768\"] }";
    let gateway = Gateway::builder().another_listener("chosen").listener(tls).start();
    let other = s_client(&gateway);
    let client = gateway.s_client(gateway.listener("chosen"), HOST);
    let client = client.identity(&gateway.client_files("partner", &gateway.partner));
    let run = client.clone().arguments(["-groups", "P-384"]).get(HOST, "/");
    assert!(
        run.status() == Some(200) && run.text.contains("Cipher is TLS_AES_256_GCM_SHA384"),
        "{}",
        run.text
    );
    for refused in [["-groups", "P-256"], ["-groups", "X25519"], ["-ciphersuites", "TLS_AES_128_GCM_SHA256"]]
    {
        let run = client.clone().arguments(refused).get(HOST, "/");
        assert_eq!(run.status(), None, "{refused:?}: {}", run.text);
        let run = other.clone().arguments(refused).get(HOST, "/");
        assert_eq!(run.status(), Some(200), "{refused:?}: {}", run.text);
    }
}

fn s_client(gateway: &Gateway) -> SClient {
    gateway.s_client(gateway.edge, HOST).identity(&gateway.client_files("partner", &gateway.partner))
}

/// Whatever a ticket is made into, it opens nothing and breaks nothing: the handshake is a full one.
#[test]
fn tampered_tickets_lead_to_full_handshakes() {
    for kind in KINDS {
        let gateway = gateway(kind);
        let client = s_client(&gateway);
        let session = gateway.pki.path().join("a.session");
        client.clone().save(&session).get(HOST, "/");
        let ticket = SClient::ticket(&session);
        let mut forgeries: Vec<Vec<u8>> = (0..ticket.len())
            .step_by(ticket.len() / 12 + 1)
            .map(|at| {
                let mut forged = ticket.clone();
                forged[at] ^= 0x10;
                forged
            })
            .collect();
        forgeries.extend([
            ticket[..ticket.len() - 1].to_vec(),
            ticket[..9].to_vec(),
            vec![0],
            vec![0; 32],
            vec![7; 4000],
        ]);
        forgeries.push([&ticket[..], &[0]].concat());
        for forged in forgeries {
            SClient::replace_ticket(&session, &forged);
            let run = client.clone().offer(&session).get(HOST, "/");
            assert!(
                run.status() == Some(200) && !run.resumed(),
                "{kind}, {} bytes: {}",
                forged.len(),
                run.text
            );
        }
        SClient::replace_ticket(&session, &ticket);
        assert!(client.offer(&session).get(HOST, "/").resumed(), "{kind}: the true one");
        assert_eq!(gateway.metric("ringward_worker_panics_total", &[]), 0.0);
    }
}
