//! Who the upstream is told is calling: from the verified certificate, and from nothing that anybody else can write.
#![allow(clippy::unwrap_used, reason = "a failed expectation here is a failed test")]

mod support;

use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ringward_testkit::{Connection, DEADLINE, Echo, Headers, Leaf, eventually, sha256_hex};

use self::support::{Gateway, HOST, Host, on_both_drivers};

on_both_drivers!(client_cert_is_the_der_of_the_leaf, what_looks_like_identity_is_stripped_and_counted);

const STRIPPED: &str = "ringward_identity_headers_stripped_total";

/// What the upstream received for a GET with these fields.
fn echo(connection: &mut Connection, fields: &[(&str, &str)]) -> Headers {
    Echo::of(&connection.request("GET", "/echo", fields, b"").unwrap()).headers
}

/// RFC 9440 §2.1: a byte sequence.
fn item(der: &[u8]) -> String {
    format!(":{}:", STANDARD.encode(der))
}

fn client_cert_is_the_der_of_the_leaf(driver: &str) {
    let gateway = Gateway::builder().io(driver).start();
    let headers = echo(&mut gateway.connect(), &[]);
    assert_eq!(headers.get("client-cert"), Some(&*item(gateway.partner.leaf())));
    assert!(!headers.contains("client-cert-chain") && !headers.contains("x-forwarded-client-cert"));
}

#[test]
fn each_client_is_named_by_its_own_certificate_although_they_share_the_upstreams_connection() {
    let gateway = Gateway::start();
    let other = gateway.root.issue(&Leaf::client("partner-b"));
    let mut connections = [
        (gateway.connect(), &gateway.partner),
        (gateway.client().identity(&other).connect(gateway.edge).unwrap(), &other),
    ];
    for _ in 0..3 {
        for (connection, identity) in &mut connections {
            assert_eq!(echo(connection, &[]).get("client-cert"), Some(&*item(identity.leaf())));
        }
    }
    assert_eq!(gateway.upstream.connections_accepted(), 1);
}

#[test]
fn the_chain_is_forwarded_on_request_without_the_leaf() {
    let gateway = Gateway::builder().host(Host::new(&[HOST]).forward("client_cert_chain = true")).start();
    let identity =
        gateway.root.intermediate("Issuing A").intermediate("Issuing B").issue(&Leaf::client("deep"));
    let headers = echo(&mut gateway.client().identity(&identity).connect(gateway.edge).unwrap(), &[]);
    let chain: Vec<_> = identity.chain()[1..].iter().map(|certificate| item(certificate)).collect();
    assert_eq!(chain.len(), 2);
    assert_eq!(headers.get("client-cert-chain"), Some(&*chain.join(", ")));
    assert_eq!(headers.get("client-cert"), Some(&*item(identity.leaf())));

    let headers = echo(&mut gateway.connect(), &[("client-cert-chain", ":AAAA:")]);
    assert!(!headers.contains("client-cert-chain"), "there is none beside the leaf");
}

#[test]
fn envoys_header_is_set_on_request() {
    let forward = "client_cert = false, xfcc = \"set\"";
    let gateway = Gateway::builder().host(Host::new(&[HOST]).forward(forward)).start();
    let leaf = Leaf::client("partner \"x\", OU=forged")
        .organization("A;B")
        .spiffe("spiffe://example.org/a")
        .dns("a.example");
    let identity = gateway.root.issue(&leaf);
    let headers = echo(
        &mut gateway.client().identity(&identity).connect(gateway.edge).unwrap(),
        &[("client-cert", ":AAAA:")],
    );
    let xfcc = headers.get("x-forwarded-client-cert").unwrap();
    assert!(xfcc.starts_with(&format!("Hash={};Subject=\"", sha256_hex(identity.leaf()))), "{xfcc}");
    assert!(xfcc.ends_with("\";URI=spiffe://example.org/a;DNS=a.example"), "{xfcc}");
    // Nothing of the subject may end the value that it stands in.
    let subject = xfcc.split("Subject=\"").nth(1).and_then(|rest| rest.split("\";URI=").next()).unwrap();
    assert!(!subject.contains('"') && !subject.contains("\\\\"), "{subject}");
    assert!(!headers.contains("client-cert"), "switched off, and not the client's to write either");
}

fn what_looks_like_identity_is_stripped_and_counted(driver: &str) {
    let optional = "mode = \"optional\", trust = \"partners\"";
    let gateway = Gateway::builder().io(driver).host(Host::new(&[HOST]).client_auth(optional)).start();
    let spoofs = [
        "client-cert",
        "Client-Cert",
        "CLIENT-CERT",
        "client_cert",
        "Client_Cert",
        "client.cert",
        "Client-Cert-Chain",
        "client_cert-chain",
        "X-Forwarded-Client-Cert",
        "x_forwarded_client_cert",
        // Under these names other proxies do it, and an upstream that was moved here may still believe them.
        "X-SSL-Client-Cert",
        "X_SSL_Client_S_DN",
        "X-Client-Cert",
        "X-Forwarded-Tls-Client-Cert",
        "X-Amzn-Mtls-Clientcert",
        "SSL_CLIENT_VERIFY",
    ];
    let fields: Vec<(&str, &str)> = spoofs.iter().map(|name| (*name, ":c3Bvb2Y=:")).collect();
    for (client, own) in [(gateway.client(), 1), (gateway.anonymous(), 0)] {
        let headers = echo(&mut client.connect(gateway.edge).unwrap(), &fields);
        let left: Vec<_> = headers
            .iter()
            .filter(|(name, value)| value.contains("c3Bvb2Y") || name.contains("cert"))
            .collect();
        assert_eq!(left.len(), own, "{left:?}");
        assert_eq!(headers.all("client-cert").len(), own);
    }
    gateway.wait_for_metric(STRIPPED, &[], (2 * spoofs.len()) as f64);
    // Of innocent fields nothing is lost.
    let innocent = [("client-certificate-hint", "1"), ("x-client-version", "2"), ("clientcert", "3")];
    let headers = echo(&mut gateway.connect(), &innocent);
    assert!(innocent.iter().all(|(name, value)| headers.get(name) == Some(value)), "{headers:?}");
}

#[test]
fn a_spoof_is_counted_on_requests_that_are_refused_as_well() {
    let gateway = Gateway::builder().host(Host::new(&[HOST]).route("path = \"/only\"", "")).start();
    let response = gateway.connect().request("GET", "/other", &[("client-cert", "x")], b"").unwrap();
    assert_eq!(response.status, 404);
    gateway.wait_for_metric(STRIPPED, &[("listener", "edge")], 1.0);
}

#[test]
fn a_blank_between_name_and_colon_is_refused() {
    let gateway = Gateway::start();
    for field in ["Client-Cert : x", "Client-Cert\t: x", " Client-Cert: x", "X-Forwarded-Client-Cert : x"] {
        let mut connection = gateway.connect();
        connection.send(format!("GET / HTTP/1.1\r\nhost: {HOST}\r\n{field}\r\n\r\n").as_bytes()).unwrap();
        let response = connection.response().unwrap();
        assert_eq!((response.status, response.keeps_alive()), (400, false), "{field}");
    }
    assert_eq!(gateway.upstream.connections_accepted(), 0);
}

#[test]
fn identity_does_not_come_by_way_of_trailers() {
    let gateway = Gateway::start();
    let names = [
        "client-cert",
        "Client_Cert",
        "X-Forwarded-Client-Cert",
        "client-cert-chain",
        "X-SSL-Client-Cert",
        "SSL_CLIENT_VERIFY",
    ];
    let mut connection = gateway.connect();
    let mut request =
        connection.head("POST", "/", &[("transfer-encoding", "chunked"), ("trailer", "client-cert")]);
    request.extend(b"2\r\nok\r\n0\r\nx-checksum: 1\r\n");
    names.iter().for_each(|name| request.extend(format!("{name}: spoof\r\n").bytes()));
    request.extend(b"\r\n");
    connection.send(&request).unwrap();
    let echo = Echo::of(&connection.response().unwrap());
    assert_eq!(echo.trailers.iter().collect::<Vec<_>>(), [("x-checksum", "1")]);
    assert_eq!(echo.headers.get("client-cert"), Some(&*item(gateway.partner.leaf())));
}

#[test]
fn spoofs_in_trailers_are_counted_like_those_in_heads() {
    let gateway = Gateway::start();
    let mut connection = gateway.connect();
    let mut request = connection.head("POST", "/", &[("transfer-encoding", "chunked")]);
    request.extend(b"2\r\nok\r\n0\r\nclient-cert: spoof\r\nCLIENT_CERT: spoof\r\n\r\n");
    connection.send(&request).unwrap();
    assert_eq!(connection.response().unwrap().status, 200);
    gateway.wait_for_metric(STRIPPED, &[], 2.0);
}

#[test]
fn a_nomination_in_connection_cannot_remove_ours() {
    let gateway = Gateway::builder()
        .host(Host::new(&[HOST]).forward("xfcc = \"set\", client_cert_chain = true"))
        .start();
    for nominated in [
        "client-cert",
        "Client-Cert",
        "close, client-cert-chain",
        "x-forwarded-client-cert",
        "X-Forwarded-For",
    ] {
        let mut connection = gateway.connect();
        let response = connection.request("GET", "/", &[("connection", nominated)], b"").unwrap();
        match response.status {
            400 => {}
            200 => assert_eq!(
                Echo::of(&response).headers.get("client-cert"),
                Some(&*item(gateway.partner.leaf()))
            ),
            status => panic!("{nominated}: {status}"),
        }
    }
    // A look-alike that may be nominated is dropped, and ours is set all the same.
    let headers = echo(&mut gateway.connect(), &[("connection", "client_cert"), ("client_cert", "spoof")]);
    assert_eq!(headers.get("client-cert"), Some(&*item(gateway.partner.leaf())));
    assert!(!headers.contains("client_cert"));
}

#[test]
fn a_policy_cannot_write_or_remove_identity() {
    let policy = r#"package ringward.authz

names := {"/1": "client-cert", "/2": "Client_Cert", "/3": "client-cert-chain", "/4": "X-Forwarded-Client-Cert", "/5": "x-forwarded-for"}

name := names[input.request.path]

decision := {"allowed": true, "headers": {name: "forged"}} if input.request.method == "GET"

decision := {"allowed": true, "request_headers_to_remove": [name]} if input.request.method == "PUT"
"#;
    let gateway = Gateway::builder().policy("main", policy).host(Host::new(&[HOST]).policy("main")).start();
    let mut connection = gateway.connect();
    for path in ["/1", "/2", "/3", "/4", "/5"] {
        for method in ["GET", "PUT"] {
            let response = connection.request(method, path, &[], b"").unwrap();
            assert_eq!(
                (response.status, response.text()),
                (500, "internal server error\n"),
                "{method} {path}"
            );
        }
    }
    gateway.wait_for_metric("ringward_policy_decisions_total", &[("outcome", "invalid_result")], 10.0);
    assert_eq!(gateway.upstream.connections_accepted(), 0, "nothing is carried out in part");
}

#[test]
fn without_a_certificate_there_is_no_identity() {
    let gateway = Gateway::builder()
        .host(Host::new(&["optional.example.com"]).client_auth("mode = \"optional\", trust = \"partners\""))
        .host(Host::new(&["open.example.com"]).client_auth("mode = \"off\"").forward("xfcc = \"set\""))
        .start();
    for name in ["optional.example.com", "open.example.com"] {
        let client = gateway.anonymous().server_name(name);
        let headers = echo(&mut client.connect(gateway.edge).unwrap(), &[("client-cert", "x")]);
        assert!(!headers.iter().any(|(name, _)| name.contains("cert")), "{name}: {headers:?}");
    }
    // Where none is asked for, none is forwarded, even if the client would have one.
    let headers =
        echo(&mut gateway.client().server_name("open.example.com").connect(gateway.edge).unwrap(), &[]);
    assert!(!headers.contains("client-cert") && !headers.contains("x-forwarded-client-cert"));
}

#[test]
fn clients_that_should_have_renewed_are_told_until_they_have() {
    let gateway = Gateway::start();
    let day = Duration::from_secs(86_400);
    let billing = |from: SystemTime, until: SystemTime| {
        gateway.root.issue(&Leaf::client("billing").valid_between(from, until))
    };
    let now = SystemTime::now();
    let old = billing(now - 87 * day, now + 3 * day);
    let told = || {
        gateway.metric(
            "ringward_client_certificate_not_after_timestamp_seconds",
            &[("bundle", "partners"), ("client", "CN=billing")],
        )
    };
    let ends = (now + 3 * day).duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs_f64();
    gateway.client().identity(&old).connect(gateway.edge).unwrap().get("/echo").unwrap();
    eventually(DEADLINE, "it is told", || (told() - ends).abs() <= 1.0);
    // The partner of the other tests has a certificate that is not due.
    gateway.connect().get("/echo").unwrap();
    let renewed = billing(now, now + 90 * day);
    gateway.client().identity(&renewed).connect(gateway.edge).unwrap().get("/echo").unwrap();
    eventually(DEADLINE, "it has renewed", || told() == 0.0);
}
