//! nginx and Ringward in its place.

use ringward_testkit::{Process, free_port};

use super::scene::{API, Edge, PORTAL, Replaced, Scene, redirected_without_tls};
use super::support::program;
use super::table::{Differs, End, Row, compare, get};

/// nginx with the file of the manual, and where it answers without TLS.
fn start_nginx(scene: &Scene) -> (Process, Edge, Edge) {
    let plain = Edge { port: free_port() };
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("{kind}_temp_path {};\n", scene.at(&format!("tmp/{kind}"))))
        .concat();
    let (process, edge) = scene.start_original(|edge| {
        let config = scene.place(&Replaced {
            file: "nginx.conf",
            parts: vec![
                ("/etc/nginx/", scene.at("")),
                ("/var/log/nginx/", scene.at("log/")),
                ("/run/nginx.pid", scene.at("run/nginx.pid")),
                ("listen      443 ", format!("listen 127.0.0.1:{} ", edge.port)),
                ("listen      80;", format!("listen 127.0.0.1:{};", plain.port)),
                ("\nhttp {\n", format!("\nhttp {{\n{temporary}")),
            ],
        });
        let mut nginx = program("nginx", "nginx");
        // One process, so that it ends with the test.
        nginx.args(["-e", "stderr", "-g", "daemon off; master_process off;", "-c"]).arg(config);
        nginx
    });
    (process, edge, plain)
}

#[test]
fn nginx() {
    let scene = Scene::new("nginx");
    let (_nginx, before, plain) = start_nginx(&scene);
    let (_ringward, after) = scene.start_ringward(&["policy.rego"]);
    scene.shares_are_kept(&[before, after], "billing");
    compare(&scene, [before, after], &rows(), UPSTREAM, CLIENT);
    scene.failures_are_tried_again(&[before, after], "integration");
    redirected_without_tls(plain);
    assert_eq!(scene.guide_lacks("Ringward has no listener without TLS."), None);
}

#[test]
fn nginx_guide() {
    let ran = Scene::new("nginx").follow_guide(&["policy.rego"]);
    assert!(ran.len() >= 9, "{ran:#?}");
}

fn rows() -> Vec<Row> {
    use End::{Answered, Passed, Refused, SentTo};
    let no_certificate = "nginx answers clients without a certificate, and those whose certificate it does not accept, with 400. Ringward ends the handshake with an alert";
    let maps = "The strings of a map are compared without regard to case";
    let texts = "A regular expression for the subject sees a text";
    let empty = "An empty segment (`//`) is answered with 400";
    let sni = "Clients that send no server name, or an unknown one, get the first server block";
    let slash = "`%2F` in a path is answered with 400";
    let dots = "A path with dot segments or escapes reaches the upstream in its normal form";
    let letters = "Letters outside of ASCII are not: nginx escapes them, and Ringward refuses to send such a value (500, `bad_header_value`).";
    let lines = "A head whose lines end in a line feed alone is answered with 400";
    vec![
        // The right certificate, and the wrong one.
        get(API, "/orders/7?all=1&x=%20").by("billing"),
        get(API, "/orders/7").by("billing").method("HEAD").ends(Answered(200)),
        get(API, "/orders/7").by("billing").body(10).ends(Answered(403)),
        get(API, "/orders/7").by("integration").body(10),
        get(API, "/orders/7").by("integration").method("DELETE"),
        get(API, "/orders/7").by("sales").ends(Answered(403)),
        get(API, "/quotes/7").by("sales"),
        get(API, "/orders/7").by("lower case").but(Answered(403), maps),
        get(API, "/orders/7").by("comma").but(Answered(403), texts),
        get(API, "/orders/7").by("umlaut").but(Answered(500), letters),
        // None, or a bad one.
        get(API, "/orders/7").ends(Answered(400)).but(Refused, no_certificate),
        get(API, "/orders/7").by("revoked").ends(Answered(400)).but(Refused, no_certificate),
        get(API, "/orders/7").by("expired").ends(Answered(400)).but(Refused, no_certificate),
        get(API, "/orders/7").by("stranger").ends(Answered(400)).but(Refused, no_certificate),
        get(PORTAL, "/").by("revoked").ends(Answered(400)).but(Refused, no_certificate),
        // Where a certificate may be shown.
        get(PORTAL, "/start"),
        get(PORTAL, "/start").by("sales"),
        get(PORTAL, "/admin/users").ends(Answered(403)),
        get(PORTAL, "/admin/users").by("sales").ends(Answered(403)),
        get(PORTAL, "/admin/users").by("operator"),
        get(PORTAL, "/admin?x=1").ends(SentTo(301, "https://portal.example.com/admin/?x=1")),
        get(PORTAL, "/healthz").ends(Answered(200)),
        // Who claims to be somebody.
        get(PORTAL, "/start").field("x-client-dn", "CN=ops-anna").field("x-client-verify", "SUCCESS"),
        get(PORTAL, "/start").field("X_Client_DN", "CN=ops-anna").field("X_Client_Verify", "SUCCESS"),
        get(API, "/orders/7").by("billing").field("x-client-dn", "CN=ops-anna").field("x-client-serial", "1"),
        get(API, "/orders/7").by("billing").field("x-real-ip", "10.9.9.9").field("x-debug", "1"),
        get(API, "/orders/7").by("billing").field("x-forwarded-for", "10.9.9.9"),
        get(PORTAL, "/start").field("x-client-cert", "-----BEGIN%20CERTIFICATE-----"),
        get(PORTAL, "/start").field("client-cert", ":MII=:"),
        get(PORTAL, "/start").field("x-forwarded-client-cert", "Subject=\"CN=ops-anna\""),
        // Hosts.
        get(API, "/nothing").by("billing").ends(Answered(404)),
        get(API, "/orders/7").by("billing").sni(Some(PORTAL)).ends(Answered(421)),
        get(PORTAL, "/start").by("billing").sni(Some(API)).ends(Answered(421)),
        get(API, "/orders/7").by("billing").sni(None).but(Refused, sni),
        // Sizes.
        get(API, "/orders/7").by("integration").body(1 << 20),
        get(API, "/orders/7").by("integration").announced("1048577").ends(Answered(413)),
        get(API, "/orders/import").by("integration").body((1 << 20) + 1),
        get(API, "/orders/import").by("integration").announced("10485761").ends(Answered(413)),
        // Redirects and rewrites.
        get(API, "/old/7?x=1").by("sales").ends(SentTo(301, "https://api.example.com/orders/7?x=1")),
        get(API, "/orders?x=1").by("billing").ends(SentTo(301, "https://api.example.com/orders/?x=1")),
        get(API, "/v2/orders/7?x=1").by("billing").ends(Passed("/orders/7?x=1")),
        get(API, "/v2/orders/7").by("sales").ends(Answered(403)),
        // Paths that can be read in two ways.
        get(API, "/orders//7").by("billing").but(Answered(400), empty),
        get(API, "/orders/a%2Fb").by("billing").but(Answered(400), slash),
        get(API, "/orders/x/../7").by("billing").but(Passed("/orders/7"), dots),
        get(API, "/orders/%37").by("billing").but(Passed("/orders/7"), dots),
        get(API, "/orders/talkative").by("billing").ends(Answered(200)),
        get(API, "/orders/7").by("billing").line_feeds().but(Answered(400), lines),
        get(API, "/orders/7").by("billing").field("x_other", "1"),
        // Time.
        get(API, "/quotes/slow").by("billing").ends(Answered(504)),
    ]
}

/// Fields that upstreams see otherwise.
const UPSTREAM: &[Differs] = &[
    Differs {
        field: "x-forwarded-for",
        before: |was| was == Some("10.9.9.9, 127.0.0.1"),
        after: |is| is == Some("127.0.0.1"),
        says: "What a client writes into `X-Forwarded-For` itself is removed.",
    },
    Differs {
        field: "x-client-serial",
        before: |was| {
            was.is_some_and(|was| was.bytes().all(|b| b.is_ascii_digit() || b.is_ascii_uppercase()))
        },
        after: |is| is.is_some_and(|is| is.bytes().all(|b| b.is_ascii_digit() || b.is_ascii_lowercase())),
        says: "`X-Client-Serial` is in lower case.",
    },
    Differs {
        field: "x-client-cert",
        before: |was| was.is_some_and(|was| was.starts_with("-----BEGIN%20CERTIFICATE-----")),
        after: |is| is.is_none(),
        says: "`Client-Cert` (RFC 9440) takes the place of `X-Client-Cert`",
    },
    Differs {
        field: "client-cert",
        before: |was| was.is_none(),
        after: |is| is.is_some_and(|is| is.starts_with(":MII") && is.ends_with(':')),
        says: "`Client-Cert` (RFC 9440) takes the place of `X-Client-Cert`",
    },
    Differs {
        field: "client-cert",
        before: |was| was == Some(":MII=:"),
        after: |is| is.is_none(),
        says: "of a client never reach the upstream. nginx passes on what it is not told to remove.",
    },
    Differs {
        field: "x-forwarded-client-cert",
        before: |was| was.is_some(),
        after: |is| is.is_none(),
        says: "of a client never reach the upstream. nginx passes on what it is not told to remove.",
    },
    Differs {
        field: "x-forwarded-host",
        before: |was| was.is_none(),
        after: |is| is.is_some(),
        says: "`X-Forwarded-Host` and `Via` are new.",
    },
    Differs {
        field: "via",
        before: |was| was.is_none(),
        after: |is| is == Some("1.1 ringward"),
        says: "`X-Forwarded-Host` and `Via` are new.",
    },
    Differs {
        field: "x_other",
        before: |was| was.is_none(),
        after: |is| is == Some("1"),
        says: "Other fields with an underscore in their name pass",
    },
    Differs {
        field: "x-request-id",
        before: |was| was.is_some_and(|was| was.len() == 32),
        after: |is| is.is_some_and(|is| is.len() < 32),
        says: "`X-Request-ID` is shorter",
    },
];

/// Fields that clients see otherwise.
const CLIENT: &[Differs] = &[
    Differs {
        field: "server",
        before: |was| was == Some("nginx"),
        after: |is| is.is_none(),
        says: "Responses have no `Server` field any more",
    },
    Differs {
        field: "strict-transport-security",
        before: |was| was.is_some(),
        after: |is| is.is_none(),
        says: "Refused requests (403, 413 and the like) have no fields of `response_headers`",
    },
];
