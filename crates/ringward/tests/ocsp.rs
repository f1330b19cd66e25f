//! OCSP of clients: whom the responder calls good is served, whom it calls revoked never, and silence means what the route says.
#![allow(clippy::unwrap_used, reason = "a failed expectation here is a failed test")]

mod support;

use std::net::TcpListener;
use std::time::{Duration, SystemTime};

use ringward_testkit::{
    Authority, Closing, Connection, Crl, DEADLINE, Gate, Issued, Leaf, OcspAnswer, OcspDatabase, OcspRefusal,
    Pki, RevocationReason, Script, Upstream, eventually,
};

use self::support::{Builder, Gateway, HOST, Host, publish};

/// Every kind of route on one host: `/hard` and `/soft` have the responder asked, `/off` does not.
fn gateway(root: &Authority, responder: &str) -> Gateway {
    builder(root, responder).start()
}

fn builder(root: &Authority, responder: &str) -> Builder {
    // As long as it may be, for responders that answer. Those that do not are waited for so long, too.
    with_patience(root, responder, "10s")
}

/// The same; the responder is waited for so long.
fn with_patience(root: &Authority, responder: &str, timeout: &str) -> Builder {
    let auth = format!("mode = \"required\", trust = \"partners\", ocsp_timeout = {timeout:?}");
    let route = |host: Host, mode: &str| {
        let path = format!("path = \"/{mode}/{{rest...}}\"");
        host.route(&path, &format!("id = \"{mode}\"\nocsp = \"{mode}\""))
    };
    let host =
        ["hard_fail", "soft_fail", "off"].into_iter().fold(Host::new(&[HOST]).client_auth(&auth), route);
    Gateway::builder().signed_by(root).workers(2).trust_key(responder).host(host)
}

fn status(gateway: &Gateway, identity: &Issued, target: &str) -> u16 {
    let mut connection = gateway.client().identity(identity).connect(gateway.edge).unwrap();
    connection.get(target).unwrap().status
}

/// The status on each kind of route: hard, soft, off.
fn statuses(gateway: &Gateway, identity: &Issued) -> [u16; 3] {
    ["/hard_fail/a", "/soft_fail/a", "/off/a"].map(|target| status(gateway, identity, target))
}

#[test]
fn what_the_responder_says_decides() {
    let (pki, root) = (Pki::new(), Authority::root("Test Root"));
    let database = OcspDatabase::new(&pki, "root", &root);
    let [good, revoked, unknown] = ["good", "revoked", "unknown"].map(|name| root.issue(&Leaf::client(name)));
    database.good(&good);
    database.revoked(&revoked, "keyCompromise");
    let responder = database.serve();
    let gateway = gateway(&root, &format!("ocsp_url = {:?}", responder.url()));
    for (identity, expected, outcome) in [
        (&good, [200, 200, 200], "good"),
        (&revoked, [403, 403, 200], "revoked"),
        (&unknown, [403, 200, 200], "unknown"),
    ] {
        assert_eq!(statuses(&gateway, identity), expected, "{outcome}");
        let asked = gateway.metric("ringward_ocsp_queries_finished_total", &[("outcome", outcome)]);
        assert!(asked >= 1.0, "{outcome}: {asked}");
    }
    assert_eq!(gateway.metric("ringward_ocsp_queries_finished_total", &[]), 3.0, "each is asked about once");
    let by =
        |responder: &str| gateway.metric("ringward_ocsp_queries_finished_total", &[("responder", responder)]);
    assert_eq!((by("127.0.0.1"), by("none")), (3.0, 0.0));
    // The unknown one, by soft_fail.
    gateway.wait_for_metric("ringward_ocsp_unchecked_requests_total", &[], 1.0);
    let record = gateway.wait_for_record("flag", "revocation_refused");
    assert_eq!((&record["status"], &record["peer.id"]), (&403.into(), &"CN=revoked".into()), "{record}");
    assert!(gateway.metric("ringward_revocation_refusals_total", &[("source", "ocsp")]) >= 2.0);
    // Also by sessions: that of the revoked client was begun where nobody asks.
    for (identity, expected) in [(&good, 200), (&revoked, 403)] {
        let client = gateway.client().identity(identity).resuming();
        client.connect(gateway.edge).unwrap().get("/off/a").unwrap();
        let mut connection = client.connect(gateway.edge).unwrap();
        assert_eq!(connection.get("/hard_fail/resumed").unwrap().status, expected);
        assert!(connection.is_resumed());
    }
    assert_eq!(gateway.reached().iter().filter(|target| *target == "/hard_fail/resumed").count(), 1);
    // The last answer serves on while nobody answers.
    responder.stop();
    assert_eq!(statuses(&gateway, &good), [200; 3]);
    assert_eq!(statuses(&gateway, &revoked), [403, 403, 200]);
}

/// A dead responder is noticed at once, a slow one after `ocsp_timeout`; and nobody else waits for it.
#[test]
fn silence_means_what_the_route_says() {
    let root = Authority::root("Test Root");
    let dead = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (slow, gate) = (Upstream::start(), Gate::new());
    slow.on("*", Script::new().read_body().wait(&gate));
    let client = root.issue(&Leaf::client("client"));
    for (what, address) in [("dead", dead), ("slow", slow.address())] {
        let gateway = with_patience(&root, &format!("ocsp_url = \"http://{address}/\""), "1s").start();
        let mut bystander = gateway.connect();
        assert_eq!(bystander.get("/off/a").unwrap().status, 200);
        for (target, expected) in [("/hard_fail/a", 403), ("/soft_fail/a", 200)] {
            let mut waiting = gateway.client().identity(&client).connect(gateway.edge).unwrap();
            let head = waiting.head("GET", target, &[]);
            waiting.send(&head).unwrap();
            // Both workers go on meanwhile.
            for _ in 0..20 {
                assert_eq!(bystander.get("/off/a").unwrap().status, 200);
                assert_eq!(status(&gateway, &gateway.partner, "/off/a"), 200);
            }
            assert_eq!(waiting.response().unwrap().status, expected, "{what} {target}");
        }
        assert!(!gateway.has_reached("/hard_fail"));
        gateway.wait_for_metric("ringward_ocsp_unchecked_requests_total", &[], 1.0);
        gateway.wait_for_metric("ringward_worker_panics_total", &[], 0.0);
    }
    gate.open();
}

/// It is the route that says how long its clients wait, not the responder: the question is still open when they are answered.
#[test]
fn a_request_waits_no_longer_than_its_route_says() {
    let (root, slow, gate) = (Authority::root("Test Root"), Upstream::start(), Gate::new());
    slow.on("*", Script::new().read_body().wait(&gate));
    let gateway = with_patience(&root, &format!("ocsp_url = \"http://{}/\"", slow.address()), "1s").start();
    assert_eq!(status(&gateway, &gateway.partner, "/hard_fail/a"), 403);
    assert_eq!(gateway.metric("ringward_ocsp_queries_finished_total", &[]), 0.0);
    gate.open();
}

/// Answers that are wrong in any way are none.
#[test]
fn wrong_answers_are_no_answers() {
    let (root, other) = (Authority::root("Test Root"), Authority::root("Test Root"));
    let server = Upstream::start();
    let leaf = root.issue(&Leaf::client("client"));
    let good = OcspAnswer::good(&leaf, &root);
    let mut flipped = good.signed_by_authority(&root);
    let last = flipped.len() - 4;
    flipped[last] ^= 1;
    for (what, answer) in [
        ("a foreign CA", good.signed_by_authority(&other)),
        ("a responder of a foreign CA", good.signed_by(&other.issue(&Leaf::ocsp_signer("OCSP")))),
        ("somebody who may not sign", good.signed_by(&root.issue(&Leaf::client("OCSP")))),
        ("an expired delegate", good.signed_by(&root.issue(&Leaf::ocsp_signer("OCSP").expired()))),
        ("a flipped bit", flipped),
        ("another serial number", good.clone().serial(&[1]).signed_by_authority(&root)),
        ("another issuer of the name", OcspAnswer::good(&leaf, &other).signed_by_authority(&root)),
        ("an old one", good.clone().stale().signed_by_authority(&root)),
        ("one of tomorrow", good.clone().from_the_future().signed_by_authority(&root)),
        (
            "an unknown critical extension",
            good.clone().extension("1.3.6.1.4.1.99999.1", true, &[5, 0]).signed_by_authority(&root),
        ),
        ("a refusal", OcspAnswer::refusal(OcspRefusal::TryLater)),
        ("noise", vec![0x30; 100]),
        ("nothing", Vec::new()),
        ("too much", vec![0x30; 200_000]),
    ] {
        server.on(
            "*",
            Script::new().read_body().respond_bytes(
                200,
                &[("content-type", "application/ocsp-response")],
                &answer,
            ),
        );
        let gateway = gateway(&root, &format!("ocsp_url = \"http://{}/\"", server.address()));
        assert_eq!(statuses(&gateway, &leaf), [403, 200, 200], "{what}");
        assert_eq!(
            gateway.metric("ringward_ocsp_queries_finished_total", &[("outcome", "good")]),
            0.0,
            "{what}"
        );
        assert!(!gateway.has_reached("/hard_fail"), "{what}");
    }
    for (what, answer) in [
        ("the CA", good.signed_by_authority(&root)),
        ("its delegate", good.signed_by(&root.issue(&Leaf::ocsp_signer("OCSP")))),
        (
            "without nextUpdate",
            good.without_next_update().this_update(SystemTime::now()).signed_by_authority(&root),
        ),
    ] {
        server.on(
            "*",
            Script::new().read_body().respond_bytes(
                200,
                &[("content-type", "application/ocsp-response")],
                &answer,
            ),
        );
        let gateway = gateway(&root, &format!("ocsp_url = \"http://{}/\"", server.address()));
        assert_eq!(statuses(&gateway, &leaf), [200; 3], "{what}");
    }
}

/// The CA has revoked its responder's certificate, in a list that is not fetched but lies in a file.
#[test]
fn a_delegate_that_a_list_revokes_is_not_believed() {
    let (root, server) = (Authority::root("Test Root"), Upstream::start());
    let delegate = root.issue(&Leaf::ocsp_signer("OCSP"));
    let client = || {
        let leaf = root.issue(&Leaf::client("client"));
        let good = OcspAnswer::good(&leaf, &root).signed_by(&delegate);
        server.on("*", Script::new().read_body().respond_bytes(200, &[], &good));
        leaf
    };
    let builder = builder(&root, &format!("ocsp_url = \"http://{}/\"", server.address()));
    let builder = builder.stateful().trust_key("crl = [\"crl/\"]");
    publish(builder.pki(), "root", &root, &Crl::new().number(1));
    let gateway = builder.start();
    assert_eq!(statuses(&gateway, &client()), [200; 3]);
    let crl = Crl::new().number(2).revoke_for(delegate.serial(), RevocationReason::KeyCompromise);
    gateway.change(|gateway| drop(publish(&gateway.pki, "root", &root, &crl)));
    assert_eq!(statuses(&gateway, &client()), [403, 200, 200]);
}

/// A certificate that is revoked later: the next answer ends what the last one had let in.
#[test]
fn a_later_revocation_reaches_open_connections() {
    let (root, server) = (Authority::root("Test Root"), Upstream::start());
    let leaf = root.issue(&Leaf::client("client"));
    let answer = |answer: OcspAnswer| {
        let script = Script::new().read_body().respond_bytes(200, &[], &answer.signed_by_authority(&root));
        server.on("*", script);
    };
    let gateway = gateway(&root, &format!("ocsp_url = \"http://{}/\"", server.address()));
    let now = SystemTime::now();
    answer(OcspAnswer::good(&leaf, &root).this_update(now).next_update(now + Duration::from_secs(8)));
    let mut open = gateway.client().identity(&leaf).connect(gateway.edge).unwrap();
    assert_eq!(open.get("/hard_fail/before").unwrap().status, 200);
    let revoked = OcspAnswer::revoked(&leaf, &root, RevocationReason::KeyCompromise);
    answer(revoked.this_update(now).next_update(now + Duration::from_secs(3600)));
    let resuming = gateway.client().identity(&leaf).resuming();
    resuming.connect(gateway.edge).unwrap().get("/off/before").unwrap();
    eventually(2 * DEADLINE, "the next answer counts", || {
        !open.get("/hard_fail/before").is_ok_and(|response| response.status == 200)
    });
    let reached = gateway.reached().len();
    for client in [resuming, gateway.client().identity(&leaf)] {
        let answer =
            client.connect(gateway.edge).and_then(|mut connection| connection.get("/hard_fail/after"));
        assert!(answer.as_ref().map_or(true, |response| response.status == 403), "{answer:?}");
    }
    assert_eq!(gateway.reached().len(), reached);
    // Nor is it forgotten when nobody answers any more.
    drop(server);
    assert_eq!(statuses(&gateway, &leaf)[0], 403);
}

/// Looks at bodies, so that they are read before the decision.
const BODY_POLICY: &str = r#"package ringward.authz

default decision := false

decision := true if input.request.body.text == "hello"
"#;

/// A request whose body of five bytes is waited for.
fn begin_body(gateway: &Gateway, identity: &Issued, target: &str) -> Connection {
    let mut connection = gateway.client().identity(identity).connect(gateway.edge).unwrap();
    let head = connection.head("POST", target, &[("expect", "100-continue"), ("content-length", "5")]);
    connection.send(&head).unwrap();
    // Once it is told to go on, its body is being read.
    connection.tcp().peek(&mut [0]).unwrap();
    connection
}

/// The client chooses how long its body takes. An answer that is no longer "good" makes no snapshot, and counts all the same.
#[test]
fn what_the_responder_says_while_a_body_arrives_decides() {
    let (root, server) = (Authority::root("Test Root"), Upstream::start());
    let leaf = root.issue(&Leaf::client("client"));
    let answer = |answer: OcspAnswer| {
        let script = Script::new().read_body().respond_bytes(200, &[], &answer.signed_by_authority(&root));
        server.on("*", script);
    };
    let auth = "mode = \"required\", trust = \"partners\", ocsp_timeout = \"10s\"";
    let host = Host::new(&[HOST])
        .client_auth(auth)
        .policy("main")
        .route("path = \"/{rest...}\"", "id = \"hard\"\nocsp = \"hard_fail\"\npolicy_body_max = \"1KiB\"");
    let gateway = Gateway::builder()
        .signed_by(&root)
        .trust_key(&format!("ocsp_url = \"http://{}/\"", server.address()))
        .policy("main", BODY_POLICY)
        .listener("resumption = \"off\"")
        .host(host)
        .start();
    let now = SystemTime::now();
    let later = now + Duration::from_secs(3600);
    answer(OcspAnswer::good(&leaf, &root).this_update(now).next_update(now + Duration::from_secs(8)));
    let mut early = begin_body(&gateway, &leaf, "/early");
    let mut late = begin_body(&gateway, &leaf, "/late");
    early.send(b"hello").unwrap();
    assert_eq!(early.response().unwrap().status, 200);
    answer(OcspAnswer::unknown(&leaf, &root).this_update(now).next_update(later));
    eventually(2 * DEADLINE, "the next answer counts", || {
        // The policy denies it, until the responder's word comes first.
        status(&gateway, &leaf, "/probe");
        let mut records = gateway.lines("request").into_iter();
        records.any(|record| record["path"] == "/probe" && record["flag"] == "revocation_refused")
    });
    late.send(b"hello").unwrap();
    assert_eq!(late.response().unwrap().status, 403);
    let refused = gateway.wait_for_record("path", "/late");
    assert_eq!(refused["flag"], "revocation_refused", "{refused}");
    assert_eq!(gateway.reached(), ["/early"]);
}

/// Silence is waited for once, and a word that comes after it counts.
#[test]
fn silence_and_then_a_word_while_a_body_arrives() {
    let (root, server, gate) = (Authority::root("Test Root"), Upstream::start(), Gate::new());
    let leaf = root.issue(&Leaf::client("client"));
    let auth = "mode = \"required\", trust = \"partners\", ocsp_timeout = \"200ms\"";
    let host = Host::new(&[HOST])
        .client_auth(auth)
        .policy("main")
        .route("path = \"/{rest...}\"", "id = \"soft\"\nocsp = \"soft_fail\"\npolicy_body_max = \"1KiB\"");
    let gateway = Gateway::builder()
        .signed_by(&root)
        .trust_key(&format!("ocsp_url = \"http://{}/\"", server.address()))
        .policy("main", BODY_POLICY)
        .listener("resumption = \"off\"")
        .host(host)
        .start();
    // The responder stays silent until the route has taken the client without its word.
    let revoked = OcspAnswer::revoked(&leaf, &root, RevocationReason::KeyCompromise);
    let answer = revoked.signed_by_authority(&root);
    server.on("*", Script::new().read_body().wait(&gate).respond_bytes(200, &[], &answer));
    let mut early = begin_body(&gateway, &leaf, "/early");
    let mut late = begin_body(&gateway, &leaf, "/late");
    early.send(b"hello").unwrap();
    assert_eq!(early.response().unwrap().status, 200, "silence is not waited for again");
    gate.open();
    gateway.wait_for_metric("ringward_ocsp_queries_finished_total", &[("outcome", "revoked")], 1.0);
    late.send(b"hello").unwrap();
    assert_eq!(late.response().unwrap().status, 403);
    assert_eq!(gateway.reached(), ["/early"]);
    assert_eq!(gateway.wait_for_record("flag", "revocation_refused")["status"], 403);
    gateway.wait_for_metric("ringward_ocsp_unchecked_requests_total", &[], 2.0);
}

/// Where the whole host has responders asked, "revoked" ends connections that ask for nothing; that nothing is known of a
/// client ends none, since routes may take it.
#[test]
fn idle_connections_end_for_what_the_responder_says() {
    let (pki, root) = (Pki::new(), Authority::root("Test Root"));
    let database = OcspDatabase::new(&pki, "root", &root);
    let [revoked, unknown] = ["revoked", "unknown"].map(|name| root.issue(&Leaf::client(name)));
    database.revoked(&revoked, "keyCompromise");
    let responder = database.serve();
    let auth = "mode = \"required\", trust = \"partners\", ocsp = \"hard_fail\"";
    let host = Host::new(&[HOST])
        .client_auth(auth)
        .route("path = \"/hard_fail\"", "id = \"hard_fail\"")
        .route("path = \"/off\"", "id = \"off\"\nocsp = \"off\"");
    let gateway = Gateway::builder()
        .signed_by(&root)
        .trust_key(&format!("ocsp_url = {:?}", responder.url()))
        .host(host)
        .start();
    let idle = |identity: &Issued| {
        let mut connection = gateway.client().identity(identity).connect(gateway.edge).unwrap();
        assert_eq!(connection.get("/off").unwrap().status, 200);
        connection
    };
    let (mut ending, mut kept) = (idle(&revoked), idle(&unknown));
    for identity in [&revoked, &unknown] {
        assert_eq!(status(&gateway, identity, "/hard_fail"), 403);
    }
    assert_eq!(ending.wait_closed(), (Vec::new(), Closing::Notified));
    gateway.reconfigure("id = \"off\"", "id = \"still_off\"");
    assert_eq!(kept.get("/off").unwrap().status, 200);
}

/// As long as somebody is connected whose route asks, an answer is sought anew in time, and nobody waits for it.
#[test]
fn answers_about_who_is_connected_are_renewed() {
    let (root, server) = (Authority::root("Test Root"), Upstream::start());
    let leaf = root.issue(&Leaf::client("client"));
    server.on("*", Script::new().read_body().respond_bytes(500, &[], b""));
    let gateway = gateway(&root, &format!("ocsp_url = \"http://{}/\"", server.address()));
    let mut open = gateway.client().identity(&leaf).connect(gateway.edge).unwrap();
    assert_eq!(open.get("/soft_fail/a").unwrap().status, 200);
    let good = OcspAnswer::good(&leaf, &root).signed_by_authority(&root);
    server.on("*", Script::new().read_body().respond_bytes(200, &[], &good));
    // A failure is remembered for half a minute.
    eventually(3 * DEADLINE, "the responder is asked again", || {
        gateway.metric("ringward_ocsp_queries_finished_total", &[("outcome", "good")]) == 1.0
    });
    assert_eq!(open.get("/hard_fail/a").unwrap().status, 200);
}

/// Certificates name their responder themselves; asked are only those that the operator has named.
#[test]
fn responders_that_certificates_name_are_asked_if_they_are_allowed() {
    let (pki, root) = (Pki::new(), Authority::root("Test Root"));
    let database = OcspDatabase::new(&pki, "root", &root);
    let responder = database.serve();
    let gateway = gateway(&root, "ocsp_hosts = [\"127.0.0.1\"]");
    let allowed = root.issue(&Leaf::client("allowed").ocsp_url(&responder.url()));
    database.good(&allowed);
    assert_eq!(statuses(&gateway, &allowed), [200; 3]);
    let elsewhere = responder.url().replace("127.0.0.1", "127.0.0.2");
    let refused = root.issue(&Leaf::client("refused").ocsp_url(&elsewhere));
    database.good(&refused);
    assert_eq!(statuses(&gateway, &refused), [403, 200, 200]);
    let silent = root.issue(&Leaf::client("names none"));
    database.good(&silent);
    assert_eq!(statuses(&gateway, &silent), [403, 200, 200]);
    assert_eq!(gateway.metric("ringward_ocsp_queries_finished_total", &[("outcome", "good")]), 1.0);
}
