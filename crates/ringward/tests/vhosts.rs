//! Virtual hosts: who answers which name, and that a lax one opens no strict one.
//!
//! The client was checked by the rules of the host that the ClientHello named (or of the default host). What these tests guard
//! is that no request gets further than that check reaches. The comment of each names the rule whose removal it notices.
#![allow(clippy::unwrap_used, reason = "a failed expectation here is a failed test")]

mod support;

use std::io::{Read, Write};

use ringward_testkit::{Authority, Client, ClientError, Echo, Leaf, Response};
use rustls::AlertDescription;

use self::support::{Builder, Gateway, Host, client_hello, connect_tcp, on_both_drivers, with_sessions};

on_both_drivers!(an_open_host_does_not_open_a_protected_one, absent_and_unknown_server_names_are_refused);

const OPEN: &str = "open.example.com";
const OPTIONAL: &str = "optional.example.com";
const STRICT: &str = "strict.example.com";
const TWIN: &str = "twin.example.com";
const OTHER: &str = "other.example.com";
const SHORT: &str = "short.example.com";
const NO_EKU: &str = "no-eku.example.com";
const WILD: &str = "*.wild.example.com";

/// Hosts of every strictness on one listener.
fn hosts() -> Builder {
    Gateway::builder()
        .trust("others", &[&Authority::root("Other Root")])
        .host(Host::new(&[OPEN]).client_auth("mode = \"off\""))
        .host(Host::new(&[OPTIONAL]).client_auth("mode = \"optional\", trust = \"partners\""))
        .host(Host::new(&[STRICT]))
        .host(Host::new(&[TWIN]))
        .host(Host::new(&[OTHER]).client_auth("mode = \"required\", trust = \"others\""))
        .host(
            Host::new(&[SHORT])
                .client_auth("mode = \"required\", trust = \"partners\", intermediates_max = 0"),
        )
        .host(
            Host::new(&[NO_EKU])
                .client_auth("mode = \"required\", trust = \"partners\", require_eku = false"),
        )
        .host(Host::new(&[WILD]))
}

/// A connection whose ClientHello names `server_name`, and a request for `host` on it.
#[track_caller]
fn ask(gateway: &Gateway, client: &Client, server_name: &str, host: &str) -> Response {
    let mut connection = client.clone().server_name(server_name).connect(gateway.edge).unwrap();
    connection.request("GET", "/", &[("host", host)], b"").unwrap()
}

/// Rule: the client-authentication policy of the `Host`'s virtual host must equal that of the SNI's (RFC 9110 §7.4), else 421.
fn an_open_host_does_not_open_a_protected_one(driver: &str) {
    let gateway = hosts().io(driver).start();
    let response = ask(&gateway, &gateway.anonymous(), OPEN, STRICT);
    assert_eq!((response.status, response.text()), (421, "misdirected request\n"));
    gateway.wait_for_metric("ringward_requests_misdirected_total", &[("listener", "edge")], 1.0);
    let record = gateway.wait_for_record("flag", "misdirected");
    assert_eq!((&record["host"], &record["tls.server_name"]), (&STRICT.into(), &OPEN.into()), "{record}");
    assert_eq!(gateway.upstream.connections_accepted(), 0);
}

/// Rule: *equal*, not "at least as strict": every difference counts, in either direction.
#[test]
fn hosts_that_check_clients_differently_do_not_share_connections() {
    let gateway = hosts().start();
    let (client, anonymous) = (gateway.client(), gateway.anonymous());
    for (client, server_name, host) in [
        (&anonymous, OPEN, OPTIONAL),
        (&anonymous, OPTIONAL, STRICT),
        (&client, OPTIONAL, STRICT),
        (&client, STRICT, OPTIONAL),
        (&client, STRICT, OPEN),
        // Other trust bundle, same mode.
        (&client, STRICT, OTHER),
        // Fewer intermediates, or a laxer look at the extended key usage.
        (&client, STRICT, SHORT),
        (&client, SHORT, STRICT),
        (&client, NO_EKU, STRICT),
        (&client, STRICT, NO_EKU),
    ] {
        let response = ask(&gateway, client, server_name, host);
        assert_eq!(response.status, 421, "handshake for {server_name}, request for {host}");
    }
    gateway.wait_for_metric("ringward_requests_misdirected_total", &[], 10.0);
    assert_eq!(gateway.upstream.connections_accepted(), 0);
}

/// Rule: an equal policy is enough; clients coalesce connections where the certificate allows it.
#[test]
fn hosts_that_check_clients_alike_share_connections() {
    let gateway = hosts().start();
    for host in [STRICT, TWIN, "a.wild.example.com"] {
        let response = ask(&gateway, &gateway.client(), STRICT, host);
        assert_eq!(response.status, 200, "{host}");
        assert_eq!(Echo::of(&response).headers.get("host"), Some(host));
    }
    assert_eq!(ask(&gateway, &gateway.client(), "a.wild.example.com", TWIN).status, 200);
}

/// Rule: 421 concerns a request, not the connection; what follows on it is judged by itself.
#[test]
fn a_misdirected_request_leaves_the_connection_usable() {
    let gateway = hosts().start();
    let mut connection = gateway.anonymous().server_name(OPEN).connect(gateway.edge).unwrap();
    for _ in 0..3 {
        assert_eq!(connection.request("GET", "/", &[("host", STRICT)], b"").unwrap().status, 421);
        assert_eq!(connection.request("GET", "/", &[("host", OPEN)], b"").unwrap().status, 200);
    }
    assert_eq!(gateway.upstream.requests().len(), 3);
}

/// Rule: names are normalised by one function for SNI, `Host` and the target of a request alike; no spelling gets around it.
#[test]
fn no_spelling_of_a_protected_host_gets_around_the_check() {
    let gateway = hosts().start();
    let mut connection = gateway.anonymous().server_name(OPEN).connect(gateway.edge).unwrap();
    for host in [
        "STRICT.example.com",
        "strict.example.com.",
        "Strict.Example.COM.:8443",
        "strict.example.com:443",
        "a.wild.example.com",
        "A.WILD.example.com.",
    ] {
        let response = connection.request("GET", "/", &[("host", host)], b"").unwrap();
        assert_eq!(response.status, 421, "{host}");
    }
    // The target of a request in absolute form is a name as well.
    let absolute = format!("GET https://{STRICT}/ HTTP/1.1\r\nhost: {STRICT}\r\n\r\n");
    connection.send(absolute.as_bytes()).unwrap();
    assert_eq!(connection.response().unwrap().status, 421);
    for (target, host) in [(STRICT, OPEN), (OPEN, STRICT)] {
        let mut connection = gateway.anonymous().server_name(OPEN).connect(gateway.edge).unwrap();
        connection
            .send(format!("GET https://{target}/ HTTP/1.1\r\nhost: {host}\r\n\r\n").as_bytes())
            .unwrap();
        assert_eq!(connection.response().unwrap().status, 400, "{target} and {host} disagree");
    }
    assert_eq!(gateway.upstream.connections_accepted(), 0);
}

/// Rule: letter case, one trailing dot and the port do not make another name.
#[test]
fn spellings_of_a_name_are_one_name() {
    let gateway = hosts().start();
    for server_name in [STRICT, "STRICT.Example.com"] {
        for host in [
            STRICT,
            "Strict.EXAMPLE.com",
            "strict.example.com.",
            "strict.example.com:1",
            "strict.example.com.:8443",
        ] {
            assert_eq!(
                ask(&gateway, &gateway.client(), server_name, host).status,
                200,
                "{server_name}, {host}"
            );
        }
    }
    // What goes upstream is the authority as it is compared, with the port that the client asked for.
    let echo = Echo::of(&ask(&gateway, &gateway.client(), STRICT, "Strict.EXAMPLE.com.:8443"));
    assert_eq!(echo.headers.get("host"), Some("strict.example.com:8443"));
}

/// Rule: a trailing dot in SNI is no other name either. Clients usually remove it, so this ClientHello is made by hand.
#[test]
fn a_trailing_dot_in_the_server_name_is_ignored() {
    let gateway = hosts().start();
    for (sent, known) in
        [("strict.example.com.", true), ("STRICT.example.com.", true), ("strict.example.com..", false)]
    {
        let mut hello = client_hello(&"x".repeat(sent.len()));
        let at =
            hello.windows(sent.len()).position(|bytes| bytes == "x".repeat(sent.len()).as_bytes()).unwrap();
        hello[at..at + sent.len()].copy_from_slice(sent.as_bytes());
        let mut stream = connect_tcp(gateway.edge);
        stream.write_all(&hello).unwrap();
        let mut content_type = [0];
        stream.read_exact(&mut content_type).unwrap();
        // RFC 8446 §5.1: 22 is a handshake message, the ServerHello; 21 an alert.
        assert_eq!(content_type[0], if known { 22 } else { 21 }, "{sent}");
    }
}

/// Rule: `*` stands for exactly one label, in SNI and in `Host`.
#[test]
fn a_wildcard_is_one_label() {
    let gateway = hosts().start();
    let client = gateway.client();
    for name in ["a.wild.example.com", "B-2.Wild.Example.Com"] {
        assert_eq!(ask(&gateway, &client, name, name).status, 200, "{name}");
    }
    for name in ["wild.example.com", "a.b.wild.example.com", "awild.example.com", "x.example.com"] {
        let refusal = client.clone().server_name(name).refusal(gateway.edge);
        assert_eq!(refusal.alert(), Some(AlertDescription::UnrecognisedName), "{name}: {refusal}");
        assert_eq!(ask(&gateway, &client, "a.wild.example.com", name).status, 421, "{name}");
    }
}

/// Rule: without a default host, an absent or unknown server name ends the handshake; nobody is guessed.
fn absent_and_unknown_server_names_are_refused(driver: &str) {
    let gateway = hosts().io(driver).start();
    for client in [gateway.client(), gateway.anonymous()] {
        let refusal = client.clone().server_name("unknown.example.com").refusal(gateway.edge);
        assert_eq!(refusal.alert(), Some(AlertDescription::UnrecognisedName), "{refusal}");
        let refusal = client.clone().server_name(STRICT).without_sni().refusal(gateway.edge);
        assert_eq!(refusal.alert(), Some(AlertDescription::MissingExtension), "{refusal}");
        // RFC 6066 §3: an address is no server name.
        let refusal = client.server_name("127.0.0.1").refusal(gateway.edge);
        assert_eq!(refusal.alert(), Some(AlertDescription::MissingExtension), "{refusal}");
    }
    gateway.wait_for_failed_handshakes("unknown_server_name", 2);
    gateway.wait_for_failed_handshakes("missing_server_name", 4);
}

/// Rule: a `Host` that nobody is named after is not answered by whoever happened to do the handshake.
#[test]
fn an_unknown_host_is_misdirected() {
    let gateway = hosts().start();
    for (server_name, client) in [(OPEN, gateway.anonymous()), (STRICT, gateway.client())] {
        for host in ["unknown.example.com", "localhost", "127.0.0.1", "[::1]", "com"] {
            assert_eq!(ask(&gateway, &client, server_name, host).status, 421, "{server_name}, {host}");
        }
    }
    gateway.wait_for_metric("ringward_responses_generated_total", &[("flag", "unknown_host")], 10.0);
    // A client of HTTP/1.0 may leave the field out, and then asks for nobody.
    let mut connection = gateway.anonymous().server_name(OPEN).connect(gateway.edge).unwrap();
    connection.send(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    assert_eq!(connection.response().unwrap().status, 421);
    assert_eq!(gateway.upstream.connections_accepted(), 0);
}

/// Rule: the default host answers absent and unknown server names with its own checks, which are the strictest.
#[test]
fn the_default_host_answers_absent_and_unknown_server_names_by_its_own_rules() {
    let gateway = Gateway::builder()
        .listener(&format!("default_host = \"{STRICT}\""))
        .host(Host::new(&[OPEN]).client_auth("mode = \"off\""))
        .host(Host::new(&[STRICT]))
        .start();
    let strict = gateway.client().server_name(STRICT);
    let unknown = gateway.client().server_name("unknown.example.com").accept_any_server();
    for client in [strict.clone().without_sni(), unknown.clone()] {
        let connection = client.connect(gateway.edge).unwrap();
        assert_eq!(connection.server_chain()[0], *gateway.certificates[1].leaf());
        let refusal = client.anonymous().refusal(gateway.edge);
        assert_eq!(refusal.alert(), Some(AlertDescription::CertificateRequired), "{refusal}");
    }
    // On such a connection the open host is another one, and an unknown `Host` is the default host's.
    for (host, status) in [(STRICT, 200), ("unknown.example.com", 200), ("127.0.0.1", 200), (OPEN, 421)] {
        let mut connection = unknown.connect(gateway.edge).unwrap();
        assert_eq!(connection.request("GET", "/", &[("host", host)], b"").unwrap().status, status, "{host}");
    }
    // From the open host there is no way to the default one, by name or by an unknown name.
    for host in [STRICT, "unknown.example.com", "127.0.0.1"] {
        assert_eq!(ask(&gateway, &gateway.anonymous(), OPEN, host).status, 421, "{host}");
    }
}

/// Rule: each host shows its own certificate and asks for its own.
#[test]
fn the_server_name_chooses_certificate_and_checks() {
    let others = Authority::root("Other Root");
    let gateway = Gateway::builder()
        .trust("others", &[&others])
        .host(Host::new(&[STRICT]))
        .host(Host::new(&[OTHER]).client_auth("mode = \"required\", trust = \"others\""))
        .start();
    let stranger = others.issue(&Leaf::client("other"));
    for (index, (name, identity)) in [(STRICT, &gateway.partner), (OTHER, &stranger)].into_iter().enumerate()
    {
        let mut connection =
            gateway.client().identity(identity).server_name(name).connect(gateway.edge).unwrap();
        assert_eq!(connection.server_chain()[0], *gateway.certificates[index].leaf());
        assert_eq!(connection.get("/").unwrap().status, 200);
    }
    for (name, identity) in [(STRICT, &stranger), (OTHER, &gateway.partner)] {
        let refusal = gateway.client().identity(identity).server_name(name).refusal(gateway.edge);
        assert!(matches!(refusal, ClientError::Tls(_)), "{refusal}");
    }
    gateway.wait_for_failed_handshakes("unknown_issuer", 2);
}

/// Rule: a resumed connection is bound to its host by the same check as any other, and its session to the name that it is of,
/// by whatever spelling.
#[test]
fn resumed_connections_are_no_way_to_another_host() {
    for kind in ["tickets", "cache"] {
        let gateway = hosts().listener(&format!("resumption = \"{kind}\"")).start();
        let anonymous = gateway.anonymous().server_name(OPEN);
        let (resuming, _) = with_sessions(&anonymous, gateway.edge, 8);
        for host in [
            STRICT,
            OTHER,
            "STRICT.example.com.",
            "strict.example.com:8443",
            "a.wild.example.com",
            "unknown.example.com",
        ] {
            let mut connection = resuming.connect(gateway.edge).unwrap();
            let response = connection.request("GET", "/after", &[("host", host)], b"").unwrap();
            assert!(connection.is_resumed() && response.status == 421, "{kind} {host}: {}", response.status);
            // And the connection goes on to its own.
            assert_eq!(connection.request("GET", "/", &[("host", OPEN)], b"").unwrap().status, 200);
        }
        // Offered to the other name itself, the session is of no use.
        for name in [STRICT, OTHER, "a.wild.example.com"] {
            let refusal = resuming.clone().server_name(name).refusal(gateway.edge);
            assert_eq!(
                refusal.alert(),
                Some(AlertDescription::CertificateRequired),
                "{kind} {name}: {refusal}"
            );
        }
        let refusal = resuming.clone().server_name("unknown.example.com").refusal(gateway.edge);
        assert_eq!(refusal.alert(), Some(AlertDescription::UnrecognisedName), "{kind}: {refusal}");
        // Twins check clients alike, and may share connections; sessions they share not.
        let (resuming, _) = with_sessions(&gateway.client().server_name(STRICT), gateway.edge, 2);
        let mut connection = resuming.connect(gateway.edge).unwrap();
        let response = connection.request("GET", "/", &[("host", TWIN)], b"").unwrap();
        assert!(connection.is_resumed() && response.status == 200, "{kind}");
        let mut twin = resuming.clone().server_name(TWIN).connect(gateway.edge).unwrap();
        assert!(!twin.is_resumed() && twin.get("/").is_ok(), "{kind}");
        assert!(gateway.reached().iter().all(|target| target != "/after"));
    }
}

/// Rule: the default host gives absent and unknown names its own sessions, and takes none of another's.
#[test]
fn sessions_of_the_default_host_are_its_own() {
    let gateway = Gateway::builder()
        .listener(&format!("default_host = \"{STRICT}\""))
        .host(Host::new(&[OPEN]).client_auth("mode = \"off\""))
        .host(Host::new(&[STRICT]))
        .start();
    let anonymous = gateway.anonymous().server_name(OPEN).accept_any_server();
    let (stolen, _) = with_sessions(&anonymous, gateway.edge, 3);
    for client in [stolen.clone().server_name("unknown.example.com"), stolen.clone().without_sni()] {
        let refusal = client.refusal(gateway.edge);
        assert_eq!(refusal.alert(), Some(AlertDescription::CertificateRequired), "{refusal}");
    }
    let unknown = gateway.client().server_name("unknown.example.com").accept_any_server().resuming();
    for resumed in [false, true] {
        let mut connection = unknown.connect(gateway.edge).unwrap();
        assert_eq!(connection.request("GET", "/", &[("host", STRICT)], b"").unwrap().status, 200);
        assert_eq!(connection.is_resumed(), resumed);
        assert_eq!(connection.request("GET", "/after", &[("host", OPEN)], b"").unwrap().status, 421);
    }
    assert!(!gateway.has_reached("/after"));
}
