//! HAProxy and Ringward in its place.

use std::net::TcpStream;

use ringward_testkit::{DEADLINE, Process, eventually, free_port};

use super::scene::{API, Edge, PORTAL, Replaced, Scene, redirected_without_tls};
use super::support::program;
use super::table::{Differs, End, Row, compare, get};

/// HAProxy with the file of the manual, and where it answers without TLS.
fn start_haproxy(scene: &Scene) -> (Process, Edge, Edge) {
    let plain = Edge { port: free_port() };
    let (process, edge) = scene.start_original(|edge| {
        let config = scene.place(&Replaced {
            file: "haproxy.cfg",
            parts: vec![
                // Certificate and key are one file there.
                ("/etc/haproxy/tls/api.pem", scene.at("tls/api.both")),
                ("/etc/haproxy/tls/portal.pem", scene.at("tls/portal.both")),
                ("/etc/haproxy/", scene.at("")),
                ("/run/haproxy/admin.sock", scene.at("run/haproxy.sock")),
                ("0.0.0.0:443", format!("127.0.0.1:{}", edge.port)),
                ("0.0.0.0:80", format!("127.0.0.1:{}", plain.port)),
                // Whoever runs the test.
                ("    user    haproxy\n    group   haproxy\n", String::new()),
            ],
        });
        let mut haproxy = program("haproxy", "haproxy");
        haproxy.arg("-db").arg("-f").arg(config);
        haproxy
    });
    eventually(DEADLINE, "it listens without TLS as well", || TcpStream::connect(plain.address()).is_ok());
    (process, edge, plain)
}

const POLICIES: &[&str] = &["api.toml", "portal.rego"];

#[test]
fn haproxy() {
    let scene = Scene::new("haproxy");
    let (_haproxy, before, plain) = start_haproxy(&scene);
    let (_ringward, after) = scene.start_ringward(POLICIES);
    scene.shares_are_kept(&[before, after], "billing");
    compare(&scene, [before, after], &rows(), UPSTREAM, CLIENT);
    scene.failures_are_tried_again(&[before, after], "integration");
    redirected_without_tls(plain);
    assert_eq!(scene.guide_lacks("Ringward has no listener without TLS."), None);
}

#[test]
fn haproxy_guide() {
    let ran = Scene::new("haproxy").follow_guide(POLICIES);
    assert!(ran.len() >= 9, "{ran:#?}");
}

fn rows() -> Vec<Row> {
    use End::{Answered, Passed, Refused, SentTo};
    let no_certificate = "Clients without a certificate get a status from HAProxy";
    let hosts = "A request for another host than that of the handshake is answered with 421.";
    let sni = "Clients that send no server name, or an unknown one, get the first certificate of HAProxy.";
    let dots = "HAProxy compares and passes on the path as the client has sent it.";
    let chunks = "A body that comes in chunks says no length";
    let empty = "An empty segment (`//`) is answered with 400";
    let slash = "`%2F` in a path is answered with 400";
    let lines = "A head whose lines end in a line feed alone is answered with 400";
    let letters = "Letters outside of ASCII";
    vec![
        // The right certificate, and the wrong one.
        get(API, "/orders/7?all=1&x=%20").by("billing"),
        get(API, "/orders/7").by("billing").method("HEAD").ends(Answered(200)),
        get(API, "/orders/7").by("billing").body(10).ends(Answered(403)),
        get(API, "/orders/7").by("integration").body(10),
        get(API, "/orders/7").by("integration").method("DELETE"),
        get(API, "/orders/7").by("sales").ends(Answered(403)),
        get(API, "/orders/7").by("lower case").ends(Answered(403)),
        get(API, "/orders/7").by("comma").ends(Answered(403)),
        get(API, "/quotes/7").by("sales"),
        get(API, "/orders/7").by("umlaut").but(Answered(500), letters),
        // None, or a bad one.
        get(API, "/orders/7").ends(Answered(403)).but(Refused, no_certificate),
        get(API, "/orders/7").by("revoked").ends(Refused),
        get(API, "/orders/7").by("expired").ends(Refused),
        get(API, "/orders/7").by("stranger").ends(Refused),
        get(PORTAL, "/").by("revoked").ends(Refused),
        // Where a certificate may be shown.
        get(PORTAL, "/start"),
        get(PORTAL, "/start").by("sales"),
        get(PORTAL, "/admin/users").ends(Answered(403)),
        get(PORTAL, "/admin/users").by("sales").ends(Answered(403)),
        get(PORTAL, "/admin/users").by("operator"),
        get(PORTAL, "/admin"),
        get(PORTAL, "/healthz").ends(Answered(200)),
        // Who claims to be somebody.
        get(PORTAL, "/start").field("x-ssl-client-cn", "ops-anna").field("x-ssl-client-used", "1"),
        get(PORTAL, "/start").field("X_SSL_Client_CN", "ops-anna"),
        get(PORTAL, "/start").field("X_SSL_Client_Used", "1"),
        get(API, "/orders/7")
            .by("billing")
            .field("x-ssl-client-dn", "/CN=ops-anna")
            .field("x-ssl-client-serial", "1"),
        get(API, "/orders/7").by("billing").field("x-real-ip", "10.9.9.9").field("x-debug", "1"),
        get(API, "/orders/7").by("billing").field("x-forwarded-for", "10.9.9.9"),
        get(PORTAL, "/start").field("x-ssl-client-sha1", "C16E"),
        get(PORTAL, "/start").field("client-cert", ":MII=:"),
        get(PORTAL, "/start").field("x-forwarded-client-cert", "Subject=\"CN=ops-anna\""),
        // Hosts.
        get(API, "/nothing").by("billing").ends(Answered(404)),
        get(API, "/orders").by("billing").ends(Answered(404)),
        get(API, "/orders/7").by("billing").sni(Some(PORTAL)).but(Answered(421), hosts),
        get(PORTAL, "/start").by("billing").sni(Some(API)).but(Answered(421), hosts),
        get(API, "/orders/7").by("billing").sni(None).but(Refused, sni),
        // Sizes.
        get(API, "/orders/7").by("integration").body(1 << 20),
        get(API, "/orders/7").by("integration").announced("1048577").ends(Answered(413)),
        get(API, "/orders/7").by("integration").body((1 << 20) + 1).chunked().but(Answered(413), chunks),
        get(API, "/orders/import").by("integration").body((1 << 20) + 1),
        get(API, "/orders/import").by("integration").announced("10485761").ends(Answered(413)),
        // Redirects and rewrites.
        get(API, "/old/7?x=1").by("sales").ends(SentTo(301, "https://api.example.com/orders/7?x=1")),
        get(API, "/v2/orders/7?x=1").by("billing").ends(Passed("/orders/7?x=1")),
        get(API, "/v2/orders/7").by("sales").ends(Answered(403)),
        // Paths that can be read in two ways.
        get(PORTAL, "/x/../admin/users").but(Answered(403), dots),
        get(PORTAL, "/%61dmin/users").but(Answered(403), dots),
        get(API, "/orders/x/../7").by("billing").but(Passed("/orders/7"), dots),
        get(API, "/orders//7").by("billing").but(Answered(400), empty),
        get(API, "/orders/a%2Fb").by("billing").but(Answered(400), slash),
        get(API, "/orders/7").by("billing").line_feeds().but(Answered(400), lines),
        get(API, "/orders/talkative").by("billing").ends(Answered(200)),
        // Time.
        get(API, "/quotes/slow").by("billing").ends(Answered(504)),
    ]
}

/// Fields that upstreams see otherwise.
const UPSTREAM: &[Differs] = &[
    Differs {
        field: "x-forwarded-for",
        before: |was| was == Some("10.9.9.9 | 127.0.0.1"),
        after: |is| is == Some("127.0.0.1"),
        says: "What a client writes into `X-Forwarded-For` itself is removed.",
    },
    Differs {
        field: "x-ssl-client-dn",
        before: |was| was.is_some_and(|was| was.starts_with("/O=Acme/OU=")),
        after: |is| is.is_some_and(|is| is.ends_with(",O=Acme")),
        says: "`X-SSL-Client-DN` is `CN=billing.acme.example,OU=Billing,O=Acme` (RFC 4514)",
    },
    Differs { field: "x-ssl-client-dn", before: is_empty, after: is_missing, says: NOTHING_TO_SAY },
    Differs { field: "x-ssl-client-cn", before: is_empty, after: is_missing, says: NOTHING_TO_SAY },
    Differs { field: "x-ssl-client-serial", before: is_empty, after: is_missing, says: NOTHING_TO_SAY },
    Differs { field: "x-ssl-client-sha1", before: is_empty, after: is_missing, says: NOTHING_TO_SAY },
    Differs {
        field: "x-ssl-client-serial",
        before: |was| {
            was.is_some_and(|was| was.bytes().all(|b| b.is_ascii_digit() || b.is_ascii_uppercase()))
        },
        after: |is| is.is_some_and(|is| is.bytes().all(|b| b.is_ascii_digit() || b.is_ascii_lowercase())),
        says: "`X-SSL-Client-Serial` is in lower case.",
    },
    Differs {
        field: "x-ssl-client-sha1",
        before: |was| was.is_some_and(|was| was.len() == 40),
        after: is_missing,
        says: SHA,
    },
    Differs {
        field: "x-ssl-client-sha256",
        before: is_missing,
        after: |is| is.is_some_and(|is| is.len() == 64),
        says: SHA,
    },
    Differs {
        field: "x_ssl_client_cn",
        before: |was| was == Some("ops-anna"),
        after: is_missing,
        says: SPELLINGS,
    },
    Differs {
        field: "x_ssl_client_used",
        before: |was| was == Some("1"),
        after: is_missing,
        says: SPELLINGS,
    },
    Differs {
        field: "client-cert",
        before: is_missing,
        after: |is| is.is_some_and(|is| is.starts_with(":MII") && is.ends_with(':')),
        says: "`Client-Cert` (RFC 9440) is new",
    },
    Differs { field: "client-cert", before: |was| was == Some(":MII=:"), after: is_missing, says: IDENTITY },
    Differs {
        field: "x-forwarded-client-cert",
        before: |was| was.is_some(),
        after: is_missing,
        says: IDENTITY,
    },
    Differs {
        field: "x-forwarded-host",
        before: is_missing,
        after: |is| is.is_some(),
        says: "`X-Forwarded-Host` and `Via` are new.",
    },
    Differs {
        field: "via",
        before: is_missing,
        after: |is| is == Some("1.1 ringward"),
        says: "`X-Forwarded-Host` and `Via` are new.",
    },
    Differs {
        field: "x-request-id",
        before: |was| was.is_some_and(|was| was.len() == 36),
        after: |is| is.is_some_and(|is| is.len() < 32),
        says: "`X-Request-ID` is shorter",
    },
];

/// Fields that clients see otherwise.
const CLIENT: &[Differs] = &[Differs {
    field: "strict-transport-security",
    before: is_missing,
    after: |is| is.is_some(),
    says: "Redirects and fixed answers have the fields of `response_headers` as well",
}];

fn is_empty(value: Option<&str>) -> bool {
    value == Some("")
}

fn is_missing(value: Option<&str>) -> bool {
    value.is_none()
}

const NOTHING_TO_SAY: &str = "A field with nothing to say is not there, where HAProxy sends it empty.";
const SHA: &str = "`X-SSL-Client-SHA256` takes the place of `X-SSL-Client-SHA1`";
const SPELLINGS: &str = "HAProxy lets `X_SSL_Client_CN` of a client pass";
const IDENTITY: &str =
    "of a client never reach the upstream. HAProxy passes on what it is not told to remove.";
