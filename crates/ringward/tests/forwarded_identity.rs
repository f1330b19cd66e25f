//! Identities that load balancers forward: who is believed, and what is verified before anybody is known by them.
#![allow(clippy::unwrap_used, reason = "a failed expectation here is a failed test")]

mod support;

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ringward_testkit::{
    Authority, Client, Connection, DEADLINE, Echo, Http2, Issued, Leaf, Process, Response, eventually,
    free_port, sha256_hex,
};
use serde_json::Value;
use tempfile::TempDir;

use self::support::{Builder, Gateway, HOST, Host, on_both_drivers, program};

on_both_drivers!(the_client_is_whose_certificate_the_load_balancer_forwards);

const VERDICTS: &str = "ringward_forwarded_identities_total";
const STRIPPED: &str = "ringward_identity_headers_stripped_total";
const FROM: &str = "from = { san_dns = \"edge.example\" }";

/// Allows `client-a` alone, and nobody on the word of an old proof.
const ONE_CLIENT: &str = "package ringward.authz\nimport rego.v1\n\
    default allow := false\n\
    allow if { input.client.subject.common_name == \"client-a\"; input.connection.auth_time_unix == 0 }\n\
    decision := allow";

/// A gateway with a load balancer in front of it.
struct Edge {
    gateway: Gateway,
    balancer: Issued,
    /// Who issues the certificates of clients.
    clients: Authority,
}

impl Edge {
    /// Load balancers are trusted by `partners`, and clients by `clients`.
    fn builder(rules: &str, host: Host) -> (Builder, Authority) {
        let clients = Authority::root("Clients");
        let keys = format!("forwarded_identity = {{ {FROM}, trust = \"clients\"{rules} }}");
        (Gateway::builder().trust("clients", &[&clients]).host(host.key(&keys)), clients)
    }

    fn of((builder, clients): (Builder, Authority)) -> Edge {
        let balancer = builder.root().issue(&Leaf::client("edge").dns("edge.example"));
        Edge { gateway: builder.start(), balancer, clients }
    }

    fn start(rules: &str) -> Edge {
        Edge::of(Edge::builder(rules, Host::new(&[HOST])))
    }

    fn client(&self) -> Client {
        self.gateway.client().identity(&self.balancer)
    }

    fn connect(&self) -> Connection {
        self.client().connect(self.gateway.edge).unwrap()
    }

    fn wait_for(&self, verdict: &str, count: usize) {
        self.gateway.wait_for_metric(VERDICTS, &[("verdict", verdict)], count as f64);
    }
}

/// RFC 9440 §2.1.
fn item(der: &[u8]) -> String {
    format!(":{}:", STANDARD.encode(der))
}

/// As nginx and Envoy escape it.
fn escaped(pem: &str) -> String {
    pem.bytes().fold(String::new(), |text, byte| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' => text + &char::from(byte).to_string(),
        byte => text + &format!("%{byte:02X}"),
    })
}

fn get(connection: &mut Connection, fields: &[(&str, &str)]) -> Response {
    connection.request("GET", "/echo", fields, b"").unwrap()
}

/// Rule: what a listed load balancer forwards is verified, and then it is the client's, of each request by itself: for policies,
/// logs and upstreams.
fn the_client_is_whose_certificate_the_load_balancer_forwards(driver: &str) {
    let host = Host::new(&[HOST]).policy("main").forward("client_cert_chain = true, xfcc = \"set\"");
    let (builder, clients) = Edge::builder("", host);
    let builder = builder.io(driver).policy("main", ONE_CLIENT).policy_key("main", "cache = {}");
    let edge = Edge::of((builder, clients));
    let issuing = edge.clients.intermediate("Issuing");
    let (a, b) = (issuing.issue(&Leaf::client("client-a")), issuing.issue(&Leaf::client("client-b")));
    let chain = item(issuing.certificate());
    let mut connection = edge.connect();
    // Twice, as decisions and paths are kept: what was found out about one client is not given to another.
    for _ in 0..2 {
        for (client, status) in [(&a, 200), (&b, 403), (&a, 200)] {
            let leaf = item(client.leaf());
            let fields = [("client-cert", &*leaf), ("client-cert-chain", &*chain)];
            let response = get(&mut connection, &fields);
            assert_eq!(response.status, status, "{}", response.text());
            if status == 200 {
                let headers = Echo::of(&response).headers;
                assert_eq!(headers.get("client-cert"), Some(&*leaf));
                assert_eq!(headers.get("client-cert-chain"), Some(&*chain));
                let xfcc = headers.get("x-forwarded-client-cert").unwrap();
                assert!(xfcc.starts_with(&format!("Hash={}", sha256_hex(a.leaf()))), "{xfcc}");
            }
        }
    }
    edge.wait_for("admitted", 6);
    let record = edge.gateway.wait_for_record("forwarded.id", "CN=client-b");
    assert_eq!(record["forwarded.fingerprint"], Value::from(sha256_hex(b.leaf())));
    assert_eq!(record["peer.id"], Value::from("edge.example"), "{record}");
    assert_eq!(edge.gateway.metric(STRIPPED, &[]), 0.0, "what is believed was not stripped");
}

#[test]
fn streams_of_one_connection_are_of_different_clients() {
    let (builder, clients) = Edge::builder("", Host::new(&[HOST]).policy("main"));
    let edge = Edge::of((builder.policy("main", ONE_CLIENT), clients));
    let certificate = |name: &str| item(edge.clients.issue(&Leaf::client(name)).leaf());
    let (a, b) = (certificate("client-a"), certificate("client-b"));
    let connection = edge.client().alpn(&["h2"]).connect(edge.gateway.edge).unwrap();
    let mut http2 = Http2::new(connection, &[]);
    for (stream, client, status) in
        [(1, Some(&a), 200), (3, Some(&b), 403), (5, None, 403), (7, Some(&a), 200)]
    {
        let fields: Vec<_> = client.iter().map(|client| ("client-cert", client.as_str())).collect();
        http2.request(stream, "GET", "/echo", &fields, true).unwrap();
        assert_eq!(http2.response(stream).0, status, "stream {stream}");
    }
}

/// Rule: a load balancer's request without a certificate is an anonymous client's, never the load balancer's own.
#[test]
fn a_load_balancer_is_never_its_own_client() {
    let host = Host::new(&[HOST])
        .route("path = \"/{rest...}\"", "")
        .route("path = \"/open/{rest...}\"", "client_auth = \"optional\"")
        .route("path = \"/off/{rest...}\"", "client_auth = \"off\"");
    let edge = Edge::of(Edge::builder("", host));
    let mut connection = edge.connect();
    assert_eq!(connection.get("/closed").unwrap().status, 403);
    for path in ["/open/x", "/off/x"] {
        let headers = Echo::of(&connection.get(path).unwrap()).headers;
        assert!(!headers.contains("client-cert"), "{path}");
    }
    edge.wait_for("absent", 3);
    let record = edge.gateway.wait_for_record("path", "/closed");
    assert_eq!(record["flag"], Value::from("certificate_required"), "{record}");
    // A route that wants to know nobody does not.
    let leaf = item(edge.clients.issue(&Leaf::client("client-a")).leaf());
    let response = connection.request("GET", "/off/x", &[("client-cert", &leaf)], b"").unwrap();
    assert!(!Echo::of(&response).headers.contains("client-cert"));
}

/// Rule: from anybody else the header is removed and counted, and the request is the connection's.
#[test]
fn nobody_else_is_believed() {
    let edge = Edge::start("");
    let victim = item(edge.clients.issue(&Leaf::client("client-a")).leaf());
    let mut connection = edge.gateway.connect();
    for (count, name) in ["client-cert", "Client_Cert", "x-forwarded-client-cert"].into_iter().enumerate() {
        let headers = Echo::of(&get(&mut connection, &[(name, &victim)])).headers;
        assert_eq!(headers.get("client-cert"), Some(&*item(edge.gateway.partner.leaf())), "{name}");
        assert!(!headers.contains("client_cert") && !headers.contains("x-forwarded-client-cert"), "{name}");
        edge.wait_for("unlisted", count + 1);
        edge.gateway.wait_for_metric(STRIPPED, &[], (count + 1) as f64);
    }
    assert!(edge.gateway.lines("request").iter().all(|record| record.get("forwarded.id").is_none()));

    let edge = Edge::start(", others = \"refuse\"");
    let mut connection = edge.gateway.connect();
    assert_eq!(get(&mut connection, &[("client-cert", &victim)]).status, 400);
    assert_eq!(get(&mut connection, &[]).status, 200, "without it, it is served");
    edge.gateway.wait_for_record("flag", "unlisted_forwarder");
    edge.wait_for("unlisted", 1);
}

/// Rule: a forwarded certificate is no identity before our own rules have admitted it.
#[test]
fn what_is_forwarded_is_verified() {
    let edge = Edge::start("");
    let root = &edge.gateway.root;
    let refused = [
        ("unknown_issuer", Authority::root("Strange").issue(&Leaf::client("client-a"))),
        // The load balancers' own authority issues no clients.
        ("unknown_issuer", root.issue(&Leaf::client("client-a"))),
        ("expired", edge.clients.issue(&Leaf::client("client-a").expired())),
        ("bad_eku", edge.clients.issue(&Leaf::server("client-a.example"))),
    ];
    let mut connection = edge.connect();
    for (reason, client) in &refused {
        let before = edge.gateway.metric(VERDICTS, &[("verdict", reason)]);
        let response = get(&mut connection, &[("client-cert", &item(client.leaf()))]);
        assert_eq!(response.status, 403, "{reason}");
        edge.gateway.wait_for_metric(VERDICTS, &[("verdict", reason)], before + 1.0);
    }
    let record = edge.gateway.wait_for_record("flag", "certificate_refused");
    assert!(record["reason"].as_str().unwrap().contains("forwarded by a load balancer"), "{record}");
    assert_eq!(edge.gateway.upstream.requests().len(), 0);
}

/// Rule: a forwarded certificate that is revoked is refused with the next request, on a connection that goes on.
#[test]
fn revocation_reaches_forwarded_certificates() {
    let (builder, clients) = Edge::builder("", Host::new(&[HOST]));
    let edge = Edge::of((builder.stateful(), clients));
    let [a, b] = ["client-a", "client-b"].map(|name| edge.clients.issue(&Leaf::client(name)));
    let mut connection = edge.connect();
    let mut status = |client: &Issued| get(&mut connection, &[("client-cert", &item(client.leaf()))]).status;
    assert_eq!((status(&a), status(&b)), (200, 200));
    let arguments = ["--fingerprint", &sha256_hex(a.leaf()), "--reason", "lost"];
    let (said, done) = edge.gateway.command("revoke", &arguments);
    assert!(done, "{said}");
    assert_eq!((status(&a), status(&b)), (403, 200), "{said}");
    edge.wait_for("deny_listed", 1);
}

/// Rule: what could be read in two ways is refused.
#[test]
fn what_cannot_be_read_is_refused() {
    let edge = Edge::start("");
    let leaf = item(edge.clients.issue(&Leaf::client("client-a")).leaf());
    let mut connection = edge.connect();
    let cases: [&[(&str, &str)]; 5] = [
        &[("client-cert", "::")],
        &[("client-cert", &leaf[1..])],
        &[("client-cert", &leaf), ("Client-Cert", &leaf)],
        &[("client-cert-chain", &leaf)],
        &[("client-cert", &leaf), ("client-cert-chain", "nonsense")],
    ];
    for (count, fields) in cases.into_iter().enumerate() {
        assert_eq!(get(&mut connection, fields).status, 400, "{fields:?}");
        edge.wait_for("malformed", count + 1);
    }
    edge.gateway.wait_for_record("flag", "bad_forwarded_identity");
    assert_eq!(edge.gateway.upstream.requests().len(), 0);
    assert_eq!(get(&mut connection, &[("client-cert", &leaf)]).status, 200, "the connection goes on");
}

/// Rule: of Envoy's header the certificate is verified; without one it is no identity.
#[test]
fn envoys_header_counts_with_a_certificate_only() {
    let edge = Edge::start(", header = \"x-forwarded-client-cert\"");
    let client = edge.clients.intermediate("Issuing").issue(&Leaf::client("client-a"));
    let (hash, chain) = (sha256_hex(client.leaf()), escaped(&client.chain_pem()));
    let mut connection = edge.connect();
    let mut status = |value: &str| {
        let response = get(&mut connection, &[("x-forwarded-client-cert", value)]);
        if response.status == 200 {
            let headers = Echo::of(&response).headers;
            assert_eq!(headers.get("client-cert"), Some(&*item(client.leaf())), "{value}");
        }
        response.status
    };
    assert_eq!(status(&format!("Hash={hash};Chain=\"{chain}\";Subject=\"CN=other\"")), 200);
    assert_eq!(status(&format!("Hash={hash};Subject=\"CN=client-a\"")), 400, "an assertion");
    assert_eq!(status(&format!("Hash={};Chain=\"{chain}\"", "0".repeat(64))), 400, "a contradiction");
    assert_eq!(status(&format!("Hash={hash},Chain=\"{chain}\"")), 400, "two hops");
    edge.wait_for("malformed", 3);
    // The other header is nobody's word.
    let response = get(&mut connection, &[("client-cert", &item(client.leaf()))]);
    assert_eq!(response.status, 403);
    edge.gateway.wait_for_metric(STRIPPED, &[], 4.0);
}

/// Rule: what a load balancer alone has seen is weaker than what was proved to us, and `prove` says so.
#[test]
fn what_is_forwarded_is_proved_to_the_load_balancer_alone() {
    let host = || {
        Host::new(&[HOST])
            .route("path = \"/{rest...}\"", "id = \"all\"\nrequire = \"forwarded\"")
            .route("path = \"/open\"", "id = \"open\"\nclient_auth = \"optional\"")
    };
    let (said, proved) = Edge::builder("", host()).0.command("prove", &["--json"]);
    let report: Value = serde_json::from_str(&said).unwrap();
    let routes = report["listeners"][0]["hosts"][0]["routes"].as_array().unwrap();
    let weakest: Vec<_> = routes.iter().map(|route| (&route["id"], &route["weakest"])).collect();
    let expected =
        [("all", "forwarded"), ("open", "none")].map(|(id, way)| (Value::from(id), Value::from(way)));
    assert_eq!(weakest, expected.each_ref().map(|(id, way)| (id, way)), "{said}");
    assert!(proved, "{said}");
    let strict = Host::new(&[HOST]).key("require = \"mtls\"");
    let (said, proved) = Edge::builder("", strict).0.command("check", &[]);
    assert!(!proved && said.contains("load balancers vouch for clients here"), "{said}");
}

/// A load balancer's process, which ends when dropped.
struct LoadBalancer {
    address: SocketAddr,
    _process: Process,
}

impl LoadBalancer {
    /// Starts `program` on a configuration that this makes of the address to listen on.
    fn start(
        name: &str,
        files: &TempDir,
        arguments: &[&str],
        text: impl Fn(SocketAddr) -> String,
    ) -> LoadBalancer {
        // Another may take its port before it does.
        for _ in 0..5 {
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
            let file = files.path().join("balancer.conf");
            fs::write(&file, text(address)).unwrap();
            let mut process = Process::start(program(name, name).args(arguments).arg(&file));
            eventually(DEADLINE, "it listens or ends", || {
                !process.is_running() || TcpStream::connect(address).is_ok()
            });
            if process.is_running() {
                return LoadBalancer { address, _process: process };
            }
        }
        panic!("{name} finds no port");
    }
}

/// The files of a load balancer that serves as [`HOST`].
fn files(edge: &Edge) -> TempDir {
    let files = TempDir::new().unwrap();
    let server = edge.gateway.root.issue(&Leaf::server(HOST));
    for (name, issued) in [("server", &server), ("balancer", &edge.balancer)] {
        let (chain, key) = (issued.chain_pem(), issued.key_pem());
        fs::write(files.path().join(format!("{name}.pem")), format!("{chain}{key}")).unwrap();
    }
    fs::write(files.path().join("clients.pem"), edge.clients.pem()).unwrap();
    files
}

/// Rule: it works with HAProxy as it is documented, and what a client writes itself does not get through.
#[test]
fn haproxy_forwards_its_clients_certificates() {
    let edge = Edge::start("");
    let files = files(&edge);
    let at = |name: &str| files.path().join(name).display().to_string();
    let balancer = LoadBalancer::start("haproxy", &files, &["-db", "-f"], |address| {
        format!(
            "defaults\n mode http\n timeout connect 20s\n timeout client 60s\n timeout server 60s\n\
             listen edge\n bind {address} ssl crt {} ca-file {} verify optional\n\
             http-request del-header client-cert-chain\n\
             http-request del-header client-cert\n\
             http-request set-header client-cert :%[ssl_c_der,base64]: if {{ ssl_c_used }}\n\
             server ringward {} ssl verify none crt {} sni str({HOST})\n",
            at("server.pem"),
            at("clients.pem"),
            edge.gateway.edge,
            at("balancer.pem"),
        )
    });
    check_balancer(&edge, &balancer, "client-cert");
}

/// Rule: so does nginx, by Envoy's header.
#[test]
fn nginx_forwards_its_clients_certificates() {
    let edge = Edge::start(", header = \"x-forwarded-client-cert\"");
    let files = files(&edge);
    let at = |name: &str| files.path().join(name).display().to_string();
    let directory = files.path().display().to_string();
    let balancer = LoadBalancer::start("nginx", &files, &["-c"], |address| {
        format!(
            "daemon off;\nerror_log stderr;\npid {directory}/nginx.pid;\nevents {{}}\nhttp {{\n\
             access_log off;\nclient_body_temp_path {directory}/body;\nproxy_temp_path {directory}/proxy;\n\
             fastcgi_temp_path {directory}/fastcgi;\nuwsgi_temp_path {directory}/uwsgi;\nscgi_temp_path {directory}/scgi;\n\
             map $ssl_client_escaped_cert $xfcc {{ '' ''; default 'Cert=\"$ssl_client_escaped_cert\"'; }}\n\
             server {{\nlisten {address} ssl;\nssl_certificate {server};\nssl_certificate_key {server};\n\
             ssl_client_certificate {};\nssl_verify_client optional;\nlocation / {{\n\
             proxy_pass https://{};\nproxy_http_version 1.1;\nproxy_set_header Host {HOST};\n\
             proxy_set_header X-Forwarded-Client-Cert $xfcc;\n\
             proxy_ssl_certificate {balancer};\nproxy_ssl_certificate_key {balancer};\n\
             proxy_ssl_protocols TLSv1.3;\nproxy_ssl_server_name on;\nproxy_ssl_name {HOST};\n}}\n}}\n}}\n",
            at("clients.pem"),
            edge.gateway.edge,
            server = at("server.pem"),
            balancer = at("balancer.pem"),
        )
    });
    check_balancer(&edge, &balancer, "x-forwarded-client-cert");
}

/// A client with a certificate is known behind the load balancer, and one without is nobody, whatever it says itself.
fn check_balancer(edge: &Edge, balancer: &LoadBalancer, header: &str) {
    let client = edge.clients.issue(&Leaf::client("client-a"));
    let victim = edge.clients.issue(&Leaf::client("victim"));
    let spoofed = match header {
        "client-cert" => item(victim.leaf()),
        _ => format!("Cert=\"{}\"", escaped(&victim.chain_pem())),
    };
    let mut connection = edge.gateway.client().identity(&client).connect(balancer.address).unwrap();
    for fields in [&[][..], &[(header, &*spoofed)]] {
        let headers = Echo::of(&get(&mut connection, fields)).headers;
        assert_eq!(headers.get("client-cert"), Some(&*item(client.leaf())), "{fields:?}");
    }
    let record = edge.gateway.wait_for_record("forwarded.id", "CN=client-a");
    assert_eq!(record["peer.id"], Value::from("edge.example"), "{record}");
    let mut anonymous = edge.gateway.anonymous().connect(balancer.address).unwrap();
    for fields in [&[][..], &[(header, &*spoofed)]] {
        assert_eq!(get(&mut anonymous, fields).status, 403, "{fields:?}");
    }
    edge.wait_for("absent", 2);
}
