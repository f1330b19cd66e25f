//! What follows from an identity that a load balancer forwards: which host may be asked for, templates, and where requests go.
#![allow(clippy::unwrap_used, reason = "a failed expectation here is a failed test")]

mod support;

use std::collections::BTreeSet;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ringward_testkit::{
    Authority, Client, Connection, Echo, Http2, Issued, Leaf, Response, Script, Upstream,
};

use self::support::{Builder, Gateway, HOST, Host};

const OTHER: &str = "other.example.com";
const VERDICTS: &str = "ringward_forwarded_identities_total";
const RULES: &str = "forwarded_identity = { from = { san_dns = \"edge.example\" }, trust = \"clients\" }";

/// A gateway with a load balancer in front of it.
struct Edge {
    gateway: Gateway,
    balancer: Issued,
    clients: Authority,
}

impl Edge {
    fn start(of: impl FnOnce(Builder) -> Builder) -> Edge {
        let clients = Authority::root("Clients");
        let builder = of(Gateway::builder().trust("clients", &[&clients]));
        let balancer = builder.root().issue(&Leaf::client("edge").dns("edge.example"));
        Edge { gateway: builder.start(), balancer, clients }
    }

    fn client(&self) -> Client {
        self.gateway.client().identity(&self.balancer)
    }

    fn connect(&self) -> Connection {
        self.client().connect(self.gateway.edge).unwrap()
    }

    /// What the load balancer sends for a client of this name.
    fn forwarded(&self, name: &str) -> String {
        let leaf = Leaf::client(name).organization("Acme");
        format!(":{}:", STANDARD.encode(self.clients.issue(&leaf).leaf()))
    }
}

fn get(connection: &mut Connection, path: &str, client: Option<&str>) -> Response {
    let fields: Vec<_> = client.iter().map(|client| ("client-cert", *client)).collect();
    connection.request("GET", path, &fields, b"").unwrap()
}

/// Rule: what a connection's handshake has verified counts for hosts with the same rules alone. For others the answer is 421, and
/// what is forwarded there is not even read.
#[test]
fn what_is_forwarded_for_a_host_of_other_rules_is_not_judged() {
    let lax = "mode = \"required\", trust = \"partners\", require_eku = false";
    let refusing = RULES.replace("\"clients\" }", "\"clients\", others = \"refuse\" }");
    let edge = Edge::start(|builder| {
        let other = Host::new(&[OTHER]).client_auth(lax).key(&refusing);
        builder.listener("http2 = true").host(Host::new(&[HOST]).key(RULES)).host(other)
    });
    let good = edge.forwarded("client-a");
    let fields = [("host", OTHER), ("client-cert", &*good)];
    let unread = [("host", OTHER), ("client-cert", "nonsense")];
    for client in [edge.client(), edge.gateway.client()] {
        let mut connection = client.connect(edge.gateway.edge).unwrap();
        for fields in [&fields, &unread] {
            let response = connection.request("GET", "/x", fields, b"").unwrap();
            assert_eq!(response.status, 421, "{fields:?}");
        }
        let mut http2 = Http2::new(client.alpn(&["h2"]).connect(edge.gateway.edge).unwrap(), &[]);
        for (stream, value) in [(1, &*good), (3, "nonsense")] {
            let head = [
                (":method", "GET"),
                (":scheme", "https"),
                (":path", "/x"),
                (":authority", OTHER),
                ("client-cert", value),
            ];
            http2.head(stream, &head, true).unwrap();
            assert_eq!(http2.response(stream).0, 421, "{value}");
        }
    }
    edge.gateway.wait_for_metric("ringward_responses_generated_total", &[("flag", "misdirected")], 8.0);
    assert_eq!(edge.gateway.metric(VERDICTS, &[]), 0.0, "nobody was judged");
    assert!(edge.gateway.upstream.requests().is_empty());
    // By its own rules it is.
    let mut connection = edge.client().server_name(OTHER).connect(edge.gateway.edge).unwrap();
    assert_eq!(connection.request("GET", "/x", &fields, b"").unwrap().status, 200);
    assert_eq!(connection.request("GET", "/x", &unread, b"").unwrap().status, 400);
}

/// Rule: `{client.*}` is what the forwarded certificate says, and never what the load balancer's does.
#[test]
fn templates_are_of_the_forwarded_client() {
    let edge = Edge::start(|builder| {
        let host = Host::new(&[HOST])
            .key(RULES)
            .route(
                "path = \"/{rest...}\"",
                "client_auth = \"optional\"\nrequest_headers = { set = { x-who = \"{client.common_name}\", x-subject = \"{client.subject}\" } }\nresponse_headers = { set = { x-you = \"{client.identity}\" } }",
            )
            .route(
                "path = \"/to\"",
                "redirect = { to = \"https://b.example/\" }\nresponse_headers = { set = { x-you = \"{client.common_name}\" } }",
            )
            .route("path = \"/off\"", "client_auth = \"off\"");
        builder.host(host)
    });
    let mut connection = edge.connect();
    for name in ["client-a", "client-b", "client-a"] {
        let client = edge.forwarded(name);
        let response = get(&mut connection, "/x", Some(&client));
        assert_eq!(response.headers.all("x-you"), [format!("O=Acme,CN={name}")]);
        let headers = Echo::of(&response).headers;
        assert_eq!(headers.all("x-who"), [name]);
        assert_eq!(headers.all("x-subject"), [format!("O=Acme,CN={name}")]);
        let response = get(&mut connection, "/to", Some(&client));
        assert_eq!((response.status, response.headers.all("x-you")), (308, vec![name]));
    }
    // Nobody's name is nothing, not the load balancer's; and what the client has written is nobody's word.
    let spoofed = [("x-who", "edge"), ("x_subject", "CN=edge")];
    let response = connection.request("GET", "/x", &spoofed, b"").unwrap();
    assert!(!response.headers.contains("x-you"));
    let headers = Echo::of(&response).headers;
    assert!(!["x-who", "x-subject", "x_subject"].iter().any(|name| headers.contains(name)), "{headers:?}");
}

/// Rule: what a request has in common with others is its own client's property, on whichever connection of a load balancer it comes.
#[test]
fn requests_of_a_forwarded_client_stay_together() {
    let next = Upstream::start();
    next.on("/who", Script::new().send("HTTP/1.1 299 Next\r\ncontent-length: 0\r\n\r\n"));
    let edge = Edge::start(|builder| {
        let split = "split = { weights = { echo = 1, next = 1 }, by = { identity = \"fingerprint\" } }";
        let section = format!("[cluster.next]\nendpoints = \"{}\"\n", next.address());
        let host = Host::new(&[HOST]).key(RULES).route("path = \"/who\"", split);
        builder.section(&section).workers(2).host(host)
    });
    let clients: Vec<String> = (0..24).map(|number| edge.forwarded(&format!("client-{number}"))).collect();
    let all = |connection: &mut Connection| {
        clients.iter().map(|client| get(connection, "/who", Some(client)).status).collect::<Vec<u16>>()
    };
    let first = all(&mut edge.connect());
    // By the load balancer's own certificate all would go to the same; that these do is less likely than 1 in 2^22.
    assert_eq!(first.iter().copied().collect::<BTreeSet<_>>(), BTreeSet::from([200, 299]));
    for _ in 0..3 {
        assert_eq!(all(&mut edge.connect()), first);
    }
}
