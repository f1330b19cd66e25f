//! Where endpoints are found, and the files that name them.

use std::path::Path;
use std::time::Duration;

use ringward_config::{Cluster, Discovery, DnsQuery, Endpoint, EndpointsDns, EndpointsFile, Family, parse};

/// The cluster with these keys.
fn cluster(keys: &str) -> Cluster {
    let source = format!(
        "[trust.t]\nca = \"ca.pem\"\n[cluster.c]\n{keys}\n[[listener]]\nname = \"l\"\nbind = \"127.0.0.1:0\"\n\
         [[listener.host]]\nnames = [\"a.test\"]\ndanger_no_policy = true\n\
         certificate = {{ chain = \"a.pem\", key = \"a.key\" }}\n\
         client_auth = {{ mode = \"required\", trust = \"t\" }}\n\
         [[listener.host.route]]\nmatch = {{ path = \"/\" }}\ncluster = \"c\"\n"
    );
    let config = parse(&source, Path::new("/etc/ringward/ringward.toml"));
    config.unwrap_or_else(|found| panic!("{found}")).clusters.remove("c").expect("it is there")
}

fn file(keys: &str) -> EndpointsFile {
    match cluster(keys).discovery.expect("it is found elsewhere") {
        Discovery::File(file) => file,
        Discovery::Dns(dns) => panic!("{dns:?}"),
    }
}

fn dns(keys: &str) -> EndpointsDns {
    match cluster(keys).discovery.expect("it is found elsewhere") {
        Discovery::File(file) => panic!("{file:?}"),
        Discovery::Dns(dns) => dns,
    }
}

/// What is wrong with this text, which has to be something.
fn problems(keys: &str, text: &str) -> String {
    file(keys).parse(text).expect_err("it is refused").to_string()
}

/// Whose certificates are compared with addresses, and with a name.
const ADDRESSED: &str = "endpoints_file = \"e.toml\"\ntls = { ca = \"ca.pem\" }";
const NAMED: &str = "endpoints_file = \"e.toml\"\ntls = { ca = \"ca.pem\", server_name = \"app.internal\" }";
const FILE: &str = "endpoints_file = \"e.toml\"";
const CHECKED: &str = "endpoints_file = \"e.toml\"\nhealth_check = { tcp = true }";
const EMPTY: &str = "endpoints_file = { path = \"e.toml\", allow_empty = true }";

#[test]
fn a_cluster_says_where_its_endpoints_are_found() {
    assert_eq!(cluster("endpoints = \"127.0.0.1:80\"").discovery, None);
    let found = cluster(&format!("{FILE}\nslow_start = \"1s\""));
    assert_eq!((found.endpoints.len(), found.slow_start), (0, Some(Duration::from_secs(1))));
    let named = file(FILE);
    assert_eq!(named.path.path, Path::new("/etc/ringward/e.toml"));
    assert_eq!((named.allow_empty, named.is_checked), (false, false));
    assert_eq!((file(EMPTY).allow_empty, file(CHECKED).is_checked), (true, true));
    // The same wherever it stands, and another one if anything of it would be read otherwise.
    assert_eq!(named, file(&format!("\n\n{FILE}")));
    for other in [CHECKED, EMPTY, "endpoints_file = \"f.toml\""] {
        assert_ne!(named, file(other), "{other}");
    }
}

#[test]
fn names_are_asked_for_in_dns() {
    let short = dns("endpoints_dns = \"Orders.internal.:8080\"");
    let query = DnsQuery::Addresses { name: "orders.internal".to_owned(), port: 8080 };
    let (ttl_min, ttl_max) = (Duration::from_secs(5), Duration::from_secs(300));
    let servers = Vec::new();
    let expected = EndpointsDns { query, family: Family::Any, ttl_min, ttl_max, stale_max: None, servers };
    assert_eq!(short, expected);
    assert_eq!(dns("endpoints_dns = { name = \"orders.internal\", port = 8080 }"), expected);
    let given = dns(
        "endpoints_dns = { srv = \"_http._tcp.orders.internal\", family = \"ipv6\", ttl_min = \"100ms\", \
         ttl_max = \"1s\", stale_max = \"30d\" }",
    );
    assert_eq!(given.query, DnsQuery::Service("_http._tcp.orders.internal".to_owned()));
    assert_eq!((given.family, given.stale_max), (Family::Ipv6, Some(Duration::from_secs(30 * 86_400))));
}

#[test]
fn certificates_are_for_the_name_that_is_asked_for_and_not_for_what_dns_says() {
    let server_name = |keys: &str| cluster(keys).tls.expect("it is there").server_name;
    let addresses = "endpoints_dns = \"orders.internal:8443\"\n";
    let tls = "tls = { ca = \"ca.pem\" }";
    assert_eq!(server_name(&format!("{addresses}{tls}")).as_deref(), Some("orders.internal"));
    let named = "tls = { ca = \"ca.pem\", server_name = \"other.internal\" }";
    let service = "endpoints_dns = { srv = \"_https._tcp.orders.internal\" }\n";
    for keys in [addresses, service] {
        assert_eq!(server_name(&format!("{keys}{named}")).as_deref(), Some("other.internal"));
    }
    let spiffe = "tls = { ca = \"ca.pem\", spiffe_ids = \"spiffe://prod/orders\" }";
    assert_eq!(server_name(&format!("{service}{spiffe}")), None);
    assert_eq!(server_name(&format!("endpoints_file = \"e.toml\"\n{tls}")), None);
}

#[test]
fn a_file_says_what_the_configuration_could() {
    let text = "# written by a program\nendpoints = [\n  \"10.0.0.1:80\",\n  { address = \"[::1]:81\", weight = 256 },\n]\n";
    let endpoint = |addr: &str, weight, zone: Option<&str>, priority| Endpoint {
        addr: addr.parse::<std::net::SocketAddr>().unwrap().into(),
        weight,
        zone: zone.map(str::to_owned),
        priority,
    };
    let expected = [endpoint("10.0.0.1:80", 1, None, 0), endpoint("[::1]:81", 256, None, 0)];
    assert_eq!(file(FILE).parse(text).unwrap(), expected);
    let ranked = "endpoints = { address = \"10.0.0.1:80\", zone = \"a\", priority = 15 }";
    assert_eq!(file(CHECKED).parse(ranked).unwrap(), [endpoint("10.0.0.1:80", 1, Some("a"), 15)]);
    let longest = format!("unix:/{}", "x".repeat(106));
    for keys in [FILE, NAMED] {
        for addr in ["unix:/run/app.sock", &longest] {
            let endpoints = file(keys).parse(&format!("endpoints = {addr:?}")).unwrap();
            assert_eq!(endpoints[0].addr.to_string(), addr);
        }
    }
    assert!(file(FILE).parse(&format!("endpoints = \"{longest}x\"")).is_err());
    assert_eq!(file(EMPTY).parse("endpoints = []").unwrap(), []);
    let many: Vec<String> = (0..1024).map(|port| format!("10.0.0.1:{}", port + 1)).collect();
    assert_eq!(file(FILE).parse(&format!("endpoints = {many:?}")).unwrap().len(), 1024);
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    let table = [
        (FILE, "", "e.toml:1:1: error: `endpoints` is missing"),
        (EMPTY, "", "e.toml:1:1: error: `endpoints` is missing"),
        (FILE, "endpoints = []", "e.toml:1:13: error: there are no endpoints"),
        (
            FILE,
            "endpoints = [\n\"10.0.0.1:80\",\n\"10.0.0.1\"]",
            "e.toml:3:1: error: `endpoints`: \"10.0.0.1\" is not",
        ),
        (
            FILE,
            "endpoints = [\"10.0.0.1:80\", \"10.0.0.1:80\"]",
            "e.toml:1:29: error: the endpoint 10.0.0.1:80 appears twice",
        ),
        (
            FILE,
            "endpoints = \"0.0.0.0:80\"",
            "e.toml:1:13: error: the endpoint 0.0.0.0:80 is not the address of a server",
        ),
        (FILE, "endpoint = \"10.0.0.1:80\"", "e.toml:1:1: error: unknown key `endpoint` in the file"),
        (
            FILE,
            "endpoints = \"10.0.0.1:80\"\ncheck = true",
            "e.toml:2:1: error: unknown key `check` in the file",
        ),
        (
            FILE,
            "endpoints = { address = \"10.0.0.1:80\", zone = \"a\" }",
            "has no meaning without a `health_check`",
        ),
        (
            CHECKED,
            "endpoints = { address = \"10.0.0.1:80\", weight = 0 }",
            "e.toml:1:49: error: `weight` is 0: from 1 to 256",
        ),
        (
            FILE,
            "endpoints = \"unix:@app\"",
            "e.toml:1:13: error: `endpoints`: abstract Unix sockets are not supported",
        ),
        (
            ADDRESSED,
            "endpoints = \"unix:/run/app.sock\"",
            "e.toml:1:13: error: unix:/run/app.sock has no IP address",
        ),
        (FILE, "endpoints = [\"10.0.0.1:80\"", "e.toml:1:"),
        (FILE, "{\"endpoints\": []}", "not valid TOML"),
    ];
    for (keys, text, expected) in table {
        let said = problems(keys, text);
        assert!(said.contains(expected), "{text}\n{said}");
    }
    let many: Vec<String> = (0..1025).map(|port| format!("10.0.0.1:{}", port + 1)).collect();
    let said = problems(FILE, &format!("endpoints = {many:?}"));
    assert!(said.contains("`endpoints` has 1025 entries: from 1 to 1024 are allowed"), "{said}");
}

#[test]
fn cut_files_never_panic_and_are_never_half_good() {
    let text = "endpoints = [\n  \"10.0.0.1:80\", # one\n  { address = \"[::1]:81\", weight = 3 },\n]\n";
    for (end, _) in text.char_indices() {
        let read = file(FILE).parse(&text[..end]);
        assert!(read.as_ref().is_err() || read.is_ok_and(|endpoints| endpoints.len() == 2), "{end}");
    }
}
